//! The executor as the connection sees it: the [`Runner`] trait over what the executor does anyway. Looks for restic anew before each `hello`.

use std::{sync::Arc, time::Duration};

use flotilla_proto::{CommandRun, JobId, Limits};

use crate::{
    errand::Errands,
    executor::{Executor, leftovers},
    restic,
    runner::{BoxFuture, Runner, RunnerFacts, Submitted},
    sink::{Cursor, JobSink},
};

impl Runner for Executor {
    fn submit(&self, order: CommandRun, sink: Arc<dyn JobSink>) -> Submitted {
        Self::submit(self, order, sink)
    }

    fn cancel(&self, job: JobId) -> bool {
        Self::cancel(self, job)
    }

    fn set_limits(&self, limits: Limits) {
        Self::set_limits(self, &limits);
    }

    fn drain(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(Self::drain(self, grace))
    }

    fn connect(&self, errands: Arc<dyn Errands>) {
        self.set_errands(errands);
    }

    fn describe(&self) -> BoxFuture<'_, RunnerFacts> {
        Box::pin(async {
            // Before it is asked: one that is replaced in between is noticed.
            self.note_restic(self.find_restic());
            let mut facts = RunnerFacts { capabilities: vec!["runbooks".to_owned()], restic_version: None };
            match restic::probe(self.config().restic.as_deref()).await {
                Ok(found) => {
                    facts.capabilities.push("restic".to_owned());
                    facts.restic_version = Some(found.version.to_string());
                }
                Err(e) => tracing::warn!("{e}"),
            }
            facts
        })
    }

    fn has_changed(&self) -> bool {
        self.noted_restic().is_some_and(|noted| noted != self.find_restic())
    }

    fn leftovers(&self) -> Vec<JobId> {
        // Read once before, when the executor was made; what can't be read now is reported at the next start.
        leftovers(&self.config().state_dir).unwrap_or_default()
    }

    fn resume(&self, job: JobId, sink: Arc<dyn JobSink>, cursor: Cursor) {
        Self::resume(self, job, sink, cursor);
    }

    fn forget_leftover(&self, job: JobId) {
        if let Err(e) = self.forget(job) {
            tracing::warn!(job.id = %job, error = %e, "the folder of an ended job could not be removed");
        }
    }
}
