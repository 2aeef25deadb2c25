//! What a restore did, or a dry run says it would do: counts, bytes, room, files that are replaced. What this restic did not report is not there.

use maud::{Markup, html};

use crate::{
    domain::RestoreResult,
    views::{format, snapshots::filename::visible},
};

/// Bytes that are free and bytes that are needed, where these are more.
#[must_use]
pub fn too_little_room(result: &RestoreResult) -> Option<(u64, u64)> {
    result.free_bytes.zip(result.bytes_restored.or(result.total_bytes)).filter(|(free, needed)| needed > free)
}

/// The numbers, and the files that are replaced by name.
#[must_use]
pub fn restore_report(result: &RestoreResult) -> Markup {
    let dry = result.dry_run;
    let or_dash = |n: Option<u64>, words: fn(u64) -> String| n.map_or_else(|| "not reported".to_owned(), words);
    let short = too_little_room(result);
    html! {
        dl.stats aria-label=(if dry { "What would be done" } else { "What was done" }) {
            div {
                dt { @if dry { "Would be written" } @else { "Written" } }
                dd.big { (or_dash(result.files_restored.or(result.total_files), |n| format::plural(n, "entry", "entries"))) }
                dd { (or_dash(result.bytes_restored.or(result.total_bytes), format::bytes)) }
            }
            div {
                dt { "In the selection" }
                dd.big { (or_dash(result.total_files, format::count)) }
                dd { (or_dash(result.total_bytes, format::bytes)) @if let Some(n) = result.files_skipped { " · " (format::count(n)) " left as they are" } }
            }
            div {
                dt { @if dry { "Would be replaced" } @else { "Replaced" } }
                dd.big { (or_dash(result.overwritten, format::count)) }
                dd { "files that " @if dry { "are" } @else { "were" } " there already" }
            }
            div {
                dt { "Free where it goes" }
                dd.big { (or_dash(result.free_bytes, format::bytes)) }
                dd { @if result.errors > 0 { (format::plural(result.errors, "error", "errors")) } @else { "no errors" } }
            }
        }
        @if let Some((free, needed)) = short {
            .notice.bad { p { b { "There is not enough room. " } (format::bytes(needed)) " are needed and " (format::bytes(free)) " are free. Pick less, or another place." } }
        }
        @if !result.overwritten_first.is_empty() {
            details.card {
                summary { h2 { @if dry { "Files that would be replaced" } @else { "Files that were replaced" } } }
                ul.paths.pad { @for path in &result.overwritten_first { li { code { (visible(path)) } } } }
                @if result.overwritten.is_some_and(|n| n > result.overwritten_first.len() as u64) { p.pad { small { "The first " (result.overwritten_first.len()) "." } } }
            }
        }
    }
}
