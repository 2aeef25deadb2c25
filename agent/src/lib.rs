//! Endpoint agent: connection, outbox, restic runner. It dials out, does what it is ordered, and reports until it is acknowledged.

pub mod backoff;
mod blocking;
pub mod cli;
pub mod clock;
pub mod dial;
pub mod duties;
pub mod enrol;
pub mod errand;
pub mod executor;
pub mod host_facts;
pub mod identity;
mod leftovers;
mod link;
pub mod outbox;
mod platform;
pub mod policy;
mod process;
pub mod restic;
pub mod runbook;
pub mod runner;
pub mod schedule;
pub mod seal;
mod serve;
pub mod server_url;
pub mod sink;
mod spool;
#[cfg(feature = "ssh")]
pub mod ssh;
mod steps;
mod text;

pub use serve::{AgentError, AgentOptions, serve};
pub use spool::SpoolLimits;
