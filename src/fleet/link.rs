//! One agent's connection: handshake, then one loop that waits for a frame, an order, an answer of the store or the clock, and one function that
//! handles what came. The agent's lines are read only while fewer than [`WINDOW`] frames wait for the disk: so a slow disk is felt by the agent's
//! socket and not by this server's memory.

use std::{collections::VecDeque, time::Duration};

use axum::{
    extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    response::Response,
};
use flotilla_proto::{
    Ack, AgentMessage, ErrorNotice, Hello, JobId, RawEnvelope, ServerHeartbeat, ServerMessage, close, limits,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    domain::host::Host,
    fleet::{
        Fleet,
        ingest::{Answer, Greeting, Ingest},
        registry::Registered,
    },
    store::{AppendOutcome, AppendReply, hosts},
};

/// Frames of lines that wait for the disk, per agent.
const WINDOW: usize = 32;
/// Bytes of lines that wait for the disk, per agent: frames may be large.
const WINDOW_BYTES: usize = 4 << 20;
/// How long an agent may take to read what is sent to it.
const SEND_DEADLINE: Duration = Duration::from_secs(20);

/// Why the server closes a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The same agent connected anew.
    Replaced,
    /// Its identity was taken away.
    Revoked,
    /// It does not read.
    TooSlow,
    /// The server stops.
    Stopping,
    /// Nothing was heard of it.
    Silent,
    /// Its frames do not parse.
    BadFrames,
    /// A frame over the limit.
    TooBig,
    /// No common protocol version.
    NoCommonVersion,
    /// It did not say hello in time, or said something else.
    NoHello,
    /// The store cannot take its lines.
    StoreFailed,
    /// Too many come at once.
    Overloaded,
    /// The other side closed, or the connection broke: nothing is left to be said.
    Gone,
}

impl Closing {
    fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = match self {
            Self::Replaced => (close::REPLACED, "another connection with this agent's identity took over"),
            Self::Revoked => (close::REVOKED, "this agent's identity was revoked; enrol it again to bring it back"),
            Self::TooSlow => (close::GOING_AWAY, "the agent does not read its frames"),
            Self::Stopping => (close::GOING_AWAY, "the server is stopping"),
            Self::Silent => (close::GOING_AWAY, "nothing was heard of the agent for three heartbeats"),
            Self::BadFrames => (close::POLICY, "too many frames that do not parse"),
            Self::TooBig => (close::TOO_BIG, "a frame over 1 MiB"),
            Self::NoCommonVersion => (close::NO_COMMON_VERSION, "no protocol version in common"),
            Self::NoHello => (close::POLICY, "the first frame must be hello, within 10 seconds"),
            Self::StoreFailed => (close::GOING_AWAY, "the server cannot store what the agent says right now"),
            Self::Overloaded => (close::GOING_AWAY, "too many agents connect at once; come back later"),
            Self::Gone => return None,
        };
        Some(CloseFrame { code, reason: reason.into() })
    }
}

/// Upgrades a known agent's request and hands the socket to a task of its own.
pub(super) fn open(fleet: Fleet, host: Host, upgrade: WebSocketUpgrade) -> Response {
    let generation = fleet.inner.registry.number();
    sized(upgrade).on_upgrade(move |socket| {
        let tasks = fleet.inner.tasks.clone();
        // Boxed: the handshake's state is large and short-lived, and must not weigh on every idle link.
        tasks.spawn(async move {
            let Some(link) = Box::pin(shake_hands(fleet, host, generation, socket)).await else { return };
            link.run().await;
        });
        std::future::ready(())
    })
}

/// Tells a revoked agent to stay away.
pub(super) fn turn_away(upgrade: WebSocketUpgrade) -> Response {
    sized(upgrade).on_upgrade(|socket| say_goodbye(socket, Closing::Revoked))
}

/// Small buffers: a fleet of idle agents is mostly buffers.
fn sized(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(4096)
        .write_buffer_size(4096)
        .max_write_buffer_size(4 * limits::MAX_FRAME_BYTES)
        .max_message_size(limits::MAX_FRAME_BYTES)
        .max_frame_size(limits::MAX_FRAME_BYTES)
}

