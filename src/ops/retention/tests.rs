//! The guard against a real store: what the index says, what is written down, what a person's word changes.

use super::*;
use crate::{
    clock::ManualClock,
    domain::{
        ForgetSpec, JobStatus, KeepRules, SnapshotRecord,
        guard::Cause,
        job::{End, JobInput},
    },
    hub::Hub,
    store::{
        StoreError,
        repos::{RepoFields, SealedSecrets},
    },
};

const DAY: i64 = 86_400;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn host() -> HostId {
    HostId::from_parts(1, 1)
}

fn repo() -> RepoId {
    RepoId::from_parts(1, 1)
}

fn job(n: u128) -> JobId {
    JobId::from_parts(1, n)
}

fn ann() -> Actor {
    Actor { kind: crate::domain::job::ActorKind::User, id: "1".to_owned(), name: "ann".to_owned() }
}

struct Bench {
    store: Store,
    desk: Desk,
    _dir: tempfile::TempDir,
}

/// A host `web-1` and a repository that was listed ten days ago, which holds `old` (4 days), `mid` (3 days) and `new` (1 day), each made by a backup of
/// the host's; and the running forget 1.
async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::new();
    let store = Store::open(dir.path(), hub.clone(), ManualClock::at(now())).unwrap();
    let desk = Desk {
        vault: crate::vault::Vault::of_tests(),
        store: store.clone(),
        hub,
        rules: crate::domain::queue::QueueRules::default(),
        runbooks: Default::default(),
    };
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
            tx.db().execute("UPDATE repos SET indexed_at = ?1", [now().plus_s(-10 * DAY).unix_ms()])?;
            let web = hosts::NewHost {
                id: host(),
                name: "web-1".to_owned(),
                tags: vec![],
                token_hash: Some(crate::credential::hash("web-1")),
                enrol_token: None,
                facts: hosts::Facts::default(),
            };
            hosts::insert(tx, &web)?;
            for (n, id, days) in [(11, "old", 4), (12, "mid", 3), (13, "new", 1)] {
                place(tx, job(n), JobKind::Backup)?;
                let at = now().plus_s(-days * DAY).unix_ms();
                tx.db().execute("UPDATE jobs SET created_at = ?2 WHERE id = ?1", (job(n).to_string(), at))?;
                seen(tx, id, (days, days), Some(job(n)))?;
            }
            place(tx, job(1), JobKind::Forget)
        })
        .await
        .unwrap();
    Bench { store, desk, _dir: dir }
}

fn place(tx: &mut WriteTx<'_>, id: JobId, kind: JobKind) -> Result<(), StoreError> {
    let keep = KeepRules { keep_last: Some(2), ..KeepRules::default() };
    let operation = (kind == JobKind::Forget).then(|| Operation::Forget(ForgetSpec { keep, ..ForgetSpec::default() }));
    let new = NewJob {
        about: Default::default(),
        repo_id: Some(repo()),
        input: JobInput { operation, ..JobInput::default() },
        ..NewJob::bare(id, host(), kind)
    };
    jobs::insert(tx, &new)?;
    Ok(())
}

/// The index sees a snapshot of `days.0` ago first `days.1` ago.
fn seen(tx: &mut WriteTx<'_>, id: &str, days: (i64, i64), by: Option<JobId>) -> Result<(), StoreError> {
    let (time, first) = (now().plus_s(-days.0 * DAY).unix_ms(), now().plus_s(-days.1 * DAY).unix_ms());
    let by = by.map(|job| job.to_string());
    tx.db().execute(
        "INSERT INTO snapshots (repo_id, id, time, hostname, paths, tree, bytes, job_id, first_seen_at) VALUES (?1, ?2, ?3, 'web-1', '[\"/srv\"]', 'tree', 5000000, ?4, ?5)",
        (repo().to_string(), id, time, by, first),
    )?;
    Ok(())
}

fn fate(id: &str, days: i64, keep: bool) -> FateRecord {
    let snapshot = SnapshotRecord {
        id: id.to_owned(),
        hostname: "web-1".to_owned(),
        time: Some(now().plus_s(-days * DAY)),
        paths: vec!["/srv".to_owned()],
        ..SnapshotRecord::default()
    };
    let kept_by = if keep { vec!["last snapshot".to_owned()] } else { vec![] };
    FateRecord { snapshot, kept_by, group: "web-1 /srv".to_owned() }
}

