//! One job's log as it is kept: records that are on disk, records that are on their way there, and the few of them that stand in memory to be sent.
//! Lines have positions, counted by their place; a line's number is its position moved by a shift, so the numbers can never disagree with what is kept.

use std::{collections::VecDeque, sync::Arc};

use flotilla_proto::{JobId, Stream, Timestamp};

use crate::{
    sink::Cursor,
    spool::{
        Chunk, Segment,
        files::ReadBack,
        record::{self, End, Gap, LineRecord, Rebase, Record, Settled, Started},
        recover::Found,
    },
};

pub(super) struct JobLog {
    /// Largest chunk, roughly: a held group is never split.
    chunk_bytes: usize,
    /// All that was committed so far.
    settled: Settled,
    /// The chunk that is being filled, and what was settled before it.
    tail: Vec<u8>,
    tail_before: Settled,
    /// Lines that wait for their mark.
    held: Vec<u8>,
    held_lines: i64,
    held_tell_loss: bool,
    holding: bool,
    /// In memory, in order; those that are on disk are let go first.
    chunks: VecDeque<Arc<Chunk>>,
    /// Read from disk to be sent, and where in its segment the line after it begins.
    read: Option<(Chunk, u64)>,
    segments: VecDeque<Segment>,
    /// Bytes of the segments.
    disk: u64,
    /// Lines before this position are not here any more.
    floor: i64,
    doomed: Vec<i64>,
    /// All bytes ever appended by this process, and those of them that are on disk.
    appended: u64,
    synced: u64,
    /// Where the last rebase ends: nothing is sent before it is on disk.
    rebased: u64,
}

/// What comes next in the log.
pub(super) enum Look {
    /// It can be sent, and the caller wanted no more.
    Line,
    /// It stands for lines that are gone.
    Gap(Gap),
    /// It is on disk only.
    Away(ReadBack),
    /// It is not on disk yet, or is not there at all.
    NotYet,
}

impl JobLog {
    pub(super) fn new(settled: Settled, chunk_bytes: usize) -> Self {
        Self {
            chunk_bytes,
            floor: 1,
            disk: 0,
            settled,
            tail: Vec::new(),
            tail_before: settled,
            held: Vec::new(),
            held_lines: 0,
            held_tell_loss: false,
            holding: false,
            chunks: VecDeque::new(),
            read: None,
            segments: VecDeque::new(),
            doomed: Vec::new(),
            appended: 0,
            synced: 0,
            rebased: 0,
        }
    }

    pub(super) fn found(found: &Found, chunk_bytes: usize) -> Self {
        let disk = found.segments.iter().map(|segment| segment.len).sum();
        Self { segments: found.segments.iter().copied().collect(), disk, ..Self::new(found.settled, chunk_bytes) }
    }

    pub(super) fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Position of the oldest line that can still be sent, and of the last one.
    pub(super) fn oldest(&self) -> i64 {
        let in_memory = self.chunks.iter().find(|chunk| chunk.last >= chunk.first).map(|chunk| chunk.first);
        let on_disk = self.segments.iter().find(|segment| segment.last >= segment.first).map(|segment| segment.first);
        let in_tail = self.tail_before.next.min(self.settled.next);
        let oldest = [in_memory, on_disk].into_iter().flatten().min();
        oldest.unwrap_or(if self.tail.is_empty() { self.settled.next } else { in_tail }).max(self.floor)
    }

    pub(super) fn last(&self) -> i64 {
        self.settled.last()
    }

    /// The number of a position.
    pub(super) fn number(&self, pos: i64) -> u32 {
        u32::try_from(pos + self.settled.shift.unwrap_or(0)).unwrap_or(0)
    }

    pub(super) fn position(&self, number: u32) -> i64 {
        i64::from(number) - self.settled.shift.unwrap_or(0)
    }

    /// Bytes that it takes on disk, or is about to.
    pub(super) fn bytes(&self) -> u64 {
        self.disk + self.unsynced() + self.held.len() as u64
    }

    /// Bytes that are not on disk.
    pub(super) fn unsynced(&self) -> u64 {
        let sealed: usize =
            self.chunks.iter().rev().take_while(|chunk| chunk.end > self.synced).map(|chunk| chunk.bytes.len()).sum();
        (sealed + self.tail.len()) as u64
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.appended
    }

