//! Log-in and log-out: the moves that both pages and API share. An unknown name and a wrong password take the same work and get the same answer.

use std::{net::IpAddr, time::Instant};

use axum::http::{HeaderMap, HeaderValue};

use super::{
    SESSION_COOKIE, identity,
    throttle::{account_key, address_key},
};
use crate::{
    credential::{self, CredentialError, TokenHash},
    domain::{
        Secret,
        job::{Actor, ActorKind},
        user::User,
    },
    http::{AppState, CurrentUser, HttpError},
    ops::accounts,
    store::{StoreError, audit, sessions, users},
};

/// Seconds that a session lives without being used.
const SESSION_S: i64 = 14 * 86_400;
/// A session with less left than this is renewed: at most one write a day.
pub(super) const RENEW_BELOW_S: i64 = 13 * 86_400;

/// Why a log-in was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Name or password is wrong, or the account closed: which one is not told.
    #[error("name or password is not right")]
    Refused,
    /// Too many failures: wait so many seconds.
    #[error("too many failed attempts: try again in {0} s")]
    Throttled(u64),
    /// Something failed.
    #[error("the log-in could not be checked")]
    Failed(HttpError),
}

impl From<HttpError> for LoginError {
    fn from(e: HttpError) -> Self {
        Self::Failed(e)
    }
}

impl From<StoreError> for LoginError {
    fn from(e: StoreError) -> Self {
        Self::Failed(e.into())
    }
}

impl From<LoginError> for HttpError {
    fn from(e: LoginError) -> Self {
        match e {
            LoginError::Refused => Self::unauthenticated("Name or password is not right."),
            LoginError::Throttled(wait) => {
                Self::too_many(wait, format!("Too many failed attempts: try again in {wait} s."))
            }
            LoginError::Failed(e) => e,
        }
    }
}

/// Checks name and password and starts a session. Returns the account and the `Set-Cookie` header.
///
/// # Errors
/// [`LoginError`].
pub async fn log_in(
    state: &AppState,
    from: IpAddr,
    name: &str,
    password: Secret,
) -> Result<(User, HeaderValue), LoginError> {
    let (account, address) = (account_key(name), address_key(from));
    let now = Instant::now();
    let throttles = &state.throttles;
    let throttled = |wait: std::time::Duration| LoginError::Throttled(wait.as_secs() + 1);
    throttles.addresses.attempt(address, now).map_err(throttled)?;
    throttles.accounts.attempt(account, now).map_err(throttled)?;
    let wanted = name.trim().to_owned();
    let known = state
        .store
        .read(move |db| {
            let Some(user) = users::find_by_name(db, &wanted)? else { return Ok(None) };
            let hash = users::password_hash(db, user.id)?;
            Ok::<_, StoreError>(Some((user, hash)))
        })
        .await?;
    let (user, kept) = known.map_or((None, None), |(user, hash)| (Some(user), hash));
    let right = match state.passwords.verify(password, kept).await {
        Err(CredentialError::Busy) => return Err(LoginError::Throttled(2)),
        other => other.map_err(HttpError::from)?,
    };
    match user.filter(|user| right && !user.disabled) {
        Some(user) => {
            throttles.accounts.succeeded(account);
            throttles.addresses.succeeded(address);
            let cookie = start_session(state, &user).await?;
            Ok((user, cookie))
        }
        None => {
            note_failure(state, from).await;
            Err(LoginError::Refused)
        }
    }
}

/// A failed log-in stands in the audit trail with its address; not with the name, which may be a password typed into the wrong field.
async fn note_failure(state: &AppState, from: IpAddr) {
    let noted = state
        .store
        .write(move |tx| audit::record(tx, &Actor::system(), "login.failed", "", &format!("from {from}")))
        .await;
    if let Err(e) = noted {
        tracing::warn!(error = %e, "a failed log-in could not be noted");
    }
}

/// Starts a session for someone who has proved who they are: by password, or by the setup token just now. Returns the `Set-Cookie` header.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn start_session(state: &AppState, user: &User) -> Result<HeaderValue, HttpError> {
    let secret = credential::new_token("")?;
    let hash = credential::hash(secret.expose());
    let actor = Actor { kind: ActorKind::User, id: user.id.to_string(), name: user.name.clone() };
    let id = user.id;
    state
        .store
        .write(move |tx| {
            sessions::purge(tx)?;
            sessions::insert(tx, hash, id, tx.now().plus_s(SESSION_S))?;
            audit::record(tx, &actor, "login", &id.to_string(), "")
        })
        .await?;
    session_cookie(state, secret.expose(), SESSION_S)
}

/// Ends the session that asks. Returns the `Set-Cookie` header that makes the browser forget it.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn log_out(state: &AppState, user: &CurrentUser) -> Result<HeaderValue, HttpError> {
    if let Some(hash) = user.session() {
        state.store.write(move |tx| sessions::remove(tx, hash)).await?;
        state.identities.forget_all();
    }
    clear_cookie(state)
}

/// Changes one's own password. Whoever holds a session must not guess the password with it: attempts count like log-ins.
///
/// # Errors
/// 422 where the current password is wrong or the new one does not do; 429 for one who guesses.
pub async fn change_password(
    state: &AppState,
    user: &CurrentUser,
    current: Secret,
    new: Secret,
) -> Result<(), HttpError> {
    let key = account_key(&user.name);
    let throttle = &state.throttles.accounts;
    throttle.attempt(key, Instant::now()).map_err(|wait| LoginError::Throttled(wait.as_secs() + 1))?;
    let who = (user.actor(), user.id);
    accounts::change_password(&state.store, &state.passwords, who, (current, new), user.session()).await?;
    throttle.succeeded(key);
    state.identities.forget_all();
    Ok(())
}

/// The `Set-Cookie` header that makes a browser forget its session.
///
/// # Errors
/// None in practice: the value is plain ASCII.
pub fn clear_cookie(state: &AppState) -> Result<HeaderValue, HttpError> {
    session_cookie(state, "", 0)
}

/// Gives a session its full life again, on disk and in the browser.
pub(super) async fn renew(
    state: &AppState,
    hash: TokenHash,
    headers: &HeaderMap,
) -> Result<Option<HeaderValue>, HttpError> {
    let Some(secret) = identity::cookie(headers) else { return Ok(None) };
    state.store.write(move |tx| sessions::extend(tx, hash, tx.now().plus_s(SESSION_S))).await?;
    state.identities.forget_all();
    session_cookie(state, secret, SESSION_S).map(Some)
}

fn session_cookie(state: &AppState, secret: &str, max_age_s: i64) -> Result<HeaderValue, HttpError> {
    let secure = if state.settings.secure_cookies { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={secret}; HttpOnly; SameSite=Lax; Path=/; Max-Age={max_age_s}{secure}");
    let mut value = HeaderValue::try_from(text).map_err(HttpError::internal)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where to go after the log-in: a path of this server, whatever `next` says.
#[must_use]
pub fn safe_next(next: &str) -> &str {
    let local = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n', '\t', '\0']);
    if local && next.is_ascii() { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::safe_next;

    #[test]
    fn a_log_in_leads_to_this_server_only() {
        assert_eq!(safe_next("/jobs?status=failed"), "/jobs?status=failed");
        for foreign in
            ["", "https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/\t/evil.example"]
        {
            assert_eq!(safe_next(foreign), "/", "{foreign:?}");
        }
    }
}
