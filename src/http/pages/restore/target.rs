//! The third step: which host, which place, which rule, and the dry run's order. What was picked comes with every form.

use axum::response::Response;

use super::{picked, stored, too_many};
use crate::{
    domain::{
        HostId, JobId, Overwrite, RepoId, RestoreSpec,
        abilities::{lack, needed_by_restore, read_version},
        host::Host,
        picking,
        snapshot::Snapshot,
    },
    http::{
        HttpError,
        extract::{FormFields, Pair},
        pages::{Ui, forms, redraw},
    },
    hub::Hub,
    ops::{
        jobs::{self as orders, JobRequest},
        restores::{self as ops, Target},
    },
    paths,
    store::hosts,
    views::{
        FormState,
        restore::{TargetHost, TargetPage},
    },
};

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
    if let Some(why) = refused {
        return super::refused(&ui, snapshot, &fields, why).await;
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
