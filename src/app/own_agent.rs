//! The control plane's own agent: an ordinary agent in this process, which reaches the server by a door of its own instead of the network and is otherwise
//! treated as any. Its state lies in the data folder; that it can't run never keeps the server from starting.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::Router;
use flotilla_agent::{
    AgentError, AgentOptions,
    clock::{Clock as _, SystemClock as AgentClock},
    dial::Door,
    executor::{AllowRunbooks, Executor, ExecutorConfig, leftovers},
    host_facts,
    identity::{Identity, StateDir, StateLock},
    seal::Seal,
    serve,
    server_url::PlainHttp,
};
use flotilla_proto::Limits;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::listener;
use crate::{
    clock::SharedClock,
    credential::{self, CredentialError},
    domain::HostId,
    hub::Hub,
    lifecycle::Tasks,
    store::{Store, StoreError, hosts, meta},
    vault::{Vault, VaultError},
};

/// What its host is called.
const NAME: &str = "control plane";
/// Under which the token that its seal is made of is kept, itself sealed.
const SEAL: &str = "own agent seal";
/// Where it believes its server to be; nothing ever resolves this.
const SERVER: &str = "http://localhost";

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
enum OwnAgentError {
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the text that its seal is made of is none: the database was altered")]
    Seal,
}

/// What it is made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) hub: Hub,
    pub(super) vault: Vault,
    /// Jobs that all hosts have at once: it may run them all for hosts that have no agent. What it does for itself the queue bounds, as for any host.
    pub(super) jobs: u32,
    pub(super) clock: SharedClock,
    pub(super) state_dir: PathBuf,
    pub(super) service: Router,
    pub(super) tasks: Tasks,
}

/// A handle to the agent, to stop it before the server that it talks to.
#[derive(Default)]
pub(super) struct OwnAgent {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl OwnAgent {
    /// Lets go of its jobs as the stop of any agent does, and waits until they are let go of.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }

    /// One that does not run.
    pub(super) fn none() -> Self {
        let none = Self::default();
        none.ended.cancel();
        none
    }
}

/// Starts it. Where it can't run, the log says why and the server goes on without it.
pub(super) async fn start(parts: Parts) -> OwnAgent {
    let hub = parts.hub.clone();
    match begin(parts).await {
        Ok(own) => own,
        Err(e) => {
            hub.note_own_agent(false);
            tracing::error!(error = %e, "the control plane's own agent does not run: nothing else is affected");
            OwnAgent::none()
        }
    }
}

async fn begin(parts: Parts) -> Result<OwnAgent, OwnAgentError> {
    let Parts { store, hub, vault, jobs, clock, state_dir, service, tasks } = parts;
    let dir = StateDir::at(&state_dir);
    let lock = dir.lock().map_err(AgentError::from)?;
    let identity = identity(&store, &clock, &dir).await?;
    let mut config = ExecutorConfig::new(state_dir.clone(), None, Limits { concurrent_jobs: jobs });
    // Whoever runs the control plane may run anything on it.
    config.runbooks = AllowRunbooks::All;
    let stamp = AgentClock;
    let seal = own_seal(&store, &vault, &state_dir, &identity).await?;
    let executor = Executor::new(config, seal, TaskTracker::new(), Arc::new(move || stamp.now()));
    let executor = executor.map_err(|source| AgentError::State { path: state_dir.clone(), source })?;
    let (door, inside) = Door::new();
    let options = AgentOptions { door: Some(door), ..AgentOptions::new(state_dir, Arc::new(executor)) };
    tasks.spawn(listener::serve_within(inside, service, tasks.clone()));
    let own = OwnAgent::default();
    let (stop, ended) = (own.stop.clone(), own.ended.clone().drop_guard());
    tasks.spawn(run(identity, options, stop, hub, (lock, ended)));
    Ok(own)
}

async fn run(
    identity: Identity,
    options: AgentOptions,
    stop: CancellationToken,
    hub: Hub,
    _held: (StateLock, tokio_util::sync::DropGuard),
) {
    if let Err(e) = serve(identity, options, stop).await {
        tracing::error!(error = %e, "the control plane's own agent ended");
    }
    hub.note_own_agent(false);
}

/// What its orders are sealed by until their end: keys of hosts and secret answers are among them, which only the master key shall open. An agent's token lies in
/// its folder.
async fn own_seal(store: &Store, vault: &Vault, state_dir: &Path, identity: &Identity) -> Result<Seal, OwnAgentError> {
    if let Some(sealed) = store.read(|db| meta::get(db, SEAL)).await? {
        let plain = vault.open_sealed(SEAL, &sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| OwnAgentError::Seal)?;
        return Ok(Seal::from_token(&text.into()));
    }
    let left = leftovers(state_dir).map_err(|source| AgentError::State { path: state_dir.to_owned(), source })?;
    if !left.is_empty() {
        // An earlier release sealed them by the token; the next start finds none.
        return Ok(Seal::from_token(&identity.agent_token));
    }
    let token = credential::new_token("fls_")?;
    let sealed = vault.seal(SEAL, token.expose().as_bytes())?;
    store.write(move |tx| meta::put(tx, SEAL, &sealed)).await?;
    Ok(Seal::from_token(&token))
}

/// Who it is: as its folder says, where the database agrees; otherwise anew. A database that was restored elsewhere has the host, and no folder.
async fn identity(store: &Store, clock: &SharedClock, dir: &StateDir) -> Result<Identity, OwnAgentError> {
    let kept = dir.load().ok();
    let known = kept.as_ref().map(|kept| (kept.host_id, credential::hash(kept.agent_token.expose())));
    let token = credential::new_token("fla_")?;
    let (hash, random) = (credential::hash(token.expose()), credential::random_bits()?);
    let fresh = HostId::from_parts(clock.now().unix_ms().unsigned_abs(), random);
    let (host_id, is_kept) = store
        .write(move |tx| {
            let own = hosts::own(tx.db())?;
            if let (Some(own), Some((id, kept))) = (&own, known)
                && own.id == id
                && hosts::find_by_token(tx.db(), kept)?.is_some_and(|found| found.id == id)
            {
                return Ok::<_, StoreError>((id, true));
            }
            let id = match own {
                Some(own) => own.id,
                None => hosts::insert_own(tx, fresh, NAME)?,
            };
            hosts::set_token(tx, id, hash)?;
            Ok((id, false))
        })
        .await?;
    match kept {
        Some(kept) if is_kept => Ok(kept),
        _ => {
            let server = SERVER.parse().map_err(AgentError::Server)?;
            let (host_name, plain_http) = (host_facts::hostname(), PlainHttp::LoopbackOnly);
            let identity =
                Identity { server, host_id, agent_token: token, host_name, ca_fingerprint: None, plain_http };
            dir.save(&identity).map_err(AgentError::from)?;
            Ok(identity)
        }
    }
}
