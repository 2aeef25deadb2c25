//! The form that runs something: fields, *Preview*, *Run*, and where something can be lost, the dialog that names the host and wants its name typed. Without scripts
//! each button leads to a whole page; with htmx the preview takes the form's place, and what was typed into a secret's field stays there.

use maud::{Markup, html};

use super::{HostOffer, RunPreview};
use crate::{
    domain::JobId,
    views::{FormState, Shell, form::Form, format},
};

/// Prefix of the form's ids.
pub(super) const PREFIX: &str = "run";

/// What is lost or replaced, for the dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Danger {
    /// The dialog's question.
    pub(super) question: String,
    /// What it will do, a line each.
    pub(super) what: Vec<String>,
    /// What is made before, if anything.
    pub(super) safety: Option<String>,
    /// It removes or replaces something whatever is answered: *Run* opens the dialog. Otherwise the server says when it is needed.
    pub(super) always: bool,
    /// It asks for secrets, which a page that comes back does not hold any more: its dialog stays closed until they are typed again.
    pub(super) asks_secrets: bool,
}

/// The form. Posts `host`, `site`, `from` (the job that it repeats), its fields and `confirm` to `action`, or to `preview_action`.
pub(super) struct RunForm<'a> {
    pub(super) action: &'a str,
    pub(super) preview_action: &'a str,
    pub(super) host: &'a HostOffer,
    pub(super) state: &'a FormState,
    /// Names of its fields, so that errors of others are said at its head.
    pub(super) drawn: &'a [&'a str],
    pub(super) fields: Markup,
    pub(super) danger: Option<&'a Danger>,
    pub(super) preview: Option<&'a RunPreview>,
    /// The job that it repeats.
    pub(super) earlier: Option<JobId>,
}

impl RunForm<'_> {
    /// Form and preview: what htmx replaces.
    pub(super) fn render(&self, shell: &Shell) -> Markup {
        let form = Form::new(PREFIX, self.state);
        let mut drawn = self.drawn.to_vec();
        if self.danger.is_some() {
            drawn.push("confirm");
        }
        let asked = self.asks_for_name();
        html! {
            .stack.wide #run-form {
                form.card.pad.stack.asking method="post" action=(self.action) {
                    (shell.csrf_field())
                    input type="hidden" name="host" value=(self.host.id);
                    @if let Some((site, _)) = &self.host.site { input type="hidden" name="site" value=(site); }
                    @if let Some(job) = self.earlier { input type="hidden" name="from" value=(job); }
                    @if !asked { (form.errors_saying(&drawn, self.refusal())) }
                    (self.fields)
                    .row {
                        button.btn #run-preview type="submit" formaction=(self.preview_action) hx-post=(self.preview_action) hx-target="#run-form" hx-swap="outerHTML" { "Preview" }
                        @match self.danger {
                            Some(danger) if danger.always => button.btn.danger type="button" command="show-modal" commandfor="run-dialog" { "Run…" },
                            _ => button.btn.primary type="submit" { "Run on " (self.host.name) },
                        }
                        @if self.host.waits { small { "The agent of " (self.host.name) " is away: the job waits until it is back." } }
                    }
                    @if let Some(danger) = self.danger { (self.dialog(danger)) }
                }
                @if let Some(preview) = self.preview { (preview.render(&self.host.name)) }
            }
        }
    }

    fn refusal(&self) -> &'static str {
        match self.danger {
            Some(danger) if danger.asks_secrets => {
                "Not run: a field below needs another value, or the host's name was not typed. Secrets are not sent back: type them again."
            }
            _ => "Not run: a field below needs another value.",
        }
    }

    /// Whether nothing is missing but the host's name.
    fn asks_for_name(&self) -> bool {
        let alone = self.state.error("confirm").is_some() && self.state.errors_beside("confirm") == 0;
        alone && self.danger.is_some_and(|danger| !danger.asks_secrets)
    }

    /// Open from the start where the server wants the name and nothing else; `app.js` makes it modal.
    fn dialog(&self, danger: &Danger) -> Markup {
        let name = &self.host.name;
        let (error, asked) = (self.state.error("confirm"), self.asks_for_name());
        html! {
            dialog #run-dialog aria-labelledby="run-dialog-title" open[asked] data-modal[asked] {
                h2 #run-dialog-title { (danger.question) }
                .stack {
                    @if !danger.what.is_empty() {
                        p { "What it does on " b { (name) } ":" }
                        ul.what { @for what in &danger.what { li { (what) } } }
                    }
                    @if let Some(safety) = &danger.safety { p.notice.ok { (safety) } }
                    @else { p.notice.warn { "Nothing is saved before: what it removes or replaces is gone, unless a backup has it." } }
                    .field {
                        label for="run-confirm" { "Type " b { (name) } " to confirm" }
                        input #run-confirm name="confirm" type="text" autocomplete="off" spellcheck="false" data-must-be=(name)
                            aria-invalid=[error.map(|_| "true")] aria-describedby=[error.map(|_| "run-confirm-error")];
                        @if let Some(error) = error { p.error #run-confirm-error { (format::sentence(error)) } }
                    }
                    .row.end {
                        button.btn type="button" command="close" commandfor="run-dialog" { "Leave it" }
                        // The fields lie behind the dialog, where a browser can't point at one that is open: the server does.
                        button.btn.danger.solid type="submit" formnovalidate { "Run on " (name) }
                    }
                }
            }
        }
    }
}
