//! One made-up instance of every page, for the test that renders them all and for `examples/gallery.rs`. Names are hostile on purpose
//! where [`hostile`] says so.

mod health;
mod jobs;
mod long;
mod plans;
mod probes;
mod reach;
mod restore;
mod retention;
pub(in crate::views) mod runbooks;
mod schedules;
mod settings;
mod sites;
mod snapshots;
mod status;
mod waves;

use std::sync::Arc;

use maud::Markup;

use self::{
    jobs::{behind, job_page},
    plans::{choices, plan},
};
use crate::{
    domain::{
        HostId, JobId, JobKind, JobStatus, PlanId, RepoId, TestResult, TestStep, Timestamp, TokenId, address,
        host::{Host, HostStatus},
        job::{Actor, ActorKind, Job, JobInput, JobNo},
        repo::{Repo, Upkeep},
        user::Role,
    },
    views::{
        AssetUrls, FormState, NavCounts, Page, Shell, Viewer,
        auth::{LoginPage, SetupPage},
        components::{DayState, HostRef},
        dashboard::{DashboardLive, DashboardPage, Needy, Remedy, Stats},
        host::{CoveringPlan, HostPage, HostTab, Vitals},
        hosts::{AddHostPage, Arrival, HostRow, HostsPage, Issued, OwnAgentView, Protection},
        jobs::{JobFilter, JobsPage, JobsTable},
        layout,
        problem::ProblemPage,
        repos::{AddRepoPage, Connection, EditRepoPage, Offer, OperationsPage, RepoPage, RepoRow, ReposPage},
    },
};
pub use jobs::log;

/// When the samples happen: 2026-11-21 08:00 UTC.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_795_248_000_000)
}

/// A shell of an admin.
#[must_use]
pub fn shell(role: Option<Role>) -> Shell {
    let url = |name: &str| format!("/assets/{name}");
    Shell {
        user: role.map(|role| Viewer { name: "ada".to_owned(), role }),
        csrf: "csrf-token-of-the-session".to_owned(),
        now: now(),
        version: "0.1.0".to_owned(),
        assets: Arc::new(AssetUrls {
            css: url("flotilla.css"),
            htmx: url("htmx.min.js"),
            app: url("app.js"),
            live: url("live.js"),
            icon: url("icon.svg"),
        }),
        counts: NavCounts { hosts: 8, running_jobs: 1, repos: 2, plans: 2, alerts: 2 },
        flash: None,
    }
}

/// A name that must come out as text wherever it goes.
#[must_use]
pub fn hostile() -> String {
    r#"<script>alert('x')</script>"&"#.to_owned()
}

fn host_id(n: u64) -> HostId {
    HostId::from_parts(now().unix_ms() as u64, n.into())
}

fn host(n: u64, name: &str) -> Host {
    Host {
        id: host_id(n),
        name: name.to_owned(),
        slug: "web-1".to_owned(),
        tags: vec!["web".to_owned(), "eu".to_owned()],
        os: Some("linux".to_owned()),
        arch: Some("x86_64".to_owned()),
        hostname: Some("web-1.example.org".to_owned()),
        agent_version: Some("0.1.0".to_owned()),
        restic_version: Some("0.18.0".to_owned()),
        last_seen_at: Some(now().plus_s(-12)),
        created_at: now().plus_s(-86_400 * 90),
        revoked_at: None,
        enrolled: true,
        own: false,
    }
}

fn operations() -> OperationsPage {
    let kinds = [JobKind::Snapshots, JobKind::Check, JobKind::Copy, JobKind::Forget, JobKind::Repair];
    let obstacle = |kind: &JobKind| (*kind == JobKind::Repair).then(|| "restic here is 0.14.0: update it".to_owned());
    OperationsPage {
        repo: repo("vault"),
        hosts: connection().hosts,
        host: HostId::from_parts(1, 99).to_string(),
        restic: Some("0.14.0".to_owned()),
        offers: kinds.into_iter().map(|kind| Offer { obstacle: obstacle(&kind), only_dry: None, kind }).collect(),
        others: vec![(repo("second").id.to_string(), "second".to_owned())],
        refused: Some((
            JobKind::Check,
            FormState::of([("read_data_subset", "some")])
                .refused(vec![crate::domain::FieldError::new("read_data_subset", "must be a part such as 1/10")]),
        )),
    }
}

