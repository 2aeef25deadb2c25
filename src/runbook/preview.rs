//! Steps as they would run, for a person to read first: by the templates that run, secrets masked, and what only a run can know as its name in ⟨ ⟩.

use flotilla_agent::runbook::{
    Body, CallStep, CopyStep, Direction, Guard, Json, Method, Place, ShellStep, Step, Template, TemplateError, Values,
    Work,
};

/// A step as it would run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// For people.
    pub label: String,
    /// `local`, `ssh`, `scp` or `api`.
    pub kind: &'static str,
    /// The input that names the host whose step it is; none for the job's own.
    pub host: Option<String>,
    /// On the machine itself, though its things live in a container.
    pub on_host: bool,
    /// The command, the transfer, or the request.
    pub command: String,
    /// More environment: names and values, secrets masked.
    pub env: Vec<(String, String)>,
    /// What it reads, secrets masked.
    pub stdin: Option<String>,
    /// Its condition, as it was written.
    pub when: Option<String>,
    /// The condition does not hold with these answers.
    pub left_out: bool,
    /// Seconds after which it is stopped.
    pub timeout_s: u64,
    /// The next step follows also where it fails.
    pub continue_on_error: bool,
    /// It removes or replaces something.
    pub destructive: bool,
    /// Why its text can't be made; the step would fail of it.
    pub problem: Option<String>,
}

/// A step as it would run with these values.
#[must_use]
pub fn step(step: &Step, values: &Values) -> Shown {
    let mut shown = Shown {
        label: step.label.clone(),
        kind: step.work.word(),
        host: step.host.clone(),
        when: step.when.as_ref().map(|when| when.source().to_owned()),
        left_out: step.when.as_ref().is_some_and(|when| !may_hold(when, values)),
        timeout_s: step.timeout.as_secs(),
        continue_on_error: step.continue_on_error,
        destructive: step.destructive,
        ..Shown::default()
    };
    let made = match &step.work {
        Work::Shell(work) => shell(&mut shown, work, values),
        Work::Copy(work) => copy(&mut shown, work, values),
        Work::Call(work) => call(&mut shown, work, values),
    };
    shown.problem = made.err().map(|error| error.to_string());
    shown
}

/// A guard as it would run with these values; its label is what is said where it does not hold.
#[must_use]
pub fn guard(guard: &Guard, values: &Values) -> Shown {
    let kind = match guard.place {
        Place::Local => "local",
        Place::Ssh => "ssh",
    };
    let made = guard.cmd.command(values).and_then(|cmd| Ok((cmd.text, guard.message.text(values)?)));
    let (made, problem) = match made {
        Ok(made) => (made, None),
        Err(error) => ((guard.cmd.source().to_owned(), guard.message.source().to_owned()), Some(error.to_string())),
    };
    let (timeout_s, on_host) = (guard.timeout.as_secs(), guard.on_host);
    Shown { label: made.1, kind, command: made.0, timeout_s, on_host, problem, ..Shown::default() }
}

/// Whether a condition may hold: what hangs on results or artefacts only a run can tell.
fn may_hold(when: &Template, values: &Values) -> bool {
    let names = when.names(true);
    names.contains("results") || names.contains("artefacts") || when.holds(values).unwrap_or(true)
}

fn masked(template: &Template, values: &Values) -> Result<String, TemplateError> {
    template.sealed(values).map(|text| text.expose().to_owned())
}

fn shell(shown: &mut Shown, work: &ShellStep, values: &Values) -> Result<(), TemplateError> {
    shown.on_host = work.on_host;
    shown.command = work.cmd.source().to_owned();
    shown.command = work.cmd.command(values)?.text;
    for (name, value) in &work.env {
        shown.env.push((name.clone(), masked(value, values)?));
    }
    shown.stdin = work.stdin.as_ref().map(|stdin| masked(stdin, values)).transpose()?;
    Ok(())
}

fn copy(shown: &mut Shown, work: &CopyStep, values: &Values) -> Result<(), TemplateError> {
    let (local, remote) = (work.local_path.text(values)?, work.remote_path.text(values)?);
    shown.on_host = true;
    shown.command = match work.direction {
        Direction::Upload => format!("upload {local} to {remote}"),
        Direction::Download => format!("download {remote} to {local}"),
    };
    Ok(())
}

