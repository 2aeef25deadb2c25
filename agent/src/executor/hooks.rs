//! Commands around a backup. Each runs to its end, to its time limit or to the job's cancellation, with all that it starts; what it prints goes to the log, up to
//! a bound. Which are over stands on disk before the next thing happens: after a restart of the agent none runs twice, one that was cut off counts as failed, and
//! those behind the backup run all the same.

use std::{collections::BTreeMap, env, ffi::OsString, io, time::Duration};

use flotilla_proto::{Hook, HookFailure, HookMoment, JobKind, JobStatus, Stream};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{
    folder::{EndRecord, JobFolder},
    run::{Done, Job, early, stopped_early},
};
use crate::{
    blocking::blocking,
    host_facts, platform,
    policy::Policy,
    process::{self, Cause, Exit, Launch, Limits, RawLine, Stop, StopSignal, Watcher},
    restic::{command::is_dry_backup, redact::Redacted},
    sink::{JobOutcome, JobSink as _},
    text,
};

/// Of one hook's output so much goes to the log, in bytes; the rest is counted.
const LOG_BYTES: usize = 1 << 20;
/// Longest line kept, in bytes.
const LINE_BYTES: usize = 16 << 10;
/// From the polite stop of a hook to the hard one, at most.
const GRACE: Duration = Duration::from_secs(10);

/// What is known of a job's hooks, on disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Those that are over, by their place in the plan; with what went wrong.
    done: BTreeMap<usize, Option<String>>,
    /// The one that runs.
    running: Option<Running>,
    /// What came of the backup itself.
    verdict: Option<EndRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Running {
    hook: usize,
    boot_id: String,
    /// By which its process is known.
    mark: String,
}

/// What a hook is told about the backup.
struct Told<'a> {
    status: JobStatus,
    snapshot: Option<&'a str>,
}

fn word(at: HookMoment) -> &'static str {
    match at {
        HookMoment::Before => "before",
        HookMoment::After => "after",
        HookMoment::Failure => "failure",
        HookMoment::Success => "success",
    }
}

/// Its name for people; a line for the shell may be long, and is no name.
fn name(hook: &Hook) -> &str {
    if hook.run.starts_with("sh:") { "sh" } else { hook.run.trim() }
}

fn label(hook: &Hook) -> String {
    format!("{} {}", word(hook.at), name(hook))
}

