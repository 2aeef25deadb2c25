//! The fourth step: what the dry run says, a safety snapshot where files would be written over, and the button that restores in earnest.

use maud::{Markup, html};

use crate::{
    domain::{JobStatus, RestoreResult, RestoreSpec, job::Job, queue::WaitsFor, snapshot::Snapshot, user::Role},
    paths,
    views::{
        FormState, Nav, Page, Shell,
        components::{self, PostButton, Tone, job_pill},
        form::{Field, Form},
        format,
        restore::{overwrite_words, picked_words, restore_report, source_words, steps, too_little_room},
        snapshots::filename::visible,
    },
};

/// Live fragment `/restore/review/{id}?fragment=1`.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// The dry run.
    pub dry: Job,
    /// Its details.
    pub spec: RestoreSpec,
    /// The snapshot, where the index has it.
    pub snapshot: Option<Snapshot>,
    /// What a queued job of the two waits for.
    pub waits_for: Option<WaitsFor>,
    /// What would be saved first; `None` where nothing is written over, or it would be all of the machine.
    pub saved: Option<Vec<String>>,
    /// The safety snapshot's job.
    pub safety: Option<Job>,
    /// The restore, once it was ordered.
    pub restore: Option<Job>,
    /// What was typed.
    pub form: FormState,
}

/// `/restore/review/{id}`.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviewPage {
    /// Its content.
    pub review: Review,
}

impl Page for ReviewPage {
    fn title(&self) -> String {
        format!("Restore to {}", self.review.dry.host_name)
    }

    fn nav(&self) -> Nav {
        Nav::Restore
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            h1 { "Restore to " (self.review.dry.host_name) }
            (steps(3))
            (self.review.words())
            (self.review.render(shell))
        }
    }
}

fn went_well(job: &Job) -> bool {
    matches!(job.status, JobStatus::Succeeded | JobStatus::Warning)
}

impl Review {
    fn in_place(&self) -> bool {
        self.spec.target == "/"
    }

    /// What is about to happen, in words.
    fn words(&self) -> Markup {
        let host = &self.dry.host_name;
        html! {
            section.card.pad.stack aria-label="What and where" {
                p {
                    @match &self.snapshot {
                        Some(snapshot) => (source_words(snapshot)),
                        None => { "Snapshot " code { (self.spec.snapshot.get(..8).unwrap_or(&self.spec.snapshot)) } " in " (self.dry.repo_name.as_deref().unwrap_or("a repository")) },
                    }
                    ":"
                }
                (picked_words(Some(&self.spec.paths)))
                p {
                    "goes to " a href=(paths::host(self.dry.host_id)) { b { (host) } } ", "
                    @if self.in_place() { b { "to its original place" } } @else { "into the folder " code { (visible(&self.spec.target)) } }
                    ". A file that is there already " b { (overwrite_words(self.spec.overwrite)) } "."
                }
            }
        }
    }

