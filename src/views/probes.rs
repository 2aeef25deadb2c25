//! A probe's own page, and the form that makes or changes one. The form works without scripts: every kind's fields are there, and those of the chosen kind count; the
//! stylesheet hides the others.

use maud::{Markup, html};

use crate::{
    domain::{
        HostId,
        host::Host,
        probe::{Expect, PastAnswer, Probe, ProbeSpec, Question},
        user::Role,
    },
    paths::{self, route},
    views::{
        FormState, Nav, Page, Shell,
        chart::Unit,
        components::{self, Confirm, Tone},
        form::{self, Field, Form},
        format,
        host::health,
    },
};

/// Bad answers that a probe's page lists.
const LISTED: usize = 30;

/// Names of the form's fields.
const FIELDS: [&str; 14] = [
    "name",
    "kind",
    "url",
    "mode",
    "codes",
    "pattern",
    "tls_insecure",
    "address",
    "tls_address",
    "days",
    "interval_s",
    "timeout_s",
    "need",
    "of",
];

/// `/hosts/{id}/probes`: a new one. The POST goes to the same address: `name`, `kind` (`http`, `tcp`, `tls`), `url`, `mode` (`any`, `status`, `body`), `codes`
/// (separated by commas or blanks), `pattern`, `tls_insecure`, `address`, `tls_address`, `days`, `interval_s`, `timeout_s`, `need`, `of`, `enabled`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeNewPage {
    /// Whose.
    pub host: Host,
    /// What was typed.
    pub form: FormState,
}

impl Page for ProbeNewPage {
    fn title(&self) -> String {
        format!("Add a probe · {}", self.host.name)
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div { (trail(&self.host, self.host.id)) h1 { "Add a health probe" } }
            p.muted { "It is asked from the control plane, so give an address that is reached from there. The first answer comes within seconds." }
            (fields(shell, &self.form, &paths::host_probes(self.host.id), "Add the probe"))
        }
    }
}

/// `/probes/{id}`: its course, what was wrong of late, and the form to change it. Other POST targets: `check`, `remove`, with `csrf` only.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbePage {
    /// The probe.
    pub probe: Probe,
    /// Whose it is.
    pub host: Host,
    /// Answers of the last days, the oldest first.
    pub answers: Vec<PastAnswer>,
    /// How many days.
    pub days: u16,
    /// What was typed. Untouched: the probe's own values are shown.
    pub form: FormState,
}

impl Page for ProbePage {
    fn title(&self) -> String {
        format!("{} · {}", self.probe.name, self.host.name)
    }

    fn nav(&self) -> Nav {
        Nav::Hosts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let probe = &self.probe;
        let stored = FormState::of(values_of(&probe.name, &probe.spec));
        let form = if self.form.is_untouched() { &stored } else { &self.form };
        let address = paths::probe(probe.id);
        let span =
            |days: u16, label| (paths::with_query(&address, &[("days", &days.to_string())]), label, self.days == days);
        html! {
            .row.between {
                div { (trail(&self.host, self.host.id)) .row { h1 { (probe.name) } (health::probe_pill(probe)) } }
                .row { (health::check_button(shell, probe)) (self.removal(shell)) }
            }
            section.card.pad aria-label="About" { (health::about(shell, probe)) }
            section.card aria-labelledby="course-title" {
                header { h2 #course-title { "Course" } (components::tabs("Span of time", &[span(1, "24 hours"), span(7, "7 days"), span(90, "90 days")])) }
                .pad.stack {
                    (health::course(probe, &self.answers, "Latency"))
                    @if self.days > 2 { p { small.muted { "Of what is older than two days the worst answer of each hour is kept." } } }
                }
            }
            (self.bad_answers())
            h2 { "Change it" }
            (fields(shell, form, &address, "Save"))
        }
    }
}

impl ProbePage {
    fn removal(&self, shell: &Shell) -> Markup {
        Confirm {
            id: "remove-probe".to_owned(),
            action: paths::probe_remove(self.probe.id),
            label: "Remove",
            question: format!("Remove the probe {}?", self.probe.name),
            consequence: format!(
                "It is not asked any more, its past answers go, and its alert is cleared. Nothing on {} is touched.",
                self.host.name
            ),
            typed: None,
            needs: Role::Operator,
        }
        .render(shell)
    }

