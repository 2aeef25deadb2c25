//! What an earlier process left: each job's segments are read and checked from the oldest on, and cut at the last commit before the first damage.
//! Nothing that can't be read is deleted: it is put aside under another name, and said.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use flotilla_proto::JobId;

use super::{
    Segment,
    files::sync_dir,
    parse_segment_name,
    record::{self, End, MAGIC, Record, Settled, VERSION},
};

/// A job of which something was on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) job: JobId,
    pub(crate) settled: Settled,
    /// Whole, oldest first; the last one may be written on.
    pub(crate) segments: Vec<Segment>,
    pub(crate) end: Option<End>,
    /// What had to be cut, in words that go on "the agent …".
    pub(crate) cut: Option<String>,
}

/// What one segment file holds.
struct Scanned {
    /// By the header.
    first: i64,
    /// Length up to the last commit.
    len: u64,
    settled: Settled,
    end: Option<End>,
    /// Whether all bytes behind the last commit are whole records.
    clean: bool,
}

/// Why a segment has no usable beginning.
enum Unusable {
    /// Nothing of it came to the disk but its name: so many bytes.
    Torn(u64),
    Newer(u8),
    Damaged,
    Unreadable(io::Error),
}

/// All jobs that have segments below `dir`. Other files and folders are nobody's business here.
///
/// # Errors
/// Where the folder exists and can't be listed.
pub(crate) fn scan(dir: &Path) -> io::Result<Vec<Found>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let job = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<JobId>().ok());
        if let Some(job) = job.filter(|_| path.is_dir()) {
            found.extend(scan_job(job, &path));
        }
    }
    found.sort_by_key(|found| found.job);
    Ok(found)
}

fn scan_job(job: JobId, folder: &Path) -> Option<Found> {
    let lost = Found { job, settled: Settled::new(None), segments: Vec::new(), end: None, cut: None };
    let mut paths: Vec<(i64, PathBuf)> = match fs::read_dir(folder) {
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            paths.filter_map(|path| Some((parse_segment_name(&path)?, path))).collect()
        }
        Err(error) => {
            tracing::error!(job.id = %job, folder = %folder.display(), %error, "cannot list what the agent kept of this job's log");
            return Some(Found {
                cut: Some(format!("could not read the folder {}: {error}", folder.display())),
                ..lost
            });
        }
    };
    paths.sort_unstable();
    if paths.is_empty() {
        return None;
    }
    let mut found = lost;
    let mut rest = paths.into_iter();
    while let Some((first, path)) = rest.next() {
        if !found.take(first, &path) {
            for (_, path) in rest.by_ref() {
                put_aside(job, &path);
            }
        }
    }
    Some(found)
}

impl Found {
    /// Adds one segment. `false`: what comes after it has no place any more.
    fn take(&mut self, first: i64, path: &Path) -> bool {
        let job = self.job;
        let (scanned, size) = match read(path) {
            Ok(scanned) => scanned,
            Err(why) => {
                self.refuse(path, &why);
                return false;
            }
        };
        let overlaps = !self.segments.is_empty() && first < self.settled.next;
        if overlaps || scanned.first != first {
            self.refuse(path, &Unusable::Damaged);
            return false;
        }
        if first > self.settled.next {
            // What is between was acknowledged before it could be written: then so was all before it.
            for old in self.segments.drain(..) {
                let path = path.with_file_name(super::segment_name(old.first));
                tracing::info!(job.id = %job, path = %path.display(), "deleting a spool file that the server has all of");
                fs::remove_file(path).ok();
            }
        }
        let cut = size - scanned.len;
        if cut > 0 {
            if let Err(error) = truncate(path, scanned.len) {
                tracing::error!(job.id = %job, path = %path.display(), %error, "cannot cut the damaged end of a spool file");
            }
            if !scanned.clean {
                tracing::warn!(job.id = %job, path = %path.display(), cut, kept = scanned.len, "the damaged end of a spool file is cut");
                self.cut = Some(format!("cut {cut} damaged bytes from the end of what it had kept of this log"));
            }
        }
        self.segments.push(Segment { first, last: scanned.settled.last(), len: scanned.len });
        self.settled = scanned.settled;
        // What comes behind the end is no line: how the numbers go, said by a later welcome.
        self.end = scanned.end.or(self.end.take());
        scanned.clean
    }

    fn refuse(&mut self, path: &Path, why: &Unusable) {
        let file = path.display();
        let text = match why {
            Unusable::Torn(bytes) => {
                // No line of it was ever on disk, so nothing is lost with it.
                tracing::warn!(job.id = %self.job, path = %file, bytes, "deleting a spool file that was only being begun");
                fs::remove_file(path).ok();
                return;
            }
            Unusable::Newer(version) => {
                format!("could not read {file}: a newer agent wrote it (format {version}, this one knows {VERSION})")
            }
            Unusable::Damaged => format!("could not read {file}: its beginning is damaged"),
            Unusable::Unreadable(error) => format!("could not read {file}: {error}"),
        };
        tracing::error!(job.id = %self.job, "the agent {text}; it is put aside");
        put_aside(self.job, path);
        self.cut = Some(text);
    }
}

fn read(path: &Path) -> Result<(Scanned, u64), Unusable> {
    let bytes = fs::read(path).map_err(Unusable::Unreadable)?;
    let size = bytes.len() as u64;
    if bytes.len() < MAGIC.len() + 1 || bytes.iter().all(|byte| *byte == 0) {
        return Err(Unusable::Torn(size));
    }
    let version = *bytes.strip_prefix(&MAGIC).and_then(|rest| rest.first()).ok_or(Unusable::Damaged)?;
    if version > VERSION {
        return Err(Unusable::Newer(version));
    }
    let mut at = MAGIC.len() + 1;
    let (body, used) = record::split(&bytes[at..], true).ok_or(Unusable::Damaged)?;
    let Some(Record::Header(header)) = record::read(body) else { return Err(Unusable::Damaged) };
    at += used;
    let mut kept = Scanned { len: at as u64, settled: header, end: None, clean: true, first: header.next };
    let mut settled = header;
    while at < bytes.len() {
        let Some((record, used)) =
            record::split(&bytes[at..], true).and_then(|(body, used)| Some((record::read(body)?, used)))
        else {
            kept.clean = false;
            break;
        };
        at += used;
        settled.apply(&record);
        if record.commits() {
            (kept.len, kept.settled) = (at as u64, settled);
        }
        if let Record::End(end) = record {
            kept.end = Some(*end);
        }
    }
    Ok((kept, size))
}

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}

fn put_aside(job: JobId, path: &Path) {
    let aside = path.with_extension("spool.unusable");
    let moved = fs::rename(path, &aside).and_then(|()| path.parent().map_or(Ok(()), sync_dir));
    if let Err(error) = moved {
        tracing::error!(job.id = %job, path = %path.display(), %error, "cannot put an unusable spool file aside");
    }
}
