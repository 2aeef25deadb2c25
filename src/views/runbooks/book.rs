//! A runbook's page: what it is and does, on which host, its questions, and what would run.

use maud::{Markup, html};

use super::{
    Chooser, HostOffer, RunPreview, badges,
    inputs::{self, Choices},
    run::{Danger, PREFIX, RunForm},
};
use crate::{
    domain::{JobId, user::Role},
    paths::{self, route},
    runbook::{self, Entry, Runbook, Scope},
    views::{FormState, Nav, Page, Shell, components, form::Form, format},
};

/// Bytes of a file that a page shows.
const MOST_SHOWN: usize = 48 << 10;

/// The job whose answers the form begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Which.
    pub job: JobId,
    /// The file is another one by now.
    pub changed: bool,
}

/// `/runbooks/{name}?host=&q=&from=`, or `?site=`. POST there, and to its `/preview`, with `host`, `site`, a `params.NAME` for each input, `confirm` (the host's name), `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunbookPage {
    /// The runbook.
    pub entry: Entry,
    /// The chosen host.
    pub host: Option<HostOffer>,
    /// Hosts to choose from, where none is chosen.
    pub chooser: Chooser,
    /// What inputs of hosts and sites can be answered with.
    pub choices: Choices,
    /// What was typed.
    pub form: FormState,
    /// What would run, where that was asked.
    pub preview: Option<RunPreview>,
    /// Where the answers come from, if not from the form.
    pub earlier: Option<Earlier>,
}

impl RunbookPage {
    /// The form with its preview, as htmx fetches it; nothing where it can't be run.
    #[must_use]
    pub fn form(&self, shell: &Shell) -> Markup {
        match (&self.entry.state, &self.host) {
            (Ok(book), Some(host)) if host.way.is_ok() => self.run_form(shell, book, host),
            _ => html! {},
        }
    }

    fn run_form(&self, shell: &Shell, book: &Runbook, host: &HostOffer) -> Markup {
        let names = inputs::field_names(&book.inputs);
        let drawn: Vec<&str> = names.iter().map(String::as_str).collect();
        let danger = danger(book, host);
        let form = Form::new(PREFIX, &self.form);
        RunForm {
            action: &paths::runbook(&book.name),
            preview_action: &paths::runbook_preview(&book.name),
            host,
            state: &self.form,
            drawn: &drawn,
            fields: html! {
                @if book.inputs.is_empty() { p.muted { "It asks nothing." } }
                (inputs::render(&form, &book.inputs, &self.choices))
            },
            danger: danger.as_ref(),
            preview: self.preview.as_ref(),
            earlier: self.earlier.as_ref().map(|earlier| earlier.job),
        }
        .render(shell)
    }

    fn on_host(&self, shell: &Shell, book: &Runbook) -> Markup {
        let page = paths::runbook(&book.name);
        let refusal = shell.refusal(least(book));
        html! {
            @match &self.host {
                None if book.scope == Scope::Site => p.notice.idle {
                    "It is about a site: open it from the page of one of your " a href=(paths::sites::LIST) { "sites" } "."
                },
                None => (self.chooser.render(&page)),
                Some(host) => {
                    .card.pad.row.between {
                        .row {
                            span {
                                "On " @if let Some((id, name)) = &host.site { a href=(paths::sites::site(*id)) { b { (name) } } " of " }
                                a href=(paths::host(host.id)) { b { (host.name) } }
                            }
                            (host.words())
                        }
                        @match &host.site {
                            Some(_) => a.btn href=(paths::sites::LIST) { "Another site" },
                            None => a.btn href=(page) { "Another host" },
                        }
                    }
                    @if let Some(reason) = &refusal { p.notice.idle { (reason) } }
                    @else { (self.form(shell)) }
                }
            }
        }
    }

    /// The way to a wave of it: for those who may run it, where it is about hosts.
    fn to_many(&self, shell: &Shell) -> Markup {
        let book = self.entry.state.as_ref().ok();
        let can = book.is_some_and(|book| book.scope == Scope::Host && shell.may(least(book)));
        html! { @if can { a.btn href=(paths::wave_new("", &self.entry.name)) { "Run on many hosts…" } } }
    }

