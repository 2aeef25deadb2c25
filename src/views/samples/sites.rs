//! Sites, and what a discovery found.

use serde_json::json;

use super::{Gallery, host_id, hostile, job, jobs::job_page, now};
use crate::{
    domain::{
        Container, JobKind, JobStatus, RunbookResult, SiteId,
        site::{self, Card, Site, SiteFields},
        user::Role,
    },
    views::{
        FormState,
        sites::{SitePage, SiteRunbook, SitesPage},
    },
};

pub(super) fn some() -> Vec<Site> {
    let site = |n: u128, name: &str, kind: &str, root: Option<&str>, container: Option<&str>| Site {
        id: SiteId::from_parts(1, n),
        host_id: host_id(1),
        host_name: "web-1".to_owned(),
        fields: SiteFields {
            name: name.to_owned(),
            slug: format!("site-{n}"),
            kind: kind.to_owned(),
            root: root.map(str::to_owned),
            url: (n != 2).then(|| format!("https://shop-{n}.example.org")),
            container: container.map(|name| Container { cli: "docker".into(), name: name.into(), user: None }),
            facts: [("db_engine", "mysql"), ("db_name", "shop"), ("db_user", "shop"), ("version", "6.4.2")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        },
        created_at: now().plus_s(-86_400),
    };
    vec![
        site(1, "shop.example.org", "wordpress", Some("/var/www/html"), Some("shop-web-1")),
        site(2, &hostile(), "compose", Some("/srv/a long folder of many words/with another below it"), None),
        site(3, "crm", "ghost", None, None),
    ]
}

/// A discovery's job: sites in a container and beside it, one of them added.
fn discovery() -> (RunbookResult, Vec<Card>) {
    let summary = json!({
        "runbook": "discover", "hash": "0".repeat(64), "way": "agent",
        "steps": [{"label": "Host", "type": "ssh", "state": "done", "duration_ms": 310}, {"label": "Sites", "type": "ssh", "state": "done", "duration_ms": 2_480}],
        "results": {
            "host": {"os": "Debian GNU/Linux 12 (bookworm)", "sshd": "OpenSSH_9.2", "restic": "0.18.0", "mariadb": "10.11.6", "mariadb_port": "3306", "nginx": "1.22.1"},
            "sites": [
                {"kind": "wordpress", "root": "/var/www/html", "file": "/var/www/html/wp-config.php", "container": {"cli": "docker", "name": "shop-web-1"},
                 "facts": {"url": "https://shop.example.org", "db_engine": "mysql", "db_name": "shop", "db_user": "shop", "db_host": "db", "version": "6.4.2"}},
                {"kind": "laravel", "root": "/srv/crm/current", "file": "/srv/crm/current/.env", "facts": {"name": hostile(), "db_engine": "postgresql", "db_name": "crm", "db_port": "5432", "db_host": "127.0.0.1"}},
                {"kind": "compose", "root": "/srv/shop", "file": "/srv/shop/compose.yaml", "facts": {"name": "shop", "services": ["web", "db", "redis"]}},
            ],
            "containers": [{"cli": "docker", "name": "shop-web-1", "image": "wordpress:6.4", "status": "Up 3 days"}, {"cli": "docker", "name": "bare", "image": "x", "status": "Up 3 days"}],
            "scanned": [{"place": "host", "files": 2, "unreadable": 1, "left_out": 0, "wrong_detectors": 1}, {"place": "shop-web-1", "files": 1},
                        {"place": "bare", "error": "it could not be looked into: it has no sh, or took too long"}],
        },
    });
    let result: RunbookResult = serde_json::from_value(summary).unwrap_or_default();
    let mut cards: Vec<Card> =
        site::found(&result.results).into_iter().map(|found| Card { found, site: None }).collect();
    if let Some(card) = cards.first_mut() {
        card.site = some().into_iter().next();
    }
    (result, cards)
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    pages.add("sites", &SitesPage { rows: some(), next: Some(SiteId::from_parts(1, 3)) });
    pages.add("sites-empty", &SitesPage { rows: Vec::new(), next: None });
    let book = SiteRunbook {
        name: "clear_cache".to_owned(),
        title: "Clear the cache".to_owned(),
        description: "Empties the page cache.".to_owned(),
        at_once: true,
        needs: Role::Operator,
    };
    let asking = SiteRunbook { title: "Change the address".to_owned(), at_once: false, ..book.clone() };
    let of = |site: Site, form: FormState| SitePage {
        jobs: vec![job(1, "web-1", JobStatus::Succeeded)].into(),
        runbooks: vec![book.clone(), asking.clone()],
        site,
        form,
    };
    for (name, site) in ["site", "site-hostile"].into_iter().zip(some()) {
        pages.add(name, &of(site, FormState::default()));
    }
    if let Some(site) = some().pop() {
        let refused = FormState::of([("name", "crm"), ("slug", "shop")])
            .failed("another site has the slug shop already: choose another one, as `slug`".to_owned());
        pages.add("site-refused", &SitePage { jobs: Vec::new().into(), runbooks: Vec::new(), ..of(site, refused) });
    }
    let (result, cards) = discovery();
    for (name, cards) in [("job-discover", cards), ("job-discover-nothing", Vec::new())] {
        let mut page = job_page(JobStatus::Succeeded, "web-1");
        let job = &mut page.header.job;
        (job.kind, job.summary) = (JobKind::Runbook(site::DISCOVER.to_owned()), serde_json::to_value(&result).ok());
        (job.plan_id, job.plan_name, job.repo_id, job.repo_name) = (None, None, None, None);
        page.header.discovered = cards;
        pages.add(name, &page);
    }
}
