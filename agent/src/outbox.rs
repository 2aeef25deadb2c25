//! What the agent has to say about its jobs and the server has not confirmed. It is on disk (`spool`) before it is offered for sending; past the bounds
//! lines are counted and the loss is said in the log, but the end of a job is never lost. Jobs write through [`JobSink`]s and never wait for the
//! network; one reader, the connection, takes encoded frames. Nothing here touches the network.

mod flush;
mod job;
mod log;
mod sinks;
mod troubles;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_proto::{Ack, JobId, KnownJob, Trouble, Welcome};
use tokio::{sync::Notify, time::Instant};

use self::{
    flush::Failure,
    job::{Due, JobBox, Room, Shortage, Taken},
    sinks::OutboxSink,
};
use crate::{
    blocking::blocking,
    clock::Clock,
    sink::{Cursor, JobSink},
    spool::{
        SpoolLimits,
        files::{Files, ReadBack, read_back},
        recover,
    },
};

/// Bounds of an [`Outbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// On disk.
    pub spool: SpoolLimits,
    /// Lines of one job that stand in memory beside being on disk; also, while the disk takes nothing, those that stand there alone. Four times as many
    /// for all jobs together.
    pub memory_bytes: usize,
    /// Lines of one job that are sent and not yet acknowledged: more wait, so that a slow server slows its agents.
    pub window_bytes: usize,
    /// A frame of lines holds this many bytes at most.
    pub batch_bytes: usize,
    /// What was said is written and synced, and offered for sending, when the first of it has waited this long. Not more than 200 ms.
    pub sync_delay: Duration,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            spool: SpoolLimits::default(),
            memory_bytes: 4 << 20,
            window_bytes: 2 << 20,
            batch_bytes: 64 << 10,
            sync_delay: Duration::from_millis(50),
        }
    }
}

impl OutboxLimits {
    /// Size of a segment: small enough that what is acknowledged gives room soon.
    fn segment_bytes(&self) -> u64 {
        (self.spool.job_bytes / 8).clamp(256, 2 << 20)
    }

    fn chunk_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes()).unwrap_or(usize::MAX).min(256 << 10)
    }
}

/// Cheap handle to one store of undelivered events.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    /// Taken before `state` where both are.
    files: Mutex<Files>,
    state: Mutex<State>,
    /// Wakes the one reader. A permit is kept, so a wake-up between look and wait is not lost.
    work: Notify,
    /// Wakes the one flusher.
    unsynced: Notify,
    /// Wakes whoever waits for everything to be delivered.
    emptied: Notify,
    limits: OutboxLimits,
    clock: Arc<dyn Clock>,
}

struct State {
    jobs: BTreeMap<JobId, JobBox>,
    bytes: u64,
    /// The job that was served last; the next one in order comes next.
    turn: Option<JobId>,
    frames: u64,
    /// Jobs with something to write or delete, and when that is to be done.
    dirty: BTreeSet<JobId>,
    flush_at: Option<Instant>,
    /// Since the disk takes nothing.
    failure: Option<Failure>,
    /// What had to be cut at the start, in words, and until when to say so.
    torn: Vec<String>,
    torn_until: Instant,
    /// A sink that goes away leaves its job to the next process.
    closing: bool,
}

/// What [`Shared::poll`] finds.
enum Next {
    Frame(String),
    Read(ReadBack),
    Wait(Due),
}

