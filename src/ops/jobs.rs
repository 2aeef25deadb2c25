//! Orders: making a job for a host, repeating one, cancelling one. An order is resolved completely when it is made: its plan, its
//! repository, its paths. What is asked for and not built yet is refused by name, never dropped.

mod restore;

use std::ops::RangeInclusive;

use serde::Deserialize;

use crate::{
    credential,
    domain::{
        HostId, JobId, JobKind, Overwrite, PlanId, RepoId,
        host::Host,
        job::{Actor, Job, JobInput, NewJob},
        plan::Plan,
        queue::QueueRules,
    },
    hub::Hub,
    ops::{
        error::{OpError, Problems},
        plans::check_path,
    },
    store::{
        Store, WriteTx, audit, hosts,
        jobs::{self, Cancelled},
        plans, repos,
    },
};

const HOUR_S: u64 = 3600;
/// Seconds that a job may be given.
const TIMEOUTS_S: RangeInclusive<u64> = 60..=7 * 24 * HOUR_S;
/// Seconds that a job may wait for an agent to take it.
const EXPIRIES_S: RangeInclusive<u64> = 60..=30 * 24 * HOUR_S;

/// Where orders are placed.
#[derive(Clone)]
pub struct Desk {
    /// Keeps them.
    pub store: Store,
    /// Knows whose agent is there.
    pub hub: Hub,
    /// Bound what may run at once, and how long an order waits.
    pub rules: QueueRules,
}

/// What a job is to do. Details may stand beside `kind` or under `params`, and not in both.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// `backup`, `restore`, `check`, `unlock`, `snapshots`, `stats` or `init`.
    pub kind: String,
    /// Paths of a backup without a plan.
    pub args: Option<Vec<String>>,
    /// The plan of a backup; may be left out where exactly one covers the host.
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// The repository; may be left out where the host knows exactly one.
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// The details, as an alternative to the fields below.
    pub params: Option<JobParams>,
    /// Restore: a snapshot's id, or `latest`.
    pub snapshot: Option<String>,
    /// Restore: only these paths of the snapshot.
    pub paths: Option<Vec<String>>,
    /// Restore: the folder to restore into.
    pub target: Option<String>,
    /// Restore: over the original files.
    pub in_place: Option<bool>,
    /// Restore: what happens to files that exist: `always`, `if-changed`, `if-newer`, `never`.
    #[schema(value_type = Option<String>)]
    pub overwrite: Option<Overwrite>,
    /// Restore in place: the host's name, as a confirmation.
    pub confirm: Option<String>,
    /// Check: not in this version.
    pub read_data_subset: Option<String>,
    /// Whether the job may wait. `false`: it starts at once, or is refused with `host_busy`. `true` where absent.
    pub queue: Option<bool>,
    /// Seconds after which the agent stops it, 60 to 604800. Where absent: 24 hours for backup, restore and check, 6 for stats, 1 for others.
    pub timeout_s: Option<u64>,
    /// Seconds after which it is given up if no agent has taken it, 60 to 2592000. Where absent: as the server is configured, 24 hours if not at all.
    pub expires_in_s: Option<u64>,
}

/// The details of a [`JobRequest`], in their own object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobParams {
    /// As beside `kind`.
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// As beside `kind`.
    pub snapshot: Option<String>,
    /// As beside `kind`.
    pub paths: Option<Vec<String>>,
    /// As beside `kind`.
    pub target: Option<String>,
    /// As beside `kind`.
    pub in_place: Option<bool>,
    /// As beside `kind`.
    #[schema(value_type = Option<String>)]
    pub overwrite: Option<Overwrite>,
    /// As beside `kind`.
    pub confirm: Option<String>,
    /// As beside `kind`.
    pub read_data_subset: Option<String>,
}

/// Makes a job for a host, queued.
///
/// # Errors
/// [`OpError::NotFound`] for the host, [`OpError::Invalid`] for what is asked, [`OpError::Conflict`] where the host can run nothing,
/// [`OpError::Busy`] where it would have to wait and must not, or a failure.
pub async fn create(desk: &Desk, actor: Actor, host: HostId, request: JobRequest) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let (hub, rules) = (desk.hub.clone(), desk.rules);
    desk.store
        .write(move |tx| {
            let may_wait = request.queue.unwrap_or(true);
            let job = place(tx, rules, Order { actor, host, request, rerun_of: None }, random)?;
            if !may_wait {
                // Nothing of it is kept then: this command's work is undone as a whole.
                refuse_to_wait(tx, rules, &hub, job)?;
            }
            Ok(job)
        })
        .await
}

