//! What the server has scheduled for this host: held sealed on disk, ticked here, reported to the server, and backups run from here while it is away.
//! A moment has one job id, chosen once and on disk before anybody hears of it: however often it is said, and whoever runs it, it is one job.

mod desk;
mod entries;
mod live;
mod state;
mod store;

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_proto::{
    CommandRun, HostId, JobId, ScheduleAck, ScheduleFire, ScheduleFired, ScheduleRejection, ScheduleSet, Timestamp,
    Trouble,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::store::ScheduleStoreError;
use self::{
    desk::{Desk, Look, MOST_ALONE},
    live::LiveJobs,
    state::State,
    store::{HeldSet, Store},
};
use crate::{
    backoff::Entropy,
    blocking::blocking,
    clock::Clock,
    outbox::Outbox,
    runner::{Runner, Submitted},
    seal::Seal,
    sink::JobSink,
};

/// How often the confirmation of a set is written while it lasts.
const CONFIRMED_EVERY_MS: i64 = 3_600_000;
/// Answers that come closer together than this are written down together: each rewrites all that is remembered, and after a long absence a thousand come at once.
/// A process that dies in between reports those moments again, and is answered the same. What the server orders of them is not begun before they are on disk.
const ANSWERS_EVERY: Duration = Duration::from_millis(200);

/// How the agent follows its schedules. The default is meant for use; tests change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulePolicy {
    /// The wall clock is looked at at least this often: it jumps, and machines sleep.
    pub look_every: Duration,
    /// A report without an answer is sent again after this.
    pub answer_within: Duration,
    /// A backup waits this long for the server, then runs without it.
    pub alone_after: Duration,
    /// For this long after the server last confirmed the set. Then due backups wait for the server.
    pub alone_for: Duration,
    /// A moment later than this was missed.
    pub late_after: Duration,
    /// A missed moment fires within this time, at random, so that a fleet does not come all at once.
    pub catch_up_spread: Duration,
}

impl Default for SchedulePolicy {
    fn default() -> Self {
        Self {
            look_every: Duration::from_secs(30),
            answer_within: Duration::from_secs(30),
            alone_after: Duration::from_secs(120),
            alone_for: Duration::from_secs(30 * 24 * 3600),
            late_after: Duration::from_secs(300),
            catch_up_spread: Duration::from_secs(60),
        }
    }
}

/// What a scheduler is connected to.
pub(crate) struct Wiring {
    pub(crate) state_dir: PathBuf,
    pub(crate) host_id: HostId,
    pub(crate) seal: Seal,
    pub(crate) policy: SchedulePolicy,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) outbox: Outbox,
    pub(crate) runner: Arc<dyn Runner>,
    /// Cancelled: nothing fires any more.
    pub(crate) draining: CancellationToken,
}

/// Cheap handle to the schedules of one agent.
#[derive(Clone)]
pub(crate) struct Scheduler(Arc<Shared>);

struct Shared {
    wiring: Wiring,
    store: Store,
    live: LiveJobs,
    inner: Mutex<Inner>,
    /// Wakes the ticker; a permit is kept.
    wake: Notify,
    /// Wakes the connection; a permit is kept.
    report: Notify,
}

struct Inner {
    /// 0 where no set is held.
    version: u64,
    rejected: Vec<ScheduleRejection>,
    desk: Desk,
    state: State,
    /// What `state` says is not on disk.
    dirty: bool,
    /// Moments, by their jobs, that were answered in memory only.
    answered: Vec<JobId>,
    /// When these are to be written.
    answers_due: Option<Instant>,
    /// When the last ones were.
    answers_written: Option<Instant>,
    confirmed_on_disk: Timestamp,
    /// Why it could not be written the last time.
    unwritten: Option<String>,
}

