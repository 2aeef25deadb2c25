//! One connection's conversation, from `hello` to its end. One task: a select that only receives, one function that handles.
//! Reading never waits for writing: at most one frame is on its way out, and while the socket is full nothing is taken from the outbox.

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use flotilla_proto::{
    AgentMessage, DecodeError, ErrorNotice, PROTOCOL, RawEnvelope, ServerMessage, Welcome, close, limits,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WsError, Message, protocol::CloseFrame},
};
use tokio_util::sync::CancellationToken;

use super::{Parts, ended::Ended};
use crate::{dial::Connection, duties::Outgoing, host_facts};

const WELCOME_DEADLINE: Duration = Duration::from_secs(15);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Answers that wait for a server that doesn't read; more than this and it is taken for broken.
const MAX_WAITING: usize = 1024;

type Socket = WebSocketStream<Connection>;

pub(super) struct Session<'a> {
    parts: &'a Parts,
    socket: Socket,
    /// Answers and heartbeats: they go before anything of the outbox.
    waiting: VecDeque<Message>,
    flushing: bool,
    heartbeat: Duration,
    heard: Instant,
    bad_frames: u32,
    /// The last `error` of the server: explains a close that follows.
    said: Option<String>,
    frames: u64,
}

/// What the select receives. Handled in one place.
enum Event {
    Frame(Option<Result<Message, WsError>>),
    Flushed(Result<(), WsError>),
    Outgoing(Outgoing),
    Beat,
    Silent,
    Stop,
}

type Flow = ControlFlow<Ended>;

impl<'a> Session<'a> {
    /// Says hello and waits for the welcome.
    pub(super) async fn open(parts: &'a Parts, socket: Socket) -> Result<Self, Ended> {
        let mut session = Self {
            parts,
            socket,
            waiting: VecDeque::new(),
            flushing: false,
            heartbeat: Duration::from_secs(30),
            heard: Instant::now(),
            bad_frames: 0,
            said: None,
            frames: 0,
        };
        let deadline = Instant::now() + WELCOME_DEADLINE;
        let opened = timeout_at(deadline, async {
            let hello = AgentMessage::Hello(Box::new(session.parts.duties.hello().await));
            let text = hello.encode("hello").map_err(|e| Ended::Broken(e.to_string()))?;
            session.socket.send(Message::text(text)).await.map_err(|e| broken(&e))?;
            session.welcome().await
        });
        match opened.await {
            Err(_) => Err(Ended::NoWelcome(WELCOME_DEADLINE.as_secs())),
            Ok(Err(ended)) => Err(ended),
            Ok(Ok(welcome)) if welcome.protocol < PROTOCOL.min || welcome.protocol > PROTOCOL.max => {
                let agreed = welcome.protocol.0;
                Err(Ended::Version(format!(
                    "the server chose {agreed}, which this agent did not offer: update the server"
                )))
            }
            Ok(Ok(welcome)) => {
                session.begin(&welcome);
                Ok(session)
            }
        }
    }

    async fn welcome(&mut self) -> Result<Welcome, Ended> {
        loop {
            let Some(frame) = self.socket.next().await else {
                return Err(Ended::Broken("the server hung up before its welcome".to_owned()));
            };
            let text = match frame.map_err(|e| broken(&e))? {
                Message::Text(text) => text,
                Message::Close(frame) => return Err(closed(frame, self.said.take())),
                _ => continue,
            };
            match decode(&text).map_err(|(_, e)| Ended::Broken(format!("instead of a welcome came {e}")))? {
                ServerMessage::Welcome(welcome) => return Ok(welcome),
                ServerMessage::Error(notice) => self.said = Some(notice.message),
                other => tracing::debug!(kind = other.kind(), "a frame before the welcome is ignored"),
            }
        }
    }

    fn begin(&mut self, welcome: &Welcome) {
        self.heard = Instant::now();
        self.heartbeat = Duration::from_secs(welcome.heartbeat_s.clamp(1, 600));
        self.parts.duties.begin(welcome);
        tracing::info!(
            host.id = %welcome.host_id, server = %self.parts.dialer.server(), protocol = welcome.protocol.0, "connected"
        );
    }

