//! Retention of a repository: verdicts, a person's word on them, previews, pins, and setting up the upkeep.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    domain::{
        JobId, JobKind, PlanId, RepoId, Timestamp,
        repo::Repo,
        retention::{self, FateKind},
    },
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{
            Ui,
            forms::{self, Reader},
        },
    },
    ops::{
        jobs::{self as orders, JobRequest},
        retention as ops,
        upkeep::{self, Wish},
    },
    paths,
    store::{
        Db, StoreError, hosts,
        hosts::HostFilter,
        jobs, plans, repos, upkeep as kept,
        verdicts::{self, Pinned, VerdictFilter},
    },
    views::{
        components::Tone,
        retention::{FATES_A_PAGE, FateList, PinRow, RetentionPage, VerdictPage},
    },
};

/// Verdicts, and pins, on a page.
const LISTED: u32 = 50;

/// Where the lists go on.
#[derive(Debug, Deserialize)]
pub struct RetentionQuery {
    /// The verdict that was shown last.
    #[serde(default)]
    before: String,
    /// The pinned snapshot that was shown last.
    pins_after: Option<String>,
}

/// `GET /repos/{id}/retention`.
///
/// # Errors
/// 404.
pub async fn list(ui: Ui, Id(id): Id<RepoId>, Query(query): Query<RetentionQuery>) -> Result<Response, HttpError> {
    let RetentionQuery { before, pins_after } = query;
    let page = ui
        .store()
        .read(move |db| {
            let Some(repo) = repos::lookup(db, id)? else { return Ok(None) };
            let plans = plans::using_repo(db, id)?.into_iter().filter(|plan| !plan.retention.keeps_all());
            let (repo_id, before) = (Some(id), before.parse().ok());
            let filter = VerdictFilter { repo: repo_id, before, limit: LISTED + 1, ..VerdictFilter::default() };
            let mut verdicts = verdicts::list(db, filter)?;
            let mut pins = verdicts::pins(db, id, pins_after.as_deref(), LISTED + 1)?;
            let (more_verdicts, more_pins) = (verdicts.len() > LISTED as usize, pins.len() > LISTED as usize);
            verdicts.truncate(LISTED as usize);
            pins.truncate(LISTED as usize);
            Ok::<_, StoreError>(Some(RetentionPage {
                repo,
                verdicts,
                more_verdicts,
                plans: plans.map(|plan| (plan.id, plan.name, retention::in_words(&plan.retention))).collect(),
                pins: pins.into_iter().map(pin_row).collect(),
                more_pins,
            }))
        })
        .await?;
    ui.show(&page.ok_or_else(|| HttpError::not_found("such repository"))?).await
}

fn pin_row(pinned: Pinned) -> PinRow {
    let Pinned { snapshot, time, hostname, since: _, pin } = pinned;
    PinRow { snapshot, time, hostname, pin }
}

/// Which snapshots of a verdict are shown.
#[derive(Debug, Deserialize)]
pub struct FatesQuery {
    fate: Option<String>,
    before: Option<String>,
}

/// `GET /retention/{id}`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<JobId>, Query(query): Query<FatesQuery>) -> Result<Response, HttpError> {
    let page = ui.store().read(move |db| page(db, id, &query)).await?;
    ui.show(&page.ok_or_else(|| HttpError::not_found("such forget"))?).await
}

fn page(db: &Db, id: JobId, query: &FatesQuery) -> Result<Option<VerdictPage>, StoreError> {
    let Some(job) = jobs::lookup(db, id)?.filter(|job| job.kind == JobKind::Forget) else { return Ok(None) };
    let repo = job.repo_id.map(|id| repos::lookup(db, id)).transpose()?.flatten();
    let Some(repo) = repo else { return Ok(None) };
    let verdict = verdicts::lookup(db, id)?;
    let counts = verdicts::count_fates(db, id)?;
    let only: Option<FateKind> = query.fate.as_deref().and_then(|fate| fate.parse().ok());
    let before = query.before.as_deref().and_then(place);
    let mut lists = Vec::new();
    for kind in FateKind::ALL.into_iter().filter(|kind| only.is_none_or(|only| only == *kind)) {
        let Some(count) = counts.get(&kind).copied() else { continue };
        let mut fates = verdicts::fates(db, (id, kind), before.clone(), FATES_A_PAGE + 1)?;
        let more = fates.len() > FATES_A_PAGE as usize;
        fates.truncate(FATES_A_PAGE as usize);
        let more = fates.last().filter(|_| more).map(|last| format!("{}.{}", last.time.unix_ms(), last.snapshot_id));
        lists.push(FateList { kind, count, fates, more });
    }
    Ok(Some(VerdictPage { repo, job, verdict, lists }))
}

