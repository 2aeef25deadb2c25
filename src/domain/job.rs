//! Jobs: one run of one kind of work on one host. `JobStatus::can_become` is the only statement of which moves exist;
//! the store guards each of them with it.

use std::{collections::BTreeMap, str::FromStr};

use crate::domain::{
    HostId, JobId, JobKind, JobStatus, Operation, PlanId, RepoId, RestoreSpec, ScheduleId, SiteId, Timestamp, Way,
    aftermath::Aftermath,
};

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// In which role.
    pub kind: ActorKind,
    /// Their id; empty for the system.
    pub id: String,
    /// Their name, for people; empty for the system.
    pub name: String,
}

impl Actor {
    /// Flotilla itself.
    #[must_use]
    pub fn system() -> Self {
        Self { kind: ActorKind::System, id: String::new(), name: String::new() }
    }
}

/// What an actor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person in the browser.
    User,
    /// A script with an API token.
    Token,
    /// A schedule.
    Schedule,
    /// Flotilla itself.
    System,
}

impl ActorKind {
    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::Schedule => "schedule",
            Self::System => "system",
        }
    }
}

impl FromStr for ActorKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::User, Self::Token, Self::Schedule, Self::System].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Number of a job within the store: short, dense, the upper half of its log chunks' keys. Never leaves the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobNo(pub i64);

/// What a job needs beyond its kind, host and repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct JobInput {
    /// Paths of a backup without a plan.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Details of a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreSpec>,
    /// Details of other kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The runbook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<Box<RunbookInput>>,
}

/// A runbook as it was when its job was made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunbookInput {
    /// Its title.
    pub title: String,
    /// SHA-256 of its text.
    pub hash: String,
    /// Its file's text.
    pub text: String,
    /// Answers to its inputs, but for secrets; of a host its id.
    pub answers: serde_json::Map<String, serde_json::Value>,
    /// Names of the secret inputs that were answered; the answers are sealed beside the job, until its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Other hosts, by the inputs that chose them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, HostId>,
    /// The way to the host.
    pub way: Way,
    /// No other runbook runs on the host meanwhile.
    pub alone: bool,
}

impl JobInput {
    /// Whether a job of this kind and these details may delete something in its repository, or replace it.
    #[must_use]
    pub fn removes(&self, kind: &JobKind) -> bool {
        let dry = match &self.operation {
            Some(Operation::Forget(spec)) => spec.dry_run,
            Some(Operation::Prune(spec)) => spec.dry_run,
            Some(Operation::Repair(spec)) => spec.dry_run,
            _ => false,
        };
        matches!(kind, JobKind::Forget | JobKind::Prune | JobKind::Tag | JobKind::Repair) && !dry
    }

    /// The repository that a copy writes to.
    #[must_use]
    pub fn second_repo(&self) -> Option<RepoId> {
        match &self.operation {
            Some(Operation::Copy(spec)) => Some(spec.to),
            _ => None,
        }
    }
}

/// What a job is about, beyond the host whose agent runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct About {
    /// The host, where another one's agent runs the job.
    pub host: Option<HostId>,
    /// The site.
    pub site: Option<SiteId>,
}

/// Identity under which a job's secret answers are sealed.
#[must_use]
pub fn secrets_identity(job: JobId) -> String {
    format!("job/{job}/secrets")
}

/// A job that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its identity.
    pub id: JobId,
    /// Whose agent runs it.
    pub host_id: HostId,
    /// What it is about besides.
    pub about: About,
    /// What it does.
    pub kind: JobKind,
    /// Who asked.
    pub actor: Actor,
    /// The schedule that asked, and its moment. At most one job per pair.
    pub moment: Option<(ScheduleId, Timestamp)>,
    /// Its agent runs it, or has run it, by itself while this server was away.
    pub ran_alone: bool,
    /// The plan it follows.
    pub plan_id: Option<PlanId>,
    /// The repository it works on.
    pub repo_id: Option<RepoId>,
    /// Details.
    pub input: JobInput,
    /// The job that this one repeats.
    pub rerun_of: Option<JobId>,
    /// Seconds until the agent stops it.
    pub timeout_s: u64,
    /// A job that no agent has taken by then is given up. `None`: it waits for as long as it takes.
    pub expires_at: Option<Timestamp>,
}

#[cfg(test)]
impl NewJob {
    /// One that the system asks for, of nothing but its kind; a minute long.
    pub(crate) fn bare(id: JobId, host_id: HostId, kind: JobKind) -> Self {
        Self {
            id,
            host_id,
            about: About::default(),
            kind,
            actor: Actor::system(),
            moment: None,
            ran_alone: false,
            plan_id: None,
            repo_id: None,
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 60,
            expires_at: None,
        }
    }
}

