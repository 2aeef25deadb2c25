//! A running web service over sample data, browsers that ask it, and a check of what they get. Every secret of the sample begins with `planted`,
//! so that one look tells whether an answer holds one.

use std::net::SocketAddr;

use flotilla::{
    clock::ManualClock,
    domain::{
        HostId, JobId, JobKind, JobStatus, Line, LineText, PlanId, RepoId, Stream, Timestamp, Vitals,
        event::{frame, lines_frame},
        job::{Actor, End, JobInput, JobNo, NewJob},
        user::Role,
    },
    http::{AppState, Deps, Settings, service},
    hub::Hub,
    lifecycle::Tasks,
    ops::{
        accounts::{self, NewAccount},
        plans, repos,
    },
    store::{
        Append, EncodedLines, Store,
        hosts::{self, Facts, NewHost},
        jobs,
    },
    vault::Vault,
};
use reqwest::{Client, Response, StatusCode, header, redirect::Policy};

/// The password of every account.
pub(crate) const PASSWORD: &str = "planted-user-password";
/// A secret of the repositories.
pub(crate) const PLANTED: &str = "planted-repo-password";

const NOW: i64 = 1_795_248_000_000;

/// Ids of the sample.
pub(crate) struct Ids {
    /// `web-1` (online, covered), `web-2` (away), `db-1` (no restic), `bare` (no plan).
    pub(crate) hosts: Vec<HostId>,
    /// Succeeded with 3000 lines, failed, warning, cancelled, running, queued.
    pub(crate) jobs: Vec<JobId>,
    /// `vault`.
    pub(crate) repo: RepoId,
    /// `nightly`, of the tag `eu`.
    pub(crate) plan: PlanId,
}

/// A running service.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) vault: Vault,
    pub(crate) ids: Ids,
    pub(crate) address: SocketAddr,
    tasks: Tasks,
    _dir: tempfile::TempDir,
}

