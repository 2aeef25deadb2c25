use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        JobKind, JobStatus, SnapshotRecord,
        job::{End, NewJob},
    },
    hub::Hub,
    store::{
        Store, hosts,
        jobs::{self, Ended},
        repos::{self, RepoFields, SealedSecrets},
    },
};

const NOW: i64 = 1_795_248_000_000;

struct Bench {
    store: Store,
    clock: std::sync::Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

fn repo() -> RepoId {
    RepoId::from_parts(1, 1)
}

fn host() -> HostId {
    HostId::from_parts(1, 1)
}

fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

fn id(n: u64) -> String {
    format!("{n:064x}")
}

fn at(s: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOW).plus_s(s)
}

/// A host `web-1` and a repository.
async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(at(0));
    let store = Store::open(dir.path(), Hub::new(), clock.clone()).unwrap();
    store
        .write(|tx| {
            let fields = RepoFields {
                name: "vault".to_owned(),
                url: "/srv/r".to_owned(),
                username: None,
                append_only: false,
                init: true,
                tls_ca_pem: None,
            };
            repos::insert(tx, repo(), &fields, &SealedSecrets { sealed: vec![1], names: vec![] })?;
            add_host(tx, 1, "web-1")
        })
        .await
        .unwrap();
    Bench { store, clock, _dir: dir }
}

fn add_host(tx: &mut WriteTx<'_>, n: u128, name: &str) -> Result<(), StoreError> {
    let new = hosts::NewHost {
        id: HostId::from_parts(1, n),
        name: name.to_owned(),
        tags: Vec::new(),
        token_hash: None,
        enrol_token: None,
        facts: hosts::Facts { restic_version: Some("0.18.0".to_owned()), ..hosts::Facts::default() },
    };
    hosts::insert(tx, &new).map(|_| ())
}

fn record(n: u64, time: i64) -> SnapshotRecord {
    SnapshotRecord {
        id: id(n),
        time: Some(at(time)),
        hostname: "web-1".to_owned(),
        paths: vec!["/etc".to_owned(), "/srv/www".to_owned()],
        tags: vec!["nightly".to_owned()],
        tree: format!("tree{n}"),
        ..SnapshotRecord::default()
    }
}

impl Bench {
    async fn order(&self, n: u128, kind: JobKind, input: JobInput) -> JobNo {
        let new = NewJob { repo_id: Some(repo()), input, ..NewJob::bare(job(n), host(), kind) };
        self.store.write(move |tx| jobs::insert(tx, &new)).await.unwrap()
    }

    async fn end(&self, n: u128, status: JobStatus, summary: serde_json::Value) -> Ended {
        let end =
            End { status, at: at(0), exit_code: Some(0), error: None, summary: Some(summary), log_truncated: false };
        self.store.write(move |tx| jobs::finish(tx, job(n), host(), &end, None)).await.unwrap()
    }

    /// A backup that ends with this snapshot.
    async fn back_up(&self, n: u128, snapshot: &str) {
        let input = JobInput { args: vec!["/etc".to_owned()], ..JobInput::default() };
        self.order(n, JobKind::Backup, input).await;
        self.end(n, JobStatus::Succeeded, serde_json::json!({"snapshot_id": snapshot, "total_bytes_processed": 42}))
            .await;
    }

    /// A whole list that was begun now.
    async fn list(&self, kind: JobKind, records: Vec<SnapshotRecord>) {
        let listed = Listed { repo: repo(), job: job(99), kind, from: at(0).max(self.now()) };
        self.take(listed, records).await;
    }

    fn now(&self) -> Timestamp {
        use crate::clock::Clock as _;
        self.clock.now()
    }

    async fn take(&self, listed: Listed, records: Vec<SnapshotRecord>) {
        let reading = listed.clone();
        let known = self.store.read(move |db| known(db, reading.repo)).await.unwrap();
        for step in compare(&listed, records, known).steps() {
            let listed = listed.clone();
            self.store.write(move |tx| apply(tx, &listed, &step)).await.unwrap();
        }
        self.store.write(move |tx| conclude(tx, &listed)).await.unwrap();
    }

    async fn found(&self, filter: SnapshotFilter) -> Vec<Snapshot> {
        self.store.read(move |db| list(db, &filter)).await.unwrap()
    }

