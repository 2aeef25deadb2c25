//! The upkeep of repositories: what a scheduled order means at the moment when it is made (the rules of a plan as they are now, the next part of the
//! data), and setting all of it up at once.

use crate::{
    credential,
    domain::{
        ForgetSpec, HostId, JobId, JobKind, Operation, RepoId, ScheduleId, Selection, Timestamp,
        job::{Actor, JobInput, NewJob},
        plan::Plan,
        repo::{Repo, Upkeep},
        schedule::{OwnSchedule, Schedule, Standing},
        upkeep::{self, CHECK_DAYS, Duty, Line, Overview, Part},
    },
    ops::{
        error::OpError,
        jobs::{Desk, plan_tag, timeout_s},
    },
    store::{Db, Store, StoreError, WriteTx, audit, hosts, jobs, plans, repos, schedules, upkeep as kept},
};

/// Most days over which the data may be read.
const MOST_DAYS: u32 = 3650;

/// What a schedule orders now.
#[derive(Debug, Clone, PartialEq)]
pub enum Due {
    /// A job.
    Order {
        /// Where it runs.
        host: HostId,
        /// On which repository.
        repo: Option<RepoId>,
        /// Its details.
        input: Box<JobInput>,
    },
    /// Nothing, and why: for the person who asks.
    Nothing(&'static str),
}

/// What a schedule that stands alone orders at `now`.
///
/// # Errors
/// [`StoreError`].
pub fn due(db: &Db, own: &OwnSchedule, now: Timestamp) -> Result<Due, StoreError> {
    let plan = own.plan_id.map(|id| plans::lookup(db, id)).transpose()?.flatten();
    let repo = plan.as_ref().map(|plan| plan.repo_id).or(own.repo_id);
    // Who may delete can change; the schedule stands.
    let deletes = matches!(own.kind, JobKind::Forget | JobKind::Prune | JobKind::Tag | JobKind::Repair);
    let host = match repo.filter(|_| deletes) {
        Some(repo) => kept::maintenance_host(db, repo)?.unwrap_or(own.host_id),
        None => own.host_id,
    };
    let operation = match (&own.kind, own.plan_id, plan, repo) {
        (JobKind::Forget, Some(_), None, _) => return Ok(Due::Nothing("its plan was removed, and with it the rules")),
        (JobKind::Forget, Some(_), Some(plan), _) => match forget(&plan) {
            Ok(spec) => Some(Operation::Forget(spec)),
            Err(why) => return Ok(Due::Nothing(why)),
        },
        (JobKind::Check, _, _, Some(repo)) if own.input.operation.is_none() => {
            next_part(db, repo, &own.standing.schedule, now)?.map(Part::order)
        }
        _ => own.input.operation.clone(),
    };
    Ok(Due::Order { host, repo, input: Box::new(JobInput { operation, ..own.input.clone() }) })
}

/// What a plan's rules mean now, for the snapshots that its backups made; or why they mean nothing.
fn forget(plan: &Plan) -> Result<ForgetSpec, &'static str> {
    if plan.retention.keeps_all() {
        return Err("the plan keeps everything");
    }
    let of = Selection { tags: vec![plan_tag(plan.id)], ..Selection::default() };
    Ok(ForgetSpec { keep: plan.retention.clone(), of, group_by: vec!["host".to_owned()], prune: false, dry_run: false })
}

/// Orders now what a schedule that this server ticks orders at its moments.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where it has nothing to do or its host runs nothing, or a failure.
pub async fn run(desk: &Desk, actor: Actor, id: ScheduleId) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let expiry_s = i64::try_from(desk.rules.expiry_s).unwrap_or(i64::MAX);
    desk.store
        .write(move |tx| {
            let own =
                schedules::lookup(tx.db(), id)?.filter(|own| !own.removed).ok_or(OpError::NotFound("schedule"))?;
            let (host, repo, input) = match due(tx.db(), &own, tx.now())? {
                Due::Order { host, repo, input } => (host, repo, *input),
                Due::Nothing(why) => return Err(OpError::Conflict(format!("there is nothing to do: {why}"))),
            };
            if hosts::lookup(tx.db(), host)?.is_none_or(|host| host.revoked_at.is_some()) {
                return Err(OpError::Conflict(
                    "its host was removed or its agent's identity revoked: make the schedule anew for another"
                        .to_owned(),
                ));
            }
            let order = NewJob {
                about: Default::default(),
                id: JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random),
                host_id: host,
                timeout_s: timeout_s(&own.kind),
                kind: own.kind,
                actor,
                moment: None,
                ran_alone: false,
                plan_id: own.plan_id,
                repo_id: repo,
                input,
                rerun_of: None,
                expires_at: Some(tx.now().plus_s(expiry_s)),
            };
            jobs::insert(tx, &order)?;
            audit::record(
                tx,
                &order.actor,
                "job.create",
                &order.id.to_string(),
                &format!("{}, by its schedule", order.kind),
            )?;
            Ok(order.id)
        })
        .await
}

/// The part of the data that a check by this schedule reads next; `None` where only the structure is checked.
fn next_part(db: &Db, repo: RepoId, schedule: &Schedule, now: Timestamp) -> Result<Option<Part>, StoreError> {
    let Some(days) = repos::lookup(db, repo)?.and_then(|repo| repo.upkeep.check_days) else { return Ok(None) };
    Ok(Some(Part::after(kept::last_part(db, repo)?, upkeep::parts(schedule, days, now))))
}

