//! Pages of runbooks: the list, one with its form, and running it. The folder is read at each look, so a file that was dropped into it counts at once.

pub mod fields;
mod preview;
pub mod steps;

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    domain::{
        HostId, JobId, JobKind, Way,
        facet::Facets,
        host::Host,
        job::{Job, RunbookInput},
        user::Role,
    },
    http::{
        HttpError,
        api::runbooks::all,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, redraw},
    },
    ops::{
        jobs::{self as orders, Again, JobRequest},
        offers::offer,
    },
    paths,
    runbook::{self, Entry, Input, InputType, Runbook, Scope},
    store::{
        Db, StoreError, facets,
        hosts::{self, HostFilter},
        jobs,
    },
    views::{
        FormState,
        components::{HostRef, JobList},
        runbooks::{
            Chooser, Earlier, HostOffer, Offered, OffersTab, RunPreview, RunbookPage, RunbooksPage, inputs::Choices,
        },
    },
};

/// Runs of runbooks that a host's tab shows, and how many of its jobs are looked through for them.
const RUNS: usize = 10;
const LOOKED_THROUGH: u32 = 200;
/// The names that an order gives to what is said of the whole form.
const WHOLE: [(&str, &str); 1] = [("kind", "")];

/// Where, and with whose answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct BookQuery {
    host: String,
    q: String,
    from: String,
}

/// `GET /runbooks`.
///
/// # Errors
/// 409 where the folder can't be read.
pub async fn list(ui: Ui) -> Result<Response, HttpError> {
    let entries = all(&ui.state).await?;
    let folder = ui.state.runbooks.folder().display().to_string();
    ui.show(&RunbooksPage { entries, folder }).await
}

/// `GET /runbooks/{name}`.
///
/// # Errors
/// 404; 409 where the folder can't be read.
pub async fn show(ui: Ui, Id(name): Id<String>, Query(query): Query<BookQuery>) -> Result<Response, HttpError> {
    let entry = entry(&ui, &name).await?;
    let page = load(&ui, entry, &query.host, &query.q).await?;
    let (page, input) = repeating(&ui, page, &query.from).await?;
    let (Some(input), Ok(book)) = (input, &page.entry.state) else { return ui.show(&page).await };
    let hosts = named_hosts(&ui, &book.inputs).await?;
    let form = fields::prefilled(&book.inputs, &input.answers, &hosts);
    ui.show(&RunbookPage { form, ..page }).await
}

/// The page with the job that it repeats, and what that ran; the same where the address names none of this runbook.
async fn repeating(
    ui: &Ui,
    page: RunbookPage,
    from: &str,
) -> Result<(RunbookPage, Option<Box<RunbookInput>>), HttpError> {
    let job = earlier(ui, from).await?.filter(|job| job.kind.as_str() == page.entry.name);
    let Some((id, input)) = job.and_then(|job| Some((job.id, job.input.runbook?))) else { return Ok((page, None)) };
    let changed = page.entry.state.as_ref().is_ok_and(|book| book.hash != input.hash);
    Ok((RunbookPage { earlier: Some(Earlier { job: id, changed }), ..page }, Some(input)))
}

/// `POST /runbooks/{name}`: runs it. Leads to the job.
///
/// # Errors
/// 403 for what is for administrators, 404; what was wrong is shown in the form.
pub async fn run(ui: Ui, Id(name): Id<String>, fields: FormFields) -> Result<Response, HttpError> {
    let entry = entry(&ui, &name).await?;
    let (host, request) = (chosen(&fields)?, request(&entry, &fields));
    let from = earlier(&ui, fields.text("from")).await?;
    let ordered = match from.filter(|job| job.seat() == host && fits(job, &entry)) {
        Some(job) => again(&ui, job.id, &entry, request).await,
        None => order(&ui, host, request).await,
    };
    match ordered {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &WHOLE)?;
            let page = RunbookPage { form, ..load(&ui, entry, &host.to_string(), "").await? };
            ui.show_as(status, &repeating(&ui, page, fields.text("from")).await?.0).await
        }
    }
}

/// Whether a job is of this runbook, and answered nothing that it does not ask any more: else it is ordered anew, and not repeated.
fn fits(job: &Job, entry: &Entry) -> bool {
    let (Some(input), Ok(book)) = (&job.input.runbook, &entry.state) else { return false };
    let asked = |name: &String| book.inputs.iter().any(|input| &input.name == name);
    job.kind.as_str() == entry.name && input.answers.keys().all(asked)
}

