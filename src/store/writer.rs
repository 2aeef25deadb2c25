//! The one thread that writes. It blocks for a first command, takes whatever else is already queued up to a cap, commits once, then publishes
//! the events and answers, in that order. No timer: an idle system pays no latency, a busy one batches by itself.
//!
//! Log lines have a way of their own ([`Append`]): lines of one job that meet in a transaction share one chunk. A job's lines are taken only in
//! order (`seq` = last + 1); what was there already is trimmed, a gap takes nothing and is answered with the last good number.
//!
//! One command may wait for its occasion ([`Occasion`]): it joins the first transaction that changes the queue, as its last command. So what follows from a
//! change is on disk with it, by one commit.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    clock::SharedClock,
    domain::{
        JobId, Timestamp,
        event::{self, Event, LiveFrame},
        job::JobNo,
    },
    hub::Hub,
    store::{
        BUSY, StoreError, WRITE_QUEUE,
        log_chunk::{self, EncodedLines, Packer},
        logs,
        vitals::{Counters, wal_of},
    },
};

/// Commands in one transaction at most: bounds how long the first of them waits.
const BATCH: usize = 512;
/// Bytes of one job's records that are gathered before a chunk is cut.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of lines in one transaction, after which it takes no more: what waits behind it, such as another agent's line, waits for this much at most.
const BATCH_BYTES: usize = 8 << 20;
/// Bytes of lines that may wait for the writer, all agents together: past that, they wait before the queue. Commands are few and small.
const QUEUE_BYTES: usize = 64 << 20;
/// Bytes of the write-ahead log that are worth a stop of the writer to bring them home. SQLite does so by itself only when no reader is in the way.
const WAL_BOUND: u64 = 128 << 20;
/// Between two such stops, and how long one may take: a reader that stays (a copy in the making) must not stop the writer all the time.
const WAL_PAUSE: Duration = Duration::from_secs(30);
const WAL_PATIENCE_MS: u32 = 500;
/// Jobs whose tails are remembered.
const TAILS: usize = 100_000;

/// Lines of one job, on their way to disk.
pub struct Append {
    /// The job, by number and by id.
    pub job: (JobNo, JobId),
    /// The lines.
    pub lines: EncodedLines,
    /// The `log.stream` envelope that they came in, for those who watch.
    pub frame: Bytes,
}

/// What became of an [`Append`], once it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Last line of the job on disk.
    pub seq: u32,
    /// The job is over; no lines are taken any more.
    pub finished: bool,
}

/// Where the answer to a submitted write arrives, once it is on disk or has failed.
pub type WriteReply<T, E> = oneshot::Receiver<Result<T, E>>;

/// Where the answer to an [`Append`] arrives.
pub type AppendReply = oneshot::Receiver<AppendOutcome>;

/// What an [`Append`] is answered with.
pub type AppendOutcome = Result<Appended, StoreError>;

/// The right to write, within one command of one transaction.
pub struct WriteTx<'a> {
    db: &'a Connection,
    now: Timestamp,
    events: &'a mut Vec<Event>,
    tails: &'a mut Tails,
}

impl WriteTx<'_> {
    /// The connection, inside of the transaction.
    #[must_use]
    pub fn db(&self) -> &Connection {
        self.db
    }

    /// The time of this transaction.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Says something once this is committed, and not at all if it is not.
    pub fn publish(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Makes the writer look up a job's tail again before its next lines.
    pub(super) fn forget_tail(&mut self, job: JobNo) {
        self.tails.0.remove(&job);
    }
}

/// A handle to the writer; the thread ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Handle {
    queue: mpsc::Sender<Work>,
    room: Arc<Semaphore>,
    occasion: Occasion,
    counters: Arc<Counters>,
}

/// The place of the one command that joins the first transaction that changes the queue.
#[derive(Clone, Default)]
struct Occasion(Arc<Mutex<Option<Box<dyn Command>>>>);

