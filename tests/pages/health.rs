//! Alerts and the health of repositories, as the pages show them and the API says them.

use flotilla::{
    domain::{
        CheckSpec, JobId, JobKind, JobStatus, Operation, Timestamp,
        alert::{AlertKind, Notice},
        job::{Actor, End, JobInput, NewJob},
        queue::QueueRules,
    },
    ops::{health, jobs::Desk},
    store::{alerts, health as kept, jobs},
};
use reqwest::StatusCode;
use serde_json::json;

use super::site::{self, Site};

async fn raise(site: &Site, kind: AlertKind, title: &str) {
    let repo = site.ids.repo.to_string();
    let notice = Notice {
        kind,
        link: format!("/repos/{repo}"),
        subject: repo,
        title: title.to_owned(),
        detail: "What to do.".to_owned(),
    };
    site.store.write(move |tx| alerts::raise(tx, &notice)).await.unwrap();
}

#[tokio::test]
async fn open_alerts_stand_on_their_page_on_the_dashboard_and_in_the_navigation_until_someone_clears_them() {
    let site = Site::start().await;
    raise(&site, AlertKind::StaleLock, "vault has a lock without an owner").await;
    raise(&site, AlertKind::Damaged, "vault is damaged").await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let (_, dashboard) = browser.get("/").await;
    let damaged = dashboard.find("vault is damaged").expect("on the dashboard");
    assert!(damaged < dashboard.find("vault has a lock").unwrap(), "the gravest first");
    assert!(dashboard.contains(r#"2<span class="vh"> open</span>"#), "{dashboard}");
    let (status, page) = browser.get("/alerts").await;
    assert_eq!(status, StatusCode::OK);
    site::check_html("/alerts", &page);
    assert!(page.contains("2 alerts are open"), "{page}");
    let answer = browser.post("/alerts/2/clear", &[]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let (_, page) = browser.get("/alerts").await;
    assert!(page.contains("1 alert is open") && page.contains("by otto"), "{page}");
    assert_eq!(browser.post("/alerts/2/clear", &[]).await.status(), StatusCode::CONFLICT);
    assert_eq!(browser.post("/alerts/99/clear", &[]).await.status(), StatusCode::NOT_FOUND);
}

const NOW: i64 = 1_795_248_000_000;

/// Ten measurements, one a day, the last one now.
async fn measured(site: &Site) {
    let repo = site.ids.repo;
    for day in 0..10u64 {
        let size = json!({"total_size": (day + 100) << 30, "total_uncompressed_size": (day + 150) << 30, "snapshots_count": day + 1});
        let (size, at) =
            (serde_json::from_value(size).unwrap(), Timestamp::from_unix_ms(NOW).plus_s((day as i64 - 9) * 86_400));
        site.store.write(move |tx| kept::add_size(tx, repo, at, &size, JobId::from_parts(1, 1))).await.unwrap();
    }
}

/// A check that found a damaged pack, taken in.
async fn damaged(site: &Site) {
    let (id, host, repo) = (JobId::from_parts(9, 9), site.ids.hosts[0], site.ids.repo);
    let new = NewJob {
        about: Default::default(),
        id,
        host_id: host,
        kind: JobKind::Check,
        actor: Actor::system(),
        moment: None,
        ran_alone: false,
        plan_id: None,
        repo_id: Some(repo),
        input: JobInput { operation: Some(Operation::Check(CheckSpec::default())), ..JobInput::default() },
        rerun_of: None,
        timeout_s: 60,
        expires_at: None,
    };
    let end = End {
        status: JobStatus::Failed,
        at: Timestamp::from_unix_ms(NOW),
        exit_code: Some(1),
        error: None,
        summary: Some(
            json!({"errors": 1, "broken_packs": ["ab".repeat(32)], "findings": ["pack abab: does not exist"]}),
        ),
        log_truncated: false,
    };
    let store = &site.store;
    store.write(move |tx| jobs::insert(tx, &new)).await.unwrap();
    store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
    let desk = Desk {
        store: store.clone(),
        hub: site.hub.clone(),
        vault: site.vault.clone(),
        rules: QueueRules::default(),
        runbooks: Default::default(),
    };
    health::examine(&desk).await.unwrap();
}

#[tokio::test]
async fn a_repositorys_page_draws_its_growth_and_says_it_in_words() {
    let site = Site::start().await;
    measured(&site).await;
    let browser = site.browser();
    browser.log_in("vera").await;
    let (_, page) = browser.get(&format!("/repos/{}", site.ids.repo)).await;
    site::check_html("/repos/{id}", &page);
    assert!(page.contains("1.0 GiB a day") && page.contains("<polyline"), "{page}");
    assert!(page.contains("Stored: 100 GiB on 2026-11-12, 109 GiB on 2026-11-21."), "{page}");
    assert!(page.contains("declared, and never tested") || page.contains("Not tested"), "{page}");
}

#[tokio::test]
async fn damage_leads_from_the_dashboard_over_the_repository_to_the_guided_repair() {
    let site = Site::start().await;
    let (operator, admin) = (site.browser(), site.browser());
    operator.log_in("otto").await;
    admin.log_in("ada").await;
    let repair = format!("/repos/{}/repair", site.ids.repo);
    assert!(operator.get(&repair).await.1.contains("Nothing is broken"));
    assert_eq!(admin.post(&format!("{repair}/index"), &[]).await.status(), StatusCode::CONFLICT);
    damaged(&site).await;
    assert!(operator.get("/").await.1.contains("vault is damaged"));
    let (_, page) = operator.get(&format!("/repos/{}", site.ids.repo)).await;
    assert!(page.contains(&format!("href=\"{repair}\"")), "{page}");
    let (_, page) = operator.get(&repair).await;
    site::check_html(&repair, &page);
    assert!(page.contains("1 damaged pack") && page.contains("pack abab: does not exist"), "{page}");
    assert_eq!(operator.post(&format!("{repair}/index"), &[]).await.status(), StatusCode::FORBIDDEN);
    let unconfirmed = admin.post(&format!("{repair}/packs"), &[("confirm", "another")]).await;
    assert_eq!(unconfirmed.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(admin.post(&format!("{repair}/nothing"), &[]).await.status(), StatusCode::NOT_FOUND);
}