    /// The fragment.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let open = |job: &Option<Job>| job.as_ref().is_some_and(|job| !job.status.is_final());
        let again = (!self.dry.status.is_final() || open(&self.safety) || open(&self.restore))
            .then(|| paths::with_query(&paths::restore_review(self.dry.id), &[("fragment", "1")]));
        html! {
            section #review.stack.wide aria-label="Dry run" hx-get=[again.as_deref()] hx-trigger=[again.as_ref().map(|_| "every 2s")] hx-swap="outerHTML" data-calm {
                @match self.dry.status {
                    JobStatus::Queued | JobStatus::Running => (self.pending(&self.dry, "The dry run")),
                    JobStatus::Succeeded | JobStatus::Warning => { (self.outcome()) (self.what_next(shell)) },
                    _ => {
                        (self.failed(&self.dry, "The dry run"))
                        (self.anew())
                    },
                }
            }
        }
    }

    fn pending(&self, job: &Job, what: &str) -> Markup {
        html! {
            .card.pad.row role="status" {
                (job_pill(job.status))
                p.grow {
                    (what) " on " (job.host_name) " "
                    @match &self.waits_for {
                        Some(waits_for) if job.status == JobStatus::Queued => { "waits for " (components::waits_for_words(waits_for)) "." },
                        _ if job.status == JobStatus::Queued => "is about to begin.",
                        _ => "is under way.",
                    }
                    " This page follows it."
                }
                a.btn href=(paths::job(job.id)) { "Watch" }
            }
        }
    }

    fn failed(&self, job: &Job, what: &str) -> Markup {
        html! {
            .notice.bad role="alert" {
                p { b { (what) " " (components::job_tone(job.status).1.to_lowercase()) ". " }
                    (format::sentence(job.error.as_deref().unwrap_or("No cause was reported; the job's log may tell"))) " " a href=(paths::job(job.id)) { "Look at the job" } }
            }
        }
    }

    fn anew(&self) -> Markup {
        html! {
            @if let Some(snapshot) = &self.snapshot { p { a.btn href=(paths::restore_files(snapshot.repo_id, &snapshot.id)) { "Begin anew with this snapshot" } } }
        }
    }

    fn result(&self) -> Option<RestoreResult> {
        self.dry.summary.clone().and_then(|summary| serde_json::from_value(summary).ok())
    }

    fn outcome(&self) -> Markup {
        let result = self.result();
        html! {
            @if self.dry.status == JobStatus::Warning { (self.failed(&self.dry, "The dry run ended with a")) }
            @else { p.row { (components::pill(Tone::Ok, "Dry run done")) small { "Nothing was written. " a href=(paths::job(self.dry.id)) { "Its log names each file" } } } }
            @match &result {
                Some(result) => (restore_report(result)),
                None => p.notice.warn { "This dry run brought no numbers; its log has what restic said." },
            }
        }
    }

    fn what_next(&self, shell: &Shell) -> Markup {
        if let Some(restore) = &self.restore {
            return html! {
                section.card.pad.row aria-label="Restore" {
                    (job_pill(restore.status))
                    p.grow { "The restore was ordered " (format::ago(shell.now, restore.created_at)) " by " (components::asked_by(restore)) "." }
                    a.btn.primary href=(paths::job(restore.id)) { "Open the restore" }
                }
            };
        }
        if !self.in_place() {
            return html! { section.card.pad.stack aria-label="Restore" { (self.start_form(shell, None)) } };
        }
        html! {
            section.card aria-labelledby="safety-title" {
                header { h2 #safety-title { "Safety snapshot" } }
                .pad.stack { (self.safety_step(shell)) }
            }
        }
    }

    /// Files are written over: first what is there now, by choice.
    fn safety_step(&self, shell: &Shell) -> Markup {
        let host = &self.dry.host_name;
        let Some(saved) = &self.saved else {
            return html! {
                p { "No snapshot can be made first: all of the machine would have to be saved. Restore into a folder instead if you are not sure." }
                (self.start_form(shell, None))
            };
        };
        let offer = |label: &'static str| {
            PostButton {
                action: paths::restore_safety(self.dry.id),
                label,
                class: "primary",
                fields: Vec::new(),
                needs: Role::Operator,
                aria: String::new(),
            }
            .render(shell)
        };
        let without =
            html! { details { summary { "Restore without a safety snapshot" } (self.start_form(shell, None)) } };
        match &self.safety {
            None => html! {
                p { "Files on " b { (host) } " will be written over. A snapshot of what is there now can bring them back:" }
                ul.paths { @for path in saved.iter().take(8) { li { code { (visible(path)) } } } @if saved.len() > 8 { li { "and " (saved.len() - 8) " more" } } }
                div { (offer("Save these first")) }
                (without)
            },
            Some(safety) if !safety.status.is_final() => html! {
                (self.pending(safety, "The safety snapshot"))
                p { "The restore is offered here as soon as it is there." }
            },
            Some(safety) if went_well(safety) => html! {
                p.row { (components::pill(if safety.status == JobStatus::Warning { Tone::Warn } else { Tone::Ok }, "Saved"))
                    span { "What was there is in a snapshot of its own. " a href=(paths::job(safety.id)) { "Look at the backup" } } }
                @if let Some(error) = &safety.error { p { small { (format::sentence(error)) } } }
                (self.start_form(shell, Some(safety)))
            },
            Some(safety) => html! {
                (self.failed(safety, "The safety snapshot"))
                p { "Nothing was restored." }
                div { (offer("Try to save them again")) }
                (without)
            },
        }
    }

    fn start_form(&self, shell: &Shell, safety: Option<&Job>) -> Markup {
        let host = &self.dry.host_name;
        let form = Form::new("start", &self.form);
        let refusal = shell.refusal(Role::Operator);
        // What would fill the disk is not the next thing to do, but may be right: files that are replaced give their room back.
        let fits = self.result().is_none_or(|result| too_little_room(&result).is_none());
        let class = match (fits, self.in_place()) {
            (true, false) => "btn primary",
            (true, true) => "btn primary danger solid",
            (false, _) => "btn danger",
        };
        html! {
            form.stack method="post" action=(paths::restore_start(self.dry.id)) {
                (shell.csrf_field())
                @if let Some(safety) = safety { input type="hidden" name="safety" value=(safety.id); }
                (form.errors(&["confirm"]))
                @if self.in_place() {
                    (form.field(&Field::text("confirm", &format!("Type {host} to confirm")).required().hint("Files of this host will be written over.")))
                }
                .row {
                    button class=(class) type="submit" disabled[refusal.is_some()] {
                        @if !fits { "Restore all the same" } @else if self.in_place() { "Restore to the original place" } @else { "Restore now" }
                    }
                    @if let Some(reason) = refusal { small { (reason) } }
                }
            }
        }
    }
}
