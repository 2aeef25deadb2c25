//! Operations on a repository by hand: what can be done on which host, and ordering it.

use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    domain::{HostId, JobKind, Operation, RepairSpec, RepairWhat, RepoId, abilities, host::Host, repo::Repo},
    http::{
        HttpError,
        extract::{FormFields, Id, Query},
        pages::{Ui, forms, redraw},
    },
    ops::jobs::{self as orders, JobRequest},
    paths,
    store::{
        Db, StoreError,
        hosts::{self, HostFilter},
        repos,
    },
    views::{
        components::HostRef,
        repos::{Offer, OperationsPage},
    },
};

/// In the order of the page: what only looks, what adds, what deletes.
const OFFERED: [JobKind; 14] = [
    JobKind::Snapshots,
    JobKind::Find,
    JobKind::Diff,
    JobKind::Stats,
    JobKind::Check,
    JobKind::Locks,
    JobKind::Unlock,
    JobKind::Tamper,
    JobKind::Init,
    JobKind::Copy,
    JobKind::Forget,
    JobKind::Prune,
    JobKind::Tag,
    JobKind::Repair,
];

/// Fields that hold one value a line, or come once for each box.
const LISTS: [&str; 7] = ["hosts", "tags", "snapshots", "packs", "add", "remove", "group_by"];
/// Boxes.
const FLAGS: [&str; 6] = ["dry_run", "prune", "read_data", "metadata", "ignore_case", "forget"];

/// Which host.
#[derive(Debug, Deserialize)]
pub struct OperationsQuery {
    #[serde(default)]
    host: String,
}

/// `GET /repos/{id}/operations?host=`.
///
/// # Errors
/// 404.
pub async fn show(ui: Ui, Id(id): Id<RepoId>, Query(query): Query<OperationsQuery>) -> Result<Response, HttpError> {
    let page = load(&ui, id, query.host.parse().ok()).await?;
    ui.show(&page).await
}

/// `POST /repos/{id}/operations`: leads to the job.
///
/// # Errors
/// 403 for what deletes where the caller is no administrator, 404; what was wrong is shown in the form.
pub async fn run(ui: Ui, Id(id): Id<RepoId>, fields: FormFields) -> Result<Response, HttpError> {
    let mut reader = forms::Reader::default();
    let host: Option<HostId> = reader.needed(&fields, "host_id", "the host to run on");
    let kind: Option<JobKind> = reader.needed(&fields, "kind", "an operation");
    reader.refuse()?;
    let (Some(host), Some(kind)) = (host, kind) else { return Err(HttpError::not_found("such operation")) };
    let ordered = match request(id, &kind, &fields) {
        Ok(request) => {
            ui.user.needs(orders::least_role(&request))?;
            orders::create(&ui.state.desk(), ui.actor(), host, request).await.map_err(HttpError::from)
        }
        Err(e) => Err(e),
    };
    match ordered {
        Ok(job) => Ok(ui.go(&paths::job(job))),
        Err(e) => {
            let (status, form) = redraw(e, forms::typed(&fields), &[])?;
            let page = OperationsPage { refused: Some((kind, form)), ..load(&ui, id, Some(host)).await? };
            ui.show_as(status, &page).await
        }
    }
}

/// The order that a form asks for, by the API's own type.
fn request(repo: RepoId, kind: &JobKind, fields: &FormFields) -> Result<JobRequest, HttpError> {
    let mut params = Map::new();
    let mut retention = Map::new();
    for (name, value) in fields.iter().map(|(name, value)| (name, value.trim())) {
        if ["kind", "host_id", "repo_id"].contains(&name) || LISTS.contains(&name) || value.is_empty() {
            continue;
        }
        if let Some(rule) = name.strip_prefix("retention.") {
            let number = value.parse::<u64>().map(Value::from);
            retention.insert(rule.to_owned(), number.unwrap_or_else(|_| Value::from(value)));
        } else {
            let value = if FLAGS.contains(&name) { Value::from(true) } else { Value::from(value) };
            params.insert(name.to_owned(), value);
        }
    }
    for name in LISTS {
        let values: Vec<&str> =
            fields.all(name).flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect();
        if !values.is_empty() {
            params.insert(name.to_owned(), Value::from(values));
        }
    }
    if !retention.is_empty() {
        params.insert("retention".to_owned(), Value::Object(retention));
    }
    Ok(JobRequest { repo_id: Some(repo), params: Some(params), ..JobRequest::of(kind) })
}