    async fn ids(&self, filter: SnapshotFilter) -> Vec<u64> {
        let found = self.found(filter).await;
        found.iter().map(|snapshot| u64::from_str_radix(&snapshot.id, 16).unwrap()).collect()
    }

    async fn one(&self, n: u64) -> Snapshot {
        self.store.read(move |db| lookup(db, repo(), &id(n))).await.unwrap().unwrap()
    }
}

fn all() -> SnapshotFilter {
    SnapshotFilter { repo_id: Some(repo()), ..SnapshotFilter::default() }
}

#[tokio::test]
async fn a_backups_end_writes_its_snapshot_and_the_next_list_says_what_it_really_is() {
    let bench = bench().await;
    bench.back_up(1, &id(7)).await;
    let claim = bench.one(7).await;
    assert_eq!((claim.job_id, claim.hostname.as_str(), claim.bytes), (Some(job(1)), "web-1", Some(42)));
    assert_eq!(claim.host.as_ref().map(|host| host.id), Some(host()));
    assert_eq!(claim.paths, ["/etc"]);
    bench.clock.advance(60);
    bench.list(JobKind::Snapshots, vec![record(7, 3)]).await;
    let fact = bench.one(7).await;
    assert_eq!((fact.time, fact.first_seen_at, fact.bytes), (at(3), claim.first_seen_at, Some(42)));
    assert_eq!((fact.job_id, fact.no), (claim.job_id, claim.no));
}

#[tokio::test]
async fn a_dry_run_and_a_short_id_make_no_row_and_a_short_one_makes_the_index_stale() {
    let bench = bench().await;
    let dry = JobInput { operation: Some(Operation::Backup(BackupSpec { dry_run: true })), ..JobInput::default() };
    bench.order(1, JobKind::Backup, dry).await;
    bench.end(1, JobStatus::Succeeded, serde_json::json!({"snapshot_id": id(1)})).await;
    let state = async || bench.store.read(|db| index_state(db, repo())).await.unwrap().unwrap();
    assert_eq!(state().await.stale_at, None);
    bench.back_up(2, "5d2d2eac").await;
    assert_eq!(bench.ids(all()).await, [0; 0]);
    assert_eq!(state().await.stale_at, Some(at(0)));
    bench.clock.advance(5);
    bench.list(JobKind::Snapshots, vec![]).await;
    assert_eq!((state().await.stale_at, state().await.indexed_at), (None, Some(at(5))));
}

#[tokio::test]
async fn a_snapshot_that_was_there_before_is_not_taken_for_the_work_of_a_backup_that_names_it() {
    let bench = bench().await;
    bench.list(JobKind::Snapshots, vec![record(7, -1000)]).await;
    bench.clock.advance(60);
    bench.back_up(1, &id(7)).await;
    assert_eq!(bench.one(7).await.job_id, None);
}

#[tokio::test]
async fn what_a_list_lacks_is_gone_and_what_it_has_again_is_back() {
    let bench = bench().await;
    bench.list(JobKind::Snapshots, vec![record(1, -50), record(2, -40)]).await;
    bench.clock.advance(10);
    bench.list(JobKind::Snapshots, vec![record(2, -40)]).await;
    assert_eq!(bench.ids(all()).await, [2]);
    let gone = bench.one(1).await;
    assert_eq!((gone.gone_at, gone.gone_by, gone.first_seen_at), (Some(at(10)), None, at(0)));
    bench.clock.advance(10);
    bench.list(JobKind::Snapshots, vec![record(1, -50), record(2, -40)]).await;
    assert_eq!(bench.ids(all()).await, [2, 1]);
    assert_eq!(bench.one(1).await.first_seen_at, at(0), "first seen is first seen");
}

#[tokio::test]
async fn a_list_that_was_begun_before_knows_nothing_of_what_came_or_went_since() {
    let bench = bench().await;
    bench.list(JobKind::Snapshots, vec![record(1, -50)]).await;
    let old = Listed { repo: repo(), job: job(98), kind: JobKind::Snapshots, from: at(5) };
    bench.clock.advance(10);
    bench.back_up(1, &id(2)).await;
    bench.list(JobKind::Forget, vec![record(2, 10)]).await;
    bench.take(old, vec![record(1, -50)]).await;
    assert_eq!(bench.ids(all()).await, [2], "neither is the new one gone nor the old one back");
}