impl Occasion {
    fn place(&self) -> MutexGuard<'_, Option<Box<dyn Command>>> {
        // It is taken or put as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Work {
    Run(Box<dyn Command>),
    Append(Append, oneshot::Sender<AppendOutcome>, OwnedSemaphorePermit),
}

/// A closure with its answer, whatever their types.
trait Command: Send {
    /// Whether its work is to be kept.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool;
    /// Answers the caller; `failed` says why the commit did not happen.
    fn answer(self: Box<Self>, failed: Option<&str>);
}

struct Closure<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Command for Closure<F, T, E>
where
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &mut WriteTx<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        let result = catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| Err(StoreError::Panicked.into()));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, failed: Option<&str>) {
        let result = match (failed, self.result) {
            (None, Some(result)) => result,
            (Some(_), Some(Err(own))) => Err(own),
            (Some(why), _) => Err(StoreError::Commit(why.to_owned()).into()),
            (None, None) => Err(StoreError::Panicked.into()),
        };
        // The caller may have gone; the work is done all the same.
        self.reply.send(result).ok();
    }
}

impl Handle {
    /// Commands that wait.
    pub(super) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    pub(super) async fn submit<T, E>(
        &self,
        work: impl FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<WriteReply<T, E>, StoreError>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Closure { work: Some(work), result: None, reply });
        self.queue.send(Work::Run(command)).await.map_err(|_| StoreError::Closed)?;
        Ok(answer)
    }

    pub(super) fn when_queue_changes<T, E>(
        &self,
        work: impl FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    ) -> WriteReply<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        *self.occasion.place() = Some(Box::new(Closure { work: Some(work), result: None, reply }));
        answer
    }

    pub(super) fn not_when_queue_changes(&self) {
        self.occasion.place().take();
    }

    pub(super) async fn append(&self, append: Append) -> Result<AppendReply, StoreError> {
        let (reply, answer) = oneshot::channel();
        let bytes = append.lines.record_bytes().clamp(1, QUEUE_BYTES) as u32;
        let room = self.room.clone().acquire_many_owned(bytes).await.map_err(|_| StoreError::Closed)?;
        self.queue.send(Work::Append(append, reply, room)).await.map_err(|_| StoreError::Closed)?;
        Ok(answer)
    }
}

/// Starts the writer's thread on `connection`.
pub(super) fn start(connection: Connection, hub: Hub, clock: SharedClock) -> io::Result<Handle> {
    let (queue, work) = mpsc::channel(WRITE_QUEUE);
    let occasion = Occasion::default();
    let mut writer = Writer::new(connection, hub, clock, occasion.clone())?;
    let counters = writer.counters.clone();
    std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.serve(work))?;
    Ok(Handle { queue, room: Arc::new(Semaphore::new(QUEUE_BYTES)), occasion, counters })
}

/// How far each job's log is; what the database says, remembered.
#[derive(Default)]
struct Tails(HashMap<JobNo, Appended>);

struct Writer {
    db: Connection,
    hub: Hub,
    clock: SharedClock,
    packer: Packer,
    tails: Tails,
    occasion: Occasion,
    counters: Arc<Counters>,
    wal: Option<PathBuf>,
    wal_looked_at: Instant,
}

/// What one transaction has gathered.
#[derive(Default)]
struct Batch {
    commands: Vec<Box<dyn Command>>,
    appends: Vec<(oneshot::Sender<AppendOutcome>, AppendOutcome)>,
    pending: BTreeMap<JobNo, EncodedLines>,
    events: Vec<Event>,
}

impl Writer {
    fn new(db: Connection, hub: Hub, clock: SharedClock, occasion: Occasion) -> io::Result<Self> {
        let wal = db.path().map(|path| wal_of(path.as_ref()));
        let (packer, counters) = (Packer::new()?, Arc::new(Counters::default()));
        let (tails, wal_looked_at) = (Tails::default(), Instant::now());
        Ok(Self { db, hub, clock, packer, tails, occasion, counters, wal, wal_looked_at })
    }

