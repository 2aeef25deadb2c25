//! Runbooks: files of ordered steps that anyone can add without a rebuild. Here is what a file may say, how inputs become values, how templates become commands,
//! and how output becomes typed results; nothing here runs anything. Server and agent share it: what a page shows is made by the code that makes what runs.
//!
//! A value never becomes part of a command's text unquoted: see [`template`].

use std::{collections::BTreeMap, time::Duration};

use flotilla_proto::Way;
use serde::{Deserialize, Serialize};

pub use file::{FileError, MOST_BYTES, parse, parse_steps};
pub use input::{Input, InputError, InputType, InputValue, Inputs};
pub use results::{Readings, ResultRule, ResultSource, ResultType};
pub use shipped::{SHIPPED, shipped};
pub use template::{Command, Facts, Mode, Template, TemplateError, Values};

pub mod file;
pub mod input;
pub mod results;
pub mod shell;
pub mod shipped;
pub mod template;

/// A runbook whose file was found good: names are unique, patterns and templates are sound, and each destructive step stands behind the artefact that makes it safe.
#[derive(Debug, Clone, PartialEq)]
pub struct Runbook {
    /// `[a-z][a-z0-9_]*`; also the job's kind.
    pub name: String,
    /// For people, in one line.
    pub title: String,
    /// For people.
    pub description: String,
    /// What its author calls this state of it.
    pub version: Option<String>,
    /// SHA-256 of the file's text, in hexadecimal digits: which text a job ran.
    pub hash: String,
    /// What it is about.
    pub scope: Scope,
    /// Which ways may run it.
    pub transports: Vec<Way>,
    /// It removes or replaces something: it is asked about once more.
    pub destructive: bool,
    /// The artefact that must exist, verified, before a destructive step begins.
    pub safety: Option<String>,
    /// What else may run beside it.
    pub lock: Lock,
    /// Who may run it.
    pub role: Role,
    /// Only on hosts that an administrator opened for it.
    pub opt_in: bool,
    /// What is asked of whoever runs it.
    pub inputs: Vec<Input>,
    /// What must hold before the first step; nothing was done where one does not.
    pub guards: Vec<Guard>,
    /// What it does, in order.
    pub steps: Vec<Step>,
    /// What runs on every way out, in order, each whatever came of the one before.
    pub teardown: Vec<Step>,
    /// What is read out of its output.
    pub results: Vec<ResultRule>,
}

/// What a runbook is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// A machine.
    #[default]
    Host,
    /// A site on a machine.
    Site,
}

/// What may run beside a runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lock {
    /// No other runbook on the same host.
    #[default]
    Host,
    /// Anything.
    None,
}

/// Who may run a runbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Operators and administrators.
    #[default]
    Operator,
    /// Administrators.
    Admin,
}

/// What must hold before the first step.
#[derive(Debug, Clone, PartialEq)]
pub struct Guard {
    /// Where.
    pub place: Place,
    /// Ends with 0 where it holds.
    pub cmd: Template,
    /// What is said where it does not; may name inputs.
    pub message: Template,
    /// Longest time it may take.
    pub timeout: Duration,
    /// On the machine itself also where the host's things live in a container.
    pub on_host: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// For people, in one line; unique among the steps.
    pub label: String,
    /// What it does.
    pub work: Work,
    /// After this time it is stopped with all that it started, and has failed.
    pub timeout: Duration,
    /// The next step follows also where this one fails.
    pub continue_on_error: bool,
    /// Left out where this is false.
    pub when: Option<Template>,
    /// The name of an input that names the host whose step this is; `None` for the job's own.
    pub host: Option<String>,
    /// Begins only where the runbook's safety artefact is verified.
    pub destructive: bool,
    /// The file that it makes.
    pub artefact: Option<Artefact>,
    /// It is repeated until it succeeds.
    pub retry: Option<Retry>,
}

