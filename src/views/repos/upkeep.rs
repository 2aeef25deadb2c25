//! The card of a repository's upkeep: what is done for it by schedule, when next, how it went last; and one button that sets up what is missing.

use maud::{Markup, html};

use crate::{
    domain::{
        JobStatus, RepoId,
        upkeep::{CHECK_DAYS, Duty, Line, Overview},
        user::Role,
    },
    paths,
    views::{
        FormState, Shell,
        components::{self, HostRef, PostButton, Tone},
        form::{Field, Form},
        format,
    },
};

/// The card. POST `/repos/{id}/upkeep` with `check_days`, `host_id`, `csrf`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpkeepCard {
    /// What is done.
    pub overview: Overview,
    /// Hosts whose agent may do what can be done anywhere.
    pub hosts: Vec<HostRef>,
}

fn name(line: &Line) -> String {
    let words = match line.duty {
        Duty::Forget => "Apply the keep rules",
        Duty::Prune => "Give back space",
        Duty::Check => "Check it",
        Duty::Tamper => "Try whether hosts can delete",
        Duty::Stats => "Measure it",
        Duty::Locks => "Look at its locks",
    };
    match &line.plan {
        Some((_, plan)) => format!("{words} of “{plan}”"),
        None => words.to_owned(),
    }
}

impl UpkeepCard {
    fn line(&self, shell: &Shell, line: &Line) -> Markup {
        let schedule = line.schedule.as_ref();
        html! {
            li {
                .grow {
                    b { (name(line)) }
                    @match schedule {
                        Some(own) => p.muted {
                            (format::sentence_case(&own.standing.schedule.in_words()))
                            @if !own.standing.schedule.enabled { ", paused" }
                            @if let Some(next) = line.next { "; next " (format::ago(shell.now, next)) }
                            @if line.duty == Duty::Check { (self.rotation()) }
                        },
                        None => p.muted { "Not scheduled" @if let Some(why) = line.obstacle { ": " (why) } },
                    }
                    @if let (Some(why), true) = (line.obstacle, schedule.is_some()) { p.error { "It fails as things are: " (why) } }
                }
                @match &line.last {
                    Some(job) => {
                        a href=(paths::job(job.id)) { (components::job_pill(job.status)) }
                        small { (format::ago(shell.now, job.finished_at.unwrap_or(job.created_at))) }
                    },
                    None if schedule.is_some() => (components::pill(Tone::Idle, "Never ran")),
                    None => {},
                }
                @if let Some(own) = schedule {
                    @let running = line.last.as_ref().is_some_and(|job| matches!(job.status, JobStatus::Queued | JobStatus::Running));
                    @if !running {
                        (PostButton { action: paths::schedule_run(own.id), label: "Run now", class: "", fields: vec![], needs: Role::Operator, aria: format!("Run now: {}", name(line)) }.render(shell))
                    }
                }
            }
        }
    }

    fn rotation(&self) -> Markup {
        html! {
            @match (self.overview.check_days, self.overview.next_part) {
                (Some(days), Some(part)) => { "; all data is read within " (days) " days, next part " (part.n) " of " (part.t) },
                (None, _) => "; the structure only",
                (Some(days), None) => { "; all data is read within " (days) " days" },
            }
        }
    }

    /// The card of a repository.
    #[must_use]
    pub fn render(&self, shell: &Shell, repo: RepoId) -> Markup {
        let missing = self.overview.lines.iter().filter(|line| line.is_missing()).count();
        html! {
            section.card aria-labelledby="upkeep-title" {
                header { h2 #upkeep-title { "Upkeep" } a href=(paths::repo_retention(repo)) { "Retention" } }
                ul.list { @for line in &self.overview.lines { (self.line(shell, line)) } }
                @if let Some((id, name)) = &self.overview.maintenance {
                    p.pad.muted { "Keep rules and space are seen to on " a href=(paths::host(*id)) { (name) } "." }
                }
                @if shell.may(Role::Admin) { (self.form(shell, repo, missing)) }
            }
        }
    }

    fn form(&self, shell: &Shell, repo: RepoId, missing: usize) -> Markup {
        let days = self.overview.check_days.unwrap_or(CHECK_DAYS).to_string();
        let state = FormState::default();
        let form = Form::new("upkeep", &state);
        let mut hosts = Vec::new();
        if self.overview.maintenance.is_some() {
            hosts.push((String::new(), "where it is maintained".to_owned()));
        }
        hosts.extend(self.hosts.iter().map(|host| (host.id.to_string(), host.name.clone())));
        html! {
            form.pad.stack method="post" action=(paths::repo_upkeep(repo)) {
                (shell.csrf_field())
                .fields {
                    (form.field(&Field::number("check_days", "Read all data within (days)").default(&days).unmarked().hint("0: checks look at the structure only.")))
                    @if missing > 0 { (form.select(&Field::text("host_id", "Run by the agent of"), &hosts)) }
                }
                .row { button.btn.primary[missing > 0] type="submit" {
                    @if missing > 0 { "Set up " (format::plural(missing as u64, "missing part", "missing parts")) } @else { "Save" }
                } }
            }
        }
    }
}