    /// Whether the records up to the one that ends at `end` are on disk.
    pub(super) fn has_synced(&self, end: u64) -> bool {
        end <= self.synced
    }

    pub(super) fn may_send(&self) -> bool {
        self.rebased <= self.synced
    }

    // Appending.

    /// Returns where the record ends.
    pub(super) fn append(&mut self, record: &Record<'_>) -> u64 {
        let before = self.begin();
        record.write(&mut self.tail);
        self.settled.apply(record);
        self.close(before)
    }

    pub(super) fn started(&mut self, at: Timestamp, pid: Option<u32>) -> u64 {
        let after = self.last() + self.held_lines;
        self.append(&Record::Started(Started { after, at, pid }))
    }

    pub(super) fn line(&mut self, at: Timestamp, stream: Stream, text: &str, tells_loss: bool) {
        let held = self.holding;
        let record = Record::Line(LineRecord { at, stream, held, tells_loss, text });
        if held {
            record.write(&mut self.held);
            self.held_lines += 1;
            self.held_tell_loss |= tells_loss;
        } else {
            self.append(&record);
        }
    }

    pub(super) fn hold(&mut self) {
        self.holding = true;
    }

    /// Ends a hold in which nothing was said.
    pub(super) fn release(&mut self) {
        self.holding = false;
    }

    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }

    pub(super) fn held_lines(&self) -> i64 {
        self.held_lines
    }

    /// Ends a hold: its lines and the mark are one append. Returns where that ends.
    pub(super) fn mark(&mut self, cursor: Cursor, dropped: u64) -> u64 {
        self.holding = false;
        let before = self.begin();
        self.take_held();
        let mark = Record::Mark { cursor, dropped };
        mark.write(&mut self.tail);
        self.settled.apply(&mark);
        self.close(before)
    }

    /// Commits what is held, for no mark will come any more.
    pub(super) fn end(&mut self, end: End) -> u64 {
        if self.held_lines > 0 {
            self.mark(self.settled.cursor(), self.settled.dropped);
        }
        self.holding = false;
        let end = self.append(&Record::End(Box::new(end)));
        self.seal();
        end
    }

    fn take_held(&mut self) {
        self.settled.apply_lines(self.held_lines, std::mem::take(&mut self.held_tell_loss));
        self.tail.extend_from_slice(&self.held);
        self.held.clear();
        self.held_lines = 0;
    }

    fn begin(&mut self) -> usize {
        if self.tail.is_empty() {
            self.tail_before = self.settled;
        }
        self.tail.len()
    }

    fn close(&mut self, before: usize) -> u64 {
        self.appended += (self.tail.len() - before) as u64;
        let end = self.appended;
        if self.tail.len() >= self.chunk_bytes {
            self.seal();
        }
        end
    }

    /// Ends the chunk that is being filled.
    pub(super) fn seal(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.tail);
        let (first, last) = (self.tail_before.next, self.settled.last());
        let start = self.appended - bytes.len() as u64;
        let chunk = Chunk { first, last, bytes, start, end: self.appended, before: self.tail_before };
        self.chunks.push_back(Arc::new(chunk));
    }

    /// What is to be written now.
    pub(super) fn take_unsynced(&mut self) -> (Vec<Arc<Chunk>>, Vec<i64>) {
        self.seal();
        let from = self.chunks.partition_point(|chunk| chunk.end <= self.synced);
        (self.chunks.range(from..).cloned().collect(), std::mem::take(&mut self.doomed))
    }

    /// It has been written.
    pub(super) fn synced(&mut self, segments: Vec<Segment>, up_to: Option<u64>) {
        for segment in segments {
            self.disk += segment.len;
            match self.segments.back_mut().filter(|last| last.first == segment.first) {
                Some(last) => {
                    self.disk -= last.len;
                    *last = segment;
                }
                None => self.segments.push_back(segment),
            }
        }
        self.synced = up_to.unwrap_or(self.synced).max(self.synced);
    }

    // Numbers.

    /// Moves the numbers so that the line at `pos` has `number`; a gap's own line among them.
    pub(super) fn rebase(&mut self, pos: i64, number: u32, gap: Option<Gap>) {
        let shift = i64::from(number) - pos;
        self.rebased = self.append(&Record::Rebase(Rebase { shift, gap }));
    }

    // Letting go.

    /// Lines up to `acked` are needed no more. The last segment stays: it holds what is settled.
    pub(super) fn trim(&mut self, acked: i64, even_unsynced: bool) {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|segment| segment.last <= acked) {
            if let Some(segment) = self.segments.pop_front() {
                self.disk -= segment.len;
                self.floor = self.floor.max(segment.last + 1);
                self.doomed.push(segment.first);
            }
        }
        while let Some(chunk) = self.chunks.front()
            && chunk.last <= acked
            && (chunk.end <= self.synced || even_unsynced && chunk.last >= chunk.first)
        {
            if chunk.end > self.synced {
                self.floor = self.floor.max(chunk.last + 1);
            }
            self.chunks.pop_front();
        }
    }

    pub(super) fn has_doomed(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Keeps no more than `most` bytes of lines in memory that are on disk too, and none that are sent.
    pub(super) fn shed(&mut self, sent: i64, most: usize) {
        let mut bytes: usize = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        while let Some(chunk) = self.chunks.front()
            && chunk.end <= self.synced
            && (chunk.last <= sent || bytes > most)
        {
            bytes -= chunk.bytes.len();
            self.chunks.pop_front();
        }
        // Where its successor begins is still a good hint: it stays until the next reading.
        if let Some((chunk, _)) = &mut self.read
            && chunk.last <= sent
        {
            chunk.bytes = Vec::new();
        }
    }

    /// Bytes of lines in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        let read = self.read.as_ref().map_or(0, |(chunk, _)| chunk.bytes.capacity());
        self.tail.len() + self.held.len() + read + self.chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>()
    }

    // Looking.

    /// Calls `each` with the lines from `pos` on for as long as it says so and they may be sent (`unsynced`: also what is not on disk). Returns what
    /// stands in the way of the next.
    pub(super) fn lines<'a>(
        &'a self,
        job: JobId,
        mut pos: i64,
        unsynced: bool,
        mut each: impl FnMut(i64, LineRecord<'a>) -> bool,
    ) -> Look {
        loop {
            if let Some(gap) = self.settled.gap.filter(|gap| gap.pos == pos) {
                return Look::Gap(gap);
            }
            let chunks = self.chunks.iter().map(|chunk| &**chunk).chain(self.read.iter().map(|(chunk, _)| chunk));
            let mut holding =
                chunks.filter(|chunk| (chunk.first..=chunk.last).contains(&pos) && !chunk.bytes.is_empty());
            let Some(chunk) = holding.find(|chunk| unsynced || chunk.end <= self.synced) else {
                return self.away(job, pos);
            };
            let mut at = chunk.first;
            let mut rest = &chunk.bytes[..];
            while let Some((body, used)) = record::split(rest, false) {
                rest = &rest[used..];
                if !record::is_line(body) {
                    continue;
                }
                if at == pos {
                    let Some(Record::Line(line)) = record::read(body) else { return Look::NotYet };
                    if !each(pos, line) {
                        return Look::Line;
                    }
                    pos += 1;
                }
                at += 1;
            }
        }
    }

    fn away(&self, job: JobId, pos: i64) -> Look {
        match self.segments.iter().find(|segment| (segment.first..=segment.last).contains(&pos)) {
            Some(segment) => {
                let same = |chunk: &Chunk| chunk.first >= segment.first && chunk.last < segment.last;
                let hint = self.read.as_ref().filter(|(chunk, _)| same(chunk)).map(|(chunk, at)| (chunk.last + 1, *at));
                Look::Away(ReadBack { job, pos, segment: *segment, hint })
            }
            None => Look::NotYet,
        }
    }

    /// Lines that [`Look::Away`] asked for.
    pub(super) fn came_back(&mut self, chunk: Chunk, next: u64) {
        self.read = Some((chunk, next));
    }

    /// Last position of the segment that holds `pos`.
    pub(super) fn end_of_segment(&self, pos: i64) -> i64 {
        let segment = self.segments.iter().find(|segment| (segment.first..=segment.last).contains(&pos));
        segment.map_or(pos, |segment| segment.last)
    }
}
