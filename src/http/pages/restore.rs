//! The restore wizard: a snapshot, files in its tree, where to, a dry run, and the order. What was picked travels in the form; from the dry run on, its job
//! holds everything.

use std::collections::BTreeMap;

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;

use crate::{
    domain::{
        HostId, JobId, Overwrite, RepoId, RestoreSpec,
        abilities::{lack, needed_by_restore, read_version},
        host::Host,
        picking::{self, Picked, of_field},
        snapshot::{Snapshot, SnapshotNo, check_folder},
        user::Role,
    },
    http::{
        HttpError,
        api::snapshots::why_failed,
        extract::{FormFields, Id, Pair, Query},
        pages::{Ui, forms, redraw},
    },
    hub::Hub,
    ops::{
        jobs::{self as orders, JobRequest},
        restores::{self as ops, Consent, Target},
        snapshots::{self as lookups, Known},
    },
    paths,
    store::{
        Db, StoreError, hosts, jobs, repos,
        snapshots::{self, SnapshotFilter},
        trees::{self, NodeKey},
    },
    views::{
        FormState,
        restore::{
            EntryRow, FilesPage, FolderView, Picker, Review, ReviewPage, SourceFilter, SourcePage, TargetHost,
            TargetPage,
        },
    },
};

/// Snapshots on one page.
const SNAPSHOTS: u32 = 50;
/// Entries of a folder on one page.
const ENTRIES: u32 = 200;

/// The filters, as the address has them; empty means any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SourcesQuery {
    host: String,
    repo: String,
    path: String,
    tag: String,
    after: String,
}

/// `GET /restore`.
///
/// # Errors
/// 400 for a filter that is none.
pub async fn sources(ui: Ui, Query(query): Query<SourcesQuery>) -> Result<Response, HttpError> {
    let wrong = |what: &str| HttpError::bad_request(format!("The address names no {what}: choose one from the list."));
    let mut filter = SnapshotFilter { limit: SNAPSHOTS + 1, ..SnapshotFilter::default() };
    match query.host.strip_prefix("name:") {
        Some(name) => filter.hostname = Some(name.to_owned()),
        None if query.host.is_empty() => {}
        None => filter.host_id = Some(query.host.parse().map_err(|_| wrong("host"))?),
    }
    if !query.repo.is_empty() {
        filter.repo_id = Some(query.repo.parse().map_err(|_| wrong("repository"))?);
    }
    filter.path = Some(query.path.trim())
        .filter(|path| !path.is_empty())
        .map(|path| check_folder(path).unwrap_or_else(|_| path.to_owned()));
    filter.tag = Some(query.tag.trim().to_owned()).filter(|tag| !tag.is_empty());
    if !query.after.is_empty() {
        filter.after = Some(SnapshotNo(query.after.parse().map_err(|_| wrong("snapshot"))?));
    }
    let (mut rows, hosts, repos) = ui
        .store()
        .read(move |db| {
            let (hosts, repos) = choices(db)?;
            Ok::<_, StoreError>((snapshots::list(db, &filter)?, hosts, repos))
        })
        .await?;
    let more = rows.len() > SNAPSHOTS as usize;
    rows.truncate(SNAPSHOTS as usize);
    let next = rows.last().filter(|_| more).map(|row| row.no.0.to_string());
    let filter = SourceFilter { host: query.host, repo: query.repo, path: query.path, tag: query.tag };
    ui.show(&SourcePage { filter, hosts, repos, rows, next }).await
}

type Choices = Vec<(String, String)>;

/// Whose snapshots there are: hosts, removed ones too, and names that are nobody's.
fn choices(db: &Db) -> Result<(Choices, Choices), StoreError> {
    let repos = repos::list(db, None, 0)?;
    let mut hosts: BTreeMap<String, String> = BTreeMap::new();
    for repo in &repos {
        for name in snapshots::names(db, repo.id)? {
            let (value, label) = match name.host {
                Some(host) if host.removed => (host.id.to_string(), format!("{} (removed)", host.name)),
                Some(host) => (host.id.to_string(), host.name),
                None => (format!("name:{}", name.hostname), format!("{} (no host of this fleet)", name.hostname)),
            };
            hosts.insert(value, label);
        }
    }
    let mut hosts: Choices = hosts.into_iter().collect();
    hosts.sort_by(|a, b| a.1.cmp(&b.1));
    Ok((hosts, repos.into_iter().map(|repo| (repo.id.to_string(), repo.name)).collect()))
}

