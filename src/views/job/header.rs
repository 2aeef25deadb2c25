//! The live header of a job: state, facts, progress, failure, summary, and what can be done now. `live.js` fetches it again
//! when the job starts and ends, and moves the numbers of its progress block in between.

use maud::{Markup, html};

use crate::{
    domain::{
        BackupSummary, JobKind, JobProgress, JobStatus, Line, RestoreResult, Timestamp, WaveId,
        aftermath::Aftermath,
        job::Job,
        queue::WaitsFor,
        site::{Card, DISCOVER},
        user::Role,
    },
    paths,
    views::{
        Shell, ansi,
        components::{self, Confirm, PostButton},
        format,
        job::{aftermath, results, under_way},
        restore::restore_report,
    },
};

/// Live fragment `/jobs/{id}?fragment=header`.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHeader {
    /// The job as stored.
    pub job: Job,
    /// restic's version on the host.
    pub restic_version: Option<String>,
    /// The latest progress, while it runs.
    pub progress: Option<JobProgress>,
    /// What a queued job waits for; `None` where it is about to be sent.
    pub waits_for: Option<WaitsFor>,
    /// Whether its host's agent is here.
    pub is_online: bool,
    /// It counts as lost, but its agent is here again and has it still.
    pub goes_on: bool,
    /// Of a job that did not end well: its last lines of standard error, ten or so.
    pub error_lines: Vec<Line<'static>>,
    /// Of a discovery that is over: the sites that it found.
    pub discovered: Vec<Card>,
    /// The wave that it is part of, and when that was asked for.
    pub wave: Option<(WaveId, Timestamp)>,
}

