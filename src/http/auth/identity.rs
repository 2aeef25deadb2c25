//! From a cookie or a bearer token to an account. What the store said is remembered for a second (the command line may close an account while the
//! server runs), and forgotten at once when an account changes here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};

use super::{CurrentUser, SESSION_COOKIE, Via};
use crate::{
    credential::{self, TokenHash},
    domain::{Timestamp, token::ApiToken, user::User},
    http::{AppState, HttpError},
    store::{sessions, tokens},
};

/// How long an answer of the store is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Identities that are remembered at most.
const CAPACITY: usize = 10_000;
/// Seconds between two notes of a token's use.
const TOUCH_S: i64 = 600;

/// Who was checked a moment ago.
#[derive(Default)]
pub struct Identities {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<TokenHash, Entry>,
    /// Rises whenever something is forgotten: an answer that was asked for before must not be remembered after.
    generation: u64,
}

struct Entry {
    user: CurrentUser,
    expires_at: Option<Timestamp>,
    checked: Instant,
}

impl Identities {
    /// Forgets everyone: an account, a session or a token changed. Call it after the change is on disk.
    pub fn forget_all(&self) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.generation += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, hash: &TokenHash, now: Timestamp) -> Result<(CurrentUser, Option<Timestamp>), u64> {
        let inner = self.lock();
        match inner.entries.get(hash) {
            Some(entry) if entry.checked.elapsed() < BELIEVED && entry.expires_at.is_none_or(|end| end > now) => {
                Ok((entry.user.clone(), entry.expires_at))
            }
            _ => Err(inner.generation),
        }
    }

    fn put(&self, hash: TokenHash, user: CurrentUser, expires_at: Option<Timestamp>, generation: u64) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        if inner.entries.len() >= CAPACITY {
            inner.entries.clear();
        }
        inner.entries.insert(hash, Entry { user, expires_at, checked: Instant::now() });
    }
}

/// Who asks, and the session that is to be renewed.
pub(super) struct Resolved {
    pub(super) user: CurrentUser,
    pub(super) renew: Option<TokenHash>,
}

/// Who asks; `None` for nobody that is known.
pub(super) async fn resolve(state: &AppState, headers: &HeaderMap) -> Result<Option<Resolved>, HttpError> {
    let now = state.clock.now();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let Some(token) = bearer(value.as_bytes()) else { return Ok(None) };
        return by_token(state, token, now).await;
    }
    match cookie(headers) {
        Some(secret) => by_session(state, secret, now).await,
        None => Ok(None),
    }
}

fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The secret of the session cookie.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, secret)| secret)
}

async fn by_session(state: &AppState, secret: &str, now: Timestamp) -> Result<Option<Resolved>, HttpError> {
    let hash = credential::hash(secret);
    let (user, expires_at) = match state.identities.get(&hash, now) {
        Ok(known) => known,
        Err(generation) => {
            let found = state.store.read(move |db| sessions::find(db, hash)).await?;
            let Some((user, expires_at)) = found.filter(|(user, end)| !user.disabled && *end > now) else {
                return Ok(None);
            };
            let user = session_user(&user, hash, secret);
            state.identities.put(hash, user.clone(), Some(expires_at), generation);
            (user, Some(expires_at))
        }
    };
    let renew = expires_at.is_some_and(|end| end < now.plus_s(super::login::RENEW_BELOW_S)).then_some(hash);
    Ok(Some(Resolved { user, renew }))
}

fn session_user(user: &User, hash: TokenHash, secret: &str) -> CurrentUser {
    let csrf = credential::derived("csrf", secret).into();
    CurrentUser { id: user.id, name: Arc::from(user.name.as_str()), role: user.role, via: Via::Session { hash, csrf } }
}

async fn by_token(state: &AppState, token: &str, now: Timestamp) -> Result<Option<Resolved>, HttpError> {
    let hash = credential::hash(token);
    let user = match state.identities.get(&hash, now) {
        Ok((user, _)) => user,
        Err(generation) => {
            let found = state.store.read(move |db| tokens::find(db, hash)).await?;
            let alive =
                |(token, user): &(ApiToken, User)| !user.disabled && token.expires_at.is_none_or(|end| end > now);
            let Some((token, user)) = found.filter(alive) else { return Ok(None) };
            note_use(state, &token, now);
            let role = token.role.min(user.role);
            let (name, via) = (Arc::from(user.name.as_str()), Via::Token(token.id));
            let user = CurrentUser { id: user.id, name, role, via };
            state.identities.put(hash, user.clone(), token.expires_at, generation);
            user
        }
    };
    Ok(Some(Resolved { user, renew: None }))
}

/// Notes that a token is used, beside the request: nobody waits for a disk to learn who they are.
fn note_use(state: &AppState, token: &ApiToken, now: Timestamp) {
    if token.last_used_at.is_some_and(|at| at.plus_s(TOUCH_S) > now) {
        return;
    }
    let (store, id) = (state.store.clone(), token.id);
    state.tasks.spawn(async move {
        if let Err(e) = store.write(move |tx| tokens::touch(tx, id)).await {
            tracing::warn!(error = %e, token.id = %id, "the use of a token could not be noted");
        }
    });
}
