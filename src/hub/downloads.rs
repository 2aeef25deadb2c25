//! Where a download meets the browser that waits for it. The agent's request puts pieces in, the browser's answer takes them out; nothing is kept but the few
//! pieces between them, so each side is as fast as the slower one. One of each side at a time, and a download is whole only if its sender said so.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::domain::JobId;

/// Downloads that may be open at the same time; one more is refused.
pub const OPEN: usize = 32;
/// Pieces between the two sides; where so many wait, the sender does too.
const PIECES: usize = 8;

/// All that are open. Clones share them.
#[derive(Clone, Default)]
pub struct Downloads(Arc<Mutex<HashMap<JobId, Meeting>>>);

/// One download: who is here of the two sides.
#[derive(Default)]
struct Meeting {
    claimed: bool,
    offered: bool,
    /// The browser's end, until it is taken.
    incoming: Option<Incoming>,
    came: Arc<Notify>,
    taken: Arc<Notify>,
}

/// Why somebody may not take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// Somebody else has this side of the download.
    #[error("somebody else has it")]
    Taken,
    /// Too many are open.
    #[error("{OPEN} downloads are open already, which is the limit")]
    Full,
}

/// The other side went away before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side of the download went away before its end")]
pub struct Broken;

impl Downloads {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Meeting>> {
        // Each critical section is a few assignments: a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lock().len() >= OPEN
    }

    /// Takes the browser's side, for as long as the claim lives.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn claim(&self, job: JobId) -> Result<Claim, NoPlace> {
        let mut open = self.lock();
        let full = open.len() >= OPEN;
        if full && !open.contains_key(&job) {
            return Err(NoPlace::Full);
        }
        let meeting = open.entry(job).or_default();
        if meeting.claimed {
            return Err(NoPlace::Taken);
        }
        meeting.claimed = true;
        Ok(Claim { downloads: self.clone(), job, came: meeting.came.clone() })
    }

    /// Takes the agent's side, for as long as the offer lives.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn offer(&self, job: JobId) -> Result<Offer, NoPlace> {
        let mut open = self.lock();
        let full = open.len() >= OPEN;
        if full && !open.contains_key(&job) {
            return Err(NoPlace::Full);
        }
        let meeting = open.entry(job).or_default();
        if meeting.offered {
            return Err(NoPlace::Taken);
        }
        let (pieces, receiver) = mpsc::channel(PIECES);
        let (said, delivered) = oneshot::channel();
        let whole = Arc::new(AtomicBool::new(false));
        meeting.offered = true;
        meeting.incoming = Some(Incoming { pieces: receiver, whole: whole.clone(), delivered: Some(said) });
        meeting.came.notify_one();
        let taken = meeting.taken.clone();
        Ok(Offer { downloads: self.clone(), job, pieces: Some(pieces), whole, delivered, taken })
    }

    fn leave(&self, job: JobId, leave: impl FnOnce(&mut Meeting)) {
        let mut open = self.lock();
        if let Some(meeting) = open.get_mut(&job) {
            leave(meeting);
            if !meeting.claimed && !meeting.offered {
                open.remove(&job);
            }
        }
    }
}

/// The browser's side.
pub struct Claim {
    downloads: Downloads,
    job: JobId,
    came: Arc<Notify>,
}

impl Claim {
    /// Waits for the agent. Cancel-safe.
    pub async fn ready(&self) -> Incoming {
        loop {
            if let Some(meeting) = self.downloads.lock().get_mut(&self.job)
                && let Some(incoming) = meeting.incoming.take()
            {
                meeting.taken.notify_one();
                return incoming;
            }
            // A wake-up that comes while nobody waits is kept.
            self.came.notified().await;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.downloads.leave(self.job, |meeting| meeting.claimed = false);
    }
}

/// The browser's end of the bytes. Dropping it tells the agent's side that nobody wants more.
pub struct Incoming {
    pieces: mpsc::Receiver<Bytes>,
    whole: Arc<AtomicBool>,
    delivered: Option<oneshot::Sender<()>>,
}

impl Incoming {
    /// The next piece; `None` at the end of a download that is whole.
    ///
    /// # Errors
    /// [`Broken`] where the agent's side ended without a word, once; then `None`.
    pub async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        if let Some(piece) = self.pieces.recv().await {
            return Some(Ok(piece));
        }
        let delivered = self.delivered.take()?;
        if !self.whole.load(Ordering::Acquire) {
            return Some(Err(Broken));
        }
        // The agent's side may be gone by now; that changes nothing for the browser.
        delivered.send(()).ok();
        None
    }
}

/// The agent's side.
pub struct Offer {
    downloads: Downloads,
    job: JobId,
    pieces: Option<mpsc::Sender<Bytes>>,
    whole: Arc<AtomicBool>,
    delivered: oneshot::Receiver<()>,
    taken: Arc<Notify>,
}

