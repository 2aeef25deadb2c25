//! The JSON API as a script uses it: with a bearer token, by polling.

use std::{path::PathBuf, process::Command, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{program::run, wait::until};

/// A client.
pub(crate) struct Api {
    pub(crate) token: String,
    url: String,
    client: reqwest::Client,
    /// The certificate to trust, for a server with TLS.
    pem: Option<PathBuf>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answered {
    /// The body; fails where the status is another.
    pub(crate) fn must(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl Api {
    pub(crate) fn new(url: &str, token: &str, pem: Option<PathBuf>) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { token: token.to_owned(), url: url.to_owned(), client, pem }
    }

    pub(crate) fn client(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answered {
        if let Some(pem) = &self.pem {
            return self.by_curl(pem, &method, path, body);
        }
        let mut request = self.client(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        Answered { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// The client above has no TLS; curl's is another implementation than ours, which is all the better.
    fn by_curl(&self, pem: &PathBuf, method: &Method, path: &str, body: Option<Value>) -> Answered {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(pem);
        curl.args(["--noproxy", "*", "--request", method.as_str(), "--header"]);
        curl.arg(format!("Authorization: Bearer {}", self.token));
        if let Some(body) = body {
            curl.args(["--header", "Content-Type: application/json", "--data-binary", &body.to_string()]);
        }
        let said = run(curl.arg(format!("{}{path}", self.url)), "").must();
        let (text, status) = said.rsplit_once('\n').unwrap();
        let body = serde_json::from_str(text).unwrap_or(Value::String(text.to_owned()));
        Answered { status: status.parse().unwrap(), body }
    }

    /// The answer of a server that may be away, or go while it answers.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Answered> {
        answered(self.client(Method::GET, path)).await
    }

    /// The same for an order.
    pub(crate) async fn try_post(&self, path: &str, body: Value) -> Option<Answered> {
        answered(self.client(Method::POST, path).json(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask(Method::GET, path, None).await.must(200)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answered {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Adds a repository and gives its id.
    pub(crate) async fn repo(&self, input: Value) -> String {
        id(&self.post("/api/repos", input).await.must(201))
    }

    /// Adds a plan of one host and gives its id. Every file is logged.
    pub(crate) async fn plan(&self, host: &str, repo: &str, paths: &[&str], limit_upload_kib: u32) -> String {
        let name = format!("plan {} {limit_upload_kib}", paths[0]);
        let plan = json!({
            "name": name, "repo_id": repo, "hosts": [host], "paths": paths,
            "options": {"log_files": true, "limit_upload_kib": limit_upload_kib},
        });
        id(&self.post("/api/plans", plan).await.must(201))
    }

    /// Orders a job and gives its id.
    pub(crate) async fn order(&self, host: &str, request: Value) -> String {
        let made = self.post(&format!("/api/hosts/{host}/jobs"), request).await.must(202);
        made["job_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn back_up(&self, host: &str, plan: &str) -> String {
        self.order(host, json!({"kind": "backup", "plan_id": plan})).await
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.get(&format!("/api/jobs/{id}")).await
    }

    /// The job, once it is over.
    pub(crate) async fn end_of(&self, id: &str) -> Value {
        until(&format!("job {id} ends"), async || Some(self.job(id).await).filter(is_over)).await
    }

    /// The job, once it runs and has stored so many lines. Fails where it ends before that.
    pub(crate) async fn running_with(&self, id: &str, lines: u64) -> Value {
        until(&format!("job {id} runs and has {lines} lines"), async || {
            let job = self.job(id).await;
            assert!(!is_over(&job), "it is over already: {job}");
            Some(job).filter(|job| job["status"] == "running" && job["log_lines"].as_u64() >= Some(lines))
        })
        .await
    }

    /// Waits for a host to be `online`, `offline` or `never`.
    pub(crate) async fn host_in_state(&self, id: &str, state: &str) {
        let path = format!("/api/hosts/{id}");
        until(&format!("host {id} is {state}"), async || (self.get(&path).await["status"] == state).then_some(()))
            .await;
    }

    /// All stored lines, by pages of `limit`.
    pub(crate) async fn log(&self, id: &str, limit: u32) -> Vec<Value> {
        let (mut lines, mut after) = (Vec::new(), Some(0));
        while let Some(from) = after {
            let page = self.get(&format!("/api/jobs/{id}/log?after={from}&limit={limit}")).await;
            lines.extend(page["lines"].as_array().unwrap().iter().cloned());
            after = page["next"].as_u64();
        }
        lines
    }

    /// The log as text.
    pub(crate) async fn log_text(&self, id: &str) -> String {
        let response = self.client(Method::GET, &format!("/api/jobs/{id}/log.txt")).send().await.unwrap();
        response.text().await.unwrap()
    }
}

/// The id of what was made.
pub(crate) fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}

async fn answered(request: reqwest::RequestBuilder) -> Option<Answered> {
    let response = request.timeout(Duration::from_secs(5)).send().await.ok()?;
    let status = response.status().as_u16();
    let text = response.text().await.ok()?;
    Some(Answered { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

/// Whether a job has ended.
pub(crate) fn is_over(job: &Value) -> bool {
    !["queued", "running"].contains(&job["status"].as_str().unwrap())
}

/// Asserts that lines are numbered from 1, without a gap and without a repeat.
pub(crate) fn assert_whole(lines: &[Value]) {
    for (line, expected) in lines.iter().zip(1_u64..) {
        assert_eq!(line["seq"], expected, "a gap or a repeat");
    }
}
