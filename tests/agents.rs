//! Agents that misbehave, and what becomes of them: a raw WebSocket plays the agent against a whole server.
//! Whatever is refused is told why, changes nothing else, and is seen in the store.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "agents/house.rs"]
mod house;

use std::time::Duration;

use flotilla::{
    domain::{JobStatus, Timestamp},
    fleet::FleetOptions,
};
use house::{Agent, House, job_of};
use serde_json::{Value, json};

fn quick() -> FleetOptions {
    FleetOptions { heartbeat: Duration::from_secs(1), ..FleetOptions::default() }
}

fn line(seq: u32, text: &str) -> Value {
    json!({"seq": seq, "at": "2026-11-21T08:00:00.000Z", "stream": "stdout", "text": text})
}

fn lines(job: &str, from: u32, to: u32) -> Value {
    let lines: Vec<Value> = (from..=to).map(|seq| line(seq, &format!("line {seq}"))).collect();
    json!({"type": "log.stream", "id": "x", "payload": {"job_id": job, "lines": lines}})
}

fn finished(job: &str, last_seq: u32) -> Value {
    json!({"type": "job.finished", "id": "f", "payload": {"job_id": job, "last_seq": last_seq,
           "at": "2026-11-21T08:00:00.000Z", "status": "succeeded", "exit_code": 0}})
}

#[tokio::test]
async fn hello_is_answered_with_welcome_and_heartbeats_are_echoed() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::connect(&house, &token).await.unwrap();
    let welcome = agent.greet(json!([])).await;
    assert_eq!(welcome["payload"]["host_id"], host.to_string());
    assert_eq!(welcome["payload"]["protocol"], 1);
    agent.send(&json!({"type": "heartbeat", "id": "h", "payload": {"load": [0.1, 0.2, 0.3]}})).await;
    assert_eq!(agent.receive("heartbeat").await["payload"], json!({}));
    assert!(house.is_online(host));
    drop(agent);
    house.until("the host is offline", |house| !house.is_online(host)).await;
}

#[tokio::test]
async fn a_token_that_is_unknown_or_absent_is_refused_before_the_upgrade() {
    let house = House::start().await;
    assert_eq!(Agent::connect(&house, "fla_wrong").await.err(), Some(401));
    assert_eq!(Agent::connect(&house, "").await.err(), Some(401));
}

#[tokio::test]
async fn a_second_connection_replaces_the_first_which_is_told_so() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut first = Agent::greeted(&house, &token).await;
    let _second = Agent::greeted(&house, &token).await;
    assert_eq!(first.closed().await, 4001);
    assert!(house.is_online(host));
}

#[tokio::test]
async fn a_revoked_agent_is_closed_and_told_to_stay_away_when_it_comes_back() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    house.revoke(host).await;
    assert_eq!(agent.closed().await, 4003);
    assert_eq!(Agent::connect(&house, &token).await.unwrap().closed().await, 4003);
}

#[tokio::test]
async fn an_agent_of_another_protocol_is_told_which_side_to_update() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let mut agent = Agent::connect(&house, &token).await.unwrap();
    agent.send(&house::hello(json!({"min": 7, "max": 9}), json!([]))).await;
    let error = agent.receive("error").await;
    assert_eq!(error["payload"]["code"], "no_common_version");
    assert!(error["payload"]["message"].as_str().unwrap().ends_with("update the server"), "{error}");
    assert_eq!(agent.closed().await, 4002);
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_closes_the_connection() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::connect(&house, &token).await.unwrap();
    agent.send(&json!({"type": "heartbeat", "id": "h", "payload": {}})).await;
    assert_eq!(agent.closed().await, 1008);
    assert!(!house.is_online(host));
}

