//! What one step does: its values put in, its work done where it is to be done. Its label, its journal and what follows from its end are the engine's.

use std::time::Duration;

use flotilla_proto::{FailureClass, JobProgress, Stream};
use tokio::time::Instant;

use super::{
    failure::Failure,
    hosts::Hosts,
    patience::Patience,
    remote::{OutputLine, Remote, Script, Transfer},
    request::{self, Call},
    shell::{self, Came, Limit, halted},
    voice::Ear,
};
use crate::{
    restic::redact::Redacted,
    runbook::{
        CallStep, CopyStep, Direction, Guard, ShellStep, Step, Template, TemplateError, Values, Work,
        template::secret_variable,
    },
    sink::JobSink as _,
    text,
};

/// With what a step works.
pub(super) struct Bench<'b, 'p> {
    pub(super) hosts: &'b Hosts,
    pub(super) values: &'b Values,
    pub(super) patience: &'b mut Patience<'p>,
    pub(super) sink: &'b Redacted,
    pub(super) limit: Limit,
    /// By which its processes are found, and its temporary files.
    pub(super) mark: String,
    /// Where the job stands, to be told again with each piece of a file.
    pub(super) progress: JobProgress,
    /// A result is read out of the answer as JSON.
    pub(super) wants_json: bool,
}

fn words(field: &str) -> impl Fn(TemplateError) -> Came {
    move |error| Came::failed(format!("{field}: {error}"))
}

/// A command ready to be run. The error: its text can't be made.
pub(super) fn script(
    cmd: &Template,
    env: &[(&String, &Template)],
    stdin: Option<&Template>,
    values: &Values,
    mark: &str,
) -> Result<Script, Came> {
    let command = cmd.command(values).map_err(words("cmd"))?;
    let mut all = Vec::new();
    for (name, value) in env {
        all.push(((*name).clone(), value.sealed(values).map_err(words("env"))?));
    }
    let secrets = command.secrets.iter().filter_map(|name| Some((secret_variable(name), values.secret(name)?.clone())));
    all.extend(secrets);
    let stdin = stdin.map(|stdin| stdin.sealed(values)).transpose().map_err(words("stdin"))?;
    Ok(Script { text: command.text, env: all, stdin, mark: mark.to_owned() })
}

impl Bench<'_, '_> {
    /// Does it.
    pub(super) async fn work(&mut self, step: &Step, ear: &mut dyn Ear) -> Came {
        let done = match &step.work {
            Work::Shell(shell) => self.shell(step, shell, ear).await,
            Work::Copy(copy) => self.copy(step, copy, ear).await,
            Work::Call(call) => self.call(step, call, ear).await,
        };
        done.unwrap_or_else(|came| came)
    }

    async fn shell(&mut self, step: &Step, shell: &ShellStep, ear: &mut dyn Ear) -> Result<Came, Came> {
        let env: Vec<_> = shell.env.iter().collect();
        let script = script(&shell.cmd, &env, shell.stdin.as_ref(), self.values, &self.mark)?;
        let remote = self.hosts.shell(shell.place, shell.on_host, step.host.as_deref()).map_err(Came::failed)?;
        Ok(shell::run(&*remote, script, self.limit, self.patience, ear).await)
    }

