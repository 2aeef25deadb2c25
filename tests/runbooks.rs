//! Runbooks by way of a host's own agent, on real parts: ordered over the API, run by bash on the endpoint, within what the endpoint allows.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::fs;

use serde_json::{Value, json};

use house::{Agent, House};

const GREET: &str = r#"
name = "greet"
title = "Greet"

[[inputs]]
name = "who"
type = "string"
default = "world"

[[steps]]
type = "ssh"
label = "Say it"
cmd = "echo hello {{ who }} of {{ host.slug }}"

[[results]]
name = "greeting"
regex = '^hello (?P<greeting>.+)$'
"#;

/// Puts a file into the operator's folder of runbooks.
fn drop_in(house: &House, name: &str, text: &str) {
    let folder = house.data_dir().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

fn allow_all(agent: &Agent) {
    fs::write(agent.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
}

/// The end of a job that was ordered.
async fn run(house: &House, agent: &Agent, order: Value) -> Value {
    let job = house.api.order(&agent.host_id, order).await;
    house.api.end_of(&job).await
}

/// The fields that an order is refused for.
async fn refused(house: &House, agent: &Agent, order: Value) -> Vec<String> {
    let answer = house.api.post(&format!("/api/hosts/{}/jobs", agent.host_id), order).await.must(422);
    let errors = answer["errors"].as_array().unwrap().iter();
    errors
        .map(|error| format!("{}: {}", error["field"].as_str().unwrap(), error["message"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_hosts_state_is_read_by_a_shipped_runbook_without_its_owner_allowing_anything() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    let end = run(&house, &agent, json!({"kind": "check_status"})).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let results = &end["summary"]["results"];
    assert!(results["disk_usage_percent"].is_u64() && results["memory_total"].as_u64().unwrap() > 1 << 20, "{results}");
    assert!(results["load_1m"].is_f64() && results["disks"].is_array(), "{results}");
    assert_eq!(end["summary"]["way"], "agent");
    let page =
        house.api.client(reqwest::Method::GET, &format!("/jobs/{}", end["id"].as_str().unwrap())).send().await.unwrap();
    assert!(page.status().is_redirection() || page.status().is_success());
    let again = house.api.post(&format!("/api/jobs/{}/rerun", end["id"].as_str().unwrap()), json!({})).await.must(202);
    assert_eq!(house.api.end_of(again["job_id"].as_str().unwrap()).await["status"], "succeeded");
}

#[tokio::test]
async fn a_file_that_is_dropped_in_is_there_at_once_and_runs_where_the_endpoint_allows_it() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    assert!(refused(&house, &agent, json!({"kind": "greet"})).await[0].contains("GET /api/runbooks"));
    drop_in(&house, "greet.toml", GREET);
    drop_in(&house, "broken.toml", &GREET.replace("label", "lable"));
    let listed = house.api.get("/api/runbooks").await;
    let found =
        |name: &str| listed["items"].as_array().unwrap().iter().find(|book| book["name"] == name).cloned().unwrap();
    assert_eq!((&found("greet")["origin"], &found("greet")["inputs"][0]["name"]), (&json!("own"), &json!("who")));
    assert!(
        found("broken")["error"].as_str().unwrap().starts_with("line 12: unknown field `lable`"),
        "{}",
        found("broken")
    );
    assert_eq!(found("check_status")["origin"], "shipped");

    let end = run(&house, &agent, json!({"kind": "greet"})).await;
    assert_eq!(end["status"], "failed");
    assert!(end["error"].as_str().unwrap().contains("allow_remote_commands = true"), "{end}");

    allow_all(&agent);
    let hostile = "$(touch /tmp/planted); `id` 'x' \"y\"";
    let end = run(&house, &agent, json!({"kind": "greet", "params": {"who": hostile}})).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_eq!(end["summary"]["results"]["greeting"], format!("{hostile} of web"));
    // What it ran is what was looked at, whatever becomes of the file; a re-run takes the file as it is then.
    drop_in(&house, "greet.toml", &GREET.replace("hello {{ who }}", "hello dear {{ who }}"));
    let again = house.api.post(&format!("/api/jobs/{}/rerun", end["id"].as_str().unwrap()), json!({})).await.must(202);
    let end = house.api.end_of(again["job_id"].as_str().unwrap()).await;
    assert_eq!(end["summary"]["results"]["greeting"], format!("dear {hostile} of web"));
}

#[tokio::test]
async fn an_order_that_does_not_do_is_refused_with_all_that_is_wrong() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    drop_in(&house, "greet.toml", GREET);
    drop_in(
        &house,
        "wipe.toml",
        "name = \"wipe\"\ntitle = \"Wipe\"\ndestructive = true\n[[steps]]\ntype = \"ssh\"\nlabel = \"Wipe\"\ncmd = \"true\"\n",
    );
    for (order, words) in [
        (json!({"kind": "greet", "params": {"whom": "x"}}), "params.whom: the runbook does not ask for this"),
        (json!({"kind": "greet", "params": {"who": "-rf"}}), "params.who: it begins with a dash"),
        (json!({"kind": "greet", "params": {"who": "a\nb"}}), "params.who: it must be one line"),
        (json!({"kind": "greet", "snapshot": "latest"}), "snapshot: does not belong"),
        (json!({"kind": "wipe"}), "confirm: must be the host's name, web"),
        (json!({"kind": "wipe", "confirm": "db"}), "confirm: must be the host's name, web"),
        (json!({"kind": "run_command", "params": {"command": "id"}}), "kind: run_command is off on web until"),
        (json!({"kind": "steps"}), "params.steps: is missing"),
        (json!({"kind": "steps", "params": {"steps": [{"type": "shell", "cmd": "id"}]}}), "params.steps: "),
    ] {
        let said = refused(&house, &agent, order.clone()).await;
        assert!(said.iter().any(|line| line.starts_with(words)), "{order}: {said:?}");
    }
    assert_eq!(house.api.get("/api/jobs").await["items"], json!([]), "nothing was made");
}

#[tokio::test]
async fn pasted_steps_run_in_order_with_their_teardown_and_a_cancel_ends_all_of_it() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    let log = house.folder("out").join("log");
    let steps = json!([
        {"type": "ssh", "label": "One", "cmd": format!("echo one >>{}", log.display())},
        {"type": "ssh", "label": "Two", "cmd": "echo begun; sleep 300 & wait"},
        {"type": "ssh", "label": "Clean", "cmd": format!("echo clean >>{}", log.display()), "teardown": true},
    ]);
    let job = house.api.order(&agent.host_id, json!({"kind": "steps", "params": {"steps": steps}})).await;
    house::wait::until("the second step runs", async || house.api.log_text(&job).await.contains("begun").then_some(()))
        .await;
    let second = house.api.order(&agent.host_id, json!({"kind": "check_status"})).await;
    assert_ne!(house.api.job(&second).await["status"], "failed", "what shares the host runs beside it");
    house.api.post(&format!("/api/jobs/{job}/cancel"), json!({})).await.must(202);
    let end = house.api.end_of(&job).await;
    assert_eq!(end["status"], "cancelled", "{end}");
    let states: Vec<&str> =
        end["summary"]["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["done", "broken"], "{end}");
    assert_eq!(fs::read_to_string(log).unwrap(), "one\nclean\n");
    house.api.end_of(&second).await;
    let operator = json!({"name": "otto", "role": "operator", "password": "a long enough password"});
    house.api.post("/api/users", operator).await.must(201);
    let again = format!("/api/jobs/{job}/rerun");
    let otto = house.with_token("otto");
    otto.api.post(&again, json!({})).await.must(403);
}

#[tokio::test]
async fn one_runbook_has_a_host_at_a_time() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    drop_in(
        &house,
        "slow.toml",
        "name = \"slow\"\ntitle = \"Slow\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"Wait\"\ncmd = \"echo begun; sleep 300\"\n",
    );
    let first = house.api.order(&agent.host_id, json!({"kind": "slow"})).await;
    house::wait::until("it runs", async || house.api.log_text(&first).await.contains("begun").then_some(())).await;
    let second = house.api.order(&agent.host_id, json!({"kind": "slow"})).await;
    let waits = house.api.job(&second).await;
    assert_eq!((&waits["status"], &waits["waits_for"]["kind"]), (&json!("queued"), &json!("runbook")), "{waits}");
    let busy = json!({"kind": "slow", "queue": false});
    house.api.post(&format!("/api/hosts/{}/jobs", agent.host_id), busy).await.must(409);
    for job in [&second, &first] {
        house.api.post(&format!("/api/jobs/{job}/cancel"), json!({})).await.must(202);
        assert_eq!(house.api.end_of(job).await["status"], "cancelled");
    }
}
