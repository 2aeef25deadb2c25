//! A repository's lock, as restic has it: many jobs that share it, or one that has it alone. Which kind of job needs what is stated here and
//! nowhere else. An exclusive job that waits holds back those that come later, so that shared ones can't starve it.

use crate::domain::{JobKind, job::JobNo};

/// How a job uses its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Together with others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl Access {
    /// What a job of this kind needs. In a repository that is yet to be created everything is exclusive: see the store's list of open jobs.
    #[must_use]
    pub fn of(kind: &JobKind) -> Self {
        match kind {
            JobKind::Backup | JobKind::Snapshots | JobKind::Stats | JobKind::Restore | JobKind::Diff => Self::Shared,
            // Reads, without restic's lock or with a shared one. A tamper test works on objects of its own, which no restic looks at.
            JobKind::Ls | JobKind::Find | JobKind::Locks | JobKind::Dump | JobKind::Test | JobKind::Tamper => {
                Self::Shared
            }
            // The source is read. The second repository is written to as by a backup.
            JobKind::Copy => Self::Shared,
            // restic's `unlock` takes no lock and leaves live ones alone, and who orders it does not want to wait behind a backup that hangs. But not
            // beside an exclusive job: a lock of half an hour without a sign of life counts as stale, and one that deletes must not lose its own.
            JobKind::Unlock => Self::Shared,
            JobKind::Forget | JobKind::Prune | JobKind::Check | JobKind::Tag | JobKind::Repair => Self::Exclusive,
            // Two at once would each write keys and a configuration.
            JobKind::Init => Self::Exclusive,
            // What its steps do is not known here.
            JobKind::Runbook(_) => Self::Exclusive,
        }
    }
}

/// Who stands in a job's way at its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked<T> {
    /// This one has the repository.
    By(T),
    /// This one waits for the repository alone, and came earlier.
    Behind(T),
}

/// The lock of one repository. `T` names jobs.
#[derive(Debug, Clone)]
pub struct RepoLock<T> {
    alone: Option<T>,
    /// One of those that share it is enough to name.
    shared: Option<T>,
    /// The earliest exclusive job that waits for nothing but this lock.
    next_alone: Option<(JobNo, T)>,
}

impl<T> Default for RepoLock<T> {
    fn default() -> Self {
        Self { alone: None, shared: None, next_alone: None }
    }
}

impl<T: Copy> RepoLock<T> {
    /// Notes that `job` has it. What an agent runs already is a fact, whether or not the rule would have let it.
    pub fn hold(&mut self, job: T, access: Access) {
        match access {
            Access::Shared => self.shared = self.shared.or(Some(job)),
            Access::Exclusive => self.alone = self.alone.or(Some(job)),
        }
    }

    /// Notes that an exclusive job waits for it and for nothing else: later ones stay behind it.
    pub fn reserve(&mut self, no: JobNo, job: T) {
        if self.next_alone.is_none_or(|(earlier, _)| no < earlier) {
            self.next_alone = Some((no, job));
        }
    }

    /// Whether the job `no`, which waits, may start now.
    ///
    /// # Errors
    /// Who stands in its way.
    pub fn may_start(&self, no: JobNo, access: Access) -> Result<(), Blocked<T>> {
        if let Some(job) = self.alone {
            return Err(Blocked::By(job));
        }
        if let Some((earlier, job)) = self.next_alone
            && earlier < no
        {
            return Err(Blocked::Behind(job));
        }
        match (access, self.shared) {
            (Access::Exclusive, Some(job)) => Err(Blocked::By(job)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_share_go_together_and_one_that_does_not_goes_alone() {
        let mut lock = RepoLock::default();
        lock.hold('a', Access::Shared);
        assert_eq!(lock.may_start(JobNo(2), Access::Shared), Ok(()));
        assert_eq!(lock.may_start(JobNo(2), Access::Exclusive), Err(Blocked::By('a')));
        let mut lock = RepoLock::default();
        lock.hold('b', Access::Exclusive);
        for access in [Access::Shared, Access::Exclusive] {
            assert_eq!(lock.may_start(JobNo(2), access), Err(Blocked::By('b')));
        }
    }

    #[test]
    fn what_waits_alone_holds_back_what_came_later_and_not_what_came_before() {
        let mut lock = RepoLock::default();
        lock.hold('a', Access::Shared);
        lock.reserve(JobNo(7), 'y');
        lock.reserve(JobNo(5), 'x');
        assert_eq!(lock.may_start(JobNo(4), Access::Shared), Ok(()));
        for access in [Access::Shared, Access::Exclusive] {
            assert_eq!(lock.may_start(JobNo(7), access), Err(Blocked::Behind('x')));
        }
    }
}
