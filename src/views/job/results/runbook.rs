//! What came of a runbook: its steps, what was read out of their output, the files they made.

use std::collections::HashMap;

use maud::{Markup, html};
use serde_json::Value;

use super::card;
use crate::{
    domain::{FailureClass, RunbookResult, StepReport, StepState, job::Job},
    paths,
    runbook::{self, ResultType},
    views::{
        components::{self, Tone},
        format,
        snapshots::filename::visible,
        status,
    },
};

/// Rows of a list that are shown.
const MOST_ROWS: usize = 200;

pub(super) fn render(job: &Job, result: &RunbookResult) -> Markup {
    html! {
        (readings(job, result))
        (steps("Steps", &result.steps, |number| Some(paths::job_step(job.id, number))))
        (steps("Teardown", &result.teardown, |_| None))
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
pub(super) fn of_check(job: &Job, result: &RunbookResult) -> Markup {
    let rest = RunbookResult { results: serde_json::Map::new(), ..result.clone() };
    html! {
        @if !result.results.is_empty() {
            section.card.status aria-label="What was found" {
                header { h2 { "What was found" } }
                .pad.stack { (status::figures(&result.results, None)) }
            }
        }
        (render(job, &rest))
    }
}

/// What was read out of the output. A runbook whose readings deserve a drawing of their own has it by its name (`result.runbook`).
fn readings(job: &Job, result: &RunbookResult) -> Markup {
    let kinds = kinds(job);
    let kind = |name: &str| kinds.get(name).copied().unwrap_or_default();
    let single = result.results.iter().filter(|(_, value)| !value.is_array());
    let single: Vec<(String, Markup)> =
        single.map(|(name, value)| (words(name), reading(name, value, kind(name)))).collect();
    let facts: Vec<(&str, Markup)> = single.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    html! {
        @if !facts.is_empty() { (card("Results", &facts)) }
        @for (name, value) in &result.results {
            @if let Value::Array(rows) = value { (list(name, rows, kind(name))) }
        }
    }
}

/// As what each result was read, by the file that the job ran.
fn kinds(job: &Job) -> HashMap<String, ResultType> {
    let book = job.input.runbook.as_ref().and_then(|input| runbook::parse(&input.text).ok());
    book.into_iter().flat_map(|book| book.results).map(|rule| (rule.name, rule.kind)).collect()
}

fn steps(title: &str, steps: &[StepReport], log: impl Fn(usize) -> Option<String>) -> Markup {
    html! {
        @if !steps.is_empty() {
            section.card aria-label=(title) {
                header { h2 { (title) } small { (so_many(steps)) } }
                table.cards {
                    caption.vh { (title) }
                    thead { tr { th scope="col" { "Step" } th scope="col" { "How" } th scope="col" { "State" } th.num scope="col" { "Took" } } }
                    tbody {
                        @for (number, step) in (1..).zip(steps) {
                            @let begun = !matches!(step.state, StepState::Pending | StepState::Skipped);
                            tr {
                                td.title {
                                    @match log(number).filter(|_| begun) {
                                        Some(href) => a href=(href) title="To its lines in the log" { (visible(&step.label)) },
                                        None => (visible(&step.label)),
                                    }
                                    @if let Some(error) = &step.error { small.wait { (format::sentence(error)) } }
                                }
                                td { (step.kind) }
                                td { (state(step)) @if let Some(words) = more(step) { " " small { (words) } } }
                                td.num { @if let Some(took) = step.duration_ms { (format::duration_ms(took.cast_signed())) } @else { "—" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn so_many(steps: &[StepReport]) -> String {
    let done = steps.iter().filter(|step| step.state == StepState::Done).count();
    format!("{done} of {} done", steps.len())
}

/// By what a step failed, in a few words.
fn more(step: &StepReport) -> Option<String> {
    let words = match step.class {
        Some(FailureClass::TimedOut) => "timed out",
        Some(FailureClass::Unreachable) => "unreachable",
        Some(FailureClass::Authentication) => "login refused",
        Some(FailureClass::HostKey) => "host key",
        Some(FailureClass::NoContainer) => "no such container",
        Some(FailureClass::Answer) => "unexpected answer",
        Some(FailureClass::Transfer) => "file not brought over",
        Some(FailureClass::DiskFull) => "disk full",
        Some(FailureClass::Guard) => "condition did not hold",
        Some(FailureClass::NotConfigured) => "not configured",
        Some(FailureClass::Exit | FailureClass::Cancelled | FailureClass::Other) | None => {
            let code = step.exit_code.filter(|code| *code != 0)?;
            return Some(if code < 0 {
                format!("signal {}", code.unsigned_abs())
            } else {
                format!("exit code {code}")
            });
        }
    };
    Some(words.to_owned())
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

/// What a name's end says of its unit.
fn unit(name: &str) -> Option<(&str, Unit)> {
    [("_percent", Unit::Percent), ("_s", Unit::Seconds)]
        .into_iter()
        .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)))
}

#[derive(Clone, Copy)]
enum Unit {
    Percent,
    Seconds,
}

/// A name of a file as people write it: `disk_usage_percent` is "Disk usage".
pub(in crate::views) fn words(name: &str) -> String {
    let name = unit(name).map_or(name, |(name, _)| name);
    format::sentence_case(&name.replace('_', " "))
}

/// A value as people read it, by its rule's type and what its name's end says of its unit.
pub(in crate::views) fn reading(name: &str, value: &Value, kind: ResultType) -> Markup {
    let whole = value.as_u64();
    match (kind, whole, unit(name)) {
        (ResultType::Bytes, Some(bytes), _) => html! { (format::bytes(bytes)) },
        (_, Some(percent), Some((_, Unit::Percent))) => html! { (percent) " %" },
        (_, Some(seconds), Some((_, Unit::Seconds))) => html! { (format::span_s(seconds)) },
        (ResultType::Int, Some(number), _) => html! { (format::count(number)) },
        _ => one(value),
    }
}

fn list(name: &str, rows: &[Value], kind: ResultType) -> Markup {
    let title = words(name);
    let columns: Vec<&String> = match rows.first() {
        Some(Value::Object(first)) => first.keys().collect(),
        _ => Vec::new(),
    };
    html! {
        section.card aria-label=(title) {
            header { h2 { (title) } small { (rows.len()) } }
            @if columns.is_empty() {
                ul.paths.pad { @for row in rows.iter().take(MOST_ROWS) { li { (reading(name, row, kind)) } } }
            } @else {
                .scroll { table.cards {
                    caption.vh { (title) }
                    thead { tr { @for column in &columns { th scope="col" { (words(column)) } } } }
                    tbody {
                        @for row in rows.iter().take(MOST_ROWS) {
                            tr { @for column in &columns { td { (row.get(column.as_str()).map_or_else(|| html! {}, |value| reading(column, value, ResultType::String))) } } }
                        }
                    }
                } }
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
        Value::Number(number) => html! { (number) },
        other => html! { code { (other.to_string()) } },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{JobKind, JobStatus},
        views::samples,
    };

    #[test]
    fn results_have_their_units_and_what_the_endpoint_sends_is_inert() {
        let text = "name = \"x\"\ntitle = \"X\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"One\"\ncmd = \"true\"\n[[results]]\nname = \"used\"\nmarker = \"USED\"\ntype = \"bytes\"\n";
        let mut job = samples::job(1, "web-1", JobStatus::Succeeded);
        job.kind = JobKind::Runbook("x".into());
        let input = samples::runbooks::input(text);
        job.input.runbook = Some(Box::new(input));
        let result = serde_json::json!({
            "steps": [{"label": "<img src=x>", "type": "ssh", "state": "failed", "exit_code": -9, "error": "</small><b>"},
                      {"label": "Two", "type": "ssh", "state": "failed", "class": "timed_out", "exit_code": 124}],
            "results": {"used": 2048, "disk_usage_percent": 81, "uptime_s": 7200, "odd": "<i>\u{202e}", "rows": [{"<a>": "<u>"}]},
            "notes": ["<script>"],
        });
        let html = render(&job, &serde_json::from_value(result).unwrap()).into_string();
        for words in [
            "2.0 KiB",
            "Disk usage",
            "81 %",
            "Uptime",
            "2 h",
            "signal 9",
            "timed out",
            "&lt;img src=x&gt;",
            "&lt;script&gt;",
            "?step=1",
        ] {
            assert!(html.contains(words), "{words} is not in {html}");
        }
        for words in ["<img", "<b>&lt;", "<i>\u{202e}", "<u>", "<a>", "<script>"] {
            assert!(!html.contains(words), "{words} is in {html}");
        }
    }
}
