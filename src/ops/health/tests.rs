//! Ends taken in and orders made, against a real store; agents are played by the hub's presences.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        CheckSpec, HostId, JobId, JobKind, JobStatus, Line, LineText, LockRecord, Operation, Record, RepoId, StatsMode,
        StatsSpec, Stream, Timestamp,
        alert::AlertKind,
        health::repair::Step,
        job::{Actor, End, Job, JobInput, NewJob},
        queue::QueueRules,
    },
    hub::Hub,
    ops::{OpError, jobs::Desk},
    store::{
        Append, EncodedLines, Store,
        alerts::{self, AlertFilter},
        health as kept, hosts,
        jobs::{self, JobFilter},
        repos::{self, RepoFields, SealedSecrets},
    },
};

const NOW: i64 = 1_795_248_000_000;

struct Bench {
    desk: Desk,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

fn host(n: u128) -> HostId {
    HostId::from_parts(1, n)
}

fn repo() -> RepoId {
    RepoId::from_parts(1, 1)
}

/// Hosts `db-1` and `web-1`, both online, and a repository `vault`.
async fn bench(append_only: bool) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_unix_ms(NOW));
    let hub = Hub::new();
    let store = Store::open(dir.path(), hub.clone(), clock.clone()).unwrap();
    let fill = move |tx: &mut crate::store::WriteTx<'_>| {
        let fields = RepoFields {
            name: "vault".to_owned(),
            url: "rest:http://vault:8000/".to_owned(),
            username: None,
            append_only,
            init: false,
            tls_ca_pem: None,
        };
        let secrets = SealedSecrets { sealed: vec![1], names: vec!["maintenance".to_owned()] };
        repos::insert(tx, repo(), &fields, &secrets)?;
        for (n, name) in [(1, "db-1"), (2, "web-1")] {
            let facts = hosts::Facts { hostname: name.to_owned(), ..hosts::Facts::default() };
            let host = hosts::NewHost {
                id: host(n),
                name: name.to_owned(),
                tags: Vec::new(),
                token_hash: Some(crate::credential::hash(name)),
                enrol_token: None,
                facts,
            };
            hosts::insert(tx, &host)?;
        }
        Ok::<_, crate::store::StoreError>(())
    };
    store.write(fill).await.unwrap();
    for n in [1, 2] {
        hub.arrived(host(n), 1, Timestamp::from_unix_ms(NOW));
    }
    Bench {
        desk: Desk {
            store,
            hub,
            rules: QueueRules::default(),
            vault: crate::vault::Vault::of_tests(),
            runbooks: Default::default(),
        },
        clock,
        _dir: dir,
    }
}

impl Bench {
    /// A job that ends with this summary and these records, and is taken in.
    async fn ended(
        &self,
        (n, on): (u128, u128),
        kind: JobKind,
        operation: Option<Operation>,
        status: JobStatus,
        summary: serde_json::Value,
    ) -> JobId {
        self.with_records((n, on), (kind, operation), (status, summary), &[]).await
    }

    async fn with_records(
        &self,
        (n, on): (u128, u128),
        (kind, operation): (JobKind, Option<Operation>),
        (status, summary): (JobStatus, serde_json::Value),
        records: &[Record],
    ) -> JobId {
        let id = JobId::from_parts(7, n);
        let new = NewJob {
            about: Default::default(),
            repo_id: Some(repo()),
            input: JobInput { operation, ..JobInput::default() },
            ..NewJob::bare(id, host(on), kind)
        };
        let store = &self.desk.store;
        let no = store.write(move |tx| jobs::insert(tx, &new)).await.unwrap();
        let texts: Vec<String> = records.iter().filter_map(Record::to_line).collect();
        if !texts.is_empty() {
            let line = |(seq, text): (u32, &String)| Line {
                seq,
                at: Timestamp::from_unix_ms(NOW),
                stream: Stream::Stdout,
                text: LineText(text.clone().into()),
            };
            let lines: Vec<Line<'_>> = (1..).zip(&texts).map(line).collect();
            let append = Append { job: (no, id), lines: EncodedLines::of(&lines), frame: bytes::Bytes::new() };
            store.append(append).await.unwrap().await.unwrap().unwrap();
        }
        let error = (status == JobStatus::Failed).then(|| "the repository is locked by PID 1 on db-1".to_owned());
        let end = End {
            status,
            at: crate::clock::Clock::now(self.clock.as_ref()),
            exit_code: None,
            error: error.filter(|_| summary.is_null()),
            summary: Some(summary).filter(|summary| !summary.is_null()),
            log_truncated: false,
        };
        store.write(move |tx| jobs::finish(tx, id, host(on), &end, None)).await.unwrap();
        examine(&self.desk).await.unwrap();
        id
    }

