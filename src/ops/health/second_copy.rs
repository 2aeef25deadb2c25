//! The second copy: a backup that made its snapshot is followed by a copy of it, where its plan names a second repository. Ordered in the transaction that takes
//! the backup's end in, so once, whatever is restarted in between.

use crate::{
    credential,
    domain::queue::QueueRules,
    domain::{
        BackupSummary, CopySpec, JobKind, JobStatus, Operation, Selection,
        job::{Actor, Job},
    },
    ops::{
        OpError,
        jobs::{Work, place},
    },
    store::{WriteTx, plans},
};

/// Orders the copy of what the job made, where one is wanted.
///
/// # Errors
/// [`OpError`] for a failure of the store or the system. Where the host can run nothing any more, nobody copies, and the log says so.
pub(super) fn order(tx: &mut WriteTx<'_>, rules: QueueRules, job: &Job) -> Result<(), OpError> {
    let Some((snapshot, plan)) = made(job).zip(job.plan_id) else { return Ok(()) };
    let Some(plan) = plans::lookup(tx.db(), plan)? else { return Ok(()) };
    // A plan that was pointed elsewhere since: what is copied is where it was made.
    let (Some((to, _)), Some(from)) = (plan.second_repo, job.repo_id) else { return Ok(()) };
    if to == from {
        return Ok(());
    }
    let spec = CopySpec { to, snapshots: vec![snapshot], of: Selection::default() };
    let work = Work { plan: Some(plan.id), ..Work::of(job.host_id, JobKind::Copy, from, Some(Operation::Copy(spec))) };
    match place(tx, rules, &Actor::system(), work, credential::random_bits()?) {
        Ok(_) => Ok(()),
        Err(error @ (OpError::NotFound(_) | OpError::Conflict(_))) => {
            tracing::warn!(job.id = %job.id, %error, "the second copy of a snapshot could not be ordered");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The snapshot that a backup made.
fn made(job: &Job) -> Option<String> {
    let whole = job.kind == JobKind::Backup && matches!(job.status, JobStatus::Succeeded | JobStatus::Warning);
    let dry = matches!(&job.input.operation, Some(Operation::Backup(spec)) if spec.dry_run);
    if !whole || dry {
        return None;
    }
    let summary: BackupSummary = serde_json::from_value(job.summary.clone()?).ok()?;
    summary.snapshot_id
}
