//! Repositories that are not there, do not open or do not answer: each is told within the deadline, in words.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{net::TcpListener, path::Path, time::Duration};

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{JobKind, JobStatus, RepoSpec};
use harness::{Agent, RestServer, VERSIONS, backup, free_port, local_repo, of_kind, ready_local_repo, restic, secret};
use tokio::time::Instant;

async fn failure(version: &str, repo: RepoSpec) -> String {
    let agent = Agent::new(&restic(version));
    let (end, memory) = agent.run(&backup(1, repo, &[Path::new("/etc/hostname")])).await;
    assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
    assert!(memory.look(|seen| seen.pid.is_none()), "{version}: the backup itself must not have begun");
    end.error.unwrap()
}

#[tokio::test]
async fn a_wrong_repository_password_is_named() {
    let work = tempfile::tempdir().unwrap();
    let repo = ready_local_repo(&work.path().join("repo"));
    for version in VERSIONS {
        let wrong = RepoSpec { password: secret("another one"), ..repo.clone() };
        let error = failure(version, wrong).await;
        assert!(
            error.contains("the repository's password is wrong") && error.contains("restic says: wrong password"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_wrong_server_password_is_told_apart_from_the_repositorys() {
    let server = RestServer::start();
    for version in VERSIONS {
        let wrong = RepoSpec { auth_password: Some(secret("planted-auth wrong")), ..server.repo("r") };
        let error = failure(version, wrong).await;
        assert!(error.contains("(401)"), "{version}: {error}");
    }
}

#[tokio::test]
async fn a_missing_repository_is_created_only_when_allowed() {
    let server = RestServer::start();
    for version in VERSIONS {
        let forbidden = RepoSpec { init: false, ..server.repo(version) };
        let error = failure(version, forbidden).await;
        assert!(error.contains("there is no repository at this address"), "{version}: {error}");
        assert_eq!(snapshots(version, server.repo(version)).await.status, JobStatus::Failed, "reading never creates");
        let agent = Agent::new(&restic(version));
        let (end, _) = agent.run(&of_kind(1, JobKind::Init, server.repo(version))).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        let (end, _) = agent.run(&of_kind(2, JobKind::Init, server.repo(version))).await;
        assert!(end.error.unwrap().contains("there is a repository at this address already"), "{version}");
    }
}

async fn snapshots(version: &str, repo: RepoSpec) -> JobOutcome {
    Agent::new(&restic(version)).run(&of_kind(1, JobKind::Snapshots, repo)).await.0
}

#[tokio::test]
async fn a_dead_server_fails_at_once_and_says_so() {
    for version in VERSIONS {
        let port = free_port();
        let begun = Instant::now();
        let error = failure(
            version,
            RepoSpec { url: format!("rest:http://127.0.0.1:{port}/r/"), ..local_repo(Path::new("/")) },
        )
        .await;
        assert!(error.starts_with(&format!("127.0.0.1:{port} refuses connections")), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{version}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn an_unknown_host_name_is_told() {
    let url = "rest:http://no-such-host.invalid:8000/r/".to_owned();
    let error = failure("0.14", RepoSpec { url, ..local_repo(Path::new("/")) }).await;
    assert!(error.contains("can't be resolved"), "{error}");
}

/// restic 0.14 would wait for ever and does not listen to SIGINT meanwhile; later ones wait for half an hour.
#[tokio::test]
async fn a_server_that_accepts_but_never_answers_fails_within_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for version in VERSIONS {
        let agent = Agent::with(&restic(version), |config| config.preflight = Duration::from_secs(6));
        let repo = RepoSpec { url: format!("rest:http://127.0.0.1:{port}/r/"), ..local_repo(Path::new("/")) };
        let begun = Instant::now();
        let (end, _) = agent.run(&backup(1, repo, &[Path::new("/etc/hostname")])).await;
        assert_eq!(end.status, JobStatus::Failed);
        assert!(end.error.unwrap().starts_with("the repository did not answer within 6 s"), "{version}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{version}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn no_restic_on_the_host_says_how_to_install_it() {
    let agent = Agent::new(Path::new("/nowhere/restic"));
    let (end, _) = agent.run(&backup(1, local_repo(Path::new("/tmp/unused")), &[Path::new("/etc")])).await;
    let error = end.error.unwrap();
    assert!(end.status == JobStatus::Failed && error.contains("apt install restic"), "{error}");
}

#[tokio::test]
async fn a_runbook_that_came_without_its_text_fails_with_its_name() {
    let agent = Agent::new(&restic("0.14"));
    let (end, _) =
        agent.run(&of_kind(1, JobKind::Runbook("say".to_owned()), local_repo(Path::new("/tmp/unused")))).await;
    assert!(end.error.unwrap().contains("the order names the runbook say and holds none"));
}