impl Scheduler {
    /// Reads what an earlier process left. Nothing fires before [`Scheduler::run`].
    pub(crate) fn open(wiring: Wiring) -> Self {
        let store = Store::new(&wiring.state_dir, wiring.seal.clone(), wiring.host_id);
        let now = wiring.clock.now();
        let (set, state) = blocking(|| (store.read_set(), store.read_state()));
        // Without a memory of what fired, only what comes from now on is safe to fire.
        let since = set.as_ref().filter(|_| state.is_some()).map_or(now, |set| set.received_at);
        let mut state =
            state.unwrap_or_else(|| State::new(wiring.host_id, set.as_ref().map_or(now, |set| set.received_at)));
        let mut desk = Desk::default();
        let (mut version, mut rejected) = (0, Vec::new());
        if let Some(set) = set {
            version = set.version;
            (desk.entries, rejected) = entries::read(set.entries);
            state.follow(desk.entries.values().map(|e| &e.entry), since);
        }
        for p in state.pending.iter_mut().filter(|p| p.alone && !p.begun) {
            // The process ended between the decision and its record. What the runner took is among its leftovers.
            p.begun = wiring.outbox.contains(p.job_id);
            p.alone = p.begun;
        }
        let confirmed_on_disk = state.confirmed_at;
        let inner = Inner {
            version,
            rejected,
            desk,
            state,
            dirty: false,
            answered: Vec::new(),
            answers_due: None,
            answers_written: None,
            confirmed_on_disk,
            unwritten: None,
        };
        Self(Arc::new(Shared {
            wiring,
            store,
            live: LiveJobs::default(),
            inner: Mutex::new(inner),
            wake: Notify::new(),
            report: Notify::new(),
        }))
    }

    /// Ticks for as long as it is polled; falls silent when the agent drains.
    pub(crate) async fn run(&self) -> Infallible {
        let draining = &self.0.wiring.draining;
        while !draining.is_cancelled() {
            let next = self.0.look();
            tokio::select! {
                () = draining.cancelled() => {}
                // Either is a reason to look again.
                _ = timeout_at(next, self.0.wake.notified()) => {}
            }
        }
        self.0.lock().write_answers(&self.0.store);
        std::future::pending().await
    }

    /// Hands an order to the runner, with the outbox for what it says. Known jobs run nothing twice.
    pub(crate) fn submit(&self, order: CommandRun) -> Submitted {
        self.0.submit(order)
    }

    /// Counts a job as live until its sink has its end.
    pub(crate) fn watch(&self, job_id: JobId, sink: Arc<dyn JobSink>) -> Arc<dyn JobSink> {
        self.0.live.watch(job_id, sink)
    }

    /// Version of the held set, and the unanswered moments: for `hello`.
    pub(crate) fn hello(&self) -> (u64, Vec<ScheduleFire>) {
        let inner = &mut *self.0.lock();
        (inner.version, inner.desk.name(&inner.state))
    }

    /// The server has taken what [`Scheduler::hello`] named.
    pub(crate) fn connected(&self) {
        let inner = &mut *self.0.lock();
        inner.desk.connected(&inner.state, Instant::now());
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&self) {
        let now = self.0.wiring.clock.now();
        self.0.change(|desk, state| {
            desk.confirm(state, now, Instant::now());
            desk.disconnected();
        });
        self.0.wake.notify_one();
    }

    /// The next moment to report over a connection that stands: waits until there is one. Cancel-safe: what is not returned counts as unsent.
    pub(crate) async fn next(&self) -> ScheduleFire {
        loop {
            let due = {
                let inner = &mut *self.0.lock();
                inner.desk.next_fire(&inner.state, Instant::now(), self.0.wiring.policy.answer_within)
            };
            match due {
                Ok(fire) => return fire,
                Err(None) => self.0.report.notified().await,
                Err(Some(at)) => {
                    // Either is a reason to look again.
                    let _ = timeout_at(at, self.0.report.notified()).await;
                }
            }
        }
    }

    /// Takes a set in place of the held one. It is on disk when this returns.
    ///
    /// # Errors
    /// Where it can't be written: then the held one stays in force.
    pub(crate) fn receive(&self, set: ScheduleSet) -> Result<ScheduleAck, ScheduleStoreError> {
        let shared = &self.0;
        let (version, now) = (set.version, shared.wiring.clock.now());
        let held = HeldSet { version, received_at: now, entries: set.entries };
        blocking(|| shared.store.write_set(&held))?;
        let (entries, rejected) = entries::read(held.entries);
        for refusal in &rejected {
            tracing::warn!(schedule.id = %refusal.schedule_id, reason = refusal.reason, "a schedule can't be followed");
        }
        {
            let inner = &mut *shared.lock();
            // The server owns the schedules: one that was restored from a backup counts from there.
            if version < inner.version {
                tracing::warn!(
                    version,
                    held = inner.version,
                    "the server's schedules are older than those held; they are taken"
                );
            }
            tracing::info!(version, entries = entries.len(), "schedules taken");
            inner.version = version;
            inner.rejected.clone_from(&rejected);
        }
        shared.change(|desk, state| {
            desk.entries = entries;
            state.follow(desk.entries.values().map(|e| &e.entry), now);
            state.confirmed_at = now;
        });
        shared.wake.notify_one();
        Ok(ScheduleAck { version, rejected })
    }