impl Job<'_> {
    fn hooks(&self) -> &[Hook] {
        match &self.order.plan {
            Some(plan) if self.order.kind == JobKind::Backup && !is_dry_backup(self.order) => &plan.hooks,
            _ => &[],
        }
    }

    fn hooks_at(&self, at: HookMoment) -> impl Iterator<Item = (usize, &Hook)> {
        self.hooks().iter().enumerate().filter(move |(_, hook)| hook.at == at)
    }

    /// What came of the backup itself, where an earlier process of the agent noted that. The error: a hook is not allowed here, or the notes can't be read.
    pub(super) fn hooks_noted(&self) -> Result<Option<JobOutcome>, Done> {
        if self.hooks().is_empty() {
            return Ok(None);
        }
        match blocking(|| self.around.folder.hooks()) {
            Ok(Some(journal)) => Ok(journal.verdict.map(JobOutcome::from)),
            Ok(None) => self.hooks_allowed().map_err(early).map(|()| None),
            Err(error) => Err(early(format!(
                "what was noted of this job's hooks can't be read: {error}. Look at the state of what they work on, and run the job again"
            ))),
        }
    }

    fn hooks_allowed(&self) -> Result<(), String> {
        let state_dir = &self.around.config.state_dir;
        blocking(|| {
            let policy = Policy::load(state_dir).map_err(|e| e.to_string())?;
            for hook in self.hooks() {
                policy.command(&hook.run, state_dir).map_err(|e| {
                    format!("nothing was done, for the plan's hook {} the backup can't be run: {e}", position(hook))
                })?;
            }
            Ok(())
        })
    }

    /// Runs the hooks before the backup that have not run yet. The error: the backup is not to begin.
    pub(super) async fn hooks_before(&self, sink: &Redacted, stop: &mut StopSignal) -> Result<(), Done> {
        if self.hooks().is_empty() {
            return Ok(());
        }
        sink.started(None);
        let mut journal = self.journal(sink)?;
        for (at, hook) in self.hooks_at(HookMoment::Before) {
            if !journal.done.contains_key(&at) {
                if let Some(wish) = *stop.borrow() {
                    return Err(stopped_early(wish));
                }
                let ran = self.run_hook(&mut journal, at, None, sink, stop).await?;
                if let Some(wish @ (Stop::Cancelled | Stop::Shutdown | Stop::ShutdownNow)) = ran {
                    return Err(stopped_early(wish));
                }
            }
            if let (Some(Some(why)), HookFailure::Abort) = (journal.done.get(&at), hook.on_failure) {
                return Err(early(format!(
                    "the backup was not begun, for the hook {} {why}. The log has what it printed",
                    position(hook)
                )));
            }
        }
        Ok(())
    }

    /// Runs the hooks behind the backup that have not run yet, and gives the end that all of them make of it. They run in order: those of its success or its
    /// failure, then those of each end.
    pub(super) async fn hooks_behind(&self, done: Done, sink: &Redacted, stop: &mut StopSignal) -> Done {
        let Done::Ended(verdict) = done else { return done };
        if self.hooks().is_empty() {
            return Done::Ended(verdict);
        }
        let mut journal = match self.journal(sink) {
            Ok(journal) => journal,
            Err(Done::Ended(JobOutcome { error: Some(error), .. })) => {
                sink.say(&format!("the hooks behind the backup are not run: {error}"));
                return Done::Ended(verdict);
            }
            Err(_) => return Done::Ended(verdict),
        };
        if journal.verdict.is_none() {
            journal.verdict = Some(EndRecord::from(&verdict));
            warn(self.note(&journal));
        }
        let snapshot = verdict.summary.as_ref().and_then(|summary| summary["snapshot_id"].as_str()).map(str::to_owned);
        let end = self.judged(verdict.clone(), &journal, |at| at == HookMoment::Before);
        let told = Told { status: end.status, snapshot: snapshot.as_deref() };
        let special = match end.status {
            JobStatus::Succeeded | JobStatus::Warning => Some(HookMoment::Success),
            JobStatus::Failed => Some(HookMoment::Failure),
            _ => None,
        };
        for moment in special.into_iter().chain([HookMoment::After]) {
            for (at, _) in self.hooks_at(moment) {
                if !journal.done.contains_key(&at) {
                    if *stop.borrow() == Some(Stop::Leave) {
                        return Done::Left;
                    }
                    if let Err(left) = self.run_hook(&mut journal, at, Some(&told), sink, stop).await {
                        return left;
                    }
                }
            }
        }
        Done::Ended(self.judged(verdict, &journal, |_| true))
    }

    /// The end with what failed of the hooks at these moments.
    fn judged(&self, mut end: JobOutcome, journal: &Journal, counts: impl Fn(HookMoment) -> bool) -> JobOutcome {
        let failed = journal.done.iter().filter_map(|(at, why)| {
            let hook = self.hooks().get(*at)?;
            let why = why.as_ref()?;
            // One that called the backup off is the end's own cause.
            let told = hook.at == HookMoment::Before && hook.on_failure == HookFailure::Abort;
            (counts(hook.at) && hook.on_failure != HookFailure::Ignore && !told)
                .then(|| format!("the hook {} {why}", position(hook)))
        });
        let failed: Vec<String> = failed.collect();
        if failed.is_empty() {
            return end;
        }
        let words = failed.join("; ");
        end.error = Some(match (end.status, end.error.take()) {
            (JobStatus::Succeeded, _) => {
                format!("the backup made its snapshot, but {words}. The log has what it printed")
            }
            (JobStatus::Warning, Some(error)) => format!("the backup made its snapshot, but {words}. Also, {error}"),
            (_, Some(error)) => format!("{error}. Also, {words}"),
            (_, None) => words,
        });
        if matches!(end.status, JobStatus::Succeeded | JobStatus::Warning) {
            end.status = JobStatus::Failed;
        }
        end
    }

    fn note(&self, journal: &Journal) -> io::Result<()> {
        blocking(|| self.around.folder.write_hooks(journal))
    }

    /// The notes; one that an earlier process of the agent left running is over.
    fn journal(&self, sink: &Redacted) -> Result<Journal, Done> {
        let mut journal = blocking(|| self.around.folder.hooks()).map_err(unusable)?.unwrap_or_default();
        if let Some(running) = journal.running.take() {
            if running.boot_id == host_facts::boot_id() {
                platform::end_stray(&running.mark);
            }
            if let Some(hook) = self.hooks().get(running.hook) {
                sink.say(&format!(
                    "the agent was restarted while the hook {} ran: it was cut off, and is not run again",
                    position(hook)
                ));
            }
            journal.done.insert(running.hook, Some("was cut off when the agent was restarted".to_owned()));
            self.note(&journal).map_err(unusable)?;
        }
        Ok(journal)
    }

    /// Runs one hook and notes what came of it. Gives the wish that ended it, where one did. The error: it can't be noted that it runs, so it doesn't.
    async fn run_hook(
        &self,
        journal: &mut Journal,
        at: usize,
        told: Option<&Told<'_>>,
        sink: &Redacted,
        stop: &mut StopSignal,
    ) -> Result<Option<Stop>, Done> {
        let Some(hook) = self.hooks().get(at) else { return Ok(None) };
        journal.running = Some(Running { hook: at, boot_id: host_facts::boot_id(), mark: String::new() });
        match self.note(journal) {
            // What a hook before the backup had stopped must start again, also on a full disk.
            noted if told.is_some() => warn(noted),
            noted => noted.map_err(unusable)?,
        }
        let state_dir = &self.around.config.state_dir;
        let allowed = blocking(|| {
            let policy = Policy::load(state_dir).map_err(|e| e.to_string())?;
            policy.command(&hook.run, state_dir).map_err(|e| e.to_string())
        });
        let (wish, why) = match allowed {
            Err(why) => (None, Some(format!("was not run: {why}"))),
            Ok(allowed) => {
                let launch = self.hook_launch(allowed.words, told);
                let mut voice = Voice {
                    sink,
                    prefix: label(hook),
                    room: LOG_BYTES,
                    lost: (0, 0),
                    folder: &self.around.folder,
                    journal,
                };
                let ran = self.supervise_hook(hook, &launch, told.is_some(), stop, &mut voice).await;
                voice.tell_lost();
                ran
            }
        };
        if let Some(why) = &why {
            sink.say(&format!("the hook {} {why}", position(hook)));
        }
        journal.running = None;
        journal.done.insert(at, why);
        warn(self.note(journal));
        Ok(wish)
    }

    async fn supervise_hook(
        &self,
        hook: &Hook,
        launch: &Launch,
        behind: bool,
        stop: &mut StopSignal,
        voice: &mut Voice<'_>,
    ) -> (Option<Stop>, Option<String>) {
        let limit = Duration::from_secs(hook.timeout_s.max(1));
        let until = Instant::now() + limit;
        let deadline = if behind { until } else { until.min(self.deadline) };
        let limits = Limits {
            deadline: Some(deadline),
            idle: None,
            grace: self.around.config.grace.min(GRACE),
            max_line: LINE_BYTES,
        };
        let (tell, mut wishes) = watch::channel(None);
        // What was wished before has had its effect. An agent that stops and leaves its jobs has patience for a hook.
        let heard = *stop.borrow();
        let relay = async {
            while let Ok(wish) = stop
                .wait_for(|wish| *wish > heard && *wish > *tell.borrow() && *wish != Some(Stop::Leave))
                .await
                .map(|wish| *wish)
            {
                tell.send_replace(wish);
            }
            std::future::pending::<()>().await;
        };
        let exit = tokio::select! {
            exit = process::supervise(launch, &limits, &mut wishes, voice) => exit,
            () = relay => return (None, None),
        };
        match exit {
            Ok(Exit { stopped: Some(Cause::Asked(wish)), .. }) => {
                (Some(wish), Some("was stopped, for the job was to end".to_owned()))
            }
            Ok(Exit { stopped: Some(_), .. }) if deadline < until => (
                None,
                Some(
                    "did not end within the job's own time limit and was stopped with all that it had started"
                        .to_owned(),
                ),
            ),
            Ok(Exit { stopped: Some(_), .. }) => (
                None,
                Some(format!("did not end within {} s and was stopped with all that it had started", limit.as_secs())),
            ),
            Ok(Exit { code: 0, .. }) => (None, None),
            Ok(Exit { code, .. }) if code < 0 => (None, Some(format!("was ended by signal {}", -code))),
            Ok(Exit { code, .. }) => (None, Some(format!("failed with exit code {code}"))),
            Err(error) => (
                None,
                Some(format!(
                    "could not be started ({error}); check on the host that its program is there and may be run"
                )),
            ),
        }
    }

    fn hook_launch(&self, words: Vec<OsString>, told: Option<&Told<'_>>) -> Launch {
        let mut words = words.into_iter();
        let program = words.next().unwrap_or_default().into();
        let (args, env) = (words.collect(), self.hook_environment(told));
        Launch { program, args, env, secrets: Vec::new(), folder: None, held: None }
    }

    /// All that a hook gets to see of the agent's surroundings.
    fn hook_environment(&self, told: Option<&Told<'_>>) -> Vec<(OsString, OsString)> {
        #[cfg(unix)]
        const KEPT: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LANG"];
        #[cfg(windows)]
        const KEPT: [&str; 6] = ["PATH", "SystemRoot", "TEMP", "TMP", "USERPROFILE", "ProgramData"];
        let mut all: Vec<(OsString, OsString)> =
            KEPT.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?))).collect();
        let plan = self.order.plan.as_ref().map_or("", |plan| plan.name.as_str());
        let mut add = |name: &str, value: &str| all.push((name.into(), value.replace('\0', "").into()));
        add("FLOTILLA_JOB_ID", &self.order.job_id.to_string());
        add("FLOTILLA_PLAN", plan);
        add("FLOTILLA_HOST", &self.order.host_label);
        if let Some(told) = told {
            add("FLOTILLA_STATUS", told.status.as_str());
            add("FLOTILLA_SNAPSHOT_ID", told.snapshot.unwrap_or_default());
        }
        all
    }
}

