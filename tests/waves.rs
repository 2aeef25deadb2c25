//! One runbook over several hosts with real agents: who goes first, what stops a wave, what is left of it, and that each host gets one job whatever happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{fs, net::TcpListener, path::PathBuf};

use serde_json::{Value, json};

use house::{Agent, House, wait::until};

/// A house with hosts that may run anything, and a folder by which each run is held, let go, or made to fail.
struct Fleet {
    house: House,
    agents: Vec<Agent>,
    desk: PathBuf,
}

impl Fleet {
    async fn of(names: &[&str]) -> Self {
        let house = House::start().await;
        let mut agents = Vec::new();
        for name in names {
            let agent = house.agent(name).await;
            fs::write(agent.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
            agents.push(agent);
        }
        let desk = house.folder("desk");
        let fleet = Self { house, agents, desk };
        let folder = fleet.house.data_dir().join("runbooks");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("roll.toml"), fleet.book("roll", "")).unwrap();
        fs::write(folder.join("wipe.toml"), fleet.book("wipe", "destructive = true")).unwrap();
        fleet
    }

    fn book(&self, name: &str, more: &str) -> String {
        let desk = self.desk.display();
        format!(
            r#"
name = "{name}"
title = "Roll out"
{more}

[[inputs]]
name = "what"
type = "string"
default = "1"

[[steps]]
type = "ssh"
label = "Roll out"
cmd = '''
echo {{{{ host.slug }}}} >> {desk}/begun
until [ -e {desk}/go ] || [ -e {desk}/go-{{{{ host.slug }}}} ]; do sleep 0.05; done
if [ -e {desk}/fail-{{{{ host.slug }}}} ]; then echo "it does not start" >&2; exit 3; fi
echo version {{{{ what }}}}
'''

[[results]]
name = "version"
regex = '^version (?P<version>.+)$'
"#
        )
    }

    /// Lets something happen: `go`, `go-HOST`, `fail-HOST`.
    fn say(&self, word: &str) {
        fs::write(self.desk.join(word), "").unwrap();
    }

    fn unsay(&self, word: &str) {
        fs::remove_file(self.desk.join(word)).unwrap();
    }

