//! The demo's repository: a real REST server in append-only mode, with a user and a password, as a child process that ends with the demo.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::domain::Secret;

/// The user that the endpoint knows.
pub(super) const USER: &str = "demo";

/// A REST server that runs.
pub(super) struct RestServer {
    child: Child,
    address: SocketAddr,
    program: &'static str,
}

/// The program of this name in PATH.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

impl RestServer {
    /// Starts one on `folder`: rest-server where there is one, else rclone.
    pub(super) async fn start(folder: &Path, password: &Secret) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let users = folder.with_extension("htpasswd");
        // The only hash that both servers take without a tool to make it; the password is random and lives as long as the demo.
        let hash = STANDARD.encode(Sha1::digest(password.expose().as_bytes()));
        std::fs::write(&users, format!("{USER}:{{SHA}}{hash}\n"))?;
        let address = free_address()?;
        let (program, mut command) = match (find("rest-server"), find("rclone")) {
            (Some(path), _) => {
                let mut command = Command::new(path);
                command.arg("--listen").arg(address.to_string()).arg("--path").arg(folder);
                command.arg("--htpasswd-file").arg(&users).args(["--append-only", "--private-repos"]);
                ("rest-server", command)
            }
            (None, Some(path)) => {
                let mut command = Command::new(path);
                command.args(["serve", "restic", "--addr"]).arg(address.to_string());
                command.arg("--htpasswd").arg(&users).args(["--append-only", "--private-repos"]).arg(folder);
                ("rclone", command)
            }
            (None, None) => bail!(
                "no restic REST server was found: `make demo` installs one; or install rest-server (Debian: restic-rest-server) or rclone"
            ),
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut server = Self { child, address, program };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    async fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status})", self.program);
            }
            if Instant::now() > deadline {
                bail!("{} does not answer on {}", self.program, self.address);
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    pub(super) fn program(&self) -> &'static str {
        self.program
    }

    /// restic's address of the endpoint's repository, without credentials.
    pub(super) fn url(&self) -> String {
        format!("rest:http://{}/{USER}/", self.address)
    }

    pub(super) async fn stop(&mut self) {
        // Gone already is as good.
        self.child.kill().await.ok();
    }
}

/// A port that was free a moment ago: rest-server cannot be told to choose one.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
