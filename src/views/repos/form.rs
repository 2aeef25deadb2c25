//! The forms of a repository: adding one, changing one. A secret that is set is never shown; an empty field leaves it as it is.

use maud::{Markup, html};

use crate::{
    domain::repo::Repo,
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        form::{self, Field, Form},
    },
};

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

    fn environment(form: &Form<'_>, state: &FormState, note: &str) -> Markup {
        html! {
            fieldset {
                legend { "More for restic's environment " span.muted { "optional" } }
                p { small { "For S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. Values are sealed like passwords. " (note) } }
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
                (Self::environment(&form, &self.form, ""))
                div { button.btn.primary type="submit" { "Add the repository" } }
            }
        }
    }
}

/// `/repos/{id}/edit`. POST there with the fields of [`AddRepoPage`], and `maintenance.url`, `maintenance.username`, `maintenance.password`; an empty
/// secret leaves what is set, an empty user takes the user away.
#[derive(Debug, Clone, PartialEq)]
pub struct EditRepoPage {
    /// As it is stored.
    pub repo: Repo,
    /// What was typed; [`EditRepoPage::values_of`] at first.
    pub form: FormState,
}

impl EditRepoPage {
    /// The form as the repository is.
    #[must_use]
    pub fn values_of(repo: &Repo) -> FormState {
        let mut pairs = vec![
            ("name", repo.name.clone()),
            ("url", repo.url.clone()),
            ("auth.username", repo.username.clone().unwrap_or_default()),
            ("tls_ca_pem", repo.tls_ca_pem.clone().unwrap_or_default()),
        ];
        pairs.extend(repo.append_only.then(|| ("append_only", form::ON.to_owned())));
        pairs.extend(repo.init.then(|| ("init", form::ON.to_owned())));
        FormState::of(pairs)
    }

    fn is_set(&self, secret: &str) -> &'static str {
        if self.repo.secrets_set.iter().any(|name| name == secret) { "Is set; empty: as it is." } else { "Is not set." }
    }

    fn env_note(&self) -> String {
        let names: Vec<&str> = self.repo.secrets_set.iter().filter_map(|name| name.strip_prefix("env.")).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!("Set now: {}. A name that is given again gets the new value.", names.join(", "))
        }
    }

    fn maintenance(&self, form: &Form<'_>) -> Markup {
        html! {
            fieldset {
                legend { "Maintenance credentials " span.muted { "optional" } }
                p { small { "Another way to the same repository with the right to delete. It is kept sealed here and never sent to a host that only backs up. " (self.is_set("maintenance")) } }
                .fields {
                    (form.field(&Field::text("maintenance.url", "Address").hint("Empty: the same.")))
                    (form.field(&Field::text("maintenance.username", "User")))
                    (form.field(&Field::secret("maintenance.password", "Password")))
                }
            }
        }
    }
}

impl Page for EditRepoPage {
    fn title(&self) -> String {
        format!("Change {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let form = Form::new("repo", &self.form);
        let drawn = [
            "name",
            "url",
            "password",
            "auth.username",
            "auth.password",
            "env",
            "tls_ca_pem",
            "append_only",
            "init",
            "maintenance.url",
            "maintenance.username",
            "maintenance.password",
        ];
        html! {
            div { small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } } h1 { "Change the repository" } }
            form.card.pad.stack method="post" action=(paths::repo_edit(self.repo.id)) {
                (shell.csrf_field())
                (form.errors(&drawn))
                .fields {
                    (form.field(&Field::text("name", "Name").required()))
                    (form.field(&Field::text("url", "Address").required().hint("As restic writes it, without credentials.")))
                }
                (form.field(&Field::secret("password", "Repository password").hint("Only if the repository's own password was changed. Empty: as it is.")))
                .fields {
                    (form.field(&Field::text("auth.username", "User at the REST server")))
                    (form.field(&Field::secret("auth.password", "That user's password").hint(self.is_set("auth.password"))))
                }
                (form.checkbox(&Field::text("append_only", "Append-only").hint("These credentials can add backups and not remove any."), form::ON, self.repo.append_only))
                (form.checkbox(&Field::text("init", "Create it if it does not exist").hint("The first backup initialises the repository."), form::ON, self.repo.init))
                (AddRepoPage::environment(&form, &self.form, &self.env_note()))
                (self.maintenance(&form))
                .row {
                    button.btn.primary type="submit" { "Save" }
                    a.btn href=(paths::repo(self.repo.id)) { "Cancel" }
                }
            }
        }
    }
}
