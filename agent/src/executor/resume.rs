//! What one process of the agent left, taken up by the next. What is on disk decides, in this order: an end that is known is told; a start whose program runs
//! is followed again; one that is over is judged by what it left; one that never was is made good; an order without a start waits for its turn.

use std::{sync::Arc, time::Duration};

use flotilla_proto::{CommandRun, JobKind};
use tokio::time::{Instant, timeout};

use super::{
    folder::{JobFolder, RunRecord},
    run::{Done, Ending, Job, Surroundings, clean, early, redacted},
    steps,
};
use crate::{
    platform::{Found, Worker},
    process::{Exit, Followed, StopSignal, Watcher as _},
    restic::{command::task_of, redact::Redacted},
    seal::Seal,
    sink::{Cursor, JobOutcome, JobSink},
};

/// What of a job is on disk.
pub(super) enum Leftover {
    /// It was accepted and not begun.
    Waits(Box<CommandRun>),
    /// A start was meant.
    Begun(Box<CommandRun>, RunRecord),
    /// Its end is known. With the order, where that can be read: what restic printed may not all have been told.
    Over(Option<(Box<CommandRun>, RunRecord)>, JobOutcome),
    /// It can't go on, for this reason. With what is known of its start: something may run.
    Broken(String, Option<RunRecord>),
}

impl Leftover {
    pub(super) fn of(folder: &JobFolder, seal: &Seal) -> Self {
        let order = folder.order(seal);
        let run = folder.run();
        if let Ok(Some(end)) = folder.end() {
            return Self::Over(order.ok().zip(run.ok().flatten()).map(|(order, run)| (Box::new(order), run)), end);
        }
        match (order, run) {
            (Ok(order), Ok(None)) => Self::Waits(Box::new(order)),
            (Ok(order), Ok(Some(run))) => Self::Begun(Box::new(order), run),
            (Ok(_), Err(error)) => Self::Broken(format!("what was noted of its start can't be read: {error}"), None),
            (Err(error), run) => Self::Broken(format!("its order can't be read: {error}"), run.ok().flatten()),
        }
    }
}

/// Goes on with a job that does not merely wait.
pub(super) async fn job(
    around: &Surroundings<'_>,
    left: Leftover,
    told: Cursor,
    sink: &Arc<dyn JobSink>,
    stop: &mut StopSignal,
) -> Done {
    match left {
        Leftover::Waits(order) => super::run::job(around, &order, sink, stop).await,
        Leftover::Begun(order, _) if steps::is_runbook(&order) => {
            let sink = redacted(&order, sink);
            // Steps are not gone on with, and the teardown has a time of its own.
            let job =
                Job { around, order: &order, deadline: Instant::now() + Duration::from_secs(order.timeout_s.max(1)) };
            clean(job.runbook_again(&sink, stop).await, &sink)
        }
        Leftover::Begun(order, run) => {
            let sink = redacted(&order, sink);
            let mut job = Job { around, order: &order, deadline: Instant::now() };
            let done = match job.hooks_noted() {
                Ok(Some(end)) => {
                    tell_rest(&job, run, told, &sink);
                    Done::Ended(end)
                }
                Ok(None) => go_on(&mut job, run, told, &sink, stop).await,
                Err(unreadable) => unreadable,
            };
            clean(job.hooks_behind(done, &sink, stop).await, &sink)
        }
        Leftover::Over(rest, end) => {
            if let Some((order, run)) = rest.filter(|(order, _)| !steps::is_runbook(order)) {
                let sink = redacted(&order, sink);
                tell_rest(&Job { around, order: &order, deadline: Instant::now() }, run, told, &sink);
            }
            Done::Ended(end)
        }
        Leftover::Broken(why, run) => {
            if let Some(run) = run {
                end_orphan(around, &run).await;
            }
            early(format!("the agent was restarted and could not go on with this job: {why}. Run the job again"))
        }
    }
}

/// What restic printed and was not told yet.
fn tell_rest(job: &Job<'_>, run: RunRecord, told: Cursor, sink: &Redacted) {
    let mut listener = job.listener(sink, task_of(&job.order.kind), run);
    if let Ok(mut output) = job.output(told, &mut listener, sink) {
        output.finish(&mut listener);
    }
}

