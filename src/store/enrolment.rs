//! Enrolment tokens in the store: only their hashes, how often they may still be used, and until when.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{TokenId, token::EnrolToken},
    store::{
        StoreError, WriteTx,
        rows::{json, parsed, time, to_json},
    },
};

fn from_row(row: &Row<'_>) -> rusqlite::Result<EnrolToken> {
    Ok(EnrolToken {
        id: parsed(row, "id")?,
        host_name: row.get("host_name")?,
        tags: json(row, "tags")?,
        uses_left: row.get("uses_left")?,
        created_at: time(row, "created_at")?,
        expires_at: time(row, "expires_at")?,
    })
}

/// Keeps a token's record.
///
/// # Errors
/// [`StoreError`].
pub fn insert(tx: &mut WriteTx<'_>, token: &EnrolToken, hash: [u8; 32], created_by: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO enrol_tokens (id, hash, host_name, tags, uses_left, created_by, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            token.id.to_string(),
            hash,
            token.host_name,
            to_json(&token.tags)?,
            token.uses_left,
            created_by,
            token.created_at.unix_ms(),
            token.expires_at.unix_ms()
        ])?;
    Ok(())
}

/// Uses a token up by one and returns its record; `None` where it is unknown, used up or expired, which the caller must not tell apart.
///
/// # Errors
/// [`StoreError`].
pub fn redeem(tx: &mut WriteTx<'_>, hash: [u8; 32]) -> Result<Option<EnrolToken>, StoreError> {
    let mut statement = tx.db().prepare_cached(
        "UPDATE enrol_tokens SET uses_left = uses_left - 1 WHERE hash = ?1 AND uses_left > 0 AND expires_at > ?2 RETURNING *",
    )?;
    Ok(statement.query_row(params![hash, tx.now().unix_ms()], from_row).optional()?)
}

/// A token's record.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: TokenId) -> Result<Option<EnrolToken>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM enrol_tokens WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Forgets tokens that ended a day ago or earlier.
///
/// # Errors
/// [`StoreError`].
pub fn purge(tx: &mut WriteTx<'_>) -> Result<usize, StoreError> {
    let before = tx.now().plus_s(-86_400).unix_ms();
    Ok(tx.db().prepare_cached("DELETE FROM enrol_tokens WHERE expires_at < ?1")?.execute([before])?)
}
