//! Agents that do not do as they should, and links that break: each gets a precise answer, nothing else changes, nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

#[path = "agents/frames.rs"]
mod frames;
#[path = "agents/links.rs"]
mod links;
#[path = "agents/orders.rs"]
mod orders;
#[path = "agents/queue.rs"]
mod queue;
#[path = "agents/rights.rs"]
mod rights;
#[path = "agents/schedules.rs"]
mod schedules;

use serde_json::json;

use house::{
    Local,
    raw_agent::{Enrolled, RawAgent, enrol},
    system_clock,
};

/// A server with the usual deadlines.
async fn server() -> Local {
    Local::start(system_clock(), flotilla::fleet::FleetOptions::default()).await
}

/// Orders a backup of a host.
async fn order(server: &Local, host: &Enrolled) -> String {
    let name = format!("repository {}", flotilla::credential::random_bits().unwrap());
    let repo = json!({"name": name, "url": "rest:http://127.0.0.1:1/", "password": "x", "init": true});
    let repo = server.api.repo(repo).await;
    server.api.order(&host.host_id, json!({"kind": "backup", "repo_id": repo, "args": ["/etc"]})).await
}

/// A connected agent that runs a job.
async fn running(server: &Local, name: &str) -> (RawAgent, Enrolled, String) {
    let host = enrol(&server.api, name).await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let job = order(server, &host).await;
    assert_eq!(agent.ordered().await, job);
    agent.started(&job).await;
    agent.is_fine().await;
    (agent, host, job)
}
