//! Verdicts, pins and upkeep as a script handles them.

use flotilla::{
    domain::{
        ForgetSpec, HeldBack, JobId, JobKind, JobStatus, KeepRules, Operation, Timestamp,
        guard::{About, Cause, Finding},
        job::{Actor, End, JobInput, NewJob},
        retention::{Fate, FateKind, Verdict, VerdictState},
    },
    store::{jobs, verdicts},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Script, fields},
    site::Site,
};

const NOW: i64 = 1_795_248_000_000;

fn snapshot(n: u8) -> String {
    format!("{n:02x}").repeat(32)
}

/// Puts snapshots 1 and 2 into the index.
async fn indexed(site: &Site) {
    let (repo, host) = (site.ids.repo.to_string(), site.ids.hosts[0].to_string());
    let rows = move |tx: &mut flotilla::store::WriteTx<'_>| {
        for n in [1, 2] {
            tx.db().execute(
                "INSERT INTO snapshots (repo_id, id, time, hostname, host_id, paths, first_seen_at) VALUES (?1, ?2, ?3, 'web-1', ?4, '[\"/etc\"]', ?3)",
                (&repo, snapshot(n), NOW + i64::from(n), &host),
            )?;
        }
        Ok::<_, flotilla::store::StoreError>(())
    };
    site.store.write(rows).await.unwrap();
}

/// A forget that was stopped: one snapshot would go, two wait, one is held, one stays.
async fn stopped(site: &Site) -> JobId {
    let (id, host, repo) = (JobId::from_parts(9, 9), site.ids.hosts[0], site.ids.repo);
    let keep = KeepRules { keep_last: Some(1), ..KeepRules::default() };
    let spec = ForgetSpec { keep, of: Default::default(), group_by: vec![], prune: false, dry_run: false };
    let new = NewJob {
        about: Default::default(),
        id,
        host_id: host,
        kind: JobKind::Forget,
        actor: Actor::system(),
        moment: None,
        ran_alone: false,
        plan_id: None,
        repo_id: Some(repo),
        input: JobInput { operation: Some(Operation::Forget(spec)), ..JobInput::default() },
        rerun_of: None,
        timeout_s: 60,
        expires_at: None,
    };
    let at = Timestamp::from_unix_ms(NOW);
    let about = About { id: snapshot(3), time: at, first_seen_at: None, bytes: Some(7) };
    let verdict = Verdict {
        job_id: id,
        repo_id: repo,
        plan_id: None,
        plan_name: None,
        at,
        state: VerdictState::Stopped,
        dry: false,
        rules: "1 last".to_owned(),
        findings: vec![Finding {
            cause: Cause::BackDated,
            hostname: "web-1".to_owned(),
            paths: vec![],
            about: vec![about],
            count: 1,
            usual_bytes: None,
        }],
        remove: vec![],
        waiting: vec![snapshot(1), snapshot(2)],
        held: vec![HeldBack { snapshot: snapshot(4), reason: "pinned".to_owned() }],
        decided_at: None,
        decided_by: String::new(),
        reason: String::new(),
    };
    let fate = |n: u8, kind| Fate {
        snapshot_id: snapshot(n),
        time: Timestamp::from_unix_ms(NOW + i64::from(n)),
        hostname: "web-1".to_owned(),
        paths: vec!["/etc".to_owned()],
        kind,
        reason: "no rule keeps it (1 last)".to_owned(),
    };
    let fates =
        [fate(1, FateKind::Waiting), fate(2, FateKind::Waiting), fate(3, FateKind::Kept), fate(4, FateKind::Held)];
    let end =
        End { status: JobStatus::Succeeded, at, exit_code: Some(0), error: None, summary: None, log_truncated: false };
    let store = &site.store;
    store.write(move |tx| jobs::insert(tx, &new)).await.unwrap();
    store.write(move |tx| verdicts::insert(tx, &verdict)).await.unwrap();
    store.write(move |tx| verdicts::insert_fates(tx, id, &fates)).await.unwrap();
    store.write(move |tx| jobs::finish(tx, id, host, &end, None)).await.unwrap();
    id
}

