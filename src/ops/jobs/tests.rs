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
        Desk { store: self.store.clone(), hub: self.hub.clone(), rules: QueueRules::default() }
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
            token_hash: None,
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
async fn a_restores_details_may_stand_beside_its_kind_or_under_params_and_not_in_both() {
    let bench = bench().await;
    let beside = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "5FA1C2D8", "target": "/srv/back", "paths": ["/etc/hosts"], "overwrite": "never"});
    let under = json!({"kind": "restore", "params": {"repo_id": repo(1), "snapshot": "5FA1C2D8", "target": "/srv/back", "paths": ["/etc/hosts"], "overwrite": "never"}});
    let (a, b) = (bench.order(beside).await.unwrap(), bench.order(under).await.unwrap());
    assert_eq!((&a.input, a.repo_id), (&b.input, b.repo_id));
    let spec = a.input.restore.unwrap();
    assert_eq!(
        (spec.snapshot.as_str(), spec.target.as_str(), spec.overwrite),
        ("5fa1c2d8", "/srv/back", Overwrite::Never)
    );
    let twice = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "target": "/x", "params": {"target": "/y"}});
    assert_eq!(bench.refused(twice).await, ["target"]);
}

#[tokio::test]
async fn a_restore_over_the_original_files_needs_the_hosts_name() {
    let bench = bench().await;
    let base = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest"});
    let with = |more: serde_json::Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(bench.refused(with(json!({"in_place": true}))).await, ["confirm"]);
    assert_eq!(bench.refused(with(json!({"in_place": true, "confirm": "web"}))).await, ["confirm"]);
    assert_eq!(bench.refused(with(json!({"in_place": true, "confirm": "web-1", "target": "/srv"}))).await, ["target"]);
    for root in ["/", "//", "/.", "/./", r"C:\", "c:/"] {
        assert_eq!(bench.refused(with(json!({"target": root}))).await, ["target"], "{root}");
    }
    let job = bench.order(with(json!({"in_place": true, "confirm": "web-1"}))).await.unwrap();
    assert_eq!(job.input.restore.unwrap().target, "/");
}

#[tokio::test]
async fn what_is_wrong_with_a_restore_is_said_at_once() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "restore", "repo_id": repo(1)})).await, ["snapshot", "target"]);
    let wrong = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "--help", "target": "/srv/../etc", "paths": ["hosts"]});
    assert_eq!(bench.refused(wrong).await, ["snapshot", "paths[0]", "target"]);
}

#[tokio::test]
async fn a_kind_that_is_not_known_is_refused_with_those_that_are() {
    let bench = bench().await;
    for kind in ["say_hello", "", "Backup", "rm -rf /"] {
        let refused = bench.order(json!({"kind": kind, "repo_id": repo(1)})).await.unwrap_err();
        assert!(refused.to_string().contains("backup, restore, check"), "{refused}");
    }
}

#[tokio::test]
async fn fields_of_other_kinds_are_refused_and_never_dropped() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "check", "repo_id": repo(1), "dry_run": true})).await, ["dry_run"]);
    assert_eq!(
        bench.refused(json!({"kind": "unlock", "repo_id": repo(1), "target": "/x", "args": []})).await,
        ["args", "target"]
    );
    assert_eq!(
        bench.refused(json!({"kind": "unlock", "repo_id": repo(1), "params": {"proven_dead": ["ab"]}})).await,
        ["proven_dead"]
    );
    assert_eq!(
        bench.refused(json!({"kind": "check", "params": {"read_data": "yes", "queue": true}})).await,
        ["queue", "read_data"]
    );
    assert!(serde_json::from_value::<JobRequest>(json!({"kind": "check", "colour": "red"})).is_err());
}

