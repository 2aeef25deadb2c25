//! What the agent has to say about its jobs and the server has not confirmed. Bounded: past the bounds lines are counted and the
//! loss is said in the log, but the end of a job is never lost. Jobs write through [`JobSink`]s and never wait; one reader,
//! the connection, takes encoded frames. Nothing here touches the network.

mod job;

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_proto::{Ack, JobId, JobProgress, JobStatus, KnownJob, Stream, Welcome};
use tokio::{sync::Notify, time::Instant};

use self::job::{Due, JobBox};
use crate::{
    clock::Clock,
    sink::{Cursor, JobOutcome, JobSink},
};

/// Bounds of an [`Outbox`]. Bytes are those of frames, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Kept lines of all jobs together.
    pub total_bytes: usize,
    /// Kept lines of one job.
    pub job_bytes: usize,
    /// Lines of one job that are sent and not yet acknowledged: more wait, so that a slow server slows its agents.
    pub window_bytes: usize,
    /// A frame of lines is sent when it has grown to this …
    pub batch_bytes: usize,
    /// … or when its first line has waited this long.
    pub batch_delay: Duration,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self {
            total_bytes: 64 << 20,
            job_bytes: 32 << 20,
            window_bytes: 2 << 20,
            batch_bytes: 64 << 10,
            batch_delay: Duration::from_millis(50),
        }
    }
}

/// Cheap handle to one store of undelivered events.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes the one reader. A permit is kept, so a wake-up between look and wait is not lost.
    work: Notify,
    /// Wakes whoever waits for everything to be delivered.
    emptied: Notify,
    limits: OutboxLimits,
    clock: Arc<dyn Clock>,
}

struct State {
    jobs: BTreeMap<JobId, JobBox>,
    bytes: usize,
    /// The job that was served last; the next one in order comes next.
    turn: Option<JobId>,
    frames: u64,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new(limits: OutboxLimits, clock: Arc<dyn Clock>) -> Self {
        let state = State { jobs: BTreeMap::new(), bytes: 0, turn: None, frames: 0 };
        Self(Arc::new(Shared { state: Mutex::new(state), work: Notify::new(), emptied: Notify::new(), limits, clock }))
    }

    /// A sink for a job that is about to run. Its lines are numbered from 1. A sink that goes away without an end reports the job
    /// as failed. For a job that is here already, the sink writes to it, and going away means nothing.
    #[must_use]
    pub fn open(&self, job_id: JobId) -> Arc<dyn JobSink> {
        let mut owner = false;
        self.0.lock().jobs.entry(job_id).or_insert_with(|| {
            owner = true;
            JobBox::new(job_id)
        });
        Arc::new(OutboxSink { shared: Arc::clone(&self.0), job_id, owner })
    }

    /// A sink for a job that an earlier process accepted and never ended, and how far its output was told. Its lines are sent as soon as the server has
    /// said how much of the log it has: they go on from there.
    #[must_use]
    pub fn reopen(&self, job_id: JobId) -> (Arc<dyn JobSink>, Cursor) {
        self.0.lock().jobs.entry(job_id).or_insert_with(|| JobBox::leftover(job_id));
        (Arc::new(OutboxSink { shared: Arc::clone(&self.0), job_id, owner: true }), Cursor::default())
    }

    /// Whether anything of this job is here.
    #[must_use]
    pub fn contains(&self, job_id: JobId) -> bool {
        self.0.lock().jobs.contains_key(&job_id)
    }

    /// Forgets a job. Later events of it go nowhere.
    pub fn forget(&self, job_id: JobId) {
        self.0.remove(&mut self.0.lock(), job_id);
    }

    /// All jobs with something undelivered, for `hello`.
    #[must_use]
    pub fn known_jobs(&self) -> Vec<KnownJob> {
        self.0.lock().jobs.values_mut().map(JobBox::known).collect()
    }

    /// A new connection stands: what the server has is trimmed, the rest will be sent again. Jobs that were named in `hello` and that the
    /// server doesn't know, or has the end of, are forgotten and returned.
    pub fn resume(&self, welcome: &Welcome) -> Vec<JobId> {
        let now = self.0.clock.now();
        let mut state = self.0.lock();
        let mut gone = Vec::new();
        for (id, job) in &mut state.jobs {
            match welcome.acked.get(id) {
                _ if welcome.finished.contains(id) => gone.push(*id),
                Some(acked) => job.resume(*acked, now),
                None if job.was_named() => gone.push(*id),
                None => job.resume(0, now),
            }
        }
        for id in &gone {
            self.0.remove(&mut state, *id);
        }
        state.bytes = state.jobs.values().map(|job| job.bytes).sum();
        self.0.work.notify_one();
        gone
    }

