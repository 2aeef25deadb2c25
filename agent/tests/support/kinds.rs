//! Servers of other kinds of repositories, real ones that a test starts and ends: S3 as rclone serves it, an SSH server with keys of its own. And one agent that
//! works on a repository there, whose control plane takes downloads and lets keep rules have their way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flotilla_agent::{
    errand::{Errand, ErrandBody, ErrandError, Errands},
    runner::BoxFuture,
    sink::JobOutcome,
};
use flotilla_proto::{CommandRun, GuardAnswer, GuardRequest, JobKind, JobStatus, Operation, RepoSpec, TestResult};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::harness::{
    Agent, Memory, VERSIONS, backup, free_port, local_repo, noise, of_kind, poll, ready_local_repo, restic, tool,
};

/// Access key id of the store.
pub(crate) const KEY_ID: &str = "AKIDFLOTILLA";
/// Its secret.
pub(crate) const KEY_SECRET: &str = "planted-auth-s3/secret+1";

/// Repositories that each [`S3`] begins with, besides one for each version.
const READY: [&str; 2] = ["r", "a"];

/// S3, with one pair of keys and the bucket `bucket`.
pub(crate) struct S3 {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Before it serves: rclone remembers for minutes what a folder held when it was asked first, and sees nothing that is laid there behind its back.
        for name in READY.iter().chain(&VERSIONS) {
            ready_local_repo(&folder.path().join("bucket").join(name));
        }
        let port = free_port();
        let child = Command::new(rclone())
            .args(["serve", "s3", "--auth-key", &format!("{KEY_ID},{KEY_SECRET}"), "--addr"])
            .args([&format!("127.0.0.1:{port}"), "--config="])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        poll("rclone serves S3", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// A repository in the bucket.
    pub(crate) fn repo(&self, name: &str) -> RepoSpec {
        RepoSpec {
            url: format!("s3:http://127.0.0.1:{}/bucket/{name}", self.port),
            env: variables(&[("AWS_ACCESS_KEY_ID", KEY_ID), ("AWS_SECRET_ACCESS_KEY", KEY_SECRET)]),
            ..local_repo(Path::new("/"))
        }
    }

    /// The same where one is there already, empty: of one of [`READY`], or of a version.
    pub(crate) fn ready(&self, name: &str) -> RepoSpec {
        assert!(READY.contains(&name) || VERSIONS.contains(&name), "{name} was not laid out");
        self.repo(name)
    }

    /// The same by rclone, whose remote is described by variables.
    pub(crate) fn by_rclone(&self, name: &str) -> RepoSpec {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        RepoSpec {
            url: format!("rclone:store:bucket/{name}"),
            env: variables(&[
                ("RCLONE_CONFIG_STORE_TYPE", "s3"),
                ("RCLONE_CONFIG_STORE_PROVIDER", "Other"),
                ("RCLONE_CONFIG_STORE_ENDPOINT", &endpoint),
                ("RCLONE_CONFIG_STORE_ACCESS_KEY_ID", KEY_ID),
                ("RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY", KEY_SECRET),
            ]),
            ..local_repo(Path::new("/"))
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn rclone() -> PathBuf {
    tool("bin/rclone")
}

pub(crate) fn variables(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, flotilla_proto::Secret> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// An SSH server as an ordinary process of this user, who may sign in with the key `user` and with no other.
pub(crate) struct Sshd {
    child: Child,
    port: u16,
    pub(crate) folder: TempDir,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for key in ["host", "user", "stranger"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(path(key));
            assert!(make.status().expect("ssh-keygen is missing: run `make setup`").success());
        }
        let port = free_port();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
            path("host").display(),
            path("user.pub").display()
        );
        fs::write(path("sshd_config"), settings).unwrap();
        // Run by root, it wants this folder, which otherwise its service makes.
        let _ = fs::create_dir("/run/sshd");
        let child = Command::new(sshd())
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        poll("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// What the server's host key is, as `ssh-keyscan` prints it.
    pub(crate) fn host_key(&self, name: &str) -> String {
        let key = fs::read_to_string(self.folder.path().join(format!("{name}.pub"))).unwrap();
        format!("127.0.0.1 {}", key.trim())
    }

    /// A repository in a folder there.
    pub(crate) fn repo(&self, name: &str) -> RepoSpec {
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        let me = String::from_utf8(me).unwrap();
        let place = self.folder.path().join(name);
        RepoSpec {
            url: format!("sftp://{}@127.0.0.1:{}/{}", me.trim(), self.port, place.display()),
            env: self.signing_in("user", "host"),
            ..local_repo(Path::new("/"))
        }
    }

    /// The same where one is there already, empty.
    pub(crate) fn ready(&self, name: &str) -> RepoSpec {
        ready_local_repo(&self.folder.path().join(name));
        self.repo(name)
    }

    pub(crate) fn signing_in(
        &self,
        key: &str,
        host: &str,
    ) -> std::collections::BTreeMap<String, flotilla_proto::Secret> {
        let file = self.folder.path().join(key);
        variables(&[
            ("FLOTILLA_SFTP_KEY_FILE", file.to_str().unwrap()),
            ("FLOTILLA_SFTP_HOST_KEY", &self.host_key(host)),
        ])
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sshd() -> PathBuf {
    let places = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from);
    places.into_iter().find(|place| place.exists()).expect("sshd is missing: run `make setup`")
}

/// What stands for the control plane.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) downloaded: Mutex<Vec<u8>>,
}

impl Desk {
    async fn take(&self, errand: Errand) -> Result<Bytes, ErrandError> {
        match errand.body {
            ErrandBody::Json(text) => {
                let request: GuardRequest = serde_json::from_slice(&text).unwrap();
                let doomed = request.fates.into_iter().filter(|fate| fate.kept_by.is_empty());
                let remove = doomed.map(|fate| fate.snapshot.id).collect();
                Ok(serde_json::to_vec(&GuardAnswer { remove, ..GuardAnswer::default() }).unwrap().into())
            }
            ErrandBody::Stream(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    let piece = piece.map_err(|e| ErrandError::Broken(e.to_string()))?;
                    self.downloaded.lock().unwrap().extend_from_slice(&piece);
                }
                Ok(Bytes::new())
            }
        }
    }
}

struct Link(Arc<Desk>);

impl Errands for Link {
    fn post(&self, errand: Errand) -> BoxFuture<'_, Result<Bytes, ErrandError>> {
        Box::pin(self.0.take(errand))
    }
}

/// One agent and its repository.
pub(crate) struct Tour {
    pub(crate) version: &'static str,
    pub(crate) agent: Agent,
    pub(crate) repo: RepoSpec,
    pub(crate) desk: Arc<Desk>,
    work: TempDir,
    next: u128,
}

impl Tour {
    pub(crate) fn of(version: &'static str, repo: RepoSpec) -> Self {
        let agent = Agent::new(&restic(version));
        let desk = Arc::new(Desk::default());
        agent.executor.set_errands(Arc::new(Link(desk.clone())));
        Self { version, agent, repo, desk, work: tempfile::tempdir().unwrap(), next: 0 }
    }

    pub(crate) fn source(&self) -> PathBuf {
        let source = self.work.path().join("source");
        fs::create_dir_all(&source).unwrap();
        source
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub(crate) fn order(&mut self, kind: JobKind, operation: Option<Operation>) -> CommandRun {
        self.next += 1;
        CommandRun { operation, ..of_kind(self.next, kind, self.repo.clone()) }
    }

    pub(crate) async fn run(&mut self, kind: JobKind, operation: Option<Operation>) -> (JobOutcome, Arc<Memory>) {
        let order = self.order(kind, operation);
        self.agent.run(&order).await
    }

    /// The order's end, which must be a good one.
    pub(crate) async fn well(&mut self, order: &CommandRun) -> (JobOutcome, Arc<Memory>) {
        let (end, memory) = self.agent.run(order).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{} {}: {end:?}\n{}", self.version, order.kind, memory.text());
        (end, memory)
    }

    /// The typed result of what must go well.
    pub(crate) async fn good<T: DeserializeOwned>(
        &mut self,
        kind: JobKind,
        operation: Option<Operation>,
    ) -> (T, Arc<Memory>) {
        let order = self.order(kind, operation);
        let (end, memory) = self.well(&order).await;
        let typed = serde_json::from_value(end.summary.clone().unwrap_or_default());
        (typed.unwrap_or_else(|e| panic!("{e}: {end:?}")), memory)
    }

    /// One more file, and a backup; gives the snapshot's id.
    pub(crate) async fn back_up(&mut self) -> String {
        let number = self.next;
        fs::write(self.source().join("changing"), noise(300_000, number as u64 + 9)).unwrap();
        let (source, order) = (self.source(), self.order(JobKind::Backup, None));
        let order = CommandRun { args: backup(1, self.repo.clone(), &[&source]).args, ..order };
        let (end, _) = self.well(&order).await;
        end.summary.unwrap()["snapshot_id"].as_str().unwrap().to_owned()
    }

    /// The failed step of a test of the connection and its words; `None` where all went well.
    pub(crate) async fn test(&mut self) -> (TestResult, Option<(String, String)>) {
        let (end, memory) = self.run(JobKind::Test, None).await;
        let result: TestResult =
            serde_json::from_value(end.summary.unwrap_or_default()).unwrap_or_else(|_| panic!("{}", memory.text()));
        let failed = result.steps.iter().find(|step| !step.ok).map(|step| (step.name.clone(), step.detail.clone()));
        assert_eq!(end.status == JobStatus::Succeeded, failed.is_none(), "{}", memory.text());
        (result, failed)
    }

    /// The words of a job that must fail.
    pub(crate) async fn failure(&mut self, kind: JobKind) -> String {
        let (end, memory) = self.run(kind, None).await;
        assert_eq!(end.status, JobStatus::Failed, "{}: {end:?}\n{}", self.version, memory.text());
        end.error.unwrap()
    }
}
