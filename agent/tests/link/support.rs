//! A server to connect to, a runner to give orders to, and an agent between the two.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use flotilla_agent::{
    AgentError, AgentOptions,
    backoff::BackoffPolicy,
    identity::Identity,
    runner::{BoxFuture, Runner, RunnerFacts, Submitted},
    serve,
    sink::{JobOutcome, JobSink},
};
use flotilla_proto::{
    Ack, AgentMessage, CommandRun, Hello, HostId, JobFinished, JobId, JobKind, JobStatus, Limits, ProtocolVersion,
    RawEnvelope, Secret, ServerMessage, Welcome,
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::CloseFrame,
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) const TOKEN: &str = "agent-token-1";

/// Awaits with a deadline: a test that waits for nothing fails instead of hanging.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what} did not happen within 20 s"))
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Server {
    pub(crate) async fn plain() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), tls: None }
    }

    pub(crate) async fn tls(acceptor: TlsAcceptor) -> Self {
        Self { tls: Some(acceptor), ..Self::plain().await }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The next connection, before any WebSocket; `None` where TLS failed.
    pub(crate) async fn accept_io(&self) -> Option<Box<dyn Io>> {
        let (tcp, _) = soon("a connection", self.listener.accept()).await.unwrap();
        Some(match &self.tls {
            None => Box::new(tcp),
            Some(acceptor) => Box::new(soon("TLS", acceptor.accept(tcp)).await.ok()?),
        })
    }

    /// The next agent, its token checked, its hello not read.
    pub(crate) async fn accept(&self) -> Peer {
        let io = self.accept_io().await.expect("TLS");
        #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
        let check = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            assert_eq!(request.uri().path(), "/agent/ws");
            assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
            Ok(response)
        };
        Peer { socket: soon("the upgrade", accept_hdr_async(io, check)).await.unwrap() }
    }

    /// The next agent, welcomed with what the server has of each job.
    pub(crate) async fn welcome(&self, acked: &[(JobId, u32)]) -> (Peer, Hello) {
        let mut peer = self.accept().await;
        let hello = peer.hello().await;
        peer.send(&ServerMessage::Welcome(welcome(30, acked))).await;
        (peer, hello)
    }
}

pub(crate) fn welcome(heartbeat_s: u64, acked: &[(JobId, u32)]) -> Welcome {
    Welcome {
        protocol: ProtocolVersion(1),
        host_id: HostId::from_parts(1, 1),
        heartbeat_s,
        acked: acked.iter().copied().collect(),
        finished: Vec::new(),
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    pub(crate) socket: WebSocketStream<Box<dyn Io>>,
}

impl Peer {
    pub(crate) async fn send(&mut self, message: &ServerMessage) {
        self.send_text(message.encode("s1").unwrap()).await;
    }

    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        soon("sending", self.socket.send(Message::text(text.into()))).await.unwrap();
    }

    /// The next message whatever it is.
    pub(crate) async fn any(&mut self) -> AgentMessage<'static> {
        loop {
            let frame = soon("a frame", self.socket.next()).await.expect("the agent hung up").unwrap();
            if let Message::Text(text) = frame {
                return decode(&text);
            }
        }
    }

    /// The next message that is no heartbeat.
    pub(crate) async fn next(&mut self) -> AgentMessage<'static> {
        loop {
            match self.any().await {
                AgentMessage::Heartbeat(_) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn hello(&mut self) -> Hello {
        match self.any().await {
            AgentMessage::Hello(hello) => *hello,
            other => panic!("the first frame must be hello, not {other:?}"),
        }
    }

    /// Lines until number `last`, as (seq, text).
    pub(crate) async fn lines_up_to(&mut self, last: u32) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        while lines.last().is_none_or(|(seq, _)| *seq < last) {
            if let AgentMessage::LogStream(message) = self.next().await {
                lines.extend(message.lines.into_iter().map(|line| (line.seq, line.text.0.into_owned())));
            }
        }
        lines
    }

    pub(crate) async fn end(&mut self) -> JobFinished {
        loop {
            if let AgentMessage::JobFinished(end) = self.next().await {
                return *end;
            }
        }
    }

    pub(crate) async fn ack(&mut self, job_id: JobId, seq: u32) {
        self.send(&ServerMessage::Ack(Ack { job_id, seq, finished: false })).await;
    }

    pub(crate) async fn ack_end(&mut self, job_id: JobId, seq: u32) {
        self.send(&ServerMessage::Ack(Ack { job_id, seq, finished: true })).await;
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        soon("closing", self.socket.close(Some(frame))).await.unwrap();
        let _ = soon("the goodbye", async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
    }

    /// Leaves once the agent has taken all that was sent: a socket dropped with unread frames is reset, and a reset
    /// takes what is still on its way to the agent with it.
    pub(crate) async fn leave(self) {
        self.close(1001).await;
    }

    /// The close code with which the agent leaves.
    pub(crate) async fn closed_with(&mut self) -> u16 {
        loop {
            match soon("a close", self.socket.next()).await.expect("a close frame").unwrap() {
                Message::Close(frame) => return frame.expect("a reason").code.into(),
                _ => continue,
            }
        }
    }
}

fn decode(text: &str) -> AgentMessage<'static> {
    let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
    AgentMessage::decode(&RawEnvelope::decode(text).unwrap()).unwrap()
}

