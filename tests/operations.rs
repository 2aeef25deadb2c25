//! Pages of runbooks on real parts: a file is dropped into the folder, its page and button are there, its form runs it on an agent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::fs;

use reqwest::{Method, header};
use serde_json::json;

use house::{Agent, House};

const GREET: &str = r#"
name = "greet"
title = "Greet <b>someone</b>"

[[inputs]]
name = "who"
label = "To whom"
type = "string"
default = "world"

[[inputs]]
name = "loud"
type = "bool"
default = true

[[inputs]]
name = "key"
type = "secret"
optional = true

[[steps]]
type = "ssh"
label = "Say it"
cmd = "echo hello {{ who }}; test -z {{ key }} || echo with a key"

[[steps]]
type = "ssh"
label = "Shout"
when = "loud"
cmd = "echo HELLO"
env = { TOKEN = "{{ key }}" }

[[results]]
name = "greeting"
regex = '^hello (?P<greeting>.+)$'
"#;

const WIPE: &str = r#"
name = "wipe"
title = "Wipe"

[[inputs]]
name = "sure"
type = "bool"

[[steps]]
type = "ssh"
label = "Take it away"
destructive = true
when = "sure"
cmd = "echo gone"
"#;

/// Puts a file into the operator's folder of runbooks.
fn drop_in(house: &House, name: &str, text: &str) {
    let folder = house.data_dir().join("runbooks");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

fn allow_all(agent: &Agent) {
    fs::write(agent.state_dir().join("agent.toml"), "allow_remote_commands = true\n").unwrap();
}

/// What a page or a form answers.
struct Seen {
    status: u16,
    /// Where it leads.
    to: String,
    html: String,
}

impl Seen {
    #[track_caller]
    fn has(&self, words: &[&str]) {
        for words in words {
            assert!(self.html.contains(words), "{words} is not in {}", self.html);
        }
    }

    #[track_caller]
    fn has_not(&self, words: &[&str]) {
        for words in words {
            assert!(!self.html.contains(words), "{words} is in {}", self.html);
        }
    }

    /// The job that it leads to.
    #[track_caller]
    fn job(&self) -> String {
        assert_eq!(self.status, 303, "{}", self.html);
        self.to.strip_prefix("/jobs/").unwrap().to_owned()
    }
}

async fn seen(request: reqwest::RequestBuilder) -> Seen {
    let answer = request.header(header::ACCEPT, "text/html").send().await.unwrap();
    let to = answer.headers().get(header::LOCATION).map(|to| to.to_str().unwrap().to_owned());
    Seen { status: answer.status().as_u16(), to: to.unwrap_or_default(), html: answer.text().await.unwrap() }
}

async fn get(house: &House, path: &str) -> Seen {
    seen(house.api.client(Method::GET, path)).await
}

fn form(house: &House, path: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = fields.iter().map(|(name, value)| format!("{name}={}", flotilla::paths::query_value(value)));
    house
        .api
        .client(Method::POST, path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(body.collect::<Vec<_>>().join("&"))
}

async fn post(house: &House, path: &str, fields: &[(&str, &str)]) -> Seen {
    seen(form(house, path, fields)).await
}

#[tokio::test]
async fn a_file_that_is_dropped_in_has_its_page_and_its_button_at_once_and_runs() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    let tab = format!("/hosts/{}?tab=operations", agent.host_id);
    assert_eq!(get(&house, "/runbooks/greet").await.status, 404);
    get(&house, &tab).await.has_not(&["Greet"]);

    drop_in(&house, "greet.toml", GREET);
    drop_in(&house, "broken.toml", &GREET.replace("label = \"Shout\"", "lable = \"Shout\""));
    get(&house, "/runbooks").await.has(&["Greet &lt;b&gt;someone", "Line 28: Unknown field `lable`", "broken.toml"]);
    let page = format!("/runbooks/greet?host={}", agent.host_id);
    get(&house, &tab).await.has(&["Greet &lt;b&gt;someone", "by agent", &page, "Run a command", "off by default"]);
    get(&house, "/runbooks/greet").await.has(&["On which host?", "by agent", &page]);
    get(&house, &page).await.has(&["To whom", "value=\"world\"", "Say it"]);

    let run = post(&house, "/runbooks/greet", &[("host", &agent.host_id), ("params.who", "$(id) <i>")]).await;
    let job = run.job();
    let end = house.api.end_of(&job).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    assert_eq!(end["summary"]["results"]["greeting"], "$(id) <i>");
    get(&house, &format!("/jobs/{job}")).await.has(&["by agent", "$(id) &lt;i&gt;", "Left out", "Run again…"]);
    get(&house, &tab).await.has(&["Last runs", &job]);

    let step = get(&house, &format!("/jobs/{job}?step=1")).await;
    let line = house.api.log(&job, 1000).await.into_iter().find(|line| line["text"] == "=== [Step 1/2] Say it ===");
    let line = line.unwrap()["seq"].as_u64().unwrap();
    assert_eq!((step.status, step.to), (303, format!("/jobs/{job}?from={line}#L{line}")));
    assert_eq!(get(&house, &format!("/jobs/{job}?step=9")).await.to, format!("/jobs/{job}"));
}

#[tokio::test]
async fn answers_that_do_not_do_are_said_at_their_fields_and_what_was_typed_stays_but_for_secrets() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    drop_in(&house, "greet.toml", GREET);
    let host = ("host", agent.host_id.as_str());
    let secret = ("params.key", "planted-secret\u{1}");
    let refused = post(&house, "/runbooks/greet", &[host, ("params.who", "-\"rf"), secret, ("params.whom", "x")]).await;
    assert_eq!(refused.status, 422);
    refused.has(&[
        "value=\"-&quot;rf\"",
        "aria-describedby=\"run-params-who-error\"",
        "it begins with a dash",
        "it holds the control character",
        "params.whom: the runbook does not ask for this",
    ]);
    refused.has_not(&["planted-secret", "name=\"params.loud\" value=\"true\" checked"]);
    assert_eq!(house.api.get("/api/jobs").await["items"], json!([]), "nothing was made");
    assert_eq!(post(&house, "/runbooks/greet", &[("params.who", "x")]).await.status, 422, "no host");
    let nobody = post(&house, "/runbooks/greet", &[("host", "01JD3K8ZQV5C0F8R4X7M2N9ABC")]).await;
    assert_eq!(nobody.status, 404);
}

