//! Typed results: the `summary` of a job's end, one type per kind of work. Lists in them are short and bounded; what is long comes as [`crate::Record`] lines.
//! A field that a version of restic does not report is absent, never guessed.

use serde::{Deserialize, Serialize};

/// Of `snapshots`, `ls`, `find`: how many records there are. Fewer lines than that mean that the list is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListResult {
    /// Records in the log.
    pub count: u64,
}

/// Of a `forget`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ForgetResult {
    /// Snapshots that the rules keep.
    pub kept: u64,
    /// Snapshots that are gone, or would go in a dry run.
    pub removed: u64,
    /// Snapshots that a rule would remove and that stay for another reason.
    pub held: Vec<HeldBack>,
    /// The guard stopped all of it: a person must decide. The words say why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Snapshots that restic claimed to have removed, and that were listed again afterwards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub still_there: Vec<String>,
    /// Nothing was done.
    pub dry_run: bool,
    /// What a prune behind it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneResult>,
    /// Snapshots that were listed in the end, as records in the log; absent where there is no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A snapshot that stays although the rules would remove it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldBack {
    /// Full id.
    pub snapshot: String,
    /// Why, for people: `pinned by ann: before the migration`.
    pub reason: String,
}

/// Of a `prune`. Bytes and counts as far as this restic prints them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneResult {
    /// Bytes given back, or that would be in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<u64>,
    /// Bytes that had to be written anew for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repacked_bytes: Option<u64>,
    /// Bytes that remain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_bytes: Option<u64>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Of a `check`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckResult {
    /// What restic found wrong. 0: nothing.
    pub errors: u64,
    /// The first of them in restic's words, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Ids of packs that are damaged, at most 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken_packs: Vec<String>,
    /// restic suggests to repair the index.
    pub suggest_repair_index: bool,
    /// restic suggests to prune.
    pub suggest_prune: bool,
    /// The share of the data that was read, as it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
}

/// Of a `stats`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsResult {
    /// Which way it was counted: restic's word.
    pub mode: String,
    /// Bytes.
    pub total_size: u64,
    /// Bytes before compression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_uncompressed_size: Option<u64>,
    /// Uncompressed by compressed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_ratio: Option<f64>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_file_count: Option<u64>,
    /// Blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_blob_count: Option<u64>,
    /// Snapshots.
    pub snapshots_count: u64,
}

/// Of a `diff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiffResult {
    /// Files and folders only in the newer one.
    pub added: u64,
    /// Only in the older one.
    pub removed: u64,
    /// Files of other content.
    pub changed: u64,
    /// Bytes only in the newer one.
    pub added_bytes: u64,
    /// Bytes only in the older one.
    pub removed_bytes: u64,
}

/// Of a `tag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TagResult {
    /// Snapshots that were rewritten, as counted by listing before and after.
    pub changed: u64,
    /// Snapshots that were listed in the end, as records in the log; absent where there is no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Of a `copy`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CopyResult {
    /// Snapshots written to the second repository.
    pub copied: u64,
    /// Snapshots that were there already.
    pub skipped: u64,
    /// Snapshots of the second repository that were listed in the end, as records in the log; absent where there is no such list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// Of a `repair`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RepairResult {
    /// What was repaired, in restic's last words, at most 20 lines.
    pub said: Vec<String>,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Of a `restore`; absent counts were not reported by that version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreResult {
    /// Files and folders in the selection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_files: Option<u64>,
    /// Written, or to be written in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_restored: Option<u64>,
    /// Left as they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_skipped: Option<u64>,
    /// Bytes in the selection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<u64>,
    /// Written, or to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_restored: Option<u64>,
    /// Bytes that are free where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Files that exist and would be, or were, replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwritten: Option<u64>,
    /// The first of them, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overwritten_first: Vec<String>,
    /// Files that could not be written.
    pub errors: u64,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Of a `dump`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DumpResult {
    /// Bytes that went through.
    pub bytes: u64,
}

/// Of a `locks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocksResult {
    /// Locks in the repository; a record each.
    pub count: u64,
}

/// Of an `unlock`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UnlockResult {
    /// Locks that are gone, each with why it could go.
    pub removed: Vec<HeldBack>,
    /// Locks that stay, each with why.
    pub kept: Vec<HeldBack>,
}

/// Of a `test`: what was tried in order, up to the first that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TestResult {
    /// The steps.
    pub steps: Vec<TestStep>,
    /// restic's version on the host that tried.
    pub restic: String,
}

/// One step of a connection test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TestStep {
    /// What was tried, such as `Find the address of vault.example`.
    pub name: String,
    /// Whether it went well.
    pub ok: bool,
    /// What was seen; where it failed also what to do.
    pub detail: String,
}

/// What a tamper test proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TamperVerdict {
    /// Everything that was tried was refused, and the object is as it was.
    Protected,
    /// Something was deleted or changed with the endpoint's credentials.
    Vulnerable,
    /// It could not be tried; the error says why.
    #[default]
    Unknown,
}

/// Of a `tamper`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TamperResult {
    /// What it proves.
    pub verdict: TamperVerdict,
    /// What was tried.
    pub tried: Vec<Tried>,
}

/// One attempt of a tamper test.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// Such as `Delete the test's snapshot`.
    pub what: String,
    /// Whether it was refused.
    pub refused: bool,
    /// What the server or restic said.
    pub said: String,
}
