//! Hosts over the API.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::{
        HostId, Timestamp,
        host::{Host, HostStatus},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{self, List},
        extract::{Id, Json, Query},
    },
    hub::Hub,
    ops::hosts::{self as ops, HostError},
    store::{
        Db,
        hosts::{self, HostFilter},
    },
};

/// A host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HostView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// Unique, for life; restic's `--host`.
    pub slug: String,
    /// Whether its agent is connected.
    pub status: HostStatus,
    /// `linux`, `windows`, …
    pub os: Option<String>,
    /// `x86_64`, …
    pub arch: Option<String>,
    /// The machine's name for itself.
    pub hostname: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Version of its restic; null where it has none.
    pub restic_version: Option<String>,
    /// Last sign of life.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Timestamp>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its agent's identity was taken away.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The ways of reaching it.
    pub reach: Reach,
    /// Whether it is the control plane's own agent: no part of the fleet.
    pub own: bool,
    /// What its health probe says; null while there is none.
    #[schema(value_type = Option<Object>)]
    pub health: Option<()>,
}

/// The ways of reaching a host; null for one that is not set up.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reach {
    /// Its agent: `online`, `offline`, `never` (not seen yet), `none` (its identity was revoked).
    pub agent: &'static str,
    /// SSH.
    pub ssh: Option<String>,
    /// Its HTTP API.
    pub api: Option<String>,
    /// Its health probe.
    pub health: Option<String>,
}

impl HostView {
    /// A host as the API shows it, with what is known of its agent right now.
    #[must_use]
    pub fn of(host: Host, hub: &Hub) -> Self {
        let presence = hub.presence(host.id);
        let status = match (&presence, host.last_seen_at) {
            (Some(_), _) => HostStatus::Online,
            (None, Some(_)) => HostStatus::Offline,
            (None, None) => HostStatus::Never,
        };
        let agent = if presence.is_none() && host.revoked_at.is_some() { "none" } else { status.as_str() };
        Self {
            id: host.id,
            name: host.name,
            slug: host.slug,
            status,
            os: host.os,
            arch: host.arch,
            hostname: host.hostname,
            tags: host.tags,
            agent_version: host.agent_version,
            restic_version: host.restic_version,
            last_seen_at: presence.map(|presence| presence.seen_at).max(host.last_seen_at),
            created_at: host.created_at,
            revoked_at: host.revoked_at,
            own: host.own,
            reach: Reach { agent, ssh: None, api: None, health: None },
            health: None,
        }
    }
}

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
    let list = move |db: &Db| if own { Ok(hosts::own(db)?.into_iter().collect()) } else { hosts::list(db, &filter) };
    let rows = state.store.read(list).await?;
    let hub = &state.hub;
    Ok(Answer(List::page(rows, limit, |host| host.id.to_string(), |host| HostView::of(host, hub))))
}

/// `GET /api/hosts/{id}`.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/hosts/{id}", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 200, body = HostView), (status = 404, body = Problem)))]
pub async fn show(State(state): State<AppState>, Id(id): Id<HostId>) -> Result<Answer<HostView>, HttpError> {
    let host = state.store.read(move |db| hosts::lookup(db, id)).await?;
    let host = host.ok_or(HostError::NoSuchHost)?;
    Ok(Answer(HostView::of(host, &state.hub)))
}

/// What to change of a host; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostChange {
    /// What people call it.
    #[serde(default, deserialize_with = "api::given")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Labels, all of them.
    #[serde(default, deserialize_with = "api::given")]
    #[schema(nullable = false)]
    pub tags: Option<Vec<String>>,
}

/// `PATCH /api/hosts/{id}`.
///
/// # Errors
/// 404, or 422 for fields that do not do.
#[utoipa::path(patch, path = "/api/hosts/{id}", tag = "hosts", params(("id" = String, Path,)), request_body = HostChange,
    responses((status = 200, body = HostView), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn change(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<HostId>,
    Json(body): Json<HostChange>,
) -> Result<Answer<HostView>, HttpError> {
    let host = ops::update(&state.store, user.actor(), id, body.name, body.tags).await?;
    Ok(Answer(HostView::of(host, &state.hub)))
}

/// `DELETE /api/hosts/{id}`: off all lists, its agent's identity taken away. Jobs and snapshots stay.
///
/// # Errors
/// 404; 409 for the control plane's own agent.
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
    let host = ops::revoke(&state.store, user.actor(), id).await?;
    Ok(Answer(HostView::of(host, &state.hub)))
}

impl From<HostError> for HttpError {
    fn from(e: HostError) -> Self {
        match e {
            HostError::Invalid(errors) => Self::invalid(errors),
            HostError::NoSuchHost => Self::not_found("such host"),
            e @ HostError::Own => Self::conflict("own_agent", e.to_string()),
            HostError::Store(e) => e.into(),
        }
    }
}
