//! Frozen samples of protocol version 1, one per message and direction. An old peer is out there that writes and reads
//! exactly these, so a sample is never edited: within a version fields are only added, and the samples must keep decoding.

use std::{borrow::Cow, collections::BTreeMap, fs, path::PathBuf};

use flotilla_proto::{
    Ack, AgentHeartbeat, AgentMessage, CatchUp, CommandCancel, CommandRun, ConfigUpdate, ErrorNotice, Hello, HostId,
    JobAccepted, JobFinished, JobId, JobKind, JobProgress, JobStarted, JobStatus, KnownJob, KnownJobState, Limits,
    Line, LineText, LogGap, LogStream, Overwrite, PROTOCOL, PlanOptions, PlanSpec, ProtocolVersion, RawEnvelope,
    RepoSpec, RestoreSpec, ScheduleAck, ScheduleEntry, ScheduleFire, ScheduleFired, ScheduleId, ScheduleRejection,
    ScheduleSet, ServerHeartbeat, ServerMessage, Stream, Timestamp, Usage, Welcome,
};
use serde_json::{Value, json};

/// The envelope id of every sample.
const ID: &str = "01JD3K8ZQV5C0F8R4X7M2N9E0V";

fn host() -> HostId {
    "01JD3K8ZQV5C0F8R4X7M2N9H0S".parse().expect("a ULID")
}

fn job() -> JobId {
    "01JD3K8ZQV5C0F8R4X7M2N9J0B".parse().expect("a ULID")
}

fn other_job() -> JobId {
    "01JD3K8ZQV5C0F8R4X7M2N9J1B".parse().expect("a ULID")
}

fn schedule() -> ScheduleId {
    "01JD3K8ZQV5C0F8R4X7M2N9S0C".parse().expect("a ULID")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn line(seq: u32, stream: Stream, text: &str) -> Line<'_> {
    Line { seq, at: at("2026-11-21T08:00:01.250Z"), stream, text: LineText(Cow::Borrowed(text)) }
}

fn repo() -> RepoSpec {
    RepoSpec {
        id: "01JD3K8ZQV5C0F8R4X7M2N9R0P".parse().expect("a ULID"),
        url: "rest:https://vault.example:8000/web-1/".to_owned(),
        password: "correct horse battery staple".into(),
        username: Some("web-1".to_owned()),
        auth_password: Some("s3cret".into()),
        env: BTreeMap::from([("AWS_ACCESS_KEY_ID".to_owned(), "AKIA0".into())]),
        tls_ca_pem: Some("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned()),
        init: true,
        memory_only: false,
    }
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        capabilities: vec!["restic".to_owned(), "jobs".to_owned()],
        agent_version: "0.1.0".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        hostname: "web-1".to_owned(),
        boot_id: "5f0c1f0e-7c0a-4c55-9d3d-0e6f6d1b8a11".to_owned(),
        restic_version: Some("0.18.0".to_owned()),
        jobs: vec![
            KnownJob { job_id: job(), last_seq: 120, state: KnownJobState::Running },
            KnownJob { job_id: other_job(), last_seq: 0, state: KnownJobState::Ended },
        ],
        schedule_version: 7,
        fires: Vec::new(),
    }
}

fn finished() -> JobFinished {
    JobFinished {
        job_id: job(),
        last_seq: 2,
        at: at("2026-11-21T08:00:02.000Z"),
        status: JobStatus::Warning,
        exit_code: Some(3),
        error: Some("1 file could not be read: /etc/shadow: permission denied".to_owned()),
        summary: Some(json!({"files_new": 12, "total_duration": 1.25, "errors": 1})),
        log_truncated: true,
    }
}

fn error() -> ErrorNotice {
    ErrorNotice {
        code: "bad_frame".to_owned(),
        message: "the frame is no envelope; send {\"type\", \"id\", \"payload\"}".to_owned(),
        regarding: Some("01JD3K8ZQV5C0F8R4X7M2N9BAD".to_owned()),
    }
}

