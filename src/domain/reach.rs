//! How a host can be reached right now, in one word and one sentence per facet; the same on every page and in the API. It looks at what is known, and asks nobody.

use crate::domain::{
    Timestamp,
    facet::{ApiFacet, Facets, SshFacet},
    host::Host,
    probe::{Probe, ProbeState},
};

/// One facet's state.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Facet {
    /// One word.
    pub state: &'static str,
    /// What it means here, and what to do where something is to be done; may be empty.
    pub detail: String,
}

impl Facet {
    /// A state and what it means.
    #[must_use]
    pub fn new(state: &'static str, detail: impl Into<String>) -> Self {
        Self { state, detail: detail.into() }
    }
}

/// All facets of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, utoipa::ToSchema)]
pub struct Reach {
    /// `online`, `offline`, `never` (enrolled and not seen yet), `none`, `revoked`.
    pub agent: Facet,
    /// `none`, `untrusted` (nobody confirmed its host key), `trusted`.
    pub ssh: Facet,
    /// `none`, `set`.
    pub api: Facet,
    /// `none`, `unknown`, `healthy`, `unhealthy`, by its probes.
    pub health: Facet,
}

/// What a host's probes say together: the worst of those that are asked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `unhealthy` where one of them is, `unknown` where one is, else `healthy`.
    pub state: ProbeState,
    /// When the latest answer came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// What the one that is unhealthy said; else empty.
    pub detail: String,
}

/// The name of the probe that a host's own `health` stands for.
pub const HEALTH: &str = "health";

/// What its probes say; `None` where none is asked.
#[must_use]
pub fn health(probes: &[Probe]) -> Option<Health> {
    let asked = || probes.iter().filter(|probe| probe.spec.enabled);
    let rank = |state| match state {
        ProbeState::Unhealthy => 0,
        ProbeState::Unknown => 1,
        ProbeState::Healthy => 2,
    };
    let worst = asked().min_by_key(|probe| rank(probe.state))?;
    let latest = asked().filter(|probe| probe.asked_at.is_some()).max_by_key(|probe| probe.asked_at);
    let bad = worst.state == ProbeState::Unhealthy;
    Some(Health {
        state: worst.state,
        checked_at: latest.and_then(|probe| probe.asked_at),
        latency_ms: latest.and_then(|probe| probe.latency_ms),
        detail: if bad { format!("{}: {}", worst.name, worst.detail) } else { String::new() },
    })
}

/// A host's facets. `online`: its agent is connected; `probes` are those of this host.
#[must_use]
pub fn reach(host: &Host, facets: &Facets, probes: &[Probe], online: bool) -> Reach {
    Reach {
        agent: agent(host, online),
        ssh: ssh(facets.ssh.as_ref()),
        api: api(facets.api.as_ref()),
        health: match health(probes) {
            None => Facet::new("none", "no probe asks about it"),
            Some(health) => Facet::new(health.state.as_str(), health.detail),
        },
    }
}

fn agent(host: &Host, online: bool) -> Facet {
    match (online, host.revoked_at, host.enrolled || host.own, host.last_seen_at) {
        (true, ..) => Facet::new("online", "its agent is connected"),
        (false, Some(_), ..) => Facet::new("revoked", "its agent's identity was revoked: enrol it again"),
        (false, None, false, _) => Facet::new("none", "it has no agent"),
        (false, None, true, None) => Facet::new("never", "its agent was never here"),
        (false, None, true, Some(_)) => Facet::new("offline", "its agent is not connected"),
    }
}

/// Where it is and as whom, for people.
#[must_use]
pub fn address(ssh: &SshFacet) -> String {
    format!("{}@{}, port {}", ssh.user, ssh.address, ssh.port)
}

fn ssh(ssh: Option<&SshFacet>) -> Facet {
    match ssh {
        None => Facet::new("none", "it has no SSH access"),
        Some(ssh) if ssh.host_key.is_none() => Facet::new(
            "untrusted",
            format!(
                "{}; its host key was not confirmed yet: test the connection and compare the fingerprint",
                address(ssh)
            ),
        ),
        Some(ssh) => Facet::new("trusted", format!("{}; its host key is confirmed", address(ssh))),
    }
}

fn api(api: Option<&ApiFacet>) -> Facet {
    match api {
        None => Facet::new("none", "it has no management interface"),
        Some(api) => Facet::new("set", api.base_url.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        HostId, ProbeId,
        probe::{ProbeSpec, Question},
    };

    fn probe(n: u128, state: ProbeState, enabled: bool) -> Probe {
        let question = Question::Tcp { address: "h:1".into() };
        Probe {
            no: 1,
            id: ProbeId::from_parts(1, n),
            host_id: HostId::from_parts(1, 1),
            site_id: None,
            name: format!("p{n}"),
            spec: ProbeSpec { enabled, ..ProbeSpec::of(question) },
            state,
            state_at: None,
            asked_at: Some(Timestamp::from_unix_ms(i64::try_from(n).unwrap())),
            latency_ms: u32::try_from(n).ok(),
            detail: "refused".into(),
        }
    }

    #[test]
    fn the_worst_probe_that_is_asked_tells_a_hosts_health_and_the_latest_its_time() {
        use ProbeState::{Healthy, Unhealthy, Unknown};
        assert_eq!(health(&[]), None);
        assert_eq!(health(&[probe(1, Unhealthy, false)]), None);
        let all =
            [probe(1, Healthy, true), probe(3, Healthy, true), probe(2, Unhealthy, true), probe(4, Unknown, false)];
        let said = health(&all).unwrap();
        assert_eq!((said.state, said.latency_ms, said.detail.as_str()), (Unhealthy, Some(3), "p2: refused"));
        assert_eq!(health(&[probe(1, Healthy, true), probe(2, Unknown, true)]).unwrap().state, Unknown);
    }

    #[test]
    fn a_host_that_never_had_an_agent_is_not_said_to_have_lost_it() {
        let host = Host::bare(false);
        let state = |host: &Host, online| reach(host, &Facets::default(), &[], online).agent.state;
        assert_eq!(state(&host, false), "none");
        let enrolled = Host { enrolled: true, ..host.clone() };
        assert_eq!((state(&enrolled, false), state(&enrolled, true)), ("never", "online"));
        let seen = Host { last_seen_at: Some(host.created_at), ..enrolled };
        assert_eq!(state(&seen, false), "offline");
        assert_eq!(state(&Host { revoked_at: Some(host.created_at), enrolled: false, ..seen }, false), "revoked");
    }
}
