//! Pages of waves: one runbook over many hosts. The answer first, as a sentence; then the hosts in the order in which they go, which never changes.

mod new;
mod show;

use maud::{Markup, html};

pub use new::{HostLine, NewWavePage, WaveBook};
pub use show::{WAVE_HOSTS_A_PAGE, WaveLive, WavePage};

use crate::{
    domain::{
        Way,
        job::{Actor, ActorKind},
        user::Role,
        wave::{Stop, Tally, Wave, WaveHost, WaveStatus},
    },
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, Tone},
        format,
    },
};

/// Waves on one page of the list.
pub const WAVES_A_PAGE: u32 = 50;

/// `/waves`.
#[derive(Debug, Clone, PartialEq)]
pub struct WavesPage {
    /// The waves, newest first, with how their hosts stand.
    pub rows: Vec<(Wave, Tally)>,
    /// There are older ones.
    pub more: bool,
}

/// The two lists of what ran: on one host, and over many.
#[must_use]
pub fn tabs(over_many: bool) -> Markup {
    let entries = [(route::JOBS.to_owned(), "Jobs", !over_many), (route::WAVES.to_owned(), "Waves", over_many)];
    components::tabs("What ran", &entries)
}

impl Page for WavesPage {
    fn title(&self) -> String {
        "Waves".to_owned()
    }

    fn nav(&self) -> Nav {
        Nav::Jobs
    }

    fn body(&self, shell: &Shell) -> Markup {
        let may = shell.may(Role::Operator);
        let add = html! { @if may { a.btn href=(route::HOSTS) { "Choose hosts" } } };
        html! {
            (components::headline("Waves", &add))
            (tabs(true))
            @if self.rows.is_empty() {
                (components::empty(
                    "No wave yet",
                    "A wave runs one runbook on many hosts: one goes first, the others follow a few at a time, and where too many fail it stops. Choose the hosts in their list.",
                    may.then_some((route::HOSTS, "Choose hosts")),
                ))
            } @else {
                section.card aria-label="Waves" {
                    .scroll { table.cards {
                        caption.vh { "Waves" }
                        thead { tr {
                            th scope="col" { "Wave" } th scope="col" { "State" } th.hide-s scope="col" { "Hosts" }
                            th.hide-s scope="col" { "Asked by" } th.hide-s scope="col" { "When" }
                        } }
                        tbody { @for (wave, tally) in &self.rows { (row(shell, wave, *tally)) } }
                    } }
                    @if self.more && let Some((last, _)) = self.rows.last() {
                        p.pad { a.btn href=(paths::with_query(route::WAVES, &[("after", &last.id.to_string())])) { "Older" } }
                    }
                }
            }
        }
    }
}

fn row(shell: &Shell, wave: &Wave, tally: Tally) -> Markup {
    html! {
        tr data-key=(wave.id) {
            td.first { a href=(paths::wave(wave.id)) { b { (wave.spec.title) } } small.line { (sentence(wave, tally)) } }
            td { (pill(wave)) }
            td.hide-s { (format::count(tally.hosts.into())) }
            td.hide-s { (asked_by(&wave.actor)) }
            td.hide-s { (format::ago(shell.now, wave.created_at)) }
        }
    }
}

/// Who asked, in words.
fn asked_by(actor: &Actor) -> String {
    match actor.kind {
        ActorKind::Token => format!("token {}", actor.name),
        _ if actor.name.is_empty() => "Flotilla".to_owned(),
        _ => actor.name.clone(),
    }
}

/// A wave's state.
fn pill(wave: &Wave) -> Markup {
    match (wave.status, wave.stop) {
        (WaveStatus::Running, None) => components::pill(Tone::Run, "Running"),
        (WaveStatus::Running, Some(_)) => components::pill(Tone::Run, "Stopping"),
        (WaveStatus::Succeeded, _) => components::pill(Tone::Ok, "Succeeded"),
        (WaveStatus::Warning, _) => components::pill(Tone::Warn, "Warning"),
        (WaveStatus::Failed, _) => components::pill(Tone::Bad, "Stopped"),
        (WaveStatus::Cancelled, _) => components::pill(Tone::Idle, "Cancelled"),
    }
}

/// How a wave stands, in one sentence.
fn sentence(wave: &Wave, tally: Tally) -> String {
    let n = |count: u32| format::count(count.into());
    let mut parts =
        vec![format!("{} of {} done", n(tally.ended()), format::plural(tally.hosts.into(), "host", "hosts"))];
    if tally.failed > 0 {
        parts.push(format!("{} failed", n(tally.failed)));
    }
    if tally.warning > 0 {
        parts.push(format!("{} with warnings", n(tally.warning)));
    }
    if tally.running > 0 {
        parts.push(format!("{} running", n(tally.running)));
    }
    if tally.not_started > 0 && (wave.status.is_final() || wave.stop.is_some()) {
        parts.push(format!("{} not started", n(tally.not_started)));
    }
    let said = parts.join(", ");
    match (wave.status, wave.stop) {
        (WaveStatus::Succeeded, _) => match tally.hosts {
            1 => "The host is done".to_owned(),
            hosts => format!("All {} hosts are done", n(hosts)),
        },
        (WaveStatus::Running, None) => match wave.spec.pace.stop_at {
            0 => format!("{said}; stops at the first failure"),
            percent => format!("{said}; stops at {percent} %"),
        },
        (WaveStatus::Running, Some(_)) => format!("Stopping: {said}"),
        (_, Some(Stop::Cancel)) => format!("Cancelled: {said}"),
        (_, Some(_)) => format!("Stopped: {said}"),
        (_, None) => said,
    }
}

/// How a host of a wave stands.
fn host_pill(host: &WaveHost) -> Markup {
    match &host.job {
        None if host.refused.is_some() => components::pill(Tone::Bad, "Not possible"),
        None => components::pill(Tone::Idle, "Not started"),
        Some(job) => components::outcome_pill(job.status, job.aftermath.as_ref()),
    }
}

/// A way to a host, behind "goes".
fn way_words(way: Way) -> &'static str {
    match way {
        Way::Agent => "by its agent",
        Way::Api => "by its management interface",
        Way::Ssh => "by SSH",
    }
}
