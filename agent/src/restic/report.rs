//! Turns one run's lines into what people and the verdict need: readable log lines, progress at most once a second,
//! and a [`Transcript`] of bounded size.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use flotilla_proto::{BackupSummary, JobProgress, RestoreSpec, Stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    output::{self, CheckSummary, Event, Item, RestoreSummary, Task},
    redact::Redacted,
    summary,
    upkeep::prune,
};
use crate::{
    platform,
    process::{Cause, RawLine, Stop, Watcher},
    sink::JobSink as _,
    text,
};

pub(crate) use check::{Checked, PACKS_KEPT};
pub(crate) use listing::Listing;
pub(crate) use restoring::Restoring;

mod check;
mod listing;
mod restoring;

/// What a run said, as far as its verdict needs it. Of bounded size, whatever the run prints.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Transcript {
    /// The last lines of stderr, and restic's last word among them.
    pub(crate) errors: VecDeque<String>,
    /// Files and folders that could not be read or written, each once.
    pub(crate) file_errors: u64,
    /// The first of them, each with its reason; the log has all.
    pub(crate) first_file_errors: Vec<String>,
    /// Source paths that do not exist.
    pub(crate) missing: Vec<String>,
    /// Source paths in all.
    pub(crate) sources: usize,
    pub(crate) backup: Option<BackupSummary>,
    pub(crate) restore: Option<RestoreSummary>,
    pub(crate) check: Option<CheckSummary>,
    pub(crate) listing: Listing,
    pub(crate) checked: Checked,
    pub(crate) restoring: Restoring,
    pub(crate) stats: Option<serde_json::Map<String, Value>>,
    pub(crate) initialized: Option<String>,
    /// Of what prints text only.
    pub(crate) upkeep: prune::Said,
}

const ERRORS_KEPT: usize = 200;
/// Of each of them: what is looked for in them stands at the beginning.
const ERROR_BYTES: usize = 4096;
/// Files and folders that the job's end names …
const FILE_ERRORS_NAMED: usize = 10;
/// … each by about so many bytes.
const FILE_ERROR_BYTES: usize = 600;
const ITEMS_REMEMBERED: usize = 100_000;
const MISSING_KEPT: usize = 10_000;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

impl Transcript {
    fn note_error(&mut self, line: &str) {
        if self.errors.len() == ERRORS_KEPT {
            self.errors.pop_front();
        }
        self.errors.push_back(line[..line.floor_char_boundary(ERROR_BYTES)].to_owned());
    }

