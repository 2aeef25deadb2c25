//! Waves: one runbook over many hosts. The first few must end well before any other begins, so many run at the same time, and where too many fail nothing more is
//! begun. What is to be done next follows from how each host stands, and from nothing else.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::{
    FieldError, HostId, JobId, JobKind, JobStatus, Timestamp, WaveId, Way,
    aftermath::{Aftermath, RESTART},
    job::Actor,
};

/// Hosts of one wave at most.
pub const MOST_HOSTS: usize = 10_000;
/// Hosts that a wave may have in work at the same time at most.
pub const MOST_AT_ONCE: u32 = 200;
/// Seconds that a job of a wave waits for its host, where nothing is said: one that is away must not hold up the others for a day.
pub const PATIENCE_S: u64 = 600;

/// How fast a wave goes, and how soon it gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// So many hosts go first and must all end well; 0: none do.
    pub canary: u32,
    /// So many at the same time.
    pub batch: u32,
    /// Percent of those begun that may not fail: reaching it stops the wave. 0: the first failure does.
    pub stop_at: u32,
}

impl Pace {
    /// The usual one of a kind: a restart goes host by host and stops at the first failure.
    #[must_use]
    pub fn of(kind: &str) -> Self {
        if kind == RESTART {
            Self { canary: 0, batch: 1, stop_at: 0 }
        } else {
            Self { canary: 1, batch: 10, stop_at: 20 }
        }
    }

    /// All that is wrong with it.
    #[must_use]
    pub fn faults(self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.canary as usize > MOST_HOSTS {
            faults.push(FieldError::new("canary", format!("must be 0 to {MOST_HOSTS}")));
        }
        if !(1..=MOST_AT_ONCE).contains(&self.batch) {
            faults.push(FieldError::new("batch", format!("must be 1 to {MOST_AT_ONCE}")));
        }
        if self.stop_at > 100 {
            faults.push(FieldError::new("stop_at", "must be 0 to 100, percent of the hosts begun"));
        }
        faults
    }
}

/// In which order the hosts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaveOrder {
    /// As they were named; those of a tag by name, behind.
    #[default]
    Given,
    /// By name.
    Name,
}

/// What runs on each host: the runbook as it was when the wave was made, so that what the first host tried is what the last one gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaveSpec {
    /// The runbook's title.
    pub title: String,
    /// SHA-256 of its text.
    pub hash: String,
    /// Its file's text.
    pub text: String,
    /// Answers to its inputs, the same for all hosts; but for secrets.
    pub answers: Map<String, Value>,
    /// Names of the secret inputs that were answered; the answers are sealed beside the wave, until its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// How fast.
    pub pace: Pace,
    /// Seconds that a job waits for its host before it is given up.
    pub expires_in_s: u64,
}

/// Identity under which a wave's secret answers are sealed.
#[must_use]
pub fn secrets_identity(wave: WaveId) -> String {
    format!("wave/{wave}/secrets")
}

/// How a host of a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It has not begun.
    NotStarted,
    /// It has a job that is not over, or that waits for health.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended well, with something to look at.
    Warning,
    /// It did not end well, or could not begin.
    Failed,
}

impl Standing {
    /// Of a host with a job. `aftermath` is what came after it, where that is waited for.
    #[must_use]
    pub fn of_job(status: JobStatus, aftermath: Option<&Aftermath>) -> Self {
        match (status, aftermath) {
            (JobStatus::Queued | JobStatus::Running, _) => Self::Running,
            (JobStatus::Failed | JobStatus::Cancelled | JobStatus::Lost, _) => Self::Failed,
            (_, Some(Aftermath::Waiting { .. })) => Self::Running,
            (_, Some(Aftermath::Unhealthy { .. })) => Self::Failed,
            (JobStatus::Succeeded, _) => Self::Succeeded,
            (JobStatus::Warning, _) => Self::Warning,
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Succeeded | Self::Warning)
    }
}

/// How many hosts stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tally {
    /// All of them.
    pub hosts: u32,
    /// Not begun.
    pub not_started: u32,
    /// In work.
    pub running: u32,
    /// Ended well.
    pub succeeded: u32,
    /// Ended well, with something to look at.
    pub warning: u32,
    /// Did not end well, or could not begin.
    pub failed: u32,
}

impl Tally {
    /// Counts.
    #[must_use]
    pub fn of(standings: &[Standing]) -> Self {
        let mut tally = Self::default();
        for standing in standings {
            tally.hosts += 1;
            *match standing {
                Standing::NotStarted => &mut tally.not_started,
                Standing::Running => &mut tally.running,
                Standing::Succeeded => &mut tally.succeeded,
                Standing::Warning => &mut tally.warning,
                Standing::Failed => &mut tally.failed,
            } += 1;
        }
        tally
    }

    /// Those that have begun, the ended ones among them.
    #[must_use]
    pub fn begun(self) -> u32 {
        self.hosts - self.not_started
    }

    /// Those that have ended.
    #[must_use]
    pub fn ended(self) -> u32 {
        self.succeeded + self.warning + self.failed
    }
}

/// Why a wave begins nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// One of those that go first did not end well.
    Canary,
    /// Too many failed.
    Failures,
    /// Someone asked for it.
    Cancel,
}

impl Stop {
    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Failures => "failures",
            Self::Cancel => "cancel",
        }
    }
}

impl std::str::FromStr for Stop {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Canary, Self::Failures, Self::Cancel].into_iter().find(|stop| stop.as_str() == word).ok_or(())
    }
}

