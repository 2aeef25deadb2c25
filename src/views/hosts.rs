//! The list of hosts, and how well each is protected: one word and one colour per state, the same on every page.

mod add;
mod bulk;

use maud::{Markup, html};

pub use add::{AddHostPage, Arrival, Issued};

pub use crate::domain::protection::Protection;

use crate::{
    domain::{HostId, Timestamp, host::HostStatus, reach::Reach, standing::Standing, user::Role},
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, DayState, Tone},
        format, reach,
    },
};

impl Protection {
    /// The one word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "Backup failed",
            Self::Late => "Late",
            Self::NeverBackedUp => "No backup yet",
            Self::NoPlan => "No plan",
            Self::NoRestic => "No restic",
            Self::NoAgent => "No backups",
            Self::Offline => "Offline",
            Self::Running => "Backing up",
            Self::Protected => "Protected",
        }
    }

    /// Its colour.
    #[must_use]
    pub fn tone(self) -> Tone {
        match self {
            Self::Failed => Tone::Bad,
            Self::Late | Self::NeverBackedUp | Self::NoPlan | Self::NoRestic | Self::Offline => Tone::Warn,
            Self::NoAgent => Tone::Idle,
            Self::Running => Tone::Run,
            Self::Protected => Tone::Ok,
        }
    }

    /// The pill.
    #[must_use]
    pub fn pill(self) -> Markup {
        components::pill(self.tone(), self.word())
    }
}

/// A host in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct HostRow {
    /// Identity.
    pub id: HostId,
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether its agent is here.
    pub status: HostStatus,
    /// How it can be reached.
    pub reach: Reach,
    /// How well it is protected.
    pub protection: Protection,
    /// How it is by its last check of status, where there was one.
    pub standing: Option<Standing>,
    /// End of the last good backup.
    pub last_good: Option<Timestamp>,
    /// The last 30 days (UTC), today last.
    pub strip: [DayState; 30],
    /// Bytes that the last good backup covered.
    pub last_size: Option<u64>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Version of its restic.
    pub restic_version: Option<String>,
}

impl HostRow {
    /// Worst first; among equals by name.
    pub fn sort_by_risk(rows: &mut [Self]) {
        rows.sort_by(|a, b| a.protection.cmp(&b.protection).then_with(|| a.name.cmp(&b.name)));
    }
}

/// Hosts as a table. While someone points at it, an update keeps its order (`data-steady`, see `app.js`).
#[must_use]
pub fn table(shell: &Shell, rows: &[HostRow], caption: &str) -> Markup {
    rows_table(shell, rows, caption, false)
}

/// The same, with a box to tick at each host where `boxes` says so.
fn rows_table(shell: &Shell, rows: &[HostRow], caption: &str, boxes: bool) -> Markup {
    // A fleet that is only backed up needs no column for what nobody checks.
    let checked = rows.iter().any(|row| row.standing.is_some());
    html! {
        .scroll {
            table.cards.ticked[boxes] {
                caption.vh { (caption) }
                thead { tr {
                    @if boxes { th.tick scope="col" { span.vh { "Ticked" } } }
                    th scope="col" { "Host" }
                    th.hide-l scope="col" { "Tags" }
                    th scope="col" { "State" }
                    th.hide-m scope="col" { "Reached by" }
                    @if checked { th.hide-s scope="col" { "Status" } }
                    th.hide-m scope="col" { "30 days" }
                    th.hide-s scope="col" { "Last good" }
                    th.num.hide-l scope="col" { "Size" }
                } }
                tbody data-steady { @for row in rows { (table_row(shell, row, checked, boxes)) } }
            }
        }
    }
}

fn table_row(shell: &Shell, row: &HostRow, checked: bool, boxes: bool) -> Markup {
    html! {
        tr data-key=(row.id) {
            @if boxes { td.tick { input type="checkbox" name="host" value=(row.id) aria-label=(format!("Choose {}", row.name)); } }
            td.first { a href=(paths::host(row.id)) { b { (row.name) } } }
            td.hide-l { (components::tags(&row.tags)) }
            td { (row.protection.pill()) }
            td.hide-m { span.chips.reach { (reach::pills(&row.reach)) } }
            @if checked { td.hide-s { @match &row.standing { Some(standing) => (standing.pill()), None => "—" } } }
            td.hide-m { (components::strip(&row.strip, shell.now)) }
            td.hide-s { @match row.last_good { Some(at) => (format::ago(shell.now, at)), None => "—" } }
            td.num.hide-l { @match row.last_size { Some(size) => (format::bytes(size)), None => "—" } }
        }
    }
}

/// Hosts on a page of the list: what keeps its HTML under 100 KiB.
pub const HOSTS_A_PAGE: usize = 50;

