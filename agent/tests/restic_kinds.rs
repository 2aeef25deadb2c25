//! Repositories of other kinds than rest and folder, on real servers: every operation on S3, those that differ on SFTP and behind rclone; and what is wrong with keys,
//! buckets, hosts and remotes, told apart. Backblaze's, Microsoft's and Google's own kinds have no server here.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/kinds.rs"]
mod kinds;

use std::{fs, path::Path};

use flotilla_proto::{
    CommandRun, CopyResult, CopySpec, DumpForm, DumpSpec, FindSpec, ForgetResult, ForgetSpec, JobKind, JobStatus,
    KeepRules, ListResult, LocksResult, LsSpec, Operation, PruneResult, PruneSpec, RepoId, RepoSpec, Selection,
    TagResult, TagSpec, TamperResult, TamperVerdict, UnlockResult,
};
use harness::{
    Agent, PLANTED, RestServer, free_port, noise, odd_tree, ready_local_repo, restic, restore, restored, secret,
    slow_backup, tree, versions,
};
use kinds::{KEY_ID, S3, Sshd, Tour, variables};

fn keep(last: u32, prune: bool) -> Option<Operation> {
    let keep = KeepRules { keep_last: Some(last), ..KeepRules::default() };
    Some(Operation::Forget(ForgetSpec { keep, prune, ..ForgetSpec::default() }))
}

/// Tested, written to, and what comes back is what went in.
async fn there_and_back(tour: &mut Tour) -> String {
    odd_tree(&tour.source());
    assert_eq!(tour.test().await.1, None);
    let snapshot = tour.back_up().await;
    let target = tour.folder("restored");
    let order = CommandRun { job_id: harness::job(900), ..restore(900, tour.repo.clone(), &[], &target) };
    tour.well(&order).await;
    assert_eq!(tree(&restored(&target, &tour.source())), tree(&tour.source()), "{}", tour.version);
    snapshot
}

#[tokio::test]
async fn on_s3_all_that_looks_finds_what_was_backed_up() {
    let s3 = S3::start();
    for version in versions() {
        Tour::of(version, s3.repo("new")).run(JobKind::Init, None).await;
        assert!(s3.folder.path().join("bucket/new/config").exists(), "{version}");
        let mut tour = Tour::of(version, s3.ready(version));
        let snapshot = there_and_back(&mut tour).await;
        let source = tour.source().to_str().unwrap().to_owned();
        let (list, _) = tour.good::<ListResult>(JobKind::Snapshots, None).await;
        assert_eq!(list.count, 1, "{version}");
        let ls = Operation::Ls(LsSpec { snapshot: snapshot.clone(), path: source.clone() });
        let (list, _) = tour.good::<ListResult>(JobKind::Ls, Some(ls)).await;
        assert_eq!(list.count as usize, fs::read_dir(&source).unwrap().count(), "{version}");
        let find = FindSpec { pattern: "plain.*".to_owned(), ..FindSpec::default() };
        let (list, _) = tour.good::<ListResult>(JobKind::Find, Some(Operation::Find(find))).await;
        assert_eq!(list.count, 2, "{version}: one above, one below");
        let path = format!("{source}/plain.txt");
        let dump = DumpSpec { snapshot, path, paths: Vec::new(), form: DumpForm::File };
        tour.good::<serde_json::Value>(JobKind::Dump, Some(Operation::Dump(dump))).await;
        assert_eq!(*tour.desk.downloaded.lock().unwrap(), noise(1000, 1), "{version}");
        for kind in [JobKind::Stats, JobKind::Check] {
            tour.good::<serde_json::Value>(kind, None).await;
        }
    }
}

#[tokio::test]
async fn on_s3_snapshots_are_tagged_forgotten_pruned_and_copied_and_locks_cleared() {
    let s3 = S3::start();
    for version in versions() {
        let mut tour = Tour::of(version, s3.ready(version));
        let first = tour.back_up().await;
        tour.back_up().await;
        let spec = TagSpec { snapshots: vec![first], add: vec!["kept".to_owned()], remove: Vec::new() };
        let (tagged, _) = tour.good::<TagResult>(JobKind::Tag, Some(Operation::Tag(spec))).await;
        assert_eq!(tagged.changed, 1, "{version}");

        let rest = RestServer::start();
        let to = RepoSpec { id: RepoId::from_parts(1, 2), ..rest.ready_repo("copy") };
        let copy = CopySpec { to: to.id, snapshots: Vec::new(), of: Selection::default() };
        let order = tour.order(JobKind::Copy, Some(Operation::Copy(copy)));
        let (end, _) = tour.well(&CommandRun { second_repo: Some(to), ..order }).await;
        let copied: CopyResult = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!((copied.copied, copied.skipped), (2, 0), "{version}");

        let (end, memory) = tour.good::<ForgetResult>(JobKind::Forget, keep(1, false)).await;
        assert_eq!((end.kept, end.removed, end.still_there.len()), (1, 1, 0), "{version}: {}", memory.text());
        let spec = Operation::Prune(PruneSpec { max_unused: Some("0".to_owned()), dry_run: false });
        let (end, _) = tour.good::<PruneResult>(JobKind::Prune, Some(spec)).await;
        assert!(end.freed_bytes.unwrap() > 250_000, "{version}: {end:?}");
        tour.good::<serde_json::Value>(JobKind::Check, None).await;
        assert_eq!(tour.good::<LocksResult>(JobKind::Locks, None).await.0.count, 0, "{version}");
        assert_eq!(tour.good::<UnlockResult>(JobKind::Unlock, None).await.0, UnlockResult::default(), "{version}");
    }
}

