//! When a schedule is due: cron in an IANA time zone, computed alike by server and agent. Pure: nobody is asked what time it is.
//!
//! Cron speaks of wall clocks, so the pattern is followed in civil time and each match is then put into the zone. A wall-clock time that the zone
//! skips is due at the first moment after the gap; one that comes twice is due the first time only. Moments therefore never repeat and never go back.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp as Moment,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{ScheduleId, Timestamp};

/// Largest spread of one entry, in seconds: a day.
pub const MAX_JITTER_S: u32 = 24 * 3600;

/// Why a cron line or a time zone cannot be followed. Each text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Not five fields.
    #[error(
        "{0:?} has {1} fields: a cron line has five, minute hour day-of-month month day-of-week, such as `30 2 * * *`"
    )]
    Fields(String, usize),
    /// A field that is no cron.
    #[error(
        "{pattern:?} is no cron line: {reason}; write minute hour day-of-month month day-of-week, such as `30 2 * * 1-5`"
    )]
    Pattern {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A date that does not exist.
    #[error("{0:?} is never due: no such day comes, as with 30 February")]
    Never(String),
    /// No such zone.
    #[error("{0:?} is no time zone: write an IANA name such as Europe/Berlin, America/New_York or UTC")]
    Zone(String),
}

/// A cron line in a time zone.
#[derive(Debug, Clone)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl Calendar {
    /// Reads a five-field cron line and an IANA zone name.
    ///
    /// # Errors
    /// [`CalendarError`], also for a line that is never due.
    pub fn new(cron: &str, timezone: &str) -> Result<Self, CalendarError> {
        let fields = cron.split_whitespace().count();
        if fields != 5 {
            return Err(CalendarError::Fields(cron.to_owned(), fields));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let refuse = |reason: String| CalendarError::Pattern { pattern: cron.to_owned(), reason };
        let parsed = parser.parse(cron).map_err(|e| refuse(e.to_string()))?;
        let zone = TimeZone::get(timezone).map_err(|_| CalendarError::Zone(timezone.to_owned()))?;
        let calendar = Self { cron: parsed, zone };
        // From a fixed day on, so that the answer does not depend on when it is asked; the pattern repeats with the calendar.
        if calendar.next_after(Timestamp::from_unix_ms(1_577_836_800_000)).is_none() {
            return Err(CalendarError::Never(cron.to_owned()));
        }
        Ok(calendar)
    }

    /// The first due moment after `after`; `None` where there is none within reach of the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = Moment::from_millisecond(after.unix_ms()).ok()?;
        // The wall clock of a real moment maps to that moment or, in its second pass, to an earlier one. So nothing before it on the wall can be due after.
        let mut civil = whole_second(self.zone.to_datetime(after))?;
        loop {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let due = self.place(civil)?;
            if due > after {
                return Some(Timestamp::from_unix_ms(due.as_millisecond()));
            }
        }
    }

    /// The next `count` due moments after `after`.
    #[must_use]
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last)).take(count).collect()
    }

    /// Whether `at` is one of its moments.
    #[must_use]
    pub fn is_due_at(&self, at: Timestamp) -> bool {
        self.next_after(Timestamp::from_unix_ms(at.unix_ms() - 1)) == Some(at)
    }

    /// The last due moment at or before `at` and after `floor`.
    #[must_use]
    pub fn last_between(&self, floor: Timestamp, at: Timestamp) -> Option<Timestamp> {
        // Back in growing steps, then forward: cheap for what is due often, bounded for what is due once a year.
        let mut step_ms = 2 * 3_600_000_i64;
        loop {
            let from = Timestamp::from_unix_ms((at.unix_ms() - step_ms).max(floor.unix_ms()));
            let mut found = None;
            let mut next = self.next_after(from);
            while let Some(due) = next.filter(|due| *due <= at) {
                found = Some(due);
                next = self.next_after(due);
            }
            if found.is_some() || from <= floor {
                return found;
            }
            step_ms = step_ms.saturating_mul(4);
        }
    }

    /// The pattern in English, such as `At 02:30, only on Monday`.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.cron.describe()
    }

    /// Puts a wall-clock time into the zone.
    fn place(&self, civil: DateTime) -> Option<Moment> {
        let ambiguous = self.zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            // With the offset from before the gap a skipped time lies after the change: the change is the last one up to there.
            AmbiguousOffset::Gap { before, .. } => {
                let inside = before.to_timestamp(civil).ok()?;
                let just_after = inside.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?;
                Some(self.zone.preceding(just_after).next()?.timestamp())
            }
        }
    }
}

