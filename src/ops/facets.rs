//! What a host has besides its agent: made, changed, looked at. Secrets are sealed here before anything is written, and opened only to ask the host itself. What lets
//! commands run on a host is an administrator's to change; what the configuration declares is changed there.

pub mod declared;
mod draft;
mod test;

use serde::{Deserialize, Deserializer};

use crate::{
    credential,
    domain::{
        FieldError, HostId, ProbeId, Secret, check_name,
        facet::{
            Facets, api_key_identity,
            input::{ApiInput, ContainerInput, Faults, HealthInput, HostInput, RestartInput, SshInput, fingerprint},
            ssh_key_identity,
        },
        host::Host,
        job::Actor,
        probe::Probe,
        reach::{HEALTH, Health, Reach, health, reach},
        user::Role,
    },
    hub::Hub,
    ops::{
        enrol::check_tags,
        hosts::{HostError, of_fleet},
    },
    store::{
        Db, Store, StoreError, WriteTx, audit, facets,
        hosts::{self, NewHost},
        probes,
    },
    vault::Vault,
};

pub use test::{Tested, test};

use draft::{Draft, Keys};

/// What to change of a host: what is absent stays, `null` removes, what is given takes the place of what was; a secret that is not given again stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// What people call it.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Labels, all of them.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub tags: Option<Vec<String>>,
    /// SSH access. Another address or port takes its confirmed host key away.
    #[serde(default, deserialize_with = "super::repos::present")]
    #[schema(value_type = Option<SshInput>)]
    pub ssh: Option<Option<SshInput>>,
    /// Its management interface.
    #[serde(default, deserialize_with = "super::repos::present")]
    #[schema(value_type = Option<ApiInput>)]
    pub api: Option<Option<ApiInput>>,
    /// Its own health probe.
    #[serde(default, deserialize_with = "super::repos::present")]
    #[schema(value_type = Option<HealthInput>)]
    pub health: Option<Option<HealthInput>>,
    /// How its service is restarted.
    #[serde(default, deserialize_with = "super::repos::present")]
    #[schema(value_type = Option<RestartInput>)]
    pub restart: Option<Option<RestartInput>>,
    /// The container that commands run in.
    #[serde(default, deserialize_with = "super::repos::present")]
    #[schema(value_type = Option<ContainerInput>)]
    pub container: Option<Option<ContainerInput>>,
    /// Whether runbooks that are off by default may run on it.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false)]
    pub opened: Option<bool>,
}

/// Tells "left out" from "null", which is refused.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl HostPatch {
    /// What of it lets commands run on the host.
    fn lets_run(&self) -> bool {
        self.ssh.is_some()
            || self.api.is_some()
            || self.restart.is_some()
            || self.container.is_some()
            || self.opened.is_some()
    }

    /// The facets that it names, for the audit trail.
    fn words(&self) -> String {
        let word = |name: &str, change: Option<bool>| {
            change.map(|stays| if stays { name.to_owned() } else { format!("no {name}") })
        };
        let words = [
            word("ssh", self.ssh.as_ref().map(Option::is_some)),
            word("api", self.api.as_ref().map(Option::is_some)),
            word("health", self.health.as_ref().map(Option::is_some)),
            word("restart", self.restart.as_ref().map(Option::is_some)),
            word("container", self.container.as_ref().map(Option::is_some)),
            self.opened.map(|opened| if opened { "opened".to_owned() } else { "closed".to_owned() }),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl From<HostInput> for HostPatch {
    fn from(input: HostInput) -> Self {
        let HostInput { name, tags, ssh, api, health, restart, container, opened } = input;
        Self {
            name: Some(name),
            tags,
            ssh: ssh.map(Some),
            api: api.map(Some),
            health: health.map(Some),
            restart: restart.map(Some),
            container: container.map(Some),
            opened,
        }
    }
}

/// A host with all that is known of it besides its jobs.
#[derive(Debug, Clone)]
pub struct KnownHost {
    /// The host.
    pub host: Host,
    /// What it has besides its agent.
    pub facets: Facets,
    /// Its probes, its sites' among them.
    pub probes: Vec<Probe>,
}

impl KnownHost {
    /// Reads the rest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn of(db: &Db, host: Host) -> Result<Self, StoreError> {
        let (facets, probes) = (facets::of(db, host.id)?, probes::list(db, Some(host.id))?);
        Ok(Self { host, facets, probes })
    }

    /// Reads the rest of many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn of_all(db: &Db, hosts: Vec<Host>) -> Result<Vec<Self>, StoreError> {
        let mut facets = facets::all(db)?;
        let mut by_host = std::collections::HashMap::<HostId, Vec<Probe>>::new();
        for probe in probes::list(db, None)? {
            by_host.entry(probe.host_id).or_default().push(probe);
        }
        let rest = |host: Host| Self {
            facets: facets.remove(&host.id).unwrap_or_default(),
            probes: by_host.remove(&host.id).unwrap_or_default(),
            host,
        };
        Ok(hosts.into_iter().map(rest).collect())
    }

    /// The state of each facet.
    #[must_use]
    pub fn reach(&self, hub: &Hub) -> Reach {
        reach(&self.host, &self.facets, &self.probes, hub.is_online(self.host.id))
    }

    /// What its probes say.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        health(&self.probes)
    }

    /// The probe that its own `health` stands for.
    #[must_use]
    pub fn own_probe(&self) -> Option<&Probe> {
        self.probes.iter().find(|probe| probe.site_id.is_none() && probe.name == HEALTH)
    }
}

