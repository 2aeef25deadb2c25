//! Forms and their fields. A form is drawn from a [`FormState`], so that a refused POST shows what was typed, each error at its
//! field. A secret is the exception: its field never carries a value.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::domain::FieldError;

/// What was typed and what was wrong with it. Default: an untouched form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FormState {
    values: BTreeMap<String, Vec<String>>,
    errors: Vec<FieldError>,
    general: Option<String>,
}

impl FormState {
    /// A form with these values; a name that comes several times has several.
    #[must_use]
    pub fn of<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut state = Self::default();
        for (name, value) in pairs {
            state.values.entry(name.into()).or_default().push(value.into());
        }
        state
    }

    /// The same with errors at fields. One that names no field (`""`) becomes the general error.
    #[must_use]
    pub fn refused(mut self, errors: Vec<FieldError>) -> Self {
        let (general, fields): (Vec<_>, Vec<_>) = errors.into_iter().partition(|error| error.field.is_empty());
        self.errors = fields;
        self.general = self.general.or_else(|| general.into_iter().next().map(|error| error.message));
        self
    }

    /// The same with an error of the whole.
    #[must_use]
    pub fn failed(mut self, message: impl Into<String>) -> Self {
        self.general = Some(message.into());
        self
    }

    /// The first value of a field; empty where there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Whether a checkbox or a choice of this name and value was taken.
    #[must_use]
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.values.get(name).is_some_and(|values| values.iter().any(|v| v == value))
    }

    /// Whether nothing was typed yet, so that defaults apply.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.values.is_empty()
    }

    /// The error of a field, or of a part of it (`env.KEY`, `paths[0]` are parts of `env`, `paths`).
    #[must_use]
    pub fn error(&self, name: &str) -> Option<&str> {
        let concerns =
            |field: &str| field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.errors.iter().find(|error| concerns(&error.field)).map(|error| error.message.as_str())
    }

    /// How many errors there are beside those of one field.
    #[must_use]
    pub fn errors_beside(&self, name: &str) -> usize {
        self.errors.iter().filter(|error| error.field != name).count() + usize::from(self.general.is_some())
    }

    /// Errors at fields that `drawn` does not name, and the general one: what the form's head must say, lest it be lost.
    fn headline(&self, drawn: &[&str]) -> Vec<String> {
        let shown = |error: &FieldError| {
            drawn.iter().any(|name| {
                error.field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            })
        };
        let lost = self.errors.iter().filter(|e| !shown(e)).map(|e| format!("{}: {}", e.field, e.message));
        self.general.iter().cloned().chain(lost).collect()
    }
}

/// Draws the fields of one form. `prefix` keeps ids apart where a page has several forms.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    prefix: &'a str,
    state: &'a FormState,
}

/// One line of text, or a secret.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    name: &'a str,
    label: &'a str,
    kind: &'static str,
    hint: &'a str,
    placeholder: &'a str,
    autocomplete: &'static str,
    required: bool,
    unmarked: bool,
    default: &'a str,
    suggestions: &'a [String],
    bounds: (Option<i64>, Option<i64>),
}

impl<'a> Field<'a> {
    /// A line of text.
    #[must_use]
    pub fn text(name: &'a str, label: &'a str) -> Self {
        Self {
            name,
            label,
            kind: "text",
            hint: "",
            placeholder: "",
            autocomplete: "off",
            required: false,
            unmarked: false,
            default: "",
            suggestions: &[],
            bounds: (None, None),
        }
    }

    /// A secret: what was typed is never sent back.
    #[must_use]
    pub fn secret(name: &'a str, label: &'a str) -> Self {
        Self { kind: "password", autocomplete: "new-password", ..Self::text(name, label) }
    }

    /// A whole number, 0 or more.
    #[must_use]
    pub fn number(name: &'a str, label: &'a str) -> Self {
        Self { kind: "number", bounds: (Some(0), None), ..Self::text(name, label) }
    }

    /// Least and most of a number; `None`: any.
    #[must_use]
    pub fn bounds(self, least: Option<i64>, most: Option<i64>) -> Self {
        Self { bounds: (least, most), ..self }
    }