    fn bad_answers(&self) -> Markup {
        let bad: Vec<&PastAnswer> =
            self.answers.iter().rev().filter(|past| !past.answer.healthy).take(LISTED).collect();
        html! {
            @if !bad.is_empty() {
                section.card aria-labelledby="bad-title" {
                    header { h2 #bad-title { "Bad answers" } @if bad.len() == LISTED { small.muted { "the last " (LISTED) } } }
                    .scroll { table.cards {
                        caption.vh { "Bad answers, the last first" }
                        thead { tr { th scope="col" { "When" } th.num scope="col" { "After" } th scope="col" { "What" } } }
                        tbody { @for past in bad { tr {
                            td.first { (format::moment(past.at)) }
                            td.num { @match past.answer.latency_ms { Some(ms) => (Unit::Milliseconds.text(f64::from(ms))), None => "—" } }
                            td { span.long { (past.answer.detail) } }
                        } } }
                    } }
                }
            }
        }
    }
}

fn trail(host: &Host, id: HostId) -> Markup {
    html! { small { a href=(route::HOSTS) { "Hosts" } " / " a href=(paths::host(id)) { (host.name) } " / " a href=(health::address(id)) { "Health" } } }
}

/// The form's values of a probe.
#[must_use]
pub fn values_of(name: &str, spec: &ProbeSpec) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("name", name.to_owned()),
        ("interval_s", spec.interval_s.to_string()),
        ("timeout_s", spec.timeout_s.to_string()),
        ("need", spec.need.to_string()),
        ("of", spec.of.to_string()),
    ];
    if spec.enabled {
        pairs.push(("enabled", form::ON.to_owned()));
    }
    match &spec.question {
        Question::Http { url, expect, tls_insecure } => {
            pairs.extend([("kind", "http".to_owned()), ("url", url.clone())]);
            match expect {
                Expect::Any => pairs.push(("mode", "any".to_owned())),
                Expect::Status { codes } => {
                    let codes: Vec<String> = codes.iter().map(u16::to_string).collect();
                    pairs.extend([("mode", "status".to_owned()), ("codes", codes.join(", "))]);
                }
                Expect::Body { pattern } => pairs.extend([("mode", "body".to_owned()), ("pattern", pattern.clone())]),
            }
            if *tls_insecure {
                pairs.push(("tls_insecure", form::ON.to_owned()));
            }
        }
        Question::Tcp { address } => pairs.extend([("kind", "tcp".to_owned()), ("address", address.clone())]),
        Question::Tls { address, days } => {
            pairs.extend([("kind", "tls".to_owned()), ("tls_address", address.clone()), ("days", days.to_string())]);
        }
    }
    pairs
}

fn fields(shell: &Shell, state: &FormState, action: &str, label: &str) -> Markup {
    let form = Form::new("probe", state);
    let refusal = shell.refusal(Role::Operator);
    let choices = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(value, label)| ((*value).to_owned(), (*label).to_owned())).collect()
    };
    let kinds = choices(&[("http", "A web address"), ("tcp", "A port"), ("tls", "A certificate's days")]);
    let modes = choices(&[
        ("any", "Any answer, whatever its status"),
        ("status", "One of these statuses"),
        ("body", "A pattern in the body"),
    ]);
    html! {
        form.card.pad.stack.probe-form method="post" action=(action) {
            (shell.csrf_field())
            (form.errors(&FIELDS))
            .fields {
                (form.field(&Field::text("name", "Name").required().placeholder("shop").hint("What people call the service.")))
                (form.select(&Field::text("kind", "What is asked").default("http"), &kinds))
            }
            fieldset.of-http {
                legend { "A web address" }
                .fields {
                    (form.field(&Field::text("url", "Address").unmarked().placeholder("https://shop.example/health").hint("One GET, without following redirects and without a proxy.")))
                    (form.select(&Field::text("mode", "Healthy is").default("any"), &modes))
                    (form.field(&Field::text("codes", "Statuses").placeholder("200, 204").hint("Where one of these is wanted: 100 to 599, with commas.")))
                    (form.field(&Field::text("pattern", "Pattern").placeholder("status: (ok|fine)").hint("Where the body is looked through: a regular expression, in the first 64 KiB of an answer 200 to 299.")))
                }
                (form.checkbox(&Field::text("tls_insecure", "Take any certificate").hint("Else it must be valid for the name and signed by an authority that the control plane knows.")
                , form::ON, false))
            }
            fieldset.of-tcp {
                legend { "A port" }
                .fields { (form.field(&Field::text("address", "Host and port").unmarked().placeholder("db.example:5432").hint("Healthy is when it takes a connection. IPv6 in brackets: [fd00::7]:5432."))) }
            }
            fieldset.of-tls {
                legend { "A certificate's days" }
                .fields {
                    (form.field(&Field::text("tls_address", "Host and port").unmarked().placeholder("shop.example:443").hint("Whoever signed it: its dates are looked at, nothing else.")))
                    (form.field(&Field::number("days", "Days that must be left").unmarked().default("14")))
                }
            }
            fieldset {
                legend { "How often" }
                .fields {
                    (form.field(&Field::number("interval_s", "Seconds between two questions").unmarked().default("60").hint("5 to 86,400.")))
                    (form.field(&Field::number("timeout_s", "Seconds for an answer").unmarked().default("5").hint("1 to 60, and less than the interval.")))
                    (form.field(&Field::number("need", "Answers that change the state").unmarked().default("2").hint("One bad answer is no outage.")))
                    (form.field(&Field::number("of", "… of the last").unmarked().default("3").hint("1 to 10.")))
                }
                (form.checkbox(&Field::text("enabled", "Ask").hint("Without the tick it is paused: no state, no alert."), form::ON, true))
            }
            .row {
                button.btn.primary type="submit" disabled[refusal.is_some()] { (label) }
                @if let Some(reason) = &refusal { small { (reason) } }
            }
        }
    }
}

/// What an answer that was just asked for says, for the line that the next page shows.
#[must_use]
pub fn answer_words(probe: &Probe, healthy: bool, latency_ms: Option<u32>, detail: &str) -> (Tone, String) {
    let after = latency_ms.map_or_else(String::new, |ms| format!(" after {}", Unit::Milliseconds.text(f64::from(ms))));
    if healthy {
        (Tone::Ok, format!("{} answered well{after}: {detail}.", probe.name))
    } else {
        (Tone::Warn, format!("{} did not answer well{after}: {detail}.", probe.name))
    }
}
