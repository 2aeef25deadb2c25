//! Templates of a runbook's texts. An undefined name is an error, loops are bounded, nothing can be included. In a command each value is quoted as
//! [`super::shell`] says, and a secret is never part of it: it comes as `"$FLOTILLA_SECRET_…"`, from the environment. Elsewhere values stand as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use flotilla_proto::Secret;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior,
    syntax::SyntaxConfig,
    value::{Object, ObjectRepr, Value, ValueKind},
};

use super::{
    input::InputValue,
    shell::{self, Piece},
};

/// Longest template, in bytes.
pub const MOST_TEXT: usize = 64 << 10;
/// Longest text that a template may become, in bytes.
pub const MOST_RENDERED: usize = 256 << 10;
/// Instructions that a template may take.
const FUEL: u64 = 100_000;
/// What stands for a secret where one is shown.
pub const MASK: &str = "••••••";

/// A template that was found sound. Compares by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

/// Why a text can't be made. The words are for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", line.map(|line| format!(" (line {line} of the text)")).unwrap_or_default())]
pub struct TemplateError {
    /// What is wrong, and what to do.
    pub what: String,
    /// The line within the template, from 1.
    pub line: Option<usize>,
}

/// What values are shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To be run: everything must be known.
    Run,
    /// To be looked at: secrets are masked, and what only a run can know stands as its name in ⟨ ⟩.
    Preview,
}

/// What is known of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(pub BTreeMap<String, String>);

/// A command ready for bash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    /// Its text.
    pub text: String,
    /// Names of the secret inputs whose environment variables it uses.
    pub secrets: BTreeSet<String>,
}

/// All that a template may name.
#[derive(Debug, Clone)]
pub struct Values {
    mode: Mode,
    /// Inputs by name.
    inputs: BTreeMap<String, InputValue>,
    /// `host.…`, `site.…`, `job.…`
    facts: BTreeMap<String, Facts>,
    /// `artefacts.NAME.…`
    artefacts: BTreeMap<String, Facts>,
    /// `results.NAME`
    results: BTreeMap<String, serde_json::Value>,
}

/// The environment variable of a secret input.
#[must_use]
pub fn secret_variable(input: &str) -> String {
    format!("FLOTILLA_SECRET_{}", input.to_ascii_uppercase())
}

impl Values {
    /// Of a job with these inputs.
    #[must_use]
    pub fn new(mode: Mode, inputs: BTreeMap<String, InputValue>) -> Self {
        let (facts, artefacts, results) = Default::default();
        Self { mode, inputs, facts, artefacts, results }
    }

    /// Adds what is known of `of`: `host`, `site` or `job`.
    #[must_use]
    pub fn with(mut self, of: &str, facts: Facts) -> Self {
        self.facts.insert(of.to_owned(), facts);
        self
    }

    /// Adds the path that is this job's own: `scratch`.
    #[must_use]
    pub fn with_scratch(mut self, path: String) -> Self {
        self.inputs.insert("scratch".to_owned(), InputValue::Text(path));
        self
    }

    /// A file that a step made.
    pub fn artefact(&mut self, name: &str, path: &str, size: u64, sha256: &str) {
        let facts = [("path", path.to_owned()), ("size", size.to_string()), ("sha256", sha256.to_owned())];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.artefacts.insert(name.to_owned(), Facts(facts));
    }

    /// What was read out of the output.
    pub fn result(&mut self, name: &str, value: serde_json::Value) {
        self.results.insert(name.to_owned(), value);
    }

