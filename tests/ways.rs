//! Orders by every way, on real parts: hosts that have no agent are reached over SSH (Debian's own sshd, each on a port of its own) by the control plane's own agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;
#[expect(dead_code, reason = "the agent's own tests use all of it")]
#[path = "../agent/tests/support/sshd.rs"]
mod sshd;

#[path = "ways/answers.rs"]
mod answers;
#[path = "ways/ends.rs"]
mod ends;
#[path = "ways/orders.rs"]
mod orders;

use std::fs;

use serde_json::{Value, json};

use house::{House, wait::until};
use sshd::{Sshd, fingerprint};

/// A house whose own agent is there.
async fn house() -> House {
    let house = House::start().await;
    own_agent(&house).await;
    house
}

/// The control plane's own host, once it is connected.
async fn own_agent(house: &House) -> String {
    let own = until("the own agent connects", async || {
        let list = house.api.get("/api/hosts?own=true").await;
        list["items"].as_array()?.iter().find(|host| host["status"] == "online").cloned()
    });
    own.await["id"].as_str().unwrap().to_owned()
}

/// How a host is reached by SSH, its key sealed on the control plane and its host key confirmed.
fn reached(sshd: &Sshd) -> Value {
    json!({
        "host": "127.0.0.1", "port": sshd.port, "user": sshd.target().user,
        "private_key": fs::read_to_string(sshd.path("client")).unwrap(),
        "host_key": fingerprint(&sshd.path("host_ed25519.pub")),
    })
}

/// Makes a host of these facets and gives its id.
async fn host(house: &House, name: &str, mut facets: Value) -> String {
    facets["name"] = json!(name);
    house::api::id(&house.api.post("/api/hosts", facets).await.must(201))
}

/// A host that is reached by SSH and by nothing else.
async fn ssh_host(house: &House, name: &str, sshd: &Sshd) -> String {
    host(house, name, json!({"ssh": reached(sshd)})).await
}

/// Puts a file into the operator's folder of runbooks.
fn drop_in(house: &House, name: &str, text: &str) {
    let folder = house.data_dir().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{name}.toml")), text).unwrap();
}

/// A runbook of one command on the host, over SSH.
fn book(name: &str, cmd: &str) -> String {
    format!(
        "name = \"{name}\"\ntitle = \"{name}\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"Do\"\ntimeout = 120\ncmd = '''\n{cmd}\n'''\n"
    )
}

/// The end of a job that was ordered.
async fn run(house: &House, host: &str, order: Value) -> Value {
    let job = house.api.order(host, order).await;
    house.api.end_of(&job).await
}

/// The fields that an order is refused for, each with its words.
async fn refused(house: &House, host: &str, order: Value) -> Vec<String> {
    words(&house.api.post(&format!("/api/hosts/{host}/jobs"), order).await.must(422))
}

fn words(answer: &Value) -> Vec<String> {
    let errors = answer["errors"].as_array().unwrap().iter();
    errors
        .map(|error| format!("{}: {}", error["field"].as_str().unwrap(), error["message"].as_str().unwrap()))
        .collect()
}

/// Waits until a job has printed this.
async fn prints(house: &House, job: &str, words: &str) {
    until(&format!("job {job} prints {words}"), async || house.api.log_text(job).await.contains(words).then_some(()))
        .await;
}
