//! What the store promises: logs are whole, transitions are guarded, a failing command takes nobody along, an answer means on disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;

use bytes::Bytes;
use flotilla::{
    clock::{Clock, ManualClock, SystemClock},
    domain::{
        HostId, JobId, JobKind, JobStatus, Line, LineText, Stream, Timestamp,
        event::{Event, LiveFrame},
        job::{Actor, End, JobInput, JobNo, NewJob},
        queue::Stage,
    },
    hub::{Delivery, Hub},
    store::{Append, Appended, EncodedLines, Store, StoreError, hosts, jobs, logs},
};
use tokio_util::sync::CancellationToken;

struct House {
    _dir: tempfile::TempDir,
    store: Store,
    hub: Hub,
    clock: Arc<ManualClock>,
    host: HostId,
}

const NOON: i64 = 1_795_248_000_000;

async fn house() -> House {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new();
    let clock = ManualClock::at(Timestamp::from_unix_ms(NOON));
    let store = Store::open(dir.path(), hub.clone(), clock.clone()).unwrap();
    let host = HostId::from_parts(1, 1);
    let new = hosts::NewHost {
        id: host,
        name: "Web 1".to_owned(),
        tags: vec![],
        token_hash: Some([7; 32]),
        enrol_token: None,
        facts: hosts::Facts::default(),
    };
    store.write(move |tx| hosts::insert(tx, &new)).await.unwrap();
    House { _dir: dir, store, hub, clock, host }
}

impl House {
    async fn job(&self, n: u128) -> (JobNo, JobId) {
        let id = JobId::from_parts(2, n);
        let new = NewJob {
            about: Default::default(),
            id,
            host_id: self.host,
            kind: JobKind::Backup,
            actor: Actor::system(),
            plan_id: None,
            repo_id: None,
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 60,
            moment: None,
            ran_alone: false,
            expires_at: None,
        };
        (self.store.write(move |tx| jobs::insert(tx, &new)).await.unwrap(), id)
    }

    async fn append(&self, job: (JobNo, JobId), from: u32, count: u32) -> Appended {
        self.store.append(lines(job, from, count)).await.unwrap().await.unwrap().unwrap()
    }

    async fn texts(&self, job: JobNo, after: u32, limit: u32) -> Vec<(u32, String)> {
        let page = self.store.read(move |db| logs::page(db, job, after, limit)).await.unwrap();
        page.into_iter().map(|line| (line.seq, line.text)).collect()
    }

    async fn finish(&self, job: JobId, status: JobStatus, last_seq: u32) -> jobs::Ended {
        let (host, end) = (self.host, end(status));
        self.store.write(move |tx| jobs::finish(tx, job, host, &end, Some(last_seq))).await.unwrap()
    }

    async fn seal(&self) {
        while let Some(job) = self.store.read(logs::next_unsealed).await.unwrap() {
            let mut from = Some(1);
            while let Some(start) = from {
                from = self.store.write(move |tx| logs::seal_step(tx, job, start)).await.unwrap();
            }
        }
    }
}

fn end(status: JobStatus) -> End {
    let at = Timestamp::from_unix_ms(NOON);
    End { status, at, exit_code: Some(0), error: None, summary: None, log_truncated: false }
}

fn lines(job: (JobNo, JobId), from: u32, count: u32) -> Append {
    let texts: Vec<String> = (from..from + count).map(|n| format!("line {n}")).collect();
    let lines: Vec<Line<'_>> = (from..)
        .zip(&texts)
        .map(|(seq, text)| Line {
            seq,
            at: Timestamp::from_unix_ms(NOON + i64::from(seq)),
            stream: Stream::Stdout,
            text: LineText(text.as_str().into()),
        })
        .collect();
    Append { job, lines: EncodedLines::of(&lines), frame: Bytes::from_static(b"{}") }
}

fn expected(from: u32, to: u32) -> Vec<(u32, String)> {
    (from..=to).map(|n| (n, format!("line {n}"))).collect()
}

