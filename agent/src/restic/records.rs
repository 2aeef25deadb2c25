//! restic's listings, of any version from 0.14 to 0.19, as the records of the wire, and records as lines. What restic says in odd ways (null for an empty
//! list, a year that no calendar has) costs that field, never the record.

use std::{borrow::Cow, fmt};

use flotilla_proto::{
    ChangeRecord, DiffResult, FoundRecord, NodeKind, NodeRecord, Record, SnapshotRecord, Timestamp,
    limits::MAX_LINE_BYTES,
};
use serde::{
    Deserialize,
    de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Most paths of a snapshot that are named.
const MOST_PATHS: usize = 1000;

/// A snapshot in `snapshots --json` or `forget --json`, or the first line of `ls --json`.
#[derive(Deserialize)]
pub(crate) struct Snapshot<'a> {
    id: String,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    parent: Option<String>,
    tree: Option<String>,
    hostname: Option<String>,
    username: Option<String>,
    paths: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    original: Option<String>,
    program_version: Option<String>,
    summary: Option<Counts>,
}

#[derive(Deserialize, Default)]
struct Counts {
    total_files_processed: Option<u64>,
    total_bytes_processed: Option<u64>,
    data_added_packed: Option<u64>,
}

impl From<Snapshot<'_>> for SnapshotRecord {
    fn from(of: Snapshot<'_>) -> Self {
        let counts = of.summary.unwrap_or_default();
        Self {
            id: of.id,
            time: time(of.time.as_deref()),
            parent: of.parent,
            tree: of.tree.unwrap_or_default(),
            hostname: of.hostname.unwrap_or_default(),
            username: of.username.unwrap_or_default(),
            paths: of.paths.unwrap_or_default(),
            paths_cut: false,
            tags: of.tags.unwrap_or_default(),
            original: of.original,
            program: of.program_version.unwrap_or_default(),
            files: counts.total_files_processed,
            bytes: counts.total_bytes_processed,
            added: counts.data_added_packed,
        }
    }
}

/// An entry as `ls --json` and `find --json` have it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Node<'a> {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    size: Option<u64>,
    #[serde(borrow)]
    mtime: Option<Cow<'a, str>>,
    permissions: String,
    user: Option<String>,
    group: Option<String>,
    uid: Option<u64>,
    gid: Option<u64>,
    mode: Option<u64>,
}

/// An entry as an archive has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its whole path.
    pub(crate) path: String,
    pub(crate) kind: NodeKind,
    /// Bytes of a file.
    pub(crate) size: u64,
    /// Seconds since 1970, and the nanoseconds beyond them.
    pub(crate) mtime: (u64, u32),
    /// Permissions as Unix has them, with the bits for set-user-id, set-group-id and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
}

impl Member {
    /// The root of a snapshot, which restic never names.
    pub(crate) fn root() -> Self {
        Self { path: "/".to_owned(), kind: NodeKind::Dir, size: 0, mtime: (0, 0), mode: 0o755, uid: 0, gid: 0 }
    }
}

/// Go keeps the three bits beside the permissions elsewhere than Unix does.
fn unix_mode(go: u64) -> u32 {
    let bit = |at: u32, unix: u32| if go & (1 << at) == 0 { 0 } else { unix };
    // The lower nine bits fit.
    (go & 0o777) as u32 | bit(23, 0o4000) | bit(22, 0o2000) | bit(20, 0o1000)
}

impl Node<'_> {
    fn member(self) -> Member {
        let nanos = self.mtime.as_deref().map_or(0, nanos);
        let (mode, uid, gid) = (self.mode, self.uid.unwrap_or_default(), self.gid.unwrap_or_default());
        let (path, node) = self.record();
        let seconds = node.mtime.map_or(0, |at| at.unix_ms() / 1000);
        Member {
            path,
            kind: node.kind,
            size: node.size.unwrap_or_default(),
            mtime: (u64::try_from(seconds).unwrap_or_default(), nanos),
            mode: unix_mode(mode.unwrap_or(0o644)),
            uid,
            gid,
        }
    }

    /// The record with its path.
    fn record(self) -> (String, NodeRecord) {
        let kind = match self.kind.as_str() {
            "dir" => NodeKind::Dir,
            "file" => NodeKind::File,
            "symlink" => NodeKind::Symlink,
            _ => NodeKind::Other,
        };
        let owner = |name: Option<String>, number: Option<u64>| {
            name.filter(|name| !name.is_empty()).or(number.map(|number| number.to_string())).unwrap_or_default()
        };
        let record = NodeRecord {
            name: self.path.rsplit('/').next().unwrap_or_default().to_owned(),
            kind,
            size: (kind == NodeKind::File).then(|| self.size.unwrap_or_default()),
            mtime: time(self.mtime.as_deref()),
            mode: self.permissions,
            user: owner(self.user, self.uid),
            group: owner(self.group, self.gid),
        };
        (self.path, record)
    }
}

