//! Log lines on the whole way: agents send, the server stores, acknowledges and shows them to one browser per job. Beside it: bare row inserts into
//! SQLite by one thread, 1024 to a transaction, `synchronous=FULL`.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    agents::{self, Agent},
    api::Api,
    browsers::{self, Audience},
    flood::{self, Manner},
    floors,
    measure::{median, micros},
    scenes::{Plan, assert_stored, viewers},
    server::{Server, Wanted},
    table::{Goal, Row, Table},
    text::Frames,
};

/// One arrangement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) agents: u32,
    pub(crate) frames: u32,
    pub(crate) lines_per_frame: u32,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    lines_per_s: f64,
    cpu_us: f64,
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let load = |agents, frames, lines_per_frame| Load { agents, frames: plan.size(frames, 100), lines_per_frame };
    let loads = [load(1, 8000, 64), load(8, 2000, 64), load(64, 400, 64), load(64, 3000, 1)];
    let rows = plan.size(1_500_000, 100);
    let mut products = vec![Vec::new(); loads.len()];
    let mut floor = Vec::new();
    for _ in 0..plan.rounds {
        floor.push(floors::sqlite::measure(rows)?);
        for (outcomes, load) in products.iter_mut().zip(loads) {
            outcomes.push(once(load).await?);
        }
    }
    let floor_cpu = median(&floor.iter().map(|f| f.cpu_us_per_row).collect::<Vec<_>>());
    let floor_rate = median(&floor.iter().map(|f| f.rows_per_s).collect::<Vec<_>>());
    for (outcomes, load) in products.iter().zip(loads) {
        let (goal_cpu, goal_rate) = match (load.agents, load.lines_per_frame) {
            (64, 64) => (Goal::RatioAtMost(0.6), Goal::RatioAtLeast(2.5)),
            (64, 1) => (Goal::RatioAtMost(5.0), Goal::None),
            _ => (Goal::None, Goal::None),
        };
        let name = format!("ingest, {} agents, {}-line frames", load.agents, load.lines_per_frame);
        let mut add = |what: &str, pick: fn(&Outcome) -> f64, floor, unit, goal| {
            let product = median(&outcomes.iter().map(pick).collect::<Vec<_>>());
            table.add(Row { name: format!("{name}: {what}"), product, floor: Some(floor), unit, goal });
        };
        add("server cpu per line", |o| o.cpu_us, floor_cpu, "us", goal_cpu);
        add("lines/s", |o| o.lines_per_s, floor_rate, "/s", goal_rate);
    }
    Ok(())
}

async fn once(load: Load) -> anyhow::Result<Outcome> {
    let server = Server::start(Wanted { hosts: load.agents, tls: false })?;
    let filled = fill(&server, load).await?;
    let lines: u64 = u64::from(load.agents) * u64::from(load.frames) * u64::from(load.lines_per_frame);
    Ok(Outcome { lines_per_s: lines as f64 / filled.took.as_secs_f64(), cpu_us: micros(filled.cpu) / lines as f64 })
}

/// What a flood left behind.
pub(crate) struct Filled {
    /// The agents with their jobs, still running, and the last line of each.
    pub(crate) jobs: Vec<(Agent, flotilla_proto::JobId, u32)>,
    /// From the first frame to the last acknowledgement and the last browser.
    pub(crate) took: Duration,
    /// The server's CPU time meanwhile.
    pub(crate) cpu: Duration,
    /// Bytes of all lines, with a line break each.
    pub(crate) text_bytes: u64,
}

/// Fills one job per agent, each before one browser, and finds that every line is stored.
pub(crate) async fn fill(server: &Server, load: Load) -> anyhow::Result<Filled> {
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    let last = load.frames * load.lines_per_frame;
    let (mut prepared, mut text_bytes) = (Vec::new(), 0);
    for n in 0..load.agents {
        let mut agent = Agent::connect(&server.info, n).await?;
        let job = agents::run_job(&mut agent, &mut api, &server.info).await?;
        let browser = viewers(&server.info, job, 1).await?;
        let frames = Frames::of(job, 1, load.frames, load.lines_per_frame)?;
        text_bytes += frames.text_bytes;
        prepared.push((agent, job, browser, frames));
    }
    let (before, start) = (server.cpu()?, Instant::now());
    let mut senders = JoinSet::new();
    let mut watchers = JoinSet::new();
    for (mut agent, job, browser, frames) in prepared {
        let audience = Audience::new(1);
        for socket in browser {
            watchers.spawn(browsers::watch(socket, audience.clone(), 0, (0, last), None));
        }
        senders.spawn(async move {
            let manner = Manner { acknowledged: true, every: None };
            flood::send(&mut agent.socket, job, &frames, audience, manner).await?;
            Ok((agent, job, last))
        });
    }
    let jobs = flood::in_time(browsers::all(&mut senders)).await?;
    flood::in_time(browsers::all(&mut watchers)).await?;
    let (took, cpu) = (start.elapsed(), server.cpu()? - before);
    for (_, job, last) in &jobs {
        assert_stored(server, *job, u64::from(*last))?;
    }
    Ok(Filled { jobs, took, cpu, text_bytes })
}
