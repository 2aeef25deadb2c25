//! The retention guard at work: a forget's question, a person's word on what it stopped, pins. A question that is repeated has the answer that was
//! given first.

use std::collections::{HashMap, HashSet};

use crate::{
    credential,
    domain::{
        FateRecord, HeldBack, HostId, JobId, JobKind, Operation, RepoId, Timestamp,
        alert::{AlertKind, Notice},
        guard::{self, Finding, Pin, Question, Ruling},
        job::{Actor, Job, NewJob},
        retention::{self, Fate, FateKind, Verdict, VerdictState},
    },
    ops::{error::OpError, jobs::Desk},
    paths,
    store::{Store, WriteTx, alerts, audit, hosts, jobs, repos, verdicts},
};

/// Fates in one transaction: a long list must not hold up the lines of running jobs.
const STEP: usize = 5000;
/// Characters of a person's reason at most.
const REASON: usize = 200;

/// What a forget asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The forget.
    pub job: JobId,
    /// The host whose agent asks.
    pub host: HostId,
    /// restic's dry run.
    pub fates: Vec<FateRecord>,
    /// Nothing will be removed whatever the answer is.
    pub dry_run: bool,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Ids that may go.
    pub remove: Vec<String>,
    /// Ids that no rule keeps and that stay, each with the reason.
    pub held: Vec<HeldBack>,
    /// Why nothing goes until a person has looked.
    pub stopped: Option<String>,
}

/// Answers a forget at `now`, and writes down what was said of each snapshot.
///
/// # Errors
/// [`OpError::NotFound`] where the job is not one of this host's that runs and forgets, or a failure.
pub async fn judge(store: &Store, asked: Asked, now: Timestamp) -> Result<Answer, OpError> {
    let Asked { job, host, fates, dry_run } = asked;
    let (verdict, repo_name, fates) = store
        .read(move |db| {
            let job = jobs::lookup(db, job)?.filter(|job| job.host_id == host && asks(job));
            let job = job.ok_or(OpError::NotFound("forget of this host that is running"))?;
            let repo = job.repo_id.ok_or(OpError::NotFound("repository"))?;
            let verdict = match verdicts::lookup(db, job.id)? {
                Some(verdict) => verdict,
                None => ruled(&job, repo, &fates, (verdicts::basis(db, repo, &ids(&fates))?, now)),
            };
            let verdict = Verdict { dry: verdict.dry || dry_run, ..verdict };
            let told = told(&verdict, &fates);
            Ok::<_, OpError>((verdict, job.repo_name.unwrap_or_default(), told))
        })
        .await?;
    let id = verdict.job_id;
    let verdict = store
        .write(move |tx| {
            if verdicts::insert(tx, &verdict)? && !verdict.dry {
                alert(tx, &verdict, &repo_name)?;
            }
            // Another question of the same job may have been faster.
            verdicts::lookup(tx.db(), id)?.ok_or(OpError::NotFound("verdict"))
        })
        .await?;
    let mut fates = fates.into_iter();
    loop {
        let step: Vec<Fate> = fates.by_ref().take(STEP).collect();
        if step.is_empty() {
            break;
        }
        store.write(move |tx| verdicts::insert_fates(tx, id, &step)).await?;
    }
    Ok(answer(verdict))
}

/// Whether a job is a forget that may ask. Its start may still be on the way here: the question takes another one.
fn asks(job: &Job) -> bool {
    job.kind == JobKind::Forget && !job.status.is_final()
}

fn ids(fates: &[FateRecord]) -> Vec<&str> {
    fates.iter().map(|fate| fate.snapshot.id.as_str()).collect()
}

fn ruled(job: &Job, repo: RepoId, fates: &[FateRecord], (basis, now): (verdicts::Basis, Timestamp)) -> Verdict {
    let asked: HashSet<&str> = ids(fates).into_iter().collect();
    let (rules, dry, of_all) = match &job.input.operation {
        Some(Operation::Forget(spec)) => (retention::in_words(&spec.keep), spec.dry_run, spec.of == Default::default()),
        _ => (String::new(), false, true),
    };
    // Where it is about all, what it does not name is not there any more, whatever the index says.
    let elsewhere = if of_all { HashSet::new() } else { verdicts::elsewhere(&basis, &asked) };
    let question = Question {
        fates,
        known: &basis.known,
        listed: basis.listed,
        hosts: &basis.hosts,
        elsewhere: &elsewhere,
        approvals: &basis.approvals,
        now,
    };
    let Ruling { remove, held, waiting, findings } = guard::rule(question);
    Verdict {
        job_id: job.id,
        repo_id: repo,
        plan_id: job.plan_id,
        plan_name: None,
        at: now,
        state: if waiting.is_empty() { VerdictState::Allowed } else { VerdictState::Stopped },
        dry,
        rules,
        findings: findings.into_iter().map(Finding::cut).collect(),
        remove,
        waiting,
        held,
        decided_at: None,
        decided_by: String::new(),
        reason: String::new(),
    }
}

