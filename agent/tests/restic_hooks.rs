//! Hooks around a backup, and backups of a command's output: what fails, hangs, prints without end, is not allowed, or is cut off by the agent's own end.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/control.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod control;
#[path = "support/harness.rs"]
mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
};

use control::{Control, Process, is_gone};
use flotilla_proto::{
    BackupSpec, BackupSummary, CommandRun, Hook, HookFailure, HookMoment, JobStatus, Operation, PlanId, PlanOptions,
    PlanSpec, RepoSpec,
};
use harness::{
    Agent, Memory, PLANTED, RestServer, backup, job, poll, ready_local_repo, restic, restore, restored, versions,
};
use tempfile::TempDir;

/// A source, a repository, and a file to which hooks write.
struct Place {
    work: TempDir,
    repo: RepoSpec,
}

impl Place {
    fn new() -> Self {
        let work = tempfile::tempdir().unwrap();
        fs::create_dir(work.path().join("source")).unwrap();
        fs::write(work.path().join("source/file"), b"content").unwrap();
        let repo = ready_local_repo(&work.path().join("repo"));
        Self { work, repo }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn noted(&self) -> String {
        fs::read_to_string(self.at("noted")).unwrap_or_default()
    }

    /// Commands that write to `noted`, hang, fail or talk.
    fn rules(&self, state: &Path) {
        let noted = self.at("noted");
        let (noted, pids) = (noted.display(), self.at("pids"));
        let sh = |line: String| format!("[\"/bin/sh\", \"-c\", {line:?}]");
        let commands = [
            ("note", sh(format!("echo $FLOTILLA_STATUS/${{#FLOTILLA_SNAPSHOT_ID}}/$FLOTILLA_PLAN/$FLOTILLA_HOST >>{noted}; echo noted"))),
            ("env", sh(format!("env >>{noted}; ls -l /proc/$$/fd >>{noted}"))),
            ("fail", sh(format!("echo fail >>{noted}; echo it went wrong >&2; exit 7"))),
            ("hang", sh(format!("sleep 1000 & echo $! >{0}; echo $$ >>{0}; echo hangs; wait", pids.display()))),
            ("talk", sh("yes 'a line that is printed again and again' | head -c 20000000; head -c 5000000 /dev/zero | tr '\\0' x".to_owned())),
            ("gigabyte", sh("yes 'a line that is printed again and again' | head -c 1073741824".to_owned())),
            ("dump", sh("echo the dump; env; for n in 3 4 5 6 7 8 9 10 11 12; do cat /dev/fd/$n; done 2>/dev/null; true".to_owned())),
            ("broken-dump", sh("echo half; exit 3".to_owned())),
        ];
        let lines: String = commands.iter().map(|(name, words)| format!("{name} = {words}\n")).collect();
        fs::write(state.join("agent.toml"), format!("hooks_dir = {:?}\n[commands]\n{lines}", self.at("hooks")))
            .unwrap();
    }

    fn order(&self, number: u128, hooks: Vec<Hook>) -> CommandRun {
        let paths = vec![self.at("source").to_str().unwrap().to_owned()];
        let plan = PlanSpec {
            id: PlanId::from_parts(1, 1),
            name: "nightly".to_owned(),
            paths,
            excludes: Vec::new(),
            options: PlanOptions::default(),
            hooks,
        };
        CommandRun { plan: Some(plan), ..backup(number, self.repo.clone(), &[]) }
    }

    /// The processes that the hanging hook started.
    fn hanging(&self) -> Vec<u32> {
        let read = || -> Vec<u32> {
            fs::read_to_string(self.at("pids"))
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.parse().ok())
                .collect()
        };
        poll("the hook runs", || read().len() == 2);
        read()
    }
}

fn hook(at: HookMoment, run: &str, on_failure: HookFailure) -> Hook {
    Hook { at, run: run.to_owned(), timeout_s: 60, on_failure }
}

use HookFailure::{Abort, Fail, Ignore};
use HookMoment::{After, Before, Failure, Success};

async fn says(memory: &Memory, words: &str) {
    memory.until(words, |seen| seen.lines.iter().any(|(_, line)| line.contains(words)).then_some(())).await;
}

fn snapshot(end: &flotilla_agent::sink::JobOutcome) -> Option<String> {
    let summary: BackupSummary = serde_json::from_value(end.summary.clone()?).unwrap();
    summary.snapshot_id
}