#[tokio::test]
async fn lines_are_read_back_whole_and_in_order_whatever_the_page() {
    let house = house().await;
    let job = house.job(1).await;
    for from in (1..=1000).step_by(37) {
        house.append(job, from, 37.min(1001 - from)).await;
    }
    assert_eq!(house.texts(job.0, 0, 10_000).await, expected(1, 1000));
    assert_eq!(house.texts(job.0, 0, 5).await, expected(1, 5));
    assert_eq!(house.texts(job.0, 36, 3).await, expected(37, 39));
    assert_eq!(house.texts(job.0, 998, 100).await, expected(999, 1000));
    assert!(house.texts(job.0, 1000, 100).await.is_empty());
    assert!(house.texts(job.0, u32::MAX, 100).await.is_empty());
}

#[tokio::test]
async fn a_page_of_long_lines_ends_early_and_goes_on_where_it_ended() {
    let house = house().await;
    let job = house.job(1).await;
    let long = "x".repeat(32 * 1024);
    for seq in 1..=300 {
        let at = Timestamp::from_unix_ms(NOON);
        let line = Line { seq, at, stream: Stream::Stdout, text: LineText(long.as_str().into()) };
        let append = Append { job, lines: EncodedLines::of(&[line]), frame: Bytes::new() };
        house.store.append(append).await.unwrap().await.unwrap().unwrap();
    }
    let first = house.texts(job.0, 0, 10_000).await;
    assert!(first.len() < 200, "{} lines of 32 KiB in one page", first.len());
    let mut seen = first.len() as u32;
    while seen < 300 {
        let next = house.texts(job.0, seen, 10_000).await;
        assert_eq!(next.first().unwrap().0, seen + 1);
        seen += next.len() as u32;
    }
}

#[tokio::test]
async fn a_gap_takes_nothing_and_is_answered_with_the_last_good_number() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 10).await;
    assert_eq!(house.append(job, 12, 5).await, Appended { seq: 10, finished: false });
    assert_eq!(house.texts(job.0, 0, 100).await, expected(1, 10));
}

#[tokio::test]
async fn what_comes_twice_is_stored_once() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 10).await;
    assert_eq!(house.append(job, 1, 10).await.seq, 10);
    assert_eq!(house.append(job, 6, 10).await.seq, 15);
    assert_eq!(house.texts(job.0, 0, 100).await, expected(1, 15));
}

#[tokio::test]
async fn a_frame_that_was_known_in_part_reaches_watchers_without_what_they_have() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 10).await;
    let mut watch = house.hub.subscribe(job.1);
    house.append(job, 6, 10).await;
    let Delivery::Frame(LiveFrame::Lines { first, last, text }) = watch.next().await else { panic!("no lines") };
    assert_eq!((first, last), (11, 15));
    let frame: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(frame["payload"]["lines"][0]["text"], "line 11");
    assert_eq!(frame["payload"]["lines"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn jobs_that_write_at_once_do_not_mix() {
    let house = house().await;
    let jobs = [house.job(1).await, house.job(2).await, house.job(3).await];
    let mut answers = Vec::new();
    for from in (1..=400).step_by(4) {
        for job in jobs {
            answers.push(house.store.append(lines(job, from, 4)).await.unwrap());
        }
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    for job in jobs {
        assert_eq!(house.texts(job.0, 0, 1000).await, expected(1, 400));
    }
}

#[tokio::test]
async fn an_end_counts_only_when_all_its_lines_are_here() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 3).await;
    assert_eq!(house.finish(job.1, JobStatus::Succeeded, 5).await, jobs::Ended::MissingLines(3));
    house.append(job, 4, 2).await;
    assert_eq!(house.finish(job.1, JobStatus::Succeeded, 5).await, jobs::Ended::Recorded);
    assert_eq!(house.finish(job.1, JobStatus::Failed, 5).await, jobs::Ended::Already);
    let id = job.1;
    let job = house.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_finished_job_takes_no_more_lines() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 3).await;
    house.finish(job.1, JobStatus::Failed, 3).await;
    assert_eq!(house.append(job, 4, 2).await, Appended { seq: 3, finished: true });
    assert_eq!(house.texts(job.0, 0, 100).await, expected(1, 3));
}

