//! The output files of a program that runs on its own, read as they grow. Knows for each line whether an earlier process of the agent has told it:
//! such lines are read again for what they teach, and nothing else.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use flotilla_proto::Stream;

use super::{Watcher, lines::Splitter};
use crate::{blocking::blocking, sink::Cursor};

/// Standard output and standard error in the folder of a job.
pub(crate) struct Output {
    stdout: Tail,
    stderr: Tail,
}

/// What one look at the files brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Look {
    /// There was something.
    pub(crate) any: bool,
    /// There is more.
    pub(crate) more: bool,
    /// A line showed that the run moves.
    pub(crate) moved: bool,
}

/// Names of the files in the folder of a job.
pub(crate) const STDOUT: &str = "stdout";
/// See [`STDOUT`].
pub(crate) const STDERR: &str = "stderr";

impl Output {
    /// Reads from the start; lines up to `told` have been told already.
    ///
    /// # Errors
    /// Where the files can't be opened.
    pub(crate) fn open(folder: &Path, told: Cursor, max_line: usize) -> io::Result<Self> {
        Ok(Self {
            stdout: Tail::open(&folder.join(STDOUT), Stream::Stdout, told.stdout, max_line)?,
            stderr: Tail::open(&folder.join(STDERR), Stream::Stderr, told.stderr, max_line)?,
        })
    }

    /// A piece of each stream. Never waits.
    pub(crate) fn look(&mut self, watcher: &mut dyn Watcher) -> Look {
        let (output, errors) = (self.stdout.look(watcher), self.stderr.look(watcher));
        Look { any: output.any || errors.any, more: output.more || errors.more, moved: output.moved || errors.moved }
    }

    /// All that stands in the files now, the last line also without its line break. What a stray process adds meanwhile is not waited for.
    pub(crate) fn finish(&mut self, watcher: &mut dyn Watcher) {
        self.stdout.finish(watcher);
        self.stderr.finish(watcher);
    }
}

struct Tail {
    file: File,
    stream: Stream,
    told: u64,
    marked: u64,
    read: u64,
    lines: Splitter,
}

const PIECE_BYTES: usize = 64 * 1024;

impl Tail {
    fn open(path: &Path, stream: Stream, told: u64, max_line: usize) -> io::Result<Self> {
        let file = blocking(|| File::open(path))?;
        Ok(Self { file, stream, told, marked: told, read: 0, lines: Splitter::new(max_line) })
    }

    fn look(&mut self, watcher: &mut dyn Watcher) -> Look {
        let room = self.lines.room();
        let before = room.len();
        room.resize(before + PIECE_BYTES, 0);
        let got = blocking(|| self.file.read(&mut room[before..])).unwrap_or_else(|error| {
            // Looked at again a little later, for as long as the program runs.
            tracing::warn!(%error, "the output of a job can't be read");
            0
        });
        room.truncate(before + got);
        self.read += got as u64;
        Look { any: got > 0, more: got == PIECE_BYTES, moved: got > 0 && self.tell(watcher) }
    }

    fn finish(&mut self, watcher: &mut dyn Watcher) {
        let length = blocking(|| self.file.metadata()).map_or(0, |meta| meta.len());
        while self.read < length && self.look(watcher).any {}
        self.lines.end();
        self.tell(watcher);
    }

    /// Hands on the whole lines that are there; what is new of them as one commit with the place up to which they reach.
    fn tell(&mut self, watcher: &mut dyn Watcher) -> bool {
        let (mut moved, mut held) = (false, false);
        while let Some(line) = self.lines.next_line() {
            if self.lines.taken() <= self.told {
                watcher.again(self.stream, line);
                continue;
            }
            if !held {
                watcher.hold();
                held = true;
            }
            moved |= watcher.line(self.stream, line);
        }
        if held || self.lines.taken() > self.marked {
            self.marked = self.lines.taken();
            watcher.mark(self.stream, self.marked);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, time::Duration};

    use super::*;
    use crate::process::{Cause, RawLine};

    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Watcher for Notes {
        fn started(&mut self, _: Option<u32>) {}
        fn line(&mut self, _: Stream, line: RawLine) -> bool {
            self.0.push(String::from_utf8_lossy(&line.bytes).into_owned());
            true
        }
        fn again(&mut self, _: Stream, line: RawLine) {
            self.0.push(format!("again {}", String::from_utf8_lossy(&line.bytes)));
        }
        fn hold(&mut self) {
            self.0.push("hold".to_owned());
        }
        fn mark(&mut self, stream: Stream, offset: u64) {
            self.0.push(format!("mark {stream:?} {offset}"));
        }
        fn stopping(&mut self, _: Cause, _: Duration) {}
    }

    #[test]
    fn a_stretch_is_one_commit_and_half_a_line_waits_for_its_other_half() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = File::create(folder.path().join(STDOUT)).unwrap();
        fs::write(folder.path().join(STDERR), b"").unwrap();
        let mut output = Output::open(folder.path(), Cursor::default(), 100).unwrap();
        let mut notes = Notes::default();
        file.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(output.look(&mut notes), Look { any: true, more: false, moved: true });
        assert_eq!(output.look(&mut notes), Look::default());
        file.write_all(b"ee\nend").unwrap();
        output.finish(&mut notes);
        let told =
            ["hold", "one", "two", "mark Stdout 8", "hold", "three", "mark Stdout 14", "hold", "end", "mark Stdout 17"];
        assert_eq!(notes.0, told);
    }

    #[test]
    fn what_was_told_before_is_read_again_but_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STDOUT), b"one\ntwo\nthree\n").unwrap();
        fs::write(folder.path().join(STDERR), b"bad\n").unwrap();
        let mut output = Output::open(folder.path(), Cursor { stdout: 8, stderr: 4 }, 100).unwrap();
        let mut notes = Notes::default();
        output.finish(&mut notes);
        assert_eq!(notes.0, ["again one", "again two", "hold", "three", "mark Stdout 14", "again bad"]);
    }
}
