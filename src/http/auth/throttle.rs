//! Slows guessing down: after a few failures each further attempt of the same account or address must wait twice as long. Bounded in memory;
//! measured by the monotonic clock, which a changed date does not move.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::credential::{self, TokenHash};

/// The throttles of the web.
pub struct Throttles {
    /// Log-ins by account name, known or not.
    pub accounts: Throttle<TokenHash>,
    /// Log-ins and setup by address.
    pub addresses: Throttle<IpAddr>,
    /// Enrolments by address.
    pub enrolments: Throttle<IpAddr>,
}

impl Default for Throttles {
    fn default() -> Self {
        Self {
            // Short at most: a stranger must not be able to lock an account's owner out for long.
            accounts: Throttle::new(5, Duration::from_secs(60)),
            addresses: Throttle::new(20, Duration::from_secs(900)),
            // A whole rack may stand behind one address; a token has 256 bits, so this only spares the log and the disk.
            enrolments: Throttle::new(100, Duration::from_secs(60)),
        }
    }
}

/// An account's name as a key of fixed size, whatever someone typed.
#[must_use]
pub fn account_key(name: &str) -> TokenHash {
    credential::hash(&name.trim().to_lowercase())
}

/// An address as a key: IPv6 by its /64, which is one customer's.
#[must_use]
pub fn address_key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Failures by key.
pub struct Throttle<K> {
    free: u32,
    longest: Duration,
    failures: Mutex<HashMap<K, Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    open_at: Instant,
    last: Instant,
}

/// Keys that are remembered at most.
const CAPACITY: usize = 10_000;
/// How long a failure is remembered after the last one.
const FORGOTTEN: Duration = Duration::from_secs(3600);

impl<K: Hash + Eq + Copy> Throttle<K> {
    /// `free` failures cost nothing; then one second, doubling up to `longest`.
    #[must_use]
    pub fn new(free: u32, longest: Duration) -> Self {
        Self { free, longest, failures: Mutex::default() }
    }

    /// Whether an attempt may be made now. It counts as a failure until [`Throttle::succeeded`]: attempts side by side must not share one count.
    ///
    /// # Errors
    /// How long to wait.
    pub fn attempt(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= CAPACITY && !failures.contains_key(&key) {
            make_room(&mut failures, now);
        }
        let entry = failures.entry(key).or_insert(Failures { count: 0, open_at: now, last: now });
        if now.saturating_duration_since(entry.last) > FORGOTTEN {
            entry.count = 0;
        }
        if entry.open_at > now {
            return Err(entry.open_at - now);
        }
        entry.count = entry.count.saturating_add(1);
        entry.last = now;
        if let Some(over) = entry.count.checked_sub(self.free + 1) {
            let wait = Duration::from_secs(1_u64.checked_shl(over).unwrap_or(u64::MAX)).min(self.longest);
            entry.open_at = now + wait;
        }
        Ok(())
    }

    /// Forgets the failures of a key that has proved itself.
    pub fn succeeded(&self, key: K) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.failures.lock().unwrap().len()
    }
}

/// Drops what is forgotten anyway, else the older half: those who have to wait now are the youngest.
fn make_room<K: Hash + Eq + Copy>(failures: &mut HashMap<K, Failures>, now: Instant) {
    failures.retain(|_, entry| now.saturating_duration_since(entry.last) <= FORGOTTEN);
    if failures.len() < CAPACITY {
        return;
    }
    let mut ages: Vec<Instant> = failures.values().map(|entry| entry.last).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    failures.retain(|_, entry| entry.last > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_free_failures_the_wait_doubles_up_to_the_longest() {
        let throttle = Throttle::new(2, Duration::from_secs(3));
        let mut now = Instant::now();
        throttle.attempt(1, now).unwrap();
        throttle.attempt(1, now).unwrap();
        for wait in [1, 2, 3, 3] {
            throttle.attempt(1, now).unwrap();
            assert_eq!(throttle.attempt(1, now), Err(Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
        throttle.attempt(2, now).unwrap();
    }

    #[test]
    fn a_success_and_an_hour_clear_the_account() {
        let throttle = Throttle::new(0, Duration::from_secs(60));
        let now = Instant::now();
        throttle.attempt(1, now).unwrap();
        assert!(throttle.attempt(1, now).is_err());
        throttle.succeeded(1);
        throttle.attempt(1, now).unwrap();
        for _ in 0..3 {
            throttle.attempt(1, now + FORGOTTEN * 2).unwrap_or_default();
        }
        assert_eq!(throttle.attempt(1, now + FORGOTTEN * 2), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_spares_the_latest() {
        let throttle = Throttle::new(0, Duration::from_secs(60));
        let start = Instant::now();
        for n in 0..25_000_u32 {
            throttle.attempt(n, start + Duration::from_micros(u64::from(n))).unwrap();
        }
        assert!(throttle.remembered() <= CAPACITY);
        assert!(throttle.attempt(24_999, start + Duration::from_micros(25_000)).is_err());
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_key() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:2"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:1.2.3.4"), key("1.2.3.4"));
    }
}
