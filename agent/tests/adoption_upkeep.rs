//! An agent that is killed while a forget or a copy runs: restic goes on under its keeper, the next agent follows it, and what it did is proven as ever.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/control.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod control;
#[path = "support/harness.rs"]
mod harness;

use std::fs;

use control::{Control, Process, is_gone};
use flotilla_proto::{
    CommandRun, CopyResult, CopySpec, ForgetResult, ForgetSpec, JobFinished, JobKind, JobStatus, KeepRules, Operation,
    RepoId, RepoSpec, Selection, Stream,
};
use harness::{Agent, RestServer, backup, job, noise, of_kind, poll, restic, secret};
use serde::de::DeserializeOwned;

const VERSION: &str = "0.19";

/// A server that lets delete, with three snapshots in its repository, and an agent that is connected.
struct Stage {
    server: RestServer,
    control: Control,
    process: Process,
}

impl Stage {
    async fn set() -> Self {
        let server = RestServer::start().maintenance();
        let work = tempfile::tempdir().unwrap();
        let agent = Agent::new(&restic(VERSION));
        for number in 1..=3 {
            fs::write(work.path().join("a"), noise(500_000, number as u64)).unwrap();
            let (end, _) = agent.run(&backup(number, server.repo("r"), &[work.path()])).await;
            assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
        }
        let mut control = Control::start().await;
        let process = Process::start(&mut control, VERSION).await;
        Self { server, control, process }
    }

    fn snapshots(&self) -> usize {
        fs::read_dir(self.server.folder.path().join("data/agent1/r/snapshots")).unwrap().count()
    }

    /// Orders a forget of two, whose restic then stands still at its server.
    async fn forgets(&mut self, repo: RepoSpec) -> u32 {
        let keep = KeepRules { keep_last: Some(1), ..KeepRules::default() };
        let forget = Operation::Forget(ForgetSpec { keep, ..ForgetSpec::default() });
        let order = CommandRun { operation: Some(forget), ..of_kind(1, JobKind::Forget, repo) };
        self.control.order(&order).await;
        self.control.answer_guard(|| self.server.freeze()).await;
        self.restic()
    }

    /// Of the job's own run, once it has begun: those of its preparation hang on the agent.
    fn restic(&self) -> u32 {
        let mut pid = None;
        poll("the job's own restic", || {
            let note = fs::read_to_string(self.process.file(job(1), "begun.1")).unwrap_or_default();
            pid = note.split_once(' ').and_then(|(pid, _)| pid.parse().ok());
            pid.is_some()
        });
        pid.unwrap()
    }

    /// What the next agent makes of it. With `ended`, restic comes to its end before.
    async fn next_agent(&mut self, frozen: &RestServer, pid: u32, ended: bool) -> JobFinished {
        self.process.kill();
        assert!(!is_gone(pid), "restic goes on");
        if ended {
            frozen.thaw();
            poll("restic's end", || self.process.file(job(1), "exit.1").exists());
        }
        self.process.begin(&mut self.control).await;
        if !ended {
            let followed = |told: &control::Told| told.text().contains("is followed again").then_some(());
            self.control.until(job(1), followed).await;
            frozen.thaw();
        }
        self.control.end(job(1)).await
    }

    fn text(&self) -> String {
        self.control.jobs[&job(1)].text()
    }
}

fn result<T: DeserializeOwned>(end: JobFinished) -> T {
    serde_json::from_value(end.summary.unwrap()).unwrap()
}

#[tokio::test]
async fn a_forget_survives_the_death_of_its_agent_and_a_list_proves_it() {
    for ended in [false, true] {
        let mut stage = Stage::set().await;
        let pid = stage.forgets(stage.server.repo("r")).await;
        let door = stage.server.maintenance();
        let frozen = std::mem::replace(&mut stage.server, door);
        let end = stage.next_agent(&frozen, pid, ended).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{}", stage.text());
        let said = if ended { "had ended meanwhile, with code 0" } else { "is followed again" };
        assert_eq!(stage.control.jobs[&job(1)].of(Stream::System).iter().filter(|line| line.contains(said)).count(), 1);
        let told: ForgetResult = result(end);
        assert_eq!((told.kept, told.removed, told.still_there.len()), (1, 2, 0));
        assert_eq!(stage.snapshots(), 1);
    }
}

#[tokio::test]
async fn a_forget_with_credentials_in_memory_only_goes_on_and_says_that_nothing_is_proven() {
    let mut stage = Stage::set().await;
    let pid = stage.forgets(RepoSpec { memory_only: true, ..stage.server.repo("r") }).await;
    let door = stage.server.maintenance();
    let frozen = std::mem::replace(&mut stage.server, door);
    let end = stage.next_agent(&frozen, pid, false).await;
    let error = end.error.clone().unwrap();
    assert_eq!(end.status, JobStatus::Warning, "{error}\n{}", stage.text());
    assert!(error.contains("what was removed is not proven") && error.contains("kept in memory only"), "{error}");
    assert_eq!(stage.snapshots(), 1, "and yet it was done");
}

#[tokio::test]
async fn a_copy_survives_the_death_of_its_agent_and_a_list_of_the_second_repository_proves_it() {
    let mut stage = Stage::set().await;
    let second = RestServer::start();
    let to = RepoSpec { id: RepoId::from_parts(1, 2), password: secret("planted-repo two"), ..second.repo("copy") };
    let spec = CopySpec { to: to.id, snapshots: Vec::new(), of: Selection::default() };
    let order = CommandRun {
        operation: Some(Operation::Copy(spec)),
        second_repo: Some(to),
        ..of_kind(1, JobKind::Copy, stage.server.repo("r"))
    };
    stage.control.order(&order).await;
    let pid = stage.restic();
    second.freeze();
    let end = stage.next_agent(&second, pid, false).await;
    assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{}", stage.text());
    assert_eq!(result::<CopyResult>(end), CopyResult { copied: 3, skipped: 0, count: Some(3) });
    let there = fs::read_dir(second.folder.path().join("data/agent1/copy/snapshots")).unwrap().count();
    assert_eq!((there, second.locks("copy")), (3, 0));
}
