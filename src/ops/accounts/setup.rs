//! The first administrator: while there is no account, a one-time token (printed at start, kept as a hash) lets whoever runs Flotilla make one.

use crate::{
    credential::{self, Passwords, TokenHash},
    domain::{
        Secret,
        job::Actor,
        user::{Role, User},
    },
    ops::accounts::{AccountError, NewAccount, insert, prepare},
    store::{Store, StoreError, meta, users},
};

const KEY: &str = "setup_token";

/// A fresh setup token while there is no account, `None` once there is one. Earlier ones are void.
///
/// # Errors
/// [`AccountError`] for a failure.
pub async fn setup_link(store: &Store) -> Result<Option<Secret>, AccountError> {
    if store.read(users::any).await? {
        return Ok(None);
    }
    let token = credential::new_token("")?;
    let hash = credential::hash(token.expose());
    store.write(move |tx| meta::put(tx, KEY, &hash)).await?;
    Ok(Some(token))
}

/// Whether a token is the latest one and there is no account yet.
fn fits(kept: Option<Vec<u8>>, hash: TokenHash, any_account: bool) -> bool {
    kept.is_some_and(|kept| credential::same(&kept, &hash)) && !any_account
}

/// Whether a setup token is good now, for the page that asks for name and password.
///
/// # Errors
/// [`StoreError`].
pub async fn setup_token_fits(store: &Store, token: &str) -> Result<bool, StoreError> {
    let hash = credential::hash(token);
    store.read(move |db| Ok(fits(meta::get(db, KEY)?, hash, users::any(db)?))).await
}

/// Makes the first administrator and uses the setup token up.
///
/// # Errors
/// [`AccountError::SetupClosed`], [`AccountError::BadName`], [`AccountError::BadPassword`], or a failure.
pub async fn first_admin(
    store: &Store,
    passwords: &Passwords,
    token: &str,
    name: String,
    password: Secret,
) -> Result<User, AccountError> {
    // Before the hashing, so that strangers can't keep it busy; and again in the transaction, where it counts.
    if !setup_token_fits(store, token).await? {
        return Err(AccountError::SetupClosed);
    }
    let hash = credential::hash(token);
    let prepared = prepare(passwords, NewAccount { name, password, role: Role::Admin }).await?;
    store
        .write(move |tx| {
            if !fits(meta::get(tx.db(), KEY)?, hash, users::any(tx.db())?) {
                return Err(AccountError::SetupClosed);
            }
            let user = insert(tx, &Actor::system(), prepared)?;
            meta::remove(tx, KEY)?;
            Ok(user)
        })
        .await
}
