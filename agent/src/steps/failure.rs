//! What went wrong with a step: of which class, for whoever decides by it, and in words, for people. A class comes from the typed error below it, never from its words.

use std::fmt;

use flotilla_proto::FailureClass;

/// See the module. A plain text is of the class `other`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    /// What happened, why, what to do.
    pub(crate) why: String,
}

impl Failure {
    pub(crate) fn new(class: FailureClass, why: impl Into<String>) -> Self {
        Self { class, why: why.into() }
    }

    /// Of this class where nothing more precise is known.
    pub(crate) fn or(self, class: FailureClass) -> Self {
        if self.class == FailureClass::Other { Self { class, ..self } } else { self }
    }

    /// With words around its own.
    pub(crate) fn told(self, tell: impl FnOnce(&str) -> String) -> Self {
        Self { why: tell(&self.why), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::new(FailureClass::Other, why)
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        Self::new(FailureClass::Other, why)
    }
}

#[cfg(feature = "ssh")]
mod over_ssh {
    use flotilla_proto::FailureClass as Class;

    use super::Failure;
    use crate::ssh::{SshError, TransferError};

    fn class(error: &SshError) -> Class {
        match error {
            SshError::Key(_) | SshError::AuthenticationRefused { .. } => Class::Authentication,
            SshError::HostKeyUnknown { .. } | SshError::HostKeyChanged { .. } => Class::HostKey,
            SshError::NotResolved { .. }
            | SshError::Refused { .. }
            | SshError::Unreachable { .. }
            | SshError::TimedOut { .. }
            | SshError::NotSsh { .. }
            | SshError::Dropped { .. } => Class::Unreachable,
            SshError::Input { .. }
            | SshError::ChannelRefused { .. }
            | SshError::NoBash { .. }
            | SshError::Protocol { .. } => Class::Other,
        }
    }

    impl From<SshError> for Failure {
        fn from(error: SshError) -> Self {
            Self::new(class(&error), error.to_string())
        }
    }

    impl From<TransferError> for Failure {
        fn from(error: TransferError) -> Self {
            let class = match &error {
                TransferError::Ssh(error) => class(error),
                TransferError::Cut { source, .. } => class(source),
                TransferError::DiskFull { .. } => Class::DiskFull,
                TransferError::NoSftp { .. }
                | TransferError::NoSuchFile { .. }
                | TransferError::Denied { .. }
                | TransferError::NotAFile { .. }
                | TransferError::Damaged { .. }
                | TransferError::Failed { .. } => Class::Transfer,
            };
            Self::new(class, error.to_string())
        }
    }
}