impl Site {
    /// Names the first host as the one on which its repositories are maintained.
    pub(crate) async fn maintained(&self) {
        let host = self.ids.hosts[0].to_string();
        let name = move |tx: &mut flotilla::store::WriteTx<'_>| {
            let set = tx.db().execute("UPDATE repos SET maintenance_host_id = ?1", [host]);
            set.map_err(flotilla::store::StoreError::from)
        };
        self.store.write(name).await.unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Site {
    /// With sample data.
    pub(crate) async fn start() -> Self {
        let (mut site, state) = Self::serve().await;
        site.ids = fill(&state).await;
        site
    }

    /// Without any data.
    pub(crate) async fn empty() -> Self {
        Self::serve().await.0
    }

    async fn serve() -> (Self, AppState) {
        let dir = tempfile::tempdir().unwrap();
        let (hub, tasks) = (Hub::new(), Tasks::new());
        let clock = ManualClock::at(Timestamp::from_unix_ms(NOW));
        let store = Store::open(dir.path(), hub.clone(), clock.clone()).unwrap();
        let vault = Vault::open(None, &dir.path().join("master.key")).unwrap().0;
        let deps = Deps {
            store: store.clone(),
            hub: hub.clone(),
            vault: vault.clone(),
            clock,
            tasks: tasks.clone(),
            runbooks: Default::default(),
        };
        let settings = Settings {
            public_url: "http://flotilla.example".to_owned(),
            public_url_given: true,
            ..Settings::default()
        };
        let state = AppState::new(deps, settings);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = service(state.clone(), Vec::new()).into_make_service_with_connect_info::<SocketAddr>();
        let soft = tasks.soft_token();
        tasks.spawn(async move {
            axum::serve(listener, app).with_graceful_shutdown(soft.cancelled_owned()).await.unwrap();
        });
        let ids =
            Ids { hosts: Vec::new(), jobs: Vec::new(), repo: RepoId::from_parts(0, 0), plan: PlanId::from_parts(0, 0) };
        (Self { store, hub, vault, ids, address, tasks, _dir: dir }, state)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A client without cookies.
    pub(crate) fn client(&self) -> Client {
        Client::builder().redirect(Policy::none()).build().unwrap()
    }

    /// A browser of its own.
    pub(crate) fn browser(&self) -> Browser {
        let client = Client::builder().redirect(Policy::none()).cookie_store(true).build().unwrap();
        Browser { client, base: self.url("") }
    }
}

/// Someone's browser: keeps cookies, follows nothing by itself.
pub(crate) struct Browser {
    client: Client,
    base: String,
}

impl Browser {
    pub(crate) async fn ask(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).header(header::ACCEPT, "text/html").send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.ask(path).await;
        (answer.status(), answer.text().await.unwrap())
    }

    pub(crate) async fn log_in(&self, name: &str) {
        let answer = self.post("/login", &[("name", name), ("password", PASSWORD), ("next", "")]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{name} could not log in");
    }

    /// The token that forms carry; empty for who is not logged in.
    pub(crate) async fn csrf(&self) -> String {
        let (status, html) = self.get("/settings").await;
        if status == StatusCode::OK { between(&html, r#"name="csrf" value=""#, "\"").to_owned() } else { String::new() }
    }

    /// Sends a form as a page would.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        let csrf = self.csrf().await;
        let mut fields = fields.to_vec();
        fields.push(("csrf", &csrf));
        self.post_raw(path, &fields, &[]).await
    }

    /// Sends a form that must be taken; says where it leads.
    pub(crate) async fn posted(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.post(path, fields).await;
        let (status, to) = (answer.status(), answer.headers().get(header::LOCATION).cloned());
        assert_eq!(status, StatusCode::SEE_OTHER, "{path}: {}", answer.text().await.unwrap());
        to.unwrap().to_str().unwrap().to_owned()
    }

    pub(crate) async fn post_raw(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Response {
        let body = fields.iter().map(|(name, value)| format!("{name}={}", flotilla::paths::query_value(value)));
        let mut request = self
            .client
            .post(format!("{}{path}", self.base))
            .header(header::ACCEPT, "text/html")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.collect::<Vec<_>>().join("&"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

/// What stands between two texts; the first place where both are.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?} in {text}"));
    rest.split_once(end).unwrap().0
}

/// An answer in HTML: its tags match, nothing of it is a secret, no id is there twice, no script or style stands in it.
pub(crate) fn check_html(page: &str, html: &str) {
    assert!(!html.contains("planted"), "{page} shows a secret: {html}");
    assert!(
        !html.contains("<script>") && !html.contains("style=\"") && !html.contains("onclick="),
        "{page} has inline code"
    );
    const VOID: [&str; 9] = ["meta", "link", "input", "br", "img", "hr", "source", "wbr", "col"];
    let (mut open, mut ids, mut rest) = (Vec::new(), std::collections::HashSet::new(), html);
    while let Some((_, tag)) = rest.split_once('<') {
        let end = end_of_tag(tag).unwrap_or_else(|| panic!("{page}: a tag does not end: {tag}"));
        let (inside, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        let name = inside.trim_start_matches('/').split([' ', '\n', '>']).next().unwrap().to_lowercase();
        if let Some((_, id)) = inside.split_once(" id=\"") {
            let id = id.split('"').next().unwrap();
            assert!(ids.insert(id.to_owned()), "{page}: the id {id} is there twice");
        }
        if inside.starts_with('!') || VOID.contains(&name.as_str()) {
            continue;
        }
        if inside.starts_with('/') {
            assert_eq!(open.pop().as_deref(), Some(name.as_str()), "{page}: </{name}> closes another tag");
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{page}: not closed: {open:?}");
}

fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quoted = false;
    tag.bytes().position(|b| {
        quoted ^= b == b'"';
        b == b'>' && !quoted
    })
}

async fn fill(state: &AppState) -> Ids {
    for (name, role) in [("ada", Role::Admin), ("otto", Role::Operator), ("vera", Role::Viewer)] {
        let new = NewAccount { name: name.to_owned(), password: PASSWORD.into(), role };
        accounts::create_user(&state.store, &state.passwords, Actor::system(), new).await.unwrap();
    }
    let repo = serde_json::json!({
        "name": "vault", "url": "rest:https://backup.example.org:8000/web/", "password": PLANTED,
        "auth": {"username": "web", "password": "planted-auth-password"},
        "maintenance": {"username": "admin", "password": "planted-admin-password"},
        "env": {"AWS_SECRET_ACCESS_KEY": "planted-env"}, "append_only": true, "init": true,
    });
    let repo = repos::create(&state.store, &state.vault, Actor::system(), serde_json::from_value(repo).unwrap());
    let repo = repo.await.unwrap().id;
    let plan = serde_json::json!({
        "name": "nightly", "repo_id": repo, "tags": ["eu"], "paths": ["/etc", "/home", "/var/lib"], "excludes": ["*.tmp"],
        "options": {"one_file_system": true}, "retention": {"keep_daily": 7, "keep_weekly": 4},
    });
    let plan = plans::create(&state.store, Actor::system(), serde_json::from_value(plan).unwrap()).await.unwrap().id;
    let hosts = add_hosts(state).await;
    let jobs = add_jobs(state, &hosts, plan, repo).await;
    Ids { hosts, jobs, repo, plan }
}

async fn add_hosts(state: &AppState) -> Vec<HostId> {
    let mut ids = Vec::new();
    for (n, (name, tags, restic)) in [
        ("web-1", &["eu", "web"][..], true),
        ("web-2", &["eu", "web"], true),
        ("db-1", &["eu", "db"], false),
        ("bare", &[], true),
    ]
    .into_iter()
    .enumerate()
    {
        let id = HostId::from_parts(NOW.unsigned_abs(), n as u128);
        let facts = Facts {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            hostname: format!("{name}.example.org"),
            agent_version: "0.1.0".to_owned(),
            restic_version: restic.then(|| "0.18.0".to_owned()),
            boot_id: String::new(),
        };
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let hash = [u8::try_from(n).unwrap(); 32];
        let host = NewHost { id, name: name.to_owned(), tags, token_hash: Some(hash), enrol_token: None, facts };
        state.store.write(move |tx| hosts::insert(tx, &host)).await.unwrap();
        if name != "bare" {
            state.store.write(move |tx| hosts::seen(tx, &[(id, ago(600))])).await.unwrap();
        }
        if name == "web-1" || name == "db-1" {
            state.hub.arrived(id, 1, ago(3600));
            let vitals = serde_json::json!({"load": [0.5, 0.4, 0.3], "mem": {"free": 2_000_000_000_u64, "total": 8_000_000_000_u64},
                "disk": {"/": {"free": 50_000_000_000_u64, "total": 80_000_000_000_u64}}});
            let vitals: Vitals = serde_json::from_value(vitals).unwrap();
            state.hub.heard(id, 1, ago(5), Some(vitals));
        }
        ids.push(id);
    }
    ids
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOW).plus_s(-seconds)
}

async fn add_jobs(state: &AppState, hosts: &[HostId], plan: PlanId, repo: RepoId) -> Vec<JobId> {
    let summary = serde_json::json!({"snapshot_id": "5fa1c2d8".repeat(8), "files_new": 12, "files_changed": 3, "files_unmodified": 48_000,
        "data_added": 5_000_000, "data_added_packed": 2_100_000, "total_files_processed": 48_015, "total_bytes_processed": 31_000_000_000_u64, "total_duration": 93.2});
    let mut ids = Vec::new();
    let stories = [
        (0, Some(JobStatus::Succeeded), 3000),
        (1, Some(JobStatus::Failed), 40),
        (0, Some(JobStatus::Warning), 5),
        (2, Some(JobStatus::Cancelled), 0),
        (2, None, 12),
    ];
    for (n, (host, end, lines)) in stories.into_iter().enumerate() {
        let host = hosts[host];
        let (no, id) = add_job(state, n, host, plan, repo).await;
        let at = ago(7200 - n as i64 * 60);
        let started = frame("job.started", &serde_json::json!({"job_id": id, "at": at}));
        state.store.write(move |tx| jobs::started(tx, id, host, at, started)).await.unwrap();
        if lines > 0 {
            add_lines(state, (no, id), lines).await;
        }
        if let Some(status) = end {
            let error =
                (status == JobStatus::Failed).then(|| "The repository did not answer: connection refused.".to_owned());
            let made = matches!(status, JobStatus::Succeeded | JobStatus::Warning);
            let summary = made.then(|| summary.clone());
            let exit_code = Some(i32::from(!made));
            let end = End { status, at: ago(3600), exit_code, error, summary, log_truncated: false };
            state.store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
        }
        ids.push(id);
    }
    ids.push(add_job(state, 9, hosts[1], plan, repo).await.1);
    ids
}

async fn add_job(state: &AppState, n: usize, host_id: HostId, plan: PlanId, repo: RepoId) -> (JobNo, JobId) {
    let id = JobId::from_parts(NOW.unsigned_abs(), n as u128);
    let job = NewJob {
        about: Default::default(),
        id,
        host_id,
        kind: JobKind::Backup,
        actor: Actor::system(),
        plan_id: Some(plan),
        repo_id: Some(repo),
        input: JobInput::default(),
        rerun_of: None,
        timeout_s: 60,
        moment: None,
        ran_alone: false,
        expires_at: None,
    };
    (state.store.write(move |tx| jobs::insert(tx, &job)).await.unwrap(), id)
}

async fn add_lines(state: &AppState, job: (JobNo, JobId), count: u32) {
    let texts: Vec<String> = (1..=count)
        .map(|n| match n % 7 {
            0 => format!("<script>alert({n})</script> & \u{1b}[31mred\u{1b}[0m"),
            _ => format!("unchanged /home/user-{n}/some/rather/long/path/of/a/file-{n}.txt"),
        })
        .collect();
    let stream = |n| if n % 5 == 0 { Stream::Stderr } else { Stream::Stdout };
    let line = |(seq, text): (u32, &String)| Line {
        seq,
        at: ago(7000),
        stream: stream(seq),
        text: LineText(text.clone().into()),
    };
    let lines: Vec<Line<'_>> = (1..).zip(&texts).map(line).collect();
    let append = Append { job, lines: EncodedLines::of(&lines), frame: lines_frame(job.1, lines) };
    state.store.append(append).await.unwrap().await.unwrap().unwrap();
}
