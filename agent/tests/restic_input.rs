//! What is hard to back up, and repositories that do not take it: each a clear state and text, by real restic.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/namespace.rs"]
mod namespace;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flotilla_proto::{BackupSummary, CommandRun, JobKind, JobStatus, LsSpec, Operation, PruneSpec, Stream};
use harness::{
    Agent, REPO_PASSWORD, RestServer, backup, local_repo, noise, of_kind, poll, restic, restore, restored, tree,
    versions,
};

fn folder_with(name: &Path, files: u64) -> PathBuf {
    fs::create_dir_all(name).unwrap();
    (0..files).for_each(|n| fs::write(name.join(format!("file-{n}")), noise(200, n)).unwrap());
    name.to_owned()
}

/// An agent of root's without root's right to read everything: what everybody else's agent is.
#[tokio::test]
async fn files_and_folders_that_may_not_be_read_make_a_warning_that_names_them_and_the_rest_is_saved() {
    let name = "files_and_folders_that_may_not_be_read_make_a_warning_that_names_them_and_the_rest_is_saved";
    let drop = "exec setpriv --bounding-set -dac_override,-dac_read_search";
    let Some(work) = namespace::again(name, drop) else { return };
    let source = folder_with(&work.join("source"), 20);
    let mut closed: Vec<PathBuf> = (0..3).map(|n| source.join(format!("file-{n}"))).collect();
    closed.push(folder_with(&source.join("closed folder"), 2));
    let set =
        |mode| closed.iter().for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap());
    for version in versions() {
        set(0o000);
        assert!(fs::read(&closed[0]).is_err(), "this process can read everything after all");
        let repo = local_repo(&work.join(version));
        let agent = Agent::new(&restic(version));
        let (end, memory) = agent.run(&backup(1, repo.clone(), &[&source])).await;
        assert_eq!((end.status, end.exit_code), (JobStatus::Warning, Some(3)), "{version}: {end:?}");
        let error = end.error.unwrap();
        assert!(error.starts_with("4 files or folders could not be read: "), "{version}: {error}");
        assert!(error.contains("permission denied") && error.contains("give the agent the right to read"), "{error}");
        let told = memory.look(|seen| {
            let errors =
                seen.lines.iter().filter(|(stream, _)| *stream == Stream::Stderr).map(|(_, line)| line.clone());
            errors.collect::<Vec<_>>()
        });
        for path in &closed {
            let path = path.to_str().unwrap();
            assert!(error.contains(path), "{version}: {path} is not in the end: {error}");
            let is_own =
                |line: &&String| line.starts_with("error: ") && line.contains(&format!("{path}: permission denied"));
            let own = told.iter().filter(is_own).count();
            assert_eq!(own, 1, "{version}: {path} in the log: {told:?}");
        }
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!((summary.errors, summary.files_new), (4, 17), "{version}");
        set(0o700);
        let target = work.join(format!("target-{version}"));
        let (end, _) = agent.run(&restore(2, repo, &[], &target)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        let back = fs::read_dir(restored(&target, &source)).unwrap();
        let files = back.filter(|entry| entry.as_ref().unwrap().path().is_file()).count();
        assert_eq!(files, 17, "{version}: the others are there");
    }
}

#[tokio::test]
async fn a_folder_of_200_000_entries_is_backed_up_and_listed_whole() {
    const MANY: usize = 200_000;
    let memory = Path::new("/dev/shm");
    let work = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let source = work.path().join("source");
    fs::create_dir(&source).unwrap();
    (0..MANY).for_each(|n| symlink("nowhere", source.join(format!("{n:06}"))).unwrap());
    let agent = Agent::new(&restic("0.19"));
    let repo = local_repo(&work.path().join("repo"));
    let (end, _) = agent.run(&backup(1, repo.clone(), &[&source])).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
    let snapshot = end.summary.unwrap()["snapshot_id"].as_str().unwrap().to_owned();
    let path = source.to_str().unwrap().to_owned();
    let ls = Operation::Ls(LsSpec { snapshot, path });
    let (end, memory) = agent.run(&CommandRun { operation: Some(ls), ..of_kind(2, JobKind::Ls, repo) }).await;
    assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None));
    assert_eq!(end.summary.unwrap()["count"], MANY);
    memory.look(|seen| {
        let records = seen.lines.iter().filter(|(stream, _)| *stream == Stream::Stdout);
        let named = records.enumerate().filter(|(n, (_, line))| line.contains(&format!("\"name\":\"{n:06}\"")));
        assert_eq!(named.count(), MANY, "each once, in order");
    });
}

