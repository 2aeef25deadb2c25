//! Copies of the control plane's own database: made at night and on demand, looked through before they count, and rotated. A copy has its name only
//! once it is whole; a failed one leaves the earlier ones alone. The master key is in none of them.

mod rotation;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use rotation::superfluous;

use crate::{
    clock::SharedClock,
    config::DatabaseConfig,
    domain::{Timestamp, job::Actor},
    store::{Store, StoreError, Vitals, audit, copies, disk_free, meta},
};

/// Room that must be left on the disk once a copy is made: the database itself may lie there.
const RESERVE: u64 = 16 << 20;
/// A copy that is older than this is a reason to warn: one night may fail, two must not go unseen.
const STALE_S: i64 = 50 * 3600;
/// A copy that is older than this is made good for soon after a start: the server was off at the hour.
const MISSED_S: i64 = 26 * 3600;
/// What is remembered of the last attempt.
const LAST: &str = "database backup";
const PREFIX: &str = "flotilla-";
const SUFFIX: &str = ".db";
const UNFINISHED: &str = "unfinished.partial";

/// Why no copy was made. The earlier ones are as they were.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One is being made.
    #[error("a copy of the database is being made right now: wait until it is done")]
    Busy,
    /// The disk is too full.
    #[error("there is too little room in {dir} for a copy of the database: it needs {need} MiB and {free} MiB are free. Make room, or set `backup_dir` to another disk", dir = dir.display())]
    NoRoom {
        /// Where.
        dir: PathBuf,
        /// MiB that are needed.
        need: u64,
        /// MiB that are free.
        free: u64,
    },
    /// The copy is not whole; so the database may not be either.
    #[error(
        "the copy of the database was damaged and was thrown away: {0}. Run `flotilla db check` to see whether the database itself is"
    )]
    Damaged(String),
    /// The file system said no.
    #[error("the copy of the database could not be put to {path}: {source}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A copy that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The file.
    pub path: PathBuf,
    /// When it was made.
    pub made_at: Timestamp,
    /// How large it is.
    pub bytes: u64,
}

/// The last attempt to make a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, check and all.
    pub took_ms: u64,
    /// Why it failed; `None`: it is whole.
    pub error: Option<String>,
}

/// All that is to be said of the database and its copies.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Where the database is.
    pub path: PathBuf,
    /// Its numbers.
    pub vitals: Vitals,
    /// Bytes of text of all logs in it.
    pub log_bytes: u64,
    /// Where copies are put.
    pub dir: PathBuf,
    /// Bytes that are free there, where the system tells.
    pub dir_free: Option<u64>,
    /// The copies, newest first.
    pub copies: Vec<Copy>,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// When the next is made by itself; `None`: never.
    pub next_at: Option<Timestamp>,
    /// A copy is being made.
    pub busy: bool,
    /// What is wrong, why, and what to do; `None`: all is well.
    pub trouble: Option<String>,
}

/// The keeper of the copies. Clones share it.
#[derive(Clone)]
pub struct Database(Arc<Parts>);

struct Parts {
    store: Store,
    clock: SharedClock,
    config: DatabaseConfig,
    busy: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    last: Option<Attempt>,
    damage: Option<String>,
}

impl Database {
    /// A keeper for this store's copies.
    #[must_use]
    pub fn new(store: Store, clock: SharedClock, config: DatabaseConfig) -> Self {
        let (busy, known) = (tokio::sync::Mutex::new(()), Mutex::default());
        Self(Arc::new(Parts { store, clock, config, busy, known }))
    }

