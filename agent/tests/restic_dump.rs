//! Downloads: what restic dumps goes into a request to the server, whole or recognisably not, and at the taker's pace.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

#[path = "support/harness.rs"]
mod harness;

use std::{
    fs,
    io::{Cursor, Read as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flotilla_agent::{
    errand::{Errand, ErrandBody, ErrandError, Errands},
    executor::AtStop,
    runner::BoxFuture,
};
use flotilla_proto::{CommandRun, DumpForm, DumpSpec, JobKind, JobStatus, Operation, RepoSpec, download_path};
use harness::{Agent, backup, noise, of_kind, ready_local_repo, restic, versions};
use tempfile::TempDir;
use tokio::sync::Notify;

/// How the server takes what is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taker {
    Whole,
    /// Goes away after so many bytes.
    Leaves(usize),
    /// Takes one piece and then waits.
    Waits,
    /// Does not know the job.
    Refuses,
}

struct Server {
    taker: Taker,
    path: Mutex<String>,
    got: Mutex<Vec<u8>>,
    /// The body ended as a whole one does.
    whole: Mutex<bool>,
    first: Notify,
}

impl Server {
    fn new(taker: Taker) -> Arc<Self> {
        let (path, got, whole) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { taker, path, got, whole, first: Notify::new() })
    }

    async fn take(&self, errand: Errand) -> Result<Bytes, ErrandError> {
        *self.path.lock().unwrap() = errand.path;
        let ErrandBody::Stream(mut pieces) = errand.body else { panic!("a stream is wanted") };
        if self.taker == Taker::Refuses {
            return Err(ErrandError::Unknown);
        }
        while let Some(piece) = pieces.recv().await {
            let piece = piece.map_err(|e| ErrandError::Broken(e.to_string()))?;
            let so_far = {
                let mut got = self.got.lock().unwrap();
                got.extend_from_slice(&piece);
                got.len()
            };
            self.first.notify_one();
            match self.taker {
                Taker::Leaves(most) if so_far >= most => return Err(ErrandError::Broken("reset".to_owned())),
                Taker::Waits => std::future::pending().await,
                _ => {}
            }
        }
        *self.whole.lock().unwrap() = true;
        Ok(Bytes::new())
    }
}

struct Link(Arc<Server>);

impl Errands for Link {
    fn post(&self, errand: Errand) -> BoxFuture<'_, Result<Bytes, ErrandError>> {
        Box::pin(self.0.take(errand))
    }
}

/// A name that no old tar holds.
const LONG: &str = "ä very long name that goes on and on, so that with the folders before it there is no room for it in the head of an entry of the oldest kind.txt";

struct Vault {
    version: &'static str,
    work: TempDir,
    source: PathBuf,
    snapshot: String,
}

