//! The lock that a killed restic left: found by host and process, and removed only where that removes nothing of anybody else's. restic itself removes all
//! locks that it holds for abandoned, and it errs where two machines have one name; so what it would remove is worked out first.

use std::{collections::HashMap, fmt, time::Duration};

use flotilla_proto::Timestamp;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::{command::Session, preflight::answer, redact::Redacted};
use crate::{host_facts, platform};

/// One lock of the repository.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct Lock {
    #[serde(skip)]
    pub(crate) id: String,
    /// Of the last refresh: once in five minutes.
    pub(crate) time: Timestamp,
    #[serde(default)]
    pub(crate) exclusive: bool,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) pid: u32,
    /// Empty where restic could not find it out; then there is no number either.
    #[serde(default)]
    pub(crate) username: String,
    /// Left out by restic where it is 0.
    #[serde(default)]
    pub(crate) uid: u32,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, hostname, pid, .. } = self;
        write!(f, "{} of process {pid} on {hostname}", id.get(..8).unwrap_or(id))
    }
}

/// Dead processes of this agent, each with when it began at the earliest, as its locks would be dated.
pub(crate) type Dead = HashMap<u32, Timestamp>;

/// What to do about the locks of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    /// The process left none.
    Nothing,
    /// restic takes the dead process's away and no other that is not ours.
    Unlock,
    /// Removing it is not safe, for this reason.
    Keep(String),
}

/// More than this are not looked at: each takes restic a second or so.
const MOST: usize = 30;
/// From this age on restic takes a lock for abandoned whoever holds it, with a minute to spare.
pub(crate) const ABANDONED: Duration = Duration::from_secs(29 * 60);
/// How long that may take.
const COLLECTED: Duration = Duration::from_secs(3);
/// A lock may seem this much older than its process: clocks are put right by a little all the time.
const TOLERANCE_MS: i64 = 60_000;

/// Removes the lock that dead process `pid` left, and says in the log what was done.
pub(crate) async fn remove_own(
    session: &Session,
    pid: u32,
    dead: &Dead,
    now: Timestamp,
    patience: Duration,
    sink: &Redacted,
) {
    let deadline = Instant::now() + patience;
    let said = match attempt(session, pid, dead, now, deadline, sink).await {
        Ok(said) => said,
        Err(error) => format!("the lock that it may have left in the repository could not be looked after: {error}"),
    };
    sink.say(&said);
}

async fn attempt(
    session: &Session,
    pid: u32,
    dead: &Dead,
    now: Timestamp,
    deadline: Instant,
    sink: &Redacted,
) -> Result<String, String> {
    // A process just killed is there until its parent has collected it, and until then restic takes its lock for held.
    let collected = Instant::now() + COLLECTED;
    while platform::process_exists(pid) && Instant::now() < collected {
        sleep(Duration::from_millis(20)).await;
    }
    let locks = list(session, MOST, deadline, sink).await?;
    let host = Host { name: &host_facts::hostname(), user: platform::user_id(), exists: platform::process_exists };
    match plan(&locks, pid, dead, now, &host) {
        Plan::Nothing => Ok("it left no lock in the repository".to_owned()),
        Plan::Keep(reason) => Ok(format!("the lock that it left stays in the repository: {reason}")),
        Plan::Unlock => {
            answer(&session.unlock(), deadline, sink).await?;
            let own = |lock: &&Lock| lock.pid == pid && lock.hostname == host_facts::hostname();
            let left = list(session, MOST, deadline, sink).await?;
            Ok(match left.iter().find(own) {
                Some(lock) => {
                    format!("the lock that it left ({lock}) could not be removed: run an unlock in half an hour")
                }
                None => "the lock that it left in the repository was removed".to_owned(),
            })
        }
    }
}

/// By what a lock of this host's is known.
struct Host<'a> {
    name: &'a str,
    /// Whom the agent's restics belong to.
    user: Option<u32>,
    exists: fn(u32) -> bool,
}

impl Host<'_> {
    /// Whether a process of this host and of the agent's user may have made it.
    fn made(&self, lock: &Lock) -> bool {
        let user = lock.username.is_empty() || self.user.is_none_or(|user| user == lock.uid);
        lock.hostname == self.name && user
    }
}

/// What may be done about the lock of process `pid`, which is dead, on this host.
fn plan(locks: &[Lock], pid: u32, dead: &Dead, now: Timestamp, host: &Host<'_>) -> Plan {
    let Host { name: hostname, exists, .. } = host;
    let ours = |lock: &Lock| {
        let began = dead.get(&lock.pid).map(|began| began.unix_ms() - TOLERANCE_MS);
        host.made(lock) && began.is_some_and(|began| lock.time.unix_ms() >= began)
    };
    let of_pid = |lock: &&Lock| lock.pid == pid && host.made(lock);
    if !locks.iter().any(|lock| of_pid(&lock) && ours(lock)) {
        return locks.iter().find(of_pid).map_or(Plan::Nothing, |lock| {
            Plan::Keep(format!(
                "{lock} is dated before that process began, so it may be another machine's of the same name. If nothing uses the repository, run an unlock"
            ))
        });
    }
    if exists(pid) {
        return Plan::Keep(format!(
            "another process has the number {pid} by now, and restic takes it for the lock's owner. Run an unlock in half an hour"
        ));
    }
    let too_old =
        |lock: &Lock| u128::try_from(now.unix_ms() - lock.time.unix_ms()).is_ok_and(|age| age >= ABANDONED.as_millis());
    let goes = |lock: &&Lock| !ours(lock) && (too_old(lock) || (lock.hostname == *hostname && !exists(lock.pid)));
    match locks.iter().find(goes) {
        Some(other) => Plan::Keep(format!(
            "removing it would also remove lock {other}, which is not this agent's. If that process is dead, run an unlock"
        )),
        None => Plan::Unlock,
    }
}

