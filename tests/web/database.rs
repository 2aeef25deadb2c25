//! The database's own affairs over HTTP: copies for administrators, what is said of a removed log, what is counted.

use flotilla::{domain::user::Role, store::retention};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{TestServer, problem};

async fn asked(server: &TestServer, path: &str, token: &str) -> Value {
    let answer = server.get(path).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

#[tokio::test]
async fn an_administrator_has_a_copy_made_and_sees_it_listed_and_counted() {
    let server = TestServer::start().await;
    let admin = server.admin().await;
    let before = asked(&server, "/api/database/backups", &admin).await;
    assert_eq!((&before["items"], &before["last"], &before["trouble"]), (&json!([]), &Value::Null, &Value::Null));
    assert_eq!(before["next_at"], "2026-11-22T02:40:00.000Z");
    assert!(before["bytes"].as_u64().unwrap() > 0);

    let made = server.ask(Method::POST, "/api/database/backups").bearer_auth(&admin).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let path = made["path"].as_str().unwrap();
    assert!(path.ends_with("backups/flotilla-2026-11-21T08-00-00.000Z.db"), "{path}");
    assert_eq!(std::fs::metadata(path).unwrap().len(), made["bytes"].as_u64().unwrap());

    let after = asked(&server, "/api/database/backups", &admin).await;
    assert_eq!(after["items"], json!([made]));
    assert_eq!(after["last"]["error"], Value::Null);
    server.clock.advance(90);
    let metrics = server.get("/metrics").bearer_auth(&admin).send().await.unwrap().text().await.unwrap();
    for line in [
        "flotilla_database_backup_age_seconds 90",
        "flotilla_database_trouble 0",
        "flotilla_store_queue 0",
        "flotilla_store_commit_failures_total 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_copy_that_fails_is_told_to_who_asked_and_to_every_administrator() {
    let server = TestServer::start().await;
    let (admin, root) = (server.admin().await, server.user("ada", Role::Admin).await);
    let dir = server.state.database.dir();
    // A file lies where the folder belongs.
    std::fs::write(&dir, "").unwrap();
    let refused = server.ask(Method::POST, "/api/database/backups").bearer_auth(&admin).send().await.unwrap();
    let problem = problem(refused, 500).await;
    assert!(problem["detail"].as_str().unwrap().contains(dir.to_str().unwrap()), "{problem}");
    let session = server.session(&root).await;
    for path in ["/", "/settings"] {
        let page = server.get(path).header("cookie", &session.cookie).send().await.unwrap();
        let html = page.text().await.unwrap();
        assert!(html.contains("database failed"), "{path}: {html}");
    }
    let viewer = server.user("otto", Role::Viewer).await;
    let session = server.session(&viewer).await;
    let html = server.get("/").header("cookie", &session.cookie).send().await.unwrap().text().await.unwrap();
    assert!(!html.contains("database failed"), "only who can help is told");
    let metrics = server.get("/metrics").bearer_auth(&admin).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("flotilla_database_trouble 1\n"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn a_log_that_was_removed_says_so_wherever_it_is_read() {
    let server = TestServer::start().await;
    let (admin, root) = (server.admin().await, server.user("ada", Role::Admin).await);
    let job = server.running_job().await;
    job.lines(1, 300, 20).await;
    job.finish().await;
    let no = job.no;
    while server.state.store.write(move |tx| retention::remove_step(tx, no)).await.unwrap() {}

    let path = format!("/api/jobs/{}", job.id);
    let shown = asked(&server, &path, &admin).await;
    assert_eq!((&shown["log_lines"], &shown["log_removed_at"]), (&json!(300), &json!("2026-11-21T08:00:00.000Z")));
    let log = asked(&server, &format!("{path}/log"), &admin).await;
    assert_eq!(log, json!({"lines": [], "next": null, "removed_at": "2026-11-21T08:00:00.000Z"}));
    let text = server.get(&format!("{path}/log.txt")).bearer_auth(&admin).send().await.unwrap().text().await.unwrap();
    assert!(text.contains("removed on 2026-11-21") && text.contains("300 lines"), "{text}");
    let session = server.session(&root).await;
    let page = server.get(&format!("/jobs/{}", job.id)).header("cookie", &session.cookie).send().await.unwrap();
    let html = page.text().await.unwrap();
    assert!(html.contains("by the retention of logs") && html.contains("300 lines"), "{html}");
    server.stop().await;
}
