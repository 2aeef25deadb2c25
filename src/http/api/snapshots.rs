//! `/api/repos/{id}/snapshots`: the index of what a repository holds, and the folders of a snapshot.

use axum::{
    Json as Answer,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        HostId, JobId, JobStatus, NodeKind, PlanId, RepoId, Timestamp,
        job::Job,
        snapshot::{Snapshot, SnapshotNo, check_folder, child_path},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{
            self, List,
            job_orders::{Accepted, Ordered, accepted},
        },
        extract::{Id, Json, Pair, Query},
    },
    ops::{
        OpError,
        snapshots::{self as ops, Asked, Known},
    },
    store::{
        StoreError, repos,
        snapshots::{self, SnapshotFilter},
        trees::{self, Entry, NodeKey},
    },
};

/// A snapshot as the API shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SnapshotView {
    /// Full id, 64 hexadecimal digits.
    pub id: String,
    /// The repository that holds it.
    #[schema(value_type = String)]
    pub repo_id: RepoId,
    /// When it was made, as it says itself.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Under which host name it stands.
    pub hostname: String,
    /// The host that it belongs to, where that is known.
    #[schema(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// That host's name.
    pub host_name: Option<String>,
    /// Who made it.
    pub username: String,
    /// What it is of.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The snapshot that it was compared with.
    pub parent: Option<String>,
    /// The snapshot that it was rewritten or copied from.
    pub original: Option<String>,
    /// The program that made it, where that was noted.
    pub program: String,
    /// Files in it.
    pub files: Option<u64>,
    /// Bytes that a restore would write.
    pub bytes: Option<u64>,
    /// Bytes that it added to the repository, as stored.
    pub added: Option<u64>,
    /// The backup that made it.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<JobId>,
    /// The plan that it followed.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// When this server first saw it.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen_at: Timestamp,
    /// When it was found to be gone.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub gone_at: Option<Timestamp>,
    /// The job that removed it.
    #[schema(value_type = Option<String>)]
    pub gone_by: Option<JobId>,
    /// Why it is pinned; null where it is not.
    pub pin: Option<PinView>,
}

/// A pin: no forget removes the snapshot.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PinView {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl From<Snapshot> for SnapshotView {
    fn from(snapshot: Snapshot) -> Self {
        let (host_id, host_name) = snapshot.host.map(|host| (host.id, host.name)).unzip();
        Self {
            id: snapshot.id,
            repo_id: snapshot.repo_id,
            time: snapshot.time,
            hostname: snapshot.hostname,
            host_id,
            host_name,
            username: snapshot.username,
            paths: snapshot.paths,
            tags: snapshot.tags,
            parent: snapshot.parent,
            original: snapshot.original,
            program: snapshot.program,
            files: snapshot.files,
            bytes: snapshot.bytes,
            added: snapshot.added,
            job_id: snapshot.job_id,
            plan_id: snapshot.plan_id,
            first_seen_at: snapshot.first_seen_at,
            gone_at: snapshot.gone_at,
            gone_by: snapshot.gone_by,
            pin: snapshot.pin.map(|pin| PinView { at: pin.at, by: pin.by, reason: pin.reason }),
        }
    }
}

/// Which snapshots to list. All given conditions hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SnapshotQuery {
    /// Of this host.
    #[param(value_type = Option<String>)]
    host_id: Option<HostId>,
    /// Under this host name.
    hostname: Option<String>,
    /// Made of a source that is this path or a folder above it.
    path: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// Made at this time or later.
    #[param(value_type = Option<String>)]
    since: Option<Timestamp>,
    /// Made before this time.
    #[param(value_type = Option<String>)]
    until: Option<Timestamp>,
    /// At most so many: 1 to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<i64>,
}

