//! What the retention guard said, to which forget, and what a person said to that; and what it goes by: the index, pins, earlier approvals. A verdict
//! is written once and never changed, but for the word of a person on one that is stopped.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, JobId, RepoId, Timestamp,
        guard::{Approvals, Finding, Known, Made, Pin},
        retention::{Fate, FateKind, Verdict, VerdictState},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, parsed_opt, time, time_opt, to_json},
    },
};

/// Approvals that count: the latest so many of a repository. Older ones are about snapshots that are gone.
const APPROVALS: u32 = 200;
/// Paths of a snapshot that its fate names.
const PATHS: usize = 10;

const SELECT: &str = "SELECT v.*, j.plan_id AS plan_id, p.name AS plan_name
    FROM verdicts v LEFT JOIN jobs j ON j.id = v.job_id LEFT JOIN plans p ON p.id = j.plan_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Verdict> {
    Ok(Verdict {
        job_id: parsed(row, "job_id")?,
        repo_id: parsed(row, "repo_id")?,
        plan_id: parsed_opt(row, "plan_id")?,
        plan_name: row.get("plan_name")?,
        at: time(row, "at")?,
        state: parsed(row, "state")?,
        dry: row.get("dry")?,
        rules: row.get("rules")?,
        findings: json(row, "findings")?,
        remove: json(row, "remove")?,
        waiting: json(row, "waiting")?,
        held: json(row, "held")?,
        decided_at: time_opt(row, "decided_at")?,
        decided_by: row.get::<_, Option<String>>("decided_by")?.unwrap_or_default(),
        reason: row.get::<_, Option<String>>("reason")?.unwrap_or_default(),
    })
}

/// What the guard goes by in one repository.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Basis {
    /// Whether the repository was ever listed as a whole.
    pub listed: bool,
    /// What the index knows, by id: what is there, and what was asked for beyond that.
    pub known: HashMap<String, Known>,
    /// Under which host name each of those stands that are there.
    pub hostnames: HashMap<String, String>,
    /// Host names that stand for a host of the fleet, also one that was removed.
    pub hosts: HashMap<String, HostId>,
    /// What people said before.
    pub approvals: Approvals,
}

/// What a ruling on these snapshots of a repository goes by.
///
/// # Errors
/// [`StoreError`].
pub fn basis(db: &Connection, repo: RepoId, asked: &[&str]) -> Result<Basis, StoreError> {
    let listed: Option<Option<i64>> = db
        .prepare_cached("SELECT listed_since FROM repos WHERE id = ?1")?
        .query_row([repo.to_string()], |row| row.get(0))
        .optional()?;
    let mut basis = Basis { listed: listed.flatten().is_some(), ..Basis::default() };
    index(db, repo, &mut basis)?;
    for id in asked {
        if !basis.known.contains_key(*id)
            && let Some(known) = one(db, repo, id)?
        {
            basis.known.insert((*id).to_owned(), known);
        }
    }
    // A host's slug never changes, and is what its own snapshots stand under.
    let mut statement = db.prepare_cached("SELECT slug AS hostname, id AS host_id FROM hosts UNION ALL SELECT hostname, host_id FROM snapshot_hosts WHERE repo_id = ?1")?;
    let rows = statement.query_map([repo.to_string()], |row| Ok((row.get("hostname")?, parsed(row, "host_id")?)))?;
    basis.hosts = rows.collect::<Result<_, _>>()?;
    basis.approvals = approvals(db, repo)?;
    Ok(basis)
}

