//! Schedules between server and agents: sets that are pushed, acknowledged, behind; moments that become one job each, or none; moments that the
//! server ticks itself. The clock is set by hand.

use std::{sync::Arc, time::Duration};

use flotilla::{
    clock::ManualClock,
    domain::{HostId, JobId, PlanId, schedule::derived_id},
    fleet::FleetOptions,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{
    Local,
    api::id,
    raw_agent::{Enrolled, RawAgent, enrol, hello, lines},
    wait::until,
};

/// A server at 2026-11-21 08:10 UTC.
async fn server() -> (Local, Arc<ManualClock>) {
    let clock = ManualClock::at("2026-11-21T08:10:00Z".parse().unwrap());
    (Local::start(Arc::clone(&clock) as _, quick()).await, clock)
}

fn quick() -> FleetOptions {
    FleetOptions { tick: Duration::from_millis(20), ..FleetOptions::default() }
}

/// At full hours, UTC.
fn hourly() -> Value {
    json!({"cron": "0 * * * *", "timezone": "UTC", "jitter_s": 0, "catch_up": "once", "enabled": true})
}

async fn repo(server: &Local) -> String {
    let repo = json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "first"});
    server.api.repo(repo).await
}

async fn plan(server: &Local, name: &str, repo: &str, hosts: &[&str]) -> String {
    let plan = json!({"name": name, "repo_id": repo, "hosts": hosts, "paths": ["/etc"], "schedule": hourly()});
    id(&server.api.post("/api/plans", plan).await.must(201))
}

async fn patch(server: &Local, path: &str, body: Value) -> Value {
    server.api.ask(Method::PATCH, path, Some(body)).await.must(200)
}

/// The id of a plan's entry for a host.
fn entry(plan: &str, host: &Enrolled) -> String {
    derived_id(plan.parse::<PlanId>().unwrap(), host.host_id.parse::<HostId>().unwrap()).to_string()
}

fn job_id(n: u128) -> String {
    JobId::from_parts(1_795_248_000_000, n).to_string()
}

/// A connected agent of a host with the plan `nightly`, which has its set and has said so.
async fn scheduled(server: &Local) -> (RawAgent, Enrolled, String) {
    let host = enrol(&server.api, "web").await;
    let plan = plan(server, "nightly", &repo(server).await, &[&host.host_id]).await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    let version = agent.hears("schedule.set").await["version"].as_u64().unwrap();
    acknowledge(server, &mut agent, version, json!([])).await;
    (agent, host, plan)
}

async fn acknowledge(server: &Local, agent: &mut RawAgent, version: u64, rejected: Value) {
    agent.say("schedule.ack", json!({"version": version, "rejected": rejected})).await;
    until("the acknowledgement is noted", async || {
        let list = server.api.get("/api/schedules").await;
        list["items"].as_array().unwrap().iter().all(|item| item["state"]["acked"] == version).then_some(())
    })
    .await;
}

async fn fire(agent: &mut RawAgent, schedule: &str, at: &str, job: &str) -> Value {
    agent.say("schedule.fire", json!({"schedule_id": schedule, "scheduled_at": at, "job_id": job})).await;
    agent.hears("schedule.fired").await
}

