//! An agent that dies at each instant of a job's life: what the next one makes of the folder. A script stands in for restic and counts its runs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Mutex, time::Duration};

use flotilla_proto::{JobKind, JobProgress, RepoId, RepoSpec, Secret, Stream};
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};

use super::{folder::RunRecord, *};
use crate::{host_facts, platform::Worker, process::Launch};

#[derive(Default)]
struct Memory {
    lines: Mutex<Vec<String>>,
    end: Mutex<Option<JobOutcome>>,
    ended: Notify,
}

impl JobSink for Memory {
    fn started(&self, _: Option<u32>) {}
    fn line(&self, _: Stream, text: &str) {
        self.lines.lock().unwrap().push(text.chars().take(100).collect());
    }
    fn settle(&self) -> bool {
        true
    }
    fn progress(&self, _: JobProgress) {}
    fn finished(&self, end: JobOutcome) {
        assert!(self.end.lock().unwrap().replace(end).is_none(), "a job ends once");
        self.ended.notify_one();
    }
}

impl Memory {
    async fn end(&self) -> JobOutcome {
        timeout(Duration::from_secs(60), self.ended.notified()).await.expect("the job ends");
        self.end.lock().unwrap().clone().unwrap()
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

struct Host {
    state: TempDir,
}

impl Host {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let path = state.path();
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in\nversion) echo 'restic 0.18.0 compiled with go1.24';;\ncat) echo '{{}}';;\n\
             snapshots) echo run >>{0}/runs; while [ -e {0}/hold ]; do sleep 0.01; done; echo '[]';;\n\
             check) . {0}/check;;\n\
             tag) echo run >>{0}/runs; while [ -e {0}/hold ]; do sleep 0.01; done;;\nesac\n",
            path.display()
        );
        fs::write(path.join("restic"), script).unwrap();
        fs::set_permissions(path.join("restic"), fs::Permissions::from_mode(0o700)).unwrap();
        Self { state }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.file("runs")).map_or(0, |text| text.lines().count())
    }

    fn executor(&self) -> Executor {
        let limits = Limits { concurrent_jobs: 1 };
        let config = ExecutorConfig::new(self.state.path().to_owned(), Some(self.file("restic")), limits);
        let clock = Arc::new(|| Timestamp::from_unix_ms(1_800_000_000_000));
        Executor::new(config, seal(), TaskTracker::new(), clock).unwrap()
    }

    fn order(&self, number: u128) -> CommandRun {
        CommandRun {
            job_id: JobId::from_parts(1, number),
            kind: JobKind::Snapshots,
            host_label: "host-1".to_owned(),
            repo: Some(RepoSpec {
                id: RepoId::from_parts(1, 1),
                url: self.file("repo").to_str().unwrap().to_owned(),
                password: Secret::from("password"),
                username: None,
                auth_password: None,
                env: std::collections::BTreeMap::new(),
                tls_ca_pem: None,
                init: false,
                memory_only: false,
            }),
            args: Vec::new(),
            plan: None,
            restore: None,
            operation: None,
            second_repo: None,
            timeout_s: 60,
        }
    }

    /// The order is on disk; nothing else.
    fn accepted(&self) -> JobFolder {
        let order = self.order(1);
        let folder = JobFolder::of(self.state.path(), order.job_id);
        folder.keep(&seal(), &order, Timestamp::from_unix_ms(0)).unwrap();
        folder
    }

    /// A start is meant.
    fn begun(&self) -> JobFolder {
        let folder = self.accepted();
        folder.make_output().unwrap();
        let run = RunRecord {
            number: 1,
            boot_id: host_facts::boot_id(),
            begun_at: Timestamp::from_unix_ms(1_800_000_000_000),
            left_ms: 60_000,
            missing: Vec::new(),
            count_target: false,
            stopped: None,
            memo: Default::default(),
        };
        folder.write_run(&run).unwrap();
        folder
    }

    /// restic runs.
    async fn spawned(&self) -> (JobFolder, Worker) {
        let folder = self.begun();
        let launch = Launch {
            program: self.file("restic"),
            args: vec!["snapshots".into()],
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            secrets: Vec::new(),
            folder: None,
            held: None,
        };
        let worker = Worker::start(&launch, &folder.traces(1)).await.unwrap();
        (folder, worker)
    }

    /// What the next agent makes of it.
    async fn resumed(&self) -> (JobOutcome, Arc<Memory>) {
        let executor = self.executor();
        assert_eq!(leftovers(self.state.path()).unwrap(), [job()]);
        let memory = Arc::new(Memory::default());
        executor.resume(job(), memory.clone(), Cursor::default());
        assert_eq!(executor.submit(self.order(1), Arc::new(Memory::default())), Submitted::Known);
        (memory.end().await, memory)
    }
}

