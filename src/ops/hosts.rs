//! Parting with hosts: taking an agent's identity away, removing a host. What a host has and is called is changed by [`super::facets`].

use crate::{
    credential::CredentialError,
    domain::{
        FieldError, HostId, JobStatus,
        facet::declared_where,
        host::Host,
        job::{Actor, End},
        queue::{OpenJob, Stage},
    },
    ops::{facets::forget, probes},
    store::{Store, StoreError, WriteTx, audit, facets, hosts, jobs},
    vault::VaultError,
};

/// Why a host was not changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Fields that do not do.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldError>),
    /// No such host.
    #[error("there is no such host")]
    NoSuchHost,
    /// It is the control plane's own agent.
    #[error(
        "this is the control plane's own agent, which belongs to the server: it can't be renamed, revoked or removed; `[own_agent] enabled = false` in the configuration stops it"
    )]
    Own,
    /// What lets commands run on a host is an administrator's to change.
    #[error(
        "SSH access, management interface, restart command, container and whether a host is opened let commands run on it: an administrator has to set them"
    )]
    AdminsOnly,
    /// The configuration declares it, under this key.
    #[error("this host is declared in {}: change it there and restart the server", declared_where(.0))]
    Declared(String),
    /// The configuration declares its host key.
    #[error("the host key of this host is declared in {}: change it there and restart the server", declared_where(.0))]
    KeyDeclared(String),
    /// Secrets can't be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No id could be made.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn summary(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect::<Vec<_>>().join("; ")
}

/// A host of the fleet.
pub(super) fn of_fleet(tx: &WriteTx<'_>, id: HostId) -> Result<Host, HostError> {
    let host = hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
    if host.own { Err(HostError::Own) } else { Ok(host) }
}

/// Takes an agent's identity away, cancels what waits for it and gives up what it has as lost; its connection is closed, and it does not come back until
/// enrolled again. Returns the host as it is then.
///
/// # Errors
/// [`HostError::NoSuchHost`], or a failure.
pub async fn revoke(store: &Store, actor: Actor, id: HostId) -> Result<Host, HostError> {
    store
        .write(move |tx| {
            let host = of_fleet(tx, id)?;
            if hosts::revoke(tx, id)? {
                let_go(tx, id, &format!("the identity of {}'s agent was revoked", host.name))?;
                audit::record(tx, &actor, "host.revoke", &id.to_string(), "")?;
            }
            hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)
        })
        .await
}

/// Removes a host from all lists, takes its identity away, cancels what waits for it and gives up what it has as lost; the keys that are kept of
/// it are erased. Its jobs and its snapshots stay.
///
/// # Errors
/// [`HostError::NoSuchHost`], [`HostError::Declared`], or a failure.
pub async fn remove(store: &Store, actor: Actor, id: HostId) -> Result<(), HostError> {
    store
        .write(move |tx| {
            let host = of_fleet(tx, id)?;
            if let Some(key) = facets::of(tx.db(), id)?.declared {
                return Err(HostError::Declared(key));
            }
            let_go(tx, id, &format!("its host {} was removed", host.name))?;
            call_off(tx, &host)?;
            probes::let_go(tx, id)?;
            forget(tx, id)?;
            hosts::remove(tx, id)?;
            audit::record(tx, &actor, "host.remove", &id.to_string(), &host.name)?;
            Ok(())
        })
        .await
}

/// Ends what waits to be run for a host by the control plane's own agent, and asks what runs to stop: that agent reports how it ended.
fn call_off(tx: &mut WriteTx<'_>, host: &Host) -> Result<(), StoreError> {
    let about = |job: &OpenJob| job.seat == host.id && job.host != host.id;
    for job in jobs::open(tx.db(), tx.now())?.into_iter().filter(about) {
        if job.stage != Stage::Waiting {
            jobs::request_cancel(tx, job.id)?;
            continue;
        }
        let end = End {
            status: JobStatus::Cancelled,
            at: tx.now(),
            exit_code: None,
            error: Some(format!("{} was removed before the job could run: nothing was done there", host.name)),
            summary: None,
            log_truncated: false,
        };
        jobs::finish(tx, job.id, job.host, &end, None)?;
    }
    Ok(())
}

/// Ends what is open on a host whose agent can never report again: what it was not sent is cancelled, what it may have, or has, is lost. Nothing of it holds
/// a repository any more: what restic may still do there holds restic's own lock. `what` says what became of the host.
fn let_go(tx: &mut WriteTx<'_>, host: HostId, what: &str) -> Result<(), StoreError> {
    for job in jobs::open(tx.db(), tx.now())?.into_iter().filter(|job| job.host == host) {
        let unknown = match job.stage {
            Stage::Waiting => {
                jobs::request_cancel(tx, job.id)?;
                continue;
            }
            Stage::Sent(_) => {
                "after the order was sent and before its agent said that it has it: whether the job began is unknown"
            }
            Stage::Taken => "while its agent had the job: whether and how it ended is unknown",
        };
        let text = format!(
            "{what} {unknown}, for that agent can report nothing any more. If restic still runs there, it goes on, and holds its own lock in the \
             repository: to be sure, stop it on the machine"
        );
        let end = End {
            status: JobStatus::Lost,
            at: tx.now(),
            exit_code: None,
            error: Some(text),
            summary: None,
            log_truncated: false,
        };
        jobs::finish(tx, job.id, host, &end, None)?;
    }
    Ok(())
}
