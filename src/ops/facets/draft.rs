//! A change of a host's facets that was looked through: what can be used of it, and what comes of it together with what is there.

use super::{HostError, HostPatch, named};
use crate::{
    domain::{
        Container, FieldError, Secret,
        facet::{
            ApiFacet, Facets, Restart, SshFacet,
            input::{ApiDraft, ContainerInput, Faults, HostInput, SshDraft},
        },
        probe::ProbeSpec,
    },
    probe, reach,
};

/// What becomes of a secret.
#[derive(Debug, Clone, Default)]
pub(super) enum Key {
    /// As it is.
    #[default]
    Stays,
    /// It is forgotten.
    Goes,
    /// This is kept instead.
    New(Secret),
}

/// What becomes of both.
#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    pub(super) ssh: Key,
    pub(super) api: Key,
}

/// See the module. `None`: as it is; `Some(None)`: taken away.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) name: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    ssh: Option<Option<SshDraft>>,
    api: Option<Option<ApiDraft>>,
    pub(super) health: Option<Option<ProbeSpec>>,
    restart: Option<Option<Restart>>,
    container: Option<Option<ContainerInput>>,
    opened: Option<bool>,
    /// The configuration's key for the host, where it declares it.
    pub(super) declared: Option<String>,
}

/// What is given, checked; what is to go stays so.
fn each<T, U>(
    given: Option<Option<T>>,
    faults: &mut Faults,
    check: impl FnOnce(T, &mut Faults) -> Option<U>,
) -> Option<Option<U>> {
    given.map(|given| given.and_then(|given| check(given, faults)))
}

impl Draft {
    /// Looks a change through.
    ///
    /// # Errors
    /// [`HostError::Invalid`] with all that is wrong.
    pub(super) fn of(patch: HostPatch) -> Result<Self, HostError> {
        let HostPatch { name, tags, ssh, api, health, restart, container, opened } = patch;
        let mut faults = Faults::default();
        let (name, tags) = named(&mut faults, name, tags);
        let ssh = each(ssh, &mut faults, |ssh, faults| {
            let draft = ssh.check(faults)?;
            if let Some(key) = &draft.private_key {
                faults.take("ssh.private_key", reach::check_private_key(key))?;
            }
            Some(draft)
        });
        let api = each(api, &mut faults, |api, faults| api.check(faults));
        let health = each(health, &mut faults, |health, faults| {
            let spec = health.check(faults)?;
            let asked = probe::check(&spec.question);
            asked
                .map_err(|fault| faults.add(&format!("health.{}", fault.field.replace("expect.", "")), fault.message))
                .ok()?;
            Some(spec)
        });
        let restart = each(restart, &mut faults, |restart, faults| restart.check(faults));
        // Which program enters it, the host's SSH access may say: that is known once both are together.
        let container = each(container, &mut faults, |container, faults| {
            container.clone().check(faults, None)?;
            Some(container)
        });
        if !faults.0.is_empty() {
            return Err(HostError::Invalid(faults.0));
        }
        Ok(Self { name, tags, ssh, api, health, restart, container, opened, declared: None })
    }

    /// What the configuration says of a host, under its key there: all of what is not said goes, but tags.
    ///
    /// # Errors
    /// [`HostError::Invalid`] with all that is wrong.
    pub(super) fn declared(key: &str, input: HostInput) -> Result<Self, HostError> {
        let HostInput { name, tags, ssh, api, health, restart, container, opened } = input;
        let mut draft = Self::of(HostPatch {
            name: Some(name),
            tags,
            ssh: Some(ssh),
            api: Some(api),
            health: Some(health),
            restart: Some(restart),
            container: Some(container),
            opened: Some(opened.unwrap_or(false)),
        })?;
        if let Some(Some(ssh)) = &mut draft.ssh {
            ssh.facet.host_key_declared = ssh.facet.host_key.is_some();
        }
        draft.declared = Some(key.to_owned());
        Ok(draft)
    }

    /// What comes of it over what is there.
    ///
    /// # Errors
    /// [`HostError::Invalid`] for SSH access that neither brings a private key nor has one.
    pub(super) fn over(self, before: Facets) -> Result<(Facets, Keys), HostError> {
        let mut keys = Keys::default();
        let ssh = match self.ssh {
            None => before.ssh,
            Some(None) => {
                keys.ssh = Key::Goes;
                None
            }
            Some(Some(draft)) => {
                let (facet, key) = over_ssh(draft, before.ssh, before.ssh_key_set)?;
                keys.ssh = key;
                Some(facet)
            }
        };
        let api = match self.api {
            None => before.api,
            Some(None) => {
                keys.api = Key::Goes;
                None
            }
            Some(Some(ApiDraft { facet, secret_key })) => {
                keys.api = secret_key.map_or(Key::Stays, Key::New);
                Some(facet)
            }
        };
        let cli = ssh.as_ref().and_then(|ssh: &SshFacet| ssh.container_cli.as_deref());
        let mut faults = Faults::default();
        let container: Option<Container> = match self.container {
            None => before.container,
            Some(given) => given.and_then(|given| given.check(&mut faults, cli)),
        };
        if !faults.0.is_empty() {
            return Err(HostError::Invalid(faults.0));
        }
        let api: Option<ApiFacet> = api;
        let after = Facets {
            ssh,
            ssh_key_set: before.ssh_key_set,
            api,
            api_key_set: before.api_key_set,
            container,
            restart: self.restart.unwrap_or(before.restart),
            opened: self.opened.unwrap_or(before.opened),
            declared: self.declared.or(before.declared),
        };
        Ok((after, keys))
    }
}

/// A new SSH access: the key stays where no other is given, the confirmed host key where it is the same door.
fn over_ssh(draft: SshDraft, before: Option<SshFacet>, kept: bool) -> Result<(SshFacet, Key), HostError> {
    let SshDraft { mut facet, private_key } = draft;
    let key = match (private_key, &facet.key_path) {
        (Some(text), _) => Key::New(text),
        (None, Some(_)) => Key::Goes,
        (None, None) if kept => Key::Stays,
        (None, None) => {
            facet.key_path = before.as_ref().and_then(|before| before.key_path.clone());
            Key::Stays
        }
    };
    if matches!(key, Key::Stays) && !kept && facet.key_path.is_none() {
        let why = "is missing: give private_key, or key_path with the path of its file on the control plane";
        return Err(HostError::Invalid(vec![FieldError::new("ssh.private_key", why)]));
    }
    let Some(before) = before else { return Ok((facet, key)) };
    let same_door = (&before.address, before.port) == (&facet.address, facet.port);
    match &facet.host_key {
        None if same_door => {
            facet.host_key = before.host_key;
            facet.host_key_algorithm = before.host_key_algorithm;
        }
        Some(pin) if before.host_key.as_ref() == Some(pin) => facet.host_key_algorithm = before.host_key_algorithm,
        _ => {}
    }
    Ok((facet, key))
}
