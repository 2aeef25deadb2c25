//! Addresses of runbooks. A name of a broken file can be anything, so it is encoded.

use super::{fill, query_value, route, with_query};
use crate::domain::{HostId, JobId};

fn named(pattern: &str, name: &str) -> String {
    pattern.replace("{name}", &query_value(name))
}

/// A runbook.
#[must_use]
pub fn runbook(name: &str) -> String {
    named(route::RUNBOOK, name)
}

/// A runbook, to be run on a host.
#[must_use]
pub fn runbook_on(name: &str, host: HostId) -> String {
    with_query(&runbook(name), &[("host", &host.to_string())])
}

/// A runbook with the answers of an earlier job.
#[must_use]
pub fn runbook_again(name: &str, host: HostId, job: JobId) -> String {
    with_query(&runbook_on(name, host), &[("from", &job.to_string())])
}

/// What a runbook would do.
#[must_use]
pub fn runbook_preview(name: &str) -> String {
    named(route::RUNBOOK_PREVIEW, name)
}

/// Steps to be pasted for a host.
#[must_use]
pub fn steps_on(host: HostId) -> String {
    with_query(route::STEPS, &[("host", &host.to_string())])
}

/// The pasted steps of an earlier job.
#[must_use]
pub fn steps_again(host: HostId, job: JobId) -> String {
    with_query(&steps_on(host), &[("from", &job.to_string())])
}

/// A job's log from the beginning of a step on, counted from 1.
#[must_use]
pub fn job_step(id: JobId, step: usize) -> String {
    with_query(&fill(route::JOB, id), &[("step", &step.to_string())])
}

/// A job's log from a line on, with the line marked.
#[must_use]
pub fn job_line(id: JobId, line: u32) -> String {
    format!("{}#L{line}", with_query(&fill(route::JOB, id), &[("from", &line.to_string())]))
}
