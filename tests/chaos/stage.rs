//! The parts of one run, each a process of its own, and what can be done to them. What was done is kept, for the report and for the verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use flotilla::domain::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    house::{
        ADMIN, ADMIN_PASSWORD,
        api::{Api, id, is_over},
        fault_proxy::FaultProxy,
        program::{FLOTILLA, Program, command, free_port, kill_all_for, run, tool},
        read_along::ReadAlong,
        repository::RestServer,
        small_disk::SmallDisk,
        stepped_clock::SteppedClock,
        wait::pass,
    },
    script::Break,
};

/// Plans of one and the same tree, so that several backups may be open at once.
pub(crate) const PLANS: usize = 8;
/// Room for what eight backups print and what the spool takes, and to be filled in no time.
const AGENT_DISK_MIB: u32 = 192;
const SERVER_DISK_MIB: u32 = 64;
/// How long a part may take to end when it is asked to.
const STOPPING: Duration = Duration::from_secs(45);

/// A folder, on a disk of its own where this machine lets us have one.
pub(crate) struct Place {
    disk: Option<SmallDisk>,
    path: PathBuf,
}

impl Place {
    fn new(path: PathBuf, mib: u32) -> Self {
        fs::create_dir_all(&path).unwrap();
        Self { disk: SmallDisk::mount(&path, mib), path }
    }

    /// As this process sees it.
    pub(crate) fn here(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.path.clone(), SmallDisk::seen_from_here)
    }

    fn command(&self, command: Command) -> Command {
        match &self.disk {
            None => command,
            Some(disk) => disk.command(&command),
        }
    }
}

/// What happened, and when.
pub(crate) struct Journal {
    began: Instant,
    pub(crate) lines: Vec<String>,
}

impl Journal {
    pub(crate) fn note(&mut self, what: &str) {
        self.lines.push(format!("{:7.3} s  {what}", self.began.elapsed().as_secs_f64()));
    }
}

/// All parts.
pub(crate) struct Stage {
    pub(crate) api: Api,
    pub(crate) rest: RestServer,
    pub(crate) journal: Journal,
    pub(crate) agent_place: Place,
    pub(crate) server_place: Place,
    pub(crate) host_id: String,
    plans: Vec<String>,
    proxy: FaultProxy,
    clock: SteppedClock,
    server_port: u16,
    server: Option<Program>,
    agent: Option<Program>,
    repairs: Vec<(Instant, Repair)>,
    printed: ReadAlong,
    /// Orders that the server confirmed.
    pub(crate) ordered: BTreeSet<String>,
    /// Jobs whose restic was killed.
    pub(crate) killed: BTreeSet<String>,
    /// Jobs that were over when last asked.
    pub(crate) over: BTreeSet<String>,
    /// When the agent's disk was full: the jobs that were over before, and when there was room again.
    pub(crate) starved: Option<(BTreeSet<String>, Timestamp)>,
    agent_disk_full: bool,
    server_disk_full: bool,
    pub(crate) faults: usize,
    folder: Option<TempDir>,
    root: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        kill_all_for(&self.root);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    StartServer,
    StartAgent,
    FreeServer,
    FreeAgent,
}

