//! What the dispatcher and the pages ask of the queue. It costs what is open, not what has ever been: a test holds that these use the index of open jobs.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::{Route, ends, lookup};
use crate::{
    domain::{
        HostId, JobId, JobStatus, Timestamp,
        job::{Job, JobNo},
        lock::Access,
        queue::{self, Holder, Obstacle, OpenJob, QueueRules, Stage, Turns, WaitsFor},
    },
    store::{
        StoreError, WriteTx, hosts,
        rows::{parsed, parsed_opt, time_opt},
    },
};

const OPEN: &str = "SELECT j.no, j.id, j.host_id, j.about_id, j.repo_id, j.plan_id, j.kind, j.status = 'running' OR j.accepted_at IS NOT NULL AS taken, j.dispatched_at,
    j.cancel_requested_at IS NOT NULL AS stopping, j.expires_at <= ?1 AS expired, coalesce(r.init AND r.known_at IS NULL, 0) AS to_be_made,
    coalesce(j.input ->> '$.runbook.alone', 0) AS alone, second.id AS second_id, coalesce(second.init AND second.known_at IS NULL, 0) AS second_to_be_made
    FROM jobs j LEFT JOIN repos r ON r.id = j.repo_id LEFT JOIN repos second ON second.id = j.input ->> '$.operation.copy.to' WHERE j.status IN ('queued', 'running')";
const HELD: &str = "SELECT id, no, host_id, status, log_lines FROM jobs
    WHERE host_id = ?1 AND status IN ('queued', 'running') AND accepted_at IS NOT NULL";
const UNACCEPTED: &str =
    "SELECT 1 FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
    AND accepted_at IS NULL AND dispatched_at IS NOT NULL";
const UNWANTED: &str =
    "SELECT id FROM jobs WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
    AND accepted_at IS NULL AND cancel_requested_at IS NOT NULL";
const REQUEUE: &str =
    "UPDATE jobs SET dispatched_at = NULL WHERE host_id = ?1 AND status IN ('queued', 'running') AND status = 'queued'
    AND accepted_at IS NULL AND dispatched_at IS NOT NULL";

/// All jobs that are not over, in order of arrival.
///
/// # Errors
/// [`StoreError`].
pub fn open(db: &Connection, now: Timestamp) -> Result<Vec<OpenJob>, StoreError> {
    let mut statement = db.prepare_cached(OPEN)?;
    let rows = statement.query_map([now.unix_ms()], |row| {
        let stage = match (row.get("taken")?, time_opt(row, "dispatched_at")?) {
            (true, _) => Stage::Taken,
            (false, Some(at)) => Stage::Sent(at),
            (false, None) => Stage::Waiting,
        };
        let expired = stage == Stage::Waiting && row.get::<_, Option<bool>>("expired")? == Some(true);
        let made = |to_be_made: bool| if to_be_made { Access::Exclusive } else { Access::Shared };
        let second_access = made(row.get("second_to_be_made")?);
        let second = parsed_opt(row, "second_id")?.map(|id| (id, second_access));
        let host = parsed(row, "host_id")?;
        Ok(OpenJob {
            no: JobNo(row.get("no")?),
            id: parsed(row, "id")?,
            host,
            seat: parsed_opt(row, "about_id")?.unwrap_or(host),
            repo: parsed_opt(row, "repo_id")?,
            plan: parsed_opt(row, "plan_id")?,
            access: if row.get("to_be_made")? { Access::Exclusive } else { Access::of(&parsed(row, "kind")?) },
            second,
            alone: row.get("alone")?,
            stage,
            stopping: row.get::<_, bool>("stopping")? || expired,
        })
    })?;
    let mut open = rows.collect::<Result<Vec<_>, _>>()?;
    // The index has them by host.
    open.sort_unstable_by_key(|job| job.no);
    Ok(open)
}

/// Marks a queued job as sent now. Returns whether it was still to be sent.
///
/// # Errors
/// [`StoreError`].
pub fn claim(tx: &mut WriteTx<'_>, job: JobNo) -> Result<bool, StoreError> {
    let now = tx.now().unix_ms();
    let changed = tx
        .db()
        .prepare_cached(
            "UPDATE jobs SET dispatched_at = ?2 WHERE no = ?1 AND status = 'queued' AND accepted_at IS NULL AND cancel_requested_at IS NULL",
        )?
        .execute(params![job.0, now])?;
    Ok(changed > 0)
}

