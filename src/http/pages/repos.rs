//! Repositories: the list, one of them, adding, removing.

use std::collections::BTreeMap;

use axum::response::Response;

use crate::{
    domain::{RepoId, Secret, repo::Repo},
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{Ui, forms, jobs::listed, redraw},
    },
    ops::{
        health,
        repos::{self as ops, AuthInput, MaintenanceInput, RepoInput, RepoPatch},
        upkeep,
    },
    paths::{self, route},
    store::{
        StoreError,
        hosts::{self, HostFilter},
        jobs::JobFilter,
        plans, repos, schedules,
    },
    views::{
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
            let (plans, schedules) = (plans::using_repo(db, id)?, schedules::using_repo(db, id)?);
            let hosts = hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?);
            let upkeep = UpkeepCard {
                overview: upkeep::overview(db, &repo, now)?,
                hosts: hosts.map(|host| HostRef { id: host.id, name: host.name }).collect(),
            };
            Ok::<_, StoreError>(Some((repo, plans, schedules, jobs, upkeep)))
        })
        .await?;
    let health = health::report(ui.store(), id, ui.now()).await?;
    let Some(((repo, plans, schedules, jobs, upkeep), health)) = page.zip(health) else {
        return Err(HttpError::not_found("such repository"));
    };
    ui.show(&RepoPage { repo, plans, schedules, jobs, health, upkeep }).await
}

/// `GET /repos/new`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn add(ui: Ui) -> Result<Response, HttpError> {
    ui.show(&AddRepoPage::default()).await
}

/// `POST /repos/new`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn create(ui: Ui, fields: FormFields) -> Result<Response, HttpError> {
    match ops::create(ui.store(), &ui.state.vault, ui.actor(), input(&fields)).await {
        Ok(repo) => {
            let news = format!("{} is added. Keep a copy of its password elsewhere.", repo.name);
            Ok(ui.go_saying(&paths::repo(repo.id), Tone::Ok, &news))
        }
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            ui.show_as(status, &AddRepoPage { form }).await
        }
    }
}

/// `GET /repos/{id}/edit`.
///
/// # Errors
/// 404.
pub async fn edit(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let repo = stored(&ui, id).await?;
    ui.show(&EditRepoPage { form: EditRepoPage::values_of(&repo), repo }).await
}

/// `POST /repos/{id}/edit`.
///
/// # Errors
/// 404; what was wrong is shown in the form.
pub async fn change(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    match ops::update(ui.store(), &ui.state.vault, ui.actor(), id, patch(&fields)).await {
        Ok(repo) => Ok(ui.go_saying(&paths::repo(id), Tone::Ok, &format!("{} is changed.", repo.name))),
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let repo = stored(&ui, id).await?;
            ui.show_as(status, &EditRepoPage { repo, form }).await
        }
    }
}

async fn stored(ui: &Ui, id: RepoId) -> Result<Repo, HttpError> {
    let repo = ui.store().read(move |db| repos::lookup(db, id)).await?;
    repo.ok_or_else(|| HttpError::not_found("such repository"))
}

/// An empty secret leaves what is set; an empty user takes it away.
fn patch(fields: &FormFields) -> RepoPatch {
    let secret = |name: &str| Some(Secret::from(fields.text(name))).filter(|secret| !secret.is_empty());
    let maintenance = forms::text(fields, "maintenance.username").map(|username| MaintenanceInput {
        url: forms::text(fields, "maintenance.url"),
        username,
        password: secret("maintenance.password"),
        env: None,
    });
    RepoPatch {
        name: Some(fields.text("name").to_owned()),
        url: Some(fields.text("url").to_owned()),
        password: secret("password"),
        auth: Some(
            forms::text(fields, "auth.username")
                .map(|username| AuthInput { username, password: secret("auth.password") }),
        ),
        maintenance: maintenance.map(Some),
        env: Some(env(fields).into_iter().map(|(name, value)| (name, Some(value))).collect()),
        tls_ca_pem: Some(forms::text(fields, "tls_ca_pem")),
        append_only: Some(fields.is_set("append_only")),
        init: Some(fields.is_set("init")),
        ..RepoPatch::default()
    }
}

fn env(fields: &FormFields) -> BTreeMap<String, Secret> {
    let names = fields.all("env_name").map(str::trim);
    names
        .zip(fields.all("env_value"))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), Secret::from(value)))
        .collect()
}

fn input(fields: &FormFields) -> RepoInput {
    let username = fields.text("auth.username").trim().to_owned();
    let password = Some(Secret::from(fields.text("auth.password"))).filter(|password| !password.is_empty());
    RepoInput {
        name: fields.text("name").to_owned(),
        url: fields.text("url").to_owned(),
        password: fields.text("password").into(),
        auth: (!username.is_empty() || password.is_some()).then_some(AuthInput { username, password }),
        maintenance: None,
        env: Some(env(fields)),
        tls_ca_pem: forms::text(fields, "tls_ca_pem"),
        append_only: fields.is_set("append_only"),
        init: fields.is_set("init"),
        ..RepoInput::default()
    }
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
