//! A model run by chance: connections that break with and without their answers, crashes, clocks that step, sets that come again, jobs that end and are
//! forgotten. Whatever happens: a moment has one id, and no moment runs twice. `SCHEDULE_SEED=n` runs one seed again.

use std::collections::{BTreeSet, HashMap};

use super::*;

const SEEDS: u64 = 40;
const STEPS: usize = 60;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn minutes(&mut self, most: u64) -> Duration {
        Duration::from_secs(self.below(most * 60))
    }
}

struct World {
    host: Host,
    server: Server,
    random: Random,
    /// Every moment that was said, under every id.
    said: HashMap<(ScheduleId, Timestamp), BTreeSet<JobId>>,
    /// Jobs that the server has sent to the agent.
    ordered: BTreeSet<JobId>,
}

impl World {
    fn entries(&self) -> ScheduleSet {
        let rare = ScheduleEntry { cron: "30 3 * * *".to_owned(), jitter_s: 1800, ..daily(3) };
        set(1, &[hourly(1), ScheduleEntry { catch_up: CatchUp::Skip, ..hourly(2) }, rare])
    }

    fn start(&self) -> Agent {
        self.host.start_in(self.host.folder.path(), &self.host.runner.jobs())
    }

    fn note(&mut self, fires: &[ScheduleFire]) {
        for fire in fires {
            self.said.entry((fire.schedule_id, fire.scheduled_at)).or_default().insert(fire.job_id.unwrap());
        }
    }

    /// A connection; `answered`: what the server answers arrives.
    async fn connect(&mut self, agent: &Agent, answered: bool) {
        let time = self.random.minutes(200);
        if answered {
            agent.meet(&mut self.server, time).await;
            let hello = self.server.hellos.pop().unwrap();
            self.note(&hello);
        } else {
            let mut said = agent.scheduler.hello().1;
            agent.scheduler.connected();
            said.extend(agent.talk(time).await);
            agent.scheduler.disconnected();
            self.note(&said);
            said.into_iter().for_each(|fire| {
                self.server.answer(fire);
            });
        }
    }

    /// The server orders what it has made and did not hear to run.
    fn order(&mut self, agent: &Agent) {
        let known = self.host.runner.jobs();
        for job_id in self.server.jobs.values().copied().filter(|id| self.ordered.insert(*id)) {
            // A job that ran alone is on its way to the server, not from it.
            if known.contains(&job_id) || !self.host.runner.begun.lock().unwrap().contains(&job_id) {
                agent.scheduler.has_job(job_id);
                agent.scheduler.submit(daily(1).order.unwrap().for_job(job_id));
            }
        }
    }

    /// Jobs end; the server takes the ends of those that it knows.
    fn deliver(&mut self, agent: &Agent) {
        self.host.runner.end_all();
        let server: BTreeSet<JobId> = self.server.jobs.values().copied().collect();
        for job in self.host.runner.jobs().into_iter().filter(|job| server.contains(job)) {
            agent.scheduler.has_job(job);
            agent.outbox.forget(job);
            self.host.runner.forget(job);
        }
    }

    async fn step(&mut self, agent: Agent) -> Agent {
        match self.random.below(12) {
            0..=2 => agent.tick(self.random.minutes(300)).await,
            3 | 4 => self.connect(&agent, true).await,
            5 | 6 => self.connect(&agent, false).await,
            7 => {
                drop(agent);
                self.host.pass(self.random.minutes(1800)).await;
                return self.start();
            }
            8 => {
                let hours = self.random.below(61) as i64 - 30;
                self.host.step(hours * 3600);
            }
            9 => self.order(&agent),
            10 => self.deliver(&agent),
            _ => drop(agent.scheduler.receive(self.entries()).unwrap()),
        }
        agent
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_a_moment_has_one_id_and_runs_once() {
    let only = std::env::var("SCHEDULE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let (mut fired, mut ran) = (0, 0);
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        // Coarse steps of time: more of it passes.
        let (look_every, answer_within) = (5 * MINUTE, 10 * MINUTE);
        let policy = SchedulePolicy { look_every, answer_within, ..SchedulePolicy::default() };
        let (host, random) = (Host { policy, ..Host::new() }, Random(seed));
        let mut world =
            World { host, random, server: Server::default(), said: HashMap::new(), ordered: BTreeSet::new() };
        let mut agent = world.start();
        agent.scheduler.receive(world.entries()).unwrap();
        for _ in 0..STEPS {
            agent = world.step(agent).await;
            let begun = world.host.runner.begun.lock().unwrap().clone();
            let once: BTreeSet<JobId> = begun.iter().copied().collect();
            assert_eq!(once.len(), begun.len(), "seed {seed}: a job ran twice");
            let two = world.said.iter().find(|(_, ids)| ids.len() > 1);
            assert_eq!(two, None, "seed {seed}: a moment has two ids");
        }
        agent.meet(&mut world.server, HOUR).await;
        assert_eq!(agent.pending(), [], "seed {seed}: a moment is not settled");
        let of_server: BTreeSet<JobId> = world.server.jobs.values().copied().collect();
        let begun = world.host.runner.begun.lock().unwrap().clone();
        assert!(begun.iter().all(|job| of_server.contains(job)), "seed {seed}: a run that nobody knows of");
        fired += of_server.len();
        ran += begun.len();
    }
    assert!(only.is_some() || (fired > 20 * SEEDS as usize && ran > 10 * SEEDS as usize), "{fired} fired, {ran} ran");
}
