//! The outbox under a paused clock: order, batches, acknowledgement, bounds. The disk is a real one; the tests themselves are the flusher.

use flotilla_proto::{
    AgentMessage, HostId, JobFinished, JobProgress, JobStatus, KnownJobState, LogStream, ProtocolVersion, RawEnvelope,
    Stream, Timestamp,
};
use futures_util::FutureExt;
use tokio::time::advance;

use super::*;
use crate::{clock::ManualClock, sink::JobOutcome};

const T0: i64 = 1_795_248_000_000;

/// An outbox on a folder of its own.
struct Stage {
    outbox: Outbox,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Stage {
    type Target = Outbox;
    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

fn outbox(limits: OutboxLimits) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    Stage { outbox: on(dir.path(), limits), _dir: dir }
}

fn on(dir: &Path, limits: OutboxLimits) -> Outbox {
    Outbox::new(dir, limits, Arc::new(ManualClock::at(Timestamp::from_unix_ms(T0)))).unwrap()
}

fn spool(job_bytes: u64, total_bytes: u64) -> OutboxLimits {
    OutboxLimits { spool: SpoolLimits { job_bytes, total_bytes }, ..OutboxLimits::default() }
}

fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

fn welcome(acked: &[(JobId, u32)], finished: &[JobId]) -> Welcome {
    Welcome {
        protocol: ProtocolVersion(1),
        host_id: HostId::from_parts(1, 1),
        heartbeat_s: 30,
        acked: acked.iter().copied().collect(),
        finished: finished.to_vec(),
    }
}

fn ack(job_id: JobId, seq: u32) -> Ack {
    Ack { job_id, seq, finished: false }
}

fn done() -> JobOutcome {
    JobOutcome { status: JobStatus::Succeeded, exit_code: Some(0), error: None, summary: None }
}

/// Does what the flusher would do at this moment.
fn flush_if_due(outbox: &Outbox) {
    if outbox.0.lock().flush_at.is_some_and(|at| at <= Instant::now()) {
        outbox.flush();
    }
}

/// The next frame, where one is due now.
fn due(outbox: &Outbox) -> Option<String> {
    flush_if_due(outbox);
    outbox.next().now_or_never()
}

/// The next frame, decoded; time moves on by itself while waiting.
async fn next(outbox: &Outbox) -> AgentMessage<'static> {
    let text = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            frame = outbox.next() => frame,
            () = outbox.keep_synced() => unreachable!("it has no end"),
        }
    });
    let text = text.await.expect("a frame is due");
    AgentMessage::decode(&RawEnvelope::decode(Box::leak(text.into_boxed_str())).unwrap()).unwrap()
}

fn nothing_due(outbox: &Outbox) -> bool {
    due(outbox).is_none()
}

async fn next_lines(outbox: &Outbox) -> LogStream<'static> {
    match next(outbox).await {
        AgentMessage::LogStream(lines) => lines,
        other => panic!("lines expected, got {other:?}"),
    }
}

async fn next_end(outbox: &Outbox) -> JobFinished {
    match next(outbox).await {
        AgentMessage::JobFinished(end) => *end,
        other => panic!("an end expected, got {other:?}"),
    }
}

fn seqs(message: &LogStream<'_>) -> Vec<u32> {
    message.lines.iter().map(|line| line.seq).collect()
}

#[tokio::test(start_paused = true)]
async fn a_job_says_start_lines_end_in_this_order_with_lines_numbered_from_one() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    sink.started(Some(42));
    sink.line(Stream::Stdout, "a");
    sink.line(Stream::Stderr, "b\r\nc");
    sink.finished(done());
    sink.line(Stream::Stdout, "after the end");
    assert!(matches!(next(&outbox).await, AgentMessage::JobStarted(s) if s.pid == Some(42) && s.seq == 0));
    let lines = next_lines(&outbox).await;
    assert_eq!(seqs(&lines), [1, 2]);
    assert_eq!(lines.lines[1].text.0, "b  c", "a line break inside a line would be refused");
    assert_eq!(lines.lines[0].at, Timestamp::from_unix_ms(T0));
    let end = next_end(&outbox).await;
    assert_eq!((end.last_seq, end.log_truncated), (2, false));
    assert!(nothing_due(&outbox));
}

