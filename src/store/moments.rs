//! Jobs by the moment of their schedule: at most one a pair, ever, which the index `jobs_by_moment` holds whatever this code does.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{HostId, JobId, ScheduleId, Timestamp, event::Event, job::Job, job::NewJob},
    store::{StoreError, WriteTx, jobs, rows::parsed},
};

/// What became of a moment's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It was made.
    New,
    /// The moment had one already.
    Had(JobId),
    /// Another job bears the id.
    Taken,
}

/// The job of a moment.
///
/// # Errors
/// [`StoreError`].
pub fn job_of(db: &Connection, schedule: ScheduleId, at: Timestamp) -> Result<Option<(JobId, HostId)>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT id, host_id FROM jobs WHERE schedule_id = ?1 AND scheduled_at = ?2")?;
    let row = statement.query_row(params![schedule.to_string(), at.unix_ms()], |row| {
        Ok((parsed(row, "id")?, parsed(row, "host_id")?))
    });
    Ok(row.optional()?)
}

/// Makes the job of a moment, unless the moment has one or the id is taken. One that ran alone was begun at its moment and not now, and its agent
/// has it.
///
/// # Errors
/// [`StoreError`].
pub fn place(tx: &mut WriteTx<'_>, job: &NewJob) -> Result<Placed, StoreError> {
    if let Some((schedule, at)) = job.moment
        && let Some((id, _)) = job_of(tx.db(), schedule, at)?
    {
        return Ok(Placed::Had(id));
    }
    if jobs::route(tx.db(), job.id)?.is_some() {
        return Ok(Placed::Taken);
    }
    let no = jobs::insert(tx, job)?;
    if let Some((_, at)) = job.moment.filter(|_| job.ran_alone) {
        tx.db()
            .prepare_cached("UPDATE jobs SET created_at = min(created_at, ?2) WHERE no = ?1")?
            .execute([no.0, at.unix_ms()])?;
        jobs::accepted(tx, job.id, job.host_id)?;
    }
    Ok(Placed::New)
}

/// Notes that the agent began by itself a job that had been made here before the connection broke. Where it was cancelled or given up here meanwhile, on
/// the belief that no agent had it, it is open again: what is told of it must be what happens to it. A wish to cancel it stands.
///
/// # Errors
/// [`StoreError`].
pub fn runs_alone(tx: &mut WriteTx<'_>, id: JobId, host: HostId) -> Result<(), StoreError> {
    let now = tx.now().unix_ms();
    let reopened = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = 'queued', finished_at = NULL, error = NULL, expires_at = NULL,
                    cancel_requested_at = CASE status WHEN 'cancelled' THEN ?3 ELSE cancel_requested_at END
             WHERE id = ?1 AND host_id = ?2 AND status IN ('cancelled', 'failed') AND accepted_at IS NULL AND started_at IS NULL",
        )?
        .execute(params![id.to_string(), host.to_string(), now])?;
    if let Some(route) = jobs::route(tx.db(), id)?.filter(|_| reopened > 0) {
        tx.forget_tail(route.no);
        tx.publish(Event::Queue);
    }
    tx.db()
        .prepare_cached("UPDATE jobs SET ran_alone = 1 WHERE id = ?1 AND host_id = ?2 AND status = 'queued' AND accepted_at IS NULL")?
        .execute([id.to_string(), host.to_string()])?;
    jobs::accepted(tx, id, host)
}

/// Whether a job of a moment ended here on the belief that no agent had it: [`runs_alone`] opens it again.
///
/// # Errors
/// [`StoreError`].
pub fn ended_untaken(db: &Connection, id: JobId, host: HostId) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM jobs WHERE id = ?1 AND host_id = ?2 AND schedule_id IS NOT NULL AND status IN ('cancelled', 'failed')
           AND accepted_at IS NULL AND started_at IS NULL",
    )?;
    Ok(statement.exists([id.to_string(), host.to_string()])?)
}

/// The latest job that a schedule made.
///
/// # Errors
/// [`StoreError`].
pub fn last_of(db: &Connection, schedule: ScheduleId) -> Result<Option<Job>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT id FROM jobs WHERE schedule_id = ?1 ORDER BY scheduled_at DESC LIMIT 1")?;
    let id: Option<JobId> = statement.query_row([schedule.to_string()], |row| parsed(row, "id")).optional()?;
    id.map_or(Ok(None), |id| jobs::lookup(db, id))
}
