//! What of a job is due on the wire, and the frames that it makes. Only what is on disk is due, but for the end of a job while the disk takes nothing.

use flotilla_proto::{AgentMessage, JobFinished, JobStarted, Line, LineText, LogStream, Stream, limits};
use tokio::time::Instant;

use super::{Due, JobBox, PROGRESS_EVERY, Taken};
use crate::{
    outbox::{OutboxLimits, log::Look},
    spool::record::{Gap, Lost},
};

/// JSON around a line's text: seq, time, stream, punctuation.
const LINE_OVERHEAD: usize = 80;
/// Error text kept when an end is too big for a frame.
const SHORT_ERROR: usize = 4096;

impl JobBox {
    /// Whether what is in memory alone may be sent. While the disk takes nothing, a job that has ended is told from memory: its end must come through. One that
    /// runs waits: the next process would read the same output again, from where the disk has it, and the server would have those lines twice.
    fn sends_from_memory(&self, failing: bool) -> bool {
        failing && self.has_ended()
    }

    /// When something that matters is due: start, lines, end. `failing`: the disk takes nothing.
    pub(in crate::outbox) fn due(&self, now: Instant, bounds: &OutboxLimits, failing: bool) -> Due {
        let failing = self.sends_from_memory(failing);
        if self.log.settled().shift.is_none() || !(failing || self.log.may_send()) {
            return Due::Never;
        }
        if self.start_is_due(failing) {
            return Due::Now;
        }
        let rewind = self.rewind_at.map_or(Due::Never, |at| if at <= now { Due::Now } else { Due::At(at) });
        rewind.earlier(self.lines_due(bounds, failing))
    }

    fn start_is_due(&self, failing: bool) -> bool {
        let started = self.log.settled().started.is_some() && !self.started_sent;
        started && (failing || self.log.has_synced(self.started_end))
    }

    fn end_is_due(&self, failing: bool) -> bool {
        let end = self.end.as_ref().filter(|_| !self.end_sent && self.sent >= self.log.last());
        end.is_some_and(|(_, written)| failing || self.log.has_synced(*written))
    }

    fn lines_due(&self, bounds: &OutboxLimits, failing: bool) -> Due {
        if self.end_is_due(failing) {
            return Due::Now;
        }
        if self.sent >= self.log.last() || self.in_flight >= bounds.window_bytes {
            return Due::Never;
        }
        match self.log.lines(self.id, self.sent + 1, failing, |_, _| false) {
            Look::NotYet => Due::Never,
            Look::Line | Look::Gap(_) | Look::Away(_) => Due::Now,
        }
    }

    pub(in crate::outbox) fn progress_due(&self, now: Instant) -> Due {
        match (&self.progress, self.progress_sent.map(|last| last + PROGRESS_EVERY)) {
            (None, _) => Due::Never,
            // The start is on its way to the disk.
            _ if self.log.settled().started.is_some() && !self.started_sent => Due::Never,
            (Some(_), Some(due)) if due > now => Due::At(due),
            (Some(_), _) => Due::Now,
        }
    }

    /// The next frame; call it only when [`Self::due`] says now.
    pub(in crate::outbox) fn take_frame(
        &mut self,
        now: Instant,
        bounds: &OutboxLimits,
        failing: bool,
        id: &str,
    ) -> Taken {
        let failing = self.sends_from_memory(failing);
        if self.rewind_at.is_some_and(|at| at <= now) {
            self.rewind_now(now);
        }
        if self.start_is_due(failing)
            && let Some(started) = self.log.settled().started
        {
            self.started_sent = true;
            let seq = self.log.number(started.after);
            return encode(
                &AgentMessage::JobStarted(JobStarted { job_id: self.id, seq, at: started.at, pid: started.pid }),
                id,
            );
        }
        if self.end_is_due(failing) {
            return self.take_end(id);
        }
        self.take_lines(bounds, failing, id)
    }

    pub(in crate::outbox) fn take_progress(&mut self, now: Instant, id: &str) -> Taken {
        let Some(progress) = self.progress.take() else { return Taken::Nothing };
        self.progress_sent = Some(now);
        encode(&AgentMessage::JobProgress(progress), id)
    }

    fn take_lines(&mut self, bounds: &OutboxLimits, failing: bool, id: &str) -> Taken {
        let mut size = 0;
        let mut lines = Vec::new();
        let shift = self.log.settled().shift.unwrap_or(0);
        let stop = self.log.lines(self.id, self.sent + 1, failing, |pos, line| {
            let cost = cost_of(line.text);
            let full = size + cost > bounds.batch_bytes || lines.len() == limits::MAX_LINES_PER_FRAME;
            if full && !lines.is_empty() {
                return false;
            }
            size += cost;
            let seq = u32::try_from(pos + shift).unwrap_or(0);
            lines.push(Line { seq, at: line.at, stream: line.stream, text: LineText(line.text.into()) });
            true
        });
        let gap;
        if lines.is_empty() {
            match stop {
                Look::Gap(found) => {
                    gap = gap_text(found);
                    size = cost_of(&gap);
                    let seq = self.log.number(found.pos);
                    lines.push(Line { seq, at: found.at, stream: Stream::System, text: LineText((&*gap).into()) });
                }
                Look::Away(wanted) => return Taken::Read(wanted),
                Look::Line | Look::NotYet => return Taken::Nothing,
            }
        }
        let taken = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        let frame = encode(&AgentMessage::LogStream(LogStream { job_id: self.id, lines }), id);
        self.sent += taken;
        self.peak = self.peak.max(self.sent);
        self.frames.push_back((self.sent, size));
        self.in_flight += size;
        self.log.shed(self.sent, bounds.memory_bytes);
        frame
    }

    fn take_end(&mut self, id: &str) -> Taken {
        let Some((end, _)) = &self.end else { return Taken::Nothing };
        self.end_sent = true;
        let mut finished = Box::new(JobFinished {
            job_id: self.id,
            last_seq: self.log.number(self.log.last()),
            at: end.at,
            status: end.status,
            exit_code: end.exit_code,
            error: end.error.clone(),
            summary: end.summary.clone(),
            log_truncated: self.log.settled().truncated,
        });
        match encode(&AgentMessage::JobFinished(finished.clone()), id) {
            Taken::Nothing => {
                // Too big for a frame. That the job ended matters more than the details.
                finished.summary = None;
                finished.error = finished.error.map(|text| text[..text.floor_char_boundary(SHORT_ERROR)].to_owned());
                encode(&AgentMessage::JobFinished(finished), id)
            }
            taken => taken,
        }
    }
}

fn gap_text(gap: Gap) -> String {
    let (n, lines, are) = if gap.lines == 1 { (1, "line", "is") } else { (gap.lines, "lines", "are") };
    match gap.why {
        Lost::ServerWentBack => {
            format!("{n} {lines} that the server had stored {are} gone: its database was restored to an earlier state")
        }
        Lost::Unreadable => format!(
            "{n} {lines} {are} gone: the disk of the agent's state folder does not give back what was written; check the disk"
        ),
    }
}

fn encode(message: &AgentMessage<'_>, id: &str) -> Taken {
    match message.encode(id) {
        Ok(frame) => Taken::Frame(frame),
        Err(error) => {
            tracing::error!(kind = message.kind(), %error, "a frame could not be written");
            Taken::Nothing
        }
    }
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