/// Snapshots that a repository holds, the newest first, as far as they are in the index.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/snapshots", tag = "snapshots", params(("id" = String, Path), SnapshotQuery),
    responses((status = 200, body = List<SnapshotView>), (status = 404, body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    Id(repo): Id<RepoId>,
    Query(query): Query<SnapshotQuery>,
) -> Result<Answer<List<SnapshotView>>, HttpError> {
    let limit = api::limit(query.limit)?;
    let filter = SnapshotFilter {
        repo_id: Some(repo),
        host_id: query.host_id,
        hostname: query.hostname,
        path: query.path,
        tag: query.tag,
        since: query.since,
        until: query.until,
        after: query.after.map(SnapshotNo),
        limit: limit + 1,
    };
    let found = state
        .store
        .read(move |db| match repos::lookup(db, repo)? {
            Some(_) => Ok::<_, StoreError>(Some(snapshots::list(db, &filter)?)),
            None => Ok(None),
        })
        .await?;
    let found = found.ok_or_else(|| HttpError::not_found("such repository"))?;
    Ok(Answer(List::page(found, limit, |snapshot| snapshot.no.0.to_string(), SnapshotView::from)))
}

/// A snapshot, also one that is gone. `snapshot` is its id, or the first 8 digits or more of it.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/snapshots/{snapshot}", tag = "snapshots",
    params(("id" = String, Path), ("snapshot" = String, Path)),
    responses((status = 200, body = SnapshotView), (status = 404, body = Problem)))]
pub async fn show(
    State(state): State<AppState>,
    Pair(repo, id): Pair<RepoId, String>,
) -> Result<Answer<SnapshotView>, HttpError> {
    Ok(Answer(stored(&state, repo, id).await?.into()))
}

async fn stored(state: &AppState, repo: RepoId, id: String) -> Result<Snapshot, HttpError> {
    let found = state
        .store
        .read(move |db| match repos::lookup(db, repo)? {
            Some(_) => snapshots::lookup(db, repo, &id),
            None => Ok::<_, StoreError>(None),
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such snapshot in this repository"))
}

/// Has the repository listed anew, unless that is under way.
///
/// # Errors
/// 404; 409 where no host may read the repository.
#[utoipa::path(post, path = "/api/repos/{id}/snapshots/refresh", tag = "snapshots", params(("id" = String, Path)),
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn refresh(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(repo): Id<RepoId>,
) -> Result<Accepted, HttpError> {
    Ok(accepted(ops::refresh(&state.desk(), user.actor(), repo).await?))
}

/// A host name of a repository's snapshots, and the host that it stands for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchRequest {
    /// As the snapshots have it.
    hostname: String,
    /// The host; null for none that is known.
    #[schema(value_type = Option<String>)]
    host_id: Option<HostId>,
}

/// What came of a match.
#[derive(Debug, Serialize, ToSchema)]
pub struct Matched {
    /// Snapshots that stand under that name.
    snapshots: usize,
}

/// Says which host a host name in a repository stands for.
///
/// # Errors
/// 404; 422 where the name is a host's own.
#[utoipa::path(post, path = "/api/repos/{id}/snapshots/match", tag = "snapshots", params(("id" = String, Path)), request_body = MatchRequest,
    responses((status = 200, body = Matched), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn match_host(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(repo): Id<RepoId>,
    Json(request): Json<MatchRequest>,
) -> Result<Answer<Matched>, HttpError> {
    let MatchRequest { hostname, host_id } = request;
    let snapshots = ops::match_host(&state.desk(), user.actor(), repo, hostname, host_id).await?;
    Ok(Answer(Matched { snapshots }))
}

/// Which part of a snapshot's tree.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TreeQuery {
    /// The folder, from `/`; the root where absent.
    #[serde(default)]
    path: String,
    /// Only entries whose name holds this.
    #[serde(default)]
    q: String,
    /// At most so many: 1 to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// An entry of a folder.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NodeView {
    /// Its name. Bytes that are no UTF-8 are U+FFFD each.
    pub name: String,
    /// Its whole path in the snapshot.
    pub path: String,
    /// `dir`, `file`, `symlink` or `other`.
    #[schema(value_type = String)]
    pub kind: NodeKind,
    /// Bytes of a file.
    pub size: Option<u64>,
    /// Last change of its content.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub mtime: Option<Timestamp>,
    /// Permissions, such as `-rw-r--r--`.
    pub mode: String,
    /// Owner and group, such as `root:root`.
    pub owner: String,
}

/// A page of a folder.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FolderPage {
    /// The folder.
    pub path: String,
    /// Entries in it, all pages together.
    pub entries: u64,
    /// Folders first, then by name.
    pub items: Vec<NodeView>,
    /// What to send as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// A folder that is being listed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ListingView {
    /// The job that lists it.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// Where that job stands.
    #[schema(value_type = String)]
    pub status: JobStatus,
}

