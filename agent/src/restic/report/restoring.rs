//! What a restore says of single files. Those that it replaces are counted, and the first are named; a line for each of a million others would help nobody.

use std::{fs, path::Path};

use flotilla_proto::{NodeKind, Stream};
use serde::{Deserialize, Serialize};

use super::Reporter;
use crate::{
    blocking::blocking,
    restic::{
        command::chosen,
        output::Item,
        records::{self, Listed},
        summary,
    },
};

/// What is known of a restore's files so far.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Restoring {
    /// Files that restic named, one by one.
    pub(crate) named: u64,
    /// Files that exist and are replaced.
    pub(crate) overwritten: u64,
    /// The first of them.
    pub(crate) first: Vec<String>,
    /// Of a dry run that only lists.
    pub(crate) counted: Option<Counted>,
}

/// What a list says that a restore would write.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// Files and folders.
    pub(crate) files: u64,
    /// Bytes of the files.
    pub(crate) bytes: u64,
}

const NAMED: usize = 100;

impl Restoring {
    fn replaces(&mut self, path: &str) -> bool {
        self.overwritten += 1;
        let room = self.first.len() < NAMED;
        if room {
            self.first.push(path.to_owned());
        }
        room
    }
}

impl Reporter<'_> {
    pub(super) fn restored_item(&mut self, item: &Item) {
        self.transcript.restoring.named += 1;
        let replaced = item.action == "updated" && self.transcript.restoring.replaces(&item.item);
        if replaced || item.action == "deleted" {
            self.say(Stream::Stdout, &summary::item_line(item));
        }
    }

    /// Takes a line of the list that stands for a dry run where restic has none. `false`: it is none.
    pub(super) fn would_restore(&mut self, line: &str) -> bool {
        let Some(spec) = self.restore.filter(|spec| spec.dry_run && line.contains("\"struct_type\":")) else {
            return false;
        };
        match records::listed(line) {
            Some(Listed::Snapshot) => {
                self.transcript.restoring.counted.get_or_insert_default();
            }
            Some(Listed::Node(path, node)) => {
                let under = |chosen: &str| {
                    path.strip_prefix(chosen).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                let mut paths = chosen(&spec.paths).peekable();
                if paths.peek().is_some() && !paths.any(under) {
                    return true;
                }
                let counted = self.transcript.restoring.counted.get_or_insert_default();
                counted.files += 1;
                counted.bytes += node.size.unwrap_or_default();
                let place = Path::new(&spec.target).join(path.trim_start_matches('/'));
                let exists = || fs::symlink_metadata(place).is_ok_and(|meta| !meta.is_dir());
                if node.kind != NodeKind::Dir && blocking(exists) && self.transcript.restoring.replaces(&path) {
                    self.say(Stream::Stdout, &format!("exists    {}", crate::text::visible(&path)));
                }
            }
            None => return false,
        }
        true
    }
}