/// A host as it is known.
///
/// # Errors
/// [`StoreError`].
pub async fn known(store: &Store, id: HostId) -> Result<Option<KnownHost>, StoreError> {
    store.read(move |db| hosts::lookup(db, id)?.map(|host| KnownHost::of(db, host)).transpose()).await
}

fn may(role: Role, patch: &HostPatch) -> Result<(), HostError> {
    if patch.lets_run() && role < Role::Admin {
        return Err(HostError::AdminsOnly);
    }
    Ok(())
}

/// Adds a host without an agent.
///
/// # Errors
/// [`HostError::Invalid`]; [`HostError::AdminsOnly`] where it has what lets commands run and `role` is less.
pub async fn create(
    store: &Store,
    vault: &Vault,
    (actor, role): (Actor, Role),
    input: HostInput,
) -> Result<KnownHost, HostError> {
    let patch = HostPatch::from(input);
    may(role, &patch)?;
    let words = patch.words();
    let draft = Draft::of(patch)?;
    let (vault, bits) = (vault.clone(), (credential::random_bits()?, credential::random_bits()?));
    store
        .write(move |tx| {
            let id = add(tx, bits.0, &draft)?;
            let host = hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
            put(tx, &vault, &host, (bits.1, draft))?;
            audit::record(tx, &actor, "host.create", &id.to_string(), &join(&host.name, &words))?;
            Ok(KnownHost::of(tx.db(), host)?)
        })
        .await
}

/// A bare host of the draft's name and tags.
fn add(tx: &mut WriteTx<'_>, random: u128, draft: &Draft) -> Result<HostId, StoreError> {
    let new = NewHost {
        id: HostId::from_parts(tx.now().unix_ms().unsigned_abs(), random),
        name: draft.name.clone().unwrap_or_default(),
        tags: draft.tags.clone().unwrap_or_default(),
        token_hash: None,
        enrol_token: None,
        facts: hosts::Facts::default(),
    };
    Ok(hosts::insert(tx, &new)?.id)
}

/// Changes a host and returns it as it is then. The slug stays: restic finds a host's snapshots by it.
///
/// # Errors
/// [`HostError`].
pub async fn change(
    store: &Store,
    vault: &Vault,
    (actor, role): (Actor, Role),
    id: HostId,
    patch: HostPatch,
) -> Result<KnownHost, HostError> {
    may(role, &patch)?;
    let words = patch.words();
    let draft = Draft::of(patch)?;
    let (vault, random) = (vault.clone(), credential::random_bits()?);
    store
        .write(move |tx| {
            let host = of_fleet(tx, id)?;
            if let Some(key) = facets::of(tx.db(), id)?.declared {
                return Err(HostError::Declared(key));
            }
            let host = Host {
                name: draft.name.clone().unwrap_or(host.name),
                tags: draft.tags.clone().unwrap_or(host.tags),
                ..host
            };
            hosts::update(tx, id, &host.name, &host.tags)?;
            put(tx, &vault, &host, (random, draft))?;
            audit::record(tx, &actor, "host.update", &id.to_string(), &join(&host.name, &words))?;
            Ok(KnownHost::of(tx.db(), host)?)
        })
        .await
}

fn join(name: &str, words: &str) -> String {
    if words.is_empty() { name.to_owned() } else { format!("{name}: {words}") }
}

/// Writes a draft's facets over those that are there. Says whether anything changed.
fn put(tx: &mut WriteTx<'_>, vault: &Vault, host: &Host, (random, draft): (u128, Draft)) -> Result<bool, HostError> {
    let before = facets::of(tx.db(), host.id)?;
    let probe = draft.health.clone();
    let (after, keys) = draft.over(before.clone())?;
    let mut changed = before != after;
    if changed {
        facets::set(tx, host.id, &after)?;
    }
    changed |= seal(tx, vault, host.id, keys)?;
    if let Some(spec) = probe {
        let id = ProbeId::from_parts(tx.now().unix_ms().unsigned_abs(), random);
        let of_host = |tx: &WriteTx<'_>| probes::list(tx.db(), Some(host.id));
        let before: Vec<_> = of_host(tx)?.into_iter().map(|probe| (probe.id, probe.spec)).collect();
        probes::set_named(tx, id, (host.id, HEALTH), spec.as_ref())?;
        let after: Vec<_> = of_host(tx)?.into_iter().map(|probe| (probe.id, probe.spec)).collect();
        changed |= before != after;
    }
    Ok(changed)
}