async fn load(ui: &Ui, id: RepoId, host: Option<HostId>) -> Result<OperationsPage, HttpError> {
    let page = ui.store().read(move |db| page(db, id, host)).await?;
    page.ok_or_else(|| HttpError::not_found("such repository"))
}

fn page(db: &Db, id: RepoId, host: Option<HostId>) -> Result<Option<OperationsPage>, StoreError> {
    let Some(repo) = repos::lookup(db, id)? else { return Ok(None) };
    let own = hosts::own(db)?;
    let own_id = own.as_ref().map(|own| own.id);
    let hosts = own.into_iter().chain(hosts::list(db, &HostFilter::default())?);
    let hosts: Vec<Host> = hosts.filter(|host| host.revoked_at.is_none()).collect();
    let chosen = host.and_then(|id| hosts.iter().find(|host| host.id == id)).or(hosts.first());
    let keeper = repo.upkeep.maintenance_host_id.or(own_id);
    let keeper = keeper.and_then(|id| hosts.iter().find(|host| host.id == id));
    let others = repos::list(db, None, 0)?.into_iter().filter(|other| other.id != id);
    let others: Vec<(String, String)> = others.map(|other| (other.id.to_string(), other.name)).collect();
    let offers = OFFERED.iter().map(|kind| {
        let only_dry = only_dry(&repo, kind, keeper);
        let alone = (*kind == JobKind::Copy && others.is_empty())
            .then(|| "there is no other repository to copy to: add one under Repositories".to_owned());
        Offer { obstacle: alone.or_else(|| obstacle(&repo, kind, chosen, keeper)), only_dry, kind: kind.clone() }
    });
    Ok(Some(OperationsPage {
        offers: offers.collect(),
        host: chosen.map(|host| host.id.to_string()).unwrap_or_default(),
        restic: chosen.and_then(|host| host.restic_version.clone()),
        hosts: hosts.iter().map(|host| HostRef { id: host.id, name: host.name.clone() }).collect(),
        others,
        repo,
        refused: None,
    }))
}

/// Whether an operation may delete.
fn removes(kind: &JobKind) -> bool {
    matches!(kind, JobKind::Forget | JobKind::Prune | JobKind::Tag | JobKind::Repair)
}

/// Why nothing can be deleted in a repository, so that what deletes can only be tried: a dry run needs no more than the hosts' own credentials.
fn only_dry(repo: &Repo, kind: &JobKind, keeper: Option<&Host>) -> Option<String> {
    if !removes(kind) {
        return None;
    }
    if repo.append_only && !repo.has_maintenance() {
        return Some("append-only, and no credentials that may delete are set: enter them under Change".to_owned());
    }
    (repo.has_maintenance() && keeper.is_none())
        .then(|| "no host may delete: name a maintenance host under Change".to_owned())
}

/// Why an operation can't be done: for want of restic, of a version, or of rights.
fn obstacle(repo: &Repo, kind: &JobKind, chosen: Option<&Host>, keeper: Option<&Host>) -> Option<String> {
    let only_dry = only_dry(repo, kind, keeper);
    if only_dry.is_some() && *kind == JobKind::Tag {
        return only_dry;
    }
    if *kind == JobKind::Init && (repo.upkeep.imported || !repo.init) {
        return Some("it is there already, as you said: see Change".to_owned());
    }
    let kept = removes(kind) && repo.has_maintenance() && only_dry.is_none();
    let runs_on = if kept { keeper } else { chosen }?;
    let Some(version) = runs_on.restic_version.as_deref().and_then(abilities::read_version) else {
        return Some(format!("{} has no restic, as far as is known", runs_on.name));
    };
    let least = RepairSpec { what: RepairWhat::Index, ..RepairSpec::default() };
    let operation = (*kind == JobKind::Repair).then_some(Operation::Repair(least));
    abilities::lack(version, &abilities::needed_by(kind, operation.as_ref()))
}
