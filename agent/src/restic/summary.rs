//! restic's typed messages as the few lines that a person reads. Modelled on restic's own text output.

use flotilla_proto::BackupSummary;
use serde_json::{Map, Value};

use super::output::{CheckSummary, Item, RestoreSummary};
use crate::text::{size, visible};

/// A path with the reason it failed for; restic's reason often repeats the path.
pub(crate) fn item_with_reason(item: &str, message: &str) -> String {
    let item = visible(item);
    let message = visible(message);
    if message.contains(item.as_str()) { message } else { format!("{item}: {message}") }
}

/// `new       /path, saved in 0.057s (179.8 KiB added)`.
pub(crate) fn item_line(item: &Item) -> String {
    let path = visible(&item.item);
    match (item.action.as_str(), item.size) {
        ("unchanged", None) => format!("unchanged {path}"),
        (action, Some(bytes)) => format!("{action:<9} {path} ({})", size(bytes)),
        (action, None) => {
            let added = size(item.data_size.saturating_add(item.metadata_size));
            format!("{action:<9} {path}, saved in {:.3}s ({added} added)", item.duration.max(0.0))
        }
    }
}

pub(crate) fn backup_lines(end: &BackupSummary) -> Vec<String> {
    let stored = end.data_added_packed.map_or_else(String::new, |bytes| format!(" ({} stored)", size(bytes)));
    let mut lines = vec![
        format!("Files: {} new, {} changed, {} unmodified", end.files_new, end.files_changed, end.files_unmodified),
        format!("Dirs:  {} new, {} changed, {} unmodified", end.dirs_new, end.dirs_changed, end.dirs_unmodified),
        format!("Added to the repository: {}{stored}", size(end.data_added)),
        format!(
            "processed {} files, {} in {:.1} s",
            end.total_files_processed,
            size(end.total_bytes_processed),
            end.total_duration.max(0.0)
        ),
    ];
    lines.push(match &end.snapshot_id {
        Some(id) => format!("snapshot {id} saved"),
        None if end.dry_run => "nothing was saved: this is what a backup would do".to_owned(),
        None => "nothing changed since the last snapshot: no new one was made".to_owned(),
    });
    lines
}

pub(crate) fn restore_lines(end: &RestoreSummary, dry_run: bool) -> Vec<String> {
    let skipped = match end.files_skipped {
        0 => String::new(),
        n => format!(", {n} left as they were"),
    };
    let done = if dry_run { "would restore" } else { "restored" };
    vec![format!("{done} {} files and folders, {}{skipped}", end.files_restored, size(end.bytes_restored))]
}

pub(crate) fn check_lines(end: &CheckSummary) -> Vec<String> {
    let mut lines = vec![match end.num_errors {
        0 => "no errors were found".to_owned(),
        n => format!("{n} errors were found"),
    }];
    lines.extend(end.broken_packs.iter().map(|pack| format!("damaged pack: {pack}")));
    if end.suggest_repair_index {
        lines.push("restic suggests: repair the index (`restic repair index`)".to_owned());
    }
    if end.suggest_prune {
        lines.push("restic suggests: run a prune; it removes what no snapshot needs".to_owned());
    }
    lines
}

pub(crate) fn stats_lines(stats: &Map<String, Value>) -> Vec<String> {
    stats
        .iter()
        .map(|(name, value)| {
            let label = name.replace('_', " ");
            match value.as_u64() {
                Some(bytes) if name.ends_with("_size") => format!("{label}: {} ({bytes} bytes)", size(bytes)),
                _ => format!("{label}: {value}"),
            }
        })
        .collect()
}
