//! Facets: what a host has besides its agent, and which way an operation takes. The way is chosen when its job is made, from what is there then, and never changes after.

pub mod input;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Container, Way, host::Host};

/// What a host has besides its agent. Secrets are not in it, only whether they are set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facets {
    /// How it is reached by SSH.
    pub ssh: Option<SshFacet>,
    /// A private key for SSH is kept.
    pub ssh_key_set: bool,
    /// Its management interface.
    pub api: Option<ApiFacet>,
    /// A secret key for that is kept.
    pub api_key_set: bool,
    /// The container that commands run in unless their step says `on_host`.
    pub container: Option<Container>,
    /// How its service is restarted; none: not configured, and the button is off.
    pub restart: Option<Restart>,
    /// Its owner opened it for runbooks that are off by default.
    pub opened: bool,
    /// Its key in the configuration or environment; such a host is not changed by pages or the API.
    pub declared: Option<String>,
}

/// SSH access, without the key's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshFacet {
    /// A name or an address.
    pub address: String,
    /// Usually 22.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// The private key's file on the control plane, where none is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
    /// The pinned fingerprint, `SHA256:…`; without one nothing is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The pinned key's algorithm, such as `ssh-ed25519`; typed pins have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key_algorithm: Option<String>,
    /// The configuration names the pinned key: it is changed there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_key_declared: bool,
    /// By which program its containers are entered, where no container is named: `docker`, `podman` or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_cli: Option<String>,
}

/// A management interface, without its secret key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFacet {
    /// Endpoints are appended to it.
    pub base_url: String,
    /// Sent as `public_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Any certificate is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_insecure: bool,
}

/// How a host's service is restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// What bash runs there.
    pub command: String,
    /// Seconds until all of it is ended; 30 where nothing is said.
    pub timeout_s: u32,
    /// Folders that go before the usual ones on its `PATH`, joined by `:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Seconds that a restart may take, where nothing is said.
pub const RESTART_TIMEOUT_S: u32 = 30;

/// Where a host is declared, from its key in the configuration: in words that complete "it is declared in …".
#[must_use]
pub fn declared_where(key: &str) -> String {
    match key.split_once(':') {
        Some(("env", n)) => format!("the environment of the server (FLOTILLA_SERVER_{n}_… or PORACLE_SERVER_{n}_…)"),
        Some(("file", name)) => format!("the server's configuration file ([[hosts]] with name = {name:?})"),
        _ => "the server's configuration".to_owned(),
    }
}

/// Identity under which a host's SSH key is sealed.
#[must_use]
pub fn ssh_key_identity(host: crate::domain::HostId) -> String {
    format!("facets/{host}/ssh_key")
}

/// Identity under which a host's secret key is sealed.
#[must_use]
pub fn api_key_identity(host: crate::domain::HostId) -> String {
    format!("facets/{host}/api_key")
}

/// Whether a runbook's text is about the host's restart: it names the host's own command.
#[must_use]
pub fn asks_for_restart(text: &str) -> bool {
    text.contains("restart_command")
}

/// What templates may name of a host as `host.…`; its restart only where the runbook's text asks for it.
#[must_use]
pub fn facts(host: &Host, facets: &Facets, text: &str) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("name".to_owned(), host.name.clone()), ("slug".to_owned(), host.slug.clone())]);
    let mut know =
        |name: &str, value: Option<&String>| facts.extend(value.map(|value| (name.to_owned(), value.clone())));
    know("os", host.os.as_ref());
    know("hostname", host.hostname.as_ref());
    know("address", facets.ssh.as_ref().map(|ssh| &ssh.address));
    if let Some(restart) = facets.restart.as_ref().filter(|_| asks_for_restart(text)) {
        know("restart_command", Some(&restart.command));
        know("restart_path", Some(restart.path.as_ref().unwrap_or(&String::new())));
    }
    facts
}

/// A way in the words of a sentence: "by …".
#[must_use]
pub fn in_words(way: Way) -> &'static str {
    match way {
        Way::Agent => "its agent",
        Way::Api => "its management interface",
        Way::Ssh => "SSH",
    }
}

