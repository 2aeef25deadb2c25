//! The restore wizard and downloads.

use super::{Gallery, behind, host_id, hostile, job, long, now};
use crate::{
    domain::{
        DumpForm, DumpSpec, FieldError, JobKind, JobStatus, NodeKind, NodeRecord, Overwrite, RepoId, RestoreResult,
        RestoreSpec,
        job::Job,
        picking::Picked,
        snapshot::{Snapshot, SnapshotHost, SnapshotNo},
    },
    views::{
        FormState,
        downloads::DownloadPage,
        restore::{
            EntryRow, FilesPage, FolderView, Picker, Review, ReviewPage, SourceFilter, SourcePage, TargetHost,
            TargetPage,
        },
    },
};

fn snapshot(n: i64, host: &str, removed: bool) -> Snapshot {
    Snapshot {
        no: SnapshotNo(n),
        repo_id: RepoId::from_parts(1, 1),
        repo_name: "vault".to_owned(),
        id: format!("{n}fa1c2d8").repeat(8).chars().take(64).collect(),
        time: now().plus_s(-86_400 * n),
        hostname: host.to_owned(),
        host: (n < 4).then(|| SnapshotHost { id: host_id(1), name: host.to_owned(), removed }),
        username: "root".to_owned(),
        paths: vec!["/etc".to_owned(), "/srv/www".to_owned(), "/var/lib".to_owned()],
        tags: vec!["flotilla".to_owned()],
        parent: None,
        original: None,
        program: String::new(),
        files: Some(21_977),
        bytes: Some(442_277_953_536),
        added: Some(412_316_860),
        job_id: None,
        plan_id: None,
        first_seen_at: now(),
        gone_at: None,
        gone_by: None,
        pin: None,
    }
}

fn picker() -> Picker {
    let mut picked = Picked::default();
    for path in ["/etc/hosts", "/srv/www/shop", "/srv/www/line\nbreak", "/srv/www/lost\u{FFFD}byte"] {
        picked.add(path.to_owned());
    }
    let node = |name: &str, kind, size| NodeRecord {
        name: name.to_owned(),
        kind,
        size,
        mtime: Some(now().plus_s(-9000)),
        ..NodeRecord::default()
    };
    let entries = [
        node("shop", NodeKind::Dir, None),
        node("static", NodeKind::Dir, None),
        node(&hostile(), NodeKind::File, Some(812)),
        node("index.html", NodeKind::File, Some(31_400)),
        node("line\nbreak", NodeKind::File, Some(0)),
        node("lost\u{FFFD}byte", NodeKind::File, Some(9_000_000_000)),
        node("current", NodeKind::Symlink, None),
        node(&"long".repeat(60), NodeKind::File, Some(1)),
    ];
    let entries = entries.into_iter().map(|node| EntryRow::of("/srv/www", node, &picked)).collect();
    let view = FolderView::Whole { entries, total: 1204, next: Some("1.0.x".to_owned()) };
    Picker {
        snapshot: snapshot(1, "web-1", false),
        folder: "/srv/www".to_owned(),
        wanted: String::new(),
        picked,
        view,
        refused: None,
    }
}

fn target(form: FormState) -> TargetPage {
    let host = |n, name: &str, restic: Option<&str>| TargetHost {
        id: host_id(n),
        name: name.to_owned(),
        is_online: n != 3,
        own: n == 4,
        restic: restic.map(str::to_owned),
        knows_repo: n == 1,
        is_source: n == 1,
    };
    let why =
        "a restore that spares existing files needs restic 0.17 or newer and this host has 0.14.0; update restic there";
    TargetPage {
        snapshot: snapshot(1, "web-1", false),
        picked: Some(picker().picked.iter().map(str::to_owned).collect()),
        hosts: vec![
            host(1, "web-1", Some("0.18.0")),
            host(2, "web-2", Some("0.14.0")),
            host(3, "bare", None),
            host(4, "control-plane", Some("0.18.0")),
        ],
        host: Some(host_id(2)),
        lacks: [Overwrite::Never, Overwrite::IfNewer, Overwrite::IfChanged].map(|rule| (rule, why.to_owned())).to_vec(),
        form,
    }
}

fn restore_job(n: u64, status: JobStatus) -> Job {
    let result = RestoreResult {
        total_files: Some(1204),
        files_restored: Some(1100),
        files_skipped: Some(104),
        total_bytes: Some(9_000_000_000),
        bytes_restored: Some(8_100_000_000),
        free_bytes: Some(5_000_000_000),
        overwritten: Some(212),
        overwritten_first: vec!["/etc/hosts".to_owned(), hostile()],
        errors: 0,
        dry_run: true,
    };
    let summary = (status == JobStatus::Succeeded).then(|| serde_json::to_value(result).ok()).flatten();
    Job { kind: JobKind::Restore, plan_id: None, plan_name: None, summary, ..job(n, "web-1", status) }
}

