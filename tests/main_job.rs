//! The main job on real parts: enrol a host, back it up, watch it live, get the files back; and what happens when a part of it breaks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "main_job/hooks.rs"]
mod hooks;
#[path = "support/house.rs"]
mod house;
#[path = "main_job/interruptions.rs"]
mod interruptions;
#[path = "main_job/secrets.rs"]
mod secrets;
#[path = "main_job/troubles.rs"]
mod troubles;

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use house::{
    House,
    api::assert_whole,
    repository::RestServer,
    tree::{assert_same, write_files, write_odd_tree},
    viewer::Viewer,
};

/// A path as the API takes it.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The lines without what the API and the stream may say differently.
fn as_streamed(lines: &[Value]) -> Vec<(u64, String, String, String)> {
    let word = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    lines
        .iter()
        .map(|line| (line["seq"].as_u64().unwrap(), word(line, "at"), word(line, "stream"), word(line, "text")))
        .collect()
}

#[tokio::test]
async fn a_host_is_enrolled_backed_up_watched_and_its_files_come_back_byte_by_byte() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_odd_tree(&source);
    let agent = house.agent("web").await;
    let repo = house.api.repo(rest.input("vault")).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 0).await;

    let job = house.api.back_up(&agent.host_id, &plan).await;
    let streamed = Viewer::open(&house.api, &house.url, &job, 0).await.read_all().await;
    let ended = house.api.end_of(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_eq!(ended["exit_code"], 0);
    assert!(ended["summary"]["snapshot_id"].as_str().is_some_and(|id| id.len() == 64), "{ended}");
    assert_eq!(rest.snapshots("vault").len(), 1);
    assert_eq!(rest.locks("vault"), 0);

    // What was streamed is what is stored, line for line, however it is asked for.
    assert_eq!((streamed.code, streamed.finished["status"].as_str()), (1000, Some("succeeded")));
    assert_eq!(streamed.gaps, []);
    let stored = house.api.log(&job, 7).await;
    assert!(stored.len() > 20, "the plan logs every file: {stored:?}");
    assert_whole(&stored);
    assert_eq!(ended["log_lines"], stored.len());
    assert_eq!(as_streamed(&streamed.lines), as_streamed(&stored));
    let as_text: String = stored.iter().map(|line| format!("{}\n", line["text"].as_str().unwrap())).collect();
    assert_eq!(house.api.log_text(&job).await, as_text);
    let later = Viewer::open(&house.api, &house.url, &job, 5).await.read_all().await;
    assert_eq!(as_streamed(&later.lines), as_streamed(&stored[5..]));

    let target = house.folder("restored");
    let restore = json!({"kind": "restore", "repo_id": repo, "snapshot": "latest", "target": text(&target)});
    let job = house.api.order(&agent.host_id, restore).await;
    let ended = house.api.end_of(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_same(&source, &target.join(source.strip_prefix("/").unwrap()));
}

#[tokio::test]
async fn what_an_endpoint_has_backed_up_it_cannot_remove() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 3, 1000);
    let agent = house.agent("web").await;
    let repo = house.api.repo(rest.ready("vault")).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 0).await;
    for _ in 0..2 {
        let job = house.api.back_up(&agent.host_id, &plan).await;
        assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    }
    let before = rest.snapshots("vault");
    assert_eq!(before.len(), 2);
    for wish in [
        &["forget", "latest"][..],
        &["forget", "--keep-last", "1", "--prune"],
        &["forget", "latest", "--unsafe-allow-remove-all"],
    ] {
        // Exit codes lie here: some versions say 0 though nothing was removed. The list tells.
        rest.restic("vault", wish);
        assert_eq!(rest.snapshots("vault"), before, "{wish:?}");
    }
    assert_eq!(rest.restic("vault", &["check", "--read-data"]).code, Some(0));
}

/// That the log names each of the `count` files of [`write_files`] once.
fn assert_names_each_file_once(lines: &[Value], count: usize) {
    let named: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["text"].as_str().unwrap().split_once("file-"))
        .map(|(_, rest)| rest)
        .collect();
    let different: BTreeSet<_> = named.iter().collect();
    assert_eq!((named.len(), different.len()), (count, count));
}
