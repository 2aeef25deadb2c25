use super::*;
use crate::{
    clock::ManualClock,
    domain::{KeepRules, Timestamp, schedule::derived_id},
    hub::Hub,
    store::{
        StoreError,
        hosts::{Facts, NewHost},
        plans::PlanFields,
        repos::{RepoFields, SealedSecrets},
    },
};

const NOW: &str = "2026-11-21T08:00:00Z";

fn host() -> HostId {
    HostId::from_parts(1, 1)
}

fn repo(n: u128) -> RepoId {
    RepoId::from_parts(1, n)
}

fn plan() -> PlanId {
    PlanId::from_parts(1, 1)
}

/// A host `web`, which the plan `nightly` (with a schedule) backs up to repository 1; repository 2 besides.
async fn store(dir: &tempfile::TempDir) -> Store {
    let now: Timestamp = NOW.parse().unwrap();
    let store = Store::open(dir.path(), Hub::new(), ManualClock::at(now)).unwrap();
    let schedule = serde_json::json!({"cron": "0 1 * * *", "timezone": "UTC", "jitter_s": 14_400});
    let schedule: Schedule = serde_json::from_value(schedule).unwrap();
    store
        .write(move |tx| {
            for n in [1, 2] {
                let fields = RepoFields {
                    name: format!("vault-{n}"),
                    url: "/srv/r".to_owned(),
                    username: None,
                    append_only: false,
                    init: true,
                    tls_ca_pem: None,
                };
                repos::insert(tx, repo(n), &fields, &SealedSecrets { sealed: vec![1], names: vec![] })?;
            }
            let web = NewHost {
                id: host(),
                name: "web".to_owned(),
                tags: vec![],
                token_hash: Some(crate::credential::hash("web")),
                enrol_token: None,
                facts: Facts::default(),
            };
            hosts::insert(tx, &web)?;
            let fields = PlanFields {
                name: "nightly".to_owned(),
                repo_id: repo(1),
                hosts: vec![host()],
                tags: vec![],
                paths: vec!["/etc".to_owned()],
                excludes: vec![],
                second_repo_id: None,
                hooks: vec![],
                options: Default::default(),
                retention: KeepRules::default(),
                schedule: Some(Standing { schedule, since: now }),
            };
            plans::insert(tx, plan(), &fields)?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    store
}

fn input(more: serde_json::Value) -> ScheduleInput {
    let mut body =
        serde_json::json!({"host_id": host(), "kind": "check", "cron": "0 4 * * 0", "timezone": "Europe/Berlin"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

async fn refused(store: &Store, more: serde_json::Value) -> Vec<String> {
    match create(store, Actor::system(), input(more.clone())).await {
        Err(OpError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
        other => panic!("{more}: {other:?}"),
    }
}

#[tokio::test]
async fn a_check_takes_the_only_repository_of_its_hosts_plans() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let made = create(&store, Actor::system(), input(serde_json::json!({}))).await.unwrap();
    assert_eq!(
        (made.repo_id, made.repo_name.as_deref(), made.kind.as_str()),
        (Some(repo(1)), Some("vault-1"), "check")
    );
    assert_eq!(made.standing.since, NOW.parse().unwrap());
    let listed = store.read(|db| list::all(db, None)).await.unwrap();
    let mut ids: Vec<ScheduleId> = listed.iter().map(|listed| listed.entry.id).collect();
    ids.sort_unstable();
    let mut expected = vec![made.id, derived_id(plan(), host())];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_said_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    assert_eq!(refused(&store, serde_json::json!({"kind": "restore", "cron": "x"})).await, ["cron", "kind"]);
    assert_eq!(refused(&store, serde_json::json!({"kind": "repair"})).await, ["kind"]);
    assert_eq!(refused(&store, serde_json::json!({"kind": "forget"})).await, ["plan_id"]);
    let keeps_all = serde_json::json!({"kind": "forget", "params": {"operation": {"forget": {}}}});
    assert_eq!(refused(&store, keeps_all).await, ["params.operation.forget.keep"]);
    let strange = serde_json::json!({"kind": "check", "params": {"operation": {"prune": {}}}});
    assert_eq!(refused(&store, strange).await, ["params.operation"]);
    assert_eq!(refused(&store, serde_json::json!({"kind": "prune", "host_id": null})).await, ["host_id", "repo_id"]);
    assert_eq!(
        refused(&store, serde_json::json!({"timezone": "Mars", "jitter_s": 90_000})).await,
        ["timezone", "jitter_s"]
    );
    let stranger = HostId::from_parts(9, 9);
    assert_eq!(refused(&store, serde_json::json!({"host_id": stranger})).await, ["host_id", "repo_id"]);
    assert_eq!(refused(&store, serde_json::json!({"plan_id": plan()})).await, ["plan_id"]);
    assert_eq!(refused(&store, serde_json::json!({"kind": "backup"})).await, ["plan_id"]);
    let args = serde_json::json!({"kind": "backup", "params": {"args": ["relative"]}});
    assert_eq!(refused(&store, args).await, ["params.args[0]"]);
    assert_eq!(refused(&store, serde_json::json!({"params": {"args": ["/etc"]}})).await, ["params.args"]);
    assert_eq!(refused(&store, serde_json::json!({"repo_id": repo(9)})).await, ["repo_id"]);
    let both = serde_json::json!({"kind": "backup", "plan_id": plan(), "repo_id": repo(1)});
    assert_eq!(refused(&store, both).await, ["repo_id"]);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_a_removed_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let made = create(&store, Actor::system(), input(serde_json::json!({}))).await.unwrap();
    let patch = SchedulePatch { enabled: Some(false), ..SchedulePatch::default() };
    let paused = update(&store, Actor::system(), made.id, patch).await.unwrap();
    assert_eq!(paused.standing.schedule, Schedule { enabled: false, ..made.standing.schedule });
    remove(&store, Actor::system(), made.id).await.unwrap();
    let again = remove(&store, Actor::system(), made.id).await;
    assert!(matches!(again, Err(OpError::NotFound(_))), "{again:?}");
}

#[tokio::test]
async fn a_plans_schedule_is_found_and_run_but_changed_only_at_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let id = derived_id(plan(), host());
    let refused = update(&store, Actor::system(), id, SchedulePatch::default()).await.unwrap_err();
    assert!(matches!(&refused, OpError::Conflict(text) if text.contains("nightly")), "{refused}");
    let job = run(
        &Desk {
            store: store.clone(),
            hub: Hub::new(),
            rules: Default::default(),
            vault: crate::vault::Vault::of_tests(),
            runbooks: Default::default(),
        },
        Actor::system(),
        id,
    )
    .await
    .unwrap();
    let job = store.read(move |db| crate::store::jobs::lookup(db, job)).await.unwrap().unwrap();
    assert_eq!((job.plan_id, job.schedule_id, job.scheduled_at), (Some(plan()), None, None), "an ordinary job");
}