#[tokio::test]
async fn a_forget_is_named_as_what_removed_a_snapshot_also_where_a_later_list_finds_it_gone() {
    let bench = bench().await;
    bench.list(JobKind::Snapshots, vec![record(1, -50), record(2, -40)]).await;
    bench.clock.advance(10);
    bench.order(5, JobKind::Forget, JobInput::default()).await;
    bench
        .store
        .write(|tx| {
            let end = End {
                status: JobStatus::Succeeded,
                at: tx.now(),
                exit_code: Some(0),
                error: None,
                summary: None,
                log_truncated: false,
            };
            jobs::finish(tx, job(5), host(), &end, None)
        })
        .await
        .unwrap();
    bench.clock.advance(10);
    bench.list(JobKind::Snapshots, vec![record(2, -40)]).await;
    assert_eq!(bench.one(1).await.gone_by, Some(job(5)));
}

#[tokio::test]
async fn a_snapshot_that_was_tagged_anew_keeps_its_pin_and_its_backup() {
    let bench = bench().await;
    bench.back_up(1, &id(1)).await;
    bench.clock.advance(10);
    bench.list(JobKind::Snapshots, vec![record(1, 1)]).await;
    bench
        .store
        .write(|tx| {
            let sql = "UPDATE snapshots SET pinned_at = 1, pinned_by = 'ada', pin_reason = 'audit'";
            Ok::<_, StoreError>(tx.db().execute(sql, [])?)
        })
        .await
        .unwrap();
    bench.clock.advance(10);
    let tagged = SnapshotRecord { id: id(2), original: Some(id(1)), ..record(1, 1) };
    bench.list(JobKind::Tag, vec![tagged]).await;
    let new = bench.one(2).await;
    assert_eq!((new.pin.map(|pin| pin.by), new.job_id), (Some("ada".to_owned()), Some(job(1))));
    assert_eq!(bench.one(1).await.gone_by, Some(job(99)));
}

#[tokio::test]
async fn filters_hold_all_at_once_and_pages_follow_each_other() {
    let bench = bench().await;
    let mut other = record(3, -30);
    (other.hostname, other.tags, other.paths) = ("db".to_owned(), Vec::new(), vec!["/".to_owned()]);
    bench.list(JobKind::Snapshots, vec![record(1, -50), record(2, -40), other, record(4, -40)]).await;
    assert_eq!(bench.ids(all()).await, [3, 4, 2, 1]);
    let pick = async |change: &dyn Fn(&mut SnapshotFilter)| {
        let mut filter = all();
        change(&mut filter);
        bench.ids(filter).await
    };
    assert_eq!(pick(&|f| f.host_id = Some(host())).await, [4, 2, 1]);
    assert_eq!(pick(&|f| f.hostname = Some("db".to_owned())).await, [3]);
    assert_eq!(pick(&|f| f.tag = Some("nightly".to_owned())).await, [4, 2, 1]);
    assert_eq!(pick(&|f| f.path = Some("/etc/hosts".to_owned())).await, [3, 4, 2, 1], "a folder above it, or all");
    assert_eq!(pick(&|f| f.path = Some("/etcetera".to_owned())).await, [3]);
    assert_eq!(pick(&|f| (f.since, f.until) = (Some(at(-45)), Some(at(-30)))).await, [4, 2]);
    let first = bench.found(SnapshotFilter { limit: 2, ..all() }).await;
    let after = first.last().map(|snapshot| snapshot.no);
    assert_eq!(bench.ids(SnapshotFilter { after, ..all() }).await, [2, 1], "equal times are kept apart");
}

