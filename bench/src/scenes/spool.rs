//! What the agent's spool costs: CPU per line that is said, checked, written, synced and read as a frame, beside a program that only appends the same
//! text to a file and syncs it as often. Both get 5000 lines each 50 ms.

use std::{sync::Arc, time::Duration};

use clap::Args;
use flotilla_agent::{
    clock::SystemClock,
    outbox::{Outbox, OutboxLimits},
};
use flotilla_proto::{Ack, JobId, Stream};
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    child::{self, Child},
    floors,
    measure::{self, median, micros},
    scenes::Plan,
    table::{Goal, Row, Table},
    text::{Dice, line},
};

const LINES_PER_TICK: u32 = 5000;
const TICK: Duration = Duration::from_millis(50);

/// What a process used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) us_per_line: f64,
}

/// Lines as they come, made before the clock starts.
pub(crate) struct Pace {
    texts: Vec<String>,
    left: u32,
    ticks: Interval,
}

impl Pace {
    pub(crate) fn new(lines: u32) -> Self {
        let mut dice = Dice::new(1);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { texts: (0..LINES_PER_TICK).map(|_| line(&mut dice)).collect(), left: lines, ticks }
    }

    /// The next tick's lines; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<&[String]> {
        if self.left == 0 {
            return None;
        }
        self.ticks.tick().await;
        let count = self.left.min(LINES_PER_TICK);
        self.left -= count;
        Some(&self.texts[..count as usize])
    }
}

/// The product's side.
#[derive(Debug, Args)]
pub(crate) struct OutboxArgs {
    #[arg(long)]
    lines: u32,
    /// Take the frames too, and acknowledge them
    #[arg(long)]
    deliver: bool,
}

/// The child's side: lines through the outbox.
pub(crate) async fn outbox(args: OutboxArgs) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let outbox = Outbox::new(dir.path(), OutboxLimits::default(), Arc::new(SystemClock))?;
    let job = JobId::from_parts(1, 1);
    let sink = outbox.open(job);
    let mut pace = Pace::new(args.lines);
    let before = measure::cpu(std::process::id())?.own;
    let say = async {
        let mut told = 0;
        while let Some(texts) = pace.next().await {
            sink.hold();
            for text in texts {
                sink.line(Stream::Stdout, text);
                told += text.len() as u64 + 1;
            }
            sink.mark(Stream::Stdout, told);
        }
        tokio::task::block_in_place(|| outbox.flush());
    };
    let deliver = async {
        let mut last = 0;
        while args.deliver && last < args.lines {
            let frame = outbox.next().await;
            // As the agent does, nothing but the acknowledgement is read here.
            let last_line = frame.rsplit_once(r#"{"seq":"#).and_then(|(_, rest)| rest.split_once(','));
            last = last_line.and_then(|(seq, _)| seq.parse().ok()).unwrap_or(last);
            outbox.acked(&Ack { job_id: job, seq: last, finished: false });
        }
    };
    tokio::select! {
        _ = async { tokio::join!(say, deliver) } => {}
        () = outbox.keep_synced() => {}
    }
    let spent = measure::cpu(std::process::id())?.own - before;
    outbox.close();
    child::ready(&Spent { us_per_line: micros(spent) / f64::from(args.lines) })
}

pub(crate) fn run(plan: Plan, table: &mut Table) -> anyhow::Result<()> {
    let lines = plan.size(1_000_000, 20);
    let start =
        |arguments: Vec<String>| -> anyhow::Result<f64> { Ok(Child::start::<Spent>(&arguments)?.1.us_per_line) };
    let (mut spooled, mut delivered, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let mut floor_arguments = floors::arguments("spool");
        floor_arguments.push(format!("--rows={lines}"));
        let product = vec!["outbox".to_owned(), format!("--lines={lines}")];
        floor.push(start(floor_arguments)?);
        spooled.push(start(product.clone())?);
        delivered.push(start([product, vec!["--deliver".to_owned()]].concat())?);
    }
    let mut add = |what: &str, product: &[f64], goal| {
        let name = format!("agent's spool, cpu per line {what}, beside write and fdatasync of the text");
        table.add(Row { name, product: median(product), floor: Some(median(&floor)), unit: "us", goal });
    };
    add("kept", &spooled, Goal::None);
    add("kept, framed and acknowledged", &delivered, Goal::None);
    Ok(())
}
