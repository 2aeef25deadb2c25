//! Addresses of waves: one runbook over many hosts.

use super::{fill, with_query};
use crate::domain::WaveId;

/// Patterns for the router.
pub(super) mod route {
    /// Waves; `?after=` for older ones. POST makes one.
    pub const WAVES: &str = "/waves";
    /// A new wave; `?host=` (several), `?tag=` (several), `?all=1`, `?runbook=`.
    pub const WAVE_NEW: &str = "/waves/new";
    /// A wave; `?from=` for later hosts, `?fragment=1` for its live part.
    pub const WAVE: &str = "/waves/{id}";
    /// Stop it (POST).
    pub const WAVE_CANCEL: &str = "/waves/{id}/cancel";
    /// Run again what failed or was not started (POST).
    pub const WAVE_RERUN: &str = "/waves/{id}/rerun";
}

/// A wave's page.
#[must_use]
pub fn wave(id: WaveId) -> String {
    fill(route::WAVE, id)
}

/// A wave's page from this place on.
#[must_use]
pub fn wave_from(id: WaveId, from: u32) -> String {
    with_query(&wave(id), &[("from", &from.to_string())])
}

/// The live part of that.
#[must_use]
pub fn wave_live(id: WaveId, from: u32) -> String {
    with_query(&wave(id), &[("fragment", "1"), ("from", &from.to_string())])
}

/// Stop a wave.
#[must_use]
pub fn wave_cancel(id: WaveId) -> String {
    fill(route::WAVE_CANCEL, id)
}

/// Run again what failed or was not started.
#[must_use]
pub fn wave_rerun(id: WaveId) -> String {
    fill(route::WAVE_RERUN, id)
}

/// The form of a wave over hosts that bear a tag; over all where it is empty. `runbook` may be empty.
#[must_use]
pub fn wave_new(tag: &str, runbook: &str) -> String {
    let all = if tag.is_empty() { "1" } else { "" };
    with_query(route::WAVE_NEW, &[("tag", tag), ("all", all), ("runbook", runbook)])
}
