//! What an agent says, turned into what the store keeps: protocol message → domain → one write (or, for progress, → hub).
//! Decides what is acknowledged. An agent can only ever speak of jobs of its own host.

pub(super) mod fires;

use std::collections::HashMap;

use bytes::Bytes;
use flotilla_proto::{
    Ack, AgentMessage, Hello, JobFinished, JobId, KnownJob, KnownJobState, LogStream, PROTOCOL, ScheduleAck,
    ScheduleFired, VersionMismatch, Welcome,
};

use crate::{
    domain::{
        HostId, JobStatus, Timestamp,
        event::LiveFrame,
        host::Host,
        job::{End, JobNo},
        schedule::ScheduleRejection,
    },
    fleet::Fleet,
    store::{Append, AppendReply, Db, EncodedLines, StoreError, WriteReply, hosts, jobs, moments},
};

/// Jobs whose number a link remembers.
const ROUTES: usize = 256;

/// What is to be said in return.
pub(super) enum Answer {
    Nothing,
    Heartbeat,
    Ack(Ack),
    /// What became of a moment.
    Fired(ScheduleFired),
    /// An ack follows once the lines are on disk.
    Wait(JobId, AppendReply),
    Refuse {
        code: &'static str,
        message: String,
    },
}

/// The ingest of one link.
pub(super) struct Ingest {
    fleet: Fleet,
    host: HostId,
    generation: u64,
    routes: HashMap<JobId, JobNo>,
    /// An acceptance on its way to disk. A start right behind it goes along in one commit; every other frame waits for it.
    accepting: Option<WriteReply<(), StoreError>>,
}

impl Ingest {
    pub(super) fn new(fleet: Fleet, host: HostId, generation: u64) -> Self {
        Self { fleet, host, generation, routes: HashMap::new(), accepting: None }
    }

    pub(super) fn host(&self) -> HostId {
        self.host
    }

