//! Steps that an administrator pastes: a JSON array, looked at and run like a runbook.

use maud::{Markup, html};

use super::{
    Chooser, Earlier, HostOffer, RunPreview,
    run::{Danger, PREFIX, RunForm},
};
use crate::{
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell, components,
        form::{Field, Form},
    },
};

/// The field with the steps, by the name that the order's errors have.
pub const FIELD: &str = "params.steps";

/// What a first array can look like. It is held against the parser by a test.
const EXAMPLE: &str = r#"[
  {"type": "ssh", "label": "Look", "cmd": "df -h /", "timeout": 30},
  {"type": "local", "label": "Say it", "cmd": "echo done", "continue_on_error": true},
  {"type": "ssh", "label": "Clean up", "cmd": "rm -f /tmp/flotilla-probe", "teardown": true}
]"#;

/// `/runbooks/steps?host=&q=&from=`. POST there, and to its `/preview`, with `host`, `params.steps`, `confirm`, `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepsPage {
    /// The chosen host.
    pub host: Option<HostOffer>,
    /// Hosts to choose from, where none is chosen.
    pub chooser: Chooser,
    /// What was pasted.
    pub form: FormState,
    /// What would run, where that was asked.
    pub preview: Option<RunPreview>,
    /// Where the steps come from, if not from the form.
    pub earlier: Option<Earlier>,
}

impl StepsPage {
    /// The form with its preview, as htmx fetches it.
    #[must_use]
    pub fn form(&self, shell: &Shell) -> Markup {
        let Some(host) = self.host.as_ref().filter(|host| host.way.is_ok()) else { return html! {} };
        let form = Form::new(PREFIX, &self.form);
        let steps = Field::text(FIELD, "Steps")
            .hint("A JSON array. Fields are those of a runbook's steps; one with \"teardown\": true runs however it ends.")
            .placeholder("[{\"type\": \"ssh\", \"label\": \"…\", \"cmd\": \"…\"}]")
            .required();
        let danger = Danger {
            question: format!("Run these steps on {}?", host.name),
            what: Vec::new(),
            safety: None,
            always: false,
            asks_secrets: false,
        };
        RunForm {
            action: route::STEPS,
            preview_action: route::STEPS_PREVIEW,
            host,
            state: &self.form,
            drawn: &[FIELD],
            fields: html! {
                (form.lines(&steps, 14))
                details { summary { "An example" } (components::copyable("example-steps", "Example of steps", EXAMPLE)) }
            },
            danger: Some(&danger),
            preview: self.preview.as_ref(),
            // Pasted steps may have been changed in the form: they are ordered, not repeated.
            earlier: None,
        }
        .render(shell)
    }
}

impl Page for StepsPage {
    fn title(&self) -> String {
        "Paste steps".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Operations
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(route::RUNBOOKS) { "Operations" } }
                h1 { "Paste steps" }
            }
            p.muted { "For once: steps that are no runbook yet. They run as they stand, so an agent takes them only where its machine allows it." }
            @if let Some(earlier) = &self.earlier { p.notice.idle { "The steps of " a href=(paths::job(earlier.job)) { "an earlier job" } "." } }
            @match &self.host {
                None => (self.chooser.render(route::STEPS)),
                Some(host) => {
                    .card.pad.row.between {
                        .row { span { "On " a href=(paths::host(host.id)) { b { (host.name) } } } (host.words()) }
                        a.btn href=(route::STEPS) { "Another host" }
                    }
                    (self.form(shell))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_list_of_steps() {
        let (book, _) = crate::runbook::parse_steps(EXAMPLE).unwrap();
        assert_eq!((book.steps.len(), book.teardown.len()), (2, 1));
    }
}