#[tokio::test]
async fn a_stopped_forget_is_found_read_and_approved_by_an_administrator_who_names_the_repository() {
    let site = Site::start().await;
    let (viewer, operator, admin) =
        (Script::of(&site, "vera").await, Script::of(&site, "otto").await, Script::of(&site, "ada").await);
    assert_eq!(viewer.get("/api/verdicts").await["items"], json!([]));
    let job = stopped(&site).await;
    let list = viewer.get(&format!("/api/verdicts?state=stopped&repo_id={}", site.ids.repo)).await;
    let seen = &list["items"][0];
    assert_eq!((list["items"].as_array().unwrap().len(), &seen["job_id"]), (1, &json!(job)));
    assert_eq!((&seen["waiting"], &seen["removed"], &seen["held"]), (&json!(2), &json!(0), &json!(1)));
    let finding = &seen["findings"][0];
    assert_eq!((&finding["cause"], &finding["snapshots"][0]["id"]), (&json!("back_dated"), &json!(snapshot(3))));
    assert!(finding["happened"].as_str().unwrap().contains("older date") && finding["advice"].is_string(), "{finding}");
    assert_eq!(viewer.get("/api/verdicts?state=approved").await["items"], json!([]));
    assert_eq!(fields(&viewer.ask(Method::GET, "/api/verdicts?state=odd", None).await.2), ["state"]);

    let place = format!("/api/verdicts/{job}");
    assert_eq!(&viewer.get(&place).await, seen);
    let first = viewer.get(&format!("{place}/snapshots?fate=waiting&limit=1")).await;
    assert_eq!(first["items"][0]["id"], snapshot(2), "the newest first");
    let next = first["next"].as_str().unwrap();
    let rest = viewer.get(&format!("{place}/snapshots?fate=waiting&limit=1&after={next}")).await;
    assert_eq!((&rest["items"][0]["id"], &rest["next"]), (&json!(snapshot(1)), &Value::Null));
    assert_eq!(viewer.ask(Method::GET, &format!("{place}/snapshots?fate=odd"), None).await.0, 422);

    let approve = format!("{place}/approve");
    assert_eq!(operator.post(&approve, json!({"confirm": "vault"})).await.0, 403);
    for wrong in [json!({}), json!({"confirm": "another"})] {
        assert_eq!(fields(&admin.post(&approve, wrong).await.2), ["confirm"]);
    }
    let long = json!({"confirm": "vault", "reason": "x".repeat(201)});
    assert_eq!(fields(&admin.post(&approve, long).await.2), ["reason"]);
    let (status, again, ordered) = admin.post(&approve, json!({"confirm": "vault", "reason": "it was me"})).await;
    assert_eq!((status, again), (202, format!("/api/jobs/{}", ordered["job_id"].as_str().unwrap())));
    let seen = viewer.get(&place).await;
    assert_eq!(
        (&seen["state"], &seen["decided_by"], &seen["reason"]),
        (&json!("approved"), &json!("ada"), &json!("it was me"))
    );
    assert_eq!(admin.post(&approve, json!({"confirm": "vault"})).await.0, 409, "it was decided");
}

#[tokio::test]
async fn an_operator_may_leave_what_was_stopped_where_it_is() {
    let site = Site::start().await;
    let operator = Script::of(&site, "otto").await;
    let dismiss = format!("/api/verdicts/{}/dismiss", stopped(&site).await);
    assert_eq!(operator.post(&dismiss, json!({"reason": "looks forged"})).await.0, 204);
    assert_eq!(operator.get("/api/verdicts?state=dismissed").await["items"][0]["decided_by"], "otto");
    assert_eq!(operator.post(&dismiss, json!({})).await.0, 409);
    assert_eq!(operator.post(&format!("/api/verdicts/{}/dismiss", JobId::from_parts(1, 77)), json!({})).await.0, 404);
}

