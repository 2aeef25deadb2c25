//! Locks: who holds them, which may go, and taking those away. restic removes what is older than half an hour and what a dead process of this host left, or
//! all; it can't remove a single one. So what each way would remove is worked out first.

use std::time::Duration;

use flotilla_proto::{HeldBack, JobStatus, LockRecord, LocksResult, Operation, Record, Timestamp, UnlockResult};

use super::{Broke, Desk, ended, short};
use crate::{
    host_facts, platform,
    restic::locks::{self, ABANDONED, Lock},
    sink::JobOutcome,
};

/// Locks that are looked at; each takes restic a second or so.
const MOST: usize = 100;

pub(super) async fn list(desk: &mut Desk<'_>) -> Result<JobOutcome, Broke> {
    let locks = all(desk).await?;
    for lock in &locks {
        let here = lock.hostname == host_facts::hostname();
        desk.tell(Record::Lock(LockRecord {
            id: lock.id.clone(),
            time: Some(lock.time),
            exclusive: lock.exclusive,
            hostname: lock.hostname.clone(),
            username: lock.username.clone(),
            pid: lock.pid,
            alive: here.then(|| platform::process_exists(lock.pid)),
        }));
    }
    desk.sink.say(&format!("{} locks", locks.len()));
    Ok(ended(JobStatus::Succeeded, None, LocksResult { count: locks.len() as u64 }))
}

async fn all(desk: &mut Desk<'_>) -> Result<Vec<Lock>, Broke> {
    let deadline = desk.deadline;
    tokio::select! {
        locks = locks::list(desk.session, MOST, deadline, desk.sink) => locks.map_err(Broke::words),
        wish = desk.stop.wait_for(Option::is_some) => {
            Err(wish.ok().and_then(|wish| *wish).map_or_else(|| Broke::words("the agent stops"), Broke::Stopped))
        }
    }
}

/// What may be done about one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// restic's plain `unlock` removes it, for this reason.
    Goes(String),
    /// It may go, for this reason, and a plain `unlock` would leave it.
    MayGo(String),
    /// It stays, for this reason.
    Stays(String),
}

/// What is known about the locks' owners.
struct Known<'a> {
    proven_dead: &'a [String],
    now: Timestamp,
    hostname: &'a str,
    exists: fn(u32) -> bool,
}

impl Known<'_> {
    fn fate(&self, lock: &Lock) -> Fate {
        let age = Duration::from_millis(u64::try_from(self.now.ms_since(lock.time)).unwrap_or_default());
        let minutes = age.as_secs() / 60;
        let Lock { pid, hostname, .. } = lock;
        if lock.hostname == self.hostname && !(self.exists)(lock.pid) {
            return Fate::Goes(format!("process {pid} of this host ({hostname}), which held it, is gone"));
        }
        if age >= ABANDONED + Duration::from_secs(90) {
            return Fate::Goes(format!(
                "it was last refreshed {minutes} minutes ago; restic does so every 5 minutes, and takes it for abandoned after 30"
            ));
        }
        if lock.hostname == self.hostname {
            return Fate::Stays(format!(
                "process {pid} of this host ({hostname}) holds it and lives; wait, or cancel its job"
            ));
        }
        if self.proven_dead.contains(&lock.id) {
            return Fate::MayGo(format!("the agent of {hostname} found that process {pid}, which held it, is gone"));
        }
        Fate::Stays(format!(
            "process {pid} of {hostname} refreshed it {minutes} minutes ago, and nobody has proven that it is dead; wait, or look at that host"
        ))
    }
}

