//! What of a job's log is there after a crash. A crash is an outbox that is dropped, and a copy of its folder at some earlier state of the disk.

use std::{collections::HashMap, fs, path::PathBuf};

use flotilla_proto::{AgentMessage, KnownJobState, ProtocolVersion, RawEnvelope, Stream, Timestamp};
use futures_util::FutureExt;
use tempfile::TempDir;

use super::*;
use crate::{clock::ManualClock, sink::JobOutcome};

mod chance;

fn on(dir: &Path, limits: OutboxLimits) -> Outbox {
    Outbox::new(dir, limits, Arc::new(ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000)))).unwrap()
}

fn usual(dir: &Path) -> Outbox {
    on(dir, OutboxLimits::default())
}

fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

fn done() -> JobOutcome {
    JobOutcome {
        status: flotilla_proto::JobStatus::Warning,
        exit_code: Some(3),
        error: Some("why".to_owned()),
        summary: Some(serde_json::json!({"snapshot_id": "abc"})),
    }
}

fn welcome(acked: &[(JobId, u32)]) -> Welcome {
    Welcome {
        protocol: ProtocolVersion(1),
        host_id: flotilla_proto::HostId::from_parts(1, 1),
        heartbeat_s: 30,
        acked: acked.iter().copied().collect(),
        finished: Vec::new(),
    }
}

/// A new connection to a server that has `acked` lines of job 1.
fn connect(outbox: &Outbox, acked: u32) {
    let _ = outbox.known_jobs();
    outbox.resume(&welcome(&[(job(1), acked)]));
    outbox.flush();
}

fn decode(frame: String) -> AgentMessage<'static> {
    AgentMessage::decode(&RawEnvelope::decode(Box::leak(frame.into_boxed_str())).unwrap()).unwrap()
}

/// All that may be sent now, window or not: a server that acknowledges at once takes it.
fn deliver(outbox: &Outbox) -> (Vec<(u32, String)>, Vec<AgentMessage<'static>>) {
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    while let Some(frame) = outbox.next().now_or_never() {
        match decode(frame) {
            AgentMessage::LogStream(message) => {
                lines.extend(message.lines.iter().map(|line| (line.seq, line.text.0.clone().into_owned())));
                let last = message.lines.last().unwrap().seq;
                outbox.acked(&Ack { job_id: message.job_id, seq: last, finished: false });
            }
            other => others.push(other),
        }
    }
    (lines, others)
}

/// All lines that an agent would deliver that starts on `dir` and meets a server that has none.
fn recovered(dir: &Path) -> Vec<String> {
    let outbox = usual(dir);
    connect(&outbox, 0);
    let (lines, _) = deliver(&outbox);
    assert!(lines.iter().map(|(seq, _)| *seq).eq(1..=lines.len() as u32), "numbered from one without a gap");
    lines.into_iter().map(|(_, text)| text).collect()
}

/// The spool files of all jobs, with what they hold.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for folder in fs::read_dir(dir.join("jobs")).into_iter().flatten() {
        for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            found.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// A folder with these files.
fn image(files: &[(PathBuf, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), bytes).unwrap();
    }
    dir
}

#[test]
fn after_a_kill_all_that_was_written_is_there_the_end_with_all_its_details() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    sink.started(Some(42));
    for n in 1..=500 {
        sink.line(Stream::Stdout, &format!("line {n}"));
    }
    sink.finished(done());
    outbox.flush();
    std::mem::forget(sink);
    drop(outbox);

    let outbox = usual(dir.path());
    assert!(outbox.has_end(job(1)) && outbox.unended().is_empty());
    let known = outbox.known_jobs();
    assert_eq!((known[0].last_seq, known[0].state), (500, KnownJobState::Ended));
    connect(&outbox, 0);
    let (lines, others) = deliver(&outbox);
    assert!(lines.iter().map(|(seq, text)| (*seq, text.clone())).eq((1..=500).map(|n| (n, format!("line {n}")))));
    assert!(matches!(&others[0], AgentMessage::JobStarted(started) if started.pid == Some(42)));
    let AgentMessage::JobFinished(end) = &others[1] else { panic!("{others:?}") };
    let expected = done();
    assert_eq!((end.status, end.exit_code), (expected.status, expected.exit_code));
    assert_eq!((&end.error, &end.summary, end.last_seq), (&expected.error, &expected.summary, 500));
    assert!(outbox.acked(&Ack { job_id: job(1), seq: 500, finished: true }));
    assert!(!dir.path().join("jobs").join(job(1).to_string()).exists());
}

