//! The order of things: guards, steps, teardown. Each is on disk before it begins. What is decided when the steps are over stays, whatever becomes of the teardown.

use std::{io, time::Duration};

use flotilla_proto::{FailureClass, JobStatus, RunbookOrder, RunbookResult, StepReport, StepState};
use tokio::time::Instant;

use super::{
    failure::Failure,
    hosts::Hosts,
    journal::{At, Journal, Verdict},
    patience::{Halt, Patience},
    shell::{self, Came, Limit},
    voice::Voice,
    work,
};
use crate::{
    process::StopSignal,
    restic::redact::Redacted,
    runbook::{Readings, Runbook, Step, Values},
    sink::JobOutcome,
    text,
};

mod step;

/// Most bytes that a job's result may take on its way to the server.
const MOST_RESULT: usize = 512 << 10;

/// How an engine works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// When the job's time is over.
    pub(crate) deadline: Instant,
    /// From the polite stop of a command to the hard one.
    pub(crate) grace: Duration,
    /// How long an agent that stops waits for the step at hand.
    pub(crate) leave: Duration,
    /// How long the teardown may take beyond the job's time.
    pub(crate) teardown: Duration,
}

/// Writes the journal down; on disk when it returns.
pub(crate) type Keep<'a> = &'a (dyn Fn(&Journal) -> io::Result<()> + Sync);

/// Runs one job.
pub(crate) struct Engine<'a> {
    runbook: &'a Runbook,
    hosts: &'a Hosts,
    /// The job's id, as it stands in marks.
    job: String,
    values: Values,
    readings: Readings<'a>,
    journal: Journal,
    keep: Keep<'a>,
    sink: &'a Redacted,
    patience: Patience<'a>,
    setting: Setting,
}

/// How a part of a job leaves: `None` where the agent stops, and the next one goes on.
type Left<T> = Option<T>;

fn failed(class: FailureClass, error: String, exit_code: Option<i32>) -> Verdict {
    Verdict { status: JobStatus::Failed, exit_code, error: Some(error), class: Some(class) }
}

fn succeeded() -> Verdict {
    Verdict { status: JobStatus::Succeeded, exit_code: Some(0), error: None, class: None }
}