    async fn check(&self, n: u128, spec: CheckSpec, errors: u64) -> JobId {
        let status = if errors == 0 { JobStatus::Succeeded } else { JobStatus::Failed };
        let summary =
            json!({"errors": errors, "broken_packs": if errors > 0 { vec!["ab".repeat(32)] } else { vec![] }});
        self.ended((n, 1), JobKind::Check, Some(Operation::Check(spec)), status, summary).await
    }

    /// A list of locks that the host `on` made.
    async fn listed(&self, n: u128, on: u128, locks: &[LockRecord]) {
        let records: Vec<Record> = locks.iter().cloned().map(Record::Lock).collect();
        let summary = json!({"count": locks.len()});
        self.with_records((n, on), (JobKind::Locks, None), (JobStatus::Succeeded, summary), &records).await;
    }

    async fn open(&self) -> Vec<AlertKind> {
        let filter = AlertFilter { open: Some(true), ..AlertFilter::default() };
        let found = self.desk.store.read(move |db| alerts::list(db, &filter)).await.unwrap();
        found.into_iter().map(|alert| alert.notice.kind).collect()
    }

    /// Jobs that wait: kind and host.
    async fn queued(&self) -> Vec<Job> {
        let filter = JobFilter { status: Some(JobStatus::Queued), limit: 100, ..JobFilter::default() };
        self.desk.store.read(move |db| jobs::list(db, &filter)).await.unwrap()
    }

    async fn job(&self, id: JobId) -> Job {
        self.desk.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap()
    }

    fn now(&self) -> Timestamp {
        crate::clock::Clock::now(self.clock.as_ref())
    }
}

fn lock(n: u32, hostname: &str, age_s: i64, alive: Option<bool>) -> LockRecord {
    LockRecord {
        id: format!("{n:064}"),
        time: Some(Timestamp::from_unix_ms(NOW).plus_s(-age_s)),
        exclusive: true,
        hostname: hostname.to_owned(),
        username: "root".to_owned(),
        pid: 4711,
        alive,
    }
}

fn stats(mode: StatsMode) -> Option<Operation> {
    Some(Operation::Stats(StatsSpec { mode, ..StatsSpec::default() }))
}

#[tokio::test]
async fn a_measurement_of_what_is_stored_is_completed_by_what_a_restore_would_write() {
    let bench = bench(true).await;
    let raw = json!({"mode": "raw-data", "total_size": 100, "total_uncompressed_size": 150, "snapshots_count": 3, "total_blob_count": 9});
    bench.ended((1, 1), JobKind::Stats, stats(StatsMode::RawData), JobStatus::Succeeded, raw).await;
    let follow_up = bench.queued().await;
    assert_eq!((follow_up.len(), &follow_up[0].input.operation), (1, &stats(StatsMode::RestoreSize)));
    let restore = json!({"mode": "restore-size", "total_size": 600, "snapshots_count": 3});
    bench.ended((2, 1), JobKind::Stats, stats(StatsMode::RestoreSize), JobStatus::Succeeded, restore).await;
    let report = report(&bench.desk.store, repo(), bench.now()).await.unwrap().unwrap();
    assert_eq!(report.sizes.len(), 1);
    let size = report.sizes[0];
    assert_eq!((size.bytes, size.snapshots, size.compression(), size.deduplication()), (100, 3, Some(1.5), Some(4.0)));
}

#[tokio::test]
async fn an_end_is_taken_in_once() {
    let bench = bench(true).await;
    let id = bench.check(1, CheckSpec::default(), 2).await;
    assert_eq!(bench.open().await, [AlertKind::Damaged]);
    alerts_dismissed(&bench).await;
    assert_eq!(examine(&bench.desk).await.unwrap(), 0);
    assert_eq!(bench.open().await, []);
    let report = report(&bench.desk.store, repo(), bench.now()).await.unwrap().unwrap();
    assert_eq!(report.damage.map(|(job, _)| job.id), Some(id), "a person's word does not mend a repository");
}

async fn alerts_dismissed(bench: &Bench) {
    bench.desk.store.write(|tx| alerts::dismiss(tx, 1, "ada")).await.unwrap();
}

