//! Before restic does its work: whether the repository is there, opens and takes what is to be written; and its creation, by one restic of this host at a time.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use flotilla_proto::{JobKind, Operation, RepoSpec};
use tokio::time::{Instant, timeout_at};

use super::{
    not_run,
    run::{Done, Job, Step, early, stopped_early},
};
use crate::{
    blocking::blocking,
    platform,
    process::{self, Launch, StopSignal},
    restic::{
        command::{Session, is_dry_backup},
        exit,
        preflight::{self, Patience, Refusal},
        redact::Redacted,
    },
    sink::JobOutcome,
};

/// How often to look whether another has done with creating a repository.
const CREATION_LOOK: Duration = Duration::from_millis(200);

impl Job<'_> {
    /// Whether the repository is there; creates it where that is wished.
    pub(super) async fn preflight(&self, session: &Session, stop: &mut StopSignal, sink: &Redacted) -> Step<()> {
        self.can_be_written()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let patience = Patience { connect: self.around.config.connect, total: self.around.config.preflight.min(left) };
        let mut refusal = match preflight::check(session, patience, stop, sink).await {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        let may_init = self.order.repo.as_ref().is_some_and(|repo| repo.init) && !is_dry_backup(self.order);
        let mut turn = None;
        if may_init && self.order.kind == JobKind::Backup && matches!(refusal, Refusal::Missing(_)) {
            // Two that create one repository at once leave two keys in it, one of which opens nothing: look again when it is our turn.
            turn = Some(self.turn_to_create(stop).await?);
            refusal = match preflight::check(session, patience, stop, sink).await {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
        }
        match refusal {
            Refusal::Missing(_) if turn.is_some() => self.init(session, turn, patience, stop, sink).await,
            Refusal::Missing(error) => Err(early(error)),
            Refusal::Failed { code, error } => Err(Done::Ended(JobOutcome { exit_code: code, ..not_run(&error) })),
            Refusal::Stopped(wish) => Err(stopped_early(wish)),
        }
    }

    /// Waits until nobody on this host creates a repository, a restic among them that an agent which is no more has left at it.
    async fn turn_to_create(&self, stop: &mut StopSignal) -> Step<Arc<File>> {
        let path = self.around.config.state_dir.join("creating.lock");
        let unusable =
            |e: io::Error| early(format!("{} can't be used: {e}. Check its rights and the free space", path.display()));
        let file = blocking(|| File::options().create(true).append(true).open(&path)).map_err(unusable)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Arc::new(file)),
                Err(TryLockError::Error(e)) => return Err(unusable(e)),
                Err(TryLockError::WouldBlock) if Instant::now() >= self.deadline => {
                    return Err(early(
                        "another restic on this host creates a repository and does not come to an end: look at it, then run the job again",
                    ));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            let again = Instant::now() + CREATION_LOOK;
            if let Ok(Ok(wish)) =
                timeout_at(again, stop.wait_for(Option::is_some)).await.map(|wish| wish.map(|wish| *wish))
                && let Some(wish) = wish
            {
                return Err(stopped_early(wish));
            }
        }
    }

    async fn init(
        &self,
        session: &Session,
        turn: Option<Arc<File>>,
        patience: Patience,
        stop: &mut StopSignal,
        sink: &Redacted,
    ) -> Step<()> {
        sink.say("there is no repository yet: creating it");
        let deadline = self.deadline.min(Instant::now() + 4 * self.around.config.preflight);
        let (exit, said) = preflight::quietly(
            &Launch { held: turn, ..session.init() },
            deadline,
            self.around.config.grace,
            stop,
            sink,
        )
        .await
        .map_err(early)?;
        match exit.stopped {
            Some(process::Cause::Asked(wish)) => Err(stopped_early(wish)),
            // Another host may have been quicker: then it is there, which is all that matters.
            None if exit.code == 0 || said.error_text().contains("config file already exists") => {
                sink.say("the repository was created");
                Ok(())
            }
            // … and by the word of an append-only server that is told as "not allowed".
            None if preflight::check(session, patience, stop, sink).await.is_ok() => Ok(()),
            _ => Err(Done::Ended(JobOutcome {
                exit_code: Some(exit.code),
                ..not_run(&format!("the repository could not be created: {}", exit::failure(exit.code, &said)))
            })),
        }
    }

    /// Refuses what would write where nothing can be: restic itself tries for a quarter of an hour to place its lock there.
    fn can_be_written(&self) -> Step<()> {
        match blocking(|| self.written().and_then(read_only_folder)) {
            Some(folder) => Err(early(format!(
                "nothing can be written to the repository: the file system of {} is read-only. Mount it for writing and run the job again; to list, check and restore what is in it goes on meanwhile",
                folder.display()
            ))),
            None => Ok(()),
        }
    }

    /// The repository that this job changes, if it does.
    fn written(&self) -> Option<&RepoSpec> {
        let changes = match (&self.order.kind, &self.order.operation) {
            (JobKind::Copy, _) => return self.order.second_repo.as_ref(),
            (JobKind::Forget, Some(Operation::Forget(spec))) => !spec.dry_run,
            (JobKind::Backup, _) => !is_dry_backup(self.order),
            (kind, _) => {
                matches!(kind, JobKind::Prune | JobKind::Tag | JobKind::Repair | JobKind::Unlock | JobKind::Tamper)
            }
        };
        self.order.repo.as_ref().filter(|_| changes)
    }

    /// What only reads needs no lock where nobody can write; restic would not get one there.
    pub(super) fn without_lock(&self, launch: &mut Launch, sink: &Redacted) {
        let locks = matches!(self.order.kind, JobKind::Restore | JobKind::Check);
        if locks && blocking(|| self.order.repo.as_ref().and_then(read_only_folder)).is_some() {
            sink.say("the repository's file system is read-only, so restic works without a lock in it");
            launch.args.insert(0, "--no-lock".into());
        }
    }
}

/// The folder of a repository on this host whose file system is read-only. Blocks.
fn read_only_folder(repo: &RepoSpec) -> Option<PathBuf> {
    let folder = Path::new(repo.url.strip_prefix("local:").unwrap_or(&repo.url));
    let is_shut = folder.is_absolute() && platform::volume(folder).is_some_and(|volume| volume.read_only);
    is_shut.then(|| folder.to_owned())
}
