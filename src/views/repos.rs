//! Repositories: where backups go. A stored secret is never shown, only that it is set.

mod connection;
mod form;
pub mod health;
mod operations;
mod repair;
mod upkeep;

pub use connection::Connection;
pub use form::{AddRepoPage, EditRepoPage, GIB};
pub use operations::{Offer, OperationsPage};
pub use repair::RepairPage;
pub use upkeep::UpkeepCard;

use maud::{Markup, html};

use crate::{
    domain::{Timestamp, health::Report, plan::Plan, repo::Repo, schedule::OwnSchedule, user::Role},
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, Confirm, JobColumns, JobList, Tone},
        format,
        schedules::kind_in_words,
    },
};

/// A repository in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct RepoRow {
    /// The repository.
    pub repo: Repo,
    /// Plans that use it.
    pub plans: u64,
    /// End of the last good backup into it.
    pub last_backup: Option<Timestamp>,
    /// Bytes that backups added to it, as far as Flotilla saw.
    pub added: u64,
}

/// `/repos`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReposPage {
    /// All of them.
    pub rows: Vec<RepoRow>,
}

/// Whether endpoints can delete, as a pill.
fn deletion_pill(repo: &Repo) -> Markup {
    if repo.append_only {
        components::pill(Tone::Ok, "Append-only")
    } else {
        components::pill(Tone::Warn, "Hosts can delete")
    }
}

impl Page for ReposPage {
    fn title(&self) -> String {
        "Repositories".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let admin = shell.may(Role::Admin);
        let add = html! { @if admin { a.btn.primary href=(route::REPO_NEW) { "Add a repository" } } };
        html! {
            (components::headline("Repositories", &add))
            @if self.rows.is_empty() {
                (components::empty(
                    "No repositories yet",
                    "A repository is where restic keeps backups, encrypted: on a REST server, in S3, over SFTP or in a folder. Hosts write to it directly.",
                    admin.then_some((route::REPO_NEW, "Add the first repository")),
                ))
            } @else {
                section.card aria-label="Repositories" { .scroll { table.cards {
                    caption.vh { "Repositories" }
                    thead { tr {
                        th scope="col" { "Repository" } th.hide-s scope="col" { "Address" } th scope="col" { "Deletion" }
                        th.num.hide-s scope="col" { "Plans" } th.hide-s scope="col" { "Last backup" } th.num.hide-s scope="col" { "Added" }
                    } }
                    tbody { @for row in &self.rows { tr {
                        td.first { a href=(paths::repo(row.repo.id)) { b { (row.repo.name) } } }
                        td.hide-s { code { (row.repo.url) } }
                        td { (deletion_pill(&row.repo)) }
                        td.num.hide-s { (row.plans) }
                        td.hide-s { @match row.last_backup { Some(at) => (format::ago(shell.now, at)), None => "—" } }
                        td.num.hide-s { (format::bytes(row.added)) }
                    } } }
                } } }
            }
        }
    }
}

/// `/repos/{id}`. POST `/repos/{id}/remove` with `confirm` (the repository's name), `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct RepoPage {
    /// The repository.
    pub repo: Repo,
    /// Plans that use it, also for second copies: while there are any, it cannot be removed.
    pub plans: Vec<Plan>,
    /// Schedules that work on it without a plan, or copy to it: as plans do, they keep it.
    pub schedules: Vec<OwnSchedule>,
    /// Its latest jobs.
    pub jobs: JobList,
    /// How it is.
    pub health: Report,
    /// What is done for it by schedule.
    pub upkeep: UpkeepCard,
    /// The last test of its connection.
    pub connection: Connection,
    /// Where forget, prune, tag and repair run.
    pub keeper: String,
}

impl RepoPage {
    fn facts(&self) -> Markup {
        let repo = &self.repo;
        let secrets = if repo.secrets_set.is_empty() { "none".to_owned() } else { repo.secrets_set.join(", ") };
        html! {
            section.card.pad aria-label="Facts" {
                (components::facts(&[
                    ("Address", html! { code { (repo.url) } }),
                    ("User", html! { (repo.username.as_deref().unwrap_or("—")) }),
                    ("Secrets that are set", html! { (secrets) }),
                    ("Certificate authority", html! { (if repo.tls_ca_pem.is_some() { "its own" } else { "the system's" }) }),
                    ("Created by the first backup", html! { (if repo.init { "if it does not exist" } else if repo.upkeep.imported { "no: taken over as it was" } else { "no" }) }),
                    ("Maintenance", html! { (self.keeper) }),
                    ("May grow to", html! { @match repo.upkeep.size_limit { Some(bytes) => (format::bytes(bytes)), None => "no limit" } }),
                    ("Added", format::moment(repo.created_at)),
                ]))
            }
            @if !repo.append_only {
                .notice.warn { p {
                    b { "Its hosts can delete. " }
                    "Someone who takes over a host could remove the backups of all hosts in this repository. Use append-only credentials (for instance rest-server --append-only) where you can."
                } }
            }
        }
    }