impl Offer {
    /// Waits until a browser is there.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }

    /// Waits until the browser is gone.
    pub async fn left(&self) {
        if let Some(pieces) = &self.pieces {
            pieces.closed().await;
        }
    }

    /// Hands a piece on, and waits where the browser is slower.
    ///
    /// # Errors
    /// [`Broken`] where it went away.
    pub async fn send(&self, piece: Bytes) -> Result<(), Broken> {
        let pieces = self.pieces.as_ref().ok_or(Broken)?;
        pieces.send(piece).await.map_err(|_| Broken)
    }

    /// That was all. Waits until the browser has it.
    ///
    /// # Errors
    /// [`Broken`] where it went away before.
    pub async fn finish(&mut self) -> Result<(), Broken> {
        self.whole.store(true, Ordering::Release);
        self.pieces = None;
        (&mut self.delivered).await.map_err(|_| Broken)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.downloads.leave(self.job, |meeting| {
            meeting.offered = false;
            meeting.incoming = None;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn job(n: u128) -> JobId {
        JobId::from_parts(1, n)
    }

    fn piece(n: u8) -> Bytes {
        Bytes::from(vec![n; 3])
    }

    #[tokio::test]
    async fn whoever_comes_first_waits_and_all_pieces_arrive_in_order() {
        for browser_first in [true, false] {
            let downloads = Downloads::default();
            let send = async {
                let mut offer = downloads.offer(job(1)).unwrap();
                offer.taken().await;
                for n in 0..50 {
                    offer.send(piece(n)).await.unwrap();
                }
                offer.finish().await
            };
            let fetch = async {
                let claim = downloads.claim(job(1)).unwrap();
                let mut incoming = claim.ready().await;
                for n in 0..50 {
                    assert_eq!(incoming.next().await.unwrap().unwrap(), piece(n));
                }
                incoming.next().await.is_none()
            };
            let (sent, whole) = if browser_first {
                let (whole, sent) = tokio::join!(fetch, send);
                (sent, whole)
            } else {
                tokio::join!(send, fetch)
            };
            assert_eq!((sent, whole), (Ok(()), true));
            assert!(downloads.lock().is_empty(), "nothing stays behind");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_is_no_faster_than_its_browser() {
        let downloads = Downloads::default();
        let offer = downloads.offer(job(1)).unwrap();
        let claim = downloads.claim(job(1)).unwrap();
        let mut incoming = claim.ready().await;
        for n in 0..PIECES {
            offer.send(piece(u8::try_from(n).unwrap())).await.unwrap();
        }
        assert!(timeout(Duration::from_secs(60), offer.send(piece(99))).await.is_err());
        incoming.next().await.unwrap().unwrap();
        assert_eq!(offer.send(piece(99)).await, Ok(()));
    }

    #[tokio::test]
    async fn an_agent_that_goes_away_breaks_the_download_instead_of_ending_it() {
        let downloads = Downloads::default();
        let offer = downloads.offer(job(1)).unwrap();
        let claim = downloads.claim(job(1)).unwrap();
        let mut incoming = claim.ready().await;
        offer.send(piece(1)).await.unwrap();
        drop(offer);
        assert!(incoming.next().await.unwrap().is_ok());
        assert_eq!(incoming.next().await, Some(Err(Broken)));
        assert_eq!(incoming.next().await, None);
    }

    #[tokio::test]
    async fn a_browser_that_goes_away_is_noticed_in_the_middle_and_at_the_end() {
        let downloads = Downloads::default();
        let mut offer = downloads.offer(job(1)).unwrap();
        let claim = downloads.claim(job(1)).unwrap();
        drop(claim.ready().await);
        offer.left().await;
        assert_eq!(offer.send(piece(1)).await, Err(Broken));
        assert_eq!(offer.finish().await, Err(Broken));
    }

    #[tokio::test]
    async fn a_second_browser_is_refused_and_may_come_once_the_first_is_gone() {
        let downloads = Downloads::default();
        let first = downloads.claim(job(1)).unwrap();
        assert_eq!(downloads.claim(job(1)).err(), Some(NoPlace::Taken));
        drop(first);
        assert!(downloads.claim(job(1)).is_ok());
    }

    #[tokio::test]
    async fn there_is_a_bound_that_those_who_meet_do_not_feel() {
        let downloads = Downloads::default();
        let claims: Vec<Claim> = (0..OPEN).map(|n| downloads.claim(job(n as u128)).unwrap()).collect();
        assert_eq!(downloads.claim(job(999)).err(), Some(NoPlace::Full));
        assert_eq!(downloads.offer(job(999)).err(), Some(NoPlace::Full));
        assert!(downloads.offer(job(0)).is_ok());
        assert_eq!(claims.len(), OPEN);
    }
}