/// The upkeep of a repository as it stands.
///
/// # Errors
/// [`StoreError`].
pub fn overview(db: &Db, repo: &Repo, now: Timestamp) -> Result<Overview, StoreError> {
    let standing = schedules::using_repo(db, repo.id)?;
    let maintenance = kept::maintenance_host(db, repo.id)?.map(|id| hosts::lookup(db, id)).transpose()?.flatten();
    let mut overview = Overview {
        check_days: repo.upkeep.check_days,
        maintenance: maintenance.map(|host| (host.id, host.name)),
        ..Overview::default()
    };
    let cannot_delete = if repo.append_only && !repo.has_maintenance() {
        Some("it needs credentials that may delete: enter them under Change")
    } else if repo.has_maintenance() && overview.maintenance.is_none() {
        Some("no host may delete: name a maintenance host under Change")
    } else {
        None
    };
    for (duty, plan) in wanted(db, repo)? {
        let of_plan = |own: &&OwnSchedule| plan.as_ref().is_none_or(|plan| own.plan_id == Some(plan.id));
        let schedule = standing.iter().find(|own| own.kind == duty.kind() && of_plan(own)).cloned();
        let enabled = schedule.as_ref().map(|own| &own.standing.schedule).filter(|schedule| schedule.enabled);
        if duty == Duty::Check
            && let Some(schedule) = enabled
        {
            overview.next_part = next_part(db, repo.id, schedule, now)?;
        }
        overview.lines.push(Line {
            next: enabled.and_then(|schedule| schedule.calendar().ok()?.next_after(now)),
            last: kept::last_job(db, repo.id, &duty.kind())?,
            plan: plan.map(|plan| (plan.id, plan.name)),
            obstacle: cannot_delete.filter(|_| matches!(duty, Duty::Forget | Duty::Prune)),
            schedule,
            duty,
        });
    }
    Ok(overview)
}

/// What belongs to the upkeep of a repository: a forget for each plan that does not keep everything, a tamper test where there is a promise to test.
fn wanted(db: &Db, repo: &Repo) -> Result<Vec<(Duty, Option<Plan>)>, StoreError> {
    let plans = plans::using_repo(db, repo.id)?;
    let mut wanted = Vec::new();
    for duty in Duty::ALL {
        match duty {
            Duty::Forget => {
                let with_rules = plans.iter().filter(|plan| !plan.retention.keeps_all());
                wanted.extend(with_rules.map(|plan| (duty, Some(plan.clone()))));
            }
            Duty::Tamper if !repo.append_only => {}
            _ => wanted.push((duty, None)),
        }
    }
    Ok(wanted)
}

/// How upkeep is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// Where what can run anywhere runs; the maintenance host where absent.
    pub host: Option<HostId>,
    /// Within how many days all data is to be read; 0: only the structure is checked.
    pub check_days: Option<u32>,
}

/// Sets up what is missing of a repository's upkeep and can be done, and leaves what stands as it is. Returns how many schedules were made.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Invalid`] for the days or where no host is known, or a failure.
pub async fn set_up(store: &Store, actor: Actor, repo: RepoId, wish: Wish) -> Result<u32, OpError> {
    let random = credential::random_bits()?;
    store
        .write(move |tx| {
            let repo = repos::lookup(tx.db(), repo)?.ok_or(OpError::NotFound("repository"))?;
            if wish.check_days.is_some_and(|days| days > MOST_DAYS) {
                return Err(OpError::field(
                    "check_days",
                    format!("must be at most {MOST_DAYS}; 0 checks the structure only"),
                ));
            }
            let host = match wish.host {
                Some(id) => hosts::lookup(tx.db(), id)?.map(|host| host.id),
                None => match kept::maintenance_host(tx.db(), repo.id)? {
                    Some(host) => Some(host),
                    None => hosts::own(tx.db())?.map(|host| host.id),
                },
            };
            let host = host
                .ok_or_else(|| OpError::field("host_id", "is missing: choose the host whose agent does the upkeep"))?;
            let days = wish.check_days.or(repo.upkeep.check_days).unwrap_or(CHECK_DAYS);
            let upkeep = Upkeep { check_days: Some(days).filter(|days| *days > 0), ..repo.upkeep.clone() };
            repos::set_upkeep(tx, repo.id, &upkeep)?;
            let made = make_missing(tx, &repo, host, random)?;
            let detail = format!("{}: {made} schedules, all data within {days} days", repo.name);
            audit::record(tx, &actor, "repo.upkeep", &repo.id.to_string(), &detail)?;
            Ok(made)
        })
        .await
}

fn make_missing(tx: &mut WriteTx<'_>, repo: &Repo, host: HostId, random: u128) -> Result<u32, OpError> {
    let lines = overview(tx.db(), repo, tx.now())?.lines;
    let plans = plans::using_repo(tx.db(), repo.id)?;
    let zone = plans.iter().find_map(|plan| plan.schedule.as_ref()).map_or("UTC", |s| s.schedule.timezone.as_str());
    let mut made = 0;
    for line in lines.into_iter().filter(Line::is_missing) {
        let own = OwnSchedule {
            id: ScheduleId::from_parts(tx.now().unix_ms().unsigned_abs(), random.wrapping_add(u128::from(made))),
            host_id: host,
            host_name: String::new(),
            kind: line.duty.kind(),
            plan_id: line.plan.map(|(id, _)| id),
            plan_name: None,
            repo_id: Some(repo.id),
            repo_name: None,
            input: JobInput::default(),
            standing: Standing { schedule: line.duty.preset(zone), since: tx.now() },
            created_at: tx.now(),
            removed: false,
        };
        schedules::insert(tx, &own)?;
        made += 1;
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
