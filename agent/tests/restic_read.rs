//! What restic knows of a repository, asked for through the executor in three generations of restic: lists as records, counts, checks.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{
    ChangeRecord, CheckResult, CheckSpec, CommandRun, DiffResult, DiffSpec, FindSpec, FoundRecord, JobKind, JobStatus,
    ListResult, LsSpec, NodeKind, NodeRecord, Operation, Record, RepoSpec, Selection, SnapshotRecord, StatsMode,
    StatsResult, StatsSpec, Stream,
};
use harness::{Agent, Memory, backup, local_repo, noise, odd_tree, of_kind, ready_local_repo, restic, versions};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

struct Vault {
    agent: Agent,
    work: TempDir,
    version: &'static str,
    next: u128,
}

impl Vault {
    fn new(version: &'static str) -> Self {
        Self { agent: Agent::new(&restic(version)), work: tempfile::tempdir().unwrap(), version, next: 1 }
    }

    fn source(&self) -> PathBuf {
        let source = self.work.path().join("source");
        fs::create_dir_all(&source).unwrap();
        source
    }

    fn repo(&self) -> RepoSpec {
        ready_local_repo(&self.work.path().join("repo"))
    }

    /// Backs the source up; the new snapshot's id as restic says it (0.14: its beginning).
    async fn backup(&mut self, host: &str) -> String {
        let order = CommandRun { host_label: host.to_owned(), ..backup(self.number(), self.repo(), &[&self.source()]) };
        let (end, memory) = self.agent.run(&order).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{}: {end:?}\n{}", self.version, memory.text());
        end.summary.unwrap()["snapshot_id"].as_str().unwrap().to_owned()
    }

    fn number(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    async fn ask(&mut self, kind: JobKind, operation: Option<Operation>) -> (JobOutcome, Vec<Record>) {
        let order = CommandRun { operation, ..of_kind(self.number(), kind, self.repo()) };
        let (end, memory) = self.agent.run(&order).await;
        (end, records(&memory))
    }

    /// As [`Self::ask`], where that succeeds and says how many records there are.
    async fn list(&mut self, kind: JobKind, operation: Option<Operation>) -> Vec<Record> {
        let version = self.version;
        let (end, records) = self.ask(kind.clone(), operation).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version} {kind}");
        assert_eq!(typed::<ListResult>(end).count, records.len() as u64, "{version} {kind}");
        records
    }

    async fn ls(&mut self, snapshot: &str, path: &str) -> Vec<NodeRecord> {
        let records = self.list(JobKind::Ls, ls(snapshot, path)).await;
        records.into_iter().map(|record| if let Record::Node(node) = record { node } else { panic!() }).collect()
    }

    async fn find(&mut self, spec: FindSpec) -> Vec<FoundRecord> {
        let records = self.list(JobKind::Find, Some(Operation::Find(spec))).await;
        records.into_iter().map(|record| if let Record::Found(found) = record { found } else { panic!() }).collect()
    }

    async fn refused(&mut self, kind: JobKind, operation: Option<Operation>, words: &str) {
        let (end, records) = self.ask(kind.clone(), operation).await;
        let error = end.error.unwrap_or_default();
        assert_eq!(end.status, JobStatus::Failed, "{} {kind}: {error}", self.version);
        assert!(error.contains(words), "{} {kind}: {error}", self.version);
        assert_eq!(records, [], "{} {kind}", self.version);
    }
}

fn typed<T: DeserializeOwned>(end: JobOutcome) -> T {
    serde_json::from_value(end.summary.unwrap()).unwrap()
}

fn records(memory: &Memory) -> Vec<Record> {
    memory.look(|seen| {
        seen.lines
            .iter()
            .filter(|(stream, _)| *stream == Stream::Stdout)
            .filter_map(|(_, line)| Record::of_line(line))
            .collect()
    })
}

fn ls(snapshot: &str, path: impl AsRef<Path>) -> Option<Operation> {
    let path = path.as_ref().to_str().unwrap().to_owned();
    Some(Operation::Ls(LsSpec { snapshot: snapshot.to_owned(), path }))
}

fn pattern(text: &str) -> FindSpec {
    FindSpec { pattern: text.to_owned(), ..FindSpec::default() }
}

