//! What operators and the system do, whoever asks: page, API or command line. Each use-case checks policy, writes, and notes it in the audit
//! trail in the same transaction. No HTTP and no markup here.

pub mod accounts;
pub mod aftermath;
pub mod alerts;
pub mod database;
pub mod enrol;
mod error;
pub mod facets;
pub mod health;
pub mod hosts;
pub mod jobs;
pub mod offers;
pub mod old_logs;
pub mod plans;
pub mod probes;
pub mod repos;
pub mod restores;
pub mod retention;
pub mod schedules;
pub mod sites;
pub mod snapshots;
pub mod survey;
pub mod upkeep;
pub mod watch;
pub mod waves;

pub use error::OpError;
