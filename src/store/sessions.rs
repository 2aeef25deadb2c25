//! Browser sessions in the store: only the hash of the cookie's secret, whose it is, and until when.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{
    credential::TokenHash,
    domain::{Timestamp, UserId, user::User},
    store::{StoreError, WriteTx, rows::time, users},
};

/// Keeps a session.
///
/// # Errors
/// [`StoreError`].
pub fn insert(tx: &mut WriteTx<'_>, hash: TokenHash, user: UserId, expires_at: Timestamp) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("INSERT INTO sessions (hash, user_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![hash, user.to_string(), tx.now().unix_ms(), expires_at.unix_ms()])?;
    Ok(())
}

/// Whose session it is, and until when; whether it is over, or the account closed, is for the caller to see.
///
/// # Errors
/// [`StoreError`].
pub fn find(db: &Connection, hash: TokenHash) -> Result<Option<(User, Timestamp)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT u.*, s.expires_at FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.hash = ?1",
    )?;
    Ok(statement.query_row([hash], |row| Ok((users::from_row(row)?, time(row, "expires_at")?))).optional()?)
}

/// Moves a session's end.
///
/// # Errors
/// [`StoreError`].
pub fn extend(tx: &mut WriteTx<'_>, hash: TokenHash, expires_at: Timestamp) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE sessions SET expires_at = ?2 WHERE hash = ?1")?
        .execute(params![hash, expires_at.unix_ms()])?;
    Ok(())
}

/// Ends a session.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, hash: TokenHash) -> Result<(), StoreError> {
    tx.db().prepare_cached("DELETE FROM sessions WHERE hash = ?1")?.execute([hash])?;
    Ok(())
}

/// Ends all sessions of a user, but for `keep`.
///
/// # Errors
/// [`StoreError`].
pub fn remove_of_user(tx: &mut WriteTx<'_>, user: UserId, keep: Option<TokenHash>) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("DELETE FROM sessions WHERE user_id = ?1 AND (?2 IS NULL OR hash <> ?2)")?
        .execute(params![user.to_string(), keep])?;
    Ok(())
}

/// Forgets sessions that are over.
///
/// # Errors
/// [`StoreError`].
pub fn purge(tx: &mut WriteTx<'_>) -> Result<usize, StoreError> {
    Ok(tx.db().prepare_cached("DELETE FROM sessions WHERE expires_at <= ?1")?.execute([tx.now().unix_ms()])?)
}
