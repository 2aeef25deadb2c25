//! What the server says to agents. Each type tells when it is sent and what answers it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ErrorNotice, HostId, JobId, JobKind, Operation, PlanId, ProtocolVersion, RawEnvelope, RepoId, RunbookOrder,
    ScheduleFired, ScheduleSet, Secret,
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
    /// These credentials may delete. They are never written to disk, not even sealed: a run that its agent's end cuts off is followed to its end,
    /// and what would need them afterwards is left out and said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_only: bool,
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
    /// Commands around it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
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
    /// Files on the host that hold exclude patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_files: Vec<String>,
    /// Leave out files over this size: `100M`, `2G`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_larger_than: Option<String>,
    /// How hard data is packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Priority of the process, 0 to 19; 19 is the most polite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<u8>,
    /// Read and write only when nobody else does (`ionice -c3`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub io_idle: bool,
    /// Files read at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_concurrency: Option<u32>,
    /// Make no snapshot where nothing changed. restic 0.17 and later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skip_if_unchanged: bool,
    /// Do not count files beforehand: less work, no percentage.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_scan: bool,
    /// Instead of paths: the output of a command that the endpoint's own configuration names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_command: Option<String>,
    /// The name under which that output stands in the snapshot, such as `/db.sql`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin_filename: Option<String>,
    /// Windows: read from a shadow copy.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow_copy: bool,
}

/// How hard restic packs data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// restic's default.
    #[default]
    Auto,
    /// Not at all.
    Off,
    /// As small as it gets.
    Max,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookMoment {
    /// Before restic starts.
    Before,
    /// After restic, whatever came of it, and also where the backup was called off.
    After,
    /// After a backup that ended as failed.
    Failure,
    /// After a backup that made its snapshot, whole or not.
    Success,
}

/// What a hook's failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookFailure {
    /// A line in the log, nothing else.
    Ignore,
    /// Before: the backup is not begun, and the job has failed. Elsewhere as `fail`.
    #[default]
    Abort,
    /// The backup goes on; the job has failed in the end, with its snapshot.
    Fail,
}

/// A command around a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When.
    pub at: HookMoment,
    /// The name of a command in the endpoint's own configuration, or of a script in its folder of hooks; where the endpoint says
    /// `allow_remote_commands = true` also a line for its shell, written as `sh: …`.
    pub run: String,
    /// Seconds until it is stopped with all that it started.
    #[serde(default = "hook_timeout_s")]
    pub timeout_s: u64,
    /// What its failure means.
    #[serde(default)]
    pub on_failure: HookFailure,
}

fn hook_timeout_s() -> u64 {
    300
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
    /// Only say what would be done: counts, bytes, free space, what would be overwritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Whose snapshots `latest` is about, where that is not the host that restores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_host: Option<String>,
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
    /// The details of other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Where a copy goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_repo: Option<RepoSpec>,
    /// The runbook, of a job that is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<Box<RunbookOrder>>,
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