#[tokio::test]
async fn repositories_are_listed_together_by_time_page_by_page() {
    let bench = bench().await;
    let second = RepoId::from_parts(1, 2);
    bench
        .store
        .write(move |tx| {
            let fields = RepoFields {
                name: "second".to_owned(),
                url: "/srv/2".to_owned(),
                username: None,
                append_only: false,
                init: true,
                tls_ca_pem: None,
            };
            repos::insert(tx, second, &fields, &SealedSecrets { sealed: vec![1], names: vec![] })
        })
        .await
        .unwrap();
    bench.list(JobKind::Snapshots, vec![record(1, -50), record(2, -40), record(3, -10)]).await;
    let listed = Listed { repo: second, job: job(98), kind: JobKind::Snapshots, from: at(0) };
    bench.take(listed, vec![record(4, -45), record(5, -40), record(6, -5)]).await;
    let everywhere = |after, limit| SnapshotFilter { after, limit, ..SnapshotFilter::default() };
    assert_eq!(bench.ids(everywhere(None, 0)).await, [6, 3, 5, 2, 4, 1]);
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..3 {
        let page = bench.found(everywhere(after, 2)).await;
        after = page.last().map(|snapshot| snapshot.no);
        seen.extend(page.into_iter().map(|snapshot| u64::from_str_radix(&snapshot.id, 16).unwrap()));
    }
    assert_eq!(seen, [6, 3, 5, 2, 4, 1]);
}

#[tokio::test]
async fn a_host_name_belongs_to_the_host_of_that_slug_or_to_whom_a_person_names() {
    let bench = bench().await;
    let mut foreign = record(1, -50);
    foreign.hostname = "old-name".to_owned();
    let mut later = record(2, -40);
    later.hostname = "db".to_owned();
    bench.list(JobKind::Snapshots, vec![foreign, later]).await;
    assert_eq!(bench.one(1).await.host, None);
    let matched = bench.store.write(|tx| match_name(tx, repo(), "old-name", Some(host()))).await.unwrap();
    assert_eq!(matched, 1);
    assert_eq!(bench.one(1).await.host.map(|host| host.name), Some("web-1".to_owned()));
    bench.store.write(|tx| match_name(tx, repo(), "old-name", None)).await.unwrap();
    assert_eq!(bench.one(1).await.host, None);
    // A host that is enrolled later finds its snapshots with the next list.
    bench.store.write(|tx| add_host(tx, 2, "db")).await.unwrap();
    bench.clock.advance(10);
    let mut same = record(2, -40);
    same.hostname = "db".to_owned();
    bench.list(JobKind::Snapshots, vec![same]).await;
    assert_eq!(bench.one(2).await.host.map(|host| host.name), Some("db".to_owned()));
}

#[tokio::test]
async fn an_id_may_be_cut_as_long_as_one_snapshot_alone_begins_so() {
    let bench = bench().await;
    let near = format!("{}1", &id(0)[..63]);
    bench.list(JobKind::Snapshots, vec![record(0, -50), record(1, -40)]).await;
    let look = async |text: String| bench.store.read(move |db| lookup(db, repo(), &text)).await.unwrap().is_some();
    assert!(look(near).await);
    assert!(!look("0000000000".to_owned()).await, "both begin so");
    assert!(!look("1".to_owned()).await && !look("' OR 1 --xxxxxx".to_owned()).await);
}

#[tokio::test]
async fn a_long_list_is_written_in_steps_and_taking_it_again_changes_nothing() {
    let bench = bench().await;
    let records: Vec<SnapshotRecord> = (0..1_200).map(|n| record(n, -10_000 + n.cast_signed())).collect();
    let listed = Listed { repo: repo(), job: job(99), kind: JobKind::Snapshots, from: at(0) };
    assert_eq!(compare(&listed, records.clone(), HashMap::new()).steps().len(), 3);
    bench.list(JobKind::Snapshots, records.clone()).await;
    let known = bench.store.read(|db| known(db, repo())).await.unwrap();
    assert_eq!(known.len(), 1_200);
    assert!(compare(&listed, records, known).steps().is_empty());
}

#[tokio::test]
async fn only_hosts_that_know_a_repository_may_be_asked_to_read_it() {
    let bench = bench().await;
    let readers_now = async || bench.store.read(|db| readers(db, repo())).await.unwrap();
    assert_eq!(readers_now().await, []);
    bench.back_up(1, &id(1)).await;
    let names: Vec<String> = readers_now().await.into_iter().map(|reader| reader.name).collect();
    assert_eq!(names, ["web-1"]);
}
