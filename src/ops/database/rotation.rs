//! Which copies have had their time: a pure function of when they were made.

use std::collections::BTreeSet;

use crate::domain::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Those of `made` that may go: kept are the newest of each of the newest `daily` days that have one, the newest of each of the newest `weekly` weeks
/// (from Monday, UTC), and all of the last 24 hours, so that one that was asked for before a risky step is not gone by the next.
#[must_use]
pub fn superfluous(made: &[Timestamp], now: Timestamp, daily: usize, weekly: usize) -> Vec<Timestamp> {
    let mut newest_first = made.to_vec();
    newest_first.sort_unstable_by_key(|at| std::cmp::Reverse(*at));
    let (mut days, mut weeks) = (BTreeSet::new(), BTreeSet::new());
    newest_first.retain(|at| {
        let day = at.unix_ms().div_euclid(DAY_MS);
        // 1 January 1970 was a Thursday.
        let week = (day + 3).div_euclid(7);
        let of_day = days.len() < daily && days.insert(day);
        let of_week = weeks.len() < weekly && weeks.insert(week);
        let young = now.ms_since(*at) < DAY_MS;
        !(of_day || of_week || young)
    });
    newest_first
}
