//! Schedules: what runs when, where, and whether it is in force. A plan is one row, however many hosts it covers.

mod form;
mod moments;

use maud::{Markup, html};

pub use form::{OnceChoice, ScheduleNewPage, WhenFields};
pub use moments::{UpcomingRuns, day_ahead};

use crate::{
    domain::{
        JobKind, PlanId, ScheduleId, Timestamp,
        job::Job,
        schedule::{Schedule, Side},
        user::Role,
    },
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, Confirm, HostRef, PostButton, Tone},
        format,
    },
};

/// Where a schedule comes from, and so where it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A plan, with its name.
    Plan(PlanId, String),
    /// It stands alone and does this.
    Own(ScheduleId, JobKind),
}

/// A schedule in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    /// Where it comes from.
    pub source: Source,
    /// Hosts that it runs on: the first, and how many in all.
    pub hosts: (Option<HostRef>, u64),
    /// The repository's name.
    pub repo_name: Option<String>,
    /// When.
    pub schedule: Schedule,
    /// Its moments of the next day, and at least the next one.
    pub next: Vec<Timestamp>,
    /// Its last job.
    pub last: Option<Job>,
    /// Hosts whose agent follows an older set.
    pub behind: u64,
    /// Why an agent cannot follow it, or runs nothing of it while the server is away.
    pub troubles: Vec<String>,
}

impl ScheduleRow {
    fn side(&self) -> Side {
        match &self.source {
            Source::Plan(..) => Side::Agent,
            Source::Own(_, kind) => Side::of(kind),
        }
    }

    fn name(&self) -> String {
        match &self.source {
            Source::Plan(_, name) => format!("Backup “{name}”"),
            Source::Own(_, kind) => kind_in_words(kind),
        }
    }

    fn what(&self) -> Markup {
        html! {
            @match &self.source {
                Source::Plan(id, _) => a href=(paths::plan(*id)) { b { (self.name()) } },
                Source::Own(..) => b { (self.name()) },
            }
            small { (self.where_to()) }
        }
    }

    fn where_to(&self) -> Markup {
        html! {
            @match &self.hosts {
                (Some(host), 1) => a href=(paths::host(host.id)) { (host.name) },
                (_, 0) => "no host",
                (_, n) => (format::plural(*n, "host", "hosts")),
            }
            @if let Some(repo) = &self.repo_name { " · " (repo) }
        }
    }

    fn state(&self) -> Markup {
        html! {
            @if !self.schedule.enabled { (components::pill(Tone::Idle, "Paused")) }
            @else if !self.troubles.is_empty() { (components::pill(Tone::Bad, "Look at it")) }
            @else if self.behind > 0 { (components::pill(Tone::Warn, "Behind")) }
            @else if self.hosts.1 == 0 { (components::pill(Tone::Idle, "No host")) }
            @else { (components::pill(Tone::Ok, "In force")) }
        }
    }

    fn notes(&self) -> Markup {
        html! {
            @if self.behind > 0 {
                small.line { (behind_in_words(self.behind, self.hosts.1)) }
            }
            @for trouble in &self.troubles { small.line.bad-text { (trouble) } }
        }
    }

    fn actions(&self, shell: &Shell) -> Markup {
        let enabled = self.schedule.enabled;
        let (toggle, run) = match &self.source {
            Source::Plan(id, _) => (paths::plan_enabled(*id), None),
            Source::Own(id, _) => (paths::schedule_enabled(*id), Some(paths::schedule_run(*id))),
        };
        let button = |action, label, fields, aria| {
            PostButton { action, label, class: "", fields, needs: Role::Operator, aria }.render(shell)
        };
        let name = self.name();
        html! {
            .row.end {
                @if let Some(run) = run { (button(run, "Run now", vec![], format!("Run now: {name}"))) }
                @else if let (Some(host), 1, Source::Plan(plan, _)) = (&self.hosts.0, self.hosts.1, &self.source) {
                    (button(paths::host_run_backup(host.id), "Run now", vec![("plan_id", plan.to_string())], format!("Run now: {name}")))
                } @else if let Source::Plan(plan, _) = &self.source { a.btn href=(paths::plan(*plan)) { "Hosts" } }
                @let (label, value) = if enabled { ("Pause", "false") } else { ("Resume", "true") };
                (button(toggle, label, vec![("enabled", value.to_owned())], format!("{label}: {name}")))
                @if let Source::Own(id, _) = &self.source {
                    (Confirm {
                        id: format!("remove-{id}"),
                        action: paths::schedule_remove(*id),
                        label: "Remove",
                        question: format!("Remove this schedule: {name}?"),
                        consequence: "It makes no more jobs. Those that it made stay.".to_owned(),
                        typed: None,
                        needs: Role::Operator,
                    }.render(shell))
                }
            }
        }
    }
}