    fn came_from(&self, book: &Runbook) -> Markup {
        html! {
            @if let Some(earlier) = &self.earlier {
                p.notice.(if earlier.changed { "warn" } else { "idle" }) {
                    "With the answers of " a href=(paths::job(earlier.job)) { "an earlier job" } ". "
                    @if earlier.changed { b { "The file has changed since: " } "what runs now is what it says today." }
                    @else { "The file is the same as then." }
                    @if asks_secrets(book) { " Secrets were not kept: type them again." }
                }
            }
        }
    }
}

fn least(book: &Runbook) -> Role {
    match book.role {
        runbook::Role::Admin => Role::Admin,
        runbook::Role::Operator => Role::Operator,
    }
}

fn asks_secrets(book: &Runbook) -> bool {
    book.inputs.iter().any(|input| input.kind == runbook::InputType::Secret)
}

/// What the dialog says; nothing where nothing can be lost.
fn danger(book: &Runbook, host: &HostOffer) -> Option<Danger> {
    let steps: Vec<_> = book.steps.iter().filter(|step| step.destructive).collect();
    if !book.destructive {
        return None;
    }
    let asks_secrets = asks_secrets(book);
    let maker = book
        .safety
        .as_ref()
        .and_then(|name| book.steps.iter().find(|step| step.artefact.as_ref().is_some_and(|made| &made.name == name)));
    Some(Danger {
        question: format!("Run “{}” on {}?", book.title, host.name),
        what: if steps.is_empty() {
            vec![format::sentence(&book.title)]
        } else {
            steps.iter().map(|step| step.label.clone()).collect()
        },
        safety: maker.map(|step| {
            format!(
                "“{}” comes first: what it makes is looked at, and without it nothing is removed or replaced.",
                step.label
            )
        }),
        always: asks_secrets || steps.is_empty() || steps.iter().any(|step| step.when.is_none()),
        asks_secrets,
    })
}

