//! Every task has an owner: tasks are spawned here, on one tracker, and end in two phases. Soft: take nothing new, finish, flush. Hard: stop now.
//! A core task that ends by itself, or panics, stops the whole: a control plane that half works is worse than one that restarts.

use std::{future::Future, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The owner of all tasks; clones share it.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `task` until it ends or the hard stop cuts it off.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let hard = self.hard.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                () = hard.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Runs a task without which the rest makes no sense: its end, by whatever cause, starts the soft stop.
    pub fn spawn_core(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = self.soft.clone().drop_guard();
        let soft = self.soft.clone();
        self.spawn(async move {
            // Dropped on return and on panic alike.
            let _guard = guard;
            task.await;
            if !soft.is_cancelled() {
                tracing::error!(task = name, "a core task ended by itself: stopping");
            }
        });
    }

    /// Resolves when the soft stop begins.
    pub async fn stopping(&self) {
        self.soft.cancelled().await;
    }

    /// Whether the soft stop has begun.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// A token that is cancelled when the soft stop begins.
    #[must_use]
    pub fn soft_token(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Begins the soft stop. Repeating it does nothing.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Soft stop, then, after `grace`, hard stop; returns when no task is left. Says whether all ended within the grace.
    pub async fn shut_down(&self, grace: Duration) -> bool {
        self.stop();
        self.tracker.close();
        let in_time = tokio::time::timeout(grace, self.tracker.wait()).await.is_ok();
        self.hard.cancel();
        self.tracker.wait().await;
        in_time
    }

    /// Tasks that run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ignores_the_soft_stop_is_cut_off_after_the_grace() {
        let tasks = Tasks::new();
        tasks.spawn(std::future::pending());
        assert!(!tasks.shut_down(Duration::from_millis(5)).await);
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn a_core_task_that_panics_stops_the_whole() {
        let tasks = Tasks::new();
        tasks.spawn_core("test", async { panic!("on purpose") });
        tasks.stopping().await;
        assert!(tasks.shut_down(Duration::from_secs(5)).await);
    }
}
