//! Every address of the product, once: the router mounts the patterns, views link with the functions.
//! A function fills its own pattern, so that a link and its route cannot drift apart.

mod probes;
mod restoring;
mod runbooks;
pub mod sites;
mod snapshots;
mod waves;

use std::fmt::Display;

pub use probes::{host_probes, host_restart, probe, probe_check, probe_remove};
pub use restoring::{
    download, restore_download, restore_dry_run, restore_files, restore_of_host, restore_of_repo, restore_review,
    restore_safety, restore_start, restore_target,
};
pub use runbooks::{job_line, job_step, runbook, runbook_again, runbook_on, runbook_preview, steps_again, steps_on};
pub use snapshots::{
    repo_compare, repo_search, repo_snapshots, repo_snapshots_match, repo_snapshots_refresh, repo_versions, restore,
    snapshot, snapshot_folder, snapshot_tree,
};
pub use waves::{wave, wave_cancel, wave_from, wave_live, wave_new, wave_rerun};

use crate::domain::{HostId, JobId, PlanId, RepoId, ScheduleId, TokenId, UserId};

/// Patterns for the router; `{id}` stands for a ULID.
pub mod route {
    pub use super::probes::{HOST_PROBES, HOST_RESTART, PROBE, PROBE_CHECK, PROBE_REMOVE};
    pub use super::waves::route::*;

