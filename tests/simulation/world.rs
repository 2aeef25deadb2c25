//! Server, agent, machine and network of one seed. The server's side is real down to the database; it is shared by all seeds of a thread, each with a host of
//! its own. The network keeps the order within a connection and promises nothing else: frames come late, ends are noticed late or on one side only.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use flotilla::{
    clock::{Clock as _, ManualClock},
    domain::{
        HostId, JobId, JobKind, JobStatus, RepoId, ScheduleId, Timestamp,
        host::Host,
        job::{Actor, Job, JobInput, NewJob},
        schedule::{CatchUp, OwnSchedule, Schedule, Standing},
    },
    fleet::{Fleet, FleetOptions, FleetParts, conversation::Conversation},
    hub::Hub,
    lifecycle::Tasks,
    ops::repos::{self, RepoInput},
    store::{Store, StoreError, WriteTx, hosts, jobs, logs, schedules},
    vault::Vault,
};
use flotilla_proto::{AgentMessage, RawEnvelope};

use crate::{
    agent::Agent,
    house::random::Random,
    machine::{Machine, text},
};

/// The server's part, for many seeds.
pub(crate) struct House {
    store: Store,
    hub: Hub,
    clock: Arc<ManualClock>,
    vault: Vault,
    repo: RepoId,
    folder: PathBuf,
}

impl House {
    pub(crate) async fn open(folder: &Path) -> Self {
        let hub = Hub::new();
        let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
        let store = Store::open(folder, hub.clone(), clock.clone()).unwrap();
        let (vault, _) = Vault::open(None, &folder.join("master.key")).unwrap();
        let input = RepoInput {
            name: "vault".to_owned(),
            url: "rest:http://127.0.0.1:1/".to_owned(),
            password: "secret".into(),
            ..RepoInput::default()
        };
        let repo = repos::create(&store, &vault, Actor::system(), input).await.unwrap().id;
        Self { store, hub, clock, vault, repo, folder: folder.to_owned() }
    }

    /// A server process: what it remembers is in the store alone.
    fn server(&self) -> Fleet {
        let parts = FleetParts {
            store: self.store.clone(),
            hub: self.hub.clone(),
            vault: self.vault.clone(),
            clock: self.clock.clone(),
            tasks: Tasks::new(),
        };
        Fleet::at_rest(parts, FleetOptions::default())
    }
}

/// One TCP connection.
struct Wire {
    up: VecDeque<String>,
    down: VecDeque<String>,
    /// The agent still holds its end.
    agent: bool,
    server: Server,
    /// The welcome has come.
    welcome: bool,
}

enum Server {
    /// Waits for the hello of a connection of this number.
    Listens(u64),
    Talks(Box<Conversation>),
    Gone,
}

pub(crate) struct World<'a> {
    house: &'a House,
    pub(crate) random: Random,
    fleet: Fleet,
    host: Host,
    pub(crate) machine: Machine,
    agent: Agent,
    wires: Vec<Wire>,
    /// The agent's own connection, the last of `wires` by intent.
    current: Option<usize>,
    schedule: ScheduleId,
    ordered: u32,
    pub(crate) story: Vec<String>,
}

