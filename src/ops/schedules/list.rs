//! All schedules of the fleet as one list: those of plans, an entry for each host that they cover, and those that stand alone. Reads only.

use crate::{
    domain::{
        HostId, ScheduleId,
        host::Host,
        schedule::{Coverage, Entry, OwnSchedule, Side, agent_entries},
    },
    store::{Db, StoreError, hosts, hosts::HostFilter, plans, schedules},
};

/// A schedule and the host that it runs on.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The schedule.
    pub entry: Entry,
    /// That host's name.
    pub host_name: String,
}

/// All schedules, of one host or of all, by id.
///
/// # Errors
/// [`StoreError`].
pub fn all(db: &Db, host: Option<HostId>) -> Result<Vec<Listed>, StoreError> {
    let coverage = Coverage::new(plans::list(db, None, 0)?);
    let own = schedules::list(db, host)?;
    let hosts: Vec<Host> = match host {
        Some(id) => hosts::lookup(db, id)?.into_iter().collect(),
        None => hosts::list(db, &HostFilter::default())?.into_iter().chain(hosts::own(db)?).collect(),
    };
    // What this server ticks is listed whichever host does it: also its own agent, which is no part of the fleet.
    let here = own.iter().filter(|own| Side::of(&own.kind) == Side::Server);
    let mut listed: Vec<Listed> = here
        .map(|own| Listed {
            entry: Entry::of_own(own, own.plan_id.and_then(|id| coverage.plan(id))),
            host_name: own.host_name.clone(),
        })
        .collect();
    listed.extend(hosts.iter().flat_map(|host| of_agent(&coverage, host, &own)));
    listed.sort_by_key(|listed| listed.entry.id);
    Ok(listed)
}

fn of_agent(coverage: &Coverage, host: &Host, own: &[OwnSchedule]) -> Vec<Listed> {
    let entries = agent_entries(coverage, host.id, &host.tags, own).into_iter();
    entries.map(|entry| Listed { entry, host_name: host.name.clone() }).collect()
}

/// A schedule by its id.
///
/// # Errors
/// [`StoreError`].
pub fn find(db: &Db, id: ScheduleId) -> Result<Option<Listed>, StoreError> {
    if let Some(own) = schedules::lookup(db, id)?.filter(|own| !own.removed) {
        let plan = own.plan_id.map(|id| plans::lookup(db, id)).transpose()?.flatten();
        return Ok(Some(Listed { entry: Entry::of_own(&own, plan.as_ref()), host_name: own.host_name }));
    }
    let coverage = Coverage::new(plans::scheduled(db)?);
    for host in hosts::list(db, &HostFilter::default())? {
        let mut entries = coverage.of(host.id, &host.tags).filter_map(|plan| Entry::of_plan(plan, host.id));
        if let Some(entry) = entries.find(|entry| entry.id == id) {
            return Ok(Some(Listed { entry, host_name: host.name }));
        }
    }
    Ok(None)
}

/// A schedule that the agent of `host` ticks, by its id: what it may report a moment of.
///
/// # Errors
/// [`StoreError`].
pub fn find_of_agent(db: &Db, host: &Host, id: ScheduleId) -> Result<Option<Entry>, StoreError> {
    if let Some(own) = schedules::lookup(db, id)?.filter(|own| !own.removed && own.host_id == host.id) {
        let plan = own.plan_id.map(|id| plans::lookup(db, id)).transpose()?.flatten();
        let entries = agent_entries(&Coverage::new(plan.into_iter().collect()), host.id, &[], &[own]);
        return Ok(entries.into_iter().find(|entry| entry.id == id));
    }
    let covering = plans::covering(db, host.id, &host.tags)?;
    Ok(covering.iter().filter_map(|plan| Entry::of_plan(plan, host.id)).find(|entry| entry.id == id))
}
