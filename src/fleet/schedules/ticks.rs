//! Schedules that this server ticks itself: what must not wait for, or lie at, an endpoint. A reconciler without input: each look finds the moments
//! that came since the last one that was dealt with, which is written down in the transaction that makes the job. So a restart neither loses nor
//! doubles one, and a clock that jumps back makes nothing twice.

use crate::{
    credential,
    domain::{
        JobId, Timestamp,
        job::{Actor, ActorKind, NewJob},
        schedule::{CatchUp, Entry, OwnSchedule, jitter_s},
    },
    fleet::Fleet,
    ops::{jobs::timeout_s, upkeep},
    store::{StoreError, moments, schedules},
};

/// A moment that is seen so much later was missed: the catch-up rule decides then.
const MISSED_S: i64 = 300;

/// Runs until the stop.
pub(in crate::fleet) async fn run(fleet: Fleet) {
    loop {
        tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            () = tokio::time::sleep(fleet.inner.options.tick) => {}
        }
        if let Err(e) = look(&fleet).await {
            tracing::error!(error = %e, "the server's own schedules could not be looked at; trying again soon");
        }
    }
}

async fn look(fleet: &Fleet) -> Result<(), StoreError> {
    let now = fleet.inner.clock.now();
    let expiry_s = fleet.inner.options.queue_expiry.as_secs().cast_signed();
    let due = fleet.inner.store.read(move |db| {
        let watched = schedules::of_server(db)?;
        Ok::<_, StoreError>(watched.into_iter().filter_map(|(own, until)| Due::of(own, until, now)).collect::<Vec<_>>())
    });
    for due in due.await? {
        let random = credential::random_bits().map_err(|_| StoreError::Closed)?;
        fleet
            .inner
            .store
            .write(move |tx| {
                schedules::mark(tx, due.own.id, due.moment)?;
                if due.runs {
                    let id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
                    // What it means is found out now: rules and hosts may have changed since it was scheduled.
                    match upkeep::due(tx.db(), &due.own, tx.now())? {
                        upkeep::Due::Order { host, repo, input } => {
                            let order = due.job(id, tx.now().plus_s(expiry_s));
                            moments::place(tx, &NewJob { host_id: host, repo_id: repo, input: *input, ..order })?;
                        }
                        upkeep::Due::Nothing(why) => {
                            tracing::info!(schedule.id = %due.own.id, reason = why, "a schedule's moment had nothing to do");
                        }
                    }
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
    Ok(())
}

/// A schedule whose moment has come.
#[derive(Debug)]
struct Due {
    own: OwnSchedule,
    /// The last moment that came.
    moment: Timestamp,
    /// Whether it makes a job: it was not missed, or is made up for.
    runs: bool,
}

impl Due {
    fn of(own: OwnSchedule, until: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let schedule = &own.standing.schedule;
        let share = i64::from(jitter_s(own.id, schedule.jitter_s));
        let floor = until.map_or(own.standing.since, |until| until.max(own.standing.since));
        let at = now.plus_s(-share);
        let calendar = schedule.calendar().ok()?;
        calendar.next_after(floor).filter(|next| *next <= at)?;
        let moment = calendar.last_between(floor, at)?;
        let missed = at.ms_since(moment) > MISSED_S * 1000;
        let runs = !missed || schedule.catch_up == CatchUp::Once;
        Some(Self { own, moment, runs })
    }

    fn job(&self, id: JobId, expires_at: Timestamp) -> NewJob {
        let entry = Entry::of_own(&self.own, None);
        NewJob {
            about: Default::default(),
            id,
            host_id: entry.host_id,
            timeout_s: timeout_s(&entry.kind),
            kind: entry.kind,
            actor: Actor { kind: ActorKind::Schedule, id: entry.id.to_string(), name: entry.name },
            moment: Some((entry.id, self.moment)),
            ran_alone: false,
            plan_id: entry.plan_id,
            repo_id: entry.repo_id,
            input: entry.input,
            rerun_of: None,
            expires_at: Some(expires_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        HostId, JobKind, ScheduleId,
        job::JobInput,
        schedule::{Schedule, Standing},
    };

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hourly(catch_up: CatchUp, jitter_s: u32) -> OwnSchedule {
        let schedule =
            Schedule { cron: "0 * * * *".to_owned(), timezone: "UTC".to_owned(), jitter_s, catch_up, enabled: true };
        OwnSchedule {
            id: ScheduleId::from_parts(1, 1),
            host_id: HostId::from_parts(1, 1),
            host_name: String::new(),
            kind: JobKind::Check,
            plan_id: None,
            plan_name: None,
            repo_id: None,
            repo_name: None,
            input: JobInput::default(),
            standing: Standing { schedule, since: at("2026-11-21T08:30:00Z") },
            created_at: at("2026-11-21T08:30:00Z"),
            removed: false,
        }
    }

    fn due(own: OwnSchedule, until: Option<&str>, now: &str) -> Option<(Timestamp, bool)> {
        Due::of(own, until.map(at), at(now)).map(|due| (due.moment, due.runs))
    }

    #[test]
    fn a_moment_is_due_from_its_time_on_and_none_before_the_schedule_stood() {
        let once = || hourly(CatchUp::Once, 0);
        assert_eq!(due(once(), None, "2026-11-21T08:59:59Z"), None, "08:00 was before it was made");
        assert_eq!(due(once(), None, "2026-11-21T09:00:00Z"), Some((at("2026-11-21T09:00:00Z"), true)));
        assert_eq!(due(once(), Some("2026-11-21T09:00:00Z"), "2026-11-21T09:30:00Z"), None);
        assert_eq!(due(once(), Some("2026-11-21T09:00:00Z"), "2026-11-21T08:00:00Z"), None, "a clock that went back");
    }

    #[test]
    fn missed_moments_are_one_run_or_none_and_are_dealt_with_either_way() {
        let last = at("2026-11-21T14:00:00Z");
        assert_eq!(
            due(hourly(CatchUp::Once, 0), Some("2026-11-21T09:00:00Z"), "2026-11-21T14:30:00Z"),
            Some((last, true))
        );
        assert_eq!(
            due(hourly(CatchUp::Skip, 0), Some("2026-11-21T09:00:00Z"), "2026-11-21T14:30:00Z"),
            Some((last, false))
        );
        assert_eq!(
            due(hourly(CatchUp::Skip, 0), Some("2026-11-21T09:00:00Z"), "2026-11-21T14:04:00Z"),
            Some((last, true))
        );
    }

    #[test]
    fn jitter_puts_the_moment_off_and_does_not_make_it_a_missed_one() {
        let share = i64::from(jitter_s(ScheduleId::from_parts(1, 1), 3600));
        assert!(share > 300, "choose another id");
        let fires = at("2026-11-21T09:00:00Z").plus_s(share);
        let skip = || hourly(CatchUp::Skip, 3600);
        assert_eq!(Due::of(skip(), None, fires.plus_s(-1)).map(|due| due.moment), None);
        let due = Due::of(skip(), None, fires.plus_s(1)).unwrap();
        assert_eq!((due.moment, due.runs), (at("2026-11-21T09:00:00Z"), true));
    }
}
