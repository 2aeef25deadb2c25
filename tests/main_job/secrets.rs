//! Secrets are planted, everything is used, and then they are looked for wherever anyone could see them.

use std::{fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flotilla::http::table;
use reqwest::{Method, header};

use crate::{
    house::{
        ADMIN, ADMIN_PASSWORD, Agent, House,
        api::id,
        repository::{AUTH_PASSWORD, REPO_PASSWORD, RestServer, USER},
        tree::write_files,
        wait::until,
    },
    text,
};

/// A secret and the spellings in which it could turn up.
struct Planted {
    what: &'static str,
    spellings: Vec<Vec<u8>>,
}

impl Planted {
    fn new(what: &'static str, secret: &str) -> Self {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let json = serde_json::to_string(secret).unwrap().trim_matches('"').to_owned();
        let spellings =
            [secret.to_owned(), hex, percent, json, STANDARD.encode(secret).trim_end_matches('=').to_owned()];
        Self { what, spellings: spellings.map(String::into_bytes).to_vec() }
    }
}

fn assert_clean(place: &str, bytes: &[u8], secrets: &[Planted]) {
    for Planted { what, spellings } in secrets {
        for spelling in spellings {
            let found = bytes.windows(spelling.len()).any(|window| window == spelling);
            assert!(!found, "{place} holds the {what} as {}", String::from_utf8_lossy(spelling));
        }
    }
}

/// The argument lists of all processes of this machine.
fn argument_lists() -> Vec<(u32, Vec<u8>)> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter_map(|pid: u32| Some((pid, fs::read(format!("/proc/{pid}/cmdline")).ok()?))).collect()
}

/// Waits until restic works for the agent, and looks at the argument lists of all processes meanwhile.
async fn watch_arguments(agent: &Agent, secrets: &[Planted]) {
    until("restic backs up", async || {
        let lists = argument_lists();
        for (pid, list) in &lists {
            assert_clean(&format!("the argument list of process {pid}"), list, secrets);
        }
        let family = agent.processes();
        let is_restic = |(pid, list): &(u32, Vec<u8>)| {
            family.contains(pid) && list.split(|b| *b == 0).any(|argument| argument == b"backup")
        };
        lists.iter().any(is_restic).then_some(())
    })
    .await;
}

/// Every byte of every file below a folder.
fn check_folder(folder: &Path, secrets: &[Planted]) {
    let mut seen = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_clean(text(&path), &fs::read(&path).unwrap(), secrets);
                seen += 1;
            }
        }
    }
    assert!(seen > 1, "{} holds no files", folder.display());
}

/// Every answer of the route table to a GET, with ids of what is there.
async fn check_answers(house: &House, ids: &[(&str, &str)], secrets: &[Planted]) {
    let mut seen = 0;
    for route in table().into_iter().filter(|route| route.method == Method::GET) {
        let section = route.path.trim_start_matches("/api").trim_start_matches('/').split('/').next().unwrap();
        let id = ids.iter().find(|(name, _)| *name == section).map_or("none", |(_, id)| id);
        let path = route.path.replace("{id}", id);
        if path.contains('{') || path.ends_with("/stream") {
            continue;
        }
        for query in ["", "?tab=jobs", "?tab=settings", "?tab=edit", "?fragment=1"] {
            let request =
                house.api.client(Method::GET, &format!("{path}{query}")).header(header::ACCEPT_ENCODING, "identity");
            let answer = request.send().await.unwrap();
            let status = answer.status();
            // Of a wizard's step and a download there is none here; what they say of that is looked at all the same.
            if query.is_empty() && id != "none" && path.contains(id) {
                assert!(status.is_success() || status.is_redirection(), "{path}: {status}");
            }
            let headers = format!("{:?}", answer.headers());
            assert_clean(&format!("the head of {path}{query}"), headers.as_bytes(), secrets);
            assert_clean(&format!("{path}{query}"), &answer.bytes().await.unwrap(), secrets);
            seen += usize::from(status.is_success());
        }
    }
    assert!(seen > 50, "only {seen} answers were looked at");
}

#[tokio::test]
async fn no_secret_is_seen_in_argument_lists_logs_the_database_pages_or_answers() {
    let house = House::start().await;
    let rest = RestServer::start(&house.folder("rest")).await;
    let source = house.folder("source");
    write_files(&source, 300, 10_000);
    let agent = house.agent("web").await;
    let repo = house.api.repo(rest.ready("vault")).await;
    let mut wrong = rest.input("wrong");
    wrong["url"] = wrong["url"].as_str().unwrap().replace("/wrong/", "/vault/").into();
    wrong["password"] = "planted-wrong pw".into();
    let wrong = house.api.repo(wrong).await;
    let plan = house.api.plan(&agent.host_id, &repo, &[text(&source)], 500).await;
    let issued = house.api.post("/api/enrollment-tokens", serde_json::json!({})).await.must(201);
    let schedule = serde_json::json!({
        "host_id": agent.host_id, "kind": "check", "repo_id": repo, "cron": "0 3 1 1 *", "timezone": "UTC", "enabled": true,
    });
    let schedule = id(&house.api.post("/api/schedules", schedule).await.must(201));
    let secrets = [
        Planted::new("repository password", REPO_PASSWORD),
        Planted::new("wrong repository password", "planted-wrong pw"),
        Planted::new("REST password", AUTH_PASSWORD),
        Planted::new("basic authentication", &format!("{USER}:{AUTH_PASSWORD}")),
        Planted::new("account password", ADMIN_PASSWORD),
        Planted::new("API token", &house.api.token),
        Planted::new("enrolment token", issued["token"].as_str().unwrap()),
        Planted::new("agent token", &agent.token),
    ];

    let job = house.api.back_up(&agent.host_id, &plan).await;
    watch_arguments(&agent, &secrets).await;
    assert_eq!(house.api.end_of(&job).await["status"], "succeeded");
    let args = serde_json::json!({"kind": "backup", "repo_id": wrong, "args": [text(&source)]});
    let failed = house.api.order(&agent.host_id, args).await;
    assert_eq!(house.api.end_of(&failed).await["status"], "failed");
    let login = [("name", ADMIN), ("password", ADMIN_PASSWORD), ("next", "")];
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(login).finish();
    let logged_in =
        house.api.client(Method::POST, "/login").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert!(logged_in.body(form).send().await.unwrap().status().as_u16() < 500);

    for id in [&job, &failed] {
        let log = house.api.log_text(id).await;
        assert!(!log.is_empty());
        assert_clean("the job's log", log.as_bytes(), &secrets);
    }
    let waiting = ("enrollment-tokens", issued["id"].as_str().unwrap());
    let fixed = [("hosts", agent.host_id.as_str()), ("plans", &plan), ("schedules", &schedule), waiting];
    for pair in [[("jobs", job.as_str()), ("repos", &repo)], [("jobs", &failed), ("repos", &wrong)]] {
        check_answers(&house, &[&fixed[..], &pair].concat(), &secrets).await;
    }
    assert!(house.server_log().contains("agent connected") && !agent.log().is_empty());
    assert_clean("the server's log", house.server_log().as_bytes(), &secrets);
    assert_clean("the agent's log", agent.log().as_bytes(), &secrets);
    check_folder(&house.data_dir(), &secrets);
    // The agent's own folder holds its own token and nothing else.
    check_folder(&house.folder("host-web"), &secrets[..7]);
}
