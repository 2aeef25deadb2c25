//! Power lost at the control plane: all that was never synced is gone, and nothing that was acknowledged. A small library copies each file at each of its
//! syncs; the server is killed in the midst of a stream of lines and started again on the copies alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use house::{
    ADMIN, ADMIN_PASSWORD,
    api::{Api, assert_whole},
    program::{FLOTILLA, Program, command, run},
    raw_agent::{RawAgent, enrol, lines},
    viewer::{Heard, next},
};

/// Two data folders: the one that the server writes, and what of it would be left after a power cut.
struct Disks {
    library: PathBuf,
    written: PathBuf,
    synced: PathBuf,
    folder: tempfile::TempDir,
}

impl Disks {
    /// Builds the library with the C compiler that Rust links with.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let library = root.join("only_synced.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/only_synced.c");
        let mut compiler = Command::new("cc");
        run(compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source), "").must();
        let (written, synced) = (root.join("written"), root.join("synced"));
        fs::create_dir(&written).unwrap();
        fs::create_dir(&synced).unwrap();
        Self { library, written, synced, folder }
    }

    /// The product on the written folder, its syncs watched.
    fn watched(&self, args: &[&str]) -> Command {
        let mut flotilla = command(FLOTILLA);
        flotilla.args(args).arg("--data-dir").arg(&self.written);
        flotilla.env("LD_PRELOAD", &self.library);
        flotilla.env("ONLY_SYNCED_FROM", &self.written).env("ONLY_SYNCED_TO", &self.synced);
        flotilla
    }

    async fn serve(&self, mut serve: Command) -> (Program, String) {
        serve.args(["--listen", "127.0.0.1:0"]);
        let server = Program::start(serve, self.folder.path(), "serve");
        let url = server.said_after("listening on ").await;
        (server, url)
    }
}

#[tokio::test]
async fn a_power_cut_at_the_server_takes_nothing_that_was_acknowledged() {
    let disks = Disks::new();
    let (mut server, url) = disks.serve(disks.watched(&["serve"])).await;
    run(&mut disks.watched(&["user", "add", ADMIN, "--role", "admin", "--password-stdin"]), ADMIN_PASSWORD).must();
    let token = run(&mut disks.watched(&["token", "create", "--user", ADMIN, "--label", "test"]), "").must();
    let api = Api::new(&url, token.trim(), None);
    let host = enrol(&api, "web").await;
    let (mut agent, _) = RawAgent::connect(&url, &host.token, json!([])).await;
    let repo = api.repo(json!({"name": "vault", "url": "rest:http://127.0.0.1:1/", "password": "x"})).await;
    let job = api.order(&host.host_id, json!({"kind": "backup", "repo_id": repo, "args": ["/etc"]})).await;
    assert_eq!(agent.ordered().await, job);
    agent.started(&job).await;

    // Many frames are on their way at any moment, so the cut falls between a write and its sync.
    let mut acked = 0;
    for frame in 0..400_u64 {
        agent.lines(&job, lines(frame * 50 + 1, frame * 50 + 50)).await;
        if frame % 20 == 19
            && let Heard::Frame { kind, payload, .. } = next(&mut agent.0).await
            && kind == "ack"
        {
            acked = payload["seq"].as_u64().unwrap();
        }
    }
    server.kill_hard();
    while let Heard::Frame { kind, payload, .. } = next(&mut agent.0).await {
        if kind == "ack" {
            acked = payload["seq"].as_u64().unwrap();
        }
    }
    assert!(acked >= 1000, "only {acked} lines were acknowledged before the cut");

    let mut again = command(FLOTILLA);
    again.arg("serve").arg("--data-dir").arg(&disks.synced);
    let (_server, url) = disks.serve(again).await;
    let api = Api::new(&url, token.trim(), None);
    let stored = api.log(&job, 1000).await;
    assert_whole(&stored);
    assert!(stored.len() as u64 >= acked, "{acked} lines were acknowledged, {} are left", stored.len());
    assert_eq!(stored.last().unwrap()["text"], format!("line {}", stored.len()));
    let (_agent, welcome) =
        RawAgent::connect(&url, &host.token, json!([{"job_id": job, "last_seq": acked, "state": "running"}])).await;
    assert_eq!(welcome["acked"][&job], stored.len());
    let mut check = command(FLOTILLA);
    run(check.args(["db", "check", "--data-dir"]).arg(&disks.synced), "").must();
}