fn usual() -> Vec<FateRecord> {
    vec![fate("old", 4, false), fate("mid", 3, true), fate("new", 1, true)]
}

/// What the rules say once someone planted `forged`, five days old by its own word.
fn forged() -> Vec<FateRecord> {
    vec![fate("old", 4, false), fate("forged", 5, true), fate("mid", 3, true), fate("new", 1, true)]
}

impl Bench {
    async fn ask(&self, n: u128, fates: Vec<FateRecord>) -> Result<Answer, OpError> {
        judge(&self.store, Asked { job: job(n), host: host(), fates, dry_run: false }, now()).await
    }

    async fn verdict(&self, n: u128) -> Verdict {
        self.store.read(move |db| verdicts::lookup(db, job(n))).await.unwrap().unwrap()
    }

    async fn fates(&self, n: u128, kind: FateKind) -> Vec<Fate> {
        self.store.read(move |db| verdicts::fates(db, (job(n), kind), None, 100)).await.unwrap()
    }

    async fn alerts(&self) -> i64 {
        let count = "SELECT count(*) FROM alerts WHERE kind = 'forget_stopped' AND cleared_at IS NULL";
        self.store.read(|db| Ok::<_, StoreError>(db.query_row(count, [], |row| row.get(0))?)).await.unwrap()
    }

    async fn end(&self, n: u128) {
        let end = End {
            status: JobStatus::Succeeded,
            at: now(),
            exit_code: Some(0),
            error: None,
            summary: None,
            log_truncated: false,
        };
        self.store.write(move |tx| jobs::finish(tx, job(n), host(), &end, None)).await.unwrap();
    }
}

#[tokio::test]
async fn each_snapshot_is_written_down_with_the_rule_that_keeps_it_or_the_lack_of_one() {
    let bench = bench().await;
    assert_eq!(bench.ask(1, usual()).await.unwrap(), Answer { remove: vec!["old".to_owned()], ..Answer::default() });
    let removed = bench.fates(1, FateKind::Removed).await;
    assert_eq!(removed[0].reason, "no rule keeps it (2 last); the next one that stays is mid");
    let kept = bench.fates(1, FateKind::Kept).await;
    assert_eq!(
        kept.iter().map(|f| (f.snapshot_id.as_str(), f.reason.as_str())).collect::<Vec<_>>(),
        [("new", "last snapshot"), ("mid", "last snapshot")]
    );
    assert_eq!((bench.verdict(1).await.state, bench.alerts().await), (VerdictState::Allowed, 0));
}

#[tokio::test]
async fn a_repeated_question_has_the_answer_that_was_given_first() {
    let bench = bench().await;
    let first = bench.ask(1, usual()).await.unwrap();
    pin(&bench.store, ann(), repo(), "old".to_owned(), "wanted").await.unwrap();
    assert_eq!(bench.ask(1, usual()).await.unwrap(), first);
    assert_eq!(bench.fates(1, FateKind::Removed).await.len(), 1);
}

#[tokio::test]
async fn a_pinned_snapshot_stays_and_goes_again_once_it_is_let_go() {
    let bench = bench().await;
    let missing = pin(&bench.store, ann(), repo(), "nowhere".to_owned(), "x").await;
    assert!(matches!(missing, Err(OpError::NotFound(_))));
    assert!(matches!(pin(&bench.store, ann(), repo(), "old".to_owned(), " ").await, Err(OpError::Invalid(_))));
    pin(&bench.store, ann(), repo(), "old".to_owned(), "before the move").await.unwrap();
    let answer = bench.ask(1, usual()).await.unwrap();
    assert_eq!((answer.remove.len(), answer.held[0].reason.as_str()), (0, "pinned by ann: before the move"));
    bench.end(1).await;
    unpin(&bench.store, ann(), repo(), "old".to_owned()).await.unwrap();
    bench.store.write(|tx| place(tx, job(2), JobKind::Forget)).await.unwrap();
    assert_eq!(bench.ask(2, usual()).await.unwrap().remove, ["old"]);
}

