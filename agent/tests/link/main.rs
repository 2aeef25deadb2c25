//! The agent's connection against real peers over real sockets: servers, proxies and certificates made by the test.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod closes;
mod conversation;
mod dialling;
#[cfg(unix)]
mod enrolment;
mod schedules;
mod support;