/// Makes the same job again, resolved anew: a plan that was changed since is followed as it is now.
///
/// # Errors
/// As [`create`]; [`OpError::Conflict`] where the job is not over.
pub async fn rerun(desk: &Desk, actor: Actor, job: JobId) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let rules = desk.rules;
    desk.store
        .write(move |tx| {
            let old = jobs::lookup(tx.db(), job)?.ok_or(OpError::NotFound("job"))?;
            if !old.status.is_final() {
                return Err(OpError::Conflict(format!(
                    "the job is {}: wait for its end, or cancel it first",
                    old.status
                )));
            }
            let (host, rerun_of) = (old.host_id, Some(old.id));
            place(tx, rules, Order { actor, host, request: restored(old)?, rerun_of }, random)
        })
        .await
}

/// Refuses a job that was just placed where it would have to wait.
fn refuse_to_wait(tx: &WriteTx<'_>, rules: QueueRules, hub: &Hub, id: JobId) -> Result<(), OpError> {
    let Some(job) = jobs::lookup(tx.db(), id)? else { return Ok(()) };
    let host = job.host_name.clone();
    let mut waits = jobs::waits_for(tx.db(), &[job], (rules, tx.now()), |host| hub.is_online(host))?;
    match waits.remove(&id) {
        Some(waits_for) => Err(OpError::Busy { host, waits_for: Box::new(waits_for) }),
        None => Ok(()),
    }
}

/// Asks a job to stop. Says what became of the wish; a job that is over stays as it is. One that counts as lost is over too, unless its agent is here with it.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where it is over, or a failure.
pub async fn cancel(desk: &Desk, actor: Actor, job: JobId) -> Result<Cancelled, OpError> {
    let hub = desk.hub.clone();
    desk.store
        .write(move |tx| {
            let done = match jobs::request_cancel(tx, job)? {
                Cancelled::Unknown => return Err(OpError::NotFound("job")),
                Cancelled::Over if hub.goes_on(job) && jobs::request_cancel_of_lost(tx, job)? => Cancelled::Requested,
                Cancelled::Over => {
                    let text = "the job is over already: there is nothing to cancel";
                    return Err(OpError::Conflict(text.to_owned()));
                }
                done => done,
            };
            audit::record(tx, &actor, "job.cancel", &job.to_string(), "")?;
            Ok(done)
        })
        .await
}

/// An order before it is resolved.
struct Order {
    actor: Actor,
    host: HostId,
    request: JobRequest,
    rerun_of: Option<JobId>,
}

/// What an order works on, once resolved.
struct Resolved {
    kind: JobKind,
    plan: Option<Plan>,
    repo: RepoId,
    input: JobInput,
}

fn place(tx: &mut WriteTx<'_>, rules: QueueRules, order: Order, random: u128) -> Result<JobId, OpError> {
    let host = hosts::lookup(tx.db(), order.host)?.ok_or(OpError::NotFound("host"))?;
    if host.revoked_at.is_some() {
        return Err(OpError::Conflict(format!(
            "the identity of {}'s agent was revoked, so it runs nothing: enrol it again first",
            host.name
        )));
    }
    let wished = (order.request.timeout_s, order.request.expires_in_s);
    let resolved = resolve(tx, &host, order.request)?;
    let id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
    let detail = match &resolved.plan {
        Some(plan) => format!("{} of {} by {}", resolved.kind, host.name, plan.name),
        None => format!("{} on {}", resolved.kind, host.name),
    };
    let timeout_s = wished.0.unwrap_or_else(|| timeout_s(&resolved.kind));
    let expires_at = tx.now().plus_s(i64::try_from(wished.1.unwrap_or(rules.expiry_s)).unwrap_or(i64::MAX));
    let job = NewJob {
        id,
        host_id: host.id,
        kind: resolved.kind,
        actor: order.actor,
        plan_id: resolved.plan.map(|plan| plan.id),
        repo_id: Some(resolved.repo),
        input: resolved.input,
        rerun_of: order.rerun_of,
        timeout_s,
        moment: None,
        ran_alone: false,
        expires_at: Some(expires_at),
    };
    jobs::insert(tx, &job)?;
    audit::record(tx, &job.actor, "job.create", &id.to_string(), &detail)?;
    Ok(id)
}

