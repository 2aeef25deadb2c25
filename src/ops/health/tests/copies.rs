//! Second copies: what is due stays due until it is there, whatever fails or restarts in between.

use super::*;
use crate::{
    domain::{PlanId, alert::Alert, second_copy::RETRIES},
    store::{StoreError, plans, second_copies},
};

fn plan() -> PlanId {
    PlanId::from_parts(1, 1)
}

fn elsewhere() -> RepoId {
    RepoId::from_parts(1, 2)
}

/// The bench with a plan `nightly` of both hosts, whose second copies go to `elsewhere`.
async fn copying() -> Bench {
    let bench = bench(true).await;
    let fill = |tx: &mut crate::store::WriteTx<'_>| {
        let fields = RepoFields {
            name: "elsewhere".to_owned(),
            url: "rest:http://elsewhere:8000/".to_owned(),
            username: None,
            append_only: false,
            init: false,
            tls_ca_pem: None,
        };
        repos::insert(tx, elsewhere(), &fields, &SealedSecrets { sealed: vec![1], names: vec![] })?;
        let fields = plans::PlanFields {
            name: "nightly".to_owned(),
            repo_id: repo(),
            second_repo_id: Some(elsewhere()),
            hosts: vec![host(1), host(2)],
            tags: vec![],
            paths: vec!["/etc".to_owned()],
            excludes: vec![],
            options: Default::default(),
            hooks: vec![],
            retention: Default::default(),
            schedule: None,
        };
        plans::insert(tx, plan(), &fields).map(drop)
    };
    bench.desk.store.write(fill).await.unwrap();
    bench
}

fn snapshot(n: u128) -> String {
    format!("{n:064x}")
}

impl Bench {
    /// The plan's backup number `n` on a host ends well.
    async fn backed_up(&self, n: u128, on: u128) {
        let (id, now) = (JobId::from_parts(8, n), self.now());
        let new = NewJob {
            about: Default::default(),
            id,
            host_id: host(on),
            kind: JobKind::Backup,
            actor: Actor::system(),
            moment: None,
            ran_alone: false,
            plan_id: Some(plan()),
            repo_id: Some(repo()),
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 60,
            expires_at: None,
        };
        let summary = Some(json!({"snapshot_id": snapshot(n)}));
        let end = End {
            status: JobStatus::Succeeded,
            at: now,
            exit_code: Some(0),
            error: None,
            summary,
            log_truncated: false,
        };
        self.desk.store.write(move |tx| jobs::insert(tx, &new)).await.unwrap();
        self.desk.store.write(move |tx| jobs::finish(tx, id, host(on), &end, None)).await.unwrap();
        examine(&self.desk).await.unwrap();
    }

    /// The copies that wait: on which host, of which snapshots.
    async fn copies(&self) -> Vec<(JobId, HostId, Vec<String>)> {
        let copies = self.queued().await.into_iter().filter(|job| job.kind == JobKind::Copy);
        let copies = copies.map(|job| match job.input.operation {
            Some(Operation::Copy(spec)) => (job.id, job.host_id, spec.snapshots),
            other => panic!("{other:?}"),
        });
        copies.collect()
    }

    /// The copy of backup number `n` ends well.
    async fn copy_of(&self, n: u128) {
        let copy = self.copies().await.into_iter().find(|(_, _, snapshots)| snapshots.contains(&snapshot(n))).unwrap();
        self.ends(copy, JobStatus::Succeeded).await;
    }

    /// The one copy that waits ends so. Returns what it was to copy.
    async fn copy_ends(&self, status: JobStatus) -> Vec<String> {
        let mut copies = self.copies().await;
        assert_eq!(copies.len(), 1, "one copy: {copies:?}");
        let copy = copies.remove(0);
        self.ends(copy.clone(), status).await;
        copy.2
    }

