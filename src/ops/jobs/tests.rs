//! Orders against a real store: what is resolved, what is refused, what an operator is told.

use serde_json::json;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{JobStatus, KeepRules, Overwrite, Timestamp, job::End, user::Role},
    hub::Hub,
    store::{
        StoreError,
        jobs::JobFilter,
        plans::PlanFields,
        repos::{RepoFields, SealedSecrets},
    },
};

struct Bench {
    store: Store,
    hub: Hub,
    _dir: tempfile::TempDir,
}

const HOST: u128 = 1;

fn host_id() -> HostId {
    HostId::from_parts(1, HOST)
}

fn repo(n: u128) -> RepoId {
    RepoId::from_parts(1, n)
}

fn plan(n: u128) -> PlanId {
    PlanId::from_parts(1, n)
}

/// A host `web-1` with the tag `web`, and repositories `vault-1`, `vault-2`.
async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_795_248_000_000));
    let hub = Hub::new();
    let store = Store::open(dir.path(), hub.clone(), clock).unwrap();
    store
        .write(|tx| {
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
            let host = hosts::NewHost {
                id: host_id(),
                name: "web-1".to_owned(),
                tags: vec!["web".to_owned()],
                token_hash: Some([1; 32]),
                enrol_token: None,
                facts: hosts::Facts::default(),
            };
            hosts::insert(tx, &host)
        })
        .await
        .unwrap();
    Bench { store, hub, _dir: dir }
}

impl Bench {
    fn desk(&self) -> Desk {
        Desk {
            vault: crate::vault::Vault::of_tests(),
            store: self.store.clone(),
            hub: self.hub.clone(),
            rules: QueueRules::default(),
            runbooks: Default::default(),
        }
    }

    /// A plan of the tag `web` into repository `to`.
    async fn cover(&self, n: u128, to: u128) {
        let fields = PlanFields {
            name: format!("plan-{n}"),
            repo_id: repo(to),
            hosts: vec![],
            tags: vec!["web".to_owned()],
            paths: vec!["/etc".to_owned()],
            excludes: vec![],
            second_repo_id: None,
            hooks: vec![],
            options: Default::default(),
            retention: KeepRules::default(),
            schedule: None,
        };
        self.store.write(move |tx| plans::insert(tx, plan(n), &fields)).await.unwrap();
    }

