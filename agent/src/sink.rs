//! What a running job tells the outside: one trait between the executor (which runs things) and the outbox (which delivers).
//! The executor never sees the network; the outbox never sees a process.

use flotilla_proto::{JobProgress, JobStatus, Stream};

/// Receives one job's events in order. Implementations number lines and never block: what they can't keep, they count and say.
pub trait JobSink: Send + Sync + 'static {
    /// The process runs.
    fn started(&self, pid: Option<u32>);
    /// One line, without its line break. Invalid UTF-8 has been replaced, secrets have been redacted.
    fn line(&self, stream: Stream, text: &str);
    /// How far it is; lossy.
    fn progress(&self, progress: JobProgress);
    /// The end. Nothing may follow.
    fn finished(&self, end: JobOutcome);
    /// Until the next [`JobSink::mark`] lines are kept together: a crash keeps either all of them and the mark, or none of them.
    fn hold(&self) {}
    /// All of `stream`'s output up to byte `offset` of its file has been turned into what was said so far: after a restart reading goes on from there.
    /// Ends the hold.
    fn mark(&self, stream: Stream, offset: u64) {
        let _ = (stream, offset);
    }
    /// Puts all that was said so far on disk, with the last [`JobSink::mark`], whether lines came with it or not. Whether it is there: only then may the files
    /// that it was read from let go of it. Blocks, and is not for the midst of a hold.
    fn settle(&self) -> bool {
        false
    }
}

/// How far the output files of a job were turned into lines that are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

/// How a job ended, as the executor knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOutcome {
    /// One of the final states.
    pub status: JobStatus,
    /// The process's exit code; negative for a signal; `None` where none ran.
    pub exit_code: Option<i32>,
    /// What happened, why, what to do; `None` where all went well.
    pub error: Option<String>,
    /// Typed result of the kind.
    pub summary: Option<serde_json::Value>,
}
