//! Jobs over the API: reading them and their logs. Orders stand in `job_orders`.

use axum::{
    Json as Answer,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobProgress, JobStatus, PlanId, RepoId, ScheduleId, SiteId, Stream, Timestamp, Way,
        aftermath::Aftermath,
        job::{ActorKind, Job, JobNo},
        queue::WaitsFor,
    },
    http::{
        AppState, HttpError, Problem,
        api::{self, List},
        extract::{Id, Query},
    },
    hub::Hub,
    store::{
        Store, StoreError,
        jobs::{self, JobFilter},
        logs, retention,
    },
};

/// Lines in one page of a log at most: bounds the memory of one answer.
const MAX_LINES: u32 = 10_000;
/// Lines that a download holds in memory.
const TEXT_STEP: u32 = 500;

/// A job.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: JobId,
    /// The host that it is about.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// The host whose agent runs it, where that is another one: the control plane's own.
    pub runner: Option<RunnerView>,
    /// Of a runbook: the way to the host, decided when the job was made: `agent`, `api`, `ssh`.
    #[schema(value_type = Option<String>)]
    pub way: Option<Way>,
    /// The site that it is about.
    #[schema(value_type = Option<String>)]
    pub site_id: Option<SiteId>,
    /// What it does.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// Where it stands: `queued`, `running`, `succeeded`, `warning`, `failed`, `cancelled`, `lost`.
    #[schema(value_type = String)]
    pub status: JobStatus,
    /// Who asked.
    pub actor: ActorView,
    /// The schedule that asked.
    #[schema(value_type = Option<String>)]
    pub schedule_id: Option<ScheduleId>,
    /// The moment that it was due, by that schedule.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled_at: Option<Timestamp>,
    /// Its agent ran it by itself while this server was away.
    pub ran_alone: bool,
    /// The plan it follows.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// The repository it works on.
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// That repository's name.
    pub repo_name: Option<String>,
    /// The job that this one repeats.
    #[schema(value_type = Option<String>)]
    pub rerun_of: Option<JobId>,
    /// The latest job that repeats this one.
    #[schema(value_type = Option<String>)]
    pub rerun_as: Option<JobId>,
    /// While it is queued: what it waits for. Null where it is about to be sent.
    pub waits_for: Option<WaitsForView>,
    /// When someone asked.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it is given up, if no agent has taken it by then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Seconds after which its agent stops it.
    pub timeout_s: u64,
    /// When its process started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Whether it can be asked to stop: a `lost` one while its agent is here and still has it.
    pub cancellable: bool,
    /// Someone asked for it to stop.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancel_requested_at: Option<Timestamp>,
    /// The process's exit code; negative for a signal.
    pub exit_code: Option<i32>,
    /// What happened, why, what to do.
    pub error: Option<String>,
    /// How far it is, while it runs.
    #[schema(value_type = Option<Object>)]
    pub progress: Option<JobProgress>,
    /// Typed result of the kind.
    #[schema(value_type = Option<Object>)]
    pub summary: Option<serde_json::Value>,
    /// Lines of its log; also the last line's number.
    pub log_lines: u32,
    /// Lines were dropped, and a line says how many.
    pub log_truncated: bool,
    /// When its lines were removed by the retention of logs; `log_lines` still counts them.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub log_removed_at: Option<Timestamp>,
    /// Of a restart that ended well: whether the host's probes found it healthy after it.
    pub aftermath: Option<Aftermath>,
}

/// What a queued job waits for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WaitsForView {
    /// `host`, `repository`, `turn`, `plan`, `host_limit`, `limit`, `order` or `agent`.
    pub kind: &'static str,
    /// For people; completes "It waits for …".
    pub text: String,
    /// The job that stands in the way.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<JobId>,
}

impl From<&WaitsFor> for WaitsForView {
    fn from(waits: &WaitsFor) -> Self {
        Self { kind: waits.kind(), text: waits.text(), job_id: waits.holder().map(|holder| holder.id) }
    }
}

/// The host whose agent runs a job for another.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunnerView {
    /// Which.
    #[schema(value_type = String)]
    pub id: HostId,
    /// Its name.
    pub name: String,
}

/// Who asked for something.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActorView {
    /// In which role.
    pub kind: ActorKind,
    /// Their id; null for the system.
    pub id: Option<String>,
    /// Their name; null for the system.
    pub name: Option<String>,
}

