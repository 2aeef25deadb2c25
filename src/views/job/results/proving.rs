//! Results of what looks whether a repository is reachable, free and safe: locks, unlock, connection and tamper tests.

use maud::{Markup, html};

use super::{card, number, short, table};
use crate::{
    domain::{HeldBack, LocksResult, TamperResult, TamperVerdict, TestResult, UnlockResult, job::Job},
    paths,
    views::components::{Tone, pill},
};

pub(super) fn locks(job: &Job, result: &LocksResult) -> Markup {
    card(
        "Locks",
        &[
            ("There are", number(result.count)),
            (
                "Whose",
                html! { @match job.repo_id {
                    Some(repo) => a href=(paths::repo_locks(repo)) { "each with its owner" },
                    None => "—",
                } },
            ),
        ],
    )
}

pub(super) fn unlock(result: &UnlockResult) -> Markup {
    let rows = |locks: &[HeldBack]| -> Vec<Vec<Markup>> {
        locks.iter().map(|lock| vec![short(&lock.snapshot), html! { (lock.reason) }]).collect()
    };
    html! {
        @if result.removed.is_empty() { p.notice.idle { "No lock was removed." } }
        (table("Removed", &["Lock", "Why it could go"], rows(&result.removed)))
        (table("Left alone", &["Lock", "Why it stays"], rows(&result.kept)))
    }
}

pub(super) fn test(result: &TestResult) -> Markup {
    let rows = result.steps.iter().map(|step| {
        let (tone, word) = if step.ok { (Tone::Ok, "Well") } else { (Tone::Bad, "Failed") };
        vec![html! { (step.name) }, pill(tone, word), html! { (step.detail) }]
    });
    html! {
        (table("What was tried", &["Step", "How it went", "What was seen"], rows.collect()))
        @if !result.restic.is_empty() { p { small { "Tried with restic " (result.restic) "." } } }
    }
}

pub(super) fn tamper(result: &TamperResult) -> Markup {
    let rows = result.tried.iter().map(|tried| {
        let (tone, word) = if tried.refused { (Tone::Ok, "Refused") } else { (Tone::Bad, "Done") };
        vec![html! { (tried.what) }, pill(tone, word), html! { (tried.said) }]
    });
    html! {
        @match result.verdict {
            TamperVerdict::Protected => p.notice.ok role="status" { b { "Append-only: proven. " } "All that was tried with the host's own credentials was refused." },
            TamperVerdict::Vulnerable => p.notice.bad role="alert" { b { "Not append-only. " } "With its own credentials this host could delete or change what is stored; so could whoever takes it over." },
            TamperVerdict::Unknown => p.notice.warn role="status" { b { "Not known. " } "The test could not be carried out." },
        }
        (table("What was tried", &["Attempt", "Outcome", "What was said"], rows.collect()))
    }
}