/// A test that found the server and not the repository.
fn connection() -> Connection {
    let step = |name: &str, ok, detail: &str| TestStep { name: name.to_owned(), ok, detail: detail.to_owned() };
    Connection {
        repo: repo("vault").id,
        last: Some(Job { kind: JobKind::Test, ..job(7, "control plane", JobStatus::Failed) }),
        result: Some(TestResult {
            steps: vec![
                step("Find the address of vault.example", true, "10.0.0.7"),
                step("Log in", true, ""),
                step(
                    "Open the repository",
                    false,
                    "The password does not open it: enter the one that it was made with.",
                ),
            ],
            restic: "0.18.1".to_owned(),
        }),
        hosts: vec![HostRef { id: HostId::from_parts(1, 99), name: "control plane".to_owned() }],
    }
}

fn repo(name: &str) -> Repo {
    Repo {
        id: RepoId::from_parts(1, 1),
        name: name.to_owned(),
        url: "rest:https://backup.example.org:8000/vault/".to_owned(),
        username: Some("web-1".to_owned()),
        append_only: true,
        init: true,
        tls_ca_pem: None,
        secrets_set: vec!["password".to_owned(), "auth.password".to_owned()],
        created_at: now().plus_s(-86_400 * 60),
        upkeep: Upkeep::default(),
    }
}

pub(in crate::views) fn job(n: u64, host: &str, status: JobStatus) -> Job {
    let ends = status.is_final();
    Job {
        no: JobNo(1),
        id: JobId::from_parts(1_795_226_400_000 + n, n.into()),
        host_id: host_id(1),
        host_name: host.to_owned(),
        about: None,
        site_id: None,
        kind: JobKind::Backup,
        status,
        actor: Actor { kind: ActorKind::User, id: String::new(), name: "ada".to_owned() },
        schedule_id: None,
        plan_id: Some(PlanId::from_parts(1, 1)),
        plan_name: Some("nightly".to_owned()),
        repo_id: Some(RepoId::from_parts(1, 1)),
        repo_name: Some("vault".to_owned()),
        input: JobInput::default(),
        rerun_of: None,
        rerun_as: None,
        created_at: now().plus_s(-105),
        dispatched_at: Some(now().plus_s(-104)),
        accepted_at: Some(now().plus_s(-104)),
        started_at: (status != JobStatus::Queued).then(|| now().plus_s(-102)),
        finished_at: ends.then(|| now().plus_s(-3)),
        cancel_requested_at: None,
        exit_code: ends.then_some(if status == JobStatus::Succeeded { 0 } else { 1 }),
        error: (status == JobStatus::Failed).then(|| {
            "The repository is locked by a backup that died on db-primary 3 days ago. Run unlock, then the backup again.".to_owned()
        }),
        summary: matches!(status, JobStatus::Succeeded | JobStatus::Warning).then(|| {
            serde_json::json!({"snapshot_id": "5fa1c2d80b7e4c11", "files_new": 214, "files_changed": 31, "files_unmodified": 21732,
                "data_added": 734_003_200_u64, "data_added_packed": 412_316_860_u64, "total_files_processed": 21977,
                "total_bytes_processed": 442_277_953_536_u64, "total_duration": 98.4, "errors": 0})
        }),
        log_lines: 40,
        log_truncated: false,
        timeout_s: 86_400,
        expires_at: None,
        log_removed_at: None,
        aftermath: None,
        scheduled_at: None,
        ran_alone: false,
    }
}

fn days(n: u64) -> [DayState; 30] {
    let mut days = [DayState::Fine; 30];
    if n.is_multiple_of(3) {
        days[28..].fill(DayState::Failed);
    }
    if n % 4 == 1 {
        days[11] = DayState::Warning;
        days[..5].fill(DayState::None);
    }
    days
}