/// Where a snapshot is the rewritten or copied form of another, what is known of that one holds for it: its content is the same by its tree, or our own
/// repair wrote it.
const KNOWN: &str = "SELECT s.id, s.hostname, s.bytes, s.pinned_at, s.pinned_by, s.pin_reason, s.first_seen_at, o.first_seen_at AS origin_seen_at,
        coalesce(s.first_seen_at <= r.listed_since, 0) OR coalesce(o.first_seen_at <= ro.listed_since, 0) AS baseline,
        j.host_id AS made_by, j.created_at AS made_since
    FROM snapshots s JOIN repos r ON r.id = s.repo_id
    LEFT JOIN snapshots o ON o.id = s.original AND o.time = s.time AND o.hostname = s.hostname
         AND (o.tree = s.tree AND o.tree <> ''
              OR o.repo_id = s.repo_id AND EXISTS (SELECT 1 FROM jobs g WHERE g.id = o.gone_by AND g.kind = 'repair'))
    LEFT JOIN repos ro ON ro.id = o.repo_id
    LEFT JOIN jobs j ON j.id = coalesce(s.job_id, o.job_id) AND j.kind = 'backup'";

fn known_of(row: &Row<'_>) -> rusqlite::Result<Known> {
    let first_seen_at = time(row, "first_seen_at")?;
    let made = parsed_opt(row, "made_by")?.zip(time_opt(row, "made_since")?).map(|(host, since)| Made { host, since });
    let pin = match time_opt(row, "pinned_at")? {
        Some(_) => Some(Pin {
            by: row.get::<_, Option<String>>("pinned_by")?.unwrap_or_default(),
            reason: row.get::<_, Option<String>>("pin_reason")?.unwrap_or_default(),
        }),
        None => None,
    };
    Ok(Known {
        first_seen_at: time_opt(row, "origin_seen_at")?.map_or(first_seen_at, |origin| origin.min(first_seen_at)),
        baseline: row.get("baseline")?,
        made,
        bytes: row.get::<_, Option<i64>>("bytes")?.map(i64::unsigned_abs),
        pin,
    })
}

fn index(db: &Connection, repo: RepoId, basis: &mut Basis) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached(&format!("{KNOWN} WHERE s.repo_id = ?1 AND s.gone_at IS NULL"))?;
    let mut rows = statement.query([repo.to_string()])?;
    while let Some(row) = rows.next()? {
        let (id, hostname): (String, String) = (row.get("id")?, row.get("hostname")?);
        merge(basis.known.entry(id.clone()), known_of(row)?);
        basis.hostnames.insert(id, hostname);
    }
    Ok(())
}

fn one(db: &Connection, repo: RepoId, id: &str) -> Result<Option<Known>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{KNOWN} WHERE s.repo_id = ?1 AND s.id = ?2"))?;
    let mut found = HashMap::new();
    let mut rows = statement.query(params![repo.to_string(), id])?;
    while let Some(row) = rows.next()? {
        merge(found.entry(id.to_owned()), known_of(row)?);
    }
    Ok(found.remove(id))
}

/// A snapshot may have been copied from one that stands in several repositories: the best of what is known counts.
fn merge(entry: std::collections::hash_map::Entry<'_, String, Known>, more: Known) {
    entry
        .and_modify(|known| {
            known.first_seen_at = known.first_seen_at.min(more.first_seen_at);
            known.baseline |= more.baseline;
            known.made = known.made.or(more.made);
        })
        .or_insert(more);
}

fn approvals(db: &Connection, repo: RepoId) -> Result<Approvals, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT findings, waiting FROM verdicts WHERE repo_id = ?1 AND state = 'approved' ORDER BY at DESC LIMIT ?2",
    )?;
    let mut rows = statement.query(params![repo.to_string(), APPROVALS])?;
    let mut approvals = Approvals::default();
    while let Some(row) = rows.next()? {
        approvals.remove.extend(json::<Vec<String>>(row, "waiting")?);
        approvals.seen.extend(json::<Vec<Finding>>(row, "findings")?);
    }
    Ok(approvals)
}

