//! The product as a person meets it: a real Chromium, from the setup link to a cancelled backup; every page at every size; one who does not read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "browser/gallery.rs"]
mod gallery;
#[path = "support/house.rs"]
mod house;
#[path = "browser/log_page.rs"]
mod log_page;
#[path = "browser/operations.rs"]
mod operations;
#[path = "browser/restoring.rs"]
mod restoring;
#[path = "browser/sample.rs"]
mod sample;
#[path = "browser/screenshots.rs"]
mod screenshots;
#[expect(dead_code, reason = "the agent's own tests use all of it")]
#[path = "../agent/tests/support/sshd.rs"]
mod sshd;
#[path = "browser/stuck.rs"]
mod stuck;

use std::path::Path;

use fantoccini::Locator;

use house::{
    ADMIN, ADMIN_PASSWORD, House,
    browser::Browser,
    program::Program,
    repository::{AUTH_PASSWORD, REPO_PASSWORD, RestServer, USER},
    shell,
    tree::{write_files, write_slow_files},
    wait::until,
};
use log_page::LogPage;

async fn make_the_first_account(browser: &Browser, house: &House, setup_link: &str) {
    browser.goto("/").await;
    browser.at("the log-in", |path| path == "/login").await;
    browser.goto(setup_link.strip_prefix(&house.url).unwrap()).await;
    browser.fill("#setup-name", ADMIN).await;
    browser.fill("#setup-password", ADMIN_PASSWORD).await;
    browser.press("Create the admin account").await;
    browser.at("the dashboard", |path| path == "/").await;
    // The link is used up.
    browser.goto(setup_link.strip_prefix(&house.url).unwrap()).await;
    assert!(browser.page.find(Locator::Css("#setup-name")).await.is_err());
    browser.complaints().await;
}

async fn log_out_and_in(browser: &Browser) {
    browser.goto("/").await;
    browser.press("Log out").await;
    browser.at("the log-in", |path| path == "/login").await;
    browser.fill("#login-name", ADMIN).await;
    browser.fill("#login-password", "something else").await;
    browser.press("Log in").await;
    browser.reads("main", "is not right").await;
    browser.complaints().await;
    browser.fill("#login-password", ADMIN_PASSWORD).await;
    browser.press("Log in").await;
    browser.at("the dashboard", |path| path == "/").await;
}

/// Gets the command from the page, runs it, and waits for the page to notice. Gives the agent and its host's path.
async fn add_a_host(browser: &Browser, house: &House) -> (Program, String) {
    browser.goto("/hosts").await;
    browser.click("main a[href='/hosts/new']").await;
    browser.fill("#host-name", "web-1").await;
    browser.press("Make the command").await;
    browser.reads("#arrival", "Waiting").await;
    let command = browser.text("#cmd-enrol").await;
    let folder = house.folder("host-web-1");
    let agent = Program::start(shell(&command, &house.folder("bin"), &folder.join("state")), &folder, "agent");
    browser.reads("#arrival", "is here").await;
    browser.press("Open web-1").await;
    let path = browser.at("the host", |path| path.starts_with("/hosts/") && path != "/hosts/new").await;
    (agent, path)
}

async fn add_a_repository(browser: &Browser, rest: &RestServer) {
    browser.goto("/repos").await;
    browser.click("main a[href='/repos/new']").await;
    browser.fill("#repo-name", "vault").await;
    // The form asks for the address in parts, as its kind has them.
    let url = rest.url("vault");
    let (server, path) = url.strip_prefix("rest:http://").and_then(|rest| rest.split_once('/')).unwrap();
    browser.fill("#repo-part-server", &format!("http://{server}")).await;
    browser.fill("#repo-part-path", path.trim_end_matches('/')).await;
    browser.fill("#repo-password", REPO_PASSWORD).await;
    browser.fill("#repo-auth-username", USER).await;
    browser.fill("#repo-auth-password", AUTH_PASSWORD).await;
    browser.press("Add and test the repository").await;
    browser.at("the repository", |path| path.starts_with("/repos") && path != "/repos/new").await;
}

async fn make_a_plan(browser: &Browser, source: &Path) {
    browser.goto("/plans/new").await;
    browser.fill("#plan-name", "nightly").await;
    browser.click("input[name=hosts]").await;
    browser.fill("#plan-paths", source.to_str().unwrap()).await;
    browser.press("Options").await;
    browser.click("#plan-options-log-files-true").await;
    browser.fill("#plan-options-limit-upload-kib", "300").await;
    browser.press("Make the plan").await;
    browser.at("the plan", |path| path.starts_with("/plans") && path != "/plans/new").await;
}

