//! Looking into repositories: lists of snapshots, folders, searches, comparisons. What is not known here is asked of a host that may read the repository, by a job;
//! what that job listed is read from its log or from the cache.

pub mod orders;
pub mod results;

use crate::{
    credential,
    domain::{
        DiffSpec, FindSpec, HostId, JobId, JobKind, Operation, RepoId, Selection,
        job::{Actor, Job},
        snapshot::{self, Snapshot, check_folder},
    },
    ops::{
        error::{OpError, Problems},
        jobs::Desk,
    },
    store::{
        Db, StoreError, WriteTx, audit, hosts, jobs, repos,
        snapshots::{self, match_name},
        trees::{self, Folder},
    },
};

use orders::Work;

/// Longest pattern of a search, in bytes.
const MAX_PATTERN: usize = 1000;

/// A folder of a snapshot, as far as it is known here.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// All of it.
    Whole(Folder),
    /// A job is at it, or its records are being taken.
    Listing(Box<Job>),
    /// The job that was to list it brought no whole list.
    Failed(Box<Job>),
    /// Nobody asked yet.
    Unlisted,
}

/// What is known of a folder.
///
/// # Errors
/// [`StoreError`].
pub fn folder(db: &Db, snapshot: &Snapshot, path: &str) -> Result<Known, StoreError> {
    let Some(folder) = trees::folder(db, snapshot.no, path)? else { return Ok(Known::Unlisted) };
    if folder.entries.is_some() {
        return Ok(Known::Whole(folder));
    }
    let Some(job) = jobs::lookup(db, folder.job_id)? else { return Ok(Known::Unlisted) };
    let under_way = !job.status.is_final() || crate::store::listings::is_due(db, job.no)?;
    Ok(if under_way { Known::Listing(Box::new(job)) } else { Known::Failed(Box::new(job)) })
}

/// What came of a wish to see a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is here.
    Here,
    /// This job lists it.
    Ordered(JobId),
}

/// Has a folder listed, unless it is here or being listed already.
///
/// # Errors
/// [`OpError::NotFound`] for repository or snapshot, [`OpError::Invalid`] for the path, [`OpError::Conflict`] where the snapshot is gone or no host may read the
/// repository.
pub async fn list_folder(
    desk: &Desk,
    actor: Actor,
    (repo, id): (RepoId, String),
    path: String,
    host: Option<HostId>,
) -> Result<Asked, OpError> {
    let random = credential::random_bits()?;
    let path = check_folder(&path).map_err(|why| OpError::field("path", why))?;
    let (hub, expiry_s) = (desk.hub.clone(), desk.rules.expiry_s);
    desk.store
        .write(move |tx| {
            let snapshot = present(tx.db(), repo, &id)?;
            match folder(tx.db(), &snapshot, &path)? {
                Known::Whole(_) => return Ok(Asked::Here),
                Known::Listing(job) => return Ok(Asked::Ordered(job.id)),
                Known::Failed(_) | Known::Unlisted => {}
            }
            let reader = orders::reader(tx.db(), repo, host, |host| hub.is_online(host))?;
            let work = Work::folder(repo, &snapshot.id, &path);
            let job = orders::place(tx, actor, reader.id, work, expiry_s, random)?;
            trees::order(tx, snapshot.no, &path, job)?;
            Ok(Asked::Ordered(job))
        })
        .await
}

/// Has a repository listed, unless that is under way. Returns the job.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where no host may read it.
pub async fn refresh(desk: &Desk, actor: Actor, repo: RepoId) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let (hub, expiry_s) = (desk.hub.clone(), desk.rules.expiry_s);
    desk.store
        .write(move |tx| {
            if repos::lookup(tx.db(), repo)?.is_none() {
                return Err(OpError::NotFound("repository"));
            }
            let filter = jobs::JobFilter {
                repo_id: Some(repo),
                kind: Some(JobKind::Snapshots),
                limit: 1,
                ..jobs::JobFilter::default()
            };
            if let Some(job) = jobs::list(tx.db(), &filter)?.into_iter().find(|job| !job.status.is_final()) {
                return Ok(job.id);
            }
            let reader = orders::reader(tx.db(), repo, None, |host| hub.is_online(host))?;
            Ok(orders::place(tx, actor, reader.id, Work::list(repo), expiry_s, random)?)
        })
        .await
}

/// What to search for in the snapshots of a repository.
#[derive(Debug, Clone, Default, PartialEq, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    /// A name or a pattern such as `*.conf`; one that begins with `/` is held against whole paths.
    pub pattern: String,
    /// The pattern is a path and stands for itself, whatever characters it holds.
    #[serde(default)]
    pub exact: bool,
    /// Upper and lower case are the same.
    #[serde(default)]
    pub ignore_case: bool,
    /// Only in this host's snapshots.
    #[schema(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// Only in snapshots under this host name.
    pub hostname: Option<String>,
    /// Only in these snapshots, by full id.
    #[serde(default)]
    pub snapshots: Vec<String>,
    /// The host that searches; chosen where absent.
    #[schema(value_type = Option<String>)]
    pub on_host: Option<HostId>,
}

