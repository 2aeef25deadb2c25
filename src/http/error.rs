//! Errors as answers: RFC 9457 problems for programs, a plain page for people. A 5xx says nothing of its cause to the caller; the log says it once, here.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    credential::CredentialError,
    domain::{FieldError, JobId, JobKind, queue::Holder},
    ops::{OpError, accounts::AccountError},
    store::StoreError,
    views::format,
};

/// The body of an error, `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:flotilla:CODE`: stable, for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, why, and what to do.
    pub detail: String,
    /// Fields that do not hold what they should.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Of `host_busy`: the job that stands in the way, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderView>,
}

/// A job that stands in the way of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HolderView {
    /// Which.
    #[schema(value_type = String)]
    pub job_id: JobId,
    /// What it does.
    #[schema(value_type = String)]
    pub kind: JobKind,
    /// On which host.
    pub host_name: String,
}

impl From<&Holder> for HolderView {
    fn from(holder: &Holder) -> Self {
        Self { job_id: holder.id, kind: holder.kind.clone(), host_name: holder.host_name.clone() }
    }
}

/// An error of a handler: a [`Problem`] and headers that go with it.
#[derive(Debug)]
pub struct HttpError {
    problem: Box<Problem>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpError {
    /// An error of any kind. `code` is stable and for programs, `detail` is a sentence for people.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        let problem = Problem {
            kind: format!("urn:flotilla:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            holder: None,
        };
        Self { problem: Box::new(problem), headers: Vec::new() }
    }

    /// 400: the request can't be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "The request cannot be understood", detail)
    }

    /// 401: who are you?
    #[must_use]
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Log in first", detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: known, and not allowed.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404. `what` completes "there is no …".
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        let detail = format!("There is no {what}. It may have been removed, or the address is mistyped.");
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// 409: not in this state of things.
    #[must_use]
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "Not possible now", detail)
    }

    /// 413.
    #[must_use]
    pub fn too_large() -> Self {
        let detail = format!("The body is over the limit of {} bytes: send less at once.", super::BODY_LIMIT);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    /// 422: understood, but these fields do not do.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            _ => "Some fields do not hold what they should; see `errors`.".to_owned(),
        };
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Some fields are not right", detail);
        error.problem.errors = errors;
        error
    }

    /// 422 for one field.
    #[must_use]
    pub fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    /// 429, and when to come back.
    #[must_use]
    pub fn too_many(retry_after_s: u64, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", "Too many attempts", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_s.max(1)))
    }

    /// 500. The cause goes to the log, not to the caller.
    #[must_use]
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request failed by an internal error");
        let detail =
            "Something failed inside Flotilla. The server's log has the cause under this answer's x-request-id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// 503. The cause goes to the log, not to the caller.
    #[must_use]
    pub fn unavailable(cause: impl std::fmt::Display) -> Self {
        tracing::error!(error = %cause, "a request could not be served");
        let detail = "Flotilla cannot do this right now: its database does not take writes, or it is stopping. Try again; if it stays, look at the server's log.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available right now", detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from_static("5"))
    }

    /// The same with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What is said.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl IntoResponse for HttpError {
    /// A problem; where a person asked, [`super::edge`] makes a page of it.
    fn into_response(self) -> Response {
        let mut response = problem_response(&self.problem);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(*self.problem);
        response
    }
}

fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))], body).into_response()
}

impl From<StoreError> for HttpError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Closed | StoreError::Commit(_) => Self::unavailable(e),
            other => Self::internal(other),
        }
    }
}

impl From<CredentialError> for HttpError {
    fn from(e: CredentialError) -> Self {
        match e {
            CredentialError::Busy => {
                Self::too_many(2, "Too many passwords are being checked right now: try again in a moment.")
            }
            CredentialError::NoRandomness | CredentialError::Hashing => Self::internal(e),
        }
    }
}

impl From<AccountError> for HttpError {
    fn from(e: AccountError) -> Self {
        let text = e.to_string();
        match e {
            AccountError::NameTaken(_) => Self::invalid_field("name", text),
            AccountError::BadName(why) => Self::invalid_field("name", why),
            AccountError::BadPassword(why) => Self::invalid_field("password", why),
            AccountError::BadLabel(why) => Self::invalid_field("label", why),
            AccountError::RoleTooHigh(_) => Self::invalid_field("role", text),
            AccountError::BadExpiry => Self::invalid_field("expires_in_s", text),
            AccountError::WrongPassword => Self::invalid_field("current_password", text),
            AccountError::LastAdmin => {
                Self::conflict("last_admin", "This is the last administrator: make another one first.")
            }
            AccountError::Disabled => Self::conflict("disabled", "The account is disabled: enable it first."),
            AccountError::NoSuchUser => Self::not_found("such account"),
            AccountError::SetupClosed => Self::new(
                StatusCode::FORBIDDEN,
                "setup_closed",
                "This setup link is not valid",
                "The setup link is used up, outdated or mistyped. Restart Flotilla for a fresh one, or log in if there is an account already.",
            ),
            AccountError::Credential(e) => e.into(),
            AccountError::Store(e) => e.into(),
        }
    }
}

impl From<OpError> for HttpError {
    fn from(e: OpError) -> Self {
        match e {
            OpError::Invalid(errors) => Self::invalid(errors),
            OpError::NotFound(what) => Self::not_found(&format!("such {what}")),
            OpError::Conflict(detail) => Self::conflict("conflict", format::sentence(&detail)),
            OpError::Busy { ref waits_for, .. } => {
                let mut error = Self::conflict("host_busy", format::sentence(&e.to_string()));
                error.problem.holder = waits_for.holder().map(HolderView::from);
                error
            }
            OpError::Vault(e) => Self::internal(e),
            OpError::Credential(e) => e.into(),
            OpError::Store(e) => e.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_5xx_says_nothing_of_its_cause() {
        let error = HttpError::from(StoreError::Corrupt("secret column".to_owned()));
        assert_eq!(error.problem().status, 500);
        assert!(!serde_json::to_string(error.problem()).unwrap().contains("secret column"));
        assert_eq!(HttpError::from(StoreError::Closed).problem().status, 503);
    }
}
