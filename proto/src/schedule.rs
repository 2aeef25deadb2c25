//! Schedules on the wire: the set that a server gives an agent, and the moments that an agent reports. The server owns schedules; the agent ticks.
//! What keeps one moment from becoming two jobs is the pair (`schedule_id`, `scheduled_at`), and that the agent names the job before anyone makes it.

use serde::{Deserialize, Serialize};

use crate::{CommandRun, JobId, JobKind, PlanSpec, RepoSpec, ScheduleId, Timestamp};

/// `schedule.set`: the whole set, always. Answered by `schedule.ack`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSet {
    /// Rises with every change.
    pub version: u64,
    /// All entries of this host.
    pub entries: Vec<ScheduleEntry>,
}

/// One entry of a schedule set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleEntry {
    /// Which entry.
    pub schedule_id: ScheduleId,
    /// Five-field cron.
    pub cron: String,
    /// IANA name.
    pub timezone: String,
    /// Whether it fires.
    pub enabled: bool,
    /// What happens to moments that were missed.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Seconds over which a fleet spreads. Which of them is this host's is a function of the entry's id alone, see [`crate::calendar`].
    #[serde(default)]
    pub jitter_s: u32,
    /// What the agent runs by itself while the server is away. Without it such a moment waits for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<ScheduledOrder>>,
}

/// What happens to moments that were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// Once, however many were missed.
    #[default]
    Once,
    /// Not at all.
    Skip,
}

/// An order without its job: what `command.run` would say if the moment came now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduledOrder {
    /// What kind of work.
    pub kind: JobKind,
    /// What restic's `--host` says.
    #[serde(default)]
    pub host_label: String,
    /// The repository, with the endpoint's own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo: Option<RepoSpec>,
    /// Paths of a backup that has no plan.
    #[serde(default)]
    pub args: Vec<String>,
    /// The plan of a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSpec>,
    /// Seconds until the job is stopped.
    pub timeout_s: u64,
}

impl ScheduledOrder {
    /// The order for one job.
    #[must_use]
    pub fn for_job(self, job_id: JobId) -> CommandRun {
        CommandRun {
            job_id,
            kind: self.kind,
            host_label: self.host_label,
            repo: self.repo,
            args: self.args,
            plan: self.plan,
            restore: None,
            operation: None,
            second_repo: None,
            runbook: None,
            timeout_s: self.timeout_s,
        }
    }
}

/// `schedule.ack`: this set is in force; entries that are not are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleAck {
    /// Version of the set.
    pub version: u64,
    /// Entries that the agent cannot follow.
    #[serde(default)]
    pub rejected: Vec<ScheduleRejection>,
}

/// An entry that the agent cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRejection {
    /// Which entry.
    pub schedule_id: ScheduleId,
    /// Why.
    pub reason: String,
}

/// `schedule.fire`: the moment of an entry has come. At most one job per pair, ever, however often this is sent. Sent until `schedule.fired`
/// answers; moments without an answer are in the next `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleFire {
    /// Which entry.
    pub schedule_id: ScheduleId,
    /// The moment it was due by its cron, without jitter.
    pub scheduled_at: Timestamp,
    /// The id that the moment's job has, chosen and written down by the agent: so that a job that it had to run alone and the one that the server
    /// makes are the same job. Absent from agents that never run alone: then the server chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The agent runs it, or has run it, by itself, because the server was away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
}

/// `schedule.fired`: what became of a moment. The agent forgets the moment then. May repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleFired {
    /// Which entry.
    pub schedule_id: ScheduleId,
    /// Which moment.
    pub scheduled_at: Timestamp,
    /// Its job. Another id than the agent's: the moment had its job already, and the agent's must not begin.
    #[serde(default)]
    pub job_id: Option<JobId>,
    /// Why there is none: the entry is disabled or gone, or the moment is none of its cron.
    #[serde(default)]
    pub reason: Option<String>,
}
