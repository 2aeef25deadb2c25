//! Real tools, a real append-only repository server, and a sink that remembers: what every restic test needs.
//! A missing tool fails the test and names the way to get it.

#![expect(clippy::unwrap_used, reason = "test support: a failed step is a failed test")]
#![cfg_attr(test, expect(dead_code, unreachable_pub, reason = "each test binary uses a part of the harness"))]

#[path = "ready.rs"]
mod ready;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::TcpListener,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla_agent::{
    executor::{Executor, ExecutorConfig},
    runner::Submitted,
    seal::Seal,
    sink::{JobOutcome, JobSink},
};
use flotilla_proto::{
    CommandRun, JobId, JobKind, JobProgress, Limits, Overwrite, PlanId, PlanOptions, PlanSpec, RepoId, RepoSpec,
    RestoreSpec, Secret, Stream, Timestamp,
};
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};
use tokio_util::task::TaskTracker;

pub const VERSIONS: [&str; 3] = ["0.14", "0.18", "0.19"];

/// The newest of them; all where `FLOTILLA_ALL_RESTICS` is set, as `make test-restics` does: each opens its repositories anew, which takes its time.
pub fn versions() -> Vec<&'static str> {
    let all = std::env::var_os("FLOTILLA_ALL_RESTICS").is_some();
    VERSIONS.into_iter().skip(if all { 0 } else { VERSIONS.len() - 1 }).collect()
}
pub const REPO_PASSWORD: &str = ready::PASSWORD;
pub const AUTH_PASSWORD: &str = "planted-auth p@:/%1";
/// What of the two may be seen nowhere, in any spelling.
pub const PLANTED: [&str; 2] = ["planted-repo", "planted-auth"];
const USER: &str = "agent1";
/// `USER` with `AUTH_PASSWORD`.
const HTPASSWD: &str = "agent1:{SHA}dpzAByP3S8MtLfHwQ0fl/DtE8pQ=\n";
/// No single step of a test takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn tool(path: &str) -> PathBuf {
    let tools = std::env::var_os("FLOTILLA_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools"), PathBuf::from);
    let tool = tools.join(path);
    assert!(tool.exists(), "{} is missing: run `make setup` (or set FLOTILLA_TOOLS)", tool.display());
    fs::canonicalize(tool).unwrap()
}

pub fn restic(version: &str) -> PathBuf {
    tool(&format!("restic-{version}/bin/restic"))
}

/// A rest-server with one private repository folder per user, append-only unless said otherwise.
pub struct RestServer {
    child: Child,
    port: u16,
    pub folder: Arc<TempDir>,
}

impl RestServer {
    pub fn start() -> Self {
        Self::serve(Arc::new(tempfile::tempdir().unwrap()), &["--append-only"])
    }

    /// One that takes so many bytes and no more.
    pub fn with_quota(bytes: usize) -> Self {
        Self::serve(Arc::new(tempfile::tempdir().unwrap()), &["--append-only", "--max-size", &bytes.to_string()])
    }

    /// Another door to the same data, through which anything may be deleted.
    pub fn maintenance(&self) -> Self {
        Self::serve(Arc::clone(&self.folder), &[])
    }

    fn serve(folder: Arc<TempDir>, flags: &[&str]) -> Self {
        let htpasswd = folder.path().join("htpasswd");
        fs::write(&htpasswd, HTPASSWD).unwrap();
        // With a bound on its size it counts what is there before it listens.
        fs::create_dir_all(folder.path().join("data")).unwrap();
        let port = free_port();
        let child = Command::new(tool("bin/rest-server"))
            .args(flags)
            .args(["--private-repos", "--listen", &format!("127.0.0.1:{port}"), "--htpasswd-file"])
            .arg(&htpasswd)
            .arg("--path")
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, folder };
        poll("rest-server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    pub fn repo(&self, name: &str) -> RepoSpec {
        RepoSpec {
            url: format!("rest:http://127.0.0.1:{}/{USER}/{name}/", self.port),
            username: Some(USER.to_owned()),
            auth_password: Some(AUTH_PASSWORD.into()),
            ..local_repo(Path::new("/"))
        }
    }

