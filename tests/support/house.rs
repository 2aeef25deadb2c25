//! The whole house, real from end to end: `flotilla serve` with a folder of its own, the agent's program, restic, an append-only repository server.
//! Everything listens on a free port of this machine and ends with its owner.

#![expect(dead_code, reason = "each test binary uses a part of the house")]

pub(crate) mod api;
pub(crate) mod browser;
pub(crate) mod fault_proxy;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod raw_agent;
pub(crate) mod read_along;
pub(crate) mod repository;
pub(crate) mod small_disk;
pub(crate) mod stepped_clock;
pub(crate) mod tree;
pub(crate) mod viewer;
pub(crate) mod wait;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use flotilla::{
    app::{self, Running},
    clock::SharedClock,
    config::{RawConfig, RawOwnAgent},
    domain::{job::Actor, user::Role},
    fleet::FleetOptions,
    ops::accounts::{self, NewAccount, NewToken},
};
use tempfile::TempDir;

use api::Api;
use program::{FLOTILLA, Program, command, run, tool};
use wait::until;

/// The password of the administrator of every house.
pub(crate) const ADMIN_PASSWORD: &str = "planted-account-passphrase";
/// Their name.
pub(crate) const ADMIN: &str = "ada";

/// The loudest: what a log must not hold, it must not hold at any level.
const LOG_LEVEL: &str = "trace";

/// A control plane as a process of its own.
pub(crate) struct House {
    pub(crate) api: Api,
    pub(crate) url: String,
    server: Program,
    env: Vec<(String, String)>,
    args: Vec<String>,
    folder: TempDir,
    root: PathBuf,
}

impl Drop for House {
    fn drop(&mut self) {
        program::kill_all_for(&self.root);
    }
}

impl House {
    /// Starts one over plain HTTP, with an administrator.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with more arguments for `serve`.
    pub(crate) async fn start_with(args: &[&str]) -> Self {
        Self::start_in(&[], args).await
    }

    /// The same with these variables in the environment of `serve`.
    pub(crate) async fn start_in(env: &[(&str, &str)], args: &[&str]) -> Self {
        let (house, _) = Self::start_bare_in(env, args).await;
        let data = house.data_dir();
        let mut add = command(FLOTILLA);
        add.args(["user", "add", ADMIN, "--role", "admin", "--password-stdin", "--data-dir"]).arg(&data);
        run(&mut add, ADMIN_PASSWORD).must();
        house.with_token(ADMIN)
    }

    /// The same house with an API client that has a token of this account.
    pub(crate) fn with_token(mut self, user: &str) -> Self {
        let data = self.data_dir();
        let mut make = command(FLOTILLA);
        make.args(["token", "create", "--user", user, "--label", "test", "--data-dir"]).arg(&data);
        let token = run(&mut make, "").must().trim().to_owned();
        let pem = data.join("tls-cert.pem");
        let api = Api::new(&self.url, &token, pem.exists().then_some(pem));
        self.api = api;
        self
    }

    /// Starts one without an account, and gives the setup link.
    pub(crate) async fn start_bare(args: &[&str]) -> (Self, String) {
        Self::start_bare_in(&[], args).await
    }

    async fn start_bare_in(env: &[(&str, &str)], args: &[&str]) -> (Self, String) {
        let folder = tempfile::tempdir().unwrap();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let server = serve(folder.path(), "127.0.0.1:0", (&env, &args));
        let url = server.said_after("listening on ").await;
        let setup = server.said_after("make the first account at ").await;
        (Self { api: Api::new(&url, "", None), url, server, env, args, root: folder.path().to_owned(), folder }, setup)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("control-plane")
    }

    /// A folder for what the test needs besides; it is made.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The control plane's process.
    pub(crate) fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// What the control plane wrote to its log.
    pub(crate) fn server_log(&self) -> String {
        self.server.complained()
    }

    /// Ends the control plane as a power cut would, and starts it again on the same folder and address.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.server.kill_hard();
        let address = self.url.split("://").nth(1).unwrap().to_owned();
        self.server = serve(self.folder.path(), &address, (&self.env, &self.args));
        self.server.said_after("listening on ").await;
    }

    /// Ends the control plane; the folder stays.
    pub(crate) fn kill(&mut self) {
        self.server.kill_hard();
    }

    /// Enrols an agent as a person would, by the command that the API gives, and runs it. It has a restic on its PATH.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        let agent = self.enrol(name, &tool("bin")).await;
        self.api.host_in_state(&agent.host_id, "online").await;
        agent
    }

    /// The same with another PATH for the agent, and without waiting for it to connect.
    pub(crate) async fn enrol(&self, name: &str, path: &Path) -> Agent {
        let made = self.api.post("/api/enrollment-tokens", serde_json::json!({"host_name": name})).await.must(201);
        let folder = self.folder(&format!("host-{name}"));
        let state_dir = folder.join("state");
        let line = made["command"].as_str().unwrap();
        run(&mut shell(line, &self.folder("bin"), &state_dir), "").must();
        let identity = fs::read_to_string(state_dir.join("identity.json")).unwrap();
        let identity: serde_json::Value = serde_json::from_str(&identity).unwrap();
        let mut agent = Agent {
            host_id: identity["host_id"].as_str().unwrap().to_owned(),
            token: identity["agent_token"].as_str().unwrap().to_owned(),
            program: None,
            path: path.to_owned(),
            folder,
        };
        agent.start();
        agent
    }
}

