//! Waits for health behind a restart: every second all of the host's probes are asked anew, until each is healthy or the time is up. What is waited for stands in the
//! store, so that a restart of the server goes on with it; answers from before count for nothing.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    clock::SharedClock,
    domain::{
        JobId,
        aftermath::Aftermath,
        probe::{Answer, Probe},
    },
    hub::Hub,
    lifecycle::Tasks,
    ops::{OpError, watch},
    probe::Prober,
    store::{
        Store,
        aftermath::{self as kept, Waiting},
        probes::{self, Asked},
    },
};

/// Between two rounds of questions.
const ROUND: Duration = Duration::from_secs(1);
/// One question takes at most so long: a service that is on its way up may swallow one.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two looks for restarts, where no end was told.
const LOOK: Duration = Duration::from_secs(5);
/// Restarts that are waited for at the same time; the others' turn comes.
const AT_ONCE: usize = 256;
/// Probes that an outcome names.
const NAMED: usize = 3;

/// Waits for what there is to wait for.
#[derive(Clone)]
pub struct Waiter {
    /// Says what is waited for.
    pub store: Store,
    /// Tells of ends.
    pub hub: Hub,
    /// The date.
    pub clock: SharedClock,
    /// Asks.
    pub prober: Prober,
    /// Owner of tasks.
    pub tasks: Tasks,
}

impl Waiter {
    /// Sees each restart through, until the house stops.
    pub async fn run(self) {
        let mut ends = self.hub.ends();
        let at_it: Arc<Mutex<HashSet<JobId>>> = Arc::default();
        loop {
            match self.store.read(kept::waiting).await {
                Ok(found) => self.begin(found, &at_it),
                Err(error) => tracing::warn!(%error, "restarts that are waited for could not be read; trying again"),
            }
            tokio::select! {
                () = self.tasks.stopping() => return,
                _ = ends.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn begin(&self, found: Vec<Waiting>, at_it: &Arc<Mutex<HashSet<JobId>>>) {
        let mut jobs = at_it.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in found {
            if jobs.len() >= AT_ONCE || !jobs.insert(waiting.job) {
                continue;
            }
            let (waiter, at_it) = (self.clone(), Arc::clone(at_it));
            self.tasks.spawn(async move {
                tokio::select! {
                    () = waiter.tasks.stopping() => {}
                    () = waiter.see_through(waiting) => {}
                }
                at_it.lock().unwrap_or_else(PoisonError::into_inner).remove(&waiting.job);
            });
        }
    }

    /// Asks round by round until there is an outcome, and notes that.
    async fn see_through(&self, waiting: Waiting) {
        loop {
            let next = Instant::now() + ROUND;
            match self.round(waiting).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(job.id = %waiting.job, %error, "the health behind a restart could not be looked at; trying again");
                }
            }
            sleep_until(next).await;
        }
    }

    /// One round. Says whether it was the last.
    async fn round(&self, waiting: Waiting) -> Result<bool, OpError> {
        let host = waiting.host;
        let mut asked = self.store.read(move |db| probes::list(db, Some(host))).await?;
        asked.retain(|probe| probe.spec.enabled);
        let answers = join_all(asked.iter().map(|probe| self.ask(probe))).await;
        let now = self.clock.now();
        let outcome = if asked.is_empty() {
            Aftermath::NotAsked
        } else if answers.iter().all(|answer| answer.healthy) {
            Aftermath::Healthy { after_ms: now.ms_since(waiting.since).max(0) }
        } else if now >= waiting.deadline {
            Aftermath::Unhealthy { detail: detail(&asked, &answers) }
        } else {
            return Ok(false);
        };
        let answers: Vec<Asked> = asked
            .into_iter()
            .zip(answers)
            .map(|(probe, answer)| Asked { no: probe.no, question: probe.spec.question, at: now, answer })
            .collect();
        self.store
            .write(move |tx| {
                watch::record(tx, &answers)?;
                Ok::<_, OpError>(kept::settle(tx, waiting.job, &outcome).map(drop)?)
            })
            .await?;
        Ok(true)
    }

    async fn ask(&self, probe: &Probe) -> Answer {
        let within = Duration::from_secs(probe.spec.timeout_s.into()).min(LONGEST);
        self.prober.ask(&probe.spec.question, within, self.clock.now()).await
    }
}

/// Which are not healthy, and why.
fn detail(asked: &[Probe], answers: &[Answer]) -> String {
    let bad: Vec<String> = asked
        .iter()
        .zip(answers)
        .filter(|(_, answer)| !answer.healthy)
        .map(|(probe, answer)| format!("{}: {}", probe.name, answer.detail))
        .collect();
    let more = bad.len().saturating_sub(NAMED);
    let mut text = bad[..bad.len() - more].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests;