#[tokio::test]
async fn a_preview_shows_the_exact_commands_with_secrets_masked_and_makes_no_job() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    drop_in(&house, "greet.toml", GREET);
    let fields = [("host", agent.host_id.as_str()), ("params.who", "it's <b>"), ("params.key", "planted-secret")];
    let whole = post(&house, "/runbooks/greet/preview", &fields).await;
    assert_eq!(whole.status, 200);
    let command = r#"echo hello 'it'\''s &lt;b&gt;'; test -z &quot;$FLOTILLA_SECRET_KEY&quot;"#;
    whole.has(&["<!DOCTYPE html>", command, "on web", "••••", "left out", "value=\"it's &lt;b&gt;\""]);
    whole.has_not(&["planted-secret"]);

    let part = seen(form(&house, "/runbooks/greet/preview", &fields).header("hx-request", "true")).await;
    part.has(&[command, "id=\"run-form\""]);
    part.has_not(&["<!DOCTYPE html>", "planted-secret"]);
    // Where htmx asks, the form comes back with its errors under a status that htmx draws.
    let bad = [("host", agent.host_id.as_str()), ("params.who", "-x")];
    let part = seen(form(&house, "/runbooks/greet/preview", &bad).header("hx-request", "true")).await;
    assert_eq!(part.status, 200);
    part.has(&["it begins with a dash"]);
    assert_eq!(post(&house, "/runbooks/greet/preview", &bad).await.status, 422);
    assert_eq!(house.api.get("/api/jobs").await["items"], json!([]), "nothing was made");
}

#[tokio::test]
async fn what_removes_something_asks_for_the_hosts_name_once_the_answers_say_so() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    drop_in(&house, "wipe.toml", WIPE);
    let (host, sure) = (("host", agent.host_id.as_str()), ("params.sure", "true"));
    let asked = post(&house, "/runbooks/wipe", &[host, sure]).await;
    assert_eq!(asked.status, 422);
    asked.has(&["open data-modal", "Run “Wipe” on web?", "<li>Take it away</li>", "Nothing is saved before"]);
    asked.has(&["name=\"params.sure\" value=\"true\" checked"]);
    let job = post(&house, "/runbooks/wipe", &[host, sure, ("confirm", "web")]).await.job();
    assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    // Without the answer nothing is lost, and nothing is asked.
    let job = post(&house, "/runbooks/wipe", &[host]).await.job();
    assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
}

