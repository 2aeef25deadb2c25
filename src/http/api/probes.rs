//! `/api/probes`: what is asked of hosts again and again, what was answered, and asking at once.

use axum::{
    Json as Answered,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        HostId, ProbeId, SiteId, Timestamp,
        probe::{PastAnswer, Probe, ProbeState, Question},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::List,
        extract::{Id, Json, Query},
    },
    ops::probes::{self as ops, ProbeInput, ProbePatch},
    store::probes,
};

/// Answers in one page of the past at most.
const MOST_ANSWERS: u32 = 10_000;
const DAY_S: i64 = 86_400;

/// A probe.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProbeView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: ProbeId,
    /// The host that it is about.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// The site on it.
    #[schema(value_type = Option<String>)]
    pub site_id: Option<SiteId>,
    /// What people call it.
    pub name: String,
    /// What is asked.
    #[schema(value_type = Object)]
    pub question: Question,
    /// Seconds from one question to the next.
    pub interval_s: u32,
    /// Seconds after which no answer is a bad one.
    pub timeout_s: u32,
    /// So many of the last `of` answers change the state.
    pub need: u8,
    /// Answers that are looked at.
    pub of: u8,
    /// It is asked at all.
    pub enabled: bool,
    /// Where it stands.
    pub state: ProbeState,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub state_at: Option<Timestamp>,
    /// When the last answer came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub asked_at: Option<Timestamp>,
    /// How long that took; null where none came.
    pub latency_ms: Option<u32>,
    /// What it said: why it was a bad one, or a word about a good one.
    pub detail: String,
}

impl From<Probe> for ProbeView {
    fn from(probe: Probe) -> Self {
        let Probe { no: _, id, host_id, site_id, name, spec, state, state_at, asked_at, latency_ms, detail } = probe;
        Self {
            id,
            host_id,
            site_id,
            name,
            question: spec.question,
            interval_s: spec.interval_s,
            timeout_s: spec.timeout_s,
            need: spec.need,
            of: spec.of,
            enabled: spec.enabled,
            state,
            state_at,
            asked_at,
            latency_ms,
            detail,
        }
    }
}

/// Which probes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ProbeQuery {
    /// Of this host; of all where absent.
    #[param(value_type = Option<String>)]
    host_id: Option<HostId>,
}

/// Probes, in the order in which they were made.
///
/// # Errors
/// 400 for a query that does not do.
#[utoipa::path(get, path = "/api/probes", tag = "probes", params(ProbeQuery), responses((status = 200, body = List<ProbeView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<ProbeQuery>,
) -> Result<Answered<List<ProbeView>>, HttpError> {
    let found = state.store.read(move |db| probes::list(db, query.host_id)).await?;
    Ok(Answered(List::whole(found.into_iter().map(ProbeView::from).collect())))
}

/// Makes a probe. It is asked at once.
///
/// # Errors
/// 409 where the host has too many, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/probes", tag = "probes", request_body = ProbeInput,
    responses((status = 201, body = ProbeView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<ProbeInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answered<ProbeView>), HttpError> {
    let probe = ops::create(&state.store, user.actor(), input).await?;
    let location = [(header::LOCATION, format!("/api/probes/{}", probe.id))];
    Ok((StatusCode::CREATED, location, Answered(probe.into())))
}

/// A probe.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/probes/{id}", tag = "probes", params(("id" = String, Path)),
    responses((status = 200, body = ProbeView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<ProbeId>) -> Result<Answered<ProbeView>, HttpError> {
    Ok(Answered(found(&state, id).await?.into()))
}

async fn found(state: &AppState, id: ProbeId) -> Result<Probe, HttpError> {
    let probe = state.store.read(move |db| probes::lookup(db, id)).await?;
    probe.ok_or_else(|| HttpError::not_found("such probe"))
}

/// Changes a probe: what is absent stays. Another question, or a pause, makes its state unknown.
///
/// # Errors
/// 404, 422.
#[utoipa::path(patch, path = "/api/probes/{id}", tag = "probes", params(("id" = String, Path)), request_body = ProbePatch,
    responses((status = 200, body = ProbeView), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn update(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ProbeId>,
    Json(patch): Json<ProbePatch>,
) -> Result<Answered<ProbeView>, HttpError> {
    Ok(Answered(ops::update(&state.store, user.actor(), id, patch).await?.into()))
}

/// Removes a probe; its alert is cleared.
///
/// # Errors
/// 404.
#[utoipa::path(delete, path = "/api/probes/{id}", tag = "probes", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ProbeId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AnswerView {
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// All was well.
    pub healthy: bool,
    /// How long it took; null where none came.
    pub latency_ms: Option<u32>,
    /// Why it was a bad one.
    pub detail: String,
}

impl From<PastAnswer> for AnswerView {
    fn from(PastAnswer { at, answer }: PastAnswer) -> Self {
        Self { at, healthy: answer.healthy, latency_ms: answer.latency_ms, detail: answer.detail }
    }
}

/// What was answered at once, and where the probe stands with it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CheckView {
    /// The answer.
    pub answer: AnswerView,
    /// The probe as it is then: one answer alone may not change its state.
    pub probe: ProbeView,
}

/// Asks at once and keeps the answer as any other. Takes as long as the answer, at most the probe's timeout.
///
/// # Errors
/// 404.
#[utoipa::path(post, path = "/api/probes/{id}/check", tag = "probes", params(("id" = String, Path)),
    responses((status = 200, body = CheckView), (status = 404, body = Problem)))]
pub async fn check(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<ProbeId>,
) -> Result<Answered<CheckView>, HttpError> {
    let (probe, answer) = ops::check_now((&state.store, &state.clock, &state.prober), user.actor(), id).await?;
    let at = probe.asked_at.unwrap_or_else(|| state.clock.now());
    Ok(Answered(CheckView { answer: PastAnswer { at, answer }.into(), probe: probe.into() }))
}

/// From when on.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AnswerQuery {
    /// The last day where absent.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
}

/// A probe's answers, the oldest first; of more than 10,000 the latest. Of what is older than two days the worst of each hour is kept, for 90 days.
///
/// # Errors
/// 404; 400 for a time that is none.
#[utoipa::path(get, path = "/api/probes/{id}/answers", tag = "probes", params(("id" = String, Path), AnswerQuery),
    responses((status = 200, body = List<AnswerView>), (status = 404, body = Problem)))]
pub async fn answers(
    State(state): State<AppState>,
    Id(id): Id<ProbeId>,
    Query(query): Query<AnswerQuery>,
) -> Result<Answered<List<AnswerView>>, HttpError> {
    let no = found(&state, id).await?.no;
    let since = query.since.unwrap_or_else(|| state.clock.now().plus_s(-DAY_S));
    let answers = state.store.read(move |db| probes::answers(db, no, since, MOST_ANSWERS)).await?;
    Ok(Answered(List::whole(answers.into_iter().map(AnswerView::from).collect())))
}
