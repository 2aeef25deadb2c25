//! Schedules: when something is to run, on which host. A plan's schedule is one entry for each host that it covers, with an id that follows from the
//! two; other schedules stand alone. Backups are ticked by the agent of their host, everything else by this server.

pub mod preset;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use flotilla_proto::{
    CatchUp, ScheduleRejection,
    calendar::{Calendar, CalendarError, MAX_JITTER_S, jitter_s},
};

use crate::domain::{FieldError, HostId, JobKind, PlanId, RepoId, ScheduleId, Timestamp, job::JobInput, plan::Plan};

/// When something is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Five-field cron: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// IANA name, such as `Europe/Berlin`.
    pub timezone: String,
    /// Seconds over which hosts spread: each has its own place within them, always the same. At most a day.
    #[serde(default)]
    pub jitter_s: u32,
    /// What happens to moments that were missed: `once` (one run, however many were missed) or `skip`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub catch_up: CatchUp,
    /// Whether it fires.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

impl Schedule {
    /// The calendar that it follows.
    ///
    /// # Errors
    /// The field that cannot be followed, and why.
    pub fn calendar(&self) -> Result<Calendar, FieldError> {
        Calendar::new(&self.cron, &self.timezone).map_err(|e| {
            let field = if matches!(e, CalendarError::Zone(_)) { "timezone" } else { "cron" };
            FieldError::new(field, e.to_string())
        })
    }

    /// The schedule without blanks around its words.
    ///
    /// # Errors
    /// Every field that does not do.
    pub fn checked(self) -> Result<Self, Vec<FieldError>> {
        let schedule = Self { cron: self.cron.trim().to_owned(), timezone: self.timezone.trim().to_owned(), ..self };
        let mut wrong: Vec<FieldError> = schedule.calendar().err().into_iter().collect();
        if schedule.jitter_s > MAX_JITTER_S {
            wrong.push(FieldError::new("jitter_s", format!("must be at most {MAX_JITTER_S} seconds, which is a day")));
        }
        if wrong.is_empty() { Ok(schedule) } else { Err(wrong) }
    }

    /// When it runs, in words, such as `every night between 01:00 and 05:00, Europe/Berlin`.
    #[must_use]
    pub fn in_words(&self) -> String {
        format!("{}, {}", preset::Preset::of(self).in_words(self), self.timezone)
    }
}

/// A schedule as it stands, and since when it has been so: moments before that are not its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// When it runs.
    pub schedule: Schedule,
    /// Its last change.
    pub since: Timestamp,
}

impl Standing {
    /// `schedule` as it stands after a change at `now` of what stood there `before`.
    #[must_use]
    pub fn after(before: Option<&Self>, schedule: Schedule, now: Timestamp) -> Self {
        match before {
            Some(before) if before.schedule == schedule => before.clone(),
            _ => Self { schedule, since: now },
        }
    }
}

/// A schedule that stands alone.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnSchedule {
    /// Identity.
    pub id: ScheduleId,
    /// Where it runs.
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// What it does.
    pub kind: JobKind,
    /// The plan that a backup follows.
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// The repository that it works on; a plan's is the plan's.
    pub repo_id: Option<RepoId>,
    /// That repository's name.
    pub repo_name: Option<String>,
    /// Details.
    pub input: JobInput,
    /// When.
    pub standing: Standing,
    /// When it was made.
    pub created_at: Timestamp,
    /// It was removed.
    pub removed: bool,
}

/// Who keeps watch for the moments of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The host's agent, also while the server is away.
    Agent,
    /// The server: what needs no cached credentials at an endpoint is not given any.
    Server,
}

impl Side {
    /// Who ticks jobs of this kind.
    #[must_use]
    pub fn of(kind: &JobKind) -> Self {
        if *kind == JobKind::Backup { Self::Agent } else { Self::Server }
    }
}

/// One schedule of one host, wherever it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Identity.
    pub id: ScheduleId,
    /// Where it runs.
    pub host_id: HostId,
    /// It follows from a plan and can be changed only there.
    pub from_plan: bool,
    /// What it does.
    pub kind: JobKind,
    /// The plan.
    pub plan_id: Option<PlanId>,
    /// What people call it: the plan's name, or its kind.
    pub name: String,
    /// The repository.
    pub repo_id: Option<RepoId>,
    /// Details.
    pub input: JobInput,
    /// When.
    pub standing: Standing,
}

