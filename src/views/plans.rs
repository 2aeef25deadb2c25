//! Plans: what is backed up, where to, and what is kept.

mod edit;
pub mod hooks;
mod preview;

use maud::{Markup, html};

pub use edit::{PlanChoices, PlanForm, PlanNewPage};
pub use hooks::HookRows;
pub use preview::PlanPreview;

use crate::{
    domain::{Compression, Timestamp, job::Job, plan::Plan, retention, second_copy::Behind, user::Role},
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, Confirm, HostRef, JobColumns, JobList, PostButton},
        format,
        schedules::{UpcomingRuns, behind_in_words, cron_of},
        snapshots::filename::plain,
    },
};

/// A plan in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanRow {
    /// The plan.
    pub plan: Plan,
    /// How many hosts it covers now.
    pub covered: u64,
    /// Its latest job anywhere.
    pub last: Option<Job>,
}

/// `/plans`.
#[derive(Debug, Clone, PartialEq)]
pub struct PlansPage {
    /// All of them.
    pub rows: Vec<PlanRow>,
}

impl Page for PlansPage {
    fn title(&self) -> String {
        "Plans".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Plans
    }

    fn body(&self, shell: &Shell) -> Markup {
        let may = shell.may(Role::Operator);
        let add = html! { @if may { a.btn.primary href=(route::PLAN_NEW) { "Make a plan" } } };
        html! {
            (components::headline("Plans", &add))
            @if self.rows.is_empty() {
                (components::empty(
                    "No plans yet",
                    "A plan says what to back up, from which hosts, into which repository, and what to keep.",
                    may.then_some((route::PLAN_NEW, "Make the first plan")),
                ))
            } @else {
                section.card aria-label="Plans" { .scroll { table.cards {
                    caption.vh { "Plans" }
                    thead { tr {
                        th scope="col" { "Plan" } th scope="col" { "Last run" } th.num scope="col" { "Hosts" } th.hide-s scope="col" { "To" }
                        th.hide-s scope="col" { "What" } th.hide-m scope="col" { "When" } th.hide-m scope="col" { "Keep" }
                    } }
                    tbody { @for row in &self.rows { tr {
                        td.title { a href=(paths::plan(row.plan.id)) { b { (row.plan.name) } } }
                        td { @match &row.last {
                            Some(job) => a href=(paths::job(job.id)) { (components::job_pill(job.status)) },
                            None => "never",
                        } }
                        td.num { (row.covered) span.show-s { " " @if row.covered == 1 { "host" } @else { "hosts" } } }
                        td.hide-s { a href=(paths::repo(row.plan.repo_id)) { (row.plan.repo_name) } }
                        td.hide-s { span.cut { (plain(&row.plan.paths.join(", "))) } }
                        td.hide-m { (when_in_words(&row.plan)) }
                        td.hide-m { (retention::in_words(&row.plan.retention)) }
                    } } }
                } } }
            }
        }
    }
}

/// `/plans/{id}`. POST `/plans/{id}` as [`PlanForm`]; POST `/plans/{id}/remove` with `confirm` (the plan's name), `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanPage {
    /// The plan.
    pub plan: Plan,
    /// Hosts it covers now.
    pub covered: Vec<HostRef>,
    /// Its latest jobs.
    pub jobs: JobList,
    /// The next moments of its schedule; none while it is paused.
    pub upcoming: Vec<Timestamp>,
    /// Hosts whose agent follows an older schedule.
    pub behind: u64,
    /// The latest copy of a snapshot to the second repository.
    pub last_copy: Option<Job>,
    /// Snapshots that have none, where a copy failed.
    pub copies_behind: Option<Behind>,
    /// `?tab=edit`, or a refused change: the form instead of the overview.
    pub edit: Option<PlanForm>,
}

/// When a plan runs, in a few words.
fn when_in_words(plan: &Plan) -> String {
    match &plan.schedule {
        Some(standing) if standing.schedule.enabled => format::sentence_case(&standing.schedule.in_words()),
        Some(_) => "Paused".to_owned(),
        None => "By hand only".to_owned(),
    }
}

/// A plan in a sentence.
#[must_use]
pub fn in_words(plan: &Plan, covered: usize) -> String {
    format!(
        "Backs up {} of {} to {} and is to keep {}.",
        if plan.paths.is_empty() { "nothing".to_owned() } else { plain(&plan.paths.join(", ")) },
        format::plural(covered as u64, "host", "hosts"),
        plan.repo_name,
        retention::in_words(&plan.retention),
    )
}

