//! Where a step's lines go: to the job's log and to what reads results out of them, each up to a bound. No secret gets past here, not even into a result.

use flotilla_proto::Stream;

use super::remote::OutputLine;
use crate::{restic::redact::Redacted, runbook::Readings, sink::JobSink as _, text};

/// Of one step's output so much goes to the log, in bytes …
const LOG_BYTES: usize = 8 << 20;
/// … where a line counts so much more than its text.
const LINE_COST: usize = 32;
/// So much of it is looked through for results.
const READ_BYTES: u64 = 64 << 20;

/// Takes lines.
pub(super) trait Ear: Send {
    /// Takes one. Whether more are wanted: else they need only be counted.
    fn take(&mut self, line: OutputLine) -> bool;
    /// A line that is not for the log: only results are read out of it.
    fn read_only(&mut self, _line: OutputLine) {}
    /// A line of Flotilla's own.
    fn say(&mut self, text: &str);
    /// There are no more, and of these bytes no line was made.
    fn close(&mut self, _skimmed: u64) {}
}

/// A step's.
pub(super) struct Voice<'v, 'r> {
    sink: &'v Redacted,
    /// Of a step whose output results are read from.
    readings: Option<&'v mut Readings<'r>>,
    room: usize,
    read: u64,
    left_out: u64,
    deaf: bool,
}

impl<'v, 'r> Voice<'v, 'r> {
    pub(super) fn new(sink: &'v Redacted, readings: Option<&'v mut Readings<'r>>) -> Self {
        Self { sink, readings, room: LOG_BYTES, read: 0, left_out: 0, deaf: false }
    }

    fn read(&mut self, line: &OutputLine, clean: &str) -> bool {
        let Some(readings) = self.readings.as_mut() else { return false };
        if line.stream != Stream::Stdout || self.deaf {
            return !self.deaf;
        }
        self.read += line.text.len() as u64 + 1;
        if self.read > READ_BYTES {
            self.deaf = true;
            let bound = text::size(READ_BYTES);
            self.sink.say(&format!(
                "results are looked for in the first {bound} of a step's output; the rest is not looked at"
            ));
            return false;
        }
        readings.line(clean);
        true
    }
}

impl Ear for Voice<'_, '_> {
    fn take(&mut self, line: OutputLine) -> bool {
        let clean = self.sink.scrub(&line.text);
        let reads = self.read(&line, &clean);
        let cost = line.text.len() + LINE_COST;
        if cost > self.room {
            // What is short goes too from here on: a log with holes misleads.
            self.room = 0;
            self.left_out += (line.text.len() + line.lost) as u64 + 1;
        } else {
            self.room -= cost;
            self.sink.line(line.stream, &text::cut(clean.replace('\t', " "), line.lost));
        }
        reads || self.room > 0
    }

    fn read_only(&mut self, line: OutputLine) {
        let clean = self.sink.scrub(&line.text);
        self.read(&line, &clean);
    }

    fn say(&mut self, text: &str) {
        self.sink.say(text);
    }

    fn close(&mut self, skimmed: u64) {
        let left_out = self.left_out + skimmed;
        if left_out > 0 {
            let (size, bound) = (text::size(left_out), text::size(LOG_BYTES as u64));
            self.sink.say(&format!("{size} more of its output are left out: the log takes {bound} of each step"));
        }
    }
}

/// Keeps what a short script of the engine's own prints.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) lines: Vec<String>,
    pub(super) errors: Vec<String>,
}

/// Most lines that are kept of each stream.
const MOST_LINES: usize = 100;

impl Ear for Collected {
    fn take(&mut self, line: OutputLine) -> bool {
        let lines = if line.stream == Stream::Stdout { &mut self.lines } else { &mut self.errors };
        if lines.len() < MOST_LINES {
            lines.push(text::cut(line.text.replace('\t', " "), line.lost));
        }
        true
    }

    fn say(&mut self, _: &str) {}
}
