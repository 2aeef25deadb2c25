//! What came after a restart: a command that ended well says nothing of the service, so its health is waited for. Only answers count that were asked for after
//! the restart had ended.

use serde::{Deserialize, Serialize};

use crate::domain::{Timestamp, job::Job};

/// Kind of the jobs whose aftermath is waited for.
pub const RESTART: &str = "restart";

/// How long health may take to come back, in milliseconds.
pub const PATIENCE_MS: i64 = 60_000;

/// Where a restart stands behind its command's good end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Aftermath {
    /// The host's probes are asked until all are healthy.
    Waiting {
        /// When the restart's end was noted.
        #[schema(value_type = String, format = DateTime)]
        since: Timestamp,
        /// When it is given up.
        #[schema(value_type = String, format = DateTime)]
        deadline: Timestamp,
    },
    /// All probes are.
    Healthy {
        /// Milliseconds after the restart's end.
        after_ms: i64,
    },
    /// Not all were, until the deadline.
    Unhealthy {
        /// Which, and what they said.
        detail: String,
    },
    /// The host has no probe that is asked.
    NotAsked,
}

impl Aftermath {
    /// Begins to wait at `now`.
    #[must_use]
    pub fn waiting(now: Timestamp) -> Self {
        Self::Waiting { since: now, deadline: Timestamp::from_unix_ms(now.unix_ms() + PATIENCE_MS) }
    }

    /// Whether it is not known yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Waiting { .. })
    }

    /// In words, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Waiting { .. } => "restarted; waiting for its health".to_owned(),
            Self::Healthy { after_ms } => format!("restarted and healthy after {}", seconds(*after_ms)),
            Self::Unhealthy { detail } => format!("restarted, not healthy: {detail}"),
            Self::NotAsked => "restarted (no health probe to ask)".to_owned(),
        }
    }
}

fn seconds(ms: i64) -> String {
    match (ms + 500) / 1000 {
        0 => "less than a second".to_owned(),
        s => format!("{s} s"),
    }
}

/// Whether nothing more is to come of a job: it has ended, and its aftermath too.
#[must_use]
pub fn is_over(job: &Job) -> bool {
    job.status.is_final() && !job.aftermath.as_ref().is_some_and(Aftermath::is_waiting)
}

/// Whether a job that is over went well: its end, and what came after it. A restart without a probe is taken at its command's word.
#[must_use]
pub fn went_well(job: &Job) -> bool {
    use crate::domain::JobStatus::{Succeeded, Warning};
    matches!(job.status, Succeeded | Warning) && !matches!(job.aftermath, Some(Aftermath::Unhealthy { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_words() {
        let words = |aftermath: Aftermath| aftermath.words();
        assert_eq!(words(Aftermath::Healthy { after_ms: 4_200 }), "restarted and healthy after 4 s");
        assert_eq!(words(Aftermath::Healthy { after_ms: 120 }), "restarted and healthy after less than a second");
        let unhealthy = Aftermath::Unhealthy { detail: "web: nothing listens at 10.0.0.7:80".to_owned() };
        assert_eq!(words(unhealthy), "restarted, not healthy: web: nothing listens at 10.0.0.7:80");
        assert_eq!(words(Aftermath::NotAsked), "restarted (no health probe to ask)");
    }

    #[test]
    fn it_is_kept_as_json_with_its_state_and_read_back() {
        let waiting = Aftermath::waiting(Timestamp::from_unix_ms(0));
        let text = serde_json::to_string(&waiting).unwrap();
        assert!(text.starts_with(r#"{"state":"waiting""#), "{text}");
        assert_eq!(serde_json::from_str::<Aftermath>(&text).unwrap(), waiting);
        assert_eq!(serde_json::to_string(&Aftermath::NotAsked).unwrap(), r#"{"state":"not_asked"}"#);
    }
}