/// Seals what is new, forgets what is to go. Says whether anything changed: what is kept already is not sealed anew.
fn seal(tx: &mut WriteTx<'_>, vault: &Vault, id: HostId, keys: Keys) -> Result<bool, HostError> {
    let kept = facets::sealed(tx.db(), id)?;
    let mut changed = false;
    let ways = [
        (keys.ssh, kept.ssh, ssh_key_identity(id), facets::set_ssh_key as SetKey),
        (keys.api, kept.api, api_key_identity(id), facets::set_api_key),
    ];
    for (new, kept, identity, set) in ways {
        match new {
            draft::Key::Stays => {}
            draft::Key::Goes if kept.is_none() => {}
            draft::Key::Goes => {
                set(tx, id, None)?;
                changed = true;
            }
            draft::Key::New(secret) => {
                let plain = secret.expose().as_bytes();
                let same = |sealed| vault.open_sealed(&identity, sealed).is_ok_and(|open| open.as_slice() == plain);
                if !kept.as_deref().is_some_and(same) {
                    set(tx, id, Some(&vault.seal(&identity, plain)?))?;
                    changed = true;
                }
            }
        }
    }
    Ok(changed)
}

type SetKey = fn(&mut WriteTx<'_>, HostId, Option<&[u8]>) -> Result<(), StoreError>;

/// Forgets all that a host has besides its history, for good: it is removed.
///
/// # Errors
/// [`StoreError`].
pub(super) fn forget(tx: &mut WriteTx<'_>, id: HostId) -> Result<(), StoreError> {
    facets::set_ssh_key(tx, id, None)?;
    facets::set_api_key(tx, id, None)?;
    facets::set(tx, id, &Facets::default())
}

/// A host's SSH access and its kept key in clear, for one connection.
fn ssh_key(vault: &Vault, id: HostId, sealed: Option<Vec<u8>>) -> Result<Option<Secret>, HostError> {
    open(vault, &ssh_key_identity(id), sealed)
}

fn open(vault: &Vault, identity: &str, sealed: Option<Vec<u8>>) -> Result<Option<Secret>, HostError> {
    let Some(sealed) = sealed else { return Ok(None) };
    let plain = vault.open_sealed(identity, &sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| crate::vault::VaultError::Sealed)?;
    Ok(Some(Secret::from(text)))
}

/// Confirms a host's key: from now on it must prove that one. The host is looked at once more for the key's algorithm; where it does not answer, or shows another,
/// the fingerprint alone is kept, and any of its keys is compared with it.
///
/// # Errors
/// [`HostError::Invalid`] for what is no fingerprint, or a host without SSH access; [`HostError::KeyDeclared`] where the configuration names the key.
pub async fn trust(
    store: &Store,
    vault: &Vault,
    actor: Actor,
    id: HostId,
    host_key: &str,
) -> Result<KnownHost, HostError> {
    let pin = fingerprint(host_key).map_err(|why| invalid("host_key", why))?;
    let known = known(store, id).await?.ok_or(HostError::NoSuchHost)?;
    let ssh = ssh_of(&known.facets)?.clone();
    let sealed = store.read(move |db| facets::sealed(db, id)).await?;
    let key = ssh_key(vault, id, sealed.ssh)?;
    let shown = crate::reach::host_key(&known.host.name, &ssh, key).await;
    let algorithm = shown.filter(|shown| shown.fingerprint == pin).and_then(|shown| shown.algorithm);
    store
        .write(move |tx| {
            let host = of_fleet(tx, id)?;
            let mut facets = facets::of(tx.db(), id)?;
            let now = ssh_of(&facets)?.clone();
            if (&now.address, now.port) != (&ssh.address, ssh.port) {
                return Err(invalid("host_key", "is of another address than the host has by now: test it again"));
            }
            if now.host_key_declared {
                return Err(HostError::KeyDeclared(facets.declared.unwrap_or_default()));
            }
            let (before, detail) = (now.host_key.clone(), pin.clone());
            let detail = match before.filter(|before| *before != pin) {
                Some(before) => format!("{}: {detail} in place of {before}", host.name),
                None => format!("{}: {detail}", host.name),
            };
            facets.ssh =
                Some(crate::domain::facet::SshFacet { host_key: Some(pin), host_key_algorithm: algorithm, ..now });
            facets::set(tx, id, &facets)?;
            audit::record(tx, &actor, "host.trust", &id.to_string(), &detail)?;
            Ok(KnownHost::of(tx.db(), host)?)
        })
        .await
}

fn ssh_of(facets: &Facets) -> Result<&crate::domain::facet::SshFacet, HostError> {
    facets
        .ssh
        .as_ref()
        .ok_or_else(|| invalid("host_key", "goes with a host that has SSH access, which this one has not"))
}

fn invalid(field: &str, message: impl Into<String>) -> HostError {
    HostError::Invalid(vec![FieldError::new(field, message)])
}

/// Name and tags, checked; what is wrong goes to `faults`.
fn named(
    faults: &mut Faults,
    name: Option<String>,
    tags: Option<Vec<String>>,
) -> (Option<String>, Option<Vec<String>>) {
    let name = name.and_then(|name| faults.take("name", check_name(&name)));
    let tags = tags.and_then(|tags| check_tags("tags", &tags).map_err(|errors| faults.0.extend(errors)).ok());
    (name, tags)
}
