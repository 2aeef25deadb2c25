//! What would run: every command as it would be, where it would run, and what stands before and behind it. Secrets are masked where it is made.

use maud::{Markup, html};

use super::by;
use crate::{
    domain::Way,
    views::{format, snapshots::filename::visible},
};

/// A step, a guard or a part of the teardown as it would run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PreviewStep {
    /// Its label; of a guard what is said where it does not hold.
    pub label: String,
    /// `local`, `ssh`, `scp` or `api`.
    pub kind: String,
    /// On which machine, in words.
    pub place: String,
    /// The command, transfer or request.
    pub command: String,
    /// More environment.
    pub env: Vec<(String, String)>,
    /// What it reads, or sends.
    pub stdin: Option<String>,
    /// Its condition.
    pub when: Option<String>,
    /// The condition does not hold with these answers.
    pub left_out: bool,
    /// Seconds after which it is stopped.
    pub timeout_s: u64,
    /// What follows runs also where it fails.
    pub continue_on_error: bool,
    /// It removes or replaces something.
    pub destructive: bool,
    /// Why it would fail as things are.
    pub problem: Option<String>,
}

/// What a runbook would do with the answers of a form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunPreview {
    /// The way that it would take; none where there is none.
    pub way: Option<Way>,
    /// Whose agent would run it, where that is another host than the one that it is about.
    pub runner: Option<String>,
    /// Ways that it would not take though its file lists them, and why.
    pub others: Vec<(Way, String)>,
    /// What an order would be refused for as things are.
    pub problems: Vec<String>,
    /// What must hold before the first step.
    pub guards: Vec<PreviewStep>,
    /// The steps in order.
    pub steps: Vec<PreviewStep>,
    /// What runs on every way out.
    pub teardown: Vec<PreviewStep>,
}

impl RunPreview {
    /// The card.
    #[must_use]
    pub fn render(&self, host: &str) -> Markup {
        html! {
            section.card #preview aria-labelledby="preview-title" {
                header {
                    h2 #preview-title { "What would run" }
                    small {
                        "On " (host) @if let Some(way) = self.way { ", " (by(way)) }
                        @if let Some(runner) = &self.runner { ", run from " (runner) }
                        ". Nothing has run yet."
                    }
                }
                .pad.stack {
                    @for problem in &self.problems { p.notice.bad { "As things are it would be refused: " (problem) "." } }
                    @for (way, why) in &self.others { p.muted { "Not " (by(*way)) ": " (why) "." } }
                    (part("First, what must hold; else nothing is done, and this is said", &self.guards))
                    (part("Steps", &self.steps))
                    (part("Then, however it ends", &self.teardown))
                }
            }
        }
    }
}

fn part(title: &str, steps: &[PreviewStep]) -> Markup {
    html! {
        @if !steps.is_empty() {
            h3 { (title) }
            ol.commands { @for step in steps { li { (one(step)) } } }
        }
    }
}

fn one(step: &PreviewStep) -> Markup {
    html! {
        .row {
            b { (visible(&step.label)) }
            span.muted { (step.kind) " · " (step.place) " · at most " (format::span_s(step.timeout_s)) }
            @if step.left_out { span.tag { "left out with these answers" } }
            @if step.destructive { span.tag.bad-text { "removes or replaces" } }
            @if step.continue_on_error { span.tag { "goes on where it fails" } }
        }
        @if let Some(when) = &step.when { p.muted { "Only if " code { (when) } } }
        @if let Some(problem) = &step.problem { p.error { (format::sentence(problem)) } }
        pre tabindex="0" aria-label=(format!("Command of {}", step.label)) { (step.command) }
        @if !step.env.is_empty() {
            p.muted { "With " @for (name, value) in &step.env { code { (name) "=" (value) } " " } }
        }
        @if let Some(stdin) = &step.stdin {
            p.muted { "It reads" }
            pre tabindex="0" aria-label=(format!("Input of {}", step.label)) { (stdin) }
        }
    }
}
