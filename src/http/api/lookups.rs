//! Searches and comparisons in a repository: ordered by `POST`, read from the records of the job. Pages are by line of the job's log.

use axum::{Json as Answer, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        DiffResult, HostId, JobId, JobKind, JobStatus, NodeKind, NodeRecord, Record, RepoId, Timestamp,
        snapshot::versions,
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{
            self,
            job_orders::{Accepted, Ordered, accepted},
        },
        extract::{Id, Json, Pair, Query},
    },
    ops::snapshots::{
        self as ops, FindRequest,
        results::{self, Lookup},
    },
};

/// Searches all snapshots of a repository, or some.
///
/// # Errors
/// 404; 409 where no host may read the repository; 422.
#[utoipa::path(post, path = "/api/repos/{id}/find", tag = "snapshots", params(("id" = String, Path)), request_body = FindRequest,
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn find(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(repo): Id<RepoId>,
    Json(request): Json<FindRequest>,
) -> Result<Accepted, HttpError> {
    Ok(accepted(ops::find(&state.desk(), user.actor(), repo, request).await?))
}

/// Two snapshots to compare.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// The older one's id, 8 digits at least.
    a: String,
    /// The newer one's id.
    b: String,
    /// Changes of metadata count too.
    #[serde(default)]
    metadata: bool,
    /// The host that compares; chosen where absent.
    #[schema(value_type = Option<String>)]
    on_host: Option<HostId>,
}

/// Compares two snapshots.
///
/// # Errors
/// 404; 409 where one is gone or no host may read the repository; 422.
#[utoipa::path(post, path = "/api/repos/{id}/diff", tag = "snapshots", params(("id" = String, Path)), request_body = DiffRequest,
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn diff(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(repo): Id<RepoId>,
    Json(request): Json<DiffRequest>,
) -> Result<Accepted, HttpError> {
    let DiffRequest { a, b, metadata, on_host } = request;
    Ok(accepted(ops::compare(&state.desk(), user.actor(), repo, (a, b), metadata, on_host).await?))
}

/// Which part of the results.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultQuery {
    /// At most so many: 1 to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default)]
    after: u32,
}

/// A match.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FoundView {
    /// Full id of the snapshot.
    pub snapshot: String,
    /// When that was made, where it is in the index.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// The path in it.
    pub path: String,
    /// `dir`, `file`, `symlink` or `other`.
    #[schema(value_type = String)]
    pub kind: NodeKind,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// Last change of its content.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub mtime: Option<Timestamp>,
}

/// What a search found so far; all of it once `status` is final.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FoundPage {
    /// Where the job stands.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// Matches in all, once the job has ended well.
    pub count: Option<u64>,
    /// Not all that was found came here: the log was cut.
    pub truncated: bool,
    /// The matches of this page.
    pub items: Vec<FoundView>,
    /// What to send as `after` for the next page; null at the end. A page may be short, or empty, while there are more.
    pub next: Option<u32>,
}

/// What a search found.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/find/{job}", tag = "snapshots", params(("id" = String, Path), ("job" = String, Path), ResultQuery),
    responses((status = 200, body = FoundPage), (status = 404, body = Problem)))]
pub async fn found(
    State(state): State<AppState>,
    Pair(repo, job): Pair<RepoId, JobId>,
    Query(query): Query<ResultQuery>,
) -> Result<Answer<FoundPage>, HttpError> {
    let page = load(&state, repo, job, JobKind::Find, query).await?;
    let items = page.items.into_iter().filter_map(|(_, record)| match record {
        Record::Found(found) => Some(FoundView {
            time: page.times.get(&found.snapshot).copied(),
            snapshot: found.snapshot,
            path: found.path,
            kind: found.node.kind,
            size: found.node.size,
            mtime: found.node.mtime,
        }),
        _ => None,
    });
    Ok(Answer(FoundPage {
        status: page.job.status,
        count: results::count(&page.job),
        items: items.collect(),
        truncated: page.job.log_truncated,
        error: page.job.error,
        next: page.next,
    }))
}

