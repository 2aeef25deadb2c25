//! What the connection needs from whatever runs jobs: one small trait. The connection never sees a process; the runner
//! never sees the network.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use flotilla_proto::{CommandRun, JobId, JobStatus, Limits, Stream};

use crate::{
    errand::Errands,
    sink::{Cursor, JobOutcome, JobSink},
};

/// A future of a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answer to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It will run, or end truthfully; every event goes to the sink that came with it.
    Accepted,
    /// The job is known already: nothing runs twice, and the sink that came with it is dropped.
    Known,
}

/// What a runner can do, for `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunnerFacts {
    /// Words such as `restic`.
    pub capabilities: Vec<String>,
    /// Version of the restic that was found.
    pub restic_version: Option<String>,
}

/// Runs jobs. No method blocks for long; all are called from the connection's task.
pub trait Runner: Send + Sync + 'static {
    /// Takes an order.
    fn submit(&self, order: CommandRun, sink: Arc<dyn JobSink>) -> Submitted;

    /// Stops a job; its end goes to its sink. `false`: no such job here.
    fn cancel(&self, job: JobId) -> bool;

    /// New bounds; jobs that run already are left alone.
    fn set_limits(&self, limits: Limits);

    /// The agent stops: takes no new orders. Returns once nothing hangs on this process any more, at the latest after `grace` and a little: jobs go on by
    /// themselves and are another process's to resume, or have ended.
    fn drain(&self, grace: Duration) -> BoxFuture<'_, ()>;

    /// How its jobs reach the server while they run. Said once, before anything is submitted or resumed.
    fn connect(&self, errands: Arc<dyn Errands>) {
        let _ = errands;
    }

    /// What it can do at this moment; asked before each `hello`, so that a restic installed later is noticed.
    fn describe(&self) -> BoxFuture<'_, RunnerFacts> {
        Box::pin(std::future::ready(RunnerFacts::default()))
    }

    /// Whether [`Runner::describe`] may say something else by now than it last did. Asked with each heartbeat: the server is to know of a restic that was
    /// installed, replaced or removed meanwhile.
    fn has_changed(&self) -> bool {
        false
    }

    /// Jobs that an earlier process of this agent accepted and whose end the server has not confirmed; some may have ended. Asked once, at the start.
    fn leftovers(&self) -> Vec<JobId> {
        Vec::new()
    }

    /// Takes a job from [`Runner::leftovers`] over: what never began runs now, what still runs is adopted, what is over ends with the truth. Its log goes on in
    /// `sink`; its output files were read up to `cursor`. `started` may be said a second time. Called once per job, before the first connection.
    fn resume(&self, job: JobId, sink: Arc<dyn JobSink>, cursor: Cursor) {
        let _ = (job, cursor);
        sink.line(Stream::System, "the agent restarted while the job ran");
        let error = "the agent restarted while the job ran, so its end is unknown: look at its log and run it again";
        sink.finished(JobOutcome {
            status: JobStatus::Failed,
            exit_code: None,
            error: Some(error.to_owned()),
            summary: None,
        });
    }

    /// The end of a job is on disk at the server, or the server doesn't know the job: nothing of it is needed any more.
    fn forget_leftover(&self, job: JobId) {
        let _ = job;
    }
}
