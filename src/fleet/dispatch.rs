//! The dispatcher: a reconciler without input. Whatever changes the queue, and the clock, make it re-read what is open, let [`crate::domain::queue`] decide, mark what may
//! start as sent and send it. An offline agent, a restart of the server and a lost frame are the same case: the next look finds the job again.
//!
//! While few jobs are open its look is part of the transaction that changes the queue: an order that may go at once is made and marked by one commit. What it sends it
//! sends behind that commit.

mod book;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_proto::{CommandCancel, CommandRun, PlanSpec, RepoSpec, ServerMessage};
use tokio::time::Instant;

use crate::{
    domain::{
        HostId, JobId, JobStatus, RepoId, Timestamp,
        host::Host,
        job::{End, Job, JobNo},
        plan::Plan,
        queue::{self, OpenJob, QueueRules, Stage, Turns},
        repo::{Repo, RepoSecrets, seal_identity},
    },
    fleet::Fleet,
    store::{Db, StoreError, WriteReply, WriteTx, hosts, jobs, plans, repos},
    vault::VaultError,
};

/// Orders that one transaction claims at most: bounds how long others wait for the writer. What is left follows at once.
const CLAIMS: usize = 128;
/// Open jobs above which a look reads beside the writer instead of inside of its transaction: agents' lines must not wait for it.
const MANY: usize = 500;
/// A look over many jobs may take this share of the time: it rests that many times as long as it took.
const REST: u32 = 4;

/// Why an order cannot be made. The job ends with this text.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Vault(#[from] VaultError),
    #[error("its {0} was removed before the job could run; choose another and run it again")]
    Removed(&'static str),
    #[error("the repository's stored secrets do not read: enter them again on the repository's page")]
    Secrets,
    #[error(
        "the repository is append-only and has no maintenance credentials any more: enter them on its page and run it again"
    )]
    AppendOnly,
    #[error(
        "this host is not the repository's maintenance host any more, and credentials that may delete go to no other: run it again"
    )]
    NotMaintenanceHost,
    #[error(transparent)]
    Book(#[from] book::BookError),
    #[error("the order is too large to be sent: {0}")]
    TooLarge(#[from] flotilla_proto::DecodeError),
}

/// Runs until the stop.
pub(super) async fn run(fleet: Fleet) {
    let mut dispatcher = Dispatcher::new(&fleet);
    loop {
        let began = tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            looked = dispatcher.beside_a_change() => match dispatcher.send(looked).await {
                Ok(false) => continue,
                Ok(true) => Instant::now(),
                Err(e) => {
                    tracing::error!(error = %e, "the queue could not be read with a change; looking again");
                    Instant::now()
                }
            },
            () = fleet.inner.hub.queue_changed() => Instant::now(),
            () = tokio::time::sleep(fleet.inner.options.look) => Instant::now(),
        };
        while match dispatcher.look().await {
            Ok(more) => more,
            Err(e) => {
                tracing::error!(error = %e, "the queue could not be read; trying again in a few seconds");
                false
            }
        } {}
        if dispatcher.open > MANY {
            tokio::select! {
                () = fleet.inner.tasks.stopping() => return,
                () = tokio::time::sleep(began.elapsed() * REST) => {}
            }
        }
    }
}

/// Sends what may be sent now, once.
///
/// # Errors
/// [`StoreError`].
pub(super) async fn look(fleet: &Fleet) -> Result<(), StoreError> {
    let mut dispatcher = Dispatcher::new(fleet);
    while dispatcher.look().await? {}
    Ok(())
}

struct Dispatcher {
    fleet: Fleet,
    /// Of all looks, wherever they are made.
    turns: SharedTurns,
    /// The look that waits for the next change of the queue.
    waiting: Option<WriteReply<Looked, StoreError>>,
    /// Cancellations that were sent, by connection: they are repeated at the pace of orders, not at every look.
    told: HashMap<JobId, (u64, Instant)>,
    /// Open jobs at the last look.
    open: usize,
}

/// Only ever held within a transaction of the writer or a look beside it, of which there is one at a time.
#[derive(Clone, Default)]
struct SharedTurns(Arc<Mutex<Turns>>);

