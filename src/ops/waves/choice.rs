//! Which hosts a wave goes over: those that are named, bear a tag, or all; each once, and each looked at before anything is made.

use std::collections::HashSet;

use crate::{
    domain::{FieldError, HostId, Way, check_tag, host::Host, wave::WaveOrder},
    hub::Hub,
    ops::{
        error::{OpError, Problems},
        jobs::{Desk, ForMany},
    },
    store::{
        Db,
        hosts::{self, HostFilter},
    },
};

/// Refused hosts that an answer names at most.
const MOST_NAMED: usize = 20;

/// Which hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// These.
    pub hosts: Vec<HostId>,
    /// Those that bear one of these tags.
    pub tags: Vec<String>,
    /// All.
    pub all: bool,
    /// Leave out what can't run it, also where it was named.
    pub lenient: bool,
    /// In which order.
    pub order: WaveOrder,
}

/// A host that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The host.
    pub host: Host,
    /// The way to it; or why there is none.
    pub way: Result<Way, String>,
}

/// What would become of an order on the hosts that were chosen.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::ops) struct Outlook {
    /// Those that can run it, in the order in which they go.
    pub able: Vec<Chosen>,
    /// Those that are left out.
    pub unable: Vec<Chosen>,
    /// It removes or replaces something.
    pub destroys: bool,
}

/// Looks at each host that is chosen.
///
/// # Errors
/// [`OpError::Invalid`] for answers that do not do, a host that is not there, one that was named and can't run it, or where none can; or a failure.
pub(in crate::ops) async fn outlook(desk: &Desk, order: &ForMany, selection: Selection) -> Result<Outlook, OpError> {
    let (order, hub) = (order.clone(), desk.hub.clone());
    desk.store
        .read(move |db| {
            let mut problems = Problems::default();
            let chosen = choose(db, &mut problems, &selection)?;
            problems.refuse()?;
            look((db, &hub), &order, &selection, chosen)
        })
        .await
}

/// The hosts that are chosen, in the order in which they go; what is not there is not among them.
///
/// # Errors
/// A failure.
pub fn chosen(db: &Db, selection: &Selection) -> Result<Vec<Host>, OpError> {
    let found = choose(db, &mut Problems::default(), selection)?;
    Ok(found.into_iter().map(|(host, _)| host).collect())
}

/// A host, and its place among those that were named.
type Found = (Host, Option<usize>);

fn choose(db: &Db, problems: &mut Problems, selection: &Selection) -> Result<Vec<Found>, OpError> {
    let mut chosen: Vec<Found> = Vec::new();
    let mut seen = HashSet::new();
    for (at, id) in selection.hosts.iter().enumerate() {
        match hosts::lookup(db, *id)? {
            Some(host) if seen.insert(host.id) => chosen.push((host, Some(at))),
            Some(_) => {}
            None => problems.add(&format!("hosts[{at}]"), format!("names no host: {id} was removed, or never was")),
        }
    }
    let mut tags = HashSet::new();
    for (at, tag) in selection.tags.iter().enumerate() {
        tags.extend(problems.take(&format!("tags[{at}]"), check_tag(tag)));
    }
    if selection.all || !tags.is_empty() {
        for host in hosts::list(db, &HostFilter::default())? {
            if (selection.all || host.tags.iter().any(|tag| tags.contains(tag))) && seen.insert(host.id) {
                chosen.push((host, None));
            }
        }
    }
    if chosen.is_empty() {
        match selection.tags.as_slice() {
            _ if !selection.hosts.is_empty() => {}
            [] => problems.add("hosts", "are missing: name hosts, tags, or all"),
            tags => problems.add("tags", format!("are borne by no host: {}", tags.join(", "))),
        }
    }
    if selection.order == WaveOrder::Name {
        chosen.sort_by_cached_key(|(host, _)| (host.name.to_lowercase(), host.id));
    }
    Ok(chosen)
}

fn look(
    (db, hub): (&Db, &Hub),
    order: &ForMany,
    selection: &Selection,
    chosen: Vec<Found>,
) -> Result<Outlook, OpError> {
    let mut outlook = Outlook { destroys: order.destroys(), ..Outlook::default() };
    let mut refused: Vec<FieldError> = Vec::new();
    for (host, named) in chosen {
        match order.look(db, hub, &host) {
            Ok(way) => outlook.able.push(Chosen { host, way: Ok(way) }),
            Err(e) => {
                let why = of_host(e)?;
                if let Some(at) = named.filter(|_| !selection.lenient) {
                    refused
                        .push(FieldError::new(&format!("hosts[{at}]"), format!("{} can't run it: {why}", host.name)));
                }
                outlook.unable.push(Chosen { host, way: Err(why) });
            }
        }
    }
    if outlook.able.is_empty() {
        return Err(none_can(&outlook.unable));
    }
    if refused.is_empty() {
        return Ok(outlook);
    }
    let more = refused.len().saturating_sub(MOST_NAMED);
    refused.truncate(MOST_NAMED);
    if more > 0 {
        refused.push(FieldError::new("hosts", format!("and {more} more can't run it")));
    }
    Err(OpError::Invalid(refused))
}

fn none_can(unable: &[Chosen]) -> OpError {
    let why = |chosen: &Chosen| chosen.way.clone().err().unwrap_or_default();
    let Some(first) = unable.first() else { return OpError::field("hosts", "are missing: name hosts, tags, or all") };
    if unable.iter().all(|chosen| why(chosen) == why(first)) {
        return OpError::field("kind", format!("can't run on any of the hosts: {}", why(first)));
    }
    let named: Vec<String> = unable.iter().take(3).map(|one| format!("{}: {}", one.host.name, why(one))).collect();
    let rest = if unable.len() > named.len() { "; …" } else { "" };
    OpError::field("hosts", format!("can't run it, none of them. {}{rest}", named.join("; ")))
}

/// Why one host can't; an error where no host could, because it is about the answers.
pub(super) fn of_host(refusal: OpError) -> Result<String, OpError> {
    match refusal {
        OpError::Invalid(errors) if errors.iter().any(|error| error.field != "kind" && error.field != "confirm") => {
            Err(OpError::Invalid(errors))
        }
        OpError::Invalid(errors) => Ok(errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; ")),
        OpError::NotFound(_) | OpError::Conflict(_) | OpError::Busy { .. } => Ok(refusal.to_string()),
        failure => Err(failure),
    }
}
