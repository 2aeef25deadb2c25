//! What can be run on several hosts from their list: on those that are ticked, on those of the tag that is shown, on all. Ticking and sending is the browser's own.

use maud::{Markup, html};

use super::{HostRow, rows_table};
use crate::{
    paths::{self, route},
    views::{Shell, format},
};

/// What is chosen besides what is ticked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bulk<'a> {
    /// The tag that is shown; empty for none.
    pub(super) tag: &'a str,
    /// Hosts that have a command for a restart, in all of the fleet.
    pub(super) restartable: u64,
    /// Hosts in all.
    pub(super) total: u64,
}

impl Bulk<'_> {
    /// The table with a box for each host, and what can be run above it.
    pub(super) fn render(&self, shell: &Shell, rows: &[HostRow]) -> Markup {
        let whom = if self.tag.is_empty() { "all".to_owned() } else { format!("all with the tag {}", self.tag) };
        html! {
            form method="get" action=(route::WAVE_NEW) data-boxes {
                .tools.bulk {
                    span.all hidden { input #all-hosts type="checkbox" data-all-boxes; label for="all-hosts" { "All on this page" } }
                    button.btn type="submit" { "Run on ticked…" }
                    @if self.restartable > 0 { button.btn type="submit" name="runbook" value="restart" { "Restart ticked…" } }
                    span.grow {}
                    a.btn href=(paths::wave_new(self.tag, "")) aria-label=(format!("Run on {whom}")) {
                        @if self.tag.is_empty() { "Run on all " (format::count(self.total)) "…" } @else { "Run on tag…" }
                    }
                    @if self.restartable > 0 {
                        a.btn href=(paths::wave_new(self.tag, "restart")) aria-label=(format!("Restart {whom}")) {
                            @if self.tag.is_empty() { "Restart all…" } @else { "Restart tag…" }
                        }
                    }
                }
                (rows_table(shell, rows, "Hosts", true))
            }
        }
    }
}
