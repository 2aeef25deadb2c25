//! `flotilla demo`: everything on this machine, with real parts: control plane, one agent, an append-only restic REST repository, sample data, a first real
//! backup. `--once` also restores into a new folder, compares byte by byte, tries to delete with the endpoint's credentials, and ends.

mod repository;
mod sample;
mod stage;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use flotilla_agent::cli::StopSignals;
use tokio_util::sync::CancellationToken;

use super::{CliError, log_to_stderr, print};
use crate::domain::JobStatus;
use stage::Stage;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Back up, restore, compare, print a summary, and end
    #[arg(long)]
    once: bool,
    /// A new folder for everything; kept afterwards [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080; with --once any free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

pub(super) async fn run(args: DemoArgs) -> Result<(), CliError> {
    if std::env::var_os("FLOTILLA_LOG").is_some() {
        log_to_stderr();
    }
    let signals = StopSignals::catch().map_err(CliError::failed)?;
    let stop = CancellationToken::new();
    tokio::select! {
        shown = show(args, stop.clone()) => shown.map_err(CliError::Failed),
        () = signals.stop(stop) => Err(CliError::Failed(anyhow::anyhow!("stopped at once by a second signal"))),
    }
}

/// The folder of one demo; removed with everything in it unless it was asked for by name.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn make(asked: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = asked {
            if fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
                bail!("{} is not empty: give a new folder, so that nothing is overwritten", path.display());
            }
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
            return Ok(Self { path: fs::canonicalize(path)?, temporary: false });
        }
        let path = std::env::temp_dir().join(format!("flotilla-demo-{}", std::process::id()));
        // What a killed demo with the same process id left behind.
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: fs::canonicalize(path)?, temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary
            && let Err(e) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), error = %e, "the demo's folder could not be removed");
        }
    }
}

async fn show(args: DemoArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let listen = args.listen.unwrap_or_else(|| if args.once { "127.0.0.1:0" } else { "127.0.0.1:8080" }.to_owned());
    let folder = Folder::make(args.data_dir)?;
    let stage = tokio::select! {
        stage = Stage::set(&folder.path, &listen) => stage?,
        () = stop.cancelled() => return Ok(()),
    };
    let played = tokio::select! {
        played = play(&stage, args.once) => played,
        () = stop.cancelled() => Ok(()),
    };
    if played.is_ok() && !args.once && !stop.is_cancelled() {
        say("")?;
        say(&format!("  Open      {}", stage.url()))?;
        say(&format!("  Log in    {}  /  {}", stage.user, stage.password.expose()))?;
        say(&format!("  Folder    {}", folder.path.display()))?;
        say("  End       Ctrl-C")?;
        say("")?;
        // The last line, for whoever waits for it.
        say(&format!("listening on {}", stage.url()))?;
        stop.cancelled().await;
    }
    stage.strike().await;
    played
}

fn say(line: &str) -> anyhow::Result<()> {
    print(line).map_err(|e| anyhow::anyhow!("{e}"))
}

/// The first backup; with `once` the proof that it can be restored.
async fn play(stage: &Stage, once: bool) -> anyhow::Result<()> {
    say(&format!("✓ control plane at {}", stage.url()))?;
    say(&format!("✓ append-only repository by {} at {}", stage.repository_server(), stage.repository_url()))?;
    say(&format!("✓ agent {} enrolled, restic {}", stage.host_name, stage.restic_version().await?))?;
    let backup = stage.back_up().await?;
    if backup.status != JobStatus::Succeeded {
        bail!("the first backup ended as {}: {}", backup.status, backup.error.unwrap_or_default());
    }
    let summary = backup.summary.unwrap_or_default();
    let count = |name: &str| summary[name].as_u64().unwrap_or_default();
    say(&format!(
        "✓ backed up {} files, {} bytes, snapshot {} ({} log lines)",
        count("total_files_processed"),
        count("total_bytes_processed"),
        summary["snapshot_id"].as_str().unwrap_or_default(),
        backup.log_lines,
    ))?;
    if !once {
        return Ok(());
    }
    let restored = stage.restore().await?;
    if restored.status != JobStatus::Succeeded {
        bail!("the restore ended as {}: {}", restored.status, restored.error.unwrap_or_default());
    }
    let same = stage.compare()?;
    say(&format!(
        "✓ restored into {} and compared byte by byte: {same} files are the same",
        stage.restore_folder().display()
    ))?;
    stage.try_to_delete().await?;
    say("✓ the endpoint's own credentials cannot delete: the repository refused to forget the snapshot")?;
    say("everything works")
}
