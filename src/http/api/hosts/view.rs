//! A host as the API shows it: what is known of it, never a secret.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    domain::{
        Container, HostId, Timestamp,
        facet::{ApiFacet, Restart, SshFacet},
        host::HostStatus,
        probe::{Expect, Probe, Question},
        reach::{Health, Reach},
    },
    http::api::repos::SecretState,
    hub::Hub,
    ops::{facets::KnownHost, survey::status_of},
};

/// A host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HostView {
    /// Identity.
    #[schema(value_type = String)]
    pub id: HostId,
    /// What people call it.
    pub name: String,
    /// Unique, for life; restic's `--host`.
    pub slug: String,
    /// Whether its agent is connected.
    pub status: HostStatus,
    /// `linux`, `windows`, …
    pub os: Option<String>,
    /// `x86_64`, …
    pub arch: Option<String>,
    /// The machine's name for itself.
    pub hostname: Option<String>,
    /// Labels.
    pub tags: Vec<String>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// Version of its restic; null where it has none.
    pub restic_version: Option<String>,
    /// Last sign of life.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Timestamp>,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its agent's identity was taken away.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The ways of reaching it.
    pub reach: Reach,
    /// Whether it is the control plane's own agent: no part of the fleet.
    pub own: bool,
    /// What its probes say; null while there is none.
    pub health: Option<HealthView>,
    /// How it is reached by SSH; null where it is not.
    pub ssh: Option<SshView>,
    /// Its management interface; null where it has none.
    pub api: Option<ApiView>,
    /// The container that commands run in; null: on the host itself.
    pub container: Option<ContainerView>,
    /// How its service is restarted; null: not configured.
    pub restart: Option<RestartView>,
    /// Whether runbooks that are off by default may run on it.
    pub opened: bool,
    /// Its key in the server's configuration, where that declares it: it is changed there only.
    pub declared: Option<String>,
}

/// SSH access.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SshView {
    /// A name or an address.
    pub host: String,
    /// Usually 22.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// The private key's file on the control plane, where none is kept.
    pub key_path: Option<String>,
    /// The private key that is kept.
    pub private_key: SecretState,
    /// By which program its containers are entered, where it is said.
    pub container_cli: Option<String>,
    /// The fingerprint that was confirmed; null: nothing runs over SSH yet.
    pub host_key: Option<String>,
    /// The algorithm of that key, where it is known.
    pub host_key_algorithm: Option<String>,
}

/// A management interface.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ApiView {
    /// Endpoints are appended to it.
    pub base_url: String,
    /// Sent as `public_key`.
    pub public_key: Option<String>,
    /// Sent as `secret_key`.
    pub secret_key: SecretState,
    /// Any certificate is taken.
    pub tls_insecure: bool,
}

/// A container.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ContainerView {
    /// By which program it is entered.
    pub cli: String,
    /// Its name or id.
    pub name: String,
    /// As whom; null: the container's own user.
    pub user: Option<String>,
}

/// How a service is restarted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RestartView {
    /// What bash runs there.
    pub command: String,
    /// Seconds until all of it is ended.
    pub timeout_s: u32,
    /// Folders that go before the usual ones on its `PATH`.
    pub path: Option<String>,
}

/// What a host's probes say, and what its own asks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HealthView {
    /// What they say together.
    #[serde(flatten)]
    pub said: Health,
    /// The probe that was given as `health`; null where all others were added for themselves.
    pub probe: Option<HealthProbeView>,
}

/// A host's own health probe.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HealthProbeView {
    /// What is asked, by GET.
    pub url: String,
    /// `any`, `status`, `body`.
    pub mode: &'static str,
    /// Of the mode `status`.
    pub codes: Option<Vec<u16>>,
    /// Of the mode `body`.
    pub pattern: Option<String>,
    /// Seconds from one question to the next.
    pub interval_s: u32,
    /// Seconds to wait for an answer.
    pub timeout_s: u32,
    /// Any certificate is taken.
    pub tls_insecure: bool,
}

impl HostView {
    /// A host as the API shows it, with what is known of its agent right now.
    #[must_use]
    pub fn of(known: KnownHost, hub: &Hub) -> Self {
        let (reach, said) = (known.reach(hub), known.health());
        let probe = known.own_probe().and_then(HealthProbeView::of);
        let KnownHost { host, facets, .. } = known;
        let seen_at = hub.presence(host.id).map(|presence| presence.seen_at);
        Self {
            id: host.id,
            status: status_of(hub, &host),
            name: host.name,
            slug: host.slug,
            os: host.os,
            arch: host.arch,
            hostname: host.hostname,
            tags: host.tags,
            agent_version: host.agent_version,
            restic_version: host.restic_version,
            last_seen_at: seen_at.max(host.last_seen_at),
            created_at: host.created_at,
            revoked_at: host.revoked_at,
            own: host.own,
            reach,
            health: said.map(|said| HealthView { said, probe }),
            ssh: facets.ssh.map(|ssh| SshView::of(ssh, facets.ssh_key_set)),
            api: facets.api.map(|api| ApiView::of(api, facets.api_key_set)),
            container: facets.container.map(ContainerView::from),
            restart: facets.restart.map(RestartView::from),
            opened: facets.opened,
            declared: facets.declared,
        }
    }
}

impl SshView {
    fn of(ssh: SshFacet, set: bool) -> Self {
        Self {
            host: ssh.address,
            port: ssh.port,
            user: ssh.user,
            key_path: ssh.key_path,
            private_key: SecretState { set },
            container_cli: ssh.container_cli,
            host_key: ssh.host_key,
            host_key_algorithm: ssh.host_key_algorithm,
        }
    }
}

impl ApiView {
    fn of(api: ApiFacet, set: bool) -> Self {
        let ApiFacet { base_url, public_key, tls_insecure } = api;
        Self { base_url, public_key, secret_key: SecretState { set }, tls_insecure }
    }
}

impl From<Container> for ContainerView {
    fn from(container: Container) -> Self {
        let Container { cli, name, user } = container;
        Self { cli, name, user }
    }
}

impl From<Restart> for RestartView {
    fn from(restart: Restart) -> Self {
        let Restart { command, timeout_s, path } = restart;
        Self { command, timeout_s, path }
    }
}

impl HealthProbeView {
    fn of(probe: &Probe) -> Option<Self> {
        let Question::Http { url, expect, tls_insecure } = &probe.spec.question else { return None };
        let (mode, codes, pattern) = match expect {
            Expect::Any => ("any", None, None),
            Expect::Status { codes } => ("status", Some(codes.iter().copied().collect()), None),
            Expect::Body { pattern } => ("body", None, Some(pattern.clone())),
        };
        Some(Self {
            url: url.clone(),
            mode,
            codes,
            pattern,
            interval_s: probe.spec.interval_s,
            timeout_s: probe.spec.timeout_s,
            tls_insecure: *tls_insecure,
        })
    }
}
