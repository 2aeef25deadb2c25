//! The command line: what is typed → what is done → an exit code. 0 done, 1 failed, 2 bad usage or configuration. Errors go to stderr as one plain
//! sentence with the cause behind it; stdout holds only what was asked for.

mod accounts;
mod database;
mod demo;
mod runbooks;
mod serve;

use std::{
    fmt,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{ConfigError, RawConfig};

/// Look after more than one server: restic backups, operations and health probes from one place.
#[derive(Parser)]
#[command(name = "flotilla", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane
    Serve(Box<serve::ServeArgs>),
    /// Enrol or run the agent of this machine
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show everything on this machine: control plane, agent, append-only repository, a first real backup
    Demo(demo::DemoArgs),
    /// Accounts
    #[command(subcommand)]
    User(accounts::UserCommand),
    /// API tokens
    #[command(subcommand)]
    Token(accounts::TokenCommand),
    /// The embedded database
    #[command(subcommand)]
    Db(database::DbCommand),
    /// Runbooks: files of steps that are run on hosts
    #[command(subcommand)]
    Runbook(runbooks::RunbookCommand),
    /// Print the version
    Version,
}

#[derive(Subcommand)]
enum AgentCommand {
    /// Redeem an enrolment token; writes the agent's identity
    Enroll(flotilla_agent::cli::EnrollArgs),
    /// Run the agent in the foreground; SIGTERM drains
    Run(flotilla_agent::cli::RunArgs),
}

/// Where the data is: what all commands beside `serve` need.
#[derive(Args, Clone)]
pub(crate) struct DataArgs {
    /// Folder of the database and the keys [default: the configuration's, or /var/lib/flotilla]
    #[arg(long, env = "FLOTILLA_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file
    #[arg(long, env = "FLOTILLA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DataArgs {
    fn data_dir(&self) -> Result<PathBuf, CliError> {
        let file = self.config.as_deref().map(RawConfig::from_file).transpose()?.unwrap_or_default();
        Ok(RawConfig { data_dir: self.data_dir.clone(), ..RawConfig::default() }.over(file).data_dir())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Bad usage or configuration: exit code 2.
    Usage(String),
    /// It failed: exit code 1.
    Failed(anyhow::Error),
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::Failed(e) => write!(f, "{e:#}"),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(e: ConfigError) -> Self {
        Self::Usage(e.to_string())
    }
}

impl CliError {
    /// Any other error, with its causes.
    fn failed(e: impl Into<anyhow::Error>) -> Self {
        Self::Failed(e.into())
    }
}

impl Cli {
    /// Parses the arguments, does what they say, and returns the exit code.
    #[must_use]
    pub fn main() -> ExitCode {
        // clap prints its own errors and ends with 2, as we do.
        match Self::parse().run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                // Nothing is left to be told when stderr is closed.
                writeln!(std::io::stderr(), "flotilla: {e}").ok();
                ExitCode::from(if matches!(e, CliError::Usage(_)) { 2 } else { 1 })
            }
        }
    }

    fn run(self) -> Result<(), CliError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::failed)?;
        let result = runtime.block_on(async {
            match self.command {
                Command::Serve(args) => serve::run(*args).await,
                Command::Agent(command) => agent(command).await,
                Command::Demo(args) => demo::run(args).await,
                Command::User(command) => accounts::user(command).await,
                Command::Token(command) => accounts::token(command).await,
                Command::Db(command) => database::run(command).await,
                Command::Runbook(command) => runbooks::run(command),
                Command::Version => print(concat!("flotilla ", env!("CARGO_PKG_VERSION"))),
            }
        });
        // A read from a dead standard input, or a look-up that hangs, must not hold up the exit.
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        result
    }
}

async fn agent(command: AgentCommand) -> Result<(), CliError> {
    log_to_stderr();
    let result = match command {
        AgentCommand::Enroll(args) => {
            flotilla_agent::cli::enroll(args).await.map(|done| format!("{done}; next: flotilla agent run"))
        }
        AgentCommand::Run(args) => {
            let stop = tokio_util::sync::CancellationToken::new();
            flotilla_agent::cli::run_until_signal(args, stop).await.map(|()| String::new())
        }
    };
    match result {
        Ok(text) if text.is_empty() => Ok(()),
        Ok(text) => print(&text),
        Err(e) if e.exit_code() == 2 => Err(CliError::Usage(e.to_string())),
        Err(e) => Err(CliError::failed(e)),
    }
}

/// One line on stdout.
fn print(line: &str) -> Result<(), CliError> {
    writeln!(std::io::stdout(), "{line}").map_err(CliError::failed)
}

/// Log to stderr; `FLOTILLA_LOG` is `error`, `warn`, `info` (the default), `debug` or `trace`.
fn log_to_stderr() {
    let level = std::env::var("FLOTILLA_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(tracing::Level::INFO);
    // The scheduler tells of its own life at the level of news.
    let filter = Targets::new().with_default(level).with_target("tokio_cron_scheduler", tracing::Level::WARN);
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    // A second call, by a test in the same process, changes nothing.
    tracing_subscriber::registry().with(layer).with(filter).try_init().ok();
}
