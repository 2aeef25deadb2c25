//! Runs orders: each at most once, in the order of their arrival, so many at a time. An order that was accepted is on
//! disk (as a marker) and ends with exactly one [`JobSink::finished`], whatever happens to it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_proto::{CommandRun, JobId, JobStatus, Limits, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    blocking::blocking,
    process::Stop,
    runner::Submitted,
    sink::{JobOutcome, JobSink},
};
pub use markers::{forget_leftover, leftovers};

mod markers;
mod run;
mod runner;

/// Tells the time; only for what is written down.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How an executor works. [`ExecutorConfig::new`] has the values meant for use; tests shorten them.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The agent's own folder: markers, restic's cache, certificates.
    pub state_dir: PathBuf,
    /// Which restic; `None` to look for it at each job.
    pub restic: Option<PathBuf>,
    /// Bounds on what runs at once.
    pub limits: Limits,
    /// From the polite stop of a run to the hard one.
    pub grace: Duration,
    /// How long a backup or restore may move no byte.
    pub idle: Duration,
    /// How long the repository's server has to take a connection.
    pub connect: Duration,
    /// How long the repository has to answer before a job begins.
    pub preflight: Duration,
}

impl ExecutorConfig {
    /// The usual values.
    #[must_use]
    pub fn new(state_dir: PathBuf, restic: Option<PathBuf>, limits: Limits) -> Self {
        Self {
            state_dir,
            restic,
            limits,
            grace: Duration::from_secs(90),
            idle: Duration::from_secs(30 * 60),
            connect: Duration::from_secs(10),
            preflight: Duration::from_secs(30),
        }
    }
}

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Executor(Arc<Shared>);

struct Shared {
    config: ExecutorConfig,
    tracker: TaskTracker,
    clock: Clock,
    state: Mutex<State>,
    /// Jobs that wait or run.
    live: watch::Sender<usize>,
}

struct State {
    waiting: VecDeque<Order>,
    running: HashMap<JobId, watch::Sender<Option<Stop>>>,
    known: Known,
    most: usize,
    draining: bool,
}

struct Order {
    command: CommandRun,
    sink: Arc<dyn JobSink>,
}

/// Ids seen, the oldest forgotten first.
#[derive(Default)]
struct Known {
    ids: HashSet<JobId>,
    order: VecDeque<JobId>,
}

impl Known {
    /// Far more than a server resends, far less than hurts.
    const MOST: usize = 10_000;

