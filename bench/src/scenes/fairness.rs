//! What one agent that floods the server with lines costs the others: the echo of a heartbeat, a line until its acknowledgement, and a person's cancel
//! until it is at the agent; each with and without the flood.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use flotilla_proto::{JobId, ServerMessage};
use futures_util::SinkExt as _;
use http::Method;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    agents::{self, Agent},
    api::Api,
    browsers::{self, Audience},
    flood::{self, Manner, in_time},
    measure::{median, micros, percentile},
    scenes::Plan,
    server::{Server, Wanted},
    table::{Goal, Row, Table},
    text::Frames,
};

/// A frame of the flood: about 64 KiB, as the real agent sends them.
const FLOOD_LINES: u32 = 512;
/// Frames that are made at once.
const STRETCH: u32 = 128;
/// Between two samples: the quiet agent is quiet.
const PAUSE: Duration = Duration::from_millis(5);

/// Samples in microseconds.
#[derive(Default)]
struct Delays {
    heartbeat: Vec<f64>,
    line: Vec<f64>,
    cancel: Vec<f64>,
}

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let samples = plan.size(300, 30);
    let (mut with, mut without, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        without.push(round(samples, false).await?.0);
        let (delays, rate) = round(samples, true).await?;
        with.push(delays);
        rates.push(rate);
    }
    let mut add = |what: &str, pick: fn(&Delays) -> &Vec<f64>, percent: f64, goal| {
        let over = |rounds: &[Delays]| median(&rounds.iter().map(|d| percentile(pick(d), percent)).collect::<Vec<_>>());
        let name = format!("fairness, {what} beside a flood and without, p{percent:.0}");
        table.add(Row { name, product: over(&with), floor: Some(over(&without)), unit: "us", goal });
    };
    for (what, pick) in [
        ("heartbeat to its echo", (|d| &d.heartbeat) as fn(&Delays) -> &Vec<f64>),
        ("another agent's line to its acknowledgement", |d| &d.line),
        ("cancel to the agent", |d| &d.cancel),
    ] {
        add(what, pick, 50.0, Goal::None);
        add(what, pick, 99.0, Goal::AtMost(100_000.0));
    }
    let name = "fairness, the flood itself".to_owned();
    table.add(Row { name, product: median(&rates), floor: None, unit: "lines/s", goal: Goal::None });
    Ok(())
}

/// The delays, and the flood's rate.
async fn round(samples: u32, flooded: bool) -> anyhow::Result<(Delays, f64)> {
    let server = Server::start(Wanted { hosts: 3, tls: false })?;
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut flooding = JoinSet::new();
    if flooded {
        let mut agent = Agent::connect(&server.info, 0).await?;
        let job = agents::run_job(&mut agent, &mut api, &server.info).await?;
        flooding.spawn(flood(agent, job, over.clone(), sent.clone()));
        // It is at its height once the first stretch is through.
        in_time(async {
            while sent.load(Ordering::Relaxed) == 0 {
                sleep(PAUSE).await;
            }
            Ok(())
        })
        .await?;
    }
    let (start, before) = (Instant::now(), sent.load(Ordering::Relaxed));
    let delays = in_time(measure(&server, &mut api, samples)).await?;
    let rate = (sent.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    browsers::all(&mut flooding).await?;
    Ok((delays, rate))
}

/// Sends lines as fast as they are acknowledged, until it is over.
async fn flood(mut agent: Agent, job: JobId, over: Arc<AtomicBool>, sent: Arc<AtomicU64>) -> anyhow::Result<()> {
    let make = move |first| tokio::task::spawn_blocking(move || Frames::of(job, first, STRETCH, FLOOD_LINES));
    let mut frames = make(1).await??;
    let mut first = 1;
    while !over.load(Ordering::Relaxed) {
        first += STRETCH * FLOOD_LINES;
        let manner = Manner { acknowledged: true, every: None };
        // The next stretch is made while this one is sent, so that the flood does not pause.
        let (done, next) =
            tokio::join!(flood::send(&mut agent.socket, job, &frames, Audience::new(0), manner), make(first));
        done?;
        frames = next??;
        sent.fetch_add(u64::from(STRETCH * FLOOD_LINES), Ordering::Relaxed);
    }
    Ok(())
}

async fn measure(server: &Server, api: &mut Api, samples: u32) -> anyhow::Result<Delays> {
    let mut delays = Delays::default();
    let mut quiet = Agent::connect(&server.info, 1).await?;
    let job = agents::run_job(&mut quiet, api, &server.info).await?;
    let lines = Frames::of(job, 1, samples, 1)?;
    let mut cancelled = Agent::connect(&server.info, 2).await?;
    for (frame, seq) in lines.frames.iter().zip(1u32..) {
        let start = Instant::now();
        quiet.heartbeat().await?;
        delays.heartbeat.push(micros(start.elapsed()));
        let start = Instant::now();
        quiet.socket.send(Message::Text(frame.clone())).await?;
        match quiet.next().await? {
            ServerMessage::Ack(ack) => ensure!(ack.seq == seq, "line {seq} was answered with {ack:?}"),
            other => bail!("instead of an acknowledgement came {other:?}"),
        }
        delays.line.push(micros(start.elapsed()));
        // Each needs a job of its own.
        if seq.is_multiple_of(5) {
            delays.cancel.push(cancel(&mut cancelled, api, server).await?);
        }
        sleep(PAUSE).await;
    }
    Ok(delays)
}

/// A person cancels a job that runs: until the agent hears of it.
async fn cancel(agent: &mut Agent, api: &mut Api, server: &Server) -> anyhow::Result<f64> {
    let job = agents::run_job(agent, api, &server.info).await?;
    let start = Instant::now();
    let path = format!("/api/jobs/{job}/cancel");
    let heard = async {
        loop {
            if let ServerMessage::CommandCancel(cancel) = agent.next().await? {
                ensure!(cancel.job_id == job, "another job's cancel");
                return Ok(micros(start.elapsed()));
            }
        }
    };
    let (asked, heard) = tokio::join!(api.ask(Method::POST, &path, String::new()), heard);
    asked.context("the cancel was refused")?;
    let delay = heard?;
    agent.finish(job, 0).await?;
    Ok(delay)
}
