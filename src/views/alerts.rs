//! Alerts: the open ones first, the gravest on top, each with the page where something can be done; then what was.

use maud::{Markup, html};

use crate::{
    domain::{
        alert::{Alert, AlertKind},
        user::Role,
    },
    paths::{self, route},
    views::{
        Nav, Page, Shell,
        components::{self, PostButton, Tone},
        format,
    },
};

/// Cleared alerts on one page.
pub const HISTORY_A_PAGE: u32 = 50;
/// Open alerts drawn on the dashboard at most.
const ON_DASHBOARD: usize = 5;

/// The gravest first, then the latest.
#[must_use]
pub fn by_gravity(mut alerts: Vec<Alert>) -> Vec<Alert> {
    alerts.sort_by_key(|alert| (alert.notice.kind, std::cmp::Reverse(alert.no)));
    alerts
}

/// A kind as a pill: one word for each, the same everywhere.
#[must_use]
pub fn kind_pill(kind: AlertKind) -> Markup {
    let word = match kind {
        AlertKind::Damaged => "Damaged",
        AlertKind::NotAppendOnly => "Not append-only",
        AlertKind::ForgetStopped => "Forget stopped",
        AlertKind::TamperFailed => "Not proven",
        AlertKind::NearlyFull => "Nearly full",
        AlertKind::CopyBehind => "Copy behind",
        AlertKind::StaleLock => "Stale lock",
        AlertKind::Unhealthy => "Unhealthy",
    };
    components::pill(if kind.is_grave() { Tone::Bad } else { Tone::Warn }, word)
}

/// Open alerts as lines under the dashboard's first sentence.
#[must_use]
pub fn lines(alerts: &[Alert]) -> Markup {
    let more = alerts.len().saturating_sub(ON_DASHBOARD);
    html! {
        @if !alerts.is_empty() {
            ul.card.list aria-label="Open alerts" {
                @for alert in alerts.iter().take(ON_DASHBOARD) {
                    li {
                        (kind_pill(alert.notice.kind))
                        .grow { b { (alert.notice.title) } }
                        @if !alert.notice.link.is_empty() {
                            a.btn href=(alert.notice.link) aria-label=(format!("Open: {}", alert.notice.title)) { "Open" }
                        }
                    }
                }
                @if more > 0 { li { a href=(route::ALERTS) { "and " (format::plural(more as u64, "more alert", "more alerts")) } } }
            }
        }
    }
}

/// `/alerts`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertsPage {
    /// All that are open, the gravest first.
    pub open: Vec<Alert>,
    /// Cleared ones, the last raised first.
    pub history: Vec<Alert>,
    /// There are more cleared ones.
    pub more: bool,
}

impl AlertsPage {
    fn open_card(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-label="Open alerts" { ul.list { @for alert in &self.open { li {
                .grow {
                    .row { (kind_pill(alert.notice.kind)) b { (alert.notice.title) } }
                    @if !alert.notice.detail.is_empty() { p { (alert.notice.detail) } }
                    small { "Since " (format::ago(shell.now, alert.raised_at)) }
                }
                @if !alert.notice.link.is_empty() {
                    a.btn.primary href=(alert.notice.link) aria-label=(format!("Open: {}", alert.notice.title)) { "Open" }
                }
                (PostButton {
                    action: paths::alert_clear(alert.no),
                    label: "Clear",
                    class: "",
                    fields: Vec::new(),
                    needs: Role::Operator,
                    aria: format!("Clear: {}", alert.notice.title),
                }.render(shell))
            } } } }
        }
    }

    fn history_card(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="history-title" {
                header { h2 #history-title { "Cleared" } }
                .scroll { table {
                    caption.vh { "Cleared alerts" }
                    thead { tr {
                        th scope="col" { "Alert" } th.hide-s scope="col" { "Kind" }
                        th.hide-s scope="col" { "Raised" } th scope="col" { "Cleared" }
                    } }
                    tbody { @for alert in &self.history { tr {
                        td { span.long { (alert.notice.title) } }
                        td.hide-s { (kind_pill(alert.notice.kind)) }
                        td.hide-s { (format::moment(alert.raised_at)) }
                        td {
                            @if let Some(at) = alert.cleared_at { (format::ago(shell.now, at)) }
                            small.line {
                                @match alert.cleared_by.as_deref() {
                                    None | Some("") => "its cause is gone",
                                    Some(name) => { "by " (name) }
                                }
                            }
                        }
                    } } }
                } }
                @if self.more && let Some(last) = self.history.last() {
                    p.pad { a href=(paths::with_query(route::ALERTS, &[("after", &last.no.to_string())])) { "Older ones" } }
                }
            }
        }
    }
}

impl Page for AlertsPage {
    fn title(&self) -> String {
        match self.open.len() {
            0 => "Alerts".to_owned(),
            n => format!("({n}) Alerts"),
        }
    }

    fn nav(&self) -> Nav {
        Nav::Alerts
    }

    fn body(&self, shell: &Shell) -> Markup {
        let first = match self.open.len() as u64 {
            0 => "Nothing is open".to_owned(),
            n => format!("{} open", format::plural(n, "alert is", "alerts are")),
        };
        html! {
            (components::headline(&first, &html! {}))
            @if !self.open.is_empty() { (self.open_card(shell)) }
            @else if self.history.is_empty() {
                (components::empty("No alerts yet",
                    "Damage, a lock without an owner, a forget that was stopped, a repository that fills up, a second copy that failed: what needs someone stands here until its cause is gone.", None))
            }
            @if !self.history.is_empty() { (self.history_card(shell)) }
        }
    }
}
