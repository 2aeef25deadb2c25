//! An order's way: POST to the API, `command.run` at the agent, and until "it runs" is on disk; one at a time, and 64 hosts at once. Beside it a
//! minimal server that does the same steps and nothing else. Each cycle ends with the job's end on disk, which counts for the rate only.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::SinkExt as _;
use http::Method;
use tokio::{task::JoinSet, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    agents::{self, Agent},
    api::Api,
    browsers,
    child::Child,
    flood::in_time,
    floors::{self, Listening},
    measure::{median, micros, percentile},
    scenes::Plan,
    server::{Info, Server, Wanted, host_id},
    socket::{self, Socket},
    table::{Goal, Row, Table},
};

/// Hosts at once.
const MANY: u32 = 64;

/// One cycle.
#[derive(Debug, Clone, Copy)]
struct Lap {
    /// POST to `command.run` at the agent.
    ordered: Duration,
    /// POST to "it runs" on disk, and the POST answered.
    started: Duration,
}

/// Laps of one round, and how long they took together.
struct Round {
    laps: Vec<Lap>,
    took: Duration,
}

impl Round {
    fn us(&self, percent: f64, pick: fn(&Lap) -> Duration) -> f64 {
        percentile(&self.laps.iter().map(|lap| micros(pick(lap))).collect::<Vec<_>>(), percent)
    }

    fn rate(&self) -> f64 {
        self.laps.len() as f64 / self.took.as_secs_f64()
    }
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let (alone, crowd) = (plan.size(1000, 50), plan.size(50, 25));
    let mut rounds: [Vec<Round>; 4] = [const { Vec::new() }; 4];
    for _ in 0..plan.rounds {
        let server = Server::start(Wanted { hosts: MANY, tls: false })?;
        let floor = Child::start::<Listening>(&floors::arguments("dispatch"))?;
        let url = floor.1.url.as_str();
        // The first few pay for caches and connections on both sides.
        floor_round(url, 1, alone.div_ceil(10)).await?;
        product_round(&server.info, 1, alone.div_ceil(10)).await?;
        rounds[0].push(product_round(&server.info, 1, alone).await?);
        rounds[1].push(floor_round(url, 1, alone).await?);
        rounds[2].push(product_round(&server.info, MANY, crowd).await?);
        rounds[3].push(floor_round(url, MANY, crowd).await?);
        let expected = 11 * alone.div_ceil(10) + MANY * crowd;
        let done: u32 = server.database()?.query_row(
            "SELECT count(*) FROM jobs WHERE status = 'succeeded' AND started_at IS NOT NULL",
            [],
            |row| row.get(0),
        )?;
        anyhow::ensure!(plan.quick || done == expected, "{expected} jobs were ordered, {done} are done");
    }
    let [alone, alone_floor, crowd, crowd_floor] = &rounds;
    let over = |rounds: &[Round], value: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
    let mut add = |name: &str, pair: (&[Round], &[Round]), value: &dyn Fn(&Round) -> f64, unit, goal| {
        let (product, floor) = (over(pair.0, value), Some(over(pair.1, value)));
        table.add(Row { name: format!("dispatch, {name}"), product, floor, unit, goal });
    };
    let one = (alone.as_slice(), alone_floor.as_slice());
    let many = (crowd.as_slice(), crowd_floor.as_slice());
    add("one at a time, POST to command.run, p50", one, &|r| r.us(50.0, |l| l.ordered), "us", Goal::None);
    add(
        "one at a time, POST to started on disk, p50",
        one,
        &|r| r.us(50.0, |l| l.started),
        "us",
        Goal::RatioAtMost(2.0),
    );
    add(
        "one at a time, POST to started on disk, p99",
        one,
        &|r| r.us(99.0, |l| l.started),
        "us",
        Goal::RatioAtMost(3.0),
    );
    add("64 at once, POST to started on disk, p50", many, &|r| r.us(50.0, |l| l.started), "us", Goal::None);
    add("64 at once, POST to started on disk, p99", many, &|r| r.us(99.0, |l| l.started), "us", Goal::None);
    add("64 at once, whole cycles", many, &Round::rate, "/s", Goal::RatioAtLeast(0.5));
    Ok(())
}

async fn product_round(info: &Info, agents: u32, laps: u32) -> anyhow::Result<Round> {
    let mut ready = Vec::new();
    for n in 0..agents {
        ready.push((Agent::connect(info, n).await?, Api::connect(&info.url, &info.api_token).await?));
    }
    let (body, start) = (agents::order_body(info)?, Instant::now());
    let mut tasks = JoinSet::new();
    for (mut agent, mut api) in ready {
        let body = body.clone();
        tasks.spawn(async move {
            let mut done = Vec::with_capacity(laps as usize);
            for _ in 0..laps {
                done.push(product_lap(&mut agent, &mut api, body.clone()).await?);
            }
            Ok(done)
        });
    }
    gather(&mut tasks, start).await
}

async fn product_lap(agent: &mut Agent, api: &mut Api, body: String) -> anyhow::Result<Lap> {
    let path = format!("/api/hosts/{}/jobs", host_id(agent.n));
    let start = Instant::now();
    let work = async {
        let job = agent.order().await?;
        let ordered = start.elapsed();
        agent.started(job).await?;
        anyhow::Ok((job, ordered))
    };
    let (answer, work) = tokio::join!(api.ask(Method::POST, &path, body), work);
    let started = start.elapsed();
    answer?;
    let (job, ordered) = work?;
    agent.finish(job, 0).await?;
    Ok(Lap { ordered, started })
}

async fn floor_round(url: &str, agents: u32, laps: u32) -> anyhow::Result<Round> {
    let dialer = socket::dialer(url, None)?;
    let mut ready = Vec::new();
    for n in 0..agents {
        let mut socket = socket::open(&dialer, &format!("/agent/{n}"), "", 4096).await?;
        socket::next_text(&mut socket).await?;
        ready.push((n, socket, Api::connect(url, "").await?));
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (n, mut socket, mut api) in ready {
        tasks.spawn(async move {
            let mut done = Vec::with_capacity(laps as usize);
            for _ in 0..laps {
                done.push(floor_lap(n, &mut socket, &mut api).await?);
            }
            Ok(done)
        });
    }
    gather(&mut tasks, start).await
}

async fn floor_lap(n: u32, socket: &mut Socket, api: &mut Api) -> anyhow::Result<Lap> {
    let start = Instant::now();
    let work = async {
        let order = socket::next_text(socket).await?;
        let ordered = start.elapsed();
        let no = order.strip_prefix("run ").context("not an order")?.to_owned();
        socket.send(Message::Text(format!("started {no}").into())).await?;
        anyhow::Ok((no, ordered))
    };
    let path = format!("/hosts/{n}/jobs");
    let (answer, work) = tokio::join!(api.ask(Method::POST, &path, String::new()), work);
    let started = start.elapsed();
    let ((no, ordered), answer) = (work?, answer?);
    anyhow::ensure!(answer == no, "the floor mixed up two jobs");
    socket.send(Message::Text(format!("finished {no}").into())).await?;
    socket::next_text(socket).await?;
    Ok(Lap { ordered, started })
}

async fn gather(tasks: &mut JoinSet<anyhow::Result<Vec<Lap>>>, start: Instant) -> anyhow::Result<Round> {
    let laps = in_time(browsers::all(tasks)).await?.concat();
    Ok(Round { laps, took: start.elapsed() })
}
