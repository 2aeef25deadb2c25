//! Retention: what the guard said to each forget, in plain words, with what a person can do; and pins.

use maud::{Markup, html};

use crate::{
    domain::{
        JobStatus, PlanId, RepoId, Timestamp,
        guard::{Finding, Pin},
        job::Job,
        repo::Repo,
        retention::{Fate, FateKind, Verdict, VerdictState},
        user::Role,
    },
    paths,
    views::{
        Nav, Page, Shell,
        components::{self, Confirm, PostButton, Tone},
        format,
        snapshots::filename::visible,
    },
};

/// Snapshots of one fate on a page.
pub const FATES_A_PAGE: u32 = 100;
/// Snapshots of a finding that are drawn.
const NAMED: usize = 10;
/// Digits of an id that are shown: what restic shows.
const SHORT: usize = 8;

/// A snapshot's id, short.
fn short(id: &str) -> Markup {
    html! { code title=(id) { (id.get(..SHORT).unwrap_or(id)) } }
}

fn state_pill(verdict: &Verdict) -> Markup {
    match verdict.state {
        VerdictState::Allowed if verdict.dry => components::pill(Tone::Idle, "Dry run"),
        VerdictState::Stopped if verdict.dry => components::pill(Tone::Warn, "Dry run: would stop"),
        VerdictState::Allowed => components::pill(Tone::Ok, "Let through"),
        VerdictState::Stopped => components::pill(Tone::Bad, "Stopped"),
        VerdictState::Approved => components::pill(Tone::Warn, "Approved"),
        VerdictState::Dismissed => components::pill(Tone::Idle, "Dismissed"),
    }
}

/// What a verdict comes to, in one line.
fn in_words(verdict: &Verdict) -> String {
    let of = |n: usize, does: &str| (n > 0).then(|| format!("{} {does}", format::count(n as u64)));
    let goes = if verdict.dry { "would go" } else { "may go" };
    let parts: Vec<String> =
        [of(verdict.remove.len(), goes), of(verdict.waiting.len(), "stopped"), of(verdict.held.len(), "held back")]
            .into_iter()
            .flatten()
            .collect();
    if parts.is_empty() { "Nothing to remove".to_owned() } else { parts.join(", ") }
}

fn whose(verdict: &Verdict) -> Markup {
    html! {
        @match (&verdict.plan_name, verdict.plan_id) {
            (Some(name), Some(id)) => { "by the rules of " a href=(paths::plan(id)) { (name) } },
            _ => "by rules of its own",
        }
        @if !verdict.rules.is_empty() { ": " (verdict.rules) }
    }
}

/// A pinned snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRow {
    /// Full id.
    pub snapshot: String,
    /// The time that it claims.
    pub time: Timestamp,
    /// Under which host it stands.
    pub hostname: String,
    /// Who wants it, and why.
    pub pin: Pin,
}

/// Whether a snapshot is pinned, and the button that changes it: for the page of a snapshot. POST `/repos/{id}/pin` with `snapshot`, `reason`;
/// `/repos/{id}/unpin` with `snapshot`; `back` (a path here) for where it leads afterwards; `csrf` each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PinBox<'a> {
    /// The repository.
    pub repo: RepoId,
    /// Full id.
    pub snapshot: &'a str,
    /// Its pin.
    pub pin: Option<&'a Pin>,
    /// Where it leads afterwards; empty: the repository's retention.
    pub back: &'a str,
}

