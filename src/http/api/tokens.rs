//! API tokens over the API: everyone their own, administrators all. A token can't make one that may more than itself.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{Secret, Timestamp, TokenId, UserId, token::ApiToken, user::Role},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::List,
        extract::{Id, Json},
    },
    ops::accounts::{self, NewToken},
};

/// An API token's record.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    #[schema(value_type = String)]
    pub user_id: UserId,
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ends; null for never.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Last use, to ten minutes.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
}

impl From<ApiToken> for TokenView {
    fn from(token: ApiToken) -> Self {
        let ApiToken { id, user_id, label, role, created_at, expires_at, last_used_at } = token;
        Self { id, user_id, label, role, created_at, expires_at, last_used_at }
    }
}

/// Whose tokens someone sees and takes away: their own, or all.
fn scope(user: &CurrentUser) -> Option<UserId> {
    (user.role < Role::Admin).then_some(user.id)
}

/// `GET /api/tokens`: one's own, newest first; for administrators all.
///
/// # Errors
/// [`HttpError`] for a failure.
#[utoipa::path(get, path = "/api/tokens", tag = "accounts", responses((status = 200, body = List<TokenView>)))]
pub async fn list(State(state): State<AppState>, user: CurrentUser) -> Result<Answer<List<TokenView>>, HttpError> {
    let tokens = accounts::list_tokens(&state.store, scope(&user)).await?;
    Ok(Answer(List::whole(tokens.into_iter().map(TokenView::from).collect())))
}

/// A token that is to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it is for.
    pub label: String,
    /// What it may do; as much as the one who asks where absent, never more.
    pub role: Option<Role>,
    /// Seconds until it ends; never where absent.
    pub expires_in_s: Option<i64>,
    /// Whose it shall be: for administrators; one's own where absent.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
}

/// A token, shown only here.
#[derive(Serialize, ToSchema)]
pub struct TokenMade {
    /// Its record.
    #[serde(flatten)]
    pub record: TokenView,
    /// The token itself.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// `POST /api/tokens`.
///
/// # Errors
/// 403 for someone else's account, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/tokens", tag = "accounts", request_body = TokenRequest,
    responses((status = 201, body = TokenMade), (status = 403, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(body): Json<TokenRequest>,
) -> Result<(StatusCode, Answer<TokenMade>), HttpError> {
    let owner = body.user_id.unwrap_or(user.id);
    if owner != user.id && user.role < Role::Admin {
        return Err(HttpError::forbidden("Only an administrator makes tokens for others: leave `user_id` out."));
    }
    if body.role.is_some_and(|role| role > user.role) {
        let detail = format!("must not be more than your own here, which is {}", user.role);
        return Err(HttpError::invalid_field("role", detail));
    }
    // For oneself: no more than what asks. For another: their own role, which an administrator's is not below.
    let role = if owner == user.id { body.role.or(Some(user.role)) } else { body.role };
    let new = NewToken { user_id: owner, label: body.label, role, ttl_s: body.expires_in_s };
    let (record, token) = accounts::create_token(&state.store, user.actor(), new).await?;
    Ok((StatusCode::CREATED, Answer(TokenMade { record: record.into(), token })))
}

/// `DELETE /api/tokens/{id}`: one's own; for administrators any.
///
/// # Errors
/// 404.
#[utoipa::path(delete, path = "/api/tokens/{id}", tag = "accounts", params(("id" = String, Path,)),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<TokenId>,
) -> Result<StatusCode, HttpError> {
    let there = accounts::revoke_token(&state.store, user.actor(), id, scope(&user)).await?;
    state.identities.forget_all();
    if there { Ok(StatusCode::NO_CONTENT) } else { Err(HttpError::not_found("such token")) }
}
