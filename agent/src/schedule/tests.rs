//! The scheduler in virtual time: a wall clock that follows tokio's and can be put wrong, a runner that counts, and files that are reopened.

mod alone;
mod chance;
mod crashes;
mod moments;
mod sets;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};

use flotilla_proto::{CatchUp, JobKind, JobStatus, Limits, ScheduleEntry, ScheduleId, ScheduledOrder, Secret};
use tokio::time::timeout;

use super::*;
use crate::{outbox::OutboxLimits, runner::BoxFuture, sink::JobOutcome};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Daily at three in the morning, UTC, with an order for a backup.
fn daily(n: u128) -> ScheduleEntry {
    let order = ScheduledOrder {
        kind: JobKind::Backup,
        host_label: "web-1".to_owned(),
        repo: None,
        args: vec!["/etc".to_owned()],
        plan: None,
        timeout_s: 60,
    };
    ScheduleEntry {
        schedule_id: ScheduleId::from_parts(1, n),
        cron: "0 3 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        enabled: true,
        catch_up: CatchUp::Once,
        jitter_s: 0,
        order: Some(Box::new(order)),
    }
}

fn hourly(n: u128) -> ScheduleEntry {
    ScheduleEntry { cron: "0 * * * *".to_owned(), ..daily(n) }
}

fn set(version: u64, entries: &[ScheduleEntry]) -> ScheduleSet {
    ScheduleSet { version, entries: entries.to_vec() }
}

/// Follows tokio's time, from a fixed day on, plus what a test adds.
struct WallClock {
    began: Instant,
    off_ms: AtomicI64,
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap();
        Timestamp::from_unix_ms(at("2026-11-21T12:00:00Z").unix_ms() + passed + self.off_ms.load(Ordering::Relaxed))
    }
}

type Hook = Box<dyn FnMut(JobId) + Send>;

/// Counts what it is given, as the executor does: known jobs run nothing twice.
#[derive(Default)]
struct CountingRunner {
    jobs: Mutex<Vec<(CommandRun, Arc<dyn JobSink>)>>,
    /// Every beginning, also of jobs that were forgotten.
    begun: Mutex<Vec<JobId>>,
    cancelled: Mutex<Vec<JobId>>,
    /// Called with each order before it is taken.
    hook: Mutex<Option<Hook>>,
}

impl CountingRunner {
    fn jobs(&self) -> Vec<JobId> {
        self.jobs.lock().unwrap().iter().map(|(order, _)| order.job_id).collect()
    }

    /// The server has its end: nothing of it is kept, and it would run again.
    fn forget(&self, job: JobId) {
        self.jobs.lock().unwrap().retain(|(order, _)| order.job_id != job);
    }

    fn end_all(&self) {
        let end = JobOutcome { status: JobStatus::Succeeded, exit_code: Some(0), error: None, summary: None };
        self.jobs.lock().unwrap().iter().for_each(|(_, sink)| sink.finished(end.clone()));
    }
}

impl Runner for CountingRunner {
    fn submit(&self, order: CommandRun, sink: Arc<dyn JobSink>) -> Submitted {
        if let Some(hook) = &mut *self.hook.lock().unwrap() {
            hook(order.job_id);
        }
        let mut jobs = self.jobs.lock().unwrap();
        if jobs.iter().any(|(known, _)| known.job_id == order.job_id) {
            return Submitted::Known;
        }
        self.begun.lock().unwrap().push(order.job_id);
        jobs.push((order, sink));
        Submitted::Accepted
    }

    fn cancel(&self, job: JobId) -> bool {
        self.cancelled.lock().unwrap().push(job);
        true
    }

    fn set_limits(&self, _: Limits) {}

