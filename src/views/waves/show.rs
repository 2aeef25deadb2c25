//! A wave: how it stands, and its hosts in a table that fetches itself while the wave goes on.

use maud::{Markup, html};
use serde_json::Value;

use super::{asked_by, host_pill, pill, sentence, way_words};
use crate::{
    domain::{
        user::Role,
        wave::{Standing, Tally, Wave, WaveHost},
    },
    paths::{self, route},
    runbook::ResultType,
    views::{
        Nav, Page, Shell,
        components::{Confirm, PostButton},
        format,
        job::{reading, words},
    },
};

/// Hosts on a page of a wave: what keeps its HTML under 100 KiB.
pub const WAVE_HOSTS_A_PAGE: u32 = 60;
/// Characters of an error in the table; the job's page has all of it.
const MOST_WORDS: usize = 240;

/// `/waves/{id}`.
#[derive(Debug, Clone, PartialEq)]
pub struct WavePage {
    /// All of it.
    pub live: WaveLive,
}

/// Live fragment `/waves/{id}?fragment=1`; fetches itself while the wave goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveLive {
    /// The wave.
    pub wave: Wave,
    /// How all of its hosts stand.
    pub tally: Tally,
    /// Hosts of this page, in the order in which they go.
    pub rows: Vec<WaveHost>,
    /// The results that have a column.
    pub columns: Vec<(String, ResultType)>,
    /// The first place of this page.
    pub from: u32,
    /// Its runbook removes or replaces something.
    pub destroys: bool,
}

impl WaveLive {
    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let wave = &self.wave;
        let again = (!wave.status.is_final()).then(|| paths::wave_live(wave.id, self.from));
        html! {
            section #wave .stack.wide aria-label="Wave" hx-get=[again.as_deref()] hx-trigger=[again.as_ref().map(|_| "every 2s")] hx-swap="outerHTML" data-calm {
                .row.between {
                    div {
                        small { a href=(route::WAVES) { "Waves" } }
                        .row { h1 { (wave.spec.title) } span role="status" { (pill(wave)) } }
                    }
                    .row { (self.actions(shell)) }
                }
                .stack {
                    p.lead { (sentence(wave, self.tally)) "." }
                    progress max=(self.tally.hosts) value=(self.tally.ended()) aria-label="Hosts that are done" {}
                    @if !wave.why.is_empty() { p.notice.(if wave.stop == Some(crate::domain::wave::Stop::Cancel) { "idle" } else { "bad" }) { (format::sentence(&wave.why)) } }
                }
                (self.facts())
                (self.table(shell))
            }
        }
    }

    /// Those that failed, could not begin, or were not started.
    fn left(&self) -> u32 {
        self.tally.failed + self.tally.not_started
    }

    fn actions(&self, shell: &Shell) -> Markup {
        let wave = &self.wave;
        if !wave.status.is_final() {
            return Confirm {
                id: "cancel-wave".to_owned(),
                action: paths::wave_cancel(wave.id),
                label: "Cancel wave",
                question: "Stop this wave?".to_owned(),
                consequence: "What runs is asked to stop, and is killed if it does not. The hosts that have not begun stay as they are. What is done stays done.".to_owned(),
                typed: None,
                needs: Role::Operator,
            }
            .render(shell);
        }
        let left = u64::from(self.left());
        let label = "Re-run failed and not started";
        let words = format::plural(left, "host", "hosts");
        html! {
            @if left > 0 {
                @if !wave.spec.secrets.is_empty() {
                    (self.ask_again())
                } @else if self.destroys {
                    (Confirm {
                        id: "rerun-wave".to_owned(),
                        action: paths::wave_rerun(wave.id),
                        label,
                        question: format!("Run {} again on {words}?", wave.spec.title),
                        consequence: "It removes or replaces something on each of them. The same pace holds as before.".to_owned(),
                        typed: Some(&words),
                        needs: Role::Operator,
                    }.render(shell))
                } @else {
                    (PostButton { action: paths::wave_rerun(wave.id), label, class: "primary", fields: Vec::new(), needs: Role::Operator, aria: format!("{label}: {words}") }.render(shell))
                }
            }
        }
    }

    /// Secret answers are not kept beyond the end: the form asks for them, where all that is left fits into an address.
    fn ask_again(&self) -> Markup {
        let left =
            |host: &&WaveHost| !host.removed && matches!(host.standing(), Standing::Failed | Standing::NotStarted);
        let mut pairs: Vec<(&str, String)> =
            self.rows.iter().filter(left).map(|host| ("host", host.host_id.to_string())).collect();
        pairs.push(("runbook", self.wave.kind.as_str().to_owned()));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let all_shown = self.rows.len() == self.tally.hosts as usize;
        html! {
            @if all_shown { a.btn.primary href=(paths::with_query(route::WAVE_NEW, &pairs)) { "Order again what is left…" } }
            @else { button.btn type="button" disabled title="Its secret answers are not kept: choose the hosts in their list, and answer again." { "Re-run failed and not started" } }
        }
    }

    fn facts(&self) -> Markup {
        let wave = &self.wave;
        let pace = wave.spec.pace;
        html! {
            ul.inline-facts aria-label="Facts" {
                li { "by " b { (asked_by(&wave.actor)) } }
                li { "asked for " b { (format::moment(wave.created_at)) } }
                @if let Some(end) = wave.finished_at { li { "took " b { (format::duration_ms(end.ms_since(wave.created_at))) } } }
                @match pace.canary {
                    0 => {},
                    1 => li { b { "1 host" } " goes first" },
                    n => li { b { (n) " hosts" } " go first" },
                }
                li { b { (pace.batch) } " at a time" }
                @if let Some(earlier) = wave.rerun_of { li { a href=(paths::wave(earlier)) { "what was left of an earlier wave" } } }
                @if let Some(later) = wave.rerun_as { li { a href=(paths::wave(later)) { b { "was run again" } } } }
            }
        }
    }

    fn table(&self, shell: &Shell) -> Markup {
        let end = self.from + u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        html! {
            section.card aria-label="Hosts" {
                .scroll { table.cards {
                    caption.vh { "Hosts of the wave" }
                    thead { tr {
                        th scope="col" { "Host" } th scope="col" { "State" }
                        @for (name, _) in &self.columns { th.hide-s scope="col" { (words(name)) } }
                        th.num.hide-s scope="col" { "Duration" } th.hide-s scope="col" { span.vh { "Job" } }
                    } }
                    tbody { @for host in &self.rows { (self.row(shell, host)) } }
                } }
                @if self.from > 0 || end < self.tally.hosts {
                    .pad.row.between {
                        small { "Hosts " (format::count(u64::from(self.from) + 1)) " to " (format::count(end.into())) " of " (format::count(self.tally.hosts.into())) }
                        .row {
                            @if self.from > 0 { a.btn href=(paths::wave_from(self.wave.id, self.from.saturating_sub(WAVE_HOSTS_A_PAGE))) { "Earlier" } }
                            @if end < self.tally.hosts { a.btn href=(paths::wave_from(self.wave.id, end)) { "Later" } }
                        }
                    }
                }
            }
        }
    }

    fn row(&self, shell: &Shell, host: &WaveHost) -> Markup {
        let job = host.job.as_ref();
        let error = host.why_not();
        let is_canary = host.position < self.wave.spec.pace.canary;
        html! {
            tr data-key=(host.position) {
                td.first {
                    @if host.removed { b { (host.host_name) } " " small { "removed" } }
                    @else { a href=(paths::host(host.host_id)) { b { (host.host_name) } } }
                    @if is_canary { " " small { "goes first" } }
                    @if let Some(error) = error { small.wait.bad-text { (short(&error)) } }
                }
                td { @match job { Some(job) => a href=(paths::job(job.id)) { (host_pill(host)) }, None => (host_pill(host)) } }
                @for (name, kind) in &self.columns { td.hide-s { (cell(name, *kind, job.and_then(|job| job.results.get(name)))) } }
                td.num.hide-s { (duration(shell, host)) }
                td.hide-s { @if let Some(job) = job {
                    a href=(paths::job(job.id)) aria-label=(format!("Job on {}", host.host_name)) { "Job" }
                    @if let Some(way) = job.way { small.line { (way_words(way)) } }
                } }
            }
        }
    }
}

