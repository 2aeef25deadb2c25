//! What is known of repositories beyond what a person entered: sizes over time, how each kind of work fared last on which host, damage that was found.
//! Their locks stand in [`locks`].

pub mod locks;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, JobId, RepoId, StatsResult, Timestamp,
        health::{HostMark, Size, Subject},
        job::Job,
    },
    store::{
        StoreError, WriteTx,
        rows::{parsed, parsed_opt, time, time_opt},
    },
};

fn subject_from(row: &Row<'_>) -> rusqlite::Result<Subject> {
    Ok(Subject {
        id: parsed(row, "id")?,
        name: row.get("name")?,
        url: row.get("url")?,
        append_only: row.get("append_only")?,
        size_limit: row.get::<_, Option<i64>>("size_limit")?.map(i64::unsigned_abs),
        damage_job: parsed_opt(row, "damage_job_id")?,
    })
}

/// A repository that was not removed, as its health sees it.
///
/// # Errors
/// [`StoreError`].
pub fn subject(db: &Connection, id: RepoId) -> Result<Option<Subject>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, url, append_only, size_limit, damage_job_id FROM repos WHERE id = ?1 AND removed_at IS NULL",
    )?;
    Ok(statement.query_row([id.to_string()], subject_from).optional()?)
}

/// All repositories that were not removed.
///
/// # Errors
/// [`StoreError`].
pub fn subjects(db: &Connection) -> Result<Vec<Subject>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, name, url, append_only, size_limit, damage_job_id FROM repos WHERE removed_at IS NULL ORDER BY id",
    )?;
    Ok(statement.query_map([], subject_from)?.collect::<Result<_, _>>()?)
}

/// Repositories that were removed while an alert about them is open.
///
/// # Errors
/// [`StoreError`].
pub fn removed_with_alerts(db: &Connection) -> Result<Vec<RepoId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT r.id AS id FROM alerts a JOIN repos r ON r.id = a.subject WHERE a.cleared_at IS NULL AND r.removed_at IS NOT NULL",
    )?;
    Ok(statement.query_map([], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?)
}

/// Notes the check that found damage; `None` where a later one has cleared it.
///
/// # Errors
/// [`StoreError`].
pub fn set_damage(tx: &mut WriteTx<'_>, repo: RepoId, found_by: Option<JobId>) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE repos SET damage_job_id = ?2 WHERE id = ?1")?
        .execute(params![repo.to_string(), found_by.map(|id| id.to_string())])?;
    Ok(())
}

/// Notes how a job that ended fared: as the last of its kind, host and repository, and where it went well as the last good one.
/// A job that ended before the one that is noted changes nothing.
///
/// # Errors
/// [`StoreError`].
pub fn note_mark(tx: &mut WriteTx<'_>, job: &Job, good: bool) -> Result<(), StoreError> {
    let (Some(repo), Some(at)) = (job.repo_id, job.finished_at) else { return Ok(()) };
    tx.db()
        .prepare_cached(
            "INSERT INTO repo_marks (repo_id, kind, host_id, good_at, good_job, last_at, last_job, last_status)
             VALUES (?1, ?2, ?3, iif(?7, ?4, NULL), iif(?7, ?5, NULL), ?4, ?5, ?6)
             ON CONFLICT (repo_id, kind, host_id) DO UPDATE SET
               good_job = iif(?7 AND coalesce(good_at, 0) <= ?4, ?5, good_job),
               good_at = iif(?7 AND coalesce(good_at, 0) <= ?4, ?4, good_at),
               last_job = iif(last_at <= ?4, ?5, last_job), last_status = iif(last_at <= ?4, ?6, last_status),
               last_at = max(last_at, ?4)",
        )?
        .execute(params![
            repo.to_string(),
            job.kind.as_str(),
            job.host_id.to_string(),
            at.unix_ms(),
            job.id.to_string(),
            job.status.as_str(),
            good,
        ])?;
    Ok(())
}

/// How each kind of work fared last in a repository, by kind and host; removed hosts among them.
///
/// # Errors
/// [`StoreError`].
pub fn marks(db: &Connection, repo: RepoId) -> Result<Vec<HostMark>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT m.*, h.name AS host_name FROM repo_marks m JOIN hosts h ON h.id = m.host_id WHERE m.repo_id = ?1
         ORDER BY m.kind, h.name COLLATE NOCASE, m.host_id",
    )?;
    let rows = statement.query_map([repo.to_string()], |row| {
        let (at, job) = (time_opt(row, "good_at")?, parsed_opt(row, "good_job")?);
        Ok(HostMark {
            kind: parsed(row, "kind")?,
            host_id: parsed(row, "host_id")?,
            host_name: row.get("host_name")?,
            good: at.zip(job),
            last: (time(row, "last_at")?, parsed(row, "last_job")?, parsed(row, "last_status")?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Hosts that have worked well in a repository, the latest first: those that can reach it. Removed and revoked ones are not among them.
///
/// # Errors
/// [`StoreError`].
pub fn hosts_that_reach(db: &Connection, repo: RepoId) -> Result<Vec<HostId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT m.host_id AS host_id FROM repo_marks m JOIN hosts h ON h.id = m.host_id
         WHERE m.repo_id = ?1 AND m.good_at IS NOT NULL AND h.removed_at IS NULL AND h.revoked_at IS NULL
         GROUP BY m.host_id ORDER BY max(m.good_at) DESC",
    )?;
    Ok(statement.query_map([repo.to_string()], |row| parsed(row, "host_id"))?.collect::<Result<_, _>>()?)
}

/// The control plane's own agent, where it has worked well in a repository.
///
/// # Errors
/// [`StoreError`].
pub fn own_host_reaches(db: &Connection, repo: RepoId) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM repo_marks m JOIN hosts h ON h.id = m.host_id WHERE m.repo_id = ?1 AND m.good_at IS NOT NULL AND h.own = 1",
    )?;
    Ok(statement.exists([repo.to_string()])?)
}

/// Whether a job of a kind is queued or runs in a repository.
///
/// # Errors
/// [`StoreError`].
pub fn has_open(db: &Connection, repo: RepoId, kind: &str, host: Option<HostId>) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM jobs WHERE status IN ('queued', 'running') AND repo_id = ?1 AND kind = ?2 AND (?3 IS NULL OR host_id = ?3)",
    )?;
    Ok(statement.exists(params![repo.to_string(), kind, host.map(|id| id.to_string())])?)
}

