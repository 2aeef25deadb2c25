//! What is known of a repository's health, gathered for those who show it.

use std::path::Path;

use crate::{
    domain::{
        CheckResult, JobId, JobKind, RepoId, TamperResult, TamperVerdict, Timestamp,
        health::{
            HostMark, Limit, Proof, Report, Subject,
            forecast::{forecast, growth},
        },
        job::Job,
    },
    store::{
        Db, Store, StoreError, disk_free,
        health::{self, locks},
        jobs,
    },
};

/// Days of measurements that are shown.
const SHOWN_DAYS: i64 = 366;
/// Measurements that are shown.
const SHOWN: u32 = 800;

/// The health of a repository at `now`; `None` where there is no such one.
///
/// # Errors
/// [`StoreError`].
pub async fn report(store: &Store, id: RepoId, now: Timestamp) -> Result<Option<Report>, StoreError> {
    let Some((mut report, on_own_disk)) = store.read(move |db| gather(db, id, now)).await? else { return Ok(None) };
    let limit = match (report.subject.size_limit, on_own_disk) {
        (Some(bytes), _) => Some(Limit::Said(bytes)),
        (None, true) => {
            let path = report.subject.url.clone();
            // A file system that hangs holds up a thread of those made for waiting, nobody else.
            let free = tokio::task::spawn_blocking(move || disk_free(Path::new(&path))).await.ok().flatten();
            let used = report.sizes.last().map(|size| size.bytes);
            free.zip(used).map(|(free, used)| Limit::Disk { free, until: used.saturating_add(free) })
        }
        (None, false) => None,
    };
    report.limit = limit.map(|limit| (limit, forecast(&report.sizes, limit.bytes(), report.now)));
    Ok(Some(report))
}

fn gather(db: &Db, id: RepoId, now: Timestamp) -> Result<Option<(Report, bool)>, StoreError> {
    let Some(subject) = health::subject(db, id)? else { return Ok(None) };
    let marks = health::marks(db, id)?;
    let sizes = health::sizes(db, id, now.plus_s(-SHOWN_DAYS * 86_400), SHOWN)?;
    let on_own_disk = Path::new(&subject.url).is_absolute() && health::own_host_reaches(db, id)?;
    let report = Report {
        now,
        growth: growth(&sizes, now),
        sizes,
        limit: None,
        proof: proof(db, &marks)?,
        damage: latest_damage(db, &subject)?,
        locks: locks::list(db, id)?,
        looked_at: health::last_ended(db, id, JobKind::Locks.as_str())?,
        looking: health::has_open(db, id, JobKind::Locks.as_str(), None)?,
        marks,
        subject,
    };
    Ok(Some((report, on_own_disk)))
}

/// The damage that is known and not cleared: the check that found it and what it found.
///
/// # Errors
/// [`StoreError`].
pub fn latest_damage(db: &Db, subject: &Subject) -> Result<Option<(Job, CheckResult)>, StoreError> {
    let Some(job) = subject.damage_job.map(|id| jobs::lookup(db, id)).transpose()?.flatten() else { return Ok(None) };
    let result = job.summary.clone().and_then(|summary| serde_json::from_value(summary).ok());
    Ok(result.map(|result| (job, result)))
}

/// What the last tamper test showed.
fn proof(db: &Db, marks: &[HostMark]) -> Result<Proof, StoreError> {
    let tests = marks.iter().filter(|mark| mark.kind == JobKind::Tamper);
    let Some((at, id, _)) = tests.map(|mark| mark.last).max_by_key(|(at, ..)| *at) else { return Ok(Proof::Never) };
    Ok(of_test(db, at, id)?.unwrap_or(Proof::Failed { at, job: id }))
}

fn of_test(db: &Db, at: Timestamp, id: JobId) -> Result<Option<Proof>, StoreError> {
    let result: Option<TamperResult> =
        jobs::lookup(db, id)?.and_then(|job| job.summary).and_then(|summary| serde_json::from_value(summary).ok());
    Ok(result.map(|result| match result.verdict {
        TamperVerdict::Protected => Proof::Protected { at, job: id },
        TamperVerdict::Vulnerable => Proof::Vulnerable { at, job: id },
        TamperVerdict::Unknown => Proof::Failed { at, job: id },
    }))
}
