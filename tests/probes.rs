//! Health probes and restarts on real parts: a control plane as a process, services that answer, hang and break, an agent that really restarts one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
};

use reqwest::Method;
use serde_json::{Value, json};

use house::{Agent, House, wait::until};

/// A service that answers as it is told: a status, or one of these.
struct Service {
    address: SocketAddr,
    mode: Arc<AtomicU16>,
    /// Connections that hang stay open as long as it lives.
    _held: mpsc::Receiver<TcpStream>,
}

/// Breaks the connection off.
const RESET: u16 = 1;
/// Takes it, and says nothing.
const SILENT: u16 = 2;
/// Says a little now and then, for ever.
const SLOW: u16 = 3;
/// Says something that is no HTTP.
const GARBAGE: u16 = 4;

impl Service {
    fn start(mode: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, mode) = (listener.local_addr().unwrap(), Arc::new(AtomicU16::new(mode)));
        let (hold, held) = mpsc::channel();
        let told = Arc::clone(&mode);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (mode, hold) = (told.load(Ordering::SeqCst), hold.clone());
                thread::spawn(move || answer(stream, mode, &hold));
            }
        });
        Self { address, mode, _held: held }
    }

    fn now(&self, mode: u16) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn http(&self) -> Value {
        json!({"type": "http", "url": format!("http://{}/health", self.address), "expect": {"mode": "any"}})
    }
}

fn answer(mut stream: TcpStream, mode: u16, hold: &mpsc::Sender<TcpStream>) {
    // What is closed with something unread is reset.
    stream.peek(&mut [0]).ok();
    if mode == RESET {
        return;
    }
    assert!(stream.read(&mut [0; 4096]).is_ok_and(|heard| heard > 0));
    match mode {
        SILENT => {
            hold.send(stream).ok();
        }
        SLOW => {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: ").ok();
            while stream.write_all(b"a").is_ok() && stream.read(&mut [0]).is_err() {}
        }
        GARBAGE => {
            stream.write_all(b"220 mail.example ESMTP\r\n").ok();
            stream.shutdown(Shutdown::Write).ok();
        }
        status => {
            let text =
                format!("HTTP/1.1 {status} Said\r\nContent-Length: 11\r\nConnection: close\r\n\r\nstatus: {status}");
            stream.write_all(text.as_bytes()).ok();
        }
    }
}

async fn host(house: &House, name: &str) -> String {
    let made = house.api.post("/api/hosts", json!({"name": name, "health": null, "restart": null})).await;
    made.must(201)["id"].as_str().unwrap().to_owned()
}

/// A probe with these fields besides; asked seldom by the clock, so that a test's own questions count.
async fn probe(house: &House, host: &str, name: &str, question: Value, more: Value) -> String {
    let mut body = json!({"host_id": host, "name": name, "question": question, "interval_s": 86_400, "timeout_s": 1});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    house.api.post("/api/probes", body).await.must(201)["id"].as_str().unwrap().to_owned()
}

async fn check(house: &House, probe: &str) -> Value {
    house.api.post(&format!("/api/probes/{probe}/check"), json!({})).await.must(200)
}

/// Asks once; healthy or not, and the probe's state with it.
async fn asked(house: &House, probe: &str) -> (bool, String) {
    let answer = check(house, probe).await;
    (answer["answer"]["healthy"].as_bool().unwrap(), answer["probe"]["state"].as_str().unwrap().to_owned())
}

async fn alerts(house: &House, open: bool) -> Vec<Value> {
    let found = house.api.get(&format!("/api/alerts?open={open}")).await;
    let all = found["items"].as_array().unwrap().iter();
    all.filter(|alert| alert["kind"] == "unhealthy").cloned().collect()
}

/// A probe whose every answer is its state, and whose first question by the clock is over.
async fn undamped(house: &House, host: &str, name: &str, question: Value) -> String {
    let id = probe(house, host, name, question, json!({"need": 1, "of": 1})).await;
    until("the clock asks", async || {
        let found = house.api.get(&format!("/api/probes/{id}")).await;
        (found["state"] != "unknown").then_some(())
    })
    .await;
    id
}

