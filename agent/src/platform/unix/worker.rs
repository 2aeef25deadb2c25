//! A program that outlives the agent. Its parent is a keeper (`/bin/sh`), which notes the exit code, for no other process can ask for it later; a gate (another
//! `/bin/sh`, which becomes the program) notes who runs before it runs. The note is made exclusively and once: who finds none, makes it itself, and knows
//! that the program never began and never will.
//!
//! In the folder of the job, for start number N: `begun.N` (the program's line of /proc/PID/stat), `exit.N` (its code), `stdout`, `stderr`; and `reserve`, room
//! for that code on a full disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use self::system::Watch;
use crate::{
    blocking::blocking,
    platform,
    process::{Launch, STDERR, STDOUT},
};

#[cfg(target_os = "linux")]
#[path = "worker/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "worker/other.rs"]
mod system;

/// Its room is given free when the program has ended, for the notes of that.
pub(crate) const RESERVE: &str = "reserve";

/// What the program's parent does. It outlives the polite stop, which goes to the whole group: a trapped signal (unlike an ignored one) is back to normal
/// in the program. It keeps the secrets' pipes open, so that the program finds them also where the agent is gone by then.
const KEEPER: &str = r#"trap : INT TERM HUP
folder=$1 number=$2 gate=$3
shift 3
/bin/sh -c "$gate" flotilla-gate "$folder/begun.$number" "$@" >>"$folder/stdout" 2>>"$folder/stderr"
code=$?
: >"$folder/reserve"
printf '%s\n' "$code" >"$folder/exit.$number"
sync "$folder/exit.$number" "$folder/stdout" "$folder/stderr" 2>/dev/null
exit "$code"
"#;

/// What becomes the program. Where the note is there already (`-C`), an agent has made it and given this start up.
const GATE: &str = r#"note=$1
shift
IFS= read -r who 2>/dev/null </proc/$$/stat || who="$$ $PPID"
(set -C; printf '%s\n' "$who" >"$note") 2>/dev/null || exit 125
exec "$@"
"#;

/// What an agent writes where a program would have noted itself.
const GIVEN_UP: &[u8] = b"given up\n";

/// How long a start may take on a machine that is busy.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long the keeper may take to note a code.
const NOTE_PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs, or has just ended.
#[derive(Debug)]
pub(crate) struct Worker {
    note: Note,
    traces: Traces,
    watch: Watch,
}

/// What a start of a program left.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing: it never began, and never will.
    Never,
    /// It runs.
    Running(Worker),
    /// It began and is over.
    Over,
}

