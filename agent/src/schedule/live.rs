//! Which jobs of this agent have not ended: what runs without the server must not start beside the run before it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use flotilla_proto::{JobId, JobProgress, Stream};

use crate::sink::{JobOutcome, JobSink};

/// Cheap handle; counts sinks per job.
#[derive(Clone, Default)]
pub(super) struct LiveJobs(Arc<Mutex<HashMap<JobId, usize>>>);

impl LiveJobs {
    /// The sink, and the job counted as live until its end or until the sink is dropped.
    pub(super) fn watch(&self, job_id: JobId, sink: Arc<dyn JobSink>) -> Arc<dyn JobSink> {
        *self.lock().entry(job_id).or_default() += 1;
        Arc::new(Watched { live: self.clone(), job_id, sink, over: AtomicBool::new(false) })
    }

    pub(super) fn contains(&self, job_id: JobId) -> bool {
        self.lock().contains_key(&job_id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    live: LiveJobs,
    job_id: JobId,
    sink: Arc<dyn JobSink>,
    over: AtomicBool,
}

impl Watched {
    fn end(&self) {
        if self.over.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut live = self.live.lock();
        if let Some(count) = live.get_mut(&self.job_id) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.job_id);
            }
        }
    }
}

impl JobSink for Watched {
    fn started(&self, pid: Option<u32>) {
        self.sink.started(pid);
    }

    fn line(&self, stream: Stream, text: &str) {
        self.sink.line(stream, text);
    }

    fn progress(&self, progress: JobProgress) {
        self.sink.progress(progress);
    }

    fn finished(&self, end: JobOutcome) {
        self.sink.finished(end);
        self.end();
    }

    fn hold(&self) {
        self.sink.hold();
    }

    fn mark(&self, stream: Stream, offset: u64) {
        self.sink.mark(stream, offset);
    }

    fn settle(&self) -> bool {
        self.sink.settle()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.end();
    }
}
