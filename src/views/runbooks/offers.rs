//! What a host offers: each runbook with the way that it would take, those that can't run with the reason, and what ran here lately.

use maud::{Markup, html};

use super::by;
use crate::{
    domain::{HostId, Way, aftermath::RESTART, user::Role},
    paths::{self, route},
    views::{
        Shell,
        components::{self, JobColumns, JobList, PostButton, Tone},
        format,
        host::health,
    },
};

/// A runbook as a host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub name: String,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// The way, or why there is none.
    pub way: Result<Way, String>,
    /// The way is the agent, which is away: the job would wait for it.
    pub waits: bool,
    /// Who may run it.
    pub needs: Role,
    /// It can be run as it is: nothing has to be answered, nothing can be lost, and it leaves the host to others meanwhile.
    pub at_once: bool,
    /// It can remove or replace something.
    pub destructive: bool,
}

/// The tab of a host's page. POST `/runbooks/{name}` with `host`, `csrf` runs one at once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OffersTab {
    /// All runbooks about hosts, those that can run here first.
    pub offered: Vec<Offered>,
    /// The last jobs of runbooks here.
    pub jobs: JobList,
}

impl OffersTab {
    /// The tab's content.
    #[must_use]
    pub fn render(&self, shell: &Shell, host: HostId) -> Markup {
        let (can, cannot): (Vec<_>, Vec<_>) = self.offered.iter().partition(|offered| offered.way.is_ok());
        html! {
            section.card aria-labelledby="offers-title" {
                header {
                    h2 #offers-title { "What can be done here" }
                    span.row {
                        @if shell.may(Role::Admin) { a.btn href=(paths::steps_on(host)) { "Paste steps" } }
                        a.btn href=(route::RUNBOOKS) { "All runbooks" }
                    }
                }
                @if can.is_empty() {
                    p.pad.muted { "Nothing can be run here now. The reasons stand below; a host is reached by its agent, by SSH or by its management interface." }
                }
                ul.list { @for offered in &can { (row(shell, host, offered)) } }
            }
            @if !cannot.is_empty() {
                section.card aria-labelledby="not-offered-title" {
                    header { h2 #not-offered-title { "Not on this host" } }
                    ul.list {
                        @for offered in &cannot {
                            li {
                                .grow {
                                    b.muted { (offered.title) }
                                    @if let Err(why) = &offered.way { p.muted { (format::sentence(why)) } }
                                }
                            }
                        }
                    }
                }
            }
            @if !self.jobs.rows.is_empty() {
                section.card aria-labelledby="runs-title" {
                    header { h2 #runs-title { "Last runs" } }
                    (components::job_table(shell, &self.jobs, "Last runs of runbooks on this host", JobColumns::WithoutHost))
                }
            }
        }
    }
}

fn row(shell: &Shell, host: HostId, offered: &Offered) -> Markup {
    let open = paths::runbook_on(&offered.name, host);
    let refused = shell.refusal(offered.needs).is_some();
    html! {
        li {
            .grow {
                a href=(open) { b { (offered.title) } }
                @if offered.destructive { " " span.tag.bad-text { "removes or replaces" } }
                @if offered.needs == Role::Admin { " " span.tag { "admins only" } }
                @if !offered.description.is_empty() { p.muted { (offered.description) } }
            }
            @if let Ok(way) = &offered.way { (components::pill(Tone::Ok, by(*way))) }
            @if offered.waits { small { "once its agent is back" } }
            @if offered.name == RESTART {
                // Its users lose the service for a while: the dialog there says so, and how.
                a.btn href=(health::address(host)) { "Restart…" }
            } @else if offered.at_once {
                (PostButton {
                    action: paths::runbook(&offered.name),
                    label: "Run",
                    class: "",
                    fields: vec![("host", host.to_string())],
                    needs: offered.needs,
                    aria: format!("Run {}", offered.title),
                }.render(shell))
            }
            a.btn href=(open) aria-label=(format!("Open {}", offered.title)) { @if refused || offered.at_once { "Open" } @else { "Run…" } }
        }
    }
}
