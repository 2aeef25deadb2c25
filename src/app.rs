//! Builds every part, wires the handles, binds, and returns a running server. Used by `flotilla serve`, by the demo and by the tests: there is no
//! other way to start one, and nothing is global, so two fit in one process.

mod data_dir;
mod health;
mod housekeeping;
mod listener;
mod own_agent;
mod watch;
mod waves;

pub use data_dir::{Held, hold};

use std::{fs, io, net::SocketAddr, path::PathBuf, time::Duration};

use self::{housekeeping::Housekeeping, own_agent::OwnAgent};
use crate::{
    clock::SharedClock,
    config::{Config, ConfigError},
    fleet::{Fleet, FleetOptions, FleetParts},
    http::{self, Access, AppState, Route},
    hub::Hub,
    lifecycle::Tasks,
    ops::{accounts, facets, hosts::HostError},
    runbook::Library,
    store::{Store, StoreError, meta},
    tls::{self, TlsError, TlsMode},
    vault::{KeyOrigin, Vault, VaultError},
};

/// Why the server could not start. Every text names what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value that can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder can't be made or written.
    #[error("the data folder {path} cannot be used: {source}. Make it writable for this user, or choose another with --data-dir", path = path.display())]
    DataDir {
        /// Which folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server runs on the data folder.
    #[error("another Flotilla runs on the data folder {path}: stop it, or choose another with --data-dir", path = path.display())]
    Locked {
        /// Which folder.
        path: PathBuf,
    },
    /// The address can't be bound.
    #[error("cannot listen on {address}: {source}. Choose another address with --listen, or stop what uses it")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database is damaged; found after an end that was not clean.
    #[error("the database {path} is damaged: {faults}. {remedy}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What SQLite found.
        faults: String,
        /// What to do.
        remedy: String,
    },
    /// The master key can't be used.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A declared host can't be made.
    #[error("a declared host cannot be set up: {0}")]
    Hosts(#[from] HostError),
    /// Accounts can't be read.
    #[error(transparent)]
    Accounts(#[from] accounts::AccountError),
}

/// A server that listens.
pub struct Running {
    /// Address under which it is reached, without a slash at the end.
    pub url: String,
    /// Where it listens; the port is the one that was given out when 0 was asked for.
    pub address: SocketAddr,
    /// Where the first account is made, while there is none.
    pub setup_link: Option<String>,
    /// What agents pin, for a self-signed certificate.
    pub ca_fingerprint: Option<String>,
    /// Where the master key came from.
    pub key_origin: KeyOrigin,
    /// The state that handlers see.
    pub state: AppState,
    /// The fleet.
    pub fleet: Fleet,
    /// The owner of all tasks.
    pub tasks: Tasks,
    own_agent: OwnAgent,
    data_dir: PathBuf,
    /// Held for as long as the server runs.
    _lock: fs::File,
}

impl Running {
    /// Soft stop, then a hard one after `grace`. Says whether all ended in time.
    pub async fn stop(self, grace: Duration) -> bool {
        // While there is still a server to report to. What it has not let go of by then is cut off with the rest.
        let let_go = tokio::time::timeout(grace, self.own_agent.stop()).await.is_ok();
        let in_time = self.tasks.shut_down(grace).await && let_go;
        // What was cut off had no answer, so nobody counts on it: the end is clean for the database either way.
        data_dir::end_cleanly(&self.data_dir);
        in_time
    }
}

/// Starts a server.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(config: Config, clock: SharedClock) -> Result<Running, StartError> {
    let fleet = FleetOptions {
        jobs_per_host: config.jobs_per_host,
        jobs_in_all: config.jobs_in_all,
        queue_expiry: config.queue_expiry,
        ..FleetOptions::default()
    };
    start_with(config, clock, fleet).await
}

