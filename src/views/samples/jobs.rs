//! Jobs, their logs, and what each kind brings.

use serde_json::{Value, json};

use super::{Gallery, hostile, job, now};
use crate::{
    domain::{
        JobKind, JobProgress, JobStatus, Line, LineText, StepProgress, Stream, WaveId,
        queue::{Holder, WaitsFor},
    },
    views::job::{JobHeader, JobLog, JobPage},
};

fn line(seq: u32, stream: Stream, text: &str) -> Line<'static> {
    Line { seq, at: now().plus_s(-100 + i64::from(seq)), stream, text: LineText(text.to_owned().into()) }
}

/// A log of `total` lines, of which the last 500 at most are here.
#[must_use]
pub fn log(total: u32, is_final: bool) -> JobLog {
    let first = total.saturating_sub(JobLog::LINES) + 1;
    let text = |seq: u32| match seq {
        1 => line(seq, Stream::System, "restic 0.18.0, repository vault"),
        2 => line(seq, Stream::Stdout, "using parent snapshot 5fa1c2d8"),
        22 => line(seq, Stream::Stderr, "error: open /srv/www/shop/var/lock/session: permission denied"),
        23 => line(seq, Stream::Stdout, "\u{1b}[32mok\u{1b}[0m \u{1b}[1;33mbold yellow\u{1b}[0m and <b>text</b>"),
        _ => line(
            seq,
            Stream::Stdout,
            &format!("new       /srv/www/shop/media/catalog/f/{seq:06}-front.jpg, saved in 0.057s (179.8 KiB added)"),
        ),
    };
    JobLog {
        job_id: job(1, "web-1", JobStatus::Running).id,
        lines: (first..=total).map(text).collect(),
        from: None,
        total,
        truncated: false,
        removed_at: None,
        is_final,
    }
}

pub(super) fn behind(host: &str) -> WaitsFor {
    let id = job(9, host, JobStatus::Running).id;
    WaitsFor::Repository(Holder { id, kind: JobKind::Check, host_name: host.to_owned() })
}