    async fn keep(&self, rules: &'static str) {
        let set = move |tx: &mut WriteTx<'_>| {
            tx.db().execute("UPDATE plans SET retention = ?1", [rules])?;
            Ok::<_, StoreError>(())
        };
        self.store.write(set).await.unwrap();
    }

    /// Changes the row of repository 1.
    async fn repository(&self, set: &str) {
        let change = format!("UPDATE repos SET {set} WHERE id = '{}'", repo(1));
        let set = move |tx: &mut WriteTx<'_>| {
            tx.db().execute(&change, [])?;
            Ok::<_, StoreError>(())
        };
        self.store.write(set).await.unwrap();
    }

    async fn host(&self, n: u128, name: &str) -> HostId {
        let host = hosts::NewHost {
            id: HostId::from_parts(1, n),
            name: name.to_owned(),
            tags: vec![],
            token_hash: Some(crate::credential::hash(name)),
            enrol_token: None,
            facts: hosts::Facts::default(),
        };
        self.store.write(move |tx| hosts::insert(tx, &host)).await.unwrap().id
    }

    async fn order(&self, body: serde_json::Value) -> Result<Job, OpError> {
        let id = create(&self.desk(), Actor::system(), host_id(), serde_json::from_value(body).unwrap()).await?;
        Ok(self.job(id).await)
    }

    async fn job(&self, id: JobId) -> Job {
        self.store.read(move |db| jobs::lookup(db, id)).await.unwrap().unwrap()
    }

    /// The fields that an order is refused for.
    async fn refused(&self, body: serde_json::Value) -> Vec<String> {
        match self.order(body.clone()).await {
            Err(OpError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    async fn end(&self, id: JobId) {
        let end = End {
            status: JobStatus::Succeeded,
            at: Timestamp::from_unix_ms(1),
            exit_code: Some(0),
            error: None,
            summary: None,
            log_truncated: false,
        };
        self.store.write(move |tx| jobs::finish(tx, id, host_id(), &end, None)).await.unwrap();
    }
}

mod again;
mod details;
mod forget;

#[tokio::test]
async fn a_host_that_never_had_an_agent_gets_no_order_for_restic() {
    let bench = bench().await;
    let id = bench.host(2, "switch").await;
    let forget = format!("UPDATE hosts SET token_hash = NULL WHERE id = '{id}'");
    let forget = move |tx: &mut WriteTx<'_>| {
        tx.db().execute(&forget, [])?;
        Ok::<_, StoreError>(())
    };
    bench.store.write(forget).await.unwrap();
    let request = serde_json::from_value(json!({"kind": "backup", "repo_id": repo(1), "args": ["/etc"]})).unwrap();
    let refused = create(&bench.desk(), Actor::system(), id, request).await.unwrap_err();
    assert!(refused.to_string().contains("switch has no agent"), "{refused}");
}

#[tokio::test]
async fn a_backup_by_plan_takes_the_plans_repository_and_waits_in_the_queue() {
    let bench = bench().await;
    bench.cover(1, 2).await;
    let job = bench.order(json!({"kind": "backup", "plan_id": plan(1)})).await.unwrap();
    assert_eq!(
        (job.status, job.kind, job.plan_id, job.repo_id),
        (JobStatus::Queued, JobKind::Backup, Some(plan(1)), Some(repo(2)))
    );
    assert_eq!(job.timeout_s, 24 * 3600);
}

#[tokio::test]
async fn a_plan_that_does_not_cover_the_host_is_refused() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "backup", "plan_id": plan(1)})).await, ["plan_id"]);
    bench.cover(1, 1).await;
    assert_eq!(bench.refused(json!({"kind": "backup", "plan_id": plan(7)})).await, ["plan_id"]);
    assert_eq!(bench.refused(json!({"kind": "backup", "plan_id": plan(1), "repo_id": repo(2)})).await, ["repo_id"]);
    assert_eq!(bench.refused(json!({"kind": "backup", "plan_id": plan(1), "args": ["/x"]})).await, ["args"]);
}

#[tokio::test]
async fn a_backup_of_paths_needs_absolute_ones() {
    let bench = bench().await;
    let job = bench.order(json!({"kind": "backup", "repo_id": repo(1), "args": ["/etc", "/srv"]})).await.unwrap();
    assert_eq!((job.plan_id, job.input.args), (None, vec!["/etc".to_owned(), "/srv".to_owned()]));
    assert_eq!(
        bench.refused(json!({"kind": "backup", "repo_id": repo(1), "args": ["etc", "--stdin"]})).await,
        ["args[0]", "args[1]"]
    );
    assert_eq!(bench.refused(json!({"kind": "backup", "repo_id": repo(1), "args": []})).await, ["args"]);
    assert_eq!(bench.refused(json!({"kind": "backup", "repo_id": repo(1)})).await, ["args"]);
    assert_eq!(bench.refused(json!({"kind": "backup", "repo_id": repo(9), "args": ["/etc"]})).await, ["repo_id"]);
}

#[tokio::test]
async fn plan_and_repository_may_be_left_out_where_there_is_exactly_one() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "backup"})).await, ["plan_id"]);
    assert_eq!(bench.refused(json!({"kind": "check"})).await, ["repo_id"]);
    bench.cover(1, 1).await;
    assert_eq!(bench.order(json!({"kind": "backup"})).await.unwrap().plan_id, Some(plan(1)));
    assert_eq!(bench.order(json!({"kind": "check"})).await.unwrap().repo_id, Some(repo(1)));
    assert_eq!(bench.order(json!({"kind": "backup", "args": ["/etc"]})).await.unwrap().repo_id, Some(repo(1)));
    bench.cover(2, 1).await;
    assert_eq!(bench.refused(json!({"kind": "backup"})).await, ["plan_id"], "two plans");
    assert_eq!(
        bench.order(json!({"kind": "check"})).await.unwrap().repo_id,
        Some(repo(1)),
        "two plans, one repository"
    );
    bench.cover(3, 2).await;
    assert_eq!(bench.refused(json!({"kind": "check"})).await, ["repo_id"], "two repositories");
    assert_eq!(bench.order(json!({"kind": "backup", "repo_id": repo(2)})).await.unwrap().plan_id, Some(plan(3)));
}

