//! The retention guard: which of the snapshots that no keep rule wants may really go. It holds what restic's dry run says against what this server saw
//! itself. Pure: the same question has the same answer. It never adds to what the rules would remove, and where something is odd about what would
//! stay in the place of the removed, nothing goes until a person has looked.

mod finding;

use std::collections::{HashMap, HashSet};

pub use finding::{About, Cause, Finding};

use crate::domain::{FateRecord, HeldBack, HostId, Timestamp};

/// How far clocks may differ. Clocks that nobody sets drift by minutes; and who gains an hour by lying moves a snapshot by one place of the finest
/// rule at most.
pub const CLOCK_SLACK_S: i64 = 3600;
/// How late a snapshot that no job of ours made may first be seen. Lists are made once a day; two of them may fail over a weekend.
pub const LATE_S: i64 = 3 * 86_400;
/// A snapshot with less than this part of what the removed ones usually hold is far smaller. Sources lose a half when something is cleaned up; three
/// quarters between two backups is a disk that was not mounted, or a folder that somebody emptied.
pub const SHRUNK_PART: u64 = 4;
/// Sources that usually hold less than this are not measured: a few small files come and go.
pub const SHRUNK_FLOOR_BYTES: u64 = 1 << 20;
/// Snapshots that a stored finding names, and that a word on it is good for. It counts all of them.
pub const NAMED: usize = 1000;

/// What the index knows of a snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// When this server first saw it, or saw what it was rewritten or copied from.
    pub first_seen_at: Timestamp,
    /// It was there when the repository was first listed: it is taken as it stands, for nobody here knows how it came.
    pub baseline: bool,
    /// The backup of ours that made it.
    pub made: Option<Made>,
    /// Bytes that a restore would write.
    pub bytes: Option<u64>,
    /// Somebody wants it kept.
    pub pin: Option<Pin>,
}

/// A backup of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// The host that ran it.
    pub host: HostId,
    /// When it was ordered by this server's clock; of one that its agent ran alone, the moment of its schedule.
    pub since: Timestamp,
}

/// Somebody's wish that a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pin {
    /// Whose.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What people said to earlier verdicts on the repository.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Approvals {
    /// Snapshots that may go, whatever is found.
    pub remove: HashSet<String>,
    /// Findings that were looked at: what they are about is not asked again.
    pub seen: Vec<Finding>,
}

/// A dry run, and all that it is held against.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What the rules say of each snapshot that they are about.
    pub fates: &'a [FateRecord],
    /// What the index knows of them, by id.
    pub known: &'a HashMap<String, Known>,
    /// Whether the whole repository was ever listed. Before that there is nothing to compare with.
    pub listed: bool,
    /// Host names that stand for a host of the fleet.
    pub hosts: &'a HashMap<String, HostId>,
    /// Host names that have snapshots which this run is not about.
    pub elsewhere: &'a HashSet<String>,
    /// What people said before.
    pub approvals: &'a Approvals,
    /// This server's clock.
    pub now: Timestamp,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ruling {
    /// Ids that may go, in the order of the question.
    pub remove: Vec<String>,
    /// Snapshots that no rule keeps, and that stay all the same.
    pub held: Vec<HeldBack>,
    /// Ids that would go, and wait for a person because of the findings.
    pub waiting: Vec<String>,
    /// What is odd.
    pub findings: Vec<Finding>,
}

/// Rules on a dry run.
#[must_use]
pub fn rule(question: Question<'_>) -> Ruling {
    let mut ruling = Ruling::default();
    let mut going: Vec<&FateRecord> = Vec::new();
    for fate in question.fates.iter().filter(|fate| fate.kept_by.is_empty()) {
        match question.hold(&fate.snapshot.id) {
            Some(reason) => ruling.held.push(HeldBack { snapshot: fate.snapshot.id.clone(), reason }),
            None => going.push(fate),
        }
    }
    if going.is_empty() {
        return ruling;
    }
    ruling.findings = findings(question, &going);
    for fate in going {
        let id = fate.snapshot.id.clone();
        if ruling.findings.is_empty() || question.approvals.remove.contains(&id) {
            ruling.remove.push(id);
        } else {
            ruling.waiting.push(id);
        }
    }
    ruling
}

