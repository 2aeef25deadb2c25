//! What the house does by itself: joins the logs of finished jobs, copies the database, forgets what has expired. All of it may be late, skipped or
//! repeated without harm.

use std::time::Duration;

use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use super::data_dir::Check;
use crate::{
    clock::SharedClock,
    config::LogsConfig,
    domain::job::Actor,
    lifecycle::Tasks,
    ops::{
        database::{BackupError, Database},
        old_logs,
    },
    store::{Store, StoreError, copies, enrolment, logs, probes, sessions},
};

/// How long after a start a copy that was missed is made: not while a fleet is coming back.
const CATCH_UP: Duration = Duration::from_secs(5 * 60);

/// What the house is kept with.
#[derive(Clone)]
pub(super) struct Housekeeping {
    pub(super) store: Store,
    pub(super) database: Database,
    pub(super) clock: SharedClock,
    pub(super) logs: LogsConfig,
    pub(super) tasks: Tasks,
}

/// Starts the housekeeping.
pub(super) fn start(house: Housekeeping, check: Check) {
    let Housekeeping { store, tasks, .. } = house.clone();
    tasks.spawn_core("sealing", seal_logs(store, tasks.clone()));
    tasks.spawn_core("memory", give_back_memory(tasks.clone()));
    if check == Check::Beside {
        tasks.spawn(look_through(house.clone()));
    }
    tasks.spawn(make_up_for_a_missed_copy(house.clone()));
    tasks.spawn_core("housekeeping", by_the_clock(house));
}

/// Looks through a large database after an end that was not clean, while the server serves.
async fn look_through(house: Housekeeping) {
    tracing::info!("the last end was not a clean one: looking through the database beside the service");
    let path = house.store.path().to_owned();
    match tokio::task::spawn_blocking(move || copies::faults(&path)).await {
        Ok(Ok(faults)) => {
            house.database.note_faults(&faults);
            match house.database.trouble().await {
                Ok(Some(trouble)) if !faults.is_empty() => tracing::error!("{trouble}"),
                _ => tracing::info!("the database is whole"),
            }
        }
        Ok(Err(e)) => tracing::warn!(error = %e, "the database could not be looked through"),
        // Its panic has been told by the runtime.
        Err(_) => {}
    }
}

async fn make_up_for_a_missed_copy(house: Housekeeping) {
    tokio::select! {
        () = house.tasks.stopping() => return,
        () = tokio::time::sleep(CATCH_UP) => {}
    }
    match house.database.missed().await {
        Ok(true) => copy_database(&house).await,
        Ok(false) => {}
        Err(e) => tracing::warn!(error = %e, "the copies of the database could not be looked up"),
    }
}

async fn copy_database(house: &Housekeeping) {
    match house.database.back_up(Actor::system(), house.tasks.soft_token()).await {
        Ok(_) | Err(BackupError::Busy) => {}
        Err(_) if house.tasks.is_stopping() => {}
        Err(e) => tracing::error!(error = %e, "the database was not copied; trying again within the hour"),
    }
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

/// Runs what has a time of day (UTC).
async fn by_the_clock(house: Housekeeping) {
    let mut scheduler = match schedule(&house).await {
        Ok(scheduler) => scheduler,
        Err(e) => {
            tracing::error!(error = %e, "housekeeping could not be scheduled");
            return;
        }
    };
    house.tasks.stopping().await;
    if let Err(e) = scheduler.shutdown().await {
        tracing::debug!(error = %e, "the housekeeping scheduler did not stop cleanly");
    }
}

async fn schedule(house: &Housekeeping) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    // Seconds first; every hour at 17 past, away from everyone's full hour.
    scheduler.add(at("0 17 * * * *", house, |house| async move { purge(&house).await })?).await?;
    if let Some((hour, minute)) = house.database.nightly_at() {
        scheduler
            .add(at(&format!("0 {minute} {hour} * * *"), house, |house| async move { copy_database(&house).await })?)
            .await?;
    }
    scheduler.start().await?;
    Ok(scheduler)
}

/// `work` at the times of a cron pattern.
fn at<W, F>(pattern: &str, house: &Housekeeping, work: W) -> Result<Job, JobSchedulerError>
where
    W: Fn(Housekeeping) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let house = house.clone();
    Job::new_async(pattern, move |_, _| Box::pin(work(house.clone())))
}