impl Vault {
    async fn of(version: &'static str, size: usize) -> Self {
        let work = tempfile::tempdir().unwrap();
        let source = work.path().join("source");
        fs::create_dir_all(source.join("folder")).unwrap();
        fs::write(source.join("folder/a file\nof two lines"), noise(1000, 1)).unwrap();
        fs::write(source.join("big"), noise(size, 2)).unwrap();
        fs::set_permissions(source.join("big"), fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(source.join(LONG), "at a long name").unwrap();
        fs::create_dir(source.join("empty")).unwrap();
        std::os::unix::fs::symlink("big", source.join("link")).unwrap();
        let mut vault = Self { version, source, work, snapshot: String::new() };
        let (end, memory) = Agent::new(&restic(version)).run(&backup(1, vault.repo(), &[&vault.source])).await;
        assert_eq!(end.status, JobStatus::Succeeded, "{version}: {}", memory.text());
        end.summary.unwrap()["snapshot_id"].as_str().unwrap().clone_into(&mut vault.snapshot);
        vault
    }

    fn repo(&self) -> RepoSpec {
        ready_local_repo(&self.work.path().join("repo"))
    }

    fn agent(&self, server: &Arc<Server>) -> Agent {
        let agent = Agent::new(&restic(self.version));
        agent.executor.set_errands(Arc::new(Link(Arc::clone(server))));
        agent
    }

    fn order(&self, number: u128, path: impl AsRef<Path>, form: DumpForm) -> CommandRun {
        let spec = DumpSpec {
            snapshot: self.snapshot.clone(),
            path: path.as_ref().to_str().unwrap().to_owned(),
            paths: Vec::new(),
            form,
        };
        CommandRun { operation: Some(Operation::Dump(spec)), ..of_kind(number, JobKind::Dump, self.repo()) }
    }

    /// Several at once.
    fn order_all(&self, number: u128, paths: &[PathBuf], form: DumpForm) -> CommandRun {
        let paths = paths.iter().map(|path| path.to_str().unwrap().to_owned()).collect();
        let spec = DumpSpec { snapshot: self.snapshot.clone(), path: String::new(), paths, form };
        CommandRun { operation: Some(Operation::Dump(spec)), ..of_kind(number, JobKind::Dump, self.repo()) }
    }
}

fn names_in_tar(archive: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let output = Command::new("tar").arg("-tf").arg(file.path()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_file_and_a_folder_arrive_whole_in_each_form() {
    for version in versions() {
        let vault = Vault::of(version, 3 << 20).await;
        for (number, path, form) in [
            (2, vault.source.join("big"), DumpForm::File),
            (3, vault.source.join("folder"), DumpForm::Tar),
            (4, vault.source.join("folder"), DumpForm::Zip),
        ] {
            let server = Server::new(Taker::Whole);
            let order = vault.order(number, path, form);
            let (end, memory) = vault.agent(&server).run(&order).await;
            assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}: {}", memory.text());
            let got = server.got.lock().unwrap().clone();
            assert_eq!(end.summary.unwrap()["bytes"], got.len(), "{version}");
            assert!(*server.whole.lock().unwrap() && *server.path.lock().unwrap() == download_path(order.job_id));
            match form {
                DumpForm::File => assert_eq!(got, noise(3 << 20, 2), "{version}"),
                DumpForm::Tar => assert!(names_in_tar(&got).contains("folder/a file\\nof two lines"), "{version}"),
                DumpForm::Zip => {
                    let mut head = [0; 4];
                    Cursor::new(&got).read_exact(&mut head).unwrap();
                    assert_eq!(&head, b"PK\x03\x04", "{version}");
                }
            }
        }
    }
}

#[tokio::test]
async fn several_files_and_folders_arrive_as_one_tar_that_unpacks_to_what_was_saved() {
    for version in versions() {
        let vault = Vault::of(version, 1_000_001).await;
        let server = Server::new(Taker::Whole);
        let picks = ["big", "folder", "empty", LONG].map(|name| vault.source.join(name));
        let order = vault.order_all(2, &picks, DumpForm::Tar);
        let (end, memory) = vault.agent(&server).run(&order).await;
        assert_eq!((end.status, &end.error), (JobStatus::Succeeded, &None), "{version}: {}", memory.text());
        let got = server.got.lock().unwrap().clone();
        assert!(*server.whole.lock().unwrap() && end.summary.unwrap()["bytes"] == got.len(), "{version}");
        assert!(got.len().is_multiple_of(512) && got.ends_with(&[0; 1024]), "{version}");
        let (archive, out) = (vault.work.path().join("all.tar"), vault.work.path().join("out"));
        fs::write(&archive, &got).unwrap();
        fs::create_dir(&out).unwrap();
        let tar = Command::new("tar").arg("-xpf").arg(&archive).arg("-C").arg(&out).output().unwrap();
        assert!(tar.status.success() && tar.stderr.is_empty(), "{version}: {}", String::from_utf8_lossy(&tar.stderr));
        let root = out.join(vault.source.strip_prefix("/").unwrap());
        let diff = |name: &str| {
            Command::new("diff").arg("-r").arg(vault.source.join(name)).arg(root.join(name)).output().unwrap()
        };
        for name in ["big", "folder", "empty", LONG] {
            let told = diff(name);
            assert!(told.status.success(), "{version} {name}: {}", String::from_utf8_lossy(&told.stdout));
        }
        let (was, is) = (fs::metadata(&picks[0]).unwrap(), fs::metadata(root.join("big")).unwrap());
        let facts = |meta: &fs::Metadata| (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec(), meta.uid());
        assert_eq!(facts(&was), facts(&is), "{version}");
        assert!(!root.join("link").exists(), "{version}: only what was picked");
    }
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_before_anything_is() {
    for version in versions() {
        let vault = Vault::of(version, 10).await;
        let server = Server::new(Taker::Whole);
        let agent = vault.agent(&server);
        let lost =
            DumpSpec { snapshot: "deadbeef".to_owned(), path: "/".to_owned(), paths: Vec::new(), form: DumpForm::Tar };
        let at = |name: &str| vault.source.join(name);
        for (words, order) in [
            ("is a folder: download it as tar or zip", vault.order(2, at("folder"), DumpForm::File)),
            ("is a file: download it as it is", vault.order(3, at("big"), DumpForm::Zip)),
            ("the snapshot holds no /C/Users", vault.order(4, "/C/Users", DumpForm::Tar)),
            ("bytes that are no UTF-8", vault.order(5, "/bad\u{fffd}", DumpForm::Tar)),
            ("holds no /nowhere", vault.order_all(7, &[at("big"), "/nowhere".into()], DumpForm::Tar)),
            ("only tars can be joined", vault.order_all(8, &[at("big"), at("folder")], DumpForm::Zip)),
            ("neither a file nor a folder", vault.order_all(9, &[at("big"), at("link")], DumpForm::Tar)),
            (
                "no such snapshot",
                CommandRun { operation: Some(Operation::Dump(lost)), ..vault.order(6, "/", DumpForm::Tar) },
            ),
        ] {
            let (end, _) = agent.run(&order).await;
            let error = end.error.unwrap();
            assert!(end.status == JobStatus::Failed && error.contains(words), "{version}: {error}");
        }
        assert_eq!(*server.path.lock().unwrap(), "", "{version}");
    }
}

#[tokio::test]
async fn restic_ends_where_nobody_takes_what_it_sends() {
    let vault = Vault::of("0.19", 30 << 20).await;
    let gone = vault.agent(&Server::new(Taker::Leaves(100_000)));
    let (end, _) = gone.run(&vault.order(2, vault.source.join("big"), DumpForm::File)).await;
    assert_eq!(end.status, JobStatus::Cancelled, "{end:?}");
    assert!(end.error.unwrap().contains("broken off") && end.summary.unwrap()["bytes"].as_u64().unwrap() < 2 << 20);
    let refused = vault.agent(&Server::new(Taker::Refuses));
    let (end, _) = refused.run(&vault.order(3, vault.source.join("big"), DumpForm::File)).await;
    assert_eq!(end.status, JobStatus::Failed);
    assert!(end.error.unwrap().contains("does not know this job"));
}

#[tokio::test]
async fn restic_waits_for_a_slow_taker_and_a_cancel_or_a_restart_does_not() {
    let vault = Vault::of("0.19", 30 << 20).await;
    let server = Server::new(Taker::Waits);
    let agent = vault.agent(&server);
    let order = vault.order(2, vault.source.join("big"), DumpForm::File);
    let memory = agent.submit(&order);
    server.first.notified().await;
    assert!(memory.look(|seen| seen.pid.is_some() && seen.end.is_none()));
    assert!(agent.executor.cancel(order.job_id));
    let end = memory.end().await;
    assert_eq!(end.status, JobStatus::Cancelled, "{end:?}");
    assert!(end.summary.unwrap()["bytes"].as_u64().unwrap() < 2 << 20, "it did not read ahead");
    assert!(!*server.whole.lock().unwrap());

    let order = vault.order(3, vault.source.join("big"), DumpForm::File);
    let memory = agent.submit(&order);
    server.first.notified().await;
    assert_eq!(AtStop::default(), AtStop::Leave);
    agent.executor.drain(harness::PATIENCE).await;
    let end = memory.end().await;
    assert!(end.status == JobStatus::Failed && end.error.unwrap().contains("agent was stopped"));
}