#[tokio::test]
async fn any_status_is_a_healthy_answer_and_what_breaks_hangs_or_babbles_is_not() {
    let house = House::start().await;
    let host = host(&house, "web").await;
    let service = Service::start(200);
    let id = undamped(&house, &host, "shop", service.http()).await;
    for status in [200, 401, 500, 302] {
        service.now(status);
        let answer = check(&house, &id).await["answer"].clone();
        assert!(answer["healthy"] == true && answer["latency_ms"].is_u64(), "{status}: {answer}");
    }
    for (mode, words) in [
        (RESET, "(reset)"),
        (SILENT, "gave no answer within 1 s"),
        (SLOW, "gave no answer within 1 s"),
        (GARBAGE, "does not speak HTTP/1.1"),
    ] {
        service.now(mode);
        let answer = check(&house, &id).await;
        assert!(answer["answer"]["detail"].as_str().unwrap().contains(words), "{words}: {answer}");
        assert_eq!((&answer["answer"]["healthy"], &answer["probe"]["state"]), (&json!(false), &json!("unhealthy")));
    }
    let past = house.api.get(&format!("/api/probes/{id}/answers")).await;
    let past = past["items"].as_array().unwrap();
    assert_eq!(past.len(), 9, "the clock's one and those of this test: {past:?}");
    assert!(past.windows(2).all(|two| two[0]["at"].as_str() < two[1]["at"].as_str()));
}

#[tokio::test]
async fn two_services_of_one_host_have_a_state_each_and_an_alert_each() {
    let house = House::start().await;
    let host = host(&house, "web").await;
    let (shop, blog) = (Service::start(200), Service::start(200));
    let first = undamped(&house, &host, "shop", shop.http()).await;
    let second = undamped(&house, &host, "blog", blog.http()).await;
    shop.now(RESET);
    assert_eq!(asked(&house, &first).await, (false, "unhealthy".to_owned()));
    assert_eq!(asked(&house, &second).await, (true, "healthy".to_owned()));
    let open = alerts(&house, true).await;
    assert_eq!(open.len(), 1, "{open:?}");
    assert_eq!((&open[0]["title"], &open[0]["subject"]), (&json!("shop on web is not healthy"), &json!(first)));
    assert!(open[0]["detail"].as_str().unwrap().contains("(reset)"), "{open:?}");
    assert_eq!(open[0]["link"], format!("/hosts/{host}?tab=health"));
    blog.now(SILENT);
    asked(&house, &second).await;
    assert_eq!(alerts(&house, true).await.len(), 2);
    shop.now(500);
    assert_eq!(asked(&house, &first).await, (true, "healthy".to_owned()));
    assert_eq!(alerts(&house, true).await.len(), 1, "cleared by the good answer");
    house.api.ask(Method::DELETE, &format!("/api/hosts/{host}"), None).await.must(204);
    assert_eq!(alerts(&house, true).await.len(), 0, "cleared with the host");
    assert_eq!(house.api.get("/api/probes").await["items"], json!([]));
}

