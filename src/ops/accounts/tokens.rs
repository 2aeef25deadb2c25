//! API tokens: for scripts, with a role of their own that is never more than their account's. Shown once, kept as a hash.

use crate::{
    credential,
    domain::{Secret, Timestamp, TokenId, UserId, check_name, job::Actor, token::ApiToken, user::Role},
    ops::accounts::AccountError,
    store::{Store, StoreError, audit, tokens, users},
};

/// Seconds of ten years: a token that should live longer should not end at all.
const LONGEST_S: i64 = 10 * 366 * 86_400;

/// A token that is to be made.
#[derive(Debug)]
pub struct NewToken {
    /// Whose it is.
    pub user_id: UserId,
    /// What it is for.
    pub label: String,
    /// What it may do; the account's role where absent.
    pub role: Option<Role>,
    /// Seconds until it ends; `None` for never.
    pub ttl_s: Option<i64>,
}

/// Makes a token; the secret is never seen again.
///
/// # Errors
/// [`AccountError::NoSuchUser`], [`AccountError::Disabled`], [`AccountError::RoleTooHigh`], [`AccountError::BadLabel`],
/// [`AccountError::BadExpiry`], or a failure.
pub async fn create_token(store: &Store, actor: Actor, new: NewToken) -> Result<(ApiToken, Secret), AccountError> {
    let label = check_name(&new.label).map_err(AccountError::BadLabel)?;
    if new.ttl_s.is_some_and(|ttl| !(1..=LONGEST_S).contains(&ttl)) {
        return Err(AccountError::BadExpiry);
    }
    let secret = credential::new_token(credential::API_PREFIX)?;
    let (hash, random) = (credential::hash(secret.expose()), credential::random_bits()?);
    let token = store
        .write(move |tx| {
            let user = users::lookup(tx.db(), new.user_id)?.ok_or(AccountError::NoSuchUser)?;
            if user.disabled {
                return Err(AccountError::Disabled);
            }
            let role = new.role.unwrap_or(user.role);
            if role > user.role {
                return Err(AccountError::RoleTooHigh(user.role));
            }
            let now: Timestamp = tx.now();
            let token = ApiToken {
                id: TokenId::from_parts(now.unix_ms().unsigned_abs(), random),
                user_id: user.id,
                label,
                role,
                created_at: now,
                expires_at: new.ttl_s.map(|ttl| now.plus_s(ttl)),
                last_used_at: None,
            };
            tokens::insert(tx, &token, hash)?;
            let detail = format!("{} for {} as {role}", token.label, user.name);
            audit::record(tx, &actor, "token.create", &token.id.to_string(), &detail)?;
            Ok(token)
        })
        .await?;
    Ok((token, secret))
}

/// Tokens, of one user or of all, newest first.
///
/// # Errors
/// [`StoreError`].
pub async fn list_tokens(store: &Store, user: Option<UserId>) -> Result<Vec<ApiToken>, StoreError> {
    store.read(move |db| tokens::list(db, user)).await
}

/// Takes a token away. With `owner` only if it is theirs. Returns whether there was one.
///
/// # Errors
/// [`StoreError`].
pub async fn revoke_token(store: &Store, actor: Actor, id: TokenId, owner: Option<UserId>) -> Result<bool, StoreError> {
    store
        .write(move |tx| {
            let Some(token) = tokens::lookup(tx.db(), id)? else { return Ok(false) };
            if owner.is_some_and(|owner| owner != token.user_id) {
                return Ok(false);
            }
            audit::record(tx, &actor, "token.revoke", &id.to_string(), &token.label)?;
            tokens::remove(tx, id)
        })
        .await
}
