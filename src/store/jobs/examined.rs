//! Ends of jobs that the health of their repository has yet to take in: each once, whatever is restarted in between.

use rusqlite::{Connection, params};

use super::{SELECT, from_row};
use crate::{
    domain::{
        RepoId,
        job::{Job, JobNo},
    },
    store::{StoreError, WriteTx},
};

/// Jobs of repositories that ended and were not examined, in the order in which they were made.
///
/// # Errors
/// [`StoreError`].
pub fn unexamined(db: &Connection, limit: u32) -> Result<Vec<Job>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE j.examined_at IS NULL AND j.repo_id IS NOT NULL AND j.status NOT IN ('queued', 'running', 'lost')
         ORDER BY j.no LIMIT ?1"
    ))?;
    Ok(statement.query_map([limit], from_row)?.collect::<Result<_, _>>()?)
}

/// Notes that a job's end was examined. Returns whether it was the first time.
///
/// # Errors
/// [`StoreError`].
pub fn note_examined(tx: &mut WriteTx<'_>, job: JobNo) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE jobs SET examined_at = ?2 WHERE no = ?1 AND examined_at IS NULL")?
        .execute([job.0, tx.now().unix_ms()])?;
    Ok(changed > 0)
}

/// A repository's jobs made after `after` of these kinds, the latest 200.
///
/// # Errors
/// [`StoreError`].
pub fn of_repo_since(db: &Connection, repo: RepoId, after: JobNo, kinds: &[&str]) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE j.repo_id = ?1 AND j.kind = ?2 AND j.no > ?3 ORDER BY j.no DESC LIMIT 200"
    ))?;
    for kind in kinds {
        for job in statement.query_map(params![repo.to_string(), kind, after.0], from_row)? {
            jobs.push(job?);
        }
    }
    Ok(jobs)
}
