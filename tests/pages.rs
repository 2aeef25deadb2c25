//! Pages through the whole web service, as a browser asks for them: log-in by the form, every page for every role, refused forms, redirects,
//! and no secret in any answer.

#[cfg(test)]
#[path = "pages/api.rs"]
mod api;
#[cfg(test)]
#[path = "pages/health.rs"]
mod health;
#[cfg(test)]
#[path = "pages/restore.rs"]
mod restore;
#[cfg(test)]
#[path = "pages/retention.rs"]
mod retention;
#[cfg(test)]
#[path = "pages/retention_api.rs"]
mod retention_api;
#[cfg(test)]
#[path = "pages/schedules.rs"]
mod schedules;
#[cfg(test)]
#[path = "pages/site.rs"]
mod site;
#[cfg(test)]
#[path = "pages/waves.rs"]
mod waves;

use reqwest::{StatusCode, header};
use site::{Browser, PASSWORD, PLANTED, Site};

/// Every page that a viewer may see, by what is in the sample.
fn pages(site: &Site) -> Vec<String> {
    let ids = &site.ids;
    let mut pages: Vec<String> =
        ["/", "/?fragment=1", "/hosts", "/hosts?q=web&tag=eu", "/jobs", "/jobs?status=failed&kind=backup"]
            .into_iter()
            .chain(["/jobs?fragment=1", "/repos", "/plans", "/schedules", "/settings", "/alerts", "/waves"])
            .map(str::to_owned)
            .collect();
    for host in &ids.hosts {
        pages.extend(["", "?tab=jobs", "?tab=settings"].map(|tab| format!("/hosts/{host}{tab}")));
    }
    for job in &ids.jobs {
        pages.extend(["", "?fragment=header", "?from=1"].map(|query| format!("/jobs/{job}{query}")));
    }
    pages.push(format!("/repos/{}", ids.repo));
    pages.push(format!("/repos/{}/repair", ids.repo));
    pages.push(format!("/repos/{}/retention", ids.repo));
    pages.extend(["", "?tab=edit"].map(|tab| format!("/plans/{}{tab}", ids.plan)));
    pages
}

#[tokio::test]
async fn every_page_is_there_for_a_viewer_and_an_admin_well_formed_and_without_secrets() {
    let site = Site::start().await;
    for who in ["vera", "ada"] {
        let browser = site.browser();
        browser.log_in(who).await;
        for page in pages(&site) {
            let (status, html) = browser.get(&page).await;
            assert_eq!(status, StatusCode::OK, "{who} {page}: {html}");
            site::check_html(&page, &html);
        }
    }
}

#[tokio::test]
async fn pages_that_make_something_are_there_for_those_who_may() {
    let site = Site::start().await;
    let (viewer, operator, admin) = (site.browser(), site.browser(), site.browser());
    viewer.log_in("vera").await;
    operator.log_in("otto").await;
    admin.log_in("ada").await;
    for (page, for_operator) in
        [("/hosts/new", true), ("/plans/new", true), ("/schedules/new", true), ("/repos/new", false)]
    {
        let (status, html) = viewer.get(page).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{page}");
        site::check_html(page, &html);
        assert_eq!(operator.get(page).await.0 == StatusCode::OK, for_operator, "{page}");
        let (status, html) = admin.get(page).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        site::check_html(page, &html);
    }
}

