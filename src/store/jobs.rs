//! Jobs in the store. Every transition is one guarded UPDATE that names the states it may leave, so that two events can't both win;
//! which moves exist at all is stated in [`crate::domain::job`].

use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter, types::Value};

use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, PlanId, RepoId, Timestamp,
        event::{self, Event, LiveFrame},
        job::{Actor, ActorKind, End, Job, JobNo, NewJob, Transitions as _},
    },
    store::{
        StoreError, WriteTx,
        rows::{json, json_opt, parsed, parsed_opt, time, time_opt, to_json},
    },
};

const SELECT: &str = "SELECT j.*, h.name AS host_name, p.name AS plan_name, r.name AS repo_name
    FROM jobs j JOIN hosts h ON h.id = j.host_id LEFT JOIN plans p ON p.id = j.plan_id LEFT JOIN repos r ON r.id = j.repo_id";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        no: JobNo(row.get("no")?),
        id: parsed(row, "id")?,
        host_id: parsed(row, "host_id")?,
        host_name: row.get("host_name")?,
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
                               schedule_id, scheduled_at, ran_alone, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
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
    /// Of this host.
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
    add("j.host_id = ?", filter.host_id.map(|id| id.to_string()));
    add("j.plan_id = ?", filter.plan_id.map(|id| id.to_string()));
    add("j.repo_id = ?", filter.repo_id.map(|id| id.to_string()));
    add("j.status = ?", filter.status.map(|status| status.as_str().to_owned()));
    add("j.kind = ?", filter.kind.as_ref().map(|kind| kind.as_str().to_owned()));
    add("j.no < (SELECT no FROM jobs WHERE id = ?)", filter.before.map(|id| id.to_string()));
    let conditions = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
    let limit = if filter.limit == 0 { 50 } else { filter.limit.min(1000) };
    let mut statement = db.prepare_cached(&format!("{SELECT} WHERE {conditions} ORDER BY j.no DESC LIMIT {limit}"))?;
    Ok(statement.query_map(params_from_iter(values), from_row)?.collect::<Result<_, _>>()?)
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

// What the dispatcher asks at each look. It must cost what is open, not what has ever been: a test holds that these use the index of open jobs.
const BUSY: &str = "SELECT count(*) FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running')
    AND (status = 'running' OR accepted_at IS NOT NULL OR dispatched_at BETWEEN ?2 AND ?3)";
const WAITING: &str = "SELECT id, no FROM jobs j WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
    AND accepted_at IS NULL AND cancel_requested_at IS NULL AND (dispatched_at IS NULL OR dispatched_at NOT BETWEEN ?2 AND ?4)
    AND NOT EXISTS (SELECT 1 FROM jobs other INDEXED BY jobs_open WHERE other.host_id = j.host_id AND other.plan_id = j.plan_id
                    AND other.no < j.no AND other.status IN ('queued', 'running'))
    ORDER BY no LIMIT ?3";
const CANCELLED: &str = "SELECT id FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running')
    AND cancel_requested_at IS NOT NULL ORDER BY no";
const WITH_ORDERS: &str = "SELECT DISTINCT host_id FROM jobs WHERE status IN ('queued', 'running')
    AND (cancel_requested_at IS NOT NULL
         OR (status = 'queued' AND accepted_at IS NULL AND (dispatched_at IS NULL OR dispatched_at NOT BETWEEN ?1 AND ?2)))";

/// An order that is to be sent to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `command.run`.
    Run(JobId),
    /// `command.cancel`.
    Cancel(JobId),
}

