//! Addresses of snapshots, their trees, and what is looked for in them. As all others, each is its pattern, filled.

use super::{fill, restore_files, restoring::of_snapshot, route, with_query};
use crate::domain::RepoId;

/// What a repository holds.
#[must_use]
pub fn repo_snapshots(id: RepoId) -> String {
    fill(route::REPO_SNAPSHOTS, id)
}

/// List a repository anew.
#[must_use]
pub fn repo_snapshots_refresh(id: RepoId) -> String {
    fill(route::REPO_SNAPSHOTS_REFRESH, id)
}

/// Say which host a host name stands for.
#[must_use]
pub fn repo_snapshots_match(id: RepoId) -> String {
    fill(route::REPO_SNAPSHOTS_MATCH, id)
}

/// A snapshot.
#[must_use]
pub fn snapshot(id: RepoId, snapshot: &str) -> String {
    of_snapshot(route::SNAPSHOT, id, snapshot)
}

/// A folder of a snapshot. The path stands encoded in the address, so that a line break in a name survives.
#[must_use]
pub fn snapshot_folder(id: RepoId, snapshot_id: &str, path: &str) -> String {
    with_query(&snapshot(id, snapshot_id), &[("path", path)])
}

/// Have a folder of a snapshot listed.
#[must_use]
pub fn snapshot_tree(id: RepoId, snapshot: &str, path: &str) -> String {
    with_query(&of_snapshot(route::SNAPSHOT_TREE, id, snapshot), &[("path", path)])
}

/// Search a repository's snapshots.
#[must_use]
pub fn repo_search(id: RepoId) -> String {
    fill(route::REPO_SEARCH, id)
}

/// Compare two snapshots.
#[must_use]
pub fn repo_compare(id: RepoId) -> String {
    fill(route::REPO_COMPARE, id)
}

/// Versions of a file.
#[must_use]
pub fn repo_versions(id: RepoId, path: &str) -> String {
    with_query(&fill(route::REPO_VERSIONS, id), &[("path", path)])
}

/// The restore wizard, with what to restore.
#[must_use]
pub fn restore(id: RepoId, snapshot: &str, path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    with_query(&restore_files(id, snapshot), &[("folder", folder), ("pick", path)])
}
