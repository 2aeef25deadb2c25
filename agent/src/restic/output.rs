//! One line of restic's output, of any version from 0.14 to 0.19, as a typed event. Pure; what a line means depends on
//! the line alone and on what was asked of restic. Anything that is not understood stays text and is never lost.

use flotilla_proto::{BackupSummary, JobProgress};
use serde::{Deserialize, Deserializer, Serialize};

/// What restic was asked to do; the same `message_type` has other fields for each. What it lists is read by [`super::records`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Backup,
    Restore,
    Check,
    Snapshots,
    Ls,
    Find,
    Diff,
    Stats,
    /// Prints nothing that is worth a type.
    Other,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Progress(JobProgress),
    Backup(BackupSummary),
    Restore(RestoreSummary),
    Check(CheckSummary),
    Stats(serde_json::Map<String, serde_json::Value>),
    /// A file or folder was handled (`--verbose=2`).
    Item(Item),
    ScanFinished {
        files: u64,
        bytes: u64,
        seconds: f64,
    },
    /// A file or folder could not be read or written.
    FileError {
        item: String,
        message: String,
    },
    /// An error without an item (`check`).
    Problem(String),
    /// restic's last word.
    ExitError(String),
    Initialized {
        id: String,
    },
    /// Anything else, as it came.
    Text,
}

/// `verbose_status` of a backup or a restore.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Item {
    pub(crate) action: String,
    pub(crate) item: String,
    pub(crate) duration: f64,
    pub(crate) data_size: u64,
    pub(crate) metadata_size: u64,
    pub(crate) total_files: u64,
    /// Restores only.
    pub(crate) size: Option<u64>,
}

/// `summary` of a restore (0.16 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RestoreSummary {
    pub(crate) total_files: u64,
    pub(crate) files_restored: u64,
    pub(crate) files_skipped: u64,
    pub(crate) total_bytes: u64,
    pub(crate) bytes_restored: u64,
}

/// `summary` of a check (0.18 and later).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CheckSummary {
    pub(crate) num_errors: u64,
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) broken_packs: Vec<String>,
    pub(crate) suggest_repair_index: bool,
    pub(crate) suggest_prune: bool,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Head {
    message_type: String,
    #[serde(default)]
    action: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    seconds_remaining: u64,
    percent_done: f64,
    total_files: u64,
    files_done: u64,
    files_restored: u64,
    files_skipped: u64,
    total_bytes: u64,
    bytes_done: u64,
    bytes_restored: u64,
    bytes_skipped: u64,
    current_files: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorMessage {
    error: ErrorDetail,
    item: String,
    /// `check` puts it at the top.
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorDetail {
    message: String,
    #[serde(rename = "Op")]
    op: String,
    #[serde(rename = "Err")]
    errno: Option<i32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Plain {
    message: String,
    id: String,
}

/// More than this is not an estimate: for input of unknown size restic prints centuries.
const LONGEST_ETA_S: u64 = 366 * 24 * 3600;

/// Reads one line.
pub(crate) fn read(task: Task, line: &str) -> Event {
    let line = line.trim();
    if line.starts_with('{') { read_object(task, line).unwrap_or(Event::Text) } else { Event::Text }
}

fn read_object(task: Task, line: &str) -> Option<Event> {
    let Ok(head) = serde_json::from_str::<Head>(line) else {
        return match task {
            Task::Stats => serde_json::from_str(line).ok().map(Event::Stats),
            _ => None,
        };
    };
    Some(match (head.message_type.as_str(), head.action.as_deref()) {
        // Until 0.15 the end of the scan was sent as a status.
        ("status" | "verbose_status", Some(action)) => item(action, line)?,
        ("status", None) => Event::Progress(parse::<Status>(line)?.progress()),
        ("summary", _) => match task {
            Task::Backup => Event::Backup(parse::<BackupSummary>(line)?),
            Task::Restore => Event::Restore(parse(line)?),
            Task::Check => Event::Check(parse(line)?),
            _ => return None,
        },
        ("error", _) => error(parse(line)?),
        ("exit_error", _) => Event::ExitError(parse::<Plain>(line)?.message),
        ("initialized", _) => Event::Initialized { id: parse::<Plain>(line)?.id },
        _ => return None,
    })
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str) -> Option<T> {
    serde_json::from_str(line).ok()
}

fn item(action: &str, line: &str) -> Option<Event> {
    let item: Item = parse(line)?;
    Some(if action == "scan_finished" {
        Event::ScanFinished { files: item.total_files, bytes: item.data_size, seconds: item.duration.max(0.0) }
    } else {
        Event::Item(item)
    })
}

fn error(error: ErrorMessage) -> Event {
    if error.item.is_empty() {
        let text = if error.message.is_empty() { error.error.message } else { error.message };
        return Event::Problem(text);
    }
    let ErrorDetail { message, op, errno } = error.error;
    let message = match errno {
        _ if !message.is_empty() => message,
        // 0.14 sends Go's error value: a number where it has one, an empty object where not.
        Some(number) => {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            format!("{op}: {text}").trim_start_matches(": ").to_owned()
        }
        None => "could not be read (this restic does not say why)".to_owned(),
    };
    Event::FileError { item: error.item, message }
}

impl Status {
    fn progress(self) -> JobProgress {
        JobProgress {
            job_id: None,
            percent: (self.percent_done * 100.0).clamp(0.0, 100.0),
            bytes_done: self.bytes_done.max(self.bytes_restored.saturating_add(self.bytes_skipped)),
            bytes_total: self.total_bytes,
            files_done: self.files_done.max(self.files_restored.saturating_add(self.files_skipped)),
            files_total: self.total_files,
            eta_s: (1..=LONGEST_ETA_S).contains(&self.seconds_remaining).then_some(self.seconds_remaining),
            current: self.current_files.unwrap_or_default().into_iter().next(),
            step: None,
        }
    }
}

#[cfg(test)]
mod tests;
