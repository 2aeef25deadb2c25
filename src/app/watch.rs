//! Keeps watch by the clock: probes are asked, and health is waited for behind restarts.

use crate::{
    http::AppState,
    ops::{aftermath::Waiter, watch::Watcher},
};

/// Starts both, on the parts that the web uses too.
pub(super) fn start(state: &AppState) {
    let (store, clock, prober, tasks) =
        (state.store.clone(), state.clock.clone(), state.prober.clone(), state.tasks.clone());
    let waiter = Waiter {
        store: store.clone(),
        hub: state.hub.clone(),
        clock: clock.clone(),
        prober: prober.clone(),
        tasks: tasks.clone(),
    };
    tasks.spawn_core("probes", Watcher::new(store, clock, prober, tasks.clone()).run());
    tasks.spawn_core("aftermath", waiter.run());
}
