//! Records: the bulk of a typed result, one JSON object per line of the job's `stdout`. So lists of any length are numbered, spooled and acknowledged as
//! every other line, and are whole once the job ended well and `log_truncated` is not set.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// One line of a listing job: of `snapshots`, `ls`, `find`, `diff`, `forget`, `locks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A snapshot that is there (`snapshots`; `backup`: the new one; `forget`, `tag`, `copy`: all that are there afterwards).
    Snapshot(SnapshotRecord),
    /// An entry of the listed folder.
    Node(NodeRecord),
    /// A match.
    Found(FoundRecord),
    /// A difference.
    Change(ChangeRecord),
    /// What the rules say of a snapshot.
    Fate(FateRecord),
    /// A lock of the repository.
    Lock(LockRecord),
}

impl Record {
    /// The record in a line, if it is one. Anything else is text: a listing job says other things too.
    #[must_use]
    pub fn of_line(text: &str) -> Option<Self> {
        if text.starts_with("{\"") { serde_json::from_str(text).ok() } else { None }
    }

    /// The line that carries it; `None` where it does not fit into [`crate::limits::MAX_LINE_BYTES`].
    #[must_use]
    pub fn to_line(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= crate::limits::MAX_LINE_BYTES)
    }
}

/// A snapshot, as restic lists it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotRecord {
    /// Full id.
    pub id: String,
    /// When it was made, by the clock of who made it: a claim.
    pub time: Option<Timestamp>,
    /// The snapshot that it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Id of its root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tree: String,
    /// Under which host it stands.
    pub hostname: String,
    /// Who made it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// What it is of. More than 1,000, or more than fits into a line, are cut: `paths_cut` is set.
    pub paths: Vec<String>,
    /// Not all paths are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paths_cut: bool,
    /// Its tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The snapshot that it was rewritten from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// restic's version, where it was noted (0.16 and later).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Files looked at, where it was noted (0.17 and later).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes looked at: what a restore would write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes that it added, as stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
}

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A folder.
    Dir,
    /// A file.
    #[default]
    File,
    /// A symbolic link.
    Symlink,
    /// A device, socket, pipe, or what restic has no name for.
    Other,
}

/// An entry of a folder. Names that are no UTF-8 hold U+FFFD, one for each byte that is none: such a name is shown, and restored by a pattern that may match more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRecord {
    /// Its name, without a slash.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Last change of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<Timestamp>,
    /// Permissions, such as `-rw-r--r--`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Owner's name, or number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Group's name, or number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
}

/// A file that was searched for and found in a snapshot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FoundRecord {
    /// Full id of the snapshot.
    pub snapshot: String,
    /// The path in it, from `/`.
    pub path: String,
    /// The entry.
    pub node: NodeRecord,
}

/// A difference between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChangeRecord {
    /// The path, from `/`; folders end with one.
    pub path: String,
    /// restic's own sign: `+` added, `-` removed, `M` content, `T` type, `U` metadata, `?` bit rot.
    pub sign: String,
}

/// What keep rules say of one snapshot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FateRecord {
    /// The snapshot.
    pub snapshot: SnapshotRecord,
    /// Why it is kept, in restic's words, such as `last snapshot`, `daily snapshot`. Empty: no rule keeps it.
    pub kept_by: Vec<String>,
    /// The group within which the rules counted, for people, such as `web-1 /etc`.
    pub group: String,
}

/// A lock of a repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LockRecord {
    /// Full id.
    pub id: String,
    /// When it was last refreshed (restic does so every 5 minutes), by its owner's clock.
    pub time: Option<Timestamp>,
    /// Nobody else may work beside it.
    pub exclusive: bool,
    /// Its owner's host, by that host's own name for itself.
    pub hostname: String,
    /// Its owner's user.
    pub username: String,
    /// Its owner's process.
    pub pid: u32,
    /// Whether that process lives. Absent: not a process of the host that looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alive: Option<bool>,
}
