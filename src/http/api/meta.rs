//! What machines ask about the server itself: is it alive, can it work, what does it count, how is it spoken to.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    domain::{JobStatus, Timestamp},
    http::{AppState, CurrentUser, HttpError, api::openapi},
    store::{StoreError, Vitals, hosts, jobs},
};

/// How long the store may take for a probe: whoever waits behind a full queue is not ready.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

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
        let probe = tokio::time::timeout(PROBE_DEADLINE, state.store.probe_write()).await;
        probe.map_err(HttpError::unavailable)?.map_err(HttpError::unavailable)?;
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
    let (hosts, own, jobs) = state
        .store
        .read(|db| {
            Ok::<_, StoreError>((hosts::count(db)?, hosts::own(db)?, jobs::counts(db, Timestamp::from_unix_ms(0))?))
        })
        .await?;
    let own_is_here = own.is_some_and(|own| state.hub.is_online(own.id));
    let online = state.hub.online().len().saturating_sub(usize::from(own_is_here));
    let vitals = state.store.vitals().await?;
    // A folder that can't be read now must not cost all other numbers.
    let copied_at = state.database.newest().await.unwrap_or_default();
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
    for (name, kind, help, value) in store_metrics(&vitals) {
        metric(name, kind, help, &plain(value));
    }
    if let Some(at) = copied_at {
        let age = state.clock.now().ms_since(at).max(0) as f64 / 1000.0;
        metric("flotilla_database_backup_age_seconds", "gauge", "Age of the newest copy of the database.", &plain(age));
    }
    let failed = f64::from(u8::from(state.database.trouble().await?.is_some()));
    metric(
        "flotilla_database_trouble",
        "gauge",
        "1 while the database is damaged, or its copies fail or are late.",
        &plain(failed),
    );
    let started = state.started_at.unix_ms() as f64 / 1000.0;
    metric("process_start_time_seconds", "gauge", "When the server started, Unix time.", &plain(started));
    if let Some(bytes) = resident_bytes() {
        metric("process_resident_memory_bytes", "gauge", "Memory in use.", &plain(bytes as f64));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out).into_response())
}

/// What is counted of the store: name, kind, help, value.
fn store_metrics(vitals: &Vitals) -> Vec<(&'static str, &'static str, &'static str, f64)> {
    let mut metrics = vec![
        ("flotilla_store_queue", "gauge", "Commands that wait for the writer.", vitals.queued as f64),
        (
            "flotilla_store_queue_bound",
            "gauge",
            "Commands that may wait; past that, callers wait.",
            vitals.queue_bound as f64,
        ),
        ("flotilla_store_commands_total", "counter", "Commands that the writer took.", vitals.commands as f64),
        ("flotilla_store_commits_total", "counter", "Transactions on disk.", vitals.commits as f64),
        (
            "flotilla_store_commit_failures_total",
            "counter",
            "Transactions that could not be brought to disk.",
            vitals.failures as f64,
        ),
        (
            "flotilla_store_commit_seconds_total",
            "counter",
            "Time spent in transactions, their commits included.",
            vitals.commit_s,
        ),
        ("flotilla_store_commit_seconds_max", "gauge", "The slowest transaction since the start.", vitals.slowest_s),
        ("flotilla_database_bytes", "gauge", "Size of the database file.", vitals.database_bytes as f64),
        (
            "flotilla_database_reusable_bytes",
            "gauge",
            "Bytes in it that are used again before it grows.",
            vitals.reusable_bytes as f64,
        ),
        ("flotilla_database_wal_bytes", "gauge", "Size of the write-ahead log.", vitals.wal_bytes as f64),
    ];
    if let Some(free) = vitals.disk_free {
        metrics.push(("flotilla_disk_free_bytes", "gauge", "What the database's disk still takes.", free as f64));
    }
    metrics
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