fn seal() -> Seal {
    Seal::from_token(&Secret::from("token"))
}

fn job() -> JobId {
    JobId::from_parts(1, 1)
}

#[tokio::test]
async fn an_order_that_was_only_accepted_runs() {
    let host = Host::new();
    host.accepted();
    let (end, memory) = host.resumed().await;
    assert_eq!((end.status, host.runs()), (JobStatus::Succeeded, 1), "{}", memory.text());
}

#[tokio::test]
async fn a_start_that_was_meant_and_never_was_is_made_good() {
    let host = Host::new();
    let folder = host.begun();
    let (end, memory) = host.resumed().await;
    assert_eq!((end.status, host.runs()), (JobStatus::Succeeded, 1), "{}", memory.text());
    assert!(folder.traces(1).pid().is_none() && folder.traces(2).pid().is_some());
    assert!(memory.text().contains("the agent was restarted just before restic began: it begins now"));
}

#[tokio::test]
async fn a_start_that_was_just_made_is_followed_and_not_made_again() {
    let host = Host::new();
    fs::write(host.file("hold"), b"").unwrap();
    let (_folder, worker) = host.spawned().await;
    let pid = worker.pid();
    drop(worker);
    let executor = host.executor();
    let memory = Arc::new(Memory::default());
    executor.resume(job(), memory.clone(), Cursor::default());
    while !memory.text().contains(&format!("restic (pid {pid}) went on and is followed again")) {
        tokio::task::yield_now().await;
    }
    fs::remove_file(host.file("hold")).unwrap();
    let end = memory.end().await;
    assert_eq!((end.status, end.exit_code, host.runs()), (JobStatus::Succeeded, Some(0), 1), "{}", memory.text());
    assert_eq!(end.summary.unwrap()["snapshots"], 0);
}

#[tokio::test]
async fn a_start_that_ended_unseen_is_judged_by_what_it_left_from_the_cursor_on() {
    let host = Host::new();
    let (folder, worker) = host.spawned().await;
    worker.ended().await;
    assert_eq!(worker.code().await, Some(0));
    let executor = host.executor();
    let memory = Arc::new(Memory::default());
    let told = Cursor { stdout: fs::metadata(folder.path().join("stdout")).unwrap().len(), stderr: 0 };
    executor.resume(job(), memory.clone(), told);
    let end = memory.end().await;
    assert_eq!((end.status, end.summary.unwrap()["snapshots"].as_u64()), (JobStatus::Succeeded, Some(0)));
    assert!(memory.text().contains("had ended meanwhile, with code 0") && !memory.text().contains("0 snapshots"));
    assert_eq!(host.runs(), 1);
}

/// The clock stood at an hour more when restic began.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_dead_run_began_by_the_clock_of_then_or_by_that_of_now_whichever_is_earlier() {
    const HOUR: i64 = 3_600_000;
    let host = Host::new();
    let (folder, worker) = host.spawned().await;
    worker.ended().await;
    let begun = folder.run().unwrap().unwrap().begun_at.unix_ms();
    let pid = worker.pid();
    let began = |now: i64| super::folder::dead_runs(host.state.path(), Timestamp::from_unix_ms(now))[&pid].unix_ms();
    assert!((begun - HOUR - 60_000..=begun - HOUR).contains(&began(begun - HOUR)), "set back by an hour");
    assert_eq!(began(begun + HOUR), begun, "set forward, or merely an hour later");
    let run = RunRecord { boot_id: "another boot".to_owned(), ..folder.run().unwrap().unwrap() };
    folder.write_run(&run).unwrap();
    assert_eq!(began(begun - HOUR), begun, "the uptime of another boot tells nothing");
}

