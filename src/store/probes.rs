//! Probes in the store: what is asked, what was answered. A state changes with the answer that changes it, in one write. A removed host's probes are not asked.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, ProbeId, SiteId, Timestamp,
        alert::AlertKind,
        probe::{Answer, PastAnswer, Probe, ProbeSpec, ProbeState, Question},
    },
    store::{
        StoreError, WriteTx, alerts, meta,
        rows::{json, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str =
    "SELECT p.* FROM probes p JOIN hosts h ON h.id = p.host_id WHERE p.removed_at IS NULL AND h.removed_at IS NULL";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Probe> {
    Ok(Probe {
        no: row.get("no")?,
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        site_id: parsed_opt(row, "site_id")?,
        name: row.get("name")?,
        spec: json(row, "spec")?,
        state: row.get::<_, String>("state")?.parse().unwrap_or(ProbeState::Unknown),
        state_at: time_opt(row, "state_at")?,
        asked_at: time_opt(row, "asked_at")?,
        latency_ms: row.get("latency_ms")?,
        detail: row.get("detail")?,
    })
}

/// Adds a probe.
///
/// # Errors
/// [`StoreError`].
pub fn insert(
    tx: &mut WriteTx<'_>,
    id: ProbeId,
    (host, site): (HostId, Option<SiteId>),
    name: &str,
    spec: &ProbeSpec,
) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO probes (id, host_id, site_id, name, spec, created_at, due_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, iif(?7, ?6, NULL))",
        )?
        .execute(params![
            id.to_string(),
            host.to_string(),
            site.map(|id| id.to_string()),
            name,
            to_json(spec)?,
            tx.now().unix_ms(),
            spec.enabled
        ])?;
    Ok(())
}

/// Whether there is such a site on the host.
///
/// # Errors
/// [`StoreError`].
pub fn is_site_of(db: &Connection, site: SiteId, host: HostId) -> Result<bool, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT 1 FROM sites WHERE id = ?1 AND host_id = ?2 AND removed_at IS NULL")?;
    Ok(statement.exists([site.to_string(), host.to_string()])?)
}

/// Changes a probe's name and what is asked how often. What it knows is kept where the question stays and goes on being asked; else its answers from now on
/// make a new state.
///
/// # Errors
/// [`StoreError`].
pub fn update(tx: &mut WriteTx<'_>, probe: &Probe, name: &str, spec: &ProbeSpec) -> Result<(), StoreError> {
    let anew = spec.question != probe.spec.question || spec.enabled != probe.spec.enabled;
    tx.db()
        .prepare_cached(
            "UPDATE probes SET name = ?2, spec = ?3, due_at = iif(?4, ?5, NULL), state = iif(?6, 'unknown', state),
                    state_at = iif(?6, max(?5, coalesce(asked_at, 0)), state_at)
             WHERE no = ?1",
        )?
        .execute(params![probe.no, name, to_json(spec)?, spec.enabled, tx.now().unix_ms(), anew])?;
    Ok(())
}

/// Removes a probe. Its answers go with the time. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: ProbeId) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE probes SET removed_at = ?2, due_at = NULL WHERE id = ?1 AND removed_at IS NULL")?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    Ok(changed > 0)
}

/// Sets the probe of this name that a host itself has (none of a site's): made, changed, or taken away; one that is the same already stays as it is, with what it
/// knows. `id` is for a new one.
///
/// # Errors
/// [`StoreError`].
pub fn set_named(
    tx: &mut WriteTx<'_>,
    id: ProbeId,
    (host, name): (HostId, &str),
    spec: Option<&ProbeSpec>,
) -> Result<(), StoreError> {
    let before = list(tx.db(), Some(host))?.into_iter().find(|probe| probe.site_id.is_none() && probe.name == name);
    match (before, spec) {
        (Some(before), Some(spec)) if before.spec == *spec => {}
        (Some(before), Some(spec)) => {
            update(tx, &before, name, spec)?;
            if lookup(tx.db(), before.id)?.is_some_and(|after| after.state != before.state) {
                alerts::clear(tx, AlertKind::Unhealthy, &before.id.to_string())?;
            }
        }
        (Some(before), None) => {
            remove(tx, before.id)?;
            alerts::clear(tx, AlertKind::Unhealthy, &before.id.to_string())?;
        }
        (None, Some(spec)) => insert(tx, id, (host, None), name, spec)?,
        (None, None) => {}
    }
    Ok(())
}

