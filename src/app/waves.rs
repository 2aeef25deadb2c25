//! Drives waves on: when one is made or stopped, when a job has ended, and by the clock, because health that comes back behind a job wakes nobody.

use std::time::Duration;

use crate::{
    lifecycle::Tasks,
    ops::{jobs::Desk, waves},
};

/// Between two looks where no wake-up came.
const LOOK: Duration = Duration::from_secs(3);

/// Starts it.
pub(super) fn start(desk: &Desk, tasks: &Tasks) {
    tasks.spawn_core("waves", run(desk.clone(), tasks.clone()));
}

/// Makes the next moves until the house stops.
async fn run(desk: Desk, tasks: Tasks) {
    let mut ends = desk.hub.ends();
    loop {
        if let Err(e) = waves::drive(&desk).await {
            tracing::warn!(error = %e, "waves could not be driven on; trying again");
        }
        tokio::select! {
            () = tasks.stopping() => return,
            () = desk.hub.waves_changed() => {}
            _ = ends.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
