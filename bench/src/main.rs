//! Benchmarks of Flotilla beside the limits of the same machine: `flotilla-bench all` prints one table. The product and each floor run in processes of
//! their own and in turn, so that a ratio compares what met the same conditions; nothing here fails on an absolute time.

mod agents;
mod api;
mod browsers;
mod child;
mod flood;
mod floors;
mod measure;
mod scenes;
mod server;
mod socket;
mod sshd;
mod table;
mod text;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{scenes::Plan, table::Table};

/// Benchmarks of Flotilla beside floors that run in turn with it.
#[derive(Parser)]
#[command(name = "flotilla-bench")]
struct Arguments {
    /// Which benchmark; all where left out
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds of product and floor in turn; medians are shown
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Tiny sizes: shows that everything works, measures nothing of worth
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Everything, in one table
    All,
    /// Log lines in, stored, acknowledged and fanned out
    Ingest,
    /// From the order to the agent and back
    Dispatch,
    /// One job's log to many browsers, and to a stalled one
    Fanout,
    /// Memory of connected agents, and of none
    Idle,
    /// A backup through the agent beside the same restic command
    Overhead,
    /// Cost of the agent's spool: CPU per line
    Spool,
    /// Bytes per stored line, and pages deep in a log
    Storage,
    /// Lists of snapshots and folders from the cache
    Browse,
    /// From exec to listening
    Start,
    /// A fleet that comes back at once
    Storm,
    /// What one flooding agent costs the others
    Fairness,
    /// `true` on one host and on fifty, by agents and by SSH, beside Ansible
    Operations,
    /// (internal) the product's server, for a parent that drives it
    #[command(hide = true)]
    Server(server::ServerArgs),
    /// (internal) many idle agents
    #[command(hide = true)]
    IdleAgents(scenes::idle::ClientArgs),
    /// (internal) agents that come back at once
    #[command(hide = true)]
    StormAgents(scenes::storm::ClientArgs),
    /// (internal) the real agent on a state folder
    #[command(hide = true)]
    Agent {
        /// Its state folder
        state_dir: PathBuf,
    },
    /// (internal) lines through the agent's outbox
    #[command(hide = true)]
    Outbox(scenes::spool::OutboxArgs),
    /// (internal) a floor
    #[command(hide = true)]
    Floor(floors::FloorArgs),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Where even this fails, the exit code still tells.
            writeln!(std::io::stderr().lock(), "flotilla-bench: {e:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let plan = Plan { rounds: arguments.rounds.max(1), quick: arguments.quick };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut table = Table::new();
    let outcome = runtime.block_on(async {
        match arguments.command.unwrap_or(Command::All) {
            Command::Server(args) => server::run(args).await.map(|()| false),
            Command::IdleAgents(args) => scenes::idle::hold(args).await.map(|()| false),
            Command::Outbox(args) => scenes::spool::outbox(args).await.map(|()| false),
            Command::StormAgents(args) => scenes::storm::come_back(args).await.map(|()| false),
            Command::Floor(args) => floors::run(args).await.map(|()| false),
            Command::Agent { state_dir } => scenes::overhead::agent(state_dir).await.map(|()| false),
            Command::Ingest => scenes::ingest::run(plan, &mut table).await.map(|()| true),
            Command::Dispatch => scenes::dispatch::run(plan, &mut table).await.map(|()| true),
            Command::Fanout => scenes::fanout::run(plan, &mut table).await.map(|()| true),
            Command::Idle => scenes::idle::run(plan, &mut table).await.map(|()| true),
            Command::Overhead => scenes::overhead::run(plan, &mut table).await.map(|()| true),
            Command::Spool => scenes::spool::run(plan, &mut table).map(|()| true),
            Command::Browse => scenes::browse::run(plan, &mut table).await.map(|()| true),
            Command::Storage => scenes::storage::run(plan, &mut table).await.map(|()| true),
            Command::Start => scenes::start::run(plan, &mut table).await.map(|()| true),
            Command::Operations => scenes::operations::run(plan, &mut table).await.map(|()| true),
            Command::Storm => scenes::storm::run(plan, &mut table).await.map(|()| true),
            Command::Fairness => scenes::fairness::run(plan, &mut table).await.map(|()| true),
            Command::All => scenes::all(plan, &mut table).await.map(|()| true),
        }
    });
    // What was measured before a failure is still worth seeing.
    if !table.is_empty() || matches!(outcome, Ok(true)) {
        writeln!(std::io::stdout().lock(), "\n{}\n\n{table}", measure::machine())?;
    }
    outcome.map(|_| ())
}