pub(crate) fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

pub(crate) fn order(job_id: JobId) -> ServerMessage {
    ServerMessage::CommandRun(Box::new(CommandRun {
        job_id,
        kind: JobKind::Backup,
        host_label: String::new(),
        repo: None,
        args: vec!["/etc".to_owned()],
        plan: None,
        restore: None,
        operation: None,
        second_repo: None,
        runbook: None,
        timeout_s: 60,
    }))
}

pub(crate) fn ended(status: JobStatus) -> JobOutcome {
    JobOutcome { status, exit_code: Some(0), error: None, summary: None }
}

/// Hands every order's sink to the test, which is the job.
pub(crate) struct HandedRunner {
    jobs: Mutex<Vec<(JobId, Arc<dyn JobSink>)>>,
    orders: mpsc::UnboundedSender<Arc<dyn JobSink>>,
    pub(crate) limits: Mutex<Option<Limits>>,
    pub(crate) leftovers: Mutex<Vec<JobId>>,
}

impl Runner for HandedRunner {
    fn submit(&self, order: CommandRun, sink: Arc<dyn JobSink>) -> Submitted {
        let mut jobs = self.jobs.lock().unwrap();
        if jobs.iter().any(|(id, _)| *id == order.job_id) {
            return Submitted::Known;
        }
        jobs.push((order.job_id, Arc::clone(&sink)));
        let _ = self.orders.send(sink);
        Submitted::Accepted
    }

    fn cancel(&self, job: JobId) -> bool {
        let jobs = self.jobs.lock().unwrap();
        let found = jobs.iter().find(|(id, _)| *id == job);
        found.inspect(|(_, sink)| sink.finished(ended(JobStatus::Cancelled))).is_some()
    }

    fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap() = Some(limits);
    }

    fn drain(&self, _: Duration) -> BoxFuture<'_, ()> {
        for (_, sink) in self.jobs.lock().unwrap().iter() {
            sink.finished(ended(JobStatus::Cancelled));
        }
        Box::pin(std::future::ready(()))
    }

    fn describe(&self) -> BoxFuture<'_, RunnerFacts> {
        let facts = RunnerFacts { capabilities: vec!["restic".to_owned()], restic_version: Some("0.18.0".to_owned()) };
        Box::pin(std::future::ready(facts))
    }

    fn leftovers(&self) -> Vec<JobId> {
        self.leftovers.lock().unwrap().clone()
    }

    fn forget_leftover(&self, job: JobId) {
        self.leftovers.lock().unwrap().retain(|id| *id != job);
    }
}

/// An agent in this process.
pub(crate) struct Agent {
    pub(crate) runner: Arc<HandedRunner>,
    pub(crate) orders: mpsc::UnboundedReceiver<Arc<dyn JobSink>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), AgentError>>,
    _state_dir: tempfile::TempDir,
}

pub(crate) fn identity(url: &str) -> Identity {
    Identity {
        server: url.parse().unwrap(),
        host_id: HostId::from_parts(1, 1),
        agent_token: Secret::from(TOKEN),
        host_name: "web-1".to_owned(),
        ca_fingerprint: None,
        plain_http: Default::default(),
    }
}

impl Agent {
    pub(crate) fn start(identity: Identity) -> Self {
        Self::start_with(identity, Vec::new(), |_| {})
    }

    pub(crate) fn start_with(
        identity: Identity,
        leftovers: Vec<JobId>,
        change: impl FnOnce(&mut AgentOptions),
    ) -> Self {
        let (tx, orders) = mpsc::unbounded_channel();
        let runner = Arc::new(HandedRunner {
            jobs: Mutex::default(),
            orders: tx,
            limits: Mutex::default(),
            leftovers: Mutex::new(leftovers),
        });
        let state_dir = tempfile::tempdir().unwrap();
        let mut options = AgentOptions::new(state_dir.path(), runner.clone());
        options.backoff = BackoffPolicy { base: Duration::from_millis(20), cap: Duration::from_millis(20) };
        options.drain_grace = Duration::from_secs(1);
        change(&mut options);
        let shutdown = CancellationToken::new();
        let task = TaskTracker::new().spawn(serve(identity, options, shutdown.clone()));
        Self { runner, orders, shutdown, task, _state_dir: state_dir }
    }

    /// The sink of the next order.
    pub(crate) async fn order(&mut self) -> Arc<dyn JobSink> {
        soon("an order", self.orders.recv()).await.unwrap()
    }

    /// Stops it: every test ends with an agent that stops cleanly.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        soon("the agent's end", self.task).await.unwrap().unwrap();
    }
}