    /// What keeps it from being removed, with its verb.
    fn users(&self) -> String {
        let (plans, schedules) = (self.plans.len() as u64, self.schedules.len() as u64);
        match (plans, schedules) {
            (_, 0) => format::plural(plans, "plan uses", "plans use"),
            (0, _) => format::plural(schedules, "schedule uses", "schedules use"),
            _ => format!(
                "{} and {} use",
                format::plural(plans, "plan", "plans"),
                format::plural(schedules, "schedule", "schedules")
            ),
        }
    }

    fn removal(&self, shell: &Shell) -> Markup {
        let name = &self.repo.name;
        html! {
            section.card.danger-zone aria-label="Remove" { ul.list { li {
                .grow {
                    b { "Remove from Flotilla" }
                    p.muted { "Flotilla forgets the address and its secrets. The repository itself and its snapshots stay; its password is then only where you kept a copy." }
                }
                @if self.plans.is_empty() && self.schedules.is_empty() {
                    (Confirm {
                        id: "remove".to_owned(),
                        action: paths::repo_remove(self.repo.id),
                        label: "Remove the repository",
                        question: format!("Remove {name} from Flotilla?"),
                        consequence: format!("The password of {name} is deleted here. Without a copy of it nobody can read the snapshots. The data itself is not touched."),
                        typed: Some(name),
                        needs: Role::Admin,
                    }.render(shell))
                } @else {
                    small { "Not while " (self.users()) " it" }
                }
            } } }
        }
    }
}

impl Page for RepoPage {
    fn title(&self) -> String {
        self.repo.name.clone()
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(route::REPOS) { "Repositories" } }
                .row {
                    h1 { (self.repo.name) } (deletion_pill(&self.repo))
                    a.btn href=(paths::repo_snapshots(self.repo.id)) { "Snapshots" }
                    a.btn href=(paths::repo_operations(self.repo.id)) { "Operations" }
                    @if shell.may(Role::Admin) { a.btn href=(paths::repo_edit(self.repo.id)) { "Change" } }
                    a.btn href=(paths::restore_of_repo(self.repo.id)) { "Restore…" }
                }
            }
            (health::section(shell, &self.health))
            (self.facts())
            (self.upkeep.render(shell, self.repo.id))
            (self.connection.render(shell))
            section.card aria-labelledby="plans-title" {
                header { h2 #plans-title { "Plans that use it" } }
                @if self.plans.is_empty() { p.pad { "None. " a href=(route::PLAN_NEW) { "Make a plan" } } }
                @else { ul.list { @for plan in &self.plans { li { .grow { a href=(paths::plan(plan.id)) { b { (plan.name) } } @if plan.repo_id != self.repo.id { " for second copies" } p.muted { (plan.paths.join(", ")) } } } } } }
            }
            @if !self.schedules.is_empty() {
                section.card aria-labelledby="schedules-title" {
                    header { h2 #schedules-title { "Schedules that work on it" } a href=(route::SCHEDULES) { "All schedules" } }
                    ul.list { @for own in &self.schedules {
                        li { .grow {
                            b { (kind_in_words(&own.kind)) } @if own.repo_id != Some(self.repo.id) { " to it" } " on " a href=(paths::host(own.host_id)) { (own.host_name) }
                            p.muted { (format::sentence_case(&own.standing.schedule.in_words())) }
                        } }
                    } }
                }
            }
            @if !self.jobs.rows.is_empty() {
                section.card aria-labelledby="jobs-title" {
                    header { h2 #jobs-title { "Latest jobs" } }
                    (components::job_table(shell, &self.jobs, "Latest jobs on this repository", JobColumns::WithHost))
                }
            }
            (self.removal(shell))
        }
    }
}
