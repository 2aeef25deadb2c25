//! How log lines lie on disk: runs of consecutive lines, compressed together. One line costs about a tenth of a row of its own.
//!
//! A chunk is zstd (level 1) over records; a record is `zigzag varint (ms since the record before; the first: since the epoch) ‖ stream (1 byte) ‖
//! varint (length) ‖ text`. Which lines a chunk holds stands outside of it, in its row's key and count.

use crate::domain::{Line, LineText, Stream, Timestamp};

/// Bytes of records that a sealed chunk holds, before compression.
pub(super) const SEALED_BYTES: usize = 64 * 1024;

const LEVEL: i32 = 1;

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
#[error("log chunk: {0}")]
pub(super) struct ChunkError(String);

/// A line as read back. Its number follows from its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLine {
    /// Number within the job, from 1.
    pub seq: u32,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// Where it came from.
    pub stream: Stream,
    /// The text.
    pub text: String,
}

/// Consecutive lines of one job in the form they are stored in, made where the frame was read so that the writer only joins and compresses.
#[derive(Debug, Clone, Default)]
pub struct EncodedLines {
    /// Number of the first line.
    pub first: u32,
    /// How many lines.
    pub count: u32,
    /// Bytes of text.
    pub text_bytes: u64,
    first_at: i64,
    last_at: i64,
    /// Records without the time of the first one: that depends on what it is joined to.
    records: Vec<u8>,
}

impl EncodedLines {
    /// Encodes `lines`, which are consecutive.
    #[must_use]
    pub fn of(lines: &[Line<'_>]) -> Self {
        let mut encoded = Self::default();
        for line in lines {
            encoded.push(line.seq, line.at, line.stream, &line.text.0);
        }
        encoded
    }

    fn push(&mut self, seq: u32, at: Timestamp, stream: Stream, text: &str) {
        let at = at.unix_ms();
        if self.count == 0 {
            self.first = seq;
            self.first_at = at;
            self.records.reserve(text.len() + 8);
        } else {
            put_signed(&mut self.records, at - self.last_at);
        }
        self.last_at = at;
        self.records.push(stream_byte(stream));
        put_varint(&mut self.records, text.len() as u64);
        self.records.extend_from_slice(text.as_bytes());
        self.count += 1;
        self.text_bytes += text.len() as u64;
    }

    /// Number of the last line.
    #[must_use]
    pub fn last(&self) -> u32 {
        (self.first + self.count).saturating_sub(1)
    }

    /// Appends the lines that follow.
    pub(super) fn join(&mut self, next: &Self) {
        if self.count == 0 {
            self.clone_from(next);
            return;
        }
        put_signed(&mut self.records, next.first_at - self.last_at);
        self.records.extend_from_slice(&next.records);
        self.last_at = next.last_at;
        self.count += next.count;
        self.text_bytes += next.text_bytes;
    }

    /// Without the lines before `seq`.
    pub(super) fn starting_at(&self, seq: u32) -> Result<Self, ChunkError> {
        let mut rest = Self::default();
        for line in self.lines()?.iter().filter(|line| line.seq >= seq) {
            rest.push(line.seq, line.at, line.stream, &line.text);
        }
        Ok(rest)
    }

    pub(super) fn lines(&self) -> Result<Vec<StoredLine>, ChunkError> {
        decode_records(&self.with_first_time(), self.first, self.count)
    }

    pub(super) fn record_bytes(&self) -> usize {
        self.records.len()
    }

    fn with_first_time(&self) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut records = Vec::with_capacity(self.records.len() + 8);
        put_signed(&mut records, self.first_at);
        records.extend_from_slice(&self.records);
        records
    }
}

/// Turns records into chunks. Holds the compressor, whose set-up costs more than a small chunk.
pub(super) struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    pub(super) fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(LEVEL).map(Self)
    }

    pub(super) fn pack(&mut self, lines: &EncodedLines) -> Result<Vec<u8>, ChunkError> {
        self.0.compress(&lines.with_first_time()).map_err(|e| ChunkError(e.to_string()))
    }
}