    /// A secret input's value.
    #[must_use]
    pub fn secret(&self, input: &str) -> Option<&Secret> {
        match self.inputs.get(input) {
            Some(InputValue::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    fn context(&self) -> Value {
        let late = self.mode == Mode::Preview;
        let mut all: BTreeMap<String, Value> = BTreeMap::new();
        for (name, value) in &self.inputs {
            let value = match value {
                InputValue::Text(text) => Value::from(text.clone()),
                InputValue::Int(number) => Value::from(*number),
                InputValue::Bool(truth) => Value::from(*truth),
                InputValue::Secret(secret) => {
                    Value::from_object(SecretValue { input: name.clone(), secret: secret.clone() })
                }
            };
            all.insert(name.clone(), value);
        }
        for (name, facts) in &self.facts {
            all.insert(name.clone(), Value::from_object(Named::of(name, &facts.0, false)));
        }
        let artefacts = self.artefacts.iter().map(|(name, facts)| {
            let path = format!("artefacts.{name}");
            (name.clone(), Value::from_object(Named::of(&path, &facts.0, false)))
        });
        let artefacts = Named { path: "artefacts".into(), known: artefacts.collect(), late, deeper: true };
        all.insert("artefacts".into(), Value::from_object(artefacts));
        let results = self.results.iter().map(|(name, value)| (name.clone(), plain(value)));
        let results = Named { path: "results".into(), known: results.collect(), late, deeper: false };
        all.insert("results".into(), Value::from_object(results));
        Value::from(all)
    }
}

/// A value of a result: texts, numbers and truth values; anything else as its JSON.
fn plain(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::String(text) => Value::from(text.clone()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(broken)) => Value::from(broken),
            (None, None) => Value::from(number.to_string()),
        },
        serde_json::Value::Null => Value::UNDEFINED,
        other => Value::from(other.to_string()),
    }
}

/// Things by name. One that is not there is undefined, or, where only a run can know it, stands as its own name.
#[derive(Debug)]
struct Named {
    path: String,
    known: BTreeMap<String, Value>,
    late: bool,
    deeper: bool,
}

impl Named {
    fn of(path: &str, facts: &BTreeMap<String, String>, late: bool) -> Self {
        let known = facts.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
        Self { path: path.to_owned(), known, late, deeper: false }
    }
}

impl Object for Named {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        if let Some(known) = self.known.get(key) {
            return Some(known.clone());
        }
        let path = format!("{}.{key}", self.path);
        if !self.late {
            return None;
        }
        Some(if self.deeper {
            Value::from_object(Self { path, known: BTreeMap::new(), late: true, deeper: false })
        } else {
            Value::from(format!("⟨{path}⟩"))
        })
    }
}

/// A secret input. It can be put somewhere, and nothing else: to make anything of it would be to write it down.
struct SecretValue {
    input: String,
    secret: Secret,
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValue({})", self.input)
    }
}

impl Object for SecretValue {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        !self.secret.expose().is_empty()
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result
    where
        Self: Sized + 'static,
    {
        f.write_str(MASK)
    }
}

/// How values stand in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In a command.
    Shell,
    /// As they are.
    Text { secrets: Secrets },
    /// As they are, percent-encoded.
    Url,
}

/// What becomes of a secret in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Shown,
    Masked,
    Refused,
}

