//! The form of a repository: adding one, changing one. It knows the fields of each kind ([`crate::domain::address`]). A secret that is set is never shown; an
//! empty field leaves it as it is.

use maud::{Markup, html};

use crate::{
    domain::{
        address::{self, KINDS, RepoKind},
        repo::Repo,
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::HostRef,
        form::{self, Field, Form},
    },
};

/// Bytes of a gibibyte: the form's unit of a limit.
pub const GIB: u64 = 1 << 30;

/// `/repos/new?kind=`. POST `/repos/new` with `kind` (one of [`KINDS`], or absent) and the fields of that kind (`part.…`, or `url` where there is no kind),
/// `env.NAME`, and as in the API: `name`, `password`, `auth.username`, `auth.password`, `tls_ca_pem`, `append_only` (`true` when ticked), `maintenance.url`,
/// `maintenance.username`, `maintenance.password`, `maintenance.env.NAME`, `maintenance_host_id`, `size_limit_gib`, `check_days`; `begin`: `create` (the first
/// backup makes it), `there`, or `take_over`; `env_name` and `env_value` (each as often as there are rows; a row without a name counts as absent); `csrf`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddRepoPage {
    /// Which kind; `None` for an address as restic writes it.
    pub kind: Option<&'static RepoKind>,
    /// Hosts that may look after it: the control plane's own agent first, where there is one.
    pub keepers: Vec<HostRef>,
    /// What was typed.
    pub form: FormState,
}

/// What both forms draw.
struct Fields<'a> {
    kind: Option<&'static RepoKind>,
    keepers: &'a [HostRef],
    state: &'a FormState,
    /// The repository that is changed.
    of: Option<&'a Repo>,
}

