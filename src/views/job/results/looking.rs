//! Results of what reads a repository: check, stats, diff, lists, download.

use maud::{Markup, html};

use super::{card, known, number, short};
use crate::{
    domain::{CheckResult, DiffResult, DumpResult, JobKind, ListResult, Operation, StatsResult, job::Job},
    paths,
    views::format,
};

pub(super) fn check(job: &Job, result: &CheckResult) -> Markup {
    let read = match result.read.as_deref() {
        None | Some("") => "structure only: no data was read".to_owned(),
        Some("all") => "all of it".to_owned(),
        Some(part) => part.to_owned(),
    };
    html! {
        @if result.errors > 0 {
            .notice.bad role="group" aria-label="Damage" {
                p { b { (format::plural(result.errors, "error", "errors")) " found." } " Some of what is stored may not come back in a restore." }
                @if let Some(repo) = job.repo_id { p { a href=(paths::repo_repair(repo)) { "The guided repair" } " says what to do, in which order." } }
            }
        }
        (card("Check", &[
            ("Errors", number(result.errors)),
            ("Data read", html! { (read) }),
            ("Damaged packs", html! { @if result.broken_packs.is_empty() { "none named" } @else { @for id in result.broken_packs.iter().take(20) { (short(id)) " " } @if result.broken_packs.len() > 20 { "and " (result.broken_packs.len() - 20) " more" } } }),
            ("restic suggests", html! { @match (result.suggest_repair_index, result.suggest_prune) {
                (true, true) => "to repair the index, and to prune",
                (true, false) => "to repair the index",
                (false, true) => "to prune",
                (false, false) => "nothing",
            } }),
        ]))
        @if !result.findings.is_empty() {
            details.card.pad { summary { "What restic found" } pre { @for line in &result.findings { (line) "\n" } } }
        }
    }
}

pub(super) fn stats(result: &StatsResult) -> Markup {
    let what = match result.mode.as_str() {
        "raw-data" => "as stored",
        "restore-size" => "what a restore of all would write",
        "files-by-contents" => "different contents of files",
        "blobs-per-file" => "different pieces of files",
        other => other,
    };
    card(
        "Size",
        &[
            ("Counted", html! { (what) }),
            ("Bytes", html! { (format::bytes(result.total_size)) }),
            ("Before compression", known(result.total_uncompressed_size, format::bytes)),
            (
                "Compression",
                html! { @match result.compression_ratio { Some(ratio) => (format!("{ratio:.2} to 1")), None => "—" } },
            ),
            ("Files", html! { @match result.total_file_count { Some(n) => (format::count(n)), None => "—" } }),
            ("Blobs", html! { @match result.total_blob_count { Some(n) => (format::count(n)), None => "—" } }),
            ("Snapshots", number(result.snapshots_count)),
        ],
    )
}

pub(super) fn diff(result: &DiffResult) -> Markup {
    card(
        "Differences",
        &[
            (
                "Added",
                html! { (format::plural(result.added, "entry", "entries")) ", " (format::bytes(result.added_bytes)) },
            ),
            (
                "Removed",
                html! { (format::plural(result.removed, "entry", "entries")) ", " (format::bytes(result.removed_bytes)) },
            ),
            ("Changed", html! { (format::plural(result.changed, "file", "files")) }),
        ],
    )
}

pub(super) fn list(job: &Job, result: &ListResult) -> Markup {
    let found = match job.kind {
        JobKind::Snapshots => format::plural(result.count, "snapshot", "snapshots"),
        JobKind::Find => format::plural(result.count, "match", "matches"),
        _ => format::plural(result.count, "entry", "entries"),
    };
    card(
        "Found",
        &[
            ("Listed", html! { (found) @if job.log_truncated { ", not all of them: the list was cut on its way" } }),
            (
                "Where",
                html! { @match (job.repo_id, &job.repo_name) {
                    (Some(id), Some(name)) => { "the snapshots of " a href=(paths::repo_snapshots(id)) { (name) } @if let Some(Operation::Ls(spec)) = &job.input.operation { ": " a href=(paths::snapshot_folder(id, &spec.snapshot, &spec.path)) { "this folder" } } },
                    _ => "—",
                } },
            ),
        ],
    )
}

pub(super) fn dump(result: &DumpResult) -> Markup {
    card("Download", &[("Sent", html! { (format::bytes(result.bytes)) })])
}
