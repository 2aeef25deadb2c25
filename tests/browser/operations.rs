//! Operations on servers as a person does them: what lives on a host is found and added, its status checked, its service restarted, a runbook looked at, run and
//! cancelled; what removes something asks first, many hosts are taken in hand at once, and a host without an agent is added and trusted.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    house::{Agent, House, browser::Browser, program::free_port, wait::until},
    log_page::LogPage,
    restoring::{log_in, look},
    sshd::{Sshd, fingerprint},
};

/// A house, its host `web` whose owner allows everything, and somebody who has logged in.
async fn at_work() -> (House, Agent, Browser) {
    let house = House::start().await;
    let web = house.agent("web").await;
    fs::write(web.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
    let browser = Browser::open(&house.url).await;
    log_in(&browser).await;
    (house, web, browser)
}

/// Opens a tab of a host's page as one does: by its name there.
async fn open_tab(browser: &Browser, host: &str, tab: &str) {
    browser.goto(&format!("/hosts/{host}")).await;
    browser.click(&format!("a[href='/hosts/{host}?tab={tab}']")).await;
    browser.see(&format!("a[href='/hosts/{host}?tab={tab}'][aria-current]")).await;
}

/// Waits for the page of the job that was just asked for, and gives its path.
async fn its_job(browser: &Browser) -> String {
    browser.at("the job", |path| path.starts_with("/jobs/")).await
}

/// Puts a file into the operator's folder of runbooks.
fn drop_in(house: &House, name: &str, text: &str) {
    let folder = house.data_dir().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

async fn jobs(house: &House) -> Value {
    house.api.get("/api/jobs").await["items"].clone()
}

async fn is_open(browser: &Browser, dialog: &str) -> bool {
    browser.script(&format!("return document.getElementById('{dialog}').open")).await == true
}

const WP: &str = "<?php\ndefine('DB_NAME', 'blogdb');\ndefine('DB_PASSWORD', 'planted-secret');\ndefine('WP_HOME', 'https://blog.example');\n";

#[tokio::test]
async fn what_lives_on_a_host_is_discovered_and_added_with_a_click() {
    let (house, web, browser) = at_work().await;
    let tree = house.folder("tree");
    for (path, text) in [("blog/wp-config.php", WP), ("shop/.env", "APP_NAME=Shop\n")] {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), text).unwrap();
    }
    open_tab(&browser, &web.host_id, "sites").await;
    browser.reads("main", "No sites yet").await;
    open_tab(&browser, &web.host_id, "operations").await;
    browser.click("a[aria-label='Open Discover sites']").await;
    browser.fill("#run-params-roots", tree.to_str().unwrap()).await;
    browser.click("#run-params-containers-true").await;
    browser.press("Run on web").await;
    let job = its_job(&browser).await;
    LogPage(&browser).in_state("succeeded").await;
    browser.reads("#found-title", "2 sites found").await;
    look(&browser, "discovered").await;

    browser.click("button[aria-label='Add blog.example']").await;
    browser.see("a[aria-label='Open blog.example']").await;
    assert_eq!(browser.path().await, job, "one stays where the others are to be added");
    browser.reads(".discovered", "Added").await;
    browser.press("Add all that are new").await;
    browser.reads("#job-header", "All are added.").await;
    open_tab(&browser, &web.host_id, "sites").await;
    browser.reads("main table", "Shop").await;
    browser.goto("/sites").await;
    browser.reads("main table", "web").await;
    browser.press("blog.example").await;
    browser.at("the site", |path| path.starts_with("/sites/")).await;
    browser.reads("main", "blogdb").await;
    assert!(!browser.text("main").await.contains("planted-secret"));
    browser.close().await;
}

#[tokio::test]
async fn a_check_of_status_brings_disk_and_memory_to_the_hosts_overview() {
    let (_house, web, browser) = at_work().await;
    browser.goto(&format!("/hosts/{}", web.host_id)).await;
    browser.reads(".status", "Its status was never checked").await;
    browser.press("Check now").await;
    its_job(&browser).await;
    LogPage(&browser).in_state("succeeded").await;
    browser.reads("#job-header", "What was found").await;
    browser.press("Back to host").await;
    browser.at("the host", |path| path.starts_with("/hosts/")).await;
    for figure in ["/", "Memory"] {
        browser.see(&format!(".status meter[aria-label='{figure}, in use']")).await;
    }
    browser.reads(".status", "free of").await;
    look(&browser, "status").await;
    browser.close().await;
}

/// A web service that a script starts anew, as an operator's would: it ends what runs, and leaves a new one running.
struct Shop {
    folder: PathBuf,
    port: u16,
}

