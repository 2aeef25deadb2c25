//! A download: restic's output straight into a request to the server, which hands it on to a browser that waits. Nothing of it touches the disk, restic is no
//! faster than the browser, and the request's body ends well only where restic did. Such a job hangs on this process of the agent.

use std::{collections::HashMap, io, time::Duration};

use bytes::Bytes;
use flotilla_proto::{DumpForm, DumpResult, DumpSpec, JobStatus, NodeKind, Stream, download_path};
use http::StatusCode;
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use super::{
    not_run,
    run::{Done, Job, Step, early, stopped_early},
};
use crate::{
    errand::{Errand, ErrandBody, ErrandError},
    process::{self, Cause, Exit, Launch, Limits, Poured, RawLine, Stop, StopSignal, Watcher},
    restic::{
        command::{OrderError, Session, dumped, dumped_path},
        exit::{self, Run, Trouble},
        output::Task,
        preflight,
        records::{self, Member},
        redact::Redacted,
        report::Reporter,
    },
    sink::JobOutcome,
};

mod packing;

use packing::Joint;

/// Pieces of at most 64 KiB that wait between restic and the network; where so many do, restic waits.
const PIECES: usize = 4;

type Taker = mpsc::Sender<io::Result<Bytes>>;

impl Job<'_> {
    /// Sends what the order asks for, and judges.
    pub(super) async fn dump(&self, session: &Session, sink: &Redacted, stop: &mut StopSignal) -> Step<Done> {
        let errands = self.around.errands.clone().ok_or_else(|| early(ErrandError::Nobody))?;
        let spec = dumped(self.order).map_err(early)?;
        let members = self.dumpable(session, sink, stop).await?;
        self.hangs_on_this_process()?;
        let (taker, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let errand = Errand {
            path: download_path(self.order.job_id),
            body: ErrandBody::Stream(pieces),
            patience: self.deadline.saturating_duration_since(Instant::now()),
        };
        let mut reporter = Reporter::new(sink, Task::Other);
        let limits = self.limits(Task::Restore);
        let mut post = errands.post(errand);
        let mut answer = None;
        let sent = {
            let mut sending = Sending { session, spec, limits: &limits, taker: &taker, bytes: 0 };
            let all = sending.all(&members, stop, &mut reporter);
            tokio::pin!(all);
            loop {
                tokio::select! {
                    sent = &mut all => break sent,
                    got = &mut post, if answer.is_none() => answer = Some(got),
                }
            }
        };
        // What follows a run that broke drops the request with its connection: a part never ends as if it were the whole.
        let sent = sent?;
        if is_good(&sent) {
            drop(taker);
            if answer.is_none() {
                answer = Some(tokio::select! {
                    got = &mut post => got,
                    wish = stop.wait_for(Option::is_some) => return Err(wished(wish.ok().and_then(|wish| *wish))),
                });
            }
        }
        drop(post);
        let error = answer.and_then(Result::err);
        let transcript = reporter.transcript;
        Ok(Done::Ended(if sent.unwanted || (sent.exit.code == 0 && error.is_some()) {
            broken_off(sent, error)
        } else {
            let end = exit::judge(Run {
                kind: &self.order.kind,
                operation: self.order.operation.as_ref(),
                may_lack_snapshot: false,
                exit: sent.exit,
                transcript,
                timeout: Duration::from_secs(self.order.timeout_s),
                idle: limits.idle,
                grace: limits.grace,
                restored: None,
                picked_paths: false,
            });
            JobOutcome { summary: Some(json!(DumpResult { bytes: sent.bytes })), ..end }
        }))
    }

    /// Looks before anything is sent: restic packs a folder that is asked for as a file, and sends a file as it is where an archive is wished. Gives what is to
    /// be sent, in the order in which it was asked for.
    async fn dumpable(&self, session: &Session, sink: &Redacted, stop: &mut StopSignal) -> Step<Vec<Member>> {
        let spec = dumped(self.order).map_err(early)?;
        let launch = session.look_at_dumped(spec).map_err(early)?;
        let wanted = spec.picks().iter().map(|path| (dumped_path(path), None)).collect();
        let mut looking = Looking { reporter: Reporter::quiet(sink), wanted };
        let limits = Limits { idle: None, ..self.limits(Task::Ls) };
        let exit = process::supervise(&launch, &limits, stop, &mut looking).await;
        let exit = exit.map_err(|e| early(preflight::cannot_start(&launch, &e)))?;
        let Looking { reporter, wanted } = looking;
        let said = reporter.transcript;
        if let Some(Cause::Asked(wish)) = exit.stopped {
            return Err(stopped_early(wish));
        }
        if exit.code != 0 || exit.stopped.is_some() {
            return Err(Done::Ended(JobOutcome {
                exit_code: Some(exit.code),
                ..not_run(&exit::failure(exit.code, &said))
            }));
        }
        let no_snapshot = said.error_text().contains("no matching ID found");
        let mut members = Vec::with_capacity(spec.picks().len());
        for path in spec.picks() {
            let found = wanted.get(dumped_path(path)).cloned().flatten();
            let member = found.ok_or_else(|| {
                if no_snapshot {
                    early(Trouble::NoSnapshot.advice())
                } else {
                    early(format!("the snapshot holds no {path}. Look whether another snapshot has it"))
                }
            })?;
            fits(&member, spec).map_err(early)?;
            members.push(member);
        }
        Ok(members)
    }
}

