//! Redeems an enrolment token: one HTTP request, one answer. The token goes over the same dial as everything else
//! and shows up in no message.

use std::time::Duration;

use bytes::Bytes;
use flotilla_proto::{HostId, Secret, VersionRange};
use futures_util::future::{Either, select};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};

use crate::{
    dial::{Connection, DialError, Dialer},
    server_url::ServerUrl,
};

/// How long the whole exchange may take.
pub const ENROL_DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The server said no, and why.
    #[error("the server refused the enrolment: {0}")]
    Refused(String),
    /// An answer that makes no sense.
    #[error("{server} did not answer like a Flotilla server ({reason}): check the address")]
    NotFlotilla {
        /// The address.
        server: String,
        /// What was wrong.
        reason: String,
    },
    /// The exchange broke off.
    #[error("the connection to {server} broke during the enrolment ({reason}): try again")]
    Broken {
        /// The address.
        server: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("no answer from {server} within {seconds} s: try again, and look at the server's log")]
    TimedOut {
        /// The address.
        server: String,
        /// The deadline.
        seconds: u64,
    },
}

/// Body of `POST /api/enroll`.
#[derive(Debug, Clone, Serialize)]
pub struct EnrolRequest {
    /// The enrolment token.
    pub token: Secret,
    /// The name to enrol under.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor.
    pub arch: String,
    /// The agent's version.
    pub agent_version: String,
    /// Protocol versions that it speaks.
    pub protocol: VersionRange,
}

/// Answer to it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Enrolled {
    /// Who this host is from now on.
    pub host_id: HostId,
    /// What proves it.
    pub agent_token: Secret,
}

#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// Redeems the token in `request` at the dialer's server.
///
/// # Errors
/// [`EnrolError`], within [`ENROL_DEADLINE`].
pub async fn enrol(dialer: &Dialer, request: &EnrolRequest) -> Result<Enrolled, EnrolError> {
    let server = dialer.server();
    match tokio::time::timeout(ENROL_DEADLINE, exchange(dialer, request)).await {
        Ok(result) => result,
        Err(_) => Err(EnrolError::TimedOut { server: server.to_string(), seconds: ENROL_DEADLINE.as_secs() }),
    }
}

async fn exchange(dialer: &Dialer, request: &EnrolRequest) -> Result<Enrolled, EnrolError> {
    let server = dialer.server();
    let broken = |e: hyper::Error| EnrolError::Broken { server: server.to_string(), reason: e.to_string() };
    let request = build(server, request)?;
    let io = dialer.connect().await?;
    let (mut sender, connection) =
        http1::handshake::<TokioIo<Connection>, Full<Bytes>>(TokioIo::new(io)).await.map_err(broken)?;
    let answer = Box::pin(async {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(server, response).await
    });
    // The connection must be driven while the answer is awaited; it may end first, with the answer already read.
    match select(answer, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

fn build(server: &ServerUrl, request: &EnrolRequest) -> Result<Request<Full<Bytes>>, EnrolError> {
    let unusable = |reason: String| EnrolError::NotFlotilla { server: server.to_string(), reason };
    let body = serde_json::to_vec(request).map_err(|e| unusable(e.to_string()))?;
    Request::post(server.path("/api/enroll"))
        .header(header::HOST, server.host_header())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, application/problem+json")
        .header(header::USER_AGENT, concat!("flotilla-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| unusable(e.to_string()))
}

async fn read(server: &ServerUrl, response: Response<Incoming>) -> Result<Enrolled, EnrolError> {
    let nonsense = |reason: String| EnrolError::NotFlotilla { server: server.to_string(), reason };
    let status = response.status();
    let body = match Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<LengthLimitError>() => {
            return Err(nonsense(format!("its answer is over {MAX_ANSWER_BYTES} bytes")));
        }
        Err(e) => return Err(EnrolError::Broken { server: server.to_string(), reason: e.to_string() }),
    };
    if status == StatusCode::CREATED {
        // serde_json's message names line and column, never the content.
        return serde_json::from_slice(&body).map_err(|e| nonsense(format!("the answer does not fit: {e}")));
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem { detail: Some(text), .. } | Problem { title: Some(text), .. }) => {
            // It goes to a terminal.
            Err(EnrolError::Refused(text.chars().filter(|c| !c.is_control()).collect()))
        }
        _ => Err(nonsense(format!("it said {status}"))),
    }
}
