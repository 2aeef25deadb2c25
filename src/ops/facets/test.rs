//! Tries each way of reaching a host, all at once: the answer is there within twenty seconds, whatever the host does.

use std::time::Duration;

use super::{HostError, KnownHost, known, open, ssh_key};
use crate::{
    domain::{HostId, Secret, Timestamp, facet::api_key_identity, reach::Facet},
    hub::Hub,
    probe::Prober,
    reach::{self, SeenKey},
    store::{Store, facets},
    vault::Vault,
};

/// So many of a host's probes are asked.
const MOST_PROBES: usize = 8;

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

/// Tests a host: `by` asks about its health, at this time. Nothing is changed, there or here.
///
/// # Errors
/// [`HostError::NoSuchHost`], a secret that does not open, or a failure.
pub async fn test(
    (store, vault, hub): (&Store, &Vault, &Hub),
    by: (&Prober, Timestamp),
    id: HostId,
) -> Result<(KnownHost, Tested), HostError> {
    let known = known(store, id).await?.ok_or(HostError::NoSuchHost)?;
    let sealed = store.read(move |db| facets::sealed(db, id)).await?;
    let ssh_key = ssh_key(vault, id, sealed.ssh)?;
    let api_key = open(vault, &api_key_identity(id), sealed.api)?;
    let stands = known.reach(hub);
    let ((ssh, host_key), api, health) =
        tokio::join!(by_ssh(&known, ssh_key), by_api(&known, api_key.as_ref()), by_health(&known, by));
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

async fn by_health(known: &KnownHost, (prober, now): (&Prober, Timestamp)) -> Facet {
    let probes = known.probes.iter().filter(|probe| probe.spec.enabled && probe.site_id.is_none());
    let asked = probes.take(MOST_PROBES).map(async |probe| {
        let within = Duration::from_secs(u64::from(probe.spec.timeout_s)).min(reach::PATIENCE);
        let answer = prober.ask(&probe.spec.question, within, now).await;
        Facet::new(if answer.healthy { "healthy" } else { "unhealthy" }, format!("{}: {}", probe.name, answer.detail))
    });
    let found = futures_util::future::join_all(asked).await;
    let unwell = found.iter().position(|facet| facet.state == "unhealthy").unwrap_or(0);
    found.into_iter().nth(unwell).unwrap_or_else(|| Facet::new("none", "no probe asks about it"))
}
