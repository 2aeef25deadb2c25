//! Single values of the installation by key, such as the hash of the setup token.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{StoreError, WriteTx};

/// The value of a key.
///
/// # Errors
/// [`StoreError`].
pub fn get(db: &Connection, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}

/// Sets a key.
///
/// # Errors
/// [`StoreError`].
pub fn put(tx: &mut WriteTx<'_>, key: &str, value: &[u8]) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?
        .execute(params![key, value])?;
    Ok(())
}

/// Forgets a key.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, key: &str) -> Result<(), StoreError> {
    tx.db().prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key])?;
    Ok(())
}
