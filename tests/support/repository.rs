//! A real `rest-server --append-only --private-repos` with one user.

#[path = "../../agent/tests/support/ready.rs"]
mod ready;

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{
    by_hand,
    program::{Program, command, free_port, tool},
    wait::until,
};

pub(crate) const USER: &str = "endpoint";
/// Of the user at the server. Odd on purpose: it must survive a URL.
pub(crate) const AUTH_PASSWORD: &str = "planted-rest p@:/%1";
/// Of the repository.
pub(crate) const REPO_PASSWORD: &str = ready::PASSWORD;

/// The server.
pub(crate) struct RestServer {
    _program: Program,
    port: u16,
    folder: PathBuf,
}

impl RestServer {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &["--append-only"]).await
    }

    /// One whose users may delete.
    pub(crate) async fn start_deletable(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    async fn start_with(folder: &Path, flags: &[&str]) -> Self {
        let flags = [flags, &["--private-repos"]].concat();
        Self::start_on(folder, folder, &flags, (USER, AUTH_PASSWORD)).await
    }

    /// Another one on the repositories of `of`, whose user may delete. Its own files are in `folder`.
    pub(crate) async fn start_beside(of: &Path, folder: &Path, user: (&str, &str)) -> Self {
        Self::start_on(of, folder, &[], user).await
    }

    async fn start_on(data: &Path, folder: &Path, flags: &[&str], (user, password): (&str, &str)) -> Self {
        let htpasswd = folder.join("htpasswd");
        fs::write(&htpasswd, format!("{user}:{{SHA}}{}\n", STANDARD.encode(Sha1::digest(password)))).unwrap();
        let port = free_port();
        let mut serve = command(tool("bin/rest-server").to_str().unwrap());
        serve.args(flags).args(["--listen", &format!("127.0.0.1:{port}")]);
        serve.arg("--htpasswd-file").arg(htpasswd).arg("--path").arg(data.join("data"));
        let program = Program::start(serve, folder, "rest-server");
        until("rest-server listens", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { _program: program, port, folder: data.to_owned() }
    }

    /// restic's address of a repository, without credentials.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("rest:http://127.0.0.1:{}/{USER}/{name}/", self.port)
    }

    /// A repository as the API takes it.
    pub(crate) fn input(&self, name: &str) -> Value {
        json!({
            "name": name, "url": self.url(name), "password": REPO_PASSWORD, "append_only": true, "init": true,
            "auth": {"username": USER, "password": AUTH_PASSWORD},
        })
    }

    /// Lays out an empty repository, which opens with [`REPO_PASSWORD`] at next to no cost, and gives it as the API takes it: for tests of what comes after its creation.
    pub(crate) fn ready(&self, name: &str) -> Value {
        ready::lay_out(&self.file(name, ""));
        self.input(name)
    }

    /// restic on a repository of this server, with all that the endpoint has.
    pub(crate) fn restic(&self, name: &str, args: &[&str]) -> super::program::Said {
        let repository = self.url(name);
        let env = [
            ("RESTIC_REPOSITORY", repository.as_str()),
            ("RESTIC_PASSWORD", REPO_PASSWORD),
            ("RESTIC_REST_USERNAME", USER),
            ("RESTIC_REST_PASSWORD", AUTH_PASSWORD),
        ];
        by_hand("bin/restic", &[args, &["--no-cache"]].concat(), &env)
    }

    /// Snapshots in a repository.
    pub(crate) fn snapshots(&self, name: &str) -> Vec<Value> {
        serde_json::from_str(&self.restic(name, &["snapshots", "--json", "--no-lock"]).must()).unwrap()
    }

    /// A file of a repository, on the server's own disk.
    pub(crate) fn file(&self, name: &str, file: &str) -> PathBuf {
        self.folder.join("data").join(USER).join(name).join(file)
    }

    /// Locks in a repository.
    pub(crate) fn locks(&self, name: &str) -> usize {
        fs::read_dir(self.folder.join("data").join(USER).join(name).join("locks")).map_or(0, Iterator::count)
    }
}
