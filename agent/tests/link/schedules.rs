//! Schedules over the wire: the set and its acknowledgement, moments and their answers, and a server that is away for a while.

use std::{path::Path, sync::Arc, time::Duration};

use flotilla_agent::{clock::ManualClock, schedule::SchedulePolicy};
use flotilla_proto::{
    AgentMessage, JobKind, JobStatus, ScheduleEntry, ScheduleFire, ScheduleFired, ScheduleId, ScheduleSet,
    ScheduledOrder, ServerMessage, Stream,
};

use super::support::{Agent, Peer, Server, ended, identity, order};

fn schedule() -> ScheduleId {
    ScheduleId::from_parts(1, 5)
}

/// Every minute.
fn set(version: u64) -> ServerMessage {
    let order = ScheduledOrder {
        kind: JobKind::Backup,
        host_label: "web-1".to_owned(),
        repo: None,
        args: vec!["/etc".to_owned()],
        plan: None,
        timeout_s: 60,
    };
    let entry = ScheduleEntry {
        schedule_id: schedule(),
        cron: "* * * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        enabled: true,
        catch_up: Default::default(),
        jitter_s: 0,
        order: Some(Box::new(order)),
    };
    ServerMessage::ScheduleSet(ScheduleSet { version, entries: vec![entry] })
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-21T12:00:30Z".parse().unwrap()))
}

/// An agent that looks at its clock all the time and waits `alone_after` for its server.
fn agent(server: &Server, folder: &Path, clock: &Arc<ManualClock>, alone_after: Duration) -> Agent {
    Agent::start_with(identity(&server.url()), Vec::new(), |options| {
        options.state_dir = folder.to_owned();
        options.clock = clock.clone();
        let (look_every, answer_within) = (Duration::from_millis(10), Duration::from_millis(100));
        options.schedules = SchedulePolicy { look_every, answer_within, alone_after, ..SchedulePolicy::default() };
    })
}

const NEVER: Duration = Duration::from_secs(3600);

impl Peer {
    async fn fire(&mut self) -> ScheduleFire {
        match self.next().await {
            AgentMessage::ScheduleFire(fire) => fire,
            other => panic!("a schedule.fire expected, not {other:?}"),
        }
    }

    async fn give(&mut self, set: &ServerMessage) {
        self.send(set).await;
        assert!(matches!(self.next().await, AgentMessage::ScheduleAck(_)));
    }

    async fn answer(&mut self, fire: &ScheduleFire) {
        self.send(&ServerMessage::ScheduleFired(ScheduleFired {
            schedule_id: fire.schedule_id,
            scheduled_at: fire.scheduled_at,
            job_id: fire.job_id,
            reason: None,
        }))
        .await;
    }
}

#[tokio::test]
async fn a_set_is_acknowledged_and_the_next_hello_names_its_version() {
    let (server, folder) = (Server::plain().await, tempfile::tempdir().unwrap());
    let agent = agent(&server, folder.path(), &clock(), NEVER);
    let (mut peer, hello) = server.welcome(&[]).await;
    assert_eq!((hello.schedule_version, hello.fires), (0, vec![]));
    peer.send(&set(3)).await;
    let AgentMessage::ScheduleAck(answer) = peer.next().await else { panic!("a schedule.ack expected") };
    assert_eq!((answer.version, answer.rejected), (3, vec![]));
    drop(peer);
    let (_peer, hello) = server.welcome(&[]).await;
    assert_eq!((hello.schedule_version, hello.fires), (3, vec![]));
    agent.stop().await;
}

#[tokio::test]
async fn a_moment_is_reported_until_it_is_answered_also_in_the_hello_of_the_next_process() {
    let (server, folder, clock) = (Server::plain().await, tempfile::tempdir().unwrap(), clock());
    let first = agent(&server, folder.path(), &clock, NEVER);
    let (mut peer, _) = server.welcome(&[]).await;
    peer.give(&set(1)).await;
    clock.advance_ms(30_000);
    let fire = peer.fire().await;
    assert_eq!((fire.schedule_id, fire.alone), (schedule(), false));
    assert_eq!(fire.scheduled_at, "2026-11-21T12:01:00Z".parse().unwrap());
    assert_eq!(peer.fire().await, fire, "again, for there was no answer");
    drop(peer);
    let (peer, hello) = server.welcome(&[]).await;
    assert_eq!(hello.fires, std::slice::from_ref(&fire));
    first.stop().await;
    drop(peer);

    let mut second = agent(&server, folder.path(), &clock, NEVER);
    let (mut peer, hello) = server.welcome(&[]).await;
    assert_eq!((hello.schedule_version, &hello.fires[..]), (1, std::slice::from_ref(&fire)));
    peer.answer(&fire).await;
    peer.send(&order(fire.job_id.unwrap())).await;
    second.order().await.finished(ended(JobStatus::Succeeded));
    peer.end().await;
    peer.ack_end(fire.job_id.unwrap(), 0).await;
    peer.leave().await;
    let (_peer, hello) = server.welcome(&[]).await;
    assert_eq!(hello.fires, []);
    second.stop().await;
}

