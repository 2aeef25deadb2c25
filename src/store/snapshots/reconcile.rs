//! A whole list against the index, in three moves: read what is known, compare beside the writer, write the difference in steps. Each step is idempotent, so
//! a list that was taken half is simply taken again. A row that came after the list was begun is not gone because the list lacks it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::OWNER;
use crate::{
    domain::{JobId, JobKind, RepoId, SnapshotRecord, Timestamp, snapshot::is_whole_id},
    store::{
        StoreError, WriteTx,
        rows::{json, parsed_opt, time, time_opt, to_json},
    },
};

/// Rows that one step writes: bounds how long the writer is busy with it.
const STEP: usize = 500;

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Of which repository.
    pub repo: RepoId,
    /// The job that listed.
    pub job: JobId,
    /// Its kind.
    pub kind: JobKind,
    /// When it can have begun to look, at the earliest.
    pub from: Timestamp,
}

/// What the index has of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    no: i64,
    record: SnapshotRecord,
    first_seen_at: Timestamp,
    gone_at: Option<Timestamp>,
}

/// All that the index has of a repository, by id, gone ones too.
///
/// # Errors
/// [`StoreError`].
pub fn known(db: &Connection, repo: RepoId) -> Result<HashMap<String, Known>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM snapshots WHERE repo_id = ?1")?;
    let rows = statement.query_map([repo.to_string()], |row| {
        let known = known_of(row)?;
        Ok((known.record.id.clone(), known))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn known_of(row: &Row<'_>) -> rusqlite::Result<Known> {
    let count = |column: &str| row.get::<_, Option<i64>>(column).map(|n| n.map(i64::unsigned_abs));
    let record = SnapshotRecord {
        id: row.get("id")?,
        time: Some(time(row, "time")?),
        parent: row.get("parent")?,
        tree: row.get("tree")?,
        hostname: row.get("hostname")?,
        username: row.get("username")?,
        paths: json(row, "paths")?,
        paths_cut: false,
        tags: json(row, "tags")?,
        original: row.get("original")?,
        program: row.get("program")?,
        files: count("files")?,
        bytes: count("bytes")?,
        added: count("added")?,
    };
    let (first_seen_at, gone_at) = (time(row, "first_seen_at")?, time_opt(row, "gone_at")?);
    Ok(Known { no: row.get("no")?, record, first_seen_at, gone_at })
}

/// What a list changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// Snapshots that are new, or of which something is known better now.
    write: Vec<SnapshotRecord>,
    /// Rows whose snapshot is not there any more.
    gone: Vec<i64>,
}

impl Changes {
    /// The steps in which they are written; none where nothing changed.
    #[must_use]
    pub fn steps(mut self) -> Vec<Self> {
        let mut steps = Vec::new();
        while !self.write.is_empty() || !self.gone.is_empty() {
            // New ones before gone ones: where a snapshot was rewritten, what holds for the old row passes on to the new one.
            let write = self.write.split_off(self.write.len().saturating_sub(STEP));
            let room = if self.write.is_empty() { STEP - write.len() } else { 0 };
            let gone = self.gone.split_off(self.gone.len().saturating_sub(room));
            steps.push(Self { write, gone });
        }
        steps
    }
}

/// Holds a whole list against what is known.
#[must_use]
pub fn compare(listed: &Listed, records: Vec<SnapshotRecord>, mut known: HashMap<String, Known>) -> Changes {
    let mut changes = Changes::default();
    for mut record in records.into_iter().filter(|record| is_whole_id(&record.id)) {
        // A year that no calendar has: the claim is worth nothing, and the row is wanted all the same.
        record.time = Some(record.time.unwrap_or(Timestamp::from_unix_ms(0)));
        record.paths_cut = false;
        match known.remove(&record.id) {
            None => changes.write.push(record),
            Some(known) => {
                let record = with_counts(record, &known.record);
                // A list that began before the row was found gone knows nothing of that.
                let is_back = known.gone_at.is_some_and(|gone| gone < listed.from);
                if is_back || known.gone_at.is_none() && record != known.record {
                    changes.write.push(record);
                }
            }
        }
    }
    let gone = known.into_values().filter(|known| known.gone_at.is_none() && known.first_seen_at < listed.from);
    changes.gone = gone.map(|known| known.no).collect();
    changes
}

/// What this list does not count (restic before 0.17) a backup's end may have.
fn with_counts(mut record: SnapshotRecord, known: &SnapshotRecord) -> SnapshotRecord {
    record.files = record.files.or(known.files);
    record.bytes = record.bytes.or(known.bytes);
    record.added = record.added.or(known.added);
    record
}

/// Writes one step.
///
/// # Errors
/// [`StoreError`].
pub fn apply(tx: &mut WriteTx<'_>, listed: &Listed, step: &Changes) -> Result<(), StoreError> {
    for record in &step.write {
        put(tx, listed, record)?;
    }
    let by = if step.gone.is_empty() { None } else { remover(tx.db(), listed)? };
    let now = tx.now().unix_ms();
    let mut gone =
        tx.db().prepare_cached("UPDATE snapshots SET gone_at = ?2, gone_by = ?3 WHERE no = ?1 AND gone_at IS NULL")?;
    for no in &step.gone {
        gone.execute(params![no, now, by.map(|id| id.to_string())])?;
    }
    Ok(())
}

fn put(tx: &WriteTx<'_>, listed: &Listed, record: &SnapshotRecord) -> Result<(), StoreError> {
    let number = |n: Option<u64>| n.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let repo = listed.repo.to_string();
    tx.db()
        .prepare_cached(
            "INSERT INTO snapshots (repo_id, id, time, hostname, username, paths, tags, tree, parent, original, program, files, bytes, added, first_seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT (repo_id, id) DO UPDATE SET time = ?3, hostname = ?4, username = ?5, paths = ?6, tags = ?7, tree = ?8, parent = ?9, original = ?10,
               program = ?11, files = coalesce(?12, files), bytes = coalesce(?13, bytes), added = coalesce(?14, added), gone_at = NULL, gone_by = NULL",
        )?
        .execute(params![
            repo,
            record.id,
            record.time.map(Timestamp::unix_ms),
            record.hostname,
            record.username,
            to_json(&record.paths)?,
            to_json(&record.tags)?,
            record.tree,
            record.parent,
            record.original,
            record.program,
            number(record.files),
            number(record.bytes),
            number(record.added),
            tx.now().unix_ms(),
        ])?;
    tx.db()
        .prepare_cached(&format!("UPDATE snapshots SET host_id = {OWNER} WHERE repo_id = ?1 AND id = ?2"))?
        .execute([&repo, &record.id])?;
    // A changed tag makes a new snapshot of an old one. Whoever pinned that one meant this.
    if let Some(original) = record.original.as_ref().filter(|_| listed.kind != JobKind::Copy) {
        tx.db()
            .prepare_cached(
                "UPDATE snapshots SET (pinned_at, pinned_by, pin_reason, job_id, plan_id) =
                   (SELECT coalesce(snapshots.pinned_at, o.pinned_at), coalesce(snapshots.pinned_by, o.pinned_by),
                           coalesce(snapshots.pin_reason, o.pin_reason), coalesce(snapshots.job_id, o.job_id), coalesce(snapshots.plan_id, o.plan_id)
                    FROM snapshots o WHERE o.repo_id = ?1 AND o.id = ?3)
                 WHERE repo_id = ?1 AND id = ?2 AND first_seen_at = ?4
                   AND EXISTS (SELECT 1 FROM snapshots o WHERE o.repo_id = ?1 AND o.id = ?3 AND o.gone_at IS NULL
                               AND o.tree = snapshots.tree AND o.tree <> '' AND o.time = snapshots.time AND o.hostname = snapshots.hostname)",
            )?
            .execute(params![repo, record.id, original, tx.now().unix_ms()])?;
    }
    Ok(())
}

/// The job that removed what is not there any more: the one that listed, if it is of a kind that removes; else the last such that ended since the list before.
fn remover(db: &Connection, listed: &Listed) -> Result<Option<JobId>, StoreError> {
    if matches!(listed.kind, JobKind::Forget | JobKind::Tag | JobKind::Repair) {
        return Ok(Some(listed.job));
    }
    let mut statement = db.prepare_cached(
        "SELECT id FROM jobs WHERE repo_id = ?1 AND kind IN ('forget', 'tag', 'repair')
           AND finished_at > coalesce((SELECT indexed_at FROM repos WHERE id = ?1), 0) ORDER BY no DESC LIMIT 1",
    )?;
    let id = statement.query_row([listed.repo.to_string()], |row| parsed_opt(row, "id")).optional()?;
    Ok(id.flatten())
}

/// Notes that the list is in the index, which is fresh then, unless something changed after the list was begun.
///
/// # Errors
/// [`StoreError`].
pub fn conclude(tx: &mut WriteTx<'_>, listed: &Listed) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "UPDATE repos SET indexed_at = ?2, index_stale_at = CASE WHEN index_stale_at >= ?3 THEN index_stale_at END, known_at = coalesce(known_at, ?2)
             WHERE id = ?1",
        )?
        .execute(params![listed.repo.to_string(), tx.now().unix_ms(), listed.from.unix_ms()])?;
    // Hosts may have been enrolled, or names matched, since the rows were written.
    tx.db()
        .prepare_cached(&format!(
            "UPDATE snapshots SET host_id = {OWNER} WHERE repo_id = ?1 AND gone_at IS NULL AND host_id IS NULL AND {OWNER} IS NOT NULL"
        ))?
        .execute([listed.repo.to_string()])?;
    Ok(())
}