#[test]
fn nothing_is_offered_before_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    sink.started(None);
    sink.line(Stream::Stdout, "x");
    sink.finished(done());
    assert!(outbox.next().now_or_never().is_none());
    outbox.flush();
    let (lines, others) = deliver(&outbox);
    assert_eq!((lines.len(), others.len()), (1, 2));
}

#[test]
fn lines_go_on_where_they_stopped_with_numbers_and_cursor_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    sink.hold();
    sink.line(Stream::Stdout, "1");
    sink.line(Stream::Stdout, "2");
    sink.mark(Stream::Stdout, 4);
    sink.hold();
    sink.line(Stream::Stderr, "3");
    sink.mark(Stream::Stderr, 2);
    outbox.flush();
    outbox.close();
    drop((sink, outbox));

    let outbox = usual(dir.path());
    let (sink, cursor) = outbox.reopen(job(1));
    assert_eq!(cursor, Cursor { stdout: 4, stderr: 2 });
    sink.line(Stream::System, "4");
    connect(&outbox, 1);
    assert_eq!(deliver(&outbox).0, [(2, "2".to_owned()), (3, "3".to_owned()), (4, "4".to_owned())]);
    drop(sink);
    outbox.flush();
    assert!(outbox.has_end(job(1)), "a sink that goes away while the agent runs on still ends its job");
}

#[test]
fn a_place_that_was_settled_is_known_after_a_crash_also_where_no_line_came_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    sink.mark(Stream::Stdout, 1 << 20);
    assert!(sink.settle());
    sink.mark(Stream::Stdout, 2 << 20);
    outbox.flush();
    std::mem::forget(sink);
    drop(outbox);
    let (sink, cursor) = usual(dir.path()).reopen(job(1));
    assert_eq!(cursor, Cursor { stdout: 1 << 20, stderr: 0 });
    sink.finished(done());
    assert!(!sink.settle(), "after the end nothing is written down any more");
}

#[test]
fn whatever_byte_the_last_file_breaks_off_at_what_is_whole_before_is_kept_and_the_cut_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    let mut whole = vec![];
    for n in 1..=6 {
        sink.line(Stream::Stdout, &format!("line {n}"));
        outbox.flush();
        whole.push(files(dir.path())[0].1.len());
    }
    std::mem::forget(sink);
    let [(path, bytes)] = &files(dir.path())[..] else { panic!("one file") };
    for cut in whole[0]..bytes.len() {
        for garbage in [&b""[..], &[0; 64], &[0xff; 64]] {
            let torn = [&bytes[..cut], garbage].concat();
            let image = image(&[(path.clone(), torn.clone())]);
            let kept = whole.iter().filter(|end| **end <= cut).count();
            let mut expected: Vec<String> = (1..=kept).map(|n| format!("line {n}")).collect();
            let damaged = torn.len() - whole[kept - 1];
            if damaged > 0 {
                expected.push(format!(
                    "the agent cut {damaged} damaged bytes from the end of what it had kept of this log; what can be read again from the job's output follows"
                ));
            }
            assert_eq!(recovered(image.path()), expected, "cut at {cut}");
            if damaged > 0 {
                assert_eq!(recovered(image.path()), expected, "a second start finds nothing more to cut");
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_costs_no_more_than_what_stands_from_there_on() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    for n in 1..=6 {
        sink.line(Stream::Stdout, &format!("line {n}"));
    }
    outbox.flush();
    std::mem::forget(sink);
    let [(path, bytes)] = &files(dir.path())[..] else { panic!("one file") };
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let image = image(&[(path.clone(), damaged)]);
        let mut lines = recovered(image.path());
        let notice = lines.pop().unwrap();
        assert!(notice.starts_with("the agent c"), "{notice}");
        assert!(lines.iter().eq((1..=lines.len()).map(|n| format!("line {n}")).collect::<Vec<_>>().iter()));
    }
}

#[test]
fn foreign_files_are_left_alone_and_what_a_newer_agent_wrote_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    for n in 1..=2 {
        let sink = outbox.open(job(n));
        sink.line(Stream::Stdout, "x");
        sink.finished(done());
    }
    outbox.flush();
    drop(outbox);
    let jobs = dir.path().join("jobs");
    let newer = jobs.join(job(2).to_string()).join("0000000001.spool");
    let mut bytes = fs::read(&newer).unwrap();
    bytes[7] = 2;
    fs::write(&newer, bytes).unwrap();
    let foreign = [jobs.join("notes.txt"), jobs.join(job(1).to_string()).join("order"), jobs.join("x/y.spool")];
    fs::create_dir(jobs.join("x")).unwrap();
    foreign.iter().for_each(|path| fs::write(path, "keep me").unwrap());

    let outbox = usual(dir.path());
    assert!(outbox.has_end(job(1)));
    assert_eq!(outbox.unended(), [job(2)], "its end can't be read: whoever runs jobs tells the truth about it");
    assert!(
        outbox.troubles().iter().any(|trouble| trouble.code == "spool_torn" && trouble.message.contains("format 2"))
    );
    assert!(newer.with_extension("spool.unusable").exists());
    outbox.forget(job(1));
    assert!(foreign.iter().all(|path| fs::read(path).unwrap() == b"keep me"));
}