impl PinBox<'_> {
    /// The box.
    #[must_use]
    pub fn render(&self, shell: &Shell) -> Markup {
        let fields = |more: Option<(&'static str, String)>| {
            let mut fields = vec![("snapshot", self.snapshot.to_owned()), ("back", self.back.to_owned())];
            fields.extend(more);
            fields
        };
        html! {
            @if let Some(pin) = self.pin {
                .row {
                    (components::pill(Tone::Ok, "Pinned"))
                    span { "by " (pin.by) @if !pin.reason.is_empty() { ": " (pin.reason) } }
                    (PostButton {
                        action: paths::repo_unpin(self.repo), label: "Unpin", class: "", fields: fields(None), needs: Role::Admin,
                        aria: format!("Unpin the snapshot {}", self.snapshot.get(..SHORT).unwrap_or(self.snapshot)),
                    }.render(shell))
                }
            } @else if let Some(reason) = shell.refusal(Role::Operator) {
                button.btn type="button" disabled title=(reason) { "Pin" }
            } @else {
                form.row method="post" action=(paths::repo_pin(self.repo)) {
                    (shell.csrf_field())
                    @for (name, value) in fields(None) { input type="hidden" name=(name) value=(value); }
                    .field {
                        label.vh for="pin-reason" { "Why it must stay" }
                        input #pin-reason name="reason" type="text" required maxlength="200" autocomplete="off" placeholder="Why it must stay";
                    }
                    button.btn type="submit" { "Pin" }
                }
            }
        }
    }
}

/// `/repos/{id}/retention`. POST `/repos/{id}/retention/preview` with `plan_id`, `csrf`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionPage {
    /// The repository.
    pub repo: Repo,
    /// Its latest verdicts, the newest first.
    pub verdicts: Vec<Verdict>,
    /// There are older ones.
    pub more_verdicts: bool,
    /// Plans with rules, for a preview.
    pub plans: Vec<(PlanId, String, String)>,
    /// Pinned snapshots, the newest first.
    pub pins: Vec<PinRow>,
    /// There are older ones.
    pub more_pins: bool,
}

impl RetentionPage {
    fn older(&self, from: (&str, &str)) -> Markup {
        html! { p.pad { a href=(paths::with_query(&paths::repo_retention(self.repo.id), &[from])) { "Older ones" } } }
    }

    fn rules(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="rules-title" {
                header { h2 #rules-title { "Rules" } }
                @if self.plans.is_empty() {
                    p.pad { "No plan that backs up to it has rules: everything is kept." }
                } @else { ul.list { @for (id, name, rules) in &self.plans { li {
                    .grow { a href=(paths::plan(*id)) { b { (name) } } p.muted { "Keep " (rules) } }
                    (PostButton {
                        action: paths::repo_retention_preview(self.repo.id), label: "What would be kept?", class: "",
                        fields: vec![("plan_id", id.to_string())], needs: Role::Operator,
                        aria: format!("What would the rules of {name} keep?"),
                    }.render(shell))
                } } } }
            }
        }
    }

