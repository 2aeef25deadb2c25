//! Operations that are more than one run of restic. Three stages: what comes before the run proper (cheap, done over if the agent is restarted in it), the
//! run proper (outlives the agent), and what proves its end. What the proof must know of the preparation is a [`Memo`], kept on disk and free of secrets.
//! Some operations are all preparation: they are short, and end with it.

use std::{path::Path, time::Duration};

use flotilla_proto::{CommandRun, JobKind, JobStatus, Record, SnapshotRecord, Stream, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{
    command::{OrderError, Session},
    exit,
    preflight::{Patience, cannot_start},
    records,
    redact::Redacted,
    report::{Reporter, Transcript},
};
use crate::{
    errand::Errands,
    process::{self, Cause, Exit, Launch, Limits, RawLine, Stop, StopSignal, Watcher},
    sink::{JobOutcome, JobSink as _},
};

mod connection;
mod copy;
mod forget;
pub(crate) mod prune;
mod repair;
mod tag;
mod tamper;
mod unlock;

/// Longest output of a short run, in bytes: the list of some 100,000 snapshots.
const OUTPUT_BYTES: usize = 128 << 20;

/// What a stage works with.
pub(crate) struct Desk<'a> {
    pub(crate) order: &'a CommandRun,
    pub(crate) session: &'a Session,
    /// Where a copy goes.
    pub(crate) second: Option<&'a Session>,
    pub(crate) sink: &'a Redacted,
    pub(crate) stop: &'a mut StopSignal,
    /// When the stage must be over.
    pub(crate) deadline: Instant,
    /// For steps that look whether somebody answers.
    pub(crate) patience: Patience,
    pub(crate) grace: Duration,
    /// Snapshots that one command names at most.
    pub(crate) ids_at_once: usize,
    /// How the server is asked, where there is one.
    pub(crate) errands: Option<&'a dyn Errands>,
    pub(crate) now: Timestamp,
    /// The agent's own folder.
    pub(crate) state_dir: &'a Path,
}

/// How a preparation ended.
pub(crate) enum Next {
    /// With this to be run.
    Run(Launch, Memo),
    /// With the job's end.
    Ended(JobOutcome),
}

/// What the proof must know of the preparation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Memo {
    /// Nothing: the run proves itself.
    #[default]
    Nothing,
    Forget(forget::Meant),
    Prune(prune::Meant),
    Tag(tag::Meant),
    Copy(copy::Meant),
    Repair(repair::Meant),
}

/// Why a stage did not come to its end.
#[derive(Debug)]
pub(crate) enum Broke {
    /// Someone wants it to stop.
    Stopped(Stop),
    /// In words.
    Failed { code: Option<i32>, error: String },
}

impl Broke {
    fn no_details(order: &CommandRun) -> Self {
        Self::words(format!("the order of a {} does not say what is to be done; run it again", order.kind))
    }

    fn words(error: impl ToString) -> Self {
        Self::Failed { code: None, error: error.to_string() }
    }
}

impl From<OrderError> for Broke {
    fn from(error: OrderError) -> Self {
        Self::words(error)
    }
}

/// Whether an order is prepared here.
pub(crate) fn is_staged(kind: &JobKind) -> bool {
    matches!(
        kind,
        JobKind::Forget
            | JobKind::Prune
            | JobKind::Tag
            | JobKind::Copy
            | JobKind::Repair
            | JobKind::Locks
            | JobKind::Unlock
            | JobKind::Test
            | JobKind::Tamper
    )
}

/// Whether the preparation itself looks whether the repository is there.
pub(crate) fn looks_itself(kind: &JobKind) -> bool {
    *kind == JobKind::Test
}

/// What comes before the run proper.
pub(crate) async fn prepare(desk: &mut Desk<'_>) -> Result<Next, Broke> {
    match desk.order.kind {
        JobKind::Forget => forget::prepare(desk).await,
        JobKind::Prune => prune::prepare(desk),
        JobKind::Tag => tag::prepare(desk).await,
        JobKind::Copy => copy::prepare(desk).await,
        JobKind::Repair => repair::prepare(desk),
        JobKind::Locks => unlock::list(desk).await.map(Next::Ended),
        JobKind::Unlock => unlock::unlock(desk).await.map(Next::Ended),
        JobKind::Test => connection::test(desk).await.map(Next::Ended),
        JobKind::Tamper => tamper::test(desk).await.map(Next::Ended),
        ref kind => Err(OrderError::Unsupported(kind.clone()).into()),
    }
}

/// The end of an operation whose result is known also where it was never begun: a tamper test proves nothing then, and says that.
pub(crate) fn ended_without_result(kind: &JobKind, end: JobOutcome) -> JobOutcome {
    if *kind == JobKind::Tamper && end.summary.is_none() { tamper::unknown(end) } else { end }
}

/// What the run proper came to, as far as that shows in its own words and code.
pub(crate) struct Ran {
    pub(crate) outcome: JobOutcome,
    pub(crate) said: prune::Said,
}

/// Proves the end of the run proper. `desk` is absent where nothing more can be asked of the repository, for the reason beside it.
pub(crate) async fn prove(memo: Memo, ran: Ran, desk: Result<&mut Desk<'_>, String>) -> Result<JobOutcome, Broke> {
    match memo {
        Memo::Nothing => Ok(ran.outcome),
        Memo::Forget(meant) => forget::prove(meant, ran, desk).await,
        Memo::Prune(meant) => Ok(prune::judge(&meant, ran)),
        Memo::Tag(meant) => tag::prove(meant, ran, desk).await,
        Memo::Copy(meant) => copy::prove(meant, ran, desk).await,
        Memo::Repair(meant) => Ok(repair::judge(&meant, ran)),
    }
}

