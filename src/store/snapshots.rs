//! The index of snapshots: what each repository holds, as far as this server saw. A row stays when its snapshot is gone, because when it was first seen is what
//! forged times are held against. Claims that a backup's end makes become facts by the next whole list (`reconcile`).

mod reconcile;

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter, types::Value};

pub use reconcile::{Changes, Known, Listed, apply, compare, conclude, known};

use crate::{
    domain::{
        BackupSpec, BackupSummary, HostId, JobId, Operation, PlanOptions, RepoId, Timestamp,
        job::{JobInput, JobNo},
        snapshot::{self, IndexState, Pinned, Snapshot, SnapshotHost, SnapshotNo},
    },
    store::{
        StoreError, WriteTx,
        rows::{InOrder, json, json_opt, parsed, parsed_opt, time, time_opt, to_json},
    },
};

/// In the order in which [`from_row`] reads them.
const SELECT: &str = "SELECT s.no, s.repo_id, r.name, s.id, s.time, s.hostname, s.host_id, h.name, h.removed_at IS NOT NULL, s.username, s.paths, s.tags,
        s.parent, s.original, s.program, s.files, s.bytes, s.added, s.job_id, s.plan_id, s.first_seen_at, s.gone_at, s.gone_by,
        s.pinned_at, s.pinned_by, s.pin_reason
    FROM snapshots s JOIN repos r ON r.id = s.repo_id LEFT JOIN hosts h ON h.id = s.host_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Snapshot> {
    let mut row = InOrder::of(row);
    Ok(Snapshot {
        no: SnapshotNo(row.next()?),
        repo_id: row.parsed()?,
        repo_name: row.next()?,
        id: row.next()?,
        time: row.time()?,
        hostname: row.next()?,
        host: {
            let (id, name, removed) = (row.parsed_opt()?, row.next::<Option<String>>()?, row.next()?);
            id.map(|id| SnapshotHost { id, name: name.unwrap_or_default(), removed })
        },
        username: row.next()?,
        paths: row.json()?,
        tags: row.json()?,
        parent: row.next()?,
        original: row.next()?,
        program: row.next()?,
        files: row.count_opt()?,
        bytes: row.count_opt()?,
        added: row.count_opt()?,
        job_id: row.parsed_opt()?,
        plan_id: row.parsed_opt()?,
        first_seen_at: row.time()?,
        gone_at: row.time_opt()?,
        gone_by: row.parsed_opt()?,
        pin: {
            let (at, by, reason) = (row.time_opt()?, row.next::<Option<String>>()?, row.next::<Option<String>>()?);
            at.map(|at| Pinned { at, by: by.unwrap_or_default(), reason: reason.unwrap_or_default() })
        },
    })
}

/// Which snapshots to list. All of the given conditions hold; those that are gone are never listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// In this repository.
    pub repo_id: Option<RepoId>,
    /// Of this host.
    pub host_id: Option<HostId>,
    /// Under this host name, letter by letter.
    pub hostname: Option<String>,
    /// Made of a source that is this path or a folder above it.
    pub path: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Made at this time or later.
    pub since: Option<Timestamp>,
    /// Made before this time.
    pub until: Option<Timestamp>,
    /// After this one: the last of the page before.
    pub after: Option<SnapshotNo>,
    /// At most so many; 0 means 100.
    pub limit: u32,
}

/// Snapshots that are there, the newest first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, StoreError> {
    match (filter.repo_id, filter.host_id) {
        (None, None) => list_everywhere(db, filter),
        _ => list_by_index(db, filter),
    }
}

fn limit_of(filter: &SnapshotFilter) -> u32 {
    if filter.limit == 0 { 100 } else { filter.limit.min(1001) }
}

/// Of all repositories: one after the other, for each has them in order; all together would be sorted as a whole for every page. Nothing older than what was
/// found already is read.
fn list_everywhere(db: &Connection, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, StoreError> {
    let limit = limit_of(filter) as usize;
    let mut repos = db.prepare_cached("SELECT id FROM repos WHERE removed_at IS NULL ORDER BY id")?;
    let repos: Vec<RepoId> = repos.query_map([], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?;
    let mut found: Vec<Snapshot> = Vec::new();
    for repo in repos {
        let oldest = found.get(limit - 1).map(|snapshot| snapshot.time);
        let of_repo = SnapshotFilter { repo_id: Some(repo), since: filter.since.max(oldest), ..filter.clone() };
        found.extend(list_by_index(db, &of_repo)?);
        found.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.time, snapshot.no.0)));
        found.truncate(limit);
    }
    Ok(found)
}