#[tokio::test]
async fn who_is_not_logged_in_is_led_to_the_log_in_and_back() {
    let site = Site::start().await;
    let browser = site.browser();
    let answer = browser.ask("/jobs?status=failed").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let login = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
    let (_, html) = browser.get(&login).await;
    assert!(html.contains(r#"name="next" value="/jobs?status=failed""#), "{html}");
    let answer =
        browser.post("/login", &[("name", "vera"), ("password", PASSWORD), ("next", "/jobs?status=failed")]).await;
    assert_eq!(answer.headers()[header::LOCATION], "/jobs?status=failed");
    let answer = browser.post("/login", &[("name", "vera"), ("password", PASSWORD), ("next", "//evil.example")]).await;
    assert_eq!(answer.headers()[header::LOCATION], "/");
}

#[tokio::test]
async fn a_wrong_password_is_said_in_the_form_which_keeps_the_name_and_forgets_the_password() {
    let site = Site::start().await;
    let browser = site.browser();
    let answer =
        browser.post("/login", &[("name", "vera"), ("password", "planted-wrong-password"), ("next", "")]).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let html = answer.text().await.unwrap();
    site::check_html("/login", &html);
    assert!(html.contains(r#"value="vera""#) && html.contains("is not right"), "{html}");
    assert!(!html.contains("planted-wrong-password"));
}

#[tokio::test]
async fn a_form_without_the_sessions_token_changes_nothing() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    let path = format!("/plans/{}/remove", site.ids.plan);
    for csrf in ["", "wrong"] {
        let answer = browser.post_raw(&path, &[("confirm", "nightly"), ("csrf", csrf)], &[]).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(answer.text().await.unwrap().contains("out of date"));
    }
    assert_eq!(browser.get(&format!("/plans/{}", site.ids.plan)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn starting_a_backup_leads_htmx_by_its_header_and_others_by_303() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let path = format!("/hosts/{}/run-backup", site.ids.hosts[0]);
    let plan = site.ids.plan.to_string();
    for (fields, htmx) in [(vec![("plan_id", plan.as_str())], false), (vec![], false), (vec![], true)] {
        let csrf = browser.csrf().await;
        let mut fields = fields;
        fields.push(("csrf", &csrf));
        let headers: &[(&str, &str)] = if htmx { &[("hx-request", "true")] } else { &[] };
        let answer = browser.post_raw(&path, &fields, headers).await;
        let (status, name) = if htmx { (StatusCode::OK, "hx-redirect") } else { (StatusCode::SEE_OTHER, "location") };
        assert_eq!(answer.status(), status);
        let to = answer.headers()[name].to_str().unwrap().to_owned();
        assert!(to.starts_with("/jobs/"), "{to}");
        let (status, html) = browser.get(&to).await;
        assert_eq!(status, StatusCode::OK);
        assert!(html.contains("Queued"), "{html}");
    }
    // By the API's own rules for scripts in the page.
    let csrf = browser.csrf().await;
    let answer = browser.post_raw(&path, &[], &[("x-csrf-token", &csrf), ("hx-request", "true")]).await;
    assert!(answer.headers().contains_key("hx-redirect"));
}

#[tokio::test]
async fn a_viewer_may_start_nothing() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("vera").await;
    let answer = browser.post(&format!("/hosts/{}/run-backup", site.ids.hosts[0]), &[]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let html = answer.text().await.unwrap();
    site::check_html("run-backup", &html);
    assert!(html.contains("This needs the role operator"), "{html}");
}

#[tokio::test]
async fn a_host_without_exactly_one_plan_says_so_instead_of_guessing() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let bare = site.ids.hosts.last().unwrap();
    let answer = browser.post(&format!("/hosts/{bare}/run-backup"), &[]).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().await.unwrap().contains("no plan covers"));
}

/// Path, fields, what was typed and must come back, what must be said of it.
const REFUSED: [[&str; 4]; 13] = [
    [
        "/repos/new",
        "name=typed&url=rest:https://u:p@vault/&password=planted-typed",
        r#"value="typed""#,
        "auth.username",
    ],
    [
        "/repos/new",
        "name=typed&url=/r&password=planted-typed&env_name=PATH&env_value=planted",
        r#"value="typed""#,
        "AWS_",
    ],
    ["/plans/new", "name=typed&repo_id={repo}&paths=relative/path", "relative/path", "is not absolute"],
    ["/plans/new", "name=nightly&repo_id={repo}&paths=/typed", "/typed", "there already"],
    ["/plans/new", "name=x&repo_id={repo}&paths=/typed&retention.keep_last=many", "/typed", "whole number"],
    ["/plans/{plan}", "name=&repo_id={repo}&paths=/typed", "/typed", "must not be empty"],
    ["/hosts/new", "name=typed&tags=a!b&ttl_seconds=3600", r#"value="typed""#, "a tag has"],
    ["/hosts/{host}/run-backup", "repo_id={repo}&paths=typed/relative", "typed/relative", "is not absolute"],
    ["/hosts/{host}/restore", "repo_id={repo}&snapshot=typed!&target=/srv/typed", "/srv/typed", "must be latest"],
    ["/hosts/{host}/restore", "repo_id={repo}&snapshot=5fa1c2d8&target=/", "5fa1c2d8", "overwritten"],
    ["/hosts/{host}/settings", "name= &tags=typed-tag", "typed-tag", "must not be empty"],
    ["/settings/tokens", "label=typed&role=viewer&expires_days=9999999", r#"value="typed""#, "ten years"],
    ["/settings/users", "name=typed&password=planted&role=viewer", r#"value="typed""#, "at least 10"],
];

#[tokio::test]
async fn refused_forms_show_what_was_typed_and_why_and_never_a_secret() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    let (host, plan, repo) = (site.ids.hosts[0].to_string(), site.ids.plan.to_string(), site.ids.repo.to_string());
    for row in REFUSED {
        let [path, fields, typed, why] =
            row.map(|text| text.replace("{host}", &host).replace("{plan}", &plan).replace("{repo}", &repo));
        let fields: Vec<(&str, &str)> = fields.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let answer = browser.post(&path, &fields).await;
        let status = answer.status();
        let html = answer.text().await.unwrap();
        assert!(matches!(status.as_u16(), 409 | 422), "{path}: {status}: {html}");
        site::check_html(&path, &html);
        assert!(html.contains(&typed), "{path} forgot {typed:?}: {html}");
        assert!(html.contains(&why), "{path} does not say {why:?}: {html}");
    }
}

#[tokio::test]
async fn a_wrong_current_password_is_said_and_changes_nothing() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("vera").await;
    let wrong = [("current", "planted-not-mine"), ("new", "planted long enough")];
    let answer = browser.post("/settings/password", &wrong).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let html = answer.text().await.unwrap();
    site::check_html("/settings", &html);
    assert!(html.contains("the current password is not right"), "{html}");
    site.browser().log_in("vera").await;
    let elsewhere = site.browser();
    elsewhere.log_in("vera").await;
    browser.posted("/settings/password", &[("current", PASSWORD), ("new", "planted long enough")]).await;
    assert_eq!(elsewhere.ask("/").await.status(), StatusCode::SEE_OTHER, "other sessions end");
    assert_eq!(browser.ask("/").await.status(), StatusCode::OK, "one's own stays");
}

#[tokio::test]
async fn a_repository_and_a_plan_are_made_changed_and_removed_by_form() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    let fields = [
        ("name", "second"),
        ("url", "s3:https://s3.example.org/b"),
        ("password", PLANTED),
        ("env_name", "AWS_ACCESS_KEY_ID"),
        ("env_value", PLANTED),
        ("env_name", ""),
        ("env_value", ""),
        ("append_only", "true"),
    ];
    let repo = browser.posted("/repos/new", &fields).await;
    let (_, html) = browser.get(&repo).await;
    site::check_html(&repo, &html);
    assert!(html.contains("second is added") && html.contains("env.AWS_ACCESS_KEY_ID"), "{html}");
    assert!(!browser.get(&repo).await.1.contains("second is added"), "news are shown once");
    let repo_id = repo.rsplit('/').next().unwrap();
    let edit = format!("{repo}/edit");
    let (_, form) = browser.get(&edit).await;
    site::check_html(&edit, &form);
    assert!(form.contains("AWS_ACCESS_KEY_ID") && !form.contains(PLANTED), "{form}");
    browser
        .posted(&edit, &[("name", "second"), ("url", "s3:https://s3.example.org/moved"), ("append_only", "true")])
        .await;
    let (_, html) = browser.get(&repo).await;
    assert!(html.contains("/moved") && html.contains("env.AWS_ACCESS_KEY_ID") && html.contains("password"), "{html}");
    let refused = browser
        .post(&edit, &[("name", ""), ("kind", "s3"), ("part.server", "s3.example.org"), ("part.bucket", "typed")])
        .await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().await.unwrap().contains("value=\"typed\""), "what was typed is drawn again");
    let host = site.ids.hosts[0].to_string();
    let plan = browser
        .posted(
            "/plans/new",
            &[
                ("name", "weekly"),
                ("repo_id", repo_id),
                ("hosts", &host),
                ("tags", "eu, us"),
                ("paths", "/etc\r\n/srv\r\n"),
                ("options.one_file_system", "true"),
                ("retention.keep_daily", "7"),
            ],
        )
        .await;
    let (_, html) = browser.get(&plan).await;
    assert!(html.contains("7 daily") && html.contains("one file system") && html.contains("/srv"), "{html}");
    browser.posted(&plan, &[("name", "weekly"), ("repo_id", repo_id), ("paths", "/changed")]).await;
    let (_, html) = browser.get(&plan).await;
    assert!(html.contains("/changed") && html.contains("is to keep everything"), "{html}");
    let in_use = browser.post(&format!("{repo}/remove"), &[("confirm", "second")]).await;
    assert_eq!(in_use.status(), StatusCode::CONFLICT);
    assert!(in_use.text().await.unwrap().contains("weekly"));
    let unconfirmed = browser.post(&format!("{plan}/remove"), &[("confirm", "weakly")]).await;
    assert_eq!(unconfirmed.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(browser.posted(&format!("{plan}/remove"), &[("confirm", "weekly")]).await, "/plans");
    assert_eq!(browser.posted(&format!("{repo}/remove"), &[("confirm", "second")]).await, "/repos");
    assert_eq!(browser.get(&repo).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn adding_a_host_shows_its_command_once_and_waits_for_the_agent() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let answer = browser.post("/hosts/new", &[("name", "new-1"), ("tags", "eu"), ("ttl_seconds", "3600")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let html = answer.text().await.unwrap();
    site::check_html("/hosts/new", &html);
    assert!(html.contains("flotilla-agent enroll --server http://flotilla.example --token fle_"), "{html}");
    let poll = site::between(&html, r#"hx-get="/hosts/new"#, "\"").replace("&amp;", "&");
    let (status, fragment) = browser.get(&format!("/hosts/new{poll}")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(fragment.contains("Waiting") && !fragment.contains("<html"), "{fragment}");
}

#[tokio::test]
async fn a_job_is_cancelled_and_run_again() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("otto").await;
    let job = browser.posted(&format!("/hosts/{}/run-backup", site.ids.hosts[0]), &[]).await;
    assert_eq!(browser.posted(&format!("{job}/cancel"), &[]).await, job);
    let (_, html) = browser.get(&job).await;
    assert!(html.contains("Cancelled before it reached its host"), "{html}");
    assert_eq!(browser.post(&format!("{job}/cancel"), &[]).await.status(), StatusCode::CONFLICT);
    let again = browser.posted(&format!("{job}/rerun"), &[]).await;
    assert_ne!(again, job);
    let (old, new) = (browser.get(&job).await.1, browser.get(&again).await.1);
    assert!(new.contains(&format!(r#"<a href="{job}">follows an earlier job"#)), "{new}");
    assert!(old.contains(&format!(r#"<a href="{again}">re-run as a later job"#)), "{old}");
    assert!(new.contains("time limit <b>24 h</b>") && new.contains("It is about to be sent to its host"), "{new}");
    assert!(browser.get("/jobs").await.1.contains("waits for its host to connect"));
}

#[tokio::test]
async fn every_table_of_jobs_says_what_a_queued_job_waits_for() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("vera").await;
    let (host, ids) = (site.ids.hosts[1], &site.ids);
    for page in [
        "/".to_owned(),
        "/?fragment=1".to_owned(),
        "/jobs".to_owned(),
        format!("/hosts/{host}"),
        format!("/hosts/{host}?tab=jobs"),
        format!("/plans/{}", ids.plan),
        format!("/repos/{}", ids.repo),
    ] {
        let (_, html) = browser.get(&page).await;
        site::check_html(&page, &html);
        assert!(html.contains("waits for its host to connect (offline since"), "{page}: {html}");
    }
}

#[tokio::test]
async fn a_removed_host_leaves_the_lists_and_nothing_waits_for_it_any_more() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    let (host, queued) = (format!("/hosts/{}", site.ids.hosts[1]), format!("/jobs/{}", site.ids.jobs[5]));
    let unconfirmed = browser.post(&format!("{host}/remove"), &[("confirm", "")]).await;
    assert_eq!(unconfirmed.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(browser.get(&queued).await.1.contains("It waits for its host to connect"));
    assert_eq!(browser.posted(&format!("{host}/remove"), &[("confirm", "web-2")]).await, "/hosts");
    assert_eq!(browser.get(&host).await.0, StatusCode::NOT_FOUND);
    let (status, html) = browser.get(&queued).await;
    assert_eq!(status, StatusCode::OK, "its jobs stay");
    assert!(html.contains(r#"data-status="cancelled""#), "{html}");
}

#[tokio::test]
async fn a_long_log_opens_at_its_end_and_around_a_line_that_is_linked() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("vera").await;
    let job = site.ids.jobs[0];
    let (_, html) = browser.get(&format!("/jobs/{job}")).await;
    assert!(html.contains(r#"id="L3000""#) && !html.contains(r#"id="L2000""#));
    let (_, html) = browser.get(&format!("/jobs/{job}?from=1200")).await;
    assert!(html.contains(r#"id="L1200""#) && html.contains(r#"id="L1190""#) && !html.contains(r#"id="L3000""#));
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_a_page_that_helps() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("vera").await;
    for path in ["/nowhere", "/hosts/nonsense", "/jobs/01JD3K8ZQV5C0F8R4X7M2N9ABC", "/plans/01JD3K8ZQV5C0F8R4X7M2N9ABC"]
    {
        let (status, html) = browser.get(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        site::check_html(path, &html);
        assert!(html.contains("To the dashboard"), "{path}: {html}");
    }
    let (status, html) = browser.get("/jobs?status=odd").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("no state of a job"), "{html}");
}

#[tokio::test]
async fn the_first_admin_is_made_by_the_setup_link_once() {
    let site = Site::empty().await;
    let token = flotilla::ops::accounts::setup_link(&site.store).await.unwrap().unwrap();
    let browser: Browser = site.browser();
    let (status, html) = browser.get("/setup?token=wrong").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    site::check_html("/setup", &html);
    let link = format!("/setup?token={}", token.expose());
    let (status, html) = browser.get(&link).await;
    assert_eq!(status, StatusCode::OK);
    site::check_html("/setup", &html);
    let short = browser.post("/setup", &[("token", token.expose()), ("name", "root"), ("password", "short")]).await;
    assert_eq!(short.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let made = browser.post("/setup", &[("token", token.expose()), ("name", "root"), ("password", PASSWORD)]).await;
    assert_eq!((made.status(), &made.headers()[header::LOCATION]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
    let (_, html) = browser.get("/").await;
    assert!(html.contains("Three steps to the first backup"), "{html}");
    assert_eq!(browser.get(&link).await.0, StatusCode::FORBIDDEN);
    assert_eq!(browser.posted("/logout", &[]).await, "/login");
    assert_eq!(browser.ask("/").await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn accounts_and_tokens_are_made_and_taken_away_in_the_settings() {
    let site = Site::start().await;
    let browser = site.browser();
    browser.log_in("ada").await;
    browser.posted("/settings/users", &[("name", "newcomer"), ("password", PASSWORD), ("role", "operator")]).await;
    let answer =
        browser.post("/settings/tokens", &[("label", "monitoring"), ("role", "viewer"), ("expires_days", "90")]).await;
    let html = answer.text().await.unwrap();
    let token = format!("flo_{}", site::between(&html, ">flo_", "<"));
    let asked = site.client().get(site.url("/")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::OK);
    assert!(!browser.get("/settings").await.1.contains(&token), "a token is shown once");
    let newcomer = site.browser();
    newcomer.log_in("newcomer").await;
    let (_, html) = browser.get("/settings").await;
    let users: Vec<&str> = html.match_indices("/settings/users/01").map(|(at, _)| &html[at..at + 42]).collect();
    let mut refused = 0;
    for user in users {
        let answer = browser.post(&format!("{user}/disable"), &[("confirm", "newcomer")]).await;
        refused += usize::from(answer.status() == StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert!(refused >= 2, "only the one whose name was typed is closed");
    assert_eq!(newcomer.ask("/").await.status(), StatusCode::SEE_OTHER);
    let revoke = format!("/settings/tokens/{}/revoke", site::between(&html, "/settings/tokens/", "/revoke"));
    browser.posted(&revoke, &[]).await;
    let asked = site.client().get(site.url("/")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::UNAUTHORIZED);
}

#[test]
fn the_check_of_pages_finds_what_it_looks_for() {
    for broken in [
        "<p>",
        "<p></b></p>",
        "<p id=\"a\"><b id=\"a\"></b></p>",
        "<p>planted-x</p>",
        "<script>x</script>",
        "<p style=\"x\"></p>",
    ] {
        let checked = std::panic::catch_unwind(|| site::check_html("a broken page", broken));
        assert!(checked.is_err(), "{broken} passed");
    }
    site::check_html("a whole page", "<!DOCTYPE html><p id=\"a\" title=\"x > y\">a<br>b</p>");
}
