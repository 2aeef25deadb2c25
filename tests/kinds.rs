//! Kinds of repositories as a person meets them: the form of each, the test of a connection that says exactly what is wrong, and the whole job on S3.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "support/house.rs"]
mod house;

use std::{fs, path::Path};

use flotilla::fleet::FleetOptions;
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};
use serde_json::json;

use house::{
    ADMIN, ADMIN_PASSWORD, House, Local,
    program::{Program, command, free_port, tool},
    raw_agent,
    repository::REPO_PASSWORD,
    system_clock,
    tree::{assert_same, write_odd_tree},
    wait::until,
};

const KEY_ID: &str = "AKIDFLOTILLA";
const KEY_SECRET: &str = "planted-s3/secret+1";

/// rclone, which plays S3.
struct S3 {
    _program: Program,
    port: u16,
}

impl S3 {
    async fn start(folder: &Path) -> Self {
        fs::create_dir_all(folder.join("data/bucket")).unwrap();
        let port = free_port();
        let mut serve = command(tool("bin/rclone").to_str().unwrap());
        serve.args(["serve", "s3", "--config=", "--auth-key", &format!("{KEY_ID},{KEY_SECRET}"), "--addr"]);
        serve.arg(format!("127.0.0.1:{port}")).arg(folder.join("data"));
        let program = Program::start(serve, folder, "rclone");
        until("rclone serves S3", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { _program: program, port }
    }
}

/// The administrator's browser.
struct Person {
    client: Client,
    base: String,
}

impl Person {
    async fn at(base: &str) -> Self {
        let client = Client::builder().redirect(Policy::none()).cookie_store(true).build().unwrap();
        let person = Self { client, base: base.to_owned() };
        let fields = [("name", ADMIN), ("password", ADMIN_PASSWORD), ("next", "")];
        let answer = person.client.post(format!("{base}/login")).form_of(&fields).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        person
    }

    /// A page, which never holds a secret.
    async fn page(&self, path: &str) -> String {
        let answer = self.client.get(format!("{}{path}", self.base)).header(header::ACCEPT, "text/html").send().await;
        let html = answer.unwrap().text().await.unwrap();
        assert!(!html.contains("planted"), "{path} holds a secret: {html}");
        html
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let settings = self.page("/settings").await;
        let csrf = settings.split_once(r#"name="csrf" value=""#).unwrap().1.split('"').next().unwrap();
        let fields = [fields, &[("csrf", csrf)]].concat();
        self.client.post(format!("{}{path}", self.base)).form_of(&fields).send().await.unwrap()
    }

    /// Sends a form that must be taken; says where it leads.
    async fn posted(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields).await;
        let (status, to) = (answer.status(), answer.headers().get(header::LOCATION).cloned());
        assert_eq!(status, StatusCode::SEE_OTHER, "{path}: {}", answer.text().await.unwrap());
        to.unwrap().to_str().unwrap().to_owned()
    }

