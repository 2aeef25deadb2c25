//! Alerts and the health of repositories.

use super::{Gallery, host_id, hostile, job, long, now, repo};
use crate::{
    domain::{
        CheckResult, JobId, JobKind, JobStatus,
        alert::{Alert, AlertKind, Notice},
        health::{
            HostMark, Limit, Proof, Report, Size, Subject,
            forecast::{forecast, growth},
            locks::SeenLock,
            repair,
        },
        job::JobNo,
        repo::Repo,
    },
    paths,
    views::{
        alerts::{AlertsPage, by_gravity},
        repos::{RepairPage, RepoPage},
    },
};

fn alert(no: i64, kind: AlertKind, title: &str, detail: &str) -> Alert {
    let repo = repo("vault").id;
    Alert {
        no,
        notice: Notice {
            kind,
            subject: repo.to_string(),
            title: title.to_owned(),
            detail: detail.to_owned(),
            link: paths::repo(repo),
        },
        raised_at: now().plus_s(-3600 * no),
        cleared_at: None,
        cleared_by: None,
    }
}

/// Two open alerts.
pub(super) fn alerts() -> Vec<Alert> {
    by_gravity(vec![
        alert(
            1,
            AlertKind::StaleLock,
            "vault is locked by a restic that no longer runs",
            "A lock of db-primary (process 4711) is 3 days old. Backups wait behind it or fail. Look at the locks and remove it there.",
        ),
        alert(
            2,
            AlertKind::Damaged,
            "vault is damaged",
            "A check found 2 errors. New backups still work, but some of what is stored can't be restored. Open the guided repair.",
        ),
    ])
}

fn sizes() -> Vec<Size> {
    let size = |day: i64| {
        let grown = (day * 3_100_000_000 + (day * 7919 % 23) * 400_000_000).unsigned_abs();
        let pruned = if day > 60 { 60_000_000_000 } else { 0 };
        let bytes = 200_000_000_000 + grown - pruned;
        Size {
            at: now().plus_s((day - 89) * 86_400),
            bytes,
            uncompressed: Some(bytes / 2 * 3),
            restore_size: Some(bytes * 11 + grown * 4),
            snapshots: 300 + day.unsigned_abs() * 3 % 100,
            blobs: Some(1_000_000),
        }
    };
    (0..90).map(size).collect()
}

fn lock(n: u32, age_s: i64, alive: Option<bool>, exclusive: bool) -> SeenLock {
    SeenLock {
        repo_id: repo("vault").id,
        id: format!("{n:08x}").repeat(8),
        time: Some(now().plus_s(-age_s)),
        exclusive,
        hostname: "db-primary".to_owned(),
        username: "root".to_owned(),
        pid: 4700 + n,
        host: alive.map(|_| (host_id(0), "db-primary".to_owned())),
        alive: alive.map(|alive| (alive, now().plus_s(-60))),
        seen_at: now().plus_s(-60),
    }
}

/// The health of `vault`: with a year's worth of trouble, or as it is on its first day.
pub(super) fn report(in_use: bool) -> Report {
    let sizes = if in_use { sizes() } else { Vec::new() };
    let limit = Limit::Said(640_000_000_000);
    let mark = |n: u64, kind, name: &str, status: JobStatus| HostMark {
        kind,
        host_id: host_id(n),
        host_name: name.to_owned(),
        good: Some((now().plus_s(-9000 - 50_000 * n as i64), JobId::from_parts(1, n.into()))),
        last: (now().plus_s(-7200), JobId::from_parts(2, n.into()), status),
    };
    let marks = vec![
        mark(0, JobKind::Backup, "db-primary", JobStatus::Failed),
        mark(1, JobKind::Backup, &hostile(), JobStatus::Succeeded),
        mark(2, JobKind::Check, "vault-1", JobStatus::Failed),
        mark(2, JobKind::Prune, "vault-1", JobStatus::Succeeded),
    ];
    Report {
        now: now(),
        subject: Subject {
            id: repo("vault").id,
            name: "vault".to_owned(),
            url: "rest:https://vault:8000/".to_owned(),
            append_only: true,
            size_limit: in_use.then_some(limit.bytes()),
            damage_job: None,
        },
        growth: growth(&sizes, now()),
        limit: in_use.then(|| (limit, forecast(&sizes, limit.bytes(), now()))),
        sizes,
        marks: if in_use { marks } else { Vec::new() },
        proof: if in_use {
            Proof::Protected { at: now().plus_s(-3 * 86_400), job: JobId::from_parts(3, 1) }
        } else {
            Proof::Never
        },
        damage: in_use.then(|| (job(2, "vault-1", JobStatus::Failed), damage())),
        locks: if in_use {
            vec![
                lock(1, 260_000, Some(false), true),
                lock(2, 200_000, None, false),
                lock(3, 120, Some(true), false),
                lock(4, 300, None, false),
            ]
        } else {
            Vec::new()
        },
        looked_at: in_use.then(|| now().plus_s(-60)),
        looking: false,
    }
}

