//! The verdict on a run: from the exit code, what was said and what came out, to a job's end in words that a person can
//! act on. One rule for all versions; exit 0 alone proves nothing, and a code that nobody knows is a failure.

use std::time::Duration;

use flotilla_proto::{JobKind, JobStatus, Operation};
use serde_json::{Value, json};

use super::report::Transcript;
use crate::{
    process::{Cause, Exit, Stop},
    sink::JobOutcome,
};
pub(crate) use trouble::Trouble;

mod reading;
mod trouble;

/// What the verdict needs beside the run itself.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) kind: &'a JobKind,
    /// The details of the order.
    pub(crate) operation: Option<&'a Operation>,
    pub(crate) exit: Exit,
    pub(crate) transcript: Transcript,
    /// Bounds that the run had, for the text.
    pub(crate) timeout: Duration,
    pub(crate) idle: Option<Duration>,
    pub(crate) grace: Duration,
    /// Typed result of a restore, where the kind is one.
    pub(crate) restored: Option<Value>,
    /// A backup may end well without a snapshot: nothing changed, or it only said what it would do.
    pub(crate) may_lack_snapshot: bool,
    /// A restore was told to bring back these paths only.
    pub(crate) picked_paths: bool,
}

/// How the job ended.
pub(crate) fn judge(run: Run<'_>) -> JobOutcome {
    let code = run.exit.code;
    let (status, error) = match run.exit.stopped {
        // Finished before the stop could reach it: what is done is done.
        Some(_) if code == 0 && finished_whole(&run) => verdict_of_zero(&run),
        Some(cause) => stopped(&run, cause),
        None if code == 0 => verdict_of_zero(&run),
        None if code == 3 && *run.kind == JobKind::Backup && has_result(&run) => left_out(&run.transcript),
        None if *run.kind == JobKind::Restore && run.transcript.file_errors > 0 => (
            JobStatus::Failed,
            Some(format!(
                "{} files could not be restored; first: {}. {}",
                run.transcript.file_errors,
                first(&run.transcript),
                failure(code, &run.transcript)
            )),
        ),
        None if *run.kind == JobKind::Check && reading::found_damage(&run.transcript).is_some() => {
            (JobStatus::Failed, reading::found_damage(&run.transcript))
        }
        None => (JobStatus::Failed, Some(failure(code, &run.transcript))),
    };
    JobOutcome { status, exit_code: Some(code), error, summary: summary(run) }
}

/// The end of a run that nobody saw and that left no code: what it said may still hold a result.
pub(crate) fn unseen(run: Run<'_>, why: &str) -> JobOutcome {
    let saved = match &run.transcript.backup {
        Some(end) if end.snapshot_id.is_some() => {
            " Before that it had reported a snapshot, which is most likely whole."
        }
        _ => "",
    };
    let error = Some(format!("{why}{saved}"));
    JobOutcome { status: JobStatus::Failed, exit_code: None, error, summary: summary(run) }
}

/// A run that failed, in words.
pub(crate) fn failure(code: i32, transcript: &Transcript) -> String {
    let said = transcript.error_text();
    if code < 0 {
        return format!(
            "restic was ended by signal {} from outside; the system may have been out of memory, or someone killed it. \
             Run the job again; if the repository then is locked, run an unlock{}",
            -code,
            quote(&said)
        );
    }
    match Trouble::of(code, &said) {
        Some(trouble) => format!("{}{}", trouble.advice(), quote(&said)),
        None if said.trim().is_empty() => format!(
            "restic ended with code {code} and not a word, as where the disk of the agent's state folder is full: it has its cache and its output there. \
             Check the free space and run the job again"
        ),
        None => format!("restic ended with code {code}; the log has all it said{}", quote(&said)),
    }
}

/// restic's own sentence: the last fatal one, else the last one.
fn quote(said: &str) -> String {
    const LONGEST: usize = 600;
    let noise = |line: &&str| {
        !line.trim().is_empty() && !line.starts_with("Is there a repository") && !line.contains("interrupt received")
    };
    let lines: Vec<&str> = said.lines().filter(noise).collect();
    let fatal = lines.iter().rfind(|line| line.contains("Fatal:") || line.contains("unable to create lock"));
    let Some(line) = fatal.or(lines.last()) else { return String::new() };
    let line = line.trim().trim_start_matches("Fatal: ");
    format!(". restic says: {}", &line[..line.floor_char_boundary(LONGEST)])
}

fn has_result(run: &Run<'_>) -> bool {
    run.transcript.backup.as_ref().is_some_and(|end| end.snapshot_id.is_some() || run.may_lack_snapshot)
}

fn finished_whole(run: &Run<'_>) -> bool {
    match run.kind {
        JobKind::Backup => has_result(run),
        JobKind::Restore => run.restored.is_some(),
        _ => true,
    }
}