/// `/hosts?q=&tag=&after=`: `q` looks into names and tags; `after` is the page's [`HostsPage::next`].
#[derive(Debug, Clone, PartialEq)]
pub struct HostsPage {
    /// Those that match, in the order to be shown, at most [`HOSTS_A_PAGE`].
    pub rows: Vec<HostRow>,
    /// The `after` of the next page, where there is one: whatever the handler understands.
    pub next: Option<String>,
    /// Hosts in all.
    pub total: u64,
    /// What was looked for.
    pub query: String,
    /// The tag filtered by; empty for none.
    pub tag: String,
    /// All tags in use.
    pub tags: Vec<String>,
    /// Hosts that have a command for a restart.
    pub restartable: u64,
    /// The control plane's own agent, which stands apart from the fleet.
    pub own: Option<OwnAgentView>,
}

/// The control plane's own agent at the foot of the list.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnAgentView {
    /// Its host.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub here: bool,
    /// Version of the restic that it found.
    pub restic_version: Option<String>,
}

impl OwnAgentView {
    /// How it is, in a few words, and whether that is well.
    #[must_use]
    pub fn state(&self) -> (Tone, &'static str) {
        match (self.here, &self.restic_version) {
            (false, _) => (Tone::Warn, "Not running"),
            (true, None) => (Tone::Warn, "No restic"),
            (true, Some(_)) => (Tone::Ok, "Ready"),
        }
    }

    fn foot(&self) -> Markup {
        let (tone, word) = self.state();
        html! {
            section.card aria-labelledby="own-title" { ul.list { li {
                .grow {
                    b #own-title { a href=(paths::host(self.id)) { (self.name) } } " " (components::pill(tone, word))
                    p.muted {
                        "Flotilla's own agent on the server. It tests repositories, looks after them, and restores where no host can; it is not counted as one of the hosts. "
                        @if self.here && self.restic_version.is_none() { "It found no restic: install restic on the server, and it works at once." }
                        @if !self.here { "The server's log says why; " code { "[own_agent] enabled" } " in the configuration turns it on and off." }
                    }
                }
            } } }
        }
    }
}

impl HostsPage {
    fn filters(&self) -> Markup {
        html! {
            form.tools method="get" action=(route::HOSTS) role="search" {
                input type="search" name="q" value=(self.query) placeholder="Find by name or tag" aria-label="Find hosts by name or tag";
                @if !self.tag.is_empty() { input type="hidden" name="tag" value=(self.tag); }
                button.btn type="submit" { "Find" }
                @if !self.tags.is_empty() {
                    .chips role="group" aria-label="Filter by tag" {
                        @for tag in &self.tags {
                            @let current = *tag == self.tag;
                            @let target = if current { "" } else { tag.as_str() };
                            a.tag href=(paths::with_query(route::HOSTS, &[("q", &self.query), ("tag", target)]))
                                aria-current=[current.then_some("true")] { (tag) @if current { span aria-hidden="true" { " ×" } } }
                        }
                    }
                }
            }
        }
    }
}

impl Page for HostsPage {
    fn title(&self) -> String {
        "Hosts".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let add = html! {
            @if self.total > 0 { a.btn href=(paths::sites::LIST) { "Sites" } }
            @if shell.may(Role::Operator) { a.btn.primary href=(route::HOST_NEW) { "Add a host" } }
        };
        html! {
            (components::headline("Hosts", &add))
            @if self.total == 0 {
                (components::empty(
                    "No hosts yet",
                    "A host is a machine that runs the Flotilla agent, or that Flotilla reaches by itself. Adding one with the agent gives you a command to run on it; this page then shows when its last good backup was.",
                    shell.may(Role::Operator).then_some((route::HOST_NEW, "Add the first host")),
                ))
            } @else {
                section.card aria-label="Hosts" {
                    (self.filters())
                    @if self.rows.is_empty() {
                        p.pad { "None of the " (format::plural(self.total, "host", "hosts")) " match. " a href=(route::HOSTS) { "Show all" } }
                    } @else {
                        @if shell.may(Role::Operator) {
                            (bulk::Bulk { tag: &self.tag, restartable: self.restartable, total: self.total }.render(shell, &self.rows))
                        } @else {
                            (table(shell, &self.rows, "Hosts"))
                        }
                        @if let Some(next) = &self.next {
                            @let more = [("q", self.query.as_str()), ("tag", &self.tag), ("after", next)];
                            p.pad { a.btn href=(paths::with_query(route::HOSTS, &more)) { "More hosts" } }
                        }
                    }
                }
            }
            @if let Some(own) = &self.own { (own.foot()) }
        }
    }
}
