//! What the next process of the agent must know of a job that this one leaves: which step was begun, and what was found so far. On disk before each step.

use flotilla_proto::{FailureClass, JobStatus, RunbookResult};
use serde::{Deserialize, Serialize};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum At {
    /// Nothing has begun.
    #[default]
    Start,
    /// In this guard.
    Guard(usize),
    /// In this step.
    Step(usize),
    /// Before this step, behind the one before it.
    Before(usize),
    /// In this step of the teardown.
    Teardown(usize),
}

/// What is decided about a job whose steps are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) status: JobStatus,
    pub(crate) exit_code: Option<i32>,
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) class: Option<FailureClass>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    /// How many processes of the agent have worked on it; part of each mark.
    pub(crate) round: u32,
    pub(crate) at: At,
    /// What came of it so far. Holds no secret.
    pub(crate) result: RunbookResult,
    /// Decided before the teardown begins.
    pub(crate) verdict: Option<Verdict>,
}

impl At {
    /// By what the processes of a job are marked that is here.
    pub(crate) fn mark(self, job: &str, round: u32) -> String {
        let (kind, at) = match self {
            Self::Start => ("x", 0),
            Self::Guard(at) => ("g", at),
            Self::Step(at) | Self::Before(at) => ("s", at),
            Self::Teardown(at) => ("t", at),
        };
        format!("{job}-{kind}{}-{round}", at + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_of_each_step_has_a_mark_of_its_own() {
        let marks = [At::Guard(0), At::Step(0), At::Teardown(0), At::Step(1)].map(|at| at.mark("J", 1));
        assert_eq!(marks, ["J-g1-1", "J-s1-1", "J-t1-1", "J-s2-1"]);
        assert_ne!(At::Teardown(0).mark("J", 2), marks[2]);
    }

    #[test]
    fn a_journal_comes_back_as_it_was_written() {
        let verdict =
            Verdict { status: JobStatus::Failed, exit_code: Some(3), error: Some("why".to_owned()), class: None };
        let journal = Journal { round: 2, at: At::Step(4), verdict: Some(verdict), ..Journal::default() };
        let text = serde_json::to_string(&journal).unwrap();
        assert_eq!(serde_json::from_str::<Journal>(&text).unwrap(), journal);
        assert!(text.contains(r#""at":{"step":4}"#), "{text}");
    }
}
