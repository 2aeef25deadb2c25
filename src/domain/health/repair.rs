//! The way out of damage, step by step: what each step means, what it may cost, and whether it was done since the damage was found. The order is
//! restic's own: first what loses nothing, then what gives up as little as it can, then a look at everything.

use crate::domain::{
    CheckResult, CheckSpec, JobId, JobKind, JobStatus, Operation, PruneSpec, RepairSpec, RepairWhat, Timestamp,
    job::{Job, JobNo},
    user::Role,
};

/// A step of the guided repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The index is made anew from what is there.
    Index,
    /// What can still be read of damaged packs is written anew.
    Packs,
    /// Hosts that still have the files fill the gaps.
    BackUp,
    /// Snapshots are written anew without what is lost.
    Snapshots,
    /// What nobody needs any more is removed.
    Prune,
    /// All data is read.
    Check,
}

impl Step {
    /// All of them, in the order in which they are to be done.
    pub const ALL: [Self; 6] = [Self::Index, Self::Packs, Self::BackUp, Self::Snapshots, Self::Prune, Self::Check];

    /// The word for it in an address.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Packs => "packs",
            Self::BackUp => "backup",
            Self::Snapshots => "snapshots",
            Self::Prune => "prune",
            Self::Check => "check",
        }
    }

    /// The step of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == word)
    }

    /// Whether something may be gone afterwards that was there before.
    #[must_use]
    pub fn may_lose(self) -> bool {
        matches!(self, Self::Packs | Self::Snapshots | Self::Prune)
    }

    /// What someone must be to order it, as of the kinds of jobs that it is made of: what only looks is for operators.
    #[must_use]
    pub fn least_role(self, dry_run: bool) -> Role {
        let looks = matches!(self, Self::Check | Self::BackUp) || (dry_run && self.has_dry_run());
        if looks { Role::Operator } else { Role::Admin }
    }

    /// Whether restic can say beforehand what it would do.
    #[must_use]
    pub fn has_dry_run(self) -> bool {
        matches!(self, Self::Snapshots | Self::Prune)
    }

    /// What a job of the step does; `None` for the backups, which are the hosts' own.
    #[must_use]
    pub fn operation(self, damage: &CheckResult, dry_run: bool) -> Option<(JobKind, Operation)> {
        let repair =
            |what, packs, forget| (JobKind::Repair, Operation::Repair(RepairSpec { what, packs, forget, dry_run }));
        match self {
            Self::Index => Some(repair(RepairWhat::Index, Vec::new(), false)),
            Self::Packs => Some(repair(RepairWhat::Packs, damage.broken_packs.clone(), false)),
            Self::BackUp => None,
            Self::Snapshots => Some(repair(RepairWhat::Snapshots, Vec::new(), true)),
            Self::Prune => Some((JobKind::Prune, Operation::Prune(PruneSpec { max_unused: None, dry_run }))),
            Self::Check => {
                Some((JobKind::Check, Operation::Check(CheckSpec { read_data: true, ..CheckSpec::default() })))
            }
        }
    }

    /// The step that a job is of, and whether it only said what it would do.
    fn of_job(job: &Job) -> Option<(Self, bool)> {
        match (&job.kind, &job.input.operation) {
            (JobKind::Repair, Some(Operation::Repair(spec))) => {
                let step = match spec.what {
                    RepairWhat::Index => Self::Index,
                    RepairWhat::Packs => Self::Packs,
                    RepairWhat::Snapshots => Self::Snapshots,
                };
                Some((step, spec.dry_run))
            }
            (JobKind::Prune, Some(Operation::Prune(spec))) => Some((Self::Prune, spec.dry_run)),
            (JobKind::Prune, _) => Some((Self::Prune, false)),
            (JobKind::Check, Some(Operation::Check(spec))) if spec.read_data => Some((Self::Check, false)),
            (JobKind::Backup, _) => Some((Self::BackUp, super::is_dry(job))),
            _ => None,
        }
    }
}

/// A job of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub job: JobId,
    /// How it stands.
    pub status: JobStatus,
    /// When it ended, or was asked for while it goes on.
    pub at: Timestamp,
    /// It only said what it would do.
    pub dry_run: bool,
}

/// How a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepState {
    /// Which.
    pub step: Step,
    /// Its latest job since the damage was found.
    pub last: Option<Done>,
    /// It went well since, not as a dry run.
    pub done: bool,
    /// Why there is nothing to do in it.
    pub needless: Option<&'static str>,
}

