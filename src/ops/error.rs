//! Why an operation on repositories, plans or jobs was not done: each case is one kind of answer, with what to do in its text.

use crate::{
    credential::CredentialError,
    domain::{FieldError, queue::WaitsFor},
    store::StoreError,
    vault::VaultError,
};

/// Why something was not done. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// Fields that do not hold what they should; at least one.
    #[error("{}", summary(.0))]
    Invalid(Vec<FieldError>),
    /// There is no such thing; the word says what was looked for.
    #[error("there is no such {0}: it was removed, or the id is of something else")]
    NotFound(&'static str),
    /// It does not fit what is there: a name that is taken, something that is in use.
    #[error("{0}")]
    Conflict(String),
    /// A job that must not wait would have to.
    #[error("{host} cannot start the job at once, and it was not to be queued: it would wait for {}. Try again later, or let it wait", .waits_for.text())]
    Busy {
        /// The job's host.
        host: String,
        /// What for.
        waits_for: Box<WaitsFor>,
    },
    /// Secrets can't be sealed or opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No id could be made.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpError {
    /// A refusal for one field.
    #[must_use]
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, message)])
    }
}

fn summary(errors: &[FieldError]) -> String {
    let fields: Vec<String> = errors.iter().map(|error| format!("{} {}", error.field, error.message)).collect();
    fields.join("; ")
}

/// Gathers what is wrong with a request, so that all of it is said at once.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<FieldError>);

impl Problems {
    /// Notes a problem of a field.
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// The value; or, noted as the field's problem, nothing.
    pub(super) fn take<T>(&mut self, field: &str, checked: Result<T, impl Into<String>>) -> Option<T> {
        checked.map_err(|message| self.add(field, message)).ok()
    }

    /// All that was noted.
    pub(super) fn into_list(self) -> Vec<FieldError> {
        self.0
    }

    /// Refuses where something was noted.
    ///
    /// # Errors
    /// [`OpError::Invalid`] with all of it.
    pub(super) fn refuse(self) -> Result<(), OpError> {
        if self.0.is_empty() { Ok(()) } else { Err(OpError::Invalid(self.0)) }
    }
}