    fn pins(&self, shell: &Shell) -> Markup {
        html! {
            section.card aria-labelledby="pins-title" {
                header { h2 #pins-title { "Pinned snapshots" } }
                @if self.pins.is_empty() { p.pad { "None. A pinned snapshot is never removed, whatever the rules say: pin it on its page." } }
                @else { ul.list { @for row in &self.pins { li {
                    .grow { (short(&row.snapshot)) " of " b { (visible(&row.hostname)) } ", " (format::moment(row.time)) }
                    (PinBox { repo: self.repo.id, snapshot: &row.snapshot, pin: Some(&row.pin), back: "" }.render(shell))
                } } } }
                @if let (Some(last), true) = (self.pins.last(), self.more_pins) { (self.older(("pins_after", &last.snapshot))) }
            }
        }
    }
}

impl Page for RetentionPage {
    fn title(&self) -> String {
        format!("Retention of {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div { small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } } h1 { "Retention" } }
            p.muted { "Before a forget removes anything, the retention guard holds it against what was seen here: when each snapshot appeared, who made it, how big it is, what is pinned. Where something is odd, nothing goes until you have looked." }
            section.card aria-labelledby="verdicts-title" {
                header { h2 #verdicts-title { "What the guard said" } }
                @if self.verdicts.is_empty() { p.pad { "No forget has asked it yet. Set up the upkeep of the repository, or ask below what the rules would keep." } }
                @else { ul.list { @for verdict in &self.verdicts { li {
                    (state_pill(verdict))
                    .grow {
                        a href=(paths::verdict(verdict.job_id)) { b { (in_words(verdict)) } }
                        p.muted { (whose(verdict)) }
                    }
                    small { (format::ago(shell.now, verdict.at)) }
                } } } }
                @if let (Some(last), true) = (self.verdicts.last(), self.more_verdicts) { (self.older(("before", &last.job_id.to_string()))) }
            }
            (self.rules(shell))
            (self.pins(shell))
        }
    }
}

/// Snapshots that fared the same, as far as they are shown.
#[derive(Debug, Clone, PartialEq)]
pub struct FateList {
    /// How they fared.
    pub kind: FateKind,
    /// How many there are in all.
    pub count: u64,
    /// Those that are shown, the newest first.
    pub fates: Vec<Fate>,
    /// Where the rest begins, if there is one.
    pub more: Option<String>,
}

/// `/retention/{id}`. POST `/retention/{id}/approve` with `confirm` (the repository's name), `reason`; `/retention/{id}/dismiss` with `reason`; `csrf` each.
#[derive(Debug, Clone, PartialEq)]
pub struct VerdictPage {
    /// The repository.
    pub repo: Repo,
    /// The forget.
    pub job: Job,
    /// What it was told; `None` while it has not asked.
    pub verdict: Option<Verdict>,
    /// How its snapshots fared.
    pub lists: Vec<FateList>,
}

impl VerdictPage {
    fn finding(finding: &Finding) -> Markup {
        let rest = finding.how_many().saturating_sub(NAMED as u64);
        html! {
            .notice.bad {
                p { b { (visible(&finding.happened())) } }
                p { (visible(finding.why())) }
                p { b { "What to do: " } (finding.advice()) }
                details {
                    summary { "The snapshots that it is about" }
                    ul { @for about in finding.about.iter().take(NAMED) { li {
                        (short(&about.id)) " dated " (format::moment(about.time))
                        @match about.first_seen_at { Some(at) => { ", first seen " (format::moment(at)) }, None => ", not seen before" }
                        @if let Some(bytes) = about.bytes { ", " (format::bytes(bytes)) }
                        @if let Some(usual) = finding.usual_bytes { " (the others hold about " (format::bytes(usual)) ")" }
                    } } }
                    @if rest > 0 { p { "and " (format::plural(rest, "more", "more")) } }
                }
            }
        }
    }

    fn decision(&self, shell: &Shell, verdict: &Verdict) -> Markup {
        let n = format::plural(verdict.waiting.len() as u64, "snapshot", "snapshots");
        html! {
            section.card.pad.stack aria-label="Your word" {
                p { "Nothing that is listed as stopped was removed. If you approve, the forget is ordered again, and these " (n) " go, and no others. If you dismiss, they stay, and the next forget looks again." }
                .row {
                    (PostButton {
                        action: paths::verdict_dismiss(verdict.job_id), label: "Dismiss: keep them", class: "primary", fields: vec![], needs: Role::Operator,
                        aria: "Dismiss: leave the snapshots".to_owned(),
                    }.render(shell))
                    (Confirm {
                        id: "approve".to_owned(),
                        action: paths::verdict_approve(verdict.job_id),
                        label: "Approve: remove them",
                        question: format!("Remove {n} from {}?", self.repo.name),
                        consequence: format!("The forget runs again and removes {n} for good. What you were warned about is not asked again for the same snapshots."),
                        typed: Some(&self.repo.name),
                        needs: Role::Admin,
                    }.render(shell))
                }
            }
        }
    }

