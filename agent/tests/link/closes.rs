//! How connections end, and when the agent comes back: soon, slowly, or never.

use std::time::Duration;

use flotilla_agent::AgentError;
use flotilla_proto::{ErrorNotice, ServerMessage, close};
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Agent, Server, identity, soon, welcome};

/// Lets the paused clock run for `time` and tells whether the agent connected.
async fn connects_within(server: &Server, time: Duration) -> bool {
    tokio::time::advance(time).await;
    for _ in 0..200 {
        if server.listener.accept().now_or_never().is_some() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

/// Gives the agent's task the time to see what the peer did, with the clock standing still.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

async fn stays_away(server: &Server, agent: Agent, floor: Duration) {
    tokio::time::pause();
    settle().await;
    assert!(!connects_within(server, floor - Duration::from_secs(1)).await, "came back before {floor:?}");
    assert!(connects_within(server, floor + Duration::from_secs(2)).await, "did not come back at all");
    tokio::time::resume();
    agent.stop().await;
}

#[tokio::test]
async fn an_ordinary_close_brings_the_agent_back_soon() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    for code in [close::NORMAL, close::GOING_AWAY] {
        let (peer, _) = server.welcome(&[]).await;
        peer.close(code).await;
    }
    let _ = server.welcome(&[]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_replaced_agent_stays_away_for_minutes_so_that_two_do_not_take_turns() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let (peer, _) = server.welcome(&[]).await;
    peer.close(close::REPLACED).await;
    stays_away(&server, agent, Duration::from_secs(300)).await;
}

#[tokio::test]
async fn without_a_common_version_the_agent_waits_ten_minutes() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let mut peer = server.accept().await;
    peer.hello().await;
    let notice = ErrorNotice { code: "no_common_version".to_owned(), message: "update".to_owned(), regarding: None };
    peer.send(&ServerMessage::Error(notice)).await;
    peer.close(close::NO_COMMON_VERSION).await;
    stays_away(&server, agent, Duration::from_secs(600)).await;
}

#[tokio::test]
async fn a_token_that_the_server_does_not_know_is_tried_again_after_a_minute() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let mut io = server.accept_io().await.unwrap();
    let mut head = [0; 4096];
    let read = soon("the request", io.read(&mut head)).await.unwrap();
    assert!(String::from_utf8_lossy(&head[..read]).contains("Upgrade"));
    io.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
    io.shutdown().await.unwrap();
    let _ = soon("the agent's hang-up", io.read(&mut head)).await;
    stays_away(&server, agent, Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_revoked_agent_stops_for_good_and_says_so() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let (peer, _) = server.welcome(&[]).await;
    peer.close(close::REVOKED).await;
    let error = soon("the agent's end", agent.task).await.unwrap().unwrap_err();
    assert!(matches!(error, AgentError::Revoked { .. }));
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("has revoked this agent"), "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_for_three_heartbeats_is_left_for_a_new_connection() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let mut silent = server.accept().await;
    silent.hello().await;
    silent.send(&ServerMessage::Welcome(welcome(1, &[]))).await;
    let before = std::time::Instant::now();
    let _ = server.welcome(&[]).await;
    let waited = before.elapsed();
    assert!((Duration::from_millis(2900)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_server_that_echoes_heartbeats_is_kept() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let mut peer = server.accept().await;
    peer.hello().await;
    peer.send(&ServerMessage::Welcome(welcome(1, &[]))).await;
    for _ in 0..5 {
        assert_eq!(peer.any().await.kind(), "heartbeat");
        peer.send(&ServerMessage::Heartbeat(Default::default())).await;
    }
    assert!(server.listener.accept().now_or_never().is_none(), "no second connection was made");
    agent.stop().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_connection_not_the_agent() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send_text("x".repeat(2 << 20)).await;
    let _ = server.welcome(&[]).await;
    agent.stop().await;
}
