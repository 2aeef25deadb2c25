//! Results of what changes a repository: forget, prune, copy, tag, repair.

use maud::{Markup, html};

use super::{card, dry_run, known, number, snapshot, table};
use crate::{
    domain::{CopyResult, ForgetResult, HeldBack, PruneResult, RepairResult, TagResult, job::Job},
    paths,
    views::format,
};

pub(super) fn forget(job: &Job, result: &ForgetResult) -> Markup {
    let held = |held: &HeldBack| vec![snapshot(job.repo_id, &held.snapshot), html! { (held.reason) }];
    html! {
        (dry_run(result.dry_run))
        @if let Some(why) = &result.stopped {
            .notice.warn role="group" aria-label="Stopped" {
                p { b { "The retention guard stopped it: nothing was removed. " } (format::sentence(why)) }
                @if let Some(repo) = job.repo_id { p { a href=(paths::repo_retention(repo)) { "Look at what would go, and decide" } } }
            }
        }
        (card("Snapshots", &[
            ("Kept", number(result.kept)),
            (if result.dry_run { "Would go" } else { "Removed" }, number(result.removed)),
            ("Held back", number(result.held.len() as u64)),
            ("Why each", html! { @match job.repo_id {
                Some(repo) => a href=(paths::repo_retention(repo)) { "the rule of each snapshot" },
                None => "—",
            } }),
        ]))
        @if !result.still_there.is_empty() {
            .notice.bad { p {
                b { "restic says that it removed these, and they are there still: " }
                @for id in &result.still_there { (snapshot(job.repo_id, id)) " " }
                "The credentials may not be allowed to delete."
            } }
        }
        (table("Held back", &["Snapshot", "Why it stays"], result.held.iter().map(held).collect()))
        @if let Some(pruned) = &result.prune { (prune(pruned)) }
    }
}

pub(super) fn prune(result: &PruneResult) -> Markup {
    html! {
        (dry_run(result.dry_run))
        (card("Space", &[
            (if result.dry_run { "Would be freed" } else { "Freed" }, known(result.freed_bytes, format::bytes)),
            ("Written anew", known(result.repacked_bytes, format::bytes)),
            ("Remains", known(result.remaining_bytes, format::bytes)),
        ]))
    }
}

pub(super) fn copy(result: &CopyResult) -> Markup {
    card("Copied", &[("Copied", number(result.copied)), ("There already", number(result.skipped))])
}

pub(super) fn tag(result: &TagResult) -> Markup {
    card("Tags", &[("Snapshots changed", number(result.changed))])
}

pub(super) fn repair(result: &RepairResult) -> Markup {
    html! {
        (dry_run(result.dry_run))
        @if !result.said.is_empty() {
            section.card aria-label="What restic did" {
                header { h2 { "What restic did" } }
                pre.pad { @for line in &result.said { (line) "\n" } }
            }
        }
    }
}
