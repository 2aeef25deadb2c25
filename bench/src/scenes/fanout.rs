//! One job's log to 1, 100 and 1000 browsers, each line stored on the way; beside it a bare WebSocket relay that stores nothing, fed and watched by the
//! same clients. And 100 browsers of which one has stopped reading, beside 100 that all read.

use std::time::Duration;

use tokio::{task::JoinSet, time::Instant};

use crate::{
    agents::{self, Agent},
    api::Api,
    browsers::{self, Arrivals, Audience},
    child::Child,
    flood::{self, Manner},
    floors::{self, Listening},
    measure::{self, median, micros, percentile},
    scenes::{Plan, assert_stored, viewers},
    server::{Server, Wanted},
    socket,
    table::{Goal, Row, Table},
    text::Frames,
};

/// One arrangement.
#[derive(Debug, Clone, Copy)]
struct Crowd {
    browsers: usize,
    frames: u32,
    lines_per_frame: u32,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    deliveries_per_s: f64,
    cpu_us: f64,
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let crowd = |browsers, frames, lines_per_frame| Crowd { browsers, frames: plan.size(frames, 100), lines_per_frame };
    let crowds =
        [crowd(1, 60_000, 1), crowd(100, 15_000, 1), crowd(1000, 1200, 1), crowd(100, 3000, 64), crowd(1000, 400, 64)];
    let mut products = vec![Vec::new(); crowds.len()];
    let mut floors = vec![Vec::new(); crowds.len()];
    for _ in 0..plan.rounds {
        for (n, crowd) in crowds.into_iter().enumerate() {
            products[n].push(product(crowd).await?);
            floors[n].push(floor(crowd).await?);
        }
    }
    for (n, crowd) in crowds.iter().enumerate() {
        let name = format!("fan-out, {} browsers, {}-line frames", crowd.browsers, crowd.lines_per_frame);
        // Goal 4 speaks of nats-server, which takes 1.56 times the floor at 100 browsers and 0.67 times at 1000 (performance study of 2026-11-21).
        let goal = match (crowd.browsers, crowd.lines_per_frame) {
            (100, 1) => Goal::RatioAtMost(1.25),
            (1000, 1) => Goal::RatioAtMost(1.07),
            _ => Goal::None,
        };
        let mut add = |what: &str, pick: fn(&Outcome) -> f64, unit, goal| {
            let over = |outcomes: &[Outcome]| median(&outcomes.iter().map(pick).collect::<Vec<_>>());
            let (product, floor) = (over(&products[n]), Some(over(&floors[n])));
            table.add(Row { name: format!("{name}: {what}"), product, floor, unit, goal });
        };
        add("server cpu per delivery", |o| o.cpu_us, "us", goal);
        add("deliveries/s", |o| o.deliveries_per_s, "/s", Goal::None);
    }
    stalled(plan, table).await
}

async fn product(crowd: Crowd) -> anyhow::Result<Outcome> {
    let server = Server::start(Wanted { hosts: 1, tls: false })?;
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    let mut agent = Agent::connect(&server.info, 0).await?;
    let job = agents::run_job(&mut agent, &mut api, &server.info).await?;
    let sockets = viewers(&server.info, job, crowd.browsers).await?;
    let frames = Frames::of(job, 1, crowd.frames, crowd.lines_per_frame)?;
    let manner = Manner { acknowledged: true, every: None };
    let before = server.cpu()?;
    let took = relay(&mut agent.socket, job, &frames, sockets, manner).await?;
    let cpu = server.cpu()? - before;
    assert_stored(&server, job, frames.lines())?;
    Ok(outcome(crowd, took, cpu))
}

async fn floor(crowd: Crowd) -> anyhow::Result<Outcome> {
    let (child, Listening { url }) = Child::start(&floors::arguments("fanout"))?;
    let dialer = socket::dialer(&url, None)?;
    let mut sender = socket::open(&dialer, "/in", "", 4096).await?;
    let mut sockets = Vec::new();
    for _ in 0..crowd.browsers {
        let mut socket = socket::open(&dialer, "/out", "", 16 * 1024).await?;
        socket::next_text(&mut socket).await?;
        sockets.push(socket);
    }
    let job = flotilla_proto::JobId::from_parts(1, 1);
    let frames = Frames::of(job, 1, crowd.frames, crowd.lines_per_frame)?;
    let manner = Manner { acknowledged: false, every: None };
    let before = measure::cpu(child.pid())?.own;
    let took = relay(&mut sender, job, &frames, sockets, manner).await?;
    Ok(outcome(crowd, took, measure::cpu(child.pid())?.own - before))
}

