//! `/api/repos/{id}/stats`, `/locks`, `/health`: what is known of a repository beyond what a person entered.

use axum::{Json as Answer, extract::State};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        FieldError, HostId, JobId, JobStatus, RepoId, Timestamp,
        health::{
            HostMark, Limit, Proof, Report, Size,
            forecast::Forecast,
            locks::{SeenLock, Standing},
            repair::Step,
        },
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{
            List,
            job_orders::{Accepted, Ordered, accepted},
            limit,
        },
        extract::{Id, Json, Query},
    },
    ops::{OpError, health as ops},
    store::{health, repos},
};

/// A repository's size at one moment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SizeView {
    /// When it was measured.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Bytes as stored.
    pub bytes: u64,
    /// Bytes of the same before compression; null where restic does not say so.
    pub uncompressed: Option<u64>,
    /// Bytes that a restore of all snapshots would write.
    pub restore_size: Option<u64>,
    /// Snapshots.
    pub snapshots: u64,
    /// Pieces of data, each stored once.
    pub blobs: Option<u64>,
    /// How many times smaller it is for storing each piece once.
    pub deduplication_ratio: Option<f64>,
    /// How many times smaller it is for being compressed.
    pub compression_ratio: Option<f64>,
}

impl From<Size> for SizeView {
    fn from(size: Size) -> Self {
        Self {
            deduplication_ratio: size.deduplication(),
            compression_ratio: size.compression(),
            at: size.at,
            bytes: size.bytes,
            uncompressed: size.uncompressed,
            restore_size: size.restore_size,
            snapshots: size.snapshots,
            blobs: size.blobs,
        }
    }
}

/// Where the history goes on.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SizeQuery {
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Timestamp>,
    /// At most so many, 1 to 1000; 100 where absent.
    limit: Option<u32>,
}

/// Sizes over time, the latest first.
///
/// # Errors
/// 404; 422 for a query that does not do.
#[utoipa::path(get, path = "/api/repos/{id}/stats", tag = "repos", params(("id" = String, Path), SizeQuery),
    responses((status = 200, body = List<SizeView>), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn stats(
    State(state): State<AppState>,
    Id(id): Id<RepoId>,
    Query(query): Query<SizeQuery>,
) -> Result<Answer<List<SizeView>>, HttpError> {
    let limit = limit(query.limit)?;
    let found = state
        .store
        .read(move |db| {
            let there = health::subject(db, id)?.is_some();
            there.then(|| health::sizes_before(db, id, query.after, limit + 1)).transpose()
        })
        .await?;
    let found = found.ok_or_else(|| HttpError::not_found("such repository"))?;
    Ok(Answer(List::page(found, limit, |size| size.at.to_string(), SizeView::from)))
}

/// A lock as last seen.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct LockView {
    /// Full id.
    pub id: String,
    /// Its owner's host, by that host's own name.
    pub hostname: String,
    /// The enrolled host of that name.
    #[schema(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// Its owner's user.
    pub username: String,
    /// Its owner's process.
    pub pid: u32,
    /// Nobody else may work beside it.
    pub exclusive: bool,
    /// When it was last refreshed, by its owner's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub refreshed_at: Option<Timestamp>,
    /// Whether its owner lives, by its own host's agent; null where that is not known.
    pub alive: Option<bool>,
    /// When that was known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub alive_at: Option<Timestamp>,
    /// `dead`, `stale`, `live` or `unknown`.
    pub standing: &'static str,
    /// Whether it may be removed.
    pub removable: bool,
    /// Why it stays.
    pub reason: Option<String>,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Timestamp,
}

impl LockView {
    fn of(lock: SeenLock, now: Timestamp) -> Self {
        let standing = lock.standing(now);
        Self {
            standing: match standing {
                Standing::Dead { .. } => "dead",
                Standing::Stale { .. } => "stale",
                Standing::Live { .. } => "live",
                Standing::Unknown => "unknown",
            },
            removable: standing.may_go(),
            reason: lock.refusal(now),
            id: lock.id,
            host_id: lock.host.map(|(id, _)| id),
            hostname: lock.hostname,
            username: lock.username,
            pid: lock.pid,
            exclusive: lock.exclusive,
            refreshed_at: lock.time,
            alive: lock.alive.map(|(alive, _)| alive),
            alive_at: lock.alive.map(|(_, at)| at),
            seen_at: lock.seen_at,
        }
    }
}

/// The locks as last seen, the oldest first. A job of kind `locks` looks anew.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/locks", tag = "repos", params(("id" = String, Path)),
    responses((status = 200, body = List<LockView>), (status = 404, body = Problem)))]
pub async fn locks(State(state): State<AppState>, Id(id): Id<RepoId>) -> Result<Answer<List<LockView>>, HttpError> {
    let report = report(&state, id).await?;
    let now = report.now;
    Ok(Answer(List::whole(report.locks.into_iter().map(|lock| LockView::of(lock, now)).collect())))
}

/// How a repository is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HealthView {
    /// The latest measurement.
    pub size: Option<SizeView>,
    /// Bytes a day, over the last 90 days; null where there is too little to tell.
    pub growth_per_day: Option<f64>,
    /// Bytes that it can't outgrow: its own limit, or those until its disk is full.
    pub limit: Option<u64>,
    /// When that is reached, if it goes on so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub full_at: Option<Timestamp>,
    /// Not before, with 90 %.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub full_earliest: Option<Timestamp>,
    /// Not after, with 90 %; null where it may never be.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub full_latest: Option<Timestamp>,
    /// `protected`, `vulnerable`, `failed` or `never`: what the last tamper test showed.
    pub append_only: &'static str,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub append_only_at: Option<Timestamp>,
    /// The check that found damage which no later one has cleared.
    #[schema(value_type = Option<String>)]
    pub damaged_by_job: Option<JobId>,
    /// Locks as last seen.
    pub locks: u64,
    /// When locks were last looked at.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub looked_at: Option<Timestamp>,
    /// How each kind of work fared last on each host.
    pub work: Vec<WorkView>,
}

