//! The queue: one pure function says of every open job whether it may start now, or what it waits for. The dispatcher acts on it and pages show it, so that
//! what is shown is what is decided. Jobs of a host go in order of arrival; hosts take turns. A job that one host's agent runs for another takes the other's places, line and turn.

mod waits;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

pub use waits::{Holder, WaitsFor};

use crate::domain::{
    HostId, JobId, PlanId, RepoId, Timestamp,
    job::JobNo,
    lock::{Access, Blocked, RepoLock},
};

/// Bounds on what runs at once and on how long jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueRules {
    /// Jobs that one host has at once; at least 1.
    pub per_host: u32,
    /// Jobs that all hosts have at once; at least 1.
    pub in_all: u32,
    /// Seconds after which a job that no agent took is given up.
    pub expiry_s: u64,
}

impl Default for QueueRules {
    fn default() -> Self {
        // 256: nightly backups of 10,000 hosts, five minutes each, are through in 3.3 hours; fewer would not fit into a night.
        Self { per_host: 2, in_all: 256, expiry_s: 24 * 3600 }
    }
}

/// How far an open job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the queue.
    Waiting,
    /// Sent to its host, which has not said that it has it.
    Sent(Timestamp),
    /// Its host has it, or runs it.
    Taken,
}

/// What the queue knows of a job that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenJob {
    /// Number: the order of arrival.
    pub no: JobNo,
    /// Identity.
    pub id: JobId,
    /// Whose agent runs it.
    pub host: HostId,
    /// The host that it is about, whose places it takes.
    pub seat: HostId,
    /// What it works on.
    pub repo: Option<RepoId>,
    /// The plan it follows.
    pub plan: Option<PlanId>,
    /// How it uses its repository.
    pub access: Access,
    /// The repository that it copies to, and how it uses that.
    pub second: Option<(RepoId, Access)>,
    /// A runbook beside which no other runs on the host that it is about.
    pub alone: bool,
    /// How far it is.
    pub stage: Stage,
    /// It is not to start: someone asked for it to stop, or its time in the queue is up.
    pub stopping: bool,
}

impl OpenJob {
    /// The repositories that it works on, and how it uses each.
    fn repositories(&self) -> impl Iterator<Item = (RepoId, Access)> + use<> {
        self.repo.map(|repo| (repo, self.access)).into_iter().chain(self.second)
    }
}

/// What stands between a job and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its host is not connected.
    Host,
    /// This job, which has its repository.
    Repository(JobId),
    /// This job, which came earlier and waits for the same repository alone.
    Turn(JobId),
    /// This job of the same plan on the same host.
    Plan(JobId),
    /// This runbook on the same host.
    Runbook(JobId),
    /// Its host has as many jobs as it may.
    HostPlaces,
    /// All hosts together have.
    AllPlaces,
}

/// Whose turn it is: the later a host was served, the higher its number. In memory only: a restart forgets whose turn it was and nothing else.
#[derive(Debug, Default)]
pub struct Turns {
    last: HashMap<HostId, u64>,
    count: u64,
}

impl Turns {
    /// Hosts that are remembered at most.
    const MOST: usize = 100_000;

    /// Notes that a job was given to `host`.
    pub fn served(&mut self, host: HostId) {
        if self.last.len() >= Self::MOST {
            self.last.clear();
        }
        self.count += 1;
        self.last.insert(host, self.count);
    }

    fn of(&self, host: HostId) -> u64 {
        self.last.get(&host).copied().unwrap_or(0)
    }
}

/// What was decided of the jobs that wait.
#[derive(Debug, Default)]
pub struct Decided {
    /// Those that may start now, in the order in which they were chosen; indices into the jobs that were given.
    pub starts: Vec<usize>,
    /// What the others wait for.
    pub waits: HashMap<JobId, Obstacle>,
}

/// Decides of all `open` jobs, which stand in order of arrival.
#[must_use]
pub fn decide(open: &[OpenJob], rules: QueueRules, turns: &Turns, connected: impl Fn(HostId) -> bool) -> Decided {
    let mut look = Look::of(open, rules);
    look.line_up(connected);
    look.choose(turns);
    look.decided
}

/// One look at the queue.
struct Look<'a> {
    open: &'a [OpenJob],
    rules: QueueRules,
    locks: HashMap<RepoId, RepoLock<JobId>>,
    /// Backups and copies of a plan by themselves: a copy to a slow place must not keep the next backup waiting.
    plans: HashMap<(HostId, PlanId, bool), JobId>,
    /// Runbooks that no other runs beside.
    runbooks: HashMap<HostId, JobId>,
    /// Places that are taken, or kept for an exclusive job that waits for its lock only.
    places: HashMap<HostId, u32>,
    all_places: u32,
    lines: HashMap<HostId, VecDeque<usize>>,
    decided: Decided,
}