/// How each snapshot fared, in words.
fn told(verdict: &Verdict, fates: &[FateRecord]) -> Vec<Fate> {
    let remove: HashSet<&str> = verdict.remove.iter().map(String::as_str).collect();
    let waiting: HashSet<&str> = verdict.waiting.iter().map(String::as_str).collect();
    let held: HashMap<&str, &str> = verdict.held.iter().map(|h| (h.snapshot.as_str(), h.reason.as_str())).collect();
    let next = next_kept(fates);
    let told = |fate: &FateRecord| {
        let id = fate.snapshot.id.as_str();
        let lack = || {
            let stays =
                next.get(id).map(|kept| format!("; the next one that stays is {}", kept.get(..8).unwrap_or(kept)));
            format!("no rule keeps it ({}){}", verdict.rules, stays.unwrap_or_default())
        };
        let (kind, reason) = if !fate.kept_by.is_empty() {
            (FateKind::Kept, fate.kept_by.join(", "))
        } else if remove.contains(id) {
            (FateKind::Removed, lack())
        } else if waiting.contains(id) {
            (FateKind::Waiting, lack())
        } else {
            let reason = held.get(id).map_or("it was not there when the guard was first asked", |reason| reason);
            (FateKind::Held, reason.to_owned())
        };
        Fate {
            snapshot_id: id.to_owned(),
            time: fate.snapshot.time.unwrap_or(verdict.at),
            hostname: fate.snapshot.hostname.clone(),
            paths: fate.snapshot.paths.clone(),
            kind,
            reason,
        }
    };
    fates.iter().map(told).collect()
}

/// For each snapshot that no rule keeps, the next newer one of its group that stays.
fn next_kept(fates: &[FateRecord]) -> HashMap<&str, &str> {
    let mut groups: HashMap<&str, Vec<&FateRecord>> = HashMap::new();
    for fate in fates {
        groups.entry(&fate.group).or_default().push(fate);
    }
    let mut next = HashMap::new();
    for mut group in groups.into_values() {
        group.sort_by_key(|fate| std::cmp::Reverse(fate.snapshot.time));
        let mut kept = None;
        for fate in group {
            match kept {
                _ if !fate.kept_by.is_empty() => kept = Some(fate.snapshot.id.as_str()),
                Some(kept) => drop(next.insert(fate.snapshot.id.as_str(), kept)),
                None => {}
            }
        }
    }
    next
}

fn answer(verdict: Verdict) -> Answer {
    let stopped = verdict.stopped_in_words();
    let mut held = verdict.held;
    if stopped.is_none() {
        let waits =
            |id| HeldBack { snapshot: id, reason: "waits for a person: it was not among what was approved".to_owned() };
        held.extend(verdict.waiting.into_iter().map(waits));
    }
    Answer { remove: verdict.remove, held, stopped }
}

/// Raises the alert of a stopped verdict, or clears it where nothing in the repository waits any more.
fn alert(tx: &mut WriteTx<'_>, verdict: &Verdict, repo_name: &str) -> Result<(), OpError> {
    let repo = verdict.repo_id;
    if verdict.state == VerdictState::Stopped {
        let title = format!("A forget of {repo_name} was stopped and waits for your word");
        let detail: Vec<String> = verdict.findings.iter().map(Finding::happened).collect();
        let notice = Notice {
            kind: AlertKind::ForgetStopped,
            subject: repo.to_string(),
            title,
            detail: detail.join(" "),
            link: paths::verdict(verdict.job_id),
        };
        alerts::raise(tx, &notice)?;
    } else if !verdicts::has_stopped(tx.db(), repo)? {
        alerts::clear(tx, AlertKind::ForgetStopped, &repo.to_string())?;
    }
    Ok(())
}

/// Why somebody decided as they did; may be left out.
///
/// # Errors
/// [`OpError::Invalid`] where it is no line, or too long.
pub fn checked_word(reason: &str) -> Result<String, OpError> {
    let reason = reason.trim();
    if reason.chars().count() > REASON || reason.chars().any(char::is_control) {
        return Err(OpError::field("reason", format!("must be one line of at most {REASON} characters")));
    }
    Ok(reason.to_owned())
}

