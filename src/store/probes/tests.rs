//! Answers and states in the store.

use std::sync::Arc;

use super::*;
use crate::{
    clock::ManualClock,
    hub::Hub,
    store::{
        Store,
        hosts::{self, Facts, NewHost},
    },
};

struct House {
    store: Store,
    clock: Arc<ManualClock>,
    host: HostId,
    _folder: tempfile::TempDir,
}

/// 2026-11-21 08:00 UTC.
const START: i64 = 1_795_248_000_000;

impl House {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_unix_ms(START));
        let store = Store::open(folder.path(), Hub::new(), clock.clone()).unwrap();
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
        Self { store, clock, host, _folder: folder }
    }

    async fn probe(&self, n: u64, spec: ProbeSpec) -> Probe {
        let (id, host) = (ProbeId::from_parts(n, 1), self.host);
        self.store.write(move |tx| insert(tx, id, (host, None), "site", &spec)).await.unwrap();
        self.lookup(id).await
    }

    async fn lookup(&self, id: ProbeId) -> Probe {
        self.store.read(move |db| lookup(db, id)).await.unwrap().unwrap()
    }

    async fn answer(&self, probe: &Probe, healthy: bool, latency_ms: u32) -> Option<(Probe, ProbeState)> {
        let detail = if healthy { "200 OK" } else { "nothing listens" };
        let answer = Answer { healthy, latency_ms: Some(latency_ms), detail: detail.to_owned() };
        let asked = Asked {
            no: probe.no,
            question: probe.spec.question.clone(),
            at: crate::clock::Clock::now(&*self.clock),
            answer,
        };
        self.store.write(move |tx| note(tx, &asked)).await.unwrap()
    }

    async fn due(&self) -> Vec<i64> {
        let now = crate::clock::Clock::now(&*self.clock);
        self.store.read(move |db| due(db, now, 10)).await.unwrap().into_iter().map(|probe| probe.no).collect()
    }

    async fn thin(&self) {
        let mut after = Some(0);
        while let Some(from) = after {
            after = self.store.write(move |tx| thin_step(tx, from)).await.unwrap();
        }
    }

    async fn past(&self, probe: &Probe) -> Vec<(i64, bool, Option<u32>)> {
        let no = probe.no;
        let past = self.store.read(move |db| answers(db, no, Timestamp::from_unix_ms(0), 10_000)).await.unwrap();
        past.into_iter().map(|past| (past.at.unix_ms(), past.answer.healthy, past.answer.latency_ms)).collect()
    }
}

fn tcp(address: &str) -> ProbeSpec {
    ProbeSpec::of(Question::Tcp { address: address.to_owned() })
}

#[tokio::test]
async fn a_state_changes_with_the_answer_that_changes_it_and_says_since_when() {
    let house = House::start().await;
    let probe = house.probe(1, tcp("web:80")).await;
    let mut states = Vec::new();
    for healthy in [true, true, false, true, false, false] {
        house.clock.advance(60);
        let (after, before) = house.answer(&probe, healthy, 7).await.unwrap();
        states.push((before, after.state));
    }
    use ProbeState::{Healthy, Unhealthy, Unknown};
    let expected =
        [(Unknown, Unknown), (Unknown, Healthy), (Healthy, Healthy), (Healthy, Healthy), (Healthy, Unhealthy)];
    assert_eq!(states[..5], expected);
    let now = house.lookup(probe.id).await;
    assert_eq!((now.state, now.state_at), (Unhealthy, Some(Timestamp::from_unix_ms(START + 300_000))));
    assert_eq!(
        (now.asked_at.unwrap().unix_ms(), now.latency_ms, now.detail.as_str()),
        (START + 360_000, Some(7), "nothing listens")
    );
}

#[tokio::test]
async fn a_probe_is_due_at_once_and_then_once_per_interval() {
    let house = House::start().await;
    let probe = house.probe(1, tcp("web:80")).await;
    let paused = house.probe(2, ProbeSpec { enabled: false, ..tcp("web:81") }).await;
    assert_eq!(house.due().await, [probe.no]);
    house.answer(&probe, true, 1).await;
    assert_eq!(house.due().await, [0; 0]);
    house.clock.advance(60);
    assert_eq!(house.due().await, [probe.no]);
    house.answer(&paused, false, 1).await;
    assert_eq!(house.lookup(paused.id).await.state, ProbeState::Unknown, "what is paused has no state");
    house.clock.advance(600);
    assert_eq!(house.due().await, [probe.no]);
    let id = probe.id;
    assert!(house.store.write(move |tx| remove(tx, id)).await.unwrap());
    assert_eq!(house.due().await, [0; 0]);
    assert_eq!(house.answer(&probe, true, 1).await, None, "an answer that comes late");
}

