//! How a host is by its last check of status, over the API.

use axum::{Json as Answer, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{
        HostId, JobId, RunbookResult, Timestamp,
        standing::{Colour, Standing},
    },
    http::{AppState, HttpError, Problem, extract::Id},
    store::{Db, StoreError, hosts, jobs, statuses},
};

/// How a host is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatusView {
    /// `red`, `yellow`, `grey` (not known), `green`.
    #[schema(value_type = String)]
    pub colour: Colour,
    /// What speaks against green, worst first.
    pub reasons: Vec<String>,
    /// When its last check ended; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<Timestamp>,
    /// The job of its last check.
    #[schema(value_type = Option<String>)]
    pub job_id: Option<JobId>,
    /// Why that failed; null where it did not.
    pub error: Option<String>,
    /// When the last check that did not fail ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub found_at: Option<Timestamp>,
    /// What that found, by name; see `check_status` among the runbooks.
    #[schema(value_type = Object)]
    pub results: serde_json::Map<String, serde_json::Value>,
}

/// `GET /api/hosts/{id}/status`.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/hosts/{id}/status", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 200, body = StatusView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<HostId>) -> Result<Answer<StatusView>, HttpError> {
    let read = move |db: &Db| {
        if hosts::lookup(db, id)?.is_none() {
            return Ok(None);
        }
        let last = statuses::of_host(db, id)?;
        let found = last.as_ref().and_then(|last| last.found.as_ref()).map(|(_, job, _)| *job);
        let summary = found.map(|job| jobs::lookup(db, job)).transpose()?.flatten().and_then(|job| job.summary);
        Ok::<_, StoreError>(Some((last, summary)))
    };
    let (last, summary) = state.store.read(read).await?.ok_or_else(|| HttpError::not_found("such host"))?;
    let Standing { colour, reasons } = Standing::of(last.as_ref(), &state.settings.status, state.clock.now());
    let result = summary.and_then(|summary| serde_json::from_value::<RunbookResult>(summary).ok()).unwrap_or_default();
    Ok(Answer(StatusView {
        colour,
        reasons,
        checked_at: last.as_ref().map(|last| last.at),
        job_id: last.as_ref().map(|last| last.job_id),
        found_at: last.as_ref().and_then(|last| last.found.as_ref().map(|(_, _, at)| *at)),
        error: last.and_then(|last| last.error),
        results: result.results,
    }))
}