#[tokio::test]
async fn a_folder_is_listed_by_itself_whatever_its_names_are() {
    for version in versions() {
        let mut vault = Vault::new(version);
        let source = vault.source();
        odd_tree(&source);
        let long = "ö".repeat(127) + "x";
        fs::write(source.join(&long), b"12345").unwrap();
        fs::write(source.join("control \u{7f}\u{85}\u{1b}[2K"), b"").unwrap();
        let bad = OsString::from_vec(b"bad\xff\xfedir".to_vec());
        fs::create_dir(source.join(&bad)).unwrap();
        fs::write(source.join(&bad).join("inside"), b"1").unwrap();
        fs::create_dir(source.join(&bad).join("deeper")).unwrap();
        let deep = (0..60).fold(source.clone(), |path, n| path.join(format!("level {n}")));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("leaf"), b"12").unwrap();
        let snapshot = vault.backup("host-1").await;

        let nodes = vault.ls(&snapshot, source.to_str().unwrap()).await;
        let mut wanted: Vec<_> =
            fs::read_dir(&source).unwrap().map(|entry| lossy(&entry.unwrap().file_name().into_vec())).collect();
        wanted.sort_unstable();
        let mut names: Vec<_> = nodes.iter().map(|node| node.name.clone()).collect();
        names.sort_unstable();
        assert_eq!(names, wanted, "{version}");
        let node = |name: &str| nodes.iter().find(|node| node.name == name).unwrap();
        assert_eq!((node(&long).kind, node(&long).size), (NodeKind::File, Some(5)), "{version}");
        assert_eq!(
            (node("zero").size, node("empty").kind, node("link").kind),
            (Some(0), NodeKind::Dir, NodeKind::Symlink)
        );
        assert!(node("plain.txt").mtime.is_some() && node("plain.txt").mode == "-rw-r--r--", "{version}");
        assert!(!node("plain.txt").user.is_empty() && !node("plain.txt").group.is_empty(), "{version}");

        let leaf = vault.ls(&snapshot, &format!("{}/", deep.to_str().unwrap())).await;
        assert_eq!((leaf.len(), leaf[0].name.as_str()), (1, "leaf"), "{version}");
        assert_eq!(vault.ls(&snapshot, source.join("empty").to_str().unwrap()).await, [], "{version}");
        assert_eq!(vault.ls(&snapshot, "/").await[0].kind, NodeKind::Dir, "{version}");
        let shown = format!("{}/bad\u{fffd}\u{fffd}dir", source.to_str().unwrap());
        let inside: Vec<_> = vault.ls(&snapshot, &shown).await.into_iter().map(|node| node.name).collect();
        assert_eq!(inside, ["deeper", "inside"], "{version}: a name that is no UTF-8");
    }
}

/// As restic shows it: each byte that is no UTF-8 by itself.
fn lossy(name: &[u8]) -> String {
    name.utf8_chunks().flat_map(|chunk| [chunk.valid().to_owned(), "\u{fffd}".repeat(chunk.invalid().len())]).collect()
}

#[tokio::test]
async fn what_is_not_there_to_be_listed_is_a_failure_in_every_version() {
    for version in versions() {
        let mut vault = Vault::new(version);
        let file = vault.source().join("a");
        fs::write(&file, b"1").unwrap();
        let snapshot = vault.backup("host-1").await;
        vault.refused(JobKind::Ls, ls(&snapshot, "/C/Users"), "holds no folder /C/Users").await;
        vault.refused(JobKind::Ls, ls(&snapshot, &file), "is a file in this snapshot").await;
        vault.refused(JobKind::Ls, ls("deadbeef", "/"), "no such snapshot").await;
        vault.refused(JobKind::Ls, ls(&snapshot, "etc"), "not a path inside a snapshot").await;
        vault.refused(JobKind::Ls, None, "does not say which folder").await;
        let lost = FindSpec { snapshots: vec!["deadbeef".to_owned()], ..pattern("a") };
        vault.refused(JobKind::Find, Some(Operation::Find(lost)), "no such snapshot").await;
        vault.refused(JobKind::Find, Some(Operation::Find(pattern(" "))), "nothing to look for").await;
        let stats = StatsSpec { snapshot: Some("deadbeef".to_owned()), ..StatsSpec::default() };
        vault.refused(JobKind::Stats, Some(Operation::Stats(stats)), "no such snapshot").await;
        let diff = DiffSpec { a: snapshot, b: "deadbeef".to_owned(), metadata: false };
        vault.refused(JobKind::Diff, Some(Operation::Diff(diff)), "no such snapshot").await;
    }
}

