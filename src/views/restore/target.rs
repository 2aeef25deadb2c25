//! The third step: which host, which place, what happens to files that are there.

use maud::{Markup, html};

use crate::{
    domain::{HostId, Overwrite, snapshot::Snapshot, user::Role},
    paths,
    views::{
        FormState, Nav, Page, Shell,
        form::{Field, Form},
    },
};

/// A host that files can go to.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetHost {
    /// Which.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its agent is here.
    pub is_online: bool,
    /// It is the control plane's own.
    pub own: bool,
    /// Its restic; `None` where it has none.
    pub restic: Option<String>,
    /// It knows the repository already.
    pub knows_repo: bool,
    /// The snapshot is of it.
    pub is_source: bool,
}

impl TargetHost {
    fn label(&self) -> String {
        let mut notes = Vec::new();
        if self.is_source {
            notes.push("where it comes from");
        }
        if self.own {
            notes.push("the control plane itself");
        }
        if self.restic.is_none() {
            notes.push("no restic");
        } else if !self.is_online {
            notes.push("not connected");
        }
        if notes.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, notes.join(", ")) }
    }
}

/// `/restore/{id}/{snapshot}/target`.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetPage {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What was picked; `None` for everything.
    pub picked: Option<Vec<String>>,
    /// Where it can go to.
    pub hosts: Vec<TargetHost>,
    /// Which of them is chosen; always one of them, where there is any.
    pub host: Option<HostId>,
    /// The rules that the chosen host's restic does not know, each with why.
    pub lacks: Vec<(Overwrite, String)>,
    /// What was typed.
    pub form: FormState,
}

impl Page for TargetPage {
    fn title(&self) -> String {
        "Restore: where to".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, shell: &Shell) -> Markup {
        let (repo, id) = (self.snapshot.repo_id, &self.snapshot.id);
        let form = Form::new("target", &self.form);
        html! {
            h1 { "Where to?" }
            (super::steps(2))
            form #where.stack.wide method="post" action=(paths::restore_dry_run(repo, id)) {
                (shell.csrf_field())
                (super::picked_fields(self.picked.as_deref()))
                section.card.pad.stack aria-label="What" {
                    p { (super::source_words(&self.snapshot)) ":" }
                    (super::picked_words(self.picked.as_deref()))
                    div { button.btn type="submit" formnovalidate formaction=(paths::restore_files(repo, id)) { "Change what is picked" } }
                }
                (form.errors(&["host", "target", "overwrite"]))
                @if self.hosts.is_empty() {
                    p.notice.warn { "There is no host to restore to: add one, or let the control plane run an agent of its own." }
                } @else {
                    section.card.pad.stack aria-label="Where" {
                        (self.host_choice())
                        (self.place(&form))
                        (self.rule())
                    }
                    .row {
                        button.btn.primary type="submit" disabled[!shell.may(Role::Operator)] { "Try it out: dry run" }
                        @if let Some(reason) = shell.refusal(Role::Operator) { small { (reason) } }
                        @else { small { "Nothing is written yet. The next page says what would be." } }
                    }
                }
            }
        }
    }
}

impl TargetPage {
    fn chosen(&self) -> Option<&TargetHost> {
        self.hosts.iter().find(|host| Some(host.id) == self.host)
    }

    fn host_choice(&self) -> Markup {
        let look = paths::restore_target(self.snapshot.repo_id, &self.snapshot.id);
        html! {
            .field {
                label for="target-host" { "To the host" }
                .row {
                    select.grow #target-host name="host" hx-post=(look) hx-trigger="change" hx-target="#where" hx-select="#where" hx-swap="outerHTML" {
                        @for host in &self.hosts { option value=(host.id) selected[Some(host.id) == self.host] disabled[host.restic.is_none()] { (host.label()) } }
                    }
                    noscript { button.btn type="submit" formnovalidate formaction=(look) { "What can it do?" } }
                }
                @if let Some(host) = self.chosen() {
                    @if !host.is_online { p.error { (host.name) " is not connected: the dry run waits until it is back." } }
                    @if !host.knows_repo {
                        small { (host.name) " does not back up to " (self.snapshot.repo_name) ". It is given the repository's credentials, as hosts have them, for this job." }
                    }
                }
            }
        }
    }

    fn place(&self, form: &Form<'_>) -> Markup {
        let host = self.chosen().map_or("the host", |host| host.name.as_str());
        let folder = !self.form.has("place", "original");
        let is_source = self.chosen().is_some_and(|host| host.is_source);
        html! {
            fieldset {
                legend { "Into" }
                .check {
                    input #place-folder type="radio" name="place" value="folder" checked[folder];
                    label for="place-folder" { "A folder of its own" }
                }
                .inset { (form.field(&Field::text("target", "Folder").unmarked().placeholder("/srv/restored").hint("An absolute path; it is made where it does not exist. Each file keeps its whole path below it."))) }
                .check {
                    input #place-original type="radio" name="place" value="original" checked[!folder];
                    label for="place-original" { "The original place on " b { (host) } }
                    small {
                        "Writes to the paths themselves. The next step offers a snapshot of what is there now, and asks for the host's name."
                        @if !is_source { " The files come from another machine: their owners go by number." }
                    }
                }
            }
        }
    }

    fn rule(&self) -> Markup {
        let rules = [
            (Overwrite::Never, "never", "Leave it as it is"),
            (Overwrite::IfNewer, "if-newer", "Replace it if the snapshot's is newer"),
            (Overwrite::IfChanged, "if-changed", "Replace it if it differs"),
            (Overwrite::Always, "always", "Replace it"),
        ];
        let lack = |rule| self.lacks.iter().find(|(lacking, _)| *lacking == rule).map(|(_, why)| why.as_str());
        let typed = rules.iter().find(|(rule, word, _)| self.form.has("overwrite", word) && lack(*rule).is_none());
        let current = typed.or_else(|| rules.iter().find(|(rule, ..)| lack(*rule).is_none())).map(|(rule, ..)| *rule);
        html! {
            fieldset {
                legend { "A file that is there already" }
                @for (rule, word, label) in rules {
                    .check {
                        input #(format!("overwrite-{word}")) type="radio" name="overwrite" value=(word) checked[Some(rule) == current] disabled[lack(rule).is_some()];
                        label for=(format!("overwrite-{word}")) { (label) }
                    }
                }
                @if let Some((_, why)) = self.lacks.first() { small { "Greyed out: " (why) "." } }
                @if let Some(error) = self.form.error("overwrite") { p.error { (error) } }
            }
        }
    }
}