#[tokio::test]
async fn a_clock_that_is_set_back_neither_silences_a_probe_nor_turns_its_answers_around() {
    let house = House::start().await;
    let probe = house.probe(1, tcp("web:80")).await;
    house.answer(&probe, true, 1).await;
    house.answer(&probe, true, 2).await;
    house.clock.advance(-86_400);
    assert_eq!(house.due().await, [0; 0]);
    assert_eq!(house.store.write(bring_forward).await.unwrap(), 1);
    assert_eq!(house.due().await, [probe.no]);
    house.answer(&probe, false, 3).await;
    let (after, _) = house.answer(&probe, false, 4).await.unwrap();
    assert_eq!(after.state, ProbeState::Unhealthy);
    assert_eq!(
        house.past(&probe).await.iter().map(|past| past.2).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3), Some(4)]
    );
}

#[tokio::test]
async fn another_question_begins_with_no_state_and_takes_no_answer_to_the_old_one() {
    let house = House::start().await;
    let probe = house.probe(1, tcp("web:80")).await;
    house.answer(&probe, false, 1).await;
    house.answer(&probe, false, 1).await;
    let (old, spec) = (house.lookup(probe.id).await, tcp("web:81"));
    assert_eq!(old.state, ProbeState::Unhealthy);
    house.store.write(move |tx| update(tx, &old, "other", &spec)).await.unwrap();
    let now = house.lookup(probe.id).await;
    assert_eq!((now.state, now.name.as_str()), (ProbeState::Unknown, "other"));
    assert_eq!(house.answer(&probe, false, 1).await, None);
    let (after, _) = house.answer(&now, false, 1).await.unwrap();
    assert_eq!(after.state, ProbeState::Unknown, "what was answered before does not count");
    let (old, slower) = (house.lookup(probe.id).await, ProbeSpec { interval_s: 300, ..tcp("web:81") });
    house.store.write(move |tx| update(tx, &old, "other", &slower)).await.unwrap();
    let (after, _) = house.answer(&now, false, 1).await.unwrap();
    assert_eq!(after.state, ProbeState::Unhealthy, "the same question goes on");
}

#[tokio::test]
async fn of_old_answers_the_worst_of_each_hour_stays_and_of_very_old_ones_nothing() {
    let house = House::start().await;
    let probe = house.probe(1, tcp("web:80")).await;
    for (after_s, healthy, latency) in
        [(0, true, 10), (60, true, 30), (120, true, 20), (3600, true, 90), (3660, false, 5), (3720, false, 4)]
    {
        house.clock.set(Timestamp::from_unix_ms(START + after_s * 1000));
        house.answer(&probe, healthy, latency).await;
    }
    house.thin().await;
    assert_eq!(house.past(&probe).await.len(), 6, "they are young");
    house.clock.set(Timestamp::from_unix_ms(START + (ALL_DAYS * 24 + 1) * HOUR_MS));
    house.thin().await;
    let after_one_hour = house.past(&probe).await;
    assert_eq!(after_one_hour[0], (START + 60_000, true, Some(30)));
    assert_eq!(after_one_hour.len(), 4, "the second hour is young yet");
    house.clock.set(Timestamp::from_unix_ms(START + 40 * 24 * HOUR_MS));
    house.thin().await;
    let kept = [(START + 60_000, true, Some(30)), (START + 3_660_000, false, Some(5))];
    assert_eq!(house.past(&probe).await, kept);
    house.thin().await;
    assert_eq!(house.past(&probe).await, kept);
    house.clock.set(Timestamp::from_unix_ms(START + (KEPT_DAYS * 24 + 1) * HOUR_MS));
    house.thin().await;
    assert_eq!(house.past(&probe).await, kept[1..]);
    let id = probe.id;
    house.store.write(move |tx| remove(tx, id)).await.unwrap();
    house.thin().await;
    assert_eq!(house.past(&probe).await, [], "what is gone leaves nothing");
}