impl Entry {
    /// The entry of a plan for a host; `None` for a plan without a schedule.
    #[must_use]
    pub fn of_plan(plan: &Plan, host_id: HostId) -> Option<Self> {
        let standing = plan.schedule.clone()?;
        Some(Self {
            id: derived_id(plan.id, host_id),
            host_id,
            from_plan: true,
            kind: JobKind::Backup,
            plan_id: Some(plan.id),
            name: plan.name.clone(),
            repo_id: Some(plan.repo_id),
            input: JobInput::default(),
            standing,
        })
    }

    /// The entry of a schedule that stands alone. `plan` is the one that it names.
    #[must_use]
    pub fn of_own(own: &OwnSchedule, plan: Option<&Plan>) -> Self {
        Self {
            id: own.id,
            host_id: own.host_id,
            from_plan: false,
            kind: own.kind.clone(),
            plan_id: own.plan_id,
            name: own.plan_name.clone().unwrap_or_else(|| own.kind.as_str().to_owned()),
            repo_id: plan.map(|plan| plan.repo_id).or(own.repo_id),
            input: own.input.clone(),
            standing: own.standing.clone(),
        }
    }

    /// When it is due next after `now` on this host: the moment of its cron and, jitter added, the time at which it fires.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let share = i64::from(jitter_s(self.id, self.standing.schedule.jitter_s));
        let moment = self.standing.schedule.calendar().ok()?.next_after(now.plus_s(-share))?;
        Some((moment, moment.plus_s(share)))
    }
}

/// The id of a plan's entry for a host: the same whenever it is asked for, so that a plan that is taken off a host and put back keeps its jitter
/// and its past moments.
#[must_use]
pub fn derived_id(plan: PlanId, host: HostId) -> ScheduleId {
    let mut hasher = Sha256::new();
    hasher.update(plan.bits().to_be_bytes());
    hasher.update(host.bits().to_be_bytes());
    let mut bits = [0; 16];
    bits.copy_from_slice(&hasher.finalize()[..16]);
    let bits = u128::from_be_bytes(bits);
    // The upper 48 bits and the lower 80, as a ULID has them.
    let (upper, lower) = ((bits >> 80) as u64, bits & ((1 << 80) - 1));
    ScheduleId::from_parts(upper, lower)
}

/// Whom plans cover, prepared for being asked often.
#[derive(Debug, Default)]
pub struct Coverage {
    plans: Vec<(Plan, HashSet<HostId>)>,
}

impl Coverage {
    /// Of these plans.
    #[must_use]
    pub fn new(plans: Vec<Plan>) -> Self {
        let plans = plans.into_iter().map(|plan| {
            let named = plan.hosts.iter().copied().collect();
            (plan, named)
        });
        Self { plans: plans.collect() }
    }

    /// Those that cover a host.
    pub fn of<'a>(&'a self, host: HostId, tags: &'a [String]) -> impl Iterator<Item = &'a Plan> {
        let covers = move |(plan, named): &&(Plan, HashSet<HostId>)| {
            named.contains(&host) || tags.iter().any(|tag| plan.tags.contains(tag))
        };
        self.plans.iter().filter(covers).map(|(plan, _)| plan)
    }

    /// A plan of them.
    #[must_use]
    pub fn plan(&self, id: PlanId) -> Option<&Plan> {
        self.plans.iter().map(|(plan, _)| plan).find(|plan| plan.id == id)
    }
}

