//! How well a host is protected: pure rules over what is known of it, at a given moment. One host, one state, one sentence.
//!
//! Each plan that covers the host is looked at by itself, and the worst that is true wins, in the order of [`Protection`]: a good backup of one plan
//! must not hide that another one's fails. A backup without a plan counts neither way: it protects what somebody typed once. A plan with a
//! schedule is *late* once a moment of it has passed, with its whole jitter and [`GRACE_H`] hours, and no good backup came since; one that runs by hand
//! once its last good backup is older than [`LATE_AFTER_H`] hours. "Good" is a backup that made a snapshot: succeeded, or with warnings. A cancelled run says nothing and counts neither way.

use crate::domain::{JobId, JobStatus, PlanId, Timestamp, host::HostStatus, plan::Plan};

/// Hours after which the last good backup of a plan without a schedule is too old.
pub const LATE_AFTER_H: i64 = 26;
/// Hours that a scheduled backup may take beyond its jitter.
pub const GRACE_H: i64 = 2;
/// Days that the strip shows.
pub const DAYS: usize = 30;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// How well a host is protected; the worse is the smaller, so that sorting puts the needy first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// The last backup failed.
    Failed,
    /// The last good backup is older than it may be.
    Late,
    /// Covered by a plan, never backed up.
    NeverBackedUp,
    /// No plan covers it.
    NoPlan,
    /// Its agent found no restic.
    NoRestic,
    /// It is reached by other ways than an agent, and no plan asks for backups that need one.
    NoAgent,
    /// Backed up in time, but its agent is away.
    Offline,
    /// A backup runs now, and nothing worse is known.
    Running,
    /// Backed up in time.
    Protected,
}

impl Protection {
    /// Whether someone should look: everything but a host that is backed up in time, or was never meant to be.
    #[must_use]
    pub fn needs_someone(self) -> bool {
        !matches!(self, Self::NoAgent | Self::Offline | Self::Running | Self::Protected)
    }
}

/// How one day of a host went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DayState {
    /// No backup ended that day.
    #[default]
    None,
    /// All fine.
    Fine,
    /// At least one warning, no failure.
    Warning,
    /// At least one failure.
    Failed,
}

/// A backup that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which job.
    pub job: JobId,
    /// Of which plan.
    pub plan: Option<PlanId>,
    /// How.
    pub status: JobStatus,
    /// When.
    pub at: Timestamp,
    /// Bytes looked at, where it says so.
    pub bytes: Option<u64>,
}

impl Mark {
    /// Whether it made a snapshot.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.status, JobStatus::Succeeded | JobStatus::Warning)
    }

    fn is_bad(&self) -> bool {
        matches!(self.status, JobStatus::Failed | JobStatus::Lost)
    }
}

/// A plan that covers a host.
#[derive(Debug, Clone, Copy)]
pub struct KnownPlan<'a> {
    /// Which one.
    pub id: PlanId,
    /// Its name.
    pub name: &'a str,
    /// What its rhythm asks for.
    pub rhythm: Rhythm,
}

/// How fresh a plan's last good backup has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// It runs by hand, or its schedule is paused: [`LATE_AFTER_H`] hours.
    ByHand,
    /// From this moment on.
    Since(Timestamp),
}

impl Rhythm {
    /// What a plan's schedule asks for at `now`: nothing older than its last moment that must be through by now. Where none has come since the
    /// schedule stands, what was fresh then still is.
    #[must_use]
    pub fn of(plan: &Plan, now: Timestamp) -> Self {
        let Some(standing) = plan.schedule.as_ref().filter(|standing| standing.schedule.enabled) else {
            return Self::ByHand;
        };
        let Ok(calendar) = standing.schedule.calendar() else { return Self::ByHand };
        let through = now.plus_s(-i64::from(standing.schedule.jitter_s) - GRACE_H * 3600);
        let last = calendar.last_between(standing.since, through);
        Self::Since(last.unwrap_or_else(|| standing.since.plus_s(-LATE_AFTER_H * 3600)))
    }
}