#[tokio::test]
async fn one_bad_answer_is_no_outage_and_removing_or_pausing_a_probe_clears_its_alert() {
    let house = House::start().await;
    let host = host(&house, "web").await;
    let service = Service::start(200);
    let id = probe(&house, &host, "shop", service.http(), json!({})).await;
    until("two good answers", async || (asked(&house, &id).await.1 == "healthy").then_some(())).await;
    service.now(RESET);
    assert_eq!(asked(&house, &id).await, (false, "healthy".to_owned()));
    service.now(200);
    assert_eq!(asked(&house, &id).await, (true, "healthy".to_owned()));
    service.now(RESET);
    assert_eq!(asked(&house, &id).await, (false, "unhealthy".to_owned()), "two of the last three");
    assert_eq!(alerts(&house, true).await.len(), 1);
    service.now(200);
    assert_eq!(asked(&house, &id).await, (true, "unhealthy".to_owned()), "one good answer is no recovery");
    let path = format!("/api/probes/{id}");
    let paused = house.api.ask(Method::PATCH, &path, Some(json!({"enabled": false}))).await.must(200);
    assert_eq!((&paused["state"], &paused["enabled"]), (&json!("unknown"), &json!(false)));
    assert_eq!(alerts(&house, true).await.len(), 0);
    let changed = json!({"enabled": true, "need": 1, "question": {"type": "tcp", "address": "127.0.0.1:1"}});
    house.api.ask(Method::PATCH, &path, Some(changed)).await.must(200);
    assert_eq!(asked(&house, &id).await, (false, "unhealthy".to_owned()));
    house.api.ask(Method::DELETE, &path, None).await.must(204);
    assert_eq!((alerts(&house, true).await.len(), alerts(&house, false).await.len()), (0, 2));
    house.api.ask(Method::GET, &path, None).await.must(404);
    house.api.post(&format!("{path}/check"), json!({})).await.must(404);
}

#[tokio::test]
async fn the_clock_asks_again_and_again_also_after_a_power_cut() {
    let mut house = House::start().await;
    let host = host(&house, "web").await;
    let service = Service::start(200);
    let fast = json!({"interval_s": 5, "timeout_s": 1});
    let id = probe(&house, &host, "shop", service.http(), fast).await;
    let path = format!("/api/probes/{id}");
    until("it is healthy", async || (house.api.get(&path).await["state"] == "healthy").then_some(())).await;
    house.kill_and_restart().await;
    let before = house.api.get(&path).await;
    assert_eq!(before["state"], "healthy", "what was known is known");
    service.now(RESET);
    until("it is unhealthy", async || (house.api.get(&path).await["state"] == "unhealthy").then_some(())).await;
    assert_eq!(alerts(&house, true).await.len(), 1);
}

#[tokio::test]
async fn a_probe_that_can_not_be_asked_is_refused_with_all_that_is_wrong() {
    let house = House::start().await;
    let host = host(&house, "web").await;
    let http = |url: &str| json!({"type": "http", "url": url, "expect": {"mode": "any"}});
    for (change, field) in [
        (json!({"name": ""}), "name"),
        (json!({"question": http("ftp://web/")}), "question.url"),
        (json!({"question": http("http://ada:secret@web/")}), "question.url"),
        (json!({"question": http("http://host; rm -rf/")}), "question.url"),
        (json!({"question": {"type": "tcp", "address": "host; rm:22"}}), "question.address"),
        (json!({"question": {"type": "tcp", "address": "web"}}), "question.address"),
        (
            json!({"question": {"type": "http", "url": "http://web", "expect": {"mode": "status", "codes": [42]}}}),
            "question.expect.codes",
        ),
        (
            json!({"question": {"type": "http", "url": "http://web", "expect": {"mode": "body", "pattern": "("}}}),
            "question.expect.pattern",
        ),
        (json!({"question": {"type": "ping", "address": "web"}}), "question"),
        (json!({"question": {"type": "tcp", "address": "web:1", "port": 1}}), "question"),
        (json!({"interval_s": 4}), "interval_s"),
        (json!({"interval_s": 86_401}), "interval_s"),
        (json!({"timeout_s": 61, "interval_s": 600}), "timeout_s"),
        (json!({"timeout_s": 0}), "timeout_s"),
        (json!({"interval_s": 5, "timeout_s": 5}), "timeout_s"),
        (json!({"need": 4, "of": 3}), "need"),
        (json!({"need": 0}), "need"),
        (json!({"of": 11}), "of"),
        (json!({"host_id": "01KAHXVHK0000000000000000A"}), "host_id"),
        (json!({"site_id": "01KAHXVHK0000000000000000A"}), "site_id"),
        (json!({"intervall_s": 60}), "intervall_s"),
    ] {
        let mut body = json!({"host_id": host, "name": "shop", "question": http("http://web.example/")});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = house.api.post("/api/probes", body).await.must(422);
        let fields: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|error| &error["field"]).collect();
        assert!(fields.iter().any(|named| named.as_str().unwrap().starts_with(field)), "{change}: {refused}");
    }
    assert_eq!(house.api.get("/api/probes").await["items"], json!([]));
    let other = house
        .api
        .post("/api/probes", json!({"host_id": host, "name": "shop", "question": http("http://web.example/")}))
        .await;
    let other = other.must(201);
    assert_eq!(
        (&other["interval_s"], &other["timeout_s"], &other["need"], &other["of"]),
        (&json!(60), &json!(5), &json!(2), &json!(3))
    );
}