    /// A time of day, `HH:MM`.
    #[must_use]
    pub fn time(name: &'a str, label: &'a str) -> Self {
        Self { kind: "time", ..Self::text(name, label) }.unmarked()
    }

    /// Needed where it is read at all, so that neither the browser may insist on it nor the label call it optional.
    #[must_use]
    pub fn unmarked(self) -> Self {
        Self { unmarked: true, ..self }
    }

    /// A line of help.
    #[must_use]
    pub fn hint(self, hint: &'a str) -> Self {
        Self { hint, ..self }
    }

    /// An example inside the empty field.
    #[must_use]
    pub fn placeholder(self, placeholder: &'a str) -> Self {
        Self { placeholder, ..self }
    }

    /// The browser's word for what belongs here.
    #[must_use]
    pub fn autocomplete(self, autocomplete: &'static str) -> Self {
        Self { autocomplete, ..self }
    }

    /// The value of an untouched form.
    #[must_use]
    pub fn default(self, default: &'a str) -> Self {
        Self { default, ..self }
    }

    /// Values to choose from; others may be typed.
    #[must_use]
    pub fn suggestions(self, suggestions: &'a [String]) -> Self {
        Self { suggestions, ..self }
    }

    /// Must not be empty.
    #[must_use]
    pub fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

impl<'a> Form<'a> {
    /// Fields of the form called `prefix`.
    #[must_use]
    pub fn new(prefix: &'a str, state: &'a FormState) -> Self {
        Self { prefix, state }
    }

    /// What concerns the whole form. `drawn` names its fields: errors of others are said here.
    #[must_use]
    pub fn errors(&self, drawn: &[&str]) -> Markup {
        self.errors_saying(drawn, "Not saved: a field below needs another value.")
    }

    /// The same with other words for what did not happen.
    #[must_use]
    pub fn errors_saying(&self, drawn: &[&str], refused: &str) -> Markup {
        let lines = self.state.headline(drawn);
        html! {
            @if !lines.is_empty() {
                .notice.bad role="alert" { @for line in lines { p { (line) } } }
            } @else if !self.state.errors.is_empty() {
                p.notice.bad role="alert" { (refused) }
            }
        }
    }

