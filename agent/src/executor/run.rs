//! One job from order to verdict: find restic, open the repository, run, judge, clean up. Every way out goes through a
//! [`Done`]; nothing of the job runs when it has ended.

use std::{fs, io, sync::Arc, time::Duration};

use flotilla_proto::{BackupSummary, CommandRun, JobKind, JobStatus, Stream};
use tokio::time::Instant;

use super::{
    Clock, ExecutorConfig,
    folder::{JobFolder, LearnedRecord, RunRecord, dead_runs},
    not_run, target,
};
use crate::{
    blocking::blocking,
    errand::Errands,
    host_facts,
    platform::Worker,
    process::{self, Cause, Followed, Limits, Output, RawLine, Stop, StopSignal, Watcher},
    restic::{
        Feature,
        address::Address,
        command::{OrderError, Session, is_dry_backup, listed_folder, sources, task_of},
        exit::{self, Run},
        locks,
        output::Task,
        preflight,
        redact::{Redacted, Redactor},
        report::Reporter,
        saved,
        upkeep::{self, Memo, Next, Ran},
    },
    sink::{Cursor, JobOutcome, JobSink},
};

/// Longest piece of a list that is read whole: one snapshot …
const SNAPSHOT_BYTES: usize = 32 << 20;
/// … and what a search found in one: some 700,000 matches.
const MATCHES_BYTES: usize = 256 << 20;
/// Longest line of anything else.
const LINE_BYTES: usize = 1 << 20;
/// What restic may have read but not yet sent: with a throttle, no byte is reported for as long as that takes.
const IN_FLIGHT_KIB: u64 = 128 << 10;

/// The verdict on a backup may take longer than a look whether its repository is there.
const SAVED_PATIENCE: u32 = 4;

/// What a job finds in place.
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a ExecutorConfig,
    pub(super) clock: &'a Clock,
    pub(super) folder: JobFolder,
    /// How the server is reached, where it can be.
    pub(super) errands: Option<Arc<dyn Errands>>,
}

/// How a job leaves this process.
#[derive(Debug)]
pub(super) enum Done {
    /// With its end.
    Ended(JobOutcome),
    /// It goes on, or waits, without this process.
    Left,
}

/// Runs one order to its end, or as far as this process gets.
pub(super) async fn job(
    around: &Surroundings<'_>,
    order: &CommandRun,
    sink: &Arc<dyn JobSink>,
    stop: &mut StopSignal,
) -> Done {
    let sink = redacted(order, sink);
    let job = Job { around, order, deadline: Instant::now() + Duration::from_secs(order.timeout_s.max(1)) };
    let done = match job.hooks_noted() {
        // What came of restic is known: an earlier process of the agent ended at the hooks behind it.
        Ok(Some(end)) => Done::Ended(end),
        Ok(None) => job.begin(1, &sink, stop).await.unwrap_or_else(|done| done),
        Err(refused) => return clean(refused, &sink),
    };
    let done = match done {
        Done::Ended(end) => Done::Ended(upkeep::ended_without_result(&order.kind, end)),
        left => left,
    };
    clean(job.hooks_behind(done, &sink, stop).await, &sink)
}

/// The sink behind which none of the order's secrets gets.
pub(super) fn redacted(order: &CommandRun, sink: &Arc<dyn JobSink>) -> Redacted {
    let mut redactor = Redactor::default();
    for repo in [&order.repo, &order.second_repo].into_iter().flatten() {
        let secrets = Address::of(repo).map(|address| address.secrets).unwrap_or_default();
        redactor.learn(repo, &secrets);
    }
    Redacted::new(Arc::clone(sink), redactor)
}

pub(super) fn clean(mut done: Done, sink: &Redacted) -> Done {
    if let Done::Ended(end) = &mut done {
        sink.redact(end);
    }
    done
}

pub(super) struct Job<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) order: &'a CommandRun,
    pub(super) deadline: Instant,
}

/// One part of a job; the error is where the job leaves before restic did its work.
pub(super) type Step<T> = Result<T, Done>;

pub(super) fn early(error: impl ToString) -> Done {
    Done::Ended(not_run(&error.to_string()))
}

