//! Schedules: the list, adding one of the server's own, pausing, running now, removing; and from the fields of "when" to a schedule.

use std::collections::HashMap;

use axum::response::Response;

use crate::{
    domain::{
        CopySpec, HostId, Operation, RepoId, ScheduleId, Selection, Timestamp,
        schedule::{
            CatchUp, Coverage, Entry, OwnSchedule, Schedule, Side, agent_entries,
            preset::{Preset, TimeOfDay, Window},
        },
    },
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{
            Ui,
            forms::{self, Reader},
            redraw,
        },
    },
    ops::schedules::{self as ops, ScheduleInput, ScheduleParams, SchedulePatch},
    paths::{self, route},
    store::{
        Db, StoreError,
        hosts::{self, HostFilter, ScheduleState},
        jobs::{self, JobFilter},
        moments, plans, repos, schedules,
    },
    views::{
        FormState,
        components::{HostRef, Tone},
        schedules::{ScheduleNewPage, ScheduleRow, SchedulesPage, Source},
    },
};

/// Moments of the day ahead that are drawn.
const DRAWN: usize = 48;

/// Errors of the operation and the form's fields that they belong to.
const NAMES: [(&str, &str); 6] = [
    ("cron", "schedule.cron"),
    ("timezone", "schedule.timezone"),
    ("jitter_s", "schedule.jitter_min"),
    ("params.args", "paths"),
    ("params.operation", "to"),
    ("params.operation.copy.to", "to"),
];

/// `GET /schedules`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui) -> Result<Response, HttpError> {
    let now = ui.now();
    let rows = ui.store().read(move |db| rows(db, now)).await?;
    ui.show(&SchedulesPage { rows }).await
}

fn rows(db: &Db, now: Timestamp) -> Result<Vec<ScheduleRow>, StoreError> {
    let hosts: Vec<_> = hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?).collect();
    let drift: HashMap<HostId, ScheduleState> = hosts::schedule_drift(db)?.into_iter().collect();
    let plans = plans::list(db, None, 0)?;
    let coverage = Coverage::new(plans.clone());
    let mut covered: HashMap<_, Vec<(HostRef, Entry)>> = HashMap::new();
    for host in &hosts {
        for plan in coverage.of(host.id, &host.tags) {
            if let Some(entry) = Entry::of_plan(plan, host.id) {
                let host = HostRef { id: host.id, name: host.name.clone() };
                covered.entry(plan.id).or_default().push((host, entry));
            }
        }
    }
    let mut rows = Vec::new();
    for plan in plans {
        let Some(standing) = &plan.schedule else { continue };
        let hosts = covered.remove(&plan.id).unwrap_or_default();
        let last = jobs::list(db, &JobFilter { plan_id: Some(plan.id), limit: 1, ..JobFilter::default() })?;
        rows.push(ScheduleRow {
            next: ahead(&standing.schedule, now),
            schedule: standing.schedule.clone(),
            behind: hosts.iter().filter(|(host, _)| drift.get(&host.id).is_some_and(ScheduleState::drifts)).count()
                as u64,
            troubles: troubles(&hosts, &drift),
            hosts: (hosts.first().map(|(host, _)| host.clone()), hosts.len() as u64),
            repo_name: Some(plan.repo_name),
            source: Source::Plan(plan.id, plan.name),
            last: last.into_iter().next(),
        });
    }
    for own in schedules::list(db, None)? {
        rows.push(own_row(db, own, &coverage, &drift, now)?);
    }
    // What runs next stands first; what is paused, last.
    rows.sort_by_key(|row| (!row.schedule.enabled, row.next.first().copied()));
    Ok(rows)
}

fn own_row(
    db: &Db,
    own: OwnSchedule,
    coverage: &Coverage,
    drift: &HashMap<HostId, ScheduleState>,
    now: Timestamp,
) -> Result<ScheduleRow, StoreError> {
    let host = HostRef { id: own.host_id, name: own.host_name.clone() };
    let watched = agent_entries(coverage, own.host_id, &[], std::slice::from_ref(&own));
    let entry = watched.into_iter().find(|entry| entry.id == own.id).map(|entry| (host.clone(), entry));
    let by_agent = Side::of(&own.kind) == Side::Agent;
    Ok(ScheduleRow {
        next: ahead(&own.standing.schedule, now),
        last: moments::last_of(db, own.id)?,
        behind: u64::from(by_agent && drift.get(&own.host_id).is_some_and(ScheduleState::drifts)),
        troubles: troubles(entry.as_slice(), drift),
        hosts: (Some(host), 1),
        repo_name: own.repo_name,
        schedule: own.standing.schedule,
        source: Source::Own(own.id, own.kind),
    })
}

