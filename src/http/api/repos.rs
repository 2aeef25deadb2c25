//! `/api/repos`: secrets go in and never come out; a read says `{"set": true}`.

use std::collections::BTreeMap;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{HostId, RepoId, Timestamp, repo::Repo},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{List, limit},
        extract::{Id, Json, Query},
    },
    ops::repos::{self as ops, RepoInput, RepoPatch},
    store::repos,
};

/// A repository as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RepoView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: RepoId,
    /// What people call it.
    pub name: String,
    /// restic's address, without credentials.
    pub url: String,
    /// The repository's password.
    pub password: SecretState,
    /// User at a REST server.
    pub auth: Option<AuthView>,
    /// Credentials with the right to delete.
    pub maintenance: SecretState,
    /// More environment for restic.
    pub env: BTreeMap<String, SecretState>,
    /// PEM of the authority that signed the server's certificate.
    pub tls_ca_pem: Option<String>,
    /// Whether the endpoints' credentials can only add.
    pub append_only: bool,
    /// Whether the first backup may create the repository.
    pub init: bool,
    /// Whether it was there before Flotilla and was taken over.
    pub imported: bool,
    /// The host on which forget, prune, tag and repair run; `null`: the control plane's own agent.
    #[schema(value_type = Option<String>)]
    pub maintenance_host_id: Option<HostId>,
    /// Bytes that it may grow to.
    pub size_limit: Option<u64>,
    /// All data is to be read within so many days.
    pub check_days: Option<u32>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Whether a secret is there.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub struct SecretState {
    /// It is.
    pub set: bool,
}

/// A user at a REST server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AuthView {
    /// User.
    pub username: String,
    /// That user's password.
    pub password: SecretState,
}

impl From<Repo> for RepoView {
    fn from(repo: Repo) -> Self {
        let state = |name: &str| SecretState { set: repo.secrets_set.iter().any(|set| set == name) };
        let variables = repo.secrets_set.iter().filter_map(|name| name.strip_prefix("env."));
        Self {
            id: repo.id,
            password: state("password"),
            auth: repo.username.clone().map(|username| AuthView { username, password: state("auth.password") }),
            maintenance: state("maintenance"),
            env: variables.map(|name| (name.to_owned(), SecretState { set: true })).collect(),
            name: repo.name,
            url: repo.url,
            tls_ca_pem: repo.tls_ca_pem,
            append_only: repo.append_only,
            init: repo.init,
            imported: repo.upkeep.imported,
            maintenance_host_id: repo.upkeep.maintenance_host_id,
            size_limit: repo.upkeep.size_limit,
            check_days: repo.upkeep.check_days,
            created_at: repo.created_at,
        }
    }
}

/// Which page of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RepoQuery {
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<RepoId>,
}

/// Repositories, by name.
///
/// # Errors
/// [`HttpError`].
#[utoipa::path(get, path = "/api/repos", tag = "repos", params(RepoQuery), responses((status = 200, body = List<RepoView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<RepoQuery>,
) -> Result<Answer<List<RepoView>>, HttpError> {
    let limit = limit(query.limit)?;
    let found = state.store.read(move |db| repos::list(db, query.after, limit + 1)).await?;
    Ok(Answer(List::page(found, limit, |repo| repo.id.to_string(), RepoView::from)))
}

/// Adds a repository.
///
/// # Errors
/// 409 where the name is taken, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/repos", tag = "repos", request_body = RepoInput,
    responses((status = 201, body = RepoView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<RepoInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<RepoView>), HttpError> {
    let repo = ops::create(&state.store, &state.vault, user.actor(), input).await?;
    let location = [(header::LOCATION, format!("/api/repos/{}", repo.id))];
    Ok((StatusCode::CREATED, location, Answer(repo.into())))
}

/// A repository.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/repos/{id}", tag = "repos", params(("id" = String, Path)),
    responses((status = 200, body = RepoView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<RepoId>) -> Result<Answer<RepoView>, HttpError> {
    let repo = state.store.read(move |db| repos::lookup(db, id)).await?;
    repo.map(|repo| Answer(repo.into())).ok_or_else(|| HttpError::not_found("such repository"))
}

/// Changes a repository: what is absent stays.
///
/// # Errors
/// 404, 409, 422.
#[utoipa::path(patch, path = "/api/repos/{id}", tag = "repos", params(("id" = String, Path)), request_body = RepoPatch,
    responses((status = 200, body = RepoView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn update(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<RepoId>,
    Json(patch): Json<RepoPatch>,
) -> Result<Answer<RepoView>, HttpError> {
    let repo = ops::update(&state.store, &state.vault, user.actor(), id, patch).await?;
    Ok(Answer(repo.into()))
}

/// Removes a repository from Flotilla; what it holds is not touched.
///
/// # Errors
/// 404; 409 while a plan, a schedule or a job uses it.
#[utoipa::path(delete, path = "/api/repos/{id}", tag = "repos", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<RepoId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
