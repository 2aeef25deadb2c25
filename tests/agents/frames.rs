//! Frames that are wrong, in form or in what they say.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    house::{
        api::assert_whole,
        raw_agent::{RawAgent, enrol, line, lines},
        viewer::Viewer,
    },
    running, server,
};

#[tokio::test]
async fn a_frame_that_does_not_parse_is_answered_and_the_third_ends_the_link() {
    let server = server().await;
    let (mut agent, host, job) = running(&server, "web").await;
    let bad_line = json!({"type": "log.stream", "id": "my-id", "payload": {"job_id": job, "lines": [line(1, "a\nb")]}});
    agent.text(&bad_line.to_string()).await;
    let error = agent.hears("error").await;
    assert_eq!((error["code"].as_str(), error["regarding"].as_str()), (Some("bad_frame"), Some("my-id")));
    assert!(error["message"].as_str().unwrap().contains("line break"), "{error}");
    agent.text("{\"type\":\"log.stream\",\"id\":\"x\",\"payload\":{\"job_id\":\"").await;
    assert_eq!(agent.hears("error").await["code"], "bad_frame");
    agent.is_fine().await;
    agent.send(Message::binary(vec![1_u8, 2, 3])).await;
    assert!(agent.hears("error").await["message"].as_str().unwrap().contains("binary"));
    assert_eq!(agent.closed().await, 1008);
    assert_eq!(server.api.job(&job).await["log_lines"], 0);
    // The agent itself is welcome again.
    let known = json!([{"job_id": job, "last_seq": 0, "state": "running"}]);
    RawAgent::connect(&server.running.url, &host.token, known).await.0.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_of_two_mebibytes_closes_the_link() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let huge = json!({"type": "error", "id": "", "payload": {"code": "x", "message": "y".repeat(2 << 20)}});
    // The server closes before it has read all: the send itself may find that out.
    futures_util::SinkExt::send(&mut agent.0, Message::text(huge.to_string())).await.ok();
    assert_eq!(agent.closed().await, 1009);
    server.stop().await;
}

#[tokio::test]
async fn a_frame_of_almost_a_mebibyte_is_taken() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    let texts = (1..=31).map(|seq| line(seq, &"z".repeat(32 * 1024))).collect();
    agent.lines(&job, texts).await;
    assert_eq!(agent.hears("ack").await["seq"], 31);
    server.stop().await;
}

#[tokio::test]
async fn jobs_of_other_hosts_and_jobs_that_do_not_exist_get_one_answer_and_nothing_is_stored() {
    let server = server().await;
    let (mut owner, _, job) = running(&server, "owner").await;
    let stranger = enrol(&server.api, "stranger").await;
    let (mut stranger, _) = RawAgent::connect(&server.running.url, &stranger.token, json!([])).await;
    let unknown = "01JD3K8ZQV5C0F8R4X7M2N9ABC";
    let mut answers = Vec::new();
    for id in [job.as_str(), unknown] {
        let mut said = Vec::new();
        stranger.lines(id, lines(1, 3)).await;
        said.push(stranger.hears("error").await.to_string());
        stranger.say("job.progress", json!({"job_id": id, "percent": 99.0})).await;
        said.push(stranger.hears("error").await.to_string());
        stranger.finished(id, 0).await;
        said.push(stranger.hears("error").await.to_string());
        stranger.started(id).await;
        stranger.is_fine().await;
        answers.push(said.iter().map(|text| text.replace(id, "ID")).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0][0].contains("unknown_job"), "{answers:?}");
    let left_alone = server.api.job(&job).await;
    assert_eq!((left_alone["status"].as_str(), &left_alone["log_lines"]), (Some("running"), &json!(0)));
    assert_eq!(left_alone["progress"], Value::Null);
    // Nor does a stranger learn of it by its hello.
    let known = json!([{"job_id": job, "last_seq": 5, "state": "running"}]);
    let other = enrol(&server.api, "other").await;
    let (_, welcome) = RawAgent::connect(&server.running.url, &other.token, known).await;
    assert_eq!(welcome["acked"], json!({}));
    owner.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn a_gap_is_answered_with_the_last_good_line_and_a_repeat_is_stored_once() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    let watching = Viewer::open(&server.api, &server.running.url, &job, 0).await;
    let mut say = async |first, last, acked: u64| {
        agent.lines(&job, lines(first, last)).await;
        assert_eq!(agent.hears("ack").await, json!({"job_id": job, "seq": acked}), "after {first}..={last}");
    };
    say(1, 3, 3).await;
    say(5, 6, 3).await;
    say(2, 5, 5).await;
    say(1, 5, 5).await;
    say(7, 7, 5).await;
    say(6, 8, 8).await;
    agent.finished(&job, 8).await;
    assert_eq!(agent.hears("ack").await, json!({"job_id": job, "seq": 8, "finished": true}));
    let stored = server.api.log(&job, 3).await;
    assert_eq!(stored.len(), 8);
    assert_whole(&stored);
    for (line, n) in stored.iter().zip(1..) {
        assert_eq!(line["text"], format!("line {n}"));
    }
    let seen = watching.read_all().await;
    assert_whole(&seen.lines);
    assert_eq!((seen.lines.len(), seen.gaps.len()), (8, 0));
    server.stop().await;
}

