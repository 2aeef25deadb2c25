//! The fleet's side of the house: agents' connections, their reports on the way in, orders on the way out.
//! It talks to the rest only through the store and the hub; no HTTP handler is ever called, and none calls here.

mod admission;
pub mod conversation;
mod deadlines;
mod dispatch;
mod downloads;
mod errand;
mod ingest;
mod librarian;
mod link;
mod registry;
mod schedules;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::WebSocketUpgrade,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    clock::SharedClock,
    credential,
    domain::{host::Host, queue::QueueRules},
    fleet::{
        admission::{Admission, Overloaded},
        registry::Registry,
        schedules::Arrivals,
    },
    hub::Hub,
    lifecycle::Tasks,
    store::{Store, StoreError, hosts},
    vault::Vault,
};

/// What the fleet may be told to do differently.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Time between heartbeats; an agent silent for three of them is taken for dead.
    pub heartbeat: Duration,
    /// How long an order may stay unaccepted before it is sent again.
    pub accept_deadline: Duration,
    /// Jobs that one host runs at the same time.
    pub jobs_per_host: u32,
    /// How often to look at the schedules that the server ticks itself.
    pub tick: Duration,
    /// Jobs that all hosts run at the same time.
    pub jobs_in_all: u32,
    /// How long a job waits for an agent to take it; orders may say otherwise.
    pub queue_expiry: Duration,
    /// How long an agent must be gone, at least, before a job that it has counts as lost; twice the job's timeout where that is longer.
    pub lost_after: Duration,
    /// How often queue and deadlines are looked at without being woken.
    pub look: Duration,
    /// Agents that may be connected; others are told to come back later.
    pub links: usize,
    /// How long a running job may take to send what it asks.
    pub errand_within: Duration,
    /// How long the bytes of a download wait for a browser to come.
    pub fetched_within: Duration,
}

impl Default for FleetOptions {
    fn default() -> Self {
        let rules = QueueRules::default();
        Self {
            heartbeat: Duration::from_secs(15),
            accept_deadline: Duration::from_secs(30),
            jobs_per_host: rules.per_host,
            jobs_in_all: rules.in_all,
            queue_expiry: Duration::from_secs(rules.expiry_s),
            lost_after: Duration::from_secs(24 * 3600),
            look: Duration::from_secs(5),
            tick: Duration::from_secs(20),
            links: usize::MAX,
            errand_within: Duration::from_secs(120),
            fetched_within: Duration::from_secs(90),
        }
    }
}

impl FleetOptions {
    /// What of it the queue goes by.
    #[must_use]
    pub fn rules(&self) -> QueueRules {
        QueueRules {
            per_host: self.jobs_per_host.max(1),
            in_all: self.jobs_in_all.max(1),
            expiry_s: self.queue_expiry.as_secs(),
        }
    }
}

/// A handle to the fleet; clones share it.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    hub: Hub,
    vault: Vault,
    clock: SharedClock,
    tasks: Tasks,
    registry: Registry,
    arrivals: Arrivals,
    admission: Admission,
    options: FleetOptions,
}

/// What the fleet is built of.
pub struct FleetParts {
    /// Where everything is remembered.
    pub store: Store,
    /// Who hears of it.
    pub hub: Hub,
    /// Opens the secrets that orders carry.
    pub vault: Vault,
    /// The time.
    pub clock: SharedClock,
    /// Owner of the links.
    pub tasks: Tasks,
}

impl Fleet {
    /// Starts the dispatcher, the watch over schedules, the gatekeeper and the clerk that notes signs of life.
    #[must_use]
    pub fn start(parts: FleetParts, options: FleetOptions) -> Self {
        let fleet = Self::at_rest(parts, options);
        let tasks = fleet.inner.tasks.clone();
        tasks.spawn_core("dispatch", dispatch::run(fleet.clone()));
        tasks.spawn_core("schedules", schedules::run(fleet.clone()));
        tasks.spawn_core("ticks", schedules::ticks::run(fleet.clone()));
        tasks.spawn_core("librarian", librarian::run(fleet.clone()));
        tasks.spawn_core("deadlines", deadlines::run(fleet.clone()));
        tasks.spawn_core("gatekeeper", fleet.clone().close_revoked());
        tasks.spawn_core("signs of life", fleet.clone().note_signs_of_life());
        fleet
    }

