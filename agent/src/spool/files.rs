//! Writing, reading back and deleting segments. All of it blocks: it is called off the runtime's own threads, by one flusher at a time.
//! Invariant: after an error a segment is as it was before; the same chunks may be given again.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla_proto::JobId;

use super::{
    Chunk, Segment,
    record::{self, Settled},
    segment_name,
};
use crate::platform;

/// How much is read back at once.
const READ_BYTES: usize = 128 << 10;

/// The jobs' folders.
pub(crate) struct Files {
    dir: PathBuf,
    segment_bytes: u64,
    active: HashMap<JobId, Active>,
    /// Each length that a sync has made safe, in order.
    #[cfg(test)]
    pub(crate) synced: Vec<(PathBuf, u64)>,
    /// What the next writes fail with.
    #[cfg(test)]
    pub(crate) fails: Option<io::ErrorKind>,
}

/// The segment that a job's records go to.
struct Active {
    /// Opened when it is needed.
    file: Option<File>,
    segment: Segment,
    /// End of the last chunk in it.
    end: u64,
}

/// What [`Files::append`] has done.
pub(crate) struct Appended {
    /// Segments as they are now, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// End of the last chunk that is on disk, where there is one.
    pub(crate) synced: Option<u64>,
    pub(crate) error: Option<io::Error>,
}

impl Files {
    /// Over `STATE_DIR/jobs`, which need not exist yet.
    pub(crate) fn new(dir: PathBuf, segment_bytes: u64) -> Self {
        Self {
            dir,
            segment_bytes,
            active: HashMap::new(),
            #[cfg(test)]
            synced: Vec::new(),
            #[cfg(test)]
            fails: None,
        }
    }

    /// Goes on in a segment of an earlier process.
    pub(crate) fn adopt(&mut self, job: JobId, segment: Segment) {
        self.active.insert(job, Active { file: None, segment, end: 0 });
    }

    /// Writes chunks in their order and syncs them. After an error the rest is to be given again.
    pub(crate) fn append(&mut self, job: JobId, chunks: &[Arc<Chunk>]) -> Appended {
        let mut appended = Appended { segments: Vec::new(), synced: None, error: None };
        let mut rest = chunks;
        while !rest.is_empty() {
            match self.append_run(job, rest) {
                Ok((segment, taken)) => {
                    appended.segments.push(segment);
                    appended.synced = Some(rest[taken - 1].end);
                    rest = &rest[taken..];
                }
                Err(error) => {
                    appended.error = Some(error);
                    break;
                }
            }
        }
        appended
    }

    /// As many of the chunks as belong into one segment.
    fn append_run(&mut self, job: JobId, chunks: &[Arc<Chunk>]) -> io::Result<(Segment, usize)> {
        #[cfg(test)]
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        let fits = self.active.get(&job).is_some_and(|active| {
            active.end == chunks[0].start
                && (active.segment.len < self.segment_bytes || active.segment.last < active.segment.first)
        });
        if !fits {
            return self.begin_segment(job, chunks);
        }
        let path = self.path(job, self.active[&job].segment.first);
        let active = self.active.get_mut(&job).expect("looked up above");
        let before = (active.segment, active.end);
        let written = active.extend(&path, chunks, self.segment_bytes);
        match written {
            Ok(taken) => {
                #[cfg(test)]
                self.synced.push((path, active.segment.len));
                Ok((active.segment, taken))
            }
            Err(error) => {
                // Half a chunk must not stay: what comes next would stand behind it, and be cut with it after a crash.
                if let Some(file) = active.file.take() {
                    file.set_len(before.0.len).ok();
                }
                (active.segment, active.end) = before;
                Err(error)
            }
        }
    }

    fn begin_segment(&mut self, job: JobId, chunks: &[Arc<Chunk>]) -> io::Result<(Segment, usize)> {
        let folder = self.dir.join(job.to_string());
        if !self.active.contains_key(&job) {
            // Also where the folder is there already: whoever made it may not have synced its name.
            platform::private_dir(&folder)?;
            sync_dir(&self.dir)?;
            self.dir.parent().map_or(Ok(()), sync_dir)?;
        }
        let first = chunks[0].before.next;
        let path = self.path(job, first);
        let fresh = !path.exists();
        let begun = begin(&path, &chunks[0].before).and_then(|(file, len)| {
            let segment = Segment { first, last: first - 1, len };
            let mut active = Active { file: Some(file), segment, end: chunks[0].start };
            let taken = active.extend(&path, chunks, self.segment_bytes)?;
            sync_dir(&folder)?;
            Ok((active, taken))
        });
        match begun {
            Ok((active, taken)) => {
                let segment = active.segment;
                self.active.insert(job, active);
                #[cfg(test)]
                self.synced.push((path, segment.len));
                Ok((segment, taken))
            }
            Err(error) => {
                if fresh {
                    // Gives the little space back; where it can't, recovery finds a file with a torn end.
                    fs::remove_file(&path).ok();
                }
                Err(error)
            }
        }
    }

