//! How long to wait before the next attempt: exponential with full jitter, so that a fleet whose server comes back
//! spreads over the whole interval. Pure: randomness comes in as a function.

use std::{sync::Arc, time::Duration};

/// Source of uniformly random 64-bit numbers.
pub type Entropy = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The operating system's randomness. Should it ever fail, the answer is a constant: jitter is no secret.
#[must_use]
pub fn system_entropy() -> Entropy {
    Arc::new(|| getrandom::u64().unwrap_or(u64::MAX / 2))
}

/// First and longest bound of the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

/// A series of delays. The n-th lies uniformly within `[0, min(cap, base * 2^n)]`.
pub struct Backoff {
    policy: BackoffPolicy,
    attempt: u32,
    entropy: Entropy,
}

impl Backoff {
    /// A fresh series.
    #[must_use]
    pub fn new(policy: BackoffPolicy, entropy: Entropy) -> Self {
        Self { policy, attempt: 0, entropy }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let bound = self.bound();
        self.attempt = self.attempt.saturating_add(1);
        self.within(bound)
    }

    /// Upper bound of the next delay.
    #[must_use]
    pub fn bound(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX);
        self.policy.base.saturating_mul(factor).min(self.policy.cap)
    }

    /// A delay within `[floor, 2 * floor]`: for causes that soon won't go away. Leaves the series as it is.
    #[must_use]
    pub fn slow(&self, floor: Duration) -> Duration {
        floor + self.within(floor)
    }

    /// Starts over: the last connection lived.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    fn within(&self, bound: Duration) -> Duration {
        // 53 bits: what an f64 holds exactly, so the factor is uniform in [0, 1].
        let unit = ((self.entropy)() >> 11) as f64 / ((1_u64 << 53) - 1) as f64;
        bound.mul_f64(unit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::{ProptestConfig, proptest};

    use super::*;

    fn splitmix(seed: u64) -> Entropy {
        let state = AtomicU64::new(seed);
        Arc::new(move || {
            let mut z = state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        #[test]
        fn every_delay_lies_between_zero_and_a_bound_that_doubles_up_to_the_cap(seed: u64) {
            let policy = BackoffPolicy::default();
            let mut backoff = Backoff::new(policy, splitmix(seed));
            for attempt in 0..80_u32 {
                let bound = Duration::from_secs(1_u64.checked_shl(attempt).unwrap_or(60).min(60));
                assert_eq!(backoff.bound(), bound);
                assert!(backoff.next_delay() <= bound);
            }
        }
    }

    #[test]
    fn the_jitter_is_full_delays_fill_the_whole_interval_evenly() {
        let mut buckets = [0_u32; 10];
        for seed in 0..10_000 {
            let mut backoff = Backoff::new(BackoffPolicy::default(), splitmix(seed * 7919));
            backoff.attempt = 10;
            let share = backoff.next_delay().as_secs_f64() / 60.0;
            buckets[((share * 10.0) as usize).min(9)] += 1;
        }
        assert!(buckets.iter().all(|&n| (800..1200).contains(&n)), "{buckets:?}");
    }

    #[test]
    fn both_ends_of_the_interval_can_be_drawn() {
        let mut least = Backoff::new(BackoffPolicy::default(), Arc::new(|| 0));
        let mut most = Backoff::new(BackoffPolicy::default(), Arc::new(|| u64::MAX));
        assert_eq!(least.next_delay(), Duration::ZERO);
        assert_eq!(most.next_delay(), Duration::from_secs(1));
        assert_eq!(most.next_delay(), Duration::from_secs(2));
        most.reset();
        assert_eq!(most.next_delay(), Duration::from_secs(1));
    }
}
