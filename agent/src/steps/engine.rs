//! The order of things: guards, steps, teardown. Each is on disk before it begins. What is decided when the steps are over stays, whatever becomes of the teardown.

use std::{io, time::Duration};

use flotilla_proto::{
    ArtefactReport, JobProgress, JobStatus, RunbookOrder, RunbookResult, StepProgress, StepReport, StepState,
};
use tokio::time::Instant;

use super::{
    artefact::{self, Found},
    hosts::Hosts,
    journal::{At, Journal, Verdict},
    patience::{Halt, Patience},
    shell::{self, Came, Limit},
    voice::Voice,
    work::{self, Bench},
};
use crate::{
    process::StopSignal,
    restic::redact::Redacted,
    runbook::{Artefact, Readings, ResultSource, Runbook, Step, Values},
    sink::{JobOutcome, JobSink as _},
    text,
};

/// Most bytes that a job's result may take on its way to the server.
const MOST_RESULT: usize = 512 << 10;
/// Longest text of what went wrong, in a report.
const MOST_WORDS: usize = 4 << 10;

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

fn failed(error: String, exit_code: Option<i32>) -> Verdict {
    Verdict { status: JobStatus::Failed, exit_code, error: Some(error) }
}

fn succeeded() -> Verdict {
    Verdict { status: JobStatus::Succeeded, exit_code: Some(0), error: None }
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
                return Some(self.end(failed(why.to_owned(), None)));
            }
            At::Step(at) | At::Teardown(at) => {
                let what = self.name(at);
                let why = format!("the agent was restarted while {what} ran; how far it came is not known");
                if let Some(report) = self.journal.result.steps.get_mut(at) {
                    (report.state, report.error) = (StepState::Broken, Some(why.clone()));
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
        self.finish(failed(verdict, None)).await
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

    fn limit(&self, time: Duration) -> Limit {
        Limit { time, grace: self.setting.grace }
    }

    /// Ends what an earlier process of the agent left running.
    async fn end_strays(&mut self, at: At) {
        let mark = at.mark(&self.job, self.journal.round - 1);
        let remote = match at {
            At::Guard(at) => self.runbook.guards.get(at).map(|guard| work::guard_at(guard.place, self.hosts)),
            At::Step(at) => self.runbook.steps.get(at).and_then(|step| work::runs_at(step, self.hosts)),
            At::Teardown(at) => self.runbook.teardown.get(at).and_then(|step| work::runs_at(step, self.hosts)),
            At::Start | At::Before(_) => None,
        };
        let ended = match remote {
            None => return,
            Some(Err(why)) => Err(why),
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
                return Some(Err(failed(unwritable(&error), None)));
            }
            let mark = here.mark(&self.job, self.journal.round);
            let mut voice = Voice::new(self.sink, None);
            let limit = Limit { time: guard.timeout, grace: self.setting.grace };
            let came = match (
                work::script(&guard.cmd, &[], None, &self.values, &mark),
                work::guard_at(guard.place, self.hosts),
            ) {
                (Ok(script), Ok(remote)) => shell::run(&*remote, script, limit, &mut self.patience, &mut voice).await,
                (Err(came), _) => came,
                (_, Err(why)) => Came::failed(why),
            };
            match (came.halt, came.code, came.error) {
                (Some(Halt::Leave), ..) => return None,
                (_, Some(0), None) => {}
                (None, Some(code), _) if code > 0 && code < 126 => {
                    let message = guard.message.text(&self.values).unwrap_or_else(|error| error.to_string());
                    return Some(Err(failed(format!("nothing was done: {message}"), Some(code))));
                }
                (Some(Halt::Cancelled), ..) => {
                    let error = Some("cancelled before anything was done".to_owned());
                    return Some(Err(Verdict { status: JobStatus::Cancelled, exit_code: None, error }));
                }
                (_, code, error) => {
                    let why = error.unwrap_or_default();
                    let what = format!(
                        "nothing was done, for it could not be found out whether it may be: guard {} failed: {why}",
                        at + 1
                    );
                    return Some(Err(failed(what, code)));
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
                Verdict { status: JobStatus::Cancelled, exit_code: None, error }
            }
            Halt::Shutdown => failed(format!("the agent was stopped; {done}. Run the job again once it is back"), None),
            Halt::Time | Halt::JobTime => failed(format!("the job's own time limit is over; {done}"), None),
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
            match came.halt {
                Some(Halt::Leave) => return None,
                Some(Halt::Cancelled) => {
                    let error = Some(format!("cancelled while {} ran: {error}", self.name(at)));
                    return Some(Verdict { status: JobStatus::Cancelled, exit_code: came.code, error });
                }
                Some(Halt::JobTime | Halt::Shutdown) => return Some(failed(what, came.code)),
                _ if step.continue_on_error => self.behind(at),
                _ => return Some(failed(what, came.code)),
            }
        }
        Some(succeeded())
    }

    /// One step, in all that it has: condition, gate, work, artefact, results, report. No error: it was done, or left out.
    async fn step(&mut self, at: At, step: &Step) -> Came {
        let (number, teardown) = match at {
            At::Teardown(at) => (at, true),
            At::Step(at) | At::Guard(at) | At::Before(at) => (at, false),
            At::Start => (0, false),
        };
        let head = if teardown {
            format!("--- {} ---", step.label)
        } else {
            format!("=== [Step {}/{}] {} ===", number + 1, self.runbook.steps.len(), step.label)
        };
        let begun = Instant::now();
        let came = match step.when.as_ref().map(|when| when.holds(&self.values)) {
            Some(Ok(false)) => {
                self.sink.say(&format!(
                    "{head} left out: {} does not hold",
                    step.when.as_ref().map_or("", |when| when.source())
                ));
                self.report(at, |report| report.state = StepState::Skipped);
                return Came::default();
            }
            Some(Err(error)) => {
                self.sink.say(&head);
                Came::failed(format!("when: {error}"))
            }
            Some(Ok(true)) | None => {
                self.sink.say(&head);
                self.begin(at, number, step).await
            }
        };
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let state = match (&came.error, came.halt) {
            (None, _) => StepState::Done,
            (_, Some(Halt::Cancelled | Halt::JobTime | Halt::Shutdown | Halt::Leave)) => StepState::Broken,
            (Some(_), _) if step.continue_on_error && !teardown => StepState::Ignored,
            (Some(_), _) => StepState::Failed,
        };
        if came.halt == Some(Halt::Leave) {
            // The journal stays as it is: within this step.
            return came;
        }
        if let Some(error) = &came.error {
            self.sink.say(&match (state, teardown) {
                (_, true) => format!("[teardown error (ignored): {error}]"),
                (StepState::Ignored, _) => format!("[ERROR (continuing): {error}]"),
                _ => format!("[FAILED: {error}]"),
            });
        }
        if let Some(left) = &came.left {
            self.journal.result.notes.push(format!("{}: {left}", step.label));
        }
        let words = came.error.as_ref().map(|error| shortened(self.sink.scrub(error)));
        self.report(at, |report| {
            (report.state, report.exit_code, report.error) = (state, came.code, words);
            report.duration_ms = Some(took);
        });
        came
    }

    fn report(&mut self, at: At, change: impl FnOnce(&mut StepReport)) {
        let reports = &mut self.journal.result;
        let report = match at {
            At::Teardown(at) => reports.teardown.get_mut(at),
            At::Step(at) => reports.steps.get_mut(at),
            _ => None,
        };
        if let Some(report) = report {
            change(report);
        }
    }

    /// The step's work behind its condition.
    async fn begin(&mut self, at: At, number: usize, step: &Step) -> Came {
        if let Some(came) = self.gate(at, step).await {
            return came;
        }
        self.report(at, |report| report.state = StepState::Running);
        if let Err(error) = self.at(at) {
            let teardown = matches!(at, At::Teardown(_));
            if !teardown {
                return Came::failed(unwritable(&error));
            }
            tracing::warn!(%error, "should the agent die now, the next one won't know how far the teardown is");
        }
        let (teardown, limit) = (matches!(at, At::Teardown(_)), self.limit(step.timeout));
        let progress = self.progress(number, step, teardown);
        self.sink.progress(progress.clone());
        self.readings.begin(&step.label);
        let wants_json = self.runbook.results.iter().any(|rule| {
            matches!(rule.source, ResultSource::Pointer(_)) && rule.step.as_deref() == Some(step.label.as_str())
        });
        let reads =
            !teardown || self.runbook.results.iter().any(|rule| rule.step.as_deref() == Some(step.label.as_str()));
        let reads = reads && !self.runbook.results.is_empty();
        let mark = at.mark(&self.job, self.journal.round);
        let (hosts, values, patience, sink) = (self.hosts, &self.values, &mut self.patience, self.sink);
        let mut bench = Bench { hosts, values, patience, sink, limit, mark, progress, wants_json };
        let mut voice = Voice::new(self.sink, reads.then_some(&mut self.readings));
        let mut came = bench.work(step, &mut voice).await;
        let read = self.readings.end();
        if came.error.is_none() {
            came = self.made(step, came).await;
        }
        if let (None, Err(why)) = (&came.error, read) {
            came.error = Some(why);
        }
        for (name, value) in self.readings.found() {
            self.values.result(name, value.clone());
            self.journal.result.results.insert(name.clone(), value.clone());
        }
        came
    }

    fn progress(&self, number: usize, step: &Step, teardown: bool) -> JobProgress {
        let of = self.runbook.steps.len();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let done = if teardown { of } else { number };
        JobProgress {
            job_id: None,
            percent: f64::from(count(done)) * 100.0 / f64::from(count(of.max(1))),
            bytes_done: 0,
            bytes_total: 0,
            files_done: 0,
            files_total: 0,
            eta_s: None,
            current: None,
            step: Some(StepProgress { at: count(number + 1), of: count(of), label: step.label.clone(), teardown }),
        }
    }

    /// What speaks against a destructive step: what makes it safe is not there, or is not what it was.
    async fn gate(&mut self, at: At, step: &Step) -> Option<Came> {
        let name = self.runbook.safety.as_ref().filter(|_| step.destructive)?;
        let not_begun = |why: String| Some(Came::failed(format!("it was not begun: {why}")));
        let Some(known) = self.journal.result.artefacts.get(name).cloned() else {
            return not_begun(format!("the artefact {name:?}, which makes it safe, was not made"));
        };
        let maker =
            self.runbook.steps.iter().find(|step| step.artefact.as_ref().is_some_and(|made| &made.name == name));
        let remote = match maker.map(|maker| work::place_of(maker, self.hosts)) {
            Some(Ok(remote)) => remote,
            Some(Err(why)) => return not_begun(why),
            None => return not_begun(format!("no step makes the artefact {name:?}")),
        };
        let mark = format!("{}-look", at.mark(&self.job, self.journal.round));
        match artefact::look(&*remote, &known.path, mark, self.setting.grace, &mut self.patience).await {
            Ok(Found::File(found)) if found == known => {
                self.sink.say(&format!(
                    "{} is there and unchanged ({}, SHA-256 {})",
                    known.path,
                    text::size(known.size),
                    known.sha256
                ));
                None
            }
            Ok(Found::File(_)) => {
                not_begun(format!("{}, which makes it safe, is not what it was when it was made", known.path))
            }
            Ok(Found::Missing | Found::Other) => not_begun(format!("{}, which makes it safe, is gone", known.path)),
            Err(came) => Some(Came { error: came.error.map(|why| format!("it was not begun: {why}")), ..came }),
        }
    }

    /// Looks at what the step made.
    async fn made(&mut self, step: &Step, came: Came) -> Came {
        let Some(Artefact { name, path, min_bytes }) = &step.artefact else { return came };
        let path = match path.text(&self.values) {
            Ok(path) => path,
            Err(error) => return Came { code: came.code, ..Came::failed(format!("artefact: {error}")) },
        };
        let remote = match work::place_of(step, self.hosts) {
            Ok(remote) => remote,
            Err(why) => return Came::failed(why),
        };
        let mark = format!("{}-look", self.journal.at.mark(&self.job, self.journal.round));
        let file = match artefact::look(&*remote, &path, mark, self.setting.grace, &mut self.patience).await {
            Err(stopped) => return stopped,
            Ok(Found::File(file)) => file,
            Ok(found) => {
                let what = if found == Found::Missing { "is not there" } else { "is no regular file" };
                return Came {
                    code: came.code,
                    ..Came::failed(format!("it made no {path}: the artefact {name:?} {what}"))
                };
            }
        };
        if file.size < *min_bytes {
            let (has, wants) = (file.size, min_bytes);
            let why = format!("the artefact {path} has {has} bytes, fewer than {wants}: it can't be whole");
            return Came { code: came.code, ..Came::failed(why) };
        }
        let ArtefactReport { size, sha256, .. } = &file;
        self.sink.say(&format!("{path}: {}, SHA-256 {sha256}", text::size(*size)));
        self.values.artefact(name, &path, *size, sha256);
        self.journal.result.artefacts.insert(name.clone(), file);
        came
    }

    /// The teardown and the end.
    async fn finish(mut self, verdict: Verdict) -> Option<JobOutcome> {
        let bound = Instant::now() + self.setting.teardown;
        // A job that ends as it should has all of its time for this as well.
        let until = if verdict.status == JobStatus::Succeeded { bound.max(self.patience.until()) } else { bound };
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
        let Verdict { status, exit_code, error } = verdict;
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
    }
}

fn shortened(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(MOST_WORDS));
    words
}

fn unwritable(error: &io::Error) -> String {
    format!(
        "it was not begun, for that can't be noted in the agent's state folder: {error}. Check its rights and the free space there"
    )
}