impl Fields<'_> {
    fn form(&self) -> Form<'_> {
        Form::new("repo", self.state)
    }

    /// What stands under a secret's field.
    fn set(&self, secret: &str) -> &'static str {
        match self.of {
            None => "",
            Some(repo) if repo.secrets_set.iter().any(|name| name == secret) => "Is set; empty: as it is.",
            Some(_) => "Is not set.",
        }
    }

    fn place(&self) -> Markup {
        let form = self.form();
        html! {
            @match self.kind {
                Some(kind) => {
                    input type="hidden" name="kind" value=(kind.id);
                    p.muted { (kind.about) }
                    .fields { @for part in kind.parts {
                        @let field = Field::text(part.name, part.label).placeholder(part.example).hint(part.hint);
                        (form.field(&if part.required { field.required() } else { field }))
                    } }
                    @if let Some(error) = self.state.error("url") { p.error { "The address " (error) } }
                }
                None => (form.field(&Field::text("url", "Address").placeholder("rest:https://backup.example.org:8000/").required().hint("As restic writes it, without credentials."))),
            }
        }
    }

    fn is_rest(&self) -> bool {
        self.kind.is_none_or(|kind| kind.id == "rest")
    }

    fn credentials(&self) -> Markup {
        let form = self.form();
        let named = |prefix: &str| {
            let variables = self.kind.map_or(&[][..], |kind| kind.variables);
            variables.iter().map(|variable| (format!("{prefix}{}", variable.name), *variable)).collect::<Vec<_>>()
        };
        html! {
            @if self.is_rest() {
                .fields {
                    (form.field(&Field::text("auth.username", "User at the REST server")))
                    (form.field(&Field::secret("auth.password", "That user's password").hint(self.set("auth.password"))))
                }
            }
            @let variables = named("env.");
            @if !variables.is_empty() {
                .fields { @for (name, variable) in &variables {
                    @let hint = format!("{} {}", variable.hint, self.set(name));
                    (form.field(&Field::secret(name, variable.label).hint(hint.trim())))
                } }
            }
        }
    }

    fn more(&self) -> Markup {
        let form = self.form();
        let set: Vec<&str> = self
            .of
            .map(|repo| repo.secrets_set.iter().filter_map(|name| name.strip_prefix("env.")).collect())
            .unwrap_or_default();
        html! {
            details open[self.state.error("env").is_some() || self.state.error("tls_ca_pem").is_some()] {
                summary { "Certificate, and more for restic's environment" }
                .stack {
                    (form.lines(&Field::text("tls_ca_pem", "Certificate authority (PEM)").placeholder("-----BEGIN CERTIFICATE-----").hint("Only for a server whose certificate the hosts would not trust by themselves."), 3))
                    p { small { "Variables that restic's back ends read. Values are sealed like passwords. " @if !set.is_empty() { "Set now: " (set.join(", ")) ". A name that is given again gets the new value." } } }
                    @for row in 0..2 {
                        .pair {
                            input name="env_name" type="text" autocomplete="off" spellcheck="false" aria-label=(format!("Name of variable {}", row + 1)) placeholder="NAME";
                            input name="env_value" type="password" autocomplete="new-password" aria-label=(format!("Value of variable {}", row + 1)) placeholder="value";
                        }
                    }
                    @if let Some(drop) = self.drop_variables() { (drop) }
                    @if let Some(error) = self.state.error("env") { p.error { (error) } }
                }
            }
        }
    }

    /// What is set and can be taken away; a secret's own field can only replace it.
    fn drop_maintenance(&self) -> Option<Markup> {
        self.of.filter(|repo| repo.has_maintenance())?;
        let hint = "The credentials that may delete are erased here. Where hosts can only add, forget, prune, tag and repair are refused from then on.";
        Some(self.form().checkbox(
            &Field::text("maintenance.remove", "Remove the maintenance credentials").hint(hint),
            form::ON,
            false,
        ))
    }

    fn drop_variables(&self) -> Option<Markup> {
        let names = self.of?.secrets_set.iter().filter_map(|name| name.strip_prefix("env.")).collect::<Vec<_>>();
        let form = self.form();
        (!names.is_empty()).then(|| {
            html! {
                fieldset {
                    legend { "Take away" }
                    @for name in names {
                        (form.checkbox(&Field::text("env_remove", name), name, false))
                    }
                }
            }
        })
    }

    fn upkeep(&self) -> Markup {
        let form = self.form();
        let mut hosts = vec![(String::new(), "The control plane's own agent".to_owned())];
        hosts.extend(self.keepers.iter().map(|host| (host.id.to_string(), host.name.clone())));
        let variables = self.kind.map_or(&[][..], |kind| kind.variables);
        html! {
            fieldset {
                legend { "Maintenance " span.muted { "optional" } }
                p { small {
                    "Forget, prune, tag and repair need the right to delete. Credentials that have it are kept sealed here, and go to one host only, per job, in memory: never to a host that only backs up. "
                    (self.set("maintenance"))
                } }
                .fields {
                    (form.select(&Field::text("maintenance_host_id", "Runs on").hint("It needs restic and a way to the repository."), &hosts))
                    (form.field(&Field::text("maintenance.url", "Address").hint("Another way to the same repository, as restic writes it. Empty: the same.")))
                }
                @if self.is_rest() {
                    .fields {
                        (form.field(&Field::text("maintenance.username", "User")))
                        (form.field(&Field::secret("maintenance.password", "Password")))
                    }
                }
                @if !variables.is_empty() {
                    .fields { @for variable in variables {
                        (form.field(&Field::secret(&format!("maintenance.env.{}", variable.name), variable.label)))
                    } }
                }
                @if let Some(drop) = self.drop_maintenance() { (drop) }
                .fields {
                    (form.field(&Field::number("size_limit_gib", "It may grow to (GiB)").hint("Flotilla says when it will be full. Empty: no limit.")))
                    (form.field(&Field::number("check_days", "Read all data within (days)").hint("Checks read a part each time, so that all is read by then. Empty: the structure only.")))
                }
            }
        }
    }

    fn drawn(&self) -> Vec<&'static str> {
        let mut drawn = vec![
            "name",
            "url",
            "password",
            "env",
            "tls_ca_pem",
            "append_only",
            "begin",
            "maintenance.url",
            "maintenance_host_id",
            "size_limit_gib",
            "check_days",
        ];
        if self.is_rest() {
            drawn.extend(["auth.username", "auth.password", "maintenance.username", "maintenance.password"]);
        }
        drawn
    }
}

