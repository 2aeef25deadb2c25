//! Restores of every form, by three generations of restic: what is chosen, what is replaced, what is in the way, and what the endpoint allows.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;
#[path = "support/namespace.rs"]
mod namespace;

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use flotilla_agent::sink::JobOutcome;
use flotilla_proto::{CommandRun, JobStatus, Overwrite, RepoSpec, RestoreResult};
use harness::{Agent, backup, noise, odd_tree, ready_local_repo, restic, restore, restored, tree, versions};
use tempfile::TempDir;

struct Vault {
    agent: Agent,
    work: TempDir,
    source: PathBuf,
    target: PathBuf,
    version: &'static str,
}

impl Vault {
    /// A repository with one snapshot of what `fill` makes.
    async fn of(version: &'static str, fill: impl FnOnce(&Path)) -> Self {
        let work = tempfile::tempdir().unwrap();
        let (source, target) = (work.path().join("source"), work.path().join("target"));
        fs::create_dir(&source).unwrap();
        fill(&source);
        let vault = Self { agent: Agent::new(&restic(version)), work, source, target, version };
        vault.backup(1, "host-1").await;
        vault
    }

    async fn backup(&self, number: u128, host: &str) {
        let order = CommandRun { host_label: host.to_owned(), ..backup(number, self.repo(), &[&self.source]) };
        let (end, memory) = self.agent.run(&order).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{}: {end:?}\n{}", self.version, memory.text());
    }

    fn repo(&self) -> RepoSpec {
        ready_local_repo(&self.work.path().join("repo"))
    }

    fn in_source(&self, name: &str) -> String {
        format!("{}/{name}", self.source.display())
    }

    fn in_target(&self, name: &str) -> PathBuf {
        restored(&self.target, &self.source).join(name)
    }

    fn order(&self, number: u128, paths: &[&str]) -> CommandRun {
        let paths: Vec<_> = paths.iter().map(|name| self.in_source(name)).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        restore(number, self.repo(), &paths, &self.target)
    }

    /// Runs it; its end with its log.
    async fn run(&self, order: &CommandRun) -> (JobOutcome, String) {
        let (end, memory) = self.agent.run(order).await;
        (end, memory.text())
    }

    async fn done(&self, order: &CommandRun) -> RestoreResult {
        let (end, log) = self.run(order).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{}\n{log}", self.version);
        result(&end)
    }

    async fn failed(&self, order: &CommandRun, words: &str) {
        let (end, log) = self.run(order).await;
        let error = end.error.unwrap_or_default();
        assert!(end.status == JobStatus::Failed && error.contains(words), "{}: {error}\n{log}", self.version);
    }
}

fn result(end: &JobOutcome) -> RestoreResult {
    serde_json::from_value(end.summary.clone().unwrap()).unwrap()
}

fn with(mut order: CommandRun, change: impl FnOnce(&mut flotilla_proto::RestoreSpec)) -> CommandRun {
    change(order.restore.as_mut().unwrap());
    order
}

#[tokio::test]
async fn a_dry_run_counts_and_names_what_it_would_replace_and_writes_nothing() {
    for version in versions() {
        let vault = Vault::of(version, |source| {
            fs::create_dir(source.join("sub")).unwrap();
            fs::write(source.join("sub/a"), noise(1000, 1)).unwrap();
            fs::write(source.join("sub/b"), noise(500, 2)).unwrap();
            fs::write(source.join("c"), noise(10, 3)).unwrap();
        })
        .await;
        let dry = |number, paths: &[&str]| with(vault.order(number, paths), |spec| spec.dry_run = true);
        let told = vault.done(&dry(2, &[])).await;
        assert!(told.dry_run && told.free_bytes > Some(0), "{version}");
        assert_eq!((told.total_bytes, told.overwritten, told.errors), (Some(1510), Some(0), 0), "{version}: {told:?}");
        assert!(!vault.target.exists(), "{version}: nothing is made");

        fs::create_dir_all(vault.in_target("sub")).unwrap();
        fs::write(vault.in_target("sub/a"), b"mine").unwrap();
        let told = vault.done(&dry(3, &["sub"])).await;
        assert_eq!((told.bytes_restored, told.overwritten), (Some(1500), Some(1)), "{version}: {told:?}");
        assert_eq!(told.overwritten_first, [vault.in_source("sub/a")], "{version}");
        assert!(told.total_files >= Some(2), "{version}: {told:?}");
        assert_eq!(fs::read(vault.in_target("sub/a")).unwrap(), b"mine", "{version}: nothing is done");

        let (end, _) = vault.run(&dry(4, &["nothing like it"])).await;
        assert!(
            end.status == JobStatus::Warning && end.error.unwrap().contains("none of the chosen paths"),
            "{version}"
        );
        let lost = with(dry(5, &[]), |spec| spec.snapshot = "deadbeef".to_owned());
        vault.failed(&lost, "no such snapshot").await;
    }
}

