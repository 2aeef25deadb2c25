//! The care of repositories on real parts: second copies that fail and are made up for, checks that read all data part by part, a repository that is taken over,
//! and where the credentials that may delete are never found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use house::{House, api::id, repository::RestServer, tree::write_files, wait::until};

/// The files below a folder, by path, with what is in each. One that goes meanwhile is left out.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            found.insert(path, bytes);
        }
    }
    found
}

async fn alerts_are(house: &House, kinds: &[&str]) {
    until(&format!("the open alerts are {kinds:?}"), async || {
        let list = house.api.get("/api/alerts?open=true").await;
        let open: Vec<&str> = list["items"].as_array()?.iter().filter_map(|alert| alert["kind"].as_str()).collect();
        (open == kinds).then_some(())
    })
    .await;
}

/// All copies, the newest first, once so many are over.
async fn copies(house: &House, n: usize) -> Vec<Value> {
    until(&format!("{n} copies are over"), async || {
        let list = house.api.get("/api/jobs?kind=copy").await;
        let copies = list["items"].as_array()?.clone();
        (copies.len() == n && copies.iter().all(house::api::is_over)).then_some(copies)
    })
    .await
}

#[tokio::test]
async fn a_second_copy_that_failed_has_an_alert_until_a_later_one_made_up_for_it_whatever_was_killed_meanwhile() {
    let mut house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 5, 1000);
    let agent = house.agent("web").await;
    let vault = house.api.repo(rest.input("vault")).await;
    let mut elsewhere = rest.input("elsewhere");
    elsewhere["init"] = json!(false);
    let elsewhere = house.api.repo(elsewhere).await;
    let plan = json!({"name": "nightly", "repo_id": vault, "second_repo_id": elsewhere, "hosts": [agent.host_id], "paths": [source]});
    let plan = id(&house.api.post("/api/plans", plan).await.must(201));
    let back_up = async |house: &House| {
        let job = house.api.back_up(&agent.host_id, &plan).await;
        assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    };

    back_up(&house).await;
    let failed = copies(&house, 1).await;
    assert_eq!(failed[0]["status"], "failed");
    alerts_are(&house, &["copy_behind"]).await;
    house.kill_and_restart().await;
    house.api.host_in_state(&agent.host_id, "online").await;
    alerts_are(&house, &["copy_behind"]).await;

    // Somebody mends the cause. The next backup takes along what is missing, also where the server dies as it is ordered.
    rest.restic("elsewhere", &["init"]).must();
    back_up(&house).await;
    until("the copy is ordered", async || {
        (house.api.get("/api/jobs?kind=copy").await["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    house.kill_and_restart().await;
    house.api.host_in_state(&agent.host_id, "online").await;
    let ended = copies(&house, 2).await;
    assert_eq!((&ended[0]["status"], &ended[0]["summary"]["copied"]), (&json!("succeeded"), &json!(2)), "{ended:?}");
    assert_eq!((rest.snapshots("vault").len(), rest.snapshots("elsewhere").len()), (2, 2));
    alerts_are(&house, &[]).await;
}

/// A check by its schedule, now: what it found damaged.
async fn check_by(house: &House, schedule: &str) -> BTreeSet<String> {
    let made = house.api.post(&format!("/api/schedules/{schedule}/run"), json!({})).await.must(202);
    let ended = house.api.end_of(made["job_id"].as_str().unwrap()).await;
    let packs = ended["summary"]["broken_packs"].as_array().unwrap_or_else(|| panic!("{ended}"));
    packs.iter().map(|pack| pack.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_checks_of_the_chosen_days_read_every_pack_once_and_begin_again() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    rest.restic("vault", &["init"]).must();
    let source = house.folder("source");
    let mut state = 7_u64;
    for _ in 0..10 {
        // A pack of data for each.
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        fs::write(source.join("noise"), noise.take(200_000).collect::<Vec<u8>>()).unwrap();
        rest.restic("vault", &["backup", "--host", "web", source.to_str().unwrap()]).must();
    }
    let packs: Vec<PathBuf> = files(&rest.file("vault", "data"))
        .into_iter()
        .filter(|(_, bytes)| bytes.len() > 100_000)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(packs.len(), 10);
    let mut input = rest.input("vault");
    input["init"] = json!(false);
    input["imported"] = json!(true);
    let repo = house.api.repo(input).await;
    let place = format!("/api/repos/{repo}/upkeep");
    let made = house.api.ask(Method::PUT, &place, Some(json!({"check_days": 28}))).await.must(200);
    let check = made["duties"].as_array().unwrap().iter().find(|duty| duty["kind"] == "check").unwrap();
    let schedule = check["schedule_id"].as_str().unwrap().to_owned();

    // Every pack of data is spoilt: each check names those that it has read.
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        bytes[5000] ^= 0x55;
        fs::set_permissions(pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(pack, bytes).unwrap();
    }
    let (mut parts, mut read) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        parts.push(house.api.get(&place).await["next_part"].clone());
        read.extend(check_by(&house, &schedule).await);
    }
    assert_eq!(parts, ["1/4", "2/4", "3/4", "4/4"], "a week each");
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let all: BTreeSet<String> = packs.iter().map(name).collect();
    assert_eq!((read.len(), read.into_iter().collect::<BTreeSet<String>>()), (all.len(), all));
    assert_eq!(house.api.get(&place).await["next_part"], "1/4");
    alerts_are(&house, &["damaged"]).await;
}

/// A repository's files with a hash of each; locks come and go.
fn fingerprint(rest: &RestServer) -> BTreeMap<PathBuf, String> {
    let all = files(&rest.file("vault", ""));
    let lasting = all.into_iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "locks"));
    lasting
        .map(|(path, bytes)| (path, Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()))
        .collect()
}

#[tokio::test]
async fn a_repository_is_taken_over_without_touching_it_and_its_hosts_are_matched_to_enrolled_ones() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 5, 1000);
    rest.restic("vault", &["init"]).must();
    for host in ["web", "web", "old-db.example"] {
        rest.restic("vault", &["backup", "--host", host, source.to_str().unwrap()]).must();
    }
    let before = fingerprint(&rest);
    let (web, db) = (house.agent("web").await, house.agent("db").await);
    let mut input = rest.input("vault");
    input["imported"] = json!(true);
    let refused = house.api.post("/api/repos", input.clone()).await.must(422);
    assert!(refused["errors"][0]["message"].is_string(), "it can't be both there and to be made: {refused}");
    input["init"] = json!(false);
    let repo = house.api.repo(input).await;

    let place = format!("/api/repos/{repo}/snapshots");
    let listed = until("it was listed by itself", async || {
        let list = house.api.get(&place).await;
        let items = list["items"].as_array()?.clone();
        (items.len() == 3).then_some(items)
    })
    .await;
    let of = |items: &[Value], hostname: &str| -> Vec<Value> {
        items
            .iter()
            .filter(|snapshot| snapshot["hostname"] == hostname)
            .map(|snapshot| snapshot["host_id"].clone())
            .collect()
    };
    assert_eq!(of(&listed, "web"), [json!(web.host_id), json!(web.host_id)], "its own name tells");
    assert_eq!(of(&listed, "old-db.example"), [Value::Null]);
    let matched = json!({"hostname": "old-db.example", "host_id": db.host_id});
    assert_eq!(house.api.post(&format!("{place}/match"), matched).await.must(200)["snapshots"], 1);
    let items = house.api.get(&place).await["items"].as_array().unwrap().clone();
    assert_eq!(of(&items, "old-db.example"), [json!(db.host_id)]);

    // What is looked at without being asked, and what a person looks at, leaves it as it was.
    for kind in ["snapshots", "check", "stats", "locks"] {
        let job = house.api.order(&db.host_id, json!({"kind": kind, "repo_id": repo})).await;
        assert_eq!(house.api.end_of(&job).await["status"], "succeeded", "{kind}");
    }
    until("nobody holds a lock", async || (rest.locks("vault") == 0).then_some(())).await;
    assert_eq!(fingerprint(&rest), before);
    // Where it is not there after all, no backup makes one in its place.
    let mut nothing = rest.input("nothing");
    nothing["imported"] = json!(true);
    nothing["init"] = json!(false);
    let nothing = house.api.repo(nothing).await;
    let job = house.api.order(&web.host_id, json!({"kind": "backup", "repo_id": nothing, "args": [source]})).await;
    assert_eq!(house.api.end_of(&job).await["status"], "failed");
    assert!(!rest.file("nothing", "config").exists());
}