async fn jobs(server: &Local) -> Vec<Value> {
    server.api.get("/api/jobs").await["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_set_is_pushed_to_who_comes_and_at_each_change_and_again_to_who_lost_it() {
    let (server, _) = server().await;
    let host = enrol(&server.api, "web").await;
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    agent.is_fine().await; // Without a schedule nothing is set.
    let repo = repo(&server).await;
    let plan = plan(&server, "nightly", &repo, &[&host.host_id]).await;
    let set = agent.hears("schedule.set").await;
    assert_eq!((&set["version"], set["entries"].as_array().unwrap().len()), (&json!(1), 1));
    let first = &set["entries"][0];
    assert_eq!(first["schedule_id"], json!(entry(&plan, &host)));
    assert_eq!(
        (&first["order"]["repo"]["password"], &first["order"]["plan"]["paths"]),
        (&json!("first"), &json!(["/etc"]))
    );
    acknowledge(&server, &mut agent, 1, json!([])).await;
    assert_eq!(server.api.get("/api/schedules").await["items"][0]["state"]["in_force"], true);
    // What an agent keeps for bad days follows plan and credentials.
    patch(&server, &format!("/api/plans/{plan}"), json!({"paths": ["/etc", "/srv"]})).await;
    let set = agent.hears("schedule.set").await;
    assert_eq!((&set["version"], &set["entries"][0]["order"]["plan"]["paths"]), (&json!(2), &json!(["/etc", "/srv"])));
    patch(&server, &format!("/api/repos/{repo}"), json!({"password": "second"})).await;
    let set = agent.hears("schedule.set").await;
    assert_eq!((&set["version"], &set["entries"][0]["order"]["repo"]["password"]), (&json!(3), &json!("second")));
    // Behind, and said so, until it acknowledges.
    let state = server.api.get("/api/schedules").await["items"][0]["state"].clone();
    assert_eq!((&state["version"], &state["acked"], &state["in_force"]), (&json!(3), &json!(1), &json!(false)));
    drop(agent);
    let mut agent = RawAgent::silent(&server.running.url, &host.token).await;
    let mut up_to_date = hello(&json!([]));
    up_to_date["schedule_version"] = json!(3);
    agent.say("hello", up_to_date).await;
    agent.hears("welcome").await;
    agent.is_fine().await;
    drop(agent);
    let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
    assert_eq!(agent.hears("schedule.set").await["version"], 3, "an agent that lost its disk");
    acknowledge(&server, &mut agent, 3, json!([])).await;
    // A paused one stays in the set, without credentials; a removed plan leaves it.
    patch(
        &server,
        &format!("/api/plans/{plan}"),
        json!({"schedule": {"cron": "0 * * * *", "timezone": "UTC", "enabled": false}}),
    )
    .await;
    let set = agent.hears("schedule.set").await;
    assert_eq!((&set["entries"][0]["enabled"], &set["entries"][0]["order"]), (&json!(false), &Value::Null));
    server.api.ask(Method::DELETE, &format!("/api/plans/{plan}"), None).await.must(204);
    assert_eq!(agent.hears("schedule.set").await, json!({"version": 5, "entries": []}));
    server.stop().await;
}

#[tokio::test]
async fn an_entry_that_the_agent_cannot_follow_is_shown_with_its_reason_and_a_version_from_the_future_is_overtaken() {
    let (server, _) = server().await;
    let (mut agent, host, plan) = scheduled(&server).await;
    let rejected = json!([{"schedule_id": entry(&plan, &host), "reason": "no such zone here"}]);
    agent.say("schedule.ack", json!({"version": 1, "rejected": rejected})).await;
    until("the reason is shown", async || {
        let list = server.api.get("/api/schedules").await;
        (list["items"][0]["state"]["rejected"] == "no such zone here").then_some(())
    })
    .await;
    drop(agent);
    // As after the server's database was put back to an earlier day.
    let mut agent = RawAgent::silent(&server.running.url, &host.token).await;
    let mut ahead = hello(&json!([]));
    ahead["schedule_version"] = json!(40);
    agent.say("hello", ahead).await;
    agent.hears("welcome").await;
    assert_eq!(agent.hears("schedule.set").await["version"], 41);
    server.stop().await;
}

#[tokio::test]
async fn a_moment_is_one_job_however_often_and_over_whichever_connection_it_is_told() {
    let (server, _) = server().await;
    let (mut agent, host, plan) = scheduled(&server).await;
    let (schedule, at) = (entry(&plan, &host), "2026-11-21T08:00:00.000Z");
    let told = fire(&mut agent, &schedule, at, &job_id(1)).await;
    assert_eq!(told, json!({"schedule_id": schedule, "scheduled_at": at, "job_id": job_id(1), "reason": null}));
    assert_eq!(agent.ordered().await, job_id(1));
    assert_eq!(fire(&mut agent, &schedule, at, &job_id(1)).await["job_id"], job_id(1));
    // Two lives of one agent that chose differently: the first one's choice stands.
    let mut other = RawAgent::silent(&server.running.url, &host.token).await;
    let mut again = hello(&json!([]));
    again["schedule_version"] = json!(1);
    again["fires"] = json!([{"schedule_id": schedule, "scheduled_at": at, "job_id": job_id(2)}]);
    other.say("hello", again).await;
    other.hears("welcome").await;
    assert_eq!(other.hears("schedule.fired").await["job_id"], job_id(1));
    let made = jobs(&server).await;
    assert_eq!(made.len(), 1, "{made:?}");
    let job = &made[0];
    assert_eq!(
        (&job["scheduled_at"], &job["schedule_id"], &job["ran_alone"]),
        (&json!(at), &json!(schedule), &json!(false))
    );
    assert_eq!(job["actor"], json!({"kind": "schedule", "id": schedule, "name": "nightly"}));
    server.stop().await;
}

#[tokio::test]
async fn what_ran_while_the_server_was_away_is_known_before_the_welcome_and_told_to_its_end() {
    let (server, clock) = server().await;
    let (agent, host, plan) = scheduled(&server).await;
    drop(agent);
    clock.advance(3 * 3600);
    let (schedule, at, job) = (entry(&plan, &host), "2026-11-21T09:00:00.000Z", job_id(7));
    // Removed while it was away: what happened, happened.
    server.api.ask(Method::DELETE, &format!("/api/plans/{plan}"), None).await.must(204);
    let mut agent = RawAgent::silent(&server.running.url, &host.token).await;
    let mut back = hello(&json!([{"job_id": job, "last_seq": 2, "state": "ended"}]));
    back["fires"] = json!([{"schedule_id": schedule, "scheduled_at": at, "job_id": job, "alone": true}]);
    back["schedule_version"] = json!(1);
    agent.say("hello", back).await;
    assert_eq!(agent.hears("welcome").await["acked"], json!({ &job: 0 }));
    assert_eq!(agent.hears("schedule.fired").await["job_id"], json!(job));
    assert_eq!(agent.hears("schedule.set").await["entries"], json!([]));
    agent.say("job.started", json!({"job_id": job, "at": "2026-11-21T09:00:05.000Z"})).await;
    agent.lines(&job, lines(1, 2)).await;
    agent.hears("ack").await;
    let end =
        json!({"job_id": job, "last_seq": 2, "at": "2026-11-21T09:01:00.000Z", "status": "succeeded", "exit_code": 0});
    agent.say("job.finished", end).await;
    assert_eq!(agent.hears("ack").await["finished"], true);
    let told = server.api.job(&job).await;
    assert_eq!(
        (&told["status"], &told["ran_alone"], &told["scheduled_at"]),
        (&json!("succeeded"), &json!(true), &json!(at))
    );
    assert_eq!((&told["created_at"], &told["started_at"]), (&json!(at), &json!("2026-11-21T09:00:05.000Z")));
    assert_eq!(told["finished_at"], "2026-11-21T09:01:00.000Z", "its own times, and not those of the day it was told");
    assert_eq!(told["plan_name"], "nightly");
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_was_made_before_the_line_broke_and_then_ran_alone_is_one_job() {
    let (server, _) = server().await;
    let (mut agent, host, plan) = scheduled(&server).await;
    let (schedule, at, job) = (entry(&plan, &host), "2026-11-21T08:00:00.000Z", job_id(3));
    assert_eq!(fire(&mut agent, &schedule, at, &job).await["job_id"], json!(job));
    assert_eq!(agent.ordered().await, job);
    drop(agent);
    let mut agent = RawAgent::silent(&server.running.url, &host.token).await;
    let mut back = hello(&json!([{"job_id": job, "last_seq": 0, "state": "running"}]));
    back["fires"] = json!([{"schedule_id": schedule, "scheduled_at": at, "job_id": job, "alone": true}]);
    back["schedule_version"] = json!(1);
    agent.say("hello", back).await;
    assert_eq!(agent.hears("welcome").await["acked"], json!({ &job: 0 }));
    assert_eq!(agent.hears("schedule.fired").await["job_id"], json!(job));
    agent.is_fine().await; // It is not ordered again.
    assert_eq!((jobs(&server).await.len(), &server.api.job(&job).await["ran_alone"]), (1, &json!(true)));
    server.stop().await;
}

#[tokio::test]
async fn a_moment_that_is_none_makes_no_job_and_says_why() {
    let (server, clock) = server().await;
    let (mut agent, host, plan_id) = scheduled(&server).await;
    let other = enrol(&server.api, "other").await;
    let foreign = plan(&server, "of another host", &repo_of(&server).await, &[&other.host_id]).await;
    let schedule = entry(&plan_id, &host);
    clock.advance(2 * 3600); // 10:10, long after the schedule was made.
    let reasons = [
        (schedule.as_str(), "2026-11-21T09:30:00.000Z", "no moment of this schedule"),
        (&schedule, "2026-11-21T11:00:00.000Z", "in the future"),
        (&schedule, "2026-10-01T08:00:00.000Z", "31 days"),
        (&entry(&foreign, &other), "2026-11-21T10:00:00.000Z", "no such schedule"),
        (&job_id(99), "2026-11-21T10:00:00.000Z", "no such schedule"),
    ];
    for (n, (schedule, at, reason)) in (0..).zip(reasons) {
        let told = fire(&mut agent, schedule, at, &job_id(n)).await;
        assert_eq!(told["job_id"], Value::Null);
        assert!(told["reason"].as_str().unwrap().contains(reason), "{told}");
    }
    let paused = json!({"schedule": {"cron": "0 * * * *", "timezone": "UTC", "enabled": false}});
    patch(&server, &format!("/api/plans/{plan_id}"), paused).await;
    agent.hears("schedule.set").await;
    let told = fire(&mut agent, &schedule, "2026-11-21T10:00:00.000Z", &job_id(9)).await;
    assert!(told["reason"].as_str().unwrap().contains("paused"), "{told}");
    server.api.ask(Method::DELETE, &format!("/api/plans/{plan_id}"), None).await.must(204);
    agent.hears("schedule.set").await;
    let told = fire(&mut agent, &schedule, "2026-11-21T10:00:00.000Z", &job_id(9)).await;
    assert!(told["reason"].as_str().unwrap().contains("no such schedule"), "{told}");
    assert!(jobs(&server).await.is_empty());
    server.stop().await;
}

async fn repo_of(server: &Local) -> String {
    id(&server.api.get("/api/repos").await["items"][0])
}

#[tokio::test]
async fn a_moment_of_the_old_cron_counts_while_the_agent_may_not_have_the_change() {
    let (server, clock) = server().await;
    let (mut agent, host, plan) = scheduled(&server).await;
    clock.advance(3600);
    let rarely = json!({"schedule": {"cron": "30 4 * * 0", "timezone": "UTC", "enabled": true}});
    patch(&server, &format!("/api/plans/{plan}"), rarely).await;
    let version = agent.hears("schedule.set").await["version"].as_u64().unwrap();
    clock.advance(3600);
    let schedule = entry(&plan, &host);
    // Not acknowledged yet: 10:00 is of the set that the agent follows.
    assert_eq!(fire(&mut agent, &schedule, "2026-11-21T10:00:00.000Z", &job_id(1)).await["job_id"], job_id(1));
    agent.ordered().await;
    acknowledge(&server, &mut agent, version, json!([])).await;
    clock.advance(3600);
    let told = fire(&mut agent, &schedule, "2026-11-21T11:00:00.000Z", &job_id(2)).await;
    assert!(told["reason"].as_str().unwrap().contains("no moment"), "{told}");
    assert_eq!(fire(&mut agent, &schedule, "2026-11-21T09:00:00.000Z", &job_id(3)).await["job_id"], job_id(3));
    server.stop().await;
}

#[tokio::test]
async fn an_agent_cannot_take_the_id_of_another_job_nor_learn_of_another_hosts_moments() {
    let (server, _) = server().await;
    let (mut agent, host, plan) = scheduled(&server).await;
    let other = enrol(&server.api, "other").await;
    let theirs = server
        .api
        .order(&other.host_id, json!({"kind": "backup", "repo_id": repo_of(&server).await, "args": ["/x"]}))
        .await;
    let (schedule, at) = (entry(&plan, &host), "2026-11-21T08:00:00.000Z");
    for alone in [false, true] {
        let claim = json!({"schedule_id": schedule, "scheduled_at": at, "job_id": theirs, "alone": alone});
        agent.say("schedule.fire", claim).await;
        let told = agent.hears("schedule.fired").await;
        assert!(told["job_id"].is_null() && told["reason"].as_str().unwrap().contains("another job's"), "{told}");
    }
    // The other host's moment, made by its own agent: this one hears what it hears of an unknown one.
    assert_eq!(fire(&mut agent, &schedule, at, &job_id(5)).await["job_id"], job_id(5));
    let (mut stranger, _) = RawAgent::connect(&server.running.url, &other.token, json!([])).await;
    assert_eq!(stranger.ordered().await, theirs);
    let told = fire(&mut stranger, &schedule, at, &job_id(5)).await;
    assert!(told["job_id"].is_null() && told["reason"].as_str().unwrap().contains("no such schedule"), "{told}");
    assert_eq!(server.api.job(&theirs).await["host_id"], json!(other.host_id));
    server.stop().await;
}

#[tokio::test]
async fn the_server_ticks_its_own_schedules_once_a_moment_also_over_a_restart() {
    let (server, clock) = server().await;
    let host = enrol(&server.api, "web").await;
    let repo = repo(&server).await;
    let check = |kind: &str, catch_up: &str| {
        json!({"host_id": host.host_id, "kind": kind, "repo_id": repo, "cron": "0 * * * *", "timezone": "UTC",
               "catch_up": catch_up, "enabled": true})
    };
    server.api.post("/api/schedules", check("check", "once")).await.must(201);
    server.api.post("/api/schedules", check("stats", "skip")).await.must(201);
    clock.set("2026-11-21T09:00:10Z".parse().unwrap());
    until("both run at nine", async || (jobs(&server).await.len() == 2).then_some(())).await;
    for job in jobs(&server).await {
        assert_eq!(
            (&job["scheduled_at"], &job["actor"]["kind"]),
            (&json!("2026-11-21T09:00:00.000Z"), &json!("schedule"))
        );
    }
    // Five moments are missed, and the server starts anew: one is made up for by the schedule that wants it, none is made twice.
    let server = server.restart(Arc::clone(&clock) as _, quick()).await;
    clock.set("2026-11-21T14:30:00Z".parse().unwrap());
    until("the check is made up for", async || (jobs(&server).await.len() == 3).then_some(())).await;
    assert_eq!(jobs(&server).await[0]["scheduled_at"], "2026-11-21T14:00:00.000Z");
    assert_eq!(jobs(&server).await[0]["kind"], "check");
    clock.set("2026-11-21T08:30:00Z".parse().unwrap());
    let server = server.restart(Arc::clone(&clock) as _, quick()).await;
    clock.set("2026-11-21T15:00:00Z".parse().unwrap());
    until("both run at three", async || (jobs(&server).await.len() == 5).then_some(())).await;
    assert!(jobs(&server).await[..2].iter().all(|job| job["scheduled_at"] == "2026-11-21T15:00:00.000Z"));
    server.stop().await;
}