/// The nanoseconds of `2026-11-21T08:00:00.123456789Z`; digits beyond them, or none at all, count for nothing.
fn nanos(text: &str) -> u32 {
    let digits = text.split_once('.').map_or("", |(_, rest)| rest);
    let fraction: String = digits.chars().take_while(char::is_ascii_digit).chain("000000000".chars()).take(9).collect();
    fraction.parse().unwrap_or_default()
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(|text| text.parse().ok())
}

/// A snapshot of a list.
pub(crate) fn snapshot(line: &str) -> Option<SnapshotRecord> {
    serde_json::from_str::<Snapshot<'_>>(line).ok().map(SnapshotRecord::from)
}

/// A line of `ls --json`.
pub(crate) enum Listed {
    /// The snapshot is there: the first line.
    Snapshot,
    /// An entry, with its whole path.
    Node(String, NodeRecord),
}

/// Reads a line of `ls --json`.
pub(crate) fn listed(line: &str) -> Option<Listed> {
    Some(match line_of_ls(line)? {
        None => Listed::Snapshot,
        Some(node) => {
            let (path, node) = node.record();
            Listed::Node(path, node)
        }
    })
}

/// The same for an archive: the root stands for the snapshot's line.
pub(crate) fn member(line: &str) -> Option<Member> {
    Some(line_of_ls(line)?.map_or_else(Member::root, Node::member))
}

/// `None` inside: the snapshot's line.
fn line_of_ls(line: &str) -> Option<Option<Node<'_>>> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        struct_type: Option<Cow<'a, str>>,
        #[serde(borrow)]
        message_type: Option<Cow<'a, str>>,
    }
    let head: Head<'_> = serde_json::from_str(line).ok()?;
    match head.message_type.or(head.struct_type)?.as_ref() {
        "snapshot" => Some(None),
        "node" => serde_json::from_str(line).ok().map(Some),
        _ => None,
    }
}

/// Hands on the matches of one snapshot, an element of `find --json`, one by one. `false`: it is no such element.
pub(crate) fn found(element: &str, tell: &mut dyn FnMut(FoundRecord)) -> bool {
    #[derive(Deserialize)]
    struct Hits<'a> {
        // It stands behind the matches.
        snapshot: String,
        #[serde(borrow)]
        matches: Option<&'a RawValue>,
    }
    struct Each<'a> {
        snapshot: &'a str,
        tell: &'a mut dyn FnMut(FoundRecord),
    }
    impl<'de> Visitor<'de> for Each<'_> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of entries")
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
            while let Some(node) = list.next_element::<Node<'de>>()? {
                let (path, node) = node.record();
                (self.tell)(FoundRecord { snapshot: self.snapshot.to_owned(), path, node });
            }
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok(())
        }
    }
    let Ok(Hits { snapshot, matches }) = serde_json::from_str::<Hits<'_>>(element) else { return false };
    let Some(matches) = matches else { return true };
    serde_json::Deserializer::from_str(matches.get()).deserialize_any(Each { snapshot: &snapshot, tell }).is_ok()
}

/// A line of `diff --json`.
pub(crate) enum Compared {
    /// A difference.
    Change(ChangeRecord),
    /// The counts behind them.
    Sum(DiffResult),
}

/// Reads a line of `diff --json`.
pub(crate) fn compared(line: &str) -> Option<Compared> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Side {
        files: u64,
        dirs: u64,
        others: u64,
        bytes: u64,
    }
    #[derive(Deserialize)]
    #[serde(tag = "message_type", rename_all = "snake_case")]
    enum Message {
        Change { path: String, modifier: String },
        Statistics { changed_files: u64, added: Side, removed: Side },
    }
    Some(match serde_json::from_str(line).ok()? {
        Message::Change { path, modifier } => Compared::Change(ChangeRecord { path, sign: modifier }),
        Message::Statistics { changed_files, added, removed } => Compared::Sum(DiffResult {
            added: added.files + added.dirs + added.others,
            removed: removed.files + removed.dirs + removed.others,
            changed: changed_files,
            added_bytes: added.bytes,
            removed_bytes: removed.bytes,
        }),
    })
}

