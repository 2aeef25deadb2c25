//! What an agent says. Each type tells when it is sent, what answers it and whether it may come twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    JobId, LogStream, RawEnvelope, ScheduleAck, ScheduleFire, StepProgress, Timestamp, VersionRange,
    codec::{DecodeError, payload},
    job::JobStatus,
    limits,
};

/// Any message of an agent. `log.stream` borrows from the frame: it is the hot path.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentMessage<'a> {
    /// First frame of a connection.
    Hello(Box<Hello>),
    /// Sign of life.
    Heartbeat(AgentHeartbeat),
    /// The order is safe with the agent.
    JobAccepted(JobAccepted),
    /// The agent holds this schedule set.
    ScheduleAck(ScheduleAck),
    /// A schedule's moment has come.
    ScheduleFire(ScheduleFire),
    /// The process runs.
    JobStarted(JobStarted),
    /// How far it is.
    JobProgress(JobProgress),
    /// Lines of its log.
    LogStream(LogStream<'a>),
    /// The end.
    JobFinished(Box<JobFinished>),
    /// Something that the agent could not do with a frame.
    Error(ErrorNotice),
    /// A type of a newer version: to be logged and ignored.
    Unknown(String),
}

impl<'a> AgentMessage<'a> {
    /// Reads the payload by the envelope's type.
    ///
    /// # Errors
    /// [`DecodeError`] where the payload is not of its type's shape, or breaks a limit.
    pub fn decode(envelope: &RawEnvelope<'a>) -> Result<Self, DecodeError> {
        Ok(match envelope.kind.as_ref() {
            "log.stream" => {
                let message: LogStream<'a> = payload(envelope)?;
                check_lines(&message)?;
                Self::LogStream(message)
            }
            "job.progress" => Self::JobProgress(payload(envelope)?),
            "heartbeat" => Self::Heartbeat(payload(envelope)?),
            "job.accepted" => Self::JobAccepted(payload(envelope)?),
            "job.started" => Self::JobStarted(payload(envelope)?),
            "job.finished" => Self::JobFinished(payload(envelope)?),
            "schedule.ack" => Self::ScheduleAck(payload(envelope)?),
            "schedule.fire" => Self::ScheduleFire(payload(envelope)?),
            "hello" => Self::Hello(payload(envelope)?),
            "error" => Self::Error(payload(envelope)?),
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// The envelope's `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Hello(_) => "hello",
            Self::Heartbeat(_) => "heartbeat",
            Self::JobAccepted(_) => "job.accepted",
            Self::ScheduleAck(_) => "schedule.ack",
            Self::ScheduleFire(_) => "schedule.fire",
            Self::JobStarted(_) => "job.started",
            Self::JobProgress(_) => "job.progress",
            Self::LogStream(_) => "log.stream",
            Self::JobFinished(_) => "job.finished",
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
            Self::Hello(p) => crate::encode(kind, id, p),
            Self::Heartbeat(p) => crate::encode(kind, id, p),
            Self::JobAccepted(p) => crate::encode(kind, id, p),
            Self::ScheduleAck(p) => crate::encode(kind, id, p),
            Self::ScheduleFire(p) => crate::encode(kind, id, p),
            Self::JobStarted(p) => crate::encode(kind, id, p),
            Self::JobProgress(p) => crate::encode(kind, id, p),
            Self::LogStream(p) => crate::encode(kind, id, p),
            Self::JobFinished(p) => crate::encode(kind, id, p),
            Self::Error(p) => crate::encode(kind, id, p),
            Self::Unknown(_) => crate::encode(kind, id, &serde_json::Map::new()),
        }
    }
}

fn check_lines(message: &LogStream<'_>) -> Result<(), DecodeError> {
    let refuse = |why: &str| Err(DecodeError::Limit(why.to_owned()));
    if message.lines.is_empty() {
        return refuse("log.stream without lines");
    }
    if message.lines.len() > limits::MAX_LINES_PER_FRAME {
        return refuse("log.stream with more lines than a frame may hold");
    }
    // In 64 bits, because counting on from the last number of 32 would overflow.
    for (expected, line) in (u64::from(message.lines[0].seq)..).zip(&message.lines) {
        if u64::from(line.seq) != expected || line.seq == 0 || line.seq > limits::MAX_SEQ {
            return refuse("log.stream whose seq does not rise by one from line to line");
        }
        if line.text.0.len() > limits::MAX_LINE_BYTES {
            return refuse("log.stream with a line over the length limit");
        }
        if line.text.0.contains(['\n', '\r']) {
            return refuse("log.stream with a line break inside a line");
        }
    }
    Ok(())
}

/// `hello`, first frame, once a connection, within 10 s. Answered by `welcome`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions that the agent speaks.
    pub protocol: VersionRange,
    /// What it can do beyond the version: `restic`, `jobs`, …
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The agent's own version, semver.
    pub agent_version: String,
    /// `linux`, `windows`, …
    pub os: String,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// The machine's name for itself.
    pub hostname: String,
    /// Changes with each boot of the machine; empty where unknown.
    #[serde(default)]
    pub boot_id: String,
    /// The restic that the agent found; absent where there is none.
    #[serde(default)]
    pub restic_version: Option<String>,
    /// Jobs running, or ended and not yet acknowledged.
    #[serde(default)]
    pub jobs: Vec<KnownJob>,
    /// Version of the schedule set that the agent holds.
    #[serde(default)]
    pub schedule_version: u64,
    /// Moments that came due and that the server has not answered yet, oldest first. They are taken before `jobs` is looked at, so that a job
    /// that ran while the server was away is known by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fires: Vec<ScheduleFire>,
}