impl JobHeader {
    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let job = &self.job;
        // No frame of the stream tells that an obstacle is gone, or an agent back; start and end come by it.
        let unwatched =
            job.status == JobStatus::Queued || (job.status == JobStatus::Running && !self.is_online) || self.goes_on;
        // Nor does one tell that health came back.
        let waits = job.aftermath.as_ref().is_some_and(Aftermath::is_waiting);
        let unwatched = unwatched || waits;
        let again = unwatched.then(|| paths::job_header(job.id));
        html! {
            section #job-header .stack.wide data-status=(job.status) aria-label="Job"
                hx-get=[again.as_deref()] hx-trigger=[again.as_ref().map(|_| if waits { "every 1s" } else { "every 5s" })] hx-swap="outerHTML" data-calm {
                .row.between {
                    div {
                        small { a href=(paths::host(job.seat())) { (job.shown_host()) } " / jobs" }
                        .row {
                            h1 { (components::job_name(job)) (if job.kind == JobKind::Backup { " of " } else { " on " }) (job.shown_host()) }
                            span role="status" { (components::outcome_pill(job.status, job.aftermath.as_ref())) }
                        }
                    }
                    .row { (self.actions(shell)) }
                }
                (self.facts(shell))
                @match job.status {
                    JobStatus::Queued => p.notice.idle role="status" {
                        @match &self.waits_for {
                            Some(waits_for) => { "It waits for " (components::waits_for_words(waits_for)) "." },
                            None => "It is about to be sent to its host.",
                        }
                    },
                    JobStatus::Running => {
                        @if !self.is_online { (self.out_of_sight()) }
                        @match &job.input.runbook {
                            Some(book) => (under_way::render(job.id, book, self.progress.as_ref())),
                            None => (progress_block(self.progress.as_ref())),
                        }
                    },
                    _ => {
                        @if is_discovery(job) { (results::discover::cards(shell, job, &self.discovered)) }
                        (self.outcome())
                    },
                }
            }
        }
    }

    fn actions(&self, shell: &Shell) -> Markup {
        let job = &self.job;
        if job.status.is_final() && !self.goes_on {
            return html! { (self.again(shell)) a.btn.primary[!is_discovery(job)] href=(paths::host(job.seat())) { "Back to host" } };
        }
        if job.cancel_requested_at.is_some() {
            return html! { button.btn type="button" disabled { "Cancelling…" } };
        }
        let consequence = match job.kind {
            JobKind::Backup => {
                "restic stops and removes its lock. No snapshot is made; what was uploaded so far speeds up the next run."
            }
            JobKind::Restore => "restic stops. Files that were written so far stay where they are.",
            JobKind::Runbook(_) => {
                "All that its step has started is ended, there too where that is another host; then its teardown runs. What it did so far stays done."
            }
            _ => "The process is asked to stop, and is killed if it does not within its grace period.",
        };
        Confirm {
            id: "cancel".to_owned(),
            action: paths::job_cancel(job.id),
            label: "Cancel job",
            question: format!("Cancel this job on {}?", job.shown_host()),
            consequence: consequence.to_owned(),
            typed: None,
            needs: Role::Operator,
        }
        .render(shell)
    }

    fn again(&self, shell: &Shell) -> Markup {
        let job = &self.job;
        if job.input.runbook.is_some() {
            return self.runbook_again(shell);
        }
        PostButton {
            action: paths::job_rerun(job.id),
            label: "Run again",
            class: "",
            fields: Vec::new(),
            needs: Role::Operator,
            aria: String::new(),
        }
        .render(shell)
    }

    /// A runbook is run again through its form: with the same answers, on the file as it is now, and asking again for what can't be undone.
    fn runbook_again(&self, shell: &Shell) -> Markup {
        let job = &self.job;
        let again = match job.kind.as_str() {
            "steps" => paths::steps_again(job.seat(), job.id),
            name => paths::runbook_again(name, (job.seat(), job.site_id), job.id),
        };
        html! {
            @match shell.refusal(Role::Operator) {
                Some(reason) => button.btn type="button" disabled title=(reason) { "Run again" },
                None => a.btn href=(again) { "Run again…" },
            }
        }
    }

    /// What is known of a running job while its agent is away.
    fn out_of_sight(&self) -> Markup {
        html! {
            p.notice.warn role="status" {
                (self.job.host_name) " is not connected. As far as is known the job runs on there; its log goes on here when the agent is back."
                @if self.job.cancel_requested_at.is_some() { " It is told to stop then." }
            }
        }
    }

    fn facts(&self, shell: &Shell) -> Markup {
        let job = &self.job;
        html! {
            ul.inline-facts aria-label="Facts" {
                li { "by " b { (components::asked_by(job)) } }
                li { @if job.started_at.is_some() { "started " } @else { "asked for " } b { (format::moment(job.started_at.unwrap_or(job.created_at))) } }
                @if let Some(at) = job.scheduled_at { li { "scheduled for " b { (format::moment(at)) } } }
                @if let Some((wave, at)) = self.wave { li { "part of " a href=(paths::wave(wave)) { b { "the wave of " (format::moment(at)) } } } }
                @if let Some(way) = job.way() {
                    li {
                        "by way of " b { (components::way_words(way)) }
                        @if job.about.is_some() { ", from " (job.host_name) }
                    }
                }
                @if job.ran_alone { li { b { "ran while the server was away" } } }
                @if job.started_at.is_some() {
                    li { @if job.status.is_final() { "took " } @else { "running for " } b { (components::duration(shell, job)) } }
                }
                @if let (Some(id), Some(name)) = (job.repo_id, &job.repo_name) {
                    li { (whence(&job.kind)) a href=(paths::repo(id)) { b { (name) } } }
                }
                @if let Some(version) = self.restic_version.as_ref().filter(|_| job.input.runbook.is_none()) { li { "restic " b { (version) } } }
                @if !job.status.is_final() { li { "time limit " b { (format::span_s(job.timeout_s)) } } }
                @if let Some(earlier) = job.rerun_of { li { a href=(paths::job(earlier)) { "follows an earlier job" } } }
                @if let Some(later) = job.rerun_as { li { a href=(paths::job(later)) { "re-run as a later job" } } }
            }
        }
    }

    fn outcome(&self) -> Markup {
        html! {
            (aftermath::render(&self.job))
            @if self.job.status != JobStatus::Succeeded { (self.failure()) }
            @if self.goes_on {
                p.notice.warn role="status" {
                    (self.job.host_name) " is connected again and still has the job. Its log goes on here, and its true end will take the place of “lost”."
                    @if self.job.cancel_requested_at.is_some() { " It is told to stop." }
                }
            }
            (summary_card(&self.job))
        }
    }

    fn failure(&self) -> Markup {
        let job = &self.job;
        let tone = components::job_tone(job.status).0;
        let (head, fallback) = match job.status {
            JobStatus::Warning if job.input.runbook.is_some() => {
                ("Done, but not whole", "Some steps failed, and the runbook went on past them; they are marked below.")
            }
            JobStatus::Warning => (
                "Done, but not whole",
                "Some files could not be read; the log names them. The snapshot holds all others.",
            ),
            JobStatus::Cancelled => ("Cancelled", "Someone asked for it to stop."),
            JobStatus::Lost => (
                "Lost",
                "The agent went away with the job and never reported an end. How it ended is unknown: run it again once the host is back.",
            ),
            _ => ("Failed", "No cause was reported. The last lines of the log may tell."),
        };
        let (what, words) = job.error.as_deref().map_or((fallback, None), in_two);
        html! {
            .notice.(tone.class()) role="group" aria-label=(head) {
                p { b { (head) "." } " " (format::sentence(what)) }
                @if words.is_some() || !self.error_lines.is_empty() {
                    details {
                        summary {
                            "What the program said"
                            @if let Some(code) = job.exit_code { " (exit code " (code) ")" }
                        }
                        @if let Some(words) = words { p { code { (words) } } }
                        @if !self.error_lines.is_empty() { pre { @for line in &self.error_lines { (ansi::render(&line.text.0)) "\n" } } }
                    }
                } @else if let Some(code) = job.exit_code.filter(|code| *code != 0) {
                    p { small { "Exit code " (code) } }
                }
            }
        }
    }
}

