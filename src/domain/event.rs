//! What the writer tells the rest of the house after a commit. Events are hints or frames; the truth is in the store.

use bytes::Bytes;

use flotilla_proto::{JobFinished, JobStarted, LogGap, LogStream, encode};

use crate::domain::{HostId, JobId, JobProgress, Line, Timestamp, job::End};

/// Something that is on disk now (or, for progress, that never will be).
#[derive(Debug, Clone)]
pub enum Event {
    /// A frame for those who watch a job.
    Job {
        /// Which job.
        id: JobId,
        /// The frame.
        frame: LiveFrame,
    },
    /// The queue may have work for an agent: a job was queued, cancelled, ended, or a host came.
    Queue,
    /// A job ended whose records belong into the index of snapshots.
    Records,
    /// What is due when, or what runs then, may have changed for some hosts.
    Schedules,
    /// A wave was made or stopped.
    Waves,
    /// A host's agent must go: its identity was revoked or replaced by a new enrolment.
    HostRevoked(HostId),
}

/// A frame of a job's stream, ready to be sent, shared by all who watch.
#[derive(Debug, Clone)]
pub enum LiveFrame {
    /// `log.stream` with the lines `first..=last`.
    Lines {
        /// Number of its first line.
        first: u32,
        /// Number of its last line.
        last: u32,
        /// The envelope, valid UTF-8.
        text: Bytes,
    },
    /// `job.progress`.
    Progress(Bytes),
    /// `job.started`.
    State(Bytes),
    /// `job.finished`; nothing follows.
    Finished(Bytes),
}

/// A `log.stream` envelope for browsers.
#[must_use]
pub fn lines_frame(job_id: JobId, lines: Vec<Line<'_>>) -> Bytes {
    frame("log.stream", &LogStream { job_id, lines })
}

/// A `job.started` envelope for browsers that come later.
#[must_use]
pub fn started_frame(job_id: JobId, at: Timestamp) -> Bytes {
    frame("job.started", &JobStarted { job_id, seq: 0, at, pid: None })
}

/// A `job.progress` envelope for browsers that come later.
#[must_use]
pub fn progress_frame(job_id: JobId, progress: JobProgress) -> Bytes {
    frame("job.progress", &JobProgress { job_id: Some(job_id), ..progress })
}

/// A `log.gap` envelope: these lines were left out for a browser that could not keep up.
#[must_use]
pub fn gap_frame(job_id: JobId, from_seq: u32, to_seq: u32) -> Bytes {
    frame("log.gap", &LogGap { job_id, from_seq, to_seq })
}

/// A `job.finished` envelope for browsers.
#[must_use]
pub fn finished_frame(job_id: JobId, last_seq: u32, end: &End) -> Bytes {
    let message = JobFinished {
        job_id,
        last_seq,
        at: end.at,
        status: end.status,
        exit_code: end.exit_code,
        error: end.error.clone(),
        summary: end.summary.clone(),
        log_truncated: end.log_truncated,
    };
    frame("job.finished", &message)
}

/// Any envelope for browsers. One that is too large to be sent (a summary of absurd size) becomes an empty frame, which is sent to nobody:
/// the truth is in the store.
#[must_use]
pub fn frame<T: serde::Serialize>(kind: &str, payload: &T) -> Bytes {
    match encode(kind, "", payload) {
        Ok(text) => text.into(),
        Err(e) => {
            tracing::warn!(kind, error = %e, "a frame for browsers could not be made");
            Bytes::new()
        }
    }
}