    /// The server has answered a moment.
    pub(crate) fn fired(&self, answer: &ScheduleFired) {
        let shared = &self.0;
        let of_answer = (answer.schedule_id, answer.scheduled_at);
        let pending = {
            let inner = &mut *shared.lock();
            let pending = inner.state.pending.iter().find(|p| (p.schedule_id, p.scheduled_at) == of_answer).cloned();
            // A refusal from before the job ran alone says nothing of that: the report that it does gets an answer of its own.
            let last = pending.as_ref().is_none_or(|p| inner.desk.answered(p.job_id));
            pending.filter(|p| last && inner.desk.is_reported(p) || !p.alone || answer.job_id == Some(p.job_id))
        };
        let Some(pending) = pending else { return };
        shared.settle(pending.job_id, |state| state.settle(answer.schedule_id, answer.scheduled_at, answer.job_id));
        if answer.job_id == Some(pending.job_id) {
            tracing::debug!(schedule.id = %answer.schedule_id, job.id = %pending.job_id, "the server has the moment");
            return;
        }
        let reason = match (answer.job_id, &answer.reason) {
            (Some(other), _) => format!("it became job {other} before"),
            (None, Some(reason)) => reason.clone(),
            (None, None) => "the server gives no reason".to_owned(),
        };
        tracing::warn!(schedule.id = %answer.schedule_id, job.id = %pending.job_id, moment = %answer.scheduled_at, reason, "the server did not take a moment");
        if pending.alone {
            // Its log has no reader, and two runs for one moment is what must not be.
            shared.wiring.runner.cancel(pending.job_id);
            shared.wiring.outbox.forget(pending.job_id);
        }
    }

    /// The server is known to have this job, whatever became of its answer.
    pub(crate) fn has_job(&self, job_id: JobId) {
        self.0.change(|_, state| {
            if let Some(p) = state.pending.iter().find(|p| p.job_id == job_id).cloned() {
                state.settle(p.schedule_id, p.scheduled_at, Some(job_id));
            }
        });
        let inner = &mut *self.0.lock();
        if inner.answered.contains(&job_id) {
            // Now it runs, or has run: a moment that waited for the server must not come back and run alone.
            inner.write_answers(&self.0.store);
        }
    }

    /// What an operator should know.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let inner = self.0.lock();
        let trouble = |code: &str, message: String| Trouble { code: code.to_owned(), message };
        let days = self.0.wiring.policy.alone_for.as_secs() / 86_400;
        let mut troubles = Vec::new();
        troubles.extend(inner.state.withheld.map(|w| {
            trouble(
                "schedules_too_old",
                format!(
                    "Backups that were due from {} to {} did not run by themselves: the server was away, and its schedules had last been confirmed more than \
                     {days} days before. They run again while the agent is connected; look at why it could not reach the server, and run the backup now if it is overdue",
                    w.first, w.last
                ),
            )
        }));
        troubles.extend(inner.rejected.first().map(|first| {
            trouble(
                "schedule_rejected",
                format!(
                    "The agent cannot follow {} of its schedules, so they never run by it. The first: {}. Correct the schedule, or update the agent",
                    inner.rejected.len(),
                    first.reason
                ),
            )
        }));
        troubles.extend(inner.unwritten.as_ref().map(|why| {
            trouble(
                "schedule_not_written",
                format!("Schedules do not fire while the agent cannot write down that they did: {why}"),
            )
        }));
        if inner.state.pending.iter().filter(|p| p.alone).count() >= MOST_ALONE {
            troubles.push(trouble(
                "schedules_full",
                format!("{MOST_ALONE} backups ran without the server and are not reported yet; more do not begin before the server has taken them"),
            ));
        }
        troubles
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole at each step, so what is there is good even after a panic elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at both clocks, writes down what follows, then does it. Returns when to look again.
    fn look(&self) -> Instant {
        let (wall, mono) = (self.wiring.clock.now(), Instant::now());
        let mut orders = Vec::new();
        let next = {
            let inner = &mut *self.lock();
            let mut draft = inner.state.clone();
            let policy = &self.wiring.policy;
            let at = Look { wall, mono, policy, live: &self.live, entropy: &self.wiring.entropy };
            let next = inner.desk.look(&mut draft, &at);
            if !inner.write(&self.store, &draft) {
                return mono + policy.look_every;
            }
            inner.state = draft;
            for p in inner.state.pending.iter().filter(|p| p.alone && !p.begun) {
                let entry = inner.desk.entries.get(&p.schedule_id);
                let order = entry.and_then(|entry| entry.order_for(p.scheduled_at)).cloned();
                orders.extend(order.map(|order| order.for_job(p.job_id)));
            }
            inner.answers_due.map_or(next, |due| due.min(next))
        };
        self.report.notify_one();
        let begun: Vec<JobId> = orders.iter().map(|order| order.job_id).collect();
        for order in orders {
            self.submit(order);
        }
        self.change(|_, state| {
            state.pending.iter_mut().filter(|p| begun.contains(&p.job_id)).for_each(|p| p.begun = true);
        });
        next
    }