impl AddRepoPage {
    fn kinds(&self) -> Markup {
        let link = |id: &str| paths::with_query(route::REPO_NEW, &[("kind", id)]);
        html! {
            nav.chips aria-label="Kinds of repositories" {
                @for kind in &KINDS {
                    a.tag href=(link(kind.id)) aria-current=[(self.kind == Some(kind)).then_some("page")] { (kind.title) }
                }
                a.tag href=(link("other")) aria-current=[self.kind.is_none().then_some("page")] { "Another, by its address" }
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
        let fields = Fields { kind: self.kind, keepers: &self.keepers, state: &self.form, of: None };
        let form = fields.form();
        let begin = [
            ("create", "New: the first backup creates it"),
            ("there", "It is there already"),
            ("take_over", "It is there with snapshots: take it over as it is"),
        ]
        .map(|(value, label)| (value.to_owned(), label.to_owned()));
        html! {
            div { small { a href=(route::REPOS) { "Repositories" } } h1 { "Add a repository" } }
            (self.kinds())
            form.card.pad.stack method="post" action=(route::REPO_NEW) {
                (shell.csrf_field())
                (form.errors(&fields.drawn()))
                .fields {
                    (form.field(&Field::text("name", "Name").placeholder("vault").required()))
                    (form.select(&Field::text("begin", "Start with").hint("Taking over writes nothing: its snapshots are listed, and their host names matched to your hosts."), &begin))
                }
                (fields.place())
                (fields.credentials())
                .with-button {
                    (form.field(&Field::secret("password", "Repository password").required().hint("It encrypts the backups.")))
                    button.btn type="button" data-generate="repo-password" hidden { "Generate" }
                }
                p.notice.warn { b { "Keep a copy of this password elsewhere. " } "Without it nobody can read the backups, and Flotilla never shows it again." }
                (form.checkbox(&Field::text("append_only", "Append-only").hint("These credentials can add backups and not remove any. Recommended: a host that is taken over cannot destroy its backups."), form::ON, true))
                (fields.more())
                (fields.upkeep())
                div { button.btn.primary type="submit" { "Add and test the repository" } }
            }
        }
    }
}

/// `/repos/{id}/edit`. POST there with the fields of [`AddRepoPage`]; an empty secret leaves what is set, an empty user takes the user away,
/// `maintenance.remove` the credentials of maintenance, and each `env_remove` the variable that it names. `init` is ticked
/// where the first backup may create it.
#[derive(Debug, Clone, PartialEq)]
pub struct EditRepoPage {
    /// As it is stored.
    pub repo: Repo,
    /// Hosts that may look after it.
    pub keepers: Vec<HostRef>,
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
        pairs.extend(repo.upkeep.maintenance_host_id.map(|id| ("maintenance_host_id", id.to_string())));
        pairs.extend(repo.upkeep.size_limit.map(|bytes| ("size_limit_gib", (bytes / GIB).max(1).to_string())));
        pairs.extend(repo.upkeep.check_days.map(|days| ("check_days", days.to_string())));
        pairs.extend(address::parse(&repo.url).map(|(_, parts)| parts).unwrap_or_default());
        FormState::of(pairs)
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
        let kind = address::parse(&self.repo.url).map(|(kind, _)| kind);
        let fields = Fields { kind, keepers: &self.keepers, state: &self.form, of: Some(&self.repo) };
        let form = fields.form();
        html! {
            div { small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } } h1 { "Change the repository" } }
            form.card.pad.stack method="post" action=(paths::repo_edit(self.repo.id)) {
                (shell.csrf_field())
                (form.errors(&fields.drawn()))
                (form.field(&Field::text("name", "Name").required()))
                (fields.place())
                (fields.credentials())
                (form.field(&Field::secret("password", "Repository password").hint("Only if the repository's own password was changed. Empty: as it is.")))
                (form.checkbox(&Field::text("append_only", "Append-only").hint("These credentials can add backups and not remove any."), form::ON, self.repo.append_only))
                @if !self.repo.upkeep.imported {
                    (form.checkbox(&Field::text("init", "Create it if it does not exist").hint("The first backup initialises the repository."), form::ON, self.repo.init))
                }
                (fields.more())
                (fields.upkeep())
                .row {
                    button.btn.primary type="submit" { "Save" }
                    a.btn href=(paths::repo(self.repo.id)) { "Cancel" }
                }
            }
        }
    }
}
