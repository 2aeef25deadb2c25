//! Addresses of the restore wizard and of downloads. As all others, each is its pattern, filled.

use super::{fill, query_value, route, with_query};
use crate::domain::{HostId, JobId, RepoId};

pub(super) fn of_snapshot(pattern: &str, id: RepoId, snapshot: &str) -> String {
    fill(pattern, id).replacen("{snapshot}", &query_value(snapshot), 1)
}

/// Snapshots of a host to restore from.
#[must_use]
pub fn restore_of_host(id: HostId) -> String {
    with_query(route::RESTORE, &[("host", &id.to_string())])
}

/// Snapshots of a repository to restore from.
#[must_use]
pub fn restore_of_repo(id: RepoId) -> String {
    with_query(route::RESTORE, &[("repo", &id.to_string())])
}

/// Pick files of a snapshot.
#[must_use]
pub fn restore_files(id: RepoId, snapshot: &str) -> String {
    of_snapshot(route::RESTORE_FILES, id, snapshot)
}

/// Where to.
#[must_use]
pub fn restore_target(id: RepoId, snapshot: &str) -> String {
    of_snapshot(route::RESTORE_TARGET, id, snapshot)
}

/// Order a dry run.
#[must_use]
pub fn restore_dry_run(id: RepoId, snapshot: &str) -> String {
    of_snapshot(route::RESTORE_DRY_RUN, id, snapshot)
}

/// Send something of a snapshot through to the browser.
#[must_use]
pub fn restore_download(id: RepoId, snapshot: &str) -> String {
    of_snapshot(route::RESTORE_DOWNLOAD, id, snapshot)
}

/// What a dry run says.
#[must_use]
pub fn restore_review(dry_run: JobId) -> String {
    fill(route::RESTORE_REVIEW, dry_run)
}

/// Save first what would be written over.
#[must_use]
pub fn restore_safety(dry_run: JobId) -> String {
    fill(route::RESTORE_SAFETY, dry_run)
}

/// Restore what a dry run was for.
#[must_use]
pub fn restore_start(dry_run: JobId) -> String {
    fill(route::RESTORE_START, dry_run)
}

/// The bytes of a download.
#[must_use]
pub fn download(job: JobId) -> String {
    fill(route::DOWNLOAD, job)
}
