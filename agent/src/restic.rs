//! All that is known about restic, 0.14 to 0.19: how to find it, call it, read it and judge its end. No network
//! protocol and no threads of its own; the executor decides when something runs.

pub(crate) mod address;
pub(crate) mod command;
pub(crate) mod exit;
pub(crate) mod locks;
pub(crate) mod output;
pub(crate) mod preflight;
pub(crate) mod records;
pub(crate) mod redact;
#[cfg(test)]
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod rest;
pub(crate) mod saved;
pub(crate) mod summary;
pub(crate) mod upkeep;
pub mod version;

pub use version::{Feature, ProbeError, Restic, ResticVersion, probe};
