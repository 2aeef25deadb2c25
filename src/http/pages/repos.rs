//! Repositories: the list, one of them, adding, removing.

mod fields;

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{
        RepoId,
        address::{self, KINDS},
        repo::Repo,
    },
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, jobs::listed, redraw},
    },
    ops::{health, repos as ops, upkeep},
    paths::{self, route},
    store::{
        Db, StoreError,
        hosts::{self, HostFilter},
        jobs::JobFilter,
        plans, repos,
    },
    views::{
        FormState,
        components::{HostRef, Tone},
        repos::{AddRepoPage, EditRepoPage, RepoPage, RepoRow, ReposPage, UpkeepCard},
    },
};

/// `GET /repos`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui) -> Result<Response, HttpError> {
    let rows = ui
        .store()
        .read(|db| {
            let usage = repos::usage(db)?;
            let plans = plans::list(db, None, 0)?;
            let row = |repo: Repo| {
                let used = usage.get(&repo.id);
                RepoRow {
                    plans: plans.iter().filter(|plan| plan.repo_id == repo.id).count() as u64,
                    last_backup: used.and_then(|used| used.last_good),
                    added: used.map_or(0, |used| used.added),
                    repo,
                }
            };
            Ok::<_, StoreError>(repos::list(db, None, 0)?.into_iter().map(row).collect())
        })
        .await?;
    ui.show(&ReposPage { rows }).await
}

/// `GET /repos/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let (desk, now) = (ui.state.desk(), ui.now());
    let page = ui
        .store()
        .read(move |db| {
            let Some(repo) = repos::lookup(db, id)? else { return Ok(None) };
            let of_repo = JobFilter { repo_id: Some(id), limit: 10, ..JobFilter::default() };
            let jobs = listed(db, (&desk, now), &of_repo)?;
            let connection = super::connection::card(db, id)?;
            let keeper = keeper(db, &repo)?;
            let ops::Uses { plans, schedules } = ops::uses(db, id)?;
            let hosts = hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?);
            let upkeep = UpkeepCard {
                overview: upkeep::overview(db, &repo, now)?,
                hosts: hosts.map(|host| HostRef { id: host.id, name: host.name }).collect(),
            };
            Ok::<_, StoreError>(Some((repo, (plans, schedules, jobs), upkeep, (connection, keeper))))
        })
        .await?;
    let health = health::report(ui.store(), id, ui.now()).await?;
    let Some(((repo, (plans, schedules, jobs), upkeep, (connection, keeper)), health)) = page.zip(health) else {
        return Err(HttpError::not_found("such repository"));
    };
    ui.show(&RepoPage { repo, plans, schedules, jobs, health, upkeep, connection, keeper }).await
}

/// Where what deletes runs, in words.
fn keeper(db: &Db, repo: &Repo) -> Result<String, StoreError> {
    let named = repo.upkeep.maintenance_host_id.map(|id| hosts::lookup(db, id)).transpose()?;
    Ok(match (repo.has_maintenance(), named) {
        (_, Some(None)) => "its host was removed: name another one".to_owned(),
        (false, _) if repo.append_only => "not possible without credentials that may delete".to_owned(),
        (_, Some(Some(host))) => format!("on {}", host.name),
        (true, None) => "on the control plane".to_owned(),
        (false, None) => "on any of its hosts, with the hosts' own credentials".to_owned(),
    })
}

/// Which kind is to be added.
#[derive(Debug, Deserialize)]
pub struct AddQuery {
    #[serde(default)]
    kind: String,
}

/// `GET /repos/new?kind=`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn add(ui: Ui, Query(query): Query<AddQuery>) -> Result<Response, HttpError> {
    let kind = if query.kind.is_empty() { KINDS.first() } else { address::kind(&query.kind) };
    let keepers = keepers(&ui).await?;
    ui.show(&AddRepoPage { kind, keepers, form: FormState::default() }).await
}

/// Hosts that may look after a repository. The control plane's own agent is the usual one, and no choice of its own.
async fn keepers(ui: &Ui) -> Result<Vec<HostRef>, HttpError> {
    let hosts = ui.store().read(|db| hosts::list(db, &HostFilter::default())).await?;
    Ok(hosts.into_iter().map(|host| HostRef { id: host.id, name: host.name }).collect())
}

/// `POST /repos/new`. What is added is tested at once, and listed where it is taken over.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    let made = match fields::input(&fields) {
        Ok(input) => ops::create(ui.store(), &ui.state.vault, ui.actor(), input).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match made {
        Ok(repo) => {
            let tested = super::connection::begin(&ui, &repo).await;
            let news = format!("{} is added. Keep a copy of its password elsewhere.{tested}", repo.name);
            Ok(ui.go_saying(&paths::repo(repo.id), Tone::Ok, &news))
        }
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[("size_limit", "size_limit_gib")])?;
            let (kind, keepers) = (address::kind(fields.text("kind")), keepers(&ui).await?);
            ui.show_as(status, &AddRepoPage { kind, keepers, form }).await
        }
    }
}

/// `GET /repos/{id}/edit`.
///
/// # Errors
/// 404.
pub async fn edit(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let (repo, keepers) = (stored(&ui, id).await?, keepers(&ui).await?);
    ui.show(&EditRepoPage { form: EditRepoPage::values_of(&repo), keepers, repo }).await
}

/// `POST /repos/{id}/edit`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let changed = match fields::patch(&fields) {
        Ok(patch) => ops::update(ui.store(), &ui.state.vault, ui.actor(), id, patch).await.map_err(HttpError::from),
        Err(e) => Err(e),
    };
    match changed {
        Ok(repo) => Ok(ui.go_saying(&paths::repo(id), Tone::Ok, &format!("{} is changed.", repo.name))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[("size_limit", "size_limit_gib")])?;
            let (repo, keepers) = (stored(&ui, id).await?, keepers(&ui).await?);
            ui.show_as(status, &EditRepoPage { repo, keepers, form }).await
        }
    }
}

pub(super) async fn stored(ui: &Ui, id: RepoId) -> Result<Repo, HttpError> {
    let repo = ui.store().read(move |db| repos::lookup(db, id)).await?;
    repo.ok_or_else(|| HttpError::not_found("such repository"))
}

/// `POST /repos/{id}/remove`.
///
/// # Errors
/// 404; 409 while something uses it; 422 without its name as confirmation.
pub async fn remove(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let repo = stored(&ui, id).await?;
    forms::confirmed(&fields, &repo.name)?;
    ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(route::REPOS, Tone::Ok, &format!("{} is removed from Flotilla; its data is untouched.", repo.name)))
}
