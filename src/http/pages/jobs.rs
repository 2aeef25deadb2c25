//! The list of jobs, a job with its log, and what can be done with one.

use std::str::FromStr;

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{JobId, JobStatus, Line, LineText, Stream, Timestamp, job::Job},
    http::{
        HttpError,
        api::job_orders::may_repeat,
        extract::{FormFields, Id, Query},
        pages::Ui,
    },
    ops::{
        jobs::{self as ops, Again, Desk},
        sites,
    },
    paths,
    store::{
        Connection, StoreError, StoredLine, hosts,
        hosts::HostFilter,
        jobs::{self, Cancelled, JobFilter},
        logs, waves,
    },
    views::{
        components::{HostRef, JobList, Tone},
        job::{JobHeader, JobLog, JobPage},
        jobs::{JobFilter as FilterView, JobsPage, JobsTable},
    },
};

/// Jobs on one page.
const PAGE: u32 = 50;
/// Kinds to filter by.
const KINDS: [&str; 7] = ["backup", "restore", "check", "unlock", "snapshots", "stats", "init"];
/// Lines of standard error that a failed job's header shows, and how far back they are looked for.
const ERROR_LINES: usize = 10;
const ERROR_WINDOW: u32 = 200;
/// Lines that are looked at together in search of a step.
const LINES_AT_ONCE: u32 = 1_000;

/// The filters, as the address has them; empty means any.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct JobsQuery {
    status: String,
    kind: String,
    host: String,
    after: String,
    fragment: Option<String>,
}

fn parsed<T: FromStr>(text: &str, name: &str) -> Result<Option<T>, HttpError> {
    let refused = |_| HttpError::bad_request(format!("{text:?} is no {name}: choose one from the list."));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(refused) }
}

/// The jobs that match, with what the queued ones wait for: the open jobs are looked at once, and only where one of these is queued.
pub(super) fn listed(
    db: &Connection,
    (desk, now): (&Desk, Timestamp),
    filter: &JobFilter,
) -> Result<JobList, StoreError> {
    let rows = jobs::list(db, filter)?;
    let waits = jobs::waits_for(db, &rows, (desk.rules, now), |host| desk.hub.is_online(host))?;
    Ok(JobList { rows, waits })
}

/// `GET /jobs`.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn list(ui: Ui, Query(query): Query<JobsQuery>) -> Result<Response, HttpError> {
    let after: Option<JobId> = parsed(&query.after, "job's id")?;
    let filter = JobFilter {
        host_id: parsed(&query.host, "host's id")?,
        status: parsed(&query.status, "state of a job")?,
        kind: parsed(&query.kind, "kind of job")?,
        before: after,
        limit: PAGE + 1,
        ..JobFilter::default()
    };
    let desk = ui.state.desk();
    let now = ui.now();
    let (mut list, hosts) = ui
        .store()
        .read(move |db| {
            let list = listed(db, (&desk, now), &filter)?;
            let hosts = hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?);
            Ok::<_, StoreError>((list, hosts.collect::<Vec<_>>()))
        })
        .await?;
    let more = list.rows.len() > PAGE as usize;
    list.rows.truncate(PAGE as usize);
    let older = list.rows.last().filter(|_| more).map(|job| job.id);
    let filter = FilterView { status: query.status, kind: query.kind, host: query.host };
    let table = JobsTable { filter, list, after, older };
    if query.fragment.is_some() {
        return ui.fragment(|shell| table.render(shell)).await;
    }
    let hosts = hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect();
    ui.show(&JobsPage { table, hosts, kinds: KINDS.map(str::to_owned).to_vec() }).await
}

/// Which part of the page, or of the log.
#[derive(Debug, Deserialize)]
pub struct JobQuery {
    fragment: Option<String>,
    from: Option<u32>,
    /// Leads to where this step of a runbook begins in the log.
    step: Option<u32>,
}

/// `GET /jobs/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<JobId>, Query(query): Query<JobQuery>) -> Result<Response, HttpError> {
    if let Some(step) = query.step {
        let found = ui.store().read(move |db| step_in_log(db, id, step)).await?;
        let line = found.ok_or_else(|| HttpError::not_found("such job"))?;
        return Ok(ui.go(&line.map_or_else(|| paths::job(id), |line| paths::job_line(id, line))));
    }
    let header_only = query.fragment.is_some();
    let (desk, now) = (ui.state.desk(), ui.now());
    let loaded = ui.store().read(move |db| load(db, (&desk, now), id, query.from, header_only)).await?;
    let (header, log) = loaded.ok_or_else(|| HttpError::not_found("such job"))?;
    match log {
        Some(log) => ui.show(&JobPage { header, log }).await,
        None => ui.fragment(|shell| header.render(shell)).await,
    }
}