#[tokio::test(start_paused = true)]
async fn lines_wait_50_ms_for_company_and_no_longer() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    sink.line(Stream::Stdout, "first");
    advance(Duration::from_millis(49)).await;
    sink.line(Stream::Stdout, "second");
    assert!(nothing_due(&outbox));
    advance(Duration::from_millis(1)).await;
    let frame = due(&outbox).expect("due after 50 ms");
    assert!(frame.contains("first") && frame.contains("second"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_holds_64_kib_at_most_and_all_that_is_on_disk_goes_at_once() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    let text = "\"quoted\" ".repeat(100);
    for _ in 0..200 {
        sink.line(Stream::Stdout, &text);
    }
    outbox.flush();
    let mut sent = 0;
    while let Some(frame) = due(&outbox) {
        assert!(frame.len() <= (64 << 10) + 200, "{} bytes", frame.len());
        sent += frame.matches("\"seq\"").count();
    }
    assert_eq!(sent, 200);
}

#[tokio::test(start_paused = true)]
async fn the_worst_line_still_fits_a_frame_and_a_longer_one_is_cut_and_says_so() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    sink.line(Stream::Stdout, &"\u{1}".repeat(32 * 1024));
    sink.line(Stream::Stdout, &"é".repeat(32 * 1024));
    assert_eq!(seqs(&next_lines(&outbox).await), [1]);
    let lines = next_lines(&outbox).await;
    assert!(lines.lines[0].text.0.ends_with("too long]"));
}

