//! The tab of a host's health: its probes with their course, and the restart of its service. Asking and restarting are forms that post; the rest is a picture of what is
//! kept.

use maud::{Markup, html};

use crate::{
    domain::{
        HostId, Timestamp,
        job::Job,
        probe::{PastAnswer, Probe, ProbeState, Question},
        user::Role,
    },
    paths,
    views::{
        Shell,
        chart::{Chart, Series, Unit},
        components::{self, PostButton, Tone, pill},
        format,
        host::HostPage,
    },
};

/// Points of a chart: the slowest answer of each piece of its time.
const POINTS: usize = 120;
/// Charts that the tab draws; what is more has its chart on a page of its own.
const DRAWN: usize = 8;

/// What the tab shows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HealthTab {
    /// Its probes with their answers of the last day, the oldest first.
    pub probes: Vec<(Probe, Vec<PastAnswer>)>,
    /// Its restart.
    pub restart: RestartOffer,
    /// The last one.
    pub last_restart: Option<Job>,
}

/// What a restart would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartOffer {
    /// The command of the host's settings; none: not configured.
    pub command: Option<String>,
    /// Seconds until it is ended.
    pub timeout_s: u32,
    /// Which way it would go and as whom, such as "over SSH as root"; or why it can't.
    pub way: Result<String, String>,
}

impl Default for RestartOffer {
    fn default() -> Self {
        Self { command: None, timeout_s: 30, way: Err(String::new()) }
    }
}

/// A probe's state as a pill: one word and colour for each, the same everywhere.
#[must_use]
pub fn probe_pill(probe: &Probe) -> Markup {
    if !probe.spec.enabled {
        return pill(Tone::Idle, "Paused");
    }
    match probe.state {
        ProbeState::Healthy => pill(Tone::Ok, "Healthy"),
        ProbeState::Unhealthy => pill(Tone::Bad, "Unhealthy"),
        ProbeState::Unknown => pill(Tone::Idle, "Not known yet"),
    }
}

impl HostPage {
    pub(super) fn health_tab(&self, shell: &Shell) -> Markup {
        let id = self.host.id;
        let tab = &self.health;
        let refusal = shell.refusal(Role::Operator);
        html! {
            .stack.wide {
                (self.restart_card(shell))
                .row.between {
                    h2 { "Health probes" }
                    @if let Some(reason) = &refusal {
                        button.btn type="button" disabled title=(reason) { "Add a probe" }
                    } @else if !tab.probes.is_empty() {
                        a.btn href=(paths::host_probes(id)) { "Add a probe" }
                    }
                }
                @if tab.probes.is_empty() {
                    .card.empty {
                        h2 { "Nothing asks how this host is" }
                        p { "A probe asks a web address, a port or a certificate of this host again and again, from here. It keeps how long each answer took, raises an alert when the answers stay bad, and says after a restart whether the service came back." }
                        @if refusal.is_none() { p { a.btn.primary href=(paths::host_probes(id)) { "Add a probe" } } }
                    }
                }
                @for (nth, (probe, answers)) in tab.probes.iter().enumerate() {
                    (probe_card(shell, probe, (nth < DRAWN).then_some(answers.as_slice())))
                }
            }
        }
    }