#[tokio::test]
async fn keys_of_s3_that_may_delete_fail_the_tamper_test_loudly() {
    let s3 = S3::start();
    let mut tour = Tour::of("0.19", s3.ready("r"));
    tour.back_up().await;
    let (end, memory) = tour.run(JobKind::Tamper, None).await;
    assert_eq!(end.status, JobStatus::Failed, "{}", memory.text());
    assert!(end.error.unwrap().contains("NOT append-only"), "{}", memory.text());
    let result: TamperResult = serde_json::from_value(end.summary.unwrap()).unwrap();
    assert_eq!(result.verdict, TamperVerdict::Vulnerable);
    assert_eq!(tour.good::<ListResult>(JobKind::Snapshots, None).await.0.count, 1, "nothing but the object is gone");
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_key_and_a_missing_bucket_of_s3_are_told_apart_at_once() {
    let s3 = S3::start();
    s3.ready("r");
    let keys = |id: &str, key: &str| variables(&[("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", key)]);
    let elsewhere = format!("s3:http://127.0.0.1:{}/no-such-bucket/r", s3.port);
    for version in versions() {
        let begun = std::time::Instant::now();
        for (repo, words) in [
            (
                RepoSpec { env: keys(KEY_ID, "planted-auth-wrong"), ..s3.repo("r") },
                "the secret access key is not its own",
            ),
            (RepoSpec { env: keys("AKIDOTHER", "planted-auth"), ..s3.repo("r") }, "does not know this access key id"),
            (RepoSpec { url: elsewhere.clone(), init: false, ..s3.repo("r") }, "there is no such bucket"),
            (RepoSpec { init: false, ..s3.repo("none") }, "there is no repository at this address"),
            (RepoSpec { password: secret("planted-repo wrong"), ..s3.repo("r") }, "the repository's password is wrong"),
        ] {
            let mut tour = Tour::of(version, repo);
            let told = tour.failure(JobKind::Snapshots).await;
            assert!(told.contains(words), "{version}: {told}");
            let (_, failed) = tour.test().await;
            assert!(failed.as_ref().is_some_and(|(_, detail)| detail.contains(words)), "{version}: {failed:?}");
        }
        // restic itself goes on trying for a quarter of an hour.
        assert!(begun.elapsed().as_secs() < 50, "{version}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_yet_is_made_with_its_repository_where_that_is_allowed() {
    let s3 = S3::start();
    let url = format!("s3:http://127.0.0.1:{}/new-bucket/r", s3.port);
    let mut tour = Tour::of("0.19", RepoSpec { url, ..s3.repo("r") });
    let (result, failed) = tour.test().await;
    assert_eq!((result.steps.last().unwrap().detail.as_str(), failed), ("not yet: the first backup creates it", None));
    tour.back_up().await;
    assert!(s3.folder.path().join("new-bucket/r/config").exists());
}

#[tokio::test]
async fn where_nobody_listens_the_step_that_connects_says_so() {
    let port = free_port();
    let s3 = S3::start();
    let repo = RepoSpec { url: format!("s3:http://127.0.0.1:{port}/bucket/r"), ..s3.repo("r") };
    let (step, words) = Tour::of("0.19", repo).test().await.1.unwrap();
    assert!(step == format!("Connect to 127.0.0.1, port {port}") && words.contains("refused"), "{step}: {words}");
}

/// Command lines of all processes here but those of servers, which the test itself starts with their keys.
fn command_lines() -> Vec<String> {
    let read = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(read);
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| !line.contains("serve s3")).collect()
}

#[tokio::test]
async fn no_secret_of_s3_or_of_rclones_remote_stands_on_a_command_line() {
    let s3 = S3::start();
    for (number, repo) in [(1, s3.ready("a")), (2, s3.by_rclone("a"))] {
        let agent = Agent::new(&restic("0.19"));
        let work = tempfile::tempdir().unwrap();
        fs::write(work.path().join("file"), noise(4 << 20, 3)).unwrap();
        let memory = agent.submit(&slow_backup(number, repo, work.path(), 500));
        memory.until("progress", |seen| seen.progress.last().filter(|seen| seen.bytes_done > 0).map(drop)).await;
        let lines = command_lines();
        assert!(lines.iter().any(|line| line.contains("restic") && line.contains(" backup ")), "{lines:#?}");
        assert_eq!(lines.iter().any(|line| line.contains("rclone") && line.contains("serve restic")), number == 2);
        for planted in PLANTED {
            assert!(!lines.iter().any(|line| line.contains(planted)), "{lines:#?}");
        }
        assert!(agent.executor.cancel(harness::job(number)));
        assert_eq!(memory.end().await.status, JobStatus::Cancelled);
    }
}

#[tokio::test]
async fn over_sftp_with_the_repositorys_own_key_and_host_key_all_comes_back_and_what_is_old_goes() {
    let ssh = Sshd::start();
    for version in versions() {
        Tour::of(version, ssh.repo("new")).run(JobKind::Init, None).await;
        assert!(ssh.folder.path().join("new/config").exists(), "{version}");
        let mut tour = Tour::of(version, ssh.ready(version));
        there_and_back(&mut tour).await;
        tour.back_up().await;
        let (end, memory) = tour.good::<ForgetResult>(JobKind::Forget, keep(1, true)).await;
        assert_eq!((end.kept, end.removed), (1, 1), "{version}: {}", memory.text());
        tour.good::<serde_json::Value>(JobKind::Check, None).await;
        // A copy speaks to both by one restic.
        let to = RepoSpec { id: RepoId::from_parts(1, 2), ..ready_local_repo(&tour.folder("copy")) };
        let copy = CopySpec { to: to.id, snapshots: Vec::new(), of: Selection::default() };
        let order = tour.order(JobKind::Copy, Some(Operation::Copy(copy)));
        let (end, _) = tour.well(&CommandRun { second_repo: Some(to), ..order }).await;
        assert_eq!(end.summary.unwrap()["copied"], 1, "{version}");
    }
}

#[tokio::test]
async fn a_key_that_is_refused_a_host_key_that_is_another_and_a_dead_ssh_server_are_told_apart() {
    let ssh = Sshd::start();
    ssh.ready("r");
    let unknown = variables(&[("FLOTILLA_SFTP_KEY_FILE", ssh.folder.path().join("user").to_str().unwrap())]);
    let nowhere = variables(&[("FLOTILLA_SFTP_KEY_FILE", "/no/such/key")]);
    for version in versions() {
        for (repo, words) in [
            (RepoSpec { env: ssh.signing_in("stranger", "host"), ..ssh.repo("r") }, "refuses this host's key"),
            (RepoSpec { env: ssh.signing_in("user", "stranger"), ..ssh.repo("r") }, "is not the one that is trusted"),
            (RepoSpec { env: unknown.clone(), ..ssh.repo("r") }, "or none is known yet"),
            (RepoSpec { env: nowhere.clone(), ..ssh.repo("r") }, "can't be read on this host"),
            (RepoSpec { url: format!("sftp://127.0.0.1:{}//r", free_port()), ..ssh.repo("r") }, "could not be reached"),
            (RepoSpec { init: false, ..ssh.repo("none") }, "there is no repository at this address"),
        ] {
            let mut tour = Tour::of(version, repo);
            let told = tour.failure(JobKind::Snapshots).await;
            assert!(told.contains(words), "{version}: {told}");
        }
    }
    let mut tour = Tour::of("0.19", RepoSpec { env: ssh.signing_in("stranger", "host"), ..ssh.repo("r") });
    let (step, words) = tour.test().await.1.unwrap();
    assert!(step == "Is there a repository" && words.contains("refuses this host's key"), "{step}: {words}");
}

#[tokio::test]
async fn behind_rclone_a_remote_described_by_variables_takes_and_gives_back_all() {
    let s3 = S3::start();
    for version in versions() {
        s3.ready(version);
        let mut tour = Tour::of(version, s3.by_rclone(version));
        there_and_back(&mut tour).await;
        tour.back_up().await;
        let (end, memory) = tour.good::<ForgetResult>(JobKind::Forget, keep(1, true)).await;
        assert_eq!((end.kept, end.removed), (1, 1), "{version}: {}", memory.text());
        tour.good::<serde_json::Value>(JobKind::Check, None).await;
    }
}

#[tokio::test]
async fn a_remote_that_rclone_does_not_know_is_named_as_the_cause() {
    let s3 = S3::start();
    let repo = RepoSpec { url: "rclone:elsewhere:bucket/r".to_owned(), ..s3.by_rclone("r") };
    let told = Tour::of("0.19", repo).failure(JobKind::Snapshots).await;
    assert!(told.contains("knows no such remote"), "{told}");
    assert!(Path::new(&kinds::rclone()).exists());
}
