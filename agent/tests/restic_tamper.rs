//! Deletions on a server that refuses them, and the test that proves it. restic 0.14 tries for most of a minute before it believes a refusal, so what needs
//! that waits together; 0.17 and 0.18 end with 0 after a refused forget, and every version does after a refused tag.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/upkeep.rs"]
mod upkeep;

use std::path::Path;

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{
    ForgetResult, ForgetSpec, JobKind, JobStatus, KeepRules, Operation, RepoSpec, TagResult, TagSpec, TamperResult,
    TamperVerdict,
};
use harness::{VERSIONS, free_port, local_repo, of_kind, ready_local_repo, secret};
use upkeep::{Bench, Guard, doomed, result};

fn keep(last: u32) -> ForgetSpec {
    ForgetSpec { keep: KeepRules { keep_last: Some(last), ..KeepRules::default() }, ..ForgetSpec::default() }
}

async fn forget_on_an_append_only_server(version: &'static str) {
    let mut bench = Bench::guarded(version, &Guard::content());
    bench.snapshots(2).await;
    let (end, memory) = bench.run(JobKind::Forget, bench.repo(), Some(Operation::Forget(keep(1)))).await;
    assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}\n{}", memory.text());
    let told = end.error.clone().unwrap();
    assert!(told.contains("still there") && told.contains("maintenance credentials"), "{version}: {told}");
    let result: ForgetResult = result(&end);
    assert_eq!((result.removed, result.still_there.len()), (0, 1));
    assert_eq!(bench.ids().await.len(), 2);
}

async fn tag_on_an_append_only_server(version: &'static str) {
    let mut bench = Bench::new(version);
    bench.snapshots(1).await;
    let ids = bench.ids().await;
    let spec = TagSpec { snapshots: ids, add: vec!["kept".to_owned()], remove: vec!["flotilla".to_owned()] };
    let (end, _) = bench.run(JobKind::Tag, bench.repo(), Some(Operation::Tag(spec))).await;
    assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
    assert!(end.error.as_ref().unwrap().contains("1 copies with the new tags were left"), "{version}: {end:?}");
    assert_eq!(result::<TagResult>(&end).changed, 0);
}

/// The verdict, which must fit the job's end.
fn verdict(end: &JobOutcome) -> TamperVerdict {
    let result: TamperResult = result(end);
    let wanted = if result.verdict == TamperVerdict::Protected { JobStatus::Succeeded } else { JobStatus::Failed };
    assert_eq!(end.status, wanted, "{end:?}");
    result.verdict
}

async fn tamper_on_an_append_only_server(version: &'static str) {
    let mut bench = Bench::new(version);
    bench.snapshots(1).await;
    let (end, memory) = bench.run(JobKind::Tamper, bench.repo(), None).await;
    assert_eq!(verdict(&end), TamperVerdict::Protected, "{version}: {end:?}\n{}", memory.text());
    let tried = result::<TamperResult>(&end).tried;
    assert!(tried.len() == 3 && tried.iter().all(|tried| tried.refused), "{version}: {tried:?}");
    assert!(tried[1].said.contains("403"), "{version}: {tried:?}");
    assert_eq!(bench.ids().await.len(), 2, "{version}: the object stays");
}

async fn all_refusals(version: &'static str) {
    tokio::join!(
        forget_on_an_append_only_server(version),
        tag_on_an_append_only_server(version),
        tamper_on_an_append_only_server(version)
    );
}

#[tokio::test]
async fn what_a_server_refuses_has_failed_and_proves_that_it_is_append_only_in_0_14() {
    all_refusals("0.14").await;
}

#[tokio::test]
async fn what_a_server_refuses_has_failed_and_proves_that_it_is_append_only_in_0_18() {
    all_refusals("0.18").await;
}

#[tokio::test]
async fn what_a_server_refuses_has_failed_and_proves_that_it_is_append_only_in_0_19() {
    all_refusals("0.19").await;
}

#[tokio::test]
async fn a_repository_that_is_not_append_only_fails_the_tamper_test_loudly() {
    for version in VERSIONS {
        let mut bench = Bench::new(version);
        bench.snapshots(1).await;
        let before = bench.ids().await;
        let (end, _) = bench.run(JobKind::Tamper, bench.maintenance.repo("r"), None).await;
        assert_eq!(verdict(&end), TamperVerdict::Vulnerable, "{version}");
        assert!(end.error.as_ref().unwrap().contains("NOT append-only"), "{version}: {end:?}");
        assert_eq!(bench.ids().await, before, "{version}: nothing but the object was touched");
    }
}

#[tokio::test]
async fn a_repository_in_a_folder_of_the_host_is_at_the_mercy_of_the_host() {
    let mut bench = Bench::new("0.18");
    let work = tempfile::tempdir().unwrap();
    let repo = ready_local_repo(&work.path().join("repo"));
    let (end, _) = bench.run(JobKind::Tamper, repo, None).await;
    assert_eq!(verdict(&end), TamperVerdict::Vulnerable);
}

#[tokio::test]
async fn the_object_of_a_tamper_test_serves_again_and_retention_leaves_it_alone() {
    let guard = Guard::new(|request| flotilla_proto::GuardAnswer { remove: doomed(request), ..Default::default() });
    let mut bench = Bench::guarded("0.19", &guard);
    bench.snapshots(2).await;
    for _ in 0..2 {
        let (end, memory) = bench.run(JobKind::Tamper, bench.repo(), None).await;
        assert_eq!(verdict(&end), TamperVerdict::Protected, "{}", memory.text());
        assert_eq!(bench.ids().await.len(), 3);
    }
    let spec = ForgetSpec { group_by: vec!["host".to_owned()], ..keep(1) };
    let (end, memory) =
        bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), Some(Operation::Forget(spec))).await;
    assert_eq!((end.kept, end.removed), (1, 1), "{}", memory.text());
    assert!(memory.text().contains("1 snapshots of tamper tests are left alone"), "{}", memory.text());
    assert_eq!(bench.ids().await.len(), 2);
}

#[tokio::test]
async fn a_tamper_test_that_can_not_be_made_says_that_nothing_is_known_and_why() {
    let mut bench = Bench::new("0.19");
    bench.snapshots(1).await;
    let wrong = RepoSpec { password: secret("planted-repo wrong"), ..bench.repo() };
    let dead = RepoSpec { url: format!("rest:http://127.0.0.1:{}/r/", free_port()), ..local_repo(Path::new("/")) };
    for (repo, words) in [(wrong, "the repository's password is wrong"), (dead, "refuses connections")] {
        let (end, _) = bench.run(JobKind::Tamper, repo, None).await;
        let told = end.error.clone().unwrap();
        assert_eq!(verdict(&end), TamperVerdict::Unknown, "{told}");
        assert!(told.starts_with("whether this repository is append-only could not be tried: "), "{told}");
        assert!(told.contains(words) && told.matches("could not be tried").count() == 1, "{told}");
    }
    bench.endpoint.freeze();
    let order = of_kind(99, JobKind::Tamper, bench.repo());
    let memory = bench.agent.submit(&order);
    memory.until("it begins", |seen| (!seen.lines.is_empty()).then_some(())).await;
    assert!(bench.agent.executor.cancel(order.job_id));
    bench.endpoint.thaw();
    let end = memory.end().await;
    assert_eq!(end.status, JobStatus::Cancelled);
    assert!(end.error.as_ref().unwrap().starts_with("the test was cancelled: whether this repository"), "{end:?}");
    assert_eq!(result::<TamperResult>(&end).verdict, TamperVerdict::Unknown);
}
