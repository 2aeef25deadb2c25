//! The health of repositories: what ended jobs mean for it, taken in once each ([`examine`]); what is measured and looked at by itself ([`upkeep`]);
//! what a page shows ([`report`]); what people order ([`orders`]). All of it may be late or repeated without harm.

mod ends;
mod orders;
mod report;
mod second_copy;
mod upkeep;

pub use ends::examine;
pub use orders::{check, look_at_locks, measure, repair, test_append_only, unlock};
pub use report::{latest_damage, report};
pub use upkeep::upkeep;

#[cfg(test)]
mod tests;
