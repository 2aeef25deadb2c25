//! Waves in the store: one runbook over many hosts, each with its job. A host has at most one job in a wave: its number is noted in the transaction that makes it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, Timestamp, WaveId, Way,
        aftermath::Aftermath,
        event::Event,
        job::{Actor, ActorKind},
        wave::{Standing, Stop, Tally, Wave, WaveHost, WaveJob, WaveSpec, WaveStatus},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, json_opt, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT w.*, (SELECT again.id FROM waves again WHERE again.rerun_of = w.id ORDER BY again.id DESC LIMIT 1) AS rerun_as FROM waves w";
const STANDINGS: &str = "SELECT j.status, j.aftermath, w.refused IS NOT NULL AS refused, w.job_id IS NULL AS jobless
    FROM wave_hosts w LEFT JOIN jobs j ON j.id = w.job_id WHERE w.wave_id = ?1 ORDER BY w.position";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Wave> {
    Ok(Wave {
        id: parsed(row, "id")?,
        kind: parsed(row, "kind")?,
        spec: json(row, "spec")?,
        actor: Actor {
            kind: row.get::<_, String>("actor_kind")?.parse().unwrap_or(ActorKind::System),
            id: row.get("actor_id")?,
            name: row.get("actor_name")?,
        },
        status: parsed(row, "status")?,
        stop: parsed_opt(row, "stop")?,
        why: row.get("why")?,
        rerun_of: parsed_opt(row, "rerun_of")?,
        rerun_as: parsed_opt(row, "rerun_as")?,
        created_at: time(row, "created_at")?,
        finished_at: time_opt(row, "finished_at")?,
    })
}

/// A wave that is to be made.
#[derive(Debug, Clone)]
pub struct NewWave {
    /// Its identity.
    pub id: WaveId,
    /// The kind of its jobs.
    pub kind: JobKind,
    /// What runs, and how fast.
    pub spec: WaveSpec,
    /// Who asked.
    pub actor: Actor,
    /// The wave whose failed and not started hosts these are.
    pub rerun_of: Option<WaveId>,
    /// Secret answers, sealed under [`crate::domain::wave::secrets_identity`].
    pub secrets: Option<Vec<u8>>,
}

/// Makes a wave over these hosts, in this order. Each is to be named once.
///
/// # Errors
/// [`StoreError`]; a host that is not there breaks a foreign key.
pub fn insert(tx: &mut WriteTx<'_>, wave: &NewWave, hosts: &[HostId]) -> Result<(), StoreError> {
    let now = tx.now().unix_ms();
    tx.db()
        .prepare_cached(
            "INSERT INTO waves (id, kind, spec, actor_kind, actor_id, actor_name, rerun_of, created_at, secrets) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            wave.id.to_string(),
            wave.kind.as_str(),
            to_json(&wave.spec)?,
            wave.actor.kind.as_str(),
            wave.actor.id,
            wave.actor.name,
            wave.rerun_of.map(|id| id.to_string()),
            now,
            wave.secrets,
        ])?;
    let mut add = tx.db().prepare_cached("INSERT INTO wave_hosts (wave_id, position, host_id) VALUES (?1, ?2, ?3)")?;
    for (position, host) in (0_u32..).zip(hosts) {
        add.execute(params![wave.id.to_string(), position, host.to_string()])?;
    }
    drop(add);
    tx.publish(Event::Waves);
    Ok(())
}

/// A wave by its id.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: WaveId) -> Result<Option<Wave>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE w.id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// A wave's secret answers, sealed; none where it has none, or is over.
///
/// # Errors
/// [`StoreError`].
pub fn sealed_secrets(db: &Connection, id: WaveId) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = db.prepare_cached("SELECT secrets FROM waves WHERE id = ?1")?;
    let sealed: Option<Option<Vec<u8>>> = statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
    Ok(sealed.flatten())
}

/// Waves, newest first, each with how its hosts stand; of one that is over, as they stood at its end. Those made before `before`, at most so many.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, before: Option<WaveId>, limit: u32) -> Result<Vec<(Wave, Tally)>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("{SELECT} WHERE ?1 IS NULL OR w.id < ?1 ORDER BY w.id DESC LIMIT ?2"))?;
    let rows = statement.query_map(params![before.map(|id| id.to_string()), limit], |row| {
        Ok((from_row(row)?, json_opt::<Tally>(row, "tally")?))
    })?;
    let mut waves = Vec::new();
    for row in rows {
        let (wave, kept) = row?;
        let tally = match kept {
            Some(tally) => tally,
            None => Tally::of(&standings(db, wave.id)?),
        };
        waves.push((wave, tally));
    }
    Ok(waves)
}

/// Those that are not over, the oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn open(db: &Connection) -> Result<Vec<WaveId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id FROM waves WHERE status = 'running' ORDER BY created_at, id")?;
    Ok(statement.query_map([], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?)
}

