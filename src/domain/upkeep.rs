//! The care of a repository by schedule: what belongs to it, sane times for each part, and which part of the data a check reads next.

use crate::domain::{
    CheckSpec, HostId, JobKind, Operation, PlanId, Timestamp,
    job::Job,
    schedule::{CatchUp, OwnSchedule, Schedule},
};

/// Within how many days all data is read, where nobody chose.
pub const CHECK_DAYS: u32 = 28;
/// Most parts that restic can divide a repository into.
const MOST_PARTS: u32 = 256;

/// Something that is done for a repository again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Keep rules are applied.
    Forget,
    /// Data that no snapshot needs is removed.
    Prune,
    /// The structure is checked, and a part of the data read.
    Check,
    /// It is tried whether hosts can delete.
    Tamper,
    /// It is measured.
    Stats,
    /// Its locks are looked at.
    Locks,
}

impl Duty {
    /// All, in the order of a page.
    pub const ALL: [Self; 6] = [Self::Forget, Self::Prune, Self::Check, Self::Tamper, Self::Stats, Self::Locks];

    /// The kind of its jobs.
    #[must_use]
    pub fn kind(self) -> JobKind {
        match self {
            Self::Forget => JobKind::Forget,
            Self::Prune => JobKind::Prune,
            Self::Check => JobKind::Check,
            Self::Tamper => JobKind::Tamper,
            Self::Stats => JobKind::Stats,
            Self::Locks => JobKind::Locks,
        }
    }

    /// When it is done, where nobody chose: after the nightly backups, the heavy parts once a week on different days.
    #[must_use]
    pub fn preset(self, timezone: &str) -> Schedule {
        let (cron, jitter_s) = match self {
            Self::Forget => ("0 6 * * *", 3600),
            Self::Prune => ("0 10 * * 0", 2 * 3600),
            Self::Check => ("0 10 * * 6", 2 * 3600),
            Self::Tamper => ("0 12 * * 3", 2 * 3600),
            Self::Stats => ("0 8 * * *", 3600),
            Self::Locks => ("30 */6 * * *", 600),
        };
        let (cron, timezone) = (cron.to_owned(), timezone.to_owned());
        Schedule { cron, timezone, jitter_s, catch_up: CatchUp::Once, enabled: true }
    }
}

/// A part `n` of `t` of the data, as restic's `--read-data-subset` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which, from 1.
    pub n: u32,
    /// Of how many.
    pub t: u32,
}

impl Part {
    /// The part in a check's order, if it reads one.
    #[must_use]
    pub fn of(operation: Option<&Operation>) -> Option<Self> {
        let Some(Operation::Check(spec)) = operation else { return None };
        let (n, t) = spec.read_data_subset.as_deref()?.split_once('/')?;
        let part = Self { n: n.parse().ok()?, t: t.parse().ok()? };
        (1..=part.t).contains(&part.n).then_some(part)
    }

    /// The part after the `last` one that was read, where there are `t` now. If there were more or fewer then, it goes on where that one ended.
    #[must_use]
    pub fn after(last: Option<Self>, t: u32) -> Self {
        let t = t.clamp(1, MOST_PARTS);
        let done = last.map_or(0, |last| u64::from(last.n) * u64::from(t) / u64::from(last.t));
        Self { n: u32::try_from(done % u64::from(t)).unwrap_or(0) + 1, t }
    }

    /// The order of a check that reads it.
    #[must_use]
    pub fn order(self) -> Operation {
        // One part of one is everything, which restic has a plainer word for.
        let subset = (self.t > 1).then(|| format!("{}/{}", self.n, self.t));
        Operation::Check(CheckSpec { read_data: subset.is_none(), read_data_subset: subset })
    }
}

/// In how many parts the data is to be read, so that all of it is read within `days` at the moments of a schedule.
#[must_use]
pub fn parts(schedule: &Schedule, days: u32, now: Timestamp) -> u32 {
    let until = now.plus_s(i64::from(days) * 86_400);
    let Ok(calendar) = schedule.calendar() else { return 1 };
    let mut next = calendar.next_after(now);
    let mut moments = 0;
    while let Some(at) = next.filter(|at| *at <= until && moments < MOST_PARTS) {
        moments += 1;
        next = calendar.next_after(at);
    }
    moments.max(1)
}

/// What is done for a repository, or could be.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What.
    pub duty: Duty,
    /// Of a forget: the plan whose rules it goes by.
    pub plan: Option<(PlanId, String)>,
    /// Why it can't be done as things are: it is not set up then.
    pub obstacle: Option<&'static str>,
    /// Its schedule, where it has one.
    pub schedule: Option<OwnSchedule>,
    /// When it is due next.
    pub next: Option<Timestamp>,
    /// The last job of its kind.
    pub last: Option<Job>,
}

impl Line {
    /// Whether it could be set up.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.schedule.is_none() && self.obstacle.is_none()
    }
}

/// The upkeep of a repository.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overview {
    /// Each part of it.
    pub lines: Vec<Line>,
    /// Within how many days all data is read.
    pub check_days: Option<u32>,
    /// The part that the next check reads.
    pub next_part: Option<Part>,
    /// Where forget and prune run.
    pub maintenance: Option<(HostId, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn at(cron: &str) -> Schedule {
        Schedule { cron: cron.to_owned(), ..Duty::Check.preset("Europe/Berlin") }
    }

    #[test]
    fn every_preset_is_a_schedule_that_can_be_followed() {
        for duty in Duty::ALL {
            let schedule = duty.preset("America/New_York").checked().unwrap();
            assert!(schedule.calendar().unwrap().next_after(now()).is_some(), "{duty:?}");
        }
    }

    #[test]
    fn the_data_is_cut_so_that_the_checks_of_so_many_days_read_all_of_it() {
        assert_eq!(parts(&at("0 10 * * 6"), 28, now()), 4);
        assert_eq!(parts(&at("0 3 * * *"), 30, now()), 30);
        assert_eq!(
            parts(&at("0 3 1 * *"), 7, now()),
            1,
            "a check a month can't read it in a week: it reads all at once"
        );
        assert_eq!(parts(&at("* * * * *"), 365, now()), MOST_PARTS);
    }

    #[test]
    fn parts_follow_each_other_and_begin_again() {
        let mut last = None;
        let read: Vec<u32> = (0..5)
            .map(|_| {
                last = Some(Part::after(last, 3));
                last.map_or(0, |part| part.n)
            })
            .collect();
        assert_eq!(read, [1, 2, 3, 1, 2]);
    }

    #[test]
    fn a_rotation_of_another_length_goes_on_where_the_old_one_ended() {
        assert_eq!(Part::after(Some(Part { n: 2, t: 4 }), 8), Part { n: 5, t: 8 });
        assert_eq!(Part::after(Some(Part { n: 7, t: 8 }), 4), Part { n: 4, t: 4 });
        assert_eq!(Part::after(Some(Part { n: 4, t: 4 }), 8), Part { n: 1, t: 8 });
    }

    #[test]
    fn an_order_says_its_part_and_is_read_back() {
        let part = Part { n: 2, t: 4 };
        assert_eq!(Part::of(Some(&part.order())), Some(part));
        assert_eq!(
            Part { n: 1, t: 1 }.order(),
            Operation::Check(CheckSpec { read_data: true, read_data_subset: None })
        );
        for odd in ["0/4", "5/4", "10%", "x/y", "1/0"] {
            let spec = CheckSpec { read_data_subset: Some(odd.to_owned()), ..CheckSpec::default() };
            assert_eq!(Part::of(Some(&Operation::Check(spec))), None, "{odd}");
        }
    }
}
