//! The folder of a job, `STATE_DIR/jobs/<JOB>/`: what is needed to go on with it, or to tell its end, in another process of the agent. The order is sealed, for
//! it holds secrets; nothing else here does. What lies here and is not named below is others' and left alone, until the folder goes as a whole.
//!
//! `order` (accepted) → `run.json` (a start is meant) → `begun.N`, `exit.N` (see [`Traces`]) → `end.json` (the end is known, perhaps not yet told).
//! `learned.json` stands for the part of the output that the files don't hold any more; `hooks.json` tells which hooks are over, `steps.json` where a runbook stands.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, JobId, JobStatus, Secret, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::hooks::Journal;
use crate::{
    host_facts, platform,
    platform::{RESERVE, Traces},
    process::{Cause, STDERR, STDOUT},
    restic::{address::Address, upkeep::Memo},
    seal::Seal,
    sink::{Cursor, JobOutcome},
    spool::is_segment,
    steps,
};

const ORDER: &str = "order";
const RUN: &str = "run.json";
const END: &str = "end.json";
/// Room for the exit code and the end of a job on a disk that is full by then.
const RESERVE_BYTES: usize = 64 << 10;
const LEARNED: &str = "learned.json";
const HOOKS: &str = "hooks.json";
const STEPS: &str = "steps.json";

/// What the sealed file holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    accepted_at: Timestamp,
    order: CommandRun,
}

/// One start of a job's program, as the next process of the agent must know it. Written before the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    /// Which start: a later one follows only where it is certain that this one never was.
    pub(super) number: u32,
    /// Of the boot in which it started.
    pub(super) boot_id: String,
    pub(super) begun_at: Timestamp,
    /// Time that the job had left then.
    pub(super) left_ms: u64,
    /// Source paths that did not exist.
    pub(super) missing: Vec<String>,
    /// This restic doesn't say what it restores, and the target was empty: what stands there afterwards is counted.
    pub(super) count_target: bool,
    /// It is being stopped, for this.
    pub(super) stopped: Option<Cause>,
    /// What the proof of its end must know.
    #[serde(default)]
    pub(super) memo: Memo,
}

/// What the verdict needs of the output up to a place. Everything before that was told, and need not be in the files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LearnedRecord {
    pub(super) stdout: u64,
    pub(super) stderr: u64,
    pub(super) learned: serde_json::Value,
}

impl LearnedRecord {
    pub(super) fn cursor(&self) -> Cursor {
        Cursor { stdout: self.stdout, stderr: self.stderr }
    }
}

/// An end as it stands on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EndRecord {
    status: JobStatus,
    exit_code: Option<i32>,
    error: Option<String>,
    summary: Option<serde_json::Value>,
}

impl From<&JobOutcome> for EndRecord {
    fn from(end: &JobOutcome) -> Self {
        let JobOutcome { status, exit_code, error, summary } = end.clone();
        Self { status, exit_code, error, summary }
    }
}

impl From<EndRecord> for JobOutcome {
    fn from(EndRecord { status, exit_code, error, summary }: EndRecord) -> Self {
        Self { status, exit_code, error, summary }
    }
}

/// The folder of one job.
#[derive(Debug, Clone)]
pub(super) struct JobFolder {
    state_dir: PathBuf,
    job: JobId,
}

fn jobs(state_dir: &Path) -> PathBuf {
    state_dir.join("jobs")
}

impl JobFolder {
    pub(super) fn of(state_dir: &Path, job: JobId) -> Self {
        Self { state_dir: state_dir.to_owned(), job }
    }

