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
        extract::{Id, Json},
    },
    ops::jobs::{self as ops, JobRequest},
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

/// Whether someone may order this job again: what may delete is for administrators.
///
/// # Errors
/// 403, or a failure; a job that is not there is the order's to refuse.
pub async fn may_repeat(state: &AppState, user: &CurrentUser, job: JobId) -> Result<(), HttpError> {
    match state.store.read(move |db| jobs::lookup(db, job)).await? {
        Some(job) => user.needs(ops::least_role_again(&job)),
        None => Ok(()),
    }
}

/// Orders the same job again, resolved anew.
///
/// # Errors
/// 404; 409 where the job is not over; 422 where it can't be done as it was.
#[utoipa::path(post, path = "/api/jobs/{id}/rerun", tag = "jobs", params(("id" = String, Path)),
    responses((status = 202, body = Ordered), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn rerun(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(job): Id<JobId>,
) -> Result<Accepted, HttpError> {
    may_repeat(&state, &user, job).await?;
    Ok(accepted(ops::rerun(&state.desk(), user.actor(), job).await?))
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
