//! Why a connection ended, in words for the log, and what follows from it. The one table of retry rules.

use std::time::Duration;

use flotilla_proto::close;

use crate::dial::DialError;

/// Two agents share one identity; whoever comes back at once only takes turns with the other.
const AFTER_REPLACED: Duration = Duration::from_secs(5 * 60);
/// Only an update helps.
const AFTER_VERSION: Duration = Duration::from_secs(10 * 60);
/// Only an operator helps.
const AFTER_UNAUTHORIZED: Duration = Duration::from_secs(60);

/// The end of a connection, or of the attempt to have one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the agent stops")]
    Stopped,
    #[error("no connection: {0}")]
    Dial(#[from] DialError),
    #[error(
        "the server does not know this agent's token (HTTP 401): the host was removed there, or the server was restored from an older \
         backup; enrol this host anew with `flotilla-agent enroll --replace`"
    )]
    Unauthorized,
    #[error("the server did not open the agent socket ({0})")]
    Upgrade(String),
    #[error("the server did not answer the hello within {0} s")]
    NoWelcome(u64),
    #[error("the server said nothing for {0} s; the connection is taken for dead")]
    Silent(u64),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the server closed the connection ({code}: {reason})")]
    Closed { code: u16, reason: String },
    #[error(
        "another agent connected with this host's identity and took over: if this machine was copied, or the agent is installed twice, \
         remove one or enrol it as a host of its own"
    )]
    Replaced,
    #[error("agent and server have no protocol version in common: {0}")]
    Version(String),
    #[error(
        "restic on this host was installed, replaced or removed: connecting anew, so that the server knows what it can do"
    )]
    Changed,
    #[error("the agent's access was revoked")]
    Revoked,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Never again.
    Stop,
    /// Not before this long, and up to twice that.
    Slowly(Duration),
    /// With the usual back-off.
    Soon,
}

impl Ended {
    /// From a close frame; `said` is the text of an `error` that came before it.
    pub(super) fn from_close(code: u16, reason: &str, said: Option<String>) -> Self {
        let text = || said.clone().unwrap_or_else(|| reason.to_owned());
        match code {
            close::REPLACED => Self::Replaced,
            close::NO_COMMON_VERSION => Self::Version(text()),
            close::REVOKED => Self::Revoked,
            code => Self::Closed { code, reason: text() },
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Stopped | Self::Revoked => Verdict::Stop,
            Self::Replaced => Verdict::Slowly(AFTER_REPLACED),
            Self::Version(_) => Verdict::Slowly(AFTER_VERSION),
            Self::Unauthorized => Verdict::Slowly(AFTER_UNAUTHORIZED),
            Self::Dial(_)
            | Self::Upgrade(_)
            | Self::NoWelcome(_)
            | Self::Silent(_)
            | Self::Broken(_)
            | Self::Changed
            | Self::Closed { .. } => Verdict::Soon,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_decide_whether_and_when_to_come_back() {
        let verdict = |code| Ended::from_close(code, "", None).verdict();
        assert_eq!(verdict(close::REVOKED), Verdict::Stop);
        assert_eq!(verdict(close::REPLACED), Verdict::Slowly(Duration::from_secs(300)));
        assert_eq!(verdict(close::NO_COMMON_VERSION), Verdict::Slowly(Duration::from_secs(600)));
        assert_eq!(Ended::Unauthorized.verdict(), Verdict::Slowly(Duration::from_secs(60)));
        for code in [close::NORMAL, close::GOING_AWAY, close::POLICY, close::TOO_BIG, 4999] {
            assert_eq!(verdict(code), Verdict::Soon);
        }
    }

    #[test]
    fn the_log_says_which_side_to_update() {
        let said = Some("the agent speaks protocol 1 at most: update the agent".to_owned());
        assert!(Ended::from_close(close::NO_COMMON_VERSION, "", said).to_string().ends_with("update the agent"));
    }
}
