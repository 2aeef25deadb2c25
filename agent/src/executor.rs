//! Runs orders: each at most once, in the order of their arrival, so many at a time. An order that was accepted is on
//! disk and ends with exactly one [`JobSink::finished`], whatever happens to it or to the agent: what one process of the agent
//! leaves, the next one takes up ([`Executor::resume`]).

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
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
    errand::Errands,
    process::Stop,
    restic::version::{Footprint, footprint},
    runner::Submitted,
    seal::Seal,
    sink::{Cursor, JobOutcome, JobSink},
};
use folder::JobFolder;
pub use folder::{forget_leftover, leftovers};
use resume::Leftover;
use run::{Done, Surroundings};

mod dump;
mod folder;
mod hooks;
mod opening;
mod resume;
mod run;
mod runner;
mod stages;
mod target;

/// Tells the time; only for what is written down.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What becomes of running and waiting jobs where the agent stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStop {
    /// They go on, or wait on disk: the next process of the agent takes them up.
    Leave,
    /// They end, and say so: for an agent whose folder goes with it.
    End,
}

impl Default for AtStop {
    /// On Windows nothing can outlive the agent.
    fn default() -> Self {
        if cfg!(unix) { Self::Leave } else { Self::End }
    }
}

/// How an executor works. [`ExecutorConfig::new`] has the values meant for use; tests shorten them.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// The agent's own folder: jobs, restic's cache, certificates.
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
    /// Snapshots that one command removes at most, where more go one command follows another. Never more than a command line holds.
    pub ids_at_once: usize,
    /// What a stop of the agent means for its jobs.
    pub at_stop: AtStop,
}

impl ExecutorConfig {
    /// The usual values.
    #[must_use]
    pub fn new(state_dir: PathBuf, restic: Option<PathBuf>, limits: Limits) -> Self {
        // Programs may be started in other folders than the agent was.
        let state_dir = std::path::absolute(&state_dir).unwrap_or(state_dir);
        Self {
            state_dir,
            restic,
            limits,
            grace: Duration::from_secs(90),
            idle: Duration::from_secs(30 * 60),
            connect: Duration::from_secs(10),
            preflight: Duration::from_secs(30),
            ids_at_once: usize::MAX,
            at_stop: AtStop::default(),
        }
    }
}

/// A handle; clones share everything.
#[derive(Clone)]
pub struct Executor(Arc<Shared>);

struct Shared {
    config: ExecutorConfig,
    seal: Seal,
    tracker: TaskTracker,
    clock: Clock,
    state: Mutex<State>,
    /// How jobs reach the server; empty until there is one to be reached.
    errands: OnceLock<Arc<dyn Errands>>,
    /// Jobs that wait or run here.
    live: watch::Sender<usize>,
    /// The restic of which the server was told last.
    told: Mutex<Option<Footprint>>,
}

struct State {
    waiting: VecDeque<Order>,
    running: HashMap<JobId, watch::Sender<Option<Stop>>>,
    /// Running jobs whose folder goes at their end: the server does not know them any more.
    unwanted: HashSet<JobId>,
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
    /// An executor that spawns its jobs on `tracker` and keeps orders under `seal`. Jobs that an earlier process left behind count as known: they are
    /// to be resumed (see [`leftovers`]), not ordered again.
    ///
    /// # Errors
    /// Where the state folder can't be read.
    pub fn new(config: ExecutorConfig, seal: Seal, tracker: TaskTracker, clock: Clock) -> io::Result<Self> {
        folder::sweep(&config.state_dir)?;
        let mut known = Known::default();
        for job in leftovers(&config.state_dir)? {
            known.insert(job);
        }
        let most = most(&config.limits);
        let state = State {
            waiting: VecDeque::new(),
            running: HashMap::new(),
            unwanted: HashSet::new(),
            known,
            most,
            draining: false,
        };
        let live = watch::Sender::new(0);
        Ok(Self(Arc::new(Shared {
            config,
            seal,
            tracker,
            clock,
            state: Mutex::new(state),
            errands: OnceLock::new(),
            live,
            told: Mutex::default(),
        })))
    }

    fn find_restic(&self) -> Footprint {
        blocking(|| footprint(self.0.config.restic.as_deref()))
    }

    fn note_restic(&self, found: Footprint) {
        *self.0.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }

    fn noted_restic(&self) -> Option<Footprint> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How its jobs reach the server while they run; the first one given stays.
    pub fn set_errands(&self, errands: Arc<dyn Errands>) {
        let _ = self.0.errands.set(errands);
    }