fn damage() -> CheckResult {
    CheckResult {
        errors: 2,
        findings: vec![
            format!("pack {}: does not exist", "3f".repeat(32)),
            format!("tree {}: not found in index", hostile()),
        ],
        broken_packs: vec!["3f".repeat(32)],
        suggest_repair_index: true,
        ..CheckResult::default()
    }
}

fn repair_page() -> RepairPage {
    let of_step = |n, step: repair::Step, status| {
        let mut job = job(n, "vault-1", status);
        if let Some((kind, operation)) = step.operation(&damage(), false) {
            (job.no, job.kind, job.input.operation) = (JobNo(9), kind, Some(operation));
        }
        job
    };
    let jobs =
        [of_step(9, repair::Step::Index, JobStatus::Succeeded), of_step(10, repair::Step::Packs, JobStatus::Running)];
    let plan = repair::plan(JobNo(2), &damage(), &jobs);
    RepairPage { repo: repo("vault"), damage: Some((job(2, "vault-1", JobStatus::Failed), damage())), plan }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let mut past = alert(3, AlertKind::NearlyFull, &hostile(), "");
    past.cleared_at = Some(now().plus_s(-60));
    let by = Alert { cleared_by: Some("ada".to_owned()), no: 4, ..past.clone() };
    pages.add("alerts", &AlertsPage { open: alerts(), history: vec![by, past], more: true });
    let (plans, schedules, jobs) = (Vec::new(), Vec::new(), Vec::new().into());
    let page = RepoPage {
        connection: super::connection(),
        keeper: "on the control plane".to_owned(),
        repo: repo("vault"),
        plans,
        schedules,
        jobs,
        health: report(true),
        upkeep: super::retention::upkeep(),
    };
    pages.add("repo-health", &page);
    pages.add("repo-repair", &repair_page());
    pages.add("repo-whole", &RepairPage { damage: None, ..repair_page() });
    pages.add("alerts-empty", &AlertsPage { open: Vec::new(), history: Vec::new(), more: false });
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let detail = format!("{}: what a check said of it is as long as this.", long::path());
    let open =
        (5..30).map(|no| alert(no, AlertKind::Damaged, &format!("{} is damaged", long::HOST), &detail)).collect();
    let mut past = alert(3, AlertKind::NearlyFull, long::HOST, "");
    past.cleared_at = Some(now().plus_s(-60));
    past.cleared_by = Some("ada".to_owned());
    pages.add("long-alerts", &AlertsPage { open, history: vec![past], more: false });
    let mut report = report(true);
    for lock in &mut report.locks {
        long::HOST.clone_into(&mut lock.hostname);
        lock.host = lock.host.take().map(|(id, _)| (id, long::HOST.to_owned()));
    }
    for mark in &mut report.marks {
        long::HOST.clone_into(&mut mark.host_name);
    }
    let long =
        Repo { name: long::HOST.to_owned(), url: format!("sftp:backup@{}:{}", long::HOST, long::path()), ..repo("x") };
    let jobs = vec![job(3, long::HOST, JobStatus::Succeeded)].into();
    pages.add(
        "long-repo",
        &RepoPage {
            connection: super::connection(),
            keeper: format!("on {}", long::HOST),
            repo: long,
            plans: Vec::new(),
            schedules: vec![super::schedules::weekly_check()],
            jobs,
            health: report,
            upkeep: super::retention::upkeep(),
        },
    );
}
