//! Where a restore goes to: whether it may and can, and what came of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, JobKind, RestoreResult, RestoreSpec};
use serde_json::{Value, json};

use crate::{
    blocking::blocking,
    platform,
    policy::Policy,
    restic::{Feature, ResticVersion, report::Transcript},
};

fn spec(order: &CommandRun) -> Option<&RestoreSpec> {
    order.restore.as_ref().filter(|_| order.kind == JobKind::Restore)
}

/// Makes the folder to restore into, unless nothing is to be done; tells whether all that will be in it comes from this job. The error is for people.
pub(super) fn prepare(order: &CommandRun, version: ResticVersion, state_dir: &Path) -> Result<bool, String> {
    let Some(spec) = spec(order) else { return Ok(false) };
    let target = Path::new(&spec.target);
    let policy = Policy::load(state_dir).map_err(|e| e.to_string())?;
    policy.allows_restore(target).map_err(|e| e.to_string())?;
    let place = nearest(target);
    if !place.is_dir() {
        return Err(format!(
            "the folder {} to restore into can't be made: {} is a file. Choose another target, or move that file away",
            spec.target,
            place.display()
        ));
    }
    if platform::volume(&place).is_some_and(|volume| volume.read_only) {
        return Err(format!(
            "nothing can be restored into {}: its file system is read-only. Choose another target, or mount it for writing",
            spec.target
        ));
    }
    if spec.dry_run {
        return Ok(false);
    }
    let cannot = |e: io::Error| {
        format!(
            "the folder {} to restore into can't be made or read: {e}. Choose another target, or correct its rights",
            spec.target
        )
    };
    fs::create_dir_all(target).map_err(cannot)?;
    let fresh = fs::read_dir(target).map_err(cannot)?.next().is_none();
    // Older ones follow links that stand in the target, and so out of it.
    if policy.restore_roots.is_some() && !fresh && !version.supports(Feature::RestoreOverwrite) {
        return Err(format!(
            "{} is not empty, and restic {version} would follow links in it to places that this host does not allow (`restore_roots`). Restore into an empty folder, or update restic to 0.17 or newer",
            spec.target
        ));
    }
    Ok(fresh)
}

/// The folder itself, or what of the way to it there is.
fn nearest(target: &Path) -> PathBuf {
    target.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(target).to_owned()
}

/// What a restore brought back, or would. restic before 0.16 doesn't say: then what stands in a folder that was empty is counted.
pub(super) async fn result(order: &CommandRun, said: &Transcript, count_target: bool) -> Option<Value> {
    let spec = spec(order)?;
    let files = &said.restoring;
    let mut result = RestoreResult {
        free_bytes: blocking(|| platform::volume(&nearest(Path::new(&spec.target)))).map(|volume| volume.free),
        errors: said.file_errors,
        dry_run: spec.dry_run,
        ..RestoreResult::default()
    };
    let overwritten = (files.overwritten, files.first.clone());
    if let Some(end) = said.restore {
        // restic counts the folders above what was chosen among the restored only.
        let done = end.files_restored.saturating_add(end.files_skipped);
        result.total_files = Some(end.total_files.max(done));
        result.files_restored = Some(end.files_restored);
        result.files_skipped = Some(end.files_skipped);
        result.total_bytes = Some(end.total_bytes);
        result.bytes_restored = Some(end.bytes_restored);
        if files.named > 0 || done == 0 {
            (result.overwritten, result.overwritten_first) = (Some(overwritten.0), overwritten.1);
        }
    } else if let Some(counted) = files.counted {
        (result.total_files, result.files_restored) = (Some(counted.files), Some(counted.files));
        (result.total_bytes, result.bytes_restored) = (Some(counted.bytes), Some(counted.bytes));
        (result.overwritten, result.overwritten_first) = (Some(overwritten.0), overwritten.1);
    } else if count_target {
        let target = PathBuf::from(&spec.target);
        if let Ok(Some((files, bytes))) = tokio::task::spawn_blocking(move || count(&target)).await {
            (result.files_restored, result.bytes_restored) = (Some(files), Some(bytes));
            result.overwritten = Some(0);
        }
    }
    let mut value = json!(result);
    value["target"] = json!(spec.target);
    Some(value)
}

/// Files and their bytes under a folder; `None` where it can't be told within reason.
fn count(folder: &Path) -> Option<(u64, u64)> {
    const MOST: u64 = 5_000_000;
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            let meta = fs::symlink_metadata(entry.path()).ok()?;
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                bytes += if meta.is_file() { meta.len() } else { 0 };
            }
            if files > MOST {
                return None;
            }
        }
    }
    Some((files, bytes))
}