fn up() -> Vec<AgentMessage<'static>> {
    vec![
        AgentMessage::Hello(Box::new(hello())),
        AgentMessage::Heartbeat(AgentHeartbeat {
            load: Some([0.5, 0.25, 1.75]),
            disk: BTreeMap::from([("/".to_owned(), Usage { free: 1_000_000, total: 18_446_744_073_709_551_615 })]),
            mem: Some(Usage { free: 2048, total: 4096 }),
            troubles: Vec::new(),
        }),
        AgentMessage::JobAccepted(JobAccepted { job_id: job() }),
        AgentMessage::ScheduleAck(ScheduleAck {
            version: 7,
            rejected: vec![ScheduleRejection {
                schedule_id: schedule(),
                reason: "unknown time zone Mars/Base".to_owned(),
            }],
        }),
        AgentMessage::ScheduleFire(ScheduleFire {
            schedule_id: schedule(),
            scheduled_at: at("2026-11-21T03:00:00.000Z"),
            job_id: None,
            alone: false,
        }),
        AgentMessage::JobStarted(JobStarted {
            job_id: job(),
            seq: 1,
            at: at("2026-11-21T08:00:00.000Z"),
            pid: Some(4711),
        }),
        AgentMessage::JobProgress(JobProgress {
            job_id: Some(job()),
            percent: 42.5,
            bytes_done: 425,
            bytes_total: 1000,
            files_done: 4,
            files_total: 10,
            eta_s: Some(9),
            current: Some("/var/lib/Ünicode \"name\"".to_owned()),
            step: None,
        }),
        AgentMessage::LogStream(LogStream {
            job_id: job(),
            lines: vec![
                line(1, Stream::System, "backup started"),
                line(2, Stream::Stdout, "tab\tquote\" backslash\\ 漢字"),
                line(3, Stream::Stderr, ""),
            ],
        }),
        AgentMessage::JobFinished(Box::new(finished())),
        AgentMessage::Error(error()),
    ]
}

fn command() -> CommandRun {
    CommandRun {
        job_id: job(),
        kind: JobKind::Backup,
        host_label: "web-1".to_owned(),
        repo: Some(repo()),
        args: vec!["/srv/extra".to_owned()],
        plan: Some(PlanSpec {
            id: "01JD3K8ZQV5C0F8R4X7M2N9P0N".parse().expect("a ULID"),
            name: "nightly".to_owned(),
            paths: vec!["/etc".to_owned(), "/srv".to_owned()],
            excludes: vec!["*.tmp".to_owned()],
            options: PlanOptions {
                one_file_system: true,
                exclude_caches: true,
                limit_upload_kib: 512,
                limit_download_kib: 256,
                backup_tags: vec!["nightly".to_owned()],
                log_files: true,
                ..PlanOptions::default()
            },
            hooks: Vec::new(),
        }),
        restore: Some(RestoreSpec {
            snapshot: "latest".to_owned(),
            paths: vec!["/etc/hosts".to_owned()],
            target: "/restore/here".to_owned(),
            overwrite: Overwrite::IfChanged,
            dry_run: false,
            source_host: None,
        }),
        operation: None,
        second_repo: None,
        runbook: None,
        timeout_s: 86_400,
    }
}

fn down() -> Vec<ServerMessage> {
    vec![
        ServerMessage::Welcome(Welcome {
            protocol: ProtocolVersion(1),
            host_id: host(),
            heartbeat_s: 15,
            acked: BTreeMap::from([(job(), 120)]),
            finished: vec![other_job()],
        }),
        ServerMessage::Heartbeat(ServerHeartbeat {}),
        ServerMessage::ConfigUpdate(Box::new(ConfigUpdate {
            repos: vec![repo()],
            limits: Limits { concurrent_jobs: 4 },
        })),
        ServerMessage::CommandRun(Box::new(command())),
        ServerMessage::CommandCancel(CommandCancel { job_id: job() }),
        ServerMessage::ScheduleSet(ScheduleSet {
            version: 7,
            entries: vec![ScheduleEntry {
                schedule_id: schedule(),
                cron: "0 3 * * *".to_owned(),
                timezone: "Europe/Berlin".to_owned(),
                enabled: true,
                catch_up: CatchUp::Skip,
                jitter_s: 300,
                order: None,
            }],
        }),
        ServerMessage::Ack(Ack { job_id: job(), seq: 2, finished: true }),
        ServerMessage::Error(error()),
        ServerMessage::ScheduleFired(ScheduleFired {
            schedule_id: schedule(),
            scheduled_at: at("2026-11-21T03:00:00.000Z"),
            job_id: Some(job()),
            reason: Some("x".to_owned()),
        }),
    ]
}