    async fn ends(&self, (id, on, snapshots): (JobId, HostId, Vec<String>), status: JobStatus) {
        let error = (status != JobStatus::Succeeded).then(|| "the second repository: it can't be reached.".to_owned());
        let summary = (status == JobStatus::Succeeded).then(|| json!({"copied": snapshots.len(), "skipped": 0}));
        let end = End { status, at: self.now(), exit_code: None, error, summary, log_truncated: false };
        self.desk.store.write(move |tx| jobs::finish(tx, id, on, &end, None)).await.unwrap();
        examine(&self.desk).await.unwrap();
    }

    async fn after(&self, seconds: i64) {
        self.clock.advance(seconds);
        super::super::second_copy::catch_up(&self.desk, self.now()).await.unwrap();
    }

    async fn alerts(&self) -> Vec<Alert> {
        let filter = AlertFilter { open: Some(true), ..AlertFilter::default() };
        self.desk.store.read(move |db| alerts::list(db, &filter)).await.unwrap()
    }

    async fn nothing_is_due(&self) -> bool {
        !self.desk.store.read(second_copies::any).await.unwrap()
    }

    async fn change(&self, sql: &'static str) {
        let change = move |tx: &mut crate::store::WriteTx<'_>| tx.db().execute(sql, []).map_err(StoreError::from);
        self.desk.store.write(change).await.unwrap();
    }
}

#[tokio::test]
async fn each_snapshot_is_copied_once_by_the_host_that_made_it() {
    let bench = copying().await;
    bench.backed_up(1, 2).await;
    let copies = bench.copies().await;
    assert_eq!((copies.len(), copies[0].1, &copies[0].2), (1, host(2), &vec![snapshot(1)]));
    assert_eq!(bench.copy_ends(JobStatus::Succeeded).await, [snapshot(1)]);
    bench.after(86_400).await;
    assert!(bench.copies().await.is_empty() && bench.alerts().await.is_empty() && bench.nothing_is_due().await);
}

#[tokio::test]
async fn a_copy_that_failed_makes_an_alert_and_is_tried_again_until_it_is_there() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    let alerts = bench.alerts().await;
    let notice = &alerts[0].notice;
    assert_eq!((alerts.len(), notice.kind, &notice.subject), (1, AlertKind::CopyBehind, &plan().to_string()));
    assert_eq!(notice.title, "1 snapshot has no second copy: nightly is behind in elsewhere");
    assert!(
        notice.detail.contains("db-1 backed up failed: the second repository: it can't be reached. It is tried"),
        "{notice:?}"
    );
    bench.after(500).await;
    assert!(bench.copies().await.is_empty(), "too early");
    bench.after(300).await;
    assert_eq!(bench.copies().await.len(), 1);
    assert_eq!(bench.alerts().await.len(), 1, "not there yet");
    bench.copy_ends(JobStatus::Succeeded).await;
    assert!(bench.alerts().await.is_empty() && bench.nothing_is_due().await);
}

#[tokio::test]
async fn the_next_backup_takes_along_all_that_is_missing() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    bench.backed_up(2, 1).await;
    assert_eq!(bench.copy_ends(JobStatus::Failed).await, [snapshot(1), snapshot(2)]);
    assert!(bench.alerts().await[0].notice.title.starts_with("2 snapshots have no second copy"));
    bench.backed_up(3, 1).await;
    assert_eq!(bench.copy_ends(JobStatus::Succeeded).await, [snapshot(1), snapshot(2), snapshot(3)]);
    assert!(bench.alerts().await.is_empty() && bench.nothing_is_due().await);
}

#[tokio::test]
async fn what_comes_while_a_copy_is_under_way_goes_with_the_next() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.backed_up(2, 1).await;
    bench.backed_up(3, 2).await;
    let of_one: Vec<_> = bench.copies().await.into_iter().filter(|(_, on, _)| *on == host(1)).collect();
    assert_eq!(
        (of_one.len(), &of_one[0].2),
        (1, &vec![snapshot(1)]),
        "two copies of one snapshot would make two of it"
    );
    let other = bench.copies().await.into_iter().find(|(_, on, _)| *on == host(2)).unwrap().0;
    bench.desk.store.write(move |tx| jobs::request_cancel(tx, other)).await.unwrap();
    assert_eq!(bench.copy_ends(JobStatus::Succeeded).await, [snapshot(1)]);
    assert_eq!(bench.copies().await[0].2, [snapshot(2)]);
}

