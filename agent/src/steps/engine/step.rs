//! One step in all that it has: its condition, what makes it safe, its work, what it made, what is read out of what it printed, and its report.

use std::time::Duration;

use flotilla_proto::{ArtefactReport, FailureClass, JobProgress, StepProgress, StepReport, StepState};
use tokio::time::Instant;

use super::{Engine, unwritable};
use crate::{
    runbook::{Artefact, ResultSource, Retry, Step},
    sink::JobSink as _,
    steps::{
        artefact::{self, Found},
        failure::Failure,
        journal::At,
        patience::Halt,
        shell::{self, Came, Limit},
        voice::Voice,
        work::{self, Bench},
    },
    text,
};

/// What attempts of one step have in common.
#[derive(Clone)]
struct Attempt {
    reads: bool,
    wants_json: bool,
    mark: String,
    progress: JobProgress,
}

/// Longest text of what went wrong, in a report.
const MOST_WORDS: usize = 4 << 10;

impl Engine<'_> {
    fn limit(&self, time: Duration) -> Limit {
        Limit { time, grace: self.setting.grace }
    }

    /// One step, in all that it has: condition, gate, work, artefact, results, report. No error: it was done, or left out.
    pub(super) async fn step(&mut self, at: At, step: &Step) -> Came {
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
            report.class = came.error.as_ref().and(came.class.or(Some(FailureClass::Other)));
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
        let teardown = matches!(at, At::Teardown(_));
        let progress = self.progress(number, step, teardown);
        self.sink.progress(progress.clone());
        let wants_json = self.runbook.results.iter().any(|rule| {
            matches!(rule.source, ResultSource::Pointer(_)) && rule.step.as_deref() == Some(step.label.as_str())
        });
        let reads =
            !teardown || self.runbook.results.iter().any(|rule| rule.step.as_deref() == Some(step.label.as_str()));
        let reads = reads && !self.runbook.results.is_empty();
        let mark = at.mark(&self.job, self.journal.round);
        let attempt = Attempt { reads, wants_json, mark, progress };
        let mut came = match &step.retry {
            None => self.attempt(step, &attempt, step.timeout).await,
            Some(retry) => self.repeat(step, &attempt, retry).await,
        };
        if came.error.is_none() {
            came = self.made(step, came).await;
        }
        for (name, value) in self.readings.found() {
            self.values.result(name, value.clone());
            self.journal.result.results.insert(name.clone(), value.clone());
        }
        came
    }

    /// The step's work, once; what is read out of its output among it.
    async fn attempt(&mut self, step: &Step, attempt: &Attempt, time: Duration) -> Came {
        self.readings.begin(&step.label);
        let Attempt { reads, wants_json, mark, progress } = attempt.clone();
        let limit = self.limit(time);
        let (hosts, values, patience, sink) = (self.hosts, &self.values, &mut self.patience, self.sink);
        let mut bench = Bench { hosts, values, patience, sink, limit, mark, progress, wants_json };
        let mut voice = Voice::new(self.sink, reads.then_some(&mut self.readings));
        let mut came = bench.work(step, &mut voice).await;
        if let (None, Err(why)) = (&came.error, self.readings.end()) {
            (came.error, came.class) = (Some(why), Some(FailureClass::Answer));
        }
        came
    }

    /// The same until it succeeds, or a repetition can't mend it, or the time is over.
    async fn repeat(&mut self, step: &Step, attempt: &Attempt, retry: &Retry) -> Came {
        let within = match retry.within.as_ref().map(|within| within.text(&self.values)).transpose() {
            Ok(None) => step.timeout,
            Ok(Some(text)) => match text.trim().parse() {
                Ok(seconds) => step.timeout.min(Duration::from_secs(seconds)),
                Err(_) => return Came::failed(format!("retry.within: {text:?} is no number of seconds")),
            },
            Err(error) => return Came::failed(format!("retry.within: {error}")),
        };
        let until = Instant::now() + within;
        let mut told = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let came = self.attempt(step, attempt, retry.attempt.min(left)).await;
            let Some(error) = &came.error else { return came };
            let halted = came.halt.is_some_and(|halt| halt != Halt::Time);
            let lasting = matches!(came.class, Some(FailureClass::HostKey | FailureClass::NotConfigured));
            if halted || lasting {
                return came;
            }
            let again = Instant::now() + retry.every;
            if again >= until {
                let why = format!("it was tried again and again for {} s; at last: {error}", within.as_secs());
                return Came { error: Some(why), class: Some(FailureClass::TimedOut), ..came };
            }
            if told.as_ref() != Some(error) {
                self.sink.say(&format!("[not yet, again every {} s: {error}]", retry.every.as_secs()));
                told.clone_from(&came.error);
            }
            match self.patience.over(again).await {
                Halt::Time => {}
                halt => return Came::halted(halt, shell::halted(halt, within, true)),
            }
        }
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
        let not_begun =
            |why: String| Some(Came::failed(Failure::new(FailureClass::Guard, format!("it was not begun: {why}"))));
        let Some(known) = self.journal.result.artefacts.get(name).cloned() else {
            return not_begun(format!("the artefact {name:?}, which makes it safe, was not made"));
        };
        let maker =
            self.runbook.steps.iter().find(|step| step.artefact.as_ref().is_some_and(|made| &made.name == name));
        let remote = match maker.map(|maker| work::place_of(maker, self.hosts)) {
            Some(Ok(remote)) => remote,
            Some(Err(failure)) => return not_begun(failure.why),
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
            Err(failure) => return Came::failed(failure),
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
}

fn shortened(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(MOST_WORDS));
    words
}