#[test]
fn an_order_that_left_only_files_of_others_is_no_job_of_the_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("jobs").join(job(1).to_string());
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("order"), "sealed").unwrap();
    let outbox = usual(dir.path());
    assert!(!outbox.contains(job(1)) && outbox.known_jobs().is_empty());
}

#[test]
fn what_is_acknowledged_is_deleted_segment_by_segment() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolLimits { job_bytes: 64 << 10, total_bytes: 1 << 20 };
    let outbox = on(dir.path(), OutboxLimits { spool, ..OutboxLimits::default() });
    let sink = outbox.open(job(1));
    for n in 1..=300 {
        sink.line(Stream::Stdout, &format!("{n} {}", "x".repeat(100)));
    }
    outbox.flush();
    let before = files(dir.path()).len();
    assert!(before >= 4, "{before} segments");
    deliver(&outbox);
    outbox.flush();
    assert_eq!(files(dir.path()).len(), 1, "the last one holds what is settled");
    drop(outbox);
    std::mem::forget(sink);
    let outbox = usual(dir.path());
    assert_eq!(outbox.known_jobs()[0].last_seq, 300, "nothing is numbered twice");
}

#[test]
fn a_backlog_larger_than_memory_is_delivered_in_order_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let limits = OutboxLimits { memory_bytes: 256 << 10, ..OutboxLimits::default() };
    let outbox = on(dir.path(), limits);
    let sink = outbox.open(job(1));
    let most = |outbox: &Outbox| outbox.0.lock().jobs[&job(1)].log.in_memory();
    let count = 60_000;
    for n in 1..=count {
        sink.line(Stream::Stdout, &format!("{n} {}", "y".repeat(150)));
        if n % 1000 == 0 {
            outbox.flush();
            assert!(most(&outbox) <= 512 << 10, "{} bytes in memory", most(&outbox));
        }
    }
    let mut next = 1;
    while let Some(frame) = outbox.next().now_or_never() {
        let AgentMessage::LogStream(message) = decode(frame) else { panic!("lines only") };
        for line in &message.lines {
            assert_eq!(line.seq, next);
            assert!(line.text.0.starts_with(&format!("{next} ")));
            next += 1;
        }
        assert!(most(&outbox) <= 1 << 20, "{} bytes in memory", most(&outbox));
        // A reconnect now and then: what was in flight comes again, from disk.
        if next % 7 == 0 {
            let _ = outbox.known_jobs();
            let has = next - 1 - next % 5;
            outbox.resume(&welcome(&[(job(1), has)]));
            next = has + 1;
        } else {
            outbox.acked(&Ack { job_id: job(1), seq: next - 1, finished: false });
        }
    }
    assert_eq!(next, count + 1);
    drop(sink);
}

#[test]
fn a_job_whose_log_only_the_server_has_gets_its_numbers_from_it_and_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let (sink, cursor) = outbox.reopen(job(1));
    assert_eq!(cursor, Cursor::default());
    sink.line(Stream::System, "the agent restarted");
    outbox.flush();
    assert!(outbox.next().now_or_never().is_none());
    connect(&outbox, 17);
    assert_eq!(deliver(&outbox).0, [(18, "the agent restarted".to_owned())]);
    outbox.close();
    drop((sink, outbox));
    let outbox = usual(dir.path());
    let (sink, _) = outbox.reopen(job(1));
    sink.line(Stream::System, "again");
    connect(&outbox, 18);
    assert_eq!(deliver(&outbox).0, [(19, "again".to_owned())]);
}

#[test]
fn numbers_that_are_given_after_the_end_outlive_a_crash_too() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let (sink, _) = outbox.reopen(job(1));
    sink.line(Stream::Stdout, "a");
    sink.finished(done());
    outbox.flush();
    connect(&outbox, 0);
    assert_eq!(deliver(&outbox).0, [(1, "a".to_owned())]);
    outbox.close();
    drop((sink, outbox));
    let outbox = usual(dir.path());
    connect(&outbox, 1);
    assert_eq!(deliver(&outbox).0, [], "the server has the one line");
}

