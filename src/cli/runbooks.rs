//! `flotilla runbook`: whether files are runbooks, and which runbooks there are. Neither needs the server.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Subcommand;

use super::{CliError, DataArgs, print};
use crate::runbook::{Library, Origin, parse, read_text};

#[derive(Subcommand)]
pub(super) enum RunbookCommand {
    /// Look whether files are runbooks; says what is wrong, with the line
    Check {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the runbooks that there are: the shipped ones, and those of the data folder
    List {
        #[command(flatten)]
        data: DataArgs,
    },
}

pub(super) fn run(command: RunbookCommand) -> Result<(), CliError> {
    match command {
        RunbookCommand::Check { files } => check(&files),
        RunbookCommand::List { data } => list(&data),
    }
}

fn check(files: &[PathBuf]) -> Result<(), CliError> {
    let mut broken = 0;
    for file in files {
        let shown = file.display();
        let said = match read_text(file).map(|text| parse(&text)) {
            Ok(Ok(runbook)) => {
                format!("{shown}: ok: {}, {} steps", runbook.name, runbook.steps.len() + runbook.teardown.len())
            }
            Ok(Err(error)) => {
                broken += 1;
                let line = error.line.map(|line| format!(":{line}")).unwrap_or_default();
                format!("{shown}{line}: {}", error.what)
            }
            Err(error) => {
                broken += 1;
                format!("{shown}: can't be read: {error}")
            }
        };
        print(&said)?;
    }
    match broken {
        0 => Ok(()),
        _ => Err(CliError::failed(anyhow!("{broken} of {} files are no runbooks", files.len()))),
    }
}

fn list(data: &DataArgs) -> Result<(), CliError> {
    let folder = data.data_dir()?;
    let all = Library::of(&folder)
        .all()
        .with_context(|| format!("can't read the folder of runbooks in {}", folder.display()))
        .map_err(CliError::Failed)?;
    let widest = all.iter().map(|entry| entry.name.len()).max().unwrap_or_default();
    for entry in all {
        let origin = match &entry.origin {
            Origin::Shipped => "shipped".to_owned(),
            Origin::Own(path) => path.display().to_string(),
        };
        let said = match &entry.state {
            Ok(runbook) => runbook.title.clone(),
            Err(error) => format!("broken: {error}"),
        };
        print(&format!("{:widest$}  {said} ({origin})", entry.name))?;
    }
    Ok(())
}
