//! Orders for a repository as such: whoever asks does not care which host does it, as long as it can reach the repository.

use crate::{
    credential,
    domain::{
        CheckSpec, HostId, JobId, JobKind, Operation, RepoId, StatsSpec, UnlockSpec,
        health::{
            Subject,
            locks::{SeenLock, Standing},
            repair::Step,
        },
        job::Actor,
        queue::QueueRules,
    },
    hub::Hub,
    ops::{
        OpError,
        health::latest_damage,
        jobs::{self as desk, Desk, Work},
    },
    store::{
        Db, WriteTx,
        health::{self, locks},
        hosts::{self, HostFilter},
        plans,
    },
};

/// Lists the locks of a repository, and asks the hosts of their owners whether those live.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where it is looked at already or no host can, or a failure.
pub async fn look_at_locks(desk: &Desk, actor: Actor, repo: RepoId) -> Result<JobId, OpError> {
    start(desk, actor, repo, |db, subject| {
        refuse_second(db, subject, &JobKind::Locks)?;
        Ok((None, JobKind::Locks, None))
    })
    .await
}

/// Measures a repository.
///
/// # Errors
/// As [`look_at_locks`].
pub async fn measure(desk: &Desk, actor: Actor, repo: RepoId) -> Result<JobId, OpError> {
    start(desk, actor, repo, |db, subject| {
        refuse_second(db, subject, &JobKind::Stats)?;
        Ok((None, JobKind::Stats, Some(Operation::Stats(StatsSpec::default()))))
    })
    .await
}

/// Checks a repository's structure, or with `read_data` all of its data.
///
/// # Errors
/// As [`look_at_locks`].
pub async fn check(desk: &Desk, actor: Actor, repo: RepoId, read_data: bool) -> Result<JobId, OpError> {
    start(desk, actor, repo, move |db, subject| {
        refuse_second(db, subject, &JobKind::Check)?;
        let spec = CheckSpec { read_data, ..CheckSpec::default() };
        Ok((None, JobKind::Check, Some(Operation::Check(spec))))
    })
    .await
}

/// Tries to delete and to overwrite with a host's credentials.
///
/// # Errors
/// As [`look_at_locks`].
pub async fn test_append_only(desk: &Desk, actor: Actor, repo: RepoId) -> Result<JobId, OpError> {
    start(desk, actor, repo, |db, subject| {
        refuse_second(db, subject, &JobKind::Tamper)?;
        Ok((None, JobKind::Tamper, None))
    })
    .await
}

/// Removes the locks whose owner is proven dead, or that are older than restic's own rule; the live ones stay.
///
/// # Errors
/// [`OpError::Conflict`] where none may go, with the reason of each; else as [`look_at_locks`].
pub async fn unlock(desk: &Desk, actor: Actor, repo: RepoId) -> Result<JobId, OpError> {
    let (now_of, hub) = (desk.store.clone(), desk.hub.clone());
    let seen = now_of.read(move |db| locks::list(db, repo)).await?;
    start(desk, actor, repo, move |db, subject| {
        refuse_second(db, subject, &JobKind::Unlock)?;
        let now = db.now;
        let (dead, aged): (Vec<&SeenLock>, Vec<&SeenLock>) = seen
            .iter()
            .filter(|lock| lock.standing(now).may_go())
            .partition(|lock| matches!(lock.standing(now), Standing::Dead { .. }));
        if dead.is_empty() && aged.is_empty() {
            let why: Vec<String> = seen.iter().filter_map(|lock| lock.refusal(now)).collect();
            return Err(OpError::Conflict(if why.is_empty() {
                format!(
                    "{} had no lock when it was last looked at: look again if something waits for one",
                    subject.name
                )
            } else {
                format!("no lock of {} may go: {}", subject.name, why.join("; "))
            }));
        }
        // restic itself sees that an owner is dead where it runs on the owner's host.
        let owner = dead.iter().filter_map(|lock| lock.host.as_ref()).map(|(id, _)| *id).find(|id| hub.is_online(*id));
        let spec = UnlockSpec { proven_dead: dead.iter().map(|lock| lock.id.clone()).collect() };
        Ok((owner, JobKind::Unlock, Some(Operation::Unlock(spec))))
    })
    .await
}