/// What a short run said.
struct Heard {
    exit: Exit,
    output: String,
    said: Transcript,
}

impl Heard {
    /// What it printed, where it ended well.
    fn good(self) -> Result<String, Broke> {
        if self.exit.code == 0 {
            return Ok(self.output);
        }
        Err(Broke::Failed { code: Some(self.exit.code), error: exit::failure(self.exit.code, &self.said) })
    }
}

impl Desk<'_> {
    /// Runs restic to its end, for what it prints. Its lines stay out of the log.
    async fn hear(&mut self, launch: &Launch) -> Result<Heard, Broke> {
        let deadline = self.deadline;
        self.hear_until(launch, deadline).await
    }

    async fn hear_until(&mut self, launch: &Launch, deadline: Instant) -> Result<Heard, Broke> {
        let mut listener = Listener { reporter: Reporter::quiet(self.sink), output: Vec::new() };
        let limits = Limits { deadline: Some(deadline), idle: None, grace: self.grace, max_line: OUTPUT_BYTES };
        let begun = Instant::now();
        let exit = process::supervise(launch, &limits, self.stop, &mut listener)
            .await
            .map_err(|e| Broke::words(cannot_start(launch, &e)))?;
        let said = listener.reporter.transcript;
        match exit.stopped {
            Some(Cause::Asked(wish)) => Err(Broke::Stopped(wish)),
            Some(_) => {
                let cause = exit::Trouble::of(0, &said.error_text()).map_or_else(
                    || "raise the time limit, or find out what slows it down".to_owned(),
                    |trouble| trouble.advice(),
                );
                let waited = begun.elapsed().as_secs();
                Err(Broke::words(format!("restic did not answer within {waited} s: {cause}")))
            }
            None => {
                let output = String::from_utf8_lossy(&listener.output).into_owned();
                Ok(Heard { exit, output, said })
            }
        }
    }

    /// The snapshots that are there, all or as `of` says.
    async fn snapshots(&mut self, session: &Session, of: &[std::ffi::OsString]) -> Result<Vec<SnapshotRecord>, Broke> {
        let heard = self.hear(&session.list(of)).await?;
        if let Some(line) = heard.said.errors.iter().find(|line| line.contains("no matching ID found")) {
            // Every version ends with 0 then.
            return Err(Broke::words(format!("{}. restic says: {line}", exit::Trouble::NoSnapshot.advice())));
        }
        read_list(&heard.good()?)
            .ok_or_else(|| Broke::words("restic's list of snapshots could not be read; see the log, and report it"))
    }

    /// Tells all that is there as records, so that the index of the control plane is right from now on. Returns the `count` of the result, by which the list
    /// is known to be whole.
    fn tell_list(&self, list: &[SnapshotRecord]) -> Option<u64> {
        for snapshot in list {
            self.tell(Record::Snapshot(snapshot.clone()));
        }
        Some(list.len() as u64)
    }

    fn tell(&self, record: Record) {
        match records::line(record) {
            Some(line) => self.sink.line(Stream::Stdout, &line),
            None => self.sink.say("an entry is too long for a line of the log and is left out of the list"),
        }
    }
}

/// The elements of `snapshots --json`.
fn read_list(text: &str) -> Option<Vec<SnapshotRecord>> {
    let line = text.lines().find(|line| line.starts_with('['))?;
    let list: Vec<records::Snapshot<'_>> = serde_json::from_str(line).ok()?;
    Some(list.into_iter().map(SnapshotRecord::from).collect())
}

fn ended(status: JobStatus, error: Option<String>, summary: impl Serialize) -> JobOutcome {
    JobOutcome { status, exit_code: None, error, summary: Some(json!(summary)) }
}

/// The end of a run that was not proven, for the reason `why`.
fn unproven(outcome: JobOutcome, what: &str, why: &str) -> JobOutcome {
    let why = format!("{what} is not proven, for the snapshots were not listed afterwards: {why}");
    let (status, error) = match outcome.error {
        Some(error) => (outcome.status, format!("{error}. Also, {why}")),
        None => (JobStatus::Warning, why),
    };
    JobOutcome { status, error: Some(error), ..outcome }
}

fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// `3 snapshots (1a2b3c4d, …)`, the first few named.
fn named(ids: &[String]) -> String {
    const FIRST: usize = 5;
    let first: Vec<&str> = ids.iter().take(FIRST).map(|id| short(id)).collect();
    let more = if ids.len() > FIRST { ", …" } else { "" };
    let noun = if ids.len() == 1 { "snapshot" } else { "snapshots" };
    format!("{} {noun} ({}{more})", ids.len(), first.join(", "))
}

struct Listener<'a> {
    reporter: Reporter<'a>,
    output: Vec<u8>,
}

impl Watcher for Listener<'_> {
    fn started(&mut self, _: Option<u32>) {}

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        if stream == Stream::Stderr {
            return self.reporter.line(stream, line);
        }
        if self.output.len() + line.bytes.len() < OUTPUT_BYTES {
            self.output.extend_from_slice(&line.bytes);
            self.output.push(b'\n');
        }
        true
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        self.reporter.stopping(cause, grace);
    }
}