    /// Sends a form that must be refused with these words, beside what was typed but for secrets.
    async fn refused(&self, path: &str, fields: &[(&str, &str)], words: &str) {
        let answer = self.post(path, fields).await;
        let status = answer.status();
        let html = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{words}: {html}");
        assert!(html.contains(words) && !html.contains("planted"), "{words}: {html}");
        assert!(html.contains(r#"value="depot""#), "what was typed is drawn again: {html}");
    }

    /// What the card of the connection says once the test that was begun is over.
    async fn card(&self, repo: &str) -> String {
        let path = format!("{repo}/test");
        let over =
            async || Some(self.page(&path).await).filter(|card| !card.contains("Testing") && card.contains("Log"));
        until("the test of the connection is over", over).await
    }
}

trait FormOf {
    fn form_of(self, fields: &[(&str, &str)]) -> Self;
}

impl FormOf for reqwest::RequestBuilder {
    fn form_of(self, fields: &[(&str, &str)]) -> Self {
        let pair = |(name, value): &(&str, &str)| {
            format!("{}={}", flotilla::paths::query_value(name), flotilla::paths::query_value(value))
        };
        let body = fields.iter().map(pair).collect::<Vec<_>>().join("&");
        self.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
    }
}

/// A kind, the parts that are typed and the variables, and the address that comes of it.
type Typed = (&'static str, &'static [(&'static str, &'static str)], &'static str);

const TYPED: [Typed; 8] = [
    (
        "rest",
        &[
            ("part.server", "https://vault:8000/"),
            ("part.path", "web"),
            ("auth.username", "web"),
            ("auth.password", "planted-auth"),
        ],
        "rest:https://vault:8000/web/",
    ),
    (
        "s3",
        &[("part.server", "s3.amazonaws.com"), ("part.bucket", "b"), ("env.AWS_SECRET_ACCESS_KEY", "planted-key")],
        "s3:s3.amazonaws.com/b",
    ),
    (
        "sftp",
        &[
            ("part.user", "backup"),
            ("part.server", "nas"),
            ("part.port", "2222"),
            ("part.path", "/srv/restic"),
            ("env.FLOTILLA_SFTP_KEY_FILE", "/etc/planted-path"),
        ],
        "sftp://backup@nas:2222//srv/restic",
    ),
    ("local", &[("part.path", "/srv/restic")], "/srv/restic"),
    ("b2", &[("part.bucket", "b"), ("part.path", "p"), ("env.B2_ACCOUNT_KEY", "planted-key")], "b2:b:p"),
    ("azure", &[("part.bucket", "c"), ("env.AZURE_ACCOUNT_KEY", "planted-key")], "azure:c:/"),
    ("gs", &[("part.bucket", "b"), ("part.path", "p"), ("env.GOOGLE_ACCESS_TOKEN", "planted-key")], "gs:b:/p"),
    (
        "rclone",
        &[("part.server", "drive:"), ("part.path", "p"), ("env.RCLONE_CONFIG_PASS", "planted-key")],
        "rclone:drive:p",
    ),
];

#[tokio::test]
async fn each_kinds_form_makes_its_address_and_no_page_gives_a_secret_back() {
    let site = Local::start(system_clock(), FleetOptions::default()).await;
    let ada = Person::at(&site.running.url).await;
    for (kind, typed, address) in TYPED {
        let form = ada.page(&format!("/repos/new?kind={kind}")).await;
        for (name, _) in typed {
            assert!(form.contains(&format!(r#"name="{name}""#)), "{kind} asks for {name}");
        }
        let fields =
            [&[("kind", kind), ("name", kind), ("password", "planted-repo"), ("begin", "there")], typed].concat();
        let repo = ada.posted("/repos/new", &fields).await;
        assert!(ada.page(&repo).await.contains(address), "{kind}");
        let edit = ada.page(&format!("{repo}/edit")).await;
        for (name, value) in typed.iter().filter(|(_, value)| !value.contains("planted")) {
            assert!(edit.contains(value.trim_end_matches(['/', ':'])), "{kind}: {name} comes back: {edit}");
        }
        let has_secrets = typed.iter().any(|(_, value)| value.contains("planted"));
        assert_eq!(edit.contains("Is set"), has_secrets, "{kind}: secrets are said to be set");
    }
    site.stop().await;
}

#[tokio::test]
async fn what_is_missing_or_wrong_in_a_form_is_said_at_its_field() {
    let site = Local::start(system_clock(), FleetOptions::default()).await;
    let ada = Person::at(&site.running.url).await;
    let s3 = ("part.server", "https://s3.example.org");
    for (kind, typed, words) in [
        ("s3", &[s3][..], "is missing: it must be something like backups"),
        ("rest", &[("part.server", "vault:8000")], "must go on with http:// or https://"),
        ("rest", &[("part.server", "https://u:planted-x@vault:8000")], "must not hold a user or password"),
        (
            "s3",
            &[("part.server", "https://AKID:planted-x@s3.example.org"), ("part.bucket", "b")],
            "must not hold credentials",
        ),
        ("sftp", &[("part.server", "nas"), ("part.path", "/srv"), ("part.port", "ssh")], "a port from 1 to 65535"),
        ("sftp", &[("part.server", "nas")], "is missing: it must be something like /srv/restic"),
        ("rclone", &[("part.server", "drive,ssh=sh"), ("part.path", "p")], "options and credentials do not belong"),
        (
            "s3",
            &[s3, ("part.bucket", "b"), ("env_name", "RCLONE_CONFIG_X_SSH"), ("env_value", "planted-x")],
            "would run a program",
        ),
    ] {
        let fields = [&[("kind", kind), ("name", "depot"), ("password", "planted-repo")], typed].concat();
        // What stands in an address is drawn again as it was typed, so these are asked for their words alone.
        if typed.iter().any(|(name, value)| name.starts_with("part.") && value.contains("planted")) {
            let html = ada.post("/repos/new", &fields).await.text().await.unwrap();
            assert!(html.contains(words), "{kind}: {html}");
        } else {
            ada.refused("/repos/new", &fields, words).await;
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn maintenance_credentials_and_variables_are_taken_away_by_a_tick() {
    let site = Local::start(system_clock(), FleetOptions::default()).await;
    let ada = Person::at(&site.running.url).await;
    let place = [("kind", "s3"), ("name", "depot"), ("part.server", "https://s3.example.org"), ("part.bucket", "b")];
    let secrets = [
        ("password", "planted-repo"),
        ("env.AWS_ACCESS_KEY_ID", "planted-id"),
        ("env.AWS_SESSION_TOKEN", "planted-token"),
        ("maintenance.env.AWS_ACCESS_KEY_ID", "planted-admin"),
    ];
    let repo = ada.posted("/repos/new", &[&place[..], &secrets].concat()).await;
    let edit = format!("{repo}/edit");
    assert!(ada.page(&edit).await.contains("Remove the maintenance credentials"));
    let both = [&place[..], &[("maintenance.remove", "true"), ("maintenance.env.AWS_ACCESS_KEY_ID", "planted-new")]];
    let answer = ada.post(&edit, &both.concat()).await;
    assert!(answer.text().await.unwrap().contains("go with new credentials"));
    let ticks = [("maintenance.remove", "true"), ("env_remove", "AWS_SESSION_TOKEN")];
    ada.posted(&edit, &[&place[..], &ticks].concat()).await;
    let stored = site.api.get(&format!("/api{repo}")).await;
    assert_eq!(stored["maintenance"], json!({"set": false}));
    assert_eq!(stored["env"], json!({"AWS_ACCESS_KEY_ID": {"set": true}}));
    assert!(!ada.page(&edit).await.contains("Remove the maintenance credentials"));
    site.stop().await;
}

#[tokio::test]
async fn a_copy_is_scheduled_by_form_and_keeps_both_repositories_from_being_removed() {
    let site = Local::start(system_clock(), FleetOptions::default()).await;
    let ada = Person::at(&site.running.url).await;
    let (from, to) = (folder_repo(&site, "near").await, folder_repo(&site, "far").await);
    let host = raw_agent::enrol(&site.api, "web").await.host_id;
    let typed = |target: &str| {
        let own = [("host_id", host.clone()), ("repo_id", from.clone()), ("to", target.to_owned())];
        let when = [
            ("kind", "copy"),
            ("schedule.preset", "daily"),
            ("schedule.from", "03:00"),
            ("schedule.to", "03:00"),
            ("schedule.timezone", "UTC"),
            ("schedule.enabled", "true"),
        ];
        own.into_iter().chain(when.map(|(name, value)| (name, value.to_owned()))).collect::<Vec<_>>()
    };
    for (target, words) in [("", "is missing"), (from.as_str(), "is the repository itself")] {
        let typed = typed(target);
        let typed: Vec<_> = typed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let html = ada.post("/schedules/new", &typed).await.text().await.unwrap();
        assert!(html.contains(words), "{html}");
    }
    let typed = typed(&to);
    let typed: Vec<_> = typed.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(ada.posted("/schedules/new", &typed).await, "/schedules");
    assert!(ada.page("/schedules").await.contains("near"));
    for (repo, name) in [(&from, "near"), (&to, "far")] {
        let page = ada.page(&format!("/repos/{repo}")).await;
        assert!(page.contains("Not while 1 schedule uses it"), "{page}");
        let refused = ada.post(&format!("/repos/{repo}/remove"), &[("confirm", name)]).await;
        assert_eq!(refused.status(), StatusCode::CONFLICT);
        assert!(refused.text().await.unwrap().contains("the schedule of the copy of web"));
    }
    site.stop().await;
}

async fn folder_repo(site: &Local, name: &str) -> String {
    site.api.repo(json!({"name": name, "url": format!("/srv/{name}"), "password": "planted-repo"})).await
}

#[tokio::test]
async fn a_repository_on_s3_is_added_by_form_tested_backed_up_to_browsed_and_restored_from() {
    let house = House::start().await;
    let s3 = S3::start(&house.folder("s3")).await;
    let source = house.folder("source");
    write_odd_tree(&source);
    let agent = house.agent("web").await;
    let ada = Person::at(&house.url).await;
    let server = format!("http://127.0.0.1:{}", s3.port);
    let place = [("kind", "s3"), ("name", "depot"), ("part.server", server.as_str()), ("part.bucket", "bucket")];
    let keys = [("env.AWS_ACCESS_KEY_ID", KEY_ID), ("env.AWS_SECRET_ACCESS_KEY", KEY_SECRET)];
    let begin = [("password", REPO_PASSWORD), ("begin", "create")];
    let page = ada.posted("/repos/new", &[&place[..], &keys, &begin].concat()).await;
    let test = format!("{page}/test");
    let from_web = [("host_id", agent.host_id.as_str())];
    ada.posted(&test, &from_web).await;
    let card = ada.card(&page).await;
    assert!(card.contains("Works") && card.contains("not yet: the first backup creates it"), "{card}");

    let repo = page.rsplit('/').next().unwrap();
    let plan = house.api.plan(&agent.host_id, repo, &[source.to_str().unwrap()], 0).await;
    let job = house.api.back_up(&agent.host_id, &plan).await;
    let ended = house.api.end_of(&job).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    let snapshot = ended["summary"]["snapshot_id"].as_str().unwrap();
    let tree = format!("/api/repos/{repo}/snapshots/{snapshot}/tree");
    house.api.post(&tree, json!({"path": source})).await.must(202);
    let path = format!("{tree}?path={}", flotilla::paths::query_value(source.to_str().unwrap()));
    let listed = until("the folder is listed", async || {
        let answer = house.api.try_get(&path).await?;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(listed["items"].as_array().unwrap().len(), fs::read_dir(&source).unwrap().count());
    let target = house.folder("restored");
    let restore = json!({"kind": "restore", "repo_id": repo, "snapshot": "latest", "target": target});
    let ended = house.api.end_of(&house.api.order(&agent.host_id, restore).await).await;
    assert_eq!(ended["status"], "succeeded", "{ended}");
    assert_same(&source, &target.join(source.strip_prefix("/").unwrap()));

    let edit = format!("{page}/edit");
    ada.posted(&edit, &[&place[..], &[("env.AWS_SECRET_ACCESS_KEY", "planted-wrong")]].concat()).await;
    ada.posted(&test, &from_web).await;
    let card = ada.card(&page).await;
    assert!(card.contains("Does not work") && card.contains("the secret access key is not its own"), "{card}");
    let port = free_port();
    let nowhere = format!("http://127.0.0.1:{port}");
    let moved = [("kind", "s3"), ("name", "depot"), ("part.server", nowhere.as_str()), ("part.bucket", "bucket")];
    ada.posted(&edit, &moved).await;
    ada.posted(&test, &from_web).await;
    let card = ada.card(&page).await;
    assert!(card.contains(&format!("Connect to 127.0.0.1, port {port}")) && card.contains("refused"), "{card}");
    for log in [house.server_log(), agent.log()] {
        assert!(!log.contains("planted-s3") && !log.contains("planted-wrong"), "a secret is in a log");
    }
}
