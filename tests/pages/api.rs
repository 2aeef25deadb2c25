//! Repositories, plans and orders as a script makes them: statuses, places, fields that are refused, secrets that stay inside.

use flotilla::{
    domain::job::Actor,
    ops::accounts::{self, NewToken},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::site::Site;

/// A script with a token of its account's role.
struct Script<'a> {
    site: &'a Site,
    token: String,
}

impl Script<'_> {
    async fn of<'a>(site: &'a Site, account: &str) -> Script<'a> {
        let user = accounts::find_user(&site.store, account).await.unwrap();
        let new = NewToken { user_id: user.id, label: "script".to_owned(), role: None, ttl_s: None };
        let (_, secret) = accounts::create_token(&site.store, Actor::system(), new).await.unwrap();
        Script { site, token: secret.expose().to_owned() }
    }

    /// The status, the `Location`, and the body, which never holds a planted secret.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String, Value) {
        let mut request = self.site.client().request(method, self.site.url(path)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let place = answer.headers().get("location").map_or("", |to| to.to_str().unwrap()).to_owned();
        let text = answer.text().await.unwrap();
        assert!(!text.contains("planted"), "{path} answers with a secret: {text}");
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        (status.as_u16(), place, body)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, String, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

fn fields(problem: &Value) -> Vec<&str> {
    problem["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_repository_is_answered_whole_without_its_secrets() {
    let site = Site::start().await;
    let script = Script::of(&site, "ada").await;
    let body = json!({"name": "offsite", "url": "rest:https://vault:8000/", "password": "planted-1",
        "auth": {"username": "web", "password": "planted-2"}, "maintenance": {"username": "admin", "password": "planted-3"},
        "env": {"AWS_SECRET_ACCESS_KEY": "planted-4"}, "append_only": true, "init": true});
    let (status, place, made) = script.post("/api/repos", body.clone()).await;
    assert_eq!((status, place), (201, format!("/api/repos/{}", made["id"].as_str().unwrap())));
    for (pointer, set) in [
        ("/password/set", true),
        ("/auth/password/set", true),
        ("/maintenance/set", true),
        ("/env/AWS_SECRET_ACCESS_KEY/set", true),
    ] {
        assert_eq!(made.pointer(pointer), Some(&json!(set)), "{pointer} in {made}");
    }
    assert_eq!(
        (&made["append_only"], &made["init"], &made["auth"]["username"]),
        (&json!(true), &json!(true), &json!("web"))
    );
    assert_eq!(script.post("/api/repos", body).await.0, 409, "the name is taken");
    let place = format!("/api/repos/{}", made["id"].as_str().unwrap());
    let (status, _, changed) =
        script.ask(Method::PATCH, &place, Some(json!({"name": "elsewhere", "auth": null}))).await;
    assert_eq!((status, &changed["name"], &changed["auth"]), (200, &json!("elsewhere"), &Value::Null));
    assert_eq!(script.get(&place).await, changed);
    assert_eq!(script.ask(Method::DELETE, &place, None).await.0, 204);
    assert_eq!(script.ask(Method::GET, &place, None).await.0, 404);
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let site = Site::start().await;
    let script = Script::of(&site, "ada").await;
    for name in ["a", "b"] {
        let (status, ..) =
            script.post("/api/repos", json!({"name": name, "url": "/srv/r", "password": "planted"})).await;
        assert_eq!(status, 201);
    }
    let mut names = Vec::new();
    let mut next = String::new();
    loop {
        let page = script.get(&format!("/api/repos?limit=1{next}")).await;
        names.extend(page["items"].as_array().unwrap().iter().map(|repo| repo["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(after) => next = format!("&after={after}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "vault"]);
}

#[tokio::test]
async fn a_plan_is_made_changed_and_refused_by_field() {
    let site = Site::start().await;
    let script = Script::of(&site, "otto").await;
    let body = json!({"name": "weekly", "repo_id": site.ids.repo, "hosts": [site.ids.hosts[3]], "paths": ["/srv"]});
    let (status, place, made) = script.post("/api/plans", body).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["hosts"], json!([site.ids.hosts[3]]));
    let (_, _, changed) = script.ask(Method::PATCH, &place, Some(json!({"retention": {"keep_last": 3}}))).await;
    assert_eq!((&changed["retention"], &changed["paths"]), (&json!({"keep_last": 3}), &json!(["/srv"])));
    let wrong =
        json!({"name": "x", "repo_id": site.ids.repo, "paths": ["relative"], "schedule": {"cron": "0 3 * * *"}});
    let (status, _, problem) = script.post("/api/plans", wrong).await;
    assert_eq!((status, fields(&problem)), (422, vec!["paths[0]", "schedule"]));
    let (status, _, problem) =
        script.post("/api/plans", json!({"name": "x", "repo_id": site.ids.repo, "paths": ["/x"], "exclude": []})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["exclude"]), "a mistyped field");
    let (status, ..) = script.post("/api/repos", json!({"name": "x", "url": "/r", "password": "y"})).await;
    assert_eq!(status, 403, "an operator adds no repository");
}

#[tokio::test]
async fn an_order_is_accepted_with_its_place_and_its_actor() {
    let site = Site::start().await;
    let script = Script::of(&site, "otto").await;
    let path = format!("/api/hosts/{}/jobs", site.ids.hosts[0]);
    let orders = [
        json!({"kind": "backup", "plan_id": site.ids.plan}),
        json!({"kind": "backup"}),
        json!({"kind": "backup", "repo_id": site.ids.repo, "args": ["/etc"]}),
        json!({"kind": "check"}),
        json!({"kind": "restore", "params": {"snapshot": "latest", "target": "/srv/back", "overwrite": "if-newer"}}),
    ];
    for order in orders {
        let (status, place, body) = script.post(&path, order.clone()).await;
        let id = body["job_id"].as_str().unwrap_or_else(|| panic!("{order}: {body}")).to_owned();
        assert_eq!((status, &place), (202, &format!("/api/jobs/{id}")), "{order}");
        let job = script.get(&place).await;
        assert_eq!(
            (&job["kind"], &job["status"], &job["actor"]["kind"]),
            (&order["kind"], &json!("queued"), &json!("token"))
        );
        let (status, _, cancelled) = script.ask(Method::POST, &format!("{place}/cancel"), None).await;
        assert_eq!((status, &cancelled["state"]), (202, &json!("cancelled")));
        assert_eq!(script.get(&place).await["status"], "cancelled");
        assert_eq!(script.ask(Method::POST, &format!("{place}/cancel"), None).await.0, 409);
        let (status, again, body) = script.ask(Method::POST, &format!("{place}/rerun"), None).await;
        assert_eq!(status, 202, "{order}: {body}");
        assert_eq!(script.get(&again).await["rerun_of"], json!(id));
    }
}

#[tokio::test]
async fn orders_that_cannot_be_done_say_which_field_and_change_nothing() {
    let site = Site::start().await;
    let script = Script::of(&site, "otto").await;
    let path = format!("/api/hosts/{}/jobs", site.ids.hosts[0]);
    let before = script.get("/api/jobs").await;
    for (order, field) in [
        (json!({"kind": "say_hello"}), "kind"),
        (json!({"kind": "forget"}), "kind"),
        (json!({"kind": "backup", "plan_id": "nonsense"}), "plan_id"),
        (json!({"kind": "backup", "args": ["--stdin"]}), "args[0]"),
        (json!({"kind": "restore", "snapshot": "latest", "in_place": true}), "confirm"),
        (json!({"kind": "restore", "snapshot": "latest", "target": "/x", "overwrite": "maybe"}), "overwrite"),
        (json!({"kind": "check", "prune": true}), "prune"),
        (json!({}), "kind"),
    ] {
        let (status, _, problem) = script.post(&path, order.clone()).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{order}: {problem}");
    }
    let nobody = "/api/hosts/01JD3K8ZQV5C0F8R4X7M2N9ABC/jobs";
    assert_eq!(script.post(nobody, json!({"kind": "check"})).await.0, 404);
    let viewer = Script::of(&site, "vera").await;
    assert_eq!(viewer.post(&path, json!({"kind": "check"})).await.0, StatusCode::FORBIDDEN.as_u16());
    assert_eq!(script.get("/api/jobs").await, before);
}