/// An agent's account of a failure: what happened and what to do, and restic's own words behind it, which go behind a fold.
fn in_two(error: &str) -> (&str, Option<&str>) {
    error.split_once(" restic says: ").map_or((error, None), |(what, words)| (what, Some(words)))
}

/// Bar and numbers of a running job. `live.js` writes into the elements with `data-p`.
fn progress_block(progress: Option<&JobProgress>) -> Markup {
    let unknown = JobProgress::default();
    let p = progress.unwrap_or(&unknown);
    let known = p.bytes_total > 0 || p.percent > 0.0;
    let of = |done: String, total: u64, all: String| if total > 0 { format!("{done} of {all}") } else { done };
    let mut parts = Vec::new();
    if p.bytes_done > 0 || p.bytes_total > 0 {
        parts.push(of(format::bytes(p.bytes_done), p.bytes_total, format::bytes(p.bytes_total)));
    }
    if p.files_done > 0 || p.files_total > 0 {
        parts.push(format!("{} files", of(format::count(p.files_done), p.files_total, format::count(p.files_total))));
    }
    parts
        .extend(p.eta_s.map(|s| {
            format!("about {} left", format::duration_ms(i64::try_from(s).unwrap_or(i64::MAX / 1000) * 1000))
        }));
    html! {
        .card.pad.progress {
            .row.between {
                b.big data-p="percent" { @if known { (format!("{:.0} %", p.percent)) } @else { "Starting" } }
                span.muted data-p="numbers" { (parts.join(" · ")) }
            }
            progress data-p="bar" max="100" value=[known.then(|| format!("{:.1}", p.percent))] aria-label="Progress" {}
            small.cut data-p="current" { (p.current.as_deref().unwrap_or("")) }
        }
    }
}

/// Whether the job looked for sites, and could tell of them.
fn is_discovery(job: &Job) -> bool {
    job.summary.is_some() && matches!(&job.kind, JobKind::Runbook(name) if name == DISCOVER)
}

/// What stands before the repository's name.
fn whence(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Backup | JobKind::Copy => "to ",
        JobKind::Restore | JobKind::Dump => "from ",
        _ => "repository ",
    }
}

fn summary_card(job: &Job) -> Markup {
    fn read<T: serde::de::DeserializeOwned>(job: &Job) -> Option<T> {
        job.summary.as_ref().and_then(|summary| serde_json::from_value(summary.clone()).ok())
    }
    let shown = match job.kind {
        JobKind::Backup => read(job).map(|backup: BackupSummary| backup_summary(job, &backup)),
        JobKind::Restore => read(job).map(|restore: RestoreResult| restore_report(&restore)),
        _ => None,
    };
    match shown {
        Some(shown) => shown,
        None => results::render(job),
    }
}

fn backup_summary(job: &Job, s: &BackupSummary) -> Markup {
    let added = s.data_added_packed.unwrap_or(s.data_added);
    html! {
        dl.stats aria-label="Summary" {
            div {
                dt { "Snapshot" }
                dd.big { @match &s.snapshot_id { Some(id) => (results::snapshot(job.repo_id, id)), None => "none made" } }
                dd { (format::bytes(s.total_bytes_processed)) " in " (format::plural(s.total_files_processed, "file", "files")) }
            }
            div {
                dt { "Files" }
                dd.big { (format::count(s.files_new)) " new" }
                dd { (format::count(s.files_changed)) " changed · " (format::count(s.files_unmodified)) " unmodified" }
            }
            div {
                dt { "Added to the repository" }
                dd.big { (format::bytes(added)) }
                dd { @if s.data_added_packed.is_some() { (format::bytes(s.data_added)) " before compression" } @else { "before compression" } }
            }
            div {
                dt { "restic took" }
                dd.big { (format::duration_ms((s.total_duration * 1000.0) as i64)) }
                dd { @if s.errors > 0 { (format::plural(s.errors, "file", "files")) " could not be read" } @else { "every file was read" } }
            }
        }
        @if !s.missing_paths.is_empty() {
            .notice.warn { p { "These paths of the plan do not exist on the host: " @for path in &s.missing_paths { code { (path) } " " } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_beyond_all_time_does_not_break_the_page() {
        let wild =
            JobProgress { eta_s: Some(u64::MAX), bytes_total: u64::MAX, percent: f64::NAN, ..Default::default() };
        assert!(progress_block(Some(&wild)).into_string().contains("left"));
    }
}
