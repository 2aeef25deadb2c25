//! What is undelivered of one job: its log, how far that was sent and acknowledged, and its end. What is due of that is the matter of `sending`.

use std::{collections::VecDeque, time::Duration};

use flotilla_proto::{JobId, JobProgress, KnownJob, KnownJobState, Stream, Timestamp, limits};
use tokio::time::Instant;

use super::log::JobLog;
use crate::{
    sink::{Cursor, JobOutcome},
    spool::{
        files::ReadBack,
        record::{End, Gap, Lost, Settled},
        recover::Found,
    },
};

mod sending;

/// A record around a line's text.
const RECORD_OVERHEAD: u64 = 18;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How soon a repeated ack may make the agent send again once more.
const REWIND_EVERY: Duration = Duration::from_secs(1);
/// Kept free for the line that says what was dropped.
const NOTICE_ROOM: u64 = 320;
/// A larger end goes to disk without its summary: it would not fit a frame either.
const MAX_END: usize = limits::MAX_FRAME_BYTES;

pub(super) struct JobBox {
    id: JobId,
    pub(super) log: JobLog,
    /// Positions of the last line that the server has, of the last one sent over this connection, and of the last ever sent: no ack can mean more.
    acked: i64,
    sent: i64,
    peak: i64,
    /// Frames sent and not acknowledged: their last line and their bytes.
    frames: VecDeque<(i64, usize)>,
    in_flight: usize,
    /// How far the output files were told.
    cursor: Cursor,
    /// A line came since the last mark.
    unmarked: bool,
    dropped: u64,
    dropped_for: Shortage,
    started_end: u64,
    started_sent: bool,
    progress: Option<JobProgress>,
    progress_sent: Option<Instant>,
    /// The end, and where its record ends.
    end: Option<(End, u64)>,
    end_sent: bool,
    last_rewind: Option<Instant>,
    rewind_at: Option<Instant>,
    /// Named in the last `hello`.
    named: bool,
}

/// When a job has something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

impl Due {
    pub(super) fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::At(a), Self::At(b)) => Self::At(a.min(b)),
            (Self::At(at), Self::Never) | (Self::Never, Self::At(at)) => Self::At(at),
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}

/// What [`JobBox::take_frame`] gives.
pub(super) enum Taken {
    Frame(String),
    /// Lines must be read first.
    Read(ReadBack),
    /// Nothing after all.
    Nothing,
}

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The spool's bounds are reached.
    Spool,
    /// The disk takes nothing, and memory for it is used up.
    Disk,
}

/// Bytes that a job may still take, and what for there are no more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) bytes: u64,
    pub(super) shortage: Shortage,
    /// After a drop lines go on only once there is so much again: else every second line would be a notice.
    pub(super) again: u64,
}

impl JobBox {
    pub(super) fn new(id: JobId, chunk_bytes: usize) -> Self {
        Self::with(id, JobLog::new(Settled::new(Some(0)), chunk_bytes))
    }

    /// A job of an earlier process of which nothing is on disk: how much of its log there is, the server alone knows.
    pub(super) fn leftover(id: JobId, chunk_bytes: usize) -> Self {
        Self::with(id, JobLog::new(Settled::new(None), chunk_bytes))
    }

    /// A job as it was found on disk. Any of it may have been sent.
    pub(super) fn found(found: Found, chunk_bytes: usize) -> Self {
        let log = JobLog::found(&found, chunk_bytes);
        let before = log.oldest() - 1;
        let end = found.end.map(|end| (end, 0));
        Self {
            acked: before,
            sent: before,
            peak: log.last(),
            cursor: found.settled.cursor(),
            dropped: found.settled.dropped,
            end,
            ..Self::with(found.job, log)
        }
    }

