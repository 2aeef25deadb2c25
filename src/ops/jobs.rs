//! Orders: making a job for a host, repeating one, cancelling one. An order is resolved completely when it is made: its plan, its
//! repository, its paths. What is asked for and not built yet is refused by name, never dropped.

mod details;
mod many;
mod request;
mod restore;
mod rights;
mod runbooks;

pub use details::plan_tag;
pub(in crate::ops) use many::ForMany;
pub use request::JobRequest;
pub use rights::{least_role, least_role_again};
pub use runbooks::{Preview, PreviewStep, PreviewWay, preview};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    credential,
    domain::{
        HostId, JobId, JobKind, Operation, PlanId, RepoId,
        host::Host,
        job::{About, Actor, Job, JobInput, NewJob},
        plan::Plan,
        queue::QueueRules,
        user::Role,
    },
    hub::Hub,
    ops::{
        error::{OpError, Problems},
        plans::check_path,
    },
    runbook::Library,
    store::{
        Store, WriteTx, audit, hosts,
        jobs::{self, Cancelled},
        plans, repos,
    },
    vault::Vault,
};

const HOUR_S: u64 = 3600;

/// Where orders are placed.
#[derive(Clone)]
pub struct Desk {
    /// Keeps them.
    pub store: Store,
    /// Knows whose agent is there.
    pub hub: Hub,
    /// Seals answers that are secret.
    pub vault: Vault,
    /// Bound what may run at once, and how long an order waits.
    pub rules: QueueRules,
    /// What can be run besides restic.
    pub runbooks: Library,
}

/// Makes a job for a host, queued.
///
/// # Errors
/// [`OpError::NotFound`] for the host, [`OpError::Invalid`] for what is asked, [`OpError::Conflict`] where the host can run nothing,
/// [`OpError::Busy`] where it would have to wait and must not, or a failure.
pub async fn create(desk: &Desk, actor: Actor, host: HostId, request: JobRequest) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let book = runbooks::of_request(desk, &request).await?;
    let at = desk.clone();
    desk.store
        .write(move |tx| {
            let may_wait = request.queue.unwrap_or(true);
            let job = match book {
                Some(book) => {
                    let host = hosts::lookup(tx.db(), host)?.ok_or(OpError::NotFound("host"))?;
                    let ordered = runbooks::work(tx.db(), &at.hub, &host, request, book)?;
                    runbooks::place(tx, &at, &actor, ordered, random)?
                }
                None => {
                    let work = resolve(tx, host, request)?;
                    place(tx, at.rules, &actor, work, random)?
                }
            };
            if !may_wait {
                // Nothing of it is kept then: this command's work is undone as a whole.
                refuse_to_wait(tx, at.rules, &at.hub, job)?;
            }
            Ok(job)
        })
        .await
}

/// What is said anew where a job is repeated.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// Of a runbook: answers that take the place of the earlier ones. Those to secret inputs are not kept, and needed again.
    #[schema(value_type = Option<Object>)]
    pub params: Option<Map<String, Value>>,
    /// Of a runbook that removes or replaces something: the host's name.
    pub confirm: Option<String>,
}

/// Makes the same job again, resolved anew: a plan that was changed since is followed as it is now, and so is a runbook.
///
/// # Errors
/// As [`create`]; [`OpError::Conflict`] where the job is not over.
pub async fn rerun(desk: &Desk, actor: Actor, job: JobId, more: Again) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let book = book_again(desk, job, more).await?;
    let at = desk.clone();
    desk.store
        .write(move |tx| {
            let old = jobs::lookup(tx.db(), job)?.ok_or(OpError::NotFound("job"))?;
            if !old.status.is_final() {
                return Err(OpError::Conflict(format!(
                    "the job is {}: wait for its end, or cancel it first",
                    old.status
                )));
            }
            match book {
                Some((request, book)) => {
                    let host = hosts::lookup(tx.db(), old.seat())?.ok_or(OpError::NotFound("host"))?;
                    let mut ordered = runbooks::work(tx.db(), &at.hub, &host, request, book)?;
                    ordered.work.rerun_of = Some(old.id);
                    runbooks::place(tx, &at, &actor, ordered, random)
                }
                None => {
                    let work = again(tx, old)?;
                    place(tx, at.rules, &actor, work, random)
                }
            }
        })
        .await
}

/// The request and the runbook of a job that is to be repeated, where it is one: the file as it is now.
async fn book_again(desk: &Desk, job: JobId, more: Again) -> Result<Option<(JobRequest, runbooks::Book)>, OpError> {
    let Some(old) = desk.store.read(move |db| jobs::lookup(db, job)).await? else { return Ok(None) };
    match old.input.runbook {
        Some(input) => {
            let (request, book) = runbooks::again(desk, &old.kind, &input, more).await?;
            Ok(Some((JobRequest { site_id: old.site_id, ..request }, book)))
        }
        None => {
            let mut problems = Problems::default();
            for (field, given) in [("params", more.params.is_some()), ("confirm", more.confirm.is_some())] {
                if given {
                    problems
                        .add(field, format!("does not belong to a {} that is run again: order a new one", old.kind));
                }
            }
            problems.refuse().map(|()| None)
        }
    }
}

