//! Fan-out of what was committed: per job to those who watch it, and wake-ups for the reconcilers. Publishing never waits.
//!
//! Each job that someone watches has one ring of [`DEPTH`] frames. A subscriber that falls further behind loses frames, and only it:
//! its next [`Subscription::next`] says so. Frames are serialised once and shared.

pub mod downloads;
pub mod presence;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, broadcast, watch};

use self::{
    downloads::Downloads,
    presence::{Presences, Returned},
};
use crate::domain::{
    HostId, JobId, JobProgress,
    event::{Event, LiveFrame},
};

/// Frames that a subscriber may be behind.
pub const DEPTH: usize = 64;

/// A handle to the hub; clones share it.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    /// Rings of the jobs that someone watches.
    jobs: Mutex<HashMap<JobId, broadcast::Sender<LiveFrame>>>,
    /// The latest progress of running jobs, for pages that open in the middle.
    progress: Mutex<HashMap<JobId, JobProgress>>,
    /// Which agents hold a connection.
    presences: Mutex<Presences>,
    /// Which of the jobs that count as lost go on at an agent that is here.
    returned: Mutex<Returned>,
    /// Where downloads and browsers meet.
    downloads: Downloads,
    /// The dispatcher sleeps on this.
    queue: Notify,
    /// The reconciler of schedules sleeps on this.
    schedules: Notify,
    /// The librarian sleeps on this.
    records: Notify,
    /// What drives waves sleeps on this.
    waves: Notify,
    /// How many jobs have ended: those who take in ends watch it.
    ends: watch::Sender<u64>,
    /// The control plane's own agent runs in this process.
    own_agent: AtomicBool,
    /// The fleet's gatekeeper listens here. A lag means: look at the store.
    revoked: broadcast::Sender<HostId>,
}

/// What a subscriber gets.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The next frame.
    Frame(LiveFrame),
    /// Frames were lost: too slow.
    Lagged,
    /// The job is over, or the hub is gone; nothing follows.
    Closed,
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            jobs: Mutex::default(),
            progress: Mutex::default(),
            presences: Mutex::default(),
            returned: Mutex::default(),
            downloads: Downloads::default(),
            queue: Notify::new(),
            schedules: Notify::new(),
            records: Notify::new(),
            waves: Notify::new(),
            ends: watch::channel(0).0,
            own_agent: AtomicBool::new(false),
            revoked: broadcast::channel(256).0,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Tells those concerned. Never waits; called by the store's writer after each commit, in commit order.
    pub fn publish(&self, event: Event) {
        match event {
            Event::Job { id, frame } => self.publish_frame(id, frame),
            Event::Queue => self.inner.queue.notify_one(),
            Event::Schedules => self.inner.schedules.notify_one(),
            Event::Records => self.inner.records.notify_one(),
            Event::Waves => self.inner.waves.notify_one(),
            Event::HostRevoked(host) => {
                // Nobody listens while the fleet is not up yet: then no link can be open either.
                self.inner.revoked.send(host).ok();
            }
        }
    }

    fn publish_frame(&self, id: JobId, frame: LiveFrame) {
        let finished = matches!(frame, LiveFrame::Finished(_));
        let mut jobs = lock(&self.inner.jobs);
        if let Some(ring) = jobs.get(&id) {
            ring.send(frame).ok();
        }
        if finished {
            jobs.remove(&id);
            lock(&self.inner.progress).remove(&id);
            self.inner.ends.send_modify(|ended| *ended = ended.wrapping_add(1));
        }
    }

    /// Passes on and remembers a job's progress, which is not stored.
    pub fn progress(&self, id: JobId, progress: JobProgress, frame: LiveFrame) {
        lock(&self.inner.progress).insert(id, progress);
        self.publish_frame(id, frame);
    }

    /// The latest progress of a running job.
    #[must_use]
    pub fn latest_progress(&self, id: JobId) -> Option<JobProgress> {
        lock(&self.inner.progress).get(&id).cloned()
    }

    /// Watches a job from now on. Subscribe first, then read the store: so nothing falls between.
    #[must_use]
    pub fn subscribe(&self, id: JobId) -> Subscription {
        let frames = lock(&self.inner.jobs).entry(id).or_insert_with(|| broadcast::channel(DEPTH).0).subscribe();
        Subscription { id, frames: Some(frames), hub: self.clone() }
    }

    /// Where a download meets the browser that waits for it.
    #[must_use]
    pub fn downloads(&self) -> &Downloads {
        &self.inner.downloads
    }

    /// Waits until the queue may have changed. A wake-up that comes while nobody waits is kept.
    pub async fn queue_changed(&self) {
        self.inner.queue.notified().await;
    }

    /// Waits until schedules may have changed. A wake-up that comes while nobody waits is kept.
    pub async fn schedules_changed(&self) {
        self.inner.schedules.notified().await;
    }

    /// Waits until a job may have ended whose records belong into the index. A wake-up that comes while nobody waits is kept.
    pub async fn records_came(&self) {
        self.inner.records.notified().await;
    }

    /// Resolves when a wave was made or stopped. A wake-up that comes while nobody waits is kept.
    pub async fn waves_changed(&self) {
        self.inner.waves.notified().await;
    }

    /// Changes whenever a job has ended; many may watch.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.inner.ends.subscribe()
    }

    /// Notes whether the control plane's own agent runs.
    pub fn note_own_agent(&self, runs: bool) {
        self.inner.own_agent.store(runs, Ordering::Relaxed);
    }

    /// Whether the control plane's own agent runs; it may be about to connect.
    #[must_use]
    pub fn runs_own_agent(&self) -> bool {
        self.inner.own_agent.load(Ordering::Relaxed)
    }

    /// Hears of revoked hosts.
    #[must_use]
    pub fn revocations(&self) -> broadcast::Receiver<HostId> {
        self.inner.revoked.subscribe()
    }

    /// Jobs that are watched, for metrics and tests.
    #[must_use]
    pub fn watched_jobs(&self) -> usize {
        lock(&self.inner.jobs).len()
    }
}