/// Repeats a job with the answers of the form: what it leaves open is open, whatever was answered then.
async fn again(ui: &Ui, job: JobId, entry: &Entry, request: JobRequest) -> Result<JobId, HttpError> {
    let desk = ui.state.desk();
    ui.user.needs(orders::role_for(&desk, &request).await?)?;
    let mut params = request.params.unwrap_or_default();
    for input in entry.state.iter().flat_map(|book| &book.inputs) {
        params.entry(input.name.clone()).or_insert(Value::Null);
    }
    let again = Again { params: Some(params), confirm: request.confirm };
    Ok(orders::rerun(&desk, ui.actor(), job, again).await?)
}

/// `POST /runbooks/{name}/preview`: what it would do, under the form. htmx gets both under 200, errors among it: what has another status it does not draw.
///
/// # Errors
/// 403 for what is for administrators, 404; what was wrong is shown in the form.
pub async fn foresee(ui: Ui, Id(name): Id<String>, fields: FormFields) -> Result<Response, HttpError> {
    let entry = entry(&ui, &name).await?;
    let (host, request) = (chosen(&fields)?, request(&entry, &fields));
    let (status, form, preview) = foreseen(preview::of(&ui, host, request).await, &fields)?;
    let page = RunbookPage { form, preview, ..load(&ui, entry, &host.to_string(), "").await? };
    let page = repeating(&ui, page, fields.text("from")).await?.0;
    if ui.by_htmx { ui.fragment(|shell| page.form(shell)).await } else { ui.show_as(status, &page).await }
}

/// The form again, with what would run or with what is wrong.
fn foreseen(
    seen: Result<RunPreview, HttpError>,
    fields: &FormFields,
) -> Result<(StatusCode, FormState, Option<RunPreview>), HttpError> {
    let typed = forms::typed(fields);
    match seen {
        Ok(preview) => Ok((StatusCode::OK, typed, Some(preview))),
        Err(e) => redraw(e, typed, &WHOLE).map(|(status, form)| (status, form, None)),
    }
}

async fn order(ui: &Ui, host: HostId, request: JobRequest) -> Result<JobId, HttpError> {
    let desk = ui.state.desk();
    ui.user.needs(orders::role_for(&desk, &request).await?)?;
    Ok(orders::create(&desk, ui.actor(), host, request).await?)
}

/// The order that a form asks for.
fn request(entry: &Entry, fields: &FormFields) -> JobRequest {
    let asked = entry.state.as_ref().map_or(&[][..], |book| &book.inputs);
    JobRequest {
        params: Some(fields::answers(asked, fields)),
        confirm: forms::text(fields, "confirm"),
        ..JobRequest::of(&JobKind::Runbook(entry.name.clone()))
    }
}

/// The host that a form names.
fn chosen(fields: &FormFields) -> Result<HostId, HttpError> {
    let mut reader = forms::Reader::default();
    let host: Option<HostId> = reader.needed(fields, "host", "a host's id");
    reader.refuse()?;
    host.ok_or_else(|| HttpError::not_found("such host"))
}

async fn entry(ui: &Ui, name: &str) -> Result<Entry, HttpError> {
    let found = all(&ui.state).await?.into_iter().find(|entry| entry.name == name);
    found.ok_or_else(|| HttpError::not_found("such runbook"))
}

/// The job whose answers a form is to begin with; nothing where the address names none.
async fn earlier(ui: &Ui, from: &str) -> Result<Option<Job>, HttpError> {
    let Ok(id) = from.parse::<JobId>() else { return Ok(None) };
    Ok(ui.store().read(move |db| jobs::lookup(db, id)).await?)
}

/// Hosts by their names, where a question is about one.
async fn named_hosts(ui: &Ui, asked: &[Input]) -> Result<Vec<HostRef>, HttpError> {
    if asked.iter().all(|input| input.kind != InputType::Host) {
        return Ok(Vec::new());
    }
    let hosts = ui.store().read(|db| hosts::list(db, &HostFilter::default())).await?;
    Ok(hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect())
}

