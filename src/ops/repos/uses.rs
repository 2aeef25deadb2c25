//! What uses a repository, and so keeps it: plans and schedules that work on it or copy to it, and jobs under way.

use crate::{
    domain::{JobKind, JobStatus, RepoId, job::Job, plan::Plan, schedule::OwnSchedule},
    store::{
        Db, StoreError,
        jobs::{self, JobFilter},
        plans, schedules,
    },
};

/// Plans and schedules that would not know where to without the repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Uses {
    /// Plans that back up to it, and those whose second copies go there.
    pub plans: Vec<Plan>,
    /// Schedules that work on it without a plan, and those that copy to it.
    pub schedules: Vec<OwnSchedule>,
}

/// What uses a repository.
///
/// # Errors
/// [`StoreError`].
pub fn uses(db: &Db, id: RepoId) -> Result<Uses, StoreError> {
    let copied_to = |plan: &Plan| plan.second_repo.as_ref().is_some_and(|(second, _)| *second == id);
    let uses_it = |plan: &Plan| plan.repo_id == id || copied_to(plan);
    let plans = plans::list(db, None, 0)?.into_iter().filter(uses_it).collect();
    let mut standing = schedules::using_repo(db, id)?;
    let copies = schedules::list(db, None)?.into_iter().filter(|own| own.input.second_repo() == Some(id));
    standing.extend(copies);
    Ok(Uses { plans, schedules: standing })
}

/// A job that reads or writes it, or waits to.
pub(super) fn under_way(db: &Db, id: RepoId) -> Result<Option<Job>, StoreError> {
    for status in [JobStatus::Queued, JobStatus::Running] {
        let live = JobFilter { status: Some(status), ..JobFilter::default() };
        let on_it = JobFilter { repo_id: Some(id), limit: 1, ..live.clone() };
        if let Some(job) = jobs::list(db, &on_it)?.into_iter().next() {
            return Ok(Some(job));
        }
        let copies = JobFilter { kind: Some(JobKind::Copy), limit: u32::MAX, ..live };
        let copy = jobs::list(db, &copies)?.into_iter().find(|job| job.input.second_repo() == Some(id));
        if copy.is_some() {
            return Ok(copy);
        }
    }
    Ok(None)
}
