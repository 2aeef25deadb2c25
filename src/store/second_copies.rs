//! Second copies that are due. A row stands from its backup's end until its snapshot is in the second repository, so that no failure, restart or removed host
//! makes one forgotten; a snapshot that is gone, or a plan that wants no copy there any more, takes its rows along.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        JobId, PlanId, RepoId, Timestamp,
        second_copy::{Behind, Course, RETRIES, wait_s},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, time, time_opt},
    },
};

fn course(row: &Row<'_>) -> rusqlite::Result<Course> {
    Ok(Course {
        plan: parsed(row, "plan_id")?,
        host: parsed(row, "host_id")?,
        from: parsed(row, "from_repo")?,
        to: parsed(row, "to_repo")?,
    })
}

const OF_COURSE: &str = "plan_id = ?1 AND host_id = ?2 AND from_repo = ?3 AND to_repo = ?4";

fn key(course: &Course) -> [String; 4] {
    [course.plan.to_string(), course.host.to_string(), course.from.to_string(), course.to.to_string()]
}

/// Notes that a snapshot is to be copied, from now on.
///
/// # Errors
/// [`StoreError`].
pub fn owe(tx: &mut WriteTx<'_>, course: &Course, snapshot: &str) -> Result<(), StoreError> {
    let [plan, host, from, to] = key(course);
    tx.db()
        .prepare_cached(
            "INSERT INTO second_copies (plan_id, host_id, from_repo, to_repo, snapshot, made_at, next_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![plan, host, from, to, snapshot, tx.now().unix_ms()])?;
    Ok(())
}

/// Whether anything is due, or is under way.
///
/// # Errors
/// [`StoreError`].
pub fn any(db: &Connection) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM second_copies LIMIT 1")?.exists([])?)
}

/// Courses on which something is due at `now` and no copy is under way, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub fn due(db: &Connection, now: Timestamp, limit: u32) -> Result<Vec<Course>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT plan_id, host_id, from_repo, to_repo FROM second_copies s WHERE next_at <= ?1 AND NOT EXISTS (
             SELECT 1 FROM second_copies u WHERE u.plan_id = s.plan_id AND u.host_id = s.host_id AND u.from_repo = s.from_repo
                AND u.to_repo = s.to_repo AND u.job_id IS NOT NULL)
         LIMIT ?2",
    )?;
    Ok(statement.query_map(params![now.unix_ms(), limit], course)?.collect::<Result<_, _>>()?)
}

/// Whether something on a course is due at `now`.
///
/// # Errors
/// [`StoreError`].
pub fn is_due(db: &Connection, course: &Course, now: Timestamp) -> Result<bool, StoreError> {
    let [plan, host, from, to] = key(course);
    let mut statement =
        db.prepare_cached(&format!("SELECT 1 FROM second_copies WHERE {OF_COURSE} AND next_at <= ?5 LIMIT 1"))?;
    Ok(statement.exists(params![plan, host, from, to, now.unix_ms()])?)
}