fn list_by_index(db: &Connection, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, StoreError> {
    let mut conditions = vec!["s.gone_at IS NULL", "r.removed_at IS NULL"];
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    };
    let moment = |at: Option<Timestamp>| at.map(|at| Value::Integer(at.unix_ms()));
    add("s.repo_id = ?", filter.repo_id.map(|id| Value::Text(id.to_string())));
    add("s.host_id = ?", filter.host_id.map(|id| Value::Text(id.to_string())));
    add("s.hostname = ?", filter.hostname.clone().map(Value::Text));
    add(
        "EXISTS (SELECT 1 FROM json_each(s.paths) AS source, (SELECT ? AS wanted)
                 WHERE wanted = source.value OR source.value = '/' OR substr(wanted, 1, length(source.value) + 1) = source.value || '/')",
        filter.path.clone().map(Value::Text),
    );
    add("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)", filter.tag.clone().map(Value::Text));
    add("s.time >= ?", moment(filter.since));
    add("s.time < ?", moment(filter.until));
    if let Some(after) = filter.after {
        let Some(time) = time_of(db, after)? else { return Ok(Vec::new()) };
        // As values: the index is entered at a place that is known beforehand, not at one that a query within gives.
        conditions.push("(s.time, s.no) < (?, ?)");
        values.extend([Value::Integer(time), Value::Integer(after.0)]);
    }
    let limit = limit_of(filter);
    let conditions = conditions.join(" AND ");
    let mut statement =
        db.prepare_cached(&format!("{SELECT} WHERE {conditions} ORDER BY s.time DESC, s.no DESC LIMIT {limit}"))?;
    Ok(statement.query_map(params_from_iter(values), from_row)?.collect::<Result<_, _>>()?)
}

fn time_of(db: &Connection, snapshot: SnapshotNo) -> Result<Option<i64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT time FROM snapshots WHERE no = ?1")?;
    Ok(statement.query_row([snapshot.0], |row| row.get(0)).optional()?)
}

/// The snapshot of a repository whose id is, or begins with, `id`; also one that is gone. `None` where there is none, or several begin so.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, repo: RepoId, id: &str) -> Result<Option<Snapshot>, StoreError> {
    if id.len() < 8 || id.len() > 64 || !id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    // The next text after all that begin with `id`: ids hold no letter behind `f`.
    let end = format!("{id}g");
    let mut statement =
        db.prepare_cached(&format!("{SELECT} WHERE s.repo_id = ?1 AND s.id >= ?2 AND s.id < ?3 LIMIT 2"))?;
    let mut found =
        statement.query_map(params![repo.to_string(), id, end], from_row)?.collect::<Result<Vec<_>, _>>()?;
    Ok(if found.len() == 1 { found.pop() } else { None })
}

