//! Folders of snapshots that somebody looked into. What a snapshot holds never changes, so a folder is listed once and kept; when there are too many entries
//! in all, the folder that was looked at the longest ago goes. A folder is read only when all of it is there (`entries` is set).

use std::fmt;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{JobId, NodeKind, NodeRecord, Timestamp, snapshot::SnapshotNo},
    store::{
        StoreError, WriteTx,
        rows::{parsed, time},
    },
};

/// Entries that one write adds or removes: bounds how long the writer is busy with it.
pub const STEP: usize = 2_000;
/// Entries that are kept in all: some 400 MB, which is a few hundred large folders or all of a small fleet's.
pub const BOUND: u64 = 3_000_000;
/// How old the note of a folder's last use may get: looking must not become writing.
const USE_GRAIN_S: i64 = 3600;

/// A folder of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Number within the store.
    pub no: i64,
    /// The job that lists it.
    pub job_id: JobId,
    /// How many entries it has; `None` until all are here.
    pub entries: Option<u64>,
    /// When it was last looked at, within the hour.
    pub used_at: Timestamp,
}

impl Folder {
    /// Whether its use is to be noted again.
    #[must_use]
    pub fn is_worn(&self, now: Timestamp) -> bool {
        now >= self.used_at.plus_s(USE_GRAIN_S)
    }
}

/// The place of an entry in its folder: folders first, then by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKey {
    sort: i64,
    twin: i64,
    name: String,
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.sort, self.twin, self.name)
    }
}

impl std::str::FromStr for NodeKey {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(());
        let (sort, twin) = (number()?, number()?);
        Ok(Self { sort, twin, name: parts.next().ok_or(())?.to_owned() })
    }
}

/// An entry and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stands.
    pub key: NodeKey,
    /// What it is. Owner and group stand joined in `user`.
    pub node: NodeRecord,
}

fn word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Dir => "dir",
        NodeKind::File => "file",
        NodeKind::Symlink => "symlink",
        NodeKind::Other => "other",
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let kind = match row.get_ref("kind")?.as_str()? {
        "dir" => NodeKind::Dir,
        "file" => NodeKind::File,
        "symlink" => NodeKind::Symlink,
        _ => NodeKind::Other,
    };
    let name: String = row.get("name")?;
    let node = NodeRecord {
        name: name.clone(),
        kind,
        size: row.get::<_, Option<i64>>("size")?.map(i64::unsigned_abs),
        mtime: row.get::<_, Option<i64>>("mtime")?.map(Timestamp::from_unix_ms),
        mode: row.get("mode")?,
        user: row.get("owner")?,
        group: String::new(),
    };
    Ok(Entry { key: NodeKey { sort: row.get("sort")?, twin: row.get("twin")?, name }, node })
}

/// A folder, whether or not all of it is here.
///
/// # Errors
/// [`StoreError`].
pub fn folder(db: &Connection, snapshot: SnapshotNo, path: &str) -> Result<Option<Folder>, StoreError> {
    let mut statement = db
        .prepare_cached("SELECT no, job_id, entries, used_at FROM tree_folders WHERE snapshot_no = ?1 AND path = ?2")?;
    let row = statement.query_row(params![snapshot.0, path], |row| {
        Ok(Folder {
            no: row.get("no")?,
            job_id: parsed(row, "job_id")?,
            entries: row.get::<_, Option<i64>>("entries")?.map(i64::unsigned_abs),
            used_at: time(row, "used_at")?,
        })
    });
    Ok(row.optional()?)
}

/// Notes that a job is to list a folder, or (`None`) that all of it is here already.
///
/// # Errors
/// [`StoreError`].
pub fn order(tx: &mut WriteTx<'_>, snapshot: SnapshotNo, path: &str, job: JobId) -> Result<Option<Folder>, StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO tree_folders (snapshot_no, path, job_id, used_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (snapshot_no, path) DO UPDATE SET job_id = ?3, used_at = ?4 WHERE entries IS NULL",
        )?
        .execute(params![snapshot.0, path, job.to_string(), tx.now().unix_ms()])?;
    Ok(folder(tx.db(), snapshot, path)?.filter(|folder| folder.entries.is_none()))
}

/// Removes a step of what a filling that was cut off left. Returns whether there may be more.
///
/// # Errors
/// [`StoreError`].
pub fn clear_step(tx: &mut WriteTx<'_>, folder: i64) -> Result<bool, StoreError> {
    let removed = tx
        .db()
        .prepare_cached(
            "DELETE FROM tree_nodes WHERE folder_no = ?1 AND (folder_no, sort, name, twin) IN
               (SELECT folder_no, sort, name, twin FROM tree_nodes WHERE folder_no = ?1 LIMIT ?2)",
        )?
        .execute(params![folder, STEP as i64])?;
    Ok(removed == STEP)
}

