//! The demo's parts, set up and taken down: control plane, repository, agent, sample data, plan. What is done is done by the product's own operations.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use flotilla_agent::{
    cli::{EnrollArgs, RunArgs},
    executor::AtStop,
};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    repository::{self, RestServer},
    sample,
};
use crate::{
    app::{self, Running},
    clock::SystemClock,
    config::RawConfig,
    credential,
    domain::{
        HostId, JobId, JobStatus, PlanId, RepoId, Secret,
        job::{Actor, Job},
        schedule::{CatchUp, Schedule},
        user::Role,
    },
    ops::{
        accounts::{self, NewAccount},
        enrol::{self, NewEnrolToken},
        jobs::{self, JobRequest},
        plans::{self, PlanInput},
        repos::{self, AuthInput, RepoInput},
    },
    store,
};

/// How long anything of the demo may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Everything, running.
pub(super) struct Stage {
    pub(super) user: &'static str,
    pub(super) password: Secret,
    pub(super) host_name: &'static str,
    server: Running,
    rest: RestServer,
    agent_stop: CancellationToken,
    host: HostId,
    repo: RepoId,
    plan: PlanId,
    repo_password: Secret,
    rest_password: Secret,
    folder: PathBuf,
}

impl Stage {
    /// Sets everything up in `folder`.
    pub(super) async fn set(folder: &Path, listen: &str) -> anyhow::Result<Self> {
        if repository::find("restic").is_none() {
            bail!("restic was not found: `make demo` installs it; or install it with `apt install restic`");
        }
        let files = folder.join("files");
        sample::write(&files).with_context(|| format!("cannot write sample data into {}", files.display()))?;
        let rest_password = credential::new_token("")?;
        let rest = RestServer::start(&folder.join("repository"), &rest_password).await?;
        let config = RawConfig {
            data_dir: Some(folder.join("control-plane")),
            listen: Some(listen.to_owned()),
            ..RawConfig::default()
        };
        let server = app::start(config.validate()?, Arc::new(SystemClock)).await?;
        let password = short_password()?;
        let new = NewAccount { name: "admin".to_owned(), password: password.clone(), role: Role::Admin };
        accounts::create_user(&server.state.store, &server.state.passwords, Actor::system(), new).await?;
        let agent_stop = CancellationToken::new();
        let host = enrol(&server, folder, &agent_stop).await?;
        let repo_password = credential::new_token("")?;
        let input = RepoInput {
            name: "demo vault".to_owned(),
            url: rest.url(),
            password: repo_password.clone(),
            auth: Some(AuthInput { username: repository::USER.to_owned(), password: Some(rest_password.clone()) }),
            append_only: true,
            init: true,
            ..RepoInput::default()
        };
        let repo = repos::create(&server.state.store, &server.state.vault, Actor::system(), input).await?.id;
        let plan = make_plan(&server, repo, host, &files).await?;
        Ok(Self {
            user: "admin",
            password,
            host_name: HOST_NAME,
            server,
            rest,
            agent_stop,
            host,
            repo,
            plan,
            repo_password,
            rest_password,
            folder: folder.to_owned(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.server.url
    }

    pub(super) fn repository_server(&self) -> &'static str {
        self.rest.program()
    }

    pub(super) fn repository_url(&self) -> String {
        self.rest.url()
    }

    pub(super) fn restore_folder(&self) -> PathBuf {
        self.folder.join("restored")
    }

    /// Waits for the agent's first hello.
    pub(super) async fn restic_version(&self) -> anyhow::Result<String> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let host = self.host;
        loop {
            let found = self.server.state.store.read(move |db| store::hosts::lookup(db, host)).await?;
            if let Some(version) = found.and_then(|host| host.restic_version)
                && self.server.state.hub.is_online(host)
            {
                return Ok(version);
            }
            if Instant::now() > deadline {
                bail!("the agent did not connect within 30 seconds");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The first backup, to its end.
    pub(super) async fn back_up(&self) -> anyhow::Result<Job> {
        let request = JobRequest { kind: "backup".to_owned(), plan_id: Some(self.plan), ..JobRequest::default() };
        self.finish(request).await
    }

    /// Restores the latest snapshot into a new folder.
    pub(super) async fn restore(&self) -> anyhow::Result<Job> {
        let request = JobRequest {
            kind: "restore".to_owned(),
            repo_id: Some(self.repo),
            snapshot: Some("latest".to_owned()),
            target: Some(self.restore_folder().display().to_string()),
            ..JobRequest::default()
        };
        self.finish(request).await
    }

    async fn finish(&self, request: JobRequest) -> anyhow::Result<Job> {
        let id = jobs::create(&self.server.state.desk(), Actor::system(), self.host, request).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let job = self.job(id).await?;
            if job.status.is_final() && job.status != JobStatus::Lost {
                return Ok(job);
            }
            if Instant::now() > deadline {
                bail!("job {id} is still {} after {} s", job.status, PATIENCE.as_secs());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn job(&self, id: JobId) -> anyhow::Result<Job> {
        let job = self.server.state.store.read(move |db| store::jobs::lookup(db, id)).await?;
        job.with_context(|| format!("job {id} is not there"))
    }

    /// Compares the restored files with the source.
    pub(super) fn compare(&self) -> anyhow::Result<usize> {
        let files = self.folder.join("files");
        // restic restores below the target under the full path.
        let restored = self.restore_folder().join(files.strip_prefix("/").unwrap_or(&files));
        sample::compare(&files, &restored)
    }

    /// What a taken-over endpoint would try: forget the snapshot with what it holds. Fails if that succeeds.
    pub(super) async fn try_to_delete(&self) -> anyhow::Result<()> {
        let before = self.snapshots().await?;
        self.restic(&["forget", "latest", "--no-cache"]).await?;
        let after = self.snapshots().await?;
        // Exit codes lie here: some versions say 0 though nothing was removed. The list tells.
        if before == 0 || after != before {
            bail!("the repository is not append-only: {before} snapshots before, {after} after `restic forget`");
        }
        Ok(())
    }

    async fn snapshots(&self) -> anyhow::Result<usize> {
        let output = self.restic(&["snapshots", "--json", "--no-lock", "--no-cache"]).await?;
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output).context("restic lists no snapshots")?;
        Ok(list.len())
    }

    /// restic by hand, with the endpoint's credentials in its environment.
    async fn restic(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        let with_user = format!("rest:http://{}:{}@", repository::USER, self.rest_password.expose());
        let output = Command::new("restic")
            .args(arguments)
            .env("RESTIC_REPOSITORY", self.rest.url().replacen("rest:http://", &with_user, 1))
            .env("RESTIC_PASSWORD", self.repo_password.expose())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        Ok(tokio::time::timeout(PATIENCE, output).await.context("restic did not end")??.stdout)
    }

    /// Takes everything down again.
    pub(super) async fn strike(mut self) {
        self.agent_stop.cancel();
        self.server.stop(Duration::from_secs(5)).await;
        self.rest.stop().await;
    }
}

/// 96 random bits: enough for a demo, and short enough to be typed.
fn short_password() -> anyhow::Result<Secret> {
    let token = credential::new_token("")?;
    Ok(Secret::from(token.expose().get(..16).unwrap_or(token.expose())))
}

/// What the demo's host is called.
const HOST_NAME: &str = "demo-host";

/// Enrols an agent as a person would, and runs it in this process.
async fn enrol(server: &Running, folder: &Path, stop: &CancellationToken) -> anyhow::Result<HostId> {
    let new = NewEnrolToken {
        host_name: Some(HOST_NAME.to_owned()),
        tags: vec!["demo".to_owned()],
        ..NewEnrolToken::default()
    };
    let (_, token) = enrol::create_token(&server.state.store, Actor::system(), new).await?;
    let state_dir = folder.join("agent");
    let args = EnrollArgs {
        server: server.url.parse().map_err(|e| anyhow::anyhow!("{e}"))?,
        token,
        name: None,
        state_dir: Some(state_dir.clone()),
        ca_fingerprint: None,
        allow_plain_http: false,
        replace: false,
    };
    let enrolled = flotilla_agent::cli::enroll(args).await?;
    let stop = stop.clone();
    // The demo's folder goes with it: nothing of it may run on.
    let args = RunArgs { at_stop: AtStop::End, ..RunArgs::of(state_dir) };
    server.tasks.spawn(async move {
        if let Err(e) = flotilla_agent::cli::run(args, stop).await {
            tracing::error!(error = %e, "the demo's agent ended");
        }
    });
    Ok(enrolled.host_id)
}

async fn make_plan(server: &Running, repo_id: RepoId, host: HostId, files: &Path) -> anyhow::Result<PlanId> {
    let input = PlanInput {
        name: "demo files".to_owned(),
        repo_id,
        hosts: vec![host],
        tags: Vec::new(),
        paths: vec![files.display().to_string()],
        excludes: vec!["*.tmp".to_owned()],
        options: crate::domain::PlanOptions { log_files: true, ..crate::domain::PlanOptions::default() },
        retention: crate::domain::KeepRules {
            keep_daily: Some(7),
            keep_weekly: Some(4),
            ..crate::domain::KeepRules::default()
        },
        schedule: Some(Schedule {
            cron: "0 1 * * *".to_owned(),
            timezone: "UTC".to_owned(),
            jitter_s: 4 * 3600,
            catch_up: CatchUp::Once,
            enabled: true,
        }),
        hooks: Vec::new(),
        second_repo_id: None,
    };
    Ok(plans::create(&server.state.store, Actor::system(), input).await?.id)
}
