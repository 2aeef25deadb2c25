//! A host's page and what can be ordered there: backups, restores, changes of the host itself.

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;

use crate::{
    domain::{
        HostId, Overwrite, RunbookResult, Timestamp, Vitals,
        host::Host,
        schedule::{ScheduleRejection, Side},
        snapshot::SnapshotNo,
        standing::{self, Standing, Thresholds},
    },
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, jobs::listed, probes, reach, redraw, runbooks, snapshots},
    },
    ops::{
        facets::{self, HostPatch},
        hosts as ops,
        jobs::{self as orders, JobRequest},
        schedules::list::{self, Listed},
        survey::{self, Surveyed},
    },
    paths::{self, route},
    store::{
        Connection, StoreError, hosts,
        jobs::{self, JobFilter},
        repos, sites, statuses,
    },
    views::{
        FormState,
        components::Tone,
        host::{CoveringPlan, HostPage, HostSchedule, HostTab, Vitals as VitalsView, health::HealthTab},
        runbooks::OffersTab,
        schedules::kind_in_words,
        status::StatusCard,
    },
};

/// Which tab.
#[derive(Debug, Deserialize)]
pub struct HostQuery {
    #[serde(default)]
    tab: String,
    /// Of the tab of snapshots: the last of the page before.
    after: Option<i64>,
}

/// Which forms of the page were typed into.
#[derive(Default)]
pub(super) struct Forms {
    pub(super) restore: FormState,
    pub(super) once: FormState,
    pub(super) settings: FormState,
    pub(super) reach: FormState,
}

/// `GET /hosts/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<HostId>, Query(query): Query<HostQuery>) -> Result<Response, HttpError> {
    let mut page = load(&ui, id, HostTab::of(&query.tab), Forms::default()).await?;
    if page.tab == HostTab::Health {
        page.health = probes::tab(&ui.state, &page.host, ui.now()).await?;
    }
    if page.tab == HostTab::Snapshots {
        let after = query.after.map(SnapshotNo);
        let found = ui.store().read(move |db| snapshots::of_host(db, id, after)).await?;
        (page.snapshots, page.older_snapshots) = found;
    }
    if page.tab == HostTab::Operations {
        page.offers = runbooks::of_host(&ui, &page.host).await?;
    }
    if page.tab == HostTab::Sites {
        page.sites = ui.store().read(move |db| sites::list(db, Some(id), None, 0)).await?;
    }
    ui.show(&page).await
}

pub(super) async fn load(ui: &Ui, id: HostId, tab: HostTab, forms: Forms) -> Result<HostPage, HttpError> {
    let surveyed = survey::of_host(ui.store(), &ui.state.hub, ui.now(), id).await?;
    let Surveyed { host, status, assessment, plans, .. } = surveyed.ok_or_else(|| HttpError::not_found("such host"))?;
    let limit = if tab == HostTab::Jobs { 50 } else { 5 };
    let (desk, now) = (ui.state.desk(), ui.now());
    let thresholds = ui.state.settings.status;
    let (plans, repos, jobs, (schedules, schedule_versions), status_card) = ui
        .store()
        .read(move |db| {
            let plans = plans.into_iter().map(|plan| with_last(db, id, plan)).collect::<Result<_, _>>()?;
            let repos = repos::list(db, None, 0)?.into_iter().map(|repo| (repo.id, repo.name)).collect();
            let of_host = JobFilter { host_id: Some(id), limit, ..JobFilter::default() };
            let card = status_card(db, id, thresholds, now)?;
            Ok::<_, StoreError>((plans, repos, listed(db, (&desk, now), &of_host)?, schedules_of(db, id, now)?, card))
        })
        .await?;
    let known = facets::known(ui.store(), id).await?.ok_or_else(|| HttpError::not_found("such host"))?;
    Ok(HostPage {
        ways: reach::ways(ui, known),
        tested: None,
        reach_form: forms.reach,
        host,
        status,
        protection: assessment.protection,
        tab,
        strip: assessment.strip,
        vitals: ui.state.hub.presence(id).map(|presence| vitals(&presence.vitals)),
        plans,
        schedules,
        schedule_versions,
        repos,
        jobs,
        snapshots: Vec::new(),
        offers: OffersTab::default(),
        older_snapshots: None,
        status_card,
        health: HealthTab::default(),
        sites: Vec::new(),
        restore_form: forms.restore,
        once_form: forms.once,
        settings_form: forms.settings,
    })
}

