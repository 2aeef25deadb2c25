//! The floor of the spool: the same lines at the same pace, appended to one file as they are, written and fdatasynced each 50 ms.

use std::{fs::File, io::Write as _};

use crate::{
    child,
    measure::{self, micros},
    scenes::spool::{Pace, Spent},
};

pub(super) async fn run(lines: u32) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("floor"))?;
    let mut pace = Pace::new(lines);
    let before = measure::cpu(std::process::id())?.own;
    let mut buffer = Vec::new();
    while let Some(texts) = pace.next().await {
        for text in texts {
            buffer.extend_from_slice(text.as_bytes());
            buffer.push(b'\n');
        }
        file.write_all(&buffer)?;
        file.sync_data()?;
        buffer.clear();
    }
    let spent = measure::cpu(std::process::id())?.own - before;
    child::ready(&Spent { us_per_line: micros(spent) / f64::from(lines) })
}
