//! The control plane is away: what is due runs all the same, is told when it is back, and is one job of its moment.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{path::Path, sync::Arc, time::Duration};

use flotilla_agent::{
    AgentError, AgentOptions,
    clock::{Clock as _, ManualClock, SystemClock},
    executor::{Executor, ExecutorConfig},
    identity::StateDir,
    schedule::SchedulePolicy,
    seal::Seal,
    serve,
};
use flotilla_proto::Limits;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use house::{
    House,
    api::{assert_whole, id},
    program::tool,
    repository::RestServer,
    tree::write_files,
    wait::until,
};

/// The agent of a state folder in this process, with a clock of the test's own and little patience for an absent server.
struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    #[expect(clippy::disallowed_methods, reason = "the handle is its owner: `stop` waits for it")]
    fn start(state: &Path, clock: Arc<ManualClock>) -> Self {
        let identity = StateDir::at(state).load().unwrap();
        let config = ExecutorConfig::new(state.to_owned(), Some(tool("bin/restic")), Limits::default());
        let (stamp, seal) = (Arc::clone(&clock), Seal::from_token(&identity.agent_token));
        let executor = Executor::new(config, seal, TaskTracker::new(), Arc::new(move || stamp.now())).unwrap();
        let mut options = AgentOptions::new(state, Arc::new(executor));
        options.clock = clock;
        options.schedules = SchedulePolicy {
            look_every: Duration::from_millis(100),
            answer_within: Duration::from_millis(500),
            alone_after: Duration::from_millis(500),
            ..SchedulePolicy::default()
        };
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(serve(identity, options, stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn jobs(house: &House) -> Vec<Value> {
    house.api.get("/api/jobs").await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_backup_that_is_due_while_the_server_is_away_runs_and_is_told_later_as_the_one_job_of_its_moment() {
    let mut house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 20, 1000);
    // Enrolled as a person would; then its state is given to an agent whose clock is ours.
    let mut enrolled = house.agent("web").await;
    enrolled.kill_hard();
    let state = house.folder("host-web").join("state");
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let agent = Agent::start(&state, Arc::clone(&clock));
    let repo = house.api.repo(rest.input("vault")).await;
    let plan = json!({
        "name": "nightly", "repo_id": repo, "hosts": [enrolled.host_id], "paths": [source],
        "schedule": {"cron": "* * * * *", "timezone": "UTC"},
    });
    let plan = id(&house.api.post("/api/plans", plan).await.must(201));
    // What is not there yet is created only while the server keeps hosts apart.
    let first = house.api.back_up(&enrolled.host_id, &plan).await;
    assert_eq!(house.api.end_of(&first).await["status"], "succeeded");
    until("the agent has the schedule", async || {
        let schedules = house.api.get("/api/schedules").await;
        (schedules["items"][0]["state"]["in_force"] == true).then_some(())
    })
    .await;

    house.kill();
    clock.advance_ms(61_000);
    until("the backup runs by itself", async || (rest.snapshots("vault").len() == 2).then_some(())).await;
    house.kill_and_restart().await;
    let told = until("the server hears of it", async || {
        jobs(&house).await.into_iter().find(|job| job["ran_alone"] == true && job["status"] == "succeeded")
    })
    .await;
    assert_eq!(told["actor"]["kind"], "schedule", "{told}");
    let log = house.api.log(told["id"].as_str().unwrap(), 1000).await;
    assert_whole(&log);
    assert_eq!(told["log_lines"], log.len());

    // The next moment comes with the server there: a job as any other. No moment has two.
    clock.advance_ms(60_000);
    let all = until("the next one runs with the server", async || {
        let all = jobs(&house).await;
        let over = all.iter().all(|job| job["status"] == "succeeded");
        (over && all.iter().any(|job| job["ran_alone"] == false && job["scheduled_at"].is_string())).then_some(all)
    })
    .await;
    let mut moments: Vec<&str> = all.iter().filter_map(|job| job["scheduled_at"].as_str()).collect();
    moments.sort_unstable();
    moments.dedup();
    assert_eq!(moments.len() + 1, all.len());
    assert_eq!(rest.snapshots("vault").len(), all.len());
    agent.stop().await;
}
