//! The real binary as a process: what it refuses to start on, what it keeps private, and what it leaves alone. Usage and accounts are in `cli.rs`.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn flotilla(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flotilla"));
    // Nothing of this machine's own configuration may play a part.
    for name in ["FLOTILLA_CONFIG", "FLOTILLA_LISTEN", "FLOTILLA_KEY", "FLOTILLA_LOG", "FLOTILLA_PUBLIC_URL"] {
        command.env_remove(name);
    }
    command.env("FLOTILLA_DATA_DIR", data_dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end; one that does not come to it is ended after two minutes, with code 124.
fn run(data_dir: &Path, arguments: &[&str]) -> Output {
    let own = flotilla(data_dir);
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=5", "120"]).arg(own.get_program()).args(arguments);
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded.stdin(Stdio::null()).output().unwrap()
}

fn run_with_input(data_dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = flotilla(data_dir).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments does not read.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    child.wait_with_output().unwrap()
}

/// What a failed command says: one line, and its exit code.
fn refusal(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    (output.status.code().unwrap(), last)
}

/// A control plane as a process; killed when the test ends.
struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Serving {
    fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = flotilla(data_dir).arg("serve").args(arguments).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut serving = Self { child, stdout, url: String::new() };
        serving.url = serving.listening();
        serving
    }

    /// Waits for the line that says where it listens.
    fn listening(&mut self) -> String {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some(url) = line.strip_prefix("listening on ") {
                return url.trim().to_owned();
            }
            line.clear();
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        panic!("flotilla serve ended: {stderr}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

const ANY: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = refusal(&run(dir.path(), &["serve", "--listen", &address]));
    assert_eq!(code, 1);
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let (code, text) = refusal(&run(Path::new("/proc/nowhere"), &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 1);
    assert!(text.contains("/proc/nowhere") && text.contains("--data-dir"), "{text}");
}

#[test]
fn a_file_that_is_no_database_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flotilla.db");
    std::fs::write(&file, "not a database, but somebody's notes, long enough to have a header in a real one").unwrap();
    let (code, text) = refusal(&run(dir.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 1);
    assert!(text.contains("flotilla.db"), "{text}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("not a database"));
}

#[test]
fn a_master_key_that_others_may_read_or_that_is_another_databases_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    drop(Serving::start(dir.path(), &ANY));
    let key = dir.path().join("master.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let (code, text) = refusal(&run(dir.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 1);
    assert!(text.contains("chmod 600"), "{text}");
    let other = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let output = flotilla(dir.path()).env("FLOTILLA_KEY", other).args(["serve", "--listen", "127.0.0.1:0"]).output();
    let (code, text) = refusal(&output.unwrap());
    assert_eq!(code, 1);
    assert!(text.contains("another master key"), "{text}");
}

#[test]
fn the_data_folder_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(Serving::start(&data, &ANY));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("master.key")), 0o600);
}

#[test]
fn a_damaged_copy_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.db");
    std::fs::write(&copy, "SQLite format 3\0 but not really").unwrap();
    let target = dir.path().join("data");
    let (code, text) = refusal(&run(&target, &["db", "restore", copy.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(text.contains("was not restored"), "{text}");
    assert!(!target.join("flotilla.db").exists());
}

#[test]
fn a_command_on_a_folder_without_a_database_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let (code, text) = refusal(&run(dir.path(), &["user", "list"]));
    assert_eq!(code, 2);
    assert!(text.contains("--data-dir"), "{text}");
    assert!(!dir.path().join("flotilla.db").exists());
}

#[test]
fn the_first_start_prints_a_setup_link_and_a_later_one_with_an_account_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let output = |dir: &Path| {
        let mut child = flotilla(dir).args(["serve", "--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut said = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !said.contains("listening on") && stdout.read_line(&mut said).unwrap() > 0 {}
        child.kill().unwrap();
        child.wait().unwrap();
        said
    };
    assert!(output(dir.path()).contains("/setup?token="));
    run_with_input(dir.path(), &["user", "add", "ada", "--role", "admin", "--password-stdin"], "correct horse battery");
    assert!(!output(dir.path()).contains("/setup"));
}

#[test]
fn sigterm_ends_the_server_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(dir.path(), &ANY);
    let pid = serving.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(serving.child.wait().unwrap().success());
}

fn stop(serving: &mut Serving) {
    let pid = serving.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(serving.child.wait().unwrap().success());
}

/// Overwrites the middle of a file, as a failing disk does.
fn damage(file: &Path) {
    use std::os::unix::fs::FileExt as _;
    let length = std::fs::metadata(file).unwrap().len();
    let disk = std::fs::File::options().write(true).open(file).unwrap();
    disk.write_all_at(&[0x5a; 16 * 4096], length / 3 / 4096 * 4096).unwrap();
}

#[test]
fn after_an_end_that_was_not_clean_a_damaged_database_is_not_served_and_a_copy_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let (data, marker) = (dir.path().join("data"), dir.path().join("data/serve.running"));
    let mut serving = Serving::start(&data, &ANY);
    assert!(marker.exists());
    stop(&mut serving);
    assert!(!marker.exists(), "a clean end");
    run_with_input(&data, &["user", "add", "ada", "--role", "admin", "--password-stdin"], "correct horse battery");
    let copies = data.join("backups");
    std::fs::create_dir(&copies).unwrap();
    let copy = copies.join("flotilla-2026-11-21T02-40-00.000Z.db");
    assert!(run(&data, &["db", "backup", copy.to_str().unwrap()]).status.success());

    // A crash, and a database that is whole: served.
    drop(Serving::start(&data, &ANY));
    assert!(marker.exists(), "killed");
    stop(&mut Serving::start(&data, &ANY));
    // What the log still held is in the file now, so that damage to the file is damage.
    let database = rusqlite::Connection::open(data.join("flotilla.db")).unwrap();
    let busy: i64 = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
    drop(database);
    damage(&data.join("flotilla.db"));
    std::fs::write(&marker, "").unwrap();
    let (code, text) = refusal(&run(&data, &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(code, 1);
    for part in ["is damaged", "flotilla db restore", copy.to_str().unwrap(), "--replace"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(marker.exists(), "the next start looks again");

    let restore = ["db", "restore", copy.to_str().unwrap()];
    assert!(refusal(&run(&data, &restore)).1.contains("--replace"));
    let restored = run(&data, &[&restore[..], &["--replace"]].concat());
    assert!(restored.status.success(), "{restored:?}");
    let said = String::from_utf8(restored.stdout).unwrap();
    let kept = said.split_whitespace().find(|word| word.contains("flotilla.db.replaced-")).unwrap();
    assert!(std::fs::metadata(kept).unwrap().len() > 0, "{said}");
    let serving = Serving::start(&data, &ANY);
    let users = String::from_utf8(run(&data, &["user", "list"]).stdout).unwrap();
    assert!(users.contains("ada"), "{users}");
    // Not under a server that runs.
    let (code, text) = refusal(&run(&data, &[&restore[..], &["--replace"]].concat()));
    assert_eq!(code, 1);
    assert!(text.contains("another Flotilla runs"), "{text}");
    drop(serving);
}
