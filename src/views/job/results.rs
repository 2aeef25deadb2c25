//! What a job brought, by its kind: small tables with words and links. A result of a shape that is not known is shown by the names of its fields.

pub(in crate::views::job) mod discover;
mod looking;
mod proving;
mod runbook;
mod upkeep;

use maud::{Markup, html};
pub(in crate::views) use runbook::{reading, words};
use serde::de::DeserializeOwned;

use crate::{
    domain::{JobKind, RepoId, job::Job, site::DISCOVER},
    paths,
    views::{components, format, status},
};

/// The result of a job that has one, those of a backup and a restore excepted.
#[must_use]
pub(super) fn render(job: &Job) -> Markup {
    let Some(summary) = &job.summary else { return html! {} };
    let typed = match &job.kind {
        JobKind::Forget => typed(job).map(|result| upkeep::forget(job, &result)),
        JobKind::Prune => typed(job).map(|result| upkeep::prune(&result)),
        JobKind::Copy => typed(job).map(|result| upkeep::copy(&result)),
        JobKind::Tag => typed(job).map(|result| upkeep::tag(&result)),
        JobKind::Repair => typed(job).map(|result| upkeep::repair(&result)),
        JobKind::Check => typed(job).map(|result| looking::check(job, &result)),
        JobKind::Stats => typed(job).map(|result| looking::stats(&result)),
        JobKind::Diff => typed(job).map(|result| looking::diff(&result)),
        JobKind::Dump => typed(job).map(|result| looking::dump(&result)),
        JobKind::Snapshots | JobKind::Ls | JobKind::Find => typed(job).map(|result| looking::list(job, &result)),
        JobKind::Locks => typed(job).map(|result| proving::locks(job, &result)),
        JobKind::Unlock => typed(job).map(|result| proving::unlock(&result)),
        JobKind::Test => typed(job).map(|result| proving::test(&result)),
        JobKind::Tamper => typed(job).map(|result| proving::tamper(&result)),
        JobKind::Runbook(name) if name == DISCOVER => typed(job).map(|result| discover::render(job, &result)),
        JobKind::Runbook(name) if status::is_check(name) => typed(job).map(|result| runbook::of_check(job, &result)),
        JobKind::Runbook(_) => typed(job).map(|result| runbook::render(job, &result)),
        _ => None,
    };
    typed.unwrap_or_else(|| plain(summary))
}

/// Whether the lines of such a job are data for machines: its log is folded.
#[must_use]
pub(super) fn is_listing(kind: &JobKind) -> bool {
    matches!(kind, JobKind::Snapshots | JobKind::Ls | JobKind::Find | JobKind::Diff | JobKind::Forget | JobKind::Locks)
}

fn typed<T: DeserializeOwned>(job: &Job) -> Option<T> {
    serde_json::from_value(job.summary.clone()?).ok()
}

/// Names and values in a card.
fn card(title: &str, facts: &[(&str, Markup)]) -> Markup {
    html! {
        section.card aria-label=(title) {
            header { h2 { (title) } }
            .pad { (components::facts(facts)) }
        }
    }
}

/// A table of rows in a card; nothing where there are none.
fn table(title: &str, head: &[&str], rows: Vec<Vec<Markup>>) -> Markup {
    html! {
        @if !rows.is_empty() {
            section.card aria-label=(title) {
                header { h2 { (title) } }
                .scroll { table.cards {
                    caption.vh { (title) }
                    thead { tr { @for name in head { th scope="col" { (name) } } } }
                    tbody { @for row in rows { tr { @for (i, cell) in row.into_iter().enumerate() { td.title[i == 0] { small.wait { (cell) } } } } } }
                } }
            }
        }
    }
}

fn number(n: u64) -> Markup {
    html! { (format::count(n)) }
}

/// A figure that not every restic gives.
fn known(n: Option<u64>, show: impl Fn(u64) -> String) -> Markup {
    html! { @match n { Some(n) => (show(n)), None => span.muted { "this restic does not say" } } }
}

fn short(id: &str) -> Markup {
    html! { code title=(id) { (id.get(..8).unwrap_or(id)) } }
}

/// A snapshot, with its page where its repository is known.
pub(super) fn snapshot(repo: Option<RepoId>, id: &str) -> Markup {
    html! { @match repo { Some(repo) => a href=(paths::snapshot(repo, id)) { (short(id)) }, None => (short(id)) } }
}

/// Said before a result of which nothing came true.
fn dry_run(is_dry: bool) -> Markup {
    html! { @if is_dry { p.notice.idle { b { "A dry run. " } "Nothing was changed; these are the figures of what would be." } } }
}

/// Any other summary: its plain values by name.
pub(super) fn plain(summary: &serde_json::Value) -> Markup {
    let value = |name: &str, value: &serde_json::Value| match value {
        serde_json::Value::Number(n) => match n.as_u64() {
            Some(n) if name.contains("bytes") || name.contains("size") => Some(format::bytes(n)),
            Some(n) => Some(format::count(n)),
            None => n.as_f64().map(|f| format!("{f:.1}")),
        },
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        _ => None,
    };
    let pairs: Vec<(String, String)> = summary
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, v)| Some((name.replace('_', " "), value(name, v)?)))
        .collect();
    html! {
        @if !pairs.is_empty() {
            section.card.pad aria-label="Summary" {
                dl.facts { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } }
            }
        }
    }
}

#[cfg(test)]
mod tests;
