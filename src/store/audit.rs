//! The audit trail: who did what to what, when. Written in the same transaction as the deed; never holds a secret.

use rusqlite::params;

use crate::{
    domain::job::Actor,
    store::{StoreError, WriteTx},
};

/// Notes a deed. `action` is `object.verb`, such as `job.create`; `detail` is for people.
///
/// # Errors
/// [`StoreError`].
pub fn record(tx: &mut WriteTx<'_>, actor: &Actor, action: &str, object: &str, detail: &str) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "INSERT INTO audit (at, actor_kind, actor_id, actor_name, action, object, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![tx.now().unix_ms(), actor.kind.as_str(), actor.id, actor.name, action, object, detail])?;
    Ok(())
}
