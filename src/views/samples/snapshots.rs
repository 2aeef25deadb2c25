//! Snapshots and what is looked for in them. Names of files are as odd as file systems allow.

use super::{Gallery, host_id, hostile, job, long, now, repo};
use crate::{
    domain::{
        ChangeRecord, DiffResult, FoundRecord, JobStatus, NodeKind, NodeRecord, RepoId,
        snapshot::{IndexState, Pinned, Snapshot, SnapshotHost, SnapshotNo, versions},
    },
    views::{
        FormState,
        components::HostRef,
        snapshots::{
            ComparePage, FolderState, FolderView, HostName, SearchPage, SnapshotFilter, SnapshotPage, SnapshotsPage,
            Sought, VersionsPage,
        },
    },
};

fn snapshot(no: i64, hostname: &str, host: Option<SnapshotHost>) -> Snapshot {
    Snapshot {
        no: SnapshotNo(no),
        repo_id: RepoId::from_parts(1, 1),
        repo_name: "vault".to_owned(),
        id: format!("{no:x}a2b3c4d5e6f").repeat(5),
        time: now().plus_s(-86_400 * no),
        hostname: hostname.to_owned(),
        host,
        username: "root".to_owned(),
        paths: vec!["/etc".to_owned(), "/srv/www".to_owned()],
        tags: vec!["flotilla".to_owned(), "before-upgrade".to_owned()],
        parent: None,
        original: None,
        program: "restic 0.18.0".to_owned(),
        files: Some(21_977),
        bytes: Some(3_200_000_000),
        added: Some(12_400_000),
        job_id: Some(job(3, "web-1", JobStatus::Succeeded).id),
        plan_id: None,
        first_seen_at: now().plus_s(-86_400 * no),
        gone_at: None,
        gone_by: None,
        pin: None,
    }
}

/// Three, of an enrolled, a removed and an unknown host.
pub(super) fn some() -> Vec<Snapshot> {
    let host = |removed| Some(SnapshotHost { id: host_id(1), name: "web-1".to_owned(), removed });
    let mut pinned = snapshot(1, "web-1", host(false));
    pinned.pin =
        Some(Pinned { at: now(), by: "ada".to_owned(), reason: format!("before the migration {}", hostile()) });
    vec![pinned, snapshot(2, "web-0", host(true)), snapshot(3, &hostile(), None)]
}

fn node(name: &str, kind: NodeKind) -> NodeRecord {
    NodeRecord {
        name: name.to_owned(),
        kind,
        size: (kind == NodeKind::File).then_some(18_233),
        mtime: Some(now().plus_s(-3600)),
        mode: "-rw-r--r--".to_owned(),
        user: "root:root".to_owned(),
        group: String::new(),
    }
}

fn folder(path: &str, state: FolderState) -> FolderView {
    FolderView { snapshot: some().remove(0), path: path.to_owned(), wanted: String::new(), is_later: false, state }
}

fn page(folder: FolderView) -> SnapshotPage {
    let others = vec![("2a2b3c4d5e6f".to_owned(), now().plus_s(-86_400 * 2))];
    SnapshotPage { repo: repo("vault"), folder, others }
}

fn names() -> Vec<HostName> {
    let of = |removed| Some((HostRef { id: host_id(1), name: "web-1".to_owned() }, removed));
    [("web-1", of(false)), ("web-0", of(true)), (&hostile(), None)]
        .map(|(name, host)| HostName { hostname: name.to_owned(), snapshots: 3, host })
        .to_vec()
}

fn sought<T>(status: JobStatus, items: Vec<T>) -> Sought<T> {
    Sought { job: job(3, "web-1", status), waits: String::new(), items, next: Some(7), is_later: false }
}

pub(super) fn pages(pages: &mut Gallery<'_>) {
    let list = SnapshotsPage {
        repo: repo("vault"),
        filter: SnapshotFilter::default(),
        snapshots: some(),
        older: Some(3),
        is_later: true,
        names: names(),
        hosts: vec![HostRef { id: host_id(1), name: "web-1".to_owned() }],
        index: IndexState { indexed_at: Some(now().plus_s(-7200)), stale_at: Some(now()), ..IndexState::default() },
        listing: None,
        trouble: Some((job(3, "web-1", JobStatus::Failed).id, "the password is wrong".to_owned())),
    };
    let empty = SnapshotsPage {
        snapshots: Vec::new(),
        names: Vec::new(),
        index: IndexState::default(),
        listing: Some(job(3, "web-1", JobStatus::Running).id),
        older: None,
        is_later: false,
        ..list.clone()
    };
    pages.add("snapshots", &list);
    pages.add("snapshots-empty", &empty);
    tree_pages(pages);
    lookup_pages(pages);
}

