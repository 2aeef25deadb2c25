//! How a repository is: one sentence each for size, forecast, append-only and checks; charts over time; what last went well on which host; its locks.

use maud::{Markup, html};

use crate::{
    domain::{
        JobKind, Timestamp,
        health::{
            Limit, Proof, Report,
            forecast::{Forecast, Growth, LEAST, WINDOW_DAYS},
            locks::{SeenLock, Standing},
        },
        user::Role,
    },
    paths,
    views::{
        Shell,
        chart::{Chart, Series, Unit},
        components::{self, Confirm, PostButton, Tone},
        format,
    },
};

/// Kinds of work whose last success is shown, in this order.
const KINDS: [(JobKind, &str); 6] = [
    (JobKind::Backup, "Backup"),
    (JobKind::Copy, "Copy"),
    (JobKind::Forget, "Forget"),
    (JobKind::Prune, "Prune"),
    (JobKind::Check, "Check"),
    (JobKind::Tamper, "Tamper test"),
];

/// The part of a repository's page that tells how it is.
#[must_use]
pub fn section(shell: &Shell, report: &Report) -> Markup {
    html! {
        (damage(report))
        (standing(shell, report))
        (charts(report))
        (last_good(shell, report))
        (locks(shell, report))
    }
}

fn damage(report: &Report) -> Markup {
    html! {
        @if let Some((job, result)) = &report.damage {
            .notice.bad {
                b { "This repository is damaged. " }
                "A check found " (format::plural(result.errors, "error", "errors")) " (" a href=(paths::job(job.id)) { "its log" } "). "
                a.btn href=(paths::repo_repair(report.subject.id)) { "Open the guided repair" }
            }
        }
    }
}

fn button(shell: &Shell, action: String, label: &'static str) -> Markup {
    PostButton { action, label, class: "", fields: Vec::new(), needs: Role::Operator, aria: String::new() }
        .render(shell)
}

fn standing(shell: &Shell, report: &Report) -> Markup {
    let id = report.subject.id;
    let last = report.sizes.last();
    let ratio = |value: Option<f64>| value.map_or_else(|| "—".to_owned(), |value| Unit::Times.text(value));
    let dedup = report.sizes.iter().rev().find_map(crate::domain::health::Size::deduplication);
    html! {
        section.card aria-labelledby="health-title" {
            header { h2 #health-title { "Health" } .row {
                (button(shell, paths::repo_measure(id), "Measure now"))
                (button(shell, paths::repo_check(id), "Check now"))
                (button(shell, paths::repo_tamper(id), "Test append-only"))
            } }
            .pad { (components::facts(&[
                ("Size", html! { @match last {
                    Some(size) => { b { (format::bytes(size.bytes)) } ", measured " (format::ago(report.now, size.at)) },
                    None => "Not measured yet: that is done once a day by a host that backs up here",
                } }),
                ("Growth", html! { (growth_words(report.growth)) }),
                ("Full", html! { (forecast_words(report.limit.as_ref(), report.now)) }),
                ("Deduplication", html! { (ratio(dedup)) }),
                ("Compression", html! { (ratio(last.and_then(crate::domain::health::Size::compression))) }),
                ("Append-only", proof_words(report)),
                ("Last check", check_words(report)),
            ])) }
        }
    }
}

/// How it grows, in words.
fn growth_words(growth: Option<Growth>) -> String {
    let Some(growth) = growth else {
        return format!("Not known yet: that takes {LEAST} measurements over a week");
    };
    let signed = |daily: f64| {
        let sign = if daily < 0.0 { "−" } else { "" };
        format!("{sign}{}", format::bytes(daily.abs() as u64))
    };
    let (most_likely, least, most) = (signed(growth.daily), signed(growth.least), signed(growth.most));
    if least == most {
        format!("{most_likely} a day")
    } else {
        format!("{most_likely} a day (between {least} and {most})")
    }
}

fn date(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d").to_string()
}

/// When it is full, in words, with how sure that is.
fn forecast_words(limit: Option<&(Limit, Forecast)>, now: Timestamp) -> String {
    let Some((limit, forecast)) = limit else {
        return "No limit is known: enter how large it may become to get a forecast".to_owned();
    };
    let what = match limit {
        Limit::Said(bytes) => format!("its limit of {}", format::bytes(*bytes)),
        Limit::Disk { free, .. } => {
            format!("the end of its disk ({} free, if nothing else uses them)", format::bytes(*free))
        }
    };
    match forecast {
        Forecast::Full => format!("It has reached {what}"),
        Forecast::TooEarly { have } => {
            format!("Too early to say when it reaches {what}: {have} of at least {LEAST} measurements over a week")
        }
        Forecast::Never(_) => {
            format!("As it went in the last {WINDOW_DAYS} days it does not reach {what} within ten years")
        }
        Forecast::On { at, earliest, latest, .. } => {
            let days = (at.ms_since(now) / 86_400_000).max(0).unsigned_abs();
            let latest =
                latest.map_or_else(|| "perhaps never".to_owned(), |latest| format!("at the latest {}", date(latest)));
            format!(
                "About {} (in {}) it reaches {what}; with 90 % certainty not before {}, {latest}, if it goes on as in the last {WINDOW_DAYS} days",
                date(*at),
                format::plural(days, "day", "days"),
                date(*earliest)
            )
        }
    }
}