fn host_rows() -> Vec<HostRow> {
    let states = [
        ("db-primary", Protection::Failed),
        ("win-files", Protection::Late),
        ("new-box", Protection::NeverBackedUp),
        ("old-box", Protection::NoPlan),
        ("build-7", Protection::Running),
        ("mail", Protection::Offline),
        ("web-1", Protection::Protected),
        ("web-2", Protection::Protected),
    ];
    let row = |(n, (name, protection)): (u64, (&str, Protection))| HostRow {
        id: host_id(n),
        name: name.to_owned(),
        tags: vec!["web".to_owned(), "eu".to_owned()],
        reach: match protection {
            Protection::Offline => reach::everything(&host(n, name)).reach,
            _ => reach::agent(&host(n, name), true).reach,
        },
        status: if protection == Protection::Offline { HostStatus::Offline } else { HostStatus::Online },
        protection,
        standing: status::standing(n),
        last_good: (protection > Protection::NoPlan).then(|| now().plus_s(-20_000)),
        strip: if matches!(protection, Protection::NoPlan | Protection::NeverBackedUp) {
            [DayState::None; 30]
        } else {
            days(n)
        },
        last_size: (protection > Protection::NoPlan).then_some(442_277_953_536),
        agent_version: Some("0.1.0".to_owned()),
        restic_version: Some("0.18.0".to_owned()),
    };
    (0..).zip(states).map(row).collect()
}

/// The list of a fleet that needs several pages, its first one full.
#[must_use]
pub fn many_hosts(count: usize) -> Vec<HostRow> {
    host_rows().into_iter().cycle().take(count).collect()
}

/// The dashboard of a fleet with trouble.
#[must_use]
pub fn dashboard() -> DashboardPage {
    let needy = |n, name: &str, protection, reason: &str, remedy| Needy {
        host: HostRef { id: host_id(n), name: name.to_owned() },
        protection,
        reason: reason.to_owned(),
        remedy,
    };
    DashboardPage {
        live: DashboardLive {
            trouble: None,
            hosts_total: 8,
            protected: 5,
            without_agent: 0,
            alerts: health::alerts(),
            needy: vec![
                needy(
                    0,
                    "db-primary",
                    Protection::Failed,
                    "The last two backups failed: the repository is locked by a backup that died on db-primary 3 days ago.",
                    Remedy::OpenJob(job(1, "x", JobStatus::Failed).id),
                ),
                needy(
                    1,
                    "win-files",
                    Protection::Late,
                    "Last good backup 31 hours ago, expected every 26 hours.",
                    Remedy::BackUp(PlanId::from_parts(1, 1)),
                ),
                needy(3, "old-box", Protection::NoPlan, "No plan covers it, so nothing backs it up.", Remedy::MakePlan),
            ],
            stats: Stats {
                fine: 115,
                warnings: 1,
                failed: 2,
                running: 1,
                queued: 1,
                covered: 3_540_000_000_000,
                added: 48_000_000_000,
                with_restic: 8,
            },
            rows: host_rows(),
            recent: [
                JobStatus::Running,
                JobStatus::Queued,
                JobStatus::Succeeded,
                JobStatus::Warning,
                JobStatus::Failed,
                JobStatus::Cancelled,
                JobStatus::Lost,
            ]
            .into_iter()
            .zip(1..)
            .map(|(status, n)| job(n, "web-1", status))
            .collect::<Vec<_>>()
            .into(),
        },
    }
}

fn host_page(tab: HostTab, name: &str) -> HostPage {
    HostPage {
        ways: reach::agent(&host(1, name), true),
        tested: None,
        reach_form: FormState::default(),
        host: host(1, name),
        status: HostStatus::Online,
        protection: Protection::Protected,
        tab,
        strip: days(5),
        vitals: Some(Vitals {
            load: Some([0.42, 0.37, 0.31]),
            mem: Some((6_200_000_000, 16_000_000_000)),
            disks: vec![
                ("/".to_owned(), 41_000_000_000, 80_000_000_000),
                ("/srv".to_owned(), 12_000_000_000, 500_000_000_000),
            ],
            troubles: vec![crate::domain::Trouble {
                code: "spool_disk_full".to_owned(),
                message: format!("the disk of {} is full, so logs are cut: make room", hostile()),
            }],
        }),
        plans: vec![
            CoveringPlan { plan: plan("nightly"), last: Some(job(3, name, JobStatus::Succeeded)) },
            CoveringPlan { plan: plan("database"), last: Some(job(4, name, JobStatus::Failed)) },
        ],
        schedules: schedules::of_host(),
        schedule_versions: (5, 3),
        repos: vec![(RepoId::from_parts(1, 1), "vault".to_owned()), (RepoId::from_parts(1, 2), "offsite".to_owned())],
        jobs: vec![job(3, name, JobStatus::Succeeded), job(4, name, JobStatus::Failed)].into(),
        snapshots: snapshots::some(),
        offers: runbooks::offers(name),
        older_snapshots: Some("/hosts/x?tab=snapshots&after=1".to_owned()),
        status_card: status::card(),
        health: super::host::health::HealthTab::default(),
        sites: sites::some(),
        restore_form: FormState::default(),
        once_form: FormState::default(),
        settings_form: FormState::default(),
    }
}

