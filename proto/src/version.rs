//! Protocol versions and how two ranges agree on one. The rule lives in one function that says why not.

use serde::{Deserialize, Serialize};

/// A version of the agent protocol. Within one, fields and types are only added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(pub u16);

/// An inclusive range of versions that one side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest version spoken.
    pub min: ProtocolVersion,
    /// The newest version spoken.
    pub max: ProtocolVersion,
}

/// What this build speaks.
pub const PROTOCOL: VersionRange = VersionRange { min: ProtocolVersion(1), max: ProtocolVersion(1) };

/// Why two sides cannot talk, in words that tell which one to update.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionMismatch {
    /// The other side is too old.
    #[error("the agent speaks protocol {theirs} at most and this server needs {ours} or newer: update the agent", theirs = .theirs.0, ours = .ours.0)]
    AgentTooOld {
        /// Newest version of the agent.
        theirs: ProtocolVersion,
        /// Oldest version of the server.
        ours: ProtocolVersion,
    },
    /// The other side is too new.
    #[error("the agent needs protocol {theirs} or newer and this server speaks {ours} at most: update the server", theirs = .theirs.0, ours = .ours.0)]
    AgentTooNew {
        /// Oldest version of the agent.
        theirs: ProtocolVersion,
        /// Newest version of the server.
        ours: ProtocolVersion,
    },
    /// A range whose end is before its start.
    #[error("the agent names an empty range of protocol versions ({min} to {max})", min = .0.min.0, max = .0.max.0)]
    Empty(VersionRange),
}

impl VersionRange {
    /// The newest version that the server (`self`) and the agent (`agent`) both speak.
    ///
    /// # Errors
    /// [`VersionMismatch`] where there is none, with the side to update.
    pub fn agree(self, agent: Self) -> Result<ProtocolVersion, VersionMismatch> {
        if agent.min > agent.max {
            return Err(VersionMismatch::Empty(agent));
        }
        if agent.max < self.min {
            return Err(VersionMismatch::AgentTooOld { theirs: agent.max, ours: self.min });
        }
        if agent.min > self.max {
            return Err(VersionMismatch::AgentTooNew { theirs: agent.min, ours: self.max });
        }
        Ok(self.max.min(agent.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: u16, max: u16) -> VersionRange {
        VersionRange { min: ProtocolVersion(min), max: ProtocolVersion(max) }
    }

    #[test]
    fn the_newest_common_version_is_agreed_on() {
        assert_eq!(range(1, 3).agree(range(2, 5)), Ok(ProtocolVersion(3)));
        assert_eq!(range(1, 1).agree(range(1, 1)), Ok(ProtocolVersion(1)));
    }

    #[test]
    fn a_mismatch_says_which_side_to_update() {
        assert!(range(3, 4).agree(range(1, 2)).unwrap_err().to_string().ends_with("update the agent"));
        assert!(range(1, 2).agree(range(3, 4)).unwrap_err().to_string().ends_with("update the server"));
        assert!(matches!(range(1, 2).agree(range(2, 1)), Err(VersionMismatch::Empty(_))));
    }
}