#[tokio::test]
async fn a_snapshot_is_pinned_with_a_reason_and_let_go_by_an_administrator() {
    let site = Site::start().await;
    let (operator, admin) = (Script::of(&site, "otto").await, Script::of(&site, "ada").await);
    indexed(&site).await;
    let pins = format!("/api/repos/{}/pins", site.ids.repo);
    assert_eq!(fields(&operator.post(&pins, json!({"snapshot": snapshot(1), "reason": " "})).await.2), ["reason"]);
    assert_eq!(operator.post(&pins, json!({"snapshot": snapshot(9), "reason": "x"})).await.0, 404);
    let (status, place, made) =
        operator.post(&pins, json!({"snapshot": "01010101", "reason": "before the move"})).await;
    assert_eq!((status, place), (201, format!("{pins}/{}", snapshot(1))));
    assert_eq!((&made["pinned_by"], &made["reason"]), (&json!("otto"), &json!("before the move")));
    operator.post(&pins, json!({"snapshot": snapshot(2), "reason": "audit"})).await;
    let first = operator.get(&format!("{pins}?limit=1")).await;
    assert_eq!(first["items"][0]["snapshot"], snapshot(2), "the newest first");
    let rest = operator.get(&format!("{pins}?limit=1&after={}", first["next"].as_str().unwrap())).await;
    assert_eq!((&rest["items"][0], &rest["next"]), (&made, &Value::Null));
    let one = format!("{pins}/{}", snapshot(1));
    assert_eq!(operator.ask(Method::DELETE, &one, None).await.0, 403);
    assert_eq!(admin.ask(Method::DELETE, &one, None).await.0, 204);
    assert_eq!(admin.get(&pins).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_upkeep_of_a_repository_is_set_up_by_one_request_and_read_back() {
    let site = Site::start().await;
    let (operator, admin) = (Script::of(&site, "otto").await, Script::of(&site, "ada").await);
    let place = format!("/api/repos/{}/upkeep", site.ids.repo);
    site.maintained().await;
    let before = operator.get(&place).await;
    assert!(before["duties"].as_array().unwrap().iter().all(|duty| duty["schedule_id"].is_null()), "{before}");
    let wish = json!({"host_id": site.ids.hosts[0], "check_days": 28});
    assert_eq!(operator.ask(Method::PUT, &place, Some(wish.clone())).await.0, 403);
    assert_eq!(fields(&admin.ask(Method::PUT, &place, Some(json!({"check_days": 9999}))).await.2), ["check_days"]);
    let (status, _, made) = admin.ask(Method::PUT, &place, Some(wish.clone())).await;
    assert_eq!((status, &made["check_days"], &made["next_part"]), (200, &json!(28), &json!("1/4")), "{made}");
    for duty in made["duties"].as_array().unwrap() {
        assert!(duty["enabled"] == true && duty["schedule_id"].is_string() && duty["next_at"].is_string(), "{duty}");
    }
    assert_eq!(admin.ask(Method::PUT, &place, Some(wish)).await.2, made, "doing it again changes nothing");
    assert_eq!(operator.get(&place).await, made);
    assert_eq!(admin.ask(Method::GET, &format!("/api/repos/{}/upkeep", JobId::from_parts(1, 77)), None).await.0, 404);
}

#[tokio::test]
async fn who_may_not_delete_is_offered_the_dry_run_alone() {
    let site = Site::start().await;
    let (operator, admin) = (site.browser(), site.browser());
    operator.log_in("otto").await;
    admin.log_in("ada").await;
    let page = format!("/repos/{}/operations", site.ids.repo);
    let (_, html) = operator.get(&page).await;
    assert!(html.contains("No more than that can be done:"), "{html}");
    assert!(html.contains(r#"<input type="hidden" name="dry_run" value="true">"#), "{html}");
    let fields = [("kind", "prune"), ("host_id", &*site.ids.hosts[0].to_string()), ("dry_run", "true")];
    let placed = operator.post(&page, &fields).await;
    assert_eq!(placed.status().as_u16(), 303, "{}", placed.text().await.unwrap());
    assert_eq!(operator.post(&page, &fields[..2]).await.status().as_u16(), 403);
    let may_not = "No more than that can be done";
    assert!(admin.get(&page).await.1.contains(&format!("{may_not}: no host may delete")));
    site.maintained().await;
    assert!(!admin.get(&page).await.1.contains(may_not));
    let sealed_off = |tx: &mut flotilla::store::WriteTx<'_>| {
        let set = tx.db().execute("UPDATE repos SET append_only = 1, secrets_set = '[]'", []);
        set.map_err(flotilla::store::StoreError::from)
    };
    site.store.write(sealed_off).await.unwrap();
    let (_, html) = admin.get(&page).await;
    assert!(html.contains(&format!("{may_not}: append-only, and no credentials")), "{html}");
}