/// Claims what `host` is to be told now: queued jobs that were not sent, or not accepted since `resend_before`, up to the number of places
/// that are free of `limit`; and cancellations of jobs that it has. Marks them as sent, in the same transaction.
///
/// # Errors
/// [`StoreError`].
pub fn claim_orders(
    tx: &mut WriteTx<'_>,
    host: HostId,
    limit: u32,
    resend_before: Timestamp,
) -> Result<Vec<Order>, StoreError> {
    let now = tx.now().unix_ms();
    let host = host.to_string();
    let mut orders = Vec::new();
    {
        let mut busy = tx.db().prepare_cached(BUSY)?;
        let busy: u32 = busy.query_row(params![host, resend_before.unix_ms(), now], |row| row.get(0))?;
        let mut waiting = tx.db().prepare_cached(WAITING)?;
        let free = limit.saturating_sub(busy);
        let rows = waiting
            .query_map(params![host, resend_before.unix_ms(), free, now], |row| {
                Ok((parsed::<JobId>(row, "id")?, row.get::<_, i64>("no")?))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        for (id, no) in rows {
            tx.db()
                .prepare_cached("UPDATE jobs SET dispatched_at = ?2 WHERE no = ?1 AND status = 'queued'")?
                .execute([no, now])?;
            orders.push(Order::Run(id));
        }
        let mut cancelled = tx.db().prepare_cached(CANCELLED)?;
        let rows = cancelled.query_map([&host], |row| parsed(row, "id"))?.collect::<Result<Vec<_>, _>>()?;
        orders.extend(rows.into_iter().map(Order::Cancel));
    }
    Ok(orders)
}

/// Puts back what was sent to `host` and is not accepted: a new connection knows the truth. What was to be cancelled meanwhile is over:
/// no agent has it, so none could say so.
///
/// # Errors
/// [`StoreError`].
pub fn requeue_unaccepted(tx: &mut WriteTx<'_>, host: HostId) -> Result<(), StoreError> {
    let unwanted: Vec<JobId> = {
        let mut statement = tx.db().prepare_cached(
            "SELECT id FROM jobs WHERE host_id = ?1 AND status = 'queued' AND accepted_at IS NULL AND cancel_requested_at IS NOT NULL",
        )?;
        statement.query_map([host.to_string()], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?
    };
    for id in unwanted {
        finish(tx, id, host, &cancelled_unsent(tx.now()), None)?;
    }
    tx.db()
        .prepare_cached(
            "UPDATE jobs SET dispatched_at = NULL WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
               AND accepted_at IS NULL AND dispatched_at IS NOT NULL",
        )?
        .execute([host.to_string()])?;
    Ok(())
}

/// Jobs that `host` accepted and that are not over, as the store has it.
///
/// # Errors
/// [`StoreError`].
pub fn held_by(db: &Connection, host: HostId) -> Result<Vec<(JobId, Route)>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT id, no, host_id, status, log_lines FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running') AND accepted_at IS NOT NULL",
    )?;
    let rows = statement.query_map([host.to_string()], |row| {
        let route = Route {
            no: JobNo(row.get("no")?),
            host_id: host,
            status: parsed(row, "status")?,
            log_lines: row.get("log_lines")?,
        };
        Ok((parsed(row, "id")?, route))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether something was sent to `host` that it has not accepted.
///
/// # Errors
/// [`StoreError`].
pub fn has_unaccepted(db: &Connection, host: HostId) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT 1 FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
           AND accepted_at IS NULL AND dispatched_at IS NOT NULL",
    )?;
    Ok(statement.exists([host.to_string()])?)
}

/// The agent has the order.
///
/// # Errors
/// [`StoreError`].
pub fn accepted(tx: &mut WriteTx<'_>, id: JobId, host: HostId) -> Result<(), StoreError> {
    tx.db()
        .prepare_cached(
            "UPDATE jobs SET accepted_at = coalesce(accepted_at, ?3) WHERE id = ?1 AND host_id = ?2 AND status = 'queued'",
        )?
        .execute(params![id.to_string(), host.to_string(), tx.now().unix_ms()])?;
    Ok(())
}

/// The process runs. Returns whether this was news. `at` is by the agent's clock, which may be wrong: it is brought between the order and now.
///
/// # Errors
/// [`StoreError`].
pub fn started(
    tx: &mut WriteTx<'_>,
    id: JobId,
    host: HostId,
    at: Timestamp,
    frame: bytes::Bytes,
) -> Result<bool, StoreError> {
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = 'running', started_at = max(created_at, min(?3, ?4)), accepted_at = coalesce(accepted_at, ?4)
             WHERE id = ?1 AND host_id = ?2 AND status = 'queued'",
        )?
        .execute(params![id.to_string(), host.to_string(), at.unix_ms(), tx.now().unix_ms()])?;
    if changed > 0 {
        tx.publish(Event::Job { id, frame: LiveFrame::State(frame) });
    }
    Ok(changed > 0)
}

/// What became of a reported end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is on disk.
    Recorded,
    /// The job was over already.
    Already,
    /// Lines are missing: this is the last one here.
    MissingLines(u32),
    /// No such job of this host.
    Unknown,
}

