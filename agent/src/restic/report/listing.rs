//! What restic lists, told as records, one a line, and counted. The count is of what restic listed: where a record could not be told, there are fewer lines.

use flotilla_proto::{DiffResult, NodeKind, Record, Stream};
use serde::{Deserialize, Serialize};

use super::Reporter;
use crate::{
    process::RawLine,
    restic::{
        output::Task,
        records::{self, Compared, Listed},
    },
    sink::JobSink as _,
};

/// What is known of a listing so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Listing {
    /// Records.
    pub(crate) count: u64,
    /// Its end was seen.
    pub(crate) whole: bool,
    /// Something of it could not be read: it is not whole, whatever follows.
    pub(crate) damaged: bool,
    /// What the folder to be listed is.
    pub(crate) folder: Option<NodeKind>,
    /// The counts of a comparison.
    pub(crate) diff: Option<DiffResult>,
}

impl Reporter<'_> {
    /// Takes a line of standard output that belongs to the listing. `false`: it does not.
    pub(super) fn listed(&mut self, raw: &RawLine) -> bool {
        // Not cleaned as text is: in a name each character counts.
        let line = String::from_utf8_lossy(&raw.bytes);
        if raw.lost > 0 && line.starts_with('{') && matches!(self.task(), Task::Snapshots | Task::Find) {
            self.transcript.listing.damaged = true;
            self.sink.say("a part of the list is too long to be read: search for less at a time");
            return true;
        }
        match self.task() {
            Task::Snapshots | Task::Find if matches!(line.as_ref(), "]" | "[]") => {
                self.transcript.listing.whole = true;
                true
            }
            Task::Snapshots => records::snapshot(&line).map(|snapshot| self.tell(Record::Snapshot(snapshot))).is_some(),
            Task::Find => records::found(&line, &mut |found| self.tell(Record::Found(found))),
            Task::Ls => self.entry(&line),
            Task::Diff => match records::compared(&line) {
                Some(Compared::Change(change)) => {
                    self.tell(Record::Change(change));
                    true
                }
                Some(Compared::Sum(sum)) => {
                    self.transcript.listing.diff = Some(sum);
                    true
                }
                None => false,
            },
            Task::Restore => self.would_restore(&line),
            Task::Backup | Task::Check | Task::Stats | Task::Other => false,
        }
    }

    /// restic names the folder itself too, and where all below was asked for also what is further down.
    fn entry(&mut self, line: &str) -> bool {
        match records::listed(line) {
            Some(Listed::Snapshot) => {
                if self.folder == "/" {
                    self.transcript.listing.folder = Some(NodeKind::Dir);
                }
                true
            }
            Some(Listed::Node(path, node)) => {
                if path == self.folder {
                    self.transcript.listing.folder = Some(node.kind);
                } else if parent(&path) == self.folder {
                    self.tell(Record::Node(node));
                }
                true
            }
            None => false,
        }
    }

    fn tell(&mut self, record: Record) {
        self.transcript.listing.count += 1;
        if self.told || self.quiet {
            return;
        }
        match records::line(record) {
            Some(line) => self.sink.line(Stream::Stdout, &line),
            None => self.sink.say("an entry is too long for a line of the log and is left out of the list"),
        }
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) => "/",
        Some(at) => &path[..at],
        None => "",
    }
}
