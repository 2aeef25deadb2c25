//! Orders that get lost on their way, and clocks that jump.

use std::{sync::Arc, time::Duration};

use flotilla::{clock::ManualClock, fleet::FleetOptions};
use serde_json::{Value, json};

use crate::{
    house::{
        Local,
        raw_agent::{RawAgent, enrol, lines},
        system_clock,
    },
    order, running, server,
};

#[tokio::test]
async fn an_order_that_is_not_accepted_in_time_is_sent_again() {
    let options = FleetOptions { accept_deadline: Duration::from_secs(1), ..FleetOptions::default() };
    let server = Local::start(system_clock(), options).await;
    let host = enrol(&server.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let job = order(&server, &host).await;
    assert_eq!(agent.ordered().await, job);
    assert_eq!(agent.ordered().await, job);
    agent.started(&job).await;
    agent.is_fine().await;
    assert_eq!(server.api.job(&job).await["status"], "running");
    server.stop().await;
}

#[tokio::test]
async fn an_order_waits_for_its_host_and_one_that_got_lost_is_sent_to_the_next_connection() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let job = order(&server, &host).await;
    assert_eq!(server.api.job(&job).await["status"], "queued");
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    assert_eq!(agent.ordered().await, job);
    drop(agent);
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    assert_eq!(agent.ordered().await, job);
    assert_eq!(server.api.job(&job).await["status"], "queued");
    server.stop().await;
}

#[tokio::test]
async fn a_lost_order_that_was_cancelled_meanwhile_ends_and_is_not_sent_again() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let job = order(&server, &host).await;
    assert_eq!(agent.ordered().await, job);
    drop(agent);
    assert_eq!(server.api.post(&format!("/api/jobs/{job}/cancel"), Value::Null).await.status, 202);
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    assert_eq!(server.api.end_of(&job).await["status"], "cancelled");
    agent.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_the_agent_still_has_goes_on_where_it_was_acknowledged() {
    let server = server().await;
    let (mut agent, host, job) = running(&server, "web").await;
    agent.lines(&job, lines(1, 3)).await;
    agent.hears("ack").await;
    drop(agent);
    let known = json!([{"job_id": job, "last_seq": 5, "state": "running"}]);
    let (mut agent, welcome) = RawAgent::connect(&server.running.url, &host.token, known).await;
    assert_eq!(welcome["acked"], json!({ &job: 3 }));
    agent.lines(&job, lines(4, 5)).await;
    assert_eq!(agent.hears("ack").await["seq"], 5);
    agent.finished(&job, 5).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    // An agent that did not hear of that asks again, and is told by the welcome.
    drop(agent);
    let known = json!([{"job_id": job, "last_seq": 5, "state": "ended"}]);
    let (_, welcome) = RawAgent::connect(&server.running.url, &host.token, known).await;
    assert_eq!((&welcome["acked"], &welcome["finished"]), (&json!({ &job: 5 }), &json!([job])));
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_the_agent_no_longer_knows_has_failed() {
    let server = server().await;
    let (mut agent, host, job) = running(&server, "web").await;
    agent.lines(&job, lines(1, 3)).await;
    agent.hears("ack").await;
    drop(agent);
    let (_agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let ended = server.api.end_of(&job).await;
    assert_eq!((ended["status"].as_str(), &ended["log_lines"]), (Some("failed"), &json!(3)));
    assert!(ended["error"].as_str().unwrap().contains("run it again"), "{ended}");
    server.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_holds_up_no_order_and_makes_no_time_run_backwards() {
    let clock = ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap());
    let server = Local::start(Arc::clone(&clock) as _, FleetOptions::default()).await;
    let host = enrol(&server.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let job = order(&server, &host).await;
    assert_eq!(agent.ordered().await, job);
    // What was sent "in the future" counts as lost, not as on its way for a day.
    clock.advance(-86_400);
    assert_eq!(agent.ordered().await, job);
    // A day ahead: overdue.
    clock.advance(2 * 86_400);
    assert_eq!(agent.ordered().await, job);
    let far = "2031-01-01T00:00:00.000Z";
    agent.say("job.accepted", json!({"job_id": job})).await;
    agent.say("job.started", json!({"job_id": job, "at": far})).await;
    clock.advance(-3 * 86_400);
    let long_ago =
        json!({"job_id": job, "last_seq": 0, "at": "1999-01-01T00:00:00.000Z", "status": "succeeded", "exit_code": 0});
    agent.say("job.finished", long_ago).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    let ended = server.api.job(&job).await;
    let time = |field: &str| ended[field].as_str().unwrap().to_owned();
    assert!(time("created_at") <= time("started_at") && time("started_at") <= time("finished_at"), "{ended}");
    assert!(time("finished_at").as_str() < far, "{ended}");
    // The next job is none the worse for it.
    let next = order(&server, &host).await;
    assert_eq!(agent.ordered().await, next);
    server.stop().await;
}