/// A job as stored. Names of host, plan and repository come along, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Number within the store.
    pub no: JobNo,
    /// Identity.
    pub id: JobId,
    /// Whose agent runs it. What people are shown is [`Job::shown_host`].
    pub host_id: HostId,
    /// That host's name.
    pub host_name: String,
    /// The host that it is about, where another one's agent runs it, and its name.
    pub about: Option<(HostId, String)>,
    /// The site that it is about.
    pub site_id: Option<SiteId>,
    /// What it does.
    pub kind: JobKind,
    /// Where it stands.
    pub status: JobStatus,
    /// Who asked.
    pub actor: Actor,
    /// The schedule that asked.
    pub schedule_id: Option<ScheduleId>,
    /// The moment that it was due, by its schedule.
    pub scheduled_at: Option<Timestamp>,
    /// Its agent ran it by itself while this server was away.
    pub ran_alone: bool,
    /// The plan it follows.
    pub plan_id: Option<PlanId>,
    /// That plan's name.
    pub plan_name: Option<String>,
    /// The repository it works on.
    pub repo_id: Option<RepoId>,
    /// That repository's name.
    pub repo_name: Option<String>,
    /// Details.
    pub input: JobInput,
    /// The job that this one repeats.
    pub rerun_of: Option<JobId>,
    /// The latest job that repeats this one.
    pub rerun_as: Option<JobId>,
    /// When someone asked.
    pub created_at: Timestamp,
    /// When it was last sent to its host.
    pub dispatched_at: Option<Timestamp>,
    /// When the agent took it.
    pub accepted_at: Option<Timestamp>,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Someone asked for it to stop.
    pub cancel_requested_at: Option<Timestamp>,
    /// The process's exit code; negative for a signal.
    pub exit_code: Option<i32>,
    /// What happened, why, what to do.
    pub error: Option<String>,
    /// Typed result of the kind.
    pub summary: Option<serde_json::Value>,
    /// Lines on disk; also the last line's number.
    pub log_lines: u32,
    /// Lines were dropped, and a line says how many.
    pub log_truncated: bool,
    /// Seconds until the agent stops it.
    pub timeout_s: u64,
    /// When it is given up, if no agent has taken it.
    pub expires_at: Option<Timestamp>,
    /// When the retention of logs removed its lines.
    pub log_removed_at: Option<Timestamp>,
    /// Of a restart that ended well: whether health came back.
    pub aftermath: Option<Aftermath>,
}

impl Job {
    /// The host that it is about: under which it is shown and found, whose places it takes.
    #[must_use]
    pub fn seat(&self) -> HostId {
        self.about.as_ref().map_or(self.host_id, |(id, _)| *id)
    }

    /// That host's name.
    #[must_use]
    pub fn shown_host(&self) -> &str {
        self.about.as_ref().map_or(&self.host_name, |(_, name)| name)
    }

    /// The way that its steps take to the host; none for what is no runbook.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.input.runbook.as_ref().map(|book| book.way)
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// One of the final states.
    pub status: JobStatus,
    /// When.
    pub at: Timestamp,
    /// The process's exit code.
    pub exit_code: Option<i32>,
    /// What happened, why, what to do.
    pub error: Option<String>,
    /// Typed result.
    pub summary: Option<serde_json::Value>,
    /// Lines were dropped.
    pub log_truncated: bool,
}

/// When a job whose agent has been gone since `gone` counts as lost: twice its timeout later, and at least so many seconds.
#[must_use]
pub fn lost_at(gone: Timestamp, timeout_s: u64, at_least_s: i64) -> Timestamp {
    gone.plus_s(i64::try_from(timeout_s.saturating_mul(2)).unwrap_or(i64::MAX).max(at_least_s))
}

/// Which moves exist.
pub trait Transitions {
    /// Whether a job in this state may move to `next`.
    fn can_become(self, next: JobStatus) -> bool;
}

impl Transitions for JobStatus {
    fn can_become(self, next: JobStatus) -> bool {
        match (self, next) {
            (Self::Queued, Self::Running) => true,
            // An order may end before it runs: cancelled, refused by the agent, given up.
            (Self::Queued | Self::Running, end) => end.is_final(),
            // The agent was given up too early and tells the true end.
            (Self::Lost, end) => end.is_final() && end != Self::Lost,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_lost_after_twice_its_timeout_and_not_before_the_least() {
        let gone = Timestamp::from_unix_ms(0);
        assert_eq!(lost_at(gone, 3600, 86_400), gone.plus_s(86_400));
        assert_eq!(lost_at(gone, 86_400, 86_400), gone.plus_s(172_800));
        assert!(lost_at(gone, u64::MAX, 0) > gone.plus_s(1 << 33));
    }

    #[test]
    fn a_final_state_is_left_only_from_lost_to_a_true_end() {
        for from in JobStatus::ALL {
            for to in JobStatus::ALL {
                let allowed = from.can_become(to);
                if from.is_final() && from != JobStatus::Lost {
                    assert!(!allowed, "{from} → {to}");
                }
                if to == JobStatus::Queued {
                    assert!(!allowed, "{from} → {to}");
                }
            }
        }
        assert!(JobStatus::Lost.can_become(JobStatus::Succeeded));
        assert!(!JobStatus::Lost.can_become(JobStatus::Lost));
        assert!(JobStatus::Queued.can_become(JobStatus::Running));
        assert!(!JobStatus::Running.can_become(JobStatus::Running));
    }
}
