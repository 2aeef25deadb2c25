//! The web: pages, JSON API, live streams. Handlers extract, call one operation, and show the outcome; who may call them is stated in the route table
//! ([`router`]) and enforced before they run.
//!
//! Order of the layers, from the outside: compression · edge (request id, security headers, panics, log, errors as pages or problems) · per
//! route: guard (who, role, CSRF, origin) · handler.

pub mod api;
pub mod assets;
pub mod auth;
pub mod edge;
pub mod error;
pub mod extract;
pub mod live;
pub mod pages;
pub mod router;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Instant,
};

use axum::http::{HeaderMap, header, uri::Authority};

pub use auth::CurrentUser;
pub use error::{HttpError, Problem};
pub use router::{Access, Route, RouteInfo, service, table};

use crate::{
    clock::SharedClock,
    config::DatabaseConfig,
    credential::Passwords,
    domain::{Timestamp, network::Network, queue::QueueRules, standing::Thresholds},
    http::{
        assets::Assets,
        auth::{Identities, Throttles},
    },
    hub::Hub,
    lifecycle::Tasks,
    ops::{database::Database, jobs::Desk},
    probe::Prober,
    runbook::Library,
    store::Store,
    vault::Vault,
};

/// Bytes of a request's body at most.
pub const BODY_LIMIT: usize = 1 << 20;

/// What handlers work with. Clones share it.
#[derive(Clone)]
pub struct AppState(Arc<Parts>);

/// The parts of [`AppState`].
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Who is online, what happens live.
    pub hub: Hub,
    /// Seals secrets.
    pub vault: Vault,
    /// The date.
    pub clock: SharedClock,
    /// Owner of tasks.
    pub tasks: Tasks,
    /// What can be run besides restic.
    pub runbooks: Library,
    /// Hashes passwords, few at a time.
    pub passwords: Passwords,
    /// How this server is reached.
    pub settings: Settings,
    /// Sessions and tokens that were checked a moment ago.
    pub identities: Identities,
    /// Who failed to prove something lately.
    pub throttles: Throttles,
    /// Requests so far: their numbers tell them apart in the log.
    pub requests: AtomicU64,
    /// When the store last took a write for a probe.
    pub readiness: Readiness,
    /// Embedded static files.
    pub assets: Assets,
    /// The database's copies.
    pub database: Database,
    /// Asks hosts how they are.
    pub prober: Prober,
    /// When this server started.
    pub started_at: Timestamp,
}

/// When a probe last found that the store takes writes.
#[derive(Debug, Default)]
pub struct Readiness(Mutex<Option<Instant>>);

impl Readiness {
    /// Whether a probe succeeded within the last second.
    #[must_use]
    pub fn is_fresh(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| now.saturating_duration_since(last).as_secs() < 1)
    }

    /// Notes a success.
    pub fn note(&self, now: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

/// What the web needs of the rest of the house.
pub struct Deps {
    /// The database.
    pub store: Store,
    /// Who is online, what happens live.
    pub hub: Hub,
    /// Seals secrets.
    pub vault: Vault,
    /// The date.
    pub clock: SharedClock,
    /// Owner of tasks.
    pub tasks: Tasks,
    /// What can be run besides restic.
    pub runbooks: Library,
}

/// How this server is reached, by configuration.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `https://flotilla.example` (no trailing slash): in links, in the enrolment command, and as the origin that browsers come from.
    pub public_url: String,
    /// The operator said so. Otherwise it is a guess from the listening address, and what a browser asked for is the better one.
    pub public_url_given: bool,
    /// Browsers reach it by TLS: cookies are `Secure`, and HSTS is sent.
    pub secure_cookies: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// `sha256:…` of the certificate that agents shall pin.
    pub ca_fingerprint: Option<String>,
    /// `/metrics` needs no token.
    pub metrics_public: bool,
    /// Bounds of the queue, the same that the fleet goes by.
    pub queue: QueueRules,
    /// How copies of the database are made.
    pub database: DatabaseConfig,
    /// From where on a host's figures are worth a colour.
    pub status: Thresholds,
}

impl Settings {
    /// The address for an agent's enrolment: as configured; else as the browser of whoever adds the host reached this server, because a guess
    /// such as 127.0.0.1 would be wrong on every other machine. `headers` are those of an authenticated request.
    #[must_use]
    pub fn address_for_agents(&self, headers: &HeaderMap) -> String {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .and_then(|host| host.parse::<Authority>().ok());
        match host {
            Some(host) if !self.public_url_given => {
                let scheme = self.public_url.split("://").next().unwrap_or("http");
                format!("{scheme}://{host}")
            }
            _ => self.public_url.clone(),
        }
    }
}

impl AppState {
    /// Everything that handlers work with, starting now.
    #[must_use]
    pub fn new(deps: Deps, settings: Settings) -> Self {
        let Deps { store, hub, vault, clock, tasks, runbooks } = deps;
        let started_at = clock.now();
        let database = Database::new(store.clone(), clock.clone(), settings.database.clone());
        Self(Arc::new(Parts {
            store,
            hub,
            vault,
            clock,
            tasks,
            runbooks,
            passwords: Passwords::new(),
            settings,
            identities: Identities::default(),
            throttles: Throttles::default(),
            requests: AtomicU64::new(0),
            readiness: Readiness::default(),
            assets: Assets::load(),
            database,
            prober: Prober::new(),
            started_at,
        }))
    }

    /// Where jobs are ordered.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk {
            store: self.store.clone(),
            hub: self.hub.clone(),
            vault: self.vault.clone(),
            rules: self.settings.queue,
            runbooks: self.runbooks.clone(),
        }
    }
}

impl Deref for AppState {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sent_where_the_browser_was_unless_the_operator_named_an_address() {
        let guessed = Settings { public_url: "https://127.0.0.1:8443".to_owned(), ..Settings::default() };
        let given = Settings { public_url_given: true, ..guessed.clone() };
        let asked = |host: &str| HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
        assert_eq!(guessed.address_for_agents(&asked("vault.lan:8443")), "https://vault.lan:8443");
        assert_eq!(guessed.address_for_agents(&asked("[fd00::1]:8443")), "https://[fd00::1]:8443");
        assert_eq!(guessed.address_for_agents(&asked("a b;rm -rf")), "https://127.0.0.1:8443");
        assert_eq!(guessed.address_for_agents(&HeaderMap::new()), "https://127.0.0.1:8443");
        assert_eq!(given.address_for_agents(&asked("vault.lan:8443")), "https://127.0.0.1:8443");
    }
}
