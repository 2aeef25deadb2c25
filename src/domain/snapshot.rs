//! Snapshots as the index has them, and when a repository's list is to be made anew. What a snapshot says of itself (its time, its host) is a claim;
//! when it was first seen, and what job made it, is what this server saw.

use crate::domain::{HostId, JobId, NodeRecord, PlanId, RepoId, Timestamp};

/// Number of a snapshot within the store: short, and the cursor of lists. A number stays with its snapshot for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotNo(pub i64);

/// A snapshot of the index. Names of host and repository come along, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Number within the store.
    pub no: SnapshotNo,
    /// Which repository holds it.
    pub repo_id: RepoId,
    /// That repository's name.
    pub repo_name: String,
    /// Full id, 64 hexadecimal digits.
    pub id: String,
    /// When it was made: a claim of who made it.
    pub time: Timestamp,
    /// Under which host name it stands.
    pub hostname: String,
    /// Whose it is, where that is known.
    pub host: Option<SnapshotHost>,
    /// Who made it.
    pub username: String,
    /// What it is of.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The snapshot that it was compared with.
    pub parent: Option<String>,
    /// The snapshot that it was rewritten or copied from.
    pub original: Option<String>,
    /// The program that made it.
    pub program: String,
    /// Files looked at.
    pub files: Option<u64>,
    /// Bytes that a restore would write.
    pub bytes: Option<u64>,
    /// Bytes that it added, as stored.
    pub added: Option<u64>,
    /// The backup of ours that made it.
    pub job_id: Option<JobId>,
    /// The plan that it followed.
    pub plan_id: Option<PlanId>,
    /// When this server first saw it.
    pub first_seen_at: Timestamp,
    /// When it was found to be gone.
    pub gone_at: Option<Timestamp>,
    /// The job that removed it; `None` where nobody here did.
    pub gone_by: Option<JobId>,
    /// Somebody wants it kept.
    pub pin: Option<Pinned>,
}

/// The host that a snapshot belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHost {
    /// Which.
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// It is no longer looked after; its snapshots stay.
    pub removed: bool,
}

/// A pin: this snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Snapshot {
    /// The first eight digits of the id, as restic shows it.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..8).unwrap_or(&self.id)
    }
}

/// Whether a text is a whole id: 64 hexadecimal digits in lower case. restic 0.14 reports the first eight only, which name nothing for certain.
#[must_use]
pub fn is_whole_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Longest path of a folder that can be listed, in bytes: more than any system allows.
pub const MAX_PATH_BYTES: usize = 8192;

/// A path within a snapshot, from `/`, without a slash at its end but for the root, without empty parts, `.` and `..`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_folder(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text == "/" {
        return Ok("/".to_owned());
    }
    if !text.starts_with('/') {
        return Err("must begin with /: paths in a snapshot do");
    }
    if text.len() > MAX_PATH_BYTES || text.contains('\0') {
        return Err("is no path that a file system could have");
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("must not hold the parts . or ..");
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The path of an entry of a folder.
#[must_use]
pub fn child_path(folder: &str, name: &str) -> String {
    if folder == "/" { format!("/{name}") } else { format!("{folder}/{name}") }
}

/// The pattern by which restic finds exactly this path. A byte that is no UTF-8 was lost before it came here: any one character stands in its place.
#[must_use]
pub fn exact_pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | '\\' => pattern.extend(['\\', c]),
            char::REPLACEMENT_CHARACTER => pattern.push('?'),
            _ => pattern.push(c),
        }
    }
    pattern
}

/// What decides when a repository is to be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexState {
    /// When the last whole list came into the index.
    pub indexed_at: Option<Timestamp>,
    /// Since when the index is known to be behind.
    pub stale_at: Option<Timestamp>,
    /// A list is ordered or runs, or has come and is not in the index yet.
    pub under_way: bool,
    /// When the last attempt to list ended.
    pub last_try: Option<Timestamp>,
}

/// Seconds after which a list is made anew though nothing is known to have changed.
const DAY_S: i64 = 24 * 3600;
/// Lists that are a day old are spread over so many seconds more, so that a server with many repositories does not list them all at once.
const SPREAD_S: i64 = 2 * 3600;
/// Seconds between a list that came and the next.
const GAP_S: i64 = 60;
/// Seconds after an attempt that brought no list.
const RETRY_S: i64 = 3600;

impl IndexState {
    /// Whether a list is to be ordered at `now`.
    #[must_use]
    pub fn wants_list(&self, repo: RepoId, now: Timestamp) -> bool {
        if self.under_way {
            return false;
        }
        let rests = self.last_try.is_some_and(|tried| {
            let rest = if self.indexed_at.is_some_and(|at| at >= tried) { GAP_S } else { RETRY_S };
            // What ended "in the future" ended before the clock was put back.
            tried <= now && now < tried.plus_s(rest)
        });
        if rests {
            return false;
        }
        match (self.indexed_at, self.stale_at) {
            (None, _) | (_, Some(_)) => true,
            (Some(at), None) => now >= at.plus_s(DAY_S + spread_s(repo)),
        }
    }
}

