//! Other Unix systems: a number is all that is known of a process, and it is looked at again and again.

use std::{path::PathBuf, time::Duration};

use rustix::process::{Pid, test_kill_process};
use tokio::time::sleep;

/// Waits for the end of a process that need not be a child.
#[derive(Debug)]
pub(super) struct Watch(Pid);

impl Watch {
    pub(super) fn of(pid: Pid, _started: Option<u64>) -> Self {
        Self(pid)
    }

    pub(super) async fn ended(&self) {
        while runs(self.0, None) {
            sleep(Duration::from_millis(250)).await;
        }
    }
}

/// Whether a process of this number runs.
pub(super) fn runs(pid: Pid, _started: Option<u64>) -> bool {
    test_kill_process(pid).is_ok()
}

/// Not known here.
pub(super) fn age(_started: u64) -> Option<Duration> {
    None
}

/// Not known here.
pub(super) fn kill_writers(_files: &[PathBuf]) -> usize {
    0
}
