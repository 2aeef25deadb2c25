//! Bytes of the database per stored line, as it comes in and once it is sealed, against the text itself; and pages of 1000 lines at the start and deep
//! in a log of a million lines.

use std::time::Duration;

use anyhow::Context as _;
use flotilla::{domain::job::JobNo, store::logs};
use http::Method;
use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use crate::{
    api::Api,
    measure::{median, micros},
    scenes::{
        Plan,
        ingest::{self, Load},
    },
    server::{Server, Wanted},
    table::{Goal, Row, Table},
};

pub(crate) async fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    sizes(plan, table).await?;
    pages(plan, table).await
}

/// Bytes of all pages in use.
fn used(db: &Connection) -> anyhow::Result<i64> {
    let number = |pragma: &str| db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    Ok((number("page_count")? - number("freelist_count")?) * number("page_size")?)
}

async fn sizes(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let load = Load { agents: 64, frames: plan.size(250, 10), lines_per_frame: 64 };
    let server = Server::start(Wanted { hosts: load.agents, tls: false })?;
    let db = server.database()?;
    let before = used(&db)?;
    let filled = ingest::fill(&server, load).await?;
    let lines = filled.jobs.iter().map(|(_, _, last)| f64::from(*last)).sum::<f64>();
    let text = filled.text_bytes as f64 / lines;
    let live = (used(&db)? - before) as f64 / lines;
    for (mut agent, job, last) in filled.jobs {
        agent.finish(job, last).await?;
    }
    sealed(&db).await?;
    let stored: i64 = db.query_row("SELECT sum(n) FROM log_chunks", [], |row| row.get(0))?;
    anyhow::ensure!(stored as f64 == lines, "{lines} lines were stored, {stored} are there once sealed");
    let sealed = (used(&db)? - before) as f64 / lines;
    let mut add = |what: &str, product, goal| {
        let name = format!("database bytes per line, {what}, beside its text");
        table.add(Row { name, product, floor: Some(text), unit: "B", goal });
    };
    add("live", live, Goal::RatioAtMost(0.25));
    add("sealed", sealed, Goal::RatioAtMost(0.16));
    Ok(())
}

/// Waits until every finished log is sealed.
async fn sealed(db: &Connection) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while db.query_row("SELECT count(*) FROM jobs WHERE log_sealed = 0", [], |row| row.get::<_, i64>(0))? > 0 {
        anyhow::ensure!(Instant::now() < deadline, "finished logs were not sealed within a minute");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn pages(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let load = Load { agents: 1, frames: plan.size(15_625, 50), lines_per_frame: 64 };
    let server = Server::start(Wanted { hosts: 1, tls: false })?;
    let (mut agent, job, last) = ingest::fill(&server, load).await?.jobs.pop().context("one job")?;
    let db = server.database()?;
    let no: i64 = db.query_row("SELECT no FROM jobs WHERE id = ?1", [job.to_string()], |row| row.get(0))?;
    let deep = last / 10 * 9;
    let mut add = |what: &str, db: &Connection| -> anyhow::Result<()> {
        let (first, deep) = (page(db, no, 0)?, page(db, no, deep)?);
        let name = format!("page of 1000 lines at 90 % of {last}, {what}, beside the first page");
        table.add(Row {
            name: name.clone(),
            product: deep,
            floor: Some(first),
            unit: "us",
            goal: Goal::RatioAtMost(1.5),
        });
        table.add(Row {
            name: format!("{name}: itself"),
            product: deep,
            floor: None,
            unit: "us",
            goal: Goal::AtMost(1000.0),
        });
        Ok(())
    };
    add("live", &db)?;
    agent.finish(job, last).await?;
    sealed(&db).await?;
    add("sealed", &db)?;
    let mut api = Api::connect(&server.info.url, &server.info.api_token).await?;
    let path = format!("/api/jobs/{job}/log?after={deep}&limit=1000");
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let body = api.ask(Method::GET, &path, String::new()).await?;
        times.push(micros(start.elapsed()));
        anyhow::ensure!(body.len() > 1000, "a page that holds next to nothing");
    }
    let name = format!("GET /log of 1000 lines at 90 % of {last}, sealed");
    table.add(Row { name, product: median(&times), floor: None, unit: "us", goal: Goal::None });
    Ok(())
}

/// Microseconds to read the page after line `after`, warm.
fn page(db: &Connection, no: i64, after: u32) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..101 {
        let start = Instant::now();
        let lines = logs::page(db, JobNo(no), after, 1000)?;
        times.push(micros(start.elapsed()));
        anyhow::ensure!(lines.first().is_some_and(|line| line.seq == after + 1), "the wrong page");
    }
    Ok(median(&times))
}
