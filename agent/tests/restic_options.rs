//! Each option of a plan, by what it does to a real backup of three generations of restic.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{
    BackupSpec, BackupSummary, CommandRun, Compression, FindSpec, JobKind, JobStatus, Operation, PlanId, PlanOptions,
    PlanSpec, Record, RepoSpec,
};
use harness::{Agent, backup, local_repo, noise, of_kind, ready_local_repo, restic, slow_backup, versions};
use tempfile::TempDir;

fn planned(number: u128, repo: RepoSpec, path: &Path, options: PlanOptions) -> CommandRun {
    CommandRun {
        plan: Some(PlanSpec {
            id: PlanId::from_parts(1, 1),
            name: "p".to_owned(),
            paths: vec![path.to_str().unwrap().to_owned()],
            excludes: Vec::new(),
            options,
            hooks: Vec::new(),
        }),
        ..backup(number, repo, &[])
    }
}

fn source() -> (TempDir, PathBuf, RepoSpec) {
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("small"), noise(10, 1)).unwrap();
    fs::write(source.join("big"), noise(200_000, 2)).unwrap();
    fs::write(source.join("scratch.tmp"), noise(10, 3)).unwrap();
    let repo = ready_local_repo(&work.path().join("repo"));
    (work, source, repo)
}

fn summary(end: JobOutcome) -> BackupSummary {
    serde_json::from_value(end.summary.unwrap()).unwrap()
}

#[tokio::test]
async fn what_is_excluded_by_file_or_size_is_left_out_and_the_plan_is_a_tag() {
    for version in versions() {
        let (work, source, repo) = source();
        let agent = Agent::new(&restic(version));
        let list = work.path().join("excludes of this host");
        fs::write(&list, "*.tmp\n").unwrap();
        let options = PlanOptions {
            exclude_files: vec![list.to_str().unwrap().to_owned()],
            exclude_larger_than: Some("100K".to_owned()),
            compression: Some(Compression::Max),
            ..PlanOptions::default()
        };
        let (end, memory) = agent.run(&planned(1, repo.clone(), &source, options)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(summary(end).total_files_processed, 1, "{version}");
        let find = Operation::Find(FindSpec { pattern: "small".to_owned(), ..FindSpec::default() });
        let order = CommandRun { operation: Some(find), ..of_kind(2, JobKind::Find, repo.clone()) };
        assert_eq!(agent.run(&order).await.0.summary.unwrap()["count"], 1, "{version}");
        let (_, memory) = agent.run(&of_kind(3, JobKind::Snapshots, repo)).await;
        let tag = format!("plan-{}", PlanId::from_parts(1, 1).to_string().to_lowercase());
        let tags = memory.look(|seen| seen.lines.iter().find_map(|(_, line)| Record::of_line(line)));
        assert!(matches!(tags, Some(Record::Snapshot(of)) if of.tags.contains(&tag)), "{version}");
    }
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    for version in versions() {
        let (work, source, _) = source();
        let repo = local_repo(&work.path().join("new"));
        let agent = Agent::new(&restic(version));
        let dry = |number, repo: &RepoSpec| CommandRun {
            operation: Some(Operation::Backup(BackupSpec { dry_run: true })),
            ..planned(number, repo.clone(), &source, PlanOptions::default())
        };
        let (end, _) = agent.run(&dry(1, &repo)).await;
        assert_eq!(end.status, JobStatus::Failed, "{version}");
        assert!(!work.path().join("new").exists(), "{version}: not even the repository is made");
        assert_eq!(agent.run(&of_kind(2, JobKind::Init, repo.clone())).await.0.status, JobStatus::Succeeded);
        let (end, memory) = agent.run(&dry(3, &repo)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        let told = summary(end);
        assert_eq!((told.files_new, told.dry_run, told.snapshot_id), (3, true, None), "{version}");
        assert!(memory.text().contains("nothing was saved: this is what a backup would do"), "{version}");
        assert_eq!(agent.run(&of_kind(4, JobKind::Snapshots, repo)).await.0.summary.unwrap()["count"], 0, "{version}");
    }
}

/// restic compares the times of the folders above, too, and another program may change one meanwhile: so the source lies where few write, and it is tried again.
#[tokio::test]
async fn where_nothing_changed_no_snapshot_is_made_if_so_wished() {
    let work = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let source = work.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), noise(10, 1)).unwrap();
    let away = tempfile::tempdir().unwrap();
    for version in ["0.18", "0.19"] {
        let repo = ready_local_repo(&away.path().join(version));
        let agent = Agent::new(&restic(version));
        let order = |number| {
            let options = PlanOptions { skip_if_unchanged: true, ..PlanOptions::default() };
            planned(number, repo.clone(), &source, options)
        };
        assert!(summary(agent.run(&order(1)).await.0).snapshot_id.is_some(), "{version}");
        let mut skipped = None;
        for number in 2..62 {
            let (end, memory) = agent.run(&order(number)).await;
            assert_eq!((end.status, end.error.clone()), (JobStatus::Succeeded, None), "{version}");
            if summary(end).snapshot_id.is_none() {
                skipped = Some(memory.text());
                break;
            }
        }
        let text = skipped.expect("nothing was changed, sixty times over");
        assert!(text.contains("nothing changed since the last snapshot"), "{version}: {text}");
    }
}

