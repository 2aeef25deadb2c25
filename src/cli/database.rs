//! `flotilla db`: a copy of the database while it is in use, its integrity, and the way back.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;

use super::{CliError, DataArgs, print};
use crate::{
    app,
    clock::{Clock as _, SystemClock},
    hub::Hub,
    store::{FILE_NAME, Store, copies},
};

#[derive(Subcommand)]
pub(super) enum DbCommand {
    /// Copy the database to a new file, also while the server runs
    Backup {
        /// The new file
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Check the database's integrity
    Check {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Bring a copy back into an empty data folder, or in place of the database that is there
    Restore {
        /// The copy
        file: PathBuf,
        /// Put it in place of the database that is there, which is kept beside it; the server must be stopped
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        data: DataArgs,
    },
}

pub(super) async fn run(command: DbCommand) -> Result<(), CliError> {
    match command {
        DbCommand::Backup { file, data } => {
            open(&data)?
                .copy_to(file.clone(), tokio_util::sync::CancellationToken::new())
                .await
                .map_err(CliError::failed)?;
            print(&format!("wrote {}; keep it together with the master key, which it does not hold", file.display()))
        }
        DbCommand::Check { data } => {
            match open(&data)?.integrity_problems().await.map_err(CliError::failed)?.as_slice() {
                [] => print("ok"),
                problems => Err(CliError::failed(anyhow!(
                    "the database is damaged: {}. Stop the server and restore a backup with `flotilla db restore`",
                    problems.join("; ")
                ))),
            }
        }
        DbCommand::Restore { file, replace, data } => {
            let dir = data.data_dir()?;
            // Files are moved and a database is walked: work for a thread that may wait.
            let restored = tokio::task::spawn_blocking(move || restore(&file, &dir, replace)).await;
            let text = restored.map_err(CliError::failed)?.map_err(CliError::failed)?;
            print(&text)
        }
    }
}

/// The store of an existing data folder: a typo in its name must not make a new database.
pub(super) fn open(data: &DataArgs) -> Result<Store, CliError> {
    let dir = data.data_dir()?;
    if !dir.join(FILE_NAME).exists() {
        return Err(CliError::Usage(format!(
            "there is no Flotilla database in {}: give its folder with --data-dir, or start `flotilla serve` on it once",
            dir.display()
        )));
    }
    Store::open(&dir, Hub::new(), Arc::new(SystemClock)).map_err(CliError::failed)
}

/// Brings a copy back: looked through beside its place, so that a damaged one costs nothing; then moved into it.
fn restore(file: &Path, dir: &Path, replace: bool) -> anyhow::Result<String> {
    let target = dir.join(FILE_NAME);
    if target.exists() && !replace {
        bail!(
            "{} exists already: restore only into an empty data folder, so that nothing is overwritten; or with --replace, which keeps the one that is there beside it",
            target.display()
        );
    }
    let held = app::hold(dir)?;
    let partial = dir.join("flotilla.db.restoring");
    // What an earlier attempt left behind.
    discard(&partial);
    let prepared = prepare(file, &partial);
    if let Err(e) = prepared {
        discard(&partial);
        return Err(e.context(format!("{} was not restored", file.display())));
    }
    let aside = if target.exists() { Some(set_aside(&target)?) } else { None };
    fs::rename(&partial, &target).with_context(|| format!("cannot move {} into its place", partial.display()))?;
    if cfg!(unix) {
        // The new name must outlive a power cut.
        fs::File::open(dir)?.sync_all()?;
    }
    held.is_whole();
    let key = "put the master key beside it before you start the server";
    Ok(match aside {
        Some(aside) => format!(
            "restored; the database that was there is {} now; the master key must be the one of the copy",
            aside.display()
        ),
        None => format!("restored; {key}"),
    })
}

fn prepare(file: &Path, partial: &Path) -> anyhow::Result<()> {
    fs::copy(file, partial).with_context(|| format!("cannot copy {}", file.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(partial, fs::Permissions::from_mode(0o600))?;
    }
    let problems = copies::prepare(partial)?;
    if !problems.is_empty() {
        bail!("the copy is damaged: {}", problems.join("; "));
    }
    fs::File::open(partial)?.sync_all()?;
    Ok(())
}

/// The files of a database: itself, its write-ahead log, its index of that.
fn files(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|end| {
        let mut name = database.as_os_str().to_owned();
        name.push(end);
        name.into()
    })
}

fn discard(database: &Path) {
    for file in files(database) {
        // Mostly they are not there.
        fs::remove_file(file).ok();
    }
}

/// Moves a database out of the way, with all that belongs to it: nothing that it holds is lost.
fn set_aside(database: &Path) -> anyhow::Result<PathBuf> {
    let now = SystemClock.now().to_string().replace(':', "-");
    let aside = database.with_file_name(format!("{FILE_NAME}.replaced-{now}"));
    for (from, to) in files(database).iter().zip(files(&aside)) {
        match fs::rename(from, &to) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot move {} out of the way", from.display())),
        }
    }
    Ok(aside)
}