/// Reads a chunk of `count` lines that starts with line `first`.
pub(super) fn unpack(data: &[u8], first: u32, count: u32) -> Result<Vec<StoredLine>, ChunkError> {
    let records = zstd::decode_all(data).map_err(|e| ChunkError(e.to_string()))?;
    decode_records(&records, first, count)
}

/// Joins lines that were read back, for sealing.
pub(super) fn encode_stored(lines: &[StoredLine]) -> EncodedLines {
    let mut encoded = EncodedLines::default();
    for line in lines {
        encoded.push(line.seq, line.at, line.stream, &line.text);
    }
    encoded
}

/// The lines as they travel.
pub(super) fn to_wire(lines: &[StoredLine]) -> Vec<Line<'_>> {
    lines
        .iter()
        .map(|line| Line { seq: line.seq, at: line.at, stream: line.stream, text: LineText(line.text.as_str().into()) })
        .collect()
}

fn decode_records(mut records: &[u8], first: u32, count: u32) -> Result<Vec<StoredLine>, ChunkError> {
    let cut = || ChunkError("cut short".to_owned());
    let mut lines = Vec::with_capacity(count as usize);
    let mut at = 0i64;
    for seq in first..first.saturating_add(count) {
        at += take_signed(&mut records).ok_or_else(cut)?;
        let (stream, rest) = records.split_first().ok_or_else(cut)?;
        records = rest;
        let length = usize::try_from(take_varint(&mut records).ok_or_else(cut)?).map_err(|_| cut())?;
        let (text, rest) = records.split_at_checked(length).ok_or_else(cut)?;
        records = rest;
        let text = std::str::from_utf8(text).map_err(|e| ChunkError(e.to_string()))?.to_owned();
        lines.push(StoredLine { seq, at: Timestamp::from_unix_ms(at), stream: byte_stream(*stream)?, text });
    }
    if records.is_empty() { Ok(lines) } else { Err(ChunkError("more than its count".to_owned())) }
}

fn stream_byte(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::System => 2,
    }
}

fn byte_stream(byte: u8) -> Result<Stream, ChunkError> {
    match byte {
        0 => Ok(Stream::Stdout),
        1 => Ok(Stream::Stderr),
        2 => Ok(Stream::System),
        other => Err(ChunkError(format!("stream {other}"))),
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn take_signed(from: &mut &[u8]) -> Option<i64> {
    let value = take_varint(from)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_line() -> impl Strategy<Value = (i64, u8, String)> {
        (any::<i64>().prop_map(|ms| Timestamp::from_unix_ms(ms).unix_ms()), 0u8..3, ".{0,80}")
    }

    fn encode(first: u32, lines: &[(i64, u8, String)]) -> EncodedLines {
        let mut encoded = EncodedLines::default();
        for (seq, (at, stream, text)) in (first..).zip(lines) {
            encoded.push(seq, Timestamp::from_unix_ms(*at), byte_stream(*stream).unwrap(), text);
        }
        encoded
    }

    proptest! {
        #[test]
        fn lines_come_back_as_they_went_however_they_were_joined(
            lines in prop::collection::vec(any_line(), 1..40), split in 0usize..40, first in 1u32..1000,
        ) {
            let split = split.min(lines.len());
            let whole = encode(first, &lines);
            let mut joined = encode(first, &lines[..split]);
            let rest = encode(first + split as u32, &lines[split..]);
            if rest.count > 0 {
                joined.join(&rest);
            }
            prop_assert_eq!(joined.lines().unwrap(), whole.lines().unwrap());
            let packed = Packer::new().unwrap().pack(&joined).unwrap();
            let read = unpack(&packed, first, lines.len() as u32).unwrap();
            prop_assert_eq!(&read, &whole.lines().unwrap());
            prop_assert_eq!(read.len(), lines.len());
            prop_assert_eq!(whole.starting_at(first + split as u32).unwrap().lines().unwrap(), rest.lines().unwrap());
        }

        #[test]
        fn damaged_chunks_are_an_error_and_no_panic(data in prop::collection::vec(any::<u8>(), 0..200), count in 0u32..50) {
            prop_assert!(unpack(&data, 1, count).is_err() || count == 0);
            let _lines_or_error = decode_records(&data, 1, count);
        }
    }
}
