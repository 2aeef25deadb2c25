//! Downloads and the agents' other requests under pressure, on real sockets: nobody is faster than the slowest, nothing piles up in the server, and what comes too
//! slowly, is too large or is one too many gets an answer that says so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{fs, time::Duration};

use flotilla::{domain::JobId, fleet::FleetOptions, hub::downloads::OPEN};
use reqwest::{Body, Client, Method, Response, header};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use house::{
    House, Local,
    raw_agent::{Enrolled, RawAgent, enrol},
    repository::RestServer,
    system_clock,
    tree::noise,
    wait::until,
};

const HUGE: usize = 80_000_000;

/// The most memory that a process ever had, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Bytes that the running dump below these processes has written; `None` where none runs.
fn dumped(processes: &[u32]) -> Option<u64> {
    let is_dump = |pid: &&u32| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"dump"))
    };
    let io = fs::read_to_string(format!("/proc/{}/io", processes.iter().find(is_dump)?)).ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

#[tokio::test]
async fn a_browser_that_reads_slowly_makes_the_dump_wait_and_the_server_holds_next_to_nothing() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    fs::write(source.join("huge.bin"), noise(9, HUGE)).unwrap();
    let agent = house.agent("web").await;
    let repo = house.api.repo(rest.input("vault")).await;
    let backup = json!({"kind": "backup", "repo_id": repo, "args": [source.to_str().unwrap()]});
    let job = house.api.order(&agent.host_id, backup).await;
    let ended = house.api.end_of(&job).await;
    let snapshot = ended["summary"]["snapshot_id"].as_str().unwrap().to_owned();
    let path = source.join("huge.bin").to_str().unwrap().to_owned();
    let before = peak_memory(house.server_pid());

    let dump = json!({"kind": "dump", "repo_id": repo, "snapshot": snapshot, "path": path, "form": "file"});
    let job = house.api.order(&agent.host_id, dump).await;
    let mut answer = fetch(&house.url, &house.api.token, &job).await;
    let mut got = answer.chunk().await.unwrap().unwrap().len();
    // It has come to a stand once it has written nothing more for a while.
    let (mut last, mut same) = (0, 0);
    let stood_at = until("restic waits", async || {
        let now = dumped(&agent.processes())?;
        same = if now == last && now > 0 { same + 1 } else { 0 };
        last = now;
        (same > 20).then_some(now)
    })
    .await;
    // What lies between them is above all the system's buffers of three sockets and a pipe.
    assert!(stood_at < (HUGE as u64) / 2, "{stood_at} bytes are under way, and nobody has taken them");
    assert_eq!(house.api.job(&job).await["status"], "running");
    let grown = peak_memory(house.server_pid()) - before;
    assert!(grown < 24 << 20, "{grown} bytes");

    while let Some(piece) = answer.chunk().await.unwrap() {
        got += piece.len();
    }
    assert_eq!(got, HUGE, "and then all of it comes");
    let ended = house.api.end_of(&job).await;
    assert_eq!((&ended["status"], &ended["summary"]["bytes"]), (&json!("succeeded"), &json!(HUGE)), "{ended}");
    let grown = peak_memory(house.server_pid()) - before;
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// The bytes; where the page that waits comes, it is asked for again as a browser does.
async fn fetch(url: &str, token: &str, job: &str) -> Response {
    until("the download begins", async || {
        let ask = Client::new().get(format!("{url}/downloads/{job}")).bearer_auth(token);
        let answer = ask.header(header::ACCEPT, "application/json").send().await.unwrap();
        Some(answer).filter(|answer| !answer.headers().contains_key(header::REFRESH))
    })
    .await
}

/// A server with short patience, and an agent of the test's own that was sent a download.
struct Stage {
    server: Local,
    host: Enrolled,
    _agent: RawAgent,
    job: String,
}

impl Stage {
    async fn set() -> Self {
        let short = Duration::from_secs(1);
        let options = FleetOptions { errand_within: short, fetched_within: short, ..FleetOptions::default() };
        let server = Local::start(system_clock(), options).await;
        let host = enrol(&server.api, "web").await;
        let (mut agent, _) = RawAgent::connect(&server.running.url, &host.token, json!([])).await;
        let repo = json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x", "init": true});
        let repo = server.api.repo(repo).await;
        let dump =
            json!({"kind": "dump", "repo_id": repo, "snapshot": "abcd1234", "path": "/etc/hosts", "form": "file"});
        let job = server.api.order(&host.host_id, dump).await;
        assert_eq!(agent.ordered().await, job);
        agent.started(&job).await;
        Self { server, host, _agent: agent, job }
    }