/// Lets what was stopped go, and orders the forget again.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where nothing waits or the forget is not over yet, or a failure.
pub async fn approve(desk: &Desk, actor: Actor, job: JobId, reason: String) -> Result<JobId, OpError> {
    let random = credential::random_bits()?;
    let expiry_s = i64::try_from(desk.rules.expiry_s).unwrap_or(i64::MAX);
    desk.store
        .write(move |tx| {
            decide(tx, &actor, job, (VerdictState::Approved, &reason))?;
            let old = jobs::lookup(tx.db(), job)?.ok_or(OpError::NotFound("job"))?;
            if !old.status.is_final() {
                return Err(OpError::Conflict(
                    "the forget that was stopped is not over yet: try again in a moment".to_owned(),
                ));
            }
            if hosts::lookup(tx.db(), old.host_id)?.is_none_or(|host| host.revoked_at.is_some()) {
                return Err(OpError::Conflict(format!(
                    "{} runs nothing any more: order the forget where the repository is maintained now",
                    old.host_name
                )));
            }
            let id = JobId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
            let again = NewJob {
                about: Default::default(),
                id,
                host_id: old.host_id,
                kind: old.kind,
                actor: actor.clone(),
                moment: None,
                ran_alone: false,
                plan_id: old.plan_id,
                repo_id: old.repo_id,
                input: old.input,
                rerun_of: Some(old.id),
                timeout_s: old.timeout_s,
                expires_at: Some(tx.now().plus_s(expiry_s)),
            };
            jobs::insert(tx, &again)?;
            audit::record(
                tx,
                &actor,
                "job.create",
                &id.to_string(),
                &format!("forget on {}, with an approval", old.host_name),
            )?;
            Ok(id)
        })
        .await
}

/// Leaves what was stopped where it is.
///
/// # Errors
/// [`OpError::NotFound`], [`OpError::Conflict`] where nothing waits, or a failure.
pub async fn dismiss(store: &Store, actor: Actor, job: JobId, reason: String) -> Result<(), OpError> {
    store.write(move |tx| decide(tx, &actor, job, (VerdictState::Dismissed, &reason))).await
}

fn decide(
    tx: &mut WriteTx<'_>,
    actor: &Actor,
    job: JobId,
    (state, reason): (VerdictState, &str),
) -> Result<(), OpError> {
    let verdict = verdicts::lookup(tx.db(), job)?.ok_or(OpError::NotFound("verdict"))?;
    if !verdicts::decide(tx, job, state, (&actor.name, reason))? {
        return Err(OpError::Conflict(
            "nothing waits for your word here any more: it was decided, or a later forget looked again".to_owned(),
        ));
    }
    if !verdicts::has_stopped(tx.db(), verdict.repo_id)? {
        alerts::clear(tx, AlertKind::ForgetStopped, &verdict.repo_id.to_string())?;
    }
    let what = format!("{} snapshots, {} findings", verdict.waiting.len(), verdict.findings.len());
    let deed = if state == VerdictState::Approved { "retention.approve" } else { "retention.dismiss" };
    audit::record(tx, actor, deed, &job.to_string(), &what)?;
    Ok(())
}

/// Pins a snapshot: no forget of ours removes it until it is let go.
///
/// # Errors
/// [`OpError::Invalid`] for the reason, [`OpError::NotFound`], or a failure.
pub async fn pin(store: &Store, actor: Actor, repo: RepoId, snapshot: String, reason: &str) -> Result<(), OpError> {
    let reason = checked_word(reason)?;
    if reason.is_empty() {
        return Err(OpError::field("reason", "is missing: say in one line why the snapshot must stay"));
    }
    let pin = Pin { by: actor.name.clone(), reason };
    set_pin(store, actor, (repo, snapshot), Some(pin)).await
}

/// Lets a pinned snapshot go: rules decide on it again.
///
/// # Errors
/// [`OpError::NotFound`], or a failure.
pub async fn unpin(store: &Store, actor: Actor, repo: RepoId, snapshot: String) -> Result<(), OpError> {
    set_pin(store, actor, (repo, snapshot), None).await
}

async fn set_pin(store: &Store, actor: Actor, (repo, id): (RepoId, String), pin: Option<Pin>) -> Result<(), OpError> {
    store
        .write(move |tx| {
            if repos::lookup(tx.db(), repo)?.is_none() || !verdicts::set_pin(tx, repo, &id, pin.as_ref())? {
                return Err(OpError::NotFound("snapshot"));
            }
            let (deed, reason) = match &pin {
                Some(pin) => ("snapshot.pin", pin.reason.as_str()),
                None => ("snapshot.unpin", ""),
            };
            audit::record(tx, &actor, deed, &id, reason)?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests;
