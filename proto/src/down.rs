//! What the server says to agents. Each type tells when it is sent and what answers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ErrorNotice, HostId, JobId, JobKind, PlanId, ProtocolVersion, RawEnvelope, RepoId, ScheduleFired, ScheduleSet,
    Secret,
    codec::{DecodeError, payload},
};

/// Any message of the server to an agent.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// Answer to `hello`.
    Welcome(Welcome),
    /// Sign of life.
    Heartbeat(ServerHeartbeat),
    /// Limits and repositories.
    ConfigUpdate(Box<ConfigUpdate>),
    /// An order.
    CommandRun(Box<CommandRun>),
    /// Stop a job.
    CommandCancel(CommandCancel),
    /// The whole schedule set.
    ScheduleSet(ScheduleSet),
    /// What became of a moment that the agent reported.
    ScheduleFired(ScheduleFired),
    /// Lines, or an end, are on disk.
    Ack(Ack),
    /// A frame was refused.
    Error(ErrorNotice),
    /// A type of a newer version: to be logged and ignored.
    Unknown(String),
}

impl ServerMessage {
    /// Reads the payload by the envelope's type.
    ///
    /// # Errors
    /// [`DecodeError`] where the payload is not of its type's shape.
    pub fn decode(envelope: &RawEnvelope<'_>) -> Result<Self, DecodeError> {
        Ok(match envelope.kind.as_ref() {
            "ack" => Self::Ack(payload(envelope)?),
            "heartbeat" => Self::Heartbeat(payload(envelope)?),
            "command.run" => Self::CommandRun(payload(envelope)?),
            "command.cancel" => Self::CommandCancel(payload(envelope)?),
            "config.update" => Self::ConfigUpdate(payload(envelope)?),
            "schedule.set" => Self::ScheduleSet(payload(envelope)?),
            "schedule.fired" => Self::ScheduleFired(payload(envelope)?),
            "welcome" => Self::Welcome(payload(envelope)?),
            "error" => Self::Error(payload(envelope)?),
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// The envelope's `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Welcome(_) => "welcome",
            Self::Heartbeat(_) => "heartbeat",
            Self::ConfigUpdate(_) => "config.update",
            Self::CommandRun(_) => "command.run",
            Self::CommandCancel(_) => "command.cancel",
            Self::ScheduleSet(_) => "schedule.set",
            Self::ScheduleFired(_) => "schedule.fired",
            Self::Ack(_) => "ack",
            Self::Error(_) => "error",
            Self::Unknown(kind) => kind,
        }
    }

    /// The frame's text, under the envelope id `id`.
    ///
    /// # Errors
    /// [`DecodeError::TooBig`] past the frame limit.
    pub fn encode(&self, id: &str) -> Result<String, DecodeError> {
        let kind = self.kind();
        match self {
            Self::Welcome(p) => crate::encode(kind, id, p),
            Self::Heartbeat(p) => crate::encode(kind, id, p),
            Self::ConfigUpdate(p) => crate::encode(kind, id, p),
            Self::CommandRun(p) => crate::encode(kind, id, p),
            Self::CommandCancel(p) => crate::encode(kind, id, p),
            Self::ScheduleSet(p) => crate::encode(kind, id, p),
            Self::ScheduleFired(p) => crate::encode(kind, id, p),
            Self::Ack(p) => crate::encode(kind, id, p),
            Self::Error(p) => crate::encode(kind, id, p),
            Self::Unknown(_) => crate::encode(kind, id, &serde_json::Map::new()),
        }
    }
}

/// `welcome`, answer to `hello`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version agreed on.
    pub protocol: ProtocolVersion,
    /// Who the agent is.
    pub host_id: HostId,
    /// Seconds between heartbeats; silence of three of them means that the peer is dead.
    pub heartbeat_s: u64,
    /// For each job named in `hello`: how much of it is on disk here. A job the server does not know is absent: forget it.
    #[serde(default)]
    pub acked: BTreeMap<JobId, u32>,
    /// Jobs named in `hello` whose end is on disk already: nothing more to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<JobId>,
}

/// `heartbeat`, echo of the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerHeartbeat {}

/// `config.update`: repositories and limits that the agent needs. Replaces what came before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConfigUpdate {
    /// Repositories that plans of this host use, with their append-only credentials.
    #[serde(default)]
    pub repos: Vec<RepoSpec>,
    /// Bounds on what the agent does at once.
    #[serde(default)]
    pub limits: Limits,
}

/// Bounds on what an agent does at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Jobs that run at the same time.
    pub concurrent_jobs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { concurrent_jobs: 2 }
    }
}

/// A repository as an endpoint sees it: address and append-only credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepoSpec {
    /// Which repository.
    pub id: RepoId,
    /// restic's address without credentials, such as `rest:https://vault:8000/web-1/`.
    pub url: String,
    /// The repository's password.
    pub password: Secret,
    /// User of a REST server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password of that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_password: Option<Secret>,
    /// More environment for restic, such as `AWS_ACCESS_KEY_ID`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Secret>,
    /// PEM of the authority that signed the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ca_pem: Option<String>,
    /// Whether a missing repository may be created.
    #[serde(default)]
    pub init: bool,
}

/// A plan as an endpoint sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanSpec {
    /// Which plan.
    pub id: PlanId,
    /// Its name, for log lines.
    pub name: String,
    /// What to back up.
    pub paths: Vec<String>,
    /// restic's exclude patterns.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// How.
    #[serde(default)]
    pub options: PlanOptions,
}

/// How a backup runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanOptions {
    /// Stay on the file systems of the given paths.
    pub one_file_system: bool,
    /// Leave out folders that hold a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// Upload at most this many KiB a second; 0 for no limit.
    pub limit_upload_kib: u32,
    /// Download at most this many KiB a second; 0 for no limit.
    pub limit_download_kib: u32,
    /// Tags on the snapshot.
    pub backup_tags: Vec<String>,
    /// Log every file (restic's `--verbose=2`).
    pub log_files: bool,
}

/// When to replace a file that exists at a restore's target. restic before 0.17 knows only `always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overwrite {
    /// Replace it.
    #[default]
    Always,
    /// Replace it if its content differs.
    IfChanged,
    /// Replace it if the snapshot's is newer.
    IfNewer,
    /// Leave it.
    Never,
}

/// What to bring back, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreSpec {
    /// A snapshot's id, or `latest` (of this host).
    pub snapshot: String,
    /// Only these paths of the snapshot; all where empty.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Folder to restore into; `/` for the original place.
    pub target: String,
    /// What happens to files that exist there.
    #[serde(default)]
    pub overwrite: Overwrite,
}

/// `command.run`: an order. Answered by `job.accepted`; sent again it runs nothing twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandRun {
    /// Which job.
    pub job_id: JobId,
    /// What kind of work.
    pub kind: JobKind,
    /// What restic's `--host` says: stable for the host's life, so that parents are found.
    #[serde(default)]
    pub host_label: String,
    /// The repository, for restic's kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoSpec>,
    /// Paths of a backup that has no plan; otherwise empty.
    #[serde(default)]
    pub args: Vec<String>,
    /// The plan of a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSpec>,
    /// The details of a restore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSpec>,
    /// Seconds until the job is stopped.
    pub timeout_s: u64,
}

/// `command.cancel`: stop a job. Answered by its `job.finished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCancel {
    /// Which job.
    pub job_id: JobId,
}

/// `ack`: all lines up to `seq` are on disk. Also the answer to a gap: send again from `seq + 1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Whose lines.
    pub job_id: JobId,
    /// Last line on disk.
    pub seq: u32,
    /// The end is on disk too: forget the job.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
}