impl Stage {
    /// Sets everything up: all parts run, the agent is online, the plans are there.
    pub(crate) async fn set(tree: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("flotilla-chaos-").tempdir().unwrap();
        let agent_place = Place::new(folder.path().join("agent"), AGENT_DISK_MIB);
        let server_place = Place::new(folder.path().join("server"), SERVER_DISK_MIB);
        let clock = SteppedClock::build(folder.path());
        fs::create_dir(folder.path().join("rest")).unwrap();
        let rest = RestServer::start(&folder.path().join("rest")).await;
        let server_port = free_port();
        let proxy = FaultProxy::start(server_port).await;
        let url = format!("http://127.0.0.1:{server_port}");
        let printed = ReadAlong::begin(agent_place.here().join("state/jobs"), "stdout");
        let mut stage = Self {
            api: Api::new(&url, "", None),
            rest,
            journal: Journal { began: Instant::now(), lines: Vec::new() },
            agent_place,
            server_place,
            host_id: String::new(),
            plans: Vec::new(),
            proxy,
            clock,
            server_port,
            server: None,
            agent: None,
            repairs: Vec::new(),
            printed,
            ordered: BTreeSet::new(),
            killed: BTreeSet::new(),
            over: BTreeSet::new(),
            starved: None,
            agent_disk_full: false,
            server_disk_full: false,
            faults: 0,
            root: folder.path().to_owned(),
            folder: Some(folder),
        };
        stage.start_server();
        stage.server.as_ref().unwrap().said_after("listening on ").await;
        stage.make_admin(&url);
        stage.enrol().await;
        // Not by the agents: two that create a repository at once spoil it, and one that is killed while it creates one leaves another process that does.
        let repo = stage.api.repo(stage.rest.ready("vault")).await;
        for n in 0..PLANS {
            let plan = json!({
                "name": format!("plan {n}"), "repo_id": repo, "hosts": [stage.host_id], "paths": [tree.to_str().unwrap()],
                "options": {"log_files": true},
            });
            stage.plans.push(id(&stage.api.post("/api/plans", plan).await.must(201)));
        }
        stage.start_agent();
        stage.api.host_in_state(&stage.host_id, "online").await;
        stage.journal.began = Instant::now();
        stage
    }

    fn make_admin(&mut self, url: &str) {
        let data = self.data_dir();
        let mut add = command(FLOTILLA);
        add.args(["user", "add", ADMIN, "--role", "admin", "--password-stdin", "--data-dir"]).arg(&data);
        run(&mut self.server_place.command(add), ADMIN_PASSWORD).must();
        let mut make = command(FLOTILLA);
        make.args(["token", "create", "--user", ADMIN, "--label", "test", "--data-dir"]).arg(&data);
        let token = run(&mut self.server_place.command(make), "").must();
        self.api = Api::new(url, token.trim(), None);
    }

    async fn enrol(&mut self) {
        let made = self.api.post("/api/enrollment-tokens", json!({"host_name": "web"})).await.must(201);
        let proxy = format!("http://127.0.0.1:{}", self.proxy.port());
        let mut enrol = command(FLOTILLA);
        enrol.args(["agent", "enroll", "--server", &proxy, "--token", made["token"].as_str().unwrap(), "--state-dir"]);
        enrol.arg(self.agent_place.path.join("state"));
        run(&mut self.agent_place.command(enrol), "").must();
        let identity = fs::read_to_string(self.state_dir().join("identity.json")).unwrap();
        let identity: Value = serde_json::from_str(&identity).unwrap();
        self.host_id = identity["host_id"].as_str().unwrap().to_owned();
    }

    /// The server's data folder, as its programs see it.
    fn data_dir(&self) -> PathBuf {
        self.server_place.path.join("data")
    }

