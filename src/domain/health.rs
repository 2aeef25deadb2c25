//! How a repository is: what it holds over time, what last went well on which host, its locks, what a check found. Pure rules; the facts are
//! the store's.

pub mod forecast;
pub mod locks;
pub mod repair;

use crate::domain::{
    CheckResult, HostId, JobId, JobKind, JobStatus, Operation, RepoId, TamperResult, TamperVerdict, Timestamp, job::Job,
};

/// A repository's size at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// When it was measured.
    pub at: Timestamp,
    /// Bytes as stored.
    pub bytes: u64,
    /// Bytes of the same before compression, where restic says so.
    pub uncompressed: Option<u64>,
    /// Bytes that a restore of all snapshots would write.
    pub restore_size: Option<u64>,
    /// Snapshots.
    pub snapshots: u64,
    /// Pieces of data, each stored once.
    pub blobs: Option<u64>,
}

impl Size {
    /// How many times smaller compression makes what is stored.
    #[must_use]
    pub fn compression(&self) -> Option<f64> {
        ratio(self.uncompressed?, self.bytes)
    }

    /// How many times smaller it is, before compression, for storing each piece once.
    #[must_use]
    pub fn deduplication(&self) -> Option<f64> {
        ratio(self.restore_size?, self.uncompressed.unwrap_or(self.bytes))
    }
}

fn ratio(whole: u64, part: u64) -> Option<f64> {
    (part > 0 && whole > 0).then(|| whole as f64 / part as f64)
}

/// How a kind of work fared last in a repository on one host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostMark {
    /// What was done.
    pub kind: JobKind,
    /// Where.
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// The last that went well.
    pub good: Option<(Timestamp, JobId)>,
    /// The last that ended, however.
    pub last: (Timestamp, JobId, JobStatus),
}

/// What a repository's health is about beside its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Which.
    pub id: RepoId,
    /// What people call it.
    pub name: String,
    /// restic's address.
    pub url: String,
    /// Hosts hold credentials that can only add.
    pub append_only: bool,
    /// Bytes that it may grow to.
    pub size_limit: Option<u64>,
    /// The check that found damage which no later one has cleared.
    pub damage_job: Option<JobId>,
}

/// What bounds a repository's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Bytes that its owner allows it.
    Said(u64),
    /// The disk that it lies on.
    Disk {
        /// Bytes that are free there, for it and for everything else on that disk.
        free: u64,
        /// Its size when those are used up by it alone.
        until: u64,
    },
}

impl Limit {
    /// The size that it can't outgrow.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::Said(bytes) | Self::Disk { until: bytes, .. } => bytes,
        }
    }
}

/// What the last tamper test showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There was none.
    Never,
    /// Everything that was tried was refused.
    Protected {
        /// When.
        at: Timestamp,
        /// By this test.
        job: JobId,
    },
    /// Something was not refused.
    Vulnerable {
        /// When.
        at: Timestamp,
        /// By this test.
        job: JobId,
    },
    /// It could not be tried.
    Failed {
        /// When.
        at: Timestamp,
        /// By this test.
        job: JobId,
    },
}

/// All that is known of a repository's health.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// As of.
    pub now: Timestamp,
    /// Which repository.
    pub subject: Subject,
    /// Its measurements of the last year, in the order of time.
    pub sizes: Vec<Size>,
    /// How it grows, where there is enough to tell.
    pub growth: Option<forecast::Growth>,
    /// What bounds it, and when that is reached.
    pub limit: Option<(Limit, forecast::Forecast)>,
    /// How each kind of work fared last on each host.
    pub marks: Vec<HostMark>,
    /// Whether hosts can delete, as tried.
    pub proof: Proof,
    /// The check that found damage which no later one has cleared, and what it found.
    pub damage: Option<(Job, CheckResult)>,
    /// Its locks as last seen.
    pub locks: Vec<locks::SeenLock>,
    /// When they were last looked at.
    pub looked_at: Option<Timestamp>,
    /// They are being looked at.
    pub looking: bool,
}

/// How deep a check looked. A deeper one says all that a shallower one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Depth {
    /// The structure only.
    Structure,
    /// That, and some of the data.
    Part(String),
    /// That, and all of the data.
    All,
}

