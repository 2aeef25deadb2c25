//! The restore wizard, its first two steps: a snapshot, files in its tree. What was picked travels in the form; from the dry run on, its job holds everything.

use std::collections::BTreeMap;

use axum::{http::StatusCode, response::Response};
use serde::Deserialize;

use crate::{
    domain::{
        RepoId,
        picking::{self, Picked, of_field},
        snapshot::{Snapshot, SnapshotNo, check_folder},
        user::Role,
    },
    http::{
        HttpError,
        api::snapshots::why_failed,
        extract::{FormFields, Pair, Query},
        pages::Ui,
    },
    ops::snapshots::{self as lookups, Known},
    store::{
        Db, StoreError, repos,
        snapshots::{self, SnapshotFilter},
        trees::{self, NodeKey},
    },
    views::restore::{EntryRow, FilesPage, FolderView, Picker, SourceFilter, SourcePage},
};

mod review;
mod target;

pub use review::{review, save_first, start};
pub use target::{back_to_files, dry_run, target};

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

pub(super) async fn stored(ui: &Ui, repo: RepoId, id: String) -> Result<Snapshot, HttpError> {
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
pub(super) fn picked(fields: &FormFields) -> Result<Picked, HttpError> {
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

/// The files' page again, with what was wrong about what is picked.
pub(super) async fn refused(
    ui: &Ui,
    snapshot: Snapshot,
    fields: &FormFields,
    why: String,
) -> Result<Response, HttpError> {
    let folder = of_field(fields.text("folder")).unwrap_or_else(|_| "/".to_owned());
    let view = View::of(&folder, fields.text("q"), "")?;
    let picker = picker(ui, snapshot, view, picked(fields)?, Some(why)).await?;
    ui.show_as(StatusCode::UNPROCESSABLE_ENTITY, &FilesPage { picker }).await
}
