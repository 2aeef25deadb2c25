//! The small parts that pages are made of: pills, chips, strips, buttons that post, dialogs that confirm.
//! A state has one word and one colour, here, for all pages.

use std::collections::HashMap;

use maud::{Markup, html};

pub use crate::domain::protection::DayState;
use crate::{
    domain::{
        HostId, JobId, JobStatus, Timestamp, Way,
        aftermath::Aftermath,
        facet,
        host::HostStatus,
        job::{ActorKind, Job},
        queue::WaitsFor,
        user::Role,
    },
    paths,
    views::{Shell, format},
};

/// How something is: the colour of pills and notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Fine.
    Ok,
    /// Look at it.
    Warn,
    /// Broken.
    Bad,
    /// In motion.
    Run,
    /// Nothing to say.
    Idle,
}

impl Tone {
    /// Its class in the stylesheet.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
            Self::Run => "run",
            Self::Idle => "idle",
        }
    }
}

/// A state: colour, dot and word.
#[must_use]
pub fn pill(tone: Tone, word: &str) -> Markup {
    html! { span.pill.(tone.class()) { (word) } }
}

/// Colour and word of a job's state.
#[must_use]
pub fn job_tone(status: JobStatus) -> (Tone, &'static str) {
    match status {
        JobStatus::Queued => (Tone::Idle, "Queued"),
        JobStatus::Running => (Tone::Run, "Running"),
        JobStatus::Succeeded => (Tone::Ok, "Succeeded"),
        JobStatus::Warning => (Tone::Warn, "Warning"),
        JobStatus::Failed => (Tone::Bad, "Failed"),
        JobStatus::Cancelled => (Tone::Idle, "Cancelled"),
        JobStatus::Lost => (Tone::Bad, "Lost"),
    }
}

/// Colour and word of what came of a job: its state, and for a restart that its service is waited for, or is not well.
#[must_use]
pub fn outcome(status: JobStatus, aftermath: Option<&Aftermath>) -> (Tone, &'static str) {
    match (status, aftermath) {
        (JobStatus::Succeeded | JobStatus::Warning, Some(Aftermath::Waiting { .. })) => (Tone::Run, "Waits for health"),
        (JobStatus::Succeeded | JobStatus::Warning, Some(Aftermath::Unhealthy { .. })) => (Tone::Bad, "Not healthy"),
        (status, _) => job_tone(status),
    }
}

/// The pill of it.
#[must_use]
pub fn outcome_pill(status: JobStatus, aftermath: Option<&Aftermath>) -> Markup {
    let (tone, word) = outcome(status, aftermath);
    pill(tone, word)
}

/// A job's state.
#[must_use]
pub fn job_pill(status: JobStatus) -> Markup {
    let (tone, word) = job_tone(status);
    pill(tone, word)
}

/// Whether the host's agent is here.
#[must_use]
pub fn host_pill(status: HostStatus) -> Markup {
    match status {
        HostStatus::Online => pill(Tone::Ok, "Online"),
        HostStatus::Offline => pill(Tone::Warn, "Offline"),
        HostStatus::Never => pill(Tone::Idle, "Never seen"),
    }
}

/// Tags as links to the hosts that bear them.
#[must_use]
pub fn tags(tags: &[String]) -> Markup {
    html! { @for tag in tags { a.tag href=(paths::hosts_with_tag(tag)) { (tag) } " " } }
}

/// A kind of job as a noun, for people: restic's own word where it has one that tells.
#[must_use]
pub fn kind_name(kind: &str) -> String {
    match kind {
        "snapshots" => "Snapshot list".to_owned(),
        "stats" => "Measurement".to_owned(),
        "diff" => "Comparison".to_owned(),
        "init" => "New repository".to_owned(),
        "ls" => "Folder list".to_owned(),
        "find" => "File search".to_owned(),
        "locks" => "Look at locks".to_owned(),
        "dump" => "Download".to_owned(),
        "test" => "Connection test".to_owned(),
        "tamper" => "Append-only test".to_owned(),
        other => format::sentence_case(&other.replace('_', " ")),
    }
}

/// What a job is, in words: `Backup “nightly”`, `Restore`.
#[must_use]
pub fn job_name(job: &Job) -> String {
    let words = match &job.input.runbook {
        Some(book) => book.title.clone(),
        None => kind_name(job.kind.as_str()),
    };
    match &job.plan_name {
        Some(plan) => format!("{words} “{plan}”"),
        None => words,
    }
}