impl Question<'_> {
    /// Why a snapshot that no rule keeps stays, whatever else is found.
    fn hold(&self, id: &str) -> Option<String> {
        if !self.listed {
            return Some(
                "the repository was never listed here, so there is nothing to compare with: list its snapshots first"
                    .to_owned(),
            );
        }
        let Some(known) = self.known.get(id) else {
            return Some("not in the index yet: somebody else made it, or it is newer than the last list".to_owned());
        };
        known.pin.as_ref().map(|pin| match pin.reason.as_str() {
            "" => format!("pinned by {}", pin.by),
            reason => format!("pinned by {}: {reason}", pin.by),
        })
    }

    fn claimed(&self, fate: &FateRecord) -> Timestamp {
        fate.snapshot.time.unwrap_or(self.now)
    }

    fn bytes(&self, fate: &FateRecord) -> Option<u64> {
        self.known.get(&fate.snapshot.id).and_then(|known| known.bytes).or(fate.snapshot.bytes)
    }
}

/// Snapshots of the same paths under the same host name: those that can be compared.
type Series<'a> = (&'a str, &'a [String]);

fn series(fate: &FateRecord) -> Series<'_> {
    (&fate.snapshot.hostname, &fate.snapshot.paths)
}

/// What would go, by what it can be compared with.
struct Going<'a> {
    groups: HashSet<&'a str>,
    series: HashMap<Series<'a>, Vec<&'a FateRecord>>,
}

fn findings(question: Question<'_>, going: &[&FateRecord]) -> Vec<Finding> {
    let mut by = Going { groups: HashSet::new(), series: HashMap::new() };
    for fate in going {
        by.groups.insert(&fate.group);
        by.series.entry(series(fate)).or_default().push(fate);
    }
    let mut found = Findings::default();
    // What stays where nothing goes pushes nothing out.
    for fate in question.fates.iter().filter(|fate| !fate.kept_by.is_empty() && by.groups.contains(fate.group.as_str()))
    {
        let rivals = by.series.get(&series(fate)).map_or(&[][..], Vec::as_slice);
        for (cause, usual) in odd(question, fate, rivals) {
            let about = About {
                id: fate.snapshot.id.clone(),
                time: question.claimed(fate),
                first_seen_at: question.known.get(&fate.snapshot.id).map(|known| known.first_seen_at),
                bytes: question.bytes(fate),
            };
            found.add(cause, series(fate), about, usual);
        }
    }
    let mut findings = found.all;
    findings.retain_mut(|finding| finding.drop_seen(&question.approvals.seen));
    findings.extend(emptied(question, going));
    findings
}

/// Findings so far, one for each cause and series.
#[derive(Default)]
struct Findings {
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, cause: Cause, (hostname, paths): Series<'_>, about: About, usual_bytes: Option<u64>) {
        let same = |f: &&mut Finding| f.cause == cause && f.hostname == hostname && f.paths == paths;
        match self.all.iter_mut().find(same) {
            Some(finding) => finding.about.push(about),
            None => self.all.push(Finding {
                cause,
                hostname: hostname.to_owned(),
                paths: paths.to_vec(),
                about: vec![about],
                count: 0,
                usual_bytes,
            }),
        }
    }
}

