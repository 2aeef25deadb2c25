//! The stages of an operation around its run proper: each opens the repository anew, so that no secret is held while restic runs, and each can be done over.

use std::time::Duration;

use flotilla_proto::{JobKind, JobStatus, RepoSpec};
use tokio::time::Instant;

use super::{
    not_run,
    run::{Done, Job, early, stopped_early},
};
use crate::{
    blocking::blocking,
    process::{Exit, Stop, StopSignal},
    restic::{
        self,
        command::{MOST_IDS, OrderError, Session},
        preflight::Patience,
        redact::Redacted,
        upkeep::{self, Broke, Desk, Memo, Next, Ran},
    },
    sink::{JobOutcome, JobSink as _},
};

/// How long a proof may take beyond the job's time: the run is over, and its truth matters more.
const PROOF: Duration = Duration::from_secs(300);

impl Job<'_> {
    /// What comes before the run proper. `None`: this kind has nothing before it.
    pub(super) async fn prepare(
        &self,
        session: &Session,
        sink: &Redacted,
        stop: &mut StopSignal,
    ) -> Result<Option<Next>, Done> {
        if !upkeep::is_staged(&self.order.kind) {
            return Ok(None);
        }
        // From here on the server may be asked about it, as about a job that runs.
        sink.started(None);
        let second = self.second().await?;
        let next = upkeep::prepare(&mut self.desk(session, second.as_ref(), self.deadline, sink, stop)).await;
        next.map(Some).map_err(|broke| self.broke(broke))
    }

    /// What proves the end of the run proper.
    pub(super) async fn prove(
        &self,
        memo: Memo,
        ran: Ran,
        exit: Option<Exit>,
        sink: &Redacted,
        stop: &mut StopSignal,
    ) -> Done {
        if memo == Memo::Nothing {
            return Done::Ended(ran.outcome);
        }
        let proof = match exit {
            Some(exit) if exit.stopped.is_some() => {
                upkeep::prove(memo, ran, Err("the job was stopped".to_owned())).await
            }
            _ => match self.reopen().await {
                Err(why) => upkeep::prove(memo, ran, Err(why)).await,
                Ok((session, second)) => {
                    let deadline = self.deadline.max(Instant::now() + PROOF);
                    let mut desk = self.desk(&session, second.as_ref(), deadline, sink, stop);
                    upkeep::prove(memo, ran, Ok(&mut desk)).await
                }
            },
        };
        proof.map_or_else(|broke| self.broke(broke), Done::Ended)
    }

    async fn reopen(&self) -> Result<(Session, Option<Session>), String> {
        let words = |done| match done {
            Done::Ended(JobOutcome { error: Some(error), .. }) => error,
            _ => "the agent stops".to_owned(),
        };
        Ok((self.open().await.map_err(words)?, self.second().await.map_err(words)?))
    }

    async fn second(&self) -> Result<Option<Session>, Done> {
        match &self.order.second_repo {
            Some(repo) => self.session_of(repo).await.map(Some),
            None => Ok(None),
        }
    }

    /// Finds restic and readies it for one repository.
    pub(super) async fn session_of(&self, repo: &RepoSpec) -> Result<Session, Done> {
        if repo.memory_only && repo.password.is_empty() {
            return Err(early(
                "the credentials of this job were kept in memory only, and went when the agent was restarted. Run the job again",
            ));
        }
        let found = restic::probe(self.around.config.restic.as_deref()).await.map_err(early)?;
        blocking(|| Session::open(found, repo, &self.around.config.state_dir)).map_err(early)
    }

    /// Opens the order's repository.
    pub(super) async fn open(&self) -> Result<Session, Done> {
        let repo = self.order.repo.as_ref().ok_or_else(|| early(OrderError::NoRepository))?;
        self.session_of(repo).await
    }

    fn desk<'d>(
        &'d self,
        session: &'d Session,
        second: Option<&'d Session>,
        deadline: Instant,
        sink: &'d Redacted,
        stop: &'d mut StopSignal,
    ) -> Desk<'d> {
        let config = self.around.config;
        Desk {
            order: self.order,
            session,
            second,
            sink,
            stop,
            deadline,
            patience: Patience { connect: config.connect, total: config.preflight },
            grace: config.grace,
            ids_at_once: config.ids_at_once.clamp(1, MOST_IDS),
            errands: self.around.errands.as_deref(),
            now: (self.around.clock)(),
            state_dir: &config.state_dir,
        }
    }

    fn broke(&self, broke: Broke) -> Done {
        match broke {
            // The one stage that changes something before it is over.
            Broke::Stopped(Stop::Cancelled) if self.order.kind == JobKind::Unlock => Done::Ended(JobOutcome {
                status: JobStatus::Cancelled,
                ..not_run("cancelled while it ran; some of the locks may be gone. List them to see which are left")
            }),
            Broke::Stopped(wish) => stopped_early(wish),
            Broke::Failed { code, error } => Done::Ended(JobOutcome { exit_code: code, ..not_run(&error) }),
        }
    }
}
