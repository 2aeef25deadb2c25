//! Errands: HTTP requests that a running job makes of its server, beside the WebSocket. Their paths and bodies; who may ask is the server's to decide.

use serde::{Deserialize, Serialize};

use crate::{FateRecord, HeldBack, JobId};

/// Longest body of a [`GuardRequest`] in bytes; a longer one is refused with 413.
pub const MAX_GUARD_BYTES: usize = 32 << 20;

/// `POST` here with a [`GuardRequest`]; answered by 200 and a [`GuardAnswer`].
#[must_use]
pub fn guard_path(job: JobId) -> String {
    format!("/agent/jobs/{job}/guard")
}

/// `POST` here with the bytes of a `dump`; answered by 204 once the browser has them.
#[must_use]
pub fn download_path(job: JobId) -> String {
    format!("/agent/jobs/{job}/download")
}

/// What restic's rules would do, for the retention guard to decide upon.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GuardRequest {
    /// Nothing will be removed whatever the answer is; it is for people to read.
    #[serde(default)]
    pub dry_run: bool,
    /// Every snapshot that the rules were about, each with what keeps it.
    pub fates: Vec<FateRecord>,
}

/// What may go. An agent removes these and no others, whatever the rules say.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GuardAnswer {
    /// Full ids.
    pub remove: Vec<String>,
    /// What the rules would remove and that stays, each with why.
    #[serde(default)]
    pub held: Vec<HeldBack>,
    /// Nothing may go until a person decides; the words say why.
    #[serde(default)]
    pub stopped: Option<String>,
}
