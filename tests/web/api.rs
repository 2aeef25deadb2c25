//! The JSON API: what it takes, what it refuses and how, what it answers.

use flotilla::{
    domain::{Timestamp, user::Role},
    store::hosts,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{TestServer, problem};

#[tokio::test]
async fn bad_bodies_are_refused_with_the_reason_and_the_field() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let json_type = "application/json";
    for (content_type, body, status, field) in [
        (json_type, &br#"{"name": "x", "password": "0123456789", "role": "viewer", "rol": 1}"#[..], 422, Some("rol")),
        (json_type, br#"{"name": 7, "password": "0123456789", "role": "viewer"}"#, 422, Some("name")),
        (json_type, br#"{"name": "x", "password": "0123456789"}"#, 422, Some("role")),
        (json_type, br#"{"name": "x", "password": "0123456789", "role": "god"}"#, 422, Some("role")),
        (json_type, br#"{"name": "x", "password": "short", "role": "viewer"}"#, 422, Some("password")),
        (json_type, br#"{"name": " ", "password": "0123456789", "role": "viewer"}"#, 422, Some("name")),
        (json_type, br#"{"name": "ROOT", "password": "0123456789", "role": "viewer"}"#, 422, Some("name")),
        (json_type, b"[]", 422, Some("body")),
        (json_type, b"{\"name\": \"\xff\"}", 400, None),
        (json_type, b"{\"name\": ", 400, None),
        (json_type, b"", 400, None),
        ("text/plain", b"{}", 415, None),
        ("", b"{}", 415, None),
    ] {
        let mut ask = server.ask(Method::POST, "/api/users").bearer_auth(&admin).body(body.to_vec());
        if !content_type.is_empty() {
            ask = ask.header("content-type", content_type);
        }
        let refused = problem(ask.send().await.unwrap(), status).await;
        assert_eq!(refused["errors"][0]["field"].as_str(), field, "{} → {refused}", String::from_utf8_lossy(body));
    }
    let users: Value = server.get("/api/users").bearer_auth(&admin).send().await.unwrap().json().await.unwrap();
    assert_eq!(users["items"].as_array().unwrap().len(), 1, "nothing was made");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_it_says_its_length_or_not() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let huge = vec![b' '; (1 << 20) + 1];
    let ask = || server.ask(Method::POST, "/api/users").bearer_auth(&admin).header("content-type", "application/json");
    problem(ask().body(huge.clone()).send().await.unwrap(), 413).await;
    // Without a length: chunked.
    let raw = format!(
        "POST /api/users HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {admin}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
        huge.len()
    );
    let answer = raw_exchange(&server, &[raw.as_bytes(), &huge, b"\r\n0\r\n\r\n"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

async fn raw_exchange(server: &TestServer, request: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    // The server may answer and close before it has read all of it.
    socket.write_all(request).await.ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn bad_addresses_are_refused_with_the_reason() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    for (path, status, says) in [
        ("/api/hosts/nonsense", 404, "malformed"),
        ("/api/hosts/8ZZZZZZZZZZZZZZZZZZZZZZZZZ", 404, "malformed"),
        ("/api/jobs/01JD3K8ZQV5C0F8R4X7M2N9ABC", 404, "no such job"),
        ("/api/jobs/01JD3K8ZQV5C0F8R4X7M2N9ABC/log", 404, "no such job"),
        ("/api/jobs/01JD3K8ZQV5C0F8R4X7M2N9ABC/log.txt", 404, "no such job"),
        ("/api/jobs?kind=No+Such", 400, "kind"),
        ("/api/jobs?status=done", 400, "status"),
        ("/api/jobs?host_id=x", 400, "host_id"),
        ("/api/jobs?colour=red", 400, "colour"),
        ("/api/jobs?limit=0", 422, "limit"),
        ("/api/hosts?limit=1001", 422, "limit"),
        ("/api/hosts?limit=-1", 400, "limit"),
    ] {
        let refused = problem(server.get(path).bearer_auth(&admin).send().await.unwrap(), status).await;
        assert!(refused["detail"].as_str().unwrap().contains(says), "{path} → {refused}");
    }
}

#[tokio::test]
async fn hosts_are_listed_page_by_page_changed_and_removed() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    for name in ["c", "a", "b"] {
        server.host(name).await;
    }
    let get = async |path: String| -> Value {
        server.get(&path).bearer_auth(&admin).send().await.unwrap().json().await.unwrap()
    };
    let names = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|host| host["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = get("/api/hosts?limit=2".to_owned()).await;
    assert_eq!(names(&first), ["a", "b"]);
    let second = get(format!("/api/hosts?limit=2&after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((names(&second), &second["next"]), (vec!["c".to_owned()], &Value::Null));

    let host = &first["items"][0];
    assert_eq!((host["status"].as_str(), host["reach"]["agent"]["state"].as_str()), (Some("never"), Some("never")));
    // Either case names it.
    let path = format!("/api/hosts/{}", host["id"].as_str().unwrap().to_lowercase());
    let patch = |body: Value| server.ask(Method::PATCH, &path).bearer_auth(&admin).json(&body).send();
    let changed: Value =
        patch(json!({"name": "web", "tags": ["Prod", "prod", "eu"]})).await.unwrap().json().await.unwrap();
    assert_eq!(
        (&changed["name"], &changed["tags"], &changed["slug"]),
        (&json!("web"), &json!(["prod", "eu"]), &json!("a"))
    );
    let refused = problem(patch(json!({"tags": ["ok", "no good"]})).await.unwrap(), 422).await;
    assert_eq!(refused["errors"][0]["field"], "tags[1]");
    problem(patch(json!({"name": null})).await.unwrap(), 422).await;

    assert_eq!(server.ask(Method::DELETE, &path).bearer_auth(&admin).send().await.unwrap().status(), 204);
    problem(server.get(&path).bearer_auth(&admin).send().await.unwrap(), 404).await;
}

#[tokio::test]
async fn a_host_is_online_while_its_agent_is_connected() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let id = server.host("web").await;
    server.state.hub.arrived(id, 1, server.state.clock.now());
    let status = async || -> Value {
        let host = server.get(&format!("/api/hosts/{id}")).bearer_auth(&admin).send().await.unwrap();
        host.json::<Value>().await.unwrap()["status"].clone()
    };
    assert_eq!(status().await, "online");
    server.state.hub.left(id, 1);
    let at = Timestamp::from_unix_ms(1);
    server.state.store.write(move |tx| hosts::seen(tx, &[(id, at)])).await.unwrap();
    assert_eq!(status().await, "offline");
}

fn applicant(token: &str) -> Value {
    json!({"token": token, "hostname": "web-1", "os": "linux", "arch": "x86_64", "agent_version": "0.1.0", "protocol": {"min": 1, "max": 1}})
}

#[tokio::test]
async fn an_enrolment_token_makes_as_many_hosts_as_it_says_and_all_its_refusals_are_one() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let make = async |body: Value| -> Value {
        let made = server.post("/api/enrollment-tokens", &body).bearer_auth(&admin).send().await.unwrap();
        assert_eq!(made.status(), 201);
        made.json().await.unwrap()
    };
    let made = make(json!({"host_name": "Web 1", "tags": ["prod"]})).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(made["command"], format!("flotilla-agent enroll --server http://{} --token {token}", server.address));
    let arrival = format!("/api/enrollment-tokens/{}", made["id"].as_str().unwrap());
    let state =
        async || -> Value { server.get(&arrival).bearer_auth(&admin).send().await.unwrap().json().await.unwrap() };
    assert_eq!(state().await["state"], "waiting");

    let enrol = |body: Value| server.post("/api/enroll", &body).send();
    let incomplete = problem(enrol(json!({"token": token, "hostname": ""})).await.unwrap(), 422).await;
    assert_eq!(incomplete["errors"][0]["field"], "os");
    let mut bad_name = applicant(token);
    bad_name["hostname"] = json!("a\nb");
    assert_eq!(problem(enrol(bad_name).await.unwrap(), 422).await["errors"][0]["field"], "hostname");
    let mut too_new = applicant(token);
    too_new["protocol"] = json!({"min": 9, "max": 9});
    assert!(
        problem(enrol(too_new).await.unwrap(), 409).await["detail"].as_str().unwrap().contains("update the server")
    );

    let enrolled: Value = enrol(applicant(token)).await.unwrap().json().await.unwrap();
    assert!(enrolled["agent_token"].as_str().unwrap().starts_with("fla_"));
    let arrived = state().await;
    assert_eq!((&arrived["state"], &arrived["host"]["name"]), (&json!("arrived"), &json!("Web 1")));
    assert_eq!(arrived["host"]["tags"], json!(["prod"]));

    let used_up = problem(enrol(applicant(token)).await.unwrap(), 401).await;
    let unknown = problem(enrol(applicant("fle_unknown")).await.unwrap(), 401).await;
    let short_lived = make(json!({"ttl_seconds": 60})).await;
    server.clock.advance(61);
    let expired = problem(enrol(applicant(short_lived["token"].as_str().unwrap())).await.unwrap(), 401).await;
    assert!(used_up == unknown && unknown == expired, "{used_up} {unknown} {expired}");
}

#[tokio::test]
async fn a_log_is_read_page_by_page_and_as_text() {
    let server = TestServer::start().await;
    let user = server.user("ada", Role::Viewer).await;
    let token = server.token(&user).await;
    let job = server.running_job().await;
    job.lines(1, 1200, 0).await;
    let page = async |query: &str| -> Value {
        let path = format!("/api/jobs/{}/log{query}", job.id);
        server.get(&path).bearer_auth(&token).send().await.unwrap().json().await.unwrap()
    };
    let first = page("?limit=700").await;
    assert_eq!((first["lines"].as_array().unwrap().len(), &first["next"]), (700, &json!(700)));
    let rest = page("?after=700&limit=700").await;
    assert_eq!((rest["lines"].as_array().unwrap().len(), &rest["next"]), (500, &Value::Null));
    assert_eq!(rest["lines"][0]["seq"], 701);
    assert_eq!(page("?after=5000").await["lines"], json!([]));
    let text = server.get(&format!("/api/jobs/{}/log.txt", job.id)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
    let text = text.text().await.unwrap();
    assert_eq!(text.lines().count(), 1200);
    assert_eq!(text.lines().last().map(str::trim), Some("line 1200"));
    let shown: Value =
        server.get(&format!("/api/jobs/{}", job.id)).bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&shown["status"], &shown["log_lines"], &shown["kind"]),
        (&json!("running"), &json!(1200), &json!("backup"))
    );
}

#[tokio::test]
async fn machines_learn_whether_it_lives_works_and_what_it_counts() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    assert_eq!(server.get("/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
    assert_eq!(server.get("/readyz").send().await.unwrap().status(), 200);
    problem(server.get("/metrics").send().await.unwrap(), 401).await;
    server.host("web").await;
    let metrics = server.get("/metrics").bearer_auth(&admin).send().await.unwrap().text().await.unwrap();
    for line in ["flotilla_hosts 1", "flotilla_hosts_online 0", "flotilla_jobs{status=\"queued\"} 0"] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
}
