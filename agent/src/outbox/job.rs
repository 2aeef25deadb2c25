//! What is undelivered of one job. Lines are numbered by their place: the line at index `i` is `acked + 1 + i`, so a
//! line that is dropped leaves no gap, and the numbers can never disagree with what is kept.

use std::{collections::VecDeque, time::Duration};

use flotilla_proto::{
    AgentMessage, JobFinished, JobId, JobProgress, JobStarted, KnownJob, KnownJobState, Line, LineText, LogStream,
    Stream, Timestamp, limits,
};
use tokio::time::Instant;

use super::OutboxLimits;
use crate::sink::JobOutcome;

/// JSON around a line's text: seq, time, stream, punctuation.
const LINE_OVERHEAD: usize = 80;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How soon a repeated ack may make the agent send again once more.
const REWIND_EVERY: Duration = Duration::from_secs(1);
/// Kept free for the line that says what was dropped.
const NOTICE_ROOM: usize = 320;
/// Error text kept when an end is too big for a frame.
const SHORT_ERROR: usize = 4096;

struct StoredLine {
    at: Timestamp,
    stream: Stream,
    text: Box<str>,
    /// Bytes it takes in a frame; also what is counted against the bounds.
    cost: u32,
}

pub(super) struct JobBox {
    id: JobId,
    acked: u32,
    lines: VecDeque<StoredLine>,
    /// Lines already sent over this connection.
    sent: usize,
    /// The last line that was ever sent: no ack can mean more.
    peak: u32,
    /// Cost of all lines, and of those that are sent and not acknowledged.
    pub(super) bytes: usize,
    in_flight: usize,
    /// When the first of the unsent lines came.
    waiting_since: Option<Instant>,
    dropped: u64,
    truncated: bool,
    started: Option<JobStarted>,
    started_sent: bool,
    progress: Option<JobProgress>,
    progress_sent: Option<Instant>,
    end: Option<(Timestamp, JobOutcome)>,
    end_sent: bool,
    last_rewind: Option<Instant>,
    rewind_at: Option<Instant>,
    /// From an earlier process: how many lines there are is known to the server alone.
    leftover: bool,
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

impl JobBox {
    pub(super) fn new(id: JobId) -> Self {
        Self {
            id,
            acked: 0,
            lines: VecDeque::new(),
            sent: 0,
            peak: 0,
            bytes: 0,
            in_flight: 0,
            waiting_since: None,
            dropped: 0,
            truncated: false,
            started: None,
            started_sent: false,
            progress: None,
            progress_sent: None,
            end: None,
            end_sent: false,
            last_rewind: None,
            rewind_at: None,
            leftover: false,
            named: false,
        }
    }

    /// A job of an earlier process, with a log that only the server has.
    pub(super) fn leftover(id: JobId) -> Self {
        Self { leftover: true, ..Self::new(id) }
    }

