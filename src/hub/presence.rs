//! Which agents hold a connection right now, and what they last said of their machine. In memory only: after a restart nobody is there until they
//! come back. The fleet writes it, pages read it. Each connection has a generation, so that an old one's end can't hide a new one.

use std::collections::HashMap;

use crate::{
    domain::{HostId, JobId, Timestamp, Vitals},
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

/// Jobs that count as lost and that a connected agent named all the same: where they go on, and over which connection.
pub(super) type Returned = HashMap<JobId, (HostId, u64)>;

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
        drop(presences);
        lock(&self.inner.returned).retain(|_, at| *at != (host, generation));
    }

    /// An agent came back with jobs that had been given up as lost. What earlier connections of it named counts no more.
    pub fn came_back_with(&self, host: HostId, generation: u64, lost: Vec<JobId>) {
        let mut returned = lock(&self.inner.returned);
        returned.retain(|_, (at, connection)| *at != host || *connection > generation);
        returned.extend(lost.into_iter().map(|job| (job, (host, generation))));
    }

    /// Whether a job that counts as lost goes on at an agent that is here, as far as that said when it came.
    #[must_use]
    pub fn goes_on(&self, job: JobId) -> bool {
        lock(&self.inner.returned).contains_key(&job)
    }

    /// All jobs that go on although they counted as lost when their agent came; some may have ended since.
    #[must_use]
    pub fn returned(&self) -> Vec<(JobId, HostId)> {
        lock(&self.inner.returned).iter().map(|(job, (host, _))| (*job, *host)).collect()
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

    #[test]
    fn a_lost_job_goes_on_while_the_connection_that_named_it_lasts() {
        let (hub, host, job) = (Hub::new(), HostId::from_parts(1, 1), JobId::from_parts(1, 1));
        hub.came_back_with(host, 1, vec![job]);
        hub.came_back_with(host, 2, vec![job]);
        hub.left(host, 1);
        assert!(hub.goes_on(job) && hub.returned() == [(job, host)]);
        hub.came_back_with(host, 3, Vec::new());
        assert!(!hub.goes_on(job));
        hub.came_back_with(host, 4, vec![job]);
        hub.left(host, 4);
        assert!(!hub.goes_on(job));
    }
}
