//! Errands: what a running job asks its server over HTTP by itself, with the agent's token. Unknown fields are ignored on both sides.

use serde::{Deserialize, Serialize};

use crate::{FateRecord, HeldBack};

/// `POST /agent/jobs/{id}/guard`: what may a forget remove?
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardRequest {
    /// restic's dry run: every snapshot that the rules are about, and what they say of it.
    pub fates: Vec<FateRecord>,
}

/// The answer. Where `stopped` is set, `remove` is empty.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardAnswer {
    /// Full ids that may go; nothing else may.
    pub remove: Vec<String>,
    /// Snapshots that no rule keeps and that stay, each with the reason.
    pub held: Vec<HeldBack>,
    /// Nothing may go until a person has looked: why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}