impl Outbox {
    /// The one of a state folder, with all that an earlier process left in it. Blocks: reads all of it once.
    ///
    /// # Errors
    /// Where the folder's `jobs` exists and can't be listed. What is wrong with a job in it is said in that job's log instead.
    pub fn new(state_dir: &Path, limits: OutboxLimits, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let dir = state_dir.join("jobs");
        let mut files = Files::new(dir.clone(), limits.segment_bytes());
        let now = Instant::now();
        let mut state = State {
            jobs: BTreeMap::new(),
            bytes: 0,
            turn: None,
            frames: 0,
            dirty: BTreeSet::new(),
            flush_at: None,
            failure: None,
            torn: Vec::new(),
            torn_until: now + troubles::TORN_FOR,
            closing: false,
        };
        for mut found in recover::scan(&dir)? {
            let (id, cut) = (found.job, found.cut.take());
            if let Some(last) = found.segments.last() {
                files.adopt(id, *last);
            }
            let mut job = JobBox::found(found, limits.chunk_bytes());
            if let Some(cut) = cut {
                if !job.has_ended() {
                    job.system(
                        clock.now(),
                        &format!("the agent {cut}; what can be read again from the job's output follows"),
                    );
                }
                state.dirty.insert(id);
                state.flush_at = Some(now);
                state.torn.push(format!("job {id}: the agent {cut}"));
            }
            state.bytes += job.log.bytes();
            state.jobs.insert(id, job);
        }
        Ok(Self(Arc::new(Shared {
            dir,
            files: Mutex::new(files),
            state: Mutex::new(state),
            work: Notify::new(),
            unsynced: Notify::new(),
            emptied: Notify::new(),
            limits,
            clock,
        })))
    }

    /// A sink for a job that is about to run. Its lines are numbered from 1. A sink that goes away without an end reports the job
    /// as failed. For a job that is here already, the sink writes to it, and going away means nothing.
    #[must_use]
    pub fn open(&self, job_id: JobId) -> Arc<dyn JobSink> {
        let mut owner = false;
        self.0.lock().jobs.entry(job_id).or_insert_with(|| {
            owner = true;
            JobBox::new(job_id, self.0.limits.chunk_bytes())
        });
        Arc::new(OutboxSink::new(&self.0, job_id, owner))
    }

    /// A sink for a job that an earlier process accepted and never ended, and how far its output was told. Where nothing of it is on disk, its lines are
    /// sent as soon as the server has said how much of the log it has: they go on from there.
    #[must_use]
    pub fn reopen(&self, job_id: JobId) -> (Arc<dyn JobSink>, Cursor) {
        let mut state = self.0.lock();
        let leftover = || JobBox::leftover(job_id, self.0.limits.chunk_bytes());
        let cursor = state.jobs.entry(job_id).or_insert_with(leftover).cursor();
        (Arc::new(OutboxSink::new(&self.0, job_id, true)), cursor)
    }

    /// Whether anything of this job is here.
    #[must_use]
    pub fn contains(&self, job_id: JobId) -> bool {
        self.0.lock().jobs.contains_key(&job_id)
    }

    /// Whether the job's end is here, so that nothing but its delivery is left to do.
    #[must_use]
    pub fn has_end(&self, job_id: JobId) -> bool {
        self.0.lock().jobs.get(&job_id).is_some_and(JobBox::has_ended)
    }

    /// Jobs that are here and have not ended, oldest first.
    #[must_use]
    pub fn unended(&self) -> Vec<JobId> {
        self.0.lock().jobs.iter().filter(|(_, job)| !job.has_ended()).map(|(id, _)| *id).collect()
    }

    /// Forgets a job, on disk too. Later events of it go nowhere.
    pub fn forget(&self, job_id: JobId) {
        self.0.remove(&[job_id]);
    }

    /// All jobs with something undelivered, for `hello`.
    #[must_use]
    pub fn known_jobs(&self) -> Vec<KnownJob> {
        self.0.lock().jobs.values_mut().map(JobBox::known).collect()
    }