#[tokio::test]
async fn an_end_that_was_known_is_told_again_and_nothing_runs() {
    let host = Host::new();
    let known = JobOutcome { status: JobStatus::Cancelled, ..not_run("cancelled before it began") };
    host.accepted().write_end(&known).unwrap();
    assert_eq!(host.resumed().await.0, known);
    assert_eq!(host.runs(), 0);
}

#[tokio::test]
async fn a_start_of_which_nothing_is_known_any_more_is_no_reason_to_run_again() {
    let host = Host::new();
    let folder = host.begun();
    fs::write(folder.path().join("run.json"), b"{\"number\":").unwrap();
    let (end, _) = host.resumed().await;
    assert_eq!((end.status, host.runs()), (JobStatus::Failed, 0));
    assert!(end.error.unwrap().contains("what was noted of its start can't be read"));
}

#[tokio::test]
async fn a_stopped_agent_leaves_what_runs_and_what_waits_and_the_next_one_ends_both() {
    let host = Host::new();
    fs::write(host.file("hold"), b"").unwrap();
    let first = host.executor();
    let (running, waiting) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
    first.submit(host.order(1), running.clone());
    first.submit(host.order(2), waiting.clone());
    while host.runs() == 0 {
        tokio::task::yield_now().await;
    }
    first.drain(Duration::from_secs(20)).await;
    assert_eq!(first.live(), 0);
    assert!(running.end.lock().unwrap().is_none() && waiting.end.lock().unwrap().is_none());

    let next = host.executor();
    let memories: Vec<Arc<Memory>> = leftovers(host.state.path())
        .unwrap()
        .into_iter()
        .map(|job| {
            let memory = Arc::new(Memory::default());
            next.resume(job, memory.clone(), Cursor::default());
            memory
        })
        .collect();
    fs::remove_file(host.file("hold")).unwrap();
    for memory in &memories {
        assert_eq!(memory.end().await.status, JobStatus::Succeeded, "{}", memory.text());
    }
    assert_eq!((memories.len(), host.runs()), (2, 2));
}

/// The program prints on only once the file has become small again: without that it would stand still for ever.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_run_that_prints_much_takes_little_of_the_disk() {
    use std::os::unix::fs::MetadataExt as _;
    const PIECE: u64 = 4 << 20;
    const PIECES: u64 = 25;
    let host = Host::new();
    let order = CommandRun { kind: JobKind::Check, ..host.order(1) };
    let stdout = JobFolder::of(host.state.path(), job()).path().join("stdout");
    fs::write(host.file("piece"), format!("{}\n", "x".repeat(4095)).repeat(1024)).unwrap();
    let script = format!(
        "for n in $(seq {PIECES}); do cat {}; while [ $(stat -c %b {stdout}) -gt {blocks} ]; do sleep 0.01; done; done\n",
        host.file("piece").display(),
        stdout = stdout.display(),
        blocks = (crate::process::GIVEN_BACK_BYTES + (1 << 20)) / 512,
    );
    fs::write(host.file("check"), script + "echo 'no errors were found'\n").unwrap();
    let executor = host.executor();
    let memory = Arc::new(Memory::default());
    executor.submit(order, memory.clone());
    let end = memory.end().await;
    assert_eq!((end.status, end.exit_code), (JobStatus::Succeeded, Some(0)), "{}", memory.text());
    let (length, blocks) = fs::metadata(stdout).map(|meta| (meta.len(), meta.blocks())).unwrap();
    assert!(length > PIECES * PIECE);
    assert!(blocks * 512 <= crate::process::GIVEN_BACK_BYTES + (1 << 20), "{blocks} blocks");
    let lines = memory.lines.lock().unwrap().iter().filter(|line| line.starts_with("xxx")).count();
    assert_eq!(lines as u64, PIECES * 1024);
}

