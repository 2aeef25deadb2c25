//! What deletes: whose leave it needs, by which rules it goes, where it runs.

use super::*;

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
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id, Again::default()).await.unwrap()).await;
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