#[tokio::test]
async fn it_is_tried_ever_later_and_then_waits_for_the_next_backup() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    for n in 0..RETRIES {
        bench.after(750 << n).await;
        bench.copy_ends(JobStatus::Failed).await;
    }
    assert!(bench.alerts().await[0].notice.detail.contains("not tried again by itself any more"));
    bench.after(30 * 86_400).await;
    assert!(bench.copies().await.is_empty());
    bench.backed_up(2, 1).await;
    assert_eq!(bench.copy_ends(JobStatus::Succeeded).await, [snapshot(1), snapshot(2)]);
    assert!(bench.alerts().await.is_empty());
}

#[tokio::test]
async fn a_copy_that_somebody_cancelled_waits_for_the_next_backup() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Cancelled).await;
    assert_eq!(bench.open().await, [AlertKind::CopyBehind]);
    bench.after(86_400).await;
    assert!(bench.copies().await.is_empty());
    bench.backed_up(2, 1).await;
    assert_eq!(bench.copies().await[0].2, [snapshot(1), snapshot(2)]);
}

#[tokio::test]
async fn a_copy_that_was_cancelled_with_its_host_is_made_by_another() {
    let bench = copying().await;
    bench.backed_up(1, 2).await;
    bench.backed_up(2, 1).await;
    bench.copy_of(2).await;
    crate::ops::hosts::remove(&bench.desk.store, Actor::system(), host(2)).await.unwrap();
    examine(&bench.desk).await.unwrap();
    bench.after(750).await;
    let copies = bench.copies().await;
    assert_eq!(
        copies.iter().map(|(_, on, snapshots)| (*on, snapshots.clone())).collect::<Vec<_>>(),
        [(host(1), vec![snapshot(1)])]
    );
}

#[tokio::test]
async fn a_copy_whose_host_is_gone_is_made_by_another_that_reaches_the_repository() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.backed_up(2, 2).await;
    bench.change("UPDATE jobs SET status = 'lost', finished_at = created_at WHERE kind = 'copy'").await;
    bench.change("UPDATE hosts SET revoked_at = 1 WHERE name = 'db-1'").await;
    bench.after(1).await;
    assert_eq!(bench.alerts().await[0].notice.kind, AlertKind::CopyBehind);
    bench.after(750).await;
    let mut copies: Vec<_> = bench.copies().await.into_iter().map(|(_, on, snapshots)| (on, snapshots)).collect();
    copies.sort_unstable_by_key(|(_, snapshots)| snapshots.clone());
    assert_eq!(copies, [(host(2), vec![snapshot(1)]), (host(2), vec![snapshot(2)])]);
}

#[tokio::test]
async fn what_is_not_to_be_copied_any_more_is_let_go_with_its_alert() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    bench.change("UPDATE snapshots SET gone_at = 2").await;
    bench.after(60).await;
    assert!(bench.alerts().await.is_empty() && bench.nothing_is_due().await, "a forget removed the snapshot");
    bench.backed_up(2, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    bench.change("UPDATE plans SET second_repo_id = NULL").await;
    bench.after(60).await;
    assert!(bench.alerts().await.is_empty() && bench.nothing_is_due().await, "the plan wants no copy any more");
}

#[tokio::test]
async fn a_copy_by_hand_settles_what_it_copied() {
    let bench = copying().await;
    bench.backed_up(1, 1).await;
    bench.copy_ends(JobStatus::Failed).await;
    let spec = crate::domain::CopySpec { to: elsewhere(), snapshots: vec![], of: Default::default() };
    bench.clock.advance(5);
    bench.ended((9, 2), JobKind::Copy, Some(Operation::Copy(spec)), JobStatus::Succeeded, json!({"copied": 1})).await;
    assert!(bench.alerts().await.is_empty() && bench.nothing_is_due().await);
}
