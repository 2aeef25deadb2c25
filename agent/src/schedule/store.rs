//! The scheduler's two files: `schedule/set`, sealed because orders hold repository credentials, and `schedule/state.json`. Each is replaced whole and is
//! on disk when a write returns. What can't be read is said and then treated as absent: the server sends the set again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flotilla_proto::{HostId, ScheduleEntry, Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::state::State;
use crate::{platform, seal::Seal};

/// The set as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct HeldSet {
    pub(super) version: u64,
    pub(super) received_at: Timestamp,
    pub(super) entries: Vec<ScheduleEntry>,
}

/// A file of the scheduler can't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {source}; check the free space and the permissions of the agent's state folder", path = path.display())]
pub(crate) struct ScheduleStoreError {
    path: PathBuf,
    source: io::Error,
}

/// What was wrong with a file that was found.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sealed(#[from] crate::seal::SealError),
    #[error("it is damaged or of another version: {0}")]
    Content(#[from] serde_json::Error),
    #[error("it belongs to an earlier enrolment of this host")]
    Foreign,
}

pub(super) struct Store {
    folder: PathBuf,
    seal: Seal,
    host_id: HostId,
}

/// Associated data of the sealed set.
const SET: &str = "schedule/set";

impl Store {
    pub(super) fn new(state_dir: &Path, seal: Seal, host_id: HostId) -> Self {
        Self { folder: state_dir.join("schedule"), seal, host_id }
    }

    fn set_path(&self) -> PathBuf {
        self.folder.join("set")
    }

    fn state_path(&self) -> PathBuf {
        self.folder.join("state.json")
    }

    pub(super) fn read_set(&self) -> Option<HeldSet> {
        let again = "the server sends the set again at the next connection; until then no schedule is in force";
        found(&self.set_path(), again, |content| {
            let plain = self.seal.open(SET, content)?;
            Ok(serde_json::from_slice(&plain)?)
        })
    }

    pub(super) fn read_state(&self) -> Option<State> {
        let anew = "schedules go on from now, and moments that were missed or not yet reported are forgotten";
        found(&self.state_path(), anew, |content| {
            let state: State = serde_json::from_slice(content)?;
            if state.host_id == self.host_id { Ok(state) } else { Err(Unreadable::Foreign) }
        })
    }

    pub(super) fn write_set(&self, set: &HeldSet) -> Result<(), ScheduleStoreError> {
        let sealed = || {
            let plain = Zeroizing::new(serde_json::to_vec(set)?);
            self.seal.seal(SET, &plain).map_err(io::Error::other)
        };
        self.write(self.set_path(), sealed)
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), ScheduleStoreError> {
        self.write(self.state_path(), || Ok(serde_json::to_vec(state)?))
    }

    fn write(&self, path: PathBuf, content: impl FnOnce() -> io::Result<Vec<u8>>) -> Result<(), ScheduleStoreError> {
        let written = platform::private_dir(&self.folder)
            .and_then(|()| content())
            .and_then(|content| platform::write_private(&path, &content));
        written.map_err(|source| ScheduleStoreError { path, source })
    }
}

fn found<T>(path: &Path, then: &str, read: impl FnOnce(&[u8]) -> Result<T, Unreadable>) -> Option<T> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        content => content.map(Zeroizing::new).map_err(Unreadable::Io),
    };
    content
        .and_then(|content| read(&content))
        .inspect_err(
            |error| tracing::warn!(path = %path.display(), %error, "a file of the schedules can't be used: {then}"),
        )
        .ok()
}
