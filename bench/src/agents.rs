//! An agent as the server sees it: speaks the protocol over a real socket and runs nothing.

use anyhow::{Context as _, bail};
use flotilla_proto::{
    AgentHeartbeat, AgentMessage, JobAccepted, JobFinished, JobId, JobStarted, JobStatus, RawEnvelope, ServerMessage,
    Timestamp,
};
use futures_util::SinkExt as _;
use http::Method;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::{
    api::Api,
    server::{self, Info},
    socket::{self, Socket},
};

/// A connected agent.
pub(crate) struct Agent {
    /// Which host, counted from 0.
    pub(crate) n: u32,
    /// Its connection.
    pub(crate) socket: Socket,
}

impl Agent {
    /// Connects the agent of the `n`th host, up to `welcome`.
    pub(crate) async fn connect(info: &Info, n: u32) -> anyhow::Result<Self> {
        let dialer = socket::dialer(&info.url, info.ca_fingerprint.as_deref())?;
        Self::dial(&dialer, n).await
    }

    /// [`Agent::connect`] by a dialer that is there already.
    pub(crate) async fn dial(dialer: &flotilla_agent::dial::Dialer, n: u32) -> anyhow::Result<Self> {
        let socket = socket::open(dialer, "/agent/ws", &server::agent_token(n), 4096).await?;
        let mut agent = Self { n, socket };
        agent.send(&AgentMessage::Hello(Box::new(server::hello(n)))).await?;
        match agent.next().await? {
            ServerMessage::Welcome(_) => Ok(agent),
            other => bail!("instead of welcome came {other:?}"),
        }
    }

    /// Queues a message.
    pub(crate) async fn feed(&mut self, message: &AgentMessage<'_>) -> anyhow::Result<()> {
        Ok(self.socket.feed(Message::Text(Utf8Bytes::from(message.encode("")?))).await?)
    }

    /// Sends a message.
    pub(crate) async fn send(&mut self, message: &AgentMessage<'_>) -> anyhow::Result<()> {
        self.feed(message).await?;
        Ok(self.socket.flush().await?)
    }

    /// The next message of the server.
    pub(crate) async fn next(&mut self) -> anyhow::Result<ServerMessage> {
        let text = socket::next_text(&mut self.socket).await?;
        Ok(ServerMessage::decode(&RawEnvelope::decode(&text)?)?)
    }

    /// Waits for an order.
    pub(crate) async fn order(&mut self) -> anyhow::Result<JobId> {
        loop {
            match self.next().await? {
                ServerMessage::CommandRun(run) => return Ok(run.job_id),
                ServerMessage::Error(notice) => bail!("the server refused a frame: {notice:?}"),
                _ => {}
            }
        }
    }

    /// Says that a job was accepted and runs, and waits until the server has that on disk: a link takes its frames one by one, so the answer to
    /// a heartbeat behind them tells.
    pub(crate) async fn started(&mut self, job_id: JobId) -> anyhow::Result<()> {
        let at = Timestamp::from_unix_ms(1_790_000_000_000);
        self.feed(&AgentMessage::JobAccepted(JobAccepted { job_id })).await?;
        self.feed(&AgentMessage::JobStarted(JobStarted { job_id, seq: 0, at, pid: Some(1) })).await?;
        self.heartbeat().await
    }

    /// A heartbeat and its echo.
    pub(crate) async fn heartbeat(&mut self) -> anyhow::Result<()> {
        let vitals = AgentHeartbeat { load: Some([0.1, 0.2, 0.3]), ..AgentHeartbeat::default() };
        self.send(&AgentMessage::Heartbeat(vitals)).await?;
        loop {
            match self.next().await? {
                ServerMessage::Heartbeat(_) => return Ok(()),
                ServerMessage::Error(notice) => bail!("the server refused a frame: {notice:?}"),
                _ => {}
            }
        }
    }

    /// Ends a job of `last_seq` lines, and waits until that is on disk.
    pub(crate) async fn finish(&mut self, job_id: JobId, last_seq: u32) -> anyhow::Result<()> {
        let end = JobFinished {
            job_id,
            last_seq,
            at: Timestamp::from_unix_ms(1_790_000_000_000),
            status: JobStatus::Succeeded,
            exit_code: Some(0),
            error: None,
            summary: None,
            log_truncated: false,
        };
        self.send(&AgentMessage::JobFinished(Box::new(end))).await?;
        loop {
            match self.next().await? {
                ServerMessage::Ack(ack) if ack.job_id == job_id && ack.finished => return Ok(()),
                ServerMessage::Error(notice) => bail!("the server refused a frame: {notice:?}"),
                _ => {}
            }
        }
    }
}

/// The body of an order of the cheapest kind.
pub(crate) fn order_body(info: &Info) -> anyhow::Result<String> {
    let repo = info.repo.context("no repository")?;
    Ok(format!(r#"{{"kind":"stats","repo_id":"{repo}"}}"#))
}

/// Orders a job of the agent's host; returns once it runs.
pub(crate) async fn run_job(agent: &mut Agent, api: &mut Api, info: &Info) -> anyhow::Result<JobId> {
    let path = format!("/api/hosts/{}/jobs", server::host_id(agent.n));
    api.ask(Method::POST, &path, order_body(info)?).await?;
    let job = agent.order().await?;
    agent.started(job).await?;
    Ok(job)
}
