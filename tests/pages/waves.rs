//! Waves as a browser sees them: ticking hosts, choosing what is to run, and the page of what became of it.

use flotilla::{
    domain::queue::QueueRules,
    ops::{jobs::Desk, waves},
};
use reqwest::StatusCode;

use crate::site::{Browser, Site, check_html};

async fn shown(browser: &Browser, page: &str) -> String {
    let (status, html) = browser.get(page).await;
    assert_eq!(status, StatusCode::OK, "{page}: {html}");
    check_html(page, &html);
    html
}

fn holds(html: &str, all: &[&str]) {
    for words in all {
        assert!(html.contains(words), "{words:?} is not in {html}");
    }
}

#[tokio::test]
async fn who_may_not_run_anything_has_no_boxes_to_tick() {
    let site = Site::start().await;
    let (viewer, operator) = (site.browser(), site.browser());
    viewer.log_in("vera").await;
    operator.log_in("otto").await;
    let host = format!(r#"name="host" value="{}""#, site.ids.hosts[0]);
    assert!(!shown(&viewer, "/hosts").await.contains(&host));
    holds(&shown(&operator, "/hosts").await, &[&host, r#"action="/waves/new""#, "/waves/new?all=1", "Run on all 4…"]);
    holds(&shown(&operator, "/hosts?tag=eu").await, &["/waves/new?tag=eu"]);
    assert!(!shown(&operator, "/hosts").await.contains("Restart"), "no host has a command for it");
    assert_eq!(viewer.get("/waves/new?all=1").await.0, StatusCode::FORBIDDEN);
    holds(&shown(&viewer, "/waves").await, &["No wave yet"]);
}

#[tokio::test]
async fn a_wave_is_made_from_ticked_hosts_and_its_page_tells_how_it_stands() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let [first, second] = [site.ids.hosts[0].to_string(), site.ids.hosts[1].to_string()];
    let new = format!("/waves/new?host={first}&host={second}");
    holds(&shown(&browser, &new).await, &["Run on 2 hosts", r#"<option value="check_status">"#, "2 ticked"]);
    let form = shown(&browser, &format!("{new}&runbook=check_status")).await;
    let hidden = format!(r#"name="host" value="{second}""#);
    holds(&form, &[&hidden, r#"name="canary""#, r#"name="kind" value="check_status""#, "by its agent", "web-1"]);
    assert_eq!(browser.get("/waves/new?host=x").await.0, StatusCode::BAD_REQUEST);
    holds(&shown(&browser, "/waves/new").await, &["No host chosen"]);

    let fields = [("kind", "check_status"), ("host", &*first), ("host", &*second), ("canary", "1"), ("stop_at", "20")];
    let refused = browser.post("/waves", &[&fields[..], &[("batch", "0")]].concat()).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    holds(&refused.text().await.unwrap(), &["must be 1 to 200", &hidden, r#"name="batch" type="number""#]);
    let wave = browser.posted("/waves", &[&fields[..], &[("batch", "5")]].concat()).await;
    let page = shown(&browser, &wave).await;
    holds(&page, &["0 of 2 hosts done", "Not started", "goes first", "Cancel", &format!("{wave}?fragment=1")]);

    let (store, hub, vault) = (site.store.clone(), site.hub.clone(), site.vault.clone());
    let desk = Desk { store, hub, vault, rules: QueueRules::default(), runbooks: Default::default() };
    waves::drive(&desk).await.unwrap();
    holds(&shown(&browser, &format!("{wave}?fragment=1")).await, &["1 running", "Queued", "Not started"]);
    assert_eq!(browser.posted(&format!("{wave}/cancel"), &[]).await, wave);
    waves::drive(&desk).await.unwrap();
    let over = shown(&browser, &wave).await;
    holds(&over, &["Cancelled by otto.", "1 not started", "Re-run failed and not started"]);
    assert!(!over.contains("hx-trigger"), "what is over is not asked for again");
    let again = browser.posted(&format!("{wave}/rerun"), &[]).await;
    holds(&shown(&browser, &again).await, &["0 of 2 hosts done", "what was left of an earlier wave"]);
    holds(&shown(&browser, "/waves").await, &[&wave, &again, "Cancelled"]);
}
