//! Schedules that stand alone: making, changing, removing, running them now; and all schedules of the fleet, wherever they come from.
//! A plan's schedule is changed at the plan.

pub mod list;

use serde::Deserialize;

use crate::{
    credential,
    domain::{
        HostId, JobId, JobKind, PlanId, RepoId, ScheduleId,
        job::{Actor, JobInput},
        schedule::{CatchUp, Entry, OwnSchedule, Schedule, Standing},
    },
    ops::{
        error::{OpError, Problems},
        jobs::{self as orders, Desk, JobRequest},
        plans::{check_path, check_schedule},
    },
    store::{Store, WriteTx, audit, hosts, plans, repos, schedules},
};

/// Schedules of one host at most: their set must fit into one frame.
const MAX_PER_HOST: usize = 200;

/// A schedule that is to be made.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleInput {
    /// Where it runs.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// `backup` (ticked by the host's agent), `check`, `stats`, `snapshots` or `unlock` (ticked by the server).
    pub kind: String,
    /// The plan of a backup; it must cover the host.
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
    let host = hosts::lookup(tx.db(), host_id)?;
    if host.is_none() {
        problems.add("host_id", "names no host: GET /api/hosts lists them");
    }
    let covering = match &host {
        Some(host) => plans::covering(tx.db(), host.id, &host.tags)?,
        None => Vec::new(),
    };
    let plan = covering.iter().find(|plan| Some(plan.id) == plan_id);
    if plan_id.is_some() && plan.is_none() {
        problems.add("plan_id", "names no plan that covers the host");
    }
    let backup = kind == Some(JobKind::Backup);
    if plan_id.is_some() && !backup && kind.is_some() {
        problems.add("plan_id", "belongs to a backup only");
    }
    if backup && plan_id.is_none() && params.args.is_none() {
        problems.add("plan_id", "is missing: name the plan to back up by, or the paths as params.args");
    }
    let args = check_args(&mut problems, params.args, backup && plan_id.is_none());
    let repo_id = match (plan_id, repo_id) {
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
    };
    problems.refuse()?;
    if schedules::list(tx.db(), Some(host_id))?.len() >= MAX_PER_HOST {
        return Err(OpError::Conflict(format!(
            "the host has {MAX_PER_HOST} schedules of its own already: remove one, or use a plan"
        )));
    }
    let (Some(kind), Some(schedule), Some(host)) = (kind, schedule, host) else {
        return Err(OpError::NotFound("host"));
    };
    Ok(OwnSchedule {
        // Given by the caller.
        id: ScheduleId::from_parts(0, 0),
        host_id,
        host_name: host.name,
        kind,
        plan_id,
        plan_name: None,
        repo_id,
        repo_name: None,
        input: JobInput { args, ..JobInput::default() },
        standing: Standing { schedule, since: tx.now() },
        created_at: tx.now(),
        removed: false,
    })
}

fn known_kind(problems: &mut Problems, text: &str) -> Option<JobKind> {
    const KNOWN: &str = "backup, check, stats, snapshots, unlock";
    match text.parse::<JobKind>() {
        Ok(kind @ (JobKind::Backup | JobKind::Check | JobKind::Stats | JobKind::Snapshots | JobKind::Unlock)) => {
            Some(kind)
        }
        Ok(kind @ (JobKind::Restore | JobKind::Init)) => {
            problems.add("kind", format!("{kind} is done once and by hand; schedules know {KNOWN}"));
            None
        }
        Ok(JobKind::Runbook(_)) | Err(_) => {
            problems.add("kind", format!("{text:?} is not a known kind; schedules know {KNOWN}"));
            None
        }
        Ok(kind) => {
            problems.add("kind", format!("{kind} is not in this version yet; schedules know {KNOWN}"));
            None
        }
    }
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
