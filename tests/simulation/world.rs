//! Server, agent, machine and network of one seed. The server's side is real down to the database; it is shared by all seeds of a thread, each with a host of
//! its own. The network keeps the order within a connection and promises nothing else: frames come late, ends are noticed late or on one side only.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
};

use flotilla::{
    clock::ManualClock,
    domain::{
        HostId, JobId, JobKind, JobStatus, Timestamp,
        host::Host,
        job::{Actor, JobInput, NewJob},
    },
    fleet::{Fleet, FleetOptions, FleetParts, conversation::Conversation},
    hub::Hub,
    lifecycle::Tasks,
    store::{Store, StoreError, WriteTx, hosts, jobs, logs},
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
}

impl House {
    pub(crate) fn open(folder: &Path) -> Self {
        let hub = Hub::new();
        let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
        let store = Store::open(folder, hub.clone(), clock.clone()).unwrap();
        let (vault, _) = Vault::open(None, &folder.join("master.key")).unwrap();
        Self { store, hub, clock, vault }
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
    ordered: Vec<JobId>,
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
            token_hash: None,
            enrol_token: None,
            facts: hosts::Facts::default(),
        };
        let host = house.store.write(move |tx| hosts::insert(tx, &new)).await.unwrap();
        let machine = Machine::default();
        let agent = Agent::start(machine.clone());
        Self {
            house,
            random,
            fleet: house.server(),
            host,
            machine,
            agent,
            wires: Vec::new(),
            current: None,
            ordered: Vec::new(),
            story: Vec::new(),
        }
    }

    fn tell(&mut self, what: impl Into<String>) {
        self.story.push(what.into());
    }

    /// One thing happens, whichever.
    pub(crate) async fn step(&mut self) {
        match self.random.within(0..100) {
            0..25 => self.up().await,
            25..45 => self.down(),
            45..60 => self.agent_says(),
            60..68 => self.server_stores().await,
            68..73 => self.server_sends().await,
            73..83 => {
                let (print, read) = (self.random.within(1..6), self.random.within(0..8));
                self.machine.print(u32::try_from(print).unwrap());
                self.machine.read(u32::try_from(read).unwrap());
            }
            83..88 => self.connect(),
            88..90 => self.order().await,
            90..91 => self.cancel().await,
            91..94 => self.cut(),
            94..96 => self.agent_gives_up(),
            96..97 => self.server_dies(),
            97..98 => self.disk_is_full().await,
            98..99 => {
                let seconds = self.random.within(1..45);
                self.pass(seconds).await;
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
        self.house.clock.advance(i64::try_from(seconds).unwrap());
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
                self.current = None;
            }
            return;
        };
        wire.welcome |= frame.contains("\"type\":\"welcome\"");
        wire.up.extend(self.agent.hears(&frame));
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
        for wire in &mut self.wires {
            if let Server::Talks(talk) = &mut wire.server {
                wire.down.extend(std::iter::from_fn(|| talk.order()));
            }
        }
    }

    fn connect(&mut self) {
        if self.current.is_some() {
            return;
        }
        self.tell(format!("connection {}", self.wires.len()));
        let hello = AgentMessage::Hello(Box::new(self.agent.hello())).encode("hello").unwrap();
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
        if self.ordered.len() == 6 {
            return;
        }
        self.machine.next_prints(u32::try_from(self.random.within(0..40)).unwrap());
        let id = JobId::from_parts(self.random.next() >> 20, u128::from(self.random.next()));
        let new = NewJob {
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
            self.ordered.push(id);
        }
    }

    async fn cancel(&mut self) {
        if let Some(id) = (!self.ordered.is_empty()).then(|| *self.random.pick(&self.ordered)) {
            self.tell(format!("wish to cancel {id}"));
            self.house.store.write(move |tx| jobs::request_cancel(tx, id)).await.ok();
        }
    }

    /// The connection breaks for both; what was under way is lost from some frame on.
    fn cut(&mut self) {
        let Some(n) = self.current.take() else { return };
        self.tell(format!("connection {n} is cut"));
        let wire = &mut self.wires[n];
        let arrives = self.random.within(0..wire.up.len() as u64 + 1);
        wire.up.truncate(usize::try_from(arrives).unwrap());
        wire.agent = false;
    }

    /// The agent takes the connection for dead, and the server does not hear of it yet: all that was sent still arrives, at some time.
    fn agent_gives_up(&mut self) {
        if let Some(n) = self.current.take() {
            self.tell(format!("the agent gives connection {n} up"));
            // Its end is noticed, some time, by the server that wants to send.
            self.wires[n].agent = false;
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
        let mut quiet = 0;
        for _ in 0..400 {
            self.machine.print(50);
            self.machine.read(50);
            self.connect();
            self.server_sends().await;
            for _ in 0..40 {
                self.up().await;
                self.server_stores().await;
                self.agent_says();
                self.down();
            }
            self.pass(2).await;
            let still = self.machine.is_quiet() && self.agent.outbox.known_jobs().is_empty() && self.open().await == 0;
            quiet = if still { quiet + 1 } else { 0 };
            // Late orders of an order that was sent twice come within this time.
            if quiet == 2 {
                return;
            }
        }
        panic!("it does not come to rest: {:?}, undelivered {:?}", self.stored().await, self.agent.outbox.known_jobs());
    }

    async fn open(&self) -> usize {
        self.stored().await.values().filter(|(status, _)| !status.is_final()).count()
    }

    /// What the server has of each job.
    async fn stored(&self) -> BTreeMap<JobId, (JobStatus, u32)> {
        let ids = self.ordered.clone();
        let read = self.house.store.read(move |db| {
            let mut all = BTreeMap::new();
            for id in ids {
                let job = jobs::lookup(db, id)?.unwrap();
                all.insert(id, (job.status, job.log_lines));
            }
            Ok::<_, StoreError>(all)
        });
        read.await.unwrap()
    }

    /// All that is wrong; empty where nothing was lost, nothing ran twice and every end is true.
    pub(crate) async fn offences(&self) -> Vec<String> {
        let mut found = Vec::new();
        let truth = self.machine.truth();
        for id in self.ordered.clone() {
            let (job, lines) = self
                .house
                .store
                .read(move |db| {
                    let job = jobs::lookup(db, id)?.unwrap();
                    let lines = logs::page(db, job.no, 0, logs::MAX_PAGE)?;
                    Ok::<_, StoreError>((job, lines))
                })
                .await
                .unwrap();
            let Some(truth) = truth.get(&id) else {
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
                    lines.last()
                ));
            }
            if truth.kept {
                found.push(format!("{id}: the agent keeps its folder"));
            }
        }
        found
    }
}
