//! Whose lock may go. A live one never does; a proof is the word of the agent on the owner's own host, and is good for ten minutes, because a number of a
//! process may be given out again. Past that, restic's own rule: an owner that lives refreshes its lock every five minutes, so that one of half an hour
//! belongs to nobody.

use crate::domain::{HostId, RepoId, Timestamp};

/// Seconds that a proof is good for.
pub const PROOF_S: i64 = 600;
/// Seconds without a refresh after which a lock counts as stale: half an hour, as restic has it, and something for clocks that differ.
pub const STALE_S: i64 = 1890;

/// A lock as last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenLock {
    /// In which repository.
    pub repo_id: RepoId,
    /// Full id.
    pub id: String,
    /// When it was last refreshed, by its owner's clock.
    pub time: Option<Timestamp>,
    /// Nobody else may work beside it.
    pub exclusive: bool,
    /// Its owner's host, by that host's own name.
    pub hostname: String,
    /// Its owner's user.
    pub username: String,
    /// Its owner's process.
    pub pid: u32,
    /// The one enrolled host of that name.
    pub host: Option<(HostId, String)>,
    /// Whether the process lives, and since when that is known, by that host's own agent.
    pub alive: Option<(bool, Timestamp)>,
    /// When it was last seen.
    pub seen_at: Timestamp,
}

/// What is known of a lock's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its own host's agent says that the process is gone.
    Dead {
        /// When it said so.
        known_at: Timestamp,
    },
    /// It was not refreshed for longer than restic's rule allows.
    Stale {
        /// Seconds since the last refresh.
        age_s: i64,
    },
    /// Its own host's agent says that the process lives.
    Live {
        /// When it said so.
        known_at: Timestamp,
    },
    /// It is fresh, and nobody can tell.
    Unknown,
}

impl Standing {
    /// Whether the lock may be removed.
    #[must_use]
    pub fn may_go(self) -> bool {
        matches!(self, Self::Dead { .. } | Self::Stale { .. })
    }
}

impl SeenLock {
    /// Seconds since its owner last refreshed it; 0 where its clock is ahead.
    #[must_use]
    pub fn age_s(&self, now: Timestamp) -> Option<i64> {
        self.time.map(|time| (now.ms_since(time) / 1000).max(0))
    }

    /// What is known of its owner at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let fresh = self.alive.filter(|(_, at)| now.ms_since(*at) <= PROOF_S * 1000);
        match (fresh, self.age_s(now)) {
            (Some((false, known_at)), _) => Standing::Dead { known_at },
            // Longer ago than its refresh is due: the number may be another process's by now, and restic counts it as stale.
            (_, Some(age_s)) if age_s > STALE_S => Standing::Stale { age_s },
            (Some((true, known_at)), _) => Standing::Live { known_at },
            (None, _) => Standing::Unknown,
        }
    }

    /// Who holds it: `process 4711 of root on db-1`.
    #[must_use]
    pub fn owner(&self) -> String {
        let host = self.host.as_ref().map_or(self.hostname.as_str(), |(_, name)| name);
        let user = if self.username.is_empty() { String::new() } else { format!(" of {}", self.username) };
        format!("process {}{user} on {host}", self.pid)
    }

    /// Why it stays; `None` where it may go.
    #[must_use]
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        match self.standing(now) {
            Standing::Dead { .. } | Standing::Stale { .. } => None,
            Standing::Live { .. } => {
                Some(format!("{} lives and works in the repository: wait for its end, or cancel its job", self.owner()))
            }
            Standing::Unknown if self.host.is_some() => Some(format!(
                "whether {} lives was not asked within the last ten minutes: look again first",
                self.owner()
            )),
            Standing::Unknown => Some(format!(
                "no host that is enrolled here calls itself {} alone, so nobody can tell whether {} lives: it may go half an hour after its last refresh",
                self.hostname,
                self.owner()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_unix_ms(1_795_248_000_000)
    }

    fn lock(age_s: i64, alive: Option<(bool, i64)>) -> SeenLock {
        SeenLock {
            repo_id: RepoId::from_parts(1, 1),
            id: "a".repeat(64),
            time: Some(now().plus_s(-age_s)),
            exclusive: false,
            hostname: "db-1".to_owned(),
            username: "root".to_owned(),
            pid: 4711,
            host: Some((HostId::from_parts(1, 1), "db-1".to_owned())),
            alive: alive.map(|(alive, ago)| (alive, now().plus_s(-ago))),
            seen_at: now(),
        }
    }

    #[test]
    fn a_lock_may_go_when_its_own_host_says_that_the_owner_is_dead() {
        let dead = lock(60, Some((false, 60)));
        assert_eq!(dead.standing(now()), Standing::Dead { known_at: now().plus_s(-60) });
        assert_eq!(dead.refusal(now()), None);
    }

    #[test]
    fn a_proof_of_more_than_ten_minutes_ago_is_none() {
        let old = lock(700, Some((false, 601)));
        assert_eq!(old.standing(now()), Standing::Unknown);
        assert!(old.refusal(now()).unwrap().contains("look again"));
    }

    #[test]
    fn a_live_owner_keeps_its_lock_as_long_as_it_refreshes_it() {
        let live = lock(240, Some((true, 5)));
        assert!(live.refusal(now()).unwrap().contains("process 4711 of root on db-1 lives"));
        assert_eq!(lock(1891, Some((true, 5))).standing(now()), Standing::Stale { age_s: 1891 });
    }

    #[test]
    fn an_unknown_owner_keeps_its_lock_for_half_an_hour() {
        let mut stranger = lock(1890, None);
        stranger.host = None;
        assert!(stranger.refusal(now()).unwrap().contains("no host that is enrolled"));
        assert!(lock(1891, None).standing(now()).may_go());
        let mut ahead = lock(-7200, None);
        assert_eq!(ahead.standing(now()), Standing::Unknown, "a clock that is ahead makes no lock old");
        ahead.time = None;
        assert_eq!(ahead.standing(now()), Standing::Unknown);
    }
}
