//! The bytes of a segment: 8 bytes that name the format, a header, then records. Each is `crc32 (4) ‖ length (4) ‖ kind (1) ‖ payload`, little endian;
//! the length counts kind and payload, the checksum covers all after itself. Lines carry no number: their place gives it.

use flotilla_proto::{JobStatus, Stream, Timestamp};
use serde::{Deserialize, Serialize};

use crate::sink::{Cursor, JobOutcome};

/// First bytes of a segment; the version follows.
pub(crate) const MAGIC: [u8; 7] = *b"FLSPOOL";
pub(crate) const VERSION: u8 = 1;

/// No record is longer: a larger length is damage, not a reason to read on.
const MAX_RECORD: usize = 16 << 20;
const FRONT: usize = 8;

const HEADER: u8 = 1;
const STARTED: u8 = 2;
const LINE: u8 = 3;
const MARK: u8 = 4;
const REBASE: u8 = 5;
const END: u8 = 6;

const STREAM_BITS: u8 = 0b11;
const HELD: u8 = 0b100;
const TELLS_LOSS: u8 = 0b1000;

/// What all records up to some point settled. A segment's header is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Position of the next line. Positions count from 1 and never change; numbers are positions moved by `shift`.
    pub(crate) next: i64,
    pub(crate) started: Option<Started>,
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
    /// Lines dropped of which no line tells yet.
    pub(crate) dropped: u64,
    /// Lines are missing, and the log says so.
    pub(crate) truncated: bool,
    /// A line's number minus its position; `None` until the server has said how much of the log it has.
    pub(crate) shift: Option<i64>,
    /// A line that was never written: it stands for lines that the server lost and that are gone here.
    pub(crate) gap: Option<Gap>,
}

impl Settled {
    /// A job that has said nothing.
    pub(crate) fn new(shift: Option<i64>) -> Self {
        Self { next: 1, started: None, stdout: 0, stderr: 0, dropped: 0, truncated: false, shift, gap: None }
    }

    pub(crate) fn cursor(&self) -> Cursor {
        Cursor { stdout: self.stdout, stderr: self.stderr }
    }

    /// Position of the last line.
    pub(crate) fn last(&self) -> i64 {
        self.next - 1
    }

    /// Takes so many lines, among them one that tells of dropped ones.
    pub(crate) fn apply_lines(&mut self, count: i64, tells_loss: bool) {
        self.next += count;
        if tells_loss {
            self.truncated = true;
            self.dropped = 0;
        }
    }

    /// The one way in which a record changes what is settled, when it is written and when it is found again.
    pub(crate) fn apply(&mut self, record: &Record<'_>) {
        match record {
            Record::Header(header) => *self = *header,
            Record::Started(started) => self.started = Some(*started),
            Record::Line(line) => self.apply_lines(1, line.tells_loss),
            Record::Mark { cursor, dropped } => {
                (self.stdout, self.stderr) = (cursor.stdout, cursor.stderr);
                self.dropped = *dropped;
            }
            Record::Rebase(rebase) => {
                self.shift = Some(rebase.shift);
                self.gap = rebase.gap.or(self.gap);
                self.truncated |= rebase.gap.is_some();
            }
            Record::End(_) => {}
        }
    }
}

/// The process runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Position of the last line before it.
    pub(crate) after: i64,
    pub(crate) at: Timestamp,
    pub(crate) pid: Option<u32>,
}

/// `lines` lines are gone; a line at `at` says so under position `pos`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) why: Lost,
    pub(crate) pos: i64,
    pub(crate) lines: i64,
    pub(crate) at: Timestamp,
}

/// Why lines are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lost {
    /// The server had them, went back to an earlier state, and they are deleted here.
    ServerWentBack,
    /// They were on disk and can't be read any more.
    Unreadable,
}

/// Numbers are moved, because the server has more or less than was thought.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rebase {
    pub(crate) shift: i64,
    pub(crate) gap: Option<Gap>,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LineRecord<'a> {
    pub(crate) at: Timestamp,
    pub(crate) stream: Stream,
    /// Counts only once a mark follows.
    pub(crate) held: bool,
    /// It says how many lines were dropped.
    pub(crate) tells_loss: bool,
    pub(crate) text: &'a str,
}

/// How the job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) at: Timestamp,
    pub(crate) status: JobStatus,
    pub(crate) exit_code: Option<i32>,
    pub(crate) error: Option<String>,
    pub(crate) summary: Option<serde_json::Value>,
}

impl End {
    pub(crate) fn new(at: Timestamp, end: JobOutcome) -> Self {
        let JobOutcome { status, exit_code, error, summary } = end;
        Self { at, status, exit_code, error, summary }
    }
}

/// Any record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record<'a> {
    Header(Settled),
    Started(Started),
    Line(LineRecord<'a>),
    /// Ends a hold: output was read up to the cursor, and so many of its lines were dropped since the last one that told.
    Mark {
        cursor: Cursor,
        dropped: u64,
    },
    Rebase(Rebase),
    End(Box<End>),
}