/// A repository's share of [`SPREAD_S`]: the same each day. The low digits of an id are random.
fn spread_s(repo: RepoId) -> i64 {
    let digits = repo.to_string();
    let hash = digits.bytes().fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    i64::try_from(hash % SPREAD_S.unsigned_abs()).unwrap_or_default()
}

/// One state of a file over time.
#[derive(Debug, Clone, PartialEq)]
pub struct FileVersion {
    /// The file as it was.
    pub node: NodeRecord,
    /// The snapshots that hold it so: id and time, the oldest first.
    pub snapshots: Vec<(String, Option<Timestamp>)>,
}

/// Groups what a file was in each snapshot into versions, the newest first: same kind, size and time of change in snapshots that follow each other are
/// one version. A file that comes back as it was is a version of its own. Snapshots without a known time come first.
#[must_use]
pub fn versions(mut found: Vec<(String, Option<Timestamp>, NodeRecord)>) -> Vec<FileVersion> {
    found.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let mut versions: Vec<FileVersion> = Vec::new();
    for (snapshot, time, node) in found {
        match versions.last_mut() {
            Some(last) if (last.node.kind, last.node.size, last.node.mtime) == (node.kind, node.size, node.mtime) => {
                last.snapshots.push((snapshot, time));
            }
            _ => versions.push(FileVersion { node, snapshots: vec![(snapshot, time)] }),
        }
    }
    versions.reverse();
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_unix_ms(s * 1000)
    }

    fn repo() -> RepoId {
        RepoId::from_parts(1, 1)
    }

    const LISTED: IndexState = IndexState { indexed_at: None, stale_at: None, under_way: false, last_try: None };

    #[test]
    fn a_repository_is_listed_where_it_never_was_where_it_is_stale_and_once_a_day() {
        assert!(LISTED.wants_list(repo(), at(0)));
        let fresh = IndexState { indexed_at: Some(at(0)), ..LISTED };
        assert!(!fresh.wants_list(repo(), at(DAY_S - 1)));
        assert!(fresh.wants_list(repo(), at(DAY_S + SPREAD_S)));
        assert!(IndexState { stale_at: Some(at(5)), ..fresh }.wants_list(repo(), at(6)));
    }

    #[test]
    fn one_list_at_a_time_and_none_right_behind_another() {
        assert!(!IndexState { under_way: true, ..LISTED }.wants_list(repo(), at(0)));
        let stale =
            IndexState { indexed_at: Some(at(101)), stale_at: Some(at(102)), last_try: Some(at(100)), ..LISTED };
        assert!(!stale.wants_list(repo(), at(100 + GAP_S - 1)));
        assert!(stale.wants_list(repo(), at(100 + GAP_S)));
    }

    #[test]
    fn an_attempt_that_brought_no_list_is_made_again_after_an_hour() {
        let failed = IndexState { last_try: Some(at(100)), ..LISTED };
        assert!(!failed.wants_list(repo(), at(100 + RETRY_S - 1)));
        assert!(failed.wants_list(repo(), at(100 + RETRY_S)));
        assert!(failed.wants_list(repo(), at(50)), "a clock that was put back holds nothing up");
    }

    #[test]
    fn a_folder_has_one_way_to_be_written() {
        for (text, folder) in [("", "/"), ("/", "/"), ("/etc/", "/etc"), ("//a//b", "/a/b"), ("/a\nb", "/a\nb")] {
            assert_eq!(check_folder(text).as_deref(), Ok(folder));
        }
        for text in ["etc", "/a/../b", "/./a", "/a\0b"] {
            assert!(check_folder(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_means_something_in_a_pattern_is_taken_as_it_is_and_a_lost_byte_as_any() {
        assert_eq!(exact_pattern("/a*[b]?\\c\u{FFFD}"), "/a\\*\\[b]\\?\\\\c?");
    }

    #[test]
    fn a_file_that_comes_back_as_it_was_is_a_version_of_its_own() {
        let node = |size| NodeRecord { size: Some(size), ..NodeRecord::default() };
        let found = [(3, 7), (1, 7), (2, 9), (0, 7)].map(|(t, size)| (format!("s{t}"), Some(at(t)), node(size)));
        let versions = versions(found.to_vec());
        let told: Vec<_> = versions.iter().map(|v| (v.node.size, v.snapshots.len())).collect();
        assert_eq!(told, [(Some(7), 1), (Some(9), 1), (Some(7), 2)], "the newest first");
    }
}
