//! The agent's connection against real peers over real sockets: servers, proxies and certificates made by the test.

mod closes;
mod conversation;
mod dialling;
mod enrolment;
mod support;
