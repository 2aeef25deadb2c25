//! Looking into repositories, on real parts: what a host's restic lists comes into the index, folders are browsed, names searched, snapshots compared, versions of a
//! file told apart; also where a snapshot was removed meanwhile, and where its host is gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;
#[path = "snapshots/index.rs"]
mod index;

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use house::{House, repository::RestServer, wait::until};

const ODD: &str = "line\nbreak \"q\" <i>.txt";

/// A host with a plan, and what it takes to look into its repository.
struct Stage {
    house: House,
    rest: RestServer,
    agent: house::Agent,
    repo: String,
    plan: String,
    source: std::path::PathBuf,
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `path` as a value of a query.
fn encoded(path: &str) -> String {
    flotilla::paths::query_value(path)
}

impl Stage {
    async fn set() -> Self {
        let house = House::start().await;
        let rest = RestServer::start(&house.folder("rest")).await;
        let input = rest.ready("vault");
        Self::in_repo(house, rest, input).await
    }

    /// With a repository from which its hosts may delete.
    async fn deletable() -> Self {
        let house = House::start().await;
        let rest = RestServer::start_deletable(&house.folder("rest")).await;
        let mut input = rest.ready("vault");
        input["append_only"] = json!(false);
        Self::in_repo(house, rest, input).await
    }

    async fn in_repo(house: House, rest: RestServer, input: Value) -> Self {
        let source = house.folder("source");
        fs::create_dir(source.join("sub")).unwrap();
        fs::write(source.join("notes.txt"), "one").unwrap();
        fs::write(source.join("sub").join(ODD), "odd").unwrap();
        fs::write(source.join("sub").join(std::ffi::OsStr::from_bytes(b"bad\xff.txt")), "bad").unwrap();
        let agent = house.agent("web").await;
        let repo = house.api.repo(input).await;
        let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 0).await;
        Self { house, rest, agent, repo, plan, source }
    }

    /// A backup; gives the id of its snapshot.
    async fn back_up(&self) -> String {
        let job = self.house.api.back_up(&self.agent.host_id, &self.plan).await;
        let ended = self.house.api.end_of(&job).await;
        assert_eq!(ended["status"], "succeeded", "{ended}");
        ended["summary"]["snapshot_id"].as_str().unwrap().to_owned()
    }

    async fn listed(&self, query: &str) -> Vec<Value> {
        self.listed_in(&self.repo, query).await
    }

    async fn listed_in(&self, repo: &str, query: &str) -> Vec<Value> {
        let page = self.house.api.get(&format!("/api/repos/{repo}/snapshots{query}")).await;
        page["items"].as_array().unwrap().clone()
    }

    /// Jobs that listed a repository as a whole, or are to.
    async fn lists(&self) -> usize {
        let page = self.house.api.get("/api/jobs?kind=snapshots").await;
        page["items"].as_array().unwrap().len()
    }

    /// Waits for the list that is ordered by itself behind the first backup.
    async fn first_list(&self) {
        until("the repository is listed", async || {
            let rows = self.listed("").await;
            // Of a backup's end it is not known who made it.
            rows.iter().any(|row| row["username"] != "").then_some(())
        })
        .await;
    }

    fn of_snapshot(&self, id: &str, rest: &str) -> String {
        format!("/api/repos/{}/snapshots/{id}{rest}", self.repo)
    }