    /// The hosts whose runs have begun, in that order.
    fn begun(&self) -> Vec<String> {
        let text = fs::read_to_string(self.desk.join("begun")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn has_begun(&self, count: usize) {
        until(&format!("{count} runs begin"), async || (self.begun().len() == count).then_some(())).await;
    }

    fn hosts(&self) -> Vec<&str> {
        self.agents.iter().map(|agent| agent.host_id.as_str()).collect()
    }

    /// Orders a wave over all hosts in order.
    async fn wave(&self, more: Value) -> String {
        let mut request = json!({"kind": "roll", "hosts": self.hosts()});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.house.api.post("/api/waves", request).await.must(202);
        made["wave_id"].as_str().unwrap().to_owned()
    }

    async fn look(&self, wave: &str) -> Value {
        self.house.api.get(&format!("/api/waves/{wave}")).await
    }

    async fn end_of(&self, wave: &str) -> Value {
        let over = async || Some(self.look(wave).await).filter(|wave| wave["status"] != "running");
        until(&format!("wave {wave} ends"), over).await
    }

    async fn jobs(&self) -> Vec<Value> {
        self.house.api.get("/api/jobs?kind=roll").await["items"].as_array().unwrap().clone()
    }

    /// The fields that a request is refused for.
    async fn refused(&self, request: Value) -> Vec<String> {
        let answer = self.house.api.post("/api/waves", request).await.must(422);
        let said =
            |error: &Value| format!("{}: {}", error["field"].as_str().unwrap(), error["message"].as_str().unwrap());
        answer["errors"].as_array().unwrap().iter().map(said).collect()
    }
}

/// Host and state of each row of a wave's table.
fn table(wave: &Value) -> Vec<(&str, &str)> {
    let rows = wave["hosts"]["items"].as_array().unwrap().iter();
    rows.map(|row| (row["host_name"].as_str().unwrap(), row["state"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn the_first_host_goes_alone_the_others_together_and_the_table_has_what_came_of_it() {
    let fleet = Fleet::of(&["a", "b", "c"]).await;
    let wave = fleet.wave(json!({"params": {"what": "2.0"}})).await;
    fleet.has_begun(1).await;
    let at_first = fleet.look(&wave).await;
    assert_eq!(table(&at_first), [("a", "running"), ("b", "not_started"), ("c", "not_started")]);
    assert_eq!((&at_first["status"], &at_first["batch"]), (&json!("running"), &json!(10)));
    // What the first one tries is what the last one gets, whatever becomes of the file.
    fs::write(fleet.house.data_dir().join("runbooks/roll.toml"), "broken").unwrap();
    fleet.say("go-a");
    fleet.has_begun(3).await;
    assert_eq!(fleet.begun()[0], "a");
    fleet.say("go");
    let end = fleet.end_of(&wave).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]);
    let row = &end["hosts"]["items"][2];
    assert_eq!((&row["results"], &row["way"]), (&json!({"version": "2.0"}), &json!("agent")));
    let job = fleet.house.api.job(row["job_id"].as_str().unwrap()).await;
    assert_eq!((&job["kind"], &job["actor"]["kind"]), (&json!("roll"), &json!("token")));
    let listed = fleet.house.api.get("/api/waves").await;
    assert_eq!(listed["items"][0]["tally"]["succeeded"], 3, "{listed}");
    let nothing = fleet.house.api.post(&format!("/api/waves/{wave}/rerun"), json!({})).await;
    nothing.must(409);
    fleet.house.api.post(&format!("/api/waves/{wave}/cancel"), json!({})).await.must(409);
}

#[tokio::test]
async fn failures_stop_it_and_what_failed_or_was_not_started_can_be_run_again() {
    let fleet = Fleet::of(&["a", "b", "c", "d"]).await;
    fleet.say("go");
    fleet.say("fail-a");
    let wave = fleet.wave(json!({"stop_at": 100})).await;
    let end = fleet.end_of(&wave).await;
    assert_eq!((&end["status"], &end["stop"]), (&json!("failed"), &json!("canary")), "{end}");
    assert_eq!(table(&end), [("a", "failed"), ("b", "not_started"), ("c", "not_started"), ("d", "not_started")]);
    assert!(end["hosts"]["items"][0]["error"].as_str().is_some_and(|words| !words.is_empty()), "{end}");
    assert_eq!(fleet.begun(), ["a"]);

    fleet.unsay("fail-a");
    fleet.say("fail-b");
    let wave = fleet.wave(json!({"canary": 0, "batch": 1, "stop_at": 50})).await;
    let end = fleet.end_of(&wave).await;
    assert_eq!((&end["status"], &end["stop"]), (&json!("failed"), &json!("failures")), "{end}");
    assert_eq!(end["why"], "1 of 2 begun did not end well, and the wave stops at 50 %");
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "failed"), ("c", "not_started"), ("d", "not_started")]);

    fleet.unsay("fail-b");
    let again = fleet.house.api.post(&format!("/api/waves/{wave}/rerun"), json!({})).await.must(202);
    let again = fleet.end_of(again["wave_id"].as_str().unwrap()).await;
    assert_eq!(table(&again), [("b", "succeeded"), ("c", "succeeded"), ("d", "succeeded")]);
    assert_eq!((&again["rerun_of"], &again["status"]), (&json!(wave), &json!("succeeded")));
    assert_eq!(fleet.look(&wave).await["rerun_as"], again["id"]);

    fleet.say("fail-c");
    let wave = fleet.wave(json!({"stop_at": 50})).await;
    let end = fleet.end_of(&wave).await;
    assert_eq!((&end["status"], &end["tally"]["failed"]), (&json!("warning"), &json!(1)), "fewer than stop it: {end}");
}

#[tokio::test]
async fn cancelling_ends_what_runs_and_leaves_the_rest_not_started() {
    let fleet = Fleet::of(&["a", "b", "c"]).await;
    let wave = fleet.wave(json!({"canary": 0, "batch": 2})).await;
    fleet.has_begun(2).await;
    let api = &fleet.house.api;
    api.post(&format!("/api/waves/{wave}/rerun"), json!({})).await.must(409);
    let answer = api.post(&format!("/api/waves/{wave}/cancel"), json!({})).await.must(202);
    assert_eq!((&answer["stop"], &answer["why"]), (&json!("cancel"), &json!("cancelled by ada")), "{answer}");
    let end = fleet.end_of(&wave).await;
    assert_eq!(end["status"], "cancelled");
    assert_eq!(table(&end), [("a", "failed"), ("b", "failed"), ("c", "not_started")]);
    assert!(end["hosts"]["items"].as_array().unwrap()[..2].iter().all(|row| row["job_status"] == "cancelled"), "{end}");
    assert_eq!(fleet.jobs().await.len(), 2);
}

#[tokio::test]
async fn a_server_that_is_killed_in_the_midst_goes_on_where_it_was_with_one_job_a_host() {
    let mut fleet = Fleet::of(&["a", "b", "c"]).await;
    let wave = fleet.wave(json!({"batch": 1})).await;
    fleet.has_begun(1).await;
    fleet.house.kill_and_restart().await;
    fleet.say("go-a");
    fleet.has_begun(2).await;
    fleet.house.kill_and_restart().await;
    fleet.say("go");
    let end = fleet.end_of(&wave).await;
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")], "{end}");
    assert_eq!(end["status"], "succeeded");
    assert_eq!((fleet.begun(), fleet.jobs().await.len()), (vec!["a".into(), "b".into(), "c".into()], 3));
}

#[tokio::test]
async fn two_waves_share_the_hosts_and_a_host_that_is_removed_meanwhile_counts_as_failed() {
    let fleet = Fleet::of(&["a", "b", "c"]).await;
    let first = fleet.wave(json!({"stop_at": 60})).await;
    let second = fleet.wave(json!({"stop_at": 60, "order": "name", "canary": 0})).await;
    // One runbook a host: the second wave's job on a waits for the first one's.
    fleet.has_begun(3).await;
    let gone = &fleet.agents[2].host_id;
    fleet.house.api.ask(reqwest::Method::DELETE, &format!("/api/hosts/{gone}"), None).await.must(204);
    fleet.say("go");
    let end = fleet.end_of(&first).await;
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "succeeded"), ("c", "failed")], "{end}");
    let row = &end["hosts"]["items"][2];
    assert!(row["error"].as_str().unwrap().contains("removed") && row["job_id"].is_null(), "{row}");
    assert_eq!((&end["status"], &row["removed"]), (&json!("warning"), &json!(true)));
    let end = fleet.end_of(&second).await;
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "succeeded"), ("c", "failed")], "{end}");
    assert_eq!(end["hosts"]["items"][2]["job_status"], "lost", "its agent can report nothing any more");
    fleet.house.api.post(&format!("/api/waves/{first}/rerun"), json!({})).await.must(409);
}