    fn list(&self, list: &FateList) -> Markup {
        let (title, tone) = match list.kind {
            FateKind::Waiting => ("Stopped: they wait for your word", Tone::Bad),
            FateKind::Removed if self.verdict.as_ref().is_some_and(|v| v.dry) => ("Would go", Tone::Warn),
            FateKind::Removed => ("Go", Tone::Warn),
            FateKind::Held => ("Held back", Tone::Idle),
            FateKind::Kept => ("Stay", Tone::Ok),
        };
        let id = format!("fate-{}", list.kind);
        html! {
            section.card aria-labelledby=(id) {
                header { h2 #(id) { (title) } (components::pill(tone, &format::count(list.count))) }
                .scroll { table.cards {
                    caption.vh { (title) }
                    thead { tr { th scope="col" { "Snapshot" } th scope="col" { "Date" } th.hide-s scope="col" { "Host" } th.hide-m scope="col" { "Paths" } th scope="col" { "Why" } } }
                    tbody { @for fate in &list.fates { tr {
                        td.title { (short(&fate.snapshot_id)) small.show-s { (visible(&fate.hostname)) } }
                        td { (format::moment(fate.time)) }
                        td.who.hide-s { (visible(&fate.hostname)) }
                        td.hide-m { span.cut { (visible(&fate.paths.join(", "))) } }
                        td.title { small.wait { (fate.reason) } }
                    } } }
                } }
                @if let (Some(more), Some(verdict)) = (&list.more, &self.verdict) {
                    p.pad { a.btn href=(paths::fates(verdict.job_id, list.kind.as_str(), more)) { "More" } }
                }
            }
        }
    }

    fn waiting_for_it(&self) -> Markup {
        let over = self.job.status.is_final();
        html! {
            .notice.(if over { "warn" } else { "ok" }) { p {
                @if over {
                    "This forget never asked the guard, so it removed nothing. " a href=(paths::job(self.job.id)) { "Its job says why." }
                } @else if self.job.status == JobStatus::Queued {
                    "The forget waits for its turn. " a href=(paths::job(self.job.id)) { "Its job" } " says what for; then load this page again."
                } @else {
                    "The forget has begun, and restic makes its dry run. Load this page again in a moment, or " a href=(paths::job(self.job.id)) { "watch its job" } "."
                }
            } }
        }
    }
}

impl Page for VerdictPage {
    fn title(&self) -> String {
        format!("Retention of {}", self.repo.name)
    }

    fn nav(&self) -> Nav {
        Nav::Repos
    }

    fn body(&self, shell: &Shell) -> Markup {
        html! {
            div {
                small { a href=(paths::repo(self.repo.id)) { (self.repo.name) } " · " a href=(paths::repo_retention(self.repo.id)) { "Retention" } }
                .row {
                    h1 { @match &self.verdict { Some(verdict) => (in_words(verdict)), None => "Forget" } }
                    @if let Some(verdict) = &self.verdict { (state_pill(verdict)) }
                }
                @if let Some(verdict) = &self.verdict {
                    p.muted {
                        (format::sentence_case(if verdict.dry { "a dry run, " } else { "a forget, " })) (whose(verdict)) " · "
                        (format::ago(shell.now, verdict.at)) " · " a href=(paths::job(verdict.job_id)) { "Job" }
                    }
                }
            }
            @match &self.verdict {
                None => (self.waiting_for_it()),
                Some(verdict) => {
                    @for finding in &verdict.findings { (Self::finding(finding)) }
                    @if let Some(at) = verdict.decided_at {
                        .notice { p {
                            @if verdict.decided_by.is_empty() { "Settled" } @else { (verdict.decided_by) @if verdict.state == VerdictState::Approved { " approved it" } @else { " dismissed it" } }
                            " " (format::ago(shell.now, at)) @if !verdict.reason.is_empty() { ": " (verdict.reason) } "."
                        } }
                    }
                    @if verdict.state == VerdictState::Stopped && !verdict.dry { (self.decision(shell, verdict)) }
                    @for list in &self.lists { (self.list(list)) }
                }
            }
        }
    }
}
