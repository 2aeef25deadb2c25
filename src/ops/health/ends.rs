//! What ended jobs mean for their repository. Each end is taken in once, in one transaction with all that follows from it, whatever is restarted in
//! between; records are read out of the log before, so that nobody waits behind that.

use std::sync::Arc;

use crate::{
    domain::{
        CheckResult, HostId, JobKind, JobStatus, LockRecord, LocksResult, Operation, Record, StatsMode, StatsResult,
        StatsSpec, Stream, TamperResult, TamperVerdict, Timestamp, UnlockResult,
        alert::{AlertKind, Notice},
        health::{Depth, Meaning, Subject, is_good, locks::Standing, meaning},
        job::{Actor, Job},
        queue::QueueRules,
    },
    hub::Hub,
    ops::{
        OpError,
        health::{
            orders::{Errand, pick_host, place},
            second_copy::Copier,
        },
        jobs::Desk,
    },
    paths,
    store::{
        Store, StoreError, WriteTx, alerts,
        health::{self, locks},
        jobs, logs,
    },
};

/// Ends that are taken in at once.
const AT_ONCE: u32 = 50;
/// Locks that a repository may have: more of a list are not looked at.
const MOST_LOCKS: usize = 1000;
/// Seconds within which a host is not asked again for the locks of a repository.
const ASKED_S: i64 = 300;

/// Takes in all ends that were not yet. Returns how many. One that can't be taken in by itself is left out, and the log says so.
///
/// # Errors
/// [`OpError`] where the store takes nothing; what was taken in stays so, and the rest is taken in by the next call.
pub async fn examine(desk: &Desk) -> Result<usize, OpError> {
    let mut taken = 0;
    loop {
        let ended = desk.store.read(|db| jobs::unexamined(db, AT_ONCE)).await?;
        if ended.is_empty() {
            return Ok(taken);
        }
        let mut batch = Vec::with_capacity(ended.len());
        for job in ended {
            let listed = lock_list(&desk.store, &job).await?;
            batch.push(Arc::new((job, listed)));
        }
        taken += batch.len();
        // One commit for all of them: a fleet that ends its night's work at once must not make the writer wait for the disk each time.
        if take_all(desk, batch.clone()).await.is_err() {
            for one in batch {
                let (job, no) = (one.0.id, one.0.no);
                if let Err(e) = take_all(desk, vec![one]).await {
                    tracing::warn!(job.id = %job, error = %e, "the end of a job says nothing about its repository");
                    desk.store.write(move |tx| jobs::note_examined(tx, no)).await?;
                }
            }
        }
    }
}

/// An ended job, with the locks that it listed.
type EndedJob = Arc<(Job, Option<Vec<LockRecord>>)>;

/// Takes in these ends in one transaction.
async fn take_all(desk: &Desk, batch: Vec<EndedJob>) -> Result<(), OpError> {
    let (hub, rules) = (desk.hub.clone(), desk.rules);
    desk.store
        .write(move |tx| {
            for ended in &batch {
                Examiner { tx, rules, hub: &hub }.take(&ended.0, ended.1.as_deref())?;
            }
            Ok(())
        })
        .await
}

/// The whole list that a `locks` job made; `None` where it is of another kind, failed, or its list is not whole.
async fn lock_list(store: &Store, job: &Job) -> Result<Option<Vec<LockRecord>>, StoreError> {
    let count = |job: &Job| serde_json::from_value::<LocksResult>(job.summary.clone()?).ok().map(|result| result.count);
    let Some(count) = (job.kind == JobKind::Locks && !job.log_truncated).then(|| count(job)).flatten() else {
        return Ok(None);
    };
    let (no, mut list, mut after) = (job.no, Vec::new(), 0);
    loop {
        let lines = store.read(move |db| logs::page(db, no, after, 1000)).await?;
        let Some(last) = lines.last() else { break };
        after = last.seq;
        let records = lines.iter().filter(|line| line.stream == Stream::Stdout).map(|line| Record::of_line(&line.text));
        list.extend(records.filter_map(|record| match record {
            Some(Record::Lock(lock)) => Some(lock),
            _ => None,
        }));
        if list.len() > MOST_LOCKS {
            return Ok(None);
        }
    }
    Ok((list.len() as u64 == count).then_some(list))
}

/// Takes in one end.
struct Examiner<'a, 'tx> {
    tx: &'a mut WriteTx<'tx>,
    rules: QueueRules,
    hub: &'a Hub,
}

