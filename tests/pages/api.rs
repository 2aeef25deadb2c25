//! Repositories, plans and orders as a script makes them: statuses, places, fields that are refused, secrets that stay inside.

use flotilla::{
    domain::job::Actor,
    ops::accounts::{self, NewToken},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::site::Site;

/// A script with a token of its account's role.
pub(crate) struct Script<'a> {
    site: &'a Site,
    token: String,
}

impl Script<'_> {
    pub(crate) async fn of<'a>(site: &'a Site, account: &str) -> Script<'a> {
        let user = accounts::find_user(&site.store, account).await.unwrap();
        let new = NewToken { user_id: user.id, label: "script".to_owned(), role: None, ttl_s: None };
        let (_, secret) = accounts::create_token(&site.store, Actor::system(), new).await.unwrap();
        Script { site, token: secret.expose().to_owned() }
    }

    /// The status, the `Location`, and the body, which never holds a planted secret.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String, Value) {
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

    pub(crate) async fn post(&self, path: &str, body: Value) -> (u16, String, Value) {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, _, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

pub(crate) fn fields(problem: &Value) -> Vec<&str> {
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
async fn a_plans_schedule_is_one_schedule_for_each_host_that_it_covers() {
    let site = Site::start().await;
    let script = Script::of(&site, "otto").await;
    let place = format!("/api/plans/{}", site.ids.plan);
    let nightly = json!({"cron": "0 1 * * *", "timezone": "Europe/Berlin", "jitter_s": 14_400, "catch_up": "skip", "enabled": true});
    let (status, _, plan) = script.ask(Method::PATCH, &place, Some(json!({"schedule": nightly}))).await;
    assert_eq!((status, &plan["schedule"]), (200, &nightly));
    let list = script.get("/api/schedules").await;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "web-1, web-2 and db-1: {list}");
    for item in items {
        assert_eq!(
            (&item["from_plan"], &item["side"], &item["kind"]),
            (&json!(true), &json!("agent"), &json!("backup"))
        );
        assert_eq!(item["words"], "every night between 01:00 and 05:00, Europe/Berlin");
        assert_eq!(item["next"].as_array().map(Vec::len), Some(5));
        assert_eq!(item["next"][0], "2026-11-22T00:00:00.000Z");
        let fires = item["fires_at"].as_str().unwrap();
        assert!(("2026-11-22T00:00:00.000Z".."2026-11-22T04:00:00.000Z").contains(&fires), "{fires}");
        assert_eq!(item["state"]["in_force"], false, "no agent has said that it has it");
    }
    let first = script.get("/api/schedules?limit=2").await;
    let rest = script.get(&format!("/api/schedules?limit=2&after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    let of_one = script.get(&format!("/api/schedules?host_id={}", site.ids.hosts[0])).await;
    let path = format!("/api/schedules/{}", of_one["items"][0]["id"].as_str().unwrap());
    assert_eq!(script.get(&path).await["host_name"], "web-1");
    let (status, _, problem) = script.ask(Method::PATCH, &path, Some(json!({"enabled": false}))).await;
    assert!(status == 409 && problem["detail"].as_str().unwrap().contains("nightly"), "{problem}");
    assert_eq!(script.ask(Method::DELETE, &path, None).await.0, 409);
    let (status, place, _) = script.post(&format!("{path}/run"), json!({})).await;
    assert_eq!(status, 202);
    let job = script.get(&place).await;
    assert_eq!(
        (&job["schedule_id"], &job["scheduled_at"], &job["ran_alone"]),
        (&Value::Null, &Value::Null, &json!(false))
    );
}

#[tokio::test]
async fn a_schedule_of_its_own_is_made_paused_run_and_removed() {
    let site = Site::start().await;
    let script = Script::of(&site, "otto").await;
    let body =
        json!({"host_id": site.ids.hosts[0], "kind": "check", "cron": "0 4 * * 0", "timezone": "UTC", "enabled": true});
    let (status, place, made) = script.post("/api/schedules", body).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["repo_id"], &made["side"]), (&json!(site.ids.repo), &json!("server")));
    assert_eq!(made["next"][0], "2026-11-22T04:00:00.000Z");
    let (status, _, paused) =
        script.ask(Method::PATCH, &place, Some(json!({"enabled": false, "cron": "0 5 * * *"}))).await;
    assert_eq!((status, &paused["enabled"], &paused["next"]), (200, &json!(false), &json!([])));
    let (status, job, _) = script.post(&format!("{place}/run"), json!({})).await;
    assert_eq!((status, &script.get(&job).await["kind"]), (202, &json!("check")));
    assert_eq!(script.ask(Method::DELETE, &place, None).await.0, 204);
    assert_eq!(script.ask(Method::GET, &place, None).await.0, 404);
    let wrong =
        json!({"host_id": site.ids.hosts[0], "kind": "backup", "cron": "0 4 * *", "timezone": "Mars", "enabled": true});
    let (status, _, problem) = script.post("/api/schedules", wrong).await;
    assert_eq!((status, fields(&problem)), (422, vec!["cron", "plan_id"]));
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
    let wrong = json!({"name": "x", "repo_id": site.ids.repo, "paths": ["relative"], "schedule": {"cron": "0 25 * * *", "timezone": "UTC"}});
    let (status, _, problem) = script.post("/api/plans", wrong).await;
    assert_eq!((status, fields(&problem)), (422, vec!["paths[0]", "schedule.cron"]));
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
    let deletes = json!({"kind": "forget"});
    assert_eq!(script.post(&path, deletes).await.0, StatusCode::FORBIDDEN.as_u16(), "that is for administrators");
    let nobody = "/api/hosts/01JD3K8ZQV5C0F8R4X7M2N9ABC/jobs";
    assert_eq!(script.post(nobody, json!({"kind": "check"})).await.0, 404);
    let viewer = Script::of(&site, "vera").await;
    assert_eq!(viewer.post(&path, json!({"kind": "check"})).await.0, StatusCode::FORBIDDEN.as_u16());
    assert_eq!(script.get("/api/jobs").await, before);
}