/// 30 days, the oldest first, today last. `last_day` is today as the server counts days (UTC).
#[must_use]
pub fn strip(days: &[DayState; 30], today: Timestamp) -> Markup {
    let of = |state| days.iter().filter(|day| **day == state).count();
    let words = format!(
        "Last 30 days: {} fine, {} with warnings, {} failed, {} without a backup",
        of(DayState::Fine),
        of(DayState::Warning),
        of(DayState::Failed),
        of(DayState::None)
    );
    let last = today.to_jiff().strftime("%Y-%m-%d").to_string();
    html! {
        span.strip role="img" tabindex="0" aria-label=(words) data-tip=(words) data-last=(last) {
            @for day in days {
                @match day {
                    DayState::None => i {},
                    DayState::Fine => i.o {},
                    DayState::Warning => i.w {},
                    DayState::Failed => i.x {},
                }
            }
        }
    }
}

/// A button that posts; greyed out with the reason where the viewer's role is too low.
#[derive(Debug, Clone)]
pub struct PostButton<'a> {
    /// Where to.
    pub action: String,
    /// What it says.
    pub label: &'a str,
    /// `primary`, `danger` or nothing.
    pub class: &'static str,
    /// Hidden fields.
    pub fields: Vec<(&'static str, String)>,
    /// The least role.
    pub needs: Role,
    /// What a screen reader says, where the label alone is not enough.
    pub aria: String,
}

impl PostButton<'_> {
    /// The form with its button.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let refusal = shell.refusal(self.needs);
        let aria = (!self.aria.is_empty()).then_some(self.aria.as_str());
        html! {
            @if let Some(reason) = refusal {
                button.btn.(self.class) type="button" disabled title=(reason) aria-label=[aria] { (self.label) }
            } @else {
                form.inline method="post" action=(self.action) {
                    (shell.csrf_field())
                    @for (name, value) in &self.fields { input type="hidden" name=(name) value=(value); }
                    button.btn.(self.class) type="submit" aria-label=[aria] { (self.label) }
                }
            }
        }
    }
}

/// A button that opens a dialog which says what will happen, and only there acts.
#[derive(Debug, Clone)]
pub struct Confirm<'a> {
    /// Id of the dialog, unique on the page.
    pub id: String,
    /// Where the decision is posted to.
    pub action: String,
    /// On the opening button and the deciding one.
    pub label: &'a str,
    /// The dialog's question.
    pub question: String,
    /// What it does, to what, and what it does not do.
    pub consequence: String,
    /// Where data or access can be lost: the name that must be typed, sent as `confirm`.
    pub typed: Option<&'a str>,
    /// The least role.
    pub needs: Role,
}

impl Confirm<'_> {
    /// The opening button and its dialog.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let title = format!("{}-title", self.id);
        html! {
            @if let Some(reason) = shell.refusal(self.needs) {
                button.btn.danger type="button" disabled title=(reason) { (self.label) }
            } @else {
                button.btn.danger type="button" command="show-modal" commandfor=(self.id) { (self.label) }
                dialog #(self.id) aria-labelledby=(title) {
                    h2 #(title) { (self.question) }
                    p { (self.consequence) }
                    form method="post" action=(self.action) {
                        (shell.csrf_field())
                        @if let Some(name) = self.typed {
                            .field {
                                label for=(format!("{}-confirm", self.id)) { "Type " b { (name) } " to confirm" }
                                input #(format!("{}-confirm", self.id)) name="confirm" type="text" required autocomplete="off"
                                    spellcheck="false" data-must-be=(name);
                            }
                        }
                        .row.end {
                            button.btn type="button" command="close" commandfor=(self.id) { "Keep it" }
                            button.btn.danger.solid type="submit" { (self.label) }
                        }
                    }
                }
            }
        }
    }
}

/// Text with a button that copies it.
#[must_use]
pub fn copyable(id: &str, label: &str, text: &str) -> Markup {
    html! {
        .copy {
            pre #(id) tabindex="0" aria-label=(label) { (text) }
            button.btn type="button" data-copy=(id) aria-label=(format!("Copy: {label}")) { "Copy" }
        }
    }
}

/// A page's first line, with what can be done beside it.
#[must_use]
pub fn headline(title: &str, actions: &Markup) -> Markup {
    html! { .row.between { h1 { (title) } .row { (actions) } } }
}