async fn stored(ui: &Ui, repo: RepoId, id: String) -> Result<Snapshot, HttpError> {
    let found = ui
        .store()
        .read(move |db| match repos::lookup(db, repo)? {
            Some(_) => snapshots::lookup(db, repo, &id),
            None => Ok::<_, StoreError>(None),
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such snapshot in this repository"))
}

/// Which folder, and which part of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FilesQuery {
    folder: String,
    q: String,
    after: String,
    /// A path that is picked from the beginning.
    pick: String,
}

/// What a form of the tree asks to see.
struct View {
    folder: String,
    wanted: String,
    after: Option<NodeKey>,
}

impl View {
    fn of(folder: &str, wanted: &str, after: &str) -> Result<Self, HttpError> {
        let folder = check_folder(folder).map_err(|why| HttpError::invalid_field("folder", why))?;
        let after = Some(after).filter(|after| !after.is_empty()).map(str::parse).transpose();
        let after = after.map_err(|()| HttpError::invalid_field("after", "must be the end of the page before"))?;
        Ok(Self { folder, wanted: wanted.to_owned(), after })
    }
}

/// `GET /restore/{id}/{snapshot}`.
///
/// # Errors
/// 404; 422 for the folder.
pub async fn files(
    ui: Ui,
    Pair(repo, id): Pair<RepoId, String>,
    Query(query): Query<FilesQuery>,
) -> Result<Response, HttpError> {
    let view = View::of(&query.folder, &query.q, &query.after)?;
    let snapshot = stored(&ui, repo, id).await?;
    let mut picked = Picked::default();
    if !query.pick.is_empty() {
        picked.add(check_folder(&query.pick).map_err(|why| HttpError::invalid_field("pick", why))?);
    }
    let picker = picker(&ui, snapshot, view, picked, None).await?;
    ui.show(&FilesPage { picker }).await
}

/// `POST /restore/{id}/{snapshot}`: another part of the tree, with what was picked so far (`chosen`, `pick`, less `drop`). `open` names a folder, `list` has the
/// open one listed.
///
/// # Errors
/// 404; 409 where no host may read the repository; 422 for a path.
pub async fn pick(ui: Ui, Pair(repo, id): Pair<RepoId, String>, fields: FormFields) -> Result<Response, HttpError> {
    let field = |name: &str| of_field(fields.text(name)).map_err(|why| HttpError::invalid_field(name, why));
    let here = field("folder")?;
    let opened = if fields.text("open").is_empty() { None } else { Some(field("open")?) };
    let after = percent_decoded(fields.text("after"));
    let view = match &opened {
        Some(folder) => View::of(folder, "", "")?,
        None => View::of(&here, fields.text("q"), &after)?,
    };
    let picked = picked(&fields)?;
    let snapshot = stored(&ui, repo, id).await?;
    let may = ui.user.role >= Role::Operator && snapshot.gone_at.is_none();
    if may && (opened.is_some() || !fields.text("list").is_empty()) {
        let wish = (repo, snapshot.id.clone());
        lookups::list_folder(&ui.state.desk(), ui.actor(), wish, view.folder.clone(), None).await?;
    }
    let too_many = (picked.len() > picking::MOST).then(too_many);
    let picker = picker(&ui, snapshot, view, picked, too_many).await?;
    if ui.by_htmx { ui.fragment(|shell| picker.render(shell)).await } else { ui.show(&FilesPage { picker }).await }
}

fn too_many() -> String {
    format!("More than {} paths are picked: pick the folders that they lie in instead.", picking::MOST)
}

/// A cursor as a form has it; it is no path.
fn percent_decoded(text: &str) -> String {
    of_field(&format!("/{text}")).map(|path| path.trim_start_matches('/').to_owned()).unwrap_or_default()
}

/// What a form says was picked. Bounded: more than a form can hold is refused before it comes here.
fn picked(fields: &FormFields) -> Result<Picked, HttpError> {
    let mut picked = Picked::default();
    for name in ["chosen", "pick"] {
        for text in fields.all(name) {
            picked.add(of_field(text).map_err(|why| HttpError::invalid_field(name, why))?);
        }
    }
    for text in fields.all("drop") {
        picked.remove(&of_field(text).map_err(|why| HttpError::invalid_field("drop", why))?);
    }
    Ok(picked)
}

async fn picker(
    ui: &Ui,
    snapshot: Snapshot,
    view: View,
    picked: Picked,
    refused: Option<String>,
) -> Result<Picker, HttpError> {
    let hub = ui.state.hub.clone();
    let (of, folder, wanted) = (snapshot.clone(), view.folder.clone(), view.wanted.clone());
    let (marks, now) = (picked.clone(), ui.now());
    let (shown, worn) = ui
        .store()
        .read(move |db| {
            let known = lookups::folder(db, &of, &folder)?;
            Ok::<_, StoreError>(match known {
                Known::Whole(found) => {
                    let mut page = trees::page(db, found.no, view.after.as_ref(), &wanted, ENTRIES + 1)?;
                    let more = page.len() > ENTRIES as usize;
                    page.truncate(ENTRIES as usize);
                    let next = page.last().filter(|_| more).map(|entry| entry.key.to_string());
                    let entries = page.into_iter().map(|entry| EntryRow::of(&folder, entry.node, &marks)).collect();
                    let total = found.entries.unwrap_or_default();
                    (FolderView::Whole { entries, total, next }, found.is_worn(now).then_some(found.no))
                }
                Known::Listing(job) => {
                    let is_online = hub.is_online(job.host_id);
                    (FolderView::Listing { job: job.id, host: job.host_name, is_online }, None)
                }
                Known::Failed(job) => (FolderView::Failed { job: job.id, why: why_failed(&job) }, None),
                Known::Unlisted => (FolderView::Unlisted, None),
            })
        })
        .await?;
    if let Some(no) = worn {
        ui.store().write(move |tx| trees::touch(tx, no)).await?;
    }
    Ok(Picker { snapshot, folder: view.folder, wanted: view.wanted, picked, view: shown, refused })
}

/// `GET /restore/{id}/{snapshot}/target`: what was picked is in no address, so this leads back.
///
/// # Errors
/// None; the files' page says 404 where there is nothing.
pub async fn back_to_files(ui: Ui, Pair(repo, id): Pair<RepoId, String>) -> Result<Response, HttpError> {
    Ok(ui.go(&paths::restore_files(repo, &id)))
}

/// The paths of the next step; `None` for everything.
fn chosen_paths(fields: &FormFields) -> Result<Option<Vec<String>>, HttpError> {
    let picked = picked(fields)?;
    if fields.is_set("all") || picked.has("/") {
        return Ok(None);
    }
    Ok(Some(picked.iter().map(str::to_owned).collect()))
}

/// `POST /restore/{id}/{snapshot}/target`: the paths of the step before (`chosen`, `pick`, or `all`), and what was typed here so far.
///
/// # Errors
/// 404; 422 for a path.
pub async fn target(ui: Ui, Pair(repo, id): Pair<RepoId, String>, fields: FormFields) -> Result<Response, HttpError> {
    let snapshot = stored(&ui, repo, id).await?;
    let paths = chosen_paths(&fields)?;
    let refused = match &paths {
        Some(paths) if paths.is_empty() => {
            Some("Nothing is ticked: tick files or folders, or restore everything.".to_owned())
        }
        Some(paths) if paths.len() > picking::MOST => Some(too_many()),
        _ => None,
    };
    if refused.is_some() {
        let folder = of_field(fields.text("folder")).unwrap_or_else(|_| "/".to_owned());
        let picker = picker(&ui, snapshot, View::of(&folder, fields.text("q"), "")?, picked(&fields)?, refused).await?;
        return ui.show_as(StatusCode::UNPROCESSABLE_ENTITY, &FilesPage { picker }).await;
    }
    let typed = if fields.text("place").is_empty() { FormState::default() } else { forms::typed(&fields) };
    let page = target_page(&ui, snapshot, paths, fields.text("host").parse().ok(), typed).await?;
    ui.show(&page).await
}

async fn target_page(
    ui: &Ui,
    snapshot: Snapshot,
    picked: Option<Vec<String>>,
    wished: Option<HostId>,
    form: FormState,
) -> Result<TargetPage, HttpError> {
    let repo = snapshot.repo_id;
    let found = ui.store().read(move |db| ops::targets(db, repo)).await?;
    let source = snapshot.host.as_ref().map(|host| host.id);
    let able = |target: &&Target| target.host.restic_version.is_some();
    let of = |id: HostId| found.iter().find(|target| target.host.id == id);
    let chosen = wished
        .and_then(of)
        .or_else(|| source.and_then(of).filter(able))
        .or_else(|| found.iter().filter(able).find(|target| ui.state.hub.is_online(target.host.id)))
        .or_else(|| found.iter().find(able))
        .or_else(|| found.first());
    let lacks = chosen.map(|target| lacks(&target.host)).unwrap_or_default();
    let host = chosen.map(|target| target.host.id);
    let hosts = found.iter().map(|target| target_host(&ui.state.hub, target, source)).collect();
    Ok(TargetPage { snapshot, picked, hosts, host, lacks, form })
}

fn target_host(hub: &Hub, target: &Target, source: Option<HostId>) -> TargetHost {
    let host = &target.host;
    TargetHost {
        id: host.id,
        name: host.name.clone(),
        is_online: hub.is_online(host.id),
        own: host.own,
        restic: host.restic_version.clone(),
        knows_repo: target.knows_repo,
        is_source: source == Some(host.id),
    }
}

/// The rules that a host's restic does not know. What it has is not known for certain where it has never come: then nothing is refused here.
fn lacks(host: &Host) -> Vec<(Overwrite, String)> {
    let Some(version) = host.restic_version.as_deref().and_then(read_version) else { return Vec::new() };
    [Overwrite::Never, Overwrite::IfNewer, Overwrite::IfChanged, Overwrite::Always]
        .into_iter()
        .filter_map(|overwrite| {
            let spec = RestoreSpec {
                snapshot: String::new(),
                paths: Vec::new(),
                target: String::new(),
                overwrite,
                dry_run: false,
                source_host: None,
            };
            lack(version, &needed_by_restore(&spec)).map(|why| (overwrite, why))
        })
        .collect()
}

/// `POST /restore/{id}/{snapshot}/dry-run`: `host`, `place` (`folder` or `original`), `target`, `overwrite`, and the paths. Leads to what it says.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn dry_run(ui: Ui, Pair(repo, id): Pair<RepoId, String>, fields: FormFields) -> Result<Response, HttpError> {
    let snapshot = stored(&ui, repo, id).await?;
    let picked = chosen_paths(&fields)?;
    let ordered = match request(&snapshot, &fields, picked.as_deref()) {
        Ok((host, request)) => order_dry_run(&ui, host, request).await,
        Err(e) => Err(e),
    };
    match ordered {
        Ok(job) => Ok(ui.go(&paths::restore_review(job))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[])?;
            let page = target_page(&ui, snapshot, picked, fields.text("host").parse().ok(), form).await?;
            ui.show_as(status, &page).await
        }
    }
}

