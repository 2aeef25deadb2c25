//! A plan with hooks and a second repository, from the form's fields to what stands on the host and in both repositories.

use std::fs;

use serde_json::{Value, json};

use crate::{
    house::{House, api::id, repository::RestServer, tree::write_files, wait::until},
    text,
};

async fn copy_of(house: &House, plan: &str) -> Option<Value> {
    let jobs = house.api.get("/api/jobs?kind=copy").await;
    let copies: Vec<Value> = jobs["items"].as_array()?.iter().filter(|job| job["plan_id"] == plan).cloned().collect();
    assert!(copies.len() <= 1, "a snapshot is copied once: {copies:?}");
    copies.into_iter().next()
}

#[tokio::test]
async fn a_plan_runs_its_hooks_on_the_host_and_each_snapshot_is_copied_once() {
    let mut house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 5, 1000);
    let noted = house.folder("noted").join("lines");
    let agent = house.agent("web").await;
    let line = format!("echo $FLOTILLA_PLAN $FLOTILLA_HOST $FLOTILLA_STATUS >>{}; echo said by the hook", text(&noted));
    let rules = format!("[commands]\nnote = [\"/bin/sh\", \"-c\", {line:?}]\nfail = [\"/bin/false\"]\n");
    fs::write(agent.state_dir().join("agent.toml"), rules).unwrap();
    let (first, second) = (house.api.repo(rest.ready("vault")).await, house.api.repo(rest.input("elsewhere")).await);
    let hook = |at: &str, run: &str| json!({"at": at, "run": run, "timeout_s": 60, "on_failure": "abort"});
    let mut plan = json!({"name": "nightly", "repo_id": first, "second_repo_id": second, "hosts": [agent.host_id],
        "paths": [text(&source)], "hooks": [hook("before", "note"), hook("after", "note")]});

    // What it would do is said before it is saved.
    let seen = house.api.post("/api/plans/preview", plan.clone()).await.must(200);
    assert_eq!(
        (seen["hosts"][0]["id"].as_str(), &seen["repos"]),
        (Some(agent.host_id.as_str()), &json!(["vault", "elsewhere"]))
    );
    let made = house.api.post("/api/plans", plan.clone()).await.must(201);
    assert_eq!((made["hooks"].as_array().unwrap().len(), made["second_repo_id"].as_str()), (2, Some(second.as_str())));
    let plan_id = id(&made);

    // The second repository exists once something was backed up there, or it was made by hand.
    let init = house.api.order(&agent.host_id, json!({"kind": "init", "repo_id": second})).await;
    assert_eq!(house.api.end_of(&init).await["status"], "succeeded");
    let job = house.api.back_up(&agent.host_id, &plan_id).await;
    let ended = house.api.end_of(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(fs::read_to_string(&noted).unwrap(), "nightly web\nnightly web succeeded\n");
    assert!(house.api.log_text(&job).await.contains("[before note] said by the hook"));
    let copy = until("the copy is ordered", async || copy_of(&house, &plan_id).await).await;
    let ended = house.api.end_of(copy["id"].as_str().unwrap()).await;
    assert_eq!((&ended["status"], &ended["summary"]["copied"]), (&json!("succeeded"), &json!(1)), "{ended}");
    assert_eq!((rest.snapshots("vault").len(), rest.snapshots("elsewhere").len()), (1, 1));

    // Once is once, also where the control plane is restarted.
    house.kill_and_restart().await;
    house.api.host_in_state(&agent.host_id, "online").await;
    // A hook that fails calls the backup off, and says so.
    plan["hooks"] = json!([hook("before", "fail"), hook("failure", "note")]);
    plan.as_object_mut().unwrap().insert("name".to_owned(), json!("failing"));
    let failing = id(&house.api.post("/api/plans", plan.clone()).await.must(201));
    let job = house.api.back_up(&agent.host_id, &failing).await;
    let ended = house.api.end_of(&job).await;
    assert_eq!(ended["status"], "failed");
    let error = ended["error"].as_str().unwrap();
    assert!(error.contains("the hook \"fail\" before the backup failed with exit code 1"), "{error}");
    assert!(fs::read_to_string(&noted).unwrap().ends_with("failing web failed\n"));
    // What the host does not allow is refused with what to add there.
    plan["hooks"] = json!([hook("before", "pg_dump")]);
    plan["name"] = json!("unknown");
    let unknown = id(&house.api.post("/api/plans", plan).await.must(201));
    let job = house.api.back_up(&agent.host_id, &unknown).await;
    let ended = house.api.end_of(&job).await;
    assert!(ended["error"].as_str().unwrap().contains("add `pg_dump = ["), "{ended}");
    assert_eq!(rest.snapshots("vault").len(), 1);
    assert_eq!(copy_of(&house, &plan_id).await.map(|job| job["id"].clone()), Some(copy["id"].clone()));
    assert!(copy_of(&house, &failing).await.is_none());
}
