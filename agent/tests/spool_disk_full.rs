//! The spool on a disk that is really full: a tmpfs of 256 KiB in a mount namespace of its own. Where the system allows none, the same is left to the unit
//! tests, which make the writes fail.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/namespace.rs"]
mod namespace;

use std::{path::Path, sync::Arc};

use flotilla_agent::{
    clock::SystemClock,
    outbox::{Outbox, OutboxLimits},
    sink::JobOutcome,
};
use flotilla_proto::{Ack, AgentMessage, JobFinished, JobId, JobStatus, RawEnvelope, Stream};
use futures_util::FutureExt as _;

fn outbox(dir: &Path) -> Outbox {
    Outbox::new(dir, OutboxLimits::default(), Arc::new(SystemClock)).unwrap()
}

/// Takes all that is offered, as a server that stores at once. Returns the number of the last line, and the ends.
fn deliver(outbox: &Outbox) -> (u32, Vec<JobFinished>) {
    let (mut last, mut ends) = (0, Vec::new());
    while let Some(frame) = outbox.next().now_or_never() {
        match AgentMessage::decode(&RawEnvelope::decode(&frame).unwrap()).unwrap() {
            AgentMessage::LogStream(message) => {
                for line in &message.lines {
                    assert!(line.text.0.starts_with(&format!("{} ", line.seq)), "line {} is {}", line.seq, line.text.0);
                    last = line.seq;
                }
                outbox.acked(&Ack { job_id: message.job_id, seq: last, finished: false });
            }
            AgentMessage::JobFinished(end) => ends.push(*end),
            other => panic!("{other:?}"),
        }
    }
    (last, ends)
}

#[test]
fn a_full_disk_costs_no_line_that_memory_can_hold_and_space_that_comes_back_is_used() {
    let name = "a_full_disk_costs_no_line_that_memory_can_hold_and_space_that_comes_back_is_used";
    if let Some(disk) = namespace::again(name, "mkdir disk && mount -t tmpfs -o size=256k tmpfs disk && exec") {
        on_small_disk(&disk.join("disk"));
    }
}

fn on_small_disk(dir: &Path) {
    let job = JobId::from_parts(1, 1);
    let before = outbox(dir);
    let sink = before.open(job);
    let say =
        |from: u32, to: u32| (from..=to).for_each(|n| sink.line(Stream::Stdout, &format!("{n} {}", "x".repeat(100))));
    say(1, 100);
    before.flush();
    assert!(before.troubles().is_empty());
    std::fs::write(dir.join("ballast"), vec![0; 200 << 10]).unwrap();

    say(101, 1500);
    before.flush();
    let troubles = before.troubles();
    assert_eq!(troubles[0].code, "spool_disk_full", "{troubles:?}");
    // A job that runs on waits for the disk: the next process would say the same again.
    assert_eq!(deliver(&before).0, 100);

    std::fs::remove_file(dir.join("ballast")).unwrap();
    say(1501, 1600);
    before.flush();
    assert!(before.troubles().is_empty());
    sink.finished(JobOutcome { status: JobStatus::Succeeded, exit_code: Some(0), error: None, summary: None });
    before.flush();

    let after = outbox(dir);
    assert_eq!(after.known_jobs()[0].last_seq, 1600, "what came with the space is on disk, numbered on");
    let (last, ends) = deliver(&after);
    assert_eq!((last, ends.len()), (1600, 1));
    assert!(!ends[0].log_truncated);
}
