//! What a caller may ask for: one type with the details of every kind. A detail that its kind does not read is refused by name, and never dropped.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize, de::IntoDeserializer as _};
use serde_json::{Map, Value};

use crate::{
    domain::{DumpForm, JobKind, KeepRules, Overwrite, PlanId, RepairWhat, RepoId, SiteId, StatsMode},
    ops::error::{OpError, Problems},
};

/// Seconds that a job may be given.
pub(super) const TIMEOUTS_S: RangeInclusive<u64> = 60..=7 * 24 * 3600;
/// Seconds that a job may wait for an agent to take it.
const EXPIRIES_S: RangeInclusive<u64> = 60..=30 * 24 * 3600;

/// Fields of every kind, which stand beside `kind` only.
const OF_ALL: [&str; 5] = ["kind", "params", "queue", "timeout_s", "expires_in_s"];

/// What a job is to do. Details may stand beside `kind` or under `params`, and not in both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// `backup`, `restore`, `forget`, `prune`, `check`, `unlock`, `locks`, `snapshots`, `ls`, `find`, `diff`, `stats`, `tag`, `copy`, `repair`, `dump`, `test`,
    /// `tamper` or `init`; or a runbook's name, whose inputs stand under `params`; or `steps`, a JSON array of steps under `params.steps`.
    pub kind: String,
    /// The details below in an object of their own, as an alternative to fields beside `kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub params: Option<Map<String, Value>>,
    /// Whether the job may wait. `false`: it starts at once, or is refused with `host_busy`. `true` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<bool>,
    /// Seconds after which the agent stops it, 60 to 604800. Where absent: 24 hours for backup, restore, check, forget, prune, copy and repair, 6 for stats, tag and dump, 1 for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// Seconds after which it is given up if no agent has taken it, 60 to 2592000. Where absent: as the server is configured, 24 hours if not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// The repository; may be left out where the host knows exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// The site of a runbook that is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub site_id: Option<SiteId>,
    /// The plan of a backup; may be left out where exactly one covers the host. Of a forget: the plan whose rules count, over the snapshots made by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// Paths of a backup without a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Backup, restore, forget, prune, repair: only say what would be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Restore, stats, ls, dump: a snapshot's id; for a restore also `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Restore: only these paths of the snapshot. Dump: these as one tar. Forget, stats, find, copy: only snapshots of all of these paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Restore: the folder to restore into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Restore: over the original files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_place: Option<bool>,
    /// Restore: what happens to files that exist: `always`, `if-changed`, `if-newer`, `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub overwrite: Option<Overwrite>,
    /// Restore in place, or a runbook that removes or replaces something: the host's name, as a confirmation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// Restore of `latest`: under which host name the snapshot stands, where that is not the host's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_host: Option<String>,
    /// Forget: restic's keep rules: `keep_last`, `keep_hourly`, `keep_daily`, `keep_weekly`, `keep_monthly`, `keep_yearly`, `keep_within`,
    /// `keep_within_hourly` and so on, `keep_tags`. May be left out with a plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub retention: Option<KeepRules>,
    /// Forget: some of `host`, `paths`, `tags`. Where absent: `host` with a plan, otherwise `host` and `paths`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// Forget: remove data that is no longer needed afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<bool>,
    /// Forget, stats, find, copy: only snapshots under one of these host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// Forget, stats, find, copy: only snapshots with one of these tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Find, tag, copy: ids of snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Vec<String>>,
    /// Prune: how much unused data may stay: `5%`, `10G`, `unlimited`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unused: Option<String>,
    /// Check: read so much of the data: `1/10` (the first tenth), `5%`, `10G`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_data_subset: Option<String>,
    /// Check: read all data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_data: Option<bool>,
    /// Stats: `raw-data`, `restore-size`, `files-by-contents`, `blobs-per-file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mode: Option<StatsMode>,
    /// Diff: the older snapshot's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<String>,
    /// Diff: the newer snapshot's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<String>,
    /// Diff: changes of metadata count too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<bool>,
    /// Ls: the folder. Dump: the file or folder. From `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Find: a name or a pattern such as `*.conf`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Find: upper and lower case are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_case: Option<bool>,
    /// Tag: tags to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Vec<String>>,
    /// Tag: tags to take away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Vec<String>>,
    /// Copy: the repository that gets the snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<RepoId>,
    /// Repair: `index`, `packs`, `snapshots`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub what: Option<RepairWhat>,
    /// Repair of packs: their ids, as a check names them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packs: Option<Vec<String>>,
    /// Repair of snapshots: remove the damaged originals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget: Option<bool>,
    /// Dump: `file`, `tar`, `zip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub form: Option<DumpForm>,
}

