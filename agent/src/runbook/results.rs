//! Reads typed results out of what steps print: by pattern, by `KEY=value` marker, or by a pointer into JSON. Lines are looked at as they come, and nothing is kept
//! of them but what a rule took, within bounds.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// Most values of a rule that takes many.
pub const MOST_VALUES: usize = 1_000;
/// Longest value, in bytes; what is longer is cut.
pub const MOST_VALUE: usize = 16 << 10;
/// Most bytes of a step's output that are kept to be read as JSON.
pub const MOST_JSON: usize = 1 << 20;

/// What to look for.
#[derive(Debug, Clone)]
pub struct ResultRule {
    /// By which it is known: `results.NAME` in templates, and in the job's result.
    pub name: String,
    /// The label of the only step that is looked at; `None` for each.
    pub step: Option<String>,
    /// How.
    pub source: ResultSource,
    /// As what.
    pub kind: ResultType,
    /// All that are found; else the last.
    pub many: bool,
    /// The step has failed where nothing is found.
    pub required: bool,
}

impl PartialEq for ResultRule {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.step, self.kind, self.many, self.required, self.source.text())
            == (&other.name, &other.step, other.kind, other.many, other.required, other.source.text())
    }
}

/// How something is found.
#[derive(Debug, Clone)]
pub enum ResultSource {
    /// In a line: the group of the rule's name; several groups give an object, of whose fields those are of the rule's type that can be; none, the whole match.
    Regex(Regex),
    /// In a line `KEY=value`.
    Marker(String),
    /// In a step's whole output, which is JSON (RFC 6901).
    Pointer(String),
}

impl ResultSource {
    fn text(&self) -> String {
        match self {
            Self::Regex(regex) => format!("r{}", regex.as_str()),
            Self::Marker(key) => format!("m{key}"),
            Self::Pointer(pointer) => format!("p{pointer}"),
        }
    }
}

/// What a found text is read as. One that can't be is left out, and said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultType {
    /// As it is.
    #[default]
    String,
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// `true`, `yes`, `1`, `on`, and their opposites.
    Bool,
    /// Bytes, with or without K, M, G, T (1,024s).
    Bytes,
    /// JSON.
    Json,
}

impl ResultType {
    fn read(self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::String => Some(Value::from(cut(text))),
            Self::Int => text.replace(',', "").parse::<i64>().ok().map(Value::from),
            Self::Float => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" | "on" => Some(Value::from(true)),
                "false" | "no" | "0" | "off" => Some(Value::from(false)),
                _ => None,
            },
            Self::Bytes => bytes(text).map(Value::from),
            Self::Json => serde_json::from_str(text).ok().filter(|_| text.len() <= MOST_VALUE),
        }
    }

    fn take(self, found: &Value) -> Option<Value> {
        match (self, found) {
            (Self::Json, found) => (found.to_string().len() <= MOST_VALUE).then(|| found.clone()),
            (_, Value::String(text)) => self.read(text),
            (_, Value::Null | Value::Array(_) | Value::Object(_)) => None,
            (_, plain) => self.read(&plain.to_string()),
        }
    }
}

/// `12K`, `3.5 GiB`, `1024`.
fn bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let unit = text[split..].trim().trim_end_matches('B').trim_end_matches('i').to_ascii_uppercase();
    let power = ["", "K", "M", "G", "T", "P"].iter().position(|known| *known == unit)?;
    let scaled = number * 1024f64.powi(i32::try_from(power).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size that is out of range is out of anyone's range"
    )]
    (scaled.is_finite() && scaled >= 0.0).then_some(scaled as u64)
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MOST_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reads one job's output.
#[derive(Debug)]
pub struct Readings<'a> {
    rules: &'a [ResultRule],
    step: String,
    json: Option<String>,
    found: BTreeMap<String, Value>,
    notes: Vec<String>,
}

impl<'a> Readings<'a> {
    /// By these rules.
    #[must_use]
    pub fn new(rules: &'a [ResultRule]) -> Self {
        Self { rules, step: String::new(), json: None, found: BTreeMap::new(), notes: Vec::new() }
    }

    /// The step of this label begins.
    pub fn begin(&mut self, step: &str) {
        step.clone_into(&mut self.step);
        let wanted = self.mine().any(|rule| matches!(rule.source, ResultSource::Pointer(_)));
        self.json = wanted.then(String::new);
    }

