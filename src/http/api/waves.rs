//! `/api/waves`: one runbook over many hosts.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, Timestamp, WaveId, Way,
        wave::{Standing, Tally, Wave, WaveHost, WaveStatus},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{self, List, jobs::ActorView},
        extract::{Id, Json, Query},
    },
    ops::waves::{self as ops, Made, WaveAgain, WaveRequest},
    runbook::{self, ResultType},
    store::{StoreError, waves},
};

/// Results of a runbook that a wave's table shows, one column each.
const COLUMNS: usize = 4;
/// Characters of one of them.
const CELL: usize = 120;

/// Over whom a wave goes, once it is made.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaveMade {
    /// Its id: `GET /api/waves/{wave_id}` tells how it goes.
    #[schema(value_type = String)]
    pub wave_id: WaveId,
    /// Over so many hosts.
    pub hosts: usize,
    /// Hosts that were left out.
    pub left_out: Vec<LeftOut>,
}

/// A host that a wave does not go to.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftOut {
    /// Which host.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// Its name.
    pub host_name: String,
    /// Why.
    pub why: String,
}

type Accepted = (StatusCode, [(HeaderName, String); 1], Answer<WaveMade>);

fn accepted(made: Made) -> Accepted {
    let left_out = made.left_out.into_iter().map(|chosen| LeftOut {
        host_id: chosen.host.id,
        host_name: chosen.host.name,
        why: chosen.way.err().unwrap_or_default(),
    });
    let answer = WaveMade { wave_id: made.id, hosts: made.hosts, left_out: left_out.collect() };
    (StatusCode::ACCEPTED, [(header::LOCATION, format!("/api/waves/{}", made.id))], Answer(answer))
}

/// Runs a runbook on many hosts: the first few must end well before the others begin, so many go at the same time, and where too many fail it stops.
///
/// # Errors
/// 403 where the runbook is for administrators; 409 where its file is broken; 422 with all that is wrong, each host that can't run it by its place.
#[utoipa::path(post, path = "/api/waves", tag = "waves", request_body = WaveRequest,
    responses((status = 202, body = WaveMade), (status = 403, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(request): Json<WaveRequest>,
) -> Result<Accepted, HttpError> {
    let desk = state.desk();
    user.needs(ops::role_for(&desk, &request).await?)?;
    Ok(accepted(ops::create(&desk, user.actor(), request).await?))
}

/// A wave.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaveView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: WaveId,
    /// The kind of its jobs.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// The runbook's title.
    pub title: String,
    /// SHA-256 of the runbook's text, which is the same for all of its hosts.
    pub hash: String,
    /// Answers to its inputs, but for secrets.
    #[schema(value_type = Object)]
    pub params: Map<String, Value>,
    /// `running`, `succeeded`, `warning` (some failed, fewer than stop it), `failed` (stopped by failures), `cancelled`.
    pub status: WaveStatus,
    /// Why nothing more begins: `canary`, `failures`, `cancel`; null where nothing is in the way.
    pub stop: Option<&'static str>,
    /// The same in words; null where it was not stopped.
    pub why: Option<String>,
    /// So many go first and must all end well.
    pub canary: u32,
    /// So many at the same time.
    pub batch: u32,
    /// Percent of those begun that stop it when they fail.
    pub stop_at: u32,
    /// Who asked.
    pub actor: ActorView,
    /// How many hosts stand how.
    pub tally: Tally,
    /// The wave whose failed and not started hosts these are.
    #[schema(value_type = Option<String>)]
    pub rerun_of: Option<WaveId>,
    /// The latest wave of this one's failed and not started hosts.
    #[schema(value_type = Option<String>)]
    pub rerun_as: Option<WaveId>,
    /// When someone asked.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl WaveView {
    fn of(wave: Wave, tally: Tally) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            id: wave.id,
            kind: wave.kind,
            title: wave.spec.title,
            hash: wave.spec.hash,
            params: wave.spec.answers,
            status: wave.status,
            stop: wave.stop.map(crate::domain::wave::Stop::as_str),
            why: some(wave.why),
            canary: wave.spec.pace.canary,
            batch: wave.spec.pace.batch,
            stop_at: wave.spec.pace.stop_at,
            actor: ActorView { kind: wave.actor.kind, id: some(wave.actor.id), name: some(wave.actor.name) },
            tally,
            rerun_of: wave.rerun_of,
            rerun_as: wave.rerun_as,
            created_at: wave.created_at,
            finished_at: wave.finished_at,
        }
    }
}

/// A host of a wave.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaveHostView {
    /// Its place in the order, from 0.
    pub position: u32,
    /// Which host.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// Its name.
    pub host_name: String,
    /// It was removed since.
    pub removed: bool,
    /// `not_started`, `running`, `succeeded`, `warning`, `failed`.
    pub state: &'static str,
    /// Its job; null where it has none.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<JobId>,
    /// That job's status.
    #[schema(value_type = Option<String>)]
    pub job_status: Option<JobStatus>,
    /// The way to the host.
    #[schema(value_type = Option<String>)]
    pub way: Option<Way>,
    /// What happened, where it did not end well, or why no job could be made.
    pub error: Option<String>,
    /// The first of the runbook's results that are one value.
    #[schema(value_type = Object)]
    pub results: Map<String, Value>,
    /// When its job started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its job ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// The word for it in the API.
fn state_word(standing: Standing) -> &'static str {
    match standing {
        Standing::NotStarted => "not_started",
        Standing::Running => "running",
        Standing::Succeeded => "succeeded",
        Standing::Warning => "warning",
        Standing::Failed => "failed",
    }
}

