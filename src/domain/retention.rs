//! What became of a forget before the guard: its verdict, and how each snapshot fared. A stopped verdict leaves its state once, by a person's word or
//! because a later forget looked again.

use std::{fmt, str::FromStr};

use crate::domain::{HeldBack, JobId, KeepRules, PlanId, RepoId, Timestamp, guard::Finding};

/// Where a verdict stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// What is to go may go.
    Allowed,
    /// Some of it waits for a person.
    Stopped,
    /// A person said that it may go.
    Approved,
    /// A person said that it stays, or a later forget looked again.
    Dismissed,
}

impl VerdictState {
    const ALL: [Self; 4] = [Self::Allowed, Self::Stopped, Self::Approved, Self::Dismissed];

    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Stopped => "stopped",
            Self::Approved => "approved",
            Self::Dismissed => "dismissed",
        }
    }
}

/// A word that is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a known word for it")]
pub struct UnknownWord;

impl FromStr for VerdictState {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownWord)
    }
}

/// What the guard said to one forget.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The forget.
    pub job_id: JobId,
    /// The repository.
    pub repo_id: RepoId,
    /// The plan whose rules it went by.
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// When it was asked.
    pub at: Timestamp,
    /// Where it stands.
    pub state: VerdictState,
    /// Only what would be: nobody needs to decide.
    pub dry: bool,
    /// The keep rules at that time, in words.
    pub rules: String,
    /// What is odd.
    pub findings: Vec<Finding>,
    /// Ids that may go.
    pub remove: Vec<String>,
    /// Ids that go with a person's word only.
    pub waiting: Vec<String>,
    /// Those that no rule keeps and that stay all the same.
    pub held: Vec<HeldBack>,
    /// When a person decided.
    pub decided_at: Option<Timestamp>,
    /// Who did; empty where a later forget did.
    pub decided_by: String,
    /// Why.
    pub reason: String,
}

impl Verdict {
    /// Why nothing goes, for the forget that asked; `None` where something does or nothing was to go.
    #[must_use]
    pub fn stopped_in_words(&self) -> Option<String> {
        (self.remove.is_empty() && !self.waiting.is_empty()).then(|| {
            let seen: Vec<String> = self.findings.iter().map(Finding::happened).collect();
            format!("The retention guard stopped it, and nothing was removed. {}", seen.join(" "))
        })
    }
}

/// How a snapshot fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FateKind {
    /// It waits for a person.
    Waiting,
    /// It may go.
    Removed,
    /// No rule keeps it, and it stays for another reason.
    Held,
    /// A rule keeps it.
    Kept,
}

impl FateKind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Removed, Self::Held, Self::Kept];

    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Removed => "removed",
            Self::Held => "held",
            Self::Kept => "kept",
        }
    }
}

impl fmt::Display for FateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FateKind {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(UnknownWord)
    }
}

/// How one snapshot fared, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Full id.
    pub snapshot_id: String,
    /// The time that it claims.
    pub time: Timestamp,
    /// Under which host it stands.
    pub hostname: String,
    /// The first of its paths.
    pub paths: Vec<String>,
    /// How.
    pub kind: FateKind,
    /// The rule that keeps it, or why it goes or stays.
    pub reason: String,
}

/// Keep rules in words, such as `7 daily, 4 weekly`.
#[must_use]
pub fn in_words(rules: &KeepRules) -> String {
    let counts = [
        (rules.keep_last, "last"),
        (rules.keep_hourly, "hourly"),
        (rules.keep_daily, "daily"),
        (rules.keep_weekly, "weekly"),
        (rules.keep_monthly, "monthly"),
        (rules.keep_yearly, "yearly"),
    ];
    let spans = [
        (&rules.keep_within, "all within"),
        (&rules.keep_within_hourly, "hourly within"),
        (&rules.keep_within_daily, "daily within"),
        (&rules.keep_within_weekly, "weekly within"),
        (&rules.keep_within_monthly, "monthly within"),
        (&rules.keep_within_yearly, "yearly within"),
    ];
    let mut words: Vec<String> =
        counts.into_iter().filter_map(|(count, word)| count.map(|n| format!("{n} {word}"))).collect();
    words.extend(spans.into_iter().filter_map(|(span, word)| span.as_ref().map(|span| format!("{word} {span}"))));
    words.extend(rules.keep_tags.iter().map(|tag| format!("all with the tag {tag}")));
    if words.is_empty() { "everything".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_words() {
        let rules = KeepRules {
            keep_last: Some(3),
            keep_daily: Some(7),
            keep_within: Some("14d".to_owned()),
            keep_within_yearly: Some("5y".to_owned()),
            keep_tags: vec!["hold".to_owned()],
            ..KeepRules::default()
        };
        assert_eq!(in_words(&rules), "3 last, 7 daily, all within 14d, yearly within 5y, all with the tag hold");
        assert_eq!(in_words(&KeepRules::default()), "everything");
    }
}
