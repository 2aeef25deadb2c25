//! A bare control plane for one real agent process: takes and acknowledges what it says, as a server that forgets nothing would. Lines must come once and
//! without a gap, over any number of connections and agent processes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use flotilla_agent::identity::{Identity, StateDir};
use flotilla_proto::{
    Ack, AgentMessage, CommandCancel, CommandRun, GuardAnswer, GuardRequest, HostId, JobFinished, JobId,
    ProtocolVersion, RawEnvelope, ServerMessage, Stream, Welcome,
};
use futures_util::{SinkExt as _, StreamExt as _};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use super::harness::{PATIENCE, PLANTED, poll, restic, signal};

/// What was told of one job.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) pid: Option<u32>,
    pub(crate) lines: Vec<(Stream, String)>,
    pub(crate) end: Option<JobFinished>,
    confirmed: bool,
}

impl Told {
    /// Lines of one stream.
    pub(crate) fn of(&self, stream: Stream) -> Vec<&str> {
        self.lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|(stream, line)| format!("{stream:?} {line}\n")).collect()
    }
}

/// The server's side.
pub(crate) struct Control {
    listener: TcpListener,
    peer: Option<WebSocketStream<TcpStream>>,
    pub(crate) jobs: BTreeMap<JobId, Told>,
    /// The restic that the last hello named.
    pub(crate) restic: Option<String>,
    /// Asked for with the next welcome.
    pub(crate) heartbeat_s: u64,
}