    fn with(id: JobId, log: JobLog) -> Self {
        Self {
            id,
            log,
            acked: 0,
            sent: 0,
            peak: 0,
            frames: VecDeque::new(),
            in_flight: 0,
            cursor: Cursor::default(),
            unmarked: false,
            dropped: 0,
            dropped_for: Shortage::Spool,
            started_end: 0,
            started_sent: false,
            progress: None,
            progress_sent: None,
            end: None,
            end_sent: false,
            last_rewind: None,
            rewind_at: None,
            named: false,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether there is nothing that the server still has to confirm; true of a running job whose lines it all has.
    pub(super) fn is_delivered(&self) -> bool {
        !self.has_ended() && self.acked >= self.log.last()
    }

    /// Whether the spool's bounds cost lines at this time.
    pub(super) fn is_dropping(&self) -> bool {
        self.dropped > 0 && self.dropped_for == Shortage::Spool && !self.has_ended()
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub(super) fn known(&mut self) -> KnownJob {
        self.named = true;
        let state = if self.has_ended() { KnownJobState::Ended } else { KnownJobState::Running };
        KnownJob { job_id: self.id, last_seq: self.log.number(self.log.last()), state }
    }

    pub(super) fn was_named(&self) -> bool {
        self.named
    }

    // What the job says.

    pub(super) fn start(&mut self, at: Timestamp, pid: Option<u32>) {
        if self.log.settled().started.is_none() && !self.has_ended() {
            self.started_end = self.log.started(at, pid);
        }
    }

    /// Keeps a line, or counts it as dropped where there is no room.
    pub(super) fn line(&mut self, at: Timestamp, stream: Stream, text: &str, room: Room) {
        if self.has_ended() {
            return;
        }
        let text = clean(text);
        let needed = text.len() as u64 + RECORD_OVERHEAD + NOTICE_ROOM;
        let needed = if self.dropped > 0 { needed.max(room.again) } else { needed };
        // The last numbers are for notices alone.
        let number = self.log.last() + self.log.held_lines() + self.log.settled().shift.unwrap_or(0);
        if needed > room.bytes || number >= i64::from(limits::MAX_SEQ - 4) {
            self.dropped += 1;
            self.dropped_for = room.shortage;
            return;
        }
        self.say_what_was_dropped(at);
        self.unmarked = true;
        self.log.line(at, stream, &text, false);
    }

    pub(super) fn hold(&mut self) {
        if !self.has_ended() {
            self.log.hold();
        }
    }

    /// A mark that no line belongs to is not written: reading the same output again would say nothing either. So is one of dropped lines: they get another
    /// chance after a crash, and are counted no more than once, for the count is in the mark too.
    pub(super) fn mark(&mut self, stream: Stream, offset: u64) {
        match stream {
            Stream::Stdout => self.cursor.stdout = offset,
            Stream::Stderr => self.cursor.stderr = offset,
            Stream::System => {}
        }
        if !self.has_ended() {
            if std::mem::take(&mut self.unmarked) {
                self.log.mark(self.cursor, self.dropped);
            } else {
                self.log.release();
            }
        }
    }

    /// Writes the last mark also where no line belongs to it, for what it covers is not to be read again. Returns where all that was said ends; `None` after
    /// the job's end.
    pub(super) fn settle(&mut self) -> Option<u64> {
        if self.has_ended() {
            return None;
        }
        self.unmarked = false;
        Some(self.log.mark(self.cursor, self.dropped))
    }

    pub(super) fn progress(&mut self, progress: JobProgress) {
        if !self.has_ended() {
            self.progress = Some(JobProgress { job_id: Some(self.id), ..progress });
        }
    }

    /// Takes the end whatever the bounds: it and the notice of what was dropped are never lost.
    pub(super) fn finish(&mut self, at: Timestamp, outcome: JobOutcome) {
        if self.has_ended() {
            return;
        }
        self.say_what_was_dropped(at);
        self.progress = None;
        let mut end = End::new(at, outcome);
        if end.summary.as_ref().is_some_and(|summary| summary.to_string().len() > MAX_END) {
            end.summary = None;
        }
        end.error = end.error.map(|text| text[..text.floor_char_boundary(MAX_END)].to_owned());
        let written = self.log.end(end.clone());
        self.end = Some((end, written));
    }

    fn say_what_was_dropped(&mut self, at: Timestamp) {
        if self.dropped == 0 {
            return;
        }
        if self.log.held_lines() == 0 && self.cursor != self.log.settled().cursor() {
            // Else a crash would read the dropped lines again behind the line that says that they are missing.
            let holding = self.log.is_holding();
            self.log.mark(self.cursor, self.dropped);
            if holding {
                self.log.hold();
            }
        }
        let n = std::mem::take(&mut self.dropped);
        let (lines, were) = if n == 1 { ("line", "was") } else { ("lines", "were") };
        let why = match self.dropped_for {
            Shortage::Spool => "the agent could not deliver the log fast enough and its spool was full",
            Shortage::Disk => {
                "the disk of the agent's state folder was full or failing, and so was the memory that stood in for it"
            }
        };
        self.unmarked = true;
        self.log.line(at, Stream::System, &format!("{n} {lines} {were} dropped here because {why}"), true);
    }

    /// A line of the agent's own about this log.
    pub(super) fn system(&mut self, at: Timestamp, text: &str) {
        self.log.line(at, Stream::System, text, false);
    }

    // What the server says.

    /// A new connection: `acked` is what the server has. Everything after it is sent again.
    pub(super) fn resume(&mut self, acked: u32, at: Timestamp) {
        let known = self.log.settled().shift.is_some();
        let has = self.log.position(acked);
        let (oldest, last) = (self.log.oldest(), self.log.last());
        if !known {
            self.log.rebase(oldest, acked.saturating_add(1), None);
            self.acked = oldest - 1;
        } else if has > last {
            // More than this agent has: another copy of it wrote them, or they were sent while its disk was full. Numbers go on from the server's.
            self.log.rebase(last, acked, None);
            self.acked = last;
        } else if has < oldest - 1 {
            // The server went back in time (a restored backup). What it lost is gone here too: the log goes on after what it has.
            let gap = Gap { why: Lost::ServerWentBack, pos: oldest - 1, lines: oldest - 1 - has, at };
            self.log.rebase(gap.pos, acked.saturating_add(1), Some(gap));
            self.acked = oldest - 2;
        } else {
            self.acked = has;
        }
        self.trim(false);
        self.rewind();
        self.started_sent = false;
        self.progress_sent = None;
        self.last_rewind = None;
    }

    /// All lines up to `seq` are on disk at the server. Without progress it is the answer to a gap: send again.
    pub(super) fn ack(&mut self, seq: u32, now: Instant, failing: bool) {
        let has = self.log.position(seq).min(self.peak);
        if has > self.acked {
            self.acked = has;
            self.sent = self.sent.max(has);
            while let Some((_, bytes)) = self.frames.front().copied().filter(|(last, _)| *last <= has) {
                self.in_flight -= bytes;
                self.frames.pop_front();
            }
            self.trim(failing);
            self.rewind_at = None;
        } else if self.sent > self.acked || self.end_sent {
            // At most once a second: the answers to a whole row of refused frames are one reason to go back, not many.
            match self.last_rewind.map(|last| last + REWIND_EVERY).filter(|due| *due > now) {
                None => self.rewind_now(now),
                Some(due) => self.rewind_at = Some(due),
            }
        }
    }

    pub(super) fn trim(&mut self, failing: bool) {
        self.log.trim(self.acked, failing);
    }

    fn rewind_now(&mut self, now: Instant) {
        self.rewind();
        self.last_rewind = Some(now);
    }

    fn rewind(&mut self) {
        self.sent = self.acked;
        self.frames.clear();
        self.in_flight = 0;
        self.end_sent = false;
        self.rewind_at = None;
    }

    /// What was to be sent next can't be read back: a line says so in its place, and the log goes on behind it.
    pub(super) fn unreadable(&mut self, pos: i64, at: Timestamp) {
        let end = self.log.end_of_segment(pos);
        let number = self.log.number(pos);
        self.log.rebase(end, number, Some(Gap { why: Lost::Unreadable, pos: end, lines: end - pos + 1, at }));
        self.acked = end - 1;
        self.rewind();
    }
}

/// Within the wire's rules: no line break inside, no longer than a line may be; a cut says so.
fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    const CUT: &str = " … [the agent cut this line: it was too long]";
    // Without an early exit the compiler looks at many bytes at once: this runs for every line.
    let breaks = text.bytes().fold(false, |found, byte| found | (byte == b'\n') | (byte == b'\r'));
    if text.len() <= limits::MAX_LINE_BYTES && !breaks {
        return text.into();
    }
    let mut kept = if breaks { text.replace(['\n', '\r'], " ") } else { text.to_owned() };
    if kept.len() > limits::MAX_LINE_BYTES {
        kept.truncate(kept.floor_char_boundary(limits::MAX_LINE_BYTES - CUT.len()));
        kept.push_str(CUT);
    }
    kept.into()
}
