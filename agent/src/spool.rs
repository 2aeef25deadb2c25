//! What jobs have said, on disk until the server has it: `STATE_DIR/jobs/<JOB>/<position of its first line>.spool`, append-only segments of checked
//! records. This module knows files and records; what is sent when is the outbox's. Only `*.spool` files are its own: the folder is shared.
//!
//! Invariant: what a segment holds up to its last commit is a prefix of what the job said, and its header holds all that came before it, so that
//! deleting older segments loses nothing but their lines.

pub(crate) mod files;
pub(crate) mod record;
pub(crate) mod recover;

use std::{path::Path, sync::Arc};

use flotilla_proto::JobId;

use self::record::Settled;

/// How much the spool may take of the disk. The end of a job and the line that counts what was dropped are kept even past it, and each job may always
/// take a 1024th of `job_bytes`, so that a greedy one leaves something to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of one job.
    pub job_bytes: u64,
    /// Bytes of all jobs together.
    pub total_bytes: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { job_bytes: 256 << 20, total_bytes: 1 << 30 }
    }
}

/// Some records in a row, as they stand in a segment.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Position of its first line, and of its last; `first - 1` where it holds none.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bytes: Vec<u8>,
    /// Where it begins and ends in the row of all bytes that this process appended for the job.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What was settled before it: the header, where a segment begins with it.
    pub(crate) before: Settled,
}

/// One file of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Position of its first line: its name.
    pub(crate) first: i64,
    /// Position of its last line; `first - 1` where it holds none.
    pub(crate) last: i64,
    /// Bytes on disk, synced.
    pub(crate) len: u64,
}

/// Chunks of one job that are to be on disk.
pub(crate) struct Batch {
    pub(crate) job: JobId,
    pub(crate) chunks: Vec<Arc<Chunk>>,
    /// Segments that nobody needs any more.
    pub(crate) doomed: Vec<i64>,
    /// The last of them holds the job's end.
    pub(crate) ends: bool,
}

fn segment_name(first: i64) -> String {
    format!("{first:010}.spool")
}

/// Whether a file in a job's folder is a part of its log.
pub(crate) fn is_segment(path: &Path) -> bool {
    parse_segment_name(path).is_some()
}

fn parse_segment_name(path: &Path) -> Option<i64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".spool")?;
    (stem.len() == 10 && stem.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.parse().ok())?
}
