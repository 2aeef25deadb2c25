//! A whole fleet comes back at once, after the server was restarted: how long until all are online, what it costs, how many attempts were in vain, and
//! how long a person waits for a page of the API meanwhile. Agents keep the deadlines and the back-off of the real one. Beside it: the same agents
//! and a server that upgrades and welcomes whoever comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use clap::Args;
use flotilla_agent::dial::Dialer;
use http::Method;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    agents::Agent,
    api::Api,
    browsers,
    child::{self, Child},
    flood::in_time,
    floors::{self, Listening},
    measure::{self, median, micros, percentile},
    scenes::Plan,
    server::{Server, Wanted},
    socket,
    table::{Goal, Row, Table},
};

/// How long an attempt may take, from the dial to the welcome: less than the real agent's 15 s for each of three stages.
const PATIENCE: Duration = Duration::from_secs(15);
/// The real agent's back-off: any time up to this, doubled with each failure up to a minute.
const BACKOFF: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// Between two looks at the server's memory, and two questions of a person.
const LOOK: Duration = Duration::from_millis(50);

/// What a process of agents that come back is started with.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Where the server is
    #[arg(long)]
    url: String,
    /// How many
    #[arg(long)]
    count: u32,
}

/// What the agents met.
#[derive(Debug, Serialize, Deserialize)]
struct Met {
    /// Until each was online, in seconds, in order.
    online_s: Vec<f64>,
    /// Attempts that were answered with a refusal, or broke.
    refused: u32,
    /// Attempts that took too long.
    timeouts: u32,
}

/// The child's side: all agents come at once, each until it is welcome, and stay until they are released.
pub(crate) async fn come_back(args: ClientArgs) -> anyhow::Result<()> {
    let dialer = Arc::new(socket::dialer(&args.url, None)?);
    let (refused, timeouts) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let start = Instant::now();
    let mut coming = JoinSet::new();
    for n in 0..args.count {
        let (dialer, refused, timeouts) = (dialer.clone(), refused.clone(), timeouts.clone());
        coming.spawn(async move {
            let agent = until_welcome(&dialer, n, &refused, &timeouts).await;
            Ok((agent, start.elapsed().as_secs_f64()))
        });
    }
    let all = in_time(browsers::all(&mut coming)).await?;
    let mut online_s: Vec<f64> = all.iter().map(|(_, at)| *at).collect();
    online_s.sort_by(f64::total_cmp);
    let count = |of: &AtomicU32| of.load(Ordering::Relaxed);
    child::ready(&Met { online_s, refused: count(&refused), timeouts: count(&timeouts) })?;
    child::until_released().await;
    Ok(())
}

async fn until_welcome(dialer: &Dialer, n: u32, refused: &AtomicU32, timeouts: &AtomicU32) -> Agent {
    let mut most = BACKOFF;
    // Spread as a random number would be, and the same in each run.
    let mut spread = n;
    loop {
        match timeout(PATIENCE, Agent::dial(dialer, n)).await {
            Ok(Ok(agent)) => return agent,
            Ok(Err(_)) => refused.fetch_add(1, Ordering::Relaxed),
            Err(_) => timeouts.fetch_add(1, Ordering::Relaxed),
        };
        spread = spread.wrapping_mul(2_654_435_761).wrapping_add(1);
        sleep(most.mul_f64(f64::from(spread) / f64::from(u32::MAX))).await;
        most = (most * 2).min(MOST);
    }
}

/// One storm.
struct Storm {
    met: Met,
    cpu_s: f64,
    peak_rss_mib: f64,
    page_us: Vec<f64>,
}

fn agents(url: &str, count: u32) -> anyhow::Result<(Child, Met)> {
    Child::start(&["storm-agents".to_owned(), format!("--url={url}"), format!("--count={count}")])
}

/// Lets the agents come to the server of process `pid`, and watches it meanwhile.
async fn storm(url: &str, token: Option<&str>, pid: u32, count: u32) -> anyhow::Result<Storm> {
    let over = Arc::new(AtomicBool::new(false));
    let seen = over.clone();
    let mut rss = JoinSet::new();
    rss.spawn(async move {
        let mut most = 0;
        while !seen.load(Ordering::Relaxed) {
            most = most.max(measure::rss_kib(pid)?);
            sleep(LOOK).await;
        }
        anyhow::Ok(most as f64 / 1024.0)
    });
    let mut person = match token {
        Some(token) => Some(Api::connect(url, token).await?),
        None => None,
    };
    let seen = over.clone();
    let mut pages = JoinSet::new();
    pages.spawn(async move {
        let mut page_us = Vec::new();
        while let Some(api) = person.as_mut().filter(|_| !seen.load(Ordering::Relaxed)) {
            let start = Instant::now();
            api.ask(Method::GET, "/api/jobs?limit=10", String::new()).await?;
            page_us.push(micros(start.elapsed()));
            sleep(LOOK).await;
        }
        anyhow::Ok(page_us)
    });
    let (before, address) = (measure::cpu(pid)?.own, url.to_owned());
    let come = tokio::task::spawn_blocking(move || agents(&address, count)).await?;
    let cpu_s = (measure::cpu(pid)?.own - before).as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let (child, met) = come?;
    drop(child);
    let peak_rss_mib = browsers::all(&mut rss).await?.into_iter().fold(0.0, f64::max);
    Ok(Storm { met, cpu_s, peak_rss_mib, page_us: browsers::all(&mut pages).await?.concat() })
}

async fn product(count: u32) -> anyhow::Result<Storm> {
    let server = Server::start(Wanted { hosts: count, tls: false })?;
    let token = server.info.api_token.clone();
    // The first time is another matter: each host's first sign of life is written down.
    drop(agents(&server.info.url, count)?);
    let server = server.restart()?;
    storm(&server.info.url, Some(&token), server.pid(), count).await
}

async fn floor(count: u32) -> anyhow::Result<Storm> {
    let (child, Listening { url }) = Child::start(&floors::arguments("upgrade"))?;
    storm(&url, None, child.pid(), count).await
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let count = plan.size(10_000, 100);
    let (mut products, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        products.push(product(count).await?);
        floors.push(floor(count).await?);
    }
    let over = |storms: &[Storm], pick: fn(&Storm) -> f64| median(&storms.iter().map(pick).collect::<Vec<_>>());
    let mut add = |what: &str, pick: fn(&Storm) -> f64, beside: bool, unit, goal| {
        let floor = beside.then(|| over(&floors, pick));
        table.add(Row {
            name: format!("storm, {count} agents: {what}"),
            product: over(&products, pick),
            floor,
            unit,
            goal,
        });
    };
    let last = |storm: &Storm| storm.met.online_s.last().copied().unwrap_or(f64::NAN);
    add("until all are online", last, true, "s", Goal::RatioAtMost(3.0));
    add("until half of them are", |storm| percentile(&storm.met.online_s, 50.0), true, "s", Goal::None);
    add("server cpu", |storm| storm.cpu_s, true, "s", Goal::None);
    add("peak memory", |storm| storm.peak_rss_mib, true, "MiB", Goal::None);
    add("attempts that were refused or broke", |storm| f64::from(storm.met.refused), false, "", Goal::AtMost(0.0));
    add("attempts that timed out", |storm| f64::from(storm.met.timeouts), false, "", Goal::AtMost(0.0));
    add("a person's page meanwhile, p50", |storm| percentile(&storm.page_us, 50.0), false, "us", Goal::None);
    add(
        "a person's page meanwhile, p99",
        |storm| percentile(&storm.page_us, 99.0),
        false,
        "us",
        Goal::AtMost(100_000.0),
    );
    Ok(())
}
