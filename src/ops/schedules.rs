//! Schedules that stand alone: making, changing, removing, running them now; and all schedules of the fleet, wherever they come from.
//! A plan's schedule is changed at the plan.

pub mod list;

use serde::Deserialize;

use crate::{
    credential,
    domain::{
        HostId, JobId, JobKind, Operation, PlanId, RepoId, ScheduleId,
        host::Host,
        job::{Actor, JobInput},
        plan::Plan,
        schedule::{CatchUp, Entry, OwnSchedule, Schedule, Side, Standing},
    },
    ops::{
        error::{OpError, Problems},
        jobs::{self as orders, Desk, JobRequest},
        plans::{check_path, check_retention, check_schedule},
        upkeep,
    },
    store::{Store, WriteTx, audit, hosts, plans, repos, schedules, upkeep as kept},
};

/// Schedules of one host at most: their set must fit into one frame.
const MAX_PER_HOST: usize = 200;

/// A schedule that is to be made.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleInput {
    /// Where it runs. May be left out for all but `backup`: the repository's maintenance host then.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub host_id: Option<HostId>,
    /// `backup` (ticked by the host's agent), `check`, `stats`, `snapshots`, `unlock`, `forget`, `prune`, `tamper`, `copy` or `locks` (ticked by the server).
    /// `forget` and `prune` run on the repository's maintenance host, whichever is named.
    pub kind: String,
    /// The plan of a backup, which must cover the host; or the plan whose rules a forget applies, for the hosts that it covers.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub plan_id: Option<PlanId>,
    /// The repository; may be left out where the host's plans use exactly one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub repo_id: Option<RepoId>,
    /// Details of the job.
    #[serde(default)]
    pub params: ScheduleParams,
    /// Five-field cron.
    pub cron: String,
    /// IANA name.
    pub timezone: String,
    /// Seconds over which it may be put off, always by the same amount.
    #[serde(default)]
    pub jitter_s: u32,
    /// `once` or `skip`.
    #[serde(default)]
    #[schema(value_type = String)]
    pub catch_up: CatchUp,
    /// Whether it fires.
    #[serde(default = "enabled")]
    pub enabled: bool,
}

fn enabled() -> bool {
    true
}

/// Details of a scheduled job.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleParams {
    /// Paths of a backup without a plan.
    pub args: Option<Vec<String>>,
    /// What else the job is to do, by its kind: `{"forget": {"keep": {"keep_daily": 7}}}`, `{"check": {"read_data": true}}`. A forget without a plan needs
    /// it, and a copy.
    #[schema(value_type = Option<Object>)]
    pub operation: Option<Operation>,
}

/// A change of a schedule: what is absent stays. What it does and where cannot be changed: remove it and make another.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulePatch {
    /// Five-field cron.
    pub cron: Option<String>,
    /// IANA name.
    pub timezone: Option<String>,
    /// Seconds.
    pub jitter_s: Option<u32>,
    /// `once` or `skip`.
    #[schema(value_type = Option<String>)]
    pub catch_up: Option<CatchUp>,
    /// `false` pauses it.
    pub enabled: Option<bool>,
}

/// Makes a schedule.
///
/// # Errors
/// [`OpError::Invalid`] by field, [`OpError::Conflict`] where the host has too many, or a failure.
pub async fn create(store: &Store, actor: Actor, input: ScheduleInput) -> Result<OwnSchedule, OpError> {
    let random = credential::random_bits()?;
    store
        .write(move |tx| {
            let mut own = checked(tx, input)?;
            own.id = ScheduleId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            schedules::insert(tx, &own)?;
            let detail = format!("{} of {}: {}", own.kind, own.host_name, own.standing.schedule.in_words());
            audit::record(tx, &actor, "schedule.create", &own.id.to_string(), &detail)?;
            schedules::lookup(tx.db(), own.id)?.ok_or(OpError::NotFound("schedule"))
        })
        .await
}