fn serve(folder: &Path, address: &str, (env, args): (&[(String, String)], &[String])) -> Program {
    let mut serve = command(FLOTILLA);
    serve
        .env("FLOTILLA_LOG", LOG_LEVEL)
        // Its own agent needs a restic too.
        .env("PATH", format!("{}:/usr/bin:/bin", tool("bin").display()))
        .envs(env.iter().map(|(name, value)| (name, value)))
        .args(["serve", "--listen", address, "--data-dir"])
        .arg(folder.join("control-plane"))
        .args(args);
    Program::start(serve, folder, "serve")
}

/// A line as typed into a shell of a host whose `flotilla-agent` is the agent of this build.
pub(crate) fn shell(line: &str, bin: &Path, state_dir: &Path) -> Command {
    let program = bin.join("flotilla-agent");
    // The same agent under the name that endpoints know; `exec`, so that it is one process.
    fs::write(&program, format!("#!/bin/sh\nexec '{FLOTILLA}' agent \"$@\"\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut shell = command("/bin/sh");
    shell.args(["-c", line]).env("FLOTILLA_AGENT_STATE_DIR", state_dir);
    shell.env("PATH", format!("{}:{}:/usr/bin:/bin", bin.display(), tool("bin").display()));
    shell
}

/// An agent as a process of its own.
pub(crate) struct Agent {
    pub(crate) host_id: String,
    /// Its secret.
    pub(crate) token: String,
    program: Option<Program>,
    path: PathBuf,
    folder: PathBuf,
}

impl Agent {
    /// Its own folder.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Runs it (again).
    pub(crate) fn start(&mut self) {
        let mut agent = command(FLOTILLA);
        agent
            .env("FLOTILLA_LOG", LOG_LEVEL)
            .args(["agent", "run", "--state-dir"])
            .arg(self.folder.join("state"))
            .env("PATH", &self.path);
        self.program = Some(Program::start(agent, &self.folder, "agent"));
    }

    /// Ends it, and restic with it, as a power cut would.
    pub(crate) fn kill_hard(&mut self) {
        self.program.take().unwrap().kill_hard();
    }

    /// Asks it to stop in good order, and waits for that. What it left running is not below it any more.
    pub(crate) async fn terminate(&mut self) {
        let mut program = self.program.take().unwrap();
        program.signal("-TERM");
        let status = until("the agent stops", async || program.ended()).await;
        assert!(status.success(), "{status}");
    }

    /// Its process, and those below.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.program.as_ref().map(Program::family).unwrap_or_default()
    }

    /// What all its runs wrote to their log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("agent.stderr")).unwrap_or_default()
    }
}

/// A control plane in this process, with deadlines and a clock of the test's own.
pub(crate) struct Local {
    pub(crate) running: Running,
    pub(crate) api: Api,
    _folder: TempDir,
}

impl Local {
    pub(crate) async fn start(clock: SharedClock, fleet: FleetOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = RawConfig {
            data_dir: Some(folder.path().join("control-plane")),
            listen: Some("127.0.0.1:0".to_owned()),
            own_agent: Some(RawOwnAgent { enabled: Some(false) }),
            ..RawConfig::default()
        };
        let running = app::start_with(raw.validate().unwrap(), clock, fleet).await.unwrap();
        let state = &running.state;
        let new = NewAccount { name: ADMIN.to_owned(), password: ADMIN_PASSWORD.into(), role: Role::Admin };
        let user = accounts::create_user(&state.store, &state.passwords, Actor::system(), new).await.unwrap();
        let new = NewToken { user_id: user.id, label: "test".to_owned(), role: None, ttl_s: None };
        let (_, token) = accounts::create_token(&state.store, Actor::system(), new).await.unwrap();
        let api = Api::new(&running.url, token.expose(), None);
        Self { running, api, _folder: folder }
    }

    /// The same again on the same folder: what was in memory is gone.
    pub(crate) async fn restart(self, clock: SharedClock, fleet: FleetOptions) -> Self {
        let Self { running, api, _folder: folder } = self;
        assert!(running.stop(Duration::from_secs(10)).await, "a task of the server did not end");
        let raw = RawConfig {
            data_dir: Some(folder.path().join("control-plane")),
            listen: Some("127.0.0.1:0".to_owned()),
            own_agent: Some(RawOwnAgent { enabled: Some(false) }),
            ..RawConfig::default()
        };
        let running = app::start_with(raw.validate().unwrap(), clock, fleet).await.unwrap();
        let api = Api::new(&running.url, &api.token, None);
        Self { running, api, _folder: folder }
    }

    /// Stops it, and finds that all its tasks end in time.
    pub(crate) async fn stop(self) {
        assert!(self.running.stop(Duration::from_secs(10)).await, "a task of the server did not end");
    }
}

/// The clock of production.
pub(crate) fn system_clock() -> SharedClock {
    Arc::new(flotilla::clock::SystemClock)
}

/// Runs a program of the tools by hand and gives what it said.
pub(crate) fn by_hand(program: &str, args: &[&str], env: &[(&str, &str)]) -> program::Said {
    let mut command = command(tool(program).to_str().unwrap());
    command.args(args).envs(env.iter().copied());
    run(&mut command, "")
}

/// Waits until the text `look` gives has `words`.
pub(crate) async fn says(what: &str, words: &str, look: impl Fn() -> String) {
    until(what, async || look().contains(words).then_some(())).await;
}