    /// A folder's entries, once they are here.
    async fn folder(&self, id: &str, path: &str) -> Vec<Value> {
        let address = self.of_snapshot(id, &format!("/tree?path={}", encoded(path)));
        let before = self.house.api.ask(Method::GET, &address, None).await.must(404);
        assert_eq!(before["type"], "urn:flotilla:not_listed", "{before}");
        let order = self.of_snapshot(id, "/tree");
        self.house.api.post(&order, json!({ "path": path })).await.must(202);
        let page = until("the folder is listed", async || {
            let answer = self.house.api.ask(Method::GET, &address, None).await;
            assert!([200, 202].contains(&answer.status), "{} {}", answer.status, answer.body);
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        page["items"].as_array().unwrap().clone()
    }

    async fn ordered(&self, path: &str, body: Value) -> String {
        let made = self.house.api.post(&format!("/api/repos/{}{path}", self.repo), body).await.must(202);
        let job = made["job_id"].as_str().unwrap().to_owned();
        self.house.api.end_of(&job).await;
        job
    }

    async fn results(&self, path: &str) -> Value {
        self.house.api.get(&format!("/api/repos/{}{path}", self.repo)).await
    }
}

fn names(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_repository_is_listed_browsed_searched_and_compared() {
    let stage = Stage::set().await;
    let first = stage.back_up().await;
    let rows = stage.listed("").await;
    assert_eq!((rows.len(), &rows[0]["id"]), (1, &json!(first)), "a backup's end writes its row");
    assert_eq!((&rows[0]["host_id"], &rows[0]["hostname"]), (&json!(stage.agent.host_id), &json!("web")));

    // The list that nobody ordered says what the claim could not.
    let whole =
        until("the repository is listed", async || {
            stage.listed("").await.pop().filter(|row| {
                !row["program"].as_str().unwrap().is_empty() || !row["username"].as_str().unwrap().is_empty()
            })
        })
        .await;
    assert_eq!(whole["paths"], json!([text(&stage.source)]));

    let root = text(&stage.source).to_owned();
    let entries = stage.folder(&first, &root).await;
    assert_eq!(names(&entries), ["sub", "notes.txt"], "folders first");
    assert_eq!((&entries[1]["size"], &entries[1]["kind"]), (&json!(3), &json!("file")));
    let odd = stage.folder(&first, &format!("{root}/sub")).await;
    assert_eq!(names(&odd), ["bad\u{FFFD}.txt", ODD]);
    let again = stage.house.api.post(&stage.of_snapshot(&first, "/tree"), json!({ "path": root })).await;
    assert_eq!(again.status, 204, "it is here: {}", again.body);

    fs::write(stage.source.join("notes.txt"), "two and more").unwrap();
    fs::write(stage.source.join("new.txt"), "new").unwrap();
    let second = stage.back_up().await;
    let third = stage.back_up().await;
    let job = stage.ordered("/find", json!({"pattern": "notes.*"})).await;
    let found = stage.results(&format!("/find/{job}")).await;
    assert_eq!((found["status"].as_str(), found["count"].as_u64()), (Some("succeeded"), Some(3)), "{found}");
    let odd_path = format!("{root}/sub/{ODD}");
    let job = stage.ordered("/find", json!({"pattern": odd_path, "exact": true})).await;
    assert_eq!(stage.results(&format!("/find/{job}")).await["count"], 3, "a path with odd letters is found as it is");

    let notes = format!("{root}/notes.txt");
    let job = stage.ordered("/find", json!({"pattern": notes, "exact": true, "host_id": stage.agent.host_id})).await;
    let versions = stage.results(&format!("/versions/{job}")).await;
    let told: Vec<_> =
        versions["items"].as_array().unwrap().iter().map(|v| (v["size"].clone(), v["snapshots"].clone())).collect();
    assert_eq!(told, [(json!(12), json!([second, third])), (json!(3), json!([first]))], "{versions}");

    let job = stage.ordered("/diff", json!({"a": first[..8], "b": second})).await;
    let diff = stage.results(&format!("/diff/{job}")).await;
    assert_eq!(diff["status"], "succeeded", "{diff}");
    assert_eq!((&diff["total"]["added"], &diff["total"]["changed"]), (&json!(1), &json!(1)), "{diff}");
    let changes = diff["items"].as_array().unwrap();
    assert!(changes.contains(&json!({"path": format!("{root}/new.txt"), "sign": "+"})), "{diff}");
}

#[tokio::test]
async fn a_snapshot_that_was_removed_meanwhile_is_said_to_be_gone_and_its_row_becomes_so() {
    let stage = Stage::set().await;
    let id = stage.back_up().await;
    until("the repository is listed", async || {
        let listed = stage.house.api.get("/api/jobs?kind=snapshots&status=succeeded").await;
        (!listed["items"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    // Somebody with a hand on the server's disk.
    fs::remove_file(stage.rest.file("vault", &format!("snapshots/{id}"))).unwrap();
    let order = stage.of_snapshot(&id, "/tree");
    let job = stage.house.api.post(&order, json!({"path": "/"})).await.must(202)["job_id"].as_str().unwrap().to_owned();
    assert_eq!(stage.house.api.end_of(&job).await["status"], "failed");
    let failed = until("the failure is told", async || {
        let answer = stage.house.api.ask(Method::GET, &stage.of_snapshot(&id, "/tree?path=/"), None).await;
        (answer.status == 409).then_some(answer.body)
    })
    .await;
    assert_eq!(failed["type"], "urn:flotilla:listing_failed", "{failed}");
    // A person does not have to wait for the list that is ordered by itself.
    stage.ordered("/snapshots/refresh", json!({})).await;
    let row = until("its row is gone", async || {
        Some(stage.house.api.get(&stage.of_snapshot(&id, "")).await).filter(|row| !row["gone_at"].is_null())
    })
    .await;
    assert_eq!(row["gone_by"], Value::Null, "no job from here removed it");
    assert_eq!(stage.listed("").await, [Value::Null; 0]);
    let refused = stage.house.api.post(&order, json!({"path": "/"})).await.must(409);
    assert!(refused["detail"].as_str().unwrap().contains("no longer in vault"), "{refused}");
}

#[tokio::test]
async fn the_snapshots_of_a_removed_host_are_browsed_through_another() {
    let stage = Stage::set().await;
    let id = stage.back_up().await;
    let other = stage.house.agent("other").await;
    let api = &stage.house.api;
    let elsewhere = stage.house.folder("elsewhere");
    fs::write(elsewhere.join("x"), "x").unwrap();
    api.plan(&other.host_id, &stage.repo, &[text(&elsewhere)], 0).await;
    assert_eq!(api.ask(Method::DELETE, &format!("/api/hosts/{}", stage.agent.host_id), None).await.status, 204);
    let rows = stage.listed("?hostname=web").await;
    assert_eq!((rows.len(), &rows[0]["host_name"]), (1, &json!("web")), "{rows:?}");
    let entries = stage.folder(&id, text(&stage.source)).await;
    assert_eq!(names(&entries), ["sub", "notes.txt"]);
}
