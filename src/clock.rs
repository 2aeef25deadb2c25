//! What time it is, as a parameter: the system's clock in production, one that tests set by hand otherwise.
//! Nothing else in the control plane asks the operating system for the date.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use crate::domain::Timestamp;

/// Tells the time. Handles are shared.
pub trait Clock: Send + Sync + 'static {
    /// Now, as far as this clock knows. May jump either way: never subtract two readings to measure a duration that matters.
    fn now(&self) -> Timestamp;
}

/// A clock that many parts hold.
pub type SharedClock = Arc<dyn Clock>;

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one room where the system's clock is read")]
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(jiff::Timestamp::now().as_millisecond())
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Starts at `at`.
    #[must_use]
    pub fn at(at: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(at.unix_ms())))
    }

    /// Jumps to `at`, forwards or backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.unix_ms(), Ordering::SeqCst);
    }

    /// Moves by `seconds`.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.0.load(Ordering::SeqCst))
    }
}
