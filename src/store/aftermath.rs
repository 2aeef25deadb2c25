//! What comes after a restart's end, in the store: begun in the transaction that notes the end, so that nobody sees a restart that is over and is not waited for.

use rusqlite::{Connection, params};

use crate::{
    domain::{
        HostId, JobId, Timestamp,
        aftermath::{Aftermath, RESTART},
        event::Event,
        job::JobNo,
    },
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, to_json},
    },
};

/// Begins to wait for the health of the host that a restart was about, where that ended well. To be called as its end is noted.
///
/// # Errors
/// [`StoreError`].
pub(super) fn begin(tx: &mut WriteTx<'_>, job: JobNo) -> Result<(), StoreError> {
    let aftermath = to_json(&Aftermath::waiting(tx.now()))?;
    tx.db()
        .prepare_cached(
            "UPDATE jobs SET aftermath = ?2 WHERE no = ?1 AND kind = ?3 AND status IN ('succeeded', 'warning')",
        )?
        .execute(params![job.0, aftermath, RESTART])?;
    Ok(())
}

/// A restart whose aftermath is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its job.
    pub job: JobId,
    /// The host that it was about.
    pub host: HostId,
    /// When its end was noted.
    pub since: Timestamp,
    /// When it is given up.
    pub deadline: Timestamp,
}

/// All of them, the oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn waiting(db: &Connection) -> Result<Vec<Waiting>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, coalesce(about_id, host_id) AS host, aftermath FROM jobs WHERE aftermath ->> '$.state' = 'waiting' ORDER BY no",
    )?;
    let rows = statement.query_map([], |row| {
        let Aftermath::Waiting { since, deadline } = json(row, "aftermath")? else { return Ok(None) };
        Ok(Some(Waiting { job: parsed(row, "id")?, host: parsed(row, "host")?, since, deadline }))
    })?;
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

/// Notes what came. Returns whether it was waited for.
///
/// # Errors
/// [`StoreError`].
pub fn settle(tx: &mut WriteTx<'_>, job: JobId, aftermath: &Aftermath) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached("UPDATE jobs SET aftermath = ?2 WHERE id = ?1 AND aftermath ->> '$.state' = 'waiting'")?
        .execute(params![job.to_string(), to_json(aftermath)?])?;
    if changed > 0 {
        // Whoever waits for ends looks again.
        tx.publish(Event::Queue);
    }
    Ok(changed > 0)
}
