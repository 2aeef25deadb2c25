//! Making, changing and removing plans, against a real store.

use super::*;
use crate::{
    clock::ManualClock,
    domain::Timestamp,
    hub::Hub,
    store::repos::{RepoFields, SealedSecrets},
};

async fn store(dir: &tempfile::TempDir) -> (Store, RepoId, HostId) {
    let store = Store::open(dir.path(), Hub::new(), ManualClock::at(Timestamp::from_unix_ms(5))).unwrap();
    let (repo, host) = (RepoId::from_parts(1, 1), HostId::from_parts(1, 1));
    store
        .write(move |tx| {
            let fields = RepoFields {
                name: "vault".to_owned(),
                url: "/srv/r".to_owned(),
                username: None,
                append_only: false,
                init: true,
                tls_ca_pem: None,
            };
            repos::insert(tx, repo, &fields, &SealedSecrets { sealed: vec![1], names: vec![] })?;
            let new = hosts::NewHost {
                id: host,
                name: "web-1".to_owned(),
                tags: vec![],
                token_hash: None,
                enrol_token: None,
                facts: hosts::Facts::default(),
            };
            hosts::insert(tx, &new)
        })
        .await
        .unwrap();
    (store, repo, host)
}

fn input(repo: RepoId, more: serde_json::Value) -> PlanInput {
    let mut body = serde_json::json!({"name": "nightly", "repo_id": repo, "paths": ["/etc", "/home"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(body).unwrap()
}

fn fields_of(error: OpError) -> Vec<String> {
    match error {
        OpError::Invalid(errors) => errors.into_iter().map(|error| error.field).collect(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_plan_is_stored_trimmed_and_without_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let (store, repo, host) = store(&dir).await;
    let given = serde_json::json!({"hosts": [host, host], "tags": ["Web", "web"], "paths": [" /etc", "/etc", r"C:\Users"],
        "options": {"backup_tags": ["Nightly"]}, "retention": {"keep_daily": 7, "keep_within": "1y6m"}});
    let plan = create(&store, Actor::system(), input(repo, given)).await.unwrap();
    assert_eq!((plan.hosts, plan.tags), (vec![host], vec!["web".to_owned()]));
    assert_eq!(plan.paths, ["/etc", r"C:\Users"]);
    assert_eq!(plan.options.backup_tags, ["nightly"]);
    assert_eq!(crate::domain::retention::in_words(&plan.retention), "7 daily, all within 1y6m");
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, _) = store(&dir).await;
    let given = serde_json::json!({"name": "", "hosts": [HostId::from_parts(9, 9)], "tags": ["a b"], "paths": ["/ok", "etc"],
        "excludes": [""], "options": {"backup_tags": ["a,b"]}, "retention": {"keep_last": 0, "keep_within": "2 weeks"}});
    let refused = create(&store, Actor::system(), input(RepoId::from_parts(9, 9), given)).await.unwrap_err();
    assert_eq!(
        fields_of(refused),
        [
            "name",
            "repo_id",
            "hosts",
            "tags[0]",
            "paths[1]",
            "excludes[0]",
            "options.backup_tags[0]",
            "retention.keep_last",
            "retention.keep_within"
        ]
    );
}

#[tokio::test]
async fn hooks_and_options_are_checked_by_field_and_kept_by_other_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, repo, _) = store(&dir).await;
    let hook = |run: &str, timeout_s: u64| serde_json::json!({"at": "before", "run": run, "timeout_s": timeout_s});
    let wrong = serde_json::json!({
        "second_repo_id": repo,
        "hooks": [hook("pg", 0), hook("/bin/sh", 60), hook("", 60)],
        "options": {"nice": 20, "read_concurrency": 0, "exclude_larger_than": "big", "exclude_files": ["etc"],
                    "stdin_command": "../dump", "stdin_filename": "a\nb"}});
    let refused = create(&store, Actor::system(), input(repo, wrong)).await.unwrap_err();
    let mut fields = fields_of(refused);
    fields.sort();
    assert_eq!(
        fields,
        [
            "hooks[0].timeout_s",
            "hooks[1].run",
            "hooks[2].run",
            "options.exclude_files[0]",
            "options.exclude_larger_than",
            "options.nice",
            "options.read_concurrency",
            "options.stdin_command",
            "options.stdin_filename",
            "options.stdin_filename",
            "paths",
            "second_repo_id",
        ]
    );
    let right = serde_json::json!({"paths": [], "hooks": [hook("pg", 5), hook("sh: true", 5)],
        "options": {"stdin_command": "dump", "stdin_filename": "/db.sql"}});
    let plan = create(&store, Actor::system(), input(repo, right)).await.unwrap();
    let renamed = PlanPatch { name: Some("other".to_owned()), ..PlanPatch::default() };
    let changed = update(&store, Actor::system(), plan.id, renamed).await.unwrap();
    assert_eq!((changed.hooks.len(), &changed.hooks, changed.options), (2, &plan.hooks, plan.options));
}

#[tokio::test]
async fn a_schedule_is_checked_by_field_kept_by_other_changes_and_taken_away_by_null() {
    let dir = tempfile::tempdir().unwrap();
    let (store, repo, _) = store(&dir).await;
    let wrong = serde_json::json!({"schedule": {"cron": "61 3 * * *", "timezone": "Mars", "jitter_s": 90_000}});
    let refused = create(&store, Actor::system(), input(repo, wrong)).await.unwrap_err();
    assert_eq!(fields_of(refused), ["schedule.cron", "schedule.jitter_s"]);
    let right = serde_json::json!({"schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}});
    let plan = create(&store, Actor::system(), input(repo, right)).await.unwrap();
    let change = async |patch: serde_json::Value| {
        update(&store, Actor::system(), plan.id, serde_json::from_value(patch).unwrap()).await.unwrap().schedule
    };
    let kept = change(serde_json::json!({"name": "other"})).await;
    assert_eq!(kept, plan.schedule);
    assert!(kept.unwrap().schedule.enabled, "what is not said is on");
    let paused = set_enabled(&store, Actor::system(), plan.id, false).await.unwrap().schedule.unwrap();
    assert!(!paused.schedule.enabled);
    assert_eq!(change(serde_json::json!({"schedule": null})).await, None);
    assert!(matches!(set_enabled(&store, Actor::system(), plan.id, true).await, Err(OpError::Conflict(_))));
}

#[tokio::test]
async fn a_plan_without_paths_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, repo, _) = store(&dir).await;
    let refused = create(&store, Actor::system(), input(repo, serde_json::json!({"paths": []}))).await.unwrap_err();
    assert_eq!(fields_of(refused), ["paths"]);
}

#[tokio::test]
async fn a_change_keeps_what_it_does_not_name_and_a_taken_name_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let (store, repo, host) = store(&dir).await;
    let plan = create(&store, Actor::system(), input(repo, serde_json::json!({"hosts": [host]}))).await.unwrap();
    create(&store, Actor::system(), input(repo, serde_json::json!({"name": "other"}))).await.unwrap();
    let patch = PlanPatch { paths: Some(vec!["/srv".to_owned()]), ..PlanPatch::default() };
    let changed = update(&store, Actor::system(), plan.id, patch).await.unwrap();
    assert_eq!((changed.paths, changed.hosts, changed.name.as_str()), (vec!["/srv".to_owned()], vec![host], "nightly"));
    let patch = PlanPatch { name: Some("Other".to_owned()), ..PlanPatch::default() };
    assert!(matches!(update(&store, Actor::system(), plan.id, patch).await, Err(OpError::Conflict(_))));
    remove(&store, Actor::system(), plan.id).await.unwrap();
    let gone = update(&store, Actor::system(), plan.id, PlanPatch::default()).await;
    assert!(matches!(gone, Err(OpError::NotFound("plan"))));
}

#[test]
fn spans_are_restics() {
    for good in ["14d", "1y6m2d12h", "6m", "2h", "1d1y"] {
        assert!(is_span(good), "{good}");
    }
    for bad in ["", "14", "d", "2w", "1dd", "1y ", "-1d", "1.5d"] {
        assert!(!is_span(bad), "{bad:?} passed");
    }
}