impl JobView {
    /// A job as the API shows it, with its latest progress.
    #[must_use]
    pub fn of(job: Job, waits_for: Option<&WaitsFor>, hub: &Hub) -> Self {
        let progress = if job.status == JobStatus::Running { hub.latest_progress(job.id) } else { None };
        let way = job.way();
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        let actor = ActorView { kind: job.actor.kind, id: some(job.actor.id), name: some(job.actor.name) };
        let (host_id, host_name, runner) = match job.about {
            Some((id, name)) => (id, name, Some(RunnerView { id: job.host_id, name: job.host_name })),
            None => (job.host_id, job.host_name, None),
        };
        Self {
            id: job.id,
            host_id,
            host_name,
            runner,
            way,
            site_id: job.site_id,
            kind: job.kind,
            status: job.status,
            actor,
            schedule_id: job.schedule_id,
            scheduled_at: job.scheduled_at,
            ran_alone: job.ran_alone,
            plan_id: job.plan_id,
            plan_name: job.plan_name,
            repo_id: job.repo_id,
            repo_name: job.repo_name,
            rerun_of: job.rerun_of,
            rerun_as: job.rerun_as,
            waits_for: waits_for.map(WaitsForView::from),
            created_at: job.created_at,
            expires_at: job.expires_at,
            timeout_s: job.timeout_s,
            started_at: job.started_at,
            finished_at: job.finished_at,
            cancellable: match job.status {
                JobStatus::Queued | JobStatus::Running => true,
                JobStatus::Lost => hub.goes_on(job.id),
                _ => false,
            },
            cancel_requested_at: job.cancel_requested_at,
            exit_code: job.exit_code,
            error: job.error,
            progress,
            summary: job.summary,
            log_lines: job.log_lines,
            log_truncated: job.log_truncated,
            log_removed_at: job.log_removed_at,
            aftermath: job.aftermath,
        }
    }
}

/// Which jobs to list. All given conditions hold.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// About this host, or run by its agent.
    #[param(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// Of this plan.
    #[param(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// On this repository.
    #[param(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// In this state.
    #[param(value_type = Option<String>)]
    pub status: Option<JobStatus>,
    /// Of this kind.
    #[param(value_type = Option<String>)]
    pub kind: Option<JobKind>,
    /// At most so many: 1 to 1000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<JobId>,
}

/// `GET /api/jobs`: newest first.
///
/// # Errors
/// 400 or 422 for a query that does not fit.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(JobQuery), responses((status = 200, body = List<JobView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<JobQuery>,
) -> Result<Answer<List<JobView>>, HttpError> {
    let limit = api::limit(query.limit)?.min(999);
    let JobQuery { host_id, plan_id, repo_id, status, kind, after, .. } = query;
    let filter = JobFilter { host_id, plan_id, repo_id, status, kind, before: after, limit: limit + 1 };
    let (rules, now, hub) = (state.settings.queue, state.clock.now(), state.hub.clone());
    let (rows, waits) = state
        .store
        .read(move |db| {
            let rows = jobs::list(db, &filter)?;
            let waits = jobs::waits_for(db, &rows, (rules, now), |host| hub.is_online(host))?;
            Ok::<_, StoreError>((rows, waits))
        })
        .await?;
    let view = |job: Job| {
        let waits_for = waits.get(&job.id);
        JobView::of(job, waits_for, &state.hub)
    };
    Ok(Answer(List::page(rows, limit, |job| job.id.to_string(), view)))
}

/// `GET /api/jobs/{id}`.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = String, Path,)),
    responses((status = 200, body = JobView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<JobId>) -> Result<Answer<JobView>, HttpError> {
    let (rules, now, hub) = (state.settings.queue, state.clock.now(), state.hub.clone());
    let found = state
        .store
        .read(move |db| {
            let Some(job) = jobs::lookup(db, id)? else { return Ok(None) };
            let mut waits = jobs::waits_for(db, std::slice::from_ref(&job), (rules, now), |host| hub.is_online(host))?;
            Ok::<_, StoreError>(Some((job, waits.remove(&id))))
        })
        .await?;
    let (job, waits_for) = found.ok_or_else(|| HttpError::not_found("such job"))?;
    Ok(Answer(JobView::of(job, waits_for.as_ref(), &state.hub)))
}

/// Which lines of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Lines after this one; from the start where absent.
    #[serde(default)]
    pub after: u32,
    /// At most so many: 1 to 10000; 1000 where absent.
    pub limit: Option<u32>,
}

