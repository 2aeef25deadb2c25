//! The reconciler of schedule sets, without input: woken by a change, by an agent that connects, and by the clock, it computes what each connected
//! agent is to watch, gives a set that changed a new version, and sends it. A look costs one read; it is about all connected hosts only after a
//! change, else about those that came or are behind.
//!
//! Which set is another one is told by a digest over the entries and, in place of the secrets in them, over the sealed form of those: so that the
//! digest, which stands in the store, helps nobody to guess a password.

mod set;
pub(super) mod ticks;

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use flotilla_proto::{ScheduleSet, ServerMessage};
use tokio::sync::Notify;

use self::set::{Draft, Drafts};
use crate::{
    domain::HostId,
    fleet::Fleet,
    store::{StoreError, hosts},
};

/// How often to look for agents that are behind without being woken.
const LOOK: Duration = Duration::from_secs(60);
/// Sets that get a new version in one transaction.
const BATCH: usize = 256;

/// Hosts whose agent has just come: they are looked at soon, once.
#[derive(Default)]
pub(super) struct Arrivals {
    hosts: Mutex<HashSet<HostId>>,
    news: Notify,
}

impl Arrivals {
    /// An agent came.
    pub(super) fn add(&self, host: HostId) {
        // The set is whole after a panic elsewhere: each critical section is one operation.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        self.news.notify_one();
    }

    fn take(&self) -> HashSet<HostId> {
        std::mem::take(&mut *self.hosts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs until the stop.
pub(super) async fn run(fleet: Fleet) {
    let mut everyone = false;
    loop {
        let by_clock = tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            () = fleet.inner.hub.schedules_changed() => { everyone = true; false }
            () = fleet.inner.arrivals.news.notified() => false,
            () = tokio::time::sleep(LOOK) => true,
        };
        match look(&fleet, everyone, by_clock).await {
            Ok(()) => everyone = false,
            Err(e) => {
                tracing::error!(error = %e, "schedules could not be brought to their agents; trying again in a minute");
                everyone = true;
            }
        }
    }
}

pub(super) async fn look(fleet: &Fleet, everyone: bool, by_clock: bool) -> Result<(), StoreError> {
    let arrived = fleet.inner.arrivals.take();
    let connected: HashSet<HostId> = fleet.inner.registry.hosts().into_iter().collect();
    let mut wanted = arrived;
    if by_clock {
        let behind = fleet.inner.store.read(hosts::schedule_drift).await?;
        wanted.extend(behind.into_iter().filter(|(_, state)| state.drifts()).map(|(host, _)| host));
    }
    wanted.retain(|host| connected.contains(host));
    let wanted: Vec<HostId> = if everyone { connected.into_iter().collect() } else { wanted.into_iter().collect() };
    if wanted.is_empty() {
        return Ok(());
    }
    let house = fleet.clone();
    let drafts = fleet.inner.store.read(move |db| Drafts::read(db, &house)?.of(db, &wanted)).await?;
    for batch in in_batches(drafts) {
        let versioned = fleet.inner.store.write(move |tx| {
            let renew = |draft: Draft| {
                let version = match draft.version {
                    Some(version) => version,
                    None => hosts::renew_schedule(tx, draft.host, draft.digest, &draft.unarmed)?,
                };
                Ok::<_, StoreError>((draft.host, ScheduleSet { version, entries: draft.entries }))
            };
            batch.into_iter().map(renew).collect::<Result<Vec<_>, _>>()
        });
        for (host, set) in versioned.await? {
            send(fleet, host, set);
        }
    }
    Ok(())
}

fn in_batches(mut drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
    let mut batches = Vec::new();
    while !drafts.is_empty() {
        let rest = drafts.split_off(drafts.len().min(BATCH));
        batches.push(std::mem::replace(&mut drafts, rest));
    }
    batches
}

fn send(fleet: &Fleet, host: HostId, set: ScheduleSet) {
    let version = set.version;
    match ServerMessage::ScheduleSet(set).encode("") {
        // A link that takes no frame is closing: the set is sent to the next one, or a minute later.
        Ok(frame) => {
            fleet.inner.registry.send(host, frame);
            tracing::debug!(host.id = %host, version, "schedule set sent");
        }
        Err(e) => tracing::error!(host.id = %host, error = %e, "a schedule set is too large to be sent"),
    }
}
