//! Plans: the list, one of them, making, changing, removing.

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;

use crate::{
    domain::{
        Compression, Hook, HostId, JobKind, KeepRules, PlanId, PlanOptions, Timestamp,
        host::Host,
        plan::{Plan, preset},
    },
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{
            Ui,
            forms::{self, Reader},
            jobs::listed,
            redraw, schedules,
        },
    },
    ops::{
        jobs::Desk,
        plans::{self as ops, PlanInput, PlanPatch},
    },
    paths::{self, route},
    store::{
        Connection, StoreError, hosts,
        hosts::HostFilter,
        jobs::{self, JobFilter},
        plans, repos, second_copies,
    },
    views::{
        components::{HostRef, Tone},
        plans::{HookRows, PlanChoices, PlanForm, PlanNewPage, PlanPage, PlanPreview, PlanRow, PlansPage, hooks},
    },
};

/// The operation counts in seconds, the form in minutes.
const JITTER: [(&str, &str); 1] = [("schedule.jitter_s", "schedule.jitter_min")];

fn covered(plan: &Plan, hosts: &[Host]) -> Vec<HostRef> {
    let covered = hosts.iter().filter(|host| plan.covers(host.id, &host.tags));
    covered.map(|host| HostRef { id: host.id, name: host.name.clone() }).collect()
}

/// `GET /plans`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui) -> Result<Response, HttpError> {
    let rows = ui
        .store()
        .read(|db| {
            let hosts = hosts::list(db, &HostFilter::default())?;
            let row = |plan: Plan| {
                let last = jobs::list(db, &JobFilter { plan_id: Some(plan.id), limit: 1, ..JobFilter::default() })?;
                Ok(PlanRow { covered: covered(&plan, &hosts).len() as u64, last: last.into_iter().next(), plan })
            };
            plans::list(db, None, 0)?.into_iter().map(row).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
    ui.show(&PlansPage { rows }).await
}

/// Which tab.
#[derive(Debug, Deserialize)]
pub struct PlanQuery {
    #[serde(default)]
    tab: String,
}

/// `GET /plans/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<PlanId>, Query(query): Query<PlanQuery>) -> Result<Response, HttpError> {
    let edit = query.tab == "edit";
    let (desk, now) = (ui.state.desk(), ui.now());
    let page = ui.store().read(move |db| load(db, (&desk, now), id, edit)).await?;
    ui.show(&page.ok_or_else(|| HttpError::not_found("such plan"))?).await
}

fn load(
    db: &Connection,
    (desk, now): (&Desk, Timestamp),
    id: PlanId,
    edit: bool,
) -> Result<Option<PlanPage>, StoreError> {
    let Some(plan) = plans::lookup(db, id)? else { return Ok(None) };
    let hosts = hosts::list(db, &HostFilter::default())?;
    let form = PlanForm::values_of(&plan);
    let edit =
        if edit { Some(PlanForm { form, choices: choices(db)?, of: Some(id), ..PlanForm::default() }) } else { None };
    let of_plan = JobFilter { plan_id: Some(id), limit: 10, ..JobFilter::default() };
    let jobs = listed(db, (desk, now), &of_plan)?;
    let covered = covered(&plan, &hosts);
    let drift = hosts::schedule_drift(db)?;
    let drifting = drift.iter().filter(|(host, state)| state.drifts() && covered.iter().any(|c| c.id == *host));
    let behind = drifting.count() as u64;
    let copies = match plan.second_repo {
        Some(_) => {
            let copies = JobFilter { plan_id: Some(id), kind: Some(JobKind::Copy), limit: 1, ..JobFilter::default() };
            jobs::list(db, &copies)?.into_iter().next()
        }
        None => None,
    };
    let schedule = plan.schedule.as_ref().map(|standing| &standing.schedule).filter(|schedule| schedule.enabled);
    let calendar = schedule.and_then(|schedule| schedule.calendar().ok());
    let upcoming = calendar.map(|calendar| calendar.upcoming(now, 10)).unwrap_or_default();
    let copies_behind = second_copies::behind(db, id)?;
    Ok(Some(PlanPage { covered, plan, jobs, upcoming, behind, last_copy: copies, copies_behind, edit }))
}

fn choices(db: &Connection) -> Result<PlanChoices, StoreError> {
    let hosts = hosts::list(db, &HostFilter::default())?;
    let mut tags: Vec<String> = hosts.iter().flat_map(|host| host.tags.clone()).collect();
    tags.sort();
    tags.dedup();
    Ok(PlanChoices {
        repos: repos::list(db, None, 0)?.into_iter().map(|repo| (repo.id, repo.name)).collect(),
        hosts: hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect(),
        tags,
    })
}

/// Where to begin.
#[derive(Debug, Deserialize)]
pub struct NewQuery {
    #[serde(default)]
    start: String,
}