impl WaveHostView {
    fn of(host: WaveHost, columns: &[(String, ResultType)]) -> Self {
        let (state, error) = (state_word(host.standing()), host.why_not());
        let job = host.job;
        let results = job.as_ref().map(|job| cells(&job.results, columns)).unwrap_or_default();
        Self {
            position: host.position,
            host_id: host.host_id,
            host_name: host.host_name,
            removed: host.removed,
            state,
            job_id: job.as_ref().map(|job| job.id),
            job_status: job.as_ref().map(|job| job.status),
            way: job.as_ref().and_then(|job| job.way),
            error,
            results: results.into_iter().collect(),
            started_at: job.as_ref().and_then(|job| job.started_at),
            finished_at: job.and_then(|job| job.finished_at),
        }
    }
}

/// The first results of a wave's runbook that are one value, in the order of its file.
pub(crate) fn columns(wave: &Wave) -> Vec<(String, ResultType)> {
    let Ok(book) = runbook::parse(&wave.spec.text) else { return Vec::new() };
    let plain = book.results.into_iter().filter(|rule| !rule.many && rule.kind != ResultType::Json);
    plain.map(|rule| (rule.name, rule.kind)).take(COLUMNS).collect()
}

/// The values of these columns that are one short value.
fn cells(results: &Map<String, Value>, columns: &[(String, ResultType)]) -> Vec<(String, Value)> {
    let fits = |value: &&Value| match value {
        Value::Object(_) | Value::Array(_) | Value::Null => false,
        Value::String(text) => text.chars().count() <= CELL,
        Value::Bool(_) | Value::Number(_) => true,
    };
    let found = columns.iter().filter_map(|(name, _)| Some((name.clone(), results.get(name).filter(fits)?.clone())));
    found.collect()
}

/// A page of waves.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaveQuery {
    /// At most so many: 1 to 1000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<WaveId>,
}

/// Waves, newest first.
///
/// # Errors
/// 422 for a limit that does not do.
#[utoipa::path(get, path = "/api/waves", tag = "waves", params(WaveQuery), responses((status = 200, body = List<WaveView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<WaveQuery>,
) -> Result<Answer<List<WaveView>>, HttpError> {
    let limit = api::limit(query.limit)?.min(999);
    let rows = state.store.read(move |db| waves::list(db, query.after, limit + 1)).await?;
    Ok(Answer(List::page(rows, limit, |(wave, _)| wave.id.to_string(), |(wave, tally)| WaveView::of(wave, tally))))
}

/// A page of a wave's hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WaveHostQuery {
    /// At most so many hosts: 1 to 1000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    pub after: Option<u32>,
}

/// A wave with its table.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaveDetail {
    /// The wave.
    #[serde(flatten)]
    pub wave: WaveView,
    /// Its hosts, in the order in which they go.
    pub hosts: List<WaveHostView>,
}

/// A wave, with its hosts and their jobs.
///
/// # Errors
/// 404; 422 for a limit that does not do.
#[utoipa::path(get, path = "/api/waves/{id}", tag = "waves", params(("id" = String, Path), WaveHostQuery),
    responses((status = 200, body = WaveDetail), (status = 404, body = Problem)))]
pub async fn show(
    State(state): State<AppState>,
    Id(id): Id<WaveId>,
    Query(query): Query<WaveHostQuery>,
) -> Result<Answer<WaveDetail>, HttpError> {
    let limit = api::limit(query.limit)?;
    let from = query.after.map_or(0, |after| after.saturating_add(1));
    let found = state
        .store
        .read(move |db| {
            let Some(wave) = waves::lookup(db, id)? else { return Ok(None) };
            let tally = Tally::of(&waves::standings(db, id)?);
            Ok::<_, StoreError>(Some((wave, tally, waves::hosts(db, id, from, limit + 1)?)))
        })
        .await?;
    let (wave, tally, rows) = found.ok_or_else(|| HttpError::not_found("such wave"))?;
    let columns = columns(&wave);
    let hosts = List::page(rows, limit, |host| host.position.to_string(), |host| WaveHostView::of(host, &columns));
    Ok(Answer(WaveDetail { wave: WaveView::of(wave, tally), hosts }))
}

/// Stops a wave: what it has in work is asked to stop, the rest is not begun. Asking again changes nothing.
///
/// # Errors
/// 404; 409 where it is over.
#[utoipa::path(post, path = "/api/waves/{id}/cancel", tag = "waves", params(("id" = String, Path)),
    responses((status = 202, body = WaveDetail), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn cancel(
    state: State<AppState>,
    user: CurrentUser,
    id: Id<WaveId>,
) -> Result<(StatusCode, Answer<WaveDetail>), HttpError> {
    ops::cancel(&state.desk(), user.actor(), id.0).await?;
    let shown = show(state, id, Query(WaveHostQuery { limit: None, after: None })).await?;
    Ok((StatusCode::ACCEPTED, shown))
}

/// Makes a wave of those hosts of an ended one that failed, could not begin or were not started, with the runbook as it is now.
///
/// # Errors
/// 403 where the runbook is for administrators; 404; 409 where the wave goes on or nothing is left of it; 422 without the confirmation or the secrets that it needs.
#[utoipa::path(post, path = "/api/waves/{id}/rerun", tag = "waves", params(("id" = String, Path)), request_body = WaveAgain,
    responses((status = 202, body = WaveMade), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn rerun(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<WaveId>,
    Json(request): Json<WaveAgain>,
) -> Result<Accepted, HttpError> {
    let desk = state.desk();
    user.needs(ops::role_again(&desk, id).await?)?;
    Ok(accepted(ops::rerun_unfinished(&desk, user.actor(), id, request).await?))
}
