//! An agent that is killed, stopped or broken while restic runs, and the next one on its folder: real processes, real restic, nothing lost, nothing twice.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/control.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod control;
#[path = "support/harness.rs"]
mod harness;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use control::{Control, Process, is_gone};
use flotilla_proto::{BackupSummary, CommandRun, JobKind, JobStatus, Stream};
use harness::{
    AUTH_PASSWORD, PATIENCE, REPO_PASSWORD, RestServer, VERSIONS, backup, job, local_repo, noise, of_kind, poll,
    restic, signal, slow_backup,
};
use serde_json::json;
use tempfile::TempDir;

/// Many small files between some that take time. restic reads ahead of what it sends: it names all of them within half a second, and from then on prints a
/// status of some 140 bytes a second until its summary.
fn bulk() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in 0..12 {
        let part_folder = folder.path().join(format!("part-{part:02}"));
        fs::create_dir(&part_folder).unwrap();
        fs::write(part_folder.join("big.bin"), noise(4 << 20, part + 1)).unwrap();
        for file in 0..60 {
            fs::write(part_folder.join(format!("small-{file:02}")), noise(100, part * 100 + file)).unwrap();
        }
    }
    folder
}

/// A backup of some ten seconds that names each file.
fn long_backup(server: &RestServer, data: &TempDir) -> CommandRun {
    let mut order = slow_backup(1, server.ready_repo("r"), data.path(), 4000);
    order.plan.as_mut().unwrap().options.log_files = true;
    order
}

/// The backup holds its lock and has named files. Gives restic's process.
async fn under_way(control: &mut Control, server: &RestServer) -> u32 {
    control.until(job(1), |told| (told.of(Stream::Stdout).len() > 20).then_some(())).await;
    poll("restic's lock", || server.locks("r") > 0);
    control.until(job(1), |told| told.pid).await
}

/// What restic wrote names the same files, in the same order, as the log does.
fn assert_whole(process: &Process, control: &Control) {
    let stdout = fs::read_to_string(process.file(job(1), "stdout")).unwrap();
    let printed: Vec<String> = stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["message_type"] == "verbose_status" && line["action"] != "scan_finished")
        .map(|line| format!("{:<9} {}", line["action"].as_str().unwrap(), line["item"].as_str().unwrap()))
        .collect();
    assert!(printed.len() >= 732, "{}", printed.len());
    let told: Vec<&str> =
        control.jobs[&job(1)].of(Stream::Stdout).into_iter().filter(|l| l.contains(", saved in ")).collect();
    let told: Vec<&str> = told.into_iter().map(|line| line.split(", saved in ").next().unwrap()).collect();
    assert_eq!(told, printed);
}

fn count(control: &Control, words: &str) -> usize {
    control.jobs[&job(1)].of(Stream::System).iter().filter(|line| line.contains(words)).count()
}

#[tokio::test]
async fn a_backup_survives_the_death_of_its_agent_with_every_line_in_every_version() {
    for version in VERSIONS {
        let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
        let mut process = Process::start(&mut control, version).await;
        control.order(&long_backup(&server, &data)).await;
        let pid = under_way(&mut control, &server).await;
        process.kill();
        let length = || fs::metadata(process.file(job(1), "stdout")).unwrap().len();
        let before = length();
        // Where the kill comes behind the names of the files, a status is all that can be waited for. What is printed on both sides of a kill, line by line, is
        // the matter of `what_the_files_gave_back_is_neither_told_again_nor_missed_by_the_verdict`.
        poll("restic goes on alone", || length() > before);
        assert!(!is_gone(pid), "{version}");
        process.begin(&mut control).await;
        let end = control.end(job(1)).await;
        let text = control.jobs[&job(1)].text();
        assert_eq!(
            (end.status, end.exit_code, &end.error),
            (JobStatus::Succeeded, Some(0), &None),
            "{version}: {text}"
        );
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert!(summary.snapshot_id.is_some() && summary.files_new == 732, "{version}: {summary:?}");
        assert_eq!(
            count(&control, &format!("restic (pid {pid}) went on and is followed again")),
            1,
            "{version}: {text}"
        );
        assert_whole(&process, &control);
        assert_eq!(server.locks("r"), 0, "{version}");
        control.confirm(job(1)).await;
        poll("the folder goes", || !process.file(job(1), "").exists());
    }
}