/// The line that carries a record, shortened where it may be: of a snapshot's paths the first are named. `None` where it does not fit even so.
pub(crate) fn line(mut record: Record) -> Option<String> {
    loop {
        let snapshot = match &mut record {
            Record::Snapshot(snapshot) => Some(snapshot),
            Record::Fate(fate) => Some(&mut fate.snapshot),
            _ => None,
        };
        let cut = |snapshot: &mut SnapshotRecord, most: usize| {
            snapshot.paths.truncate(most);
            snapshot.paths_cut = true;
        };
        let paths = snapshot.map(|snapshot| {
            if snapshot.paths.len() > MOST_PATHS {
                cut(snapshot, MOST_PATHS);
            }
            snapshot.paths.len()
        });
        let line = plain(serde_json::to_string(&record).ok()?);
        if line.len() <= MAX_LINE_BYTES {
            return Some(line);
        }
        match (&mut record, paths?) {
            (_, 0) => return None,
            (Record::Snapshot(snapshot), paths) => cut(snapshot, paths / 2),
            (Record::Fate(fate), paths) => cut(&mut fate.snapshot, paths / 2),
            _ => return None,
        }
    }
}

/// No line of a log holds a control character; in JSON two kinds may stand as they are.
fn plain(json: String) -> String {
    use fmt::Write as _;
    if !json.contains(char::is_control) {
        return json;
    }
    json.chars().fold(String::with_capacity(json.len() + 8), |mut out, c| {
        if c.is_control() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_each_version_is_read_and_what_it_does_not_say_is_absent() {
        let old = r#"{"time":"2026-11-21T10:01:43.535425599Z","tree":"ef","paths":null,"hostname":"vm","username":"root","id":"ead8","short_id":"e"}"#;
        let record = snapshot(old).unwrap();
        assert_eq!((record.id.as_str(), record.paths.len(), record.bytes), ("ead8", 0, None));
        assert_eq!(record.time.unwrap().to_string(), "2026-11-21T10:01:43.535Z");
        let new = r#"{"time":"0000-99-01T00:00:00Z","paths":["/a"],"tags":["x"],"id":"63","program_version":"restic 0.18.0","summary":{"backup_end":"0001-01-01T00:00:00Z","total_files_processed":8,"data_added_packed":2037}}"#;
        let record = snapshot(new).unwrap();
        assert_eq!((record.time, record.files, record.bytes, record.added), (None, Some(8), None, Some(2037)));
        assert!(snapshot(r#"{"message_type":"exit_error"}"#).is_none());
    }

    #[test]
    fn a_snapshot_of_many_paths_is_cut_to_what_fits_and_says_so() {
        let whole = SnapshotRecord { id: "a".repeat(64), paths: vec!["/p".to_owned(); 1000], ..Default::default() };
        let read = |record: &SnapshotRecord| match Record::of_line(&line(Record::Snapshot(record.clone())).unwrap()) {
            Some(Record::Snapshot(read)) => read,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(&whole), whole);
        let many = read(&SnapshotRecord { paths: vec!["/p".to_owned(); 5000], ..whole.clone() });
        assert_eq!((many.paths.len(), many.paths_cut), (1000, true));
        let long = read(&SnapshotRecord { paths: vec![format!("/{}", "x".repeat(4000)); 20], ..whole });
        assert_eq!((long.paths.len(), long.paths_cut), (5, true));
        let endless = ChangeRecord { path: "x".repeat(MAX_LINE_BYTES), sign: "+".to_owned() };
        assert_eq!(line(Record::Change(endless)), None);
    }

    #[test]
    fn a_name_of_any_characters_survives_the_line() {
        let name = "new\nline \u{7f}\u{85}\u{fffd} \"'\\ 😀\u{1b}[2K";
        let node = NodeRecord { name: name.to_owned(), ..Default::default() };
        let line = line(Record::Node(node.clone())).unwrap();
        assert!(!line.contains(char::is_control));
        assert_eq!(Record::of_line(&line), Some(Record::Node(node)));
    }

    #[test]
    fn what_is_no_element_of_a_search_is_not_taken_for_one() {
        let mut seen = Vec::new();
        assert!(found(r#"{"matches":null,"hits":0,"snapshot":"ab"}"#, &mut |record| seen.push(record)));
        assert!(!found(r#"{"matches":[{"path":"/a"}"#, &mut |record| seen.push(record)), "cut off");
        assert!(seen.is_empty());
        assert!(found(
            r#"{"matches":[{"path":"/x/a","type":"fifo","uid":7}],"hits":1,"snapshot":"ab"}"#,
            &mut |record| seen.push(record)
        ));
        assert_eq!(
            (seen[0].node.name.as_str(), seen[0].node.kind, seen[0].node.user.as_str()),
            ("a", NodeKind::Other, "7")
        );
    }
}
