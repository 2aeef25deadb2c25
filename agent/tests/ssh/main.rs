//! Hosts over SSH, against Debian's real sshd.
#![cfg(all(target_os = "linux", feature = "ssh"))]
#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[expect(dead_code, reason = "the tests of steps use a part of their own")]
#[path = "../support/sshd.rs"]
mod sshd;

mod connecting;
mod running;
mod stopping;
mod transfers;
