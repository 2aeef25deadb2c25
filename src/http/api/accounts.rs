//! Accounts over the API.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{
        Secret, Timestamp, UserId,
        user::{Role, User},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{self, List},
        extract::{Id, Json},
    },
    ops::accounts::{self, NewAccount},
};

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Log-in name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether the account is closed.
    pub disabled: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let User { id, name, role, disabled, created_at } = user;
        Self { id, name, role, disabled, created_at }
    }
}

/// `GET /api/users`: all accounts, by name.
///
/// # Errors
/// [`HttpError`] for a failure.
#[utoipa::path(get, path = "/api/users", tag = "accounts", responses((status = 200, body = List<UserView>)))]
pub async fn list(State(state): State<AppState>) -> Result<Answer<List<UserView>>, HttpError> {
    let users = accounts::list_users(&state.store).await?;
    Ok(Answer(List::whole(users.into_iter().map(UserView::from).collect())))
}

/// An account that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// Log-in name, unique without regard to case.
    pub name: String,
    /// At least 10 characters.
    #[schema(value_type = String)]
    pub password: Secret,
    /// What they may do.
    pub role: Role,
}

/// `POST /api/users`.
///
/// # Errors
/// 422 for fields that do not do, a name that is taken among them.
#[utoipa::path(post, path = "/api/users", tag = "accounts", request_body = UserRequest,
    responses((status = 201, body = UserView), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(body): Json<UserRequest>,
) -> Result<(StatusCode, Answer<UserView>), HttpError> {
    let UserRequest { name, password, role } = body;
    let new = NewAccount { name, password, role };
    let made = accounts::create_user(&state.store, &state.passwords, user.actor(), new).await?;
    Ok((StatusCode::CREATED, Answer(made.into())))
}

/// What to change of an account; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// What they may do.
    #[serde(default, deserialize_with = "api::given")]
    #[schema(nullable = false)]
    pub role: Option<Role>,
    /// Whether the account is closed: ends its sessions and takes its tokens away.
    #[serde(default, deserialize_with = "api::given")]
    #[schema(nullable = false)]
    pub disabled: Option<bool>,
    /// A new password: ends its sessions.
    #[serde(default, deserialize_with = "api::given")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub password: Option<Secret>,
}

/// `PATCH /api/users/{id}`.
///
/// # Errors
/// 404; 409 where no administrator would be left; 422 for a password that does not do.
#[utoipa::path(patch, path = "/api/users/{id}", tag = "accounts", params(("id" = String, Path,)), request_body = UserChange,
    responses((status = 200, body = UserView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<UserId>,
    Json(body): Json<UserChange>,
) -> Result<Answer<UserView>, HttpError> {
    // The password first: it may be refused, and nothing may be changed by halves then.
    if let Some(password) = body.password {
        accounts::set_password(&state.store, &state.passwords, user.actor(), id, password).await?;
    }
    let changed = accounts::set_standing(&state.store, user.actor(), id, body.role, body.disabled).await;
    state.identities.forget_all();
    Ok(Answer(changed?.into()))
}

/// One's own new password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The password so far.
    #[schema(value_type = String)]
    pub current_password: Secret,
    /// At least 10 characters.
    #[schema(value_type = String)]
    pub password: Secret,
}

/// `POST /api/me/password`: ends one's other sessions.
///
/// # Errors
/// 422 where the current password is wrong or the new one does not do; 429 for one who guesses.
#[utoipa::path(post, path = "/api/me/password", tag = "accounts", request_body = PasswordChange,
    responses((status = 204), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub async fn change_password(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode, HttpError> {
    crate::http::auth::change_password(&state, &user, body.current_password, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
