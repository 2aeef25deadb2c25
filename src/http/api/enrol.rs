//! Enrolment over the API: making a token, watching for the host that uses it, and the machine's own redemption.

use std::time::Instant;

use axum::{
    Json as Answer,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    domain::{HostId, Secret, Timestamp, TokenId, VersionRange},
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::hosts::HostView,
        auth::{ClientAddr, address_key},
        extract::{Id, Json},
    },
    ops::{
        enrol::{self, Applicant, EnrolError, NewEnrolToken},
        facets::KnownHost,
    },
};

/// What an enrolment token shall allow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolTokenRequest {
    /// Seconds until it ends: 60 to 2592000; an hour where absent.
    pub ttl_seconds: Option<u64>,
    /// Hosts that may use it; one where absent.
    pub uses: Option<u32>,
    /// Name for the host; its own where absent.
    pub host_name: Option<String>,
    /// Tags for the host.
    #[serde(default)]
    #[schema(required = false)]
    pub tags: Vec<String>,
}

/// An enrolment token, shown only here.
#[derive(Serialize, ToSchema)]
pub struct EnrolTokenMade {
    /// The record's id.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// The token itself.
    #[schema(value_type = String)]
    pub token: Secret,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What to run on the host.
    pub command: String,
}

/// `POST /api/enrollment-tokens`.
///
/// # Errors
/// 422 for fields that do not do.
#[utoipa::path(post, path = "/api/enrollment-tokens", tag = "enrolment", request_body = EnrolTokenRequest,
    responses((status = 201, body = EnrolTokenMade), (status = 422, body = Problem)))]
pub async fn create(
    State(state): State<AppState>,
    user: CurrentUser,
    headers: HeaderMap,
    Json(body): Json<EnrolTokenRequest>,
) -> Result<(StatusCode, Answer<EnrolTokenMade>), HttpError> {
    let new = NewEnrolToken { ttl_s: body.ttl_seconds, uses: body.uses, host_name: body.host_name, tags: body.tags };
    let (record, token) = enrol::create_token(&state.store, user.actor(), new).await?;
    let settings = &state.settings;
    let command = enrol::command(&settings.address_for_agents(&headers), &token, settings.ca_fingerprint.as_deref());
    let made = EnrolTokenMade { id: record.id, token, expires_at: record.expires_at, command };
    Ok((StatusCode::CREATED, Answer(made)))
}

/// How far an enrolment is.
#[derive(Serialize, ToSchema)]
pub struct Arrival {
    /// The token's record.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// `waiting` for a host, `arrived`, or `expired` without one.
    pub state: ArrivalState,
    /// How many hosts may still use it.
    pub uses_left: u32,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// The host that came with it last.
    pub host: Option<HostView>,
}

/// How far an enrolment is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArrivalState {
    /// Nobody came yet.
    Waiting,
    /// A host came.
    Arrived,
    /// Nobody came in time.
    Expired,
}

/// `GET /api/enrollment-tokens/{id}`: whether a host came with it.
///
/// # Errors
/// 404.
#[utoipa::path(get, path = "/api/enrollment-tokens/{id}", tag = "enrolment", params(("id" = String, Path,)),
    responses((status = 200, body = Arrival), (status = 404, body = Problem)))]
pub async fn arrival(State(state): State<AppState>, Id(id): Id<TokenId>) -> Result<Answer<Arrival>, HttpError> {
    let (token, host) = enrol::arrival(&state.store, id).await?.ok_or_else(|| HttpError::not_found("such token"))?;
    let word = match host {
        Some(_) => ArrivalState::Arrived,
        None if token.expires_at <= state.clock.now() => ArrivalState::Expired,
        None => ArrivalState::Waiting,
    };
    let known = match host {
        Some(host) => state.store.read(move |db| KnownHost::of(db, host).map(Some)).await?,
        None => None,
    };
    let host = known.map(|known| HostView::of(known, &state.hub));
    Ok(Answer(Arrival { id, state: word, uses_left: token.uses_left, expires_at: token.expires_at, host }))
}

/// A machine asks for an identity. Unknown fields are ignored here, as everywhere between agent and server: a newer agent may say more.
#[derive(Deserialize, ToSchema)]
pub struct EnrolRequest {
    /// The enrolment token.
    #[schema(value_type = String)]
    pub token: Secret,
    /// The machine's name for itself.
    pub hostname: String,
    /// `linux`, `windows`, …
    pub os: String,
    /// `x86_64`, …
    pub arch: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Protocol versions that the agent speaks.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub protocol: Option<VersionRange>,
}

/// An identity, shown only here.
#[derive(Serialize, ToSchema)]
pub struct Enrolled {
    /// Who the machine is from now on.
    #[schema(value_type = String)]
    pub host_id: HostId,
    /// What proves it.
    #[schema(value_type = String)]
    pub agent_token: Secret,
}

/// `POST /api/enroll`.
///
/// # Errors
/// 401 for a token that is unknown, used up or expired; 422 for fields that do not do; 429 for an address that guesses.
#[utoipa::path(post, path = "/api/enroll", tag = "enrolment", request_body = EnrolRequest, security(()),
    responses((status = 201, body = Enrolled), (status = 401, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem), (status = 429, body = Problem)))]
pub async fn enroll(
    State(state): State<AppState>,
    ClientAddr(address): ClientAddr,
    Json(body): Json<EnrolRequest>,
) -> Result<(StatusCode, Answer<Enrolled>), HttpError> {
    let key = address_key(address);
    state.throttles.enrolments.attempt(key, Instant::now()).map_err(|wait| {
        HttpError::too_many(
            wait.as_secs() + 1,
            "Too many enrolments with a bad token from this address: wait a minute.",
        )
    })?;
    let EnrolRequest { token, hostname, os, arch, agent_version, protocol } = body;
    let applicant = Applicant { hostname, os, arch, agent_version, protocol };
    let (host, agent_token) = enrol::redeem(&state.store, token.expose(), applicant).await?;
    state.throttles.enrolments.succeeded(key);
    tracing::info!(host.id = %host.id, host.name = host.name, "a host was enrolled");
    Ok((StatusCode::CREATED, Answer(Enrolled { host_id: host.id, agent_token })))
}

impl From<EnrolError> for HttpError {
    fn from(e: EnrolError) -> Self {
        let text = e.to_string();
        match e {
            EnrolError::Invalid(errors) => Self::invalid(errors),
            EnrolError::Refused => Self::new(
                StatusCode::UNAUTHORIZED,
                "enrolment_refused",
                "The enrolment token is not valid",
                "The enrolment token is unknown, used up or expired: make a new one under Hosts → Add host, and run the new command.",
            )
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            EnrolError::Version(_) => Self::conflict("no_common_version", text)
                .with_header(HeaderName::from_static("x-flotilla-version"), HeaderValue::from_static(env!("CARGO_PKG_VERSION"))),
            EnrolError::Credential(e) => e.into(),
            EnrolError::Store(e) => e.into(),
        }
    }
}
