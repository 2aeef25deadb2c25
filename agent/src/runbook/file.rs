//! Reads a runbook's file: first its shape, where an unknown key is an error with its line, then its sense. A [`Runbook`] that comes out of here can be run: its
//! patterns compile, its templates name only what there is, and what destroys stands behind what makes that safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use flotilla_proto::{JobKind, Way};
use regex_lite::Regex;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::{
    Artefact, Body, CallStep, CopyStep, Guard, Input, InputType, Json, Place, ResultRule, ResultSource, Retry, Runbook,
    ShellStep, Step, Template, TemplateError, Work, input::Pattern,
};
use shape::{
    ArtefactFile, GuardFile, GuardPlace, InputFile, InputWord, ResultFile, RetryFile, RunbookFile, Seconds, Statuses,
    StepFile, StepWord,
};

mod shape;

/// Largest file, in bytes.
pub const MOST_BYTES: usize = 256 << 10;
/// Most steps, teardown among them.
const MOST_STEPS: usize = 200;
/// Of a step, in seconds, where the file says nothing.
const TIMEOUT_S: u64 = 1800;
/// The same for `api`.
const CALL_TIMEOUT_S: u64 = 30;
/// The same for a guard.
const GUARD_TIMEOUT_S: u64 = 60;
/// The same for one attempt of a step that is repeated.
const ATTEMPT_TIMEOUT_S: u64 = 60;
/// Longest that a step may be given: a week.
const MOST_TIMEOUT_S: u64 = 7 * 86_400;
/// Names that templates know besides inputs.
const KNOWN: [&str; 7] = ["host", "site", "job", "scratch", "artefacts", "results", "loop"];

/// Why a file is no runbook. The words are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct FileError {
    /// From 1, where it can be told.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// The runbook of a file's text.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn parse(text: &str) -> Result<Runbook, FileError> {
    if text.len() > MOST_BYTES {
        let what = format!("the file has {} bytes; at most {MOST_BYTES} can be", text.len());
        return Err(FileError { line: None, what });
    }
    let file: RunbookFile = toml::from_str(text).map_err(|error| FileError {
        line: error.span().map(|span| line_of(text, &span)),
        what: error.message().trim().replace('\n', "; "),
    })?;
    let hash: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Reader { text, inputs: BTreeMap::new(), artefacts: BTreeSet::new(), labels: BTreeSet::new() }.runbook(file, hash)
}

/// A runbook of a plain JSON array of steps, as pasted by a person: its own text is the TOML of it.
///
/// # Errors
/// What is wrong with it, with the number of the step where that can be told.
pub fn parse_steps(json: &str) -> Result<(Runbook, String), FileError> {
    let plain = |what: String| FileError { line: None, what };
    let steps: serde_json::Value =
        serde_json::from_str(json).map_err(|error| plain(format!("this is no JSON: {error}")))?;
    let serde_json::Value::Array(steps) = steps else {
        return Err(plain("this is no JSON array: write the steps as [{…}, {…}]".to_owned()));
    };
    let mut main = Vec::new();
    let mut teardown = Vec::new();
    for (at, step) in steps.into_iter().enumerate() {
        let mut table =
            toml::Table::try_from(without_nulls(step)).map_err(|error| plain(format!("step {}: {error}", at + 1)))?;
        // The older systems mark teardown steps so.
        let last = matches!(table.remove("teardown"), Some(toml::Value::Boolean(true)));
        table.entry("label").or_insert_with(|| toml::Value::String(format!("Step {}", at + 1)));
        if last { &mut teardown } else { &mut main }.push(toml::Value::Table(table));
    }
    let mut whole = toml::Table::new();
    whole.insert("name".into(), "steps".into());
    whole.insert("title".into(), "Pasted steps".into());
    whole.insert("role".into(), "admin".into());
    whole.insert("transports".into(), vec!["agent", "ssh", "api"].into());
    whole.insert("steps".into(), main.into());
    whole.insert("teardown".into(), teardown.into());
    let text = toml::to_string(&whole).map_err(|error| plain(error.to_string()))?;
    parse(&text).map(|runbook| (runbook, text))
}

/// TOML has no null: a field that is null is one that is not there.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

fn line_of(text: &str, span: &Range<usize>) -> usize {
    text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1)
}

/// What was read so far, while the rest is held against it.
struct Reader<'a> {
    text: &'a str,
    inputs: BTreeMap<String, InputType>,
    /// Of steps above the one that is read.
    artefacts: BTreeSet<String>,
    labels: BTreeSet<String>,
}

