//! A download: restic's output straight into a request to the server, which hands it on to a browser that waits. Nothing of it touches the disk, restic is no
//! faster than the browser, and the request's body ends well only where restic did. Such a job hangs on this process of the agent.

use std::{io, time::Duration};

use bytes::Bytes;
use flotilla_proto::{DumpForm, DumpResult, JobStatus, NodeKind, download_path};
use http::StatusCode;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::{
    not_run,
    run::{Done, Job, Step, early},
};
use crate::{
    errand::{Errand, ErrandBody, ErrandError},
    process::{self, Launch, Limits, Poured, StopSignal},
    restic::{
        command::{Session, dumped, dumped_path},
        exit::{self, Run, Trouble},
        output::Task,
        preflight,
        redact::Redacted,
        report::Reporter,
    },
    sink::JobOutcome,
};

/// Pieces of at most 64 KiB that wait between restic and the network; where so many do, restic waits.
const PIECES: usize = 4;

impl Job<'_> {
    /// Sends what the order asks for, and judges.
    pub(super) async fn dump(
        &self,
        session: &Session,
        launch: &Launch,
        sink: &Redacted,
        stop: &mut StopSignal,
    ) -> Step<Done> {
        let errands = self.around.errands.clone().ok_or_else(|| early(ErrandError::Nobody))?;
        self.dumpable(session, sink, stop).await?;
        self.hangs_on_this_process()?;
        let (taker, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let errand = Errand {
            path: download_path(self.order.job_id),
            body: ErrandBody::Stream(pieces),
            patience: self.deadline.saturating_duration_since(Instant::now()),
        };
        let mut reporter = Reporter::new(sink, Task::Other);
        let limits = self.limits(Task::Restore);
        let mut post = errands.post(errand);
        let mut answer = None;
        let poured = {
            let restic = process::pour(launch, &limits, stop, &mut reporter, &taker);
            tokio::pin!(restic);
            loop {
                tokio::select! {
                    poured = &mut restic => break poured,
                    got = &mut post, if answer.is_none() => answer = Some(got),
                }
            }
        };
        let poured = poured.map_err(|e| early(preflight::cannot_start(launch, &e)))?;
        if poured.exit.code == 0 && poured.exit.stopped.is_none() && !poured.unwanted {
            drop(taker);
            if answer.is_none() {
                answer = Some(tokio::select! {
                    got = &mut post => got,
                    wish = stop.wait_for(Option::is_some) => {
                        let wish = wish.ok().and_then(|wish| *wish);
                        return Err(wish.map_or_else(|| early(ErrandError::Nobody), super::run::stopped_early));
                    }
                });
            }
        }
        // What was sent otherwise is a part: the request is dropped with its connection, and never ends as if it were the whole.
        drop(post);
        let error = answer.and_then(Result::err);
        let transcript = reporter.transcript;
        Ok(Done::Ended(if poured.unwanted || (poured.exit.code == 0 && error.is_some()) {
            broken_off(poured, error)
        } else {
            let end = exit::judge(Run {
                kind: &self.order.kind,
                operation: self.order.operation.as_ref(),
                may_lack_snapshot: false,
                exit: poured.exit,
                transcript,
                timeout: Duration::from_secs(self.order.timeout_s),
                idle: limits.idle,
                grace: limits.grace,
                restored: None,
                picked_paths: false,
            });
            JobOutcome { summary: Some(json!(DumpResult { bytes: poured.bytes })), ..end }
        }))
    }

    /// Looks before anything is sent: restic packs a folder that is asked for as a file, and sends a file as it is where an archive is wished.
    async fn dumpable(&self, session: &Session, sink: &Redacted, stop: &mut StopSignal) -> Step<()> {
        let spec = dumped(self.order).map_err(early)?;
        let launch = session.look_at_dumped(self.order).map_err(early)?;
        let mut looking = Reporter::looking(sink, dumped_path(spec));
        let limits = Limits { idle: None, ..self.limits(Task::Ls) };
        let exit = process::supervise(&launch, &limits, stop, &mut looking).await;
        let exit = exit.map_err(|e| early(preflight::cannot_start(&launch, &e)))?;
        let said = looking.transcript;
        if let Some(process::Cause::Asked(wish)) = exit.stopped {
            return Err(super::run::stopped_early(wish));
        }
        if exit.code != 0 || exit.stopped.is_some() {
            return Err(Done::Ended(JobOutcome {
                exit_code: Some(exit.code),
                ..not_run(&exit::failure(exit.code, &said))
            }));
        }
        let path = &spec.path;
        match (said.listing.folder, spec.form) {
            (None, _) if said.error_text().contains("no matching ID found") => Err(early(Trouble::NoSnapshot.advice())),
            (None, _) => Err(early(format!("the snapshot holds no {path}. Look whether another snapshot has it"))),
            (Some(NodeKind::Dir), DumpForm::File) => {
                Err(early(format!("{path} is a folder: download it as tar or zip")))
            }
            (Some(NodeKind::Dir), _) | (Some(NodeKind::File), DumpForm::File) => Ok(()),
            (Some(NodeKind::File), _) => Err(early(format!("{path} is a file: download it as it is"))),
            (Some(_), _) => Err(early(format!("{path} is neither a file nor a folder: restore it instead"))),
        }
    }
}

/// Nobody took all of it.
fn broken_off(poured: Poured, error: Option<ErrandError>) -> JobOutcome {
    let gone = |status: StatusCode| matches!(status, StatusCode::GONE | StatusCode::REQUEST_TIMEOUT);
    let (status, why) = match error {
        None | Some(ErrandError::Broken(_)) => (
            JobStatus::Cancelled,
            "the download was broken off before all was sent: the browser went away, or the connection to the server broke. Begin it again".to_owned(),
        ),
        Some(ErrandError::Refused { status, reason }) if gone(status) => {
            (JobStatus::Cancelled, format!("the download was broken off: {reason}. Begin it again"))
        }
        Some(error) => (JobStatus::Failed, format!("what was to be downloaded could not be sent: {error}")),
    };
    JobOutcome {
        status,
        error: Some(why),
        exit_code: Some(poured.exit.code),
        summary: Some(json!(DumpResult { bytes: poured.bytes })),
    }
}
