//! Hosts that the configuration declares: made and kept by each start of the server. What is the same already is not written again; a host that is declared no longer
//! stays as it is, with its history, and is people's to change from then on.

use std::collections::HashMap;

use super::{add, draft::Draft, put};
use crate::{
    credential,
    domain::{
        HostId,
        facet::{declared_where, input::DeclaredHost},
        host::Host,
        job::Actor,
    },
    ops::hosts::HostError,
    store::{
        Store, WriteTx, audit, facets,
        hosts::{self, HostFilter},
    },
    vault::Vault,
};

/// Makes and updates what is declared. A host of that name that is there already, and that no other key declares, is taken over.
///
/// # Errors
/// [`HostError::Invalid`] for what can't be used, or a failure; nothing was changed then.
pub async fn apply(store: &Store, vault: &Vault, declared: Vec<DeclaredHost>) -> Result<(), HostError> {
    let drafts: Vec<(String, Draft, [u128; 2])> = declared
        .into_iter()
        .map(|DeclaredHost { key, input }| {
            let draft = Draft::declared(&key, input)?;
            Ok((key, draft, [credential::random_bits()?, credential::random_bits()?]))
        })
        .collect::<Result<_, HostError>>()?;
    let vault = vault.clone();
    store
        .write(move |tx| {
            let mut known = facets::declared(tx.db())?;
            for (key, draft, bits) in drafts {
                let id = known.remove(&key);
                one(tx, &vault, (&key, id), (draft, bits))?;
            }
            known.into_iter().try_for_each(|(key, id)| let_go(tx, &key, id))
        })
        .await
}

fn one(
    tx: &mut WriteTx<'_>,
    vault: &Vault,
    (key, id): (&str, Option<HostId>),
    (draft, bits): (Draft, [u128; 2]),
) -> Result<(), HostError> {
    let name = draft.name.clone().unwrap_or_default();
    let id = match id {
        Some(id) => Some(id),
        None => namesake(tx, &name)?,
    };
    let (id, mut changed) = match id {
        Some(id) => (id, false),
        None => (add(tx, bits[0], &draft)?, true),
    };
    let before = hosts::lookup(tx.db(), id)?.ok_or(HostError::NoSuchHost)?;
    let tags = draft.tags.clone().unwrap_or_else(|| before.tags.clone());
    if (&name, &tags) != (&before.name, &before.tags) {
        hosts::update(tx, id, &name, &tags)?;
        changed = true;
    }
    let host = Host { name, tags, ..before };
    changed |= put(tx, vault, &host, (bits[1], draft))?;
    if changed {
        let detail = format!("{}: declared in {}", host.name, declared_where(key));
        audit::record(tx, &Actor::system(), "host.declare", &id.to_string(), &detail)?;
    }
    Ok(())
}

/// The one host of this name that nothing declares.
fn namesake(tx: &WriteTx<'_>, name: &str) -> Result<Option<HostId>, HostError> {
    let facets: HashMap<_, _> = facets::all(tx.db())?;
    let free = |host: &Host| facets.get(&host.id).is_none_or(|facets| facets.declared.is_none());
    let mut named =
        hosts::list(tx.db(), &HostFilter::default())?.into_iter().filter(|host| host.name == name && free(host));
    let first = named.next();
    Ok(first.filter(|_| named.next().is_none()).map(|host| host.id))
}

/// A host that is declared no longer.
fn let_go(tx: &mut WriteTx<'_>, key: &str, id: HostId) -> Result<(), HostError> {
    let mut facets = facets::of(tx.db(), id)?;
    facets.declared = None;
    if let Some(ssh) = &mut facets.ssh {
        ssh.host_key_declared = false;
    }
    facets::set(tx, id, &facets)?;
    let detail = format!("no longer declared in {}", declared_where(key));
    Ok(audit::record(tx, &Actor::system(), "host.undeclare", &id.to_string(), &detail)?)
}
