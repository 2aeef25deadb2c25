//! Addresses of sites. As all others, each is its pattern, filled.

use super::fill;
use crate::domain::{HostId, SiteId};

/// All sites.
pub const LIST: &str = "/sites";
/// Add what a discovery found (POST).
pub const FROM_DISCOVERY: &str = "/sites/from-discovery";
/// A site (GET; POST changes it).
pub const SITE: &str = "/sites/{id}";
/// Run a runbook on a site (POST).
pub const RUN: &str = "/sites/{id}/run";
/// Remove a site (POST).
pub const REMOVE: &str = "/sites/{id}/remove";
/// Look for sites on a host (POST).
pub const DISCOVER: &str = "/hosts/{id}/discover";

/// A site's page.
#[must_use]
pub fn site(id: SiteId) -> String {
    fill(SITE, id)
}

/// Run a runbook on a site.
#[must_use]
pub fn run(id: SiteId) -> String {
    fill(RUN, id)
}

/// Remove a site.
#[must_use]
pub fn remove(id: SiteId) -> String {
    fill(REMOVE, id)
}

/// Look for sites on a host.
#[must_use]
pub fn discover(id: HostId) -> String {
    fill(DISCOVER, id)
}