    pub(super) fn path(&self) -> PathBuf {
        jobs(&self.state_dir).join(self.job.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The order's name under the seal.
    fn sealed_name(&self) -> String {
        format!("jobs/{}/{ORDER}", self.job)
    }

    /// Puts the order on disk.
    pub(super) fn keep(&self, seal: &Seal, order: &CommandRun, accepted_at: Timestamp) -> io::Result<()> {
        platform::private_dir(&self.path())?;
        let kept = Zeroizing::new(serde_json::to_vec(&Kept { accepted_at, order: for_disk(order) })?);
        let sealed = seal.seal(&self.sealed_name(), &kept).map_err(io::Error::other)?;
        platform::write_private(&self.file(ORDER), &sealed)
    }

    /// The order; the error is for people.
    pub(super) fn order(&self, seal: &Seal) -> Result<CommandRun, String> {
        let sealed = fs::read(self.file(ORDER)).map_err(|e| e.to_string())?;
        let plain = seal.open(&self.sealed_name(), &sealed).map_err(|e| e.to_string())?;
        let kept: Kept = serde_json::from_slice(&plain).map_err(|_| "it does not read as an order".to_owned())?;
        Ok(kept.order)
    }

    pub(super) fn write_run(&self, run: &RunRecord) -> io::Result<()> {
        platform::write_private(&self.file(RUN), &serde_json::to_vec(run)?)
    }

    /// The last start; `None` where none was meant.
    ///
    /// # Errors
    /// Where there was one but nothing is known of it.
    pub(super) fn run(&self) -> io::Result<Option<RunRecord>> {
        read_json(&self.file(RUN))
    }

    /// Makes the files that the program writes to; what stands in them stays.
    pub(super) fn make_output(&self) -> io::Result<()> {
        for name in [STDOUT, STDERR] {
            if !fs::exists(self.file(name))? {
                platform::write_private(&self.file(name), b"")?;
            }
        }
        // Without it the job runs too, as long as the disk is not full at its end.
        let _ = platform::write_private(&self.file(RESERVE), &[0; RESERVE_BYTES]);
        Ok(())
    }

    /// Replaces what was learned, before the files let go of what it was learned from.
    pub(super) fn write_learned(&self, learned: &LearnedRecord) -> io::Result<()> {
        platform::write_private(&self.file(LEARNED), &serde_json::to_vec(learned)?)
    }

    /// What was learned; `None` where the files hold all that was ever printed.
    ///
    /// # Errors
    /// Where there is something but it can't be read.
    pub(super) fn learned(&self) -> io::Result<Option<LearnedRecord>> {
        read_json(&self.file(LEARNED))
    }

    pub(super) fn write_hooks(&self, journal: &Journal) -> io::Result<()> {
        platform::write_private(&self.file(HOOKS), &serde_json::to_vec(journal)?)
    }

    /// What became of the hooks so far.
    ///
    /// # Errors
    /// Where something was noted and can't be read.
    pub(super) fn hooks(&self) -> io::Result<Option<Journal>> {
        read_json(&self.file(HOOKS))
    }

    pub(super) fn write_steps(&self, journal: &steps::Journal) -> io::Result<()> {
        platform::write_private(&self.file(STEPS), &serde_json::to_vec(journal)?)
    }

    /// Where a runbook stands; `None` where nothing of it has begun.
    ///
    /// # Errors
    /// Where something was noted and can't be read.
    pub(super) fn steps(&self) -> io::Result<Option<steps::Journal>> {
        read_json(&self.file(STEPS))
    }

    /// Puts the end on disk, before it is told: a job of which an end was told never runs again.
    pub(super) fn write_end(&self, end: &JobOutcome) -> io::Result<()> {
        // Made empty already, unless the program's keeper was killed.
        let _ = fs::File::options().write(true).truncate(true).open(self.file(RESERVE));
        platform::write_private(&self.file(END), &serde_json::to_vec(&EndRecord::from(end))?)
    }

    /// The end, where it is known.
    pub(super) fn end(&self) -> io::Result<Option<JobOutcome>> {
        Ok(read_json::<EndRecord>(&self.file(END))?.map(JobOutcome::from))
    }

    pub(super) fn traces(&self, number: u32) -> Traces {
        Traces::of(&self.path(), number)
    }
}

/// The order without the secrets that must not be on disk.
fn for_disk(order: &CommandRun) -> CommandRun {
    let mut order = order.clone();
    for repo in [&mut order.repo, &mut order.second_repo].into_iter().flatten().filter(|repo| repo.memory_only) {
        // An address may hold a user with a password.
        repo.url = Address::of(repo).map(|address| address.shown).unwrap_or_default();
        repo.password = Secret::from("");
        repo.auth_password = None;
        repo.env.clear();
    }
    order
}

impl RunRecord {
    /// Whether the system has been up ever since.
    pub(super) fn same_boot(&self) -> bool {
        self.boot_id == host_facts::boot_id()
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        text => Ok(Some(serde_json::from_slice(&text?)?)),
    }
}

/// Jobs that an earlier process of the agent accepted and whose end the server has not confirmed, oldest first. Some may have ended.
///
/// # Errors
/// Where the folder exists but can't be read.
pub fn leftovers(state_dir: &Path) -> io::Result<Vec<JobId>> {
    let entries = match fs::read_dir(jobs(state_dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let Some(job) = entry?.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        if fs::exists(JobFolder::of(state_dir, job).file(ORDER))? {
            found.push(job);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes what a crash left of folders that nothing is known of any more: no order, and nothing of a log that is to be delivered. To be called before any
/// order is taken.
///
/// # Errors
/// Where one is there and can't be removed.
pub(super) fn sweep(state_dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(jobs(state_dir)) {
        Err(e) if is_gone(&e) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let Some(job) = entry?.file_name().to_str().and_then(|name| name.parse::<JobId>().ok()) else { continue };
        let folder = JobFolder::of(state_dir, job);
        let is_needed = |path: PathBuf| path == folder.file(ORDER) || is_segment(&path);
        // What can't be looked into is left to whoever needs it, with that error.
        let Ok(mut files) = fs::read_dir(folder.path()) else { continue };
        if !files.any(|file| file.map_or(true, |file| is_needed(file.path()))) {
            forget_leftover(state_dir, job)?;
        }
    }
    Ok(())
}

/// Removes a job's folder: its end is known where it has to be. A folder that is gone already is fine.
///
/// # Errors
/// Where the folder is there and can't be removed.
pub fn forget_leftover(state_dir: &Path, job: JobId) -> io::Result<()> {
    let folder = JobFolder::of(state_dir, job);
    // First the order: what a crash leaves of the folder must not be taken for a job that waits.
    for name in [ORDER, RUN] {
        match fs::remove_file(folder.file(name)) {
            Err(e) if !is_gone(&e) => return Err(e),
            _ => {}
        }
    }
    match fs::remove_dir_all(folder.path()) {
        Err(e) if !is_gone(&e) => Err(e),
        _ => Ok(()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Processes of this agent's jobs that are dead, and when each began, by whichever is earlier: the clock as it was then, or the clock as it is now less the
/// time since by the system's uptime. A clock that was set back in between has dated what the process wrote by the second.
pub(super) fn dead_runs(state_dir: &Path, now: Timestamp) -> HashMap<u32, Timestamp> {
    let jobs = leftovers(state_dir).unwrap_or_default();
    let runs = jobs.into_iter().filter_map(|job| {
        let folder = JobFolder::of(state_dir, job);
        let run = folder.run().ok()??;
        let traces = folder.traces(run.number);
        let lives = run.same_boot() && traces.runs();
        let age = traces.age().filter(|_| run.same_boot()).and_then(|age| i64::try_from(age.as_millis()).ok());
        let by_uptime = age.map_or(run.begun_at, |age| Timestamp::from_unix_ms(now.unix_ms().saturating_sub(age)));
        traces.pid().filter(|_| !lives).map(|pid| (pid, run.begun_at.min(by_uptime)))
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use flotilla_proto::JobKind;

    use super::*;

    fn order() -> CommandRun {
        CommandRun {
            job_id: JobId::from_parts(1, 1),
            kind: JobKind::Check,
            host_label: "host-1".to_owned(),
            repo: None,
            args: vec!["planted-secret".to_owned()],
            plan: None,
            restore: None,
            operation: None,
            second_repo: None,
            runbook: None,
            timeout_s: 60,
        }
    }

    #[test]
    fn an_order_is_sealed_and_opens_in_its_own_folder_under_its_own_enrolment_only() {
        let state = tempfile::tempdir().unwrap();
        let (seal, order) = (Seal::from_token(&Secret::from("token")), order());
        let folder = JobFolder::of(state.path(), order.job_id);
        folder.keep(&seal, &order, Timestamp::from_unix_ms(1)).unwrap();
        assert_eq!(folder.order(&seal).unwrap(), order);
        let sealed = fs::read(folder.file(ORDER)).unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"planted"));
        assert!(folder.order(&Seal::from_token(&Secret::from("other"))).is_err());
        let other = JobFolder::of(state.path(), JobId::from_parts(1, 2));
        fs::create_dir(other.path()).unwrap();
        fs::write(other.file(ORDER), sealed).unwrap();
        assert!(other.order(&seal).is_err());
        assert_eq!(leftovers(state.path()).unwrap(), [order.job_id, JobId::from_parts(1, 2)]);
    }

    #[test]
    fn a_folder_without_an_order_is_no_leftover_and_a_forgotten_one_goes_as_a_whole() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(leftovers(state.path()).unwrap(), []);
        let folder = JobFolder::of(state.path(), JobId::from_parts(1, 1));
        fs::create_dir_all(folder.path()).unwrap();
        fs::write(folder.file("1.spool"), b"of another part").unwrap();
        assert_eq!(leftovers(state.path()).unwrap(), []);
        forget_leftover(state.path(), JobId::from_parts(1, 1)).unwrap();
        assert!(!folder.path().exists());
        forget_leftover(state.path(), JobId::from_parts(1, 1)).unwrap();
    }

    #[test]
    fn what_a_crash_left_of_a_folder_that_nobody_needs_goes_at_the_next_start() {
        let state = tempfile::tempdir().unwrap();
        sweep(state.path()).unwrap();
        let with = |number: u128, file: Option<&str>| {
            let folder = JobFolder::of(state.path(), JobId::from_parts(1, number));
            fs::create_dir_all(folder.path()).unwrap();
            file.inspect(|name| fs::write(folder.file(name), b"x").unwrap());
            folder.path()
        };
        let [empty, ended] = [with(1, None), with(2, Some(STDOUT))];
        let [waits, logged] = [with(3, Some(ORDER)), with(4, Some("0000000001.spool"))];
        sweep(state.path()).unwrap();
        assert_eq!([empty, ended, waits, logged].map(|folder| folder.exists()), [false, false, true, true]);
    }

    #[test]
    fn an_end_and_a_run_come_back_as_they_were_written() {
        let state = tempfile::tempdir().unwrap();
        let folder = JobFolder::of(state.path(), JobId::from_parts(1, 1));
        fs::create_dir_all(folder.path()).unwrap();
        assert!(folder.end().unwrap().is_none() && folder.run().unwrap().is_none());
        let end = JobOutcome {
            status: JobStatus::Warning,
            exit_code: Some(3),
            error: Some("why".to_owned()),
            summary: Some(serde_json::json!({ "files": 1 })),
        };
        folder.write_end(&end).unwrap();
        assert_eq!(folder.end().unwrap(), Some(end));
        let run = RunRecord {
            number: 2,
            boot_id: "b".to_owned(),
            begun_at: Timestamp::from_unix_ms(5),
            left_ms: 6,
            missing: vec!["/a".to_owned()],
            count_target: true,
            stopped: Some(Cause::Asked(crate::process::Stop::Cancelled)),
            memo: Memo::default(),
        };
        folder.write_run(&run).unwrap();
        assert_eq!(folder.run().unwrap(), Some(run));
        fs::write(folder.file(RUN), b"{").unwrap();
        assert!(folder.run().is_err());
    }
}
