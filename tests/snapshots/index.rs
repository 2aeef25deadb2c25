//! The index stays true: at once behind each job that changes snapshots, through a power cut in the middle of taking a list, and under every filter.

use std::{collections::BTreeSet, fs};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use super::{Stage, encoded, names, text, until};

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn behind_a_forget_a_tag_and_a_copy_the_index_is_true_without_another_list() {
    let stage = Stage::deletable().await;
    let api = &stage.house.api;
    let first = stage.back_up().await;
    stage.first_list().await;
    let (second, third) = (stage.back_up().await, stage.back_up().await);
    let lists = stage.lists().await;

    let forget = json!({"kind": "forget", "repo_id": stage.repo, "retention": {"keep_last": 2}});
    let job = api.order(&stage.agent.host_id, forget).await;
    let ended = api.end_of(&job).await;
    assert_eq!((&ended["status"], &ended["summary"]["count"]), (&json!("succeeded"), &json!(2)), "{ended}");
    until("the removed one is gone", async || (ids(&stage.listed("").await) == [&third, &second]).then_some(())).await;
    let row = api.get(&stage.of_snapshot(&first, "")).await;
    assert_eq!(row["gone_by"], json!(job), "{row}");

    let tag = json!({"kind": "tag", "repo_id": stage.repo, "snapshots": [third], "add": ["kept"]});
    let ended = api.end_of(&api.order(&stage.agent.host_id, tag).await).await;
    assert_eq!((&ended["status"], &ended["summary"]["count"]), (&json!("succeeded"), &json!(2)), "{ended}");
    let tagged = until("the new one is there", async || stage.listed("?tag=kept").await.pop()).await;
    assert_eq!((&tagged["original"], tagged["job_id"].is_null()), (&json!(third), false), "{tagged}");
    let new = tagged["id"].as_str().unwrap();
    until("the old one is gone", async || (ids(&stage.listed("").await) == [new, &second]).then_some(())).await;

    let to = api.repo(stage.rest.input("second")).await;
    let copy = json!({"kind": "copy", "repo_id": stage.repo, "to": to});
    let ended = api.end_of(&api.order(&stage.agent.host_id, copy).await).await;
    assert_eq!((&ended["status"], &ended["summary"]["count"]), (&json!("succeeded"), &json!(2)), "{ended}");
    until("both are in the second one", async || (stage.listed_in(&to, "").await.len() == 2).then_some(())).await;
    assert_eq!(stage.lists().await, lists, "nobody had to list a repository for that");
}

#[tokio::test]
async fn a_power_cut_in_the_middle_of_taking_a_folder_leaves_no_half_and_it_is_taken_again() {
    const FILES: usize = 20_000;
    let mut stage = Stage::set().await;
    let large = stage.source.join("large");
    let folder = large.clone();
    // Not on this thread: the server closes a connection that is not used for long, and whoever holds it has to see that.
    let written = tokio::task::spawn_blocking(move || {
        fs::create_dir(&folder).unwrap();
        (0..FILES).for_each(|n| fs::write(folder.join(format!("file {n}")), "").unwrap());
    });
    written.await.unwrap();
    let id = stage.back_up().await;
    let path = text(&large).to_owned();
    let (order, address) =
        (stage.of_snapshot(&id, "/tree"), stage.of_snapshot(&id, &format!("/tree?path={}&limit=1000", encoded(&path))));
    stage.house.api.post(&order, json!({ "path": path })).await.must(202);

    let file = stage.house.data_dir().join("flotilla.db");
    let look = || {
        let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap() as usize;
        let due = count("SELECT count(*) FROM jobs WHERE kind = 'ls' AND records_due = 1");
        (count("SELECT count(*) FROM tree_nodes"), due)
    };
    until("the folder is being taken", async || (look().0 > 0).then_some(())).await;
    stage.house.kill();
    let (taken, due) = look();
    assert!(taken < FILES && due == 1, "{taken} of {FILES} were taken: the test came too late");
    stage.house.kill_and_restart().await;

    let first = until("the folder is there", async || {
        let answer = stage.house.api.ask(reqwest::Method::GET, &address, None).await;
        assert!([200, 202].contains(&answer.status), "{} {}", answer.status, answer.body);
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(first["entries"], json!(FILES));
    let (mut seen, mut page) = (BTreeSet::new(), first);
    loop {
        for name in names(page["items"].as_array().unwrap()) {
            assert!(seen.insert(name.to_owned()), "{name} is there twice");
        }
        let Some(next) = page["next"].as_str() else { break };
        page = stage.house.api.get(&format!("{address}&after={}", encoded(next))).await;
    }
    assert_eq!(seen.len(), FILES);
    assert_eq!(look(), (FILES, 0), "nothing of the half is left");
}

#[tokio::test]
async fn snapshots_are_told_apart_by_host_path_tag_and_time_and_searched_by_host() {
    let stage = Stage::set().await;
    let api = &stage.house.api;
    let first = stage.back_up().await;
    let other = stage.house.agent("other").await;
    let elsewhere = stage.house.folder("elsewhere");
    fs::write(elsewhere.join("notes.txt"), "theirs").unwrap();
    let plan = api.plan(&other.host_id, &stage.repo, &[text(&elsewhere)], 0).await;
    let theirs = api.end_of(&api.back_up(&other.host_id, &plan).await).await;
    let theirs_id = theirs["summary"]["snapshot_id"].as_str().unwrap();
    let last = stage.back_up().await;
    let time = api.get(&stage.of_snapshot(theirs_id, "")).await["time"].as_str().unwrap().to_owned();

    let own = [last.as_str(), &first];
    let filters = [
        (format!("?host_id={}", stage.agent.host_id), own.to_vec()),
        ("?hostname=other".to_owned(), vec![theirs_id]),
        (format!("?path={}", encoded(text(&stage.source.join("sub/deeper")))), own.to_vec()),
        (format!("?path={}x", encoded(text(&stage.source))), vec![]),
        (format!("?tag=job-{}", theirs["id"].as_str().unwrap()), vec![theirs_id]),
        (format!("?since={time}&hostname=web"), vec![last.as_str()]),
        (format!("?until={time}"), vec![first.as_str()]),
    ];
    for (query, wanted) in filters {
        assert_eq!(ids(&stage.listed(&query).await), wanted, "{query}");
    }

    for (wish, found) in [
        (json!({"pattern": "notes.*"}), 3),
        (json!({"pattern": "NOTES.*", "ignore_case": true, "host_id": stage.agent.host_id}), 2),
        (json!({"pattern": "notes.*", "hostname": "other"}), 1),
        (json!({"pattern": "notes.*", "snapshots": [first]}), 1),
    ] {
        let job = stage.ordered("/find", wish.clone()).await;
        let results = stage.results(&format!("/find/{job}")).await;
        assert_eq!(results["count"], found, "{wish}: {results}");
    }
}
