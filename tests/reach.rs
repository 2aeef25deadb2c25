//! Hosts without an agent, on real parts: a server, Debian's sshd, an HTTP service. Made, tested, trusted, changed, declared; and no secret ever comes out again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "reach/declared.rs"]
mod declared;
#[path = "support/house.rs"]
mod house;
#[path = "reach/pages.rs"]
mod pages;
#[path = "../agent/tests/support/sshd.rs"]
#[expect(dead_code, reason = "the agent's tests use more of it")]
mod sshd;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use house::{House, api::id};
use sshd::{Sshd, fingerprint, free_port, keygen};

fn user() -> String {
    String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned()
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// How `sshd` is reached with its key as a text.
fn ssh(sshd: &Sshd) -> Value {
    json!({"host": "127.0.0.1", "port": sshd.port, "user": user(), "private_key": text_of(&sshd.path("client"))})
}

async fn add(house: &House, input: Value) -> String {
    id(&house.api.post("/api/hosts", input).await.must(201))
}

async fn test(house: &House, host: &str) -> Value {
    house.api.post(&format!("/api/hosts/{host}/test"), json!({})).await.must(200)
}

async fn trust(house: &House, host: &str, key: &str) -> Value {
    house.api.post(&format!("/api/hosts/{host}/ssh/trust"), json!({"host_key": key})).await.must(200)
}

async fn patch(house: &House, host: &str, change: Value) -> house::api::Answered {
    house.api.ask(Method::PATCH, &format!("/api/hosts/{host}"), Some(change)).await
}

fn state(tested: &Value, facet: &str) -> String {
    tested[facet]["state"].as_str().unwrap().to_owned()
}

/// Answers every request with this, until the test ends.
fn service(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = [0; 4096];
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nall well";
const UNAUTHORIZED: &str = "HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_host_is_untrusted_until_its_key_is_confirmed_and_again_when_it_changes() {
    let (house, mut sshd) = (House::start().await, Sshd::start());
    let made = house.api.post("/api/hosts", json!({"name": "web", "tags": ["eu"], "ssh": ssh(&sshd)})).await.must(201);
    let host = id(&made);
    assert_eq!((made["status"].as_str(), made["slug"].as_str()), (Some("never"), Some("web")));
    assert_eq!(made["reach"]["ssh"]["state"], "untrusted");
    assert_eq!(made["reach"]["agent"]["state"], "none");
    let first = test(&house, &host).await;
    let shown = fingerprint(&sshd.path("host_ed25519.pub"));
    assert_eq!((state(&first, "ssh").as_str(), first["ssh"]["host_key"].as_str().unwrap()), ("untrusted", &*shown));
    assert_eq!((state(&first, "api"), state(&first, "health")), ("none".into(), "none".into()));
    assert!(!sshd.log().contains("Accepted publickey"), "nobody logs in before the key is confirmed");
    let trusted = trust(&house, &host, &shown).await;
    assert_eq!(
        (&trusted["ssh"]["host_key"], trusted["ssh"]["host_key_algorithm"].as_str()),
        (&json!(shown), Some("ssh-ed25519"))
    );
    assert_eq!(trusted["reach"]["ssh"]["state"], "trusted");
    let second = test(&house, &host).await;
    assert_eq!(state(&second, "ssh"), "ok", "{second}");
    fs::remove_file(sshd.path("host_ed25519")).unwrap();
    keygen(&sshd.path("host_ed25519"), &["-t", "ed25519", "-N", ""]);
    sshd.restart();
    let changed = test(&house, &host).await;
    let other = fingerprint(&sshd.path("host_ed25519.pub"));
    assert_eq!(
        (state(&changed, "ssh").as_str(), changed["ssh"]["host_key"].as_str().unwrap()),
        ("host_key_changed", &*other)
    );
    trust(&house, &host, &other).await;
    assert_eq!(state(&test(&house, &host).await, "ssh"), "ok");
}

#[tokio::test]
async fn a_fingerprint_given_at_creation_needs_no_second_look() {
    let (house, sshd) = (House::start().await, Sshd::with(&["ed25519", "ecdsa"], ""));
    let mut ssh = ssh(&sshd);
    ssh["host_key"] = json!(fingerprint(&sshd.path("host_ecdsa.pub")));
    let host = add(&house, json!({"name": "web", "ssh": ssh})).await;
    let tested = test(&house, &host).await;
    assert_eq!(state(&tested, "ssh"), "ok", "{tested}");
}

#[tokio::test]
async fn what_keeps_a_host_from_being_reached_has_a_word_of_its_own() {
    let (house, sshd) = (House::start().await, Sshd::start());
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    keygen(&sshd.path("stranger"), &["-t", "ed25519", "-N", ""]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = service(FINE);
    let http: u16 = http.rsplit(':').next().unwrap().parse().unwrap();
    let with = |change: Value| {
        let mut ssh = ssh(&sshd);
        ssh["host_key"] = json!(pin);
        for (key, value) in change.as_object().unwrap() {
            ssh[key] = value.clone();
        }
        ssh
    };
    let no_key = json!({"private_key": null, "key_path": "/nowhere/key"});
    for (ssh, word) in [
        (with(json!({})), "ok"),
        (with(json!({"port": free_port()})), "refused"),
        (with(json!({"port": silent.local_addr().unwrap().port()})), "timed_out"),
        (with(json!({"port": http})), "not_ssh"),
        (with(json!({"private_key": text_of(&sshd.path("stranger"))})), "authentication"),
        (with(json!({"user": "nobody-here"})), "authentication"),
        (with(no_key), "key"),
        (with(json!({"host": "no-such-host.invalid"})), "not_resolved"),
    ] {
        let host = add(&house, json!({"name": "web", "ssh": ssh})).await;
        let began = Instant::now();
        let tested = test(&house, &host).await;
        assert_eq!(state(&tested, "ssh"), word, "{tested}");
        assert!(tested["ssh"]["detail"].as_str().unwrap().len() > 20, "{tested}");
        assert!(began.elapsed() < Duration::from_secs(25), "{word}");
    }
}

#[tokio::test]
async fn management_interface_and_health_are_asked_once() {
    let house = House::start().await;
    let refused = format!("http://127.0.0.1:{}", free_port());
    for (url, api, health) in [
        (service(FINE), "ok", "healthy"),
        (service(UNAUTHORIZED), "unauthorized", "unhealthy"),
        (service(BROKEN), "failing", "unhealthy"),
        (refused, "refused", "unhealthy"),
    ] {
        let input = json!({
            "name": "web", "api": {"base_url": url, "public_key": "pk", "secret_key": "sk", "tls_insecure": false},
            "health": {"url": url, "mode": "status", "interval_s": 60, "timeout_s": 5},
        });
        let tested = test(&house, &add(&house, input).await).await;
        assert_eq!((state(&tested, "api").as_str(), state(&tested, "health").as_str()), (api, health), "{tested}");
        assert_eq!(state(&tested, "ssh"), "none");
    }
    let any =
        json!({"name": "any", "health": {"url": service(BROKEN), "mode": "any", "interval_s": 60, "timeout_s": 5}});
    assert_eq!(state(&test(&house, &add(&house, any).await).await, "health"), "healthy");
    let body =
        |pattern: &str| json!({"name": "body", "health": {"url": service(FINE), "mode": "body", "pattern": pattern}});
    assert_eq!(state(&test(&house, &add(&house, body("all w.ll")).await).await, "health"), "healthy");
    assert_eq!(state(&test(&house, &add(&house, body("all ill")).await).await, "health"), "unhealthy");
}

#[tokio::test]
async fn what_could_be_more_than_a_word_is_refused_by_its_field() {
    let (house, sshd) = (House::start().await, Sshd::start());
    keygen(&sshd.path("locked"), &["-t", "ed25519", "-N", "secret words"]);
    let with = |field: &str, value: Value| {
        let mut ssh = ssh(&sshd);
        ssh[field] = value;
        json!({"name": "web", "ssh": ssh})
    };
    for (input, field, words) in [
        (with("host", json!("host; rm")), "ssh.host", "letters, digits"),
        (with("host", json!("-oProxyCommand=x")), "ssh.host", "dash"),
        (with("user", json!("root -v")), "ssh.user", "letters, digits"),
        (with("port", json!(0)), "ssh.port", "1 to 65535"),
        (with("port", json!(70000)), "ssh.port", "u16"),
        (with("host_key", json!("MD5:aa")), "ssh.host_key", "SHA256"),
        (with("container_cli", json!("sh -c id")), "ssh.container_cli", "docker, podman"),
        (with("private_key", json!(text_of(&sshd.path("locked")))), "ssh.private_key", "passphrase"),
        (with("private_key", json!(text_of(&sshd.path("client.pub")))), "ssh.private_key", "public half"),
        (with("private_key", json!("hello")), "ssh.private_key", "not a private key"),
        (with("private_key", Value::Null), "ssh.private_key", "is missing"),
        (with("password", json!("x")), "ssh.password", "unknown field"),
        (json!({"name": "w", "ssh": {"host": "h", "key_path": "id"}}), "ssh.key_path", "absolute"),
        (json!({"name": "w", "api": {"base_url": "ftp://h"}}), "api.base_url", "https://"),
        (json!({"name": "w", "health": {"url": "h"}}), "health.url", "https://"),
        (json!({"name": "w", "restart": {"command": "a\u{0}b"}}), "restart.command", "control"),
        (json!({"name": "w", "restart": {"command": "a", "timeout_s": 3601}}), "restart.timeout_s", "3600"),
        (json!({"name": "w", "container": {"name": "a b"}}), "container.name", "letters, digits"),
        (json!({"name": "w", "sssh": {}}), "sssh", "unknown field"),
        (json!({"name": ""}), "name", "empty"),
    ] {
        let answer = house.api.post("/api/hosts", input.clone()).await.must(422);
        let errors = answer["errors"].as_array().unwrap();
        let found = errors.iter().find(|error| error["field"] == field);
        let found = found.unwrap_or_else(|| panic!("{field}: {input}: {answer}"));
        assert!(found["message"].as_str().unwrap().contains(words), "{field}: {answer}");
        assert!(!answer.to_string().contains("BEGIN OPENSSH"), "{answer}");
    }
    assert_eq!(house.api.get("/api/hosts").await["items"], json!([]));
}

#[tokio::test]
async fn a_change_replaces_what_is_given_and_keeps_secrets_and_a_pin_only_for_the_same_door() {
    let (mut house, sshd) = (House::start().await, Sshd::start());
    let url = service(FINE);
    let host = add(
        &house,
        json!({
            "name": "web", "ssh": ssh(&sshd), "api": {"base_url": url, "public_key": "pk", "secret_key": "sk"},
            "health": {"url": url, "mode": "any", "interval_s": 60, "timeout_s": 5},
            "restart": {"command": "systemctl restart web"}, "container": {"name": "app"},
        }),
    )
    .await;
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    trust(&house, &host, &pin).await;
    let renamed = patch(&house, &host, json!({"name": "web 2", "opened": true})).await.must(200);
    assert_eq!((&renamed["ssh"]["host_key"], &renamed["opened"]), (&json!(pin), &json!(true)));
    assert_eq!(renamed["restart"], json!({"command": "systemctl restart web", "timeout_s": 30, "path": null}));
    assert_eq!(renamed["container"], json!({"cli": "docker", "name": "app", "user": null}));
    // The same door with another program for containers: key and pin stay.
    let again = json!({"host": "127.0.0.1", "port": sshd.port, "user": user(), "container_cli": "podman"});
    let kept = patch(&house, &host, json!({"ssh": again, "restart": null})).await.must(200);
    assert_eq!((&kept["ssh"]["host_key"], &kept["ssh"]["private_key"]["set"]), (&json!(pin), &json!(true)));
    assert_eq!(kept["restart"], Value::Null);
    house.kill_and_restart().await;
    let tested = test(&house, &host).await;
    assert_eq!(
        (state(&tested, "ssh"), state(&tested, "api"), state(&tested, "health")),
        ("ok".into(), "ok".into(), "healthy".into()),
        "{tested}"
    );
    // Another door proves nothing of this one.
    let moved = json!({"host": "127.0.0.1", "port": free_port(), "user": user()});
    let moved = patch(&house, &host, json!({"ssh": moved})).await.must(200);
    assert_eq!((&moved["ssh"]["host_key"], &moved["reach"]["ssh"]["state"]), (&Value::Null, &json!("untrusted")));
    let bare = patch(&house, &host, json!({"ssh": null, "api": null, "health": null})).await.must(200);
    assert_eq!((&bare["ssh"], &bare["api"], &bare["health"]), (&Value::Null, &Value::Null, &Value::Null));
    let back = patch(&house, &host, json!({"ssh": {"host": "127.0.0.1", "port": 1}})).await.must(422);
    assert_eq!(back["errors"][0]["field"], "ssh.private_key", "the key went with the access: {back}");
}

#[tokio::test]
async fn an_operator_names_and_tags_hosts_and_an_administrator_opens_them() {
    let (house, sshd) = (House::start().await, Sshd::start());
    let host = add(&house, json!({"name": "web", "ssh": ssh(&sshd)})).await;
    let mut make = house::program::command(house::program::FLOTILLA);
    make.args(["user", "add", "olga", "--role", "operator", "--password-stdin", "--data-dir"]).arg(house.data_dir());
    house::program::run(&mut make, house::ADMIN_PASSWORD).must();
    let house = house.with_token("olga");
    assert_eq!(patch(&house, &host, json!({"tags": ["eu"]})).await.must(200)["tags"], json!(["eu"]));
    for change in [
        json!({"opened": true}),
        json!({"ssh": null}),
        json!({"restart": {"command": "id"}}),
        json!({"container": null}),
        json!({"api": null}),
    ] {
        patch(&house, &host, change).await.must(403);
    }
    house.api.post("/api/hosts", json!({"name": "x", "ssh": ssh(&sshd)})).await.must(403);
    house.api.post("/api/hosts", json!({"name": "x", "health": {"url": "https://x/"}})).await.must(201);
    let key = json!({"host_key": fingerprint(&sshd.path("host_ed25519.pub"))});
    house.api.post(&format!("/api/hosts/{host}/ssh/trust"), key).await.must(403);
    assert_eq!(state(&test(&house, &host).await, "ssh"), "untrusted");
}

#[tokio::test]
async fn secrets_come_out_nowhere_and_are_gone_with_their_host() {
    let (mut house, sshd) = (House::start().await, Sshd::start());
    let key = text_of(&sshd.path("client"));
    let line = key.lines().nth(2).unwrap().to_owned();
    let input = json!({
        "name": "web", "ssh": ssh(&sshd),
        "api": {"base_url": service(FINE), "public_key": "pk", "secret_key": "planted-api-secret"},
    });
    let made = house.api.post("/api/hosts", input).await.must(201);
    let host = id(&made);
    let secrets = [line.as_str(), "planted-api-secret"];
    let mut said = vec![made.to_string(), test(&house, &host).await.to_string()];
    assert_eq!(
        (&made["ssh"]["private_key"], &made["api"]["secret_key"]),
        (&json!({"set": true}), &json!({"set": true}))
    );
    for path in ["/api/hosts".to_owned(), format!("/api/hosts/{host}"), format!("/hosts/{host}?tab=settings")] {
        said.push(house.api.client(Method::GET, &path).send().await.unwrap().text().await.unwrap());
    }
    said.push(house.server_log());
    patch(&house, &host, json!({"ssh": ssh(&sshd), "opened": true})).await.must(200);
    trust(&house, &host, &fingerprint(&sshd.path("host_ed25519.pub"))).await;
    house.api.ask(Method::DELETE, &format!("/api/hosts/{host}"), None).await.must(204);
    house.kill();
    for file in fs::read_dir(house.data_dir()).unwrap().filter_map(Result::ok).filter(|file| file.path().is_file()) {
        said.push(String::from_utf8_lossy(&fs::read(file.path()).unwrap()).into_owned());
    }
    for secret in secrets {
        assert!(said.iter().all(|text| !text.contains(secret)), "{secret} came out");
    }
    let db = rusqlite::Connection::open(house.data_dir().join("flotilla.db")).unwrap();
    let kept: i64 = db
        .query_row("SELECT count(*) FROM facets WHERE ssh_key IS NOT NULL OR api_key IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 0);
    let mut audit = db.prepare("SELECT action, detail FROM audit WHERE object = ?1 ORDER BY rowid").unwrap();
    let rows = audit.query_map([&host], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let deeds: Vec<(String, String)> = rows.map(Result::unwrap).collect();
    let actions: Vec<&str> = deeds.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["host.create", "host.update", "host.trust", "host.remove"]);
    assert_eq!((deeds[0].1.as_str(), deeds[1].1.as_str()), ("web: ssh, api", "web: ssh, opened"));
}
