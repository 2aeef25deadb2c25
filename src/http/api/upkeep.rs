//! `/api/repos/{id}/upkeep`: what is done for a repository again and again, and setting all of it up.

use axum::{Json as Answer, extract::State};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, PlanId, RepoId, ScheduleId, Timestamp,
        upkeep::{Line, Overview},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        extract::{Id, Json},
    },
    ops::upkeep::{self as ops, Wish},
    store::{StoreError, repos},
};

/// The upkeep of a repository.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UpkeepView {
    /// Within how many days all data is read by checks; null: only the structure is checked.
    pub check_days: Option<u32>,
    /// The part of the data that the next check reads, such as `3/28`; null where none is due or it reads none.
    pub next_part: Option<String>,
    /// Where forget and prune run; null: wherever they are ordered.
    #[schema(value_type = Option<String>)]
    pub maintenance_host_id: Option<HostId>,
    /// What belongs to it: a forget for each plan that does not keep everything, prune, check, tamper test (where append-only is promised), stats, locks.
    pub duties: Vec<DutyView>,
}

/// Something that is done again and again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DutyView {
    /// The kind of its jobs.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// Of a forget: the plan whose rules it goes by.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// Why it can't be done as things are, so that it is not set up; null where it can.
    pub obstacle: Option<&'static str>,
    /// Its schedule; null where it is not done by itself.
    #[schema(value_type = Option<String>)]
    pub schedule_id: Option<ScheduleId>,
    /// When, as a cron pattern.
    pub cron: Option<String>,
    /// In which zone.
    pub timezone: Option<String>,
    /// Whether the schedule goes on.
    pub enabled: bool,
    /// When it is due next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// The last job of its kind.
    #[schema(value_type = Option<String>)]
    pub last_job_id: Option<JobId>,
    /// How that stands.
    #[schema(value_type = Option<String>)]
    pub last_status: Option<JobStatus>,
}

impl From<Line> for DutyView {
    fn from(line: Line) -> Self {
        let Line { duty, plan, obstacle, schedule, next, last } = line;
        let (plan_id, plan_name) = plan.unzip();
        let schedule_id = schedule.as_ref().map(|own| own.id);
        let schedule = schedule.map(|own| own.standing.schedule);
        Self {
            kind: duty.kind(),
            plan_id,
            plan_name,
            obstacle,
            schedule_id,
            enabled: schedule.as_ref().is_some_and(|schedule| schedule.enabled),
            cron: schedule.as_ref().map(|schedule| schedule.cron.clone()),
            timezone: schedule.map(|schedule| schedule.timezone),
            next_at: next,
            last_job_id: last.as_ref().map(|job| job.id),
            last_status: last.map(|job| job.status),
        }
    }
}

impl From<Overview> for UpkeepView {
    fn from(overview: Overview) -> Self {
        Self {
            check_days: overview.check_days,
            next_part: overview.next_part.map(|part| format!("{}/{}", part.n, part.t)),
            maintenance_host_id: overview.maintenance.map(|(id, _)| id),
            duties: overview.lines.into_iter().map(DutyView::from).collect(),
        }
    }
}

/// The upkeep of a repository as it stands.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}/upkeep", tag = "retention", params(("id" = String, Path)),
    responses((status = 200, body = UpkeepView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<RepoId>) -> Result<Answer<UpkeepView>, HttpError> {
    let now = state.clock.now();
    let found = state
        .store
        .read(move |db| match repos::lookup(db, id)? {
            Some(repo) => ops::overview(db, &repo, now).map(Some),
            None => Ok::<_, StoreError>(None),
        })
        .await?;
    Ok(Answer(found.ok_or_else(|| HttpError::not_found("such repository"))?.into()))
}

/// How upkeep is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpkeepRequest {
    /// Where what can run anywhere runs; the maintenance host where absent.
    #[schema(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// Within how many days all data is to be read; 0: only the structure is checked. Where absent it stays, or is 28.
    pub check_days: Option<u32>,
}

/// Sets up what is missing, and leaves the schedules that are there as they are: those are changed under `/api/schedules`. Doing it again changes nothing.
///
/// # Errors
/// 404; 422 where no host is known or the days do not do.
#[utoipa::path(put, path = "/api/repos/{id}/upkeep", tag = "retention", params(("id" = String, Path)), request_body = UpkeepRequest,
    responses((status = 200, body = UpkeepView), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn set_up(
    state: State<AppState>,
    user: CurrentUser,
    id: Id<RepoId>,
    Json(request): Json<UpkeepRequest>,
) -> Result<Answer<UpkeepView>, HttpError> {
    let wish = Wish { host: request.host_id, check_days: request.check_days };
    ops::set_up(&state.store, user.actor(), id.0, wish).await?;
    show(state, id).await
}
