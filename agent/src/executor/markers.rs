//! One small file per accepted job, on disk before the job is accepted and gone after its end. A file found at start
//! names a job that an earlier agent process did not finish. Holds no secrets.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{CommandRun, JobId, Timestamp};
use serde::Serialize;

use crate::platform;

#[derive(Serialize)]
struct Marker<'a> {
    job_id: JobId,
    kind: &'a str,
    accepted_at: Timestamp,
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("jobs")
}

fn file(state_dir: &Path, job: JobId) -> PathBuf {
    folder(state_dir).join(format!("{job}.json"))
}

pub(super) fn write(state_dir: &Path, order: &CommandRun, accepted_at: Timestamp) -> io::Result<()> {
    platform::private_dir(&folder(state_dir))?;
    let marker = Marker { job_id: order.job_id, kind: order.kind.as_str(), accepted_at };
    platform::write_private(&file(state_dir, order.job_id), &serde_json::to_vec(&marker)?)
}

/// Jobs that an earlier agent process accepted and did not finish, oldest first.
///
/// # Errors
/// Where the folder exists but can't be read.
pub fn leftovers(state_dir: &Path) -> io::Result<Vec<JobId>> {
    let entries = match fs::read_dir(folder(state_dir)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut jobs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        jobs.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|id| id.parse::<JobId>().ok()));
    }
    jobs.sort_unstable();
    Ok(jobs)
}

/// Removes a job's file: its end has been told. A file that is gone already is fine.
///
/// # Errors
/// Where the file is there and can't be removed.
pub fn forget_leftover(state_dir: &Path, job: JobId) -> io::Result<()> {
    match fs::remove_file(file(state_dir, job)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
