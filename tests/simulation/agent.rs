//! The agent of the simulation: the real outbox over the simulated machine, and what a connection makes them do.

use std::{sync::Arc, time::Duration};

use flotilla_agent::{
    outbox::{Outbox, OutboxLimits},
    runner::{Runner as _, Submitted},
};
use flotilla_proto::{
    AgentHeartbeat, AgentMessage, CommandRun, Hello, JobAccepted, JobId, PROTOCOL, RawEnvelope, ServerMessage,
};
use futures_util::FutureExt as _;

use crate::machine::Machine;

pub(crate) struct Agent {
    pub(crate) outbox: Outbox,
    machine: Machine,
}

impl Agent {
    pub(crate) fn start(machine: Machine) -> Self {
        let limits = OutboxLimits {
            window_bytes: 2_000,
            batch_bytes: 500,
            batch_delay: Duration::ZERO,
            ..OutboxLimits::default()
        };
        Self { outbox: Outbox::new(limits, Arc::new(flotilla_agent::clock::SystemClock)), machine }
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            capabilities: Vec::new(),
            agent_version: "0.1.0".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            hostname: "simulated".to_owned(),
            boot_id: String::new(),
            restic_version: None,
            jobs: self.outbox.known_jobs(),
            schedule_version: 0,
            fires: Vec::new(),
        }
    }

    /// The next frame that it wants to send, if it wants to send one now.
    pub(crate) fn says(&self) -> Option<String> {
        self.outbox.next().now_or_never()
    }

    /// Takes a frame. Gives what is said at once in return.
    pub(crate) fn hears(&self, frame: &str) -> Vec<String> {
        let message = ServerMessage::decode(&RawEnvelope::decode(frame).unwrap()).unwrap();
        match message {
            ServerMessage::Welcome(welcome) => {
                for job in self.outbox.resume(&welcome) {
                    self.machine.forget_leftover(job);
                }
                vec![AgentMessage::Heartbeat(AgentHeartbeat::default()).encode("beat").unwrap()]
            }
            ServerMessage::CommandRun(order) => vec![self.takes(*order)],
            ServerMessage::CommandCancel(order) => {
                let _ = self.machine.cancel(order.job_id);
                Vec::new()
            }
            ServerMessage::Ack(ack) => {
                if self.outbox.acked(&ack) {
                    self.machine.forget_leftover(ack.job_id);
                }
                Vec::new()
            }
            ServerMessage::Heartbeat(_) => Vec::new(),
            other => panic!("the server says {other:?}"),
        }
    }

    fn takes(&self, order: CommandRun) -> String {
        let job_id: JobId = order.job_id;
        let fresh = !self.outbox.contains(job_id);
        let sink = self.outbox.open(job_id);
        if self.machine.submit(order, sink) == Submitted::Known && fresh {
            self.outbox.forget(job_id);
        }
        AgentMessage::JobAccepted(JobAccepted { job_id }).encode("accepted").unwrap()
    }
}