/// A hook in a sentence: `"pg" before the backup`.
fn position(hook: &Hook) -> String {
    let when = match hook.at {
        HookMoment::Before => "before the backup",
        HookMoment::After => "after the backup",
        HookMoment::Failure => "for a failed backup",
        HookMoment::Success => "for a backup that succeeded",
    };
    format!("{:?} {when}", name(hook))
}

fn unusable(error: io::Error) -> Done {
    early(format!(
        "what becomes of the hooks can't be noted in the agent's state folder: {error}. Check its rights and the free space"
    ))
}

fn warn(noted: io::Result<()>) {
    if let Err(error) = noted {
        tracing::warn!(%error, "should the agent die now, the next one won't know which hooks are over");
    }
}

/// Hands a hook's lines on, up to a bound.
struct Voice<'a> {
    sink: &'a Redacted,
    prefix: String,
    room: usize,
    /// Lines and bytes that the log does not have.
    lost: (u64, u64),
    folder: &'a JobFolder,
    journal: &'a mut Journal,
}

impl Voice<'_> {
    fn tell_lost(&self) {
        let (lines, bytes) = self.lost;
        if lines > 0 {
            let size = text::size(bytes);
            self.sink.say(&format!(
                "[{}] {lines} more lines ({size}) are left out: the log takes 1 MiB of each hook",
                self.prefix
            ));
        }
    }
}

impl Watcher for Voice<'_> {
    fn started(&mut self, pid: Option<u32>) {
        let (Some(pid), Some(running)) = (pid, &mut self.journal.running) else { return };
        running.mark = blocking(|| platform::mark_of(pid));
        warn(blocking(|| self.folder.write_hooks(self.journal)));
    }

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        // An empty line is a line, too.
        let kept = line.bytes.len() + 1;
        if kept > self.room {
            // What is short goes too from here on: a log with holes misleads.
            self.room = 0;
            self.lost = (self.lost.0 + 1, self.lost.1 + (kept + line.lost) as u64);
            return true;
        }
        self.room -= kept;
        let said = text::cut(text::clean(&line.bytes), line.lost);
        self.sink.line(stream, &format!("[{}] {said}", self.prefix));
        true
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        let why = match cause {
            Cause::Asked(_) => "the job is to end",
            Cause::Deadline => "its time is up",
            Cause::Stalled => "it stands still",
        };
        let (polite, hard) = platform::interrupt_names();
        let (label, grace) = (&self.prefix, grace.as_secs());
        self.sink.say(&format!("[{label}] {why}: sending {polite}, and {hard} after {grace} s"));
    }
}