impl Examiner<'_, '_> {
    fn take(&mut self, job: &Job, listed: Option<&[LockRecord]>) -> Result<(), OpError> {
        let (Some(repo), true) = (job.repo_id, jobs::note_examined(self.tx, job.no)?) else { return Ok(()) };
        health::note_mark(self.tx, job, is_good(job))?;
        Copier { tx: self.tx, rules: self.rules, hub: self.hub }.take(job)?;
        let Some(subject) = health::subject(self.tx.db(), repo)? else { return Ok(()) };
        match meaning(job) {
            Meaning::Nothing => {}
            Meaning::Damage(result) => self.damaged(&subject, job, &result)?,
            Meaning::Clean(depth) => self.clean(&subject, job, &depth)?,
            Meaning::Tamper(result) => self.tampered(&subject, &result)?,
            Meaning::Locked => self.look_at_locks(&subject, job.host_id)?,
        }
        match job.kind {
            JobKind::Stats => self.measured(&subject, job),
            JobKind::Locks => match listed {
                Some(list) => self.listed(&subject, job, list),
                None => Ok(()),
            },
            JobKind::Unlock => self.unlocked(&subject, job),
            JobKind::Tamper if job.status == JobStatus::Failed && meaning(job) == Meaning::Nothing => {
                let said = job.error.clone().unwrap_or_else(|| "The job failed.".to_owned());
                self.not_tested(&subject, &said)
            }
            _ => Ok(()),
        }
    }

    fn raise(
        &mut self,
        kind: AlertKind,
        subject: &Subject,
        title: String,
        detail: String,
        link: String,
    ) -> Result<(), OpError> {
        let notice = Notice { kind, subject: subject.id.to_string(), title, detail, link };
        alerts::raise(self.tx, &notice)?;
        Ok(())
    }

    fn clear(&mut self, kind: AlertKind, subject: &Subject) -> Result<(), OpError> {
        alerts::clear(self.tx, kind, &subject.id.to_string())?;
        Ok(())
    }

    fn damaged(&mut self, subject: &Subject, job: &Job, result: &CheckResult) -> Result<(), OpError> {
        // A shallow check that sees less than the one before must not make the way out shorter.
        let before = subject.damage_job.map(|id| jobs::lookup(self.tx.db(), id)).transpose()?.flatten();
        if before.is_none_or(|before| before.no < job.no && Depth::of(job).settles(&Depth::of(&before))) {
            health::set_damage(self.tx, subject.id, Some(job.id))?;
        }
        let count = if result.errors == 1 { "1 error".to_owned() } else { format!("{} errors", result.errors) };
        let title = format!("{} is damaged", subject.name);
        let detail = format!(
            "A check on {} found {count}. Some of what is stored may not come back in a restore. The guided repair says what to do, in which order, and what each step costs.",
            job.host_name
        );
        self.raise(AlertKind::Damaged, subject, title, detail, paths::repo_repair(subject.id))
    }

    fn clean(&mut self, subject: &Subject, job: &Job, depth: &Depth) -> Result<(), OpError> {
        let Some(found) = subject.damage_job else { return self.clear(AlertKind::Damaged, subject) };
        let found = jobs::lookup(self.tx.db(), found)?;
        if found.is_none_or(|found| found.no < job.no && depth.settles(&Depth::of(&found))) {
            health::set_damage(self.tx, subject.id, None)?;
            self.clear(AlertKind::Damaged, subject)?;
        }
        Ok(())
    }

    fn tampered(&mut self, subject: &Subject, result: &TamperResult) -> Result<(), OpError> {
        match result.verdict {
            TamperVerdict::Protected => {
                self.clear(AlertKind::TamperFailed, subject)?;
                self.clear(AlertKind::NotAppendOnly, subject)
            }
            TamperVerdict::Vulnerable => {
                self.clear(AlertKind::TamperFailed, subject)?;
                // Where hosts are known to hold such credentials, the page says so at all times.
                if !subject.append_only {
                    return Ok(());
                }
                let went: Vec<&str> =
                    result.tried.iter().filter(|tried| !tried.refused).map(|tried| tried.what.as_str()).collect();
                let title = format!("{} is not append-only", subject.name);
                let detail = format!(
                    "A tamper test with a host's credentials was not refused: {}. Whoever takes over one host can destroy the backups of all. Serve the repository append-only (rest-server --append-only, or a bucket with object lock) and test again.",
                    went.join("; ")
                );
                self.raise(AlertKind::NotAppendOnly, subject, title, detail, paths::repo(subject.id))
            }
            TamperVerdict::Unknown => {
                let said = result.tried.last().map_or("It could not be tried.", |tried| tried.said.as_str()).to_owned();
                self.not_tested(subject, &said)
            }
        }
    }

    fn not_tested(&mut self, subject: &Subject, said: &str) -> Result<(), OpError> {
        if !subject.append_only {
            return Ok(());
        }
        let title = format!("Whether {} is append-only could not be tested", subject.name);
        self.raise(AlertKind::TamperFailed, subject, title, said.to_owned(), paths::repo(subject.id))
    }

