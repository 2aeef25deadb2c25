//! Who asks, and may they? The guard stands before every handler and enforces its row of the route table: session cookie or bearer token, role,
//! CSRF token, origin. Handlers take the outcome as [`CurrentUser`].
//!
//! A request with an `Authorization` header is judged by it alone; a cookie beside it does not count, and needs no CSRF token then.

mod client;
mod identity;
mod login;
mod origin;
mod throttle;

use std::sync::Arc;

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequestParts, OptionalFromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

pub use client::{ClientAddr, client_addr};
pub use identity::Identities;
pub use login::{LoginError, change_password, clear_cookie, log_in, log_out, safe_next, start_session};
pub use throttle::{Throttle, Throttles, account_key, address_key};

use self::identity::Resolved;
use crate::{
    credential::{self, TokenHash},
    domain::{
        TokenId, UserId,
        job::{Actor, ActorKind},
        user::Role,
    },
    http::{Access, AppState, BODY_LIMIT, HttpError, edge, extract},
    store::users,
};

/// The session's cookie.
pub const SESSION_COOKIE: &str = "flotilla_session";
/// The header that carries the CSRF token of scripts.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// The field that carries the CSRF token of forms.
pub const CSRF_FIELD: &str = "csrf";

/// Who asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CurrentUser {
    /// Identity.
    pub id: UserId,
    /// Log-in name.
    pub name: Arc<str>,
    /// What they may do in this request: a token may do less than its account.
    pub role: Role,
    /// How they proved it.
    pub via: Via,
}

/// How someone proved who they are.
#[derive(Clone)]
pub enum Via {
    /// By a browser's session.
    Session {
        /// The session, by the hash of its secret.
        hash: TokenHash,
        /// What its forms must carry.
        csrf: Arc<str>,
    },
    /// By an API token.
    Token(TokenId),
}

impl std::fmt::Debug for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session { .. } => f.write_str("Session"),
            Self::Token(id) => f.debug_tuple("Token").field(id).finish(),
        }
    }
}