/// `GET /plans/new`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn add(ui: Ui, Query(query): Query<NewQuery>) -> Result<Response, HttpError> {
    let choices = ui.store().read(choices).await?;
    let start = preset::start(&query.start);
    ui.show(&PlanNewPage { form: PlanForm { choices, start, ..PlanForm::default() } }).await
}

/// `POST /plans/preview`: the form again, under what it would do.
///
/// # Errors
/// 404 where it is of a plan that is gone; what was wrong is shown in the form.
pub async fn preview(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let of: Option<PlanId> = forms::text(&fields, "of").and_then(|id| id.parse().ok());
    let seen = match input(&fields) {
        Ok(input) => ops::preview(ui.store(), input, of, ui.now()).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    let (status, form, preview) = match seen {
        Ok(preview) => (StatusCode::OK, forms::typed(&fields), Some(shown(preview))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &JITTER)?;
            (status, form, None)
        }
    };
    let Some(id) = of else {
        let choices = ui.store().read(choices).await?;
        return ui
            .show_as(status, &PlanNewPage { form: PlanForm { form, choices, preview, ..PlanForm::default() } })
            .await;
    };
    let (desk, now) = (ui.state.desk(), ui.now());
    let page = ui.store().read(move |db| load(db, (&desk, now), id, true)).await?;
    let mut page = page.ok_or_else(|| HttpError::not_found("such plan"))?;
    page.edit = page.edit.map(|edit| PlanForm { form, preview, ..edit });
    ui.show_as(status, &page).await
}

fn shown(preview: ops::Preview) -> PlanPreview {
    let ops::Preview { hosts, paths, excludes, schedule, next, keeps, at_most, repos, beside } = preview;
    let why = |host: &ops::Covered| match (host.named, host.tags.is_empty()) {
        (true, true) => "by name".to_owned(),
        (true, false) => format!("by name, and by tag {}", host.tags.join(", ")),
        (false, _) => format!("by tag {}", host.tags.join(", ")),
    };
    let hosts = hosts.into_iter().map(|host| (host.id, host.name.clone(), why(&host))).collect();
    PlanPreview { hosts, paths, excludes, schedule, next, keeps, at_most, repos, beside }
}

/// `POST /plans/new`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let made = match input(&fields) {
        Ok(input) => ops::create(ui.store(), ui.actor(), input).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match made {
        Ok(plan) => {
            Ok(ui.go_saying(&paths::plan(plan.id), Tone::Ok, "The plan is made. Start a first backup from its hosts."))
        }
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &JITTER)?;
            let choices = ui.store().read(choices).await?;
            ui.show_as(status, &PlanNewPage { form: PlanForm { form, choices, ..PlanForm::default() } }).await
        }
    }
}

/// `POST /plans/{id}`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<PlanId>, fields: FormFields) -> Result<Response, HttpError> {
    let changed = match input(&fields) {
        Ok(input) => ops::update(ui.store(), ui.actor(), id, whole(input, &fields)).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match changed {
        Ok(_) => Ok(ui.go_saying(&paths::plan(id), Tone::Ok, "Saved. Jobs from now on follow it.")),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &JITTER)?;
            let (desk, now) = (ui.state.desk(), ui.now());
            let page = ui.store().read(move |db| load(db, (&desk, now), id, true)).await?;
            let mut page = page.ok_or_else(|| HttpError::not_found("such plan"))?;
            page.edit = page.edit.map(|edit| PlanForm { form, ..edit });
            ui.show_as(status, &page).await
        }
    }
}

/// A change that says everything; the schedule only where the form asked for it.
fn whole(input: PlanInput, fields: &FormFields) -> PlanPatch {
    PlanPatch {
        name: Some(input.name),
        repo_id: Some(input.repo_id),
        second_repo_id: Some(input.second_repo_id),
        hosts: Some(input.hosts),
        tags: Some(input.tags),
        paths: Some(input.paths),
        excludes: Some(input.excludes),
        options: Some(input.options),
        retention: Some(input.retention),
        schedule: forms::text(fields, "schedule.preset").map(|_| input.schedule),
        hooks: Some(input.hooks),
    }
}

fn input(fields: &FormFields) -> Result<PlanInput, HttpError> {
    let mut reader = Reader::default();
    let repo_id = reader.needed(fields, "repo_id", "one of the repositories");
    let second_repo_id = reader.value(fields, "second_repo_id", "one of the repositories");
    let hosts: Option<Vec<HostId>> = fields.all("hosts").map(|id| id.parse().ok()).collect();
    let (options, retention) = (options(&mut reader, fields), retention(&mut reader, fields));
    let hooks = hooks(&mut reader, fields);
    let schedule = forms::text(fields, "schedule.preset").and_then(|_| schedules::when(&mut reader, fields));
    reader.refuse()?;
    Ok(PlanInput {
        name: fields.text("name").to_owned(),
        repo_id: repo_id.ok_or_else(|| HttpError::invalid_field("repo_id", "is missing"))?,
        second_repo_id,
        hosts: hosts.ok_or_else(|| HttpError::invalid_field("hosts", "must be hosts of the list"))?,
        tags: forms::words(fields, "tags"),
        paths: forms::lines(fields, "paths"),
        excludes: forms::lines(fields, "excludes"),
        options,
        retention,
        schedule,
        hooks,
    })
}

