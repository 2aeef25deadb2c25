//! What is measured and looked at by itself: sizes and locks of each repository once a day, locks that were seen every half hour until they are gone; and
//! what changes by time alone: a lock that grows old, a repository that fills up.

use crate::{
    domain::{
        JobKind, Operation, RepoId, StatsSpec, Timestamp,
        alert::{AlertKind, Notice},
        health::{Limit, Report, Subject, forecast::Forecast},
        job::Actor,
    },
    ops::{
        OpError,
        health::{
            ends::judge_locks,
            orders::{Errand, place, reaching_host},
            report, second_copy,
        },
        jobs::Desk,
    },
    paths,
    store::{
        Db, WriteTx, alerts,
        health::{self, locks},
    },
};

/// Orders of one call at most: the rest has its turn in the next.
const ORDERS: usize = 10;
/// Seconds between two measurements: a little less than a day, so that they do not wander through it.
const MEASURE_S: i64 = 20 * 3600;
/// Seconds that a repository must have been in use before it is measured.
const SETTLED_S: i64 = 3600;
/// Seconds until locks that were seen are looked at again.
const LOOK_S: i64 = 1800;

/// Orders what is due, and judges what changes by time alone. Called every minute or so. Returns how many jobs it ordered.
///
/// # Errors
/// [`OpError`]; what was done until then stays.
pub async fn upkeep(desk: &Desk, now: Timestamp) -> Result<usize, OpError> {
    let due = {
        let (hub, store) = (desk.hub.clone(), &desk.store);
        let (actor, rules) = (Actor::system(), desk.rules);
        store
            .write(move |tx| {
                let due = due(tx.db(), tx.now())?;
                let mut ordered = 0;
                for (repo, kind) in due {
                    let Some(host) = reaching_host(tx.db(), &hub, repo)? else { continue };
                    let operation = (kind == JobKind::Stats).then(|| Operation::Stats(StatsSpec::default()));
                    place(tx, rules, &actor, Errand { host, kind, repo, operation })?;
                    ordered += 1;
                    if ordered == ORDERS {
                        break;
                    }
                }
                Ok::<_, OpError>(ordered)
            })
            .await?
    };
    second_copy::catch_up(desk, now).await?;
    for subject in desk.store.read(health::subjects).await? {
        judge(desk, subject, now).await?;
    }
    desk.store
        .write(|tx| {
            for gone in health::removed_with_alerts(tx.db())? {
                alerts::clear_all_of(tx, &gone.to_string())?;
            }
            Ok::<_, OpError>(())
        })
        .await?;
    Ok(due)
}

/// What is due, locks first.
fn due(db: &Db, now: Timestamp) -> Result<Vec<(RepoId, JobKind)>, OpError> {
    let older = |at: Option<Timestamp>, s: i64| at.is_none_or(|at| now.ms_since(at) > s * 1000);
    let (mut looks, mut measurements) = (Vec::new(), Vec::new());
    let locked = locks::locked_repos(db)?;
    for repo in health::in_use_since(db, now.plus_s(-SETTLED_S))? {
        let idle = |kind: &JobKind| Ok::<_, OpError>(!health::has_open(db, repo, kind.as_str(), None)?);
        let looked = health::last_ended(db, repo, JobKind::Locks.as_str())?;
        let is_locked = locked.iter().any(|(locked, _)| *locked == repo);
        if older(looked, if is_locked { LOOK_S } else { MEASURE_S }) && idle(&JobKind::Locks)? {
            looks.push((repo, JobKind::Locks));
        }
        if older(health::last_ended(db, repo, JobKind::Stats.as_str())?, MEASURE_S) && idle(&JobKind::Stats)? {
            measurements.push((repo, JobKind::Stats));
        }
    }
    looks.append(&mut measurements);
    Ok(looks)
}

async fn judge(desk: &Desk, subject: Subject, now: Timestamp) -> Result<(), OpError> {
    let (store, id) = (&desk.store, subject.id);
    let report = report(store, id, now).await?;
    let nearly_full = report.as_ref().and_then(nearly_full);
    let is_locked = report.as_ref().is_some_and(|report| !report.locks.is_empty());
    let known = store.read(move |db| open_kinds(db, id)).await?;
    let words_change = nearly_full.is_some() || known.contains(&AlertKind::NearlyFull);
    let settled = !subject.append_only
        && known.iter().any(|kind| matches!(kind, AlertKind::NotAppendOnly | AlertKind::TamperFailed));
    if !(words_change || is_locked || settled || known.contains(&AlertKind::StaleLock)) {
        return Ok(());
    }
    store
        .write(move |tx: &mut WriteTx<'_>| {
            judge_locks(tx, &subject)?;
            match &nearly_full {
                Some(notice) => {
                    alerts::raise(tx, notice)?;
                }
                None => {
                    alerts::clear(tx, AlertKind::NearlyFull, &subject.id.to_string())?;
                }
            }
            if !subject.append_only {
                alerts::clear(tx, AlertKind::NotAppendOnly, &subject.id.to_string())?;
                alerts::clear(tx, AlertKind::TamperFailed, &subject.id.to_string())?;
            }
            Ok(())
        })
        .await
}

fn open_kinds(db: &Db, repo: RepoId) -> Result<Vec<AlertKind>, OpError> {
    let filter =
        alerts::AlertFilter { open: Some(true), subject: Some(repo.to_string()), ..alerts::AlertFilter::default() };
    Ok(alerts::list(db, &filter)?.into_iter().map(|alert| alert.notice.kind).collect())
}

fn nearly_full(report: &Report) -> Option<Notice> {
    let (limit, forecast) = report.limit.as_ref()?;
    if !forecast.is_near(report.now) {
        return None;
    }
    let name = &report.subject.name;
    let what = match limit {
        Limit::Said(_) => "the limit that was set for it",
        Limit::Disk { .. } => "the end of its disk",
    };
    let title = match forecast {
        Forecast::On { at, .. } => {
            let days = (at.ms_since(report.now) / 86_400_000).max(0);
            format!("{name} reaches {what} in about {days} {}", if days == 1 { "day" } else { "days" })
        }
        _ => format!("{name} has reached {what}"),
    };
    Some(Notice {
        kind: AlertKind::NearlyFull,
        subject: report.subject.id.to_string(),
        title,
        detail:
            "Backups fail when there is no room. Keep less (the plans' rules and a prune), back up less, or make room."
                .to_owned(),
        link: paths::repo(report.subject.id),
    })
}
