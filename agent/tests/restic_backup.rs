//! Real backups and restores by three generations of restic, through the executor, into an append-only rest-server.

#[path = "support/harness.rs"]
mod harness;

use std::{fs, path::Path, process::Command};

use flotilla_proto::{BackupSummary, JobKind, JobStatus};
use harness::{
    AUTH_PASSWORD, Agent, REPO_PASSWORD, RestServer, VERSIONS, backup, noise, odd_tree, of_kind, ready_local_repo,
    restic, restore, restored, tree,
};

#[tokio::test]
async fn the_first_backup_creates_its_repository_in_every_version() {
    let server = RestServer::start();
    for version in VERSIONS {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join("a"), noise(100, 1)).unwrap();
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, server.repo(version), &[work.path()])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert!(memory.text().contains("the repository was created"), "{version}: {}", memory.text());
        let (end, memory) = agent.run(&of_kind(2, JobKind::Snapshots, server.repo(version))).await;
        assert_eq!(end.summary.unwrap()["snapshots"], 1, "{version}: {}", memory.text());
    }
}

#[tokio::test]
async fn a_restored_tree_equals_its_source_in_every_version() {
    let server = RestServer::start();
    for version in VERSIONS {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fs::create_dir(&source).unwrap();
        odd_tree(&source);
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, server.ready_repo(version), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!(summary.total_files_processed, 15, "{version}");
        assert!(summary.snapshot_id.is_some());

        let target = work.path().join("target/made by the agent");
        let (end, memory) = agent.run(&restore(2, server.ready_repo(version), &[], &target)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(tree(&restored(&target, &source)), tree(&source), "{version}");
        let told = end.summary.unwrap();
        assert!(told["files_restored"].as_u64().unwrap() >= 15, "{version}: {told}");
        assert!(told["bytes_restored"].as_u64().unwrap() >= 3 << 20, "{version}: {told}");

        let (end, memory) = agent.run(&of_kind(3, JobKind::Snapshots, server.ready_repo(version))).await;
        assert_eq!(end.summary.unwrap()["snapshots"], 1, "{version}: {}", memory.text());
        for kind in [JobKind::Check, JobKind::Stats, JobKind::Unlock] {
            let (end, memory) = agent
                .run(&of_kind(10 + u128::from(kind.as_str().as_bytes()[0]), kind.clone(), server.ready_repo(version)))
                .await;
            assert_eq!(end.status, JobStatus::Succeeded, "{version} {kind}: {end:?}\n{}", memory.text());
        }
    }
}

#[tokio::test]
async fn one_chosen_path_comes_back_alone() {
    for version in VERSIONS {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("so[u]rce*");
        fs::create_dir(&source).unwrap();
        odd_tree(&source);
        let repo = ready_local_repo(&work.path().join("repo"));
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, repo.clone(), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {}", memory.text());
        let target = work.path().join("target");
        let wanted = source.join("deep");
        let (end, memory) = agent.run(&restore(2, repo, &[wanted.to_str().unwrap()], &target)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {}", memory.text());
        assert_eq!(tree(&restored(&target, &wanted)), tree(&wanted), "{version}");
        assert_eq!(fs::read_dir(restored(&target, &source)).unwrap().count(), 1, "{version}");
    }
}

#[tokio::test]
async fn a_missing_path_is_a_warning_and_all_missing_a_failure_in_every_version() {
    for version in VERSIONS {
        let work = tempfile::tempdir().unwrap();
        let (source, nope) = (work.path().join("source"), work.path().join("nope"));
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), noise(100, 1)).unwrap();
        let repo = ready_local_repo(&work.path().join("repo"));
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, repo.clone(), &[&source, &nope])).await;
        assert_eq!(end.status, JobStatus::Warning, "{version}: {end:?}");
        assert!(end.error.unwrap().starts_with("1 of 2 paths do not exist"), "{version}");
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!(summary.missing_paths, [nope.to_str().unwrap()], "{version}");
        assert!(memory.text().contains("nope does not exist, skipping"), "restic's own words are shown");

        let (end, _) = agent.run(&backup(2, repo, &[&nope])).await;
        assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
        assert!(end.error.unwrap().contains("Correct the plan's paths"), "{version}");
    }
}

/// Root reads everything that modes forbid. The memory file of a process is a regular file whose first page can't be
/// read by anybody: to restic that is an unreadable source like any other.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_a_warning_and_the_others_are_saved() {
    for version in VERSIONS {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), noise(100, 1)).unwrap();
        let unreadable = format!("/proc/{}/mem", std::process::id());
        let repo = ready_local_repo(&work.path().join("repo"));
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, repo, &[&source, Path::new(&unreadable)])).await;
        assert_eq!((end.status, end.exit_code), (JobStatus::Warning, Some(3)), "{version}: {end:?}");
        let error = end.error.unwrap();
        assert!(error.contains("1 files or folders could not be read") && error.contains(&unreadable), "{error}");
        assert!(memory.text().contains(&format!("error: {unreadable}")) || memory.text().contains(&unreadable));
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!((summary.errors, summary.files_new), (1, 1), "{version}");
    }
}

/// What append-only is for, tried for real and without the agent in between.
#[tokio::test]
async fn the_endpoints_credentials_cannot_delete_a_snapshot() {
    let server = RestServer::start();
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("a"), noise(100, 1)).unwrap();
    let agent = Agent::new(&restic("0.19"));
    let repo = server.ready_repo("kept");
    let (end, _) = agent.run(&backup(1, repo.clone(), &[work.path()])).await;
    let snapshot = end.summary.unwrap()["snapshot_id"].as_str().unwrap().to_owned();
    let forget = Command::new(restic("0.19"))
        .args(["forget", "--prune", &snapshot])
        .env("RESTIC_REPOSITORY", &repo.url)
        .env("RESTIC_REST_USERNAME", "agent1")
        .env("RESTIC_REST_PASSWORD", AUTH_PASSWORD)
        .env("RESTIC_PASSWORD", REPO_PASSWORD)
        .env("RESTIC_CACHE_DIR", work.path().join("cache"))
        .output()
        .unwrap();
    assert!(!forget.status.success(), "forget was allowed");
    assert!(String::from_utf8_lossy(&forget.stderr).contains("unable to remove"), "{forget:?}");
    let (end, _) = agent.run(&of_kind(2, JobKind::Snapshots, repo)).await;
    assert_eq!(end.summary.unwrap()["snapshots"], 1);
}