/// The plan: each step, with what was done since the check `found`. `jobs` are the repository's jobs, in any order.
#[must_use]
pub fn plan(found: JobNo, damage: &CheckResult, jobs: &[Job]) -> Vec<StepState> {
    let since: Vec<(Step, bool, &Job)> = jobs
        .iter()
        .filter(|job| job.no > found)
        .filter_map(|job| Step::of_job(job).map(|(step, dry_run)| (step, dry_run, job)))
        .collect();
    let state = |step: Step| {
        let mut own: Vec<(bool, &Job)> =
            since.iter().filter(|(of, ..)| *of == step).map(|(_, dry_run, job)| (*dry_run, *job)).collect();
        own.sort_by_key(|(_, job)| job.no);
        let done = own
            .iter()
            .any(|(dry_run, job)| !dry_run && matches!(job.status, JobStatus::Succeeded | JobStatus::Warning));
        let last = own.last().map(|(dry_run, job)| Done {
            job: job.id,
            status: job.status,
            at: job.finished_at.unwrap_or(job.created_at),
            dry_run: *dry_run,
        });
        let needless = (step == Step::Packs && damage.broken_packs.is_empty())
            .then_some("The check named no pack that is damaged in itself.");
        StepState { step, last, done, needless }
    };
    Step::ALL.into_iter().map(state).collect()
}

/// The step that is next: the first that is neither done nor needless.
#[must_use]
pub fn next(plan: &[StepState]) -> Option<Step> {
    plan.iter().find(|state| !state.done && state.needless.is_none()).map(|state| state.step)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::{
        HostId, RepoId,
        job::{Actor, JobInput},
    };

    /// A job of a repository that ended as `status`.
    pub(crate) fn job(no: i64, kind: JobKind, status: JobStatus, operation: Option<Operation>) -> Job {
        let at = Timestamp::from_unix_ms(no * 1000);
        Job {
            no: JobNo(no),
            id: JobId::from_parts(1, no.unsigned_abs().into()),
            host_id: HostId::from_parts(1, 1),
            host_name: "vault-1".to_owned(),
            about: None,
            site_id: None,
            kind,
            status,
            actor: Actor::system(),
            schedule_id: None,
            scheduled_at: None,
            ran_alone: false,
            plan_id: None,
            plan_name: None,
            repo_id: Some(RepoId::from_parts(1, 1)),
            repo_name: None,
            input: JobInput { operation, ..JobInput::default() },
            rerun_of: None,
            rerun_as: None,
            created_at: at,
            dispatched_at: None,
            accepted_at: None,
            started_at: Some(at),
            finished_at: status.is_final().then_some(at),
            cancel_requested_at: None,
            exit_code: None,
            error: None,
            summary: None,
            log_lines: 0,
            log_truncated: false,
            timeout_s: 60,
            expires_at: None,
            log_removed_at: None,
            aftermath: None,
        }
    }

    fn ended(no: i64, step: Step, dry_run: bool, status: JobStatus) -> Job {
        let (kind, operation) = step.operation(&broken(), dry_run).unwrap();
        job(no, kind, status, Some(operation))
    }

    fn broken() -> CheckResult {
        CheckResult { errors: 2, broken_packs: vec!["ab".repeat(32)], ..CheckResult::default() }
    }

    #[test]
    fn steps_are_ticked_as_they_are_done_and_the_next_is_the_first_that_is_not() {
        assert_eq!(next(&plan(JobNo(5), &broken(), &[])), Some(Step::Index));
        let jobs = [
            ended(3, Step::Index, false, JobStatus::Succeeded),
            ended(6, Step::Index, false, JobStatus::Succeeded),
            ended(7, Step::Packs, false, JobStatus::Failed),
        ];
        let plan = plan(JobNo(5), &broken(), &jobs);
        assert!(plan[0].done && !plan[1].done);
        assert_eq!(plan[1].last.map(|done| done.status), Some(JobStatus::Failed));
        assert_eq!(next(&plan), Some(Step::Packs));
    }

    #[test]
    fn what_was_done_before_the_damage_was_found_does_not_count() {
        let jobs = [ended(4, Step::Index, false, JobStatus::Succeeded)];
        assert!(plan(JobNo(5), &broken(), &jobs).iter().all(|state| !state.done && state.last.is_none()));
    }

    #[test]
    fn a_dry_run_is_shown_and_does_not_tick_the_step() {
        let jobs = [ended(6, Step::Snapshots, true, JobStatus::Succeeded)];
        let plan = plan(JobNo(5), &broken(), &jobs);
        let state = plan.iter().find(|state| state.step == Step::Snapshots).unwrap();
        assert!(!state.done && state.last.is_some_and(|done| done.dry_run));
    }

    #[test]
    fn packs_are_left_out_where_none_is_named() {
        let damage = CheckResult { errors: 1, ..CheckResult::default() };
        let jobs = [ended(6, Step::Index, false, JobStatus::Succeeded)];
        assert_eq!(next(&plan(JobNo(5), &damage, &jobs)), Some(Step::BackUp));
    }

    #[test]
    fn the_last_step_reads_all_data_and_a_shallow_check_is_not_it() {
        let shallow = job(9, JobKind::Check, JobStatus::Succeeded, Some(Operation::Check(CheckSpec::default())));
        let state = |jobs: &[Job]| plan(JobNo(5), &broken(), jobs).pop().unwrap();
        assert!(!state(&[shallow]).done);
        assert!(state(&[ended(9, Step::Check, false, JobStatus::Succeeded)]).done);
    }
}
