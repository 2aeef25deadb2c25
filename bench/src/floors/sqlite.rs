//! The floor of ingest: one thread, one connection, a row per line, 1024 rows to a transaction, `synchronous=FULL`, 64 jobs in runs of 64 lines.

use std::time::Instant;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use crate::{
    child::{self, Child},
    floors,
    measure::{self, micros},
    text::{Dice, line},
};

const JOBS: i64 = 64;
const RUN: usize = 64;
const ROWS_PER_COMMIT: usize = 1024;

/// What it does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) rows_per_s: f64,
    pub(crate) cpu_us_per_row: f64,
}

/// Runs it in a process of its own.
pub(crate) fn measure(rows: u32) -> anyhow::Result<Floor> {
    let mut arguments = floors::arguments("sqlite");
    arguments.push(format!("--rows={rows}"));
    Ok(Child::start(&arguments)?.1)
}

pub(super) fn run(rows: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut db = Connection::open(dir.path().join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE lines (job INTEGER NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, stream INTEGER NOT NULL,
         text TEXT NOT NULL, PRIMARY KEY (job, seq)) WITHOUT ROWID",
    )?;
    let mut dice = Dice::new(1);
    let texts: Vec<String> = (0..64 * 1024).map(|_| line(&mut dice)).collect();
    let mut next = [1i64; JOBS as usize];
    let (pid, rows) = (std::process::id(), rows as usize);
    let (before, start) = (measure::cpu(pid)?.own, Instant::now());
    let mut done = 0;
    while done < rows {
        let tx = db.transaction()?;
        {
            let mut insert = tx.prepare_cached("INSERT INTO lines VALUES (?1, ?2, ?3, 0, ?4)")?;
            let until = (done + ROWS_PER_COMMIT).min(rows);
            while done < until {
                let job = done / RUN % JOBS as usize;
                insert.execute(params![job as i64, next[job], done as i64, texts[done % texts.len()]])?;
                next[job] += 1;
                done += 1;
            }
        }
        tx.commit()?;
    }
    let (took, cpu) = (start.elapsed(), measure::cpu(pid)?.own - before);
    let stored: i64 = db.query_row("SELECT count(*) FROM lines", [], |row| row.get(0))?;
    anyhow::ensure!(stored == rows as i64, "{rows} rows were inserted, {stored} are there");
    child::ready(&Floor { rows_per_s: rows as f64 / took.as_secs_f64(), cpu_us_per_row: micros(cpu) / rows as f64 })
}
