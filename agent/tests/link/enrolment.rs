//! Enrolment against a real HTTP peer, in process and as the binary that endpoints install.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use flotilla_agent::{
    AgentError,
    cli::{self, EnrollArgs},
    identity::StateDir,
};
use flotilla_proto::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::support::{Server, TOKEN, identity, soon};

const HOST: &str = "01JD3K8ZQV5C0F8R4X7M2N9ABC";

/// Answers one request with `status` and `body`; gives the request back.
async fn answer_once(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut tcp, _) = soon("a request", listener.accept()).await.unwrap();
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = soon("the request's body", tcp.read(&mut chunk)).await.unwrap();
        request.extend_from_slice(&chunk[..n]);
        if n == 0 || request.ends_with(b"}") {
            break;
        }
    }
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    // An agent that has read enough hangs up: that is its right.
    let _ = tcp.write_all(head.as_bytes()).await;
    let _ = tcp.write_all(body.as_bytes()).await;
    String::from_utf8(request).unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

fn args(url: &str, dir: &Path) -> EnrollArgs {
    EnrollArgs {
        server: url.parse().unwrap(),
        token: Secret::from(" planted-enrolment-token\n"),
        name: Some("web-1".to_owned()),
        state_dir: Some(dir.to_owned()),
        ca_fingerprint: None,
        allow_plain_http: false,
        replace: false,
    }
}

fn granted() -> String {
    format!(r#"{{"host_id":"{HOST}","agent_token":"planted-agent-token","later_field":1}}"#)
}

async fn refused(status: &str, body: &str) -> String {
    let temp = tempfile::tempdir().unwrap();
    let (listener, url) = listener().await;
    let (result, _) = tokio::join!(cli::enroll(args(&url, temp.path())), answer_once(&listener, status, body));
    let error = result.unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(!StateDir::at(temp.path()).identity_path().exists(), "no identity after a refusal");
    let text = error.to_string();
    assert!(!text.contains("planted"), "{text}");
    text
}

#[tokio::test]
async fn a_good_token_becomes_an_identity_that_only_its_owner_can_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let (listener, url) = listener().await;
    let body = granted();
    let (done, request) = tokio::join!(cli::enroll(args(&url, &dir)), answer_once(&listener, "201 Created", &body));
    let done = done.unwrap();
    assert!(!done.to_string().contains("planted"));
    assert!(request.starts_with("POST /api/enroll HTTP/1.1\r\n"), "{request}");
    let sent: serde_json::Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&sent["token"], &sent["hostname"]), (&"planted-enrolment-token".into(), &"web-1".into()));
    assert_eq!(sent["protocol"], serde_json::json!({"min": 1, "max": 1}));
    assert_eq!(sent["os"], std::env::consts::OS);

    let dir = StateDir::at(dir);
    let identity = dir.load().unwrap();
    assert_eq!((identity.host_id.to_string().as_str(), identity.host_name.as_str()), (HOST, "web-1"));
    assert_eq!(identity.agent_token, Secret::from("planted-agent-token"));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(dir.path()), mode(&dir.identity_path())), (0o700, 0o600));

    let error = cli::enroll(args(&url, dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[tokio::test]
async fn a_refusal_is_shown_in_the_servers_words() {
    let problem = r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"this token is unknown, used up or expired: make a new one"}"#;
    let text = refused("401 Unauthorized", problem).await;
    assert!(text.ends_with("this token is unknown, used up or expired: make a new one"), "{text}");
}

#[tokio::test]
async fn answers_of_something_else_are_named_as_such() {
    let text = refused("200 OK", "<html>router login</html>").await;
    assert!(text.contains("did not answer like a Flotilla server"), "{text}");
    let text = refused("201 Created", r#"{"host_id":"nonsense","agent_token":"planted"}"#).await;
    assert!(text.contains("did not answer like a Flotilla server"), "{text}");
    let text = refused("201 Created", &format!(r#"{{"pad":"{}"}}"#, "x".repeat(70_000))).await;
    assert!(text.contains("over 65536 bytes"), "{text}");
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_found_before_the_token_is_spent() {
    let temp = tempfile::tempdir().unwrap();
    let (listener, url) = listener().await;
    let mut plain = args(&url, temp.path());
    plain.server = "http://fleet.example".parse().unwrap();
    assert_eq!(cli::enroll(plain).await.unwrap_err().exit_code(), 2);
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = cli::enroll(args(&url, &file.join("state"))).await.unwrap_err();
    assert!(matches!(error, AgentError::Identity(_)), "{error}");
    let mut empty = args(&url, temp.path());
    empty.token = Secret::from(" ");
    assert_eq!(cli::enroll(empty).await.unwrap_err().exit_code(), 2);
    let nobody = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "the server was not asked");
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla-agent"));
    command.env_remove("FLOTILLA_ENROLL_TOKEN").env_remove("HTTP_PROXY").env_remove("http_proxy");
    command
}

#[tokio::test]
async fn the_binary_takes_the_token_from_standard_input() {
    let temp = tempfile::tempdir().unwrap();
    let (listener, url) = listener().await;
    let mut child = binary()
        .args(["enroll", "--server", &url, "--token", "-", "--name", "db-1", "--state-dir"])
        .arg(temp.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"planted-from-stdin\n").unwrap();
    let request = answer_once(&listener, "201 Created", &granted()).await;
    assert!(request.contains("\"token\":\"planted-from-stdin\""), "{request}");
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("enrolled db-1") && text.contains("flotilla-agent run"), "{text}");
    assert!(!text.contains("planted"));
}

#[tokio::test]
async fn the_binary_runs_once_per_folder_reports_and_leaves_at_sigterm_with_0() {
    let temp = tempfile::tempdir().unwrap();
    let dir = StateDir::at(temp.path());
    let server = Server::plain().await;
    dir.save(&identity(&server.url())).unwrap();
    let run = || {
        let mut command = binary();
        command.args(["run", "--state-dir"]).arg(dir.path()).stderr(Stdio::piped());
        command
    };
    let child = run().spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (mut peer, hello) = server.welcome(&[]).await;
    assert_eq!(hello.hostname, "web-1");

    let second = tokio::task::spawn_blocking({
        let mut second = run();
        move || second.output()
    });
    let second = soon("the second agent's end", second).await.unwrap().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another agent already runs"));

    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(peer.closed_with().await, 1000);
    drop(peer);
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = soon("the agent's end", output).await.unwrap().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && log.contains("connected"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

#[test]
fn the_binary_exits_with_2_for_bad_usage_and_says_in_one_line_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let output = binary().args(["run", "--state-dir"]).arg(temp.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.contains("flotilla-agent enroll --server"), "{text}");

    let output = binary().args(["enroll", "--server", "nonsense", "--token", "t"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("https://HOST"));

    let output = binary().arg("version").output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"flotilla-agent 0."));
}
