//! The calendar against an oracle that shares nothing with it: zones from chrono-tz, cron matched field by field, and time walked minute by minute from
//! 2020 to 2040 (random lines: four years of these; dense lines: around the changes of the clock). The rule: a moment is the first minute at which a
//! wall-clock time that matches is reached or was skipped; what the wall clock shows a second time counts no more.
//!
//! The cron lines are random: the seed is printed, and `CALENDAR_SEED=n` runs it again.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::ops::Range;

use chrono::{DateTime, Datelike, NaiveDate, Offset, TimeZone};
use chrono_tz::Tz;
use flotilla_proto::{Timestamp, calendar::Calendar};

/// Each with a peculiarity: hour and half-hour changes, changes at midnight, south of the equator, clocks that change around Ramadan, none at all.
const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Kolkata",
];

/// Lines that meet the changes of clocks, in every zone.
const LINES: [&str; 10] = [
    "30 2 * * *",
    "0 0 * * *",
    "15 0,1,2,3 * * 0",
    "*/20 1-3 * * *",
    "5 23 28-31 * *",
    "0 3 1 1 *",
    "0 12 29 2 *",
    "59 1 1 * 7",
    "*/7 * * * *",
    "* * * * *",
];

const DAY: i64 = 1440;
/// A line that is due more often than this in a day is compared around changes of the clock only, so far on both sides.
const OFTEN: usize = 2;
const AROUND: Minute = 150;

/// Minutes since 1970.
type Minute = i64;

fn minute(year: i32) -> Minute {
    NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp() / 60
}

fn range() -> Range<Minute> {
    minute(2020)..minute(2040)
}

/// When a zone's offset from UTC changes to what, in minutes.
type Changes = Vec<(Minute, i64)>;

/// No zone has two changes within half a day.
fn changes(range: Range<Minute>, offset: impl Fn(Minute) -> i64) -> Changes {
    let mut changes = vec![(range.start, offset(range.start))];
    for from in range.step_by(720) {
        let before = changes[changes.len() - 1].1;
        if offset(from + 720) != before {
            let at = (from..=from + 720).find(|at| offset(*at) != before).unwrap();
            changes.push((at, offset(at)));
        }
    }
    changes
}

fn oracle_offset(zone: Tz, at: Minute) -> i64 {
    let utc = DateTime::from_timestamp(at * 60, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()) / 60
}

fn own_offset(zone: &jiff::tz::TimeZone, at: Minute) -> i64 {
    i64::from(zone.to_offset(jiff::Timestamp::from_second(at * 60).unwrap()).seconds()) / 60
}

/// A cron line, matched in the plainest way. Where both day fields are restricted, either is enough.
struct Cron {
    minutes: Vec<u32>,
    hours: Vec<u32>,
    days: Option<Vec<u32>>,
    months: Vec<u32>,
    weekdays: Option<Vec<u32>>,
}

impl Cron {
    fn read(line: &str) -> Self {
        let fields: Vec<&str> = line.split(' ').collect();
        let restricted = |text: &str, values| (text != "*").then_some(values);
        Self {
            minutes: values(fields[0], 0, 59),
            hours: values(fields[1], 0, 23),
            days: restricted(fields[2], values(fields[2], 1, 31)),
            months: values(fields[3], 1, 12),
            weekdays: restricted(fields[4], values(fields[4], 0, 7).into_iter().map(|day| day % 7).collect()),
        }
    }

    fn matches_hour(&self, wall: Minute) -> bool {
        if !self.hours.contains(&u32::try_from(wall.rem_euclid(DAY) / 60).unwrap()) {
            return false;
        }
        let date = DateTime::from_timestamp(wall * 60, 0).unwrap().date_naive();
        let day = self.days.as_ref().map(|days| days.contains(&date.day()));
        let weekday = self.weekdays.as_ref().map(|days| days.contains(&date.weekday().num_days_from_sunday()));
        let right_day = match (day, weekday) {
            (None, None) => true,
            (Some(only), None) | (None, Some(only)) => only,
            (Some(day), Some(weekday)) => day || weekday,
        };
        right_day && self.months.contains(&date.month())
    }

