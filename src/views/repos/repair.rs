//! The guided repair: what was found and what it means; then each step with what it does, what it may cost, its buttons, and a tick when it is done.

use maud::{Markup, html};

use crate::{
    domain::{
        CheckResult,
        health::repair::{Step, StepState, next},
        job::Job,
        repo::Repo,
    },
    paths,
    views::{
        Nav, Page, Shell,
        components::{self, Confirm, PostButton, Tone},
        format,
    },
};

/// `/repos/{id}/repair`. POST with `step`, `dry_run`, and for what can cost data `confirm` (the repository's name).
#[derive(Debug, Clone, PartialEq)]
pub struct RepairPage {
    /// The repository.
    pub repo: Repo,
    /// The check that found damage, and what; `None` where none is known.
    pub damage: Option<(Job, CheckResult)>,
    /// The steps.
    pub plan: Vec<StepState>,
}

/// Its name, what it does, what it may cost.
fn words(step: Step) -> (&'static str, &'static str, &'static str) {
    match step {
        Step::Index => (
            "Repair the index",
            "restic makes its list of what lies where anew, from what is really there. Nothing else can be trusted before.",
            "Loses nothing.",
        ),
        Step::Packs => (
            "Rescue what can be read of damaged packs",
            "A pack is a file of the repository that holds pieces of many files. What can still be read of the damaged ones is written anew; then they are removed.",
            "Loses the pieces that can't be read; they are lost already.",
        ),
        Step::BackUp => (
            "Back up the hosts again",
            "Hosts that still have the files upload the missing pieces again. That heals old snapshots too, as far as those files did not change.",
            "Loses nothing. What can't be healed shows in the next step.",
        ),
        Step::Snapshots => (
            "Take what is lost out of the snapshots",
            "Snapshots that refer to lost pieces are written anew without the files concerned, and the broken ones are removed. The dry run says which files of which snapshots.",
            "Those files are gone from those snapshots for good. All other files stay and can be restored again.",
        ),
        Step::Prune => (
            "Clean up",
            "Removes the pieces that no snapshot needs any more. Needs the maintenance credentials.",
            "Loses nothing that a snapshot holds.",
        ),
        Step::Check => (
            "Check all data",
            "Reads everything and compares it with its checksums. It may take hours and as much traffic as the repository is large. When it finds nothing, the damage is settled and the alert goes.",
            "Loses nothing.",
        ),
    }
}

impl RepairPage {
    fn findings(&self, job: &Job, damage: &CheckResult) -> Markup {
        html! {
            section.card.pad.stack aria-labelledby="found-title" {
                h2 #found-title { "What was found" }
                p {
                    "The check on " a href=(paths::host(job.host_id)) { (job.host_name) } " found "
                    (format::plural(damage.errors, "error", "errors")) " (" a href=(paths::job(job.id)) { "its log" } ")"
                    @if !damage.broken_packs.is_empty() { ", " (format::plural(damage.broken_packs.len() as u64, "damaged pack", "damaged packs")) " among them" }
                    ". Some of what is stored is missing or is not what was written. New backups are as good as ever, but where they rely on a lost piece they can't be restored whole either."
                }
                p {
                    "It is most often the storage: a disk that fails, a full file system, a bucket that someone cleaned up, a machine with bad memory. Look for the cause first, or it comes back. "
                    "If you can, copy the repository's files elsewhere before you begin."
                }
                @if !damage.findings.is_empty() {
                    details { summary { "In restic's words" } pre.log { @for line in &damage.findings { (line) "\n" } } }
                }
            }
        }
    }

    fn step(&self, shell: &Shell, number: usize, state: &StepState, is_next: bool) -> Markup {
        let (name, what, cost) = words(state.step);
        html! { li {
            div {
                .row {
                    b { (name) }
                    @if state.done { (components::pill(Tone::Ok, "Done")) }
                    @else if state.needless.is_some() { (components::pill(Tone::Idle, "Not needed")) }
                    @else if is_next { (components::pill(Tone::Run, "Next")) }
                }
                p { (what) " " b { (cost) } }
                @if let Some(why) = state.needless { p.muted { (why) } }
                @if let Some(last) = state.last {
                    small {
                        @if last.dry_run { "Dry run: " }
                        (components::job_pill(last.status)) " " a href=(paths::job(last.job)) { (format::ago(shell.now, last.at)) }
                    }
                }
            }
            .row.act { (self.buttons(shell, number, state, is_next)) }
        } }
    }

    fn buttons(&self, shell: &Shell, number: usize, state: &StepState, is_next: bool) -> Markup {
        let step = state.step;
        let (name, _, cost) = words(step);
        let action = paths::repo_repair_step(self.repo.id, step.as_str());
        html! {
            @if state.needless.is_some() {}
            @else if step == Step::BackUp { a.btn.primary[is_next] href=(paths::route::HOSTS) { "Open the hosts" } }
            @else {
                @if step.has_dry_run() {
                    (PostButton { action: action.clone(), label: "Dry run", class: if is_next { "primary" } else { "" }, fields: vec![("dry_run", "1".to_owned())], needs: step.least_role(true), aria: format!("Dry run: {name}") }.render(shell))
                }
                @if step.may_lose() {
                    (Confirm {
                        id: format!("step-{number}"),
                        action,
                        label: "Run it",
                        question: format!("{name} in {}?", self.repo.name),
                        consequence: cost.to_owned(),
                        typed: Some(&self.repo.name),
                        needs: step.least_role(false),
                    }.render(shell))
                } @else {
                    (PostButton { action, label: "Run it", class: if is_next { "primary" } else { "" }, fields: Vec::new(), needs: step.least_role(false), aria: format!("Run: {name}") }.render(shell))
                }
            }
        }
    }
}

impl Page for RepairPage {
    fn title(&self) -> String {
        format!("Repair of {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        let next = next(&self.plan);
        html! {
            div {
                small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } }
                h1 { @if self.damage.is_some() { "Repair " (self.repo.name) " in " (self.plan.len()) " steps" } @else { "Nothing is broken in " (self.repo.name) } }
            }
            @if let Some((job, damage)) = &self.damage {
                (self.findings(job, damage))
                ol.card.steps aria-label="Steps" {
                    @for (number, state) in self.plan.iter().enumerate() { (self.step(shell, number, state, next == Some(state.step))) }
                }
            } @else {
                (components::empty("No damage is known",
                    "When a check finds damage, the way out stands here, step by step. A check that looks at the structure takes minutes; one that reads all data takes longer and sees more.",
                    Some((&paths::repo(self.repo.id), "Back to the repository"))))
            }
        }
    }
}
