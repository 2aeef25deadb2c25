//! How jobs move. Every transition is one guarded UPDATE that names the states it may leave, so that two events can't both win;
//! which moves exist at all is stated in [`crate::domain::job`].

use rusqlite::{Connection, params};

use super::{lookup, route};
use crate::{
    domain::{
        HostId, JobId, JobStatus, Timestamp,
        event::{self, Event, LiveFrame},
        job::{End, Transitions as _},
    },
    store::{
        StoreError, WriteTx, aftermath, listings,
        rows::{parsed, time, time_opt, to_json},
        snapshots, statuses,
    },
};

/// The agent has the order.
///
/// # Errors
/// [`StoreError`].
pub fn accepted(tx: &mut WriteTx<'_>, id: JobId, host: HostId) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "UPDATE jobs SET accepted_at = coalesce(accepted_at, ?3) WHERE id = ?1 AND host_id = ?2 AND status = 'queued'",
        )?
        .execute(params![id.to_string(), host.to_string(), tx.now().unix_ms()])?;
    Ok(())
}

/// Opens a job again that was cancelled or given up here on the belief that no agent had it, where its agent names it all the same: it came over a connection that
/// broke, or was begun alone. What is told of it must be what happens to it; a wish to cancel it stands. Returns whether it was one.
///
/// # Errors
/// [`StoreError`].
pub fn reopen_untaken(tx: &mut WriteTx<'_>, id: JobId, host: HostId) -> Result<bool, StoreError> {
    let reopened = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = 'queued', finished_at = NULL, error = NULL, expires_at = NULL,
                    cancel_requested_at = CASE status WHEN 'cancelled' THEN ?3 ELSE cancel_requested_at END
             WHERE id = ?1 AND host_id = ?2 AND status IN ('cancelled', 'failed') AND accepted_at IS NULL AND started_at IS NULL",
        )?
        .execute(params![id.to_string(), host.to_string(), tx.now().unix_ms()])?;
    if let Some(route) = super::route(tx.db(), id)?.filter(|_| reopened > 0) {
        tx.forget_tail(route.no);
        tx.publish(Event::Queue);
    }
    Ok(reopened > 0)
}

/// Whether [`reopen_untaken`] would open it.
///
/// # Errors
/// [`StoreError`].
pub fn ended_untaken(db: &Connection, id: JobId, host: HostId) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM jobs WHERE id = ?1 AND host_id = ?2 AND status IN ('cancelled', 'failed') AND accepted_at IS NULL AND started_at IS NULL",
    )?;
    Ok(statement.exists([id.to_string(), host.to_string()])?)
}

/// The process runs. Returns whether this was news. `at` is by the agent's clock, which may be wrong: it is brought between the order and now.
/// A job that was given up as lost stays so until its true end; when it started is kept.
///
/// # Errors
/// [`StoreError`].
pub fn started(
    tx: &mut WriteTx<'_>,
    id: JobId,
    host: HostId,
    at: Timestamp,
    frame: bytes::Bytes,
) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = iif(status = 'queued', 'running', status), started_at = max(created_at, min(?3, ?4)),
                             accepted_at = coalesce(accepted_at, ?4)
             WHERE id = ?1 AND host_id = ?2 AND (status = 'queued' OR status = 'lost' AND started_at IS NULL)",
        )?
        .execute(params![id.to_string(), host.to_string(), at.unix_ms(), tx.now().unix_ms()])?;
    if changed > 0 {
        tx.publish(Event::Job { id, frame: LiveFrame::State(frame) });
    }
    Ok(changed > 0)
}

/// What became of a reported end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is on disk.
    Recorded,
    /// The job was over already.
    Already,
    /// Lines are missing: this is the last one here.
    MissingLines(u32),
    /// No such job of this host.
    Unknown,
}

/// Ends a job of `host`. With `last_seq` the end counts only if all lines up to it are here.
///
/// # Errors
/// [`StoreError`].
pub fn finish(
    tx: &mut WriteTx<'_>,
    id: JobId,
    host: HostId,
    end: &End,
    last_seq: Option<u32>,
) -> Result<Ended, StoreError> {
    let Some(route) = route(tx.db(), id)?.filter(|route| route.host_id == host) else { return Ok(Ended::Unknown) };
    if !route.status.can_become(end.status) {
        return Ok(Ended::Already);
    }
    if last_seq.is_some_and(|last| last > route.log_lines) {
        return Ok(Ended::MissingLines(route.log_lines));
    }
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = ?2, finished_at = max(coalesce(started_at, created_at), min(?3, ?9)), exit_code = ?4, error = ?5, summary = ?6, log_truncated = ?7, secrets = NULL
             WHERE no = ?1 AND status = ?8",
        )?
        .execute(params![
            route.no.0,
            end.status.as_str(),
            end.at.unix_ms(),
            end.exit_code,
            end.error,
            end.summary.as_ref().map(to_json).transpose()?,
            end.log_truncated,
            route.status.as_str(),
            tx.now().unix_ms(),
        ])?;
    if changed == 0 {
        return Ok(Ended::Already);
    }
    tx.forget_tail(route.no);
    if matches!(end.status, JobStatus::Succeeded | JobStatus::Warning) {
        tx.db()
            .prepare_cached(
                "UPDATE repos SET known_at = ?2 WHERE id = (SELECT repo_id FROM jobs WHERE no = ?1) AND known_at IS NULL",
            )?
            .execute([route.no.0, tx.now().unix_ms()])?;
    }
    snapshots::of_backup(tx, route.no)?;
    statuses::of_check(tx, route.no, end)?;
    aftermath::begin(tx, route.no)?;
    if listings::note(tx, route.no)? {
        tx.publish(Event::Records);
    }
    let frame = event::finished_frame(id, route.log_lines, end);
    tx.publish(Event::Job { id, frame: LiveFrame::Finished(frame) });
    tx.publish(Event::Queue);
    Ok(Ended::Recorded)
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not reached its host; it is over.
    AtOnce,
    /// Its host will be told.
    Requested,
    /// It was over.
    Over,
    /// No such job.
    Unknown,
}