/// Seconds until the agent stops a job of this kind.
#[must_use]
pub fn timeout_s(kind: &JobKind) -> u64 {
    match kind {
        JobKind::Backup | JobKind::Restore | JobKind::Check => 24 * HOUR_S,
        JobKind::Stats => 6 * HOUR_S,
        _ => HOUR_S,
    }
}

fn resolve(tx: &WriteTx<'_>, host: &Host, request: JobRequest) -> Result<Resolved, OpError> {
    let kind = known_kind(&request.kind)?;
    let request = merged(request)?;
    let mut problems = Problems::default();
    refuse_strangers(&mut problems, &kind, &request);
    let covering = plans::covering(tx.db(), host.id, &host.tags)?;
    let plan = match kind {
        JobKind::Backup => plan_of(&mut problems, host, &covering, &request),
        _ => None,
    };
    let repo = match (&plan, request.repo_id) {
        (Some(plan), _) => Some(plan.repo_id),
        (None, Some(id)) if repos::lookup(tx.db(), id)?.is_none() => {
            problems.add("repo_id", "names no repository: GET /api/repos lists them");
            None
        }
        (None, Some(id)) => Some(id),
        // The plan's problem is noted already.
        (None, None) if kind == JobKind::Backup && request.args.is_none() => None,
        (None, None) => only_repo(&mut problems, host, &covering),
    };
    let input = match kind {
        JobKind::Backup => JobInput { args: backup_paths(&mut problems, request.args), ..JobInput::default() },
        JobKind::Restore => JobInput { restore: restore::spec(&mut problems, host, request), ..JobInput::default() },
        _ => JobInput::default(),
    };
    problems.refuse()?;
    let repo = repo.ok_or_else(|| OpError::field("repo_id", "is missing"))?;
    Ok(Resolved { kind, plan, repo, input })
}

fn known_kind(text: &str) -> Result<JobKind, OpError> {
    const KNOWN: &str = "backup, restore, check, unlock, snapshots, stats, init";
    match text.parse::<JobKind>() {
        Ok(
            kind @ (JobKind::Backup
            | JobKind::Restore
            | JobKind::Check
            | JobKind::Unlock
            | JobKind::Snapshots
            | JobKind::Stats
            | JobKind::Init),
        ) => Ok(kind),
        Ok(JobKind::Runbook(_)) | Err(_) => {
            Err(OpError::field("kind", format!("{text:?} is not a known kind; known are {KNOWN}")))
        }
        Ok(kind) => Err(OpError::field("kind", format!("{kind} is not in this version yet; known are {KNOWN}"))),
    }
}

/// The request with its `params` beside its `kind`.
fn merged(mut request: JobRequest) -> Result<JobRequest, OpError> {
    fn one<T>(problems: &mut Problems, field: &str, beside: &mut Option<T>, under: Option<T>) {
        match (beside.is_some(), under) {
            (true, Some(_)) => problems.add(field, format!("is given twice: beside kind and as params.{field}")),
            (false, Some(value)) => *beside = Some(value),
            (_, None) => {}
        }
    }
    let mut problems = Problems::default();
    let params = request.params.take().unwrap_or_default();
    one(&mut problems, "repo_id", &mut request.repo_id, params.repo_id);
    one(&mut problems, "snapshot", &mut request.snapshot, params.snapshot);
    one(&mut problems, "paths", &mut request.paths, params.paths);
    one(&mut problems, "target", &mut request.target, params.target);
    one(&mut problems, "in_place", &mut request.in_place, params.in_place);
    one(&mut problems, "overwrite", &mut request.overwrite, params.overwrite);
    one(&mut problems, "confirm", &mut request.confirm, params.confirm);
    one(&mut problems, "read_data_subset", &mut request.read_data_subset, params.read_data_subset);
    problems.refuse()?;
    Ok(request)
}

