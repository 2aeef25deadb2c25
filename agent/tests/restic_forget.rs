//! Forgets of more snapshots than one command takes, and upkeep that is cancelled: what is done by then is said, and the next run does the rest.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/upkeep.rs"]
#[expect(dead_code, reason = "a part of it is used")]
mod upkeep;

use std::sync::Arc;

use flotilla_proto::{
    CommandRun, ForgetResult, ForgetSpec, GuardAnswer, JobId, JobKind, JobStatus, KeepRules, Operation, PruneSpec,
};
use harness::{Agent, Memory, of_kind, restic};
use upkeep::{Bench, Guard, doomed};

fn keep_one() -> Option<Operation> {
    let keep = KeepRules { keep_last: Some(1), ..KeepRules::default() };
    Some(Operation::Forget(ForgetSpec { keep, ..ForgetSpec::default() }))
}

/// Six snapshots, of which two go with each command.
async fn bench(guard: &Arc<Guard>) -> Bench {
    let mut bench = Bench::new("0.19");
    bench.agent = Agent::with(&restic("0.19"), |config| config.ids_at_once = 2);
    bench.agent.executor.set_errands(guard.clone());
    bench.snapshots(6).await;
    bench
}

/// Cancels a job whose restic stands still at its server, and lets that go on.
async fn cancelled(bench: &Bench, order: &CommandRun, memory: &Memory) -> flotilla_agent::sink::JobOutcome {
    memory.until("restic runs", |seen| seen.pid).await;
    cancel(bench, order.job_id);
    memory
        .until("the polite stop", |seen| seen.lines.iter().any(|(_, line)| line.contains("SIGINT")).then_some(()))
        .await;
    bench.maintenance.thaw();
    memory.end().await
}

fn cancel(bench: &Bench, job: JobId) {
    assert!(bench.agent.executor.cancel(job));
}

#[tokio::test]
async fn more_snapshots_than_one_command_takes_go_by_several_and_a_list_proves_all() {
    let mut bench = bench(&Guard::content()).await;
    let before = bench.ids().await;
    let (end, memory) = bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), keep_one()).await;
    assert_eq!((end.kept, end.removed, end.still_there.len()), (1, 5, 0));
    assert_eq!(bench.ids().await, before[5..]);
    let text = memory.text();
    assert_eq!(text.matches("removing 2 snapshots\n").count(), 2, "{text}");
    assert!(text.contains("removing 1 snapshot ("), "{text}");
}

#[tokio::test]
async fn a_forget_that_is_cancelled_between_its_commands_says_how_many_are_gone_and_the_next_removes_the_rest() {
    let mut bench = bench(&Guard::content()).await;
    let order = CommandRun { operation: keep_one(), ..of_kind(bench.number(), JobKind::Forget, bench.open_repo()) };
    let memory = bench.agent.submit(&order);
    let second = |seen: &harness::Seen| {
        let parts = seen.lines.iter().filter(|(_, line)| line.starts_with("removing 2 snapshots")).count();
        (parts == 2).then_some(())
    };
    memory.until("the second part", second).await;
    cancel(&bench, order.job_id);
    let end = memory.end().await;
    let error = end.error.unwrap();
    assert_eq!(end.status, JobStatus::Cancelled, "{error}");
    assert!(error.contains("of 5 snapshots that were to go at least 2 are gone"), "{error}\n{}", memory.text());
    let left = bench.ids().await.len();
    assert!((2..=4).contains(&left), "{left}");
    let (end, _) = bench.good::<ForgetResult>(JobKind::Forget, bench.open_repo(), keep_one()).await;
    assert_eq!(end.removed as usize, left - 1);
}

#[tokio::test]
async fn cancelled_upkeep_says_what_may_have_been_done_by_then() {
    let mut bench = Bench::new("0.19");
    bench.snapshots(2).await;
    let pid = bench.maintenance.pid();
    bench.agent.executor.set_errands(Guard::new(move |request| {
        harness::signal(pid, "-STOP");
        GuardAnswer { remove: doomed(request), ..GuardAnswer::default() }
    }));
    let order = CommandRun { operation: keep_one(), ..of_kind(bench.number(), JobKind::Forget, bench.open_repo()) };
    let memory = bench.agent.submit(&order);
    let end = cancelled(&bench, &order, &memory).await;
    let error = end.error.unwrap();
    assert_eq!(end.status, JobStatus::Cancelled, "{error}");
    assert!(error.starts_with("cancelled while it ran; snapshots that were removed by then are gone"), "{error}");
    assert!(error.contains("what was removed is not proven"), "{error}");

    let prune = Some(Operation::Prune(PruneSpec { max_unused: Some("0".to_owned()), dry_run: false }));
    let order = CommandRun { operation: prune, ..of_kind(bench.number(), JobKind::Prune, bench.open_repo()) };
    let memory = bench.agent.submit(&order);
    memory.until("restic runs", |seen| seen.pid).await;
    bench.maintenance.freeze();
    let end = cancelled(&bench, &order, &memory).await;
    let error = end.error.unwrap();
    assert_eq!(end.status, JobStatus::Cancelled, "{error}");
    assert!(error.starts_with("cancelled while it ran; the repository is whole"), "{error}");
    let (end, _) = bench.run(JobKind::Check, bench.repo(), None).await;
    assert_eq!(end.status, JobStatus::Succeeded, "{end:?}");
}