impl PlanPage {
    fn overview(&self, shell: &Shell) -> Markup {
        let plan = &self.plan;
        let list = |items: &[String]| html! { @if items.is_empty() { "—" } @else { @for item in items { code.line { (item) } } } };
        html! {
            p.lead { (in_words(plan, self.covered.len())) }
            (self.copy_notice(shell))
            .cols {
                .stack.wide { (self.when_card(shell)) (self.hosts_card(shell)) (self.jobs_card(shell)) }
                section.card.pad aria-label="Facts" {
                    (components::facts(&[
                        ("Repository", html! { a href=(paths::repo(plan.repo_id)) { (plan.repo_name) } }),
                        ("Second copy", html! { @match &plan.second_repo {
                            None => "—",
                            Some((id, name)) => {
                                a href=(paths::repo(*id)) { (name) }
                                @match &self.last_copy {
                                    Some(job) => small.line { "last copy: " a href=(paths::job(job.id)) { (components::job_pill(job.status)) } },
                                    None => small.line { "nothing was copied yet" },
                                }
                            },
                        } }),
                        ("Paths", match &plan.options.stdin_command {
                            Some(command) => html! { "the output of " code { (command) } @if let Some(file) = &plan.options.stdin_filename { ", as " code { (file) } } },
                            None => list(&plan.paths),
                        }),
                        ("Excludes", list(&plan.excludes)),
                        ("Options", html! { (options_in_words(plan)) }),
                        ("Hooks", hooks::lines(&plan.hooks)),
                        ("Keep", html! {
                            (retention::in_words(&plan.retention))
                            @if !plan.retention.keeps_all() { small.line { "Applied by the " a href=(paths::repo_retention(plan.repo_id)) { "upkeep of the repository" } } }
                        }),
                        ("Tags covered", html! { @if plan.tags.is_empty() { "—" } @else { (components::tags(&plan.tags)) } }),
                        ("Made", format::moment(plan.created_at)),
                    ]))
                }
            }
            (self.removal(shell))
        }
    }