    /// Whether it is new.
    fn insert(&mut self, job: JobId) -> bool {
        if !self.ids.insert(job) {
            return false;
        }
        self.order.push_back(job);
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

impl Executor {
    /// An executor that spawns its jobs on `tracker`. Jobs that an earlier process left behind count as known: they are
    /// reported (see [`leftovers`]), not run again.
    ///
    /// # Errors
    /// Where the state folder can't be read.
    pub fn new(config: ExecutorConfig, tracker: TaskTracker, clock: Clock) -> io::Result<Self> {
        let mut known = Known::default();
        for job in leftovers(&config.state_dir)? {
            known.insert(job);
        }
        let most = most(&config.limits);
        let state = State { waiting: VecDeque::new(), running: HashMap::new(), known, most, draining: false };
        Ok(Self(Arc::new(Shared { config, tracker, clock, state: Mutex::new(state), live: watch::Sender::new(0) })))
    }

    /// Takes an order. Its marker is on disk when this returns (one fsync); where that fails, or while the agent stops,
    /// the job ends as failed at once.
    pub fn submit(&self, command: CommandRun, sink: Arc<dyn JobSink>) -> Submitted {
        let job = command.job_id;
        {
            let mut state = self.0.lock();
            if !state.known.insert(job) {
                return Submitted::Known;
            }
            if state.draining {
                drop(state);
                sink.finished(not_run(
                    "the agent is being stopped and begins nothing new. Run the job again once it is back",
                ));
                return Submitted::Accepted;
            }
        }
        let accepted_at = (self.0.clock)();
        if let Err(e) = blocking(|| markers::write(&self.0.config.state_dir, &command, accepted_at)) {
            let folder = self.0.config.state_dir.display();
            sink.finished(not_run(&format!(
                "the agent can't write to its state folder {folder}: {e}. Check its permissions and the free space"
            )));
            return Submitted::Accepted;
        }
        self.0.live.send_modify(|count| *count += 1);
        self.0.lock().waiting.push_back(Order { command, sink });
        self.pump();
        Submitted::Accepted
    }

    /// Stops a job: one that waits ends as cancelled without running, one that runs is interrupted. Returns whether the
    /// job is there to be stopped.
    #[must_use]
    pub fn cancel(&self, job: JobId) -> bool {
        let mut state = self.0.lock();
        if let Some(stop) = state.running.get(&job) {
            raise(stop, Stop::Cancelled);
            return true;
        }
        let waiting = state.waiting.iter().position(|order| order.command.job_id == job);
        let Some(order) = waiting.and_then(|at| state.waiting.remove(at)) else { return false };
        drop(state);
        let end = JobOutcome { status: JobStatus::Cancelled, ..not_run("cancelled before it began") };
        self.0.end(&order, end);
        true
    }

    /// How many jobs may run at once from now on; running ones are left alone.
    pub fn set_limits(&self, limits: &Limits) {
        self.0.lock().most = most(limits);
        self.pump();
    }

    pub(crate) fn config(&self) -> &ExecutorConfig {
        &self.0.config
    }

    /// Jobs that wait or run.
    #[must_use]
    pub fn live(&self) -> usize {
        *self.0.live.borrow()
    }

    /// Ends everything: waiting jobs at once, running ones politely for `grace`, then hard. Returns when all have
    /// ended; no order is begun any more.
    pub async fn drain(&self, grace: Duration) {
        let waiting = {
            let mut state = self.0.lock();
            state.draining = true;
            state.running.values().for_each(|stop| raise(stop, Stop::Shutdown));
            std::mem::take(&mut state.waiting)
        };
        for order in waiting {
            self.0.end(&order, not_run("the agent was stopped before the job began. Run it again once it is back"));
        }
        let mut live = self.0.live.subscribe();
        if timeout_at(Instant::now() + grace, live.wait_for(|count| *count == 0)).await.is_err() {
            self.0.lock().running.values().for_each(|stop| raise(stop, Stop::ShutdownNow));
            // A killed process ends at once; the wait is bounded for one that the kernel holds.
            let _ = timeout_at(Instant::now() + Duration::from_secs(10), live.wait_for(|count| *count == 0)).await;
        }
    }

    /// Begins waiting jobs, oldest first, up to the limit.
    fn pump(&self) {
        loop {
            let (order, stop) = {
                let mut state = self.0.lock();
                if state.draining || state.running.len() >= state.most {
                    return;
                }
                let Some(order) = state.waiting.pop_front() else { return };
                let (sender, stop) = watch::channel(None);
                state.running.insert(order.command.job_id, sender);
                (order, stop)
            };
            let executor = self.clone();
            self.0.tracker.spawn(async move {
                let mut guard = EndGuard { executor, order: Some(order) };
                let Some(order) = &guard.order else { return };
                let end = run::job(&guard.executor.0.config, &order.command, &order.sink, stop).await;
                guard.end(end);
            });
        }
    }
}

/// Ends its job also where the task is dropped or panics.
struct EndGuard {
    executor: Executor,
    order: Option<Order>,
}

impl EndGuard {
    fn end(&mut self, end: JobOutcome) {
        let Some(order) = self.order.take() else { return };
        self.executor.0.lock().running.remove(&order.command.job_id);
        self.executor.0.end(&order, end);
        self.executor.pump();
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.end(not_run(
            "the agent broke off the job because of an error of its own. Its log has more; please report it",
        ));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole at each step, so the state is good even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, order: &Order, end: JobOutcome) {
        let job = order.command.job_id;
        order.sink.finished(end);
        if let Err(error) = blocking(|| forget_leftover(&self.config.state_dir, job)) {
            tracing::warn!(job.id = %job, %error, "can't remove the job's marker; it will be reported again at the next start");
        }
        self.live.send_modify(|count| *count -= 1);
    }
}

fn most(limits: &Limits) -> usize {
    usize::try_from(limits.concurrent_jobs.max(1)).unwrap_or(usize::MAX)
}

/// A wish only ever grows stronger.
fn raise(stop: &watch::Sender<Option<Stop>>, wish: Stop) {
    stop.send_if_modified(|now| {
        let stronger = *now < Some(wish);
        if stronger {
            *now = Some(wish);
        }
        stronger
    });
}

/// The end of a job that no process ran for.
fn not_run(why: &str) -> JobOutcome {
    JobOutcome { status: JobStatus::Failed, exit_code: None, error: Some(why.to_owned()), summary: None }
}