/// What the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Whether the agent is here.
    pub presence: HostStatus,
    /// Whether it has, or ever had, an agent.
    pub has_agent: bool,
    /// Whether the agent found restic.
    pub has_restic: bool,
    /// The plans that cover the host.
    pub plans: &'a [KnownPlan<'a>],
    /// Whether a backup runs now.
    pub running: bool,
    /// Its backups of the last [`DAYS`] days, oldest first.
    pub marks: &'a [Mark],
}

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The state.
    pub protection: Protection,
    /// Why, in a sentence or two.
    pub reason: String,
    /// The oldest of the plans' last good backups, that is, how far back a restore of everything would go; `None` while a plan has none.
    pub last_good: Option<Timestamp>,
    /// Bytes that the plans' last good backups looked at, together.
    pub last_size: Option<u64>,
    /// The last backup that failed or was lost, where no good one of its plan came after it.
    pub last_bad: Option<JobId>,
    /// The plan that is worst off.
    pub worst_plan: Option<PlanId>,
    /// The last [`DAYS`] days (UTC), today last.
    pub strip: [DayState; DAYS],
}

/// One plan's part of an assessment.
struct PlanState {
    plan: PlanId,
    protection: Protection,
    reason: String,
    last_good: Option<Mark>,
    last_bad: Option<JobId>,
}

/// Assesses one host at `now`.
#[must_use]
pub fn assess(known: &Known<'_>, now: Timestamp) -> Assessment {
    let states: Vec<PlanState> = known.plans.iter().map(|plan| of_plan(known, plan, now)).collect();
    let worst = states.iter().min_by_key(|state| state.protection);
    let blocked = !known.has_restic && known.presence != HostStatus::Never;
    let (protection, reason) = match worst {
        // A failure that is already there is said as such; else without restic or a plan nothing else can be mended first.
        Some(state) if state.protection == Protection::Failed => (state.protection, state.reason.clone()),
        _ if blocked => (
            Protection::NoRestic,
            "Its agent finds no restic, so it cannot back up. Install restic 0.14 or newer.".to_owned(),
        ),
        None if !known.has_agent => {
            (Protection::NoAgent, "It has no agent, so Flotilla does not back it up.".to_owned())
        }
        None => (Protection::NoPlan, "No plan covers it, so nothing of it is backed up.".to_owned()),
        Some(state) => (state.protection, state.reason.clone()),
    };
    let all_good: Option<Vec<Mark>> = states.iter().map(|state| state.last_good).collect();
    let last_good = all_good.as_ref().and_then(|marks| marks.iter().map(|mark| mark.at).min());
    let sizes = states.iter().filter_map(|state| state.last_good?.bytes);
    Assessment {
        protection,
        reason,
        last_good,
        last_size: sizes.reduce(u64::saturating_add),
        last_bad: worst.and_then(|state| state.last_bad),
        worst_plan: worst.map(|state| state.plan),
        strip: strip(known.marks, now),
    }
}

fn of_plan(known: &Known<'_>, known_plan: &KnownPlan<'_>, now: Timestamp) -> PlanState {
    let KnownPlan { id: plan, name, rhythm } = *known_plan;
    let marks = || known.marks.iter().rev().filter(|mark| mark.plan == Some(plan));
    let last_good = marks().find(|mark| mark.is_good()).copied();
    let last_told = marks().find(|mark| mark.is_good() || mark.is_bad());
    let last_bad = last_told.filter(|mark| mark.is_bad()).map(|mark| mark.job);
    let late = last_good.is_some_and(|mark| match rhythm {
        Rhythm::ByHand => now.ms_since(mark.at) >= LATE_AFTER_H * HOUR_MS,
        Rhythm::Since(due) => mark.at < due,
    });
    let missed = if rhythm == Rhythm::ByHand { "" } else { " and the one that was due did not come" };
    let age_h = last_good.map(|mark| now.ms_since(mark.at).max(0) / HOUR_MS);
    let needs_agent = " It has no agent, and backups need one: enrol it.";
    let away = if !known.has_agent {
        needs_agent
    } else if known.presence == HostStatus::Offline {
        " Its agent is not connected."
    } else {
        ""
    };
    // With one plan its name tells nothing.
    let of = if known.plans.len() > 1 { format!(" of “{name}”") } else { String::new() };
    let (protection, reason) = match (last_bad, age_h) {
        (Some(_), None) => (Protection::Failed, format!("The last backup{of} failed, and there is no good one.{away}")),
        (Some(_), Some(age)) => {
            (Protection::Failed, format!("The last backup{of} failed. The last good one is {} old.{away}", span(age)))
        }
        (None, None) if known.running => (Protection::Running, format!("The first backup{of} runs now.")),
        (None, None) => (Protection::NeverBackedUp, format!("There was no backup{of} within {DAYS} days.{away}")),
        (None, Some(age)) if late => {
            (Protection::Late, format!("The last good backup{of} is {} old{missed}.{away}", span(age)))
        }
        (None, Some(_)) if known.running => (Protection::Running, "A backup runs now.".to_owned()),
        (None, Some(age)) if known.presence != HostStatus::Online => {
            (Protection::Offline, format!("Backed up {} ago, but its agent is not connected.", span(age)))
        }
        (None, Some(age)) => (Protection::Protected, format!("Backed up {} ago.", span(age))),
    };
    PlanState { plan, protection, reason, last_good, last_bad }
}

