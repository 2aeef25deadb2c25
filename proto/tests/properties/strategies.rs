//! Arbitrary messages: every value that a correct sender can make, small enough to run many of them.

use std::borrow::Cow;

use flotilla_proto::{
    Ack, AgentHeartbeat, AgentMessage, BackupSummary, CatchUp, CommandCancel, CommandRun, ConfigUpdate, ErrorNotice,
    Hello, HostId, JobAccepted, JobFinished, JobId, JobKind, JobProgress, JobStarted, JobStatus, KnownJob,
    KnownJobState, Limits, Line, LineText, LogGap, LogStream, Overwrite, PlanId, PlanOptions, PlanSpec,
    ProtocolVersion, RepoId, RepoSpec, RestoreSpec, ScheduleAck, ScheduleEntry, ScheduleFire, ScheduleFired,
    ScheduleId, ScheduleRejection, ScheduleSet, ScheduledOrder, Secret, ServerHeartbeat, ServerMessage, Stream,
    Timestamp, Trouble, Usage, VersionRange, Welcome, limits,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::select,
};
use serde_json::Value;

macro_rules! ids {
    ($($function:ident: $id:ident),* $(,)?) => {
        $(fn $function() -> impl Strategy<Value = $id> {
            // 48 bits of time, 80 random ones: all that an id has.
            (0..1_u64 << 48, 0..1_u128 << 80).prop_map(|(ms, random)| $id::from_parts(ms, random))
        })*
    };
}

ids!(host_id: HostId, job_id: JobId, repo_id: RepoId, plan_id: PlanId, schedule_id: ScheduleId);

pub(crate) fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..4)
}

fn secret() -> impl Strategy<Value = Secret> {
    text().prop_map(Secret::new)
}

/// JSON has no word for NaN and the infinities; a sender must not put them into a message.
fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |number| number.is_finite())
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_unix_ms)
}

fn usage() -> impl Strategy<Value = Usage> {
    (any::<u64>(), any::<u64>()).prop_map(|(free, total)| Usage { free, total })
}

/// Any JSON, a few levels deep.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        number().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn kind() -> impl Strategy<Value = JobKind> {
    let own = select(vec![
        JobKind::Backup,
        JobKind::Forget,
        JobKind::Prune,
        JobKind::Check,
        JobKind::Unlock,
        JobKind::Snapshots,
        JobKind::Stats,
        JobKind::Diff,
        JobKind::Restore,
        JobKind::Init,
    ]);
    // By parsing, so that a runbook never bears the name of one of restic's kinds.
    prop_oneof![own, "[a-z][a-z0-9_]{0,63}".prop_map(|name| name.parse().expect("a valid name"))]
}

fn version() -> impl Strategy<Value = ProtocolVersion> {
    any::<u16>().prop_map(ProtocolVersion)
}

fn error() -> impl Strategy<Value = ErrorNotice> {
    (text(), text(), option::of(text())).prop_map(|(code, message, regarding)| ErrorNotice { code, message, regarding })
}

fn known_job() -> impl Strategy<Value = KnownJob> {
    let state = select(vec![KnownJobState::Running, KnownJobState::Ended]);
    (job_id(), any::<u32>(), state).prop_map(|(job_id, last_seq, state)| KnownJob { job_id, last_seq, state })
}

fn fire() -> impl Strategy<Value = ScheduleFire> {
    (schedule_id(), time(), option::of(job_id()), any::<bool>()).prop_map(
        |(schedule_id, scheduled_at, job_id, alone)| ScheduleFire { schedule_id, scheduled_at, job_id, alone },
    )
}

fn hello() -> impl Strategy<Value = Hello> {
    let machine = (text(), text(), text(), text(), text(), option::of(text()));
    (version(), version(), texts(), machine, vec(known_job(), 0..3), any::<u64>(), vec(fire(), 0..3)).prop_map(
        |(min, max, capabilities, machine, jobs, schedule_version, fires)| {
            let (agent_version, os, arch, hostname, boot_id, restic_version) = machine;
            Hello {
                protocol: VersionRange { min, max },
                capabilities,
                agent_version,
                os,
                arch,
                hostname,
                boot_id,
                restic_version,
                jobs,
                schedule_version,
                fires,
            }
        },
    )
}

fn agent_heartbeat() -> impl Strategy<Value = AgentHeartbeat> {
    let load = option::of([number(), number(), number()]);
    let trouble = (text(), text()).prop_map(|(code, message)| Trouble { code, message });
    (load, btree_map(text(), usage(), 0..3), option::of(usage()), vec(trouble, 0..3))
        .prop_map(|(load, disk, mem, troubles)| AgentHeartbeat { load, disk, mem, troubles })
}

