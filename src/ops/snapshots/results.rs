//! What searches and comparisons brought: the records of their jobs, page by page. A job of another repository or kind is none.

use std::collections::HashMap;

use crate::{
    domain::{DiffResult, JobId, JobKind, NodeRecord, Record, RepoId, Timestamp, job::Job},
    store::{Db, StoreError, jobs, listings, snapshots},
};

/// Matches that the versions of a file are made of at most: one a snapshot, so a file in ten thousand snapshots.
const MOST_MATCHES: usize = 10_000;

/// A page of a job's records.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// The job.
    pub job: Job,
    /// Its records, with the numbers of their lines.
    pub items: Vec<(u32, Record)>,
    /// Where to go on; `None` at the end, as far as the log is here.
    pub next: Option<u32>,
    /// When the snapshots that are named were made.
    pub times: HashMap<String, Timestamp>,
}

impl Lookup {
    /// What was found, by snapshot.
    #[must_use]
    pub fn found(&self) -> Vec<(String, Option<Timestamp>, NodeRecord)> {
        let found = self.items.iter().filter_map(|(_, record)| match record {
            Record::Found(found) => Some(found),
            _ => None,
        });
        found
            .map(|found| (found.snapshot.clone(), self.times.get(&found.snapshot).copied(), found.node.clone()))
            .collect()
    }
}

/// Up to `limit` records of a job after line `after`.
///
/// # Errors
/// [`StoreError`].
pub fn page(
    db: &Db,
    (repo, id): (RepoId, JobId),
    kind: JobKind,
    after: u32,
    limit: usize,
) -> Result<Option<Lookup>, StoreError> {
    let Some(job) = jobs::lookup(db, id)?.filter(|job| job.repo_id == Some(repo) && job.kind == kind) else {
        return Ok(None);
    };
    let records = listings::records(db, job.no, after, limit)?;
    let mut named: Vec<String> = records
        .items
        .iter()
        .filter_map(|(_, record)| match record {
            Record::Found(found) => Some(found.snapshot.clone()),
            _ => None,
        })
        .collect();
    named.sort_unstable();
    named.dedup();
    let times = snapshots::times(db, repo, &named)?;
    Ok(Some(Lookup { job, items: records.items, next: records.next, times }))
}

/// All that a search found, up to a bound past which `next` is set.
///
/// # Errors
/// [`StoreError`].
pub fn all_found(db: &Db, repo: RepoId, job: JobId) -> Result<Option<Lookup>, StoreError> {
    let Some(mut all) = page(db, (repo, job), JobKind::Find, 0, MOST_MATCHES)? else { return Ok(None) };
    while let Some(next) = all.next.filter(|_| all.items.len() < MOST_MATCHES) {
        let room = MOST_MATCHES - all.items.len();
        let Some(more) = page(db, (repo, job), JobKind::Find, next, room)? else { break };
        all.items.extend(more.items);
        all.times.extend(more.times);
        all.next = more.next;
    }
    Ok(Some(all))
}

/// Records in all, once a search has ended well.
#[must_use]
pub fn count(job: &Job) -> Option<u64> {
    job.summary.as_ref()?.get("count")?.as_u64()
}

/// Counts and bytes of a comparison, once it has ended well.
#[must_use]
pub fn total(job: &Job) -> Option<DiffResult> {
    serde_json::from_value(job.summary.clone()?).ok()
}