#[tokio::test]
async fn an_end_that_comes_before_its_lines_waits_for_them() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    agent.lines(&job, lines(1, 2)).await;
    assert_eq!(agent.hears("ack").await["seq"], 2);
    agent.finished(&job, 4).await;
    assert_eq!(agent.hears("ack").await, json!({"job_id": job, "seq": 2}));
    assert_eq!(server.api.job(&job).await["status"], "running");
    agent.lines(&job, lines(3, 4)).await;
    assert_eq!(agent.hears("ack").await["seq"], 4);
    agent.finished(&job, 4).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    assert_eq!(server.api.job(&job).await["status"], "succeeded");
    server.stop().await;
}

#[tokio::test]
async fn nothing_that_comes_after_the_end_changes_it() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    agent.lines(&job, lines(1, 2)).await;
    agent.hears("ack").await;
    agent.finished(&job, 2).await;
    agent.hears("ack").await;
    let before = server.api.job(&job).await;
    agent.lines(&job, lines(3, 9)).await;
    assert_eq!(agent.hears("ack").await, json!({"job_id": job, "seq": 2, "finished": true}));
    agent.started(&job).await;
    let other_end = json!({"job_id": job, "last_seq": 2, "at": "2026-11-21T09:00:00.000Z", "status": "failed", "exit_code": 1, "error": "no"});
    agent.say("job.finished", other_end).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    agent.say("job.progress", json!({"job_id": job, "percent": 1.0})).await;
    agent.is_fine().await;
    assert_eq!(server.api.job(&job).await, before);
    assert_eq!(server.api.log(&job, 100).await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn an_end_that_is_none_is_refused() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    for status in ["running", "queued", "lost"] {
        let end = json!({"job_id": job, "last_seq": 0, "at": "2026-11-21T09:00:00.000Z", "status": status});
        agent.say("job.finished", end).await;
        assert_eq!(agent.hears("error").await["code"], "bad_end", "{status}");
    }
    assert_eq!(server.api.job(&job).await["status"], "running");
    server.stop().await;
}

#[tokio::test]
async fn types_and_fields_of_a_newer_agent_are_ignored_and_a_heartbeat_is_echoed() {
    let server = server().await;
    let (mut agent, _, job) = running(&server, "web").await;
    agent.say("job.mood", json!({"job_id": job, "mood": "fine"})).await;
    agent.say("heartbeat", json!({"load": [0.1, 0.2, 0.3], "temperature": 40})).await;
    assert_eq!(agent.hears("heartbeat").await, json!({}));
    let mut said = line(1, "one");
    said["colour"] = json!("red");
    agent.lines(&job, vec![said]).await;
    assert_eq!(agent.hears("ack").await["seq"], 1);
    // A second hello is refused, and that is all.
    agent.say("hello", crate::house::raw_agent::hello(&json!([]))).await;
    assert_eq!(agent.hears("error").await["code"], "unexpected_hello");
    agent.is_fine().await;
    server.stop().await;
}