    /// Dashboard; `?fragment=1` for its live part.
    pub const DASHBOARD: &str = "/";
    /// First administrator.
    pub const SETUP: &str = "/setup";
    /// Log in.
    pub const LOGIN: &str = "/login";
    /// Log out (POST).
    pub const LOGOUT: &str = "/logout";
    /// Hosts; `?q=&tag=`.
    pub const HOSTS: &str = "/hosts";
    /// Add a host; `?fragment=arrival&token=` for the part that waits for the agent.
    pub const HOST_NEW: &str = "/hosts/new";
    /// Add a host without an agent.
    pub const HOST_NEW_DIRECT: &str = "/hosts/new/direct";
    /// A host; `?tab=overview|snapshots|operations|health|jobs|settings`.
    pub const HOST: &str = "/hosts/{id}";
    /// Start a backup by a plan, or once by repository and paths (POST).
    pub const HOST_RUN_BACKUP: &str = "/hosts/{id}/run-backup";
    /// POST
    pub const HOST_CHECK_STATUS: &str = "/hosts/{id}/check-status";
    /// Start a restore (POST).
    pub const HOST_RESTORE: &str = "/hosts/{id}/restore";
    /// Name and tags (POST).
    pub const HOST_SETTINGS: &str = "/hosts/{id}/settings";
    /// How it is reached, restarted and watched (POST).
    pub const HOST_REACH: &str = "/hosts/{id}/reach";
    /// Try all ways to it (POST).
    pub const HOST_TEST: &str = "/hosts/{id}/test";
    /// Confirm its SSH host key (POST).
    pub const HOST_TRUST: &str = "/hosts/{id}/ssh/trust";
    /// Revoke the agent's identity (POST).
    pub const HOST_REVOKE: &str = "/hosts/{id}/revoke";
    /// Remove the host (POST).
    pub const HOST_REMOVE: &str = "/hosts/{id}/remove";
    /// Jobs; `?status=&kind=&host=&after=`, `?fragment=1` for the table alone.
    pub const JOBS: &str = "/jobs";
    /// A job; `?fragment=header` for its live header, `?from=N` for another part of the log, `?step=N` leads to where a step begins in it.
    pub const JOB: &str = "/jobs/{id}";
    /// Cancel (POST).
    pub const JOB_CANCEL: &str = "/jobs/{id}/cancel";
    /// Run the same again (POST).
    pub const JOB_RERUN: &str = "/jobs/{id}/rerun";
    /// A page of a job's log, JSON.
    pub const JOB_LOG: &str = "/api/jobs/{id}/log";
    /// A job's whole log as text.
    pub const JOB_LOG_TEXT: &str = "/api/jobs/{id}/log.txt";
    /// A job's live frames, WebSocket.
    pub const JOB_STREAM: &str = "/api/jobs/{id}/stream";
    /// All runbooks.
    pub const RUNBOOKS: &str = "/runbooks";
    /// A runbook; `?host=&q=` chooses where, `?from=` takes a job's answers (GET); runs it (POST).
    pub const RUNBOOK: &str = "/runbooks/{name}";
    /// What a runbook would do with these answers (POST).
    pub const RUNBOOK_PREVIEW: &str = "/runbooks/{name}/preview";
    /// Steps that are pasted; `?host=&from=` (GET); runs them (POST).
    pub const STEPS: &str = "/runbooks/steps";
    /// What pasted steps would do (POST).
    pub const STEPS_PREVIEW: &str = "/runbooks/steps/preview";
    /// Repositories.
    pub const REPOS: &str = "/repos";
    /// Add a repository.
    pub const REPO_NEW: &str = "/repos/new";
    /// A repository.
    pub const REPO: &str = "/repos/{id}";
    /// Change a repository (GET, POST).
    pub const REPO_EDIT: &str = "/repos/{id}/edit";
    /// The test of its connection (GET: the card, POST: another).
    pub const REPO_TEST: &str = "/repos/{id}/test";
    /// What can be done with it by hand (GET `?host=`, POST).
    pub const REPO_OPERATIONS: &str = "/repos/{id}/operations";
    /// Forget a repository (POST).
    pub const REPO_REMOVE: &str = "/repos/{id}/remove";
    /// What the retention guard said of late, and pins.
    pub const REPO_RETENTION: &str = "/repos/{id}/retention";
    /// Ask what the rules of a plan would keep (POST).
    pub const REPO_RETENTION_PREVIEW: &str = "/repos/{id}/retention/preview";
    /// Pin a snapshot (POST).
    pub const REPO_PIN: &str = "/repos/{id}/pin";
    /// Let a pinned snapshot go (POST).
    pub const REPO_UNPIN: &str = "/repos/{id}/unpin";
    /// Set up what is done for a repository by schedule (POST).
    pub const REPO_UPKEEP: &str = "/repos/{id}/upkeep";
    /// What the guard said to a forget, by the job's id; `?fate=waiting|removed|held|kept&before=` for the snapshots that fared so.
    pub const VERDICT: &str = "/retention/{id}";
    /// Let what was stopped go (POST).
    pub const VERDICT_APPROVE: &str = "/retention/{id}/approve";
    /// Leave it (POST).
    pub const VERDICT_DISMISS: &str = "/retention/{id}/dismiss";
    /// The locks on a repository's page.
    pub const REPO_LOCKS: &str = "/repos/{id}#locks";
    /// Look at the locks (POST).
    pub const REPO_LOOK: &str = "/repos/{id}/locks";
    /// Remove the locks that nobody holds (POST).
    pub const REPO_UNLOCK: &str = "/repos/{id}/unlock";
    /// Measure (POST).
    pub const REPO_MEASURE: &str = "/repos/{id}/measure";
    /// Check (POST).
    pub const REPO_CHECK: &str = "/repos/{id}/check";
    /// Try to delete with a host's credentials (POST).
    pub const REPO_TAMPER: &str = "/repos/{id}/tamper";
    /// The guided repair.
    pub const REPO_REPAIR: &str = "/repos/{id}/repair";
    /// A step of the guided repair (POST).
    pub const REPO_REPAIR_STEP: &str = "/repos/{id}/repair/{step}";
    /// What a repository holds; `?host=&hostname=&path=&tag=&since=&until=&after=`.
    pub const REPO_SNAPSHOTS: &str = "/repos/{id}/snapshots";
    /// List a repository anew (POST).
    pub const REPO_SNAPSHOTS_REFRESH: &str = "/repos/{id}/snapshots/refresh";
    /// Say which host a host name of a repository stands for (POST).
    pub const REPO_SNAPSHOTS_MATCH: &str = "/repos/{id}/snapshots/match";
    /// A snapshot; `?path=&q=&after=` within its tree, `?fragment=1` for the folder alone.
    pub const SNAPSHOT: &str = "/repos/{id}/snapshots/{snapshot}";
    /// Have a folder listed (POST); `?path=`.
    pub const SNAPSHOT_TREE: &str = "/repos/{id}/snapshots/{snapshot}/tree";
    /// Search a repository's snapshots (GET, POST); `?job=&after=` shows what a search found.
    pub const REPO_SEARCH: &str = "/repos/{id}/search";
    /// Compare two snapshots (GET, POST); `?job=&after=` shows how they differ.
    pub const REPO_COMPARE: &str = "/repos/{id}/compare";
    /// Versions of a file (GET, POST); `?path=`, `?job=`.
    pub const REPO_VERSIONS: &str = "/repos/{id}/versions";
    /// Plans.
    pub const PLANS: &str = "/plans";
    /// Add a plan.
    pub const PLAN_NEW: &str = "/plans/new";
    /// What a plan would do (POST).
    pub const PLAN_PREVIEW: &str = "/plans/preview";
    /// A plan; `?tab=overview|edit`; POST changes it.
    pub const PLAN: &str = "/plans/{id}";
    /// Remove a plan (POST).
    pub const PLAN_REMOVE: &str = "/plans/{id}/remove";
    /// Pause a plan's schedule, or let it go on (POST).
    pub const PLAN_ENABLED: &str = "/plans/{id}/enabled";
    /// Schedules.
    pub const SCHEDULES: &str = "/schedules";
    /// Add a schedule (GET, POST).
    pub const SCHEDULE_NEW: &str = "/schedules/new";
    /// Pause a schedule, or let it go on (POST).
    pub const SCHEDULE_ENABLED: &str = "/schedules/{id}/enabled";
    /// Run now what it runs (POST).
    pub const SCHEDULE_RUN: &str = "/schedules/{id}/run";
    /// Remove a schedule (POST).
    pub const SCHEDULE_REMOVE: &str = "/schedules/{id}/remove";
    /// Restore: choose a snapshot; `?host=&repo=&path=&tag=&after=`.
    pub const RESTORE: &str = "/restore";
    /// Restore: pick files; `?folder=&q=&after=&pick=`. POST carries what was picked so far.
    pub const RESTORE_FILES: &str = "/restore/{id}/{snapshot}";
    /// Restore: where to (POST; GET leads back to the files).
    pub const RESTORE_TARGET: &str = "/restore/{id}/{snapshot}/target";
    /// Restore: order the dry run (POST).
    pub const RESTORE_DRY_RUN: &str = "/restore/{id}/{snapshot}/dry-run";
    /// Send a file or a folder through to the browser (POST).
    pub const RESTORE_DOWNLOAD: &str = "/restore/{id}/{snapshot}/download";
    /// Restore: what the dry run says; `?fragment=1` for the part that changes.
    pub const RESTORE_REVIEW: &str = "/restore/review/{id}";
    /// Restore: save first what would be written over (POST).
    pub const RESTORE_SAFETY: &str = "/restore/review/{id}/safety";
    /// Restore: in earnest (POST).
    pub const RESTORE_START: &str = "/restore/review/{id}/start";
    /// The bytes of a download.
    pub const DOWNLOAD: &str = "/downloads/{id}";
    /// Alerts; `?after=` for older ones.
    pub const ALERTS: &str = "/alerts";
    /// Clear an alert (POST).
    pub const ALERT_CLEAR: &str = "/alerts/{id}/clear";
    /// Account, tokens, users.
    pub const SETTINGS: &str = "/settings";
    /// The part of the settings that tells of the database.
    pub const SETTINGS_DATABASE: &str = "/settings#database";
    /// Change one's own password (POST).
    pub const SETTINGS_PASSWORD: &str = "/settings/password";
    /// Make an API token (POST).
    pub const SETTINGS_TOKENS: &str = "/settings/tokens";
    /// Revoke an API token (POST).
    pub const SETTINGS_TOKEN_REVOKE: &str = "/settings/tokens/{id}/revoke";
    /// Add an account (POST).
    pub const SETTINGS_USERS: &str = "/settings/users";
    /// Close an account (POST).
    pub const SETTINGS_USER_DISABLE: &str = "/settings/users/{id}/disable";
    /// Copy the database now (POST).
    pub const SETTINGS_BACKUP: &str = "/settings/database/backup";
}