impl Control {
    pub(crate) async fn start() -> Self {
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            peer: None,
            jobs: BTreeMap::new(),
            restic: None,
            heartbeat_s: 30,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// Takes the agent's next connection.
    pub(crate) async fn connect(&mut self) {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the agent connects").unwrap();
        self.peer = Some(accept_async(tcp).await.unwrap());
        let AgentMessage::Hello(hello) = self.next().await else { panic!("a hello first") };
        self.restic = hello.restic_version;
        let jobs = self.jobs.iter();
        let welcome = Welcome {
            protocol: ProtocolVersion(1),
            host_id: HostId::from_parts(1, 1),
            heartbeat_s: self.heartbeat_s,
            acked: jobs.clone().map(|(id, told)| (*id, u32::try_from(told.lines.len()).unwrap())).collect(),
            finished: jobs.filter(|(_, told)| told.confirmed).map(|(id, _)| *id).collect(),
        };
        self.send(ServerMessage::Welcome(welcome)).await;
    }

    async fn send(&mut self, message: ServerMessage) {
        let text = message.encode("s1").unwrap();
        self.peer.as_mut().unwrap().send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn order(&mut self, order: &CommandRun) {
        self.jobs.insert(order.job_id, Told::default());
        self.send(ServerMessage::CommandRun(Box::new(order.clone()))).await;
    }

    pub(crate) async fn cancel(&mut self, job_id: JobId) {
        self.send(ServerMessage::CommandCancel(CommandCancel { job_id })).await;
    }

    /// Has the agent forget a job that has ended.
    pub(crate) async fn confirm(&mut self, job_id: JobId) {
        let told = self.jobs.get_mut(&job_id).unwrap();
        told.confirmed = true;
        let seq = u32::try_from(told.lines.len()).unwrap();
        self.send(ServerMessage::Ack(Ack { job_id, seq, finished: true })).await;
    }

    /// Answers the job that asks the retention guard next, once `first` is done: what the rules don't keep may go.
    pub(crate) async fn answer_guard(&mut self, first: impl FnOnce()) {
        let asked = async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            let mut tcp = BufReader::new(tcp);
            let (mut line, mut length) = (String::new(), 0);
            while line.trim() != "" || length == 0 {
                line.clear();
                tcp.read_line(&mut line).await.unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            tcp.read_exact(&mut body).await.unwrap();
            (tcp, serde_json::from_slice::<GuardRequest>(&body).unwrap())
        };
        let (mut tcp, asked) = timeout(PATIENCE, asked).await.expect("the guard is asked");
        first();
        let fates = asked.fates.iter().filter(|fate| fate.kept_by.is_empty());
        let remove = fates.map(|fate| fate.snapshot.id.clone()).collect();
        let answer = serde_json::to_string(&GuardAnswer { remove, ..GuardAnswer::default() }).unwrap();
        let answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
        tcp.write_all(answer.as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> AgentMessage<'static> {
        loop {
            let frame = timeout(PATIENCE, self.peer.as_mut().unwrap().next()).await;
            let frame = frame.unwrap_or_else(|_| panic!("nothing was said; told so far:\n{}", self.text()));
            match frame.expect("the agent hung up").unwrap() {
                Message::Text(text) => {
                    for planted in PLANTED {
                        assert!(!text.contains(planted), "a secret was told: {text}");
                    }
                    let text: &'static str = Box::leak(text.as_str().to_owned().into_boxed_str());
                    return AgentMessage::decode(&RawEnvelope::decode(text).unwrap()).unwrap();
                }
                _ => continue,
            }
        }
    }

    /// Listens until `found` finds what it looks for.
    pub(crate) async fn until<T>(&mut self, job: JobId, mut found: impl FnMut(&Told) -> Option<T>) -> T {
        loop {
            if let Some(value) = found(&self.jobs[&job]) {
                return value;
            }
            self.listen().await;
        }
    }

    /// The end of a job, of which nothing may follow.
    pub(crate) async fn end(&mut self, job: JobId) -> JobFinished {
        self.until(job, |told| told.end.clone()).await
    }

    async fn listen(&mut self) {
        match self.next().await {
            AgentMessage::JobStarted(started) => {
                self.jobs.get_mut(&started.job_id).unwrap().pid = started.pid;
            }
            AgentMessage::LogStream(log) => {
                let told = self.jobs.get_mut(&log.job_id).unwrap();
                for line in &log.lines {
                    let next = u32::try_from(told.lines.len()).unwrap() + 1;
                    assert!(line.seq <= next, "line {} came where {next} was due", line.seq);
                    let text = line.text.0.clone().into_owned();
                    match told.lines.get(line.seq as usize - 1) {
                        // Sent again after a new connection: it must be the same.
                        Some(known) => assert_eq!(known, &(line.stream, text)),
                        None => told.lines.push((line.stream, text)),
                    }
                }
                let seq = u32::try_from(told.lines.len()).unwrap();
                let ack = Ack { job_id: log.job_id, seq, finished: false };
                self.send(ServerMessage::Ack(ack)).await;
            }
            AgentMessage::JobFinished(end) => {
                let told = self.jobs.get_mut(&end.job_id).unwrap();
                assert_eq!(end.last_seq as usize, told.lines.len(), "the end counts the lines");
                told.end = Some(*end);
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        self.jobs.iter().map(|(id, told)| format!("job {id}\n{}", told.text())).collect()
    }
}

/// A real agent with its state folder, started and killed at will.
pub(crate) struct Process {
    child: Option<Child>,
    restic: PathBuf,
    pub(crate) state: TempDir,
}

impl Process {
    /// Enrolled at `control`, running, connected.
    pub(crate) async fn start(control: &mut Control, version: &str) -> Self {
        Self::with(control, restic(version)).await
    }

    /// With this program for restic.
    pub(crate) async fn with(control: &mut Control, restic: PathBuf) -> Self {
        let state = tempfile::tempdir().unwrap();
        StateDir::at(state.path())
            .save(&Identity {
                server: control.url().parse().unwrap(),
                host_id: HostId::from_parts(1, 1),
                agent_token: "planted-token".into(),
                host_name: "host-1".to_owned(),
                ca_fingerprint: None,
                plain_http: Default::default(),
            })
            .unwrap();
        let mut process = Self { child: None, restic, state };
        process.begin(control).await;
        process
    }

    /// Starts it (again) and waits for its connection.
    pub(crate) async fn begin(&mut self, control: &mut Control) {
        let child = Command::new(env!("CARGO_BIN_EXE_flotilla-agent"))
            .args(["run", "--state-dir"])
            .arg(self.state.path())
            .env("FLOTILLA_RESTIC", &self.restic)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        control.connect().await;
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL: no last word.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGKILL to it, to the restic that it runs and to that one's keeper: nobody is left to note an end.
    pub(crate) fn kill_with(&mut self, restic: u32) {
        self.kill();
        signal(keeper_of(restic), "-KILL");
        signal(restic, "-KILL");
        poll("restic's death", || is_gone(restic));
    }

    /// Changes what is noted of a job's start.
    pub(crate) fn edit_run(&self, job: JobId, change: impl FnOnce(&mut serde_json::Value)) {
        let file = self.file(job, "run.json");
        let mut run = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut run);
        fs::write(file, run.to_string()).unwrap();
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        signal(child.id(), "-TERM");
        let mut status = None;
        poll("the agent stops", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }

    /// A file in the folder of a job.
    pub(crate) fn file(&self, job: JobId, name: &str) -> PathBuf {
        self.state.path().join("jobs").join(job.to_string()).join(name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
        // A test that failed leaves restic running.
        for folder in fs::read_dir(self.state.path().join("jobs")).into_iter().flatten().flatten() {
            if let Some(stat) = fs::read_to_string(folder.path().join("begun.1")).ok().as_deref().and_then(words) {
                for pid in
                    [stat.0, stat.1].into_iter().filter(|pid| writes_into(*pid, &folder.path()) || *pid == stat.1)
                {
                    if Path::new(&format!("/proc/{pid}")).exists() {
                        signal(pid, "-KILL");
                    }
                }
            }
        }
    }
}

/// A process and its group, from its line in /proc.
fn words(stat: &str) -> Option<(u32, u32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    Some((head.split_once(' ')?.0.parse().ok()?, tail.split_whitespace().nth(2)?.parse().ok()?))
}

fn writes_into(pid: u32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/1")).is_ok_and(|target| target.starts_with(folder))
}

/// The process that looks after a restic: the leader of its group.
pub(crate) fn keeper_of(pid: u32) -> u32 {
    words(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap()).unwrap().1
}

pub(crate) fn is_gone(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}