    /// What an operator should know of the spool right now.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        troubles::of(&self.0.lock(), &self.0.limits.spool, Instant::now())
    }

    /// A new connection stands: what the server has is trimmed, the rest will be sent again. Jobs that were named in `hello` and that the
    /// server doesn't know, or has the end of, are forgotten and returned.
    pub fn resume(&self, welcome: &Welcome) -> Vec<JobId> {
        let at = self.0.clock.now();
        let mut gone = Vec::new();
        let mut state = self.0.lock();
        let ids: Vec<JobId> = state.jobs.keys().copied().collect();
        for id in ids {
            let acked = welcome.acked.get(&id).copied();
            if welcome.finished.contains(&id) || acked.is_none() && state.jobs[&id].was_named() {
                gone.push(id);
            } else {
                self.0.change(&mut state, id, |job| job.resume(acked.unwrap_or(0), at));
            }
        }
        drop(state);
        self.0.remove(&gone);
        self.0.emptied.notify_waiters();
        self.0.work.notify_one();
        gone
    }

    /// The server has more on disk, or asks for something again. `true`: it has all of the job, which is forgotten.
    pub fn acked(&self, ack: &Ack) -> bool {
        let mut state = self.0.lock();
        let Some(job) = state.jobs.get(&ack.job_id) else { return false };
        if ack.finished && job.has_ended() {
            drop(state);
            self.0.remove(&[ack.job_id]);
            return true;
        }
        let failing = state.failure.is_some();
        self.0.change(&mut state, ack.job_id, |job| job.ack(ack.seq, Instant::now(), failing));
        let delivered = state.jobs.get(&ack.job_id).is_some_and(JobBox::is_delivered);
        drop(state);
        if delivered {
            self.0.emptied.notify_waiters();
        }
        self.0.work.notify_one();
        false
    }

    /// The next frame to send: waits until there is one. For one reader at a time; cancel-safe: what is not returned is not taken.
    pub async fn next(&self) -> String {
        loop {
            match self.0.poll(Instant::now()) {
                Next::Frame(frame) => return frame,
                Next::Read(wanted) => blocking(|| self.0.read(&wanted)),
                // A frame that could not be encoded was skipped: look again.
                Next::Wait(Due::Now) => {}
                Next::Wait(Due::Never) => self.0.work.notified().await,
                Next::Wait(Due::At(at)) => {
                    // Either is a reason to look again.
                    let _ = tokio::time::timeout_at(at, self.0.work.notified()).await;
                }
            }
        }
    }

    /// Waits until nothing is undelivered. A job that runs on is delivered when the server has all that it said so far.
    pub async fn delivered(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.lock().jobs.values().all(JobBox::is_delivered) {
                return;
            }
            emptied.await;
        }
    }

    /// Keeps the disk up with what jobs say, for ever: without it nothing is sent. For one caller at a time; may be dropped at any await.
    pub async fn keep_synced(&self) {
        loop {
            let due = self.0.lock().flush_at;
            match due {
                None => self.0.unsynced.notified().await,
                Some(at) if at > Instant::now() => {
                    let _ = tokio::time::timeout_at(at, self.0.unsynced.notified()).await;
                }
                Some(_) => {
                    let shared = Arc::clone(&self.0);
                    // A panic in there has been logged; what it left unsynced is tried again.
                    let _ = tokio::task::spawn_blocking(move || shared.flush()).await;
                }
            }
        }
    }

    /// Writes and syncs all that was said, now. Blocks.
    pub fn flush(&self) {
        self.0.flush();
    }

    /// From now on a sink that goes away leaves its job as it is, to be taken up by the next process.
    pub fn close(&self) {
        self.0.lock().closing = true;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the logs of all other jobs with it; no update here is left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a job and does the books: how many bytes there are, and when they are to be written.
    fn change(&self, state: &mut State, job_id: JobId, change: impl FnOnce(&mut JobBox)) {
        let Some(job) = state.jobs.get_mut(&job_id) else { return };
        let (before, ended) = (job.log.bytes(), job.has_ended());
        change(job);
        state.bytes = state.bytes - before + job.log.bytes();
        if job.log.is_synced() && !job.log.has_doomed() {
            return;
        }
        let fresh = state.dirty.insert(job_id);
        let urgent = job.has_ended() && !ended;
        if state.failure.is_none() && (urgent || state.flush_at.is_none()) {
            let now = Instant::now();
            state.flush_at = Some(if urgent { now } else { now + self.limits.sync_delay });
        }
        if fresh || urgent {
            self.unsynced.notify_one();
        }
    }

    /// What a job may still say.
    fn room(&self, state: &State, job: &JobBox) -> Room {
        let SpoolLimits { job_bytes, total_bytes } = self.limits.spool;
        let (own, all) = (job.log.bytes(), state.bytes);
        let in_all = total_bytes.saturating_sub(all).max((job_bytes / 1024).saturating_sub(own));
        let bytes = in_all.min(job_bytes.saturating_sub(own));
        let again = job_bytes.min(total_bytes) / 16;
        let room = Room { bytes, shortage: Shortage::Spool, again };
        let Some(failure) = &state.failure else { return room };
        let memory = self.limits.memory_bytes as u64;
        let in_memory = memory.saturating_sub(job.log.unsynced()).min((4 * memory).saturating_sub(failure.unsynced));
        if in_memory < bytes {
            return Room { bytes: in_memory, shortage: Shortage::Disk, again: memory / 16 };
        }
        room
    }

    fn remove(&self, job_ids: &[JobId]) {
        if job_ids.is_empty() {
            return;
        }
        blocking(|| {
            let mut files = self.lock_files();
            let mut state = self.lock();
            for id in job_ids {
                if let Some(job) = state.jobs.remove(id) {
                    state.bytes -= job.log.bytes();
                }
                state.dirty.remove(id);
            }
            drop(state);
            job_ids.iter().for_each(|id| files.forget(*id));
        });
        self.emptied.notify_waiters();
    }

    /// The next frame, or what to do first. Jobs take turns; progress goes only where nothing else is due.
    fn poll(&self, now: Instant) -> Next {
        let mut state = self.lock();
        let state = &mut *state;
        let failing = state.failure.is_some();
        let mut due = Due::Never;
        let ids: Vec<JobId> = match state.turn {
            None => state.jobs.keys().copied().collect(),
            Some(last) => {
                let after = state.jobs.range((Bound::Excluded(last), Bound::Unbounded));
                after.chain(state.jobs.range(..=last)).map(|(id, _)| *id).collect()
            }
        };
        for id in &ids {
            let Some(job) = state.jobs.get_mut(id) else { continue };
            let job_due = job.due(now, &self.limits, failing);
            due = due.earlier(job_due);
            if job_due == Due::Now {
                let frame = state.frames + 1;
                return match job.take_frame(now, &self.limits, failing, &frame.to_string()) {
                    Taken::Read(wanted) => Next::Read(wanted),
                    Taken::Nothing => Next::Wait(Due::Now),
                    Taken::Frame(text) => {
                        (state.frames, state.turn) = (frame, Some(*id));
                        Next::Frame(text)
                    }
                };
            }
        }
        for id in &ids {
            let Some(job) = state.jobs.get_mut(id) else { continue };
            let progress_due = job.progress_due(now);
            due = due.earlier(progress_due);
            if progress_due == Due::Now {
                state.frames += 1;
                return match job.take_progress(now, &state.frames.to_string()) {
                    Taken::Frame(text) => Next::Frame(text),
                    Taken::Read(_) | Taken::Nothing => Next::Wait(Due::Now),
                };
            }
        }
        Next::Wait(due)
    }

    /// Fetches lines that stand on disk only.
    fn read(&self, wanted: &ReadBack) {
        let read = read_back(&self.dir, wanted);
        let at = self.clock.now();
        let mut state = self.lock();
        match read {
            Ok((chunk, next)) => {
                if let Some(job) = state.jobs.get_mut(&wanted.job) {
                    job.log.came_back(chunk, next);
                }
            }
            Err(error) => {
                tracing::error!(job.id = %wanted.job, line = wanted.pos, %error, "cannot read the spool back");
                self.change(&mut state, wanted.job, |job| job.unreadable(wanted.pos, at));
            }
        }
    }
}

#[cfg(test)]
mod durability;
#[cfg(test)]
mod tests;
