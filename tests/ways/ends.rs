//! How a job ends whose host, key, process or server goes away.

use super::*;

#[tokio::test]
async fn a_cancel_ends_all_that_was_started_on_the_host() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let nap = sshd::nap(3001);
    drop_in(&house, "nap", &book("nap", &format!("{nap} & setsid {nap} & echo begun; wait")));
    let job = house.api.order(&web, json!({"kind": "nap"})).await;
    prints(&house, &job, "begun").await;
    until("both sleep", async || (sshd::running(&nap).len() == 2).then_some(())).await;
    house.api.post(&format!("/api/jobs/{job}/cancel"), json!({})).await.must(202);
    let end = house.api.end_of(&job).await;
    assert_eq!(
        (&end["status"], &end["summary"]["steps"][0]["state"]),
        (&json!("cancelled"), &json!("broken")),
        "{end}"
    );
    assert_eq!(sshd::running(&nap), [0; 0], "nothing is left");
}

#[tokio::test]
async fn a_host_that_is_removed_takes_its_waiting_job_along_and_stops_the_one_that_runs() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let nap = sshd::nap(3002);
    drop_in(&house, "nap", &book("nap", &format!("echo begun; {nap}")));
    let first = house.api.order(&web, json!({"kind": "nap"})).await;
    prints(&house, &first, "begun").await;
    let second = house.api.order(&web, json!({"kind": "nap"})).await;
    house.api.ask(reqwest::Method::DELETE, &format!("/api/hosts/{web}"), None).await;
    let end = house.api.end_of(&second).await;
    assert_eq!(end["status"], "cancelled", "{end}");
    assert_eq!(end["error"], "web was removed before the job could run: nothing was done there");
    assert_eq!(house.api.end_of(&first).await["status"], "cancelled");
    assert_eq!(sshd::running(&nap), [0; 0], "nothing is left");
}

#[tokio::test]
async fn a_host_that_shows_another_key_gets_nothing_to_run() {
    let (house, mut sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let planted = house.folder("out").join("planted");
    drop_in(&house, "touch", &book("touch", &format!("touch {}", planted.display())));
    for file in ["host_ed25519", "host_ed25519.pub"] {
        fs::remove_file(sshd.path(file)).unwrap();
    }
    sshd::keygen(&sshd.path("host_ed25519"), &["-t", "ed25519", "-N", ""]);
    sshd.restart();
    let end = run(&house, &web, json!({"kind": "touch"})).await;
    assert_eq!((&end["status"], &end["summary"]["class"]), (&json!("failed"), &json!("host_key")), "{end}");
    assert!(end["error"].as_str().unwrap().contains("host key"), "{end}");
    assert!(!planted.exists(), "nothing ran");
}

#[tokio::test]
async fn a_way_that_is_gone_by_the_time_fails_the_job_and_is_not_changed() {
    let (house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    drop_in(&house, "slow", &book("slow", "echo begun; sleep 300"));
    let first = house.api.order(&web, json!({"kind": "slow"})).await;
    prints(&house, &first, "begun").await;
    let second = house.api.order(&web, json!({"kind": "slow"})).await;
    // It gets a management interface instead.
    let changed = Some(json!({"ssh": null, "api": {"base_url": "http://127.0.0.1:9/"}}));
    house.api.ask(reqwest::Method::PATCH, &format!("/api/hosts/{web}"), changed).await.must(200);
    house.api.post(&format!("/api/jobs/{first}/cancel"), json!({})).await.must(202);
    let end = house.api.end_of(&second).await;
    assert_eq!((&end["status"], &end["way"]), (&json!("failed"), &json!("ssh")), "{end}");
    assert!(end["error"].as_str().unwrap().contains("web was to be reached by SSH, and can't be any more"), "{end}");
    assert_eq!(house.api.end_of(&first).await["status"], "cancelled");
}

#[tokio::test]
async fn a_server_that_dies_within_a_step_tells_of_it_tears_down_and_frees_the_host() {
    let (mut house, sshd) = (house().await, Sshd::start());
    let web = ssh_host(&house, "web", &sshd).await;
    let (nap, clean) = (sshd::nap(3003), house.folder("out").join("clean"));
    let teardown =
        format!("[[teardown]]\ntype = \"ssh\"\nlabel = \"Clean\"\ncmd = \"echo clean >>{}\"\n", clean.display());
    drop_in(&house, "nap", &(book("nap", &format!("echo begun; {nap}")) + &teardown));
    let job = house.api.order(&web, json!({"kind": "nap"})).await;
    prints(&house, &job, "begun").await;
    house.kill_and_restart().await;
    let end = house.api.end_of(&job).await;
    assert_eq!(end["status"], "failed", "{end}");
    assert!(end["error"].as_str().unwrap().contains("restarted while step 1 (Do) ran"), "{end}");
    assert_eq!(end["summary"]["teardown"][0]["state"], "done", "{end}");
    assert_eq!(fs::read_to_string(&clean).unwrap(), "clean\n");
    assert_eq!(sshd::running(&nap), [0; 0], "nothing is left");
    assert_eq!(run(&house, &web, json!({"kind": "check_status"})).await["status"], "succeeded", "the host is free");
}