    /// The same where one is there already, empty: for tests of what comes after its creation.
    pub fn ready_repo(&self, name: &str) -> RepoSpec {
        ready::lay_out(&self.folder.path().join("data").join(USER).join(name));
        self.repo(name)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the server accept connections and answer nothing.
    pub fn freeze(&self) {
        signal(self.pid(), "-STOP");
    }

    /// Lets it answer again.
    pub fn thaw(&self) {
        signal(self.pid(), "-CONT");
    }

    pub fn locks(&self, name: &str) -> usize {
        let locks = fs::read_dir(self.folder.path().join("data").join(USER).join(name).join("locks"));
        // One that is being written has a longer name.
        locks.into_iter().flatten().filter(|file| file.as_ref().is_ok_and(|file| file.file_name().len() == 64)).count()
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn local_repo(path: &Path) -> RepoSpec {
    RepoSpec {
        id: RepoId::from_parts(1, 1),
        url: path.to_str().unwrap().to_owned(),
        password: REPO_PASSWORD.into(),
        username: None,
        auth_password: None,
        env: BTreeMap::new(),
        tls_ca_pem: None,
        init: true,
        memory_only: false,
    }
}

/// The same where a repository is there already, empty: for tests of what comes after its creation.
pub fn ready_local_repo(path: &Path) -> RepoSpec {
    ready::lay_out(path);
    local_repo(path)
}

/// A port where nothing listens.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success());
}

/// Waits for something outside of this process.
pub fn poll(what: &str, mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(std::time::Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Default)]
pub struct Seen {
    pub pid: Option<u32>,
    pub lines: Vec<(Stream, String)>,
    pub progress: Vec<JobProgress>,
    pub end: Option<JobOutcome>,
    pub after_end: usize,
}

#[derive(Default)]
pub struct Memory {
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Memory {
    fn note(&self, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap();
        if seen.end.is_some() {
            seen.after_end += 1;
        }
        change(&mut seen);
        drop(seen);
        self.changed.notify_waiters();
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }

    /// Waits until `found` finds it.
    pub async fn until<T>(&self, what: &str, mut found: impl FnMut(&Seen) -> Option<T>) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(value) = self.look(&mut found) {
                    return value;
                }
                changed.await;
            }
        };
        match timeout(PATIENCE, wait).await {
            Ok(value) => value,
            Err(_) => panic!("{what}: not within {PATIENCE:?}; log:\n{}", self.text()),
        }
    }

    pub async fn end(&self) -> JobOutcome {
        let end = self.until("the end of the job", |seen| seen.end.clone()).await;
        self.look(|seen| assert_eq!(seen.after_end, 0, "nothing may follow the end"));
        for planted in PLANTED {
            let all = format!("{}{end:?}", self.text());
            assert!(!all.contains(planted), "a secret was shown: {all}");
        }
        end
    }

    pub fn text(&self) -> String {
        self.look(|seen| seen.lines.iter().map(|(stream, line)| format!("{stream:?} {line}\n")).collect())
    }
}

impl JobSink for Memory {
    fn started(&self, pid: Option<u32>) {
        self.note(|seen| seen.pid = pid);
    }
    fn line(&self, stream: Stream, text: &str) {
        self.note(|seen| seen.lines.push((stream, text.to_owned())));
    }
    fn progress(&self, progress: JobProgress) {
        self.note(|seen| seen.progress.push(progress));
    }
    fn finished(&self, end: JobOutcome) {
        self.note(|seen| seen.end = Some(end));
    }
}

/// What orders are kept under.
pub fn seal() -> Seal {
    Seal::from_token(&secret("planted-token"))
}

/// An executor with its own state folder.
pub struct Agent {
    pub executor: Executor,
    pub tracker: TaskTracker,
    pub state: TempDir,
}

impl Agent {
    pub fn new(restic: &Path) -> Self {
        Self::with(restic, |_| {})
    }