/// Something wrong at a place that is known.
type At<'a> = &'a Range<usize>;

impl Reader<'_> {
    fn wrong<T>(&self, at: At<'_>, what: impl Into<String>) -> Result<T, FileError> {
        Err(FileError { line: Some(line_of(self.text, at)), what: what.into() })
    }

    fn runbook(mut self, file: RunbookFile, hash: String) -> Result<Runbook, FileError> {
        let at = file.name.span();
        let name = file.name.into_inner();
        match name.parse::<JobKind>() {
            Ok(JobKind::Runbook(_)) => {}
            Ok(_) => {
                return self
                    .wrong(&at, format!("the name {name:?} is one of Flotilla's own operations; choose another"));
            }
            Err(error) => return self.wrong(&at, format!("the name {name:?} is {error}")),
        }
        let inputs = file.inputs.into_iter().map(|input| self.input(input)).collect::<Result<Vec<_>, _>>()?;
        let guards = file.guards.into_iter().map(|guard| self.guard(guard)).collect::<Result<Vec<_>, _>>()?;
        let count = file.steps.len() + file.teardown.len();
        if file.steps.is_empty() {
            return self.wrong(&(0..0), "there are no [[steps]]: say what is to be done");
        }
        if count > MOST_STEPS {
            return self.wrong(&(0..0), format!("there are {count} steps; at most {MOST_STEPS} can be"));
        }
        let safety = file.safety;
        let wanted = safety.as_ref().map(|name| name.get_ref().as_str());
        let steps = file.steps.into_iter().map(|step| self.step(step, wanted)).collect::<Result<Vec<_>, _>>()?;
        if let Some(safety) = &safety {
            if !self.artefacts.contains(safety.get_ref()) {
                let what = format!(
                    "no step makes the safety artefact {:?}; give the step that does an `artefact`",
                    safety.get_ref()
                );
                return self.wrong(&safety.span(), what);
            }
            if steps.iter().all(|step| !step.destructive) {
                return self.wrong(
                    &safety.span(),
                    "there is a safety artefact, but no step says `destructive = true`: mark the steps that it is for",
                );
            }
        }
        let teardown = file.teardown.into_iter().map(|step| self.step(step, None)).collect::<Result<Vec<_>, _>>()?;
        let results = file.results.into_iter().map(|rule| self.result(rule)).collect::<Result<Vec<_>, _>>()?;
        let transports = match file.transports {
            Some(given) if given.get_ref().is_empty() => {
                return self.wrong(&given.span(), "transports is empty: name at least one of agent, ssh, api");
            }
            Some(given) => given.into_inner(),
            None => vec![Way::Agent, Way::Ssh],
        };
        let destructive = file.destructive || steps.iter().any(|step| step.destructive);
        Ok(Runbook {
            name,
            title: file.title,
            description: file.description.trim().to_owned(),
            version: file.version,
            hash,
            scope: file.scope,
            transports,
            destructive,
            safety: safety.map(Spanned::into_inner),
            lock: file.lock,
            role: file.role,
            opt_in: file.opt_in,
            inputs,
            guards,
            steps,
            teardown,
            results,
        })
    }

    fn input(&mut self, file: Spanned<InputFile>) -> Result<Input, FileError> {
        let at = file.span();
        let file = file.into_inner();
        let name = self.word(&at, "input", &file.name)?;
        if KNOWN.contains(&name.as_str()) || self.inputs.contains_key(&name) {
            return self.wrong(&at, format!("the input {name:?} has a name that is taken; choose another"));
        }
        let choices = file.choices.unwrap_or_default();
        if (file.kind == InputWord::Choice) == choices.is_empty() {
            return self
                .wrong(&at, format!("the input {name:?}: `choices` goes with the type choice, which needs some"));
        }
        if file.kind != InputWord::Int && (file.min.is_some() || file.max.is_some()) {
            return self.wrong(&at, format!("the input {name:?}: `min` and `max` go with the type int"));
        }
        let textual = matches!(file.kind, InputWord::String | InputWord::Secret | InputWord::Path);
        if !textual && file.pattern.is_some() {
            return self
                .wrong(&at, format!("the input {name:?}: `pattern` goes with the types string, secret and path"));
        }
        let kind = match file.kind {
            InputWord::String => InputType::String,
            InputWord::Int => InputType::Int { min: file.min, max: file.max },
            InputWord::Bool => InputType::Bool,
            InputWord::Choice => InputType::Choice(choices),
            InputWord::Secret => InputType::Secret,
            InputWord::Path => InputType::Path,
            InputWord::Host => InputType::Host,
            InputWord::Site => InputType::Site,
        };
        let pattern = file.pattern.map(|source| Pattern::new(&source)).transpose();
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(why) => return self.wrong(&at, format!("the pattern of the input {name:?} is not understood: {why}")),
        };
        if file.default.is_some() && matches!(kind, InputType::Secret) {
            return self.wrong(
                &at,
                format!("the input {name:?} is a secret: its default would stand here for everyone; take it out"),
            );
        }
        let label = if file.label.is_empty() { name.clone() } else { file.label };
        let mut input = Input {
            name,
            label,
            help: file.help,
            kind,
            default: None,
            pattern,
            optional: file.optional,
            multiline: file.multiline,
            dash: file.dash,
        };
        if let Some(default) = file.default {
            match input.typed(&default) {
                Ok(value) => input.default = Some(value),
                Err(_) if input.optional && default.as_str() == Some("") => {}
                Err(why) => {
                    return self.wrong(&at, format!("the default of the input {:?} is refused: {why}", input.name));
                }
            }
        }
        self.inputs.insert(input.name.clone(), input.kind.clone());
        Ok(input)
    }

    fn guard(&self, file: Spanned<GuardFile>) -> Result<Guard, FileError> {
        let at = file.span();
        let file = file.into_inner();
        Ok(Guard {
            place: match file.place {
                GuardPlace::Local => Place::Local,
                GuardPlace::Ssh => Place::Ssh,
            },
            cmd: self.template(&at, "cmd", &file.cmd)?,
            message: self.template(&at, "message", &file.message)?,
            timeout: self.timeout(&at, file.timeout.unwrap_or(GUARD_TIMEOUT_S))?,
            on_host: file.on_host,
        })
    }

    fn step(&mut self, file: Spanned<StepFile>, safety: Option<&str>) -> Result<Step, FileError> {
        let at = file.span();
        let mut file = file.into_inner();
        let label = file.label.trim().to_owned();
        if label.is_empty() || label.len() > 120 || label.chars().any(char::is_control) {
            return self.wrong(&at, "a step needs a label: one line of at most 120 bytes");
        }
        if !self.labels.insert(label.clone()) {
            return self.wrong(&at, format!("two steps have the label {label:?}; give each its own"));
        }
        if let Some(host) = &file.host
            && self.inputs.get(host) != Some(&InputType::Host)
        {
            return self.wrong(&at, format!("`host` must name an input of the type host, and {host:?} is none"));
        }
        let has_safety = safety.is_none_or(|wanted| self.artefacts.contains(wanted));
        if file.destructive && !has_safety {
            let what = format!(
                "the step {label:?} is destructive and stands before the one that makes {:?}: move it behind that",
                safety.unwrap_or_default()
            );
            return self.wrong(&at, what);
        }
        let when = match &file.when {
            Some(text) => Some(self.expression(&at, text)?),
            None => None,
        };
        let usual = if file.kind == StepWord::Api { CALL_TIMEOUT_S } else { TIMEOUT_S };
        let timeout = self.timeout(&at, file.timeout.unwrap_or(usual))?;
        let artefact = match file.artefact.take() {
            Some(artefact) => Some(self.artefact(&at, artefact)?),
            None => None,
        };
        let retry = match file.retry.take() {
            Some(_) if file.destructive => {
                return self.wrong(
                    &at,
                    format!("the step {label:?} is destructive, and must not be repeated: take `retry` out"),
                );
            }
            Some(retry) => Some(self.retry(&at, retry)?),
            None => None,
        };
        let (continue_on_error, host, destructive) = (file.continue_on_error, file.host.take(), file.destructive);
        let work = self.work(&at, file)?;
        // Only now: a step can't name what it makes itself.
        if let Some(artefact) = &artefact {
            self.artefacts.insert(artefact.name.clone());
        }
        Ok(Step { label, work, timeout, continue_on_error, when, host, destructive, artefact, retry })
    }

    fn retry(&self, at: At<'_>, file: RetryFile) -> Result<Retry, FileError> {
        Ok(Retry {
            every: self.timeout(at, file.every)?,
            attempt: self.timeout(at, file.attempt.unwrap_or(ATTEMPT_TIMEOUT_S))?,
            within: match file.within {
                None => None,
                Some(Seconds::Number(seconds)) => {
                    self.timeout(at, seconds)?;
                    Some(self.template(at, "retry.within", &seconds.to_string())?)
                }
                Some(Seconds::Text(text)) => Some(self.template(at, "retry.within", &text)?),
            },
        })
    }

    fn work(&self, at: At<'_>, mut file: StepFile) -> Result<Work, FileError> {
        let kind = file.kind;
        let work = match kind {
            StepWord::Local | StepWord::Ssh => {
                let Some(cmd) = file.cmd.take() else { return self.wrong(at, "`cmd` is missing: what is to be run?") };
                let env = self.templates(at, "env", file.env.take())?;
                if let Some(name) = env.keys().find(|name| !is_variable(name)) {
                    return self.wrong(at, format!("env: {name:?} is no name of a variable"));
                }
                Work::Shell(ShellStep {
                    place: if kind == StepWord::Local { Place::Local } else { Place::Ssh },
                    cmd: self.template(at, "cmd", &cmd)?,
                    env,
                    stdin: self.maybe(at, "stdin", file.stdin.take())?,
                    on_host: file.on_host.take().unwrap_or(false),
                })
            }
            StepWord::Scp => {
                let (Some(direction), Some(local), Some(remote)) =
                    (file.direction.take(), file.local_path.take(), file.remote_path.take())
                else {
                    return self.wrong(
                        at,
                        "a step of type scp needs `direction` (upload or download), `local_path` and `remote_path`",
                    );
                };
                Work::Copy(CopyStep {
                    direction,
                    local_path: self.template(at, "local_path", &local)?,
                    remote_path: self.template(at, "remote_path", &remote)?,
                })
            }
            StepWord::Api => {
                let Some(endpoint) = file.endpoint.take() else {
                    return self.wrong(at, "`endpoint` is missing: which path below the host's base URL?");
                };
                let expect_status = match file.expect_status.take() {
                    None => vec![200],
                    Some(Statuses::One(status)) => vec![status],
                    Some(Statuses::Several(statuses)) => statuses,
                };
                if expect_status.is_empty() || expect_status.iter().any(|status| !(100..600).contains(status)) {
                    return self.wrong(at, "expect_status must hold status codes of HTTP: 100 to 599");
                }
                let body = match file.body.take() {
                    None => None,
                    Some(serde_json::Value::String(text)) => Some(Body::Text(self.template(at, "body", &text)?)),
                    Some(json) => Some(Body::Json(self.json(at, json)?)),
                };
                Work::Call(CallStep {
                    method: file.method.take().unwrap_or_default(),
                    endpoint: self.template(at, "endpoint", &endpoint)?,
                    query: self.templates(at, "query", file.query.take())?,
                    headers: self.templates(at, "headers", file.headers.take())?,
                    body,
                    expect_status,
                    local_path: self.maybe(at, "local_path", file.local_path.take())?,
                })
            }
        };
        match left_over(&file) {
            Some(field) => self.wrong(at, format!("`{field}` is no field of a step of type {}", work.word())),
            None => Ok(work),
        }
    }

    fn artefact(&self, at: At<'_>, file: ArtefactFile) -> Result<Artefact, FileError> {
        let name = self.word(at, "artefact", &file.name)?;
        if self.artefacts.contains(&name) {
            return self.wrong(at, format!("two steps make the artefact {name:?}; give each its own name"));
        }
        Ok(Artefact { name, path: self.template(at, "artefact.path", &file.path)?, min_bytes: file.min_bytes })
    }

    fn result(&self, file: Spanned<ResultFile>) -> Result<ResultRule, FileError> {
        let at = file.span();
        let file = file.into_inner();
        let name = self.word(&at, "result", &file.name)?;
        if let Some(step) = file.step.as_ref().filter(|step| !self.labels.contains(*step)) {
            return self
                .wrong(&at, format!("the result {name:?} is about the step {step:?}, and no step has that label"));
        }
        let source = match (file.regex, file.marker, file.pointer) {
            (Some(regex), None, None) => match Regex::new(&regex) {
                Ok(regex) => ResultSource::Regex(regex),
                Err(error) => {
                    return self.wrong(&at, format!("the regex of the result {name:?} is not understood: {error}"));
                }
            },
            (None, Some(marker), None) => ResultSource::Marker(self.marker(&at, marker)?),
            (None, None, Some(pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                if file.step.is_none() {
                    return self.wrong(&at, format!("the result {name:?} reads JSON: say of which `step`"));
                }
                ResultSource::Pointer(pointer)
            }
            (None, None, Some(_)) => {
                return self.wrong(&at, format!("the pointer of the result {name:?} must begin with a slash"));
            }
            _ => {
                return self
                    .wrong(&at, format!("the result {name:?} needs exactly one of `regex`, `marker` and `pointer`"));
            }
        };
        if file.required && file.step.is_none() {
            return self.wrong(&at, format!("the result {name:?} must be found: say in the output of which `step`"));
        }
        Ok(ResultRule { name, step: file.step, source, kind: file.kind, many: file.many, required: file.required })
    }

    fn marker(&self, at: At<'_>, marker: String) -> Result<String, FileError> {
        let sound = !marker.is_empty() && marker.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        if sound {
            Ok(marker)
        } else {
            self.wrong(at, format!("the marker {marker:?} must be of letters, digits, `_`, `-` and `.`"))
        }
    }

    /// A name such as an input's.
    fn word(&self, at: At<'_>, of: &str, name: &str) -> Result<String, FileError> {
        let mut chars = name.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if first && rest && name.len() <= 64 {
            return Ok(name.to_owned());
        }
        self.wrong(at, format!("{name:?} is no name of an {of}: expected [a-z][a-z0-9_]*, at most 64 characters"))
    }

    fn timeout(&self, at: At<'_>, seconds: u64) -> Result<Duration, FileError> {
        if (1..=MOST_TIMEOUT_S).contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        self.wrong(at, format!("timeout, and the times of retry, must be from 1 to {MOST_TIMEOUT_S} seconds"))
    }

    fn template(&self, at: At<'_>, field: &str, text: &str) -> Result<Template, FileError> {
        let template = Template::new(text);
        self.sound(at, field, template, false)
    }

    fn expression(&self, at: At<'_>, text: &str) -> Result<Template, FileError> {
        self.sound(at, "when", Template::expression(text), true)
    }

    fn sound(
        &self,
        at: At<'_>,
        field: &str,
        found: Result<Template, TemplateError>,
        expression: bool,
    ) -> Result<Template, FileError> {
        let template = match found {
            Ok(template) => template,
            Err(error) => return self.wrong(at, format!("{field}: {error}")),
        };
        let unknown = template
            .names(expression)
            .into_iter()
            .find(|name| !self.inputs.contains_key(name) && !KNOWN.contains(&name.as_str()));
        match unknown {
            Some(name) => {
                let mut known: Vec<_> = self.inputs.keys().map(String::as_str).collect();
                known.extend(KNOWN.iter().filter(|name| **name != "loop"));
                self.wrong(at, format!("{field}: {name:?} is not known; there is {}", known.join(", ")))
            }
            None => Ok(template),
        }
    }

    fn maybe(&self, at: At<'_>, field: &str, text: Option<String>) -> Result<Option<Template>, FileError> {
        text.map(|text| self.template(at, field, &text)).transpose()
    }

    fn templates(
        &self,
        at: At<'_>,
        field: &str,
        given: Option<BTreeMap<String, String>>,
    ) -> Result<BTreeMap<String, Template>, FileError> {
        let given = given.unwrap_or_default().into_iter();
        given.map(|(name, text)| Ok((name.clone(), self.template(at, &format!("{field}.{name}"), &text)?))).collect()
    }

    fn json(&self, at: At<'_>, value: serde_json::Value) -> Result<Json, FileError> {
        Ok(match value {
            serde_json::Value::String(text) => Json::Text(self.template(at, "body", &text)?),
            serde_json::Value::Array(items) => {
                Json::List(items.into_iter().map(|item| self.json(at, item)).collect::<Result<_, _>>()?)
            }
            serde_json::Value::Object(fields) => {
                Json::Map(fields.into_iter().map(|(name, item)| Ok((name, self.json(at, item)?))).collect::<Result<
                    _,
                    FileError,
                >>(
                )?)
            }
            plain => Json::Plain(plain),
        })
    }
}

fn is_variable(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first
        && name.len() <= 128
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with("FLOTILLA_")
}

/// A field that was given and not taken.
fn left_over(file: &StepFile) -> Option<&'static str> {
    let given = [
        ("cmd", file.cmd.is_some()),
        ("env", file.env.is_some()),
        ("stdin", file.stdin.is_some()),
        ("on_host", file.on_host.is_some()),
        ("direction", file.direction.is_some()),
        ("local_path", file.local_path.is_some()),
        ("remote_path", file.remote_path.is_some()),
        ("method", file.method.is_some()),
        ("endpoint", file.endpoint.is_some()),
        ("query", file.query.is_some()),
        ("headers", file.headers.is_some()),
        ("body", file.body.is_some()),
        ("expect_status", file.expect_status.is_some()),
    ];
    given.into_iter().find_map(|(name, given)| given.then_some(name))
}

#[cfg(test)]
mod tests;
