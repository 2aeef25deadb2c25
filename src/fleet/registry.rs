//! Live links: host → outbound queue. The newest connection of a host wins; an older one is told so, and its end removes only itself. Which one is newer
//! was decided when they were opened: a hello that was long under way must not take the place of the connection that the agent opened since.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{mpsc, watch};

use crate::{domain::HostId, fleet::link::Closing};

/// Frames that may wait for a slow agent. Past that the link is closed: an order that was lost with it is sent again later.
const OUTBOUND: usize = 64;

#[derive(Default)]
pub(super) struct Registry {
    links: Mutex<HashMap<HostId, Handle>>,
    /// The newest connection that each host ever had, also where it is gone: a hello can be under way for longer than the connection that overtook it lasts.
    /// Taken before `links` where both are; one entry a host.
    newest: Mutex<HashMap<HostId, u64>>,
    generations: AtomicU64,
}

struct Handle {
    generation: u64,
    outbound: mpsc::Sender<String>,
    close: watch::Sender<Option<Closing>>,
}

/// What a link gets when it is entered here.
pub(super) struct Registered {
    pub(super) generation: u64,
    pub(super) outbound: mpsc::Receiver<String>,
    pub(super) close: watch::Receiver<Option<Closing>>,
}

impl Registry {
    fn links(&self) -> MutexGuard<'_, HashMap<HostId, Handle>> {
        // Every critical section changes the map in one operation, so a panic elsewhere leaves the map whole.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a connection that is being opened: higher than that of any before.
    pub(super) fn number(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn newest(&self) -> MutexGuard<'_, HashMap<HostId, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a connection of the host that was opened later than this one is here, or was.
    pub(super) fn is_overtaken(&self, host: HostId, generation: u64) -> bool {
        self.newest().get(&host).is_some_and(|newest| *newest > generation)
    }

    /// Enters a connection; an older one that was there is told to close. `None`: a newer one is there, or was.
    pub(super) fn enter(&self, host: HostId, generation: u64) -> Option<Registered> {
        let (outbound, queue) = mpsc::channel(OUTBOUND);
        let (close, closing) = watch::channel(None);
        let mut newest = self.newest();
        let mark = newest.entry(host).or_default();
        if *mark > generation {
            return None;
        }
        *mark = generation;
        let mut links = self.links();
        if let Some(old) = links.insert(host, Handle { generation, outbound, close }) {
            old.close.send_replace(Some(Closing::Replaced));
        }
        Some(Registered { generation, outbound: queue, close: closing })
    }

    /// Whether one more connection fits into `bound`; a host's new one takes the place of its old.
    pub(super) fn has_room(&self, host: HostId, bound: usize) -> bool {
        let links = self.links();
        links.len() < bound || links.contains_key(&host)
    }

    /// Takes a connection out, unless a newer one stands there.
    pub(super) fn leave(&self, host: HostId, generation: u64) {
        let mut links = self.links();
        if links.get(&host).is_some_and(|link| link.generation == generation) {
            links.remove(&host);
        }
    }

    /// Queues a frame for a host's agent. Returns whether there is one that takes it.
    pub(super) fn send(&self, host: HostId, frame: String) -> bool {
        let links = self.links();
        let Some(link) = links.get(&host) else { return false };
        match link.outbound.try_send(frame) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                link.close.send_replace(Some(Closing::TooSlow));
                false
            }
        }
    }

    pub(super) fn close(&self, host: HostId, why: Closing) {
        if let Some(link) = self.links().get(&host) {
            link.close.send_replace(Some(why));
        }
    }

    /// Whether a host's agent is here.
    pub(super) fn is_connected(&self, host: HostId) -> bool {
        self.links().contains_key(&host)
    }

    /// Which connection a host's agent has; later ones have larger numbers.
    pub(super) fn generation(&self, host: HostId) -> Option<u64> {
        self.links().get(&host).map(|link| link.generation)
    }

    /// Whether nobody is here.
    pub(super) fn is_empty(&self) -> bool {
        self.links().is_empty()
    }

    pub(super) fn hosts(&self) -> Vec<HostId> {
        self.links().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_replaces_the_old_one_and_the_old_ones_end_leaves_it_alone() {
        let (registry, host) = (Registry::default(), HostId::from_parts(1, 1));
        let old = registry.enter(host, registry.number()).unwrap();
        let mut new = registry.enter(host, registry.number()).unwrap();
        assert_eq!(*old.close.borrow(), Some(Closing::Replaced));
        registry.leave(host, old.generation);
        assert!(registry.send(host, "x".to_owned()));
        assert_eq!(new.outbound.try_recv().unwrap(), "x");
    }

    #[test]
    fn a_connection_whose_hello_was_long_under_way_does_not_replace_a_newer_one() {
        let (registry, host) = (Registry::default(), HostId::from_parts(1, 1));
        let (late, new) = (registry.number(), registry.number());
        assert!(!registry.is_overtaken(host, late));
        let new = registry.enter(host, new).unwrap();
        assert!(registry.is_overtaken(host, late));
        assert!(registry.enter(host, late).is_none());
        assert_eq!(*new.close.borrow(), None);
        // Nor when that one is gone: what came over it is still news to the old hello.
        registry.leave(host, new.generation);
        assert!(registry.is_overtaken(host, late));
        assert!(registry.enter(host, late).is_none());
    }

    #[test]
    fn an_agent_that_does_not_read_is_closed_and_not_waited_for() {
        let (registry, host) = (Registry::default(), HostId::from_parts(1, 1));
        let link = registry.enter(host, registry.number()).unwrap();
        for _ in 0..OUTBOUND {
            assert!(registry.send(host, String::new()));
        }
        assert!(!registry.send(host, String::new()));
        assert_eq!(*link.close.borrow(), Some(Closing::TooSlow));
    }
}