#[tokio::test]
async fn hooks_run_around_a_backup_and_know_how_it_ended() {
    for version in versions() {
        let place = Place::new();
        let agent = Agent::new(&restic(version));
        place.rules(agent.state.path());
        let hooks = vec![
            hook(After, "note", Abort),
            hook(Before, "note", Abort),
            hook(Success, "note", Abort),
            hook(Failure, "fail", Abort),
        ];
        let (end, memory) = agent.run(&place.order(1, hooks)).await;
        let text = memory.text();
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}: {text}");
        let id = snapshot(&end).unwrap().len();
        let whole = format!("succeeded/{id}/nightly/host-1\n");
        assert_eq!(place.noted(), format!("/0/nightly/host-1\n{whole}{whole}"), "{version}");
        for line in ["Stdout [before note] noted", "Stdout [success note] noted", "Stdout [after note] noted"] {
            assert!(text.contains(line), "{version}: {text}");
        }
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_ignored_or_fails_the_job_or_calls_the_backup_off() {
    let place = Place::new();
    let agent = Agent::new(&restic("0.18"));
    place.rules(agent.state.path());
    let cases = [
        (Before, Ignore, JobStatus::Succeeded, true, ""),
        (
            Before,
            Fail,
            JobStatus::Failed,
            true,
            "made its snapshot, but the hook \"fail\" before the backup failed with exit code 7",
        ),
        (
            Before,
            Abort,
            JobStatus::Failed,
            false,
            "the backup was not begun, for the hook \"fail\" before the backup failed with exit code 7",
        ),
        (After, Ignore, JobStatus::Succeeded, true, ""),
        (After, Fail, JobStatus::Failed, true, "made its snapshot, but the hook \"fail\" after the backup"),
        (
            Success,
            Abort,
            JobStatus::Failed,
            true,
            "made its snapshot, but the hook \"fail\" for a backup that succeeded",
        ),
    ];
    for (number, (at, rule, status, has_snapshot, words)) in (1..).zip(cases) {
        let _ = fs::remove_file(place.at("noted"));
        let hooks = vec![hook(at, "fail", rule), hook(After, "note", Abort), hook(Failure, "note", Abort)];
        let (end, memory) = agent.run(&place.order(number, hooks)).await;
        let text = memory.text();
        assert_eq!((end.status, snapshot(&end).is_some()), (status, has_snapshot), "{at:?} {rule:?}: {text}");
        assert!(end.error.clone().unwrap_or_default().contains(words), "{at:?} {rule:?}: {:?}", end.error);
        assert_eq!(end.error.is_some(), status == JobStatus::Failed, "{:?}", end.error);
        assert!(text.contains("fail] it went wrong"), "{text}");
        // Those of a failure run where the backup failed or was called off; those behind each backup always.
        let notes = place.noted().lines().filter(|line| line.contains("/nightly/")).count();
        assert_eq!(notes, if at == Before && rule != Ignore { 2 } else { 1 }, "{at:?} {rule:?}: {}", place.noted());
    }
}

#[tokio::test]
async fn a_hook_that_hangs_ends_with_all_that_it_started_by_its_time_limit_or_by_a_cancellation() {
    let place = Place::new();
    let agent = Agent::with(&restic("0.18"), |config| config.grace = std::time::Duration::from_millis(200));
    place.rules(agent.state.path());
    let hanging = Hook { timeout_s: 1, ..hook(Before, "hang", Abort) };
    let (end, _) = agent.run(&place.order(1, vec![hanging, hook(After, "note", Abort)])).await;
    assert_eq!((end.status, snapshot(&end)), (JobStatus::Failed, None));
    assert!(end.error.unwrap().contains("\"hang\" before the backup did not end within 1 s"));
    assert!(place.noted().starts_with("failed/0/"), "{}", place.noted());
    poll("all of it is gone", || place.hanging().into_iter().all(is_gone));

    fs::remove_file(place.at("pids")).unwrap();
    let memory = agent.submit(&place.order(2, vec![hook(Before, "hang", Abort), hook(After, "note", Abort)]));
    says(&memory, "[before hang] hangs").await;
    let pids = place.hanging();
    assert!(agent.executor.cancel(job(2)));
    let end = memory.end().await;
    assert_eq!((end.status, snapshot(&end)), (JobStatus::Cancelled, None));
    assert!(place.noted().contains("\ncancelled/0/"), "what was stopped is started again: {}", place.noted());
    poll("all of it is gone", || pids.iter().copied().all(is_gone));
}

/// Bytes on the disk below a folder.
fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() {
                    on_disk(&entry.path())
                } else {
                    entry.metadata().map_or(0, |meta| meta.len())
                }
            },
        )
        .sum()
}

