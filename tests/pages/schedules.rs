//! Schedules through pages: the form of "when" with every preset, what is refused and kept as typed, pausing, what hosts and plans tell of it.

use flotilla::{
    domain::{HostId, Vitals, schedule::ScheduleRejection},
    paths,
    store::{StoreError, hosts, plans, schedules},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::site::{Site, check_html};

/// What the form of the sample's plan sends, `when` aside.
const PLAN: [(&str, &str); 4] =
    [("name", "nightly"), ("tags", "eu"), ("paths", "/etc"), ("schedule.timezone", "Europe/Berlin")];

/// Fields of a form.
type Fields = [(&'static str, &'static str)];

async fn change(site: &Site, when: &[(&str, &str)]) -> (StatusCode, String) {
    let browser = site.browser();
    browser.log_in("otto").await;
    let repo = site.ids.repo.to_string();
    let fields: Vec<_> = PLAN.into_iter().chain([("repo_id", repo.as_str())]).chain(when.iter().copied()).collect();
    let answer = browser.post(&paths::plan(site.ids.plan), &fields).await;
    (answer.status(), answer.text().await.unwrap())
}

/// Cron, seconds of jitter and whether it is enabled, as stored.
async fn stored(site: &Site) -> Option<(String, u32, bool)> {
    let id = site.ids.plan;
    let plan = site.store.read(move |db| plans::lookup(db, id)).await.unwrap().unwrap();
    let schedule = plan.schedule?.schedule;
    Some((schedule.cron, schedule.jitter_s, schedule.enabled))
}

#[tokio::test]
async fn each_preset_of_the_form_becomes_a_schedule_and_is_recognised_when_edited() {
    let site = Site::start().await;
    let window = [("schedule.from", "01:00"), ("schedule.to", "05:00"), ("schedule.enabled", "true")];
    let cases: [(&str, &Fields, &str, u32); 6] = [
        ("daily", &[], "0 1 * * *", 14_400),
        ("weekly", &[("schedule.weekday", "6")], "0 1 * * 6", 14_400),
        ("monthly", &[("schedule.monthday", "15")], "0 1 15 * *", 14_400),
        ("hourly", &[("schedule.minute", "20")], "20 * * * *", 0),
        ("hours", &[("schedule.minute", "20"), ("schedule.hours", "8")], "20 */8 * * *", 0),
        ("custom", &[("schedule.cron", "5 4 * * 1-5"), ("schedule.jitter_min", "2")], "5 4 * * 1-5", 120),
    ];
    let browser = site.browser();
    browser.log_in("vera").await;
    for (preset, more, cron, jitter_s) in cases {
        let fields: Vec<_> =
            [("schedule.preset", preset)].into_iter().chain(window).chain(more.iter().copied()).collect();
        assert_eq!(change(&site, &fields).await.0, StatusCode::SEE_OTHER, "{preset}");
        assert_eq!(stored(&site).await, Some((cron.to_owned(), jitter_s, true)));
        let (_, form) = browser.get(&paths::plan_edit(site.ids.plan)).await;
        assert!(form.contains(&format!("<option value=\"{preset}\" selected>")), "{preset}");
        for (_, value) in more {
            assert!(form.contains(&format!("value=\"{value}\"")), "{preset}: {value}");
        }
        let (_, page) = browser.get(&paths::plan(site.ids.plan)).await;
        check_html("the plan", &page);
        assert!(page.contains(cron) && page.contains("Server (UTC)") && page.contains("needs JavaScript"));
        assert_eq!(page.matches("data-time=\"local\"").count(), 10);
    }
    // Without a word of it (a form of before) it stays; by hand takes it away.
    assert_eq!(change(&site, &[]).await.0, StatusCode::SEE_OTHER);
    assert!(stored(&site).await.is_some());
    assert_eq!(change(&site, &[("schedule.preset", "none")]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(stored(&site).await, None);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_said_at_its_field_and_what_was_typed_stays() {
    let site = Site::start().await;
    let cases: [(&Fields, &str, &str); 6] = [
        (&[("schedule.preset", "custom"), ("schedule.cron", "0 25 * * *")], "plan-schedule-cron-error", "0 25 * * *"),
        (
            &[("schedule.preset", "custom"), ("schedule.cron", "0 1 * * *"), ("schedule.jitter_min", "1500")],
            "plan-schedule-jitter-min-error",
            "1500",
        ),
        (
            &[("schedule.preset", "daily"), ("schedule.from", "25:00"), ("schedule.to", "05:00")],
            "plan-schedule-from-error",
            "25:00",
        ),
        (
            &[
                ("schedule.preset", "monthly"),
                ("schedule.monthday", "31"),
                ("schedule.from", "01:00"),
                ("schedule.to", "01:00"),
            ],
            "plan-schedule-monthday-error",
            "31",
        ),
        (&[("schedule.preset", "hourly"), ("schedule.minute", "75")], "plan-schedule-minute-error", "75"),
        (&[("schedule.preset", "sometimes")], "plan-schedule-preset-error", ""),
    ];
    for (fields, error, typed) in cases {
        let (status, html) = change(&site, fields).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        check_html("the plan's form", &html);
        assert!(html.contains(&format!("id=\"{error}\"")) && html.contains(typed), "{fields:?}: {html}");
    }
    assert_eq!(stored(&site).await, None);
}

#[tokio::test]
async fn a_plans_schedule_is_paused_and_resumed_from_the_list() {
    let site = Site::start().await;
    let daily = [
        ("schedule.preset", "daily"),
        ("schedule.from", "01:00"),
        ("schedule.to", "05:00"),
        ("schedule.enabled", "true"),
    ];
    change(&site, &daily).await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let (_, list) = browser.get("/schedules").await;
    check_html("/schedules", &list);
    assert!(list.contains("Every night between 01:00 and 05:00, Europe/Berlin") && list.contains("3 hosts"), "{list}");
    let toggle = paths::plan_enabled(site.ids.plan);
    assert_eq!(browser.posted(&toggle, &[("enabled", "false")]).await, "/schedules");
    assert!(!stored(&site).await.unwrap().2);
    let (_, list) = browser.get("/schedules").await;
    assert!(list.contains("Paused") && list.contains("Resume"), "{list}");
    browser.posted(&toggle, &[("enabled", "true")]).await;
    assert!(stored(&site).await.unwrap().2);
}

#[tokio::test]
async fn a_schedule_of_the_servers_own_is_added_run_paused_and_removed() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let (_, empty) = browser.get("/schedules").await;
    assert!(empty.contains("Nothing runs by itself yet"), "{empty}");
    let (host, repo) = (site.ids.hosts[0].to_string(), site.ids.repo.to_string());
    let fields = |zone: &'static str| {
        [
            ("host_id", host.as_str()),
            ("repo_id", &repo),
            ("kind", "check"),
            ("schedule.preset", "weekly"),
            ("schedule.weekday", "0"),
            ("schedule.from", "03:00"),
            ("schedule.to", "03:00"),
            ("schedule.timezone", zone),
            ("schedule.enabled", "true"),
        ]
    };
    let answer = browser.post("/schedules/new", &fields("Mars/Base")).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let html = answer.text().await.unwrap();
    check_html("/schedules/new", &html);
    assert!(html.contains("id=\"schedule-schedule-timezone-error\"") && html.contains("Mars/Base"), "{html}");
    assert_eq!(browser.posted("/schedules/new", &fields("UTC")).await, "/schedules");
    let own = site.store.read(|db| schedules::list(db, None)).await.unwrap().remove(0);
    let (_, list) = browser.get("/schedules").await;
    check_html("/schedules", &list);
    assert!(list.contains("Check the repository") && list.contains("Every Sunday at 03:00, UTC"), "{list}");
    assert!(browser.posted(&paths::schedule_run(own.id), &[]).await.starts_with("/jobs/"));
    browser.posted(&paths::schedule_enabled(own.id), &[("enabled", "false")]).await;
    browser.posted(&paths::schedule_remove(own.id), &[]).await;
    assert!(site.store.read(|db| schedules::list(db, None)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repository_that_a_schedule_works_on_is_not_removed_and_says_which() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    let new = [("name", "second"), ("url", "/srv/second"), ("password", "planted-second")];
    let page = browser.posted("/repos/new", &new).await;
    let (host, repo) = (site.ids.hosts[0].to_string(), page.rsplit('/').next().unwrap());
    let fields = [
        ("host_id", host.as_str()),
        ("repo_id", repo),
        ("kind", "check"),
        ("schedule.preset", "weekly"),
        ("schedule.weekday", "0"),
        ("schedule.from", "03:00"),
        ("schedule.to", "03:00"),
        ("schedule.timezone", "UTC"),
        ("schedule.enabled", "true"),
    ];
    browser.posted("/schedules/new", &fields).await;
    let (_, html) = browser.get(&page).await;
    check_html(&page, &html);
    assert!(html.contains("Not while 1 schedule uses it") && html.contains("Every Sunday at 03:00, UTC"), "{html}");
    // Who has the page of before.
    let remove = format!("{page}/remove");
    let refused = browser.post(&remove, &[("confirm", "second")]).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let html = refused.text().await.unwrap();
    assert!(
        html.contains("the schedule of the check of web-1") && html.contains("remove what is scheduled first"),
        "{html}"
    );
    let own = site.store.read(|db| schedules::list(db, None)).await.unwrap().remove(0);
    browser.posted(&paths::schedule_remove(own.id), &[]).await;
    assert_eq!(browser.posted(&remove, &[("confirm", "second")]).await, "/repos");
}

#[tokio::test]
async fn a_host_tells_what_runs_there_what_its_agent_does_not_have_yet_and_what_it_complains_of() {
    let site = Site::start().await;
    let daily = [
        ("schedule.preset", "daily"),
        ("schedule.from", "01:00"),
        ("schedule.to", "05:00"),
        ("schedule.enabled", "true"),
    ];
    change(&site, &daily).await;
    let (online, away) = (site.ids.hosts[0], site.ids.hosts[1]);
    let of = |host: HostId| flotilla::domain::schedule::derived_id(site.ids.plan, host);
    let refused = ScheduleRejection { schedule_id: of(online), reason: "planned <b>badly</b>".to_owned() };
    let note = move |tx: &mut flotilla::store::WriteTx<'_>| -> Result<(), StoreError> {
        for host in [online, away] {
            hosts::renew_schedule(tx, host, [1; 32], &[])?;
            hosts::renew_schedule(tx, host, [2; 32], &[])?;
        }
        hosts::note_schedule_ack(tx, online, 2, &[refused])?;
        hosts::note_schedule_ack(tx, away, 1, &[])
    };
    site.store.write(note).await.unwrap();
    let vitals: Vitals =
        serde_json::from_value(json!({"troubles": [{"code": "spool_full", "message": "the <i>spool</i> is full"}]}))
            .unwrap();
    site.hub.heard(online, 1, "2026-11-21T08:00:00Z".parse().unwrap(), Some(vitals));
    let browser = site.browser();
    browser.log_in("vera").await;
    let (_, page) = browser.get(&paths::host(online)).await;
    check_html("the host", &page);
    assert!(
        page.contains("planned &lt;b&gt;badly&lt;/b&gt;") && page.contains("The &lt;i&gt;spool&lt;/i&gt; is full."),
        "{page}"
    );
    assert!(!page.contains("still follows version"), "{page}");
    let (_, page) = browser.get(&paths::host(away)).await;
    assert!(
        page.contains("still follows version 1 of 2 of its schedules; it gets the new ones when it connects"),
        "{page}"
    );
    let (_, list) = browser.get("/schedules").await;
    check_html("/schedules", &list);
    assert!(
        list.contains("1 of 3 hosts follows an older version") && list.contains("web-1 cannot follow it"),
        "{list}"
    );
}
