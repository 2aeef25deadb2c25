//! Upkeep against a real store: what a schedule means when its moment comes, and what setting up makes.

use super::*;
use crate::{
    clock::ManualClock,
    domain::{CheckSpec, JobStatus, KeepRules, PlanId, PlanOptions, job::End, queue::QueueRules},
    hub::Hub,
    store::{
        plans::PlanFields,
        repos::{RepoFields, SealedSecrets},
    },
};

fn host(n: u128) -> HostId {
    HostId::from_parts(1, n)
}

fn repo() -> RepoId {
    RepoId::from_parts(1, 1)
}

fn plan(n: u128) -> PlanId {
    PlanId::from_parts(1, n)
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn fields(name: &str, hosts: &[u128], keep_daily: Option<u32>) -> PlanFields {
    PlanFields {
        name: name.to_owned(),
        repo_id: repo(),
        hosts: hosts.iter().map(|n| host(*n)).collect(),
        tags: vec![],
        paths: vec![format!("/{name}")],
        excludes: vec![],
        second_repo_id: None,
        hooks: vec![],
        options: PlanOptions::default(),
        retention: KeepRules { keep_daily, ..KeepRules::default() },
        schedule: None,
    }
}

/// Hosts `web-1` and `web-2`, an append-only repository that is maintained on web-1, and a plan `etc` of web-1 that keeps seven days.
async fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(dir.path(), Hub::new(), ManualClock::at(now())).unwrap();
    store
        .write(|tx| {
            let vault = RepoFields {
                name: "vault".to_owned(),
                url: "/srv/r".to_owned(),
                username: None,
                append_only: true,
                init: true,
                tls_ca_pem: None,
            };
            repos::insert(
                tx,
                repo(),
                &vault,
                &SealedSecrets { sealed: vec![1], names: vec!["maintenance".to_owned()] },
            )?;
            for n in [1, 2] {
                let new = hosts::NewHost {
                    id: host(n),
                    name: format!("web-{n}"),
                    tags: vec![],
                    token_hash: Some(crate::credential::hash(&format!("web-{n}"))),
                    enrol_token: None,
                    facts: hosts::Facts::default(),
                };
                hosts::insert(tx, &new)?;
            }
            plans::insert(tx, plan(1), &fields("etc", &[1], Some(7)))?;
            tx.db()
                .execute("UPDATE repos SET maintenance_host_id = ?1", [host(1).to_string()])
                .map_err(StoreError::from)
        })
        .await
        .unwrap();
    store
}

async fn set_up_on_web_1(store: &Store, check_days: Option<u32>) -> u32 {
    set_up(store, Actor::system(), repo(), Wish { host: Some(host(1)), check_days }).await.unwrap()
}

async fn schedule(store: &Store, kind: JobKind) -> OwnSchedule {
    let all = store.read(|db| schedules::using_repo(db, repo())).await.unwrap();
    all.into_iter().find(|own| own.kind == kind).unwrap()
}

async fn due_now(store: &Store, kind: JobKind) -> Due {
    let own = schedule(store, kind).await;
    store.read(move |db| due(db, &own, now())).await.unwrap()
}

async fn forget_now(store: &Store) -> ForgetSpec {
    match due_now(store, JobKind::Forget).await {
        Due::Order { input, .. } => match input.operation {
            Some(Operation::Forget(spec)) => spec,
            other => panic!("{other:?}"),
        },
        Due::Nothing(why) => panic!("{why}"),
    }
}

#[tokio::test]
async fn setting_up_makes_each_part_once_and_leaves_what_stands() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    assert_eq!(set_up_on_web_1(&store, None).await, 6);
    assert_eq!(set_up_on_web_1(&store, Some(14)).await, 0);
    let repo = store.read(|db| repos::lookup(db, repo())).await.unwrap().unwrap();
    let overview = store.read(move |db| overview(db, &repo, now())).await.unwrap();
    assert_eq!((overview.check_days, overview.next_part), (Some(14), Some(Part { n: 1, t: 2 })));
    assert!(overview.lines.iter().all(|line| line.schedule.is_some() && line.next.is_some()));
    let nobody = set_up(&store, Actor::system(), RepoId::from_parts(9, 9), Wish::default()).await;
    assert!(matches!(nobody, Err(OpError::NotFound(_))));
    let unmaintained = "UPDATE repos SET maintenance_host_id = NULL";
    store.write(|tx| tx.db().execute(unmaintained, []).map_err(StoreError::from)).await.unwrap();
    let nowhere = set_up(&store, Actor::system(), super::tests::repo(), Wish::default()).await;
    assert!(matches!(nowhere, Err(OpError::Invalid(_))), "there is no maintenance host");
}