/// What a copy on a course takes along: all that is missing, the oldest first, at most `limit`; nothing while one is under way.
///
/// # Errors
/// [`StoreError`].
pub fn missing(db: &Connection, course: &Course, limit: u32) -> Result<Vec<String>, StoreError> {
    let [plan, host, from, to] = key(course);
    let mut statement = db.prepare_cached(&format!(
        "SELECT snapshot FROM second_copies WHERE {OF_COURSE}
           AND NOT EXISTS (SELECT 1 FROM second_copies WHERE {OF_COURSE} AND job_id IS NOT NULL)
         ORDER BY made_at, snapshot LIMIT ?5"
    ))?;
    let rows = statement.query_map(params![plan, host, from, to, limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that a copy is at these snapshots.
///
/// # Errors
/// [`StoreError`].
pub fn begin(tx: &mut WriteTx<'_>, course: &Course, snapshots: &[String], job: JobId) -> Result<(), StoreError> {
    let [plan, host, from, to] = key(course);
    let mut mark = tx.db().prepare_cached(&format!(
        "UPDATE second_copies SET job_id = ?6, next_at = NULL WHERE {OF_COURSE} AND snapshot = ?5"
    ))?;
    for snapshot in snapshots {
        mark.execute(params![plan, host, from, to, snapshot, job.to_string()])?;
    }
    Ok(())
}

/// The courses that a copy is on.
///
/// # Errors
/// [`StoreError`].
pub fn courses_of(db: &Connection, job: JobId) -> Result<Vec<Course>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT DISTINCT plan_id, host_id, from_repo, to_repo FROM second_copies WHERE job_id = ?1")?;
    Ok(statement.query_map([job.to_string()], course)?.collect::<Result<_, _>>()?)
}

/// Notes that snapshots are in the second repository: those that are named, or, where none is, all whose backup ended by `until`. Returns the plans that
/// had them to copy.
///
/// # Errors
/// [`StoreError`].
pub fn settle(
    tx: &mut WriteTx<'_>,
    (from, to): (RepoId, RepoId),
    snapshots: &[String],
    until: Timestamp,
) -> Result<Vec<PlanId>, StoreError> {
    let (from, to) = (from.to_string(), to.to_string());
    let mut plans: Vec<PlanId> = Vec::new();
    let mut note = |mut rows: rusqlite::Rows<'_>| -> Result<(), StoreError> {
        while let Some(row) = rows.next()? {
            let plan = parsed(row, "plan_id")?;
            if !plans.contains(&plan) {
                plans.push(plan);
            }
        }
        Ok(())
    };
    if snapshots.is_empty() {
        let mut all = tx.db().prepare_cached(
            "DELETE FROM second_copies WHERE from_repo = ?1 AND to_repo = ?2 AND made_at <= ?3 RETURNING plan_id",
        )?;
        note(all.query(params![from, to, until.unix_ms()])?)?;
    }
    let mut one = tx.db().prepare_cached(
        "DELETE FROM second_copies WHERE from_repo = ?1 AND to_repo = ?2 AND snapshot = ?3 RETURNING plan_id",
    )?;
    for snapshot in snapshots {
        note(one.query(params![from, to, snapshot])?)?;
    }
    Ok(plans)
}

/// Notes that a copy failed, and when it is tried again by itself: never, where `again` is false. Returns the plans that it was of.
///
/// # Errors
/// [`StoreError`].
pub fn failed(tx: &mut WriteTx<'_>, job: JobId, error: &str, again: bool) -> Result<Vec<PlanId>, StoreError> {
    let mut plans = Vec::new();
    for course in courses_of(tx.db(), job)? {
        let [plan, host, from, to] = key(&course);
        postpone(
            tx,
            &format!("{OF_COURSE} AND job_id = ?5"),
            &[plan, host, from, to, job.to_string()],
            (error, again),
        )?;
        plans.push(course.plan);
    }
    Ok(plans)
}

/// The same for all of a course, where not even an order could be placed.
///
/// # Errors
/// [`StoreError`].
pub fn refused(tx: &mut WriteTx<'_>, course: &Course, error: &str) -> Result<(), StoreError> {
    postpone(tx, OF_COURSE, &key(course), (error, true))
}

fn postpone(
    tx: &mut WriteTx<'_>,
    which: &str,
    keys: &[String],
    (error, again): (&str, bool),
) -> Result<(), StoreError> {
    let n = keys.len();
    let mut tries = tx.db().prepare_cached(&format!("SELECT DISTINCT tries FROM second_copies WHERE {which}"))?;
    let mut tries: Vec<u32> =
        tries.query_map(rusqlite::params_from_iter(keys), |row| row.get(0))?.collect::<Result<_, _>>()?;
    // The highest first: none is counted twice.
    tries.sort_unstable_by(|a, b| b.cmp(a));
    for before in tries {
        let failed = if again { before.saturating_add(1) } else { before.max(RETRIES) + 1 };
        let spread =
            keys.iter().flat_map(|key| key.bytes()).fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
        let next_at = wait_s(failed, spread).map(|s| tx.now().plus_s(s).unix_ms());
        let change = format!(
            "UPDATE second_copies SET tries = ?{}, next_at = ?{}, error = ?{}, job_id = NULL WHERE {which} AND tries = ?{}",
            n + 1,
            n + 2,
            n + 3,
            n + 4
        );
        let mut all: Vec<&dyn rusqlite::ToSql> = keys.iter().map(|key| key as &dyn rusqlite::ToSql).collect();
        all.extend([&failed as &dyn rusqlite::ToSql, &next_at, &error, &before]);
        tx.db().prepare_cached(&change)?.execute(all.as_slice())?;
    }
    Ok(())
}

/// Copies that are not over for these rows and will not be: lost with their host, or never taken in.
///
/// # Errors
/// [`StoreError`].
pub fn stranded(db: &Connection) -> Result<Vec<JobId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT DISTINCT s.job_id AS job_id FROM second_copies s LEFT JOIN jobs j ON j.id = s.job_id
         WHERE s.job_id IS NOT NULL
           AND (j.id IS NULL OR j.status = 'lost' OR j.status NOT IN ('queued', 'running') AND j.examined_at IS NOT NULL)",
    )?;
    Ok(statement.query_map([], |row| parsed(row, "job_id"))?.collect::<Result<_, _>>()?)
}

