//! A script that runs on this machine: read, fed and waited for in one place, without a task of its own. Nothing of its process group outlives a drop before its end.

use std::{io, process::ExitStatus, process::Stdio, time::Duration};

use flotilla_proto::{Secret, Stream};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep_until},
};

use super::{environment, home, program};
use crate::{
    platform::{self, Group},
    process::LineReader,
    runbook::results::MOST_JSON,
    runner::BoxFuture,
    steps::{
        remote::{End, OutputLine, Running, Script},
        script::{self, ARGUMENTS, BOOTSTRAP, MARK},
    },
    text,
};

/// How long what a finished script left running may hold its output without a word, and how long in all.
const QUIET: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(5);

/// What is written to standard input.
struct Feed {
    pipe: ChildStdin,
    text: Secret,
    at: usize,
}

impl Feed {
    /// Writes some more; whether that was all, or nobody reads on.
    async fn write(&mut self) -> bool {
        let rest = &self.text.expose().as_bytes()[self.at..];
        if rest.is_empty() {
            return true;
        }
        match self.pipe.write(rest).await {
            Ok(written) if written > 0 => {
                self.at += written;
                self.at == self.text.expose().len()
            }
            _ => true,
        }
    }
}

/// See the module.
pub(super) struct Session {
    child: Child,
    group: Group,
    feed: Option<Feed>,
    output: LineReader<ChildStdout>,
    errors: LineReader<ChildStderr>,
    status: Option<io::Result<ExitStatus>>,
    /// Until when the last output is waited for: at most, and without a word.
    patience: Option<(Instant, Instant)>,
    left_running: bool,
    skim: bool,
    skimmed: u64,
}

enum Event {
    Read,
    Ended(io::Result<ExitStatus>),
    Fed(bool),
    Silent,
}

impl Session {
    /// Starts bash. The error is for people.
    pub(super) fn start(script: &Script) -> Result<Self, String> {
        let input = script::input(script)?;
        let bash = program("bash").ok_or("this machine has no bash, which steps are run by: install it")?;
        let failed = |error: io::Error| format!("bash could not be started on this machine: {error}");
        let mut command = match program("setsid") {
            // Also away from the agent's terminal, where a program might ask for a password.
            Some(setsid) => {
                let mut command = Command::new(setsid);
                command.arg(bash);
                command
            }
            None => {
                let mut command = Command::new(bash);
                Group::prepare(&mut command);
                command
            }
        };
        command
            .args(ARGUMENTS)
            .args([BOOTSTRAP, "bash"])
            .env_clear()
            .envs(environment())
            .env(MARK, &script.mark)
            .current_dir(home())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let group = Group::of(&child).map_err(failed)?;
        let (Some(stdin), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        Ok(Self {
            child,
            group,
            feed: Some(Feed { pipe: stdin, text: input, at: 0 }),
            output: LineReader::new(output, MOST_JSON),
            errors: LineReader::new(errors, MOST_JSON),
            status: None,
            patience: None,
            left_running: false,
            skim: false,
            skimmed: 0,
        })
    }

    fn buffered(&mut self) -> Option<OutputLine> {
        if self.skim {
            self.skimmed += self.output.throw_away() + self.errors.throw_away();
            return None;
        }
        let of = |stream| move |line| (stream, line);
        let next = self.output.next_line().map(of(Stream::Stdout));
        let (stream, line) = next.or_else(|| self.errors.next_line().map(of(Stream::Stderr)))?;
        Some(OutputLine { stream, text: text::tabbed(&line.bytes), lost: line.lost })
    }

    /// Waits for something to happen. Dropped, it loses nothing.
    async fn event(&mut self) -> Event {
        let Self { child, feed, output, errors, status, patience, .. } = self;
        let (output_open, errors_open) = (!output.is_done(), !errors.is_done());
        let silent = patience.map_or_else(Instant::now, |(last, quiet)| last.min(quiet));
        tokio::select! {
            read = output.fill(), if output_open => {
                if read.is_err() {
                    output.give_up();
                }
                Event::Read
            }
            read = errors.fill(), if errors_open => {
                if read.is_err() {
                    errors.give_up();
                }
                Event::Read
            }
            ended = child.wait(), if status.is_none() => Event::Ended(ended),
            fed = feed_some(feed), if feed.is_some() => Event::Fed(fed),
            () = sleep_until(silent), if status.is_some() => Event::Silent,
        }
    }

    /// Whether there can be more output.
    async fn step(&mut self) -> bool {
        match self.event().await {
            Event::Read => {
                if let Some((_, quiet)) = &mut self.patience {
                    *quiet = Instant::now() + QUIET;
                }
            }
            Event::Ended(status) => {
                let now = Instant::now();
                (self.status, self.feed, self.patience) = (Some(status), None, Some((now + LINGER, now + QUIET)));
            }
            Event::Fed(done) => {
                if done {
                    self.feed = None;
                }
            }
            Event::Silent => {
                self.left_running = true;
                return false;
            }
        }
        true
    }

    async fn next(&mut self) -> Option<OutputLine> {
        loop {
            if let Some(line) = self.buffered() {
                return Some(line);
            }
            let over = self.output.is_done() && self.errors.is_done();
            if over || self.left_running || !self.step().await {
                return None;
            }
        }
    }

    async fn end(&mut self) -> End {
        while self.next().await.is_some() {}
        while self.status.is_none() {
            self.step().await;
        }
        match &self.status {
            Some(Ok(status)) => End::Exited { code: platform::exit_code(*status), left_running: self.left_running },
            Some(Err(error)) => End::Unclear(format!("how the command ended could not be learned: {error}").into()),
            None => End::Unclear("how the command ended is not known".into()),
        }
    }
}

/// Apart, for a branch of `select!` that is not taken is made all the same.
async fn feed_some(feed: &mut Option<Feed>) -> bool {
    match feed {
        Some(feed) => feed.write().await,
        None => std::future::pending().await,
    }
}

impl Running for Session {
    fn line(&mut self) -> BoxFuture<'_, Option<OutputLine>> {
        Box::pin(self.next())
    }

    fn ready(&mut self) -> Option<OutputLine> {
        self.buffered()
    }

    fn wait(&mut self) -> BoxFuture<'_, End> {
        Box::pin(self.end())
    }

    fn skim(&mut self) {
        self.skim = true;
    }

    fn skimmed(&self) -> u64 {
        self.skimmed
    }

    fn interrupt(&mut self) {
        if self.status.is_none() {
            self.group.terminate();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A script that ended by itself may have started a service, which is to stay.
        if self.status.is_none() {
            self.group.kill();
        }
    }
}