/// Prints `first`, waits until `hold` is gone, prints `second`, and ends as a restic that could not read everything.
fn talkative(folder: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\nversion) echo 'restic 0.18.0 compiled with go1.24';;\ncat) echo '{{}}';;\n\
         backup) cat {0}/first; while [ -e {0}/hold ]; do sleep 0.01; done; cat {0}/second; exit 3;;\nesac\n",
        folder.display()
    );
    let path = folder.join("restic");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// Lines from..to, each with its number.
fn numbered(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("{n} {}\n", "x".repeat(1000))).collect()
}

fn unreadable(item: &str) -> String {
    format!(
        "{}\n",
        json!({ "message_type": "error", "error": { "message": "denied" }, "during": "archival", "item": item })
    )
}

#[tokio::test]
async fn what_the_files_gave_back_is_neither_told_again_nor_missed_by_the_verdict() {
    const FIRST: usize = 12_000;
    const LAST: usize = 20_000;
    for seen in [true, false] {
        let (work, mut control) = (tempfile::tempdir().unwrap(), Control::start().await);
        let file = |name: &str| work.path().join(name);
        fs::write(file("hold"), b"").unwrap();
        fs::write(file("first"), unreadable("/a") + &numbered(0, FIRST)).unwrap();
        let summary = json!({ "message_type": "summary", "files_new": 7, "snapshot_id": "0".repeat(64) });
        let second = numbered(FIRST, LAST) + &unreadable("/a") + &unreadable("/b") + &format!("{summary}\n");
        fs::write(file("second"), second).unwrap();
        let mut process = Process::with(&mut control, talkative(work.path())).await;
        control.order(&backup(1, local_repo(&file("repo")), &[work.path()])).await;
        poll("some of the output is given back", || {
            fs::metadata(process.file(job(1), "stdout"))
                .is_ok_and(|meta| meta.len() >= 1002 * FIRST as u64 && meta.blocks() * 512 < 6 << 20)
        });
        process.kill();
        if !seen {
            fs::remove_file(file("hold")).unwrap();
            poll("its end", || process.file(job(1), "exit.1").exists());
        }
        process.begin(&mut control).await;
        if seen {
            fs::remove_file(file("hold")).unwrap();
        }
        let end = control.end(job(1)).await;
        assert_eq!((end.status, end.exit_code), (JobStatus::Warning, Some(3)), "{end:?}");
        assert!(end.error.unwrap().starts_with("2 files or folders could not be read: /a: denied"));
        let summary: BackupSummary = serde_json::from_value(end.summary.unwrap()).unwrap();
        assert_eq!((summary.files_new, summary.errors), (7, 2));
        let told = &control.jobs[&job(1)];
        let numbers =
            told.of(Stream::Stdout).into_iter().filter_map(|line| line.split_once(" x")?.0.parse::<usize>().ok());
        assert!(numbers.eq(0..LAST), "each line once, in order");
        assert_eq!(told.of(Stream::Stderr), ["error: /a: denied", "error: /b: denied"]);
    }
}

#[tokio::test]
async fn a_stopped_agent_leaves_its_backup_to_the_next_and_stops_at_once() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    process.stop();
    assert!(!is_gone(pid));
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!((end.status, end.exit_code), (JobStatus::Succeeded, Some(0)), "{}", control.jobs[&job(1)].text());
    assert_eq!(count(&control, "is followed again"), 1);
    assert_whole(&process, &control);
}