pub(super) fn job_page(status: JobStatus, host: &str) -> JobPage {
    let progress = JobProgress {
        step: None,
        job_id: None,
        percent: 63.9,
        bytes_done: 282_500_000_000,
        bytes_total: 442_277_953_536,
        files_done: 18_204,
        files_total: 21_977,
        eta_s: Some(58),
        current: Some("/srv/www/shop/media/catalog/d/0012-front.jpg".to_owned()),
    };
    let bad = matches!(status, JobStatus::Failed | JobStatus::Lost);
    JobPage {
        header: JobHeader {
            job: job(1, host, status),
            restic_version: Some("0.18.0".to_owned()),
            progress: (status == JobStatus::Running).then_some(progress),
            waits_for: (status == JobStatus::Queued).then(|| behind(host)),
            is_online: status != JobStatus::Running || host == "web-1",
            goes_on: false,
            error_lines: if bad {
                vec![
                    line(
                        38,
                        Stream::Stderr,
                        "unable to create lock in backend: repository is already locked by PID 4711 on db-primary by root (UID 0, GID 0)",
                    ),
                    line(39, Stream::Stderr, "lock was created at 2026-11-18 02:14:07 (77h45m53s ago)"),
                ]
            } else {
                Vec::new()
            },
            discovered: Vec::new(),
            wave: None,
        },
        log: log(40, status.is_final()),
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    pages.add("job-running", &job_page(JobStatus::Running, "web-1"));
    pages.add("job-queued", &job_page(JobStatus::Queued, "web-1"));
    let mut away = job_page(JobStatus::Queued, "web-1");
    away.header.waits_for =
        Some(WaitsFor::Host { last_seen_at: Some(now()), gives_up_at: Some(now()), sent: true, stopping: true });
    pages.add("job-away", &away);
    pages.add("job-out-of-sight", &job_page(JobStatus::Running, "web-2"));
    pages.add("job-succeeded", &job_page(JobStatus::Succeeded, "web-1"));
    pages.add("job-warning", &job_page(JobStatus::Warning, "web-1"));
    pages.add("job-failed", &job_page(JobStatus::Failed, "web-1"));
    pages.add("job-lost", &job_page(JobStatus::Lost, &hostile()));
    let mut returned = job_page(JobStatus::Lost, "web-1");
    returned.header.goes_on = true;
    pages.add("job-lost-returned", &returned);
    for (name, kind, status, summary) in brought().into_iter().chain(tried()).chain([ran()]) {
        let mut page = job_page(status, "web-1");
        let job = &mut page.header.job;
        (job.kind, job.summary, job.error) = (kind, Some(summary), None);
        (job.plan_id, job.plan_name) = (None, None);
        if name == "job-runbook" {
            job.input.runbook = Some(Box::new(super::runbooks::asking()));
            (job.repo_id, job.repo_name) = (None, None);
            page.header.wave = Some((WaveId::from_parts(1, 1), now().plus_s(-340)));
        }
        pages.add(name, &page);
    }
    pages.add("job-runbook-running", &under_way());
    pages.add("job-runbook-failed", &fell());
}

/// A runbook that ended at its second step.
fn fell() -> JobPage {
    let mut page = under_way();
    let (job, step) = (
        &mut page.header.job,
        |label: &str, state: &str| json!({"label": label, "type": "ssh", "state": state, "duration_ms": 1_234}),
    );
    (job.status, job.finished_at, job.exit_code) = (JobStatus::Failed, Some(now().plus_s(-3)), Some(1));
    job.error = Some("Step 2 (Replace) failed: it ended with 1. What it had begun to put in place was removed again; the database is as it was.".to_owned());
    job.summary = Some(json!({
        "runbook": "move_site", "hash": "0".repeat(64), "way": "ssh",
        "steps": [step("Dump", "done"), step("Replace", "failed"), step("Look again", "pending")],
        "teardown": [step("Remove the dump", "done")],
    }));
    page.header.progress = None;
    page.header.error_lines =
        vec![line(4, Stream::Stderr, "ERROR 1045 (28000): access denied for user 'shop'@'localhost'")];
    page.log.is_final = true;
    page
}

/// A runbook at its second step.
fn under_way() -> JobPage {
    let mut page = job_page(JobStatus::Running, "web-1");
    let job = &mut page.header.job;
    (job.kind, job.plan_id, job.plan_name) = (JobKind::Runbook("move_site".to_owned()), None, None);
    (job.repo_id, job.repo_name) = (None, None);
    job.input.runbook = Some(Box::new(super::runbooks::asking()));
    let step = StepProgress { at: 2, of: 3, label: "Replace".to_owned(), teardown: false };
    page.header.progress = Some(JobProgress { step: Some(step), ..JobProgress::default() });
    page.log.lines = vec![
        line(1, Stream::System, "=== [Step 1/3] Dump ==="),
        line(2, Stream::Stdout, "dumped 12 tables"),
        line(3, Stream::System, "=== [Step 2/3] Replace <b>it</b> ==="),
        line(4, Stream::Stderr, "ERROR 1045 (28000)"),
    ];
    page
}

/// A runbook's result: steps of each state, values, lists, a file.
fn ran() -> (&'static str, JobKind, JobStatus, Value) {
    let step = |label: &str, state: &str, error: Option<&str>| json!({"label": label, "type": "ssh", "state": state, "duration_ms": 1_234, "error": error});
    let summary = json!({
        "runbook": "check_status", "hash": "0".repeat(64), "way": "agent",
        "steps": [step("Disk", "done", None), step("Containers", "ignored", Some("it ended with 1: cannot connect to the Docker daemon")),
                  step("Install", "skipped", None), step("Database", "failed", Some("no answer within 30 s")), step("Cron", "pending", None)],
        "teardown": [step("Clean up", "done", None)],
        "results": {"disk_usage_percent": 81, "log_readable": true, "postgres": "accepting", "failed_units": [hostile(), "nginx.service"],
                    "disks": [{"mount": "/", "percent": "81", "total": "270553174016"}, {"mount": hostile(), "percent": "7", "total": "1024"}]},
        "artefacts": {"dump": {"path": "/var/backups/shop.sql.gz", "size": 81_200_000, "sha256": "1a".repeat(32)}},
        "notes": ["in the teardown, \"Drop\" failed: it ended with 2"],
    });
    ("job-runbook", JobKind::Runbook("check_status".to_owned()), JobStatus::Warning, summary)
}

/// Results of what tries a repository out.
fn tried() -> Vec<(&'static str, JobKind, JobStatus, Value)> {
    let (good, bad) = (JobStatus::Succeeded, JobStatus::Failed);
    let step = |name: &str, ok: bool, detail: &str| json!({"name": name, "ok": ok, "detail": detail});
    vec![
        (
            "job-test",
            JobKind::Test,
            bad,
            json!({"steps": [step("Find the address of vault.example", true, "10.0.0.7"), step("Log in", true, ""),
                   step("Open the repository", false, "The password does not open it: enter the one that it was made with.")], "restic": "0.18.1"}),
        ),
        (
            "job-tamper",
            JobKind::Tamper,
            good,
            json!({"verdict": "protected", "tried": [{"what": "Delete the test's snapshot", "refused": true, "said": "403 Forbidden"},
                   {"what": "Overwrite the test's object", "refused": true, "said": hostile()}]}),
        ),
        (
            "job-tamper-open",
            JobKind::Tamper,
            bad,
            json!({"verdict": "vulnerable", "tried": [{"what": "Delete the test's snapshot", "refused": false, "said": "200 OK"}]}),
        ),
    ]
}

/// One of each kind of result but those of [`tried`].
fn brought() -> Vec<(&'static str, JobKind, JobStatus, Value)> {
    let id = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";
    let (good, bad) = (JobStatus::Succeeded, JobStatus::Failed);
    vec![
        (
            "job-forget",
            JobKind::Forget,
            good,
            json!({"kept": 24, "removed": 3, "held": [{"snapshot": id, "reason": format!("pinned by ada: {}", hostile())}],
                   "prune": {"freed_bytes": 3_400_000_000_u64, "remaining_bytes": 90_000_000_000_u64}}),
        ),
        (
            "job-forget-dry",
            JobKind::Forget,
            good,
            json!({"kept": 24, "removed": 3, "dry_run": true, "stopped": "the whole history of web-1 would go"}),
        ),
        (
            "job-prune-dry",
            JobKind::Prune,
            good,
            json!({"dry_run": true, "freed_bytes": 3_400_000_000_u64, "remaining_bytes": 90_000_000_000_u64}),
        ),
        (
            "job-check",
            JobKind::Check,
            bad,
            json!({"errors": 2, "findings": ["pack 1a2b3c4d: not found", hostile()], "broken_packs": [id], "suggest_repair_index": true, "read": "3/7"}),
        ),
        ("job-check-good", JobKind::Check, good, json!({"errors": 0, "read": "3/7"})),
        ("job-copy", JobKind::Copy, good, json!({"copied": 3, "skipped": 12})),
        ("job-tag", JobKind::Tag, good, json!({"changed": 4})),
        (
            "job-repair",
            JobKind::Repair,
            good,
            json!({"said": ["loading indexes...", hostile(), "adding pack file to index"]}),
        ),
        (
            "job-stats",
            JobKind::Stats,
            good,
            json!({"mode": "raw-data", "total_size": 90_000_000_000_u64, "total_uncompressed_size": 140_000_000_000_u64, "compression_ratio": 1.5, "total_blob_count": 1_200_000, "snapshots_count": 90}),
        ),
        (
            "job-diff",
            JobKind::Diff,
            good,
            json!({"added": 3, "removed": 1, "changed": 2, "added_bytes": 1_200_000, "removed_bytes": 4_000}),
        ),
        ("job-find", JobKind::Find, good, json!({"count": 5})),
        ("job-locks", JobKind::Locks, good, json!({"count": 1})),
        (
            "job-unlock",
            JobKind::Unlock,
            good,
            json!({"removed": [{"snapshot": id, "reason": "not refreshed for 3 days"}], "kept": [{"snapshot": id, "reason": "its owner lives"}]}),
        ),
        ("job-dump", JobKind::Dump, good, json!({"bytes": 812_000})),
    ]
}
