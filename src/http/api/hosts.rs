//! Hosts over the API.

pub mod reach;
pub mod status;
mod view;

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;

pub use view::HostView;

use crate::{
    domain::HostId,
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{self, List},
        extract::{Id, Json, Query},
    },
    ops::{
        facets::{self, HostPatch, KnownHost},
        hosts::{self as ops, HostError},
    },
    store::{
        Db,
        hosts::{self, HostFilter},
    },
    views::format,
};

/// Which hosts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HostQuery {
    /// At most so many: 1 to 1000; 100 where absent.
    pub limit: Option<u32>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    pub after: Option<HostId>,
    /// Text in the name, slug, host name or a tag.
    pub q: Option<String>,
    /// `true`: the control plane's own agent alone, which is not counted as one of the fleet.
    pub own: Option<bool>,
}

/// `GET /api/hosts`: by name.
///
/// # Errors
/// 400 or 422 for a query that does not fit.
#[utoipa::path(get, path = "/api/hosts", tag = "hosts", params(HostQuery), responses((status = 200, body = List<HostView>)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<HostQuery>,
) -> Result<Answer<List<HostView>>, HttpError> {
    let limit = api::limit(query.limit)?;
    let filter = HostFilter { search: query.q, after: query.after, limit: limit + 1 };
    let own = query.own.unwrap_or(false);
    let list = move |db: &Db| {
        let found = if own { hosts::own(db)?.into_iter().collect() } else { hosts::list(db, &filter)? };
        KnownHost::of_all(db, found)
    };
    let rows = state.store.read(list).await?;
    let hub = &state.hub;
    Ok(Answer(List::page(rows, limit, |known| known.host.id.to_string(), |known| HostView::of(known, hub))))
}

/// `GET /api/hosts/{id}`.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/hosts/{id}", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 200, body = HostView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<HostId>) -> Result<Answer<HostView>, HttpError> {
    let known = facets::known(&state.store, id).await?.ok_or(HostError::NoSuchHost)?;
    Ok(Answer(HostView::of(known, &state.hub)))
}

/// `PATCH /api/hosts/{id}`: what is absent stays, `null` removes, what is given takes the place of what was.
///
/// # Errors
/// 403 where less than an administrator changes what lets commands run; 404; 409 for a host that the configuration declares; 422 for fields that do not do.
#[utoipa::path(patch, path = "/api/hosts/{id}", tag = "hosts", params(("id" = String, Path,)), request_body = HostPatch,
    responses((status = 200, body = HostView), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<HostId>,
    Json(patch): Json<HostPatch>,
) -> Result<Answer<HostView>, HttpError> {
    let known = facets::change(&state.store, &state.vault, (user.actor(), user.role), id, patch).await?;
    Ok(Answer(HostView::of(known, &state.hub)))
}

/// `DELETE /api/hosts/{id}`: off all lists, its agent's identity taken away. Jobs and snapshots stay.
///
/// # Errors
/// 404; 409 for the control plane's own agent, and for a host that the configuration declares.
#[utoipa::path(delete, path = "/api/hosts/{id}", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn remove(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<HostId>,
) -> Result<StatusCode, HttpError> {
    ops::remove(&state.store, user.actor(), id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/hosts/{id}/revoke`: takes the agent's identity away; its connection is closed.
///
/// # Errors
/// 404; 409 for the control plane's own agent.
#[utoipa::path(post, path = "/api/hosts/{id}/revoke", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 200, body = HostView), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn revoke(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<HostId>,
) -> Result<Answer<HostView>, HttpError> {
    ops::revoke(&state.store, user.actor(), id).await?;
    let known = facets::known(&state.store, id).await?.ok_or(HostError::NoSuchHost)?;
    Ok(Answer(HostView::of(known, &state.hub)))
}

impl From<HostError> for HttpError {
    fn from(e: HostError) -> Self {
        match e {
            HostError::Invalid(errors) => Self::invalid(errors),
            HostError::NoSuchHost => Self::not_found("such host"),
            e @ HostError::Own => Self::conflict("own_agent", e.to_string()),
            e @ (HostError::Declared(_) | HostError::KeyDeclared(_)) => {
                Self::conflict("declared", format::sentence(&e.to_string()))
            }
            e @ HostError::AdminsOnly => Self::forbidden(format::sentence(&e.to_string())),
            HostError::Vault(e) => Self::internal(e),
            HostError::Credential(e) => e.into(),
            HostError::Store(e) => e.into(),
        }
    }
}
