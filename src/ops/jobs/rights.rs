//! Who may order what, and where what deletes runs. Credentials that may delete go to a repository's maintenance host and nowhere else.

use crate::{
    domain::{JobKind, RepoId, host::Host, job::Job, repo::Repo, user::Role},
    ops::{error::OpError, jobs::JobRequest},
    runbook,
    store::{Db, hosts, repos},
};

/// What someone must be to order this: what may delete is for administrators, a dry run of it and all else for operators.
#[must_use]
pub fn least_role(request: &JobRequest) -> Role {
    let dry = |request: &JobRequest| {
        let under =
            request.params.as_ref().and_then(|params| params.get("dry_run")).and_then(serde_json::Value::as_bool);
        request.dry_run.or(under) == Some(true)
    };
    match request.kind.parse() {
        Ok(JobKind::Tag) => Role::Admin,
        Ok(kind) if removing(&kind) && !dry(request) => Role::Admin,
        _ => Role::Operator,
    }
}

/// The same for a job that is to be repeated.
#[must_use]
pub fn least_role_again(job: &Job) -> Role {
    // What an administrator pasted or was asked for is not an operator's to run again.
    let book = job.input.runbook.as_ref().map(|input| runbook::parse(&input.text));
    let for_admins = book.is_some_and(|book| book.is_ok_and(|book| book.role == runbook::Role::Admin));
    if for_admins || job.input.removes(&job.kind) { Role::Admin } else { Role::Operator }
}

fn removing(kind: &JobKind) -> bool {
    matches!(kind, JobKind::Forget | JobKind::Prune | JobKind::Tag | JobKind::Repair)
}

/// Where a job that deletes runs: on the repository's maintenance host, where there are credentials for it or an administrator named one.
///
/// # Errors
/// [`OpError::Conflict`] where it could not delete anywhere, with what to do.
pub(super) fn maintenance_host(db: &Db, asked: Host, repo: &Repo, kind: &JobKind) -> Result<Host, OpError> {
    let name = &repo.name;
    if !repo.has_maintenance() && repo.append_only {
        return Err(OpError::Conflict(format!(
            "{name} is append-only and has no maintenance credentials, so a {kind} would be refused there: an administrator enters credentials that may delete on the repository's page"
        )));
    }
    if let Some(id) = repo.upkeep.maintenance_host_id {
        return hosts::lookup(db, id)?.ok_or_else(|| {
            OpError::Conflict(format!(
                "the maintenance host of {name} was removed: name another one on the repository's page"
            ))
        });
    }
    if !repo.has_maintenance() {
        return Ok(asked);
    }
    hosts::own(db)?.ok_or_else(|| {
        OpError::Conflict(format!(
            "{name} has no maintenance host, and the control plane runs no agent of its own: name a host on the repository's page"
        ))
    })
}

/// Whether a repository can be the second one of a copy from `from`.
pub(super) fn check_second(db: &Db, from: Option<RepoId>, to: RepoId) -> Result<Result<RepoId, String>, OpError> {
    if repos::lookup(db, to)?.is_none() {
        return Ok(Err("names no repository: GET /api/repos lists them".to_owned()));
    }
    if from == Some(to) {
        return Ok(Err("is the repository that is copied from: name another one".to_owned()));
    }
    Ok(Ok(to))
}