    /// One that does nothing by itself: every look of the dispatcher is asked for.
    #[must_use]
    pub fn at_rest(parts: FleetParts, options: FleetOptions) -> Self {
        let FleetParts { store, hub, vault, clock, tasks } = parts;
        let registry = Registry::default();
        let (arrivals, admission) = (Arrivals::default(), Admission::default());
        let inner = Inner { store, hub, vault, clock, tasks, registry, arrivals, admission, options };
        Self { inner: Arc::new(inner) }
    }

    /// Answers `GET /agent/ws`. Authenticates by itself: the bearer token of an agent.
    ///
    /// Waits its turn where many come at once; 503 with `Retry-After` only where too many wait already, or too many are connected.
    pub async fn connect(self, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
        // Its place is free again before the socket opens: what follows waits for the agent.
        let identified = match self.inner.admission.identify.enter().await {
            Ok(_place) => authenticate(&self, &headers).await,
            Err(Overloaded) => return come_back("too many agents connect at once"),
        };
        match identified {
            Ok(Caller::Agent(host)) if !self.inner.registry.has_room(host.id, self.inner.options.links) => {
                tracing::warn!(host.id = %host.id, "as many agents are connected as this process may have files open; raise its limit");
                come_back("as many agents are connected as this server can hold")
            }
            found => self.answer(found, upgrade),
        }
    }

    fn answer(self, found: Result<Caller, StoreError>, upgrade: WebSocketUpgrade) -> Response {
        match found {
            Ok(Caller::Agent(host)) => link::open(self, *host, upgrade),
            Ok(Caller::Revoked) => link::turn_away(upgrade),
            Ok(Caller::Stranger) => refusal(
                StatusCode::UNAUTHORIZED,
                "this agent is not known here: its token is wrong, or its host was removed. Enrol it again with `flotilla-agent enroll`",
            ),
            Err(e) => {
                tracing::error!(error = %e, "an agent could not be looked up");
                refusal(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server cannot read its database right now; the agent will try again",
                )
            }
        }
    }

    async fn close_revoked(self) {
        let mut revoked = self.inner.hub.revocations();
        loop {
            tokio::select! {
                () = self.inner.tasks.stopping() => return,
                host = revoked.recv() => match host {
                    Ok(host) => self.inner.registry.close(host, link::Closing::Revoked),
                    Err(RecvError::Lagged(_)) => self.close_all_without_identity().await,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    /// More revocations than could be heard: look at everyone.
    async fn close_all_without_identity(&self) {
        for host in self.inner.registry.hosts() {
            let found = self.inner.store.read(move |db| hosts::lookup(db, host)).await;
            if matches!(found, Ok(None | Some(Host { revoked_at: Some(_), .. }))) {
                self.inner.registry.close(host, link::Closing::Revoked);
            }
        }
    }

    /// Writes down who was heard, all in one transaction, every half minute: a fleet's heartbeats must not become a fleet of writes.
    async fn note_signs_of_life(self) {
        let mut tick = tokio::time::interval(Duration::from_secs(30));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = std::collections::HashMap::new();
        loop {
            let stopping = tokio::select! {
                _ = tick.tick() => false,
                () = self.inner.tasks.stopping() => true,
            };
            let online = self.inner.hub.online();
            let news: Vec<_> =
                online.iter().filter(|(host, at)| last.get(*host) != Some(*at)).map(|(h, at)| (*h, *at)).collect();
            if !news.is_empty()
                && let Err(e) = self.inner.store.write(move |tx| hosts::seen(tx, &news)).await
            {
                tracing::warn!(error = %e, "signs of life could not be noted");
            }
            if stopping {
                return;
            }
            last = online;
        }
    }
}

/// A refusal for now; the agent comes back with its own back-off.
fn come_back(why: &str) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}; the agent will try again by itself"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("15"));
    response
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank", "title": status.canonical_reason().unwrap_or("refused"), "status": status.as_u16(), "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

enum Caller {
    Agent(Box<Host>),
    Revoked,
    Stranger,
}

async fn authenticate(fleet: &Fleet, headers: &HeaderMap) -> Result<Caller, StoreError> {
    let token =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let Some(hash) = token.map(|token| credential::hash(token.trim())) else { return Ok(Caller::Stranger) };
    fleet
        .inner
        .store
        .read(move |db| match hosts::find_by_token(db, hash)? {
            Some(host) => Ok(Caller::Agent(Box::new(host))),
            None if hosts::was_revoked(db, hash)? => Ok(Caller::Revoked),
            None => Ok(Caller::Stranger),
        })
        .await
}
