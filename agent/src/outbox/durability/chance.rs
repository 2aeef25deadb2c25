//! Crashes, breaks and acks in any order: what chance makes of a job's log, and what must hold whatever it is.

use proptest::prelude::*;

use super::*;

/// What a job does between two looks.
#[derive(Debug, Clone)]
enum Step {
    Lines(usize),
    Held(usize),
    HeldWithoutMark(usize),
    Flush,
    Deliver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1usize..6).prop_map(Step::Lines),
        (1usize..6).prop_map(Step::Held),
        (1usize..4).prop_map(Step::HeldWithoutMark),
        Just(Step::Flush),
        Just(Step::Deliver),
    ];
    proptest::collection::vec(step, 1..24)
}

/// A job whose output is the lines `0, 1, …`: output offset n is behind line n-1.
struct Told {
    sink: Arc<dyn JobSink>,
    next: usize,
    /// Offsets at which something was committed.
    commits: Vec<usize>,
}

impl Told {
    fn say(&mut self, count: usize) {
        for _ in 0..count {
            self.sink.line(Stream::Stdout, &self.next.to_string());
            self.next += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Before each flush the lengths that are synced are noted; what the flush then writes may be on disk in any part when the power goes.
    #[test]
    fn after_a_power_loss_all_that_was_offered_is_there_held_lines_are_whole_and_only_the_unsynced_is_lost(
        steps in steps(), cut in proptest::collection::vec(any::<prop::sample::Index>(), 5)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spool = SpoolLimits { job_bytes: 8 * 600, total_bytes: 1 << 20 };
        let limits = OutboxLimits { spool, ..OutboxLimits::default() };
        let outbox = on(dir.path(), limits);
        let mut told = Told { sink: outbox.open(job(1)), next: 0, commits: vec![0] };
        let mut offered = 0;
        for step in steps {
            match step {
                Step::Lines(count) => for _ in 0..count {
                    told.say(1);
                    told.commits.push(told.next);
                },
                Step::Held(count) => {
                    told.sink.hold();
                    told.say(count);
                    told.sink.mark(Stream::Stdout, told.next as u64);
                    told.commits.push(told.next);
                }
                Step::HeldWithoutMark(count) => {
                    told.sink.hold();
                    told.say(count);
                    // The mark comes after the power may have gone.
                    crash(&outbox, dir.path(), &told, offered, &cut);
                    told.sink.mark(Stream::Stdout, told.next as u64);
                    told.commits.push(told.next);
                }
                Step::Flush => crash(&outbox, dir.path(), &told, offered, &cut),
                Step::Deliver => offered += deliver(&outbox).0.len(),
            }
        }
        crash(&outbox, dir.path(), &told, offered, &cut);
        outbox.close();
    }
}

/// Flushes, and starts an agent on states of the disk between those before and after.
fn crash(outbox: &Outbox, dir: &Path, told: &Told, offered: usize, cuts: &[prop::sample::Index]) {
    let safe: HashMap<PathBuf, u64> = outbox.0.lock_files().synced.iter().cloned().collect();
    let synced_to = recovered_raw(&files(dir)).last().map_or(0, |text| text.parse::<usize>().unwrap() + 1);
    outbox.flush();
    let after = files(dir);
    for cut in cuts {
        let mut lost_from_here = false;
        let mut torn = Vec::new();
        for (path, bytes) in &after {
            let least = safe.get(&dir.join(path)).map_or(0, |len| usize::try_from(*len).unwrap());
            let len = least + cut.index(bytes.len() - least.min(bytes.len()) + 1);
            if least == 0 && lost_from_here {
                // A segment is begun only when the one before it is synced.
                continue;
            }
            lost_from_here = len < bytes.len();
            torn.push((path.clone(), bytes[..len].to_vec()));
        }
        let lines = recovered_raw(&torn);
        let numbers: Vec<usize> = lines.iter().map(|text| text.parse().unwrap()).collect();
        let first = numbers.first().copied().unwrap_or(offered);
        assert!(numbers.iter().copied().eq(first..first + numbers.len()), "{numbers:?}");
        assert!(first <= offered, "what the server has not confirmed is here: {first} of {offered}");
        assert!(first + numbers.len() >= offered, "what was offered is here");
        assert!(first + numbers.len() >= synced_to, "what was synced is here: {numbers:?}, {synced_to}");
        assert!(
            told.commits.contains(&(first + numbers.len())),
            "a held group is whole: {numbers:?} {:?}",
            told.commits
        );
    }
}

/// The lines that a start finds in these files, notices left out.
fn recovered_raw(files: &[(PathBuf, Vec<u8>)]) -> Vec<String> {
    let image = image(files);
    let outbox = usual(image.path());
    let oldest = outbox.0.lock().jobs.get(&job(1)).map_or(1, |job| job.log.oldest());
    connect(&outbox, u32::try_from(oldest - 1).unwrap());
    outbox.close();
    let lines = deliver(&outbox).0.into_iter().map(|(_, text)| text);
    lines.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

/// What befalls a job, its agent and its connection.
#[derive(Debug, Clone)]
enum Fate {
    Say(usize),
    Flush,
    /// So many frames are sent and stored.
    Send(usize),
    Ack,
    /// Frames were on their way when the connection broke.
    Cut,
    Crash,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (1usize..40).prop_map(Fate::Say),
        3 => Just(Fate::Flush),
        3 => (1usize..6).prop_map(Fate::Send),
        2 => Just(Fate::Ack),
        1 => Just(Fate::Cut),
        1 => Just(Fate::Crash),
    ];
    proptest::collection::vec(fate, 1..40)
}

/// An agent that reads the output `0, 1, 2, …` of one job, line n at offset n, and a server that stores lines only in order.
struct Story {
    dir: TempDir,
    limits: OutboxLimits,
    outbox: Outbox,
    sink: Arc<dyn JobSink>,
    read: usize,
    stored: Vec<String>,
    ended: Option<u32>,
}

impl Story {
    fn begin(limits: OutboxLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outbox = on(dir.path(), limits);
        let sink = outbox.open(job(1));
        connect(&outbox, 0);
        Self { dir, limits, outbox, sink, read: 0, stored: Vec::new(), ended: None }
    }

    fn go(&mut self, fate: &Fate) {
        match fate {
            Fate::Say(count) => {
                self.sink.hold();
                for _ in 0..*count {
                    self.sink.line(Stream::Stdout, &format!("{} {}", self.read, "-".repeat(self.read % 97)));
                    self.read += 1;
                }
                self.sink.mark(Stream::Stdout, self.read as u64);
            }
            Fate::Flush => self.outbox.flush(),
            Fate::Send(frames) => (0..*frames).for_each(|_| {
                self.send();
            }),
            Fate::Ack => self.ack(),
            Fate::Cut => {
                // Sent, and lost on the way.
                let _ = self.outbox.next().now_or_never();
                connect(&self.outbox, self.stored.len() as u32);
            }
            Fate::Crash => {
                self.outbox.close();
                self.outbox = on(self.dir.path(), self.limits);
                let (sink, cursor) = self.outbox.reopen(job(1));
                (self.sink, self.read) = (sink, cursor.stdout as usize);
                connect(&self.outbox, self.stored.len() as u32);
            }
        }
    }

    fn send(&mut self) -> bool {
        let Some(frame) = self.outbox.next().now_or_never() else { return false };
        match decode(frame) {
            AgentMessage::LogStream(message) => {
                for line in &message.lines {
                    assert!(
                        line.seq as usize <= self.stored.len() + 1,
                        "a gap: {} after {}",
                        line.seq,
                        self.stored.len()
                    );
                    if line.seq as usize == self.stored.len() + 1 {
                        self.stored.push(line.text.0.clone().into_owned());
                    }
                }
            }
            AgentMessage::JobFinished(end) => self.ended = Some(end.last_seq),
            other => panic!("{other:?}"),
        }
        true
    }

    fn ack(&self) {
        self.outbox.acked(&Ack { job_id: job(1), seq: self.stored.len() as u32, finished: false });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_crashes_and_breaks_the_server_stores_each_line_once_and_in_order(
        fates in fates(), memory_bytes in prop_oneof![Just(0usize), Just(2000), Just(4 << 20)]
    ) {
        let spool = SpoolLimits { job_bytes: 256 << 10, total_bytes: 1 << 20 };
        let limits = OutboxLimits { spool, memory_bytes, batch_bytes: 1500, window_bytes: 9000, ..OutboxLimits::default() };
        let mut story = Story::begin(limits);
        fates.iter().for_each(|fate| story.go(fate));
        story.sink.finished(done());
        story.outbox.flush();
        while story.ended.is_none() {
            while story.send() {}
            story.ack();
        }
        let expected = (0..story.read).map(|n| format!("{n} {}", "-".repeat(n % 97)));
        prop_assert!(story.stored.iter().cloned().eq(expected), "{:?}", story.stored);
        prop_assert_eq!(story.ended, Some(story.read as u32));
    }
}
