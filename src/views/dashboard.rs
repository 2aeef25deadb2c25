//! The dashboard: the answer first, the hosts that need someone right under it, then the numbers. All of it is one live
//! fragment that fetches itself every 10 seconds.

use maud::{Markup, html};

use crate::{
    domain::{JobId, PlanId, alert::Alert, user::Role},
    paths::{self, route},
    views::{
        Nav, Page, Shell, alerts,
        components::{self, HostRef, JobColumns, JobList, PostButton},
        format,
        hosts::{self, HostRow, Protection},
    },
};

/// Hosts drawn at most, so that the page stays small with a thousand of them.
const MAX_ROWS: usize = 50;
/// Needy hosts drawn at most.
const MAX_NEEDY: usize = 12;

/// A host that needs someone.
#[derive(Debug, Clone, PartialEq)]
pub struct Needy {
    /// Which one.
    pub host: HostRef,
    /// Its state.
    pub protection: Protection,
    /// What is wrong, in a sentence or two.
    pub reason: String,
    /// Its one button.
    pub remedy: Remedy,
}

/// What would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Back up now by this plan.
    BackUp(PlanId),
    /// Read what this job says.
    OpenJob(JobId),
    /// Look at the host (install restic, start the agent).
    OpenHost,
    /// Make a plan.
    MakePlan,
}

/// Numbers of the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Jobs of the last 24 hours that went well.
    pub fine: u64,
    /// Jobs of the last 24 hours with warnings.
    pub warnings: u64,
    /// Jobs of the last 24 hours that failed or were lost.
    pub failed: u64,
    /// Jobs that run now.
    pub running: u64,
    /// Jobs that wait now.
    pub queued: u64,
    /// Bytes that the hosts' last good backups cover.
    pub covered: u64,
    /// Bytes added to repositories in the last 24 hours.
    pub added: u64,
    /// Hosts whose agent found restic.
    pub with_restic: u64,
}

/// Live fragment: all of the dashboard.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DashboardLive {
    /// What is wrong with the control plane's own database or its copies, for admins.
    pub trouble: Option<String>,
    /// Hosts in all.
    pub hosts_total: u64,
    /// Hosts that are protected (a running or offline one with a good backup in time among them).
    pub protected: u64,
    /// Hosts that have no agent and no plan: they are not backed up, and nobody asked for that.
    pub without_agent: u64,
    /// Open alerts, the gravest first.
    pub alerts: Vec<Alert>,
    /// Those who need someone, the worst first.
    pub needy: Vec<Needy>,
    /// Numbers.
    pub stats: Stats,
    /// All hosts, the worst first ([`HostRow::sort_by_risk`]).
    pub rows: Vec<HostRow>,
    /// The latest jobs, ten or so.
    pub recent: JobList,
}

impl DashboardLive {
    /// The first line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (total, needy) = (self.hosts_total.saturating_sub(self.without_agent), self.needy.len() as u64);
        let besides = match (self.without_agent, total) {
            (0, _) => String::new(),
            (_, 0) => return "No host is backed up: none has an agent.".to_owned(),
            (1, _) => " 1 without an agent is not backed up.".to_owned(),
            (n, _) => format!(" {} without an agent are not backed up.", format::count(n)),
        };
        let need = if needy == 1 { "1 needs you".to_owned() } else { format!("{} need you", format::count(needy)) };
        let sentence = match (total, needy) {
            (0, _) => "Welcome. Three steps to the first backup.".to_owned(),
            (1, 0) => "Your host is protected.".to_owned(),
            (2, 0) => "Both hosts are protected.".to_owned(),
            (_, 0) => format!("All {} hosts are protected.", format::count(total)),
            (1, _) => "Your host needs you.".to_owned(),
            _ => format!(
                "{} of {} hosts {} protected. {need}.",
                format::count(self.protected),
                format::count(total),
                if self.protected == 1 { "is" } else { "are" }
            ),
        };
        sentence + &besides
    }

    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        html! {
            div #dashboard .stack.wide hx-get=(paths::dashboard_live()) hx-trigger="every 10s" hx-swap="outerHTML" data-calm {
                .row.between { h1 { (self.sentence()) } @if self.hosts_total > 0 { a.btn href=(route::RESTORE) { "Restore files…" } } }
                @if let Some(trouble) = &self.trouble { p.notice.bad { (trouble) " " a href=(route::SETTINGS_DATABASE) { "Open the settings" } } }
                (alerts::lines(&self.alerts))
                @if self.hosts_total == 0 {
                    (first_steps(shell))
                } @else {
                    @if !self.needy.is_empty() { (self.needy_list(shell)) }
                    (self.numbers(shell))
                    (self.hosts_card(shell))
                }
                @if !self.recent.rows.is_empty() {
                    section.card aria-labelledby="recent-title" {
                        header { h2 #recent-title { "Latest jobs" } a href=(route::JOBS) { "All jobs" } }
                        (components::job_table(shell, &self.recent, "Latest jobs", JobColumns::WithHost))
                    }
                }
            }
        }
    }

    fn needy_list(&self, shell: &Shell) -> Markup {
        let more = self.needy.len().saturating_sub(MAX_NEEDY);
        html! {
            ul.card.needs aria-label="Hosts that need you" {
                @for needy in self.needy.iter().take(MAX_NEEDY) {
                    li {
                        a.who href=(paths::host(needy.host.id)) { b { (needy.host.name) } }
                        span.why { (needy.reason) }
                        (needy.protection.pill())
                        (needy.button(shell))
                    }
                }
                @if more > 0 { li { a.who href=(route::HOSTS) { "and " (more) " more" } } }
            }
        }
    }

    fn numbers(&self, shell: &Shell) -> Markup {
        let s = self.stats;
        let total = s.fine + s.warnings + s.failed;
        let with_agent = self.hosts_total.saturating_sub(self.without_agent);
        let without = with_agent.saturating_sub(s.with_restic);
        html! {
            dl.stats aria-label="The fleet in numbers" {
                div { dt { "Last 24 hours" } dd.big { (format::plural(total, "job", "jobs")) }
                    dd { (s.fine) " fine · " (format::plural(s.warnings, "warning", "warnings")) " · " (s.failed) " failed" } }
                div { dt { "Running now" } dd.big { (format::count(s.running)) }
                    dd { @if s.queued > 0 { (s.queued) " waiting" } @else { "nothing waits" } } }
                div { dt { "Protected data" } dd.big { (format::bytes(s.covered)) } dd { (format::bytes(s.added)) " added in 24 hours" } }
                div { dt { "restic found on" } dd.big { (s.with_restic) " of " (with_agent) }
                    dd { @if without == 0 { "every host can back up" } @else { (format::plural(without, "host", "hosts")) " cannot back up" } } }
            }
            @if shell.counts.plans == 0 { p.notice.warn { "No plan says what to back up. " a href=(route::PLAN_NEW) { "Make the first plan" } } }
        }
    }

    fn hosts_card(&self, shell: &Shell) -> Markup {
        let shown = self.rows.len().min(MAX_ROWS);
        html! {
            section.card aria-labelledby="risk-title" {
                header { h2 #risk-title { "Hosts by risk" } small { "30 days, one square a day" } }
                (hosts::table(shell, &self.rows[..shown], "Hosts by risk"))
                @if self.rows.len() > shown {
                    p.pad { a href=(route::HOSTS) { "All " (format::count(self.hosts_total)) " hosts" } }
                }
            }
        }
    }
}

