//! Alerts: what stands between a person and peace of mind. At most one is open per kind and subject; it is raised when the cause is seen,
//! and cleared when the cause is seen to be gone, or by a person's word.

use crate::domain::{FieldError, Timestamp};

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A check found damage. Subject: the repository.
    Damaged,
    /// A tamper test could delete or change what it should not. Subject: the repository.
    NotAppendOnly,
    /// A probe says that a service is not well. Subject: the probe.
    Unhealthy,
    /// The guard stopped a forget. Subject: the repository.
    ForgetStopped,
    /// A tamper test could not be done. Subject: the repository.
    TamperFailed,
    /// A repository is about to be full. Subject: the repository.
    NearlyFull,
    /// Snapshots have no second copy, for it failed. Subject: the plan.
    CopyBehind,
    /// A lock whose owner is gone. Subject: the repository.
    StaleLock,
}

impl AlertKind {
    /// All kinds, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Damaged,
        Self::NotAppendOnly,
        Self::Unhealthy,
        Self::ForgetStopped,
        Self::TamperFailed,
        Self::NearlyFull,
        Self::CopyBehind,
        Self::StaleLock,
    ];

    /// The word for it in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::NotAppendOnly => "not_append_only",
            Self::ForgetStopped => "forget_stopped",
            Self::TamperFailed => "tamper_failed",
            Self::NearlyFull => "nearly_full",
            Self::CopyBehind => "copy_behind",
            Self::StaleLock => "stale_lock",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// Whether data is lost or can be lost now; the others are warnings.
    #[must_use]
    pub fn is_grave(self) -> bool {
        matches!(self, Self::Damaged | Self::NotAppendOnly)
    }
}

impl std::str::FromStr for AlertKind {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            FieldError::new("kind", format!("is none of {}", known.join(", ")))
        })
    }
}

/// What an alert says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about; with `subject` the key while it is open.
    pub kind: AlertKind,
    /// The id of what it is about.
    pub subject: String,
    /// One sentence without a full stop, with the name of what it is about.
    pub title: String,
    /// Why it matters and what to do.
    pub detail: String,
    /// The page where something can be done, a path.
    pub link: String,
}

/// An alert as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its number: higher ones were raised later.
    pub no: i64,
    /// What it says, as last seen.
    pub notice: Notice,
    /// When it was raised.
    pub raised_at: Timestamp,
    /// When it was cleared.
    pub cleared_at: Option<Timestamp>,
    /// Who cleared it; empty where its cause was seen to be gone.
    pub cleared_by: Option<String>,
}
