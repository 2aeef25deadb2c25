//! Probes in the store: what is asked, what was answered last. A removed host's probes are not asked.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, ProbeId, SiteId,
        probe::{Probe, ProbeSpec, ProbeState},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, parsed_opt, time_opt, to_json},
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
            "INSERT INTO probes (id, host_id, site_id, name, spec, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            id.to_string(),
            host.to_string(),
            site.map(|id| id.to_string()),
            name,
            to_json(spec)?,
            tx.now().unix_ms()
        ])?;
    Ok(())
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
            let set = "UPDATE probes SET spec = ?2, state = 'unknown', state_at = NULL WHERE no = ?1";
            tx.db().prepare_cached(set)?.execute(params![before.no, to_json(spec)?])?;
        }
        (Some(before), None) => {
            let set = "UPDATE probes SET removed_at = ?2 WHERE no = ?1";
            tx.db().prepare_cached(set)?.execute(params![before.no, tx.now().unix_ms()])?;
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