async fn say_goodbye(mut socket: WebSocket, why: Closing) {
    if let Some(frame) = why.frame() {
        // The peer may be gone already; either way this is the end.
        timeout(SEND_DEADLINE, socket.send(Message::Close(Some(frame)))).await.ok();
        // Read until the peer has answered the close, so that the last frame is not lost to a reset.
        timeout(Duration::from_secs(2), async { while let Some(Ok(_)) = socket.recv().await {} }).await.ok();
    }
}

async fn shake_hands(fleet: Fleet, host: Host, generation: u64, mut socket: WebSocket) -> Option<Box<Link>> {
    let host_id = host.id;
    let greeted = greet(&fleet, &host, generation, &mut socket).await;
    let entered = greeted.and_then(|returned| {
        let registered = fleet.inner.registry.enter(host_id, generation).ok_or(Closing::Replaced)?;
        Ok((registered, returned))
    });
    match entered {
        Ok((Registered { generation, outbound, close }, returned)) => {
            // Registered first, looked up again after: a revocation in between found no link to close.
            let place = fleet.inner.admission.welcome.enter().await;
            match fleet.inner.store.read(move |db| hosts::lookup(db, host_id)).await {
                Ok(Some(Host { revoked_at: None, .. })) => {}
                Ok(_) => fleet.inner.registry.close(host_id, Closing::Revoked),
                // Not "revoked": that would send the agent away for good over a moment's trouble.
                Err(_) => fleet.inner.registry.close(host_id, Closing::StoreFailed),
            }
            drop(place);
            fleet.inner.hub.arrived(host_id, generation, fleet.inner.clock.now());
            fleet.inner.hub.came_back_with(host_id, generation, returned);
            fleet.inner.hub.publish(crate::domain::event::Event::Queue);
            fleet.inner.arrivals.add(host_id);
            tracing::info!(host.id = %host_id, host.name = %host.name, "agent connected");
            let ingest = Ingest::new(fleet.clone(), host_id, generation);
            let pending = VecDeque::new();
            Some(Box::new(Link {
                fleet,
                ingest,
                socket,
                outbound,
                close,
                pending,
                pending_bytes: 0,
                bad_frames: 0,
                generation,
            }))
        }
        Err(why) => {
            tracing::warn!(host.id = %host_id, host.name = %host.name, reason = ?why, "an agent's handshake failed");
            say_goodbye(socket, why).await;
            None
        }
    }
}

/// Says welcome. Gives the jobs that the agent came back with although they count as lost.
async fn greet(fleet: &Fleet, host: &Host, generation: u64, socket: &mut WebSocket) -> Result<Vec<JobId>, Closing> {
    let deadline = Duration::from_secs(limits::HELLO_DEADLINE_S);
    let hello = timeout(deadline, first_frame(socket)).await.map_err(|_| Closing::NoHello)??;
    let place = fleet.inner.admission.welcome.enter().await.map_err(|_| Closing::Overloaded)?;
    let answer = crate::fleet::ingest::welcome(fleet, host, generation, *hello).await;
    // Sending waits for the agent, and must not hold a place.
    drop(place);
    let Greeting { welcome, fired, returned } = match answer {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(mismatch)) => {
            let notice =
                ErrorNotice { code: "no_common_version".to_owned(), message: mismatch.to_string(), regarding: None };
            send(socket, &ServerMessage::Error(notice)).await?;
            return Err(Closing::NoCommonVersion);
        }
        Err(e) => {
            tracing::error!(host.id = %host.id, error = %e, "an agent's hello could not be stored");
            return Err(Closing::StoreFailed);
        }
    };
    send(socket, &ServerMessage::Welcome(welcome)).await?;
    for fired in fired {
        send(socket, &ServerMessage::ScheduleFired(fired)).await?;
    }
    Ok(returned)
}

async fn first_frame(socket: &mut WebSocket) -> Result<Box<Hello>, Closing> {
    loop {
        return match socket.recv().await {
            Some(Ok(Message::Text(text))) => {
                let envelope = RawEnvelope::decode(&text);
                match envelope.and_then(|envelope| AgentMessage::decode(&envelope)) {
                    Ok(AgentMessage::Hello(hello)) => Ok(hello),
                    Ok(_) => Err(Closing::NoHello),
                    Err(e) => {
                        send(socket, &notice("bad_frame", &e.to_string(), "")).await?;
                        Err(Closing::NoHello)
                    }
                }
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_))) => Err(Closing::NoHello),
            Some(Ok(Message::Close(_))) | None => Err(Closing::Gone),
            Some(Err(e)) => Err(broken(&e)),
        };
    }
}