    /// Where copies are put.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        backup_dir(&self.0.config, self.0.store.path().parent().unwrap_or(Path::new(".")))
    }

    /// When copies are made by themselves; `None`: never.
    #[must_use]
    pub fn nightly_at(&self) -> Option<(u32, u32)> {
        self.0.config.nightly.then_some(self.0.config.at)
    }

    /// Makes a copy, looks through it, gives it its name, and removes those that have had their time. Ends early, with nothing left behind, once `stop`
    /// is cancelled.
    ///
    /// # Errors
    /// [`BackupError`]; it is remembered and shown until a copy succeeds, but for [`BackupError::Busy`].
    pub async fn back_up(&self, actor: Actor, stop: CancellationToken) -> Result<Copy, BackupError> {
        let Ok(_alone) = self.0.busy.try_lock() else { return Err(BackupError::Busy) };
        let began = self.0.clock.now();
        let made = self.make(began, stop.clone()).await;
        let took_ms = u64::try_from(self.0.clock.now().ms_since(began)).unwrap_or(0);
        // A server that stops is no reason to warn at its next start.
        if made.is_err() && stop.is_cancelled() {
            return made;
        }
        let attempt = Attempt { at: began, took_ms, error: made.as_ref().err().map(ToString::to_string) };
        self.known().last = Some(attempt.clone());
        self.remember(attempt, actor).await;
        made
    }

    async fn make(&self, began: Timestamp, stop: CancellationToken) -> Result<Copy, BackupError> {
        let (store, dir) = (&self.0.store, self.dir());
        let need = store.vitals().await?.database_bytes.saturating_add(RESERVE);
        let place = dir.clone();
        blocking(move || prepare(&place, need)).await?;
        let partial = dir.join(UNFINISHED);
        store.copy_to(partial.clone(), stop).await?;
        let path = dir.join(file_name(began));
        let made = path.clone();
        let (daily, weekly) = (self.0.config.keep_daily, self.0.config.keep_weekly);
        let bytes = blocking(move || {
            let finished = finish(&partial, &path);
            if finished.is_err() {
                fs::remove_file(&partial).ok();
            }
            let bytes = finished?;
            rotate(&dir, began, daily, weekly);
            Ok(bytes)
        })
        .await?;
        tracing::info!(file = %made.display(), bytes, "made a copy of the database");
        Ok(Copy { path: made, made_at: began, bytes })
    }

    /// Where this fails, as on a full disk, the keeper still knows until the next start.
    async fn remember(&self, attempt: Attempt, actor: Actor) {
        let written = self.0.store.write(move |tx| {
            let text = serde_json::to_vec(&attempt).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            audit::record(tx, &actor, "database.backup", "", attempt.error.as_deref().unwrap_or("done"))?;
            meta::put(tx, LAST, &text)
        });
        if let Err(e) = written.await {
            tracing::warn!(error = %e, "the attempt to copy the database could not be noted");
        }
    }

    /// The copies that are there, newest first.
    ///
    /// # Errors
    /// [`BackupError::Io`] when the folder can't be read.
    pub async fn copies(&self) -> Result<Vec<Copy>, BackupError> {
        let dir = self.dir();
        blocking(move || list(&dir)).await
    }

    /// The last attempt, by this process or an earlier one.
    async fn last(&self) -> Result<Option<Attempt>, StoreError> {
        if let Some(last) = self.known().last.clone() {
            return Ok(Some(last));
        }
        let stored = self.0.store.read(|db| meta::get(db, LAST)).await?;
        let last: Option<Attempt> = stored.and_then(|text| serde_json::from_slice(&text).ok());
        self.known().last.clone_from(&last);
        Ok(last)
    }

    /// Notes what a check of the database itself found; empty: nothing is wrong.
    pub fn note_faults(&self, faults: &[String]) {
        self.known().damage = (!faults.is_empty()).then(|| faults.join("; "));
    }

    /// Whether a copy is overdue because the server was off when it should have been made.
    ///
    /// # Errors
    /// [`BackupError::Io`] when the folder can't be read.
    pub async fn missed(&self) -> Result<bool, BackupError> {
        let newest = self.copies().await?.first().map(|copy| copy.made_at);
        let now = self.0.clock.now();
        Ok(self.0.config.nightly && newest.is_none_or(|at| now.ms_since(at) > MISSED_S * 1000))
    }

    /// Whether the last attempt failed.
    pub async fn failed_last(&self) -> bool {
        matches!(self.last().await, Ok(Some(Attempt { error: Some(_), .. })))
    }

    /// What is wrong with the database or its copies, in a sentence or two; `None`: nothing. Cheap: for every look at the dashboard.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trouble(&self) -> Result<Option<String>, StoreError> {
        if let Some(damage) = self.known().damage.clone() {
            return Ok(Some(damaged(&damage)));
        }
        let last = self.last().await?;
        let now = self.0.clock.now();
        Ok(last.and_then(|last| match last.error {
            Some(error) => Some(format!("The last copy of Flotilla's own database failed: {error}.")),
            None if self.0.config.nightly && now.ms_since(last.at) > STALE_S * 1000 => {
                Some("No copy of Flotilla's own database was made for two days. The server's log says why.".to_owned())
            }
            None => None,
        }))
    }

    /// When the last good copy was made, for those who watch its age.
    ///
    /// # Errors
    /// [`BackupError::Io`].
    pub async fn newest(&self) -> Result<Option<Timestamp>, BackupError> {
        Ok(self.copies().await?.first().map(|copy| copy.made_at))
    }

    /// All of it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn status(&self) -> Result<Status, BackupError> {
        let dir = self.dir();
        let at = dir.clone();
        // Before the first copy the folder is not there yet; its parent tells as well.
        let dir_free = blocking(move || Ok(disk_free(&at).or_else(|| at.parent().and_then(disk_free)))).await?;
        let (copies, unreadable) = match self.copies().await {
            Ok(copies) => (copies, None),
            Err(e) => (Vec::new(), Some(format!("{e}."))),
        };
        Ok(Status {
            path: self.0.store.path().to_owned(),
            vitals: self.0.store.vitals().await?,
            log_bytes: self.0.store.read(crate::store::retention::bytes).await?,
            dir_free,
            copies,
            last: self.last().await?,
            next_at: self.nightly_at().map(|at| next_at(self.0.clock.now(), at)),
            busy: self.0.busy.try_lock().is_err(),
            trouble: self.trouble().await?.or(unreadable),
            dir,
        })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every critical section is one assignment or copy.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the copies of the database in `data_dir` are put.
