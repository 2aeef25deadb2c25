//! `flotilla-agent`: arguments in, exit code out. Everything else is in the library.

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use flotilla_agent::{
    AgentError,
    cli::{self, EnrollArgs, RunArgs},
};
use tokio_util::sync::CancellationToken;

/// Flotilla's endpoint agent
#[derive(Parser)]
#[command(name = "flotilla-agent", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Redeem an enrolment token and write this host's identity
    Enroll(EnrollArgs),
    /// Run the agent in the foreground; SIGTERM drains
    Run(RunArgs),
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = std::env::var("FLOTILLA_LOG").ok().and_then(|level| level.parse().ok());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level.unwrap_or(tracing::Level::INFO)).init();
    // Two threads: a slow disk under one must not silence the heartbeat on the other.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(execute(cli.command)).map_err(|e| (e.to_string(), e.exit_code())),
        Err(e) => Err((format!("cannot start: {e}"), 1)),
    };
    // Output that nobody takes is no reason to fail.
    match result {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => writeln!(std::io::stdout(), "{text}").map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err((text, code)) => writeln!(std::io::stderr(), "{text}").map_or(code.into(), |()| code.into()),
    }
}

async fn execute(command: Command) -> Result<String, AgentError> {
    match command {
        Command::Enroll(args) => cli::enroll(args).await.map(|done| format!("{done}; next: flotilla-agent run")),
        Command::Run(args) => cli::run_until_signal(args, CancellationToken::new()).await.map(|()| String::new()),
        Command::Version => Ok(concat!("flotilla-agent ", env!("CARGO_PKG_VERSION")).to_owned()),
    }
}
