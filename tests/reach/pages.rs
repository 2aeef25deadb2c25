//! The same by the pages: a form, a test, a key that is compared, and one that has changed.

use std::fs;

use reqwest::{Method, Response};
use serde_json::json;

use crate::{
    add,
    house::House,
    ssh,
    sshd::{Sshd, fingerprint, keygen},
    text_of, trust, user,
};

async fn post(house: &House, path: &str, fields: &[(&str, &str)]) -> Response {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = house.api.client(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
    request.header("accept", "text/html").body(body).send().await.unwrap()
}

async fn page(house: &House, path: &str) -> String {
    let response = house.api.client(Method::GET, path).header("accept", "text/html").send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.unwrap()
}

#[tokio::test]
async fn a_form_makes_a_host_whose_page_tests_it_and_shows_the_key_to_compare() {
    let (house, sshd) = (House::start().await, Sshd::start());
    let (port, user, key) = (sshd.port.to_string(), user(), text_of(&sshd.path("client")));
    let form = |host: &'static str| {
        [
            ("name", "web"),
            ("tags", "eu"),
            ("ssh.host", host),
            ("ssh.port", &port),
            ("ssh.user", &user),
            ("ssh.private_key", &key),
        ]
        .map(|(name, value)| (name, value.to_owned()))
    };
    let send = async |host: &'static str| {
        let fields = form(host);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        post(&house, "/hosts/new/direct", &fields).await
    };
    let refused = send("host; rm").await;
    assert_eq!(refused.status(), 422);
    let text = refused.text().await.unwrap();
    assert!(text.contains("host; rm") && text.contains("letters, digits"), "what was typed stays");
    assert!(!text.contains("BEGIN OPENSSH"), "a key is never sent back");
    let made = send("127.0.0.1").await;
    assert_eq!(made.status(), 303);
    let at = made.headers()["location"].to_str().unwrap().to_owned();
    let shown = page(&house, &at).await;
    assert!(
        shown.contains("Test connection") && shown.contains("SSH: key not confirmed") && shown.contains("No agent")
    );
    assert!(!shown.contains("never here") && !shown.contains("Make a plan"), "a missing agent is no fault of it");
    let tested = post(&house, &format!("{at}/test"), &[]).await.text().await.unwrap();
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    assert!(tested.contains(&pin) && tested.contains("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"), "{tested}");
    assert_eq!(post(&house, &format!("{at}/ssh/trust"), &[("host_key", &pin)]).await.status(), 303);
    let tested = post(&house, &format!("{at}/test"), &[]).await.text().await.unwrap();
    assert!(
        tested.contains("it logs in") || tested.contains("It logs in") || tested.contains("files go over"),
        "{tested}"
    );
    let list = page(&house, "/hosts").await;
    assert!(list.contains("No backups") && !list.contains("Never seen"));
    assert!(page(&house, "/").await.contains("none has an agent"));
}

#[tokio::test]
async fn another_key_than_the_confirmed_one_needs_the_hosts_name() {
    let (house, mut sshd) = (House::start().await, Sshd::start());
    let host = add(&house, json!({"name": "web", "ssh": ssh(&sshd)})).await;
    trust(&house, &host, &fingerprint(&sshd.path("host_ed25519.pub"))).await;
    fs::remove_file(sshd.path("host_ed25519")).unwrap();
    keygen(&sshd.path("host_ed25519"), &["-t", "ed25519", "-N", ""]);
    sshd.restart();
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    let tested = post(&house, &format!("/hosts/{host}/test"), &[]).await.text().await.unwrap();
    assert!(tested.contains("The host key has changed") && tested.contains("Trust the new key"), "{tested}");
    let path = format!("/hosts/{host}/ssh/trust");
    assert_eq!(post(&house, &path, &[("host_key", &pin)]).await.status(), 422);
    assert_eq!(post(&house, &path, &[("host_key", &pin), ("confirm", "web")]).await.status(), 303);
}

#[tokio::test]
async fn settings_keep_what_is_not_typed_anew_and_take_away_what_is_emptied() {
    let (house, sshd) = (House::start().await, Sshd::start());
    let host = add(&house, json!({"name": "web", "ssh": ssh(&sshd), "restart": {"command": "true"}})).await;
    let settings = page(&house, &format!("/hosts/{host}?tab=settings")).await;
    assert!(settings.contains("value=\"127.0.0.1\"") && settings.contains("One is kept."));
    let port = sshd.port.to_string();
    let fields = [("ssh.host", "127.0.0.1"), ("ssh.port", &*port), ("ssh.user", "other"), ("opened", "true")];
    assert_eq!(post(&house, &format!("/hosts/{host}/reach"), &fields).await.status(), 303);
    let now = house.api.get(&format!("/api/hosts/{host}")).await;
    assert_eq!((now["ssh"]["user"].as_str(), now["ssh"]["private_key"]["set"].as_bool()), (Some("other"), Some(true)));
    assert_eq!((now["restart"].is_null(), now["opened"].as_bool()), (true, Some(true)));
}