async fn order_dry_run(ui: &Ui, host: HostId, request: JobRequest) -> Result<JobId, HttpError> {
    let found = ui.store().read(move |db| hosts::lookup(db, host)).await?;
    let target = found.ok_or_else(|| HttpError::invalid_field("host", "names no host: choose one from the list"))?;
    let rule = request.overwrite.unwrap_or_default();
    if let Some((_, why)) = lacks(&target).into_iter().find(|(lacking, _)| *lacking == rule) {
        return Err(HttpError::invalid_field("overwrite", why));
    }
    Ok(orders::create(&ui.state.desk(), ui.actor(), host, request).await?)
}

fn request(
    snapshot: &Snapshot,
    fields: &FormFields,
    picked: Option<&[String]>,
) -> Result<(HostId, JobRequest), HttpError> {
    let mut reader = forms::Reader::default();
    let host: Option<HostId> = reader.needed(fields, "host", "a host of the list");
    let in_place = fields.text("place") == "original";
    let target = forms::text(fields, "target").filter(|_| !in_place);
    if !in_place && target.is_none() {
        reader.refuse_field("target", "is missing: name a folder, such as /srv/restored");
    }
    let overwrite = match fields.text("overwrite") {
        "always" => Overwrite::Always,
        "if-changed" => Overwrite::IfChanged,
        "if-newer" => Overwrite::IfNewer,
        "never" => Overwrite::Never,
        _ => {
            reader.refuse_field("overwrite", "is missing: choose what happens to a file that is there already");
            Overwrite::Always
        }
    };
    if picked.is_some_and(<[String]>::is_empty) {
        reader.refuse_field("paths", "nothing is picked");
    } else if picked.is_some_and(|paths| paths.len() > picking::MOST) {
        reader.refuse_field("paths", &too_many());
    }
    if snapshot.gone_at.is_some() {
        reader.refuse_field("snapshot", "is gone from the repository: choose another");
    }
    reader.refuse()?;
    let request = JobRequest {
        kind: "restore".to_owned(),
        repo_id: Some(snapshot.repo_id),
        snapshot: Some(snapshot.id.clone()),
        paths: Some(picked.unwrap_or_default().to_vec()),
        target,
        in_place: in_place.then_some(true),
        overwrite: Some(overwrite),
        dry_run: Some(true),
        ..JobRequest::default()
    };
    Ok((host.ok_or_else(|| HttpError::invalid_field("host", "is missing"))?, request))
}