    fn matches(&self, wall: Minute) -> bool {
        self.minutes.contains(&u32::try_from(wall.rem_euclid(60)).unwrap()) && self.matches_hour(wall)
    }

    /// All moments, by walking through time. The range must not begin soon after a change.
    fn moments(&self, range: &Range<Minute>, changes: &Changes) -> Vec<Minute> {
        let mut moments = Vec::new();
        let mut at = range.start;
        let mut passed = None;
        for (n, (_, offset)) in changes.iter().enumerate() {
            let end = changes.get(n + 1).map_or(range.end, |(next, _)| *next).min(range.end);
            while at < end {
                let wall = at + offset;
                let before = *passed.get_or_insert(wall - 1);
                // Nothing was skipped, nothing repeats and nothing changes within this hour of the wall clock, and none of it matches.
                if wall == before + 1 && wall.rem_euclid(60) == 0 && at + 60 <= end && !self.matches_hour(wall) {
                    passed = Some(before + 60);
                    at += 60;
                    continue;
                }
                if (before + 1..=wall).any(|reached| self.matches(reached)) {
                    moments.push(at);
                }
                passed = Some(before.max(wall));
                at += 1;
            }
        }
        moments
    }

    fn is_often(&self) -> bool {
        self.minutes.len() * self.hours.len() > OFTEN
    }
}

/// `*`, `*/n`, `a`, `a-b` and lists of them.
fn values(text: &str, first: u32, last: u32) -> Vec<u32> {
    let part = |part: &str| -> Vec<u32> {
        if let Some(step) = part.strip_prefix("*/") {
            return (first..=last).step_by(step.parse().unwrap()).collect();
        }
        match part.split_once('-') {
            Some((from, to)) => (from.parse().unwrap()..=to.parse().unwrap()).collect(),
            None if part == "*" => (first..=last).collect(),
            None => vec![part.parse().unwrap()],
        }
    };
    text.split(',').flat_map(part).collect()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((z ^ (z >> 31)) % u64::from(bound)).unwrap()
    }

    fn field(&mut self, first: u32, last: u32) -> String {
        let (a, b) = (first + self.below(last - first + 1), first + self.below(last - first + 1));
        match self.below(4) {
            0 => format!("{a},{b}"),
            1 => format!("{}-{}", a.min(b), a.max(b)),
            _ => a.to_string(),
        }
    }

    fn or_any(&mut self, one_in: u32, first: u32, last: u32) -> String {
        if self.below(one_in) == 0 { self.field(first, last) } else { "*".to_owned() }
    }

    /// Mostly near the hours at which clocks change.
    fn line(&mut self) -> String {
        let minute = if self.below(4) == 0 { format!("*/{}", 1 + self.below(40)) } else { self.field(0, 59) };
        let hour = match self.below(6) {
            0 => "*".to_owned(),
            1 => self.field(0, 23),
            _ => self.field(0, 4),
        };
        let (day, month, weekday) = (self.or_any(4, 1, 31), self.or_any(5, 1, 12), self.or_any(3, 0, 7));
        format!("{minute} {hour} {day} {month} {weekday}")
    }
}

fn stamp(at: Minute) -> Timestamp {
    Timestamp::from_unix_ms(at * 60_000)
}

