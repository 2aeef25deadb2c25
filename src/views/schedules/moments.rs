//! Moments as people look at them: a picture of the day ahead, and the next runs in every zone that matters.

use maud::{Markup, html};

use crate::{
    domain::{
        Timestamp,
        schedule::{Schedule, preset},
    },
    views::format,
};

/// Width of the picture in its own units: ten an hour.
const WIDTH: i64 = 240;
const DAY_MS: i64 = 86_400_000;

/// The next 24 hours as a line, each moment with its jitter a bar on it.
#[must_use]
pub fn day_ahead(now: Timestamp, moments: &[Timestamp], jitter_s: u32) -> Markup {
    let within: Vec<i64> = moments.iter().map(|at| at.ms_since(now)).filter(|ms| (0..DAY_MS).contains(ms)).collect();
    let words = match within.len() {
        0 => "No run within 24 hours".to_owned(),
        n => format!("{} within 24 hours", format::plural(n as u64, "run", "runs")),
    };
    let width = (i64::from(jitter_s) * 1000 * WIDTH / DAY_MS).max(3);
    html! {
        svg.day viewBox=(format!("0 0 {WIDTH} 16")) width=(WIDTH) height="16" role="img" aria-label=(words) {
            title { (words) }
            line.axis x1="0" y1="12.5" x2=(WIDTH) y2="12.5" {}
            @for hour in [0, 6, 12, 18, 24] { line.axis x1=(hour * 10) y1="10" x2=(hour * 10) y2="15" {} }
            @for ms in &within {
                @let x = ms * WIDTH / DAY_MS;
                rect.due x=(x) y="2" width=(width.min(WIDTH - x).max(1)) height="8" rx="2" {}
            }
        }
    }
}

/// The next runs of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct UpcomingRuns<'a> {
    /// The schedule.
    pub schedule: &'a Schedule,
    /// Its next moments.
    pub moments: &'a [Timestamp],
}

impl UpcomingRuns<'_> {
    /// A table: the schedule's zone, the server's (UTC), the reader's, which only a script knows.
    #[must_use]
    pub fn render(&self) -> Markup {
        let zone = &self.schedule.timezone;
        let jitter_s = i64::from(self.schedule.jitter_s);
        let window = |at: Timestamp, zone: &str| {
            let until = (jitter_s > 0).then(|| format::time_in_zone(at.plus_s(jitter_s), zone));
            html! { (format::in_zone(at, zone)) @if let Some(until) = until { "–" (until) } }
        };
        html! {
            .scroll { table.upcoming {
                caption.vh { "Next runs" }
                thead { tr {
                    th scope="col" { (zone) }
                    @if zone != "UTC" { th.hide-s scope="col" { "Server (UTC)" } }
                    th scope="col" { "Your zone" }
                } }
                tbody { @for at in self.moments { tr {
                    td { (window(*at, zone)) }
                    @if zone != "UTC" { td.hide-s { (window(*at, "UTC")) } }
                    td { (format::local(*at, at.plus_s(jitter_s))) }
                } } }
            } }
            @if jitter_s > 0 {
                p.under { small {
                    "Hosts spread over " (preset::span(self.schedule.jitter_s)) ": each begins at its own time within that, the same every day."
                } }
            }
        }
    }
}
