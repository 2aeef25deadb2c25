//! From memory to disk: everything that was said since the last time is written and synced, and only then offered for sending. Where the disk
//! takes nothing, jobs go on from memory and the disk is tried again; it recovers by itself.

use std::{io, time::Duration};

use tokio::time::Instant;

use super::Shared;
use crate::spool::{Batch, files::Appended};

/// How soon a disk that takes nothing is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The disk takes nothing.
pub(super) struct Failure {
    pub(super) kind: io::ErrorKind,
    pub(super) text: String,
    /// Bytes of all jobs that stand in memory alone, when it was last tried.
    pub(super) unsynced: u64,
}

impl Shared {
    /// Writes what is unsynced. Blocks for as long as the disk takes; one at a time.
    pub(super) fn flush(&self) {
        let mut files = self.lock_files();
        let mut error = None;
        for batch in self.batches() {
            files.delete(batch.job, &batch.doomed);
            if !batch.chunks.is_empty() {
                let appended = files.append(batch.job, &batch.chunks);
                let ended = appended.error.is_none() && batch.ends;
                error = self.appended(&batch, appended).or(error);
                if ended {
                    files.rest(batch.job);
                }
            }
        }
        self.settle(error);
        drop(files);
        self.work.notify_one();
    }

    fn batches(&self) -> Vec<Batch> {
        let mut state = self.lock();
        state.flush_at = None;
        let dirty = std::mem::take(&mut state.dirty);
        let mut batches = Vec::with_capacity(dirty.len());
        for id in dirty {
            if let Some(job) = state.jobs.get_mut(&id) {
                let (chunks, doomed) = job.log.take_unsynced();
                batches.push(Batch { job: id, chunks, doomed, ends: job.has_ended() });
            }
        }
        batches
    }

    /// Takes over what is on disk now. Returns what went wrong.
    fn appended(&self, batch: &Batch, appended: Appended) -> Option<io::Error> {
        let memory = self.limits.memory_bytes;
        let mut state = self.lock();
        self.change(&mut state, batch.job, |job| {
            job.log.synced(appended.segments, appended.synced);
            job.trim(false);
            job.log.shed(0, memory);
        });
        appended.error
    }

    fn settle(&self, error: Option<io::Error>) {
        let mut state = self.lock();
        match error {
            Some(error) => {
                if state.failure.is_none() {
                    tracing::error!(%error, "cannot write to the state folder: what jobs say stands in memory until it takes it again");
                }
                let unsynced = state.jobs.values().map(|job| job.log.unsynced()).sum();
                state.failure = Some(Failure { kind: error.kind(), text: error.to_string(), unsynced });
                state.flush_at = Some(Instant::now() + RETRY_EVERY);
            }
            None => {
                if state.failure.take().is_some() {
                    tracing::info!("the state folder takes what jobs say again");
                }
            }
        }
    }
}
