//! The health of a repository, by real agents, restic and a real REST server: locks of the dead and of the living, what a tamper test shows, and damage
//! that is found, repaired by the guide, and gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use house::{
    House, api,
    program::{command, tool},
    repository::{AUTH_PASSWORD, REPO_PASSWORD, RestServer, USER},
    wait::until,
};

/// A restic of nobody's job that is at work in a repository.
struct Stranger(Child);

impl Stranger {
    fn start(rest: &RestServer, house: &House) -> Self {
        let big = house.folder("stranger").join("big");
        let mut noise = vec![0; 8 << 20];
        let mut state = 7_u64;
        for byte in &mut noise {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        fs::write(&big, noise).unwrap();
        let mut restic = command(tool("bin/restic").to_str().unwrap());
        restic.args(["backup", "--quiet", "--no-cache", "--limit-upload=100", "--host=stranger"]).arg(big);
        restic.env("RESTIC_REPOSITORY", rest.url("vault")).env("RESTIC_PASSWORD", REPO_PASSWORD);
        restic.env("RESTIC_REST_USERNAME", USER).env("RESTIC_REST_PASSWORD", AUTH_PASSWORD);
        Self(restic.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Open alerts by kind.
async fn open_alerts(house: &House) -> Vec<String> {
    let list = house.api.get("/api/alerts?open=true").await;
    list["items"].as_array().unwrap().iter().map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
}

async fn alerts_are(house: &House, kinds: &[&str]) {
    until(&format!("the open alerts are {kinds:?}"), async || (open_alerts(house).await == kinds).then_some(())).await;
}

/// The locks, after a look at them that has ended.
async fn locks_now(house: &House, repo: &str) -> Vec<Value> {
    let ordered = house.api.post(&format!("/api/repos/{repo}/locks"), json!({})).await.must(202);
    let ended = house.api.end_of(ordered["job_id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let at = ended["finished_at"].as_str().unwrap().to_owned();
    until("the look is taken in", async || {
        let health = house.api.get(&format!("/api/repos/{repo}/health")).await;
        (health["looked_at"].as_str()? >= at.as_str()).then_some(())
    })
    .await;
    house.api.get(&format!("/api/repos/{repo}/locks")).await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_lock_of_a_killed_restic_is_explained_and_cleared_and_a_live_ones_is_refused() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let agent = house.agent("web-1").await;
    let source = house.folder("source");
    fs::write(source.join("a"), "a").unwrap();
    let repo = house.api.repo(rest.ready("vault")).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[source.to_str().unwrap()], 0).await;
    let backup = house.api.back_up(&agent.host_id, &plan).await;
    assert_eq!(house.api.end_of(&backup).await["status"], "succeeded");

    let mut stranger = Stranger::start(&rest, &house);
    until("the stranger has its lock", async || (rest.locks("vault") == 1).then_some(())).await;
    let seen = locks_now(&house, &repo).await;
    assert_eq!((seen.len(), &seen[0]["standing"]), (1, &json!("live")), "{seen:?}");
    assert_eq!(seen[0]["pid"], stranger.0.id());
    let refused = house.api.post(&format!("/api/repos/{repo}/unlock"), json!({})).await.must(409);
    assert!(refused["detail"].as_str().unwrap().contains("lives"), "{refused}");

    stranger.kill();
    let seen = locks_now(&house, &repo).await;
    assert_eq!(
        (seen.len(), &seen[0]["standing"], &seen[0]["removable"]),
        (1, &json!("dead"), &json!(true)),
        "{seen:?}"
    );
    alerts_are(&house, &["stale_lock"]).await;
    let unlock = house.api.post(&format!("/api/repos/{repo}/unlock"), json!({})).await.must(202);
    let ended = house.api.end_of(unlock["job_id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(rest.locks("vault"), 0);
    alerts_are(&house, &[]).await;
}

#[tokio::test]
async fn a_tamper_test_proves_an_append_only_server_and_fails_loudly_on_a_folder_that_hosts_can_empty() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let agent = house.agent("web-1").await;
    let safe = house.api.repo(rest.ready("vault")).await;
    let folder = house.folder("open-vault");
    let input = json!({"name": "open", "url": folder.to_str().unwrap(), "password": REPO_PASSWORD, "append_only": true, "init": true});
    let open = house.api.repo(input).await;
    let init = house.api.order(&agent.host_id, json!({"kind": "init", "repo_id": open})).await;
    house.api.end_of(&init).await;
    for (repo, verdict, alerts) in [(&safe, "protected", &[][..]), (&open, "vulnerable", &["not_append_only"][..])] {
        let test = house.api.order(&agent.host_id, json!({"kind": "tamper", "repo_id": repo})).await;
        let ended = house.api.end_of(&test).await;
        until("the verdict is taken in", async || {
            let health = house.api.get(&format!("/api/repos/{repo}/health")).await;
            (health["append_only"] == verdict).then_some(())
        })
        .await;
        assert_eq!(ended["summary"]["verdict"], verdict, "{ended}");
        alerts_are(&house, alerts).await;
    }
}

/// The largest file of a repository's data.
fn largest_pack(repository: &std::path::Path) -> PathBuf {
    let mut packs = Vec::new();
    for folder in fs::read_dir(repository.join("data")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    packs.into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

#[tokio::test]
async fn a_lost_pack_is_found_by_a_check_and_the_guided_repair_ends_clean() {
    let house = House::start().await;
    let agent = house.agent("web-1").await;
    let source = house.folder("source");
    for n in 0..20 {
        fs::write(source.join(format!("f{n}")), format!("{n} ").repeat(5000)).unwrap();
    }
    let folder = house.folder("vault");
    let input = json!({"name": "vault", "url": folder.to_str().unwrap(), "password": REPO_PASSWORD, "append_only": false, "init": true});
    let repo = house.api.repo(input).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[source.to_str().unwrap()], 0).await;
    let backup = house.api.back_up(&agent.host_id, &plan).await;
    assert_eq!(house.api.end_of(&backup).await["status"], "succeeded");
    fs::remove_file(source.join("f3")).unwrap();
    fs::remove_file(largest_pack(&folder)).unwrap();

    let check = house.api.order(&agent.host_id, json!({"kind": "check", "repo_id": repo})).await;
    let ended = house.api.end_of(&check).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended["summary"]["errors"].as_u64() > Some(0), "{ended}");
    alerts_are(&house, &["damaged"]).await;
    let health = house.api.get(&format!("/api/repos/{repo}/health")).await;
    assert_eq!(health["damaged_by_job"], check.as_str());

    for step in ["index", "snapshots", "prune", "check"] {
        let order = json!({"step": step, "confirm": "vault"});
        let ordered = house.api.post(&format!("/api/repos/{repo}/repair"), order).await.must(202);
        let ended = house.api.end_of(ordered["job_id"].as_str().unwrap()).await;
        assert_eq!(ended["status"], "succeeded", "{step}: {ended} {}", house.api.log_text(&api::id(&ended)).await);
    }
    alerts_are(&house, &[]).await;
    assert_eq!(house.api.get(&format!("/api/repos/{repo}/health")).await["damaged_by_job"], Value::Null);
}