/// Writes a verdict, unless the job has one. A stopped one that was about the same plan and waited for a person is answered by it: that is asked anew, or
/// settled. Returns whether it was written.
///
/// # Errors
/// [`StoreError`].
pub fn insert(tx: &mut WriteTx<'_>, verdict: &Verdict) -> Result<bool, StoreError> {
    let (job, repo, now) = (verdict.job_id.to_string(), verdict.repo_id.to_string(), tx.now().unix_ms());
    let added = tx
        .db()
        .prepare_cached(
            "INSERT INTO verdicts (job_id, repo_id, at, state, dry, rules, findings, remove, waiting, held)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (job_id) DO NOTHING",
        )?
        .execute(params![
            job,
            repo,
            now,
            verdict.state.as_str(),
            verdict.dry,
            verdict.rules,
            to_json(&verdict.findings)?,
            to_json(&verdict.remove)?,
            to_json(&verdict.waiting)?,
            to_json(&verdict.held)?,
        ])?;
    if added > 0 && !verdict.dry {
        tx.db()
            .prepare_cached(
                "UPDATE verdicts SET state = 'dismissed', decided_at = ?3, reason = 'a later forget looked again'
                 WHERE repo_id = ?2 AND state = 'stopped' AND dry = 0 AND job_id <> ?1
                   AND (SELECT plan_id FROM jobs WHERE id = verdicts.job_id) IS (SELECT plan_id FROM jobs WHERE id = ?1)",
            )?
            .execute(params![job, repo, now])?;
    }
    Ok(added > 0)
}

/// Notes how snapshots fared; those that are noted stay as they are.
///
/// # Errors
/// [`StoreError`].
pub fn insert_fates(tx: &mut WriteTx<'_>, job: JobId, fates: &[Fate]) -> Result<(), StoreError> {
    let mut add = tx.db().prepare_cached(
        "INSERT OR IGNORE INTO fates (job_id, snapshot_id, time, hostname, paths, fate, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let job = job.to_string();
    for fate in fates {
        let paths = to_json(&fate.paths.get(..PATHS).unwrap_or(&fate.paths))?;
        add.execute(params![
            job,
            fate.snapshot_id,
            fate.time.unix_ms(),
            fate.hostname,
            paths,
            fate.kind.as_str(),
            fate.reason
        ])?;
    }
    Ok(())
}

/// A verdict.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, job: JobId) -> Result<Option<Verdict>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE v.job_id = ?1"))?;
    Ok(statement.query_row([job.to_string()], from_row).optional()?)
}

/// Which verdicts to list. All of the given conditions hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerdictFilter {
    /// Of this repository.
    pub repo: Option<RepoId>,
    /// In this state.
    pub state: Option<VerdictState>,
    /// Given before this forget asked: the last of the page before.
    pub before: Option<JobId>,
    /// At most so many.
    pub limit: u32,
}

