//! Whether a repository can be reached, opened, read and written to: the last test, step by step, and the button for another.

use maud::{Markup, html};

use crate::{
    domain::{RepoId, TestResult, job::Job, user::Role},
    paths,
    views::{
        Shell,
        components::{self, HostRef, Tone},
        format,
    },
};

/// The card on a repository's page. POST `/repos/{id}/test` with `host_id`, `csrf`; `/repos/{id}/test` gives the card alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// Of which repository.
    pub repo: RepoId,
    /// The last test.
    pub last: Option<Job>,
    /// What it found, once it is over.
    pub result: Option<TestResult>,
    /// Where a test can run: the control plane's own agent first, where there is one.
    pub hosts: Vec<HostRef>,
}

impl Connection {
    fn is_under_way(&self) -> bool {
        self.last.as_ref().is_some_and(|job| !job.status.is_final())
    }

    fn steps(&self, job: &Job, result: &TestResult) -> Markup {
        let well = result.steps.iter().all(|step| step.ok) && !result.steps.is_empty();
        html! {
            p.pad {
                (components::pill(if well { Tone::Ok } else { Tone::Bad }, if well { "Works" } else { "Does not work" })) " from "
                b { (job.host_name) }
                @if !result.restic.is_empty() { " with restic " (result.restic) }
                @if let Some(at) = job.finished_at { ", tested " (format::moment(at)) }
                ". " a href=(paths::job(job.id)) { "Log" }
            }
            ol.list { @for step in &result.steps {
                li { .grow {
                    (components::pill(if step.ok { Tone::Ok } else { Tone::Bad }, if step.ok { "Done" } else { "Failed" })) " " b { (step.name) }
                    @if !step.detail.is_empty() { p.muted { (step.detail) } }
                } }
            } }
        }
    }

    /// The card.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let again = self.is_under_way().then(|| paths::repo_test(self.repo));
        let refusal = shell.refusal(Role::Operator);
        html! {
            section #connection .card aria-labelledby="connection-title" hx-get=[again.as_deref()] hx-trigger=[again.as_ref().map(|_| "every 2s")] hx-swap="outerHTML" {
                header { h2 #connection-title { "Connection" } }
                @match (&self.last, &self.result) {
                    (None, _) => p.pad.muted { "Not tested yet: a test finds the server, logs in, opens the repository, and reads and writes a lock. It changes nothing." },
                    (Some(job), _) if self.is_under_way() => p.pad role="status" {
                        (components::pill(Tone::Run, "Testing")) " from " b { (job.host_name) } ". " a href=(paths::job(job.id)) { "Watch" }
                    },
                    (Some(job), Some(result)) => {
                        (self.steps(job, result))
                        @if let Some(error) = job.error.as_ref().filter(|_| result.steps.iter().all(|step| step.ok)) { p.pad { (error) } }
                    },
                    (Some(job), None) => p.pad {
                        (components::pill(Tone::Warn, "Not tested")) " The last test on " b { (job.host_name) } " did not come to an answer. "
                        (job.error.as_deref().unwrap_or_default()) " " a href=(paths::job(job.id)) { "Log" }
                    },
                }
                form.pad.row method="post" action=(paths::repo_test(self.repo)) {
                    (shell.csrf_field())
                    label for="test-host" { "From" }
                    select #test-host name="host_id" required { @for host in &self.hosts { option value=(host.id) { (host.name) } } }
                    button.btn type="submit" disabled[refusal.is_some() || self.hosts.is_empty()] { "Test the connection" }
                    @if let Some(reason) = &refusal { small { (reason) } }
                    @else if self.hosts.is_empty() { small { "No host could run it: add one." } }
                }
            }
        }
    }
}