fn progress() -> impl Strategy<Value = JobProgress> {
    let counters = any::<[u64; 4]>();
    (option::of(job_id()), number(), counters, option::of(any::<u64>()), option::of(text())).prop_map(
        |(job_id, percent, [bytes_done, bytes_total, files_done, files_total], eta_s, current)| JobProgress {
            job_id,
            percent,
            bytes_done,
            bytes_total,
            files_done,
            files_total,
            eta_s,
            current,
            step: None,
        },
    )
}

/// Lines that follow each other, from any number that leaves room for them.
pub(crate) fn log_stream() -> impl Strategy<Value = LogStream<'static>> {
    let stream = select(vec![Stream::Stdout, Stream::Stderr, Stream::System]);
    // `.` is any character but a line feed; a carriage return is a line break too.
    let content = ".{0,40}".prop_map(|text| text.replace('\r', " "));
    let first = prop_oneof![1..100_u32, 1..=limits::MAX_SEQ, Just(limits::MAX_SEQ)];
    (job_id(), first, vec((time(), stream, content), 1..20)).prop_map(|(job_id, first, contents)| {
        let room = usize::try_from(limits::MAX_SEQ - first).unwrap_or(usize::MAX).saturating_add(1);
        let lines = (first..=limits::MAX_SEQ)
            .zip(contents.into_iter().take(room))
            .map(|(seq, (at, stream, text))| Line { seq, at, stream, text: LineText(Cow::Owned(text)) })
            .collect();
        LogStream { job_id, lines }
    })
}

fn finished() -> impl Strategy<Value = JobFinished> {
    // A summary of `null` is the same as none.
    let summary = option::of(json().prop_filter("not null", |value| !value.is_null()));
    let end = (select(JobStatus::ALL.to_vec()), option::of(any::<i32>()), option::of(text()), summary, any::<bool>());
    (job_id(), any::<u32>(), time(), end).prop_map(|(job_id, last_seq, at, end)| {
        let (status, exit_code, error, summary, log_truncated) = end;
        JobFinished { job_id, last_seq, at, status, exit_code, error, summary, log_truncated }
    })
}

fn schedule_ack() -> impl Strategy<Value = ScheduleAck> {
    let rejection = (schedule_id(), text()).prop_map(|(schedule_id, reason)| ScheduleRejection { schedule_id, reason });
    (any::<u64>(), vec(rejection, 0..3)).prop_map(|(version, rejected)| ScheduleAck { version, rejected })
}

fn started() -> impl Strategy<Value = JobStarted> {
    (job_id(), any::<u32>(), time(), option::of(any::<u32>())).prop_map(|(job_id, seq, at, pid)| JobStarted {
        job_id,
        seq,
        at,
        pid,
    })
}

/// Anything that an agent may say.
pub(crate) fn agent_message() -> impl Strategy<Value = AgentMessage<'static>> {
    prop_oneof![
        hello().prop_map(|m| AgentMessage::Hello(Box::new(m))),
        agent_heartbeat().prop_map(AgentMessage::Heartbeat),
        job_id().prop_map(|job_id| AgentMessage::JobAccepted(JobAccepted { job_id })),
        schedule_ack().prop_map(AgentMessage::ScheduleAck),
        fire().prop_map(AgentMessage::ScheduleFire),
        started().prop_map(AgentMessage::JobStarted),
        progress().prop_map(AgentMessage::JobProgress),
        log_stream().prop_map(AgentMessage::LogStream),
        finished().prop_map(|m| AgentMessage::JobFinished(Box::new(m))),
        error().prop_map(AgentMessage::Error),
    ]
}

fn repo() -> impl Strategy<Value = RepoSpec> {
    let login = (option::of(text()), option::of(secret()));
    (repo_id(), text(), secret(), login, btree_map(text(), secret(), 0..3), option::of(text()), any::<bool>()).prop_map(
        |(id, url, password, (username, auth_password), env, tls_ca_pem, init)| RepoSpec {
            id,
            url,
            password,
            username,
            auth_password,
            env,
            tls_ca_pem,
            init,
            memory_only: false,
        },
    )
}

fn plan() -> impl Strategy<Value = PlanSpec> {
    let options = (any::<[bool; 3]>(), any::<u32>(), any::<u32>(), texts()).prop_map(
        |([one_file_system, exclude_caches, log_files], limit_upload_kib, limit_download_kib, backup_tags)| {
            PlanOptions {
                one_file_system,
                exclude_caches,
                limit_upload_kib,
                limit_download_kib,
                backup_tags,
                log_files,
                ..PlanOptions::default()
            }
        },
    );
    (plan_id(), text(), texts(), texts(), options).prop_map(|(id, name, paths, excludes, options)| PlanSpec {
        id,
        name,
        paths,
        excludes,
        options,
        hooks: Vec::new(),
    })
}

