//! A backup of an unchanged tree through the real agent beside the same restic command alone, in alternated pairs: what the agent's own process takes
//! of CPU against restic's, and how much longer it takes from the order to the end.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use flotilla_agent::{
    cli::{self, RunArgs},
    identity::{Identity, StateDir},
    server_url::PlainHttp,
};
use flotilla_proto::Secret;
use http::Method;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    child::{self, Child},
    measure::{self, median},
    scenes::{Plan, note},
    server::{self, REPO_PASSWORD, Server, Wanted},
    table::{Goal, Row, Table},
};

/// The child's side: the agent as `flotilla-agent run` runs it.
pub(crate) async fn agent(state_dir: PathBuf) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    child::ready(&())?;
    tokio::select! {
        ended = cli::run(RunArgs::of(state_dir), stop) => Ok(ended?),
        () = child::until_released() => Ok(()),
    }
}

/// One run.
#[derive(Debug, Clone, Copy)]
struct Backup {
    wall: Duration,
    restic_cpu: Duration,
    agent_cpu: Duration,
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    if Command::new("restic").arg("version").stdout(Stdio::null()).status().is_err() {
        note("no restic on PATH: the agent's overhead is left out (scripts/setup-tools demo installs it)");
        return Ok(());
    }
    let server = Server::start(Wanted { hosts: 1, tls: false })?;
    let tree = tempfile::tempdir()?;
    write_tree(tree.path(), plan.size(40_000, 100))?;
    let stage = Stage::set(&server, tree.path()).await?;
    for log_files in [false, true] {
        stage.through_agent(log_files).await?;
        stage.bare(log_files)?;
        let (mut through, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            through.push(stage.through_agent(log_files).await?);
            bare.push(stage.bare(log_files)?);
        }
        let over = |runs: &[Backup], pick: fn(&Backup) -> Duration| {
            median(&runs.iter().map(|run| pick(run).as_secs_f64()).collect::<Vec<_>>())
        };
        let how = if log_files { "every file logged" } else { "default output" };
        let mut add = |what: &str, product, floor, goal| {
            let name = format!("agent around restic, {how}: {what}");
            table.add(Row { name, product, floor: Some(floor), unit: "s", goal });
        };
        let cpu = over(&bare, |run| run.restic_cpu);
        let bar = if log_files { 0.08 } else { 0.005 };
        add("the agent's own cpu, beside restic's", over(&through, |run| run.agent_cpu), cpu, Goal::RatioAtMost(bar));
        add("cpu of all of the agent's processes", over(&through, |run| run.restic_cpu), cpu, Goal::None);
        add("wall, order to end", over(&through, |run| run.wall), over(&bare, |run| run.wall), Goal::RatioAtMost(1.02));
    }
    Ok(())
}

/// Small files, the same in every run.
fn write_tree(root: &Path, files: u32) -> anyhow::Result<()> {
    let mut dice = crate::text::Dice::new(7);
    for n in 0..files {
        let folder = root.join(format!("part-{:03}", n / 250));
        if n % 250 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let line = crate::text::line(&mut dice);
        fs::write(folder.join(format!("document-{n:06}.dat")), line.repeat(1 + dice.below(20) as usize))?;
    }
    Ok(())
}

struct Stage<'a> {
    server: &'a Server,
    agent: Child,
    tree: PathBuf,
    plans: [String; 2],
}

impl<'a> Stage<'a> {
    async fn set(server: &'a Server, tree: &Path) -> anyhow::Result<Self> {
        let dir = server.agent_dir();
        let state = StateDir::at(&dir);
        state.create()?;
        state.save(&Identity {
            server: server.info.url.parse()?,
            host_id: server::host_id(0),
            agent_token: Secret::new(server::agent_token(0)),
            host_name: "bench".to_owned(),
            ca_fingerprint: None,
            plain_http: PlainHttp::LoopbackOnly,
        })?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let (agent, ()) = Child::start(&["agent".to_owned(), dir.display().to_string()])?;
        let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
        let mut plans = Vec::new();
        for log_files in [false, true] {
            let body = serde_json::json!({
                "name": format!("log_files {log_files}"), "repo_id": server.repo()?, "hosts": [server::host_id(0)],
                "paths": [tree], "options": { "log_files": log_files },
            });
            let plan: serde_json::Value =
                serde_json::from_slice(&api.ask(Method::POST, "/api/plans", body.to_string()).await?)?;
            plans.push(plan["id"].as_str().context("a plan without an id")?.to_owned());
        }
        let plans = plans.try_into().map_err(|_| anyhow::anyhow!("two plans"))?;
        Ok(Self { server, agent, tree: tree.to_owned(), plans })
    }

    async fn through_agent(&self, log_files: bool) -> anyhow::Result<Backup> {
        let mut api = Api::connect(&self.server.info.url, &self.server.info.api_token).await?;
        let before = measure::cpu(self.agent.pid())?;
        let start = Instant::now();
        let body = serde_json::json!({ "kind": "backup", "plan_id": self.plans[usize::from(log_files)] });
        let path = format!("/api/hosts/{}/jobs", server::host_id(0));
        let order: serde_json::Value = serde_json::from_slice(&api.ask(Method::POST, &path, body.to_string()).await?)?;
        let job = order["job_id"].as_str().context("an order without a job")?.to_owned();
        let status = loop {
            // Seldom enough not to be measured itself.
            sleep(Duration::from_millis(10)).await;
            let body = api.ask(Method::GET, &format!("/api/jobs/{job}"), String::new()).await?;
            let job: serde_json::Value = serde_json::from_slice(&body)?;
            let status = job["status"].as_str().unwrap_or_default().to_owned();
            if !matches!(status.as_str(), "queued" | "running") {
                break (status, job);
            }
            ensure!(start.elapsed() < Duration::from_secs(300), "the backup did not end in five minutes");
        };
        let wall = start.elapsed();
        ensure!(status.0 == "succeeded", "the backup ended as {}: {}", status.0, status.1);
        let after = measure::cpu(self.agent.pid())?;
        Ok(Backup { wall, restic_cpu: after.children - before.children, agent_cpu: after.own - before.own })
    }

    /// The agent's own command line, with its output thrown away.
    fn bare(&self, log_files: bool) -> anyhow::Result<Backup> {
        let pid = std::process::id();
        let before = measure::cpu(pid)?.children;
        let start = Instant::now();
        let mut command = Command::new("restic");
        command
            .args(["backup", "--json", "--host=bench-00000", "--tag=flotilla,bench"])
            .args(log_files.then_some("--verbose=2"))
            .arg("--")
            .arg(&self.tree)
            .env("RESTIC_REPOSITORY", self.server.repository())
            .env("RESTIC_PASSWORD", REPO_PASSWORD)
            .env("RESTIC_PROGRESS_FPS", "1")
            .env("RESTIC_CACHE_DIR", self.server.agent_dir().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        ensure!(command.status()?.success(), "the bare restic failed");
        let wall = start.elapsed();
        Ok(Backup { wall, restic_cpu: measure::cpu(pid)?.children - before, agent_cpu: Duration::ZERO })
    }
}