/// Notes fields that this kind does not read: whoever sent them meant something.
fn refuse_strangers(problems: &mut Problems, kind: &JobKind, request: &JobRequest) {
    let backup = *kind == JobKind::Backup;
    let restore = *kind == JobKind::Restore;
    let fields = [
        ("args", request.args.is_some(), backup),
        ("plan_id", request.plan_id.is_some(), backup),
        ("snapshot", request.snapshot.is_some(), restore),
        ("paths", request.paths.is_some(), restore),
        ("target", request.target.is_some(), restore),
        ("in_place", request.in_place.is_some(), restore),
        ("overwrite", request.overwrite.is_some(), restore),
        ("confirm", request.confirm.is_some(), restore),
    ];
    for (field, given, read) in fields {
        if given && !read {
            problems.add(field, format!("does not belong to a job of kind {kind}"));
        }
    }
    for (field, seconds, range) in
        [("timeout_s", request.timeout_s, TIMEOUTS_S), ("expires_in_s", request.expires_in_s, EXPIRIES_S)]
    {
        if seconds.is_some_and(|seconds| !range.contains(&seconds)) {
            problems.add(field, format!("must be {} to {} seconds", range.start(), range.end()));
        }
    }
    if request.read_data_subset.is_some() {
        problems.add("read_data_subset", "is not in this version yet: a check looks at the repository's structure");
    }
}

/// The plan of a backup; `None` for one that names its paths.
fn plan_of(problems: &mut Problems, host: &Host, covering: &[Plan], request: &JobRequest) -> Option<Plan> {
    let names = || covering.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ");
    match (request.plan_id, &request.args) {
        (Some(_), Some(_)) => problems.add("args", "can't go with plan_id: the plan says what is backed up"),
        (None, Some(_)) => {}
        (Some(id), None) => match covering.iter().find(|plan| plan.id == id) {
            Some(plan) if request.repo_id.is_some_and(|repo| repo != plan.repo_id) => {
                problems.add(
                    "repo_id",
                    format!("is another one than the plan's: {} backs up to {}", plan.name, plan.repo_name),
                );
            }
            Some(plan) => return Some(plan.clone()),
            None if covering.is_empty() => {
                problems.add("plan_id", format!("names no plan that covers {}: none does", host.name));
            }
            None => problems.add("plan_id", format!("names no plan that covers {}: these do: {}", host.name, names())),
        },
        (None, None) => {
            let fitting: Vec<&Plan> =
                covering.iter().filter(|plan| request.repo_id.is_none_or(|repo| repo == plan.repo_id)).collect();
            match fitting.as_slice() {
                [plan] => return Some((*plan).clone()),
                [] if request.repo_id.is_some() => {
                    problems.add("args", "is missing: name the paths to back up, or a plan_id");
                }
                [] => problems.add(
                    "plan_id",
                    format!("is missing, and no plan covers {}: make one, or name repo_id and args", host.name),
                ),
                _ => problems.add("plan_id", format!("is missing, and several plans cover {}: {}", host.name, names())),
            }
        }
    }
    None
}

/// The one repository that the host's plans use.
fn only_repo(problems: &mut Problems, host: &Host, covering: &[Plan]) -> Option<RepoId> {
    let mut known: Vec<(RepoId, &str)> = covering.iter().map(|plan| (plan.repo_id, plan.repo_name.as_str())).collect();
    known.sort_unstable();
    known.dedup();
    match known.as_slice() {
        [(id, _)] => return Some(*id),
        [] => problems.add("repo_id", format!("is missing, and no plan of {} names one", host.name)),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| *name).collect();
            problems.add(
                "repo_id",
                format!("is missing, and the plans of {} use several: {}", host.name, names.join(", ")),
            );
        }
    }
    None
}

fn backup_paths(problems: &mut Problems, args: Option<Vec<String>>) -> Vec<String> {
    let Some(args) = args else { return Vec::new() };
    if args.is_empty() {
        problems.add("args", "must hold at least one path");
    }
    let checked =
        args.iter().enumerate().filter_map(|(i, path)| problems.take(&format!("args[{i}]"), check_path(path)));
    checked.collect()
}

/// The request that a job was made of.
fn restored(job: Job) -> Result<JobRequest, OpError> {
    let kind = job.kind.as_str().to_owned();
    let timeout_s = Some(job.timeout_s).filter(|seconds| TIMEOUTS_S.contains(seconds));
    let base = JobRequest { kind, repo_id: job.repo_id, timeout_s, ..JobRequest::default() };
    Ok(match (job.kind, job.plan_id, job.input.restore) {
        // The repository is the plan's, even where that changed.
        (JobKind::Backup, Some(plan), _) => JobRequest { repo_id: None, plan_id: Some(plan), ..base },
        (JobKind::Backup, None, _) => JobRequest { args: Some(job.input.args), ..base },
        (JobKind::Restore, _, Some(spec)) => restore::again(base, spec)?,
        _ => base,
    })
}

#[cfg(test)]
mod tests;