#[tokio::test]
async fn a_job_of_another_host_cannot_be_ended() {
    let house = house().await;
    let job = house.job(1).await.1;
    let end = end(JobStatus::Succeeded);
    let stranger = HostId::from_parts(9, 9);
    let ended = house.store.write(move |tx| jobs::finish(tx, job, stranger, &end, None)).await.unwrap();
    assert_eq!(ended, jobs::Ended::Unknown);
}

#[tokio::test]
async fn sealing_a_finished_log_changes_no_line_and_leaves_few_chunks() {
    let house = house().await;
    let job = house.job(1).await;
    for from in (1..=3000).step_by(3) {
        house.append(job, from, 3).await;
    }
    house.finish(job.1, JobStatus::Succeeded, 3000).await;
    house.seal().await;
    assert_eq!(house.texts(job.0, 0, 10_000).await, expected(1, 3000));
    assert_eq!(house.texts(job.0, 1499, 2).await, expected(1500, 1501));
    let chunks: i64 = house
        .store
        .read(|db| Ok::<_, StoreError>(db.query_row("SELECT count(*) FROM log_chunks", [], |row| row.get(0))?))
        .await
        .unwrap();
    assert!(chunks <= 2, "{chunks} chunks after sealing");
}

#[tokio::test]
async fn a_full_disk_acknowledges_no_line_that_is_not_stored_and_the_log_goes_on_whole_afterwards() {
    let house = house().await;
    let jobs = [house.job(1).await, house.job(2).await, house.job(3).await];
    let pages = |more: i64| {
        house.store.write(move |tx| {
            let used: i64 = tx.db().query_row("PRAGMA page_count", [], |row| row.get(0))?;
            tx.db().query_row(&format!("PRAGMA max_page_count = {}", used + more), [], |_| Ok(()))?;
            Ok::<_, StoreError>(())
        })
    };
    pages(40).await.unwrap();
    // Queued without waiting, so that several jobs' lines meet in one transaction; text that does not compress, so that it fills up in the midst.
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let held = house
        .store
        .submit(move |_| {
            gate.recv().ok();
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let mut acknowledged = [0; 3];
    let mut answers = Vec::new();
    for seq in 1..=120u32 {
        for (n, job) in jobs.into_iter().enumerate() {
            answers.push((n, house.store.append(noisy(job, seq)).await.unwrap()));
        }
    }
    drop(open);
    held.await.unwrap().ok();
    let mut refused = 0;
    for (n, answer) in answers {
        match answer.await.unwrap() {
            Ok(tail) => acknowledged[n] = acknowledged[n].max(tail.seq),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "the disk was not full");
    for (n, job) in jobs.into_iter().enumerate() {
        let stored = house.texts(job.0, 0, 10_000).await;
        assert_eq!(stored.len() as u32, acknowledged[n], "job {n}: acknowledged is stored");
        pages(100_000).await.unwrap();
        assert_eq!(
            house.store.append(noisy(job, acknowledged[n] + 1)).await.unwrap().await.unwrap().unwrap().seq,
            acknowledged[n] + 1
        );
    }
}

/// One line of 16 KiB that no compressor makes smaller by much.
fn noisy(job: (JobNo, JobId), seq: u32) -> Append {
    let mut state = u64::from(seq) << 8 | job.0.0.unsigned_abs() | 1;
    let text: String = (0..16 * 1024)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(33 + (state % 90) as u8)
        })
        .collect();
    let at = Timestamp::from_unix_ms(NOON);
    let line = Line { seq, at, stream: Stream::Stdout, text: LineText(text.into()) };
    Append { job, lines: EncodedLines::of(&[line]), frame: Bytes::new() }
}

#[tokio::test]
async fn a_failing_command_leaves_no_row_and_no_event_and_the_others_stand() {
    let house = house().await;
    let kept = house.job(1).await;
    let mut watch = house.hub.subscribe(kept.1);
    let id = kept.1;
    let failed: Result<(), StoreError> = house
        .store
        .write(move |tx| {
            tx.db().execute("UPDATE jobs SET error = 'no' WHERE id = ?1", [id.to_string()])?;
            tx.publish(Event::Job { id, frame: LiveFrame::State(Bytes::from_static(b"{}")) });
            Err(StoreError::Corrupt("on purpose".to_owned()))
        })
        .await;
    assert!(failed.is_err());
    let panicked: Result<(), StoreError> = house.store.write(|_| panic!("on purpose")).await;
    assert!(matches!(panicked, Err(StoreError::Panicked)));
    let job = house.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap();
    assert_eq!(job.error, None);
    assert!(watch.try_next().is_none());
    house.append(kept, 1, 1).await;
    assert!(matches!(watch.next().await, Delivery::Frame(LiveFrame::Lines { first: 1, .. })));
}

#[tokio::test]
async fn times_of_an_agent_whose_clock_is_wrong_are_brought_between_order_and_now() {
    let house = house().await;
    for (n, wrong) in [(1, 0), (2, i64::MAX)] {
        let job = house.job(n).await.1;
        let host = house.host;
        house.clock.advance(10);
        let at = Timestamp::from_unix_ms(wrong);
        house.store.write(move |tx| jobs::started(tx, job, host, at, Bytes::new())).await.unwrap();
        let end = End { at, ..end(JobStatus::Succeeded) };
        house.store.write(move |tx| jobs::finish(tx, job, host, &end, Some(0))).await.unwrap();
        let stored = house.store.read(move |db| jobs::lookup(db, job)).await.unwrap().unwrap();
        for time in [stored.started_at, stored.finished_at] {
            let time = time.unwrap();
            assert!(time >= stored.created_at && time <= house.clock.now(), "{time}");
        }
    }
}

#[tokio::test]
async fn a_job_is_claimed_until_an_agent_has_it_and_not_after() {
    let house = house().await;
    let (no, id) = house.job(1).await;
    let host = house.host;
    let claim = || house.store.write(move |tx| jobs::claim(tx, no));
    let stage = async || house.store.read(|db| jobs::open(db, Timestamp::from_unix_ms(0))).await.unwrap()[0].stage;
    assert_eq!(stage().await, Stage::Waiting);
    assert!(claim().await.unwrap());
    assert_eq!(stage().await, Stage::Sent(Timestamp::from_unix_ms(NOON)));
    assert!(claim().await.unwrap(), "an order that got lost is sent again");
    house.store.write(move |tx| jobs::requeue_unaccepted(tx, host)).await.unwrap();
    assert_eq!(stage().await, Stage::Waiting);
    house.store.write(move |tx| jobs::accepted(tx, id, host)).await.unwrap();
    assert_eq!(stage().await, Stage::Taken);
    assert!(!claim().await.unwrap());
    house.finish(id, JobStatus::Succeeded, 0).await;
    assert!(house.store.read(|db| jobs::open(db, Timestamp::from_unix_ms(0))).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_for_a_change_of_the_queue_is_on_disk_with_that_change_and_happens_once() {
    let house = house().await;
    let claimed = house.store.when_queue_changes(|tx| {
        let first = jobs::open(tx.db(), tx.now())?.remove(0).no;
        jobs::claim(tx, first)
    });
    // This changes nothing of the queue.
    house.store.probe_write().await.unwrap();
    let is_sent = async |id| {
        let job = house.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap();
        job.dispatched_at.is_some()
    };
    let (_, first) = house.job(1).await;
    assert!(is_sent(first).await, "by the commit that made it");
    assert!(claimed.await.unwrap().unwrap());
    let (_, second) = house.job(2).await;
    assert!(!is_sent(second).await);
}

#[tokio::test]
async fn what_fails_beside_a_change_of_the_queue_or_is_taken_back_leaves_the_change_as_it_is() {
    let house = house().await;
    let failed = house.store.when_queue_changes(|tx| {
        tx.db().execute("DELETE FROM jobs", [])?;
        Err::<(), _>(StoreError::Closed)
    });
    let (_, first) = house.job(1).await;
    assert!(failed.await.unwrap().is_err());
    let taken_back = house.store.when_queue_changes(|tx| Ok::<_, StoreError>(tx.db().execute("DELETE FROM jobs", [])?));
    house.store.not_when_queue_changes();
    let (_, second) = house.job(2).await;
    assert!(taken_back.await.is_err());
    for id in [first, second] {
        assert!(house.store.read(move |db| jobs::lookup(db, id)).await.unwrap().is_some());
    }
    // That change found nothing that waited, so whoever watches the queue is woken.
    house.hub.queue_changed().await;
}

#[tokio::test]
async fn a_lost_job_takes_lines_and_a_start_and_keeps_its_state_until_its_true_end() {
    let house = house().await;
    let job = house.job(1).await;
    let (host, id) = (house.host, job.1);
    let state = async || {
        let job = house.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap();
        (job.status, job.started_at.is_some(), job.log_lines)
    };
    assert_eq!(house.finish(id, JobStatus::Lost, 0).await, jobs::Ended::Recorded);
    let at = Timestamp::from_unix_ms(NOON);
    house.store.write(move |tx| jobs::started(tx, id, host, at, Bytes::new())).await.unwrap();
    assert_eq!(house.append(job, 1, 5).await, Appended { seq: 5, finished: false });
    assert_eq!(state().await, (JobStatus::Lost, true, 5));
    assert_eq!(house.finish(id, JobStatus::Lost, 5).await, jobs::Ended::Already);
    assert_eq!(house.finish(id, JobStatus::Succeeded, 5).await, jobs::Ended::Recorded);
    assert_eq!(house.append(job, 6, 1).await, Appended { seq: 5, finished: true });
    assert_eq!(state().await, (JobStatus::Succeeded, true, 5));
}

#[tokio::test]
async fn a_cancelled_job_that_was_not_sent_ends_at_once_and_a_sent_one_waits_for_its_host() {
    let house = house().await;
    let (waiting, sent) = (house.job(1).await.1, house.job(2).await.1);
    house.store.write(move |tx| jobs::accepted(tx, sent, HostId::from_parts(1, 1))).await.unwrap();
    let host = house.host;
    house
        .store
        .write(move |tx| jobs::started(tx, sent, host, Timestamp::from_unix_ms(NOON), Bytes::new()))
        .await
        .unwrap();
    let cancel = |id| house.store.write(move |tx| jobs::request_cancel(tx, id));
    assert_eq!(cancel(waiting).await.unwrap(), jobs::Cancelled::AtOnce);
    assert_eq!(cancel(waiting).await.unwrap(), jobs::Cancelled::Over);
    assert_eq!(cancel(sent).await.unwrap(), jobs::Cancelled::Requested);
    assert_eq!(cancel(JobId::from_parts(9, 9)).await.unwrap(), jobs::Cancelled::Unknown);
    let open = house.store.read(|db| jobs::open(db, Timestamp::from_unix_ms(0))).await.unwrap();
    assert_eq!(open.iter().map(|job| (job.id, job.stopping)).collect::<Vec<_>>(), [(sent, true)]);
}

#[tokio::test]
async fn hosts_of_one_name_get_different_slugs() {
    let house = house().await;
    let new = hosts::NewHost {
        id: HostId::from_parts(3, 3),
        name: "web 1".to_owned(),
        tags: vec![],
        token_hash: None,
        enrol_token: None,
        facts: hosts::Facts::default(),
    };
    assert_eq!(house.store.write(move |tx| hosts::insert(tx, &new)).await.unwrap().slug, "web-1-2");
}

#[tokio::test]
async fn a_backup_of_the_database_in_use_opens_and_holds_everything() {
    let house = house().await;
    let job = house.job(1).await;
    house.append(job, 1, 100).await;
    let copy = tempfile::tempdir().unwrap();
    house.store.copy_to(copy.path().join("flotilla.db"), CancellationToken::new()).await.unwrap();
    let restored = Store::open(copy.path(), Hub::new(), Arc::new(SystemClock)).unwrap();
    assert!(restored.integrity_problems().await.unwrap().is_empty());
    let no = job.0;
    assert_eq!(restored.read(move |db| logs::page(db, no, 0, 1000)).await.unwrap().len(), 100);
    assert!(
        house.store.copy_to(copy.path().join("flotilla.db"), CancellationToken::new()).await.is_err(),
        "an existing file is not overwritten"
    );
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let refused = Store::open(std::path::Path::new("/proc/nowhere"), Hub::new(), Arc::new(SystemClock)).err().unwrap();
    assert!(refused.to_string().contains("/proc/nowhere"), "{refused}");
}
