//! What a restart came to, on its job's page: a line of its own for each outcome, so that "succeeded" is never taken for "healthy".

use maud::{Markup, html};

use crate::{
    domain::{
        FailureClass, JobStatus, RunbookResult,
        aftermath::{Aftermath, RESTART},
        job::Job,
    },
    views::{components::Tone, format, host::health},
};

/// The line; nothing where the job is no restart, or is not over.
pub(super) fn render(job: &Job) -> Markup {
    if job.kind.as_str() != RESTART || !job.status.is_final() {
        return html! {};
    }
    let tab = health::address(job.seat());
    match &job.aftermath {
        Some(aftermath) => {
            let tone = match aftermath {
                Aftermath::Waiting { .. } => Tone::Run,
                Aftermath::Healthy { .. } => Tone::Ok,
                Aftermath::Unhealthy { .. } => Tone::Bad,
                Aftermath::NotAsked => Tone::Idle,
            };
            html! {
                .notice.(tone.class()) role="status" {
                    p {
                        b { (format::sentence(&format::sentence_case(&aftermath.words()))) }
                        @match aftermath {
                            Aftermath::Waiting { .. } => " Its probes are asked each second until all are healthy, for at most a minute.",
                            Aftermath::Unhealthy { .. } => { " The command ended well, and a minute later the service did not answer as it should: look at its own log. " a href=(tab) { "Health of the host" } },
                            Aftermath::NotAsked => { " Whether the service is up is not known. " a href=(tab) { "Add a probe" } },
                            Aftermath::Healthy { .. } => { " " a href=(tab) { "Health of the host" } },
                        }
                    }
                }
            }
        }
        None => html! { @if let Some(words) = why_not(job) { p.notice.bad role="status" { b { (words) } } } },
    }
}

/// Why it was not restarted, in one line, by the class of its failure.
fn why_not(job: &Job) -> Option<&'static str> {
    match job.status {
        JobStatus::Cancelled => return Some("Cancelled: whether the service was restarted is not known."),
        JobStatus::Lost => return Some("Lost: whether the service was restarted is not known."),
        JobStatus::Failed => {}
        _ => return None,
    }
    let result: RunbookResult = serde_json::from_value(job.summary.clone()?).ok()?;
    Some(match result.class? {
        FailureClass::Exit => "Not restarted as it should: the command ended with an error.",
        FailureClass::TimedOut => "Timed out: the command and all that it had started were ended.",
        FailureClass::Unreachable => "The host was not reached, or the connection was lost on the way.",
        FailureClass::Authentication => "The host did not accept the login: nothing was restarted.",
        FailureClass::HostKey => "The host showed another key than the one that is trusted: nothing was restarted.",
        FailureClass::NotConfigured => "Not configured, or not allowed on the host: nothing was restarted.",
        FailureClass::NoContainer => "The container is not there: nothing was restarted.",
        FailureClass::Guard => "A condition of the runbook did not hold: nothing was restarted.",
        FailureClass::Cancelled => "Cancelled: whether the service was restarted is not known.",
        FailureClass::Answer | FailureClass::Transfer | FailureClass::DiskFull | FailureClass::Other => return None,
    })
}