impl Template {
    /// A template whose syntax is sound.
    ///
    /// # Errors
    /// Where it is too long, holds a NUL or characters that this module keeps for itself, or is not understood.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MOST_TEXT {
            return Err(refused(format!("the text has {} bytes; at most {MOST_TEXT} can be", text.len())));
        }
        if text.contains('\0') || shell::is_marked(text) {
            return Err(refused(
                "the text holds a NUL or a private character (U+F0000 to U+F0019), which no command can".into(),
            ));
        }
        environment(Form::Shell, &Arc::default())
            .template_from_named_str("text", text)
            .map_err(|error| told(&error))?;
        Ok(Self(text.to_owned()))
    }

    /// An expression for `when`.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub fn expression(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MOST_TEXT {
            return Err(refused("the expression is too long".into()));
        }
        environment(Form::Shell, &Arc::default()).compile_expression(text).map_err(|error| told(&error))?;
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0
    }

    /// The names that it uses, such as `host` or an input's.
    #[must_use]
    pub fn names(&self, expression: bool) -> BTreeSet<String> {
        let environment = environment(Form::Shell, &Arc::default());
        let names = if expression {
            environment.compile_expression(&self.0).map(|found| found.undeclared_variables(false))
        } else {
            environment.template_from_named_str("text", &self.0).map(|found| found.undeclared_variables(false))
        };
        names.unwrap_or_default().into_iter().collect()
    }

    /// The command that it becomes. A preview has the same words; its secrets are variables' names in both.
    ///
    /// # Errors
    /// Where a name is not known, a value stands where it would not be safe, or the text grows too long.
    pub fn command(&self, values: &Values) -> Result<Command, TemplateError> {
        let pieces = Arc::new(Mutex::new(Vec::new()));
        let marked = self.render(Form::Shell, values, &pieces)?;
        let pieces = std::mem::take(&mut *lock(&pieces));
        let text = shell::fill(&marked, &pieces)
            .map_err(|place| refused(format!("a value stands {place}. Here: {}", excerpt(&marked))))?;
        let secrets = values.inputs.iter().filter(|(name, value)| {
            let variable = Piece::Variable(secret_variable(name));
            matches!(value, InputValue::Secret(_)) && pieces.contains(&variable)
        });
        Ok(Command { text, secrets: secrets.map(|(name, _)| name.clone()).collect() })
    }

    /// The text that it becomes, values as they are; for paths and messages, which can't hold a secret.
    ///
    /// # Errors
    /// As [`Template::command`]; also where it names a secret.
    pub fn text(&self, values: &Values) -> Result<String, TemplateError> {
        self.render(Form::Text { secrets: Secrets::Refused }, values, &Arc::default())
    }

    /// The text that it becomes, percent-encoded where values stand.
    ///
    /// # Errors
    /// As [`Template::text`].
    pub fn url(&self, values: &Values) -> Result<String, TemplateError> {
        self.render(Form::Url, values, &Arc::default())
    }

    /// The text that it becomes, secrets among it: for the environment, standard input and requests. A preview masks them.
    ///
    /// # Errors
    /// As [`Template::command`].
    pub fn sealed(&self, values: &Values) -> Result<Secret, TemplateError> {
        let secrets = if values.mode == Mode::Run { Secrets::Shown } else { Secrets::Masked };
        self.render(Form::Text { secrets }, values, &Arc::default()).map(Secret::new)
    }

    /// Whether an expression holds.
    ///
    /// # Errors
    /// As [`Template::command`].
    pub fn holds(&self, values: &Values) -> Result<bool, TemplateError> {
        let environment = environment(Form::Shell, &Arc::default());
        let found = environment.compile_expression(&self.0).map_err(|error| told(&error))?;
        let value = found.eval(values.context()).map_err(|error| told(&error))?;
        if value.is_undefined() {
            return Err(told(&Error::from(ErrorKind::UndefinedError)));
        }
        Ok(value.is_true())
    }

    fn render(&self, form: Form, values: &Values, pieces: &Pieces) -> Result<String, TemplateError> {
        let environment = environment(form, pieces);
        let template = environment.template_from_named_str("text", &self.0).map_err(|error| told(&error))?;
        let mut out = Bounded(Vec::new());
        template.render_captured_to(values.context(), &mut out).map_err(|error| told(&error))?;
        let text = String::from_utf8_lossy(&out.0).into_owned();
        if text.contains('\0') {
            return Err(refused("a value holds a NUL, which can't be passed on".into()));
        }
        let shown = text.contains(MASK)
            || lock(pieces).iter().any(|piece| matches!(piece, Piece::Word(word) if word.contains(MASK)));
        if shown && form != (Form::Text { secrets: Secrets::Masked }) {
            return Err(refused("a secret can only be put in as it is: take filters and other changes off it".into()));
        }
        Ok(text)
    }
}

type Pieces = Arc<Mutex<Vec<Piece>>>;

