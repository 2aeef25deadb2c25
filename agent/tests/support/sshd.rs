//! Hosts for the tests of SSH: Debian's own sshd, as many as wanted, each with host keys, port and folder of its own, as ordinary processes on this machine.
//! And a proxy between that cuts or freezes what passes.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "test support: a failed step is a failed test, and what is shared is public"
)]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use flotilla_agent::ssh::{HostKey, OutputLine, Running, Ssh, SshKey, SshTarget, Timeouts};
use flotilla_proto::Stream;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::TaskTracker;

/// No single step of a test takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const SSHD: &str = "/usr/sbin/sshd";

/// Makes a key pair at `path` and `path`.pub.
pub fn keygen(path: &Path, args: &[&str]) {
    let output = Command::new("ssh-keygen").args(["-q", "-f"]).arg(path).args(args).output();
    let output = output.expect("ssh-keygen is missing: apt-get install openssh-client openssh-server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `SHA256:…` of a public key, as a person reads it on the host.
pub fn fingerprint(public: &Path) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(public).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A mark, or the id of a transfer, that nothing else has.
pub fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The words of a `sleep` that no other test, and no earlier run of this one, has.
pub fn nap(seconds: u32) -> String {
    format!("sleep {seconds}.{}", std::process::id())
}

/// One host.
pub struct Sshd {
    child: Option<Child>,
    pub folder: TempDir,
    pub port: u16,
    kinds: Vec<&'static str>,
    config: String,
}

impl Sshd {
    /// With an Ed25519 host key, and nothing said of its own.
    pub fn start() -> Self {
        Self::with(&["ed25519"], "")
    }

    /// With these host keys, and these further lines in its configuration.
    pub fn with(kinds: &[&'static str], config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for kind in kinds {
            keygen(&folder.path().join(format!("host_{kind}")), &["-t", kind, "-N", ""]);
        }
        keygen(&folder.path().join("client"), &["-t", "ed25519", "-N", ""]);
        fs::copy(folder.path().join("client.pub"), folder.path().join("authorized_keys")).unwrap();
        let mut sshd =
            Self { child: None, folder, port: free_port(), kinds: kinds.to_vec(), config: config.to_owned() };
        sshd.restart();
        sshd
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it, after it was stopped or anew; its connections go on.
    pub fn restart(&mut self) {
        self.stop();
        let mut lines = format!(
            "Port {}\nListenAddress 127.0.0.1\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nLogLevel DEBUG1\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
            self.port,
            self.path("authorized_keys").display()
        );
        for kind in &self.kinds {
            lines += &format!("HostKey {}\n", self.path(&format!("host_{kind}")).display());
        }
        // Of two settings the first counts.
        fs::write(self.path("config"), self.config.clone() + &lines).unwrap();
        // Debian's sshd wants it where it is started by root; its unit makes it.
        let _ = fs::create_dir_all("/run/sshd");
        let mut command = Command::new(SSHD);
        command
            .args(["-D", "-e", "-f"])
            .arg(self.path("config"))
            .arg("-E")
            .arg(self.path("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.child = Some(command.spawn().expect("sshd is missing: apt-get install openssh-server"));
        wait_until("sshd listens", || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
    }

    /// The listener ends; connections that stand do not.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// All its processes that serve a connection end: the host is gone for those who are on it.
    pub fn drop_connections(&self) {
        let listener = self.child.as_ref().unwrap().id();
        for pid in processes(|pid| parent(pid) == Some(listener)) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
    }

    /// The listener and all connections end at once, as those of a machine that goes down.
    pub fn go_down(&mut self) {
        let signal = |pid: u32, name: &str| drop(Command::new("kill").args([name, &pid.to_string()]).output());
        let listener = self.child.as_ref().unwrap().id();
        // Frozen, it takes no connection between the look and the end.
        signal(listener, "-STOP");
        let sessions = processes(|pid| parent(pid) == Some(listener));
        self.stop();
        sessions.into_iter().for_each(|pid| signal(pid, "-KILL"));
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn host_key(&self, kind: &str) -> HostKey {
        HostKey::parse(&fingerprint(&self.path(&format!("host_{kind}.pub")))).unwrap()
    }

    /// How to reach it, its first host key pinned.
    pub fn target(&self) -> SshTarget {
        let user = Command::new("id").arg("-un").output().unwrap();
        SshTarget {
            name: "web1".into(),
            address: "127.0.0.1".into(),
            port: self.port,
            user: String::from_utf8(user.stdout).unwrap().trim().into(),
            key: SshKey::Path(self.path("client")),
            host_key: Some(self.host_key(self.kinds[0])),
        }
    }

    pub async fn connect(&self) -> Ssh {
        Ssh::connect(&self.target(), Timeouts::default()).await.unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.drop_connections();
        }
        self.stop();
    }
}

/// All lines of a script that runs, those of both streams in one piece each.
pub async fn output(running: &mut Running) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(OutputLine { stream, text, .. }) = running.line().await {
        let into = if stream == Stream::Stdout { &mut out } else { &mut err };
        into.push_str(&text);
        into.push('\n');
    }
    (out, err)
}

fn processes(which: impl Fn(u32) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| which(*pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The processes of this machine with these words on their command line; not what is dead.
pub fn running(words: &str) -> Vec<u32> {
    processes(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).replace('\0', " ").trim_end() == words)
    })
}

/// Waits, with a deadline.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same, with the rest of the test going on.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Stands between a client and a host.
pub struct Proxy {
    pub port: u16,
    /// Bytes that may still pass, in both directions; then what is connected is cut, once.
    allowance: Arc<AtomicU64>,
    frozen: watch::Sender<bool>,
    tasks: TaskTracker,
    connections: Arc<AtomicU32>,
}

impl Proxy {
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (frozen, is_frozen) = watch::channel(false);
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            allowance: Arc::new(AtomicU64::new(u64::MAX)),
            frozen,
            tasks: TaskTracker::new(),
            connections: Arc::default(),
        };
        let (allowance, tasks, connections) =
            (Arc::clone(&proxy.allowance), proxy.tasks.clone(), Arc::clone(&proxy.connections));
        proxy.tasks.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (allowance, is_frozen) = (Arc::clone(&allowance), is_frozen.clone());
                tasks.spawn(async move {
                    let Ok(host) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                    let ((from_client, to_client), (from_host, to_host)) = (client.into_split(), host.into_split());
                    tokio::select! {
                        () = pass(from_client, to_host, &allowance, is_frozen.clone()) => {}
                        () = pass(from_host, to_client, &allowance, is_frozen) => {}
                    }
                });
            }
        });
        proxy
    }

    /// Cuts what is connected after this many bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.allowance.store(bytes, Ordering::SeqCst);
    }

    /// From now on nothing passes, and nothing is closed: a dead network.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    allowance: &AtomicU64,
    mut frozen: watch::Receiver<bool>,
) {
    let mut piece = vec![0; 16 * 1024];
    while let Ok(size @ 1..) = from.read(&mut piece).await {
        let Ok(_) = frozen.wait_for(|frozen| !frozen).await else { return };
        let left = allowance.load(Ordering::SeqCst);
        if left != u64::MAX {
            if left < size as u64 {
                allowance.store(u64::MAX, Ordering::SeqCst);
                return;
            }
            allowance.fetch_sub(size as u64, Ordering::SeqCst);
        }
        if to.write_all(&piece[..size]).await.is_err() {
            return;
        }
    }
}