/// When a kind of work last ended in a repository, however it did.
///
/// # Errors
/// [`StoreError`].
pub fn last_ended(db: &Connection, repo: RepoId, kind: &str) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = db
        .prepare_cached("SELECT max(last_at) FROM repo_marks WHERE repo_id = ?1 AND kind = ?2")?
        .query_row([repo.to_string(), kind.to_owned()], |row| row.get(0))?;
    Ok(at.map(Timestamp::from_unix_ms))
}

/// The same on one host.
///
/// # Errors
/// [`StoreError`].
pub fn last_ended_on(db: &Connection, repo: RepoId, kind: &str, host: HostId) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = db
        .prepare_cached("SELECT max(last_at) FROM repo_marks WHERE repo_id = ?1 AND kind = ?2 AND host_id = ?3")?
        .query_row([repo.to_string(), kind.to_owned(), host.to_string()], |row| row.get(0))?;
    Ok(at.map(Timestamp::from_unix_ms))
}

/// Repositories that have been in use since before `before`, in a random order: so that none is always the last where not all can have their turn.
///
/// # Errors
/// [`StoreError`].
pub fn in_use_since(db: &Connection, before: Timestamp) -> Result<Vec<RepoId>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT id FROM repos WHERE removed_at IS NULL AND known_at < ?1 ORDER BY random()")?;
    Ok(statement.query_map([before.unix_ms()], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?)
}

fn size_from(row: &Row<'_>) -> rusqlite::Result<Size> {
    let count = |name: &str| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(name)?.map(i64::unsigned_abs));
    Ok(Size {
        at: time(row, "at")?,
        bytes: row.get::<_, i64>("bytes")?.unsigned_abs(),
        uncompressed: count("uncompressed")?,
        restore_size: count("restore_size")?,
        snapshots: row.get::<_, i64>("snapshots")?.unsigned_abs(),
        blobs: count("blobs")?,
    })
}

/// Keeps a measurement of what a repository stores.
///
/// # Errors
/// [`StoreError`].
pub fn add_size(
    tx: &mut WriteTx<'_>,
    repo: RepoId,
    at: Timestamp,
    stats: &StatsResult,
    job: JobId,
) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO repo_sizes (repo_id, at, bytes, uncompressed, snapshots, blobs, job_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (repo_id, at) DO NOTHING",
        )?
        .execute(params![
            repo.to_string(),
            at.unix_ms(),
            stats.total_size.cast_signed(),
            stats.total_uncompressed_size.map(u64::cast_signed),
            stats.snapshots_count.cast_signed(),
            stats.total_blob_count.map(u64::cast_signed),
            job.to_string(),
        ])?;
    Ok(())
}

/// Completes the latest measurement by what a restore of all would write. Returns whether it was without.
///
/// # Errors
/// [`StoreError`].
pub fn add_restore_size(tx: &mut WriteTx<'_>, repo: RepoId, bytes: u64) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE repo_sizes SET restore_size = ?2
             WHERE repo_id = ?1 AND restore_size IS NULL AND at = (SELECT max(at) FROM repo_sizes WHERE repo_id = ?1)",
        )?
        .execute(params![repo.to_string(), bytes.cast_signed()])?;
    Ok(changed > 0)
}

/// A repository's measurements at or after `since`, in the order of time; the latest `limit` of them.
///
/// # Errors
/// [`StoreError`].
pub fn sizes(db: &Connection, repo: RepoId, since: Timestamp, limit: u32) -> Result<Vec<Size>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT * FROM repo_sizes WHERE repo_id = ?1 AND at >= ?2 ORDER BY at DESC LIMIT ?3")?;
    let rows = statement.query_map(params![repo.to_string(), since.unix_ms(), limit], size_from)?;
    let mut sizes: Vec<Size> = rows.collect::<Result<_, _>>()?;
    sizes.reverse();
    Ok(sizes)
}

/// Measurements before `before`, the latest first: a page of the history.
///
/// # Errors
/// [`StoreError`].
pub fn sizes_before(
    db: &Connection,
    repo: RepoId,
    before: Option<Timestamp>,
    limit: u32,
) -> Result<Vec<Size>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT * FROM repo_sizes WHERE repo_id = ?1 AND (?2 IS NULL OR at < ?2) ORDER BY at DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![repo.to_string(), before.map(Timestamp::unix_ms), limit], size_from)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