fn whole_second(civil: DateTime) -> Option<DateTime> {
    civil.with().subsec_nanosecond(0).build().ok()
}

/// How many seconds after its moment an entry fires: somewhere within `jitter_s` (exclusive), always the same for one entry. Every host has entries of
/// its own, so one cron line spreads over a fleet, and a host's backups come at the same time each day.
#[must_use]
pub fn jitter_s(schedule: ScheduleId, jitter_s: u32) -> u32 {
    let bits = schedule.bits();
    // The finaliser of splitmix64 (Steele, Lea, Flood 2014): ids made in one millisecond must not land side by side.
    let mut mixed = (bits ^ (bits >> 64)) as u64;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    u32::try_from(mixed % u64::from(jitter_s.clamp(1, MAX_JITTER_S))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn upcoming(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let calendar = Calendar::new(cron, zone).unwrap();
        calendar.upcoming(at(after), count).iter().map(|due| due.to_string().replace(":00.000Z", "Z")).collect()
    }

    #[test]
    fn a_wall_clock_time_follows_the_zone_through_the_year() {
        assert_eq!(
            upcoming("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 4),
            // 29 March has no 02:30: the clock goes from 02:00 to 03:00, and that is when it runs.
            ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z", "2026-03-31T00:30Z"]
        );
        assert_eq!(
            upcoming("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3),
            // 25 October has 02:30 twice: only the first counts.
            ["2026-10-24T00:30Z", "2026-10-25T00:30Z", "2026-10-26T01:30Z"]
        );
    }

    #[test]
    fn all_skipped_times_are_one_moment_and_repeated_ones_are_not_repeated() {
        assert_eq!(
            upcoming("*/20 2-3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", 4),
            ["2026-03-29T01:00Z", "2026-03-29T01:20Z", "2026-03-29T01:40Z", "2026-03-30T00:00Z"]
        );
        assert_eq!(
            upcoming("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3),
            ["2026-10-25T00:30Z", "2026-10-25T02:00Z", "2026-10-25T02:30Z"]
        );
    }

    #[test]
    fn half_hour_changes_and_skipped_days_are_followed_too() {
        // Lord Howe moves by half an hour; Samoa had no 30 December 2011.
        assert_eq!(upcoming("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1), ["2026-10-03T15:30Z"]);
        assert_eq!(upcoming("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1), ["2011-12-30T10:00Z"]);
    }

    #[test]
    fn what_can_never_come_or_be_read_is_refused_with_what_to_write() {
        let refuse = |cron: &str, zone: &str| Calendar::new(cron, zone).unwrap_err().to_string();
        assert!(refuse("0 3 * *", "UTC").contains("has 4 fields"));
        assert!(refuse("0 0 3 * * *", "UTC").contains("has 6 fields"));
        assert!(refuse("61 3 * * *", "UTC").contains("is no cron line"));
        assert!(refuse("0 3 30 2 *", "UTC").contains("never due"));
        assert!(refuse("0 3 * * *", "Mars/Base").contains("Europe/Berlin"));
    }

    #[test]
    fn the_last_due_moment_is_found_near_and_far() {
        let daily = Calendar::new("0 3 * * *", "UTC").unwrap();
        let (floor, now) = (at("2026-01-01T00:00:00Z"), at("2026-11-21T08:00:00Z"));
        assert_eq!(daily.last_between(floor, now), Some(at("2026-11-21T03:00:00Z")));
        assert_eq!(daily.last_between(now, now), None);
        let yearly = Calendar::new("0 3 1 1 *", "UTC").unwrap();
        assert_eq!(yearly.last_between(floor, now), Some(at("2026-01-01T03:00:00Z")));
        assert!(daily.is_due_at(at("2026-11-21T03:00:00Z")) && !daily.is_due_at(now));
    }

    #[test]
    fn jitter_spreads_ids_that_differ_little_and_is_the_same_each_time() {
        let shares: Vec<u32> =
            (0..1000).map(|n| jitter_s(ScheduleId::from_parts(1_700_000_000_000, n), 3600)).collect();
        assert_eq!(shares[7], jitter_s(ScheduleId::from_parts(1_700_000_000_000, 7), 3600));
        assert!(shares.iter().all(|share| *share < 3600));
        for quarter in 0..4 {
            let inside = shares.iter().filter(|share| **share / 900 == quarter).count();
            assert!((150..350).contains(&inside), "quarter {quarter} holds {inside} of 1000");
        }
        assert_eq!(jitter_s(ScheduleId::from_parts(1, 1), 0), 0);
    }
}
