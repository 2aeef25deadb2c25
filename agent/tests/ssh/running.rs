//! Scripts on the host.

use std::{cell::Cell, fs, io::Cursor, process::Command, time::Duration};

use flotilla_agent::ssh::{Doing, End, Exec, Ssh, SshError, SshTarget, Timeouts};
use flotilla_proto::Secret;
use tokio::time::{Instant, timeout};

use crate::sshd::{PATIENCE, Proxy, Sshd, nap, output, running, unique, until};

pub(crate) fn script(script: &str) -> Exec {
    Exec { script: script.into(), env: Vec::new(), stdin: None, mark: unique() }
}

async fn run(ssh: &Ssh, exec: Exec) -> (End, String, String) {
    let mut running = ssh.exec(exec).await.unwrap();
    let (out, err) = timeout(PATIENCE, output(&mut running)).await.unwrap();
    (timeout(PATIENCE, running.wait()).await.unwrap(), out, err)
}

fn code(end: &End) -> u32 {
    match end {
        End::Exited { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_script_runs_in_bash_with_its_environment_and_input_and_both_streams_come_apart() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let exec = Exec {
        script: "echo \"$BASH_VERSION\" | grep -c .; cat; echo to stderr >&2; printf '%s\\n' \"$NASTY\" \"$FLOTILLA_RUN\"; echo ${flotilla_env-}${flotilla_script-}none".into(),
        env: vec![("NASTY".into(), Secret::from("a'b\"$(reboot)\n`x`\\ end "))],
        stdin: Some(Box::new(Cursor::new(b"its\0 own\ninput".to_vec()))),
        mark: unique(),
    };
    let mark = exec.mark.clone();
    let (end, out, err) = run(&ssh, exec).await;
    assert_eq!(out, format!("1\nits own\ninputa'b\"$(reboot)\n`x`\\ end \n{mark}\nnone\n"));
    assert_eq!((code(&end), err.as_str()), (0, "to stderr\n"));
}

#[tokio::test]
async fn codes_signals_and_broken_pipes_are_told_as_they_were() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    for (text, wanted) in
        [("exit 7", 7), ("false | true", 1), ("set -e; false; true", 1), ("no-such-command", 127), ("if", 2), ("", 0)]
    {
        let (end, ..) = run(&ssh, script(text)).await;
        assert_eq!(code(&end), wanted, "{text}");
    }
    let (end, ..) = run(&ssh, script("kill -KILL $$")).await;
    assert!(matches!(&end, End::Signalled { name } if name == "KILL"), "{end:?}");
    let (_, _, err) = run(&ssh, script("true\nthis-is-line-2")).await;
    assert!(err.contains("line 2: this-is-line-2"), "{err}");
}

#[tokio::test]
async fn nothing_of_a_script_its_environment_or_input_is_on_a_command_line() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let exec = Exec {
        script: "planted=in-script; for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f; echo; done 2>/dev/null".into(),
        env: vec![("PLANTED".into(), "in-env".into())],
        stdin: Some(Box::new(Cursor::new(b"planted-in-input".to_vec()))),
        mark: unique(),
    };
    let (_, out, _) = run(&ssh, exec).await;
    assert!(
        out.contains("flotilla-run")
            && !out.contains("in-script")
            && !out.contains("in-env")
            && !out.contains("in-input"),
        "{out}"
    );
    assert!(!sshd.log().contains("in-script"), "{}", sshd.log());
}

#[tokio::test]
async fn the_login_shell_may_be_any_and_may_talk() {
    for shell in ["sh", "bash", "dash", "fish", "tcsh"] {
        if Command::new(shell).args(["-c", "true"]).output().is_err() {
            println!("{shell} is not installed: left out");
            continue;
        }
        let force = format!("ForceCommand echo Welcome; echo -n to; exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n");
        let sshd = Sshd::with(&["ed25519"], &force);
        let (end, out, err) = run(&sshd.connect().await, script("echo \"it's $((6*7))\"; exit 3")).await;
        assert_eq!((code(&end), out.as_str(), err.as_str()), (3, "it's 42\n", ""), "{shell}");
    }
}

