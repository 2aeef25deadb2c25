//! Hosts that the configuration declares: made by the start of the server, kept by the next, changed there only.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    house::{
        House,
        program::{FLOTILLA, command, run},
    },
    patch,
    sshd::{Sshd, fingerprint},
    state, test, trust, user,
};

fn file(folder: &Path, text: &str) -> String {
    let path = folder.join("flotilla.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn declaration(sshd: &Sshd, more: &str) -> String {
    format!(
        "[[hosts]]\nname = \"web\"\ntags = [\"eu\"]\n[hosts.ssh]\nhost = \"127.0.0.1\"\nport = {}\nuser = {:?}\nkey_path = {:?}\n{more}\n",
        sshd.port,
        user(),
        sshd.path("client")
    )
}

async fn only_host(house: &House) -> Value {
    let list = house.api.get("/api/hosts").await;
    let [host] = list["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    host.clone()
}

#[tokio::test]
async fn a_host_of_the_file_is_made_kept_and_let_go_by_the_starts_of_the_server() {
    let (folder, sshd) = (tempfile::tempdir().unwrap(), Sshd::start());
    let path = file(folder.path(), &declaration(&sshd, ""));
    let mut house = House::start_with(&["--config", &path]).await;
    let made = only_host(&house).await;
    let host = made["id"].as_str().unwrap().to_owned();
    assert_eq!((made["name"].as_str(), made["declared"].as_str()), (Some("web"), Some("file:web")));
    for change in [json!({"name": "other"}), json!({"opened": true}), json!({"ssh": null})] {
        let refused = patch(&house, &host, change).await.must(409);
        assert!(refused["detail"].as_str().unwrap().contains("[[hosts]] with name = \"web\""), "{refused}");
    }
    house.api.ask(reqwest::Method::DELETE, &format!("/api/hosts/{host}"), None).await.must(409);
    // Whether its key is the right one only a person can say.
    trust(&house, &host, &fingerprint(&sshd.path("host_ed25519.pub"))).await;
    file(folder.path(), &declaration(&sshd, "[hosts.restart]\ncommand = \"systemctl restart web\""));
    house.kill_and_restart().await;
    let kept = only_host(&house).await;
    assert_eq!((kept["id"].as_str(), kept["restart"]["timeout_s"].as_u64()), (Some(host.as_str()), Some(30)));
    assert_eq!(state(&test(&house, &host).await, "ssh"), "ok");
    file(folder.path(), "");
    house.kill_and_restart().await;
    let left = only_host(&house).await;
    assert_eq!((left["id"].as_str(), &left["declared"]), (Some(host.as_str()), &Value::Null));
    patch(&house, &host, json!({"tags": []})).await.must(200);
    // Declared anew it is the same host, not a second one.
    file(folder.path(), &declaration(&sshd, ""));
    house.kill_and_restart().await;
    assert_eq!(only_host(&house).await["id"].as_str(), Some(host.as_str()));
}

#[tokio::test]
async fn a_declared_host_key_is_changed_where_it_is_declared() {
    let (folder, sshd) = (tempfile::tempdir().unwrap(), Sshd::start());
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    let path = file(folder.path(), &declaration(&sshd, &format!("host_key = {pin:?}")));
    let house = House::start_with(&["--config", &path]).await;
    let host = only_host(&house).await["id"].as_str().unwrap().to_owned();
    assert_eq!(state(&test(&house, &host).await, "ssh"), "ok");
    let other = json!({"host_key": "SHA256:uNiVztksCsDhcc0u9e8BrqunCUgo2rFTvqXE3kUFBjo"});
    house.api.post(&format!("/api/hosts/{host}/ssh/trust"), other).await.must(409);
}

#[tokio::test]
async fn variables_declare_two_services_of_one_machine_as_two_hosts() {
    let sshd = Sshd::start();
    let key = sshd.path("client").to_str().unwrap().to_owned();
    let port = sshd.port.to_string();
    let name = user();
    let pin = fingerprint(&sshd.path("host_ed25519.pub"));
    let env = [
        ("PORACLE_SERVER_1_HOST", "127.0.0.1"),
        ("PORACLE_SERVER_1_API", "http://127.0.0.1:9"),
        ("FLOTILLA_SERVER_2_HOST", "127.0.0.1"),
        ("FLOTILLA_SERVER_2_NAME", "Alerts"),
        ("FLOTILLA_SERVER_2_SSH_PORT", &port),
        ("FLOTILLA_SERVER_2_SSH_USER", &name),
        ("FLOTILLA_SERVER_2_SSH_KEY_PATH", &key),
        ("FLOTILLA_SERVER_2_HOST_KEY", &pin),
        ("PORACLE_SSH_KEY_PATH", "/keys/poracle"),
    ];
    let house = House::start_in(&env, &[]).await;
    let list = house.api.get("/api/hosts").await;
    let [alerts, main] = list["items"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!((main["name"].as_str(), main["declared"].as_str()), (Some("Main"), Some("env:1")));
    assert_eq!(main["ssh"]["key_path"], "/keys/poracle");
    assert_eq!(main["restart"]["command"], "pm2 restart all");
    assert_eq!(main["health"]["probe"]["url"], "http://127.0.0.1:9/api/config/poracleWeb");
    assert_eq!(main["health"]["probe"]["mode"], "any");
    assert_eq!((alerts["name"].as_str(), &alerts["restart"]), (Some("Alerts"), &Value::Null));
    let host = alerts["id"].as_str().unwrap();
    assert_eq!(state(&test(&house, host).await, "ssh"), "ok");
    let refused = patch(&house, host, json!({"name": "x"})).await.must(409);
    assert!(refused["detail"].as_str().unwrap().contains("FLOTILLA_SERVER_2_"), "{refused}");
}

#[test]
fn a_value_that_does_not_do_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |env: &[(&str, &str)], args: &[&str]| {
        let mut serve: Command = command(FLOTILLA);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data")).args(args);
        run(serve.envs(env.iter().copied()), "")
    };
    let said = serve(&[("FLOTILLA_SERVER_1_HOST", "host; rm"), ("FLOTILLA_SSH_KEY_PATH", "/k")], &[]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("`FLOTILLA_SERVER_1_HOST` is not valid"), "{said:?}");
    let path = file(folder.path(), "[[hosts]]\nname = \"w\"\n[hosts.ssh]\nhost = \"h\"\nkey_path = \"k\"");
    let said = serve(&[], &["--config", &path]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.stderr.contains("`hosts[0].ssh.key_path` is not valid"), "{said:?}");
}
