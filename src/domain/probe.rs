//! Probes: a question that is asked of a host again and again, and what its answers make of its state. One bad answer is no outage: a state changes where `need` of
//! the last `of` answers say so.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{HostId, ProbeId, SiteId, Timestamp};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", deny_unknown_fields)]
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
#[serde(rename_all = "snake_case", tag = "mode", deny_unknown_fields)]
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

impl Question {
    /// The address that it goes to, for people.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Http { url, .. } => url,
            Self::Tcp { address } | Self::Tls { address, .. } => address,
        }
    }

    /// What answer is a healthy one, in words.
    #[must_use]
    pub fn wants(&self) -> String {
        match self {
            Self::Http { expect: Expect::Any, .. } => "any answer, whatever its status".to_owned(),
            Self::Http { expect: Expect::Status { codes }, .. } => {
                let codes: Vec<String> = codes.iter().map(u16::to_string).collect();
                format!("status {}", codes.join(", "))
            }
            Self::Http { expect: Expect::Body { pattern }, .. } => {
                format!("status 200 to 299 and {pattern:?} in the body")
            }
            Self::Tcp { .. } => "the port takes a connection".to_owned(),
            Self::Tls { days, .. } => format!("the certificate is valid for {days} more days"),
        }
    }
}

/// One answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// All is well.
    pub healthy: bool,
    /// How long it took, in milliseconds; `None` where none came.
    pub latency_ms: Option<u32>,
    /// For people, without a full stop: why it is a bad one, or a word about a good one, such as its status.
    pub detail: String,
}

/// An answer as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastAnswer {
    /// When.
    pub at: Timestamp,
    /// What; the words of good ones are not kept.
    pub answer: Answer,
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

    /// The state after the latest of `answers` (`true`: a good one), which came since the state is what it is, the latest first. It changes where the latest says
    /// so and at least `need` of the last `of` say the same. Those from before the last change do not count, so that a service that comes and goes does not
    /// take its state along each time; without a state, `need` agree as well.
    #[must_use]
    pub fn judge(&self, before: ProbeState, answers: &[bool]) -> ProbeState {
        let window = &answers[..answers.len().min(usize::from(self.of))];
        let Some(&latest) = window.first() else { return before };
        let agree = window.iter().filter(|healthy| **healthy == latest).count();
        let after = if latest { ProbeState::Healthy } else { ProbeState::Unhealthy };
        if after != before && agree >= usize::from(self.need) { after } else { before }
    }

    /// When the probe of this number is asked next, after it was at `at`. Each has its own place within the interval, so that many are spread over it.
    #[must_use]
    pub fn next(&self, no: i64, at: Timestamp) -> Timestamp {
        let interval = i64::from(self.interval_s.max(1)) * 1000;
        // Fibonacci hashing: neighbours lie far apart.
        let scattered = no.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let place = (scattered % interval.unsigned_abs()).cast_signed();
        let behind = (at.unix_ms() - place).rem_euclid(interval);
        Timestamp::from_unix_ms(at.unix_ms() - behind + interval)
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
    /// What it said, for people: why it was a bad one, or a word about a good one.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(need: u8, of: u8) -> ProbeSpec {
        ProbeSpec { need, of, ..ProbeSpec::of(Question::Tcp { address: "a:1".to_owned() }) }
    }

    /// The states that answers lead to, each judged as it comes: `+` is a good one, `-` a bad one; `h`, `u` and `?` are states.
    fn course(spec: &ProbeSpec, answers: &str) -> String {
        let (mut state, mut since) = (ProbeState::Unknown, Vec::new());
        let mut told = String::new();
        for answer in answers.chars() {
            since.insert(0, answer == '+');
            let next = spec.judge(state, &since);
            if next != state {
                (state, since) = (next, Vec::new());
            }
            told.push(match state {
                ProbeState::Unknown => '?',
                ProbeState::Healthy => 'h',
                ProbeState::Unhealthy => 'u',
            });
        }
        told
    }

    #[test]
    fn one_bad_answer_is_no_outage_and_two_of_three_are() {
        assert_eq!(course(&spec(2, 3), "++-++-++"), "?hhhhhhh");
        assert_eq!(course(&spec(2, 3), "++--"), "?hhu");
        assert_eq!(course(&spec(2, 3), "++-+-"), "?hhhu");
        assert_eq!(course(&spec(2, 3), "++-++-"), "?hhhhh", "the first bad one is out of the window");
    }

    #[test]
    fn recovery_needs_as_many_good_answers_as_an_outage_needs_bad_ones() {
        assert_eq!(course(&spec(2, 3), "--++"), "?uuh");
        assert_eq!(course(&spec(3, 3), "---++-+++"), "??uuuuuuh");
    }

    #[test]
    fn a_service_that_comes_and_goes_does_not_take_its_state_along_each_time() {
        assert_eq!(course(&spec(2, 3), "++-+-+-+-+"), "?hhhuuuhhh");
        assert_eq!(course(&spec(2, 2), "++-+-+-+-+"), "?hhhhhhhhh");
    }

    #[test]
    fn without_damping_each_answer_is_the_state() {
        assert_eq!(course(&spec(1, 1), "+-+--"), "huhuu");
        assert_eq!(course(&spec(1, 3), "+-+--"), "huhuu");
    }

    #[test]
    fn ten_thousand_probes_are_spread_over_their_interval() {
        let spec = spec(2, 3);
        let at = Timestamp::from_unix_ms(1_795_248_000_000);
        let mut seconds = [0_u32; 60];
        for no in 1..=10_000 {
            let next = spec.next(no, at);
            let wait = next.ms_since(at);
            assert!((1..=60_000).contains(&wait), "{wait}");
            assert_eq!(spec.next(no, next).ms_since(next), 60_000, "from then on once per interval");
            seconds[usize::try_from((wait - 1) / 1000).unwrap()] += 1;
        }
        assert!(seconds.iter().all(|n| (120..=220).contains(n)), "{seconds:?}");
    }
}
