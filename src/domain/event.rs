//! What the writer tells the rest of the house after a commit. Events are hints or frames; the truth is in the store.

use bytes::Bytes;

use crate::domain::{HostId, JobId};

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
