//! The agent of the simulation: the real duties (outbox and spool on disk, scheduler, what a connection makes them do) over the simulated machine. It can be
//! killed at any time; the next one finds what was on disk.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flotilla_agent::{
    AgentOptions,
    clock::{Clock as _, ManualClock},
    duties::{Duties, Member, Outgoing},
    outbox::OutboxLimits,
};
use flotilla_proto::{AgentMessage, HostId, RawEnvelope, Secret, ServerMessage};
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use crate::{house::random::Random, machine::Machine};

pub(crate) struct Agent {
    pub(crate) clock: Arc<ManualClock>,
    duties: Duties,
    machine: Machine,
    state_dir: PathBuf,
    host: HostId,
}

impl Agent {
    pub(crate) fn start(machine: Machine, state_dir: PathBuf, host: HostId, clock: Arc<ManualClock>) -> Self {
        let mut options = AgentOptions::new(&state_dir, Arc::new(machine.clone()));
        options.clock = clock.clone();
        let chance = Mutex::new(Random::new(host.bits() as u64 ^ u64::try_from(clock.now().unix_ms()).unwrap()));
        options.entropy = Arc::new(move || chance.lock().unwrap_or_else(PoisonError::into_inner).next());
        options.outbox = OutboxLimits {
            window_bytes: 2_000,
            batch_bytes: 500,
            sync_delay: Duration::ZERO,
            ..OutboxLimits::default()
        };
        // Short, so that the server is away for long enough often enough.
        options.schedules.alone_after = Duration::from_secs(20);
        options.schedules.answer_within = Duration::from_secs(10);
        let member = Member { host_id: host, host_name: "simulated".to_owned(), agent_token: Secret::from("token") };
        let duties = Duties::take_up(member, &options, CancellationToken::new()).unwrap();
        Self { clock, duties, machine, state_dir, host }
    }

    /// The process is killed: what was not on disk is gone. Another one is started.
    pub(crate) fn die(&mut self) {
        // A sink that goes away in a living agent ends its job; here nobody is left who could.
        self.duties.outbox().close();
        self.machine.lose_agent();
        *self = Self::start(self.machine.clone(), self.state_dir.clone(), self.host, self.clock.clone());
    }

    /// What it does besides talking: what was said comes to disk, moments come.
    pub(crate) fn works(&self) {
        self.duties.outbox().flush();
        assert!(self.duties.follow_schedules().now_or_never().is_none());
    }

    /// Whether nothing waits to be delivered.
    pub(crate) async fn is_quiet(&self) -> bool {
        let hello = self.duties.hello().await;
        hello.jobs.is_empty() && hello.fires.is_empty()
    }

    pub(crate) async fn hello(&self) -> String {
        AgentMessage::Hello(Box::new(self.duties.hello().await)).encode("hello").unwrap()
    }

    pub(crate) fn disconnected(&self) {
        self.duties.disconnected();
    }

    /// The next frame that it wants to send, if it wants to send one now.
    pub(crate) fn says(&self) -> Option<String> {
        Some(match self.duties.next().now_or_never()? {
            Outgoing::Frame(frame) => frame,
            Outgoing::Fire(fire) => AgentMessage::ScheduleFire(fire).encode("fire").unwrap(),
        })
    }

    /// Takes a frame. Gives what is said at once in return.
    pub(crate) fn hears(&self, frame: &str) -> Option<String> {
        match ServerMessage::decode(&RawEnvelope::decode(frame).unwrap()).unwrap() {
            ServerMessage::Welcome(welcome) => {
                self.duties.begin(&welcome);
                None
            }
            ServerMessage::Error(notice) => panic!("the server complains: {}", notice.message),
            message => self.duties.obey(message).ok().flatten().map(|answer| answer.encode("answer").unwrap()),
        }
    }
}