    /// The id of a field's input: unique on the page.
    #[must_use]
    pub fn id(&self, name: &str) -> String {
        let mut id = format!("{}-", self.prefix);
        id.extend(name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }));
        id
    }

    /// Hint and error under a field, and the ids that describe it.
    fn notes(&self, name: &str, hint: &str) -> (Markup, Option<String>) {
        let (id, error) = (self.id(name), self.state.error(name));
        let ids: Vec<String> = [(!hint.is_empty()).then(|| format!("{id}-hint")), error.map(|_| format!("{id}-error"))]
            .into_iter()
            .flatten()
            .collect();
        let notes = html! {
            @if !hint.is_empty() { small #(format!("{id}-hint")) { (hint) } }
            @if let Some(error) = error { p.error #(format!("{id}-error")) { (error) } }
        };
        (notes, (!ids.is_empty()).then(|| ids.join(" ")))
    }

    /// A labelled line of input.
    #[must_use]
    pub fn field(&self, field: &Field<'_>) -> Markup {
        let id = self.id(field.name);
        let (notes, described) = self.notes(field.name, field.hint);
        let typed = self.state.value(field.name);
        let value = if self.state.is_untouched() { field.default } else { typed };
        let list = (!field.suggestions.is_empty()).then(|| format!("{id}-list"));
        html! {
            .field {
                label for=(id) { (field.label) @if !field.required && !field.unmarked { " " span.muted { "optional" } } }
                input #(id) name=(field.name) type=(field.kind) autocomplete=(field.autocomplete) spellcheck="false"
                    value=[(field.kind != "password" && !value.is_empty()).then_some(value)]
                    placeholder=[(!field.placeholder.is_empty()).then_some(field.placeholder)]
                    // Where htmx draws the form anew, what was typed here stays in the browser.
                    hx-preserve=[(field.kind == "password").then_some("true")]
                    min=[field.bounds.0] max=[field.bounds.1] list=[list.as_deref()] required[field.required]
                    aria-invalid=[self.state.error(field.name).map(|_| "true")] aria-describedby=[described];
                @if let Some(list) = &list {
                    datalist #(list) { @for choice in field.suggestions { option value=(choice) {} } }
                }
                (notes)
            }
        }
    }

    /// Several lines of input, one value a line.
    #[must_use]
    pub fn lines(&self, field: &Field<'_>, rows: u8) -> Markup {
        let id = self.id(field.name);
        let (notes, described) = self.notes(field.name, field.hint);
        let value = if self.state.is_untouched() { field.default } else { self.state.value(field.name) };
        html! {
            .field {
                label for=(id) { (field.label) @if !field.required && !field.unmarked { " " span.muted { "optional" } } }
                textarea.mono #(id) name=(field.name) rows=(rows) autocomplete="off" spellcheck="false" required[field.required]
                    placeholder=[(!field.placeholder.is_empty()).then_some(field.placeholder)]
                    aria-invalid=[self.state.error(field.name).map(|_| "true")] aria-describedby=[described]
                    // A parser drops the first line break after the tag: give it one to drop.
                    { "\n" (value) }
                (notes)
            }
        }
    }

    /// One of several `(value, label)`.
    #[must_use]
    pub fn select(&self, field: &Field<'_>, choices: &[(String, String)]) -> Markup {
        let id = self.id(field.name);
        let (notes, described) = self.notes(field.name, field.hint);
        let current = if self.state.is_untouched() { field.default } else { self.state.value(field.name) };
        html! {
            .field {
                label for=(id) { (field.label) }
                select #(id) name=(field.name) required[field.required] aria-invalid=[self.state.error(field.name).map(|_| "true")]
                    aria-describedby=[described] {
                    @for (value, label) in choices { option value=(value) selected[value == current] { (label) } }
                }
                (notes)
            }
        }
    }

    /// A checkbox that sends `value` when set; `on` is its state in an untouched form.
    #[must_use]
    pub fn checkbox(&self, field: &Field<'_>, value: &str, on: bool) -> Markup {
        let id = self.id(&format!("{}-{value}", field.name));
        let checked = if self.state.is_untouched() { on } else { self.state.has(field.name, value) };
        let error = self.state.error(field.name).filter(|_| value == ON);
        let hint = (!field.hint.is_empty()).then(|| format!("{id}-hint"));
        let told = error.map(|_| format!("{id}-error"));
        let described: Vec<&str> = [hint.as_deref(), told.as_deref()].into_iter().flatten().collect();
        html! {
            .check {
                input #(id) type="checkbox" name=(field.name) value=(value) checked[checked]
                    aria-describedby=[(!described.is_empty()).then(|| described.join(" "))];
                label for=(id) { (field.label) }
                @if let Some(hint) = &hint { small #(hint) { (field.hint) } }
                @if let (Some(error), Some(told)) = (error, &told) { p.error #(told) { (error) } }
            }
        }
    }
}

/// Ticked boxes send this; the handler reads presence.
pub const ON: &str = "true";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_form_shows_what_was_typed_and_why_it_was_refused() {
        let state =
            FormState::of([("name", "we\"b")]).refused(vec![FieldError::new("name", "is taken: choose another")]);
        let html = Form::new("host", &state).field(&Field::text("name", "Name")).into_string();
        assert!(html.contains(r#"value="we&quot;b""#) && html.contains("is taken: choose another"));
        assert!(html.contains(r#"aria-invalid="true""#) && html.contains(r#"aria-describedby="host-name-error""#));
    }

    #[test]
    fn a_secret_is_never_sent_back() {
        let state = FormState::of([("password", "hunter2-planted")]);
        let html = Form::new("repo", &state).field(&Field::secret("password", "Password")).into_string();
        assert!(!html.contains("hunter2-planted"));
    }

    #[test]
    fn an_error_of_a_field_that_the_form_does_not_draw_is_said_at_its_head() {
        let state = FormState::default()
            .refused(vec![FieldError::new("hooks.pre", "not known"), FieldError::new("env.A", "x")]);
        let html = Form::new("plan", &state).errors(&["env"]).into_string();
        assert!(html.contains("hooks.pre: not known") && !html.contains("env.A"));
    }
}