/// Which part of the page.
#[derive(Debug, Deserialize)]
pub struct ReviewQuery {
    fragment: Option<String>,
}

/// `GET /restore/review/{id}`.
///
/// # Errors
/// 404.
pub async fn review(ui: Ui, Id(id): Id<JobId>, Query(query): Query<ReviewQuery>) -> Result<Response, HttpError> {
    let review = load_review(&ui, id, FormState::default()).await?;
    match query.fragment {
        Some(_) => ui.fragment(|shell| review.render(shell)).await,
        None => ui.show(&ReviewPage { review }).await,
    }
}

async fn load_review(ui: &Ui, id: JobId, form: FormState) -> Result<Review, HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let found = ui
        .store()
        .read(move |db| {
            let Some((dry, spec)) = ops::dry_run(db, id)? else { return Ok(None) };
            let snapshot = match dry.repo_id {
                Some(repo) => snapshots::lookup(db, repo, &spec.snapshot)?,
                None => None,
            };
            let sources = snapshot.as_ref().map(|snapshot| snapshot.paths.as_slice()).unwrap_or_default();
            let saved = ops::saved_first(&spec, sources);
            let safety = match &saved {
                Some(paths) => ops::safety_of(db, &dry, paths)?,
                None => None,
            };
            let restore = ops::of_dry_run(db, &dry)?;
            let queued = [Some(&dry), safety.as_ref()].into_iter().flatten().find(|job| !job.status.is_final());
            let waits_for = match queued {
                Some(job) => {
                    let online = |host| desk.hub.is_online(host);
                    jobs::waits_for(db, std::slice::from_ref(job), (desk.rules, now), online)?.remove(&job.id)
                }
                None => None,
            };
            Ok::<_, StoreError>(Some(Review { dry, spec, snapshot, waits_for, saved, safety, restore, form }))
        })
        .await?;
    found.ok_or_else(|| HttpError::not_found("such dry run of a restore"))
}

/// `POST /restore/review/{id}/safety`.
///
/// # Errors
/// 404; 409 where nothing can be saved.
pub async fn save_first(ui: Ui, Id(id): Id<JobId>) -> Result<Response, HttpError> {
    ops::save_first(&ui.state.desk(), ui.actor(), id).await?;
    Ok(ui.go(&paths::restore_review(id)))
}

/// `POST /restore/review/{id}/start`: `confirm`, `safety`. Leads to the restore's job.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn start(ui: Ui, Id(id): Id<JobId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let safety = reader.value(&fields, "safety", "a job's id");
    reader.refuse()?;
    let consent = Consent { confirm: fields.text("confirm").to_owned(), safety };
    match ops::start(&ui.state.desk(), ui.actor(), id, consent).await {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let review = load_review(&ui, id, form).await?;
            ui.show_as(status, &ReviewPage { review }).await
        }
    }
}
