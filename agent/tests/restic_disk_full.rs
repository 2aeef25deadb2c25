//! Backups whose own report can't be written: a real restic, on a full device and on a disk that fills up while it runs (a tmpfs in a mount
//! namespace).
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/namespace.rs"]
mod namespace;

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flotilla_proto::{BackupSummary, JobStatus};
use harness::{Agent, backup, job, noise, ready_local_repo, restic, slow_backup, versions};

/// A restic whose backups print to a full device, and end with `code`.
fn muted(folder: &Path, version: &str, before: &str, code: &str) -> PathBuf {
    let path = folder.join("muted");
    let restic = restic(version);
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = backup ] || exec {0} \"$@\"\n{before}\n{0} \"$@\" >/dev/full\nexit {code}\n",
        restic.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn a_backup_whose_report_was_lost_is_judged_by_its_snapshot_in_every_version() {
    for version in versions() {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a"), noise(100, 1)).unwrap();
        let agent = Agent::new(&muted(work.path(), version, "", "$?"));
        let repo = ready_local_repo(&work.path().join("repo"));
        // Another job's snapshot is not this one's.
        let (end, _) = agent.run(&backup(1, repo.clone(), &[&source])).await;
        let first: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        let (end, memory) = agent.run(&backup(2, repo, &[&source])).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}: {}", memory.text());
        let second: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        let id = second.snapshot_id.unwrap();
        assert_ne!(first.snapshot_id.unwrap(), id, "{version}");
        assert!(memory.text().contains(&format!("the repository has snapshot {id} of this job")), "{version}");
        if version != "0.14" {
            assert_eq!((first.files_new, second.files_unmodified), (1, 1), "{version}");
        }
    }
}

#[tokio::test]
async fn an_end_without_an_error_and_without_a_snapshot_stays_a_failure() {
    let work = tempfile::tempdir().unwrap();
    let agent = Agent::new(&muted(work.path(), "0.18", "exit 0", "0"));
    let (end, memory) = agent.run(&backup(1, ready_local_repo(&work.path().join("repo")), &[work.path()])).await;
    assert_eq!(end.status, JobStatus::Failed, "{}", memory.text());
    assert!(end.error.unwrap().contains("reported no snapshot"));
    assert!(memory.text().contains("the repository has no snapshot of this job"), "{}", memory.text());
}

#[tokio::test]
async fn a_disk_that_fills_up_during_a_backup_makes_no_failure_of_it() {
    let name = "a_disk_that_fills_up_during_a_backup_makes_no_failure_of_it";
    if let Some(disk) = namespace::again(name, "mkdir disk && mount -t tmpfs -o size=4m tmpfs disk && exec") {
        on_small_disk(&disk.join("disk")).await;
    }
}

/// Takes all room that there is, down to the last byte of the file's last page.
fn fill(file: &Path) {
    let mut file = File::options().create(true).append(true).open(file).unwrap();
    while file.write_all(&[b'\n'; 4096]).is_ok() {}
    while file.write_all(b"\n").is_ok() {}
}

async fn on_small_disk(disk: &Path) {
    for version in versions() {
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join("big"), noise(3 << 20, 1)).unwrap();
        let state = disk.join(version);
        fs::create_dir(&state).unwrap();
        // A restic that can't write to its cache saves nothing, and says so by its code.
        let cache = work.path().join("cache");
        fs::create_dir(&cache).unwrap();
        std::os::unix::fs::symlink(&cache, state.join("cache")).unwrap();
        let agent = Agent::with(&restic(version), |config| config.state_dir = state.clone());
        let order = slow_backup(1, ready_local_repo(&work.path().join("repo")), &work.path().join("big"), 1500);
        let memory = agent.submit(&order);
        memory.until("restic runs", |seen| seen.pid).await;
        fill(&disk.join("ballast"));
        fill(&state.join("jobs").join(job(1).to_string()).join("stdout"));
        let end = memory.end().await;
        let text = memory.text();
        assert_eq!(
            (end.status, end.exit_code, &end.error),
            (JobStatus::Succeeded, Some(0), &None),
            "{version}: {text}"
        );
        assert!(text.contains("of this job"), "{version}: its report was not lost after all: {text}");
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert!(summary.snapshot_id.is_some(), "{version}");
        assert!(state.join("jobs").join(job(1).to_string()).join("end.json").exists(), "{version}: {text}");
        fs::remove_dir_all(&state).unwrap();
        fs::remove_file(disk.join("ballast")).unwrap();
    }
}