/// [`start`], with the fleet's deadlines and bounds as given, whatever the configuration says of them: tests don't want to wait for half a minute.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start_with(mut config: Config, clock: SharedClock, fleet: FleetOptions) -> Result<Running, StartError> {
    let lock = data_dir::take(&config.data_dir).await?;
    let check = data_dir::begin(&config, data_dir::CHECK_FIRST)?;
    let hub = Hub::new();
    let store = Store::open(&config.data_dir, hub.clone(), clock.clone())?;
    let (vault, key_origin) = open_vault(&config, &store).await?;
    facets::declared::apply(&store, &vault, std::mem::take(&mut config.hosts)).await?;
    let bound = listener::bind(config.listen).map_err(|source| StartError::Bind { address: config.listen, source })?;
    let address = bound.local_addr().map_err(|source| StartError::Bind { address: config.listen, source })?;
    let secured = tls::set_up(&config.tls, &config.data_dir, certificate_names(&config))?;
    let scheme = if config.tls == TlsMode::Plain { "http" } else { "https" };
    let url = config.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", reachable(address)));
    let ca_fingerprint = secured.as_ref().and_then(|tls| tls.pin.clone());
    let setup_link = accounts::setup_link(&store).await?.map(|token| format!("{url}/setup?token={}", token.expose()));
    let tasks = Tasks::new();
    let settings = http::Settings {
        public_url: url.clone(),
        public_url_given: config.public_url.is_some(),
        secure_cookies: url.starts_with("https://"),
        trusted_proxies: config.trusted_proxies,
        ca_fingerprint: ca_fingerprint.clone(),
        metrics_public: config.metrics_public,
        queue: fleet.rules(),
        database: config.database,
        status: config.status,
    };
    let parts = FleetParts {
        store: store.clone(),
        hub: hub.clone(),
        vault: vault.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
    };
    let connections = listener::bound();
    let links = fleet.links.min(listener::for_agents(connections));
    let fleet = Fleet::start(parts, FleetOptions { links, ..fleet });
    let runbooks = Library::of(&config.data_dir);
    let deps = http::Deps {
        store: store.clone(),
        hub: hub.clone(),
        vault,
        clock: clock.clone(),
        tasks: tasks.clone(),
        runbooks,
    };
    let state = AppState::new(deps, settings);
    // What is ordered before it runs waits for it.
    hub.note_own_agent(config.own_agent);
    let desk = state.desk();
    health::start(&desk, &clock, &tasks);
    waves::start(&desk, &tasks);
    watch::start(&state);
    let service = http::service(state.clone(), agents_routes(&fleet));
    let database = state.database.clone();
    let own_agent = match config.own_agent {
        true => start_own_agent(&state, config.data_dir.join("agent"), service.clone()).await,
        false => OwnAgent::none(),
    };
    housekeeping::start(Housekeeping { store, database, clock, logs: config.logs, tasks: tasks.clone() }, check);
    let serving = listener::serve(bound, connections, secured.map(|tls| tls.config), service, tasks.clone());
    tasks.spawn_core("listener", serving);
    let data_dir = config.data_dir;
    Ok(Running {
        url,
        address,
        setup_link,
        ca_fingerprint,
        key_origin,
        state,
        fleet,
        tasks,
        own_agent,
        data_dir,
        _lock: lock,
    })
}

async fn start_own_agent(state: &AppState, state_dir: PathBuf, service: axum::Router) -> OwnAgent {
    let (store, hub, vault) = (state.store.clone(), state.hub.clone(), state.vault.clone());
    let (jobs, clock, tasks) = (state.settings.queue.in_all, state.clock.clone(), state.tasks.clone());
    own_agent::start(own_agent::Parts { store, hub, vault, jobs, clock, state_dir, service, tasks }).await
}

/// What agents call.
fn agents_routes(fleet: &Fleet) -> Vec<Route> {
    let agents = fleet.clone();
    let socket = move |headers, upgrade| agents.connect(headers, upgrade);
    let agents = fleet.clone();
    let guard = move |id, headers, body| agents.judge(id, headers, body);
    let agents = fleet.clone();
    let download = move |id, headers, body| agents.hand_on(id, headers, body);
    vec![
        Route::get("/agent/ws", Access::Agent, socket),
        Route::post("/agent/jobs/{id}/guard", Access::Agent, guard),
        Route::post("/agent/jobs/{id}/download", Access::Agent, download),
    ]
}

/// The vault, under the key that this database was begun with.
async fn open_vault(config: &Config, store: &Store) -> Result<(Vault, KeyOrigin), StartError> {
    let key = config.key.as_ref().map(crate::domain::Secret::expose);
    let (vault, origin) = Vault::open(key, &config.key_file)?;
    if let Err(e) = check_key(store, &vault).await {
        if let KeyOrigin::Generated(file) = &origin {
            // The right key is lost or elsewhere; one that opens nothing must not lie in its place.
            fs::remove_file(file).ok();
        }
        return Err(e);
    }
    Ok((vault, origin))
}

/// Whether the key is the one that this database was begun with: found out now, and not in the night when the first backup needs a secret.
async fn check_key(store: &Store, vault: &Vault) -> Result<(), StartError> {
    const KEY: &str = "key check";
    if let Some(sealed) = store.read(|db| meta::get(db, KEY)).await? {
        vault.open_sealed(KEY, &sealed)?;
        return Ok(());
    }
    let sealed = vault.seal(KEY, b"flotilla")?;
    Ok(store.write(move |tx| meta::put(tx, KEY, &sealed)).await?)
}

/// The address as others can use it: "all addresses" is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    }
}

/// Names that a self-signed certificate is made for. Agents pin its fingerprint and do not look at them; browsers do.
fn certificate_names(config: &Config) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    let public = config.public_url.as_deref().and_then(|url| url.split("://").nth(1)).unwrap_or_default();
    let host = public.rsplit_once(':').map_or(public, |(host, _)| host).trim_matches(['[', ']']);
    if !host.is_empty() {
        names.push(host.to_owned());
    }
    names.sort();
    names.dedup();
    names
}
