//! Takes out the logs of jobs that have had their time, every hour: first those older than their kind is kept, then the oldest until the rest is within
//! the bound of bytes. One small step per write, with a rest in between, so that nobody waits behind it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    config::LogsConfig,
    domain::{Timestamp, job::JobNo},
    store::{Store, StoreError, retention},
};

/// Jobs that are looked up at once.
const AT_ONCE: u32 = 200;
/// Rest between two steps: the writer is others' in the meantime.
const REST: Duration = Duration::from_millis(20);
const DAY_S: i64 = 86_400;

/// Removes what has had its time at `now`, until `stop`. Returns of how many jobs.
///
/// # Errors
/// [`StoreError`]; what was removed until then stays removed.
pub async fn remove(
    store: &Store,
    config: &LogsConfig,
    now: Timestamp,
    stop: &CancellationToken,
) -> Result<u64, StoreError> {
    let sweep = Sweep { store, stop };
    if let Some(job) = store.read(retention::under_way).await? {
        sweep.one(job).await?;
    }
    let ago = |days: Option<u32>| days.map(|days| now.plus_s(-i64::from(days) * DAY_S));
    let by_kind: Vec<_> = config.days_by_kind.iter().map(|(kind, days)| (kind.clone(), ago(*days))).collect();
    let removed = sweep.all(ago(config.days), by_kind, None).await?;
    let Some(bound) = config.bytes else { return Ok(removed) };
    let excess = store.read(retention::bytes).await?.saturating_sub(bound);
    if excess == 0 {
        return Ok(removed);
    }
    Ok(removed + sweep.all(Some(now), Vec::new(), Some(excess)).await?)
}

struct Sweep<'a> {
    store: &'a Store,
    stop: &'a CancellationToken,
}

impl Sweep<'_> {
    /// Removes the logs of jobs that ended before their time, the oldest first; with `excess`, only until so many bytes are gone.
    async fn all(
        &self,
        otherwise: Option<Timestamp>,
        by_kind: Vec<(String, Option<Timestamp>)>,
        mut excess: Option<u64>,
    ) -> Result<u64, StoreError> {
        let (mut removed, mut after) = (0, (Timestamp::from_unix_ms(i64::MIN), JobNo(0)));
        loop {
            let kinds = by_kind.clone();
            let found = self.store.read(move |db| retention::expired(db, after, otherwise, &kinds, AT_ONCE)).await?;
            for job in &found {
                if excess == Some(0) || self.stop.is_cancelled() {
                    return Ok(removed);
                }
                self.one(job.no).await?;
                excess = excess.map(|excess| excess.saturating_sub(job.bytes));
                removed += 1;
            }
            match found.last() {
                Some(last) => after = (last.finished_at, last.no),
                None => return Ok(removed),
            }
        }
    }

    async fn one(&self, job: JobNo) -> Result<(), StoreError> {
        while self.store.write(move |tx| retention::remove_step(tx, job)).await? {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            tokio::time::sleep(REST).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