#[tokio::test]
async fn damage_in_the_data_is_settled_by_reading_all_data_and_not_by_a_look_at_the_structure() {
    let bench = bench(true).await;
    let part = CheckSpec { read_data_subset: Some("1/7".to_owned()), read_data: false };
    bench.check(1, part.clone(), 1).await;
    bench.check(2, CheckSpec::default(), 0).await;
    bench.check(3, CheckSpec { read_data_subset: Some("2/7".to_owned()), ..part }, 0).await;
    assert_eq!(bench.open().await, [AlertKind::Damaged]);
    bench.check(4, CheckSpec { read_data: true, ..CheckSpec::default() }, 0).await;
    assert_eq!(bench.open().await, []);
}

#[tokio::test]
async fn a_tamper_test_that_is_not_refused_makes_an_alert_until_one_is() {
    let bench = bench(true).await;
    let verdict = |verdict: &str, refused: bool| json!({"verdict": verdict, "tried": [{"what": "Delete the test's snapshot", "refused": refused, "said": ""}]});
    bench.ended((1, 1), JobKind::Tamper, None, JobStatus::Failed, verdict("vulnerable", false)).await;
    assert_eq!(bench.open().await, [AlertKind::NotAppendOnly]);
    bench.ended((2, 1), JobKind::Tamper, None, JobStatus::Failed, verdict("unknown", false)).await;
    assert_eq!(
        bench.open().await,
        [AlertKind::TamperFailed, AlertKind::NotAppendOnly],
        "an unknown outcome proves nothing"
    );
    bench.ended((3, 1), JobKind::Tamper, None, JobStatus::Succeeded, verdict("protected", true)).await;
    assert_eq!(bench.open().await, []);
    let report = report(&bench.desk.store, repo(), bench.now()).await.unwrap().unwrap();
    assert!(matches!(report.proof, crate::domain::health::Proof::Protected { .. }));
}

#[tokio::test]
async fn a_repository_whose_hosts_may_delete_makes_no_alert_of_it() {
    let bench = bench(false).await;
    bench
        .ended((1, 1), JobKind::Tamper, None, JobStatus::Succeeded, json!({"verdict": "vulnerable", "tried": []}))
        .await;
    assert_eq!(bench.open().await, []);
}

#[tokio::test]
async fn a_job_that_met_a_lock_has_the_locks_looked_at_once() {
    let bench = bench(true).await;
    bench.ended((1, 1), JobKind::Backup, None, JobStatus::Failed, json!(null)).await;
    bench.ended((2, 2), JobKind::Backup, None, JobStatus::Failed, json!(null)).await;
    let queued: Vec<_> = bench.queued().await.into_iter().map(|job| (job.kind, job.host_id)).collect();
    assert_eq!(queued, [(JobKind::Locks, host(1))]);
}

#[tokio::test]
async fn the_owners_host_is_asked_and_its_word_that_the_owner_is_dead_lets_the_lock_go() {
    let bench = bench(true).await;
    bench.listed(1, 2, &[lock(1, "db-1", 60, None)]).await;
    let asked = bench.queued().await;
    assert_eq!(
        asked.iter().map(|job| (job.kind.clone(), job.host_id)).collect::<Vec<_>>(),
        [(JobKind::Locks, host(1))]
    );
    assert!(
        matches!(unlock(&bench.desk, Actor::system(), repo()).await, Err(OpError::Conflict(why)) if why.contains("look again"))
    );
    bench.listed(2, 1, &[lock(1, "db-1", 60, Some(false))]).await;
    assert_eq!(bench.open().await, [AlertKind::StaleLock]);
    let ordered = bench.job(unlock(&bench.desk, Actor::system(), repo()).await.unwrap()).await;
    assert_eq!(ordered.host_id, host(1), "restic itself sees it there");
    let Some(Operation::Unlock(spec)) = ordered.input.operation else { panic!("an unlock") };
    assert_eq!(spec.proven_dead, [format!("{:064}", 1)]);
    bench.listed(3, 1, &[]).await;
    assert_eq!(bench.open().await, []);
}

