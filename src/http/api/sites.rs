//! `/api/sites`.

use std::collections::BTreeMap;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Container, HostId, JobId, SiteId, Timestamp, site::Site},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{List, limit},
        extract::{Id, Json, Query},
    },
    ops::sites::{self as ops, SiteInput, SitePatch},
    store::sites,
};

/// A site as the API shows it. It holds no secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SiteView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// Where it lives.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// What people call it.
    pub name: String,
    /// Unique among sites.
    pub slug: String,
    /// The detector that found it, or `other`.
    pub kind: String,
    /// Its folder, on the host or in its container.
    pub root: Option<String>,
    /// Where visitors find it.
    pub url: Option<String>,
    /// The container that it lives in; null: on the host itself.
    #[schema(value_type = Option<Object>)]
    pub container: Option<Container>,
    /// More that templates may name, such as `db_name`.
    pub facts: BTreeMap<String, String>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<Site> for SiteView {
    fn from(site: Site) -> Self {
        let Site { id, host_id, host_name: _, fields, created_at } = site;
        let crate::domain::site::SiteFields { name, slug, kind, root, url, container, facts } = fields;
        Self { id, host_id, name, slug, kind, root, url, container, facts, created_at }
    }
}

/// Which sites, and which page of the list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SiteQuery {
    /// Of this host only.
    #[param(value_type = Option<String>)]
    host_id: Option<HostId>,
    /// At most so many, up to 1000; 100 where absent.
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<SiteId>,
}

/// Sites, by name.
///
/// # Errors
/// [`HttpError`].
#[utoipa::path(get, path = "/api/sites", tag = "sites", params(SiteQuery), responses((status = 200, body = List<SiteView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<SiteQuery>,
) -> Result<Answer<List<SiteView>>, HttpError> {
    let limit = limit(query.limit)?;
    let found = state.store.read(move |db| sites::list(db, query.host_id, query.after, limit + 1)).await?;
    Ok(Answer(List::page(found, limit, |site| site.id.to_string(), SiteView::from)))
}

/// Adds a site by hand.
///
/// # Errors
/// 409 where the slug is taken, 422 for fields that do not do.
#[utoipa::path(post, path = "/api/sites", tag = "sites", request_body = SiteInput,
    responses((status = 201, body = SiteView), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<SiteInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<SiteView>), HttpError> {
    let site = ops::create(&state.store, user.actor(), input).await?;
    let location = [(header::LOCATION, format!("/api/sites/{}", site.id))];
    Ok((StatusCode::CREATED, location, Answer(site.into())))
}

/// Which of a discovery's sites are to be added.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryInput {
    /// A job of the runbook `discover` that is over.
    #[schema(value_type = String)]
    job_id: JobId,
    /// Those of these keys (`CONTAINER:FOLDER`, without container `:FOLDER`); all where absent.
    keys: Option<Vec<String>>,
}

/// What came of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AddedView {
    /// New ones.
    created: Vec<SiteView>,
    /// Those that were there already.
    skipped: Vec<SkippedView>,
    /// Those that could not be added.
    errors: Vec<NotAddedView>,
}

/// A site that was there already.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SkippedView {
    /// Under which it was found.
    key: String,
    /// As which it is there.
    #[schema(value_type = String)]
    site_id: SiteId,
}

/// A site that could not be added.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NotAddedView {
    /// Under which it was found, or asked for.
    key: String,
    /// Why.
    message: String,
}

/// Adds what a discovery found. Those that are there already are skipped.
///
/// # Errors
/// 404 for the job; 409 where it is no discovery or is not over.
#[utoipa::path(post, path = "/api/sites/from-discovery", tag = "sites", request_body = DiscoveryInput,
    responses((status = 200, body = AddedView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn from_discovery(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<DiscoveryInput>,
) -> Result<Answer<AddedView>, HttpError> {
    let added = ops::from_discovery(&state.store, user.actor(), input.job_id, input.keys).await?;
    Ok(Answer(AddedView {
        created: added.created.into_iter().map(SiteView::from).collect(),
        skipped: added.skipped.into_iter().map(|(key, site_id)| SkippedView { key, site_id }).collect(),
        errors: added.errors.into_iter().map(|(key, message)| NotAddedView { key, message }).collect(),
    }))
}

/// A site.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/sites/{id}", tag = "sites", params(("id" = String, Path)),
    responses((status = 200, body = SiteView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<SiteId>) -> Result<Answer<SiteView>, HttpError> {
    let site = state.store.read(move |db| sites::lookup(db, id)).await?;
    site.map(|site| Answer(site.into())).ok_or_else(|| HttpError::not_found("such site"))
}

/// Changes a site: what is absent stays.
///
/// # Errors
/// 404, 409, 422.
#[utoipa::path(patch, path = "/api/sites/{id}", tag = "sites", params(("id" = String, Path)), request_body = SitePatch,
    responses((status = 200, body = SiteView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn update(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<SiteId>,
    Json(patch): Json<SitePatch>,
) -> Result<Answer<SiteView>, HttpError> {
    Ok(Answer(ops::update(&state.store, user.actor(), id, patch).await?.into()))
}

/// Removes a site from Flotilla; what it is on its host stays as it is.
///
/// # Errors
/// 404.
#[utoipa::path(delete, path = "/api/sites/{id}", tag = "sites", params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<SiteId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}
