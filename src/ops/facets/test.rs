//! Tries each way of reaching a host, all at once: the answer is there within twenty seconds, whatever the host does.

use std::time::Duration;

use super::{HostError, KnownHost, known, open, ssh_key};
use crate::{
    domain::{
        HostId, Secret,
        facet::api_key_identity,
        probe::{Probe, Question},
        reach::Facet,
    },
    hub::Hub,
    reach::{self, SeenKey},
    store::{Store, facets},
    vault::Vault,
};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tested {
    /// Its agent.
    pub agent: Facet,
    /// SSH.
    pub ssh: Facet,
    /// The host key that it showed.
    pub host_key: Option<SeenKey>,
    /// Its management interface.
    pub api: Facet,
    /// Its health probes: the first that is not well, else the first.
    pub health: Facet,
}

/// Tests a host. Nothing is changed, there or here.
///
/// # Errors
/// [`HostError::NoSuchHost`], a secret that does not open, or a failure.
pub async fn test(store: &Store, vault: &Vault, hub: &Hub, id: HostId) -> Result<(KnownHost, Tested), HostError> {
    let known = known(store, id).await?.ok_or(HostError::NoSuchHost)?;
    let sealed = store.read(move |db| facets::sealed(db, id)).await?;
    let ssh_key = ssh_key(vault, id, sealed.ssh)?;
    let api_key = open(vault, &api_key_identity(id), sealed.api)?;
    let stands = known.reach(hub);
    let ((ssh, host_key), api, health) =
        tokio::join!(by_ssh(&known, ssh_key), by_api(&known, api_key.as_ref()), by_health(&known));
    let tested = Tested { agent: stands.agent, ssh, host_key, api, health };
    Ok((known, tested))
}

async fn by_ssh(known: &KnownHost, key: Option<Secret>) -> (Facet, Option<SeenKey>) {
    let Some(ssh) = &known.facets.ssh else { return (Facet::new("none", "it has no SSH access"), None) };
    let found = reach::by_ssh(&known.host.name, ssh, key).await;
    (found.facet, found.host_key)
}

async fn by_api(known: &KnownHost, key: Option<&Secret>) -> Facet {
    match &known.facets.api {
        None => Facet::new("none", "it has no management interface"),
        Some(api) => reach::by_api(api, key).await,
    }
}

async fn by_health(known: &KnownHost) -> Facet {
    let probes = || known.probes.iter().filter(|probe| probe.spec.enabled && probe.site_id.is_none());
    let found = futures_util::future::join_all(probes().take(8).map(ask)).await;
    let unwell = found.iter().position(|facet| facet.state == "unhealthy").unwrap_or(0);
    found.into_iter().nth(unwell).unwrap_or_else(|| Facet::new("none", "no probe asks about it"))
}

async fn ask(probe: &Probe) -> Facet {
    let timeout = Duration::from_secs(u64::from(probe.spec.timeout_s)).min(reach::PATIENCE);
    match &probe.spec.question {
        Question::Http { url, expect, tls_insecure } => reach::by_health(url, expect, *tls_insecure, timeout).await,
        Question::Tcp { .. } | Question::Tls { .. } => {
            Facet::new(probe.state.as_str(), format!("{}, when it was asked last", probe.name))
        }
    }
}
