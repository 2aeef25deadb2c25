//! Follows a program that runs on its own: reads its files, watches for its end, stops it where its time is up or someone asks. Letting go of it
//! ([`Stop::Leave`], or the future dropped) leaves it as it is; another process of the agent follows it again.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Cause, Exit, Limits, Output, Run, Signals, Stop, StopSignal, Watcher, wished};
use crate::platform::Worker;

/// How following ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// The program ended.
    Ended(Exit),
    /// The program is gone and nobody knows with which code: it, and what noted its end, were killed from outside.
    Vanished,
    /// It goes on.
    Left,
}

/// How soon files are looked at again that had something new …
const QUICK: Duration = Duration::from_millis(50);
/// … and that had nothing for a while.
const SLOW: Duration = Duration::from_millis(250);

impl Signals for Worker {
    fn interrupt(&self) {
        Self::interrupt(self);
    }

    fn kill(&self) {
        Self::kill(self);
    }
}

enum Event {
    Ended,
    Stop(Option<Stop>),
    Timer,
    Look,
}

/// Stays until the program, and all that it started, is gone; or until it is to be left. `stopped`: an earlier process of the agent has begun to stop
/// it for this cause, which is done over.
pub(crate) async fn follow(
    worker: &mut Worker,
    output: &mut Output,
    limits: &Limits,
    stopped: Option<Cause>,
    stop: &mut StopSignal,
    watcher: &mut dyn Watcher,
) -> Followed {
    let mut run = Run::new(limits, Some(worker.pid()));
    if let Some(cause) = stopped {
        run.stop(cause, worker, watcher);
    }
    let mut pause = QUICK;
    let mut look_at = Instant::now();
    loop {
        let event = tokio::select! {
            () = worker.ended() => Event::Ended,
            wish = wished(stop, run.heard) => Event::Stop(wish),
            () = sleep_until(run.next_timer()) => Event::Timer,
            () = sleep_until(look_at) => Event::Look,
        };
        match event {
            Event::Ended => break,
            Event::Stop(Some(Stop::Leave)) => return Followed::Left,
            Event::Stop(wish) => run.obey(wish, worker, watcher),
            Event::Timer => run.on_timer(worker, watcher),
            Event::Look => {
                let look = output.look(watcher);
                let now = Instant::now();
                if look.moved {
                    run.moved_at = now;
                }
                pause = if look.any { QUICK } else { (pause + QUICK).min(SLOW) };
                look_at = if look.more { now } else { now + pause };
            }
        }
    }
    let code = worker.code().await;
    // Nothing outlives its job.
    worker.sweep();
    output.finish(watcher);
    match code {
        Some(code) => Followed::Ended(Exit { code, stopped: run.cause, killed: run.killed }),
        None if run.killed => Followed::Ended(Exit { code: -9, stopped: run.cause, killed: true }),
        None => Followed::Vanished,
    }
}