#[test]
fn a_server_that_has_more_than_the_agent_numbers_what_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    let sink = outbox.open(job(1));
    sink.line(Stream::Stdout, "1");
    outbox.flush();
    connect(&outbox, 9);
    sink.line(Stream::Stdout, "10");
    outbox.flush();
    assert_eq!(deliver(&outbox).0, [(10, "10".to_owned())]);
    outbox.close();
    drop((sink, outbox));
    assert_eq!(usual(dir.path()).known_jobs()[0].last_seq, 10);
}

#[test]
fn a_disk_that_takes_nothing_lets_jobs_go_on_from_memory_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let limits = OutboxLimits { memory_bytes: 16 << 10, ..OutboxLimits::default() };
    let outbox = on(dir.path(), limits);
    let sink = outbox.open(job(1));
    sink.line(Stream::Stdout, "before");
    outbox.flush();
    assert!(outbox.troubles().is_empty());
    outbox.0.lock_files().fails = Some(io::ErrorKind::StorageFull);
    sink.line(Stream::Stdout, "during");
    assert!(!sink.settle(), "what was read must stay where it is");
    assert_eq!(outbox.troubles()[0].code, "spool_disk_full");
    assert_eq!(deliver(&outbox).0, [(1, "before".to_owned())], "what a crash would read again is not sent yet");
    for _ in 0..1000 {
        sink.line(Stream::Stdout, &"z".repeat(100));
    }
    outbox.flush();
    assert_eq!(deliver(&outbox).0, []);
    outbox.0.lock_files().fails = None;
    outbox.flush();
    assert!(outbox.troubles().is_empty());
    let mut lines = deliver(&outbox).0;
    assert_eq!(lines.remove(0), (2, "during".to_owned()));
    let kept = lines.len();
    assert!((50..200).contains(&kept), "{kept} lines stood in memory");
    sink.line(Stream::Stdout, "after");
    sink.finished(done());
    outbox.flush();
    let (lines, others) = deliver(&outbox);
    assert!(lines[0].1.starts_with(&format!("{} lines were dropped here because the disk", 1000 - kept)), "{lines:?}");
    assert_eq!(lines[1].1, "after");
    assert!(matches!(&others[0], AgentMessage::JobFinished(end) if end.log_truncated));
    drop(outbox);
    let outbox = usual(dir.path());
    assert_eq!(outbox.known_jobs()[0].last_seq as usize, 2 + kept + 2);
}

#[test]
fn a_full_disk_does_not_keep_the_end_from_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = usual(dir.path());
    outbox.0.lock_files().fails = Some(io::ErrorKind::StorageFull);
    let sink = outbox.open(job(1));
    sink.started(Some(1));
    sink.line(Stream::Stdout, "x");
    sink.finished(done());
    outbox.flush();
    let (lines, others) = deliver(&outbox);
    assert_eq!((lines.len(), others.len()), (1, 2));
    assert!(outbox.acked(&Ack { job_id: job(1), seq: 1, finished: true }));
}

#[test]
fn what_a_disk_does_not_give_back_is_counted_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolLimits { job_bytes: 64 << 10, total_bytes: 1 << 20 };
    let limits = OutboxLimits { spool, memory_bytes: 0, ..OutboxLimits::default() };
    let outbox = on(dir.path(), limits);
    let sink = outbox.open(job(1));
    for n in 1..=200 {
        sink.line(Stream::Stdout, &format!("{n} {}", "x".repeat(100)));
    }
    outbox.flush();
    let files = files(dir.path());
    fs::remove_file(dir.path().join(&files[0].0)).unwrap();
    let (first, last) = (outbox.next().now_or_never(), deliver_all(&outbox));
    assert!(first.is_none(), "the numbers are moved on disk first");
    let gone = 200 + 1 - last.len();
    assert!(last[0].1.starts_with(&format!("{gone} lines are gone: the disk")), "{last:?}");
    assert!(last.iter().map(|(seq, _)| *seq).eq(1..=last.len() as u32));
    assert!(last[1].1.starts_with(&format!("{} ", gone + 1)));
    drop(sink);
}

fn deliver_all(outbox: &Outbox) -> Vec<(u32, String)> {
    outbox.flush();
    deliver(outbox).0
}

#[test]
fn a_greedy_job_leaves_a_little_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let spool = SpoolLimits { job_bytes: 4 << 20, total_bytes: 1 << 20 };
    let outbox = on(dir.path(), OutboxLimits { spool, ..OutboxLimits::default() });
    let (greedy, modest) = (outbox.open(job(1)), outbox.open(job(2)));
    for _ in 0..20_000 {
        greedy.line(Stream::Stdout, &"g".repeat(100));
    }
    outbox.flush();
    let full = outbox.troubles();
    assert_eq!(full[0].code, "spool_full");
    modest.line(Stream::Stdout, "one line");
    assert_eq!(outbox.known_jobs()[1].last_seq, 1);
}