#[tokio::test]
async fn credentials_that_may_delete_are_used_by_the_maintenance_host_and_found_on_no_disk_of_a_host() {
    const MAY_DELETE: &str = "planted-maintenance-key";
    let house = House::start().await;
    let folder = house.folder("rest");
    let rest = RestServer::start(&folder).await;
    let second = house.folder("rest-that-deletes");
    let open = RestServer::start_beside(&folder, &second, ("keeper", MAY_DELETE)).await;
    let source = house.folder("source");
    write_files(&source, 20, 10_000);
    let (web, keeper) = (house.agent("web").await, house.agent("keeper").await);
    let mut vault = rest.input("vault");
    vault["maintenance"] = json!({"url": open.url("vault"), "username": "keeper", "password": MAY_DELETE});
    vault["maintenance_host_id"] = json!(keeper.host_id);
    let repo = house.api.repo(vault).await;
    let plan = house.api.plan(&web.host_id, &repo, &[source.to_str().unwrap()], 0).await;
    let keep = json!({"retention": {"keep_last": 1}});
    house.api.ask(Method::PATCH, &format!("/api/plans/{plan}"), Some(keep)).await.must(200);
    for _ in 0..3 {
        let job = house.api.back_up(&web.host_id, &plan).await;
        assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    }
    until("the index has all three, as a whole", async || {
        let dry = json!({"kind": "forget", "plan_id": plan, "dry_run": true});
        let dry = house.api.order(&web.host_id, dry).await;
        let end = house.api.end_of(&dry).await;
        (end["summary"]["removed"] == 2).then_some(())
    })
    .await;
    let forget = json!({"kind": "forget", "plan_id": plan, "prune": true});
    let forget = house.api.order(&web.host_id, forget).await;
    let host_folders = ["host-web", "host-keeper"].map(|name| house.folder(name));
    let look = || {
        for folder in &host_folders {
            for (path, bytes) in files(folder) {
                let found = bytes.windows(MAY_DELETE.len()).any(|window| window == MAY_DELETE.as_bytes());
                assert!(!found, "{} holds the credentials", path.display());
            }
        }
    };
    // While it is at work, and afterwards.
    let ended = until("the forget is over", async || {
        look();
        Some(house.api.job(&forget).await).filter(house::api::is_over)
    })
    .await;
    assert_eq!((&ended["status"], &ended["host_id"]), (&json!("succeeded"), &json!(keeper.host_id)), "{ended}");
    assert_eq!(rest.snapshots("vault").len(), 1, "it really deleted");
    look();
    assert!(!web.log().contains(MAY_DELETE) && !keeper.log().contains(MAY_DELETE));
    let tried = rest.restic("vault", &["forget", "latest", "--unsafe-allow-remove-all"]);
    assert_eq!(rest.snapshots("vault").len(), 1, "the endpoint's own may not: {tried:?}");
}