fn duration(shell: &Shell, host: &WaveHost) -> Markup {
    let Some(job) = &host.job else { return html! { "—" } };
    match (job.started_at, job.finished_at) {
        (Some(start), Some(end)) => html! { (format::duration_ms(end.ms_since(start))) },
        (Some(start), None) if !job.status.is_final() => format::ticking_since(shell.now, start),
        _ => html! { "—" },
    }
}

/// As much of an error as a row has room for.
fn short(error: &str) -> String {
    let mut words: String = error.chars().take(MOST_WORDS).collect();
    if words.len() < error.len() {
        words.push('…');
    }
    format::sentence(&words)
}

fn cell(name: &str, kind: ResultType, value: Option<&Value>) -> Markup {
    match value {
        Some(Value::String(text)) => {
            html! { span.cut title=(text) { (reading(name, &Value::from(text.as_str()), kind)) } }
        }
        Some(value @ (Value::Bool(_) | Value::Number(_))) => reading(name, value, kind),
        _ => html! { "—" },
    }
}

impl Page for WavePage {
    fn title(&self) -> String {
        let tally = self.live.tally;
        format!("{} of {} · {}", tally.ended(), tally.hosts, self.live.wave.spec.title)
    }

    fn nav(&self) -> Nav {
        Nav::Jobs
    }

    fn body(&self, shell: &Shell) -> Markup {
        self.live.render(shell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_between_characters_and_says_so() {
        let cut = short(&"ü".repeat(MOST_WORDS + 1));
        assert!(cut.contains('…') && cut.chars().count() <= MOST_WORDS + 2, "{cut}");
        assert!(!short("it failed").contains('…'));
    }
}