    fn drain(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// In memory where that can be had: what is tested is what is written when, and a disk's syncs take most of the time.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A host: its folder, clock and runner outlive the agent's process.
struct Host {
    folder: tempfile::TempDir,
    clock: Arc<WallClock>,
    runner: Arc<CountingRunner>,
    chance: Arc<AtomicI64>,
    policy: SchedulePolicy,
}

/// One process of its agent.
struct Agent {
    scheduler: Scheduler,
    outbox: Outbox,
    draining: CancellationToken,
}

impl Host {
    fn new() -> Self {
        Self {
            folder: folder(),
            clock: Arc::new(WallClock { began: Instant::now(), off_ms: AtomicI64::new(0) }),
            runner: Arc::default(),
            chance: Arc::new(AtomicI64::new(1)),
            policy: SchedulePolicy::default(),
        }
    }

    fn start(&self) -> Agent {
        self.start_in(self.folder.path(), &[])
    }

    /// A process in another folder, with jobs that the runner has left from before.
    fn start_in(&self, folder: &Path, leftovers: &[JobId]) -> Agent {
        let draining = CancellationToken::new();
        let outbox = Outbox::new(folder, OutboxLimits::default(), self.clock.clone()).unwrap();
        for job in leftovers {
            std::mem::forget(outbox.reopen(*job));
        }
        let chance = Arc::clone(&self.chance);
        let scheduler = Scheduler::open(Wiring {
            state_dir: folder.to_owned(),
            host_id: HostId::from_parts(1, 1),
            seal: Seal::from_token(&Secret::from("token")),
            policy: self.policy.clone(),
            clock: self.clock.clone(),
            entropy: Arc::new(move || {
                (chance.fetch_add(1, Ordering::Relaxed) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            }),
            outbox: outbox.clone(),
            runner: self.runner.clone(),
            draining: draining.clone(),
        });
        Agent { scheduler, outbox, draining }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Puts the clock wrong, or right again.
    fn step(&self, by: i64) {
        self.clock.off_ms.fetch_add(by * 1000, Ordering::Relaxed);
    }

    /// Time passes without the agent.
    async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }

    fn state_file(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("schedule/state.json")).unwrap()
    }
}

impl Agent {
    /// The agent ticks, without a server.
    async fn tick(&self, time: Duration) {
        assert!(timeout(time, self.scheduler.run()).await.is_err());
    }

    /// The agent ticks, and says what it has to say to nobody who answers.
    async fn talk(&self, time: Duration) -> Vec<ScheduleFire> {
        let mut said = Vec::new();
        let listen = async {
            loop {
                said.push(self.scheduler.next().await);
            }
        };
        let both = async {
            tokio::select! { never = self.scheduler.run() => match never {}, () = listen => {} }
        };
        assert!(timeout(time, both).await.is_err());
        said
    }

    /// The agent ticks, connected to a server.
    async fn meet(&self, server: &mut Server, time: Duration) {
        let hello = self.scheduler.hello().1;
        server.hellos.push(hello.clone());
        let answers: Vec<_> = hello.into_iter().map(|fire| server.answer(fire)).collect();
        self.scheduler.connected();
        answers.iter().for_each(|answer| self.scheduler.fired(answer));
        let serve = async {
            loop {
                let answer = server.answer(self.scheduler.next().await);
                self.scheduler.fired(&answer);
            }
        };
        let both = async {
            tokio::select! { never = self.scheduler.run() => match never {}, () = serve => {} }
        };
        assert!(timeout(time, both).await.is_err());
        self.scheduler.disconnected();
    }

    fn pending(&self) -> Vec<ScheduleFire> {
        self.scheduler.hello().1
    }

    fn trouble(&self, code: &str) -> Option<String> {
        self.scheduler.troubles().into_iter().find(|t| t.code == code).map(|t| t.message)
    }
}

/// Makes one job per moment, as the server does.
#[derive(Default)]
struct Server {
    jobs: BTreeMap<(ScheduleId, Timestamp), JobId>,
    hellos: Vec<Vec<ScheduleFire>>,
    refuses: Option<String>,
    /// Its own, right clock: moments that are yet to come are refused.
    clock: Option<Arc<WallClock>>,
    asked: usize,
}

impl Server {
    fn answer(&mut self, fire: ScheduleFire) -> ScheduleFired {
        let (schedule_id, scheduled_at) = (fire.schedule_id, fire.scheduled_at);
        self.asked += 1;
        let early = self.clock.as_ref().is_some_and(|clock| scheduled_at.ms_since(clock.now()) > 300_000);
        let reason = self.refuses.clone().or(early.then(|| "in the future".to_owned())).filter(|_| !fire.alone);
        let job_id =
            reason.is_none().then(|| *self.jobs.entry((schedule_id, scheduled_at)).or_insert(fire.job_id.unwrap()));
        ScheduleFired { schedule_id, scheduled_at, job_id, reason }
    }

    fn moments(&self) -> Vec<String> {
        self.jobs.keys().map(|(_, at)| short(*at)).collect()
    }
}

/// Such as `22T03:00`.
fn short(at: Timestamp) -> String {
    at.to_string()[8..16].to_owned()
}

fn moments(fires: &[ScheduleFire]) -> Vec<String> {
    fires.iter().map(|fire| short(fire.scheduled_at)).collect()
}
