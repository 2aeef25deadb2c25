//! The steps of a runbook that runs: which are over, which is at hand, which are to come. `live.js` has this drawn anew with each step that begins.

use maud::{Markup, html};

use crate::{
    domain::{JobId, JobProgress, StepProgress, job::RunbookInput},
    paths,
    runbook::{self, Step},
};

/// The steps in order; those of the teardown once it has begun.
#[must_use]
pub(super) fn render(job: JobId, input: &RunbookInput, progress: Option<&JobProgress>) -> Markup {
    // A text that was looked at when the job was made is a runbook.
    let Ok(book) = runbook::parse(&input.text) else { return html! {} };
    let at = progress.and_then(|progress| progress.step.as_ref());
    let in_teardown = at.is_some_and(|at| at.teardown);
    html! {
        .card.pad.stack aria-label="Steps" role="group" {
            b {
                @match at {
                    None => "Starting",
                    Some(at) if at.teardown => "Cleaning up",
                    Some(at) => { "Step " (at.at) " of " (at.of) },
                }
            }
            (list(&book.steps, at.filter(|at| !at.teardown), in_teardown, |number| Some(paths::job_step(job, number))))
            @if in_teardown { (list(&book.teardown, at, false, |_| None)) }
        }
    }
}

fn list(steps: &[Step], at: Option<&StepProgress>, all_over: bool, link: impl Fn(usize) -> Option<String>) -> Markup {
    let at = at.map_or(0, |at| at.at as usize);
    html! {
        ol.under-way {
            @for (number, step) in (1..).zip(steps) {
                @let over = all_over || number < at;
                li data-state=[over.then_some("over")] aria-current=[(number == at).then_some("step")] {
                    @match link(number).filter(|_| over || number == at) {
                        Some(href) => a href=(href) { (step.label) },
                        None => span { (step.label) },
                    }
                    @if over { span.vh { "over" } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::samples;

    const BOOK: &str = "name = \"x\"\ntitle = \"X\"\nsteps = [{ type = \"ssh\", label = \"One <b>\", cmd = \"true\" }, { type = \"ssh\", label = \"Two\", cmd = \"true\" }, { type = \"ssh\", label = \"Three\", cmd = \"true\" }]\nteardown = [{ type = \"ssh\", label = \"Clean\", cmd = \"true\" }]\n";

    fn shown(step: Option<(u32, bool)>) -> String {
        let input = samples::runbooks::input(BOOK);
        let step = step.map(|(at, teardown)| StepProgress { at, of: 3, label: "x".into(), teardown });
        let progress = JobProgress { step, ..JobProgress::default() };
        render(JobId::from_parts(1, 1), &input, Some(&progress)).into_string()
    }

    #[test]
    fn what_is_over_what_runs_and_what_is_to_come_are_told_apart_in_signs_and_words() {
        let html = shown(Some((2, false)));
        assert!(html.contains("Step 2 of 3") && html.contains("One &lt;b&gt;"), "{html}");
        assert_eq!((html.matches("data-state=\"over\"").count(), html.matches("aria-current").count()), (1, 1));
        assert!(html.contains("?step=2\">Two") && !html.contains("step=3") && !html.contains("Clean"), "{html}");
        let html = shown(Some((1, true)));
        assert_eq!(html.matches("data-state=\"over\"").count(), 3, "{html}");
        assert!(html.contains("Cleaning up") && html.contains("Clean</span>"), "{html}");
        assert!(shown(None).contains("Starting"));
    }
}