pub(super) async fn unlock(desk: &mut Desk<'_>) -> Result<JobOutcome, Broke> {
    let proven_dead = match &desk.order.operation {
        Some(Operation::Unlock(spec)) => spec.proven_dead.clone(),
        _ => Vec::new(),
    };
    let before = all(desk).await?;
    let hostname = host_facts::hostname();
    let known =
        Known { proven_dead: &proven_dead, now: desk.now, hostname: &hostname, exists: platform::process_exists };
    let fates: Vec<(Lock, Fate)> = before.into_iter().map(|lock| (lock.clone(), known.fate(&lock))).collect();
    let all_go = fates.iter().all(|(_, fate)| !matches!(fate, Fate::Stays(_)));
    let needs_more = fates.iter().any(|(_, fate)| matches!(fate, Fate::MayGo(_)));
    if fates.iter().any(|(_, fate)| matches!(fate, Fate::Goes(_))) || (all_go && needs_more) {
        let launch = if all_go && needs_more { desk.session.unlock_all() } else { desk.session.unlock() };
        desk.hear(&launch).await?.good()?;
    }
    let left: Vec<String> = all(desk).await?.into_iter().map(|lock| lock.id).collect();
    let mut result = UnlockResult::default();
    for (lock, fate) in fates {
        let is_left = left.contains(&lock.id);
        let (list, reason) = match fate {
            Fate::Goes(reason) | Fate::MayGo(reason) if !is_left => (&mut result.removed, reason),
            Fate::Goes(reason) => {
                (&mut result.kept, format!("{reason}; yet restic did not remove it, look at the log"))
            }
            Fate::MayGo(reason) => (
                &mut result.kept,
                format!(
                    "{reason}; but restic can't remove it without others that must stay. It goes by an unlock half an hour after its last refresh"
                ),
            ),
            // Its owner gave it back, or refreshed it, meanwhile.
            Fate::Stays(_) if !is_left => continue,
            Fate::Stays(reason) => (&mut result.kept, reason),
        };
        list.push(HeldBack { snapshot: lock.id, reason });
    }
    for (word, list) in [("was removed", &result.removed), ("stays", &result.kept)] {
        for lock in list {
            desk.sink.say(&format!("lock {} {word}: {}", short(&lock.snapshot), lock.reason));
        }
    }
    let (status, error) = match (result.removed.len(), result.kept.first()) {
        (_, None) => (JobStatus::Succeeded, None),
        (0, Some(kept)) => (
            JobStatus::Failed,
            Some(format!("no lock was removed: lock {} stays: {}", short(&kept.snapshot), kept.reason)),
        ),
        (_, Some(kept)) => (
            JobStatus::Warning,
            Some(format!("not all locks were removed: lock {} stays: {}", short(&kept.snapshot), kept.reason)),
        ),
    };
    Ok(ended(status, error, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn fate(hostname: &str, pid: u32, minutes: i64, proven_dead: &[&str]) -> Fate {
        let proven_dead: Vec<String> = proven_dead.iter().map(|&id| id.to_owned()).collect();
        let now = Timestamp::from_unix_ms(NOW);
        let lock = Lock {
            id: "ab".to_owned(),
            time: Timestamp::from_unix_ms(NOW - minutes * 60_000),
            hostname: hostname.to_owned(),
            pid,
            ..Lock::default()
        };
        Known { proven_dead: &proven_dead, now, hostname: "here", exists: |pid| pid == 30 }.fate(&lock)
    }

    #[test]
    fn a_lock_goes_where_its_owner_is_dead_here_or_it_is_abandoned() {
        assert!(matches!(fate("here", 10, 1, &[]), Fate::Goes(_)));
        assert!(matches!(fate("there", 10, 31, &[]), Fate::Goes(_)));
        assert!(matches!(fate("here", 30, 31, &[]), Fate::Goes(_)), "restic itself would remove it");
    }

    #[test]
    fn a_living_one_stays_and_a_strangers_needs_a_proof() {
        let Fate::Stays(reason) = fate("here", 30, 1, &["ab"]) else { panic!("it lives") };
        assert!(reason.contains("process 30 of this host (here) holds it and lives"), "{reason}");
        assert!(matches!(fate("there", 10, 29, &["cd"]), Fate::Stays(_)));
        assert!(matches!(fate("there", 10, 29, &["ab"]), Fate::MayGo(_)));
    }
}
