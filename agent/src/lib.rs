//! Endpoint agent: connection, outbox, restic runner. It dials out, does what it is ordered, and reports until it is acknowledged.

pub mod executor;
mod platform;
mod process;
pub mod restic;
pub mod sink;
mod text;
