//! Runs one program under supervision: in a process group of its own, with a deadline, a watchdog and a stop signal,
//! its lines handed on as they come. Short ones hang on the agent ([`supervise`]: pipes, and nothing of the group runs when it returns); a job's own
//! program writes to files and outlives the agent ([`follow`](follow::follow)).

use std::{ffi::OsString, fs::File, io, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use flotilla_proto::{Secret, Stream};
use serde::{Deserialize, Serialize};
use tokio::{
    process::Command,
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    platform::{self, Group},
    sink::Cursor,
};
pub(crate) use follow::{Followed, follow};
use lines::LineReader;
pub(crate) use lines::RawLine;
pub(crate) use pour::{Poured, Through, pour};
#[cfg(test)]
pub(crate) use tail::GIVEN_BACK_BYTES;
pub(crate) use tail::{Output, STDERR, STDOUT};

mod follow;
mod lines;
mod pour;
mod tail;

/// A value that the program reads from a file named in one variable, or from another variable itself.
#[derive(Debug, Clone)]
pub(crate) struct SecretFile {
    pub(crate) file_variable: &'static str,
    #[cfg_attr(unix, expect(dead_code, reason = "used where there are no inherited pipes"))]
    pub(crate) plain_variable: &'static str,
    pub(crate) content: Secret,
}

/// Which program, with what. The child gets this environment and nothing of the agent's own.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) secrets: Vec<SecretFile>,
    /// The folder it works in; `None` for the agent's own.
    pub(crate) folder: Option<PathBuf>,
    /// A locked file that stays locked until the program is gone, whoever else goes before.
    pub(crate) held: Option<Arc<File>>,
}

/// Bounds on one run.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// When it is stopped at the latest.
    pub(crate) deadline: Option<Instant>,
    /// How long it may stand still.
    pub(crate) idle: Option<Duration>,
    /// From the polite stop to the hard one.
    pub(crate) grace: Duration,
    /// Longest line kept, in bytes.
    pub(crate) max_line: usize,
}

/// A wish that a run ends, from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stop {
    /// Someone asked.
    Cancelled,
    /// The agent stops and leaves the job to the next one: what can go on without it does.
    Leave,
    /// The agent stops, and its jobs with it.
    Shutdown,
    /// The agent's own patience is over.
    ShutdownNow,
}

/// Where such wishes arrive; only ever rises.
pub(crate) type StopSignal = watch::Receiver<Option<Stop>>;

/// Why a run was stopped by this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// By a wish from outside.
    Asked(Stop),
    /// The deadline came.
    Deadline,
    /// It stood still for too long.
    Stalled,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit code; negative for a signal.
    pub(crate) code: i32,
    /// Set where the end was brought about from here.
    pub(crate) stopped: Option<Cause>,
    /// The polite stop did not do and the hard one came.
    pub(crate) killed: bool,
}

/// Sees a run from inside.
pub(crate) trait Watcher: Send {
    /// It runs.
    fn started(&mut self, pid: Option<u32>);
    /// A line came. Returns whether it shows that the run moves.
    fn line(&mut self, stream: Stream, line: RawLine) -> bool;
    /// A line that an earlier process of the agent has told already: only what is learned from it counts.
    fn again(&mut self, _stream: Stream, _line: RawLine) {}
    /// Until the next `mark`, lines are kept together.
    fn hold(&mut self) {}
    /// All up to byte `offset` of the stream's file has come as lines.
    fn mark(&mut self, _stream: Stream, _offset: u64) {}
    /// All up to these bytes of the files has come: whether it, and what was learned from it, is on disk elsewhere, so that nobody will read it again.
    fn settle(&mut self, _read: Cursor) -> bool {
        false
    }
    /// A stop signal is on its way.
    fn stopping(&mut self, cause: Cause, grace: Duration);
}

/// What takes the polite and the hard stop.
pub(crate) trait Signals: Sync {
    fn interrupt(&self);
    fn kill(&self);
}

impl Signals for Group {
    fn interrupt(&self) {
        Self::interrupt(self);
    }

    fn kill(&self) {
        Self::kill(self);
    }
}

impl Launch {
    /// Has `command` work in this one's folder.
    pub(crate) fn place(&self, command: &mut Command) {
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
    }

    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        self.place(&mut command);
        Group::prepare(&mut command);
        platform::hand_over(&mut command, &self.secrets)?;
        if let Some(file) = &self.held {
            platform::hold(&mut command, file)?;
        }
        Ok(command)
    }
}

enum Event {
    Output(io::Result<()>),
    Errors(io::Result<()>),
    Exited(io::Result<std::process::ExitStatus>),
    Stop(Option<Stop>),
    Timer,
}

/// Starts the program and stays until it, and all that it started, is gone.
///
/// # Errors
/// Where it could not be started or waited for; nothing runs then either.
pub(crate) async fn supervise(
    launch: &Launch,
    limits: &Limits,
    stop: &mut StopSignal,
    watcher: &mut dyn Watcher,
) -> io::Result<Exit> {
    // The command holds the secrets' pipes: it is dropped as soon as the child has its own copies.
    let mut child = launch.command()?.spawn()?;
    let mut group = GroupGuard { group: Group::of(&child)?, armed: true };
    watcher.started(child.id());
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("the process has no output pipes"));
    };
    let mut output = LineReader::new(output, limits.max_line);
    let mut errors = LineReader::new(errors, limits.max_line);
    let mut run = Run::new(limits, child.id());
    let status = loop {
        let event = tokio::select! {
            read = output.fill(), if !output.is_done() => Event::Output(read),
            read = errors.fill(), if !errors.is_done() => Event::Errors(read),
            status = child.wait() => Event::Exited(status),
            wish = wished(stop, run.heard) => Event::Stop(wish),
            () = sleep_until(run.next_timer()) => Event::Timer,
        };
        match event {
            Event::Output(read) => run.take(Stream::Stdout, read, &mut output, watcher),
            Event::Errors(read) => run.take(Stream::Stderr, read, &mut errors, watcher),
            Event::Exited(status) => break status?,
            Event::Stop(wish) => run.obey(wish, &group.group, watcher),
            Event::Timer => run.on_timer(&group.group, watcher),
        }
    };
    // Nothing outlives its job. The number of a group just left cannot be another's yet: systems hand them out in turn.
    group.fire();
    drain(&mut run, &mut output, &mut errors, watcher).await;
    drop(child);
    Ok(Exit { code: platform::exit_code(status), stopped: run.cause, killed: run.killed })
}

