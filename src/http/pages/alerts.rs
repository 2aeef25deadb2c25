//! Alerts: what is open, what was, and a person's word that one is settled.

use axum::response::Response;
use serde::Deserialize;

use crate::{
    http::{
        HttpError,
        extract::{Id, Query},
        pages::Ui,
    },
    ops::alerts as ops,
    paths::route,
    store::{
        StoreError,
        alerts::{self, AlertFilter},
    },
    views::{
        alerts::{AlertsPage, HISTORY_A_PAGE, by_gravity},
        components::Tone,
    },
};

/// Where the history goes on.
#[derive(Debug, Deserialize)]
pub struct AlertsQuery {
    after: Option<i64>,
}

/// `GET /alerts`.
///
/// # Errors
/// [`HttpError`] for a failure.
pub async fn list(ui: Ui, Query(query): Query<AlertsQuery>) -> Result<Response, HttpError> {
    let page = ui
        .store()
        .read(move |db| {
            let open = AlertFilter { open: Some(true), limit: 1000, ..AlertFilter::default() };
            let past = AlertFilter {
                open: Some(false),
                before: query.after,
                limit: HISTORY_A_PAGE + 1,
                ..AlertFilter::default()
            };
            let mut history = alerts::list(db, &past)?;
            let more = history.len() > HISTORY_A_PAGE as usize;
            history.truncate(HISTORY_A_PAGE as usize);
            Ok::<_, StoreError>(AlertsPage { open: by_gravity(alerts::list(db, &open)?), history, more })
        })
        .await?;
    ui.show(&page).await
}

/// `POST /alerts/{id}/clear`.
///
/// # Errors
/// 404; 409 where it is cleared already.
pub async fn clear(ui: Ui, Id(no): Id<i64>) -> Result<Response, HttpError> {
    ops::dismiss(ui.store(), ui.actor(), no).await?;
    Ok(ui.go_saying(route::ALERTS, Tone::Ok, "The alert is cleared. It comes back where its cause is seen again."))
}
