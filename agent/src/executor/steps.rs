//! Jobs that are runbooks: whether this endpoint allows one, what it is run with, and its journal in the job's folder. The engine does the rest.

use std::{collections::BTreeMap, io, time::Duration};

use flotilla_proto::{CommandRun, FailureClass, JobKind, JobStatus, RunbookOrder, RunbookResult};

use super::{
    AllowRunbooks, not_run,
    run::{Done, Job, early, stopped_early},
};
use crate::{
    blocking::blocking,
    policy::{self, Policy},
    process::{Stop, StopSignal},
    restic::redact::{Redacted, SHORTEST},
    runbook::{self, Facts, Mode, Runbook, Values, input},
    sink::{JobOutcome, JobSink as _},
    steps::{Engine, Failure, Hosts, Journal, Setting},
};

/// From the polite stop of a command to the hard one, at most.
const GRACE: Duration = Duration::from_secs(10);

/// The fact of a host that is a command of its owner's. It goes out only with runbooks that name it.
const RESTART_COMMAND: &str = "restart_command";

/// Whether an order is for the engine of steps.
pub(super) fn is_runbook(order: &CommandRun) -> bool {
    order.runbook.is_some() || matches!(order.kind, JobKind::Runbook(_))
}

impl Job<'_> {
    /// Runs a runbook from its beginning.
    pub(super) async fn runbook(&self, sink: &Redacted, stop: &mut StopSignal) -> Done {
        match *stop.borrow() {
            Some(Stop::Cancelled) => {
                return Done::Ended(JobOutcome {
                    status: JobStatus::Cancelled,
                    ..not_run("cancelled before anything was done")
                });
            }
            Some(wish) => return stopped_early(wish),
            None => {}
        }
        // From here on another process must not begin it again.
        if let Err(done) = self.hangs_on_this_process() {
            return done;
        }
        sink.started(None);
        self.engine(Journal::default(), sink, stop).await
    }

    /// Goes on with one that an earlier process of the agent left.
    pub(super) async fn runbook_again(&self, sink: &Redacted, stop: &mut StopSignal) -> Done {
        sink.started(None);
        match blocking(|| self.around.folder.steps()) {
            Ok(journal) => self.engine(journal.unwrap_or_default(), sink, stop).await,
            Err(error) => early(format!(
                "the agent was restarted and can't read what it had noted of the job's steps: {error}. Look at the host, then run the job again"
            )),
        }
    }

    async fn engine(&self, journal: Journal, sink: &Redacted, stop: &mut StopSignal) -> Done {
        // What was allowed when it began is ended in order, whatever the rules say by now.
        let fresh = journal.round == 0;
        let (order, runbook, values) = match self.understood(fresh) {
            Ok(understood) => understood,
            Err(failure) if fresh => {
                let result = RunbookResult {
                    runbook: self.order.kind.to_string(),
                    way: self.order.runbook.as_ref().map(|order| order.way),
                    class: Some(failure.class),
                    ..RunbookResult::default()
                };
                let summary = serde_json::to_value(result).ok();
                return Done::Ended(JobOutcome { summary, ..not_run(&format!("nothing was done: {failure}")) });
            }
            Err(why) => {
                return early(format!(
                    "the agent was restarted while the job ran, and can't end it in order: {why}. How far it came is not known, and its teardown was not run: look at the host"
                ));
            }
        };
        let hash: String = runbook.hash.chars().take(12).collect();
        let version = runbook.version.as_ref().map(|version| format!("version {version}, ")).unwrap_or_default();
        sink.say(&format!(
            "runbook {} ({version}SHA-256 {hash}…) for {}, by {}",
            runbook.name, order.host.name, order.way
        ));
        let config = self.around.config;
        let setting = Setting {
            deadline: self.deadline,
            grace: config.grace.min(GRACE),
            leave: config.leave,
            teardown: config.teardown,
        };
        let hosts = Hosts::of(order);
        hosts.notes.iter().for_each(|note| sink.say(note));
        for (name, secret) in &order.secrets {
            if (1..SHORTEST).contains(&secret.expose().len()) {
                sink.say(&format!("the secret {name} has fewer than {SHORTEST} bytes and can't be told from other text: where a step prints it, it stands in this log"));
            }
        }
        let keep = |journal: &Journal| -> io::Result<()> { blocking(|| self.around.folder.write_steps(journal)) };
        let job = self.order.job_id.to_string();
        let engine = Engine::new((&runbook, order, &hosts), job, values, (journal, &keep), (sink, stop), setting);
        let end = if fresh { engine.run().await } else { engine.resume().await };
        end.map_or(Done::Left, Done::Ended)
    }

    /// What the order says, found good and allowed. The error is for people.
    fn understood(&self, fresh: bool) -> Result<(&RunbookOrder, Runbook, Values), Failure> {
        let kind = &self.order.kind;
        let order = self.order.runbook.as_deref().ok_or_else(|| {
            format!("the order names the runbook {kind} and holds none. Bring server and agent to the same version, and run it again")
        })?;
        let runbook = runbook::parse(&order.text).map_err(|error| {
            format!("this agent does not understand the runbook {kind}: {error}. It may be meant for a later version of the agent: update it, or correct the file")
        })?;
        if runbook.name != kind.as_str() {
            return Err(format!(
                "the job is called {kind}, and its runbook {}. Run it again; if this stays, report it",
                runbook.name
            )
            .into());
        }
        if fresh {
            let allowed = self.runbook_allowed(&runbook, order);
            allowed.map_err(|why| Failure::new(FailureClass::NotConfigured, why))?;
        }
        let mut given = order.inputs.clone();
        let secrets = order.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().into()));
        given.extend(secrets);
        let inputs = input::resolve(&runbook.inputs, &given).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("an answer is refused: {}", errors.join("; "))
        })?;
        let id = self.order.job_id.to_string();
        let mut job = BTreeMap::from([("id".to_owned(), id.clone()), ("kind".to_owned(), kind.to_string())]);
        job.insert("way".to_owned(), order.way.to_string());
        job.insert("actor".to_owned(), order.actor.clone().unwrap_or_default());
        let mut values = Values::new(Mode::Run, inputs)
            .with("host", Facts(order.host.facts.clone()))
            .with("job", Facts(job))
            .with_scratch(format!("/tmp/flotilla-{}", id.to_lowercase()));
        if let Some(site) = &order.site {
            values = values.with("site", Facts(site.clone()));
        }
        Ok((order, runbook, values))
    }

    /// What this endpoint has to say.
    fn runbook_allowed(&self, runbook: &Runbook, order: &RunbookOrder) -> Result<(), String> {
        let (name, host) = (&runbook.name, &order.host.name);
        if runbook.opt_in && !order.opened {
            return Err(format!(
                "{name} is off on {host} until an administrator opens the host for it, in its settings"
            ));
        }
        let state_dir = &self.around.config.state_dir;
        let allows_anything = match self.around.config.runbooks {
            AllowRunbooks::All => true,
            AllowRunbooks::ByPolicy => {
                blocking(|| Policy::load(state_dir)).map_err(|error| error.to_string())?.allow_remote_commands
            }
        };
        if allows_anything {
            return Ok(());
        }
        let file = state_dir.join(policy::FILE);
        let file = file.display();
        if runbook.opt_in {
            return Err(format!(
                "{name} runs what is typed on the control plane, which this host does not allow. On the host, set `allow_remote_commands = true` in {file}"
            ));
        }
        if order.host.facts.contains_key(RESTART_COMMAND) {
            return Err(format!(
                "{name} runs the command that stands in the settings of {host} on the control plane, and this host runs no commands from there. On the host, set `allow_remote_commands = true` in {file}, if whoever runs the control plane may run anything there"
            ));
        }
        if !runbook.is_shipped() {
            let why = if runbook::shipped(name).is_some() {
                "is not the one that came with it"
            } else {
                "did not come with it"
            };
            return Err(format!(
                "this host's agent runs the runbooks that came with it, and {name} {why}. On the host, set `allow_remote_commands = true` in {file}, if whoever runs the control plane may run anything there; or give server and agent the same version"
            ));
        }
        match beyond(order) {
            None => Ok(()),
            Some(what) => Err(format!(
                "the order would have this host's agent {what}, which this host does not allow. On the host, set `allow_remote_commands = true` in {file}, if whoever runs the control plane may run anything there"
            )),
        }
    }
}

/// What an order asks for beyond this machine itself and its containers: a program or a key of this machine that the control plane names could do anything,
/// whatever the steps say.
fn beyond(order: &RunbookOrder) -> Option<&'static str> {
    for host in std::iter::once(&order.host).chain(order.others.values()) {
        if host.ssh.is_some() || !host.here {
            return Some("log in to another machine");
        }
        if host.api.is_some() {
            return Some("send requests to an address of the control plane's choice");
        }
        if host.container.as_ref().is_some_and(|container| !matches!(container.cli.as_str(), "docker" | "podman")) {
            return Some("run a program of the control plane's choice");
        }
    }
    None
}
