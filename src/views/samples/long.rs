//! Names as long and as odd as they may be, and lists of many rows: what they do to a page is to be seen.

use super::{
    Gallery, bare_host, behind, health, host_page, host_rows, job, job_page, many_hosts, plans, repo, restore,
    retention, schedules, snapshots,
};
use crate::{
    domain::{JobStatus, RepoId, repo::Repo},
    views::{
        components::HostRef,
        dashboard::DashboardPage,
        host::HostTab,
        hosts::HostsPage,
        jobs::{JobFilter, JobsPage, JobsTable},
        repos::{RepoRow, ReposPage},
    },
};

/// A host's name of 60 characters.
pub(super) const HOST: &str = "db-primary-replica-07.production.eu-central-1.int.example.org";

/// A path of 200 characters, with a folder that has no place to break.
pub(super) fn path() -> String {
    format!("/srv/www/{}/shop/media/catalog/product/cache/{}.jpg", "averylongfoldername".repeat(5), "f0".repeat(26))
}

/// A name with a line break, quotes, and letters that run from right to left.
pub(super) fn odd() -> String {
    "line\nbreak \"quoted\" 'single' גיבוי \u{202E}gpj.exe".to_owned()
}

/// A name as odd as a host, a repository or a plan may have one.
pub(super) fn named() -> String {
    "\"quoted\" 'single' גיבוי <b>".to_owned()
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let mut rows = many_hosts(50);
    for (n, row) in rows.iter_mut().enumerate() {
        row.name = if n % 7 == 0 { HOST.to_owned() } else { format!("host-{n}") };
    }
    rows[1].name = named();
    let hosts = HostsPage {
        rows,
        next: Some("1".to_owned()),
        total: 1000,
        query: String::new(),
        tag: String::new(),
        restartable: 3,
        tags: vec!["web".to_owned(); 40],
        own: None,
    };
    pages.add("long-hosts", &hosts);
    let mut dashboard = super::dashboard();
    for needy in &mut dashboard.live.needy {
        HOST.clone_into(&mut needy.host.name);
        needy.reason = format!("The backup failed: {} could not be read", path());
    }
    dashboard.live.rows = host_rows();
    dashboard.live.rows[0].name = HOST.to_owned();
    dashboard.live.alerts[0].notice.title = format!("{HOST} is damaged");
    pages.add("long-dashboard", &DashboardPage { live: dashboard.live });
    for (name, tab) in
        [("long-host", HostTab::Overview), ("long-host-jobs", HostTab::Jobs), ("long-host-settings", HostTab::Settings)]
    {
        pages.add(name, &host_page(tab, HOST));
    }
    let mut odd_host = bare_host();
    odd_host.host.name = named();
    pages.add("long-host-odd", &odd_host);
    let mut running = job_page(JobStatus::Running, HOST);
    if let Some(progress) = &mut running.header.progress {
        progress.current = Some(path());
    }
    pages.add("long-job", &running);
    let mut failed = job_page(JobStatus::Failed, HOST);
    failed.header.job.error = Some(format!("{}: permission denied. Let the agent read it, or exclude it.", path()));
    failed.header.job.plan_name = Some(named());
    pages.add("long-job-failed", &failed);
    let mut list = super::dashboard().live.recent;
    list.rows = (0..50).map(|n| job(n, HOST, JobStatus::ALL[n as usize % 7])).collect();
    list.waits = [(list.rows[0].id, behind(HOST))].into();
    let table = JobsTable { filter: JobFilter::default(), older: Some(list.rows[1].id), list, after: None };
    let named = vec![HostRef { id: super::host_id(1), name: HOST.to_owned() }];
    pages.add("long-jobs", &JobsPage { table, hosts: named, kinds: vec!["backup".to_owned(), "tamper".to_owned()] });
    let long = Repo {
        name: HOST.to_owned(),
        url: format!("rest:https://{HOST}:8000{}", path()),
        id: RepoId::from_parts(1, 2),
        ..repo("x")
    };
    pages.add(
        "long-repos",
        &ReposPage { rows: vec![RepoRow { repo: long, plans: 12, last_backup: None, added: u64::MAX / 2 }] },
    );
    health::add_long(pages);
    plans::add_long(pages);
    restore::add_long(pages);
    retention::add_long(pages);
    schedules::add_long(pages);
    snapshots::add_long(pages);
}