/// The page on a host, or with hosts to choose from.
async fn load(ui: &Ui, entry: Entry, host: &str, q: &str) -> Result<RunbookPage, HttpError> {
    let asked = entry.state.as_ref().map_or(&[][..], |book| &book.inputs);
    let names = named_hosts(ui, asked).await?.into_iter().map(|host| host.name).collect();
    let (host, chooser) = where_to(ui, entry.clone(), host, q).await?;
    Ok(RunbookPage {
        entry,
        host,
        chooser,
        choices: Choices { hosts: names, sites: Vec::new() },
        form: FormState::default(),
        preview: None,
        earlier: None,
    })
}

/// The host that is chosen, or those that match.
async fn where_to(ui: &Ui, entry: Entry, host: &str, q: &str) -> Result<(Option<HostOffer>, Chooser), HttpError> {
    let (hub, query) = (ui.state.hub.clone(), q.trim().to_owned());
    let of = move |host: Host, facets: &Facets| {
        let connected = hub.is_online(host.id);
        let way = offer(&host, facets, &entry, connected);
        let waits = waits(&way, connected);
        HostOffer { id: host.id, name: host.name, way, waits }
    };
    if !host.is_empty() {
        let id: HostId = host.parse().map_err(|_| HttpError::not_found("such host"))?;
        let found = ui
            .store()
            .read(move |db| Ok::<_, StoreError>(hosts::lookup(db, id)?.zip(Some(facets::of(db, id)?))))
            .await?;
        let (host, facets) = found.ok_or_else(|| HttpError::not_found("such host"))?;
        return Ok((Some(of(host, &facets)), Chooser::default()));
    }
    let filter = HostFilter { search: Some(query.clone()), limit: Chooser::MOST as u32 + 1, ..HostFilter::default() };
    let found = move |db: &Db| {
        let facets = facets::all(db)?;
        let none = Facets::default();
        let hosts = hosts::list(db, &filter)?.into_iter();
        let hosts = hosts.map(|host| {
            let own = facets.get(&host.id).unwrap_or(&none);
            of(host, own)
        });
        Ok::<Vec<HostOffer>, StoreError>(hosts.collect())
    };
    let mut hosts = ui.store().read(found).await?;
    let more = hosts.len() > Chooser::MOST;
    hosts.truncate(Chooser::MOST);
    Ok((None, Chooser { query, hosts, more }))
}

fn waits(way: &Result<Way, String>, connected: bool) -> bool {
    matches!(way, Ok(Way::Agent)) && !connected
}

/// What a host offers, for its tab.
///
/// # Errors
/// 409 where the folder can't be read.
pub(super) async fn of_host(ui: &Ui, host: &Host) -> Result<OffersTab, HttpError> {
    let (entries, id) = (all(&ui.state).await?, host.id);
    let (desk, now) = (ui.state.desk(), ui.now());
    let filter = jobs::JobFilter { host_id: Some(id), limit: LOOKED_THROUGH, ..jobs::JobFilter::default() };
    let (facets, jobs) = ui
        .store()
        .read(move |db| Ok::<_, StoreError>((facets::of(db, id)?, super::jobs::listed(db, (&desk, now), &filter)?)))
        .await?;
    let connected = ui.state.hub.is_online(id);
    let mut offered: Vec<Offered> =
        entries.iter().filter_map(|entry| offered(host, &facets, entry, connected)).collect();
    offered.sort_by_key(|offered| offered.title.to_lowercase());
    let runs = jobs.rows.into_iter().filter(|job| matches!(job.kind, JobKind::Runbook(_))).take(RUNS);
    Ok(OffersTab { offered, jobs: JobList { rows: runs.collect(), waits: jobs.waits } })
}

/// A runbook as this host has it; nothing for one that is about sites, or broken.
fn offered(host: &Host, facets: &Facets, entry: &Entry, connected: bool) -> Option<Offered> {
    let book = entry.state.as_ref().ok().filter(|book| book.scope == Scope::Host)?;
    let way = offer(host, facets, entry, connected);
    Some(Offered {
        name: entry.name.clone(),
        title: book.title.clone(),
        description: book.description.clone(),
        waits: waits(&way, connected),
        way,
        needs: least(book),
        at_once: !book.destructive && book.inputs.iter().all(|input| input.optional || input.default.is_some()),
        destructive: book.destructive,
    })
}

fn least(book: &Runbook) -> Role {
    match book.role {
        runbook::Role::Admin => Role::Admin,
        runbook::Role::Operator => Role::Operator,
    }
}
