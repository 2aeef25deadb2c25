//! The door for agents: how many are looked up and welcomed at the same time. A fleet that comes back at once waits here in the order of its arrival, not
//! in front of the database, so that people are served meanwhile. No place is held while an agent is waited for: a slow one holds up nobody.
//!
//! Identification and welcome have places of their own: whoever was let in is welcomed before many others are let in.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// Agents that are identified, and that are welcomed, at the same time. Together one less than the store's readers: one is always left for people.
const IDENTIFIED: usize = 1;
const WELCOMED: usize = 2;
/// Errands of running jobs that are dealt with at the same time: each may hold a body of many megabytes.
const ERRANDS: usize = 2;
/// Agents that may wait at each of the doors. More would only be given up by their own side before their turn.
const WAITING: usize = 8192;
/// How long one waits: less than an agent waits for its answer, which is 15 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// There are too many at once, or it took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

/// All doors.
pub(super) struct Admission {
    pub(super) identify: Door,
    pub(super) welcome: Door,
    pub(super) errands: Door,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            identify: Door::new(IDENTIFIED, WAITING, PATIENCE),
            welcome: Door::new(WELCOMED, WAITING, PATIENCE),
            errands: Door::new(ERRANDS, WAITING, PATIENCE),
        }
    }
}

/// A few places, and a queue of bounded length before them.
pub(super) struct Door {
    places: Semaphore,
    waiting: AtomicUsize,
    bound: usize,
    patience: Duration,
}

impl Door {
    fn new(places: usize, bound: usize, patience: Duration) -> Self {
        Self { places: Semaphore::new(places), waiting: AtomicUsize::new(0), bound, patience }
    }

    /// Waits for a place, in the order of arrival; it is held until the permit is dropped.
    ///
    /// # Errors
    /// [`Overloaded`] at once where too many wait already, or after its patience.
    pub(super) async fn enter(&self) -> Result<SemaphorePermit<'_>, Overloaded> {
        let _queued = Queued::join(&self.waiting, self.bound)?;
        match timeout(self.patience, self.places.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Overloaded),
        }
    }
}

/// One who waits; gone from the count when dropped, however it ends.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn join(waiting: &'a AtomicUsize, bound: usize) -> Result<Self, Overloaded> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let queued = Self(waiting);
        if before >= bound { Err(Overloaded) } else { Ok(queued) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_who_waits_too_long_is_sent_away_and_counts_no_longer() {
        let door = Door::new(1, 10, SOON);
        let place = door.enter().await.unwrap();
        assert_eq!(door.enter().await.err(), Some(Overloaded));
        assert_eq!(door.waiting.load(Ordering::Relaxed), 0);
        drop(place);
        assert!(door.enter().await.is_ok());
    }

    #[tokio::test]
    async fn past_the_bound_one_is_sent_away_at_once() {
        let door = Door::new(1, 1, SOON);
        let _place = door.enter().await.unwrap();
        // Whichever is first waits; the other is told before that one's patience is at its end.
        let (waits, refused) = (door.enter(), async { door.enter().await });
        tokio::pin!(waits);
        tokio::select! {
            biased;
            _ = &mut waits => panic!("there is no place"),
            answer = refused => assert_eq!(answer.err(), Some(Overloaded)),
        }
        assert_eq!(waits.await.err(), Some(Overloaded));
        assert_eq!(door.waiting.load(Ordering::Relaxed), 0);
    }
}