    fn restart_card(&self, shell: &Shell) -> Markup {
        let tab = &self.health;
        html! {
            section.card aria-labelledby="restart-title" {
                header { h2 #restart-title { "Restart" } (self.restart_button(shell)) }
                .pad {
                    @match &tab.restart.command {
                        Some(command) => {
                            (components::facts(&[
                                ("Runs", html! { code { (command) } }),
                                ("How", html! { @match &tab.restart.way { Ok(way) => (way), Err(why) => (format::sentence(why)) } }),
                                ("Ended after", html! { (format::span_s(tab.restart.timeout_s.into())) ", with all that it started" }),
                                ("Last", self.last_restart(shell)),
                            ]))
                        }
                        None => p.muted { "No restart command is set. An administrator writes one into the host's settings, such as " code { "systemctl restart shop" } "; then the button works, and what it did is followed by the health probes." },
                    }
                }
            }
        }
    }

    fn last_restart(&self, shell: &Shell) -> Markup {
        let Some(job) = &self.health.last_restart else { return html! { "never from here" } };
        let words = job.aftermath.as_ref().map(crate::domain::aftermath::Aftermath::words);
        html! {
            a href=(paths::job(job.id)) { (format::ago(shell.now, job.finished_at.unwrap_or(job.created_at))) } ": "
            @match words { Some(words) => (words), None => (components::job_pill(job.status)) }
        }
    }

    /// The button that asks before it restarts; off, with the reason, where it can't.
    fn restart_button(&self, shell: &Shell) -> Markup {
        let (host, offer) = (&self.host, &self.health.restart);
        let why_not = match (&offer.command, &offer.way) {
            (None, _) => Some("Not configured: the host's settings hold no restart command.".to_owned()),
            (_, Err(why)) => Some(format!("It can't be run: {why}.")),
            _ => shell.refusal(Role::Operator),
        };
        if let Some(why_not) = why_not {
            return html! { span.row { small.muted #restart-why { (why_not) } button.btn type="button" disabled title=(why_not) aria-describedby="restart-why" { "Restart" } } };
        }
        let command = offer.command.as_deref().unwrap_or_default();
        let way = offer.way.as_deref().unwrap_or_default();
        let asked = self.health.probes.iter().filter(|(probe, _)| probe.spec.enabled).count();
        html! {
            button.btn.danger type="button" command="show-modal" commandfor="restart" { "Restart" }
            dialog #restart aria-labelledby="restart-question" {
                h2 #restart-question { "Restart the service of " (host.name) "?" }
                .stack {
                    p { "This is run on " b { (host.name) } ", " (way) ":" }
                    pre tabindex="0" aria-label="Restart command" { (command) }
                    p { "Its users will lose it briefly. The command is ended with all that it started after " (format::span_s(offer.timeout_s.into())) "." }
                    p {
                        @match asked {
                            0 => "No health probe is set up, so only the command's own end will be known.",
                            1 => "Then its health probe is asked each second until it is healthy, for at most a minute.",
                            n => { "Then its " (n) " health probes are asked each second until all are healthy, for at most a minute." },
                        }
                    }
                }
                form method="post" action=(paths::host_restart(host.id)) {
                    (shell.csrf_field())
                    .row.end {
                        button.btn type="button" autofocus command="close" commandfor="restart" { "Leave it running" }
                        button.btn.danger.solid type="submit" { "Restart" }
                    }
                }
            }
        }
    }
}

/// The button that asks at once.
pub(in crate::views) fn check_button(shell: &Shell, probe: &Probe) -> Markup {
    PostButton {
        action: paths::probe_check(probe.id),
        label: "Check now",
        class: "",
        fields: Vec::new(),
        needs: Role::Operator,
        aria: format!("Check now: {}", probe.name),
    }
    .render(shell)
}

fn probe_card(shell: &Shell, probe: &Probe, answers: Option<&[PastAnswer]>) -> Markup {
    let title = format!("probe-{}", probe.no);
    html! {
        section.card.probe aria-labelledby=(title) {
            header {
                .row {
                    h3 #(title) { a href=(paths::probe(probe.id)) { (probe.name) } }
                    (probe_pill(probe))
                    @if let Some(since) = probe.state_at.filter(|_| probe.spec.enabled && probe.state != ProbeState::Unknown) {
                        small.muted { "since " (format::ago(shell.now, since)) }
                    }
                }
                .row { (check_button(shell, probe)) a.btn href=(paths::probe(probe.id)) aria-label=(format!("Change: {}", probe.name)) { "Change" } }
            }
            .pad.stack {
                (about(shell, probe))
                @if let Some(answers) = answers { .stack { (course(probe, answers, "Latency, last 24 hours")) } }
            }
        }
    }
}

/// What is asked, and what was answered last.
pub(in crate::views) fn about(shell: &Shell, probe: &Probe) -> Markup {
    let spec = &probe.spec;
    let kind = match &spec.question {
        Question::Http { tls_insecure: true, .. } => "HTTP, any certificate",
        Question::Http { .. } => "HTTP",
        Question::Tcp { .. } => "TCP",
        Question::Tls { .. } => "Certificate",
    };
    html! {
        (components::facts(&[
            (kind, html! { code { (spec.question.target()) } }),
            ("Healthy is", html! { (spec.question.wants()) }),
            ("Asked", html! {
                "every " (format::span_s(spec.interval_s.into())) ", " (format::span_s(spec.timeout_s.into())) " at most; "
                (spec.need) " of the last " (spec.of) " answers change the state"
            }),
            ("Last answer", html! {
                @match probe.asked_at {
                    None if spec.enabled => "none yet: it is asked within a second or two",
                    None => "none",
                    Some(at) => {
                        (format::ago(shell.now, at))
                        @if let Some(ms) = probe.latency_ms { ", after " (Unit::Milliseconds.text(f64::from(ms))) }
                        @if !probe.detail.is_empty() { ": " (probe.detail) }
                    },
                }
            }),
        ]))
    }
}

/// Latency over time, with the times marked in which it was not well.
pub(in crate::views) fn course(probe: &Probe, answers: &[PastAnswer], title: &'static str) -> Markup {
    let spans = bad_spans(answers, i64::from(probe.spec.interval_s) * 1000);
    let points = slowest(answers);
    let bad_ms: i64 = spans.iter().map(|(from, until)| until.ms_since(*from)).sum();
    html! {
        @if answers.is_empty() {
            p.muted { "No answers in this time." }
        } @else if points.is_empty() {
            p.muted { "No answer came in this time, so there is no latency to draw." }
        } @else {
            (Chart {
                id: format!("latency-{}", probe.no).into(),
                title,
                unit: Unit::Milliseconds,
                series: vec![Series { name: "Latency", points }],
                bound: None,
                marked: (!spans.is_empty()).then(|| (spans.clone(), "not healthy")),
            }.render())
        }
        @if !spans.is_empty() {
            p { small.muted { "Bad answers in " (format::plural(spans.len() as u64, "span", "spans")) ", about " (format::span_s((bad_ms / 1000).unsigned_abs())) " in all." } }
        }
    }
}

/// The slowest answer of each of [`POINTS`] pieces of the time.
fn slowest(answers: &[PastAnswer]) -> Vec<(Timestamp, f64)> {
    let (Some(first), Some(last)) = (answers.first(), answers.last()) else { return Vec::new() };
    let piece = (last.at.ms_since(first.at) / POINTS as i64).max(1);
    let mut points: Vec<(i64, Timestamp, f64)> = Vec::new();
    for PastAnswer { at, answer } in answers {
        let Some(ms) = answer.latency_ms.map(f64::from) else { continue };
        let nth = at.ms_since(first.at) / piece;
        match points.last_mut() {
            Some((of, then, most)) if *of == nth => {
                if ms > *most {
                    (*then, *most) = (*at, ms);
                }
            }
            _ => points.push((nth, *at, ms)),
        }
    }
    points.into_iter().map(|(_, at, ms)| (at, ms)).collect()
}

/// From each first bad answer to the next good one; the last, where none followed, for an interval more.
fn bad_spans(answers: &[PastAnswer], interval_ms: i64) -> Vec<(Timestamp, Timestamp)> {
    let mut spans = Vec::new();
    let mut since: Option<Timestamp> = None;
    for PastAnswer { at, answer } in answers {
        match (answer.healthy, since) {
            (false, None) => since = Some(*at),
            (true, Some(from)) => {
                spans.push((from, *at));
                since = None;
            }
            _ => {}
        }
    }
    if let (Some(from), Some(last)) = (since, answers.last()) {
        spans.push((from, Timestamp::from_unix_ms(last.at.unix_ms() + interval_ms)));
    }
    spans
}

/// Where a host's health is looked at.
#[must_use]
pub fn address(host: HostId) -> String {
    paths::host_tab(host, "health")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::probe::Answer;

    fn answers(course: &[(i64, Option<u32>, bool)]) -> Vec<PastAnswer> {
        let of = |(s, latency_ms, healthy): &(i64, Option<u32>, bool)| PastAnswer {
            at: Timestamp::from_unix_ms(s * 1000),
            answer: Answer { healthy: *healthy, latency_ms: *latency_ms, detail: String::new() },
        };
        course.iter().map(of).collect()
    }

    fn seconds(spans: Vec<(Timestamp, Timestamp)>) -> Vec<(i64, i64)> {
        spans.into_iter().map(|(from, until)| (from.unix_ms() / 1000, until.unix_ms() / 1000)).collect()
    }

    #[test]
    fn a_bad_span_reaches_from_the_first_bad_answer_to_the_next_good_one() {
        let past = answers(&[
            (0, Some(5), true),
            (60, None, false),
            (120, Some(9), false),
            (180, Some(5), true),
            (240, None, false),
        ]);
        assert_eq!(seconds(bad_spans(&past, 60_000)), [(60, 180), (240, 300)]);
        assert_eq!(bad_spans(&past[..1], 60_000), []);
    }

    #[test]
    fn of_many_answers_the_slowest_of_each_piece_is_drawn() {
        let many: Vec<_> =
            (0..1440).map(|minute| (minute * 60, Some(if minute == 700 { 900 } else { 5 }), true)).collect();
        let points = slowest(&answers(&many));
        assert!(points.len() <= POINTS + 1, "{}", points.len());
        assert!(points.iter().any(|(at, ms)| *ms == 900.0 && at.unix_ms() == 700 * 60_000));
        assert_eq!(slowest(&answers(&[(0, None, false)])), []);
    }
}
