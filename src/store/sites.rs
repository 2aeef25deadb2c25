//! Sites in the store. A removed site keeps its row for the jobs that name it; a removed host's sites are not there any more, and their slugs are free again.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        HostId, JobId, SiteId,
        site::{Site, SiteFields},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, json_opt, parsed, time, to_json},
    },
};

const SELECT: &str = "SELECT s.*, h.name AS host_name FROM sites s JOIN hosts h ON h.id = s.host_id
    WHERE s.removed_at IS NULL AND h.removed_at IS NULL";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Site> {
    Ok(Site {
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        host_name: row.get("host_name")?,
        fields: SiteFields {
            name: row.get("name")?,
            slug: row.get("slug")?,
            kind: row.get("kind")?,
            root: row.get("root")?,
            url: row.get("url")?,
            container: json_opt(row, "container")?,
            facts: json(row, "facts")?,
        },
        created_at: time(row, "created_at")?,
    })
}

/// Adds a site.
///
/// # Errors
/// [`StoreError`]; a slug that is taken is a conflict; a host that is not there breaks a foreign key.
pub fn insert(tx: &mut WriteTx<'_>, id: SiteId, host: HostId, fields: &SiteFields) -> Result<Site, StoreError> {
    free_slugs(tx)?;
    tx.db()
        .prepare_cached(
            "INSERT INTO sites (id, host_id, name, slug, kind, root, url, container, facts, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id.to_string(),
            host.to_string(),
            fields.name,
            fields.slug,
            fields.kind,
            fields.root,
            fields.url,
            fields.container.as_ref().map(to_json).transpose()?,
            to_json(&fields.facts)?,
            tx.now().unix_ms(),
        ])?;
    lookup(tx.db(), id)?.ok_or_else(|| StoreError::Corrupt("a site that was just added is not there".to_owned()))
}

/// Changes a site. Returns whether there is such a one.
///
/// # Errors
/// As [`insert`].
pub fn update(tx: &mut WriteTx<'_>, id: SiteId, fields: &SiteFields) -> Result<bool, StoreError> {
    free_slugs(tx)?;
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE sites SET name = ?2, slug = ?3, kind = ?4, root = ?5, url = ?6, container = ?7, facts = ?8
             WHERE id = ?1 AND removed_at IS NULL",
        )?
        .execute(params![
            id.to_string(),
            fields.name,
            fields.slug,
            fields.kind,
            fields.root,
            fields.url,
            fields.container.as_ref().map(to_json).transpose()?,
            to_json(&fields.facts)?,
        ])?;
    Ok(changed > 0)
}

/// A removed host's sites went with it.
fn free_slugs(tx: &mut WriteTx<'_>) -> Result<(), StoreError> {
    let now = tx.now().unix_ms();
    tx.db()
        .prepare_cached(
            "UPDATE sites SET removed_at = ?1
             WHERE removed_at IS NULL AND host_id IN (SELECT id FROM hosts WHERE removed_at IS NOT NULL)",
        )?
        .execute([now])?;
    Ok(())
}

/// Removes a site. Returns whether there was such a one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: SiteId) -> Result<bool, StoreError> {
    let now = tx.now().unix_ms();
    let mut statement =
        tx.db().prepare_cached("UPDATE sites SET removed_at = ?2 WHERE id = ?1 AND removed_at IS NULL")?;
    Ok(statement.execute(params![id.to_string(), now])? > 0)
}

/// A site that was not removed.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: SiteId) -> Result<Option<Site>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND s.id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// The site of a slug.
///
/// # Errors
/// [`StoreError`].
pub fn of_slug(db: &Connection, slug: &str) -> Result<Option<Site>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} AND s.slug = ?1"))?;
    Ok(statement.query_row([slug], from_row).optional()?)
}

/// Those of a host, or all, by name; those after `after`, at most `limit` (0 for all).
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, host: Option<HostId>, after: Option<SiteId>, limit: u32) -> Result<Vec<Site>, StoreError> {
    let limit = if limit == 0 { -1 } else { i64::from(limit) };
    let mut statement = db.prepare_cached(&format!(
        "{SELECT} AND (?1 IS NULL OR s.host_id = ?1)
           AND (?2 IS NULL OR (s.name COLLATE NOCASE, s.id) > (SELECT name COLLATE NOCASE, id FROM sites WHERE id = ?2))
         ORDER BY s.name COLLATE NOCASE, s.id LIMIT ?3"
    ))?;
    let rows =
        statement.query_map(params![host.map(|id| id.to_string()), after.map(|id| id.to_string()), limit], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The latest jobs about a site, newest first.
///
/// # Errors
/// [`StoreError`].
pub fn jobs(db: &Connection, site: SiteId, limit: u32) -> Result<Vec<JobId>, StoreError> {
    let mut statement = db.prepare_cached("SELECT id FROM jobs WHERE site_id = ?1 ORDER BY no DESC LIMIT ?2")?;
    let rows = statement.query_map(params![site.to_string(), limit], |row| parsed(row, "id"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