fn load(
    db: &Connection,
    (desk, now): (&Desk, Timestamp),
    id: JobId,
    from: Option<u32>,
    header_only: bool,
) -> Result<Option<(JobHeader, Option<JobLog>)>, StoreError> {
    let Some(job) = jobs::lookup(db, id)? else { return Ok(None) };
    let ended_badly = matches!(job.status, JobStatus::Failed | JobStatus::Warning | JobStatus::Lost);
    let error_lines = if ended_badly { last_errors(db, &job)? } else { Vec::new() };
    let log = if header_only { None } else { Some(log_of(db, &job, from)?) };
    // What a runbook does has nothing to do with restic.
    let host = if job.input.runbook.is_some() { None } else { hosts::lookup(db, job.host_id)? };
    let online = |host| desk.hub.is_online(host);
    let waits_for = jobs::waits_for(db, std::slice::from_ref(&job), (desk.rules, now), online)?.remove(&id);
    let header = JobHeader {
        restic_version: host.and_then(|host| host.restic_version),
        progress: desk.hub.latest_progress(id).filter(|_| !job.status.is_final()),
        waits_for,
        is_online: desk.hub.is_online(job.host_id),
        goes_on: job.status == JobStatus::Lost && desk.hub.goes_on(id),
        error_lines,
        discovered: sites::cards(db, &job)?,
        wave: waves::of_job(db, id)?,
        job,
    };
    Ok(Some((header, log)))
}

/// The line with which a step begins: looked for in the whole log, and only when someone asks. The outer `None`: there is no such job.
fn step_in_log(db: &Connection, id: JobId, step: u32) -> Result<Option<Option<u32>>, StoreError> {
    let Some(job) = jobs::lookup(db, id)? else { return Ok(None) };
    let head = format!("=== [Step {step}/");
    let mut after = 0;
    while job.log_removed_at.is_none() && after < job.log_lines {
        let lines = logs::page(db, job.no, after, LINES_AT_ONCE)?;
        let is_head = |line: &&StoredLine| line.stream == Stream::System && line.text.starts_with(&head);
        if let Some(line) = lines.iter().find(is_head) {
            return Ok(Some(Some(line.seq)));
        }
        let Some(last) = lines.last() else { break };
        after = last.seq;
    }
    Ok(Some(None))
}

/// The last lines, or those around where the reader wants to start.
fn log_of(db: &Connection, job: &Job, from: Option<u32>) -> Result<JobLog, StoreError> {
    let after = match from {
        // A little before it, so that the line stands in its context.
        Some(from) => from.saturating_sub(20).min(job.log_lines.saturating_sub(1)),
        None => job.log_lines.saturating_sub(JobLog::LINES),
    };
    let lines = match job.log_removed_at {
        Some(_) => Vec::new(),
        None => logs::page(db, job.no, after, JobLog::LINES)?.into_iter().map(line).collect(),
    };
    Ok(JobLog {
        job_id: job.id,
        lines,
        from,
        total: job.log_lines,
        truncated: job.log_truncated,
        removed_at: job.log_removed_at,
        is_final: job.status.is_final(),
    })
}

fn last_errors(db: &Connection, job: &Job) -> Result<Vec<Line<'static>>, StoreError> {
    let mut lines = logs::page(db, job.no, job.log_lines.saturating_sub(ERROR_WINDOW), ERROR_WINDOW)?;
    lines.retain(|line| line.stream == Stream::Stderr);
    let skip = lines.len().saturating_sub(ERROR_LINES);
    Ok(lines.into_iter().skip(skip).map(line).collect())
}

fn line(stored: StoredLine) -> Line<'static> {
    let StoredLine { seq, at, stream, text } = stored;
    Line { seq, at, stream, text: LineText(text.into()) }
}

/// `POST /jobs/{id}/cancel`.
///
/// # Errors
/// 404; 409 where it is over.
pub async fn cancel(ui: Ui, Id(id): Id<JobId>) -> Result<Response, HttpError> {
    let done = ops::cancel(&ui.state.desk(), ui.actor(), id).await?;
    let host = ui.store().read(move |db| jobs::route(db, id)).await?.map(|route| route.host_id);
    let news = match done {
        Cancelled::AtOnce => "Cancelled before it reached its host.",
        _ if host.is_some_and(|host| ui.state.hub.is_online(host)) => "Asked to stop: the agent ends it in good order.",
        _ => {
            "Noted: its host is offline, and only its agent knows how far the job is. It is told to stop as soon as it is back."
        }
    };
    Ok(ui.go_saying(&paths::job(id), Tone::Ok, news))
}

/// `POST /jobs/{id}/rerun`: leads to the new job.
///
/// # Errors
/// 404; 409 where it is not over; 422 where it can't be done again as it was.
pub async fn rerun(ui: Ui, Id(id): Id<JobId>, fields: FormFields) -> Result<Response, HttpError> {
    may_repeat(&ui.state, &ui.user, id).await?;
    let confirm = Some(fields.text("confirm").trim().to_owned()).filter(|name| !name.is_empty());
    let job = ops::rerun(&ui.state.desk(), ui.actor(), id, Again { params: None, confirm }).await?;
    Ok(ui.go(&paths::job(job)))
}