fn call(shown: &mut Shown, work: &CallStep, values: &Values) -> Result<(), TemplateError> {
    let method = match work.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    };
    let mut text = format!("{method} /{}", work.endpoint.url(values)?.trim_start_matches('/'));
    for (at, (name, value)) in work.query.iter().enumerate() {
        let mark = if at == 0 { '?' } else { '&' };
        text.push_str(&format!("{mark}{name}={}", masked(value, values)?));
    }
    for (name, value) in &work.headers {
        text.push_str(&format!("\n{name}: {}", masked(value, values)?));
    }
    if let Some(path) = &work.local_path {
        text.push_str(&format!("\nits answer goes to {}", path.text(values)?));
    }
    shown.command = text;
    shown.stdin = match &work.body {
        None => None,
        Some(Body::Text(body)) => Some(masked(body, values)?),
        Some(Body::Json(body)) => Some(format!("{:#}", json(body, values)?)),
    };
    Ok(())
}

fn json(body: &Json, values: &Values) -> Result<serde_json::Value, TemplateError> {
    Ok(match body {
        Json::Plain(value) => value.clone(),
        Json::Text(text) => serde_json::Value::String(masked(text, values)?),
        Json::List(items) => {
            serde_json::Value::Array(items.iter().map(|item| json(item, values)).collect::<Result<_, _>>()?)
        }
        Json::Map(fields) => {
            let field = |(name, value): (&String, &Json)| Ok((name.clone(), json(value, values)?));
            serde_json::Value::Object(fields.iter().map(field).collect::<Result<_, _>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runbook::{Facts, Mode, parse, resolve};

    const BOOK: &str = r#"
name = "move"
title = "Move"
[[inputs]]
name = "who"
type = "string"
[[inputs]]
name = "password"
type = "secret"
[[steps]]
type = "ssh"
label = "Dump"
cmd = "dump {{ who }} {{ password }}"
env = { TOKEN = "x{{ password }}" }
stdin = "{{ password }}"
artefact = { name = "dump", path = "{{ scratch }}/dump" }
[[steps]]
type = "scp"
label = "Fetch"
direction = "download"
local_path = "{{ scratch }}/here"
remote_path = "{{ artefacts.dump.path }}"
[[steps]]
type = "api"
label = "Tell"
method = "POST"
endpoint = "sites/{{ who }}"
body = { name = "{{ who }}", key = "{{ password }}" }
[[steps]]
type = "ssh"
label = "Never"
when = "who == 'nobody'"
cmd = "true {{ host.nothing }}"
"#;

    fn shown() -> Vec<Shown> {
        let book = parse(BOOK).unwrap();
        let given = serde_json::json!({"who": "o'neil; id", "password": "hunter2"});
        let inputs = resolve(&book.inputs, given.as_object().unwrap()).unwrap();
        let values = Values::new(Mode::Preview, inputs)
            .with("host", Facts::default())
            .with_scratch("/tmp/flotilla-⟨job.id⟩".to_owned());
        book.steps.iter().map(|one| step(one, &values)).collect()
    }

    #[test]
    fn a_preview_has_the_words_that_run_and_no_secret() {
        let steps = shown();
        assert_eq!(steps[0].command, r#"dump 'o'\''neil; id' "$FLOTILLA_SECRET_PASSWORD""#);
        assert_eq!((steps[0].env[0].1.as_str(), steps[0].stdin.as_deref()), ("x••••••", Some("••••••")));
        assert_eq!(steps[1].command, "download ⟨artefacts.dump.path⟩ to /tmp/flotilla-⟨job.id⟩/here");
        assert_eq!(steps[2].command, "POST /sites/o%27neil%3B%20id");
        assert!(steps[2].stdin.as_ref().is_some_and(|body| body.contains("o'neil") && body.contains("••••••")));
        assert!(!format!("{steps:?}").contains("hunter2"));
    }

    #[test]
    fn a_step_that_is_left_out_or_would_fail_says_so() {
        let steps = shown();
        assert_eq!((steps[0].left_out, steps[3].left_out), (false, true));
        assert!(steps[3].problem.as_ref().is_some_and(|why| why.contains("a name is not known")), "{:?}", steps[3]);
        assert_eq!(steps[3].command, "true {{ host.nothing }}");
    }
}