#[tokio::test]
async fn a_live_owner_keeps_its_lock_and_no_other_host_can_call_it_dead() {
    let bench = bench(true).await;
    bench.listed(1, 1, &[lock(1, "db-1", 60, Some(true))]).await;
    bench.listed(2, 2, &[lock(1, "db-1", 60, Some(false))]).await;
    assert_eq!(bench.open().await, []);
    match unlock(&bench.desk, Actor::system(), repo()).await {
        Err(OpError::Conflict(why)) => assert!(why.contains("process 4711 of root on db-1 lives"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lock_that_grows_old_makes_an_alert_without_a_new_look() {
    let bench = bench(true).await;
    bench.listed(1, 2, &[lock(1, "elsewhere", 1700, None)]).await;
    assert_eq!(bench.open().await, []);
    bench.clock.advance(200);
    upkeep(&bench.desk, bench.now()).await.unwrap();
    assert_eq!(bench.open().await, [AlertKind::StaleLock]);
    assert!(unlock(&bench.desk, Actor::system(), repo()).await.is_ok());
}

#[tokio::test]
async fn two_machines_of_one_name_prove_nothing() {
    let bench = bench(true).await;
    let twin = hosts::Facts { hostname: "db-1".to_owned(), boot_id: "other".to_owned(), ..hosts::Facts::default() };
    bench.desk.store.write(move |tx| hosts::set_facts(tx, host(2), &twin)).await.unwrap();
    bench.listed(1, 1, &[lock(1, "db-1", 60, Some(false))]).await;
    assert_eq!(bench.open().await, []);
    let locks = bench.desk.store.read(|db| kept::locks::list(db, repo())).await.unwrap();
    assert_eq!((locks[0].alive, &locks[0].host), (None, &None));
}

#[tokio::test]
async fn a_repository_in_use_is_measured_and_looked_at_once_a_day_by_a_host_that_has_worked_there() {
    let bench = bench(true).await;
    bench.ended((1, 1), JobKind::Backup, None, JobStatus::Succeeded, json!({})).await;
    assert_eq!(upkeep(&bench.desk, bench.now()).await.unwrap(), 0, "it is in use for a moment only");
    bench.clock.advance(3700);
    assert_eq!(upkeep(&bench.desk, bench.now()).await.unwrap(), 2);
    assert!(bench.queued().await.iter().all(|job| job.host_id == host(1)));
    assert_eq!(upkeep(&bench.desk, bench.now()).await.unwrap(), 0, "they wait already");
}

#[tokio::test]
async fn a_repository_that_fills_up_within_a_month_makes_an_alert_until_there_is_room() {
    let bench = bench(true).await;
    let limit = |bytes: i64| {
        move |tx: &mut crate::store::WriteTx<'_>| {
            tx.db().execute("UPDATE repos SET size_limit = ?1", [bytes]).map_err(crate::store::StoreError::from)
        }
    };
    for day in 0..10u64 {
        let result = serde_json::from_value(json!({"total_size": 100 + day * 10, "snapshots_count": 1})).unwrap();
        let at = bench.now().plus_s((day as i64 - 9) * 86_400);
        bench
            .desk
            .store
            .write(move |tx| kept::add_size(tx, repo(), at, &result, JobId::from_parts(1, 1)))
            .await
            .unwrap();
    }
    bench.desk.store.write(limit(300)).await.unwrap();
    upkeep(&bench.desk, bench.now()).await.unwrap();
    assert_eq!(bench.open().await, [AlertKind::NearlyFull]);
    bench.desk.store.write(limit(3000)).await.unwrap();
    upkeep(&bench.desk, bench.now()).await.unwrap();
    assert_eq!(bench.open().await, []);
}

#[tokio::test]
async fn a_step_of_the_repair_needs_known_damage_and_is_ordered_with_what_the_check_named() {
    let bench = bench(false).await;
    let step = async |step| repair(&bench.desk, Actor::system(), repo(), step, false).await;
    assert!(matches!(step(Step::Index).await, Err(OpError::Conflict(why)) if why.contains("no known damage")));
    bench.check(1, CheckSpec::default(), 2).await;
    bench.ended((2, 1), JobKind::Backup, None, JobStatus::Succeeded, json!({})).await;
    let maintained = |tx: &mut crate::store::WriteTx<'_>| {
        let set = tx.db().execute("UPDATE repos SET maintenance_host_id = ?1", [host(1).to_string()]);
        set.map_err(crate::store::StoreError::from)
    };
    bench.desk.store.write(maintained).await.unwrap();
    let job = bench.job(step(Step::Packs).await.unwrap()).await;
    let Some(Operation::Repair(spec)) = job.input.operation else { panic!("a repair") };
    assert_eq!(spec.packs, ["ab".repeat(32)]);
    assert!(matches!(step(Step::Index).await, Err(OpError::Conflict(why)) if why.contains("already")));
}

mod copies;
