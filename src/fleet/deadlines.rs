//! What becomes of jobs whose agent does not come: a reconciler that looks at the clock and at the store and nothing else. Only what no agent can have ends as
//! `failed`; what one may have, or had, ends as `lost`, which its true end replaces whenever that comes.

use crate::{
    domain::{
        JobStatus, Timestamp,
        job::{End, lost_at},
    },
    fleet::Fleet,
    hub::Hub,
    store::{Db, StoreError, WriteTx, jobs, jobs::Doubtful},
};

/// How long an agent may be away before an order that was sent to it, and whose time is up, is given up: it may have it, and is probably on its way back.
const GRACE_S: i64 = 15 * 60;

/// Runs until the stop.
pub(super) async fn run(fleet: Fleet) {
    // An agent that could not reach a server that was down was not gone.
    let up_since = fleet.inner.clock.now();
    loop {
        tokio::select! {
            () = fleet.inner.tasks.stopping() => return,
            () = tokio::time::sleep(fleet.inner.options.look) => {}
        }
        if let Err(e) = look(&fleet, up_since).await {
            tracing::error!(error = %e, "jobs whose time is up could not be looked for; trying again in a few seconds");
        }
    }
}

async fn look(fleet: &Fleet, up_since: Timestamp) -> Result<(), StoreError> {
    let lost_after_s = i64::try_from(fleet.inner.options.lost_after.as_secs()).unwrap_or(i64::MAX);
    let rule = Rule { now: fleet.inner.clock.now(), up_since, lost_after_s, hub: fleet.inner.hub.clone() };
    let reading = rule.clone();
    if fleet.inner.store.read(move |db| reading.ends(db)).await?.is_empty() {
        return Ok(());
    }
    // Read again where nothing can come between: an agent may have told the truth meanwhile.
    let ended = fleet.inner.store.write(move |tx| rule.end_all(tx)).await?;
    tracing::warn!(jobs = ended, "gave up jobs whose agent did not come");
    Ok(())
}

#[derive(Clone)]
struct Rule {
    now: Timestamp,
    up_since: Timestamp,
    lost_after_s: i64,
    hub: Hub,
}

impl Rule {
    fn end_all(&self, tx: &mut WriteTx<'_>) -> Result<usize, StoreError> {
        let ends = self.ends(tx.db())?;
        for (job, status, text) in &ends {
            let end = End {
                status: *status,
                at: self.now,
                exit_code: None,
                error: Some(text.clone()),
                summary: None,
                log_truncated: false,
            };
            jobs::finish(tx, job.id, job.host_id, &end, None)?;
        }
        Ok(ends.len())
    }

    /// The jobs that are to end now, how, and what is said of it.
    fn ends(&self, db: &Db) -> Result<Vec<(Doubtful, JobStatus, String)>, StoreError> {
        let mut ends = Vec::new();
        for job in jobs::expired(db, self.now)? {
            if job.dispatched_at.is_none() {
                let text = self.not_taken(&job);
                ends.push((job, JobStatus::Failed, text));
            } else if self.gone_since(&job).is_some_and(|since| self.now >= since.plus_s(GRACE_S)) {
                let text = self.unanswered(&job);
                ends.push((job, JobStatus::Lost, text));
            }
        }
        for job in jobs::taken(db)? {
            let gone = self.gone_since(&job);
            if gone.is_some_and(|since| self.now >= lost_at(since, job.timeout_s, self.lost_after_s)) {
                let text = gone_for_good(&job);
                ends.push((job, JobStatus::Lost, text));
            }
        }
        Ok(ends)
    }

    /// Since when this server waits for the job's agent; `None` while it is here.
    fn gone_since(&self, job: &Doubtful) -> Option<Timestamp> {
        if self.hub.is_online(job.host_id) {
            return None;
        }
        let seen = [job.last_seen_at, job.accepted_at.or(job.dispatched_at)].into_iter().flatten();
        Some(seen.fold(self.up_since, Timestamp::max))
    }

    fn not_taken(&self, job: &Doubtful) -> String {
        let waited = self.now.ms_since(job.created_at) / 60_000;
        let (hours, minutes) = (waited / 60, waited % 60);
        let why = match (self.hub.is_online(job.host_id), job.last_seen_at) {
            (true, _) => "it was connected, but other jobs had its places or the repository".to_owned(),
            (false, Some(at)) => format!("its agent was last heard at {}", minute(at)),
            (false, None) => "its agent never connected".to_owned(),
        };
        let what = if self.hub.is_online(job.host_id) {
            "look at what holds the queue up, then run it again"
        } else {
            "bring the agent back, then run it again"
        };
        format!(
            "the job was never begun: {} did not take it within {hours} h {minutes} min ({why}). Nothing was changed; {what}",
            job.host_name
        )
    }

    fn unanswered(&self, job: &Doubtful) -> String {
        let sent = job.dispatched_at.map(minute).unwrap_or_default();
        let wish = if job.stopping { " It was to be cancelled, which could not be told to the agent." } else { "" };
        format!(
            "{} got the order at {sent} and went away before it said so, and has not been back: whether the job began is unknown.{wish} \
             If its agent comes back and has run it, the true end takes the place of this one; otherwise run it again",
            job.host_name
        )
    }
}

fn gone_for_good(job: &Doubtful) -> String {
    let heard = job.last_seen_at.map_or_else(|| "never".to_owned(), minute);
    format!(
        "{} had the job and has not been heard since {heard}: how the job ended is unknown. If its agent comes back, its log goes on here and \
         the true end takes the place of this one; otherwise run it again once the host is back",
        job.host_name
    )
}

fn minute(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
