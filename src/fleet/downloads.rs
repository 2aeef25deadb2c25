//! What a running `dump` sends, handed on to the browser that waits for it: `POST /agent/jobs/{id}/download`. The request is read no faster than the browser
//! takes it, and answered once the browser has all of it. Whoever falls silent ends it for both.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Path,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;
use tokio::time::timeout;

use crate::{
    domain::{HostId, JobId, JobKind},
    fleet::{Caller, Fleet, authenticate, come_back, refusal},
    hub::downloads::{NoPlace, Offer},
    store::jobs,
};

/// How long either side may be silent: restic looks for data in a slow repository, a browser stands still.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// How a download ended that is not whole.
enum Cut {
    BrowserLeft,
    BrowserStands,
    AgentBroke,
    AgentSilent,
    Stopping,
}

impl Fleet {
    /// Answers `POST /agent/jobs/{id}/download`. Authenticates by itself: the bearer token of an agent.
    ///
    /// 204 once the browser has all; 401 for a stranger, 404 where the job is no download of this agent's host that is under way, 408 where nobody fetches
    /// it, 409 where another request brings it, 410 where the browser went away, 503 where too many are open or the server stops.
    pub async fn hand_on(self, Path(id): Path<String>, headers: HeaderMap, body: Body) -> Response {
        let host = match authenticate(&self, &headers).await {
            Ok(Caller::Agent(host)) => host.id,
            Ok(Caller::Revoked | Caller::Stranger) => {
                return refusal(StatusCode::UNAUTHORIZED, "this agent is not known here, or its identity was revoked");
            }
            Err(e) => {
                tracing::error!(error = %e, "an agent could not be looked up");
                return come_back("the server cannot read its database right now");
            }
        };
        let job = match self.is_its_download(host, &id).await {
            Ok(Some(job)) => job,
            Ok(None) => {
                return refusal(StatusCode::NOT_FOUND, "there is no such download of this host that is under way");
            }
            Err(response) => return *response,
        };
        let mut offer = match self.inner.hub.downloads().offer(job) {
            Ok(offer) => offer,
            Err(NoPlace::Taken) => {
                return refusal(StatusCode::CONFLICT, "another request brings this download already");
            }
            Err(NoPlace::Full) => return come_back("too many downloads are open"),
        };
        if timeout(self.inner.options.fetched_within, offer.taken()).await.is_err() {
            return refusal(StatusCode::REQUEST_TIMEOUT, "no browser came to fetch it");
        }
        match self.pour(&mut offer, body).await {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(Cut::BrowserLeft) => refusal(StatusCode::GONE, "the browser went away"),
            Err(Cut::BrowserStands) => refusal(StatusCode::GONE, "the browser took nothing for a quarter of an hour"),
            Err(Cut::AgentSilent) => refusal(StatusCode::REQUEST_TIMEOUT, "nothing came for a quarter of an hour"),
            Err(Cut::AgentBroke) => refusal(StatusCode::BAD_REQUEST, "the request broke off"),
            Err(Cut::Stopping) => come_back("the server is stopping"),
        }
    }

    /// The job, if it is a download of this host that is under way. That it has started may not be stored yet: that it was sent there will do.
    async fn is_its_download(&self, host: HostId, id: &str) -> Result<Option<JobId>, Box<Response>> {
        let Ok(id) = id.parse() else { return Ok(None) };
        let found = self.inner.store.read(move |db| jobs::lookup(db, id)).await.map_err(|e| {
            tracing::error!(error = %e, "a download's job could not be looked up");
            Box::new(come_back("the server cannot read its database right now"))
        })?;
        let fits = found.is_some_and(|job| {
            job.host_id == host && job.kind == JobKind::Dump && !job.status.is_final() && job.dispatched_at.is_some()
        });
        Ok(fits.then_some(id))
    }

    async fn pour(&self, offer: &mut Offer, body: Body) -> Result<(), Cut> {
        let mut pieces = body.into_data_stream();
        loop {
            let next = tokio::select! {
                () = self.inner.tasks.stopping() => return Err(Cut::Stopping),
                () = offer.left() => return Err(Cut::BrowserLeft),
                next = timeout(SILENCE, pieces.next()) => next.map_err(|_| Cut::AgentSilent)?,
            };
            let Some(piece) = next else { break };
            let piece = piece.map_err(|_| Cut::AgentBroke)?;
            let sent = timeout(SILENCE, offer.send(piece)).await.map_err(|_| Cut::BrowserStands)?;
            sent.map_err(|_| Cut::BrowserLeft)?;
        }
        let had = timeout(SILENCE, offer.finish()).await.map_err(|_| Cut::BrowserStands)?;
        had.map_err(|_| Cut::BrowserLeft)
    }
}