    fn measured(&mut self, subject: &Subject, job: &Job) -> Result<(), OpError> {
        let spec = match &job.input.operation {
            Some(Operation::Stats(spec)) => spec.clone(),
            _ => StatsSpec::default(),
        };
        let result = job.summary.clone().and_then(|summary| serde_json::from_value::<StatsResult>(summary).ok());
        // Only what is of the whole repository says something about it.
        let whole = spec == (StatsSpec { mode: spec.mode, ..StatsSpec::default() });
        let (Some(result), Some(at), true, JobStatus::Succeeded) = (result, job.finished_at, whole, job.status) else {
            return Ok(());
        };
        match spec.mode {
            StatsMode::RawData => {
                health::add_size(self.tx, subject.id, at, &result, job.id)?;
                let mode = StatsMode::RestoreSize;
                let operation = Some(Operation::Stats(StatsSpec { mode, ..StatsSpec::default() }));
                if !health::has_open(self.tx.db(), subject.id, JobKind::Stats.as_str(), None)? {
                    let errand = Errand { host: job.host_id, kind: JobKind::Stats, repo: subject.id, operation };
                    self.place_if_there(errand)?;
                }
            }
            StatsMode::RestoreSize => {
                health::add_restore_size(self.tx, subject.id, result.total_size)?;
            }
            StatsMode::FilesByContents | StatsMode::BlobsPerFile => {}
        }
        Ok(())
    }

    /// Places a job on a host that may have been removed meanwhile: then nobody does it.
    fn place_if_there(&mut self, errand: Errand) -> Result<(), OpError> {
        let there =
            crate::store::hosts::lookup(self.tx.db(), errand.host)?.is_some_and(|host| host.revoked_at.is_none());
        if there {
            place(self.tx, self.rules, &Actor::system(), errand)?;
        }
        Ok(())
    }

    /// Has the locks looked at, best by the host that met one.
    fn look_at_locks(&mut self, subject: &Subject, met_by: HostId) -> Result<(), OpError> {
        if health::has_open(self.tx.db(), subject.id, JobKind::Locks.as_str(), None)? {
            return Ok(());
        }
        let host = Some(met_by).filter(|host| self.hub.is_online(*host));
        let host = host.map_or_else(|| pick_host(self.tx.db(), self.hub, subject.id), |host| Ok(Some(host)))?;
        if let Some(host) = host {
            self.place_if_there(Errand { host, kind: JobKind::Locks, repo: subject.id, operation: None })?;
        }
        Ok(())
    }

    fn listed(&mut self, subject: &Subject, job: &Job, list: &[LockRecord]) -> Result<(), OpError> {
        let at = job.finished_at.unwrap_or(job.created_at);
        locks::replace(self.tx, subject.id, job.host_id, at, list)?;
        self.ask_owners(subject, at)?;
        judge_locks(self.tx, subject)
    }

    /// Asks the hosts of owners who were not heard of lately: each that can be reached, once.
    fn ask_owners(&mut self, subject: &Subject, now: Timestamp) -> Result<(), OpError> {
        for lock in locks::list(self.tx.db(), subject.id)? {
            let heard = lock.alive.is_some_and(|(_, at)| now.ms_since(at) < ASKED_S * 1000);
            let machine = locks::machine(self.tx.db(), &lock.hostname)?;
            let Some(host) = machine.into_iter().find(|host| self.hub.is_online(*host)).filter(|_| !heard) else {
                continue;
            };
            let asked = health::last_ended_on(self.tx.db(), subject.id, JobKind::Locks.as_str(), host)?;
            let asked = asked.is_some_and(|at| now.ms_since(at) < ASKED_S * 1000);
            if !asked && !health::has_open(self.tx.db(), subject.id, JobKind::Locks.as_str(), Some(host))? {
                self.place_if_there(Errand { host, kind: JobKind::Locks, repo: subject.id, operation: None })?;
            }
        }
        Ok(())
    }

    fn unlocked(&mut self, subject: &Subject, job: &Job) -> Result<(), OpError> {
        let result = job.summary.clone().and_then(|summary| serde_json::from_value::<UnlockResult>(summary).ok());
        for lock in result.into_iter().flat_map(|result| result.removed) {
            locks::remove(self.tx, subject.id, &lock.snapshot)?;
        }
        judge_locks(self.tx, subject)
    }
}

/// Raises or clears the alert of a lock whose owner is gone.
pub(super) fn judge_locks(tx: &mut WriteTx<'_>, subject: &Subject) -> Result<(), OpError> {
    let (now, key) = (tx.now(), subject.id.to_string());
    let gone: Vec<String> = locks::list(tx.db(), subject.id)?
        .iter()
        .filter_map(|lock| match lock.standing(now) {
            Standing::Dead { .. } => Some(format!("{} is dead", lock.owner())),
            Standing::Stale { age_s } => {
                Some(format!("{} has not refreshed it for {} minutes", lock.owner(), age_s / 60))
            }
            Standing::Live { .. } | Standing::Unknown => None,
        })
        .collect();
    if gone.is_empty() {
        alerts::clear(tx, AlertKind::StaleLock, &key)?;
        return Ok(());
    }
    let notice = Notice {
        kind: AlertKind::StaleLock,
        subject: key,
        title: format!("{} has a lock that nobody holds any more", subject.name),
        detail: format!(
            "{}. Backups may go on beside it; forget, prune and check wait for it and fail. Remove it on the repository's page.",
            gone.join("; ")
        ),
        link: paths::repo_locks(subject.id),
    };
    alerts::raise(tx, &notice)?;
    Ok(())
}
