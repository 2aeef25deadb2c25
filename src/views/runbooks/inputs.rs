//! What a runbook asks, as fields of a form, by type. A field is called `params.NAME`, as the order's errors are, so that each error stands beside its field.
//! A secret is never sent back.

use maud::{Markup, html};

use crate::{
    runbook::{Input, InputType, InputValue},
    views::form::{self, Field, Form},
};

/// What inputs of the types host and site can be answered with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices {
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Sites: id and label. Where there are none, an id is typed.
    pub sites: Vec<(String, String)>,
}

/// The field of an input.
#[must_use]
pub fn field_name(input: &str) -> String {
    format!("params.{input}")
}

/// The names of all fields, for [`Form::errors`].
#[must_use]
pub fn field_names(asked: &[Input]) -> Vec<String> {
    asked.iter().map(|input| field_name(&input.name)).collect()
}

/// A field for each input; nothing where nothing is asked. An untouched form shows defaults.
#[must_use]
pub fn render(form: &Form<'_>, asked: &[Input], choices: &Choices) -> Markup {
    html! { @for input in asked { (field(form, input, choices)) } }
}

fn field(form: &Form<'_>, input: &Input, choices: &Choices) -> Markup {
    let name = field_name(&input.name);
    let (hint, default) = (hint(input), default(input));
    let is_needed = !input.optional && input.default.is_none();
    let text = |field: Field<'_>| form.field(&field);
    let plain = dressed(Field::text(&name, &input.label), &hint, &default, is_needed);
    match &input.kind {
        InputType::Bool => form.checkbox(&plain, form::ON, matches!(input.default, Some(InputValue::Bool(true)))),
        InputType::Int { min, max } => {
            let number = dressed(Field::number(&name, &input.label), &hint, &default, is_needed);
            text(number.bounds(*min, *max))
        }
        InputType::Secret => text(dressed(Field::secret(&name, &input.label), &hint, "", is_needed)),
        InputType::Choice(all) => {
            let open = input.default.is_none().then(|| (String::new(), "Choose one".to_owned()));
            let all = open.into_iter().chain(all.iter().map(|choice| (choice.clone(), choice.clone())));
            form.select(&plain, &all.collect::<Vec<_>>())
        }
        InputType::Host => text(plain.placeholder("Name of a host").suggestions(&choices.hosts)),
        InputType::Site if choices.sites.is_empty() => text(plain.placeholder("Id of a site")),
        InputType::Site => {
            let open = (String::new(), "Choose one".to_owned());
            let all = std::iter::once(open).chain(choices.sites.iter().cloned());
            form.select(&plain, &all.collect::<Vec<_>>())
        }
        InputType::String if input.multiline => form.lines(&plain, 5),
        InputType::String => text(plain),
        InputType::Path => text(plain.placeholder("/path/to/it")),
    }
}

fn dressed<'a>(field: Field<'a>, hint: &'a str, default: &'a str, is_needed: bool) -> Field<'a> {
    let field = field.hint(hint).default(default);
    // What has a default counts as answered: neither needed nor marked as optional.
    match (is_needed, default.is_empty()) {
        (true, _) => field.required(),
        (false, true) => field,
        (false, false) => field.unmarked(),
    }
}

/// The help of the file, and what else an answer has to be. The pattern is for reading: a browser would take it for one of its own kind, which differs.
fn hint(input: &Input) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !input.help.is_empty() {
        parts.push(input.help.clone());
    }
    match &input.kind {
        InputType::Int { min: Some(min), max: Some(max) } => parts.push(format!("A number from {min} to {max}.")),
        InputType::Int { min: Some(min), .. } => parts.push(format!("A number, {min} at least.")),
        InputType::Int { max: Some(max), .. } => parts.push(format!("A number, {max} at most.")),
        InputType::Secret => parts.push("Kept sealed until the job ends, and never shown.".to_owned()),
        _ => {}
    }
    if let Some(pattern) = &input.pattern {
        parts.push(format!("The whole must match {}", pattern.source));
    }
    parts.join(" ")
}

fn default(input: &Input) -> String {
    match &input.default {
        Some(InputValue::Text(text)) => text.clone(),
        Some(InputValue::Int(number)) => number.to_string(),
        Some(InputValue::Bool(truth)) => truth.to_string(),
        Some(InputValue::Secret(_)) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::FieldError, runbook::parse, views::FormState};

    const ASKING: &str = r#"
name = "ask"
title = "Ask"
[[inputs]]
name = "who"
label = "<b>Who</b>"
help = "Anyone."
type = "string"
default = "w\"orld"
pattern = '[a-z" ]+'
[[inputs]]
name = "count"
type = "int"
min = -3
max = 9
[[inputs]]
name = "sure"
type = "bool"
default = true
[[inputs]]
name = "mode"
type = "choice"
choices = ["fast", "slow"]
[[inputs]]
name = "key"
type = "secret"
[[inputs]]
name = "text"
type = "string"
multiline = true
optional = true
[[inputs]]
name = "other"
type = "host"
[[steps]]
type = "local"
label = "Say"
cmd = "echo {{ who }}"
"#;

    fn drawn(state: &FormState) -> String {
        let book = parse(ASKING).unwrap();
        let choices = Choices { hosts: vec!["db-1".into()], sites: Vec::new() };
        render(&Form::new("run", state), &book.inputs, &choices).into_string()
    }

    #[test]
    fn each_type_has_its_field_with_default_bounds_and_help() {
        let html = drawn(&FormState::default());
        for words in [
            "&lt;b&gt;Who&lt;/b&gt;",
            r#"value="w&quot;orld""#,
            "Anyone. The whole must match [a-z&quot; ]+",
            r#"name="params.count" type="number""#,
            r#"min="-3" max="9""#,
            r#"name="params.sure" value="true" checked"#,
            r#"<option value="slow">"#,
            r#"name="params.key" type="password""#,
            r#"<textarea class="mono" id="run-params-text""#,
            r#"<option value="db-1">"#,
        ] {
            assert!(html.contains(words), "{words} is not in {html}");
        }
    }

    #[test]
    fn what_was_typed_stays_but_for_secrets_and_errors_stand_at_their_fields() {
        let typed = [("params.who", "web<1>"), ("params.key", "planted-secret"), ("params.mode", "slow")];
        let state = FormState::of(typed).refused(vec![
            FieldError::new("params.who", "it must match"),
            FieldError::new("params.sure", "it must be true or false"),
        ]);
        let html = drawn(&state);
        assert!(html.contains("web&lt;1&gt;") && !html.contains("planted-secret"), "{html}");
        assert!(html.contains(r#"aria-describedby="run-params-who-hint run-params-who-error""#), "{html}");
        assert!(html.contains(r#"aria-describedby="run-params-sure-true-error""#), "{html}");
        assert!(html.contains(r#"<option value="slow" selected>"#));
        assert!(!html.contains(r#"value="true" checked"#), "an unticked box stays so");
    }
}
