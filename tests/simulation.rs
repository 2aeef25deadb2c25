//! The protocol between agent and server under thousands of networks: the real outbox, spool and scheduler on one side, the real ingest,
//! books, dispatcher, schedules and store on the other,
//! between them a clock and a network of the test's own. After each seed: every line is stored once and in order, every end is the one that was, nothing ran
//! twice, and the agent keeps nothing.
//!
//! `FLOTILLA_SIMULATION_SEED=n` plays one seed and tells its story; `FLOTILLA_SIMULATION_SEEDS=n` plays so many.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "simulation/agent.rs"]
mod agent;
#[path = "support/house.rs"]
mod house;
#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/world.rs"]
mod world;

use std::{path::Path, time::Instant};

use futures_util::FutureExt as _;

use house::random::Random;
use world::{House, World};

const SEEDS: u64 = 2000;
const THREADS: usize = 2;

/// Plays `seeds`, one after the other, and stops at the first that goes wrong.
#[expect(clippy::print_stderr, reason = "the seed, and what happened")]
async fn play(seeds: impl Iterator<Item = u64>) -> [usize; 3] {
    // In memory where there is such a place: a sync to disk costs nothing there, and no sync is left out.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let house = House::open(folder.path()).await;
    let mut counts = [0; 3];
    for seed in seeds {
        let mut world = World::new(&house, seed).await;
        let steps = world.random.within(50..600);
        let played = std::panic::AssertUnwindSafe(async {
            for _ in 0..steps {
                world.step().await;
            }
            world.settle().await;
            world.offences().await
        });
        let offences = played.catch_unwind().await.unwrap_or_else(|_| vec!["it did not get to its end".to_owned()]);
        if !offences.is_empty() {
            eprintln!("FLOTILLA_SIMULATION_SEED={seed}:\n  {}", world.story.join("\n  "));
            panic!("seed {seed}:\n{}", offences.join("\n"));
        }
        counts.iter_mut().zip(world.counts().await).for_each(|(sum, count)| *sum += count);
    }
    counts
}

#[test]
fn whatever_the_network_does_every_line_and_every_end_arrives_once_and_nothing_runs_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let began = Instant::now();
    let seeds: Vec<u64> = match number("FLOTILLA_SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = Random::fresh_seed();
            (first..first + number("FLOTILLA_SIMULATION_SEEDS").unwrap_or(SEEDS)).collect()
        }
    };
    let counts: Vec<[usize; 3]> = std::thread::scope(|scope| {
        let parts = seeds.chunks(seeds.len().div_ceil(THREADS)).map(|part| {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
                runtime.unwrap().block_on(play(part.iter().copied()))
            })
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let [jobs, by_schedule, alone] = [0, 1, 2].map(|n| counts.iter().map(|counts| counts[n]).sum::<usize>());
    eprintln!(
        "simulation: {} seeds from {} in {:.1} s: {jobs} jobs, {by_schedule} by a schedule, {alone} of them without the server",
        seeds.len(),
        seeds[0],
        began.elapsed().as_secs_f64()
    );
}
