//! What a queued job waits for, in words. Each text completes "It waits for …".

use crate::domain::{JobId, JobKind, Timestamp};

/// A job that stands in the way of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// Where.
    pub host_name: String,
}

impl Holder {
    /// `backup of web-2`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} of {}", self.kind, self.host_name)
    }
}

/// What a queued job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsFor {
    /// Its host to connect.
    Host {
        /// When its agent was last heard; `None`: never.
        last_seen_at: Option<Timestamp>,
        /// When the job is given up.
        gives_up_at: Option<Timestamp>,
        /// The order left before the connection broke: only the agent knows whether it has it.
        sent: bool,
        /// Someone asked for it to stop.
        stopping: bool,
    },
    /// The repository, which this job has.
    Repository(Holder),
    /// This job, which is to have the repository alone and came earlier.
    Turn(Holder),
    /// This job of the same plan on the same host.
    Plan(Holder),
    /// This runbook on the same host.
    Runbook(Holder),
    /// One of its host's places: so many.
    HostPlaces(u32),
    /// One of all places: so many.
    AllPlaces(u32),
    /// Its host to say that it has the order.
    Order,
    /// Its agent, which has the order, to begin.
    Agent,
}

impl WaitsFor {
    /// A word for programs: `host`, `repository`, `turn`, `plan`, `runbook`, `host_limit`, `limit`, `order`, `agent`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Host { .. } => "host",
            Self::Repository(_) => "repository",
            Self::Turn(_) => "turn",
            Self::Plan(_) => "plan",
            Self::Runbook(_) => "runbook",
            Self::HostPlaces(_) => "host_limit",
            Self::AllPlaces(_) => "limit",
            Self::Order => "order",
            Self::Agent => "agent",
        }
    }

    /// The job that stands in the way.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Repository(holder) | Self::Turn(holder) | Self::Plan(holder) | Self::Runbook(holder) => Some(holder),
            _ => None,
        }
    }

    /// What follows the holder; the whole text where there is none.
    #[must_use]
    pub fn rest(&self) -> String {
        match self {
            Self::Host { last_seen_at, gives_up_at, sent, stopping } => {
                let since = match last_seen_at {
                    Some(at) => format!("offline since {}", minute(*at)),
                    None => "it never did so far".to_owned(),
                };
                let end = gives_up_at.map(|at| format!("; given up at {}", minute(at))).unwrap_or_default();
                let more = match (sent, stopping) {
                    (true, true) => {
                        ". The order was sent before the connection broke, so only its agent knows whether it has begun: it is told to stop as soon \
                         as it is back"
                    }
                    (true, false) => {
                        ". The order was sent before the connection broke: its agent says at its return whether it has it"
                    }
                    _ => "",
                };
                format!("its host to connect ({since}{end}){more}")
            }
            Self::Repository(_) => ", which has the repository".to_owned(),
            Self::Turn(_) => ", which came earlier and is to have the repository alone".to_owned(),
            Self::Plan(_) => ", an earlier run of the same plan".to_owned(),
            Self::Runbook(_) => ", which has the host: one runbook runs there at a time".to_owned(),
            Self::HostPlaces(n) => format!("a free place on this host (it has {n} at once)"),
            Self::AllPlaces(n) => format!("a free place in all (all hosts together have {n} at once)"),
            Self::Order => "its host to take the order".to_owned(),
            Self::Agent => "its agent to begin: it has the order, and other jobs before it".to_owned(),
        }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        match self.holder() {
            Some(holder) => format!("the {}{}", holder.words(), self.rest()),
            None => self.rest(),
        }
    }
}

fn minute(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