impl Needy {
    fn button(&self, shell: &Shell) -> Markup {
        let link = |href: &str, label: &str| html! { a.btn href=(href) aria-label=(format!("{label}: {}", self.host.name)) { (label) } };
        match self.remedy {
            Remedy::OpenJob(job) => link(&paths::job(job), "See why"),
            Remedy::OpenHost => link(&paths::host(self.host.id), "Open"),
            Remedy::MakePlan => link(route::PLAN_NEW, "Make a plan"),
            Remedy::BackUp(plan) => PostButton {
                action: paths::host_run_backup(self.host.id),
                label: "Back up now",
                class: "primary",
                fields: vec![("plan_id", plan.to_string())],
                needs: Role::Operator,
                aria: format!("Back up {} now", self.host.name),
            }
            .render(shell),
        }
    }
}

/// What a new installation needs, and what of it is there.
fn first_steps(shell: &Shell) -> Markup {
    let steps = [
        (
            shell.counts.repos > 0,
            route::REPO_NEW,
            "Add a repository",
            "Where backups go: a restic REST server, S3, SFTP or a folder.",
        ),
        (
            shell.counts.hosts > 0,
            route::HOST_NEW,
            "Add a host",
            "You get one command to run on the machine. This page notices when its agent arrives.",
        ),
        (shell.counts.plans > 0, route::PLAN_NEW, "Make a plan", "What to back up, where to, and what to keep."),
    ];
    let next = steps.iter().position(|(done, ..)| !done);
    html! {
        ol.card.steps {
            @for (i, (done, href, label, text)) in steps.into_iter().enumerate() {
                li {
                    div { b { (label) } p.muted { (text) } }
                    @if done { (components::pill(components::Tone::Ok, "Done")) }
                    @else { a.btn.primary[next == Some(i)] href=(href) { (label) } }
                }
            }
        }
    }
}

/// `/`.
#[derive(Debug, Clone, PartialEq)]
pub struct DashboardPage {
    /// Its content.
    pub live: DashboardLive,
}

impl Page for DashboardPage {
    fn title(&self) -> String {
        match self.live.needy.len() {
            0 => "Dashboard".to_owned(),
            n => format!("({n}) Dashboard"),
        }
    }

    fn nav(&self) -> Nav {
        Nav::Dashboard
    }

    fn body(&self, shell: &Shell) -> Markup {
        self.live.render(shell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::HostId;

    fn fleet(total: u64, needy: u64) -> String {
        let one = |n: u64| Needy {
            host: HostRef { id: HostId::from_parts(n, 1), name: format!("h{n}") },
            protection: Protection::Late,
            reason: String::new(),
            remedy: Remedy::OpenHost,
        };
        let needy: Vec<Needy> = (0..needy).map(one).collect();
        DashboardLive { hosts_total: total, protected: total - needy.len() as u64, needy, ..Default::default() }
            .sentence()
    }

    #[test]
    fn the_first_line_is_the_answer() {
        assert_eq!(fleet(42, 0), "All 42 hosts are protected.");
        assert_eq!(fleet(42, 3), "39 of 42 hosts are protected. 3 need you.");
        assert_eq!(fleet(2, 1), "1 of 2 hosts is protected. 1 needs you.");
        assert_eq!(fleet(1, 0), "Your host is protected.");
        assert!(fleet(0, 0).starts_with("Welcome"));
        let mixed = DashboardLive { hosts_total: 5, protected: 3, without_agent: 2, ..Default::default() };
        assert_eq!(mixed.sentence(), "All 3 hosts are protected. 2 without an agent are not backed up.");
        let bare = DashboardLive { hosts_total: 2, without_agent: 2, ..Default::default() };
        assert_eq!(bare.sentence(), "No host is backed up: none has an agent.");
    }
}
