//! The control plane's own agent, in a real `flotilla serve`: it works on real repositories, comes back with its server, and is no part of the fleet.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use serde_json::{Value, json};

use house::{House, repository::RestServer, wait::until};

/// Its host's id, once it is connected.
async fn own_agent(house: &House) -> String {
    let own = until("the own agent connects", async || {
        let list = house.api.get("/api/hosts?own=true").await;
        list["items"].as_array()?.iter().find(|host| host["status"] == "online").cloned()
    });
    own.await["id"].as_str().unwrap().to_owned()
}

async fn run(house: &House, host: &str, order: Value) -> Value {
    let job = house.api.order(host, order).await;
    house.api.end_of(&job).await
}

#[tokio::test]
async fn it_works_on_a_repository_as_any_agent_and_is_the_same_after_a_restart() {
    let mut house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let vault = rest.ready("vault");
    rest.restic("vault", &["backup", "--host", "web-1", "/etc/hostname"]).must();
    let repo = house.api.repo(vault).await;
    let own = own_agent(&house).await;
    for kind in ["snapshots", "check", "stats"] {
        let ended = run(&house, &own, json!({"kind": kind, "repo_id": repo})).await;
        assert_eq!(ended["status"], "succeeded", "{kind}: {ended}");
    }
    house.kill_and_restart().await;
    assert_eq!(own_agent(&house).await, own);
    let ended = run(&house, &own, json!({"kind": "snapshots", "repo_id": repo})).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
}

#[tokio::test]
async fn it_is_not_counted_as_a_host_and_cannot_be_parted_with() {
    let house = House::start().await;
    let own = own_agent(&house).await;
    assert_eq!(house.api.get("/api/hosts").await["items"], json!([]));
    let refused = house.api.ask(reqwest::Method::DELETE, &format!("/api/hosts/{own}"), None).await.must(409);
    assert!(refused["detail"].as_str().unwrap().contains("own agent"), "{refused}");
    house.api.post(&format!("/api/hosts/{own}/revoke"), json!({})).await.must(409);
    assert_eq!(own_agent(&house).await, own);
}

#[tokio::test]
async fn who_may_order_jobs_has_no_shell_on_the_control_plane_for_that() {
    let house = House::start().await;
    let own = own_agent(&house).await;
    let steps = json!([{"type": "local", "label": "Look", "cmd": "id"}]);
    for order in [json!({"kind": "check_status"}), json!({"kind": "steps", "params": {"steps": steps}})] {
        let refused = house.api.post(&format!("/api/hosts/{own}/jobs"), order).await.must(422);
        let why = refused["errors"][0]["message"].as_str().unwrap();
        assert!(why.contains("do not run on the control plane itself"), "{refused}");
    }
}