fn bare_host() -> HostPage {
    let mut page = host_page(HostTab::Overview, "new-box");
    page.host.restic_version = None;
    page.status = HostStatus::Offline;
    page.protection = Protection::NoPlan;
    page.vitals = None;
    page.plans.clear();
    page.jobs.rows.clear();
    page.schedules.clear();
    page.schedule_versions = (0, 0);
    page.strip = [DayState::None; 30];
    page.restore_form = FormState::of([("target", "restore")])
        .refused(vec![crate::domain::FieldError::new("target", "must be an absolute path, such as /srv/restore")]);
    page
}

/// Every page, with a file name; those before the log-in come without a viewer.
#[must_use]
pub fn all() -> Vec<(&'static str, Markup)> {
    let (admin, nobody) = (shell(Some(Role::Admin)), shell(None));
    let mut pages = Gallery { shell: &nobody, pages: Vec::new() };
    pages.add("setup", &SetupPage { token: "one-time".to_owned(), form: FormState::default() });
    let wrong = FormState::of([("name", "ada"), ("password", "planted-secret")]).failed("Name or password is wrong.");
    pages.add("login", &LoginPage { next: "/hosts".to_owned(), throttled_s: None, form: wrong });
    pages.add("login-throttled", &LoginPage { throttled_s: Some(30), ..Default::default() });
    pages.add("problem-out", &ProblemPage::stale_form());
    pages.shell = &admin;
    fleet_pages(&mut pages);
    object_pages(&mut pages);
    restore::add(&mut pages);
    runbooks::add(&mut pages);
    let viewer = shell(Some(Role::Viewer));
    pages.shell = &viewer;
    restore::add_for_viewer(&mut pages);
    runbooks::add_for_viewer(&mut pages);
    pages.add("viewer-dashboard", &dashboard());
    pages.add("viewer-host", &host_page(HostTab::Settings, "web-1"));
    pages.add("viewer-job", &job_page(JobStatus::Running, "web-1"));
    let fresh = Shell { counts: NavCounts { repos: 1, ..Default::default() }, ..shell(Some(Role::Admin)) };
    pages.shell = &fresh;
    pages.add("dashboard-empty", &DashboardPage { live: DashboardLive::default() });
    pages.pages
}

struct Gallery<'a> {
    shell: &'a Shell,
    pages: Vec<(&'static str, Markup)>,
}

impl Gallery<'_> {
    fn add(&mut self, name: &'static str, page: &impl Page) {
        self.pages.push((name, layout::render(self.shell, page)));
    }
}

