//! The end of what runs on the host, proven in /proc of this machine.

use std::{fs, time::Duration};

use flotilla_agent::ssh::{End, Exec, Running, Ssh, SshTarget, Timeouts};
use tokio::time::{Instant, timeout};

use crate::{
    running::script,
    sshd::{PATIENCE, Proxy, Sshd, nap, running, unique, until},
};

/// Three processes that outlive their shell, each found in its own way: by its parent, by the mark in a session of its own, by its parents without the mark.
fn tree(seconds: u32) -> Exec {
    let [a, b, c] = [0, 1, 2].map(|more| nap(seconds + more));
    script(&format!("{a} & setsid {b} & setsid bash -c 'env -i {c}; true' & echo there; wait"))
}

fn left(seconds: u32) -> usize {
    (seconds..seconds + 3).map(|seconds| running(&nap(seconds)).len()).sum()
}

async fn begun(ssh: &Ssh, exec: Exec, seconds: u32) -> Running {
    let mut started = ssh.exec(exec).await.unwrap();
    assert_eq!(started.line().await.unwrap().text, "there");
    until("all three run", || left(seconds) == 3).await;
    started
}

#[tokio::test]
async fn after_a_timeout_nothing_of_the_tree_runs() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let mut started = begun(&ssh, tree(310), 310).await;
    assert!(timeout(Duration::from_millis(200), started.wait()).await.is_err(), "the deadline of a step");
    let stopped = started.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(left(310), 0);
    assert!(stopped.is_clean() && !stopped.killed && stopped.found >= 4, "{stopped:?}");
    let end = timeout(PATIENCE, started.wait()).await.unwrap();
    assert!(matches!(end, End::Signalled { .. } | End::Exited { code: 143, .. }), "{end:?}");
}

#[tokio::test]
async fn what_does_not_hear_the_polite_signal_is_killed_after_the_grace() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let [a, b] = [320, 321].map(nap);
    let deaf = script(&format!("trap '' TERM; setsid bash -c 'while :; do {a}; done' & {b}"));
    let mut started = ssh.exec(deaf).await.unwrap();
    until("it runs", || running(&a).len() + running(&b).len() == 2).await;
    let began = Instant::now();
    let stopped = started.stop(Duration::from_secs(1)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(stopped.is_clean() && stopped.killed, "{stopped:?}");
    assert!((320..322).all(|seconds| running(&nap(seconds)).is_empty()));
    let end = timeout(PATIENCE, started.wait()).await.unwrap();
    assert!(matches!(&end, End::Signalled { name } if name == "KILL"), "{end:?}");
}

#[tokio::test]
async fn after_the_runner_was_gone_without_a_word_the_next_one_ends_it_by_its_mark() {
    let sshd = Sshd::start();
    let exec = tree(330);
    let mark = exec.mark.clone();
    {
        let ssh = sshd.connect().await;
        begun(&ssh, exec, 330).await;
    }
    let next = sshd.connect().await;
    assert_eq!(left(330), 3, "a connection that is gone ends nothing");
    let stopped = next.kill_marked(&mark, Duration::from_secs(5)).await.unwrap();
    assert!(stopped.is_clean() && left(330) == 0, "{stopped:?}");
    assert_eq!(next.kill_marked(&mark, Duration::from_secs(5)).await.unwrap().found, 0, "once more does no harm");
}

#[tokio::test]
async fn over_a_dead_connection_a_new_one_is_made_for_the_end() {
    let sshd = Sshd::start();
    let proxy = Proxy::before(sshd.port);
    let ssh = Ssh::connect(&SshTarget { port: proxy.port, ..sshd.target() }, Timeouts::default()).await.unwrap();
    let mut started = begun(&ssh, tree(340), 340).await;
    proxy.cut_after(0);
    let stopped = started.stop(Duration::from_secs(5)).await.unwrap();
    assert!(stopped.is_clean() && left(340) == 0, "{stopped:?}");
    assert!(matches!(started.wait().await, End::Unknown(_)));
}

#[tokio::test]
async fn where_the_server_allows_one_session_a_connection_the_end_has_a_connection_of_its_own() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1\n");
    let ssh = sshd.connect().await;
    let mut started = begun(&ssh, tree(380), 380).await;
    let stopped = started.stop(Duration::from_secs(5)).await.unwrap();
    assert!(stopped.is_clean() && left(380) == 0, "{stopped:?}");
}

#[tokio::test]
async fn another_run_on_the_same_host_is_left_alone() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let mut mine = begun(&ssh, tree(350), 350).await;
    let mut other = begun(&ssh, Exec { mark: format!("{}x", unique()), ..tree(360) }, 360).await;
    assert!(mine.stop(Duration::from_secs(5)).await.unwrap().is_clean());
    assert_eq!((left(350), left(360)), (0, 3));
    assert!(other.stop(Duration::ZERO).await.unwrap().is_clean());
    assert_eq!(left(360), 0);
}

#[tokio::test]
async fn the_script_that_ends_processes_runs_in_each_posix_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["dash", "bash", "busybox"] {
        let force = if shell == "busybox" { "busybox sh" } else { shell };
        if std::process::Command::new(shell).arg("--help").output().is_err() {
            println!("{shell} is not installed: left out");
            continue;
        }
        let fake = folder.path().join("sh");
        fs::write(&fake, format!("#!/bin/bash\nexec {force} \"$@\"\n")).unwrap();
        fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let config = format!("SetEnv PATH={}:/usr/bin:/bin\n", folder.path().display());
        let sshd = Sshd::with(&["ed25519"], &config);
        let mut started = begun(&sshd.connect().await, tree(370), 370).await;
        let stopped = started.stop(Duration::from_secs(5)).await.unwrap();
        assert!(stopped.is_clean() && left(370) == 0, "{shell}: {stopped:?}");
    }
}
