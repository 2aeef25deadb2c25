//! A check of status from the button to the colour, on real parts: ordered on the host's page, run by its agent, judged by the operator's thresholds, shown everywhere.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{fs, path::Path};

use reqwest::{Client, Method, StatusCode, header, redirect::Policy};
use serde_json::{Value, json};

use house::{ADMIN, ADMIN_PASSWORD, House, wait::until};

/// The administrator's browser.
struct Person {
    client: Client,
    base: String,
}

impl Person {
    async fn at(base: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).cookie_store(true).build().unwrap();
        let person = Self { client, base: base.to_owned() };
        let answer = person.send("/login", &format!("name={ADMIN}&password={ADMIN_PASSWORD}&next=")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        person
    }

    async fn send(&self, path: &str, body: &str) -> reqwest::Response {
        let form = (header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = self.client.request(Method::POST, format!("{}{path}", self.base)).header(form.0, form.1);
        request.body(body.to_owned()).send().await.unwrap()
    }

    async fn page(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.base)).header(header::ACCEPT, "text/html");
        request.send().await.unwrap().text().await.unwrap()
    }

    /// Presses the button of a page's form without fields; says where it leads.
    async fn press(&self, page: &str, action: &str) -> String {
        let html = self.page(page).await;
        assert!(html.contains(&format!("action=\"{action}\"")), "{page} has no button for {action}");
        let csrf = html.split_once(r#"name="csrf" value=""#).unwrap().1.split('"').next().unwrap().to_owned();
        let answer = self.send(action, &format!("csrf={csrf}")).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }
}

fn configured(folder: &Path, text: &str) -> String {
    let file = folder.join("flotilla.toml");
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_check_gives_its_host_a_colour_on_every_page_by_the_operators_thresholds() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), "[status]\ndisk_warn = 0\ndisk_bad = 0\nload_warn = 1000.0\n");
    let house = House::start_with(&["--config", &config]).await;
    let agent = house.agent("web").await;
    let status = async || house.api.get(&format!("/api/hosts/{}/status", agent.host_id)).await;
    let never = status().await;
    assert_eq!((&never["colour"], &never["checked_at"]), (&json!("grey"), &Value::Null));
    let person = Person::at(&house.url).await;
    let host = format!("/hosts/{}", agent.host_id);
    assert!(person.page(&host).await.contains("Its status was never checked"));
    assert!(!person.page("/hosts").await.contains("Not known"), "a fleet that nobody checks has no such column");

    let to = person.press(&host, &format!("{host}/check-status")).await;
    let job = house.api.end_of(to.strip_prefix("/jobs/").unwrap()).await;
    assert_eq!((&job["kind"], &job["status"]), (&json!("check_status"), &json!("succeeded")), "{job}");
    let red = status().await;
    assert_eq!((&red["colour"], &red["job_id"]), (&json!("red"), &job["id"]), "{red}");
    assert!(red["reasons"][0].as_str().unwrap().starts_with("the disk of /"), "{red}");
    assert!(red["results"]["memory_total"].is_u64() && red["results"]["listening"].is_array(), "{red}");
    let overview = person.page(&host).await;
    assert!(overview.contains("The disk of /") && overview.contains(">Trouble<") && overview.contains("Memory"));
    let list = person.page("/hosts").await;
    assert!(list.contains(">Trouble<") && list.contains("the disk of /"), "{list}");
    assert!(person.page(&to).await.contains("What was found"));

    // A check that fails is red by itself, and what was found before stays to be looked at.
    let own = house.data_dir().join("runbooks");
    fs::create_dir_all(&own).unwrap();
    fs::write(
        own.join("check_status.toml"),
        "name = \"check_status\"\ntitle = \"Own\"\n[[steps]]\ntype = \"ssh\"\nlabel = \"A\"\ncmd = \"true\"\n",
    )
    .unwrap();
    let job = house.api.order(&agent.host_id, json!({"kind": "check_status"})).await;
    assert_eq!(house.api.end_of(&job).await["status"], "failed");
    let failed = status().await;
    assert!(failed["reasons"][0].as_str().unwrap().starts_with("the last check failed: "), "{failed}");
    assert!(failed["results"]["memory_total"].is_u64() && failed["error"].is_string(), "{failed}");
    assert!(person.page(&host).await.contains("The last check, "));
}

/// The example of a management interface, on a free port.
struct Interface {
    child: std::process::Child,
    base_url: String,
}

impl Interface {
    fn start() -> Self {
        use std::{io::BufRead as _, process::Stdio};
        let mut child = std::process::Command::new("python3")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/status-interface.py"))
            .arg("0")
            .envs([("FLOTILLA_PUBLIC_KEY", "public-1"), ("FLOTILLA_SECRET_KEY", "planted-api-key")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut base_url = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut base_url).unwrap();
        Self { child, base_url: base_url.trim().to_owned() }
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_host_with_a_management_interface_alone_is_checked_by_it_and_has_its_own_colour() {
    let (house, interface) = (House::start().await, Interface::start());
    let api = json!({"base_url": interface.base_url, "public_key": "public-1", "secret_key": "planted-api-key"});
    let made = house.api.post("/api/hosts", json!({"name": "shop", "api": api})).await.must(201);
    let host = made["id"].as_str().unwrap();
    until("the own agent connects", async || {
        let own = house.api.get("/api/hosts?own=true").await;
        (own["items"][0]["status"] == "online").then_some(())
    })
    .await;
    let job = house.api.order(host, json!({"kind": "check_status"})).await;
    let end = house.api.end_of(&job).await;
    assert_eq!((&end["status"], &end["summary"]["way"]), (&json!("succeeded"), &json!("api")), "{end}");
    let status = house.api.get(&format!("/api/hosts/{host}/status")).await;
    assert_eq!((&status["job_id"], &status["results"]["version"]), (&json!(job), &json!("1.0")), "{status}");
    assert!(status["results"]["disk_usage_percent"].is_u64() && status["colour"] != "grey", "{status}");
    let own = house.api.get("/api/hosts?own=true").await["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(house.api.get(&format!("/api/hosts/{own}/status")).await["colour"], "grey", "it only ran the job");
    drop(interface);
    let job = house.api.order(host, json!({"kind": "check_status"})).await;
    let end = house.api.end_of(&job).await;
    assert_eq!(end["summary"]["class"], "unreachable", "{end}");
    assert_eq!(house.api.get(&format!("/api/hosts/{host}/status")).await["colour"], "red");
}