    fn last_seq(&self) -> u32 {
        // Bounded by `admits`: never past MAX_SEQ.
        self.acked + u32::try_from(self.lines.len()).unwrap_or(limits::MAX_SEQ - self.acked)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn known(&mut self) -> KnownJob {
        self.named = true;
        let state = if self.has_ended() { KnownJobState::Ended } else { KnownJobState::Running };
        KnownJob { job_id: self.id, last_seq: self.last_seq(), state }
    }

    pub(super) fn was_named(&self) -> bool {
        self.named
    }

    // What the job says.

    pub(super) fn start(&mut self, at: Timestamp, pid: Option<u32>) {
        if self.started.is_none() && !self.has_ended() {
            self.started = Some(JobStarted { job_id: self.id, seq: self.last_seq(), at, pid });
        }
    }

    /// Keeps a line, or counts it as dropped where `room` bytes (what all jobs may still take) or the job's own bound are used up.
    pub(super) fn line(&mut self, at: Timestamp, stream: Stream, text: &str, room: usize, bounds: &OutboxLimits) {
        if self.has_ended() {
            return;
        }
        let text = clean(text);
        let cost = cost_of(&text);
        let room = room.min(bounds.job_bytes.saturating_sub(self.bytes));
        // After a drop lines go on only once there is some room again: else every second line would be a notice.
        // The last numbers are for notices alone.
        let needed = cost + NOTICE_ROOM;
        let needed = if self.dropped > 0 { needed.max(bounds.job_bytes.min(bounds.total_bytes) / 16) } else { needed };
        if needed > room || self.last_seq() >= limits::MAX_SEQ - 4 {
            self.dropped += 1;
            return;
        }
        self.say_what_was_dropped(at);
        self.push(at, stream, text, cost);
    }

    pub(super) fn progress(&mut self, progress: JobProgress) {
        if !self.has_ended() {
            self.progress = Some(JobProgress { job_id: Some(self.id), ..progress });
        }
    }

    /// Takes the end whatever the bounds: it and the notice of what was dropped are never lost.
    pub(super) fn finish(&mut self, at: Timestamp, end: JobOutcome) {
        if self.has_ended() {
            return;
        }
        self.say_what_was_dropped(at);
        self.progress = None;
        self.end = Some((at, end));
    }

    fn say_what_was_dropped(&mut self, at: Timestamp) {
        if self.dropped == 0 {
            return;
        }
        let n = std::mem::take(&mut self.dropped);
        let (lines, were) = if n == 1 { ("line", "was") } else { ("lines", "were") };
        self.truncated = true;
        self.system(at, &format!(
            "{n} {lines} {were} dropped here because the agent could not deliver the log fast enough and its buffer was full"
        ));
    }

    fn system(&mut self, at: Timestamp, text: &str) {
        self.push(at, Stream::System, text.into(), cost_of(text));
    }

    fn push(&mut self, at: Timestamp, stream: Stream, text: Box<str>, cost: usize) {
        self.lines.push_back(StoredLine { at, stream, text, cost: u32::try_from(cost).unwrap_or(u32::MAX) });
        self.bytes += cost;
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    // What the server says.

    /// A new connection: `acked` is what the server has. Everything after it is sent again.
    pub(super) fn resume(&mut self, acked: u32, at: Timestamp) {
        if std::mem::take(&mut self.leftover) {
            self.acked = acked;
        } else if acked < self.acked {
            // The server went back in time (a restored backup). What it lost is gone here too: the log goes on after what it has.
            let lost = self.acked - acked;
            self.acked = acked;
            self.truncated = true;
            let text = format!(
                "{lost} lines that the server had stored are gone: its database was restored to an earlier state"
            );
            let cost = cost_of(&text);
            self.lines.push_front(StoredLine { at, stream: Stream::System, text: text.into(), cost: cost as u32 });
            self.bytes += cost;
        } else {
            let known = acked.min(self.last_seq());
            self.trim(known);
            // More than this process ever had: another copy of this agent wrote them. Numbers go on from the server's.
            self.acked = self.acked.max(acked);
        }
        self.rewind();
        self.started_sent = false;
        self.progress_sent = None;
        self.last_rewind = None;
    }

    /// All lines up to `seq` are on disk at the server. Without progress it is the answer to a gap: send again.
    pub(super) fn ack(&mut self, seq: u32, now: Instant) {
        if seq > self.acked {
            self.trim(seq.min(self.peak));
            self.rewind_at = None;
        } else if self.sent > 0 || self.end_sent {
            // At most once a second: the answers to a whole row of refused frames are one reason to go back, not many.
            match self.last_rewind.map(|last| last + REWIND_EVERY).filter(|due| *due > now) {
                None => self.rewind_now(now),
                Some(due) => self.rewind_at = Some(due),
            }
        }
    }

    fn trim(&mut self, up_to: u32) {
        while self.acked < up_to
            && let Some(line) = self.lines.pop_front()
        {
            let cost = line.cost as usize;
            self.acked += 1;
            self.bytes -= cost;
            if self.sent > 0 {
                self.sent -= 1;
                self.in_flight -= cost;
            }
        }
        if self.lines.is_empty() {
            // A burst must not pin its memory for the rest of a long job.
            self.lines.shrink_to(64);
            self.waiting_since = None;
        }
    }

    fn rewind_now(&mut self, now: Instant) {
        self.rewind();
        self.last_rewind = Some(now);
    }

    fn rewind(&mut self) {
        self.sent = 0;
        self.in_flight = 0;
        self.end_sent = false;
        self.rewind_at = None;
        self.waiting_since = (!self.lines.is_empty()).then(Instant::now);
    }

    // What is to be sent.

    /// When something that matters is due: start, lines, end.
    pub(super) fn due(&self, now: Instant, bounds: &OutboxLimits) -> Due {
        if self.leftover {
            return Due::Never;
        }
        if self.started.is_some() && !self.started_sent {
            return Due::Now;
        }
        let rewind = self.rewind_at.map_or(Due::Never, |at| if at <= now { Due::Now } else { Due::At(at) });
        rewind.earlier(self.lines_due(now, bounds))
    }

    fn lines_due(&self, now: Instant, bounds: &OutboxLimits) -> Due {
        if self.sent == self.lines.len() {
            return if self.has_ended() && !self.end_sent { Due::Now } else { Due::Never };
        }
        if self.in_flight >= bounds.window_bytes {
            return Due::Never;
        }
        match self.waiting_since.map(|since| since + bounds.batch_delay) {
            Some(due) if due > now && self.unsent() < bounds.batch_bytes && !self.has_ended() => Due::At(due),
            _ => Due::Now,
        }
    }

    /// Bytes of lines that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.bytes - self.in_flight
    }

    pub(super) fn progress_due(&self, now: Instant) -> Due {
        match (&self.progress, self.progress_sent.map(|last| last + PROGRESS_EVERY)) {
            (None, _) => Due::Never,
            (Some(_), Some(due)) if due > now => Due::At(due),
            (Some(_), _) => Due::Now,
        }
    }

    /// The next frame; call it only when [`Self::due`] says now.
    pub(super) fn take_frame(&mut self, now: Instant, bounds: &OutboxLimits, id: &str) -> Option<String> {
        if self.rewind_at.is_some_and(|at| at <= now) {
            self.rewind_now(now);
        }
        if let Some(started) = self.started.clone().filter(|_| !self.started_sent) {
            self.started_sent = true;
            return encode(&AgentMessage::JobStarted(started), id);
        }
        if self.sent < self.lines.len() {
            return self.take_lines(bounds, id);
        }
        if self.end_sent { None } else { self.take_end(id) }
    }

    pub(super) fn take_progress(&mut self, now: Instant, id: &str) -> Option<String> {
        let progress = self.progress.take()?;
        self.progress_sent = Some(now);
        encode(&AgentMessage::JobProgress(progress), id)
    }

    fn take_lines(&mut self, bounds: &OutboxLimits, id: &str) -> Option<String> {
        let mut size = 0;
        let mut lines = Vec::new();
        let first = self.acked + 1 + u32::try_from(self.sent).ok()?;
        for (seq, line) in (first..).zip(self.lines.range(self.sent..)) {
            let cost = line.cost as usize;
            let full = size + cost > bounds.batch_bytes || lines.len() == limits::MAX_LINES_PER_FRAME;
            if full && !lines.is_empty() {
                break;
            }
            size += cost;
            lines.push(Line { seq, at: line.at, stream: line.stream, text: LineText((&*line.text).into()) });
        }
        let taken = lines.len();
        let frame = encode(&AgentMessage::LogStream(LogStream { job_id: self.id, lines }), id);
        self.sent += taken;
        self.peak = self.peak.max(first + u32::try_from(taken).ok()? - 1);
        self.in_flight += size;
        self.waiting_since = (self.sent < self.lines.len()).then(Instant::now);
        frame
    }

    fn take_end(&mut self, id: &str) -> Option<String> {
        let (at, end) = self.end.as_ref()?;
        self.end_sent = true;
        let mut finished = Box::new(JobFinished {
            job_id: self.id,
            last_seq: self.last_seq(),
            at: *at,
            status: end.status,
            exit_code: end.exit_code,
            error: end.error.clone(),
            summary: end.summary.clone(),
            log_truncated: self.truncated,
        });
        encode(&AgentMessage::JobFinished(finished.clone()), id).or_else(|| {
            // Too big for a frame. That the job ended matters more than the details.
            finished.summary = None;
            finished.error = finished.error.map(|text| text[..text.floor_char_boundary(SHORT_ERROR)].to_owned());
            encode(&AgentMessage::JobFinished(finished), id)
        })
    }
}

fn encode(message: &AgentMessage<'_>, id: &str) -> Option<String> {
    message
        .encode(id)
        .inspect_err(|error| tracing::error!(kind = message.kind(), %error, "a frame could not be written"))
        .ok()
}

/// Bytes of a line in a frame, its JSON escapes among them.
fn cost_of(text: &str) -> usize {
    let escapes: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' => 1,
            0..0x20 => 5,
            _ => 0,
        })
        .sum();
    text.len() + escapes + LINE_OVERHEAD
}

/// Within the wire's rules: no line break inside, no longer than a line may be; a cut says so.
fn clean(text: &str) -> Box<str> {
    const CUT: &str = " … [the agent cut this line: it was too long]";
    let breaks = text.contains(['\n', '\r']);
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
