//! restic itself: not there, too old, and replaced, broken or removed while a job runs. A running job ends truthfully, and the next one finds what is there.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/control.rs"]
#[expect(dead_code, reason = "a part of it is used")]
mod control;
#[path = "support/harness.rs"]
mod harness;
#[path = "support/upkeep.rs"]
#[expect(dead_code, reason = "a part of it is used")]
mod upkeep;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use control::{Control, Process};
use flotilla_proto::{
    CommandRun, FindSpec, ForgetSpec, GuardAnswer, JobKind, JobStatus, KeepRules, Operation, Overwrite, PlanOptions,
    RepairSpec, RepairWhat, RepoSpec,
};
use harness::{Agent, Memory, RestServer, backup, job, local_repo, noise, of_kind, poll, restic, restore, slow_backup};
use tempfile::TempDir;
use upkeep::{Guard, doomed};

/// A restic of its own in a folder, for tests to do away with.
struct Installed {
    work: TempDir,
    agent: Agent,
    server: RestServer,
}

impl Installed {
    fn new(version: &str) -> Self {
        let work = tempfile::tempdir().unwrap();
        let program = work.path().join("restic");
        fs::copy(restic(version), &program).unwrap();
        fs::write(work.path().join("data"), noise(6 << 20, 1)).unwrap();
        Self { agent: Agent::new(&program), server: RestServer::start(), work }
    }

    fn program(&self) -> PathBuf {
        self.work.path().join("restic")
    }

    fn repo(&self) -> RepoSpec {
        self.server.repo("r")
    }

    /// As a package manager does: a whole new file under the old name.
    fn install(&self, version: &str) {
        let new = self.work.path().join("restic.new");
        fs::copy(restic(version), &new).unwrap();
        fs::rename(new, self.program()).unwrap();
    }

    /// A backup that has begun to send and goes on for some seconds.
    async fn under_way(&self, number: u128) -> Arc<Memory> {
        let memory = self.agent.submit(&slow_backup(number, self.repo(), &self.work.path().join("data"), 2000));
        memory.until("restic runs", |seen| seen.pid).await;
        poll("restic's lock", || self.server.locks("r") > 0);
        memory
    }

    /// The log of the next job, which must go well.
    async fn next_log(&self, number: u128) -> String {
        let (end, memory) = self.agent.run(&of_kind(number, JobKind::Snapshots, self.repo())).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{end:?}\n{}", memory.text());
        memory.text()
    }

