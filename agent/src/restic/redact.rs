//! The last thing that every line, error and summary of a job passes: its secrets, in each form they may take, and
//! any `://user:password@`, become `***`.

use std::sync::Arc;

use flotilla_proto::{JobProgress, RepoSpec, Secret, Stream};
use serde_json::Value;

use super::address::percent_encode;
use crate::{
    sink::{JobOutcome, JobSink},
    text,
};

/// Shorter secrets can't be told from ordinary text: redacting `ab` would eat half of a log.
pub(crate) const SHORTEST: usize = 4;

/// Variables of a repository whose values are settings, not secrets.
const SETTINGS: [&str; 13] = [
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "FLOTILLA_SFTP_HOST_KEY",
    "FLOTILLA_SFTP_KEY_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_PROJECT_ID",
    "GOMAXPROCS",
    "RCLONE_CONFIG",
    "RESTIC_COMPRESSION",
    "RESTIC_PACK_SIZE",
    "RESTIC_READ_CONCURRENCY",
    "TMPDIR",
    "GOGC",
];

/// Of a remote that is described by variables: `RCLONE_CONFIG_REMOTE_TYPE` and the like. Taken for secrets, `local` or `sftp` would vanish from every log.
const REMOTE_SETTINGS: [&str; 6] = ["_TYPE", "_PROVIDER", "_ENDPOINT", "_REGION", "_HOST", "_PORT"];

fn is_setting(name: &str) -> bool {
    let of_remote = name.starts_with("RCLONE_CONFIG_") && REMOTE_SETTINGS.iter().any(|end| name.ends_with(end));
    of_remote || SETTINGS.contains(&name)
}

/// Knows a job's secrets.
#[derive(Debug, Default)]
pub(crate) struct Redactor(Vec<Secret>);

impl Redactor {
    /// From now on also all that is secret about `repo`, and `more`.
    pub(crate) fn learn(&mut self, repo: &RepoSpec, more: &[Secret]) {
        self.add(repo.password.expose());
        repo.auth_password.iter().for_each(|secret| self.add(secret.expose()));
        for (name, value) in &repo.env {
            if !is_setting(name) {
                self.add(value.expose());
            }
        }
        more.iter().for_each(|secret| self.add(secret.expose()));
        // The longest first, so that a secret inside another does not leave its rest behind.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    }

    /// From now on also these, which belong to no repository.
    pub(crate) fn learn_more<'a>(&mut self, secrets: impl IntoIterator<Item = &'a Secret>) {
        secrets.into_iter().for_each(|secret| self.add(secret.expose()));
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    }

    fn add(&mut self, secret: &str) {
        let quoted = Value::from(secret).to_string();
        let forms = [secret.to_owned(), percent_encode(secret), quoted[1..quoted.len() - 1].to_owned()];
        let lines = secret.lines().filter(|_| secret.contains('\n')).map(str::to_owned);
        for form in forms.into_iter().chain(lines) {
            if form.len() >= SHORTEST && !self.0.iter().any(|known| known.expose() == form) {
                self.0.push(Secret::new(form));
            }
        }
    }

    /// The text without secrets.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.expose()) {
                text = text.replace(secret.expose(), "***");
            }
        }
        if text.contains("://") { scrub_addresses(&text) } else { text }
    }

    fn scrub_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.scrub(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.scrub_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|item| self.scrub_value(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// `://user:password@` becomes `://user:***@`, whatever the password holds.
fn scrub_addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        let authority = &after[..end];
        rest = match (authority.find(':'), authority.rfind('@')) {
            (Some(colon), Some(sign))
                if colon < sign && !authority[..colon].contains('/') && !is_port(&authority[colon + 1..sign]) =>
            {
                out.push_str(&authority[..=colon]);
                out.push_str("***");
                &after[sign..]
            }
            _ => after,
        };
    }
    out.push_str(rest);
    out
}

/// Whether what follows the colon is a port with a path, not a password.
fn is_port(text: &str) -> bool {
    text.split_once('/').is_some_and(|(port, _)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A sink behind which no secret gets: the only sink that the rest of this crate ever sees.
pub(crate) struct Redacted {
    sink: Arc<dyn JobSink>,
    redactor: Redactor,
}

impl Redacted {
    pub(crate) fn new(sink: Arc<dyn JobSink>, redactor: Redactor) -> Self {
        Self { sink, redactor }
    }

    /// A text without the job's secrets.
    pub(crate) fn scrub(&self, text: &str) -> String {
        self.redactor.scrub(text)
    }

    /// Takes the secrets out of an end that someone else will hand on.
    pub(crate) fn redact(&self, end: &mut JobOutcome) {
        end.error = end.error.take().map(|error| self.redactor.scrub(&error));
        if let Some(summary) = &mut end.summary {
            self.redactor.scrub_value(summary);
        }
    }

    /// A line of Flotilla's own.
    pub(crate) fn say(&self, text: &str) {
        self.line(Stream::System, text);
    }
}

impl JobSink for Redacted {
    fn started(&self, pid: Option<u32>) {
        self.sink.started(pid);
    }

    fn line(&self, stream: Stream, line: &str) {
        self.sink.line(stream, &text::cut(self.redactor.scrub(&text::visible(line)), 0));
    }

    fn progress(&self, mut progress: JobProgress) {
        progress.current = progress.current.map(|current| self.redactor.scrub(&current));
        self.sink.progress(progress);
    }

    fn finished(&self, mut end: JobOutcome) {
        self.redact(&mut end);
        self.sink.finished(end);
    }

    fn hold(&self) {
        self.sink.hold();
    }

    fn mark(&self, stream: Stream, offset: u64) {
        self.sink.mark(stream, offset);
    }

    fn settle(&self) -> bool {
        self.sink.settle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let mut redactor = Redactor::default();
        redactor.add("p@ss \"w/rd");
        redactor
    }

    #[test]
    fn a_secret_vanishes_in_each_of_its_forms() {
        for text in ["as p@ss \"w/rd is", "as p%40ss%20%22w%2Frd is", "as p@ss \\\"w/rd is"] {
            assert_eq!(redactor().scrub(text), "as *** is");
        }
    }

    #[test]
    fn credentials_in_any_address_vanish_even_where_the_password_is_malformed() {
        let scrub = |text: &str| Redactor::default().scrub(text);
        assert_eq!(
            scrub("at rest:http://u:a%zz/b@c@host/x and http://v:w@h"),
            "at rest:http://u:***@host/x and http://v:***@h"
        );
        for harmless in ["dial http://host:80/user@x", "http://host/a:b@c", "://"] {
            assert_eq!(scrub(harmless), harmless);
        }
    }
}