/// How the run proper left.
pub(super) struct Ending<'a> {
    pub(super) followed: Followed,
    pub(super) pid: u32,
    /// Why nobody knows its code, where that is so.
    pub(super) gone: &'a str,
}

/// Listens to the job's own run, and writes down that it is being stopped before it is.
pub(super) struct Listener<'a> {
    pub(super) reporter: Reporter<'a>,
    pub(super) run: RunRecord,
    folder: &'a JobFolder,
}

impl Watcher for Listener<'_> {
    fn started(&mut self, pid: Option<u32>) {
        self.reporter.started(pid);
    }

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        self.reporter.line(stream, line)
    }

    fn again(&mut self, stream: Stream, line: RawLine) {
        self.reporter.again(stream, line);
    }

    fn hold(&mut self) {
        self.reporter.hold();
    }

    fn mark(&mut self, stream: Stream, offset: u64) {
        self.reporter.mark(stream, offset);
    }

    fn settle(&mut self, read: Cursor) -> bool {
        let written = || {
            let learned = self.reporter.learned()?;
            self.folder.write_learned(&LearnedRecord { stdout: read.stdout, stderr: read.stderr, learned })
        };
        // In this order: an agent that dies in between reads again what it knows to be told.
        blocking(|| self.reporter.is_settled() && written().is_ok())
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        if self.run.stopped != Some(cause) {
            self.run.stopped = Some(cause);
            if let Err(error) = blocking(|| self.folder.write_run(&self.run)) {
                tracing::warn!(%error, "should the agent die now, the next one won't know why the job ends");
            }
        }
        self.reporter.stopping(cause, grace);
    }
}

impl<'a> Job<'a> {
    /// Start `number` of the job: of an earlier one it is certain that it never was.
    pub(super) async fn begin(&self, number: u32, sink: &Redacted, stop: &mut StopSignal) -> Step<Done> {
        let session = self.open().await?;
        let staged = upkeep::is_staged(&self.order.kind);
        // Also checks the order, before anything is asked of the network.
        let mut plain = if staged {
            session.fits(self.order).map_err(early)?;
            None
        } else {
            Some(blocking(|| session.order(self.order)).map_err(early)?.0)
        };
        sink.say(&format!("{} with restic {} on {}", self.order.kind, session.restic.version, session.address.shown));
        Session::notes(self.order).iter().for_each(|note| sink.say(note));
        if self.order.kind != JobKind::Init && !upkeep::looks_itself(&self.order.kind) {
            self.preflight(&session, stop, sink).await?;
        }
        if let Some(launch) = &mut plain {
            self.without_lock(launch, sink);
        }
        let (launch, memo) = match self.prepare(&session, sink, stop).await? {
            Some(Next::Ended(end)) => return Ok(Done::Ended(end)),
            Some(Next::Run(launch, memo)) => (launch, memo),
            None => (plain.ok_or_else(|| early(OrderError::Unsupported(self.order.kind.clone())))?, Memo::Nothing),
        };
        if self.order.kind == JobKind::Dump {
            return self.dump(&session, sink, stop).await;
        }
        self.hooks_before(sink, stop).await?;
        let task = task_of(&self.order.kind);
        // Only now: a hook may have made them.
        let missing = self.missing_sources(sink);
        let (version, state_dir) = (session.restic.version, &self.around.config.state_dir);
        let fresh_target = blocking(|| target::prepare(self.order, version, state_dir)).map_err(early)?;
        if let Some(wish) = *stop.borrow() {
            return Err(stopped_early(wish));
        }
        let count_target = fresh_target && !version.supports(Feature::RestoreJson);
        let run = RunRecord { missing, count_target, memo, ..self.record(number) };
        let folder = &self.around.folder;
        blocking(|| folder.make_output().and_then(|()| folder.write_run(&run)))
            .map_err(|e| early(OrderError::State(e)))?;
        let worker = Worker::start(&launch, &folder.traces(number)).await;
        let worker = worker.map_err(|e| early(preflight::cannot_start(&launch, &e)))?;
        // What it holds of secrets is not needed while restic runs.
        drop((launch, session));
        let mut listener = self.listener(sink, task, run);
        listener.started(Some(worker.pid()));
        self.follow(worker, Cursor::default(), listener, stop, sink).await
    }

