//! Programs that a test starts: none outlives its owner, and what they say is kept in files.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use super::wait::until;

/// The product.
pub(crate) const FLOTILLA: &str = env!("CARGO_BIN_EXE_flotilla");

/// A program of the tools folder.
pub(crate) fn tool(path: &str) -> PathBuf {
    let tools = std::env::var_os("FLOTILLA_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"), PathBuf::from);
    let tool = tools.join(path);
    assert!(tool.exists(), "{} is missing: run `make setup` (or set FLOTILLA_TOOLS)", tool.display());
    tool
}

/// A command without what the tester's own environment says to Flotilla, restic or proxies.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let upper = name.to_uppercase();
        if upper.starts_with("FLOTILLA_") || upper.starts_with("RESTIC_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
}

/// A port where nothing listens.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// Its output; fails where the command did.
    pub(crate) fn must(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, input: &str) -> Said {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    // One that refuses its arguments does not read.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A program that runs until its owner goes.
pub(crate) struct Program {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// Starts it; what it says goes to files of this name in `folder`, behind what is there.
    pub(crate) fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let (stdout, stderr) = (folder.join(format!("{name}.stdout")), folder.join(format!("{name}.stderr")));
        let append = |path: &Path| File::options().create(true).append(true).open(path).unwrap();
        // Answers of an earlier run would be taken for this one's.
        File::create(&stdout).unwrap();
        command.stdin(Stdio::null()).stdout(append(&stdout)).stderr(append(&stderr));
        let spawned = command.spawn();
        let child = spawned.unwrap_or_else(|e| panic!("{}: {e}; run `make setup`", command.get_program().display()));
        Self { child, stdout, stderr }
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    pub(crate) fn complained(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The rest of the line of its output that begins so; empty where a `listening` line came without it.
    pub(crate) async fn said_after(&self, start: &str) -> String {
        let what = format!("{start:?} from process {}", self.child.id());
        until(&what, async || {
            assert!(!is_dead(self.child.id()), "it ended: {}", self.complained());
            let said = self.said();
            let mut lines = said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            match lines.clone().find_map(|line| line.strip_prefix(start)) {
                Some(rest) => Some(rest.to_owned()),
                None => lines.any(|line| line.starts_with("listening on ")).then(String::new),
            }
        })
        .await
    }

    /// Whether and how it ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Itself and all processes below.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let all: Vec<(u32, u32)> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid: u32| Some((pid, parent(pid)?)))
            .collect();
        let mut at = 0;
        while let Some(&pid) = family.get(at) {
            family.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
            at += 1;
        }
        family
    }

    /// Sends a signal such as `-STOP` to the program itself.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends a signal to the programs of this name below it; there must be one.
    pub(crate) fn signal_below(&self, name: &str, signal: &str) {
        let is_it = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
        let pids: Vec<String> = self.family().iter().filter(|pid| is_it(pid)).map(u32::to_string).collect();
        assert!(!pids.is_empty(), "no {name} runs below process {}", self.child.id());
        assert!(Command::new("kill").arg(signal).args(pids).status().unwrap().success());
    }

    /// SIGKILL, to all below too: as a power cut.
    pub(crate) fn kill_hard(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let family = self.family();
            // The head first: it must not live to see what becomes of the rest.
            self.child.kill().ok();
            self.child.wait().ok();
            let own = self.child.id();
            let pids: Vec<String> = family.iter().filter(|pid| **pid != own).map(u32::to_string).collect();
            if !pids.is_empty() {
                Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status().ok();
            }
        }
        self.child.wait().ok();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_hard();
    }
}

/// Kills whatever still runs for this folder: what outlives an agent on purpose is below nobody that the test knows.
pub(crate) fn kill_all_for(folder: &Path) {
    let name = folder.as_os_str().as_encoded_bytes();
    let names_it = |pid: &u32| {
        ["cmdline", "environ"].iter().any(|file| {
            fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.windows(name.len()).any(|part| part == name))
        })
    };
    let all = fs::read_dir("/proc").into_iter().flatten();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let pids: Vec<String> =
        pids.filter(|pid| *pid != std::process::id() && names_it(pid)).map(|pid| pid.to_string()).collect();
    if !pids.is_empty() {
        Command::new("kill").arg("-KILL").args(pids).stderr(Stdio::null()).status().ok();
    }
}

/// The fields of a process's state behind its name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

fn is_dead(pid: u32) -> bool {
    stat(pid).is_none_or(|fields| fields[0] == "Z")
}