/// Why entries are not followed, each reason with its host, the first few.
fn troubles(entries: &[(HostRef, Entry)], drift: &HashMap<HostId, ScheduleState>) -> Vec<String> {
    let of = |(host, entry): &(HostRef, Entry)| {
        let state = drift.get(&host.id)?;
        let found = |list: &[crate::domain::schedule::ScheduleRejection]| {
            list.iter().find(|rejected| rejected.schedule_id == entry.id).map(|rejected| rejected.reason.clone())
        };
        let refused = found(&state.rejected).map(|reason| format!("{} cannot follow it: {reason}", host.name));
        let unarmed = || {
            found(&state.unarmed)
                .map(|reason| format!("{} does not run it while this server is away: {reason}", host.name))
        };
        refused.or_else(unarmed)
    };
    entries.iter().filter_map(of).take(3).collect()
}

/// The next moment, and all of the coming day.
fn ahead(schedule: &Schedule, now: Timestamp) -> Vec<Timestamp> {
    let Ok(calendar) = schedule.calendar() else { return Vec::new() };
    let mut moments = calendar.upcoming(now, DRAWN);
    let day = now.plus_s(86_400);
    let within = moments.iter().filter(|at| **at < day).count();
    moments.truncate(within.max(1));
    moments
}

/// `GET /schedules/new`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn add(ui: Ui) -> Result<Response, HttpError> {
    let page = ui.store().read(|db| blank(db, FormState::default())).await?;
    ui.show(&page).await
}

fn blank(db: &Db, form: FormState) -> Result<ScheduleNewPage, StoreError> {
    let hosts: Vec<_> = hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?).collect();
    Ok(ScheduleNewPage {
        form,
        hosts: hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect(),
        repos: repos::list(db, None, 0)?.into_iter().map(|repo| (repo.id, repo.name)).collect(),
        plans: plans::list(db, None, 0)?
            .into_iter()
            .filter(|plan| !plan.retention.keeps_all())
            .map(|plan| (plan.id, plan.name))
            .collect(),
    })
}

/// `POST /schedules/new`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let made = match input(&fields) {
        Ok(input) => ops::create(ui.store(), ui.actor(), input).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match made {
        Ok(own) => {
            let news = format!("Added: {}.", own.standing.schedule.in_words());
            Ok(ui.go_saying(route::SCHEDULES, Tone::Ok, &news))
        }
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &NAMES)?;
            let page = ui.store().read(move |db| blank(db, form)).await?;
            ui.show_as(status, &page).await
        }
    }
}

fn input(fields: &FormFields) -> Result<ScheduleInput, HttpError> {
    let mut reader = Reader::default();
    let host_id = reader.needed(fields, "host_id", "one of the hosts");
    let kind = fields.text("kind").to_owned();
    let plan_id = reader.value(fields, "plan_id", "one of the plans").filter(|_| kind == "forget");
    // A plan says where to.
    let repo_id = reader.value(fields, "repo_id", "one of the repositories").filter(|_| plan_id.is_none());
    let args = (kind == "backup").then(|| forms::lines(fields, "paths"));
    let to: Option<RepoId> = reader.value(fields, "to", "one of the repositories").filter(|_| kind == "copy");
    let copy = to.map(|to| Operation::Copy(CopySpec { to, snapshots: Vec::new(), of: Selection::default() }));
    let schedule = when(&mut reader, fields);
    reader.refuse()?;
    let schedule = schedule.ok_or_else(|| HttpError::invalid_field("schedule.preset", "must be one of the list"))?;
    Ok(ScheduleInput {
        host_id,
        kind,
        plan_id,
        repo_id,
        params: ScheduleParams { args, operation: copy },
        cron: schedule.cron,
        timezone: schedule.timezone,
        jitter_s: schedule.jitter_s,
        catch_up: schedule.catch_up,
        enabled: schedule.enabled,
    })
}

