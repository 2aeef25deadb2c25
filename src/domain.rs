//! What Flotilla knows and the rules it keeps, as plain types: no storage, no network, no markup.
//! Ids, times and words that also travel on the wire are the wire's own, re-exported here and nowhere else.

pub mod address;
pub mod aftermath;
pub mod alert;
pub mod event;
pub mod facet;
pub mod guard;
pub mod health;
pub mod host;
pub mod job;
pub mod lock;
pub mod network;
pub mod picking;
pub mod plan;
pub mod probe;
pub mod protection;
pub mod queue;
pub mod reach;
pub mod repo;
pub mod retention;
pub mod schedule;
pub mod second_copy;
pub mod site;
pub mod snapshot;
pub mod standing;
pub mod token;
pub mod upkeep;
pub mod user;
pub mod wave;

pub use flotilla_proto::{
    AgentHeartbeat as Vitals, BackupSpec, BackupSummary, ChangeRecord, CheckResult, CheckSpec, Compression, Container,
    CopyResult, CopySpec, DiffResult, DiffSpec, DumpForm, DumpResult, DumpSpec, FailureClass, FateRecord, FindSpec,
    ForgetResult, ForgetSpec, FoundRecord, HeldBack, Hook, HookFailure, HookMoment, HostId, IdError, JobId, JobKind,
    JobProgress, JobStatus, KeepRules, Line, LineText, ListResult, LockRecord, LocksResult, LsSpec, NodeKind,
    NodeRecord, Operation, Overwrite, PROTOCOL, PlanId, PlanOptions, ProbeId, PruneResult, PruneSpec, Record,
    RepairResult, RepairSpec, RepairWhat, RepoId, RestoreResult, RestoreSpec, RunbookResult, ScheduleId, Secret,
    Selection, SiteId, SnapshotRecord, StatsMode, StatsResult, StatsSpec, StepProgress, StepReport, StepState, Stream,
    TagResult, TagSpec, TamperResult, TamperVerdict, TestResult, TestStep, Timestamp, TokenId, Tried, Trouble,
    UnlockResult, UnlockSpec, UserId, VersionRange, WaveId, Way, abilities, close, variables,
};

/// A field that does not hold what it should, for an answer that names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// The field, as the request names it; nested ones with dots.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldError {
    /// An error of one field.
    #[must_use]
    pub fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

/// A name as people give it: 1 to 100 characters, no control characters, trimmed.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    if name.is_empty() {
        return Err("must not be empty");
    }
    if name.chars().count() > 100 {
        return Err("must have at most 100 characters");
    }
    // Marks that turn the direction of writing would turn what stands beside the name, too.
    let turns = |c: char| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    if name.chars().any(|c| c.is_control() || turns(c)) {
        return Err("must not contain control characters");
    }
    Ok(name.to_owned())
}

/// A tag: 1 to 40 of letters, digits, `-`, `_`, `.`, `:`, `/`; lower-cased.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_tag(text: &str) -> Result<String, &'static str> {
    let tag = text.trim().to_lowercase();
    let fits = |c: char| c.is_alphanumeric() || "-_.:/".contains(c);
    if tag.is_empty() || tag.chars().count() > 40 || !tag.chars().all(fits) {
        return Err("a tag has 1 to 40 letters, digits or the characters - _ . : /");
    }
    Ok(tag)
}
