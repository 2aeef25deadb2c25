//! What is looked for in snapshots: searches, comparisons, versions of a file. A POST orders the job and leads to the page that shows what comes of it.

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;

use crate::{
    domain::{JobId, JobKind, Operation, Record, RepoId, Timestamp, snapshot::versions},
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{
            Ui, forms, redraw,
            snapshots::{names_of, stored_repo, waits},
        },
    },
    ops::{
        OpError,
        snapshots::{
            self as ops, FindRequest,
            results::{self, Lookup},
        },
    },
    paths,
    store::{StoreError, snapshots},
    views::{
        FormState,
        snapshots::{ComparePage, SearchPage, Sought, VersionsPage},
    },
};

/// Records on one page.
const PAGE: usize = 200;

/// Which results, and which part of them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct LookupQuery {
    job: String,
    after: u32,
    path: String,
    a: String,
    b: String,
}

impl LookupQuery {
    fn job(&self) -> Result<Option<JobId>, HttpError> {
        if self.job.is_empty() {
            return Ok(None);
        }
        self.job.parse().map(Some).map_err(|_| HttpError::not_found("such job of this repository"))
    }
}

/// A page of a job's records, and what the job waits for.
async fn load(ui: &Ui, repo: RepoId, job: JobId, kind: JobKind, after: u32) -> Result<(Lookup, String), HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let found = ui
        .store()
        .read(move |db| {
            let Some(page) = results::page(db, (repo, job), kind, after, PAGE)? else { return Ok(None) };
            let waits = waits(db, (&desk, now), &page.job)?;
            Ok::<_, StoreError>(Some((page, waits)))
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such job of this repository"))
}

/// `GET /repos/{id}/search`.
///
/// # Errors
/// 404.
pub async fn search(ui: Ui, Id(id): Id<RepoId>, Query(query): Query<LookupQuery>) -> Result<Response, HttpError> {
    let page = search_page(&ui, id, &query, FormState::default()).await?;
    ui.show(&page).await
}

async fn search_page(ui: &Ui, id: RepoId, query: &LookupQuery, form: FormState) -> Result<SearchPage, HttpError> {
    let repo = stored_repo(ui, id).await?;
    let names = ui.store().read(move |db| names_of(db, id)).await?;
    let Some(job) = query.job()? else { return Ok(SearchPage { repo, names, form, sought: None, count: None }) };
    let (page, waits) = load(ui, id, job, JobKind::Find, query.after).await?;
    let form = match &page.job.input.operation {
        Some(Operation::Find(spec)) => FormState::of(
            [("pattern", spec.pattern.as_str())]
                .into_iter()
                .chain(spec.of.hosts.iter().map(|host| ("hostname", host.as_str())))
                .chain(spec.ignore_case.then_some(("ignore_case", "true"))),
        ),
        _ => form,
    };
    let Lookup { job, items, next, times } = page;
    let items = items.into_iter().filter_map(|(_, record)| match record {
        Record::Found(found) => {
            let time = times.get(&found.snapshot).copied();
            Some((found, time))
        }
        _ => None,
    });
    let (items, count) = (items.collect(), results::count(&job));
    let sought = Sought { job, waits, items, next, is_later: query.after > 0 };
    Ok(SearchPage { repo, names, form, sought: Some(sought), count })
}

/// `POST /repos/{id}/search`: `pattern`, `hostname`, `ignore_case`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn order_search(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let request = FindRequest {
        pattern: fields.text("pattern").to_owned(),
        ignore_case: fields.is_set("ignore_case"),
        hostname: Some(fields.text("hostname").to_owned()).filter(|name| !name.is_empty()),
        ..FindRequest::default()
    };
    match ops::find(&ui.state.desk(), ui.actor(), id, request).await {
        Ok(job) => Ok(ui.go(&paths::with_query(&paths::repo_search(id), &[("job", &job.to_string())]))),
        Err(e @ OpError::Invalid(_)) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let page = search_page(&ui, id, &LookupQuery::default(), form).await?;
            ui.show_as(status, &page).await
        }
        Err(e) => Err(e.into()),
    }
}

/// `GET /repos/{id}/compare`.
///
/// # Errors
/// 404.
pub async fn compare(ui: Ui, Id(id): Id<RepoId>, Query(query): Query<LookupQuery>) -> Result<Response, HttpError> {
    let page = compare_page(&ui, id, &query, FormState::default()).await?;
    ui.show(&page).await
}