impl Shop {
    fn start(house: &House) -> Self {
        let shop = Self { folder: house.folder("shop"), port: free_port() };
        let script = format!(
            "#!/bin/bash\ncd '{folder}' || exit\nold=$(cat pid 2>/dev/null)\n\
             if [ -n \"$old\" ]; then kill \"$old\"; while [ -e \"/proc/$old/exe\" ]; do :; done; fi\n\
             python3 -m http.server --bind 127.0.0.1 --directory '{folder}' {port} >/dev/null 2>&1 </dev/null &\n\
             echo $! >pid\necho started anew\n",
            folder = shop.folder.display(),
            port = shop.port,
        );
        fs::write(shop.restart(), script).unwrap();
        fs::set_permissions(shop.restart(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new(shop.restart()).output().unwrap().status.success());
        shop
    }

    fn restart(&self) -> PathBuf {
        self.folder.join("restart.sh")
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.folder.join("pid")).unwrap().trim().to_owned()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        Command::new("kill").arg(self.pid()).status().ok();
    }
}

/// Writes the restart command and the health probe into the host's settings.
async fn configure(browser: &Browser, host: &str, shop: &Shop) {
    open_tab(browser, host, "settings").await;
    browser.press("How it is reached, restarted and watched").await;
    browser.fill("#reach-health-url", &format!("http://127.0.0.1:{}/", shop.port)).await;
    browser.fill("#reach-health-codes", "200").await;
    browser.fill("#reach-restart-command", shop.restart().to_str().unwrap()).await;
    browser.click(&format!("form[action='/hosts/{host}/reach'] button[type=submit]")).await;
    browser.reads("#reach-restart-command", shop.restart().to_str().unwrap()).await;
    browser.reads("main > .notice", "Saved.").await;
}

#[tokio::test]
async fn a_service_is_restarted_only_after_the_dialog_and_said_to_be_healthy() {
    let (house, web, browser) = at_work().await;
    let shop = Shop::start(&house);
    open_tab(&browser, &web.host_id, "health").await;
    browser.reads("#restart-why", "Not configured").await;
    configure(&browser, &web.host_id, &shop).await;
    open_tab(&browser, &web.host_id, "health").await;
    until("the probe has asked often enough to be healthy", async || {
        browser.click("button[aria-label^='Check now']").await;
        (browser.text(".probe .pill").await == "Healthy").then_some(())
    })
    .await;

    let first = shop.pid();
    browser.press("Restart").await;
    browser.reads("#restart", "Restart the service of web?").await;
    browser.reads("#restart pre", shop.restart().to_str().unwrap()).await;
    look(&browser, "restart").await;
    browser.press("Leave it running").await;
    until("the dialog is closed", async || (!is_open(&browser, "restart").await).then_some(())).await;
    assert_eq!((jobs(&house).await, shop.pid()), (json!([]), first.clone()), "nothing was asked for");

    browser.press("Restart").await;
    browser.click("#restart button[type=submit]").await;
    its_job(&browser).await;
    LogPage(&browser).in_state("succeeded").await;
    browser.reads("#job-header", "Restarted and healthy").await;
    look(&browser, "restarted").await;
    assert_eq!(jobs(&house).await.as_array().unwrap().len(), 1);
    assert_ne!(shop.pid(), first, "another process");
    browser.press("Health of the host").await;
    browser.reads("section[aria-labelledby=restart-title]", "restarted and healthy").await;
    browser.close().await;
}

/// Whether a process has these words in its command line.
fn runs(words: &str) -> bool {
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).replace('\0', " ").contains(words))
}

#[tokio::test]
async fn a_runbook_that_was_dropped_in_is_looked_at_run_and_cancelled_with_all_that_it_started() {
    let (house, web, browser) = at_work().await;
    // A sleep that no other run has.
    let nap = format!("sleep 300.{}", std::process::id());
    let text = format!(
        "name = \"nap\"\ntitle = \"Take a nap\"\n[[inputs]]\nname = \"who\"\ntype = \"string\"\nlabel = \"Who\"\n\
         [[steps]]\ntype = \"ssh\"\nlabel = \"Sleep well\"\ncmd = \"echo good night {{{{ who }}}}; {nap} & wait\"\n"
    );
    open_tab(&browser, &web.host_id, "operations").await;
    assert!(!browser.text("main").await.contains("Take a nap"));
    drop_in(&house, "nap.toml", &text);
    open_tab(&browser, &web.host_id, "operations").await;
    browser.click("a[aria-label='Open Take a nap']").await;
    browser.fill("#run-params-who", "$(id) & co").await;
    browser.press("Preview").await;
    let command = browser.text("#preview pre").await;
    assert_eq!(command, format!("echo good night '$(id) & co'; {nap} & wait"));
    browser.reads("#preview", "Nothing has run yet").await;
    assert_eq!((jobs(&house).await, runs(&nap)), (json!([]), false));
    look(&browser, "preview").await;

    browser.press("Run on web").await;
    its_job(&browser).await;
    let page = LogPage(&browser);
    page.in_state("running").await;
    browser.reads("#log", "good night $(id) & co").await;
    browser.reads("#job-header", "Step 1 of 1").await;
    until("it sleeps", async || runs(&nap).then_some(())).await;
    look(&browser, "running").await;
    browser.press("Cancel job").await;
    browser.reads("#cancel", "All that its step has started is ended").await;
    browser.press("Keep it").await;
    until("the dialog is closed", async || (!is_open(&browser, "cancel").await).then_some(())).await;
    assert_eq!((page.state().await.as_str(), runs(&nap)), ("running", true));
    browser.press("Cancel job").await;
    browser.click("#cancel button[type=submit]").await;
    page.in_state("cancelled").await;
    assert!(!runs(&nap), "something of it still runs");
    browser.reads("#job-header", "Cancelled").await;
    browser.close().await;
}