async fn relay(
    sender: &mut socket::Socket,
    job: flotilla_proto::JobId,
    frames: &Frames,
    sockets: Vec<socket::Socket>,
    manner: Manner,
) -> anyhow::Result<Duration> {
    let audience = Audience::new(sockets.len());
    let last = u32::try_from(frames.lines())?;
    let start = Instant::now();
    let mut watchers = JoinSet::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        watchers.spawn(browsers::watch(socket, audience.clone(), n, (0, last), None));
    }
    flood::in_time(flood::send(sender, job, frames, audience, manner)).await?;
    flood::in_time(browsers::all(&mut watchers)).await?;
    Ok(start.elapsed())
}

fn outcome(crowd: Crowd, took: Duration, cpu: Duration) -> Outcome {
    let deliveries = crowd.browsers as f64 * f64::from(crowd.frames);
    Outcome { deliveries_per_s: deliveries / took.as_secs_f64(), cpu_us: micros(cpu) / deliveries }
}

/// What 99 browsers notice of one that stopped reading, or does not.
#[derive(Debug, Clone, Copy)]
struct Company {
    lines_per_s: f64,
    p99_us: f64,
    grown_kib: f64,
}

async fn stalled(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        without.push(company(plan, false).await?);
        with.push(company(plan, true).await?);
    }
    let over = |all: &[Company], pick: fn(&Company) -> f64| median(&all.iter().map(pick).collect::<Vec<_>>());
    let mut add = |what: &str, pick: fn(&Company) -> f64, unit, goal| {
        let (product, floor) = (over(&with, pick), Some(over(&without, pick)));
        table.add(Row {
            name: format!("one stalled browser of 100: {what}, beside none stalled"),
            product,
            floor,
            unit,
            goal,
        });
    };
    add("lines/s of the job", |c| c.lines_per_s, "/s", Goal::RatioAtLeast(0.97));
    add("delay of the others, p99", |c| c.p99_us, "us", Goal::RatioAtMost(1.2));
    let extra = over(&with, |c| c.grown_kib) - over(&without, |c| c.grown_kib);
    let name = "one stalled browser of 100: more memory".to_owned();
    table.add(Row { name, product: extra.max(0.0), floor: None, unit: "KiB", goal: Goal::AtMost(1024.0) });
    Ok(())
}

async fn company(plan: Plan, stalled: bool) -> anyhow::Result<Company> {
    let server = Server::start(Wanted { hosts: 1, tls: false })?;
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    let mut agent = Agent::connect(&server.info, 0).await?;
    let job = agents::run_job(&mut agent, &mut api, &server.info).await?;
    let mut sockets = viewers(&server.info, job, 100).await?;
    // Where one is to stall, it stays open and is never read; else it reads like all others.
    let quiet = if stalled { sockets.pop() } else { None };
    let flood_frames = Frames::of(job, 1, plan.size(3000, 30), 64)?;
    let (rss, start) = (server.rss_kib()?, Instant::now());
    let audience = Audience::new(sockets.len());
    let last = u32::try_from(flood_frames.lines())?;
    let paced = Frames::of(job, last + 1, plan.size(1500, 50), 8)?;
    let end = last + u32::try_from(paced.lines())?;
    let mut watchers = JoinSet::new();
    for (n, socket) in sockets.into_iter().enumerate() {
        let arrivals = Some(Arrivals { since: start, at: Vec::new() });
        watchers.spawn(browsers::watch(socket, audience.clone(), n, (0, end), arrivals));
    }
    let fast = Manner { acknowledged: true, every: None };
    flood::in_time(flood::send(&mut agent.socket, job, &flood_frames, audience.clone(), fast)).await?;
    let took = start.elapsed();
    let slow = Manner { acknowledged: true, every: Some(Duration::from_millis(4)) };
    let sent = flood::in_time(flood::send(&mut agent.socket, job, &paced, audience, slow)).await?;
    let grown_kib = server.rss_kib()? as f64 - rss as f64;
    let mut delays = Vec::new();
    for arrivals in flood::in_time(browsers::all(&mut watchers)).await?.into_iter().flatten() {
        for (first, at) in arrivals.at.iter().filter(|(first, _)| *first > last) {
            let index = ((first - last - 1) / paced.lines_per_frame) as usize;
            delays.push(micros((start + *at).saturating_duration_since(sent[index])));
        }
    }
    drop(quiet);
    assert_stored(&server, job, u64::from(end))?;
    let lines_per_s = flood_frames.lines() as f64 / took.as_secs_f64();
    Ok(Company { lines_per_s, p99_us: percentile(&delays, 99.0), grown_kib })
}