/// The schedule that the fields of "when" say; `None` for "by hand only", and where something was noted.
pub(super) fn when(reader: &mut Reader, fields: &FormFields) -> Option<Schedule> {
    let preset = match fields.text("schedule.preset") {
        "none" => return None,
        "daily" => Preset::Daily(window(reader, fields)?),
        "weekly" => {
            let day = small(reader, fields, "schedule.weekday", 0..=6, "a day of the week");
            Preset::Weekly(day?, window(reader, fields)?)
        }
        "monthly" => {
            let day = small(reader, fields, "schedule.monthday", 1..=28, "a day from 1 to 28");
            Preset::Monthly(day?, window(reader, fields)?)
        }
        "hourly" => Preset::Hourly(small(reader, fields, "schedule.minute", 0..=59, "a minute from 0 to 59")?),
        "hours" => {
            let hours = small(reader, fields, "schedule.hours", 1..=12, "one of the list");
            Preset::EveryHours(hours?, small(reader, fields, "schedule.minute", 0..=59, "a minute from 0 to 59")?)
        }
        "custom" => {
            let minutes: u32 = reader.value(fields, "schedule.jitter_min", "a whole number of minutes").unwrap_or(0);
            Preset::Custom(fields.text("schedule.cron").to_owned(), minutes.saturating_mul(60))
        }
        _ => {
            reader.refuse_field("schedule.preset", "must be one of the list");
            return None;
        }
    };
    let (cron, jitter_s) = preset.cron();
    let catch_up = if fields.text("schedule.catch_up") == "skip" { CatchUp::Skip } else { CatchUp::Once };
    Some(Schedule {
        cron,
        timezone: fields.text("schedule.timezone").to_owned(),
        jitter_s,
        catch_up,
        enabled: fields.is_set("schedule.enabled"),
    })
}

fn window(reader: &mut Reader, fields: &FormFields) -> Option<Window> {
    let from: Option<TimeOfDay> = reader.needed(fields, "schedule.from", "a time such as 01:00");
    let to: Option<TimeOfDay> = reader.needed(fields, "schedule.to", "a time such as 05:00");
    Some(Window { from: from?, to: to? })
}

fn small(
    reader: &mut Reader,
    fields: &FormFields,
    name: &str,
    range: std::ops::RangeInclusive<u8>,
    wanted: &str,
) -> Option<u8> {
    let value: u8 = reader.needed(fields, name, wanted)?;
    if !range.contains(&value) {
        reader.refuse_field(name, &format!("must be {wanted}"));
        return None;
    }
    Some(value)
}

/// `POST /schedules/{id}/enabled`.
///
/// # Errors
/// 404, 409 for one that follows from a plan.
pub async fn set_enabled(ui: Ui, Id(id): Id<ScheduleId>, fields: FormFields) -> Result<Response, HttpError> {
    let enabled = fields.is_set("enabled");
    let patch = SchedulePatch { enabled: Some(enabled), ..SchedulePatch::default() };
    ops::update(ui.store(), ui.actor(), id, patch).await?;
    Ok(ui.go_saying(route::SCHEDULES, Tone::Ok, toggled(enabled)))
}

/// What to say after a schedule was paused or let go on.
pub(super) fn toggled(enabled: bool) -> &'static str {
    if enabled {
        "The schedule goes on with its next time."
    } else {
        "The schedule is paused: it makes no jobs until it is resumed."
    }
}

/// `POST /schedules/{id}/run`. Leads to the job.
///
/// # Errors
/// 404; 409 where the host can run nothing.
pub async fn run(ui: Ui, Id(id): Id<ScheduleId>) -> Result<Response, HttpError> {
    let job = ops::run(&ui.state.desk(), ui.actor(), id).await?;
    Ok(ui.go(&paths::job(job)))
}

/// `POST /schedules/{id}/remove`.
///
/// # Errors
/// 404, 409 for one that follows from a plan.
pub async fn remove(ui: Ui, Id(id): Id<ScheduleId>) -> Result<Response, HttpError> {
    ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(route::SCHEDULES, Tone::Ok, "The schedule is removed. Its jobs stay."))
}