/// Orders a step of the guided repair.
///
/// # Errors
/// [`OpError::Conflict`] where no damage is known, the step has nothing to do, or no host can; else as [`look_at_locks`].
pub async fn repair(desk: &Desk, actor: Actor, repo: RepoId, step: Step, dry_run: bool) -> Result<JobId, OpError> {
    start(desk, actor, repo, move |db, subject| {
        let Some((_, damage)) = latest_damage(db.db, subject)? else {
            return Err(OpError::Conflict(format!("{} has no known damage: there is nothing to repair", subject.name)));
        };
        let (kind, operation) = step.operation(&damage, dry_run && step.has_dry_run()).ok_or_else(|| {
            OpError::Conflict("the hosts back up by their plans: start the backups on their pages".to_owned())
        })?;
        if step == Step::Packs && damage.broken_packs.is_empty() {
            return Err(OpError::Conflict("the check named no pack that is damaged in itself".to_owned()));
        }
        refuse_second(db, subject, &kind)?;
        Ok((None, kind, Some(operation)))
    })
    .await
}

/// A look at the store at one moment.
struct Look<'a> {
    db: &'a Db,
    now: crate::domain::Timestamp,
}

/// What is to be done, and where if that matters.
type Wish = (Option<HostId>, JobKind, Option<Operation>);

async fn start(
    desk: &Desk,
    actor: Actor,
    repo: RepoId,
    wish: impl FnOnce(&Look<'_>, &Subject) -> Result<Wish, OpError> + Send + 'static,
) -> Result<JobId, OpError> {
    let (hub, rules) = (desk.hub.clone(), desk.rules);
    desk.store
        .write(move |tx| {
            let subject = health::subject(tx.db(), repo)?.ok_or(OpError::NotFound("repository"))?;
            let (host, kind, operation) = wish(&Look { db: tx.db(), now: tx.now() }, &subject)?;
            let host = match host {
                Some(host) => Some(host),
                None => pick_host(tx.db(), &hub, repo)?,
            };
            let host = host.ok_or_else(|| {
                OpError::Conflict(format!(
                    "no host that can reach {} is online: start the agent of one that backs up there",
                    subject.name
                ))
            })?;
            place(tx, rules, &actor, Errand { host, kind, repo, operation })
        })
        .await
}

fn refuse_second(look: &Look<'_>, subject: &Subject, kind: &JobKind) -> Result<(), OpError> {
    if health::has_open(look.db, subject.id, kind.as_str(), None)? {
        return Err(OpError::Conflict(format!("a {kind} of {} waits or runs already: look at its jobs", subject.name)));
    }
    Ok(())
}

/// A host that can be asked about a repository now: one that has worked well there, the latest first; else the control plane's own; else one whose plan
/// backs up there.
pub(super) fn pick_host(db: &Db, hub: &Hub, repo: RepoId) -> Result<Option<HostId>, OpError> {
    if let Some(host) = reaching_host(db, hub, repo)? {
        return Ok(Some(host));
    }
    if let Some(own) = hosts::own(db)?.filter(|host| hub.is_online(host.id)) {
        return Ok(Some(own.id));
    }
    for host in hosts::list(db, &HostFilter::default())?.into_iter().filter(|host| hub.is_online(host.id)) {
        if plans::covering(db, host.id, &host.tags)?.iter().any(|plan| plan.repo_id == repo) {
            return Ok(Some(host.id));
        }
    }
    Ok(None)
}

/// A host that has worked well in a repository and is online, the latest first: what nobody asked for is left to such.
pub(super) fn reaching_host(db: &Db, hub: &Hub, repo: RepoId) -> Result<Option<HostId>, OpError> {
    Ok(health::hosts_that_reach(db, repo)?.into_iter().find(|host| hub.is_online(*host)))
}

/// A job for a repository.
pub(super) struct Errand {
    pub(super) host: HostId,
    pub(super) kind: JobKind,
    pub(super) repo: RepoId,
    pub(super) operation: Option<Operation>,
}

/// Places a job in the queue.
pub(super) fn place(tx: &mut WriteTx<'_>, rules: QueueRules, actor: &Actor, errand: Errand) -> Result<JobId, OpError> {
    let Errand { host, kind, repo, operation } = errand;
    desk::place(tx, rules, actor, Work::of(host, kind, repo, operation), credential::random_bits()?)
}