fn fill(pattern: &str, id: impl Display) -> String {
    pattern.replace("{id}", &id.to_string())
}

/// `text` as a query value: everything but unreserved characters is percent-encoded.
#[must_use]
pub fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// `path` with those of `pairs` whose value is not empty as its query.
#[must_use]
pub fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut url = path.to_owned();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(&query_value(value));
    }
    url
}

/// The live part of the dashboard.
#[must_use]
pub fn dashboard_live() -> String {
    with_query(route::DASHBOARD, &[("fragment", "1")])
}

/// Hosts that bear a tag.
#[must_use]
pub fn hosts_with_tag(tag: &str) -> String {
    with_query(route::HOSTS, &[("tag", tag)])
}

/// The part of the add-host page that waits for the agent of this enrolment token.
#[must_use]
pub fn host_arrival(token: TokenId) -> String {
    with_query(route::HOST_NEW, &[("fragment", "arrival"), ("token", &token.to_string())])
}

/// A host's overview.
#[must_use]
pub fn host(id: HostId) -> String {
    fill(route::HOST, id)
}

/// A tab of a host's page.
#[must_use]
pub fn host_tab(id: HostId, tab: &str) -> String {
    with_query(&host(id), &[("tab", tab)])
}

/// Start a backup.
#[must_use]
pub fn host_run_backup(id: HostId) -> String {
    fill(route::HOST_RUN_BACKUP, id)
}