/// Who runs: process, its group, and when it started in ticks since boot where the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    pid: Pid,
    group: Pid,
    started: Option<u64>,
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

    fn begun(&self) -> PathBuf {
        self.folder.join(format!("begun.{}", self.number))
    }

    fn note(&self) -> Option<Note> {
        Note::read(&fs::read_to_string(self.begun()).ok()?)
    }

    /// The program's process, also after its end; `None` where it never began.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.note()?.pid.as_raw_nonzero().get().try_into().ok()
    }

    /// Its exit code, negative for a signal, where it has ended and its keeper noted that.
    pub(crate) fn code(&self) -> Option<i32> {
        let text = fs::read_to_string(self.folder.join(format!("exit.{}", self.number))).ok()?;
        let code = text.strip_suffix('\n')?.parse().ok()?;
        // A shell tells a signal as 128 and its number. 130 is restic's own code after SIGINT.
        Some(if code > 128 && code != 130 { 128 - code } else { code })
    }

    /// How long ago it began; `None` where the system doesn't tell. Of use only within the boot in which it began.
    pub(crate) fn age(&self) -> Option<Duration> {
        system::age(self.note()?.started?)
    }

    /// Whether it runs. Of use only within the boot in which it began.
    pub(crate) fn runs(&self) -> bool {
        self.note().is_some_and(|note| system::runs(note.pid, note.started))
    }

    /// What became of it since. To be asked only within the boot in which it was started.
    ///
    /// # Errors
    /// Where the folder can't be written or read.
    pub(crate) async fn find(&self) -> io::Result<Found> {
        match OpenOptions::new().write(true).create_new(true).open(self.begun()) {
            Ok(mut file) => {
                file.write_all(GIVEN_UP)?;
                return Ok(Found::Never);
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
        }
        let until = Instant::now() + NOTE_PATIENCE;
        loop {
            let text = fs::read(self.begun())?;
            if text == GIVEN_UP {
                return Ok(Found::Never);
            }
            if text.ends_with(b"\n") || Instant::now() > until {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        // A note that was never finished is that of a gate which was killed in the middle.
        let Some(note) = self.note() else { return Ok(Found::Over) };
        if system::runs(note.pid, note.started) {
            return Ok(Found::Running(Worker::new(note, self.clone())));
        }
        // It may have ended in this very moment.
        self.noted_code(note).await;
        Ok(Found::Over)
    }

    /// The exit code, as soon as the keeper has noted it; `None` where there is no keeper any more.
    async fn noted_code(&self, note: Note) -> Option<i32> {
        let until = Instant::now() + NOTE_PATIENCE;
        loop {
            // In this order: what the keeper did last is seen.
            let keeper_lives = system::runs(note.group, None) && Instant::now() < until;
            let code = blocking(|| self.code());
            if code.is_some() || !keeper_lives {
                return code;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends whatever still writes to the job's files, though what it belonged to is gone. Returns how many those were.
    pub(crate) fn end_strays(&self) -> usize {
        let Ok(folder) = fs::canonicalize(&self.folder) else { return 0 };
        system::kill_writers(&[folder.join(STDOUT), folder.join(STDERR)])
    }
}

/// What a running process is known by to another process of the agent, within this boot; empty where the system doesn't tell.
pub(crate) fn mark_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

/// Ends the group of the process of this mark, if it still runs. To be asked only within the boot in which the mark was made.
pub(crate) fn end_stray(mark: &str) -> bool {
    let Some(note) = Note::read(mark).filter(|note| note.started.is_some()) else { return false };
    system::runs(note.pid, note.started) && kill_process_group(note.group, Signal::KILL).is_ok()
}

impl Note {
    fn read(text: &str) -> Option<Self> {
        let pid = |word: &str| word.parse().ok().and_then(Pid::from_raw);
        let line = text.strip_suffix('\n')?;
        let Some((head, tail)) = line.rsplit_once(')') else {
            let (own, group) = line.split_once(' ')?;
            return Some(Self { pid: pid(own)?, group: pid(group)?, started: None });
        };
        let own = pid(head.split_once(' ')?.0)?;
        // Counted from the third field, the state.
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self { pid: own, group: pid(fields.get(2)?)?, started: Some(fields.get(19)?.parse().ok()?) })
    }
}

impl Worker {
    /// Starts a program that writes to `stdout` and `stderr` in the folder and goes on without the agent.
    ///
    /// # Errors
    /// Where it can't be started; nothing runs then.
    pub(crate) async fn start(launch: &Launch, traces: &Traces) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", KEEPER, "flotilla-keeper"])
            .arg(&traces.folder)
            .arg(traces.number.to_string())
            .arg(GATE)
            .arg(&launch.program)
            .args(&launch.args)
            .env_clear()
            .envs(launch.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        launch.place(&mut command);
        platform::Group::prepare(&mut command);
        platform::hand_over(&mut command, &launch.secrets)?;
        let mut keeper = command.spawn()?;
        // Holds the secrets' pipes, of which the keeper has its own copies now.
        drop(command);
        let until = Instant::now() + START_PATIENCE;
        // The keeper is not waited for: whoever is its parent at its end collects it, be it this process's runtime or the system.
        loop {
            let over = keeper.try_wait()?.is_some() || Instant::now() > until;
            if let Some(note) = traces.note() {
                return Ok(Self::new(note, traces.clone()));
            }
            if over {
                // Collected or not: the number is its group's as long as anything of it runs.
                if let Some(group) = keeper.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                return Err(io::Error::other("/bin/sh ended before it could start it"));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    fn new(note: Note, traces: Traces) -> Self {
        Self { note, watch: Watch::of(note.pid, note.started), traces }
    }

    /// The program's own process, not its keeper's.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.note.pid.as_raw_nonzero().get()).unwrap_or_default()
    }

    /// How long it has run; `None` where the system doesn't tell.
    pub(crate) fn age(&self) -> Option<Duration> {
        system::age(self.note.started?)
    }

    /// Returns once it is over.
    pub(crate) async fn ended(&self) {
        self.watch.ended().await;
    }

    /// After the end: its code, as soon as the keeper has noted it; `None` where that was killed too.
    pub(crate) async fn code(&self) -> Option<i32> {
        self.traces.noted_code(self.note).await
    }

    /// Asks the program, and all that it started, to stop: SIGINT, for restic 0.14 removes its lock on that signal only.
    pub(crate) fn interrupt(&self) {
        // As long as the program is there, its group's number is no other's.
        if system::runs(self.note.pid, self.note.started) {
            // Gone in this instant is what was wanted.
            let _ = kill_process_group(self.note.group, Signal::INT);
        }
    }

    /// Ends the program. Its keeper is left to note that and to collect it; what else there is goes with [`Worker::sweep`].
    pub(crate) fn kill(&self) {
        if system::runs(self.note.pid, self.note.started) {
            let _ = kill_process(self.note.pid, Signal::KILL);
        }
    }

    /// After the end: ends what the program started and left. The number of a group just left cannot be another's yet: systems hand them out in turn.
    pub(crate) fn sweep(&self) {
        let _ = kill_process_group(self.note.group, Signal::KILL);
    }
}

impl Drop for Worker {
    /// A defect of the agent must not leave a program that nobody looks after.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            self.sweep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_program_is_called() {
        let line = "4711 (a) b (c) R 1 4700 4700 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 1000 2 3\n";
        let note = Note::read(line).unwrap();
        assert_eq!((note.pid.as_raw_nonzero().get(), note.group.as_raw_nonzero().get()), (4711, 4700));
        assert_eq!(note.started, Some(123_456));
        assert_eq!(Note::read("12 34\n").unwrap().group.as_raw_nonzero().get(), 34);
        for bad in ["", "12 34", "given up\n", "4711 (sh) R 1\n"] {
            assert_eq!(Note::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_shells_code_for_a_signal_is_told_from_a_code_of_restics() {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::of(folder.path(), 1);
        for (text, code) in
            [("0\n", Some(0)), ("3\n", Some(3)), ("130\n", Some(130)), ("137\n", Some(-9)), ("13", None)]
        {
            fs::write(folder.path().join("exit.1"), text).unwrap();
            assert_eq!(traces.code(), code, "{text:?}");
        }
    }

    fn launch(script: &str) -> Launch {
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            secrets: Vec::new(),
            folder: None,
            held: None,
        }
    }

    fn job() -> (tempfile::TempDir, Traces) {
        let folder = tempfile::tempdir().unwrap();
        let traces = Traces::of(folder.path(), 1);
        (folder, traces)
    }

    #[tokio::test]
    async fn the_code_of_a_program_that_somebody_else_started_is_known() {
        let (folder, traces) = job();
        let pid =
            Worker::start(&launch("echo out; echo err >&2; read x </dev/null; exit 42"), &traces).await.unwrap().pid();
        let found = traces.find().await.unwrap();
        if let Found::Running(worker) = found {
            worker.ended().await;
            assert_eq!(worker.code().await, Some(42));
        } else {
            // It was quicker than this test.
            assert!(matches!(found, Found::Over));
        }
        assert_eq!(traces.pid(), Some(pid));
        assert_eq!(fs::read_to_string(folder.path().join(STDOUT)).unwrap(), "out\n");
        assert_eq!(fs::read_to_string(folder.path().join(STDERR)).unwrap(), "err\n");
    }

    #[tokio::test]
    async fn the_polite_stop_reaches_the_program_and_not_its_keeper() {
        let (_folder, traces) = job();
        let script = "trap 'exit 7' INT; echo ready; while :; do sleep 0.01; done";
        let worker = Worker::start(&launch(script), &traces).await.unwrap();
        while fs::read_to_string(traces.folder.join(STDOUT)).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        worker.interrupt();
        worker.ended().await;
        assert_eq!(worker.code().await, Some(7));
    }

    #[tokio::test]
    async fn a_start_that_was_given_up_never_begins() {
        let (folder, traces) = job();
        assert!(matches!(traces.find().await.unwrap(), Found::Never));
        assert!(matches!(traces.find().await.unwrap(), Found::Never), "also when asked again");
        assert!(Worker::start(&launch("echo ran"), &traces).await.is_err());
        assert_eq!(fs::read_to_string(folder.path().join(STDOUT)).unwrap(), "");
        assert_eq!(traces.pid(), None);
    }

    #[tokio::test]
    async fn a_program_whose_keeper_was_killed_is_over_without_a_code_and_its_strays_are_ended() {
        let (_folder, traces) = job();
        let worker = Worker::start(&launch("while :; do sleep 0.1; done"), &traces).await.unwrap();
        rustix::process::kill_process(worker.note.group, Signal::KILL).unwrap();
        let Found::Running(again) = traces.find().await.unwrap() else { panic!("it runs") };
        assert!(again.age().is_some_and(|age| age < Duration::from_secs(60)));
        assert!(traces.end_strays() > 0);
        again.ended().await;
        assert_eq!(again.code().await, None);
        assert!(matches!(traces.find().await.unwrap(), Found::Over));
    }
}
