//! Keeps what is known of repositories up to date: ended jobs are taken in as they end, what is due is ordered every minute. Both read the store anew each
//! time, so that a restart, a failure or a late wake-up costs nothing but time.

use std::time::Duration;

use crate::{
    clock::SharedClock,
    lifecycle::Tasks,
    ops::{health, jobs::Desk},
};

/// Between two looks for ends, where no wake-up came.
const EXAMINE: Duration = Duration::from_secs(15);
/// Between two looks for what is due.
const UPKEEP: Duration = Duration::from_secs(60);

/// Starts both.
pub(super) fn start(desk: &Desk, clock: &SharedClock, tasks: &Tasks) {
    tasks.spawn_core("health", examine(desk.clone(), tasks.clone()));
    tasks.spawn_core("health upkeep", upkeep(desk.clone(), clock.clone(), tasks.clone()));
}

/// Takes in ended jobs until the house stops.
async fn examine(desk: Desk, tasks: Tasks) {
    let mut ends = desk.hub.ends();
    loop {
        if let Err(e) = health::examine(&desk).await {
            tracing::warn!(error = %e, "ended jobs could not be taken in; trying again");
        }
        tokio::select! {
            () = tasks.stopping() => return,
            _ = ends.changed() => {}
            () = tokio::time::sleep(EXAMINE) => {}
        }
    }
}

/// Orders what is due until the house stops.
async fn upkeep(desk: Desk, clock: SharedClock, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(UPKEEP) => {}
        }
        match health::upkeep(&desk, clock.now()).await {
            Ok(0) => {}
            Ok(jobs) => tracing::debug!(jobs, "repositories are measured or looked at"),
            Err(e) => tracing::warn!(error = %e, "what is due for repositories could not be ordered; trying again"),
        }
    }
}
