//! Retention of job logs: which logs have had their time, and taking them out in small steps. A job's row, its summary and the number of its lines
//! stay; `log_removed_at` says since when its lines are gone. Freed pages stay in the file and are used again before it grows.
//!
//! A removal that was cut off half way is gone on with: a row of `meta` names the job until its last line is gone.

use rusqlite::{Connection, params};

use crate::{
    domain::{Timestamp, job::JobNo},
    store::{StoreError, WriteTx, meta},
};

/// Chunks that one step removes: bounds how long the writer is busy with it, at 64 KiB of text in each.
const STEP_CHUNKS: u32 = 64;
/// The job whose lines are being removed.
const UNDER_WAY: &str = "log removal";

/// A finished job whose lines are still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number within the store.
    pub no: JobNo,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Bytes of its text.
    pub bytes: u64,
}

/// A job whose removal was cut off.
///
/// # Errors
/// [`StoreError`].
pub fn under_way(db: &Connection) -> Result<Option<JobNo>, StoreError> {
    let Some(value) = meta::get(db, UNDER_WAY)? else { return Ok(None) };
    let no: [u8; 8] = value.try_into().map_err(|_| StoreError::Corrupt(UNDER_WAY.to_owned()))?;
    Ok(Some(JobNo(i64::from_be_bytes(no))))
}

/// Up to `limit` finished jobs with lines, the longest ago first, from the one after `after` on, that ended before the time that `before` has for
/// their kind, or before `otherwise`. `None` keeps them for ever.
///
/// # Errors
/// [`StoreError`].
pub fn expired(
    db: &Connection,
    after: (Timestamp, JobNo),
    otherwise: Option<Timestamp>,
    before: &[(String, Option<Timestamp>)],
    limit: u32,
) -> Result<Vec<Kept>, StoreError> {
    let ms = |at: Option<Timestamp>| at.map_or(i64::MIN, Timestamp::unix_ms);
    let by_kind: serde_json::Map<_, _> = before.iter().map(|(kind, at)| (kind.clone(), ms(*at).into())).collect();
    let latest = before.iter().map(|(_, at)| ms(*at)).chain([ms(otherwise)]).max().unwrap_or(i64::MIN);
    let mut statement = db.prepare_cached(
        "SELECT no, finished_at, log_bytes FROM jobs
         WHERE (finished_at, no) > (?1, ?2) AND finished_at < ?3 AND log_removed_at IS NULL AND log_lines > 0
           AND status NOT IN ('queued', 'running')
           AND finished_at < coalesce((SELECT value FROM json_each(?4) WHERE key = kind), ?5)
         ORDER BY finished_at, no LIMIT ?6",
    )?;
    let by_kind = serde_json::Value::Object(by_kind).to_string();
    let rows = statement
        .query_map(params![after.0.unix_ms(), after.1.0, latest, by_kind, ms(otherwise), limit], kept)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// When the lines of a job were removed; `None` while they are there.
///
/// # Errors
/// [`StoreError`].
pub fn removed_at(db: &Connection, job: JobNo) -> Result<Option<Timestamp>, StoreError> {
    let mut statement = db.prepare_cached("SELECT log_removed_at FROM jobs WHERE no = ?1")?;
    let at: Option<i64> = statement.query_row([job.0], |row| row.get(0))?;
    Ok(at.map(Timestamp::from_unix_ms))
}

/// Bytes of text of all logs that are still there.
///
/// # Errors
/// [`StoreError`].
pub fn bytes(db: &Connection) -> Result<u64, StoreError> {
    let sum: i64 = db.query_row(
        "SELECT coalesce(sum(log_bytes), 0) FROM jobs WHERE log_removed_at IS NULL AND log_lines > 0",
        [],
        |row| row.get(0),
    )?;
    Ok(sum.unsigned_abs())
}

fn kept(row: &rusqlite::Row<'_>) -> rusqlite::Result<Kept> {
    Ok(Kept {
        no: JobNo(row.get(0)?),
        finished_at: Timestamp::from_unix_ms(row.get(1)?),
        bytes: row.get::<_, i64>(2)?.unsigned_abs(),
    })
}

/// Removes the next few chunks of a job's log; from the first step on its log counts as removed. Returns whether more are left.
///
/// # Errors
/// [`StoreError`]; nothing of this step is done then.
pub fn remove_step(tx: &mut WriteTx<'_>, job: JobNo) -> Result<bool, StoreError> {
    let now = tx.now();
    let db = tx.db();
    // Sealing would only have it all read once more.
    db.prepare_cached("UPDATE jobs SET log_removed_at = coalesce(log_removed_at, ?2), log_sealed = 1 WHERE no = ?1")?
        .execute([job.0, now.unix_ms()])?;
    let (first, last) = (job.0 << 32, job.0 << 32 | i64::from(u32::MAX));
    let removed = db
        .prepare_cached(
            "DELETE FROM log_chunks WHERE id IN (SELECT id FROM log_chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3)",
        )?
        .execute(params![first, last, STEP_CHUNKS])?;
    let more = removed == STEP_CHUNKS as usize;
    if more {
        meta::put(tx, UNDER_WAY, &job.0.to_be_bytes())?;
    } else {
        meta::remove(tx, UNDER_WAY)?;
    }
    Ok(more)
}