/// A probe that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: ProbeId) -> Result<Option<Probe>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND p.id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Those of a host, or all; in the order in which they were made.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, host: Option<HostId>) -> Result<Vec<Probe>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND (?1 IS NULL OR p.host_id = ?1) ORDER BY p.no"))?;
    Ok(statement.query_map([host.map(|id| id.to_string())], from_row)?.collect::<Result<_, _>>()?)
}

/// Probes whose time has come, the longest overdue first. Their number may hold some that are being asked.
///
/// # Errors
/// [`StoreError`].
pub fn due(db: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Probe>, StoreError> {
    let mut statement =
        db.prepare_cached(&format!("{SELECT} AND p.due_at IS NOT NULL AND p.due_at <= ?1 ORDER BY p.due_at LIMIT ?2"))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(statement.query_map(params![now.unix_ms(), limit], from_row)?.collect::<Result<_, _>>()?)
}

/// Brings probes forward that would be asked later than their interval from now: a clock that was set back must not silence them. Returns how many.
///
/// # Errors
/// [`StoreError`].
pub fn bring_forward(tx: &mut WriteTx<'_>) -> Result<usize, StoreError> {
    Ok(tx
        .db()
        .prepare_cached("UPDATE probes SET due_at = ?1 WHERE due_at > ?1 + (spec ->> '$.interval_s') * 1000")?
        .execute([tx.now().unix_ms()])?)
}

/// What an answer was to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The probe's number.
    pub no: i64,
    /// What was asked.
    pub question: Question,
    /// When the answer came.
    pub at: Timestamp,
    /// What it was.
    pub answer: Answer,
}

/// Keeps an answer and what follows from it. Gives the probe as it is then, with the state that it had before; `None` where it is gone, or asks something else
/// by now. Times of a probe's answers only rise, whatever the clock does.
///
/// # Errors
/// [`StoreError`].
pub fn note(tx: &mut WriteTx<'_>, asked: &Asked) -> Result<Option<(Probe, ProbeState)>, StoreError> {
    let found = tx
        .db()
        .prepare_cached(&format!("{SELECT} AND p.no = ?1"))?
        .query_row([asked.no], from_row)
        .optional()?
        .filter(|probe| probe.spec.question == asked.question);
    let Some(mut probe) = found else { return Ok(None) };
    let (before, answer) = (probe.state, &asked.answer);
    let after_the_last = probe.asked_at.map_or(i64::MIN, |last| last.unix_ms() + 1);
    let at = Timestamp::from_unix_ms(asked.at.unix_ms().max(after_the_last));
    tx.db()
        .prepare_cached(
            "INSERT OR REPLACE INTO probe_answers (probe_no, at, healthy, latency_ms, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            probe.no,
            at.unix_ms(),
            answer.healthy,
            answer.latency_ms,
            if answer.healthy { "" } else { answer.detail.as_str() }
        ])?;
    if probe.spec.enabled {
        let recent = recent(tx.db(), &probe)?;
        probe.state = probe.spec.judge(before, &recent);
        if probe.state != before {
            probe.state_at = Some(at);
        }
    }
    (probe.asked_at, probe.latency_ms) = (Some(at), answer.latency_ms);
    probe.detail.clone_from(&answer.detail);
    let due = probe.spec.enabled.then(|| probe.spec.next(probe.no, asked.at).unix_ms());
    tx.db()
        .prepare_cached(
            "UPDATE probes SET state = ?2, state_at = ?3, asked_at = ?4, latency_ms = ?5, detail = ?6, due_at = ?7 WHERE no = ?1",
        )?
        .execute(params![
            probe.no,
            probe.state.as_str(),
            probe.state_at.map(Timestamp::unix_ms),
            at.unix_ms(),
            probe.latency_ms,
            probe.detail,
            due
        ])?;
    Ok(Some((probe, before)))
}

