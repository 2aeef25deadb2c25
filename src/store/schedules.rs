//! Schedules that stand alone, and how far this server has dealt with those that it ticks itself. A removed one keeps its row, so that what an agent
//! ran by it while this server was away finds its name. Schedules of plans are in no row: they follow from the plan.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, RepoId, ScheduleId, Timestamp,
        event::Event,
        schedule::{CatchUp, OwnSchedule, Schedule, Standing},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT s.*, h.name AS host_name, p.name AS plan_name, r.name AS repo_name
    FROM schedules s JOIN hosts h ON h.id = s.host_id LEFT JOIN plans p ON p.id = s.plan_id LEFT JOIN repos r ON r.id = s.repo_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<OwnSchedule> {
    let catch_up: String = row.get("catch_up")?;
    let schedule = Schedule {
        cron: row.get("cron")?,
        timezone: row.get("timezone")?,
        jitter_s: row.get("jitter_s")?,
        catch_up: if catch_up == "skip" { CatchUp::Skip } else { CatchUp::Once },
        enabled: row.get("enabled")?,
    };
    Ok(OwnSchedule {
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        host_name: row.get("host_name")?,
        kind: parsed(row, "kind")?,
        plan_id: parsed_opt(row, "plan_id")?,
        plan_name: row.get("plan_name")?,
        repo_id: parsed_opt(row, "repo_id")?,
        repo_name: row.get("repo_name")?,
        input: json(row, "params")?,
        standing: Standing { schedule, since: time(row, "updated_at")? },
        created_at: time(row, "created_at")?,
        removed: time_opt(row, "removed_at")?.is_some(),
    })
}

fn word(catch_up: CatchUp) -> &'static str {
    match catch_up {
        CatchUp::Once => "once",
        CatchUp::Skip => "skip",
    }
}

/// Adds a schedule. Names, `created_at` and `removed` of what is given do not count.
///
/// # Errors
/// [`StoreError`]; a host, plan or repository that is not there breaks a foreign key.
pub fn insert(tx: &mut WriteTx<'_>, own: &OwnSchedule) -> Result<(), StoreError> {
    let Schedule { cron, timezone, jitter_s, catch_up, enabled } = &own.standing.schedule;
    tx.db()
        .prepare_cached(
            "INSERT INTO schedules (id, host_id, kind, plan_id, repo_id, params, cron, timezone, jitter_s, catch_up, enabled, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            own.id.to_string(),
            own.host_id.to_string(),
            own.kind.as_str(),
            own.plan_id.map(|id| id.to_string()),
            own.repo_id.map(|id| id.to_string()),
            to_json(&own.input)?,
            cron,
            timezone,
            jitter_s,
            word(*catch_up),
            enabled,
            tx.now().unix_ms(),
            own.standing.since.unix_ms(),
        ])?;
    tx.publish(Event::Schedules);
    Ok(())
}

/// Changes when a schedule runs. Returns whether there is such a one.
///
/// # Errors
/// [`StoreError`].
pub fn set_standing(tx: &mut WriteTx<'_>, id: ScheduleId, standing: &Standing) -> Result<bool, StoreError> {
    let Schedule { cron, timezone, jitter_s, catch_up, enabled } = &standing.schedule;
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE schedules SET cron = ?2, timezone = ?3, jitter_s = ?4, catch_up = ?5, enabled = ?6, updated_at = ?7
             WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![
            id.to_string(),
            cron,
            timezone,
            jitter_s,
            word(*catch_up),
            enabled,
            standing.since.unix_ms()
        ])?;
    tx.publish(Event::Schedules);
    Ok(changed > 0)
}

/// Removes a schedule. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: ScheduleId) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE schedules SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL")?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    tx.publish(Event::Schedules);
    Ok(changed > 0)
}

/// A schedule, also one that was removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: ScheduleId) -> Result<Option<OwnSchedule>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE s.id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Schedules of hosts that are there, those of one host or all, by host and kind.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, host: Option<HostId>) -> Result<Vec<OwnSchedule>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE s.removed_at IS NULL AND h.removed_at IS NULL AND (?1 IS NULL OR s.host_id = ?1)
         ORDER BY h.name COLLATE NOCASE, s.kind, s.id"
    ))?;
    let rows = statement.query_map([host.map(|id| id.to_string())], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Schedules of hosts that are there and that work on a repository without a plan between, by host and kind.
///
/// # Errors
/// [`StoreError`].
pub fn using_repo(db: &Connection, repo: RepoId) -> Result<Vec<OwnSchedule>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} WHERE s.removed_at IS NULL AND h.removed_at IS NULL AND s.repo_id = ?1
         ORDER BY h.name COLLATE NOCASE, s.kind, s.id"
    ))?;
    let rows = statement.query_map([repo.to_string()], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Backups that agents tick, of all hosts.
///
/// # Errors
/// [`StoreError`].
pub fn of_agents(db: &Connection) -> Result<Vec<OwnSchedule>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("{SELECT} WHERE s.removed_at IS NULL AND s.kind = 'backup' ORDER BY s.id"))?;
    Ok(statement.query_map([], from_row)?.collect::<Result<_, _>>()?)
}

/// What this server ticks, each with the moment up to which it has been dealt with. Hosts that can run nothing, being removed or revoked, are left out.
///
/// # Errors
/// [`StoreError`].
pub fn of_server(db: &Connection) -> Result<Vec<(OwnSchedule, Option<Timestamp>)>, StoreError> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT own.*, m.until AS until FROM ({SELECT} WHERE s.removed_at IS NULL AND s.enabled = 1 AND s.kind <> 'backup'
           AND h.removed_at IS NULL AND h.revoked_at IS NULL) own LEFT JOIN schedule_marks m ON m.schedule_id = own.id ORDER BY own.id"
    ))?;
    let rows = statement.query_map([], |row| Ok((from_row(row)?, time_opt(row, "until")?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that all moments up to `until` have been dealt with.
///
/// # Errors
/// [`StoreError`].
pub fn mark(tx: &mut WriteTx<'_>, id: ScheduleId, until: Timestamp) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO schedule_marks (schedule_id, until) VALUES (?1, ?2)
             ON CONFLICT (schedule_id) DO UPDATE SET until = max(until, ?2)",
        )?
        .execute(params![id.to_string(), until.unix_ms()])?;
    Ok(())
}