#[tokio::test]
async fn a_backup_that_ran_while_the_server_was_away_is_named_with_its_job_and_then_tells_its_log() {
    let (server, folder, clock) = (Server::plain().await, tempfile::tempdir().unwrap(), clock());
    let mut agent = agent(&server, folder.path(), &clock, Duration::ZERO);
    let (mut peer, _) = server.welcome(&[]).await;
    peer.give(&set(1)).await;
    drop(peer);
    clock.advance_ms(30_000);
    let sink = agent.order().await;
    sink.started(Some(7));
    sink.line(Stream::Stdout, "one");
    sink.finished(ended(JobStatus::Succeeded));
    // Connections that break before their welcome take nothing away.
    for _ in 0..2 {
        server.accept().await.hello().await;
    }
    let mut peer = server.accept().await;
    let hello = peer.hello().await;
    let job_id = hello.fires[0].job_id.unwrap();
    assert_eq!((hello.fires.len(), hello.fires[0].alone, hello.jobs[0].job_id), (1, true, job_id));
    peer.send(&ServerMessage::Welcome(super::support::welcome(30, &[(job_id, 0)]))).await;
    peer.answer(&hello.fires[0]).await;
    // The server may not know that it runs already; its order runs nothing.
    peer.send(&order(job_id)).await;
    let end = peer.end().await;
    assert_eq!((end.job_id, end.last_seq), (job_id, 1));
    peer.ack_end(job_id, 1).await;
    peer.leave().await;
    let (_peer, hello) = server.welcome(&[]).await;
    assert_eq!((hello.fires, hello.jobs), (vec![], vec![]));
    assert!(agent.orders.try_recv().is_err(), "one run");
    agent.stop().await;
}

#[tokio::test]
async fn a_server_that_stays_silent_hears_that_the_job_runs_before_it_hears_from_the_job() {
    let (server, folder, clock) = (Server::plain().await, tempfile::tempdir().unwrap(), clock());
    let mut agent = agent(&server, folder.path(), &clock, Duration::from_millis(200));
    let (mut peer, _) = server.welcome(&[]).await;
    peer.give(&set(1)).await;
    clock.advance_ms(30_000);
    let sink = agent.order().await;
    sink.started(None);
    sink.finished(ended(JobStatus::Succeeded));
    let mut alone = false;
    loop {
        match peer.next().await {
            AgentMessage::ScheduleFire(fire) => alone = fire.alone,
            AgentMessage::JobStarted(_) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(alone);
    let end = peer.end().await;
    peer.ack_end(end.job_id, 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn schedules_that_cannot_be_followed_are_a_trouble_in_the_heartbeat() {
    let (server, folder) = (Server::plain().await, tempfile::tempdir().unwrap());
    let agent = agent(&server, folder.path(), &clock(), NEVER);
    let (mut peer, _) = server.welcome(&[]).await;
    let ServerMessage::ScheduleSet(mut wrong) = set(1) else { unreachable!() };
    wrong.entries[0].timezone = "Mars/Base".to_owned();
    peer.send(&ServerMessage::ScheduleSet(wrong)).await;
    let AgentMessage::ScheduleAck(answer) = peer.next().await else { panic!("a schedule.ack expected") };
    assert_eq!(answer.rejected[0].schedule_id, schedule());
    drop(peer);
    let (mut peer, _) = server.welcome(&[]).await;
    let AgentMessage::Heartbeat(beat) = peer.any().await else { panic!("a heartbeat expected") };
    assert_eq!(beat.troubles[0].code, "schedule_rejected");
    assert!(beat.troubles[0].message.contains("Mars/Base"));
    agent.stop().await;
}
