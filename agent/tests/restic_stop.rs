//! Running jobs seen from outside: what they show, how they are stopped, and that each runs at most once.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{fs, path::Path, sync::Arc, time::Duration};

use flotilla_agent::{
    executor::{AtStop, Executor, forget_leftover, leftovers},
    runner::Submitted,
};
use flotilla_proto::{JobKind, JobStatus, Limits};
use harness::{
    Agent, Memory, PLANTED, RestServer, VERSIONS, backup, job, local_repo, noise, of_kind, poll, restic, seal,
    slow_backup,
};
use tempfile::TempDir;

/// Data that takes some seconds at the limits used here.
fn bulk() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..12 {
        fs::write(folder.path().join(format!("{seed}.bin")), noise(4 << 20, seed + 1)).unwrap();
    }
    folder
}

/// A backup that holds its lock and moves bytes.
async fn under_way(agent: &Agent, server: &RestServer, number: u128, data: &TempDir) -> Arc<Memory> {
    let memory = agent.submit(&slow_backup(number, server.ready_repo("r"), data.path(), 4000));
    memory.until("first bytes", |seen| seen.progress.iter().find(|p| p.bytes_done > 0).cloned()).await;
    poll("restic's lock", || server.locks("r") > 0);
    memory
}

#[tokio::test]
async fn a_cancelled_backup_ends_as_cancelled_and_leaves_no_lock() {
    for version in VERSIONS {
        let (server, data) = (RestServer::start(), bulk());
        let agent = Agent::new(&restic(version));
        let memory = under_way(&agent, &server, 1, &data).await;
        assert!(agent.executor.cancel(job(1)));
        let end = memory.end().await;
        assert_eq!(end.status, JobStatus::Cancelled, "{version}: {end:?}\n{}", memory.text());
        assert_eq!(server.locks("r"), 0, "{version}");
        assert!(!memory.text().contains("SIGKILL\n") && !agent.executor.cancel(job(1)), "{version}");
        assert_eq!(leftovers(agent.state.path()).unwrap(), [job(1)], "kept until the server has the end");
        agent.executor.forget(job(1)).unwrap();
        assert_eq!(fs::read_dir(agent.state.path().join("jobs")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_restic_that_must_be_killed_takes_its_stale_lock_with_it() {
    let (server, data) = (RestServer::start(), bulk());
    let agent = Agent::with(&restic("0.18"), |config| config.grace = Duration::ZERO);
    let memory = under_way(&agent, &server, 1, &data).await;
    assert!(agent.executor.cancel(job(1)));
    let end = memory.end().await;
    assert_eq!(end.status, JobStatus::Cancelled, "{end:?}");
    if end.exit_code == Some(-9) {
        // The polite stop, which came just before, may have been in time for the lock.
        let text = memory.text();
        assert!(
            text.contains("the lock that it left in the repository was removed") || text.contains("it left no lock"),
            "{text}"
        );
    }
    assert_eq!(server.locks("r"), 0, "{}", memory.text());
}

#[tokio::test]
async fn a_time_limit_stops_the_job_and_is_named() {
    let (server, data) = (RestServer::start(), bulk());
    let agent = Agent::new(&restic("0.19"));
    let mut order = slow_backup(1, server.ready_repo("r"), data.path(), 1500);
    order.timeout_s = 8;
    let (end, memory) = agent.run(&order).await;
    assert_eq!(end.status, JobStatus::Failed, "{}", memory.text());
    assert!(end.error.unwrap().contains("time limit of 8 s"));
    assert_eq!(server.locks("r"), 0);
}

#[tokio::test]
async fn a_backup_whose_server_hangs_is_stopped_by_the_watchdog() {
    let (server, data) = (RestServer::start(), bulk());
    // The wait for a throttled upload is added to `idle`: at this rate it is short.
    let agent = Agent::with(&restic("0.18"), |config| {
        config.idle = Duration::from_secs(1);
        config.grace = Duration::from_secs(1);
        config.preflight = Duration::from_secs(6);
    });
    let memory = agent.submit(&slow_backup(1, server.ready_repo("r"), data.path(), 12_000));
    memory.until("restic's start", |seen| seen.pid).await;
    poll("restic's lock", || server.locks("r") > 0);
    server.freeze();
    let end = memory.end().await;
    assert_eq!(end.status, JobStatus::Failed, "{end:?}");
    assert!(end.error.unwrap().contains("stood still for "), "{}", memory.text());
}

#[tokio::test]
async fn no_secret_shows_in_the_process_list_while_restic_runs() {
    for version in VERSIONS {
        let (server, data) = (RestServer::start(), bulk());
        let agent = Agent::new(&restic(version));
        let memory = under_way(&agent, &server, 1, &data).await;
        let pid = memory.look(|seen| seen.pid).unwrap();
        for file in ["cmdline", "environ"] {
            let shown = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            let shown = String::from_utf8_lossy(&shown);
            let own = if file == "environ" { "RESTIC_PASSWORD_FILE=/dev/fd/" } else { "backup" };
            assert!(shown.contains(own), "{version}: {file} of another process? {shown}");
            for planted in PLANTED {
                assert!(!shown.contains(planted), "{version}: {file}: {shown}");
            }
            assert!(!shown.contains("CARGO_MANIFEST_DIR"), "{version}: the agent's own environment leaked: {shown}");
        }
        let kept = fs::read_dir(agent.state.path().join("jobs").join(job(1).to_string())).unwrap();
        let names: Vec<String> = kept
            .map(|file| {
                let file = file.unwrap();
                let text = fs::read(file.path()).unwrap();
                assert!(!String::from_utf8_lossy(&text).contains("planted"), "{version}: {:?}", file.path());
                file.file_name().into_string().unwrap()
            })
            .collect();
        for file in ["order", "run.json", "begun.1", "stdout", "stderr"] {
            assert!(names.iter().any(|name| name == file), "{version}: {names:?}");
        }
        assert!(agent.executor.cancel(job(1)));
        memory.end().await;
    }
}

#[tokio::test]
async fn waiting_jobs_keep_their_order_and_can_be_cancelled_unrun() {
    let (server, data) = (RestServer::start(), bulk());
    let agent = Agent::with(&restic("0.19"), |config| config.limits.concurrent_jobs = 1);
    let first = under_way(&agent, &server, 1, &data).await;
    let second = agent.submit(&of_kind(2, JobKind::Snapshots, server.ready_repo("r")));
    let third = agent.submit(&of_kind(3, JobKind::Snapshots, server.ready_repo("r")));
    assert_eq!(agent.executor.live(), 3);
    assert!(second.look(|seen| seen.lines.is_empty()) && third.look(|seen| seen.lines.is_empty()));
    assert!(agent.executor.cancel(job(2)));
    let end = second.end().await;
    assert_eq!((end.status, end.error.as_deref()), (JobStatus::Cancelled, Some("cancelled before it began")));
    assert!(agent.executor.cancel(job(1)));
    first.end().await;
    assert_eq!(third.end().await.status, JobStatus::Succeeded, "{}", third.text());
    assert!(!agent.executor.cancel(job(77)), "an unknown job can't be stopped");
}

#[tokio::test]
async fn a_job_that_is_ordered_twice_runs_once() {
    let work = tempfile::tempdir().unwrap();
    let agent = Agent::new(&restic("0.14"));
    let order = of_kind(1, JobKind::Init, local_repo(&work.path().join("repo")));
    let memory = agent.submit(&order);
    let again = Arc::new(Memory::default());
    assert_eq!(agent.executor.submit(order.clone(), again.clone()), Submitted::Known);
    assert_eq!(memory.end().await.status, JobStatus::Succeeded);
    assert_eq!(agent.executor.submit(order, again.clone()), Submitted::Known, "also after its end");
    again.look(|seen| assert!(seen.lines.is_empty() && seen.end.is_none()));
}

#[tokio::test]
async fn an_agent_that_takes_its_jobs_with_it_ends_running_and_waiting_ones_truthfully() {
    let (server, data) = (RestServer::start(), bulk());
    let agent = Agent::with(&restic("0.18"), |config| {
        config.limits.concurrent_jobs = 1;
        config.at_stop = AtStop::End;
    });
    let running = under_way(&agent, &server, 1, &data).await;
    let waiting = agent.submit(&of_kind(2, JobKind::Snapshots, server.ready_repo("r")));
    agent.executor.drain(Duration::from_secs(90)).await;
    for (memory, words) in [(running, "stopped while the job ran"), (waiting, "stopped before the job began")] {
        let end = memory.look(|seen| seen.end.clone()).expect("drain returns after the end");
        assert_eq!(end.status, JobStatus::Failed);
        assert!(end.error.unwrap().contains(words));
    }
    assert_eq!(server.locks("r"), 0);
    let late = agent.submit(&backup(3, server.ready_repo("r"), &[Path::new("/etc")]));
    assert!(late.end().await.error.unwrap().contains("begins nothing new"));
    agent.tracker.close();
    agent.tracker.wait().await;
}

#[tokio::test]
async fn a_job_of_an_agent_that_died_is_found_and_not_run_again() {
    let (server, data) = (RestServer::start(), bulk());
    let agent = Agent::new(&restic("0.19"));
    let memory = under_way(&agent, &server, 1, &data).await;
    assert_eq!(leftovers(agent.state.path()).unwrap(), [job(1)]);
    // A second process on the same folder, as after a crash.
    let config = flotilla_agent::executor::ExecutorConfig::new(agent.state.path().to_owned(), None, Limits::default());
    let clock = Arc::new(|| flotilla_proto::Timestamp::from_unix_ms(0));
    let next = Executor::new(config, seal(), agent.tracker.clone(), clock).unwrap();
    let order = slow_backup(1, server.ready_repo("r"), data.path(), 4000);
    assert_eq!(next.submit(order, Arc::new(Memory::default())), Submitted::Known);
    forget_leftover(agent.state.path(), job(1)).unwrap();
    assert_eq!(leftovers(agent.state.path()).unwrap(), []);
    assert!(agent.executor.cancel(job(1)));
    memory.end().await;
}

#[tokio::test]
async fn a_state_folder_that_cannot_be_written_ends_the_job_with_the_reason() {
    let agent = Agent::new(&restic("0.14"));
    // A file where the folder of jobs should be: also root can't write into that.
    fs::write(agent.state.path().join("jobs"), b"").unwrap();
    let memory = agent.submit(&of_kind(1, JobKind::Init, local_repo(Path::new("/tmp/unused"))));
    assert!(memory.end().await.error.unwrap().contains("can't write to its state folder"));
    assert_eq!(agent.executor.live(), 0);
}
