//! What an agent does over whichever connection it has, without the connection: it says hello, takes the welcome, obeys, and has something to say. A session
//! is this and a socket; the simulation of the protocol is this and a network of its own. Everything here is quick: work happens in the runner.

use std::{convert::Infallible, sync::Arc};

use flotilla_proto::{
    AgentMessage, CommandRun, HostId, JobAccepted, JobId, JobStatus, PROTOCOL, ScheduleFire, ScheduleSet, Secret,
    ServerMessage, Welcome,
};
use tokio_util::sync::CancellationToken;

use crate::{
    blocking::blocking,
    host_facts,
    outbox::Outbox,
    runner::{Runner, Submitted},
    schedule::{Scheduler, Wiring},
    seal::Seal,
    serve::{AgentError, AgentOptions},
    sink::{Cursor, JobOutcome, JobSink},
};

/// The duties of one agent; clones share them.
#[derive(Clone)]
pub struct Duties {
    pub(crate) outbox: Outbox,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) schedule: Scheduler,
    host_name: String,
    draining: CancellationToken,
}

/// Whose duties they are.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the server knows it.
    pub host_id: HostId,
    /// As it calls itself.
    pub host_name: String,
    /// What seals that which it keeps on disk.
    pub agent_token: Secret,
}

/// What is to be said next.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame of the outbox, ready to be sent.
    Frame(String),
    /// A moment of a schedule.
    Fire(ScheduleFire),
}

/// Why a message of the server can't be obeyed; the server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Duties {
    /// Goes on with what an earlier process left in the state folder. Blocks: reads the spool once.
    ///
    /// # Errors
    /// [`AgentError::State`] where the folder can't be read.
    pub fn take_up(member: Member, options: &AgentOptions, draining: CancellationToken) -> Result<Self, AgentError> {
        let runner = Arc::clone(&options.runner);
        let outbox = blocking(|| Outbox::new(&options.state_dir, options.outbox, Arc::clone(&options.clock)))
            .map_err(|source| AgentError::State { path: options.state_dir.clone(), source })?;
        let leftovers = leftovers(&outbox, &*runner);
        // After the leftovers: a job that ran without the server and is among them must not begin again.
        let schedule = Scheduler::open(Wiring {
            state_dir: options.state_dir.clone(),
            host_id: member.host_id,
            seal: Seal::from_token(&member.agent_token),
            policy: options.schedules.clone(),
            clock: Arc::clone(&options.clock),
            entropy: Arc::clone(&options.entropy),
            outbox: outbox.clone(),
            runner: Arc::clone(&runner),
            draining: draining.clone(),
        });
        for Resumed { job_id, sink, cursor } in leftovers {
            runner.resume(job_id, schedule.watch(job_id, sink), cursor);
        }
        Ok(Self { outbox, runner, schedule, host_name: member.host_name, draining })
    }

    /// What is undelivered.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Ticks the schedules for as long as it is polled.
    pub async fn follow_schedules(&self) -> Infallible {
        self.schedule.run().await
    }

    /// The first frame of a connection.
    pub async fn hello(&self) -> flotilla_proto::Hello {
        let mut facts = self.runner.describe().await;
        facts.capabilities.push("schedules".to_owned());
        let (schedule_version, fires) = self.schedule.hello();
        flotilla_proto::Hello {
            protocol: PROTOCOL,
            capabilities: facts.capabilities,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            os: host_facts::os().to_owned(),
            arch: host_facts::arch().to_owned(),
            hostname: self.host_name.clone(),
            boot_id: host_facts::boot_id(),
            restic_version: facts.restic_version,
            jobs: self.outbox.known_jobs(),
            schedule_version,
            fires,
        }
    }

    /// A connection stands: what the server has is trimmed, the rest is said again.
    pub fn begin(&self, welcome: &Welcome) {
        for job_id in &welcome.finished {
            self.schedule.has_job(*job_id);
        }
        self.schedule.connected();
        for job_id in self.outbox.resume(welcome) {
            tracing::info!(job.id = %job_id, "nothing more to tell of this job: the server has its end, or does not know it");
            self.runner.forget_leftover(job_id);
        }
    }

    /// The connection that had begun is gone.
    pub fn disconnected(&self) {
        self.schedule.disconnected();
    }

    /// What is to be said next: waits until there is something. Moments come first: the server must know the job of one that runs without it before it
    /// hears from the job. For one caller at a time; cancel-safe.
    pub async fn next(&self) -> Outgoing {
        tokio::select! {
            biased;
            fire = self.schedule.next() => Outgoing::Fire(fire),
            frame = self.outbox.next() => Outgoing::Frame(frame),
        }
    }

    /// Does what the server says. Gives what is said at once in return.
    ///
    /// # Errors
    /// [`Complaint`] where it can't be done.
    pub fn obey(&self, message: ServerMessage) -> Result<Option<AgentMessage<'static>>, Complaint> {
        match message {
            ServerMessage::CommandRun(order) => return self.run_order(*order).map(Some),
            ServerMessage::CommandCancel(order) => self.cancel(order.job_id)?,
            ServerMessage::ConfigUpdate(config) => self.runner.set_limits(config.limits),
            ServerMessage::ScheduleSet(set) => return self.take_schedules(set).map(Some),
            ServerMessage::ScheduleFired(answer) => self.schedule.fired(&answer),
            ServerMessage::Ack(ack) => {
                if self.outbox.acked(&ack) {
                    self.schedule.has_job(ack.job_id);
                    self.runner.forget_leftover(ack.job_id);
                }
            }
            ServerMessage::Error(notice) => {
                tracing::warn!(code = notice.code, regarding = notice.regarding, "the server says: {}", notice.message);
            }
            ServerMessage::Heartbeat(_) => {}
            ServerMessage::Welcome(_) => tracing::debug!("a second welcome is ignored"),
            ServerMessage::Unknown(kind) => {
                tracing::info!(kind, "a message of a newer protocol is ignored; updating the agent would help");
            }
        }
        Ok(None)
    }

    fn run_order(&self, order: CommandRun) -> Result<AgentMessage<'static>, Complaint> {
        if self.draining.is_cancelled() {
            let message = "this agent is stopping and takes no orders: send it again later".to_owned();
            return Err(Complaint { code: "draining", message });
        }
        let job_id = order.job_id;
        // First: if the process ends in between, the server sends the order again, and the moment must not run by itself.
        self.schedule.has_job(job_id);
        let submitted = self.schedule.submit(order);
        tracing::info!(job.id = %job_id, known = submitted == Submitted::Known, "order taken");
        Ok(AgentMessage::JobAccepted(JobAccepted { job_id }))
    }

    fn cancel(&self, job_id: JobId) -> Result<(), Complaint> {
        if self.runner.cancel(job_id) || self.outbox.contains(job_id) {
            return Ok(());
        }
        Err(Complaint { code: "unknown_job", message: "no such job runs on this agent".to_owned() })
    }

    fn take_schedules(&self, set: ScheduleSet) -> Result<AgentMessage<'static>, Complaint> {
        self.schedule.receive(set).map(AgentMessage::ScheduleAck).map_err(|error| {
            tracing::error!(%error, "the server's schedules were not taken; those held before stay in force");
            Complaint { code: "schedules_not_stored", message: error.to_string() }
        })
    }
}