/// A page of a snapshot's folder: 200 where the folder is known here, 202 while a job lists it. `POST` to the same address has it listed.
///
/// # Errors
/// 404 for repository and snapshot, and as `not_listed` where nobody asked for this folder yet; 409 `listing_failed` with the job's words.
#[utoipa::path(get, path = "/api/repos/{id}/snapshots/{snapshot}/tree", tag = "snapshots",
    params(("id" = String, Path), ("snapshot" = String, Path), TreeQuery),
    responses((status = 200, body = FolderPage), (status = 202, body = ListingView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn tree(
    State(state): State<AppState>,
    Pair(repo, id): Pair<RepoId, String>,
    Query(query): Query<TreeQuery>,
) -> Result<Response, HttpError> {
    let limit = api::limit(query.limit)?;
    let path = check_folder(&query.path).map_err(|why| HttpError::invalid_field("path", why))?;
    let after: Option<NodeKey> = query
        .after
        .map(|after| after.parse().map_err(|()| HttpError::invalid_field("after", "must be the next of a page before")))
        .transpose()?;
    let snapshot = stored(&state, repo, id).await?;
    let (folder_path, wanted) = (path.clone(), query.q);
    let (known, found) = state
        .store
        .read(move |db| {
            let known = ops::folder(db, &snapshot, &folder_path)?;
            let found = match &known {
                Known::Whole(folder) => trees::page(db, folder.no, after.as_ref(), &wanted, limit + 1)?,
                _ => Vec::new(),
            };
            Ok::<_, StoreError>((known, found))
        })
        .await?;
    match known {
        Known::Whole(folder) => {
            if folder.is_worn(state.clock.now()) {
                state.store.write(move |tx| trees::touch(tx, folder.no)).await?;
            }
            let list = List::page(found, limit, |entry| entry.key.to_string(), |entry| node(&path, entry));
            let entries = folder.entries.unwrap_or_default();
            Ok(Answer(FolderPage { path, entries, items: list.items, next: list.next }).into_response())
        }
        Known::Listing(job) => {
            let listing = ListingView { job_id: job.id, status: job.status };
            Ok((StatusCode::ACCEPTED, Answer(listing)).into_response())
        }
        Known::Failed(job) => Err(HttpError::conflict("listing_failed", why_failed(&job))),
        Known::Unlisted => {
            let detail = "This folder was not listed yet. POST to the same address has it listed.";
            Err(HttpError::new(StatusCode::NOT_FOUND, "not_listed", "Not listed yet", detail))
        }
    }
}

/// Why a folder's listing brought nothing, for people.
pub(in crate::http) fn why_failed(job: &Job) -> String {
    match (&job.error, job.status) {
        (Some(error), _) => format!("{} could not list the folder: {error}", job.host_name),
        (None, JobStatus::Cancelled) => "The listing was cancelled. Ask for it again.".to_owned(),
        (None, _) => {
            format!(
                "What {} listed did not come here whole. Ask for it again; the job's log has what came.",
                job.host_name
            )
        }
    }
}

fn node(folder: &str, entry: Entry) -> NodeView {
    let node = entry.node;
    let path = child_path(folder, &node.name);
    NodeView {
        path,
        name: node.name,
        kind: node.kind,
        size: node.size,
        mtime: node.mtime,
        mode: node.mode,
        owner: node.user,
    }
}

/// A folder to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeRequest {
    /// The folder, from `/`; the root where absent.
    #[serde(default)]
    path: String,
    /// The host that lists it; chosen where absent.
    #[schema(value_type = Option<String>)]
    on_host: Option<HostId>,
}

/// Has a folder listed: 202 with the job, or 204 where it is known here already.
///
/// # Errors
/// 404; 409 where the snapshot is gone or no host may read the repository; 422 for the path.
#[utoipa::path(post, path = "/api/repos/{id}/snapshots/{snapshot}/tree", tag = "snapshots",
    params(("id" = String, Path), ("snapshot" = String, Path)), request_body = TreeRequest,
    responses((status = 202, body = Ordered), (status = 204), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn list_folder(
    State(state): State<AppState>,
    user: CurrentUser,
    Pair(repo, id): Pair<RepoId, String>,
    Json(request): Json<TreeRequest>,
) -> Result<Response, HttpError> {
    let asked = ops::list_folder(&state.desk(), user.actor(), (repo, id), request.path, request.on_host).await;
    match asked.map_err(|e: OpError| HttpError::from(e))? {
        Asked::Here => Ok(StatusCode::NO_CONTENT.into_response()),
        Asked::Ordered(job) => Ok(accepted(job).into_response()),
    }
}