impl SharedTurns {
    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Whose turn it is is a matter of fairness, not of truth: what a panic left will do.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a look.
type Looked = (Agenda, Vec<Claimed>);

/// What is to be sent now.
#[derive(Debug, Default)]
struct Agenda {
    /// By number, in order.
    runs: Vec<ToRun>,
    cancels: Vec<(JobId, HostId)>,
    /// There is more than one transaction should claim.
    more: bool,
    open: usize,
}

/// A job that is to be sent.
#[derive(Debug, Clone, Copy)]
struct ToRun {
    no: JobNo,
    id: JobId,
    host: HostId,
    /// Whose turn it was.
    seat: HostId,
}

/// What bounds a look.
#[derive(Clone, Copy)]
struct Bounds {
    rules: QueueRules,
    accept: Duration,
}

/// Reads what is open and decides. Only here are jobs claimed, so that locks can only become free between this and the claim.
fn agenda(db: &Db, now: Timestamp, bounds: Bounds, turns: &Turns, fleet: &Fleet) -> Result<Agenda, StoreError> {
    let connected = |host| fleet.inner.registry.is_connected(host);
    let open = jobs::open(db, now)?;
    let order = |job: &OpenJob| ToRun { no: job.no, id: job.id, host: job.host, seat: job.seat };
    let resend_before = now.plus_s(-i64::try_from(bounds.accept.as_secs()).unwrap_or(i64::MAX));
    // What was sent "in the future" was sent before the clock was put back.
    let is_overdue = |job: &&OpenJob| {
        matches!(job.stage, Stage::Sent(at) if at < resend_before || at > now) && !job.stopping && connected(job.host)
    };
    let mut runs: Vec<_> = open.iter().filter(is_overdue).map(order).collect();
    let decided = queue::decide(&open, bounds.rules, turns, connected);
    runs.extend(decided.starts.iter().map(|at| order(&open[*at])));
    let more = runs.len() > CLAIMS;
    runs.truncate(CLAIMS);
    let to_stop = |job: &&OpenJob| job.stage != Stage::Waiting && job.stopping && connected(job.host);
    let mut cancels: Vec<_> = open.iter().filter(to_stop).map(|job| (job.id, job.host)).collect();
    for (job, host) in fleet.inner.hub.returned() {
        if connected(host) && jobs::is_lost_and_unwanted(db, job)? {
            cancels.push((job, host));
        }
    }
    Ok(Agenda { runs, cancels, more, open: open.len() })
}

impl Dispatcher {
    fn new(fleet: &Fleet) -> Self {
        Self { fleet: fleet.clone(), turns: SharedTurns::default(), waiting: None, told: HashMap::new(), open: 0 }
    }

    fn bounds(&self) -> Bounds {
        let options = &self.fleet.inner.options;
        Bounds { rules: options.rules(), accept: options.accept_deadline }
    }

    /// A look and its claims, for one transaction.
    fn whole_look(&self) -> impl FnOnce(&mut WriteTx<'_>) -> Result<Looked, StoreError> + Send + use<> {
        let (fleet, turns, bounds) = (self.fleet.clone(), self.turns.clone(), self.bounds());
        move |tx| {
            if fleet.inner.registry.is_empty() {
                return Ok(Looked::default());
            }
            let mut turns = turns.lock();
            let agenda = agenda(tx.db(), tx.now(), bounds, &turns, &fleet)?;
            claim(tx, &mut turns, agenda)
        }
    }

    /// The look that goes with the next change of the queue; for ever none where many jobs are open. Cancel-safe: it goes on waiting.
    async fn beside_a_change(&mut self) -> Result<Looked, StoreError> {
        self.wait_for_a_change();
        let Some(waiting) = &mut self.waiting else { return std::future::pending().await };
        let looked = waiting.await;
        self.waiting = None;
        if let Ok(Ok((agenda, _))) = &looked {
            self.open = agenda.open;
        }
        // The next one waits before this one's orders are made and sent.
        self.wait_for_a_change();
        looked.map_err(|_| StoreError::Closed)?
    }

    fn wait_for_a_change(&mut self) {
        if self.waiting.is_none() && self.open <= MANY {
            self.waiting = Some(self.fleet.inner.store.when_queue_changes(self.whole_look()));
        }
    }

    /// Sends what is to be sent now. Returns whether there is more.
    async fn look(&mut self) -> Result<bool, StoreError> {
        if self.fleet.inner.registry.is_empty() {
            return Ok(false);
        }
        let looked = if self.open > MANY {
            self.look_beside().await
        } else {
            self.fleet.inner.store.write(self.whole_look()).await
        };
        self.send(looked).await
    }