/// What the agent of a host is to watch: an entry for each plan with a schedule that covers it, and its own schedules of backups
/// (not those whose plan is gone). By id.
#[must_use]
pub fn agent_entries(coverage: &Coverage, host: HostId, tags: &[String], own: &[OwnSchedule]) -> Vec<Entry> {
    let of_plans = coverage.of(host, tags).filter_map(|plan| Entry::of_plan(plan, host));
    let alone = own.iter().filter(|own| own.host_id == host && !own.removed && Side::of(&own.kind) == Side::Agent);
    let alone = alone.filter_map(|own| match own.plan_id {
        Some(plan) => Some(Entry::of_own(own, Some(coverage.plan(plan)?))),
        None => Some(Entry::of_own(own, None)),
    });
    let mut entries: Vec<Entry> = of_plans.chain(alone).collect();
    entries.sort_by_key(|entry| entry.id);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{KeepRules, PlanOptions};

    fn host(n: u128) -> HostId {
        HostId::from_parts(1, n)
    }

    fn nightly() -> Schedule {
        Schedule {
            cron: "0 1 * * *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            jitter_s: 14_400,
            catch_up: CatchUp::Once,
            enabled: true,
        }
    }

    fn plan(n: u128, hosts: &[u128], tags: &[&str], schedule: Option<Schedule>) -> Plan {
        Plan {
            id: PlanId::from_parts(1, n),
            name: format!("plan {n}"),
            repo_id: RepoId::from_parts(1, 1),
            repo_name: String::new(),
            hosts: hosts.iter().map(|n| host(*n)).collect(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            paths: vec!["/etc".to_owned()],
            excludes: Vec::new(),
            second_repo: None,
            hooks: Vec::new(),
            options: PlanOptions::default(),
            retention: KeepRules::default(),
            schedule: schedule.map(|schedule| Standing { schedule, since: Timestamp::from_unix_ms(0) }),
            created_at: Timestamp::from_unix_ms(0),
        }
    }

    fn own(n: u128, of: u128, kind: JobKind) -> OwnSchedule {
        OwnSchedule {
            id: ScheduleId::from_parts(1, n),
            host_id: host(of),
            host_name: String::new(),
            kind,
            plan_id: None,
            plan_name: None,
            repo_id: Some(RepoId::from_parts(1, 1)),
            repo_name: None,
            input: JobInput::default(),
            standing: Standing { schedule: nightly(), since: Timestamp::from_unix_ms(0) },
            created_at: Timestamp::from_unix_ms(0),
            removed: false,
        }
    }

    #[test]
    fn an_entrys_id_follows_from_plan_and_host_and_is_a_ulid() {
        let of = |n, of| derived_id(PlanId::from_parts(1, n), host(of));
        assert_eq!(of(1, 2), of(1, 2));
        assert_eq!([of(1, 2), of(2, 1), of(1, 1)].iter().collect::<HashSet<_>>().len(), 3);
        assert_eq!(of(1, 2).to_string().parse::<ScheduleId>().unwrap(), of(1, 2));
        // Frozen: agents keep these ids, and the jobs of past moments bear them.
        assert_eq!(of(1, 2).to_string(), "1KRMWBPSBNVAVADQRNPN0VGSZ5");
    }

    #[test]
    fn a_hosts_agent_watches_the_plans_that_cover_it_and_its_own_backups() {
        let coverage = Coverage::new(vec![
            plan(1, &[1], &[], Some(nightly())),
            plan(2, &[], &["web"], Some(Schedule { enabled: false, ..nightly() })),
            plan(3, &[1], &[], None),
            plan(4, &[2], &["db"], Some(nightly())),
        ]);
        let gone = OwnSchedule { removed: true, ..own(8, 1, JobKind::Backup) };
        let alone = [own(5, 1, JobKind::Backup), own(6, 1, JobKind::Check), own(7, 2, JobKind::Backup), gone];
        let entries = agent_entries(&coverage, host(1), &["web".to_owned()], &alone);
        let mut expected = vec![
            derived_id(PlanId::from_parts(1, 1), host(1)),
            derived_id(PlanId::from_parts(1, 2), host(1)),
            ScheduleId::from_parts(1, 5),
        ];
        expected.sort_unstable();
        assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_cannot_be_followed_is_said_at_its_field() {
        let fields = |schedule: Schedule| -> Vec<String> {
            schedule.checked().unwrap_err().into_iter().map(|error| error.field).collect()
        };
        assert_eq!(fields(Schedule { cron: "0 1".to_owned(), ..nightly() }), ["cron"]);
        let both = Schedule { timezone: "Mars".to_owned(), jitter_s: MAX_JITTER_S + 1, ..nightly() };
        assert_eq!(fields(both), ["timezone", "jitter_s"]);
        let spaced = Schedule { cron: " 0 1 * * * ".to_owned(), ..nightly() };
        assert_eq!(spaced.checked().unwrap(), nightly());
    }

    #[test]
    fn a_schedule_that_was_not_changed_stands_since_it_stood() {
        let at = Timestamp::from_unix_ms;
        let before = Standing { schedule: nightly(), since: at(1) };
        assert_eq!(Standing::after(Some(&before), nightly(), at(9)).since, at(1));
        let paused = Schedule { enabled: false, ..nightly() };
        assert_eq!(Standing::after(Some(&before), paused, at(9)).since, at(9));
    }

    #[test]
    fn an_entry_fires_at_its_own_place_within_the_jitter() {
        let coverage = Coverage::new(vec![plan(1, &[1], &[], Some(nightly()))]);
        let entry = &agent_entries(&coverage, host(1), &[], &[])[0];
        let now = "2026-11-21T08:00:00Z".parse().unwrap();
        let (moment, fires) = entry.next(now).unwrap();
        assert_eq!(moment, "2026-11-22T00:00:00Z".parse().unwrap());
        assert!((0..14_400_000).contains(&fires.ms_since(moment)));
        // Between moment and firing it is still this moment that is due.
        assert_eq!(entry.next(fires.plus_s(-1)), Some((moment, fires)));
    }
}