fn tree_pages(pages: &mut Gallery<'_>) {
    let nodes = vec![
        node("conf.d", NodeKind::Dir),
        node("a name\nwith a line break", NodeKind::File),
        node("\u{202E}gnp.exe", NodeKind::File),
        node("caf\u{FFFD}.txt", NodeKind::File),
        node(&hostile(), NodeKind::Symlink),
        node(&"x".repeat(255), NodeKind::File),
        node("nginx.conf", NodeKind::File),
    ];
    let whole = FolderState::Whole { nodes, entries: 100_000, next: Some("1.0.nginx.conf".to_owned()) };
    pages.add("snapshot", &page(folder("/etc/a\nb/nginx", whole)));
    let running = job(3, "web-1", JobStatus::Running).id;
    let listing =
        FolderState::Listing { job: running, host: "web-1".to_owned(), waits: "its host, which is away".to_owned() };
    pages.add("snapshot-listing", &page(folder("/etc", listing)));
    let failed = FolderState::Failed { job: Some(running), why: "the snapshot is not there any more".to_owned() };
    pages.add("snapshot-failed", &page(folder("/etc", failed)));
    let mut gone = folder("/", FolderState::Unlisted);
    pages.add("snapshot-unlisted", &page(gone.clone()));
    gone.snapshot.gone_at = Some(now().plus_s(-7200));
    gone.snapshot.gone_by = Some(running);
    pages.add("snapshot-gone", &page(gone));
}

fn lookup_pages(pages: &mut Gallery<'_>) {
    let found = |path: &str| {
        let node = node(path.rsplit('/').next().unwrap_or_default(), NodeKind::File);
        (FoundRecord { snapshot: some()[0].id.clone(), path: path.to_owned(), node }, Some(now().plus_s(-86_400)))
    };
    let search = SearchPage {
        repo: repo("vault"),
        names: names(),
        form: FormState::of([("pattern", "*.conf")]),
        sought: Some(sought(JobStatus::Succeeded, vec![found("/etc/nginx.conf"), found("/etc/a\nb.conf")])),
        count: Some(2),
    };
    pages.add("search-running", &SearchPage { sought: Some(sought(JobStatus::Running, Vec::new())), ..search.clone() });
    pages.add("search-empty", &SearchPage { sought: None, ..search.clone() });
    pages.add("search", &search);
    let change = |path: &str, sign: &str| ChangeRecord { path: path.to_owned(), sign: sign.to_owned() };
    let ids = some().into_iter().map(|snapshot| (snapshot.id, Some(snapshot.time))).collect::<Vec<_>>();
    let total = DiffResult { added: 3, removed: 1, changed: 2, added_bytes: 1_200_000, removed_bytes: 4_000 };
    let compare = ComparePage {
        repo: repo("vault"),
        form: FormState::of([("a", ids[1].0.as_str()), ("b", &ids[0].0)]),
        sought: Some(sought(
            JobStatus::Succeeded,
            vec![change("/etc/new\n.conf", "+"), change("/srv/www/", "-"), change("/etc/hosts", "MU")],
        )),
        pair: Some([ids[1].clone(), ids[0].clone()]),
        total: Some(total),
    };
    pages
        .add("compare-failed", &ComparePage { sought: Some(sought(JobStatus::Failed, Vec::new())), ..compare.clone() });
    pages.add("compare", &compare);
    let of =
        |n: usize, size| (ids[n].0.clone(), ids[n].1, NodeRecord { size: Some(size), ..node("hosts", NodeKind::File) });
    let page = VersionsPage {
        repo: repo("vault"),
        path: "/etc/a\nb/hosts".to_owned(),
        sought: Some(sought(JobStatus::Succeeded, Vec::new())),
        versions: versions(vec![of(0, 200), of(1, 180), of(2, 180)]),
        capped: true,
        refused: None,
    };
    pages.add("versions-empty", &VersionsPage { sought: None, versions: Vec::new(), capped: false, ..page.clone() });
    pages.add("versions", &page);
}

pub(super) fn add_long(pages: &mut Gallery<'_>) {
    let mut snapshots: Vec<Snapshot> = (1..50).map(|n| snapshot(n, long::HOST, None)).collect();
    snapshots[0].paths = vec![long::path(), long::odd()];
    snapshots[1].hostname = long::odd();
    snapshots[2].tags = vec!["a-tag-of-which-nobody-thought-that-it-would-be-so-long".to_owned(); 4];
    let name = |hostname: String| HostName { hostname, snapshots: 12_000, host: None };
    pages.add(
        "long-snapshots",
        &SnapshotsPage {
            repo: repo(long::HOST),
            filter: SnapshotFilter::default(),
            snapshots,
            older: Some(3),
            is_later: false,
            names: vec![name(long::HOST.to_owned()), name(long::odd())],
            hosts: vec![HostRef { id: host_id(1), name: long::HOST.to_owned() }],
            index: IndexState::default(),
            listing: None,
            trouble: None,
        },
    );
    let nodes =
        vec![node(&long::odd(), NodeKind::Dir), node(&"x".repeat(255), NodeKind::Dir), node("short", NodeKind::File)];
    let mut view = folder(&long::path(), FolderState::Whole { nodes, entries: 3, next: None });
    view.snapshot.paths = vec![long::path(), long::odd()];
    view.snapshot.hostname = long::HOST.to_owned();
    view.snapshot.host = None;
    pages.add("long-snapshot", &page(view));
}
