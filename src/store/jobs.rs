//! Jobs in the store: making them and reading them. How they move stands in `ends`, what the dispatcher asks in `queue`.

mod ends;
mod examined;
mod queue;
mod secrets;

use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter, types::Value};

pub use ends::{
    Cancelled, Doubtful, Ended, accepted, ended_untaken, expired, finish, is_lost_and_unwanted, reopen_untaken,
    request_cancel, request_cancel_of_lost, started, taken,
};
pub use examined::{note_examined, of_repo_since, unexamined};
pub use queue::{claim, has_unaccepted, held_by, open, requeue_unaccepted, waits_for};
pub use secrets::{keep_secrets, sealed_secrets};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, PlanId, RepoId, Timestamp,
        event::Event,
        job::{Actor, ActorKind, Job, JobNo, NewJob},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, json_opt, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT j.*, h.name AS host_name, a.name AS about_name, p.name AS plan_name, r.name AS repo_name,
    (SELECT again.id FROM jobs again WHERE again.rerun_of = j.id ORDER BY again.no DESC LIMIT 1) AS rerun_as
    FROM jobs j JOIN hosts h ON h.id = j.host_id LEFT JOIN hosts a ON a.id = j.about_id LEFT JOIN plans p ON p.id = j.plan_id LEFT JOIN repos r ON r.id = j.repo_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        no: JobNo(row.get("no")?),
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        host_name: row.get("host_name")?,
        about: parsed_opt(row, "about_id")?.zip(row.get("about_name")?),
        site_id: parsed_opt(row, "site_id")?,
        kind: parsed(row, "kind")?,
        status: parsed(row, "status")?,
        actor: Actor {
            kind: row.get::<_, String>("actor_kind")?.parse().unwrap_or(ActorKind::System),
            id: row.get("actor_id")?,
            name: row.get("actor_name")?,
        },
        schedule_id: parsed_opt(row, "schedule_id")?,
        scheduled_at: time_opt(row, "scheduled_at")?,
        ran_alone: row.get("ran_alone")?,
        plan_id: parsed_opt(row, "plan_id")?,
        plan_name: row.get("plan_name")?,
        repo_id: parsed_opt(row, "repo_id")?,
        repo_name: row.get("repo_name")?,
        input: json(row, "input")?,
        rerun_of: parsed_opt(row, "rerun_of")?,
        rerun_as: parsed_opt(row, "rerun_as")?,
        created_at: time(row, "created_at")?,
        dispatched_at: time_opt(row, "dispatched_at")?,
        accepted_at: time_opt(row, "accepted_at")?,
        started_at: time_opt(row, "started_at")?,
        finished_at: time_opt(row, "finished_at")?,
        cancel_requested_at: time_opt(row, "cancel_requested_at")?,
        exit_code: row.get("exit_code")?,
        error: row.get("error")?,
        summary: json_opt(row, "summary")?,
        log_lines: row.get("log_lines")?,
        log_truncated: row.get("log_truncated")?,
        timeout_s: row.get::<_, i64>("timeout_s")?.unsigned_abs(),
        expires_at: time_opt(row, "expires_at")?,
        log_removed_at: time_opt(row, "log_removed_at")?,
        aftermath: json_opt(row, "aftermath")?,
    })
}

/// Makes a job, queued.
///
/// # Errors
/// [`StoreError`]; a host, plan or repository that is not there breaks a foreign key; a moment that has its job is a conflict.
pub fn insert(tx: &mut WriteTx<'_>, job: &NewJob) -> Result<JobNo, StoreError> {
    let now = tx.now().unix_ms();
    tx.db()
        .prepare_cached(
            "INSERT INTO jobs (id, host_id, kind, actor_kind, actor_id, actor_name, plan_id, repo_id, input, rerun_of, timeout_s, created_at,
                               schedule_id, scheduled_at, ran_alone, expires_at, about_id, site_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
        )?
        .execute(params![
            job.id.to_string(),
            job.host_id.to_string(),
            job.kind.as_str(),
            job.actor.kind.as_str(),
            job.actor.id,
            job.actor.name,
            job.plan_id.map(|id| id.to_string()),
            job.repo_id.map(|id| id.to_string()),
            to_json(&job.input)?,
            job.rerun_of.map(|id| id.to_string()),
            job.timeout_s.cast_signed(),
            now,
            job.moment.map(|(schedule, _)| schedule.to_string()),
            job.moment.map(|(_, at)| at.unix_ms()),
            job.ran_alone,
            job.expires_at.map(Timestamp::unix_ms),
            job.about.host.map(|id| id.to_string()),
            job.about.site.map(|id| id.to_string()),
        ])?;
    let no = JobNo(tx.db().last_insert_rowid());
    tx.publish(Event::Queue);
    Ok(no)
}

/// A job by its id.
///
/// # Errors
/// [`StoreError`].
pub fn lookup(db: &Connection, id: JobId) -> Result<Option<Job>, StoreError> {
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE j.id = ?1"))?;
    Ok(statement.query_row([id.to_string()], from_row).optional()?)
}

/// Which jobs to list. All of the given conditions hold.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// About this host, or run by its agent.
    pub host_id: Option<HostId>,
    /// Of this plan.
    pub plan_id: Option<PlanId>,
    /// Working on this repository.
    pub repo_id: Option<RepoId>,
    /// In this state.
    pub status: Option<JobStatus>,
    /// Of this kind.
    pub kind: Option<JobKind>,
    /// Made before this job: the last one of the page before.
    pub before: Option<JobId>,
    /// At most so many; 0 means 50.
    pub limit: u32,
}