/// The steps as the file has them.
fn outline(book: &Runbook, text: Option<&str>) -> Markup {
    html! {
        section.card aria-labelledby="outline-title" {
            header { h2 #outline-title { "What it does" } small { (format::plural(book.steps.len() as u64, "step", "steps")) } }
            .pad.stack {
                @for guard in &book.guards { p.muted { "Only where this holds, or it ends with: " (guard.message.source()) } }
                ol.outline {
                    @for step in &book.steps {
                        li {
                            (step.label) " " span.muted { (step.work.word()) }
                            @if step.destructive { " " span.tag.bad-text { "removes or replaces" } }
                            @if let Some(when) = &step.when { " " span.muted { "only if " code { (when.source()) } } }
                            @if step.continue_on_error { " " span.muted { "goes on where it fails" } }
                        }
                    }
                }
                @if !book.teardown.is_empty() {
                    p.muted { "However it ends: " (book.teardown.iter().map(|step| step.label.as_str()).collect::<Vec<_>>().join(", ")) "." }
                }
                @if let Some(text) = text { details { summary { "The file" } (file(text)) } }
            }
        }
    }
}

/// A file's text, as much of it as a page should hold.
fn file(text: &str) -> Markup {
    let shown = text.get(..text.floor_char_boundary(MOST_SHOWN)).unwrap_or(text);
    html! {
        pre.file tabindex="0" aria-label="The file" { (shown) }
        @if shown.len() < text.len() { p.muted { "The first " (format::bytes(shown.len() as u64)) " of " (format::bytes(text.len() as u64)) "." } }
    }
}

impl Page for RunbookPage {
    fn title(&self) -> String {
        self.entry.state.as_ref().map_or_else(|_| self.entry.name.clone(), |book| book.title.clone())
    }

    fn nav(&self) -> Nav {
        Nav::Operations
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(route::RUNBOOKS) { "Operations" } }
                (components::headline(&self.title(), &self.to_many(shell)))
            }
            @match &self.entry.state {
                Err(error) => {
                    .notice.bad role="alert" {
                        p { b { "This file can't be run. " } @if let Some(line) = error.line { "Line " (line) ": " } (format::sentence(&error.what)) }
                        p { "Correct it and load this page again; " code { "flotilla runbook check FILE" } " says the same." }
                    }
                    (file(&self.entry.text))
                },
                Ok(book) => {
                    @if !book.description.is_empty() { p { (book.description) } }
                    (badges(book))
                    (self.came_from(book))
                    (self.on_host(shell, book))
                    // Under a preview, which has the same commands filled in, the file would only make the page long.
                    (outline(book, Some(self.entry.text.as_str()).filter(|_| self.preview.is_none())))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FieldError, HostId, Way},
        runbook::{Origin, parse},
        views::samples,
    };

    fn page(head: &str, steps: &str) -> RunbookPage {
        let text = format!("name = \"wipe\"\ntitle = \"Wipe <it>\"\n{head}\n{steps}");
        let host = HostOffer {
            id: HostId::from_parts(1, 1),
            name: "web\"1".into(),
            way: Ok(Way::Ssh),
            waits: false,
            site: None,
        };
        RunbookPage {
            entry: Entry { name: "wipe".into(), origin: Origin::Shipped, state: parse(&text), text },
            host: Some(host),
            chooser: Chooser::default(),
            choices: Choices::default(),
            form: FormState::default(),
            preview: None,
            earlier: None,
        }
    }

    const WIPE: &str = "[[steps]]\ntype = \"ssh\"\nlabel = \"Drop <b>\"\ndestructive = true\ncmd = \"true\"\n";

    fn shown(page: &RunbookPage, role: Role) -> String {
        page.body(&samples::shell(Some(role))).into_string()
    }

    #[test]
    fn what_removes_something_runs_only_through_a_dialog_that_names_host_and_steps() {
        let html = shown(&page("destructive = true", WIPE), Role::Operator);
        assert!(
            html.contains("Run “Wipe &lt;it&gt;” on web&quot;1?") && html.contains("<li>Drop &lt;b&gt;</li>"),
            "{html}"
        );
        assert!(html.contains(r#"data-must-be="web&quot;1""#) && html.contains("Nothing is saved before"), "{html}");
        assert_eq!(html.matches(r#"type="submit""#).count(), 2, "preview, and the dialog's own: {html}");
        assert!(!html.contains("<dialog id=\"run-dialog\" aria-labelledby=\"run-dialog-title\" open"));
    }

    #[test]
    fn the_safety_that_is_made_first_is_named() {
        let steps = format!(
            "[[steps]]\ntype = \"ssh\"\nlabel = \"Dump\"\ncmd = \"true\"\nartefact = {{ name = \"dump\", path = \"/tmp/x\" }}\n{WIPE}"
        );
        let html = shown(&page("safety = \"dump\"", &steps), Role::Operator);
        assert!(html.contains("“Dump” comes first") && !html.contains("Nothing is saved before"), "{html}");
    }

    #[test]
    fn what_depends_on_the_answers_asks_when_the_server_says_so() {
        let steps = WIPE.replace("cmd =", "when = \"sure\"\ncmd =");
        let mut page = page("[[inputs]]\nname = \"sure\"\ntype = \"bool\"\n", &steps);
        assert!(shown(&page, Role::Operator).contains("Run on web&quot;1</button>"));
        page.form = FormState::of([("params.sure", "true")])
            .refused(vec![FieldError::new("confirm", "must be the host's name")]);
        let html = shown(&page, Role::Operator);
        assert!(html.contains("aria-labelledby=\"run-dialog-title\" open data-modal"), "{html}");
        assert!(html.contains(r#"aria-describedby="run-confirm-error""#) && !html.contains("Not run:"), "{html}");
    }

    #[test]
    fn what_is_about_hosts_leads_to_many_of_them_for_those_who_may_run_it() {
        let many = "/waves/new?all=1&amp;runbook=wipe";
        assert!(shown(&page("", WIPE), Role::Operator).contains(many));
        assert!(!shown(&page("", WIPE), Role::Viewer).contains(many));
        assert!(!shown(&page("scope = \"site\"", WIPE), Role::Operator).contains(many));
    }

    #[test]
    fn who_may_not_run_it_sees_why_and_no_form() {
        let admins = page("role = \"admin\"", WIPE);
        assert!(shown(&admins, Role::Operator).contains("this needs the role admin"));
        for html in [shown(&admins, Role::Operator), shown(&page("", WIPE), Role::Viewer)] {
            assert!(!html.contains(r#"name="host""#) && html.contains("What it does"), "{html}");
        }
    }
}
