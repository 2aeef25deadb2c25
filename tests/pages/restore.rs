//! The restore wizard as a browser without scripts meets it: each step, and what each refuses.

use flotilla::{
    domain::{
        BackupSummary, HostId, JobId, JobKind, JobStatus, RepoId,
        job::{Actor, End, JobInput, NewJob},
    },
    paths,
    store::{hosts, jobs},
};
use reqwest::StatusCode;

use super::site::{self, Browser, Site};

const SNAPSHOT: &str = "5fa1c2d85fa1c2d85fa1c2d85fa1c2d85fa1c2d85fa1c2d85fa1c2d85fa1c2d8";

fn files(site: &Site) -> String {
    paths::restore_files(site.ids.repo, SNAPSHOT)
}

async fn operator(site: &Site) -> Browser {
    let browser = site.browser();
    browser.log_in("otto").await;
    browser
}

async fn order_and_end(site: &Site, kind: JobKind, host: HostId, summary: serde_json::Value) -> JobId {
    let (repo, id): (RepoId, JobId) = (site.ids.repo, JobId::from_parts(1_795_248_000_000, 77));
    let job = NewJob {
        about: Default::default(),
        id,
        host_id: host,
        kind,
        actor: Actor::system(),
        plan_id: None,
        repo_id: Some(repo),
        input: JobInput { args: vec!["/etc".to_owned()], ..JobInput::default() },
        rerun_of: None,
        timeout_s: 60,
        moment: None,
        ran_alone: false,
        expires_at: None,
    };
    site.store.write(move |tx| jobs::insert(tx, &job)).await.unwrap();
    end(site, id, host, Some(summary)).await;
    id
}

async fn end(site: &Site, id: JobId, host: HostId, summary: Option<serde_json::Value>) {
    let at = site::ago(5);
    let end = End { status: JobStatus::Succeeded, at, exit_code: Some(0), error: None, summary, log_truncated: false };
    site.store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
}

/// A snapshot of `web-1` that holds `/etc`.
async fn with_snapshot() -> Site {
    let site = Site::start().await;
    let summary = BackupSummary { snapshot_id: Some(SNAPSHOT.to_owned()), ..BackupSummary::default() };
    order_and_end(&site, JobKind::Backup, site.ids.hosts[0], serde_json::to_value(summary).unwrap()).await;
    site
}

#[tokio::test]
async fn snapshots_of_removed_hosts_are_listed_too_and_the_tree_is_fetched_when_somebody_asks() {
    let site = with_snapshot().await;
    let gone = site.ids.hosts[0];
    site.store.write(move |tx| hosts::remove(tx, gone)).await.unwrap();
    let (viewer, browser) = (site.browser(), operator(&site).await);
    viewer.log_in("vera").await;
    let (status, page) = browser.get("/restore").await;
    assert_eq!(status, StatusCode::OK);
    site::check_html("/restore", &page);
    assert!(page.contains("5fa1c2d8") && page.contains("Removed"), "{page}");
    let (status, page) = browser.get(&files(&site)).await;
    assert_eq!(status, StatusCode::OK);
    site::check_html("files", &page);
    assert!(page.contains("not looked into yet"), "{page}");
    let answer = viewer.post(&files(&site), &[("folder", "/"), ("list", "1")]).await;
    assert!(answer.text().await.unwrap().contains("not looked into yet"), "who only looks orders nothing");
    let answer = browser.post(&files(&site), &[("folder", "/"), ("open", "/etc"), ("pick", "/etc/a%0Ab")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let page = answer.text().await.unwrap();
    site::check_html("files", &page);
    assert!(page.contains("list this folder") || page.contains("lists this folder"), "{page}");
    assert!(page.contains(r#"name="chosen" value="/etc/a%0Ab""#), "what was picked is kept: {page}");
}

#[tokio::test]
async fn steps_refuse_what_does_not_do_and_say_why_where_it_was_typed() {
    let site = with_snapshot().await;
    let browser = operator(&site).await;
    let target = paths::restore_target(site.ids.repo, SNAPSHOT);
    let dry_run = paths::restore_dry_run(site.ids.repo, SNAPSHOT);
    let host = site.ids.hosts[0].to_string();
    let answer = browser.post(&target, &[("folder", "/")]).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().await.unwrap().contains("Nothing is ticked"));
    let many: Vec<String> = (0..501).map(|n| format!("/f{n}")).collect();
    let fields: Vec<(&str, &str)> = many.iter().map(|path| ("pick", path.as_str())).collect();
    let answer = browser.post(&target, &fields).await;
    assert!(answer.text().await.unwrap().contains("More than 500 paths"));
    for (fields, words) in [
        (vec![("place", "folder"), ("overwrite", "never")], "name a folder"),
        (vec![("place", "folder"), ("target", "srv/x"), ("overwrite", "never")], "is not absolute"),
        (vec![("place", "folder"), ("target", "/srv/../etc"), ("overwrite", "never")], "must not hold .."),
        (vec![("place", "folder"), ("target", "//"), ("overwrite", "never")], "is the original place"),
        (vec![("place", "original")], "choose what happens"),
    ] {
        let fields = [vec![("chosen", "/etc"), ("host", host.as_str())], fields].concat();
        let answer = browser.post(&dry_run, &fields).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        let page = answer.text().await.unwrap();
        site::check_html("target", &page);
        assert!(page.contains(words), "{words}: {page}");
    }
    let download = paths::restore_download(site.ids.repo, SNAPSHOT);
    for get in ["", "rar:/etc", "file:relative", "file:/lost\u{FFFD}"] {
        let answer = browser.post(&download, &[("get", get)]).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{get}");
    }
    let (status, _) = browser.get(&paths::restore_files(site.ids.repo, &"0".repeat(64))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_restore_in_place_needs_a_dry_run_that_ended_well_and_the_hosts_name_and_is_ordered_once() {
    let site = with_snapshot().await;
    let browser = operator(&site).await;
    let host = site.ids.hosts[0];
    let fields = [("chosen", "/etc"), ("place", "original"), ("overwrite", "always"), ("host", &host.to_string())];
    let review = browser.posted(&paths::restore_dry_run(site.ids.repo, SNAPSHOT), &fields).await;
    let dry: JobId = review.rsplit('/').next().unwrap().parse().unwrap();
    let start = paths::restore_start(dry);
    let early = browser.post(&start, &[("confirm", "web-1")]).await;
    assert_eq!(early.status(), StatusCode::CONFLICT);
    end(
        &site,
        dry,
        host,
        Some(serde_json::json!({"total_files": 3, "total_bytes": 99, "free_bytes": 5, "dry_run": true})),
    )
    .await;
    let (_, page) = browser.get(&review).await;
    site::check_html(&review, &page);
    assert!(page.contains("not enough room") && page.contains("Save these first"), "{page}");
    assert!(page.contains("Restore all the same"), "{page}");
    assert_eq!(browser.post(&start, &[("confirm", "web-2")]).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let unsaved = browser.post(&start, &[("confirm", "web-1"), ("safety", &dry.to_string())]).await;
    assert_eq!(unsaved.status(), StatusCode::NOT_FOUND, "another job is no safety snapshot");
    browser.posted(&paths::restore_safety(dry), &[]).await;
    let (_, page) = browser.get(&review).await;
    assert!(page.contains("The safety snapshot on web-1"), "{page}");
    let job = browser.posted(&start, &[("confirm", "web-1")]).await;
    assert_eq!(browser.posted(&start, &[("confirm", "web-1")]).await, job, "a second press orders nothing more");
}
