//! One job from order to verdict: find restic, open the repository, run, judge, clean up. Every way out goes through a
//! [`JobOutcome`]; nothing of the job runs when this returns.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use flotilla_proto::{CommandRun, JobKind, JobStatus, RestoreSpec};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{ExecutorConfig, not_run};
use crate::{
    blocking::blocking,
    process::{self, Limits, Stop, StopSignal},
    restic::{
        self, Feature,
        address::Address,
        command::{OrderError, Session, sources},
        exit::{self, Run},
        output::Task,
        preflight::{self, Patience, Refusal},
        redact::{Redacted, Redactor},
        report::{Reporter, Transcript},
    },
    sink::{JobOutcome, JobSink},
};

/// Longest line read whole: the list of snapshots is one line of JSON.
const LIST_LINE_BYTES: usize = 32 << 20;
const LINE_BYTES: usize = 1 << 20;
/// What restic may have read but not yet sent: with a throttle, no byte is reported for as long as that takes.
const IN_FLIGHT_KIB: u64 = 128 << 10;

/// Runs one order to its end.
pub(super) async fn job(
    config: &ExecutorConfig,
    order: &CommandRun,
    sink: &Arc<dyn JobSink>,
    mut stop: StopSignal,
) -> JobOutcome {
    let redactor = order.repo.as_ref().map_or_else(Redactor::default, |repo| {
        let secrets = Address::of(repo).map(|address| address.secrets).unwrap_or_default();
        Redactor::of(repo, &secrets)
    });
    let job = Job { config, order, deadline: Instant::now() + Duration::from_secs(order.timeout_s.max(1)) };
    let sink = Redacted::new(Arc::clone(sink), redactor);
    let mut end = job.run(&sink, &mut stop).await.unwrap_or_else(|end| end);
    sink.redact(&mut end);
    end
}

struct Job<'a> {
    config: &'a ExecutorConfig,
    order: &'a CommandRun,
    deadline: Instant,
}

/// A job that ended before restic did its work.
type Early<T> = Result<T, JobOutcome>;

fn early(error: impl ToString) -> JobOutcome {
    not_run(&error.to_string())
}