fn fleet_pages(pages: &mut Gallery<'_>) {
    pages.add("dashboard", &dashboard());
    let fine = DashboardLive { needy: Vec::new(), alerts: Vec::new(), ..dashboard().live };
    pages.add("dashboard-fine", &DashboardPage { live: fine });
    let hosts = HostsPage {
        rows: host_rows(),
        next: None,
        total: 8,
        query: String::new(),
        tag: "web".to_owned(),
        tags: vec!["web".to_owned(), "eu".to_owned()],
        restartable: 3,
        own: Some(OwnAgentView {
            id: HostId::from_parts(1, 99),
            name: "control plane".to_owned(),
            here: true,
            restic_version: Some("0.18.1".to_owned()),
        }),
    };
    pages.add("hosts-empty", &HostsPage { rows: Vec::new(), total: 0, ..hosts.clone() });
    pages.add("hosts", &hosts);
    pages.add("host-new", &AddHostPage::default());
    let arrival = Arrival { token: TokenId::from_parts(1, 9), expires_at: now().plus_s(3600), arrived: Vec::new() };
    let command = "flotilla-agent enroll --server https://flotilla.example.org --token fle_9x2k-sample --ca-fingerprint sha256:4be1…".to_owned();
    pages.add(
        "host-issued",
        &AddHostPage {
            form: FormState::default(),
            issued: Some(Issued { command: command.clone(), arrival: arrival.clone() }),
        },
    );
    let arrived = Arrival { arrived: vec![HostRef { id: host_id(1), name: "web-1".to_owned() }], ..arrival };
    pages.add(
        "host-arrived",
        &AddHostPage { form: FormState::default(), issued: Some(Issued { command, arrival: arrived }) },
    );
    pages.add("host", &host_page(HostTab::Overview, "web-1"));
    pages.add("host-bare", &bare_host());
    reach::add(pages);
    pages.add("host-snapshots", &host_page(HostTab::Snapshots, "web-1"));
    pages.add("host-operations", &host_page(HostTab::Operations, "web-1"));
    pages.add("host-jobs", &host_page(HostTab::Jobs, "web-1"));
    pages.add("host-sites", &host_page(HostTab::Sites, "web-1"));
    pages.add("host-settings", &host_page(HostTab::Settings, "web-1"));
    pages.add("host-hostile", &host_page(HostTab::Settings, &hostile()));
    let mut jobs = dashboard().live.recent;
    let queued = job(8, "web-1", JobStatus::Queued);
    jobs.waits = [(queued.id, behind("web-2"))].into();
    jobs.rows.insert(0, queued);
    let table = JobsTable {
        filter: JobFilter { status: "failed".to_owned(), ..Default::default() },
        older: jobs.rows.last().map(|job| job.id),
        list: jobs,
        after: None,
    };
    pages.add(
        "jobs",
        &JobsPage { table, hosts: choices().hosts, kinds: vec!["backup".to_owned(), "restore".to_owned()] },
    );
    jobs::add(pages);
    probes::add(pages);
    waves::add(pages);
}

fn object_pages(pages: &mut Gallery<'_>) {
    pages.add("repos-empty", &ReposPage { rows: Vec::new() });
    let row = RepoRow { repo: repo("vault"), plans: 2, last_backup: Some(now().plus_s(-20_000)), added: 734_003_200 };
    let open = RepoRow { repo: Repo { append_only: false, ..repo(&hostile()) }, plans: 0, last_backup: None, added: 0 };
    pages.add("repos", &ReposPage { rows: vec![row, open] });
    pages.add(
        "repo",
        &RepoPage {
            repo: Repo { append_only: false, ..repo("vault") },
            plans: Vec::new(),
            schedules: vec![schedules::weekly_check()],
            jobs: vec![job(3, "web-1", JobStatus::Succeeded)].into(),
            health: health::report(false),
            upkeep: retention::upkeep(),
            connection: connection(),
            keeper: "on the control plane".to_owned(),
        },
    );
    retention::pages(pages);
    snapshots::pages(pages);
    pages.add("repo-new", &AddRepoPage::default());
    pages.add("repo-operations", &operations());
    for (name, kind) in [
        ("repo-new-rest", "rest"),
        ("repo-new-s3", "s3"),
        ("repo-new-sftp", "sftp"),
        ("repo-new-local", "local"),
        ("repo-new-b2", "b2"),
        ("repo-new-azure", "azure"),
        ("repo-new-gs", "gs"),
        ("repo-new-rclone", "rclone"),
    ] {
        pages.add(name, &AddRepoPage { kind: address::kind(kind), ..AddRepoPage::default() });
    }
    let repo = repo("vault");
    pages.add("repo-edit", &EditRepoPage { form: EditRepoPage::values_of(&repo), keepers: Vec::new(), repo });
    let typed = FormState::of([
        ("name", "vault"),
        ("password", "planted-secret"),
        ("auth.password", "planted-secret"),
        ("env_name", "AWS"),
        ("env_value", "planted-secret"),
    ]);
    pages.add(
        "repo-refused",
        &AddRepoPage {
            form: typed.refused(vec![crate::domain::FieldError::new("env.AWS", "must be like AWS_ACCESS_KEY_ID")]),
            ..AddRepoPage::default()
        },
    );
    plans::add(pages);
    sites::add(pages);
    schedules::add(pages, &choices());
    health::add(pages);
    pages.add("settings", &settings::page());
    pages.add("problem", &ProblemPage::not_found("host"));
    long::add(pages);
}