#[tokio::test]
async fn a_job_that_the_server_does_not_know_never_begins_and_leaves_nothing() {
    let host = Host::new();
    fs::write(host.file("hold"), b"").unwrap();
    let executor = host.executor();
    let running = Arc::new(Memory::default());
    executor.submit(host.order(1), running.clone());
    executor.submit(host.order(2), Arc::new(Memory::default()));
    while host.runs() == 0 {
        tokio::task::yield_now().await;
    }
    for number in [1, 2] {
        executor.forget(JobId::from_parts(1, number)).unwrap();
    }
    fs::remove_file(host.file("hold")).unwrap();
    running.end().await;
    while executor.live() > 0 || !leftovers(host.state.path()).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(host.runs(), 1);
}

impl Host {
    /// A job whose credentials must not be on disk.
    fn secret_order(&self) -> CommandRun {
        let mut order = self.order(1);
        let repo = order.repo.as_mut().unwrap();
        repo.memory_only = true;
        repo.env.insert("AWS_SECRET_ACCESS_KEY".to_owned(), Secret::from("planted-key"));
        let spec = flotilla_proto::TagSpec {
            snapshots: vec!["abcd1234".to_owned()],
            add: vec!["kept".to_owned()],
            remove: Vec::new(),
        };
        CommandRun { kind: JobKind::Tag, operation: Some(flotilla_proto::Operation::Tag(spec)), ..order }
    }
}

#[tokio::test]
async fn credentials_that_may_delete_are_not_on_disk_not_even_sealed() {
    let host = Host::new();
    let mut order = host.secret_order();
    order.second_repo = order.repo.clone();
    let folder = JobFolder::of(host.state.path(), order.job_id);
    folder.keep(&seal(), &order, Timestamp::from_unix_ms(0)).unwrap();
    let kept = folder.order(&seal()).unwrap();
    for repo in [kept.repo.unwrap(), kept.second_repo.unwrap()] {
        assert!(repo.password.is_empty() && repo.auth_password.is_none() && repo.env.is_empty(), "{repo:?}");
    }
    order.repo.as_mut().unwrap().memory_only = false;
    folder.keep(&seal(), &order, Timestamp::from_unix_ms(0)).unwrap();
    let kept = folder.order(&seal()).unwrap();
    assert_eq!((kept.repo, kept.second_repo.unwrap().password.is_empty()), (order.repo, true), "each for itself");
}

#[tokio::test]
async fn a_job_that_had_not_begun_ends_with_its_credentials() {
    let host = Host::new();
    let folder = JobFolder::of(host.state.path(), job());
    folder.keep(&seal(), &host.secret_order(), Timestamp::from_unix_ms(0)).unwrap();
    let (end, _) = host.resumed().await;
    assert_eq!((end.status, host.runs()), (JobStatus::Failed, 0));
    assert!(end.error.unwrap().contains("kept in memory only, and went when the agent was restarted"));
}

#[tokio::test]
async fn a_run_whose_credentials_went_is_followed_to_its_end_and_what_needed_them_is_left_out_and_said() {
    let host = Host::new();
    let list = r#"[{"id":"abcd1234000000000000000000000000000000000000000000000000000000aa","paths":["/x"]}]"#;
    fs::write(host.file("list"), list).unwrap();
    let script = fs::read_to_string(host.file("restic")).unwrap();
    let script =
        script.replace("snapshots) ", &format!("snapshots) cat {}; exit;;\nnever) ", host.file("list").display()));
    fs::write(host.file("restic"), script).unwrap();
    fs::write(host.file("hold"), b"").unwrap();
    let first = host.executor();
    first.submit(host.secret_order(), Arc::new(Memory::default()));
    while host.runs() == 0 {
        tokio::task::yield_now().await;
    }
    first.drain(Duration::from_secs(20)).await;
    let next = host.executor();
    let memory = Arc::new(Memory::default());
    next.resume(job(), memory.clone(), Cursor::default());
    while !memory.text().contains("went on and is followed again") {
        tokio::task::yield_now().await;
    }
    fs::remove_file(host.file("hold")).unwrap();
    let end = memory.end().await;
    assert_eq!((end.status, end.exit_code, host.runs()), (JobStatus::Warning, Some(0), 1), "{}", memory.text());
    let told = end.error.unwrap();
    assert!(told.contains("is not proven") && told.contains("kept in memory only"), "{told}");
}