#[must_use]
pub fn backup_dir(config: &DatabaseConfig, data_dir: &Path) -> PathBuf {
    config.dir.clone().unwrap_or_else(|| data_dir.join("backups"))
}

/// The newest copy in a folder of copies, where there is one; blocks.
#[must_use]
pub fn newest_in(dir: &Path) -> Option<Copy> {
    list(dir).ok()?.into_iter().next()
}

fn damaged(faults: &str) -> String {
    format!(
        "Flotilla's own database is damaged: {faults}. Stop the server and bring a copy back with `flotilla db restore FILE --replace`."
    )
}

/// The next moment at this hour and minute, UTC.
fn next_at(now: Timestamp, (hour, minute): (u32, u32)) -> Timestamp {
    const DAY: i64 = 86_400;
    let now_s = now.unix_ms().div_euclid(1000);
    let today = now_s.div_euclid(DAY) * DAY + i64::from(hour) * 3600 + i64::from(minute) * 60;
    Timestamp::from_unix_ms((if today > now_s { today } else { today + DAY }) * 1000)
}

/// `flotilla-2026-11-21T02-40-00.000Z.db`: no colons, which some file systems refuse.
fn file_name(made_at: Timestamp) -> String {
    format!("{PREFIX}{}{SUFFIX}", made_at.to_string().replace(':', "-"))
}

fn made_at(name: &str) -> Option<Timestamp> {
    let (date, time) = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('T')?;
    format!("{date}T{}", time.replace('-', ":")).parse().ok()
}

fn prepare(dir: &Path, need: u64) -> Result<(), BackupError> {
    let refused = |source| BackupError::Io { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(refused)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(refused)?;
    }
    // What a crash left behind; only one is made at a time.
    fs::remove_file(dir.join(UNFINISHED)).ok();
    match disk_free(dir) {
        Some(free) if free < need => {
            Err(BackupError::NoRoom { dir: dir.to_owned(), need: need.div_ceil(1 << 20), free: free >> 20 })
        }
        _ => Ok(()),
    }
}

/// Looks through the copy and gives it its name. Returns its size.
fn finish(partial: &Path, path: &Path) -> Result<u64, BackupError> {
    let faults = copies::faults(partial)?;
    if !faults.is_empty() {
        return Err(BackupError::Damaged(faults.join("; ")));
    }
    let refused = |source| BackupError::Io { path: path.to_owned(), source };
    fs::rename(partial, path).map_err(refused)?;
    // So that the name outlives a power cut.
    if let Some(dir) = path.parent() {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(refused)?;
    }
    Ok(fs::metadata(path).map_err(refused)?.len())
}

fn list(dir: &Path) -> Result<Vec<Copy>, BackupError> {
    let refused = |source| BackupError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(refused(e)),
    };
    let mut copies = Vec::new();
    for entry in entries {
        let entry = entry.map_err(refused)?;
        let Some(made_at) = entry.file_name().to_str().and_then(made_at) else { continue };
        let bytes = entry.metadata().map_err(refused)?.len();
        copies.push(Copy { path: entry.path(), made_at, bytes });
    }
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.made_at));
    Ok(copies)
}

/// A copy that can't be removed now is removed the next time.
fn rotate(dir: &Path, now: Timestamp, daily: usize, weekly: usize) {
    let Ok(copies) = list(dir) else { return };
    let times: Vec<Timestamp> = copies.iter().map(|copy| copy.made_at).collect();
    let gone = superfluous(&times, now, daily, weekly);
    for copy in copies.iter().filter(|copy| gone.contains(&copy.made_at)) {
        if let Err(e) = fs::remove_file(&copy.path) {
            tracing::warn!(file = %copy.path.display(), error = %e, "an old copy of the database could not be removed");
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(BackupError::Store(StoreError::Panicked)))
}

#[cfg(test)]
mod tests;
