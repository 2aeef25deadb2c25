//! The jobs' side of the outbox.

use std::sync::Arc;

use flotilla_proto::{JobId, JobProgress, JobStatus, Stream};

use super::Shared;
use crate::{
    blocking::blocking,
    sink::{JobOutcome, JobSink},
};

/// So many bytes of one job that are not on disk, and whoever says more waits until they are: a disk that is slower than a job must not lose lines.
const MOST_UNSYNCED: u64 = 4 << 20;

pub(super) struct OutboxSink {
    shared: Arc<Shared>,
    job_id: JobId,
    owner: bool,
}

impl OutboxSink {
    pub(super) fn new(shared: &Arc<Shared>, job_id: JobId, owner: bool) -> Self {
        Self { shared: Arc::clone(shared), job_id, owner }
    }
}

impl JobSink for OutboxSink {
    fn started(&self, pid: Option<u32>) {
        let at = self.shared.clock.now();
        self.shared.change(&mut self.shared.lock(), self.job_id, |job| job.start(at, pid));
    }

    fn line(&self, stream: Stream, text: &str) {
        let at = self.shared.clock.now();
        let mut state = self.shared.lock();
        let Some(job) = state.jobs.get(&self.job_id) else { return };
        let room = self.shared.room(&state, job);
        self.shared.change(&mut state, self.job_id, |job| job.line(at, stream, text, room));
        let healthy = state.failure.is_none();
        let behind = state.jobs.get(&self.job_id).is_some_and(|job| job.log.unsynced() > MOST_UNSYNCED);
        drop(state);
        if behind && healthy {
            blocking(|| self.shared.flush());
        }
    }

    fn progress(&self, progress: JobProgress) {
        if let Some(job) = self.shared.lock().jobs.get_mut(&self.job_id) {
            job.progress(progress);
        }
        self.shared.work.notify_one();
    }

    fn finished(&self, end: JobOutcome) {
        let at = self.shared.clock.now();
        self.shared.change(&mut self.shared.lock(), self.job_id, |job| job.finish(at, end));
        self.shared.work.notify_one();
    }

    fn hold(&self) {
        self.shared.change(&mut self.shared.lock(), self.job_id, |job| job.hold());
    }

    fn mark(&self, stream: Stream, offset: u64) {
        self.shared.change(&mut self.shared.lock(), self.job_id, |job| job.mark(stream, offset));
    }

    fn settle(&self) -> bool {
        let mut end = None;
        let failing = {
            let mut state = self.shared.lock();
            self.shared.change(&mut state, self.job_id, |job| end = job.settle());
            state.failure.is_some()
        };
        // A disk that takes nothing is tried again by the flusher alone.
        let Some(end) = end.filter(|_| !failing) else { return false };
        blocking(|| self.shared.flush());
        self.shared.lock().jobs.get(&self.job_id).is_some_and(|job| job.log.has_synced(end))
    }
}

impl Drop for OutboxSink {
    fn drop(&mut self) {
        if self.owner && !self.shared.lock().closing {
            // Without effect where the job has ended as it should.
            let error =
                "the agent lost track of the job, which is a defect of the agent: look at its own log, and report it";
            self.finished(JobOutcome {
                status: JobStatus::Failed,
                exit_code: None,
                error: Some(error.to_owned()),
                summary: None,
            });
        }
    }
}
