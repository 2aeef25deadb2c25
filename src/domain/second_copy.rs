//! The second copies of a plan's snapshots: when one that failed is tried again by itself, and how a plan stands that has not all of them. A snapshot is due
//! from its backup's end until it is in the second repository; each backup takes along all that is missing.

use crate::domain::{HostId, PlanId, RepoId, Timestamp};

/// Times that a copy is tried again by itself, for each snapshot. Then it waits for the next backup.
pub const RETRIES: u32 = 6;
/// Seconds until the first of them; each later one waits twice as long.
const FIRST_WAIT_S: i64 = 600;

/// Hosts that an alert names.
const NAMED: usize = 5;

/// Seconds until a copy is tried again by itself, after so many `tries` failed; `None`: not before the next backup. `spread` is any number: plans that failed
/// at one time do not all come back at one time.
#[must_use]
pub fn wait_s(tries: u32, spread: u64) -> Option<i64> {
    if tries == 0 || tries > RETRIES {
        return None;
    }
    let wait = FIRST_WAIT_S << (tries - 1);
    let most = u64::try_from(wait / 4).unwrap_or(0) + 1;
    Some(wait + i64::try_from(spread % most).unwrap_or(0))
}

/// Who copies what from where to where: one copy at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The plan whose backups made the snapshots.
    pub plan: PlanId,
    /// The host that made them.
    pub host: HostId,
    /// Where they are.
    pub from: RepoId,
    /// Where they are to be.
    pub to: RepoId,
}

/// How the second copies of a plan stand, where some failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The plan's name.
    pub plan: String,
    /// The second repository's name.
    pub to: String,
    /// Snapshots whose copy failed at least once, and that are not there.
    pub missing: u64,
    /// Names of the hosts whose they are, in order.
    pub hosts: Vec<String>,
    /// When the backup of the oldest of them ended.
    pub since: Timestamp,
    /// When the next of them is tried by itself; `None`: by the next backup.
    pub next_at: Option<Timestamp>,
    /// A copy of some is under way.
    pub under_way: bool,
    /// Why the last copy failed.
    pub error: String,
}

impl Behind {
    /// What happened, in one sentence without a full stop.
    #[must_use]
    pub fn happened(&self) -> String {
        let what =
            if self.missing == 1 { "1 snapshot has".to_owned() } else { format!("{} snapshots have", self.missing) };
        format!("{what} no second copy: {} is behind in {}", self.plan, self.to)
    }

    /// Why, whose, and what comes next.
    #[must_use]
    pub fn why(&self) -> String {
        let next = match (self.under_way, self.next_at) {
            (true, _) => "It is being tried again now".to_owned(),
            (false, Some(_)) => "It is tried again by itself".to_owned(),
            (false, None) => "It is not tried again by itself any more".to_owned(),
        };
        let error = self.error.trim_end_matches('.');
        let named: Vec<&str> = self.hosts.iter().take(NAMED).map(String::as_str).collect();
        let more = match self.hosts.len().saturating_sub(NAMED) {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!(
            "The last copy of what {}{more} backed up failed: {error}. {next}, and each backup takes along all that is missing. Once the cause is gone, nothing else is to be done.",
            named.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_tried_again_ever_later_and_not_for_ever() {
        let waits: Vec<Option<i64>> = (0..=RETRIES + 1).map(|tries| wait_s(tries, 0)).collect();
        let minutes: Vec<Option<i64>> = waits.iter().map(|wait| wait.map(|s| s / 60)).collect();
        assert_eq!(minutes, [None, Some(10), Some(20), Some(40), Some(80), Some(160), Some(320), None]);
    }

    #[test]
    fn those_that_failed_together_come_back_within_a_quarter_of_the_wait() {
        for spread in [0, 1, 149, 150, 151, u64::MAX] {
            let wait = wait_s(1, spread).unwrap();
            assert!((600..=750).contains(&wait), "{spread}: {wait}");
        }
    }
}