    /// Takes one message. `frame` is the envelope it came in: it goes on to browsers as it is.
    pub(super) async fn take(&mut self, message: AgentMessage<'_>, frame: Bytes) -> Result<Answer, StoreError> {
        if !matches!(message, AgentMessage::JobStarted(_)) {
            self.accepted().await?;
        }
        match message {
            AgentMessage::LogStream(lines) => self.lines(&lines, frame).await,
            AgentMessage::JobProgress(progress) => {
                let Some(id) = progress.job_id else { return Ok(refuse_unknown("absent")) };
                if self.route(id).await?.is_none() {
                    return Ok(refuse_unknown(&id.to_string()));
                }
                self.fleet.inner.hub.progress(id, progress, LiveFrame::Progress(frame));
                Ok(Answer::Nothing)
            }
            AgentMessage::Heartbeat(vitals) => {
                let now = self.fleet.inner.clock.now();
                self.fleet.inner.hub.heard(self.host, self.generation, now, Some(vitals));
                Ok(Answer::Heartbeat)
            }
            AgentMessage::JobAccepted(accepted) => {
                let (id, host) = (accepted.job_id, self.host);
                // It may have come over the connection before, whose end was taken for its own.
                let take = move |tx: &mut crate::store::WriteTx<'_>| {
                    jobs::reopen_untaken(tx, id, host)?;
                    jobs::accepted(tx, id, host)
                };
                self.accepting = Some(self.fleet.inner.store.submit(take).await?);
                Ok(Answer::Nothing)
            }
            AgentMessage::JobStarted(started) => {
                let (id, host, at) = (started.job_id, self.host, started.at);
                self.fleet.inner.store.write(move |tx| jobs::started(tx, id, host, at, frame)).await?;
                self.accepted().await?;
                Ok(Answer::Nothing)
            }
            AgentMessage::JobFinished(finished) => self.finished(*finished).await,
            AgentMessage::Hello(_) => Ok(Answer::Refuse {
                code: "unexpected_hello",
                message: "hello is the first frame of a connection and comes once".to_owned(),
            }),
            AgentMessage::ScheduleAck(ack) => self.schedule_ack(ack).await,
            AgentMessage::ScheduleFire(fire) => {
                let answers = fires::take(&self.fleet, self.host, vec![fire], &[]).await?;
                // Without an answer the host is gone, and its link is about to be.
                Ok(answers.into_iter().next().map_or(Answer::Nothing, Answer::Fired))
            }
            AgentMessage::Error(notice) => {
                tracing::warn!(host.id = %self.host, code = notice.code, message = notice.message, "an agent refused a frame");
                Ok(Answer::Nothing)
            }
            AgentMessage::Unknown(kind) => {
                tracing::info!(host.id = %self.host, kind, "an agent sent a type that this server does not know; ignored");
                Ok(Answer::Nothing)
            }
        }
    }

    /// Waits until the last acceptance is on disk.
    async fn accepted(&mut self) -> Result<(), StoreError> {
        match self.accepting.take() {
            Some(accepting) => accepting.await.map_err(|_| StoreError::Closed)?,
            None => Ok(()),
        }
    }

    async fn schedule_ack(&self, ack: ScheduleAck) -> Result<Answer, StoreError> {
        let host = self.host;
        let state = self.fleet.inner.store.read(move |db| hosts::schedule_state(db, host)).await?;
        let Some((_, _, state)) = state else { return Ok(Answer::Nothing) };
        let rejected = bounded(ack.rejected);
        if (state.acked, &state.rejected) != (ack.version, &rejected) {
            let version = ack.version;
            let store = &self.fleet.inner.store;
            store.write(move |tx| hosts::note_schedule_ack(tx, host, version, &rejected)).await?;
        }
        // A version that was never given comes from before this store was put back: it is given a newer one.
        if ack.version > state.version {
            self.fleet.inner.arrivals.add(host);
        }
        Ok(Answer::Nothing)
    }

    /// A job's number, if it is one of this host's.
    async fn route(&mut self, id: JobId) -> Result<Option<JobNo>, StoreError> {
        if let Some(no) = self.routes.get(&id) {
            return Ok(Some(*no));
        }
        let route = self.fleet.inner.store.read(move |db| jobs::route(db, id)).await?;
        let Some(route) = route.filter(|route| route.host_id == self.host) else { return Ok(None) };
        if self.routes.len() >= ROUTES {
            self.routes.clear();
        }
        self.routes.insert(id, route.no);
        Ok(Some(route.no))
    }

    async fn lines(&mut self, message: &LogStream<'_>, frame: Bytes) -> Result<Answer, StoreError> {
        let id = message.job_id;
        let Some(no) = self.route(id).await? else { return Ok(refuse_unknown(&id.to_string())) };
        let append = Append { job: (no, id), lines: EncodedLines::of(&message.lines), frame };
        Ok(Answer::Wait(id, self.fleet.inner.store.append(append).await?))
    }

    async fn finished(&mut self, message: JobFinished) -> Result<Answer, StoreError> {
        let (id, host, last_seq) = (message.job_id, self.host, message.last_seq);
        if !message.status.is_final() || message.status == JobStatus::Lost {
            return Ok(Answer::Refuse {
                code: "bad_end",
                message: format!("a job cannot end as `{}`", message.status),
            });
        }
        let end = End {
            status: message.status,
            at: message.at,
            exit_code: message.exit_code,
            error: message.error,
            summary: message.summary,
            log_truncated: message.log_truncated,
        };
        let ended = self.fleet.inner.store.write(move |tx| jobs::finish(tx, id, host, &end, Some(last_seq))).await?;
        self.routes.remove(&id);
        Ok(match ended {
            jobs::Ended::Recorded | jobs::Ended::Already => {
                Answer::Ack(Ack { job_id: id, seq: last_seq, finished: true })
            }
            jobs::Ended::MissingLines(seq) => Answer::Ack(Ack { job_id: id, seq, finished: false }),
            jobs::Ended::Unknown => refuse_unknown(&id.to_string()),
        })
    }
}

