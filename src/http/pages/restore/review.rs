//! The last step: what the dry run says, a snapshot of what would be written over, and the restore in earnest.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::JobId,
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, redraw},
    },
    ops::restores::{self as ops, Consent},
    paths,
    store::{StoreError, jobs, snapshots},
    views::{
        FormState,
        restore::{Review, ReviewPage},
    },
};

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
