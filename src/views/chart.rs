//! Lines over time, drawn by the server: SVG with axes and units, colours from the stylesheet, and the same numbers as a table for those who can't see it.

use std::{borrow::Cow, fmt::Write as _};

use maud::{Markup, html};

use crate::{domain::Timestamp, views::format};

/// The drawing's own units; the stylesheet makes it as wide as its place.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 26.0;
/// Rows of the table at most: thinned evenly, the latest always among them.
const ROWS: usize = 40;

/// What is counted, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// How many times.
    Times,
    /// How long, in thousandths of a second.
    Milliseconds,
}

impl Unit {
    /// A value in words.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Bytes => format::bytes(value.max(0.0) as u64),
            Self::Count => format::count(value.max(0.0) as u64),
            Self::Times => format!("{value:.1}×"),
            Self::Milliseconds if value < 1000.0 => format!("{value:.0} ms"),
            Self::Milliseconds => format!("{:.1} s", value / 1000.0),
        }
    }

    /// The step between two lines of the grid: round in this unit, and about a third of `most`.
    fn step(self, most: f64) -> f64 {
        let rough = (most / 3.0).max(if self == Self::Times { 0.1 } else { 1.0 });
        let base: f64 = if self == Self::Bytes { 1024f64.powf(rough.log(1024.0).floor()) } else { 1.0 };
        let scaled = rough / base;
        let tens = 10f64.powf(scaled.log10().floor());
        let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|nice| nice * tens >= scaled).unwrap_or(10.0);
        round * tens * base
    }
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What it is.
    pub name: &'static str,
    /// Its values, in the order of time.
    pub points: Vec<(Timestamp, f64)>,
}

/// A chart of one or two lines in one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Unique on the page.
    pub id: Cow<'static, str>,
    /// What is shown.
    pub title: &'static str,
    /// In which unit.
    pub unit: Unit,
    /// The lines; the second is drawn dashed.
    pub series: Vec<Series>,
    /// A bound that is drawn where it is not far above the rest, and what it is.
    pub bound: Option<(f64, &'static str)>,
    /// Spans of time that are marked, and what they are.
    pub marked: Option<(Vec<(Timestamp, Timestamp)>, &'static str)>,
}

struct Scale {
    from: i64,
    span: f64,
    most: f64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        LEFT + (at.unix_ms() - self.from) as f64 / self.span * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.most * (HEIGHT - TOP - BOTTOM)
    }

    /// A span of time as an area, never narrower than can be seen.
    fn span_of(&self, from: Timestamp, until: Timestamp) -> Markup {
        let left = self.x(from).clamp(LEFT, WIDTH - RIGHT - 2.0);
        let right = self.x(until).clamp(left + 2.0, WIDTH - RIGHT);
        html! { rect.marked x=(coordinate(left)) width=(coordinate(right - left)) y=(TOP) height=(HEIGHT - TOP - BOTTOM) {} }
    }
}

impl Chart {
    /// The chart with its table.
    #[must_use]
    pub fn render(&self) -> Markup {
        let title_id = format!("{}-title", self.id);
        let words_id = format!("{}-words", self.id);
        html! {
            figure.chart {
                figcaption {
                    b #(title_id) { (self.title) }
                    @if self.series.len() > 1 || self.marked.is_some() {
                        small.legend {
                            @for (series, class) in self.series.iter().zip(["one", "two"]) { span.(class) { (series.name) } }
                            @if let Some((_, name)) = &self.marked { span.marked { (name) } }
                        }
                    }
                }
                @if self.series.iter().all(|series| series.points.is_empty()) {
                    p.muted { "Nothing was measured yet." }
                } @else {
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby=(title_id) aria-describedby=(words_id) {
                        (self.drawing())
                    }
                    p.vh #(words_id) { (self.words()) }
                    (self.table())
                }
            }
        }
    }

