//! The log of a job: lines rendered here so that they can be read at once and without scripts; `live.js` then takes the
//! element over, fetches what is missing and keeps only what is visible in the page.

use maud::{Markup, html};

use crate::{
    domain::{JobId, Line, Stream, Timestamp},
    paths,
    views::{ansi, format},
};

/// Lines of a job's log, for the page's first render.
#[derive(Debug, Clone, PartialEq)]
pub struct JobLog {
    /// Whose log.
    pub job_id: JobId,
    /// Consecutive lines, at most [`JobLog::LINES`]: the last ones, or those from `from` on.
    pub lines: Vec<Line<'static>>,
    /// `?from=`: where the reader wants to start; `None` for the end.
    pub from: Option<u32>,
    /// Lines in all (`Job::log_lines`).
    pub total: u32,
    /// Lines were dropped at the source.
    pub truncated: bool,
    /// When the retention of logs removed the lines.
    pub removed_at: Option<Timestamp>,
    /// Whether no more lines will come.
    pub is_final: bool,
}

impl JobLog {
    /// Lines that the handler puts into a page: as many as keep its HTML under 100 KiB or so.
    pub const LINES: u32 = 500;

    /// The log with its tools.
    #[must_use]
    pub fn render(&self) -> Markup {
        if let Some(at) = self.removed_at {
            return self.removed(at);
        }
        html! {
            section.card.logcard #log-card aria-label="Log" {
                (self.tools())
                p.logbar #log-bar role="status" hidden {}
                @if self.truncated { p.notice.warn.flat { "This log was cut at the host: it had more lines than may be kept. A line in it says how many are missing." } }
                (self.lines())
                button.btn.primary.follow #log-follow type="button" hidden { "⇢ Follow" }
            }
        }
    }

    /// Said instead of the log; without the elements that the script would fill.
    fn removed(&self, at: Timestamp) -> Markup {
        html! {
            section.card aria-label="Log" {
                p.pad.muted {
                    "The log was removed on " (format::moment(at)) " by the retention of logs ("
                    (format::plural(self.total.into(), "line", "lines")) "). What the job did and how it ended stays."
                }
            }
        }
    }

    fn tools(&self) -> Markup {
        let text = paths::job_log_text(self.job_id);
        html! {
            .tools {
                // Finding and wrapping need the script, which unhides them; raw and download do not.
                .find #log-find hidden {
                    input #log-query type="search" placeholder="Find in log" aria-label="Find in log" autocomplete="off" spellcheck="false";
                    output #log-count for="log-query" {}
                    button.btn #log-prev type="button" aria-label="Previous match" { "↑" }
                    button.btn #log-next type="button" aria-label="Next match" { "↓" }
                    button.btn #log-wrap type="button" aria-pressed="false" { "Wrap" }
                }
                span.grow {}
                span.muted #log-total { (format::plural(self.total.into(), "line", "lines")) }
                a.btn href=(text) { "Raw" }
                a.btn href=(text) download=(format!("job-{}.log", self.job_id)) { "Download" }
            }
        }
    }

    fn lines(&self) -> Markup {
        let first = self.lines.first().map_or(1, |line| line.seq);
        let last = self.lines.last().map_or(0, |line| line.seq);
        let before = first.saturating_sub(Self::LINES).max(1);
        html! {
            .log #log tabindex="0" role="log" aria-live="off" aria-label="Log lines"
                data-job=(self.job_id) data-total=(self.total) data-from=[self.from] data-final=(self.is_final)
                data-log-url=(paths::job_log(self.job_id)) data-stream-url=(paths::job_stream(self.job_id))
                data-header-url=(paths::job_header(self.job_id)) {
                @if first > 1 { p.more { a href=(paths::job_from(self.job_id, before)) { "Lines before " (first) } } }
                @for line in &self.lines { (line_row(line)) }
                @if self.lines.is_empty() { p.more { (if self.is_final { "No output." } else { "Waiting for the first line." }) } }
                @if last < self.total { p.more { a href=(paths::job_from(self.job_id, last + 1)) { "Lines after " (last) } } }
            }
        }
    }
}

fn line_row(line: &Line<'_>) -> Markup {
    let class = match line.stream {
        Stream::Stdout => None,
        Stream::Stderr => Some("e"),
        // The head of a runbook's step.
        Stream::System if line.text.0.starts_with("=== ") => Some("s h"),
        Stream::System => Some("s"),
    };
    html! {
        div #(format!("L{}", line.seq)) class=[class] {
            a href=(format!("#L{}", line.seq)) title=(line.at) { (line.seq) }
            span { (ansi::render(&line.text.0)) }
        }
    }
}
