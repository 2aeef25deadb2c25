//! A real server on a free port of this machine, over a store in a folder that goes with it, and what tests need to fill and ask it.
//! Its clock is set by hand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla::{
    clock::ManualClock,
    domain::{
        HostId, JobId, JobKind, JobStatus, Line, LineText, Stream, Timestamp,
        event::{lines_frame, started_frame},
        job::{Actor, End, JobInput, JobNo, NewJob},
        user::{Role, User},
    },
    http::{AppState, Deps, Route, Settings, auth, service},
    hub::Hub,
    lifecycle::Tasks,
    ops::accounts::{self, NewAccount, NewToken},
    store::{
        Append, EncodedLines, Store, StoreError,
        hosts::{self, Facts, NewHost},
        jobs,
    },
    vault::Vault,
};
use reqwest::{Method, RequestBuilder, Response};

/// The password of all accounts here.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A running server.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) state: AppState,
    pub(crate) clock: Arc<ManualClock>,
    client: reqwest::Client,
    tasks: Tasks,
    ids: AtomicU64,
    _dir: tempfile::TempDir,
}

/// A session, as a browser holds it.
pub(crate) struct Session {
    pub(crate) cookie: String,
    pub(crate) csrf: String,
}

impl TestServer {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// Starts one with routes of the test's own beside the product's. The only place that knows how.
    pub(crate) async fn start_with(extra: Vec<Route>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hub, tasks) = (Hub::new(), Tasks::new());
        let clock = ManualClock::at("2026-11-21T08:00:00Z".parse().unwrap());
        let store = Store::open(dir.path(), hub.clone(), clock.clone()).unwrap();
        let vault = Vault::open(None, &dir.path().join("master.key")).unwrap().0;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings { public_url: format!("http://{address}"), ..Settings::default() };
        let deps = Deps { store, hub, vault, clock: clock.clone(), tasks: tasks.clone(), runbooks: Default::default() };
        let state = AppState::new(deps, settings);
        let app = service(state.clone(), extra).into_make_service_with_connect_info::<SocketAddr>();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { address, state, clock, client, tasks, ids: AtomicU64::new(1), _dir: dir }
    }

    /// Stops it, and finds that no task is left behind.
    pub(crate) async fn stop(self) {
        self.tasks.shut_down(Duration::from_millis(50)).await;
        assert_eq!(self.tasks.running(), 0);
    }

    /// A request to `path`.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.ask(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str, body: &serde_json::Value) -> RequestBuilder {
        self.ask(Method::POST, path).json(body)
    }

    pub(crate) async fn user(&self, name: &str, role: Role) -> User {
        let new = NewAccount { name: name.to_owned(), password: PASSWORD.into(), role };
        accounts::create_user(&self.state.store, &self.state.passwords, Actor::system(), new).await.unwrap()
    }

    pub(crate) async fn token(&self, user: &User) -> String {
        let new = NewToken { user_id: user.id, label: "test".to_owned(), role: None, ttl_s: None };
        let (_, secret) = accounts::create_token(&self.state.store, Actor::system(), new).await.unwrap();
        secret.expose().to_owned()
    }

    /// A token of a fresh administrator.
    pub(crate) async fn admin(&self) -> String {
        self.token(&self.user("root", Role::Admin).await).await
    }

    pub(crate) async fn session(&self, user: &User) -> Session {
        let header = auth::start_session(&self.state, user).await.unwrap();
        let cookie = header.to_str().unwrap().split(';').next().unwrap().to_owned();
        let secret = cookie.split_once('=').unwrap().1;
        let csrf = flotilla::credential::derived("csrf", secret);
        Session { cookie, csrf }
    }

    pub(crate) async fn host(&self, name: &str) -> HostId {
        let id = HostId::from_parts(self.next(), 0);
        let host = NewHost {
            id,
            name: name.to_owned(),
            tags: Vec::new(),
            token_hash: Some(flotilla::credential::hash(&id.to_string())),
            enrol_token: None,
            facts: Facts::default(),
        };
        self.state.store.write(move |tx| hosts::insert(tx, &host)).await.unwrap();
        id
    }

    /// A job of a fresh host, queued.
    pub(crate) async fn job(&self) -> TestJob {
        let host = self.host("web").await;
        let id = JobId::from_parts(self.next(), 0);
        let job = NewJob {
            about: Default::default(),
            id,
            host_id: host,
            kind: JobKind::Backup,
            actor: Actor::system(),
            plan_id: None,
            repo_id: None,
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 60,
            moment: None,
            ran_alone: false,
            expires_at: None,
        };
        let no = self.state.store.write(move |tx| jobs::insert(tx, &job)).await.unwrap();
        TestJob { no, id, host, store: self.state.store.clone() }
    }

    /// A job that has started.
    pub(crate) async fn running_job(&self) -> TestJob {
        let job = self.job().await;
        let (id, host, at) = (job.id, job.host, self.state.clock.now());
        let started = self.state.store.write(move |tx| jobs::started(tx, id, host, at, started_frame(id, at)));
        assert!(started.await.unwrap());
        job
    }

    fn next(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

/// A job, played by the test.
#[derive(Clone)]
pub(crate) struct TestJob {
    pub(crate) no: JobNo,
    pub(crate) id: JobId,
    pub(crate) host: HostId,
    store: Store,
}

impl TestJob {
    /// Stores lines `first..=last`, each of at least `bytes` bytes, in one frame.
    pub(crate) async fn lines(&self, first: u32, last: u32, bytes: usize) {
        let texts: Vec<String> = (first..=last).map(|n| format!("line {n} {:x<bytes$}", "")).collect();
        let line = |(seq, text)| Line { seq, at: Timestamp::from_unix_ms(0), stream: Stream::Stdout, text };
        let lines: Vec<Line<'_>> = (first..).zip(texts.iter().map(|text| LineText(text.into()))).map(line).collect();
        let append =
            Append { job: (self.no, self.id), lines: EncodedLines::of(&lines), frame: lines_frame(self.id, lines) };
        let stored = self.store.append(append).await.unwrap().await.unwrap().unwrap();
        assert_eq!(stored.seq, last);
    }

    pub(crate) async fn finish(&self) {
        let end = End {
            status: JobStatus::Succeeded,
            at: Timestamp::from_unix_ms(0),
            exit_code: Some(0),
            error: None,
            summary: None,
            log_truncated: false,
        };
        let (id, host) = (self.id, self.host);
        let finished = self.store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await;
        assert_eq!(finished.unwrap(), jobs::Ended::Recorded);
    }

    pub(crate) async fn status(&self) -> JobStatus {
        let id = self.id;
        self.store.read(move |db| Ok::<_, StoreError>(jobs::lookup(db, id)?.unwrap().status)).await.unwrap()
    }
}

/// The body of an answer that must be a problem with this status.
pub(crate) async fn problem(response: Response, status: u16) -> serde_json::Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.status(), status);
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {problem}");
    }
    problem
}

/// Waits until something holds, at most ten seconds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "it did not come about in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
