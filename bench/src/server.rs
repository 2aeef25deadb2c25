//! The product's server as a process of its own: started by [`flotilla::app::start_with`] on a folder of its own, with hosts, an account, a token
//! and a repository already there. The parent holds the handle and reads its CPU time and memory from outside.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use flotilla::{
    app,
    clock::SystemClock,
    config::RawConfig,
    credential,
    fleet::FleetOptions,
    ops::{
        accounts::{self, NewAccount, NewToken},
        repos::{self, RepoInput},
    },
    store::{
        StoreError,
        hosts::{self, Facts, NewHost},
    },
};
use flotilla_proto::{Hello, HostId, PROTOCOL, RepoId, Secret};
use serde::{Deserialize, Serialize};

use crate::{
    child::{self, Child},
    measure,
};

/// What a server process is started with.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Its data folder
    #[arg(long)]
    data_dir: PathBuf,
    /// Hosts to add
    #[arg(long)]
    hosts: u32,
    /// Jobs that one host may run at a time
    #[arg(long)]
    jobs_per_host: u32,
    /// Folder of the repository
    #[arg(long)]
    repository: PathBuf,
    /// Serve by a certificate of its own making
    #[arg(long)]
    tls: bool,
    /// The folder was made ready by an earlier run: add nothing
    #[arg(long)]
    as_is: bool,
}

/// What a server says when it listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Info {
    /// Where.
    pub(crate) url: String,
    /// What agents pin.
    pub(crate) ca_fingerprint: Option<String>,
    /// An administrator's API token; empty for a server that was started as it is.
    pub(crate) api_token: String,
    /// The repository.
    pub(crate) repo: Option<RepoId>,
}

/// Identity of the `n`th host.
pub(crate) fn host_id(n: u32) -> HostId {
    HostId::from_parts(1_700_000_000_000 + u64::from(n), u128::from(n))
}

/// Token of the `n`th host's agent.
pub(crate) fn agent_token(n: u32) -> String {
    format!("{}bench-{n:08}", credential::AGENT_PREFIX)
}

/// What the `n`th host's agent says first; the store has the same, so that connecting writes nothing.
pub(crate) fn hello(n: u32) -> Hello {
    Hello {
        protocol: PROTOCOL,
        capabilities: vec!["restic".to_owned(), "jobs".to_owned()],
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: format!("bench-{n:05}"),
        boot_id: "bench".to_owned(),
        restic_version: Some("0.18.0".to_owned()),
        jobs: Vec::new(),
        schedule_version: 0,
        fires: Vec::new(),
    }
}

/// A server's process.
pub(crate) struct Server {
    child: Child,
    /// How it is reached.
    pub(crate) info: Info,
    /// Its folder, gone with it.
    dir: tempfile::TempDir,
}

/// How a server is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Hosts.
    pub(crate) hosts: u32,
    /// Whether by TLS.
    pub(crate) tls: bool,
}

impl Server {
    /// Starts one on a new folder.
    pub(crate) fn start(wanted: Wanted) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut arguments = arguments(dir.path());
        arguments.extend(["--hosts".to_owned(), wanted.hosts.to_string()]);
        arguments.extend(wanted.tls.then(|| "--tls".to_owned()));
        let (child, info) = Child::start(&arguments)?;
        Ok(Self { child, info, dir })
    }

    /// Ends it and starts one on the same folder.
    pub(crate) fn restart(self) -> anyhow::Result<Self> {
        let Self { child, dir, .. } = self;
        drop(child);
        let mut arguments = arguments(dir.path());
        arguments.extend(["--hosts=0", "--as-is"].map(str::to_owned));
        let (child, info) = Child::start(&arguments)?;
        Ok(Self { child, info, dir })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// CPU time until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(measure::cpu(self.child.pid())?.own)
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> anyhow::Result<u64> {
        measure::rss_kib(self.child.pid())
    }

    /// Its database, for reading beside it.
    pub(crate) fn database(&self) -> anyhow::Result<rusqlite::Connection> {
        let path = self.dir.path().join("data").join(flotilla::store::FILE_NAME);
        let db = rusqlite::Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        db.busy_timeout(Duration::from_secs(10))?;
        Ok(db)
    }

    /// Its data folder.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where its repository belongs.
    pub(crate) fn repository(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    /// A folder for what belongs to this server's agent.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// The repository's identity.
    pub(crate) fn repo(&self) -> anyhow::Result<RepoId> {
        self.info.repo.context("this server was started without a repository")
    }
}

fn arguments(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    let data_dir = format!("--data-dir={}", path("data"));
    let repository = format!("--repository={}", path("repository"));
    vec!["server".to_owned(), data_dir, repository, "--jobs-per-host=2".to_owned()]
}

/// The child's side.
pub(crate) async fn run(args: ServerArgs) -> anyhow::Result<()> {
    let config = RawConfig {
        data_dir: Some(args.data_dir.clone()),
        listen: Some("127.0.0.1:0".to_owned()),
        tls_self_signed: args.tls.then_some(true),
        ..RawConfig::default()
    };
    let options = FleetOptions { jobs_per_host: args.jobs_per_host, ..FleetOptions::default() };
    let server = app::start_with(config.validate()?, Arc::new(SystemClock), options).await?;
    let mut info = Info {
        url: server.url.clone(),
        ca_fingerprint: server.ca_fingerprint.clone(),
        api_token: String::new(),
        repo: None,
    };
    if !args.as_is {
        fill(&server, &args, &mut info).await?;
    }
    child::ready(&info)?;
    child::until_released().await;
    server.stop(Duration::from_secs(5)).await;
    Ok(())
}

async fn fill(server: &app::Running, args: &ServerArgs, info: &mut Info) -> anyhow::Result<()> {
    let actor = flotilla::domain::job::Actor::system;
    let (store, state) = (&server.state.store, &server.state);
    let role = flotilla::domain::user::Role::Admin;
    let new = NewAccount { name: "bench".to_owned(), password: "correct horse battery".into(), role };
    let user = accounts::create_user(store, &state.passwords, actor(), new).await?;
    let new = NewToken { user_id: user.id, label: "bench".to_owned(), role: None, ttl_s: None };
    info.api_token = accounts::create_token(store, actor(), new).await?.1.expose().to_owned();
    let repository = RepoInput {
        name: "bench".to_owned(),
        url: args.repository.display().to_string(),
        password: Secret::from(REPO_PASSWORD),
        auth: None,
        maintenance: None,
        env: None,
        tls_ca_pem: None,
        append_only: false,
        init: false,
        ..RepoInput::default()
    };
    info.repo = Some(repos::create(store, &state.vault, actor(), repository).await?.id);
    let count = args.hosts;
    store
        .write(move |tx| {
            for n in 0..count {
                hosts::insert(tx, &host(n))?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}

/// The repository's password, known to the bare restic too.
pub(crate) const REPO_PASSWORD: &str = "bench";

fn host(n: u32) -> NewHost {
    let said = hello(n);
    NewHost {
        id: host_id(n),
        name: said.hostname.clone(),
        tags: Vec::new(),
        token_hash: Some(credential::hash(&agent_token(n))),
        enrol_token: None,
        facts: Facts {
            os: said.os,
            arch: said.arch,
            hostname: said.hostname,
            agent_version: said.agent_version,
            restic_version: said.restic_version,
            boot_id: said.boot_id,
        },
    }
}
