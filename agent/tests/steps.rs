//! Runbooks through the executor: what steps do on this machine, what comes of hostile values, endless output, timeouts, cancellations, and of an agent that dies in their midst.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/control.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod control;
#[path = "support/harness.rs"]
mod harness;

#[path = "support/namespace.rs"]
mod namespace;
#[cfg(feature = "ssh")]
#[path = "support/sshd.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod sshd;

#[path = "steps/api.rs"]
mod api;
#[path = "steps/classes.rs"]
mod classes;
#[path = "steps/containers.rs"]
mod containers;
#[path = "steps/ends.rs"]
mod ends;
#[cfg(feature = "ssh")]
#[path = "steps/over_ssh.rs"]
mod over_ssh;
#[path = "steps/repeated.rs"]
mod repeated;
#[path = "steps/restarts.rs"]
mod restarts;
#[path = "steps/runs.rs"]
mod runs;
#[path = "steps/shipped.rs"]
mod shipped;
#[path = "steps/values.rs"]
mod values;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use control::is_gone;
use flotilla_agent::{
    executor::{AllowRunbooks, ExecutorConfig},
    sink::JobOutcome,
};
use flotilla_proto::{CommandRun, JobId, RunbookOrder, RunbookResult, StepHost, StepState, Way};
use harness::{Agent, Memory, job, poll};
use tempfile::TempDir;

/// An agent that runs any runbook, and a folder for what runbooks write.
struct Place {
    agent: Agent,
    work: TempDir,
    /// Its jobs are numbered from here: what a job runs is found again by its id, also by other tests of this machine.
    from: u128,
}

/// A number that no other caller gets, with a thousand behind it.
fn fresh_numbers() -> u128 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    u128::from(std::process::id()) * 1_000_000 + u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 1_000
}

impl Place {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ExecutorConfig)) -> Self {
        let agent = Agent::with(Path::new("/nonexistent/restic"), |config| {
            config.runbooks = AllowRunbooks::All;
            config.grace = std::time::Duration::from_secs(1);
            change(config);
        });
        Self { agent, work: tempfile::tempdir().unwrap(), from: fresh_numbers() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    fn job(&self, number: u128) -> JobId {
        job(self.from + number)
    }

    /// An order whose runbook may name the folder as `DIR`.
    fn order(&self, number: u128, steps: &str) -> CommandRun {
        order(self.from + number, &steps.replace("DIR", self.work.path().to_str().unwrap()))
    }

    async fn run(&self, number: u128, steps: &str) -> Ran {
        self.run_order(&self.order(number, steps)).await
    }

    async fn run_order(&self, order: &CommandRun) -> Ran {
        let (end, memory) = self.agent.run(order).await;
        Ran::new(end, &memory)
    }

    /// The processes whose numbers a step has written to `pids`, once so many are there.
    fn pids(&self, count: usize) -> Vec<u32> {
        let read = || -> Vec<u32> { self.read("pids").split_whitespace().filter_map(|pid| pid.parse().ok()).collect() };
        poll("the processes run", || read().len() >= count);
        read()
    }
}

/// What came of a job.
struct Ran {
    end: JobOutcome,
    text: String,
    result: RunbookResult,
}

impl Ran {
    fn new(end: JobOutcome, memory: &Arc<Memory>) -> Self {
        let result = end.summary.clone().map(|summary| serde_json::from_value(summary).unwrap()).unwrap_or_default();
        Self { end, text: memory.text(), result }
    }

    fn error(&self) -> &str {
        self.end.error.as_deref().unwrap_or_default()
    }

    fn states(&self) -> Vec<StepState> {
        self.result.steps.iter().map(|step| step.state).collect()
    }
}

/// An order for a runbook called `t`, on the machine of its executor.
fn order(number: u128, steps: &str) -> CommandRun {
    let host = StepHost {
        name: "web-1".to_owned(),
        facts: BTreeMap::from([("name".to_owned(), "web-1".to_owned())]),
        here: true,
        ..StepHost::default()
    };
    let runbook = RunbookOrder {
        text: format!("name = \"t\"\ntitle = \"T\"\n{steps}"),
        inputs: serde_json::Map::new(),
        secrets: BTreeMap::new(),
        way: Way::Agent,
        host,
        site: None,
        others: BTreeMap::new(),
        actor: Some("ada".to_owned()),
        opened: false,
    };
    CommandRun {
        job_id: job(number),
        kind: "t".parse().unwrap(),
        host_label: "web-1".to_owned(),
        repo: None,
        args: Vec::new(),
        plan: None,
        restore: None,
        operation: None,
        second_repo: None,
        runbook: Some(Box::new(runbook)),
        timeout_s: 60,
    }
}

/// The runbook of an order, to be changed.
fn book(order: &mut CommandRun) -> &mut RunbookOrder {
    order.runbook.as_mut().unwrap()
}

/// One step of a shell.
fn step(label: &str, cmd: &str) -> String {
    format!("[[steps]]\ntype = \"ssh\"\nlabel = \"{label}\"\ncmd = '''\n{cmd}\n'''\n")
}

/// The same in the teardown.
fn last(label: &str, cmd: &str) -> String {
    step(label, cmd).replace("[[steps]]", "[[teardown]]")
}

fn all_gone(pids: &[u32]) -> bool {
    pids.iter().copied().all(is_gone)
}
