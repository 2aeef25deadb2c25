//! Addresses of probes and restarts.

use super::{fill, route};
use crate::domain::{HostId, ProbeId};

/// A new probe of a host (GET: the form, POST).
pub const HOST_PROBES: &str = "/hosts/{id}/probes";
/// Restart a host's service (POST).
pub const HOST_RESTART: &str = "/hosts/{id}/restart";
/// A probe; `?days=1|7|90`; POST changes it.
pub const PROBE: &str = "/probes/{id}";
/// Ask at once (POST).
pub const PROBE_CHECK: &str = "/probes/{id}/check";
/// Remove a probe (POST).
pub const PROBE_REMOVE: &str = "/probes/{id}/remove";

/// A new probe of a host.
#[must_use]
pub fn host_probes(id: HostId) -> String {
    fill(route::HOST_PROBES, id)
}

/// Restart a host's service.
#[must_use]
pub fn host_restart(id: HostId) -> String {
    fill(route::HOST_RESTART, id)
}

/// A probe.
#[must_use]
pub fn probe(id: ProbeId) -> String {
    fill(route::PROBE, id)
}

/// Ask a probe at once.
#[must_use]
pub fn probe_check(id: ProbeId) -> String {
    fill(route::PROBE_CHECK, id)
}

/// Remove a probe.
#[must_use]
pub fn probe_remove(id: ProbeId) -> String {
    fill(route::PROBE_REMOVE, id)
}
