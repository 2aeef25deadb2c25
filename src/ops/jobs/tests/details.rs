//! What a kind's details become, and what is said of those that do not do.

use super::*;

#[tokio::test]
async fn a_restores_details_may_stand_beside_its_kind_or_under_params_and_not_in_both() {
    let bench = bench().await;
    let beside = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "5FA1C2D8", "target": "/srv/back", "paths": ["/etc/hosts"], "overwrite": "never"});
    let under = json!({"kind": "restore", "params": {"repo_id": repo(1), "snapshot": "5FA1C2D8", "target": "/srv/back", "paths": ["/etc/hosts"], "overwrite": "never"}});
    let (a, b) = (bench.order(beside).await.unwrap(), bench.order(under).await.unwrap());
    assert_eq!((&a.input, a.repo_id), (&b.input, b.repo_id));
    let spec = a.input.restore.unwrap();
    assert_eq!(
        (spec.snapshot.as_str(), spec.target.as_str(), spec.overwrite),
        ("5fa1c2d8", "/srv/back", Overwrite::Never)
    );
    let twice = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest", "target": "/x", "params": {"target": "/y"}});
    assert_eq!(bench.refused(twice).await, ["target"]);
}

#[tokio::test]
async fn a_restore_over_the_original_files_needs_the_hosts_name() {
    let bench = bench().await;
    let base = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "latest"});
    let with = |more: serde_json::Value| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(bench.refused(with(json!({"in_place": true}))).await, ["confirm"]);
    assert_eq!(bench.refused(with(json!({"in_place": true, "confirm": "web"}))).await, ["confirm"]);
    assert_eq!(bench.refused(with(json!({"in_place": true, "confirm": "web-1", "target": "/srv"}))).await, ["target"]);
    for root in ["/", "//", "/.", "/./", r"C:\", "c:/"] {
        assert_eq!(bench.refused(with(json!({"target": root}))).await, ["target"], "{root}");
    }
    let job = bench.order(with(json!({"in_place": true, "confirm": "web-1"}))).await.unwrap();
    assert_eq!(job.input.restore.unwrap().target, "/");
}

#[tokio::test]
async fn what_is_wrong_with_a_restore_is_said_at_once() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "restore", "repo_id": repo(1)})).await, ["snapshot", "target"]);
    let wrong = json!({"kind": "restore", "repo_id": repo(1), "snapshot": "--help", "target": "/srv/../etc", "paths": ["hosts"]});
    assert_eq!(bench.refused(wrong).await, ["snapshot", "paths[0]", "target"]);
}

#[tokio::test]
async fn a_kind_that_is_not_known_is_refused_with_those_that_are() {
    let bench = bench().await;
    for kind in ["say_hello", "", "Backup", "rm -rf /"] {
        let refused = bench.order(json!({"kind": kind, "repo_id": repo(1)})).await.unwrap_err();
        assert!(refused.to_string().contains("backup, restore, check"), "{refused}");
    }
}

#[tokio::test]
async fn fields_of_other_kinds_are_refused_and_never_dropped() {
    let bench = bench().await;
    assert_eq!(bench.refused(json!({"kind": "check", "repo_id": repo(1), "dry_run": true})).await, ["dry_run"]);
    assert_eq!(
        bench.refused(json!({"kind": "unlock", "repo_id": repo(1), "target": "/x", "args": []})).await,
        ["args", "target"]
    );
    assert_eq!(
        bench.refused(json!({"kind": "unlock", "repo_id": repo(1), "params": {"proven_dead": ["ab"]}})).await,
        ["proven_dead"]
    );
    assert_eq!(
        bench.refused(json!({"kind": "check", "params": {"read_data": "yes", "queue": true}})).await,
        ["queue", "read_data"]
    );
    assert!(serde_json::from_value::<JobRequest>(json!({"kind": "check", "colour": "red"})).is_err());
}