#[tokio::test]
async fn each_kind_becomes_the_operation_that_its_agent_is_sent() {
    let bench = bench().await;
    let id = "ab".repeat(32);
    let cases = [
        (json!({"kind": "backup", "args": ["/etc"], "dry_run": true}), json!({"backup": {"dry_run": true}})),
        (
            json!({"kind": "forget", "params": {"retention": {"keep_daily": 7, "keep_tags": ["keep"]}, "hosts": ["web-1"], "prune": true}}),
            json!({"forget": {"keep": {"keep_daily": 7, "keep_tags": ["keep"]}, "of": {"hosts": ["web-1"]}, "group_by": ["host", "paths"], "prune": true, "dry_run": false}}),
        ),
        (json!({"kind": "prune", "max_unused": "5%"}), json!({"prune": {"max_unused": "5%", "dry_run": false}})),
        (
            json!({"kind": "check", "read_data_subset": "1/10"}),
            json!({"check": {"read_data_subset": "1/10", "read_data": false}}),
        ),
        (
            json!({"kind": "stats", "mode": "restore-size", "snapshot": "5fa1c2d8"}),
            json!({"stats": {"mode": "restore-size", "of": {}, "snapshot": "5fa1c2d8"}}),
        ),
        (
            json!({"kind": "diff", "a": "5FA1C2D8", "b": "77aa"}),
            json!({"diff": {"a": "5fa1c2d8", "b": "77aa", "metadata": false}}),
        ),
        (json!({"kind": "ls", "snapshot": "5fa1", "path": "/ a"}), json!({"ls": {"snapshot": "5fa1", "path": "/ a"}})),
        (
            json!({"kind": "find", "pattern": "*.conf", "ignore_case": true}),
            json!({"find": {"pattern": "*.conf", "ignore_case": true, "of": {}}}),
        ),
        (
            json!({"kind": "tag", "snapshots": ["5fa1"], "add": ["gold"]}),
            json!({"tag": {"snapshots": ["5fa1"], "add": ["gold"], "remove": []}}),
        ),
        (
            json!({"kind": "copy", "to": repo(2), "tags": ["gold"]}),
            json!({"copy": {"to": repo(2), "of": {"tags": ["gold"]}}}),
        ),
        (
            json!({"kind": "repair", "what": "packs", "packs": [id]}),
            json!({"repair": {"what": "packs", "packs": [id], "forget": false, "dry_run": false}}),
        ),
        (
            json!({"kind": "dump", "snapshot": "5fa1", "path": "/etc", "form": "zip"}),
            json!({"dump": {"snapshot": "5fa1", "path": "/etc", "form": "zip"}}),
        ),
        (json!({"kind": "unlock"}), json!({"unlock": {"proven_dead": []}})),
        (json!({"kind": "test"}), json!(null)),
        (json!({"kind": "locks"}), json!(null)),
        (json!({"kind": "tamper"}), json!(null)),
        (json!({"kind": "snapshots"}), json!(null)),
    ];
    for (mut body, operation) in cases {
        body.as_object_mut().unwrap().insert("repo_id".to_owned(), json!(repo(1)));
        let job = bench.order(body.clone()).await.unwrap();
        assert_eq!(serde_json::to_value(&job.input.operation).unwrap(), operation, "{body}");
        bench.end(job.id).await;
        let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id).await.unwrap()).await;
        assert_eq!((again.kind, again.repo_id, again.input), (job.kind, job.repo_id, job.input), "{body} again");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_details_of_a_kind_is_said_by_field() {
    let bench = bench().await;
    let cases = [
        (json!({"kind": "forget"}), vec!["retention"]),
        (json!({"kind": "forget", "retention": {}}), vec!["retention"]),
        (
            json!({"kind": "forget", "retention": {"keep_last": 0, "keep_within": "soon"}, "group_by": ["colour"]}),
            vec!["retention.keep_last", "retention.keep_within", "group_by[0]"],
        ),
        (json!({"kind": "forget", "plan_id": plan(9)}), vec!["plan_id"]),
        (json!({"kind": "prune", "max_unused": "some"}), vec!["max_unused"]),
        (json!({"kind": "check", "read_data_subset": "0/5"}), vec!["read_data_subset"]),
        (json!({"kind": "check", "read_data_subset": "5%", "read_data": true}), vec!["read_data_subset"]),
        (json!({"kind": "diff", "a": "latest"}), vec!["a", "b"]),
        (json!({"kind": "ls", "snapshot": "5fa1", "path": "etc"}), vec!["path"]),
        (json!({"kind": "find"}), vec!["pattern"]),
        (json!({"kind": "tag", "snapshots": ["latest"]}), vec!["snapshots[0]", "snapshots", "add"]),
        (json!({"kind": "tag", "snapshots": ["5fa1"], "add": ["a,b"]}), vec!["add[0]", "add"]),
        (json!({"kind": "copy"}), vec!["to"]),
        (json!({"kind": "copy", "to": repo(1)}), vec!["to"]),
        (json!({"kind": "copy", "to": repo(9)}), vec!["to"]),
        (json!({"kind": "repair"}), vec!["what"]),
        (json!({"kind": "repair", "what": "packs"}), vec!["packs"]),
        (json!({"kind": "repair", "what": "index", "forget": true}), vec!["forget"]),
    ];
    for (mut body, fields) in cases {
        if body.get("plan_id").is_none() {
            body.as_object_mut().unwrap().insert("repo_id".to_owned(), json!(repo(1)));
        }
        assert_eq!(bench.refused(body.clone()).await, fields, "{body}");
    }
}

