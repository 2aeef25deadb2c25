//! Which way an order takes, where it stands, and how many go at once.

use super::*;

#[tokio::test]
async fn a_host_without_an_agent_is_looked_at_by_ssh_and_the_job_stands_under_it() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let end = run(&house, &web, json!({"kind": "check_status"})).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let results = &end["summary"]["results"];
    assert!(results["disk_usage_percent"].is_u64() && results["memory_total"].as_u64().unwrap() > 1 << 20, "{results}");
    assert_eq!((&end["way"], &end["summary"]["way"]), (&json!("ssh"), &json!("ssh")));
    assert_eq!((&end["host_id"], &end["host_name"]), (&json!(web), &json!("web")));
    let own = own_agent(&house).await;
    assert_eq!(end["runner"], json!({"id": own, "name": "control plane"}));
    for id in [&web, &own] {
        let listed = house.api.get(&format!("/api/jobs?host_id={id}&kind=check_status")).await;
        assert_eq!(listed["items"][0]["id"], end["id"], "{listed}");
    }
    let again = house.api.post(&format!("/api/jobs/{}/rerun", end["id"].as_str().unwrap()), json!({})).await.must(202);
    let again = house.api.end_of(again["job_id"].as_str().unwrap()).await;
    assert_eq!((&again["status"], &again["host_id"]), (&json!("succeeded"), &json!(web)));
}

#[tokio::test]
async fn a_host_that_has_both_is_reached_by_its_agent_while_that_is_there() {
    let (house, sshd) = (house().await, Sshd::start());
    let mut agent = house.agent("web").await;
    house
        .api
        .ask(reqwest::Method::PATCH, &format!("/api/hosts/{}", agent.host_id), Some(json!({"ssh": reached(&sshd)})))
        .await
        .must(200);
    let end = run(&house, &agent.host_id, json!({"kind": "check_status"})).await;
    assert_eq!((&end["way"], &end["runner"]), (&json!("agent"), &Value::Null), "{end}");
    agent.kill_hard();
    house.api.host_in_state(&agent.host_id, "offline").await;
    let end = run(&house, &agent.host_id, json!({"kind": "check_status"})).await;
    assert_eq!((&end["status"], &end["way"]), (&json!("succeeded"), &json!("ssh")), "{end}");
}

/// Each job ends only where all of them run at the same time.
#[tokio::test]
async fn twenty_hosts_on_twenty_ports_are_worked_on_side_by_side() {
    const HOSTS: usize = 20;
    let house = house().await;
    let meeting = house.folder("meeting");
    let at = meeting.display();
    drop_in(
        &house,
        "meet",
        &book(
            "meet",
            &format!(
                "touch {at}/{{{{ host.slug }}}}; until [ \"$(ls {at} | wc -l)\" -ge {HOSTS} ]; do sleep 0.1; done; echo met"
            ),
        ),
    );
    let sshds: Vec<Sshd> = (0..HOSTS).map(|_| Sshd::start()).collect();
    let mut jobs = Vec::new();
    for (n, sshd) in sshds.iter().enumerate() {
        let id = ssh_host(&house, &format!("web-{n}"), sshd).await;
        jobs.push(house.api.order(&id, json!({"kind": "meet"})).await);
    }
    for job in jobs {
        let end = house.api.end_of(&job).await;
        assert_eq!(end["status"], "succeeded", "{end}");
    }
}

#[tokio::test]
async fn a_host_has_one_runbook_at_a_time_by_whatever_way() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    drop_in(&house, "slow", &book("slow", "echo begun; sleep 300"));
    let first = house.api.order(&web, json!({"kind": "slow"})).await;
    prints(&house, &first, "begun").await;
    let second = house.api.order(&web, json!({"kind": "slow"})).await;
    let waits = house.api.job(&second).await;
    assert_eq!(waits["waits_for"]["kind"], "runbook", "{waits}");
    assert!(waits["waits_for"]["text"].as_str().unwrap().contains("slow of web"), "{waits}");
    for job in [&second, &first] {
        house.api.post(&format!("/api/jobs/{job}/cancel"), json!({})).await.must(202);
        assert_eq!(house.api.end_of(job).await["status"], "cancelled");
    }
}

