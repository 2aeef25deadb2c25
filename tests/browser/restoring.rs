//! Getting files back as a person does it: a snapshot, a tree, another host, a dry run, the restore; and over the original files, saved first.

use std::{fs, path::Path};

use crate::{
    house::{
        ADMIN, ADMIN_PASSWORD, Agent, House,
        browser::Browser,
        repository::RestServer,
        tree::{assert_same, noise, write_files},
        wait::until,
    },
    log_page::LogPage,
};

pub(crate) async fn log_in(browser: &Browser) {
    browser.goto("/login").await;
    browser.fill("#login-name", ADMIN).await;
    browser.fill("#login-password", ADMIN_PASSWORD).await;
    browser.press("Log in").await;
    browser.at("the dashboard", |path| path == "/").await;
}

/// A house whose host `web` has one snapshot of `source`.
async fn saved() -> (House, RestServer, Agent, std::path::PathBuf) {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source.join("folder"), 25, 2000);
    write_files(&source.join("folder/deep"), 3, 10);
    fs::write(source.join("one \"quoted\" é.txt"), noise(1, 70_000)).unwrap();
    fs::create_dir_all(source.join("elsewhere")).unwrap();
    fs::write(source.join("elsewhere/two.bin"), noise(2, 3_000_000)).unwrap();
    fs::write(source.join("elsewhere/not wanted"), "x").unwrap();
    let web = house.agent("web").await;
    let repo = house.api.repo(rest.ready("vault")).await;
    let plan = house.api.plan(&web.host_id, &repo, &[source.to_str().unwrap()], 0).await;
    let job = house.api.back_up(&web.host_id, &plan).await;
    assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    (house, rest, web, source)
}

/// From the list of snapshots into the folder of the sources.
async fn open_the_tree(browser: &Browser, source: &Path) {
    browser.goto("/restore").await;
    browser.click("td a.btn").await;
    browser.at("the files", |path| path.starts_with("/restore/")).await;
    browser.see("table.picking").await;
    browser.press(source.to_str().unwrap()).await;
    browser.see("input[aria-label='Pick folder']").await;
}

/// Looks at a page as a picture, where somebody wants to.
pub(crate) async fn look(browser: &Browser, name: &str) {
    let Some(folder) = std::env::var_os("FLOTILLA_PICTURES") else { return };
    for (width, scheme) in [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")] {
        browser.resize(width, 900).await;
        browser.prefer(scheme).await;
        browser.picture(&Path::new(&folder).join(format!("{name}-{width}-{scheme}.png"))).await;
    }
    browser.resize(1440, 900).await;
}

#[tokio::test]
async fn two_files_and_a_folder_come_back_on_another_host_byte_by_byte() {
    let (house, _rest, _web, source) = saved().await;
    let other = house.agent("other").await;
    let browser = Browser::open(&house.url).await;
    log_in(&browser).await;
    open_the_tree(&browser, &source).await;
    browser.click("input[aria-label='Pick folder']").await;
    browser.click("input[aria-label='Pick one \"quoted\" é.txt']").await;
    browser.press("elsewhere/").await;
    // What was ticked is kept from folder to folder.
    browser.see("input[aria-label='Pick two.bin']").await;
    browser.reads(".picked", "one \"quoted\" é.txt").await;
    browser.click("input[aria-label='Pick two.bin']").await;
    look(&browser, "files").await;
    browser.press("Restore what is ticked…").await;
    browser.at("the place", |path| path.ends_with("/target")).await;
    let choose = format!(
        "const s = document.querySelector('#target-host'); s.value = '{}'; s.dispatchEvent(new Event('change', {{bubbles: true}}));",
        other.host_id
    );
    browser.script(&choose).await;
    browser.reads("#where", "other does not back up to vault").await;
    let target = house.folder("restored");
    browser.fill("#target-target", target.to_str().unwrap()).await;
    look(&browser, "target").await;
    browser.press("Try it out: dry run").await;
    browser.at("the dry run", |path| path.starts_with("/restore/review/")).await;
    browser.reads("#review", "Dry run done").await;
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "nothing was written");
    look(&browser, "review").await;
    browser.press("Restore now").await;
    browser.at("the job", |path| path.starts_with("/jobs/")).await;
    LogPage(&browser).in_state("succeeded").await;
    browser.reads("#job-header", "Written").await;

    let restored = target.join(source.strip_prefix("/").unwrap());
    assert_same(&source.join("folder"), &restored.join("folder"));
    for file in ["one \"quoted\" é.txt", "elsewhere/two.bin"] {
        assert!(fs::read(source.join(file)).unwrap() == fs::read(restored.join(file)).unwrap(), "{file}");
    }
    assert!(!restored.join("elsewhere/not wanted").exists());
    browser.close().await;
}

#[tokio::test]
async fn what_would_be_written_over_is_saved_first_and_the_hosts_name_is_typed() {
    let (house, rest, _web, source) = saved().await;
    let browser = Browser::open(&house.url).await;
    log_in(&browser).await;
    let file = source.join("elsewhere/two.bin");
    fs::write(&file, "spoilt").unwrap();
    open_the_tree(&browser, &source).await;
    browser.click("input[aria-label='Pick elsewhere']").await;
    browser.press("Restore what is ticked…").await;
    browser.click("#place-original").await;
    browser.click("#overwrite-if-changed").await;
    browser.press("Try it out: dry run").await;
    browser.at("the dry run", |path| path.starts_with("/restore/review/")).await;
    browser.reads("#review", "Files on web will be written over").await;
    look(&browser, "in-place").await;
    browser.press("Save these first").await;
    browser.reads("#review", "What was there is in a snapshot of its own").await;
    assert_eq!(rest.snapshots("vault").len(), 2);
    assert_eq!(fs::read_to_string(&file).unwrap(), "spoilt", "nothing is restored yet");
    look(&browser, "saved").await;
    browser.fill("#start-confirm", "web").await;
    browser.press("Restore to the original place").await;
    browser.at("the job", |path| path.starts_with("/jobs/")).await;
    LogPage(&browser).in_state("succeeded").await;
    until("the file is as it was", async || (fs::read(&file).unwrap() == noise(2, 3_000_000)).then_some(())).await;
    browser.close().await;
}