    /// The server has more on disk, or asks for something again. `true`: it has all of the job, which is forgotten.
    pub fn acked(&self, ack: &Ack) -> bool {
        let mut state = self.0.lock();
        let Some(job) = state.jobs.get_mut(&ack.job_id) else { return false };
        if ack.finished && job.has_ended() {
            self.0.remove(&mut state, ack.job_id);
            return true;
        }
        let before = job.bytes;
        job.ack(ack.seq, Instant::now());
        let freed = before - job.bytes;
        state.bytes -= freed;
        self.0.work.notify_one();
        false
    }

    /// The next frame to send: waits until there is one. For one reader at a time; cancel-safe: what is not returned is not taken.
    pub async fn next(&self) -> String {
        loop {
            let due = match self.0.poll(Instant::now()) {
                Ok(frame) => return frame,
                Err(due) => due,
            };
            match due {
                // A frame that could not be encoded was skipped: look again.
                Due::Now => {}
                Due::Never => self.0.work.notified().await,
                Due::At(at) => {
                    // Either is a reason to look again.
                    let _ = tokio::time::timeout_at(at, self.0.work.notified()).await;
                }
            }
        }
    }

    /// Waits until nothing is undelivered.
    pub async fn delivered(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.0.lock().jobs.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the logs of all other jobs with it; no update here is left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, state: &mut State, job_id: JobId) {
        if let Some(job) = state.jobs.remove(&job_id) {
            state.bytes = state.bytes.saturating_sub(job.bytes);
        }
        if state.jobs.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// The next frame, or when to look again. Jobs take turns; progress goes only where nothing else is due.
    fn poll(&self, now: Instant) -> Result<String, Due> {
        let mut state = self.lock();
        let state = &mut *state;
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
            let job_due = job.due(now, &self.limits);
            due = due.earlier(job_due);
            if job_due == Due::Now {
                state.frames += 1;
                state.turn = Some(*id);
                return job.take_frame(now, &self.limits, &state.frames.to_string()).ok_or(Due::Now);
            }
        }
        for id in &ids {
            let Some(job) = state.jobs.get_mut(id) else { continue };
            let progress_due = job.progress_due(now);
            due = due.earlier(progress_due);
            if progress_due == Due::Now {
                state.frames += 1;
                return job.take_progress(now, &state.frames.to_string()).ok_or(Due::Now);
            }
        }
        Err(due)
    }

    fn with(&self, job_id: JobId, change: impl FnOnce(&mut JobBox)) {
        if let Some(job) = self.lock().jobs.get_mut(&job_id) {
            change(job);
        }
        self.work.notify_one();
    }
}

struct OutboxSink {
    shared: Arc<Shared>,
    job_id: JobId,
    owner: bool,
}

impl JobSink for OutboxSink {
    fn started(&self, pid: Option<u32>) {
        let at = self.shared.clock.now();
        self.shared.with(self.job_id, |job| job.start(at, pid));
    }

    fn line(&self, stream: Stream, text: &str) {
        let at = self.shared.clock.now();
        let limits = &self.shared.limits;
        let mut state = self.shared.lock();
        let room = limits.total_bytes.saturating_sub(state.bytes);
        let Some(job) = state.jobs.get_mut(&self.job_id) else { return };
        let (before, waiting) = (job.bytes, job.unsent());
        job.line(at, stream, text, room, limits);
        let (added, now_waiting) = (job.bytes - before, job.unsent());
        state.bytes += added;
        drop(state);
        // A first line starts the batch's time, a full batch ends it; for all others the reader may sleep on.
        let full = waiting < limits.batch_bytes && now_waiting >= limits.batch_bytes;
        if full || (waiting == 0 && now_waiting > 0) {
            self.shared.work.notify_one();
        }
    }

    fn progress(&self, progress: JobProgress) {
        self.shared.with(self.job_id, |job| job.progress(progress));
    }

    fn finished(&self, end: JobOutcome) {
        let at = self.shared.clock.now();
        let mut state = self.shared.lock();
        if let Some(job) = state.jobs.get_mut(&self.job_id) {
            let before = job.bytes;
            job.finish(at, end);
            let added = job.bytes - before;
            state.bytes += added;
        }
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Drop for OutboxSink {
    fn drop(&mut self) {
        if self.owner {
            // Without effect where the job has ended as it should.
            let error =
                "the agent lost track of the job, which is a defect of the agent: look at its own log, and report it";
            self.finished(JobOutcome {
                status: JobStatus::Failed,
                exit_code: None,
                error: Some(error.to_owned()),
                summary: None,
            });
        }
    }
}

#[cfg(test)]
mod tests;
