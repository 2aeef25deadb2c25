use std::collections::BTreeMap;

use super::*;
use crate::restic::version::ResticVersion;
use flotilla_proto::{JobId, Overwrite, PlanId, PlanOptions, PlanSpec, RepoId, RestoreSpec};

fn repo() -> RepoSpec {
    RepoSpec {
        id: RepoId::from_parts(1, 1),
        url: "rest:https://vault:8000/web-1/".to_owned(),
        password: "planted-repo-password".into(),
        username: Some("web-1".to_owned()),
        auth_password: Some("planted-auth-password".into()),
        env: BTreeMap::new(),
        tls_ca_pem: None,
        init: false,
        memory_only: false,
    }
}

fn order(kind: JobKind) -> CommandRun {
    CommandRun {
        job_id: JobId::from_parts(1, 2),
        kind,
        host_label: "web-1".to_owned(),
        repo: Some(repo()),
        args: Vec::new(),
        plan: None,
        restore: None,
        operation: None,
        second_repo: None,
        timeout_s: 60,
    }
}

fn plan(paths: &[&str], excludes: &[&str], options: PlanOptions) -> Option<PlanSpec> {
    let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
    Some(PlanSpec {
        id: PlanId::from_parts(1, 3),
        name: "p".to_owned(),
        paths: own(paths),
        excludes: own(excludes),
        options,
        hooks: Vec::new(),
    })
}

fn session(minor: u32, repo: &RepoSpec) -> Result<Session, OrderError> {
    let restic = Restic { path: "/usr/bin/restic".into(), version: ResticVersion { major: 0, minor, patch: 0 } };
    Session::open(restic, repo, tempfile::tempdir().unwrap().path())
}

fn args(minor: u32, order: &CommandRun) -> Result<Vec<String>, String> {
    let built = session(minor, &repo()).unwrap().order(order).map_err(|e| e.to_string())?;
    Ok(built.0.args.into_iter().map(|arg| arg.into_string().unwrap()).collect())
}

#[test]
fn a_backup_carries_the_plan_and_binds_every_foreign_value_to_its_flag() {
    let mut order = order(JobKind::Backup);
    order.plan = plan(
        &["/etc", "/srv/-data"],
        &["--not-a-flag", "*.tmp", " "],
        PlanOptions {
            one_file_system: true,
            exclude_caches: true,
            limit_upload_kib: 100,
            limit_download_kib: 7,
            backup_tags: vec!["-daily".to_owned()],
            log_files: true,
            ..PlanOptions::default()
        },
    );
    let tag = format!("--tag=flotilla,job-{}", order.job_id);
    let wanted = [
        "backup",
        "--json",
        "--host=web-1",
        &tag,
        "--tag=plan-00000000010000000000000003",
        "--tag=-daily",
        "--exclude=--not-a-flag",
        "--exclude=*.tmp",
        "--one-file-system",
        "--exclude-caches",
        "--limit-upload=100",
        "--limit-download=7",
        "--verbose=2",
        "--",
        "/etc",
        "/srv/-data",
    ];
    assert_eq!(args(14, &order).unwrap(), wanted);
}

#[test]
fn no_secret_is_an_argument_or_in_the_environment() {
    let session = session(14, &repo()).unwrap();
    for launch in [session.look(), session.init(), session.unlock()] {
        let seen = format!("{:?} {:?}", launch.args, launch.env);
        assert!(!seen.contains("planted"), "{seen}");
        assert_eq!(launch.secrets.len(), 2);
    }
}

#[test]
fn the_environment_is_a_chosen_few() {
    let names: Vec<_> = session(14, &repo()).unwrap().look().env.into_iter().map(|(name, _)| name).collect();
    for name in &names {
        let name = name.to_str().unwrap();
        let expected = ["PATH", "HOME", "TMPDIR", "LANG", "RESTIC_PROGRESS_FPS", "RESTIC_CACHE_DIR"];
        assert!(expected.contains(&name), "{name}");
    }
    assert!(names.iter().any(|name| name == "RESTIC_CACHE_DIR"));
}