impl<'a> World<'a> {
    pub(crate) async fn new(house: &'a House, seed: u64) -> Self {
        let random = Random::new(seed);
        let id = HostId::from_parts(seed, 1);
        let new = hosts::NewHost {
            id,
            name: format!("host {seed}"),
            tags: Vec::new(),
            token_hash: Some(flotilla::credential::hash(&id.to_string())),
            enrol_token: None,
            facts: hosts::Facts::default(),
        };
        let host = house.store.write(move |tx| hosts::insert(tx, &new)).await.unwrap();
        let machine = Machine::default();
        let clock = Arc::new(flotilla_agent::clock::ManualClock::at(house.clock.now()));
        let agent = Agent::start(machine.clone(), house.folder.join(format!("agent-{seed}")), id, clock);
        Self {
            house,
            random,
            fleet: house.server(),
            host,
            machine,
            agent,
            wires: Vec::new(),
            current: None,
            schedule: ScheduleId::from_parts(seed, 2),
            ordered: 0,
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// One thing happens, whichever.
    pub(crate) async fn step(&mut self) {
        match self.random.within(0..200) {
            0..50 => self.up().await,
            50..90 => self.down(),
            90..115 => self.agent_says(),
            115..125 => self.agent.works(),
            125..140 => self.server_stores().await,
            140..148 => self.server_sends().await,
            148..166 => {
                let (print, read) = (self.random.within(1..6), self.random.within(0..8));
                self.machine.print(u32::try_from(print).unwrap());
                self.machine.read(u32::try_from(read).unwrap());
            }
            166..176 => self.connect().await,
            176..179 => self.order().await,
            179..181 => self.cancel().await,
            181..185 => self.cut(),
            185..187 => self.agent_gives_up(),
            187..189 => self.server_dies(),
            189..191 => self.agent_dies(),
            191..193 => self.disk_is_full().await,
            193..198 => {
                let seconds = self.random.within(1..90);
                self.pass(seconds).await;
            }
            198 => {
                let ms = *self.random.pick(&[-90_000, -3_600_000, 90_000, 3_600_000]);
                self.tell(format!("the agent's clock jumps by {ms} ms"));
                self.agent.clock.advance_ms(ms);
            }
            _ => {
                if self.random.one_in(4) {
                    self.tell("all processes are killed");
                    self.machine.kill();
                }
            }
        }
    }

    async fn pass(&self, seconds: u64) {
        let span = i64::try_from(seconds).unwrap();
        self.house.clock.advance(span);
        self.agent.clock.advance_ms(span * 1000);
        tokio::time::advance(std::time::Duration::from_secs(seconds)).await;
    }

    /// A connection on which frames are under way to the server, by chance.
    fn any(&mut self, has: impl Fn(&Wire) -> bool) -> Option<usize> {
        let able: Vec<usize> = (0..self.wires.len()).filter(|n| has(&self.wires[*n])).collect();
        (!able.is_empty()).then(|| *self.random.pick(&able))
    }

    /// A frame of the agent arrives, or the end of its connection does.
    async fn up(&mut self) {
        let Some(n) = self.any(|wire| !matches!(wire.server, Server::Gone)) else { return };
        if let Server::Talks(talk) = &self.wires[n].server
            && talk.is_to_end()
        {
            assert!(self.current != Some(n), "the agent's only connection was replaced");
            return self.server_ends(n, "replaced");
        }
        let Some(frame) = self.wires[n].up.pop_front() else {
            if !self.wires[n].agent {
                self.server_ends(n, "the agent is gone");
            }
            return;
        };
        let Self { fleet, host, wires, .. } = self;
        let wire = &mut wires[n];
        let answers = match &mut wire.server {
            Server::Listens(number) => {
                let AgentMessage::Hello(hello) = AgentMessage::decode(&RawEnvelope::decode(&frame).unwrap()).unwrap()
                else {
                    panic!("{frame} came before the hello")
                };
                match Conversation::open(fleet, host, *number, *hello).await {
                    Ok((talk, answers)) => {
                        wire.server = Server::Talks(Box::new(talk));
                        Ok(answers)
                    }
                    Err(e) => Err(e),
                }
            }
            Server::Talks(talk) => talk.hear(&frame).await.map(|answer| answer.into_iter().collect()),
            Server::Gone => Ok(Vec::new()),
        };
        match answers {
            Ok(answers) => wire.down.extend(answers.iter().map(|answer| answer.encode("").unwrap())),
            Err(e) => self.server_ends(n, &e.to_string()),
        }
    }

    fn server_ends(&mut self, n: usize, why: &str) {
        self.tell(format!("the server ends connection {n}: {why}"));
        self.wires[n].server = Server::Gone;
        self.wires[n].up.clear();
    }

    /// A frame of the server arrives, or the end of the connection does.
    fn down(&mut self) {
        let Some(n) = self.current else { return };
        let wire = &mut self.wires[n];
        let Some(frame) = wire.down.pop_front() else {
            if matches!(wire.server, Server::Gone) {
                wire.agent = false;
                self.leave();
            }
            return;
        };
        wire.welcome |= frame.contains("\"type\":\"welcome\"");
        wire.up.extend(self.agent.hears(&frame));
    }

    /// The agent has no connection any more; gives which it had.
    fn leave(&mut self) -> Option<usize> {
        let n = self.current.take()?;
        if self.wires[n].welcome {
            self.agent.disconnected();
        }
        self.wires[n].agent = false;
        Some(n)
    }

    fn agent_dies(&mut self) {
        self.tell("the agent is killed and comes back");
        if let Some(n) = self.current.take() {
            // What the kernel has still goes out.
            self.wires[n].agent = false;
        }
        self.agent.die();
    }

    fn agent_says(&mut self) {
        let Some(wire) = self.current.map(|n| &mut self.wires[n]).filter(|wire| wire.welcome) else { return };
        wire.up.extend(self.agent.says());
    }

    async fn server_stores(&mut self) {
        let Some(n) = self.any(|wire| matches!(wire.server, Server::Talks(_))) else { return };
        let wire = &mut self.wires[n];
        let Server::Talks(talk) = &mut wire.server else { return };
        match talk.stored().await {
            Ok(answer) => wire.down.extend(answer.map(|answer| answer.encode("").unwrap())),
            Err(e) => self.server_ends(n, &e.to_string()),
        }
    }

    async fn server_sends(&mut self) {
        self.fleet.dispatch_once().await.ok();
        self.fleet.schedule_once().await.ok();
        for wire in &mut self.wires {
            if let Server::Talks(talk) = &mut wire.server {
                wire.down.extend(std::iter::from_fn(|| talk.order()));
            }
        }
    }

    async fn connect(&mut self) {
        if self.current.is_some() {
            return;
        }
        self.tell(format!("connection {}", self.wires.len()));
        let hello = self.agent.hello().await;
        self.current = Some(self.wires.len());
        self.wires.push(Wire {
            up: [hello].into(),
            down: VecDeque::new(),
            agent: true,
            server: Server::Listens(self.fleet.number()),
            welcome: false,
        });
    }

    async fn order(&mut self) {
        if self.ordered == 6 {
            return;
        }
        if self.ordered == 1 {
            self.schedule().await;
        }
        self.machine.next_prints(u32::try_from(self.random.within(0..40)).unwrap());
        let id = JobId::from_parts(self.random.next() >> 20, u128::from(self.random.next()));
        let new = NewJob {
            about: Default::default(),
            id,
            host_id: self.host.id,
            kind: JobKind::Backup,
            actor: Actor::system(),
            moment: None,
            ran_alone: false,
            plan_id: None,
            repo_id: None,
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 3600,
            expires_at: None,
        };
        // Where the disk is full it was not ordered.
        if self.house.store.write(move |tx| jobs::insert(tx, &new)).await.is_ok() {
            self.tell(format!("ordered {id}"));
            self.ordered += 1;
        }
    }

    /// From now on a backup is due every minute.
    async fn schedule(&mut self) {
        let schedule = Schedule {
            cron: "* * * * *".to_owned(),
            timezone: "UTC".to_owned(),
            jitter_s: 0,
            catch_up: *self.random.pick(&[CatchUp::Once, CatchUp::Skip]),
            enabled: true,
        };
        let own = OwnSchedule {
            id: self.schedule,
            host_id: self.host.id,
            host_name: String::new(),
            kind: JobKind::Backup,
            plan_id: None,
            plan_name: None,
            repo_id: Some(self.house.repo),
            repo_name: None,
            input: JobInput { args: vec!["/etc".to_owned()], ..JobInput::default() },
            standing: Standing { schedule, since: self.house.clock.now() },
            created_at: self.house.clock.now(),
            removed: false,
        };
        if self.house.store.write(move |tx| schedules::insert(tx, &own)).await.is_ok() {
            self.tell("a backup is due every minute");
        }
    }

    async fn cancel(&mut self) {
        let jobs: Vec<JobId> = self.jobs().await.iter().map(|job| job.id).collect();
        if !jobs.is_empty() {
            let id = *self.random.pick(&jobs);
            self.tell(format!("wish to cancel {id}"));
            self.house.store.write(move |tx| jobs::request_cancel(tx, id)).await.ok();
        }
    }

    /// The connection breaks for both; what was under way is lost from some frame on.
    fn cut(&mut self) {
        let Some(n) = self.leave() else { return };
        self.tell(format!("connection {n} is cut"));
        let wire = &mut self.wires[n];
        let arrives = self.random.within(0..wire.up.len() as u64 + 1);
        wire.up.truncate(usize::try_from(arrives).unwrap());
    }

    /// The agent takes the connection for dead, and the server does not hear of it yet: all that was sent still arrives, at some time.
    fn agent_gives_up(&mut self) {
        if let Some(n) = self.leave() {
            self.tell(format!("the agent gives connection {n} up"));
        }
    }

    fn server_dies(&mut self) {
        self.tell("the server is killed and comes back");
        for wire in &mut self.wires {
            wire.server = Server::Gone;
            let arrives = self.random.within(0..wire.down.len() as u64 + 1);
            wire.down.truncate(usize::try_from(arrives).unwrap());
        }
        self.fleet = self.house.server();
    }

    /// From now on the database may not grow, or may again.
    async fn disk_is_full(&mut self) {
        let full = self.random.one_in(2);
        self.tell(if full { "the server's disk is full" } else { "there is room again" });
        self.room(!full).await;
    }

    async fn room(&self, room: bool) {
        // Never below what there is: then nothing that takes a page goes through.
        let most = if room { 4_000_000_000_u32 } else { 1 };
        let set = move |tx: &mut WriteTx<'_>| {
            Ok::<_, StoreError>(
                tx.db().query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get::<_, i64>(0))?,
            )
        };
        // A transaction that something else spoils does not get as far as this.
        for _ in 0..10 {
            if self.house.store.write(set).await.is_ok() {
                break;
            }
        }
    }

