//! Accounts in the store. Accounts are closed, never deleted, so that the audit trail keeps its names.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    domain::{
        UserId,
        user::{Role, User},
    },
    store::{
        StoreError, WriteTx,
        rows::{parsed, time},
    },
};

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: parsed(row, "id")?,
        name: row.get("name")?,
        role: parsed(row, "role")?,
        disabled: row.get("disabled")?,
        created_at: time(row, "created_at")?,
    })
}

/// Adds an account.
///
/// # Errors
/// [`StoreError`]; [`StoreError::is_conflict`] where the name is taken.
pub fn insert(tx: &mut WriteTx<'_>, user: &User, password_hash: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO users (id, name, role, password_hash, disabled, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            user.id.to_string(),
            user.name,
            user.role.as_str(),
            password_hash,
            user.disabled,
            user.created_at.unix_ms()
        ])?;
    Ok(())
}

/// An account by its id.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: UserId) -> Result<Option<User>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM users WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// An account by its name, without regard to case.
///
/// # Errors
/// [`StoreError`].
pub fn find_by_name(db: &Connection, name: &str) -> Result<Option<User>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM users WHERE name = ?1")?;
    Ok(statement.query_row([name], from_row).optional()?)
}

/// What is kept of an account's password.
///
/// # Errors
/// [`StoreError`].
pub fn password_hash(db: &Connection, id: UserId) -> Result<Option<String>, StoreError> {
    let mut statement = db.prepare_cached("SELECT password_hash FROM users WHERE id = ?1")?;
    Ok(statement.query_row([id.to_string()], |row| row.get(0)).optional()?)
}

/// All accounts, by name. There are few: people, not machines.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection) -> Result<Vec<User>, StoreError> {
    let mut statement = db.prepare_cached("SELECT * FROM users ORDER BY name, id")?;
    Ok(statement.query_map([], from_row)?.collect::<Result<_, _>>()?)
}

/// Whether there is any account.
///
/// # Errors
/// [`StoreError`].
pub fn any(db: &Connection) -> Result<bool, StoreError> {
    Ok(db.prepare_cached("SELECT 1 FROM users LIMIT 1")?.exists([])?)
}

/// Whether an account other than `id` is an open administrator's.
///
/// # Errors
/// [`StoreError`].
pub fn another_admin(db: &Connection, id: UserId) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT 1 FROM users WHERE role = 'admin' AND disabled = 0 AND id <> ?1")?;
    Ok(statement.exists([id.to_string()])?)
}

/// Sets a password.
///
/// # Errors
/// [`StoreError`].
pub fn set_password(tx: &mut WriteTx<'_>, id: UserId, password_hash: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached("UPDATE users SET password_hash = ?2 WHERE id = ?1")?
        .execute(params![id.to_string(), password_hash])?;
    Ok(())
}

/// Sets what someone may do, and whether the account is closed.
///
/// # Errors
/// [`StoreError`].
pub fn set_standing(tx: &mut WriteTx<'_>, id: UserId, role: Role, disabled: bool) -> Result<(), StoreError> {
    tx.db().prepare_cached("UPDATE users SET role = ?2, disabled = ?3 WHERE id = ?1")?.execute(params![
        id.to_string(),
        role.as_str(),
        disabled
    ])?;
    Ok(())
}