fn gap() -> LogGap {
    LogGap { job_id: job(), from_seq: 65, to_seq: 128 }
}

/// The place of a message among the samples. Without a catch-all: a new message does not compile until it has a place here
/// and, by the test below, a sample.
fn place_up(message: &AgentMessage<'_>) -> usize {
    match message {
        AgentMessage::Hello(_) => 0,
        AgentMessage::Heartbeat(_) => 1,
        AgentMessage::JobAccepted(_) => 2,
        AgentMessage::ScheduleAck(_) => 3,
        AgentMessage::ScheduleFire(_) => 4,
        AgentMessage::JobStarted(_) => 5,
        AgentMessage::JobProgress(_) => 6,
        AgentMessage::LogStream(_) => 7,
        AgentMessage::JobFinished(_) => 8,
        AgentMessage::Error(_) => 9,
        AgentMessage::Unknown(_) => 10,
    }
}

fn place_down(message: &ServerMessage) -> usize {
    match message {
        ServerMessage::Welcome(_) => 0,
        ServerMessage::Heartbeat(_) => 1,
        ServerMessage::ConfigUpdate(_) => 2,
        ServerMessage::CommandRun(_) => 3,
        ServerMessage::CommandCancel(_) => 4,
        ServerMessage::ScheduleSet(_) => 5,
        ServerMessage::Ack(_) => 6,
        ServerMessage::Error(_) => 7,
        ServerMessage::ScheduleFired(_) => 8,
        ServerMessage::Unknown(_) => 9,
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn sample(direction: &str, kind: &str) -> String {
    let path = folder().join(format!("{direction}.{kind}.json"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}: every message needs a frozen sample", path.display()))
}

fn as_json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn every_message_of_an_agent_decodes_from_its_sample_and_encodes_to_it() {
    for message in up() {
        let text = sample("up", message.kind());
        let envelope = RawEnvelope::decode(&text).expect("an envelope");
        assert_eq!((envelope.kind.as_ref(), envelope.id.as_ref()), (message.kind(), ID));
        assert_eq!(AgentMessage::decode(&envelope), Ok(message.clone()));
        assert_eq!(as_json(&message.encode(ID).expect("encodes")), as_json(&text), "{}", message.kind());
    }
}

#[test]
fn every_message_of_the_server_decodes_from_its_sample_and_encodes_to_it() {
    for message in down() {
        let text = sample("down", message.kind());
        let envelope = RawEnvelope::decode(&text).expect("an envelope");
        assert_eq!((envelope.kind.as_ref(), envelope.id.as_ref()), (message.kind(), ID));
        assert_eq!(ServerMessage::decode(&envelope), Ok(message.clone()));
        assert_eq!(as_json(&message.encode(ID).expect("encodes")), as_json(&text), "{}", message.kind());
    }
}

#[test]
fn a_browsers_gap_decodes_from_its_sample_and_encodes_to_it() {
    let text = sample("browser", "log.gap");
    let envelope = RawEnvelope::decode(&text).expect("an envelope");
    assert_eq!(serde_json::from_str::<LogGap>(envelope.payload.get()).expect("a gap"), gap());
    assert_eq!(as_json(&flotilla_proto::encode("log.gap", ID, &gap()).expect("encodes")), as_json(&text));
}

#[test]
fn every_message_has_a_sample_and_every_sample_a_message() {
    let (up, down) = (up(), down());
    let nothing = String::new();
    assert_eq!(up.iter().map(place_up).collect::<Vec<_>>(), (0..up.len()).collect::<Vec<_>>());
    assert_eq!(place_up(&AgentMessage::Unknown(nothing.clone())), up.len(), "a message of agents has no sample");
    assert_eq!(down.iter().map(place_down).collect::<Vec<_>>(), (0..down.len()).collect::<Vec<_>>());
    assert_eq!(place_down(&ServerMessage::Unknown(nothing)), down.len(), "a message of the server has no sample");

    let mut expected: Vec<String> = up.iter().map(|m| format!("up.{}.json", m.kind())).collect();
    expected.extend(down.iter().map(|m| format!("down.{}.json", m.kind())));
    expected.push("browser.log.gap.json".to_owned());
    expected.sort();
    let mut found: Vec<String> = fs::read_dir(folder())
        .expect("the folder of samples")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, expected);
}