fn status_card(
    db: &Connection,
    host: HostId,
    thresholds: Thresholds,
    now: Timestamp,
) -> Result<StatusCard, StoreError> {
    let last = statuses::of_host(db, host)?;
    let found = match last.as_ref().and_then(|last| last.found.as_ref()) {
        Some((_, job, _)) => jobs::lookup(db, *job)?.and_then(|job| job.summary),
        None => None,
    };
    let results = found.and_then(|summary| serde_json::from_value::<RunbookResult>(summary).ok());
    let standing = Standing::of(last.as_ref(), &thresholds, now);
    Ok(StatusCard { host, standing, last, results: results.unwrap_or_default().results, thresholds })
}

fn schedules_of(db: &Connection, host: HostId, now: Timestamp) -> Result<(Vec<HostSchedule>, (u64, u64)), StoreError> {
    let state = hosts::schedule_state(db, host)?.map(|(_, _, state)| state).unwrap_or_default();
    let of = |listed: Listed| {
        let entry = listed.entry;
        let reason = |list: &[ScheduleRejection]| {
            list.iter().find(|rejected| rejected.schedule_id == entry.id).map(|rejected| rejected.reason.clone())
        };
        HostSchedule {
            name: if entry.plan_id.is_some() {
                format!("Backup “{}”", entry.name)
            } else {
                kind_in_words(&entry.kind)
            },
            side: Side::of(&entry.kind),
            fires_at: entry.next(now).filter(|_| entry.standing.schedule.enabled).map(|(_, fires)| fires),
            rejected: reason(&state.rejected),
            unarmed: reason(&state.unarmed),
            schedule: entry.standing.schedule,
        }
    };
    let mut found: Vec<HostSchedule> = list::all(db, Some(host))?.into_iter().map(of).collect();
    found.sort_by_key(|schedule| (schedule.fires_at.is_none(), schedule.fires_at));
    Ok((found, (state.version, state.acked)))
}

fn with_last(db: &Connection, host: HostId, plan: crate::domain::plan::Plan) -> Result<CoveringPlan, StoreError> {
    let filter = JobFilter { host_id: Some(host), plan_id: Some(plan.id), limit: 1, ..JobFilter::default() };
    let last = jobs::list(db, &filter)?.into_iter().next();
    Ok(CoveringPlan { plan, last })
}

fn vitals(heard: &Vitals) -> VitalsView {
    VitalsView {
        load: heard.load,
        mem: heard.mem.map(|usage| (usage.free, usage.total)),
        troubles: heard.troubles.clone(),
        disks: heard.disk.iter().map(|(mount, usage)| (mount.clone(), usage.free, usage.total)).collect(),
    }
}

async fn lookup(ui: &Ui, id: HostId) -> Result<Host, HttpError> {
    let host = ui.store().read(move |db| hosts::lookup(db, id)).await?;
    host.ok_or_else(|| HttpError::not_found("such host"))
}

/// `POST /hosts/{id}/run-backup`: by a plan (the only one, where none is named), or once of some paths. Leads to the job.
///
/// # Errors
/// 404; 422 where the plan does not cover the host, or none is named and there is not exactly one.
pub async fn run_backup(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let once = !fields.text("repo_id").is_empty() || !fields.text("paths").is_empty();
    match orders::create(&ui.state.desk(), ui.actor(), id, backup_request(&fields, once)?).await {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) if once => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[("args", "paths")])?;
            refused(&ui, id, status, Forms { once: form, ..Forms::default() }).await
        }
        Err(e) => Err(e.into()),
    }
}

fn backup_request(fields: &FormFields, once: bool) -> Result<JobRequest, HttpError> {
    let mut reader = forms::Reader::default();
    let request = JobRequest {
        kind: "backup".to_owned(),
        plan_id: reader.value(fields, "plan_id", "a plan's id"),
        repo_id: reader.value(fields, "repo_id", "a repository's id"),
        args: once.then(|| forms::lines(fields, "paths")),
        ..JobRequest::default()
    };
    reader.refuse()?;
    Ok(request)
}