#[tokio::test]
async fn where_there_is_no_way_each_that_the_runbook_lists_says_why() {
    let (house, sshd) = (house().await, Sshd::start());
    let mut untrusted = reached(&sshd);
    untrusted.as_object_mut().unwrap().remove("host_key");
    let web = host(&house, "web", json!({"ssh": untrusted})).await;
    let said = refused(&house, &web, json!({"kind": "check_status"})).await;
    assert!(
        said[0].starts_with("kind: check_status has no way to web. by its agent: the host has no agent; "),
        "{said:?}"
    );
    assert!(said[0].contains("by SSH: its host key was not confirmed yet"), "{said:?}");
    let key = json!({"host_key": fingerprint(&sshd.path("host_ed25519.pub"))});
    house.api.post(&format!("/api/hosts/{web}/ssh/trust"), key).await.must(200);
    assert_eq!(run(&house, &web, json!({"kind": "check_status"})).await["status"], "succeeded");
}

#[tokio::test]
async fn without_its_own_agent_the_control_plane_reaches_nobody_and_says_so() {
    let house = house::Local::start(house::system_clock(), Default::default()).await;
    let made = json!({"name": "web", "ssh": {"host": "127.0.0.1", "key_path": "/nowhere", "host_key": format!("SHA256:{}", "A".repeat(43))}});
    let web = house::api::id(&house.api.post("/api/hosts", made).await.must(201));
    let answer = house.api.post(&format!("/api/hosts/{web}/jobs"), json!({"kind": "check_status"})).await.must(422);
    assert!(words(&answer)[0].contains("the control plane's own agent, which does not run"), "{answer}");
    house.stop().await;
}

#[tokio::test]
async fn what_is_off_by_default_runs_where_an_administrator_opened_the_host() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let order = json!({"kind": "run_command", "params": {"command": "echo $((6 * 7))"}});
    let said = refused(&house, &web, order.clone()).await;
    assert!(said[0].starts_with("kind: run_command is off on web until an administrator opens"), "{said:?}");
    let open = Some(json!({"opened": true}));
    house.api.ask(reqwest::Method::PATCH, &format!("/api/hosts/{web}"), open).await.must(200);
    let end = run(&house, &web, order).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    assert!(house.api.log_text(end["id"].as_str().unwrap()).await.contains("42"));
}

#[tokio::test]
async fn a_restart_is_the_hosts_own_command_within_its_own_limit() {
    let (house, sshd) = (house().await, Sshd::start());
    let bare = ssh_host(&house, "bare", &sshd).await;
    let said = refused(&house, &bare, json!({"kind": "restart"})).await;
    assert!(said[0].starts_with("kind: not configured: bare has no restart command"), "{said:?}");
    let done = house.folder("out").join("restarted");
    let restart =
        json!({"command": format!("echo \"$PATH\" >{}", done.display()), "path": "/opt/own/bin", "timeout_s": 7});
    let web = host(&house, "web", json!({"ssh": reached(&sshd), "restart": restart})).await;
    let end = run(&house, &web, json!({"kind": "restart"})).await;
    assert_eq!((&end["status"], &end["timeout_s"]), (&json!("succeeded"), &json!(7)), "{end}");
    assert!(fs::read_to_string(done).unwrap().starts_with("/opt/own/bin:"));
}