/// Compares one line in one zone from a window's first moment to its last, and at some instants in between. Returns how many moments there were.
fn compare(what: &str, calendar: &Calendar, moments: &[Minute], window: &Range<Minute>, random: &mut Random) -> usize {
    let first = calendar.next_after(Timestamp::from_unix_ms(stamp(window.start).unix_ms() - 1));
    let found: Vec<_> = std::iter::successors(first, |last| calendar.next_after(*last))
        .take_while(|at| *at < stamp(window.end))
        .collect();
    let expected: Vec<_> = moments.iter().map(|at| stamp(*at)).collect();
    if found != expected {
        let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        panic!("{what}: moment {at} is {:?}, the oracle says {:?}", found.get(at), expected.get(at));
    }
    for _ in 0..10 {
        // Any second of the window, and one of the moments themselves.
        let span = u32::try_from((window.end - window.start) * 60).unwrap();
        let any = Timestamp::from_unix_ms(stamp(window.start).unix_ms() + i64::from(random.below(span)) * 1000 + 137);
        let one = random.below(u32::try_from(moments.len()).unwrap().max(1)) as usize;
        for at in std::iter::once(any).chain(expected.get(one).copied()) {
            let after = expected.partition_point(|moment| *moment <= at);
            if let Some(next) = expected.get(after) {
                assert_eq!(calendar.next_after(at), Some(*next), "{what}: next after {at}");
            }
            let last = after.checked_sub(1).map(|last| expected[last]);
            assert_eq!(calendar.is_due_at(at), last == Some(at), "{what}: due at {at}");
            let floor = Timestamp::from_unix_ms(at.unix_ms() - 3_000_000_000).max(stamp(window.start - 1));
            let between = last.filter(|last| *last > floor);
            assert_eq!(calendar.last_between(floor, at), between, "{what}: last between {floor} and {at}");
        }
    }
    moments.len()
}

#[test]
fn every_moment_of_twenty_years_is_the_one_that_an_independent_oracle_finds() {
    let seed = std::env::var("CALENDAR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("CALENDAR_SEED={seed}");
    let mut random = Random(seed);
    let mut compared = 0;
    for name in ZONES {
        let zone: Tz = name.parse().unwrap();
        let own_zone = jiff::tz::TimeZone::get(name).unwrap();
        let theirs = changes(range(), |at| oracle_offset(zone, at));
        let own = changes(range(), |at| own_offset(&own_zone, at));
        let mut range = range();
        let agreed = theirs.iter().zip(&own).take_while(|(a, b)| a == b).count();
        if theirs.len() != own.len() || agreed < own.len() {
            // Two releases of the tz database: what the future holds is compared as far as they agree.
            let first = |changes: &Changes| changes.get(agreed).map_or(range.end, |(at, _)| *at);
            range.end = first(&theirs).min(first(&own));
            println!("{name}: the two copies of the tz database agree up to {} only", stamp(range.end));
            assert!(range.end >= minute(2026), "{name}: they disagree about the past");
        }
        let chosen = LINES.map(|line| (line.to_owned(), range.clone()));
        let drawn = [0; 6].map(|_| {
            let year = minute(2020 + i32::try_from(random.below(16)).unwrap());
            (random.line(), year.min(range.end - 1500 * DAY)..(year + 1500 * DAY).min(range.end))
        });
        for (line, range) in chosen.into_iter().chain(drawn) {
            let cron = Cron::read(&line);
            let Ok(calendar) = Calendar::new(&line, name) else {
                assert!(cron.moments(&range, &theirs).is_empty(), "{line} is refused, and would be due");
                continue;
            };
            let near = |at: Minute| at - AROUND..(at + AROUND).min(range.end);
            let inside = theirs[1..].iter().map(|(at, _)| *at).filter(|at| range.contains(at));
            let some_day = range.start + DAY * i64::from(random.below(365));
            let windows: Vec<_> = match cron.is_often() {
                true => inside.chain([some_day]).map(near).collect(),
                false => vec![range.clone()],
            };
            for window in windows {
                let moments = cron.moments(&window, &theirs);
                compared += compare(&format!("{line} in {name}"), &calendar, &moments, &window, &mut random);
            }
        }
    }
    println!("{} zones, {compared} moments", ZONES.len());
}