/// The most memory that a process ever had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn a_hook_that_prints_a_gigabyte_costs_the_agent_little_memory_and_disk_and_the_log_says_what_it_lacks() {
    let (place, mut control) = (Place::new(), Control::start().await);
    let mut process = Process::start(&mut control, "0.19").await;
    place.rules(process.state.path());
    let before = peak_memory(process.pid());
    let begun = std::time::Instant::now();
    let gigabyte = Hook { timeout_s: 300, ..hook(Before, "gigabyte", Abort) };
    let hooks = vec![gigabyte, hook(After, "note", Abort)];
    control.order(&place.order(1, hooks)).await;
    let end = control.end(job(1)).await;
    assert_eq!((end.status, end.log_truncated), (JobStatus::Succeeded, false), "{:?}", end.error);
    assert!(begun.elapsed() < harness::PATIENCE, "{:?}", begun.elapsed());
    let told = &control.jobs[&job(1)];
    let printed: usize = told.lines.iter().map(|(_, line)| line.len()).sum();
    assert!((1 << 20..3 << 20).contains(&printed), "{printed}");
    let said = told.of(flotilla_proto::Stream::System);
    let left_out = said.iter().find(|line| line.contains("are left out")).unwrap();
    assert!(left_out.contains("more lines (1023.0 MiB) are left out: the log takes 1 MiB of each hook"), "{left_out}");
    let grown = peak_memory(process.pid()) - before;
    assert!(grown < 48 << 20, "{grown} bytes");
    let disk = on_disk(process.state.path());
    assert!(disk < 16 << 20, "{disk} bytes");
    process.stop();
}

#[tokio::test]
async fn a_hook_that_prints_without_end_fills_neither_the_log_nor_the_disk() {
    let place = Place::new();
    let agent = Agent::new(&restic("0.18"));
    place.rules(agent.state.path());
    let (end, memory) = agent.run(&place.order(1, vec![hook(Before, "talk", Abort)])).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
    let printed: usize = memory.look(|seen| seen.lines.iter().map(|(_, line)| line.len()).sum());
    assert!((1 << 20..3 << 20).contains(&printed), "{printed}");
    assert!(memory.text().contains("more lines (22.8 MiB) are left out"), "{}", memory.text().lines().last().unwrap());
    let on_disk = on_disk(&agent.state.path().join("jobs"));
    assert!(on_disk < 1 << 20, "{on_disk}");
}

#[tokio::test]
async fn what_the_endpoint_does_not_allow_is_refused_before_anything_begins() {
    let place = Place::new();
    let agent = Agent::new(&restic("0.18"));
    place.rules(agent.state.path());
    for (number, (run, words)) in (1..).zip([
        ("pg", "add `pg = ["),
        ("sh: touch /tmp/x", "allow_remote_commands = true"),
        ("../../bin/sh", "no name of a command"),
    ]) {
        let hooks = vec![hook(Before, "note", Abort), hook(After, run, Ignore), hook(Failure, "note", Abort)];
        let (end, _) = agent.run(&place.order(number, hooks)).await;
        let error = end.error.unwrap();
        assert!(
            end.status == JobStatus::Failed && error.contains(words) && error.contains("nothing was done"),
            "{error}"
        );
        assert_eq!(place.noted(), "", "no hook runs where one is not allowed");
    }
    // A dry run runs none, so it needs none.
    let dry = Operation::Backup(BackupSpec { dry_run: true });
    let order = place.order(9, vec![hook(Before, "pg", Abort)]);
    let first = agent.run(&place.order(8, vec![])).await.0;
    assert_eq!(first.status, JobStatus::Succeeded);
    let (end, _) = agent.run(&CommandRun { operation: Some(dry), ..order }).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
    fs::write(agent.state.path().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    let line = format!("sh: echo shell >>{}", place.at("noted").display());
    let (end, _) = agent.run(&place.order(10, vec![hook(Before, &line, Abort)])).await;
    assert_eq!((end.status, place.noted().as_str()), (JobStatus::Succeeded, "shell\n"), "{end:?}");
}

#[tokio::test]
async fn a_hook_sees_no_secret_of_the_repository_and_nothing_of_the_agents_surroundings() {
    let place = Place::new();
    let server = RestServer::start();
    let agent = Agent::new(&restic("0.19"));
    place.rules(agent.state.path());
    let mut order = place.order(1, vec![hook(Before, "env", Abort), hook(After, "env", Abort)]);
    let mut repo = server.ready_repo("r");
    repo.env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), PLANTED[0].into());
    order.repo = Some(repo);
    let (end, memory) = agent.run(&order).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{}", memory.text());
    let noted = place.noted();
    assert!(noted.contains("FLOTILLA_JOB_ID=") && !PLANTED.iter().any(|planted| noted.contains(planted)), "{noted}");
    assert!(!noted.contains("RESTIC_") && !noted.contains("CARGO"), "{noted}");
}