    /// Nothing more will come of the job: its file need not stay open.
    pub(crate) fn rest(&mut self, job: JobId) {
        if let Some(active) = self.active.get_mut(&job) {
            active.file = None;
        }
    }

    /// Deletes some of a job's segments.
    pub(crate) fn delete(&mut self, job: JobId, segments: &[i64]) {
        for first in segments {
            remove(&self.path(job, *first), job);
        }
    }

    /// Deletes all that is here of a job, and its folder where nothing else is in it.
    pub(crate) fn forget(&mut self, job: JobId) {
        self.active.remove(&job);
        let folder = self.dir.join(job.to_string());
        let Ok(entries) = fs::read_dir(&folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            if super::parse_segment_name(&path).is_some() {
                remove(&path, job);
            }
        }
        // Refused where the executor's files are still there: it removes the folder with them.
        fs::remove_dir(&folder).ok();
    }

    fn path(&self, job: JobId, first: i64) -> PathBuf {
        self.dir.join(job.to_string()).join(segment_name(first))
    }
}

impl Active {
    /// Writes and syncs chunks until the segment is full; at least one.
    fn extend(&mut self, path: &Path, chunks: &[Arc<Chunk>], segment_bytes: u64) -> io::Result<usize> {
        let mut taken = 0;
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = OpenOptions::new().write(true).open(path)?;
                // What an error left behind the last good record goes first.
                file.set_len(self.segment.len)?;
                file.seek(SeekFrom::Start(self.segment.len))?;
                none.insert(file)
            }
        };
        for chunk in chunks {
            if taken > 0 && self.segment.len >= segment_bytes {
                break;
            }
            file.write_all(&chunk.bytes)?;
            self.segment.len += chunk.bytes.len() as u64;
            self.segment.last = chunk.last;
            self.end = chunk.end;
            taken += 1;
        }
        file.sync_data()?;
        Ok(taken)
    }
}

fn begin(path: &Path, before: &Settled) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let opening = record::opening(before);
    file.write_all(&opening)?;
    Ok((file, opening.len() as u64))
}

fn remove(path: &Path, job: JobId) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(job.id = %job, path = %path.display(), %error, "cannot delete a spool file that is no longer needed");
        }
        _ => {}
    }
}

/// Makes the names in a folder safe, not only what the files hold.
#[cfg(unix)]
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Folders can't be opened here, and NTFS keeps names in its own log.
#[cfg(not(unix))]
pub(crate) fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Where a line that is to be read back stands.
#[derive(Debug, Clone)]
pub(crate) struct ReadBack {
    pub(crate) job: JobId,
    /// Position of the first line wanted.
    pub(crate) pos: i64,
    pub(crate) segment: Segment,
    /// The line at this position begins at this byte: reading need not begin at the segment's start.
    pub(crate) hint: Option<(i64, u64)>,
}

/// Lines from a segment: the chunk, and where the line after it begins.
pub(crate) fn read_back(dir: &Path, wanted: &ReadBack) -> io::Result<(Chunk, u64)> {
    let damaged =
        || io::Error::new(io::ErrorKind::InvalidData, "a record is damaged that was whole when it was written");
    let path = dir.join(wanted.job.to_string()).join(segment_name(wanted.segment.first));
    let mut file = File::open(&path)?.take(wanted.segment.len);
    let (mut pos, mut at) = match wanted.hint {
        Some((pos, at)) if pos <= wanted.pos && pos >= wanted.segment.first => (pos, at),
        _ => (wanted.segment.first, record::MAGIC.len() as u64 + 1),
    };
    file.get_mut().seek(SeekFrom::Start(at))?;
    file.set_limit(wanted.segment.len.saturating_sub(at));
    let (mut buffer, mut bytes) = (Vec::new(), Vec::new());
    let first = wanted.pos;
    while pos <= wanted.segment.last && bytes.len() < READ_BYTES {
        let before = buffer.len();
        file.by_ref().take(READ_BYTES as u64).read_to_end(&mut buffer)?;
        let ended = buffer.len() == before;
        let mut used = 0;
        while let Some((body, size)) = record::split(&buffer[used..], true) {
            let is_line = record::is_line(body);
            if is_line && pos >= first {
                bytes.extend_from_slice(&buffer[used..used + size]);
            }
            pos += i64::from(is_line);
            used += size;
            if bytes.len() >= READ_BYTES {
                break;
            }
        }
        if used == 0 && ended {
            return Err(damaged());
        }
        at += used as u64;
        buffer.drain(..used);
    }
    let before = Settled::new(None);
    Ok((Chunk { first, last: pos - 1, bytes, start: 0, end: 0, before }, at))
}
