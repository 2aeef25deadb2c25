//! From a dry run to the restore that it was for, and downloads. A dry run's job holds all that was decided (snapshot, paths, place, rule, host), so the restore is
//! that job once more, in earnest; and it is ordered once. A safety snapshot is a backup that was asked for by that job's page, and has to be over.

use crate::{
    credential,
    domain::{
        DumpForm, DumpSpec, HostId, JobId, JobKind, JobStatus, Operation, RepoId, RestoreSpec,
        job::{Actor, Job, JobInput},
        picking::{sendable, several, to_be_saved},
    },
    ops::{
        error::OpError,
        jobs::{self, Desk, Work},
        snapshots::{orders, present},
    },
    store::{
        Db, StoreError, hosts,
        hosts::HostFilter,
        jobs::{self as stored, JobFilter},
        snapshots,
    },
};

/// A host that files can be restored to.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The host.
    pub host: crate::domain::host::Host,
    /// It knows the repository already; another one is given its credentials for the one job.
    pub knows_repo: bool,
}

/// Hosts that files of a repository can be restored to: the fleet by name, then the control plane's own. Some may be without restic, or away.
///
/// # Errors
/// [`StoreError`].
pub fn targets(db: &Db, repo: RepoId) -> Result<Vec<Target>, StoreError> {
    let known: Vec<HostId> = snapshots::readers(db, repo)?.into_iter().map(|reader| reader.id).collect();
    let fleet = hosts::list(db, &HostFilter::default())?;
    let all = fleet.into_iter().chain(hosts::own(db)?).filter(|host| host.revoked_at.is_none());
    Ok(all.map(|host| Target { knows_repo: known.contains(&host.id), host }).collect())
}

/// A dry run of a restore, with its details.
///
/// # Errors
/// [`StoreError`]; `None` where the job is something else.
pub fn dry_run(db: &Db, id: JobId) -> Result<Option<(Job, RestoreSpec)>, StoreError> {
    let job = stored::lookup(db, id)?.filter(|job| job.kind == JobKind::Restore);
    Ok(job.and_then(|job| {
        let spec = job.input.restore.clone().filter(|spec| spec.dry_run)?;
        Some((job, spec))
    }))
}

/// The restore that a dry run was for, once it was ordered.
///
/// # Errors
/// [`StoreError`].
pub fn of_dry_run(db: &Db, dry: &Job) -> Result<Option<Job>, StoreError> {
    let later = match dry.rerun_as {
        Some(id) => stored::lookup(db, id)?,
        None => None,
    };
    Ok(later.filter(|job| job.input.restore.as_ref().is_some_and(|spec| !spec.dry_run)))
}

/// The paths that a restore in place writes to; `None` where it is none, or all of the machine would have to be saved.
#[must_use]
pub fn saved_first(spec: &RestoreSpec, of_snapshot: &[String]) -> Option<Vec<String>> {
    if spec.target != "/" {
        return None;
    }
    to_be_saved(if spec.paths.is_empty() { of_snapshot } else { &spec.paths })
}

/// Whether a job is the safety snapshot for a dry run: a backup of what would be written over, on that host, ordered after it.
#[must_use]
pub fn is_safety_of(safety: &Job, dry: &Job, paths: &[String]) -> bool {
    safety.kind == JobKind::Backup
        && (safety.host_id, safety.repo_id) == (dry.host_id, dry.repo_id)
        && safety.input.args == paths
        && safety.no > dry.no
}

/// The safety snapshot of a dry run that was ordered last.
///
/// # Errors
/// [`StoreError`].
pub fn safety_of(db: &Db, dry: &Job, paths: &[String]) -> Result<Option<Job>, StoreError> {
    let filter = JobFilter {
        host_id: Some(dry.host_id),
        repo_id: dry.repo_id,
        kind: Some(JobKind::Backup),
        limit: 100,
        ..JobFilter::default()
    };
    Ok(stored::list(db, &filter)?.into_iter().find(|job| is_safety_of(job, dry, paths)))
}

/// What of a snapshot says it is of; nothing where the index does not have it.
fn sources(db: &Db, repo: RepoId, id: &str) -> Result<Vec<String>, StoreError> {
    Ok(snapshots::lookup(db, repo, id)?.map(|snapshot| snapshot.paths).unwrap_or_default())
}

fn dry_run_of(db: &Db, id: JobId) -> Result<(Job, RestoreSpec, RepoId), OpError> {
    let (job, spec) = dry_run(db, id)?.ok_or(OpError::NotFound("dry run of a restore"))?;
    let repo = job.repo_id.ok_or(OpError::NotFound("repository"))?;
    Ok((job, spec, repo))
}

