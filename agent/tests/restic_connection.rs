//! The connection test, step by step, against real servers that are wrong in one way each: the last step says exactly what.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{JobKind, JobStatus, RepoSpec, TestResult};
use harness::{Agent, RestServer, free_port, local_repo, of_kind, poll, ready_local_repo, restic, secret, versions};

/// Names of the steps that went well, and the one that did not with its words.
async fn test(version: &str, repo: RepoSpec) -> (Vec<String>, Option<(String, String)>) {
    test_within(Duration::from_secs(20), version, repo).await
}

/// The same with another time for each of restic's answers.
async fn test_within(answer: Duration, version: &str, repo: RepoSpec) -> (Vec<String>, Option<(String, String)>) {
    let agent = Agent::with(&restic(version), |config| {
        config.connect = Duration::from_secs(5);
        config.preflight = answer;
    });
    let (end, memory) = agent.run(&of_kind(1, JobKind::Test, repo)).await;
    let JobOutcome { status, summary, error, .. } = end;
    let result: TestResult = serde_json::from_value(summary.unwrap()).unwrap();
    assert!(result.restic.starts_with(version), "{}", memory.text());
    let failed = result.steps.iter().find(|step| !step.ok).map(|step| (step.name.clone(), step.detail.clone()));
    assert_eq!(status == JobStatus::Succeeded, failed.is_none() && error.is_none(), "{}", memory.text());
    (result.steps.into_iter().filter(|step| step.ok).map(|step| step.name).collect(), failed)
}

/// The failed step's name and words.
async fn failure(version: &str, repo: RepoSpec) -> (String, String) {
    let (good, failed) = test(version, repo).await;
    failed.unwrap_or_else(|| panic!("{version}: all went well: {good:?}"))
}

async fn init(repo: RepoSpec) {
    let (end, _) = Agent::new(&restic("0.18")).run(&of_kind(9, JobKind::Init, repo)).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
}

#[tokio::test]
async fn a_good_repository_passes_every_step() {
    let server = RestServer::start();
    server.ready_repo("r");
    for version in versions() {
        let (good, failed) = test(version, server.repo("r")).await;
        assert_eq!(failed, None, "{version}");
        let wanted = ["Sign in", "Is there a repository", "Open it with its password", "Read it", "Write to it"];
        assert_eq!(good[2..], wanted, "{version}");
        assert!(good[0].starts_with("Find the address of 127.0.0.1") && good[1].starts_with("Connect to 127.0.0.1"));
        assert_eq!(server.locks("r"), 0, "{version}: what was written is taken away again");
    }
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_no_failure_where_it_may_be_created() {
    let server = RestServer::start();
    for version in versions() {
        let (good, failed) = test(version, server.repo("new")).await;
        assert_eq!((good.last().unwrap().as_str(), failed), ("Is there a repository", None), "{version}");
        let (step, words) = failure(version, RepoSpec { init: false, ..server.repo("new") }).await;
        assert_eq!(step, "Is there a repository", "{version}");
        assert!(words.contains("there is no repository at this address"), "{version}: {words}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_told_apart() {
    let server = RestServer::start();
    server.ready_repo("r");
    for version in versions() {
        let (step, words) =
            failure(version, RepoSpec { auth_password: Some(secret("planted-auth no")), ..server.repo("r") }).await;
        assert!(step == "Sign in" && words.contains("(401)"), "{version}: {step}: {words}");
        let (step, words) =
            failure(version, RepoSpec { password: secret("planted-repo no"), ..server.repo("r") }).await;
        assert_eq!(step, "Open it with its password", "{version}");
        assert!(words.contains("the repository's password is wrong"), "{version}: {words}");
    }
}

fn at(url: String) -> RepoSpec {
    RepoSpec { url, ..local_repo(Path::new("/")) }
}

#[tokio::test]
async fn a_name_a_port_and_a_silence_are_told_apart() {
    // A resolver says no, or it says nothing in time.
    let (step, words) = failure("0.18", at("rest:http://no-such-host.invalid:8000/r/".to_owned())).await;
    assert!(step == "Find the address of no-such-host.invalid" && words.contains("resolved"), "{words}");
    let port = free_port();
    let (step, words) = failure("0.18", at(format!("rest:http://127.0.0.1:{port}/r/"))).await;
    assert!(step == format!("Connect to 127.0.0.1, port {port}") && words.contains("refused"), "{words}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for (scheme, wanted, said) in [("http", "Sign in", "no answer"), ("https", "Agree on TLS", "")] {
        let repo = at(format!("rest:{scheme}://{}/r/", silent.local_addr().unwrap()));
        let (_, failed) = test_within(Duration::from_secs(3), "0.18", repo).await;
        let (step, words) = failed.unwrap();
        assert!(step == wanted && words.contains(said), "{step}: {words}");
    }
}

#[tokio::test]
async fn a_folder_of_the_host_is_tested_without_a_network() {
    let work = tempfile::tempdir().unwrap();
    let repo = ready_local_repo(&work.path().join("repo"));
    for version in versions() {
        let (good, failed) = test(version, repo.clone()).await;
        assert_eq!((good.len(), failed), (4, None), "{version}: {good:?}");
    }
    fs::remove_file(work.path().join("repo/config")).unwrap();
    let (step, _) = failure("0.19", RepoSpec { init: false, ..repo }).await;
    assert_eq!(step, "Is there a repository");
}

/// A rest-server that speaks TLS under an authority of its own.
struct TlsServer {
    child: Child,
    port: u16,
    authority: String,
    _folder: tempfile::TempDir,
}

impl TlsServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::write(&certificate, cert.pem()).unwrap();
        fs::write(&key, signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let tools = std::env::var_os("FLOTILLA_TOOLS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools"), Into::into);
        let child = Command::new(tools.join("bin/rest-server"))
            .args(["--no-auth", "--tls", "--listen", &format!("127.0.0.1:{port}"), "--tls-cert"])
            .arg(&certificate)
            .arg("--tls-key")
            .arg(&key)
            .arg("--path")
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        poll("rest-server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port, authority: cert.pem(), _folder: folder }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_certificate_is_trusted_by_the_repositorys_own_authority_or_the_test_says_so() {
    let server = TlsServer::start();
    let repo = at(format!("rest:https://localhost:{}/r/", server.port));
    let (step, words) = failure("0.18", repo.clone()).await;
    assert!(step == "Agree on TLS" && words.contains("is not trusted"), "{step}: {words}");
    let trusted = RepoSpec { tls_ca_pem: Some(server.authority.clone()), ..repo };
    init(trusted.clone()).await;
    for version in versions() {
        let (good, failed) = test(version, trusted.clone()).await;
        assert_eq!(failed, None, "{version}");
        assert!(good.contains(&"Agree on TLS".to_owned()), "{good:?}");
    }
    let (step, words) = failure("0.18", at(format!("rest:http://localhost:{}/r/", server.port))).await;
    assert!(step == "Sign in" && words.contains("http and https are mixed up"), "{step}: {words}");
}
