//! Orders, lines, acknowledgements, and what happens to them when the connection is cut.

use flotilla_agent::outbox::OutboxLimits;
use flotilla_proto::{
    AgentMessage, CommandCancel, ConfigUpdate, JobId, JobStatus, KnownJobState, Limits, PROTOCOL, ServerMessage, Stream,
};

use super::support::{Agent, Server, ended, identity, job, order};

#[tokio::test]
async fn the_first_frame_is_a_hello_that_says_who_speaks_and_the_second_a_heartbeat() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let (mut peer, hello) = server.welcome(&[]).await;
    assert_eq!(hello.protocol, PROTOCOL);
    assert_eq!((hello.hostname.as_str(), hello.restic_version.as_deref()), ("web-1", Some("0.18.0")));
    assert_eq!(hello.capabilities, ["restic", "schedules"]);
    assert!(hello.jobs.is_empty());
    let AgentMessage::Heartbeat(beat) = peer.any().await else { panic!("a heartbeat expected") };
    assert!(beat.disk.contains_key("/"));
    drop(peer);
    agent.stop().await;
}

#[tokio::test]
async fn an_order_is_accepted_reported_line_by_line_and_ended_and_a_repeated_one_runs_nothing_twice() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    assert!(matches!(peer.next().await, AgentMessage::JobAccepted(a) if a.job_id == job(1)));
    peer.send(&order(job(1))).await;
    assert!(matches!(peer.next().await, AgentMessage::JobAccepted(a) if a.job_id == job(1)), "accepted again");
    sink.started(Some(7));
    sink.line(Stream::Stdout, "one");
    sink.line(Stream::System, "two");
    sink.finished(ended(JobStatus::Succeeded));
    assert!(matches!(peer.next().await, AgentMessage::JobStarted(s) if s.pid == Some(7)));
    assert_eq!(peer.lines_up_to(2).await, [(1, "one".to_owned()), (2, "two".to_owned())]);
    let end = peer.end().await;
    assert_eq!((end.status, end.last_seq), (JobStatus::Succeeded, 2));
    peer.ack_end(job(1), 2).await;
    peer.send(&order(job(1))).await;
    assert!(matches!(peer.next().await, AgentMessage::JobAccepted(_)), "also after its end was delivered");
    assert!(agent.orders.try_recv().is_err());
    agent.stop().await;
}

#[tokio::test]
async fn after_a_cut_connection_lines_come_again_from_the_last_ack_on_without_gap_or_repeat() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    let mut stored: Vec<(u32, String)> = Vec::new();
    let mut written = 0;
    for round in 0..5_u32 {
        for _ in 0..500 {
            written += 1;
            sink.line(Stream::Stdout, &format!("line {written}"));
        }
        // The server stores a part of what it got, acknowledges less, and dies.
        let got = peer.lines_up_to(written).await;
        let first = stored.len() as u32 + 1;
        assert_eq!(got[0].0, first, "exactly the first line that the server does not have");
        let kept = got.len() - (round as usize * 37 + 11);
        stored.extend(got.into_iter().take(kept));
        peer.ack(job(1), stored.len() as u32 - 5).await;
        drop(peer);
        let hello;
        (peer, hello) = server.welcome(&[(job(1), stored.len() as u32)]).await;
        assert_eq!((hello.jobs[0].job_id, hello.jobs[0].state), (job(1), KnownJobState::Running));
        assert_eq!(hello.jobs[0].last_seq, written);
    }
    sink.finished(ended(JobStatus::Succeeded));
    stored.extend(peer.lines_up_to(written).await);
    assert_eq!(peer.end().await.last_seq, written);
    for (n, (seq, text)) in (1..).zip(&stored) {
        assert_eq!((*seq, text.as_str()), (n, format!("line {n}").as_str()));
    }
    peer.ack_end(job(1), written).await;
    peer.leave().await;
    let (_peer, hello) = server.welcome(&[]).await;
    assert!(hello.jobs.is_empty(), "a delivered job is forgotten");
    agent.stop().await;
}

#[tokio::test]
async fn an_end_that_was_not_acknowledged_comes_again_after_a_reconnect() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    sink.line(Stream::Stdout, "only");
    sink.finished(ended(JobStatus::Warning));
    peer.end().await;
    drop(peer);
    let (mut peer, hello) = server.welcome(&[(job(1), 1)]).await;
    assert_eq!(hello.jobs[0].state, KnownJobState::Ended);
    let end = peer.end().await;
    assert_eq!((end.status, end.last_seq), (JobStatus::Warning, 1));
    peer.ack_end(job(1), 1).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_gap_answer_makes_the_agent_go_back() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    (1..=6).for_each(|n| sink.line(Stream::Stdout, &n.to_string()));
    peer.lines_up_to(6).await;
    peer.ack(job(1), 4).await;
    peer.ack(job(1), 4).await;
    assert_eq!(peer.lines_up_to(6).await, [(5, "5".to_owned()), (6, "6".to_owned())]);
    agent.stop_with_end(&mut peer, 6).await;
}

