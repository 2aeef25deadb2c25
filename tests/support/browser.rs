//! A real Chromium without a window, by its driver. Each has a profile of its own and ends with its owner.

use std::path::Path;

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, wd::Capabilities};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    program::{Program, command},
    wait::until,
};

/// A browser with one page open.
pub(crate) struct Browser {
    pub(crate) page: Client,
    site: String,
    session: String,
    driver: Program,
    _profile: TempDir,
}

impl Browser {
    /// Opens one on a site.
    pub(crate) async fn open(site: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = command("chromedriver");
        command.arg("--port=0");
        let driver = Program::start(command, profile.path(), "chromedriver");
        let port = driver.said_after("ChromeDriver was started successfully on port ").await;
        let url = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let page = builder.capabilities(capabilities(profile.path())).connect(&url).await.unwrap();
        let session = format!("{url}/session/{}", page.session_id().await.unwrap().unwrap());
        let browser = Self { page, site: site.to_owned(), session, driver, _profile: profile };
        browser.resize(1440, 900).await;
        browser
    }

    /// Closes it; it must not have complained: no error of a script, no breach of the content security policy, no failed request.
    pub(crate) async fn close(self) {
        let complaints: Vec<Value> = self.complaints().await;
        assert!(complaints.is_empty(), "{complaints:#?}");
        self.page.clone().close().await.unwrap();
    }

    /// What the console holds since it was last asked for.
    pub(crate) async fn complaints(&self) -> Vec<Value> {
        let entries = self.ask("se/log", json!({"type": "browser"})).await;
        entries
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG")
            .cloned()
            .collect()
    }

    /// What the driver knows beyond the standard.
    async fn ask(&self, what: &str, body: Value) -> Value {
        let answer = reqwest::Client::new().post(format!("{}/{what}", self.session)).json(&body).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{what}: {answer}");
        answer["value"].take()
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, params: Value) -> Value {
        self.ask("goog/cdp/execute", json!({"cmd": command, "params": params})).await
    }

    /// Makes the page so big, as a phone would be where it is narrow.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// Writes a picture of what is to be seen.
    pub(crate) async fn picture(&self, to: &Path) {
        std::fs::write(to, self.page.screenshot().await.unwrap()).unwrap();
    }

    pub(crate) async fn goto(&self, path: &str) {
        self.page.goto(&format!("{}{path}", self.site)).await.unwrap();
    }

    /// The path of the page.
    pub(crate) async fn path(&self) -> String {
        self.page.current_url().await.unwrap().path().to_owned()
    }

    /// Waits until the page is one whose path `fits`, and gives it.
    pub(crate) async fn at(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        until(&format!("the browser is at {what}"), async || Some(self.path().await).filter(|path| fits(path))).await
    }

    /// Waits for an element that is to be seen.
    pub(crate) async fn see(&self, css: &str) -> Element {
        until(&format!("{css} is to be seen"), async || {
            let element = self.page.find(Locator::Css(css)).await.ok()?;
            element.is_displayed().await.ok()?.then_some(element)
        })
        .await
    }

    pub(crate) async fn click(&self, css: &str) {
        self.click_first(Locator::Css(css)).await;
    }

    /// Clicks a link or button by what it says.
    pub(crate) async fn press(&self, words: &str) {
        let xpath = format!("//*[self::a or self::button or self::summary][normalize-space(.)='{words}']");
        self.click_first(Locator::XPath(&xpath)).await;
    }

    /// Clicks the first that is to be seen. Pages replace parts of themselves: one that went meanwhile is looked for again.
    async fn click_first(&self, locator: Locator<'_>) {
        until(&format!("{locator:?} is there to be clicked"), async || {
            for element in self.page.find_all(locator).await.ok()? {
                if element.is_displayed().await.ok()? && element.click().await.is_ok() {
                    return Some(());
                }
            }
            None
        })
        .await;
    }

    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let field = self.see(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// The text of an element that is to be seen.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.see(css).await.text().await.unwrap()
    }

    /// Waits until an element says so.
    pub(crate) async fn reads(&self, css: &str, words: &str) {
        until(&format!("{css} says {words:?}"), async || {
            let text = self.page.find(Locator::Css(css)).await.ok()?.text().await.ok()?;
            text.contains(words).then_some(())
        })
        .await;
    }

    /// What a script returns.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.page.execute(script, Vec::new()).await.unwrap()
    }

    /// What a script hands to `done`.
    pub(crate) async fn script_until_done(&self, script: &str) -> Value {
        self.page.execute_async(&format!("const [done] = arguments; {script}"), Vec::new()).await.unwrap()
    }
}

fn capabilities(profile: &Path) -> Capabilities {
    let profile = format!("--user-data-dir={}", profile.join("profile").display());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--force-color-profile=srgb",
        "--hide-scrollbars",
        "--window-size=1440,900",
        &profile,
    ];
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|path| Path::new(path).exists());
    let mut options = json!({"args": flags});
    if let Some(chromium) = chromium {
        options["binary"] = json!(chromium);
    }
    let all = json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
    all.as_object().unwrap().clone()
}