/// Changes when a schedule runs, and returns it as it is then.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`], [`OpError::Conflict`] for a plan's, or a failure.
pub async fn update(store: &Store, actor: Actor, id: ScheduleId, patch: SchedulePatch) -> Result<OwnSchedule, OpError> {
    store
        .write(move |tx| {
            let own = own(tx, id)?;
            let before = own.standing.schedule.clone();
            let schedule = Schedule {
                cron: patch.cron.unwrap_or(before.cron),
                timezone: patch.timezone.unwrap_or(before.timezone),
                jitter_s: patch.jitter_s.unwrap_or(before.jitter_s),
                catch_up: patch.catch_up.unwrap_or(before.catch_up),
                enabled: patch.enabled.unwrap_or(before.enabled),
            };
            let mut problems = Problems::default();
            let schedule = check_schedule(&mut problems, "", schedule);
            problems.refuse()?;
            let Some(schedule) = schedule else { return Err(OpError::NotFound("schedule")) };
            let standing = Standing::after(Some(&own.standing), schedule, tx.now());
            schedules::set_standing(tx, id, &standing)?;
            let paused = if standing.schedule.enabled { "" } else { ", paused" };
            let detail = format!("{} of {}: {}{paused}", own.kind, own.host_name, standing.schedule.in_words());
            audit::record(tx, &actor, "schedule.update", &id.to_string(), &detail)?;
            schedules::lookup(tx.db(), id)?.ok_or(OpError::NotFound("schedule"))
        })
        .await
}

/// Removes a schedule. Its jobs stay.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] for a plan's, or a failure.
pub async fn remove(store: &Store, actor: Actor, id: ScheduleId) -> Result<(), OpError> {
    store
        .write(move |tx| {
            let own = own(tx, id)?;
            schedules::remove(tx, id)?;
            let detail = format!("{} of {}", own.kind, own.host_name);
            audit::record(tx, &actor, "schedule.remove", &id.to_string(), &detail)?;
            Ok(())
        })
        .await
}

/// Orders now what a schedule orders at its moments: a job like one that is asked for by hand.
///
/// # Errors
/// [`OpError::NotFound`], or what ordering such a job says.
pub async fn run(desk: &Desk, actor: Actor, id: ScheduleId) -> Result<JobId, OpError> {
    let entry = desk.store.read(move |db| list::find(db, id)).await?.ok_or(OpError::NotFound("schedule"))?.entry;
    if Side::of(&entry.kind) == Side::Server {
        return upkeep::run(desk, actor, id).await;
    }
    orders::create(desk, actor, entry.host_id, request_of(entry)).await
}

fn request_of(entry: Entry) -> JobRequest {
    let alone = entry.kind == JobKind::Backup && entry.plan_id.is_none();
    JobRequest {
        kind: entry.kind.as_str().to_owned(),
        plan_id: entry.plan_id,
        repo_id: entry.repo_id.filter(|_| entry.plan_id.is_none()),
        args: alone.then_some(entry.input.args),
        ..JobRequest::default()
    }
}

/// A schedule that may be changed here.
fn own(tx: &WriteTx<'_>, id: ScheduleId) -> Result<OwnSchedule, OpError> {
    if let Some(own) = schedules::lookup(tx.db(), id)?.filter(|own| !own.removed) {
        return Ok(own);
    }
    match list::find(tx.db(), id)? {
        Some(found) => Err(OpError::Conflict(format!(
            "this schedule belongs to the plan {}: change it there, for all hosts of the plan",
            found.entry.name
        ))),
        None => Err(OpError::NotFound("schedule")),
    }
}

