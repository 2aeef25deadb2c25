//! What machines ask about the server itself: is it alive, can it work, what does it count, how is it spoken to.

use std::{fmt::Write as _, time::Instant};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    domain::{JobStatus, Timestamp},
    http::{AppState, CurrentUser, HttpError, api::openapi},
    store::{StoreError, hosts, jobs},
};

/// `GET /healthz`: the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database takes writes.
///
/// # Errors
/// 503 while it does not.
pub async fn readyz(State(state): State<AppState>) -> Result<&'static str, HttpError> {
    // Anyone may ask, and each probe is a write: a success is believed for a second.
    if !state.readiness.is_fresh(Instant::now()) {
        state.store.probe_write().await.map_err(HttpError::unavailable)?;
        state.readiness.note(Instant::now());
    }
    Ok("ok\n")
}

/// `GET /api/openapi.json`: the document, in full.
#[utoipa::path(get, path = "/api/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "This document", content_type = "application/json")))]
pub async fn openapi_json() -> Result<Response, HttpError> {
    let text = openapi::document().to_json().map_err(HttpError::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

/// Who asks.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Me {
    /// The account.
    #[schema(value_type = String)]
    pub id: crate::domain::UserId,
    /// Its name.
    pub name: String,
    /// What this session or token may do.
    pub role: crate::domain::user::Role,
}

/// `GET /api/me`: who asks, as the server sees it.
#[utoipa::path(get, path = "/api/me", tag = "accounts", responses((status = 200, body = Me)))]
pub async fn me(user: CurrentUser) -> axum::Json<Me> {
    axum::Json(Me { id: user.id, name: user.name.to_string(), role: user.role })
}

/// `GET /metrics`: Prometheus text.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn metrics(State(state): State<AppState>) -> Result<Response, HttpError> {
    let (hosts, jobs) = state
        .store
        .read(|db| Ok::<_, StoreError>((hosts::count(db)?, jobs::counts(db, Timestamp::from_unix_ms(0))?)))
        .await?;
    let online = state.hub.online().len();
    let mut out = String::with_capacity(2048);
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, f64)]| {
        // Writing to a String cannot fail.
        write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
        for (labels, value) in samples {
            writeln!(out, "{name}{labels} {value}").ok();
        }
    };
    let plain = |value: f64| vec![(String::new(), value)];
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    metric("flotilla_build_info", "gauge", "The version that runs.", &[(version, 1.0)]);
    metric("flotilla_hosts", "gauge", "Hosts that were not removed.", &plain(hosts as f64));
    metric("flotilla_hosts_online", "gauge", "Hosts whose agent is connected.", &plain(online as f64));
    let by_status: Vec<(String, f64)> = JobStatus::ALL
        .into_iter()
        .map(|status| {
            let n = jobs.iter().filter(|(of, _)| *of == status).map(|(_, n)| n).sum::<u64>();
            (format!("{{status=\"{status}\"}}"), n as f64)
        })
        .collect();
    metric("flotilla_jobs", "gauge", "Jobs by status.", &by_status);
    metric("flotilla_watched_jobs", "gauge", "Jobs that a browser watches.", &plain(state.hub.watched_jobs() as f64));
    let started = state.started_at.unix_ms() as f64 / 1000.0;
    metric("process_start_time_seconds", "gauge", "When the server started, Unix time.", &plain(started));
    if let Some(bytes) = resident_bytes() {
        metric("process_resident_memory_bytes", "gauge", "Memory in use.", &plain(bytes as f64));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