/// What someone must be to order this, where it is a runbook; [`least_role`] for all else.
///
/// # Errors
/// As [`create`], where the runbook is not there or broken.
pub async fn role_for(desk: &Desk, request: &JobRequest) -> Result<Role, OpError> {
    Ok(match runbooks::of_request(desk, request).await? {
        Some((runbook, _)) => runbooks::role(&runbook),
        None => least_role(request),
    })
}

/// What someone must be to order a job again: what it needed then, and what its runbook needs as it is now.
///
/// # Errors
/// As [`create`], where the runbook is not there any more or broken.
pub async fn role_again(desk: &Desk, job: &Job) -> Result<Role, OpError> {
    let then = least_role_again(job);
    let now = match &job.input.runbook {
        Some(_) => runbooks::role_now(desk, &job.kind).await?,
        None => Role::Viewer,
    };
    Ok(then.max(now))
}

/// Refuses a job that was just placed where it would have to wait.
fn refuse_to_wait(tx: &WriteTx<'_>, rules: QueueRules, hub: &Hub, id: JobId) -> Result<(), OpError> {
    let Some(job) = jobs::lookup(tx.db(), id)? else { return Ok(()) };
    let host = job.shown_host().to_owned();
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

/// A piece of work that is resolved: what remains to be said is on which host, by whose leave, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// Where it is to run. What deletes runs on its repository's maintenance host, whichever host is named here.
    pub host: HostId,
    /// What it is about besides.
    pub about: About,
    /// What is done.
    pub kind: JobKind,
    /// In which repository; none for a runbook.
    pub repo: Option<RepoId>,
    /// By which plan.
    pub plan: Option<PlanId>,
    /// The details.
    pub input: JobInput,
    /// The job that this one repeats.
    pub rerun_of: Option<JobId>,
    /// Seconds until it is stopped; [`timeout_s`] of the kind where absent.
    pub timeout_s: Option<u64>,
    /// Seconds after which it is given up if no agent has taken it; the queue's rule where absent.
    pub expires_in_s: Option<u64>,
}

impl Work {
    /// Work of a kind, with what its operation says.
    #[must_use]
    pub fn of(host: HostId, kind: JobKind, repo: RepoId, operation: Option<Operation>) -> Self {
        let input = JobInput { operation, ..JobInput::default() };
        let (about, repo) = (About::default(), Some(repo));
        Self { host, about, kind, repo, plan: None, input, rerun_of: None, timeout_s: None, expires_in_s: None }
    }
}

/// Places a resolved piece of work in the queue: for pages and for what looks after repositories by itself. Nothing of `work` is checked but that it may
/// run where it is to run.
///
/// # Errors
/// [`OpError::NotFound`] for the host or the repository, [`OpError::Conflict`] where it can't run, or a failure.
pub async fn order(desk: &Desk, actor: Actor, work: Work) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let rules = desk.rules;
    desk.store.write(move |tx| place(tx, rules, &actor, work, random)).await
}

/// [`order`] within a transaction; `random` becomes the lower part of the job's id.
///
/// # Errors
/// As [`order`].
pub fn place(
    tx: &mut WriteTx<'_>,
    rules: QueueRules,
    actor: &Actor,
    work: Work,
    random: u128,
) -> Result<JobId, OpError> {
    let asked = hosts::lookup(tx.db(), work.host)?.ok_or(OpError::NotFound("host"))?;
    let repo = match work.repo {
        Some(id) => Some(repos::lookup(tx.db(), id)?.ok_or(OpError::NotFound("repository"))?),
        None => None,
    };
    let host = match &repo {
        Some(repo) if work.input.removes(&work.kind) => rights::maintenance_host(tx.db(), asked, repo, &work.kind)?,
        _ => asked,
    };
    if host.revoked_at.is_some() {
        return Err(OpError::Conflict(format!(
            "the identity of {}'s agent was revoked, so it runs nothing: enrol it again first",
            host.name
        )));
    }
    if work.repo.is_some() && !host.has_agent() {
        return Err(OpError::Conflict(format!(
            "{} has no agent, and restic is run by one: enrol it as a host with an agent (Add host)",
            host.name
        )));
    }
    let id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
    let plan = work.plan.map(|id| plans::lookup(tx.db(), id)).transpose()?.flatten();
    let about = work.about.host.map(|id| hosts::lookup(tx.db(), id)).transpose()?.flatten();
    let detail = match (&plan, about) {
        (Some(plan), _) => format!("{} of {} by {}", work.kind, host.name, plan.name),
        (None, Some(about)) => format!("{} on {}", work.kind, about.name),
        (None, None) => format!("{} on {}", work.kind, host.name),
    };
    let expires_in_s = i64::try_from(work.expires_in_s.unwrap_or(rules.expiry_s)).unwrap_or(i64::MAX);
    let job = NewJob {
        about: work.about,
        id,
        host_id: host.id,
        timeout_s: work.timeout_s.unwrap_or_else(|| timeout_s(&work.kind)),
        kind: work.kind,
        actor: actor.clone(),
        plan_id: plan.map(|plan| plan.id),
        repo_id: work.repo,
        input: work.input,
        rerun_of: work.rerun_of,
        moment: None,
        ran_alone: false,
        expires_at: Some(tx.now().plus_s(expires_in_s)),
    };
    jobs::insert(tx, &job)?;
    audit::record(tx, actor, "job.create", &id.to_string(), &detail)?;
    Ok(id)
}