/// The locks of the repository, at most `most` of them; the error is for people.
pub(crate) async fn list(
    session: &Session,
    most: usize,
    deadline: Instant,
    sink: &Redacted,
) -> Result<Vec<Lock>, String> {
    let text = answer(&session.list_locks(), deadline, sink).await?;
    let is_id = |line: &&str| line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ids: Vec<&str> = text.lines().map(str::trim).filter(is_id).collect();
    if ids.len() > most {
        return Err(format!("there are {} locks, more than are looked at. Run an unlock", ids.len()));
    }
    let mut locks = Vec::with_capacity(ids.len());
    for id in ids {
        // One that is gone by now, or that can't be read, is in nobody's way; restic does not remove what it can't read.
        let Ok(text) = answer(&session.cat_lock(id), deadline, sink).await else { continue };
        let json = text.find('{').map_or("", |at| &text[at..]);
        let lock: Lock = serde_json::from_str(json).map_err(|e| format!("lock {id} does not read as one: {e}"))?;
        locks.push(Lock { id: id.to_owned(), ..lock });
    }
    Ok(locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn lock(hostname: &str, pid: u32, age_s: i64) -> Lock {
        let time = Timestamp::from_unix_ms(NOW - age_s * 1000);
        let (id, username) = ("0123456789abcdef".to_owned(), "backup".to_owned());
        Lock { id, time, hostname: hostname.to_owned(), pid, username, uid: 7, exclusive: false }
    }

    /// Process 10 of this host is dead and began ten minutes ago; 20 is another dead one of this agent, an hour old. 30 lives, 40 is dead and a stranger's.
    fn plan_for(locks: &[Lock]) -> Plan {
        let began = |age_s: i64| Timestamp::from_unix_ms(NOW - age_s * 1000);
        let dead = HashMap::from([(10, began(600)), (20, began(3600))]);
        let host = Host { name: "here", user: Some(7), exists: |pid| pid == 30 };
        plan(locks, 10, &dead, Timestamp::from_unix_ms(NOW), &host)
    }

    #[test]
    fn our_dead_processs_lock_goes_beside_live_ones_and_those_of_other_hosts() {
        assert_eq!(plan_for(&[lock("here", 10, 60)]), Plan::Unlock);
        assert_eq!(plan_for(&[lock("here", 10, 60), lock("here", 30, 60), lock("there", 10, 60)]), Plan::Unlock);
        assert_eq!(plan_for(&[lock("here", 10, 60), lock("here", 20, 3500)]), Plan::Unlock, "both are this agent's");
    }

    #[test]
    fn no_lock_of_ours_means_nothing_to_do() {
        assert_eq!(plan_for(&[]), Plan::Nothing);
        assert_eq!(plan_for(&[lock("there", 10, 60), lock("here", 30, 60), lock("here", 40, 60)]), Plan::Nothing);
    }

    #[test]
    fn a_lock_of_another_user_or_from_before_the_process_is_not_ours() {
        let other = Lock { uid: 8, ..lock("here", 10, 60) };
        assert_eq!(plan_for(std::slice::from_ref(&other)), Plan::Nothing);
        let unnamed = Lock { uid: 0, username: String::new(), ..other };
        assert_eq!(plan_for(&[unnamed]), Plan::Unlock, "restic could not tell its user");
        let Plan::Keep(reason) = plan_for(&[lock("here", 10, 900)]) else { panic!("must stay") };
        assert!(reason.contains("dated before that process began"), "{reason}");
    }

    #[test]
    fn a_lock_stays_where_restic_would_remove_a_strangers_with_it() {
        for stranger in [lock("here", 40, 60), lock("there", 40, 30 * 60)] {
            let Plan::Keep(reason) = plan_for(&[lock("here", 10, 60), stranger]) else { panic!("must stay") };
            assert!(reason.contains("01234567 of process 40"), "{reason}");
        }
    }

    #[test]
    fn restics_own_words_for_a_lock_are_read() {
        let text = r#"{ "time": "2026-11-21T07:14:50.485750495+01:00", "exclusive": false, "hostname": "vm", "username": "root", "pid": 3412 }"#;
        let lock: Lock = serde_json::from_str(text).unwrap();
        assert_eq!((lock.hostname.as_str(), lock.pid, lock.time.unix_ms()), ("vm", 3412, 1_795_241_690_485));
    }
}
