//! `/api/alerts`: what needs someone, and what did.

use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        Timestamp,
        alert::{Alert, AlertKind},
    },
    http::{
        AppState, CurrentUser, HttpError, Problem,
        api::{List, limit},
        extract::{Id, Query},
    },
    ops::alerts as ops,
    store::alerts::{self, AlertFilter},
};

/// An alert as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AlertView {
    /// Its number; higher ones were raised later.
    pub id: i64,
    /// What it is about.
    pub kind: AlertKind,
    /// The id of what it is about; with `kind` unique while it is open.
    pub subject: String,
    /// What happened, in one sentence.
    pub title: String,
    /// Why it matters and what to do.
    pub detail: String,
    /// The page where something can be done.
    pub link: String,
    /// When it was raised.
    #[schema(value_type = String, format = DateTime)]
    pub raised_at: Timestamp,
    /// When it was cleared; null while it is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cleared_at: Option<Timestamp>,
    /// Who cleared it; null where its cause was seen to be gone.
    pub cleared_by: Option<String>,
}

impl From<Alert> for AlertView {
    fn from(alert: Alert) -> Self {
        let Alert { no, notice, raised_at, cleared_at, cleared_by } = alert;
        Self {
            id: no,
            kind: notice.kind,
            subject: notice.subject,
            title: notice.title,
            detail: notice.detail,
            link: notice.link,
            raised_at,
            cleared_at,
            cleared_by: cleared_by.filter(|by| !by.is_empty()),
        }
    }
}

/// Which alerts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct AlertQuery {
    /// `true`: open ones only; `false`: cleared ones only.
    open: Option<bool>,
    /// The last id of the page before.
    after: Option<i64>,
    /// At most so many, 1 to 1000; 100 where absent.
    limit: Option<u32>,
}

/// Alerts, the last raised first.
///
/// # Errors
/// 422 for a query that does not do.
#[utoipa::path(get, path = "/api/alerts", tag = "alerts", params(AlertQuery),
    responses((status = 200, body = List<AlertView>), (status = 422, body = Problem)))]
pub async fn list(
    State(state): State<AppState>,
    Query(query): Query<AlertQuery>,
) -> Result<Answer<List<AlertView>>, HttpError> {
    let limit = limit(query.limit)?;
    let filter = AlertFilter { open: query.open, before: query.after, limit: limit + 1, ..AlertFilter::default() };
    let found = state.store.read(move |db| alerts::list(db, &filter)).await?;
    Ok(Answer(List::page(found, limit, |alert| alert.no.to_string(), AlertView::from)))
}

/// Clears an alert by a person's word; its cause may raise it again.
///
/// # Errors
/// 404; 409 where it is cleared already.
#[utoipa::path(post, path = "/api/alerts/{id}/clear", tag = "alerts", params(("id" = i64, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn clear(State(state): State<AppState>, user: CurrentUser, Id(no): Id<i64>) -> Result<StatusCode, HttpError> {
    ops::dismiss(&state.store, user.actor(), no).await?;
    Ok(StatusCode::NO_CONTENT)
}