    /// What the drawing says, in a sentence for each line.
    fn words(&self) -> String {
        let mut words = String::new();
        for series in &self.series {
            if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
                write!(
                    words,
                    "{}: {} on {}, {} on {}. ",
                    series.name,
                    self.unit.text(first.1),
                    day(first.0),
                    self.unit.text(last.1),
                    day(last.0)
                )
                .ok();
            }
        }
        if let Some((spans, name)) = &self.marked {
            for (from, until) in spans.iter().take(10) {
                write!(words, "From {} to {}: {name}. ", minute(*from), minute(*until)).ok();
            }
        }
        words
    }

    fn scale(&self) -> Scale {
        let all = || self.series.iter().flat_map(|series| &series.points);
        let from = all().map(|(at, _)| at.unix_ms()).min().unwrap_or_default();
        let until = all().map(|(at, _)| at.unix_ms()).max().unwrap_or_default();
        let highest = all().map(|(_, value)| *value).fold(0.0, f64::max);
        // A bound far above would press the line to the ground.
        let highest =
            self.bound.map_or(highest, |(bound, _)| if bound <= highest * 3.0 { highest.max(bound) } else { highest });
        let step = self.unit.step(highest);
        Scale { from, span: ((until - from) as f64).max(1.0), most: ((highest / step).ceil() * step).max(step) }
    }

    fn drawing(&self) -> Markup {
        let scale = self.scale();
        let step = self.unit.step(scale.most);
        let lines: Vec<f64> =
            (0..=5).map(|n| f64::from(n) * step).filter(|value| *value <= scale.most * 1.001).collect();
        let (first, last) =
            (Timestamp::from_unix_ms(scale.from), Timestamp::from_unix_ms(scale.from + scale.span as i64));
        // Within two days the hours matter.
        let label = if last.ms_since(first) < 2 * 86_400_000 { minute } else { day };
        html! {
            @if let Some((spans, _)) = &self.marked { @for (from, until) in spans { (scale.span_of(*from, *until)) } }
            @for value in &lines {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(coordinate(scale.y(*value))) y2=(coordinate(scale.y(*value))) {}
                text.y x=(LEFT - 6.0) y=(coordinate(scale.y(*value) + 4.0)) { (self.unit.text(*value)) }
            }
            text.x x=(LEFT) y=(HEIGHT - 8.0) { (label(first)) }
            @if label(first) != label(last) { text.x.end x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) { (label(last)) } }
            @if let Some((bound, name)) = self.bound.filter(|(bound, _)| *bound <= scale.most) {
                line.bound x1=(LEFT) x2=(WIDTH - RIGHT) y1=(coordinate(scale.y(bound))) y2=(coordinate(scale.y(bound))) {}
                text.bound x=(LEFT + 4.0) y=(coordinate(scale.y(bound) - 4.0)) { (name) }
            }
            @for (series, class) in self.series.iter().zip(["one", "two"]) {
                @match series.points.as_slice() {
                    [] => {},
                    [(at, value)] => circle.(class) cx=(coordinate(scale.x(*at))) cy=(coordinate(scale.y(*value))) r="3" {},
                    points => polyline.(class) points=(polyline(points, &scale)) {},
                }
            }
        }
    }

    fn table(&self) -> Markup {
        let longest = self.series.iter().max_by_key(|series| series.points.len());
        let moments: Vec<Timestamp> =
            longest.into_iter().flat_map(|series| &series.points).map(|(at, _)| *at).collect();
        let step = moments.len().div_ceil(ROWS).max(1);
        html! {
            details {
                summary { "As a table" }
                .scroll { table {
                    caption.vh { (self.title) }
                    thead { tr { th scope="col" { "When" } @for series in &self.series { th.num scope="col" { (series.name) } } } }
                    tbody { @for at in moments.iter().rev().step_by(step) { tr {
                        td { (format::moment(*at)) }
                        @for series in &self.series { td.num {
                            @match series.points.iter().find(|(then, _)| then == at) {
                                Some((_, value)) => (self.unit.text(*value)),
                                None => "—",
                            }
                        } }
                    } } }
                } }
            }
        }
    }
}

fn polyline(points: &[(Timestamp, f64)], scale: &Scale) -> String {
    let mut text = String::with_capacity(points.len() * 12);
    for (at, value) in points {
        write!(text, "{},{} ", coordinate(scale.x(*at)), coordinate(scale.y(*value))).ok();
    }
    text
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

fn day(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d").to_string()
}

fn minute(at: Timestamp) -> String {
    at.to_jiff().strftime("%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> Chart {
        let points =
            (0..).zip(values).map(|(day, value)| (Timestamp::from_unix_ms(day * 86_400_000), *value)).collect();
        Chart {
            id: "size".into(),
            title: "Size",
            unit: Unit::Bytes,
            series: vec![Series { name: "Stored", points }],
            bound: None,
            marked: None,
        }
    }

    #[test]
    fn a_marked_span_is_drawn_named_and_said_and_stays_within_the_drawing() {
        let day = |n: i64| Timestamp::from_unix_ms(n * 86_400_000);
        let marked = Some((vec![(day(1), day(1)), (day(1), day(9))], "not healthy"));
        let html = Chart { marked, ..chart(&[1.0, 2.0, 3.0]) }.render().into_string();
        assert_eq!(html.matches("<rect class=\"marked\"").count(), 2, "{html}");
        assert!(html.contains("From 01-02 00:00 to 01-10 00:00: not healthy."), "{html}");
        let (x, width) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, (WIDTH - LEFT - RIGHT) / 2.0);
        assert!(html.contains(&format!("x=\"{x:.1}\" width=\"{width:.1}\"")), "{html}");
        assert!(html.contains(&format!("x=\"{x:.1}\" width=\"2.0\"")), "a moment is wide enough to be seen");
    }

    #[test]
    fn the_grid_is_round_in_its_unit_and_holds_every_value() {
        assert_eq!(Unit::Bytes.step(3.5 * 1024.0), 2.0 * 1024.0);
        assert_eq!(Unit::Count.step(100.0), 50.0);
        for most in [1.0, 7.0, 999.0, 5e9, 3e15] {
            for unit in [Unit::Bytes, Unit::Count, Unit::Times, Unit::Milliseconds] {
                let lines = most / unit.step(most);
                assert!(lines <= 5.0, "{unit:?} {most}: {lines} lines");
            }
        }
        let scale = chart(&[1.0, 5.0e9, 3.0e9]).scale();
        assert!(scale.most >= 5.0e9 && scale.y(scale.most) >= TOP - 0.1);
    }

    #[test]
    fn a_chart_says_its_numbers_in_words_and_as_a_table() {
        let html = chart(&[1024.0, 2048.0]).render().into_string();
        assert!(html.contains("Stored: 1.0 KiB on 1970-01-01, 2.0 KiB on 1970-01-02."), "{html}");
        assert!(html.contains("<polyline") && html.contains("As a table"));
        assert!(chart(&[7.0]).render().into_string().contains("<circle"));
        assert!(chart(&[]).render().into_string().contains("Nothing was measured"));
    }

    #[test]
    fn a_bound_far_above_is_left_out_of_the_drawing() {
        let near = Chart { bound: Some((3000.0, "limit")), ..chart(&[1024.0, 2048.0]) };
        assert!(near.render().into_string().contains("limit"));
        let far = Chart { bound: Some((1e12, "limit")), ..near };
        assert!(!far.render().into_string().contains("limit"));
    }
}
