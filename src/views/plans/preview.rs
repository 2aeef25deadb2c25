//! What a plan would do, above the form that says it.

use maud::{Markup, html};

use crate::{
    domain::{HostId, Timestamp, schedule::Schedule},
    paths,
    views::{format, schedules::UpcomingRuns},
};

/// What a plan would do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanPreview {
    /// Hosts that it would cover, each with the reason.
    pub hosts: Vec<(HostId, String, String)>,
    /// What it would back up.
    pub paths: Vec<String>,
    /// What it would leave out.
    pub excludes: Vec<String>,
    /// Its schedule, and the next moments of that.
    pub schedule: Option<Schedule>,
    /// See there.
    pub next: Vec<Timestamp>,
    /// What it would keep.
    pub keeps: String,
    /// Snapshots of each host that stay at most.
    pub at_most: Option<u64>,
    /// Where it would write to.
    pub repos: Vec<String>,
    /// Other plans of these hosts.
    pub beside: Vec<String>,
}

impl PlanPreview {
    /// The card.
    #[must_use]
    pub fn render(&self) -> Markup {
        html! {
            section.card #plan-preview aria-labelledby="preview-title" {
                header { h2 #preview-title { "What it would do" } small { "Nothing is saved yet" } }
                @if self.hosts.is_empty() { p.notice.flat.warn { "It would cover no host: name hosts, or tags that hosts bear or will bear." } }
                .pad.stack {
                    p.lead {
                        "Backs up " (format::plural(self.hosts.len() as u64, "host", "hosts")) " to " (self.repos.join(", with a copy to ")) "."
                        @if !self.beside.is_empty() { " Some of them are covered by " (self.beside.join(", ")) " too." }
                    }
                    @if !self.hosts.is_empty() {
                        .scroll { table {
                            caption.vh { "Hosts" }
                            thead { tr { th scope="col" { "Host" } th scope="col" { "Covered" } } }
                            tbody { @for (id, name, why) in &self.hosts { tr { td { a href=(paths::host(*id)) { (name) } } td { (why) } } } }
                        } }
                    }
                    dl.facts {
                        div { dt { "Paths" } dd { @if self.paths.is_empty() { "the output of a command" } @for path in &self.paths { code.line { (path) } } } }
                        div { dt { "Excludes" } dd { @if self.excludes.is_empty() { "—" } @for pattern in &self.excludes { code.line { (pattern) } } } }
                        div { dt { "Keeps" } dd {
                            (self.keeps)
                            @if let Some(n) = self.at_most { small.line { "at most " (format::plural(n, "snapshot", "snapshots")) " of each host; what would go is looked at by the retention guard first" } }
                        } }
                    }
                }
                @match &self.schedule {
                    None => p.pad.muted { "It has no schedule: it runs only when somebody starts it." },
                    Some(schedule) => (UpcomingRuns { schedule, moments: &self.next }.render()),
                }
            }
        }
    }
}