/// One subscriber of one job. Dropping it forgets the ring when it was the last.
pub struct Subscription {
    id: JobId,
    frames: Option<broadcast::Receiver<LiveFrame>>,
    hub: Hub,
}

impl Subscription {
    /// The next delivery. Cancel-safe.
    pub async fn next(&mut self) -> Delivery {
        let Some(frames) = self.frames.as_mut() else { return Delivery::Closed };
        match frames.recv().await {
            Ok(frame) => Delivery::Frame(frame),
            Err(broadcast::error::RecvError::Lagged(_)) => Delivery::Lagged,
            Err(broadcast::error::RecvError::Closed) => Delivery::Closed,
        }
    }

    /// What is there already, without waiting; `None` when nothing is.
    pub fn try_next(&mut self) -> Option<Delivery> {
        match self.frames.as_mut()?.try_recv() {
            Ok(frame) => Some(Delivery::Frame(frame)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Delivery::Lagged),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => None,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut jobs = lock(&self.hub.inner.jobs);
        self.frames = None;
        if jobs.get(&self.id).is_some_and(|ring| ring.receiver_count() == 0) {
            jobs.remove(&self.id);
        }
    }
}

/// A panic elsewhere leaves these maps whole: every critical section is one map operation.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn lines(n: u32) -> Event {
        Event::Job { id: job(), frame: LiveFrame::Lines { first: n, last: n, text: Bytes::from_static(b"{}") } }
    }

    fn job() -> JobId {
        JobId::from_parts(1, 1)
    }

    #[tokio::test]
    async fn a_subscriber_gets_the_frames_of_its_job_in_order() {
        let hub = Hub::new();
        let mut one = hub.subscribe(job());
        let mut other = hub.subscribe(JobId::from_parts(2, 2));
        hub.publish(lines(1));
        hub.publish(lines(2));
        for expected in [1, 2] {
            assert!(matches!(one.next().await, Delivery::Frame(LiveFrame::Lines { first, .. }) if first == expected));
        }
        assert!(other.try_next().is_none());
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_of_its_loss_and_nobody_else_has_one() {
        let hub = Hub::new();
        let mut slow = hub.subscribe(job());
        let mut quick = hub.subscribe(job());
        for n in 1..=DEPTH as u32 + 10 {
            hub.publish(lines(n));
            assert!(matches!(quick.next().await, Delivery::Frame(LiveFrame::Lines { first, .. }) if first == n));
        }
        assert!(matches!(slow.next().await, Delivery::Lagged));
        assert!(matches!(slow.next().await, Delivery::Frame(LiveFrame::Lines { first: 11, .. })));
    }

    #[tokio::test]
    async fn the_end_of_a_job_ends_its_subscriptions() {
        let hub = Hub::new();
        let mut one = hub.subscribe(job());
        hub.publish(Event::Job { id: job(), frame: LiveFrame::Finished(Bytes::from_static(b"{}")) });
        assert!(matches!(one.next().await, Delivery::Frame(LiveFrame::Finished(_))));
        assert!(matches!(one.next().await, Delivery::Closed));
    }

    #[tokio::test]
    async fn the_last_subscriber_to_leave_takes_the_ring_along() {
        let hub = Hub::new();
        let one = hub.subscribe(job());
        let two = hub.subscribe(job());
        drop(one);
        assert_eq!(hub.watched_jobs(), 1);
        drop(two);
        assert_eq!(hub.watched_jobs(), 0);
    }

    #[tokio::test]
    async fn a_wake_up_that_nobody_waits_for_is_kept() {
        let hub = Hub::new();
        hub.publish(Event::Queue);
        hub.queue_changed().await;
    }
}
