//! What the house does by itself: joins the logs of finished jobs, forgets what has expired. All of it may be late, skipped or repeated without harm.

use std::time::Duration;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::{
    lifecycle::Tasks,
    store::{Store, StoreError, enrolment, logs, sessions},
};

/// Starts the housekeeping.
pub(super) fn start(store: &Store, tasks: &Tasks) {
    tasks.spawn_core("sealing", seal_logs(store.clone(), tasks.clone()));
    tasks.spawn_core("memory", give_back_memory(tasks.clone()));
    tasks.spawn_core("housekeeping", by_the_clock(store.clone(), tasks.clone()));
}

/// Joins finished logs, one small step per write, so that nobody waits long behind it.
async fn seal_logs(store: Store, tasks: Tasks) {
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
        if let Err(e) = seal_pending(&store, &tasks).await {
            tracing::warn!(error = %e, "finished logs could not be joined; trying again");
        }
    }
}

async fn seal_pending(store: &Store, tasks: &Tasks) -> Result<(), StoreError> {
    while let Some(job) = store.read(logs::next_unsealed).await? {
        let mut next = Some(1);
        while let Some(from) = next {
            if tasks.is_stopping() {
                return Ok(());
            }
            next = store.write(move |tx| logs::seal_step(tx, job, from)).await?;
        }
    }
    Ok(())
}

/// Between two looks at how many connections have gone.
const TIDY: Duration = Duration::from_secs(2);
/// So many fewer connections are worth a look through the heap.
const WORTH_IT: usize = 500;

/// Gives memory back to the system after many connections have gone: the allocator keeps it else, 140 MiB after 10,000 agents.
async fn give_back_memory(tasks: Tasks) {
    let mut most = 0;
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(TIDY) => {}
        }
        let running = tasks.running();
        most = most.max(running);
        if most - running >= WORTH_IT {
            most = running;
            tokio::task::spawn_blocking(trim_heap).await.ok();
        }
    }
}

/// Hands free pages at the ends and in the middle of the heap back. Only glibc needs to be told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no safe way to the allocator of the C library")]
fn trim_heap() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: malloc_trim(3) takes any number, locks what it looks at, and touches no memory that is in use.
    unsafe { malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim_heap() {}

/// Runs the purges at their times (UTC).
async fn by_the_clock(store: Store, tasks: Tasks) {
    let mut scheduler = match schedule(&store).await {
        Ok(scheduler) => scheduler,
        Err(e) => {
            tracing::error!(error = %e, "housekeeping could not be scheduled");
            return;
        }
    };
    tasks.stopping().await;
    if let Err(e) = scheduler.shutdown().await {
        tracing::debug!(error = %e, "the housekeeping scheduler did not stop cleanly");
    }
}

async fn schedule(store: &Store) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let store = store.clone();
    // Seconds first; every hour at 17 past, away from everyone's full hour.
    let purge = Job::new_async("0 17 * * * *", move |_, _| {
        let store = store.clone();
        Box::pin(async move {
            let purged = store.write(|tx| Ok::<_, StoreError>(sessions::purge(tx)? + enrolment::purge(tx)?)).await;
            match purged {
                Ok(n) => tracing::debug!(n, "purged expired sessions and tokens"),
                Err(e) => tracing::warn!(error = %e, "expired sessions and tokens could not be purged"),
            }
        })
    })?;
    scheduler.add(purge).await?;
    scheduler.start().await?;
    Ok(scheduler)
}