    async fn copy(&mut self, step: &Step, copy: &CopyStep, ear: &mut dyn Ear) -> Result<Came, Came> {
        let local = copy.local_path.text(self.values).map_err(words("local_path"))?;
        let far = copy.remote_path.text(self.values).map_err(words("remote_path"))?;
        let remote = self.hosts.files(step.host.as_deref()).map_err(Came::failed)?;
        let (sink, begun) = (self.sink, &self.progress);
        let mut told: Option<Instant> = None;
        let mut progress = |done, of| {
            if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
                told = Some(Instant::now());
                sink.progress(JobProgress { bytes_done: done, bytes_total: of, ..begun.clone() });
            }
        };
        let (direction, id) = (copy.direction, self.mark.as_str());
        let transfer = Transfer { direction, local: &local, remote: &far, id, progress: &mut progress };
        let until = Instant::now() + self.limit.time;
        tokio::select! {
            done = remote.transfer(transfer) => {
                let bytes = done.map_err(Came::failed)?;
                let (from, to) = if direction == Direction::Upload { (&local, &far) } else { (&far, &local) };
                ear.say(&format!("{from} was copied to {to}: {}, compared by SHA-256", text::size(bytes)));
                Ok(Came::default())
            }
            halt = self.patience.over(until) => {
                remote.tidy(direction, &local, &far, id).await;
                Ok(Came::halted(halt, halted(halt, self.limit.time, true)))
            }
        }
    }

    async fn call(&mut self, step: &Step, call: &CallStep, ear: &mut dyn Ear) -> Result<Came, Came> {
        let (name, way) = self.hosts.api(step.host.as_deref()).map_err(Came::failed)?;
        let call = Call::new(name, way, call, self.values).map_err(Came::failed)?;
        ear.say(&call.shown());
        let target = call.target.clone();
        let until = Instant::now() + self.limit.time;
        let answer = tokio::select! {
            answer = call.send(&self.mark) => answer,
            halt = self.patience.over(until) => {
                let error = format!("{}; whether the request was carried out is not known", halted(halt, self.limit.time, true));
                return Ok(Came::halted(halt, error));
            }
        };
        if let Some(status) = answer.status {
            ear.say(&format!("it answered with {status}"));
        }
        if let (Some(bytes), Some(target)) = (answer.saved, &target) {
            ear.say(&format!("its answer was saved as {target}: {}", text::size(bytes)));
        }
        let mut failure = answer.failure;
        if failure.is_none()
            && self.wants_json
            && serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_err()
        {
            let why =
                format!("the answer of {name} is no JSON, which its results are read from. The log has its start");
            failure = Some(Failure::new(FailureClass::Answer, why));
        }
        self.tell(&answer.body, failure.is_none(), ear);
        Ok(failure.map(Came::failed).unwrap_or_default())
    }

    /// An answer as lines. All of it may hold results; the log gets its start.
    fn tell(&self, body: &[u8], read: bool, ear: &mut dyn Ear) {
        let shown = &body[..body.len().min(request::LOG_BYTES)];
        for line in shown.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.sink.line(Stream::Stdout, &text::cut(text::clean(line), 0));
        }
        if body.len() > shown.len() {
            let more = text::size((body.len() - shown.len()) as u64);
            ear.say(&format!("{more} more of the answer are left out here"));
        }
        if read {
            for line in body.split(|byte| *byte == b'\n') {
                ear.read_only(OutputLine { stream: Stream::Stdout, text: text::tabbed(line), lost: 0 });
            }
        }
    }
}

/// Where the file lies that a step makes.
pub(super) fn place_of(step: &Step, hosts: &Hosts) -> Result<std::sync::Arc<dyn Remote>, Failure> {
    let input = step.host.as_deref();
    match &step.work {
        Work::Shell(shell) => hosts.shell(shell.place, shell.on_host, input),
        Work::Copy(CopyStep { direction: Direction::Upload, .. }) => hosts.files(input),
        Work::Copy(_) | Work::Call(_) => Ok(std::sync::Arc::clone(hosts.here())),
    }
}

/// Where what a step left running is to be looked for; `None` where it starts nothing.
pub(super) fn runs_at(step: &Step, hosts: &Hosts) -> Option<Result<std::sync::Arc<dyn Remote>, Failure>> {
    match &step.work {
        Work::Shell(shell) => Some(hosts.shell(shell.place, shell.on_host, step.host.as_deref())),
        Work::Copy(_) | Work::Call(_) => None,
    }
}

/// The same of a guard.
pub(super) fn guard_at(guard: &Guard, hosts: &Hosts) -> Result<std::sync::Arc<dyn Remote>, Failure> {
    hosts.shell(guard.place, guard.on_host, None)
}
