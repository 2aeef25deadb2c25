//! One agent's conversation without its socket: the same registry, books, ingest and dispatcher that a link has, for whoever brings the frames by another
//! way. The simulation of the protocol does: it has a network and a clock of its own.

use std::collections::VecDeque;

use flotilla_proto::{Ack, AgentMessage, ErrorNotice, Hello, JobId, RawEnvelope, ServerHeartbeat, ServerMessage};

use crate::{
    domain::host::Host,
    fleet::{
        Fleet, dispatch,
        ingest::{self, Answer, Greeting, Ingest},
        registry::Registered,
        schedules,
    },
    store::{AppendReply, StoreError},
};

/// A conversation past its hello. It leaves the registry when it is dropped, as a link does.
pub struct Conversation {
    fleet: Fleet,
    host: crate::domain::HostId,
    ingest: Ingest,
    registered: Registered,
    stored: VecDeque<(JobId, AppendReply)>,
}

/// Why a conversation ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The store cannot take what was said; the agent comes again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A connection that was opened later is there.
    #[error("a newer connection of this agent is here")]
    Overtaken,
    /// Something that no agent of this build says.
    #[error("{0}")]
    Nonsense(String),
}

impl Conversation {
    /// Takes the hello of a connection of this number. Gives what it is answered with, in order.
    ///
    /// # Errors
    /// [`Ended`]; nothing is registered then.
    pub async fn open(
        fleet: &Fleet,
        host: &Host,
        number: u64,
        hello: Hello,
    ) -> Result<(Self, Vec<ServerMessage>), Ended> {
        let greeting = ingest::welcome(fleet, host, number, hello).await?;
        let Greeting { welcome, fired, returned } = greeting.map_err(|e| Ended::Nonsense(e.to_string()))?;
        let registered = fleet.inner.registry.enter(host.id, number).ok_or(Ended::Overtaken)?;
        fleet.inner.hub.came_back_with(host.id, number, returned);
        fleet.inner.arrivals.add(host.id);
        let ingest = Ingest::new(fleet.clone(), host.id, registered.generation);
        let own = Self { fleet: fleet.clone(), host: host.id, ingest, registered, stored: VecDeque::new() };
        let fired = fired.into_iter().map(ServerMessage::ScheduleFired);
        Ok((own, std::iter::once(ServerMessage::Welcome(welcome)).chain(fired).collect()))
    }

    /// Takes a frame. Gives the answer, where there is one at once.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn hear(&mut self, text: &str) -> Result<Option<ServerMessage>, Ended> {
        let nonsense = |e: flotilla_proto::DecodeError| Ended::Nonsense(e.to_string());
        let envelope = RawEnvelope::decode(text).map_err(nonsense)?;
        let message = AgentMessage::decode(&envelope).map_err(nonsense)?;
        Ok(match self.ingest.take(message, bytes::Bytes::copy_from_slice(text.as_bytes())).await? {
            Answer::Nothing => None,
            Answer::Heartbeat => Some(ServerMessage::Heartbeat(ServerHeartbeat {})),
            Answer::Fired(fired) => Some(ServerMessage::ScheduleFired(fired)),
            Answer::Ack(ack) => Some(ServerMessage::Ack(ack)),
            Answer::Wait(job, reply) => {
                self.stored.push_back((job, reply));
                None
            }
            Answer::Refuse { code, message } => {
                Some(ServerMessage::Error(ErrorNotice { code: code.to_owned(), message, regarding: None }))
            }
        })
    }

    /// Waits until the oldest lines that wait for the disk are there, and gives their acknowledgement; `None` where none wait.
    ///
    /// # Errors
    /// [`Ended`] where the disk did not take them.
    pub async fn stored(&mut self) -> Result<Option<ServerMessage>, Ended> {
        let Some((job_id, reply)) = self.stored.pop_front() else { return Ok(None) };
        let tail = reply.await.unwrap_or(Err(StoreError::Closed))?;
        Ok(Some(ServerMessage::Ack(Ack { job_id, seq: tail.seq, finished: tail.finished })))
    }

    /// The next order for the agent, as the dispatcher left it.
    pub fn order(&mut self) -> Option<String> {
        self.registered.outbound.try_recv().ok()
    }

    /// Whether the server wants it to end; a newer connection of the agent is the usual reason.
    #[must_use]
    pub fn is_to_end(&self) -> bool {
        self.registered.close.borrow().is_some()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.fleet.inner.registry.leave(self.host, self.registered.generation);
        self.fleet.inner.hub.left(self.host, self.registered.generation);
    }
}

impl Fleet {
    /// The number of a connection that is being opened; the highest one is the newest.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.registry.number()
    }

    /// One look of the dispatcher: sends what may be sent now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dispatch_once(&self) -> Result<(), StoreError> {
        dispatch::look(self).await
    }

    /// One look at the schedules: connected agents that do not have their set are sent it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schedule_once(&self) -> Result<(), StoreError> {
        schedules::look(self, true, false).await
    }
}