    /// The agent's state folder, as seen from here.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.agent_place.here().join("state")
    }

    /// Where the parts' own logs are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Whether disks can be filled here.
    pub(crate) fn has_disks(&self) -> bool {
        self.agent_place.disk.is_some() && self.server_place.disk.is_some()
    }

    /// `flotilla` with these arguments and the server's data folder.
    pub(crate) fn on_the_data_folder(&self, args: &[&str]) -> crate::house::program::Said {
        let mut flotilla = command(FLOTILLA);
        flotilla.args(args).arg("--data-dir").arg(self.data_dir());
        run(&mut self.server_place.command(flotilla), "")
    }

    fn start_server(&mut self) {
        let mut serve = command(FLOTILLA);
        serve
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.server_port), "--data-dir"])
            .arg(self.data_dir());
        self.server = Some(Program::start(self.server_place.command(serve), self.folder(), "serve"));
    }

    fn start_agent(&mut self) {
        let mut agent = command(FLOTILLA);
        agent.args(["agent", "run", "--state-dir"]).arg(self.agent_place.path.join("state"));
        agent.env("FLOTILLA_AGENT_RECONNECT_MAX", "1").env("PATH", format!("{}:/usr/bin:/bin", tool("bin").display()));
        let mut agent = self.agent_place.command(agent);
        self.clock.give_to(&mut agent);
        self.agent = Some(Program::start(agent, self.folder(), "agent"));
    }

    /// Orders a backup by the next plan in turn, if the server is there to take it.
    pub(crate) async fn order(&mut self) {
        self.plans.rotate_left(1);
        let request = json!({"kind": "backup", "plan_id": self.plans[0]});
        let path = format!("/api/hosts/{}/jobs", self.host_id);
        if let Some(made) = self.api.try_post(&path, request).await.filter(|made| made.status == 202) {
            self.ordered.insert(made.body["job_id"].as_str().unwrap().to_owned());
        }
    }

    /// All jobs, if the server is there to tell.
    pub(crate) async fn jobs(&mut self) -> Option<Vec<Value>> {
        let answer = self.api.try_get("/api/jobs?limit=200").await.filter(|answer| answer.status == 200)?;
        let jobs = answer.body["items"].as_array()?.clone();
        self.over.extend(jobs.iter().filter(|job| is_over(job)).map(id));
        Some(jobs)
    }

    /// Lets time pass, mends what is due to be mended, keeps up what ended by itself and should not have, and keeps what restic prints.
    pub(crate) async fn live_until(&mut self, at: Instant) {
        loop {
            self.mend();
            self.keep_up();
            let now = Instant::now();
            if now >= at {
                return;
            }
            pass((at - now).min(Duration::from_millis(20))).await;
        }
    }

    fn mend(&mut self) {
        let now = Instant::now();
        let (due, rest) = std::mem::take(&mut self.repairs).into_iter().partition(|(at, _)| *at <= now);
        self.repairs = rest;
        let due: Vec<(Instant, Repair)> = due;
        for (_, repair) in due {
            match repair {
                Repair::StartServer => self.start_server(),
                Repair::StartAgent => self.start_agent(),
                Repair::FreeServer => {
                    self.server_disk_full = false;
                    self.server_place.disk.as_ref().unwrap().free();
                }
                Repair::FreeAgent => {
                    self.agent_disk_full = false;
                    self.agent_place.disk.as_ref().unwrap().free();
                    self.starved.as_mut().unwrap().1 = now_by_the_wall();
                }
            }
            self.journal.note(&format!("{repair:?}"));
        }
    }

    /// A part that ended by itself, such as one that could not start on a full disk, is started again, as a service manager would.
    fn keep_up(&mut self) {
        for (full, place) in [(self.agent_disk_full, &self.agent_place), (self.server_disk_full, &self.server_place)] {
            if full {
                place.disk.as_ref().unwrap().fill();
            }
        }
        let again = Instant::now() + Duration::from_millis(200);
        if let Some(status) = self.server.as_mut().and_then(Program::ended) {
            self.server = None;
            self.repairs.push((again, Repair::StartServer));
            self.journal.note(&format!("the server ended ({status})"));
        }
        if let Some(status) = self.agent.as_mut().and_then(Program::ended) {
            self.agent = None;
            self.repairs.push((again, Repair::StartAgent));
            self.journal.note(&format!("the agent ended ({status})"));
        }
    }

    /// What each job's restic printed, by job; more than one text where restic was run more than once. `None` where that was not seen in time.
    pub(crate) fn printed(&self) -> BTreeMap<String, Vec<Option<String>>> {
        let mut printed = BTreeMap::<String, Vec<Option<String>>>::new();
        for file in self.printed.printed() {
            let text = Some(file.text).filter(|text| !text.contains(&0));
            let text = text.map(|text| String::from_utf8_lossy(&text).into_owned());
            printed.entry(file.folder).or_default().push(text);
        }
        printed
    }

    /// Waits until what is to be broken is whole, then breaks it. `false`: there was nothing to be broken in time.
    pub(crate) async fn inflict(&mut self, what: Break) -> bool {
        let deadline = Instant::now() + Duration::from_secs(6);
        while !self.can_suffer(what) {
            if Instant::now() > deadline {
                self.journal.note(&format!("left out, for want of a victim: {what}"));
                return false;
            }
            self.live_until(Instant::now() + Duration::from_millis(10)).await;
        }
        self.journal.note(&what.to_string());
        match what {
            Break::KillServer(away) => self.end_server("-KILL", away).await,
            Break::StopServer(away) => self.end_server("-TERM", away).await,
            Break::KillAgent(away) => self.end_agent("-KILL", away).await,
            Break::StopAgent(away) => self.end_agent("-TERM", away).await,
            Break::KillRestic => self.kill_restic(),
            Break::Link(fault) => self.proxy.inflict(fault),
            Break::FillServer(span) => {
                self.server_disk_full = true;
                self.server_place.disk.as_ref().unwrap().fill();
                self.repairs.push((Instant::now() + span, Repair::FreeServer));
            }
            Break::FillAgent(span) => {
                self.agent_disk_full = true;
                self.starved = Some((self.over.clone(), now_by_the_wall()));
                self.agent_place.disk.as_ref().unwrap().fill();
                self.repairs.push((Instant::now() + span, Repair::FreeAgent));
            }
            Break::StepClock(seconds) => self.clock.set(seconds),
        }
        self.faults += 1;
        true
    }

    fn can_suffer(&mut self, what: Break) -> bool {
        match what {
            Break::KillServer(_) | Break::StopServer(_) => self.server.is_some(),
            Break::KillAgent(_) | Break::StopAgent(_) => self.agent.is_some(),
            Break::KillRestic => !self.backups().is_empty(),
            Break::Link(_) => self.agent.is_some() && self.server.is_some() && self.proxy.carries(),
            Break::FillServer(_) | Break::FillAgent(_) | Break::StepClock(_) => true,
        }
    }

    async fn end_server(&mut self, signal: &str, away: Duration) {
        let server = self.server.take().unwrap();
        self.end(server, signal).await;
        self.repairs.push((Instant::now() + away, Repair::StartServer));
    }

    async fn end_agent(&mut self, signal: &str, away: Duration) {
        let agent = self.agent.take().unwrap();
        self.end(agent, signal).await;
        self.repairs.push((Instant::now() + away, Repair::StartAgent));
    }

    /// Ends it by a signal to itself alone, and waits for that while the rest lives on.
    async fn end(&mut self, mut program: Program, signal: &str) {
        program.signal(signal);
        let deadline = Instant::now() + STOPPING;
        while program.ended().is_none() {
            assert!(Instant::now() < deadline, "process {} did not end by {signal} within {STOPPING:?}", program.pid());
            self.live_until(Instant::now() + Duration::from_millis(10)).await;
        }
    }

    /// Processes of restic that back up this run's tree: pid and job.
    fn backups(&self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).into_owned();
            let mut args = line.split('\0');
            let restic = args.next().is_some_and(|program| program.ends_with("/restic"));
            let job = args.find_map(|arg| arg.strip_prefix("--tag=flotilla,job-"));
            if let (true, Some(job)) = (restic, job)
                && self.is_ours(pid)
            {
                found.push((pid, job.to_owned()));
            }
        }
        found
    }

    /// Other runs on this machine have agents of their own.
    fn is_ours(&self, pid: u32) -> bool {
        let own = self.folder().to_string_lossy().into_owned();
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| String::from_utf8_lossy(&env).contains(&own))
    }

    fn kill_restic(&mut self) {
        let (pid, job) = self.backups().swap_remove(0);
        let killed =
            Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
        assert!(killed.is_ok());
        self.journal.note(&format!("restic {pid} of job {job} was killed"));
        self.killed.insert(job);
    }

    /// All that was broken is whole again: both parts run, the disks have room.
    pub(crate) async fn heal(&mut self) {
        while !self.repairs.is_empty() {
            self.live_until(Instant::now() + Duration::from_millis(20)).await;
        }
    }

    /// Ends the server in good order.
    pub(crate) async fn stop_server(&mut self) {
        let server = self.server.take().unwrap();
        self.end(server, "-TERM").await;
    }

    /// Leaves the folder for whoever wants to know what happened, with what is on the disks, which are gone in a moment.
    pub(crate) fn keep_folder(&mut self) -> PathBuf {
        let Some(folder) = self.folder.take() else { return PathBuf::new() };
        let folder = folder.keep();
        for place in [&self.agent_place, &self.server_place].into_iter().filter(|place| place.disk.is_some()) {
            Command::new("cp")
                .arg("-a")
                .arg(place.here().join("."))
                .arg(place.path.with_extension("disk"))
                .status()
                .ok();
        }
        folder
    }
}

fn now_by_the_wall() -> Timestamp {
    flotilla::clock::Clock::now(&flotilla::clock::SystemClock)
}