/// What is done every hour.
async fn purge(house: &Housekeeping) {
    let purged = house.store.write(|tx| Ok::<_, StoreError>(sessions::purge(tx)? + enrolment::purge(tx)?)).await;
    match purged {
        Ok(n) => tracing::debug!(n, "purged expired sessions and tokens"),
        Err(e) => tracing::warn!(error = %e, "expired sessions and tokens could not be purged"),
    }
    if house.database.failed_last().await && house.database.nightly_at().is_some() {
        copy_database(house).await;
    }
    if let Err(e) = thin_answers(house).await {
        tracing::warn!(error = %e, "old answers of probes could not be thinned; trying again within the hour");
    }
    let stop = house.tasks.soft_token();
    match old_logs::remove(&house.store, &house.logs, house.clock.now(), &stop).await {
        Ok(0) => {}
        Ok(jobs) => tracing::info!(jobs, "removed logs that have had their time"),
        Err(e) => tracing::warn!(error = %e, "old logs could not be removed; trying again within the hour"),
    }
}

/// Thins old answers of probes, a few probes per write.
async fn thin_answers(house: &Housekeeping) -> Result<(), StoreError> {
    let mut next = Some(0);
    while let Some(after) = next.filter(|_| !house.tasks.is_stopping()) {
        next = house.store.write(move |tx| probes::thin_step(tx, after)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _, path::Path};

    use super::*;
    use crate::{
        app::data_dir,
        clock::SystemClock,
        config::{Config, RawConfig},
        hub::Hub,
        store::audit,
    };

    /// A database of some pages in `folder`, all in one file, as a clean end leaves it.
    async fn filled(folder: &Path) -> std::path::PathBuf {
        let first = folder.join("first");
        fs::create_dir(&first).unwrap();
        let store = Store::open(&first, Hub::new(), std::sync::Arc::new(SystemClock)).unwrap();
        let fill = |tx: &mut crate::store::WriteTx<'_>| {
            (0..2000).try_for_each(|n| audit::record(tx, &Actor::system(), "test", &n.to_string(), "something"))
        };
        store.write(fill).await.unwrap();
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        store.copy_to(data.join(crate::store::FILE_NAME), Tasks::new().soft_token()).await.unwrap();
        data
    }

    fn config(data: &Path) -> Config {
        RawConfig { data_dir: Some(data.to_owned()), ..RawConfig::default() }.validate().unwrap()
    }

    /// What an administrator is told of the database in `data` once it was looked through beside the service.
    async fn told(data: &Path) -> Option<String> {
        let clock: SharedClock = std::sync::Arc::new(SystemClock);
        let store = Store::open(data, Hub::new(), clock.clone()).unwrap();
        let Config { database, logs, .. } = config(data);
        let database = Database::new(store.clone(), clock.clone(), database);
        let house = Housekeeping { store, database: database.clone(), clock, logs, tasks: Tasks::new() };
        look_through(house).await;
        database.trouble().await.unwrap()
    }

    #[tokio::test]
    async fn a_large_database_is_served_after_a_crash_and_what_is_found_beside_the_service_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let data = filled(folder.path()).await;
        let (config, file) = (config(&data), data.join(crate::store::FILE_NAME));
        assert_eq!(data_dir::begin(&config, 0).unwrap(), Check::Done, "the first start");
        let size = fs::metadata(&file).unwrap().len();
        assert_eq!(data_dir::begin(&config, size).unwrap(), Check::Done, "looked through at once");
        assert_eq!(data_dir::begin(&config, size - 1).unwrap(), Check::Beside);
        assert_eq!(told(&data).await.filter(|text| text.contains("damaged")), None);
        // What was written last: nothing that a start needs.
        let mut bytes = fs::read(&file).unwrap();
        let end = bytes.len() - 2 * 4096;
        bytes[end - 4 * 4096..end].fill(0x5a);
        fs::File::create(&file).unwrap().write_all(&bytes).unwrap();
        assert_eq!(data_dir::begin(&config, size - 1).unwrap(), Check::Beside);
        assert!(told(&data).await.unwrap().contains("damaged"));
        assert!(data_dir::begin(&config, size).is_err(), "a small one is not served");
    }
}
