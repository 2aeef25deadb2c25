//! The output files of a program that runs on its own, read as they grow. Knows for each line whether an earlier process of the agent has told it:
//! such lines are read again for what they teach, and nothing else. What nobody will read again is given back to the file system while the program
//! writes on.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
    time::Duration,
};

use flotilla_proto::Stream;
use tokio::time::Instant;

use super::{Watcher, lines::Splitter};
use crate::{blocking::blocking, platform, sink::Cursor};

/// Standard output and standard error in the folder of a job.
pub(crate) struct Output {
    stdout: Tail,
    stderr: Tail,
    /// Not before then; `None` where the file system takes nothing back.
    give_back_at: Option<Instant>,
}

/// So much of a file that was read is given back at a time, for each time costs some syncs.
pub(crate) const GIVEN_BACK_BYTES: u64 = 4 << 20;
/// How soon it is tried again where what was said could not be put on disk.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

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
    /// Reads from `from` on, where what is before it is known; lines up to `told` have been told already.
    ///
    /// # Errors
    /// Where the files can't be opened.
    pub(crate) fn open(folder: &Path, from: Cursor, told: Cursor, max_line: usize) -> io::Result<Self> {
        let tail = |name, stream, from, told| Tail::open(&folder.join(name), stream, from, told, max_line);
        Ok(Self {
            stdout: tail(STDOUT, Stream::Stdout, from.stdout, told.stdout)?,
            stderr: tail(STDERR, Stream::Stderr, from.stderr, told.stderr)?,
            give_back_at: Some(Instant::now()),
        })
    }

    /// Standard output may hold a JSON array in one line: each of its elements counts as a line.
    pub(crate) fn split_elements(&mut self) {
        self.stdout.lines.split_elements();
    }

    /// A piece of each stream. Never waits for the program.
    pub(crate) fn look(&mut self, watcher: &mut dyn Watcher) -> Look {
        let (output, errors) = (self.stdout.look(watcher), self.stderr.look(watcher));
        self.give_back(watcher);
        Look { any: output.any || errors.any, more: output.more || errors.more, moved: output.moved || errors.moved }
    }

    fn give_back(&mut self, watcher: &mut dyn Watcher) {
        let Some(due) = self.give_back_at else { return };
        let left_out = self.stdout.give_back_left_out().and_then(|()| self.stderr.give_back_left_out());
        let read = Cursor { stdout: self.stdout.lines.taken(), stderr: self.stderr.lines.taken() };
        let kept = (read.stdout - self.stdout.given_back).max(read.stderr - self.stderr.given_back);
        let given = left_out.and_then(|()| {
            if kept < GIVEN_BACK_BYTES || Instant::now() < due {
                return Ok(());
            }
            if !watcher.settle(read) {
                self.give_back_at = Some(Instant::now() + SETTLE_AGAIN);
                return Ok(());
            }
            self.stdout.give_back(read.stdout).and_then(|()| self.stderr.give_back(read.stderr))
        });
        if let Err(error) = given {
            self.give_back_at = None;
            tracing::warn!(%error, "the file system of the state folder can't take back what of a job's output was read: it stays until the server has the job's end");
        }
    }

    /// All that stands in the files now, the last line also without its line break. What a stray process adds meanwhile is not waited for.
    pub(crate) fn finish(&mut self, watcher: &mut dyn Watcher) {
        let (output, errors) = (self.stdout.length(), self.stderr.length());
        while self.stdout.read < output || self.stderr.read < errors {
            if !self.look(watcher).any {
                break;
            }
        }
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
    /// Up to here the file holds nothing any more …
    given_back: u64,
    /// … and nothing of what the line at hand has over the bound, up to here.
    left_out: u64,
}

const PIECE_BYTES: usize = 64 * 1024;

impl Tail {
    fn open(path: &Path, stream: Stream, from: u64, told: u64, max_line: usize) -> io::Result<Self> {
        let file = blocking(|| {
            // Holes are made in files that are open for writing.
            let mut file = File::options().read(true).write(true).open(path)?;
            file.seek(SeekFrom::Start(from))?;
            io::Result::Ok(file)
        })?;
        let lines = Splitter::new(max_line, from);
        Ok(Self { file, stream, told, marked: told, read: from, lines, given_back: from, left_out: 0 })
    }

    fn length(&self) -> u64 {
        blocking(|| self.file.metadata()).map_or(0, |meta| meta.len())
    }