#[tokio::test(start_paused = true)]
async fn after_a_reconnect_everything_after_the_servers_last_line_is_sent_again_without_gap_or_repeat() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    for n in 1..=10 {
        sink.line(Stream::Stdout, &n.to_string());
    }
    assert_eq!(next_lines(&outbox).await.lines.len(), 10);
    outbox.acked(&ack(job(1), 3));
    assert_eq!(outbox.known_jobs()[0].last_seq, 10);
    outbox.resume(&welcome(&[(job(1), 6)], &[]));
    sink.line(Stream::Stdout, "11");
    outbox.flush();
    let lines = next_lines(&outbox).await;
    assert_eq!(seqs(&lines), [7, 8, 9, 10, 11]);
    assert!(lines.lines.iter().all(|line| line.text.0 == line.seq.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_ack_means_a_gap_and_is_answered_once_a_second_by_sending_again() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    for n in 1..=4 {
        sink.line(Stream::Stdout, &n.to_string());
    }
    next(&outbox).await;
    outbox.acked(&ack(job(1), 2));
    for _ in 0..5 {
        outbox.acked(&ack(job(1), 2));
    }
    let before = Instant::now();
    assert_eq!(seqs(&next_lines(&outbox).await), [3, 4]);
    assert!(before.elapsed() < Duration::from_millis(100));
    outbox.acked(&ack(job(1), 2));
    outbox.acked(&ack(job(1), 1));
    assert_eq!(seqs(&next_lines(&outbox).await), [3, 4]);
    assert!(before.elapsed() >= Duration::from_millis(900), "{:?}", before.elapsed());
    outbox.acked(&ack(job(1), 2));
    outbox.acked(&ack(job(1), 4));
    advance(Duration::from_secs(5)).await;
    assert!(nothing_due(&outbox), "progress calls the repetition off");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_sent_again_until_it_is_acknowledged_and_then_the_job_is_forgotten() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    sink.line(Stream::Stdout, "x");
    sink.finished(done());
    next_lines(&outbox).await;
    next_end(&outbox).await;
    outbox.acked(&ack(job(1), 1));
    assert_eq!(outbox.known_jobs()[0].state, KnownJobState::Ended);
    outbox.resume(&welcome(&[(job(1), 1)], &[]));
    assert_eq!(next_end(&outbox).await.last_seq, 1);
    assert!(outbox.delivered().now_or_never().is_none());
    assert!(outbox.acked(&Ack { job_id: job(1), seq: 1, finished: true }));
    assert!(!outbox.contains(job(1)));
    assert!(outbox.delivered().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn jobs_that_the_server_has_the_end_of_or_does_not_know_are_forgotten_others_go_on() {
    let outbox = outbox(OutboxLimits::default());
    let sinks: Vec<_> = (1..=3).map(|n| outbox.open(job(n))).collect();
    assert_eq!(outbox.known_jobs().len(), 3);
    let late = outbox.open(job(4));
    assert_eq!(outbox.resume(&welcome(&[(job(1), 0), (job(2), 0)], &[job(2)])), [job(2), job(3)]);
    sinks[2].line(Stream::Stdout, "into the void");
    sinks[0].line(Stream::Stdout, "here");
    late.line(Stream::Stdout, "was not named in the hello, so the server could not know it");
    assert_eq!(next_lines(&outbox).await.job_id, job(1));
    assert_eq!(next_lines(&outbox).await.job_id, job(4));
    assert!(nothing_due(&outbox));
}

#[tokio::test(start_paused = true)]
async fn jobs_take_turns() {
    let outbox = outbox(OutboxLimits::default());
    let text = "x".repeat(30_000);
    for n in 1..=3 {
        let sink = outbox.open(job(n));
        for _ in 0..(if n == 1 { 20 } else { 3 }) {
            sink.line(Stream::Stdout, &text);
        }
        std::mem::forget(sink);
    }
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(next_lines(&outbox).await.job_id);
    }
    assert_eq!(order, [job(1), job(2), job(3), job(1)]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_window_is_sent_before_an_ack() {
    let outbox = outbox(OutboxLimits { window_bytes: 100_000, ..OutboxLimits::default() });
    let sink = outbox.open(job(1));
    for _ in 0..20 {
        sink.line(Stream::Stdout, &"x".repeat(30_000));
    }
    let mut last = 0;
    outbox.flush();
    while let Some(frame) = due(&outbox) {
        last += frame.matches("\"seq\"").count() as u32;
    }
    assert_eq!(last, 4);
    advance(Duration::from_secs(60)).await;
    assert!(nothing_due(&outbox));
    outbox.acked(&ack(job(1), 2));
    assert_eq!(seqs(&next_lines(&outbox).await), [5, 6]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_the_latest_at_most_once_a_second_and_only_when_nothing_else_is_due() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    let percent = |percent| JobProgress { percent, ..JobProgress::default() };
    sink.started(None);
    sink.progress(percent(1.0));
    sink.progress(percent(2.0));
    assert!(matches!(next(&outbox).await, AgentMessage::JobStarted(_)));
    assert!(
        matches!(next(&outbox).await, AgentMessage::JobProgress(p) if p.percent == 2.0 && p.job_id == Some(job(1)))
    );
    let before = Instant::now();
    sink.progress(percent(3.0));
    sink.progress(percent(4.0));
    assert!(matches!(next(&outbox).await, AgentMessage::JobProgress(p) if p.percent == 4.0));
    assert!(before.elapsed() >= Duration::from_secs(1));
    sink.progress(percent(5.0));
    sink.finished(done());
    next_end(&outbox).await;
    advance(Duration::from_secs(2)).await;
    assert!(nothing_due(&outbox), "progress after the end is nobody's business");
}

#[tokio::test(start_paused = true)]
async fn past_its_bound_lines_are_counted_the_loss_is_said_in_its_place_and_the_end_is_kept() {
    let outbox = outbox(spool(4000, 1 << 20));
    let sink = outbox.open(job(1));
    for n in 1..=100 {
        sink.line(Stream::Stdout, &format!("line {n} {}", "x".repeat(100)));
    }
    let kept = outbox.known_jobs()[0].last_seq;
    assert!((10..30).contains(&kept), "{kept}");
    assert_eq!(next_lines(&outbox).await.lines.len(), kept as usize);
    outbox.acked(&ack(job(1), kept));
    sink.line(Stream::Stdout, "room again");
    let lines = next_lines(&outbox).await;
    assert_eq!(seqs(&lines), [kept + 1, kept + 2], "dropped lines leave no gap in the numbers");
    assert_eq!(lines.lines[0].stream, Stream::System);
    assert!(lines.lines[0].text.0.starts_with(&format!("{} lines were dropped here", 100 - kept)));
    assert_eq!(lines.lines[1].text.0, "room again");

    for _ in 0..100 {
        sink.line(Stream::Stdout, &"x".repeat(100));
    }
    sink.finished(done());
    let lines = next_lines(&outbox).await;
    assert!(lines.lines.last().unwrap().text.0.contains("were dropped here"));
    let end = next_end(&outbox).await;
    assert!(end.log_truncated);
    assert_eq!(end.last_seq, lines.lines.last().unwrap().seq);
}

#[tokio::test(start_paused = true)]
async fn all_jobs_together_have_a_bound_too_and_a_forgotten_job_gives_its_room_back() {
    let outbox = outbox(spool(20_000, 10_000));
    let (first, second) = (outbox.open(job(1)), outbox.open(job(2)));
    for _ in 0..100 {
        first.line(Stream::Stdout, &"x".repeat(100));
    }
    second.line(Stream::Stdout, &"no room".repeat(50));
    let last_seq = |n| outbox.known_jobs().iter().find(|known| known.job_id == job(n)).unwrap().last_seq;
    assert!((70..90).contains(&last_seq(1)));
    assert_eq!(last_seq(2), 0);
    outbox.forget(job(1));
    second.line(Stream::Stdout, "room again");
    second.finished(done());
    let lines = next_lines(&outbox).await;
    assert!(lines.lines[0].text.0.contains("dropped here"), "{lines:?}");
    assert!(next_end(&outbox).await.log_truncated);
}

#[tokio::test(start_paused = true)]
async fn a_job_of_an_earlier_process_goes_on_after_what_the_server_has() {
    let outbox = outbox(OutboxLimits::default());
    let (sink, cursor) = outbox.reopen(job(1));
    assert_eq!(cursor, Cursor::default());
    sink.line(Stream::System, "the agent restarted");
    assert!(nothing_due(&outbox));
    assert_eq!(outbox.known_jobs()[0].state, KnownJobState::Running);
    outbox.resume(&welcome(&[(job(1), 17)], &[]));
    assert_eq!(seqs(&next_lines(&outbox).await), [18]);
    sink.finished(done());
    assert_eq!(next_end(&outbox).await.last_seq, 18);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_went_back_in_time_gets_again_what_is_still_on_disk() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    for n in 1..=10 {
        sink.line(Stream::Stdout, &n.to_string());
    }
    next(&outbox).await;
    outbox.acked(&ack(job(1), 8));
    outbox.resume(&welcome(&[(job(1), 3)], &[]));
    let lines = next_lines(&outbox).await;
    assert_eq!(seqs(&lines), [4, 5, 6, 7, 8, 9, 10]);
    assert!(lines.lines.iter().all(|line| line.text.0 == line.seq.to_string()));
    sink.finished(done());
    assert!(!next_end(&outbox).await.log_truncated);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_went_far_back_in_time_gets_the_rest_and_is_told_what_is_gone() {
    // Segments of 256 bytes: a line each.
    let outbox = outbox(spool(2048, 1 << 20));
    let sink = outbox.open(job(1));
    for n in 1..=10 {
        sink.line(Stream::Stdout, &n.to_string());
        outbox.flush();
    }
    next(&outbox).await;
    outbox.acked(&ack(job(1), 8));
    outbox.flush();
    let oldest = outbox.0.lock().jobs[&job(1)].log.oldest();
    assert!((5..=9).contains(&oldest), "{oldest}");
    outbox.resume(&welcome(&[(job(1), 3)], &[]));
    sink.line(Stream::Stdout, "11");
    sink.finished(done());
    outbox.flush();
    let first = next_lines(&outbox).await;
    assert_eq!(seqs(&first), [4]);
    assert!(first.lines[0].text.0.starts_with(&format!("{} lines that the server had stored are gone", oldest - 4)));
    let lines = next_lines(&outbox).await;
    let expected: Vec<String> = (oldest..=11).map(|n| n.to_string()).collect();
    let texts: Vec<_> = lines.lines.iter().map(|line| line.text.0.clone().into_owned()).collect();
    assert_eq!((lines.lines[0].seq, texts), (5, expected));
    assert!(next_end(&outbox).await.log_truncated);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_goes_away_without_an_end_reports_a_failure() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    drop(outbox.open(job(1)));
    assert!(nothing_due(&outbox), "a second sink of the same job does not end it");
    drop(sink);
    assert_eq!(next_end(&outbox).await.status, JobStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_end_too_big_for_a_frame_loses_its_details_not_itself() {
    let outbox = outbox(OutboxLimits::default());
    let sink = outbox.open(job(1));
    let summary = Some(serde_json::Value::String("x".repeat(2 << 20)));
    sink.finished(JobOutcome { summary, error: Some("é".repeat(1 << 20)), ..done() });
    let end = next_end(&outbox).await;
    assert_eq!((end.status, end.summary), (JobStatus::Succeeded, None));
    assert!(end.error.unwrap().len() <= 4096);
}
