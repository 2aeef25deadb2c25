use super::*;
use crate::restic::{
    output::Task,
    replay::{VERSIONS, play},
};

fn outcome(version: &str, case: &str) -> JobOutcome {
    let (kind, task) = match case.split('.').next().unwrap() {
        "restore" => (JobKind::Restore, Task::Restore),
        "check" => (JobKind::Check, Task::Check),
        "snapshots" => (JobKind::Snapshots, Task::Snapshots),
        "stats" => (JobKind::Stats, Task::Stats),
        "init" => (JobKind::Init, Task::Other),
        "backup" => (JobKind::Backup, Task::Backup),
        _ => (JobKind::Unlock, Task::Other),
    };
    play(version, case, task).outcome(&kind)
}

fn assert_everywhere(case: &str, status: JobStatus, words: &[&str]) {
    for version in VERSIONS {
        let end = outcome(version, case);
        let error = end.error.unwrap_or_default();
        assert_eq!(end.status, status, "{version} {case}: {error}");
        for word in words {
            assert!(error.contains(word), "{version} {case}: {word:?} is not in {error:?}");
        }
    }
}

#[test]
fn a_whole_backup_succeeds_in_every_version() {
    assert_everywhere("backup.first_json", JobStatus::Succeeded, &[]);
}

#[test]
fn files_that_could_not_be_read_make_a_warning_that_counts_each_once() {
    assert_everywhere(
        "backup.unreadable_json",
        JobStatus::Warning,
        &["2 files or folders could not be read", "lockeddir"],
    );
    assert_eq!(outcome("0.14", "backup.unreadable_json").summary.unwrap()["errors"], 2);
}

#[test]
fn one_missing_path_is_a_warning_also_where_restic_exits_with_0() {
    assert_eq!(outcome("0.14", "backup.missing_path_one_json").exit_code, Some(0));
    assert_everywhere("backup.missing_path_one_json", JobStatus::Warning, &["do not exist on this host", "/nope"]);
}

#[test]
fn all_paths_missing_is_a_failure() {
    assert_everywhere(
        "backup.missing_path_all_json",
        JobStatus::Failed,
        &["Correct the plan's paths", "restic says: all "],
    );
}

#[test]
fn causes_are_recognised_by_text_so_that_versions_without_codes_get_the_same_words() {
    let failed = JobStatus::Failed;
    assert_everywhere("backup.wrong_password_json", failed, &["password is wrong", "restic says: wrong password"]);
    assert_everywhere("backup.missing_repo_json", failed, &["there is no repository", "restic says: "]);
    assert_everywhere("cat.missing_repo_rest_json", failed, &["there is no repository"]);
    assert_everywhere("cat.missing_repo_s3_json", failed, &["there is no repository"]);
    assert_everywhere(
        "backup.locked_exclusive_json",
        failed,
        &["locked by PID ", " on agent01 by root.", "run an unlock"],
    );
    assert_everywhere("append_only.wrong_auth_rest_server", failed, &["(401)", "Check user, password"]);
    assert_everywhere("backup.disk_full_local_json", failed, &["a disk is full", "no space left on device"]);
    assert_everywhere("restore.disk_full_json", failed, &["a disk is full"]);
    assert_everywhere("restore.damaged_json", failed, &["the repository has errors"]);
    assert_everywhere("restore.no_match_latest_json", failed, &["no such snapshot"]);
    assert_everywhere("restore.bad_id_json", failed, &["no such snapshot", "deadbeef"]);
    assert_everywhere("check.damaged_read_data_json", failed, &["the repository has errors"]);
    assert_everywhere("init.exists_json", failed, &["there is a repository at this address already"]);
}

#[test]
fn a_full_quota_is_named_as_such() {
    let end = outcome("0.14", "backup.quota_exceeded_json");
    assert!(end.error.unwrap().contains("no room left for this user (507)"));
}

#[test]
fn a_backup_over_a_damaged_repository_warns_and_asks_for_a_check() {
    for version in ["0.18", "0.19"] {
        let end = outcome(version, "backup.missing_index_json");
        assert_eq!(end.status, JobStatus::Warning);
        assert!(end.error.unwrap().contains("run a check"));
    }
}