/// Adds entries to a folder that is being filled; at most [`STEP`] at once.
///
/// # Errors
/// [`StoreError`].
pub fn fill(tx: &mut WriteTx<'_>, folder: i64, nodes: &[NodeRecord]) -> Result<(), StoreError> {
    let mut insert = tx.db().prepare_cached(
        "INSERT OR IGNORE INTO tree_nodes (folder_no, sort, name, twin, kind, size, mtime, mode, owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut twins =
        tx.db().prepare_cached("SELECT count(*) FROM tree_nodes WHERE folder_no = ?1 AND sort = ?2 AND name = ?3")?;
    for node in nodes {
        let sort = i64::from(node.kind != NodeKind::Dir);
        let size = node.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        let owner = if node.group.is_empty() { node.user.clone() } else { format!("{}:{}", node.user, node.group) };
        let mut put = |twin: i64| {
            insert.execute(params![
                folder,
                sort,
                node.name,
                twin,
                word(node.kind),
                size,
                node.mtime.map(Timestamp::unix_ms),
                node.mode,
                owner
            ])
        };
        if put(0)? == 0 {
            put(twins.query_row(params![folder, sort, node.name], |row| row.get(0))?)?;
        }
    }
    Ok(())
}

/// All of a folder is here.
///
/// # Errors
/// [`StoreError`].
pub fn finish(tx: &mut WriteTx<'_>, folder: i64, entries: u64) -> Result<(), StoreError> {
    tx.db().prepare_cached("UPDATE tree_folders SET entries = ?2, used_at = ?3 WHERE no = ?1")?.execute(params![
        folder,
        i64::try_from(entries).unwrap_or(i64::MAX),
        tx.now().unix_ms()
    ])?;
    Ok(())
}

/// Notes that a folder was looked at.
///
/// # Errors
/// [`StoreError`].
pub fn touch(tx: &mut WriteTx<'_>, folder: i64) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE tree_folders SET used_at = ?2 WHERE no = ?1")?
        .execute(params![folder, tx.now().unix_ms()])?;
    Ok(())
}

/// Entries of a folder after `after`, folders first, then by name; those whose name holds `wanted`, where that is not empty. Letters A to Z count in
/// either case.
///
/// # Errors
/// [`StoreError`].
pub fn page(
    db: &Connection,
    folder: i64,
    after: Option<&NodeKey>,
    wanted: &str,
    limit: u32,
) -> Result<Vec<Entry>, StoreError> {
    let after = after.cloned().unwrap_or(NodeKey { sort: -1, twin: 0, name: String::new() });
    let mut pattern = String::with_capacity(wanted.len() + 2);
    pattern.push('%');
    for c in wanted.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    let condition = if wanted.is_empty() { "?5 = '%%'" } else { "name LIKE ?5 ESCAPE '\\'" };
    let mut statement = db.prepare_cached(&format!(
        "SELECT sort, name, twin, kind, size, mtime, mode, owner FROM tree_nodes
         WHERE folder_no = ?1 AND (sort, name, twin) > (?2, ?3, ?4) AND {condition} ORDER BY sort, name, twin LIMIT ?6"
    ))?;
    let rows = statement.query_map(params![folder, after.sort, after.name, after.twin, pattern, limit], entry)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Entries that are kept in all.
///
/// # Errors
/// [`StoreError`].
pub fn total(db: &Connection) -> Result<u64, StoreError> {
    let n: i64 =
        db.prepare_cached("SELECT coalesce(sum(entries), 0) FROM tree_folders")?.query_row([], |row| row.get(0))?;
    Ok(n.unsigned_abs())
}

/// Whether something is to be taken out of the cache so that it holds at most `bound` entries.
///
/// # Errors
/// [`StoreError`].
pub fn is_over(db: &Connection, bound: u64) -> Result<bool, StoreError> {
    let going = db.prepare_cached("SELECT 1 FROM tree_folders WHERE used_at = 0 LIMIT 1")?.exists([])?;
    Ok(going || total(db)? > bound)
}

/// Takes a step out of the cache where it holds more than `bound` entries: of the folder that was looked at the longest ago. Such a one is out of sight from the
/// first step on, so that nobody reads half of it. Returns whether there is more to do.
///
/// # Errors
/// [`StoreError`].
pub fn evict_step(tx: &mut WriteTx<'_>, bound: u64) -> Result<bool, StoreError> {
    let db = tx.db();
    // Paths begin with a slash; this one is nobody's.
    let out: Option<i64> = db
        .prepare_cached("SELECT no FROM tree_folders WHERE used_at = 0 LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    if let Some(no) = out {
        if !clear_step(tx, no)? {
            tx.db().prepare_cached("DELETE FROM tree_folders WHERE no = ?1")?.execute([no])?;
        }
        return Ok(true);
    }
    if total(db)? <= bound {
        return Ok(false);
    }
    let moved = db
        .prepare_cached(
            "UPDATE tree_folders SET path = 'out ' || no, entries = 0, used_at = 0
             WHERE no = (SELECT no FROM tree_folders WHERE entries IS NOT NULL ORDER BY used_at, no LIMIT 1)",
        )?
        .execute([])?;
    Ok(moved > 0)
}

#[cfg(test)]
mod tests;