#[tokio::test]
async fn a_host_without_bash_is_told_with_what_it_said() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand PATH=/nowhere; exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
    let error = sshd.connect().await.exec(script("true")).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, SshError::NoBash { .. }));
    assert!(error.to_string().contains("127") && error.to_string().contains("not found"), "{error}");
    let sshd = Sshd::with(&["ed25519"], "ForceCommand echo This account is currently not available.; exit 1\n");
    let error = sshd.connect().await.exec(script("true")).await.unwrap_err();
    assert!(error.to_string().contains("currently not available"), "{error}");
}

#[tokio::test]
async fn what_can_not_be_run_is_refused_before_anything_is_sent() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let env = |name: &str, value: &str| Exec { env: vec![(name.into(), value.into())], ..script("true") };
    for exec in [
        script("a\0b"),
        script(&"x".repeat(2 << 20)),
        env("A B", "x"),
        env("", "x"),
        env("1A", "x"),
        env("A=$(reboot)", "x"),
        env("FLOTILLA_RUN", "x"),
        env("A", "x\0y"),
        Exec { mark: "a b".into(), ..script("true") },
        Exec { mark: String::new(), ..script("true") },
    ] {
        let error = ssh.exec(exec).await.unwrap_err();
        assert!(matches!(error, SshError::Input { .. }), "{error}");
    }
    let (end, out, _) = run(&ssh, env("BIG", &"ab'\"$ \n".repeat(8 * 1024))).await;
    assert_eq!((code(&end), out.as_str()), (0, ""));
}

#[tokio::test]
async fn a_line_comes_as_soon_as_it_is_printed_and_a_long_one_is_cut() {
    let sshd = Sshd::start();
    let mut run = sshd
        .connect()
        .await
        .exec(script("echo first; read -r answer; head -c 300000 /dev/zero | tr '\\0' x; echo; echo $answer"))
        .await;
    let running = run.as_mut().unwrap();
    assert_eq!(running.line().await.unwrap().text, "first");
    let long = running.line().await.unwrap();
    assert_eq!((long.text.len(), long.lost), (256 << 10, 300_000 - (256 << 10)));
}

#[tokio::test]
async fn what_a_script_leaves_running_does_not_hold_up_its_end() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let exec = script(&format!("{} & echo started", nap(307)));
    let mark = exec.mark.clone();
    let (end, out, _) = run(&ssh, exec).await;
    assert!(matches!(end, End::Exited { code: 0, left_running: true }), "{end:?}");
    assert_eq!((out.as_str(), running(&nap(307)).len()), ("started\n", 1));
    assert_eq!(ssh.kill_marked(&mark, Duration::from_secs(5)).await.unwrap().found, 1);
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// How much output is sent; `FLOTILLA_SSH_OUTPUT_MB=1024` for a lot.
fn much() -> u64 {
    std::env::var("FLOTILLA_SSH_OUTPUT_MB").map_or(32, |text| text.parse().unwrap()) << 20
}

const ALONE: &str = "FLOTILLA_TEST_FLOOD";
const FLOOD: &str = "running::a_flood_of_output_needs_no_memory_read_or_unread";

/// In a process of its own: other tests need memory too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_needs_no_memory_read_or_unread() {
    if std::env::var_os(ALONE).is_some() {
        return flood().await;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", FLOOD, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

async fn flood() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let flood = format!("yes \"$(printf %01000d 7)\" | head -c {}", much());
    let before = resident();
    let mut most = before;
    let mut reading = ssh.exec(script(&flood)).await.unwrap();
    let mut bytes = 0;
    while let Some(line) = reading.line().await {
        bytes += line.text.len() as u64 + 1;
        if bytes % (1 << 20) < 1001 {
            most = most.max(resident());
        }
    }
    assert_eq!(bytes, much() + 1, "a last line without its end counts one more");
    // `yes` is ended by its pipe.
    assert_eq!(code(&reading.wait().await), 141);
    // Nobody reads: it stands still, and needs no more while it does.
    let mut unread = ssh.exec(script(&flood)).await.unwrap();
    unread.line().await.unwrap();
    let (since, seen) = (Instant::now(), Cell::new(most));
    until("a second has passed", || {
        seen.set(seen.get().max(resident()));
        since.elapsed() > Duration::from_secs(1)
    })
    .await;
    most = seen.get();
    // Its reader goes away: it can still be ended, over the same connection.
    assert!(unread.stop(Duration::from_secs(5)).await.unwrap().is_clean());
    unread.wait().await;
    most = most.max(resident());
    assert!(most - before < 32 << 20, "{} MiB more", (most - before) >> 20);
}

