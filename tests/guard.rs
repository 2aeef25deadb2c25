//! The retention guard on real parts: an agent, restic, a REST server that lets it delete. What a forget may remove, what stops it, what a person's word
//! changes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::path::PathBuf;

use reqwest::{Method, header};
use serde_json::{Value, json};

use house::{Agent, House, repository::RestServer, tree::write_files, wait::until};

/// A host `web` with a plan into `vault` on a server that lets it delete, three snapshots old, all in the index.
struct Stage {
    house: House,
    rest: RestServer,
    agent: Agent,
    source: PathBuf,
    repo: String,
    plan: String,
}

impl Stage {
    async fn set(keep: Value) -> Self {
        let house = House::start().await;
        let rest = RestServer::start_deletable(&house.folder("rest")).await;
        let source = house.folder("source");
        write_files(&source, 20, 100_000);
        let agent = house.agent("web").await;
        let mut vault = rest.ready("vault");
        vault["append_only"] = json!(false);
        let repo = house.api.repo(vault).await;
        let plan = house.api.plan(&agent.host_id, &repo, &[source.to_str().unwrap()], 0).await;
        house.api.ask(Method::PATCH, &format!("/api/plans/{plan}"), Some(json!({"retention": keep}))).await.must(200);
        let stage = Self { house, rest, agent, source, repo, plan };
        for _ in 0..3 {
            let job = stage.house.api.back_up(&stage.agent.host_id, &stage.plan).await;
            assert_eq!(stage.house.api.end_of(&job).await["status"], "succeeded");
        }
        stage.list().await;
        stage
    }

    /// Lists the repository, and waits until the index has it: a dry run is held back no more.
    async fn list(&self) {
        let job = self.order(json!({"kind": "snapshots", "repo_id": self.repo})).await;
        assert_eq!(self.house.api.end_of(&job).await["status"], "succeeded");
        until("the index has the list", async || {
            let dry = self.order(json!({"kind": "forget", "plan_id": self.plan, "dry_run": true})).await;
            let end = self.house.api.end_of(&dry).await;
            (end["summary"]["removed"].as_u64() > Some(0)).then_some(())
        })
        .await;
    }

    async fn order(&self, order: Value) -> String {
        self.house.api.order(&self.agent.host_id, order).await
    }

    async fn forget(&self) -> (String, Value) {
        let job = self.order(json!({"kind": "forget", "plan_id": self.plan})).await;
        let end = self.house.api.end_of(&job).await;
        (job, end)
    }

    /// Ids in the repository, the oldest claim first.
    fn ids(&self) -> Vec<String> {
        let mut all = self.rest.snapshots("vault");
        all.sort_by_key(|snapshot| snapshot["time"].as_str().unwrap().to_owned());
        all.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    async fn page(&self, path: &str) -> String {
        let request = self.house.api.client(Method::GET, path).header(header::ACCEPT, "text/html");
        request.send().await.unwrap().text().await.unwrap()
    }

    /// Posts a form as a page does, and gives where it leads.
    async fn post(&self, path: &str, body: &'static str) -> String {
        let request = self.house.api.client(Method::POST, path);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_redirection() || response.status().is_success(), "{path}: {}", response.status());
        response.url().path().to_owned()
    }

    async fn open_alerts(&self) -> Vec<String> {
        let alerts = self.house.api.get("/api/alerts?open=true").await;
        let alerts = alerts["items"].as_array().unwrap().clone();
        alerts.iter().map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_clean_forget_goes_through_with_each_removal_listed_and_what_is_pinned_stays() {
    let stage = Stage::set(json!({"keep_last": 1})).await;
    let before = stage.ids();
    let pinned = format!("/repos/{}/pin", stage.repo);
    let body: &'static str = format!("snapshot={}&reason=before+the+move", before[0]).leak();
    stage.post(&pinned, body).await;
    let (job, end) = stage.forget().await;
    assert_eq!((&end["status"], &end["summary"]["removed"]), (&json!("succeeded"), &json!(1)), "{end}");
    assert_eq!(stage.ids(), [before[0].clone(), before[2].clone()]);
    let page = stage.page(&format!("/retention/{job}")).await;
    assert!(page.contains("pinned by ada: before the move"), "{page}");
    assert!(
        page.contains(&format!("no rule keeps it (1 last); the next one that stays is {}", &before[2][..8])),
        "{page}"
    );
    assert!(page.contains("last snapshot") && page.contains(&before[1]), "{page}");
    assert_eq!(stage.open_alerts().await, [""; 0]);
}

#[tokio::test]
async fn a_forged_back_dated_snapshot_stops_a_forget_until_a_person_approves() {
    let stage = Stage::set(json!({"keep_last": 1, "keep_yearly": 5})).await;
    let before = stage.ids();
    let tag = format!("plan-{}", stage.plan.to_lowercase());
    let forged =
        ["backup", "--host", "web", "--tag", &tag, "--time", "2020-03-04 05:06:07", stage.source.to_str().unwrap()];
    stage.rest.restic("vault", &forged).must();
    assert_eq!(stage.ids().len(), 4);

    let (job, end) = stage.forget().await;
    assert!(end["summary"]["stopped"].as_str().is_some_and(|why| why.contains("older date")), "{end}");
    assert_eq!(stage.ids().len(), 4, "nothing went");
    assert_eq!(stage.open_alerts().await, ["forget_stopped"]);
    let page = stage.page(&format!("/retention/{job}")).await;
    assert!(page.contains("claims an older date") && page.contains("What to do") && page.contains("Approve"), "{page}");

    stage.post(&format!("/retention/{job}/approve"), "confirm=vault").await;
    assert_eq!(stage.open_alerts().await, [""; 0]);
    until("the forget that was ordered again removes the two", async || (stage.ids().len() == 2).then_some(())).await;
    assert_eq!(stage.ids()[1], before[2], "the newest stays, beside the old one that a person let pass");
}

#[tokio::test]
async fn a_dry_run_is_listed_and_removes_nothing() {
    let stage = Stage::set(json!({"keep_last": 1})).await;
    let job = stage.order(json!({"kind": "forget", "plan_id": stage.plan, "dry_run": true})).await;
    assert_eq!(stage.house.api.end_of(&job).await["status"], "succeeded");
    assert_eq!(stage.ids().len(), 3);
    assert!(stage.page(&format!("/retention/{job}")).await.contains("Would go"));
}
