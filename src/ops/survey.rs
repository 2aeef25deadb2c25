//! How well the fleet is protected right now: the store's facts and the hub's presences, put before the rules of [`protection`].
//! Reads only.

use std::collections::{HashMap, HashSet};

use crate::{
    domain::{
        HostId, JobKind, JobStatus, PlanId, Timestamp,
        facet::Facets,
        host::{Host, HostStatus},
        plan::Plan,
        probe::Probe,
        protection::{self, Assessment, Known, KnownPlan, Mark, Rhythm},
        reach::{Reach, reach},
    },
    hub::Hub,
    ops::facets::KnownHost,
    store::{
        Store, StoreError, hosts,
        hosts::HostFilter,
        jobs::{self, BackupMark, JobFilter},
        plans,
    },
};

/// A host and how it is.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// The host.
    pub host: Host,
    /// Whether its agent is here.
    pub status: HostStatus,
    /// How well it is protected.
    pub assessment: Assessment,
    /// Plans that cover it, by name.
    pub plans: Vec<Plan>,
    /// How it can be reached.
    pub reach: Reach,
}

/// All of a fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Its hosts, by name.
    pub hosts: Vec<Surveyed>,
    /// Bytes that backups added within the last day.
    pub added_last_day: u64,
}

/// Whether a host's agent is here.
#[must_use]
pub fn status_of(hub: &Hub, host: &Host) -> HostStatus {
    match host.last_seen_at {
        _ if hub.is_online(host.id) => HostStatus::Online,
        Some(_) => HostStatus::Offline,
        None => HostStatus::Never,
    }
}

/// Surveys the hosts that match at `now`.
///
/// # Errors
/// [`StoreError`].
pub async fn take(store: &Store, hub: &Hub, now: Timestamp, filter: HostFilter) -> Result<Survey, StoreError> {
    let since = now.plus_s(-86_400 * protection::DAYS.cast_signed() as i64);
    let (found, plans, marks, running) = store
        .read(move |db| {
            let found = KnownHost::of_all(db, hosts::list(db, &filter)?)?;
            Ok::<_, StoreError>((
                found,
                plans::list(db, None, 0)?,
                jobs::backups_since(db, since, None)?,
                running(db, None)?,
            ))
        })
        .await?;
    let day = now.plus_s(-86_400);
    let added = marks.iter().filter(|mark| mark.finished_at >= day).filter_map(|mark| mark.added);
    let added_last_day = added.fold(0, u64::saturating_add);
    let mut by_host: HashMap<HostId, Vec<Mark>> = HashMap::new();
    for mark in marks {
        by_host.entry(mark.host_id).or_default().push(mark_of(&mark));
    }
    // Once a plan, not once a host.
    let rhythms: HashMap<PlanId, Rhythm> = plans.iter().map(|plan| (plan.id, Rhythm::of(plan, now))).collect();
    let surveyed = found.into_iter().map(|KnownHost { host, facets, probes }| {
        let marks = by_host.remove(&host.id).unwrap_or_default();
        let covering = plans.iter().filter(|plan| plan.covers(host.id, &host.tags)).cloned().collect();
        let running = running.contains(&host.id);
        one(hub, now, Facts { host, plans: covering, marks, running, facets, probes }, &rhythms)
    });
    Ok(Survey { hosts: surveyed.collect(), added_last_day })
}

/// Surveys one host.
///
/// # Errors
/// [`StoreError`].
pub async fn of_host(store: &Store, hub: &Hub, now: Timestamp, id: HostId) -> Result<Option<Surveyed>, StoreError> {
    let since = now.plus_s(-86_400 * protection::DAYS.cast_signed() as i64);
    let facts = store
        .read(move |db| {
            let Some(host) = hosts::lookup(db, id)? else { return Ok(None) };
            let plans = plans::covering(db, id, &host.tags)?;
            let marks = jobs::backups_since(db, since, Some(id))?.iter().map(mark_of).collect();
            let running = running(db, Some(id))?.contains(&id);
            let KnownHost { host, facets, probes } = KnownHost::of(db, host)?;
            Ok::<_, StoreError>(Some(Facts { host, plans, marks, running, facets, probes }))
        })
        .await?;
    Ok(facts.map(|facts| {
        let rhythms = facts.plans.iter().map(|plan| (plan.id, Rhythm::of(plan, now))).collect();
        one(hub, now, facts, &rhythms)
    }))
}

struct Facts {
    host: Host,
    plans: Vec<Plan>,
    marks: Vec<Mark>,
    running: bool,
    facets: Facets,
    probes: Vec<Probe>,
}

fn one(hub: &Hub, now: Timestamp, facts: Facts, rhythms: &HashMap<PlanId, Rhythm>) -> Surveyed {
    let Facts { host, plans, marks, running, facets, probes } = facts;
    let status = status_of(hub, &host);
    let has_restic = host.restic_version.is_some();
    let covering: Vec<_> = plans
        .iter()
        .map(|plan| KnownPlan {
            id: plan.id,
            name: &plan.name,
            rhythm: rhythms.get(&plan.id).copied().unwrap_or(Rhythm::ByHand),
        })
        .collect();
    let has_agent = host.has_agent();
    let known = Known { presence: status, has_agent, has_restic, plans: &covering, running, marks: &marks };
    let assessment = protection::assess(&known, now);
    let reach = reach(&host, &facets, &probes, status == HostStatus::Online);
    Surveyed { assessment, host, status, plans, reach }
}

fn mark_of(mark: &BackupMark) -> Mark {
    Mark { job: mark.job_id, plan: mark.plan_id, status: mark.status, at: mark.finished_at, bytes: mark.bytes }
}

fn running(db: &crate::store::Connection, host_id: Option<HostId>) -> Result<HashSet<HostId>, StoreError> {
    let filter = JobFilter {
        host_id,
        kind: Some(JobKind::Backup),
        status: Some(JobStatus::Running),
        limit: 1000,
        ..JobFilter::default()
    };
    Ok(jobs::list(db, &filter)?.into_iter().map(|job| job.host_id).collect())
}