    /// All that was kept of stderr.
    pub(crate) fn error_text(&self) -> String {
        self.errors.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[derive(Deserialize)]
struct Learned {
    transcript: Transcript,
    seen: HashSet<u64>,
}

/// A path and its reason; of a long one its beginning and, for the reason stands there, its end.
fn shortened(text: &str) -> String {
    const END: usize = FILE_ERROR_BYTES / 2;
    if text.len() <= FILE_ERROR_BYTES {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(FILE_ERROR_BYTES - END), text.ceil_char_boundary(text.len() - END));
    format!("{} … {}", &text[..head], &text[tail..])
}

fn fingerprint(item: &str) -> u64 {
    Sha256::digest(item).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Listens to one run of restic.
pub(crate) struct Reporter<'a> {
    sink: &'a Redacted,
    task: Task,
    /// Nothing of a quiet run reaches the log, and it does not count as the job's start.
    quiet: bool,
    /// The line at hand has been told before.
    told: bool,
    /// Of the items of file errors the first bytes of their SHA-256.
    seen: HashSet<u64>,
    reported_at: Option<Instant>,
    bytes_done: u64,
    /// The folder that is listed.
    pub(crate) folder: String,
    /// What is restored.
    pub(crate) restore: Option<&'a RestoreSpec>,
    pub(crate) transcript: Transcript,
}

impl<'a> Reporter<'a> {
    /// For the job's own run.
    pub(crate) fn new(sink: &'a Redacted, task: Task) -> Self {
        Self {
            sink,
            task,
            quiet: false,
            told: false,
            seen: HashSet::new(),
            reported_at: None,
            bytes_done: 0,
            folder: String::new(),
            restore: None,
            transcript: Transcript::default(),
        }
    }

    /// For a run that prepares or cleans up: only its transcript counts.
    pub(crate) fn quiet(sink: &'a Redacted) -> Self {
        Self { quiet: true, ..Self::new(sink, Task::Other) }
    }

    /// All that was learned so far, for a reporter that goes on from here.
    ///
    /// # Errors
    /// None that is known of: all of it can be written as JSON.
    pub(crate) fn learned(&self) -> serde_json::Result<Value> {
        Ok(json!({ "transcript": serde_json::to_value(&self.transcript)?, "seen": self.seen }))
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// Where that is not what [`Self::learned`] gave.
    pub(crate) fn recall(&mut self, learned: Value) -> serde_json::Result<()> {
        let Learned { transcript, seen } = serde_json::from_value(learned)?;
        (self.transcript, self.seen) = (transcript, seen);
        Ok(())
    }

    /// Whether all that was said is on disk, and the place up to which it was read.
    pub(crate) fn is_settled(&self) -> bool {
        self.sink.settle()
    }

    /// What restic was asked to do.
    pub(crate) fn task(&self) -> Task {
        self.task
    }

    fn say(&self, stream: Stream, line: &str) {
        if !self.quiet && !self.told {
            self.sink.line(stream, line);
        }
    }

    fn say_all(&self, stream: Stream, lines: &[String]) {
        lines.iter().for_each(|line| self.say(stream, line));
    }

    fn progress(&mut self, progress: JobProgress) -> bool {
        let moved = progress.bytes_done != self.bytes_done;
        self.bytes_done = progress.bytes_done;
        let now = Instant::now();
        if !self.quiet && !self.told && self.reported_at.is_none_or(|at| now >= at + PROGRESS_EVERY) {
            self.reported_at = Some(now);
            self.sink.progress(progress);
        }
        moved
    }

    fn file_error(&mut self, item: &str, message: &str) {
        // The scan and the archiver both report a file, with a text of their own: once is enough.
        let name = fingerprint(item);
        if self.seen.contains(&name) {
            return;
        }
        if self.seen.len() < ITEMS_REMEMBERED {
            self.seen.insert(name);
        }
        let line = format!("error: {}", summary::item_with_reason(item, message));
        self.transcript.file_errors += 1;
        if self.transcript.first_file_errors.len() < FILE_ERRORS_NAMED {
            self.transcript.first_file_errors.push(shortened(&summary::item_with_reason(item, message)));
        }
        self.transcript.note_error(&line);
        self.say(Stream::Stderr, &line);
    }

    /// Text for the log and for the verdict, line by line.
    fn said(&mut self, stream: Stream, text: &str) {
        for line in text.lines().map(|line| text::clean(line.as_bytes())).filter(|line| !line.trim().is_empty()) {
            if stream == Stream::Stderr {
                self.transcript.note_error(&line);
            }
            if self.task == Task::Other {
                self.transcript.upkeep.note(&line);
            }
            if self.task == Task::Check {
                self.transcript.checked.note(stream, &line);
            }
            self.say(stream, &line);
        }
    }

    fn plain(&mut self, stream: Stream, line: &str) {
        if let Some(path) = line.strip_suffix(" does not exist, skipping")
            && self.transcript.missing.len() < MISSING_KEPT
            && !self.transcript.missing.iter().any(|known| known == path)
        {
            self.transcript.missing.push(path.to_owned());
        }
        // restic 0.14 restores by text: `ignoring error for /path: reason`.
        if self.task == Task::Restore
            && let Some((item, message)) =
                line.strip_prefix("ignoring error for ").and_then(|rest| rest.split_once(": "))
        {
            return self.file_error(item, message);
        }
        self.said(stream, line);
    }

    fn item(&self, item: &Item) {
        self.say(Stream::Stdout, &summary::item_line(item));
    }
}

impl Watcher for Reporter<'_> {
    fn started(&mut self, pid: Option<u32>) {
        if !self.quiet {
            self.sink.started(pid);
        }
    }

    fn line(&mut self, stream: Stream, raw: RawLine) -> bool {
        if stream == Stream::Stdout && self.listed(&raw) {
            return true;
        }
        let line = text::clean(&raw.bytes);
        match output::read(self.task, &line) {
            Event::Progress(progress) => return self.progress(progress),
            Event::Item(item) if self.task == Task::Restore => self.restored_item(&item),
            Event::Item(item) => self.item(&item),
            Event::ScanFinished { files, bytes, seconds } => self
                .say(Stream::Stdout, &format!("scan finished in {seconds:.3}s: {files} files, {}", text::size(bytes))),
            Event::FileError { item, message } => self.file_error(&item, &message),
            Event::Problem(message) | Event::ExitError(message) => self.said(Stream::Stderr, &message),
            Event::Backup(mut end) => {
                if end.dry_run {
                    // restic names one that is not there.
                    end.snapshot_id = None;
                }
                self.say_all(Stream::Stdout, &summary::backup_lines(&end));
                self.transcript.backup = Some(end);
            }
            Event::Restore(end) => {
                self.say_all(
                    Stream::Stdout,
                    &summary::restore_lines(&end, self.restore.is_some_and(|spec| spec.dry_run)),
                );
                self.transcript.restore = Some(end);
            }
            Event::Check(end) => {
                self.say_all(Stream::Stdout, &summary::check_lines(&end));
                self.transcript.check = Some(end);
            }
            Event::Stats(stats) => {
                self.say_all(Stream::Stdout, &summary::stats_lines(&stats));
                self.transcript.stats = Some(stats);
            }
            Event::Initialized { id } => {
                self.say(Stream::Stdout, &format!("created repository {id}"));
                self.transcript.initialized = Some(id);
            }
            Event::Text => {
                // A retry is no progress: a hung server makes newer versions repeat these lines for ever.
                let moves = !line.contains("returned error, retrying after");
                self.plain(stream, &text::cut(line, raw.lost));
                return moves;
            }
        }
        true
    }

    fn again(&mut self, stream: Stream, raw: RawLine) {
        self.told = true;
        self.line(stream, raw);
        self.told = false;
    }

    fn hold(&mut self) {
        self.sink.hold();
    }

    fn mark(&mut self, stream: Stream, offset: u64) {
        self.sink.mark(stream, offset);
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        let (polite, hard) = platform::interrupt_names();
        let why = match cause {
            Cause::Asked(Stop::Cancelled) => "cancelled",
            Cause::Asked(Stop::Leave | Stop::Shutdown | Stop::ShutdownNow) => "the agent is being stopped",
            Cause::Deadline => "the time limit is reached",
            Cause::Stalled => "no byte has moved for too long",
        };
        if !self.quiet {
            let grace = grace.as_secs();
            self.sink
                .say(&format!("{why}: sending {polite} to restic and all it started; {hard} follows in {grace} s"));
        }
    }
}