/// What is odd about a snapshot that stays, while `rivals` of its series go.
fn odd(question: Question<'_>, fate: &FateRecord, rivals: &[&FateRecord]) -> Vec<(Cause, Option<u64>)> {
    let claimed = question.claimed(fate);
    let known = question.known.get(&fate.snapshot.id);
    let seen = known.map_or(question.now, |known| known.first_seen_at);
    let mut odd = Vec::new();
    if claimed > seen.plus_s(CLOCK_SLACK_S) {
        odd.push((Cause::ToCome, None));
    }
    if known.is_some_and(|known| known.baseline) {
        return odd;
    }
    let made = known.and_then(|known| known.made);
    let earliest = made.map_or(seen.plus_s(-LATE_S), |made| made.since.plus_s(-CLOCK_SLACK_S));
    if claimed < earliest {
        odd.push((Cause::BackDated, None));
    }
    if let Some(host) = question.hosts.get(&fate.snapshot.hostname) {
        let by_its_own = |rival: &&&FateRecord| {
            question.known.get(&rival.snapshot.id).and_then(|k| k.made).is_some_and(|made| made.host == *host)
        };
        let strange = match made {
            Some(made) => made.host != *host,
            // Where a host's backups are not made by its agent, one more such is nothing odd.
            None => rivals.iter().filter(by_its_own).count() * 2 > rivals.len(),
        };
        if strange {
            odd.push((Cause::NotItsOwn, None));
        }
    }
    if let Some(usual) = shrunk(question, fate, rivals) {
        odd.push((Cause::Shrunk, Some(usual)));
    }
    odd
}

/// What the older ones that go usually hold, where this one has far less.
fn shrunk(question: Question<'_>, fate: &FateRecord, rivals: &[&FateRecord]) -> Option<u64> {
    let claimed = question.claimed(fate);
    let bytes = question.bytes(fate)?;
    let older = rivals.iter().filter(|rival| question.claimed(rival) < claimed);
    let mut sizes: Vec<u64> = older.filter_map(|rival| question.bytes(rival)).collect();
    sizes.sort_unstable();
    let usual = *sizes.get(sizes.len() / 2)?;
    (usual >= SHRUNK_FLOOR_BYTES && bytes < usual / SHRUNK_PART).then_some(usual)
}

/// Hosts of which nothing would be left, or that nothing at all would be.
fn emptied(question: Question<'_>, going: &[&FateRecord]) -> Vec<Finding> {
    let ids: HashSet<&str> = going.iter().map(|fate| fate.snapshot.id.as_str()).collect();
    // What is not in the index is no history: it may be anybody's.
    let stays = |fate: &&FateRecord| {
        !fate.kept_by.is_empty()
            || (!ids.contains(fate.snapshot.id.as_str()) && question.known.contains_key(&fate.snapshot.id))
    };
    let mut left: HashSet<&str> = question.fates.iter().filter(stays).map(|f| f.snapshot.hostname.as_str()).collect();
    left.extend(question.elsewhere.iter().map(String::as_str));
    let about = |fate: &&FateRecord| About {
        id: fate.snapshot.id.clone(),
        time: question.claimed(fate),
        first_seen_at: question.known.get(&fate.snapshot.id).map(|known| known.first_seen_at),
        bytes: question.bytes(fate),
    };
    let finding = |cause, hostname: &str, about| Finding {
        cause,
        hostname: hostname.to_owned(),
        paths: Vec::new(),
        about,
        count: 0,
        usual_bytes: None,
    };
    let mut findings = Vec::new();
    if left.is_empty() {
        findings.push(finding(Cause::Everything, "", going.iter().map(about).collect()));
    } else {
        let mut lost: Vec<&str> = going.iter().map(|fate| fate.snapshot.hostname.as_str()).collect();
        lost.sort_unstable();
        lost.dedup();
        for host in lost.into_iter().filter(|host| !left.contains(host)) {
            let of_host = going.iter().filter(|fate| fate.snapshot.hostname == host).map(about).collect();
            findings.push(finding(Cause::WholeHost, host, of_host));
        }
    }
    // What was approved already needs no second word.
    findings.retain_mut(|finding| {
        finding.about.retain(|about| !question.approvals.remove.contains(&about.id));
        !finding.about.is_empty()
    });
    findings
}

#[cfg(test)]
mod tests;
