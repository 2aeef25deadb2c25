//! The pages before the log-in: first administrator, log in, log out.

use std::time::Instant;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use crate::{
    domain::Secret,
    http::{
        AppState, CurrentUser, HttpError,
        auth::{ClientAddr, LoginError, address_key, log_in, log_out, safe_next, start_session},
        extract::{FormFields, Query},
        pages::{Ui, forms, redraw, show_bare},
    },
    ops::accounts::{self, AccountError},
    paths::route,
    views::{
        FormState,
        auth::{LoginPage, SetupPage},
    },
};

/// The query of the setup link.
#[derive(Debug, Deserialize)]
pub struct SetupQuery {
    #[serde(default)]
    token: String,
}

/// `GET /setup`.
///
/// # Errors
/// 403 for a link that is not the latest.
pub async fn setup(
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(query): Query<SetupQuery>,
) -> Result<Response, HttpError> {
    if !accounts::setup_token_fits(&state.store, &query.token).await? {
        return Err(AccountError::SetupClosed.into());
    }
    let page = SetupPage { token: query.token, form: FormState::default() };
    Ok(show_bare(&state, &headers, StatusCode::OK, &page))
}

/// `POST /setup`: makes the first administrator and logs them in.
///
/// # Errors
/// 403 for a link that is not the latest, 429 after too many attempts.
pub async fn set_up(
    State(state): State<AppState>,
    ClientAddr(from): ClientAddr,
    headers: HeaderMap,
    fields: FormFields,
) -> Result<Response, HttpError> {
    let from = address_key(from);
    state.throttles.addresses.attempt(from, Instant::now()).map_err(|wait| {
        HttpError::too_many(wait.as_secs() + 1, "Too many attempts from this address: wait a moment.")
    })?;
    let (name, password) = (fields.text("name").to_owned(), Secret::from(fields.text("password")));
    let made = accounts::first_admin(&state.store, &state.passwords, fields.text("token"), name, password).await;
    match made {
        Ok(user) => {
            state.throttles.addresses.succeeded(from);
            Ok(led_on(start_session(&state, &user).await?, route::DASHBOARD))
        }
        Err(e) => {
            let (status, form) = redraw(e.into(), forms::typed(&fields), &[])?;
            let page = SetupPage { token: fields.text("token").to_owned(), form };
            Ok(show_bare(&state, &headers, status, &page))
        }
    }
}

/// The query of the log-in.
#[derive(Debug, Deserialize)]
pub struct LoginQuery {
    #[serde(default)]
    next: String,
}

/// `GET /login`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn login(
    State(state): State<AppState>,
    user: Option<CurrentUser>,
    headers: HeaderMap,
    Query(query): Query<LoginQuery>,
) -> Result<Response, HttpError> {
    if user.is_some() {
        return Ok((StatusCode::SEE_OTHER, [(header::LOCATION, safe_next(&query.next).to_owned())]).into_response());
    }
    let page = LoginPage { next: query.next, throttled_s: None, form: FormState::default() };
    Ok(show_bare(&state, &headers, StatusCode::OK, &page))
}

/// `POST /login`.
///
/// # Errors
/// [`HttpError`] for a failure; what was wrong is shown in the form.
pub async fn enter(
    State(state): State<AppState>,
    ClientAddr(from): ClientAddr,
    headers: HeaderMap,
    fields: FormFields,
) -> Result<Response, HttpError> {
    let next = safe_next(fields.text("next"));
    let form = forms::typed(&fields);
    let (status, throttled_s, form) =
        match log_in(&state, from, fields.text("name"), fields.text("password").into()).await {
            Ok((_, cookie)) => return Ok(led_on(cookie, next)),
            Err(LoginError::Failed(e)) => return Err(e),
            Err(LoginError::Throttled(wait)) => (StatusCode::TOO_MANY_REQUESTS, Some(wait), form),
            Err(LoginError::Refused) => (
                StatusCode::UNAUTHORIZED,
                None,
                form.failed("Name or password is not right. Nothing tells which, on purpose."),
            ),
        };
    let page = LoginPage { next: next.to_owned(), throttled_s, form };
    Ok(show_bare(&state, &headers, status, &page))
}

/// `POST /logout`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn leave(ui: Ui) -> Result<Response, HttpError> {
    let cookie = log_out(&ui.state, &ui.user).await?;
    let mut response = ui.go(route::LOGIN);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// On to a page, with a new session.
fn led_on(cookie: HeaderValue, to: &str) -> Response {
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, to.to_owned())]).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}