    /// A start that is meant.
    fn record(&self, number: u32) -> RunRecord {
        let left = self.deadline.saturating_duration_since(Instant::now());
        RunRecord {
            number,
            boot_id: host_facts::boot_id(),
            begun_at: (self.around.clock)(),
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            missing: Vec::new(),
            count_target: false,
            stopped: None,
            memo: Memo::Nothing,
        }
    }

    /// Notes that the job has begun: should this process end, the next one must not begin it again.
    pub(super) fn hangs_on_this_process(&self) -> Step<()> {
        blocking(|| self.around.folder.write_run(&self.record(1))).map_err(|e| early(OrderError::State(e)))
    }

    pub(super) fn listener<'s>(&'s self, sink: &'s Redacted, task: Task, run: RunRecord) -> Listener<'s> {
        let mut reporter = Reporter::new(sink, task);
        if self.order.kind == JobKind::Backup {
            reporter.transcript.sources = sources(self.order).len();
        }
        reporter.transcript.missing.clone_from(&run.missing);
        listed_folder(self.order).clone_into(&mut reporter.folder);
        reporter.restore = self.order.restore.as_ref();
        Listener { reporter, run, folder: &self.around.folder }
    }

    /// Stays with restic until it ends, or this process does. What stands in its files up to `told` was told by an earlier process.
    pub(super) async fn follow(
        &self,
        mut worker: Worker,
        told: Cursor,
        mut listener: Listener<'_>,
        stop: &mut StopSignal,
        sink: &Redacted,
    ) -> Step<Done> {
        let limits = self.limits(listener.reporter.task());
        let stopped = listener.run.stopped;
        let mut output = self.output(told, &mut listener, sink)?;
        let followed = process::follow(&mut worker, &mut output, &limits, stopped, stop, &mut listener).await;
        let gone = "restic and all that it belonged to were killed from outside; the system may have been out of memory. Run the job again";
        let ending = Ending { followed, pid: worker.pid(), gone };
        Ok(self.conclude(ending, listener, sink, stop).await)
    }

    /// What restic printed, from where `listener` then stands.
    pub(super) fn output(&self, told: Cursor, listener: &mut Listener<'_>, sink: &Redacted) -> Step<Output> {
        let folder = &self.around.folder;
        let max_line = self.limits(listener.reporter.task()).max_line;
        let opened = folder.learned().and_then(|record| {
            let Some(record) = record else { return Output::open(&folder.path(), Cursor::default(), told, max_line) };
            let from = record.cursor();
            listener.reporter.recall(record.learned)?;
            if told.stdout < from.stdout || told.stderr < from.stderr {
                sink.say("part of what restic printed is missing here: it was damaged on the disk of the agent's state folder, and restic's own copy is gone");
            }
            Output::open(&folder.path(), from, told, max_line)
        });
        let opened = opened.map(|mut output| {
            if matches!(listener.reporter.task(), Task::Snapshots | Task::Find) {
                output.split_elements();
            }
            output
        });
        opened.map_err(|e| early(format!("what restic printed can't be read from {}: {e}", folder.path().display())))
    }

    /// The verdict.
    pub(super) async fn conclude(
        &self,
        Ending { followed, pid, gone }: Ending<'_>,
        listener: Listener<'_>,
        sink: &Redacted,
        stop: &mut StopSignal,
    ) -> Done {
        let exit = match followed {
            Followed::Left => return Done::Left,
            Followed::Ended(exit) => Some(exit),
            Followed::Vanished => None,
        };
        if exit.is_none_or(|exit| exit.killed || exit.code < 0) {
            self.remove_lock(pid, sink).await;
        }
        let limits = self.limits(listener.reporter.task());
        let Listener { reporter, run, .. } = listener;
        let mut transcript = reporter.transcript;
        let said = std::mem::take(&mut transcript.upkeep);
        // restic ends with 0 also where the last it said could not be written.
        if self.order.kind == JobKind::Backup
            && transcript.backup.is_none()
            && !is_dry_backup(self.order)
            && exit.is_some_and(|exit| matches!(exit.code, 0 | 3))
        {
            transcript.backup = self.saved(sink).await;
        }
        let restored = target::result(self.order, &transcript, run.count_target).await;
        let verdict = Run {
            kind: &self.order.kind,
            operation: self.order.operation.as_ref(),
            may_lack_snapshot: is_dry_backup(self.order)
                || self.order.plan.as_ref().is_some_and(|plan| plan.options.skip_if_unchanged),
            exit: exit.unwrap_or(process::Exit { code: -9, stopped: run.stopped, killed: true }),
            transcript,
            timeout: Duration::from_secs(self.order.timeout_s),
            idle: limits.idle,
            grace: limits.grace,
            restored,
            picked_paths: self.order.restore.as_ref().is_some_and(|spec| !spec.paths.is_empty()),
        };
        let outcome = if exit.is_some() { exit::judge(verdict) } else { exit::unseen(verdict, gone) };
        self.prove(run.memo, Ran { outcome, said }, exit, sink, stop).await
    }

