//! Locks of repositories, as last listed. A whole list replaces what was known; whether an owner lives is taken only from the agent of the owner's own
//! host, and only where one machine alone goes by that name.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use crate::{
    domain::{HostId, LockRecord, RepoId, Timestamp, health::locks::SeenLock},
    store::{
        StoreError, WriteTx,
        rows::{parsed, parsed_opt, time, time_opt},
    },
};

/// Enrolled hosts that call themselves `name`, by their own word or by their slug; the fleet's before the control plane's own. Empty where several
/// machines do: nobody could tell whose process is meant.
///
/// # Errors
/// [`StoreError`].
pub fn machine(db: &Connection, name: &str) -> Result<Vec<HostId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, coalesce(boot_id, '') AS boot FROM hosts
         WHERE removed_at IS NULL AND revoked_at IS NULL AND (hostname = ?1 OR (hostname IS NULL AND slug = ?1)) ORDER BY own, id",
    )?;
    let rows = statement.query_map([name], |row| Ok((parsed(row, "id")?, row.get::<_, String>("boot")?)))?;
    let found: Vec<(HostId, String)> = rows.collect::<Result<_, _>>()?;
    // Agents that name the same boot run on one machine.
    let one_machine = match found.split_first() {
        Some(((_, boot), rest)) => rest.is_empty() || (!boot.is_empty() && rest.iter().all(|(_, other)| other == boot)),
        None => true,
    };
    Ok(if one_machine { found.into_iter().map(|(id, _)| id).collect() } else { Vec::new() })
}

/// Takes in a whole list that `reporter` made at `at`. One that is older than what is known adds only what it says of owners.
///
/// # Errors
/// [`StoreError`].
pub fn replace(
    tx: &mut WriteTx<'_>,
    repo: RepoId,
    reporter: HostId,
    at: Timestamp,
    list: &[LockRecord],
) -> Result<(), StoreError> {
    let (repo, at_ms) = (repo.to_string(), at.unix_ms());
    let newest: Option<i64> = tx
        .db()
        .prepare_cached("SELECT max(seen_at) FROM repo_locks WHERE repo_id = ?1")?
        .query_row([&repo], |row| row.get(0))?;
    let is_newest = newest.is_none_or(|newest| newest <= at_ms);
    for lock in list {
        if is_newest {
            let host = machine(tx.db(), &lock.hostname)?.first().copied();
            tx.db()
                .prepare_cached(
                    "INSERT INTO repo_locks (repo_id, id, time, exclusive, hostname, username, pid, host_id, seen_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (repo_id, id) DO UPDATE SET time = ?3, host_id = ?8, seen_at = ?9",
                )?
                .execute(params![
                    repo,
                    lock.id,
                    lock.time.map(Timestamp::unix_ms),
                    lock.exclusive,
                    lock.hostname,
                    lock.username,
                    lock.pid,
                    host.map(|id| id.to_string()),
                    at_ms,
                ])?;
        }
        if let Some(alive) = lock.alive
            && machine(tx.db(), &lock.hostname)?.contains(&reporter)
        {
            tx.db()
                .prepare_cached(
                    "UPDATE repo_locks SET alive = ?3, alive_at = ?4 WHERE repo_id = ?1 AND id = ?2 AND coalesce(alive_at, 0) <= ?4",
                )?
                .execute(params![repo, lock.id, alive, at_ms])?;
        }
    }
    if is_newest {
        let there: HashSet<&str> = list.iter().map(|lock| lock.id.as_str()).collect();
        let known: Vec<String> = tx
            .db()
            .prepare_cached("SELECT id FROM repo_locks WHERE repo_id = ?1")?
            .query_map([&repo], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for gone in known.iter().filter(|id| !there.contains(id.as_str())) {
            tx.db()
                .prepare_cached("DELETE FROM repo_locks WHERE repo_id = ?1 AND id = ?2")?
                .execute(params![repo, gone])?;
        }
    }
    Ok(())
}

/// Takes a lock out that is known to be gone.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, repo: RepoId, id: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("DELETE FROM repo_locks WHERE repo_id = ?1 AND id = ?2")?
        .execute(params![repo.to_string(), id])?;
    Ok(())
}

/// A repository's locks as last seen, the oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, repo: RepoId) -> Result<Vec<SeenLock>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT l.*, h.name AS host_name FROM repo_locks l LEFT JOIN hosts h ON h.id = l.host_id WHERE l.repo_id = ?1
         ORDER BY l.time, l.id",
    )?;
    let rows = statement.query_map([repo.to_string()], |row| {
        let (host, name) = (parsed_opt(row, "host_id")?, row.get::<_, Option<String>>("host_name")?);
        let (alive, alive_at) = (row.get::<_, Option<bool>>("alive")?, time_opt(row, "alive_at")?);
        Ok(SeenLock {
            repo_id: parsed(row, "repo_id")?,
            id: row.get("id")?,
            time: time_opt(row, "time")?,
            exclusive: row.get("exclusive")?,
            hostname: row.get("hostname")?,
            username: row.get("username")?,
            pid: row.get("pid")?,
            host: host.zip(name),
            alive: alive.zip(alive_at),
            seen_at: time(row, "seen_at")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Repositories that had locks when they were last looked at, each with when that was.
///
/// # Errors
/// [`StoreError`].
pub fn locked_repos(db: &Connection) -> Result<Vec<(RepoId, Timestamp)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT repo_id, max(seen_at) AS seen_at FROM repo_locks JOIN repos r ON r.id = repo_id WHERE r.removed_at IS NULL GROUP BY repo_id",
    )?;
    let rows = statement.query_map([], |row| Ok((parsed(row, "repo_id")?, time(row, "seen_at")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