/// Hours in words.
fn span(hours: i64) -> String {
    match hours {
        0 => "less than an hour".to_owned(),
        1 => "1 hour".to_owned(),
        hours if hours < 72 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

/// One state a day: the worst that ended on it by any plan. Days are UTC.
fn strip(marks: &[Mark], now: Timestamp) -> [DayState; DAYS] {
    let mut days = [DayState::None; DAYS];
    let today = now.unix_ms().div_euclid(DAY_MS);
    for mark in marks.iter().filter(|mark| mark.plan.is_some()) {
        let ago = today - mark.at.unix_ms().div_euclid(DAY_MS);
        let Some(day) = usize::try_from(ago).ok().and_then(|ago| days.iter_mut().rev().nth(ago)) else { continue };
        *day = match (mark.status, *day) {
            (JobStatus::Failed | JobStatus::Lost, _) | (_, DayState::Failed) => DayState::Failed,
            (JobStatus::Warning, _) | (_, DayState::Warning) => DayState::Warning,
            (JobStatus::Succeeded, _) => DayState::Fine,
            (_, before) => before,
        };
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::schedule::{CatchUp, Schedule, Standing};

    const NOW: i64 = 1_795_248_000_000; // 2026-11-21T08:00Z

    fn mark(status: JobStatus, hours_ago: i64) -> Mark {
        let at = Timestamp::from_unix_ms(NOW - hours_ago * HOUR_MS);
        Mark { job: JobId::from_parts(at.unix_ms().unsigned_abs(), 1), plan: Some(plan(1)), status, at, bytes: Some(1) }
    }

    fn plan(n: u128) -> PlanId {
        PlanId::from_parts(1, n)
    }

    fn by_hand(n: u128, name: &str) -> KnownPlan<'_> {
        KnownPlan { id: plan(n), name, rhythm: Rhythm::ByHand }
    }

    fn known(marks: &[Mark]) -> Known<'_> {
        static ONE: std::sync::OnceLock<[KnownPlan<'_>; 1]> = std::sync::OnceLock::new();
        let plans = ONE.get_or_init(|| [by_hand(1, "nightly")]);
        Known { presence: HostStatus::Online, has_agent: true, has_restic: true, plans, running: false, marks }
    }

    fn state(known: &Known<'_>) -> Protection {
        assess(known, Timestamp::from_unix_ms(NOW)).protection
    }

    #[test]
    fn a_host_backed_up_within_26_hours_is_protected_and_late_after() {
        assert_eq!(state(&known(&[mark(JobStatus::Succeeded, 25)])), Protection::Protected);
        assert_eq!(state(&known(&[mark(JobStatus::Warning, 25)])), Protection::Protected, "a warning made a snapshot");
        assert_eq!(state(&known(&[mark(JobStatus::Succeeded, 26)])), Protection::Late);
    }

    #[test]
    fn a_plan_with_a_schedule_is_late_by_its_own_moments() {
        let now = Timestamp::from_unix_ms(NOW);
        let of = |cron: &str, since_h: i64| {
            let schedule = Schedule {
                cron: cron.to_owned(),
                timezone: "UTC".to_owned(),
                jitter_s: 3600,
                catch_up: CatchUp::Once,
                enabled: true,
            };
            let standing = Standing { schedule, since: now.plus_s(-since_h * 3600) };
            let plan = Plan { schedule: Some(standing), ..plan_without_schedule() };
            let scheduled = [KnownPlan { id: plan.id, name: "weekly", rhythm: Rhythm::of(&plan, now) }];
            move |hours_ago| {
                let marks = [mark(JobStatus::Succeeded, hours_ago)];
                state(&Known { plans: &scheduled, ..known(&marks) })
            }
        };
        // It is Saturday, 08:00. Sundays at 03:00: six days old is fresh, seven are not.
        let weekly = of("0 3 * * 0", 9000);
        assert_eq!((weekly(6 * 24), weekly(7 * 24)), (Protection::Protected, Protection::Late));
        // At 06:00: with an hour of jitter and two of grace it need not be through before 09:00. At 05:00 it must be.
        assert_eq!((of("0 6 * * *", 9000)(25), of("0 5 * * *", 9000)(25)), (Protection::Protected, Protection::Late));
        // A schedule that stands for an hour blames nobody for what it did not ask for.
        let fresh = of("0 3 * * *", 1);
        assert_eq!((fresh(26), fresh(28)), (Protection::Protected, Protection::Late));
    }

    fn plan_without_schedule() -> Plan {
        Plan {
            id: plan(1),
            name: String::new(),
            repo_id: crate::domain::RepoId::from_parts(1, 1),
            repo_name: String::new(),
            hosts: Vec::new(),
            tags: Vec::new(),
            paths: Vec::new(),
            excludes: Vec::new(),
            second_repo: None,
            hooks: Vec::new(),
            options: crate::domain::PlanOptions::default(),
            retention: crate::domain::KeepRules::default(),
            schedule: None,
            created_at: Timestamp::from_unix_ms(0),
        }
    }

    #[test]
    fn a_failure_is_the_state_until_a_good_backup_comes_after_it() {
        let failed = [mark(JobStatus::Succeeded, 20), mark(JobStatus::Failed, 3)];
        let said = assess(&known(&failed), Timestamp::from_unix_ms(NOW));
        assert_eq!((said.protection, said.last_bad), (Protection::Failed, Some(failed[1].job)));
        assert!(said.reason.contains("20 hours"), "{}", said.reason);
        let mended = [mark(JobStatus::Lost, 3), mark(JobStatus::Succeeded, 1)];
        assert_eq!(state(&known(&mended)), Protection::Protected);
        assert_eq!(assess(&known(&mended), Timestamp::from_unix_ms(NOW)).last_bad, None);
    }

    #[test]
    fn a_good_backup_of_one_plan_does_not_hide_that_another_fails_is_late_or_never_ran() {
        let plans = [by_hand(1, "nightly"), by_hand(2, "database")];
        let of_two = |marks: &[Mark]| assess(&Known { plans: &plans, ..known(marks) }, Timestamp::from_unix_ms(NOW));
        let second = |status, hours_ago| Mark { plan: Some(plan(2)), ..mark(status, hours_ago) };
        let said =
            of_two(&[second(JobStatus::Succeeded, 30), second(JobStatus::Failed, 2), mark(JobStatus::Succeeded, 1)]);
        assert_eq!((said.protection, said.worst_plan), (Protection::Failed, Some(plan(2))));
        assert!(said.reason.contains("“database”"), "{}", said.reason);
        let said = of_two(&[second(JobStatus::Succeeded, 30), mark(JobStatus::Succeeded, 1)]);
        assert_eq!(said.protection, Protection::Late);
        assert_eq!(said.last_good, Some(second(JobStatus::Succeeded, 30).at), "everything goes back only so far");
        let said = of_two(&[mark(JobStatus::Succeeded, 1)]);
        assert_eq!((said.protection, said.last_good), (Protection::NeverBackedUp, None));
        let said = of_two(&[second(JobStatus::Succeeded, 3), mark(JobStatus::Succeeded, 1)]);
        assert_eq!((said.protection, said.last_size), (Protection::Protected, Some(2)));
    }

    #[test]
    fn a_backup_without_a_plan_counts_neither_way() {
        let typed = |status| Mark { plan: None, ..mark(status, 1) };
        assert_eq!(state(&known(&[typed(JobStatus::Succeeded)])), Protection::NeverBackedUp);
        assert_eq!(state(&known(&[mark(JobStatus::Succeeded, 2), typed(JobStatus::Failed)])), Protection::Protected);
    }

    #[test]
    fn a_cancelled_run_counts_neither_way() {
        assert_eq!(
            state(&known(&[mark(JobStatus::Succeeded, 5), mark(JobStatus::Cancelled, 1)])),
            Protection::Protected
        );
        assert_eq!(state(&known(&[mark(JobStatus::Cancelled, 1)])), Protection::NeverBackedUp);
    }

    #[test]
    fn what_stands_in_the_way_of_any_backup_is_said_first() {
        let nothing = known(&[]);
        assert_eq!(state(&Known { has_restic: false, plans: &[], ..nothing }), Protection::NoRestic);
        assert_eq!(state(&Known { plans: &[], ..nothing }), Protection::NoPlan);
        assert_eq!(state(&nothing), Protection::NeverBackedUp);
        assert_eq!(state(&Known { running: true, ..nothing }), Protection::Running);
        // An agent that never came cannot have said whether there is restic.
        let never = Known { presence: HostStatus::Never, has_restic: false, ..nothing };
        assert_eq!(state(&never), Protection::NeverBackedUp);
    }

    #[test]
    fn a_host_without_an_agent_needs_someone_only_where_a_plan_covers_it() {
        let bare = Known { presence: HostStatus::Never, has_agent: false, has_restic: false, ..known(&[]) };
        let unplanned = Known { plans: &[], ..bare };
        assert_eq!(state(&unplanned), Protection::NoAgent);
        assert!(!state(&unplanned).needs_someone());
        let said = assess(&bare, Timestamp::from_unix_ms(NOW));
        assert_eq!(said.protection, Protection::NeverBackedUp);
        assert!(said.reason.ends_with("enrol it."), "{}", said.reason);
    }

    #[test]
    fn an_agent_that_is_away_is_said_only_where_nothing_worse_is() {
        let fresh = [mark(JobStatus::Succeeded, 1)];
        assert_eq!(state(&Known { presence: HostStatus::Offline, ..known(&fresh) }), Protection::Offline);
        let late = [mark(JobStatus::Succeeded, 50)];
        let said = assess(&Known { presence: HostStatus::Offline, ..known(&late) }, Timestamp::from_unix_ms(NOW));
        assert_eq!(said.protection, Protection::Late);
        assert!(said.reason.ends_with("Its agent is not connected."), "{}", said.reason);
    }

    #[test]
    fn a_running_backup_does_not_hide_that_the_last_one_failed_or_is_late() {
        for marks in [[mark(JobStatus::Failed, 2)], [mark(JobStatus::Succeeded, 40)]] {
            assert!(state(&Known { running: true, ..known(&marks) }).needs_someone());
        }
    }

    #[test]
    fn worse_sorts_first() {
        let mut all =
            [Protection::Protected, Protection::NoPlan, Protection::Failed, Protection::Running, Protection::Late];
        all.sort();
        assert_eq!(
            all,
            [Protection::Failed, Protection::Late, Protection::NoPlan, Protection::Running, Protection::Protected]
        );
    }

    #[test]
    fn a_day_shows_the_worst_that_ended_on_it_by_utc() {
        let marks = [
            mark(JobStatus::Failed, 24 * 40),    // too old
            mark(JobStatus::Succeeded, 24 * 29), // the oldest day
            mark(JobStatus::Warning, 33),        // the day before yesterday, 23:00
            mark(JobStatus::Failed, 10),         // yesterday, 22:00
            mark(JobStatus::Succeeded, 9),       // yesterday, 23:00: a failure that day stays
            mark(JobStatus::Succeeded, 1),       // today
            mark(JobStatus::Cancelled, 0),
        ];
        let strip = assess(&known(&marks), Timestamp::from_unix_ms(NOW)).strip;
        assert_eq!(strip[29], DayState::Fine);
        assert_eq!(strip[28], DayState::Failed);
        assert_eq!(strip[27], DayState::Warning);
        assert_eq!(strip[0], DayState::Fine);
        assert_eq!(strip.iter().filter(|day| **day == DayState::None).count(), 26);
    }

    #[test]
    fn a_backup_from_a_clock_that_runs_ahead_is_fresh_and_no_panic() {
        let marks = [mark(JobStatus::Succeeded, -30)];
        let said = assess(&known(&marks), Timestamp::from_unix_ms(NOW));
        assert_eq!(said.protection, Protection::Protected);
    }
}
