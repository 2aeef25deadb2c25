//! What steps need of a host, whichever way it is reached. Errors are sentences for people: what happened, why, what to do.

use std::time::Duration;

use flotilla_proto::{Secret, Stream};

use super::failure::Failure;
use crate::{leftovers::Stopped, runbook::Direction, runner::BoxFuture};

/// What to run. None of it is ever on a command line.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// For bash, with `pipefail`.
    pub(crate) text: String,
    /// Exported to it.
    pub(crate) env: Vec<(String, Secret)>,
    /// What it reads; nothing where `None`.
    pub(crate) stdin: Option<Secret>,
    /// By which its processes are found again: letters, digits and dashes, never used for another run.
    pub(crate) mark: String,
}

/// One line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputLine {
    pub(crate) stream: Stream,
    /// Without control characters but tabs.
    pub(crate) text: String,
    /// Bytes that were cut off at its end.
    pub(crate) lost: usize,
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited {
        /// Its exit code; negative for a signal.
        code: i32,
        /// Something that it started goes on and holds its output, which is no longer read.
        left_running: bool,
    },
    /// It never began, or nobody knows how it ended.
    Unclear(Failure),
}

/// A script that runs. Dropped, it is killed where it runs here; elsewhere [`Remote::kill_marked`] ends it.
pub(crate) trait Running: Send {
    /// The next line; `None` when there are no more. Dropped while it waits, it loses nothing.
    fn line(&mut self) -> BoxFuture<'_, Option<OutputLine>>;

    /// A line that is there already.
    fn ready(&mut self) -> Option<OutputLine> {
        None
    }

    /// How it ended. Dropped while it waits, it can be called again.
    fn wait(&mut self) -> BoxFuture<'_, End>;

    /// From now on lines are only counted, where that is less work.
    fn skim(&mut self) {}

    /// Bytes that were so counted.
    fn skimmed(&self) -> u64 {
        0
    }

    /// Asks what is known of it without looking for its mark to end.
    fn interrupt(&mut self) {}
}

/// A file to be brought over.
pub(crate) struct Transfer<'a> {
    pub(crate) direction: Direction,
    /// On the executor's side.
    pub(crate) local: &'a str,
    /// On the host.
    pub(crate) remote: &'a str,
    /// Names the transfer, in the names of temporary files: letters, digits and dashes.
    pub(crate) id: &'a str,
    /// Told how many bytes of how many are there, now and then.
    pub(crate) progress: &'a mut (dyn FnMut(u64, u64) + Send),
}

/// A host.
pub(crate) trait Remote: Send + Sync {
    /// Starts a script. Returns when bash is there, or soon after.
    fn exec(&self, script: Script) -> BoxFuture<'_, Result<Box<dyn Running>, Failure>>;

    /// Ends what runs under this mark, whoever started it: politely first, after `grace` for certain, and looks again.
    fn kill_marked<'a>(&'a self, mark: &'a str, grace: Duration) -> BoxFuture<'a, Result<Stopped, String>>;

    /// Brings a file over, whole or not at all, compared by SHA-256. Gives its size in bytes. A dropped one leaves the target as it was.
    fn transfer<'a>(&'a self, transfer: Transfer<'a>) -> BoxFuture<'a, Result<u64, Failure>>;

    /// Removes what a transfer left that was dropped, where dropping it could not.
    fn tidy<'a>(&'a self, _: Direction, _local: &'a str, _remote: &'a str, _id: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A host that this process can't reach, and why.
pub(crate) struct Unreachable(pub(crate) Failure);

impl Remote for Unreachable {
    fn exec(&self, _: Script) -> BoxFuture<'_, Result<Box<dyn Running>, Failure>> {
        Box::pin(async { Err(self.0.clone()) })
    }

    fn kill_marked<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Stopped, String>> {
        Box::pin(async { Err(self.0.why.clone()) })
    }

    fn transfer<'a>(&'a self, _: Transfer<'a>) -> BoxFuture<'a, Result<u64, Failure>> {
        Box::pin(async { Err(self.0.clone()) })
    }
}