    /// A line of the step's standard output.
    pub fn line(&mut self, line: &str) {
        if let Some(json) = self.json.as_mut().filter(|json| json.len() + line.len() < MOST_JSON) {
            json.push_str(line);
            json.push('\n');
        }
        let mut taken = Vec::new();
        for rule in self.mine() {
            let found = match &rule.source {
                ResultSource::Regex(regex) => by_regex(rule, regex, line),
                ResultSource::Marker(key) => line
                    .trim_start()
                    .strip_prefix(key.as_str())
                    .and_then(|rest| rest.strip_prefix('='))
                    .map(|text| rule.kind.read(text)),
                ResultSource::Pointer(_) => None,
            };
            taken.extend(found.map(|value| (rule, value)));
        }
        for (rule, value) in taken {
            self.take(rule, value);
        }
    }

    /// The step is over.
    ///
    /// # Errors
    /// Where a rule of this step that must find something found nothing; for people.
    pub fn end(&mut self) -> Result<(), String> {
        if let Some(text) = self.json.take() {
            let parsed: Option<Value> = serde_json::from_str(&text).ok();
            if parsed.is_none() {
                self.note(format!("what the step {:?} printed is no JSON of at most {MOST_JSON} bytes", self.step));
            }
            let pointed: Vec<_> = self
                .mine()
                .filter_map(|rule| match &rule.source {
                    ResultSource::Pointer(pointer) => Some((rule, parsed.as_ref()?.pointer(pointer)?.clone())),
                    _ => None,
                })
                .collect();
            for (rule, value) in pointed {
                match (rule.many, value) {
                    (true, Value::Array(items)) => {
                        items.iter().for_each(|item| self.take(rule, rule.kind.take(item)));
                    }
                    (_, value) => self.take(rule, rule.kind.take(&value)),
                }
            }
        }
        let missing =
            self.mine().find(|rule| rule.required && rule.step.is_some() && !self.found.contains_key(&rule.name));
        match missing {
            Some(rule) => Err(format!("what it printed has no {:?}, which must be there", rule.name)),
            None => Ok(()),
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn found(&self) -> &BTreeMap<String, Value> {
        &self.found
    }

    /// What was found, and what could not be read.
    #[must_use]
    pub fn into_parts(self) -> (BTreeMap<String, Value>, Vec<String>) {
        (self.found, self.notes)
    }

    fn mine(&self) -> impl Iterator<Item = &'a ResultRule> {
        let rules: &'a [ResultRule] = self.rules;
        let step = self.step.clone();
        rules.iter().filter(move |rule| rule.step.as_ref().is_none_or(|wanted| *wanted == step))
    }

    fn take(&mut self, rule: &ResultRule, value: Option<Value>) {
        let Some(value) = value else {
            self.note(format!("what was found for {:?} can't be read as {:?}", rule.name, rule.kind).to_lowercase());
            return;
        };
        if !rule.many {
            self.found.insert(rule.name.clone(), value);
            return;
        }
        let list = self.found.entry(rule.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else { return };
        if list.len() < MOST_VALUES {
            list.push(value);
        } else {
            self.note(format!("there are more than {MOST_VALUES} of {:?}; the rest is left out", rule.name));
        }
    }

    fn note(&mut self, what: String) {
        if self.notes.len() < 20 && !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }
}

/// `None` where the line does not match; `Some(None)` where what matched can't be read.
fn by_regex(rule: &ResultRule, regex: &Regex, line: &str) -> Option<Option<Value>> {
    let groups = regex.captures(line)?;
    let names: Vec<_> = regex.capture_names().flatten().collect();
    if let Some(own) = groups.name(&rule.name) {
        return Some(rule.kind.read(own.as_str()));
    }
    if names.is_empty() {
        let whole = groups.get(1).or_else(|| groups.get(0))?;
        return Some(rule.kind.read(whole.as_str()));
    }
    let fields = names.iter().filter_map(|name| {
        let text = groups.name(name)?.as_str();
        // What can't be read as the rule's type is another kind of field: a name beside its figures.
        Some(((*name).to_owned(), rule.kind.read(text).unwrap_or_else(|| Value::from(cut(text)))))
    });
    Some(Some(Value::Object(fields.collect())))
}

#[cfg(test)]
mod tests;
