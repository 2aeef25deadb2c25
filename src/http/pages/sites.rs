//! Sites: the list, one of them, adding what a discovery found, changing, removing, looking for more.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{HostId, JobId, SiteId, Timestamp, site::DISCOVER, user},
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, redraw},
    },
    ops::{
        jobs::{self as orders, Desk, JobRequest},
        sites::{self as ops, SitePatch},
    },
    paths,
    runbook::{Input, Role, Runbook, Scope},
    store::{Connection, StoreError, jobs, sites},
    views::{
        FormState,
        components::{JobList, Tone},
        format,
        sites::{SitePage, SiteRunbook, SitesPage},
    },
};

/// Sites on one page.
const PAGE: u32 = 100;
/// Jobs on a site's page.
const JOBS: u32 = 20;

/// Where the list goes on.
#[derive(Debug, Deserialize)]
pub struct SitesQuery {
    #[serde(default)]
    after: String,
}

/// `GET /sites`.
///
/// # Errors
/// 400 where the address names no site to go on from.
pub async fn list(ui: Ui, Query(query): Query<SitesQuery>) -> Result<Response, HttpError> {
    let after: Option<SiteId> = match query.after.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| HttpError::bad_request("The list can't go on from there.".to_owned()))?),
    };
    let mut rows = ui.store().read(move |db| sites::list(db, None, after, PAGE + 1)).await?;
    let more = rows.len() > PAGE as usize;
    rows.truncate(PAGE as usize);
    let next = rows.last().filter(|_| more).map(|site| site.id);
    ui.show(&SitesPage { rows, next }).await
}

/// `GET /sites/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<SiteId>) -> Result<Response, HttpError> {
    let page = load(&ui, id, FormState::default()).await?;
    ui.show(&page).await
}

async fn load(ui: &Ui, id: SiteId, form: FormState) -> Result<SitePage, HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let found = ui
        .store()
        .read(move |db| Ok::<_, StoreError>((sites::lookup(db, id)?, jobs_of(db, (&desk, now), id)?)))
        .await?;
    let (Some(site), jobs) = found else { return Err(HttpError::not_found("such site")) };
    Ok(SitePage { site, jobs, runbooks: runbooks(ui).await, form })
}

fn jobs_of(db: &Connection, (desk, now): (&Desk, Timestamp), site: SiteId) -> Result<JobList, StoreError> {
    let mut rows = Vec::new();
    for id in sites::jobs(db, site, JOBS)? {
        rows.extend(jobs::lookup(db, id)?);
    }
    let waits = jobs::waits_for(db, &rows, (desk.rules, now), |host| desk.hub.is_online(host))?;
    Ok(JobList { rows, waits })
}

/// The runbooks that are about a site. A folder that can't be read is told where runbooks are listed.
async fn runbooks(ui: &Ui) -> Vec<SiteRunbook> {
    let library = ui.state.runbooks.clone();
    let all = tokio::task::spawn_blocking(move || library.all()).await;
    let entries = all.ok().and_then(Result::ok).unwrap_or_default();
    let books = entries.into_iter().filter_map(|entry| entry.state.ok()).filter(|book| book.scope == Scope::Site);
    let at_once = |book: &Runbook| {
        let answered = |input: &Input| input.optional || input.default.is_some();
        !book.destructive && !book.steps.iter().any(|step| step.destructive) && book.inputs.iter().all(answered)
    };
    books
        .map(|book| SiteRunbook {
            at_once: at_once(&book),
            needs: if book.role == Role::Admin { user::Role::Admin } else { user::Role::Operator },
            name: book.name,
            title: book.title,
            description: book.description,
        })
        .collect()
}

/// `POST /sites/from-discovery`: those of `key`, or all; back to the job.
///
/// # Errors
/// 404, 409; 422 where `job_id` is none.
pub async fn add(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let job: Option<JobId> = reader.needed(&fields, "job_id", "a job's id");
    reader.refuse()?;
    let Some(job) = job else { return Err(HttpError::invalid_field("job_id", "is missing")) };
    let keys: Vec<String> = fields.all("key").map(str::to_owned).collect();
    let added = ops::from_discovery(ui.store(), ui.actor(), job, (!keys.is_empty()).then_some(keys)).await?;
    let mut news = match (added.created.as_slice(), added.skipped.len()) {
        ([], _) => "Nothing was added: all of it is there already.".to_owned(),
        ([one], _) => format!("{} is added.", one.fields.name),
        (many, _) => format!("{} are added.", format::plural(many.len() as u64, "site", "sites")),
    };
    let tone = if added.errors.is_empty() { Tone::Ok } else { Tone::Warn };
    if let Some((key, why)) = added.errors.first() {
        news =
            format!("{} were added; {} could not be. The first, {key}: {why}", added.created.len(), added.errors.len());
    }
    Ok(ui.go_saying(&paths::job(job), tone, &news))
}

/// `POST /sites/{id}`: name, slug, kind, folder, address.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<SiteId>, fields: FormFields) -> Result<Response, HttpError> {
    let patch = SitePatch {
        name: Some(fields.text("name").to_owned()),
        slug: Some(fields.text("slug").trim().to_owned()),
        kind: Some(fields.text("kind").trim().to_owned()),
        root: Some(forms::text(&fields, "root")),
        url: Some(forms::text(&fields, "url")),
        ..SitePatch::default()
    };
    match ops::update(ui.store(), ui.actor(), id, patch).await {
        Ok(_) => Ok(ui.go_saying(&paths::sites::site(id), Tone::Ok, "Saved.")),
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let page = load(&ui, id, form).await?;
            ui.show_as(status, &page).await
        }
    }
}

/// `POST /sites/{id}/run`: a runbook that needs no answers and removes nothing. Leads to the job.
///
/// # Errors
/// 403, 404; 409 and 422 where it can't be run.
pub async fn run(ui: Ui, Id(id): Id<SiteId>, fields: FormFields) -> Result<Response, HttpError> {
    let site = ui.store().read(move |db| sites::lookup(db, id)).await?;
    let site = site.ok_or_else(|| HttpError::not_found("such site"))?;
    let request = JobRequest { kind: fields.text("kind").to_owned(), site_id: Some(id), ..JobRequest::default() };
    ui.user.needs(orders::role_for(&ui.state.desk(), &request).await?)?;
    let job = orders::create(&ui.state.desk(), ui.actor(), site.host_id, request).await?;
    Ok(ui.go(&paths::job(job)))
}

/// `POST /sites/{id}/remove`.
///
/// # Errors
/// 404.
pub async fn remove(ui: Ui, Id(id): Id<SiteId>) -> Result<Response, HttpError> {
    let site = ops::remove(ui.store(), ui.actor(), id).await?;
    let news = format!("{} is removed from Flotilla. On {} nothing was changed.", site.fields.name, site.host_name);
    Ok(ui.go_saying(&paths::host_tab(site.host_id, "sites"), Tone::Ok, &news))
}

/// `POST /hosts/{id}/discover`: leads to the job.
///
/// # Errors
/// 404; 409 and 422 where the host can't run it.
pub async fn discover(ui: Ui, Id(id): Id<HostId>) -> Result<Response, HttpError> {
    let request = JobRequest { kind: DISCOVER.to_owned(), ..JobRequest::default() };
    let job = orders::create(&ui.state.desk(), ui.actor(), id, request).await?;
    Ok(ui.go(&paths::job(job)))
}