    pub fn with(restic: &Path, change: impl FnOnce(&mut ExecutorConfig)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut config =
            ExecutorConfig::new(state.path().to_owned(), Some(restic.to_owned()), Limits { concurrent_jobs: 2 });
        config.preflight = Duration::from_secs(60);
        change(&mut config);
        let tracker = TaskTracker::new();
        let clock = Arc::new(|| Timestamp::from_unix_ms(1_700_000_000_000));
        Self { executor: Executor::new(config, seal(), tracker.clone(), clock).unwrap(), tracker, state }
    }

    pub fn submit(&self, order: &CommandRun) -> Arc<Memory> {
        let memory = Arc::new(Memory::default());
        assert_eq!(self.executor.submit(order.clone(), memory.clone()), Submitted::Accepted);
        memory
    }

    pub async fn run(&self, order: &CommandRun) -> (JobOutcome, Arc<Memory>) {
        let memory = self.submit(order);
        (memory.end().await, memory)
    }
}

/// A different job id for each `number`.
pub fn job(number: u128) -> JobId {
    JobId::from_parts(1, number)
}

pub fn backup(number: u128, repo: RepoSpec, paths: &[&Path]) -> CommandRun {
    CommandRun {
        job_id: job(number),
        kind: JobKind::Backup,
        host_label: "host-1".to_owned(),
        repo: Some(repo),
        args: paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect(),
        plan: None,
        restore: None,
        operation: None,
        second_repo: None,
        timeout_s: 300,
    }
}

/// A backup that takes a while: `limit_kib` a second.
pub fn slow_backup(number: u128, repo: RepoSpec, path: &Path, limit_kib: u32) -> CommandRun {
    let mut order = backup(number, repo, &[]);
    order.plan = Some(PlanSpec {
        id: PlanId::from_parts(1, 1),
        name: "slow".to_owned(),
        paths: vec![path.to_str().unwrap().to_owned()],
        excludes: Vec::new(),
        options: PlanOptions { limit_upload_kib: limit_kib, ..PlanOptions::default() },
        hooks: Vec::new(),
    });
    order
}

pub fn of_kind(number: u128, kind: JobKind, repo: RepoSpec) -> CommandRun {
    CommandRun { kind, ..backup(number, repo, &[]) }
}

pub fn restore(number: u128, repo: RepoSpec, paths: &[&str], target: &Path) -> CommandRun {
    let mut order = of_kind(number, JobKind::Restore, repo);
    order.restore = Some(RestoreSpec {
        snapshot: "latest".to_owned(),
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
        target: target.to_str().unwrap().to_owned(),
        overwrite: Overwrite::Always,
        dry_run: false,
        source_host: None,
    });
    order
}

/// `size` bytes that no compression shortens, others for each `seed`.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A tree with all that makes trees hard.
pub fn odd_tree(root: &Path) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let names: [OsString; 6] = [
        "plain.txt".into(),
        "new\nline".into(),
        "quote\"and'other".into(),
        "-dash".into(),
        "ünïcode ✓".into(),
        OsString::from_vec(b"bad\xff\xfename".to_vec()),
    ];
    for (seed, name) in (1..).zip(names) {
        fs::write(root.join(&name), noise(1000, seed)).unwrap();
        fs::write(root.join("deep/er").join(&name), noise(10, seed + 100)).unwrap();
    }
    fs::write(root.join("big.bin"), noise(3 << 20, 77)).unwrap();
    fs::write(root.join("zero"), b"").unwrap();
    std::os::unix::fs::symlink("plain.txt", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("plain.txt"), root.join("hard")).unwrap();
}

/// All of a tree that matters: relative name → kind, mode and content.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_vec()
            } else if meta.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            all.insert(path.strip_prefix(root).unwrap().to_owned(), (meta.mode(), content));
        }
    }
    all
}

/// Where a path of the source stands in a restore.
pub fn restored(target: &Path, source: &Path) -> PathBuf {
    target.join(source.strip_prefix("/").unwrap())
}

pub fn secret(text: &str) -> Secret {
    Secret::from(text)
}