/// Jobs of all hosts that are queued, of those that are listed, with what each waits for; what is about to be sent is not among them.
/// `connected` says whose agent is there.
///
/// # Errors
/// [`StoreError`].
pub fn waits_for(
    db: &Connection,
    jobs: &[Job],
    (rules, now): (QueueRules, Timestamp),
    connected: impl Fn(HostId) -> bool,
) -> Result<HashMap<JobId, WaitsFor>, StoreError> {
    let mut waits = HashMap::new();
    if jobs.iter().all(|job| job.status != JobStatus::Queued) {
        return Ok(waits);
    }
    let decided = queue::decide(&open(db, now)?, rules, &Turns::default(), &connected);
    for job in jobs.iter().filter(|job| job.status == JobStatus::Queued) {
        let wait = if !connected(job.host_id) {
            Some(WaitsFor::Host {
                last_seen_at: hosts::last_seen(db, job.host_id)?,
                gives_up_at: job.expires_at.filter(|_| job.accepted_at.is_none()),
                sent: job.dispatched_at.is_some(),
                stopping: job.cancel_requested_at.is_some(),
            })
        } else if job.accepted_at.is_some() {
            Some(WaitsFor::Agent)
        } else if job.dispatched_at.is_some() {
            Some(WaitsFor::Order)
        } else {
            match decided.waits.get(&job.id) {
                Some(obstacle) => words(db, *obstacle, rules)?,
                None => None,
            }
        };
        waits.extend(wait.map(|wait| (job.id, wait)));
    }
    Ok(waits)
}

fn words(db: &Connection, obstacle: Obstacle, rules: QueueRules) -> Result<Option<WaitsFor>, StoreError> {
    let holder = |id: JobId| {
        let found = lookup(db, id)?;
        Ok::<_, StoreError>(found.map(|job| Holder { id, host_name: job.shown_host().to_owned(), kind: job.kind }))
    };
    Ok(match obstacle {
        Obstacle::Host => None,
        Obstacle::Repository(id) => holder(id)?.map(WaitsFor::Repository),
        Obstacle::Turn(id) => holder(id)?.map(WaitsFor::Turn),
        Obstacle::Plan(id) => holder(id)?.map(WaitsFor::Plan),
        Obstacle::Runbook(id) => holder(id)?.map(WaitsFor::Runbook),
        Obstacle::HostPlaces => Some(WaitsFor::HostPlaces(rules.per_host)),
        Obstacle::AllPlaces => Some(WaitsFor::AllPlaces(rules.in_all)),
    })
}

/// Puts back what was sent to `host` and is not accepted: a new connection knows the truth. What was to be cancelled meanwhile is over:
/// no agent has it, so none could say so.
///
/// # Errors
/// [`StoreError`].
pub fn requeue_unaccepted(tx: &mut WriteTx<'_>, host: HostId) -> Result<(), StoreError> {
    let unwanted: Vec<JobId> = {
        let mut statement = tx.db().prepare_cached(UNWANTED)?;
        statement.query_map([host.to_string()], |row| parsed(row, "id"))?.collect::<Result<_, _>>()?
    };
    for id in unwanted {
        ends::finish(tx, id, host, &ends::cancelled_unsent(tx.now()), None)?;
    }
    tx.db().prepare_cached(REQUEUE)?.execute([host.to_string()])?;
    Ok(())
}

/// Jobs that `host` accepted and that are not over, as the store has it.
///
/// # Errors
/// [`StoreError`].
pub fn held_by(db: &Connection, host: HostId) -> Result<Vec<(JobId, Route)>, StoreError> {
    let mut statement = db.prepare_cached(HELD)?;
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
    Ok(db.prepare_cached(UNACCEPTED)?.exists([host.to_string()])?)
}

#[cfg(test)]
mod tests {
    use rusqlite::{params_from_iter, types::Value};

    use super::*;
    use crate::store::migrate;

    #[test]
    fn a_look_at_the_queue_reads_open_jobs_and_none_that_are_over() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate::run(&mut db, std::path::Path::new("x")).unwrap();
        for query in [OPEN, HELD, UNACCEPTED, UNWANTED, REQUEUE, ends::EXPIRED, ends::TAKEN] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let nulls = vec![Value::Null; plan.parameter_count()];
            let steps = plan.query_map(params_from_iter(nulls), |row| row.get::<_, String>("detail")).unwrap();
            let reads: Vec<String> = steps
                .map(Result::unwrap)
                .filter(|step| step.starts_with("SCAN") || step.starts_with("SEARCH"))
                // One row each, by its id.
                .filter(|step| !["SEARCH h ", "SEARCH r ", "SEARCH second "].iter().any(|one| step.starts_with(one)))
                .collect();
            assert!(
                !reads.is_empty() && reads.iter().all(|step| step.contains("USING INDEX jobs_open")),
                "{query}: {reads:?}"
            );
        }
    }
}
