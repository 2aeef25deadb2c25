//! The details of an order, one type per kind of work: what restic is to do beyond its repository. A field that is absent means restic's own
//! default, so that an older sender's order keeps its meaning.

use serde::{Deserialize, Serialize};

use crate::RepoId;

/// The details of an order. The variant goes with the job's kind; an agent refuses one that does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Of a `backup`.
    Backup(BackupSpec),
    /// Of a `forget`.
    Forget(ForgetSpec),
    /// Of a `prune`.
    Prune(PruneSpec),
    /// Of a `check`.
    Check(CheckSpec),
    /// Of a `stats`.
    Stats(StatsSpec),
    /// Of a `diff`.
    Diff(DiffSpec),
    /// Of an `ls`.
    Ls(LsSpec),
    /// Of a `find`.
    Find(FindSpec),
    /// Of a `tag`.
    Tag(TagSpec),
    /// Of a `copy`.
    Copy(CopySpec),
    /// Of a `repair`.
    Repair(RepairSpec),
    /// Of an `unlock`.
    Unlock(UnlockSpec),
    /// Of a `dump`.
    Dump(DumpSpec),
}

/// How one backup differs from its plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSpec {
    /// Only say what would be done; no snapshot is made, and hooks do not run.
    pub dry_run: bool,
}

/// restic's keep rules. All absent: everything is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepRules {
    /// The last N snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// One for each of the last N hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// One for each of the last N days that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// One for each of the last N weeks that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// One for each of the last N months that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// One for each of the last N years that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
    /// All within a duration such as `1y5m7d2h` of the latest snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<String>,
    /// One an hour within a duration. Where restic has it (0.14 and later), as the four below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within_hourly: Option<String>,
    /// One a day within a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within_daily: Option<String>,
    /// One a week within a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within_weekly: Option<String>,
    /// One a month within a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within_monthly: Option<String>,
    /// One a year within a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within_yearly: Option<String>,
    /// All that bear one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep_tags: Vec<String>,
}

impl KeepRules {
    /// Whether nothing is ever removed.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}

/// Which snapshots an operation is about. All empty: all of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Only of these hosts, as restic's `--host` names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Only with one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only with all of these paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// What `forget` goes by. Which snapshots go is decided by the control plane's guard, which the agent asks with restic's own dry run in hand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ForgetSpec {
    /// The rules. Nothing is removed where they keep all.
    pub keep: KeepRules,
    /// The snapshots that they are about.
    pub of: Selection,
    /// restic's `--group-by`: some of `host`, `paths`, `tags`. Empty: all in one group.
    pub group_by: Vec<String>,
    /// Remove data that is no longer needed afterwards.
    pub prune: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

/// How data that no snapshot needs is removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneSpec {
    /// restic's `--max-unused`: `5%`, `10G`, `unlimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unused: Option<String>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// How deep a check looks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckSpec {
    /// restic's `--read-data-subset`: `n/t`, `10%`, `5G`. Absent: the structure only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_data_subset: Option<String>,
    /// All data is read.
    pub read_data: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatsMode {
    /// Bytes as stored, after deduplication.
    #[default]
    RawData,
    /// Bytes that a restore of all would write.
    RestoreSize,
    /// Files, each content once.
    FilesByContents,
    /// Blobs of each file.
    BlobsPerFile,
}

/// What is counted, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsSpec {
    /// What is counted.
    pub mode: StatsMode,
    /// The snapshots.
    pub of: Selection,
    /// One snapshot instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// Two snapshots to compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffSpec {
    /// The older one's id.
    pub a: String,
    /// The newer one's id.
    pub b: String,
    /// Changes of metadata count too.
    #[serde(default)]
    pub metadata: bool,
}

/// A folder of a snapshot to list, without the folders in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsSpec {
    /// The snapshot's id.
    pub snapshot: String,
    /// The folder, from `/`.
    pub path: String,
}

/// What to look for in all snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FindSpec {
    /// restic's pattern, such as `*.conf` or `/etc/hosts`.
    pub pattern: String,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Only in these.
    pub of: Selection,
    /// Only in these snapshots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
}

/// Tags to set on snapshots. restic writes each as a new snapshot and removes the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TagSpec {
    /// Ids.
    pub snapshots: Vec<String>,
    /// To add.
    pub add: Vec<String>,
    /// To take away.
    pub remove: Vec<String>,
}

/// What to copy to the order's second repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// The repository that gets them; its address and credentials come beside it in the order.
    pub to: RepoId,
    /// Ids; empty: what `of` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<String>,
    /// The snapshots, where no ids are given.
    #[serde(default)]
    pub of: Selection,
}

/// What is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairWhat {
    /// The index is made anew from what is there. Loses nothing.
    #[default]
    Index,
    /// Packs that are damaged are written anew without what can't be read. Needs `packs`.
    Packs,
    /// Snapshots that refer to lost data are written anew without it.
    Snapshots,
}

/// A repair.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RepairSpec {
    /// What.
    pub what: RepairWhat,
    /// Ids of damaged packs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<String>,
    /// Snapshots: remove the damaged originals (restic's `--forget`).
    pub forget: bool,
    /// Only say what would be done, where restic can.
    pub dry_run: bool,
}

/// Which locks go. Only such whose owner is proven dead, or that are older than restic's own rule, ever do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UnlockSpec {
    /// Locks whose owner was proven dead by the agent of its host, within the last minutes: full ids.
    pub proven_dead: Vec<String>,
}

/// The form of a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpForm {
    /// One file as it is.
    #[default]
    File,
    /// A folder as tar.
    Tar,
    /// A folder as zip.
    Zip,
}

/// What is sent through to a browser: `POST /agent/jobs/{id}/download` carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpSpec {
    /// The snapshot's id.
    pub snapshot: String,
    /// The file or folder, from `/`; empty where several are sent, so that an agent that knows of one only refuses instead of sending nothing of the rest.
    pub path: String,
    /// Several files and folders, as one tar; empty where `path` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// As what.
    pub form: DumpForm,
}

impl DumpSpec {
    /// Most paths that one archive is made of: each is a run of restic, one behind the other.
    pub const MOST_PATHS: usize = 100;

    /// All that is sent.
    #[must_use]
    pub fn picks(&self) -> &[String] {
        if self.paths.is_empty() { std::slice::from_ref(&self.path) } else { &self.paths }
    }
}