    /// Reads beside the writer and claims in its transaction. Nothing else claims in between: the look that waits for a change is taken back, or is over.
    async fn look_beside(&mut self) -> Result<Looked, StoreError> {
        if let Some(waiting) = self.waiting.take() {
            self.fleet.inner.store.not_when_queue_changes();
            if let Ok(looked) = waiting.await {
                return looked;
            }
        }
        let (reader, now, bounds, turns) =
            (self.fleet.clone(), self.fleet.inner.clock.now(), self.bounds(), self.turns.clone());
        let agenda = self.fleet.inner.store.read(move |db| agenda(db, now, bounds, &turns.lock(), &reader)).await?;
        if agenda.runs.is_empty() {
            return Ok((agenda, Vec::new()));
        }
        let turns = self.turns.clone();
        self.fleet.inner.store.write(move |tx| claim(tx, &mut turns.lock(), agenda)).await
    }

    /// Sends what a look has claimed. Returns whether there is more.
    async fn send(&mut self, looked: Result<Looked, StoreError>) -> Result<bool, StoreError> {
        let (agenda, claimed) = looked?;
        self.open = agenda.open;
        let fleet = self.fleet.clone();
        for (host, id, sheet) in claimed {
            let frame = sheet.and_then(|sheet| command(&fleet, sheet));
            give(&fleet, host, id, frame).await?;
        }
        self.cancel(&agenda.cancels).await?;
        Ok(agenda.more)
    }

    /// Tells agents which jobs to stop: once by connection, and again while nothing comes of it.
    async fn cancel(&mut self, cancels: &[(JobId, HostId)]) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut told = HashMap::with_capacity(cancels.len());
        for (id, host) in cancels.iter().copied() {
            let Some(link) = self.fleet.inner.registry.generation(host) else { continue };
            let last = self.told.get(&id).filter(|(earlier, at)| {
                *earlier == link && now.duration_since(*at) < self.fleet.inner.options.accept_deadline
            });
            let sent = match last {
                Some((_, at)) => *at,
                None => {
                    let frame = ServerMessage::CommandCancel(CommandCancel { job_id: id }).encode("");
                    give(&self.fleet, host, id, frame.map_err(Into::into)).await?;
                    now
                }
            };
            told.insert(id, (link, sent));
        }
        self.told = told;
        Ok(())
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // What waits in the store holds the store.
        if self.waiting.is_some() {
            self.fleet.inner.store.not_when_queue_changes();
        }
    }
}

type Claimed = (HostId, JobId, Result<Box<Sheet>, OrderError>);

/// Marks what is on the agenda as sent, and reads what its orders need.
fn claim(tx: &mut WriteTx<'_>, turns: &mut Turns, agenda: Agenda) -> Result<Looked, StoreError> {
    let mut claimed = Vec::with_capacity(agenda.runs.len());
    for ToRun { no, id, host, seat } in agenda.runs.iter().copied() {
        if jobs::claim(tx, no)? {
            turns.served(seat);
            claimed.push((host, id, sheet(tx.db(), id).map(Box::new)));
        }
    }
    Ok((agenda, claimed))
}

async fn give(fleet: &Fleet, host: HostId, id: JobId, frame: Result<String, OrderError>) -> Result<(), StoreError> {
    match frame {
        // A link that takes no frame is closing; the order is found again when the agent is back.
        Ok(frame) => {
            fleet.inner.registry.send(host, frame);
            Ok(())
        }
        Err(OrderError::Store(e)) => Err(e),
        Err(e) => {
            tracing::warn!(job.id = %id, error = %e, "an order cannot be made");
            let text = format!("the order could not be made: {e}");
            fleet
                .inner
                .store
                .write(move |tx| {
                    let end = End {
                        status: JobStatus::Failed,
                        at: tx.now(),
                        exit_code: None,
                        error: Some(text),
                        summary: None,
                        log_truncated: false,
                    };
                    jobs::finish(tx, id, host, &end, None)
                })
                .await?;
            Ok(())
        }
    }
}

/// What stands in the store for one order.
struct Sheet {
    job: Job,
    host: Option<Host>,
    repo: Option<(Repo, Vec<u8>)>,
    /// Of a copy.
    second: Option<(Repo, Vec<u8>)>,
    plan: Option<Plan>,
    book: Option<book::Sheet>,
    /// The control plane's own agent.
    own: Option<HostId>,
}

fn sheet(db: &Db, id: JobId) -> Result<Sheet, OrderError> {
    let job = jobs::lookup(db, id)?.ok_or(OrderError::Removed("job"))?;
    let host = hosts::lookup(db, job.host_id)?;
    let stored = |id: Option<RepoId>| match id {
        Some(id) => Ok::<_, StoreError>(repos::lookup(db, id)?.zip(repos::sealed_secrets(db, id)?)),
        None => Ok(None),
    };
    let (repo, second) = (stored(job.repo_id)?, stored(job.input.second_repo())?);
    let own = hosts::own(db)?.map(|host| host.id);
    let plan = job.plan_id.map(|id| plans::lookup(db, id)).transpose()?.flatten();
    let book = book::sheet(db, &job)?;
    Ok(Sheet { job, host, repo, second, plan, book, own })
}

