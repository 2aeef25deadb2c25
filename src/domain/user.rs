//! People and what they may do. Roles are ordered: an admin may all that an operator may, an operator all that a viewer may.

use std::{fmt, str::FromStr};

use crate::domain::{Timestamp, UserId};

/// What someone may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and run.
    Operator,
    /// All, users and secrets among it.
    Admin,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("no role is called {text:?}: it is admin, operator or viewer"))
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Identity.
    pub id: UserId,
    /// Log-in name, unique without regard to case.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Whether the account is closed.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Least characters of a password. Longer is the only rule that helps (NIST SP 800-63B).
pub const MIN_PASSWORD: usize = 10;

/// Whether a password may be set.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check_password(password: &str) -> Result<(), &'static str> {
    if password.chars().count() < MIN_PASSWORD {
        return Err("must have at least 10 characters");
    }
    if password.len() > 1024 {
        return Err("must have at most 1024 bytes");
    }
    Ok(())
}
