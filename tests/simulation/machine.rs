//! One endpoint of the simulation: a disk that survives, processes that survive their agent, and a runner that reads what they print as the real one does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_agent::{
    runner::{BoxFuture, Runner, Submitted},
    sink::{Cursor, JobOutcome, JobSink},
};
use flotilla_proto::{CommandRun, JobId, JobStatus, Limits, Stream};

/// What is true of a job, whatever anybody says of it.
#[derive(Debug, Clone)]
pub(crate) struct Truth {
    /// How often a process was started for it.
    pub(crate) runs: u32,
    /// Lines that its process printed.
    pub(crate) printed: u32,
    /// Lines that it will have printed by its end.
    wants: u32,
    /// How it ended.
    pub(crate) end: Option<JobStatus>,
    /// The agent's folder for it is there.
    pub(crate) kept: bool,
}

/// The endpoint; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobId, Truth>,
    /// Of the agent's process: gone with it.
    sinks: BTreeMap<JobId, Tail>,
    next_wants: u32,
}

struct Tail {
    sink: Arc<dyn JobSink>,
    told: u32,
    told_end: bool,
}

/// The text of a job's line.
pub(crate) fn text(job: JobId, number: u32) -> String {
    format!("{job} prints {number}")
}

/// Every line takes so many bytes of its file.
const LINE_BYTES: u64 = 100;

impl Machine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job that is started will print so many lines.
    pub(crate) fn next_prints(&self, lines: u32) {
        self.lock().next_wants = lines;
    }

    pub(crate) fn truth(&self) -> BTreeMap<JobId, Truth> {
        self.lock().jobs.clone()
    }

    /// Every process prints up to `most` lines more, and ends when it has printed all.
    pub(crate) fn print(&self, most: u32) {
        for truth in self.lock().jobs.values_mut().filter(|truth| truth.end.is_none()) {
            truth.printed = (truth.printed + most).min(truth.wants);
            if truth.printed == truth.wants {
                truth.end = Some(JobStatus::Succeeded);
            }
        }
    }

    /// All processes are killed.
    pub(crate) fn kill(&self) {
        self.lock()
            .jobs
            .values_mut()
            .filter(|truth| truth.end.is_none())
            .for_each(|truth| truth.end = Some(JobStatus::Failed));
    }

    /// The agent reads what is new in the files, up to `most` lines of each, and notices ends.
    pub(crate) fn read(&self, most: u32) {
        let mut state = self.lock();
        let State { jobs, sinks, .. } = &mut *state;
        for (id, tail) in sinks.iter_mut() {
            let Some(truth) = jobs.get(id) else { continue };
            let until = truth.printed.min(tail.told + most);
            if until > tail.told {
                tail.sink.hold();
                for number in tail.told + 1..=until {
                    tail.sink.line(Stream::Stdout, &text(*id, number));
                }
                tail.sink.mark(Stream::Stdout, u64::from(until) * LINE_BYTES);
                tail.told = until;
            }
            if let Some(status) = truth.end.filter(|_| tail.told == truth.printed && !tail.told_end) {
                tail.told_end = true;
                tail.sink.finished(JobOutcome { status, exit_code: Some(0), error: None, summary: None });
            }
        }
    }

    /// The agent's process is gone, with all that it had in memory.
    pub(crate) fn lose_agent(&self) {
        let gone = std::mem::take(&mut self.lock().sinks);
        drop(gone);
    }

    /// Whether anything still runs, or is not yet told.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.jobs.values().all(|truth| truth.end.is_some()) && state.sinks.values().all(|tail| tail.told_end)
    }
}

impl Runner for Machine {
    fn submit(&self, order: CommandRun, sink: Arc<dyn JobSink>) -> Submitted {
        let mut state = self.lock();
        let wants = state.next_wants;
        let had = state.sinks.contains_key(&order.job_id);
        let truth =
            state.jobs.entry(order.job_id).or_insert(Truth { runs: 0, printed: 0, wants, end: None, kept: false });
        // Known is what the disk has, and what this process has had.
        if truth.kept || had {
            return Submitted::Known;
        }
        truth.kept = true;
        truth.runs += 1;
        sink.started(Some(7));
        state.sinks.insert(order.job_id, Tail { sink, told: 0, told_end: false });
        Submitted::Accepted
    }

    fn cancel(&self, job: JobId) -> bool {
        let mut state = self.lock();
        let Some(truth) = state.jobs.get_mut(&job).filter(|truth| truth.end.is_none()) else { return false };
        truth.end = Some(JobStatus::Cancelled);
        true
    }

    fn set_limits(&self, _: Limits) {}

    fn drain(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn leftovers(&self) -> Vec<JobId> {
        self.lock().jobs.iter().filter(|(_, truth)| truth.kept).map(|(id, _)| *id).collect()
    }

    fn resume(&self, job: JobId, sink: Arc<dyn JobSink>, cursor: Cursor) {
        let told = u32::try_from(cursor.stdout / LINE_BYTES).unwrap_or(u32::MAX);
        self.lock().sinks.insert(job, Tail { sink, told, told_end: false });
    }

    fn forget_leftover(&self, job: JobId) {
        if let Some(truth) = self.lock().jobs.get_mut(&job) {
            truth.kept = false;
        }
    }
}