#[tokio::test]
async fn snapshots_are_listed_with_all_that_restic_knows_of_them() {
    for version in versions() {
        let mut vault = Vault::new(version);
        let nowhere = of_kind(vault.number(), JobKind::Snapshots, local_repo(&vault.work.path().join("none")));
        assert_eq!(vault.agent.run(&nowhere).await.0.status, JobStatus::Failed, "{version}: no repository yet");
        fs::write(vault.source().join("a"), noise(1000, 1)).unwrap();
        let first = vault.backup("host-1").await;
        vault.backup("host-2").await;
        let records = vault.list(JobKind::Snapshots, None).await;
        let all: Vec<SnapshotRecord> =
            records.into_iter().map(|record| if let Record::Snapshot(of) = record { of } else { panic!() }).collect();
        assert_eq!(all.len(), 2, "{version}");
        let one = all.iter().find(|one| one.hostname == "host-1").unwrap();
        assert!(one.id.len() == 64 && one.id.starts_with(&first), "{version}");
        assert_eq!(one.paths, [vault.source().to_str().unwrap()], "{version}");
        assert!(one.tags.contains(&"flotilla".to_owned()) && one.time.is_some() && one.tree.len() == 64, "{version}");
        let told = version != "0.14";
        assert_eq!((one.bytes, one.files), (told.then_some(1000), told.then_some(1)), "{version}");
        assert_eq!((one.added.is_some(), one.program.starts_with("restic 0.1")), (told, told), "{version}");
    }
}

#[tokio::test]
async fn a_search_finds_by_pattern_case_host_and_snapshot() {
    for version in versions() {
        let mut vault = Vault::new(version);
        let source = vault.source();
        odd_tree(&source);
        fs::write(source.join("Report.TXT"), b"123").unwrap();
        let first = vault.backup("host-1").await;
        vault.backup("host-2").await;
        assert_eq!(vault.find(pattern("nothing like it")).await, [], "{version}");
        let exact = vault.find(pattern("report.txt")).await;
        assert_eq!(exact, [], "{version}");
        let found = vault.find(FindSpec { ignore_case: true, ..pattern("report.*") }).await;
        assert_eq!(found.len(), 2, "{version}");
        assert_eq!(found[0].path, source.join("Report.TXT").to_str().unwrap(), "{version}");
        assert_eq!((found[0].node.name.as_str(), found[0].node.size), ("Report.TXT", Some(3)), "{version}");
        let of = Selection { hosts: vec!["host-2".to_owned()], tags: vec!["flotilla".to_owned()], paths: Vec::new() };
        let found = vault.find(FindSpec { of: of.clone(), ..pattern("-dash") }).await;
        assert_eq!(found.len(), 2, "{version}: here and in deep/er; the pattern is no flag");
        assert!(
            found.iter().all(|found| found.snapshot.len() == 64 && !found.snapshot.starts_with(&first)),
            "{version}"
        );
        let found = vault.find(FindSpec { snapshots: vec![first.clone()], ..pattern("new\nline") }).await;
        assert!(found.len() == 2 && found.iter().all(|found| found.snapshot.starts_with(&first)), "{version}");
        let elsewhere = Selection { paths: vec!["/nowhere".to_owned()], ..of };
        assert_eq!(vault.find(FindSpec { of: elsewhere, ..pattern("*") }).await, [], "{version}");
    }
}

#[tokio::test]
async fn two_snapshots_are_compared_by_path_sign_and_size() {
    for version in versions() {
        let mut vault = Vault::new(version);
        let source = vault.source();
        for name in ["stays", "grows", "goes"] {
            fs::write(source.join(name), noise(100, 1)).unwrap();
        }
        let a = vault.backup("host-1").await;
        fs::write(source.join("grows"), noise(5000, 2)).unwrap();
        fs::remove_file(source.join("goes")).unwrap();
        fs::create_dir(source.join("new dir")).unwrap();
        fs::write(source.join("new dir/new\nfile"), b"1").unwrap();
        let b = vault.backup("host-1").await;
        let (end, records) = vault.ask(JobKind::Diff, Some(Operation::Diff(DiffSpec { a, b, metadata: false }))).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        let at = |name: &str| format!("{}/{name}", source.to_str().unwrap());
        for (name, sign) in [("goes", "-"), ("grows", "M"), ("new dir/", "+"), ("new dir/new\nfile", "+")] {
            let wanted = Record::Change(ChangeRecord { path: at(name), sign: sign.to_owned() });
            assert!(records.contains(&wanted), "{version}: {name} is not in {records:?}");
        }
        assert_eq!(records.len(), 4, "{version}");
        let sum: DiffResult = typed(end);
        assert_eq!((sum.added, sum.removed, sum.changed), (2, 1, 1), "{version}");
        assert!(sum.added_bytes > 5000, "{version}: {sum:?}");
    }
}

