use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::{
    clock::{Clock as _, ManualClock},
    domain::{
        HostId, JobId, JobKind, JobStatus, Line, LineText, Stream,
        job::{End, NewJob},
    },
    hub::Hub,
    store::{Append, EncodedLines, hosts, jobs, logs},
};

struct House {
    _dir: tempfile::TempDir,
    store: Store,
    clock: Arc<ManualClock>,
}

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at("2026-11-21T00:00:00Z".parse().unwrap());
    let store = Store::open(dir.path(), Hub::new(), clock.clone()).unwrap();
    let host = hosts::NewHost {
        id: HostId::from_parts(1, 1),
        name: "web".to_owned(),
        tags: vec![],
        token_hash: None,
        enrol_token: None,
        facts: hosts::Facts::default(),
    };
    store.write(move |tx| hosts::insert(tx, &host)).await.unwrap();
    House { _dir: dir, store, clock }
}

impl House {
    /// A job of `lines` lines of 1,000 bytes that ended so many days ago.
    async fn job(&self, n: u128, kind: JobKind, days: i64, lines: u32) -> JobId {
        let (id, host, now) = (JobId::from_parts(2, n), HostId::from_parts(1, 1), self.clock.now());
        self.clock.set(now.plus_s(-days * DAY_S));
        let new = NewJob::bare(id, host, kind);
        let no = self.store.write(move |tx| jobs::insert(tx, &new)).await.unwrap();
        let text = "x".repeat(1000);
        for seq in 1..=lines {
            let line = Line { seq, at: now, stream: Stream::Stdout, text: LineText(text.as_str().into()) };
            let append = Append { job: (no, id), lines: EncodedLines::of(&[line]), frame: Bytes::new() };
            self.store.append(append).await.unwrap().await.unwrap().unwrap();
        }
        let end = End {
            status: JobStatus::Succeeded,
            at: self.clock.now(),
            exit_code: Some(0),
            error: None,
            summary: Some(serde_json::json!({"kept": true})),
            log_truncated: false,
        };
        self.store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
        self.clock.set(now);
        id
    }

    async fn remove(&self, config: &LogsConfig) -> u64 {
        remove(&self.store, config, self.clock.now(), &CancellationToken::new()).await.unwrap()
    }

    /// The lines that are still there, and whether the job says that they are gone.
    async fn left(&self, id: JobId) -> (usize, bool) {
        self.store
            .read(move |db| {
                let job = jobs::lookup(db, id)?.unwrap();
                assert!(job.log_lines > 0 && job.summary.is_some(), "the row stays as it was");
                Ok::<_, StoreError>((logs::page(db, job.no, 0, 10_000)?.len(), job.log_removed_at.is_some()))
            })
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_log_goes_when_its_kind_has_had_its_time_and_its_job_stays() {
    let house = house().await;
    let old_check = house.job(1, JobKind::Check, 91, 3).await;
    let new_check = house.job(2, JobKind::Check, 89, 3).await;
    let old_backup = house.job(3, JobKind::Backup, 364, 3).await;
    assert_eq!(house.remove(&LogsConfig::default()).await, 1);
    assert_eq!(house.left(old_check).await, (0, true));
    assert_eq!(house.left(new_check).await, (3, false));
    assert_eq!(house.left(old_backup).await, (3, false));
    house.clock.advance(2 * DAY_S);
    assert_eq!(house.remove(&LogsConfig::default()).await, 2);
    assert_eq!(house.left(old_backup).await, (0, true));
    assert_eq!(house.remove(&LogsConfig::default()).await, 0);
}

#[tokio::test]
async fn past_the_bound_of_bytes_the_oldest_logs_go_first_and_no_more_than_needed() {
    let house = house().await;
    let oldest = house.job(1, JobKind::Backup, 5, 4).await;
    let older = house.job(2, JobKind::Check, 4, 4).await;
    let newest = house.job(3, JobKind::Backup, 3, 4).await;
    let keep = |bytes| LogsConfig { days: None, days_by_kind: Vec::new(), bytes: Some(bytes) };
    assert_eq!(house.remove(&keep(12_000)).await, 0);
    assert_eq!(house.remove(&keep(11_000)).await, 1);
    assert_eq!(house.left(oldest).await, (0, true));
    assert_eq!(house.left(older).await, (4, false));
    assert_eq!(house.remove(&keep(1)).await, 2);
    assert_eq!(house.left(newest).await, (0, true));
}

#[tokio::test]
async fn a_log_of_many_chunks_goes_in_steps_and_a_removal_that_was_cut_off_is_finished() {
    let house = house().await;
    let job = house.job(1, JobKind::Check, 100, 200).await;
    let no = house.store.read(move |db| Ok::<_, StoreError>(jobs::route(db, job)?.unwrap().no)).await.unwrap();
    assert!(house.store.write(move |tx| retention::remove_step(tx, no)).await.unwrap(), "more is left");
    assert_eq!(house.left(job).await, (0, true), "it counts as removed from the first step on");
    let behind = house.store.read(move |db| logs::page(db, no, 150, 100)).await.unwrap();
    assert_eq!(behind.len(), 50);
    // Nothing else is due; only the one that was begun.
    let forever = LogsConfig { days: None, days_by_kind: Vec::new(), bytes: None };
    house.remove(&forever).await;
    assert_eq!(house.left(job).await, (0, true));
    assert_eq!(house.store.read(retention::under_way).await.unwrap(), None);
}
