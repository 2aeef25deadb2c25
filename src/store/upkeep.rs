//! What the upkeep of a repository goes by: where it is maintained, within how many days its data is read, and the last job of each kind.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{HostId, JobKind, RepoId, job::Job, job::JobInput, upkeep::Part},
    store::{
        StoreError, jobs,
        rows::{json, parsed, parsed_opt},
    },
};

/// The host that a repository's forget and prune run on: the one that was named, or, where there are credentials of their own for it, the control plane's
/// own agent. `None`: whichever is asked.
///
/// # Errors
/// [`StoreError`].
pub fn maintenance_host(db: &Connection, repo: RepoId) -> Result<Option<HostId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT coalesce(maintenance_host_id, (SELECT id FROM hosts WHERE own = 1 AND removed_at IS NULL
             AND EXISTS (SELECT 1 FROM json_each(repos.secrets_set) WHERE value = 'maintenance'))) AS host
         FROM repos WHERE id = ?1",
    )?;
    Ok(statement.query_row([repo.to_string()], |row| parsed_opt(row, "host")).optional()?.flatten())
}

/// The part of the data that was read last, whatever was found in it: damage in one must not keep the others from being read.
///
/// # Errors
/// [`StoreError`].
pub fn last_part(db: &Connection, repo: RepoId) -> Result<Option<Part>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT input FROM jobs WHERE repo_id = ?1 AND kind = 'check' AND (status = 'succeeded' OR status = 'failed' AND summary ->> '$.errors' > 0)
           AND input ->> '$.operation.check.read_data_subset' LIKE '%/%' ORDER BY no DESC LIMIT 1",
    )?;
    let input: Option<JobInput> = statement.query_row([repo.to_string()], |row| json(row, "input")).optional()?;
    Ok(input.and_then(|input| Part::of(input.operation.as_ref())))
}

/// The latest job of a kind on a repository.
///
/// # Errors
/// [`StoreError`].
pub fn last_job(db: &Connection, repo: RepoId, kind: &JobKind) -> Result<Option<Job>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT id FROM jobs WHERE repo_id = ?1 AND kind = ?2 ORDER BY no DESC LIMIT 1")?;
    let id = statement.query_row(params![repo.to_string(), kind.as_str()], |row| parsed(row, "id")).optional()?;
    id.map_or(Ok(None), |id| jobs::lookup(db, id))
}
