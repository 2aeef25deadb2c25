//! The few things that differ between systems: process groups, programs that outlive the agent, passing secrets, private files. Everything above is
//! written against these names; each system's file provides all of them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// What is known of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Bytes that this user may still write.
    pub(crate) free: u64,
    /// It takes no changes.
    pub(crate) read_only: bool,
}

#[cfg(unix)]
pub(crate) use unix::{
    Found, Group, RESERVE, Traces, Worker, exit_code, hand_over, hold, interrupt_names, moved_bytes, private_dir,
    process_exists, punch, user_id, volume, write_private,
};
#[cfg(windows)]
pub(crate) use windows::{
    Found, Group, RESERVE, Traces, Worker, exit_code, hand_over, hold, interrupt_names, moved_bytes, private_dir,
    process_exists, punch, user_id, volume, write_private,
};