/// What a kind of scheduled job does.
#[must_use]
pub fn kind_in_words(kind: &JobKind) -> String {
    match kind {
        JobKind::Backup => "Backup of paths".to_owned(),
        JobKind::Check => "Check the repository".to_owned(),
        JobKind::Stats => "Measure the repository".to_owned(),
        JobKind::Snapshots => "List the snapshots".to_owned(),
        JobKind::Unlock => "Remove stale locks".to_owned(),
        JobKind::Forget => "Apply keep rules".to_owned(),
        JobKind::Prune => "Give back space".to_owned(),
        JobKind::Tamper => "Try whether hosts can delete".to_owned(),
        JobKind::Copy => "Copy snapshots to another repository".to_owned(),
        JobKind::Locks => "Look at the locks".to_owned(),
        JobKind::Find => "Search files".to_owned(),
        JobKind::Diff => "Compare two snapshots".to_owned(),
        JobKind::Tag => "Change tags of snapshots".to_owned(),
        JobKind::Repair => "Repair the repository".to_owned(),
        JobKind::Init => "Make the repository".to_owned(),
        other => other.as_str().to_owned(),
    }
}

/// How many of the hosts do not follow the newest set.
#[must_use]
pub fn behind_in_words(behind: u64, of: u64) -> String {
    let whom = match (behind, of) {
        (1, 1) => "Its host follows".to_owned(),
        (1, of) => format!("1 of {} hosts follows", format::count(of)),
        (n, of) => format!("{} of {} hosts follow", format::count(n), format::count(of)),
    };
    let who = if behind == 1 { "it gets" } else { "they get" };
    format!("{whom} an older version; {who} the new one when connected.")
}

/// A schedule's cron line and zone, as they are kept.
#[must_use]
pub fn cron_of(schedule: &Schedule) -> Markup {
    html! {
        code.cron { (schedule.cron) }
        @if schedule.jitter_s > 0 { " + up to " (crate::domain::schedule::preset::span(schedule.jitter_s)) }
    }
}

/// `/schedules`. POST `/schedules/{id}/enabled` and `/plans/{id}/enabled` with `enabled` (`true`, `false`), `/schedules/{id}/run`,
/// `/schedules/{id}/remove`; `csrf` each.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulesPage {
    /// Those that run next first.
    pub rows: Vec<ScheduleRow>,
}

impl Page for SchedulesPage {
    fn title(&self) -> String {
        "Schedules".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Schedules
    }

    fn body(&self, shell: &Shell) -> Markup {
        let may = shell.may(Role::Operator);
        let add = html! { @if may { a.btn.primary href=(route::SCHEDULE_NEW) { "Add a schedule" } } };
        html! {
            (components::headline("Schedules", &add))
            @if self.rows.is_empty() {
                (components::empty(
                    "Nothing runs by itself yet",
                    "Give a plan a schedule, and every host that it covers is backed up at its times, also while this server is away. \
                     Checks of a repository can be scheduled here.",
                    may.then_some((route::PLANS, "Go to the plans")),
                ))
            } @else {
                p.muted { "Backups are started by the hosts' agents, which know their schedules and need this server only to tell of it. Everything else is started from here." }
                section.card aria-label="Schedules" { ul.schedules { @for row in &self.rows { (item(shell, row)) } } }
            }
        }
    }
}

fn item(shell: &Shell, row: &ScheduleRow) -> Markup {
    let schedule = &row.schedule;
    let next = row.next.first().filter(|_| schedule.enabled);
    html! {
        li {
            .what {
                .row { (row.what()) (row.state()) }
                p { (format::sentence_case(&schedule.in_words())) }
                small { (cron_of(schedule)) @if row.side() == Side::Server { " · started by this server" } }
                (row.notes())
            }
            .next {
                @if let Some(next) = next {
                    (day_ahead(shell.now, &row.next, schedule.jitter_s))
                    p { "Next " (format::ago(shell.now, *next)) }
                    small { (format::in_zone(*next, &schedule.timezone)) }
                }
            }
            .last {
                @match &row.last {
                    Some(job) => {
                        a href=(paths::job(job.id)) { (components::job_pill(job.status)) }
                        small.line { "Last run " (format::ago(shell.now, job.finished_at.unwrap_or(job.created_at))) }
                    },
                    None => small { "Never ran" },
                }
            }
            (row.actions(shell))
        }
    }
}