    async fn refusal(&self, number: u128) -> String {
        let (end, _) = self.agent.run(&of_kind(number, JobKind::Snapshots, self.repo())).await;
        assert_eq!(end.status, JobStatus::Failed, "{end:?}");
        end.error.unwrap()
    }
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_restic_older_than_0_14_is_refused_with_both_versions_and_the_way_to_update() {
    let work = tempfile::tempdir().unwrap();
    let program = work.path().join("restic");
    script(&program, "#!/bin/sh\necho 'restic 0.9.6 compiled with go1.14.3 on linux/amd64'\n");
    let agent = Agent::new(&program);
    let repo = local_repo(&work.path().join("repo"));
    for (number, kind) in (1..).zip([JobKind::Backup, JobKind::Snapshots, JobKind::Locks, JobKind::Prune]) {
        let (end, _) =
            agent.run(&CommandRun { kind: kind.clone(), ..backup(number, repo.clone(), &[work.path()]) }).await;
        let error = end.error.unwrap();
        assert_eq!(end.status, JobStatus::Failed, "{kind}: {error}");
        for words in
            [program.to_str().unwrap(), "is restic 0.9.6; the agent needs 0.14.0 or newer", "apt install restic"]
        {
            assert!(error.contains(words), "{kind}: {error}");
        }
    }
    assert!(!work.path().join("repo").exists());
}

/// Each is refused before the repository is asked: here is none.
#[tokio::test]
async fn what_the_oldest_restic_lacks_is_refused_by_name_and_by_the_version_that_has_it() {
    let agent = Agent::new(&restic("0.14"));
    let nowhere = || local_repo(Path::new("/nowhere/repo"));
    let planned = |options: PlanOptions| {
        let mut order = slow_backup(1, nowhere(), Path::new("/etc/hostname"), 0);
        order.plan.as_mut().unwrap().options = options;
        order
    };
    let repair = |what| CommandRun {
        operation: Some(Operation::Repair(RepairSpec { what, ..RepairSpec::default() })),
        ..of_kind(1, JobKind::Repair, nowhere())
    };
    let keeping = {
        let mut order = restore(1, nowhere(), &[], Path::new("/nowhere/target"));
        order.restore.as_mut().unwrap().overwrite = Overwrite::IfNewer;
        order
    };
    let dumped = PlanOptions {
        stdin_command: Some("sh: true".to_owned()),
        stdin_filename: Some("/dump".to_owned()),
        ..PlanOptions::default()
    };
    for (number, (order, words)) in (1..).zip([
        (planned(PlanOptions { skip_if_unchanged: true, ..PlanOptions::default() }), "needs restic 0.17"),
        (planned(PlanOptions { read_concurrency: Some(4), ..PlanOptions::default() }), "needs restic 0.15"),
        (planned(dumped), "needs restic 0.17"),
        (repair(RepairWhat::Packs), "needs restic 0.17"),
        (repair(RepairWhat::Snapshots), "needs restic 0.16"),
        (keeping, "needs restic 0.17"),
    ]) {
        let order = CommandRun { job_id: job(number), ..order };
        let (end, _) = agent.run(&order).await;
        let error = end.error.unwrap();
        assert!(end.status == JobStatus::Failed && error.contains(words) && error.contains("0.14"), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_restic_that_is_replaced_during_a_backup_finishes_it_and_the_next_job_runs_the_new_one_with_its_abilities() {
    let host = Installed::new("0.14");
    let memory = host.under_way(1).await;
    host.install("0.19");
    let end = memory.end().await;
    assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{}", memory.text());
    assert!(memory.text().contains("with restic 0.14."), "{}", memory.text());
    let log = host.next_log(2).await;
    assert!(log.contains("with restic 0.19."), "{log}");
    // What the old one could not do.
    let repair = RepairSpec { what: RepairWhat::Snapshots, dry_run: true, ..RepairSpec::default() };
    let order = CommandRun { operation: Some(Operation::Repair(repair)), ..of_kind(3, JobKind::Repair, host.repo()) };
    let (end, memory) = host.agent.run(&order).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}\n{}", memory.text());
    // And back.
    host.install("0.14");
    let find = CommandRun {
        operation: Some(Operation::Find(FindSpec { pattern: "data".to_owned(), ..FindSpec::default() })),
        ..of_kind(4, JobKind::Find, host.repo())
    };
    let (end, memory) = host.agent.run(&find).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
    assert!(memory.text().contains("with restic 0.14."), "{}", memory.text());
}

#[tokio::test]
async fn a_restic_that_is_written_over_or_removed_during_a_backup_finishes_it_and_the_next_job_says_what_is_wrong() {
    let host = Installed::new("0.19");
    let memory = host.under_way(1).await;
    // The system refuses to write to a program that runs; what copies over it fails, and nothing is changed.
    let refused = fs::File::options().write(true).truncate(true).open(host.program()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ExecutableFileBusy);
    fs::remove_file(host.program()).unwrap();
    let end = memory.end().await;
    assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{}", memory.text());
    assert_eq!(host.server.locks("r"), 0);
    let error = host.refusal(2).await;
    assert!(error.contains("restic is not installed on this host") && error.contains("apt install restic"), "{error}");
    // Half a program, as of a copy that broke off.
    let whole = fs::read(restic("0.19")).unwrap();
    fs::write(host.program(), &whole[..whole.len() / 2]).unwrap();
    let error = host.refusal(3).await;
    assert!(error.contains("does not start") && error.contains("repair or replace it"), "{error}");
    fs::set_permissions(host.program(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = host.refusal(4).await;
    assert!(error.contains("repair or replace it") || error.contains("does not answer like restic"), "{error}");
    host.install("0.19");
    host.next_log(5).await;
}

#[tokio::test]
async fn a_killed_backup_whose_restic_was_removed_says_that_its_lock_could_not_be_looked_after() {
    let host = Installed::new("0.19");
    let memory = host.under_way(1).await;
    let pid = memory.look(|seen| seen.pid).unwrap();
    fs::remove_file(host.program()).unwrap();
    harness::signal(pid, "-KILL");
    let end = memory.end().await;
    assert_eq!(end.status, JobStatus::Failed);
    assert!(end.error.unwrap().contains("ended by signal 9"));
    assert!(memory.text().contains("the lock could not be looked after: restic is not installed"), "{}", memory.text());
}

#[tokio::test]
async fn a_restic_that_goes_between_the_steps_of_a_forget_fails_it_with_nothing_removed() {
    let host = Installed::new("0.19");
    for number in 1..=2 {
        let data = host.work.path().join("data");
        fs::write(&data, noise(1000, number as u64)).unwrap();
        let (end, _) = host.agent.run(&backup(number, host.repo(), &[&data])).await;
        assert_eq!(end.status, JobStatus::Succeeded);
    }
    let maintenance = host.server.maintenance();
    let program = host.program();
    host.agent.executor.set_errands(Guard::new(move |request| {
        fs::remove_file(&program).unwrap();
        GuardAnswer { remove: doomed(request), ..GuardAnswer::default() }
    }));
    let keep = KeepRules { keep_last: Some(1), ..KeepRules::default() };
    let forget = Operation::Forget(ForgetSpec { keep, ..ForgetSpec::default() });
    let order = CommandRun { operation: Some(forget), ..of_kind(3, JobKind::Forget, maintenance.repo("r")) };
    let (end, memory) = host.agent.run(&order).await;
    let error = end.error.clone().unwrap();
    assert_eq!(end.status, JobStatus::Failed, "{error}\n{}", memory.text());
    assert!(
        error.contains("its program was removed") && error.contains("run the job again"),
        "{error}\n{}",
        memory.text()
    );
    host.install("0.19");
    assert_eq!(upkeep::listed(&host.agent.run(&of_kind(4, JobKind::Snapshots, host.repo())).await.1).len(), 2);
}

#[tokio::test]
async fn a_server_learns_within_a_heartbeat_that_restic_was_removed_installed_or_replaced() {
    let host = Installed::new("0.14");
    let mut control = Control::start().await;
    control.heartbeat_s = 1;
    let _process = Process::with(&mut control, host.program()).await;
    assert_eq!(control.restic.as_deref(), Some("0.14.0"));
    host.install("0.19");
    control.connect().await;
    assert!(control.restic.as_ref().is_some_and(|version| version.starts_with("0.19.")), "{:?}", control.restic);
    fs::remove_file(host.program()).unwrap();
    control.connect().await;
    assert_eq!(control.restic, None);
    host.install("0.18");
    control.connect().await;
    assert_eq!(control.restic.as_deref(), Some("0.18.0"));
}