/// Verdicts, the newest first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, filter: VerdictFilter) -> Result<Vec<Verdict>, StoreError> {
    let VerdictFilter { repo, state, before, limit } = filter;
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE (?1 IS NULL OR v.repo_id = ?1) AND (?2 IS NULL OR v.state = ?2)
           AND (?3 IS NULL OR (v.at, v.job_id) < (SELECT at, job_id FROM verdicts WHERE job_id = ?3))
         ORDER BY v.at DESC, v.job_id DESC LIMIT ?4"
    ))?;
    let (repo, before) = (repo.map(|id| id.to_string()), before.map(|id| id.to_string()));
    let rows = statement.query_map(params![repo, state.map(VerdictState::as_str), before, limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How many snapshots fared how.
///
/// # Errors
/// [`StoreError`].
pub fn count_fates(db: &Connection, job: JobId) -> Result<HashMap<FateKind, u64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT fate, count(*) AS n FROM fates WHERE job_id = ?1 GROUP BY fate")?;
    let rows = statement
        .query_map([job.to_string()], |row| Ok((parsed(row, "fate")?, row.get::<_, i64>("n")?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Snapshots that fared so, the newest first, at most `limit`; those after `after`, the time and id of the last one that was shown.
///
/// # Errors
/// [`StoreError`].
pub fn fates(
    db: &Connection,
    (job, kind): (JobId, FateKind),
    after: Option<(Timestamp, String)>,
    limit: u32,
) -> Result<Vec<Fate>, StoreError> {
    let (time_after, id_after) = after.map_or((i64::MAX, String::new()), |(time, id)| (time.unix_ms(), id));
    let mut statement = db.prepare_cached(
        "SELECT * FROM fates WHERE job_id = ?1 AND fate = ?2 AND (time, snapshot_id) < (?3, ?4)
         ORDER BY time DESC, snapshot_id DESC LIMIT ?5",
    )?;
    let rows = statement.query_map(params![job.to_string(), kind.as_str(), time_after, id_after, limit], |row| {
        Ok(Fate {
            snapshot_id: row.get("snapshot_id")?,
            time: time(row, "time")?,
            hostname: row.get("hostname")?,
            paths: json(row, "paths")?,
            kind,
            reason: row.get("reason")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes a person's word on a verdict that is stopped. Returns whether it was.
///
/// # Errors
/// [`StoreError`].
pub fn decide(
    tx: &mut WriteTx<'_>,
    job: JobId,
    state: VerdictState,
    (by, reason): (&str, &str),
) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE verdicts SET state = ?2, decided_at = ?3, decided_by = ?4, reason = ?5 WHERE job_id = ?1 AND state = 'stopped' AND dry = 0",
        )?
        .execute(params![job.to_string(), state.as_str(), tx.now().unix_ms(), by, reason])?;
    Ok(changed > 0)
}

/// Whether something in a repository waits for a person.
///
/// # Errors
/// [`StoreError`].
pub fn has_stopped(db: &Connection, repo: RepoId) -> Result<bool, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT 1 FROM verdicts WHERE repo_id = ?1 AND state = 'stopped' AND dry = 0")?;
    Ok(statement.exists([repo.to_string()])?)
}

/// Pins a snapshot, or with `None` lets it go again. Returns whether there is such a one.
///
/// # Errors
/// [`StoreError`].
pub fn set_pin(tx: &mut WriteTx<'_>, repo: RepoId, id: &str, pin: Option<&Pin>) -> Result<bool, StoreError> {
    let at = pin.map(|_| tx.now().unix_ms());
    let changed = tx
        .db()
        .prepare_cached("UPDATE snapshots SET pinned_at = ?3, pinned_by = ?4, pin_reason = ?5 WHERE repo_id = ?1 AND id = ?2 AND gone_at IS NULL")?
        .execute(params![repo.to_string(), id, at, pin.map(|pin| &pin.by), pin.map(|pin| &pin.reason)])?;
    Ok(changed > 0)
}

/// A snapshot that no forget removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Full id.
    pub snapshot: String,
    /// The time that it claims.
    pub time: Timestamp,
    /// Under which host name it stands.
    pub hostname: String,
    /// Since when it is pinned.
    pub since: Timestamp,
    /// Who wants it, and why.
    pub pin: Pin,
}

/// A repository's pinned snapshots that are there, the newest first, at most `limit`; those that come after the snapshot `after`.
///
/// # Errors
/// [`StoreError`].
pub fn pins(db: &Connection, repo: RepoId, after: Option<&str>, limit: u32) -> Result<Vec<Pinned>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, time, hostname, pinned_at, pinned_by, pin_reason FROM snapshots
         WHERE repo_id = ?1 AND pinned_at IS NOT NULL AND gone_at IS NULL
           AND (?2 IS NULL OR (time, no) < (SELECT time, no FROM snapshots WHERE repo_id = ?1 AND id = ?2))
         ORDER BY time DESC, no DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![repo.to_string(), after, limit], |row| {
        let pin = Pin {
            by: row.get::<_, Option<String>>("pinned_by")?.unwrap_or_default(),
            reason: row.get::<_, Option<String>>("pin_reason")?.unwrap_or_default(),
        };
        let (time, since) = (time(row, "time")?, time(row, "pinned_at")?);
        Ok(Pinned { snapshot: row.get("id")?, time, hostname: row.get("hostname")?, since, pin })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Host names with snapshots that are there and not among `asked`.
#[must_use]
pub fn elsewhere(basis: &Basis, asked: &HashSet<&str>) -> HashSet<String> {
    basis
        .hostnames
        .iter()
        .filter(|(id, _)| !asked.contains(id.as_str()))
        .map(|(_, hostname)| hostname.clone())
        .collect()
}
