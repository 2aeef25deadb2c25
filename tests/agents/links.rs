//! Who may come in, and how a link ends.

use std::{collections::HashSet, time::Duration};

use flotilla::{clock::ManualClock, fleet::FleetOptions};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    house::{
        Local,
        raw_agent::{RawAgent, application, enrol, hello},
        system_clock,
        viewer::open,
    },
    server,
};

#[tokio::test]
async fn an_enrolment_token_that_is_wrong_used_up_or_expired_gets_one_and_the_same_answer() {
    let clock = ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap());
    let server = Local::start(clock.clone(), FleetOptions::default()).await;
    let make = async |ttl: u64| {
        let made = server.api.post("/api/enrollment-tokens", json!({"ttl_seconds": ttl})).await.must(201);
        made["token"].as_str().unwrap().to_owned()
    };
    let (used, expired) = (make(3600).await, make(60).await);
    server.api.post("/api/enroll", application(&used, "web")).await.must(201);
    clock.advance(61);
    let mut answers = HashSet::new();
    for token in [used.as_str(), &expired, "flo_enrol_nonsense", ""] {
        let answer = server.api.post("/api/enroll", application(token, "intruder")).await;
        assert_eq!(answer.status, 401);
        assert!(answer.body["detail"].as_str().unwrap().contains("make a new one"), "{}", answer.body);
        answers.insert(answer.body.to_string());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(server.api.get("/api/hosts").await["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_without_a_good_token_is_refused_before_the_upgrade() {
    let server = server().await;
    for token in ["", "nonsense", &server.api.token] {
        assert_eq!(open(&server.running.url, "/agent/ws", token).await.err(), Some(401));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_second_connection_with_the_same_identity_replaces_the_first() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let (first, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let (mut second, welcome) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    assert_eq!(welcome["host_id"], host.host_id);
    assert_eq!(first.closed().await, 4001);
    second.is_fine().await;
    server.api.host_in_state(&host.host_id, "online").await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_agent_is_sent_away_now_and_whenever_it_comes_back() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let other = enrol(&server.api, "db").await;
    let (agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let (mut bystander, _) = RawAgent::connect(&server.running.url, &other.token, json!([])).await;
    assert_eq!(server.api.post(&format!("/api/hosts/{}/revoke", host.host_id), Value::Null).await.status, 200);
    assert_eq!(agent.closed().await, 4003);
    assert_eq!(RawAgent::silent(&server.running.url, &host.token).await.closed().await, 4003);
    bystander.is_fine().await;
    // A host that was removed is a stranger.
    let path = format!("/api/hosts/{}", other.host_id);
    assert_eq!(server.api.ask(Method::DELETE, &path, None).await.status, 204);
    assert_eq!(bystander.closed().await, 4003);
    let back = open(&server.running.url, "/agent/ws", &other.token).await;
    match back {
        Ok(socket) => assert_eq!(RawAgent(socket).closed().await, 4003),
        Err(status) => assert_eq!(status, 401),
    }
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_begin_with_hello_in_time_is_closed() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let url = &server.running.url;
    // It waits for its deadline while the others are tried.
    let silent = RawAgent::silent(url, &host.token).await;
    for first in [
        Message::text(json!({"type": "heartbeat", "id": "1", "payload": {}}).to_string()),
        Message::text("{\"type\": \"hello\", \"id\": \"1\", \"payl"),
        Message::text(json!({"type": "hello", "id": "1", "payload": {"protocol": 1}}).to_string()),
        Message::text(json!({"type": "no.such.type", "id": "1", "payload": {}}).to_string()),
        Message::binary(vec![0_u8; 8]),
    ] {
        let mut agent = RawAgent::silent(url, &host.token).await;
        agent.send(first.clone()).await;
        assert_eq!(agent.closed().await, 1008, "{first:?}");
    }
    assert_eq!(silent.closed().await, 1008);
    assert_eq!(server.api.get(&format!("/api/hosts/{}", host.host_id)).await["status"], "never");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_without_a_common_version_is_told_which_side_to_update() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let mut agent = RawAgent::silent(&server.running.url, &host.token).await;
    let mut newer = hello(&json!([]));
    newer["protocol"] = json!({"min": 7, "max": 9});
    agent.say("hello", newer).await;
    let error = agent.hears("error").await;
    assert_eq!(error["code"], "no_common_version");
    assert!(error["message"].as_str().unwrap().contains("update"), "{error}");
    assert_eq!(agent.closed().await, 4002);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_falls_silent_is_taken_for_dead_and_one_that_beats_is_not() {
    let options = FleetOptions { heartbeat: Duration::from_millis(700), ..FleetOptions::default() };
    let server = Local::start(system_clock(), options).await;
    let (dead, alive) = (enrol(&server.api, "dead").await, enrol(&server.api, "alive").await);
    let (silent, welcome) = RawAgent::connect(&server.running.url, &dead.token, json!([])).await;
    assert_eq!(welcome["heartbeat_s"], 1);
    let (mut beating, _) = RawAgent::connect(&server.running.url, &alive.token, json!([])).await;
    let beat = async {
        loop {
            beating.is_fine().await;
        }
    };
    let watch = async {
        assert_eq!(silent.closed().await, 1001);
        server.api.host_in_state(&dead.host_id, "offline").await;
        server.api.host_in_state(&alive.host_id, "online").await;
    };
    tokio::select! {
        () = watch => {}
        () = beat => {}
    }
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_leaves_at_once_was_here() {
    let server = server().await;
    let host = enrol(&server.api, "web").await;
    let path = format!("/api/hosts/{}", host.host_id);
    assert_eq!(server.api.get(&path).await["status"], "never");
    let (agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    server.api.host_in_state(&host.host_id, "online").await;
    drop(agent);
    server.api.host_in_state(&host.host_id, "offline").await;
    assert!(server.api.get(&path).await["last_seen_at"].is_string());
    server.stop().await;
}
