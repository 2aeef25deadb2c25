//! The last check of status of each host: written with the end of its job, in the same transaction, so that a list of hosts needs one small row a host.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, JobStatus, RunbookResult,
        job::{End, JobNo},
        standing::{CHECK, Figures, LastCheck},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, parsed_opt, time, to_json},
    },
};

/// Notes what the end of a job says of its host's status, if it was a check. One that was cancelled says nothing.
///
/// # Errors
/// [`StoreError`].
pub(super) fn of_check(tx: &mut WriteTx<'_>, no: JobNo, end: &End) -> Result<(), StoreError> {
    let well = matches!(end.status, JobStatus::Succeeded | JobStatus::Warning);
    if !well && end.status != JobStatus::Failed {
        return Ok(());
    }
    let about: Option<String> = tx
        .db()
        .prepare_cached("SELECT coalesce(about_id, host_id) FROM jobs WHERE no = ?1 AND kind = ?2")?
        .query_row(params![no.0, CHECK], |row| row.get(0))
        .optional()?;
    let Some(host) = about else { return Ok(()) };
    let result = end.summary.clone().and_then(|summary| serde_json::from_value::<RunbookResult>(summary).ok());
    let figures = result.filter(|_| well).map(|result| to_json(&Figures::of(&result.results))).transpose()?;
    let error = (!well).then(|| end.error.as_deref().unwrap_or("it did not say why"));
    tx.db()
        .prepare_cached(
            "INSERT INTO statuses (host_id, job_id, at, error, figures, found_by, found_at)
             SELECT ?2, id, finished_at, ?3, ?4, iif(?4 IS NULL, NULL, id), iif(?4 IS NULL, NULL, finished_at) FROM jobs WHERE no = ?1
             ON CONFLICT (host_id) DO UPDATE SET job_id = excluded.job_id, at = excluded.at, error = excluded.error,
               figures = coalesce(excluded.figures, figures), found_by = coalesce(excluded.found_by, found_by), found_at = coalesce(excluded.found_at, found_at)
             WHERE excluded.at >= at",
        )?
        .execute(params![no.0, host, error, figures])?;
    Ok(())
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<LastCheck> {
    let found = match parsed_opt(row, "found_by")? {
        Some(job) => Some((json(row, "figures")?, job, time(row, "found_at")?)),
        None => None,
    };
    Ok(LastCheck { job_id: parsed(row, "job_id")?, at: time(row, "at")?, error: row.get("error")?, found })
}

/// What is known of a host's checks.
///
/// # Errors
/// [`StoreError`].
pub fn of_host(db: &Connection, host: HostId) -> Result<Option<LastCheck>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM statuses WHERE host_id = ?1")?;
    Ok(statement.query_row([host.to_string()], from_row).optional()?)
}
