//! What repositories hold: the list of a repository's snapshots, a snapshot with a folder of its tree, and what can be asked for there.

use std::str::FromStr;

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{
        HostId, JobKind, JobStatus, RepoId, Timestamp,
        job::Job,
        repo::Repo,
        snapshot::{Snapshot, SnapshotNo, check_folder},
    },
    http::{
        HttpError,
        api::snapshots::why_failed,
        extract::{FormFields, Id, Pair, Query},
        pages::{Ui, forms},
    },
    ops::{
        OpError,
        jobs::Desk,
        snapshots::{self as ops, Asked, Known},
    },
    paths,
    store::{
        Connection, StoreError, hosts,
        hosts::HostFilter,
        jobs::{self, JobFilter},
        repos,
        snapshots::{self, NameInRepo, SnapshotFilter},
        trees::{self, NodeKey},
    },
    views::{
        components::{HostRef, Tone},
        snapshots::{FolderState, FolderView, HostName, SnapshotFilter as FilterView, SnapshotPage, SnapshotsPage},
    },
};

/// Snapshots on one page.
const PAGE: u32 = 50;
/// Entries of a folder on one page.
const ENTRIES: u32 = 200;
/// Snapshots to compare with.
const OTHERS: u32 = 50;

/// The filters, as the address has them; empty means any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    host: String,
    hostname: String,
    path: String,
    tag: String,
    since: String,
    until: String,
    after: String,
}

fn parsed<T: FromStr>(text: &str, name: &str) -> Result<Option<T>, HttpError> {
    let refused = |_| HttpError::bad_request(format!("{text:?} is no {name}: choose one from the page."));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(refused) }
}

/// The begin of a day (UTC).
fn day(text: &str) -> Result<Option<Timestamp>, HttpError> {
    if text.is_empty() {
        return Ok(None);
    }
    let at = format!("{text}T00:00:00Z").parse();
    at.map(Some).map_err(|_| HttpError::bad_request(format!("{text:?} is no day: write it as 2026-11-21.")))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

pub(super) async fn stored_repo(ui: &Ui, id: RepoId) -> Result<Repo, HttpError> {
    let repo = ui.store().read(move |db| repos::lookup(db, id)).await?;
    repo.ok_or_else(|| HttpError::not_found("such repository"))
}

/// `GET /repos/{id}/snapshots`.
///
/// # Errors
/// 404; 400 for a filter that is none.
pub async fn list(ui: Ui, Id(id): Id<RepoId>, Query(query): Query<ListQuery>) -> Result<Response, HttpError> {
    let after: Option<i64> = parsed(&query.after, "place in the list")?;
    let filter = SnapshotFilter {
        repo_id: Some(id),
        host_id: parsed(&query.host, "host's id")?,
        hostname: some(&query.hostname),
        path: some(&query.path),
        tag: some(&query.tag),
        since: day(&query.since)?,
        until: day(&query.until)?.map(|until| until.plus_s(86_400)),
        after: after.map(SnapshotNo),
        limit: PAGE + 1,
    };
    let repo = stored_repo(&ui, id).await?;
    let ListQuery { host, hostname, path, tag, since, until, .. } = query;
    let shown = FilterView { host, hostname, path, tag, since, until };
    let is_later = after.is_some();
    let page = ui.store().read(move |db| load(db, repo, &filter, shown, is_later)).await?;
    ui.show(&page).await
}

fn load(
    db: &Connection,
    repo: Repo,
    filter: &SnapshotFilter,
    shown: FilterView,
    is_later: bool,
) -> Result<SnapshotsPage, StoreError> {
    let mut found = snapshots::list(db, filter)?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let older = found.last().filter(|_| more).map(|snapshot| snapshot.no.0);
    let last_list =
        JobFilter { repo_id: Some(repo.id), kind: Some(JobKind::Snapshots), limit: 1, ..JobFilter::default() };
    let last = jobs::list(db, &last_list)?.into_iter().next();
    let index = snapshots::index_state(db, repo.id)?.unwrap_or_default();
    let listing = last.as_ref().filter(|_| index.under_way).map(|job| job.id);
    let trouble = last.filter(|job| matches!(job.status, JobStatus::Failed | JobStatus::Lost));
    let names = names_of(db, repo.id)?;
    let hosts = hosts::list(db, &HostFilter::default())?;
    Ok(SnapshotsPage {
        repo,
        filter: shown,
        snapshots: found,
        older,
        is_later,
        names,
        hosts: hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect(),
        index,
        listing,
        trouble: trouble.map(|job| (job.id, job.error.unwrap_or_else(|| "it ended without saying why".to_owned()))),
    })
}

pub(super) fn names_of(db: &Connection, repo: RepoId) -> Result<Vec<HostName>, StoreError> {
    let name = |name: NameInRepo| HostName {
        hostname: name.hostname,
        snapshots: name.snapshots,
        host: name.host.map(|host| (HostRef { id: host.id, name: host.name }, host.removed)),
    };
    Ok(snapshots::names(db, repo)?.into_iter().map(name).collect())
}

/// `POST /repos/{id}/snapshots/refresh`.
///
/// # Errors
/// 404; 409 where no host may read the repository.
pub async fn refresh(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    ops::refresh(&ui.state.desk(), ui.actor(), id).await?;
    Ok(ui.go_saying(&paths::repo_snapshots(id), Tone::Ok, "The repository is listed anew."))
}

/// `POST /repos/{id}/snapshots/match`: `hostname`, `host_id`.
///
/// # Errors
/// 404; 422 where the name is a host's own.
pub async fn match_host(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let host: Option<HostId> = reader.needed(&fields, "host_id", "a host's id");
    reader.refuse()?;
    let hostname = fields.text("hostname").to_owned();
    let concerned = ops::match_host(&ui.state.desk(), ui.actor(), id, hostname, host).await?;
    let news = format!("Matched: {concerned} snapshots belong to that host now.");
    Ok(ui.go_saying(&paths::repo_snapshots(id), Tone::Ok, &news))
}

/// Which folder, and what of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct TreeQuery {
    path: String,
    /// The path, encoded once more, as the search form sends it.
    r#in: String,
    q: String,
    after: String,
    fragment: Option<String>,
}