async fn go_on(job: &mut Job<'_>, run: RunRecord, told: Cursor, sink: &Redacted, stop: &mut StopSignal) -> Done {
    if job.order.kind == JobKind::Dump {
        return early("the agent was restarted while it sent the download, which broke off with that. Begin it again");
    }
    let traces = job.around.folder.traces(run.number);
    // After a boot nothing of it runs, and a missing note proves nothing: it may not have reached the disk.
    let found = if run.same_boot() { traces.find().await } else { Ok(Found::Over) };
    job.deadline = Instant::now() + left(&run, found.as_ref().ok(), job.around);
    let done = match found {
        Err(error) => Err(early(format!(
            "the agent was restarted and can't read what it had noted of the job: {error}. Run the job again"
        ))),
        Ok(Found::Never) => {
            sink.say("the agent was restarted just before restic began: it begins now");
            job.begin(run.number + 1, sink, stop).await
        }
        Ok(Found::Running(worker)) => {
            let pid = worker.pid();
            sink.say(&format!("the agent was restarted; restic (pid {pid}) went on and is followed again"));
            let mut listener = job.listener(sink, task_of(&job.order.kind), run);
            listener.started(Some(pid));
            job.follow(worker, told, listener, stop, sink).await
        }
        Ok(Found::Over) => over(job, run, told, sink, stop).await,
    };
    done.unwrap_or_else(|done| done)
}

/// How much time the job has left. By the system's uptime where it tells; else by its clock, which may have been set meanwhile: never more than it had.
fn left(run: &RunRecord, found: Option<&Found>, around: &Surroundings<'_>) -> Duration {
    let had = Duration::from_millis(run.left_ms);
    let by_clock = (around.clock)().ms_since(run.begun_at);
    match found {
        Some(Found::Never) => had,
        Some(Found::Running(worker)) => had.saturating_sub(
            worker.age().unwrap_or_else(|| Duration::from_millis(u64::try_from(by_clock).unwrap_or_default())),
        ),
        _ => Duration::ZERO,
    }
}

/// restic ended, or was ended, while no agent looked.
async fn over(
    job: &Job<'_>,
    run: RunRecord,
    told: Cursor,
    sink: &Redacted,
    stop: &mut StopSignal,
) -> Result<Done, Done> {
    let traces = job.around.folder.traces(run.number);
    let (same_boot, stopped) = (run.same_boot(), run.stopped);
    // Above all a restic whose keeper was killed: without it nobody would learn of its end.
    let strays = if same_boot { traces.end_strays() } else { 0 };
    let task = task_of(&job.order.kind);
    let mut listener = job.listener(sink, task, run);
    let pid = traces.pid();
    listener.started(pid);
    job.output(told, &mut listener, sink)?.finish(&mut listener);
    let name = pid.map_or_else(|| "restic".to_owned(), |pid| format!("restic (pid {pid})"));
    let followed = match (traces.code(), stopped) {
        (Some(code), _) => {
            sink.say(&format!("the agent was restarted; {name} had ended meanwhile, with code {code}"));
            Followed::Ended(Exit { code, stopped, killed: false })
        }
        (None, Some(_)) => {
            sink.say(&format!("the agent was restarted; {name} was being stopped and is gone"));
            Followed::Ended(Exit { code: -9, stopped, killed: true })
        }
        (None, None) => {
            sink.say(&format!("the agent was restarted; {name} is gone, and did not end by itself"));
            Followed::Vanished
        }
    };
    if strays > 0 {
        sink.say(&format!("{strays} processes that still belonged to it were ended"));
    }
    let gone = if same_boot {
        "restic was killed while no agent ran: by hand, or by the system (out of memory). Run the job again; what was uploaded is used then."
    } else {
        "the host was restarted while the job ran. Run the job again; what was uploaded is used then."
    };
    let ending = Ending { followed, pid: pid.unwrap_or_default(), gone };
    Ok(job.conclude(ending, listener, sink, stop).await)
}

/// Stops a program whose job can't go on: nobody could judge it.
async fn end_orphan(around: &Surroundings<'_>, run: &RunRecord) {
    if !run.same_boot() {
        return;
    }
    if let Ok(Found::Running(mut worker)) = around.folder.traces(run.number).find().await {
        worker.interrupt();
        if timeout(around.config.grace, ended(&mut worker)).await.is_err() {
            worker.kill();
        }
        worker.sweep();
    }
}

async fn ended(worker: &mut Worker) {
    worker.ended().await;
}
