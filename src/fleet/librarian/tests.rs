use serde_json::json;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        HostId, JobId, Line, LineText, Stream, Timestamp,
        job::{End, JobInput, NewJob},
        snapshot::IndexState,
    },
    fleet::{FleetOptions, FleetParts},
    hub::Hub,
    lifecycle::Tasks,
    ops::repos::{self, RepoInput},
    store::{
        Append, EncodedLines, Store, hosts, jobs,
        snapshots::{SnapshotFilter, list},
    },
    vault::Vault,
};

struct Bench {
    fleet: Fleet,
    repo: RepoId,
    clock: std::sync::Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

const SNAPSHOT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn host() -> HostId {
    HostId::from_parts(1, 1)
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (hub, clock) = (Hub::new(), ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000)));
    let store = Store::open(dir.path(), hub.clone(), clock.clone()).unwrap();
    let (vault, _) = Vault::open(None, &dir.path().join("master.key")).unwrap();
    let input = RepoInput {
        name: "vault".to_owned(),
        url: "rest:http://127.0.0.1:1/".to_owned(),
        password: "secret".into(),
        ..RepoInput::default()
    };
    let repo = repos::create(&store, &vault, Actor::system(), input).await.unwrap().id;
    store
        .write(|tx| {
            let facts = hosts::Facts { restic_version: Some("0.18.0".to_owned()), ..hosts::Facts::default() };
            let new = hosts::NewHost {
                id: host(),
                name: "web-1".to_owned(),
                tags: Vec::new(),
                token_hash: Some(crate::credential::hash("web-1")),
                enrol_token: None,
                facts,
            };
            hosts::insert(tx, &new)
        })
        .await
        .unwrap();
    let parts = FleetParts { store, hub, vault, clock: clock.clone(), tasks: Tasks::new() };
    Bench { fleet: Fleet::at_rest(parts, FleetOptions::default()), repo, clock, _dir: dir }
}

impl Bench {
    fn store(&self) -> &Store {
        &self.fleet.inner.store
    }

    /// A job that printed these lines and ended so.
    async fn ended(
        &self,
        n: u128,
        kind: JobKind,
        operation: Option<Operation>,
        lines: Vec<String>,
        end: (JobStatus, serde_json::Value),
    ) {
        let id = JobId::from_parts(1, n);
        let job = NewJob {
            about: Default::default(),
            repo_id: Some(self.repo),
            input: JobInput { operation, ..JobInput::default() },
            ..NewJob::bare(id, host(), kind)
        };
        let no = self.store().write(move |tx| jobs::insert(tx, &job)).await.unwrap();
        let at = self.fleet.inner.clock.now();
        self.store().write(move |tx| jobs::started(tx, id, host(), at, bytes::Bytes::new())).await.unwrap();
        let line = |(seq, text): (u32, String)| Line { seq, at, stream: Stream::Stdout, text: LineText(text.into()) };
        let lines: Vec<Line<'static>> = (1..).zip(lines).map(line).collect();
        if !lines.is_empty() {
            let append = Append { job: (no, id), lines: EncodedLines::of(&lines), frame: bytes::Bytes::new() };
            self.store().append(append).await.unwrap().await.unwrap().unwrap();
        }
        let (status, summary) = end;
        let end = End { status, at, exit_code: Some(0), error: None, summary: Some(summary), log_truncated: false };
        self.store().write(move |tx| jobs::finish(tx, id, host(), &end, None)).await.unwrap();
    }

    async fn look(&self) {
        let mut librarian = Librarian { fleet: self.fleet.clone(), ordered: VecDeque::new(), put_off: HashSet::new() };
        librarian.look().await.unwrap();
    }

    async fn listed(&self) -> usize {
        let filter = SnapshotFilter { repo_id: Some(self.repo), ..SnapshotFilter::default() };
        self.store().read(move |db| list(db, &filter)).await.unwrap().len()
    }

    async fn state(&self) -> IndexState {
        let repo = self.repo;
        self.store().read(move |db| snapshots::index_state(db, repo)).await.unwrap().unwrap()
    }

    async fn lists_ordered(&self) -> usize {
        let filter = jobs::JobFilter { kind: Some(JobKind::Snapshots), ..jobs::JobFilter::default() };
        self.store().read(move |db| jobs::list(db, &filter)).await.unwrap().len()
    }
}

fn snapshot_line() -> String {
    json!({"snapshot": {"id": SNAPSHOT, "time": "2026-11-20T08:00:00Z", "hostname": "web-1", "paths": ["/etc"]}})
        .to_string()
}