/// What an agent may say of entries that it cannot follow: it is stored and shown.
fn bounded(mut rejected: Vec<ScheduleRejection>) -> Vec<ScheduleRejection> {
    rejected.truncate(500);
    for entry in &mut rejected {
        entry.reason = entry.reason.chars().filter(|c| !c.is_control()).take(500).collect();
    }
    rejected
}

/// One answer for a job that is not there and for one of another host: an agent learns nothing of others.
fn refuse_unknown(id: &str) -> Answer {
    Answer::Refuse { code: "unknown_job", message: format!("this host has no job {id}; nothing was stored") }
}

/// Opens jobs that ended here before an agent had taken them, and that the agent names all the same: its moment was answered while it began to run alone, or its order
/// came over the connection before while this one was made.
async fn open_again(fleet: &Fleet, host: HostId, known: &[KnownJob]) -> Result<(), StoreError> {
    if known.is_empty() {
        return Ok(());
    }
    let named: Vec<JobId> = known.iter().map(|job| job.job_id).collect();
    let untaken = fleet.inner.store.read(move |db| {
        let mut found = Vec::new();
        for id in named {
            if jobs::ended_untaken(db, id, host)? {
                found.push(id);
            }
        }
        Ok::<_, StoreError>(found)
    });
    let untaken = untaken.await?;
    if untaken.is_empty() {
        return Ok(());
    }
    let open =
        move |tx: &mut crate::store::WriteTx<'_>| untaken.iter().try_for_each(|id| moments::runs_alone(tx, *id, host));
    fleet.inner.store.write(open).await
}

/// What a hello came to.
pub(super) struct Greeting {
    pub(super) welcome: Welcome,
    /// What became of the moments that it named: goes out after the welcome.
    pub(super) fired: Vec<ScheduleFired>,
    /// Jobs that it named as not over, and that were given up as lost here.
    pub(super) returned: Vec<JobId>,
}

/// What `hello` is answered with; and the books put right by what the agent knows: an order that it has is accepted, one that it does not have
/// goes back to the queue, a job that it had and no longer knows has failed. Moments that came while the server was away are taken first, so that
/// what ran by itself is known by then; their answers go out after the welcome.
pub(super) async fn welcome(
    fleet: &Fleet,
    host: &Host,
    generation: u64,
    hello: Hello,
) -> Result<Result<Greeting, VersionMismatch>, StoreError> {
    let protocol = match PROTOCOL.agree(hello.protocol) {
        Ok(protocol) => protocol,
        Err(mismatch) => return Ok(Err(mismatch)),
    };
    let mut welcome = Welcome {
        protocol,
        host_id: host.id,
        heartbeat_s: fleet.inner.options.heartbeat.as_secs().max(1),
        acked: std::collections::BTreeMap::new(),
        finished: Vec::new(),
    };
    let fired = fires::take(fleet, host.id, hello.fires, &hello.jobs).await?;
    let (id, known) = (host.id, hello.jobs.clone());
    open_again(fleet, id, &known).await?;
    let books = fleet.inner.store.read(move |db| Books::read(db, id, &known)).await?;
    for (job, route) in &books.known {
        welcome.acked.insert(*job, route.log_lines);
        if route.status.is_final() && route.status != JobStatus::Lost {
            welcome.finished.push(*job);
        }
    }
    let runs = |id: &JobId| hello.jobs.iter().any(|job| job.job_id == *id && job.state == KnownJobState::Running);
    let lost = books.known.iter().filter(|(id, route)| route.status == JobStatus::Lost && runs(id));
    let returned = lost.map(|(id, _)| *id).collect();
    let facts = hosts::Facts {
        os: hello.os,
        arch: hello.arch,
        hostname: hello.hostname,
        agent_version: hello.agent_version,
        restic_version: hello.restic_version,
        boot_id: hello.boot_id,
    };
    // Connecting costs no write where nothing is new: a fleet that comes back at once must not queue for the disk. The first time is new: an
    // agent that goes again before its signs of life are noted must not count as one that was never here.
    let holds = hello.schedule_version;
    let news = books.holds != holds || books.needs_write(&hello.jobs);
    if news || !host_has(host, &facts) || host.last_seen_at.is_none() {
        let (jobs_known, inner) = (hello.jobs, fleet.inner.clone());
        let put_right = move |tx: &mut crate::store::WriteTx<'_>| {
            // A hello that a newer connection has overtaken knows nothing of what came over that one.
            if inner.registry.is_overtaken(id, generation) {
                return Ok(());
            }
            if books.holds != holds {
                hosts::note_schedule_ack(tx, id, holds, &[])?;
            }
            books.put_right(tx, id, &jobs_known, &facts)
        };
        fleet.inner.store.write(put_right).await?;
    }
    Ok(Ok(Greeting { welcome, fired, returned }))
}

