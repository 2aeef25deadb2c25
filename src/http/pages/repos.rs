//! Repositories: the list, one of them, adding, removing.

use std::collections::BTreeMap;

use axum::response::Response;

use crate::{
    domain::{RepoId, Secret},
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{Ui, forms, redraw},
    },
    ops::repos::{self as ops, AuthInput, RepoInput},
    paths::{self, route},
    store::{
        StoreError,
        jobs::{self, JobFilter},
        plans, repos,
    },
    views::{
        components::Tone,
        repos::{AddRepoPage, RepoPage, RepoRow, ReposPage},
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
            let row = |repo: crate::domain::repo::Repo| {
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
    let page = ui
        .store()
        .read(move |db| {
            let Some(repo) = repos::lookup(db, id)? else { return Ok(None) };
            let jobs = jobs::list(db, &JobFilter { repo_id: Some(id), limit: 10, ..JobFilter::default() })?;
            Ok::<_, StoreError>(Some(RepoPage { repo, plans: plans::using_repo(db, id)?, jobs }))
        })
        .await?;
    ui.show(&page.ok_or_else(|| HttpError::not_found("such repository"))?).await
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

fn input(fields: &FormFields) -> RepoInput {
    let username = fields.text("auth.username").trim().to_owned();
    let password = Some(Secret::from(fields.text("auth.password"))).filter(|password| !password.is_empty());
    let names = fields.all("env_name").map(str::trim);
    let env: BTreeMap<String, Secret> = names
        .zip(fields.all("env_value"))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.to_owned(), Secret::from(value)))
        .collect();
    RepoInput {
        name: fields.text("name").to_owned(),
        url: fields.text("url").to_owned(),
        password: fields.text("password").into(),
        auth: (!username.is_empty() || password.is_some()).then_some(AuthInput { username, password }),
        maintenance: None,
        env: Some(env),
        tls_ca_pem: forms::text(fields, "tls_ca_pem"),
        append_only: fields.is_set("append_only"),
        init: fields.is_set("init"),
    }
}

/// `POST /repos/{id}/remove`.
///
/// # Errors
/// 404; 409 while something uses it; 422 without its name as confirmation.
pub async fn remove(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let repo = ui.store().read(move |db| repos::lookup(db, id)).await?;
    let repo = repo.ok_or_else(|| HttpError::not_found("such repository"))?;
    forms::confirmed(&fields, &repo.name)?;
    ops::remove(ui.store(), ui.actor(), id).await?;
    Ok(ui.go_saying(route::REPOS, Tone::Ok, &format!("{} is removed from Flotilla; its data is untouched.", repo.name)))
}