fn verdict_of_zero(run: &Run<'_>) -> (JobStatus, Option<String>) {
    let said = &run.transcript;
    match run.kind {
        JobKind::Backup if !has_result(run) => (
            JobStatus::Failed,
            Some("restic ended without an error but reported no snapshot: nothing may have been saved. Run the job again and look at the log".to_owned()),
        ),
        JobKind::Backup if !said.missing.is_empty() || said.file_errors > 0 => left_out(said),
        JobKind::Restore if said.restore.is_none() && reading::misses_snapshot(said) => {
            (JobStatus::Failed, Some(Trouble::NoSnapshot.advice()))
        }
        JobKind::Restore if said.file_errors > 0 => (
            JobStatus::Warning,
            Some(format!("{} files could not be restored; first: {}", said.file_errors, first(said))),
        ),
        JobKind::Restore if run.picked_paths && restored_nothing(run) => (
            JobStatus::Warning,
            Some("nothing was restored: the snapshot holds none of the chosen paths. Look at the snapshot's files and choose again".to_owned()),
        ),
        JobKind::Snapshots | JobKind::Ls | JobKind::Find | JobKind::Diff | JobKind::Stats | JobKind::Check => {
            reading::verdict_of_zero(run)
        }
        _ => (JobStatus::Succeeded, None),
    }
}

fn restored_nothing(run: &Run<'_>) -> bool {
    run.restored.as_ref().and_then(|value| value.get("files_restored")).and_then(Value::as_u64) == Some(0)
}

fn first(said: &Transcript) -> &str {
    said.first_file_errors.first().map_or("see the log", String::as_str)
}

/// Those that were left out, as many as are kept by name.
fn unread(said: &Transcript) -> String {
    let named = said.first_file_errors.len() as u64;
    let more = match said.file_errors.saturating_sub(named) {
        0 => String::new(),
        more => format!("; and {more} more, which the log names"),
    };
    format!("{}{more}", said.first_file_errors.join("; "))
}

/// A snapshot was made, but not of everything.
fn left_out(said: &Transcript) -> (JobStatus, Option<String>) {
    let mut parts = Vec::new();
    if !said.missing.is_empty() {
        let paths = said.missing.join(", ");
        parts.push(format!(
            "{} of {} paths do not exist on this host: {paths}. Correct the plan, or create them",
            said.missing.len(),
            said.sources
        ));
    }
    if said.file_errors > 0 {
        parts.push(format!(
            "{} files or folders could not be read: {}. The snapshot holds all others; give the agent the right to read them, or exclude them",
            said.file_errors,
            unread(said)
        ));
    }
    if said.error_text().contains("repository could be damaged") {
        parts.push("the repository may be damaged: run a check".to_owned());
    }
    if parts.is_empty() {
        parts.push("restic says that not all sources could be read; the log has more".to_owned());
    }
    (JobStatus::Warning, Some(parts.join(". Also, ")))
}

/// What a run that was cancelled leaves, by what it was to do.
fn left_by(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Backup => "nothing was saved by this run",
        JobKind::Restore => "what was restored by then stays where it is",
        JobKind::Copy => {
            "snapshots that were copied whole are in the second repository, and the next copy takes the rest"
        }
        JobKind::Forget => "snapshots that were removed by then are gone, the others stay: the list says which",
        JobKind::Prune => "the repository is whole, and the next prune removes what is left",
        JobKind::Tag => "snapshots that were changed by then stay changed: the list says which",
        JobKind::Repair => "what was mended by then stays so: run it again, then check",
        JobKind::Init => "whether the repository was made is not known: test the connection",
        _ => "it changed nothing in the repository",
    }
}

fn stopped(run: &Run<'_>, cause: Cause) -> (JobStatus, Option<String>) {
    let killed = if run.exit.killed {
        format!(
            " restic did not end within {} s of being asked and was killed; it may have left a lock in the repository",
            run.grace.as_secs()
        )
    } else {
        String::new()
    };
    let (status, text) = match cause {
        Cause::Asked(Stop::Cancelled) => {
            (JobStatus::Cancelled, format!("cancelled while it ran; {}.", left_by(run.kind)))
        }
        Cause::Asked(Stop::Leave | Stop::Shutdown | Stop::ShutdownNow) => (
            JobStatus::Failed,
            "the agent was stopped while the job ran. Run it again once the agent is back.".to_owned(),
        ),
        Cause::Deadline => (
            JobStatus::Failed,
            format!(
                "the job did not end within its time limit of {} s and was stopped. Raise the limit, or find out what slows it down.",
                run.timeout.as_secs()
            ),
        ),
        Cause::Stalled => (
            JobStatus::Failed,
            format!(
                "restic stood still for {} s and was stopped: most likely the repository's server hangs or the network is gone. \
                 Check both and run the job again; what was uploaded is used then.",
                run.idle.unwrap_or_default().as_secs()
            ),
        ),
    };
    let said = run.transcript.error_text();
    let trouble = match cause {
        Cause::Asked(_) => None,
        _ => Trouble::of(run.exit.code, &said).map(|trouble| format!(" {}", trouble.advice())),
    };
    (status, Some(format!("{text}{}{killed}", trouble.unwrap_or_default())))
}

fn summary(run: Run<'_>) -> Option<Value> {
    let said = run.transcript;
    match run.kind {
        JobKind::Backup => said.backup.map(|mut end| {
            end.errors = said.file_errors;
            end.missing_paths = said.missing;
            json!(end)
        }),
        JobKind::Restore => run.restored,
        JobKind::Init => said.initialized.map(|id| json!({ "repository_id": id })),
        kind => reading::summary(kind, run.operation, &said),
    }
}

#[cfg(test)]
mod tests;