impl Record<'_> {
    /// Whether all before it, and itself, is whole: after a crash it is kept.
    pub(crate) fn commits(&self) -> bool {
        !matches!(self, Self::Line(line) if line.held)
    }

    /// Appends its bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Header(settled) => put(out, HEADER, |out| json(out, settled)),
            Self::Started(started) => put(out, STARTED, |out| json(out, started)),
            Self::Line(line) => put(out, LINE, |out| {
                let stream = match line.stream {
                    Stream::Stdout => 0,
                    Stream::Stderr => 1,
                    Stream::System => 2,
                };
                let held = if line.held { HELD } else { 0 };
                out.push(stream | held | if line.tells_loss { TELLS_LOSS } else { 0 });
                out.extend_from_slice(&line.at.unix_ms().to_le_bytes());
                out.extend_from_slice(line.text.as_bytes());
            }),
            Self::Mark { cursor, dropped } => put(out, MARK, |out| {
                for number in [cursor.stdout, cursor.stderr, *dropped] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
            }),
            Self::Rebase(rebase) => put(out, REBASE, |out| json(out, rebase)),
            Self::End(end) => put(out, END, |out| json(out, end)),
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRONT]);
    out.push(kind);
    payload(out);
    // A line is cut and an end shortened long before 4 GiB; a longer record would be refused when it is read.
    let length = u32::try_from(out.len() - start - FRONT).unwrap_or(u32::MAX);
    out[start + 4..start + FRONT].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("plain structs with text keys are always JSON, and a Vec takes all");
}

/// The first record's kind and payload, and how many bytes it takes; `None` where there is no whole one.
/// `check` is left out for bytes that never left this process.
pub(crate) fn split(bytes: &[u8], check: bool) -> Option<(&[u8], usize)> {
    let front = bytes.first_chunk::<FRONT>()?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *front;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).ok()?;
    if length == 0 || length > MAX_RECORD {
        return None;
    }
    let record = bytes.get(..FRONT + length)?;
    if check && crc32fast::hash(&record[4..]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return None;
    }
    Some((&record[FRONT..], FRONT + length))
}

/// Whether a record's body is a line's.
pub(crate) fn is_line(body: &[u8]) -> bool {
    body.first() == Some(&LINE)
}

/// The record of a body that [`split`] gave; `None` for one that this version doesn't know.
pub(crate) fn read(body: &[u8]) -> Option<Record<'_>> {
    let (kind, payload) = body.split_first()?;
    Some(match *kind {
        HEADER => Record::Header(serde_json::from_slice(payload).ok()?),
        STARTED => Record::Started(serde_json::from_slice(payload).ok()?),
        LINE => Record::Line(line(payload)?),
        MARK => {
            let (numbers, []) = payload.as_chunks::<8>() else { return None };
            let [stdout, stderr, dropped] = *numbers else { return None };
            let cursor = Cursor { stdout: u64::from_le_bytes(stdout), stderr: u64::from_le_bytes(stderr) };
            Record::Mark { cursor, dropped: u64::from_le_bytes(dropped) }
        }
        REBASE => Record::Rebase(serde_json::from_slice(payload).ok()?),
        END => Record::End(serde_json::from_slice(payload).ok()?),
        _ => return None,
    })
}

fn line(payload: &[u8]) -> Option<LineRecord<'_>> {
    let (flags, rest) = payload.split_first()?;
    let (at, text) = rest.split_first_chunk::<8>()?;
    let stream = match flags & STREAM_BITS {
        0 => Stream::Stdout,
        1 => Stream::Stderr,
        2 => Stream::System,
        _ => return None,
    };
    Some(LineRecord {
        at: Timestamp::from_unix_ms(i64::from_le_bytes(*at)),
        stream,
        held: flags & HELD != 0,
        tells_loss: flags & TELLS_LOSS != 0,
        text: std::str::from_utf8(text).ok()?,
    })
}

/// The first bytes of a segment: format, version, header.
pub(crate) fn opening(settled: &Settled) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(VERSION);
    Record::Header(*settled).write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Record<'static>> {
        let at = Timestamp::from_unix_ms(1_795_248_000_123);
        let text = "unchanged /srv/ünïcode";
        let settled = Settled {
            truncated: true,
            gap: Some(Gap { why: Lost::Unreadable, pos: 7, lines: 5, at }),
            ..Settled::new(Some(-3))
        };
        vec![
            Record::Header(settled),
            Record::Started(Started { after: 2, at, pid: Some(7) }),
            Record::Line(LineRecord { at, stream: Stream::Stderr, held: true, tells_loss: false, text }),
            Record::Line(LineRecord { at, stream: Stream::System, held: false, tells_loss: true, text: "" }),
            Record::Mark { cursor: Cursor { stdout: 1, stderr: u64::MAX }, dropped: 3 },
            Record::Rebase(Rebase { shift: 17, gap: None }),
            Record::End(Box::new(End {
                at,
                status: JobStatus::Warning,
                exit_code: Some(3),
                error: Some("x".to_owned()),
                summary: Some(serde_json::json!({"a": 1.5})),
            })),
        ]
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut bytes = Vec::new();
        all().iter().for_each(|record| record.write(&mut bytes));
        let mut rest = &bytes[..];
        for record in all() {
            let (body, used) = split(rest, true).unwrap();
            assert_eq!(read(body), Some(record));
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        for record in all() {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            for at in 0..bytes.len() * 8 {
                bytes[at / 8] ^= 1 << (at % 8);
                assert!(split(&bytes, true).is_none(), "bit {at} of {record:?}");
                bytes[at / 8] ^= 1 << (at % 8);
            }
        }
    }

    #[test]
    fn zeroes_are_no_record() {
        assert!(split(&[0; 64], true).is_none());
    }
}
