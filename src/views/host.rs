//! A host's page: overview, jobs, settings.

pub mod health;
mod overview;
mod schedules;
mod settings;

use maud::{Markup, html};

use crate::{
    domain::{
        RepoId, Timestamp, Trouble,
        host::{Host, HostStatus},
        job::Job,
        plan::Plan,
        schedule::{Schedule, Side},
        site::Site,
        snapshot::Snapshot,
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::{self, DayState, JobColumns, JobList},
        hosts::Protection,
        reach::{self, TestPanel, Ways},
        runbooks::OffersTab,
        sites, snapshots,
        status::StatusCard,
    },
};

/// Which tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostTab {
    /// `?tab=overview`, the default.
    #[default]
    Overview,
    /// `?tab=snapshots`
    Snapshots,
    /// `?tab=operations`
    Operations,
    /// `?tab=health`
    Health,
    /// `?tab=jobs`
    Jobs,
    /// `?tab=settings`
    Settings,
    /// `?tab=sites`
    Sites,
}

impl HostTab {
    /// From the query; what is not known is the overview.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text {
            "snapshots" => Self::Snapshots,
            "operations" => Self::Operations,
            "health" => Self::Health,
            "jobs" => Self::Jobs,
            "settings" => Self::Settings,
            "sites" => Self::Sites,
            _ => Self::Overview,
        }
    }
}

/// What the agent's last heartbeat said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vitals {
    /// Load averages over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Available and total bytes of memory.
    pub mem: Option<(u64, u64)>,
    /// Mount point, free and total bytes.
    pub disks: Vec<(String, u64, u64)>,
    /// What the agent says is wrong, in its own words.
    pub troubles: Vec<Trouble>,
}

/// A schedule that runs on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSchedule {
    /// What people call it.
    pub name: String,
    /// When, by its cron.
    pub schedule: Schedule,
    /// Who ticks it.
    pub side: Side,
    /// When it fires next here, jitter included; `None` while it is paused.
    pub fires_at: Option<Timestamp>,
    /// Why the agent cannot follow it.
    pub rejected: Option<String>,
    /// Why it does not run while the server is away.
    pub unarmed: Option<String>,
}

/// A plan that covers the host.
#[derive(Debug, Clone, PartialEq)]
pub struct CoveringPlan {
    /// The plan.
    pub plan: Plan,
    /// Its last job here.
    pub last: Option<Job>,
}

/// `/hosts/{id}?tab=`.
///
/// POST targets and their fields, `csrf` apart:
/// - `run-backup`: `plan_id`; or `repo_id` and `paths` (one a line) for a backup without a plan
/// - `restore`: `repo_id`, `snapshot` (`latest` or an id), `paths` (one a line, may be empty), `target` (a folder), `overwrite`
///   (`never`, `if-newer`, `if-changed`, `always`), `confirm` (the host's name, where the target is `/`)
/// - `settings`: `name`, `tags` (separated by commas or spaces)
/// - `reach`, `test`, `ssh/trust`: see [`reach`]
/// - `revoke`, `remove`: `confirm` (the host's name)
#[derive(Debug, Clone, PartialEq)]
pub struct HostPage {
    /// The host.
    pub host: Host,
    /// Whether its agent is here.
    pub status: HostStatus,
    /// How well it is protected.
    pub protection: Protection,
    /// Which tab is open.
    pub tab: HostTab,
    /// The last 30 days (UTC), today last.
    pub strip: [DayState; 30],
    /// What the last heartbeat said, where the agent is here.
    pub vitals: Option<Vitals>,
    /// Plans that cover it.
    pub plans: Vec<CoveringPlan>,
    /// What runs here by itself.
    pub schedules: Vec<HostSchedule>,
    /// Version of the schedules that its agent is to follow, and the one that it follows.
    pub schedule_versions: (u64, u64),
    /// All repositories, for a restore and a backup without a plan.
    pub repos: Vec<(RepoId, String)>,
    /// Its latest jobs: five for the overview, a page for the tab.
    pub jobs: JobList,
    /// Its snapshots, where their tab is open, newest first.
    pub snapshots: Vec<Snapshot>,
    /// What can be run here, where its tab is open.
    pub offers: OffersTab,
    /// The address of older ones.
    pub older_snapshots: Option<String>,
    /// How it is by its last check of status.
    pub status_card: StatusCard,
    /// Its health, where that tab is open.
    pub health: health::HealthTab,
    /// What lives on it, where that tab is open.
    pub sites: Vec<Site>,
    /// What was typed for a restore.
    pub restore_form: FormState,
    /// What was typed for a backup without a plan.
    pub once_form: FormState,
    /// The ways to it besides its agent.
    pub ways: Ways,
    /// What the test of them that was just asked for came to.
    pub tested: Option<TestPanel>,
    /// What was typed about them, without secrets.
    pub reach_form: FormState,
    /// What was typed in the settings. Untouched: the host's own values are shown.
    pub settings_form: FormState,
}

impl HostPage {
    fn jobs_tab(&self, shell: &Shell) -> Markup {
        let all = paths::with_query(route::JOBS, &[("host", &self.host.id.to_string())]);
        html! {
            @if self.jobs.rows.is_empty() {
                (components::empty("No jobs yet", "Every backup, restore and check of this host will be listed here, with its whole log.", None))
            } @else {
                section.card aria-labelledby="jobs-title" {
                    header { h2 #jobs-title { "Jobs" } a href=(all) { "Filter and page" } }
                    (components::job_table(shell, &self.jobs, "Jobs of this host", JobColumns::WithoutHost))
                }
            }
        }
    }
}

impl Page for HostPage {
    fn title(&self) -> String {
        self.host.name.clone()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let id = self.host.id;
        let tab = |name, label, tab| (paths::host_tab(id, name), label, self.tab == tab);
        html! {
            div {
                small { a href=(route::HOSTS) { "Hosts" } }
                .row {
                    h1 { (self.host.name) }
                    @if self.host.own { (components::host_pill(self.status)) } @else { (reach::pills(&self.ways.reach)) }
                    @if self.protection != Protection::Offline && !self.host.own { (self.protection.pill()) }
                    (components::tags(&self.host.tags))
                }
            }
            (components::tabs("Host", &[
                tab("overview", "Overview", HostTab::Overview),
                tab("snapshots", "Snapshots", HostTab::Snapshots),
                tab("operations", "Operations", HostTab::Operations),
                tab("health", "Health", HostTab::Health),
                tab("jobs", "Jobs", HostTab::Jobs),
                tab("sites", "Sites", HostTab::Sites),
            ].into_iter().chain((!self.host.own).then(|| tab("settings", "Settings", HostTab::Settings))).collect::<Vec<_>>()))
            @if self.host.own {
                .notice { p { b { "Flotilla's own agent on the server. " } "It tests repositories, looks after them, and restores where no host can. It is not counted as one of the hosts, and belongs to the server." } }
            }
            @match self.tab {
                HostTab::Overview => (self.overview(shell)),
                HostTab::Snapshots => (snapshots::of_host(shell, &self.snapshots, self.older_snapshots.as_deref())),
                HostTab::Operations => (self.offers.render(shell, self.host.id)),
                HostTab::Health => (self.health_tab(shell)),
                HostTab::Jobs => (self.jobs_tab(shell)),
                HostTab::Sites => (sites::of_host(shell, id, &self.sites)),
                HostTab::Settings if self.host.own => {},
                HostTab::Settings => (self.settings(shell)),
            }
        }
    }
}