#[test]
fn reading_commands_succeed_with_their_typed_summaries() {
    for case in ["check.ok_json", "snapshots.json", "snapshots.empty_json", "stats.raw_data_json", "init.ok_json"] {
        assert_everywhere(case, JobStatus::Succeeded, &[]);
    }
    assert_eq!(outcome("0.14", "snapshots.json").summary.unwrap()["snapshots"], 2);
    assert_eq!(outcome("0.18", "stats.raw_data_json").summary.unwrap()["snapshots_count"], 15);
    assert_eq!(outcome("0.19", "check.ok_json").summary.unwrap()["errors"], 0);
}

#[test]
fn a_restore_that_matched_nothing_is_a_warning_where_restic_tells() {
    assert_eq!(outcome("0.18", "restore.include_nomatch_json").status, JobStatus::Warning);
    assert_everywhere("restore.include_json", JobStatus::Succeeded, &[]);
}

fn run(code: i32, stopped: Option<Cause>, killed: bool, transcript: Transcript) -> JobOutcome {
    judge(Run { exit: Exit { code, stopped, killed }, transcript, ..interrupted() })
}

#[test]
fn a_cancel_counts_whatever_code_restic_ends_with() {
    let cancelled = Some(Cause::Asked(Stop::Cancelled));
    for code in [130, 1, -2, -9] {
        assert_eq!(run(code, cancelled, code == -9, Transcript::default()).status, JobStatus::Cancelled);
    }
}

#[test]
fn what_a_cancelled_run_leaves_is_said_by_what_it_was_to_do() {
    let said = [
        (JobKind::Backup, "nothing was saved by this run"),
        (JobKind::Restore, "what was restored by then stays"),
        (JobKind::Copy, "the next copy takes the rest"),
        (JobKind::Forget, "removed by then are gone"),
        (JobKind::Prune, "the next prune removes what is left"),
        (JobKind::Check, "it changed nothing"),
    ];
    for (kind, words) in said {
        let end = judge(Run { kind: &kind, ..interrupted() });
        assert!(end.error.as_deref().is_some_and(|error| error.contains(words)), "{kind}: {end:?}");
    }
}

fn interrupted() -> Run<'static> {
    Run {
        kind: &JobKind::Backup,
        operation: None,
        may_lack_snapshot: false,
        exit: Exit { code: 130, stopped: Some(Cause::Asked(Stop::Cancelled)), killed: false },
        transcript: Transcript::default(),
        timeout: Duration::from_secs(60),
        idle: Some(Duration::from_secs(1800)),
        grace: Duration::from_secs(90),
        restored: None,
        picked_paths: false,
    }
}

#[test]
fn an_interrupt_that_nobody_here_asked_for_is_a_failure() {
    for code in [130, 1, -2, -15] {
        assert_eq!(run(code, None, false, Transcript::default()).status, JobStatus::Failed);
    }
}

#[test]
fn a_cancel_that_came_after_the_snapshot_was_saved_does_not_deny_it() {
    let saved = play("0.18", "backup.first_json", Task::Backup).transcript;
    assert_eq!(run(0, Some(Cause::Asked(Stop::Cancelled)), false, saved).status, JobStatus::Succeeded);
}

#[test]
fn exit_0_without_a_snapshot_is_a_failure() {
    assert_eq!(run(0, None, false, Transcript::default()).status, JobStatus::Failed);
    let skipped = play("0.18", "backup.skip_if_unchanged_json", Task::Backup).transcript;
    assert_eq!(run(0, None, false, skipped).status, JobStatus::Failed);
}

#[test]
fn an_unknown_code_is_a_failure_with_restics_last_sentence() {
    let mut said = Transcript::default();
    said.errors.push_back("the moon is in the wrong phase".to_owned());
    let end = run(42, None, false, said);
    assert_eq!((end.status, end.exit_code), (JobStatus::Failed, Some(42)));
    assert!(end.error.unwrap().ends_with("restic says: the moon is in the wrong phase"));
}

#[test]
fn a_time_limit_a_standstill_and_a_foreign_signal_say_what_they_are() {
    let error = |end: JobOutcome| end.error.unwrap();
    assert!(error(run(130, Some(Cause::Deadline), false, Transcript::default())).contains("time limit of 60 s"));
    let stalled = error(run(-9, Some(Cause::Stalled), true, Transcript::default()));
    assert!(stalled.contains("stood still for 1800 s") && stalled.contains("within 90 s") && stalled.contains("lock"));
    assert!(error(run(-9, None, false, Transcript::default())).contains("signal 9"));
}
