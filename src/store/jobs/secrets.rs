//! Secret answers of jobs, sealed. They are there from the order to the job's end and no longer: `ends` empties them with the end.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    domain::JobId,
    store::{StoreError, WriteTx},
};

/// Keeps a job's secret answers, sealed under [`crate::domain::job::secrets_identity`].
///
/// # Errors
/// [`StoreError`].
pub fn keep_secrets(tx: &mut WriteTx<'_>, id: JobId, sealed: &[u8]) -> Result<(), StoreError> {
    tx.db().prepare_cached("UPDATE jobs SET secrets = ?2 WHERE id = ?1")?.execute(params![id.to_string(), sealed])?;
    Ok(())
}

/// A job's secret answers, sealed; none where it has none, or is over.
///
/// # Errors
/// [`StoreError`].
pub fn sealed_secrets(db: &Connection, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = db.prepare_cached("SELECT secrets FROM jobs WHERE id = ?1")?;
    let sealed: Option<Option<Vec<u8>>> = statement.query_row([id.to_string()], |row| row.get(0)).optional()?;
    Ok(sealed.flatten())
}