    fn when_card(&self, shell: &Shell) -> Markup {
        let id = self.plan.id;
        html! {
            section.card aria-labelledby="when-title" {
                @match self.plan.schedule.as_ref().map(|standing| &standing.schedule) {
                    None => {
                        header { h2 #when-title { "When" } }
                        p.pad { "It has no schedule, so it runs only when somebody starts it. " a href=(paths::plan_edit(id)) { "Give it one" } }
                    },
                    Some(schedule) => {
                        header { h2 #when-title { (format::sentence_case(&schedule.in_words())) } small { (cron_of(schedule)) } }
                        @if !schedule.enabled { p.notice.flat.idle { b { "Paused. " } "It makes no jobs until it is resumed." } }
                        @if self.behind > 0 && schedule.enabled { p.notice.flat.warn { (behind_in_words(self.behind, self.covered.len() as u64)) } }
                        @if !self.upcoming.is_empty() { (UpcomingRuns { schedule, moments: &self.upcoming }.render()) }
                        .pad {
                            @let (label, value) = if schedule.enabled { ("Pause the schedule", "false") } else { ("Resume the schedule", "true") };
                            (PostButton {
                                action: paths::plan_enabled(id),
                                label,
                                class: "",
                                fields: vec![("enabled", value.to_owned()), ("from_plan", "true".to_owned())],
                                needs: Role::Operator,
                                aria: String::new(),
                            }.render(shell))
                        }
                    },
                }
            }
        }
    }

    /// A copy that failed must not hide behind backups that go well.
    fn copy_notice(&self, shell: &Shell) -> Markup {
        html! {
            @if let Some(behind) = &self.copies_behind {
                .notice.bad role="status" {
                    p { b { (behind.happened()) "." } " The oldest was made " (format::ago(shell.now, behind.since)) "." }
                    p { (behind.why()) }
                    p {
                        @if let (Some(next), false) = (behind.next_at, behind.under_way) { "Tried again at " (format::moment(next)) ". " }
                        @if let Some(job) = &self.last_copy { a href=(paths::job(job.id)) { "The last copy" } " can be run again by hand." }
                    }
                }
            }
        }
    }

    fn hosts_card(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="covered-title" {
                header { h2 #covered-title { "Hosts" } }
                @if self.covered.is_empty() { p.pad { "It covers no host, so it never runs. Name hosts or tags under “Change”." } }
                ul.list { @for host in &self.covered {
                    li {
                        .grow { a href=(paths::host(host.id)) { b { (host.name) } } }
                        (PostButton {
                            action: paths::host_run_backup(host.id),
                            label: "Back up now",
                            class: "",
                            fields: vec![("plan_id", self.plan.id.to_string())],
                            needs: Role::Operator,
                            aria: format!("Back up {} now", host.name),
                        }.render(shell))
                    }
                } }
            }
        }
    }

    fn jobs_card(&self, shell: &Shell) -> Markup {
        html! {
            @if !self.jobs.rows.is_empty() {
                section.card aria-labelledby="jobs-title" {
                    header { h2 #jobs-title { "Latest jobs" } }
                    (components::job_table(shell, &self.jobs, "Latest jobs of this plan", JobColumns::WithHost))
                }
            }
        }
    }

    fn removal(&self, shell: &Shell) -> Markup {
        let name = &self.plan.name;
        html! {
            section.card.danger-zone aria-label="Remove" { ul.list { li {
                .grow { b { "Remove the plan" } p.muted { "Its hosts are no longer backed up by it. Snapshots and past jobs stay." } }
                (Confirm {
                    id: "remove".to_owned(),
                    action: paths::plan_remove(self.plan.id),
                    label: "Remove the plan",
                    question: format!("Remove the plan {name}?"),
                    consequence: format!("{} lose this plan. Snapshots that it made stay in {}.", format::plural(self.covered.len() as u64, "host", "hosts"), self.plan.repo_name),
                    typed: Some(name),
                    needs: Role::Operator,
                }.render(shell))
            } } }
        }
    }
}

fn options_in_words(plan: &Plan) -> String {
    let o = &plan.options;
    let mut words = Vec::new();
    if o.one_file_system {
        words.push("one file system".to_owned());
    }
    if o.exclude_caches {
        words.push("without caches".to_owned());
    }
    if o.log_files {
        words.push("every file in the log".to_owned());
    }
    if o.limit_upload_kib > 0 {
        words.push(format!("upload {} KiB/s at most", format::count(o.limit_upload_kib.into())));
    }
    if o.limit_download_kib > 0 {
        words.push(format!("download {} KiB/s at most", format::count(o.limit_download_kib.into())));
    }
    let flags = [
        (o.skip_if_unchanged, "no snapshot where nothing changed"),
        (o.no_scan, "no count beforehand"),
        (o.io_idle, "reads only when the disk is idle"),
        (o.shadow_copy, "from a shadow copy (Windows)"),
        (o.compression == Some(Compression::Off), "no compression"),
        (o.compression == Some(Compression::Max), "compression as high as it goes"),
    ];
    words.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, text)| text.to_owned()));
    words.extend(o.nice.map(|nice| format!("nice {nice}")));
    words.extend(o.read_concurrency.map(|n| format!("{} at a time", format::plural(n.into(), "file", "files"))));
    words.extend(o.exclude_larger_than.as_ref().map(|size| format!("nothing over {size}")));
    if !o.exclude_files.is_empty() {
        words.push(format!("patterns of {}", o.exclude_files.join(", ")));
    }
    if !o.backup_tags.is_empty() {
        words.push(format!("snapshot tags {}", o.backup_tags.join(", ")));
    }
    if words.is_empty() { "—".to_owned() } else { words.join(", ") }
}

impl Page for PlanPage {
    fn title(&self) -> String {
        self.plan.name.clone()
    }

    fn nav(&self) -> Nav {
        Nav::Plans
    }

    fn body(&self, shell: &Shell) -> Markup {
        let id = self.plan.id;
        html! {
            div { small { a href=(route::PLANS) { "Plans" } } h1 { (self.plan.name) } }
            (components::tabs("Plan", &[
                (paths::plan(id), "Overview", self.edit.is_none()),
                (paths::plan_edit(id), "Change", self.edit.is_some()),
            ]))
            @match &self.edit {
                Some(form) => (form.render(shell, &paths::plan(id), "Save")),
                None => (self.overview(shell)),
            }
        }
    }
}