    fn serve(&mut self, mut queue: mpsc::Receiver<Work>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Batch::default();
            let began = Instant::now();
            let outcome = self.transaction(first, &mut queue, &mut batch);
            if let Err(e) = &outcome {
                tracing::error!(error = %e, "a transaction could not be committed; its callers are told");
                // What was remembered may not have happened.
                self.tails.0.clear();
                if !self.db.is_autocommit() {
                    // If this fails too, the next BEGIN reports it.
                    self.db.execute_batch("ROLLBACK").ok();
                }
            }
            self.counters.note(batch.len(), began.elapsed(), outcome.is_ok());
            batch.conclude(outcome.err().map(|e| e.to_string()), &self.hub);
            self.bound_wal();
        }
    }

    /// Brings a write-ahead log home that has grown past its bound: readers that always overlap keep SQLite from doing so. A reader that stays
    /// longer than the patience is left alone until the next time.
    fn bound_wal(&mut self) {
        if self.wal_looked_at.elapsed() < WAL_PAUSE {
            return;
        }
        self.wal_looked_at = Instant::now();
        let Some(bytes) = self.wal.as_ref().and_then(|wal| std::fs::metadata(wal).ok()).map(|wal| wal.len()) else {
            return;
        };
        if bytes <= WAL_BOUND {
            return;
        }
        let brought_home = self.db.busy_timeout(Duration::from_millis(WAL_PATIENCE_MS.into())).and_then(|()| {
            let busy: bool = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            Ok(!busy)
        });
        if !matches!(brought_home, Ok(true)) {
            tracing::warn!(bytes, "the write-ahead log is large, and a long read keeps it from being brought home");
        }
        self.db.busy_timeout(BUSY).ok();
    }

    fn transaction(
        &mut self,
        first: Work,
        queue: &mut mpsc::Receiver<Work>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let mut failure = self.db.execute_batch("BEGIN IMMEDIATE").err().map(StoreError::from);
        let mut next = Some(first);
        let mut bytes = 0;
        for taken in 1.. {
            let Some(work) = next.take() else { break };
            match work {
                Work::Run(command) if failure.is_none() => failure = self.run(command, batch).err(),
                // Its answer is the failure of the whole.
                Work::Run(command) => batch.commands.push(command),
                // Its room is free again: what is gathered has a bound of its own.
                Work::Append(append, reply, _room) => {
                    let job = append.job.0;
                    bytes += append.lines.record_bytes();
                    let outcome = if failure.is_none() { self.append(append, batch) } else { Err(StoreError::Closed) };
                    batch.appends.push((reply, outcome));
                    // What is gathered belongs to many callers: if it can't be written, none of them may hear that it was.
                    if batch.pending.get(&job).is_some_and(|lines| lines.record_bytes() >= CHUNK_BYTES) {
                        failure = self.flush(batch).err();
                    }
                }
            }
            if taken < BATCH && bytes < BATCH_BYTES {
                next = queue.try_recv().ok();
            }
        }
        if let Some(e) = failure {
            return Err(e);
        }
        if batch.events.iter().any(|event| matches!(event, Event::Queue)) {
            let waiting = self.occasion.place().take();
            if let Some(command) = waiting {
                self.run(command, batch)?;
                // Who waits for changes of the queue has had this one, and hears by the answer what came of it.
                batch.events.retain(|event| !matches!(event, Event::Queue));
            }
        }
        self.flush(batch)?;
        self.db.execute_batch("COMMIT")?;
        Ok(())
    }

    fn run(&mut self, mut command: Box<dyn Command>, batch: &mut Batch) -> Result<(), StoreError> {
        // Commands see all lines that came before them.
        let outcome = self.flush(batch).and_then(|()| {
            self.savepoint("SAVEPOINT command")?;
            let before = batch.events.len();
            let mut tx =
                WriteTx { db: &self.db, now: self.clock.now(), events: &mut batch.events, tails: &mut self.tails };
            if !command.run(&mut tx) {
                batch.events.truncate(before);
                self.savepoint("ROLLBACK TO command")?;
            }
            self.savepoint("RELEASE command")
        });
        batch.commands.push(command);
        outcome
    }

    fn savepoint(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.db.prepare_cached(sql)?.execute([]).map(|_| ())?)
    }

    fn append(&mut self, append: Append, batch: &mut Batch) -> Result<Appended, StoreError> {
        let (no, id) = append.job;
        let tail = match self.tails.0.get(&no) {
            Some(tail) => *tail,
            None => logs::tail(&self.db, no)?,
        };
        let Some(next) = tail.seq.checked_add(1) else { return Ok(tail) };
        if tail.finished || append.lines.first > next || append.lines.last() < next {
            return Ok(tail);
        }
        let (lines, frame) = if append.lines.first == next {
            (append.lines, append.frame)
        } else {
            let rest = append.lines.starting_at(next).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let stored = rest.lines().map_err(|e| StoreError::Corrupt(e.to_string()))?;
            let frame = event::lines_frame(id, log_chunk::to_wire(&stored));
            (rest, frame)
        };
        let (first, last) = (lines.first, lines.last());
        batch.pending.entry(no).or_default().join(&lines);
        if self.tails.0.len() >= TAILS {
            self.tails.0.clear();
        }
        let tail = Appended { seq: last, finished: false };
        self.tails.0.insert(no, tail);
        batch.events.push(Event::Job { id, frame: LiveFrame::Lines { first, last, text: frame } });
        Ok(tail)
    }

    fn flush(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        for (no, lines) in std::mem::take(&mut batch.pending) {
            let data = self.packer.pack(&lines).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            logs::insert_chunk(&self.db, no, &lines, &data)?;
        }
        Ok(())
    }
}

