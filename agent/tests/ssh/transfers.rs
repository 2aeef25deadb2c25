//! Files to and from the host.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use flotilla_agent::ssh::{Progress, Side, Ssh, SshError, SshTarget, Timeouts, TransferError, TransferOptions};
use tokio::time::Instant;

use crate::sshd::{Proxy, Sshd, unique};

const MIB: usize = 1 << 20;

/// Bytes that do not repeat.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn file(path: &Path, size: usize) -> PathBuf {
    fs::write(path, noise(size)).unwrap();
    path.to_owned()
}

fn once() -> TransferOptions<'static> {
    TransferOptions { id: unique(), ..TransferOptions::default() }
}

fn resumable(id: &str) -> TransferOptions<'static> {
    TransferOptions { id: id.to_owned(), resume: true, ..TransferOptions::default() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// How big the file of the speed test is; `FLOTILLA_SSH_FILE_MB=100` for a big one.
fn big() -> usize {
    std::env::var("FLOTILLA_SSH_FILE_MB").map_or(20, |text| text.parse().unwrap()) * MIB
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_up_and_down_with_its_mode_and_comes_back_the_same() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let work = tempfile::tempdir().unwrap();
    let source = file(&work.path().join("source"), big() + 12_345);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
    let there = work.path().join("host/it's a $(name)");
    fs::create_dir(work.path().join("host")).unwrap();
    fs::write(&there, "old").unwrap();
    let mut told = Vec::new();
    let mut tell = |progress: Progress| told.push(progress);
    let began = Instant::now();
    let options = TransferOptions { progress: Some(&mut tell), ..once() };
    let up = ssh.upload(&source, there.to_str().unwrap(), options).await.unwrap();
    println!("{} MiB up in {:.1} s", up.bytes >> 20, began.elapsed().as_secs_f64());
    assert_eq!((up.bytes, up.resumed_from, up.synced), (big() as u64 + 12_345, 0, true));
    assert_eq!((told[0].done, told.last().unwrap().done, told[0].total), (0, up.bytes, up.bytes));
    let back = work.path().join("back");
    let began = Instant::now();
    let down = ssh.download(there.to_str().unwrap(), &back, once()).await.unwrap();
    println!("{} MiB down in {:.1} s", down.bytes >> 20, began.elapsed().as_secs_f64());
    assert_eq!(down.sha256, up.sha256);
    assert!(fs::read(&source).unwrap() == fs::read(&back).unwrap());
    for path in [&there, &back] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
    }
    assert_eq!(
        (names(work.path()), names(&work.path().join("host")).len()),
        (vec!["back".into(), "host".into(), "source".into()], 1)
    );
}

#[tokio::test]
async fn an_empty_file_and_a_mode_of_ones_own() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let work = tempfile::tempdir().unwrap();
    let (source, there, back) = (file(&work.path().join("a"), 0), work.path().join("b"), work.path().join("c"));
    let options = TransferOptions { mode: Some(0o711), ..once() };
    ssh.upload(&source, there.to_str().unwrap(), options).await.unwrap();
    ssh.download(there.to_str().unwrap(), &back, once()).await.unwrap();
    assert_eq!((fs::metadata(&back).unwrap().permissions().mode() & 0o777, fs::read(&back).unwrap().len()), (0o711, 0));
}

#[tokio::test]
async fn an_account_without_a_shell_compares_by_reading_back() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand internal-sftp\n");
    let ssh = sshd.connect().await;
    let work = tempfile::tempdir().unwrap();
    let (source, there) = (file(&work.path().join("a"), MIB + 7), work.path().join("b"));
    ssh.upload(&source, there.to_str().unwrap(), once()).await.unwrap();
    assert!(fs::read(&source).unwrap() == fs::read(&there).unwrap());
}