/// The details that a kind reads, beside `repo_id`.
fn details_of(kind: &JobKind) -> &'static [&'static str] {
    match kind {
        JobKind::Backup => &["plan_id", "args", "dry_run"],
        JobKind::Restore => {
            &["snapshot", "paths", "target", "in_place", "overwrite", "confirm", "dry_run", "source_host"]
        }
        JobKind::Forget => &["plan_id", "retention", "group_by", "prune", "dry_run", "hosts", "tags", "paths"],
        JobKind::Prune => &["max_unused", "dry_run"],
        JobKind::Check => &["read_data_subset", "read_data"],
        JobKind::Stats => &["mode", "snapshot", "hosts", "tags", "paths"],
        JobKind::Diff => &["a", "b", "metadata"],
        JobKind::Ls => &["snapshot", "path"],
        JobKind::Find => &["pattern", "ignore_case", "snapshots", "hosts", "tags", "paths"],
        JobKind::Tag => &["snapshots", "add", "remove"],
        JobKind::Copy => &["to", "snapshots", "hosts", "tags", "paths"],
        JobKind::Repair => &["what", "packs", "forget", "dry_run"],
        JobKind::Dump => &["snapshot", "path", "paths", "form"],
        JobKind::Unlock | JobKind::Snapshots | JobKind::Locks | JobKind::Test | JobKind::Tamper | JobKind::Init => &[],
        JobKind::Runbook(_) => &["confirm", "site_id"],
    }
}

const KNOWN: &str = "backup, restore, check, unlock, snapshots, stats, init, forget, prune, ls, find, diff, tag, copy, repair, locks, dump, test, tamper";

/// A kind that can be ordered.
pub(super) fn known_kind(text: &str) -> Result<JobKind, OpError> {
    match text.parse::<JobKind>() {
        Ok(JobKind::Runbook(_)) | Err(_) => Err(unknown_kind(text)),
        Ok(kind) => Ok(kind),
    }
}

/// The refusal of a kind that nothing is called.
pub(super) fn unknown_kind(text: &str) -> OpError {
    OpError::field(
        "kind",
        format!("{text:?} is not a known kind; known are {KNOWN}, and runbooks by their names (GET /api/runbooks)"),
    )
}

impl JobRequest {
    /// A request for a kind, without details.
    #[must_use]
    pub fn of(kind: &JobKind) -> Self {
        Self { kind: kind.as_str().to_owned(), ..Self::default() }
    }

    fn given(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(map)) => map,
            // A struct of plain values is always an object.
            Ok(_) | Err(_) => Map::new(),
        }
    }

    /// The request with its `params` beside its `kind`.
    pub(super) fn merged(mut self) -> Result<Self, OpError> {
        let Some(params) = self.params.take() else { return Ok(self) };
        let mut problems = Problems::default();
        let mut all = self.given();
        for (field, value) in params.into_iter().filter(|(_, value)| !value.is_null()) {
            if OF_ALL.contains(&field.as_str()) {
                problems.add(&field, "stands beside kind, not under params");
            } else if all.contains_key(&field) {
                problems.add(&field, format!("is given twice: beside kind and as params.{field}"));
            } else if let Err(e) = alone(&field, value.clone()) {
                problems.add(&field, e);
            } else {
                all.insert(field, value);
            }
        }
        problems.refuse()?;
        serde_json::from_value(Value::Object(all)).map_err(|e| OpError::field("params", e.to_string()))
    }

    /// Notes details that this kind does not read: whoever sent them meant something.
    pub(super) fn refuse_strangers(&self, problems: &mut Problems, kind: &JobKind) {
        let read = details_of(kind);
        for field in self.given().keys().map(String::as_str) {
            if !OF_ALL.contains(&field) && field != "repo_id" && !read.contains(&field) {
                problems.add(field, format!("does not belong to a job of kind {kind}"));
            }
        }
        for (field, seconds, range) in
            [("timeout_s", self.timeout_s, TIMEOUTS_S), ("expires_in_s", self.expires_in_s, EXPIRIES_S)]
        {
            if seconds.is_some_and(|seconds| !range.contains(&seconds)) {
                problems.add(field, format!("must be {} to {} seconds", range.start(), range.end()));
            }
        }
    }
}

/// Whether a detail by itself is of its type; what is wrong is said without the names of all others.
fn alone(field: &str, value: Value) -> Result<(), String> {
    let mut one = Map::from_iter([("kind".to_owned(), Value::String(String::new()))]);
    one.insert(field.to_owned(), value);
    match JobRequest::deserialize(Value::Object(one).into_deserializer()) {
        Ok(_) => Ok(()),
        Err(e) if e.to_string().starts_with("unknown field `") && e.to_string().contains(&format!("`{field}`,")) => {
            Err("is not known: no kind of job reads it".to_owned())
        }
        Err(e) => Err(e.to_string()),
    }
}
