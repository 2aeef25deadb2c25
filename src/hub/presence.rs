//! Which agents hold a connection right now, and what they last said of their machine. In memory only: after a restart nobody is there until they
//! come back. The fleet writes it, pages read it. Each connection has a generation, so that an old one's end can't hide a new one.

use std::collections::HashMap;

use crate::{
    domain::{HostId, Timestamp, Vitals},
    hub::{Hub, lock},
};

/// An agent that is connected.
#[derive(Debug, Clone, PartialEq)]
pub struct Presence {
    /// Which connection; later ones are larger.
    pub generation: u64,
    /// Since when.
    pub since: Timestamp,
    /// Last sign of life.
    pub seen_at: Timestamp,
    /// What it last said of its machine.
    pub vitals: Vitals,
}

/// All presences.
pub(super) type Presences = HashMap<HostId, Presence>;

impl Hub {
    /// An agent came; a connection of an older generation is replaced.
    pub fn arrived(&self, host: HostId, generation: u64, at: Timestamp) {
        let presence = Presence { generation, since: at, seen_at: at, vitals: Vitals::default() };
        lock(&self.inner.presences).insert(host, presence);
    }

    /// An agent gave a sign of life.
    pub fn heard(&self, host: HostId, generation: u64, at: Timestamp, vitals: Option<Vitals>) {
        if let Some(presence) = lock(&self.inner.presences).get_mut(&host)
            && presence.generation == generation
        {
            presence.seen_at = at;
            if let Some(vitals) = vitals {
                presence.vitals = vitals;
            }
        }
    }

    /// A connection ended; a newer one of the same host stays.
    pub fn left(&self, host: HostId, generation: u64) {
        let mut presences = lock(&self.inner.presences);
        if presences.get(&host).is_some_and(|presence| presence.generation == generation) {
            presences.remove(&host);
        }
    }

    /// Whether the host's agent is connected.
    #[must_use]
    pub fn is_online(&self, host: HostId) -> bool {
        lock(&self.inner.presences).contains_key(&host)
    }

    /// The presence of a host's agent.
    #[must_use]
    pub fn presence(&self, host: HostId) -> Option<Presence> {
        lock(&self.inner.presences).get(&host).cloned()
    }

    /// All hosts whose agent is connected, with its last sign of life.
    #[must_use]
    pub fn online(&self) -> HashMap<HostId, Timestamp> {
        lock(&self.inner.presences).iter().map(|(host, presence)| (*host, presence.seen_at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_old_connection_does_not_hide_the_new_one() {
        let (hub, host, at) = (Hub::new(), HostId::from_parts(1, 1), Timestamp::from_unix_ms(0));
        hub.arrived(host, 1, at);
        hub.arrived(host, 2, at);
        hub.left(host, 1);
        assert!(hub.is_online(host));
        hub.left(host, 2);
        assert!(!hub.is_online(host));
    }
}
