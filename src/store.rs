//! The embedded database: SQLite in WAL mode, `synchronous=FULL`. Nothing outside this module knows SQL.
//!
//! # Concurrency contract
//! - Exactly one connection writes, on one thread of its own ([`writer`]). It takes whatever is *already* queued into one transaction, one
//!   savepoint each, commits, publishes the events, and answers, in that order. So event order is commit order, an answer means "on disk",
//!   and one failing command takes nobody else's work along.
//! - The queue is bounded ([`WRITE_QUEUE`]); a full one makes callers wait, down to the agent's socket.
//! - Reads run on a small pool of `query_only` connections, on blocking threads, each in one deferred transaction: one page, one snapshot.
//! - Aggregates are modules of plain functions: reads take `&Connection`, writes take `&mut WriteTx`, which only the writer hands out.

pub mod aftermath;
pub mod alerts;
pub mod audit;
pub mod copies;
pub mod enrolment;
pub mod facets;
pub mod health;
pub mod hosts;
pub mod jobs;
pub mod listings;
mod log_chunk;
pub mod logs;
pub mod meta;
mod migrate;
pub mod moments;
pub mod plans;
pub mod probes;
mod reader;
pub mod repos;
pub mod retention;
mod rows;
pub mod schedules;
pub mod second_copies;
pub mod sessions;
pub mod sites;
pub mod snapshots;
pub mod statuses;
pub mod tokens;
pub mod trees;
pub mod upkeep;
pub mod users;
pub mod verdicts;
mod vitals;
pub mod waves;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A connection, for those who name the type of a read.
pub use rusqlite::Connection;
use rusqlite::OpenFlags;

/// A connection to read from, for those who pass one on without knowing SQL.
pub use rusqlite::Connection as Db;

pub use log_chunk::{EncodedLines, StoredLine};
pub use vitals::{Vitals, disk_free};
pub use writer::{Append, AppendOutcome, AppendReply, Appended, WriteReply, WriteTx};

use crate::{clock::SharedClock, hub::Hub};

/// Commands that may wait for the writer; past that, callers wait.
pub const WRITE_QUEUE: usize = 1024;

/// Name of the database file within the data folder.
pub const FILE_NAME: &str = "flotilla.db";

/// How long a statement waits for another process's lock on the file.
const BUSY: std::time::Duration = std::time::Duration::from_secs(10);

/// Why the store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("the database refused: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a newer Flotilla.
    #[error("the database {path} is of version {found} and this Flotilla knows versions up to {known}: install a newer Flotilla, or restore an older backup", path = path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The file can't be opened or made.
    #[error("cannot open the database {path}: {reason}", path = path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A stored value is not what this Flotilla writes.
    #[error("the database holds a value that does not fit ({0}): run `flotilla db check`")]
    Corrupt(String),
    /// The transaction could not be brought to disk: full, read-only, broken.
    #[error("nothing was kept, because the database could not be written: {0}")]
    Commit(String),
    /// A command panicked; its work was rolled back.
    #[error("an internal error stopped a write; nothing of it was kept")]
    Panicked,
    /// The writer is gone: Flotilla is stopping.
    #[error("the store is closed")]
    Closed,
    /// The file system said no.
    #[error("cannot read or write {path}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether a uniqueness rule was broken.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(e, _))
            if e.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
    }
}

/// A handle to the store; clones share it. The writer thread ends after the last handle is dropped, with its queue drained.
#[derive(Clone)]
pub struct Store {
    writer: writer::Handle,
    readers: Arc<reader::Pool>,
    path: Arc<Path>,
}

impl Store {
    /// Opens (or makes) the database in `data_dir`, brings it to the current version, and starts its writer.
    ///
    /// # Errors
    /// [`StoreError`] when the folder can't be written, the file is no database, or it is of a newer version. Nothing is changed then.
    pub fn open(data_dir: &Path, hub: Hub, clock: SharedClock) -> Result<Self, StoreError> {
        let path = data_dir.join(FILE_NAME);
        let mut connection = open_for_writing(&path)?;
        migrate::run(&mut connection, &path)?;
        let writer =
            writer::start(connection, hub, clock).map_err(|source| StoreError::Io { path: path.clone(), source })?;
        let readers = Arc::new(reader::Pool::new(&path));
        Ok(Self { writer, readers, path: path.into() })
    }

    /// Runs `read` on a snapshot of the database.
    ///
    /// # Errors
    /// What `read` says, or [`StoreError::Closed`].
    pub async fn read<T, E>(&self, read: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.readers.run(read).await
    }

    /// Runs `write` in the writer's next transaction and returns once it is on disk. Where it fails, nothing of it stays and its events are not published.
    ///
    /// # Errors
    /// What `write` says; or, where the commit itself failed, a [`StoreError`].
    pub async fn write<T, E>(
        &self,
        write: impl FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.submit(write).await?.await.map_err(|_| StoreError::Closed)?
    }

    /// Queues a write; the answer comes once it is on disk. Writes happen in the order in which they were queued. Waits while the queue is full.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn submit<T, E>(
        &self,
        write: impl FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<WriteReply<T, E>, StoreError>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.submit(write).await
    }

    /// Runs `write` as the last of the next transaction that publishes [`Event::Queue`](crate::domain::event::Event::Queue), once; the answer comes once all of that
    /// is on disk. There is one such write: another one takes its place, and whoever waited for it is told that the store is closed.
    pub fn when_queue_changes<T, E>(
        &self,
        write: impl FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> WriteReply<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.writer.when_queue_changes(write)
    }

    /// Takes back what waits for that, where its transaction has not begun.
    pub fn not_when_queue_changes(&self) {
        self.writer.not_when_queue_changes();
    }

    /// Queues lines of a job; the answer comes once they are on disk. Waits while the writer's queue is full.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn append(&self, lines: Append) -> Result<AppendReply, StoreError> {
        self.writer.append(lines).await
    }

    /// Where the database file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes something and undoes it: whether the disk still takes writes.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.db().execute(
                "INSERT INTO meta (key, value) VALUES ('probe', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
                [tx.now().unix_ms().to_string().as_bytes()],
            )?;
            Ok(())
        })
        .await
    }
}

/// Waits for blocking work on a thread made for it.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
}

fn open_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let refused = |e: rusqlite::Error| StoreError::Open { path: path.to_owned(), reason: e.to_string() };
    let connection = Connection::open(path).map_err(refused)?;
    connection.busy_timeout(BUSY).map_err(refused)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(refused)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(refused)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(refused)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(refused)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let refused = |e: rusqlite::Error| StoreError::Open { path: path.to_owned(), reason: e.to_string() };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags).map_err(refused)?;
    connection.busy_timeout(BUSY).map_err(refused)?;
    connection.pragma_update(None, "query_only", true).map_err(refused)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