#[test]
fn orders_that_make_no_sense_are_refused_with_what_to_do() {
    let mut nothing = order(JobKind::Backup);
    assert!(args(14, &nothing).unwrap_err().contains("add one"));
    nothing.args = vec!["etc".to_owned()];
    assert!(args(14, &nothing).unwrap_err().contains("not an absolute path"));
    nothing.args = vec!["/etc\0".to_owned()];
    assert!(args(14, &nothing).unwrap_err().contains("zero byte"));
    nothing.args = vec![format!("/{}", "x".repeat(1 << 20))];
    assert!(args(14, &nothing).unwrap_err().contains("over the limit"));
    nothing.args = vec!["/etc".to_owned()];
    nothing.host_label = String::new();
    assert!(args(14, &nothing).unwrap_err().contains("host name"));
    for kind in [JobKind::Forget, JobKind::Prune, JobKind::Runbook("say".to_owned())] {
        let error = args(14, &order(kind.clone())).unwrap_err();
        assert!(error.contains(&format!("this agent does not run {kind} yet")), "{error}");
    }
}

fn restore(snapshot: &str, overwrite: Overwrite) -> CommandRun {
    let paths = vec!["/etc/a[1]*".to_owned()];
    let mut order = order(JobKind::Restore);
    order.restore = Some(RestoreSpec {
        snapshot: snapshot.to_owned(),
        paths,
        target: "/restore".to_owned(),
        overwrite,
        dry_run: false,
        source_host: None,
    });
    order
}

#[test]
fn a_restore_of_the_latest_snapshot_means_this_hosts_and_paths_are_literal() {
    let wanted = ["restore", "--json", "--target=/restore", r"--include=/etc/a\[1\]\*", "--host=web-1", "--", "latest"];
    assert_eq!(args(14, &restore("latest", Overwrite::Always)).unwrap(), wanted);
    assert!(args(17, &restore("abcd1234", Overwrite::Never)).unwrap().contains(&"--overwrite=never".to_owned()));
}

#[test]
fn a_restore_that_this_restic_or_nobody_can_do_is_refused() {
    assert!(args(16, &restore("abcd1234", Overwrite::Never)).unwrap_err().contains("needs restic 0.17"));
    for snapshot in ["--help", "", "xyz", "abc", "latest:/etc"] {
        assert!(
            args(19, &restore(snapshot, Overwrite::Always)).unwrap_err().contains("no snapshot's id"),
            "{snapshot}"
        );
    }
}

#[test]
fn a_repository_cannot_make_restic_run_other_programs() {
    for name in [
        "LD_PRELOAD",
        "PATH",
        "RESTIC_PASSWORD_COMMAND",
        "RESTIC_PASSWORD_FILE",
        "AWS_X=Y",
        "",
        "RCLONE_PASSWORD_COMMAND",
        "RCLONE_CONFIG_X_SSH",
        "RCLONE_CONFIG_X_BEARER_TOKEN_COMMAND",
        "RCLONE_SFTP_SSH",
        "RCLONE_RC",
        "RCLONE_LOG_FILE",
        "RCLONE_METADATA_MAPPER",
        "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
    ] {
        let mut repo = repo();
        repo.env.insert(name.to_owned(), "x".into());
        assert!(session(14, &repo).unwrap_err().to_string().contains("not allowed"), "{name}");
    }
    let mut repo = repo();
    for name in ["AWS_ACCESS_KEY_ID", "RCLONE_CONFIG", "RCLONE_CONFIG_PASS", "RCLONE_CONFIG_X_TYPE", "RCLONE_BWLIMIT"] {
        repo.env.insert(name.to_owned(), "key".into());
    }
    assert!(session(14, &repo).is_ok());
}

#[cfg(unix)]
#[test]
fn the_tls_authority_becomes_a_private_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut repo = repo();
    repo.tls_ca_pem = Some("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n".to_owned());
    let state = tempfile::tempdir().unwrap();
    let restic = Restic { path: "/usr/bin/restic".into(), version: ResticVersion::OLDEST };
    let launch = Session::open(restic, &repo, state.path()).unwrap().look();
    assert_eq!(launch.args[0], "--cacert");
    let mode = std::fs::metadata(&launch.args[1]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    repo.tls_ca_pem = Some("not a certificate".to_owned());
    assert!(session(14, &repo).unwrap_err().to_string().contains("no PEM certificate"));
}

