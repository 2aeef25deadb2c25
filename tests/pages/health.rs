//! Alerts and the health of repositories, as the pages show them and the API says them.

use flotilla::{
    domain::alert::{AlertKind, Notice},
    store::alerts,
};
use reqwest::StatusCode;

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
