//! A fleet with a month of history: hosts in every state, backups that went well and some that did not, one that runs right now.

use std::sync::Arc;

use flotilla::{
    clock::ManualClock,
    domain::{
        HostId, JobId, JobKind, JobProgress, JobStatus, Line, LineText, PlanId, RepoId, Stream, Timestamp, Vitals,
        event::{LiveFrame, lines_frame, progress_frame, started_frame},
        job::{Actor, ActorKind, End, JobInput, NewJob},
    },
    http::AppState,
    ops::{plans, repos},
    store::{
        Append, EncodedLines,
        hosts::{self, Facts, NewHost},
        jobs,
    },
};
use serde_json::json;

use crate::house::{ADMIN, Local};

const DAY_S: i64 = 86_400;

/// Ids of what there is.
pub(crate) struct Sample {
    pub(crate) hosts: Vec<HostId>,
    /// In every state.
    pub(crate) jobs: Vec<JobId>,
    /// Runs now.
    pub(crate) running: JobId,
    pub(crate) repo: RepoId,
    pub(crate) plan: PlanId,
}

/// Name, tags, whether its agent is here, gigabytes, and how many days ago which end came.
pub(crate) type Story = (&'static str, &'static [&'static str], bool, u64, &'static [(i64, JobStatus)]);

/// Hosts as people have them.
pub(crate) const STORIES: [Story; 8] = [
    ("web-1.fra", &["web", "eu"], true, 31, &[(11, JobStatus::Warning)]),
    ("web-2.fra", &["web", "eu"], true, 29, &[]),
    ("db-1.fra", &["db", "eu"], true, 412, &[(4, JobStatus::Failed), (19, JobStatus::Warning)]),
    ("db-2.nyc", &["db", "us"], true, 398, &[(0, JobStatus::Failed), (17, JobStatus::Failed)]),
    ("mail", &["eu"], true, 88, &[(0, JobStatus::Warning), (1, JobStatus::Warning)]),
    ("git", &["eu"], true, 140, &[]),
    ("media", &["home"], false, 1820, &[(9, JobStatus::Cancelled)]),
    (
        "workstation",
        &["home"],
        false,
        215,
        &[(0, JobStatus::Cancelled), (1, JobStatus::Cancelled), (2, JobStatus::Cancelled)],
    ),
];

/// A host whose name is as long as names may be.
pub(crate) const LONG_NAMED: Story =
    ("a-host-with-a-name-as-long-as-names-of-hosts-are-allowed-to-be-01", &["eu"], true, 3, &[(3, JobStatus::Failed)]);

struct Filler {
    stories: Vec<Story>,
    state: AppState,
    clock: Arc<ManualClock>,
    today: Timestamp,
    repo: RepoId,
    plan: PlanId,
    made: u128,
}

/// Fills a house whose clock is `clock`.
pub(crate) async fn fill(house: &Local, clock: &Arc<ManualClock>, today: Timestamp, stories: Vec<Story>) -> Sample {
    let state = house.running.state.clone();
    clock.set(today.plus_s(-31 * DAY_S));
    let repo = json!({
        "name": "vault", "url": "rest:https://backup.example.org:8000/fleet/", "password": "p", "append_only": true, "init": true,
        "auth": {"username": "fleet", "password": "q"},
    });
    let repo = repos::create(&state.store, &state.vault, Actor::system(), serde_json::from_value(repo).unwrap());
    let repo = repo.await.unwrap().id;
    let plan = json!({
        "name": "nightly", "repo_id": repo, "tags": ["eu", "us", "home"], "paths": ["/etc", "/home", "/srv", "/var/lib"],
        "excludes": ["*.tmp", "/home/*/.cache"], "options": {"exclude_caches": true, "log_files": true},
        "retention": {"keep_daily": 7, "keep_weekly": 5, "keep_monthly": 12},
    });
    let plan = plans::create(&state.store, Actor::system(), serde_json::from_value(plan).unwrap()).await.unwrap().id;
    let mut filler = Filler { stories, state, clock: Arc::clone(clock), today, repo, plan, made: 0 };
    let hosts = filler.hosts().await;
    let mut jobs = filler.history(&hosts).await;
    let running = filler.running(hosts[0]).await;
    let (queued, _) = filler.order(hosts[7]).await;
    jobs.extend([running, queued]);
    clock.set(today);
    Sample { hosts, jobs, running, repo, plan }
}

impl Filler {
    async fn hosts(&mut self) -> Vec<HostId> {
        let mut ids = Vec::new();
        for (name, tags, online, ..) in self.stories.clone() {
            let id = HostId::from_parts(self.clock_ms(), u128::try_from(ids.len()).unwrap());
            let facts = Facts {
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
                hostname: name.to_owned(),
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
                restic_version: Some("0.18.0".to_owned()),
                boot_id: String::new(),
            };
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let hash = flotilla::credential::hash(name);
            let host = NewHost { id, name: name.to_owned(), tags, token_hash: Some(hash), enrol_token: None, facts };
            let seen = self.today.plus_s(if online { -4 } else { -6 * 3600 });
            self.state.store.write(move |tx| hosts::insert(tx, &host)).await.unwrap();
            self.state.store.write(move |tx| hosts::seen(tx, &[(id, seen)])).await.unwrap();
            if online {
                self.state.hub.arrived(id, 1, self.today.plus_s(-5 * DAY_S));
                self.state.hub.heard(id, 1, seen, Some(vitals()));
            }
            ids.push(id);
        }
        ids
    }

    fn clock_ms(&self) -> u64 {
        flotilla::clock::Clock::now(&*self.clock).unix_ms().unsigned_abs()
    }

    /// A month of nights; gives the jobs of the last one and some older ones.
    async fn history(&mut self, hosts: &[HostId]) -> Vec<JobId> {
        let mut latest = Vec::new();
        for day in (0..30).rev() {
            for (n, (_, _, _, gigabytes, exceptions)) in (0..).zip(self.stories.clone()) {
                self.clock.set(self.today.plus_s(-day * DAY_S - 6 * 3600 + n * 240));
                let host = hosts[usize::try_from(n).unwrap()];
                let status =
                    exceptions.iter().find(|(at, _)| *at == day).map_or(JobStatus::Succeeded, |(_, status)| *status);
                let job = self.backup(host, status, gigabytes + (30 - u64::try_from(day).unwrap()) / 4).await;
                if day == 0 || status == JobStatus::Failed {
                    latest.push(job);
                }
            }
        }
        latest
    }

    async fn order(&mut self, host_id: HostId) -> (JobId, jobs::Route) {
        self.made += 1;
        let id = JobId::from_parts(self.clock_ms(), self.made);
        let job = NewJob {
            about: Default::default(),
            id,
            host_id,
            kind: JobKind::Backup,
            actor: Actor { kind: ActorKind::User, id: ADMIN.to_owned(), name: ADMIN.to_owned() },
            plan_id: Some(self.plan),
            repo_id: Some(self.repo),
            input: JobInput::default(),
            rerun_of: None,
            timeout_s: 3600,
            moment: None,
            ran_alone: false,
            expires_at: None,
        };
        self.state.store.write(move |tx| jobs::insert(tx, &job)).await.unwrap();
        let route = self.state.store.read(move |db| jobs::route(db, id)).await.unwrap();
        (id, route.unwrap())
    }

    async fn start(&self, id: JobId, host: HostId) {
        let at = flotilla::clock::Clock::now(&*self.clock);
        self.state.store.write(move |tx| jobs::started(tx, id, host, at, started_frame(id, at))).await.unwrap();
    }

    async fn backup(&mut self, host: HostId, status: JobStatus, gigabytes: u64) -> JobId {
        let (id, _) = self.order(host).await;
        self.start(id, host).await;
        let took = 40 + i64::try_from(gigabytes).unwrap() / 3;
        self.clock.advance(took);
        let added = gigabytes * 7_340_033;
        let summary = json!({
            "snapshot_id": "5fa1c2d8".repeat(8), "files_new": 12 + gigabytes, "files_changed": 31, "files_unmodified": gigabytes * 1544,
            "data_added": added, "data_added_packed": added / 2, "total_files_processed": gigabytes * 1544 + 43 + gigabytes,
            "total_bytes_processed": gigabytes << 30, "total_duration": took,
        });
        let error = match status {
            JobStatus::Failed => Some(
                "backup.example.org:8000 refuses connections: the repository's server is not running there. Check that the repository's \
                 server runs, its name and port, and the network and firewalls between",
            ),
            JobStatus::Warning => Some(
                "2 files could not be read (first: /var/lib/private/a/rather/long/path/without/any/space/in/it/that/could/be/broken/state.db: \
                 permission denied). The snapshot holds everything else",
            ),
            _ => None,
        };
        let end = End {
            status,
            at: flotilla::clock::Clock::now(&*self.clock),
            exit_code: Some(match status {
                JobStatus::Succeeded => 0,
                JobStatus::Warning => 3,
                _ => 1,
            }),
            error: error.map(str::to_owned),
            summary: matches!(status, JobStatus::Succeeded | JobStatus::Warning).then_some(summary),
            log_truncated: false,
        };
        self.state.store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
        id
    }

    /// A backup in the middle of its work.
    async fn running(&mut self, host: HostId) -> JobId {
        self.clock.set(self.today.plus_s(-94));
        let (id, route) = self.order(host).await;
        self.start(id, host).await;
        self.clock.set(self.today);
        let texts = log_of_a_backup();
        let line = |(seq, text): (u32, &String)| Line {
            seq,
            at: self.today.plus_s(-90 + i64::from(seq) / 2),
            stream: if seq == 1 { Stream::System } else { Stream::Stdout },
            text: LineText(text.clone().into()),
        };
        let lines: Vec<Line<'_>> = (1..).zip(&texts).map(line).collect();
        let append = Append { job: (route.no, id), lines: EncodedLines::of(&lines), frame: lines_frame(id, lines) };
        self.state.store.append(append).await.unwrap().await.unwrap().unwrap();
        let progress = JobProgress {
            step: None,
            job_id: Some(id),
            percent: 61.4,
            bytes_done: 20_437_000_000,
            bytes_total: 33_285_000_000,
            files_done: 29_311,
            files_total: 48_015,
            eta_s: Some(59),
            current: Some("/srv/www/uploads/2026/11/IMG_20261119_183012.jpg".to_owned()),
        };
        self.state.hub.progress(id, progress.clone(), LiveFrame::Progress(progress_frame(id, progress)));
        id
    }
}

fn vitals() -> Vitals {
    let vitals = json!({"load": [0.42, 0.37, 0.31], "mem": {"free": 5_100_000_000_u64, "total": 16_600_000_000_u64},
        "disk": {"/": {"free": 51_000_000_000_u64, "total": 107_000_000_000_u64}}});
    serde_json::from_value(vitals).unwrap()
}

fn log_of_a_backup() -> Vec<String> {
    let mut lines = vec![
        "backup with restic 0.18.0 on rest:https://backup.example.org:8000/fleet/".to_owned(),
        "using parent snapshot 91c0e4b7".to_owned(),
    ];
    let folders = [
        "/etc/nginx/sites-available",
        "/home/deploy/releases/2026-11-20",
        "/srv/www/uploads/2026/11",
        "/var/lib/postgresql/16/main/base",
    ];
    let verbs = ["unchanged", "unchanged", "modified ", "new      "];
    for n in 0..180_usize {
        let (folder, verb) = (folders[n / 45], verbs[(n * 7 + n / 5) % 4]);
        let added = if verb == "unchanged" {
            String::new()
        } else {
            format!(", saved in 0.0{:02}s ({}.{} KiB added)", n % 7 + 1, n * 37 % 900, n % 10)
        };
        lines.push(format!("{verb} {folder}/part-{:04}.dat{added}", n * 13 % 997));
    }
    lines
}
