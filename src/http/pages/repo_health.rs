//! What is done from a repository's page for its health: measuring, checking, looking at locks and removing them, the guided repair.

use axum::{extract::RawPathParams, response::Response};

use crate::{
    domain::{
        JobId, RepoId,
        health::repair::{self, Step},
        job::JobNo,
        repo::Repo,
    },
    http::{
        HttpError,
        extract::{FormFields, Id},
        pages::{Ui, forms},
    },
    ops::{OpError, health as ops, jobs::Desk},
    paths,
    store::{StoreError, health, jobs, repos},
    views::{components::Tone, repos::RepairPage},
};

/// Kinds of jobs that the steps of a repair are made of.
const STEPS: [&str; 4] = ["repair", "prune", "check", "backup"];

fn desk(ui: &Ui) -> Desk {
    ui.state.desk()
}

/// Leads to the job that was ordered.
fn ordered(ui: &Ui, job: JobId) -> Response {
    ui.go(&paths::job(job))
}

/// `POST /repos/{id}/locks`.
///
/// # Errors
/// 404; 409 where no host can, or one does already.
pub async fn look(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    ops::look_at_locks(&desk(&ui), ui.actor(), id).await?;
    Ok(ui.go_saying(
        &paths::repo_locks(id),
        Tone::Ok,
        "The locks are being looked at, and their owners' hosts are asked: load the page again in a moment.",
    ))
}

/// `POST /repos/{id}/unlock`.
///
/// # Errors
/// 404; 409 where no lock may go, with the reason of each.
pub async fn unlock(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let job = ops::unlock(&desk(&ui), ui.actor(), id).await?;
    Ok(ordered(&ui, job))
}

/// `POST /repos/{id}/measure`.
///
/// # Errors
/// 404; 409 where no host can, or one does already.
pub async fn measure(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let job = ops::measure(&desk(&ui), ui.actor(), id).await?;
    Ok(ordered(&ui, job))
}

/// `POST /repos/{id}/check`.
///
/// # Errors
/// 404; 409 where no host can, or one does already.
pub async fn check(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let job = ops::check(&desk(&ui), ui.actor(), id, false).await?;
    Ok(ordered(&ui, job))
}

/// `POST /repos/{id}/tamper`.
///
/// # Errors
/// 404; 409 where no host can, or one does already.
pub async fn tamper(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let job = ops::test_append_only(&desk(&ui), ui.actor(), id).await?;
    Ok(ordered(&ui, job))
}

/// `GET /repos/{id}/repair`.
///
/// # Errors
/// 404.
pub async fn guide(ui: Ui, Id(id): Id<RepoId>) -> Result<Response, HttpError> {
    let page = ui
        .store()
        .read(move |db| {
            let (Some(repo), Some(subject)) = (repos::lookup(db, id)?, health::subject(db, id)?) else {
                return Ok(None);
            };
            let damage = ops::latest_damage(db, &subject)?;
            let found = damage.as_ref().map_or(JobNo(i64::MAX), |(job, _)| job.no);
            let since = jobs::of_repo_since(db, id, found, &STEPS)?;
            let result = damage.as_ref().map(|(_, result)| result.clone()).unwrap_or_default();
            Ok::<_, StoreError>(Some(RepairPage { repo, damage, plan: repair::plan(found, &result, &since) }))
        })
        .await?;
    ui.show(&page.ok_or_else(|| HttpError::not_found("such repository"))?).await
}

/// `POST /repos/{id}/repair/{step}`.
///
/// # Errors
/// 404; 409 where there is nothing to repair or no host can; 422 without its name as confirmation, where data may go.
pub async fn repair_step(
    ui: Ui,
    Id(id): Id<RepoId>,
    params: RawPathParams,
    fields: FormFields,
) -> Result<Response, HttpError> {
    let word = params.iter().nth(1).map(|(_, word)| word.to_owned()).unwrap_or_default();
    let step = Step::of(&word).ok_or_else(|| HttpError::not_found("such step"))?;
    let dry_run = fields.is_set("dry_run");
    ui.user.needs(step.least_role(dry_run))?;
    if !dry_run && step.may_lose() {
        let repo: Option<Repo> = ui.store().read(move |db| repos::lookup(db, id)).await?;
        let repo = repo.ok_or(OpError::NotFound("repository"))?;
        forms::confirmed(&fields, &repo.name)?;
    }
    let job = ops::repair(&desk(&ui), ui.actor(), id, step, dry_run).await?;
    Ok(ordered(&ui, job))
}