#[tokio::test]
async fn a_wave_that_does_not_do_is_refused_with_all_that_is_wrong() {
    let fleet = Fleet::of(&["a", "b"]).await;
    let (a, b) = (fleet.agents[0].host_id.as_str(), fleet.agents[1].host_id.as_str());
    let api = &fleet.house.api;
    for host in [a, b] {
        api.ask(reqwest::Method::PATCH, &format!("/api/hosts/{host}"), Some(json!({"tags": ["web"]}))).await.must(200);
    }
    for (request, words) in [
        (json!({"kind": "backup", "hosts": [a]}), "kind: backup is restic's"),
        (json!({"kind": "rol", "hosts": [a]}), "kind: "),
        (json!({"kind": "roll"}), "hosts: are missing"),
        (json!({"kind": "roll", "tags": ["db"]}), "tags: are borne by no host: db"),
        (json!({"kind": "roll", "hosts": [a, "01JZZZZZZZZZZZZZZZZZZZZZZZ"]}), "hosts[1]: names no host"),
        (json!({"kind": "roll", "hosts": [a], "params": {"what": "a\nb"}}), "params.what: it must be one line"),
        (json!({"kind": "roll", "hosts": [a], "params": {"whom": "x"}}), "params.whom: the runbook does not ask"),
        (json!({"kind": "roll", "hosts": [a], "batch": 0, "stop_at": 101}), "batch: must be 1 to 200"),
        (json!({"kind": "roll", "hosts": [a], "expires_in_s": 1}), "expires_in_s: must be 60"),
        (json!({"kind": "wipe", "tags": ["web"]}), "confirm: must be the number of hosts, 2 hosts"),
        (
            json!({"kind": "wipe", "hosts": [a, a], "confirm": "2 hosts"}),
            "confirm: must be the number of hosts, 1 host",
        ),
    ] {
        let said = fleet.refused(request.clone()).await;
        assert!(said.iter().any(|line| line.starts_with(words)), "{request}: {said:?}");
    }
    api.post(&format!("/api/hosts/{b}/revoke"), json!({})).await.must(200);
    let said = fleet.refused(json!({"kind": "roll", "hosts": [a, b]})).await;
    assert!(said[0].starts_with("hosts[1]: b can't run it: ") && said.len() == 1, "{said:?}");
    assert_eq!(api.get("/api/waves").await["items"], json!([]), "nothing was made");

    fleet.say("go");
    let made = api.post("/api/waves", json!({"kind": "wipe", "tags": ["web"], "confirm": "1 host"})).await.must(202);
    assert_eq!((&made["hosts"], &made["left_out"][0]["host_name"]), (&json!(1), &json!("b")), "{made}");
    let end = fleet.end_of(made["wave_id"].as_str().unwrap()).await;
    assert_eq!((&end["status"], table(&end)), (&json!("succeeded"), vec![("a", "succeeded")]));

    let operator = json!({"name": "otto", "role": "operator", "password": "a long enough password"});
    api.post("/api/users", operator).await.must(201);
    let otto = Fleet { house: fleet.house.with_token("otto"), ..fleet };
    let steps = json!({"kind": "steps", "hosts": [otto.agents[0].host_id], "params": {"steps": [{"type": "ssh", "cmd": "id", "label": "x"}]}});
    otto.house.api.post("/api/waves", steps).await.must(403);
}