impl TreeQuery {
    fn folder(&self) -> Result<String, HttpError> {
        let nested = form_urlencoded::parse(format!("in={}", self.r#in).as_bytes())
            .next()
            .map_or_else(String::new, |(_, value)| value.into_owned());
        let path = if self.path.is_empty() { &nested } else { &self.path };
        check_folder(path).map_err(|why| HttpError::bad_request(format!("The folder {why}.")))
    }
}

/// `GET /repos/{id}/snapshots/{snapshot}`.
///
/// # Errors
/// 404; 400 for a folder that is none.
pub async fn show(
    ui: Ui,
    Pair(repo, id): Pair<RepoId, String>,
    Query(query): Query<TreeQuery>,
) -> Result<Response, HttpError> {
    let path = query.folder()?;
    let after: Option<NodeKey> = if query.after.is_empty() {
        None
    } else {
        query
            .after
            .parse()
            .map(Some)
            .map_err(|()| HttpError::bad_request("This is no place in the folder: open it from its begin."))?
    };
    let stored = stored_repo(&ui, repo).await?;
    let wanted = Wanted { path, after, name: query.q };
    if query.fragment.is_some() {
        let folder = folder(&ui, repo, id, wanted).await?;
        return ui.fragment(|shell| folder.render(shell)).await;
    }
    let folder = folder(&ui, repo, id, wanted).await?;
    let (hostname, own) = (folder.snapshot.hostname.clone(), folder.snapshot.no);
    let same =
        SnapshotFilter { repo_id: Some(repo), hostname: Some(hostname), limit: OTHERS, ..SnapshotFilter::default() };
    let others = ui.store().read(move |db| snapshots::list(db, &same)).await?;
    let others = others.into_iter().filter(|other| other.no != own).map(|other| (other.id, other.time)).collect();
    ui.show(&SnapshotPage { repo: stored, folder, others }).await
}

/// What of a folder is to be seen.
struct Wanted {
    path: String,
    after: Option<NodeKey>,
    name: String,
}

async fn folder(ui: &Ui, repo: RepoId, id: String, wanted: Wanted) -> Result<FolderView, HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let view = ui.store().read(move |db| folder_of(db, (&desk, now), (repo, &id), wanted)).await?;
    let (view, worn) = view.ok_or_else(|| HttpError::not_found("such snapshot in this repository"))?;
    if let Some(no) = worn {
        ui.store().write(move |tx| trees::touch(tx, no)).await?;
    }
    Ok(view)
}

fn folder_of(
    db: &Connection,
    (desk, now): (&Desk, Timestamp),
    (repo, id): (RepoId, &str),
    wanted: Wanted,
) -> Result<Option<(FolderView, Option<i64>)>, StoreError> {
    let Some(snapshot) = snapshots::lookup(db, repo, id)? else { return Ok(None) };
    let mut worn = None;
    let state = match ops::folder(db, &snapshot, &wanted.path)? {
        Known::Whole(folder) => {
            worn = folder.is_worn(now).then_some(folder.no);
            let mut found = trees::page(db, folder.no, wanted.after.as_ref(), &wanted.name, ENTRIES + 1)?;
            let more = found.len() > ENTRIES as usize;
            found.truncate(ENTRIES as usize);
            let next = found.last().filter(|_| more).map(|entry| entry.key.to_string());
            let nodes = found.into_iter().map(|entry| entry.node).collect();
            FolderState::Whole { nodes, entries: folder.entries.unwrap_or_default(), next }
        }
        Known::Listing(job) => {
            let waits = waits(db, (desk, now), &job)?;
            FolderState::Listing { job: job.id, host: job.host_name, waits }
        }
        Known::Failed(job) => FolderState::Failed { job: Some(job.id), why: why_failed(&job) },
        Known::Unlisted => FolderState::Unlisted,
    };
    let is_later = wanted.after.is_some();
    Ok(Some((FolderView { snapshot, path: wanted.path, wanted: wanted.name, is_later, state }, worn)))
}

/// What a job waits for, in words; empty where it waits for nothing.
pub(super) fn waits(db: &Connection, (desk, now): (&Desk, Timestamp), job: &Job) -> Result<String, StoreError> {
    let online = |host| desk.hub.is_online(host);
    let mut waits = jobs::waits_for(db, std::slice::from_ref(job), (desk.rules, now), online)?;
    Ok(waits.remove(&job.id).map(|waits| waits.text()).unwrap_or_default())
}

/// `POST /repos/{id}/snapshots/{snapshot}/tree?path=`: has a folder listed. htmx gets the folder's fragment, others are led to its page.
///
/// # Errors
/// 404; 400 for a folder that is none; 409 where it can't be listed.
pub async fn list_folder(
    ui: Ui,
    Pair(repo, id): Pair<RepoId, String>,
    Query(query): Query<TreeQuery>,
) -> Result<Response, HttpError> {
    let path = query.folder()?;
    let asked = ops::list_folder(&ui.state.desk(), ui.actor(), (repo, id.clone()), path.clone(), None).await;
    if !ui.by_htmx {
        asked?;
        return Ok(ui.go(&paths::snapshot_folder(repo, &id, &path)));
    }
    let mut view = folder(&ui, repo, id, Wanted { path, after: None, name: String::new() }).await?;
    match asked {
        Ok(Asked::Here | Asked::Ordered(_)) => {}
        // htmx would not show the answer of a status that is an error.
        Err(OpError::Conflict(why)) => view.state = FolderState::Failed { job: None, why },
        Err(e) => return Err(e.into()),
    }
    ui.fragment(|shell| view.render(shell)).await
}

/// Snapshots of a host, for a tab of its page: them, and the address of the next page.
pub(super) fn of_host(
    db: &Connection,
    host: HostId,
    after: Option<SnapshotNo>,
) -> Result<(Vec<Snapshot>, Option<String>), StoreError> {
    let filter = SnapshotFilter { host_id: Some(host), after, limit: PAGE + 1, ..SnapshotFilter::default() };
    let mut found = snapshots::list(db, &filter)?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let older = found
        .last()
        .filter(|_| more)
        .map(|last| paths::with_query(&paths::host(host), &[("tab", "snapshots"), ("after", &last.no.0.to_string())]));
    Ok((found, older))
}
