//! What happens when a part is cut off in the middle of a backup: the job ends, its end is the truth, and nothing stays behind.

use serde_json::Value;

use crate::{
    assert_names_each_file_once,
    house::{Agent, House, api::assert_whole, repository::RestServer, tree::write_files, viewer::Viewer, wait::until},
    text,
};

/// A backup that runs, for `seconds` or so: the upload is throttled.
struct Stage {
    house: House,
    rest: RestServer,
    agent: Agent,
    plan: String,
    job: String,
}

const FILE_BYTES: usize = 2_000;

impl Stage {
    async fn set(files: u64, seconds: u64) -> Self {
        let house = House::start().await;
        let rest = RestServer::start(&house.folder("rest")).await;
        let source = house.folder("source");
        write_files(&source, files, FILE_BYTES);
        let agent = house.agent("web").await;
        let repo = house.api.repo(rest.ready("vault")).await;
        let limit_kib = files * FILE_BYTES as u64 / 1024 / seconds;
        let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], u32::try_from(limit_kib).unwrap()).await;
        let job = house.api.back_up(&agent.host_id, &plan).await;
        house.api.running_with(&job, 50).await;
        Self { house, rest, agent, plan, job }
    }

    /// Another backup by the same plan goes through.
    async fn next_backup_is_fine(&self) {
        let job = self.house.api.back_up(&self.agent.host_id, &self.plan).await;
        let ended = self.house.api.end_of(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
    }
}

#[tokio::test]
async fn a_cancelled_backup_ends_as_cancelled_and_leaves_no_lock() {
    let stage = Stage::set(2_000, 60).await;
    assert_eq!(stage.rest.locks("vault"), 1);
    let watching = Viewer::open(&stage.house.api, &stage.house.url, &stage.job, 0).await;
    let path = format!("/api/jobs/{}/cancel", stage.job);
    assert_eq!(stage.house.api.post(&path, Value::Null).await.status, 202);
    // Asking again changes nothing.
    stage.house.api.post(&path, Value::Null).await;
    let seen = watching.read_all().await;
    assert_eq!((seen.code, seen.finished["status"].as_str()), (1000, Some("cancelled")));
    let ended = stage.house.api.job(&stage.job).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    assert_eq!(stage.rest.locks("vault"), 0);
    assert_eq!(stage.rest.snapshots("vault").len(), 0);
    assert_eq!(stage.house.api.post(&path, Value::Null).await.status, 409);
    until("restic is gone", async || (stage.agent.processes().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_job_that_was_killed_with_its_agent_ends_as_failed_and_the_next_one_runs() {
    let mut stage = Stage::set(2_000, 10).await;
    stage.agent.kill_hard();
    stage.house.api.host_in_state(&stage.agent.host_id, "offline").await;
    let waiting = stage.house.api.job(&stage.job).await;
    assert_eq!(waiting["status"], "running", "nobody knows its end yet: {waiting}");
    stage.agent.start();
    let ended = stage.house.api.end_of(&stage.job).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("restic was killed while no agent ran") && error.contains("Run the job again"), "{error}");
    assert_whole(&stage.house.api.log(&stage.job, 1000).await);
    stage.next_backup_is_fine().await;
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_backup_loses_and_doubles_no_line() {
    const FILES: u64 = 6_000;
    let mut stage = Stage::set(FILES, 8).await;
    for _ in 0..2 {
        stage.house.kill_and_restart().await;
        stage.house.api.host_in_state(&stage.agent.host_id, "online").await;
    }
    let ended = stage.house.api.end_of(&stage.job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let lines = stage.house.api.log(&stage.job, 777).await;
    assert_whole(&lines);
    assert_eq!(ended["log_lines"], lines.len());
    assert_names_each_file_once(&lines, usize::try_from(FILES).unwrap());
    assert_eq!(stage.rest.snapshots("vault").len(), 1);
}

#[tokio::test]
async fn a_backup_that_ends_while_the_server_is_away_is_told_when_it_is_back() {
    let mut stage = Stage::set(2_000, 5).await;
    stage.house.kill();
    until("the backup ends by itself", async || (stage.rest.snapshots("vault").len() == 1).then_some(())).await;
    until("restic is gone", async || (stage.agent.processes().len() == 1).then_some(())).await;
    stage.house.kill_and_restart().await;
    let ended = stage.house.api.end_of(&stage.job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let lines = stage.house.api.log(&stage.job, 1000).await;
    assert_whole(&lines);
    assert_names_each_file_once(&lines, 2_000);
}