    fn submit(&self, order: CommandRun) -> Submitted {
        let job_id = order.job_id;
        let outbox = &self.wiring.outbox;
        let fresh = !outbox.contains(job_id);
        let sink = self.live.watch(job_id, outbox.open(job_id));
        let submitted = self.wiring.runner.submit(order, sink);
        if submitted == Submitted::Known && fresh {
            // It has run and its end was delivered: nothing to report a second time.
            outbox.forget(job_id);
        }
        submitted
    }

    /// A change that holds whether or not it can be written now: a repetition of what it settles does no harm.
    fn change(&self, change: impl FnOnce(&mut Desk, &mut State)) {
        let inner = &mut *self.lock();
        let mut draft = inner.state.clone();
        change(&mut inner.desk, &mut draft);
        inner.dirty = !inner.write(&self.store, &draft);
        inner.state = draft;
    }

    /// What the answer for the moment of this job settles. It holds at once and is on disk within [`ANSWERS_EVERY`]: a repetition does no harm.
    fn settle(&self, job_id: JobId, settle: impl FnOnce(&mut State)) {
        let inner = &mut *self.lock();
        settle(&mut inner.state);
        inner.answered.push(job_id);
        if inner.answers_due.is_some() {
            return;
        }
        match inner.answers_written.map(|at| at + ANSWERS_EVERY).filter(|due| *due > Instant::now()) {
            None => inner.write_answers(&self.store),
            Some(due) => {
                inner.answers_due = Some(due);
                self.wake.notify_one();
            }
        }
    }
}

impl Inner {
    /// Writes down what was answered.
    fn write_answers(&mut self, store: &Store) {
        self.answers_due = Some(Instant::now());
        let state = self.state.clone();
        self.dirty = !self.write(store, &state);
    }

    /// Whether `draft` is on disk, or differs from that by nothing that matters.
    fn write(&mut self, store: &Store, draft: &State) -> bool {
        let stale = draft.confirmed_at.ms_since(self.confirmed_on_disk).abs() >= CONFIRMED_EVERY_MS;
        let same = State { confirmed_at: self.state.confirmed_at, ..draft.clone() } == self.state;
        let answers = self.answers_due.is_some_and(|due| due <= Instant::now());
        if same && !stale && !self.dirty && !answers {
            return true;
        }
        match blocking(|| store.write_state(draft)) {
            Ok(()) => {
                (self.dirty, self.unwritten) = (false, None);
                self.answered.clear();
                if self.answers_due.take().is_some() {
                    self.answers_written = Some(Instant::now());
                }
                self.confirmed_on_disk = draft.confirmed_at;
                true
            }
            Err(error) => {
                let text = error.to_string();
                if self.unwritten.as_ref() != Some(&text) {
                    tracing::error!(%error, "schedules cannot go on");
                }
                self.unwritten = Some(text);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
