//! How a host is by its last check of status: the pill, the card of its overview, and what a check found, by words, bars and small tables. What it means is
//! [`crate::domain::standing`]'s.

use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::{
    domain::{
        HostId,
        standing::{CHECK, Colour, LastCheck, Standing, Thresholds, number},
        user::Role,
    },
    paths,
    views::{
        Shell,
        components::{self, PostButton, Tone},
        format,
        snapshots::filename::visible,
    },
};

/// Rows of a table that are shown.
const MOST_ROWS: usize = 50;

impl Colour {
    /// The one word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Red => "Trouble",
            Self::Yellow => "Attention",
            Self::Grey => "Not known",
            Self::Green => "Well",
        }
    }

    /// Its colour on pages.
    #[must_use]
    pub fn tone(self) -> Tone {
        match self {
            Self::Red => Tone::Bad,
            Self::Yellow => Tone::Warn,
            Self::Grey => Tone::Idle,
            Self::Green => Tone::Ok,
        }
    }
}

impl Standing {
    /// The pill, with the reasons for whoever points at it.
    #[must_use]
    pub fn pill(&self) -> Markup {
        let reasons = self.reasons.join("; ");
        html! { span title=[(!reasons.is_empty()).then_some(reasons)] { (components::pill(self.colour.tone(), self.colour.word())) } }
    }
}

/// The status of a host, on its overview.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusCard {
    /// Whose.
    pub host: HostId,
    /// How it stands.
    pub standing: Standing,
    /// What is known of its checks.
    pub last: Option<LastCheck>,
    /// What the last one that did not fail found.
    pub results: Map<String, Value>,
    /// From where on a figure is worth a colour.
    pub thresholds: Thresholds,
}

impl StatusCard {
    /// The card.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let check = PostButton {
            action: paths::host_check_status(self.host),
            label: "Check now",
            class: "",
            fields: Vec::new(),
            needs: Role::Operator,
            aria: "Check the host's status now".to_owned(),
        };
        html! {
            section.card.status aria-labelledby="status-title" {
                header { h2 #status-title { "Status" } .row { (self.standing.pill()) (check.render(shell)) } }
                .pad.stack {
                    @if self.last.is_none() {
                        p.muted { "Its status was never checked: disk, memory, load, services, databases, certificates, cron, containers. A check reads only." }
                    } @else {
                        @if !self.standing.reasons.is_empty() {
                            ul.reasons { @for reason in &self.standing.reasons { li { (format::sentence(reason)) } } }
                        }
                        (self.age(shell))
                    }
                    (figures(&self.results, Some(&self.thresholds)))
                }
            }
        }
    }

    fn age(&self, shell: &Shell) -> Markup {
        let Some(last) = &self.last else { return html! {} };
        html! {
            p { small {
                @match &last.found {
                    Some((_, job, at)) => { "As it was " a href=(paths::job(*job)) { (format::ago(shell.now, *at)) } "." },
                    None => "No check has found anything yet.",
                }
                @if last.error.is_some() { " The last check, " a href=(paths::job(last.job_id)) { (format::ago(shell.now, last.at)) } ", failed." }
            } }
        }
    }
}

/// Whether a job's results are a check's of status.
#[must_use]
pub fn is_check(runbook: &str) -> bool {
    runbook == CHECK
}

/// What a check found. Without thresholds the bars have no colours: what was found is shown, not what it means.
#[must_use]
pub fn figures(results: &Map<String, Value>, thresholds: Option<&Thresholds>) -> Markup {
    let bars = bars(results, thresholds);
    let facts = facts(results, thresholds);
    html! {
        @if !bars.is_empty() { dl.bars { @for bar in bars { (bar) } } }
        @if !facts.is_empty() { (components::facts(&facts)) }
        (table("Databases", results, "databases", &[("name", "Database"), ("engine", "Of"), ("size", "Size")]))
        (table("Certificates", results, "certificates", &[("domain", "Name"), ("days", "Days left"), ("expires_at", "Until")]))
        (table("Containers", results, "containers", &[("name", "Container"), ("image", "Image"), ("status", "State")]))
        (table("Use of containers", results, "container_use", &[("name", "Container"), ("cpu", "CPU"), ("memory", "Memory")]))
        (table("Ports", results, "listening", &[("port", "Port"), ("address", "Address"), ("program", "Program")]))
        (errors(results))
    }
}

fn bars(results: &Map<String, Value>, thresholds: Option<&Thresholds>) -> Vec<Markup> {
    let disk = thresholds.map(|at| (f64::from(at.disk_warn), f64::from(at.disk_bad)));
    let mut all = Vec::new();
    let disks = rows(results, "disks");
    if disks.is_empty()
        && let Some(percent) = number(results.get("disk_usage_percent"))
    {
        all.push(bar("/", percent, &free(results.get("disk_available"), results.get("disk_total")), disk));
    }
    for row in disks.iter().take(MOST_ROWS) {
        let Some(percent) = number(row.get("percent")) else { continue };
        all.push(bar(&text(row.get("mount")), percent, &free(row.get("available"), row.get("total")), disk));
    }
    let memory =
        number(results.get("memory_used")).zip(number(results.get("memory_total"))).filter(|(_, all)| *all > 0.0);
    if let Some((used, total)) = memory {
        let free = free(results.get("memory_available"), results.get("memory_total"));
        let at = thresholds.map(|at| (f64::from(at.memory_warn), f64::from(at.memory_bad)));
        all.push(bar("Memory", used * 100.0 / total, &free, at));
    }
    if let Some(load) = number(results.get("load_1m")) {
        let rest = ["load_5m", "load_15m"]
            .map(|name| number(results.get(name)).map_or("—".to_owned(), |n| format!("{n:.2}")));
        let cpus = number(results.get("cpus")).filter(|cpus| *cpus >= 1.0);
        let words = match cpus {
            Some(cpus) => format!("{load:.2} · {} · {} on {cpus:.0} CPUs", rest[0], rest[1]),
            None => format!("{load:.2} · {} · {}", rest[0], rest[1]),
        };
        // Full where each CPU has work, or where it is yellow.
        let full = thresholds.map_or(1.0, |at| at.load_warn * 1.25).max(cpus.unwrap_or(1.0));
        let at = thresholds.map(|at| (at.load_warn * 100.0 / full, 100.0));
        all.push(bar("Load", load * 100.0 / full, &words, at));
    }
    all
}