#[tokio::test]
async fn a_preview_shows_the_way_the_places_and_the_words_that_run() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    drop_in(
        &house,
        "greet",
        "name = \"greet\"\ntitle = \"Greet\"\ndestructive = true\n[[inputs]]\nname = \"who\"\ntype = \"string\"\n[[inputs]]\nname = \"password\"\ntype = \"secret\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"Say it\"\ncmd = \"echo {{ who }} of {{ host.slug }}, by {{ job.actor }}\"\nstdin = \"{{ password }}\"\n[[teardown]]\ntype = \"local\"\nlabel = \"Clean\"\ncmd = \"rm -rf {{ scratch }}\"\n",
    );
    let order = json!({"kind": "greet", "params": {"who": "o'neil; id", "password": "planted-answer"}});
    let path = format!("/api/hosts/{web}/preview");
    let shown = house.api.post(&path, order.clone()).await.must(200);
    assert!(!shown.to_string().contains("planted-answer"), "{shown}");
    assert_eq!(
        (&shown["way"], &shown["runner"], &shown["confirm"]),
        (&json!("ssh"), &json!("control plane"), &json!("web"))
    );
    let ways: Vec<&str> = shown["ways"].as_array().unwrap().iter().map(|way| way["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["agent", "api", "ssh"]);
    let step = &shown["steps"][0];
    assert_eq!(step["command"], r"echo 'o'\''neil; id' of web, by ada");
    assert_eq!(step["where"], format!("on web, by SSH as {}@127.0.0.1:{}", sshd.target().user, sshd.port));
    assert_eq!((&step["stdin"], &shown["teardown"][0]["where"]), (&json!("••••••"), &json!("on control plane")));
    assert_eq!(shown["problems"], json!([]));
    // What is asked for is needed to show anything; all else is only said.
    house.api.post(&path, json!({"kind": "greet"})).await.must(422);
    let nobody = host(&house, "nobody", json!({"health": {"url": "http://127.0.0.1:9/"}})).await;
    let shown = house.api.post(&format!("/api/hosts/{nobody}/preview"), order).await.must(200);
    assert_eq!((&shown["way"], &shown["problems"][0]["field"]), (&Value::Null, &json!("kind")), "{shown}");
    assert_eq!(house.api.get("/api/jobs").await["items"], json!([]), "nothing was made");
}

/// Answers each request with this, and gives the requests' heads as they came.
fn interface(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, heads) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut head = Vec::new();
            let mut piece = [0; 1024];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = connection.read(&mut piece).unwrap();
                head.extend_from_slice(&piece[..read]);
            }
            let length = answer.len();
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}")
                .unwrap();
            if heard.send(String::from_utf8(head).unwrap()).is_err() {
                return;
            }
        }
    });
    (port, heads)
}

#[tokio::test]
async fn a_management_interface_is_asked_from_the_control_plane_with_the_hosts_keys() {
    let house = house().await;
    let (port, heads) = interface("{\"load\": 3}");
    let api = json!({"base_url": format!("http://127.0.0.1:{port}/v1"), "public_key": "known", "secret_key": "planted-api-key"});
    let web = host(&house, "web", json!({"api": api})).await;
    drop_in(
        &house,
        "ask",
        "name = \"ask\"\ntitle = \"Ask\"\ntransports = [\"agent\", \"api\"]\n[[steps]]\ntype = \"api\"\nlabel = \"Ask\"\nendpoint = \"load\"\n[[results]]\nname = \"load\"\npointer = \"/load\"\ntype = \"int\"\nstep = \"Ask\"\n",
    );
    let end = run(&house, &web, json!({"kind": "ask"})).await;
    assert_eq!((&end["status"], &end["way"]), (&json!("succeeded"), &json!("api")), "{end}");
    assert_eq!(
        (&end["summary"]["results"]["load"], &end["runner"]["name"]),
        (&json!(3), &json!("control plane")),
        "{end}"
    );
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /v1/load ") && head.contains("public_key: known"), "{head}");
    assert!(head.contains("secret_key: planted-api-key"), "{head}");
    assert!(!house.server_log().contains("planted-api-key") && !end.to_string().contains("planted-api-key"));
}