#[tokio::test]
async fn an_existing_file_is_replaced_or_left_by_the_rule() {
    for version in versions() {
        let vault = Vault::of(version, |source| fs::write(source.join("a"), noise(1000, 1)).unwrap()).await;
        let mine = vault.in_target("a");
        let order = |number, overwrite| with(vault.order(number, &[]), |spec| spec.overwrite = overwrite);
        let put = || {
            fs::create_dir_all(mine.parent().unwrap()).unwrap();
            fs::write(&mine, b"mine").unwrap();
        };
        put();
        if version == "0.14" {
            vault.failed(&order(2, Overwrite::Never), "needs restic 0.17").await;
        } else {
            let told = vault.done(&order(2, Overwrite::Never)).await;
            assert_eq!((told.overwritten, fs::read(&mine).unwrap().as_slice()), (Some(0), &b"mine"[..]), "{version}");
            assert!(told.files_skipped >= Some(1), "{version}: {told:?}");
            vault.done(&order(3, Overwrite::IfNewer)).await;
            assert_eq!(fs::read(&mine).unwrap(), b"mine", "{version}: it is newer");
            let told = vault.done(&order(4, Overwrite::IfChanged)).await;
            assert_eq!((told.overwritten, told.overwritten_first), (Some(1), vec![vault.in_source("a")]), "{version}");
            assert_eq!(fs::read(&mine).unwrap(), noise(1000, 1), "{version}");
            put();
        }
        let told = vault.done(&order(5, Overwrite::Always)).await;
        assert_eq!(told.overwritten, (version != "0.14").then_some(1), "{version}: {told:?}");
        assert_eq!(fs::read(&mine).unwrap(), noise(1000, 1), "{version}");
    }
}

