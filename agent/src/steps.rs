//! The step engine: runs a runbook's guards, steps and teardown, on this machine or on another, and tells what came of each. What it is about to do is on disk before
//! it does it, so that the next process of the agent can tell truthfully how far it came. Invariant: the teardown runs on every way out, and no command outlives its time limit
//! or its job's cancellation.

pub(crate) use engine::{Engine, Setting};
pub(crate) use failure::Failure;
pub(crate) use hosts::Hosts;
pub(crate) use journal::Journal;

mod artefact;
mod container;
mod engine;
mod failure;
mod here;
mod hosts;
mod journal;
#[cfg(feature = "ssh")]
mod over_ssh;
mod patience;
mod remote;
mod request;
mod script;
mod shell;
mod voice;
mod work;