impl CurrentUser {
    /// Who asks, for the audit trail and a job's row.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let (kind, id) = match &self.via {
            Via::Session { .. } => (ActorKind::User, self.id.to_string()),
            Via::Token(token) => (ActorKind::Token, token.to_string()),
        };
        Actor { kind, id, name: self.name.to_string() }
    }

    /// Refuses who has less than a role.
    ///
    /// # Errors
    /// 403, with whom to ask.
    pub fn needs(&self, least: Role) -> Result<(), HttpError> {
        if self.role >= least {
            return Ok(());
        }
        let detail =
            format!("This needs the role {least}; {} has the role {}. Ask an administrator.", self.name, self.role);
        Err(HttpError::forbidden(detail))
    }

    /// The CSRF token for forms; empty where a token asks.
    #[must_use]
    pub fn csrf(&self) -> &str {
        match &self.via {
            Via::Session { csrf, .. } => csrf,
            Via::Token(_) => "",
        }
    }

    /// The session that asks, by its hash.
    #[must_use]
    pub fn session(&self) -> Option<TokenHash> {
        match &self.via {
            Via::Session { hash, .. } => Some(*hash),
            Via::Token(_) => None,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CurrentUser {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, HttpError> {
        // The guard has put it there, unless the route is public and asks for someone all the same.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| HttpError::unauthenticated("Log in first."))
    }
}

/// For public pages that greet those who are logged in.
impl OptionalFromRequestParts<AppState> for CurrentUser {
    type Rejection = HttpError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Option<Self>, HttpError> {
        Ok(identity::resolve(state, &parts.headers).await?.map(|resolved| resolved.user))
    }
}

/// Who asks, where it is only for the looks of an answer: a failure counts as nobody.
pub async fn viewer(state: &AppState, headers: &HeaderMap) -> Option<CurrentUser> {
    identity::resolve(state, headers).await.ok().flatten().map(|resolved| resolved.user)
}

/// Enforces a row's access rule, then runs the handler.
pub async fn guard(State((state, access)): State<(AppState, Access)>, request: Request, next: Next) -> Response {
    match admit(&state, access, request).await {
        Ok((request, renewed)) => {
            let mut response = next.run(request).await;
            // A handler that ends or replaces the session has the last word.
            if let Some(cookie) = renewed
                && !response.headers().contains_key(header::SET_COOKIE)
            {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(Refusal::Error(error)) => error.into_response(),
        Err(Refusal::LogIn(response)) => *response,
    }
}

enum Refusal {
    Error(HttpError),
    LogIn(Box<Response>),
}

impl<E: Into<HttpError>> From<E> for Refusal {
    fn from(e: E) -> Self {
        Self::Error(e.into())
    }
}

async fn admit(state: &AppState, access: Access, request: Request) -> Result<(Request, Option<HeaderValue>), Refusal> {
    let Some(least) = access.role().filter(|_| access != Access::Metrics || !state.settings.metrics_public) else {
        // Log-in and setup take no cookie, but a foreign page must not post to them in a visitor's name either.
        if changes_state(request.method()) || is_websocket(&request) {
            origin::check(&state.settings, request.headers())?;
        }
        check_setup(state, access).await?;
        return Ok((request, None));
    };
    let Some(Resolved { user, renew }) = identity::resolve(state, request.headers()).await? else {
        return Err(log_in_first(&request));
    };
    let mut request = request;
    if let Via::Session { csrf, .. } = &user.via {
        if changes_state(request.method()) || is_websocket(&request) {
            origin::check(&state.settings, request.headers())?;
        }
        if changes_state(request.method()) {
            request = check_csrf(request, csrf).await?;
        }
    }
    user.needs(least)?;
    let renewed = match renew {
        Some(hash) => login::renew(state, hash, request.headers()).await?,
        None => None,
    };
    request.extensions_mut().insert(user);
    Ok((request, renewed))
}

/// Setup is open while there is no account.
async fn check_setup(state: &AppState, access: Access) -> Result<(), HttpError> {
    if access == Access::Setup && state.store.read(users::any).await? {
        return Err(HttpError::new(
            StatusCode::FORBIDDEN,
            "setup_closed",
            "Flotilla is set up already",
            "There is an account already: log in with it at /login. A lost password is replaced by `flotilla user passwd NAME --password-stdin`.",
        ));
    }
    Ok(())
}

fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_websocket(request: &Request) -> bool {
    request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Compares the CSRF token of the header, or of a form's field, which costs reading the form.
async fn check_csrf(request: Request, expected: &str) -> Result<Request, HttpError> {
    let refused = || {
        HttpError::new(
            StatusCode::FORBIDDEN,
            "csrf",
            "The request did not come from a Flotilla page",
            "The form's protection token is missing or of another session: reload the page and try again. Scripts use an API token instead of a session.",
        )
    };
    if let Some(given) = request.headers().get(CSRF_HEADER) {
        return if credential::same(given.as_bytes(), expected.as_bytes()) { Ok(request) } else { Err(refused()) };
    }
    if !extract::is_type(&request, "application/x-www-form-urlencoded") {
        return Err(refused());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.map_err(|_| HttpError::too_large())?;
    let given = form_urlencoded::parse(&body).find(|(name, _)| name == CSRF_FIELD).map(|(_, value)| value);
    if given.is_some_and(|given| credential::same(given.as_bytes(), expected.as_bytes())) {
        Ok(Request::from_parts(parts, Body::from(body)))
    } else {
        Err(refused())
    }
}

/// Programs are told 401; a browser that opens a page is led to the log-in and back.
fn log_in_first(request: &Request) -> Refusal {
    let bearer = request.headers().contains_key(header::AUTHORIZATION);
    let uri = request.uri();
    if bearer || edge::is_for_programs(uri.path()) {
        let detail = if bearer {
            "The token is unknown, expired or revoked: make a new one under Settings, or with `flotilla token create`."
        } else {
            "Send `Authorization: Bearer TOKEN`, or log in first. Tokens are made under Settings, or with `flotilla token create`."
        };
        return Refusal::Error(HttpError::unauthenticated(detail));
    }
    if request.headers().contains_key("hx-request") {
        let to_login = [("hx-redirect", "/login")];
        return Refusal::LogIn(Box::new((StatusCode::UNAUTHORIZED, to_login).into_response()));
    }
    if changes_state(request.method()) {
        return Refusal::Error(HttpError::unauthenticated(
            "The session is over: log in again, then repeat what you did.",
        ));
    }
    let next: String =
        form_urlencoded::byte_serialize(uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes()).collect();
    let to_login = [(header::LOCATION, format!("/login?next={next}"))];
    Refusal::LogIn(Box::new((StatusCode::SEE_OTHER, to_login).into_response()))
}
