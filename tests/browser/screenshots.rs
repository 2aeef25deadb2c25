//! Every page at the sizes and in the colours that people have; and the pictures of the README.

use std::{path::PathBuf, sync::Arc};

use flotilla::{clock::ManualClock, fleet::FleetOptions};

use crate::{
    house::{ADMIN, ADMIN_PASSWORD, Local, browser::Browser},
    log_page::LogPage,
    sample::{LONG_NAMED, STORIES, Sample, fill},
};

/// Every page, by what is in the sample.
fn pages(sample: &Sample) -> Vec<String> {
    let mut pages: Vec<String> = [
        "/",
        "/hosts",
        "/hosts?q=nothing+like+it",
        "/hosts/new",
        "/jobs",
        "/jobs?status=failed",
        "/repos",
        "/repos/new",
        "/plans",
        "/plans/new",
        "/schedules",
        "/schedules/new",
        "/settings",
        "/alerts",
        "/restore",
        "/no/such/page",
    ]
    .map(str::to_owned)
    .to_vec();
    let of_repo = [
        "",
        "/edit",
        "/operations",
        "/retention",
        "/repair",
        "/snapshots",
        "/search",
        "/compare",
        "/versions?path=%2Fetc%2Fhosts",
    ];
    pages.extend(of_repo.map(|page| format!("/repos/{}{page}", sample.repo)));
    pages.extend(["", "?tab=edit"].map(|tab| format!("/plans/{}{tab}", sample.plan)));
    // One of each sort, and the one with the longest name.
    for host in [sample.hosts[0], sample.hosts[6], *sample.hosts.last().unwrap()] {
        pages.extend(["", "?tab=jobs", "?tab=settings"].map(|tab| format!("/hosts/{host}{tab}")));
    }
    pages.extend(sample.jobs.iter().map(|job| format!("/jobs/{job}")));
    pages
}

async fn log_in(browser: &Browser) {
    browser.goto("/login").await;
    browser.fill("#login-name", ADMIN).await;
    browser.fill("#login-password", ADMIN_PASSWORD).await;
    browser.press("Log in").await;
    browser.at("the dashboard", |path| path == "/").await;
}

/// What is wider than the page, most deeply nested last; empty where all fits.
const TOO_WIDE: &str = r#"
    const width = document.documentElement.clientWidth;
    if (document.scrollingElement.scrollWidth <= width) return [];
    return Array.from(document.querySelectorAll("body *"))
        .filter((element) => element.getBoundingClientRect().right > width + 1)
        .map((element) => `${element.tagName}.${element.className}#${element.id}: ${element.textContent.slice(0, 40)}`)
        .slice(-5).concat([`${document.scrollingElement.scrollWidth} pixels of content in ${width}`]);
"#;

async fn check(browser: &Browser, page: &str) {
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.prefer(scheme).await;
        for width in [390, 1440] {
            browser.resize(width, 900).await;
            if (scheme, width) == ("light", 390) {
                // Loaded as a phone loads it; afterwards the window only grows and changes its colours.
                browser.goto(page).await;
            }
            let shown = browser.script("return innerWidth").await;
            assert_eq!(shown, width, "{page}: the browser is as wide as asked for");
            let wide = browser.script(TOO_WIDE).await;
            assert_eq!(wide, serde_json::json!([]), "{page} scrolls sideways at {width} px, {scheme}");
        }
        backgrounds.push(browser.script("return getComputedStyle(document.body).backgroundColor").await);
    }
    assert_ne!(backgrounds[0], backgrounds[1], "{page} is dark in the dark");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_scrolls_sideways_on_phone_or_desk_in_light_or_dark_and_screenshots_are_made_on_request() {
    let today = "2026-11-21T09:20:00Z".parse().unwrap();
    let clock = ManualClock::at(today);
    let house = Local::start(Arc::clone(&clock) as _, FleetOptions::default()).await;
    let pictures = std::env::var_os("FLOTILLA_SCREENSHOTS").map(PathBuf::from);
    let mut stories = STORIES.to_vec();
    if pictures.is_none() {
        stories.push(LONG_NAMED);
    }
    let sample = fill(&house, &clock, today, stories).await;
    let browser = Browser::open(&house.running.url).await;
    if let Some(folder) = pictures {
        std::fs::create_dir_all(&folder).unwrap();
        browser.prefer("light").await;
        log_in(&browser).await;
        browser.picture(&folder.join("dashboard.png")).await;
        browser.goto(&format!("/jobs/{}", sample.running)).await;
        let page = LogPage(&browser);
        assert!(page.all_lines().await.len() > 100);
        browser.picture(&folder.join("job.png")).await;
    } else {
        check(&browser, "/login").await;
        browser.resize(1440, 900).await;
        log_in(&browser).await;
        for page in pages(&sample) {
            check(&browser, &page).await;
        }
        // The page that is not there is a failed request, of course.
        browser.complaints().await;
    }
    browser.close().await;
    house.stop().await;
}
