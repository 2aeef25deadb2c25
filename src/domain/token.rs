//! Records of tokens: what a token is for and until when. The secret itself is shown once and kept as a hash only.

use crate::domain::{Timestamp, TokenId, UserId, user::Role};

/// An API token's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Identity.
    pub id: TokenId,
    /// Whose it is.
    pub user_id: UserId,
    /// What it is for.
    pub label: String,
    /// What it may do; never more than its user.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
    /// Last use that was written down.
    pub last_used_at: Option<Timestamp>,
}

/// An enrolment token's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolToken {
    /// Identity.
    pub id: TokenId,
    /// Name for the host that uses it.
    pub host_name: Option<String>,
    /// Tags for the host that uses it.
    pub tags: Vec<String>,
    /// How many hosts may still use it.
    pub uses_left: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}