#[tokio::test]
async fn options_that_this_restic_or_system_lacks_are_refused_by_name() {
    let (work, source, repo) = source();
    let nowhere = work.path().join("nowhere").to_str().unwrap().to_owned();
    let plain = PlanOptions::default;
    let newer = [
        (PlanOptions { skip_if_unchanged: true, ..plain() }, "needs restic 0.17"),
        (PlanOptions { no_scan: true, ..plain() }, "needs restic 0.15"),
        (PlanOptions { read_concurrency: Some(4), ..plain() }, "needs restic 0.15"),
    ];
    let never = [
        (PlanOptions { shadow_copy: true, ..plain() }, "only Windows has"),
        (PlanOptions { exclude_files: vec![nowhere.clone()], ..plain() }, &nowhere),
        (PlanOptions { exclude_files: vec!["excludes".to_owned()], ..plain() }, "not an absolute path"),
        (PlanOptions { exclude_larger_than: Some("big".to_owned()), ..plain() }, "not a size"),
    ];
    for (version, refused) in [("0.14", newer.iter().chain(&never)), ("0.19", never.iter().chain(&[]))] {
        let agent = Agent::new(&restic(version));
        for (number, (options, words)) in (1..).zip(refused) {
            let (end, _) = agent.run(&planned(number, repo.clone(), &source, options.clone())).await;
            let error = end.error.unwrap();
            assert!(end.status == JobStatus::Failed && error.contains(words), "{version}: {error}");
        }
    }
    for (number, (options, _)) in (100..).zip(newer) {
        let agent = Agent::new(&restic("0.19"));
        let (end, memory) = agent.run(&planned(number, repo.clone(), &source, options)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{end:?}\n{}", memory.text());
    }
}

#[tokio::test]
async fn a_polite_backup_has_the_lowest_priority_of_all() {
    let (_work, source, repo) = source();
    fs::write(source.join("bigger"), noise(3 << 20, 4)).unwrap();
    let agent = Agent::new(&restic("0.19"));
    let mut order = slow_backup(1, repo, &source, 600);
    if let Some(plan) = &mut order.plan {
        plan.options.nice = Some(19);
        plan.options.io_idle = true;
    }
    let memory = agent.submit(&order);
    let pid = memory.until("restic runs", |seen| seen.pid).await;
    harness::poll("the polite tools become restic", || {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "restic")
    });
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("19"), "{stat}");
    let class = Command::new("ionice").args(["-p", &pid.to_string()]).output().unwrap();
    assert!(String::from_utf8_lossy(&class.stdout).starts_with("idle"), "{class:?}");
    assert!(agent.executor.cancel(order.job_id));
    // What is on its way is sent before restic heeds a signal, and of so little nothing may be left then: either end is true.
    assert!([JobStatus::Cancelled, JobStatus::Succeeded].contains(&memory.end().await.status));
}