/// Whether a read error is the agent's frame being over the limit, or a broken connection.
fn broken(e: &axum::Error) -> Closing {
    // axum hides the library's error type; its text is the only thing that tells the cases apart, and a test holds it.
    if e.to_string().contains("too long") || e.to_string().contains("too big") {
        Closing::TooBig
    } else {
        Closing::Gone
    }
}

fn notice(code: &str, message: &str, regarding: &str) -> ServerMessage {
    let regarding = (!regarding.is_empty()).then(|| regarding.to_owned());
    ServerMessage::Error(ErrorNotice { code: code.to_owned(), message: message.to_owned(), regarding })
}

async fn send(socket: &mut WebSocket, message: &ServerMessage) -> Result<(), Closing> {
    match message.encode("") {
        Ok(text) => send_text(socket, text).await,
        Err(e) => {
            tracing::error!(kind = message.kind(), error = %e, "a frame to an agent could not be made");
            Err(Closing::StoreFailed)
        }
    }
}

async fn send_text(socket: &mut WebSocket, text: String) -> Result<(), Closing> {
    match timeout(SEND_DEADLINE, socket.send(Message::Text(text.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Closing::Gone),
        Err(_) => Err(Closing::TooSlow),
    }
}

struct Link {
    fleet: Fleet,
    ingest: Ingest,
    socket: WebSocket,
    outbound: tokio::sync::mpsc::Receiver<String>,
    close: watch::Receiver<Option<Closing>>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    bad_frames: u32,
    generation: u64,
}

/// Lines that wait for the disk.
struct Pending {
    job: JobId,
    bytes: usize,
    reply: AppendReply,
}

/// What a link waits for.
enum Wake {
    Frame(Option<Result<Message, axum::Error>>),
    Order(String),
    Stored(JobId, usize, AppendOutcome),
    Close(Closing),
    Silence,
}

impl Link {
    async fn run(mut self: Box<Self>) {
        let heartbeat = self.fleet.inner.options.heartbeat;
        let mut heard = Instant::now();
        let why = loop {
            let wake = self.next(heard + heartbeat * 3).await;
            if matches!(wake, Wake::Frame(Some(Ok(_)))) {
                heard = Instant::now();
            }
            // Boxed: a link is idle nearly all of its life, and must not keep the room that a frame takes.
            if let Err(why) = Box::pin(self.handle(wake)).await {
                break why;
            }
        };
        let host = self.ingest.host();
        self.fleet.inner.registry.leave(host, self.generation);
        self.fleet.inner.hub.left(host, self.generation);
        tracing::info!(host.id = %host, reason = ?why, "agent disconnected");
        Box::pin(say_goodbye(self.socket, why)).await;
    }

    /// Only receives, so that a branch that loses the race loses nothing.
    async fn next(&mut self, silent_at: Instant) -> Wake {
        let reads = self.pending.len() < WINDOW && self.pending_bytes < WINDOW_BYTES;
        let tasks = &self.fleet.inner.tasks;
        tokio::select! {
            biased;
            () = tasks.stopping() => Wake::Close(Closing::Stopping),
            closed = self.close.changed() => match (closed, *self.close.borrow()) {
                (Ok(()), Some(why)) => Wake::Close(why),
                _ => Wake::Close(Closing::Gone),
            },
            (job, bytes, outcome) = first_stored(&mut self.pending) => Wake::Stored(job, bytes, outcome),
            Some(frame) = self.outbound.recv() => Wake::Order(frame),
            frame = self.socket.recv(), if reads => Wake::Frame(frame),
            () = tokio::time::sleep_until(silent_at), if reads => Wake::Silence,
        }
    }

    async fn handle(&mut self, wake: Wake) -> Result<(), Closing> {
        match wake {
            Wake::Frame(Some(Ok(Message::Text(text)))) => self.text(text).await,
            Wake::Frame(Some(Ok(Message::Binary(_)))) => {
                self.bad_frame("binary frames are not part of the protocol", "").await
            }
            Wake::Frame(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => Ok(()),
            Wake::Frame(Some(Ok(Message::Close(_))) | None) => Err(Closing::Gone),
            Wake::Frame(Some(Err(e))) => Err(broken(&e)),
            Wake::Order(text) => send_text(&mut self.socket, text).await,
            Wake::Stored(job, bytes, outcome) => {
                self.pending_bytes -= bytes;
                self.stored(job, outcome).await
            }
            Wake::Close(why) => Err(why),
            Wake::Silence => Err(Closing::Silent),
        }
    }

    async fn text(&mut self, text: Utf8Bytes) -> Result<(), Closing> {
        let envelope = match RawEnvelope::decode(&text) {
            Ok(envelope) => envelope,
            Err(e) => return self.bad_frame(&e.to_string(), "").await,
        };
        let message = match AgentMessage::decode(&envelope) {
            Ok(message) => message,
            Err(e) => {
                let id = envelope.id.clone().into_owned();
                return self.bad_frame(&e.to_string(), &id).await;
            }
        };
        let bytes = text.len();
        let frame = bytes::Bytes::from(text.clone());
        match self.ingest.take(message, frame).await {
            Ok(Answer::Nothing) => Ok(()),
            Ok(Answer::Heartbeat) => send(&mut self.socket, &ServerMessage::Heartbeat(ServerHeartbeat {})).await,
            Ok(Answer::Fired(fired)) => send(&mut self.socket, &ServerMessage::ScheduleFired(fired)).await,
            Ok(Answer::Ack(ack)) => send(&mut self.socket, &ServerMessage::Ack(ack)).await,
            Ok(Answer::Wait(job, reply)) => {
                self.pending_bytes += bytes;
                self.pending.push_back(Pending { job, bytes, reply });
                Ok(())
            }
            Ok(Answer::Refuse { code, message }) => {
                tracing::warn!(host.id = %self.ingest.host(), code, message, "refused an agent's frame");
                send(&mut self.socket, &notice(code, &message, &envelope.id)).await
            }
            Err(e) => {
                tracing::error!(host.id = %self.ingest.host(), error = %e, "an agent's frame could not be stored");
                Err(Closing::StoreFailed)
            }
        }
    }

    async fn bad_frame(&mut self, why: &str, regarding: &str) -> Result<(), Closing> {
        self.bad_frames += 1;
        tracing::warn!(host.id = %self.ingest.host(), reason = why, "an agent's frame does not parse");
        send(&mut self.socket, &notice("bad_frame", why, regarding)).await?;
        if self.bad_frames >= limits::MAX_BAD_FRAMES { Err(Closing::BadFrames) } else { Ok(()) }
    }

    /// Acknowledges what is on disk; of several answers for one job that are there, only the last.
    async fn stored(&mut self, mut job: JobId, mut outcome: AppendOutcome) -> Result<(), Closing> {
        loop {
            let next = self.pending.front_mut().and_then(|first| Some((first.job, first.reply.try_recv().ok()?)));
            if next.is_some() {
                self.pending_bytes -= self.pending.pop_front().map_or(0, |first| first.bytes);
            }
            match next {
                Some((same, newer)) if same == job && newer.is_ok() && outcome.is_ok() => outcome = newer,
                other => {
                    self.acknowledge(job, outcome).await?;
                    match other {
                        Some(next) => (job, outcome) = next,
                        None => return Ok(()),
                    }
                }
            }
        }
    }

    async fn acknowledge(&mut self, job_id: JobId, outcome: AppendOutcome) -> Result<(), Closing> {
        match outcome {
            Ok(tail) => {
                let ack = Ack { job_id, seq: tail.seq, finished: tail.finished };
                send(&mut self.socket, &ServerMessage::Ack(ack)).await
            }
            Err(e) => {
                tracing::error!(host.id = %self.ingest.host(), job.id = %job_id, error = %e, "lines could not be stored");
                Err(Closing::StoreFailed)
            }
        }
    }
}

/// The oldest answer of the store; never, while none is awaited. Cancel-safe: an answer is taken out only when it is there.
async fn first_stored(pending: &mut VecDeque<Pending>) -> (JobId, usize, AppendOutcome) {
    let Some(first) = pending.front_mut() else { return std::future::pending().await };
    let (job, bytes) = (first.job, first.bytes);
    let outcome = (&mut first.reply).await.unwrap_or(Err(crate::store::StoreError::Closed));
    pending.pop_front();
    (job, bytes, outcome)
}
