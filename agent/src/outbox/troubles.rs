//! What an operator should know of the spool, in words.

use std::{io::ErrorKind, time::Duration};

use flotilla_proto::Trouble;
use tokio::time::Instant;

use super::State;
use crate::spool::SpoolLimits;

/// How long a cut is told of after the start that found it.
pub(super) const TORN_FOR: Duration = Duration::from_secs(3600);

pub(super) fn of(state: &State, limits: &SpoolLimits, now: Instant) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let mut add = |code: &str, message| troubles.push(Trouble { code: code.to_owned(), message });
    if let Some(failure) = &state.failure {
        let text = &failure.text;
        if matches!(failure.kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
            add(
                "spool_disk_full",
                format!(
                    "The disk of the agent's state folder is full ({text}). Jobs run on, but a part of their logs may be missing. Free some space there; \
                     the agent then goes on by itself."
                ),
            );
        } else {
            add(
                "spool_unwritable",
                format!(
                    "The agent cannot write to its state folder ({text}). Jobs run on, but a part of their logs may be missing. Check the folder's disk \
                     and permissions; the agent then goes on by itself."
                ),
            );
        }
    }
    let dropping = state.jobs.values().filter(|job| job.is_dropping()).count();
    if dropping > 0 && state.failure.is_none() {
        let (job, all) = (limits.job_bytes >> 20, limits.total_bytes >> 20);
        add(
            "spool_full",
            format!(
                "The logs of {dropping} running jobs are being cut: the agent keeps at most {job} MiB of a job and {all} MiB in all that the server has not \
                 taken yet. Look whether the server is slow, or raise the bounds with --spool-job-mib and --spool-total-mib."
            ),
        );
    }
    if !state.torn.is_empty() && now < state.torn_until {
        add(
            "spool_torn",
            format!(
                "After the agent's last abrupt end some of what it had kept could not be used: {}. Where a job's output is still there, it was read again.",
                state.torn.join("; ")
            ),
        );
    }
    troubles
}