fn lock(pieces: &Pieces) -> MutexGuard<'_, Vec<Piece>> {
    // A push is whole or not there.
    pieces.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So much text and no more.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST_RENDERED {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn environment<'a>(form: Form, pieces: &Pieces) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The usual comments begin as bash's `${#name}` does.
    let syntax = SyntaxConfig::builder().comment_delimiters("{!--", "--!}").keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters differ and none is empty"));
    environment.set_fuel(Some(FUEL));
    // So that `raw` is told apart from what comes as it is.
    environment.set_auto_escape_callback(|_| AutoEscape::Custom("flotilla".into()));
    let pieces = Arc::clone(pieces);
    environment.set_formatter(move |out, _, value| put(form, &pieces, out, value));
    environment.add_filter("raw", |value: Value| -> Result<Value, Error> {
        if value.downcast_object_ref::<SecretValue>().is_some() {
            return Err(invalid("a secret can't be put in raw: without the filter it comes from the environment"));
        }
        Ok(Value::from_safe_string(value.to_string()))
    });
    environment
}

fn put(form: Form, pieces: &Pieces, out: &mut Output, value: &Value) -> Result<(), Error> {
    if let Some(secret) = value.downcast_object_ref::<SecretValue>() {
        return match form {
            Form::Shell => piece(pieces, out, Piece::Variable(secret_variable(&secret.input))),
            Form::Text { secrets: Secrets::Shown } => write(out, secret.secret.expose()),
            Form::Text { secrets: Secrets::Masked } => write(out, MASK),
            Form::Text { secrets: Secrets::Refused } | Form::Url => Err(invalid(&format!(
                "the secret {} can't stand here, where it would be written down: use the environment, standard input, or a request's headers, query or body",
                secret.input
            ))),
        };
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(Error::new(ErrorKind::UndefinedError, "a value is not known")),
        ValueKind::Bool | ValueKind::Number => write(out, &value.to_string()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            match form {
                _ if value.is_safe() => write(out, text),
                Form::Shell if text.contains('\0') => Err(invalid("a value holds a NUL, which no command can")),
                Form::Shell => piece(pieces, out, Piece::Word(text.to_owned())),
                Form::Text { .. } => write(out, text),
                Form::Url => write(out, &percent(text)),
            }
        }
        ValueKind::Seq if form == Form::Shell => {
            for (at, item) in value.try_iter()?.enumerate() {
                if at > 0 {
                    write(out, " ")?;
                }
                put(form, pieces, out, &item)?;
            }
            Ok(())
        }
        _ => Err(invalid("only texts, numbers and truth values can be put in")),
    }
}

fn piece(pieces: &Pieces, out: &mut Output, piece: Piece) -> Result<(), Error> {
    let mut pieces = lock(pieces);
    write(out, &shell::mark(pieces.len()))?;
    pieces.push(piece);
    Ok(())
}

fn write(out: &mut Output, text: &str) -> Result<(), Error> {
    out.write_str(text).map_err(Error::from)
}

/// All but what RFC 3986 calls unreserved.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}

fn refused(what: String) -> TemplateError {
    TemplateError { what, line: None }
}

/// The library's error in a person's words.
fn told(error: &Error) -> TemplateError {
    let detail = error.detail().unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::UndefinedError => {
            format!("a name is not known: {detail}. Look for a slip in its spelling, or declare it under [[inputs]]")
        }
        ErrorKind::WriteFailure => format!("it becomes longer than {MOST_RENDERED} bytes"),
        ErrorKind::OutOfFuel => "it takes too long: a loop goes round too often".to_owned(),
        ErrorKind::UnknownFilter => format!("there is no such filter: {detail}"),
        ErrorKind::SyntaxError => format!("the template is not understood: {detail}"),
        _ if detail.is_empty() => error.to_string(),
        _ => detail.to_owned(),
    };
    TemplateError { what, line: error.line() }
}

/// The line of a marked text with the first value in it.
fn excerpt(marked: &str) -> String {
    let line = marked.lines().find(|line| shell::is_marked(line)).unwrap_or_default();
    let shown: String = line.chars().filter(|c| !shell::is_marked(&c.to_string())).take(80).collect();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests;