#[tokio::test]
async fn what_nobody_could_do_is_not_set_up_until_somebody_can() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let set = |sql: &'static str| store.write(move |tx| tx.db().execute(sql, []).map_err(StoreError::from));
    set("UPDATE repos SET secrets_set = '[]'").await.unwrap();
    assert_eq!(set_up_on_web_1(&store, None).await, 4, "all but the forget and the prune");
    let repo = store.read(|db| repos::lookup(db, repo())).await.unwrap().unwrap();
    let overview = store.read(move |db| overview(db, &repo, now())).await.unwrap();
    let why: Vec<_> = overview.lines.iter().filter_map(|line| line.obstacle.map(|why| (line.duty, why))).collect();
    let needs = "it needs credentials that may delete: enter them under Change";
    assert_eq!(why, [(Duty::Forget, needs), (Duty::Prune, needs)]);
    set(r#"UPDATE repos SET secrets_set = '["maintenance"]'"#).await.unwrap();
    assert_eq!(set_up_on_web_1(&store, None).await, 2);
}

#[tokio::test]
async fn a_forget_applies_the_rules_of_its_plan_as_they_are_now_to_what_its_backups_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    set_up_on_web_1(&store, None).await;
    let spec = forget_now(&store).await;
    assert_eq!((spec.keep.keep_daily, spec.of.tags), (Some(7), vec![plan_tag(plan(1))]));
    store.write(|tx| plans::update(tx, plan(1), &fields("etc", &[1, 2], Some(3)))).await.unwrap();
    assert_eq!(forget_now(&store).await.keep.keep_daily, Some(3));
}

#[tokio::test]
async fn rules_that_keep_everything_or_that_are_gone_order_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    set_up_on_web_1(&store, None).await;
    store.write(|tx| plans::update(tx, plan(1), &fields("etc", &[1], None))).await.unwrap();
    assert_eq!(due_now(&store, JobKind::Forget).await, Due::Nothing("the plan keeps everything"));
    store.write(|tx| plans::remove(tx, plan(1))).await.unwrap();
    assert!(matches!(due_now(&store, JobKind::Forget).await, Due::Nothing(_)));
}

#[tokio::test]
async fn what_deletes_runs_where_the_repository_is_maintained_now() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    set_up_on_web_1(&store, None).await;
    store
        .write(|tx| {
            tx.db().execute("UPDATE repos SET maintenance_host_id = ?1", [host(2).to_string()])?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let on = |due: Due| if let Due::Order { host, .. } = due { host } else { panic!("nothing is due") };
    assert_eq!(on(due_now(&store, JobKind::Prune).await), host(2));
    assert_eq!(on(due_now(&store, JobKind::Stats).await), host(1));
}

#[tokio::test]
async fn a_check_reads_the_part_after_the_last_one_that_was_read_whatever_was_found_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    set_up_on_web_1(&store, Some(28)).await;
    let desk = Desk {
        store: store.clone(),
        hub: Hub::new(),
        rules: QueueRules::default(),
        vault: crate::vault::Vault::of_tests(),
        runbooks: Default::default(),
    };
    let check = schedule(&store, JobKind::Check).await.id;
    for (status, errors, part) in [
        (JobStatus::Succeeded, Some(0), "1/4"),
        (JobStatus::Failed, None, "2/4"),
        (JobStatus::Failed, Some(3), "2/4"),
        (JobStatus::Succeeded, Some(0), "3/4"),
        (JobStatus::Succeeded, Some(0), "4/4"),
        (JobStatus::Succeeded, Some(0), "1/4"),
    ] {
        let id = run(&desk, Actor::system(), check).await.unwrap();
        let job = store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap();
        let spec = CheckSpec { read_data_subset: Some(part.to_owned()), read_data: false };
        assert_eq!(job.input.operation, Some(Operation::Check(spec)));
        let summary = errors.map(|errors| serde_json::json!({"errors": errors}));
        let end = End { status, at: now(), exit_code: None, error: None, summary, log_truncated: false };
        store.write(move |tx| jobs::finish(tx, id, host(1), &end, None)).await.unwrap();
    }
}
