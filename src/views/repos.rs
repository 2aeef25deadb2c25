//! Repositories: where backups go. A stored secret is never shown, only that it is set.

use maud::{Markup, html};

use crate::{
    domain::{Timestamp, job::Job, plan::Plan, repo::Repo, user::Role},
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::{self, Confirm, JobColumns, Tone},
        form::{self, Field, Form},
        format,
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
                section.card aria-label="Repositories" { .scroll { table {
                    caption.vh { "Repositories" }
                    thead { tr {
                        th scope="col" { "Repository" } th.hide-s scope="col" { "Address" } th scope="col" { "Deletion" }
                        th.num.hide-s scope="col" { "Plans" } th.hide-s scope="col" { "Last backup" } th.num.hide-s scope="col" { "Added" }
                    } }
                    tbody { @for row in &self.rows { tr {
                        td { a href=(paths::repo(row.repo.id)) { b { (row.repo.name) } } }
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
    /// Plans that use it: while there are any, it cannot be removed.
    pub plans: Vec<Plan>,
    /// Its latest jobs.
    pub jobs: Vec<Job>,
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
                    ("Created by the first backup", html! { (if repo.init { "if it does not exist" } else { "no" }) }),
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

    fn removal(&self, shell: &Shell) -> Markup {
        let name = &self.repo.name;
        html! {
            section.card.danger-zone aria-label="Remove" { ul.list { li {
                .grow {
                    b { "Remove from Flotilla" }
                    p.muted { "Flotilla forgets the address and its secrets. The repository itself and its snapshots stay; its password is then only where you kept a copy." }
                }
                @if self.plans.is_empty() {
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
                    small { "Not while " (format::plural(self.plans.len() as u64, "plan uses", "plans use")) " it" }
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
                .row { h1 { (self.repo.name) } (deletion_pill(&self.repo)) }
            }
            (self.facts())
            section.card aria-labelledby="plans-title" {
                header { h2 #plans-title { "Plans that back up to it" } }
                @if self.plans.is_empty() { p.pad { "None. " a href=(route::PLAN_NEW) { "Make a plan" } } }
                @else { ul.list { @for plan in &self.plans { li { .grow { a href=(paths::plan(plan.id)) { b { (plan.name) } } p.muted { (plan.paths.join(", ")) } } } } } }
            }
            @if !self.jobs.is_empty() {
                section.card aria-labelledby="jobs-title" {
                    header { h2 #jobs-title { "Latest jobs" } }
                    (components::job_table(shell, &self.jobs, "Latest jobs on this repository", JobColumns::WithHost))
                }
            }
            (self.removal(shell))
        }
    }
}

/// `/repos/new`. POST `/repos/new` with fields named as in the API: `name`, `url`, `password`, `auth.username`, `auth.password`,
/// `env_name` and `env_value` (each as often as there are rows; a row without a name counts as absent), `tls_ca_pem`, `append_only` (`true` when ticked),
/// `init` (`true` when ticked), `csrf`. Errors of `env.NAME` are shown at the environment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddRepoPage {
    /// What was typed.
    pub form: FormState,
}

impl AddRepoPage {
    fn addresses() -> Markup {
        html! {
            details {
                summary { "How addresses look" }
                ul.muted {
                    li { "REST server: " code { "rest:https://backup.example.org:8000/web-1/" } }
                    li { "S3: " code { "s3:https://s3.example.org/bucket/path" } ", with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY below" }
                    li { "SFTP: " code { "sftp:user@host:/srv/restic" } ", with the host's own SSH key" }
                    li { "A folder on the host itself: " code { "/srv/restic" } }
                }
            }
        }
    }

    fn environment(form: &Form<'_>, state: &FormState) -> Markup {
        html! {
            fieldset {
                legend { "More for restic's environment " span.muted { "optional" } }
                p { small { "For S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Values are sealed like passwords." } }
                @for row in 0..2 {
                    .pair {
                        input name="env_name" type="text" autocomplete="off" spellcheck="false" aria-label=(format!("Name of variable {}", row + 1)) placeholder="NAME";
                        input name="env_value" type="password" autocomplete="new-password" aria-label=(format!("Value of variable {}", row + 1)) placeholder="value";
                    }
                }
                @if let Some(error) = state.error("env") { p.error { (error) } }
                (form.lines(&Field::text("tls_ca_pem", "Certificate authority (PEM)").placeholder("-----BEGIN CERTIFICATE-----").hint("Only for a server whose certificate the hosts would not trust by themselves."), 3))
            }
        }
    }
}

impl Page for AddRepoPage {
    fn title(&self) -> String {
        "Add a repository".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let form = Form::new("repo", &self.form);
        html! {
            div { small { a href=(route::REPOS) { "Repositories" } } h1 { "Add a repository" } }
            form.card.pad.stack method="post" action=(route::REPO_NEW) {
                (shell.csrf_field())
                (form.errors(&["name", "url", "password", "auth.username", "auth.password", "env", "tls_ca_pem", "append_only", "init"]))
                .fields {
                    (form.field(&Field::text("name", "Name").placeholder("vault").required()))
                    (form.field(&Field::text("url", "Address").placeholder("rest:https://backup.example.org:8000/").required().hint("As restic writes it, without credentials.")))
                }
                (Self::addresses())
                .with-button {
                    (form.field(&Field::secret("password", "Repository password").required().hint("It encrypts the backups.")))
                    button.btn type="button" data-generate="repo-password" hidden { "Generate" }
                }
                p.notice.warn { b { "Keep a copy of this password elsewhere. " } "Without it nobody can read the backups, and Flotilla never shows it again." }
                .fields {
                    (form.field(&Field::text("auth.username", "User at the REST server")))
                    (form.field(&Field::secret("auth.password", "That user's password")))
                }
                (form.checkbox(&Field::text("append_only", "Append-only").hint("These credentials can add backups and not remove any. Recommended: a host that is taken over cannot destroy its backups."), form::ON, true))
                (form.checkbox(&Field::text("init", "Create it if it does not exist").hint("The first backup initialises the repository. Leave it off for one that must be there already."), form::ON, false))
                (Self::environment(&form, &self.form))
                div { button.btn.primary type="submit" { "Add the repository" } }
            }
        }
    }
}