impl Depth {
    /// How deep a check of this job looks.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        match &job.input.operation {
            Some(Operation::Check(spec)) if spec.read_data => Self::All,
            Some(Operation::Check(spec)) => match spec.read_data_subset.as_deref() {
                Some("100%" | "1/1") => Self::All,
                Some(subset) => Self::Part(subset.to_owned()),
                None => Self::Structure,
            },
            _ => Self::Structure,
        }
    }

    /// Whether a clean check of this depth shows that what one of depth `found` saw is gone. Parts are the same where they are named by `n/t`;
    /// a share by percentage or size is another each time.
    #[must_use]
    pub fn settles(&self, found: &Self) -> bool {
        match (self, found) {
            (Self::All, _) | (_, Self::Structure) => true,
            (Self::Part(mine), Self::Part(theirs)) => mine == theirs && mine.contains('/'),
            (Self::Structure, _) | (_, Self::All) => false,
        }
    }
}

/// What an ended job means for its repository.
#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// Nothing beyond that it ended.
    Nothing,
    /// A check found damage.
    Damage(CheckResult),
    /// A check of this depth found nothing wrong.
    Clean(Depth),
    /// What a tamper test proved.
    Tamper(TamperResult),
    /// It ended because the repository was locked.
    Locked,
}

/// Reads a job's end.
#[must_use]
pub fn meaning(job: &Job) -> Meaning {
    let summary = || job.summary.clone().unwrap_or_default();
    match job.kind {
        JobKind::Check => match serde_json::from_value::<CheckResult>(summary()) {
            Ok(result) if result.errors > 0 => return Meaning::Damage(result),
            Ok(_) if job.status == JobStatus::Succeeded => return Meaning::Clean(Depth::of(job)),
            _ => {}
        },
        JobKind::Tamper => {
            if let Ok(result) = serde_json::from_value::<TamperResult>(summary()) {
                return Meaning::Tamper(result);
            }
        }
        _ => {}
    }
    if job.status == JobStatus::Failed && was_locked(job) { Meaning::Locked } else { Meaning::Nothing }
}

/// Whether a job went well in the sense of its kind: a tamper test that shows a hole did its work and is no proof.
#[must_use]
pub fn is_good(job: &Job) -> bool {
    let done = matches!(job.status, JobStatus::Succeeded | JobStatus::Warning);
    match meaning(job) {
        Meaning::Damage(_) => false,
        Meaning::Tamper(result) => done && result.verdict == TamperVerdict::Protected,
        _ => done && !is_dry(job),
    }
}

/// Whether nothing was to be done but said.
fn is_dry(job: &Job) -> bool {
    match &job.input.operation {
        Some(Operation::Backup(spec)) => spec.dry_run,
        Some(Operation::Forget(spec)) => spec.dry_run,
        Some(Operation::Prune(spec)) => spec.dry_run,
        Some(Operation::Repair(spec)) => spec.dry_run,
        _ => false,
    }
}

/// restic's exit code where somebody else holds the repository; older ones only say so.
const EXIT_LOCKED: i32 = 11;

fn was_locked(job: &Job) -> bool {
    job.exit_code == Some(EXIT_LOCKED) || job.error.as_deref().is_some_and(|error| error.contains("is locked by"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_settles_only_what_it_looked_at() {
        let part = |text: &str| Depth::Part(text.to_owned());
        assert!(Depth::All.settles(&part("1/7")) && Depth::All.settles(&Depth::Structure));
        assert!(part("3/7").settles(&Depth::Structure) && part("1/7").settles(&part("1/7")));
        assert!(!part("2/7").settles(&part("1/7")), "another part was read");
        assert!(!part("10%").settles(&part("10%")), "a random part is another each time");
        assert!(!Depth::Structure.settles(&part("1/7")) && !part("1/7").settles(&Depth::All));
    }

    #[test]
    fn ratios_need_something_to_divide() {
        let size = Size {
            at: Timestamp::from_unix_ms(0),
            bytes: 50,
            uncompressed: Some(100),
            restore_size: Some(400),
            snapshots: 3,
            blobs: None,
        };
        assert_eq!((size.compression(), size.deduplication()), (Some(2.0), Some(4.0)));
        let empty = Size { bytes: 0, uncompressed: None, ..size };
        assert_eq!((empty.compression(), empty.deduplication()), (None, None));
    }
}