#[tokio::test]
async fn what_removes_something_runs_only_after_the_hosts_name_was_typed() {
    let (house, _web, browser) = at_work().await;
    let file = house.folder("precious").join("file");
    fs::write(&file, "x").unwrap();
    let text = format!(
        "name = \"wipe\"\ntitle = \"Wipe it\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"Remove the file\"\ndestructive = true\ncmd = \"rm '{}'\"\n",
        file.display()
    );
    drop_in(&house, "wipe.toml", &text);
    browser.goto("/runbooks").await;
    browser.press("Wipe it").await;
    browser.press("Choose").await;
    browser.press("Run…").await;
    browser.reads("#run-dialog", "Run “Wipe it” on web?").await;
    browser.reads("#run-dialog", "Remove the file").await;
    look(&browser, "destructive").await;
    browser.fill("#run-confirm", "wbe").await;
    browser.click("#run-dialog button[type=submit]").await;
    browser.see("#run-confirm-error").await;
    // The refusal is an answer that a browser notes.
    browser.complaints().await;
    assert!(is_open(&browser, "run-dialog").await);
    assert_eq!((jobs(&house).await, file.exists()), (json!([]), true));
    browser.fill("#run-confirm", "web").await;
    browser.click("#run-dialog button[type=submit]").await;
    its_job(&browser).await;
    LogPage(&browser).in_state("succeeded").await;
    assert!(!file.exists());
    browser.close().await;
}

#[tokio::test]
async fn all_hosts_of_a_page_are_ticked_with_one_box_and_taken_in_hand_together() {
    let (house, _web, browser) = at_work().await;
    let _other = house.agent("other").await;
    browser.goto("/hosts").await;
    browser.click("#all-hosts").await;
    let ticked = "return document.querySelectorAll('tbody input[name=host]:checked').length";
    assert_eq!(browser.script(ticked).await, 2);
    browser.click("input[aria-label='Choose web']").await;
    assert_eq!(browser.script("return document.getElementById('all-hosts').indeterminate").await, true);
    browser.click("input[aria-label='Choose web']").await;
    assert_eq!(browser.script("return document.getElementById('all-hosts').checked").await, true);
    browser.press("Run on ticked…").await;
    browser.at("the new wave", |path| path == "/waves/new").await;
    browser.see("#wave-runbook").await.select_by_value("check_status").await.unwrap();
    browser.press("Choose").await;
    look(&browser, "new-wave").await;
    browser.press("Run on 2 hosts").await;
    browser.at("the wave", |path| path.starts_with("/waves/") && path != "/waves/new").await;
    browser.reads("#wave", "All 2 hosts are done").await;
    look(&browser, "wave").await;
    browser.close().await;
}

/// The form for a host without an agent, filled in for this machine.
async fn add_by_ssh(browser: &Browser, sshd: &Sshd) {
    browser.goto("/hosts/new").await;
    browser.press("Without an agent").await;
    browser.at("the form", |path| path == "/hosts/new/direct").await;
    browser.fill("#host-name", "db").await;
    browser.fill("#host-ssh-host", "127.0.0.1").await;
    browser.fill("#host-ssh-port", &sshd.port.to_string()).await;
    browser.fill("#host-ssh-user", &sshd.target().user).await;
    browser.fill("#host-ssh-private-key", &key(&sshd.path("client"))).await;
    browser.press("Add the host").await;
    browser.at("the host", |path| path.starts_with("/hosts/") && !path.contains("/new")).await;
}

fn key(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_host_without_an_agent_is_added_its_key_compared_and_trusted_and_it_is_checked_over_ssh() {
    let (house, sshd) = (House::start().await, Sshd::start());
    let browser = Browser::open(&house.url).await;
    log_in(&browser).await;
    add_by_ssh(&browser, &sshd).await;
    browser.reads("main", "SSH: key not confirmed").await;
    browser.press("Test connection").await;
    browser.reads("#tested", &fingerprint(&sshd.path("host_ed25519.pub"))).await;
    assert!(!sshd.log().contains("Accepted publickey"), "nobody logs in before the key is confirmed");
    look(&browser, "untrusted").await;
    browser.press("Trust this key").await;
    browser.reads("#tested", "Trusted").await;
    browser.press("Test connection").await;
    // A user's name is not a word that a sentence may begin large.
    let logged_in =
        format!("{}@127.0.0.1, port {}: it logs in, commands run and files go over", sshd.target().user, sshd.port);
    browser.reads("#tested", &logged_in).await;
    look(&browser, "trusted").await;
    browser.press("Check now").await;
    its_job(&browser).await;
    LogPage(&browser).in_state("succeeded").await;
    browser.reads("#job-header", "by way of SSH").await;
    browser.close().await;
}