    /// Talks until the end.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Ended {
        let mut beat = interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = self.receive(&mut beat, stop).await;
            let flow = match self.handle(event) {
                ControlFlow::Continue(()) => self.pump(),
                ended => ended,
            };
            if let ControlFlow::Break(ended) = flow {
                self.close(&ended).await;
                return ended;
            }
        }
    }

    async fn receive(&mut self, beat: &mut Interval, stop: &CancellationToken) -> Event {
        let may_send = !self.flushing && self.waiting.is_empty();
        let silent_at = self.heard + self.heartbeat * 3;
        let (socket, flushing) = (&mut self.socket, self.flushing);
        tokio::select! {
            event = poll_fn(|cx| poll_socket(socket, flushing, cx)) => event,
            next = self.parts.duties.next(), if may_send => Event::Outgoing(next),
            _ = beat.tick() => Event::Beat,
            () = sleep_until(silent_at) => Event::Silent,
            () = stop.cancelled() => Event::Stop,
        }
    }

    fn handle(&mut self, event: Event) -> Flow {
        match event {
            Event::Frame(None) => return Flow::Break(Ended::Broken("the server hung up".to_owned())),
            Event::Frame(Some(Err(error))) | Event::Flushed(Err(error)) => return Flow::Break(broken(&error)),
            Event::Frame(Some(Ok(message))) => {
                self.heard = Instant::now();
                return self.frame(message);
            }
            Event::Flushed(Ok(())) => self.flushing = false,
            Event::Outgoing(Outgoing::Frame(frame)) => self.waiting.push_back(Message::text(frame)),
            Event::Outgoing(Outgoing::Fire(fire)) => self.say(&AgentMessage::ScheduleFire(fire)),
            Event::Beat if self.parts.duties.runner.has_changed() => return Flow::Break(Ended::Changed),
            Event::Beat => {
                let mut vital = host_facts::heartbeat(&self.parts.state_dir);
                vital.troubles.extend(self.parts.duties.schedule.troubles());
                vital.troubles.extend(self.parts.duties.outbox.troubles());
                self.say(&AgentMessage::Heartbeat(vital));
            }
            Event::Silent => return Flow::Break(Ended::Silent((self.heartbeat * 3).as_secs())),
            Event::Stop => return Flow::Break(Ended::Stopped),
        }
        Flow::Continue(())
    }

    fn frame(&mut self, message: Message) -> Flow {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(frame) => return Flow::Break(closed(frame, self.said.take())),
            Message::Binary(_) => return self.bad_frame("", "a binary frame: this protocol has text frames only"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Flow::Continue(()),
        };
        match decode(&text) {
            Ok(message) => {
                let id = RawEnvelope::decode(&text).map(|envelope| envelope.id.into_owned()).unwrap_or_default();
                self.obey(message, &id);
                Flow::Continue(())
            }
            Err((id, error)) => self.bad_frame(&id, &error.to_string()),
        }
    }

    fn obey(&mut self, message: ServerMessage, id: &str) {
        if let ServerMessage::Error(notice) = &message {
            self.said = Some(notice.message.clone());
        }
        match self.parts.duties.obey(message) {
            Ok(answer) => answer.iter().for_each(|answer| self.say(answer)),
            Err(complaint) => self.complain(complaint.code, &complaint.message, id),
        }
    }

    fn bad_frame(&mut self, id: &str, reason: &str) -> Flow {
        self.bad_frames += 1;
        tracing::warn!(reason, "a frame of the server was refused");
        self.complain("bad_frame", reason, id);
        if self.bad_frames < limits::MAX_BAD_FRAMES {
            return Flow::Continue(());
        }
        let reason = "the server repeatedly sent frames that make no sense; is one of the two far older?".to_owned();
        Flow::Break(Ended::Closed { code: close::POLICY, reason })
    }

    fn complain(&mut self, code: &str, message: &str, id: &str) {
        let regarding = (!id.is_empty()).then(|| id.to_owned());
        self.say(&AgentMessage::Error(ErrorNotice { code: code.to_owned(), message: message.to_owned(), regarding }));
    }

    fn say(&mut self, message: &AgentMessage<'_>) {
        self.frames += 1;
        match message.encode(&format!("a{}", self.frames)) {
            Ok(text) => self.waiting.push_back(Message::text(text)),
            Err(error) => tracing::error!(kind = message.kind(), %error, "a frame could not be written"),
        }
    }

    /// Starts the next frame on its way, where none is.
    fn pump(&mut self) -> Flow {
        if self.waiting.len() > MAX_WAITING {
            return Flow::Break(Ended::Broken("the server sends but does not read".to_owned()));
        }
        if !self.flushing
            && let Some(message) = self.waiting.pop_front()
        {
            if let Err(error) = self.socket.start_send_unpin(message) {
                return Flow::Break(broken(&error));
            }
            self.flushing = true;
        }
        Flow::Continue(())
    }

    /// Leaves politely where that makes sense, and never waits long for it.
    async fn close(mut self, ended: &Ended) {
        let code = match ended {
            Ended::Stopped | Ended::Changed => close::NORMAL,
            Ended::Closed { code: close::POLICY, .. } => close::POLICY,
            // The peer is gone, or has closed already and is owed only the echo that flushing sends.
            _ => 0,
        };
        let goodbye = async {
            if code == 0 {
                return self.socket.flush().await;
            }
            self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok(())
        };
        if let Ok(Err(error)) = timeout(CLOSE_DEADLINE, goodbye).await {
            tracing::debug!(%error, "the connection ended before its goodbye");
        }
    }
}

fn poll_socket(socket: &mut Socket, flushing: bool, cx: &mut Context<'_>) -> Poll<Event> {
    if flushing && let Poll::Ready(result) = Sink::<Message>::poll_flush(Pin::new(&mut *socket), cx) {
        return Poll::Ready(Event::Flushed(result));
    }
    Pin::new(socket).poll_next(cx).map(Event::Frame)
}

/// The message, or the envelope's id (where it has one) and the reason.
fn decode(text: &str) -> Result<ServerMessage, (String, DecodeError)> {
    let envelope = RawEnvelope::decode(text).map_err(|e| (String::new(), e))?;
    ServerMessage::decode(&envelope).map_err(|e| (envelope.id.into_owned(), e))
}

fn closed(frame: Option<CloseFrame>, said: Option<String>) -> Ended {
    match frame {
        Some(frame) => Ended::from_close(frame.code.into(), &frame.reason, said),
        None => Ended::Closed { code: 1005, reason: "without a reason".to_owned() },
    }
}

fn broken(error: &WsError) -> Ended {
    Ended::Broken(error.to_string())
}