/// The time and id of the snapshot that was shown last.
fn place(text: &str) -> Option<(Timestamp, String)> {
    let (time, id) = text.split_once('.')?;
    Some((Timestamp::from_unix_ms(time.parse().ok()?), id.to_owned()))
}

async fn repo_of(ui: &Ui, job: JobId) -> Result<Repo, HttpError> {
    let repo = ui
        .store()
        .read(move |db| match verdicts::lookup(db, job)? {
            Some(verdict) => repos::lookup(db, verdict.repo_id),
            None => Ok(None),
        })
        .await?;
    repo.ok_or_else(|| HttpError::not_found("such verdict"))
}

/// `POST /retention/{id}/approve`.
///
/// # Errors
/// 404; 409 where nothing waits any more; 422 without the repository's name as confirmation.
pub async fn approve(ui: Ui, Id(id): Id<JobId>, fields: FormFields) -> Result<Response, HttpError> {
    let repo = repo_of(&ui, id).await?;
    forms::confirmed(&fields, &repo.name)?;
    let reason = ops::checked_word(fields.text("reason"))?;
    let job = ops::approve(&ui.state.desk(), ui.actor(), id, reason).await?;
    Ok(ui.go_saying(&paths::verdict(job), Tone::Ok, "Approved: the forget is ordered again."))
}

/// `POST /retention/{id}/dismiss`.
///
/// # Errors
/// 404; 409 where nothing waits any more.
pub async fn dismiss(ui: Ui, Id(id): Id<JobId>, fields: FormFields) -> Result<Response, HttpError> {
    let reason = ops::checked_word(fields.text("reason"))?;
    ops::dismiss(ui.store(), ui.actor(), id, reason).await?;
    Ok(ui.go_saying(&paths::verdict(id), Tone::Ok, "Dismissed: the snapshots stay, and the next forget looks again."))
}

/// `POST /repos/{id}/retention/preview`.
///
/// # Errors
/// 404; 409 and 422 as an order of a forget says.
pub async fn preview(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = Reader::default();
    let plan: Option<PlanId> = reader.needed(&fields, "plan_id", "one of the plans");
    reader.refuse()?;
    let host = ui
        .store()
        .read(move |db| {
            let plan = plan.map(|id| plans::lookup(db, id)).transpose()?.flatten();
            let covered = hosts::list(db, &HostFilter::default())?;
            let covered = covered.into_iter().find(|host| plan.as_ref().is_some_and(|p| p.covers(host.id, &host.tags)));
            Ok::<_, StoreError>(match kept::maintenance_host(db, id)? {
                Some(host) => Some(host),
                None => hosts::own(db)?.or(covered).map(|host| host.id),
            })
        })
        .await?;
    let host = host.ok_or_else(|| {
        HttpError::conflict(
            "no_host",
            "No host can look: the plan covers none, and the repository has no maintenance host.",
        )
    })?;
    let request = JobRequest { kind: "forget".to_owned(), plan_id: plan, dry_run: Some(true), ..JobRequest::default() };
    let job = orders::create(&ui.state.desk(), ui.actor(), host, request).await?;
    Ok(ui.go_saying(&paths::verdict(job), Tone::Ok, "Asked: a dry run removes nothing."))
}

/// Where a pin leads back to: an address here.
fn back(fields: &FormFields, repo: RepoId) -> String {
    let back = fields.text("back");
    let here = back.starts_with('/') && !back.starts_with("//") && !back.contains('\\');
    if here { back.to_owned() } else { paths::repo_retention(repo) }
}

/// `POST /repos/{id}/pin`.
///
/// # Errors
/// 404; 422 without a reason.
pub async fn pin(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    ops::pin(ui.store(), ui.actor(), id, fields.text("snapshot").to_owned(), fields.text("reason")).await?;
    Ok(ui.go_saying(&back(&fields, id), Tone::Ok, "Pinned: no forget removes it."))
}

/// `POST /repos/{id}/unpin`.
///
/// # Errors
/// 404.
pub async fn unpin(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    ops::unpin(ui.store(), ui.actor(), id, fields.text("snapshot").to_owned()).await?;
    Ok(ui.go_saying(&back(&fields, id), Tone::Ok, "Let go: the rules decide on it again."))
}

/// `POST /repos/{id}/upkeep`.
///
/// # Errors
/// 404; 422 where no host is known or the days do not do.
pub async fn set_up(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = Reader::default();
    let wish = Wish {
        host: reader.value(&fields, "host_id", "one of the hosts"),
        check_days: reader.value(&fields, "check_days", "a whole number of days"),
    };
    reader.refuse()?;
    let made = upkeep::set_up(ui.store(), ui.actor(), id, wish).await?;
    let news = match made {
        0 => "Saved.".to_owned(),
        1 => "1 schedule was made.".to_owned(),
        n => format!("{n} schedules were made."),
    };
    Ok(ui.go_saying(&paths::repo(id), Tone::Ok, &news))
}
