//! Hosts that are reached by SSH: Debian's sshd on as many ports of this machine, one process each, with one key pair for all. Gone with the value.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

/// The machines.
pub(crate) struct Sshds {
    folder: tempfile::TempDir,
    running: Vec<Child>,
    /// Where each listens.
    pub(crate) ports: Vec<u16>,
    /// As whom one logs in.
    pub(crate) user: String,
    /// The host key's fingerprint, `SHA256:…`.
    pub(crate) fingerprint: String,
}

impl Sshds {
    /// Whether this machine has what that takes.
    pub(crate) fn can_be() -> bool {
        Path::new(SSHD).exists() && Command::new("ssh-keygen").arg("-?").stderr(Stdio::null()).status().is_ok()
    }

    /// Starts `count` of them and waits until each listens.
    pub(crate) fn start(count: u32) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        for name in ["host", "client"] {
            let status =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path(name)).status()?;
            ensure!(status.success(), "ssh-keygen failed");
        }
        fs::copy(path("client.pub"), path("authorized_keys"))?;
        let shown = Command::new("ssh-keygen").arg("-lf").arg(path("host.pub")).output()?.stdout;
        let fingerprint =
            String::from_utf8(shown)?.split(' ').nth(1).context("ssh-keygen -lf said nothing")?.to_owned();
        let user = String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?.trim().to_owned();
        // Debian's sshd wants it where it is started by root; its unit makes it. Another user can't, and need not.
        fs::create_dir_all("/run/sshd").ok();
        let mut sshds = Self { folder, running: Vec::new(), ports: Vec::new(), user, fingerprint };
        for _ in 0..count {
            sshds.add()?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        for port in &sshds.ports {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err() {
                ensure!(Instant::now() < deadline, "an sshd does not listen");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(sshds)
    }

    fn add(&mut self) -> anyhow::Result<()> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (keys, host) = (self.path("authorized_keys"), self.path("host"));
        let config = self.path(&format!("config-{port}"));
        let text = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPidFile none\nLogLevel QUIET\nMaxStartups 100\nSubsystem sftp internal-sftp\n",
            host.display(),
            keys.display()
        );
        fs::write(&config, text)?;
        let child = Command::new(SSHD).args(["-D", "-f"]).arg(&config).stdin(Stdio::null()).spawn()?;
        self.running.push(child);
        self.ports.push(port);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.path("client")
    }

    /// Writes a file beside the keys, gone with them.
    pub(crate) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        fs::write(self.path(name), text)?;
        Ok(self.path(name))
    }

    /// The host keys as OpenSSH knows them: the others pin as well as the product does.
    pub(crate) fn known_hosts(&self) -> anyhow::Result<PathBuf> {
        let key = fs::read_to_string(self.path("host.pub"))?;
        let lines: String = self.ports.iter().map(|port| format!("[127.0.0.1]:{port} {key}")).collect();
        self.write("known_hosts", &lines)
    }
}

impl Drop for Sshds {
    fn drop(&mut self) {
        for child in &mut self.running {
            // Already ended is fine: it is to be gone, and waited for.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

const SSHD: &str = "/usr/sbin/sshd";