/// When each of these snapshots of a repository was made, as far as they are in the index.
///
/// # Errors
/// [`StoreError`].
pub fn times(db: &Connection, repo: RepoId, ids: &[String]) -> Result<HashMap<String, Timestamp>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, time FROM snapshots WHERE repo_id = ?1 AND id IN (SELECT value FROM json_each(?2))",
    )?;
    let rows = statement
        .query_map(params![repo.to_string(), to_json(&ids)?], |row| Ok((row.get("id")?, time(row, "time")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A host name of a repository's snapshots, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameInRepo {
    /// As the snapshots have it.
    pub hostname: String,
    /// Snapshots under it that are there.
    pub snapshots: u64,
    /// When the last was made.
    pub last: Timestamp,
    /// Whose they are.
    pub host: Option<SnapshotHost>,
}

/// The host names of a repository's snapshots, by name.
///
/// # Errors
/// [`StoreError`].
pub fn names(db: &Connection, repo: RepoId) -> Result<Vec<NameInRepo>, StoreError> {
    // Counted from the index alone; whose a name is, is asked once for each.
    let mut statement = db.prepare_cached(&format!(
        "SELECT n.*, h.name AS host_name, h.removed_at IS NOT NULL AS host_removed
         FROM (SELECT hostname, snapshots, last, {OWNER} AS host_id
               FROM (SELECT repo_id, hostname, count(*) AS snapshots, max(time) AS last
                     FROM snapshots WHERE repo_id = ?1 AND gone_at IS NULL GROUP BY hostname) AS snapshots) n
         LEFT JOIN hosts h ON h.id = n.host_id ORDER BY n.hostname"
    ))?;
    let rows = statement.query_map([repo.to_string()], |row| {
        let host = match parsed_opt(row, "host_id")? {
            Some(id) => Some(SnapshotHost { id, name: row.get("host_name")?, removed: row.get("host_removed")? }),
            None => None,
        };
        Ok(NameInRepo {
            hostname: row.get("hostname")?,
            snapshots: row.get::<_, i64>("snapshots")?.unsigned_abs(),
            last: time(row, "last")?,
            host,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Says that a host name of a repository stands for a host, or (`None`) for none that is known. A host's own slug always stands for that host. Returns how
/// many snapshots that concerns.
///
/// # Errors
/// [`StoreError`]; a host that is not there breaks a foreign key.
pub fn match_name(
    tx: &mut WriteTx<'_>,
    repo: RepoId,
    hostname: &str,
    host: Option<HostId>,
) -> Result<usize, StoreError> {
    let db = tx.db();
    match host {
        Some(host) => db
            .prepare_cached(
                "INSERT INTO snapshot_hosts (repo_id, hostname, host_id) VALUES (?1, ?2, ?3)
                 ON CONFLICT (repo_id, hostname) DO UPDATE SET host_id = ?3",
            )?
            .execute(params![repo.to_string(), hostname, host.to_string()])?,
        None => db
            .prepare_cached("DELETE FROM snapshot_hosts WHERE repo_id = ?1 AND hostname = ?2")?
            .execute(params![repo.to_string(), hostname])?,
    };
    Ok(db
        .prepare_cached(&format!("UPDATE snapshots SET host_id = {OWNER} WHERE repo_id = ?1 AND hostname = ?2"))?
        .execute(params![repo.to_string(), hostname])?)
}

/// Whose a snapshot is, by its columns `repo_id` and `hostname`: a slug is for life, a person's word comes second.
const OWNER: &str = "coalesce((SELECT id FROM hosts WHERE slug = snapshots.hostname AND own = 0),
    (SELECT host_id FROM snapshot_hosts m WHERE m.repo_id = snapshots.repo_id AND m.hostname = snapshots.hostname))";

/// Notes the snapshot that a backup's end tells of, in the transaction that stores the end. Its time is the backup's start until a list says better. An id that
/// is not whole (restic 0.14) is not noted; the index is behind then.
///
/// # Errors
/// [`StoreError`].
pub(super) fn of_backup(tx: &mut WriteTx<'_>, job: JobNo) -> Result<(), StoreError> {
    let Some(backup) = backup(tx.db(), job)? else { return Ok(()) };
    let Some(id) = backup.summary.snapshot_id.as_deref() else { return Ok(()) };
    if matches!(&backup.input.operation, Some(Operation::Backup(BackupSpec { dry_run: true }))) {
        return Ok(());
    }
    if !snapshot::is_whole_id(id) {
        return stale(tx, backup.repo);
    }
    let tags: Vec<String> =
        ["flotilla".to_owned(), format!("job-{}", backup.id)].into_iter().chain(backup.tags).collect();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let now = tx.now().unix_ms();
    // One that was there before this backup began was not made by it, whatever its agent says.
    tx.db()
        .prepare_cached(
            "INSERT INTO snapshots (repo_id, id, time, hostname, paths, tags, files, bytes, added, job_id, plan_id, first_seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (repo_id, id) DO UPDATE SET job_id = excluded.job_id, plan_id = excluded.plan_id
               WHERE snapshots.job_id IS NULL AND snapshots.hostname = excluded.hostname AND snapshots.first_seen_at >= ?13",
        )?
        .execute(params![
            backup.repo.to_string(),
            id,
            backup.began.unix_ms(),
            backup.slug,
            to_json(&backup.paths)?,
            to_json(&tags)?,
            number(backup.summary.total_files_processed),
            number(backup.summary.total_bytes_processed),
            backup.summary.data_added_packed.map(number),
            backup.id.to_string(),
            backup.plan,
            now,
            backup.began.unix_ms(),
        ])?;
    tx.db()
        .prepare_cached(&format!(
            "UPDATE snapshots SET host_id = {OWNER} WHERE repo_id = ?1 AND id = ?2 AND host_id IS NULL"
        ))?
        .execute(params![backup.repo.to_string(), id])?;
    Ok(())
}

struct Backup {
    id: JobId,
    repo: RepoId,
    plan: Option<String>,
    slug: String,
    began: Timestamp,
    paths: Vec<String>,
    tags: Vec<String>,
    input: JobInput,
    summary: BackupSummary,
}

fn backup(db: &Connection, job: JobNo) -> Result<Option<Backup>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT j.id, j.repo_id, j.plan_id, h.slug, coalesce(j.started_at, j.created_at) AS began, j.input, j.summary, p.paths, p.options
         FROM jobs j JOIN hosts h ON h.id = j.host_id LEFT JOIN plans p ON p.id = j.plan_id
         WHERE j.no = ?1 AND j.kind = 'backup' AND j.repo_id IS NOT NULL AND j.summary IS NOT NULL",
    )?;
    let row = statement.query_row([job.0], |row| {
        let input: JobInput = json(row, "input")?;
        let options: Option<PlanOptions> = json_opt(row, "options")?;
        // What an agent sends as a summary may be anything; then it tells of no snapshot.
        let summary = json(row, "summary").unwrap_or_default();
        Ok(Backup {
            id: parsed(row, "id")?,
            repo: parsed(row, "repo_id")?,
            plan: row.get("plan_id")?,
            slug: row.get("slug")?,
            began: time(row, "began")?,
            paths: json_opt(row, "paths")?.unwrap_or_else(|| input.args.clone()),
            tags: options.map(|options| options.backup_tags).unwrap_or_default(),
            input,
            summary,
        })
    });
    Ok(row.optional()?)
}

/// Notes that the index of a repository is behind: a list is ordered soon.
///
/// # Errors
/// [`StoreError`].
pub fn stale(tx: &mut WriteTx<'_>, repo: RepoId) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE repos SET index_stale_at = ?2 WHERE id = ?1")?
        .execute(params![repo.to_string(), tx.now().unix_ms()])?;
    Ok(())
}

/// What is known of a repository's index; `None` where there is no such repository.
///
/// # Errors
/// [`StoreError`].
pub fn index_state(db: &Connection, repo: RepoId) -> Result<Option<IndexState>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{STATES} AND r.id = ?1"))?;
    Ok(statement.query_row([repo.to_string()], |row| Ok(state_of(row)?.1)).optional()?)
}

/// The same of all repositories that are known to exist, or were taken over: what was never there can't be listed.
///
/// # Errors
/// [`StoreError`].
pub fn index_states(db: &Connection) -> Result<Vec<(RepoId, IndexState)>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("{STATES} AND (r.known_at IS NOT NULL OR r.imported = 1) ORDER BY r.indexed_at"))?;
    Ok(statement.query_map([], state_of)?.collect::<Result<_, _>>()?)
}

const STATES: &str = "SELECT r.id, r.indexed_at, r.index_stale_at,
        coalesce(j.status IN ('queued', 'running') OR j.records_due, 0) AS under_way, j.finished_at AS last_try
    FROM repos r LEFT JOIN jobs j ON j.no = (SELECT max(no) FROM jobs WHERE repo_id = r.id AND kind = 'snapshots')
    WHERE r.removed_at IS NULL";

fn state_of(row: &Row<'_>) -> rusqlite::Result<(RepoId, IndexState)> {
    let state = IndexState {
        indexed_at: time_opt(row, "indexed_at")?,
        stale_at: time_opt(row, "index_stale_at")?,
        under_way: row.get("under_way")?,
        last_try: time_opt(row, "last_try")?,
    };
    Ok((parsed(row, "id")?, state))
}

/// A host that may read a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Which.
    pub id: HostId,
    /// Its name.
    pub name: String,
}