fn review(status: JobStatus, target: &str) -> Review {
    let paths: Vec<String> = picker().picked.iter().map(str::to_owned).collect();
    let spec = RestoreSpec {
        snapshot: snapshot(1, "web-1", false).id,
        paths: paths.clone(),
        target: target.to_owned(),
        overwrite: Overwrite::IfChanged,
        dry_run: true,
        source_host: None,
    };
    Review {
        dry: restore_job(40, status),
        spec,
        snapshot: Some(snapshot(1, "web-1", false)),
        waits_for: (status == JobStatus::Queued).then(|| behind("web-2")),
        saved: (target == "/").then_some(paths),
        safety: None,
        restore: None,
        form: FormState::default(),
    }
}

pub(super) fn add(pages: &mut Gallery<'_>) {
    let rows = vec![
        snapshot(1, "web-1", false),
        snapshot(2, "web-1", false),
        snapshot(3, "db-old", true),
        snapshot(4, &hostile(), false),
    ];
    let any = vec![("x".to_owned(), "web-1".to_owned()), ("y".to_owned(), hostile())];
    let sources = SourcePage {
        filter: SourceFilter::default(),
        hosts: any.clone(),
        repos: any,
        rows,
        next: Some("1".to_owned()),
    };
    pages.add("restore", &sources);
    pages.add("restore-none", &SourcePage { rows: Vec::new(), next: None, ..sources.clone() });
    let nothing = SourceFilter { tag: hostile(), ..SourceFilter::default() };
    pages.add("restore-filtered", &SourcePage { rows: Vec::new(), filter: nothing, ..sources });
    pages.add("restore-files", &FilesPage { picker: picker() });
    let listing =
        FolderView::Listing { job: job(41, "web-1", JobStatus::Running).id, host: "web-1".to_owned(), is_online: true };
    let failed = FolderView::Failed {
        job: job(41, "web-1", JobStatus::Failed).id,
        why: "web-1 could not list the folder: the repository is locked".to_owned(),
    };
    for (name, view) in
        [("restore-listing", listing), ("restore-unlisted", FolderView::Unlisted), ("restore-listing-failed", failed)]
    {
        pages.add(
            name,
            &FilesPage {
                picker: Picker {
                    view,
                    picked: Picked::default(),
                    refused: Some("Nothing is ticked.".to_owned()),
                    ..picker()
                },
            },
        );
    }
    pages.add("restore-target", &target(FormState::default()));
    let wrong = FormState::of([("place", "folder"), ("overwrite", "always")])
        .refused(vec![FieldError::new("target", "is missing")]);
    pages.add("restore-target-refused", &TargetPage { picked: None, ..target(wrong) });
    for (name, status, place) in [
        ("restore-review-queued", JobStatus::Queued, "/srv/x"),
        ("restore-review-failed", JobStatus::Failed, "/srv/x"),
        ("restore-review", JobStatus::Succeeded, "/srv/restored"),
        ("restore-review-in-place", JobStatus::Succeeded, "/"),
    ] {
        pages.add(name, &ReviewPage { review: review(status, place) });
    }
    for (name, status) in [
        ("restore-safety-running", JobStatus::Running),
        ("restore-safety-failed", JobStatus::Failed),
        ("restore-safety-there", JobStatus::Succeeded),
    ] {
        let safety = Some(job(42, "web-1", status));
        pages.add(name, &ReviewPage { review: Review { safety, ..review(JobStatus::Succeeded, "/") } });
    }
    let ordered = Review { restore: Some(restore_job(43, JobStatus::Running)), ..review(JobStatus::Succeeded, "/") };
    pages.add("restore-ordered", &ReviewPage { review: ordered });
    let spec =
        DumpSpec { snapshot: snapshot(1, "web-1", false).id, path: hostile(), paths: Vec::new(), form: DumpForm::Zip };
    let waiting = Job { kind: JobKind::Dump, ..job(44, "web-1", JobStatus::Queued) };
    pages.add("download-waiting", &DownloadPage { job: waiting, spec, waits_for: Some(behind("web-2")) });
}

pub(super) fn add_for_viewer(pages: &mut Gallery<'_>) {
    pages.add("viewer-restore-files", &FilesPage { picker: picker() });
    pages.add("viewer-restore-target", &target(FormState::default()));
    pages.add("viewer-restore-review", &ReviewPage { review: review(JobStatus::Succeeded, "/") });
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let mut rows: Vec<Snapshot> = (1..40).map(|n| snapshot(n, long::HOST, false)).collect();
    rows[0].paths = vec![long::path()];
    rows[5].hostname = long::odd();
    rows[5].host = None;
    let any = vec![("x".to_owned(), long::HOST.to_owned()), ("y".to_owned(), long::odd())];
    let filter = SourceFilter::default();
    pages.add("long-restore", &SourcePage { filter, hosts: any.clone(), repos: any, rows, next: None });
    let mut review = review(JobStatus::Succeeded, "/");
    review.spec.paths = (0..20).map(|n| format!("{}{n}", long::path())).collect();
    review.dry.host_name = long::HOST.to_owned();
    review.saved = Some(review.spec.paths.clone());
    pages.add("long-restore-review", &ReviewPage { review });
    let mut picker = picker();
    picker.folder = long::path();
    for n in 0..30 {
        picker.picked.add(format!("{}/{n}", long::path()));
    }
    pages.add("long-restore-files", &FilesPage { picker });
}
