//! Sample hosts without an agent: not confirmed yet, with another key than before, declared in the configuration.

use super::{Gallery, host_page, hostile};
use crate::{
    domain::{
        Container,
        facet::{ApiFacet, Facets, Restart, SshFacet},
        host::{Host, HostStatus},
        probe::{Expect, ProbeSpec, Question},
        protection::Protection,
        reach::{Facet, Reach, reach},
    },
    views::{
        FormState,
        components::DayState,
        host::{HostPage, HostTab},
        reach::{DirectHostPage, TestPanel, Ways},
    },
};

const OLD: &str = "SHA256:uNiVztksCsDhcc0u9e8BrqunCUgo2rFTvqXE3kUFBjo";
const NEW: &str = "SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM";

/// That of a host with an agent and nothing else.
pub(super) fn agent(host: &Host, online: bool) -> Ways {
    Ways { reach: reach(host, &Facets::default(), &[], online), ..Ways::default() }
}

/// That of a host with an agent that is away, and everything else besides.
pub(super) fn everything(host: &Host) -> Ways {
    ways(host, None)
}

fn ways(host: &Host, host_key: Option<&str>) -> Ways {
    let facets = Facets {
        ssh: Some(SshFacet {
            address: "10.0.0.5".to_owned(),
            port: 22,
            user: "root".to_owned(),
            key_path: None,
            host_key: host_key.map(str::to_owned),
            host_key_algorithm: None,
            host_key_declared: false,
            container_cli: Some("podman".to_owned()),
        }),
        ssh_key_set: true,
        api: Some(ApiFacet {
            base_url: "https://web-9.example.org/api".to_owned(),
            public_key: Some("pk-1".to_owned()),
            tls_insecure: false,
        }),
        api_key_set: true,
        container: Some(Container { cli: "podman".to_owned(), name: "app".to_owned(), user: None }),
        restart: Some(Restart { command: "systemctl restart app".to_owned(), timeout_s: 30, path: None }),
        opened: true,
        declared: None,
    };
    let question =
        Question::Http { url: "https://web-9.example.org/".to_owned(), expect: Expect::Any, tls_insecure: false };
    let health = Facet::new("unhealthy", "health: it answered 502, where 200 is expected");
    let reach = Reach { health, ..reach(host, &facets, &[], false) };
    Ways { facets, reach, health: Some(ProbeSpec::of(question)) }
}

fn page(tab: HostTab, name: &str, host_key: Option<&str>) -> HostPage {
    let mut page = host_page(tab, name);
    page.host.enrolled = false;
    (page.host.last_seen_at, page.host.agent_version, page.host.restic_version) = (None, None, None);
    (page.host.os, page.host.arch, page.host.hostname) = (None, None, None);
    (page.status, page.protection) = (HostStatus::Never, Protection::NoAgent);
    page.vitals = None;
    page.plans.clear();
    page.schedules.clear();
    page.schedule_versions = (0, 0);
    page.strip = [DayState::None; 30];
    page.ways = ways(&page.host, host_key);
    page
}

fn panel(ssh: Facet, key: &str) -> TestPanel {
    TestPanel {
        agent: Facet::new("none", "it has no agent"),
        ssh,
        api: Facet::new("unauthorized", "it did not accept the keys (401): check both of them"),
        health: Facet::new("healthy", "it answered 200 within 12 ms"),
        host_key: Some((key.to_owned(), Some("ssh-ed25519".to_owned()))),
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    pages.add("host-direct", &DirectHostPage::default());
    let refused =
        FormState::of([("name", "web-9"), ("ssh.host", "host; rm")]).refused(vec![crate::domain::FieldError::new(
            "ssh.host",
            "must have 1 to 253 letters, digits or the characters . _ : -",
        )]);
    pages.add("host-direct-refused", &DirectHostPage { form: refused });
    let untrusted = Facet::new("untrusted", "the host key of web-9 is not confirmed yet");
    let first = HostPage { tested: Some(panel(untrusted, NEW)), ..page(HostTab::Overview, "web-9", None) };
    pages.add("host-untrusted", &first);
    let other = Facet::new("host_key_changed", "the host key of web-9 has changed");
    let changed = HostPage { tested: Some(panel(other, NEW)), ..page(HostTab::Overview, &hostile(), Some(OLD)) };
    pages.add("host-key-changed", &changed);
    pages.add("host-ways", &page(HostTab::Overview, "web-9", Some(OLD)));
    pages.add("host-ways-settings", &page(HostTab::Settings, "web-9", Some(OLD)));
    let mut declared = page(HostTab::Settings, "web-9", Some(OLD));
    declared.ways.facets.declared = Some("env:3".to_owned());
    pages.add("host-declared", &declared);
}
