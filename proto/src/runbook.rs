//! Runbooks on the wire: the order to run one, and what came of each step. The runbook itself travels as its file's text, so that an agent can hold it against its own
//! copy, and so that a field that an older agent does not know ends the job with words instead of the connection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// The order to run a runbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunbookOrder {
    /// The file's text.
    pub text: String,
    /// Answers to its inputs, but for secrets. They are looked at again by whoever runs it.
    #[serde(default)]
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Answers to its secret inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The way that was decided on when the job was made.
    pub way: Way,
    /// The host that it is about.
    pub host: StepHost,
    /// The site that it is about, as far as templates may name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<BTreeMap<String, String>>,
    /// Other hosts, by the names of the inputs that chose them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, StepHost>,
    /// Who ran it, as templates may name it (`job.actor`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The host's owner opened it for runbooks that are off by default.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opened: bool,
}

/// A way to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Its own agent.
    Agent,
    /// Its management interface over HTTP.
    Api,
    /// SSH from the control plane's own agent.
    Ssh,
}

impl Way {
    /// All, in the order in which they are preferred.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Api, Self::Ssh];

    /// The word on the wire, in files and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Api => "api",
            Self::Ssh => "ssh",
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A host as steps see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepHost {
    /// Its name, for log lines.
    pub name: String,
    /// What templates may name of it: `name`, `slug`, `address`, `os`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// Whoever runs the steps is on it: its `ssh` steps need no SSH.
    #[serde(default)]
    pub here: bool,
    /// How it is reached by SSH. Only the control plane's own agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshWay>,
    /// Where its things live in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Its management interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<ApiWay>,
}

/// How a host is reached by SSH.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SshWay {
    /// A name or an address.
    pub address: String,
    /// Usually 22.
    pub port: u16,
    /// As whom.
    pub user: String,
    /// A private key's file where the steps are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_path: Option<String>,
    /// A private key's text; goes before the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// The pinned fingerprint, `SHA256:…`; without one nothing is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,
    /// The algorithm of the pinned key, such as `ssh-ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key_algorithm: Option<String>,
}

/// A container that commands of a host run in unless they say `on_host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// `docker`, `podman`, or the path of such a program.
    pub cli: String,
    /// Its name or id.
    pub name: String,
    /// As whom; the container's own user where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A host's management interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiWay {
    /// Endpoints are appended to it.
    pub base_url: String,
    /// Sent as `public_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Sent as `secret_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<Secret>,
    /// Any certificate is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tls_insecure: bool,
}

/// The `summary` of a runbook's end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunbookResult {
    /// Its name.
    pub runbook: String,
    /// SHA-256 of its text.
    pub hash: String,
    /// The way that was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// Of which class it is that it failed by, or was ended by. Absent where nothing failed but what the runbook goes on past, and from older agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
    /// The steps in order, those that were not begun among them.
    pub steps: Vec<StepReport>,
    /// The same of the teardown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub teardown: Vec<StepReport>,
    /// What was read out of the output, by name.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub results: serde_json::Map<String, serde_json::Value>,
    /// Files that were made and verified, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artefacts: BTreeMap<String, ArtefactReport>,
    /// What a person should know besides, such as a result that could not be read, or what is left running.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its label.
    pub label: String,
    /// `local`, `ssh`, `scp` or `api`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it stands.
    pub state: StepState,
    /// Of its command; negative for a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What happened, why, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of which class its failure is; absent where it did not fail, and from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FailureClass>,
}

/// What kind of failure it was, for whoever decides by it. The words of [`StepReport::error`] say what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Its command ended with a code other than 0, or by a signal.
    Exit,
    /// It did not end within its time limit, or the job's; all of it was ended.
    TimedOut,
    /// The host refused the connection, did not answer, has no address, or the connection was lost.
    Unreachable,
    /// The login or the keys were refused, or the key can't be used.
    Authentication,
    /// The host showed another key or certificate than the one that is trusted, or none is trusted yet.
    HostKey,
    /// The container does not exist, does not run, or can't be entered.
    NoContainer,
    /// The management interface answered with another status or shape than expected, or what had to be in the output was not.
    Answer,
    /// A file did not come over.
    Transfer,
    /// A disk is full.
    DiskFull,
    /// Someone cancelled it.
    Cancelled,
    /// A condition of the runbook did not hold; it was not begun.
    Guard,
    /// The host's settings lack what it needs, or the host does not allow it.
    NotConfigured,
    /// Anything else, among it the words of later versions.
    #[serde(other)]
    Other,
}

impl FailureClass {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::TimedOut => "timed_out",
            Self::Unreachable => "unreachable",
            Self::Authentication => "authentication",
            Self::HostKey => "host_key",
            Self::NoContainer => "no_container",
            Self::Answer => "answer",
            Self::Transfer => "transfer",
            Self::DiskFull => "disk_full",
            Self::Cancelled => "cancelled",
            Self::Guard => "guard",
            Self::NotConfigured => "not_configured",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for FailureClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// At it.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Failed, and the job went on as its runbook says.
    Ignored,
    /// Left out, for its condition did not hold.
    Skipped,
    /// Stopped, or the agent ended while it ran: how far it came is not known.
    Broken,
}

/// A file that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtefactReport {
    /// Where it lies, on the host of its step.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Of its content, in hexadecimal digits.
    pub sha256: String,
}

/// Where a running job stands among its steps; part of its progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProgress {
    /// The step at hand, from 1.
    pub at: u32,
    /// Steps in all, without teardown.
    pub of: u32,
    /// Its label.
    pub label: String,
    /// The step belongs to the teardown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub teardown: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_its_word_and_one_of_a_later_version_is_another_failure() {
        for class in [FailureClass::Exit, FailureClass::TimedOut, FailureClass::NotConfigured, FailureClass::Other] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
            assert_eq!(serde_json::from_value::<FailureClass>(class.as_str().into()).unwrap(), class);
        }
        let report = r#"{"label": "A", "type": "ssh", "state": "failed", "class": "meteorite"}"#;
        assert_eq!(serde_json::from_str::<StepReport>(report).unwrap().class, Some(FailureClass::Other));
        let older = r#"{"label": "A", "type": "ssh", "state": "failed"}"#;
        assert_eq!(serde_json::from_str::<StepReport>(older).unwrap().class, None);
    }
}
