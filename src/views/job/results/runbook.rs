//! What came of a runbook: its steps, what was read out of their output, the files they made.

use maud::{Markup, html};
use serde_json::Value;

use super::card;
use crate::{
    domain::{RunbookResult, StepReport, StepState},
    views::{
        components::{self, Tone},
        format,
        snapshots::filename::visible,
        status,
    },
};

/// Rows of a list that are shown.
const MOST_ROWS: usize = 200;

pub(super) fn render(result: &RunbookResult) -> Markup {
    html! {
        (steps("Steps", &result.steps))
        (steps("Teardown", &result.teardown))
        @if !result.results.is_empty() {
            @let plain: Vec<(String, Markup)> = result.results.iter().filter(|(_, value)| !value.is_array())
                .map(|(name, value)| (words(name), one(value))).collect();
            @let facts: Vec<(&str, Markup)> = plain.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            @if !facts.is_empty() { (card("Results", &facts)) }
            @for (name, value) in &result.results {
                @if let Value::Array(rows) = value { (list(name, rows)) }
            }
        }
        @if !result.artefacts.is_empty() {
            section.card aria-label="Files" {
                header { h2 { "Files that it made" } }
                ul.paths.pad {
                    @for (name, file) in &result.artefacts {
                        li { b { (name) } " " code { (visible(&file.path)) } " " (format::bytes(file.size)) br; small { "SHA-256 " code { (file.sha256) } } }
                    }
                }
            }
        }
        @for note in &result.notes { p.notice.warn { (format::sentence(note)) } }
    }
}

/// The same of a check of status: what it found in its own form before the steps.
pub(super) fn of_check(result: &RunbookResult) -> Markup {
    let rest = RunbookResult { results: serde_json::Map::new(), ..result.clone() };
    html! {
        @if !result.results.is_empty() {
            section.card.status aria-label="What was found" {
                header { h2 { "What was found" } }
                .pad.stack { (status::figures(&result.results, None)) }
            }
        }
        (render(&rest))
    }
}

fn steps(title: &str, steps: &[StepReport]) -> Markup {
    html! {
        @if !steps.is_empty() {
            section.card aria-label=(title) {
                header { h2 { (title) } }
                table.cards {
                    thead { tr { th { "Step" } th { "How" } th { "State" } th.num { "Took" } } }
                    tbody {
                        @for step in steps {
                            tr {
                                td.title { (step.label) @if let Some(error) = &step.error { br; small { (format::sentence(error)) } } }
                                td { (step.kind) }
                                td { (state(step)) }
                                td.num { @if let Some(took) = step.duration_ms { (format::duration_ms(took.cast_signed())) } @else { "—" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn state(step: &StepReport) -> Markup {
    let (tone, word) = match step.state {
        StepState::Done => (Tone::Ok, "Done"),
        StepState::Failed => (Tone::Bad, "Failed"),
        StepState::Broken => (Tone::Bad, "Cut off"),
        StepState::Ignored => (Tone::Warn, "Failed, went on"),
        StepState::Skipped => (Tone::Idle, "Left out"),
        StepState::Pending => (Tone::Idle, "Not begun"),
        StepState::Running => (Tone::Run, "Running"),
    };
    components::pill(tone, word)
}

/// A name of a file as people write it: `disk_usage_percent` is "Disk usage percent".
fn words(name: &str) -> String {
    format::sentence_case(&name.replace('_', " "))
}

fn list(name: &str, rows: &[Value]) -> Markup {
    let name = words(name);
    let columns: Vec<&String> = match rows.first() {
        Some(Value::Object(first)) => first.keys().collect(),
        _ => Vec::new(),
    };
    html! {
        section.card aria-label=(name) {
            header { h2 { (name) } small { (rows.len()) } }
            @if columns.is_empty() {
                ul.paths.pad { @for row in rows.iter().take(MOST_ROWS) { li { (one(row)) } } }
            } @else {
                table.cards {
                    thead { tr { @for column in &columns { th { (words(column)) } } } }
                    tbody {
                        @for row in rows.iter().take(MOST_ROWS) {
                            tr { @for column in &columns { td { (row.get(column.as_str()).map_or_else(|| html! {}, one)) } } }
                        }
                    }
                }
            }
            @if rows.len() > MOST_ROWS { p.pad { small { "The first " (MOST_ROWS) "; the log has all." } } }
        }
    }
}

fn one(value: &Value) -> Markup {
    match value {
        Value::String(text) => html! { (visible(text)) },
        Value::Bool(truth) => html! { @if *truth { "yes" } @else { "no" } },
        Value::Null => html! { "—" },
        other => html! { code { (other.to_string()) } },
    }
}
