//! Changing hosts: name and tags, taking an agent's identity away, removing a host.

use crate::{
    domain::{FieldError, HostId, JobStatus, check_name, host::Host, job::Actor},
    ops::enrol::check_tags,
    store::{
        Store, StoreError, WriteTx, audit, hosts,
        jobs::{self, JobFilter},
    },
};

/// Why a host was not changed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Fields that do not do.
    #[error("some fields are not right")]
    Invalid(Vec<FieldError>),
    /// No such host.
    #[error("there is no such host")]
    NoSuchHost,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes name and tags; `None` leaves it. The slug stays: restic finds a host's snapshots by it. Returns the host as it is then.
///
/// # Errors
/// [`HostError`].
pub async fn update(
    store: &Store,
    actor: Actor,
    id: HostId,
    name: Option<String>,
    tags: Option<Vec<String>>,
) -> Result<Host, HostError> {
    let mut errors = Vec::new();
    let name = name.map(|name| check_name(&name)).transpose().unwrap_or_else(|message| {
        errors.push(FieldError::new("name", message));
        None
    });
    let tags = tags.map(|tags| check_tags("tags", &tags)).transpose().unwrap_or_else(|found| {
        errors.extend(found);
        None
    });
    if !errors.is_empty() {
        return Err(HostError::Invalid(errors));
    }
    store
        .write(move |tx| {
            let host = hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
            let host = Host { name: name.unwrap_or(host.name), tags: tags.unwrap_or(host.tags), ..host };
            hosts::update(tx, id, &host.name, &host.tags)?;
            audit::record(tx, &actor, "host.update", &id.to_string(), &host.name)?;
            Ok(host)
        })
        .await
}

/// Takes an agent's identity away and cancels what waits for it; its connection is closed, and it does not come back until enrolled again. Returns the host as it is then.
///
/// # Errors
/// [`HostError::NoSuchHost`], or a failure.
pub async fn revoke(store: &Store, actor: Actor, id: HostId) -> Result<Host, HostError> {
    store
        .write(move |tx| {
            hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
            if hosts::revoke(tx, id)? {
                cancel_waiting(tx, id)?;
                audit::record(tx, &actor, "host.revoke", &id.to_string(), "")?;
            }
            hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)
        })
        .await
}

/// Removes a host from all lists, takes its identity away and cancels what waits for it. Its jobs and its snapshots stay.
///
/// # Errors
/// [`HostError::NoSuchHost`], or a failure.
pub async fn remove(store: &Store, actor: Actor, id: HostId) -> Result<(), HostError> {
    store
        .write(move |tx| {
            let host = hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
            cancel_waiting(tx, id)?;
            hosts::remove(tx, id)?;
            audit::record(tx, &actor, "host.remove", &id.to_string(), &host.name)?;
            Ok(())
        })
        .await
}

/// Cancels what waits for an agent that will not come any more.
fn cancel_waiting(tx: &mut WriteTx<'_>, host: HostId) -> Result<(), StoreError> {
    let waiting =
        JobFilter { host_id: Some(host), status: Some(JobStatus::Queued), limit: 1000, ..JobFilter::default() };
    for job in jobs::list(tx.db(), &waiting)? {
        jobs::request_cancel(tx, job.id)?;
    }
    Ok(())
}