/// A list without entries: what it would show and how to get the first.
#[must_use]
pub fn empty(title: &str, text: &str, action: Option<(&str, &str)>) -> Markup {
    html! {
        .card.empty {
            h2 { (title) }
            p { (text) }
            @if let Some((href, label)) = action { p { a.btn.primary href=(href) { (label) } } }
        }
    }
}

/// Tabs as links: `(href, label, current)`.
#[must_use]
pub fn tabs(label: &str, entries: &[(String, &str, bool)]) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            @for (href, label, current) in entries { a href=(href) aria-current=[current.then_some("page")] { (label) } }
        }
    }
}

/// Name and value pairs.
#[must_use]
pub fn facts(pairs: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in pairs { div { dt { (name) } dd { (value) } } } } }
}

/// A reference to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRef {
    /// Identity.
    pub id: HostId,
    /// Name.
    pub name: String,
}

/// Jobs, and what the queued ones among them wait for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobList {
    /// The jobs, in the order in which they are shown.
    pub rows: Vec<Job>,
    /// What those that are queued wait for; what is about to be sent is not in it.
    pub waits: HashMap<JobId, WaitsFor>,
}

impl From<Vec<Job>> for JobList {
    /// Jobs of which none waits.
    fn from(rows: Vec<Job>) -> Self {
        Self { rows, waits: HashMap::new() }
    }
}

/// Jobs as a table, with what the queued ones wait for.
#[must_use]
pub fn job_table(shell: &Shell, list: &JobList, caption: &str, columns: JobColumns) -> Markup {
    let with_host = columns == JobColumns::WithHost;
    html! {
        .scroll {
            table.cards {
                caption.vh { (caption) }
                thead { tr {
                    th scope="col" { "Job" }
                    @if with_host { th.hide-s scope="col" { "Host" } }
                    th scope="col" { "State" }
                    th.hide-s scope="col" { "Asked by" }
                    th.hide-s[with_host] scope="col" { "When" }
                    th.num.hide-s scope="col" { "Duration" }
                } }
                tbody { @for job in &list.rows { (job_row(shell, job, list.waits.get(&job.id), with_host)) } }
            }
        }
    }
}

/// Which columns a table of jobs has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobColumns {
    /// All.
    WithHost,
    /// The page is about one host.
    WithoutHost,
}

fn job_row(shell: &Shell, job: &Job, waits_for: Option<&WaitsFor>, with_host: bool) -> Markup {
    html! {
        tr data-key=(job.id) {
            td.first {
                a href=(paths::job(job.id)) { b { (job_name(job)) } }
                // On a narrow screen the host stands under the job instead of in a column of its own.
                @if with_host { small.show-s { (job.shown_host()) } }
                @if let Some(waits_for) = waits_for { small.wait { "waits for " (waits_for_words(waits_for)) } }
            }
            @if with_host { td.who.hide-s { a href=(paths::host(job.seat())) { (job.shown_host()) } } }
            td { (outcome_pill(job.status, job.aftermath.as_ref())) }
            td.hide-s { (asked_by(job)) }
            td.hide-s[with_host] { (format::ago(shell.now, job.started_at.unwrap_or(job.created_at))) }
            td.num.hide-s { (duration(shell, job)) }
        }
    }
}

/// What a queued job waits for, with a link to the job that stands in its way. Completes "It waits for …".
#[must_use]
pub fn waits_for_words(waits_for: &WaitsFor) -> Markup {
    html! {
        @if let Some(holder) = waits_for.holder() { "the " a href=(paths::job(holder.id)) { (holder.words()) } }
        (waits_for.rest())
    }
}

/// A way to a host, in words.
#[must_use]
pub fn way_words(way: Way) -> &'static str {
    facet::in_words(way)
}

/// Who asked for a job, in words.
#[must_use]
pub fn asked_by(job: &Job) -> String {
    match job.actor.kind {
        ActorKind::User => job.actor.name.clone(),
        ActorKind::Token => format!("token {}", job.actor.name),
        ActorKind::Schedule if job.actor.name.is_empty() => "a schedule".to_owned(),
        ActorKind::Schedule => format!("schedule of {}", job.actor.name),
        ActorKind::System => "Flotilla".to_owned(),
    }
}

/// How long a job took, or has taken so far.
#[must_use]
pub fn duration(shell: &Shell, job: &Job) -> Markup {
    match (job.started_at, job.finished_at) {
        (Some(start), Some(end)) => html! { (format::duration_ms(end.ms_since(start))) },
        (Some(start), None) if !job.status.is_final() => format::ticking_since(shell.now, start),
        _ => html! { "—" },
    }
}