/// Searches the snapshots of a repository. Returns the job; what it finds are its records.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`], [`OpError::Conflict`] where no host may read the repository.
pub async fn find(desk: &Desk, actor: Actor, repo: RepoId, request: FindRequest) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let (hub, expiry_s) = (desk.hub.clone(), desk.rules.expiry_s);
    let mut problems = Problems::default();
    let pattern = request.pattern.clone();
    if pattern.trim().is_empty() {
        problems.add("pattern", "is missing: name a file, or a pattern such as *.conf");
    } else if pattern.len() > MAX_PATTERN || pattern.contains('\0') {
        problems.add("pattern", "must have at most 1000 bytes");
    } else if request.exact && !pattern.starts_with('/') {
        problems.add("pattern", "must begin with /: an exact search is for a path");
    }
    for (i, id) in request.snapshots.iter().enumerate().filter(|(_, id)| !snapshot::is_whole_id(id)) {
        problems.add(&format!("snapshots[{i}]"), format!("must be a full id, 64 hexadecimal digits, not {id:?}"));
    }
    problems.refuse()?;
    desk.store
        .write(move |tx| {
            if repos::lookup(tx.db(), repo)?.is_none() {
                return Err(OpError::NotFound("repository"));
            }
            let spec = FindSpec {
                pattern: if request.exact { snapshot::exact_pattern(&pattern) } else { pattern },
                ignore_case: request.ignore_case,
                of: Selection { hosts: names_of(tx.db(), repo, &request)?, ..Selection::default() },
                snapshots: request.snapshots,
            };
            let reader = orders::reader(tx.db(), repo, request.on_host, |host| hub.is_online(host))?;
            let work = Work { kind: JobKind::Find, repo, operation: Some(Operation::Find(spec)) };
            Ok(orders::place(tx, actor, reader.id, work, expiry_s, random)?)
        })
        .await
}

/// The host names that a search is narrowed to; none for all.
fn names_of(db: &Db, repo: RepoId, request: &FindRequest) -> Result<Vec<String>, OpError> {
    let mut names: Vec<String> = request.hostname.iter().cloned().collect();
    if let Some(host) = request.host_id {
        let known = snapshots::names(db, repo)?;
        names.extend(
            known
                .into_iter()
                .filter(|name| name.host.as_ref().is_some_and(|of| of.id == host))
                .map(|name| name.hostname),
        );
        if names.is_empty() {
            return Err(OpError::field("host_id", "has no snapshots in this repository, as far as is known"));
        }
    }
    Ok(names)
}

/// Compares two snapshots. Returns the job; the differences are its records.
///
/// # Errors
/// As [`find`]; [`OpError::Conflict`] where one of them is gone.
pub async fn compare(
    desk: &Desk,
    actor: Actor,
    repo: RepoId,
    (a, b): (String, String),
    metadata: bool,
    host: Option<HostId>,
) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let (hub, expiry_s) = (desk.hub.clone(), desk.rules.expiry_s);
    desk.store
        .write(move |tx| {
            let named = |field: &str, id: &str| match present(tx.db(), repo, id) {
                Err(OpError::NotFound("snapshot")) => {
                    Err(OpError::field(field, "names no snapshot of this repository: give its id, 8 digits at least"))
                }
                found => found,
            };
            let (a, b) = (named("a", &a)?, named("b", &b)?);
            if a.id == b.id {
                return Err(OpError::field("b", "is the same snapshot: choose two"));
            }
            let reader = orders::reader(tx.db(), repo, host, |host| hub.is_online(host))?;
            let spec = DiffSpec { a: a.id, b: b.id, metadata };
            let work = Work { kind: JobKind::Diff, repo, operation: Some(Operation::Diff(spec)) };
            Ok(orders::place(tx, actor, reader.id, work, expiry_s, random)?)
        })
        .await
}

/// A snapshot of a repository that is there.
pub(super) fn present(db: &Db, repo: RepoId, id: &str) -> Result<Snapshot, OpError> {
    if repos::lookup(db, repo)?.is_none() {
        return Err(OpError::NotFound("repository"));
    }
    let snapshot = snapshots::lookup(db, repo, id)?.ok_or(OpError::NotFound("snapshot"))?;
    if snapshot.gone_at.is_some() {
        return Err(OpError::Conflict(format!(
            "the snapshot {} is no longer in {}: it can't be read. Choose another",
            snapshot.short_id(),
            snapshot.repo_name
        )));
    }
    Ok(snapshot)
}

/// Says that a host name of a repository's snapshots stands for a host, or for none that is known. Returns how many snapshots that concerns.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`] where the name is a host's own.
pub async fn match_host(
    desk: &Desk,
    actor: Actor,
    repo: RepoId,
    hostname: String,
    host: Option<HostId>,
) -> Result<usize, OpError> {
    desk.store.write(move |tx| match_in(tx, &actor, repo, &hostname, host)).await
}

fn match_in(
    tx: &mut WriteTx<'_>,
    actor: &Actor,
    repo: RepoId,
    hostname: &str,
    host: Option<HostId>,
) -> Result<usize, OpError> {
    if repos::lookup(tx.db(), repo)?.is_none() {
        return Err(OpError::NotFound("repository"));
    }
    if let Some(own) = hosts::of_slug(tx.db(), hostname)? {
        return Err(OpError::field(
            "hostname",
            format!("is the name under which {own} backs up: its snapshots belong to it"),
        ));
    }
    let name = match host {
        Some(id) => hosts::lookup(tx.db(), id)?.ok_or_else(|| OpError::field("host_id", "names no host"))?.name,
        None => "no host".to_owned(),
    };
    let concerned = match_name(tx, repo, hostname, host)?;
    audit::record(tx, actor, "snapshots.match", &repo.to_string(), &format!("{hostname} is {name}"))?;
    Ok(concerned)
}