#[tokio::test]
async fn a_forged_snapshot_stops_a_forget_until_a_person_approves() {
    let bench = bench().await;
    let answer = bench.ask(1, forged()).await.unwrap();
    assert!(answer.remove.is_empty() && answer.stopped.unwrap().contains("claims an older date"));
    assert_eq!((bench.alerts().await, bench.fates(1, FateKind::Waiting).await.len()), (1, 1));
    let soon = approve(&bench.desk, ann(), job(1), String::new()).await;
    assert!(matches!(soon, Err(OpError::Conflict(_))), "the forget is not over");
    bench.end(1).await;
    let again = approve(&bench.desk, ann(), job(1), "copied by me".to_owned()).await.unwrap();
    assert_eq!((bench.alerts().await, bench.verdict(1).await.state), (0, VerdictState::Approved));
    let answer =
        judge(&bench.store, Asked { job: again, host: host(), fates: forged(), dry_run: false }, now()).await.unwrap();
    assert_eq!((answer.remove, answer.stopped), (vec!["old".to_owned()], None));
    assert!(matches!(approve(&bench.desk, ann(), job(1), String::new()).await, Err(OpError::Conflict(_))));
}

#[tokio::test]
async fn a_dismissed_one_removes_nothing_and_the_next_forget_asks_again() {
    let bench = bench().await;
    bench.ask(1, forged()).await.unwrap();
    bench.end(1).await;
    dismiss(&bench.store, ann(), job(1), "forged".to_owned()).await.unwrap();
    assert_eq!(bench.alerts().await, 0);
    bench.store.write(|tx| place(tx, job(2), JobKind::Forget)).await.unwrap();
    assert!(bench.ask(2, forged()).await.unwrap().stopped.is_some());
    assert_eq!(bench.alerts().await, 1);
}

#[tokio::test]
async fn a_later_forget_that_finds_nothing_settles_the_one_that_waited() {
    let bench = bench().await;
    bench.ask(1, forged()).await.unwrap();
    bench.end(1).await;
    bench.store.write(|tx| place(tx, job(2), JobKind::Forget)).await.unwrap();
    assert_eq!(bench.ask(2, usual()).await.unwrap().remove, ["old"]);
    assert_eq!((bench.verdict(1).await.state, bench.alerts().await), (VerdictState::Dismissed, 0));
}

#[tokio::test]
async fn only_a_forget_of_the_asking_host_that_is_not_over_is_answered() {
    let bench = bench().await;
    let not = |answer: Result<Answer, OpError>| assert!(matches!(answer, Err(OpError::NotFound(_))));
    not(bench.ask(11, usual()).await);
    not(judge(
        &bench.store,
        Asked { job: job(1), host: HostId::from_parts(1, 9), fates: usual(), dry_run: false },
        now(),
    )
    .await);
    bench.end(1).await;
    not(bench.ask(1, usual()).await);
}

#[tokio::test]
async fn a_snapshot_whose_tags_were_changed_or_that_was_copied_is_as_old_as_its_origin() {
    let bench = bench().await;
    let rewritten = |tree: &'static str| {
        bench.store.write(move |tx| {
            tx.db().execute("DELETE FROM snapshots WHERE id = 'tagged'", [])?;
            seen(tx, "tagged", (4, 0), None)?;
            tx.db().execute("UPDATE snapshots SET original = 'old', tree = ?1 WHERE id = 'tagged'", [tree])?;
            tx.db().execute("UPDATE jobs SET status = 'running' WHERE kind = 'forget'", [])?;
            tx.db().execute("DELETE FROM verdicts", [])?;
            Ok::<_, StoreError>(())
        })
    };
    let fates = || vec![fate("tagged", 4, true), fate("mid", 3, false), fate("new", 1, true)];
    rewritten("tree").await.unwrap();
    assert_eq!(bench.ask(1, fates()).await.unwrap().remove, ["mid"]);
    rewritten("another").await.unwrap();
    assert!(bench.ask(1, fates()).await.unwrap().stopped.is_some(), "its word for where it comes from is no proof");
    assert!(bench.verdict(1).await.findings.iter().any(|finding| finding.cause == Cause::BackDated));
}

#[tokio::test]
async fn a_first_list_is_taken_as_it_stands_and_only_the_first() {
    let bench = bench().await;
    let listed = bench
        .store
        .write(|tx| {
            tx.db().execute("UPDATE repos SET indexed_at = ?1", [now().unix_ms()])?;
            Ok::<_, StoreError>(tx.db().query_row("SELECT listed_since FROM repos", [], |row| row.get::<_, i64>(0))?)
        })
        .await
        .unwrap();
    assert_eq!(listed, now().plus_s(-10 * DAY).unix_ms());
}