#[tokio::test]
async fn a_commands_output_is_backed_up_and_the_command_inherits_no_secret() {
    let place = Place::new();
    let server = RestServer::start();
    for version in versions() {
        let agent = Agent::new(&restic(version));
        place.rules(agent.state.path());
        let mut repo = server.ready_repo(version);
        repo.env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), PLANTED[0].into());
        let order = |number, run: &str, paths: &[&str]| {
            let mut order = place.order(number, vec![]);
            order.repo = Some(repo.clone());
            if let Some(plan) = &mut order.plan {
                plan.paths = paths.iter().map(|&path| path.to_owned()).collect();
                plan.options.stdin_command = Some(run.to_owned());
                plan.options.stdin_filename = Some("/dump.sql".to_owned());
            }
            order
        };
        let (end, memory) = agent.run(&order(1, "dump", &[])).await;
        if version == "0.14" {
            assert!(end.error.unwrap().contains("needs restic 0.17"));
            continue;
        }
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?} {}", memory.text());
        let target = place.at(&format!("restored-{version}"));
        let (end, _) = agent.run(&restore(2, repo.clone(), &[], &target)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
        let dump = fs::read_to_string(restored(&target, Path::new("/dump.sql"))).unwrap();
        assert!(dump.starts_with("the dump\n") && dump.contains("FLOTILLA_JOB_ID="), "{dump}");
        assert!(
            !dump.contains("RESTIC_") && !PLANTED.iter().any(|planted| dump.contains(planted)),
            "{version}: {dump}"
        );
        for (number, (run, paths, words)) in (3..).zip([
            ("broken-dump", &[][..], "restic ended with code"),
            ("unknown", &[], "add `unknown = ["),
            ("dump", &["/etc"], "names both paths and a command"),
        ]) {
            let (end, _) = agent.run(&order(number, run, paths)).await;
            let error = end.error.clone().unwrap();
            assert!(
                end.status == JobStatus::Failed && snapshot(&end).is_none() && error.contains(words),
                "{version} {run}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_hook_that_the_agents_end_cuts_off_is_not_run_again_and_those_behind_the_backup_run_all_the_same() {
    let (place, mut control) = (Place::new(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    place.rules(process.state.path());
    // Before the backup.
    let hooks = vec![hook(Before, "note", Abort), hook(Before, "hang", Abort), hook(After, "note", Abort)];
    control.order(&place.order(1, hooks)).await;
    control.until(job(1), |told| told.text().contains("[before hang] hangs").then_some(())).await;
    let pids = place.hanging();
    process.kill();
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    let error = end.error.unwrap();
    assert_eq!(end.status, JobStatus::Failed);
    assert!(error.contains("the hook \"hang\" before the backup was cut off when the agent was restarted"), "{error}");
    assert_eq!(place.noted(), "/0/nightly/host-1\nfailed/0/nightly/host-1\n", "the first is not run again");
    poll("what was left of it is ended", || pids.iter().copied().all(is_gone));
    // Behind it: the snapshot is made, and the verdict is known.
    fs::remove_file(place.at("pids")).unwrap();
    fs::remove_file(place.at("noted")).unwrap();
    let hooks = vec![hook(Before, "note", Abort), hook(Success, "hang", Fail), hook(After, "note", Abort)];
    control.order(&place.order(2, hooks)).await;
    control.until(job(2), |told| told.text().contains("[success hang] hangs").then_some(())).await;
    let pids = place.hanging();
    process.kill();
    process.begin(&mut control).await;
    let end = control.end(job(2)).await;
    let error = end.error.unwrap();
    assert_eq!(end.status, JobStatus::Failed);
    assert!(error.starts_with("the backup made its snapshot, but the hook \"hang\""), "{error}");
    let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
    assert!(summary.snapshot_id.is_some());
    assert_eq!(place.noted().lines().count(), 2, "{}", place.noted());
    poll("what was left of it is ended", || pids.iter().copied().all(is_gone));
}