/// Answers that came since the state is what it is, as many as are looked at, the latest first.
fn recent(db: &Connection, probe: &Probe) -> Result<Vec<bool>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT healthy FROM probe_answers WHERE probe_no = ?1 AND at > ?2 ORDER BY at DESC LIMIT ?3",
    )?;
    let since = probe.state_at.map_or(i64::MIN, Timestamp::unix_ms);
    Ok(statement.query_map(params![probe.no, since, probe.spec.of], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// A probe's answers from `since` on, the oldest first; of more than `limit`, the latest.
///
/// # Errors
/// [`StoreError`].
pub fn answers(db: &Connection, no: i64, since: Timestamp, limit: u32) -> Result<Vec<PastAnswer>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT at, healthy, latency_ms, detail FROM probe_answers WHERE probe_no = ?1 AND at >= ?2 ORDER BY at DESC LIMIT ?3",
    )?;
    let rows = statement.query_map(params![no, since.unix_ms(), limit], |row| {
        Ok(PastAnswer {
            at: time(row, "at")?,
            answer: Answer {
                healthy: row.get("healthy")?,
                latency_ms: row.get("latency_ms")?,
                detail: row.get("detail")?,
            },
        })
    })?;
    let mut found: Vec<PastAnswer> = rows.collect::<Result<_, _>>()?;
    found.reverse();
    Ok(found)
}

/// Days for which each answer is kept; after them the worst of each hour is.
pub const ALL_DAYS: i64 = 2;
/// Days after which none is kept.
pub const KEPT_DAYS: i64 = 90;
/// Probes that one step thins.
const STEP: i64 = 20;
const HOUR_MS: i64 = 3_600_000;
/// Until when answers are thinned.
const THINNED: &str = "probe answers thinned";

/// Thins the answers of the probes behind number `after`, a few per call: of what is older than [`ALL_DAYS`] the worst of each hour stays (a bad answer before a
/// good one, then the slowest), of what is older than [`KEPT_DAYS`], and of removed probes, nothing. Gives the number to go on with; `None` at the end.
///
/// # Errors
/// [`StoreError`].
pub fn thin_step(tx: &mut WriteTx<'_>, after: i64) -> Result<Option<i64>, StoreError> {
    let now = tx.now().unix_ms();
    let hour = |ms: i64| ms - ms.rem_euclid(HOUR_MS);
    let until = hour(now - ALL_DAYS * 24 * HOUR_MS);
    let from = meta::get(tx.db(), THINNED)?.and_then(|bytes| Some(i64::from_le_bytes(bytes.try_into().ok()?)));
    let last: Option<i64> = tx
        .db()
        .prepare_cached("SELECT max(no) FROM (SELECT no FROM probes WHERE no > ?1 ORDER BY no LIMIT ?2)")?
        .query_row(params![after, STEP], |row| row.get(0))?;
    let Some(last) = last else {
        meta::put(tx, THINNED, &until.to_le_bytes())?;
        return Ok(None);
    };
    tx.db()
        .prepare_cached(
            "DELETE FROM probe_answers WHERE probe_no > ?1 AND probe_no <= ?2
               AND (at < ?3 OR probe_no IN (SELECT no FROM probes WHERE no > ?1 AND no <= ?2 AND removed_at IS NOT NULL))",
        )?
        .execute(params![after, last, now - KEPT_DAYS * 24 * HOUR_MS])?;
    tx.db()
        .prepare_cached(
            "DELETE FROM probe_answers WHERE (probe_no, at) IN (SELECT probe_no, at FROM (
                 SELECT probe_no, at, row_number() OVER (PARTITION BY probe_no, at / 3600000 ORDER BY healthy, latency_ms IS NOT NULL, latency_ms DESC, at) AS place
                 FROM probe_answers WHERE probe_no > ?1 AND probe_no <= ?2 AND at >= ?3 AND at < ?4) WHERE place > 1)",
        )?
        .execute(params![after, last, from.unwrap_or(0), until])?;
    Ok(Some(last))
}

#[cfg(test)]
mod tests;