impl<'a> Look<'a> {
    /// Notes what is held already.
    fn of(open: &'a [OpenJob], rules: QueueRules) -> Self {
        let mut look = Self {
            open,
            rules,
            locks: HashMap::new(),
            plans: HashMap::new(),
            runbooks: HashMap::new(),
            places: HashMap::new(),
            all_places: 0,
            lines: HashMap::new(),
            decided: Decided::default(),
        };
        for job in open.iter().filter(|job| job.stage != Stage::Waiting) {
            look.take(job);
            if job.alone {
                look.runbooks.entry(job.seat).or_insert(job.id);
            }
            if let Some(plan) = job.plan {
                look.plans.entry((job.host, plan, job.second.is_some())).or_insert(job.id);
            }
        }
        look
    }

    fn take(&mut self, job: &OpenJob) {
        for (repo, access) in job.repositories() {
            self.locks.entry(repo).or_default().hold(job.id, access);
        }
        self.keep_place(job.seat);
    }

    fn keep_place(&mut self, host: HostId) {
        *self.places.entry(host).or_default() += 1;
        self.all_places += 1;
    }

    fn taken(&self, host: HostId) -> u32 {
        self.places.get(&host).copied().unwrap_or(0)
    }

    /// Lines up by host what neither its host nor its plan keeps waiting, and reserves repositories for the exclusive jobs among them that have a
    /// place. One whose host is away, or full, holds nobody back: a fleet's backups must not wait a day for it.
    fn line_up(&mut self, connected: impl Fn(HostId) -> bool) {
        for (at, job) in self.open.iter().enumerate() {
            if job.stage != Stage::Waiting || job.stopping {
                continue;
            }
            if !connected(job.host) {
                self.decided.waits.insert(job.id, Obstacle::Host);
                continue;
            }
            if let Some(plan) = job.plan {
                let first = *self.plans.entry((job.host, plan, job.second.is_some())).or_insert(job.id);
                if first != job.id {
                    self.decided.waits.insert(job.id, Obstacle::Plan(first));
                    continue;
                }
            }
            if job.alone {
                let first = *self.runbooks.entry(job.seat).or_insert(job.id);
                if first != job.id {
                    self.decided.waits.insert(job.id, Obstacle::Runbook(first));
                    continue;
                }
            }
            let line = self.lines.entry(job.seat).or_default();
            let ahead = u32::try_from(line.len()).unwrap_or(u32::MAX);
            line.push_back(at);
            let has_place = self.taken(job.seat).saturating_add(ahead) < self.rules.per_host;
            let alone = job.repositories().filter(|(_, access)| has_place && *access == Access::Exclusive);
            for (repo, _) in alone {
                self.locks.entry(repo).or_default().reserve(job.no, job.id);
            }
        }
    }

    /// Gives places away: to the host that has the fewest, then to the one that was served least recently, then in order of arrival.
    fn choose(&mut self, turns: &Turns) {
        let mut lines = std::mem::take(&mut self.lines);
        let key = |look: &Self, host: HostId, first: usize| {
            Reverse((look.taken(host), turns.of(host), look.open[first].no, host))
        };
        let mut order: BinaryHeap<_> =
            lines.iter().filter_map(|(host, line)| Some(key(self, *host, *line.front()?))).collect();
        while let Some(Reverse((.., host))) = order.pop() {
            let Some(line) = lines.get_mut(&host) else { continue };
            let Some(at) = line.pop_front() else { continue };
            let job = &self.open[at];
            match self.obstacle(job) {
                None => {
                    self.take(job);
                    self.decided.starts.push(at);
                }
                Some(obstacle) => {
                    self.decided.waits.insert(job.id, obstacle);
                }
            }
            if let Some(next) = line.front() {
                order.push(key(self, host, *next));
            }
        }
    }

    fn obstacle(&mut self, job: &OpenJob) -> Option<Obstacle> {
        if self.taken(job.seat) >= self.rules.per_host {
            return Some(Obstacle::HostPlaces);
        }
        if self.all_places >= self.rules.in_all {
            return Some(Obstacle::AllPlaces);
        }
        for (repo, access) in job.repositories() {
            match self.locks.entry(repo).or_default().may_start(job.no, access) {
                Ok(()) => {}
                Err(Blocked::Behind(other)) => return Some(Obstacle::Turn(other)),
                Err(Blocked::By(other)) => {
                    // Nothing but the lock is in its way. Its place is kept too: else later jobs of its host could take that again and again.
                    if access == Access::Exclusive {
                        self.locks.entry(repo).or_default().reserve(job.no, job.id);
                        self.keep_place(job.seat);
                    }
                    return Some(Obstacle::Repository(other));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
