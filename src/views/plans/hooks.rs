//! Hooks of a plan: their rows in the form, and how they read on its page.

use maud::{Markup, html};

use crate::{
    domain::{Hook, HookFailure, HookMoment},
    views::{
        FormState,
        form::{Field, Form},
        format,
    },
};

/// Moments by the words of the API, with what people read.
const MOMENTS: [(HookMoment, &str, &str); 4] = [
    (HookMoment::Before, "before", "Before the backup"),
    (HookMoment::After, "after", "After it, however it ended"),
    (HookMoment::Failure, "failure", "After a failure"),
    (HookMoment::Success, "success", "After a success"),
];
const FAILURES: [(HookFailure, &str, &str); 3] = [
    (HookFailure::Abort, "abort", "No backup, job failed"),
    (HookFailure::Fail, "fail", "Backup goes on, job failed"),
    (HookFailure::Ignore, "ignore", "A line in the log"),
];

/// The moment of a word of the API.
#[must_use]
pub fn moment(word: &str) -> Option<HookMoment> {
    MOMENTS.iter().find(|(_, known, _)| *known == word).map(|(moment, ..)| *moment)
}

/// What a failure means, by a word of the API.
#[must_use]
pub fn failure(word: &str) -> Option<HookFailure> {
    FAILURES.iter().find(|(_, known, _)| *known == word).map(|(failure, ..)| *failure)
}

/// The fields `hooks[N].at`, `.run`, `.timeout_s`, `.on_failure`: a row for each hook and two to spare; a row without `run` counts as none.
#[derive(Debug, Clone, Copy)]
pub struct HookRows<'a> {
    /// The form that they belong to.
    pub form: Form<'a>,
    /// What was typed.
    pub state: &'a FormState,
}

impl HookRows<'_> {
    /// Rows that are read.
    pub const MOST: usize = 40;

    /// The values of the rows for a stored plan.
    #[must_use]
    pub fn values_of(hooks: &[Hook]) -> Vec<(String, String)> {
        let word = |hook: &Hook| MOMENTS.iter().find(|(at, ..)| *at == hook.at).map_or("", |(_, word, _)| word);
        let rule =
            |hook: &Hook| FAILURES.iter().find(|(on, ..)| *on == hook.on_failure).map_or("", |(_, word, _)| word);
        let row = |(i, hook): (usize, &Hook)| {
            [
                (format!("hooks[{i}].at"), word(hook).to_owned()),
                (format!("hooks[{i}].run"), hook.run.clone()),
                (format!("hooks[{i}].timeout_s"), hook.timeout_s.to_string()),
                (format!("hooks[{i}].on_failure"), rule(hook).to_owned()),
            ]
        };
        hooks.iter().enumerate().flat_map(row).collect()
    }

    /// The rows.
    #[must_use]
    pub fn render(&self) -> Markup {
        let typed = |row: &usize| !self.state.value(&format!("hooks[{row}].run")).is_empty();
        let rows = ((0..Self::MOST).rfind(typed).map_or(0, |last| last + 1) + 2).min(Self::MOST);
        let moments: Vec<_> = MOMENTS.iter().map(|(_, word, text)| ((*word).to_owned(), (*text).to_owned())).collect();
        let failures: Vec<_> =
            FAILURES.iter().map(|(_, word, text)| ((*word).to_owned(), (*text).to_owned())).collect();
        html! {
            details open[rows > 2] {
                summary { "Commands around the backup" }
                .stack {
                    p { small {
                        "A hook is the name of a command that the host's own configuration allows (" code { "[commands]" } " in its " code { "agent.toml" }
                        "), or of a script in its folder " code { "/etc/flotilla-agent/hooks" } ". A line that begins with " code { "sh:" }
                        " is run only where the host says " code { "allow_remote_commands = true" } "."
                    } }
                    @for row in 0..rows {
                        @let name = |field: &str| format!("hooks[{row}].{field}");
                        @let (at, run, timeout, rule) = (name("at"), name("run"), name("timeout_s"), name("on_failure"));
                        fieldset {
                            legend { "Hook " (row + 1) }
                            .fields {
                                (self.form.field(&Field::text(&run, "Command").placeholder("pg_dump_all")))
                                (self.form.select(&Field::text(&at, "When").default("before"), &moments))
                                (self.form.select(&Field::text(&rule, "If it fails").default("abort"), &failures))
                                (self.form.field(&Field::number(&timeout, "Time limit (seconds)").placeholder("300")))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The hooks of a plan, one a line.
#[must_use]
pub fn lines(hooks: &[Hook]) -> Markup {
    html! {
        @if hooks.is_empty() { "—" }
        @for hook in hooks {
            @let when = MOMENTS.iter().find(|(at, ..)| *at == hook.at).map_or("", |(.., text)| text);
            @let rule = FAILURES.iter().find(|(on, ..)| *on == hook.on_failure).map_or("", |(.., text)| text);
            code.line { (hook.run) }
            small.line { (when) ", at most " (format::span_s(hook.timeout_s)) ". If it fails: " (rule.to_lowercase()) }
        }
    }
}
