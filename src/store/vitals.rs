//! How the store is doing, in numbers: how long its queue is, how long commits take, how much room it takes and how much is left.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::store::{Store, StoreError, WRITE_QUEUE, blocking};

/// What the writer counts, for those who watch it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    commands: AtomicU64,
    failures: AtomicU64,
    commit_us: AtomicU64,
    slowest_us: AtomicU64,
}

impl Counters {
    /// Notes a transaction: how many commands, how long, whether it is on disk.
    pub(super) fn note(&self, commands: u64, took: Duration, committed: bool) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let counter = if committed { &self.commits } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.slowest_us.fetch_max(us, Ordering::Relaxed);
    }
}

/// The store's condition at one moment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vitals {
    /// Commands that wait for the writer.
    pub queued: u64,
    /// Commands that may wait; past that, callers wait.
    pub queue_bound: u64,
    /// Transactions on disk since the start.
    pub commits: u64,
    /// Transactions that could not be brought to disk.
    pub failures: u64,
    /// Commands in all of them.
    pub commands: u64,
    /// Seconds spent in all transactions, from their begin to the end of their commit.
    pub commit_s: f64,
    /// Seconds of the slowest of them.
    pub slowest_s: f64,
    /// Bytes of the database, wherever its pages are.
    pub database_bytes: u64,
    /// Bytes in it that are free and are used again before it grows.
    pub reusable_bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes that the file system still takes, where it tells.
    pub disk_free: Option<u64>,
}

impl Store {
    /// How the store is doing.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub async fn vitals(&self) -> Result<Vitals, StoreError> {
        let (queued, counters, path) = (self.writer.queued(), self.writer.counters(), self.path().to_owned());
        let (database_bytes, reusable_bytes) = self
            .read(|db| {
                let number = |pragma| db.query_row(pragma, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
                let page = number("PRAGMA page_size")?;
                // Not the file's size: what was written last is still in the write-ahead log.
                Ok::<_, StoreError>((number("PRAGMA page_count")? * page, number("PRAGMA freelist_count")? * page))
            })
            .await?;
        blocking(move || {
            let seconds = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1e6;
            Ok(Vitals {
                queued: queued as u64,
                queue_bound: WRITE_QUEUE as u64,
                commits: counters.commits.load(Ordering::Relaxed),
                failures: counters.failures.load(Ordering::Relaxed),
                commands: counters.commands.load(Ordering::Relaxed),
                commit_s: seconds(&counters.commit_us),
                slowest_s: seconds(&counters.slowest_us),
                database_bytes,
                reusable_bytes,
                wal_bytes: size(&wal_of(&path)),
                disk_free: disk_free(&path),
            })
        })
        .await
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The write-ahead log beside a database file.
pub(super) fn wal_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Bytes that the file system of `path` still takes from this user, where it tells.
#[must_use]
pub fn disk_free(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}
