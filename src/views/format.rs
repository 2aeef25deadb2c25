//! Numbers, sizes, durations and times as people read them. Every function is pure; times come out in UTC inside a
//! `<time>` element that `app.js` turns into the reader's own zone.

use maud::{Markup, html};

use crate::domain::Timestamp;

/// Bytes with IEC units and three significant digits or so: `812 B`, `3.2 TiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    // What would be printed as 1024.0 belongs to the next unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value >= 99.95 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with thousands separators: `21,977`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n` of a thing, in words: `1 host`, `3 hosts`.
#[must_use]
pub fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Seconds as people say them, two units at most: `0.8 s`, `42 s`, `1 m 42 s`, `3 h 5 m`, `2 d 4 h`.
#[must_use]
pub fn duration_ms(ms: i64) -> String {
    let ms = ms.max(0);
    let s = ms / 1000;
    match s {
        0..=9 => format!("{}.{} s", s, ms % 1000 / 100),
        10..=59 => format!("{s} s"),
        60..=3599 => format!("{} m {} s", s / 60, s % 60),
        3600..=86_399 => format!("{} h {} m", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A span that someone chose, exactly: `90 s`, `45 min`, `24 h`, `7 days`, `1 h 30 min`.
#[must_use]
pub fn span_s(s: u64) -> String {
    match s {
        s if s >= 172_800 && s.is_multiple_of(86_400) => format!("{} days", s / 86_400),
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s >= 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s >= 120 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// How long ago, or in how long, in one unit: `just now`, `5 min ago`, `3 days ago`, `in 2 h`.
#[must_use]
pub fn relative(now: Timestamp, at: Timestamp) -> String {
    let s = now.ms_since(at) / 1000;
    let span = |s: i64| match s {
        0..=89 => format!("{s} s"),
        90..=5399 => format!("{} min", (s + 30) / 60),
        5400..=129_599 => format!("{} h", (s + 1800) / 3600),
        _ => format!("{} days", (s + 43_200) / 86_400),
    };
    match s {
        -4..=4 => "just now".to_owned(),
        5.. => format!("{} ago", span(s)),
        _ => format!("in {}", span(-s)),
    }
}

/// Day and minute in UTC: `2026-11-21 08:00 UTC`.
#[must_use]
pub fn utc_minute(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// `3 h ago`, with the exact moment on hover; ticks in the browser.
#[must_use]
pub fn ago(now: Timestamp, at: Timestamp) -> Markup {
    html! { time datetime=(at) data-time="ago" title=(utc_minute(at)) { (relative(now, at)) } }
}

/// The day and the time of day.
#[must_use]
pub fn moment(at: Timestamp) -> Markup {
    html! { time datetime=(at) data-time="moment" { (utc_minute(at)) } }
}

/// Day and minute in a time zone: `Sun 2026-11-22 01:00`. A zone that is none is taken for UTC, and said.
#[must_use]
pub fn in_zone(at: Timestamp, zone: &str) -> String {
    strftime_in(at, zone, "%a %Y-%m-%d %H:%M")
}

/// The minute alone: `05:00`.
#[must_use]
pub fn time_in_zone(at: Timestamp, zone: &str) -> String {
    strftime_in(at, zone, "%H:%M")
}

fn strftime_in(at: Timestamp, zone: &str, format: &str) -> String {
    match at.to_jiff().in_tz(zone) {
        Ok(zoned) => zoned.strftime(format).to_string(),
        Err(_) => format!("{} UTC", at.to_jiff().strftime(format)),
    }
}

/// A span of time in the reader's own zone, which only the browser knows: without script it says so.
#[must_use]
pub fn local(from: Timestamp, until: Timestamp) -> Markup {
    html! { time datetime=(from) data-time="local" data-until=(until) { span.muted { "needs JavaScript" } } }
}

/// The first letter large.
#[must_use]
pub fn sentence_case(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| format!("{}{}", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// The time that has passed since `at`; ticks in the browser.
#[must_use]
pub fn ticking_since(now: Timestamp, at: Timestamp) -> Markup {
    html! { time datetime=(at) data-time="since" { (duration_ms(now.ms_since(at))) } }
}

/// A fragment as a sentence: the first letter large, if it begins with a word and not with an address, and a full stop at the end.
#[must_use]
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let Some(first) = letters.next() else { return String::new() };
    let stop = if text.ends_with(['.', '!', '?', '…', ':']) { "" } else { "." };
    if text.split_whitespace().next().is_some_and(|word| word.contains(['@', '/'])) {
        return format!("{text}{stop}");
    }
    format!("{}{}{stop}", first.to_uppercase(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_a_readable_number_of_digits() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (442_277_953_536, "412 GiB")];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_are_grouped_by_three() {
        assert_eq!([count(7), count(999), count(1000), count(1_234_567)], ["7", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_name_two_units_at_most() {
        let cases = [(840, "0.8 s"), (42_000, "42 s"), (102_000, "1 m 42 s"), (11_100_000, "3 h 5 m"), (-5, "0.0 s")];
        for (ms, text) in cases {
            assert_eq!(duration_ms(ms), text);
        }
        assert_eq!(duration_ms(187_200_000), "2 d 4 h");
    }

    #[test]
    fn relative_times_look_both_ways() {
        let now = Timestamp::from_unix_ms(1_000_000_000);
        let at = |s: i64| relative(now, now.plus_s(s));
        assert_eq!([at(0), at(-31), at(-7200), at(-3 * 86_400)], ["just now", "31 s ago", "2 h ago", "3 days ago"]);
        assert_eq!(at(7200), "in 2 h");
    }

    #[test]
    fn a_fragment_becomes_a_sentence() {
        assert_eq!(sentence("the server is away"), "The server is away.");
        assert_eq!(sentence("Éa. Try again?"), "Éa. Try again?");
        assert_eq!(sentence(" "), "");
    }
}