#[tokio::test]
async fn each_kind_becomes_the_operation_that_its_agent_is_sent() {
    let bench = bench().await;
    let id = "ab".repeat(32);
    let cases = [
        (json!({"kind": "backup", "args": ["/etc"], "dry_run": true}), json!({"backup": {"dry_run": true}})),
        (
            json!({"kind": "forget", "params": {"retention": {"keep_daily": 7, "keep_tags": ["keep"]}, "hosts": ["web-1"], "prune": true}}),
            json!({"forget": {"keep": {"keep_daily": 7, "keep_tags": ["keep"]}, "of": {"hosts": ["web-1"]}, "group_by": ["host", "paths"], "prune": true, "dry_run": false}}),
        ),
        (json!({"kind": "prune", "max_unused": "5%"}), json!({"prune": {"max_unused": "5%", "dry_run": false}})),
        (
            json!({"kind": "check", "read_data_subset": "1/10"}),
            json!({"check": {"read_data_subset": "1/10", "read_data": false}}),
        ),
        (
            json!({"kind": "stats", "mode": "restore-size", "snapshot": "5fa1c2d8"}),
            json!({"stats": {"mode": "restore-size", "of": {}, "snapshot": "5fa1c2d8"}}),
        ),
        (
            json!({"kind": "diff", "a": "5FA1C2D8", "b": "77aa"}),
            json!({"diff": {"a": "5fa1c2d8", "b": "77aa", "metadata": false}}),
        ),
        (json!({"kind": "ls", "snapshot": "5fa1", "path": "/ a"}), json!({"ls": {"snapshot": "5fa1", "path": "/ a"}})),
        (
            json!({"kind": "find", "pattern": "*.conf", "ignore_case": true}),
            json!({"find": {"pattern": "*.conf", "ignore_case": true, "of": {}}}),
        ),
        (
            json!({"kind": "tag", "snapshots": ["5fa1"], "add": ["gold"]}),
            json!({"tag": {"snapshots": ["5fa1"], "add": ["gold"], "remove": []}}),
        ),
        (
            json!({"kind": "copy", "to": repo(2), "tags": ["gold"]}),
            json!({"copy": {"to": repo(2), "of": {"tags": ["gold"]}}}),
        ),
        (
            json!({"kind": "repair", "what": "packs", "packs": [id]}),
            json!({"repair": {"what": "packs", "packs": [id], "forget": false, "dry_run": false}}),
        ),
        (
            json!({"kind": "dump", "snapshot": "5fa1", "path": "/etc", "form": "zip"}),
            json!({"dump": {"snapshot": "5fa1", "path": "/etc", "form": "zip"}}),
        ),
        (json!({"kind": "unlock"}), json!({"unlock": {"proven_dead": []}})),
        (json!({"kind": "test"}), json!(null)),
        (json!({"kind": "locks"}), json!(null)),
        (json!({"kind": "tamper"}), json!(null)),
        (json!({"kind": "snapshots"}), json!(null)),
    ];
    for (mut body, operation) in cases {
        body.as_object_mut().unwrap().insert("repo_id".to_owned(), json!(repo(1)));
        let job = bench.order(body.clone()).await.unwrap();
        assert_eq!(serde_json::to_value(&job.input.operation).unwrap(), operation, "{body}");
        bench.end(job.id).await;
        let again = bench.job(rerun(&bench.desk(), Actor::system(), job.id, Again::default()).await.unwrap()).await;
        assert_eq!((again.kind, again.repo_id, again.input), (job.kind, job.repo_id, job.input), "{body} again");
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_details_of_a_kind_is_said_by_field() {
    let bench = bench().await;
    let cases = [
        (json!({"kind": "forget"}), vec!["retention"]),
        (json!({"kind": "forget", "retention": {}}), vec!["retention"]),
        (
            json!({"kind": "forget", "retention": {"keep_last": 0, "keep_within": "soon"}, "group_by": ["colour"]}),
            vec!["retention.keep_last", "retention.keep_within", "group_by[0]"],
        ),
        (json!({"kind": "forget", "plan_id": plan(9)}), vec!["plan_id"]),
        (json!({"kind": "prune", "max_unused": "some"}), vec!["max_unused"]),
        (json!({"kind": "check", "read_data_subset": "0/5"}), vec!["read_data_subset"]),
        (json!({"kind": "check", "read_data_subset": "5%", "read_data": true}), vec!["read_data_subset"]),
        (json!({"kind": "diff", "a": "latest"}), vec!["a", "b"]),
        (json!({"kind": "ls", "snapshot": "5fa1", "path": "etc"}), vec!["path"]),
        (json!({"kind": "find"}), vec!["pattern"]),
        (json!({"kind": "tag", "snapshots": ["latest"]}), vec!["snapshots[0]", "snapshots", "add"]),
        (json!({"kind": "tag", "snapshots": ["5fa1"], "add": ["a,b"]}), vec!["add[0]", "add"]),
        (json!({"kind": "copy"}), vec!["to"]),
        (json!({"kind": "copy", "to": repo(1)}), vec!["to"]),
        (json!({"kind": "copy", "to": repo(9)}), vec!["to"]),
        (json!({"kind": "repair"}), vec!["what"]),
        (json!({"kind": "repair", "what": "packs"}), vec!["packs"]),
        (json!({"kind": "repair", "what": "index", "forget": true}), vec!["forget"]),
    ];
    for (mut body, fields) in cases {
        if body.get("plan_id").is_none() {
            body.as_object_mut().unwrap().insert("repo_id".to_owned(), json!(repo(1)));
        }
        assert_eq!(bench.refused(body.clone()).await, fields, "{body}");
    }
}