/// A job of an earlier process that is to go on.
struct Resumed {
    job_id: JobId,
    sink: Arc<dyn JobSink>,
    cursor: Cursor,
}

/// Goes on with what an earlier process left. A job whose end is in the spool needs only to be delivered; one that the runner knows nothing of ends here.
/// Gives the others, for the runner to resume.
fn leftovers(outbox: &Outbox, runner: &dyn Runner) -> Vec<Resumed> {
    let leftovers = runner.leftovers();
    for job_id in outbox.unended().into_iter().filter(|id| !leftovers.contains(id)) {
        tracing::error!(job.id = %job_id, "a part of this job's log is here, but nothing else of it");
        let error = "the agent restarted while the job ran, and what it had kept of the order is gone, so the job's end is unknown: look at its log and run it again";
        outbox.reopen(job_id).0.finished(JobOutcome {
            status: JobStatus::Failed,
            exit_code: None,
            error: Some(error.to_owned()),
            summary: None,
        });
    }
    let mut resumed = Vec::new();
    for job_id in leftovers {
        if outbox.has_end(job_id) {
            tracing::info!(job.id = %job_id, "this job ended before the agent was last stopped; its end is yet to be delivered");
            continue;
        }
        tracing::warn!(job.id = %job_id, "this job was not over when the agent was last stopped");
        let (sink, cursor) = outbox.reopen(job_id);
        resumed.push(Resumed { job_id, sink, cursor });
    }
    resumed
}