/// Waits for a wish stronger than the last one heard.
async fn wished(stop: &mut StopSignal, heard: Option<Stop>) -> Option<Stop> {
    let wish = stop.wait_for(|wish| *wish > heard).await.map(|wish| *wish);
    // Without a sender nobody is left who could wish anything.
    if wish.is_err() { std::future::pending().await } else { wish.unwrap_or(heard) }
}

/// Takes what stands in the pipes after the end. Bounded, for a process that left the group may hold them open.
async fn drain<O, E>(run: &mut Run, output: &mut LineReader<O>, errors: &mut LineReader<E>, watcher: &mut dyn Watcher)
where
    O: tokio::io::AsyncRead + Unpin,
    E: tokio::io::AsyncRead + Unpin,
{
    let until = Instant::now() + Duration::from_secs(5);
    while !output.is_done() {
        let read = timeout_at(until, output.fill()).await.unwrap_or_else(|late| Err(late.into()));
        run.take(Stream::Stdout, read, output, watcher);
    }
    while !errors.is_done() {
        let read = timeout_at(until, errors.fill()).await.unwrap_or_else(|late| Err(late.into()));
        run.take(Stream::Stderr, read, errors, watcher);
    }
}

/// Kills the group also where the supervising future is dropped.
struct GroupGuard {
    group: Group,
    armed: bool,
}

impl GroupGuard {
    fn fire(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.group.kill();
        }
    }
}

impl Drop for GroupGuard {
    fn drop(&mut self) {
        self.fire();
    }
}

/// What is known about a run while it lasts.
struct Run {
    deadline: Option<Instant>,
    idle: Option<Duration>,
    grace: Duration,
    pid: Option<u32>,
    moved_at: Instant,
    moved_bytes: u64,
    looked_at: Instant,
    heard: Option<Stop>,
    cause: Option<Cause>,
    kill_at: Option<Instant>,
    killed: bool,
}

/// Traffic that counts as movement. A restic that waits for a dead server still prints its status once a second:
/// less than this in half an hour.
const MOVEMENT_BYTES: u64 = 2 << 20;
const FAR: Duration = Duration::from_secs(3600);

impl Run {
    fn new(limits: &Limits, pid: Option<u32>) -> Self {
        let now = Instant::now();
        Self {
            deadline: limits.deadline,
            idle: limits.idle,
            grace: limits.grace,
            pid,
            moved_at: now,
            moved_bytes: 0,
            looked_at: now,
            heard: None,
            cause: None,
            kill_at: None,
            killed: false,
        }
    }

    fn take<R: tokio::io::AsyncRead + Unpin>(
        &mut self,
        stream: Stream,
        read: io::Result<()>,
        lines: &mut LineReader<R>,
        watcher: &mut dyn Watcher,
    ) {
        if read.is_err() {
            lines.give_up();
        }
        while let Some(line) = lines.next_line() {
            if watcher.line(stream, line) {
                self.moved_at = Instant::now();
            }
        }
    }

    fn next_timer(&self) -> Instant {
        let far = Instant::now() + FAR;
        if self.killed {
            return far;
        }
        if let Some(at) = self.kill_at {
            return at;
        }
        let look = self.idle.map(|idle| self.looked_at + (idle / 4).min(Duration::from_secs(30)));
        self.deadline.into_iter().chain(look).min().unwrap_or(far)
    }

    fn on_timer(&mut self, group: &dyn Signals, watcher: &mut dyn Watcher) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            group.kill();
            self.killed = true;
        } else if self.deadline.is_some_and(|at| at <= now) {
            self.stop(Cause::Deadline, group, watcher);
        } else if let Some(idle) = self.idle {
            self.looked_at = now;
            if let Some(bytes) = self.pid.and_then(platform::moved_bytes)
                && bytes >= self.moved_bytes + MOVEMENT_BYTES
            {
                self.moved_bytes = bytes;
                self.moved_at = now;
            }
            if now >= self.moved_at + idle {
                self.stop(Cause::Stalled, group, watcher);
            }
        }
    }

    fn obey(&mut self, wish: Option<Stop>, group: &dyn Signals, watcher: &mut dyn Watcher) {
        self.heard = wish;
        let Some(wish) = wish else { return };
        self.stop(Cause::Asked(wish), group, watcher);
        if wish == Stop::ShutdownNow {
            self.kill_at = Some(Instant::now());
        }
    }

    /// The first cause counts; a second one does not begin the grace anew.
    fn stop(&mut self, cause: Cause, group: &dyn Signals, watcher: &mut dyn Watcher) {
        if self.cause.is_some() {
            return;
        }
        self.cause = Some(cause);
        self.kill_at = Some(Instant::now() + self.grace);
        watcher.stopping(cause, self.grace);
        group.interrupt();
    }
}