    /// Takes an order. It is on disk when this returns (two fsyncs); where that fails, or while the agent stops, the job ends as failed at once.
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
        if let Err(e) = blocking(|| self.0.folder(job).keep(&self.0.seal, &command, accepted_at)) {
            let folder = self.0.config.state_dir.display();
            sink.finished(not_run(&format!(
                "the agent can't write to its state folder {folder}: {e}. Check its permissions and the free space"
            )));
            return Submitted::Accepted;
        }
        self.wait(Order { command, sink });
        Submitted::Accepted
    }

    /// Takes a job up that an earlier process of the agent accepted: one that had not begun waits for its turn again, one that runs is followed again, one
    /// that is over ends with the truth. Its log goes on in `sink`; its output was told up to `cursor`. To be called once for each of [`leftovers`].
    pub fn resume(&self, job: JobId, sink: Arc<dyn JobSink>, cursor: Cursor) {
        match blocking(|| Leftover::of(&self.0.folder(job), &self.0.seal)) {
            Leftover::Waits(command) => self.wait(Order { command: *command, sink }),
            left => {
                self.0.live.send_modify(|count| *count += 1);
                let (sender, mut stop) = watch::channel(None);
                self.0.lock().running.insert(job, sender);
                let executor = self.clone();
                // These don't wait for their turn: what they need runs already, or is over.
                self.0.tracker.spawn(async move {
                    let mut guard = EndGuard { executor, job: Some((job, sink)) };
                    let Some((_, sink)) = &guard.job else { return };
                    let shared = Arc::clone(&guard.executor.0);
                    let done = resume::job(&shared.surroundings(job), left, cursor, sink, &mut stop).await;
                    guard.done(done);
                });
            }
        }
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
        self.0.end(job, &order.sink, end);
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

    /// Removes all that is kept of a job: its end is where it has to be, or nobody wants to know it. One that runs goes on to its end, one that waits never
    /// begins.
    ///
    /// # Errors
    /// Where its folder is there and can't be removed.
    pub fn forget(&self, job: JobId) -> io::Result<()> {
        {
            let mut state = self.0.lock();
            if state.running.contains_key(&job) {
                state.unwanted.insert(job);
                return Ok(());
            }
            let before = state.waiting.len();
            state.waiting.retain(|order| order.command.job_id != job);
            let gone = before - state.waiting.len();
            self.0.live.send_modify(|count| *count -= gone);
        }
        blocking(|| forget_leftover(&self.0.config.state_dir, job))
    }

    /// Begins nothing any more. With [`AtStop::Leave`] returns as soon as nothing hangs on this process: what is at its very beginning or end has `grace` for
    /// that. With [`AtStop::End`] ends everything: waiting jobs at once, running ones politely for `grace`, then hard.
    pub async fn drain(&self, grace: Duration) {
        let wish = match self.0.config.at_stop {
            AtStop::Leave => Stop::Leave,
            AtStop::End => Stop::Shutdown,
        };
        let waiting = {
            let mut state = self.0.lock();
            state.draining = true;
            state.running.values().for_each(|stop| raise(stop, wish));
            std::mem::take(&mut state.waiting)
        };
        for order in waiting {
            match self.0.config.at_stop {
                AtStop::Leave => self.0.live.send_modify(|count| *count -= 1),
                AtStop::End => {
                    let end = not_run("the agent was stopped before the job began. Run it again once it is back");
                    self.0.end(order.command.job_id, &order.sink, end);
                }
            }
        }
        let mut live = self.0.live.subscribe();
        let late = timeout_at(Instant::now() + grace, live.wait_for(|count| *count == 0)).await.is_err();
        if late && self.0.config.at_stop == AtStop::End {
            self.0.lock().running.values().for_each(|stop| raise(stop, Stop::ShutdownNow));
            // A killed process ends at once; the wait is bounded for one that the kernel holds.
            let _ = timeout_at(Instant::now() + Duration::from_secs(10), live.wait_for(|count| *count == 0)).await;
        }
    }

    fn wait(&self, order: Order) {
        self.0.live.send_modify(|count| *count += 1);
        self.0.lock().waiting.push_back(order);
        self.pump();
    }

    /// Begins waiting jobs, oldest first, up to the limit.
    fn pump(&self) {
        loop {
            let (order, mut stop) = {
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
                let Order { command, sink } = order;
                let mut guard = EndGuard { executor, job: Some((command.job_id, sink)) };
                let Some((job, sink)) = &guard.job else { return };
                let shared = Arc::clone(&guard.executor.0);
                let done = run::job(&shared.surroundings(*job), &command, sink, &mut stop).await;
                guard.done(done);
            });
        }
    }
}

/// Ends its job also where the task panics. A task that is dropped leaves its job to the next process.
struct EndGuard {
    executor: Executor,
    job: Option<(JobId, Arc<dyn JobSink>)>,
}

impl EndGuard {
    fn done(&mut self, done: Done) {
        let Some((job, sink)) = self.job.take() else { return };
        let shared = &self.executor.0;
        match done {
            Done::Left => {
                shared.lock().running.remove(&job);
                shared.live.send_modify(|count| *count -= 1);
            }
            Done::Ended(end) => {
                let unwanted = {
                    let mut state = shared.lock();
                    state.running.remove(&job);
                    state.unwanted.remove(&job)
                };
                shared.end(job, &sink, end);
                if unwanted && let Err(error) = self.executor.forget(job) {
                    tracing::warn!(job.id = %job, %error, "the folder of an ended job could not be removed");
                }
            }
        }
        self.executor.pump();
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.done(Done::Ended(not_run(
                "the agent broke off the job because of an error of its own. Its log has more; please report it",
            )));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole at each step, so the state is good even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, job: JobId) -> JobFolder {
        JobFolder::of(&self.config.state_dir, job)
    }

    fn surroundings(&self, job: JobId) -> Surroundings<'_> {
        let errands = self.errands.get().cloned();
        Surroundings { config: &self.config, clock: &self.clock, folder: self.folder(job), errands }
    }

    fn end(&self, job: JobId, sink: &Arc<dyn JobSink>, end: JobOutcome) {
        // First to disk: a job of which an end was told must not run again.
        if let Err(error) = blocking(|| self.folder(job).write_end(&end)) {
            tracing::warn!(job.id = %job, %error, "the end of a job could not be written down");
        }
        sink.finished(end);
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

#[cfg(test)]
#[cfg(unix)]
mod tests;