/// Check a host's status now.
#[must_use]
pub fn host_check_status(id: HostId) -> String {
    fill(route::HOST_CHECK_STATUS, id)
}

/// Start a restore.
#[must_use]
pub fn host_restore(id: HostId) -> String {
    fill(route::HOST_RESTORE, id)
}

/// Name and tags.
#[must_use]
pub fn host_settings(id: HostId) -> String {
    fill(route::HOST_SETTINGS, id)
}

/// How a host is reached, restarted and watched.
#[must_use]
pub fn host_reach(id: HostId) -> String {
    fill(route::HOST_REACH, id)
}

/// Try all ways to a host.
#[must_use]
pub fn host_test(id: HostId) -> String {
    fill(route::HOST_TEST, id)
}

/// Confirm a host's SSH key.
#[must_use]
pub fn host_trust(id: HostId) -> String {
    fill(route::HOST_TRUST, id)
}

/// Revoke the agent.
#[must_use]
pub fn host_revoke(id: HostId) -> String {
    fill(route::HOST_REVOKE, id)
}

/// Remove the host.
#[must_use]
pub fn host_remove(id: HostId) -> String {
    fill(route::HOST_REMOVE, id)
}

/// A job's page.
#[must_use]
pub fn job(id: JobId) -> String {
    fill(route::JOB, id)
}

/// A job's live header.
#[must_use]
pub fn job_header(id: JobId) -> String {
    with_query(&job(id), &[("fragment", "header")])
}

/// A job's page with the log from line `from` on.
#[must_use]
pub fn job_from(id: JobId, from: u32) -> String {
    with_query(&job(id), &[("from", &from.to_string())])
}

/// Cancel a job.
#[must_use]
pub fn job_cancel(id: JobId) -> String {
    fill(route::JOB_CANCEL, id)
}

/// Run a job's order again.
#[must_use]
pub fn job_rerun(id: JobId) -> String {
    fill(route::JOB_RERUN, id)
}

/// Pages of a job's log, JSON.
#[must_use]
pub fn job_log(id: JobId) -> String {
    fill(route::JOB_LOG, id)
}

/// A job's whole log as text.
#[must_use]
pub fn job_log_text(id: JobId) -> String {
    fill(route::JOB_LOG_TEXT, id)
}

/// A job's live frames.
#[must_use]
pub fn job_stream(id: JobId) -> String {
    fill(route::JOB_STREAM, id)
}

/// A repository.
#[must_use]
pub fn repo(id: RepoId) -> String {
    fill(route::REPO, id)
}

/// Change a repository.
#[must_use]
pub fn repo_edit(id: RepoId) -> String {
    fill(route::REPO_EDIT, id)
}

/// The test of a repository's connection.
#[must_use]
pub fn repo_test(id: RepoId) -> String {
    fill(route::REPO_TEST, id)
}

/// What can be done with a repository by hand.
#[must_use]
pub fn repo_operations(id: RepoId) -> String {
    fill(route::REPO_OPERATIONS, id)
}

/// Forget a repository.
#[must_use]
pub fn repo_remove(id: RepoId) -> String {
    fill(route::REPO_REMOVE, id)
}

/// A repository's retention.
#[must_use]
pub fn repo_retention(id: RepoId) -> String {
    fill(route::REPO_RETENTION, id)
}

/// Ask what would be kept.
#[must_use]
pub fn repo_retention_preview(id: RepoId) -> String {
    fill(route::REPO_RETENTION_PREVIEW, id)
}

/// What the guard said to a forget.
#[must_use]
pub fn verdict(job: JobId) -> String {
    fill(route::VERDICT, job)
}

/// Snapshots that fared so in a forget, after the one that was shown last.
#[must_use]
pub fn fates(job: JobId, fate: &str, before: &str) -> String {
    with_query(&verdict(job), &[("fate", fate), ("before", before)])
}

/// Let what was stopped go.
#[must_use]
pub fn verdict_approve(job: JobId) -> String {
    fill(route::VERDICT_APPROVE, job)
}