impl Batch {
    fn len(&self) -> u64 {
        (self.commands.len() + self.appends.len()) as u64
    }

    fn conclude(self, failed: Option<String>, hub: &Hub) {
        if failed.is_none() {
            for event in self.events {
                hub.publish(event);
            }
        }
        for (reply, outcome) in self.appends {
            let outcome = match &failed {
                Some(why) => Err(StoreError::Commit(why.clone())),
                None => outcome,
            };
            // The link may have gone; its agent sends again and is answered with what is on disk.
            reply.send(outcome).ok();
        }
        for command in self.commands {
            command.answer(failed.as_deref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, store::open_for_writing};

    #[test]
    fn a_write_ahead_log_past_its_bound_is_brought_home_once_no_reader_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flotilla.db");
        let mut writer =
            Writer::new(open_for_writing(&path).unwrap(), Hub::new(), Arc::new(SystemClock), Occasion::default())
                .unwrap();
        let size = || std::fs::metadata(wal_of(&path)).unwrap().len();
        // A pause lies between two looks.
        let look = |writer: &mut Writer| {
            writer.wal_looked_at = Instant::now().checked_sub(WAL_PAUSE).unwrap();
            writer.bound_wal();
        };
        writer.db.execute_batch("CREATE TABLE t (bytes BLOB)").unwrap();
        let reader = open_for_writing(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        let fill = format!("INSERT INTO t VALUES (zeroblob({}))", WAL_BOUND + (1 << 20));
        writer.db.execute_batch(&fill).unwrap();
        assert!(size() > WAL_BOUND);
        // The reader stays: the writer gives up in time and goes on.
        look(&mut writer);
        assert!(size() > WAL_BOUND);
        writer.db.execute_batch("INSERT INTO t VALUES (zeroblob(1))").unwrap();
        reader.execute_batch("COMMIT").unwrap();
        // Too soon after the last look.
        writer.bound_wal();
        assert!(size() > WAL_BOUND);
        look(&mut writer);
        assert_eq!(size(), 0);
    }
}