    /// Looks for the source paths before restic does: until 0.19 it says nothing by its exit code.
    fn missing_sources(&self, sink: &Redacted) -> Vec<String> {
        if self.order.kind != JobKind::Backup {
            return Vec::new();
        }
        let paths = sources(self.order);
        let missing: Vec<String> = blocking(|| paths.iter().filter(|path| is_missing(path)).cloned().collect());
        for path in &missing {
            sink.say(&format!("the path {path} does not exist on this host"));
        }
        missing
    }

    pub(super) fn limits(&self, task: Task) -> Limits {
        let options = self.order.plan.as_ref().map(|plan| &plan.options);
        let throttle = options.map_or(0, |options| match task {
            Task::Backup => options.limit_upload_kib,
            _ => options.limit_download_kib,
        });
        let sending = IN_FLIGHT_KIB.checked_div(u64::from(throttle)).unwrap_or(0);
        let idle = self.around.config.idle + Duration::from_secs(sending);
        Limits {
            deadline: Some(self.deadline),
            idle: matches!(task, Task::Backup | Task::Restore).then_some(idle),
            grace: self.around.config.grace,
            max_line: match task {
                Task::Find => MATCHES_BYTES,
                Task::Snapshots => SNAPSHOT_BYTES,
                _ => LINE_BYTES,
            },
        }
    }

    /// What the repository has of this backup.
    async fn saved(&self, sink: &Redacted) -> Option<BackupSummary> {
        sink.say("restic's report is missing: looking in the repository for the snapshot of this job");
        let asked = match self.open().await {
            Ok(session) => {
                saved::find(&session, self.order.job_id, SAVED_PATIENCE * self.around.config.preflight, sink).await
            }
            Err(Done::Ended(JobOutcome { error: Some(error), .. })) => Err(error),
            Err(_) => return None,
        };
        let (said, found) = match asked {
            Ok(Some(found)) => (
                format!("the repository has snapshot {} of this job", found.snapshot_id.as_deref().unwrap_or_default()),
                Some(found),
            ),
            Ok(None) => ("the repository has no snapshot of this job".to_owned(), None),
            Err(error) => (format!("whether there is one could not be found out: {error}"), None),
        };
        sink.say(&said);
        found
    }

    /// A killed restic leaves its lock behind.
    async fn remove_lock(&self, pid: u32, sink: &Redacted) {
        sink.say(&format!("restic (pid {pid}) was killed and could not remove its lock: looking for it"));
        let session = match self.open().await {
            Ok(session) => session,
            Err(Done::Ended(JobOutcome { error: Some(error), .. })) => {
                return sink.say(&format!("the lock could not be looked after: {error}"));
            }
            Err(_) => return,
        };
        let (config, now) = (self.around.config, (self.around.clock)());
        let dead = blocking(|| dead_runs(&config.state_dir, now));
        locks::remove_own(&session, pid, &dead, now, config.preflight, sink).await;
    }
}

pub(super) fn stopped_early(wish: Stop) -> Done {
    match wish {
        Stop::Leave => Done::Left,
        Stop::Cancelled => Done::Ended(JobOutcome {
            status: JobStatus::Cancelled,
            ..not_run("cancelled before anything was done in the repository")
        }),
        Stop::Shutdown | Stop::ShutdownNow => {
            early("the agent was stopped before the job did anything. Run it again once the agent is back")
        }
    }
}

fn is_missing(path: &str) -> bool {
    matches!(fs::symlink_metadata(path), Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}
