//! Made-up schedules for the samples.

use super::{Gallery, host_id, hostile, job, long, now};
use crate::{
    domain::{
        JobKind, JobStatus, PlanId, ScheduleId,
        job::JobInput,
        schedule::{CatchUp, OwnSchedule, Schedule, Side, Standing},
    },
    views::{
        FormState,
        components::HostRef,
        host::HostSchedule,
        plans::PlanChoices,
        schedules::{ScheduleNewPage, ScheduleRow, SchedulesPage, Source},
    },
};

pub(super) fn schedule(cron: &str, jitter_s: u32) -> Schedule {
    Schedule {
        cron: cron.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        jitter_s,
        catch_up: CatchUp::Once,
        enabled: true,
    }
}

pub(super) fn of_host() -> Vec<HostSchedule> {
    let nightly = HostSchedule {
        name: "Backup “nightly”".to_owned(),
        schedule: schedule("0 1 * * *", 14_400),
        side: Side::Agent,
        fires_at: Some(now().plus_s(66_000)),
        rejected: None,
        unarmed: None,
    };
    let check = HostSchedule {
        name: "Check the repository".to_owned(),
        schedule: schedule("0 4 * * 0", 0),
        side: Side::Server,
        ..nightly.clone()
    };
    let refused = HostSchedule {
        name: hostile(),
        rejected: Some("its time zone is not known here: update the agent".to_owned()),
        ..nightly.clone()
    };
    let paused =
        HostSchedule { fires_at: None, unarmed: Some("its repository was removed".to_owned()), ..nightly.clone() };
    vec![nightly, check, refused, paused]
}

/// One that stands alone.
pub(super) fn weekly_check() -> OwnSchedule {
    OwnSchedule {
        id: ScheduleId::from_parts(1, 7),
        host_id: host_id(1),
        host_name: "web-1".to_owned(),
        kind: JobKind::Check,
        plan_id: None,
        plan_name: None,
        repo_id: None,
        repo_name: None,
        input: JobInput::default(),
        standing: Standing { schedule: schedule("0 4 * * 0", 0), since: now() },
        created_at: now(),
        removed: false,
    }
}

fn rows() -> Vec<ScheduleRow> {
    let nightly = schedule("0 1 * * *", 14_400);
    let hourly = schedule("15 * * * *", 0);
    let upcoming = |schedule: &Schedule, n| schedule.calendar().map(|c| c.upcoming(now(), n)).unwrap_or_default();
    let web = HostRef { id: host_id(1), name: "web-1".to_owned() };
    let row = ScheduleRow {
        source: Source::Plan(PlanId::from_parts(1, 1), "nightly".to_owned()),
        hosts: (Some(web.clone()), 12),
        repo_name: Some("vault".to_owned()),
        next: upcoming(&nightly, 1),
        schedule: nightly,
        last: Some(job(3, "web-1", JobStatus::Succeeded)),
        behind: 0,
        troubles: Vec::new(),
    };
    let own = |n, kind| Source::Own(ScheduleId::from_parts(1, n), kind);
    vec![
        ScheduleRow {
            source: own(1, JobKind::Stats),
            next: upcoming(&hourly, 24),
            schedule: hourly,
            hosts: (Some(web.clone()), 1),
            ..row.clone()
        },
        row.clone(),
        ScheduleRow { behind: 3, last: Some(job(4, "web-1", JobStatus::Failed)), ..row.clone() },
        ScheduleRow {
            source: Source::Plan(PlanId::from_parts(1, 2), hostile()),
            hosts: (Some(HostRef { name: hostile(), ..web.clone() }), 1),
            troubles: vec!["web-1 cannot follow it: its time zone is not known there".to_owned()],
            ..row.clone()
        },
        ScheduleRow {
            source: own(2, JobKind::Check),
            hosts: (Some(web), 1),
            schedule: Schedule { enabled: false, ..schedule("*/20 8-17 * * 1-5", 600) },
            last: None,
            ..row
        },
    ]
}

pub(super) fn add(pages: &mut Gallery<'_>, choices: &PlanChoices) {
    pages.add("schedules", &SchedulesPage { rows: rows() });
    pages.add("schedules-empty", &SchedulesPage { rows: Vec::new() });
    let (hosts, repos) = (choices.hosts.clone(), choices.repos.clone());
    pages.add("schedule-new", &ScheduleNewPage { form: FormState::default(), hosts, repos, plans: Vec::new() });
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let mut rows = rows();
    rows[0].hosts = (Some(HostRef { id: host_id(1), name: long::HOST.to_owned() }), 1);
    rows[1].source = Source::Plan(PlanId::from_parts(1, 1), long::HOST.to_owned());
    rows[2].source = Source::Plan(PlanId::from_parts(1, 1), long::named());
    pages.add("long-schedules", &SchedulesPage { rows });
}
