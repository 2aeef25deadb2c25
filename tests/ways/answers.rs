//! Answers that are secret, and answers that name hosts.

use std::path::Path;

use super::*;

const PLANTED: &str = "planted-answer-8b1f";

/// The files below a folder that hold these words.
fn holding(folder: &Path, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().filter_map(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(words.len()).any(|part| part == words.as_bytes()))
            {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_secret_answer_reaches_its_step_and_nothing_else() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let gate = house.folder("gate").join("open");
    let cmd = format!(
        "echo begun; until [ -e {} ]; do sleep 0.1; done; printf '%s' {{{{ password }}}} | rev; echo; echo said {{{{ password }}}}",
        gate.display()
    );
    let text = book("seal", &cmd).replace("[[steps]]", "[[inputs]]\nname = \"password\"\ntype = \"secret\"\n[[steps]]");
    drop_in(&house, "seal", &text);
    let job = house.api.order(&web, json!({"kind": "seal", "params": {"password": PLANTED}})).await;
    prints(&house, &job, "begun").await;
    let everywhere = house.data_dir();
    assert_eq!(holding(&everywhere, PLANTED), [""; 0], "while it runs");
    let key = fs::read_to_string(sshd.path("client")).unwrap();
    assert_eq!(holding(&everywhere, key.lines().nth(1).unwrap()), [""; 0], "the private key neither");
    let kept = |house: &House| {
        let db = rusqlite::Connection::open(house.data_dir().join("flotilla.db")).unwrap();
        db.query_row("SELECT secrets IS NOT NULL FROM jobs WHERE id = ?1", [&job], |row| row.get::<_, bool>(0)).unwrap()
    };
    assert!(kept(&house), "sealed until its end");
    fs::write(gate, "").unwrap();
    let end = house.api.end_of(&job).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let log = house.api.log_text(&job).await;
    let turned: String = PLANTED.chars().rev().collect();
    assert!(log.contains(&turned) && log.contains("said ***") && !log.contains(PLANTED), "{log}");
    assert!(!kept(&house), "emptied with the end");
    assert_eq!(holding(&everywhere, PLANTED), [""; 0], "after its end");
    assert!(!end.to_string().contains(PLANTED) && !house.server_log().contains(PLANTED));

    let again = format!("/api/jobs/{job}/rerun");
    let said = words(&house.api.post(&again, json!({})).await.must(422));
    assert_eq!(said, ["params.password: is a secret, and secrets are not kept: give it again"]);
    let made = house.api.post(&again, json!({"params": {"password": "another one"}})).await.must(202);
    let end = house.api.end_of(made["job_id"].as_str().unwrap()).await;
    assert_eq!((&end["status"], &end["rerun_of"]), (&json!("succeeded"), &json!(job)), "{end}");
}

#[tokio::test]
async fn what_removes_something_is_confirmed_again_where_it_is_run_again() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    drop_in(&house, "wipe", &book("wipe", "true").replace("[[steps]]", "destructive = true\n[[steps]]"));
    let end = run(&house, &web, json!({"kind": "wipe", "confirm": "web"})).await;
    let again = format!("/api/jobs/{}/rerun", end["id"].as_str().unwrap());
    let said = words(&house.api.post(&again, json!({})).await.must(422));
    assert!(said[0].starts_with("confirm: must be the host's name, web"), "{said:?}");
    house.api.post(&again, json!({"confirm": "web"})).await.must(202);
    // What became an administrator's since is no operator's to run again.
    let operator = json!({"name": "otto", "role": "operator", "password": "a long enough password"});
    house.api.post("/api/users", operator).await.must(201);
    drop_in(&house, "wipe", &book("wipe", "true").replace("[[steps]]", "role = \"admin\"\n[[steps]]"));
    let otto = house.with_token("otto");
    otto.api.post(&again, json!({"confirm": "web"})).await.must(403);
}

#[tokio::test]
async fn steps_on_two_hosts_run_from_the_control_plane_though_the_first_has_an_agent() {
    let house = house().await;
    let (one, two) = (Sshd::start(), Sshd::start());
    let agent = house.agent("web").await;
    let facets = Some(json!({"ssh": reached(&one)}));
    house.api.ask(reqwest::Method::PATCH, &format!("/api/hosts/{}", agent.host_id), facets).await.must(200);
    let db = ssh_host(&house, "db", &two).await;
    let out = house.folder("out");
    let at = out.display();
    drop_in(
        &house,
        "carry",
        &format!(
            r#"
name = "carry"
title = "Carry"
[[inputs]]
name = "target"
type = "host"
[[steps]]
type = "ssh"
label = "Make"
cmd = "echo of {{{{ host.slug }}}} >{at}/made"
[[steps]]
type = "scp"
label = "Fetch"
direction = "download"
remote_path = "{at}/made"
local_path = "{at}/fetched"
[[steps]]
type = "scp"
label = "Bring"
host = "target"
direction = "upload"
local_path = "{at}/fetched"
remote_path = "{at}/brought"
[[steps]]
type = "ssh"
label = "Look"
host = "target"
cmd = "cat {at}/brought; echo from $SSH_CONNECTION"
"#
        ),
    );
    for answer in [json!("db"), json!(db)] {
        let end = run(&house, &agent.host_id, json!({"kind": "carry", "params": {"target": answer}})).await;
        assert_eq!((&end["status"], &end["way"]), (&json!("succeeded"), &json!("ssh")), "{end}");
        assert_eq!(end["host_id"], json!(agent.host_id));
        let log = house.api.log_text(end["id"].as_str().unwrap()).await;
        assert!(log.contains("of web") && log.contains(&format!("127.0.0.1 {}", two.port)), "{log}");
    }
    let own = run(&house, &agent.host_id, json!({"kind": "carry", "params": {"target": "control plane"}})).await;
    assert_eq!(own["status"], "succeeded", "{own}");
    let bare = host(&house, "bare", json!({"health": {"url": "http://127.0.0.1:9/"}})).await;
    for (answer, why) in
        [("nobody", "names no host"), (&bare, "bare can't be reached by SSH: the host has no SSH access")]
    {
        let said = refused(&house, &agent.host_id, json!({"kind": "carry", "params": {"target": answer}})).await;
        assert!(said[0].starts_with(&format!("params.target: {why}")), "{said:?}");
    }
}
