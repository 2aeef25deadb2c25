//! Probes: a question that is asked of a host again and again, and what its answers make of its state. One bad answer is no outage: a state changes where `need` of
//! the last `of` answers say so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{HostId, ProbeId, SiteId, Timestamp};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Question {
    /// An HTTP address.
    Http {
        /// `http://` or `https://`.
        url: String,
        /// What answer is a healthy one.
        expect: Expect,
        /// Any certificate will do.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tls_insecure: bool,
    },
    /// A TCP port takes a connection.
    Tcp {
        /// A name or an address, and a port.
        address: String,
    },
    /// A TLS certificate is valid for a number of days yet.
    Tls {
        /// A name and a port.
        address: String,
        /// Days that must be left.
        days: u16,
    },
}

/// Which HTTP answer is a healthy one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub enum Expect {
    /// Any at all, whatever its status.
    Any,
    /// One of these statuses.
    Status {
        /// From 100 to 599.
        codes: BTreeSet<u16>,
    },
    /// A status from 200 to 299, and this in the first 64 KiB of the body.
    Body {
        /// A pattern (regex).
        pattern: String,
    },
}

/// A question and how often it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// What.
    pub question: Question,
    /// Seconds from one question to the next.
    pub interval_s: u32,
    /// Seconds after which no answer is a bad one.
    pub timeout_s: u32,
    /// So many of the last [`ProbeSpec::of`] answers change the state.
    pub need: u8,
    /// Answers that are looked at.
    pub of: u8,
    /// It is asked at all.
    pub enabled: bool,
}

impl ProbeSpec {
    /// A question with the usual rest: each minute, five seconds, two of three.
    #[must_use]
    pub fn of(question: Question) -> Self {
        Self { question, interval_s: 60, timeout_s: 5, need: 2, of: 3, enabled: true }
    }
}

/// What a probe knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeState {
    /// Not enough answers yet.
    Unknown,
    /// All is well.
    Healthy,
    /// It is not.
    Unhealthy,
}

impl ProbeState {
    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl std::str::FromStr for ProbeState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Unknown, Self::Healthy, Self::Unhealthy].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// A probe as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Number within the store.
    pub no: i64,
    /// Identity.
    pub id: ProbeId,
    /// The host that it is about.
    pub host_id: HostId,
    /// The site on it.
    pub site_id: Option<SiteId>,
    /// What people call it.
    pub name: String,
    /// What is asked how often.
    pub spec: ProbeSpec,
    /// Where it stands.
    pub state: ProbeState,
    /// Since when.
    pub state_at: Option<Timestamp>,
    /// When the last answer came.
    pub asked_at: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub latency_ms: Option<u32>,
    /// What it said, for people; empty where it was a good one.
    pub detail: String,
}
