//! Words about jobs that both directions and browsers share: kind, status, lines, summary.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{JobId, Timestamp};

/// Where a job stands. Moves only `queued → running → {succeeded, warning, failed, cancelled, lost}`
/// (a queued job may also end at once), and from `lost` to a true end that arrives late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for its host, or for a lock.
    Queued,
    /// The agent has started it.
    Running,
    /// Done, whole.
    Succeeded,
    /// Done, but something was left out: files that could not be read, a path that does not exist.
    Warning,
    /// Not done; the error says why.
    Failed,
    /// Stopped because someone asked.
    Cancelled,
    /// The agent went away for good and never reported an end.
    Lost,
}

impl JobStatus {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Warning, Self::Failed, Self::Cancelled, Self::Lost];

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Whether nothing more is expected to happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobStatus {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(KindError)
    }
}

/// What kind of work a job is: one of restic's operations, or a runbook's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Makes a snapshot.
    Backup,
    /// Removes snapshots by a retention rule.
    Forget,
    /// Removes data that no snapshot needs.
    Prune,
    /// Verifies the repository.
    Check,
    /// Removes stale locks.
    Unlock,
    /// Lists snapshots.
    Snapshots,
    /// Measures the repository.
    Stats,
    /// Compares two snapshots.
    Diff,
    /// Brings files back.
    Restore,
    /// Creates the repository.
    Init,
    /// Lists a folder of a snapshot.
    Ls,
    /// Looks for a name in all snapshots.
    Find,
    /// Changes tags of snapshots.
    Tag,
    /// Copies snapshots to another repository.
    Copy,
    /// Repairs what a check found damaged.
    Repair,
    /// Lists the locks of the repository, and which of their owners on this host live.
    Locks,
    /// Sends a file or folder of a snapshot through to a browser.
    Dump,
    /// Tries, step by step, whether the repository can be reached, opened and read.
    Test,
    /// Tries to delete and to overwrite with the endpoint's credentials, on an object made for the purpose.
    Tamper,
    /// A runbook, by name.
    Runbook(String),
}

/// A text that is no valid kind or status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid name: expected [a-z][a-z0-9_]*, at most 64 characters")]
pub struct KindError;

impl JobKind {
    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Backup => "backup",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Unlock => "unlock",
            Self::Snapshots => "snapshots",
            Self::Stats => "stats",
            Self::Diff => "diff",
            Self::Restore => "restore",
            Self::Init => "init",
            Self::Ls => "ls",
            Self::Find => "find",
            Self::Tag => "tag",
            Self::Copy => "copy",
            Self::Repair => "repair",
            Self::Locks => "locks",
            Self::Dump => "dump",
            Self::Test => "test",
            Self::Tamper => "tamper",
            Self::Runbook(name) => name,
        }
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobKind {
    type Err = KindError;
    fn from_str(text: &str) -> Result<Self, KindError> {
        Ok(match text {
            "backup" => Self::Backup,
            "forget" => Self::Forget,
            "prune" => Self::Prune,
            "check" => Self::Check,
            "unlock" => Self::Unlock,
            "snapshots" => Self::Snapshots,
            "stats" => Self::Stats,
            "diff" => Self::Diff,
            "restore" => Self::Restore,
            "init" => Self::Init,
            "ls" => Self::Ls,
            "find" => Self::Find,
            "tag" => Self::Tag,
            "copy" => Self::Copy,
            "repair" => Self::Repair,
            "locks" => Self::Locks,
            "dump" => Self::Dump,
            "test" => Self::Test,
            "tamper" => Self::Tamper,
            name => {
                let ok = name.len() <= 64
                    && name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                if !ok {
                    return Err(KindError);
                }
                Self::Runbook(name.to_owned())
            }
        })
    }
}

impl Serialize for JobKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for JobKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The process's standard output.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// Said by Flotilla itself.
    System,
}

impl Stream {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// A line's text, borrowed from the frame where it holds no escape. (serde's derive would copy a `Cow` inside a list.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LineText<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for LineText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = LineText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(LineText(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(LineText(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// One line of a job's log. `text` holds no line break and at most [`crate::limits::MAX_LINE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line<'a> {
    /// Number within the job, from 1, one more per line.
    pub seq: u32,
    /// When the agent read it, by the agent's clock.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// The text, without its line break. Bytes that are no UTF-8 have become U+FFFD.
    #[serde(borrow)]
    pub text: LineText<'a>,
}

/// `log.stream`, agent → server → browser: lines of one job in order. May be sent again after a reconnect;
/// the receiver drops what it has. Answered by `ack` once on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogStream<'a> {
    /// Whose lines.
    pub job_id: JobId,
    /// Consecutive lines, at least one.
    #[serde(borrow)]
    pub lines: Vec<Line<'a>>,
}

/// `log.gap`, server → browser: this subscriber was too slow, and the lines `from_seq..=to_seq` were not sent to it.
/// They are in the store: `GET /api/jobs/{id}/log?after=` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    /// Whose lines.
    pub job_id: JobId,
    /// First line that was left out.
    pub from_seq: u32,
    /// Last line that was left out.
    pub to_seq: u32,
}

/// What a backup did, in restic's own counters. Missing ones were not reported by that version.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSummary {
    /// Full id of the new snapshot; absent where none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Files that were not in the parent snapshot.
    pub files_new: u64,
    /// Files that differ from the parent snapshot.
    pub files_changed: u64,
    /// Files as they were.
    pub files_unmodified: u64,
    /// Folders that were not in the parent snapshot.
    pub dirs_new: u64,
    /// Folders that differ.
    pub dirs_changed: u64,
    /// Folders as they were.
    pub dirs_unmodified: u64,
    /// Bytes added to the repository, before compression.
    pub data_added: u64,
    /// Bytes added to the repository as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_added_packed: Option<u64>,
    /// Files looked at.
    pub total_files_processed: u64,
    /// Bytes looked at.
    pub total_bytes_processed: u64,
    /// Seconds that restic took.
    pub total_duration: f64,
    /// Files and folders that could not be read, each once.
    pub errors: u64,
    /// Source paths that do not exist.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_paths: Vec<String>,
    /// Nothing was done: this is what would have been.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}