#[tokio::test]
async fn what_can_not_go_over_is_told_apart_and_leaves_nothing() {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let work = tempfile::tempdir().unwrap();
    let source = file(&work.path().join("source"), 10);
    let at = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let error = ssh.upload(Path::new(&at("none")), &at("x"), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NoSuchFile { side: Side::Here, .. }), "{error}");
    let error = ssh.upload(work.path(), &at("x"), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAFile { side: Side::Here, .. }), "{error}");
    let error = ssh.upload(&source, &at("none/x"), once()).await.unwrap_err();
    assert!(
        matches!(&error, TransferError::NoSuchFile { side: Side::Host, path } if path.ends_with("none/x")),
        "{error}"
    );
    let error = ssh.upload(&source, &at(""), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAFile { side: Side::Host, .. }), "{error}");
    let error = ssh.upload(&source, "/proc/x", once()).await.unwrap_err();
    println!("{error}");
    assert!(
        matches!(error, TransferError::NoSuchFile { .. } | TransferError::Denied { .. } | TransferError::Failed { .. }),
        "{error}"
    );
    let error = ssh.download(&at("none"), &work.path().join("x"), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NoSuchFile { side: Side::Host, .. }), "{error}");
    let error = ssh.download(&at(""), &work.path().join("x"), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAFile { side: Side::Host, .. }), "{error}");
    let error = ssh.download(&at("source"), &work.path().join("none/x"), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NoSuchFile { side: Side::Here, .. }), "{error}");
    let error = ssh.download(&at("source"), work.path(), once()).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAFile { side: Side::Here, .. }), "{error}");
    for path in ["", "a\0b", &"x".repeat(65_536)] {
        let error = ssh.upload(&source, path, once()).await.unwrap_err();
        assert!(matches!(error, TransferError::Ssh(SshError::Input { .. })), "{error}");
        let error = ssh.download(path, &work.path().join("x"), once()).await.unwrap_err();
        assert!(matches!(error, TransferError::Ssh(SshError::Input { .. })), "{error}");
    }
    assert_eq!(names(work.path()), ["source"]);
}

#[tokio::test]
async fn a_server_without_sftp_is_told() {
    let sshd = Sshd::with(&["ed25519"], "ForceCommand echo no files here\n");
    let ssh = sshd.connect().await;
    let error = ssh.download("x", Path::new("/nowhere/x"), once()).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, TransferError::NoSftp { .. }), "{error}");
}