#[tokio::test]
async fn one_connection_serves_many_steps_and_several_at_once() {
    let sshd = Sshd::start();
    let proxy = Proxy::before(sshd.port);
    let ssh = Ssh::connect(&SshTarget { port: proxy.port, ..sshd.target() }, Timeouts::default()).await.unwrap();
    for _ in 0..5 {
        let (a, b) = tokio::join!(run(&ssh, script("echo a")), run(&ssh, script("echo b")));
        assert_eq!((a.1.as_str(), b.1.as_str()), ("a\n", "b\n"));
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn several_hosts_are_worked_on_at_once_and_do_not_mix() {
    let hosts: Vec<Sshd> = (0..4).map(|_| Sshd::start()).collect();
    let runs = hosts.iter().map(|sshd| async {
        let ssh = sshd.connect().await;
        let (end, out, _) = run(&ssh, script("echo \"$SSH_CONNECTION\"")).await;
        assert_eq!((code(&end), out.trim_end().rsplit(' ').next().unwrap()), (0, sshd.port.to_string().as_str()));
    });
    futures_util::future::join_all(runs).await;
}

#[tokio::test]
async fn a_connection_that_drops_during_a_step_fails_it_truthfully_and_the_next_step_connects_again() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let mut first = ssh.exec(script(&format!("echo there; {}", nap(308)))).await.unwrap();
    assert_eq!(first.line().await.unwrap().text, "there");
    sshd.drop_connections();
    let End::Unknown(error) = timeout(PATIENCE, first.wait()).await.unwrap() else { panic!("it did not drop") };
    println!("{error}");
    assert!(matches!(error, SshError::Dropped { doing: Doing::Command, .. }));
    assert!(error.to_string().contains("whether it finished is unknown"), "{error}");
    let stopped = first.stop(Duration::from_secs(5)).await.unwrap();
    assert!(stopped.found >= 1 && stopped.is_clean() && running(&nap(308)).is_empty(), "{stopped}");
    let (end, out, _) = run(&ssh, script("echo again")).await;
    assert_eq!((code(&end), out.as_str()), (0, "again\n"));
}

#[tokio::test]
async fn an_sshd_that_is_restarted_between_two_steps_is_no_failure() {
    let mut sshd = Sshd::start();
    let ssh = sshd.connect().await;
    run(&ssh, script("true")).await;
    sshd.drop_connections();
    sshd.restart();
    let (end, ..) = run(&ssh, script("true")).await;
    assert_eq!(code(&end), 0);
    sshd.drop_connections();
    sshd.stop();
    let error = ssh.exec(script("true")).await.unwrap_err();
    assert!(matches!(error, SshError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_network_that_goes_dead_is_found_by_the_questions_for_a_sign_of_life() {
    let sshd = Sshd::start();
    let proxy = Proxy::before(sshd.port);
    let timeouts = Timeouts { alive: Duration::from_millis(700), ..Timeouts::default() };
    assert!(Timeouts::default().alive * 3 < Duration::from_secs(45));
    let ssh = Ssh::connect(&SshTarget { port: proxy.port, ..sshd.target() }, timeouts).await.unwrap();
    // Silent for longer than three questions: it is alive, and answers.
    let exec = script(&format!("sleep 2.5; echo there; {}", nap(309)));
    let mark = exec.mark.clone();
    let mut step = ssh.exec(exec).await.unwrap();
    assert_eq!(step.line().await.unwrap().text, "there");
    proxy.freeze();
    let End::Unknown(error) = timeout(PATIENCE, step.wait()).await.unwrap() else { panic!("it is alive") };
    assert!(error.to_string().contains("stopped answering"), "{error}");
    drop(step);
    let stopped = sshd.connect().await.kill_marked(&mark, Duration::ZERO).await.unwrap();
    assert!(stopped.is_clean() && running(&nap(309)).is_empty(), "{stopped:?}");
}

#[tokio::test]
async fn a_server_that_refuses_sessions_is_told_apart() {
    let sshd = Sshd::with(&["ed25519"], "MaxSessions 1\n");
    let ssh = sshd.connect().await;
    let mut first = ssh.exec(script("cat")).await.unwrap();
    let error = ssh.exec(script("true")).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, SshError::ChannelRefused { .. }) && error.to_string().contains("MaxSessions"));
    assert_eq!(code(&first.wait().await), 0);
    until("the session is over", || sshd.log().contains("session_close")).await;
}
