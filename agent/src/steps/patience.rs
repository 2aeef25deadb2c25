//! How long something may go on: the step's own limit, the job's, the wishes from outside. A wish to cancel ends the steps and never the teardown, which it brings about; an
//! agent that stops waits a little for what runs, for nobody else could go on with it.

use std::time::Duration;

use flotilla_proto::FailureClass;
use tokio::time::{Instant, sleep_until};

use crate::process::{Stop, StopSignal};

/// Why something is to end now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// Its own time is up.
    Time,
    /// The job's is.
    JobTime,
    /// Someone asked.
    Cancelled,
    /// The agent stops, and its jobs with it.
    Shutdown,
    /// The agent stops; the next one finishes the job.
    Leave,
}

impl Halt {
    /// As the class of a failure.
    pub(super) fn class(self) -> FailureClass {
        match self {
            Self::Time | Self::JobTime => FailureClass::TimedOut,
            Self::Cancelled => FailureClass::Cancelled,
            Self::Shutdown | Self::Leave => FailureClass::Other,
        }
    }
}

/// See the module.
pub(super) struct Patience<'a> {
    stop: &'a mut StopSignal,
    /// The job's limit; in the teardown that of the teardown.
    until: Instant,
    /// How long an agent that stops waits for what runs.
    leave: Duration,
    leave_at: Option<Instant>,
    teardown: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn new(stop: &'a mut StopSignal, until: Instant, leave: Duration) -> Self {
        Self { stop, until, leave, leave_at: None, teardown: false }
    }

    /// From now on this is the teardown, which has until then.
    pub(super) fn begin_teardown(&mut self, until: Instant) {
        self.teardown = true;
        self.until = until;
    }

    /// The job's limit, or the teardown's.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Whether nothing new is to begin.
    pub(super) fn spent(&mut self) -> Option<Halt> {
        let wish = *self.stop.borrow();
        if let Some(halt) = self.wished(wish) {
            return Some(halt);
        }
        let now = Instant::now();
        match self.leave_at {
            Some(_) if !self.teardown => Some(Halt::Leave),
            Some(at) if at <= now => Some(Halt::Leave),
            _ => (self.until <= now).then_some(Halt::JobTime),
        }
    }

    /// What a wish means for what runs.
    fn wished(&mut self, wish: Option<Stop>) -> Option<Halt> {
        match wish {
            Some(Stop::Cancelled) if !self.teardown => Some(Halt::Cancelled),
            Some(Stop::Shutdown) if !self.teardown => Some(Halt::Shutdown),
            Some(Stop::ShutdownNow) => Some(Halt::Shutdown),
            Some(Stop::Leave) => {
                self.leave_at.get_or_insert(Instant::now() + self.leave);
                None
            }
            _ => None,
        }
    }

    /// Returns once what runs, and has until `step` of its own, is to end. Dropped while it waits, it loses nothing.
    pub(super) async fn over(&mut self, step: Instant) -> Halt {
        loop {
            let heard = *self.stop.borrow();
            if let Some(halt) = self.wished(heard) {
                return halt;
            }
            let ends = [(Some(step), Halt::Time), (Some(self.until), Halt::JobTime), (self.leave_at, Halt::Leave)];
            let ends = ends.into_iter().filter_map(|(at, halt)| Some((at?, halt)));
            let (at, halt) = ends.min_by_key(|(at, _)| *at).unwrap_or((step, Halt::Time));
            let stop = &mut *self.stop;
            let more = async {
                if stop.wait_for(|wish| *wish > heard).await.is_err() {
                    // Nobody is left who could wish anything.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = more => {}
                () = sleep_until(at) => return halt,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_limit_counts_and_a_wish_goes_before_all() {
        let (tell, mut stop) = watch::channel(None);
        let now = Instant::now();
        let mut patience = Patience::new(&mut stop, now + s(100), s(10));
        assert_eq!(patience.over(now + s(5)).await, Halt::Time);
        assert_eq!(patience.over(now + s(500)).await, Halt::JobTime);
        assert_eq!(patience.spent(), Some(Halt::JobTime));
        tell.send_replace(Some(Stop::Cancelled));
        assert_eq!((patience.spent(), patience.over(now).await), (Some(Halt::Cancelled), Halt::Cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn the_teardown_hears_no_cancel_and_ends_with_an_agent_that_can_wait_no_longer() {
        let (tell, mut stop) = watch::channel(Some(Stop::Cancelled));
        let now = Instant::now();
        let mut patience = Patience::new(&mut stop, now, s(10));
        patience.begin_teardown(now + s(600));
        assert_eq!((patience.spent(), patience.over(now + s(5)).await), (None, Halt::Time));
        tell.send_replace(Some(Stop::Leave));
        assert_eq!(patience.spent(), None);
        assert_eq!(patience.over(now + s(500)).await, Halt::Leave);
        assert_eq!(patience.spent(), Some(Halt::Leave));
        tell.send_replace(Some(Stop::ShutdownNow));
        assert_eq!(patience.spent(), Some(Halt::Shutdown));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stops_begins_no_step_and_waits_a_little_for_the_one_that_runs() {
        let (_tell, mut stop) = watch::channel(Some(Stop::Leave));
        let now = Instant::now();
        let mut patience = Patience::new(&mut stop, now + s(600), s(10));
        assert_eq!(patience.spent(), Some(Halt::Leave));
        assert_eq!(patience.over(now + s(5)).await, Halt::Time, "it may still end by itself");
        assert_eq!(patience.over(now + s(50)).await, Halt::Leave);
        assert_eq!(Instant::now(), now + s(10));
    }
}