/// Why a way can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoWay {
    /// The runbook does not go that way.
    NotListed,
    /// The host has no such facet.
    Missing,
    /// Its agent's identity was revoked.
    Revoked,
    /// Its SSH host key was not confirmed by anyone yet.
    Untrusted,
}

impl NoWay {
    /// The reason, in words that go behind "by agent:", "by SSH:".
    #[must_use]
    pub fn why(self, way: Way) -> &'static str {
        match (self, way) {
            (Self::NotListed, _) => "the runbook does not go this way",
            (Self::Missing, Way::Agent) => "the host has no agent",
            (Self::Missing, Way::Api) => "the host has no management interface in its settings",
            (Self::Missing, Way::Ssh) => "the host has no SSH access in its settings",
            (Self::Revoked, _) => "its agent's identity was revoked: enrol it again",
            (Self::Untrusted, _) => {
                "its host key was not confirmed yet: test the connection and compare the fingerprint"
            }
        }
    }
}

/// For each way, whether an operation that goes by `listed` can take it on this host; in the order in which they are preferred.
pub fn ways(host: &Host, facets: &Facets, listed: &[Way]) -> [(Way, Result<(), NoWay>); 3] {
    Way::ALL.map(|way| {
        let there = match way {
            _ if !listed.contains(&way) => Err(NoWay::NotListed),
            Way::Agent if host.revoked_at.is_some() => Err(NoWay::Revoked),
            Way::Agent if !host.enrolled => Err(NoWay::Missing),
            Way::Api if facets.api.is_none() => Err(NoWay::Missing),
            Way::Ssh => match &facets.ssh {
                None => Err(NoWay::Missing),
                Some(ssh) if ssh.host_key.is_none() => Err(NoWay::Untrusted),
                Some(_) => Ok(()),
            },
            Way::Agent | Way::Api => Ok(()),
        };
        (way, there)
    })
}

/// The way that is taken: agent before API before SSH, but an agent that is not connected only where there is no other.
///
/// # Errors
/// Why none can be, for each way that the runbook lists.
pub fn choose(host: &Host, facets: &Facets, listed: &[Way], connected: bool) -> Result<Way, Vec<(Way, NoWay)>> {
    let ways = ways(host, facets, listed);
    let mut open = ways.iter().filter(|(_, there)| there.is_ok()).map(|(way, _)| *way);
    let first = open.next();
    match first {
        Some(Way::Agent) if !connected => Ok(open.next().unwrap_or(Way::Agent)),
        Some(way) => Ok(way),
        None => Err(ways
            .iter()
            .filter_map(|(way, there)| there.err().filter(|why| *why != NoWay::NotListed).map(|why| (*way, why)))
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facets(host_key: Option<&str>) -> Facets {
        let ssh = SshFacet {
            address: "web".into(),
            port: 22,
            user: "root".into(),
            key_path: None,
            host_key: host_key.map(Into::into),
            host_key_algorithm: None,
            host_key_declared: false,
            container_cli: None,
        };
        let api = ApiFacet { base_url: "https://web".into(), public_key: None, tls_insecure: false };
        Facets { ssh: Some(ssh), api: Some(api), ..Facets::default() }
    }

    #[test]
    fn an_agent_that_is_there_goes_first_and_one_that_is_away_last() {
        let all = facets(Some("SHA256:x"));
        assert_eq!(choose(&Host::bare(true), &all, &Way::ALL, true), Ok(Way::Agent));
        assert_eq!(choose(&Host::bare(true), &all, &Way::ALL, false), Ok(Way::Api));
        assert_eq!(choose(&Host::bare(true), &all, &[Way::Agent, Way::Ssh], false), Ok(Way::Ssh));
        assert_eq!(choose(&Host::bare(true), &Facets::default(), &Way::ALL, false), Ok(Way::Agent));
        assert_eq!(choose(&Host::bare(false), &all, &[Way::Ssh, Way::Agent], false), Ok(Way::Ssh));
    }

    #[test]
    fn where_there_is_no_way_each_that_is_listed_says_why() {
        let none = choose(&Host::bare(false), &facets(None), &[Way::Agent, Way::Ssh], false);
        assert_eq!(none, Err(vec![(Way::Agent, NoWay::Missing), (Way::Ssh, NoWay::Untrusted)]));
    }
}