fn options(reader: &mut Reader, fields: &FormFields) -> PlanOptions {
    let mut limit = |name| reader.value(fields, name, "a whole number of KiB a second").unwrap_or(0);
    PlanOptions {
        limit_upload_kib: limit("options.limit_upload_kib"),
        limit_download_kib: limit("options.limit_download_kib"),
        one_file_system: fields.is_set("options.one_file_system"),
        exclude_caches: fields.is_set("options.exclude_caches"),
        log_files: fields.is_set("options.log_files"),
        backup_tags: forms::words(fields, "options.backup_tags"),
        exclude_files: forms::lines(fields, "options.exclude_files"),
        exclude_larger_than: forms::text(fields, "options.exclude_larger_than"),
        compression: match fields.text("options.compression") {
            "auto" => Some(Compression::Auto),
            "off" => Some(Compression::Off),
            "max" => Some(Compression::Max),
            _ => None,
        },
        nice: reader.value(fields, "options.nice", "a number from 0 to 19"),
        io_idle: fields.is_set("options.io_idle"),
        read_concurrency: reader.value(fields, "options.read_concurrency", "a whole number of files"),
        skip_if_unchanged: fields.is_set("options.skip_if_unchanged"),
        no_scan: fields.is_set("options.no_scan"),
        stdin_command: forms::text(fields, "options.stdin_command"),
        stdin_filename: forms::text(fields, "options.stdin_filename"),
        shadow_copy: fields.is_set("options.shadow_copy"),
    }
}

/// The rows of hooks that name a command; the others are blank. Errors are told by the place among those, which is that of the form once it is drawn again.
fn hooks(reader: &mut Reader, fields: &FormFields) -> Vec<Hook> {
    let named = |row: &usize| forms::text(fields, &format!("hooks[{row}].run")).is_some();
    let rows = (0..HookRows::MOST).filter(named);
    let hook = |row: usize| {
        let name = |field: &str| format!("hooks[{row}].{field}");
        Some(Hook {
            at: hooks::moment(fields.text(&name("at")))?,
            run: forms::text(fields, &name("run"))?,
            timeout_s: reader.value(fields, &name("timeout_s"), "a whole number of seconds").unwrap_or(300),
            on_failure: hooks::failure(fields.text(&name("on_failure")))?,
        })
    };
    rows.filter_map(hook).collect()
}

fn retention(reader: &mut Reader, fields: &FormFields) -> KeepRules {
    let mut count = |name| reader.value(fields, name, "a whole number");
    KeepRules {
        keep_last: count("retention.keep_last"),
        keep_hourly: count("retention.keep_hourly"),
        keep_daily: count("retention.keep_daily"),
        keep_weekly: count("retention.keep_weekly"),
        keep_monthly: count("retention.keep_monthly"),
        keep_yearly: count("retention.keep_yearly"),
        keep_within: forms::text(fields, "retention.keep_within"),
        keep_within_hourly: forms::text(fields, "retention.keep_within_hourly"),
        keep_within_daily: forms::text(fields, "retention.keep_within_daily"),
        keep_within_weekly: forms::text(fields, "retention.keep_within_weekly"),
        keep_within_monthly: forms::text(fields, "retention.keep_within_monthly"),
        keep_within_yearly: forms::text(fields, "retention.keep_within_yearly"),
        keep_tags: forms::words(fields, "retention.keep_tags"),
    }
}

/// `POST /plans/{id}/enabled`: pauses the schedule, or lets it go on. Leads back to where it was asked.
///
/// # Errors
/// 404; 409 where the plan has no schedule.
pub async fn set_enabled(ui: Ui, Id(id): Id<PlanId>, fields: FormFields) -> Result<Response, HttpError> {
    let enabled = fields.is_set("enabled");
    ops::set_enabled(ui.store(), ui.actor(), id, enabled).await?;
    let to = if fields.is_set("from_plan") { paths::plan(id) } else { route::SCHEDULES.to_owned() };
    Ok(ui.go_saying(&to, Tone::Ok, schedules::toggled(enabled)))
}

/// `POST /plans/{id}/remove`.
///
/// # Errors
/// 404; 422 without its name as confirmation.
pub async fn remove(ui: Ui, Id(id): Id<PlanId>, fields: FormFields) -> Result<Response, HttpError> {
    let plan = ui.store().read(move |db| plans::lookup(db, id)).await?;
    let plan = plan.ok_or_else(|| HttpError::not_found("such plan"))?;
    forms::confirmed(&fields, &plan.name)?;
    ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(route::PLANS, Tone::Ok, &format!("{} is removed. Snapshots that it made stay.", plan.name)))
}
