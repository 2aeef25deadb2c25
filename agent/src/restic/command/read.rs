//! The commands that look at a repository and change nothing in it.

use std::ffi::OsString;

use super::words;

pub(super) fn snapshots() -> Vec<OsString> {
    words(&["snapshots", "--json", "--no-lock"])
}

pub(super) fn stats() -> Vec<OsString> {
    words(&["stats", "--json", "--no-lock", "--mode=raw-data"])
}

pub(super) fn check() -> Vec<OsString> {
    words(&["check", "--json"])
}