    /// Up to `end`, the end of a line.
    fn give_back(&mut self, end: u64) -> io::Result<()> {
        self.punch(self.given_back..end)?;
        self.given_back = end;
        Ok(())
    }

    /// A line without an end must not fill the disk either. What replaces its rest, zeros, is no line break: read again, the line is the same.
    fn give_back_left_out(&mut self) -> io::Result<()> {
        let Range { start, end } = self.lines.left_out();
        let start = start.max(self.left_out);
        if end.saturating_sub(start) >= GIVEN_BACK_BYTES {
            self.punch(start..end)?;
            self.left_out = end;
        }
        Ok(())
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() { Ok(()) } else { blocking(|| platform::punch(&self.file, range)) }
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

    /// Counts lines, and puts them on disk where it can.
    struct Store {
        can: bool,
        lines: usize,
        lost: usize,
        settled: Cursor,
    }

    impl Watcher for Store {
        fn started(&mut self, _: Option<u32>) {}
        fn line(&mut self, _: Stream, line: RawLine) -> bool {
            assert!(!line.bytes.contains(&0), "what was given back is not read again");
            self.lines += 1;
            self.lost += line.lost;
            true
        }
        fn settle(&mut self, read: Cursor) -> bool {
            if self.can {
                self.settled = read;
            }
            self.can
        }
        fn stopping(&mut self, _: Cause, _: Duration) {}
    }

    fn store(can: bool) -> Store {
        Store { can, lines: 0, lost: 0, settled: Cursor::default() }
    }

    #[cfg(target_os = "linux")]
    fn allocated(folder: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(folder.join(STDOUT)).unwrap().blocks() * 512
    }

    fn printed(text: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STDOUT), text).unwrap();
        fs::write(folder.path().join(STDERR), b"").unwrap();
        folder
    }

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
        let mut output = Output::open(folder.path(), Cursor::default(), Cursor::default(), 100).unwrap();
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
    #[cfg(target_os = "linux")]
    fn what_is_known_elsewhere_is_given_back_and_reading_goes_on_behind_it() {
        const LINE: &str = "a line among many like it\n";
        const LINES: usize = 800_000;
        let folder = printed(LINE.repeat(LINES).as_bytes());
        let length = fs::metadata(folder.path().join(STDOUT)).unwrap().len();
        let open = |from| Output::open(folder.path(), from, Cursor::default(), 100).unwrap();
        let mut store = store(true);
        open(Cursor::default()).finish(&mut store);
        assert_eq!(store.lines, LINES);
        assert!(allocated(folder.path()) <= GIVEN_BACK_BYTES + 2 * PIECE_BYTES as u64);
        assert_eq!(fs::metadata(folder.path().join(STDOUT)).unwrap().len(), length);
        let (before, at) = (store.lines, store.settled);
        open(at).finish(&mut store);
        assert_eq!(((store.lines - before) * LINE.len()) as u64, length - at.stdout);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nothing_is_given_back_that_is_known_nowhere_else() {
        let folder = printed("a line\n".repeat(1_000_000).as_bytes());
        Output::open(folder.path(), Cursor::default(), Cursor::default(), 100).unwrap().finish(&mut store(false));
        assert!(allocated(folder.path()) >= 7_000_000);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_line_without_an_end_does_not_fill_the_disk_and_reads_the_same_again() {
        let folder = printed(&[b"short\n".to_vec(), vec![b'x'; 20 << 20], b"\nlast".to_vec()].concat());
        for _ in 0..2 {
            let mut store = store(false);
            Output::open(folder.path(), Cursor::default(), Cursor::default(), 100).unwrap().finish(&mut store);
            assert_eq!((store.lines, store.lost), (3, (20 << 20) - 100));
            assert!(allocated(folder.path()) <= GIVEN_BACK_BYTES + 2 * PIECE_BYTES as u64);
        }
    }

    #[test]
    fn what_was_told_before_is_read_again_but_not_told_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STDOUT), b"one\ntwo\nthree\n").unwrap();
        fs::write(folder.path().join(STDERR), b"bad\n").unwrap();
        let mut output = Output::open(folder.path(), Cursor::default(), Cursor { stdout: 8, stderr: 4 }, 100).unwrap();
        let mut notes = Notes::default();
        output.finish(&mut notes);
        assert_eq!(notes.0, ["again one", "again two", "hold", "three", "mark Stdout 14", "again bad"]);
    }
}