fn proof_words(report: &Report) -> Markup {
    let when = |at: Timestamp, job| html! { a href=(paths::job(job)) { (date(at)) } };
    html! { @match report.proof {
        Proof::Protected { at, job } => { (components::pill(Tone::Ok, "Append-only")) " proven on " (when(at, job)) },
        Proof::Vulnerable { at, job } => {
            (components::pill(if report.subject.append_only { Tone::Bad } else { Tone::Warn }, "Hosts can delete"))
            " shown on " (when(at, job))
        },
        Proof::Failed { at, job } => { (components::pill(Tone::Warn, "Not proven")) " the test of " (when(at, job)) " could not be done" },
        Proof::Never if report.subject.append_only => { (components::pill(Tone::Warn, "Not proven")) " declared, and never tested" },
        Proof::Never => { (components::pill(Tone::Idle, "Not tested")) },
    } }
}

fn check_words(report: &Report) -> Markup {
    let checks = || report.marks.iter().filter(|mark| mark.kind == JobKind::Check);
    let good = checks().filter_map(|mark| mark.good).max_by_key(|(at, _)| *at);
    let last = checks().map(|mark| mark.last).max_by_key(|(at, ..)| *at);
    html! { @match (last, good) {
        (None, _) => "Never checked",
        (Some((last, ..)), Some((at, job))) if last == at => { "Nothing wrong " a href=(paths::job(job)) { (format::ago(report.now, at)) } },
        (Some((last, job, status)), good) => {
            (components::job_pill(status)) " " a href=(paths::job(job)) { (format::ago(report.now, last)) }
            @if let Some((at, _)) = good { ", nothing wrong " (format::ago(report.now, at)) }
        },
    } }
}

fn charts(report: &Report) -> Markup {
    let points = |value: &dyn Fn(&crate::domain::health::Size) -> Option<f64>| {
        report.sizes.iter().filter_map(|size| Some((size.at, value(size)?))).collect::<Vec<_>>()
    };
    let bound = report.limit.as_ref().map(|(limit, _)| match limit {
        Limit::Said(bytes) => (*bytes as f64, "limit"),
        Limit::Disk { until, .. } => (*until as f64, "disk full"),
    });
    let size = Chart {
        id: "chart-size".into(),
        title: "Size",
        unit: Unit::Bytes,
        series: vec![Series { name: "Stored", points: points(&|size| Some(size.bytes as f64)) }],
        bound,
        marked: None,
    };
    let ratios = Chart {
        id: "chart-ratios".into(),
        title: "Space saved",
        unit: Unit::Times,
        series: vec![
            Series { name: "Deduplication", points: points(&|size| size.deduplication()) },
            Series { name: "Compression", points: points(&|size| size.compression()) },
        ],
        bound: None,
        marked: None,
    };
    let snapshots = Chart {
        id: "chart-snapshots".into(),
        title: "Snapshots",
        unit: Unit::Count,
        series: vec![Series { name: "Snapshots", points: points(&|size| Some(size.snapshots as f64)) }],
        bound: None,
        marked: None,
    };
    html! {
        @if !report.sizes.is_empty() {
            section.card.pad.charts aria-label="Over time" { (size.render()) (ratios.render()) (snapshots.render()) }
        }
    }
}

