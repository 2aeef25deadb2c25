//! The data folder: whose it is while a server runs, and how the last one ended. A marker lies in it from a start to a clean end; one that is found at a
//! start tells of a crash or a power cut, after which the database is looked through before it is trusted.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::StartError;
use crate::{
    config::Config,
    ops::database,
    store::{self, copies},
};

/// There while a server runs, gone after a clean end.
const MARKER: &str = "serve.running";
/// A larger database is looked through while the server runs already: nobody waits minutes for a start.
pub(super) const CHECK_FIRST: u64 = 256 << 20;

/// How long one that just ended may hold the folder, and how often that is looked at.
const LET_GO: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// Takes the folder for this process, and makes it where it is not there. Held for as long as the file is.
///
/// # Errors
/// [`StartError::Locked`] while another server runs on it; [`StartError::DataDir`].
fn lock(dir: &Path) -> Result<fs::File, StartError> {
    let unusable = |source| StartError::DataDir { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(unusable)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
    }
    let file = fs::File::create(dir.join("serve.lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StartError::Locked { path: dir.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// [`lock`], for a start: a child that a killed server was just about to begin holds the server's files for a moment longer than it did itself.
///
/// # Errors
/// As [`lock`].
pub(super) async fn take(dir: &Path) -> Result<fs::File, StartError> {
    let deadline = Instant::now() + LET_GO;
    loop {
        match lock(dir) {
            Err(StartError::Locked { .. }) if Instant::now() < deadline => sleep(LOOK).await,
            taken => return taken,
        }
    }
}

/// What is to be done about the database's integrity at this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: the last end was clean, or the check is done.
    Done,
    /// It is large: look through it beside the service.
    Beside,
}

/// Looks through the database where the last end was not clean, and marks that this server runs. One of more than `check_first` bytes is left for later.
///
/// # Errors
/// [`StartError::Damaged`]; the folder is as it was.
pub(super) fn begin(config: &Config, check_first: u64) -> Result<Check, StartError> {
    let (dir, database) = (&config.data_dir, config.data_dir.join(store::FILE_NAME));
    let marker = dir.join(MARKER);
    let mut check = Check::Done;
    if marker.exists()
        && let Ok(metadata) = fs::metadata(&database)
    {
        if metadata.len() <= check_first {
            tracing::info!("the last end was not a clean one: looking through the database");
            let faults = copies::faults(&database)?;
            if !faults.is_empty() {
                return Err(damaged(config, &database, &faults));
            }
        } else {
            check = Check::Beside;
        }
    }
    if let Err(e) = mark(&marker) {
        // A full disk must not keep the server down; the next start then trusts the database.
        tracing::warn!(file = %marker.display(), error = %e, "the start could not be marked");
    }
    Ok(check)
}

fn mark(marker: &Path) -> io::Result<()> {
    fs::File::create(marker)?.sync_all()?;
    // The name must outlive a power cut, too.
    let dir = marker.parent().unwrap_or(Path::new("."));
    if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Notes a clean end, or that the database was looked through by other means.
pub(super) fn end_cleanly(dir: &Path) {
    if let Err(e) = fs::remove_file(dir.join(MARKER))
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = %e, "the clean end could not be noted; the next start looks through the database");
    }
}

fn damaged(config: &Config, database: &Path, faults: &[String]) -> StartError {
    let dir = database::backup_dir(&config.database, &config.data_dir);
    let remedy = match database::newest_in(&dir) {
        Some(copy) => format!(
            "Bring the newest good copy back with `flotilla db restore {} --replace --data-dir {}`; the damaged file is kept beside it",
            copy.path.display(),
            config.data_dir.display()
        ),
        None => format!(
            "There is no copy in {}: bring one back from elsewhere with `flotilla db restore FILE --replace --data-dir {}`, or save what can be saved with \
             `sqlite3 {} .recover`",
            dir.display(),
            config.data_dir.display(),
            database.display()
        ),
    };
    let faults = faults.first().map_or_else(String::new, |first| match faults.len() {
        1 => first.clone(),
        n => format!("{first}, and {} more", n - 1),
    });
    StartError::Damaged { path: PathBuf::from(database), faults, remedy }
}

/// Holds the folder of a server that does not run, for those who work on its files, and says so where one runs.
///
/// # Errors
/// [`StartError::Locked`], [`StartError::DataDir`].
pub fn hold(dir: &Path) -> Result<Held, StartError> {
    Ok(Held { dir: dir.to_owned(), _lock: lock(dir)? })
}

/// A data folder on which no server starts while this is held.
#[derive(Debug)]
pub struct Held {
    dir: PathBuf,
    _lock: fs::File,
}

impl Held {
    /// Says that the database in it was looked through and is whole.
    pub fn is_whole(&self) {
        end_cleanly(&self.dir);
    }
}