impl Job<'_> {
    async fn run(&self, sink: &Redacted, stop: &mut StopSignal) -> Early<JobOutcome> {
        let session = self.open().await?;
        // Also checks the order, before anything is asked of the network.
        let (launch, task) = session.order(self.order).map_err(early)?;
        sink.say(&format!("{} with restic {} on {}", self.order.kind, session.restic.version, session.address.shown));
        if self.order.kind != JobKind::Init {
            self.preflight(&session, stop, sink).await?;
        }
        let mut reporter = Reporter::new(sink, task);
        reporter.transcript = self.sources(sink);
        let fresh_target = self.prepare_target()?;
        let limits = self.limits(task);
        let exit = process::supervise(&launch, &limits, stop, &mut reporter)
            .await
            .map_err(|e| early(preflight::cannot_start(&launch, &e)))?;
        let transcript = reporter.transcript;
        if exit.killed {
            self.unlock(&session, sink).await;
        }
        let restored = self.restored(&session, &transcript, fresh_target).await;
        Ok(exit::judge(Run {
            kind: &self.order.kind,
            exit,
            transcript,
            timeout: Duration::from_secs(self.order.timeout_s),
            idle: limits.idle,
            grace: limits.grace,
            restored,
            picked_paths: self.order.restore.as_ref().is_some_and(|spec| !spec.paths.is_empty()),
        }))
    }

    async fn open(&self) -> Early<Session> {
        let kind = &self.order.kind;
        if matches!(kind, JobKind::Forget | JobKind::Prune | JobKind::Diff | JobKind::Runbook(_)) {
            return Err(early(OrderError::Unsupported(kind.clone())));
        }
        let repo = self.order.repo.as_ref().ok_or_else(|| early(OrderError::NoRepository))?;
        let found = restic::probe(self.config.restic.as_deref()).await.map_err(early)?;
        blocking(|| Session::open(found, repo, &self.config.state_dir)).map_err(early)
    }

    /// Whether the repository is there; creates it where that is wished.
    async fn preflight(&self, session: &Session, stop: &mut StopSignal, sink: &Redacted) -> Early<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = Patience { connect: self.config.connect, total: self.config.preflight.min(left) };
        let refusal = match preflight::check(session, patience, stop, sink).await {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let may_init = self.order.repo.as_ref().is_some_and(|repo| repo.init);
        match refusal {
            Refusal::Missing(_) if may_init && self.order.kind == JobKind::Backup => {
                self.init(session, stop, sink).await
            }
            Refusal::Missing(error) => Err(early(error)),
            Refusal::Failed { code, error } => Err(JobOutcome { exit_code: code, ..early(error) }),
            Refusal::Stopped(wish) => Err(stopped_early(wish)),
        }
    }

    async fn init(&self, session: &Session, stop: &mut StopSignal, sink: &Redacted) -> Early<()> {
        sink.say("there is no repository yet: creating it");
        let deadline = self.deadline.min(Instant::now() + 4 * self.config.preflight);
        let (exit, said) =
            preflight::quietly(&session.init(), deadline, self.config.grace, stop, sink).await.map_err(early)?;
        match exit.stopped {
            Some(process::Cause::Asked(wish)) => Err(stopped_early(wish)),
            // Another host may have been quicker: then it is there, which is all that matters.
            None if exit.code == 0 || said.error_text().contains("config file already exists") => {
                sink.say("the repository was created");
                Ok(())
            }
            _ => Err(JobOutcome {
                exit_code: Some(exit.code),
                ..early(format!("the repository could not be created: {}", exit::failure(exit.code, &said)))
            }),
        }
    }

    /// Looks for the source paths before restic does: until 0.19 it says nothing by its exit code.
    fn sources(&self, sink: &Redacted) -> Transcript {
        let mut transcript = Transcript::default();
        if self.order.kind == JobKind::Backup {
            let paths = sources(self.order);
            transcript.sources = paths.len();
            for path in blocking(|| paths.iter().filter(|path| is_missing(path)).collect::<Vec<_>>()) {
                sink.say(&format!("the path {path} does not exist on this host"));
                transcript.missing.push(path.clone());
            }
        }
        transcript
    }

    fn limits(&self, task: Task) -> Limits {
        let options = self.order.plan.as_ref().map(|plan| &plan.options);
        let throttle = options.map_or(0, |options| match task {
            Task::Backup => options.limit_upload_kib,
            _ => options.limit_download_kib,
        });
        let sending = IN_FLIGHT_KIB.checked_div(u64::from(throttle)).unwrap_or(0);
        let idle = self.config.idle + Duration::from_secs(sending);
        Limits {
            deadline: Some(self.deadline),
            idle: matches!(task, Task::Backup | Task::Restore).then_some(idle),
            grace: self.config.grace,
            max_line: if task == Task::Snapshots { LIST_LINE_BYTES } else { LINE_BYTES },
        }
    }

    /// Makes the folder to restore into; tells whether all that will be in it comes from this job.
    fn prepare_target(&self) -> Early<bool> {
        let Some(RestoreSpec { target, .. }) =
            self.order.restore.as_ref().filter(|_| self.order.kind == JobKind::Restore)
        else {
            return Ok(false);
        };
        let cannot = |e: io::Error| {
            early(format!(
                "the folder {target} to restore into can't be made or read: {e}. Choose another target, or correct its rights"
            ))
        };
        blocking(|| {
            fs::create_dir_all(target)?;
            Ok(fs::read_dir(target)?.next().is_none())
        })
        .map_err(cannot)
    }

    /// What a restore brought back. restic before 0.16 doesn't say: then what stands in a folder that was empty is counted.
    async fn restored(&self, session: &Session, said: &Transcript, fresh_target: bool) -> Option<Value> {
        let spec = self.order.restore.as_ref().filter(|_| self.order.kind == JobKind::Restore)?;
        let mut value = json!({ "target": spec.target });
        if let Some(end) = said.restore {
            value["files_restored"] = json!(end.files_restored);
            value["bytes_restored"] = json!(end.bytes_restored);
        } else if fresh_target && !session.restic.version.supports(Feature::RestoreJson) {
            let target = PathBuf::from(&spec.target);
            if let Ok(Some((files, bytes))) = tokio::task::spawn_blocking(move || count(&target)).await {
                value["files_restored"] = json!(files);
                value["bytes_restored"] = json!(bytes);
            }
        }
        Some(value)
    }

    /// A killed restic leaves its lock behind. Only locks whose owner is dead go.
    async fn unlock(&self, session: &Session, sink: &Redacted) {
        sink.say("restic was killed and could not remove its lock: removing stale locks");
        // The job's own stop signal has been given already.
        let (_keep, mut never) = tokio::sync::watch::channel(None);
        let deadline = Instant::now() + self.config.preflight;
        let grace = (self.config.preflight / 6).min(Duration::from_secs(5));
        match preflight::quietly(&session.unlock(), deadline, grace, &mut never, sink).await {
            Ok((exit, _)) if exit.code == 0 && exit.stopped.is_none() => sink.say("stale locks were removed"),
            Ok((exit, said)) => {
                sink.say(&format!("stale locks could not be removed: {}", exit::failure(exit.code, &said)));
            }
            Err(error) => sink.say(&format!("stale locks could not be removed: {error}")),
        }
    }
}

fn stopped_early(wish: Stop) -> JobOutcome {
    match wish {
        Stop::Cancelled => JobOutcome {
            status: JobStatus::Cancelled,
            ..not_run("cancelled before anything was done in the repository")
        },
        Stop::Shutdown | Stop::ShutdownNow => {
            not_run("the agent was stopped before the job did anything. Run it again once the agent is back")
        }
    }
}

fn is_missing(path: &str) -> bool {
    matches!(fs::symlink_metadata(path), Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Files and their bytes under a folder; `None` where it can't be told within reason.
fn count(folder: &Path) -> Option<(u64, u64)> {
    const MOST: u64 = 5_000_000;
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            let meta = fs::symlink_metadata(entry.path()).ok()?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                bytes += if meta.is_file() { meta.len() } else { 0 };
            }
            if files > MOST {
                return None;
            }
        }
    }
    Some((files, bytes))
}
