//! Lines out of a byte stream, with a bound on each. Reading is cancel-safe: a dropped read loses nothing.

use std::{io, ops::Range};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// One line without its line break, perhaps shortened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawLine {
    /// The line's first bytes, all of them where `lost` is 0.
    pub(crate) bytes: BytesMut,
    /// Bytes left out because the line was over the bound.
    pub(crate) lost: usize,
}

/// Splits bytes into lines of at most `bound` bytes, whatever pieces they come in.
///
/// A listing of restic's is one line that may be many MB long: a JSON array of objects. Where that is asked for ([`Splitter::split_elements`]), each of its
/// objects counts as a line, and `]` (or `[]`) as the last: so no listing is ever in memory as a whole, and one can be cut off and gone on with in its middle.
#[derive(Debug)]
pub(crate) struct Splitter {
    elements: bool,
    element: Option<Element>,
    buffer: BytesMut,
    scanned: usize,
    lost: usize,
    bound: usize,
    ended: bool,
    taken: u64,
}

impl Splitter {
    /// For bytes from `taken` on.
    pub(crate) fn new(bound: usize, taken: u64) -> Self {
        let buffer = BytesMut::new();
        Self { elements: false, element: None, buffer, scanned: 0, lost: 0, bound, ended: false, taken }
    }

    /// From now on the elements of an array count as lines.
    pub(crate) fn split_elements(&mut self) {
        self.elements = true;
    }

    /// Where the next bytes go, with room for a good piece of them.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_BYTES);
        &mut self.buffer
    }

    /// Forgets what was not taken; how many bytes that was.
    fn throw_away(&mut self) -> u64 {
        let bytes = self.buffer.len() + std::mem::take(&mut self.lost);
        self.buffer.clear();
        self.scanned = 0;
        self.taken += bytes as u64;
        bytes as u64
    }

    /// No more bytes come: what stands after the last line break is a line too.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the bytes are over and all of them were taken.
    pub(crate) fn is_done(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// Bytes up to the end of the last line taken, line breaks and what was left out included.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Where the bytes stand that the line at hand has over the bound: that they are no line breaks is all that counts of them.
    pub(crate) fn left_out(&self) -> Range<u64> {
        let from = self.taken + self.bound as u64;
        from..from + self.lost as u64
    }

    /// The next whole line; at the end also what stands after the last line break.
    pub(crate) fn next_line(&mut self) -> Option<RawLine> {
        if self.elements && self.element.is_none() && self.scanned == 0 && self.lost == 0 {
            match (self.buffer.first(), self.buffer.get(1)) {
                (Some(b'[' | b','), Some(b'{')) => {
                    self.element = Some(Element::default());
                    self.scanned = 1;
                }
                (Some(b'[' | b','), None) if !self.ended => return None,
                _ => {}
            }
        }
        if let Some(element) = &mut self.element {
            if let Some(length) = element.length(&self.buffer[self.scanned..]) {
                let bytes = self.buffer.split_to(self.scanned + length);
                return Some(self.finish(bytes));
            }
        } else if let Some(at) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let end = self.scanned + at;
            let mut bytes = self.buffer.split_to(end + 1);
            bytes.truncate(end);
            self.taken += 1;
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
        self.taken += (bytes.len() + lost) as u64;
        if self.element.take().is_some() {
            // The bracket or comma before it.
            bytes.advance(1);
        }
        RawLine { bytes, lost }
    }
}

/// How far an element of an array has been looked at.
#[derive(Debug, Default)]
struct Element {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Element {
    /// How many of these bytes, which follow those seen before, belong to it; `None` where all do and it goes on.
    fn length(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// The lines of a pipe.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    source: R,
    lines: Splitter,
}

const READ_BYTES: usize = 64 * 1024;

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(source: R, bound: usize) -> Self {
        Self { source, lines: Splitter::new(bound, 0) }
    }

    /// Whether the stream is over and all of it was taken.
    pub(crate) fn is_done(&self) -> bool {
        self.lines.is_done()
    }

    /// Reads what there is, waiting for the first byte or the end.
    pub(crate) async fn fill(&mut self) -> io::Result<()> {
        if self.source.read_buf(self.lines.room()).await? == 0 {
            self.lines.end();
        }
        Ok(())
    }

    /// Gives up on the stream; what was read stays to be taken.
    pub(crate) fn give_up(&mut self) {
        self.lines.end();
    }

    /// Forgets what was read and not taken; how many bytes that was.
    pub(crate) fn throw_away(&mut self) -> u64 {
        self.lines.throw_away()
    }

    /// See [`Splitter::next_line`].
    pub(crate) fn next_line(&mut self) -> Option<RawLine> {
        self.lines.next_line()
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

    fn elements(pieces: &[&[u8]], bound: usize, from: u64) -> (Vec<(String, usize)>, u64) {
        let mut lines = Splitter::new(bound, from);
        lines.split_elements();
        let mut all = Vec::new();
        for piece in pieces {
            lines.room().extend_from_slice(piece);
            all.extend(std::iter::from_fn(|| lines.next_line()));
        }
        lines.end();
        all.extend(std::iter::from_fn(|| lines.next_line()));
        let text = |line: RawLine| (String::from_utf8(line.bytes.to_vec()).unwrap(), line.lost);
        (all.into_iter().map(text).collect(), lines.taken())
    }

    #[test]
    fn each_element_of_an_array_is_a_line_whatever_pieces_it_comes_in() {
        let text = br#"[{"a":"]}\\\"","b":[{}]},{"c":1}]
plain
[]
"#;
        let wanted = [r#"{"a":"]}\\\"","b":[{}]}"#, r#"{"c":1}"#, "]", "plain", "[]"];
        let whole = elements(&[text], 100, 0);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(elements(&single, 100, 0), whole);
        assert_eq!(whole.0.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(), wanted);
        assert_eq!(whole.1, text.len() as u64);
    }

    #[test]
    fn an_array_is_gone_on_with_behind_any_of_its_elements_and_its_end_is_seen_only_where_it_is() {
        assert_eq!(elements(&[br#",{"c":1}]"#], 100, 7).0, [(r#"{"c":1}"#.into(), 0), ("]".into(), 0)]);
        assert_eq!(elements(&[b"]\n"], 100, 7), (vec![("]".into(), 0)], 9));
        assert_eq!(elements(&[br#"[{"c":1},{"#], 100, 0).0, [(r#"{"c":1}"#.into(), 0), ("{".into(), 0)]);
        assert_eq!(elements(&[b"[0:00] 1 / 1\n"], 100, 0).0, [("[0:00] 1 / 1".into(), 0)], "a progress bar");
        let long = elements(&[br#"[{"c":"123"#, br#"456789"}"#, b",{}]"], 9, 0).0;
        assert_eq!(long, [(r#"{"c":"12"#.into(), 9), ("{}".into(), 0), ("]".into(), 0)], "one over the bound is cut");
    }

    #[test]
    fn each_byte_is_counted_up_to_the_end_of_the_last_line_taken() {
        let mut lines = Splitter::new(4, 0);
        lines.room().extend_from_slice(b"abcdef\nx\nhalf");
        assert_eq!(lines.next_line().unwrap().lost, 2);
        assert_eq!(lines.taken(), 7);
        lines.next_line().unwrap();
        assert!(lines.next_line().is_none() && lines.taken() == 9, "half a line is not taken");
        lines.room().extend_from_slice(b" and more");
        lines.end();
        assert_eq!((lines.next_line().unwrap().lost, lines.taken()), (9, 22));
    }
}