async fn compare_page(ui: &Ui, id: RepoId, query: &LookupQuery, form: FormState) -> Result<ComparePage, HttpError> {
    let repo = stored_repo(ui, id).await?;
    let Some(job) = query.job()? else {
        let form = if form.is_untouched() { FormState::of([("a", query.a.as_str()), ("b", &query.b)]) } else { form };
        return Ok(ComparePage { repo, form, sought: None, pair: None, total: None });
    };
    let (page, waits) = load(ui, id, job, JobKind::Diff, query.after).await?;
    let ids = match &page.job.input.operation {
        Some(Operation::Diff(spec)) => vec![spec.a.clone(), spec.b.clone()],
        _ => Vec::new(),
    };
    let times = ui.store().read(move |db| Ok::<_, StoreError>((snapshots::times(db, id, &ids)?, ids))).await?;
    let (times, ids) = times;
    let timed = |id: &String| (id.clone(), times.get(id).copied());
    let pair: Option<[(String, Option<Timestamp>); 2]> = ids.iter().map(timed).collect::<Vec<_>>().try_into().ok();
    let form = match ids.as_slice() {
        [a, b] => FormState::of([("a", a.as_str()), ("b", b)]),
        _ => form,
    };
    let Lookup { job, items, next, .. } = page;
    let items = items.into_iter().filter_map(|(_, record)| match record {
        Record::Change(change) => Some(change),
        _ => None,
    });
    let (items, total) = (items.collect(), results::total(&job));
    let sought = Sought { job, waits, items, next, is_later: query.after > 0 };
    Ok(ComparePage { repo, form, sought: Some(sought), pair, total })
}

/// `POST /repos/{id}/compare`: `a`, `b`.
///
/// # Errors
/// 404; 409 where one is gone; what was wrong is shown in the form.
pub async fn order_compare(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let pair = (fields.text("a").trim().to_owned(), fields.text("b").trim().to_owned());
    match ops::compare(&ui.state.desk(), ui.actor(), id, pair, false, None).await {
        Ok(job) => Ok(ui.go(&paths::with_query(&paths::repo_compare(id), &[("job", &job.to_string())]))),
        Err(e @ OpError::Invalid(_)) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let page = compare_page(&ui, id, &LookupQuery::default(), form).await?;
            ui.show_as(status, &page).await
        }
        Err(e) => Err(e.into()),
    }
}

/// `GET /repos/{id}/versions?path=`.
///
/// # Errors
/// 404.
pub async fn file_versions(
    ui: Ui,
    Id(id): Id<RepoId>,
    Query(query): Query<LookupQuery>,
) -> Result<Response, HttpError> {
    let page = versions_page(&ui, id, &query).await?;
    ui.show(&page).await
}

async fn versions_page(ui: &Ui, id: RepoId, query: &LookupQuery) -> Result<VersionsPage, HttpError> {
    let repo = stored_repo(ui, id).await?;
    let empty = VersionsPage {
        repo,
        path: query.path.clone(),
        sought: None,
        versions: Vec::new(),
        capped: false,
        refused: None,
    };
    let Some(job) = query.job()? else { return Ok(empty) };
    let (desk, now) = (ui.state.desk(), ui.now());
    let found = ui
        .store()
        .read(move |db| {
            let Some(all) = results::all_found(db, id, job)? else { return Ok(None) };
            let waits = waits(db, (&desk, now), &all.job)?;
            Ok::<_, StoreError>(Some((all, waits)))
        })
        .await?;
    let (all, waits) = found.ok_or_else(|| HttpError::not_found("such job of this repository"))?;
    let versions = versions(all.found());
    let capped = all.next.is_some();
    let sought = Sought { job: all.job, waits, items: Vec::new(), next: None, is_later: false };
    Ok(VersionsPage { sought: Some(sought), versions, capped, ..empty })
}

/// `POST /repos/{id}/versions?path=`.
///
/// # Errors
/// 404; what was wrong is shown on the page.
pub async fn order_versions(
    ui: Ui,
    Id(id): Id<RepoId>,
    Query(query): Query<LookupQuery>,
) -> Result<Response, HttpError> {
    let request = FindRequest { pattern: query.path.clone(), exact: true, ..FindRequest::default() };
    match ops::find(&ui.state.desk(), ui.actor(), id, request).await {
        Ok(job) => {
            let to = paths::repo_versions(id, &query.path);
            Ok(ui.go(&paths::with_query(&to, &[("job", &job.to_string())])))
        }
        Err(e @ OpError::Invalid(_)) => {
            let page = VersionsPage { refused: Some(e.to_string()), ..versions_page(&ui, id, &query).await? };
            ui.show_as(StatusCode::UNPROCESSABLE_ENTITY, &page).await
        }
        Err(e) => Err(e.into()),
    }
}