#[tokio::test]
async fn an_end_that_no_agent_saw_is_told_as_it_was() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.19").await;
    let mut order = long_backup(&server, &data);
    // Nobody can read the first page of that: restic warns, and ends with 3.
    order.plan.as_mut().unwrap().paths.push(format!("/proc/{}/mem", std::process::id()));
    control.order(&order).await;
    under_way(&mut control, &server).await;
    process.kill();
    poll("restic's end", || process.file(job(1), "exit.1").exists());
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!((end.status, end.exit_code), (JobStatus::Warning, Some(3)), "{}", control.jobs[&job(1)].text());
    assert!(end.error.unwrap().contains("1 files or folders could not be read"));
    assert_eq!(count(&control, "had ended meanwhile, with code 3"), 1);
    assert_whole_but_one(&process, &control);
    // The next process has the same end, and runs nothing again.
    process.kill();
    process.begin(&mut control).await;
    let again = control.end(job(1)).await;
    assert_eq!(again.exit_code, Some(3));
    assert!(!process.file(job(1), "begun.2").exists());
}

/// As [`assert_whole`]; the unreadable one is an error, not an item.
fn assert_whole_but_one(process: &Process, control: &Control) {
    assert_whole(process, control);
    let errors = control.jobs[&job(1)].of(Stream::Stderr);
    assert_eq!(errors.iter().filter(|line| line.starts_with("error: ")).count(), 1, "{errors:?}");
}

/// Leaves the lock of another host's process in the repository.
fn lock_of_another_host(server: &RestServer, data: &TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let repo = server.ready_repo("r");
    // The agent's own restic has its lock first, so that the next one is the other host's.
    poll("the own lock", || server.locks("r") == 1);
    let script = format!(
        "hostname elsewhere; exec {} backup --limit-upload=1000 {}",
        restic("0.18").display(),
        data.path().display()
    );
    let mut child = Command::new("unshare")
        .args(["--uts", "sh", "-c", &script])
        .env("RESTIC_REPOSITORY", &repo.url)
        .env("RESTIC_REST_USERNAME", "agent1")
        .env("RESTIC_REST_PASSWORD", AUTH_PASSWORD)
        .env("RESTIC_PASSWORD", REPO_PASSWORD)
        .env("RESTIC_CACHE_DIR", cache.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    poll("the other host's lock", || server.locks("r") == 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_restic_that_was_killed_meanwhile_is_told_as_failed_and_its_own_lock_alone_goes() {
    for version in VERSIONS {
        let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
        let mut process = Process::start(&mut control, version).await;
        let mut order = long_backup(&server, &data);
        order.plan.as_mut().unwrap().options.limit_upload_kib = 1500;
        control.order(&order).await;
        let pid = under_way(&mut control, &server).await;
        lock_of_another_host(&server, &data);
        let foreign = server.locks("r") - 1;
        assert_eq!(foreign, 1, "{version}");
        process.kill_with(pid);
        process.begin(&mut control).await;
        let end = control.end(job(1)).await;
        let text = control.jobs[&job(1)].text();
        assert_eq!((end.status, end.exit_code), (JobStatus::Failed, None), "{version}: {text}");
        assert!(end.error.unwrap().contains("restic was killed while no agent ran"), "{version}");
        assert_eq!(count(&control, "the lock that it left in the repository was removed"), 1, "{version}: {text}");
        assert_eq!(server.locks("r"), foreign, "{version}: {text}");
    }
}

#[tokio::test]
async fn a_signal_that_ended_restic_alone_is_named() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.19").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    process.kill();
    signal(pid, "-KILL");
    poll("restic's death", || is_gone(pid));
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!((end.status, end.exit_code), (JobStatus::Failed, Some(-9)), "{}", control.jobs[&job(1)].text());
    assert_eq!(server.locks("r"), 0, "{}", control.jobs[&job(1)].text());
}

#[tokio::test]
async fn a_restart_of_the_host_is_told_as_that() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    process.kill_with(pid);
    process.edit_run(job(1), |run| run["boot_id"] = "another boot".into());
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!(end.status, JobStatus::Failed);
    assert!(end.error.unwrap().contains("the host was restarted while the job ran"));
    assert_eq!(server.locks("r"), 0, "{}", control.jobs[&job(1)].text());
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_no_lock_of_a_killed_restic() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    process.kill_with(pid);
    // As if the clock had been two hours ahead when it began, and been put right before it took its lock.
    process.edit_run(job(1), |run| {
        let begun: flotilla_proto::Timestamp = serde_json::from_value(run["begun_at"].take()).unwrap();
        run["begun_at"] = json!(flotilla_proto::Timestamp::from_unix_ms(begun.unix_ms() + 7_200_000));
    });
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!(end.status, JobStatus::Failed);
    assert_eq!(server.locks("r"), 0, "{}", control.jobs[&job(1)].text());
}

#[tokio::test]
async fn an_adopted_backup_can_be_cancelled_and_leaves_no_lock() {
    for version in VERSIONS {
        let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
        let mut process = Process::start(&mut control, version).await;
        control.order(&long_backup(&server, &data)).await;
        let pid = under_way(&mut control, &server).await;
        process.kill();
        process.begin(&mut control).await;
        control.cancel(job(1)).await;
        let end = control.end(job(1)).await;
        assert_eq!(end.status, JobStatus::Cancelled, "{version}: {end:?}\n{}", control.jobs[&job(1)].text());
        assert!(is_gone(pid), "{version}");
        assert_eq!(server.locks("r"), 0, "{version}");
    }
}

#[tokio::test]
async fn a_cancel_that_was_under_way_when_the_agent_died_is_still_a_cancel() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    // It does not see the signal before the agent is dead.
    signal(pid, "-STOP");
    control.cancel(job(1)).await;
    control.until(job(1), |told| told.text().contains("cancelled: sending SIGINT").then_some(())).await;
    process.kill();
    signal(pid, "-CONT");
    process.begin(&mut control).await;
    assert_eq!(control.end(job(1)).await.status, JobStatus::Cancelled, "{}", control.jobs[&job(1)].text());
    assert_eq!(server.locks("r"), 0);
}

