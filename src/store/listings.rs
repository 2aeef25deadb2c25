//! Records in the logs of finished jobs: which jobs' records are yet to be taken into the index, and reading records page by page. A list is whole if its
//! job ended well, its log was not cut, and it holds as many records as its end counted.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        JobId, JobKind, JobStatus, Operation, Record, RepoId, Stream, Timestamp,
        job::{JobInput, JobNo},
    },
    store::{
        StoreError, WriteTx, logs,
        rows::{json, json_opt, parsed, parsed_opt, time, time_opt},
    },
};

/// Lines that one reading looks at: bounds its time where records lie far apart.
const WINDOW: u32 = 20_000;

/// Kinds whose end changes the index, or is the list that it is made of.
#[must_use]
pub fn concerns_index(kind: &JobKind) -> bool {
    matches!(
        kind,
        JobKind::Snapshots
            | JobKind::Ls
            | JobKind::Diff
            | JobKind::Forget
            | JobKind::Prune
            | JobKind::Tag
            | JobKind::Copy
            | JobKind::Repair
    )
}

/// A job whose records are to be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// Number within the store.
    pub no: JobNo,
    /// Which.
    pub id: JobId,
    /// What it did.
    pub kind: JobKind,
    /// How it ended.
    pub status: JobStatus,
    /// On which repository.
    pub repo_id: Option<RepoId>,
    /// Its details.
    pub operation: Option<Operation>,
    /// When it can have begun, at the earliest, by this server's clock.
    pub from: Timestamp,
    /// It began at all.
    pub began: bool,
    /// How many records there are, if its end says so and its log was not cut.
    pub count: Option<u64>,
}

/// The first jobs whose records are to be taken, in the order in which they were made.
///
/// # Errors
/// [`StoreError`].
pub fn due(db: &Connection, limit: u32) -> Result<Vec<Due>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT no, id, kind, status, repo_id, input, created_at, dispatched_at, started_at, summary, log_truncated
         FROM jobs WHERE records_due = 1 ORDER BY no LIMIT ?1",
    )?;
    Ok(statement.query_map([limit], due_of)?.collect::<Result<_, _>>()?)
}

fn due_of(row: &Row<'_>) -> rusqlite::Result<Due> {
    let (created, started) = (time(row, "created_at")?, time_opt(row, "started_at")?);
    let from = [time_opt(row, "dispatched_at")?, started].into_iter().flatten().min().unwrap_or(created);
    let input: JobInput = json(row, "input")?;
    let summary: Option<serde_json::Value> = json_opt(row, "summary")?;
    let count = summary.as_ref().and_then(|summary| summary.get("count")).and_then(serde_json::Value::as_u64);
    Ok(Due {
        no: JobNo(row.get("no")?),
        id: parsed(row, "id")?,
        kind: parsed(row, "kind")?,
        status: parsed(row, "status")?,
        repo_id: parsed_opt(row, "repo_id")?,
        operation: input.operation,
        from,
        began: started.is_some(),
        count: count.filter(|_| !row.get::<_, bool>("log_truncated").unwrap_or(true)),
    })
}

/// Notes that a job's records are to be taken.
///
/// # Errors
/// [`StoreError`].
pub(super) fn note(tx: &WriteTx<'_>, job: JobNo) -> Result<bool, StoreError> {
    let kind: Option<JobKind> = tx
        .db()
        .prepare_cached("SELECT kind FROM jobs WHERE no = ?1")?
        .query_row([job.0], |row| parsed(row, "kind"))
        .optional()?;
    if !kind.as_ref().is_some_and(concerns_index) {
        return Ok(false);
    }
    tx.db().prepare_cached("UPDATE jobs SET records_due = 1 WHERE no = ?1")?.execute([job.0])?;
    Ok(true)
}

/// Notes that a job's records were taken, or are not to be had.
///
/// # Errors
/// [`StoreError`].
pub fn taken(tx: &mut WriteTx<'_>, job: JobNo) -> Result<(), StoreError> {
    tx.db().prepare_cached("UPDATE jobs SET records_due = 0 WHERE no = ?1")?.execute([job.0])?;
    Ok(())
}

/// Whether a job's records are yet to be taken.
///
/// # Errors
/// [`StoreError`].
pub fn is_due(db: &Connection, job: JobNo) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT 1 FROM jobs WHERE no = ?1 AND records_due = 1")?;
    Ok(statement.exists(params![job.0])?)
}

/// Records of a job's log, with the numbers of their lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// The records, in order.
    pub items: Vec<(u32, Record)>,
    /// The line after which to go on; `None` at the end of the log.
    pub next: Option<u32>,
}

/// Up to `limit` records after line `after`. May be fewer while there are more: `next` decides.
///
/// # Errors
/// [`StoreError`].
pub fn records(db: &Connection, job: JobNo, after: u32, limit: usize) -> Result<Records, StoreError> {
    let mut items = Vec::new();
    let mut seq = after;
    while seq - after < WINDOW {
        let lines = logs::page(db, job, seq, WINDOW.min(logs::MAX_PAGE))?;
        let Some(last) = lines.last().map(|line| line.seq) else { return Ok(Records { items, next: None }) };
        for line in &lines {
            seq = line.seq;
            if line.stream == Stream::Stdout
                && let Some(record) = Record::of_line(&line.text)
            {
                items.push((seq, record));
                if items.len() >= limit {
                    return Ok(Records { items, next: Some(seq) });
                }
            }
        }
        seq = last;
    }
    Ok(Records { items, next: Some(seq) })
}
