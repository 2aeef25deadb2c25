//! Stored job logs: whole by construction, because the writer takes lines only in order. Pages are read by key, never by offset, so the
//! millionth line costs what the first does.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::{Line, job::JobNo},
    store::{
        StoreError, WriteTx,
        log_chunk::{self, EncodedLines, Packer, SEALED_BYTES, StoredLine},
        writer::Appended,
    },
};

/// Lines in one page at most.
pub const MAX_PAGE: u32 = 10_000;
/// Bytes of text after which a page ends, whatever its limit: long lines must not fill the memory.
const PAGE_BYTES: usize = 4 << 20;
/// Chunks that one sealing step reads: bounds how long the writer is busy with it.
const SEAL_STEP: usize = 64;

fn key(job: JobNo, seq: u32) -> i64 {
    job.0 << 32 | i64::from(seq)
}

fn seq_of(key: i64) -> u32 {
    (key & 0xffff_ffff) as u32
}

/// How far a job's log is.
pub(super) fn tail(db: &Connection, job: JobNo) -> Result<Appended, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT log_lines, status NOT IN ('queued', 'running', 'lost') FROM jobs WHERE no = ?1")?;
    Ok(statement.query_row([job.0], |row| Ok(Appended { seq: row.get(0)?, finished: row.get(1)? }))?)
}

/// Stores a chunk and moves the job's tail.
pub(super) fn insert_chunk(db: &Connection, job: JobNo, lines: &EncodedLines, data: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO log_chunks (id, n, data) VALUES (?1, ?2, ?3)")?.execute(params![
        key(job, lines.first),
        lines.count,
        data
    ])?;
    db.prepare_cached("UPDATE jobs SET log_lines = ?2, log_bytes = log_bytes + ?3 WHERE no = ?1")?.execute(params![
        job.0,
        lines.last(),
        lines.text_bytes.cast_signed()
    ])?;
    Ok(())
}

/// Up to `limit` lines after line `after`; fewer where they are long, but at least one while there are any.
///
/// # Errors
/// [`StoreError`] when a chunk is damaged.
pub fn page(db: &Connection, job: JobNo, after: u32, limit: u32) -> Result<Vec<StoredLine>, StoreError> {
    let limit = limit.min(MAX_PAGE) as usize;
    let mut lines = Vec::with_capacity(limit.min(1024));
    let Some(from) = after.checked_add(1) else { return Ok(lines) };
    // The chunk that holds line `from` starts at it or before it.
    let start: Option<i64> = db
        .prepare_cached("SELECT max(id) FROM log_chunks WHERE id BETWEEN ?1 AND ?2")?
        .query_row([key(job, 0), key(job, from)], |row| row.get(0))?;
    let Some(start) = start else { return Ok(lines) };
    let mut statement =
        db.prepare_cached("SELECT id, n, data FROM log_chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
    let mut rows = statement.query([start, key(job, u32::MAX)])?;
    let mut bytes = 0;
    while lines.len() < limit && bytes < PAGE_BYTES {
        let Some(row) = rows.next()? else { break };
        let (first, count) = (seq_of(row.get(0)?), row.get(1)?);
        let chunk = log_chunk::unpack(row.get_ref(2)?.as_blob().map_err(corrupt)?, first, count).map_err(corrupt)?;
        let wanted = chunk.into_iter().filter(|line| line.seq >= from).take(limit - lines.len());
        lines.extend(wanted.take_while(|line| {
            let more = bytes < PAGE_BYTES;
            bytes += line.text.len();
            more
        }));
    }
    Ok(lines)
}

/// Lines as they travel.
#[must_use]
pub fn as_wire(lines: &[StoredLine]) -> Vec<Line<'_>> {
    log_chunk::to_wire(lines)
}

fn corrupt(e: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(e.to_string())
}

/// A finished job whose log is still in the small chunks that it came in.
///
/// # Errors
/// [`StoreError`] when the database can't be read.
pub fn next_unsealed(db: &Connection) -> Result<Option<JobNo>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT no FROM jobs WHERE log_sealed = 0 AND status NOT IN ('queued', 'running', 'lost') ORDER BY no LIMIT 1",
    )?;
    Ok(statement.query_row([], |row| row.get(0).map(JobNo)).optional()?)
}

/// Joins the next few chunks of a finished job into large ones, from line `from` on. Returns where to go on, or `None` when the job is done.
///
/// # Errors
/// [`StoreError`]; the log is as it was then.
pub fn seal_step(tx: &mut WriteTx<'_>, job: JobNo, from: u32) -> Result<Option<u32>, StoreError> {
    let db = tx.db();
    let (mut gathered, mut old) = (EncodedLines::default(), Vec::new());
    let mut more = false;
    {
        let mut statement =
            db.prepare_cached("SELECT id, n, data FROM log_chunks WHERE id BETWEEN ?1 AND ?2 ORDER BY id")?;
        let mut rows = statement.query([key(job, from), key(job, u32::MAX)])?;
        while let Some(row) = rows.next()? {
            if gathered.record_bytes() >= SEALED_BYTES || old.len() >= SEAL_STEP {
                more = true;
                break;
            }
            let (id, count): (i64, u32) = (row.get(0)?, row.get(1)?);
            let lines =
                log_chunk::unpack(row.get_ref(2)?.as_blob().map_err(corrupt)?, seq_of(id), count).map_err(corrupt)?;
            gathered.join(&log_chunk::encode_stored(&lines));
            old.push(id);
        }
    }
    if old.len() > 1 {
        let data = Packer::new().map_err(corrupt)?.pack(&gathered).map_err(corrupt)?;
        for id in &old {
            db.prepare_cached("DELETE FROM log_chunks WHERE id = ?1")?.execute([id])?;
        }
        db.prepare_cached("INSERT INTO log_chunks (id, n, data) VALUES (?1, ?2, ?3)")?.execute(params![
            key(job, gathered.first),
            gathered.count,
            data
        ])?;
    }
    if !more {
        db.prepare_cached("UPDATE jobs SET log_sealed = 1 WHERE no = ?1")?.execute([job.0])?;
        return Ok(None);
    }
    // A chunk that did not fill up in one step is taken up again by the next, unless it stands alone.
    let full = gathered.record_bytes() >= SEALED_BYTES || old.len() <= 1;
    Ok(Some(if full { gathered.last() + 1 } else { gathered.first }))
}