/// `POST /hosts/{id}/check-status`: orders a check, and leads to its job.
///
/// # Errors
/// 404; 422 where there is no way to the host.
pub async fn check_status(ui: Ui, Id(id): Id<HostId>, _: FormFields) -> Result<Response, HttpError> {
    let request = JobRequest { kind: standing::CHECK.to_owned(), ..JobRequest::default() };
    let job = orders::create(&ui.state.desk(), ui.actor(), id, request).await?;
    Ok(ui.go(&paths::job(job)))
}

/// `POST /hosts/{id}/restore`. The target `/` means the original place, which needs the host's name as confirmation.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn restore(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let ordered = match restore_request(&fields) {
        Ok(request) => orders::create(&ui.state.desk(), ui.actor(), id, request).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match ordered {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[])?;
            refused(&ui, id, status, Forms { restore: form, ..Forms::default() }).await
        }
    }
}

fn restore_request(fields: &FormFields) -> Result<JobRequest, HttpError> {
    let mut reader = forms::Reader::default();
    let target = forms::text(fields, "target");
    let in_place = target.as_deref() == Some("/");
    let overwrite = match fields.text("overwrite") {
        "" | "always" => Overwrite::Always,
        "if-changed" => Overwrite::IfChanged,
        "if-newer" => Overwrite::IfNewer,
        "never" => Overwrite::Never,
        _ => return Err(HttpError::invalid_field("overwrite", "must be always, if-changed, if-newer or never")),
    };
    let request = JobRequest {
        kind: "restore".to_owned(),
        repo_id: reader.value(fields, "repo_id", "a repository's id"),
        snapshot: forms::text(fields, "snapshot"),
        paths: Some(forms::lines(fields, "paths")),
        target: target.filter(|_| !in_place),
        in_place: in_place.then_some(true),
        overwrite: Some(overwrite),
        confirm: forms::text(fields, "confirm").filter(|_| in_place),
        ..JobRequest::default()
    };
    reader.refuse()?;
    Ok(request)
}

/// The page again with a refused form.
async fn refused(ui: &Ui, id: HostId, status: StatusCode, forms: Forms) -> Result<Response, HttpError> {
    let page = load(ui, id, HostTab::Overview, forms).await?;
    ui.show_as(status, &page).await
}

/// `POST /hosts/{id}/settings`: name and tags.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let (name, tags) = (Some(fields.text("name").to_owned()), Some(forms::words(&fields, "tags")));
    let patch = HostPatch { name, tags, ..HostPatch::default() };
    let who = (ui.actor(), ui.user.role);
    match facets::change(ui.store(), &ui.state.vault, who, id, patch).await {
        Ok(_) => Ok(ui.go_saying(&paths::host_tab(id, "settings"), Tone::Ok, "Saved.")),
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let page = load(&ui, id, HostTab::Settings, Forms { settings: form, ..Forms::default() }).await?;
            ui.show_as(status, &page).await
        }
    }
}

/// `POST /hosts/{id}/revoke`: takes the agent's identity away.
///
/// # Errors
/// 404; 422 without the host's name as confirmation.
pub async fn revoke(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    forms::confirmed(&fields, &lookup(&ui, id).await?.name)?;
    let host = ops::revoke(ui.store(), ui.actor(), id).await?;
    let news = format!("The agent of {} is revoked: it can no longer connect.", host.name);
    Ok(ui.go_saying(&paths::host(id), Tone::Ok, &news))
}

/// `POST /hosts/{id}/remove`.
///
/// # Errors
/// 404; 422 without the host's name as confirmation.
pub async fn remove(ui: Ui, Id(id): Id<HostId>, fields: FormFields) -> Result<Response, HttpError> {
    let host = lookup(&ui, id).await?;
    forms::confirmed(&fields, &host.name)?;
    ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(
        route::HOSTS,
        Tone::Ok,
        &format!("{} is removed. Its snapshots stay in their repositories.", host.name),
    ))
}
