//! Ordering jobs, repeating and cancelling them.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::Serialize;

use crate::{
    domain::{HostId, JobId},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        extract::{Id, Json, JsonIfAny},
    },
    ops::jobs::{self as ops, Again, JobRequest, Preview},
    store::jobs::{self, Cancelled},
};

/// A job that was made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Ordered {
    /// Its id: `GET /api/jobs/{job_id}` tells how it goes.
    #[schema(value_type = String)]
    pub job_id: JobId,
}

pub(super) type Accepted = (StatusCode, [(HeaderName, String); 1], Answer<Ordered>);

pub(super) fn accepted(job_id: JobId) -> Accepted {
    let location = [(header::LOCATION, format!("/api/jobs/{job_id}"))];
    (StatusCode::ACCEPTED, location, Answer(Ordered { job_id }))
}

/// Orders a job of a host. It is queued; an agent that is away gets it when it comes back, within 24 hours unless said otherwise.
/// With `"queue": false` it starts at once or is refused.
///
/// # Errors
/// 403 for what may delete (forget, prune, tag, repair, but for dry runs) where the caller is no administrator, 404 for the host, 409 where it can run nothing (`conflict`) or would have to wait and must not (`host_busy`, with the `holder`), 422 for an unknown kind or details that do not do.
#[utoipa::path(post, path = "/api/hosts/{id}/jobs", tag = "jobs", params(("id" = String, Path)), request_body = JobRequest,
    responses((status = 202, body = Ordered), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(host): Id<HostId>,
    Json(request): Json<JobRequest>,
) -> Result<Accepted, HttpError> {
    user.needs(ops::role_for(&state.desk(), &request).await?)?;
    Ok(accepted(ops::create(&state.desk(), user.actor(), host, request).await?))
}

/// What a runbook would do on a host: the same body as an order, and no job is made. Answers that an order needs are needed here.
///
/// # Errors
/// As an order; what would keep an order from being taken but leaves something to be shown stands in `problems` instead.
#[utoipa::path(post, path = "/api/hosts/{id}/preview", tag = "jobs", params(("id" = String, Path)), request_body = JobRequest,
    responses((status = 200, body = Preview), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn preview(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(host): Id<HostId>,
    Json(request): Json<JobRequest>,
) -> Result<Answer<Preview>, HttpError> {
    user.needs(ops::role_for(&state.desk(), &request).await?)?;
    Ok(Answer(ops::preview(&state.desk(), &user.actor().name, host, request).await?))
}

/// Whether someone may order this job again: what may delete is for administrators, and so is a runbook that was theirs then or is now.
///
/// # Errors
/// 403; 409 or 422 where its runbook is broken or gone; or a failure; a job that is not there is the order's to refuse.
pub async fn may_repeat(state: &AppState, user: &CurrentUser, job: JobId) -> Result<(), HttpError> {
    match state.store.read(move |db| jobs::lookup(db, job)).await? {
        Some(job) => user.needs(ops::role_again(&state.desk(), &job).await?),
        None => Ok(()),
    }
}

/// Orders the same job again, resolved anew. The body may be left out; secret answers of a runbook are not kept and stand under `params` again, and what removes or
/// replaces something is confirmed again.
///
/// # Errors
/// 404; 409 where the job is not over; 422 where it can't be done as it was.
#[utoipa::path(post, path = "/api/jobs/{id}/rerun", tag = "jobs", params(("id" = String, Path)), request_body = Option<Again>,
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn rerun(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(job): Id<JobId>,
    JsonIfAny(more): JsonIfAny<Again>,
) -> Result<Accepted, HttpError> {
    may_repeat(&state, &user, job).await?;
    Ok(accepted(ops::rerun(&state.desk(), user.actor(), job, more).await?))
}

/// What became of the wish to cancel.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CancelAccepted {
    /// Which job.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// `cancelled` where it had not reached its host; `requested` where its agent is told to stop it.
    pub state: &'static str,
}

/// Asks a job to stop. Asking again changes nothing.
///
/// # Errors
/// 404; 409 where it is over. A job that is `lost` can be asked to stop while its agent is connected and still has it.
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 202, body = CancelAccepted), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn cancel(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(job_id): Id<JobId>,
) -> Result<(StatusCode, Answer<CancelAccepted>), HttpError> {
    let state = match ops::cancel(&state.desk(), user.actor(), job_id).await? {
        Cancelled::AtOnce => "cancelled",
        Cancelled::Requested | Cancelled::Over | Cancelled::Unknown => "requested",
    };
    Ok((StatusCode::ACCEPTED, Answer(CancelAccepted { job_id, state })))
}
