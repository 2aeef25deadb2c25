//! A job's live log in the browser: first every stored line after the one asked for, then live ones, without a gap or a repeat between the two.
//!
//! The subscription is taken before the store is read, so nothing falls between; live frames that the store already gave are skipped. While stored
//! lines are still being sent, a lag only means more to read. Once live, lines that a slow browser lost are told by `log.gap`, and fetched by it
//! from the log endpoint. Nobody else waits for it, and after [`PATIENCE`] without a byte taken it is dropped.

mod viewer;

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    domain::JobId,
    http::{
        AppState, HttpError, Problem,
        extract::{Id, Query},
    },
    store::jobs,
};

pub use viewer::PATIENCE;

/// Where to start.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Lines after this one; from the start where absent.
    #[serde(default)]
    pub after: u32,
}

/// `GET /api/jobs/{id}/stream`: a WebSocket of envelopes: `job.started`, `job.progress`, `log.stream`, `log.gap`, `job.finished`.
///
/// # Errors
/// 404 for an unknown job; 426 for a request that is no WebSocket's.
#[utoipa::path(get, path = "/api/jobs/{id}/stream", tag = "jobs", params(("id" = String, Path,), StreamQuery),
    responses((status = 101, description = "A WebSocket of envelopes"), (status = 404, body = Problem), (status = 426, body = Problem)))]
pub async fn stream(
    State(state): State<AppState>,
    Id(id): Id<JobId>,
    Query(query): Query<StreamQuery>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    if state.store.read(move |db| jobs::route(db, id)).await?.is_none() {
        return Err(HttpError::not_found("such job"));
    }
    let upgrade = upgrade.map_err(|_| {
        let detail = "This address is a WebSocket: open it with one. The stored log is at /log and /log.txt.";
        HttpError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "A WebSocket is needed", detail)
            .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    })?;
    // Browsers say nothing here but close and pong; a thousand of them must cost little. What is sent grows its buffer only as far as it is used, and
    // a burst of frames should leave in one write.
    let upgrade =
        upgrade.read_buffer_size(1024).write_buffer_size(32 * 1024).max_message_size(4096).max_frame_size(4096);
    Ok(upgrade.on_upgrade(async move |socket| {
        let tasks = state.tasks.clone();
        tasks.spawn(viewer::run(state, id, query.after, socket));
    }))
}