/// Notes that a job is to stop, and ends it where no agent has it.
///
/// # Errors
/// [`StoreError`].
pub fn request_cancel(tx: &mut WriteTx<'_>, id: JobId) -> Result<Cancelled, StoreError> {
    let Some(job) = lookup(tx.db(), id)? else { return Ok(Cancelled::Unknown) };
    if job.status.is_final() {
        return Ok(Cancelled::Over);
    }
    if job.status == JobStatus::Queued && job.dispatched_at.is_none() && job.accepted_at.is_none() {
        finish(tx, id, job.host_id, &cancelled_unsent(tx.now()), None)?;
        return Ok(Cancelled::AtOnce);
    }
    tx.db()
        .prepare_cached("UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE no = ?1")?
        .execute([job.no.0, tx.now().unix_ms()])?;
    tx.publish(Event::Queue);
    Ok(Cancelled::Requested)
}

/// Notes that a job that counts as lost is to stop: for one whose agent is back with it. It stays lost until its true end. Returns whether it is lost.
///
/// # Errors
/// [`StoreError`].
pub fn request_cancel_of_lost(tx: &mut WriteTx<'_>, id: JobId) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE id = ?1 AND status = 'lost'",
        )?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    tx.publish(Event::Queue);
    Ok(changed > 0)
}

/// Whether a job counts as lost and is to stop.
///
/// # Errors
/// [`StoreError`].
pub fn is_lost_and_unwanted(db: &Connection, id: JobId) -> Result<bool, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1 AND status = 'lost' AND cancel_requested_at IS NOT NULL")?;
    Ok(statement.exists([id.to_string()])?)
}

/// The end of a job that is cancelled before any agent had it.
pub(super) fn cancelled_unsent(at: Timestamp) -> End {
    End {
        status: JobStatus::Cancelled,
        at,
        exit_code: None,
        error: Some("cancelled before it reached its host".to_owned()),
        summary: None,
        log_truncated: false,
    }
}

pub(super) const EXPIRED: &str = "SELECT j.id, j.host_id, h.name AS host_name, h.last_seen_at, j.created_at, j.expires_at, j.dispatched_at, j.timeout_s,
    j.accepted_at, j.cancel_requested_at IS NOT NULL AS stopping
    FROM jobs j CROSS JOIN hosts h ON h.id = j.host_id
    WHERE j.status IN ('queued', 'running') AND j.status = 'queued' AND j.accepted_at IS NULL AND j.expires_at <= ?1";
pub(super) const TAKEN: &str = "SELECT j.id, j.host_id, h.name AS host_name, h.last_seen_at, j.created_at, j.expires_at, j.dispatched_at, j.timeout_s,
    j.accepted_at, j.cancel_requested_at IS NOT NULL AS stopping
    FROM jobs j CROSS JOIN hosts h ON h.id = j.host_id
    WHERE j.status IN ('queued', 'running') AND (j.status = 'running' OR j.accepted_at IS NOT NULL)";

/// A job that may have to be given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubtful {
    /// Which.
    pub id: JobId,
    /// Where.
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// When its agent was last heard; `None`: never.
    pub last_seen_at: Option<Timestamp>,
    /// When someone asked for it.
    pub created_at: Timestamp,
    /// When it is given up, if no agent has taken it.
    pub expires_at: Option<Timestamp>,
    /// When it was sent to its host.
    pub dispatched_at: Option<Timestamp>,
    /// When its agent took it.
    pub accepted_at: Option<Timestamp>,
    /// Seconds until its agent stops it.
    pub timeout_s: u64,
    /// Someone asked for it to stop.
    pub stopping: bool,
}

fn doubtful(row: &rusqlite::Row<'_>) -> rusqlite::Result<Doubtful> {
    Ok(Doubtful {
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        host_name: row.get("host_name")?,
        last_seen_at: time_opt(row, "last_seen_at")?,
        created_at: time(row, "created_at")?,
        expires_at: time_opt(row, "expires_at")?,
        dispatched_at: time_opt(row, "dispatched_at")?,
        accepted_at: time_opt(row, "accepted_at")?,
        timeout_s: row.get::<_, i64>("timeout_s")?.unsigned_abs(),
        stopping: row.get("stopping")?,
    })
}

/// Queued jobs that no agent took in their time.
///
/// # Errors
/// [`StoreError`].
pub fn expired(db: &Connection, now: Timestamp) -> Result<Vec<Doubtful>, StoreError> {
    let mut statement = db.prepare_cached(EXPIRED)?;
    Ok(statement.query_map([now.unix_ms()], doubtful)?.collect::<Result<_, _>>()?)
}

/// Jobs that an agent has.
///
/// # Errors
/// [`StoreError`].
pub fn taken(db: &Connection) -> Result<Vec<Doubtful>, StoreError> {
    let mut statement = db.prepare_cached(TAKEN)?;
    Ok(statement.query_map([], doubtful)?.collect::<Result<_, _>>()?)
}
