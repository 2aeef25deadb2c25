//! Floors: small programs that do only the step in question, each in a process of its own, driven by the same clients as the product.

pub(crate) mod dispatch;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod spool;
pub(crate) mod sqlite;
pub(crate) mod upgrade;

use clap::Args;
use serde::{Deserialize, Serialize};

/// Which floor.
#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// Its name
    #[arg(value_enum)]
    which: Which,
    /// Rows, for `sqlite`; lines, for `spool`
    #[arg(long, default_value_t = 0)]
    rows: u32,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Which {
    Sqlite,
    Dispatch,
    Fanout,
    Idle,
    Spool,
    Upgrade,
}

/// Where a floor that serves is reached.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// As an agent would be told.
    pub(crate) url: String,
}

/// The child's side.
pub(crate) async fn run(args: FloorArgs) -> anyhow::Result<()> {
    match args.which {
        Which::Sqlite => sqlite::run(args.rows),
        Which::Dispatch => dispatch::run().await,
        Which::Fanout => fanout::run().await,
        Which::Idle => idle::run().await,
        Which::Spool => spool::run(args.rows).await,
        Which::Upgrade => upgrade::run().await,
    }
}

/// The arguments of a floor's process.
pub(crate) fn arguments(name: &str) -> Vec<String> {
    vec!["floor".to_owned(), name.to_owned()]
}
