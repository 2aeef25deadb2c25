//! Lines out of a byte stream, with a bound on each. Reading is cancel-safe: a dropped read loses nothing.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// One line without its line break, perhaps shortened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// The line's first bytes, all of them where `lost` is 0.
    pub(crate) bytes: BytesMut,
    /// Bytes left out because the line was over the bound.
    pub(crate) lost: usize,
}

/// Splits `source` into lines of at most `bound` bytes.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    source: R,
    buffer: BytesMut,
    scanned: usize,
    lost: usize,
    bound: usize,
    ended: bool,
}

const READ_BYTES: usize = 64 * 1024;

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(source: R, bound: usize) -> Self {
        Self { source, buffer: BytesMut::new(), scanned: 0, lost: 0, bound, ended: false }
    }

    /// Whether the stream is over and all of it was taken.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// Reads what there is, waiting for the first byte or the end.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        self.ended = self.source.read_buf(&mut self.buffer).await? == 0;
        Ok(())
    }

    /// Gives up on the stream; what was read stays to be taken.
    pub(crate) fn give_up(&mut self) {
        self.ended = true;
    }

    /// The next whole line; at the end also what stands after the last line break.
    pub(crate) fn next_line(&mut self) -> Option<RawLine> {
        if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + at;
            let mut bytes = self.buffer.split_to(end + 1);
            bytes.truncate(end);
            return Some(self.finish(bytes));
        }
        self.scanned = self.buffer.len();
        if self.scanned > self.bound {
            self.lost += self.scanned - self.bound;
            self.buffer.truncate(self.bound);
            self.scanned = self.bound;
        }
        (self.ended && !self.buffer.is_empty()).then(|| {
            let bytes = self.buffer.split();
            self.finish(bytes)
        })
    }

    fn finish(&mut self, mut bytes: BytesMut) -> RawLine {
        self.scanned = 0;
        let lost = std::mem::take(&mut self.lost) + bytes.len().saturating_sub(self.bound);
        bytes.truncate(self.bound);
        RawLine { bytes, lost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], bound: usize) -> Vec<(String, usize)> {
        let mut reader = LineReader::new(text, bound);
        let mut all = Vec::new();
        while !reader.is_done() {
            reader.fill().await.unwrap();
            while let Some(line) = reader.next_line() {
                all.push((String::from_utf8(line.bytes.to_vec()).unwrap(), line.lost));
            }
        }
        all
    }

    #[tokio::test]
    async fn each_line_comes_once_and_the_last_needs_no_line_break() {
        assert_eq!(lines(b"a\n\nb", 10).await, [("a".into(), 0), (String::new(), 0), ("b".into(), 0)]);
        assert_eq!(lines(b"", 10).await, []);
    }

    #[tokio::test]
    async fn a_line_over_the_bound_keeps_its_start_and_counts_the_rest() {
        assert_eq!(lines(b"abcdef\nx\n", 4).await, [("abcd".into(), 2), ("x".into(), 0)]);
        let long = vec![b'z'; 3 * READ_BYTES];
        assert_eq!(lines(&long, 4).await, [("zzzz".into(), 3 * READ_BYTES - 4)]);
    }
}