fn command(fleet: &Fleet, sheet: Box<Sheet>) -> Result<String, OrderError> {
    let Sheet { job, host, repo, second, plan, book, own } = *sheet;
    let host = host.ok_or(OrderError::Removed("host"))?;
    if job.plan_id.is_some() && plan.is_none() {
        return Err(OrderError::Removed("plan"));
    }
    let repo = match (job.repo_id, repo) {
        (Some(_), None) => return Err(OrderError::Removed("repository")),
        (_, Some((repo, sealed))) if job.input.removes(&job.kind) => {
            Some(deleting_spec(fleet, repo, &sealed, (host.id, own))?)
        }
        (_, Some((repo, sealed))) => Some(repo_spec(fleet, repo, &sealed)?),
        (None, None) => None,
    };
    let second_repo = match (job.input.second_repo(), second) {
        (Some(_), None) => return Err(OrderError::Removed("second repository")),
        (_, second) => second.map(|(repo, sealed)| repo_spec(fleet, repo, &sealed)).transpose()?,
    };
    let runbook = book.map(|sheet| book::order(&fleet.inner.vault, &host, &job, sheet)).transpose()?;
    let order = CommandRun {
        job_id: job.id,
        kind: job.kind,
        host_label: host.slug,
        repo,
        args: job.input.args,
        plan: plan.map(plan_spec),
        restore: job.input.restore,
        operation: job.input.operation,
        second_repo,
        runbook: runbook.map(Box::new),
        timeout_s: job.timeout_s,
    };
    Ok(ServerMessage::CommandRun(Box::new(order)).encode("")?)
}

fn opened(fleet: &Fleet, repo: &Repo, sealed: &[u8]) -> Result<RepoSecrets, OrderError> {
    let plain = fleet.inner.vault.open_sealed(&seal_identity(repo.id), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| OrderError::Secrets)
}

/// What an endpoint may know: never the maintenance credentials.
pub(super) fn repo_spec(fleet: &Fleet, repo: Repo, sealed: &[u8]) -> Result<RepoSpec, OrderError> {
    let secrets = opened(fleet, &repo, sealed)?;
    Ok(with_own_credentials(repo, secrets))
}

/// What a job that deletes works with: the maintenance credentials where there are such, on the repository's maintenance host, in memory only; else what the
/// endpoints have, where that may delete. Asked again as the order leaves, for much may have changed since it was placed.
fn deleting_spec(
    fleet: &Fleet,
    repo: Repo,
    sealed: &[u8],
    (host, own): (HostId, Option<HostId>),
) -> Result<RepoSpec, OrderError> {
    let mut secrets = opened(fleet, &repo, sealed)?;
    let Some(maintenance) = secrets.maintenance.take() else {
        return if repo.append_only { Err(OrderError::AppendOnly) } else { Ok(with_own_credentials(repo, secrets)) };
    };
    if repo.upkeep.maintenance_host_id.or(own) != Some(host) {
        return Err(OrderError::NotMaintenanceHost);
    }
    secrets.env.extend(maintenance.env);
    let spec = with_own_credentials(repo, secrets);
    let named = !maintenance.username.is_empty();
    Ok(RepoSpec {
        url: maintenance.url.unwrap_or(spec.url),
        username: if named { Some(maintenance.username) } else { spec.username },
        auth_password: if named { Some(maintenance.password) } else { spec.auth_password },
        init: false,
        memory_only: true,
        ..spec
    })
}

fn with_own_credentials(repo: Repo, secrets: RepoSecrets) -> RepoSpec {
    RepoSpec {
        id: repo.id,
        url: repo.url,
        password: secrets.password,
        username: repo.username,
        auth_password: secrets.auth_password,
        env: secrets.env.into_iter().collect::<BTreeMap<_, _>>(),
        tls_ca_pem: repo.tls_ca_pem,
        init: repo.init && !repo.upkeep.imported,
        memory_only: false,
    }
}

pub(super) fn plan_spec(plan: Plan) -> PlanSpec {
    PlanSpec {
        id: plan.id,
        name: plan.name,
        paths: plan.paths,
        excludes: plan.excludes,
        options: plan.options,
        hooks: plan.hooks,
    }
}