/// Seconds until the agent stops a job of this kind.
#[must_use]
pub fn timeout_s(kind: &JobKind) -> u64 {
    match kind {
        JobKind::Backup
        | JobKind::Restore
        | JobKind::Check
        | JobKind::Forget
        | JobKind::Prune
        | JobKind::Copy
        | JobKind::Repair => 24 * HOUR_S,
        JobKind::Stats | JobKind::Dump | JobKind::Tag => 6 * HOUR_S,
        _ => HOUR_S,
    }
}

/// What a request asks for, or all that is wrong with it.
fn resolve(tx: &WriteTx<'_>, host: HostId, request: JobRequest) -> Result<Work, OpError> {
    let host = hosts::lookup(tx.db(), host)?.ok_or(OpError::NotFound("host"))?;
    let kind = request::known_kind(&request.kind)?;
    let mut request = request.merged()?;
    let mut problems = Problems::default();
    request.refuse_strangers(&mut problems, &kind);
    let covering = plans::covering(tx.db(), host.id, &host.tags)?;
    let plan = match kind {
        JobKind::Backup => plan_of(&mut problems, &host, &covering, &request),
        JobKind::Forget => details::plan_to_forget_by(tx.db(), &mut problems, &request)?,
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
        (None, None) if kind == JobKind::Forget && request.plan_id.is_some() => None,
        (None, None) => only_repo(&mut problems, &host, &covering),
    };
    let (timeout_s, expires_in_s) = (request.timeout_s, request.expires_in_s);
    let input = match kind {
        JobKind::Restore => JobInput { restore: restore::spec(&mut problems, &host, request), ..JobInput::default() },
        _ => {
            let args = request.args.take().filter(|_| kind == JobKind::Backup);
            let args = backup_paths(&mut problems, args);
            let operation = details::operation(tx.db(), &mut problems, &kind, plan.as_ref(), repo, request)?;
            JobInput { args, operation, ..JobInput::default() }
        }
    };
    problems.refuse()?;
    let repo = repo.ok_or_else(|| OpError::field("repo_id", "is missing"))?;
    let plan = plan.map(|plan| plan.id);
    let repo = Some(repo);
    let about = About::default();
    Ok(Work { host: host.id, about, kind, repo, plan, input, rerun_of: None, timeout_s, expires_in_s })
}

/// The work of a job once more. What a plan says is asked anew, and what needs a confirmation needs it again.
fn again(tx: &WriteTx<'_>, old: Job) -> Result<Work, OpError> {
    let rerun_of = Some(old.id);
    let timeout_s = Some(old.timeout_s).filter(|seconds| request::TIMEOUTS_S.contains(seconds));
    let mut input = old.input;
    if let (Some(plan_id), JobKind::Backup | JobKind::Forget) = (old.plan_id, &old.kind) {
        // The repository is the plan's, even where that changed.
        let mut request = JobRequest { plan_id: Some(plan_id), timeout_s, ..JobRequest::of(&old.kind) };
        match input.operation {
            Some(Operation::Backup(spec)) => request.dry_run = Some(spec.dry_run),
            Some(Operation::Forget(spec)) => {
                request.dry_run = Some(spec.dry_run);
                request.prune = Some(spec.prune);
            }
            _ => {}
        }
        return Ok(Work { rerun_of, ..resolve(tx, old.host_id, request)? });
    }
    if let Some(spec) = &input.restore {
        restore::refuse_in_place(spec)?;
    }
    if let Some(Operation::Unlock(spec)) = &mut input.operation {
        // Who was dead then may be another process now.
        spec.proven_dead.clear();
    }
    let repo = Some(old.repo_id.ok_or(OpError::NotFound("repository"))?);
    let plan = old.plan_id;
    let (host, about, kind) = (old.host_id, About::default(), old.kind);
    Ok(Work { host, about, kind, repo, plan, input, rerun_of, timeout_s, expires_in_s: None })
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

#[cfg(test)]
mod tests;
