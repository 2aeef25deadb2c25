//! What a plan would do, before it is saved: which hosts, what, when, what is kept. Changes nothing.

use super::{PlanInput, checked};
use crate::{
    domain::{HostId, PlanId, RepoId, Timestamp, host::Host, retention, schedule::Schedule},
    ops::error::OpError,
    store::{Store, StoreError, hosts, hosts::HostFilter, plans, repos},
};

/// Moments of its schedule that are shown.
const MOMENTS: usize = 5;

/// What a plan would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Hosts that it would cover, by name.
    pub hosts: Vec<Covered>,
    /// What it would back up; empty where that is the output of a command.
    pub paths: Vec<String>,
    /// What it would leave out.
    pub excludes: Vec<String>,
    /// Its schedule.
    pub schedule: Option<Schedule>,
    /// The next moments of that.
    pub next: Vec<Timestamp>,
    /// What it would keep, in words.
    pub keeps: String,
    /// How many snapshots of each host stay at most, where counts alone say so.
    pub at_most: Option<u64>,
    /// Names of the repositories that it would write to.
    pub repos: Vec<String>,
    /// Other plans that cover some of these hosts.
    pub beside: Vec<String>,
}

/// A host that a plan would cover, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Covered {
    /// Which.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// It is named itself.
    pub named: bool,
    /// Tags that it shares with the plan.
    pub tags: Vec<String>,
}

/// Looks at a plan that is to be made, or at what the plan `of` is to become.
///
/// # Errors
/// [`OpError::Invalid`] for what would be refused, or a failure.
pub async fn preview(store: &Store, input: PlanInput, of: Option<PlanId>, now: Timestamp) -> Result<Preview, OpError> {
    store
        .read(move |db| {
            let fields = checked(db, now, input, None)?;
            let all = hosts::list(db, &HostFilter::default())?;
            let covered: Vec<Covered> =
                all.iter().filter_map(|host| cover(host, &fields.hosts, &fields.tags)).collect();
            let touches = |plan: &crate::domain::plan::Plan| {
                all.iter().any(|host| covered.iter().any(|c| c.id == host.id) && plan.covers(host.id, &host.tags))
            };
            let beside = plans::list(db, None, 0)?.into_iter().filter(|plan| Some(plan.id) != of && touches(plan));
            let beside = beside.map(|plan| plan.name).collect();
            let schedule = fields.schedule.map(|standing| standing.schedule);
            let calendar = schedule.as_ref().filter(|s| s.enabled).and_then(|schedule| schedule.calendar().ok());
            let name = |id: RepoId| Ok::<_, StoreError>(repos::lookup(db, id)?.map(|repo| repo.name));
            let second = fields.second_repo_id.map(name).transpose()?.flatten();
            Ok(Preview {
                hosts: covered,
                paths: fields.paths,
                excludes: fields.excludes,
                next: calendar.map(|calendar| calendar.upcoming(now, MOMENTS)).unwrap_or_default(),
                schedule,
                keeps: retention::in_words(&fields.retention),
                at_most: at_most(&fields.retention),
                repos: name(fields.repo_id)?.into_iter().chain(second).collect(),
                beside,
            })
        })
        .await
}

fn cover(host: &Host, named: &[HostId], tags: &[String]) -> Option<Covered> {
    let shared: Vec<String> = host.tags.iter().filter(|tag| tags.contains(tag)).cloned().collect();
    let named = named.contains(&host.id);
    (named || !shared.is_empty()).then(|| Covered { id: host.id, name: host.name.clone(), named, tags: shared })
}

/// The sum of the counts: a snapshot may stand for several rules, so fewer may stay.
fn at_most(rules: &crate::domain::KeepRules) -> Option<u64> {
    let spans = [
        &rules.keep_within,
        &rules.keep_within_hourly,
        &rules.keep_within_daily,
        &rules.keep_within_weekly,
        &rules.keep_within_monthly,
        &rules.keep_within_yearly,
    ];
    if rules.keeps_all() || !rules.keep_tags.is_empty() || spans.iter().any(|span| span.is_some()) {
        return None;
    }
    let counts = [
        rules.keep_last,
        rules.keep_hourly,
        rules.keep_daily,
        rules.keep_weekly,
        rules.keep_monthly,
        rules.keep_yearly,
    ];
    Some(counts.into_iter().flatten().map(u64::from).sum())
}