    /// Posts as the job does; status and words of the answer.
    async fn post(&self, what: &str, body: Body) -> (u16, String) {
        let url = format!("{}/agent/jobs/{}/{what}", self.server.running.url, self.job);
        let ask = Client::new().request(Method::POST, url).bearer_auth(&self.host.token).body(body);
        let answer = ask.send().await.unwrap();
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.unwrap_or_default();
        (status, problem["detail"].as_str().unwrap_or_default().to_owned())
    }
}

/// Begins a post to the guard and never goes on; status and text of the answer.
async fn endless(url: &str, token: &str, job: &str) -> (u16, String) {
    let mut tcp = TcpStream::connect(url.split("://").nth(1).unwrap()).await.unwrap();
    let head = format!(
        "POST /agent/jobs/{job}/guard HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{{"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[tokio::test]
async fn a_question_to_the_guard_that_is_too_large_or_too_slow_or_one_too_many_is_refused_with_what_to_do() {
    let stage = Stage::set().await;
    let (status, why) = stage.post("guard", Body::from(vec![b' '; flotilla_proto::MAX_GUARD_BYTES + 1])).await;
    assert_eq!(status, 413, "{why}");
    assert!(why.contains("give the forget fewer snapshots at once"), "{why}");
    let (status, why) = endless(&stage.server.running.url, &stage.host.token, &stage.job).await;
    assert_eq!(status, 408, "{why}");
    assert!(why.contains("did not come within 1 s") && why.contains("run the job again"), "{why}");
    let (status, why) = stage.post("guard", Body::from("{")).await;
    assert_eq!((status, why.contains("cannot be understood")), (422, true), "{why}");
    let (status, why) = stage.post("guard", Body::from(r#"{"dry_run": true, "fates": []}"#)).await;
    assert_eq!(status, 404, "a download is no forget: {why}");
    stage.server.stop().await;
}

#[tokio::test]
async fn two_questions_are_read_at_a_time_and_one_that_waits_too_long_is_told_to_come_back() {
    let options = FleetOptions { errand_within: Duration::from_secs(60), ..FleetOptions::default() };
    let server = Local::start(system_clock(), options).await;
    let host = enrol(&server.api, "web").await;
    let (base, job) = (server.running.url.clone(), JobId::from_parts(1, 1).to_string());
    let third = async {
        let url = format!("{base}/agent/jobs/{job}/guard");
        // As long as the two are not at their places it is read at once, and is no job's.
        let answer = until("there is no place", async || {
            let answer = Client::new().post(&url).bearer_auth(&host.token).body("{}").send().await.unwrap();
            Some(answer).filter(|answer| answer.status() != 422 && answer.status() != 404)
        })
        .await;
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER)), (503, true));
        let problem: Value = answer.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("too many forgets ask at once"), "{problem}");
    };
    tokio::select! {
        biased;
        over = endless(&base, &host.token, &job) => panic!("the first is over: {over:?}"),
        over = endless(&base, &host.token, &job) => panic!("the second is over: {over:?}"),
        () = third => {}
    }
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_nobody_fetches_and_one_download_too_many_are_refused() {
    let stage = Stage::set().await;
    let (status, why) = stage.post("download", Body::from("the bytes")).await;
    assert_eq!((status, why.as_str()), (408, "no browser came to fetch it"));
    let downloads = stage.server.running.state.hub.downloads();
    let open: Vec<_> = (0..OPEN).map(|n| downloads.claim(JobId::from_parts(5, n as u128)).unwrap()).collect();
    let (status, why) = stage.post("download", Body::from("the bytes")).await;
    assert_eq!(status, 503, "{why}");
    assert!(why.contains("too many downloads are open"), "{why}");
    drop(open);
    let (status, _) = stage.post("download", Body::from("the bytes")).await;
    assert_eq!(status, 408, "there is room again");
    stage.server.stop().await;
}