impl<'a> Engine<'a> {
    /// For a job whose order was found good. `journal` is what an earlier process left, or a fresh one.
    pub(crate) fn new(
        (runbook, order, hosts): (&'a Runbook, &RunbookOrder, &'a Hosts),
        job: String,
        values: Values,
        (mut journal, keep): (Journal, Keep<'a>),
        (sink, stop): (&'a Redacted, &'a mut StopSignal),
        setting: Setting,
    ) -> Self {
        let mut values = values;
        for (name, file) in &journal.result.artefacts {
            values.artefact(name, &file.path, file.size, &file.sha256);
        }
        for (name, value) in &journal.result.results {
            values.result(name, value.clone());
        }
        journal.round += 1;
        let of = |steps: &[Step]| -> Vec<StepReport> { steps.iter().map(pending).collect() };
        if journal.result.steps.len() != runbook.steps.len() {
            journal.result = RunbookResult {
                runbook: runbook.name.clone(),
                hash: runbook.hash.clone(),
                way: Some(order.way),
                steps: of(&runbook.steps),
                ..RunbookResult::default()
            };
        }
        journal.result.teardown = of(&runbook.teardown);
        let readings = Readings::new(&runbook.results);
        let patience = Patience::new(stop, setting.deadline, setting.leave);
        Self { runbook, hosts, job, values, readings, journal, keep, sink, patience, setting }
    }

    /// Runs it from its beginning. `None`: the agent stops, and the next one goes on.
    pub(crate) async fn run(mut self) -> Option<JobOutcome> {
        if let Err(verdict) = self.guards().await? {
            return Some(self.end(verdict));
        }
        let verdict = self.steps().await?;
        let verdict = self.with_what_was_ignored(verdict);
        self.finish(verdict).await
    }

    /// Goes on with what an earlier process left.
    pub(crate) async fn resume(mut self) -> Option<JobOutcome> {
        let at = self.journal.at;
        if at == At::Start {
            return self.run().await;
        }
        self.end_strays(at).await;
        if let Some(verdict) = self.journal.verdict.clone() {
            if !self.runbook.teardown.is_empty() {
                self.note(
                    "the agent was restarted during the teardown, which was run once more from its start".to_owned(),
                );
            }
            return self.finish(verdict).await;
        }
        let verdict = match at {
            At::Guard(_) | At::Start => {
                let why = "the agent was restarted while it was looked whether the runbook may begin. Nothing was done; run the job again";
                return Some(self.end(failed(FailureClass::Other, why.to_owned(), None)));
            }
            At::Step(at) | At::Teardown(at) => {
                let what = self.name(at);
                let why = format!("the agent was restarted while {what} ran; how far it came is not known");
                if let Some(report) = self.journal.result.steps.get_mut(at) {
                    (report.state, report.error) = (StepState::Broken, Some(why.clone()));
                    report.class = Some(FailureClass::Other);
                }
                format!("{why}. Look at the host, then run the job again")
            }
            At::Before(at) if at >= self.runbook.steps.len() => return self.finish(succeeded()).await,
            At::Before(at) => {
                let before = at
                    .checked_sub(1)
                    .map_or_else(|| "before the first step".to_owned(), |at| format!("behind {}", self.name(at)));
                format!("the agent was restarted {before}; what follows was not run. Run the job again")
            }
        };
        self.sink.say(&verdict);
        self.finish(failed(FailureClass::Other, verdict, None)).await
    }

    /// `step 2 (Dump)`
    fn name(&self, at: usize) -> String {
        format!("step {} ({})", at + 1, self.runbook.steps.get(at).map_or("", |step| step.label.as_str()))
    }

    fn note(&mut self, note: String) {
        self.sink.say(&note);
        self.journal.result.notes.push(note);
    }

    /// Writes down where the job stands.
    fn at(&mut self, at: At) -> io::Result<()> {
        self.journal.at = at;
        (self.keep)(&self.journal)
    }

    /// Ends what an earlier process of the agent left running.
    async fn end_strays(&mut self, at: At) {
        let mark = at.mark(&self.job, self.journal.round - 1);
        let remote = match at {
            At::Guard(at) => self.runbook.guards.get(at).map(|guard| work::guard_at(guard, self.hosts)),
            At::Step(at) => self.runbook.steps.get(at).and_then(|step| work::runs_at(step, self.hosts)),
            At::Teardown(at) => self.runbook.teardown.get(at).and_then(|step| work::runs_at(step, self.hosts)),
            At::Start | At::Before(_) => None,
        };
        let ended = match remote {
            None => return,
            Some(Err(failure)) => Err(failure.why),
            Some(Ok(remote)) => remote.kill_marked(&mark, self.setting.grace).await,
        };
        match ended {
            Ok(stopped) if stopped.is_clean() => {
                self.sink.say(&format!("the agent was restarted while a command ran: {stopped}"));
            }
            Ok(stopped) => self.note(stopped.to_string()),
            Err(why) => self.note(why),
        }
    }

    /// Whether the runbook may begin.
    async fn guards(&mut self) -> Left<Result<(), Verdict>> {
        for (at, guard) in self.runbook.guards.iter().enumerate() {
            if let Some(halt) = self.patience.spent() {
                return self.halted_before(halt, "nothing was done").map(Err);
            }
            let here = At::Guard(at);
            if let Err(error) = self.at(here) {
                let failure = unwritable(&error);
                return Some(Err(failed(failure.class, failure.why, None)));
            }
            let mark = here.mark(&self.job, self.journal.round);
            let mut voice = Voice::new(self.sink, None);
            let limit = Limit { time: guard.timeout, grace: self.setting.grace };
            let came =
                match (work::script(&guard.cmd, &[], None, &self.values, &mark), work::guard_at(guard, self.hosts)) {
                    (Ok(script), Ok(remote)) => {
                        shell::run(&*remote, script, limit, &mut self.patience, &mut voice).await
                    }
                    (Err(came), _) => came,
                    (_, Err(why)) => Came::failed(why),
                };
            match (came.halt, came.code, came.error) {
                (Some(Halt::Leave), ..) => return None,
                (_, Some(0), None) => {}
                (None, Some(code), _) if code > 0 && code < 126 => {
                    let message = guard.message.text(&self.values).unwrap_or_else(|error| error.to_string());
                    return Some(Err(failed(FailureClass::Guard, format!("nothing was done: {message}"), Some(code))));
                }
                (Some(Halt::Cancelled), ..) => {
                    let error = Some("cancelled before anything was done".to_owned());
                    let class = Some(FailureClass::Cancelled);
                    return Some(Err(Verdict { status: JobStatus::Cancelled, exit_code: None, error, class }));
                }
                (_, code, error) => {
                    let why = error.unwrap_or_default();
                    let what = format!(
                        "nothing was done, for it could not be found out whether it may be: guard {} failed: {why}",
                        at + 1
                    );
                    return Some(Err(failed(came.class.unwrap_or(FailureClass::Other), what, code)));
                }
            }
        }
        Some(Ok(()))
    }

    /// A step is over, and the job goes on.
    fn behind(&mut self, step: usize) {
        if let Err(error) = self.at(At::Before(step + 1)) {
            tracing::warn!(%error, "should the agent die now, the next one believes that a step which is over still ran");
        }
    }

    /// The end of a job that nothing more is to be begun of.
    fn halted_before(&self, halt: Halt, done: &str) -> Left<Verdict> {
        Some(match halt {
            Halt::Leave => return None,
            Halt::Cancelled => {
                let error = Some(format!("cancelled; {done}"));
                Verdict { status: JobStatus::Cancelled, exit_code: None, error, class: Some(halt.class()) }
            }
            Halt::Shutdown => {
                failed(halt.class(), format!("the agent was stopped; {done}. Run the job again once it is back"), None)
            }
            Halt::Time | Halt::JobTime => {
                failed(halt.class(), format!("the job's own time limit is over; {done}"), None)
            }
        })
    }

    /// The steps, up to the first that fails.
    async fn steps(&mut self) -> Left<Verdict> {
        for (at, step) in self.runbook.steps.iter().enumerate() {
            if let Some(halt) = self.patience.spent() {
                let done = if at == 0 {
                    "nothing was done".to_owned()
                } else {
                    format!("it had come behind {}", self.name(at - 1))
                };
                return self.halted_before(halt, &done);
            }
            let came = self.step(At::Step(at), step).await;
            let Some(error) = came.error else {
                self.behind(at);
                continue;
            };
            let what = format!("Step {} ({}) failed: {error}", at + 1, step.label);
            let class = came.class.unwrap_or(FailureClass::Other);
            match came.halt {
                Some(Halt::Leave) => return None,
                Some(Halt::Cancelled) => {
                    let error = Some(format!("cancelled while {} ran: {error}", self.name(at)));
                    let class = Some(class);
                    return Some(Verdict { status: JobStatus::Cancelled, exit_code: came.code, error, class });
                }
                Some(Halt::JobTime | Halt::Shutdown) => return Some(failed(class, what, came.code)),
                _ if step.continue_on_error => self.behind(at),
                _ => return Some(failed(class, what, came.code)),
            }
        }
        Some(succeeded())
    }

    /// A job that went on past failed steps did not do all that it was to do.
    fn with_what_was_ignored(&self, verdict: Verdict) -> Verdict {
        let steps = self.journal.result.steps.iter().filter(|step| step.state == StepState::Ignored);
        let labels: Vec<&str> = steps.map(|step| step.label.as_str()).collect();
        if verdict.status != JobStatus::Succeeded || labels.is_empty() {
            return verdict;
        }
        let error =
            format!("it went on, as its runbook says, past what failed: {}. Each step says why", labels.join(", "));
        Verdict { status: JobStatus::Warning, error: Some(error), ..verdict }
    }

    /// The teardown and the end.
    async fn finish(mut self, verdict: Verdict) -> Option<JobOutcome> {
        let bound = Instant::now() + self.setting.teardown;
        // A job that ends as it should has all of its time for this as well.
        let in_time = matches!(verdict.status, JobStatus::Succeeded | JobStatus::Warning);
        let until = if in_time { bound.max(self.patience.until()) } else { bound };
        self.patience.begin_teardown(until);
        self.journal.verdict = Some(verdict.clone());
        if let Err(error) = self.at(At::Teardown(0)) {
            tracing::warn!(%error, "should the agent die now, the next one won't know how the steps ended");
        }
        if !self.runbook.teardown.is_empty() {
            self.sink.say("=== Teardown ===");
        }
        for (at, step) in self.runbook.teardown.iter().enumerate() {
            if let Some(halt) = self.patience.spent() {
                if halt == Halt::Leave {
                    let _ = self.at(At::Teardown(at));
                    return None;
                }
                let why = if halt == Halt::JobTime { "its time is over" } else { "the agent was being stopped" };
                self.note(format!("the teardown was not run from {:?} on, for {why}", step.label));
                break;
            }
            let came = self.step(At::Teardown(at), step).await;
            if came.halt == Some(Halt::Leave) {
                return None;
            }
            if let Some(error) = came.error {
                self.journal.result.notes.push(format!("in the teardown, {:?} failed: {error}", step.label));
            }
        }
        Some(self.end(verdict))
    }

    fn end(mut self, verdict: Verdict) -> JobOutcome {
        let (_, notes) = self.readings.into_parts();
        let mut result = std::mem::take(&mut self.journal.result);
        let Verdict { status, exit_code, error, class } = verdict;
        result.class = class;
        for note in notes {
            self.sink.say(&note);
            result.notes.push(note);
        }
        let mut summary = serde_json::to_value(&result);
        if summary.as_ref().is_ok_and(|summary| summary.to_string().len() > MOST_RESULT) {
            let bound = text::size(MOST_RESULT as u64);
            result.notes.push(format!("the results are left out: with them this would be bigger than {bound}"));
            result.results.clear();
            summary = serde_json::to_value(&result);
        }
        JobOutcome { status, exit_code, error, summary: summary.ok() }
    }
}

fn pending(step: &Step) -> StepReport {
    StepReport {
        label: step.label.clone(),
        kind: step.work.word().to_owned(),
        state: StepState::Pending,
        exit_code: None,
        duration_ms: None,
        error: None,
        class: None,
    }
}

fn unwritable(error: &io::Error) -> Failure {
    let class = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FailureClass::DiskFull,
        _ => FailureClass::Other,
    };
    let why = format!(
        "it was not begun, for that can't be noted in the agent's state folder: {error}. Check its rights and the free space there"
    );
    Failure::new(class, why)
}
