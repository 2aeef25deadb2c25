//! A repository behind two doors, append-only and not, a few snapshots in it, and a guard that answers as a test wishes.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flotilla_agent::{
    errand::{Errand, ErrandBody, ErrandError, Errands},
    runner::BoxFuture,
    sink::JobOutcome,
};
use flotilla_proto::{
    CommandRun, GuardAnswer, GuardRequest, JobKind, JobStatus, Operation, Record, RepoSpec, SnapshotRecord, Stream,
};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::harness::{Agent, Memory, RestServer, backup, noise, of_kind, restic};

type Decide = dyn Fn(&GuardRequest) -> GuardAnswer + Send + Sync;

/// A guard, and what it was asked.
pub(crate) struct Guard {
    decide: Box<Decide>,
    pub(crate) asked: Mutex<Vec<GuardRequest>>,
}

impl Guard {
    pub(crate) fn new(decide: impl Fn(&GuardRequest) -> GuardAnswer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { decide: Box::new(decide), asked: Mutex::default() })
    }

    /// Lets the rules have their way.
    pub(crate) fn content() -> Arc<Self> {
        Self::new(|request| GuardAnswer { remove: doomed(request), ..GuardAnswer::default() })
    }
}

/// What the rules would remove.
pub(crate) fn doomed(request: &GuardRequest) -> Vec<String> {
    request.fates.iter().filter(|fate| fate.kept_by.is_empty()).map(|fate| fate.snapshot.id.clone()).collect()
}

impl Errands for Guard {
    fn post(&self, errand: Errand) -> BoxFuture<'_, Result<Bytes, ErrandError>> {
        let ErrandBody::Json(text) = errand.body else { panic!("a guard is asked in JSON") };
        assert!(errand.path.ends_with("/guard"), "{}", errand.path);
        let request: GuardRequest = serde_json::from_slice(&text).unwrap();
        let answer = serde_json::to_vec(&(self.decide)(&request)).unwrap();
        self.asked.lock().unwrap().push(request);
        Box::pin(std::future::ready(Ok(Bytes::from(answer))))
    }
}

/// One version's agent and its repository.
pub(crate) struct Bench {
    pub(crate) version: &'static str,
    pub(crate) agent: Agent,
    pub(crate) endpoint: RestServer,
    pub(crate) maintenance: RestServer,
    work: TempDir,
    next: u128,
}

impl Bench {
    pub(crate) fn new(version: &'static str) -> Self {
        let endpoint = RestServer::start();
        let maintenance = endpoint.maintenance();
        let agent = Agent::new(&restic(version));
        Self { version, agent, endpoint, maintenance, work: tempfile::tempdir().unwrap(), next: 0 }
    }

    pub(crate) fn guarded(version: &'static str, guard: &Arc<Guard>) -> Self {
        let bench = Self::new(version);
        bench.agent.executor.set_errands(guard.clone());
        bench
    }

    /// As an endpoint may use it.
    pub(crate) fn repo(&self) -> RepoSpec {
        self.endpoint.ready_repo("r")
    }

    /// As maintenance may use it.
    pub(crate) fn open_repo(&self) -> RepoSpec {
        RepoSpec { memory_only: true, ..self.maintenance.ready_repo("r") }
    }

    pub(crate) fn number(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.work.path().join("source")
    }

    /// Makes so many snapshots.
    pub(crate) async fn snapshots(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.number();
            fs::write(self.source(), noise(200_000, number as u64)).unwrap();
            let (end, memory) = self.agent.run(&backup(number, self.repo(), &[&self.source()])).await;
            assert_eq!(end.status, JobStatus::Succeeded, "{}: {end:?}\n{}", self.version, memory.text());
        }
    }

    pub(crate) async fn run(
        &mut self,
        kind: JobKind,
        repo: RepoSpec,
        operation: Option<Operation>,
    ) -> (JobOutcome, Arc<Memory>) {
        let order = CommandRun { operation, ..of_kind(self.number(), kind, repo) };
        self.agent.run(&order).await
    }

    /// The same, which must go well.
    pub(crate) async fn good<T: DeserializeOwned>(
        &mut self,
        kind: JobKind,
        repo: RepoSpec,
        operation: Option<Operation>,
    ) -> (T, Arc<Memory>) {
        let (end, memory) = self.run(kind, repo, operation).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{}: {end:?}\n{}", self.version, memory.text());
        (result(&end), memory)
    }

    /// Ids that are there, the oldest first.
    pub(crate) async fn ids(&mut self) -> Vec<String> {
        let (end, memory) = self.run(JobKind::Snapshots, self.repo(), None).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
        let mut list = listed(&memory);
        list.sort_by_key(|snapshot| snapshot.time);
        list.into_iter().map(|snapshot| snapshot.id).collect()
    }
}

/// The typed result of an end.
pub(crate) fn result<T: DeserializeOwned>(end: &JobOutcome) -> T {
    serde_json::from_value(end.summary.clone().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {end:?}"))
}

pub(crate) fn records(memory: &Memory) -> Vec<Record> {
    memory.look(|seen| {
        let stdout = seen.lines.iter().filter(|(stream, _)| *stream == Stream::Stdout);
        stdout.filter_map(|(_, line)| Record::of_line(line)).collect()
    })
}

/// The snapshots that were told.
pub(crate) fn listed(memory: &Memory) -> Vec<SnapshotRecord> {
    let snapshot = |record| if let Record::Snapshot(snapshot) = record { Some(snapshot) } else { None };
    records(memory).into_iter().filter_map(snapshot).collect()
}
