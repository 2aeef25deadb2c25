//! The JSON API: its request and response types and handlers, by aggregate. The types are the documentation: the OpenAPI document is made of them.

pub mod accounts;
pub mod alerts;
pub mod database;
pub mod enrol;
pub mod hosts;
pub mod job_orders;
pub mod jobs;
pub mod lookups;
pub mod meta;
pub mod openapi;
pub mod plans;
pub mod probes;
pub mod repo_health;
pub mod repos;
pub mod retention;
pub mod runbooks;
pub mod schedules;
pub mod sites;
pub mod snapshots;
pub mod tokens;
pub mod upkeep;
pub mod waves;

use serde::{Deserialize, Serialize};

use crate::http::HttpError;

/// A list: its items, and where the next page starts.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct List<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// All there is.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// A page of at most `limit`, made of up to `limit + 1` rows: the one too many tells that there is more.
    pub fn page<R>(mut rows: Vec<R>, limit: u32, cursor: impl Fn(&R) -> String, show: impl FnMut(R) -> T) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(cursor) } else { None };
        Self { items: rows.into_iter().map(show).collect(), next }
    }
}

/// How many items of a list, where nobody says otherwise.
pub const DEFAULT_LIMIT: u32 = 100;

/// `limit` of a list.
///
/// # Errors
/// 422 outside of 1 to 1000.
pub fn limit(given: Option<u32>) -> Result<u32, HttpError> {
    let limit = given.unwrap_or(DEFAULT_LIMIT);
    if (1..=1000).contains(&limit) { Ok(limit) } else { Err(HttpError::invalid_field("limit", "must be 1 to 1000")) }
}

/// Tells "left out" from "null" in a request that changes something.
///
/// # Errors
/// Where the value does not fit.
pub fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