fn restore() -> impl Strategy<Value = RestoreSpec> {
    let overwrite = select(vec![Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never]);
    (text(), texts(), text(), overwrite).prop_map(|(snapshot, paths, target, overwrite)| RestoreSpec {
        snapshot,
        paths,
        target,
        overwrite,
        dry_run: false,
        source_host: None,
    })
}

fn command() -> impl Strategy<Value = CommandRun> {
    let details = (option::of(repo()), texts(), option::of(plan()), option::of(restore()));
    (job_id(), kind(), text(), details, any::<u64>()).prop_map(|(job_id, kind, host_label, details, timeout_s)| {
        let (repo, args, plan, restore) = details;
        CommandRun {
            job_id,
            kind,
            host_label,
            repo,
            args,
            plan,
            restore,
            operation: None,
            second_repo: None,
            runbook: None,
            timeout_s,
        }
    })
}

fn schedule_set() -> impl Strategy<Value = ScheduleSet> {
    let catch_up = select(vec![CatchUp::Once, CatchUp::Skip]);
    let order = command().prop_map(|run| {
        let CommandRun { kind, host_label, repo, args, plan, timeout_s, .. } = run;
        Box::new(ScheduledOrder { kind, host_label, repo, args, plan, timeout_s })
    });
    let entry = (schedule_id(), text(), text(), any::<bool>(), catch_up, any::<u32>(), option::of(order)).prop_map(
        |(schedule_id, cron, timezone, enabled, catch_up, jitter_s, order)| ScheduleEntry {
            schedule_id,
            cron,
            timezone,
            enabled,
            catch_up,
            jitter_s,
            order,
        },
    );
    (any::<u64>(), vec(entry, 0..3)).prop_map(|(version, entries)| ScheduleSet { version, entries })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    let acked = btree_map(job_id(), any::<u32>(), 0..3);
    (version(), host_id(), any::<u64>(), acked, vec(job_id(), 0..3)).prop_map(
        |(protocol, host_id, heartbeat_s, acked, finished)| Welcome { protocol, host_id, heartbeat_s, acked, finished },
    )
}

/// Anything that the server may say to an agent.
pub(crate) fn server_message() -> impl Strategy<Value = ServerMessage> {
    prop_oneof![
        welcome().prop_map(ServerMessage::Welcome),
        Just(ServerMessage::Heartbeat(ServerHeartbeat {})),
        (vec(repo(), 0..3), any::<u32>()).prop_map(|(repos, concurrent_jobs)| {
            ServerMessage::ConfigUpdate(Box::new(ConfigUpdate { repos, limits: Limits { concurrent_jobs } }))
        }),
        command().prop_map(|m| ServerMessage::CommandRun(Box::new(m))),
        job_id().prop_map(|job_id| ServerMessage::CommandCancel(CommandCancel { job_id })),
        schedule_set().prop_map(ServerMessage::ScheduleSet),
        (schedule_id(), time(), option::of(job_id()), option::of(text())).prop_map(
            |(schedule_id, scheduled_at, job_id, reason)| {
                ServerMessage::ScheduleFired(ScheduleFired { schedule_id, scheduled_at, job_id, reason })
            }
        ),
        (job_id(), any::<u32>(), any::<bool>()).prop_map(|(job_id, seq, finished)| ServerMessage::Ack(Ack {
            job_id,
            seq,
            finished
        })),
        error().prop_map(ServerMessage::Error),
    ]
}

/// What the server says to browsers only.
pub(crate) fn gap() -> impl Strategy<Value = LogGap> {
    (job_id(), any::<u32>(), any::<u32>()).prop_map(|(job_id, from_seq, to_seq)| LogGap { job_id, from_seq, to_seq })
}

/// What a backup reports inside `job.finished`.
pub(crate) fn summary() -> impl Strategy<Value = BackupSummary> {
    (option::of(text()), any::<[u64; 10]>(), option::of(any::<u64>()), number(), texts()).prop_map(
        |(snapshot_id, counters, data_added_packed, total_duration, missing_paths)| {
            let [files_new, files_changed, files_unmodified, dirs_new, dirs_changed, dirs_unmodified, rest @ ..] =
                counters;
            let [data_added, total_files_processed, total_bytes_processed, errors] = rest;
            BackupSummary {
                snapshot_id,
                files_new,
                files_changed,
                files_unmodified,
                dirs_new,
                dirs_changed,
                dirs_unmodified,
                data_added,
                data_added_packed,
                total_files_processed,
                total_bytes_processed,
                total_duration,
                errors,
                missing_paths,
                dry_run: false,
            }
        },
    )
}
