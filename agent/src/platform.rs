//! The few things that differ between systems: process groups, passing secrets, private files. Everything above is
//! written against these names; each system's file provides all of them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{Group, exit_code, hand_over, interrupt_names, moved_bytes, private_dir, write_private};
#[cfg(windows)]
pub(crate) use windows::{Group, exit_code, hand_over, interrupt_names, moved_bytes, private_dir, write_private};
