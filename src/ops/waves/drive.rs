//! What goes on by itself: a reconciler without input. Each look reads how the hosts of each wave stand and makes the next move; a restart of the server, a wake-up
//! that comes twice or late change nothing, for a host's job and its place in the wave are one write.

use serde_json::{Map, Value};

use super::choice::of_host;
use crate::{
    domain::{
        WaveId,
        wave::{Action, Tally, Wave, WaveState, next, secrets_identity},
    },
    ops::{
        error::OpError,
        jobs::{Desk, ForMany, JobRequest},
    },
    store::{StoreError, waves},
};

/// Makes the next moves of all waves that go on. One that can't be driven on stays as it is until the next look, and the log says so. Returns how many go on.
///
/// # Errors
/// [`StoreError`] where the waves can't be read.
pub async fn drive(desk: &Desk) -> Result<usize, StoreError> {
    let open = desk.store.read(waves::open).await?;
    for id in &open {
        if let Err(e) = advance(desk, *id).await {
            tracing::warn!(wave.id = %id, error = %e, "a wave could not be driven on; trying again");
        }
    }
    Ok(open.len())
}

/// Moves one wave on until it waits for something, or is over.
async fn advance(desk: &Desk, id: WaveId) -> Result<(), OpError> {
    loop {
        let found = desk
            .store
            .read(move |db| match waves::lookup(db, id)? {
                Some(wave) if !wave.status.is_final() => Ok(Some((wave, waves::standings(db, id)?))),
                _ => Ok::<_, StoreError>(None),
            })
            .await?;
        let Some((wave, hosts)) = found else { return Ok(()) };
        match next(&WaveState { pace: wave.spec.pace, hosts: &hosts, stopped: wave.stop }) {
            Action::Wait => return Ok(()),
            Action::Start(places) => start(desk, wave, places).await?,
            Action::Stop(stop, why) => {
                desk.store.write(move |tx| waves::stop(tx, id, stop, &why)).await?;
            }
            Action::Finish(status) => {
                let tally = Tally::of(&hosts);
                desk.store.write(move |tx| waves::finish(tx, id, (status, wave.stop), tally)).await?;
            }
        }
    }
}

/// The order that a wave gives to each of its hosts.
pub(super) fn order(wave: &Wave) -> JobRequest {
    let params = Some(wave.spec.answers.clone()).filter(|answers| !answers.is_empty());
    JobRequest { params, expires_in_s: Some(wave.spec.expires_in_s), ..JobRequest::of(&wave.kind) }
}

/// The order, with the secret answers that are kept until the wave's end.
async fn whole_order(desk: &Desk, wave: &Wave) -> Result<ForMany, OpError> {
    let mut request = order(wave);
    let id = wave.id;
    if let Some(sealed) = desk.store.read(move |db| waves::sealed_secrets(db, id)).await? {
        let plain = desk.vault.open_sealed(&secrets_identity(id), &sealed)?;
        let secrets: Map<String, Value> = serde_json::from_slice(&plain)
            .map_err(|_| OpError::Conflict("its secret answers do not read: order it again".to_owned()))?;
        request.params.get_or_insert_default().extend(secrets);
    }
    ForMany::with_text(request, &wave.spec.text)
}

/// Makes the jobs of these hosts, all in one write with their places in the wave. What is refused is noted there, with its reason.
async fn start(desk: &Desk, wave: Wave, places: Vec<usize>) -> Result<(), OpError> {
    let order = match whole_order(desk, &wave).await {
        Err(OpError::Store(e)) => return Err(e.into()),
        other => other,
    };
    let at = desk.clone();
    desk.store
        .write(move |tx| {
            // It may have been stopped since it was looked at.
            if waves::lookup(tx.db(), wave.id)?.is_none_or(|now| now.status.is_final() || now.stop.is_some()) {
                return Ok(());
            }
            for (position, host) in waves::untouched(tx.db(), wave.id, &places)? {
                let placed = match &order {
                    Ok(order) => order.place(tx, &at, &wave.actor, host),
                    Err(e) => Err(OpError::Conflict(format!("the wave can't be gone on with: {e}"))),
                };
                match placed {
                    Ok(job) => waves::set_job(tx, wave.id, position, job)?,
                    Err(e) => waves::refuse(tx, wave.id, position, &refusal(e)?)?,
                }
            }
            Ok(())
        })
        .await
}

/// Why a host gets no job; a failure of the store is none of its own.
fn refusal(e: OpError) -> Result<String, OpError> {
    match of_host(e) {
        Err(OpError::Invalid(errors)) => Ok(OpError::Invalid(errors).to_string()),
        other => other,
    }
}
