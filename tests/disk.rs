//! The control plane's disk is full: what was acknowledged stays, nothing is acknowledged that is not stored, people can look, agents come back, and
//! all goes on by itself once there is room. The real program, on a file system of 16 MiB, and under a bound for the size of its files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use reqwest::Method;
use serde_json::{Value, json};

use house::{
    api::Api,
    program::{FLOTILLA, Program, command, run},
    raw_agent::{Enrolled, RawAgent, enrol, line},
    viewer::{Heard, next},
    wait::until,
};

/// Lines of one frame, 2 KiB each.
const FRAME: u64 = 32;
/// What a small file system holds, and what of it is taken by something else.
const DISK: &str = "16m";
const BALLAST: usize = 8 << 20;

/// A server whose disk can be filled and freed.
struct Server {
    program: Program,
    api: Api,
    url: String,
    disk: Disk,
    _folder: tempfile::TempDir,
}

/// How its disk is small.
enum Disk {
    /// A file system of its own; the file that takes up half of it.
    Tmpfs(PathBuf),
    /// No file may grow past 8 MiB, until the limit is raised.
    FileSize,
}

impl Server {
    /// On a file system of 16 MiB in a mount namespace of its own, where one may be made.
    async fn on_a_small_file_system() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, token) = prepared(folder.path()).await;
        let small = folder.path().join("small");
        fs::create_dir(&small).unwrap();
        let namespaces = [&["--mount"][..], &["--mount", "--user", "--map-root-user"]];
        let mount = format!("mount -t tmpfs -o size={DISK} none '{}'", small.display());
        let allowed = namespaces.into_iter().find(|flags| {
            let mut probe = Command::new("unshare");
            probe.args(*flags).args(["sh", "-c", &mount]).stderr(std::process::Stdio::null());
            probe.status().is_ok_and(|status| status.success())
        });
        let Some(flags) = allowed else { return Self::on_shared_memory(&data, &token).await };
        let mut serve = command("unshare");
        let place = small.display();
        let script = format!(
            "{mount} && cp -a \"$1\" '{place}/data' && exec \"$0\" serve --listen 127.0.0.1:0 --data-dir '{place}/data'"
        );
        serve.args(flags).args(["sh", "-c", &script, FLOTILLA]).arg(data);
        let program = Program::start(serve, folder.path(), "server");
        program.said_after("listening on ").await;
        // As this process sees what only that one has mounted.
        let ballast = PathBuf::from(format!("/proc/{}/root{place}/ballast", program.pid()));
        fs::write(&ballast, vec![0; BALLAST]).unwrap();
        Self::ready(program, &token, Disk::Tmpfs(ballast), folder).await
    }

    /// On what a plain container, which may not mount, has at /dev/shm: 64 MiB mostly, all but 8 of them taken.
    async fn on_shared_memory(data: &Path, token: &str) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let own = folder.path().join("data");
        run(Command::new("cp").arg("-a").args([data, &own]), "").must();
        let mut serve = command(FLOTILLA);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&own);
        // What it says must not need the room that it has not.
        let program = Program::start(serve, data.parent().unwrap(), "server");
        program.said_after("listening on ").await;
        let free = flotilla::store::disk_free(&own).unwrap();
        assert!(free < 1 << 30, "/dev/shm is too large to be filled, and unshare --mount is not allowed here");
        let ballast = folder.path().join("ballast");
        fs::write(&ballast, vec![0; usize::try_from(free).unwrap() - BALLAST]).unwrap();
        Self::ready(program, token, Disk::Tmpfs(ballast), folder).await
    }

    /// With a bound for the size of each file, which any user can set and lift anywhere.
    async fn with_a_bound_for_files() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, token) = prepared(folder.path()).await;
        let mut serve = command("sh");
        // Blocks of 512 bytes; the signal would end the program, the error is what a full disk gives.
        let script = "trap '' XFSZ; ulimit -S -f 16384; exec \"$0\" serve --listen 127.0.0.1:0 --data-dir \"$1\"";
        serve.args(["-c", script, FLOTILLA]).arg(&data);
        let program = Program::start(serve, folder.path(), "server");
        program.said_after("listening on ").await;
        Self::ready(program, &token, Disk::FileSize, folder).await
    }

    async fn ready(program: Program, token: &str, disk: Disk, folder: tempfile::TempDir) -> Self {
        let url = program.said_after("listening on ").await;
        Self { program, api: Api::new(&url, token, None), url, disk, _folder: folder }
    }

    fn make_room(&self) {
        match &self.disk {
            Disk::Tmpfs(ballast) => fs::remove_file(ballast).unwrap(),
            Disk::FileSize => {
                let pid = format!("--pid={}", self.program.pid());
                assert!(Command::new("prlimit").args([&pid, "--fsize=unlimited"]).status().unwrap().success());
            }
        }
    }

    async fn is_ready(&self) -> bool {
        self.api.ask(Method::GET, "/readyz", None).await.status == 200
    }

    /// A connected agent that runs a job.
    async fn running(&self) -> (RawAgent, Enrolled, String) {
        let host = enrol(&self.api, "raw").await;
        let (mut agent, _) = RawAgent::connect(&self.url, &host.token, json!([])).await;
        let repo = json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x", "init": true});
        let repo = self.api.repo(repo).await;
        let order = json!({"kind": "backup", "repo_id": repo, "args": ["/etc"]});
        let job = self.api.order(&host.host_id, order).await;
        assert_eq!(agent.ordered().await, job);
        agent.started(&job).await;
        agent.is_fine().await;
        (agent, host, job)
    }
}