#[tokio::test]
async fn frames_that_do_not_parse_are_named_and_the_third_closes() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    for (n, forged) in
        ["{\"type\": \"log.str", "[1, 2]", "{\"type\":\"job.started\",\"id\":\"abc\",\"payload\":{\"job_id\":7}}"]
            .iter()
            .enumerate()
    {
        agent.send_text((*forged).to_owned()).await;
        let error = agent.receive("error").await;
        assert_eq!(error["payload"]["code"], "bad_frame", "{forged}");
        if n == 2 {
            assert_eq!(error["payload"]["regarding"], "abc");
        }
    }
    assert_eq!(agent.closed().await, 1008);
}

#[tokio::test]
async fn binary_frames_count_as_frames_that_do_not_parse() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    agent.send_binary(vec![0xff, 0xfe]).await;
    assert_eq!(agent.receive("error").await["payload"]["code"], "bad_frame");
}

#[tokio::test]
async fn a_frame_of_two_mebibytes_closes_with_1009() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    agent.try_send_text("x".repeat(2 << 20)).await;
    assert_eq!(agent.closed().await, 1009);
}

#[tokio::test]
async fn an_unknown_type_and_unknown_fields_are_ignored() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    agent.send(&json!({"type": "moon.phase", "id": "m", "payload": {"full": true}, "extra": 1})).await;
    agent.send(&json!({"type": "heartbeat", "id": "h", "payload": {"mood": "fine"}})).await;
    agent.receive("heartbeat").await;
}

#[tokio::test]
async fn a_silent_agent_is_dropped() {
    let house = House::start_with(quick()).await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    assert_eq!(agent.closed().await, 1001);
    house.until("the host is offline", |house| !house.is_online(host)).await;
}

#[tokio::test]
async fn lines_for_another_hosts_job_and_for_no_job_are_refused_alike_and_not_stored() {
    let house = House::start().await;
    let (_, token) = house.host("web-1").await;
    let (other, _) = house.host("web-2").await;
    let foreign = house.order(other).await;
    let mut agent = Agent::greeted(&house, &token).await;
    for job in [foreign.to_string(), "01JD3K8ZQV5C0F8R4X7M2N9ABC".to_owned()] {
        for frame in [lines(&job, 1, 3), finished(&job, 0)] {
            agent.send(&frame).await;
            let error = agent.receive("error").await;
            assert_eq!(error["payload"]["code"], "unknown_job", "{error}");
        }
    }
    let job = house.job(foreign).await;
    assert_eq!((job.log_lines, job.status), (0, JobStatus::Queued));
}

#[tokio::test]
async fn a_gap_is_answered_with_the_last_good_line_and_repeats_are_stored_once() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    agent.send(&lines(&job, 1, 3)).await;
    assert_eq!(agent.receive("ack").await["payload"]["seq"], 3);
    agent.send(&lines(&job, 5, 9)).await;
    assert_eq!(agent.receive("ack").await["payload"]["seq"], 3);
    agent.send(&lines(&job, 2, 6)).await;
    assert_eq!(agent.receive("ack").await["payload"]["seq"], 6);
    let stored = house.log(&job).await;
    assert_eq!(stored, (1..=6).map(|n| format!("line {n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_end_before_its_lines_waits_for_them() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    let id = house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    agent.send(&finished(&job, 2)).await;
    let ack = agent.receive("ack").await;
    assert_eq!((&ack["payload"]["seq"], ack["payload"].get("finished")), (&json!(0), None));
    agent.send(&lines(&job, 1, 2)).await;
    agent.receive("ack").await;
    agent.send(&finished(&job, 2)).await;
    assert_eq!(agent.receive("ack").await["payload"]["finished"], true);
    assert_eq!(house.job(id).await.status, JobStatus::Succeeded);
    // The agent may not have heard the answer: the second time changes nothing.
    agent.send(&finished(&job, 2)).await;
    assert_eq!(agent.receive("ack").await["payload"]["finished"], true);
}

#[tokio::test]
async fn a_job_cannot_end_as_something_that_is_no_end() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    let id = house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    for status in ["running", "lost"] {
        let mut frame = finished(&job, 0);
        frame["payload"]["status"] = json!(status);
        agent.send(&frame).await;
        assert_eq!(agent.receive("error").await["payload"]["code"], "bad_end");
    }
    assert_eq!(house.job(id).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn an_order_that_is_not_accepted_in_time_is_sent_again_and_an_accepted_one_is_not() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    house.clock.advance(31);
    house.wake();
    assert_eq!(job_of(&agent.receive("command.run").await), job);
    agent.send(&json!({"type": "job.accepted", "id": "a", "payload": {"job_id": job}})).await;
    agent.settle().await;
    house.clock.advance(31);
    house.wake();
    agent.settle().await;
    assert_eq!(agent.unread("command.run"), 0);
}

#[tokio::test]
async fn an_order_that_the_next_hello_does_not_name_goes_back_to_the_queue_and_is_sent_anew() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    drop(agent);
    let mut agent = Agent::greeted(&house, &token).await;
    assert_eq!(job_of(&agent.receive("command.run").await), job);
}

#[tokio::test]
async fn a_job_that_its_agent_no_longer_knows_has_failed_with_the_truth() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    let id = house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    agent.send(&json!({"type": "job.accepted", "id": "a", "payload": {"job_id": job}})).await;
    agent.send(&json!({"type": "job.started", "id": "s", "payload": {"job_id": job, "at": "2026-11-21T08:00:00.000Z", "pid": 4}})).await;
    agent.settle().await;
    assert_eq!(house.job(id).await.status, JobStatus::Running);
    drop(agent);
    let _agent = Agent::greeted(&house, &token).await;
    let job = house.job(id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.error.unwrap().contains("no longer knows this job"));
}

