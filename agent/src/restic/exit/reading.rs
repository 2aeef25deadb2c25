//! The verdict on what only reads, and its typed result. An empty answer is no proof: restic 0.14 ends without an error where the snapshot is missing, and
//! every version does where the folder is.

use flotilla_proto::{CheckResult, JobKind, JobStatus, ListResult, NodeKind, Operation, StatsMode, StatsResult};
use serde_json::{Map, Value, json};

use super::{Run, Trouble};
use crate::restic::{
    command::mode_word,
    report::{PACKS_KEPT, Transcript},
};

type Verdict = (JobStatus, Option<String>);

fn failed(why: impl Into<String>) -> Verdict {
    (JobStatus::Failed, Some(why.into()))
}

/// What code 0 of a reading kind means.
pub(super) fn verdict_of_zero(run: &Run<'_>) -> Verdict {
    let list = &run.transcript.listing;
    match run.kind {
        JobKind::Snapshots | JobKind::Ls | JobKind::Find | JobKind::Stats if misses_snapshot(&run.transcript) => {
            failed(Trouble::NoSnapshot.advice())
        }
        JobKind::Snapshots | JobKind::Find if list.damaged => failed(
            "a part of the list is too long to be read, so it is not whole; the log has the rest. Search for less at a time",
        ),
        JobKind::Snapshots if !list.whole => {
            failed("restic ended without an error but its list of snapshots could not be read; see the log")
        }
        JobKind::Find if !list.whole => {
            failed("restic ended without an error but what it found could not be read; see the log")
        }
        JobKind::Diff if list.diff.is_none() => {
            failed("restic ended without an error but its comparison could not be read; see the log")
        }
        JobKind::Stats if run.transcript.stats.is_none() => {
            failed("restic ended without an error but its counts could not be read; see the log")
        }
        JobKind::Ls => listed(run, list.folder),
        JobKind::Check => checked(&run.transcript),
        _ => (JobStatus::Succeeded, None),
    }
}

pub(super) fn misses_snapshot(said: &Transcript) -> bool {
    said.errors.iter().any(|line| line.contains("no matching ID found") || line.contains("no snapshot found"))
}

fn listed(run: &Run<'_>, folder: Option<NodeKind>) -> Verdict {
    let path = match run.operation {
        Some(Operation::Ls(spec)) => spec.path.as_str(),
        _ => "/",
    };
    match folder {
        Some(NodeKind::Dir) => (JobStatus::Succeeded, None),
        Some(_) => failed(format!("{path} is a file in this snapshot, not a folder. Look at the folder that it is in")),
        None => failed(format!(
            "the snapshot holds no folder {path}. Begin at its top, and look whether another snapshot has it"
        )),
    }
}

fn checked(said: &Transcript) -> Verdict {
    match check(said, None) {
        Some(CheckResult { errors: 0, .. }) => (JobStatus::Succeeded, None),
        Some(found) => failed(damage(&found)),
        None => failed("restic ended without an error but its findings could not be read; see the log"),
    }
}

/// What a check found, in words; `None` where it found nothing.
pub(super) fn found_damage(said: &Transcript) -> Option<String> {
    check(said, None).filter(|found| found.errors > 0).map(|found| damage(&found))
}

fn damage(found: &CheckResult) -> String {
    const LONGEST: usize = 600;
    let first = found
        .findings
        .first()
        .map_or_else(String::new, |text| format!(". It begins with: {}", &text[..text.floor_char_boundary(LONGEST)]));
    let packs = match found.broken_packs.len() {
        0 => String::new(),
        n => format!(
            ". {n} damaged packs can be repaired as far as their content is elsewhere: see the repository's page"
        ),
    };
    format!("{} ({} found){packs}{first}", Trouble::Damaged.advice(), found.errors)
}

/// The result of a check; `None` where it came to none, because it did not begin or was cut off.
fn check(said: &Transcript, operation: Option<&Operation>) -> Option<CheckResult> {
    let text = &said.checked;
    let read = match operation {
        Some(Operation::Check(spec)) if spec.read_data => Some("all".to_owned()),
        Some(Operation::Check(spec)) => spec.read_data_subset.clone(),
        _ => None,
    };
    let mut result = CheckResult {
        errors: text.errors,
        findings: text.findings.clone(),
        broken_packs: text.broken.clone(),
        suggest_repair_index: text.repair_index,
        suggest_prune: text.prune,
        read,
    };
    match &said.check {
        Some(end) => {
            result.errors = end.num_errors;
            result.broken_packs.clone_from(&end.broken_packs);
            result.broken_packs.truncate(PACKS_KEPT);
            result.suggest_repair_index |= end.suggest_repair_index;
            result.suggest_prune |= end.suggest_prune;
            if end.num_errors == 0 {
                result.findings.clear();
            }
        }
        None if text.clean => {
            result.errors = 0;
            result.findings.clear();
        }
        None if text.damaged => result.errors = result.errors.max(1),
        None => return None,
    }
    Some(result)
}

fn stats(counts: &Map<String, Value>, operation: Option<&Operation>) -> StatsResult {
    let mode = match operation {
        Some(Operation::Stats(spec)) => spec.mode,
        _ => StatsMode::default(),
    };
    let number = |name: &str| counts.get(name).and_then(Value::as_u64);
    StatsResult {
        mode: mode_word(mode).to_owned(),
        total_size: number("total_size").unwrap_or_default(),
        total_uncompressed_size: number("total_uncompressed_size"),
        compression_ratio: counts.get("compression_ratio").and_then(Value::as_f64),
        // 0.14 says 0 where it does not count them.
        total_file_count: number("total_file_count").filter(|_| mode != StatsMode::RawData),
        total_blob_count: number("total_blob_count"),
        snapshots_count: number("snapshots_count").unwrap_or_default(),
    }
}

/// The typed result of a reading kind.
pub(super) fn summary(kind: &JobKind, operation: Option<&Operation>, said: &Transcript) -> Option<Value> {
    let list = &said.listing;
    Some(match kind {
        // Under its first name too: that is what was read before there was a type.
        JobKind::Snapshots if list.whole => json!({ "count": list.count, "snapshots": list.count }),
        JobKind::Find if list.whole => json!(ListResult { count: list.count }),
        JobKind::Ls if list.folder == Some(NodeKind::Dir) => json!(ListResult { count: list.count }),
        JobKind::Diff => json!(list.diff?),
        JobKind::Stats => json!(stats(said.stats.as_ref()?, operation)),
        JobKind::Check => json!(check(said, operation)?),
        _ => return None,
    })
}
