//! From a form's `params.NAME` fields to the answers of an order, and from a job's answers back to the fields. What an answer has to be is the order's to say.

use serde_json::{Map, Value};

use crate::{
    http::extract::FormFields,
    runbook::{Input, InputType, InputValue},
    views::{FormState, components::HostRef, form, runbooks::inputs::field_name},
};

/// What comes before an answer's name.
const PREFIX: &str = "params.";

/// The answers of a form. An empty field is an open question; a box that is not ticked says no. What is not asked goes along, for a form may be older than its file, and is
/// refused by name.
#[must_use]
pub fn answers(asked: &[Input], fields: &FormFields) -> Map<String, Value> {
    let mut answers = Map::new();
    for (name, text) in fields.iter().filter_map(|(field, text)| Some((field.strip_prefix(PREFIX)?, text))) {
        if !text.is_empty() && !answers.contains_key(name) {
            // Browsers end a line by two characters; a command's lines end by one.
            answers.insert(name.to_owned(), Value::from(text.replace("\r\n", "\n")));
        }
    }
    for input in asked.iter().filter(|input| input.kind == InputType::Bool) {
        answers.entry(input.name.clone()).or_insert(Value::Bool(false));
    }
    answers
}

/// The fields that stand for earlier answers; secrets are not among these, and stay empty.
#[must_use]
pub fn prefilled(asked: &[Input], given: &Map<String, Value>, hosts: &[HostRef]) -> FormState {
    let pairs = asked.iter().filter_map(|input| {
        let value = given.get(&input.name).cloned().or_else(|| input.default.as_ref().map(plain))?;
        let text = match (&input.kind, value) {
            (InputType::Secret, _) | (_, Value::Bool(false) | Value::Null) => return None,
            (_, Value::Bool(true)) => form::ON.to_owned(),
            (InputType::Host, Value::String(id)) => {
                hosts.iter().find(|host| host.id.to_string() == id).map_or(id, |host| host.name.clone())
            }
            (_, Value::String(text)) => text,
            (_, other) => other.to_string(),
        };
        Some((field_name(&input.name), text))
    });
    // A form of no values would be taken for an untouched one, and show defaults.
    FormState::of(pairs.chain([("from".to_owned(), "an earlier job".to_owned())]))
}

fn plain(value: &InputValue) -> Value {
    match value {
        InputValue::Bool(truth) => Value::from(*truth),
        InputValue::Int(number) => Value::from(*number),
        InputValue::Text(text) => Value::from(text.as_str()),
        InputValue::Secret(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::HostId, runbook::parse};

    const ASKS: &str = r#"
name = "ask"
title = "Ask"
inputs = [
  { name = "who", type = "string", default = "world" },
  { name = "text", type = "string", multiline = true, optional = true },
  { name = "sure", type = "bool", default = true },
  { name = "key", type = "secret" },
  { name = "other", type = "host" },
]
[[steps]]
type = "local"
label = "Say"
cmd = "true"
"#;

    fn hosts() -> Vec<HostRef> {
        vec![HostRef { id: HostId::from_parts(1, 7), name: "db 1".into() }]
    }

    #[test]
    fn a_form_becomes_answers() {
        let book = parse(ASKS).unwrap();
        let fields = FormFields::of([
            ("host", "x"),
            ("params.who", ""),
            ("params.text", "a\r\nb"),
            ("params.other", "db 1"),
            ("params.gone", "1"),
        ]);
        let found = answers(&book.inputs, &fields);
        assert_eq!(
            Value::Object(found),
            serde_json::json!({"text": "a\nb", "sure": false, "other": "db 1", "gone": "1"})
        );
    }

    #[test]
    fn earlier_answers_become_fields_again_but_for_secrets() {
        let book = parse(ASKS).unwrap();
        let id = HostId::from_parts(1, 7).to_string();
        let given = serde_json::json!({"sure": false, "other": id, "key": "planted"});
        let state = prefilled(&book.inputs, given.as_object().unwrap(), &hosts());
        assert_eq!((state.value("params.who"), state.value("params.other")), ("world", "db 1"));
        assert!(!state.has("params.sure", "true") && state.value("params.key").is_empty() && !state.is_untouched());
    }
}