fn checked(tx: &WriteTx<'_>, input: ScheduleInput) -> Result<OwnSchedule, OpError> {
    let mut problems = Problems::default();
    let ScheduleInput { host_id, kind, plan_id, repo_id, params, cron, timezone, jitter_s, catch_up, enabled } = input;
    let schedule = check_schedule(&mut problems, "", Schedule { cron, timezone, jitter_s, catch_up, enabled });
    let kind = known_kind(&mut problems, &kind);
    let host = host_of(tx, &mut problems, host_id, (kind.as_ref(), repo_id, plan_id))?;
    let covering = match &host {
        Some(host) => plans::covering(tx.db(), host.id, &host.tags)?,
        None => Vec::new(),
    };
    let plan = plan_of(tx, &mut problems, plan_id, (kind.as_ref(), &covering))?;
    let backup = kind == Some(JobKind::Backup);
    if backup && plan_id.is_none() && params.args.is_none() {
        problems.add("plan_id", "is missing: name the plan to back up by, or the paths as params.args");
    }
    let args = check_args(&mut problems, params.args, backup && plan_id.is_none());
    let operation = check_operation(&mut problems, params.operation, (kind.as_ref(), plan_id));
    let repo_id = repo_of(tx, &mut problems, (plan_id, repo_id), &covering)?;
    check_target(tx, &mut problems, operation.as_ref(), repo_id)?;
    problems.refuse()?;
    let (Some(kind), Some(schedule), Some(host)) = (kind, schedule, host) else {
        return Err(OpError::NotFound("host"));
    };
    if schedules::list(tx.db(), Some(host.id))?.len() >= MAX_PER_HOST {
        return Err(OpError::Conflict(format!(
            "the host has {MAX_PER_HOST} schedules of its own already: remove one, or use a plan"
        )));
    }
    Ok(OwnSchedule {
        // Given by the caller.
        id: ScheduleId::from_parts(0, 0),
        host_id: host.id,
        host_name: host.name,
        // A backup goes where its plan says, also when that changes; what is done for a repository is found by it.
        repo_id: repo_id.or_else(|| plan.filter(|_| kind == JobKind::Forget).map(|plan| plan.repo_id)),
        kind,
        plan_id,
        plan_name: None,
        repo_name: None,
        input: JobInput { args, operation, ..JobInput::default() },
        standing: Standing { schedule, since: tx.now() },
        created_at: tx.now(),
        removed: false,
    })
}

fn host_of(
    tx: &WriteTx<'_>,
    problems: &mut Problems,
    host_id: Option<HostId>,
    (kind, repo_id, plan_id): (Option<&JobKind>, Option<RepoId>, Option<PlanId>),
) -> Result<Option<Host>, OpError> {
    let anywhere = kind.is_some_and(|kind| Side::of(kind) == Side::Server);
    let host_id = match host_id {
        None if anywhere => {
            let of_plan = plan_id.map(|id| plans::lookup(tx.db(), id)).transpose()?.flatten().map(|plan| plan.repo_id);
            repo_id.or(of_plan).map(|repo| kept::maintenance_host(tx.db(), repo)).transpose()?.flatten()
        }
        given => given,
    };
    let Some(id) = host_id else {
        problems.add("host_id", "is missing: name the host whose agent is to do it");
        return Ok(None);
    };
    let host = hosts::lookup(tx.db(), id)?;
    if host.is_none() {
        problems.add("host_id", "names no host: GET /api/hosts lists them");
    }
    Ok(host)
}

fn plan_of(
    tx: &WriteTx<'_>,
    problems: &mut Problems,
    plan_id: Option<PlanId>,
    (kind, covering): (Option<&JobKind>, &[Plan]),
) -> Result<Option<Plan>, OpError> {
    let Some(id) = plan_id else { return Ok(None) };
    let plan = match kind {
        Some(JobKind::Backup) => {
            let plan = covering.iter().find(|plan| plan.id == id).cloned();
            if plan.is_none() {
                problems.add("plan_id", "names no plan that covers the host");
            }
            plan
        }
        Some(JobKind::Forget) => {
            let plan = plans::lookup(tx.db(), id)?;
            if plan.is_none() {
                problems.add("plan_id", "names no plan: GET /api/plans lists them");
            }
            plan
        }
        Some(_) => {
            problems.add("plan_id", "belongs to a backup or a forget only");
            None
        }
        None => None,
    };
    Ok(plan)
}