fn host_has(host: &Host, facts: &hosts::Facts) -> bool {
    host.os.as_ref() == Some(&facts.os)
        && host.arch.as_ref() == Some(&facts.arch)
        && host.hostname.as_ref() == Some(&facts.hostname)
        && host.agent_version.as_ref() == Some(&facts.agent_version)
        && host.restic_version == facts.restic_version
}

/// What the store has of a host's jobs when its agent connects.
struct Books {
    known: Vec<(JobId, jobs::Route)>,
    held: Vec<(JobId, jobs::Route)>,
    unaccepted: bool,
    /// Version of the schedule set that the agent had when it was last heard.
    holds: u64,
}

impl Books {
    fn read(db: &Db, host: HostId, known: &[KnownJob]) -> Result<Self, StoreError> {
        let mut routes = Vec::with_capacity(known.len());
        for job in known {
            if let Some(route) = jobs::route(db, job.job_id)?.filter(|route| route.host_id == host) {
                routes.push((job.job_id, route));
            }
        }
        let holds = hosts::schedule_state(db, host)?.map_or(0, |(_, _, state)| state.acked);
        let (held, unaccepted) = (jobs::held_by(db, host)?, jobs::has_unaccepted(db, host)?);
        Ok(Self { known: routes, held, unaccepted, holds })
    }

    fn forgotten(&self, known: &[KnownJob]) -> impl Iterator<Item = JobId> {
        self.held.iter().map(|(id, _)| *id).filter(|id| !known.iter().any(|job| job.job_id == *id))
    }

    fn needs_write(&self, known: &[KnownJob]) -> bool {
        self.unaccepted
            || self.forgotten(known).next().is_some()
            || self.known.iter().any(|(_, route)| route.status == JobStatus::Queued)
    }

    fn put_right(
        &self,
        tx: &mut crate::store::WriteTx<'_>,
        host: HostId,
        known: &[KnownJob],
        facts: &hosts::Facts,
    ) -> Result<(), StoreError> {
        hosts::set_facts(tx, host, facts)?;
        hosts::seen(tx, &[(host, tx.now())])?;
        for job in known.iter().filter(|job| matches!(job.state, KnownJobState::Running | KnownJobState::Ended)) {
            jobs::accepted(tx, job.job_id, host)?;
        }
        jobs::requeue_unaccepted(tx, host)?;
        for id in self.forgotten(known) {
            jobs::finish(tx, id, host, &forgotten_end(tx.now()), None)?;
        }
        Ok(())
    }
}

fn forgotten_end(at: Timestamp) -> End {
    End {
        status: JobStatus::Failed,
        at,
        exit_code: None,
        error: Some(
            "the agent came back and no longer knows this job: it was restarted, or its state was lost, while the job ran. \
             What was uploaded stays and is used by the next run; run it again"
                .to_owned(),
        ),
        summary: None,
        log_truncated: false,
    }
}
