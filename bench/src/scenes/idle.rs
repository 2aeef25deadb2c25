//! Memory of the server per connected agent, with its heartbeat answered once, by plain TCP and by TLS; beside a bare TCP connection with a task.
//! What is left after all have gone; and what a server without agents takes.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use clap::Args;
use flotilla_agent::dial::Dialer;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use crate::{
    agents::Agent,
    browsers,
    child::{self, Child},
    floors::{self, Listening},
    measure::{self, median},
    scenes::{self, Plan},
    server::{Info, Server, Wanted},
    socket,
    table::{Goal, Row, Table},
};

/// Connections being made at the same time.
const DIALLING: usize = 64;
/// Time for what is only short-lived to go.
const SETTLE: Duration = Duration::from_secs(2);

/// What a process of idle agents is started with.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Where the server is
    #[arg(long)]
    url: String,
    /// Its certificate
    #[arg(long)]
    ca_fingerprint: Option<String>,
    /// How many
    #[arg(long)]
    count: u32,
    /// Bare connections instead of agents
    #[arg(long)]
    bare: bool,
}

/// The child's side: connects, has one heartbeat each, and holds until it is released.
pub(crate) async fn hold(args: ClientArgs) -> anyhow::Result<()> {
    if args.bare {
        let authority = args.url.strip_prefix("http://").context("plain only")?;
        let mut streams = Vec::new();
        for _ in 0..args.count {
            streams.push(TcpStream::connect(authority).await?);
        }
        child::ready(&args.count)?;
        child::until_released().await;
        drop(streams);
        return Ok(());
    }
    let dialer = Arc::new(socket::dialer(&args.url, args.ca_fingerprint.as_deref())?);
    let agents = connect(dialer, args.count).await?;
    let mut beating = JoinSet::new();
    let mut alive = Vec::new();
    for mut agent in agents {
        beating.spawn(async move { agent.heartbeat().await.map(|()| agent) });
        if beating.len() >= DIALLING {
            alive.push(beating.join_next().await.context("a task is there")???);
        }
    }
    alive.extend(browsers::all(&mut beating).await?);
    child::ready(&u32::try_from(alive.len())?)?;
    child::until_released().await;
    Ok(())
}

async fn connect(dialer: Arc<Dialer>, count: u32) -> anyhow::Result<Vec<Agent>> {
    let mut dialling = JoinSet::new();
    let mut agents = Vec::new();
    for n in 0..count {
        let dialer = dialer.clone();
        dialling.spawn(async move { Agent::dial(&dialer, n).await });
        if dialling.len() >= DIALLING {
            agents.push(dialling.join_next().await.context("a task is there")???);
        }
    }
    agents.extend(browsers::all(&mut dialling).await?);
    Ok(agents)
}

fn clients(info: &Info, count: u32, bare: bool) -> anyhow::Result<Child> {
    let mut arguments = vec!["idle-agents".to_owned(), format!("--url={}", info.url), format!("--count={count}")];
    arguments.extend(info.ca_fingerprint.iter().map(|pin| format!("--ca-fingerprint={pin}")));
    arguments.extend(bare.then(|| "--bare".to_owned()));
    let (child, connected): (Child, u32) = Child::start(&arguments)?;
    ensure!(connected == count, "{count} connections were wanted, {connected} came about");
    Ok(child)
}

/// What `count` agents cost.
struct Cost {
    base_kib: f64,
    per_agent_kib: f64,
    left_over_mib: Option<f64>,
}

async fn product(count: u32, tls: bool, leave: Option<Duration>) -> anyhow::Result<Cost> {
    let server = Server::start(Wanted { hosts: count, tls })?;
    // Caches of the database and of the allocator fill up once, whoever comes first.
    drop(clients(&server.info, count.min(64), false)?);
    tokio::time::sleep(SETTLE).await;
    let base_kib = server.rss_kib()? as f64;
    let agents = clients(&server.info, count, false)?;
    tokio::time::sleep(SETTLE).await;
    let per_agent_kib = (server.rss_kib()? as f64 - base_kib) / f64::from(count);
    drop(agents);
    let mut left_over_mib = None;
    if let Some(patience) = leave {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let left = (server.rss_kib()? as f64 - base_kib) / 1024.0;
            left_over_mib = Some(left_over_mib.map_or(left, |least: f64| least.min(left)));
        }
    }
    Ok(Cost { base_kib, per_agent_kib, left_over_mib })
}

async fn floor(count: u32) -> anyhow::Result<f64> {
    let (child, Listening { url }) = Child::start(&floors::arguments("idle"))?;
    let info = Info { url, ca_fingerprint: None, api_token: String::new(), repo: None };
    let base = measure::rss_kib(child.pid())? as f64;
    let streams = clients(&info, count, true)?;
    tokio::time::sleep(SETTLE).await;
    let per = (measure::rss_kib(child.pid())? as f64 - base) / f64::from(count);
    drop(streams);
    Ok(per)
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    empty(plan, table).await?;
    let counts =
        if plan.quick { vec![(50, false), (20, true)] } else { vec![(1000, false), (1000, true), (10_000, false)] };
    for (count, tls) in counts {
        // The largest takes most of a minute, and its rounds differ by little.
        let rounds = if count > 5000 { 1 } else { plan.rounds };
        let leave = (count > 5000).then_some(Duration::from_secs(30));
        let (mut products, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            products.push(product(count, tls, leave).await?);
            floors.push(floor(count).await?);
        }
        let per: Vec<f64> = products.iter().map(|cost| cost.per_agent_kib).collect();
        let how = if tls { "TLS" } else { "plain" };
        scenes::note(&format!("base {:.0} KiB", products[0].base_kib));
        let goal = Goal::AtMost(if tls { 22.0 } else { 12.0 });
        let name = format!("idle, {count} agents, {how}: memory per agent, beside a bare TCP connection");
        table.add(Row { name, product: median(&per), floor: Some(median(&floors)), unit: "KiB", goal });
        if let Some(left) = products.iter().find_map(|cost| cost.left_over_mib) {
            let name = format!("idle, {count} agents, {how}: memory above the start 30 s after they left");
            table.add(Row { name, product: left.max(0.0), floor: None, unit: "MiB", goal: Goal::AtMost(15.0) });
        }
    }
    Ok(())
}

async fn empty(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let server = Server::start(Wanted { hosts: 0, tls: false })?.restart()?;
    tokio::time::sleep(SETTLE).await;
    let watched = Duration::from_secs(if plan.quick { 1 } else { 20 });
    let before = server.cpu()?;
    tokio::time::sleep(watched).await;
    let percent = (server.cpu()? - before).as_secs_f64() / watched.as_secs_f64() * 100.0;
    let rss = server.rss_kib()? as f64 / 1024.0;
    table.add(Row {
        name: "empty server: memory".to_owned(),
        product: rss,
        floor: None,
        unit: "MiB",
        goal: Goal::AtMost(25.0),
    });
    let name = "empty server: share of a core".to_owned();
    table.add(Row { name, product: percent, floor: None, unit: "%", goal: Goal::AtMost(0.2) });
    Ok(())
}
