//! Adding a host: a command to copy, shown once, and a line that notices the agent's arrival by itself.

use maud::{Markup, html};

use crate::{
    domain::{Timestamp, TokenId},
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        components::{self, HostRef},
        form::{Field, Form},
        format, reach,
    },
};

/// `/hosts/new`. POST `/hosts/new` with `name` (may be empty), `tags` (separated by commas or spaces), `ttl_seconds`, `csrf`;
/// the answer is the same page with [`Issued`].
#[derive(Debug, Clone, Default)]
pub struct AddHostPage {
    /// What was typed.
    pub form: FormState,
    /// The token that the POST made.
    pub issued: Option<Issued>,
}

/// A fresh enrolment token. Its command is shown in this answer only.
#[derive(Debug, Clone)]
pub struct Issued {
    /// `flotilla-agent enroll --server … --token …`, without what comes after it.
    pub command: String,
    /// What waits for the agent.
    pub arrival: Arrival,
}

/// Live fragment: whether the agent has come. Polls itself until it has, or the token is over.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The token waited for.
    pub token: TokenId,
    /// Until when it can be used.
    pub expires_at: Timestamp,
    /// Hosts that used it.
    pub arrived: Vec<HostRef>,
}

impl Arrival {
    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let over = shell.now >= self.expires_at;
        let waiting = self.arrived.is_empty() && !over;
        html! {
            div #arrival role="status" hx-get=[waiting.then(|| paths::host_arrival(self.token))]
                hx-trigger=[waiting.then_some("every 2s")] hx-swap="outerHTML" {
                @if waiting {
                    p.row { (components::pill(components::Tone::Run, "Waiting")) "for the agent. This page notices by itself." }
                } @else if self.arrived.is_empty() {
                    p.notice.warn { "The token expired before an agent came. " a href=(route::HOST_NEW) { "Make a new one" } }
                } @else {
                    @for host in &self.arrived {
                        p.notice.ok { b { (host.name) } " is here. " a.btn.primary href=(paths::host(host.id)) { "Open " (host.name) } }
                    }
                }
            }
        }
    }
}

impl AddHostPage {
    fn ask(&self, shell: &Shell) -> Markup {
        let form = Form::new("host", &self.form);
        let spans = [("3600", "1 hour"), ("86400", "1 day"), ("604800", "7 days")];
        let spans: Vec<(String, String)> = spans.map(|(value, label)| (value.to_owned(), label.to_owned())).to_vec();
        html! {
            form.card.pad.stack method="post" action=(route::HOST_NEW) {
                (shell.csrf_field())
                p { "Flotilla makes a token for one machine. The agent on that machine uses it once, and from then on has an identity of its own." }
                (form.errors(&["name", "tags", "ttl_seconds"]))
                .fields {
                    (form.field(&Field::text("name", "Name").placeholder("web-1").hint("Empty: the machine's own host name.")))
                    (form.field(&Field::text("tags", "Tags").placeholder("web, eu").hint("A plan can cover all hosts with a tag.")))
                    (form.select(&Field::text("ttl_seconds", "The token works for").default("3600"), &spans))
                }
                div { button.btn.primary type="submit" { "Make the command" } }
            }
        }
    }

    fn tell(&self, shell: &Shell, issued: &Issued) -> Markup {
        let run = format!("{} && flotilla-agent run", issued.command);
        let service =
            format!("{} --state-dir /var/lib/flotilla-agent && systemctl enable --now flotilla-agent", issued.command);
        html! {
            section.card.pad.stack {
                h2 { "1. Put two programs on the machine" }
                p { code { "flotilla-agent" } " (one file, from this release) into " code { "/usr/local/bin" } ", and " code { "restic" } " 0.14 or newer:" }
                (components::copyable("cmd-restic", "Command that installs restic on Debian or Ubuntu", "apt-get install -y restic"))
                h2 { "2. Run this there, as root" }
                p.muted { "Root can read every file. Another user works too, for what that user can read." }
                (components::copyable("cmd-enrol", "Command that enrols this host", &run))
                details {
                    summary { "As a service (systemd)" }
                    p { "With the unit file of this release in " code { "/etc/systemd/system/flotilla-agent.service" } ":" }
                    (components::copyable("cmd-service", "Command that enrols this host and starts the service", &service))
                }
                p.notice.warn {
                    "The command holds a secret and is shown only now. It works once, until " (format::moment(issued.arrival.expires_at)) "."
                }
                h2 { "3. Wait for it" }
                (issued.arrival.render(shell))
            }
        }
    }
}

impl Page for AddHostPage {
    fn title(&self) -> String {
        "Add a host".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(route::HOSTS) { "Hosts" } }
                (components::headline("Add a host", &html! {}))
            }
            (reach::add_tabs(false))
            @match &self.issued {
                Some(issued) => (self.tell(shell, issued)),
                None => (self.ask(shell)),
            }
        }
    }
}