/// Ends a job of `host`. With `last_seq` the end counts only if all lines up to it are here.
///
/// # Errors
/// [`StoreError`].
pub fn finish(
    tx: &mut WriteTx<'_>,
    id: JobId,
    host: HostId,
    end: &End,
    last_seq: Option<u32>,
) -> Result<Ended, StoreError> {
    let Some(route) = route(tx.db(), id)?.filter(|route| route.host_id == host) else { return Ok(Ended::Unknown) };
    if !route.status.can_become(end.status) {
        return Ok(Ended::Already);
    }
    if last_seq.is_some_and(|last| last > route.log_lines) {
        return Ok(Ended::MissingLines(route.log_lines));
    }
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET status = ?2, finished_at = max(coalesce(started_at, created_at), min(?3, ?9)), exit_code = ?4, error = ?5, summary = ?6, log_truncated = ?7
             WHERE no = ?1 AND status = ?8",
        )?
        .execute(params![
            route.no.0,
            end.status.as_str(),
            end.at.unix_ms(),
            end.exit_code,
            end.error,
            end.summary.as_ref().map(to_json).transpose()?,
            end.log_truncated,
            route.status.as_str(),
            tx.now().unix_ms(),
        ])?;
    if changed == 0 {
        return Ok(Ended::Already);
    }
    tx.forget_tail(route.no);
    let frame = event::finished_frame(id, route.log_lines, end);
    tx.publish(Event::Job { id, frame: LiveFrame::Finished(frame) });
    tx.publish(Event::Queue);
    Ok(Ended::Recorded)
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It had not reached its host; it is over.
    AtOnce,
    /// Its host will be told.
    Requested,
    /// It was over.
    Over,
    /// No such job.
    Unknown,
}

/// Notes that a job is to stop, and ends it where no agent has it.
///
/// # Errors
/// [`StoreError`].
pub fn request_cancel(tx: &mut WriteTx<'_>, id: JobId) -> Result<Cancelled, StoreError> {
    let Some(job) = lookup(tx.db(), id)? else { return Ok(Cancelled::Unknown) };
    if job.status.is_final() {
        return Ok(Cancelled::Over);
    }
    if job.status == JobStatus::Queued && job.dispatched_at.is_none() {
        finish(tx, id, job.host_id, &cancelled_unsent(tx.now()), None)?;
        return Ok(Cancelled::AtOnce);
    }
    tx.db()
        .prepare_cached("UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?2) WHERE no = ?1")?
        .execute([job.no.0, tx.now().unix_ms()])?;
    tx.publish(Event::Queue);
    Ok(Cancelled::Requested)
}

fn cancelled_unsent(at: Timestamp) -> End {
    End {
        status: JobStatus::Cancelled,
        at,
        exit_code: None,
        error: Some("cancelled before it reached its host".to_owned()),
        summary: None,
        log_truncated: false,
    }
}

/// Hosts that have something queued or to be cancelled: whom the dispatcher must look at.
///
/// # Errors
/// [`StoreError`].
pub fn hosts_with_orders(db: &Connection, resend_before: Timestamp, now: Timestamp) -> Result<Vec<HostId>, StoreError> {
    let mut statement = db.prepare_cached(WITH_ORDERS)?;
    let hosts = statement.query_map([resend_before.unix_ms(), now.unix_ms()], |row| parsed(row, "host_id"))?;
    Ok(hosts.collect::<Result<_, _>>()?)
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
    fn a_look_at_the_queue_reads_open_jobs_and_none_that_are_over() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate::run(&mut db, std::path::Path::new("x")).unwrap();
        for query in [BUSY, WAITING, CANCELLED, WITH_ORDERS] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let nulls = vec![Value::Null; plan.parameter_count()];
            let steps = plan.query_map(params_from_iter(nulls), |row| row.get::<_, String>("detail")).unwrap();
            let reads: Vec<String> = steps
                .map(Result::unwrap)
                .filter(|step| step.starts_with("SCAN") || step.starts_with("SEARCH"))
                .collect();
            assert!(
                !reads.is_empty() && reads.iter().all(|step| step.contains("USING INDEX jobs_open")),
                "{query}: {reads:?}"
            );
        }
    }
}
