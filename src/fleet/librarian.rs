//! The librarian: a reconciler that takes what finished jobs listed into the index of snapshots and into the cache of folders, and orders a list where the
//! index is missing, behind or old. What is taken is marked in the last of its writes, so a restart in the middle takes it again from the start; every
//! write may be repeated.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{
        HostId, JobKind, JobStatus, LsSpec, NodeRecord, Operation, Record, RepoId, SnapshotRecord,
        job::{Actor, JobNo},
        snapshot::check_folder,
    },
    fleet::Fleet,
    ops::snapshots::orders,
    store::{
        Db, StoreError,
        listings::{self, Due},
        snapshots::{self, Listed},
        trees,
    },
};

/// Jobs that one look takes up; what is left follows at once.
const AT_ONCE: u32 = 16;
/// Records that are read at once.
const READ: usize = 5_000;
/// Snapshots of one repository that are compared in memory, at about 1 KiB each. A longer list is not taken, and the log says so.
const MOST_SNAPSHOTS: u64 = 500_000;
/// Lists that are ordered within a minute, all repositories together: after a night in which nobody was there, the fleet is not stormed.
const ORDERS_A_MINUTE: usize = 20;

/// Runs until the stop.
pub(super) async fn run(fleet: Fleet) {
    let mut librarian = Librarian { fleet: fleet.clone(), ordered: VecDeque::new(), put_off: HashSet::new() };
    loop {
        let by_clock = tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            () = fleet.inner.hub.records_came() => false,
            () = tokio::time::sleep(fleet.inner.options.tick) => true,
        };
        if by_clock {
            librarian.put_off.clear();
        }
        if let Err(e) = librarian.look().await {
            tracing::error!(error = %e, "the index of snapshots could not be kept; trying again soon");
        }
    }
}

struct Librarian {
    fleet: Fleet,
    /// When lists were ordered of late.
    ordered: VecDeque<Instant>,
    /// Jobs whose records could not be taken just now: others must not wait behind them.
    put_off: HashSet<JobNo>,
}

impl Librarian {
    async fn look(&mut self) -> Result<(), StoreError> {
        loop {
            let limit = AT_ONCE + u32::try_from(self.put_off.len()).unwrap_or(u32::MAX);
            let mut due = self.fleet.inner.store.read(move |db| listings::due(db, limit)).await?;
            due.retain(|job| !self.put_off.contains(&job.no));
            if due.is_empty() {
                break;
            }
            for job in due {
                let (no, id) = (job.no, job.id);
                if let Err(e) = take(&self.fleet, job).await {
                    tracing::warn!(job.id = %id, error = %e, "a job's records could not be taken into the index");
                    self.put_off.insert(no);
                }
            }
        }
        self.make_room().await?;
        self.order_lists().await
    }

    async fn make_room(&self) -> Result<(), StoreError> {
        let over = |db: &Db| trees::is_over(db, trees::BOUND);
        while self.fleet.inner.store.read(over).await? {
            self.fleet.inner.store.write(|tx| trees::evict_step(tx, trees::BOUND)).await?;
        }
        Ok(())
    }

    /// Orders the lists that are wanted and that some connected host can make.
    async fn order_lists(&mut self) -> Result<(), StoreError> {
        let now = self.fleet.inner.clock.now();
        let states = self.fleet.inner.store.read(snapshots::index_states).await?;
        for (repo, _) in states.into_iter().filter(|(repo, state)| state.wants_list(*repo, now)) {
            self.ordered.retain(|at| at.elapsed() < Duration::from_secs(60));
            if self.ordered.len() >= ORDERS_A_MINUTE {
                break;
            }
            if order_list(&self.fleet, repo).await? {
                self.ordered.push_back(Instant::now());
            }
        }
        Ok(())
    }
}

/// Orders a list of a repository on a host that is connected. Returns whether there is such a host.
async fn order_list(fleet: &Fleet, repo: RepoId) -> Result<bool, StoreError> {
    let Ok(random) = crate::credential::random_bits() else { return Ok(false) };
    let (hub, expiry_s) = (fleet.inner.hub.clone(), fleet.inner.options.queue_expiry.as_secs());
    fleet
        .inner
        .store
        .write(move |tx| {
            let wants = snapshots::index_state(tx.db(), repo)?.is_some_and(|state| state.wants_list(repo, tx.now()));
            let online = |host: HostId| hub.is_online(host);
            let Some(host) = orders::connected_reader(tx.db(), repo, online)?.filter(|_| wants) else {
                return Ok(false);
            };
            orders::place(tx, Actor::system(), host.id, orders::Work::list(repo), expiry_s, random)?;
            Ok(true)
        })
        .await
}

