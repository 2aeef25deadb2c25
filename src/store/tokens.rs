//! API tokens in the store: only their hashes, whose they are, what they may do, and until when.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    credential::TokenHash,
    domain::{TokenId, UserId, token::ApiToken, user::User},
    store::{
        StoreError, WriteTx,
        rows::{parsed, time, time_opt},
        users,
    },
};

fn from_row(row: &Row<'_>) -> rusqlite::Result<ApiToken> {
    Ok(ApiToken {
        id: parsed(row, "id")?,
        user_id: parsed(row, "user_id")?,
        label: row.get("label")?,
        role: parsed(row, "role")?,
        created_at: time(row, "created_at")?,
        expires_at: time_opt(row, "expires_at")?,
        last_used_at: time_opt(row, "last_used_at")?,
    })
}

/// Keeps a token's record.
///
/// # Errors
/// [`StoreError`].
pub fn insert(tx: &mut WriteTx<'_>, token: &ApiToken, hash: TokenHash) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO api_tokens (id, hash, user_id, label, role, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            token.id.to_string(),
            hash,
            token.user_id.to_string(),
            token.label,
            token.role.as_str(),
            token.created_at.unix_ms(),
            token.expires_at.map(crate::domain::Timestamp::unix_ms)
        ])?;
    Ok(())
}

/// The token of this hash, and whose it is; whether it is over, or the account closed, is for the caller to see.
///
/// # Errors
/// [`StoreError`].
pub fn find(db: &Connection, hash: TokenHash) -> Result<Option<(ApiToken, User)>, StoreError> {
    let token =
        db.prepare_cached("SELECT * FROM api_tokens WHERE hash = ?1")?.query_row([hash], from_row).optional()?;
    let Some(token) = token else { return Ok(None) };
    Ok(users::lookup(db, token.user_id)?.map(|user| (token, user)))
}

/// A token's record.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: TokenId) -> Result<Option<ApiToken>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM api_tokens WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Tokens, of one user or of all, newest first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, user: Option<UserId>) -> Result<Vec<ApiToken>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT * FROM api_tokens WHERE ?1 IS NULL OR user_id = ?1 ORDER BY id DESC")?;
    Ok(statement.query_map([user.map(|id| id.to_string())], from_row)?.collect::<Result<_, _>>()?)
}

/// Notes a use.
///
/// # Errors
/// [`StoreError`].
pub fn touch(tx: &mut WriteTx<'_>, id: TokenId) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE api_tokens SET last_used_at = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), tx.now().unix_ms()])?;
    Ok(())
}

/// Takes a token away. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn remove(tx: &mut WriteTx<'_>, id: TokenId) -> Result<bool, StoreError> {
    Ok(tx.db().prepare_cached("DELETE FROM api_tokens WHERE id = ?1")?.execute([id.to_string()])? > 0)
}

/// Takes all tokens of a user away.
///
/// # Errors
/// [`StoreError`].
pub fn remove_of_user(tx: &mut WriteTx<'_>, user: UserId) -> Result<(), StoreError> {
    tx.db().prepare_cached("DELETE FROM api_tokens WHERE user_id = ?1")?.execute([user.to_string()])?;
    Ok(())
}

/// Forgets tokens that ended a day ago or earlier.
///
/// # Errors
/// [`StoreError`].
pub fn purge(tx: &mut WriteTx<'_>) -> Result<usize, StoreError> {
    let before = tx.now().plus_s(-86_400).unix_ms();
    Ok(tx.db().prepare_cached("DELETE FROM api_tokens WHERE expires_at < ?1")?.execute([before])?)
}
