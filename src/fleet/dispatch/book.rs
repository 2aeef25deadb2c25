//! The order of a runbook as it leaves: the hosts that it names as they are now, their keys opened, the secret answers opened. The way was decided on when the job was
//! made; where it is not there any more the order is not made, and says so. Keys and other machines go to the control plane's own agent and to no other.

use std::collections::BTreeMap;

use flotilla_proto::{ApiWay, RunbookOrder, Secret, SshWay, StepHost};

use crate::{
    domain::{
        HostId, Way,
        facet::{self, ApiFacet, Facets, NoWay, SshFacet},
        host::Host,
        job::{Job, RunbookInput, secrets_identity},
        site::Site,
    },
    store::{
        Db, StoreError,
        facets::{self, SealedKeys},
        hosts, jobs, sites,
    },
    vault::{Vault, VaultError},
};

/// Why the order of a runbook can't be made.
#[derive(Debug, thiserror::Error)]
pub(in crate::fleet) enum BookError {
    #[error("{0}")]
    Vault(#[from] VaultError),
    #[error("the host was removed before the job could run. Nothing was done there; order it on another")]
    Removed,
    #[error(
        "the host that was chosen as {0} was removed before the job could run. Nothing was done; choose another and run it again"
    )]
    OtherRemoved(String),
    #[error(
        "{host} was to be reached by {way}, and can't be any more: {why}. The way was decided on when the job was made and is not changed: run it again"
    )]
    NoWay { host: String, way: &'static str, why: &'static str },
    #[error(
        "no private key is kept for SSH to {0}: enter one in the host's settings, or the path of one, and run it again"
    )]
    NoKey(String),
    #[error("the site was removed before the job could run. Nothing was done; add it again, or choose another")]
    SiteRemoved,
    #[error("{0} has no restart command in its settings any more: enter one, and run it again")]
    NoRestart(String),
    #[error("its secret answers are not kept any more: run it again, and give them anew")]
    NoAnswers,
    #[error("a stored key of {0} is no text: enter it again in the host's settings")]
    Garbled(String),
}

/// What stands in the store for a runbook's order.
pub(super) struct Sheet {
    about: Option<Known>,
    others: BTreeMap<String, Option<Known>>,
    secrets: Option<Vec<u8>>,
    site: Option<Site>,
}

/// A host as it is now.
struct Known {
    host: Host,
    facets: Facets,
    keys: SealedKeys,
}

impl Known {
    fn of(db: &Db, id: HostId) -> Result<Option<Self>, StoreError> {
        let Some(host) = hosts::lookup(db, id)? else { return Ok(None) };
        Ok(Some(Self { host, facets: facets::of(db, id)?, keys: facets::sealed(db, id)? }))
    }
}

/// Reads what a job's order needs, where it is a runbook.
pub(super) fn sheet(db: &Db, job: &Job) -> Result<Option<Sheet>, StoreError> {
    let Some(book) = &job.input.runbook else { return Ok(None) };
    let others = book.others.iter().map(|(input, id)| Ok::<_, StoreError>((input.clone(), Known::of(db, *id)?)));
    Ok(Some(Sheet {
        about: Known::of(db, job.seat())?,
        others: others.collect::<Result<_, _>>()?,
        secrets: jobs::sealed_secrets(db, job.id)?,
        site: job.site_id.map(|id| sites::lookup(db, id)).transpose()?.flatten(),
    }))
}

/// The order for `runner`, whose agent gets it.
pub(super) fn order(vault: &Vault, runner: &Host, job: &Job, sheet: Sheet) -> Result<RunbookOrder, BookError> {
    let book = job.input.runbook.as_deref().ok_or(BookError::NoAnswers)?;
    let about = sheet.about.ok_or(BookError::Removed)?;
    let mut others = BTreeMap::new();
    let mut opened = about.facets.opened;
    for (input, other) in sheet.others {
        let other = other.ok_or_else(|| BookError::OtherRemoved(input.clone()))?;
        opened &= other.facets.opened || other.host.own;
        let step_host = match other.host.id == runner.id {
            true => here(&other, &book.text),
            false => elsewhere(vault, &other, Way::Ssh, &book.text)?,
        };
        others.insert(input, step_host);
    }
    if job.site_id.is_some() && sheet.site.is_none() {
        return Err(BookError::SiteRemoved);
    }
    let mut host = match book.way {
        // Nothing but itself: what an endpoint's agent is told must not reach beyond that endpoint.
        Way::Agent => here(&about, &book.text),
        way => elsewhere(vault, &about, way, &book.text)?,
    };
    if facet::asks_for_restart(&book.text) && about.facets.restart.is_none() {
        return Err(BookError::NoRestart(about.host.name));
    }
    // The site's own container goes before the host's.
    if let Some(container) = sheet.site.as_ref().and_then(|site| site.fields.container.clone()) {
        host.container = Some(container);
    }
    Ok(RunbookOrder {
        text: book.text.clone(),
        inputs: book.answers.clone(),
        secrets: answers(vault, job, book, sheet.secrets.as_deref())?,
        way: book.way,
        host,
        site: sheet.site.map(|site| site.named()),
        others,
        opened,
        actor: Some(job.actor.name.clone()).filter(|actor| !actor.is_empty()),
    })
}

