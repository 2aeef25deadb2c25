//! What goes wrong outside of Flotilla: each job ends with the right status and a text that says what, why and what to do; and TLS.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    house::{
        House,
        api::assert_whole,
        program::{free_port, run},
        repository::RestServer,
        says, shell,
        tree::write_files,
    },
    text,
};

/// The end of a job over `paths` into a repository that is like `input`.
async fn end_of_backup(house: &House, host: &str, input: Value, paths: &[&str]) -> Value {
    let repo = house.api.repo(input).await;
    let job = house.api.order(host, json!({"kind": "backup", "repo_id": repo, "args": paths})).await;
    house.api.end_of(&job).await
}

#[track_caller]
fn assert_ended(job: &Value, status: &str, words: &[&str]) {
    assert_eq!(job["status"], status, "{job}");
    let error = job["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[tokio::test]
async fn a_repository_that_does_not_do_ends_the_job_with_what_why_and_what_to_do() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 3, 1000);
    let (agent, paths) = (house.agent("web").await, [text(&source)]);
    let host = agent.host_id.as_str();

    let mut input = rest.input("vault");
    (input["name"], input["init"]) = (json!("not yet"), json!(false));
    let ended = end_of_backup(&house, host, input, &paths).await;
    assert_ended(&ended, "failed", &["there is no repository at this address", "allow the repository to be created"]);
    assert!(!house.folder("rest").join("data/endpoint/vault").exists(), "nothing may be made");

    let ended = end_of_backup(&house, host, rest.input("vault"), &paths).await;
    assert_eq!(ended["error"], Value::Null, "{ended}");

    let mut input = rest.input("vault");
    (input["name"], input["password"]) = (json!("wrong password"), json!("another"));
    let ended = end_of_backup(&house, host, input, &paths).await;
    assert_ended(&ended, "failed", &["password"]);
    assert_eq!(rest.snapshots("vault").len(), 1);

    let mut input = rest.input("vault");
    (input["name"], input["auth"]["password"]) = (json!("wrong user"), json!("another"));
    let ended = end_of_backup(&house, host, input, &paths).await;
    assert_ended(&ended, "failed", &["401", "user"]);

    let mut input = rest.input("vault");
    let nobody = free_port();
    (input["name"], input["url"]) = (json!("dead"), json!(format!("rest:http://127.0.0.1:{nobody}/endpoint/vault/")));
    let ended = end_of_backup(&house, host, input, &paths).await;
    assert_ended(&ended, "failed", &["refuses connections", &nobody.to_string()]);
    assert_eq!(rest.locks("vault"), 0);
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_told_and_the_rest_is_backed_up() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 3, 1000);
    let agent = house.agent("web").await;
    let ended = end_of_backup(&house, &agent.host_id, rest.ready("vault"), &[text(&source), "/nowhere/at all"]).await;
    assert_ended(&ended, "warning", &["/nowhere/at all"]);
    assert_eq!(rest.snapshots("vault").len(), 1);
    let mut input = rest.input("vault");
    input["name"] = json!("once more");
    let ended = end_of_backup(&house, &agent.host_id, input, &["/nowhere/at all"]).await;
    assert_ended(&ended, "failed", &["exist"]);
    assert_eq!(rest.snapshots("vault").len(), 1, "a backup of nothing is none");
}

#[tokio::test]
async fn a_host_without_restic_says_so_and_how_to_install_it() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let agent = house.enrol("bare", Path::new("/nowhere")).await;
    house.api.host_in_state(&agent.host_id, "online").await;
    let host = house.api.get(&format!("/api/hosts/{}", agent.host_id)).await;
    assert_eq!(host["restic_version"], Value::Null);
    let ended = end_of_backup(&house, &agent.host_id, rest.ready("vault"), &["/etc"]).await;
    assert_ended(&ended, "failed", &["restic is not installed on this host", "apt install restic"]);
}

#[tokio::test]
async fn a_self_signed_server_is_pinned_by_the_command_it_gives_and_an_agent_takes_no_other() {
    let house = House::start_with(&["--tls-self-signed"]).await;
    assert!(house.url.starts_with("https://"));
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 3, 1000);
    let agent = house.agent("web").await;
    let ended = end_of_backup(&house, &agent.host_id, rest.ready("vault"), &[text(&source)]).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");

    let made = house.api.post("/api/enrollment-tokens", json!({})).await.must(201);
    let command = made["command"].as_str().unwrap();
    let (rest_of_it, pin) = command.split_once("--ca-fingerprint sha256:").unwrap();
    assert_eq!(pin.len(), 64);
    let wrong = format!("{rest_of_it}--ca-fingerprint sha256:{}", "0".repeat(64));
    let bin = house.folder("bin");
    for line in [wrong.as_str(), rest_of_it] {
        let said = run(&mut shell(line, &bin, &house.folder("other").join("state")), "");
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains("certificate"), "{said:?}");
        assert!(!house.folder("other").join("state/identity.json").exists());
    }
    // The attempts have not used up the token.
    run(&mut shell(command, &bin, &house.folder("other").join("state")), "").must();
}

#[tokio::test]
async fn an_agent_that_is_stopped_leaves_its_backup_running_and_the_next_one_tells_all_of_it() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 300, 20_000);
    let mut agent = house.agent("web").await;
    let repo = house.api.repo(rest.ready("vault")).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 200).await;
    let job = house.api.back_up(&agent.host_id, &plan).await;
    house.api.running_with(&job, 10).await;
    agent.terminate().await;
    house.api.host_in_state(&agent.host_id, "offline").await;
    says("the agent says that it stops", "stopping", || agent.log()).await;
    assert_eq!(house.api.job(&job).await["status"], "running");
    assert_eq!(rest.locks("vault"), 1, "restic works on");
    agent.start();
    let ended = house.api.end_of(&job).await;
    assert_eq!((&ended["status"], &ended["exit_code"]), (&"succeeded".into(), &0.into()), "{ended}");
    let log = house.api.log(&job, 1000).await;
    assert_whole(&log);
    assert_eq!(log.iter().filter(|line| line.to_string().contains("went on and is followed again")).count(), 1);
    assert_eq!(rest.locks("vault"), 0);
}
