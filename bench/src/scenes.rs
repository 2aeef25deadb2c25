//! The benchmarks. Each starts what it needs, measures product and floor in turn, and adds its rows to the table.

pub(crate) mod browse;
pub(crate) mod dispatch;
pub(crate) mod fairness;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod ingest;
pub(crate) mod operations;
pub(crate) mod overhead;
pub(crate) mod spool;
pub(crate) mod start;
pub(crate) mod storage;
pub(crate) mod storm;

use std::{io::Write as _, sync::Arc};

use anyhow::ensure;
use flotilla_proto::JobId;

use crate::{
    server::{Info, Server},
    socket::{self, Socket},
    table::Table,
};

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds.
    pub(crate) rounds: usize,
    /// Only to see that it works.
    pub(crate) quick: bool,
}

impl Plan {
    /// A size: `full`, or a `part` of it when quick.
    pub(crate) fn size(self, full: u32, part: u32) -> u32 {
        if self.quick { (full / part).max(1) } else { full }
    }
}

/// All of them.
pub(crate) async fn all(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    ingest::run(plan, table).await?;
    dispatch::run(plan, table).await?;
    fanout::run(plan, table).await?;
    idle::run(plan, table).await?;
    overhead::run(plan, table).await?;
    spool::run(plan, table)?;
    storage::run(plan, table).await?;
    browse::run(plan, table).await?;
    storm::run(plan, table).await?;
    fairness::run(plan, table).await?;
    operations::run(plan, table).await?;
    start::run(plan, table).await
}

/// Tells the person who waits how far it is.
pub(crate) fn note(text: &str) {
    // Nobody reads it: then nobody misses it.
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

/// Opens `count` live logs of a job that has started and waits until each is joined.
pub(crate) async fn viewers(info: &Info, job: JobId, count: usize) -> anyhow::Result<Vec<Socket>> {
    let dialer = Arc::new(socket::dialer(&info.url, info.ca_fingerprint.as_deref())?);
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let path = format!("/api/jobs/{job}/stream?after=0");
        let mut socket = socket::open(&dialer, &path, &info.api_token, 16 * 1024).await?;
        let first = socket::next_text(&mut socket).await?;
        ensure!(first.starts_with(r#"{"type":"job.started""#), "a live log began with {first}");
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Finds that exactly `expected` lines of `job` are in the database, by the job's count and by its chunks'.
pub(crate) fn assert_stored(server: &Server, job: JobId, expected: u64) -> anyhow::Result<()> {
    let db = server.database()?;
    let (no, lines): (i64, i64) =
        db.query_row("SELECT no, log_lines FROM jobs WHERE id = ?1", [job.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let chunks: i64 = db.query_row(
        "SELECT coalesce(sum(n), 0) FROM log_chunks WHERE id BETWEEN ?1 << 32 AND (?1 << 32) | 4294967295",
        [no],
        |row| row.get(0),
    )?;
    let expected = i64::try_from(expected)?;
    ensure!(
        lines == expected && chunks == expected,
        "{expected} lines of {job} were sent; counted {lines}, stored {chunks}"
    );
    Ok(())
}