/// The hosts that may be asked to read a repository, the most fitting first: its maintenance host and the control plane's own agent, hosts that a plan
/// brings to it, hosts that worked on it of late. Others never get its credentials. Those without restic are left out.
///
/// # Errors
/// [`StoreError`].
pub fn readers(db: &Connection, repo: RepoId) -> Result<Vec<Reader>, StoreError> {
    let mut statement = db.prepare_cached(
        "WITH mine AS (SELECT id, tags FROM plans WHERE repo_id = ?1 AND removed_at IS NULL),
           ranked AS (
             SELECT maintenance_host_id AS host_id, 0 AS rank FROM repos WHERE id = ?1
             UNION ALL SELECT id, 1 FROM hosts WHERE own = 1
             UNION ALL SELECT host_id, 2 FROM plan_hosts WHERE plan_id IN (SELECT id FROM mine)
             UNION ALL SELECT h.id, 2 FROM hosts h WHERE EXISTS (SELECT 1 FROM mine, json_each(mine.tags) wanted, json_each(h.tags) has WHERE has.value = wanted.value)
             UNION ALL SELECT host_id, 3 FROM (SELECT host_id FROM jobs WHERE repo_id = ?1 AND kind IN ('backup', 'snapshots')
                                               AND status IN ('succeeded', 'warning') ORDER BY no DESC LIMIT 100))
         SELECT h.id, h.name, min(ranked.rank) AS rank FROM ranked JOIN hosts h ON h.id = ranked.host_id
         WHERE h.removed_at IS NULL AND h.revoked_at IS NULL AND h.restic_version IS NOT NULL
         GROUP BY h.id ORDER BY rank, h.last_seen_at DESC, h.id LIMIT 1000",
    )?;
    let rows =
        statement.query_map([repo.to_string()], |row| Ok(Reader { id: parsed(row, "id")?, name: row.get("name")? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
