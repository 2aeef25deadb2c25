//! Orders to read a repository: which host may be asked, and the job that asks it. Only hosts that know the repository already are asked: its credentials go
//! nowhere else.

use crate::{
    domain::{
        HostId, JobId, JobKind, LsSpec, Operation, RepoId,
        job::{Actor, JobInput, NewJob},
    },
    ops::{OpError, jobs::timeout_s},
    store::{
        Db, StoreError, WriteTx, audit, jobs, repos,
        snapshots::{self, Reader},
    },
};

/// What is to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The kind of job.
    pub kind: JobKind,
    /// The repository.
    pub repo: RepoId,
    /// The details.
    pub operation: Option<Operation>,
}

impl Work {
    /// The list of a repository's snapshots.
    #[must_use]
    pub fn list(repo: RepoId) -> Self {
        Self { kind: JobKind::Snapshots, repo, operation: None }
    }

    /// A folder of a snapshot.
    #[must_use]
    pub fn folder(repo: RepoId, snapshot: &str, path: &str) -> Self {
        let spec = LsSpec { snapshot: snapshot.to_owned(), path: path.to_owned() };
        Self { kind: JobKind::Ls, repo, operation: Some(Operation::Ls(spec)) }
    }
}

/// A host that may read a repository and is connected.
///
/// # Errors
/// [`StoreError`].
pub fn connected_reader(db: &Db, repo: RepoId, online: impl Fn(HostId) -> bool) -> Result<Option<Reader>, StoreError> {
    Ok(snapshots::readers(db, repo)?.into_iter().find(|reader| online(reader.id)))
}

/// The host that is asked to read a repository: the wished one, or the first that is connected, or the first at all, which then is waited for.
///
/// # Errors
/// [`OpError::Invalid`] where the wished one may not, [`OpError::Conflict`] where none may.
pub fn reader(
    db: &Db,
    repo: RepoId,
    wished: Option<HostId>,
    online: impl Fn(HostId) -> bool,
) -> Result<Reader, OpError> {
    let readers = snapshots::readers(db, repo)?;
    if let Some(wished) = wished {
        let found = readers.into_iter().find(|reader| reader.id == wished);
        return found.ok_or_else(|| {
            OpError::field("on_host", "does not know this repository: choose a host that a plan brings to it")
        });
    }
    let at = readers.iter().position(|reader| online(reader.id)).unwrap_or(0);
    readers.into_iter().nth(at).ok_or_else(|| match repos::lookup(db, repo) {
        Ok(Some(repo)) => OpError::Conflict(format!(
            "no host with restic may read {}: make a plan that brings a host to it, or name a maintenance host",
            repo.name
        )),
        Ok(None) => OpError::NotFound("repository"),
        Err(e) => e.into(),
    })
}

/// Makes the job.
///
/// # Errors
/// [`StoreError`].
pub fn place(
    tx: &mut WriteTx<'_>,
    actor: Actor,
    host: HostId,
    work: Work,
    expiry_s: u64,
    random: u128,
) -> Result<JobId, StoreError> {
    let id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
    let job = NewJob {
        about: Default::default(),
        id,
        host_id: host,
        timeout_s: timeout_s(&work.kind),
        kind: work.kind,
        actor,
        moment: None,
        ran_alone: false,
        plan_id: None,
        repo_id: Some(work.repo),
        input: JobInput { operation: work.operation, ..JobInput::default() },
        rerun_of: None,
        expires_at: Some(tx.now().plus_s(i64::try_from(expiry_s).unwrap_or(i64::MAX))),
    };
    jobs::insert(tx, &job)?;
    audit::record(tx, &job.actor, "job.create", &id.to_string(), job.kind.as_str())?;
    Ok(id)
}