/// A page of a log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogPage {
    /// Lines, in order, without a gap.
    pub lines: Vec<LineView>,
    /// What to send as `after` for the next page; null where there is no more yet.
    pub next: Option<u32>,
    /// When the lines were removed by the retention of logs; null while they are there.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub removed_at: Option<Timestamp>,
}

/// A line of a log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineView {
    /// Number within the job, from 1.
    pub seq: u32,
    /// When, by the agent's clock.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `stdout`, `stderr` or `system`.
    #[schema(value_type = String)]
    pub stream: Stream,
    /// The text, without its line break.
    pub text: String,
}

/// `GET /api/jobs/{id}/log`.
///
/// # Errors
/// 404, or 422 for a limit that does not do.
#[utoipa::path(get, path = "/api/jobs/{id}/log", tag = "jobs", params(("id" = String, Path,), LogQuery),
    responses((status = 200, body = LogPage), (status = 404, body = Problem)))]
pub async fn log(
    State(state): State<AppState>,
    Id(id): Id<JobId>,
    Query(query): Query<LogQuery>,
) -> Result<Answer<LogPage>, HttpError> {
    let limit = query.limit.unwrap_or(1000);
    if !(1..=MAX_LINES).contains(&limit) {
        return Err(HttpError::invalid_field("limit", format!("must be 1 to {MAX_LINES}")));
    }
    let found = state
        .store
        .read(move |db| {
            let Some(route) = jobs::route(db, id)? else { return Ok(None) };
            let removed_at = retention::removed_at(db, route.no)?;
            // Half way through a removal some are still there.
            let lines = if removed_at.is_some() { Vec::new() } else { logs::page(db, route.no, query.after, limit)? };
            Ok::<_, StoreError>(Some((route.log_lines, lines, removed_at)))
        })
        .await?;
    let (stored, lines, removed_at) = found.ok_or_else(|| HttpError::not_found("such job"))?;
    let next = lines.last().map(|line| line.seq).filter(|last| *last < stored);
    let lines = lines
        .into_iter()
        .map(|line| LineView { seq: line.seq, at: line.at, stream: line.stream, text: line.text })
        .collect();
    Ok(Answer(LogPage { lines, next, removed_at }))
}

/// `GET /api/jobs/{id}/log.txt`: the whole log as text, streamed page by page.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/jobs/{id}/log.txt", tag = "jobs", params(("id" = String, Path,)),
    responses((status = 200, description = "The log, one line each", content_type = "text/plain"), (status = 404, body = Problem)))]
pub async fn log_text(State(state): State<AppState>, Id(id): Id<JobId>) -> Result<Response, HttpError> {
    let found = state
        .store
        .read(move |db| {
            let Some(route) = jobs::route(db, id)? else { return Ok(None) };
            let removed_at = retention::removed_at(db, route.no)?;
            Ok::<_, StoreError>(Some((route, removed_at)))
        })
        .await?;
    let (route, removed_at) = found.ok_or_else(|| HttpError::not_found("such job"))?;
    if let Some(at) = removed_at {
        let text = format!("The log was removed on {at} by the retention of logs ({} lines).\n", route.log_lines);
        return text_answer(id, Body::from(text));
    }
    // Up to what is there now: a running job must not make a download without end.
    let body = Body::from_stream(stream::try_unfold(
        TextCursor { store: state.store.clone(), job: route.no, after: 0, end: route.log_lines },
        TextCursor::step,
    ));
    text_answer(id, body)
}

fn text_answer(id: JobId, body: Body) -> Result<Response, HttpError> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let name = HeaderValue::try_from(format!("inline; filename=\"job-{id}.log\"")).map_err(HttpError::internal)?;
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

struct TextCursor {
    store: Store,
    job: JobNo,
    after: u32,
    end: u32,
}

impl TextCursor {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let (job, after, limit) = (self.job, self.after, TEXT_STEP.min(self.end - self.after));
        if limit == 0 {
            return Ok(None);
        }
        let lines = self.store.read(move |db| logs::page(db, job, after, limit)).await?;
        let Some(last) = lines.last().map(|line| line.seq) else { return Ok(None) };
        let mut text = String::with_capacity(lines.iter().map(|line| line.text.len() + 1).sum());
        for line in &lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        self.after = last;
        Ok(Some((text.into(), self)))
    }
}