/// Where a wave stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaveStatus {
    /// It goes on; or it was stopped, and what it began is not over yet.
    Running,
    /// All hosts ended well.
    Succeeded,
    /// Some failed, fewer than stop it, or ended with something to look at.
    Warning,
    /// It was stopped by failures.
    Failed,
    /// It was stopped by someone.
    Cancelled,
}

impl WaveStatus {
    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

impl std::str::FromStr for WaveStatus {
    type Err = ();
    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Running, Self::Succeeded, Self::Warning, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or(())
    }
}

/// What a wave's next move follows from.
#[derive(Debug, Clone, Copy)]
pub struct WaveState<'a> {
    /// How fast it may go.
    pub pace: Pace,
    /// Of each host, in the order in which they go.
    pub hosts: &'a [Standing],
    /// It was stopped. That is never taken back, whatever a job that counted as lost says later.
    pub stopped: Option<Stop>,
}

/// A wave's next move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin with these, by their places in the order.
    Start(Vec<usize>),
    /// Begin nothing more, for this reason.
    Stop(Stop, String),
    /// Until something changes.
    Wait,
    /// It is over.
    Finish(WaveStatus),
}

/// What is to be done next.
#[must_use]
pub fn next(state: &WaveState<'_>) -> Action {
    let tally = Tally::of(state.hosts);
    if state.stopped.is_none() {
        if let Some((stop, why)) = reason(state, tally) {
            return Action::Stop(stop, why);
        }
        let starts = starts(state, tally);
        if !starts.is_empty() {
            return Action::Start(starts);
        }
    }
    if tally.running > 0 {
        return Action::Wait;
    }
    Action::Finish(match state.stopped {
        Some(Stop::Cancel) => WaveStatus::Cancelled,
        Some(Stop::Canary | Stop::Failures) => WaveStatus::Failed,
        None if tally.failed > 0 || tally.warning > 0 => WaveStatus::Warning,
        None => WaveStatus::Succeeded,
    })
}

/// Those that go first.
fn canaries<'a>(state: &WaveState<'a>) -> &'a [Standing] {
    &state.hosts[..state.hosts.len().min(state.pace.canary as usize)]
}

fn reason(state: &WaveState<'_>, tally: Tally) -> Option<(Stop, String)> {
    let first = canaries(state);
    if first.contains(&Standing::Failed) {
        let who = if first.len() == 1 { "the host" } else { "one of the hosts" };
        return Some((Stop::Canary, format!("{who} that went first did not end well")));
    }
    let Pace { stop_at, .. } = state.pace;
    let reached = tally.failed > 0 && u64::from(tally.failed) * 100 >= u64::from(stop_at) * u64::from(tally.begun());
    let bound = if stop_at == 0 { "the first failure".to_owned() } else { format!("{stop_at} %") };
    reached.then(|| {
        let why =
            format!("{} of {} begun did not end well, and the wave stops at {bound}", tally.failed, tally.begun());
        (Stop::Failures, why)
    })
}

fn starts(state: &WaveState<'_>, tally: Tally) -> Vec<usize> {
    let first = canaries(state);
    let open = if first.iter().all(|standing| standing.is_good()) { state.hosts } else { first };
    let free = state.pace.batch.saturating_sub(tally.running) as usize;
    let waiting = open.iter().enumerate().filter(|(_, standing)| **standing == Standing::NotStarted);
    waiting.map(|(at, _)| at).take(free).collect()
}

/// A wave as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Wave {
    /// Identity.
    pub id: WaveId,
    /// The kind of its jobs.
    pub kind: JobKind,
    /// What runs, and how fast.
    pub spec: WaveSpec,
    /// Who asked.
    pub actor: Actor,
    /// Where it stands.
    pub status: WaveStatus,
    /// Why it begins nothing more.
    pub stop: Option<Stop>,
    /// The same in words; empty where it was not stopped.
    pub why: String,
    /// The wave whose failed and not started hosts these are.
    pub rerun_of: Option<WaveId>,
    /// The latest wave of this one's failed and not started hosts.
    pub rerun_as: Option<WaveId>,
    /// When someone asked.
    pub created_at: Timestamp,
    /// When it was over.
    pub finished_at: Option<Timestamp>,
}

/// A host of a wave, with its job.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveHost {
    /// Its place in the order, from 0.
    pub position: u32,
    /// Which host.
    pub host_id: HostId,
    /// Its name.
    pub host_name: String,
    /// It was removed since.
    pub removed: bool,
    /// Its job.
    pub job: Option<WaveJob>,
    /// Why no job could be made.
    pub refused: Option<String>,
}

impl WaveHost {
    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.job, &self.refused) {
            (Some(job), _) => Standing::of_job(job.status, job.aftermath.as_ref()),
            (None, Some(_)) => Standing::Failed,
            (None, None) => Standing::NotStarted,
        }
    }

    /// Why it did not end well, or did not begin, where something is known.
    #[must_use]
    pub fn why_not(&self) -> Option<String> {
        let of_job = |job: &WaveJob| match &job.aftermath {
            Some(aftermath @ Aftermath::Unhealthy { .. }) => Some(aftermath.words()),
            _ => job.error.clone(),
        };
        self.refused.clone().or_else(|| self.job.as_ref().and_then(of_job))
    }
}

/// What a wave's table shows of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct WaveJob {
    /// Which.
    pub id: JobId,
    /// Where it stands.
    pub status: JobStatus,
    /// What came after a restart.
    pub aftermath: Option<Aftermath>,
    /// The way to its host.
    pub way: Option<Way>,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What happened, why, what to do.
    pub error: Option<String>,
    /// What the runbook's rules read out of its output.
    pub results: Map<String, Value>,
}

#[cfg(test)]
mod tests;