/// A job that the agent still has something to say about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownJob {
    /// Which job.
    pub job_id: JobId,
    /// The last line that the agent has for it, 0 for none.
    pub last_seq: u32,
    /// Whether it still runs.
    pub state: KnownJobState,
}

/// Whether a known job still runs at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownJobState {
    /// Accepted and waiting, or running.
    Running,
    /// Over; its end was not acknowledged yet.
    Ended,
}

/// `heartbeat`, every `heartbeat_s`. Answered by the server's own. All values are optional: not every system has them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentHeartbeat {
    /// Load averages over 1, 5 and 15 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<[f64; 3]>,
    /// Free and total bytes per mount point.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub disk: BTreeMap<String, Usage>,
    /// Available and total memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem: Option<Usage>,
    /// What is wrong at the agent right now, for its host's page. Empty where all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// Something that an operator should know of a host. It lasts until a heartbeat comes without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Stable word: `spool_disk_full`, `spool_full`, `spool_torn`, `schedules_too_old`, `schedule_rejected`, …
    pub code: String,
    /// What happened, why, what to do.
    pub message: String,
}

/// How much of something is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes left.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
}

/// `job.accepted`: the order will run or end truthfully. A repeated `command.run` of a known job is answered again
/// and runs nothing twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobAccepted {
    /// Which job.
    pub job_id: JobId,
}

/// `job.started`: the process runs. May repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// Which job.
    pub job_id: JobId,
    /// Lines of it that came before.
    #[serde(default)]
    pub seq: u32,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// Process id, where there is one.
    #[serde(default)]
    pub pid: Option<u32>,
}

/// `job.progress`: at most one a second, lossy, never stored line by line, never acknowledged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// Which job; absent only inside a job's own record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// 0 to 100.
    #[serde(default)]
    pub percent: f64,
    /// Bytes done.
    #[serde(default)]
    pub bytes_done: u64,
    /// Bytes in all; 0 while unknown.
    #[serde(default)]
    pub bytes_total: u64,
    /// Files done.
    #[serde(default)]
    pub files_done: u64,
    /// Files in all; 0 while unknown.
    #[serde(default)]
    pub files_total: u64,
    /// Seconds left; absent while unknown.
    #[serde(default)]
    pub eta_s: Option<u64>,
    /// The file at hand.
    #[serde(default)]
    pub current: Option<String>,
    /// The step at hand, of a runbook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepProgress>,
}

/// `job.finished`: the end. Sent until acknowledged with `finished: true`; counts only when the server has all lines up to `last_seq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFinished {
    /// Which job.
    pub job_id: JobId,
    /// Number of its last line, 0 for none.
    pub last_seq: u32,
    /// When, by the agent's clock.
    pub at: Timestamp,
    /// How: one of the final states.
    pub status: JobStatus,
    /// The process's exit code; negative for a signal; absent where none ran.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// What happened, why, what to do; absent where all went well.
    #[serde(default)]
    pub error: Option<String>,
    /// A typed result of the kind, for instance [`crate::BackupSummary`].
    #[serde(default)]
    pub summary: Option<serde_json::Value>,
    /// The log was cut: lines were dropped, and a `system` line says how many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log_truncated: bool,
}

/// `error`, both directions: a frame was refused. After a fatal one the connection closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorNotice {
    /// Stable word: `bad_frame`, `no_common_version`, `not_your_job`, `unknown_job`, …
    pub code: String,
    /// What happened, why, what to do.
    pub message: String,
    /// Id of the envelope that it is about.
    #[serde(default)]
    pub regarding: Option<String>,
}