#[tokio::test]
async fn a_run_again_begins_with_the_earlier_answers_and_says_whether_the_file_changed() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    drop_in(&house, "greet.toml", GREET);
    let host = ("host", agent.host_id.as_str());
    let fields = [host, ("params.who", "ann & bob"), ("params.key", "planted-secret")];
    let job = post(&house, "/runbooks/greet", &fields).await.job();
    house.api.end_of(&job).await;
    let again = format!("/runbooks/greet?host={}&from={job}", agent.host_id);
    get(&house, &format!("/jobs/{job}")).await.has(&[&again.replace('&', "&amp;")]);
    let page = get(&house, &again).await;
    page.has(&["value=\"ann &amp; bob\"", "The file is the same as then", "Secrets were not kept"]);
    page.has_not(&["planted-secret", "name=\"params.loud\" value=\"true\" checked"]);
    // What the form leaves open is open now, whatever was answered then.
    let repeated = post(&house, "/runbooks/greet", &[host, ("from", &job), ("params.who", "")]).await.job();
    let end = house.api.end_of(&repeated).await;
    assert_eq!(end["summary"]["results"]["greeting"], "world", "{end}");
    get(&house, &format!("/jobs/{repeated}")).await.has(&["follows an earlier job", &job]);
    drop_in(&house, "greet.toml", &GREET.replace("HELLO", "HEY"));
    get(&house, &again).await.has(&["The file has changed since"]);
}

#[tokio::test]
async fn administrators_paste_steps_and_are_told_what_is_wrong_in_the_parsers_words() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    allow_all(&agent);
    let host = ("host", agent.host_id.as_str());
    let page = format!("/runbooks/steps?host={}", agent.host_id);
    get(&house, &page).await.has(&["Paste steps", "by agent", "name=\"params.steps\""]);
    for (steps, words) in [
        ("nonsense </textarea>", "this is no JSON"),
        ("{}", "this is no JSON array"),
        (r#"[{"type": "shell", "cmd": "id"}]"#, "unknown variant `shell`"),
        (r#"[{"type": "ssh", "cmd": "id", "comand": 1}]"#, "unknown field `comand`"),
    ] {
        for path in ["/runbooks/steps", "/runbooks/steps/preview"] {
            let refused = post(&house, path, &[host, ("params.steps", steps)]).await;
            assert_eq!(refused.status, 422, "{}", refused.html);
            refused.has(&[words, "aria-describedby=\"run-params-steps-hint run-params-steps-error\""]);
            refused.has_not(&["</textarea></textarea>"]);
        }
    }
    let steps = r#"[{"type": "ssh", "label": "One", "cmd": "echo one"}, {"type": "ssh", "label": "Last", "cmd": "echo last", "teardown": true}]"#;
    post(&house, "/runbooks/steps/preview", &[host, ("params.steps", steps)]).await.has(&["echo one", "echo last"]);
    let job = post(&house, "/runbooks/steps", &[host, ("params.steps", steps)]).await.job();
    assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    let again = get(&house, &format!("{page}&from={job}")).await;
    again.has(&["echo last", "&quot;teardown&quot;: true", "an earlier job"]);
}

#[tokio::test]
async fn who_may_only_look_sees_no_run_and_who_is_no_administrator_is_told_so() {
    let house = House::start().await;
    let agent = house.agent("web").await;
    drop_in(&house, "greet.toml", GREET);
    drop_in(&house, "keys.toml", &GREET.replace("name = \"greet\"", "name = \"keys\"\nrole = \"admin\""));
    for (name, role) in [("vera", "viewer"), ("otto", "operator")] {
        let user = json!({"name": name, "role": role, "password": "a long enough password"});
        house.api.post("/api/users", user).await.must(201);
    }
    let on = |name: &str| format!("/runbooks/{name}?host={}", agent.host_id);
    let host = ("host", agent.host_id.as_str());
    let house = house.with_token("vera");
    get(&house, &on("greet")).await.has_not(&["name=\"params.who\"", "Run on web"]);
    get(&house, "/runbooks").await.has_not(&["/runbooks/steps"]);
    for path in ["/runbooks/greet", "/runbooks/greet/preview"] {
        assert_eq!(post(&house, path, &[host]).await.status, 403, "{path}");
    }
    let house = house.with_token("otto");
    get(&house, &on("greet")).await.has(&["name=\"params.who\"", "Run on web"]);
    get(&house, &on("keys")).await.has(&["this needs the role admin"]);
    for path in ["/runbooks/keys", "/runbooks/keys/preview", "/runbooks/steps", "/runbooks/steps/preview"] {
        assert_eq!(post(&house, path, &[host]).await.status, 403, "{path}");
    }
    assert_eq!(get(&house, "/runbooks/steps").await.status, 403);
    assert_eq!(house.api.get("/api/jobs").await["items"], json!([]), "nothing was made");
}
