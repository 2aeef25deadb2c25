//! The queue as agents and operators see it: who may start beside whom, what the others wait for, and what becomes of jobs whose agent does not come.

use std::{sync::Arc, time::Duration};

use flotilla::{
    clock::ManualClock,
    domain::{
        HostId, JobId, JobKind, RepoId,
        job::{Actor, JobInput, NewJob},
    },
    fleet::FleetOptions,
    store::{StoreError, WriteTx, jobs},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{
    Local,
    raw_agent::{Enrolled, RawAgent, enrol, lines},
    wait::until,
};

const HOUR: i64 = 3600;

/// A server that looks often, and its clock.
async fn server(options: FleetOptions) -> (Local, Arc<ManualClock>) {
    let clock = ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap());
    let options = FleetOptions { look: Duration::from_millis(50), ..options };
    (Local::start(Arc::clone(&clock) as _, options).await, clock)
}

/// A host and its agent.
struct Machine {
    host: Enrolled,
    agent: RawAgent,
}

impl Machine {
    async fn new(server: &Local, name: &str) -> Self {
        let host = enrol(&server.api, name).await;
        let (agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
        Self { host, agent }
    }

    /// Takes the order that comes next, which must be this one, and begins it.
    async fn begins(&mut self, job: &str) {
        assert_eq!(self.agent.ordered().await, job);
        self.agent.started(job).await;
        self.agent.is_fine().await;
    }

    async fn ends(&mut self, job: &str) {
        self.agent.finished(job, 0).await;
        assert_eq!(self.agent.hears("ack").await["finished"], true);
    }

    /// Goes, and the server has noticed.
    async fn goes(self, server: &Local) -> Enrolled {
        drop(self.agent);
        server.api.host_in_state(&self.host.host_id, "offline").await;
        self.host
    }
}

async fn repo(server: &Local, name: &str) -> String {
    server.api.repo(json!({"name": name, "url": "rest:http://127.0.0.1:1/", "password": "x"})).await
}

fn backup(repo: &str) -> Value {
    json!({"kind": "backup", "repo_id": repo, "args": ["/etc"]})
}

fn check(repo: &str) -> Value {
    json!({"kind": "check", "repo_id": repo})
}

/// What a job waits for, once it is of this kind.
async fn waits(server: &Local, job: &str, kind: &str) -> Value {
    until(&format!("{job} waits for {kind}"), async || {
        Some(server.api.job(job).await["waits_for"].clone()).filter(|waits| waits["kind"] == kind)
    })
    .await
}

#[tokio::test]
async fn a_backup_that_may_create_its_repository_has_it_alone_until_one_went_well() {
    let (server, _) = server(FleetOptions::default()).await;
    let new = json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x", "init": true});
    let vault = server.api.repo(new).await;
    let (mut one, mut two) = (Machine::new(&server, "web-1").await, Machine::new(&server, "web-2").await);
    let first = server.api.order(&one.host.host_id, backup(&vault)).await;
    one.begins(&first).await;
    // Two that create one at once would leave two keys and one configuration, which restic does not open.
    let second = server.api.order(&two.host.host_id, backup(&vault)).await;
    assert_eq!(waits(&server, &second, "repository").await["job_id"], first.as_str());
    one.ends(&first).await;
    two.begins(&second).await;
    let third = server.api.order(&one.host.host_id, backup(&vault)).await;
    one.begins(&third).await;
}

#[tokio::test]
async fn jobs_that_share_a_repository_run_together_and_an_exclusive_one_waits_and_holds_back_those_after_it() {
    let (server, _) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let (mut one, mut two) = (Machine::new(&server, "web-1").await, Machine::new(&server, "web-2").await);
    let first = server.api.order(&one.host.host_id, backup(&vault)).await;
    one.begins(&first).await;
    let second = server.api.order(&two.host.host_id, backup(&vault)).await;
    two.begins(&second).await;
    let alone = server.api.order(&one.host.host_id, check(&vault)).await;
    let later = server.api.order(&two.host.host_id, backup(&vault)).await;
    let held = waits(&server, &alone, "repository").await;
    assert_eq!(
        (held["job_id"].as_str(), held["text"].as_str()),
        (Some(first.as_str()), Some("the backup of web-1, which has the repository"))
    );
    let held = waits(&server, &later, "turn").await;
    assert_eq!(held["job_id"], alone.as_str());
    assert!(held["text"].as_str().unwrap().starts_with("the check of web-1, which came earlier"), "{held}");
    one.ends(&first).await;
    assert_eq!(waits(&server, &alone, "repository").await["job_id"], second.as_str());
    two.ends(&second).await;
    one.begins(&alone).await;
    assert_eq!(waits(&server, &later, "repository").await["job_id"], alone.as_str());
    two.agent.is_fine().await;
    one.ends(&alone).await;
    two.begins(&later).await;
    assert_eq!(server.api.job(&later).await["waits_for"], Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn repositories_do_not_wait_for_each_other() {
    let (server, _) = server(FleetOptions::default()).await;
    let (a, b) = (repo(&server, "a").await, repo(&server, "b").await);
    let mut machine = Machine::new(&server, "web").await;
    let first = server.api.order(&machine.host.host_id, check(&a)).await;
    machine.begins(&first).await;
    let second = server.api.order(&machine.host.host_id, check(&b)).await;
    machine.begins(&second).await;
    server.stop().await;
}

#[tokio::test]
async fn limits_hold_by_host_and_in_all_and_hosts_take_turns() {
    let (server, _) = server(FleetOptions { jobs_per_host: 2, jobs_in_all: 3, ..FleetOptions::default() }).await;
    let vault = repo(&server, "vault").await;
    let (mut busy, mut quiet) = (Machine::new(&server, "busy").await, Machine::new(&server, "quiet").await);
    let mut third = Machine::new(&server, "third").await;
    let mut queued = Vec::new();
    for _ in 0..5 {
        queued.push(server.api.order(&busy.host.host_id, backup(&vault)).await);
    }
    for job in &queued[..2] {
        assert_eq!(&busy.agent.ordered().await, job);
        busy.agent.started(job).await;
    }
    busy.agent.is_fine().await;
    let text = waits(&server, &queued[2], "host_limit").await["text"].clone();
    assert_eq!(text, "a free place on this host (it has 2 at once)");
    let first = server.api.order(&quiet.host.host_id, backup(&vault)).await;
    quiet.begins(&first).await;
    let last = server.api.order(&third.host.host_id, backup(&vault)).await;
    let text = waits(&server, &last, "limit").await["text"].clone();
    assert_eq!(text, "a free place in all (all hosts together have 3 at once)");
    // The host that has none is next, though the other's jobs came before.
    busy.ends(&queued[0]).await;
    third.begins(&last).await;
    busy.agent.is_fine().await;
    quiet.ends(&first).await;
    busy.begins(&queued[2]).await;
    server.stop().await;
}

#[tokio::test]
async fn a_queue_of_a_thousand_for_hosts_that_are_away_does_not_keep_others_waiting() {
    let (server, _) = server(FleetOptions { jobs_per_host: 30, jobs_in_all: 1000, ..FleetOptions::default() }).await;
    let vault = repo(&server, "vault").await;
    let away = enrol(&server.api, "away").await;
    let (host, store) = (away.host_id.parse().unwrap(), server.running.state.store.clone());
    let repo_id = vault.parse().unwrap();
    store.write(move |tx| (1..=1000).try_for_each(|n| insert(tx, n, host, repo_id))).await.unwrap();
    let mut machines = Vec::new();
    for n in 1..=5 {
        machines.push(Machine::new(&server, &format!("web-{n}")).await);
    }
    // More than one transaction claims.
    let mut expected = Vec::new();
    for machine in &machines {
        let host: HostId = machine.host.host_id.parse().unwrap();
        for _ in 0..30 {
            expected.push((1001 + expected.len() as u128, host));
        }
    }
    let jobs = expected.clone();
    let insert_all = move |tx: &mut WriteTx<'_>| jobs.iter().try_for_each(|(n, host)| insert(tx, *n, *host, repo_id));
    store.write(insert_all).await.unwrap();
    for (at, machine) in machines.iter_mut().enumerate() {
        for (n, _) in &expected[at * 30..(at + 1) * 30] {
            assert_eq!(machine.agent.ordered().await, JobId::from_parts(2, *n).to_string());
        }
        machine.agent.is_fine().await;
    }
    server.stop().await;
}

fn insert(tx: &mut WriteTx<'_>, n: u128, host_id: HostId, repo: RepoId) -> Result<(), StoreError> {
    let job = NewJob {
        about: Default::default(),
        id: JobId::from_parts(2, n),
        host_id,
        kind: JobKind::Snapshots,
        actor: Actor::system(),
        moment: None,
        ran_alone: false,
        plan_id: None,
        repo_id: Some(repo),
        input: JobInput::default(),
        rerun_of: None,
        timeout_s: 3600,
        expires_at: None,
    };
    jobs::insert(tx, &job).map(|_| ())
}

#[tokio::test]
async fn a_second_run_of_a_plan_names_the_first() {
    let (server, _) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let mut machine = Machine::new(&server, "web").await;
    let plan = server.api.plan(&machine.host.host_id, &vault, &["/etc"], 0).await;
    let first = server.api.back_up(&machine.host.host_id, &plan).await;
    machine.begins(&first).await;
    let second = server.api.back_up(&machine.host.host_id, &plan).await;
    let held = waits(&server, &second, "plan").await;
    assert_eq!(
        (held["job_id"].as_str(), held["text"].as_str()),
        (Some(first.as_str()), Some("the backup of web, an earlier run of the same plan"))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_no_agent_takes_in_its_time_fails_and_says_so() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let host = enrol(&server.api, "web").await;
    let usual = server.api.order(&host.host_id, backup(&vault)).await;
    let mut brief = backup(&vault);
    brief["expires_in_s"] = json!(HOUR);
    let brief = server.api.order(&host.host_id, brief).await;
    let text = waits(&server, &usual, "host").await["text"].as_str().unwrap().to_owned();
    assert_eq!(text, "its host to connect (it never did so far; given up at 2026-11-22 08:00 UTC)");
    clock.advance(HOUR);
    let ended = server.api.end_of(&brief).await;
    assert_eq!(ended["status"], "failed");
    let error = ended["error"].as_str().unwrap();
    assert!(
        error.contains("never begun") && error.contains("within 1 h 0 min") && error.contains("run it again"),
        "{error}"
    );
    assert_eq!(server.api.job(&usual).await["status"], "queued");
    clock.advance(23 * HOUR);
    assert_eq!(server.api.end_of(&usual).await["status"], "failed");
    // The agent that comes now gets neither.
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    agent.is_fine().await;
    server.stop().await;
}

#[tokio::test]
async fn an_order_that_was_sent_before_its_agent_went_is_lost_and_not_failed_and_its_true_end_counts() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let mut machine = Machine::new(&server, "web").await;
    let job = server.api.order(&machine.host.host_id, backup(&vault)).await;
    assert_eq!(machine.agent.ordered().await, job);
    let host = machine.goes(&server).await;
    let text = waits(&server, &job, "host").await["text"].as_str().unwrap().to_owned();
    assert!(text.contains("offline since 2026-11-21 08:00 UTC") && text.contains("says at its return"), "{text}");
    clock.advance(25 * HOUR);
    let ended = server.api.end_of(&job).await;
    assert_eq!(ended["status"], "lost");
    assert!(ended["error"].as_str().unwrap().contains("whether the job began is unknown"), "{ended}");
    // It had taken it, and says so now.
    let known = json!([{"job_id": job, "last_seq": 2, "state": "ended"}]);
    let (mut agent, welcome) = RawAgent::connect(&server.running.url, &host.token, known).await;
    assert_eq!((&welcome["acked"], &welcome["finished"]), (&json!({ &job: 0 }), &Value::Null));
    agent.lines(&job, lines(1, 2)).await;
    assert_eq!(agent.hears("ack").await["seq"], 2);
    agent.finished(&job, 2).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    let ended = server.api.job(&job).await;
    assert_eq!(
        (ended["status"].as_str(), &ended["log_lines"], &ended["error"]),
        (Some("succeeded"), &json!(2), &Value::Null)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_ended_here_untaken_and_that_its_agent_has_all_the_same_is_open_again_and_told_to_stop() {
    let (server, _clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let machine = Machine::new(&server, "web").await;
    let host = machine.goes(&server).await;
    let job = server.api.order(&host.host_id, backup(&vault)).await;
    server.api.post(&format!("/api/jobs/{job}/cancel"), json!({})).await.must(202);
    assert_eq!(server.api.job(&job).await["status"], "cancelled");
    // Its order came over the connection before, while this one was made.
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    agent.say("job.accepted", json!({"job_id": job})).await;
    assert_eq!(agent.hears("command.cancel").await["job_id"], json!(job));
    agent.started(&job).await;
    agent.lines(&job, lines(1, 2)).await;
    agent.hears("ack").await;
    agent.finished(&job, 2).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    let ended = server.api.job(&job).await;
    assert_eq!((ended["status"].as_str(), &ended["log_lines"]), (Some("succeeded"), &json!(2)), "{ended}");
    server.stop().await;
}

#[tokio::test]
async fn a_running_job_whose_agent_is_gone_past_its_deadline_is_lost_and_frees_the_repository_until_its_true_end() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let (mut gone, mut other) = (Machine::new(&server, "gone").await, Machine::new(&server, "other").await);
    let mut order = backup(&vault);
    order["timeout_s"] = json!(20 * HOUR);
    let job = server.api.order(&gone.host.host_id, order).await;
    gone.begins(&job).await;
    gone.agent.lines(&job, lines(1, 3)).await;
    gone.agent.hears("ack").await;
    let host = gone.goes(&server).await;
    let alone = server
        .api
        .order(&other.host.host_id, json!({"kind": "check", "repo_id": vault, "expires_in_s": 100 * HOUR}))
        .await;
    // Twice its timeout is 40 hours.
    clock.advance(39 * HOUR);
    waits(&server, &alone, "repository").await;
    assert_eq!(server.api.job(&job).await["status"], "running");
    clock.advance(HOUR);
    let ended = server.api.end_of(&job).await;
    assert_eq!(ended["status"], "lost");
    assert!(ended["error"].as_str().unwrap().contains("has not been heard since 2026-11-21 08:00 UTC"), "{ended}");
    other.begins(&alone).await;
    let known = json!([{"job_id": job, "last_seq": 5, "state": "running"}]);
    let (mut agent, welcome) = RawAgent::connect(&server.running.url, &host.token, known).await;
    assert_eq!((&welcome["acked"], &welcome["finished"]), (&json!({ &job: 3 }), &Value::Null));
    agent.lines(&job, lines(4, 5)).await;
    assert_eq!(agent.hears("ack").await["seq"], 5);
    assert_eq!(server.api.job(&job).await["status"], "lost");
    agent.finished(&job, 5).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    assert_eq!(server.api.job(&job).await["status"], "succeeded");
    assert_eq!(server.api.log(&job, 100).await.len(), 5);
    server.stop().await;
}

/// A host whose check has the repository, one whose order was sent, and another that waits: once `path` is asked for the first, the jobs of the first are
/// lost with these words, and the other begins.
async fn lets_go(method: Method, path: &str, words: &str) {
    let (server, _) = server(FleetOptions::default()).await;
    let (vault, elsewhere) = (repo(&server, "vault").await, repo(&server, "elsewhere").await);
    let (mut going, mut other) = (Machine::new(&server, "going").await, Machine::new(&server, "other").await);
    let host = going.host.host_id.clone();
    let held = server.api.order(&host, check(&vault)).await;
    going.begins(&held).await;
    let sent = server.api.order(&host, check(&elsewhere)).await;
    assert_eq!(going.agent.ordered().await, sent);
    let unsent = server.api.order(&host, backup(&vault)).await;
    let next = server.api.order(&other.host.host_id, check(&vault)).await;
    waits(&server, &next, "repository").await;
    let done = server.api.ask(method, &format!("/api/hosts/{host}{path}"), None).await;
    assert!((200..300).contains(&done.status), "{done:?}");
    other.begins(&next).await;
    assert_eq!(going.agent.closed().await, 4003);
    for (job, unknown) in [(&held, "whether and how it ended is unknown"), (&sent, "whether the job began is unknown")]
    {
        let job = server.api.job(job).await;
        let error = job["error"].as_str().unwrap();
        assert_eq!(job["status"], "lost");
        assert!(error.contains(words) && error.contains(unknown) && error.contains("restic still runs"), "{error}");
    }
    assert_eq!(server.api.job(&unsent).await["status"], "cancelled");
    server.stop().await;
}

#[tokio::test]
async fn a_lost_job_that_goes_on_at_a_returned_agent_can_be_cancelled_and_only_there() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let mut machine = Machine::new(&server, "web").await;
    let job = server.api.order(&machine.host.host_id, backup(&vault)).await;
    machine.begins(&job).await;
    let host = machine.goes(&server).await;
    clock.advance(49 * HOUR);
    assert_eq!(server.api.end_of(&job).await["status"], "lost");
    let cancel = format!("/api/jobs/{job}/cancel");
    server.api.post(&cancel, Value::Null).await.must(409);
    // It holds the job's end already: there is nothing to stop.
    let known = |state: &str| json!([{"job_id": job, "last_seq": 0, "state": state}]);
    let (agent, _) = RawAgent::connect(&server.running.url, &host.token, known("ended")).await;
    server.api.post(&cancel, Value::Null).await.must(409);
    drop(agent);
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, known("running")).await;
    server.api.host_in_state(&host.host_id, "online").await;
    let answer = server.api.post(&cancel, Value::Null).await.must(202);
    assert_eq!(answer["state"], "requested");
    assert_eq!(agent.hears("command.cancel").await["job_id"], job.as_str());
    assert_eq!(server.api.job(&job).await["status"], "lost");
    let end = json!({"job_id": job, "last_seq": 0, "at": "2026-11-23T09:00:00.000Z", "status": "cancelled", "exit_code": 130});
    agent.say("job.finished", end).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    assert_eq!(server.api.job(&job).await["status"], "cancelled");
    server.api.post(&cancel, Value::Null).await.must(409);
    server.stop().await;
}

#[tokio::test]
async fn what_a_removed_host_has_is_lost_at_once_and_frees_the_repository() {
    lets_go(Method::DELETE, "", "its host going was removed").await;
}

#[tokio::test]
async fn what_a_revoked_agent_has_is_lost_at_once_and_frees_the_repository() {
    lets_go(Method::POST, "/revoke", "the identity of going's agent was revoked").await;
}

#[tokio::test]
async fn an_agent_that_is_here_loses_no_job_however_long_it_takes() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let (mut here, away) = (Machine::new(&server, "here").await, enrol(&server.api, "away").await);
    let job = server.api.order(&here.host.host_id, backup(&vault)).await;
    here.begins(&job).await;
    let other = server.api.order(&away.host_id, backup(&vault)).await;
    clock.advance(1000 * HOUR);
    // The look that gives the one up has seen the other.
    assert_eq!(server.api.end_of(&other).await["status"], "failed");
    assert_eq!(server.api.job(&job).await["status"], "running");
    here.ends(&job).await;
    server.stop().await;
}

#[tokio::test]
async fn an_order_that_must_not_wait_is_refused_with_the_job_that_stands_in_its_way() {
    let (server, _) = server(FleetOptions { jobs_per_host: 1, ..FleetOptions::default() }).await;
    let vault = repo(&server, "vault").await;
    let (mut one, two) = (Machine::new(&server, "web-1").await, Machine::new(&server, "web-2").await);
    let at_once = |mut order: Value| {
        order["queue"] = json!(false);
        order
    };
    let path = |host: &Enrolled| format!("/api/hosts/{}/jobs", host.host_id);
    let job = server.api.order(&one.host.host_id, at_once(backup(&vault))).await;
    one.begins(&job).await;
    let refused = server.api.post(&path(&two.host), at_once(check(&vault))).await.must(409);
    assert_eq!(refused["type"], "urn:flotilla:host_busy");
    assert_eq!(refused["holder"], json!({"job_id": job, "kind": "backup", "host_name": "web-1"}));
    assert!(refused["detail"].as_str().unwrap().contains("the backup of web-1, which has the repository"), "{refused}");
    let refused = server.api.post(&path(&one.host), at_once(backup(&vault))).await.must(409);
    assert_eq!((refused["type"].as_str(), &refused["holder"]), (Some("urn:flotilla:host_busy"), &Value::Null));
    assert!(refused["detail"].as_str().unwrap().contains("a free place on this host"), "{refused}");
    let away = two.goes(&server).await;
    let refused = server.api.post(&path(&away), at_once(backup(&vault))).await.must(409);
    assert!(refused["detail"].as_str().unwrap().contains("its host to connect"), "{refused}");
    // Nothing of them is left; and who did not ask for it waits.
    assert_eq!(server.api.get("/api/jobs").await["items"].as_array().unwrap().len(), 1);
    server.api.post(&path(&away), check(&vault)).await.must(202);
    server.stop().await;
}

#[tokio::test]
async fn a_rerun_and_the_job_it_repeats_name_each_other() {
    let (server, _) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let mut machine = Machine::new(&server, "web").await;
    let job = server.api.order(&machine.host.host_id, backup(&vault)).await;
    machine.begins(&job).await;
    machine.ends(&job).await;
    let again = server.api.post(&format!("/api/jobs/{job}/rerun"), Value::Null).await.must(202);
    let again = again["job_id"].as_str().unwrap();
    assert_eq!(server.api.job(again).await["rerun_of"], job.as_str());
    assert_eq!(server.api.job(&job).await["rerun_as"], again);
    machine.begins(again).await;
    server.stop().await;
}

#[tokio::test]
async fn the_wish_to_cancel_what_was_sent_to_a_host_that_went_says_that_it_waits_for_it() {
    let (server, clock) = server(FleetOptions::default()).await;
    let vault = repo(&server, "vault").await;
    let mut machine = Machine::new(&server, "web").await;
    let (known, unknown) = (
        server.api.order(&machine.host.host_id, backup(&vault)).await,
        server.api.order(&machine.host.host_id, backup(&vault)).await,
    );
    for job in [&known, &unknown] {
        assert_eq!(&machine.agent.ordered().await, job);
    }
    let host = machine.goes(&server).await;
    for job in [&known, &unknown] {
        let answer = server.api.post(&format!("/api/jobs/{job}/cancel"), Value::Null).await.must(202);
        assert_eq!(answer["state"], "requested");
        let text = waits(&server, job, "host").await["text"].as_str().unwrap().to_owned();
        assert!(text.contains("only its agent knows") && text.contains("told to stop as soon as it is back"), "{text}");
    }
    // It has the one and not the other.
    let jobs = json!([{"job_id": known, "last_seq": 0, "state": "running"}]);
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, jobs).await;
    assert_eq!(server.api.end_of(&unknown).await["status"], "cancelled");
    assert_eq!(agent.hears("command.cancel").await["job_id"], known.as_str());
    // It is told once, whatever else happens; again only when nothing came of it.
    server.api.order(&enrol(&server.api, "other").await.host_id, backup(&vault)).await;
    agent.is_fine().await;
    drop(agent);
    server.api.host_in_state(&host.host_id, "offline").await;
    clock.advance(49 * HOUR);
    let ended = server.api.end_of(&known).await;
    assert_eq!(ended["status"], "lost");
    server.stop().await;
}
