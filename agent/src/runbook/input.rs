//! What a runbook asks of whoever runs it, and what may be answered. A value that passed here is of its type, within its bounds, and can't be taken for an option.

use std::collections::BTreeMap;

use flotilla_proto::Secret;
use regex_lite::Regex;
use serde::{Deserialize, Serialize};

/// Longest value, in bytes.
pub const MOST_VALUE: usize = 64 << 10;

/// One question.
#[derive(Debug, Clone)]
pub struct Input {
    /// `[a-z][a-z0-9_]*`: its name in templates.
    pub name: String,
    /// For people; the name where absent.
    pub label: String,
    /// For people.
    pub help: String,
    /// What is answered.
    pub kind: InputType,
    /// What counts where nothing is answered; `None`: it must be answered.
    pub default: Option<InputValue>,
    /// The whole of a text must match it.
    pub pattern: Option<Pattern>,
    /// May be left empty.
    pub optional: bool,
    /// A text may have several lines.
    pub multiline: bool,
    /// A text may begin with a dash.
    pub dash: bool,
}

impl PartialEq for Input {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |input: &Self| input.pattern.as_ref().map(|pattern| pattern.source.clone());
        (&self.name, &self.label, &self.help, &self.kind, &self.default, pattern(self))
            == (&other.name, &other.label, &other.help, &other.kind, &other.default, pattern(other))
            && (self.optional, self.multiline, self.dash) == (other.optional, other.multiline, other.dash)
    }
}

/// A pattern for whole texts.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As it was written.
    pub source: String,
    whole: Regex,
}

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn new(source: &str) -> Result<Self, String> {
        let whole = Regex::new(&format!("^(?:{source})$")).map_err(|error| error.to_string())?;
        Ok(Self { source: source.to_owned(), whole })
    }

    fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputType {
    /// A text.
    String,
    /// A whole number within bounds.
    Int {
        /// Least.
        min: Option<i64>,
        /// Most.
        max: Option<i64>,
    },
    /// Yes or no.
    Bool,
    /// One of these.
    Choice(Vec<String>),
    /// A text that is never shown, logged or kept in clear.
    Secret,
    /// An absolute path without `..`.
    Path,
    /// A host, by id.
    Host,
    /// A site, by id.
    Site,
}

impl InputType {
    /// The word in files.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int { .. } => "int",
            Self::Bool => "bool",
            Self::Choice(_) => "choice",
            Self::Secret => "secret",
            Self::Path => "path",
            Self::Host => "host",
            Self::Site => "site",
        }
    }
}

/// An answer. On the wire a secret is an object, everything else stands plain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputValue {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A text, path, choice, host or site.
    Text(String),
    /// A secret.
    #[serde(with = "wrapped")]
    Secret(Secret),
}

mod wrapped {
    use flotilla_proto::Secret;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wrapped {
        secret: Secret,
    }

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        Wrapped { secret: secret.clone() }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Wrapped::deserialize(deserializer).map(|wrapped| wrapped.secret)
    }
}

/// Answers by name.
pub type Inputs = BTreeMap<String, InputValue>;

/// An answer that is refused. The words are for people, and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input}: {what}")]
pub struct InputError {
    /// Which question.
    pub input: String,
    /// Why, and what may be answered.
    pub what: String,
}

/// The answers that count: what was given, and defaults for the rest. A question that may stay open and has no default is an empty text.
///
/// # Errors
/// Every answer that is refused, those to questions that were not asked among them.
pub fn resolve(asked: &[Input], given: &serde_json::Map<String, serde_json::Value>) -> Result<Inputs, Vec<InputError>> {
    let mut errors = Vec::new();
    for name in given.keys().filter(|name| asked.iter().all(|input| &input.name != *name)) {
        let names: Vec<_> = asked.iter().map(|input| input.name.as_str()).collect();
        let names = if names.is_empty() {
            "it asks for nothing".to_owned()
        } else {
            format!("it asks for {}", names.join(", "))
        };
        errors.push(InputError { input: name.clone(), what: format!("the runbook does not ask for this; {names}") });
    }
    let mut answers = Inputs::new();
    for input in asked {
        match input.answer(given.get(&input.name)) {
            Ok(value) => {
                answers.insert(input.name.clone(), value);
            }
            Err(what) => errors.push(InputError { input: input.name.clone(), what }),
        }
    }
    if errors.is_empty() { Ok(answers) } else { Err(errors) }
}