/// Jobs, newest first.
///
/// # Errors
/// [`StoreError`].
pub fn list(db: &Connection, filter: &JobFilter) -> Result<Vec<Job>, StoreError> {
    let mut conditions: Vec<&str> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut add = |condition: &'static str, value: Option<String>| {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(Value::Text(value));
        }
    };
    add("j.plan_id = ?", filter.plan_id.map(|id| id.to_string()));
    add("j.repo_id = ?", filter.repo_id.map(|id| id.to_string()));
    add("j.status = ?", filter.status.map(|status| status.as_str().to_owned()));
    add("j.kind = ?", filter.kind.as_ref().map(|kind| kind.as_str().to_owned()));
    add("j.no < (SELECT no FROM jobs WHERE id = ?)", filter.before.map(|id| id.to_string()));
    let conditions = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let limit = if filter.limit == 0 { 50 } else { filter.limit.min(1000) };
    let query = match filter.host_id {
        None => format!("{SELECT} WHERE {conditions} ORDER BY j.no DESC LIMIT {limit}"),
        Some(host) => {
            values.insert(0, Value::Text(host.to_string()));
            values.extend(values.clone());
            of_host(&conditions, limit)
        }
    };
    let mut statement = db.prepare_cached(&query)?;
    Ok(statement.query_map(params_from_iter(values), from_row)?.collect::<Result<_, _>>()?)
}

/// The newest jobs that a host's agent runs, and the newest that are about it: each by its index, for a host may have very many.
fn of_host(conditions: &str, limit: u32) -> String {
    let newest = |column: &str| {
        format!(
            "SELECT no FROM (SELECT j.no FROM jobs j WHERE j.{column} = ? AND {conditions} ORDER BY j.no DESC LIMIT {limit})"
        )
    };
    let (run, about) = (newest("host_id"), newest("about_id"));
    format!("{SELECT} WHERE j.no IN ({run} UNION {about}) ORDER BY j.no DESC LIMIT {limit}")
}

/// What an agent's link must know of a job: its number, whose it is, and how far it is.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Number within the store.
    pub no: JobNo,
    /// Whose it is.
    pub host_id: HostId,
    /// Where it stands.
    pub status: JobStatus,
    /// Lines on disk.
    pub log_lines: u32,
}

/// The route of a job.
///
/// # Errors
/// [`StoreError`].
pub fn route(db: &Connection, id: JobId) -> Result<Option<Route>, StoreError> {
    let mut statement = db.prepare_cached("SELECT no, host_id, status, log_lines FROM jobs WHERE id = ?1")?;
    let row = statement.query_row([id.to_string()], |row| {
        Ok(Route {
            no: JobNo(row.get("no")?),
            host_id: parsed(row, "host_id")?,
            status: parsed(row, "status")?,
            log_lines: row.get("log_lines")?,
        })
    });
    Ok(row.optional()?)
}

/// Counts of jobs that ended at or after `since`, by state; and of running and queued ones now.
///
/// # Errors
/// [`StoreError`].
pub fn counts(db: &Connection, since: Timestamp) -> Result<Vec<(JobStatus, u64)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT status, count(*) AS n FROM jobs WHERE finished_at >= ?1 GROUP BY status
         UNION ALL SELECT status, count(*) FROM jobs WHERE status IN ('queued', 'running') GROUP BY status",
    )?;
    let rows = statement
        .query_map([since.unix_ms()], |row| Ok((parsed(row, "status")?, row.get::<_, i64>("n")?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A finished backup, as the dashboard draws it.
#[derive(Debug, Clone)]
pub struct BackupMark {
    /// Of which host.
    pub host_id: HostId,
    /// Which job.
    pub job_id: JobId,
    /// Of which plan.
    pub plan_id: Option<PlanId>,
    /// How it ended.
    pub status: JobStatus,
    /// When.
    pub finished_at: Timestamp,
    /// Bytes looked at, where it says so.
    pub bytes: Option<u64>,
    /// Bytes added, where it says so.
    pub added: Option<u64>,
}

/// Backups that ended at or after `since`, oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn backups_since(db: &Connection, since: Timestamp, host: Option<HostId>) -> Result<Vec<BackupMark>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT host_id, id, plan_id, status, finished_at, summary ->> '$.total_bytes_processed' AS bytes,
                coalesce(summary ->> '$.data_added_packed', summary ->> '$.data_added') AS added
         FROM jobs WHERE finished_at >= ?1 AND kind = 'backup' AND (?2 IS NULL OR host_id = ?2) ORDER BY finished_at",
    )?;
    let rows = statement.query_map(params![since.unix_ms(), host.map(|id| id.to_string())], |row| {
        Ok(BackupMark {
            host_id: parsed(row, "host_id")?,
            job_id: parsed(row, "id")?,
            plan_id: parsed_opt(row, "plan_id")?,
            status: parsed(row, "status")?,
            finished_at: time(row, "finished_at")?,
            bytes: row.get::<_, Option<i64>>("bytes")?.map(i64::unsigned_abs),
            added: row.get::<_, Option<i64>>("added")?.map(i64::unsigned_abs),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::migrate;

    #[test]
    fn the_jobs_of_a_host_are_found_by_indexes_and_not_by_looking_through_all() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate::run(&mut db, std::path::Path::new("x")).unwrap();
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", of_host("1", 5))).unwrap();
        let steps = plan.query_map(["x", "x"], |row| row.get::<_, String>("detail")).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        for index in ["jobs_by_host", "jobs_by_about"] {
            assert!(
                steps.iter().any(|step| step.contains(&format!("SEARCH j USING COVERING INDEX {index}"))),
                "{steps:?}"
            );
        }
        assert!(!steps.iter().any(|step| step.starts_with("SCAN j")), "{steps:?}");
    }
}