#[tokio::test]
async fn single_files_come_back_whatever_their_names_are() {
    for version in versions() {
        let long = "ö".repeat(127) + "x";
        let names = ["new\nline", "quote\"and'other", "-dash", "a[1]*?\\", "!bang", "$HOME", "#hash", " space ", &long];
        let bad = OsString::from_vec(b"bad\xff\xfename".to_vec());
        let vault = Vault::of(version, |source| {
            names.iter().for_each(|name| fs::write(source.join(name), name).unwrap());
            fs::write(source.join(&bad), b"1").unwrap();
            fs::write(source.join("other"), b"1").unwrap();
            fs::write(source.join("a1x"), b"what a pattern would match").unwrap();
        })
        .await;
        let (end, log) = vault.run(&vault.order(2, &[&names[..], &["bad\u{fffd}\u{fffd}name"]].concat())).await;
        assert_eq!((end.status, end.error), (JobStatus::Succeeded, None), "{version}\n{log}");
        assert!(log.contains("each is matched by `?`"), "{version}\n{log}");
        let mut wanted: Vec<OsString> = names.iter().map(OsString::from).chain([bad]).collect();
        let mut found: Vec<_> =
            fs::read_dir(vault.in_target("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{version}");
        assert_eq!(fs::read_to_string(vault.in_target("new\nline")).unwrap(), "new\nline", "{version}");
    }
}

/// So many that they don't go by the command line where restic takes a file of them.
#[tokio::test]
async fn a_thousand_chosen_paths_come_back_and_no_other() {
    for version in ["0.14", "0.19"] {
        let name = |n: usize| format!("{n:04} {} $HOME", "x".repeat(200));
        let vault = Vault::of(version, |source| {
            fs::write(source.join(" kept \n"), b"1").unwrap();
            (0..1010).for_each(|n| fs::write(source.join(name(n)), b"1").unwrap());
        })
        .await;
        let names: Vec<_> = (0..1000).map(name).chain([" kept \n".to_owned()]).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        vault.done(&vault.order(2, &names)).await;
        assert_eq!(fs::read_dir(vault.in_target("")).unwrap().count(), 1001, "{version}");
    }
}

#[tokio::test]
async fn the_latest_snapshot_may_be_that_of_another_host() {
    let vault = Vault::of("0.19", |source| fs::write(source.join("a"), b"of host-1").unwrap()).await;
    fs::write(vault.source.join("a"), b"of host-2").unwrap();
    vault.backup(2, "host-2").await;
    vault.done(&vault.order(3, &[])).await;
    assert_eq!(fs::read(vault.in_target("a")).unwrap(), b"of host-1");
    let theirs = |number, host: &str| with(vault.order(number, &[]), |spec| spec.source_host = Some(host.to_owned()));
    vault.done(&theirs(4, "host-2")).await;
    assert_eq!(fs::read(vault.in_target("a")).unwrap(), b"of host-2");
    vault.failed(&theirs(5, "host-3"), "no such snapshot").await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    for version in versions() {
        let mut vault = Vault::of(version, odd_tree).await;
        let way = vault.work.path().join("a file");
        fs::write(&way, b"").unwrap();
        vault.target = way.clone();
        vault.failed(&vault.order(2, &[]), &format!("{} is a file", way.display())).await;
        vault.target = way.join("deeper");
        vault.failed(&vault.order(3, &[]), &format!("{} is a file", way.display())).await;

        vault.target = vault.work.path().join("target");
        fs::create_dir_all(vault.in_target("plain.txt/folder of mine")).unwrap();
        let (end, log) = vault.run(&vault.order(4, &[])).await;
        let error = end.error.clone().unwrap();
        assert!(
            end.status != JobStatus::Succeeded && error.contains("could not be restored"),
            "{version}: {error}\n{log}"
        );
        assert!(error.contains("plain.txt") && result(&end).errors > 0, "{version}: {error}");
        // restic 0.14 replaces no link: it fails on those that are there.
        fs::remove_dir_all(&vault.target).unwrap();
        vault.done(&vault.order(5, &[])).await;
        assert_eq!(tree(&vault.in_target("")), tree(&vault.source), "{version}");
    }
}

#[tokio::test]
async fn an_endpoint_decides_where_may_be_restored() {
    let vault = Vault::of("0.14", |source| {
        fs::create_dir(source.join("sub")).unwrap();
        fs::write(source.join("sub/a"), b"1").unwrap();
    })
    .await;
    let root = vault.work.path().join("root");
    fs::create_dir(&root).unwrap();
    let rules = vault.agent.state.path().join("agent.toml");
    fs::write(&rules, format!("restore_roots = [{root:?}]\n")).unwrap();
    vault.failed(&vault.order(2, &[]), "allows restores only into").await;
    assert!(!vault.target.exists());
    let at = |number, target: &Path| restore(number, vault.repo(), &[], target);
    std::os::unix::fs::symlink(vault.work.path(), root.join("out")).unwrap();
    vault.failed(&at(3, &root.join("out/target")), "allows restores only into").await;
    vault.failed(&at(4, &root.join("new/../../target")), "can't be told").await;
    let inside = root.join("inside");
    vault.done(&at(5, &inside)).await;
    // This restic would write through the link.
    let link = restored(&inside, &vault.source).join("sub");
    fs::remove_dir_all(&link).unwrap();
    std::os::unix::fs::symlink(vault.work.path(), &link).unwrap();
    vault.failed(&at(6, &inside), "would follow links").await;
    fs::write(&rules, "restore_rotos = []\n").unwrap();
    vault.failed(&at(7, &inside), "unknown field").await;
}

/// On file systems of its own.
#[tokio::test]
async fn a_full_and_a_read_only_target_are_told_apart() {
    let mounts = "mkdir full ro && mount -t tmpfs -o size=512k tmpfs full && mount -t tmpfs -o ro tmpfs ro && exec";
    let Some(folder) = namespace::again("a_full_and_a_read_only_target_are_told_apart", mounts) else { return };
    for version in versions() {
        let mut vault = Vault::of(version, |source| {
            (1..5).for_each(|n| fs::write(source.join(format!("file {n}")), noise(300_000, n)).unwrap());
        })
        .await;
        vault.target = folder.join("ro/target");
        vault.failed(&vault.order(2, &[]), "its file system is read-only").await;
        vault.target = folder.join("full").join(version);
        let (end, log) = vault.run(&vault.order(3, &[])).await;
        let error = end.error.clone().unwrap();
        assert!(end.status == JobStatus::Failed && error.contains("a disk is full"), "{version}: {error}\n{log}");
        assert!(result(&end).free_bytes < Some(300_000), "{version}: {end:?}");
        fs::remove_dir_all(&vault.target).unwrap();
    }
}
