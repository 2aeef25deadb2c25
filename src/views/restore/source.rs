//! The first step: which snapshot. Also those of hosts that were removed, or never were in the fleet.

use maud::{Markup, html};

use crate::{
    domain::snapshot::Snapshot,
    paths::{self, route},
    views::{Nav, Page, Shell, components, format, snapshots::filename::visible},
};

/// The filter, as the address has it; empty means any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceFilter {
    /// A host's id, or `name:` and a host name of snapshots.
    pub host: String,
    /// A repository's id.
    pub repo: String,
    /// A path that must be in it.
    pub path: String,
    /// A tag.
    pub tag: String,
}

impl SourceFilter {
    fn query(&self, after: &str) -> String {
        paths::with_query(
            route::RESTORE,
            &[("host", &self.host), ("repo", &self.repo), ("path", &self.path), ("tag", &self.tag), ("after", after)],
        )
    }
}

/// `/restore`.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcePage {
    /// What is looked for.
    pub filter: SourceFilter,
    /// Values and labels of hosts.
    pub hosts: Vec<(String, String)>,
    /// Values and labels of repositories.
    pub repos: Vec<(String, String)>,
    /// Snapshots, the newest first.
    pub rows: Vec<Snapshot>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl SourcePage {
    fn choice(name: &str, label: &str, any: &str, current: &str, choices: &[(String, String)]) -> Markup {
        let id = format!("source-{name}");
        html! {
            .field {
                label for=(id) { (label) }
                select #(id) name=(name) {
                    option value="" { (any) }
                    @for (value, label) in choices { option value=(value) selected[value == current] { (label) } }
                }
            }
        }
    }

    fn filter_form(&self) -> Markup {
        let filter = &self.filter;
        html! {
            form.card.pad.stack method="get" action=(route::RESTORE) aria-label="Filter" data-submit-on-change {
                .fields {
                    (Self::choice("host", "Host", "Any, also removed ones", &filter.host, &self.hosts))
                    (Self::choice("repo", "Repository", "Any", &filter.repo, &self.repos))
                    .field {
                        label for="source-path" { "Holds the path " span.muted { "optional" } }
                        input #source-path name="path" type="text" value=(filter.path) placeholder="/etc" autocomplete="off" spellcheck="false";
                    }
                    .field {
                        label for="source-tag" { "Tag " span.muted { "optional" } }
                        input #source-tag name="tag" type="text" value=(filter.tag) autocomplete="off" spellcheck="false";
                    }
                }
                .row { button.btn type="submit" { "Filter" } @if filter != &SourceFilter::default() { a.btn href=(route::RESTORE) { "Show all" } } }
            }
        }
    }

    fn table(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-label="Snapshots" { .scroll { table.cards {
                caption.vh { "Snapshots, the newest first" }
                thead { tr {
                    th scope="col" { "Made" } th scope="col" { "Host" } th.hide-s scope="col" { "Paths" } th.hide-m scope="col" { "Repository" }
                    th.num.hide-s scope="col" { "Size" } th scope="col" { span.vh { "Choose" } }
                } }
                tbody { @for row in &self.rows { tr {
                    td.title { b { (format::moment(row.time)) } small.line { (format::ago(shell.now, row.time)) " · " code { (row.short_id()) } } }
                    td { @match &row.host {
                        Some(host) => { b { (host.name) } @if host.removed { " " (components::pill(components::Tone::Idle, "Removed")) } },
                        None => { b { (visible(&row.hostname)) } " " small { "not matched" } },
                    } }
                    td.hide-s { code { (super::paths_words(&row.paths)) } }
                    td.hide-m { (row.repo_name) }
                    td.num.hide-s { @match row.bytes { Some(n) => (format::bytes(n)), None => "—" } }
                    td.num.act { a.btn href=(paths::restore_files(row.repo_id, &row.id)) aria-label=(format!("Restore from {}", row.short_id())) { "Restore…" } }
                } } }
            } } }
        }
    }
}

impl Page for SourcePage {
    fn title(&self) -> String {
        "Restore".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            h1 { "Restore" }
            (super::steps(0))
            p.lead { "Choose the snapshot to get files back from. Nothing is written before the last step, and it shows first what it would write." }
            (self.filter_form())
            @if self.rows.is_empty() {
                @if self.filter == SourceFilter::default() {
                    (components::empty(
                        "No snapshots yet",
                        "Each backup makes one, and it stands here as soon as the backup is over. Snapshots that were made before Flotilla come with the repository's next list.",
                        None,
                    ))
                } @else {
                    (components::empty("No snapshot fits", "None that is known here has all of that. Try fewer conditions.", Some((route::RESTORE, "Show all"))))
                }
            } @else {
                (self.table(shell))
                @if let Some(next) = &self.next { p { a.btn href=(self.filter.query(next)) { "Older snapshots" } } }
            }
        }
    }
}
