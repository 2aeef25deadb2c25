//! Copies of the database file: making one while it is in use, and looking whether a file is whole. A copy is one moment of the database, however
//! long it takes; what is there already is never overwritten, and nothing half made is left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreError, blocking, migrate, open_for_reading, open_for_writing};

/// Pages between two looks at whether to stop: 4 MiB.
const STEP_PAGES: i32 = 1024;
/// Rest between two steps: whoever else wants the disk gets it.
const REST: Duration = Duration::from_millis(1);
/// Faults that a check names; more would say no more.
const MAX_FAULTS: u32 = 20;

impl Store {
    /// Copies the database to `target` while it is in use, by SQLite's own backup API, and has it on disk. Ends early, with nothing left behind, once
    /// `stop` is cancelled.
    ///
    /// The copy holds one snapshot from its first page to its last, so that writers can't make it begin anew for ever; the WAL grows meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; an existing `target` is refused.
    pub async fn copy_to(&self, target: PathBuf, stop: CancellationToken) -> Result<(), StoreError> {
        let source = self.path().to_owned();
        blocking(move || {
            make_private(&target)?;
            let copied = copy(&source, &target, &stop);
            if copied.is_err() {
                fs::remove_file(&target).ok();
            }
            copied
        })
        .await
    }

    /// What SQLite finds wrong with the file; empty where all is well.
    ///
    /// # Errors
    /// [`StoreError`] when the check itself can't run.
    pub async fn integrity_problems(&self) -> Result<Vec<String>, StoreError> {
        self.read(thorough).await
    }
}

/// Looks through a database file that is there, as `PRAGMA quick_check` does: every page is read and every tree walked. Empty where all is well; a file
/// that is no database at all is a fault like any other. Takes about a second per 500 MB, more from a slow disk; blocks.
///
/// # Errors
/// [`StoreError`] when the file can't be opened.
pub fn faults(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = open_for_reading(path)?;
    let found: Result<Vec<String>, rusqlite::Error> = connection
        .prepare(&format!("PRAGMA quick_check({MAX_FAULTS})"))
        .and_then(|mut check| check.query_map([], |row| row.get(0))?.collect());
    match found {
        Ok(rows) => Ok(rows.into_iter().filter(|row| row != "ok").collect()),
        Err(e) if is_damage(&e) => Ok(vec![e.to_string()]),
        Err(e) => Err(e.into()),
    }
}

/// Brings a copy that nobody uses to the current version and looks through all of it. Empty where all is well; blocks.
///
/// # Errors
/// [`StoreError`] for a file that is no database, or is of a newer version.
pub fn prepare(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut connection = open_for_writing(path)?;
    migrate::run(&mut connection, path)?;
    let found = thorough(&connection)?;
    // Closing is what brings the WAL into the file; done here, where it can be told.
    connection.close().map_err(|(_, e)| StoreError::from(e))?;
    Ok(found)
}

fn is_damage(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn thorough(db: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = db.prepare("PRAGMA integrity_check")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut problems: Vec<String> = rows.into_iter().filter(|row| row != "ok").collect();
    let mut statement = db.prepare("PRAGMA foreign_key_check")?;
    let orphans = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    problems.extend(orphans.into_iter().map(|table| format!("{table}: a row points to a row that is not there")));
    Ok(problems)
}

/// Made here, so that an existing file is never overwritten and nobody else may read it.
fn make_private(target: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(target).map_err(|source| StoreError::Io { path: target.to_owned(), source })?;
    Ok(())
}

fn copy(source: &Path, target: &Path, stop: &CancellationToken) -> Result<(), StoreError> {
    let from = open_for_reading(source)?;
    let snapshot = from.unchecked_transaction()?;
    // A deferred transaction begins with its first read.
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    let mut to = Connection::open(target)?;
    // The copy is put to disk once, at its end; until then it has no name that counts.
    to.pragma_update(None, "synchronous", "OFF")?;
    {
        let backup = Backup::new(&from, &mut to)?;
        loop {
            if stop.is_cancelled() {
                return Err(StoreError::Closed);
            }
            match backup.step(STEP_PAGES)? {
                StepResult::Done => break,
                _ => std::thread::sleep(REST),
            }
        }
    }
    to.pragma_update(None, "journal_mode", "DELETE")?;
    to.close().map_err(|(_, e)| StoreError::from(e))?;
    let io_error = |source| StoreError::Io { path: target.to_owned(), source };
    fs::File::open(target).and_then(|file| file.sync_all()).map_err(io_error)
}
