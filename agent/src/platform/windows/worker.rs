//! Windows: a job's program does not outlive the agent, for the Job Object ends it. What is left of one is its files, and the code where the agent saw it.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use tokio::process::{Child, Command};

use super::{Group, exit_code, hand_over};
use crate::process::{Launch, STDERR, STDOUT};

/// Room for the notes of a program's end.
pub(crate) const RESERVE: &str = "reserve";

/// A program that runs, or has just ended.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    group: Group,
    pid: u32,
    traces: Traces,
    code: Mutex<Option<i32>>,
}

/// What a start of a program left.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: it never began, and never will.
    Never,
    /// Does not happen here.
    #[expect(dead_code, reason = "the same names on every system")]
    Running(Worker),
    /// It began and is over.
    Over,
}

/// Where a start of a program leaves its traces.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    folder: PathBuf,
    number: u32,
}

impl Traces {
    /// Of start `number` in the folder of a job.
    pub(crate) fn of(folder: &Path, number: u32) -> Self {
        Self { folder: folder.to_owned(), number }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{}", self.number))
    }

    /// The program's process, also after its end; `None` where it never began.
    pub(crate) fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.file("begun")).ok()?.trim().parse().ok()
    }

    /// Its exit code, where the agent saw its end.
    pub(crate) fn code(&self) -> Option<i32> {
        fs::read_to_string(self.file("exit")).ok()?.strip_suffix('\n')?.parse().ok()
    }

    /// It never outlives the agent.
    pub(crate) fn runs(&self) -> bool {
        false
    }

    /// What became of it since. Whether a start without a note took place is not known here: it counts as one.
    pub(crate) async fn find(&self) -> io::Result<Found> {
        Ok(if fs::exists(self.folder.join(STDOUT))? { Found::Over } else { Found::Never })
    }

    /// The Job Object has done that.
    pub(crate) fn end_strays(&self) -> usize {
        0
    }
}

impl Worker {
    /// Starts a program that writes to `stdout` and `stderr` in the folder.
    ///
    /// # Errors
    /// Where it can't be started; nothing runs then.
    pub(crate) async fn start(launch: &Launch, traces: &Traces) -> io::Result<Self> {
        let output = |name: &str| OpenOptions::new().append(true).create(true).open(traces.folder.join(name));
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.args)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output(STDOUT)?)
            .stderr(output(STDERR)?)
            .kill_on_drop(true);
        Group::prepare(&mut command);
        launch.place(&mut command);
        hand_over(&mut command, &launch.secrets)?;
        let child = command.spawn()?;
        let group = Group::of(&child)?;
        let pid = child.id().unwrap_or_default();
        fs::write(traces.file("begun"), format!("{pid}\n"))?;
        Ok(Self { child, group, pid, traces: traces.clone(), code: Mutex::new(None) })
    }

    /// The program's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Of no use here: only a program that was found again is asked.
    pub(crate) fn age(&self) -> Option<Duration> {
        None
    }

    /// Returns once it is over, with its code noted.
    pub(crate) async fn ended(&mut self) {
        let code = self.child.wait().await.map_or(-1, exit_code);
        // Without the note a restart of the agent would call the job failed.
        let _ = fs::write(self.traces.file("exit"), format!("{code}\n"));
        if let Ok(mut known) = self.code.lock() {
            *known = Some(code);
        }
    }

    /// After the end: its code.
    pub(crate) async fn code(&self) -> Option<i32> {
        self.code.lock().ok().and_then(|code| *code)
    }

    /// Asks the program to stop.
    pub(crate) fn interrupt(&self) {
        self.group.interrupt();
    }

    /// Ends all of it.
    pub(crate) fn kill(&self) {
        self.group.kill();
    }

    /// After the end: ends what the program started and left.
    pub(crate) fn sweep(&self) {
        self.group.kill();
    }
}
