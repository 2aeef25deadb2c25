//! The dispatcher: a reconciler without input. Woken by the hub and by the clock, it re-reads what is queued for hosts that are connected, marks it
//! as sent and sends it. An offline agent, a restart of the server and a lost frame are the same case: the next look finds the job still queued.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use flotilla_proto::{CommandCancel, CommandRun, PlanSpec, RepoSpec, ServerMessage};

use crate::{
    domain::{
        HostId, JobId, JobStatus,
        host::Host,
        job::{End, Job},
        plan::Plan,
        repo::{Repo, RepoSecrets, seal_identity},
    },
    fleet::Fleet,
    store::{Db, StoreError, hosts, jobs, plans, repos},
    vault::VaultError,
};

/// How often to look without being woken.
const LOOK: Duration = Duration::from_secs(5);

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
    #[error("the order is too large to be sent: {0}")]
    TooLarge(#[from] flotilla_proto::DecodeError),
}

/// Runs until the stop.
pub(super) async fn run(fleet: Fleet) {
    loop {
        tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            () = fleet.inner.hub.queue_changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Err(e) = look(&fleet).await {
            tracing::error!(error = %e, "the queue could not be read; trying again in a few seconds");
        }
    }
}

async fn look(fleet: &Fleet) -> Result<(), StoreError> {
    let connected: HashSet<HostId> = fleet.inner.registry.hosts().into_iter().collect();
    if connected.is_empty() {
        return Ok(());
    }
    let accept_s = i64::try_from(fleet.inner.options.accept_deadline.as_secs()).unwrap_or(i64::MAX);
    let limit = fleet.inner.options.jobs_per_host;
    let claimed = fleet
        .inner
        .store
        .write(move |tx| {
            let resend_before = tx.now().plus_s(-accept_s);
            let mut claimed = Vec::new();
            let hosts = jobs::hosts_with_orders(tx.db(), resend_before, tx.now())?;
            for host in hosts.into_iter().filter(|host| connected.contains(host)) {
                for order in jobs::claim_orders(tx, host, limit, resend_before)? {
                    claimed.push((host, Claimed::read(tx.db(), order)));
                }
            }
            Ok::<_, StoreError>(claimed)
        })
        .await?;
    for (host, claimed) in claimed {
        let (id, frame) = match claimed {
            Claimed::Cancel(id) => {
                (id, ServerMessage::CommandCancel(CommandCancel { job_id: id }).encode("").map_err(Into::into))
            }
            Claimed::Run(id, sheet) => (id, sheet.and_then(|sheet| command(fleet, sheet))),
        };
        give(fleet, host, id, frame).await?;
    }
    Ok(())
}

/// An order with all that it takes, read in the transaction that claims it.
enum Claimed {
    Run(JobId, Result<Box<Sheet>, OrderError>),
    Cancel(JobId),
}

impl Claimed {
    fn read(db: &Db, order: jobs::Order) -> Self {
        match order {
            jobs::Order::Run(id) => Self::Run(id, sheet(db, id).map(Box::new)),
            jobs::Order::Cancel(id) => Self::Cancel(id),
        }
    }
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
    plan: Option<Plan>,
}

fn sheet(db: &Db, id: JobId) -> Result<Sheet, OrderError> {
    let job = jobs::lookup(db, id)?.ok_or(OrderError::Removed("job"))?;
    let host = hosts::lookup(db, job.host_id)?;
    let repo = match job.repo_id {
        Some(id) => repos::lookup(db, id)?.zip(repos::sealed_secrets(db, id)?),
        None => None,
    };
    let plan = job.plan_id.map(|id| plans::lookup(db, id)).transpose()?.flatten();
    Ok(Sheet { job, host, repo, plan })
}

fn command(fleet: &Fleet, sheet: Box<Sheet>) -> Result<String, OrderError> {
    let Sheet { job, host, repo, plan } = *sheet;
    let host = host.ok_or(OrderError::Removed("host"))?;
    if job.plan_id.is_some() && plan.is_none() {
        return Err(OrderError::Removed("plan"));
    }
    let repo = match (job.repo_id, repo) {
        (Some(_), None) => return Err(OrderError::Removed("repository")),
        (_, Some((repo, sealed))) => Some(repo_spec(fleet, repo, &sealed)?),
        (None, None) => None,
    };
    let order = CommandRun {
        job_id: job.id,
        kind: job.kind,
        host_label: host.slug,
        repo,
        args: job.input.args,
        plan: plan.map(plan_spec),
        restore: job.input.restore,
        timeout_s: job.timeout_s,
    };
    Ok(ServerMessage::CommandRun(Box::new(order)).encode("")?)
}

/// What an endpoint may know: never the maintenance credentials.
pub(super) fn repo_spec(fleet: &Fleet, repo: Repo, sealed: &[u8]) -> Result<RepoSpec, OrderError> {
    let plain = fleet.inner.vault.open_sealed(&seal_identity(repo.id), sealed)?;
    let secrets: RepoSecrets = serde_json::from_slice(&plain).map_err(|_| OrderError::Secrets)?;
    Ok(RepoSpec {
        id: repo.id,
        url: repo.url,
        password: secrets.password,
        username: repo.username,
        auth_password: secrets.auth_password,
        env: secrets.env.into_iter().collect::<BTreeMap<_, _>>(),
        tls_ca_pem: repo.tls_ca_pem,
        init: repo.init,
    })
}

pub(super) fn plan_spec(plan: Plan) -> PlanSpec {
    PlanSpec { id: plan.id, name: plan.name, paths: plan.paths, excludes: plan.excludes, options: plan.options }
}