/// A web service of its own process, started by a script as an operator's would be: it stops what runs, starts anew and leaves it running.
struct Shop {
    folder: PathBuf,
    port: u16,
}

impl Shop {
    fn new(house: &House) -> Self {
        let folder = house.folder("shop");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shop = Self { folder, port };
        let pid = shop.folder.join("pid");
        // Told apart by the words of its own start; the output must not keep the command's pipes open.
        shop.script(&format!(
            "if [ -f {pid} ]; then kill \"$(cat {pid})\" 2>/dev/null; fi\n(sleep 1; exec python3 -m http.server --bind 127.0.0.1 {port}) >/dev/null 2>&1 </dev/null &\necho $! >{pid}\necho started",
            pid = pid.display(),
        ));
        shop
    }

    fn script(&self, body: &str) {
        let path = self.folder.join("restart.sh");
        fs::write(&path, format!("#!/bin/bash\ncd {}\n{body}\n", self.folder.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.folder.join("pid")).unwrap().trim().to_owned()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        Command::new("kill").arg(self.pid()).status().ok();
    }
}

async fn restart(house: &House, agent: &Agent) -> Value {
    let job = house.api.order(&agent.host_id, json!({"kind": "restart"})).await;
    house.api.end_of(&job).await;
    until("what came after it is known", async || {
        let job = house.api.get(&format!("/api/jobs/{job}")).await;
        (job["aftermath"]["state"] != "waiting").then_some(job)
    })
    .await
}

async fn shown(house: &House, path: &str) -> String {
    house.api.client(Method::GET, path).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_service_that_is_really_restarted_is_healthy_again_or_is_said_not_to_be() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    fs::write(agent.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    let shop = Shop::new(&house);
    let command = json!({"restart": {"command": "restart.sh", "timeout_s": 10, "path": shop.folder}});
    house.api.ask(Method::PATCH, &format!("/api/hosts/{}", agent.host_id), Some(command)).await.must(200);
    // Without a probe the command's word is all there is.
    let end = restart(&house, &agent).await;
    assert_eq!((&end["status"], &end["aftermath"]), (&json!("succeeded"), &json!({"state": "not_asked"})), "{end}");
    let first = shop.pid();

    let question = json!({"type": "http", "url": format!("http://127.0.0.1:{}/", shop.port), "expect": {"mode": "status", "codes": [200]}});
    probe(&house, &agent.host_id, "shop", question, json!({})).await;
    let end = restart(&house, &agent).await;
    assert_eq!((&end["status"], &end["aftermath"]["state"]), (&json!("succeeded"), &json!("healthy")), "{end}");
    assert_ne!(shop.pid(), first, "another process");
    assert!(end["aftermath"]["after_ms"].as_i64().unwrap() < 60_000, "{end}");

    // A restart that breaks it: the command ends well all the same.
    shop.script(&format!("kill $(cat {})", shop.folder.join("pid").display()));
    let end = restart(&house, &agent).await;
    assert_eq!((&end["status"], &end["aftermath"]["state"]), (&json!("succeeded"), &json!("unhealthy")), "{end}");
    assert!(end["aftermath"]["detail"].as_str().unwrap().starts_with("shop: nothing listens at"), "{end}");
    let id = end["id"].as_str().unwrap();
    assert!(shown(&house, &format!("/jobs/{id}")).await.contains("Restarted, not healthy: shop: nothing listens"));
}
