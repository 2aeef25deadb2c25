//! Real processes, real restic, a real repository server, and more than thirty faults while jobs print 200,000 numbered lines: at the end every line is stored
//! once, every job has the end that it had, the repository is unlocked, the database is sound.
//!
//! `FLOTILLA_CHAOS_SEED=n` plays one script again; `FLOTILLA_CHAOS_SEEDS=100` plays so many (`make chaos`); else five are played.
//! The script follows from the seed; which line a fault hits does not. A run that fails says its seed, what was done when, and where its folder is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;
#[path = "chaos/script.rs"]
mod script;
#[path = "chaos/stage.rs"]
mod stage;
#[path = "chaos/verdict.rs"]
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use house::{api::is_over, random::Random, wait::pass};
use stage::{PLANS, Stage};

/// Numbered files in the tree: numbered lines of one backup.
const FILES: usize = 25_000;
/// Numbered lines in one run, at least.
const LINES: u64 = 200_000;
/// How long one run may take, from the first order to the last end.
const DEADLINE: Duration = Duration::from_secs(120);
const SEEDS: u64 = 5;

/// A tree of numbered empty files in folders of a hundred; made once for all runs.
fn tree() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("numbered");
    let whole = root.join(format!("d{:03}/n{:05}", FILES / 100 - 1, FILES - 1));
    if !whole.exists() {
        for n in 0..FILES {
            let folder = root.join(format!("d{:03}", n / 100));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(format!("n{n:05}")), "").unwrap();
        }
    }
    root
}

/// What a run has to say if it fails, wherever it does.
struct Report {
    seed: u64,
    stage: Stage,
}

impl Drop for Report {
    #[expect(clippy::print_stderr, reason = "what is needed to look into a failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let script = self.stage.journal.lines.join("\n  ");
            let folder = self.stage.keep_folder();
            eprintln!(
                "\nthe run with FLOTILLA_CHAOS_SEED={} failed; its folder: {}\n  {script}\n",
                self.seed,
                folder.display()
            );
        }
    }
}

#[expect(clippy::print_stderr, reason = "the seed and what came of it")]
async fn play(seed: u64) {
    let began = Instant::now();
    let mut report = Report { seed, stage: Stage::set(&tree()).await };
    let stage = &mut report.stage;
    if !stage.has_disks() {
        eprintln!("chaos: this machine lets us mount no disk of our own; nothing is done with full disks");
    }
    let script = script::script(seed, stage.has_disks());
    let deadline = Instant::now() + DEADLINE;
    let mut orders = Orders::default();
    orders.keep_up(stage, true).await;
    for step in script {
        stage.live_until(Instant::now() + step.pause).await;
        orders.keep_up(stage, true).await;
        stage.inflict(step.what).await;
    }
    assert!(stage.faults >= 30, "only {} faults found a victim", stage.faults);
    stage.heal().await;
    let printing = began.elapsed();
    while orders.keep_up(stage, false).await {
        assert!(Instant::now() < deadline, "not over within {DEADLINE:?}:\n{}", verdict::open(stage).await.join("\n"));
        stage.live_until(Instant::now() + Duration::from_millis(100)).await;
    }
    // The agent hears of the last end a moment later than the server has it.
    let tidy = Instant::now() + Duration::from_secs(5);
    while Instant::now() < tidy && fs::read_dir(stage.state_dir().join("jobs")).is_ok_and(|left| left.count() > 0) {
        pass(Duration::from_millis(50)).await;
    }
    let offences = verdict::offences(stage).await;
    assert!(offences.is_empty(), "seed {seed}: {} offences:\n{}", offences.len(), offences.join("\n"));
    eprintln!(
        "chaos: seed {seed}: {} faults in {:.1} s, {} jobs, {} lines, {} restic killed, all well after {:.1} s",
        stage.faults,
        printing.as_secs_f64(),
        orders.jobs,
        orders.lines,
        stage.killed.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Whoever wants backups.
#[derive(Default)]
struct Orders {
    jobs: usize,
    lines: u64,
    looked: Option<Instant>,
}

impl Orders {
    /// Orders backups where few are open: always as long as faults come (`more`), and then until all lines are printed. `false`: all is over and stored.
    async fn keep_up(&mut self, stage: &mut Stage, more: bool) -> bool {
        if self.looked.is_some_and(|at| at.elapsed() < Duration::from_millis(400)) && more {
            return true;
        }
        self.looked = Some(Instant::now());
        let Some(jobs) = stage.jobs().await else { return true };
        let lines = |job: &serde_json::Value| job["log_lines"].as_u64().unwrap();
        let looked_at = jobs.iter().any(|job| job["kind"] != "backup" && !is_over(job));
        let jobs: Vec<_> = jobs.into_iter().filter(|job| job["kind"] == "backup").collect();
        let open = jobs.iter().filter(|job| !is_over(job)).count();
        self.jobs = jobs.len();
        self.lines = jobs.iter().map(lines).sum();
        let to_come: u64 =
            jobs.iter().filter(|job| !is_over(job)).map(|job| (FILES as u64).saturating_sub(lines(job))).sum();
        let wanted = if more { PLANS.saturating_sub(open + 3) } else { usize::from(self.lines + to_come < LINES) };
        for _ in 0..wanted {
            stage.order().await;
        }
        open > 0 || wanted > 0 || looked_at
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_every_line_is_stored_once_and_every_end_is_the_truth() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("FLOTILLA_CHAOS_SEED") {
        return play(seed).await;
    }
    for _ in 0..number("FLOTILLA_CHAOS_SEEDS").unwrap_or(SEEDS) {
        play(Random::fresh_seed()).await;
    }
}
