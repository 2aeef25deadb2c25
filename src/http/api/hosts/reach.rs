//! How a host without an agent is reached, over the API: made, tested, its key confirmed.

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::HostView;
use crate::{
    domain::{HostId, facet::input::HostInput, reach::Facet},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        extract::{Id, Json},
    },
    ops::facets as ops,
};

/// What each way of reaching a host came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TestView {
    /// Its agent: `online`, `offline`, `never`, `none`, `revoked`.
    pub agent: Facet,
    /// SSH.
    pub ssh: SshTestView,
    /// Its management interface: `none`, `ok`, `answered`, `unauthorized`, `redirect`, `failing`, `refused`, `timed_out`, `not_resolved`, `tls`, `unreachable`, `broken`.
    pub api: Facet,
    /// Its health: `none`, `healthy`, `unhealthy`.
    pub health: Facet,
}

/// What SSH came to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SshTestView {
    /// `none`, `untrusted`, `ok`, `host_key_changed`, `refused`, `unreachable`, `not_resolved`, `timed_out`, `not_ssh`, `authentication`, `key`, `no_shell`, `no_sftp`,
    /// `session_refused`, `dropped`, `protocol`, `invalid`.
    pub state: &'static str,
    /// What that means, and what to do.
    pub detail: String,
    /// The fingerprint that the host showed; null where it came to none.
    pub host_key: Option<String>,
    /// The algorithm of that key.
    pub host_key_algorithm: Option<String>,
}

/// `POST /api/hosts`: a host without an agent, reached by SSH, by its management interface, or asked for its health alone.
///
/// # Errors
/// 403 where less than an administrator sets what lets commands run; 422 for fields that do not do.
#[utoipa::path(post, path = "/api/hosts", tag = "hosts", request_body = HostInput,
    responses((status = 201, body = HostView), (status = 403, body = Problem), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(input): Json<HostInput>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Answer<HostView>), HttpError> {
    let made = ops::create(&state.store, &state.vault, (user.actor(), user.role), input).await?;
    let location = [(header::LOCATION, format!("/api/hosts/{}", made.host.id))];
    Ok((StatusCode::CREATED, location, Answer(HostView::of(made, &state.hub))))
}

/// `POST /api/hosts/{id}/test`: tries every way of reaching the host, at once; it takes 20 seconds at most. Changes nothing.
///
/// # Errors
/// 404.
#[utoipa::path(post, path = "/api/hosts/{id}/test", tag = "hosts", params(("id" = String, Path,)),
    responses((status = 200, body = TestView), (status = 404, body = Problem)))]
pub async fn test(State(state): State<AppState>, Id(id): Id<HostId>) -> Result<Answer<TestView>, HttpError> {
    let (_, tested) =
        ops::test((&state.store, &state.vault, &state.hub), (&state.prober, state.clock.now()), id).await?;
    let (host_key, host_key_algorithm) = tested.host_key.map(|key| (key.fingerprint, key.algorithm)).unzip();
    let Facet { state, detail } = tested.ssh;
    let ssh = SshTestView { state, detail, host_key, host_key_algorithm: host_key_algorithm.flatten() };
    Ok(Answer(TestView { agent: tested.agent, ssh, api: tested.api, health: tested.health }))
}

/// Which host key is the right one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// `SHA256:…`, compared by a person with what `ssh-keygen -lf` prints on the host.
    pub host_key: String,
}

/// `POST /api/hosts/{id}/ssh/trust`: confirms a host key; from then on the host must prove to have it.
///
/// # Errors
/// 404; 409 where the configuration names the key; 422 for what is no fingerprint.
#[utoipa::path(post, path = "/api/hosts/{id}/ssh/trust", tag = "hosts", params(("id" = String, Path,)), request_body = Trust,
    responses((status = 200, body = HostView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn trust(
    State(state): State<AppState>,
    user: CurrentUser,
    Id(id): Id<HostId>,
    Json(body): Json<Trust>,
) -> Result<Answer<HostView>, HttpError> {
    let known = ops::trust(&state.store, &state.vault, user.actor(), id, &body.host_key).await?;
    Ok(Answer(HostView::of(known, &state.hub)))
}