/// What is not to be copied any more, at most `limit`: the plan was removed or copies elsewhere, or the snapshot is gone.
///
/// # Errors
/// [`StoreError`].
pub fn pointless(db: &Connection, limit: u32) -> Result<Vec<i64>, StoreError> {
    // 'g' comes after every hexadecimal digit: an id of eight digits is the beginning of the whole one.
    let mut statement = db.prepare_cached(
        "SELECT no FROM second_copies WHERE
             NOT EXISTS (SELECT 1 FROM plans p WHERE p.id = plan_id AND p.removed_at IS NULL AND p.second_repo_id = to_repo)
             OR EXISTS (SELECT 1 FROM repos r WHERE r.id IN (from_repo, to_repo) AND r.removed_at IS NOT NULL)
             OR EXISTS (SELECT 1 FROM snapshots s WHERE s.repo_id = from_repo AND s.id >= snapshot AND s.id < snapshot || 'g' AND s.gone_at IS NOT NULL)
         LIMIT ?1",
    )?;
    Ok(statement.query_map([limit], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Drops what [`pointless`] named. Returns the plan that had it to copy, if it is still there.
///
/// # Errors
/// [`StoreError`].
pub fn drop_one(tx: &mut WriteTx<'_>, no: i64) -> Result<Option<PlanId>, StoreError> {
    let mut statement = tx.db().prepare_cached("DELETE FROM second_copies WHERE no = ?1 RETURNING plan_id")?;
    Ok(statement.query_row([no], |row| parsed(row, "plan_id")).optional()?)
}

/// How the second copies of a plan stand; `None` where none of them failed.
///
/// # Errors
/// [`StoreError`].
pub fn behind(db: &Connection, plan: PlanId) -> Result<Option<Behind>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT p.name AS plan, r.name AS \"to\", count(*) AS missing, min(s.made_at) AS since, min(s.next_at) AS next_at,
                max(s.job_id) IS NOT NULL AS under_way,
                (SELECT json_group_array(name) FROM (SELECT DISTINCT h.name FROM second_copies o JOIN hosts h ON h.id = o.host_id
                    WHERE o.plan_id = s.plan_id AND o.tries > 0 ORDER BY h.name)) AS hosts,
                (SELECT error FROM second_copies o WHERE o.plan_id = s.plan_id AND o.tries > 0 ORDER BY o.made_at DESC LIMIT 1) AS error
         FROM second_copies s JOIN plans p ON p.id = s.plan_id JOIN repos r ON r.id = p.second_repo_id
         WHERE s.plan_id = ?1 AND s.tries > 0 AND s.to_repo = p.second_repo_id AND p.removed_at IS NULL GROUP BY s.plan_id",
    )?;
    let found = statement.query_row([plan.to_string()], |row| {
        Ok(Behind {
            plan: row.get("plan")?,
            to: row.get("to")?,
            missing: row.get::<_, i64>("missing")?.unsigned_abs(),
            hosts: json(row, "hosts")?,
            since: time(row, "since")?,
            next_at: time_opt(row, "next_at")?,
            under_way: row.get("under_way")?,
            error: row.get("error")?,
        })
    });
    Ok(found.optional()?)
}