#[tokio::test]
async fn a_whole_list_comes_into_the_index_and_other_text_in_the_log_is_nothing_to_it() {
    let bench = bench().await;
    let lines = vec!["using parent".to_owned(), snapshot_line(), "{\"odd\":1}".to_owned()];
    bench.ended(1, JobKind::Snapshots, None, lines, (JobStatus::Succeeded, json!({"count": 1}))).await;
    assert!(bench.state().await.under_way);
    bench.look().await;
    assert_eq!(bench.listed().await, 1);
    let state = bench.state().await;
    assert!(!state.under_way && state.indexed_at.is_some());
}

#[tokio::test]
async fn a_list_with_fewer_records_than_its_end_counts_is_not_taken() {
    let bench = bench().await;
    bench.ended(1, JobKind::Snapshots, None, vec![snapshot_line()], (JobStatus::Succeeded, json!({"count": 2}))).await;
    bench.look().await;
    let state = bench.state().await;
    assert_eq!((bench.listed().await, state.indexed_at, state.under_way), (0, None, false));
}

#[tokio::test]
async fn a_listed_folder_comes_into_the_cache_and_a_failed_one_makes_the_index_stale() {
    let bench = bench().await;
    bench.ended(1, JobKind::Snapshots, None, vec![snapshot_line()], (JobStatus::Succeeded, json!({"count": 1}))).await;
    bench.look().await;
    let ls = || Some(Operation::Ls(LsSpec { snapshot: SNAPSHOT.to_owned(), path: "/etc".to_owned() }));
    let node = |name: &str| json!({"node": {"name": name, "kind": "file", "size": 3}}).to_string();
    let nodes = (0..4_500).map(|n| node(&format!("f{n}"))).collect();
    bench.ended(2, JobKind::Ls, ls(), nodes, (JobStatus::Succeeded, json!({"count": 4500}))).await;
    bench.look().await;
    let repo = bench.repo;
    let folder = bench
        .store()
        .read(move |db| {
            let snapshot = snapshots::lookup(db, repo, SNAPSHOT)?.unwrap();
            trees::folder(db, snapshot.no, "/etc")
        })
        .await
        .unwrap();
    assert_eq!(folder.unwrap().entries, Some(4_500));
    assert_eq!(bench.state().await.stale_at, None);
    bench.ended(3, JobKind::Ls, ls(), vec![], (JobStatus::Failed, json!(null))).await;
    bench.look().await;
    assert!(bench.state().await.stale_at.is_some(), "the snapshot may be gone: a list will tell");
}

#[tokio::test]
async fn what_changes_snapshots_without_listing_them_makes_the_index_stale() {
    let bench = bench().await;
    bench.ended(1, JobKind::Forget, None, vec![], (JobStatus::Succeeded, json!({"removed": 3}))).await;
    bench.look().await;
    assert!(bench.state().await.stale_at.is_some());
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_orders_no_list() {
    let bench = bench().await;
    let spec = crate::domain::ForgetSpec { dry_run: true, ..Default::default() };
    let end = (JobStatus::Succeeded, json!({"removed": 3, "dry_run": true}));
    bench.ended(1, JobKind::Forget, Some(Operation::Forget(spec)), vec![], end).await;
    bench.look().await;
    let state = bench.state().await;
    assert_eq!((state.stale_at, state.under_way), (None, false));
}

#[tokio::test]
async fn a_counted_list_behind_a_change_is_taken_at_once_also_where_the_change_failed() {
    for status in [JobStatus::Succeeded, JobStatus::Failed] {
        let bench = bench().await;
        let end = (status, json!({"changed": 0, "count": 1}));
        bench.ended(1, JobKind::Tag, None, vec![snapshot_line()], end).await;
        bench.look().await;
        let state = bench.state().await;
        assert_eq!((bench.listed().await, state.stale_at), (1, None), "{status:?}");
        assert!(state.indexed_at.is_some());
    }
}

#[tokio::test]
async fn a_list_is_ordered_once_and_only_where_a_host_is_there_to_make_it() {
    let bench = bench().await;
    bench.ended(1, JobKind::Backup, None, vec![], (JobStatus::Succeeded, json!({}))).await;
    bench.look().await;
    assert_eq!(bench.lists_ordered().await, 0, "its only host is away");
    bench.fleet.inner.hub.arrived(host(), 1, bench.fleet.inner.clock.now());
    bench.look().await;
    bench.look().await;
    assert_eq!(bench.lists_ordered().await, 1);
    bench.clock.advance(3 * 86_400);
    bench.look().await;
    assert_eq!(bench.lists_ordered().await, 1, "the first still waits");
}