/// How each host of a wave stands, in the order in which they go.
///
/// # Errors
/// [`StoreError`].
pub fn standings(db: &Connection, id: WaveId) -> Result<Vec<Standing>, StoreError> {
    let mut statement = db.prepare_cached(STANDINGS)?;
    let rows = statement.query_map([id.to_string()], |row| {
        let status: Option<JobStatus> = parsed_opt(row, "status")?;
        Ok(match status {
            Some(status) => Standing::of_job(status, json_opt::<Aftermath>(row, "aftermath")?.as_ref()),
            None if row.get("refused")? => Standing::Failed,
            None => Standing::NotStarted,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Hosts of a wave with their jobs, from place `from` on, at most so many.
///
/// # Errors
/// [`StoreError`].
pub fn hosts(db: &Connection, id: WaveId, from: u32, limit: u32) -> Result<Vec<WaveHost>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT w.position, w.host_id, h.name AS host_name, h.removed_at IS NOT NULL AS removed, w.job_id, w.refused, j.status, j.aftermath,
                j.input ->> '$.runbook.way' AS way, j.started_at, j.finished_at, j.error, j.summary -> '$.results' AS results
         FROM wave_hosts w JOIN hosts h ON h.id = w.host_id LEFT JOIN jobs j ON j.id = w.job_id
         WHERE w.wave_id = ?1 AND w.position >= ?2 ORDER BY w.position LIMIT ?3",
    )?;
    let rows = statement.query_map(params![id.to_string(), from, limit], |row| {
        let job: Option<JobId> = parsed_opt(row, "job_id")?;
        Ok(WaveHost {
            position: row.get("position")?,
            host_id: parsed(row, "host_id")?,
            host_name: row.get("host_name")?,
            removed: row.get("removed")?,
            job: job.map(|id| job_of(row, id)).transpose()?,
            refused: row.get("refused")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn job_of(row: &Row<'_>, id: JobId) -> rusqlite::Result<WaveJob> {
    Ok(WaveJob {
        id,
        status: parsed(row, "status")?,
        aftermath: json_opt(row, "aftermath")?,
        way: row
            .get::<_, Option<String>>("way")?
            .and_then(|word| Way::ALL.into_iter().find(|way| way.as_str() == word)),
        started_at: time_opt(row, "started_at")?,
        finished_at: time_opt(row, "finished_at")?,
        error: row.get("error")?,
        results: json_opt::<serde_json::Map<_, _>>(row, "results")?.unwrap_or_default(),
    })
}

/// The hosts at these places that have no job yet and were not refused one, in the order in which they go.
///
/// # Errors
/// [`StoreError`].
pub fn untouched(db: &Connection, id: WaveId, places: &[usize]) -> Result<Vec<(u32, HostId)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT position, host_id FROM wave_hosts WHERE wave_id = ?1 AND position = ?2 AND job_id IS NULL AND refused IS NULL",
    )?;
    let mut found = Vec::with_capacity(places.len());
    for place in places {
        let place = i64::try_from(*place).unwrap_or(i64::MAX);
        let row = statement
            .query_row(params![id.to_string(), place], |row| Ok((row.get("position")?, parsed(row, "host_id")?)))
            .optional()?;
        found.extend(row);
    }
    Ok(found)
}

/// Notes the job of a host that had none. To be called in the transaction that makes the job.
///
/// # Errors
/// [`StoreError`]; also where it has one already, so that the job that was made for it is undone.
pub fn set_job(tx: &mut WriteTx<'_>, id: WaveId, position: u32, job: JobId) -> Result<(), StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE wave_hosts SET job_id = ?3 WHERE wave_id = ?1 AND position = ?2 AND job_id IS NULL AND refused IS NULL",
        )?
        .execute(params![id.to_string(), position, job.to_string()])?;
    if changed == 1 { Ok(()) } else { Err(StoreError::Corrupt("a host of a wave got a second job".to_owned())) }
}

/// Notes why a host gets no job.
///
/// # Errors
/// [`StoreError`].
pub fn refuse(tx: &mut WriteTx<'_>, id: WaveId, position: u32, why: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE wave_hosts SET refused = ?3 WHERE wave_id = ?1 AND position = ?2 AND job_id IS NULL")?
        .execute(params![id.to_string(), position, why])?;
    Ok(())
}

/// Makes a wave begin nothing more. Returns whether it was still going on and not stopped.
///
/// # Errors
/// [`StoreError`].
pub fn stop(tx: &mut WriteTx<'_>, id: WaveId, stop: Stop, why: &str) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE waves SET stop = ?2, why = ?3 WHERE id = ?1 AND status = 'running' AND stop IS NULL")?
        .execute(params![id.to_string(), stop.as_str(), why])?;
    tx.publish(Event::Waves);
    Ok(changed > 0)
}

/// Ends a wave and forgets its secrets, where it is stopped as `stop` says it is. Returns whether it was still going on.
///
/// # Errors
/// [`StoreError`].
pub fn finish(
    tx: &mut WriteTx<'_>,
    id: WaveId,
    (status, stop): (WaveStatus, Option<Stop>),
    tally: Tally,
) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE waves SET status = ?2, tally = ?3, finished_at = ?4, secrets = NULL WHERE id = ?1 AND status = 'running' AND stop IS ?5",
        )?
        .execute(params![id.to_string(), status.as_str(), to_json(&tally)?, tx.now().unix_ms(), stop.map(Stop::as_str)])?;
    Ok(changed > 0)
}

/// Jobs of a wave that are not over.
///
/// # Errors
/// [`StoreError`].
pub fn open_jobs(db: &Connection, id: WaveId) -> Result<Vec<JobId>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT j.id FROM wave_hosts w JOIN jobs j ON j.id = w.job_id WHERE w.wave_id = ?1 AND j.status IN ('queued', 'running') ORDER BY w.position",
    )?;
    Ok(statement.query_map([id.to_string()], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?)
}

/// The wave that made a job, and when that was asked for.
///
/// # Errors
/// [`StoreError`].
pub fn of_job(db: &Connection, job: JobId) -> Result<Option<(WaveId, Timestamp)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT w.id, w.created_at FROM wave_hosts h JOIN waves w ON w.id = h.wave_id WHERE h.job_id = ?1",
    )?;
    let read = |row: &Row<'_>| Ok((parsed(row, "id")?, time(row, "created_at")?));
    Ok(statement.query_row([job.to_string()], read).optional()?)
}
