//! The JSON API: its request and response types and handlers, by aggregate. The types are the documentation: the OpenAPI document is made of them.

pub mod job_orders;
pub mod plans;
pub mod repos;

use serde::Serialize;

/// A list: its items, and where the next page starts.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct List<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; absent at the end.
    #[schema(value_type = Option<String>)]
    pub next: Option<String>,
}
