//! Errands: what a running job asks by itself over HTTP, with its agent's token. A request is read only after its agent was recognised, and only a few at
//! a time, for its body may be large.

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::Path,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use flotilla_proto::{GuardAnswer, GuardRequest, JobId, MAX_GUARD_BYTES};
use tokio::time::timeout;

use crate::{
    domain::HostId,
    fleet::{Caller, Fleet, authenticate, come_back, refusal},
    ops::{
        OpError,
        retention::{self, Answer, Asked},
    },
};

impl Fleet {
    /// Answers `POST /agent/jobs/{id}/guard`. Authenticates by itself: the bearer token of an agent.
    ///
    /// 401 for a stranger, 404 where the job is not a forget of this agent's host that runs, 408 for a body that does not come, 413 and 422 for a body that does not do, 503 where too many
    /// ask at once or the store fails. Nothing may be removed on any of these.
    pub async fn judge(self, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Response {
        let host = match authenticate(&self, &headers).await {
            Ok(Caller::Agent(host)) => host.id,
            Ok(Caller::Revoked | Caller::Stranger) => {
                return refusal(StatusCode::UNAUTHORIZED, "this agent is not known here, or its identity was revoked");
            }
            Err(e) => return failed(&e),
        };
        let Ok(job) = id.parse() else { return not_its_own() };
        let Ok(_place) = self.inner.admission.errands.enter().await else {
            return come_back("too many forgets ask at once");
        };
        let body = match timeout(self.inner.options.errand_within, to_bytes(body, MAX_GUARD_BYTES)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let why = format!(
                    "the question could not be read, or is over the limit of {MAX_GUARD_BYTES} bytes: give the forget fewer snapshots at once, by host or path"
                );
                return refusal(StatusCode::PAYLOAD_TOO_LARGE, &why);
            }
            Err(_) => {
                let within = self.inner.options.errand_within.as_secs();
                let why = format!(
                    "the question did not come within {within} s: look at the network between agent and server, and run the job again"
                );
                return refusal(StatusCode::REQUEST_TIMEOUT, &why);
            }
        };
        match serde_json::from_slice(&body) {
            Ok(question) => self.ruling(host, job, question).await,
            Err(e) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &format!("the question cannot be understood: {e}")),
        }
    }

    async fn ruling(&self, host: HostId, job: JobId, question: GuardRequest) -> Response {
        let asked = Asked { job, host, fates: question.fates, dry_run: question.dry_run };
        match retention::judge(&self.inner.store, asked, self.inner.clock.now()).await {
            Ok(Answer { remove, held, stopped }) => {
                let n = remove.len();
                tracing::info!(job.id = %job, host.id = %host, remove = n, stopped = stopped.is_some(), "a forget asked the guard");
                Json(GuardAnswer { remove, held, stopped }).into_response()
            }
            Err(OpError::NotFound(_)) => not_its_own(),
            Err(e) => failed(&e),
        }
    }
}

fn not_its_own() -> Response {
    refusal(StatusCode::NOT_FOUND, "there is no such job of this host that runs and may ask this")
}

fn failed(e: &dyn std::fmt::Display) -> Response {
    tracing::error!(error = %e, "a forget's question could not be answered");
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "the server cannot answer right now: nothing may be removed; try again later",
    )
}