/// Folders in folders, made step by step: no path may be longer than 4,095 bytes, however deep a tree is.
fn dig(root: &Path, levels: usize) {
    let script = "import os, sys\nos.chdir(sys.argv[1])\nfor n in range(int(sys.argv[2])):\n open('leaf', 'w').write(str(n))\n name = 'a-folder-with-a-name-of-32-letters'\n os.mkdir(name); os.chdir(name)";
    let dug = Command::new("python3").args(["-c", script]).arg(root).arg(levels.to_string()).status();
    assert!(dug.unwrap().success());
}

#[tokio::test]
async fn a_deep_tree_comes_back_whole_and_what_lies_deeper_than_a_path_can_be_is_named_in_a_warning() {
    for version in versions() {
        let work = tempfile::tempdir().unwrap();
        let (deep, deeper) = (work.path().join("deep"), work.path().join("deeper"));
        for (folder, levels) in [(&deep, 100), (&deeper, 140)] {
            fs::create_dir(folder).unwrap();
            dig(folder, levels);
        }
        let repo = local_repo(&work.path().join("repo"));
        let agent = Agent::new(&restic(version));
        let (end, _) = agent.run(&backup(1, repo.clone(), &[&deep])).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}");
        let target = work.path().join("t");
        let (end, _) = agent.run(&restore(2, repo.clone(), &[], &target)).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}");
        assert_eq!(tree(&restored(&target, &deep)), tree(&deep), "{version}");

        let (end, memory) = agent.run(&backup(3, repo, &[&deeper])).await;
        assert_eq!(end.status, JobStatus::Warning, "{version}: {end:?}\n{}", memory.text());
        let error = end.error.unwrap();
        assert!(error.contains("file name too long") && error.contains("deeper/a-folder"), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_full_and_a_read_only_repository_are_told_apart_and_nothing_is_saved() {
    let name = "a_full_and_a_read_only_repository_are_told_apart_and_nothing_is_saved";
    let Some(work) = namespace::again(name, "mkdir small && mount -t tmpfs -o size=2m tmpfs small && exec") else {
        return;
    };
    for version in versions() {
        let source = folder_with(&work.join(format!("source-{version}")), 5);
        let small = work.join("small");
        let repo = local_repo(&small.join(version));
        let agent = Agent::new(&restic(version));
        let (end, _) = agent.run(&backup(1, repo.clone(), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        fs::write(source.join("big"), noise(4 << 20, 1)).unwrap();
        let (end, memory) = agent.run(&backup(2, repo.clone(), &[&source])).await;
        let error = end.error.unwrap();
        assert!(
            end.status == JobStatus::Failed && error.contains("a disk is full"),
            "{version}: {error}\n{}",
            memory.text()
        );
        assert!(end.summary.is_none_or(|summary| summary["snapshot_id"].is_null()), "{version}");

        let mount =
            |how: &str| assert!(Command::new("mount").args(["-o", how]).arg(&small).status().unwrap().success());
        mount("remount,ro");
        for (number, kind) in (10..).zip([JobKind::Backup, JobKind::Prune, JobKind::Unlock, JobKind::Tamper]) {
            let mut order = CommandRun { kind: kind.clone(), ..backup(number, repo.clone(), &[&source]) };
            if kind == JobKind::Prune {
                order.operation = Some(Operation::Prune(PruneSpec::default()));
            }
            let (end, memory) = agent.run(&order).await;
            let error = end.error.unwrap();
            assert!(
                end.status == JobStatus::Failed
                    && error.contains("read-only")
                    && error.contains("Mount it for writing"),
                "{version} {kind}: {error}\n{}",
                memory.text()
            );
        }
        let (end, _) = agent.run(&of_kind(4, JobKind::Snapshots, repo.clone())).await;
        assert_eq!(end.summary.unwrap()["snapshots"], 1, "{version}: what only reads goes on");
        let (end, memory) = agent.run(&of_kind(5, JobKind::Check, repo.clone())).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        let target = work.join(format!("target-{version}"));
        let (end, memory) = agent.run(&restore(6, repo.clone(), &[], &target)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(fs::read_dir(restored(&target, &source)).unwrap().count(), 5, "{version}");
        mount("remount,rw");
        fs::remove_dir_all(small.join(version)).unwrap();
    }
}

#[tokio::test]
async fn a_quota_of_the_repositorys_server_is_named_as_that() {
    let server = RestServer::with_quota(1 << 20);
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("big"), noise(4 << 20, 1)).unwrap();
    let (end, memory) = Agent::new(&restic("0.19")).run(&backup(1, server.repo("r"), &[work.path()])).await;
    let error = end.error.unwrap();
    assert!(end.status == JobStatus::Failed && error.contains("no room left"), "{error}\n{}", memory.text());
    assert!(error.contains("Raise the quota"), "{error}");
}

#[tokio::test]
async fn a_repository_that_is_locked_says_by_whom_and_what_to_do() {
    let server = RestServer::start();
    let maintenance = server.maintenance();
    let work = tempfile::tempdir().unwrap();
    for version in versions() {
        let agent = Agent::new(&restic(version));
        let source = folder_with(&work.path().join(version), 3);
        let (end, _) = agent.run(&backup(1, server.repo(version), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        fs::write(source.join("big"), noise(4 << 20, 1)).unwrap();
        let mut other = Command::new(restic(version))
            .args(["backup", "--quiet", "--no-cache", "--limit-upload=100"])
            .arg(&source)
            .env("RESTIC_REPOSITORY", server.folder.path().join("data/agent1").join(version))
            .env("RESTIC_PASSWORD", REPO_PASSWORD)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        poll("the other's lock", || server.locks(version) == 1);
        let prune = Some(Operation::Prune(PruneSpec::default()));
        let order = CommandRun { operation: prune, ..of_kind(2, JobKind::Prune, maintenance.repo(version)) };
        let (end, _) = agent.run(&order).await;
        let error = end.error.unwrap();
        assert_eq!(end.status, JobStatus::Failed, "{version}: {error}");
        assert!(error.contains(&format!("the repository is locked by PID {} on ", other.id())), "{version}: {error}");
        assert!(error.contains("Wait until that is done") && error.contains("run an unlock"), "{version}: {error}");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn a_restore_out_of_a_damaged_repository_names_what_is_lost_and_brings_the_rest_back() {
    for version in versions() {
        let work = tempfile::tempdir().unwrap();
        let source = folder_with(&work.path().join("source"), 3);
        let repo = local_repo(&work.path().join("repo"));
        let agent = Agent::new(&restic(version));
        let (end, _) = agent.run(&backup(1, repo.clone(), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded);
        let good = fs::read(source.join("file-1")).unwrap();
        fs::write(source.join("bad"), noise(2 << 20, 9)).unwrap();
        let (end, _) = agent.run(&backup(2, repo.clone(), &[&source])).await;
        assert_eq!(end.status, JobStatus::Succeeded);
        // The pack with the big file.
        let data = fs::read_dir(work.path().join("repo/data")).unwrap();
        let packs =
            data.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().map(|pack| pack.unwrap().path()));
        let pack = packs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
        fs::remove_file(pack).unwrap();
        let target = work.path().join("target");
        let (end, memory) = agent.run(&restore(3, repo, &[], &target)).await;
        let error = end.error.unwrap();
        assert_eq!(end.status, JobStatus::Failed, "{version}: {error}\n{}", memory.text());
        assert!(error.contains("could not be restored") && error.contains("bad"), "{version}: {error}");
        assert_eq!(fs::read(restored(&target, &source).join("file-1")).unwrap(), good, "{version}");
    }
}