/// Starts the backup from the host's page and gives the job's path.
async fn back_up_now(browser: &Browser, host: &str) -> String {
    browser.goto(host).await;
    browser.press("Back up now").await;
    browser.at("the job", |path| path.starts_with("/jobs/")).await
}

/// The log while restic runs: it grows, a reload shows the same, scrolling up stops the following and the pill brings it back.
async fn watch(browser: &Browser, page: &LogPage<'_>, agent: &Program) {
    page.in_state("running").await;
    let first = page.grows_beyond(20).await;
    let second = page.grows_beyond(first).await;
    assert_eq!(page.state().await, "running", "{first}, then {second} lines, and restic still runs");

    // However fast the machine: restic stands still while all lines are read twice.
    agent.signal_below("restic", "-STOP");
    // What it has printed is read within a moment; lines that come while the page is walked through would shift it, and a page that has no time to draw
    // shows few of them.
    let seen = usize::try_from(second).unwrap();
    let before = until("the log stands still", async || {
        let once = page.all_lines().await;
        (once.len() >= seen && once == page.all_lines().await).then_some(once)
    })
    .await;
    browser.page.refresh().await.unwrap();
    page.in_state("running").await;
    let after = until("all of it is there again", async || {
        let again = page.all_lines().await;
        (again.len() >= before.len()).then_some(again)
    })
    .await;
    assert_eq!(before[..], after[..before.len()]);
    assert_eq!(page.state().await, "running", "the reload was in the middle");
    agent.signal_below("restic", "-CONT");

    page.scroll_to_end().await;
    until("it follows at the end", async || (!page.offers_to_follow().await).then_some(())).await;
    page.scroll_up().await;
    until("the pill appears", async || page.offers_to_follow().await.then_some(())).await;
    assert!(browser.text("#log-follow").await.contains("Follow"));
    browser.reads("#log-follow", "new line").await;
    assert!(!page.is_at_end().await, "what is read stays");
    browser.click("#log-follow").await;
    until("it follows again", async || (page.is_at_end().await && !page.offers_to_follow().await).then_some(())).await;
    let here = page.total().await;
    page.grows_beyond(here).await;
    until("the end stays in sight", async || page.is_at_end().await.then_some(())).await;
    assert_eq!(page.state().await, "running", "it followed while restic ran");
}

#[tokio::test]
async fn from_the_setup_link_to_a_watched_backup_and_a_cancelled_one() {
    let (house, setup_link) = House::start_bare(&[]).await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_slow_files(&source, 30, 40);
    let browser = Browser::open(&house.url).await;
    make_the_first_account(&browser, &house, &setup_link).await;
    log_out_and_in(&browser).await;
    let (agent, host) = add_a_host(&browser, &house).await;
    add_a_repository(&browser, &rest).await;
    make_a_plan(&browser, &source).await;
    let house = house.with_token(ADMIN);

    let job = back_up_now(&browser, &host).await;
    let page = LogPage(&browser);
    watch(&browser, &page, &agent).await;
    // Lost by a reload.
    browser.script("window.sameDocument = true").await;
    page.in_state("succeeded").await;
    assert_eq!(browser.script("return window.sameDocument").await, true, "the header turned without a reload");
    browser.reads("#job-header", "Back to host").await;
    let shown = page.all_lines().await;
    let stored = house.api.log(job.strip_prefix("/jobs/").unwrap(), 1000).await;
    let stored: Vec<(u64, String)> =
        stored.iter().map(|line| (line["seq"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())).collect();
    assert_eq!(shown, stored);
    assert!(shown.len() > 1200);
    assert_eq!(rest.snapshots("vault").len(), 1);

    write_files(&source, 1500, 4000);
    back_up_now(&browser, &host).await;
    page.in_state("running").await;
    page.grows_beyond(5).await;
    browser.press("Cancel job").await;
    browser.reads("#cancel", "restic stops and removes its lock").await;
    browser.click("#cancel button[type=submit]").await;
    page.in_state("cancelled").await;
    browser.press("Back to host").await;
    assert_eq!(browser.path().await, host);
    assert_eq!(rest.locks("vault"), 0);
    assert_eq!(rest.snapshots("vault").len(), 1);
    browser.close().await;
}
