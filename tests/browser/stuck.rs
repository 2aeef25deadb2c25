//! One who watches and does not read: nobody else notices, and it can catch up.

use flotilla::fleet::FleetOptions;
use serde_json::{Value, json};

use crate::house::{
    Local,
    api::assert_whole,
    raw_agent::{RawAgent, enrol, line},
    system_clock,
    viewer::{Transcript, Viewer, open_with_window},
};

const FRAMES: u64 = 400;
const LINES: u64 = 60;
const TEXT: usize = 1000;

/// Says all lines as fast as the server takes them, and hears each acknowledged.
async fn flood(mut agent: RawAgent, job: &str) {
    for frame in 0..FRAMES {
        let first = frame * LINES + 1;
        let lines = (first..first + LINES).map(|seq| line(seq, &format!("{seq:06} {:x<TEXT$}", ""))).collect();
        agent.lines(job, lines).await;
    }
    let mut acked = 0;
    while acked < FRAMES * LINES {
        acked = agent.hears("ack").await["seq"].as_u64().unwrap();
    }
    agent.finished(job, FRAMES * LINES).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
}

/// Takes what the endpoint of the log has of a range.
async fn fetch(house: &Local, job: &str, from: u64, to: u64) -> Vec<Value> {
    let mut lines = Vec::new();
    while lines.len() as u64 <= to - from {
        let after = from - 1 + lines.len() as u64;
        let limit = (to - after).min(5000);
        let page = house.api.get(&format!("/api/jobs/{job}/log?after={after}&limit={limit}")).await;
        lines.extend(page["lines"].as_array().unwrap().iter().cloned());
    }
    lines
}

/// What a viewer saw, with what it was told that it missed.
async fn filled(house: &Local, job: &str, seen: Transcript) -> Vec<Value> {
    let mut all = seen.lines;
    for (from, to) in seen.gaps {
        all.extend(fetch(house, job, from, to).await);
    }
    all.sort_by_key(|line| line["seq"].as_u64());
    assert_whole(&all);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_does_not_read_slows_nobody_and_fills_its_gap_when_it_reads_again() {
    let house = Local::start(system_clock(), FleetOptions::default()).await;
    let url = house.running.url.clone();
    let host = enrol(&house.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&url, &host.token, json!([])).await;
    let repo = house.api.repo(json!({"name": "v", "url": "rest:http://127.0.0.1:1/", "password": "x"})).await;
    let job = house.api.order(&host.host_id, json!({"kind": "backup", "repo_id": repo, "args": ["/etc"]})).await;
    assert_eq!(agent.ordered().await, job);
    agent.started(&job).await;
    agent.is_fine().await;

    let path = format!("/api/jobs/{job}/stream?after=0");
    let stuck = Viewer(open_with_window(&url, &path, &house.api.token, Some(4096)).await.unwrap());
    let healthy = Viewer::open(&house.api, &url, &job, 0).await;
    let ((), seen) = tokio::join!(flood(agent, &job), healthy.read_all());
    // The agent was heard to its end, and the other browser has seen all of it.
    assert_eq!(house.api.job(&job).await["status"], "succeeded");
    assert_eq!(seen.code, 1000);
    let live = seen.lines.len();
    // On a machine that is busy with other things even one who reads may fall behind for a moment: it is told so, and fetches what it missed.
    let seen = filled(&house, &job, seen).await;
    assert_eq!(seen.len() as u64, FRAMES * LINES);

    // Now the stuck one reads: what was left out is named, and the endpoint has it.
    let late = stuck.read_all().await;
    assert_eq!((late.code, late.finished["status"].as_str()), (1000, Some("succeeded")));
    assert!(!late.gaps.is_empty() && late.lines.len() < live, "it was not stuck: {} of {live}", late.lines.len());
    assert_eq!(filled(&house, &job, late).await, seen);
    house.stop().await;
}
