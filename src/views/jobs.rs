//! The list of jobs. Its filters stand in the URL; older pages are reached by key, not by number, so that a page
//! stays what it is while new jobs come.

use maud::{Markup, html};

use crate::{
    domain::{JobId, JobStatus},
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, HostRef, JobColumns, JobList},
        waves,
    },
};

/// `?status=&kind=&host=`; empty means any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// A status's word.
    pub status: String,
    /// A kind's word.
    pub kind: String,
    /// A host's id.
    pub host: String,
}

impl JobFilter {
    fn url(&self, more: &[(&str, &str)]) -> String {
        let own = [("status", self.status.as_str()), ("kind", &self.kind), ("host", &self.host)];
        paths::with_query(route::JOBS, &[&own[..], more].concat())
    }

    fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

/// Live fragment: one page of jobs. The first page fetches itself every 5 seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct JobsTable {
    /// What was asked for.
    pub filter: JobFilter,
    /// The jobs, newest first.
    pub list: JobList,
    /// The `after` of this page; `None` on the first.
    pub after: Option<JobId>,
    /// The `after` of the next page, where there is one.
    pub older: Option<JobId>,
}

impl JobsTable {
    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let live = self.after.is_none().then(|| self.filter.url(&[("fragment", "1")]));
        html! {
            div #jobs hx-get=[live.as_deref()] hx-trigger=[live.as_ref().map(|_| "every 5s")] hx-swap="outerHTML" data-calm {
                @if self.list.rows.is_empty() {
                    p.pad {
                        @if self.filter.is_set() { "No job matches. " a href=(route::JOBS) { "Show all" } }
                        @else { "No job has run yet. Start a backup from a host's page, and its log will be here, live." }
                    }
                } @else {
                    (components::job_table(shell, &self.list, "Jobs, newest first", JobColumns::WithHost))
                }
                @if self.after.is_some() || self.older.is_some() {
                    .row.pad {
                        @if self.after.is_some() { a.btn href=(self.filter.url(&[])) { "Newest" } }
                        @if let Some(older) = self.older { a.btn href=(self.filter.url(&[("after", &older.to_string())])) { "Older" } }
                    }
                }
            }
        }
    }
}

/// `/jobs`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobsPage {
    /// The list.
    pub table: JobsTable,
    /// Hosts to filter by.
    pub hosts: Vec<HostRef>,
    /// Kinds to filter by.
    pub kinds: Vec<String>,
}

impl JobsPage {
    fn filters(&self) -> Markup {
        let filter = &self.table.filter;
        let statuses =
            JobStatus::ALL.map(|status| (status.as_str().to_owned(), components::job_tone(status).1.to_owned()));
        let kinds: Vec<_> = self.kinds.iter().map(|kind| (kind.clone(), components::kind_name(kind))).collect();
        let hosts: Vec<_> = self.hosts.iter().map(|host| (host.id.to_string(), host.name.clone())).collect();
        html! {
            form.tools method="get" action=(route::JOBS) role="search" aria-label="Filter jobs" data-submit-on-change {
                (choice("status", "Any state", &filter.status, &statuses))
                (choice("kind", "Any kind", &filter.kind, &kinds))
                (choice("host", "Any host", &filter.host, &hosts))
                button.btn type="submit" { "Filter" }
                @if filter.is_set() { a href=(route::JOBS) { "Clear" } }
            }
        }
    }
}

fn choice(name: &str, any: &str, current: &str, choices: &[(String, String)]) -> Markup {
    html! {
        select name=(name) aria-label=(any) {
            option value="" { (any) }
            @for (value, label) in choices { option value=(value) selected[value == current] { (label) } }
        }
    }
}

impl Page for JobsPage {
    fn title(&self) -> String {
        "Jobs".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Jobs
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            h1 { "Jobs" }
            (waves::tabs(false))
            section.card aria-label="Jobs" { (self.filters()) (self.table.render(shell)) }
        }
    }
}