/// A host behind a proxy that cuts in the midst.
async fn cut() -> (Sshd, Proxy, Ssh, tempfile::TempDir) {
    let sshd = Sshd::start();
    let proxy = Proxy::before(sshd.port);
    let ssh = Ssh::connect(&SshTarget { port: proxy.port, ..sshd.target() }, Timeouts::default()).await.unwrap();
    (sshd, proxy, ssh, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn an_upload_that_is_cut_in_the_midst_says_so_and_goes_on_from_there() {
    let (_sshd, proxy, ssh, work) = cut().await;
    let (source, there, id) = (file(&work.path().join("a"), 8 * MIB), work.path().join("b"), unique());
    proxy.cut_after(4 * MIB as u64);
    let error = ssh.upload(&source, there.to_str().unwrap(), resumable(&id)).await.unwrap_err();
    println!("{error}");
    let TransferError::Cut { source: cause, total, .. } = &error else { panic!("{error}") };
    assert!(matches!(cause, SshError::Dropped { .. }) && *total == 8 * MIB as u64);
    assert!(error.to_string().contains("goes on from there") && !there.exists());
    let done = ssh.upload(&source, there.to_str().unwrap(), resumable(&id)).await.unwrap();
    assert!(done.resumed_from > MIB as u64, "{done:?}");
    assert!(fs::read(&source).unwrap() == fs::read(&there).unwrap());
    assert_eq!(names(work.path()), ["a", "b"]);
}

#[tokio::test]
async fn a_download_that_is_cut_in_the_midst_goes_on_from_there_too() {
    let (_sshd, proxy, ssh, work) = cut().await;
    let (there, back, id) = (file(&work.path().join("a"), 8 * MIB), work.path().join("b"), unique());
    proxy.cut_after(4 * MIB as u64);
    let error = ssh.download(there.to_str().unwrap(), &back, resumable(&id)).await.unwrap_err();
    assert!(matches!(error, TransferError::Cut { .. }), "{error}");
    assert!(!back.exists());
    let done = ssh.download(there.to_str().unwrap(), &back, resumable(&id)).await.unwrap();
    assert!(done.resumed_from > MIB as u64, "{done:?}");
    assert!(fs::read(&there).unwrap() == fs::read(&back).unwrap());
    assert_eq!(names(work.path()), ["a", "b"]);
}

#[tokio::test]
async fn a_partial_file_of_something_else_is_not_gone_on_with() {
    let (_sshd, proxy, ssh, work) = cut().await;
    let (source, there, id) = (file(&work.path().join("a"), 4 * MIB), work.path().join("b"), unique());
    proxy.cut_after(2 * MIB as u64);
    ssh.upload(&source, there.to_str().unwrap(), resumable(&id)).await.unwrap_err();
    let mut changed = noise(4 * MIB);
    changed[5] ^= 1;
    fs::write(&source, &changed).unwrap();
    let done = ssh.upload(&source, there.to_str().unwrap(), resumable(&id)).await.unwrap();
    assert_eq!(done.resumed_from, 0);
    assert!(changed == fs::read(&there).unwrap());
}

#[tokio::test]
async fn a_cut_transfer_that_is_not_to_be_resumed_leaves_nothing() {
    let (_sshd, proxy, ssh, work) = cut().await;
    let (source, there) = (file(&work.path().join("a"), 4 * MIB), work.path().join("b"));
    proxy.cut_after(2 * MIB as u64);
    let error = ssh.upload(&source, there.to_str().unwrap(), once()).await.unwrap_err();
    assert!(error.to_string().contains("The partial file was removed"), "{error}");
    proxy.cut_after(2 * MIB as u64);
    let error = ssh.download(source.to_str().unwrap(), &there, once()).await.unwrap_err();
    assert!(error.to_string().contains("The partial file was removed"), "{error}");
    assert_eq!(names(work.path()), ["a"]);
}

const INSIDE: &str = "FLOTILLA_TEST_FULL_DISK";
const NAME: &str = "transfers::a_full_disk_on_either_side_is_named_and_the_partial_file_removed";

#[tokio::test]
async fn a_full_disk_on_either_side_is_named_and_the_partial_file_removed() {
    match std::env::var_os(INSIDE) {
        Some(dir) => on_small_disk(Path::new(&dir)).await,
        None if !in_a_namespace() => println!("no mount namespaces here: the test on a full tmpfs is left out"),
        None => {}
    }
}

/// Whether this could be done.
fn in_a_namespace() -> bool {
    let possible = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(r#"mount -t tmpfs -o size=8m tmpfs "${INSIDE}" && exec "$0" --exact {NAME} --nocapture"#);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(std::env::current_exe().unwrap()).env(INSIDE, dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    true
}

async fn on_small_disk(disk: &Path) {
    let sshd = Sshd::start();
    let ssh = sshd.connect().await;
    let work = tempfile::tempdir().unwrap();
    let (small, large) = (file(&work.path().join("small"), 4 * MIB), file(&work.path().join("large"), 16 * MIB));
    let target = disk.join("target");
    let there = target.to_str().unwrap();
    let full = |error: TransferError, side: Side| {
        let TransferError::DiskFull { side: told, .. } = &error else { panic!("{error}") };
        assert_eq!((*told, names(disk).iter().filter(|name| *name != "ballast").count()), (side, 0), "{error}");
    };
    // It can be seen before.
    full(ssh.upload(&large, there, resumable(&unique())).await.unwrap_err(), Side::Host);
    full(ssh.download(large.to_str().unwrap(), &target, resumable(&unique())).await.unwrap_err(), Side::Here);
    // Somebody else fills it up meanwhile.
    let ballast = disk.join("ballast");
    for side in [Side::Host, Side::Here] {
        let mut fill = |_: Progress| {
            let mut file = File::options().create(true).append(true).open(&ballast).unwrap();
            while file.write_all(&[0; 65536]).is_ok() {}
        };
        let options = TransferOptions { progress: Some(&mut fill), ..resumable(&unique()) };
        let error = match side {
            Side::Host => ssh.upload(&small, there, options).await.unwrap_err(),
            Side::Here => ssh.download(small.to_str().unwrap(), &target, options).await.unwrap_err(),
        };
        full(error, side);
        fs::remove_file(&ballast).unwrap();
    }
    assert_eq!(ssh.upload(&small, there, once()).await.unwrap().bytes, 4 * MIB as u64);
}