/// The secret answers, opened.
fn answers(
    vault: &Vault,
    job: &Job,
    book: &RunbookInput,
    sealed: Option<&[u8]>,
) -> Result<BTreeMap<String, Secret>, BookError> {
    if book.secrets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let plain = vault.open_sealed(&secrets_identity(job.id), sealed.ok_or(BookError::NoAnswers)?)?;
    serde_json::from_slice(&plain).map_err(|_| BookError::NoAnswers)
}

/// A host on which the agent that runs the job is.
fn here(known: &Known, text: &str) -> StepHost {
    StepHost {
        name: known.host.name.clone(),
        facts: facet::facts(&known.host, &known.facets, text),
        here: true,
        container: known.facets.container.clone(),
        ..StepHost::default()
    }
}

/// A host that the control plane's own agent reaches from where it is. `way` must be there; what else the host has comes along for steps that ask for it.
fn elsewhere(vault: &Vault, known: &Known, way: Way, text: &str) -> Result<StepHost, BookError> {
    let Known { host, facets, keys } = known;
    let ways = facet::ways(host, facets, &[way]);
    if let Some(why) = ways.into_iter().find(|(one, _)| *one == way).and_then(|(_, there)| there.err()) {
        return Err(no_way(host, way, why));
    }
    let trusted = facets.ssh.as_ref().filter(|ssh| ssh.host_key.is_some());
    let ssh = match trusted {
        Some(ssh) => ssh_way(vault, host, ssh, keys.ssh.as_deref())?,
        None => None,
    };
    if way == Way::Ssh && ssh.is_none() {
        return Err(BookError::NoKey(host.name.clone()));
    }
    let api = facets.api.as_ref().map(|api| api_way(vault, host, api, keys.api.as_deref())).transpose()?;
    Ok(StepHost {
        name: host.name.clone(),
        facts: facet::facts(host, facets, text),
        here: false,
        ssh,
        container: facets.container.clone(),
        api,
    })
}

fn no_way(host: &Host, way: Way, why: NoWay) -> BookError {
    BookError::NoWay { host: host.name.clone(), way: facet::in_words(way), why: why.why(way) }
}

fn ssh_way(vault: &Vault, host: &Host, ssh: &SshFacet, sealed: Option<&[u8]>) -> Result<Option<SshWay>, BookError> {
    let private_key = sealed.map(|sealed| key(vault, host, &facet::ssh_key_identity(host.id), sealed)).transpose()?;
    if private_key.is_none() && ssh.key_path.is_none() {
        return Ok(None);
    }
    Ok(Some(SshWay {
        address: ssh.address.clone(),
        port: ssh.port,
        user: ssh.user.clone(),
        key_path: ssh.key_path.clone(),
        private_key,
        host_key: ssh.host_key.clone(),
        host_key_algorithm: ssh.host_key_algorithm.clone(),
    }))
}

fn api_way(vault: &Vault, host: &Host, api: &ApiFacet, sealed: Option<&[u8]>) -> Result<ApiWay, BookError> {
    Ok(ApiWay {
        base_url: api.base_url.clone(),
        public_key: api.public_key.clone(),
        secret_key: sealed.map(|sealed| key(vault, host, &facet::api_key_identity(host.id), sealed)).transpose()?,
        tls_insecure: api.tls_insecure,
    })
}

fn key(vault: &Vault, host: &Host, identity: &str, sealed: &[u8]) -> Result<Secret, BookError> {
    let plain = vault.open_sealed(identity, sealed)?;
    let text = std::str::from_utf8(&plain).map_err(|_| BookError::Garbled(host.name.clone()))?;
    Ok(Secret::new(text.to_owned()))
}
