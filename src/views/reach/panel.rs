//! The card with a host's ways on its page, the button that tests them, and what came of it: for a key that is not confirmed how to compare it, for one that changed a
//! warning that can't be overlooked.

use maud::{Markup, html};

use super::{Ways, test_path, tone};
use crate::{
    domain::{
        HostId,
        facet::{Facets, declared_where},
        reach::Facet,
        user::Role,
    },
    paths,
    views::{
        Shell,
        components::{self, PostButton},
        format,
    },
};

/// The card on a host's page.
#[derive(Debug, Clone, Copy)]
pub struct WaysCard<'a> {
    /// Which host.
    pub id: HostId,
    /// What people call it.
    pub name: &'a str,
    /// What it has.
    pub ways: &'a Ways,
    /// What the test that was just asked for came to.
    pub tested: Option<&'a TestPanel>,
}

/// What a test came to. POST `/hosts/{id}/ssh/trust` with `host_key`, `csrf`; for another key than the confirmed one `confirm`, the host's name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TestPanel {
    /// Its agent.
    pub agent: Facet,
    /// SSH.
    pub ssh: Facet,
    /// Its management interface.
    pub api: Facet,
    /// Its health.
    pub health: Facet,
    /// The key that it showed: fingerprint and algorithm.
    pub host_key: Option<(String, Option<String>)>,
}

impl WaysCard<'_> {
    /// The card.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let reach = &self.ways.reach;
        let refusal = shell.refusal(Role::Operator);
        let test = test_path(self);
        html! {
            section.card aria-labelledby="ways-title" {
                header {
                    h2 #ways-title { "How it is reached" }
                    form.inline method="post" action=(test) hx-post=(test) hx-target="#tested" hx-swap="outerHTML" hx-disabled-elt="find button" {
                        (shell.csrf_field())
                        button.btn type="submit" disabled[refusal.is_some()] title=[refusal.as_deref()] { "Test connection" }
                        span.htmx-indicator role="status" { "Testing, up to 20 seconds…" }
                    }
                }
                @match self.tested {
                    Some(tested) => (tested.render(shell, (self.id, self.name), &self.ways.facets)),
                    None => ul #tested .list {
                        @for (what, facet) in [("Agent", &reach.agent), ("SSH", &reach.ssh), ("API", &reach.api), ("Health", &reach.health)] {
                            (row(what, facet))
                        }
                    },
                }
            }
        }
    }
}

fn row(what: &str, facet: &Facet) -> Markup {
    html! {
        li { .grow {
            b { (what) } " " (components::pill(tone(facet.state), &format::sentence_case(&facet.state.replace('_', " "))))
            @if !facet.detail.is_empty() { p.muted { (format::sentence(&facet.detail)) } }
        } }
    }
}

impl TestPanel {
    /// The rows, and what is to be decided.
    #[must_use]
    pub fn render(&self, shell: &Shell, (id, name): (HostId, &str), facets: &Facets) -> Markup {
        html! {
            div #tested role="status" {
                ul.list {
                    (row("Agent", &self.agent))
                    (row("SSH", &self.ssh))
                    (row("API", &self.api))
                    (row("Health", &self.health))
                }
                @if let Some((key, algorithm)) = &self.host_key {
                    @match (self.ssh.state, declared_key(facets)) {
                        ("host_key_changed", declared) => (changed(shell, (id, name), (key, declared), facets)),
                        ("untrusted", _) => (untrusted(shell, id, key, algorithm.as_deref())),
                        _ => {},
                    }
                }
            }
        }
    }
}

/// Where the host's key is declared.
fn declared_key(facets: &Facets) -> Option<String> {
    let declared = facets.ssh.as_ref().is_some_and(|ssh| ssh.host_key_declared);
    declared.then(|| declared_where(facets.declared.as_deref().unwrap_or_default()))
}

/// How a person finds out on the host itself.
fn compare(algorithm: Option<&str>) -> String {
    let kind = match algorithm {
        Some("ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512") => "rsa",
        Some(name) if name.starts_with("ecdsa") => "ecdsa",
        _ => "ed25519",
    };
    format!("ssh-keygen -lf /etc/ssh/ssh_host_{kind}_key.pub")
}

fn untrusted(shell: &Shell, id: HostId, key: &str, algorithm: Option<&str>) -> Markup {
    html! {
        .notice.warn.flat.stack {
            p { b { "Is this the right machine? " } "It showed a key that nobody has confirmed yet; nothing was sent to it. On the machine itself (its console, or a way that you trust) run:" }
            (components::copyable("cmd-compare", "Command that prints the host key", &compare(algorithm)))
            p { "It must print this fingerprint" @if let Some(algorithm) = algorithm { " (" (algorithm) ")" } ":" }
            p { code.mono { (key) } }
            div { (PostButton {
                action: paths::host_trust(id),
                label: "Trust this key",
                class: "primary",
                fields: vec![("host_key", key.to_owned())],
                needs: Role::Admin,
                aria: String::new(),
            }.render(shell)) }
        }
    }
}

fn changed(
    shell: &Shell,
    (id, name): (HostId, &str),
    (key, declared): (&str, Option<String>),
    facets: &Facets,
) -> Markup {
    let pinned = facets.ssh.as_ref().and_then(|ssh| ssh.host_key.as_deref()).unwrap_or_default();
    let refusal = shell.refusal(Role::Admin);
    html! {
        .notice.bad.flat.stack role="alert" {
            p { b { "The host key has changed. " } "Confirmed was " code.mono { (pinned) } "; now it shows " code.mono { (key) } ". Either the machine was installed anew, or somebody stands between and would get what is sent to it. Until the new key is confirmed nothing runs on it over SSH." }
            p { "Ask whoever looks after the machine, and compare on its own console:" }
            (components::copyable("cmd-compare", "Command that prints the host keys", "for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf \"$key\"; done"))
            @if let Some(place) = declared {
                p { "Its key is declared in " (place) ": change it there and restart the server." }
            } @else {
                form.stack method="post" action=(paths::host_trust(id)) {
                    (shell.csrf_field())
                    input type="hidden" name="host_key" value=(key);
                    .field {
                        label for="trust-confirm" { "The machine itself prints the new key: type " b { (name) } " to confirm" }
                        input #trust-confirm name="confirm" type="text" required autocomplete="off" spellcheck="false" data-must-be=(name) disabled[refusal.is_some()];
                    }
                    .row {
                        button.btn.danger.solid type="submit" disabled[refusal.is_some()] { "Trust the new key" }
                        @if let Some(reason) = &refusal { small { (reason) } }
                    }
                }
            }
        }
    }
}