#[tokio::test]
async fn a_forget_by_plan_takes_the_plans_rules_over_the_plans_snapshots() {
    let bench = bench().await;
    bench.cover(1, 2).await;
    let keeps_all = bench.order(json!({"kind": "forget", "plan_id": plan(1)})).await.unwrap_err();
    assert!(keeps_all.to_string().contains("keeps everything"), "{keeps_all}");
    bench.keep(r#"{"keep_daily": 7}"#).await;
    let job = bench.order(json!({"kind": "forget", "plan_id": plan(1), "dry_run": true})).await.unwrap();
    assert_eq!((job.repo_id, job.plan_id), (Some(repo(2)), Some(plan(1))));
    let Some(Operation::Forget(spec)) = job.input.operation else { panic!("{:?}", job.input) };
    assert_eq!(spec.of.tags, [format!("plan-{}", plan(1).to_string().to_lowercase())]);
    assert_eq!((spec.group_by, spec.keep.keep_daily, spec.dry_run), (vec!["host".to_owned()], Some(7), true));
    bench.end(job.id).await;
    bench.keep(r#"{"keep_weekly": 3}"#).await;
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id).await.unwrap()).await;
    let Some(Operation::Forget(spec)) = again.input.operation else { panic!("{:?}", again.input) };
    assert_eq!(
        (spec.keep.keep_daily, spec.keep.keep_weekly, spec.dry_run),
        (None, Some(3), true),
        "the rules as they are now"
    );
}

#[tokio::test]
async fn what_deletes_goes_to_the_maintenance_host_and_nowhere_where_it_could_not_delete() {
    let bench = bench().await;
    let prune = json!({"kind": "prune", "repo_id": repo(1)});
    assert_eq!(bench.order(prune.clone()).await.unwrap().host_id, host_id(), "its hosts may delete");
    bench.repository("append_only = 1").await;
    let refused = bench.order(prune.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("no maintenance credentials"), "{refused}");
    bench.order(json!({"kind": "prune", "repo_id": repo(1), "dry_run": true})).await.unwrap();
    bench.repository(r#"secrets_set = '["maintenance"]'"#).await;
    let refused = bench.order(prune.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("no maintenance host"), "{refused}");
    let other = bench.host(7, "vault").await;
    bench.repository(&format!("maintenance_host_id = '{other}'")).await;
    assert_eq!(bench.order(prune).await.unwrap().host_id, other);
}

#[test]
fn deleting_is_for_administrators_and_a_dry_run_of_it_is_not() {
    let role = |body| least_role(&serde_json::from_value(body).unwrap());
    for kind in ["forget", "prune", "tag", "repair"] {
        assert_eq!(role(json!({"kind": kind})), Role::Admin, "{kind}");
    }
    assert_eq!(role(json!({"kind": "prune", "dry_run": true})), Role::Operator);
    assert_eq!(role(json!({"kind": "prune", "params": {"dry_run": true}})), Role::Operator);
    assert_eq!(role(json!({"kind": "tag", "params": {"dry_run": true}})), Role::Admin);
    assert_eq!(role(json!({"kind": "restore"})), Role::Operator);
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
async fn a_rerun_follows_the_plan_as_it_is_now_and_names_the_job_it_repeats() {
    let bench = bench().await;
    bench.cover(1, 1).await;
    let first = bench.order(json!({"kind": "backup"})).await.unwrap();
    let early = rerun(&bench.desk(), Actor::system(), first.id).await;
    assert!(matches!(early, Err(OpError::Conflict(_))), "{early:?}");
    bench.end(first.id).await;
    bench
        .store
        .write(|tx| {
            tx.db().execute("UPDATE plans SET repo_id = ?1", [repo(2).to_string()])?;
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let again = bench.job(rerun(&bench.desk(), Actor::system(), first.id).await.unwrap()).await;
    assert_eq!((again.rerun_of, again.plan_id, again.repo_id), (Some(first.id), Some(plan(1)), Some(repo(2))));
}

#[tokio::test]
async fn a_restore_in_place_is_never_rerun_without_a_new_confirmation() {
    let bench = bench().await;
    let order =
        json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "in_place": true, "confirm": "web-1"});
    let job = bench.order(order).await.unwrap();
    bench.end(job.id).await;
    let refused = rerun(&bench.desk(), Actor::system(), job.id).await.unwrap_err();
    assert!(refused.to_string().contains("confirm"), "{refused}");
    let beside = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "target": "/srv/x"});
    let job = bench.order(beside).await.unwrap();
    bench.end(job.id).await;
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id).await.unwrap()).await;
    assert_eq!(again.input, job.input);
}

#[tokio::test]
async fn cancelling_ends_a_job_that_no_agent_has_and_refuses_one_that_is_over() {
    let bench = bench().await;
    let job = bench.order(json!({"kind": "check", "repo_id": repo(1)})).await.unwrap();
    assert_eq!(cancel(&bench.desk(), Actor::system(), job.id).await.unwrap(), Cancelled::AtOnce);
    assert!(matches!(cancel(&bench.desk(), Actor::system(), job.id).await, Err(OpError::Conflict(_))));
    assert!(matches!(
        cancel(&bench.desk(), Actor::system(), JobId::from_parts(9, 9)).await,
        Err(OpError::NotFound("job"))
    ));
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
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id).await.unwrap()).await;
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