#[test]
fn other_kinds_of_repositories_get_their_address_by_pipe_and_their_keys_by_environment() {
    for (url, variables) in [
        ("sftp:backup@host:/srv/repo", &[][..]),
        ("s3:https://s3.example/bucket", &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"]),
        ("b2:bucket:path", &["B2_ACCOUNT_ID", "B2_ACCOUNT_KEY"]),
        ("azure:container:/", &["AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_KEY"]),
        ("gs:bucket:/", &["GOOGLE_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS"]),
        ("rclone:remote:path", &["RCLONE_CONFIG_REMOTE_TYPE"]),
    ] {
        let (username, auth_password) = (None, None);
        let mut repo = RepoSpec { url: url.to_owned(), username, auth_password, ..repo() };
        repo.env = variables.iter().map(|name| ((*name).to_owned(), Secret::new(format!("value of {name}")))).collect();
        let launch = session(14, &repo).unwrap().look();
        assert_eq!(launch.secrets[1].content.expose(), url);
        assert!(!launch.args.iter().any(|arg| arg.to_string_lossy().contains(url)), "{url}");
        for name in variables {
            let value = launch.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
            assert_eq!(value, Some(format!("value of {name}").as_str()), "{url}");
        }
    }
}

#[test]
fn a_copy_reads_from_the_first_and_writes_to_the_second_repository_with_the_secrets_of_both() {
    let spec = flotilla_proto::CopySpec {
        to: RepoId::from_parts(1, 2),
        snapshots: vec!["abcd1234".to_owned()],
        of: Default::default(),
    };
    // Both belong to one agent.
    let state = tempfile::tempdir().unwrap();
    let open = |repo: &RepoSpec| {
        let restic = Restic { path: "/usr/bin/restic".into(), version: ResticVersion::OLDEST };
        Session::open(restic, repo, state.path()).unwrap()
    };
    let other = |key: &str| {
        let mut repo = RepoSpec { url: "/srv/other".to_owned(), username: None, auth_password: None, ..repo() };
        repo.env.insert("AWS_ACCESS_KEY_ID".to_owned(), key.into());
        open(&repo)
    };
    let launch = open(&repo()).copy(&other("a"), &spec).unwrap();
    assert_eq!(launch.args, words(&["copy", "--", "abcd1234"]));
    let secrets: Vec<_> = launch.secrets.iter().map(|secret| (secret.file_variable, secret.content.expose())).collect();
    assert_eq!(secrets[1], ("RESTIC_REPOSITORY_FILE", "/srv/other"));
    assert_eq!(secrets[2], ("RESTIC_FROM_PASSWORD_FILE", "planted-repo-password"));
    assert_eq!(secrets[3].0, "RESTIC_FROM_REPOSITORY_FILE");
    assert!(launch.env.iter().any(|(name, value)| name == "AWS_ACCESS_KEY_ID" && value == "a"));
    let error = other("a").copy(&other("b"), &spec).unwrap_err().to_string();
    assert!(error.contains("both repositories set AWS_ACCESS_KEY_ID"), "{error}");
}

/// Each id is 64 digits; the system counts its end and a pointer to it too. It gives the words of a command a quarter of the stack's bound, and 128 KiB where that
/// is less; each word by itself may have 128 KiB. The keeper hands them on twice.
#[cfg(unix)]
#[test]
fn as_many_ids_as_one_command_takes_fit_into_one() {
    use std::process::Command;
    let ids: Vec<String> = (0..MOST_IDS).map(|n| format!("{n:064x}")).collect();
    assert!(MOST_IDS > 6_500 && MOST_IDS * (64 + 1 + size_of::<usize>()) < MAX_ARGS_BYTES);
    let twice = "exec /bin/sh -c 'echo $#' inner \"$@\"";
    let output = Command::new("/bin/sh").args(["-c", twice, "outer"]).args(&ids).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), MOST_IDS.to_string(), "{output:?}");
}
