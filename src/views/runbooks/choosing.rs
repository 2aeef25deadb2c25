//! On which host: those that match a search, with the way that the runbook would take to each, or why it can't be run there.

use maud::{Markup, html};

use super::by;
use crate::{
    domain::{HostId, Way},
    paths,
    views::{
        components::{self, Tone},
        format,
    },
};

/// A host, and how something would go to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOffer {
    /// Identity.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// The way, or why there is none.
    pub way: Result<Way, String>,
    /// The way is its agent, which is away: the job would wait for it.
    pub waits: bool,
}

impl HostOffer {
    /// The way in words, or why not.
    #[must_use]
    pub fn words(&self) -> Markup {
        html! {
            @match &self.way {
                Ok(way) => {
                    (components::pill(Tone::Ok, by(*way)))
                    @if self.waits { " " small { "once its agent is back" } }
                },
                Err(why) => small.wait { (format::sentence(why)) },
            }
        }
    }
}

/// The hosts that match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chooser {
    /// What was searched for.
    pub query: String,
    /// Those that match, by name; at most [`Chooser::MOST`].
    pub hosts: Vec<HostOffer>,
    /// There are more.
    pub more: bool,
}

impl Chooser {
    /// Hosts that are shown at once.
    pub const MOST: usize = 50;

    /// A card with the search and the hosts. `page` is the address to which `?host=` is added.
    #[must_use]
    pub fn render(&self, page: &str) -> Markup {
        html! {
            section.card aria-labelledby="hosts-title" {
                header { h2 #hosts-title { "On which host?" } small { "Where it can run, and which way it would take now." } }
                form.tools method="get" action=(page) role="search" {
                    input type="search" name="q" value=(self.query) placeholder="Name or tag" aria-label="Find a host" autocomplete="off" spellcheck="false";
                    button.btn type="submit" { "Find" }
                }
                @if self.hosts.is_empty() {
                    p.pad.muted { @if self.query.is_empty() { "There is no host yet." } @else { "No host matches." } }
                } @else {
                    table.cards {
                        caption.vh { "Hosts" }
                        thead { tr { th scope="col" { "Host" } th scope="col" { "Way" } th.num scope="col" { span.vh { "Choose" } } } }
                        tbody {
                            @for host in &self.hosts {
                                @let chosen = paths::with_query(page, &[("host", &host.id.to_string())]);
                                tr {
                                    td.first { @if host.way.is_ok() { a href=(chosen) { b { (host.name) } } } @else { b.muted { (host.name) } } }
                                    td { (host.words()) }
                                    td.num { @if host.way.is_ok() { a.btn href=(chosen) aria-label=(format!("Choose {}", host.name)) { "Choose" } } }
                                }
                            }
                        }
                    }
                }
                @if self.more { p.pad.muted { "The first " (Self::MOST) " are shown: search for others." } }
            }
        }
    }
}
