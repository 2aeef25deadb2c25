//! Repeating and cancelling.

use super::*;

#[tokio::test]
async fn a_rerun_follows_the_plan_as_it_is_now_and_names_the_job_it_repeats() {
    let bench = bench().await;
    bench.cover(1, 1).await;
    let first = bench.order(json!({"kind": "backup"})).await.unwrap();
    let early = rerun(&bench.desk(), Actor::system(), first.id, Again::default()).await;
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
    let again = bench.job(rerun(&bench.desk(), Actor::system(), first.id, Again::default()).await.unwrap()).await;
    assert_eq!((again.rerun_of, again.plan_id, again.repo_id), (Some(first.id), Some(plan(1)), Some(repo(2))));
}

#[tokio::test]
async fn a_restore_in_place_is_never_rerun_without_a_new_confirmation() {
    let bench = bench().await;
    let order =
        json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "in_place": true, "confirm": "web-1"});
    let job = bench.order(order).await.unwrap();
    bench.end(job.id).await;
    let refused = rerun(&bench.desk(), Actor::system(), job.id, Again::default()).await.unwrap_err();
    assert!(refused.to_string().contains("confirm"), "{refused}");
    let beside = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "target": "/srv/x"});
    let job = bench.order(beside).await.unwrap();
    bench.end(job.id).await;
    let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id, Again::default()).await.unwrap()).await;
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