/// How a step is repeated: what it waits for takes its time, such as a host that starts. What a repetition can't mend ends it at once: another host key, settings that lack
/// something, a cancelled job.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// From the end of one attempt to the next.
    pub every: Duration,
    /// Longest time of one attempt.
    pub attempt: Duration,
    /// Seconds for all attempts; the step's `timeout` where absent, and never more than that.
    pub within: Option<Template>,
}

/// A file that a step makes. Its path, size and SHA-256 are looked at once the step is over, and are known to later steps as `artefacts.NAME.path`, `.size`, `.sha256`.
#[derive(Debug, Clone, PartialEq)]
pub struct Artefact {
    /// By which later steps know it.
    pub name: String,
    /// Where it lies, on the host of its step.
    pub path: Template,
    /// Fewer bytes than these are a failure of the step.
    pub min_bytes: u64,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Where the executor is: on the agent's host, or on the control plane for a host without one.
    Local,
    /// On the host.
    Ssh,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A command.
    Shell(ShellStep),
    /// A file from or to the host.
    Copy(CopyStep),
    /// A request to the host's management interface.
    Call(CallStep),
}

impl Work {
    /// The word in the file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Shell(ShellStep { place: Place::Local, .. }) => "local",
            Self::Shell(ShellStep { place: Place::Ssh, .. }) => "ssh",
            Self::Copy(_) => "scp",
            Self::Call(_) => "api",
        }
    }
}

/// A command, run by bash with `pipefail`, in a session of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct ShellStep {
    /// Where.
    pub place: Place,
    /// The command.
    pub cmd: Template,
    /// More environment.
    pub env: BTreeMap<String, Template>,
    /// What it reads; nothing where absent.
    pub stdin: Option<Template>,
    /// On the machine itself also where the host's things live in a container.
    pub on_host: bool,
}

/// Which way a file goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the executor's side to the host.
    Upload,
    /// From the host to the executor's side.
    Download,
}

/// A file from or to the host. Always the host's own file system, never a container's.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyStep {
    /// Which way.
    pub direction: Direction,
    /// On the executor's side.
    pub local_path: Template,
    /// On the host.
    pub remote_path: Template,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    #[default]
    Get,
    /// Does something.
    Post,
    /// Replaces something.
    Put,
    /// Changes something.
    Patch,
    /// Removes something.
    Delete,
}

/// A request to the host's management interface, with the host's keys in its head.
#[derive(Debug, Clone, PartialEq)]
pub struct CallStep {
    /// How.
    pub method: Method,
    /// Below the host's base URL; values in it are percent-encoded.
    pub endpoint: Template,
    /// Behind the question mark.
    pub query: BTreeMap<String, Template>,
    /// More of the request's head.
    pub headers: BTreeMap<String, Template>,
    /// What is sent.
    pub body: Option<Body>,
    /// Anything else is a failure.
    pub expect_status: Vec<u16>,
    /// The answer goes to this file of the executor's side, and not to the log.
    pub local_path: Option<Template>,
}

/// What a request sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// As it stands.
    Text(Template),
    /// JSON; templates are the texts in it.
    Json(Json),
}

/// JSON whose texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// As it stands: a number or a truth value.
    Plain(serde_json::Value),
    /// A text.
    Text(Template),
    /// In order.
    List(Vec<Self>),
    /// By name.
    Map(BTreeMap<String, Self>),
}

impl Runbook {
    /// Longest time that all of it may take: guards, steps, teardown, and a minute for what lies between.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let steps = self.steps.iter().chain(&self.teardown).map(|step| step.timeout);
        let guards = self.guards.iter().map(|guard| guard.timeout);
        steps.chain(guards).fold(Duration::from_secs(60), Duration::saturating_add)
    }

    /// Whether it is, to the letter, one that came with this program.
    #[must_use]
    pub fn is_shipped(&self) -> bool {
        shipped(&self.name).is_some_and(|ours| ours.hash == self.hash)
    }
}
