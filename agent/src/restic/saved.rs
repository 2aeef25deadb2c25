//! The snapshot of a backup whose report was lost, as on a full disk: found in the repository by the tag that names the job. Its word counts as restic's own,
//! for a snapshot is saved last, after all that belongs to it.

use std::time::Duration;

use flotilla_proto::{BackupSummary, JobId, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{command::Session, preflight, redact::Redacted};

/// A snapshot with what restic noted in it of the run (0.17 and later).
#[derive(Deserialize)]
struct Saved {
    id: String,
    #[serde(default)]
    summary: Value,
}

#[derive(Deserialize)]
struct Span {
    backup_start: Timestamp,
    backup_end: Timestamp,
}

/// What the repository knows of the backup `job`; `None` where it has no snapshot of it. Counters that this restic does not keep are 0.
///
/// # Errors
/// Where the repository does not answer within `patience`, in words.
pub(crate) async fn find(
    session: &Session,
    job: JobId,
    patience: Duration,
    sink: &Redacted,
) -> Result<Option<BackupSummary>, String> {
    let text = preflight::answer(&session.snapshots_of(job), Instant::now() + patience, sink).await?;
    read(&text).map_err(|e| format!("its list of snapshots could not be read: {e}"))
}

fn read(text: &str) -> serde_json::Result<Option<BackupSummary>> {
    // restic may say something else first.
    let list = text.lines().find(|line| line.starts_with('[')).unwrap_or(text);
    // An order runs once at most; of more than one the last is as good as any.
    let Some(Saved { id, summary }) = serde_json::from_str::<Vec<Saved>>(list)?.pop() else { return Ok(None) };
    let seconds = Span::deserialize(&summary).ok().map(|span| span.backup_end.ms_since(span.backup_start));
    let counted: BackupSummary =
        if summary.is_null() { BackupSummary::default() } else { serde_json::from_value(summary)? };
    Ok(Some(BackupSummary {
        snapshot_id: Some(id),
        total_duration: seconds
            .map_or(0.0, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or_default()).as_secs_f64()),
        ..counted
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_tells_as_much_of_its_run_as_its_restic_noted() {
        let end = read(
            "[{\"time\":\"2026-11-21T09:53:31Z\",\"tags\":[\"flotilla\",\"job-1\"],\"summary\":{\"backup_start\":\"2026-11-21T09:53:31.5Z\",\
             \"backup_end\":\"2026-11-21T09:53:33Z\",\"files_new\":3,\"data_blobs\":1,\"data_added\":707,\"total_bytes_processed\":9},\"id\":\"9d0e\"}]\n",
        )
        .unwrap()
        .unwrap();
        assert_eq!((end.snapshot_id.as_deref(), end.files_new, end.data_added), (Some("9d0e"), 3, 707));
        assert!((end.total_duration - 1.5).abs() < 1e-9);
        let old = read("[{\"time\":\"2026-11-21T09:53:31Z\",\"id\":\"606a\"}]\n").unwrap().unwrap();
        assert_eq!(old, BackupSummary { snapshot_id: Some("606a".to_owned()), ..BackupSummary::default() });
        assert_eq!(read("[]\n").unwrap(), None);
        assert!(read("what is this").is_err());
    }
}
