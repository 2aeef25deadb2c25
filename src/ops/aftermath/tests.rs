//! Rounds of questions behind a restart, against a port that opens and closes.

use std::{net::TcpListener, sync::Arc};

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    domain::{
        HostId, JobKind, JobStatus, ProbeId, Timestamp,
        job::{End, NewJob},
        probe::{ProbeSpec, ProbeState, Question},
    },
    store::{
        hosts::{self, Facts, NewHost},
        jobs,
    },
};

struct House {
    waiter: Waiter,
    clock: Arc<ManualClock>,
    host: HostId,
    _folder: tempfile::TempDir,
}

impl House {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
        let hub = Hub::new();
        let store = Store::open(folder.path(), hub.clone(), clock.clone()).unwrap();
        let host = HostId::from_parts(1, 1);
        let new = NewHost {
            id: host,
            name: "web".to_owned(),
            tags: Vec::new(),
            token_hash: None,
            enrol_token: None,
            facts: Facts::default(),
        };
        store.write(move |tx| hosts::insert(tx, &new).map(drop)).await.unwrap();
        let waiter = Waiter { store, hub, clock: clock.clone(), prober: Prober::new(), tasks: Tasks::new() };
        Self { waiter, clock, host, _folder: folder }
    }

    /// A probe of this port.
    async fn probe(&self, name: &'static str, port: u16) -> ProbeId {
        let (id, host) = (ProbeId::from_parts(port.into(), 1), self.host);
        let spec = ProbeSpec::of(Question::Tcp { address: format!("127.0.0.1:{port}") });
        self.waiter.store.write(move |tx| probes::insert(tx, id, (host, None), name, &spec)).await.unwrap();
        id
    }

    /// A job of a kind that ended so.
    async fn ended(&self, kind: &str, status: JobStatus) -> JobId {
        let id = JobId::from_parts(1, 1);
        let new = NewJob::bare(id, self.host, kind.parse::<JobKind>().unwrap());
        let (host, at) = (self.host, self.clock.now());
        let end = End { status, at, exit_code: Some(0), error: None, summary: None, log_truncated: false };
        self.waiter
            .store
            .write(move |tx| {
                jobs::insert(tx, &new)?;
                jobs::finish(tx, id, host, &end, None).map(drop)
            })
            .await
            .unwrap();
        id
    }

    async fn waited_for(&self) -> Vec<Waiting> {
        self.waiter.store.read(kept::waiting).await.unwrap()
    }

    /// One round; whether it was the last.
    async fn round(&self) -> bool {
        let waiting = self.waited_for().await[0];
        self.waiter.round(waiting).await.unwrap()
    }

    async fn words(&self, job: JobId) -> String {
        let job = self.waiter.store.read(move |db| jobs::lookup(db, job)).await.unwrap().unwrap();
        job.aftermath.map_or_else(String::new, |aftermath| aftermath.words())
    }
}

/// A port where nothing listens.
fn closed() -> u16 {
    open(0).local_addr().unwrap().port()
}

fn open(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).unwrap()
}

#[tokio::test]
async fn a_restart_is_waited_for_until_all_probes_are_healthy() {
    let house = House::start().await;
    let (port, up) = (closed(), open(0));
    house.probe("shop", port).await;
    house.probe("database", up.local_addr().unwrap().port()).await;
    let job = house.ended("restart", JobStatus::Succeeded).await;
    assert_eq!(house.words(job).await, "restarted; waiting for its health");
    assert!(!house.round().await, "one of the two is down");
    house.clock.advance(4);
    let back = open(port);
    assert!(house.round().await);
    assert_eq!(house.words(job).await, "restarted and healthy after 4 s");
    assert_eq!(house.waited_for().await, []);
    drop((up, back));
}

#[tokio::test]
async fn what_was_answered_before_the_restart_counts_for_nothing() {
    let house = House::start().await;
    let port = closed();
    let id = house.probe("shop", port).await;
    let store = &house.waiter.store;
    let probe = store.read(move |db| probes::lookup(db, id)).await.unwrap().unwrap();
    let (no, question, at) = (probe.no, probe.spec.question, house.clock.now());
    let answer = Answer { healthy: true, latency_ms: Some(1), detail: "connected".to_owned() };
    let good = Asked { no, question, at, answer };
    store.write(move |tx| watch::record(tx, &[good.clone(), good])).await.unwrap();
    let state = store.read(move |db| probes::lookup(db, id)).await.unwrap().unwrap().state;
    assert_eq!(state, ProbeState::Healthy);
    house.ended("restart", JobStatus::Succeeded).await;
    assert!(!house.round().await);
}

#[tokio::test]
async fn after_the_deadline_it_is_said_which_are_not_healthy_and_why() {
    let house = House::start().await;
    let (down, up) = (closed(), open(0));
    house.probe("shop", down).await;
    house.probe("database", up.local_addr().unwrap().port()).await;
    let job = house.ended("restart", JobStatus::Warning).await;
    house.clock.advance(59);
    assert!(!house.round().await);
    house.clock.advance(1);
    assert!(house.round().await);
    let words = house.words(job).await;
    assert!(
        words.starts_with(&format!("restarted, not healthy: shop: nothing listens at 127.0.0.1:{down}")),
        "{words}"
    );
    assert!(!words.contains("database"), "{words}");
}

#[tokio::test]
async fn a_server_that_was_away_past_the_deadline_asks_once_more_before_it_judges() {
    let house = House::start().await;
    let up = open(0);
    house.probe("shop", up.local_addr().unwrap().port()).await;
    let job = house.ended("restart", JobStatus::Succeeded).await;
    house.clock.advance(300);
    assert!(house.round().await);
    assert_eq!(house.words(job).await, "restarted and healthy after 300 s");
}

#[tokio::test]
async fn without_a_probe_it_is_said_that_nothing_was_asked_and_what_failed_is_not_waited_for() {
    let house = House::start().await;
    let job = house.ended("restart", JobStatus::Succeeded).await;
    assert!(house.round().await);
    assert_eq!(house.words(job).await, "restarted (no health probe to ask)");
    for (kind, status) in
        [("restart", JobStatus::Failed), ("restart", JobStatus::Cancelled), ("check_status", JobStatus::Succeeded)]
    {
        let house = House::start().await;
        house.probe("shop", 1).await;
        house.ended(kind, status).await;
        assert_eq!(house.waited_for().await, [], "{kind} {status}");
    }
}
