//! The wire: what agents, the control plane and browsers say to each other. Types, limits and
//! documentation only; no I/O, no async, no clock.
//!
//! # The conversation
//!
//! An agent opens one outbound WebSocket to `GET /agent/ws` with `Authorization: Bearer AGENT_TOKEN`.
//! Every frame is a text frame holding one JSON envelope, `{"type", "id", "payload"}`.
//!
//! 1. The agent's first frame, within [`limits::HELLO_DEADLINE_S`], is `hello`: the protocol versions it
//!    speaks and the jobs it knows. The server answers `welcome` (the version agreed on, and per job the
//!    last line that is on disk) or a fatal `error` and close [`close::NO_COMMON_VERSION`].
//! 2. From then on both sides send `heartbeat` every `heartbeat_s`; a peer silent for three of them is dead.
//! 3. The server orders with `command.run`; the agent answers `job.accepted`, then `job.started`,
//!    `log.stream` (lines numbered from 1 without a gap), `job.progress` (lossy) and `job.finished`.
//! 4. The server answers lines with `ack` once they are on disk; the agent keeps a line until then. Lines that come twice are
//!    dropped, a gap is answered with an `ack` of the last good `seq`, and the agent sends again from there.
//!
//! 5. Schedules: `schedule.set` carries the whole set, `schedule.ack` says that it is in force, `schedule.fire` reports a moment and
//!    `schedule.fired` says which job it became. [`calendar`] computes the moments, the same on both sides.
//!
//! # Version policy
//!
//! Within a version fields and types are only added. Unknown fields are ignored; an unknown `type` decodes to
//! `Unknown` and is never fatal. An envelope that does not parse is answered with `error`; the
//! connection closes with [`close::POLICY`] when that repeats.

pub mod abilities;
pub mod calendar;
mod codec;
mod down;
mod errand;
mod ids;
mod job;
mod listing;
mod operation;
mod result;
mod runbook;
mod schedule;
mod secret;
mod time;
mod up;
pub mod variables;
mod version;

pub use codec::{DecodeError, RawEnvelope, encode};
pub use down::{
    Ack, CommandCancel, CommandRun, Compression, ConfigUpdate, Hook, HookFailure, HookMoment, Limits, Overwrite,
    PlanOptions, PlanSpec, RepoSpec, RestoreSpec, ServerHeartbeat, ServerMessage, Welcome,
};
pub use errand::{GuardAnswer, GuardRequest, MAX_GUARD_BYTES, download_path, guard_path};
pub use ids::{HostId, IdError, JobId, PlanId, ProbeId, RepoId, ScheduleId, SiteId, TokenId, UserId, WaveId};
pub use job::{BackupSummary, JobKind, JobStatus, KindError, Line, LineText, LogGap, LogStream, Stream};
pub use listing::{ChangeRecord, FateRecord, FoundRecord, LockRecord, NodeKind, NodeRecord, Record, SnapshotRecord};
pub use operation::{
    BackupSpec, CheckSpec, CopySpec, DiffSpec, DumpForm, DumpSpec, FindSpec, ForgetSpec, KeepRules, LsSpec, Operation,
    PruneSpec, RepairSpec, RepairWhat, Selection, StatsMode, StatsSpec, TagSpec, UnlockSpec,
};
pub use result::{
    CheckResult, CopyResult, DiffResult, DumpResult, ForgetResult, HeldBack, ListResult, LocksResult, PruneResult,
    RepairResult, RestoreResult, StatsResult, TagResult, TamperResult, TamperVerdict, TestResult, TestStep, Tried,
    UnlockResult,
};
pub use runbook::{
    ApiWay, ArtefactReport, Container, FailureClass, RunbookOrder, RunbookResult, SshWay, StepHost, StepProgress,
    StepReport, StepState, Way,
};
pub use schedule::{
    CatchUp, ScheduleAck, ScheduleEntry, ScheduleFire, ScheduleFired, ScheduleRejection, ScheduleSet, ScheduledOrder,
};
pub use secret::Secret;
pub use time::Timestamp;
pub use up::{
    AgentHeartbeat, AgentMessage, ErrorNotice, Hello, JobAccepted, JobFinished, JobProgress, JobStarted, KnownJob,
    KnownJobState, Trouble, Usage,
};
pub use version::{PROTOCOL, ProtocolVersion, VersionMismatch, VersionRange};

/// Bounds that both sides hold. A frame outside of them is refused, never truncated in silence.
pub mod limits {
    /// Largest frame in bytes; a larger one closes with [`super::close::TOO_BIG`].
    pub const MAX_FRAME_BYTES: usize = 1 << 20;
    /// Longest line text in bytes. An agent cuts a longer one and says so in the line.
    pub const MAX_LINE_BYTES: usize = 32 * 1024;
    /// Most lines in one `log.stream`.
    pub const MAX_LINES_PER_FRAME: usize = 8192;
    /// Longest `type` or envelope `id` in bytes.
    pub const MAX_NAME_BYTES: usize = 64;
    /// Seconds that an agent has for its `hello`.
    pub const HELLO_DEADLINE_S: u64 = 10;
    /// Envelopes that do not parse before the connection closes.
    pub const MAX_BAD_FRAMES: u32 = 3;
    /// Lines are numbered in 32 bits: a job of more lines than this is cut by the agent.
    pub const MAX_SEQ: u32 = u32::MAX - 1;
}

/// WebSocket close codes with a meaning of their own.
pub mod close {
    /// The conversation is over as planned.
    pub const NORMAL: u16 = 1000;
    /// The server stops; come back with the usual back-off.
    pub const GOING_AWAY: u16 = 1001;
    /// Frames that do not parse, repeatedly.
    pub const POLICY: u16 = 1008;
    /// A frame over [`super::limits::MAX_FRAME_BYTES`].
    pub const TOO_BIG: u16 = 1009;
    /// Another connection of the same agent took over; come back slowly, for two agents share one identity.
    pub const REPLACED: u16 = 4001;
    /// No protocol version in common; retrying soon cannot help.
    pub const NO_COMMON_VERSION: u16 = 4002;
    /// The agent's identity was revoked; it must not come back by itself.
    pub const REVOKED: u16 = 4003;
}
