//! An agent that says exactly what the test wants, right or wrong: a bare WebSocket and JSON written by hand.

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    api::Api,
    viewer::{Heard, Socket, next, open},
};

/// An identity.
#[derive(Debug, Clone)]
pub(crate) struct Enrolled {
    pub(crate) host_id: String,
    pub(crate) token: String,
}

/// What `POST /api/enroll` takes.
pub(crate) fn application(token: &str, name: &str) -> Value {
    json!({"token": token, "hostname": name, "os": "linux", "arch": "x86_64", "agent_version": "0.1.0", "protocol": {"min": 1, "max": 1}})
}

/// Enrols a machine of this name.
pub(crate) async fn enrol(api: &Api, name: &str) -> Enrolled {
    let made = api.post("/api/enrollment-tokens", json!({})).await.must(201);
    let identity = api.post("/api/enroll", application(made["token"].as_str().unwrap(), name)).await.must(201);
    let text = |field: &str| identity[field].as_str().unwrap().to_owned();
    Enrolled { host_id: text("host_id"), token: text("agent_token") }
}

/// The payload of a good hello.
pub(crate) fn hello(jobs: &Value) -> Value {
    json!({
        "protocol": {"min": 1, "max": 1}, "capabilities": [], "agent_version": "0.1.0", "os": "linux", "arch": "x86_64",
        "hostname": "raw", "boot_id": "b", "restic_version": "0.18.0", "jobs": jobs, "schedule_version": 0,
    })
}

/// A line of a log.
pub(crate) fn line(seq: u64, text: &str) -> Value {
    json!({"seq": seq, "at": "2026-11-21T08:00:00.000Z", "stream": "stdout", "text": text})
}

/// Lines `first..=last`.
pub(crate) fn lines(first: u64, last: u64) -> Vec<Value> {
    (first..=last).map(|seq| line(seq, &format!("line {seq}"))).collect()
}

/// A connection.
pub(crate) struct RawAgent(pub(crate) Socket);

impl RawAgent {
    /// Opens the socket and says nothing.
    pub(crate) async fn silent(url: &str, token: &str) -> Self {
        Self(open(url, "/agent/ws", token).await.unwrap())
    }

    /// Opens the socket, says hello and takes the welcome, which it gives.
    pub(crate) async fn connect(url: &str, token: &str, jobs: Value) -> (Self, Value) {
        let mut agent = Self::silent(url, token).await;
        agent.say("hello", hello(&jobs)).await;
        let welcome = agent.hears("welcome").await;
        (agent, welcome)
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    pub(crate) async fn say(&mut self, kind: &str, payload: Value) {
        self.text(&json!({"type": kind, "id": format!("id-of-{kind}"), "payload": payload}).to_string()).await;
    }

    pub(crate) async fn lines(&mut self, job: &str, lines: Vec<Value>) {
        self.say("log.stream", json!({"job_id": job, "lines": lines})).await;
    }

    pub(crate) async fn started(&mut self, job: &str) {
        self.say("job.accepted", json!({"job_id": job})).await;
        self.say("job.started", json!({"job_id": job, "seq": 0, "at": "2026-11-21T08:00:00.000Z", "pid": 7})).await;
    }

    pub(crate) async fn finished(&mut self, job: &str, last_seq: u64) {
        let end = json!({"job_id": job, "last_seq": last_seq, "at": "2026-11-21T08:00:01.000Z", "status": "succeeded", "exit_code": 0});
        self.say("job.finished", end).await;
    }

    /// The payload of the next frame, which must be of this type.
    pub(crate) async fn hears(&mut self, expected: &str) -> Value {
        match next(&mut self.0).await {
            Heard::Frame { kind, payload, .. } if kind == expected => payload,
            other => panic!("wanted {expected}, heard {other:?}"),
        }
    }

    /// The order that comes next must be to run a job: its id.
    pub(crate) async fn ordered(&mut self) -> String {
        self.hears("command.run").await["job_id"].as_str().unwrap().to_owned()
    }

    /// The code of the close that comes next, whatever is said before.
    pub(crate) async fn closed(mut self) -> u16 {
        loop {
            if let Heard::Closed(code) = next(&mut self.0).await {
                return code;
            }
        }
    }

    /// Says something harmless and takes its echo: all that was said before has been dealt with, and nothing else was answered.
    pub(crate) async fn is_fine(&mut self) {
        self.say("heartbeat", json!({})).await;
        self.hears("heartbeat").await;
    }
}