#[tokio::test]
async fn a_server_that_does_not_read_slows_the_log_but_not_the_agents_ears() {
    let server = Server::plain().await;
    // A frame for every line, and no window: the socket alone holds them back.
    let limits = OutboxLimits { window_bytes: usize::MAX, batch_bytes: 1, ..OutboxLimits::default() };
    let mut agent = Agent::start_with(identity(&server.url()), Vec::new(), |options| options.outbox = limits);
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    let text = "x".repeat(5_000);
    // More than the sockets' buffers hold.
    (0..4000).for_each(|_| sink.line(Stream::Stdout, &text));
    peer.send(&order(job(2))).await;
    let second = agent.order().await;
    second.finished(ended(JobStatus::Succeeded));
    sink.finished(ended(JobStatus::Succeeded));
    // What the socket could not take stayed in the outbox, where jobs take turns.
    let ends = [peer.end().await, peer.end().await].map(|end| (end.job_id, end.last_seq));
    assert_eq!(ends, [(job(2), 0), (job(1), 4000)]);
    peer.ack_end(job(1), 4000).await;
    peer.ack_end(job(2), 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_job_is_cancelled_and_an_unknown_one_is_answered() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    agent.order().await;
    let cancel = |job_id: JobId| ServerMessage::CommandCancel(CommandCancel { job_id });
    peer.send(&cancel(job(9))).await;
    assert!(matches!(peer.next().await, AgentMessage::JobAccepted(_)));
    let AgentMessage::Error(notice) = peer.next().await else { panic!("an error expected") };
    assert_eq!((notice.code.as_str(), notice.regarding.as_deref()), ("unknown_job", Some("s1")));
    peer.send(&cancel(job(1))).await;
    assert_eq!(peer.end().await.status, JobStatus::Cancelled);
    peer.ack_end(job(1), 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn limits_reach_the_runner_and_unknown_types_are_ignored() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send_text(r#"{"type":"future.thing","id":"1","payload":{"a":[1]}}"#).await;
    let limits = Limits { concurrent_jobs: 9 };
    peer.send(&ServerMessage::ConfigUpdate(Box::new(ConfigUpdate { limits: limits.clone(), ..Default::default() })))
        .await;
    peer.send(&order(job(1))).await;
    agent.order().await.finished(ended(JobStatus::Succeeded));
    assert_eq!(*agent.runner.limits.lock().unwrap(), Some(limits));
    peer.end().await;
    peer.ack_end(job(1), 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_frame_that_makes_no_sense_is_answered_and_the_third_closes_with_1008() {
    let server = Server::plain().await;
    let agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send_text("{not json").await;
    let AgentMessage::Error(notice) = peer.next().await else { panic!("an error expected") };
    assert_eq!((notice.code.as_str(), notice.regarding), ("bad_frame", None));
    peer.send_text(r#"{"type":"ack","id":"x7","payload":{"job_id":3}}"#).await;
    let AgentMessage::Error(notice) = peer.next().await else { panic!("an error expected") };
    assert_eq!(notice.regarding.as_deref(), Some("x7"));
    peer.send_text("[]").await;
    assert_eq!(peer.closed_with().await, 1008);
    let _ = server.welcome(&[]).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_job_that_an_earlier_process_left_behind_ends_as_failed_and_is_forgotten_once_that_is_stored() {
    let server = Server::plain().await;
    let agent = Agent::start_with(identity(&server.url()), vec![job(1), job(2)], |_| {});
    let (mut peer, hello) = server.welcome(&[(job(1), 40)]).await;
    assert_eq!(hello.jobs.len(), 2);
    assert!(hello.jobs.iter().all(|known| known.state == KnownJobState::Ended));
    let lines = peer.lines_up_to(41).await;
    assert_eq!(lines.len(), 1);
    assert!(lines[0].1.contains("the agent restarted while the job ran"));
    let end = peer.end().await;
    assert_eq!((end.job_id, end.status, end.last_seq), (job(1), JobStatus::Failed, 41));
    assert_eq!(*agent.runner.leftovers.lock().unwrap(), [job(1)], "the one that the server does not know is gone");
    peer.ack_end(job(1), 41).await;
    peer.send(&order(job(5))).await;
    assert!(matches!(peer.next().await, AgentMessage::JobAccepted(_)));
    assert!(agent.runner.leftovers.lock().unwrap().is_empty());
    agent.stop_with_end(&mut peer, 0).await;
}

#[tokio::test]
async fn a_heartbeat_tells_what_is_wrong_with_the_spool() {
    let server = Server::plain().await;
    let state_dir = tempfile::tempdir().unwrap();
    let folder = state_dir.path().join("jobs").join(job(1).to_string());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("0000000001.spool"), "no segment at all").unwrap();
    let agent =
        Agent::start_with(identity(&server.url()), Vec::new(), |options| options.state_dir = state_dir.path().into());
    let (mut peer, hello) = server.welcome(&[(job(1), 5)]).await;
    assert_eq!(hello.jobs[0].state, KnownJobState::Ended);
    // The heartbeat and the log go their own ways: whichever comes first.
    let (mut beat, mut lines, mut end) = (None, Vec::new(), None);
    while beat.is_none() || end.is_none() {
        match peer.any().await {
            AgentMessage::Heartbeat(message) => beat = beat.or(Some(message)),
            AgentMessage::LogStream(message) => lines.extend(message.lines),
            AgentMessage::JobFinished(message) => end = Some(message),
            other => panic!("unexpected {other:?}"),
        }
    }
    let (beat, end) = (beat.unwrap(), end.unwrap());
    assert_eq!(beat.troubles[0].code, "spool_torn");
    assert!(beat.troubles[0].message.contains("0000000001.spool: its beginning is damaged"), "{:?}", beat.troubles);
    assert!(lines[0].text.0.contains("its beginning is damaged"), "{lines:?}");
    assert_eq!((end.status, end.last_seq), (JobStatus::Failed, 6));
    peer.ack_end(job(1), 6).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_leaves_its_jobs_logs_to_the_next_process() {
    let server = Server::plain().await;
    let state_dir = tempfile::tempdir().unwrap();
    let mut agent =
        Agent::start_with(identity(&server.url()), Vec::new(), |options| options.state_dir = state_dir.path().into());
    let (mut peer, _) = server.welcome(&[]).await;
    for n in 1..=2 {
        peer.send(&order(job(n))).await;
        let sink = agent.order().await;
        sink.line(Stream::Stdout, "first");
        sink.line(Stream::Stdout, "second");
        if n == 1 {
            sink.finished(ended(JobStatus::Warning));
            peer.end().await;
        } else {
            peer.lines_up_to(2).await;
        }
    }
    agent.task.abort();
    drop(peer);

    let agent = Agent::start_with(identity(&server.url()), vec![job(1)], |options| {
        options.state_dir = state_dir.path().into();
    });
    let (mut peer, hello) = server.welcome(&[(job(1), 1), (job(2), 2)]).await;
    assert_eq!(hello.jobs.len(), 2);
    let AgentMessage::LogStream(lines) = peer.next().await else { panic!("what the server lacks comes first") };
    assert_eq!((lines.job_id, lines.lines[0].seq, &*lines.lines[0].text.0), (job(1), 2, "second"));
    let mut ends = [peer.end().await, peer.end().await];
    ends.sort_by_key(|end| end.job_id);
    assert_eq!((ends[0].status, ends[0].last_seq), (JobStatus::Warning, 2));
    assert_eq!((ends[1].status, ends[1].last_seq), (JobStatus::Failed, 2), "nobody knows more of the second job");
    peer.ack_end(job(1), 2).await;
    peer.ack_end(job(2), 2).await;
    agent.stop().await;
    assert_eq!(state_dir.path().join("jobs").read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_stopping_agent_takes_no_orders_delivers_what_its_jobs_said_last_and_says_goodbye() {
    let server = Server::plain().await;
    let mut agent = Agent::start(identity(&server.url()));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.send(&order(job(1))).await;
    let sink = agent.order().await;
    sink.line(Stream::Stdout, "last words");
    agent.shutdown.cancel();
    let end = peer.end().await;
    assert_eq!((end.status, end.last_seq), (JobStatus::Cancelled, 1));
    peer.send(&order(job(2))).await;
    let AgentMessage::Error(notice) = peer.next().await else { panic!("an error expected") };
    assert_eq!(notice.code, "draining");
    assert!(!agent.task.is_finished(), "the end is not on the server's disk yet");
    peer.ack_end(job(1), 1).await;
    assert_eq!(peer.closed_with().await, 1000);
    agent.stop().await;
}

impl Agent {
    /// Stops an agent whose one job still runs.
    async fn stop_with_end(self, peer: &mut super::support::Peer, last_seq: u32) {
        self.shutdown.cancel();
        let end = peer.end().await;
        assert_eq!(end.last_seq, last_seq);
        peer.ack_end(end.job_id, last_seq).await;
        self.stop().await;
    }
}
