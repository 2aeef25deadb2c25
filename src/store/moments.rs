//! Jobs by the moment of their schedule: at most one a pair, ever, which the index `jobs_by_moment` holds whatever this code does.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{HostId, JobId, ScheduleId, Timestamp, job::Job, job::NewJob},
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

/// Notes that the agent has a job that had been made here before the connection broke; one of a schedule it began by itself.
///
/// # Errors
/// [`StoreError`].
pub fn runs_alone(tx: &mut WriteTx<'_>, id: JobId, host: HostId) -> Result<(), StoreError> {
    jobs::reopen_untaken(tx, id, host)?;
    tx.db()
        .prepare_cached("UPDATE jobs SET ran_alone = 1 WHERE id = ?1 AND host_id = ?2 AND status = 'queued' AND accepted_at IS NULL AND schedule_id IS NOT NULL")?
        .execute([id.to_string(), host.to_string()])?;
    jobs::accepted(tx, id, host)
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
