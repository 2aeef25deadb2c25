//! `flotilla db`: a copy of the database while it is in use, its integrity, and the way back.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;

use super::{CliError, DataArgs, print};
use crate::{
    clock::SystemClock,
    hub::Hub,
    store::{FILE_NAME, Store},
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
    /// Bring a copy back into an empty data folder
    Restore {
        /// The copy
        file: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
}

pub(super) async fn run(command: DbCommand) -> Result<(), CliError> {
    match command {
        DbCommand::Backup { file, data } => {
            open(&data)?.copy_to(file.clone(), tokio_util::sync::CancellationToken::new()).await.map_err(CliError::failed)?;
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
        DbCommand::Restore { file, data } => restore(&file, &data.data_dir()?).await.map_err(CliError::failed),
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

async fn restore(file: &std::path::Path, dir: &std::path::Path) -> anyhow::Result<()> {
    let target = dir.join(FILE_NAME);
    if target.exists() {
        bail!(
            "{} exists already: restore only into an empty data folder, so that nothing is overwritten",
            target.display()
        );
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let partial = dir.join("flotilla.db.restoring");
    // What an earlier attempt left behind.
    fs::remove_file(&partial).ok();
    fs::copy(file, &partial).with_context(|| format!("cannot copy {}", file.display()))?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, &target)?;
    let check = async {
        let store = Store::open(dir, Hub::new(), Arc::new(SystemClock))?;
        let problems = store.integrity_problems().await?;
        if problems.is_empty() { Ok(()) } else { Err(anyhow!("the copy is damaged: {}", problems.join("; "))) }
    };
    if let Err(e) = check.await {
        fs::remove_file(&target).ok();
        return Err(e.context(format!("{} was not restored", file.display())));
    }
    print("restored; put the master key beside it before you start the server").map_err(|e| anyhow!("{e}"))
}