/// How a kind of work fared last on one host.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WorkView {
    /// What was done.
    pub kind: String,
    /// Where.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// When it last went well.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub good_at: Option<Timestamp>,
    /// When it last ended, however.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// How that ended.
    #[schema(value_type = String)]
    pub last_status: JobStatus,
    /// By which job.
    #[schema(value_type = String)]
    pub last_job_id: JobId,
}

impl From<HostMark> for WorkView {
    fn from(mark: HostMark) -> Self {
        let HostMark { kind, host_id, host_name, good, last: (last_at, last_job_id, last_status) } = mark;
        let good_at = good.map(|(at, _)| at);
        Self { kind: kind.as_str().to_owned(), host_id, host_name, good_at, last_at, last_status, last_job_id }
    }
}

impl From<Report> for HealthView {
    fn from(report: Report) -> Self {
        let (append_only, append_only_at) = match report.proof {
            Proof::Never => ("never", None),
            Proof::Protected { at, .. } => ("protected", Some(at)),
            Proof::Vulnerable { at, .. } => ("vulnerable", Some(at)),
            Proof::Failed { at, .. } => ("failed", Some(at)),
        };
        let (full_at, full_earliest, full_latest) = match report.limit.as_ref().map(|(_, forecast)| forecast) {
            Some(Forecast::On { at, earliest, latest, .. }) => (Some(*at), Some(*earliest), *latest),
            Some(Forecast::Full) => (Some(report.now), Some(report.now), Some(report.now)),
            _ => (None, None, None),
        };
        Self {
            size: report.sizes.last().copied().map(SizeView::from),
            growth_per_day: report.growth.map(|growth| growth.daily),
            limit: report.limit.as_ref().map(|(limit, _): &(Limit, Forecast)| limit.bytes()),
            full_at,
            full_earliest,
            full_latest,
            append_only,
            append_only_at,
            damaged_by_job: report.damage.map(|(job, _)| job.id),
            locks: report.locks.len() as u64,
            looked_at: report.looked_at,
            work: report.marks.into_iter().map(WorkView::from).collect(),
        }
    }
}

/// How a repository is: size, growth, forecast, what the last tamper test showed, damage, what last went well where.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/health", tag = "repos", params(("id" = String, Path)),
    responses((status = 200, body = HealthView), (status = 404, body = Problem)))]
pub async fn health(State(state): State<AppState>, Id(id): Id<RepoId>) -> Result<Answer<HealthView>, HttpError> {
    Ok(Answer(report(&state, id).await?.into()))
}

async fn report(state: &AppState, id: RepoId) -> Result<Report, HttpError> {
    let report = ops::report(&state.store, id, state.clock.now()).await?;
    report.ok_or_else(|| HttpError::not_found("such repository"))
}

/// Has the locks looked at, and the hosts of their owners asked.
///
/// # Errors
/// 404; 409 where no host can, or one does already.
#[utoipa::path(post, path = "/api/repos/{id}/locks", tag = "repos", params(("id" = String, Path)),
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn look(State(state): State<AppState>, user: CurrentUser, Id(id): Id<RepoId>) -> Result<Accepted, HttpError> {
    Ok(accepted(ops::look_at_locks(&state.desk(), user.actor(), id).await?))
}

/// Removes the locks whose owner is proven dead, or that are older than restic's own rule; the live ones stay.
///
/// # Errors
/// 404; 409 where none may go, with the reason of each, or no host can.
#[utoipa::path(post, path = "/api/repos/{id}/unlock", tag = "repos", params(("id" = String, Path)),
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn unlock(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<RepoId>,
) -> Result<Accepted, HttpError> {
    Ok(accepted(ops::unlock(&state.desk(), user.actor(), id).await?))
}

/// A step of the guided repair.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// `index`, `packs`, `snapshots`, `prune` or `check`, to be done in this order.
    pub step: String,
    /// Only say what would be done: of `snapshots` and `prune`.
    #[serde(default)]
    pub dry_run: bool,
    /// Where data may go: the repository's name.
    pub confirm: Option<String>,
}

/// Orders a step of the guided repair, with what the check named that found the damage.
///
/// # Errors
/// 403 for what changes the repository where the caller is no administrator; 404; 409 where no damage is known or no host can; 422.
#[utoipa::path(post, path = "/api/repos/{id}/repair", tag = "repos", params(("id" = String, Path)), request_body = RepairRequest,
    responses((status = 202, body = Ordered), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn repair(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<RepoId>,
    Json(request): Json<RepairRequest>,
) -> Result<Accepted, HttpError> {
    let step = Step::of(&request.step).filter(|step| *step != Step::BackUp);
    let step =
        step.ok_or_else(|| HttpError::invalid_field("step", "must be index, packs, snapshots, prune or check"))?;
    user.needs(step.least_role(request.dry_run))?;
    let repo = state.store.read(move |db| repos::lookup(db, id)).await?.ok_or(OpError::NotFound("repository"))?;
    if step.may_lose() && !request.dry_run && request.confirm.as_ref() != Some(&repo.name) {
        let text = "must be the repository's name: this step may cost data";
        return Err(OpError::Invalid(vec![FieldError::new("confirm", text)]).into());
    }
    Ok(accepted(ops::repair(&state.desk(), user.actor(), id, step, request.dry_run).await?))
}