#[tokio::test]
async fn secret_answers_reach_each_host_and_are_asked_for_again() {
    let fleet = Fleet::of(&["a", "b"]).await;
    let desk = fleet.desk.display();
    let book = format!(
        r#"
name = "tell"
title = "Tell"
[[inputs]]
name = "key"
type = "secret"
[[steps]]
type = "ssh"
label = "Tell"
cmd = 'if [ {{{{ key }}}} = planted-"key" ]; then touch {desk}/told-{{{{ host.slug }}}}; fi; if [ -e {desk}/fail-{{{{ host.slug }}}} ]; then exit 3; fi'
"#
    );
    fs::write(fleet.house.data_dir().join("runbooks/tell.toml"), book).unwrap();
    fleet.say("fail-b");
    let request = json!({"kind": "tell", "hosts": fleet.hosts(), "params": {"key": "planted-key"}, "stop_at": 60});
    let made = fleet.house.api.post("/api/waves", request).await.must(202);
    let wave = made["wave_id"].as_str().unwrap();
    let end = fleet.end_of(wave).await;
    assert_eq!(table(&end), [("a", "succeeded"), ("b", "failed")], "{end}");
    assert!(fleet.desk.join("told-a").exists() && fleet.desk.join("told-b").exists());
    assert!(!end.to_string().contains("planted-key"), "{end}");
    let database = fs::read(fleet.house.data_dir().join("flotilla.db")).unwrap();
    let log = fs::read(fleet.house.data_dir().join("flotilla.db-wal")).unwrap_or_default();
    let holds = |bytes: &[u8]| bytes.windows(11).any(|part| part == b"planted-key");
    assert!(!holds(&database) && !holds(&log) && !fleet.house.server_log().contains("planted-key"));

    fleet.unsay("fail-b");
    let again = format!("/api/waves/{wave}/rerun");
    let refused = fleet.house.api.post(&again, json!({})).await.must(422);
    assert_eq!(refused["errors"][0]["field"], "params.key", "{refused}");
    let made = fleet.house.api.post(&again, json!({"params": {"key": "planted-key"}})).await.must(202);
    let end = fleet.end_of(made["wave_id"].as_str().unwrap()).await;
    assert_eq!(table(&end), [("b", "succeeded")], "{end}");
}

#[tokio::test]
async fn restart_all_goes_host_by_host_and_on_only_when_health_came_back() {
    let fleet = Fleet::of(&["a", "b", "c"]).await;
    let api = &fleet.house.api;
    for (agent, name) in fleet.agents.iter().zip(["a", "b"]) {
        let command = format!("echo {name} >>{}", fleet.desk.join("begun").display());
        let body = json!({"restart": {"command": command}});
        api.ask(reqwest::Method::PATCH, &format!("/api/hosts/{}", agent.host_id), Some(body)).await.must(200);
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let question = json!({"type": "tcp", "address": address.to_string()});
    let probe = json!({"host_id": fleet.agents[0].host_id, "name": "shop", "question": question, "interval_s": 86_400, "timeout_s": 1});
    api.post("/api/probes", probe).await.must(201);
    let made = api.post("/api/waves", json!({"kind": "restart", "all": true})).await.must(202);
    assert_eq!((&made["hosts"], &made["left_out"][0]["host_name"]), (&json!(2), &json!("c")), "{made}");
    assert!(made["left_out"][0]["why"].as_str().unwrap().starts_with("not configured"), "{made}");
    let wave = made["wave_id"].as_str().unwrap();
    let waits = until("the first restart waits for health", async || {
        Some(fleet.look(wave).await).filter(|wave| wave["hosts"]["items"][0]["job_status"] == "succeeded")
    })
    .await;
    assert_eq!(table(&waits), [("a", "running"), ("b", "not_started")], "{waits}");
    assert_eq!((&waits["batch"], &waits["stop_at"], fleet.begun()), (&json!(1), &json!(0), vec!["a".to_owned()]));
    let _service = TcpListener::bind(address).unwrap();
    let end = fleet.end_of(wave).await;
    assert_eq!((&end["status"], table(&end)), (&json!("succeeded"), vec![("a", "succeeded"), ("b", "succeeded")]));
    assert_eq!(fleet.begun(), ["a", "b"]);
}
