//! Upkeep and retention through pages: setting up by one click, schedules that stand alone, all keep rules in the plan's form, who may do what.

use flotilla::{
    domain::JobKind,
    paths,
    store::{plans, repos, schedules},
};
use reqwest::StatusCode;

use crate::site::{Site, check_html};

#[tokio::test]
async fn upkeep_is_set_up_by_one_click_and_shown_on_the_repositorys_page() {
    let site = Site::start().await;
    let (admin, operator) = (site.browser(), site.browser());
    admin.log_in("ada").await;
    operator.log_in("otto").await;
    let (repo, host) = (site.ids.repo, site.ids.hosts[0].to_string());
    let path = paths::repo_upkeep(repo);
    let fields = [("host_id", host.as_str()), ("check_days", "14")];
    assert_eq!(operator.post(&path, &fields).await.status(), StatusCode::FORBIDDEN);
    let (_, html) = admin.get(&paths::repo(repo)).await;
    assert!(html.contains("Not scheduled: no host may delete: name a maintenance host under Change"), "{html}");
    site.maintained().await;
    assert_eq!(admin.posted(&path, &fields).await, paths::repo(repo));
    let made = site.store.read(move |db| schedules::using_repo(db, repo)).await.unwrap();
    for kind in [JobKind::Prune, JobKind::Check, JobKind::Stats, JobKind::Locks] {
        assert_eq!(made.iter().filter(|own| own.kind == kind).count(), 1, "{kind}");
    }
    let stored = site.store.read(move |db| repos::lookup(db, repo)).await.unwrap().unwrap();
    assert_eq!(stored.upkeep.check_days, Some(14));
    let (_, html) = admin.get(&paths::repo(repo)).await;
    check_html("repo", &html);
    assert!(html.contains("all data is read within 14 days, next part 1 of 2"), "{html}");
    let (status, html) = operator.get(&paths::repo_retention(repo)).await;
    assert_eq!(status, StatusCode::OK);
    check_html("retention", &html);
}

#[tokio::test]
async fn a_backup_of_paths_can_be_scheduled_for_one_host() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let (repo, host) = (site.ids.repo.to_string(), site.ids.hosts[0].to_string());
    let fields = |paths: &'static str| {
        [
            ("kind", "backup"),
            ("repo_id", repo.as_str()),
            ("host_id", host.as_str()),
            ("paths", paths),
            ("schedule.preset", "hourly"),
            ("schedule.minute", "5"),
            ("schedule.timezone", "UTC"),
        ]
    };
    let refused = browser.post("/schedules/new", &fields("etc")).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().await.unwrap().contains("is not absolute"));
    assert_eq!(browser.posted("/schedules/new", &fields("/etc\n/srv")).await, "/schedules");
    let all = site.store.read(|db| schedules::list(db, None)).await.unwrap();
    let made = all.iter().find(|own| own.kind == JobKind::Backup && own.plan_id.is_none()).unwrap();
    assert_eq!(made.input.args, ["/etc", "/srv"]);
}

#[tokio::test]
async fn a_plan_takes_all_keep_rules_from_its_form_and_shows_them_again() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let repo = site.ids.repo.to_string();
    let base = [
        ("name", "nightly"),
        ("tags", "eu"),
        ("paths", "/etc"),
        ("repo_id", repo.as_str()),
        ("schedule.preset", "none"),
    ];
    let with = |more: [(&'static str, &'static str); 3]| base.into_iter().chain(more).collect::<Vec<_>>();
    let path = paths::plan(site.ids.plan);
    let rules =
        [("retention.keep_daily", "7"), ("retention.keep_within_monthly", "1y"), ("retention.keep_tags", "hold")];
    assert_eq!(browser.post(&path, &with(rules)).await.status(), StatusCode::SEE_OTHER);
    let id = site.ids.plan;
    let plan = site.store.read(move |db| plans::lookup(db, id)).await.unwrap().unwrap();
    assert_eq!(plan.retention.keep_within_monthly.as_deref(), Some("1y"));
    assert_eq!(plan.retention.keep_tags, ["hold"]);
    let (_, html) = browser.get(&path).await;
    assert!(html.contains("7 daily, monthly within 1y, all with the tag hold"), "{html}");
    let (_, form) = browser.get(&paths::plan_edit(id)).await;
    assert!(form.contains(r#"value="1y""#) && form.contains(r#"value="hold""#), "{form}");
    let odd = [("retention.keep_daily", "7"), ("retention.keep_within_monthly", "soon"), ("retention.keep_tags", "")];
    let refused = browser.post(&path, &with(odd)).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
}