#[tokio::test]
async fn welcome_tells_how_much_of_a_known_job_is_on_disk_and_leaves_out_strangers() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    agent.send(&lines(&job, 1, 4)).await;
    agent.receive("ack").await;
    drop(agent);
    let mut agent = Agent::connect(&house, &token).await.unwrap();
    let stranger = "01JD3K8ZQV5C0F8R4X7M2N9ABC";
    let known = json!([{"job_id": job, "last_seq": 9, "state": "running"}, {"job_id": stranger, "last_seq": 1, "state": "ended"}]);
    let welcome = agent.greet(known).await;
    assert_eq!(welcome["payload"]["acked"], json!({job: 4}));
}

#[tokio::test]
async fn a_cancelled_job_is_told_to_its_agent() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    let id = house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    agent.send(&json!({"type": "job.accepted", "id": "a", "payload": {"job_id": job}})).await;
    agent.settle().await;
    house.cancel(id).await;
    assert_eq!(job_of(&agent.receive("command.cancel").await), job);
}

#[tokio::test]
async fn an_agents_wrong_clock_does_not_reach_the_records() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    let mut agent = Agent::greeted(&house, &token).await;
    let id = house.order(host).await;
    let job = job_of(&agent.receive("command.run").await);
    let far = "9998-12-31T23:59:59.000Z";
    agent.send(&json!({"type": "job.started", "id": "s", "payload": {"job_id": job, "at": far}})).await;
    let mut end = finished(&job, 0);
    end["payload"]["at"] = json!("1970-01-01T00:00:00.000Z");
    agent.send(&end).await;
    agent.receive("ack").await;
    let job = house.job(id).await;
    let now: Timestamp = house.now();
    assert!(job.started_at.unwrap() <= now && job.finished_at.unwrap() <= now);
    assert!(job.finished_at.unwrap() >= job.created_at);
}

#[tokio::test]
async fn orders_carry_no_more_jobs_than_the_host_may_run_at_once() {
    let house = House::start().await;
    let (host, token) = house.host("web-1").await;
    for _ in 0..5 {
        house.order(host).await;
    }
    let mut agent = Agent::greeted(&house, &token).await;
    let first = job_of(&agent.receive("command.run").await);
    let second = job_of(&agent.receive("command.run").await);
    agent.settle().await;
    assert_eq!(agent.unread("command.run"), 0);
    agent.send(&finished(&first, 0)).await;
    let third = job_of(&agent.receive("command.run").await);
    assert!(third != first && third != second);
}