fn last_good(shell: &Shell, report: &Report) -> Markup {
    let rows = || {
        KINDS.iter().flat_map(|(kind, word)| {
            report.marks.iter().filter(move |mark| mark.kind == *kind).map(move |mark| (word, mark))
        })
    };
    html! {
        @if rows().next().is_some() {
            section.card aria-labelledby="good-title" {
                header { h2 #good-title { "Last successes" } }
                .scroll { table {
                    caption.vh { "The last success of each kind of work on each host" }
                    thead { tr { th scope="col" { "Work" } th scope="col" { "Host" } th scope="col" { "Last success" } th.hide-s scope="col" { "Last end" } } }
                    tbody { @for (word, mark) in rows() { tr {
                        td { (word) }
                        td { a.cut href=(paths::host(mark.host_id)) { (mark.host_name) } }
                        td { @match mark.good {
                            Some((at, job)) => a href=(paths::job(job)) { (format::ago(shell.now, at)) },
                            None => span.muted { "never" },
                        } }
                        td.hide-s { (components::job_pill(mark.last.2)) " " a href=(paths::job(mark.last.1)) { (format::ago(shell.now, mark.last.0)) } }
                    } } }
                } }
            }
        }
    }
}

fn locks(shell: &Shell, report: &Report) -> Markup {
    let id = report.subject.id;
    let removable = report.locks.iter().any(|lock| lock.standing(report.now).may_go());
    html! {
        section.card #locks aria-labelledby="locks-title" {
            header {
                h2 #locks-title { "Locks" }
                .row {
                    small { @if report.looking { "being looked at" } @else if let Some(at) = report.looked_at { "seen " (format::ago(report.now, at)) } @else { "never looked at" } }
                    (button(shell, paths::repo_look(id), "Look now"))
                    @if removable {
                        (Confirm {
                            id: "unlock".to_owned(),
                            action: paths::repo_unlock(id),
                            label: "Unlock",
                            question: format!("Remove the locks of {} that nobody holds?", report.subject.name),
                            consequence: "Only locks whose owner is proven dead, or that were not refreshed for more than half an hour, are removed. Live ones stay. No data is touched.".to_owned(),
                            typed: None,
                            needs: Role::Operator,
                        }.render(shell))
                    }
                }
            }
            @if report.locks.is_empty() {
                p.pad.muted { @if report.looked_at.is_some() { "None were there. " } "Backups share a lock while they run; forget, prune and check need one alone." }
            } @else {
                ul.list { @for lock in &report.locks { (lock_row(lock, report.now)) } }
            }
        }
    }
}

fn lock_row(lock: &SeenLock, now: Timestamp) -> Markup {
    let (tone, word, how) = match lock.standing(now) {
        Standing::Dead { known_at } => (
            Tone::Bad,
            "Owner is dead",
            format!("Its own host's agent found no such process {}. It may go.", format::relative(now, known_at)),
        ),
        Standing::Stale { age_s } => (
            Tone::Bad,
            "Stale",
            format!(
                "Not refreshed for {}: an owner that lives does so every five minutes, and restic itself counts it as stale after half an hour. It may go.",
                format::duration_ms(age_s * 1000)
            ),
        ),
        Standing::Live { known_at } => (
            Tone::Run,
            "Owner lives",
            format!("Its own host's agent saw the process {}. It stays.", format::relative(now, known_at)),
        ),
        Standing::Unknown => {
            let why = lock.refusal(now).unwrap_or_default();
            (Tone::Idle, "Not known", format::sentence(&why))
        }
    };
    html! { li {
        .grow {
            .row {
                (components::pill(tone, word))
                span {
                    b { "Process " (lock.pid) } " on "
                    @match &lock.host { Some((id, name)) => a href=(paths::host(*id)) { (name) }, None => (lock.hostname) }
                    @if !lock.username.is_empty() { " as " (lock.username) }
                }
                (components::pill(if lock.exclusive { Tone::Warn } else { Tone::Idle }, if lock.exclusive { "Exclusive" } else { "Shared" }))
            }
            p { (how) }
            small {
                @if let Some(time) = lock.time { "Refreshed " (format::ago(now, time)) " · " }
                code { (lock.id.get(..8).unwrap_or(&lock.id)) }
            }
        }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forecast_is_said_with_its_uncertainty() {
        let now = Timestamp::from_unix_ms(1_795_248_000_000);
        let growth = Growth { daily: 1e9, least: 0.0, most: 2e9 };
        let on = |latest: Option<i64>| Forecast::On {
            at: now.plus_s(20 * 86_400),
            earliest: now.plus_s(10 * 86_400),
            latest: latest.map(|days| now.plus_s(days * 86_400)),
            growth,
        };
        let words = forecast_words(Some(&(Limit::Said(1 << 40), on(None))), now);
        assert!(words.contains("About 2026-12-11 (in 20 days) it reaches its limit of 1.0 TiB"), "{words}");
        assert!(words.contains("not before 2026-12-01, perhaps never"), "{words}");
        assert!(forecast_words(Some(&(Limit::Said(1), on(Some(40)))), now).contains("at the latest 2026-12-31"));
        assert!(forecast_words(None, now).starts_with("No limit is known"));
        assert_eq!(growth_words(Some(growth)), "954 MiB a day (between 0 B and 1.9 GiB)");
    }
}