fn bar(name: &str, percent: f64, words: &str, thresholds: Option<(f64, f64)>) -> Markup {
    let percent = percent.clamp(0.0, 100.0);
    let (low, high) =
        thresholds.map_or((None, None), |(warn, bad)| (Some(format!("{warn:.0}")), Some(format!("{bad:.0}"))));
    html! {
        div {
            dt { (visible(name)) }
            dd {
                (words)
                meter min="0" max="100" low=[low] high=[high] optimum=[thresholds.map(|_| "0")] value=(format!("{percent:.0}")) aria-label=(format!("{name}, in use")) { (format!("{percent:.0} %")) }
            }
        }
    }
}

fn free(free: Option<&Value>, total: Option<&Value>) -> String {
    let bytes = |value| number(value).map(|bytes: f64| format::bytes(saturated(bytes)));
    match (bytes(free), bytes(total)) {
        (Some(free), Some(total)) => format!("{free} free of {total}"),
        _ => String::new(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, and no size is negative"
)]
fn saturated(bytes: f64) -> u64 {
    bytes as u64
}

fn facts(results: &Map<String, Value>, thresholds: Option<&Thresholds>) -> Vec<(&'static str, Markup)> {
    let mut all = Vec::new();
    for (name, key) in [("System", "os"), ("Kernel", "kernel"), ("Version", "version")] {
        all.extend(results.get(key).map(|value| (name, visible(&text(Some(value))))));
    }
    if let Some(up) = number(results.get("uptime_s")) {
        all.push(("Up for", html! { (format::span_s(saturated(up))) }));
    }
    for (name, state, version) in [("PostgreSQL", "postgres", "postgres_version"), ("MySQL", "mysql", "mysql_version")]
    {
        let Some(said) = results.get(state).and_then(Value::as_str) else { continue };
        let (tone, word) = match said {
            "accepting" => (Tone::Ok, "Accepts connections"),
            "rejecting" => (Tone::Bad, "Rejects connections"),
            _ => (Tone::Bad, "No answer"),
        };
        all.push((name, html! { (components::pill(tone, word)) " " (text(results.get(version))) }));
    }
    let services = rows(results, "services");
    if !services.is_empty() {
        all.push((
            "Services",
            html! {
                @for service in services.iter().take(MOST_ROWS) {
                    @let state = text(service.get("state"));
                    @let tone = if state == "active" { Tone::Ok } else { Tone::Bad };
                    (visible(&text(service.get("unit")))) " " (components::pill(tone, &state)) " "
                }
            },
        ));
    }
    let failed: Vec<String> = rows(results, "failed_units").iter().map(|unit| text(Some(unit))).collect();
    if !failed.is_empty() {
        all.push(("Failed units", visible(&failed.join(", "))));
    }
    if let Some(age) = number(results.get("cron_age_s")) {
        let stale = thresholds.is_some_and(|at| age > f64::from(at.cron_minutes) * 60.0);
        all.push((
            "Cron",
            html! {
                "ran " (format::span_s(saturated(age))) " before the check"
                @if stale { " " (components::pill(Tone::Warn, "Quiet")) }
            },
        ));
    }
    all
}

fn table(title: &str, results: &Map<String, Value>, name: &str, columns: &[(&str, &str)]) -> Markup {
    let found = rows(results, name);
    html! {
        @if !found.is_empty() {
            details.found {
                summary { (title) " " small { (found.len()) } }
                .scroll { table.cards {
                    caption.vh { (title) }
                    thead { tr { @for (_, head) in columns { th scope="col" { (head) } } } }
                    tbody { @for row in found.iter().take(MOST_ROWS) { tr { @for (at, (key, _)) in columns.iter().enumerate() { td.title[at == 0] { (cell(key, row.get(key))) } } } } }
                } }
                @if found.len() > MOST_ROWS { p { small { "The first " (MOST_ROWS) "; the log has all." } } }
            }
        }
    }
}

fn cell(key: &str, value: Option<&Value>) -> Markup {
    match (key, number(value)) {
        ("size", Some(bytes)) => html! { (format::bytes(saturated(bytes))) },
        _ => visible(&text(value)),
    }
}

fn errors(results: &Map<String, Value>) -> Markup {
    let errors = rows(results, "recent_errors");
    html! {
        @if results.get("log_readable") == Some(&Value::Bool(false)) { p.notice.warn { "The error log that was named can't be read there." } }
        @if !errors.is_empty() {
            details.found {
                summary { "Recent errors " small { (errors.len()) } }
                pre { @for error in errors.iter().take(MOST_ROWS) { (visible(&text(Some(error)))) "\n" } }
            }
        }
    }
}

fn rows<'a>(results: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    results.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A value of a result as a text; nothing for what is absent.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
