//! `/api/schedules`: all of the fleet's, those that follow from plans among them.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        HostId, JobKind, PlanId, RepoId, ScheduleId, Timestamp,
        job::JobInput,
        schedule::{CatchUp, Side},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{List, job_orders, limit},
        extract::{Id, Json, Query},
    },
    ops::schedules::{
        self as ops, ScheduleInput, SchedulePatch,
        list::{self, Listed},
    },
    store::{
        Db, StoreError,
        hosts::{self, ScheduleState},
    },
};

/// Moments that an answer looks ahead.
const AHEAD: usize = 5;

/// A schedule as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ScheduleView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: ScheduleId,
    /// Where it runs.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// What it does.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// It follows from its plan, and is changed there.
    pub from_plan: bool,
    /// The plan of a backup.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// The repository.
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// Details of the job.
    #[schema(value_type = Object)]
    pub params: JobInput,
    /// Five-field cron.
    pub cron: String,
    /// IANA name.
    pub timezone: String,
    /// Seconds over which hosts spread.
    pub jitter_s: u32,
    /// `once` or `skip`.
    #[schema(value_type = String)]
    pub catch_up: CatchUp,
    /// Whether it fires.
    pub enabled: bool,
    /// When it runs, in words.
    pub words: String,
    /// Who ticks it: the host's agent, or the server.
    pub side: Side,
    /// The next moments of its cron, without jitter; none while it is paused.
    #[schema(value_type = Vec<String>)]
    pub next: Vec<Timestamp>,
    /// When it fires next on this host, jitter included.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub fires_at: Option<Timestamp>,
    /// Whether it is in force where it is ticked.
    pub state: InForce,
}

/// Whether a schedule is in force where it is ticked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct InForce {
    /// Version of the set that the host's agent is to follow.
    pub version: u64,
    /// Version that it says it follows.
    pub acked: u64,
    /// Both are the same, or the server ticks it.
    pub in_force: bool,
    /// Why the agent cannot follow it.
    pub rejected: Option<String>,
    /// Why it does not run while the server is away.
    pub unarmed: Option<String>,
}

impl ScheduleView {
    fn of(listed: Listed, state: &ScheduleState, now: Timestamp) -> Self {
        let Listed { entry, host_name } = listed;
        let side = Side::of(&entry.kind);
        let schedule = &entry.standing.schedule;
        let calendar = schedule.calendar().ok().filter(|_| schedule.enabled);
        let next = calendar.map(|calendar| calendar.upcoming(now, AHEAD)).unwrap_or_default();
        let fires_at = entry.next(now).filter(|_| schedule.enabled).map(|(_, fires)| fires);
        let of = |list: &[crate::domain::schedule::ScheduleRejection]| {
            list.iter().find(|rejected| rejected.schedule_id == entry.id).map(|rejected| rejected.reason.clone())
        };
        let state = InForce {
            version: state.version,
            acked: state.acked,
            in_force: side == Side::Server || (state.version > 0 && !state.drifts()),
            rejected: of(&state.rejected),
            unarmed: of(&state.unarmed),
        };
        Self {
            id: entry.id,
            host_id: entry.host_id,
            host_name,
            kind: entry.kind,
            from_plan: entry.from_plan,
            plan_id: entry.plan_id,
            repo_id: entry.repo_id,
            params: entry.input,
            words: schedule.in_words(),
            cron: entry.standing.schedule.cron,
            timezone: entry.standing.schedule.timezone,
            jitter_s: entry.standing.schedule.jitter_s,
            catch_up: entry.standing.schedule.catch_up,
            enabled: entry.standing.schedule.enabled,
            side,
            next,
            fires_at,
            state,
        }
    }
}

fn viewed(db: &Db, listed: Listed, now: Timestamp) -> Result<ScheduleView, StoreError> {
    let state = hosts::schedule_state(db, listed.entry.host_id)?;
    let state = state.map(|(_, _, state)| state).unwrap_or_default();
    Ok(ScheduleView::of(listed, &state, now))
}

async fn one(state: &AppState, id: ScheduleId) -> Result<ScheduleView, HttpError> {
    let now = state.clock.now();
    let found = state.store.read(move |db| {
        let listed = list::find(db, id)?;
        listed.map(|listed| viewed(db, listed, now)).transpose()
    });
    found.await.map_err(|e: StoreError| HttpError::from(e))?.ok_or_else(|| HttpError::not_found("such schedule"))
}

/// Which page of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleQuery {
    /// Only those of this host.
    #[param(value_type = Option<String>)]
    host_id: Option<HostId>,
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<ScheduleId>,
}

/// Schedules, by id: those that stand alone, and one for each host that a plan with a schedule covers.
///
/// # Errors
/// [`HttpError`].
#[utoipa::path(get, path = "/api/schedules", tag = "schedules", params(ScheduleQuery), responses((status = 200, body = List<ScheduleView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<ScheduleQuery>,
) -> Result<Answer<List<ScheduleView>>, HttpError> {
    let (limit, now) = (limit(query.limit)?, state.clock.now());
    let views = state.store.read(move |db| {
        let listed = list::all(db, query.host_id)?.into_iter();
        let page = listed.filter(|listed| query.after.is_none_or(|after| listed.entry.id > after));
        page.take(limit as usize + 1).map(|listed| viewed(db, listed, now)).collect::<Result<Vec<_>, StoreError>>()
    });
    Ok(Answer(List::page(views.await?, limit, |view| view.id.to_string(), |view| view)))
}

/// Makes a schedule that stands alone. Backups of many hosts are better scheduled by their plan.
///
/// # Errors
/// 409 where the host has too many, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/schedules", tag = "schedules", request_body = ScheduleInput,
    responses((status = 201, body = ScheduleView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<ScheduleInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<ScheduleView>), HttpError> {
    let made = ops::create(&state.store, user.actor(), input).await?;
    let location = [(header::LOCATION, format!("/api/schedules/{}", made.id))];
    Ok((StatusCode::CREATED, location, Answer(one(&state, made.id).await?)))
}

/// A schedule.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path)),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<ScheduleId>) -> Result<Answer<ScheduleView>, HttpError> {
    Ok(Answer(one(&state, id).await?))
}

/// Changes when a schedule runs: what is absent stays. `enabled` pauses it and lets it go on.
///
/// # Errors
/// 404; 409 for one that follows from a plan; 422.
#[utoipa::path(patch, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path)), request_body = SchedulePatch,
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn update(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ScheduleId>,
    Json(patch): Json<SchedulePatch>,
) -> Result<Answer<ScheduleView>, HttpError> {
    ops::update(&state.store, user.actor(), id, patch).await?;
    Ok(Answer(one(&state, id).await?))
}

/// Removes a schedule; its jobs stay.
///
/// # Errors
/// 404; 409 for one that follows from a plan.
#[utoipa::path(delete, path = "/api/schedules/{id}", tag = "schedules", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ScheduleId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs now what a schedule runs at its moments: an ordinary job.
///
/// # Errors
/// 404; 409 where the host can run nothing; 422 where it cannot be done as it was meant.
#[utoipa::path(post, path = "/api/schedules/{id}/run", tag = "schedules", params(("id" = String, Path)),
    responses((status = 202, body = job_orders::Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn run(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ScheduleId>,
) -> Result<job_orders::Accepted, HttpError> {
    Ok(job_orders::accepted(ops::run(&state.desk(), user.actor(), id).await?))
}
