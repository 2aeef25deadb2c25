use super::*;
use crate::views::samples;

fn shown(kind: JobKind, summary: serde_json::Value) -> String {
    let mut job = samples::job(1, "web-1", crate::domain::JobStatus::Succeeded);
    job.kind = kind;
    job.summary = Some(summary);
    render(&job).into_string()
}

#[test]
fn a_summary_of_an_unknown_shape_is_shown_by_name() {
    let html =
        plain(&serde_json::json!({"files_restored": 1200, "total_bytes": 2048, "nested": {"x": 1}})).into_string();
    assert!(html.contains("files restored") && html.contains("1,200") && html.contains("2.0 KiB"), "{html}");
    assert!(!html.contains("nested"));
    assert!(shown(JobKind::Check, serde_json::json!("odd")).is_empty());
}

#[test]
fn every_kind_has_its_words() {
    let id = "1a2b3c4d5e6f";
    let cases = [
        (
            JobKind::Forget,
            serde_json::json!({"kept": 7, "removed": 2, "still_there": [id], "held": [{"snapshot": id, "reason": "pinned by ann"}], "prune": {"freed_bytes": 2048}}),
            vec!["Removed", "pinned by ann", "are there still", "1a2b3c4d", "2.0 KiB", "retention"],
        ),
        (
            JobKind::Forget,
            serde_json::json!({"stopped": "the whole history of web-1 would go", "dry_run": true}),
            vec!["guard stopped it", "The whole history of web-1", "A dry run", "Would go"],
        ),
        (JobKind::Prune, serde_json::json!({"freed_bytes": 1024}), vec!["1.0 KiB", "this restic does not say"]),
        (JobKind::Copy, serde_json::json!({"copied": 3, "skipped": 1}), vec!["Copied", "There already"]),
        (JobKind::Tag, serde_json::json!({"changed": 4}), vec!["Snapshots changed", "4"]),
        (JobKind::Repair, serde_json::json!({"said": ["<b>done</b>"]}), vec!["&lt;b&gt;done"]),
        (
            JobKind::Check,
            serde_json::json!({"errors": 2, "findings": ["pack <x>"], "broken_packs": [id], "suggest_prune": true, "read": "3/7"}),
            vec!["2 errors", "guided repair", "pack &lt;x&gt;", "3/7", "to prune"],
        ),
        (JobKind::Check, serde_json::json!({"errors": 0}), vec!["no data was read", "none named"]),
        (
            JobKind::Stats,
            serde_json::json!({"mode": "raw-data", "total_size": 4096, "compression_ratio": 1.5, "snapshots_count": 9}),
            vec!["as stored", "4.0 KiB", "1.50 to 1"],
        ),
        (
            JobKind::Diff,
            serde_json::json!({"added": 1, "added_bytes": 1024, "changed": 2}),
            vec!["1 entry", "1.0 KiB", "2 files"],
        ),
        (JobKind::Ls, serde_json::json!({"count": 5}), vec!["5 entries"]),
        (JobKind::Locks, serde_json::json!({"count": 1}), vec!["each with its owner"]),
        (
            JobKind::Unlock,
            serde_json::json!({"kept": [{"snapshot": id, "reason": "its owner lives"}]}),
            vec!["No lock was removed", "its owner lives"],
        ),
        (
            JobKind::Test,
            serde_json::json!({"steps": [{"name": "Find the address", "ok": true, "detail": "10.0.0.1"}, {"name": "Reach it", "ok": false, "detail": "refused"}], "restic": "0.18.0"}),
            vec!["Find the address", "Failed", "refused", "0.18.0"],
        ),
        (
            JobKind::Tamper,
            serde_json::json!({"verdict": "vulnerable", "tried": [{"what": "Delete", "refused": false, "said": "200"}]}),
            vec!["Not append-only", "Done"],
        ),
        (JobKind::Tamper, serde_json::json!({"verdict": "protected", "tried": []}), vec!["Append-only: proven"]),
    ];
    for (kind, summary, words) in cases {
        let html = shown(kind.clone(), summary);
        for word in words {
            assert!(html.contains(word), "{kind}: {word} is not in {html}");
        }
    }
}