impl Input {
    fn answer(&self, given: Option<&serde_json::Value>) -> Result<InputValue, String> {
        let empty = |value: &serde_json::Value| value.is_null() || value.as_str() == Some("");
        match given.filter(|value| !empty(value)) {
            Some(value) => self.typed(value),
            None => match &self.default {
                Some(default) => Ok(default.clone()),
                None if self.optional => Ok(match self.kind {
                    InputType::Secret => InputValue::Secret(Secret::new(String::new())),
                    InputType::Bool => InputValue::Bool(false),
                    _ => InputValue::Text(String::new()),
                }),
                None => Err("this must be answered".to_owned()),
            },
        }
    }

    /// A value of this input's type. Forms send texts for everything; those are read as what is asked for.
    ///
    /// # Errors
    /// Why it is not, for people; a secret is not repeated.
    pub fn typed(&self, value: &serde_json::Value) -> Result<InputValue, String> {
        let text = match value {
            serde_json::Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        match (&self.kind, value, text) {
            (InputType::Bool, serde_json::Value::Bool(truth), _) => Ok(InputValue::Bool(*truth)),
            (InputType::Bool, _, Some("true" | "on" | "yes")) => Ok(InputValue::Bool(true)),
            (InputType::Bool, _, Some("false" | "off" | "no")) => Ok(InputValue::Bool(false)),
            (InputType::Bool, ..) => Err("it must be true or false".to_owned()),
            (InputType::Int { min, max }, ..) => {
                let number = value.as_i64().or_else(|| text.and_then(|text| text.trim().parse().ok()));
                let number = number.ok_or_else(|| "it must be a whole number".to_owned())?;
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    let bound = |bound: &Option<i64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
                    return Err(format!("it must be from {} to {}", bound(min), bound(max)));
                }
                Ok(InputValue::Int(number))
            }
            (kind, _, Some(text)) => {
                self.text(kind, text)?;
                Ok(match kind {
                    InputType::Secret => InputValue::Secret(Secret::new(text.to_owned())),
                    _ => InputValue::Text(text.to_owned()),
                })
            }
            (kind, ..) => Err(format!("it must be a text ({})", kind.word())),
        }
    }

    fn text(&self, kind: &InputType, text: &str) -> Result<(), String> {
        if text.len() > MOST_VALUE {
            return Err(format!("it has {} bytes; at most {MOST_VALUE} can be", text.len()));
        }
        if super::shell::is_marked(text) {
            return Err("it holds a private character (U+F0000 to U+F0019), which can't be passed on".to_owned());
        }
        let breaks = |c: char| self.multiline && (c == '\n' || c == '\t');
        if let Some(c) = text.chars().find(|c| c.is_control() && !breaks(*c)) {
            let line_break = matches!(c, '\n' | '\r');
            return Err(if line_break {
                "it must be one line".to_owned()
            } else {
                format!("it holds the control character U+{:04X}; take it out", u32::from(c))
            });
        }
        if kind != &InputType::Secret && !self.dash && text.starts_with('-') {
            return Err("it begins with a dash, and would be taken for an option".to_owned());
        }
        match kind {
            InputType::Choice(choices) if !choices.iter().any(|choice| choice == text) => {
                return Err(format!("it must be one of {}", choices.join(", ")));
            }
            InputType::Path if !text.starts_with('/') => {
                return Err("it must be an absolute path: one that begins with a slash".to_owned());
            }
            InputType::Path if text.split('/').any(|part| part == "..") => {
                return Err("it must not hold `..`: write the path as it is".to_owned());
            }
            _ => {}
        }
        match &self.pattern {
            Some(pattern) if !pattern.matches(text) => Err(format!("it must match {}", pattern.source)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
