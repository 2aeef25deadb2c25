//! A whole server with a clock that is set by hand, and an agent that says whatever the test wants.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use flotilla::{
    app::{self, Running},
    clock::{Clock, ManualClock},
    config::RawConfig,
    credential,
    domain::{
        HostId, JobId, JobKind, Timestamp,
        event::Event,
        job::{Actor, Job, JobInput, NewJob},
    },
    fleet::FleetOptions,
    ops,
    store::{hosts, jobs, logs},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    server: Running,
    _dir: tempfile::TempDir,
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::start_with(FleetOptions::default()).await
    }

    pub(crate) async fn start_with(options: FleetOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap());
        let raw = RawConfig {
            data_dir: Some(dir.path().to_owned()),
            listen: Some("127.0.0.1:0".to_owned()),
            ..RawConfig::default()
        };
        let server = app::start_with(raw.validate().unwrap(), clock.clone(), options).await.unwrap();
        Self { clock, server, _dir: dir }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A host with the token of its agent.
    pub(crate) async fn host(&self, name: &str) -> (HostId, String) {
        let token = credential::new_token(credential::AGENT_PREFIX).unwrap().expose().to_owned();
        let host = hosts::NewHost {
            id: HostId::from_parts(1, credential::random_bits().unwrap()),
            name: name.to_owned(),
            tags: Vec::new(),
            token_hash: Some(credential::hash(&token)),
            enrol_token: None,
            facts: hosts::Facts::default(),
        };
        let id = host.id;
        self.server.state.store.write(move |tx| hosts::insert(tx, &host)).await.unwrap();
        (id, token)
    }

    /// A job for a host, queued.
    pub(crate) async fn order(&self, host: HostId) -> JobId {
        let id = JobId::from_parts(1, credential::random_bits().unwrap());
        let job = NewJob {
            id,
            host_id: host,
            kind: JobKind::Snapshots,
            actor: Actor::system(),
            plan_id: None,
            repo_id: None,
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 60,
        };
        self.server.state.store.write(move |tx| jobs::insert(tx, &job)).await.unwrap();
        id
    }

    pub(crate) async fn cancel(&self, job: JobId) {
        ops::jobs::cancel(&self.server.state.store, Actor::system(), job).await.unwrap();
    }

    pub(crate) async fn revoke(&self, host: HostId) {
        self.server.state.store.write(move |tx| hosts::revoke(tx, host)).await.unwrap();
    }

    /// Makes the dispatcher look.
    pub(crate) fn wake(&self) {
        self.server.state.hub.publish(Event::Queue);
    }

    pub(crate) fn is_online(&self, host: HostId) -> bool {
        self.server.state.hub.is_online(host)
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.server.state.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap()
    }

    pub(crate) async fn log(&self, job: &str) -> Vec<String> {
        let no = self.job(job.parse().unwrap()).await.no;
        let lines = self.server.state.store.read(move |db| logs::page(db, no, 0, 10_000)).await.unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let waited = timeout(PATIENCE, async {
            while !holds(self) {
                tick.tick().await;
            }
        });
        assert!(waited.await.is_ok(), "it did not come about in time that {what}");
    }
}

pub(crate) fn job_of(frame: &Value) -> String {
    frame["payload"]["job_id"].as_str().unwrap().to_owned()
}

pub(crate) fn hello(protocol: Value, jobs: Value) -> Value {
    json!({"type": "hello", "id": "1", "payload": {
        "protocol": protocol, "capabilities": ["restic"], "agent_version": "0.1.0", "os": "linux", "arch": "x86_64",
        "hostname": "web-1.example", "boot_id": "b", "restic_version": "0.18.0", "jobs": jobs, "schedule_version": 0}})
}

pub(crate) struct Agent {
    socket: WebSocketStream<TcpStream>,
    kept: VecDeque<Value>,
}

impl Agent {
    /// Opens the socket; the status of a refusal otherwise.
    pub(crate) async fn connect(house: &House, token: &str) -> Result<Self, u16> {
        let address = house.server.address;
        let mut request = format!("ws://{address}/agent/ws").into_client_request().unwrap();
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(Self { socket, kept: VecDeque::new() }),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(e) => panic!("{e}"),
        }
    }

    /// An agent that has said hello, knows no job, and is online.
    pub(crate) async fn greeted(house: &House, token: &str) -> Self {
        let mut agent = Self::connect(house, token).await.unwrap();
        agent.greet(json!([])).await;
        // The first heartbeat is echoed by the session proper: then the link is registered.
        agent.settle().await;
        agent
    }

    pub(crate) async fn greet(&mut self, jobs: Value) -> Value {
        self.send(&hello(json!({"min": 1, "max": 1}), jobs)).await;
        self.receive("welcome").await
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The server may close before all of it is written.
    pub(crate) async fn try_send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.ok();
    }

    pub(crate) async fn send_binary(&mut self, bytes: Vec<u8>) {
        self.socket.send(Message::binary(bytes)).await.unwrap();
    }

    /// The next frame of this type; others are kept.
    pub(crate) async fn receive(&mut self, kind: &str) -> Value {
        if let Some(at) = self.kept.iter().position(|frame| frame["type"] == kind) {
            return self.kept.remove(at).unwrap();
        }
        let found = timeout(PATIENCE, async {
            loop {
                let message = self.socket.next().await.expect("the server closed").unwrap();
                if let Message::Text(text) = message {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] == kind {
                        return frame;
                    }
                    self.kept.push_back(frame);
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {kind} came; kept: {:?}", self.kept))
    }

    /// Waits until the server has taken everything that was sent, and has had its chance to answer.
    pub(crate) async fn settle(&mut self) {
        for _ in 0..2 {
            self.send(&json!({"type": "heartbeat", "id": "settle", "payload": {}})).await;
            self.receive("heartbeat").await;
        }
    }

    /// Frames of this type that came and were not asked for.
    pub(crate) fn unread(&self, kind: &str) -> usize {
        self.kept.iter().filter(|frame| frame["type"] == kind).count()
    }

    /// The code that the server closes with.
    pub(crate) async fn closed(&mut self) -> u16 {
        let code = timeout(PATIENCE, async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                    Some(Ok(_)) => {}
                    Some(Err(e)) => panic!("broken instead of closed: {e}"),
                    None => panic!("ended without a close frame"),
                }
            }
        });
        code.await.expect("the server did not close in time")
    }
}