/// Saves what a restore in place would write over. Returns the backup; where one is under way already, that.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where there is nothing that could be saved, or the host can run nothing.
pub async fn save_first(desk: &Desk, actor: Actor, dry: JobId) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let rules = desk.rules;
    desk.store
        .write(move |tx| {
            let (job, spec, repo) = dry_run_of(tx.db(), dry)?;
            let paths = saved_first(&spec, &sources(tx.db(), repo, &spec.snapshot)?).ok_or_else(|| {
                OpError::Conflict("there is nothing that a snapshot could be made of beforehand: the restore writes to a folder of its own, or to all of the machine".to_owned())
            })?;
            if let Some(earlier) = safety_of(tx.db(), &job, &paths)?.filter(|earlier| !earlier.status.is_final()) {
                return Ok(earlier.id);
            }
            let input = JobInput { args: paths, ..JobInput::default() };
            let work = Work { input, ..Work::of(job.host_id, JobKind::Backup, repo, None) };
            jobs::place(tx, rules, &actor, work, random)
        })
        .await
}

/// What the person says who orders the restore.
#[derive(Debug, Clone, Default)]
pub struct Consent {
    /// The host's name, for a restore in place.
    pub confirm: String,
    /// The safety snapshot that must be there.
    pub safety: Option<JobId>,
}

/// Orders the restore that a dry run was for. Returns its job; where that was done already, the same.
///
/// # Errors
/// [`OpError::NotFound`]; [`OpError::Conflict`] where the dry run did not end well or the safety snapshot is not there; [`OpError::Invalid`] without the host's
/// name, where it is needed.
pub async fn start(desk: &Desk, actor: Actor, dry: JobId, consent: Consent) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let rules = desk.rules;
    desk.store
        .write(move |tx| {
            let (job, spec, repo) = dry_run_of(tx.db(), dry)?;
            if let Some(done) = of_dry_run(tx.db(), &job)? {
                return Ok(done.id);
            }
            if !matches!(job.status, JobStatus::Succeeded | JobStatus::Warning) {
                return Err(OpError::Conflict(format!(
                    "the dry run is {}: nothing is restored before it ended well",
                    job.status
                )));
            }
            present(tx.db(), repo, &spec.snapshot)?;
            if spec.target == "/" && consent.confirm.trim() != job.host_name {
                return Err(OpError::field(
                    "confirm",
                    format!("must be the host's name, {}: files there will be written over", job.host_name),
                ));
            }
            if let Some(id) = consent.safety {
                let paths = saved_first(&spec, &sources(tx.db(), repo, &spec.snapshot)?).unwrap_or_default();
                let safety = stored::lookup(tx.db(), id)?.filter(|safety| is_safety_of(safety, &job, &paths));
                match safety.map(|safety| safety.status) {
                    Some(JobStatus::Succeeded | JobStatus::Warning) => {}
                    Some(status) => {
                        return Err(OpError::Conflict(format!(
                            "the safety snapshot is {status}: nothing is restored before it is there"
                        )));
                    }
                    None => return Err(OpError::NotFound("safety snapshot of this restore")),
                }
            }
            let input = JobInput { restore: Some(RestoreSpec { dry_run: false, ..spec }), ..JobInput::default() };
            let work = Work { input, rerun_of: Some(job.id), ..Work::of(job.host_id, JobKind::Restore, repo, None) };
            jobs::place(tx, rules, &actor, work, random)
        })
        .await
}

/// Orders what is sent through to a browser: one file or folder in any form, or several as one tar. Returns the job.
///
/// # Errors
/// [`OpError::NotFound`]; [`OpError::Invalid`] for a path or the form; [`OpError::Conflict`] where the snapshot is gone or no host may read the repository.
pub async fn download(desk: &Desk, actor: Actor, (repo, id): (RepoId, String), wish: Wish) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let (path, paths, form) = match wish {
        Wish::One(path, form) => (sendable(&path).map_err(|why| OpError::field("path", why))?, Vec::new(), form),
        Wish::Several(paths) => {
            let paths = several(&paths).map_err(|why| OpError::field("paths", why))?;
            // Nothing can be beside the root.
            if paths.iter().any(|path| path == "/") {
                ("/".to_owned(), Vec::new(), DumpForm::Tar)
            } else {
                (String::new(), paths, DumpForm::Tar)
            }
        }
    };
    let (hub, expiry_s) = (desk.hub.clone(), desk.rules.expiry_s);
    desk.store
        .write(move |tx| {
            let snapshot = present(tx.db(), repo, &id)?;
            let reader = orders::reader(tx.db(), repo, None, |host| hub.is_online(host))?;
            let operation = Operation::Dump(DumpSpec { snapshot: snapshot.id, path, paths, form });
            let work = orders::Work { kind: JobKind::Dump, repo, operation: Some(operation) };
            Ok(orders::place(tx, actor, reader.id, work, expiry_s, random)?)
        })
        .await
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A file or a folder.
    One(String, DumpForm),
    /// Files and folders, as one tar.
    Several(Vec<String>),
}
