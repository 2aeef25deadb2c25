//! Whose agent is given what: credentials that may delete go to the maintenance host, with the order that needs them, and nowhere else.

use serde_json::{Value, json};

use crate::{
    house::{
        Local,
        raw_agent::{RawAgent, enrol},
        viewer::{Heard, next},
    },
    server,
};

/// Of the user that may delete.
const MAY_DELETE: &str = "planted-maintenance";

/// The orders of these jobs, with all else that the agent is told on the way to the last of them.
async fn told_until(agent: &mut RawAgent, last: &str) -> String {
    let mut all = String::new();
    loop {
        let Heard::Frame { kind, payload, .. } = next(&mut agent.0).await else { panic!("the line broke: {all}") };
        all.push_str(&payload.to_string());
        if kind == "schedule.set" {
            agent.say("schedule.ack", json!({"version": payload["version"], "rejected": []})).await;
        }
        if kind == "command.run" {
            let job = payload["job_id"].as_str().unwrap().to_owned();
            agent.started(&job).await;
            agent.finished(&job, 0).await;
            if job == last {
                return all;
            }
        }
    }
}

async fn ordered(server: &Local, host: &str, order: Value) -> String {
    server.api.order(host, order).await
}

#[tokio::test]
async fn credentials_that_may_delete_go_to_the_maintenance_host_with_an_order_that_deletes_and_to_no_endpoint() {
    let server = server().await;
    let (keeper, endpoint) = (enrol(&server.api, "keeper").await, enrol(&server.api, "web").await);
    let vault = json!({
        "name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x", "append_only": true,
        "auth": {"username": "web", "password": "planted-endpoint"},
        "maintenance": {"url": "rest:http://127.0.0.1:2/", "username": "keeper", "password": MAY_DELETE},
        "maintenance_host_id": keeper.host_id,
    });
    let repo = server.api.repo(vault).await;
    let plan = json!({
        "name": "nightly", "repo_id": repo, "hosts": [endpoint.host_id, keeper.host_id], "paths": ["/etc"],
        "retention": {"keep_last": 3},
        "schedule": {"cron": "0 3 * * *", "timezone": "UTC", "jitter_s": 0, "catch_up": "once", "enabled": true},
    });
    let plan = server.api.post("/api/plans", plan).await.must(201)["id"].as_str().unwrap().to_owned();
    let (mut at_keeper, _) = RawAgent::connect(&server.running.url, &keeper.token, json!([])).await;
    let (mut at_endpoint, _) = RawAgent::connect(&server.running.url, &endpoint.token, json!([])).await;

    // Whatever host an order to delete names, it goes to the maintenance host.
    let host = endpoint.host_id.as_str();
    let forget = ordered(&server, host, json!({"kind": "forget", "plan_id": plan})).await;
    let told = told_until(&mut at_keeper, &forget).await;
    assert!(
        told.contains(MAY_DELETE) && told.contains("\"memory_only\":true") && told.contains("127.0.0.1:2"),
        "{told}"
    );
    // Its own backups go with the endpoints' credentials, and its schedules hold no others.
    let backup = ordered(&server, &keeper.host_id, json!({"kind": "backup", "plan_id": plan})).await;
    let told = told_until(&mut at_keeper, &backup).await;
    assert!(told.contains("planted-endpoint") && !told.contains(MAY_DELETE), "{told}");

    // An endpoint does all else, dry runs of a deletion too, and never hears of them.
    let orders = [
        json!({"kind": "backup", "plan_id": plan}),
        json!({"kind": "check", "repo_id": repo}),
        json!({"kind": "unlock", "repo_id": repo}),
        json!({"kind": "tamper", "repo_id": repo}),
        json!({"kind": "forget", "plan_id": plan, "dry_run": true}),
        json!({"kind": "prune", "repo_id": repo, "dry_run": true}),
    ];
    let mut all = String::new();
    let work = async {
        for order in orders {
            let job = ordered(&server, host, order).await;
            all.push_str(&told_until(&mut at_endpoint, &job).await);
        }
    };
    // What the server orders by itself meanwhile must not hold the repository for ever.
    tokio::select! {
        () = work => {}
        told = told_until(&mut at_keeper, "no job at all") => panic!("{told}"),
    }
    assert!(all.contains("planted-endpoint") && all.contains("entries") && !all.contains(MAY_DELETE), "{all}");
    server.stop().await;
}

#[tokio::test]
async fn a_maintenance_host_that_was_changed_gets_no_order_that_was_made_for_it_before() {
    let server = server().await;
    let (old, new) = (enrol(&server.api, "old").await, enrol(&server.api, "new").await);
    let vault = json!({
        "name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x", "append_only": true,
        "maintenance": {"username": "keeper", "password": MAY_DELETE}, "maintenance_host_id": old.host_id,
    });
    let repo = server.api.repo(vault).await;
    let prune = ordered(&server, &new.host_id, json!({"kind": "prune", "repo_id": repo})).await;
    let change = json!({"maintenance_host_id": new.host_id});
    server.api.ask(reqwest::Method::PATCH, &format!("/api/repos/{repo}"), Some(change)).await.must(200);
    let (mut at_old, _) = RawAgent::connect(&server.running.url, &old.token, json!([])).await;
    let ended = server.api.end_of(&prune).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    at_old.is_fine().await;
    server.stop().await;
}
