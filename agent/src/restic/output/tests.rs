use super::*;
use crate::restic::replay::{VERSIONS, play};
use flotilla_proto::{Record, Stream};

#[test]
fn no_line_of_any_captured_run_reaches_the_log_as_raw_json() {
    for version in VERSIONS {
        for (case, task) in [
            ("backup.first_json", Task::Backup),
            ("backup.unreadable_json", Task::Backup),
            ("backup.verbose2_json", Task::Backup),
            ("backup.sigint_json", Task::Backup),
            ("backup.locked_exclusive_json", Task::Backup),
            ("restore.json", Task::Restore),
            ("restore.verbose2_json", Task::Restore),
            ("restore.disk_full_json", Task::Restore),
            ("check.damaged_read_data_json", Task::Check),
            ("stats.raw_data_json", Task::Stats),
            ("init.ok_json", Task::Other),
        ] {
            for (_, line) in play(version, case, task).lines {
                // A capture that was cut to a size may end inside of a line.
                let cut_capture = serde_json::from_str::<serde_json::Value>(&line).is_err();
                assert!(!line.starts_with('{') || cut_capture, "{version} {case}: {line}");
                assert!(!line.contains(['\n', '\r', '\u{1b}']), "{version} {case}: {line:?}");
            }
        }
    }
}

#[test]
fn a_backup_reads_like_restics_own_text() {
    let played = play("0.18", "backup.first_json", Task::Backup);
    assert_eq!(
        played.text(),
        "Files: 10 new, 0 changed, 0 unmodified\n\
         Dirs:  10 new, 0 changed, 0 unmodified\n\
         Added to the repository: 319.3 KiB (297.4 KiB stored)\n\
         processed 10 files, 312.7 KiB in 0.6 s\n\
         snapshot dc48e6c40eed177f04b5a8455913494729a4fa895898d50da0426558b0ee5934 saved"
    );
}

#[test]
fn the_short_snapshot_id_of_0_14_is_taken_as_it_is() {
    let end = play("0.14", "backup.first_json", Task::Backup).transcript.backup.unwrap();
    assert_eq!((end.snapshot_id.as_deref(), end.data_added_packed), (Some("5d2d2eac"), None));
}

#[test]
fn a_file_reported_by_scan_and_archiver_is_logged_once_on_stderr() {
    for version in VERSIONS {
        let played = play(version, "backup.unreadable_json", Task::Backup);
        let errors: Vec<_> = played.lines.iter().filter(|(_, line)| line.contains("lockeddir")).collect();
        assert_eq!(errors.len(), 1, "{version}: {errors:?}");
        assert_eq!(errors[0].0, Stream::Stderr);
        assert!(errors[0].1.starts_with("error: "));
        assert!(played.text().contains("secret.txt: permission denied") || version == "0.14", "{}", played.text());
    }
    let old = play("0.14", "backup.unreadable_json", Task::Backup).text();
    assert!(old.contains("error: /srv/t/nobody/src/secret.txt: open: permission denied"), "{old}");
}

#[test]
fn verbose_lines_are_readable_and_names_cannot_forge_lines() {
    for version in VERSIONS {
        let text = play(version, "backup.verbose2_json", Task::Backup).text();
        assert!(text.contains("unchanged /srv/t/"), "{version}: {text}");
        assert!(text.contains("new\\nline.txt"), "{version}: {text}");
        assert!(text.contains("bad\u{fffd}\u{fffd}name.txt"), "{version}: {text}");
        assert!(text.contains("scan finished in "), "{version}: {text}");
    }
    let new = r#"{"message_type":"verbose_status","action":"new","item":"/a","duration":0.057,"data_size":184000,"metadata_size":115}"#;
    let Event::Item(item) = read(Task::Backup, new) else { panic!("not an item") };
    assert_eq!(super::super::summary::item_line(&item), "new       /a, saved in 0.057s (179.8 KiB added)");
}

#[test]
fn progress_is_typed_and_bounded() {
    let line = r#"{"message_type":"status","seconds_remaining":28966769456846,"percent_done":0.25,"total_files":60,"files_done":47,"total_bytes":400,"bytes_done":100,"current_files":["/a","/b"]}"#;
    let Event::Progress(progress) = read(Task::Backup, line) else { panic!("not progress") };
    assert_eq!((progress.percent, progress.eta_s, progress.current.as_deref()), (25.0, None, Some("/a")));
    let line = r#"{"message_type":"status","percent_done":0.5,"total_files":4,"files_restored":1,"files_skipped":1,"bytes_restored":7}"#;
    let Event::Progress(progress) = read(Task::Restore, line) else { panic!("not progress") };
    assert_eq!((progress.files_done, progress.bytes_done), (2, 7));
    assert!(
        play("0.18", "backup.sigint_json", Task::Backup).progress.len() < 3,
        "replayed at once: one a second at most"
    );
}

#[test]
fn quirks_of_single_versions_are_tolerated() {
    let skipped = play("0.18", "backup.skip_if_unchanged_json", Task::Backup);
    assert_eq!(skipped.transcript.backup.unwrap().snapshot_id, None);
    let broken = r#"{"message_type":"summary","num_errors":0,"broken_packs":null}"#;
    assert!(matches!(read(Task::Check, broken), Event::Check(end) if end.broken_packs.is_empty()));
    assert!(matches!(read(Task::Restore, r#"{"message_type":"summary"}"#), Event::Restore(_)));
    let nested = r#"{"message_type":"error","error":{},"during":"archival","item":"/x"}"#;
    assert!(matches!(read(Task::Backup, nested), Event::FileError { item, .. } if item == "/x"));
}

#[test]
fn what_is_not_understood_stays_text() {
    for line in [
        "",
        "plain",
        "{",
        "[",
        "{}",
        "[]x",
        "null",
        r#"{"message_type":1}"#,
        r#"{"message_type":"from the future","a":1}"#,
        r#"{"message_type":"status","percent_done":"many"}"#,
    ] {
        for task in [Task::Backup, Task::Restore, Task::Check, Task::Snapshots, Task::Other] {
            assert_eq!(read(task, line), Event::Text, "{line}");
        }
    }
}

#[test]
fn a_lock_message_of_several_lines_becomes_several_log_lines() {
    let played = play("0.18", "backup.locked_exclusive_json", Task::Backup);
    assert_eq!(played.lines.len(), 4, "{:?}", played.lines);
    assert!(played.lines.iter().all(|(stream, _)| *stream == Stream::Stderr));
}

#[test]
fn a_list_of_snapshots_becomes_a_record_each() {
    let played = play("0.14", "snapshots.json", Task::Snapshots);
    let Some(Record::Snapshot(first)) = Record::of_line(&played.lines[0].1) else { panic!("{:?}", played.lines) };
    assert_eq!(
        (first.id.len(), first.hostname.as_str(), first.paths.as_slice()),
        (64, "agent01", &["/srv/t/0.14/src".to_owned()][..])
    );
    assert_eq!(first.tags, ["daily", "job-42", "policy-a"]);
    assert_eq!((played.lines.len(), played.transcript.listing.count, played.transcript.listing.whole), (2, 2, true));
}