#[tokio::test]
async fn the_time_limit_of_an_adopted_backup_is_that_of_its_order() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.19").await;
    let mut order = long_backup(&server, &data);
    order.plan.as_mut().unwrap().options.limit_upload_kib = 1500;
    order.timeout_s = 12;
    control.order(&order).await;
    under_way(&mut control, &server).await;
    process.kill();
    process.begin(&mut control).await;
    let begun = std::time::Instant::now();
    let end = control.end(job(1)).await;
    assert_eq!(end.status, JobStatus::Failed, "{}", control.jobs[&job(1)].text());
    assert!(end.error.unwrap().contains("time limit of 12 s"));
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!(server.locks("r"), 0);
}

#[tokio::test]
async fn an_accepted_order_that_had_not_begun_runs_after_the_restart_and_once() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    under_way(&mut control, &server).await;
    control
        .order(&CommandRun { job_id: job(2), ..slow_backup(2, server.ready_repo("second"), data.path(), 4000) })
        .await;
    control.until(job(2), |told| told.pid).await;
    // Two run at once: this one waits.
    control.order(&of_kind(3, JobKind::Snapshots, server.ready_repo("r"))).await;
    poll("the third order on disk", || process.file(job(3), "order").exists());
    process.kill();
    process.begin(&mut control).await;
    control.cancel(job(2)).await;
    let end = control.end(job(3)).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{}", control.jobs[&job(3)].text());
    assert_eq!(control.jobs[&job(3)].text().matches("snapshots with restic").count(), 1);
    assert_eq!(control.end(job(2)).await.status, JobStatus::Cancelled);
    control.cancel(job(1)).await;
    control.end(job(1)).await;
}

#[tokio::test]
async fn an_order_that_cannot_be_opened_ends_as_failed_and_its_restic_with_it() {
    let (server, data, mut control) = (RestServer::start(), bulk(), Control::start().await);
    let mut process = Process::start(&mut control, "0.18").await;
    control.order(&long_backup(&server, &data)).await;
    let pid = under_way(&mut control, &server).await;
    process.kill();
    fs::write(process.file(job(1), "order"), b"\x01 not what it was").unwrap();
    process.begin(&mut control).await;
    let end = control.end(job(1)).await;
    assert_eq!(end.status, JobStatus::Failed);
    assert!(end.error.unwrap().contains("its order can't be read: it was sealed under another enrolment"));
    assert!(is_gone(pid));
    assert_eq!(server.locks("r"), 0);
    assert!(Path::new(&process.file(job(1), "end.json")).exists());
}