/// Takes what a finished job listed.
async fn take(fleet: &Fleet, job: Due) -> Result<(), StoreError> {
    let ended_well = matches!(job.status, JobStatus::Succeeded | JobStatus::Warning);
    match (&job.kind, job.repo_id) {
        (JobKind::Ls, Some(repo)) if ended_well => take_folder(fleet, repo, &job).await?,
        // Most often the snapshot is gone: a list will tell.
        (JobKind::Ls | JobKind::Diff, Some(repo)) if job.status == JobStatus::Failed && job.began => {
            fleet.inner.store.write(move |tx| snapshots::stale(tx, repo)).await?;
        }
        (JobKind::Ls | JobKind::Diff, _) => {}
        (JobKind::Snapshots, Some(repo)) => {
            if ended_well {
                take_list(fleet, repo, &job).await?;
            }
        }
        (kind, Some(of)) => {
            let repo = match &job.operation {
                Some(Operation::Copy(spec)) if *kind == JobKind::Copy => spec.to,
                _ => of,
            };
            // Counted is only what was listed to its end, so that such a list is true also behind a job that failed.
            let took = job.count.is_some() && take_list(fleet, repo, &job).await?;
            if !took && job.began && !is_dry_run(&job) {
                fleet.inner.store.write(move |tx| snapshots::stale(tx, repo)).await?;
            }
        }
        (_, None) => {}
    }
    let no = job.no;
    fleet.inner.store.write(move |tx| listings::taken(tx, no)).await
}

/// Whether a job cannot have changed anything.
fn is_dry_run(job: &Due) -> bool {
    match &job.operation {
        Some(Operation::Forget(spec)) => spec.dry_run,
        Some(Operation::Prune(spec)) => spec.dry_run,
        Some(Operation::Repair(spec)) => spec.dry_run,
        _ => false,
    }
}

/// All records of a job that `pick` wants; `None` where there are not as many as its end counted, or more than `most`.
async fn whole<T: Send + 'static>(
    fleet: &Fleet,
    job: &Due,
    most: u64,
    pick: impl Fn(Record) -> Option<T> + Copy + Send + 'static,
) -> Result<Option<Vec<T>>, StoreError> {
    let Some(count) = job.count.filter(|count| *count <= most) else { return Ok(None) };
    let (mut picked, mut after, no) = (Vec::new(), 0, job.no);
    loop {
        let page = fleet.inner.store.read(move |db| listings::records(db, no, after, READ)).await?;
        picked.extend(page.items.into_iter().filter_map(|(_, record)| pick(record)));
        match page.next {
            Some(next) => after = next,
            None => return Ok(Some(picked).filter(|picked| picked.len() as u64 == count)),
        }
    }
}

fn snapshot(record: Record) -> Option<SnapshotRecord> {
    match record {
        Record::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    }
}

fn node(record: Record) -> Option<NodeRecord> {
    match record {
        Record::Node(node) => Some(node),
        _ => None,
    }
}

/// Takes a whole list of a repository. Returns whether it was whole.
async fn take_list(fleet: &Fleet, repo: RepoId, job: &Due) -> Result<bool, StoreError> {
    let Some(records) = whole(fleet, job, MOST_SNAPSHOTS, snapshot).await? else {
        tracing::warn!(job.id = %job.id, repo.id = %repo, "a list of snapshots is not whole, or too long, and is not taken");
        return Ok(false);
    };
    let store = &fleet.inner.store;
    let listed = Listed { repo, job: job.id, kind: job.kind.clone(), from: job.from };
    let reading = listed.clone();
    let changes = store
        .read(move |db| Ok::<_, StoreError>(snapshots::compare(&reading, records, snapshots::known(db, repo)?)))
        .await?;
    for step in changes.steps() {
        let listed = listed.clone();
        store.write(move |tx| snapshots::apply(tx, &listed, &step)).await?;
    }
    store.write(move |tx| snapshots::conclude(tx, &listed)).await?;
    Ok(true)
}

/// Takes a folder into the cache, in steps that leave others room.
async fn take_folder(fleet: &Fleet, repo: RepoId, job: &Due) -> Result<(), StoreError> {
    let Some(Operation::Ls(LsSpec { snapshot, path })) = job.operation.clone() else { return Ok(()) };
    let Ok(path) = check_folder(&path) else { return Ok(()) };
    let store = &fleet.inner.store;
    let Some(snapshot) = store.read(move |db| snapshots::lookup(db, repo, &snapshot)).await? else { return Ok(()) };
    let Some(nodes) = whole(fleet, job, trees::BOUND, node).await? else { return Ok(()) };
    let id = job.id;
    let Some(folder) = store.write(move |tx| trees::order(tx, snapshot.no, &path, id)).await? else { return Ok(()) };
    let (no, entries) = (folder.no, nodes.len() as u64);
    while store.write(move |tx| trees::clear_step(tx, no)).await? {}
    let mut nodes = nodes.into_iter();
    loop {
        let step: Vec<NodeRecord> = nodes.by_ref().take(trees::STEP).collect();
        if step.is_empty() {
            break;
        }
        store.write(move |tx| trees::fill(tx, no, &step)).await?;
    }
    store.write(move |tx| trees::finish(tx, no, entries)).await
}

#[cfg(test)]
mod tests;