#[tokio::test]
async fn a_count_is_of_the_asked_mode_and_of_the_asked_snapshots() {
    for version in versions() {
        let mut vault = Vault::new(version);
        fs::write(vault.source().join("a"), noise(10_000, 1)).unwrap();
        let first = vault.backup("host-1").await;
        vault.backup("host-2").await;
        let mut count = async |spec: StatsSpec| {
            let (end, _) = vault.ask(JobKind::Stats, Some(Operation::Stats(spec))).await;
            assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
            typed::<StatsResult>(end)
        };
        let raw = count(StatsSpec::default()).await;
        assert!(raw.mode == "raw-data" && raw.total_size > 10_000 && raw.total_blob_count.is_some(), "{version}");
        assert_eq!((raw.snapshots_count, raw.compression_ratio.is_some()), (2, version != "0.14"), "{version}");
        let whole = count(StatsSpec { mode: StatsMode::RestoreSize, ..StatsSpec::default() }).await;
        assert!(whole.total_size == 20_000 && whole.total_file_count > Some(2), "{version}: {whole:?}");
        let of = Selection { hosts: vec!["host-2".to_owned()], ..Selection::default() };
        let one = count(StatsSpec { mode: StatsMode::RestoreSize, of, snapshot: None }).await;
        assert_eq!((one.total_size, one.snapshots_count), (10_000, 1), "{version}");
        let mode = StatsMode::FilesByContents;
        let one = count(StatsSpec { mode, snapshot: Some(first), ..StatsSpec::default() }).await;
        assert_eq!((one.total_size, one.mode.as_str()), (10_000, "files-by-contents"), "{version}");
        let blobs = count(StatsSpec { mode: StatsMode::BlobsPerFile, ..StatsSpec::default() }).await;
        assert_eq!((blobs.total_size, blobs.total_blob_count), (10_000, Some(1)), "{version}");
    }
}

fn check(spec: CheckSpec) -> Option<Operation> {
    Some(Operation::Check(spec))
}

#[tokio::test]
async fn a_check_names_what_is_damaged_and_fails() {
    for version in versions() {
        let mut vault = Vault::new(version);
        fs::write(vault.source().join("a"), noise(100_000, 1)).unwrap();
        vault.backup("host-1").await;
        let subset = CheckSpec { read_data_subset: Some("1/1".to_owned()), read_data: false };
        let (end, _) = vault.ask(JobKind::Check, check(subset)).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {end:?}");
        let sound = CheckResult { read: Some("1/1".to_owned()), ..CheckResult::default() };
        assert_eq!(typed::<CheckResult>(end), sound, "{version}");

        let pack = spoil_largest_pack(&vault.work.path().join("repo/data"));
        let (end, _) = vault.ask(JobKind::Check, None).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: the structure is sound");
        let (end, _) = vault.ask(JobKind::Check, check(CheckSpec { read_data: true, ..CheckSpec::default() })).await;
        assert_eq!(end.status, JobStatus::Failed, "{version}: {end:?}");
        let error = end.error.clone().unwrap();
        assert!(error.contains("the repository has errors") && error.contains(&pack), "{version}: {error}");
        let found: CheckResult = typed(end);
        assert!(found.errors > 0 && found.findings[0].contains(&pack), "{version}: {found:?}");
        assert_eq!((found.broken_packs, found.read.as_deref()), (vec![pack], Some("all")), "{version}");

        let (end, _) = vault
            .ask(JobKind::Check, check(CheckSpec { read_data_subset: Some("much".to_owned()), ..CheckSpec::default() }))
            .await;
        assert_eq!((end.status, end.summary), (JobStatus::Failed, None), "{version}: it checked nothing");
    }
}

/// Changes bytes in the middle of a file of data; its id.
fn spoil_largest_pack(data: &Path) -> String {
    let packs = fs::read_dir(data).unwrap().flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let largest = packs.map(|pack| pack.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes[5000] ^= 0xff;
    fs::remove_file(&largest).unwrap();
    fs::write(&largest, bytes).unwrap();
    largest.file_name().unwrap().to_str().unwrap().to_owned()
}