    /// Nothing breaks any more: everybody does what is to be done, until nothing is.
    pub(crate) async fn settle(&mut self) {
        self.tell("nothing breaks any more");
        self.room(true).await;
        let schedule = self.schedule;
        self.house.store.write(move |tx| schedules::remove(tx, schedule)).await.unwrap();
        let mut quiet = 0;
        for _ in 0..400 {
            self.machine.print(50);
            self.machine.read(50);
            self.agent.works();
            self.connect().await;
            self.server_sends().await;
            for _ in 0..40 {
                self.up().await;
                self.server_stores().await;
                self.agent_says();
                self.down();
            }
            self.pass(2).await;
            let still = self.machine.is_quiet() && self.agent.is_quiet().await && self.open().await == 0;
            quiet = if still { quiet + 1 } else { 0 };
            if quiet == 2 {
                return;
            }
        }
        let open: Vec<Job> = self.jobs().await.into_iter().filter(|job| !job.status.is_final()).collect();
        panic!("it does not come to rest: at the server {open:#?}; the agent says {}", self.agent.hello().await);
    }

    async fn open(&self) -> usize {
        self.jobs().await.iter().filter(|job| !job.status.is_final()).count()
    }

    /// All jobs of the host, as the server has them.
    async fn jobs(&self) -> Vec<Job> {
        let filter = jobs::JobFilter { host_id: Some(self.host.id), limit: 1000, ..jobs::JobFilter::default() };
        self.house.store.read(move |db| jobs::list(db, &filter)).await.unwrap()
    }