/// Whether an entry can be sent as the order wishes.
fn fits(member: &Member, spec: &DumpSpec) -> Result<(), String> {
    let path = &member.path;
    match (member.kind, spec.form) {
        (NodeKind::Dir, DumpForm::File) => Err(format!("{path} is a folder: download it as tar or zip")),
        (NodeKind::File, DumpForm::Tar | DumpForm::Zip) if spec.paths.is_empty() => {
            Err(format!("{path} is a file: download it as it is"))
        }
        (NodeKind::Dir | NodeKind::File, _) => Ok(()),
        _ => Err(format!("{path} is neither a file nor a folder: restore it instead")),
    }
}

fn is_good(sent: &Poured) -> bool {
    sent.exit.code == 0 && sent.exit.stopped.is_none() && !sent.unwanted
}

fn wished(wish: Option<Stop>) -> Done {
    wish.map_or_else(|| early(ErrandError::Nobody), stopped_early)
}

/// Takes from a list what is wanted of it.
struct Looking<'a> {
    reporter: Reporter<'a>,
    wanted: HashMap<&'a str, Option<Member>>,
}

impl Watcher for Looking<'_> {
    fn started(&mut self, _: Option<u32>) {}

    fn line(&mut self, stream: Stream, line: RawLine) -> bool {
        if stream == Stream::Stderr {
            return self.reporter.line(stream, line);
        }
        if let Some(member) = records::member(&String::from_utf8_lossy(&line.bytes))
            && let Some(place) = self.wanted.get_mut(member.path.as_str())
        {
            *place = Some(member);
        }
        true
    }

    fn stopping(&mut self, cause: Cause, grace: Duration) {
        self.reporter.stopping(cause, grace);
    }
}

/// One or several runs of restic, one behind the other, into one request.
struct Sending<'a> {
    session: &'a Session,
    spec: &'a DumpSpec,
    limits: &'a Limits,
    taker: &'a Taker,
    /// What left so far.
    bytes: u64,
}

impl Sending<'_> {
    /// Sends all of it, or up to the first run that did not end well. `bytes` of what it gives are those of all runs.
    async fn all(&mut self, members: &[Member], stop: &mut StopSignal, reporter: &mut Reporter<'_>) -> Step<Poured> {
        let packed = !self.spec.paths.is_empty();
        let mut last = Poured { exit: Exit { code: 0, stopped: None, killed: false }, bytes: 0, unwanted: false };
        for member in members {
            if packed && !self.put(packing::head(member), stop).await? {
                return Ok(Poured { unwanted: true, bytes: self.bytes, ..last });
            }
            let joint = if packed { Joint::of(member) } else { Joint::Whole };
            let form = match member.kind {
                NodeKind::File => DumpForm::File,
                _ => self.spec.form,
            };
            let launch = self.session.dump(self.spec, &member.path, form);
            last = self.one(member, launch, joint, stop, reporter).await?;
            if !is_good(&last) {
                return Ok(last);
            }
        }
        let unwanted = packed && !self.put(Bytes::from_static(packing::END), stop).await?;
        Ok(Poured { unwanted, bytes: self.bytes, ..last })
    }

    async fn one(
        &mut self,
        member: &Member,
        launch: Result<Launch, OrderError>,
        mut joint: Joint,
        stop: &mut StopSignal,
        reporter: &mut Reporter<'_>,
    ) -> Step<Poured> {
        let launch = launch.map_err(early)?;
        let poured = process::pour(&launch, self.limits, stop, reporter, &mut joint, self.taker).await;
        let poured = poured.map_err(|e| early(preflight::cannot_start(&launch, &e)))?;
        self.bytes += poured.bytes;
        let poured = Poured { bytes: self.bytes, ..poured };
        if !is_good(&poured) {
            return Ok(poured);
        }
        let rest =
            joint.finish().map_err(|why| early(format!("{} can't be packed: {why}. Look at the log", member.path)))?;
        let unwanted = !self.put(rest, stop).await?;
        Ok(Poured { unwanted, bytes: self.bytes, ..poured })
    }

    /// Sends what restic does not. Returns whether it was taken.
    async fn put(&mut self, piece: Bytes, stop: &mut StopSignal) -> Step<bool> {
        if piece.is_empty() {
            return Ok(true);
        }
        let size = piece.len() as u64;
        tokio::select! {
            taken = self.taker.send(Ok(piece)) => {
                self.bytes += size;
                Ok(taken.is_ok())
            }
            wish = stop.wait_for(Option::is_some) => Err(wished(wish.ok().and_then(|wish| *wish))),
        }
    }
}

/// Nobody took all of it.
fn broken_off(poured: Poured, error: Option<ErrandError>) -> JobOutcome {
    let gone = |status: StatusCode| matches!(status, StatusCode::GONE | StatusCode::REQUEST_TIMEOUT);
    let (status, why) = match error {
        None | Some(ErrandError::Broken(_)) => (
            JobStatus::Cancelled,
            "the download was broken off before all was sent: the browser went away, or the connection to the server broke. Begin it again".to_owned(),
        ),
        Some(ErrandError::Refused { status, reason }) if gone(status) => {
            (JobStatus::Cancelled, format!("the download was broken off: {reason}. Begin it again"))
        }
        Some(error) => (JobStatus::Failed, format!("what was to be downloaded could not be sent: {error}")),
    };
    JobOutcome {
        status,
        error: Some(why),
        exit_code: Some(poured.exit.code),
        summary: Some(json!(DumpResult { bytes: poured.bytes })),
    }
}