/// A difference.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ChangeView {
    /// The path; folders end with a slash.
    pub path: String,
    /// restic's sign: `+` added, `-` removed, `M` content, `T` type, `U` metadata, `?` bit rot.
    pub sign: String,
}

/// How two snapshots differ, as far as is known; all of it once `status` is final.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DiffPage {
    /// Where the job stands.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// Counts and bytes, once the job has ended well: `added`, `removed`, `changed`, `added_bytes`, `removed_bytes`.
    #[schema(value_type = Option<Object>)]
    pub total: Option<DiffResult>,
    /// Not all differences came here: the log was cut.
    pub truncated: bool,
    /// The differences of this page.
    pub items: Vec<ChangeView>,
    /// What to send as `after` for the next page; null at the end.
    pub next: Option<u32>,
}

/// How two snapshots differ.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/diff/{job}", tag = "snapshots", params(("id" = String, Path), ("job" = String, Path), ResultQuery),
    responses((status = 200, body = DiffPage), (status = 404, body = Problem)))]
pub async fn differences(
    State(state): State<AppState>,
    Pair(repo, job): Pair<RepoId, JobId>,
    Query(query): Query<ResultQuery>,
) -> Result<Answer<DiffPage>, HttpError> {
    let page = load(&state, repo, job, JobKind::Diff, query).await?;
    let items = page.items.into_iter().filter_map(|(_, record)| match record {
        Record::Change(change) => Some(ChangeView { path: change.path, sign: change.sign }),
        _ => None,
    });
    Ok(Answer(DiffPage {
        status: page.job.status,
        total: results::total(&page.job),
        items: items.collect(),
        truncated: page.job.log_truncated,
        error: page.job.error,
        next: page.next,
    }))
}

/// One state of a file.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VersionView {
    /// Bytes.
    pub size: Option<u64>,
    /// Last change of its content.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub mtime: Option<Timestamp>,
    /// `dir`, `file`, `symlink` or `other`.
    #[schema(value_type = String)]
    pub kind: NodeKind,
    /// Ids of the snapshots that hold it so, the oldest first.
    pub snapshots: Vec<String>,
}

/// A file over time, the newest version first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VersionsPage {
    /// Where the job stands; the list is whole once this is final.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// The versions.
    pub items: Vec<VersionView>,
    /// There are more matches than were read: not every version is here.
    pub capped: bool,
}

/// The versions of one file: what an exact search (`"exact": true`) found, grouped by size and time of change.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/versions/{job}", tag = "snapshots", params(("id" = String, Path), ("job" = String, Path)),
    responses((status = 200, body = VersionsPage), (status = 404, body = Problem)))]
pub async fn file_versions(
    State(state): State<AppState>,
    Pair(repo, job): Pair<RepoId, JobId>,
) -> Result<Answer<VersionsPage>, HttpError> {
    let page = state.store.read(move |db| results::all_found(db, repo, job)).await?;
    let page = page.ok_or_else(|| HttpError::not_found("such search in this repository"))?;
    let capped = page.next.is_some() || page.job.log_truncated;
    let found: Vec<(String, Option<Timestamp>, NodeRecord)> = page.found();
    let view = |version: crate::domain::snapshot::FileVersion| VersionView {
        size: version.node.size,
        mtime: version.node.mtime,
        kind: version.node.kind,
        snapshots: version.snapshots.into_iter().map(|(id, _)| id).collect(),
    };
    let items = versions(found).into_iter().map(view).collect();
    Ok(Answer(VersionsPage { status: page.job.status, error: page.job.error, items, capped }))
}

async fn load(
    state: &AppState,
    repo: RepoId,
    job: JobId,
    kind: JobKind,
    query: ResultQuery,
) -> Result<Lookup, HttpError> {
    let limit = api::limit(query.limit)? as usize;
    let page = state.store.read(move |db| results::page(db, (repo, job), kind, query.after, limit)).await?;
    page.ok_or_else(|| HttpError::not_found("such job of this repository"))
}