/// Leave what was stopped.
#[must_use]
pub fn verdict_dismiss(job: JobId) -> String {
    fill(route::VERDICT_DISMISS, job)
}

/// Pin a snapshot.
#[must_use]
pub fn repo_pin(id: RepoId) -> String {
    fill(route::REPO_PIN, id)
}

/// Let a pinned snapshot go.
#[must_use]
pub fn repo_unpin(id: RepoId) -> String {
    fill(route::REPO_UNPIN, id)
}

/// What is done for a repository by schedule.
#[must_use]
pub fn repo_upkeep(id: RepoId) -> String {
    fill(route::REPO_UPKEEP, id)
}

/// The locks on a repository's page.
#[must_use]
pub fn repo_locks(id: RepoId) -> String {
    fill(route::REPO_LOCKS, id)
}

/// Look at the locks (POST).
#[must_use]
pub fn repo_look(id: RepoId) -> String {
    fill(route::REPO_LOOK, id)
}

/// Remove the locks that nobody holds (POST).
#[must_use]
pub fn repo_unlock(id: RepoId) -> String {
    fill(route::REPO_UNLOCK, id)
}

/// Measure (POST).
#[must_use]
pub fn repo_measure(id: RepoId) -> String {
    fill(route::REPO_MEASURE, id)
}

/// Check (POST).
#[must_use]
pub fn repo_check(id: RepoId) -> String {
    fill(route::REPO_CHECK, id)
}

/// Try to delete with a host's credentials (POST).
#[must_use]
pub fn repo_tamper(id: RepoId) -> String {
    fill(route::REPO_TAMPER, id)
}

/// The guided repair; POST orders a step.
#[must_use]
pub fn repo_repair(id: RepoId) -> String {
    fill(route::REPO_REPAIR, id)
}

/// The form of a new plan, beginning with what is usual for a system.
#[must_use]
pub fn plan_new_from(start: &str) -> String {
    with_query(route::PLAN_NEW, &[("start", start)])
}

/// A step of the guided repair.
#[must_use]
pub fn repo_repair_step(id: RepoId, step: &str) -> String {
    fill(route::REPO_REPAIR_STEP, id).replace("{step}", step)
}

/// A plan.
#[must_use]
pub fn plan(id: PlanId) -> String {
    fill(route::PLAN, id)
}

/// A plan's form.
#[must_use]
pub fn plan_edit(id: PlanId) -> String {
    with_query(&plan(id), &[("tab", "edit")])
}

/// Remove a plan.
#[must_use]
pub fn plan_remove(id: PlanId) -> String {
    fill(route::PLAN_REMOVE, id)
}

/// Pause a plan's schedule, or let it go on.
#[must_use]
pub fn plan_enabled(id: PlanId) -> String {
    fill(route::PLAN_ENABLED, id)
}

/// Pause a schedule, or let it go on.
#[must_use]
pub fn schedule_enabled(id: ScheduleId) -> String {
    fill(route::SCHEDULE_ENABLED, id)
}

/// Run now what a schedule runs.
#[must_use]
pub fn schedule_run(id: ScheduleId) -> String {
    fill(route::SCHEDULE_RUN, id)
}

/// Remove a schedule.
#[must_use]
pub fn schedule_remove(id: ScheduleId) -> String {
    fill(route::SCHEDULE_REMOVE, id)
}

/// Clear an alert.
#[must_use]
pub fn alert_clear(no: i64) -> String {
    fill(route::ALERT_CLEAR, no)
}

/// Revoke an API token.
#[must_use]
pub fn token_revoke(id: TokenId) -> String {
    fill(route::SETTINGS_TOKEN_REVOKE, id)
}

/// Close an account.
#[must_use]
pub fn user_disable(id: UserId) -> String {
    fill(route::SETTINGS_USER_DISABLE, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_its_pattern_with_the_id_in_place() {
        let id = JobId::from_parts(1, 2);
        assert_eq!(job_cancel(id), format!("/jobs/{id}/cancel"));
        assert_eq!(job_header(id), format!("/jobs/{id}?fragment=header"));
    }

    #[test]
    fn query_values_cannot_break_out_of_their_place() {
        assert_eq!(hosts_with_tag("a&b=c #ü"), "/hosts?tag=a%26b%3Dc%20%23%C3%BC");
        assert_eq!(
            with_query("/jobs", &[("status", ""), ("kind", "backup"), ("host", "x")]),
            "/jobs?kind=backup&host=x"
        );
    }
}