fn repo_of(
    tx: &WriteTx<'_>,
    problems: &mut Problems,
    given: (Option<PlanId>, Option<RepoId>),
    covering: &[Plan],
) -> Result<Option<RepoId>, OpError> {
    Ok(match given {
        (Some(_), None) => None,
        (Some(_), Some(_)) => {
            problems.add("repo_id", "can't go with plan_id: the plan says where to");
            None
        }
        (None, Some(id)) => {
            if repos::lookup(tx.db(), id)?.is_none() {
                problems.add("repo_id", "names no repository: GET /api/repos lists them");
            }
            Some(id)
        }
        (None, None) => {
            let mut used: Vec<RepoId> = covering.iter().map(|plan| plan.repo_id).collect();
            used.sort_unstable();
            used.dedup();
            if used.len() != 1 {
                problems.add("repo_id", "is missing, and the host's plans do not use exactly one repository");
            }
            used.first().copied()
        }
    })
}

fn known_kind(problems: &mut Problems, text: &str) -> Option<JobKind> {
    const KNOWN: [JobKind; 10] = [
        JobKind::Backup,
        JobKind::Check,
        JobKind::Stats,
        JobKind::Snapshots,
        JobKind::Unlock,
        JobKind::Forget,
        JobKind::Prune,
        JobKind::Tamper,
        JobKind::Copy,
        JobKind::Locks,
    ];
    let known = || KNOWN.iter().map(JobKind::as_str).collect::<Vec<_>>().join(", ");
    match text.parse::<JobKind>() {
        Ok(kind) if KNOWN.contains(&kind) => Some(kind),
        Ok(JobKind::Runbook(_)) | Err(_) => {
            problems.add("kind", format!("{text:?} is not a known kind; schedules know {}", known()));
            None
        }
        Ok(kind) => {
            problems.add("kind", format!("{kind} is done once and by hand; schedules know {}", known()));
            None
        }
    }
}

fn check_operation(
    problems: &mut Problems,
    operation: Option<Operation>,
    (kind, plan_id): (Option<&JobKind>, Option<PlanId>),
) -> Option<Operation> {
    let field = "params.operation";
    match (kind, &operation) {
        (Some(JobKind::Forget), Some(_)) if plan_id.is_some() => {
            problems.add(field, "can't go with plan_id: the plan has the rules");
        }
        (Some(JobKind::Forget), Some(Operation::Forget(spec))) => {
            check_retention(problems, "params.operation.forget.keep", &spec.keep);
            if spec.keep.keeps_all() {
                problems.add("params.operation.forget.keep", "keeps everything: name at least one rule");
            }
        }
        (Some(JobKind::Forget), None) if plan_id.is_none() => {
            problems.add("plan_id", "is missing: name the plan whose rules apply, or rules as params.operation");
        }
        (Some(JobKind::Copy), None) => problems.add(field, "is missing: name the second repository as copy.to"),
        (_, None)
        | (Some(JobKind::Check), Some(Operation::Check(_)))
        | (Some(JobKind::Stats), Some(Operation::Stats(_)))
        | (Some(JobKind::Prune), Some(Operation::Prune(_)))
        | (Some(JobKind::Copy), Some(Operation::Copy(_))) => {}
        (Some(kind), Some(_)) => problems.add(field, format!("does not belong to a job of kind {kind}")),
        (None, Some(_)) => {}
    }
    operation
}

/// A copy needs another repository that is there.
fn check_target(
    tx: &WriteTx<'_>,
    problems: &mut Problems,
    operation: Option<&Operation>,
    from: Option<RepoId>,
) -> Result<(), OpError> {
    let Some(Operation::Copy(spec)) = operation else { return Ok(()) };
    let field = "params.operation.copy.to";
    if Some(spec.to) == from {
        problems.add(field, "is the repository itself: name another one");
    } else if repos::lookup(tx.db(), spec.to)?.is_none() {
        problems.add(field, "names no repository: GET /api/repos lists them");
    }
    Ok(())
}

fn check_args(problems: &mut Problems, args: Option<Vec<String>>, wanted: bool) -> Vec<String> {
    let Some(args) = args else { return Vec::new() };
    if !wanted {
        problems.add("params.args", "belongs to a backup without a plan only");
    } else if args.is_empty() {
        problems.add("params.args", "must hold at least one path");
    }
    let checked =
        args.iter().enumerate().filter_map(|(i, path)| problems.take(&format!("params.args[{i}]"), check_path(path)));
    checked.collect()
}

#[cfg(test)]
mod tests;
