//! The ways to a host besides its agent, on pages: pills, the form of its facets, and what a test of them came to.

mod panel;

use maud::{Markup, html};

pub use panel::{TestPanel, WaysCard};

use crate::{
    domain::{
        facet::{Facets, declared_where},
        probe::{Expect, ProbeSpec, Question},
        reach::{Facet, Reach},
        user::Role,
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::{self, Tone},
        form::{Field, Form, ON},
        format,
    },
};

/// All that a host has besides its agent, and how it stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ways {
    /// What is set.
    pub facets: Facets,
    /// How each facet stands.
    pub reach: Reach,
    /// Its own health probe, where it has one.
    pub health: Option<ProbeSpec>,
}

impl Ways {
    /// Whether it was ever meant to have an agent.
    #[must_use]
    pub fn has_agent(&self) -> bool {
        self.reach.agent.state != "none"
    }

    /// Whether there is anything to test but an agent.
    #[must_use]
    pub fn any(&self) -> bool {
        [&self.reach.ssh, &self.reach.api, &self.reach.health].iter().any(|facet| facet.state != "none")
    }
}

/// Colour of a facet's state, as it stands or as a test found it.
#[must_use]
pub fn tone(state: &str) -> Tone {
    match state {
        "ok" | "online" | "healthy" | "trusted" => Tone::Ok,
        "none" | "set" | "unknown" => Tone::Idle,
        "untrusted" | "never" | "offline" | "answered" | "redirect" => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// The pills of the facets that a host has.
#[must_use]
pub fn pills(reach: &Reach) -> Markup {
    let agent = match reach.agent.state {
        "online" => "Online",
        "offline" => "Offline",
        "never" => "Never seen",
        "revoked" => "Agent revoked",
        _ => "No agent",
    };
    let ssh = if reach.ssh.state == "untrusted" { "SSH: key not confirmed" } else { "SSH" };
    let health = match reach.health.state {
        "healthy" => "Healthy",
        "unhealthy" => "Unhealthy",
        _ => "Health unknown",
    };
    let pill =
        |facet: &Facet, word: &str| html! { span.pill.(tone(facet.state).class()) title=(facet.detail) { (word) } };
    html! {
        (pill(&reach.agent, agent))
        @if reach.ssh.state != "none" { " " (pill(&reach.ssh, ssh)) }
        @if reach.api.state != "none" { " " (pill(&reach.api, "API")) }
        @if reach.health.state != "none" { " " (pill(&reach.health, health)) }
    }
}

/// Fields of the form of facets.
pub const FIELDS: [&str; 6] = ["ssh", "api", "health", "restart", "container", "opened"];
/// Those of them that hold a secret: what was typed there is never sent back.
pub const SECRETS: [&str; 2] = ["ssh.private_key", "api.secret_key"];

/// The form as it is filled for what is stored.
#[must_use]
pub fn stored(ways: &Ways) -> FormState {
    let Ways { facets, health, .. } = ways;
    let mut values: Vec<(&str, String)> = Vec::new();
    if let Some(ssh) = &facets.ssh {
        values.extend([
            ("ssh.host", ssh.address.clone()),
            ("ssh.port", ssh.port.to_string()),
            ("ssh.user", ssh.user.clone()),
        ]);
        values.extend(ssh.key_path.clone().map(|path| ("ssh.key_path", path)));
    }
    if let Some(api) = &facets.api {
        values.push(("api.base_url", api.base_url.clone()));
        values.extend(api.public_key.clone().map(|key| ("api.public_key", key)));
        values.extend(api.tls_insecure.then(|| ("api.tls_insecure", ON.to_owned())));
    }
    values.extend(health.iter().flat_map(health_values));
    if let Some(restart) = &facets.restart {
        values.extend([
            ("restart.command", restart.command.clone()),
            ("restart.timeout_s", restart.timeout_s.to_string()),
        ]);
        values.extend(restart.path.clone().map(|path| ("restart.path", path)));
    }
    let of_ssh = facets.ssh.as_ref().and_then(|ssh| ssh.container_cli.clone());
    let cli = facets.container.as_ref().map(|container| container.cli.clone()).or(of_ssh);
    values.extend(cli.map(|cli| ("container.cli", cli)));
    if let Some(container) = &facets.container {
        values.push(("container.name", container.name.clone()));
        values.extend(container.user.clone().map(|user| ("container.user", user)));
    }
    values.extend(facets.opened.then(|| ("opened", ON.to_owned())));
    // A form with no value at all would count as untouched.
    values.push(("stored", ON.to_owned()));
    FormState::of(values)
}

fn health_values(probe: &ProbeSpec) -> Vec<(&'static str, String)> {
    let Question::Http { url, expect, tls_insecure } = &probe.question else { return Vec::new() };
    let mut values = vec![
        ("health.url", url.clone()),
        ("health.interval_s", probe.interval_s.to_string()),
        ("health.timeout_s", probe.timeout_s.to_string()),
    ];
    values.extend(match expect {
        Expect::Any => vec![("health.mode", "any".to_owned())],
        Expect::Status { codes } => {
            let codes: Vec<String> = codes.iter().map(u16::to_string).collect();
            vec![("health.mode", "status".to_owned()), ("health.codes", codes.join(", "))]
        }
        Expect::Body { pattern } => vec![("health.mode", "body".to_owned()), ("health.pattern", pattern.clone())],
    });
    values.extend(tls_insecure.then(|| ("health.tls_insecure", ON.to_owned())));
    values
}

/// The fields of all facets. `known`: what is stored, where it is a change.
fn fields(form: &Form<'_>, known: Option<&Facets>) -> Markup {
    let kept = |set: bool| if set { "One is kept. Empty leaves it as it is." } else { "" };
    let key = kept(known.is_some_and(|facets| facets.ssh_key_set));
    let secret = kept(known.is_some_and(|facets| facets.api_key_set));
    html! {
        fieldset {
            legend { "SSH" }
            p.muted { "Flotilla logs in from the server with a private key and runs commands with bash. Leave the address empty where there is no SSH access." }
            .fields {
                (form.field(&Field::text("ssh.host", "Address").placeholder("10.0.0.5").unmarked()))
                (form.field(&Field::number("ssh.port", "Port").placeholder("22").unmarked()))
                (form.field(&Field::text("ssh.user", "User").placeholder("root").unmarked()))
            }
            .fields {
                (form.field(&Field::text("ssh.key_path", "Private key: its file on the server").placeholder("/etc/flotilla/ssh_key").unmarked()))
                (form.lines(&Field::text("ssh.private_key", "or the private key itself").hint(if key.is_empty() { "Without a passphrase. It is kept encrypted and never shown again." } else { key }).unmarked(), 3))
            }
            @if known.is_none() {
                (form.field(&Field::text("ssh.host_key", "Host key").placeholder("SHA256:…").hint("Its fingerprint, where you know it. Otherwise you confirm it after a test.").unmarked()))
            }
        }
        fieldset {
            legend { "Management interface" }
            p.muted { "An HTTP interface of what runs there, which takes a public and a secret key." }
            .fields {
                (form.field(&Field::text("api.base_url", "Base URL").placeholder("https://web-1.example.org/api").unmarked()))
                (form.field(&Field::text("api.public_key", "Public key").unmarked()))
                (form.field(&Field::secret("api.secret_key", "Secret key").hint(secret).unmarked()))
            }
            (form.checkbox(&Field::text("api.tls_insecure", "Take any certificate").hint("Whoever stands between can read the keys."), ON, false))
        }
        (health_fields(form))
        fieldset {
            legend { "Restart" }
            .fields {
                (form.lines(&Field::text("restart.command", "Command").placeholder("systemctl restart app").hint("What bash runs there. Empty: it can't be restarted from here.").unmarked(), 2))
                (form.field(&Field::number("restart.timeout_s", "Ended after, in seconds").placeholder("30").unmarked()))
                (form.field(&Field::text("restart.path", "Folders before PATH").placeholder("/opt/node/bin").unmarked()))
            }
        }
        fieldset {
            legend { "Container" }
            p.muted { "Where what runs there lives in a container, commands run in it unless a step says otherwise." }
            .fields {
                (form.field(&Field::text("container.name", "Name").placeholder("app").unmarked()))
                (form.field(&Field::text("container.cli", "Entered by").placeholder("docker").hint("docker, podman or a path.").unmarked()))
                (form.field(&Field::text("container.user", "As user").unmarked()))
            }
        }
        fieldset {
            legend { "Runbooks that are off by default" }
            (form.checkbox(&Field::text("opened", "Open this host for them").hint("Some runbooks run whatever an operator types, such as run_command. They run only on hosts that an administrator has opened here, and by way of an agent only where its agent.toml allows remote commands too."), ON, false))
        }
    }
}

fn health_fields(form: &Form<'_>) -> Markup {
    let modes = [("status", "One of these statuses"), ("any", "Any answer"), ("body", "An answer that holds a text")];
    let modes: Vec<_> = modes.map(|(value, label)| (value.to_owned(), label.to_owned())).to_vec();
    html! {
        fieldset {
            legend { "Health" }
            p.muted { "An address that the server asks again and again." }
            .fields {
                (form.field(&Field::text("health.url", "Address").placeholder("https://web-1.example.org/healthz").unmarked()))
                (form.select(&Field::text("health.mode", "It is healthy by").default("status"), &modes))
                (form.field(&Field::text("health.codes", "Statuses").placeholder("200, 204").unmarked()))
                (form.field(&Field::text("health.pattern", "Text").hint("A regular expression, looked for in the answer.").unmarked()))
                (form.field(&Field::number("health.interval_s", "Asked every, in seconds").placeholder("60").unmarked()))
                (form.field(&Field::number("health.timeout_s", "An answer takes at most, in seconds").placeholder("5").unmarked()))
            }
            (form.checkbox(&Field::text("health.tls_insecure", "Take any certificate"), ON, false))
        }
    }
}

/// The part of a host's settings about its facets. POST `/hosts/{id}/reach` with [`FIELDS`].
#[must_use]
pub fn settings(shell: &Shell, action: &str, ways: &Ways, typed: &FormState) -> Markup {
    if let Some(key) = &ways.facets.declared {
        return html! {
            section.card.pad.stack aria-labelledby="reach-title" {
                h2 #reach-title { "How it is reached" }
                p { "This host is declared in " (declared_where(key)) ". Change it there and restart the server; here it is only shown." }
                fieldset.plain disabled { .stack { (fields(&Form::new("reach", &stored(ways)), Some(&ways.facets))) } }
            }
        };
    }
    let stored = stored(ways);
    let form = Form::new("reach", if typed.is_untouched() { &stored } else { typed });
    let refusal = shell.refusal(Role::Admin);
    html! {
        details.card open[!typed.is_untouched() || ways.any()] {
            summary { h2 { "How it is reached, restarted and watched" } }
            form.pad.stack method="post" action=(action) {
                (shell.csrf_field())
                (form.errors(&FIELDS))
                fieldset.plain disabled[refusal.is_some()] { .stack { (fields(&form, Some(&ways.facets))) } }
                .row {
                    button.btn.primary type="submit" disabled[refusal.is_some()] { "Save" }
                    @if let Some(reason) = &refusal { small { (reason) } }
                    @else { small { "A change of the address or the port asks for the host key anew." } }
                }
            }
        }
    }
}

/// The two ways to add a host, as tabs.
#[must_use]
pub fn add_tabs(direct: bool) -> Markup {
    components::tabs(
        "Add a host",
        &[
            (route::HOST_NEW.to_owned(), "With an agent", !direct),
            (route::HOST_NEW_DIRECT.to_owned(), "Without an agent", direct),
        ],
    )
}

/// `/hosts/new/direct`: a host without an agent. POST the same with `name`, `tags`, [`FIELDS`], `csrf`.
#[derive(Debug, Clone, Default)]
pub struct DirectHostPage {
    /// What was typed, without secrets.
    pub form: FormState,
}

impl Page for DirectHostPage {
    fn title(&self) -> String {
        "Add a host without an agent".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let form = Form::new("host", &self.form);
        let drawn: Vec<&str> = FIELDS.into_iter().chain(["name", "tags"]).collect();
        let refusal = shell.refusal(Role::Admin);
        html! {
            div {
                small { a href=(route::HOSTS) { "Hosts" } }
                (components::headline("Add a host", &html! {}))
            }
            (add_tabs(true))
            form.card.pad.stack method="post" action=(route::HOST_NEW_DIRECT) {
                (shell.csrf_field())
                p { "Flotilla reaches such a host itself: by SSH, by its management interface, or it only asks for its health. It can run runbooks, restart and watch; backups need an agent." }
                @if let Some(reason) = &refusal { p.notice.warn { (format::sentence(reason)) " What lets commands run on a host, only an administrator sets." } }
                (form.errors(&drawn))
                .fields {
                    (form.field(&Field::text("name", "Name").placeholder("web-1").required()))
                    (form.field(&Field::text("tags", "Tags").placeholder("web, eu").hint("Separated by commas.")))
                }
                (fields(&form, None))
                div { button.btn.primary type="submit" { "Add the host" } }
            }
        }
    }
}

/// Where a host's test is posted to, and its trust.
fn test_path(card: &WaysCard<'_>) -> String {
    paths::host_test(card.id)
}