#[tokio::test]
async fn an_unknown_or_revoked_host_gets_no_job() {
    let bench = bench().await;
    let request = JobRequest { kind: "check".to_owned(), repo_id: Some(repo(1)), ..JobRequest::default() };
    let nobody = create(&bench.desk(), Actor::system(), HostId::from_parts(9, 9), request.clone()).await;
    assert!(matches!(nobody, Err(OpError::NotFound("host"))));
    bench.store.write(|tx| hosts::revoke(tx, host_id())).await.unwrap();
    assert!(matches!(create(&bench.desk(), Actor::system(), host_id(), request).await, Err(OpError::Conflict(_))));
    assert!(bench.store.read(|db| jobs::list(db, &JobFilter::default())).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_order_may_say_how_long_it_runs_and_waits_within_bounds() {
    let bench = bench().await;
    let check = |more: serde_json::Value| {
        let mut body = json!({"kind": "check", "repo_id": repo(1)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let job = bench.order(check(json!({"timeout_s": 90, "expires_in_s": 600}))).await.unwrap();
    assert_eq!((job.timeout_s, job.expires_at), (90, Some(job.created_at.plus_s(600))));
    let usual = bench.order(check(json!({}))).await.unwrap();
    assert_eq!((usual.timeout_s, usual.expires_at), (86_400, Some(usual.created_at.plus_s(86_400))));
    for seconds in [0, 59, 604_801, u64::MAX] {
        assert_eq!(bench.refused(check(json!({"timeout_s": seconds}))).await, ["timeout_s"]);
    }
    for seconds in [0, 59, 2_592_001, u64::MAX] {
        assert_eq!(bench.refused(check(json!({"expires_in_s": seconds}))).await, ["expires_in_s"]);
    }
    bench.end(job.id).await;
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id, Again::default()).await.unwrap()).await;
    assert_eq!((again.timeout_s, again.rerun_of), (90, Some(job.id)));
    assert_eq!(bench.job(job.id).await.rerun_as, Some(again.id));
}

#[tokio::test]
async fn an_order_that_must_not_wait_leaves_nothing_behind_where_it_would() {
    let bench = bench().await;
    let body = json!({"kind": "check", "repo_id": repo(1), "queue": false});
    let refused = bench.order(body.clone()).await.unwrap_err();
    assert!(
        matches!(refused, OpError::Busy { .. }) && refused.to_string().contains("its host to connect"),
        "{refused}"
    );
    assert!(bench.store.read(|db| jobs::list(db, &JobFilter::default())).await.unwrap().is_empty());
    bench.hub.arrived(host_id(), 1, Timestamp::from_unix_ms(0));
    let first = bench.order(body.clone()).await.unwrap();
    let refused = bench.order(body).await.unwrap_err();
    let OpError::Busy { waits_for, .. } = &refused else { panic!("{refused}") };
    assert_eq!(waits_for.holder().map(|holder| holder.id), Some(first.id));
}

#[tokio::test]
async fn an_order_and_its_audit_row_stand_together() {
    let bench = bench().await;
    let job = bench.order(json!({"kind": "check", "repo_id": repo(1)})).await.unwrap();
    let _ = bench.order(json!({"kind": "nonsense"})).await;
    let rows: Vec<(String, String)> = bench
        .store
        .read(|db| {
            let mut statement = db.prepare("SELECT action, object FROM audit")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, StoreError>(rows.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    assert_eq!(rows, [("job.create".to_owned(), job.id.to_string())]);
}