    /// How many jobs there were, how many of them by the schedule, and how many of those ran without the server.
    pub(crate) async fn counts(&self) -> [usize; 3] {
        let jobs = self.jobs().await;
        let by_schedule = jobs.iter().filter(|job| job.scheduled_at.is_some()).count();
        [jobs.len(), by_schedule, jobs.iter().filter(|job| job.ran_alone).count()]
    }

    /// All that is wrong; empty where nothing was lost, nothing ran twice and every end is true.
    pub(crate) async fn offences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut truth = self.machine.truth();
        let mut moments = BTreeSet::new();
        for job in self.jobs().await {
            let (id, no) = (job.id, job.no);
            if job.scheduled_at.is_some_and(|at| !moments.insert(at)) {
                found.push(format!("{id}: its moment {:?} has another job", job.scheduled_at));
            }
            let lines = self.house.store.read(move |db| logs::page(db, no, 0, logs::MAX_PAGE)).await.unwrap();
            let Some(truth) = truth.remove(&id) else {
                if job.status != JobStatus::Cancelled {
                    found.push(format!("{id}: never ran, and is told as {}: {:?}", job.status, job.error));
                }
                continue;
            };
            if truth.runs > 1 {
                found.push(format!("{id}: ran {} times", truth.runs));
            }
            if Some(job.status) != truth.end {
                found.push(format!("{id}: ended as {:?}, and is told as {}: {:?}", truth.end, job.status, job.error));
            }
            let expected = (1..=truth.printed).map(|number| (number, text(id, number)));
            if !lines.iter().map(|line| (line.seq, line.text.clone())).eq(expected) {
                found.push(format!(
                    "{id}: printed {} lines, and {} are stored: {:?}",
                    truth.printed,
                    lines.len(),
                    lines.iter().map(|line| &line.text).collect::<Vec<_>>()
                ));
            }
            if truth.kept {
                found.push(format!("{id}: the agent keeps its folder"));
            }
        }
        found.extend(
            truth.into_iter().map(|(id, truth)| format!("{id}: ran, and the server has no such job: {truth:?}")),
        );
        found
    }
}