/// A data folder that a server has used and left, with an administrator's token.
async fn prepared(folder: &Path) -> (PathBuf, String) {
    let data = folder.join("data");
    let mut serve = command(FLOTILLA);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    let mut first = Program::start(serve, folder, "first");
    first.said_after("listening on ").await;
    let tool = |arguments: &[&str], input: &str| {
        run(command(FLOTILLA).args(arguments).arg("--data-dir").arg(&data), input).must().trim().to_owned()
    };
    tool(&["user", "add", "ada", "--role", "admin", "--password-stdin"], "correct horse battery");
    let token = tool(&["token", "create", "--user", "ada", "--label", "test"], "");
    first.signal("-TERM");
    until("the first server ends", async || first.ended()).await;
    (data, token)
}

/// A line that does not compress, and that its number alone says.
fn text(seq: u64) -> String {
    let mut state = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        format!("{state:016x}")
    };
    std::iter::repeat_with(word).take(128).collect()
}

fn frame(first: u64) -> Vec<Value> {
    (first..first + FRAME).map(|seq| line(seq, &text(seq))).collect()
}

/// Sends lines from `first` on until the link is closed. Returns the last that was acknowledged, and the code.
async fn flood(agent: &mut RawAgent, job: &str, first: u64) -> (u64, u16) {
    let mut acked = first - 1;
    loop {
        agent.lines(job, frame(acked + 1)).await;
        match next(&mut agent.0).await {
            Heard::Frame { kind, payload, .. } if kind == "ack" => {
                let seq = payload["seq"].as_u64().unwrap();
                assert_eq!(seq, acked + FRAME);
                acked = seq;
            }
            Heard::Closed(code) => return (acked, code),
            Heard::Frame { kind, payload, .. } => panic!("{kind}: {payload}"),
        }
        assert!(acked < 100_000, "the disk does not fill up");
    }
}

/// Finds that the log is whole: each line, once, in order, as it was sent.
async fn assert_whole(api: &Api, job: &str, last: u64) {
    let mut seen = 0;
    loop {
        let page = api.get(&format!("/api/jobs/{job}/log?after={seen}&limit=1000")).await;
        for line in page["lines"].as_array().unwrap() {
            seen += 1;
            assert_eq!(line["seq"], seen);
            assert_eq!(line["text"], text(seen), "line {seen}");
        }
        if page["next"].is_null() {
            break;
        }
    }
    assert_eq!(seen, last);
}

async fn survives_a_full_disk(server: Server) {
    let (mut agent, host, job) = server.running().await;
    assert!(server.is_ready().await);
    let (acked, code) = flood(&mut agent, &job, 1).await;
    assert_eq!(code, 1001, "come back later");
    assert!(acked > 0);
    until("readyz tells that the store takes no writes", async || (!server.is_ready().await).then_some(())).await;

    // People can look, and what was acknowledged is there.
    let shown = server.api.get(&format!("/api/jobs/{job}")).await;
    let stored = shown["log_lines"].as_u64().unwrap();
    assert_eq!(stored, acked, "nothing but what was acknowledged is there, and all of that");
    assert_whole(&server.api, &job, stored).await;
    let metrics = server.api.ask(Method::GET, "/metrics", None).await.body;
    let failures =
        metrics.as_str().unwrap().lines().find(|line| line.starts_with("flotilla_store_commit_failures_total"));
    assert!(!failures.unwrap().ends_with(" 0"), "{failures:?}");
    assert_eq!(server.api.ask(Method::GET, "/healthz", None).await.status, 200);
    // What can't be written is refused with words, not with an internal error.
    let refused = server.api.post("/api/enrollment-tokens", json!({})).await;
    assert!(refused.status == 503, "{refused:?}");

    // The agent may come back meanwhile: it is told what is stored, and nothing is acknowledged that is not.
    let known = json!([{"job_id": job, "state": "running", "last_seq": acked}]);
    let (mut agent, welcome) = RawAgent::connect(&server.url, &host.token, known.clone()).await;
    assert_eq!(welcome["acked"][&job], acked);
    let (acked, _) = flood(&mut agent, &job, acked + 1).await;

    server.make_room();
    until("readyz tells that all is well again", async || server.is_ready().await.then_some(())).await;
    let (mut agent, welcome) = RawAgent::connect(&server.url, &host.token, known).await;
    assert_eq!(welcome["acked"][&job], acked);
    let mut last = acked;
    for _ in 0..10 {
        agent.lines(&job, frame(last + 1)).await;
        last += FRAME;
        assert_eq!(agent.hears("ack").await["seq"], last);
    }
    agent.finished(&job, last).await;
    agent.hears("ack").await;
    assert_eq!(server.api.get(&format!("/api/jobs/{job}")).await["status"], "succeeded");
    assert_whole(&server.api, &job, last).await;
}

#[tokio::test]
async fn a_full_file_system_costs_nothing_that_was_acknowledged_and_the_server_goes_on_by_itself() {
    survives_a_full_disk(Server::on_a_small_file_system().await).await;
}

#[tokio::test]
async fn files_that_may_not_grow_cost_nothing_that_was_acknowledged_and_the_server_goes_on_by_itself() {
    survives_a_full_disk(Server::with_a_bound_for_files().await).await;
}
